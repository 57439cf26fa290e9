"""One opening of an input's video: packets in, decoded frames with their times out, from the top or from a landing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

import av
import av.error
from av.codec.context import Flags
from av.stream import Discard

from rcan_video.errors import InputError
from rcan_video.media.alpha import alpha_decoder
from rcan_video.media.damage import Damage
from rcan_video.media.deinterlace import Deinterlacer, Stamped
from rcan_video.media.files import PIPE, reason, shown
from rcan_video.media.hwdecode import HardwareDecoding
from rcan_video.media.index import Index
from rcan_video.media.packets import demux
from rcan_video.media.probe import best_video, describe, nominal_rate, time_base
from rcan_video.media.timeline import Timeline
from rcan_video.media.times import packet_time
from rcan_video.options import Deinterlace

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from rcan_video.video import VideoInfo

# Fixed, not taken from the machine: damaged streams decode differently for another count, and a file should not
# depend on where it was made. Four keep up with any network here.
_THREADS = 4

# Timestamps that go back by more than this have started again. B-frames and rounding stay far below.
_JUMP = Fraction(1)


class VideoDecoder:
    """The best video stream of ``path``, opened by ``hardware`` and read once; to begin anew, open another one.

    Frames pass through ``fields``, which deinterlaces them. What cannot be decoded is counted in ``damage``; packets of
    other streams, which a pipe alone brings, go to ``on_packet``. Opening and reading raise InputError; reading raises
    DeviceError where the GPU that decodes fails.
    """

    def __init__(
        self,
        path: str,
        hardware: HardwareDecoding,
        damage: Damage,
        on_packet: Callable[[Packet[Stream]], None],
        *,
        deinterlace: Deinterlace,
        max_pixels: int | None,
        stop: threading.Event | None,
    ) -> None:
        self._path = path
        self._hardware = hardware
        self._damage = damage
        self._on_packet = on_packet
        self.alive = time.monotonic()
        """When the last packet came."""
        self.given = 0
        """How many frames the source has given out of the part that it is to read: its count."""
        self.settled = False
        """Whether a clean frame has come: damaged ones before it are what lies ahead of the first keyframe."""
        self.container = hardware.open(stop)
        try:
            self.stream = best_video(self.container, path)
            for stream in self.container.streams:
                # A file is read a second time for its other streams, at the encoder's pace.
                if stream is not self.stream and path != PIPE:
                    stream.discard = Discard.all
            if max_pixels is not None:
                self._limit(max_pixels)
            # Not by frame: such a decoder reports a damaged packet some packets later, and while it is drained PyAV
            # then loses every frame that comes behind the report.
            self.stream.thread_type = "SLICE"
            self.stream.codec_context.thread_count = _THREADS
            self._alpha = alpha_decoder(self.stream, _THREADS)
        except BaseException:
            self.container.close()
            raise
        self.time_base = time_base(self.stream)
        self._timeline = Timeline(self.time_base, nominal_rate(self.stream))
        self.fields = Deinterlacer(deinterlace, path, self.stream.codec_context.name)

    def close(self) -> None:
        self.container.close()

    def describe(self, first: Stamped) -> VideoInfo:
        """What the video is; ``first`` is a frame of it."""
        plain = None if self._alpha is None else self._alpha.plain
        return describe(self.container, self.stream, first[0], first[1], self._path, plain)

    def frames(self) -> Iterator[Stamped]:
        """Every frame from the top, in presentation order, once."""
        return self.fields(self._decoded(self._packets(demux(self.container, self._streams))))

    def land(self, index: Index, wanted: int) -> Iterator[Stamped] | None:
        """Frames from one on that is shown at the PTS ``wanted`` or before it, by a landing on a keyframe. None where
        there is no such landing: then this decoder is of no further use."""
        packets = index.land(self.container, self.stream, wanted)
        if packets is None:
            return None
        self._timeline.restart()
        if self._alpha is not None:
            self._alpha.flush()
        frames = self.fields(self._decoded(self._packets(packets)))
        first = next(frames, None)
        return None if first is None or first[1] > wanted else chain([first], frames)

    def to_the_end(self, frames: Iterator[Stamped]) -> Iterator[Stamped]:
        """``frames``, the last of an MP4 shown as long as the track lasts: what FFmpeg says of its duration is that of
        the packet decoded last, another one where frames are reordered."""
        if not self.stream.duration or "mp4" not in self.container.format.name:
            yield from frames
            return
        end = (self.stream.start_time or 0) + self.stream.duration
        count = self.given + 1
        held = next(frames)
        for following in frames:
            yield held
            held = following
            count += 1
        raw, pts, duration = held
        whole = count == self.stream.frames and not self._damage.packets
        yield raw, pts, max(duration, end - pts) if whole else duration

    def read_past(self, end: int) -> None:
        """Read on up to the PTS ``end``, decoding nothing: for the sake of the other packets."""
        for packet in self._packets(demux(self.container, self._streams)):
            if packet is not None and packet.pts is not None and packet.pts >= end:
                return

    def notices(self) -> list[str]:
        """What was left out or made up, in sentences; complete once the frames are used up."""
        found = []
        if self._alpha is not None and self._alpha.lost:
            found.append(
                f"{self._alpha.lost} frames of {shown(self._path)} are transparent, which is left out: "
                "the first ones have no alpha channel"
            )
        if self._timeline.missing:
            found.append(
                f"{self._timeline.missing} frames carry no timestamp: theirs are made from the rate, "
                f"{float(nominal_rate(self.stream)):.6g} frames/s"
            )
        if self._timeline.repaired:
            found.append(f"{self._timeline.repaired} timestamps repeat or go back: each was moved up by a tick")
        return found

    def _limit(self, max_pixels: int) -> None:
        context = self.stream.codec_context
        if context.width * context.height > max_pixels:
            raise InputError(
                f"{shown(self._path)} has a picture of {context.width}x{context.height}: raise --max-pixels "
                f"above {max_pixels} if that is meant"
            )
        # What the stream says later of its size is refused before memory is taken for it; with room for the whole
        # blocks that decoders count in.
        context.options = {"max_pixels": str(2 * max_pixels + (1 << 20))}

    @property
    def _streams(self) -> list[VideoStream]:
        """The streams to read: all, by an empty list, of a pipe."""
        return [] if self._path == PIPE else [self.stream]

    def _packets(self, packets: Iterator[Packet[Any]]) -> Iterator[Packet[VideoStream] | None]:
        """Those of the video stream, the flushing one last; others go to ``on_packet``. None flushes too."""
        try:
            for packet in packets:
                self.alive = time.monotonic()
                if packet.stream is self.stream:
                    yield packet
                elif packet.size:
                    self._on_packet(packet)
        except av.error.InvalidDataError:  # the file ends in the middle of something: use what came before
            self._damage.packet(None)
            yield None
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{shown(self._path)} cannot be read further: {reason(error)}") from error

    def _decoded(self, packets: Iterator[Packet[VideoStream] | None]) -> Iterator[Stamped]:
        for packet in packets:
            try:
                frames = self._decode(packet)
            except av.FFmpegError as error:
                self._hardware.check(error)
                self._damage.packet(None if packet is None else packet_time(packet))
                continue
            for frame in map(self._hardware.planar, frames):
                if not frame.is_corrupt:
                    self._settle()
                self._check_jump(frame.pts)
                yield (frame, *self._timeline.stamp(frame.pts, frame.duration))

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        return (self._alpha or self.stream).decode(packet)

    def _settle(self) -> None:
        """From the first clean frame on, take damaged ones as well: HEVC's decoder would leave out all those that
        depend on a damaged one, without a word."""
        if not self.settled:
            self.settled = True
            self.stream.codec_context.flags |= Flags.output_corrupt

    def _check_jump(self, pts: int | None) -> None:
        """Refuse timestamps that start again, as in recordings joined end to end: repairing those one tick at a time
        would squeeze all that follows into a moment, beside sound that goes on."""
        back = self._timeline.behind(pts) * self.time_base
        if back > _JUMP:
            raise InputError(
                f"the timestamps of {shown(self._path)} go back by {float(back):.1f} s after frame {self.given}, "
                "as if files had been joined: repair them first, for example with ffmpeg -i INPUT -c copy OUTPUT.mkv"
            )
