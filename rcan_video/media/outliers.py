"""Single times of sound that are out of line with their neighbours', put right before anything goes by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from rcan_video.media.damage import Damage
from rcan_video.media.order import TOO_LATE
from rcan_video.media.times import decoding_time

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream

_LONGEST = Fraction(5)
"""Seconds of other streams for which a packet is held back: muxers sort no further."""

_ALONE = Fraction(60)
"""Seconds between the last packet of a stream and the one before, beyond which its time is not believed."""


@dataclass(slots=True)
class _Track:
    """``before``: the DTS of the packet that was let go last; ``step``: the ticks from there to the next one."""

    held: Packet[Stream] | None = None
    before: int | None = None
    step: int = 0


class Outliers:
    """Holds back one packet of each audio stream until the next one shows whether its time can be right: one too late,
    believed, would let all that follow come too late. Such times are replaced, which ``damage`` counts.

    Subtitles and data come too rarely for that.
    """

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._tracks: dict[int, _Track] = {}

    def of(self, packets: Iterable[Packet[Stream]]) -> Iterator[Packet[Stream]]:
        """All of ``packets``."""
        for packet in packets:
            yield from self.take(packet)
        yield from self.rest()

    def take(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """What can go on now that ``packet`` has come."""
        dts, tick = decoding_time(packet), Fraction(packet.time_base or 0)
        if dts is not None:
            yield from self._overdue(dts * tick)
        if packet.stream.type != "audio":
            yield packet
            return
        track = self._tracks.setdefault(packet.stream_index, _Track())
        if dts is None or packet.is_discard:  # what an edit list cuts off repeats times that have been
            yield from self._let_go(track)
            track.before = None
            yield packet
            return
        if track.held is not None:
            better = _between(track, dts, tick)
            if better is not None:
                self._set(track.held, better)
            yield from self._let_go(track)
        track.held = packet

    def rest(self) -> Iterator[Packet[Stream]]:
        """What is held back at the end."""
        for track in self._tracks.values():
            if track.held is not None and track.before is not None:
                dts, tick = decoding_time(track.held), Fraction(track.held.time_base or 0)
                assert dts is not None
                if (dts - track.before) * tick > _ALONE:
                    self._set(track.held, track.before + max(1, track.step))
            yield from self._let_go(track)

    def _overdue(self, now: Fraction) -> Iterator[Packet[Stream]]:
        """What other streams have left behind: sound with long pauses."""
        for track in self._tracks.values():
            if track.held is not None:
                dts = decoding_time(track.held)
                assert dts is not None
                if now - dts * Fraction(track.held.time_base or 0) > _LONGEST:
                    yield from self._let_go(track)

    def _let_go(self, track: _Track) -> Iterator[Packet[Stream]]:
        packet, track.held = track.held, None
        if packet is None:
            return
        dts = decoding_time(packet)
        assert dts is not None
        if packet.duration:
            track.step = packet.duration
        elif track.before is not None and dts > track.before:
            track.step = dts - track.before
        track.before = dts
        yield packet

    def _set(self, packet: Packet[Stream], dts: int) -> None:
        self._damage.moved += 1
        moved = dts - (decoding_time(packet) or 0)
        if packet.pts is not None:
            packet.pts += moved
        if packet.dts is not None:
            packet.dts += moved


def _between(track: _Track, following: int, tick: Fraction) -> int | None:
    """The DTS that the packet held of ``track`` should have, before the one at ``following``; None where its own may
    be right."""
    assert track.held is not None
    dts, before, far = decoding_time(track.held), track.before, TOO_LATE / tick if tick else 0
    assert dts is not None
    if before is None:  # either of the first two may be wrong: where it is by little, that is left to the order
        return following - max(1, track.held.duration or 0) if dts - following > far else None
    if before < following and (following < dts or dts < before - far):
        step = max(1, track.step)
        return before + step if before + step < following else (before + following) // 2
    return None
