"""Frames through an encoder and back, in memory: what a compressed video makes of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np

from rcan_video.errors import OutputError
from rcan_video.frames import Plane, PlaneLayout
from rcan_video.media.files import reason

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from numpy.typing import NDArray

DECODERS = {"libx264": "h264", "libx265": "hevc"}
"""The encoders that are known here, and what decodes their streams."""

_RATE = Fraction(25)
_QUIET = {"libx264": {}, "libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"}}


def roundtrip(
    frames: Sequence[Sequence[Plane]], layout: PlaneLayout, codec: str, options: Mapping[str, str]
) -> list[tuple[NDArray[Any], ...]]:
    """Encode frames (planes (H, W), even sizes) at 25 frames/s and decode them again, on one thread.

    ``options`` go to the encoder as they are (``crf``, ``preset``). Returns as many frames, in the same order.
    Raises OutputError where this FFmpeg has no such encoder or it refuses.
    """
    height, width = frames[0][0].shape
    try:
        encoder = cast("VideoCodecContext", av.CodecContext.create(codec, "w"))
        encoder.width, encoder.height, encoder.pix_fmt = width, height, layout.pix_fmt
        encoder.framerate, encoder.time_base = _RATE, 1 / _RATE
        encoder.thread_count = 1
        encoder.options = {**_QUIET[codec], **options}
        packets = []
        for number, planes in enumerate(frames):
            picture = av.VideoFrame.from_dlpack(tuple(planes), format=layout.pix_fmt)
            picture.pts, picture.time_base = number, 1 / _RATE
            packets += encoder.encode(picture)
        packets += encoder.encode(None)
        decoder = cast("VideoCodecContext", av.CodecContext.create(DECODERS[codec], "r"))
        decoder.thread_count = 1
        decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"{codec}: cannot compress {width}x{height} pictures here ({reason(error)})") from error
    if len(decoded) != len(frames):
        raise OutputError(f"{codec}: gave {len(decoded)} frames back for {len(frames)}")
    return [tuple(np.array(np.from_dlpack(plane)) for plane in frame.planes) for frame in decoded]
