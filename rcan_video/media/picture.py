"""Planes out of FFmpeg's frames and into them, on the same memory where that can be, else in another pixel format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from rcan_video.frames import Plane, PlaneLayout

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from numpy.typing import NDArray


def converted(frame: VideoFrame, pix_fmt: str, reformatter: VideoReformatter) -> VideoFrame:
    """``frame`` in another pixel format, in one thread: swscale's SIMD writes some samples past the end of a row, which
    the next row then overwrites. Of several threads, each with a slice of the picture, one may come last there and
    leave them: with PyAV's default, some 10-bit frames of 720 or 854 samples a row differed from run to run.

    Raises what PyAV raises where there is no such conversion: FFmpegError, OSError, ValueError.
    """
    return reformatter.reformat(frame, format=pix_fmt, threads=1)


def planes_of(frame: VideoFrame, layout: PlaneLayout, reformatter: VideoReformatter) -> tuple[NDArray[Any], ...]:
    """The planes (H, W) of ``layout``: views of the frame's memory, or of a copy where its format is packed. An alpha
    plane that the layout lacks is left out."""
    few = _few_bits(frame.format)
    if PlaneLayout.parse(frame.format.name) is None:
        frame = converted(frame, layout.pix_fmt, reformatter)
    planes = tuple(np.from_dlpack(plane) for plane in frame.planes[: len(layout.shapes(1, 1))])
    return tuple(_filled(plane, bits) for plane, bits in zip(planes, few, strict=True)) if few else planes


def _few_bits(pix_fmt: VideoFormat) -> tuple[int, ...]:
    """Bits of green, blue and red, the order of planar RGB, in RGB of less than 8 bits; none for all other formats.
    Bayer patterns are such: FFmpeg spreads the bits of their samples over the colours."""
    bits = tuple(c.bits for c in pix_fmt.components)
    if not pix_fmt.is_rgb or pix_fmt.has_palette or len(bits) != 3 or min(bits) >= 8:
        return ()
    return () if pix_fmt.name.startswith("bayer") else (bits[1], bits[2], bits[0])


def _filled(plane: NDArray[Any], bits: int) -> NDArray[Any]:
    """``plane`` with the lower bits of its samples made of their upper ``bits``, so that the brightest is 255: swscale
    leaves them 0 where it goes straight to planar RGB. On the way by rgb24 it fills them, but gets big-endian formats
    wrong."""
    while bits < 8:
        plane = plane | plane >> bits
        bits *= 2
    return plane


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
    return frame if PlaneLayout.parse(pix_fmt) is not None else converted(frame, pix_fmt, reformatter)
