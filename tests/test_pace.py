"""A constant rate: which frame is shown at which tick, and how the whole stays beside its sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import pytest
import torch
from av.filter import Graph
from click.testing import CliRunner, Result
from clips import make_clip, read_packets, read_video

from rcan_video import FrameOptions, Options, probe, upscale
from rcan_video.commands.shell import Shell
from rcan_video.commands.upscale import command
from rcan_video.errors import UsageError
from rcan_video.frames import ColorSpec, Frame, PlaneLayout
from rcan_video.media.pace import ConstantRate, Passthrough, open_pace
from rcan_video.options import DeviceOptions, EncodeOptions
from rcan_video.progress import Silent
from rcan_video.video import VideoInfo

SIZE = (32, 16)
MS = Fraction(1, 1000)


class Listener(Silent):
    def __init__(self) -> None:
        self.notices: list[str] = []
        self.total: int | None = None

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        self.total = total

    def notice(self, text: str) -> None:
        self.notices.append(text)


def info(rate: Fraction | int = 25, time_base: Fraction = MS, start: int = 0, **more: Any) -> VideoInfo:
    layout = PlaneLayout("gray")
    values: dict[str, Any] = {
        "path": "in.mkv", "container": "matroska", "index": 0, "codec": "h264", "width": 2, "height": 2,
        "pix_fmt": "gray", "layout": layout, "color": ColorSpec(1, False, "left"), "time_base": time_base,
        "rate": Fraction(rate), "start": start, "duration": None, "frames": None,
    }  # fmt: skip
    return VideoInfo(**{**values, **more})


def frames(pts: Sequence[int], last: int = 40) -> list[Frame]:
    durations = [b - a for a, b in pairwise(pts)] + [last]
    planes = [(torch.full((2, 2), k, dtype=torch.uint8),) for k in range(len(pts))]
    return [Frame(p, t, d, k) for k, (p, t, d) in enumerate(zip(planes, pts, durations, strict=True))]


def shown(pace: Passthrough, given: list[Frame]) -> list[int]:
    """The index of the frame at each tick; checks the ticks, and that repeats are the same planes."""
    out = list(pace(given))
    step = 1 / (pace.info.rate * pace.info.time_base)
    assert [f.pts for f in out] == [pace.info.start + k * step for k in range(len(out))]
    assert all(f.duration == step for f in out)
    assert all(f.planes is given[f.index].planes for f in out)
    assert len(out) == len(given) + pace.repeated - pace.dropped
    return [f.index for f in out]


@pytest.mark.parametrize(
    ("pts", "rate", "expected"),
    [
        ([0, 40, 80, 120], 25, [0, 1, 2, 3]),
        ([0, 41, 79, 121], 25, [0, 1, 2, 3]),  # as rounded to milliseconds
        ([0, 40, 160, 200], 25, [0, 1, 1, 1, 2, 3]),  # a gap
        ([0, 40, 45, 80], 25, [0, 1, 3]),  # one too many: the nearest stays
        ([0, 35, 41, 80], 25, [0, 2, 3]),
        (
            [0, 17, 33, 50, 67, 83, 100, 117],
            30,
            [0, 2, 4, 6, 7],
        ),  # sixty to thirty, however it is rounded
        ([0, 33, 67, 100], 60, [0, 0, 1, 1, 2, 2, 3]),
        ([0, 42, 83, 125, 167], 30, [0, 1, 2, 2, 3, 4]),  # twenty-four to thirty
        ([0, 40, 95, 160], 25, [0, 1, 2, 2, 3]),
        ([0, 75, 95, 160], 25, [0, 0, 1, 2, 3]),  # shown late rather than not at all
        ([0], 25, [0]),
    ],
)
def test_which_frame_is_shown(pts: list[int], rate: int, expected: list[int]) -> None:
    pace = ConstantRate(info(), Fraction(rate))
    given = frames(pts, last=1000 // rate if pts[-1:] != [100] else 16)
    assert shown(pace, given) == expected
    changes = len(set(expected))
    assert (pace.repeated, pace.dropped) == (len(expected) - changes, len(pts) - changes)
    assert pace.notices() == [
        f"constant {rate} frames/s: {pace.repeated} frames repeated, {pace.dropped} dropped",
    ]


def test_the_last_frame_is_shown_as_long_as_it_lasts() -> None:
    assert shown(ConstantRate(info(), None), frames([0, 40], last=200)) == [0, 1, 1, 1, 1, 1]
    assert shown(ConstantRate(info(), None), frames([0, 40], last=1)) == [0, 1]
    assert shown(ConstantRate(info(), None), []) == []


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(10), Fraction(60), Fraction(24000, 1001)])
def test_against_ffmpegs_fps_filter(rate: Fraction) -> None:
    """Where at most one frame belongs to a tick, or the last of several is the nearest, both agree."""
    steps = torch.randint(30, 180, (40,), generator=torch.Generator().manual_seed(3)).tolist()
    pts = [0]
    for step in steps:
        pts.append(pts[-1] + step)
    ours = shown(ConstantRate(info(), rate), frames(pts))
    graph = Graph()
    nodes = [
        graph.add("buffer", "video_size=16x16:pix_fmt=gray:time_base=1/1000"),
        graph.add("fps", f"fps={rate}:round=near"),
        graph.add("buffersink"),
    ]
    nodes[0].link_to(nodes[1])
    nodes[1].link_to(nodes[2])
    graph.configure()
    theirs: list[int] = []
    for k, at in enumerate(pts):
        frame = av.VideoFrame(16, 16, "gray")
        memoryview(cast("Any", frame.planes[0]))[:1] = bytes([k])
        frame.pts, frame.time_base = at, MS
        graph.vpush(frame)
        try:
            while True:
                theirs.append(bytes(graph.vpull().planes[0])[0])
        except BlockingIOError:
            continue
    assert len(theirs) > 30
    differ = [k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
    if rate <= 10:  # several frames a tick: ours are never further away
        at = [Fraction(k) / rate * 1000 for k in range(len(ours))]
        assert all(abs(pts[ours[k]] - at[k]) <= abs(pts[theirs[k]] - at[k]) for k in differ)
    else:
        assert differ == []


@pytest.mark.parametrize(
    ("time_base", "start", "rate", "expected"),
    [
        (MS, 0, Fraction(25), Fraction(1, 25)),
        (Fraction(1, 90000), 126000, Fraction(25), Fraction(1, 25)),  # 1.4 s is 35 ticks
        (Fraction(1, 90000), 129003, Fraction(30000, 1001), Fraction(7, 30000)),
        (MS, -21, Fraction(25), MS),
    ],
)
def test_the_start_and_the_ticks_are_whole_numbers(
    time_base: Fraction, start: int, rate: Fraction, expected: Fraction
) -> None:
    pace = ConstantRate(info(rate, time_base, start), None)
    assert pace.info.time_base == expected
    assert pace.info.start * pace.info.time_base == start * time_base
    step = round(1 / (rate * time_base))
    given = frames([start + k * step for k in range(5)], last=step)
    assert shown(pace, given) == [0, 1, 2, 3, 4]


def test_a_unit_too_fine_for_ffmpeg_is_not_used() -> None:
    pace = ConstantRate(info(25, Fraction(1, 1_000_000_007), 1), Fraction(1_000_003, 30011))
    assert pace.info.time_base == Fraction(30011, 1_000_003)
    assert pace.info.start == 0


def test_what_is_expected_of_the_output() -> None:
    pace = ConstantRate(info(30, duration=Fraction(10), frames=300), Fraction(50))
    assert (pace.info.rate, pace.info.frames, pace.info.duration) == (50, 500, 10)
    assert ConstantRate(info(30, frames=300), Fraction(50)).info.frames == 300


def test_rates_and_modes_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="--fps is the rate of --fps-mode cfr"):
        open_pace(info(), FrameOptions(fps=Fraction(25)))
    for rate in (0, 1001):
        with pytest.raises(UsageError, match="above 0 and up to 1000"):
            open_pace(info(), FrameOptions(fps_mode="cfr", fps=Fraction(rate)))
    assert type(open_pace(info(), FrameOptions())) is Passthrough


def job(source: Path, target: Path, rate: Fraction | None = None, **more: Any) -> Options:
    return Options(
        str(source),
        str(target),
        device=DeviceOptions("cpu", threads=1),
        frames=FrameOptions(fps_mode="cfr", fps=rate),
        encode=EncodeOptions() if target.suffix in (".y4m", ".nut") else EncodeOptions(preset="ultrafast"),
        **more,
    )


UNEVEN = [0, 40, 80, 400, 410, 440, 480, 520]  # at 25 frames/s: seven repeated, one dropped


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".nut", ".y4m"])
def test_a_whole_job(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=SIZE, pts=UNEVEN, time_base=MS, last_duration=40, audio=1)
    target = tmp_path / f"out{suffix}"
    heard = Listener()
    report = upscale(job(clip, target, Fraction(25)), heard)
    times = [time or 0 for time, _ in read_video(target)]  # NUT moves all streams, as the sound begins before zero
    assert [time - times[0] for time in times] == [Fraction(k, 25) for k in range(14)]
    assert (report.frames_in, report.frames_out, report.repeated, report.dropped) == (8, 14, 7, 1)
    assert "constant 25 frames/s: 7 frames repeated, 1 dropped" in heard.notices
    assert not any("uneven" in text for text in heard.notices)
    with av.open(str(target)) as file:
        assert file.streams.video[0].average_rate == 25
    if suffix != ".y4m":
        before, after = read_packets(clip, "audio"), read_packets(target, "audio")
        assert [p.data for p in before] == [p.data for p in after]


def test_the_pictures_are_those_that_belong_there(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", size=SIZE, pts=UNEVEN, time_base=MS, last_duration=40)
    target = tmp_path / "out.nut"
    paced_options = FrameOptions(fps_mode="cfr", fps=Fraction(25))
    upscale(Options(str(clip), str(target), device=DeviceOptions("cpu", threads=1), frames=paced_options))
    plain = tmp_path / "plain.nut"
    upscale(Options(str(clip), str(plain), device=DeviceOptions("cpu", threads=1)))
    single = [planes[0] for _, planes in read_video(plain)]
    paced = [planes[0] for _, planes in read_video(target)]
    for k, source in enumerate([0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 5, 6, 7]):
        assert (paced[k] == single[source]).all()


@pytest.mark.parametrize("start", [None, Fraction(1, 10)])
def test_the_start_is_kept_beside_the_sound(tmp_path: Path, start: Fraction | None) -> None:
    clip = make_clip(tmp_path / "in.ts", size=SIZE, frames=20, rate=Fraction(30000, 1001), audio=1)
    plain, paced = tmp_path / "plain.ts", tmp_path / "paced.ts"
    options = job(clip, paced, start=start)
    upscale(options)
    upscale(Options(str(clip), str(plain), device=options.device, encode=options.encode, start=start))
    for kind in ("video", "audio"):
        before, after = (read_packets(path, cast("Any", kind)) for path in (plain, paced))
        assert len(before) == len(after)
        assert all(a.time == b.time for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_sound_begins_as_exactly_as_before(tmp_path: Path, suffix: str) -> None:
    """The edit lists of the MP4 family once counted in ticks of the rate, and moved it by up to half a frame."""
    clip = make_clip(tmp_path / "in.mp4", size=SIZE, frames=10, audio=1, audio_start=Fraction(33, 1000))
    target = tmp_path / f"out{suffix}"
    upscale(job(clip, target, Fraction(25)))
    before, after = (read_packets(path, "audio")[0].time for path in (clip, target))
    assert before and after and abs(after - before) < Fraction(1, 10_000)


def test_at_the_command_line(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=SIZE, pts=UNEVEN, time_base=MS, last_duration=40)

    def call(name: str, *arguments: str) -> Result:
        line = [str(clip), str(tmp_path / name), "--threads", "1", *arguments]
        return CliRunner().invoke(command, line, obj=Shell("rcan-video"))

    done = call("out.mkv", "--fps-mode", "cfr", "--fps", "50/2")
    assert done.exit_code == 0, done.output
    assert "constant 25 frames/s: 7 frames repeated, 1 dropped" in done.stderr
    assert probe(str(tmp_path / "out.mkv")).rate == 25
    for wrong in ("x", "1/0", "1e3", "-5", "25/"):
        failed = call("no.mkv", "--fps-mode", "cfr", "--fps", wrong)
        assert failed.exit_code == 2 and "is no rate: write frames per second, 25 or 30000/1001" in failed.stderr
    for wrong in ("0", "1001"):
        assert isinstance(call("no.mkv", "--fps-mode", "cfr", "--fps", wrong).exception, UsageError)
