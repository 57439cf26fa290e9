"""Frames out of a container, in presentation order, drained to the last one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, Any, Self, cast

import av
import av.error
from av.codec.context import Flags
from av.stream import Discard
from av.video.reformatter import VideoReformatter

from rcan_video.errors import InputError, InputHangs
from rcan_video.frames import Frame, Mark, Plane, VideoInfo, digest
from rcan_video.media.alpha import AlphaDecoder, alpha_decoder
from rcan_video.media.damage import Damage
from rcan_video.media.deinterlace import Deinterlacer, Stamped
from rcan_video.media.files import PIPE, reason, shown
from rcan_video.media.hwdecode import HardwareDecoding
from rcan_video.media.index import Index
from rcan_video.media.packets import demux, packet_time
from rcan_video.media.picture import planes_of
from rcan_video.media.probe import best_video, describe, nominal_rate, time_base
from rcan_video.media.timeline import Timeline
from rcan_video.options import Deinterlace, HwAccel, OnCorrupt

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Fixed, not taken from the machine: damaged streams decode differently for another count, and a file should not
# depend on where it was made. Four keep up with any network here.
_THREADS = 4

# How far behind the pictures, in seconds, a pipe may bring the sound that belongs to them.
_LAG = Fraction(5)

# Timestamps that go back by more than this have started again. B-frames and rounding stay far below.
_JUMP = Fraction(1)


class Source:
    """An input, opened once: ``info`` says what it is, ``frames()`` gives its frames from first to last.

    ``start`` and ``duration`` (seconds, counted from the first frame) choose a part of it; ``deinterlace`` is done
    before anything is described or cut, so that a part is what it would be in the whole. ``hwaccel`` says what decodes
    where it can (``media/hwdecode.py``). An input that cannot be
    read twice (a pipe; ``stop`` ends it) hands the packets of its other streams to ``on_packet`` as it meets them.
    With an ``index`` of the file, what lies before the part, or before the place to ``resume`` at, is not decoded
    where that changes nothing. Not for two threads at once, but it may be handed from one to another.

    ``origin`` is the PTS of the input's first frame, ``end`` the one that the part ends before, in ticks, None where it
    has no end of its own. ``damage`` counts what
    could not be decoded; with ``on_corrupt`` "fail" the first of it ends the reading.

    Raises InputError: nothing to open, no video, no frame that can be decoded, no frame in the chosen part, damage
    where that is to fail. Raises DeviceError where the GPU that decodes fails on the way.
    """

    info: VideoInfo

    def __init__(
        self,
        path: str,
        *,
        index: Index | None = None,
        start: Fraction | None = None,
        duration: Fraction | None = None,
        deinterlace: Deinterlace = "off",
        hwaccel: HwAccel = "none",
        on_corrupt: OnCorrupt = "skip",
        max_pixels: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._path = path
        self._index = index
        self._part = (start or Fraction(0), duration)
        self._mode = deinterlace
        self._max_pixels = max_pixels
        self._stop = stop
        self.damage = Damage(path, on_corrupt)
        self._hardware = HardwareDecoding(hwaccel, path)
        self._reformatter = VideoReformatter()
        self._others: deque[Packet[Stream]] = deque()  # met before anybody listened
        self.on_packet: Callable[[Packet[Stream]], None] = self._others.append
        self.decoded = 0
        self.alive = time.monotonic()
        """When the last packet came."""
        self._from: Fraction | None = None
        self._opaque = False
        self._landed: tuple[int, int] | None = None  # damaged packets and frames before the place resumed at
        self._open()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, InputHangs):
            self.close()

    def close(self) -> None:
        self.container.close()

    def listen(self, on_packet: Callable[[Packet[Stream]], None]) -> None:
        """Send the packets of other streams to ``on_packet``, those met so far first."""
        while self._others:
            on_packet(self._others.popleft())
        self.on_packet = on_packet

    def first(self) -> Frame:
        """The first frame that ``frames`` will give."""
        raw, pts, duration = self._first
        return Frame(self._planes(raw), pts, duration, self.decoded)

    def frames(self) -> Iterator[Frame]:
        """Every frame of the chosen part, or of what follows the place to resume at, once. Call it once for each.

        Raises InputError where reading fails, or where the picture changes its size or layout on the way.
        """
        self._used = True
        for raw, pts, duration in self._to_the_end(chain([self._first], self._stamped)):
            if self.end is not None and pts >= self.end:
                if self._path == PIPE:
                    self._read_past(self.end)
                return
            if raw.is_corrupt and self._settled:
                self.damage.frame(self.decoded)
            if self._landed is not None and self._landed != (self.damage.packets, self.damage.frames):
                yield from self._from_the_top(self.decoded)
                return
            frame = Frame(self._planes(raw), pts, duration, self.decoded)
            self.decoded += 1
            yield frame

    def _from_the_top(self, place: int) -> Iterator[Frame]:
        """Frames from ``place`` on, where damage was met behind a landing: what a decoder shows for what is missing
        hangs on all that it has decoded before, and so does what counts as damaged."""
        self._rewind()
        yield from (frame for frame in self.frames() if frame.index >= place)

    def _to_the_end(self, frames: Iterator[Stamped]) -> Iterator[Stamped]:
        """``frames``, the last of an MP4 shown as long as the track lasts: what FFmpeg says of its duration is that of
        the packet decoded last, another one where frames are reordered."""
        stream = self._stream
        if not stream.duration or "mp4" not in self.container.format.name:
            yield from frames
            return
        end = (stream.start_time or 0) + stream.duration
        count = self.decoded + 1
        held = next(frames)
        for following in frames:
            yield held
            held = following
            count += 1
        raw, pts, duration = held
        whole = count == stream.frames and not self.damage.packets
        yield raw, pts, max(duration, end - pts) if whole else duration

    def _read_past(self, end: int) -> None:
        """Read a pipe on, decoding nothing: sound may lie behind the pictures that it belongs to."""
        enough = end + ceil(_LAG / self._time_base)
        for packet in self._read:
            if packet is not None and packet.pts is not None and packet.pts >= enough:
                return

    def restart(self) -> None:
        """Let ``frames`` begin with the first one, wherever it was before."""
        if self._used:
            self._rewind()

    @property
    def seekable(self) -> bool:
        """Whether ``resume`` may be tried."""
        return self._index is not None and self._index.seekable

    def mark(self, frame: Frame) -> Mark:
        """The place of ``frame``, which ``frames`` gave last."""
        return Mark(frame.index, frame.pts, digest(frame.planes), self.damage.packets, self.damage.frames)

    def resume(self, mark: Mark) -> bool:
        """Let ``frames`` begin with the frame of ``mark``, without decoding all that lies before; for a ``seekable``
        input.

        False where that gave another frame than reading from the top did: then ``frames`` begins with the first one.
        """
        first = self._land(mark.pts)
        if first is None or first[1] != mark.pts or digest(self._planes(first[0])) != mark.digest:
            self._rewind()
            return False
        self._first = first
        self.decoded = mark.index
        self._landed = (mark.damaged_packets, mark.damaged_frames)
        self._used = True
        self.damage.packets, self.damage.frames = self._landed
        return True

    def leave_alpha_out(self) -> None:
        """Give all frames without their alpha plane: it would be computed for nothing."""
        self._opaque = True
        self.info = replace(self.info, layout=replace(self.info.layout, alpha=False))

    def first_notices(self) -> list[str]:
        """What is done to the frames, in sentences."""
        return [*self._hardware.notices(), *self._fields.notices()]

    def notices(self) -> list[str]:
        """What had to be repaired, in sentences; complete once the frames are used up."""
        found = self._fields.late_notices(self.decoded)
        found += self.damage.notices(self.decoded, self.info.frames)
        start, duration = self._part
        if self._index is not None and not start and duration is None:
            silent = self._index.frames - self.decoded - self.damage.packets
            if silent > 0:
                found.append(
                    f"{silent} packets of {self._path} gave no frame, and no error: they are damaged, or come before "
                    "the first keyframe"
                )
        if isinstance(self._decoder, AlphaDecoder) and self._decoder.lost:
            found.append(
                f"{self._decoder.lost} frames of {shown(self._path)} are transparent, which is left out: "
                "the first ones have no alpha channel"
            )
        if self._timeline.missing:
            found.append(
                f"{self._timeline.missing} frames carry no timestamp: theirs are made from the rate, "
                f"{float(self.info.rate):.6g} frames/s"
            )
        if self._timeline.repaired:
            found.append(f"{self._timeline.repaired} timestamps repeat or go back: each was moved up by a tick")
        return found

    def _rewind(self) -> None:
        """Let ``frames`` begin with the first one again."""
        self.container.close()
        self._open()
        self._begin()

    def _open(self) -> None:
        self.container = self._hardware.open(self._stop)
        try:
            self._stream = best_video(self.container, self._path)
            for stream in self.container.streams:
                # A file is read a second time for its other streams, at the encoder's pace.
                if stream is not self._stream and self._path != PIPE:
                    stream.discard = Discard.all
            context = self._stream.codec_context
            if self._max_pixels is not None:
                if context.width * context.height > self._max_pixels:
                    raise InputError(
                        f"{shown(self._path)} has a picture of {context.width}x{context.height}: raise --max-pixels "
                        f"above {self._max_pixels} if that is meant"
                    )
                # What the stream says later of its size is refused before memory is taken for it; with room for the
                # whole blocks that decoders count in.
                context.options = {"max_pixels": str(2 * self._max_pixels + (1 << 20))}
            # Not by frame: such a decoder reports a damaged packet some packets later, and while it is drained PyAV
            # then loses every frame that comes behind the report.
            self._stream.thread_type = "SLICE"
            self._stream.codec_context.thread_count = _THREADS
            self._decoder: VideoStream | AlphaDecoder = alpha_decoder(self._stream, _THREADS) or self._stream
        except BaseException:
            self.container.close()
            raise
        self.decoded = 0
        self._used = False  # whether ``frames`` would begin elsewhere than with the first one
        self.damage.packets = self.damage.frames = 0
        self._landed = None
        self._settled = False
        self._time_base = time_base(self._stream)
        self._timeline = Timeline(self._time_base, nominal_rate(self._stream))
        self._fields = Deinterlacer(self._mode, self._path, self._stream.codec_context.name)

    def _begin(self) -> None:
        start, duration = self._part
        self._stamped = self._decode()
        first = next(self._stamped, None)
        if first is None:
            why = "its packets are damaged or encrypted" if self.damage else "it holds none"
            raise InputError(f"not one frame of {shown(self._path)} can be decoded: {why}")
        self.origin = first[1]
        wanted = self.origin + ceil(start / self._time_base)
        self._from = wanted * self._time_base
        if first[1] < wanted:
            first = self._land(wanted)
        if first is None:
            raise InputError(f"{shown(self._path)} ends before --start {float(start):g} seconds")
        self._first = first
        self._fields.begin()
        self.end = None if duration is None else wanted + ceil(duration / self._time_base)
        if self.end is not None and first[1] >= self.end:
            raise InputError(
                f"{shown(self._path)} has no frame in the {float(duration or 0):g} s from --start {float(start):g} on: "
                "choose a longer --duration"
            )
        plain = self._decoder.plain if isinstance(self._decoder, AlphaDecoder) else None
        info = describe(self.container, self._stream, first[0], first[1], self._path, plain)
        self.info = _limited(info, start, duration)
        if self._opaque:
            self.leave_alpha_out()

    def _land(self, wanted: int) -> Stamped | None:
        """The first frame that is shown at ``wanted`` or later: by a landing where the index knows one, else by
        decoding all that comes before it."""
        if self._index is not None and self._index.seekable:
            packets = self._index.land(self.container, self._stream, wanted)
            self._timeline.restart()
            if packets is not None:
                if isinstance(self._decoder, AlphaDecoder):
                    self._decoder.flush()
                self._stamped = self._decode(packets)
                first = next(self._stamped, None)
                if first is not None and first[1] <= wanted:
                    return self._forward(first, wanted)
            self.container.close()
            self._open()
            self._stamped = self._decode()
        return self._forward(next(self._stamped, None), wanted)

    def _forward(self, first: Stamped | None, wanted: int) -> Stamped | None:
        while first is not None and first[1] < wanted:
            first = next(self._stamped, None)
        return first

    def _decode(self, packets: Iterator[Packet[VideoStream]] | None = None) -> Iterator[Stamped]:
        return self._fields(self._decoded(packets))

    def _decoded(self, packets: Iterator[Packet[VideoStream]] | None) -> Iterator[Stamped]:
        self._read = self._packets(packets)
        for packet in self._read:
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError as error:
                self._hardware.check(error)
                self.damage.packet(None if packet is None else packet_time(packet))
                continue
            for frame in map(self._hardware.planar, frames):
                if not frame.is_corrupt:
                    self._settle()
                self._check_jump(frame.pts)
                yield (frame, *self._timeline.stamp(frame.pts, frame.duration))

    def _settle(self) -> None:
        """From the first clean frame on, take damaged ones as well: HEVC's decoder would leave out all those that
        depend on a damaged one, without a word. Before it, they are what lies ahead of the first keyframe."""
        if not self._settled:
            self._settled = True
            self._stream.codec_context.flags |= Flags.output_corrupt

    def _check_jump(self, pts: int | None) -> None:
        """Refuse timestamps that start again, as in recordings joined end to end: repairing those one tick at a time
        would squeeze all that follows into a moment, beside sound that goes on."""
        back = self._timeline.behind(pts) * self._time_base
        if back > _JUMP:
            raise InputError(
                f"the timestamps of {shown(self._path)} go back by {float(back):.1f} s after frame {self.decoded}, "
                "as if files had been joined: repair them first, for example with ffmpeg -i INPUT -c copy OUTPUT.mkv"
            )

    def _packets(self, packets: Iterator[Packet[VideoStream]] | None) -> Iterator[Packet[VideoStream] | None]:
        """Packets of the video stream, the flushing one last; others go to ``on_packet``. None flushes too.
        ``packets`` are those to come after a landing."""
        try:
            every = demux(self.container, [] if self._path == PIPE else [self._stream])
            for packet in every if packets is None else packets:
                self.alive = time.monotonic()
                if packet.stream is self._stream:
                    yield cast("Packet[VideoStream]", packet)
                elif packet.size and not self._passing(packet):
                    self.on_packet(cast("Packet[Stream]", packet))
        except av.error.InvalidDataError:  # the file ends in the middle of something: use what came before
            self.damage.packet(None)
            yield None
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{shown(self._path)} cannot be read further: {reason(error)}") from error

    def _passing(self, packet: Packet[Any]) -> bool:
        """Whether a packet comes long before the chosen part: nobody will want it."""
        if packet.pts is None or packet.time_base is None or self._from is None:
            return False
        return packet.pts * packet.time_base < self._from - _LAG

    def _planes(self, frame: VideoFrame) -> tuple[Plane, ...]:
        info = self.info
        if (frame.width, frame.height, frame.format.name) != (info.width, info.height, info.pix_fmt):
            raise InputError(
                f"the picture of {shown(self._path)} changes from {info.width}x{info.height} {info.pix_fmt} to "
                f"{frame.width}x{frame.height} {frame.format.name} at frame {self.decoded}: "
                "cut it there, or upscale the parts one by one with --start and --duration"
            )
        return planes_of(frame, info.layout, self._reformatter)


def probe(path: str) -> VideoInfo:
    """What the video at ``path`` is. Decodes one frame of it.

    Raises InputError.
    """
    with Source(path) as source:
        return source.info


def _limited(info: VideoInfo, start: Fraction, duration: Fraction | None) -> VideoInfo:
    """``info`` of the chosen part: its duration and estimated frames."""
    left = None if info.duration is None else max(info.duration - start, Fraction(0))
    if duration is not None:
        left = duration if left is None else min(left, duration)
    if left == info.duration:
        return info
    return replace(info, duration=left, frames=None if left is None else max(1, round(left * info.rate)))
