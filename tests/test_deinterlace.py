"""Fields become frames, and nothing else about the frames changes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.filter import Graph
from clips import make_clip, picture, read_video, to_frame, to_planes
from numpy.typing import NDArray

from rcan_video import EncodeOptions, FrameOptions, Options, probe, upscale
from rcan_video.errors import InputError
from rcan_video.frames import ColorTags, PlaneLayout
from rcan_video.media.decode import Source
from rcan_video.media.deinterlace import Deinterlacer
from rcan_video.options import DeviceOptions
from rcan_video.progress import Silent

SIZE = (64, 48)
FRAMES = 10
YUV = PlaneLayout("yuv", 8, 1, 1)
TICKS = [0, 40, 70, 150, 151, 160, 200, 240, 300, 1000]


class Listener(Silent):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def filtered(frames: Sequence[av.VideoFrame], filter: str, arguments: str) -> list[av.VideoFrame]:
    """What one of FFmpeg's filters makes of frames."""
    graph = Graph()
    first = frames[0]
    size = f"video_size={first.width}x{first.height}:pix_fmt={first.format.name}:time_base=1/25"
    nodes = [graph.add("buffer", size), graph.add(filter, arguments), graph.add("buffersink")]
    for a, b in pairwise(nodes):
        a.link_to(b)
    graph.configure()
    out = []
    for k, frame in enumerate([*frames, None]):
        if frame is not None:
            frame.pts = k
        graph.vpush(frame)
        try:
            while True:
                out.append(cast("av.VideoFrame", graph.vpull()))
        except (BlockingIOError, EOFError):
            continue
    return out


def flagged(frame: av.VideoFrame) -> av.VideoFrame:
    return filtered([frame], "setfield", "tff")[0]


def square(field: int) -> list[NDArray[Any]]:
    """What one field shows: a bright square that moves by four pixels from field to field."""
    y = np.full((SIZE[1], SIZE[0]), 40, np.uint8)
    y[12:36, 2 + 4 * field : 22 + 4 * field] = 200
    return [y, *(np.full((SIZE[1] // 2, SIZE[0] // 2), 128, np.uint8) for _ in range(2))]


def woven(index: int) -> av.VideoFrame:
    """Two fields of it in one frame, the upper one first."""
    fields = zip(square(2 * index), square(2 * index + 1), strict=True)
    both = [np.where(np.arange(len(a))[:, None] % 2 == 0, a, b) for a, b in fields]
    return flagged(to_frame(both, "yuv420p", SIZE))


def drawing(interlaced: Sequence[int], pix_fmt: str = "yuv420p") -> Callable[[int], av.VideoFrame]:
    layout = PlaneLayout.parse(pix_fmt) or YUV

    def draw(k: int) -> av.VideoFrame:
        frame = to_frame(picture(layout, SIZE, k), layout.pix_fmt, SIZE)
        frame = frame if layout.pix_fmt == pix_fmt else frame.reformat(format=pix_fmt)
        return flagged(frame) if k in interlaced else frame

    return draw


def mixed(path: Path, interlaced: Sequence[int] = (2, 3, 6), **more: Any) -> Path:
    """Lossless, with uneven times; FFV1 keeps a flag for each frame."""
    wanted = {"codec": "ffv1", "size": SIZE, "pts": TICKS, "time_base": Fraction(1, 1000), **more}
    return make_clip(path, draw=drawing(interlaced), **wanted)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def given(path: Path, mode: Any, **more: Any) -> tuple[list[tuple[int, int]], list[Any], list[str], list[str]]:
    """Times, planes and both kinds of notices of a source."""
    with Source(str(path), deinterlace=mode, **more) as source:
        first = source.first_notices()
        frames = list(source.frames())
        assert [f.index for f in frames] == list(range(len(frames)))
        planes = [[np.array(p) for p in f.planes] for f in frames]
        return [(f.pts, f.duration) for f in frames], planes, first, source.notices()


def equal(a: Sequence[NDArray[Any]], b: Sequence[NDArray[Any]]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_auto_changes_flagged_frames_alone_and_no_time(tmp_path: Path) -> None:
    clip = mixed(tmp_path / "in.mkv")
    times, planes, first, last = given(clip, "auto")
    assert times == given(clip, "off")[0] and [t for t, _ in times] == TICKS
    before = [to_planes(f) for f in decoded(clip)]
    oracle = [to_planes(f) for f in filtered(decoded(clip), "bwdif", "mode=send_frame:deint=interlaced")]
    for k in range(FRAMES):
        assert equal(planes[k], before[k]) == (k not in (2, 3, 6))
        assert equal(planes[k], oracle[k])
    assert first == []
    assert last == [f"{clip} is interlaced from frame 2 on: such frames were deinterlaced"]


def test_a_progressive_input_never_meets_the_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = mixed(tmp_path / "in.mkv", interlaced=())
    monkeypatch.setattr("rcan_video.media.deinterlace._Bwdif", None)
    times, planes, first, last = given(clip, "auto")
    assert (times, first, last) == (given(clip, "off")[0], [], [])
    assert all(equal(a, to_planes(b)) for a, b in zip(planes, decoded(clip), strict=True))


def test_combs_go(tmp_path: Path) -> None:
    """Against the truth at the time of the first field, which is the one that is kept."""
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", size=SIZE, frames=5, draw=woven)
    _, planes, first, last = given(clip, "auto")
    assert first == [f"{clip} is interlaced: it is deinterlaced with bwdif (--deinterlace off keeps its fields)"]
    assert last == []
    for k, frame in enumerate(planes):
        truth = square(2 * k)[0].astype(float)
        assert np.array_equal(frame[0][::2], truth[::2])
        combed = np.abs(to_planes(decoded(clip)[k])[0] - truth).mean()
        assert np.abs(frame[0] - truth).mean() < combed / 3


def test_on_changes_every_frame(tmp_path: Path) -> None:
    clip = mixed(tmp_path / "in.mkv", interlaced=(2,))
    times, planes, first, last = given(clip, "on")
    oracle = filtered(decoded(clip), "bwdif", "mode=send_frame:deint=all")
    assert all(equal(a, to_planes(b)) for a, b in zip(planes, oracle, strict=True))
    assert not equal(planes[0], to_planes(decoded(clip)[0]))
    assert [t for t, _ in times] == TICKS
    assert (first, last) == ([f"every frame of {clip} is deinterlaced with bwdif"], [])


def test_off_keeps_the_fields_and_says_so(tmp_path: Path) -> None:
    clip = mixed(tmp_path / "in.mkv", interlaced=(0, 1))
    _, planes, first, _ = given(clip, "off")
    assert all(equal(a, to_planes(b)) for a, b in zip(planes, decoded(clip), strict=True))
    assert first == [
        f"{clip} is interlaced and is upscaled with its fields: --deinterlace auto avoids combs",
    ]
    assert probe(str(clip)).interlaced
    later = mixed(tmp_path / "later.mkv", interlaced=(4,))
    assert given(later, "off")[3] == [
        f"{later} is interlaced from frame 4 on, and was upscaled with its fields there",
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_the_last_frame_comes_out(tmp_path: Path, count: int, mode: str) -> None:
    clip = mixed(tmp_path / "in.mkv", interlaced=range(count), pts=TICKS[:count])
    assert [t for t, _ in given(clip, mode)[0]] == TICKS[:count]


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_part_is_what_it_is_in_the_whole(tmp_path: Path, mode: str) -> None:
    clip = mixed(tmp_path / "in.mkv", interlaced=range(FRAMES))
    times, planes, _, _ = given(clip, mode)
    part = given(clip, mode, start=Fraction(70, 1000), duration=Fraction(85, 1000))
    assert part[0] == times[2:5]
    assert all(equal(a, b) for a, b in zip(part[1], planes[2:5], strict=True))
    assert "--deinterlace off keeps" in part[2][0] if mode == "auto" else part[2]


def test_notices_are_of_the_part_alone(tmp_path: Path) -> None:
    clip = mixed(tmp_path / "in.mkv", interlaced=(0, 1, 6))
    part = given(clip, "auto", start=Fraction(150, 1000), duration=Fraction(50, 1000))
    assert ([t for t, _ in part[0]], part[2], part[3]) == (TICKS[3:6], [], [])
    longer = given(clip, "auto", start=Fraction(150, 1000))
    assert longer[3] == [f"{clip} is interlaced from frame 3 on: such frames were deinterlaced"]


@pytest.mark.parametrize(
    "pix_fmt", ["yuvj420p", "yuv422p10le", "gray", "gbrp", "nv12", "uyvy422", "p010le", "rgb24", "yuv411p"]
)
def test_formats_come_back_as_they_went(pix_fmt: str) -> None:
    frames = [drawing(range(4), pix_fmt)(k) for k in range(4)]
    for frame in frames:
        frame.color_range, frame.colorspace = 2, 0 if frame.format.is_rgb else 1
    raw = [(frame, k, 1) for k, frame in enumerate(frames)]
    out = list(Deinterlacer("on", "in.mkv", "rawvideo")(raw))
    assert [(f.format.name, pts, duration) for f, pts, duration in out] == [(pix_fmt, k, 1) for k in range(4)]
    assert {(int(f.color_range), int(f.colorspace)) for f, *_ in out} == {(2, 0 if frames[0].format.is_rgb else 1)}
    for (frame, *_), (before, *_) in zip(out, raw, strict=True):
        a, b = to_planes(frame)[0], to_planes(before)[0]
        assert np.array_equal(a[::2], b[::2]), "the field that is kept"
        assert not np.array_equal(a[1::2], b[1::2]), "the field that is made anew"


@pytest.mark.parametrize("pix_fmt", ["gray10le", "yuv440p12le"])
def test_formats_that_bwdif_does_not_take(tmp_path: Path, pix_fmt: str) -> None:
    clip = make_clip(
        tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt, size=SIZE, frames=3, draw=drawing(range(3), pix_fmt)
    )
    times, planes, first, _ = given(clip, "auto")
    assert len(times) == 3 and equal(planes[1], to_planes(decoded(clip)[1]))
    assert first == [f"{clip} is interlaced and is upscaled with its fields: bwdif takes no {pix_fmt} of 64x48"]
    with pytest.raises(InputError, match=f"cannot be deinterlaced: bwdif takes no {pix_fmt} of 64x48; use --deint"):
        given(clip, "on")


class Stdin:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_pipe_that_falls_silent_ends_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    """The frames that the filter holds back come out all the same."""
    clip = make_clip(tmp_path / "in.nut", codec="rawvideo", size=SIZE, frames=40, draw=lambda k: woven(k % 5))
    read, write = os.pipe()
    monkeypatch.setattr("sys.stdin", Stdin(read))
    stop = threading.Event()

    def feed() -> None:  # and leave the pipe open
        os.write(write, clip.read_bytes())
        time.sleep(0.2)
        stop.set()

    feeder = threading.Thread(target=feed)
    feeder.start()
    with Source("-", deinterlace=mode, stop=stop) as source:
        got = [frame.pts for frame in source.frames()]
    feeder.join()
    os.close(read)
    os.close(write)
    assert len(got) == source.decoded == 40
    assert got == sorted(set(got))


def test_hevc_stores_fields_apart(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.mkv",
        codec="libx265",
        size=(64, 64),
        frames=6,
        options={"x265-params": "log-level=none:interlace=tff"},
    )
    assert all(f.interlaced_frame for f in decoded(clip))
    _, planes, first, _ = given(clip, "auto")
    assert all(equal(a, to_planes(b)) for a, b in zip(planes, decoded(clip), strict=True))
    assert first[0].endswith("with its fields: its stream stores each field as a picture of its own")


def test_a_change_of_format_builds_the_filter_anew() -> None:
    """And loses no frame at the seam."""
    small = [flagged(to_frame(picture(YUV, (32, 32), k), "yuv420p", (32, 32))) for k in range(3)]
    large = [flagged(to_frame(picture(YUV, SIZE, k), "yuv420p", SIZE)) for k in range(3)]
    raw = [(frame, 10 * k, 10) for k, frame in enumerate([*small, *large, *small])]
    out = list(Deinterlacer("auto", "in.mkv", "rawvideo")(raw))
    assert [(f.width, pts) for f, pts, _ in out] == [(f.width, pts) for f, pts, _ in raw]
    assert not any(f.interlaced_frame for f, *_ in out)


def test_metadata_of_frames_is_kept(tmp_path: Path) -> None:
    tags = ColorTags(matrix=9, primaries=9, transfer=16, range=1)
    params = "log-level=none:max-cll=1000,400:interlace=prog"
    clip = make_clip(
        tmp_path / "in.mkv",
        codec="libx265",
        pix_fmt="yuv420p10le",
        size=(64, 64),
        frames=3,
        tags=tags,
        options={"x265-params": params},
    )
    with Source(str(clip), deinterlace="on") as source, Source(str(clip)) as plain:
        assert source.info == plain.info
        assert source.info.hdr is not None and source.info.hdr.light == (1000, 400)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_whole_job(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(
        tmp_path / f"in{suffix}", size=SIZE, frames=FRAMES, audio=1, options={"x264-params": "tff=1"}, draw=woven
    )
    target = tmp_path / f"out{suffix}"
    heard = Listener()
    report = upscale(Options(str(clip), str(target), device=DeviceOptions("cpu", threads=1)), heard)
    assert heard.notices == list(report.notices)
    assert heard.notices[0].startswith(f"{clip} is interlaced: it is deinterlaced with bwdif")
    assert [t for t, _ in read_video(target)] == [t for t, _ in read_video(clip)]
    assert all(f.interlaced_frame for f in decoded(clip))
    assert not any(f.interlaced_frame for f in decoded(target))
    assert not probe(str(target)).interlaced


def test_off_reaches_the_job(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", size=SIZE, frames=3, draw=woven)
    heard = Listener()
    upscale(
        Options(
            str(clip),
            str(tmp_path / "out.mkv"),
            device=DeviceOptions("cpu", threads=1),
            frames=FrameOptions(deinterlace="off"),
            encode=EncodeOptions(preset="ultrafast"),
        ),
        heard,
    )
    assert heard.notices == [f"{clip} is interlaced and is upscaled with its fields: --deinterlace auto avoids combs"]
