"""Transparency: which frames have it, who decodes it, and where it can be kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import VideoReformatter

from rcan_video.media.picture import converted

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# VP8 and VP9 carry alpha as a second stream beside each packet, which FFmpeg's own decoders for them pass over.
_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

# Encoders that store alpha. Many more list formats with an alpha channel, to ignore it (NVENC) or to fail (x265).
_ENCODERS = frozenset(
    {"apng", "cfhd", "ffv1", "ffvhuff", "huffyuv", "magicyuv", "png", "prores_ks", "qtrle", "utvideo"}
)
# Those that do so in some containers alone: beside their packets, or under a name of the pixel format.
_ENCODERS_IN = {
    "libvpx": frozenset({"matroska", "webm"}),
    "libvpx-vp9": frozenset({"matroska", "webm"}),
    "rawvideo": frozenset({"nut"}),
}
# What libvpx lists with alpha beyond this it does not open.
_OPENED = {"libvpx-vp9": frozenset({"yuva420p"})}


def usable_formats(codec: str, formats: Sequence[str]) -> list[str]:
    """Pixel formats that an encoder lists, without surfaces of hardware and those with alpha that it fails on."""
    opened = _OPENED.get(codec, formats)
    stored = [name for name in formats if av.VideoFormat(name, 16, 16).components]
    return [name for name in stored if name in opened or not _lists_alpha(name)]


def _lists_alpha(pix_fmt: str) -> bool:
    return any(component.is_alpha for component in av.VideoFormat(pix_fmt, 16, 16).components)


def keeps_alpha(codec: str, container: str) -> bool:
    """Whether transparency reaches a file of this container (FFmpeg's muxer name) through this encoder."""
    return codec in _ENCODERS or container in _ENCODERS_IN.get(codec, ())


def has_alpha(frame: VideoFrame) -> bool:
    """Whether a frame has an alpha channel; one with a palette, whether anything in it is transparent."""
    if not frame.format.has_palette:
        return any(component.is_alpha for component in frame.format.components)
    return bool(np.from_dlpack(converted(frame, "gbrap", VideoReformatter()).planes[3]).min() < 255)


def hidden_alpha(stream: VideoStream) -> bool:
    """Whether a stream has transparency that nothing here decodes."""
    return _marked(stream) and alpha_decoder(stream) is None


def _marked(stream: VideoStream) -> bool:
    return stream.metadata.get("alpha_mode") == "1" and stream.codec_context.name in _DECODERS


def alpha_decoder(stream: VideoStream, threads: int = 1) -> AlphaDecoder | None:
    """A decoder for a stream whose transparency its own decoder would drop; None where there is none to drop, or no
    such decoder."""
    if not _marked(stream):
        return None
    try:
        context = cast("VideoCodecContext", av.CodecContext.create(_DECODERS[stream.codec_context.name], "r"))
    except UnknownCodecError:
        return None
    context.extradata = stream.codec_context.extradata
    context.thread_count = threads
    return AlphaDecoder(context, stream)


class AlphaDecoder:
    """libvpx in the place of a stream's own decoder.

    A packet may come without its alpha, and then so does the frame; all frames leave in the format of the first one.
    ``lost`` counts those that were transparent though the first one had no alpha. ``plain`` is the first frame from
    the stream's own decoder, which alone knows what the container says of all frames: colours, rotation, HDR.
    """

    def __init__(self, context: VideoCodecContext, stream: VideoStream) -> None:
        self._context = context
        self._stream = stream
        self.plain: VideoFrame | None = None
        self._reformatter = VideoReformatter()
        self._format = ""
        self.lost = 0

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that are ready; ``None`` and an empty packet flush. Raises FFmpegError."""
        if self.plain is None:
            self.plain = next(iter(self._stream.decode(packet)), None)
        return [self._conform(frame) for frame in self._context.decode(packet)]

    def flush(self) -> None:
        """Forget what was decoded: the next packet comes from elsewhere in the file."""
        self._context.flush_buffers()

    def _conform(self, frame: VideoFrame) -> VideoFrame:
        name = frame.format.name
        self._format = self._format or name
        if name == self._format or {name, self._format} != {"yuv420p", "yuva420p"}:
            return frame
        self.lost += name == "yuva420p"
        return converted(frame, self._format, self._reformatter)
