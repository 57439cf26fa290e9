"""What becomes of every stream beside the video: copied, converted or left out, decided before the first frame.

The container's own muxer is asked, by writing a header into memory: tables of what a format takes are wrong sooner or
later, and some refusals come only with the header (attachments in MP4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import av
from av.audio.stream import AudioStream

from rcan_video.options import StreamOptions
from rcan_video.video import StreamInfo

if TYPE_CHECKING:
    from av.container.streams import StreamContainer
    from av.stream import Stream

Action = Literal["copy", "convert", "drop"]

# Text subtitles: what each container holds, and what it is given where the source has something else. Asking the muxer
# is no use here: MPEG-TS, for one, takes any of them as private data that no player understands.
_TEXT_SUBTITLES = frozenset(
    {"srt", "subrip", "ssa", "ass", "mov_text", "webvtt", "text", "microdvd", "subviewer", "sami", "realtext", "stl"}
)
_TEXT_OF = {"mp4": "mov_text", "mov": "mov_text", "webm": "webvtt", "matroska": "subrip"}

# Containers that keep the timecode of the first frame with the video: as a track that their muxer writes, or as a tag.
_TIMECODES = frozenset({"mp4", "mov", "matroska", "nut"})

# Containers that have chapters of their own, and so need no text track for them.
_CHAPTERS = frozenset({"mp4", "mov", "matroska", "webm", "nut"})


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """The fate of one stream. ``codec`` is that of the output, empty where it is dropped; ``why`` is for people and
    empty where a stream is simply copied; ``lossy`` says that something is lost which nobody asked to lose."""

    info: StreamInfo
    action: Action
    codec: str = ""
    why: str = ""
    lossy: bool = False

    def sentence(self) -> str:
        """What people are told."""
        stream = f"{self.info.kind} stream {self.info.index} ({self.info.codec})"
        if self.action == "copy":
            return f"{stream} is copied"
        if self.action == "convert":
            return f"{stream} is converted to {self.codec}: {self.why}"
        return f"{stream} is left out: {self.why}"


def holds_chapters(container: str) -> bool:
    """Whether a container (FFmpeg's muxer name) has chapters."""
    return container in _CHAPTERS


def fit(
    streams: StreamContainer,
    infos: Sequence[StreamInfo],
    container: str,
    options: StreamOptions,
    *,
    chapters: bool,
    pipe: bool,
    from_start: bool,
) -> tuple[StreamPlan, ...]:
    """A plan for each of ``infos``; ``streams`` are all of the input's, by index. ``chapters``: the input has some;
    ``pipe``: it can be read once only; ``from_start``: its first frame is kept."""
    if _holds_video_alone(container):
        return tuple(_lost(info, f"{container} holds video alone") for info in infos)
    return tuple(_plan(streams[info.index], info, container, options, chapters, pipe, from_start) for info in infos)


def _plan(
    stream: Stream,
    info: StreamInfo,
    container: str,
    options: StreamOptions,
    chapters: bool,
    pipe: bool,
    from_start: bool,
) -> StreamPlan:
    copy = StreamPlan(info, "copy", info.codec)
    if info.kind == "audio":
        if not options.audio:
            return StreamPlan(info, "drop", why="--no-audio")
        if _unheard(stream):
            return _lost(info, "no sound of it was found where the file begins")
        if options.audio_codec not in (None, "copy"):
            return StreamPlan(info, "convert", str(options.audio_codec), "--audio-codec")
        return copy
    if info.kind == "subtitle":
        return _plan_subtitle(stream, info, container, options)
    if info.kind == "data" and chapters and info.codec == "bin_data":
        fate = "are kept as such" if holds_chapters(container) else f"{container} has no place for"
        return StreamPlan(info, "drop", why=f"it holds the chapters, which {fate}")
    if info.kind == "data" and "timecode" in stream.metadata:
        if not from_start:
            return _lost(info, "it holds the timecode of the first frame, and the part begins later")
        if container in _TIMECODES:
            return StreamPlan(info, "drop", why="it holds the timecode, which is kept with the video")
        return _lost(info, f"{container} has no place for a timecode")
    if info.kind == "attachment" and container != "matroska":  # WebM and MPEG-TS take it, and then drop it
        return _lost(info, f"{container} has no place for attachments")
    if info.cover and container == "matroska" and not pipe:
        return StreamPlan(info, "convert", info.codec, "Matroska keeps cover art as an attachment")
    if info.cover and container != "mp4":  # MOV takes it into the header, and then drops the picture
        return _lost(info, f"{container} has no place for cover art")
    return copy if _takes(container, stream) else _lost(info, f"{container} does not take it")


def _lost(info: StreamInfo, why: str) -> StreamPlan:
    return StreamPlan(info, "drop", why=why, lossy=True)


def _unheard(stream: Stream) -> bool:
    """Whether sound is announced (DVB does so in advance) of which nothing is known: no muxer or encoder begins so."""
    if not isinstance(stream, AudioStream) or stream.codec_context is None:
        return False
    return not (stream.codec_context.sample_rate and stream.codec_context.channels)


def _plan_subtitle(stream: Stream, info: StreamInfo, container: str, options: StreamOptions) -> StreamPlan:
    if not options.subtitles:
        return StreamPlan(info, "drop", why="--no-subs")
    if info.codec not in _TEXT_SUBTITLES:
        if _takes(container, stream):
            return StreamPlan(info, "copy", info.codec)
        return _lost(info, f"{container} does not take it")
    target = _TEXT_OF.get(container)
    if target is None:
        return _lost(info, f"{container} holds no text subtitles: choose .mkv to keep it")
    if (target == "subrip" or info.codec == target) and _takes(container, stream):
        return StreamPlan(info, "copy", info.codec)  # Matroska takes most of them as they are
    styled = info.codec in ("ssa", "ass")
    styles = ", with little of its styles" if styled else ""
    return StreamPlan(info, "convert", target, f"the text subtitles of {container}{styles}", lossy=styled)


def _holds_video_alone(container: str) -> bool:
    output = av.open(BytesIO(), "w", format=container)
    try:
        return output.default_audio_codec == "none"
    finally:
        output.close()


def is_private(container: str, stream: Stream) -> bool:
    """Whether MPEG-TS would carry ``stream`` as private data, which no player understands: its muxer refuses nothing.

    A packet of zeros is written and the table of streams read back. What the muxer looks into (H.264) it knows.
    """
    if container != "mpegts" or stream.type == "data":
        return False
    file = BytesIO()
    output = av.open(file, "w", format=container)
    try:
        packet = av.Packet(bytes(64))
        packet.stream = output.add_stream_from_template(stream, opaque=True)
        packet.pts = packet.dts = 0
        packet.time_base = Fraction(1, 90_000)
        output.mux(packet)
        output.close()
    except (ValueError, av.FFmpegError):
        return False
    finally:
        with contextlib.suppress(av.FFmpegError, OSError):
            output.close()
    file.seek(0)
    with av.open(file, format=container) as read:
        return [s.type for s in read.streams] == ["data"]


def _takes(container: str, stream: Stream) -> bool:
    """Whether the muxer writes a header with ``stream`` in it, and a reader would know what it is."""
    if is_private(container, stream):
        return False
    output = av.open(BytesIO(), "w", format=container)
    try:
        output.add_stream_from_template(stream, opaque=True)
        output.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    finally:
        with contextlib.suppress(av.FFmpegError, OSError):
            output.close()
    return True
