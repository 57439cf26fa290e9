"""Frames out of containers: all of them, in order, at their own times, with the samples that are stored."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import damage, make_clip, needs_encoder, picture, read_packets, read_video, shared, to_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from rcan_video.errors import InputError, InputHangs
from rcan_video.frames import PlaneLayout
from rcan_video.media.decode import Source, probe
from rcan_video.media.timeline import Timeline


def times(path: Path, **kwargs: object) -> list[Fraction]:
    """Seconds of every frame that ``Source`` gives."""
    with Source(str(path), **kwargs) as source:  # type: ignore[arg-type]
        return [f.pts * source.info.time_base for f in source.frames()]


def planes(path: Path, **kwargs: object) -> list[tuple[Fraction, list[NDArray[np.generic]]]]:
    with Source(str(path), **kwargs) as source:  # type: ignore[arg-type]
        base = source.info.time_base
        return [(f.pts * base, [np.array(p) for p in f.planes]) for f in source.frames()]


# -- every frame, in order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt", "options"),
    [
        ("libx264", ".mp4", "yuv420p", {"bf": "3", "b-pyramid": "normal"}),
        ("libx265", ".mp4", "yuv420p10le", {"x265-params": "log-level=none:bframes=4"}),
        ("libvpx-vp9", ".webm", "yuv420p", {"lag-in-frames": "16", "auto-alt-ref": "1"}),
        ("libsvtav1", ".mkv", "yuv420p", {"preset": "10"}),
        ("mpeg2video", ".ts", "yuv420p", {"bf": "2"}),
        ("mpeg4", ".mp4", "yuv420p", {"bf": "2"}),
        ("prores_ks", ".mov", "yuv422p10le", {}),
        ("ffv1", ".mkv", "yuv444p", {}),
        ("mjpeg", ".avi", "yuvj420p", {}),
    ],
)
def test_every_frame_once_in_presentation_order(
    tmp_path: Path, codec: str, suffix: str, pix_fmt: str, options: dict[str, str]
) -> None:
    needs_encoder(codec)
    clip = make_clip(tmp_path / f"in{suffix}", codec=codec, pix_fmt=pix_fmt, frames=33, options=options)
    expected = read_video(clip)
    with Source(str(clip)) as source:
        found = [(f.index, f.pts * source.info.time_base, [np.array(p) for p in f.planes]) for f in source.frames()]
        assert (source.decoded, source.damage.packets, source.notices()) == (33, 0, [])
    assert [index for index, _, _ in found] == list(range(33))
    assert [time for _, time, _ in found] == [time for time, _ in expected]
    for (_, _, ours), (_, theirs) in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert_array_equal(a, b)


def test_variable_frame_rate_keeps_each_time_and_duration(tmp_path: Path) -> None:
    pts = [0, 7, 8, 30, 31, 33, 90]
    clip = make_clip(
        tmp_path / "in.mp4",
        pts=pts,
        time_base=Fraction(1, 600),
        options={"bf": "0"},  # with B-frames MP4 keeps the distances in decoding order alone
        container_options={"video_track_timescale": "600"},
    )
    with Source(str(clip)) as source:
        frames = [(f.pts, f.duration) for f in source.frames()]
    assert [p for p, _ in frames] == pts
    assert [d for _, d in frames[:-1]] == [b - a for a, b in pairwise(pts)]


def test_raw_stream_without_timestamps_runs_at_the_nominal_rate(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.h264", frames=20, rate=25, options={"bf": "2"})
    with Source(str(clip)) as source:
        stamps = [(f.pts * source.info.time_base, f.duration * source.info.time_base) for f in source.frames()]
        (notice,) = source.notices()
    assert stamps == [(Fraction(k, 25), Fraction(1, 25)) for k in range(20)]
    assert notice == "20 frames carry no timestamp: theirs are made from the rate, 25 frames/s"


def test_repeated_and_backward_times_move_up_by_a_tick() -> None:
    line = Timeline(Fraction(1, 100), Fraction(25))
    stamps = [line.stamp(pts, duration)[0] for pts, duration in [(10, 4), (10, 4), (9, 4), (20, 4), (None, 4), (24, 0)]]
    assert stamps == [10, 11, 12, 20, 24, 25]
    assert (line.missing, line.repaired) == (1, 3)


def test_a_missing_duration_is_one_frame() -> None:
    line = Timeline(Fraction(1, 1000), Fraction(30000, 1001))
    assert line.stamp(5, 0) == (5, 33)
    assert line.stamp(None, -1) == (38, 33)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.none() | st.integers(-50, 50), st.integers(-2, 9)), max_size=20))
def test_times_only_go_forward(packets: list[tuple[int | None, int]]) -> None:
    line = Timeline(Fraction(1, 100), Fraction(25))
    stamps = [line.stamp(pts, duration) for pts, duration in packets]
    assert all(a[0] < b[0] for a, b in pairwise(stamps))
    assert all(duration > 0 for _, duration in stamps)


# -- a part of it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "duration", "first", "last"),
    [
        (Fraction(0), Fraction(1, 5), 0, 4),
        (Fraction(1, 5), None, 5, 24),
        (Fraction(1, 5), Fraction(2, 5), 5, 14),
        (Fraction(201, 1000), Fraction(1, 25), 6, 6),  # the frame that is on screen began before: it is not taken
        (Fraction(24, 25), Fraction(60), 24, 24),
    ],
)
def test_start_and_duration_choose_frames(
    tmp_path: Path, start: Fraction, duration: Fraction | None, first: int, last: int
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=25)
    with Source(str(clip), start=start, duration=duration) as source:
        found = [f.pts * source.info.time_base * 25 for f in source.frames()]
        expected = last - first + 1
        assert source.info.start * source.info.time_base == Fraction(first, 25)
        assert source.info.frames is not None and abs(source.info.frames - expected) <= 1
    assert found == list(range(first, last + 1))


def test_start_counts_from_the_first_frame_not_from_zero(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.ts", codec="mpeg2video", frames=20)  # MPEG-TS begins at 1.4 s or so
    whole = times(clip)
    assert whole[0] > 0
    assert times(clip, start=Fraction(1, 5)) == whole[5:]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("gop.mp4", "libx264", {"g": "50"}),
        ("one-keyframe.mp4", "libx264", {"g": "9999", "sc_threshold": "0"}),
        ("gop.mkv", "libx264", {"g": "50"}),
        ("refresh.mkv", "libx264", {"g": "50", "intra-refresh": "1"}),
        ("long.ts", "libx264", {"g": "300", "sc_threshold": "0"}),
        ("refresh.ts", "libx264", {"g": "50", "intra-refresh": "1"}),
        ("open-gop.ts", "libx265", {"x265-params": "log-level=none:keyint=40:open-gop=1"}),
        ("long.ts", "libx265", {"x265-params": "log-level=none:keyint=300:scenecut=0"}),
        ("gop.ts", "mpeg2video", {"g": "100", "bf": "2"}),
        ("raw.h264", "libx264", {"g": "50"}),
        ("gop.webm", "libvpx-vp9", {"g": "60", "deadline": "realtime"}),
    ],
)
def test_a_start_that_seeks_gives_what_linear_decoding_gives(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    preset = {"preset": "ultrafast"} if codec.startswith("libx26") else {}
    clip = make_clip(tmp_path / name, codec=codec, frames=350, options={**preset, "bf": "2", **options})
    whole = planes(clip)
    part = planes(clip, start=Fraction(121, 10), duration=Fraction(1))
    wanted = [(t, p) for t, p in whole if Fraction(121, 10) <= t - whole[0][0] < Fraction(131, 10)]
    assert len(wanted) == 25
    assert [t for t, _ in part] == [t for t, _ in wanted]
    for (_, ours), (_, theirs) in zip(part, wanted, strict=True):
        assert_array_equal(ours[0], theirs[0])


@pytest.mark.parametrize("start", [1, 11])
def test_start_beyond_the_end(tmp_path: Path, start: int) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=12)
    with pytest.raises(InputError, match=rf"in\.mp4 ends before --start {start} seconds$"):
        Source(str(clip), start=Fraction(start))


# -- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [5, 20, 25, 26, 27, 28, 29])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
def test_a_damaged_packet_costs_its_own_frame_and_is_counted(tmp_path: Path, codec: str, number: int) -> None:
    """The last ones too: a decoder with frame threads reports them while it is drained, and PyAV drops what follows."""
    suffix = ".webm" if codec == "libvpx-vp9" else ".mp4"
    options = {"g": "1"} if codec != "libvpx-vp9" else {"lag-in-frames": "0", "error-resilient": "1"}
    clip = damage(make_clip(tmp_path / f"in{suffix}", codec=codec, frames=30, options=options), number)
    with Source(str(clip)) as source:
        ticks = [round(f.pts * source.info.time_base * 25) for f in source.frames()]
        assert source.damage.packets == 1
        assert source.notices() == [f"1 damaged packets of {clip} could not be decoded: 29 of about 30 frames came out"]
    assert ticks == [k for k in range(30) if k != number]


@pytest.mark.parametrize("kept", [0.95, 0.6])
@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.ts"])
def test_a_file_that_is_cut_off_gives_the_frames_that_are_there(tmp_path: Path, name: str, kept: float) -> None:
    clip = make_clip(
        tmp_path / name, frames=50, container_options={"movflags": "faststart"}, options={"g": "5", "bf": "0"}
    )
    data = clip.read_bytes()
    clip.write_bytes(data[: int(len(data) * kept)])
    expected = []
    with av.open(str(clip)) as file:
        try:
            expected.extend(frame.pts for packet in file.demux(video=0) for frame in packet.decode())
        except av.FFmpegError:
            expected.append(None)
    found = times(clip)
    assert 0 < len(found) < 50
    assert abs(len(found) - len(expected)) <= 1
    assert found == sorted(set(found))


def test_a_truncated_mp4_without_its_index(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=50)
    clip.write_bytes(clip.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"in\.mp4 cannot be opened: .*(header is damaged or cut off)$"):
        probe(str(clip))


def test_no_packet_can_be_decoded(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, options={"g": "1"})
    data = bytearray(clip.read_bytes())
    for packet in read_packets(clip, "video"):
        at = data.find(packet.data)
        data[at : at + len(packet.data)] = b"\xff" * len(packet.data)
    clip.write_bytes(data)
    with pytest.raises(InputError, match=r"^not one frame of .*in\.mp4 can be decoded: its packets are damaged or"):
        probe(str(clip))


def test_shared_encrypted_file() -> None:
    with pytest.raises(InputError, match=r"not one frame of .* can be decoded"):
        probe(str(shared("odd/cenc_short.mp4")))


# -- the picture changes --------------------------------------------------------------------------------------------


def test_a_picture_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    parts = [make_clip(tmp_path / f"{k}.h264", size=size, frames=3) for k, size in enumerate([(64, 48), (32, 32)])]
    clip = tmp_path / "in.h264"
    clip.write_bytes(b"".join(p.read_bytes() for p in parts))
    with Source(str(clip)) as source, pytest.raises(InputError) as caught:
        list(source.frames())
    assert str(caught.value).endswith(
        "in.h264 changes from 64x48 yuv420p to 32x32 yuv420p at frame 3: "
        "cut it there, or upscale the parts one by one with --start and --duration"
    )
    assert source.decoded == 3


@pytest.mark.parametrize("size", [(33, 21), (1, 1), (65, 48), (64, 47)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv411p", "yuv444p", "gray"])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int], pix_fmt: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt, size=size, frames=2)
    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    for index, (_, found) in enumerate(planes(clip)):
        for a, b in zip(found, picture(layout, size, index), strict=True):
            assert_array_equal(a, b)


# -- planes ---------------------------------------------------------------------------------------------------------


def test_planes_are_views_of_the_decoder_and_stay_right(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=40, size=(66, 50), options={"bf": "2"})
    expected = read_video(clip)
    with Source(str(clip)) as source:
        kept = list(source.frames())
    assert any(not np.asarray(f.planes[0]).flags.c_contiguous for f in kept), "a copy would be contiguous"
    for frame, (_, theirs) in zip(kept, expected, strict=True):
        for a, b in zip(frame.planes, theirs, strict=True):
            assert_array_equal(np.asarray(a), b)


def nv12(a: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    return [a[:16], a[16:, 0::2], a[16:, 1::2]]


def gbr(a: NDArray[np.generic], r: int, g: int, b: int) -> list[NDArray[np.generic]]:
    return [a[..., g], a[..., b], a[..., r]]


PACKED = {
    "nv12": ((24, 32), np.uint8, "yuv420p", nv12),
    "nv21": ((24, 32), np.uint8, "yuv420p", lambda a: [nv12(a)[0], nv12(a)[2], nv12(a)[1]]),
    "yuyv422": ((16, 32, 2), np.uint8, "yuv422p", lambda a: [a[..., 0], a[:, 0::2, 1], a[:, 1::2, 1]]),
    "rgb24": ((16, 32, 3), np.uint8, "gbrp", lambda a: gbr(a, 0, 1, 2)),
    "bgr24": ((16, 32, 3), np.uint8, "gbrp", lambda a: gbr(a, 2, 1, 0)),
    "rgba": ((16, 32, 4), np.uint8, "gbrap", lambda a: [*gbr(a, 0, 1, 2), a[..., 3]]),
    "bgra": ((16, 32, 4), np.uint8, "gbrap", lambda a: [*gbr(a, 2, 1, 0), a[..., 3]]),
    "argb": ((16, 32, 4), np.uint8, "gbrap", lambda a: [*gbr(a, 1, 2, 3), a[..., 0]]),
    "rgb48le": ((16, 32, 3), np.uint16, "gbrp16le", lambda a: gbr(a, 0, 1, 2)),
    "rgba64le": ((16, 32, 4), np.uint16, "gbrap16le", lambda a: [*gbr(a, 0, 1, 2), a[..., 3]]),
    "gray": ((16, 32), np.uint8, "gray", lambda a: [a]),
    "gray16le": ((16, 32), np.uint16, "gray16le", lambda a: [a]),
}


@pytest.mark.parametrize("pix_fmt", sorted(PACKED))
def test_packed_formats_are_unpacked_sample_by_sample(tmp_path: Path, pix_fmt: str) -> None:
    shape, dtype, planar, split = PACKED[pix_fmt]
    data = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)
    frame = av.VideoFrame(32, 16, pix_fmt)
    raw = data.tobytes()
    for plane in frame.planes:  # 32 columns: no padding in these formats
        plane.update(raw[: plane.buffer_size])
        raw = raw[plane.buffer_size :]
    assert not raw
    clip = make_clip(
        tmp_path / "in.nut", codec="rawvideo", pix_fmt=pix_fmt, size=(32, 16), frames=1, draw=lambda _: frame
    )
    with Source(str(clip)) as source:
        assert (source.info.pix_fmt, source.info.layout.pix_fmt) == (pix_fmt, planar)
        (found,) = source.frames()
    for a, b in zip(found.planes, split(data), strict=True):
        assert_array_equal(np.asarray(a), b)


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "planar"),
    [
        ("gray10le", "ffv1", "gray10le"),
        ("gbrp10le", "ffv1", "gbrp10le"),
        ("gbrp16le", "ffv1", "gbrp16le"),
        ("yuv420p10le", "ffv1", "yuv420p10le"),
        ("yuv444p12le", "ffv1", "yuv444p12le"),
        ("yuv411p", "ffv1", "yuv411p"),
        ("yuv410p", "ffv1", "yuv410p"),
        ("yuv440p", "ffv1", "yuv440p"),
        ("bgr0", "ffv1", "gbrp"),
        ("yuva420p", "ffv1", "yuva420p"),
        ("yuv420p10be", "rawvideo", "yuv420p10le"),
        ("gray16be", "rawvideo", "gray16le"),
    ],
)
def test_planar_formats_and_those_beside_them_are_exact(tmp_path: Path, pix_fmt: str, codec: str, planar: str) -> None:
    layout = PlaneLayout.parse(planar)
    assert layout is not None
    size = (32, 16)
    suffix = ".nut" if codec == "rawvideo" else ".mkv"
    clip = make_clip(
        tmp_path / f"in{suffix}",
        codec=codec,
        pix_fmt=pix_fmt,
        size=size,
        frames=2,
        draw=lambda k: to_frame(picture(layout, size, k), planar, size),
    )
    with Source(str(clip)) as source:
        assert source.info.layout == layout
        for frame in source.frames():
            assert frame.planes[0].dtype == (np.uint8 if layout.depth == 8 else np.uint16)
            for a, b in zip(frame.planes, picture(layout, size, frame.index), strict=True):
                assert_array_equal(np.asarray(a), b)


def test_palettes_become_rgb(tmp_path: Path) -> None:
    colours = np.array([(255, 0, 0), (0, 128, 0), (10, 20, 250), (255, 255, 255)], np.uint8)
    indices = np.random.default_rng(0).integers(0, 4, (16, 32))
    rgb = np.ascontiguousarray(colours[indices])
    clip = make_clip(
        tmp_path / "in.gif",
        codec="gif",
        pix_fmt="rgb8",
        size=(32, 16),
        frames=1,
        draw=lambda _: av.VideoFrame.from_ndarray(rgb, format="rgb24"),
    )
    with Source(str(clip)) as source:
        assert source.info.layout.pix_fmt == "gbrap"  # GIF may leave holes
        (frame,) = source.frames()
    with av.open(str(clip)) as file:
        expected = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert_array_equal(np.stack([np.asarray(frame.planes[k]) for k in (2, 0, 1)], axis=-1), expected)


# -- pipes ----------------------------------------------------------------------------------------------------------


class Stdin:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def test_from_a_pipe_the_other_packets_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=20, audio=1)
    with clip.open("rb") as file:
        monkeypatch.setattr("sys.stdin", Stdin(file.fileno()))
        heard: list[bytes] = []
        with Source("-") as source:
            source.listen(lambda packet: heard.append(bytes(packet)))
            found = [round(f.pts * source.info.time_base * 25) for f in source.frames()]
    assert [t - found[0] for t in found] == list(range(20))
    assert heard == [p.data for p in read_packets(clip, "audio")]


def test_a_pipe_that_never_speaks_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setattr("sys.stdin", Stdin(read))
    stop = threading.Event()
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    with pytest.raises(InputError, match="standard input cannot be opened"):
        Source("-", stop=stop)
    timer.join()
    os.close(read)
    os.close(write)


def test_a_source_that_hangs_is_not_closed(tmp_path: Path) -> None:
    """Its reader is inside FFmpeg for ever; closing would free what that uses."""
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    with pytest.raises(InputHangs), Source(str(clip)) as source:
        raise InputHangs("stuck")
    assert len(list(source.frames())) == 3
    source.close()
