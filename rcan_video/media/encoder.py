"""One video encoder in a container: opened at the real size, fed with frames, drained to the last packet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
from av.codec.context import Flags
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from rcan_video.errors import OutputError, UsageError
from rcan_video.frames import Frame
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.files import elsewhere, reason
from rcan_video.media.fit import is_private
from rcan_video.media.picture import frame_of
from rcan_video.size import turned
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


class VideoEncoder:
    """The encoder that ``target`` describes, for frames of ``info`` enlarged, as a new stream of ``output``.

    ``time_base`` is that of the PTS and durations given to ``encode``. ``options`` replaces those of the target.

    Raises OutputError where the container or the encoder refuses, UsageError for options that the encoder does not
    know.
    """

    def __init__(
        self,
        output: OutputContainer,
        target: VideoTarget,
        info: VideoInfo,
        time_base: Fraction,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._target = target
        self._time_base = time_base
        self._reformatter = VideoReformatter()
        self.stream = self._add(output, info, dict(target.options if options is None else options))

    def encode(self, frame: Frame, pts: int, duration: int) -> list[Packet[VideoStream]]:
        """Encode one frame; its planes may be slices of memory that nobody overwrites while they are referenced."""
        picture = self._picture(frame)
        picture.pts, picture.duration, picture.time_base = pts, duration, self._time_base
        return self.stream.encode(picture)

    def flush(self, frames: int) -> list[Packet[VideoStream]]:
        """The packets still held back, where ``frames`` frames were encoded in all."""
        packets = self.stream.encode(None)
        if frames <= 2:
            # x265 makes up the DTS of streams this short (x265 issue 781), and nothing is reordered in them.
            for packet in packets:
                packet.dts = packet.pts
        return packets

    def _add(self, output: OutputContainer, info: VideoInfo, options: dict[str, str]) -> VideoStream:
        target, tags, container = self._target, self._target.color.tags, output.format.name
        if target.codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only: its banner would run over the progress bar
        refusal = f"{container} cannot carry {target.codec} video: choose another {elsewhere(container)}"
        try:
            stream = output.add_stream(target.codec, rate=info.rate, options=options)
        except ValueError as error:
            raise OutputError(refusal) from error
        if is_private(container, stream):
            raise OutputError(refusal)
        stream = cast("VideoStream", stream)
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = target.width, target.height, target.pix_fmt
        stream.time_base = context.time_base = self._time_base
        context.color_range = tags.range
        context.colorspace = tags.matrix
        context.color_primaries = tags.primaries
        context.color_trc = tags.transfer
        if target.sar is not None:
            context.sample_aspect_ratio = target.sar
        context.flags |= Flags.frame_duration
        tag_for_apple(stream, target.codec, container)
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(
                f"the encoder {target.codec} does not open for {target.width}x{target.height} {target.pix_fmt}: "
                f"{reason(error)}; see --codec, --preset and --encoder-opt"
            ) from error
        wanted = (target.width, target.height, target.pix_fmt, self._time_base)
        if (context.width, context.height, context.pix_fmt, context.time_base) != wanted:
            raise UsageError("--encoder-opt changes the size, pixel format or time base of the output: leave that out")
        for key in context.options:  # what an encoder does not know stays behind
            raise UsageError(f"the encoder {target.codec} has no option {key!r}: see ffmpeg -h encoder={target.codec}")
        return stream

    def _picture(self, frame: Frame) -> VideoFrame:
        target = self._target
        picture = frame_of(
            frame.planes, target.layout, (target.width, target.height), target.pix_fmt, self._reformatter
        )
        tags = target.color.tags  # ProRes reads them here, not from the encoder's context
        picture.color_range, picture.colorspace = tags.range, tags.matrix
        picture.color_primaries, picture.color_trc = tags.primaries, tags.transfer
        return picture


def tag_for_apple(stream: VideoStream, codec: str, container: str) -> None:
    """Give HEVC in MP4 and MOV the tag that Apple's players want; FFmpeg's default is hev1."""
    if codec in ("libx265", "hevc_nvenc") and container in ("mp4", "mov"):
        stream.codec_context.codec_tag = "hvc1"


def dress_video(stream: VideoStream, info: VideoInfo, target: VideoTarget, *, from_start: bool) -> None:
    """Everything that the container says of the enlarged video: tags, disposition, display matrix.

    ``from_start`` False: it is a part that begins later, for which the timecode, that of the first frame, is wrong.
    """
    stream.metadata.update({k: v for k, v in info.stream_tags.items() if from_start or k.lower() != "timecode"})
    stream.disposition = Disposition.default
    if info.display_matrix is not None:
        across, down = target.width / info.width, target.height / info.height
        stream.set_display_matrix(_enlarged(info.display_matrix, (down, across) if turned(info) else (across, down)))


def _enlarged(matrix: Sequence[int], factors: tuple[float, float]) -> list[int]:
    """The display matrix of a larger picture: its shift (elements 6 and 7, in pixels as displayed) grows with it."""
    return [round(value * factors[place - 6]) if place in (6, 7) else value for place, value in enumerate(matrix)]
