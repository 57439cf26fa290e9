"""Frames in another pixel format: the same samples, however many cores there are."""

import re
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from rcan_video.media.picture import converted

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
