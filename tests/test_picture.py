"""Frames in another pixel format: the same samples, however many cores there are."""

import re
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from rcan_video.media.picture import converted, planes_of
from rcan_video.media.probe import planar_layout

PACKAGE = Path(__file__).parents[1] / "rcan_video"


def test_a_conversion_gives_the_same_samples_every_time() -> None:
    """854 samples end inside a SIMD write. With swscale's threads about one frame in 25 was wrong on two cores."""
    frame = av.VideoFrame(854, 480, "p010le")
    noise = np.random.default_rng(0)
    for plane in frame.planes:
        samples = np.frombuffer(plane, np.uint16)
        samples[:] = noise.integers(0, 1 << 10, samples.size) << 6
    reformatter = VideoReformatter()
    luma, chroma = (np.frombuffer(p, np.uint16).reshape(p.height, -1) >> 6 for p in frame.planes)
    for _ in range(150):
        found = [np.from_dlpack(p) for p in converted(frame, "yuv420p10le", reformatter).planes]
        assert np.array_equal(found[0], luma[:, :854])
        assert np.array_equal(found[1], chroma[:, 0:854:2])
        assert np.array_equal(found[2], chroma[:, 1:854:2])


def test_every_conversion_goes_through_the_one_that_is_safe() -> None:
    callers = {p.name for p in PACKAGE.rglob("*.py") if re.search(r"\.reformat\(", p.read_text(encoding="utf-8"))}
    assert callers == {"picture.py"}


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("kind", ["444le", "444be", "555le", "555be", "565le", "565be", "8", "4_byte"])
def test_rgb_of_few_bits_reaches_from_black_to_white(order: str, kind: str) -> None:
    """swscale shifts 5 bits up to 8 on the way to planar RGB: white came out as 248, of 565 with a tint."""
    frame = av.VideoFrame(64, 48, order + kind)
    bits = [component.bits for component in frame.format.components]
    noise = np.random.default_rng(0)
    colors = [noise.integers(0, 1 << n, (48, 64)) for n in bits]
    for color, n in zip(colors, bits, strict=True):
        color[0, :2] = 0, (1 << n) - 1
    word = np.zeros((48, 64), int)
    for k in range(3) if order == "rgb" else (2, 1, 0):
        word = word << bits[k] | colors[k]
    stored = word.astype(np.uint8 if sum(bits) <= 8 else ">u2" if kind.endswith("be") else "<u2").view(np.uint8)
    np.frombuffer(frame.planes[0], np.uint8).reshape(48, -1)[:, : stored.shape[1]] = stored

    found = planes_of(frame, planar_layout(order + kind), VideoReformatter())

    for plane, k in zip(found, (1, 2, 0), strict=True):
        exact = colors[k] * 255 / ((1 << bits[k]) - 1)
        assert np.abs(plane - exact).max() < 1
        assert plane[0, :2].tolist() == [0, 255]
