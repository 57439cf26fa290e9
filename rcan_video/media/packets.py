"""Packets of the streams beside the video: from a file that is read a second time, or as a pipe brings them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.stream import Discard

from rcan_video.errors import InputError
from rcan_video.media.damage import Damage
from rcan_video.media.files import open_input, reason
from rcan_video.media.outliers import Outliers
from rcan_video.media.times import packet_time

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

LAG = Fraction(5)
"""How far behind the pictures, in seconds, a pipe may bring the sound that belongs to them."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the input that is kept, in seconds of its own clock, and what is added to every time."""

    start: Fraction | None = None
    end: Fraction | None = None
    shift: Fraction = Fraction(0)

    def holds(self, time: Fraction) -> bool:
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)


def demux(container: InputContainer, streams: Sequence[Stream] = ()) -> Iterator[Packet[Any]]:
    """Packets of ``streams``, or of all, and the empty ones that flush their decoders. PyAV ends with an IndexError
    behind all these where another stream has appeared on the way, as FLV and MPEG-TS allow."""
    with contextlib.suppress(IndexError):
        yield from container.demux(*streams)


class FilePackets:
    """Packets of some streams of a file, from a container of its own: read at the pace of whoever asks."""

    def __init__(self, path: str, indices: Sequence[int], window: Window, damage: Damage) -> None:
        self._path = path
        self.damage = damage
        self._open(path, indices)
        # A second early: seeking lands by the video's or the container's index, not by each stream's.
        early = int(((window.start or 0) - 1) * av.time_base)
        if early > 0:  # else the top is near, and may lie before zero
            try:
                self.container.seek(early, backward=True)
            except av.FFmpegError:  # it cannot seek, and has moved all the same: from the top
                self.container.close()
                self._open(path, indices)
        self._packets = self._read(window.end)

    def _open(self, path: str, indices: Sequence[int]) -> None:
        self.container = open_input(path)
        self.streams = [self.container.streams[i] for i in indices]
        for stream in self.container.streams:
            if stream.index not in indices:
                stream.discard = Discard.all

    def __call__(self, *, last: bool = False) -> Packet[Stream] | None:
        return next(self._packets, None)

    def close(self) -> None:
        self.container.close()

    def cover(self, index: int) -> bytes:
        """The one packet of a stream of cover art; from a container of its own, which leaves the place of this one."""
        with open_input(self._path) as container:
            return next((bytes(p) for p in container.demux(container.streams[index]) if p.size), b"")

    def _read(self, end: Fraction | None) -> Iterator[Packet[Stream]]:
        open_streams = {s.index for s in self.streams}
        for packet in Outliers(self.damage).of(self._demuxed()):
            at = packet_time(packet)
            if end is not None and at is not None and at >= end:
                open_streams.discard(packet.stream_index)
                if not open_streams:
                    return
            yield packet

    def _demuxed(self) -> Iterator[Packet[Stream]]:
        try:
            for packet in demux(self.container, self.streams):
                if packet.size:
                    yield packet
        except av.error.InvalidDataError:  # cut off, or changed since the video's reader passed here
            self.damage.cut()
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{self._path} cannot be read further: {reason(error)}") from error


class Relay:
    """Hands packets on to whoever listens; those that come before anybody does are kept. ``start`` is when the part
    that is wanted begins, in seconds, once that is known: nobody will want what comes long before it."""

    def __init__(self) -> None:
        self.start: Fraction | None = None
        self._waiting: deque[Packet[Stream]] = deque()
        self._on_packet: Callable[[Packet[Stream]], None] = self._waiting.append

    def __call__(self, packet: Packet[Stream]) -> None:
        at = packet_time(packet)
        if at is None or self.start is None or at >= self.start - LAG:
            self._on_packet(packet)

    def listen(self, on_packet: Callable[[Packet[Stream]], None]) -> None:
        """Hand them to ``on_packet``, those kept so far first."""
        while self._waiting:
            on_packet(self._waiting.popleft())
        self._on_packet = on_packet


class PipePackets:
    """Packets of a pipe, put here by the decoder that meets them."""

    def __init__(self, container: InputContainer, indices: Sequence[int], damage: Damage) -> None:
        self.container = container
        self.damage = damage
        self._indices = frozenset(indices)
        self._queue: deque[Packet[Stream]] = deque()
        self._ready: deque[Packet[Stream]] = deque()
        self._outliers = Outliers(damage)

    def put(self, packet: Packet[Stream]) -> None:
        if packet.stream_index in self._indices:
            self._queue.append(packet)

    def __call__(self, *, last: bool = False) -> Packet[Stream] | None:
        """The next one; with ``last``, when no more will be put here, also what waited for them."""
        while self._queue and not self._ready:
            self._ready.extend(self._outliers.take(self._queue.popleft()))
        if last and not self._ready:
            self._ready.extend(self._outliers.rest())
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        self._indices = frozenset()
        self._queue.clear()
        self._ready.clear()
