"""Segments cut out of a file: the frames that their packets give are those of the whole."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rcan_video.errors import InputError
from rcan_video.frames import Frame
from rcan_video.media.decode import Source
from rcan_video.media.index import read_index
from rcan_video.media.parcel import Cutter, ParcelSource, why_not_cut
from tests.clips import make_clip, needs_encoder

SIZE = (64, 48)
FRAMES = 60

CASES = {
    "h264": ("mp4", "libx264", "yuv420p", {"g": "12", "bf": "3"}),
    "h264 with open groups": ("mkv", "libx264", "yuv420p", {"g": "10", "bf": "3", "x264-params": "open-gop=1"}),
    "h264 with intra refresh": ("mp4", "libx264", "yuv420p", {"g": "10", "x264-params": "intra-refresh=1"}),
    "h264 in ts": ("ts", "libx264", "yuv420p", {"g": "12", "bf": "2"}),
    "hevc": ("mkv", "libx265", "yuv420p10le", {"x265-params": "keyint=12:log-level=none"}),
    "vp9": ("webm", "libvpx-vp9", "yuv420p", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
    "av1": ("mp4", "libsvtav1", "yuv420p", {"g": "12", "preset": "12"}),
    "mpeg2": ("ts", "mpeg2video", "yuv420p", {"g": "10", "bf": "2", "b": "2M"}),
    "mpeg4": ("mp4", "mpeg4", "yuv420p", {"g": "10", "bf": "2", "b": "2M"}),
    "ffv1": ("mkv", "ffv1", "yuv422p10le", {}),
    "mjpeg": ("mov", "mjpeg", "yuvj420p", {}),
    "one keyframe": ("mp4", "libx264", "yuv420p", {"g": "300"}),
}


def whole(path: Path) -> list[Frame]:
    with Source(str(path), index=read_index(str(path))) as source:
        return [replace(f, planes=tuple(np.array(p) for p in f.planes)) for f in source.frames()]


def assert_parcels(path: Path, folder: Path, starts: list[int]) -> None:
    """The parcels of the segments that begin with frames ``starts`` give what belongs to them."""
    frames, index = whole(path), read_index(str(path))
    with Source(str(path)) as source:
        info = source.info
    times = [frame.pts for frame in frames]
    assert index.times.tolist() == times
    assert why_not_cut(str(path), index, info, [times[k] for k in starts]) is None
    cutter = Cutter(str(path), index)
    for number, (first, last) in enumerate(zip(starts, [*starts[1:], len(frames)], strict=True)):
        parcel = cutter.cut(number, times[first], times[last] if last < len(frames) else None)
        file = folder / f"{number}.nut"
        file.write_bytes(parcel.data)
        with ParcelSource(file, parcel, info, deinterlace="off", max_pixels=1 << 20) as piece:
            found = [replace(f, planes=tuple(np.array(p) for p in f.planes)) for f in piece.frames()]
            assert piece.times == times[first:last]
            assert not piece.damage
        mine = [frame for frame in found if frame.pts >= times[first]]
        wanted = frames[first : last + 1]  # the mark included
        assert [frame.pts for frame in mine[: len(wanted)]] == [frame.pts for frame in wanted]
        for one, other in zip(mine, wanted, strict=False):
            for a, b in zip(one.planes, other.planes, strict=True):
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    cutter.close()


@pytest.mark.parametrize("case", CASES)
def test_a_parcel_gives_the_frames_of_its_segment(tmp_path: Path, case: str) -> None:
    suffix, codec, pix_fmt, options = CASES[case]
    needs_encoder(codec)
    clip = make_clip(tmp_path / f"in.{suffix}", codec=codec, pix_fmt=pix_fmt, size=SIZE, frames=FRAMES, options=options)
    assert_parcels(clip, tmp_path, [0, 7, 19, 33, 50])


def test_times_far_apart_and_far_from_zero(tmp_path: Path) -> None:
    pts = [10_000_000 + 1001 * k + (k // 20) * 50_000 for k in range(FRAMES)]
    clip = make_clip(
        tmp_path / "in.mp4",
        size=SIZE,
        rate=Fraction(30000, 1001),
        time_base=Fraction(1, 30000),
        pts=pts,
        options={"g": "9"},
    )
    assert_parcels(clip, tmp_path, [0, 19, 20, 41])


def test_a_parcel_holds_no_more_than_it_needs(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=SIZE, frames=FRAMES, options={"g": "10"})
    index = read_index(str(clip))
    times = index.times.tolist()
    cutter = Cutter(str(clip), index)
    sizes = [len(cutter.cut(0, times[k], times[k + 10]).data) for k in (20, 30)]
    cutter.close()
    most = sum(int(index.size[k - 10 : k + 10 + 8].sum()) for k in (20, 30))  # a keyframe early, a few behind
    assert sum(sizes) < most * 1.2


def test_a_parcel_is_the_same_whatever_was_cut_before(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=SIZE, frames=FRAMES, options={"g": "10"})
    index = read_index(str(clip))
    times = index.times.tolist()
    cutter = Cutter(str(clip), index)
    fresh = cutter.cut(0, times[40], times[50])
    cutter.cut(1, times[50], None)  # to the end of the file
    assert len(cutter.cut(0, times[40], times[50]).data) == len(fresh.data)
    cutter.cut(2, times[0], times[10])
    assert len(cutter.cut(0, times[40], times[50]).data) == len(fresh.data)
    cutter.close()


def test_what_cannot_be_cut_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def why(path: Path) -> str | None:
        with Source(str(path)) as source:
            return why_not_cut(str(path), read_index(str(path)), source.info, [0])

    avi = make_clip(tmp_path / "in.avi", codec="mpeg4", size=SIZE)
    assert "cannot be trusted" in (why(avi) or "")
    prores = make_clip(tmp_path / "in.mov", codec="prores_ks", pix_fmt="yuv422p10le", size=SIZE)
    assert "prores, was not tried in pieces" in (why(prores) or "")
    full = make_clip(tmp_path / "in.mp4", pix_fmt="yuv444p", size=SIZE)
    assert "4:4:4" in (why(full) or "")
    good = make_clip(tmp_path / "good.mp4", size=SIZE)
    assert why(good) is None
    monkeypatch.setattr("rcan_video.media.parcel.LARGEST", 100)
    assert "keyframes lie so far apart" in (why(good) or "")


def test_a_file_that_changes_under_the_knife(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=SIZE, frames=FRAMES, options={"g": "10"})
    index = read_index(str(clip))
    times = index.times.tolist()
    other = make_clip(tmp_path / "other.mp4", size=SIZE, frames=FRAMES, options={"g": "10", "crf": "40"})
    cutter = Cutter(str(other), index)
    with pytest.raises(InputError, match="has changed while it was worked on"):
        cutter.cut(0, times[30], times[40])
    cutter.close()
