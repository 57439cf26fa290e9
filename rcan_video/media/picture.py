"""Planes out of FFmpeg's frames and into them, on the same memory where that can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from rcan_video.frames import Plane, PlaneLayout

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from numpy.typing import NDArray


def planes_of(frame: VideoFrame, layout: PlaneLayout, reformatter: VideoReformatter) -> tuple[NDArray[Any], ...]:
    """The planes (H, W) of ``layout``: views of the frame's memory, or of a copy where its format is packed. An alpha
    plane that the layout lacks is left out."""
    if PlaneLayout.parse(frame.format.name) is None:
        frame = reformatter.reformat(frame, format=layout.pix_fmt)
    return tuple(np.from_dlpack(plane) for plane in frame.planes[: len(layout.shapes(1, 1))])


def frame_of(
    planes: Sequence[Plane], layout: PlaneLayout, size: tuple[int, int], pix_fmt: str, reformatter: VideoReformatter
) -> VideoFrame:
    """A frame of ``size`` (width, height) from planes of ``layout``, cut at the right and the bottom where they are
    larger: on their memory, or on a copy where ``pix_fmt`` is packed or PyAV wraps none (odd sizes of subsampled
    formats, and memory that is read-only)."""
    width, height = size
    cut = tuple(np.asarray(p)[:h, :w] for p, (h, w) in zip(planes, layout.shapes(width, height), strict=True))
    if width % (1 << layout.sub_w) == 0 and height % (1 << layout.sub_h) == 0:
        frame = av.VideoFrame.from_dlpack([np.require(p, requirements="W") for p in cut], format=layout.pix_fmt)
    else:
        frame = av.VideoFrame(width, height, layout.pix_fmt)
        for plane, data in zip(frame.planes, cut, strict=True):
            rows = np.frombuffer(memoryview(plane), data.dtype).reshape(-1, plane.line_size // data.itemsize)
            rows[: data.shape[0], : data.shape[1]] = data
    return frame if PlaneLayout.parse(pix_fmt) is not None else reformatter.reformat(frame, format=pix_fmt)
