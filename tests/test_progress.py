"""The displays, on a clock that stands still until it is told: words, figures, and what programs read."""

import io
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console

from rcan_video.options import Report
from rcan_video.progress import Display, FileResult, Silent, StreamRow, duration_text, summary
from rcan_video.progress import bar as bars
from rcan_video.progress.bar import Bar
from rcan_video.progress.base import STAGES
from rcan_video.progress.estimate import Estimate, Gauge, memory_text, resident_bytes
from rcan_video.progress.events import SCHEMA, Events
from rcan_video.progress.plain import ErrorsAlone, Log, Plain
from rcan_video.progress.several import Several

ROOT = Path(__file__).parents[1]
RECORDED = Path(__file__).parent / "timing_60s.json"


def report(output: Path | None = Path("out.mp4"), seconds: float = 50.0) -> Report:
    return Report(output, 100, 100, 640, 360, seconds, {"decode": 1.0, "network": 40.0, "encode": 2.5})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process holds is not the same twice."""
    monkeypatch.setattr("rcan_video.progress.estimate.resident_bytes", lambda: None)


def terminal(width: int) -> tuple[io.StringIO, Console]:
    out = io.StringIO()
    return out, bars.terminal(out, force_terminal=True, width=width, color_system=None)


def drawn(bar: Bar, width: int) -> list[str]:
    """The lines that live, as they are at this moment."""
    out, console = terminal(width)
    console.print(bar)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (187, "3:07"),
        (3599.6, "1:00:00"),
        (3723, "1:02:03"),
        (360000, "100:00:00"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_summary() -> None:
    assert summary(report()) == "out.mp4: 100 frames, 640x360, 50 s, 2.00 fps"
    assert summary(report(None, 0.0)) == "standard output: 100 frames, 640x360, 0 s, 0.00 fps"


# --- the estimate


def recorded() -> Iterator[tuple[float, int]]:
    """A real run: every tenth call of ``update``, in seconds since the first stage, and its end."""
    yield from json.loads(RECORDED.read_text())["updates"]


def realistic(seed: int, *, kept: int = 0, slower: float = 1.0) -> Iterator[tuple[float, int]]:
    """1500 frames at about nine a second: 3 s of start-up, eight slow frames, noise, a pause where a segment ends."""
    rng = random.Random(seed)
    now = 3.0
    for done in range(kept + 1, 1501):
        now += 0.11 * rng.lognormvariate(0.0, 0.2) * (2.0 if done < kept + 8 else 1.0) * (slower if done > 900 else 1.0)
        if done % 500 == 0:
            now += 0.5
        yield now, done


def errors(updates: list[tuple[float, int]], kept: int, end: float) -> list[tuple[float, float]]:
    """(share of the time that has passed, error of the predicted end as a share of the whole time)."""
    estimate, total, found = Estimate(updates[-1][1], kept), updates[-1][1], []
    assert total == 1500
    for now, done in updates:
        estimate.update(done, now)
        left = estimate.left(now)
        if left is not None:
            found.append((now / end, (now + left - end) / end))
    return found


def test_the_end_is_foreseen_after_a_tenth_of_a_real_run() -> None:
    """60 s of 25 frames/s: start-up, join and check included."""
    updates = list(recorded())
    end = json.loads(RECORDED.read_text())["end"]
    found = errors([(t, n) for t, n in updates], 0, end)
    late = [abs(error) for share, error in found if share >= 0.1]
    assert len(late) > 100 and max(late) < 0.1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kept", [0, 600])
def test_the_end_is_foreseen_and_does_not_swing(seed: int, kept: int) -> None:
    updates = list(realistic(seed, kept=kept))
    found = errors(updates, kept, updates[-1][0] + 1.5)
    late = [error for share, error in found if share >= 0.1]
    assert max(map(abs, late)) < 0.1
    steps = [abs(b - a) for a, b in itertools.pairwise(late)]
    assert max(steps) < 0.02


def test_a_machine_that_becomes_slower_is_noticed() -> None:
    updates = list(realistic(1, slower=2.0))
    end = updates[-1][0]
    found = errors(updates, 0, end)
    assert [error for share, error in found if share < 0.4][-1] < -0.2  # nobody could know
    assert max(abs(error) for share, error in found if share >= 0.85) < 0.1


def test_start_up_and_what_is_kept_do_not_count() -> None:
    estimate = Estimate(1000, 400)
    assert estimate.rate(500.0) is None and estimate.left(500.0) is None
    estimate.update(401, 500.0)  # after minutes of decoding from the top
    assert estimate.left(501.0) is None  # one frame is no rate
    for k in range(1, 11):
        estimate.update(401 + k, 500.0 + k)
    assert estimate.rate(510.0) == pytest.approx(1.0)
    assert estimate.left(510.0) == pytest.approx(589.0)


def test_between_frames_the_time_left_counts_down_and_in_a_stall_it_grows() -> None:
    estimate = Estimate(100, 0)
    for k in range(1, 31):
        estimate.update(k, float(k))
    left = [estimate.left(30.0 + passed) for passed in (0, 1, 2, 3, 60, 120)]
    assert left[:4] == pytest.approx([70.0, 69.0, 68.0, 67.0])
    assert left[3] < left[4] < left[5]  # type: ignore[operator]


def test_a_batch_of_repeats_at_once_is_no_rate() -> None:
    """Time that does not pass gives no division by zero."""
    estimate = Estimate(10, 0)
    for _ in range(3):
        estimate.update(5, 1.0)
    assert estimate.rate(1.0) is None and estimate.rate(100.0) is None


def test_memory() -> None:
    held = resident_bytes()
    assert held is None or 10e6 < held < 1e12
    assert (memory_text(412_345_678), memory_text(1_449_000_000)) == ("412 MB", "1.4 GB")


# --- lines


def test_plain_lines_come_every_ten_seconds(clock: Clock) -> None:
    out = io.StringIO()
    plain = Plain(out, clock=clock)
    plain.stage("reading")
    plain.stage("starting")
    plain.start("clip.mp4", 100)
    plain.stage("upscaling")
    for done in range(1, 31):
        clock.now += 1
        plain.update(done, 3 if done > 20 else 0)
    plain.finish(report())
    assert out.getvalue().splitlines() == [
        "rcan-video: clip.mp4",
        "rcan-video: frame 10/100, 1.00 fps, 1:30 left, 10 s elapsed",
        "rcan-video: frame 20/100, 1.00 fps, 1:20 left, 20 s elapsed",
        "rcan-video: frame 30/100, 1.00 fps, 1:10 left, 30 s elapsed, 3 repeats",
        "rcan-video: out.mp4: 100 frames, 640x360, 50 s, 2.00 fps",
    ]


@pytest.mark.parametrize(
    ("total", "line"),
    [
        (None, "frame 40/?, 2.00 fps, 20 s elapsed"),
        (0, "frame 40/?, 2.00 fps, 20 s elapsed"),
        (50, "frame 40/50, 2.00 fps, 5 s left, 20 s elapsed"),
        (30, "frame 40/40, 2.00 fps, 0 s left, 20 s elapsed"),  # the container promised too few
    ],
)
def test_totals_are_estimates(clock: Clock, total: int | None, line: str) -> None:
    out = io.StringIO()
    plain = Plain(out, clock=clock)
    plain.start("clip.mp4", total)
    for _ in range(40):
        clock.now += 0.5
        plain.update(_ + 1)
    assert out.getvalue().splitlines()[-1] == f"rcan-video: {line}"


def test_a_status_before_the_first_frame(clock: Clock) -> None:
    out = io.StringIO()
    plain = Plain(out, clock=clock)
    plain.stage("reading")
    clock.now += 4
    plain.status()
    assert out.getvalue() == "rcan-video: reading the input, 4 s\n"


def test_details_are_for_those_who_ask() -> None:
    for verbose in (False, True):
        out = io.StringIO()
        plain = Plain(out, verbose=verbose)
        plain.notice("read me")
        plain.detail("libx264 crf=18")
        shown = [f"rcan-video: {text}" for text in (["read me", "libx264 crf=18"] if verbose else ["read me"])]
        assert out.getvalue().splitlines() == shown

        out, console = terminal(80)
        bar = Bar(console, verbose=verbose)
        bar.detail("libx264 crf=18")
        assert ("crf=18" in out.getvalue()) == verbose


ROWS = [
    StreamRow("video 0", "h264 320x180 yuv420p", "libx264 640x360 yuv420p"),
    StreamRow("audio 12", "aac 2 ch, 48000 Hz eng", "copied"),
    StreamRow("data 3", "bin_data [x]", "left out", "mp4 does not take it"),
]
FILES = [
    FileResult("a.mkv", "up/a.mkv", "done", frames=1500, seconds=187.0),
    FileResult("b [x].mkv", "up/b [x].mkv", "skipped", text="is there already"),
    FileResult("c.mkv", "up/c.mkv", "failed", 3, "c.mkv cannot be opened: it is no media file"),
]


def test_the_table_of_streams_in_plain_lines() -> None:
    out = io.StringIO()
    Plain(out).streams(ROWS)
    assert out.getvalue().splitlines() == [
        "rcan-video:   video 0   h264 320x180 yuv420p   -> libx264 640x360 yuv420p",
        "rcan-video:   audio 12  aac 2 ch, 48000 Hz eng -> copied",
        "rcan-video:   data 3    bin_data [x]           -> left out                 mp4 does not take it",
    ]


def test_the_table_of_files_in_plain_lines() -> None:
    out = io.StringIO()
    Plain(out).results(FILES)
    assert out.getvalue().splitlines() == [
        "rcan-video:   done     a.mkv      1500 frames, 3:07",
        "rcan-video:   skipped  b [x].mkv  is there already",
        "rcan-video:   failed   c.mkv      c.mkv cannot be opened: it is no media file",
        "rcan-video: 3 files: 1 done, 1 skipped, 1 failed",
    ]


def test_a_log_has_times_details_and_stages(clock: Clock) -> None:
    out = io.StringIO()
    log = Log(out, clock)
    log.stage("reading")
    log.start("clip.mp4", 100)
    log.detail("libx264 crf=18")
    log.fail("clip.mp4 is gone", 3)
    log.finish(report())
    lines = out.getvalue().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in lines)
    said = [line[20:] for line in lines]
    assert said == [
        "reading the input, 0 s",
        "clip.mp4",
        "libx264 crf=18",
        "clip.mp4 is gone",
        "out.mp4: 100 frames, 640x360, 50 s, 2.00 fps",
        "busy: decode 1.0 s, network 40.0 s, encode 2.5 s",
    ]


# --- a terminal


def test_the_tables_on_a_terminal() -> None:
    out, console = terminal(80)
    bar = Bar(console)
    bar.streams(ROWS)
    bar.results(FILES)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[0].startswith("video 0   h264 320x180") and max(map(len, lines)) <= 80
    assert any("bin_data [x]" in line and "-> left out" in line for line in lines)  # no markup
    assert any(line.startswith("skipped  b [x].mkv") for line in lines)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_bar_and_its_figures_fit(clock: Clock, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr("rcan_video.progress.estimate.resident_bytes", lambda: 1_449_000_000)
    _, console = terminal(width)
    bar = Bar(console, clock=clock)
    bar.start("holiday.mp4 1920x1080 to 3840x2160, fast, torch on cuda:0 (a graphics card), float32, batch 4", 12345)
    bar.stage("upscaling")
    bar.update(4, 0)
    for k in range(1, 21):
        clock.now += 1
        bar.update(4 + k * 61, 312)
    line, figures = drawn(bar, width)
    bar.finish(None)
    assert len(line) <= width and len(figures) <= width
    assert line.startswith("upscaling  ━") and line.rstrip().endswith("  9 %")
    words = ["1224/12345", "61.00 fps", "3:02 left", "20 s elapsed", "312 repeats", "1.4 GB"]
    assert figures.rstrip() == "  ".join(words if width > 40 else words[:3])


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "━"), ("latin-1", "-"), ("ascii", "-")])
def test_a_terminal_of_any_locale(clock: Clock, encoding: str, mark: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
    bar = Bar(bars.terminal(stream, force_terminal=True, width=80), clock=clock)
    bar.stage("reading")
    bar.start("Übung\udce4.mp4", 100)
    bar.update(50)
    bar.notice("— ☃")
    bar.finish(report())
    stream.flush()
    assert mark in raw.getvalue().decode(encoding)


def test_what_a_bar_says_before_the_first_frame_and_after_the_last(clock: Clock) -> None:
    out, console = terminal(80)
    bar = Bar(console, clock=clock)
    bar.stage("reading")
    clock.now += 3
    assert "reading the input, 3 s" in drawn(bar, 80)[0]
    bar.start("clip.mp4", 30)
    bar.stage("upscaling")
    bar.update(29)
    assert drawn(bar, 80)[0].rstrip().endswith(" 96 %")
    bar.update(40)
    bar.stage("joining")
    line, figures = drawn(bar, 80)
    assert line.startswith("joining the segments") and "100 %" in line and "40/40" in figures
    bar.notice("3 damaged packets of clip.mp4 could not be decoded")
    bar.finish(report())
    assert out.getvalue().rstrip().endswith("out.mp4: 100 frames, 640x360, 50 s, 2.00 fps")
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == 1  # the cursor is back


def test_a_bar_without_a_total_shows_no_share_and_no_time_left(clock: Clock) -> None:
    _, console = terminal(80)
    bar = Bar(console, clock=clock)
    bar.start("standard input", None)
    for k in range(41):
        clock.now += 0.5
        bar.update(k)
    line, figures = drawn(bar, 80)
    bar.close()
    assert "%" not in line and figures.split("  ")[:2] == ["40/?", "2.00 fps"] and "left" not in figures


@pytest.mark.parametrize("name", ["[red]clip[/red].mp4", "[/b].mp4", "{task}.mp4", "clip [1080p].mkv", "100%.mp4"])
def test_names_are_shown_as_they_are(name: str) -> None:
    out, console = terminal(80)
    bar = Bar(console)
    bar.start(name, 10)
    bar.notice(f"{name} is damaged")
    bar.finish(report(Path(name)))
    bar.fail(f"{name} is gone", 3)
    for said in (f"{name} is damaged", f"{name} is gone", f"{name}: 100 frames"):
        assert said in out.getvalue()


# --- programs


def told(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def everything(display: Display, clock: Clock) -> None:
    """Each method once at least."""
    display.file(1, 2, "in.mp4", "up/in.mp4")
    display.stage("reading")
    display.start("clip.mp4", 100, 10)
    display.streams(ROWS)
    display.detail("libx264 crf=18")
    display.notice("read me \udce4")
    for done in range(11, 31):
        clock.now += 0.25
        display.update(done, 2)
    display.status()
    display.finish(report())
    display.results(FILES)
    display.fail("2 of 3 files failed", 3)
    display.close()


def test_events_are_as_their_page_says(clock: Clock) -> None:
    """docs/progress.md lists every event and every field, and none that is not there."""
    page = (ROOT / "docs" / "progress.md").read_text(encoding="utf-8")
    documented: dict[str, set[str]] = {}
    for event, names in re.findall(r"^\| `(\w+)` \| (.+?) \|", page[page.index("## JSON lines") :], re.MULTILINE):
        documented[event] = set(re.findall(r"`(\w+)`", names))
    out = io.StringIO()
    everything(Events(out, clock), clock)
    events = told(out)
    common = {"schema", "event", "elapsed"}
    assert {str(event["event"]) for event in events} == set(documented)
    for event in events:
        assert set(event) - common == documented[str(event["event"])], event["event"]
        assert event["schema"] == SCHEMA
    assert {field.name for field in fields(Report)} < documented["finish"]
    for stage in STAGES:
        assert f'"{stage}"' in page
    assert f"schema {SCHEMA}" in page


def test_events_are_rare_and_in_ascii(clock: Clock) -> None:
    out = io.StringIO()
    everything(Events(out, clock), clock)
    assert out.getvalue().isascii()
    progress = [event for event in told(out) if event["event"] == "progress"]
    assert [event["frames_done"] for event in progress] == [11, *range(13, 30, 2), 30, 30]
    assert progress[-1] == {
        "schema": 1,
        "event": "progress",
        "elapsed": 5.0,
        "frames_done": 30,
        "frames_total": 100,
        "frames_kept": 10,
        "frames_reused": 2,
        "fps": 4.0,
        "seconds_left": 17.5,
        "memory_bytes": None,
    }


def test_several_displays_hear_the_same(clock: Clock) -> None:
    alone, both, other = io.StringIO(), io.StringIO(), io.StringIO()
    everything(Events(alone, clock), clock)
    clock.now = 1000.0
    everything(Several([Events(both, clock), ErrorsAlone(other)]), clock)
    assert both.getvalue() == alone.getvalue()
    assert other.getvalue() == "rcan-video: 2 of 3 files failed\n"


@pytest.mark.parametrize(
    "make", [Plain, Events, ErrorsAlone, Log, lambda s: Bar(bars.terminal(s, force_terminal=True))]
)
def test_a_reader_that_has_gone_ends_no_job(make: Callable[[io.StringIO], Display], clock: Clock) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    everything(make(Gone()), clock)


@pytest.mark.parametrize("kind", ["auto", "rich", "plain", "json", "none"])
def test_nothing_goes_to_standard_output(kind: str, clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    from rcan_video.commands.display import open_display

    everything(open_display(kind), clock)  # type: ignore[arg-type]
    out, err = capfd.readouterr()
    assert out == ""
    assert (err == "rcan-video: 2 of 3 files failed\n") == (kind == "none")


def test_silence() -> None:
    display: Display = Silent()
    everything(display, Clock())


def test_a_gauge_knows_the_stage(clock: Clock) -> None:
    gauge = Gauge(clock)
    gauge.stage = "starting"
    clock.now += 2
    assert (gauge.figures().stage, gauge.elapsed, gauge.began) == ("starting", 2.0, False)
    assert gauge.figures().share is None
