import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from rcan_video import progress
from rcan_video.options import Report
from rcan_video.progress import Bar, Plain, Progress, Silent, StreamRow, duration_text, summary


def report(output: Path | None = Path("out.mp4"), seconds: float = 50.0) -> Report:
    return Report(output, 100, 100, 640, 360, seconds, {})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until ``now`` is set."""
    fake = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: fake.now))
    return fake


def terminal(width: int) -> tuple[io.StringIO, Console]:
    out = io.StringIO()
    return out, Console(file=out, force_terminal=True, width=width, color_system=None, highlight=False)


def screen(raw: str) -> list[str]:
    """The lines that are left to see: each redrawn line only in its last state."""
    for code in ("\x1b[?25l", "\x1b[?25h"):
        raw = raw.replace(code, "")
    return [line.split("\x1b[2K")[-1].rstrip() for line in raw.split("\n")]


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


def test_plain_lines_come_every_ten_seconds(clock: SimpleNamespace) -> None:
    out = io.StringIO()
    plain = Plain(out)
    plain.start("clip.mp4", 100)
    for done in range(1, 31):
        clock.now += 1
        plain.update(done)
    plain.finish(report())
    assert out.getvalue().splitlines() == [
        "rcan-video: clip.mp4",
        "rcan-video: frame 10/100, 1.00 fps, 1:30 left",
        "rcan-video: frame 20/100, 1.00 fps, 1:20 left",
        "rcan-video: frame 30/100, 1.00 fps, 1:10 left",
        "rcan-video: out.mp4: 100 frames, 640x360, 50 s, 2.00 fps",
    ]


@pytest.mark.parametrize(
    ("total", "line"),
    [
        (None, "frame 40/?, 2.00 fps"),
        (0, "frame 40/?, 2.00 fps"),
        (50, "frame 40/50, 2.00 fps, 5 s left"),
        (30, "frame 40/40, 2.00 fps, 0 s left"),  # the container promised too few
    ],
)
def test_totals_are_estimates(clock: SimpleNamespace, total: int | None, line: str) -> None:
    out = io.StringIO()
    plain = Plain(out)
    plain.start("clip.mp4", total)
    clock.now += 20
    plain.update(40)
    assert out.getvalue().splitlines()[1:] == [f"rcan-video: {line}"]


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


def test_the_table_of_streams_in_plain_lines() -> None:
    out = io.StringIO()
    Plain(out).streams(ROWS)
    assert out.getvalue().splitlines() == [
        "rcan-video:   video 0   h264 320x180 yuv420p   -> libx264 640x360 yuv420p",
        "rcan-video:   audio 12  aac 2 ch, 48000 Hz eng -> copied",
        "rcan-video:   data 3    bin_data [x]           -> left out                 mp4 does not take it",
    ]


def test_the_table_of_streams_on_a_terminal() -> None:
    out, console = terminal(80)
    Bar(console).streams(ROWS)
    lines = [line.rstrip() for line in screen(out.getvalue())]
    assert lines[0].startswith("video 0   h264 320x180") and max(map(len, lines)) <= 80
    assert any("bin_data [x]" in line and "-> left out" in line for line in lines)  # no markup


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_is_one_line_with_frames_rate_and_time_left(clock: SimpleNamespace, width: int) -> None:
    out, console = terminal(width)
    bar = Bar(console)
    bar.start("holiday.mp4 1920x1080 to 3840x2160, fast, torch on cuda:0 (a graphics card), float32, batch 4", 12345)
    clock.now += 20
    bar.update(1234)
    bar.finish(None)
    *description, line, rest = screen(out.getvalue())
    assert rest == ""
    assert len(line) <= width
    assert " ".join(part.rstrip() for part in description).endswith("float32, batch 4")
    assert "1234/12345" in line and "61.70 fps" in line and "3:00 left" in line and "━" in line


def test_the_bar_ends_well(clock: SimpleNamespace) -> None:
    out, console = terminal(120)
    bar = Bar(console)
    bar.notice("subtitle stream 2 (mov_text) of clip.mp4 is not carried over")
    bar.start("clip.mp4", 30)
    clock.now += 20
    bar.update(40)
    bar.notice("3 damaged packets of clip.mp4 could not be decoded")
    bar.finish(report())
    lines = screen(out.getvalue())
    assert lines[0] == "subtitle stream 2 (mov_text) of clip.mp4 is not carried over"
    assert lines[1] == "clip.mp4"
    assert lines[2] == "3 damaged packets of clip.mp4 could not be decoded"
    assert "40/40" in lines[3] and "0 s left" in lines[3]
    assert lines[4:] == ["out.mp4: 100 frames, 640x360, 50 s, 2.00 fps", ""]
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h")  # the cursor is back


def test_a_bar_without_a_total_shows_no_time_left(clock: SimpleNamespace) -> None:
    out, console = terminal(80)
    bar = Bar(console)
    bar.start("standard input", None)
    clock.now += 20
    bar.update(40)
    bar.finish(None)
    assert "40/?" in screen(out.getvalue())[1]
    assert "left" not in out.getvalue()


@pytest.mark.parametrize("name", ["[red]clip[/red].mp4", "[/b].mp4", "{task}.mp4", "clip [1080p].mkv", "100%.mp4"])
def test_names_are_shown_as_they_are(name: str) -> None:
    out, console = terminal(80)
    bar = Bar(console)
    bar.start(name, 10)
    bar.notice(f"{name} is damaged")
    bar.finish(report(Path(name)))
    assert f"{name} is damaged" in out.getvalue()
    assert screen(out.getvalue())[0] == name
    assert screen(out.getvalue())[-2].startswith(f"{name}: 100 frames")


@pytest.mark.parametrize("make", [Silent, Plain, lambda: Plain(verbose=True), Bar, lambda: Bar(verbose=True)])
def test_nothing_goes_to_standard_output(make: Callable[[], Progress], capfd: pytest.CaptureFixture[str]) -> None:
    display = make()
    display.start("clip.mp4", 100)
    display.update(50)
    display.notice("read me")
    display.detail("libx264 crf=18")
    display.finish(report())
    out, err = capfd.readouterr()
    assert out == ""
    assert (err == "") == isinstance(display, Silent)
