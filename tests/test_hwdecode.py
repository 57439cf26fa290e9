"""``--hwaccel``: the frames of software, whoever decodes, and one sentence where it is not the GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available
from clips import Planes, make_clip, picture, to_frame, to_planes
from test_deinterlace import mixed
from test_ladder import Listener

from rcan_video.errors import DeviceError, InputError
from rcan_video.frames import ColorTags, PlaneLayout
from rcan_video.job import upscale
from rcan_video.media import hwdecode
from rcan_video.media.decode import Source
from rcan_video.media.hwdecode import HardwareDecoding
from rcan_video.options import Deinterlace, DeviceOptions, Options

pytestmark = pytest.mark.skipif("cuda" not in hwdevices_available(), reason="this FFmpeg was built without CUDA")

HALF_PLANAR = {"nv12": 0, "p010le": 6, "p012le": 4, "p016le": 0}
"""Formats of what comes out of NVDEC, and the bits below their samples."""


def everything(path: Path, hwaccel: str = "none", deinterlace: Deinterlace = "off") -> tuple[Any, list[Any], list[str]]:
    """What is said of the input, its frames, and the sentences before the first."""
    with Source(str(path), hwaccel=hwaccel, deinterlace=deinterlace) as source:  # type: ignore[arg-type]
        said = source.first_notices()
        frames = [(f.index, f.pts, f.duration, [np.array(p) for p in f.planes]) for f in source.frames()]
        return source.info, frames, said


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        a[:3] == b[:3] and all(np.array_equal(p, q) for p, q in zip(a[3], b[3], strict=True))
        for a, b in zip(one, other, strict=True)
    )


def test_frames_are_those_of_software_on_whatever_machine(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=6, options={"bf": "2"})
    info, frames, _ = everything(clip)
    found, decoded, said = everything(clip, "cuda")
    assert found == info and same(frames, decoded) and len(said) <= 1


def refused(path: str, **more: Any) -> Any:
    """As ``open_input`` where there is no device."""
    if more.get("hwaccel") is None:
        return av.open(path)
    raise InputError("it cannot be opened") from av.error.PermissionError(1, "Operation not permitted")


def test_a_job_without_the_device_falls_back_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwdecode, "open_input", refused)
    clip, heard = make_clip(tmp_path / "in.mp4", frames=3), Listener()
    options = Options(str(clip), str(tmp_path / "out.mp4"), device=DeviceOptions("cpu", hwaccel="cuda"))
    report = upscale(options, heard)
    sentence = (
        f"{clip} is decoded in software instead of by cuda: it does not open on this machine: Operation not permitted"
    )
    assert report.notices == (sentence,) and heard.notices.count(sentence) == 1 and report.frames_out == 3


def test_software_is_not_asked_for_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwdecode, "HWAccel", None)
    assert everything(make_clip(tmp_path / "in.mp4", frames=2))[2] == []


class Gpu:
    """Stands in for NVDEC: software decodes, and the frames come half planar. ``pix_fmt`` is what FFmpeg settles on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pix_fmt: str = "cuda", *, decodes: bool = True) -> None:
        self.given: list[str] = []
        best, planar = hwdecode.best_video, HardwareDecoding.planar

        def best_video(container: Any, path: str) -> Any:
            stream = best(container, path)
            settled = SimpleNamespace(name=stream.codec_context.name, is_hwaccel=decodes, pix_fmt=pix_fmt)
            return SimpleNamespace(codec_context=settled, metadata=stream.metadata)

        def on_gpu(self_: HardwareDecoding, frame: av.VideoFrame) -> av.VideoFrame:
            if pix_fmt == "cuda":
                frame = frame.reformat(format="nv12")
            frame = planar(self_, frame)
            self.given.append(frame.format.name)
            return frame

        monkeypatch.setattr(hwdecode, "best_video", best_video)
        monkeypatch.setattr(hwdecode, "open_input", lambda path, **_: av.open(path))
        monkeypatch.setattr(HardwareDecoding, "planar", on_gpu)


@pytest.mark.parametrize("deinterlace", ["off", "auto"])
def test_half_planar_frames_leave_as_those_of_software(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deinterlace: Deinterlace
) -> None:
    """Samples, times, colours and flags: a file is described and deinterlaced the same."""
    progressive = make_clip(tmp_path / "p.mp4", size=(66, 50), tags=ColorTags(9, 9, 16, 1), frames=5)
    clip = mixed(tmp_path / "i.mkv") if deinterlace == "auto" else progressive
    info, frames, said = everything(clip, deinterlace=deinterlace)
    gpu = Gpu(monkeypatch)
    monkeypatch.setattr(hwdecode, "_EXACT", {"h264", "ffv1"})
    found, decoded, told = everything(clip, "cuda", deinterlace)
    assert set(gpu.given) == {"yuv420p"}
    assert found == info and same(frames, decoded) and told == said


@pytest.mark.parametrize("pix_fmt", HALF_PLANAR)
@pytest.mark.parametrize("size", [(64, 48), (33, 21)])
def test_no_sample_changes(pix_fmt: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    depth = {"nv12": 8, "p010le": 10, "p012le": 12, "p016le": 16}[pix_fmt]
    layout = PlaneLayout("yuv", depth, 1, 1)
    noise = np.random.default_rng(5)
    planes = tuple((p * 0 + noise.integers(0, 2**depth, p.shape)).astype(p.dtype) for p in picture(layout, size, 0))
    decoding = HardwareDecoding("cuda", "in.mp4")
    decoding._stream = SimpleNamespace(codec_context=SimpleNamespace(pix_fmt="cuda"))  # type: ignore[assignment]
    frame = half_planar(planes, pix_fmt, size)
    frame.pts = 77
    result = decoding.planar(frame)
    assert (result.format.name, result.pts) == (layout.pix_fmt, 77)
    assert all(np.array_equal(a, b) for a, b in zip(to_planes(result), planes, strict=True))
    whole = to_frame(planes, layout.pix_fmt, size)
    assert decoding.planar(whole) is whole


def half_planar(planes: Planes, pix_fmt: str, size: tuple[int, int]) -> av.VideoFrame:
    """Packed by hand, as swscale dithers on this way: luma, then the two chroma planes sample by sample."""
    frame = av.VideoFrame(*size, pix_fmt)
    luma, *chroma = (plane << HALF_PLANAR[pix_fmt] for plane in planes)
    for plane, data in zip(frame.planes, (luma, np.stack(chroma, -1).reshape(len(chroma[0]), -1)), strict=True):
        rows = np.frombuffer(plane, data.dtype).reshape(-1, plane.line_size // data.itemsize)
        rows[: data.shape[0], : data.shape[1]] = data
    return frame


@pytest.mark.parametrize(
    ("pix_fmt", "decodes", "why"),
    [("yuv420p", True, "it does not take this h264"), ("cuda", False, "it has no decoder for h264")],
)
def test_a_stream_that_the_gpu_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pix_fmt: str, decodes: bool, why: str
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=4)
    _, frames, _ = everything(clip)
    Gpu(monkeypatch, pix_fmt, decodes=decodes)
    _, decoded, said = everything(clip, "cuda")
    assert said == [f"{clip} is decoded in software instead of by cuda: {why}"]
    assert same(frames, decoded)


def test_formats_whose_standard_leaves_rounding_open_are_left_to_software(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mpg", codec="mpeg2video", frames=3)
    sentence = f"{clip} is decoded in software instead of by cuda: its frames of mpeg2video may differ from those of"
    assert everything(clip, "cuda")[2] == [f"{sentence} software"]


def test_standard_input_is_left_to_software() -> None:
    assert HardwareDecoding("cuda", "-").notices() == [
        "standard input is decoded in software instead of by cuda: standard input can be opened once only"
    ]
    assert HardwareDecoding("none", "-").notices() == []


def test_an_input_without_video_is_named_as_ever(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        Source(str(tmp_path / "none.mp4"), hwaccel="cuda")


@pytest.mark.parametrize(("hwaccel", "damaged"), [("cuda", False), ("cuda", True), ("none", False)])
def test_what_the_gpu_cannot_do_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwaccel: Any, damaged: bool
) -> None:
    """A driver that fails ends the run with a sentence; damaged packets are counted as ever, whoever decodes."""
    clip = make_clip(tmp_path / "in.mp4", frames=4)
    kind = av.error.InvalidDataError if damaged else av.error.ExternalError

    def failing(packet: object) -> list[av.VideoFrame]:
        raise kind(1, "an error")

    Gpu(monkeypatch)
    with Source(str(clip), hwaccel=hwaccel) as source:
        source._decoder._alpha = SimpleNamespace(decode=failing)  # type: ignore[assignment]
        if hwaccel == "cuda" and not damaged:
            with pytest.raises(DeviceError, match=r"^cuda cannot decode .*in\.mp4 any further \(an error\): run the"):
                list(source.frames())
        else:
            list(source.frames())
            assert source.damage.packets > 0


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libx264", "yuv420p"), ("libx265", "yuv420p"), ("libx265", "yuv420p10le")]
)
def test_cuda_decodes_to_the_frames_of_software(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", codec=codec, pix_fmt=pix_fmt, size=(256, 144), frames=20)
    info, frames, _ = everything(clip)
    found, decoded, said = everything(clip, "cuda")
    assert found == info and same(frames, decoded) and said == []
