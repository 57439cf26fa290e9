"""The whole program around a network that changes nothing: what comes out is what went in, to the code."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import Planes, make_clip, read_video, shared, to_frame
from safetensors.torch import load_file, save_file

from rcan_video import ModelOptions, Options, upscale
from rcan_video.frames import ColorTags, PlaneLayout
from rcan_video.media.decode import Source
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.options import EncodeOptions

SIZE = (64, 48)
LOSSLESS = EncodeOptions(codec="ffv1")
# Chroma that was resampled to the luma's grid and back is not what it was where it is sharp; these pictures are smooth
# in chroma, as real ones are, and full of detail in luma.
WAVES = (9.0, 31.0, 43.0)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint whose only work is to hand three channels through."""
    net = RCAN(RCANConfig(groups=1, blocks=1, features=4, reduction=2, upscale=1, rgb_range=1.0, mean_shift=False))
    state = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    for name in ("head.0.weight", "tail.1.weight"):
        for channel in range(3):
            state[name][channel, channel, 1, 1] = 1
    path = tmp_path_factory.mktemp("weights") / "identity.safetensors"
    save_file(state, path)
    return str(path)


def waves(layout: PlaneLayout, index: int) -> Planes:
    """Smooth chroma and busy luma, over most of the legal range."""
    top = (1 << layout.depth) - 1
    planes = []
    for k, (h, w) in enumerate(layout.shapes(*SIZE)):
        y, x = np.mgrid[:h, :w] * np.array([SIZE[1] / h, SIZE[0] / w])[:, None, None]
        wave = np.sin((x + 3 * index) / WAVES[k]) * np.cos((y - 2 * index) / WAVES[k] + k)
        planes.append(
            np.round((0.5 + (0.3 if k == 0 else 0.16) * wave) * top).astype(np.uint8 if top < 256 else np.uint16)
        )
    return tuple(planes)


def frame(layout: PlaneLayout, index: int) -> av.VideoFrame:
    return to_frame(waves(layout, index), layout.pix_fmt, SIZE)


def made(path: Path, pix_fmt: str, tags: ColorTags | None = None) -> Path:
    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    return make_clip(
        path, codec="ffv1", pix_fmt=pix_fmt, size=SIZE, frames=3, tags=tags, draw=lambda k: frame(layout, k)
    )


def errors(clip: Path, result: Path, frames: int | None = None) -> int:
    """The largest difference of any sample of the first ``frames`` frames, in codes."""
    before, after = read_video(clip)[:frames], read_video(result)
    assert len(before) == len(after) > 0
    return max(
        int(np.abs(a.astype(int) - b.astype(int)).max())
        for (_, ours), (_, theirs) in zip(before, after, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


def through(identity: str, clip: Path, result: Path) -> int:
    upscale(Options(str(clip), str(result), model=ModelOptions(identity, 1), encode=LOSSLESS))
    with Source(str(clip)) as source, Source(str(result)) as output:
        assert (source.info.pix_fmt, source.info.color.tags) == (output.info.pix_fmt, output.info.color.tags)
    return errors(clip, result)


@pytest.mark.parametrize("matrix", [1, 6, 9], ids=["BT.709", "BT.601", "BT.2020"])
@pytest.mark.parametrize("range_", [1, 2], ids=["limited", "full"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le"])
def test_matrices_ranges_and_depths_are_exact_to_one_code(
    identity: str, tmp_path: Path, pix_fmt: str, range_: int, matrix: int
) -> None:
    clip = made(tmp_path / "in.mkv", pix_fmt, ColorTags(matrix, 1, 1, range_))
    assert through(identity, clip, tmp_path / "out.mkv") <= 1


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gbrp10le", "gbrp16le"])
def test_gray_and_rgb_are_exact(identity: str, tmp_path: Path, pix_fmt: str) -> None:
    clip = made(tmp_path / "in.mkv", pix_fmt)
    assert through(identity, clip, tmp_path / "out.mkv") <= (1 if pix_fmt.startswith("gray") else 0)


def test_a_real_clip_stays_what_it_is(identity: str, tmp_path: Path) -> None:
    clip = shared("clips/rabbit_320x240_h264_aac.mp4")
    part = {"model": ModelOptions(identity, 1), "encode": LOSSLESS, "duration": Fraction(1, 5)}
    report = upscale(Options(str(clip), str(tmp_path / "out.mkv"), **part))  # type: ignore[arg-type]
    assert report.frames_out == 6
    assert errors(clip, tmp_path / "out.mkv", frames=6) <= 1


def test_the_network_is_part_of_the_round(identity: str, tmp_path: Path) -> None:
    """Otherwise all of the above would hold for nothing."""
    state = load_file(identity)
    state["head.0.weight"] *= 0.9
    save_file(state, tmp_path / "dimmer.safetensors")
    clip = made(tmp_path / "in.mkv", "yuv420p")
    assert through(str(tmp_path / "dimmer.safetensors"), clip, tmp_path / "out.mkv") > 10
