"""``rcan-video-compare``: frames matched by time, figures, and the page in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from chromium import Page, browser
from clips import make_clip, to_frame

from rcan_video import errors
from rcan_video.commands.compare import main
from rcan_video.compare import page as pages
from rcan_video.compare.clips import Clip, Shown, matched
from rcan_video.compare.facts import streams, tags
from rcan_video.compare.measure import DETAIL, HARDEST, MOTION, Comparison, measure
from rcan_video.compare.plots import Curve, plot
from rcan_video.compare.run import compare
from rcan_video.frames import ColorTags, Frame
from rcan_video.media.notes import encoder_note
from rcan_video.options import CompareOptions

EVIL = "<img src=x onerror=alert(1)> & \"quotes'"
FRAMES = 12


def scene(index: int, size: tuple[int, int]) -> av.VideoFrame:
    """A square that moves, texture from frame 8 on, most of it in frame 9; the same picture at every size."""
    width, height = size
    y, x = np.mgrid[:height, :width] * (96 / width)
    left = 20 + 2 * index
    luma = 90 + 50 * ((x > left) & (x < left + 20) & (y > 20) & (y < 50)) + 3 * index
    if index >= 8:
        luma = luma + 30 * (np.sin(x * (0.9 + 0.4 * (index == 9))) > 0)
    planes = [luma.astype(np.uint8), *(np.full((height // 2, width // 2), 128, np.uint8),) * 2]
    return to_frame(planes, "yuv420p", size)


def clip_of(path: Path, size: tuple[int, int], frames: Sequence[int] = range(FRAMES), **more: Any) -> Path:
    options = {"options": {"crf": "1", "preset": "ultrafast"}, "tags": ColorTags(1, 1, 1, 1)} | more
    return make_clip(path, size=size, frames=len(frames), draw=lambda k: scene(frames[k], size), **options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("videos")
    return SimpleNamespace(
        folder=folder,
        source=clip_of(folder / "in & out <b>.mp4", (96, 64), audio=1, metadata={"title": EVIL}),
        output=clip_of(folder / "out.mp4", (192, 128)),
    )


def compared(source: Path, output: Path, reference: Path | None = None, **options: Any) -> Comparison:
    wanted = CompareOptions(str(source), str(output), "report.html", None, **options)
    with Clip(str(source), start=wanted.start) as one, Clip(str(output), like=one.info) as two:
        if reference is None:
            return measure(one, two, None, wanted)
        with Clip(str(reference), start=wanted.start, like=one.info) as three:
            return measure(one, two, three, wanted)


# --- which frame belongs to which -------------------------------------------------------------------------------------


def shown(*times: float, lasts: float = 0.04) -> list[Shown]:
    blank = np.zeros((2, 2), np.uint8)
    frames = [Frame((blank,), k, 1, k) for k in range(len(times))]
    return [Shown(Fraction(str(t)), Fraction(str(lasts)), f, None) for t, f in zip(times, frames, strict=True)]


@pytest.mark.parametrize(
    ("output", "source", "wanted"),
    [
        ((0, 0.04, 0.08), (0, 0.04, 0.08), [0, 1, 2]),
        ((0, 0.033, 0.067), (0, 0.03333, 0.06667), [0, 1, 2]),  # milliseconds, rounded down and up
        ((0, 0.04, 0.08, 0.12), (0, 0.12), [0, 0, 0, 1]),  # a constant rate repeats
        ((0, 0.04), (0, 0.01, 0.02, 0.041, 0.05), [0, 3]),  # and drops
        ((0, 0.5, 0.52), (0, 0.5, 0.52), [0, 1, 2]),
        ((0, 0.04, 0.08), (0,), [0, 0, 0]),
        ((0, 0.04), (), []),
    ],
)
def test_frames_are_matched_by_time(output: tuple[float, ...], source: tuple[float, ...], wanted: list[int]) -> None:
    assert [of.frame.index for _, of in matched(shown(*output), shown(*source))] == wanted


def test_a_part_is_matched_where_it_was_cut(videos: SimpleNamespace, tmp_path: Path) -> None:
    part = clip_of(tmp_path / "part.mp4", (192, 128), range(5, 10))
    found = compared(videos.source, part, start=Fraction(1, 5))
    assert [f.source for f in found.figures] == [0, 1, 2, 3, 4] and found.alike
    assert min(f.fidelity for f in found.figures) > 30
    assert max(f.fidelity for f in compared(videos.source, part).figures) < 25


def test_a_constant_rate_is_matched(videos: SimpleNamespace, tmp_path: Path) -> None:
    # Each frame belongs to the tick nearest to it, and ticks without one show the frame before.
    wanted = [max(j for j in range(FRAMES) if int(j * 60 / 25 + 0.5) <= tick) for tick in range(28)]
    cfr = clip_of(tmp_path / "cfr.mp4", (192, 128), wanted, rate=60)
    found = compared(videos.source, cfr)
    assert [f.source for f in found.figures] == wanted
    assert min(f.fidelity for f in found.figures) > 30
    assert max(abs(f.late) for f in found.figures) <= 0.04


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_frames_to_look_at(videos: SimpleNamespace) -> None:
    reasons = {s.figures.index: s.reasons for s in compared(videos.source, videos.output, stills=3).stills}
    assert MOTION in reasons[8] and DETAIL in reasons[9]  # where texture begins, and where there is more of it
    assert sum(HARDEST in why for why in reasons.values()) == 1
    assert len(compared(videos.source, videos.output, stills=1).stills) == 1


def test_samples_are_spread_evenly(videos: SimpleNamespace) -> None:
    found = compared(videos.source, videos.output, samples=4)
    assert (found.frames, found.step) == (FRAMES, 3)
    assert [f.index for f in found.figures] == [0, 3, 6, 9]
    short = compared(videos.source, videos.output, duration=Fraction(1, 5))
    assert [f.index for f in short.figures] == [0, 1, 2, 3, 4]


def test_the_reference_is_what_is_measured_against(videos: SimpleNamespace) -> None:
    own = compared(videos.source, videos.output, videos.output).figures
    assert all(f.psnr == np.inf and f.ssim == pytest.approx(1) for f in own)
    assert all(f.psnr_plain is not None and 15 < f.psnr_plain < 60 for f in own)


def test_another_video_is_noticed(videos: SimpleNamespace, tmp_path: Path) -> None:
    noise = make_clip(tmp_path / "noise.mp4", size=(192, 128), frames=4)
    assert not compared(videos.source, noise).alike


# --- words and drawings -----------------------------------------------------------------------------------------------


def test_streams_and_tags(videos: SimpleNamespace) -> None:
    with Clip(str(videos.source)) as one, Clip(str(videos.output)) as two:
        rows = {row.what: row[1:] for row in streams(one.info, two.info)}
        assert rows["video"] == ("h264 96x64 yuv420p", "h264 192x128 yuv420p")
        assert rows["audio 1"] == ("aac 2 ch, 48000 Hz eng", "none")
        named = {row.what: row[1:] for row in tags(one.info, two.info)}
        assert named["title"] == (EVIL, "none")


def test_the_encoders_note(videos: SimpleNamespace, tmp_path: Path) -> None:
    note = encoder_note(str(videos.output))
    assert note is not None and note.startswith("x264 - core") and "crf=1.0" in note
    assert encoder_note(str(make_clip(tmp_path / "a.mkv", codec="ffv1", frames=2))) is None


def test_a_curve_has_gaps_where_nothing_is_known() -> None:
    drawn = plot("a<b", "dB", [0, 1, 2, 3], [Curve("x", "after", [1, None, 3, float("inf")])], [(1, "m&m")])
    assert drawn.count('class="dot after"') == 2 and "curve after" not in drawn
    assert "a&lt;b" in drawn and "m&amp;m" in drawn and "2 dB on average" in drawn
    assert "nan" not in plot("flat", "", [0.0], [Curve("x", "after", [5.0])], [])


# --- the file ---------------------------------------------------------------------------------------------------------


def report(videos: SimpleNamespace, path: Path, **options: Any) -> Path:
    compare(CompareOptions(str(videos.source), str(videos.output), str(path), **options), lambda text: None)
    return path


def test_names_and_titles_are_text_and_nothing_comes_from_a_network(videos: SimpleNamespace, tmp_path: Path) -> None:
    text = report(videos, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text and "<b>" not in text and "&lt;img src=x onerror" in text
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!data:image/jpeg;base64,)', text) and "url(" not in text


def test_pictures_are_bounded(videos: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_WIDEST", 100)
    monkeypatch.setattr(pages, "_HIGHEST", 80)
    text = report(videos, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "most detailed 100x80 pixels" in text
    full = text.count("<img")
    monkeypatch.setattr(pages, "_MOST_BYTES", 9000)
    text = report(videos, tmp_path / "b.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="(data:[^"]*)"', text)
    assert 2 <= len(pictures) < full and sum(map(len, pictures)) < 9000 + 100 * len(pictures)
    assert text.count("<button ") == len(pictures) // 2


def test_another_matrix_by_size_is_no_change_of_colour(tmp_path: Path) -> None:
    """Untagged 640x360 is BT.601 by custom and 1280x720 BT.709; the job keeps the source's."""

    def red(size: tuple[int, int]) -> av.VideoFrame:
        w, h = size
        planes = [np.full((h, w), 81), np.full((h // 2, w // 2), 90), np.full((h // 2, w // 2), 240)]
        return to_frame([p.astype(np.uint8) for p in planes], "yuv420p", size)

    paths = [
        make_clip(tmp_path / f"{s[0]}.mp4", size=s, frames=1, draw=lambda _, s=s: red(s))  # type: ignore[misc]
        for s in ((640, 360), (1280, 720))
    ]
    (still,) = compared(paths[0], paths[1]).stills
    assert np.abs(still.source.mean((0, 1)) - still.output.mean((0, 1))).max() < 0.6


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"report": "r.txt"}, errors.UsageError, "give it an ending of .html"),
        ({"report": "-"}, errors.UsageError, "the report is a file"),
        ({"source": "-"}, errors.UsageError, "files alone can be compared"),
        ({"source": "nobody.mp4"}, errors.InputError, "there is no such file"),
        ({"start": Fraction(9)}, errors.InputError, "ends before --start 9 seconds"),
        ({"swap": True}, errors.InputError, "give the source first and then the output"),
        ({"reference": True}, errors.InputError, "give a reference of the output's size"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(
    videos: SimpleNamespace, tmp_path: Path, change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    options = CompareOptions(str(videos.source), str(videos.output), "r.html")
    if change.pop("swap", False):
        options = replace(options, source=options.output, output=options.source)
    if change.get("reference"):
        change["reference"] = str(videos.source)
    options = replace(options, **change)
    options = replace(options, report=options.report if options.report == "-" else str(tmp_path / options.report))
    with pytest.raises(kind, match=re.escape(words)):
        compare(options, lambda text: None)
    assert not list(tmp_path.iterdir())


def test_the_command(videos: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    line = ["rcan-video-compare", str(videos.source), str(videos.output), "-o", str(tmp_path / "r.html")]
    for code, words in ((0, "r.html is written"), (4, "exists already")):
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capfd.readouterr()
        assert (stopped.value.code, said.out) == (code, "") and words in said.err


def test_help_loads_nothing_large() -> None:
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from rcan_video.commands.compare import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'torch', 'av', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.rstrip().endswith("[]") and "--reference" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def opened(chromium: Page, videos: SimpleNamespace, tmp_path: Path) -> Page:
    chromium.errors.clear()
    chromium.requests.clear()
    chromium.look(1200, 900)
    chromium.open(report(videos, tmp_path / "r.html", reference=str(videos.output)))
    return chromium


def line(page: Page) -> float:
    """Where the line is, in percent of the picture, as it is seen."""
    found: float = page.value(
        "(() => { const s = document.querySelector('.pair:not([hidden])').getBoundingClientRect(),"
        " l = document.getElementById('line').getBoundingClientRect();"
        " return 100 * (l.left + l.width / 2 - s.left) / s.width; })()"
    )
    return found


def box(page: Page) -> tuple[float, float, float, float]:
    script = "(() => { const b = document.getElementById('stage').getBoundingClientRect();"
    x, y, w, h = page.value(script + " return [b.left, b.top, b.width, b.height]; })()")
    return x, y, w, h


def zoomed(page: Page) -> str:
    found: str = page.value("document.getElementById('place').textContent")
    return found


def test_the_line_is_dragged(opened: Page) -> None:
    x, y, w, h = box(opened)
    assert line(opened) == pytest.approx(50, abs=0.6)
    opened.mouse("Moved", x + w / 2, y + h / 2)
    opened.mouse("Pressed", x + w / 2, y + h / 2)
    opened.mouse("Moved", x + w * 0.4, y + h / 2, down=True)
    opened.mouse("Moved", x + w * 0.25, y + h / 2, down=True)
    opened.mouse("Released", x + w * 0.25, y + h / 2)
    assert line(opened) == pytest.approx(25, abs=1)
    clip = opened.value("getComputedStyle(document.querySelector('.pair .before')).clipPath")
    assert clip.startswith("inset(0") and "75%" in clip.replace("calc(100% - 25%)", "75%")
    opened.mouse("Moved", x + w * 0.9, y + h / 2)  # the button is up
    assert line(opened) == pytest.approx(25, abs=1)


def test_the_line_and_the_zoom_have_keys(opened: Page) -> None:
    opened.value("document.getElementById('divider').focus()")
    for _ in range(4):
        opened.press("ArrowRight")
    assert line(opened) == pytest.approx(52, abs=0.6)
    assert "52 % source" in opened.value("document.getElementById('divider').getAttribute('aria-valuetext')")
    outline = "getComputedStyle(document.getElementById('line')).outlineStyle"
    assert opened.value(outline) == "solid"
    opened.value("document.getElementById('zoom').focus()")
    before = zoomed(opened)
    opened.press("ArrowUp")
    opened.press("ArrowLeft")
    assert zoomed(opened) != before
    opened.press("+")
    assert zoomed(opened).startswith("36 x 36")


def test_the_zoom_follows_the_pointer_until_a_click_holds_it(opened: Page) -> None:
    x, y, w, h = box(opened)
    places = []
    for share in (0.3, 0.7):
        opened.mouse("Moved", x + w * share, y + h * share)
        places.append(zoomed(opened))
    assert places[0] != places[1] and places[0].startswith("72 x 72")
    for kind in ("Pressed", "Released"):
        opened.mouse(kind, x + w * 0.7, y + h * 0.7)
    opened.mouse("Moved", x + w * 0.3, y + h * 0.3)
    assert zoomed(opened) == places[1]
    drawn = "[...document.getElementById('zoom-{}').getContext('2d').getImageData(144, 144, 1, 1).data]"
    before, after = (opened.value(drawn.format(which)) for which in ("before", "after"))
    assert before[3] == after[3] == 255  # something opaque is there


def test_a_frame_is_chosen(opened: Page) -> None:
    seen = "[...document.querySelectorAll('.pair')].map(pair => pair.offsetParent !== null)"
    count = len(opened.value(seen))
    opened.value(f"document.querySelectorAll('.choices button')[{count - 1}].click()")
    assert count > 1 and opened.value(seen) == [False] * (count - 1) + [True]
    pressed = "[...document.querySelectorAll('.choices button')].map(b => b.getAttribute('aria-pressed'))"
    assert opened.value(pressed) == ["false"] * (count - 1) + ["true"]


def test_no_errors_and_no_requests(opened: Page) -> None:
    assert opened.errors == []
    assert len(opened.requests) > 1 and all(url.startswith(("file:", "data:")) for url in opened.requests)
    assert opened.value("document.title").startswith("in & out <b>.mp4")
    # The policy is in force: what is not of the page is not run.
    blocked = (
        "(async () => { const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';"
        " return await i.decode().then(() => 'loaded', () => 'refused'); })()"
    )
    assert opened.value(blocked) == "refused"
    assert any("Content Security Policy" in error for error in opened.errors)


def contrast(page: Page, element: str, what: str) -> float:
    """Between a colour of an element and the page's ground, as WCAG 2.1 defines it."""
    style = "getComputedStyle(document.querySelector('{}')).{}".format
    script = f"[{style(element, what)}, {style('body', 'backgroundColor')}]"
    levels = []
    for colour in page.value(script):
        parts = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_it_can_be_read_in_the_light_and_in_the_dark(opened: Page, dark: bool) -> None:
    opened.look(1200, 900, dark=dark)
    assert (opened.value("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)") == dark
    for element, what in ((".curve.before", "stroke"), (".curve.after", "stroke"), ("h1", "color"), (".note", "color")):
        assert contrast(opened, element, what) > 4.5, element


def test_it_fits_a_narrow_window(opened: Page) -> None:
    opened.look(400, 800)
    assert opened.value("document.documentElement.scrollWidth") <= 400
