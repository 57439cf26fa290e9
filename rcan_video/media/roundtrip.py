"""Frames through an encoder and back, in memory: what a compressed video makes of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np

from rcan_video.errors import OutputError
from rcan_video.frames import Plane, PlaneLayout
from rcan_video.media.files import reason

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

DECODERS = {"libx264": "h264", "libx265": "hevc"}
"""The encoders that are known here, and what decodes their streams."""

_RATE = Fraction(25)
# Quiet, and the same bits every time: with its assembly, x264's macroblock tree differs from run to run (320x180: in
# 10 of 25 runs; 192x192 now and then). In plain C it takes four times as long.
_ALWAYS = {
    "libx264": {"x264-params": "no-asm=1"},
    "libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"},
}


def roundtrip(
    frames: Iterable[Sequence[Plane]], layout: PlaneLayout, codec: str, options: Mapping[str, str]
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Encode frames (planes (H, W), even sizes) at 25 frames/s and decode them again, on one thread.

    ``options`` go to the encoder as they are (``crf``, ``preset``). Gives as many frames, in the same order, while
    it takes them: the encoder holds some tens back. Raises OutputError where this FFmpeg has no such encoder or where
    it refuses.
    """
    coming = iter(frames)
    first = next(coming, None)
    if first is None:
        return
    height, width = first[0].shape
    balance = 0
    try:
        encoder = cast("VideoCodecContext", av.CodecContext.create(codec, "w"))
        encoder.width, encoder.height, encoder.pix_fmt = width, height, layout.pix_fmt
        encoder.framerate, encoder.time_base = _RATE, 1 / _RATE
        encoder.thread_count = 1
        encoder.options = {**_ALWAYS[codec], **options}
        decoder = cast("VideoCodecContext", av.CodecContext.create(DECODERS[codec], "r"))
        decoder.thread_count = 1
        for number, planes in enumerate(chain([first], coming, [None])):
            picture = None
            if planes is not None:
                picture = av.VideoFrame.from_dlpack(tuple(planes), format=layout.pix_fmt)
                picture.pts, picture.time_base = number, 1 / _RATE
                balance += 1
            packets: list[Packet[VideoStream] | None] = [*encoder.encode(picture)]
            for packet in packets if planes is not None else [*packets, None]:
                for frame in decoder.decode(packet):
                    balance -= 1
                    yield tuple(np.array(np.from_dlpack(plane)) for plane in frame.planes)
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"{codec}: cannot compress {width}x{height} pictures here ({reason(error)})") from error
    if balance:
        raise OutputError(f"{codec}: gave {balance} frames less back than it was given")
