"""Frames into a container: encoder, muxer and passengers behind one ``write``."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
from av.codec.context import Flags
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from rcan_video.errors import OutputError, UsageError
from rcan_video.frames import Chapter, Frame, VideoInfo
from rcan_video.media.codecs import VideoTarget, writes_hdr
from rcan_video.media.files import MP4_FAMILY, elsewhere, open_output, output_errors, reason
from rcan_video.media.fit import StreamPlan, fit, holds_chapters, is_private
from rcan_video.media.hardware import plan_for_this_machine
from rcan_video.media.packets import FilePackets, PipePackets, Window
from rcan_video.media.picture import frame_of
from rcan_video.media.streams import Passengers
from rcan_video.media.verify import Ledger
from rcan_video.options import EncodeOptions, StreamOptions

if TYPE_CHECKING:
    from av.container.core import Chapter as AvChapter
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Encoders that write the sample aspect ratio into their stream. For the others the container has to keep it, and
# PyAV cannot tell it to Matroska and WebM.
_SHAPED = frozenset({"libx264", "libx264rgb", "libx265", "h264_nvenc", "hevc_nvenc", "mpeg2video", "mpeg4"})


# Containers without a time for each frame, and encoders that know a few rates only.
_UNTIMED = frozenset({"yuv4mpegpipe", "avi", "h264", "hevc", "obu"})
_FIXED_RATE = frozenset({"mpeg1video", "mpeg2video"})


_FINE = 96_000  # ticks per second of edit lists, or as close to it as the source's ticks come


class Writer:
    """The output. Opened whole (encoder at the real size, header for the real streams) before the first frame.

    ``path`` None is standard output. One thread at a time. ``finish`` makes the file complete; leaving the ``with``
    without it leaves a part, which is the caller's to remove.

    Raises OutputError and UsageError at construction, OutputError on writing.
    """

    target: VideoTarget

    def __init__(
        self,
        path: Path | None,
        info: VideoInfo,
        scale: int,
        options: EncodeOptions,
        *,
        streams: StreamOptions | None = None,
        format: str | None = None,
        window: Window | None = None,
        packets: FilePackets | PipePackets | None = None,
        name: str,
        stop: threading.Event,
    ) -> None:
        self._name = name
        self._info = info
        self._reformatter = VideoReformatter()
        window = window or Window()
        self._shift = round(window.shift / info.time_base)
        self._first: int | None = None
        self._end = 0  # ticks of the output, behind the last frame
        self._delay: int | None = None  # ticks from the first packet's DTS to its PTS
        self._uneven = False
        self._output = open_output(
            path, format=format, options=_container_options(info.time_base, piped=path is None), stop=stop
        )
        self.ledger = Ledger()
        self._packets = packets
        self._passengers: Passengers | None = None
        self.plans: tuple[StreamPlan, ...] = ()
        try:
            self.container = self._output.format.name
            if self.container == "yuv4mpegpipe":  # more than 8 bits are an extension there, which all readers know
                self._output.container_options["strict"] = "unofficial"
            self.target = plan_for_this_machine(info, scale, self.container, options)
            self.notices = list(self.target.notices)
            self.losses = [f"{name} metadata of each frame cannot be kept" for name in info.dynamic]
            if info.alpha and not info.layout.alpha:
                self.losses.append(f"transparency is left out: this FFmpeg has no decoder for that of {info.codec}")
            elif info.alpha and not self.target.alpha:
                self.losses.append(self.target.lost_alpha(self.container))
            if info.hdr is not None and not writes_hdr(self.target.codec):
                self.losses.append(f"{self.target.codec} writes no static HDR metadata: libx265 and libsvtav1 do")
            # Where times cannot be stored, frames follow each other at the nominal rate.
            self._counts = self.container in _UNTIMED or self.target.codec in _FIXED_RATE
            self._time_base = 1 / info.rate if self._counts else info.time_base
            self._stream = self._add_video(from_start=window.start is None)
            if packets is not None:
                self._board(packets, streams or StreamOptions(), window)
            if holds_chapters(self.container):
                self._output.set_chapters(_chapters(info.chapters, window))
            elif info.chapters:
                self.losses.append(f"{self.container} holds no chapters: {len(info.chapters)} are left out")
            self._output.metadata.update(info.tags)
            self._write_header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def frames(self) -> int:
        """Frames encoded so far."""
        return self.ledger.video.packets

    def _write_header(self) -> None:
        try:
            self._output.start_encoding()
        except (
            av.error.ArgumentError,
            av.error.InvalidDataError,
            av.error.PermissionError,
        ) as error:  # muxers say no more than that, and mean one of the streams
            offered = ", ".join([self.target.codec, *(f"{p.info.kind} {p.codec}" for p in self.plans if p.codec)])
            raise OutputError(
                f"{self._name} cannot be written: {self.container} refuses {offered}; choose another "
                f"{elsewhere(self.container)}, or --codec and --audio-codec"
            ) from error
        except (av.FFmpegError, ValueError, OSError):
            with output_errors(self._name):
                raise

    def write(self, frame: Frame) -> None:
        """Encode one frame; its planes may be slices of memory that nobody overwrites while they are referenced."""
        picture = self._picture(frame)
        if self._counts:
            picture.pts, picture.duration = self.frames, 1
        else:
            picture.pts, picture.duration = frame.pts + self._shift, frame.duration
        picture.time_base = self._time_base
        self._end = picture.pts + picture.duration
        self.ledger.video.note(picture.pts, picture.duration, self._time_base)
        self._first = frame.pts if self._first is None else self._first
        even = (frame.pts - self._first) * self._info.time_base * self._info.rate
        self._uneven = self._uneven or abs(even - self.frames) > 1
        with output_errors(self._name):
            self._mux(self._stream.encode(picture))

    def late_notices(self) -> list[str]:
        """What only the end has shown, in sentences."""
        if self._counts and self._uneven:
            return [
                f"{self.container} with {self.target.codec} stores no time for each frame: those of the input are "
                f"uneven and are lost, all frames come at {float(self._info.rate):.6g} frames/s; --fps-mode cfr "
                "keeps pace"
            ]
        return []

    def finish(self) -> None:
        """Flush the encoder and the passengers, and write the trailer."""
        with output_errors(self._name):
            packets = self._stream.encode(None)
            if packets and self.container in MP4_FAMILY:
                self._end_track(packets[-1])
            if self.frames <= 2:
                # x265 makes up the DTS of streams this short (x265 issue 781), and nothing is reordered in them.
                for packet in packets:
                    packet.dts = packet.pts
            self._mux(packets)
            if self._passengers is not None:
                self._passengers.mux_until(None)
            self._output.close()

    def _end_track(self, last: Packet[Stream]) -> None:
        """Let the packet decoded last reach to the end of the frame shown last.

        The MP4 family stores how long each packet is decoded and adds that up to the track's duration. Where frames are
        reordered, the sum ends too early, unless all of them last equally long.
        """
        if last.pts is None or last.dts is None:
            return
        last.duration = self._end - last.pts
        last.dts = max(last.dts, last.pts - (self._delay or 0))

    def close(self) -> None:
        """Let go of everything. Without ``finish`` before, nobody wants the file, nor to hear that its end cannot be
        written: that would hide the error that brought us here."""
        if self._packets is not None:
            self._packets.close()
        with contextlib.suppress(av.FFmpegError, OSError):
            self._output.close()

    def _board(self, packets: FilePackets | PipePackets, options: StreamOptions, window: Window) -> None:
        """Decide what becomes of the other streams, and take on board those that stay."""
        info = self._info
        self.plans = fit(
            packets.container.streams,
            info.others,
            self.container,
            options,
            chapters=bool(info.chapters),
            pipe=isinstance(packets, PipePackets),
            from_start=window.start is None,
        )
        self._passengers = Passengers(self._output, self.ledger, packets, self.plans, window, options.audio_bitrate)

    def _add_video(self, *, from_start: bool) -> VideoStream:
        target, tags = self.target, self.target.color.tags
        if target.codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only: its banner would run over the progress bar
        refusal = f"{self.container} cannot carry {target.codec} video: choose another {elsewhere(self.container)}"
        try:
            stream = self._output.add_stream(target.codec, rate=self._info.rate, options=dict(target.options))
        except ValueError as error:
            raise OutputError(refusal) from error
        if is_private(self.container, stream):
            raise OutputError(refusal)
        stream = cast("VideoStream", stream)
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = target.width, target.height, target.pix_fmt
        stream.time_base = context.time_base = self._time_base
        # The timecode is that of the first frame, and would be wrong for a part that begins later.
        tags_kept = {k: v for k, v in self._info.stream_tags.items() if from_start or k.lower() != "timecode"}
        stream.metadata.update(tags_kept)
        stream.disposition = Disposition.default
        context.color_range = tags.range
        context.colorspace = tags.matrix
        context.color_primaries = tags.primaries
        context.color_trc = tags.transfer
        if self._info.sar is not None:
            context.sample_aspect_ratio = self._info.sar
            if target.codec not in _SHAPED and self.container in ("matroska", "webm"):
                self.notices.append(
                    f"{target.codec} in {self.container} loses the sample aspect ratio {self._info.sar}: .mp4 keeps it"
                )
        context.flags |= Flags.frame_duration
        if self._info.display_matrix is not None:
            stream.set_display_matrix(_enlarged(self._info.display_matrix, target.width / self._info.width))
        if target.codec in ("libx265", "hevc_nvenc") and self.container in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # the tag that Apple's players want; FFmpeg's default is hev1
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
        target = self.target
        picture = frame_of(
            frame.planes, target.layout, (target.width, target.height), target.pix_fmt, self._reformatter
        )
        tags = target.color.tags  # ProRes reads them here, not from the encoder's context
        picture.color_range, picture.colorspace = tags.range, tags.matrix
        picture.color_primaries, picture.color_trc = tags.primaries, tags.transfer
        return picture

    def _mux(self, packets: Iterator[Packet[Stream]] | list[Packet[Stream]]) -> None:
        for packet in packets:
            if self._delay is None and packet.pts is not None and packet.dts is not None:
                self._delay = packet.pts - packet.dts
            if self._passengers is not None and packet.dts is not None:
                self._passengers.mux_until(packet.dts * Fraction(packet.time_base))
            self._output.mux(packet)


def _enlarged(matrix: Sequence[int], scale: float) -> list[int]:
    """The display matrix of a larger picture: its shift (elements 6 and 7, in pixels) grows with it."""
    return [round(value * scale) if place in (6, 7) else value for place, value in enumerate(matrix)]


def _chapters(chapters: Sequence[Chapter], window: Window) -> list[AvChapter]:
    """Those that begin before the end of the window and end after its start, as PyAV takes them."""
    kept = [
        c
        for c in chapters
        if (window.end is None or c.start < window.end) and (window.start is None or c.end > window.start)
    ]
    tick = Fraction(1, 1_000_000)
    return [
        {
            "id": number,
            "start": round(max(c.start, window.start or c.start) / tick + window.shift / tick),
            "end": round(min(c.end, window.end or c.end) / tick + window.shift / tick),
            "time_base": tick,
            "metadata": dict(c.tags),
        }
        for number, c in enumerate(kept, 1)
    ]


def _container_options(time_base: Fraction, *, piped: bool) -> dict[str, str]:
    """MP4 and MOV: count in the source's ticks, so that every PTS and the start survive exactly; into a pipe in
    fragments, since nobody can go back there. ``delay_moov``: the header waits for the first packets, which say what
    its edit lists need. Those count in fractions of the ticks where these are coarse: the sound begins by them, too."""
    options = {"movflags": "frag_keyframe+delay_moov+default_base_moof"} if piped else {}
    ticks = time_base.denominator
    if ticks < 1 << 31:
        options |= {"video_track_timescale": str(ticks), "movie_timescale": str(ticks * max(1, _FINE // ticks))}
    return options
