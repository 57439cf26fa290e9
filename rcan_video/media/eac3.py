"""E-AC-3 for the MP4 family, whose muxer joins packets until they hold six blocks of sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rcan_video.media.damage import Damage
from rcan_video.media.times import packet_time

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream


_MOST = 16  # packets that wait for two that are alike: where none are, let the muxer judge


class Uniform:
    """What ``carry`` of a carrier gives, without packets whose header differs from that of the others: after one with a
    wrong number of blocks the muxer would refuse all that follow. ``damage`` counts them."""

    def __init__(self, carry: Callable[[Packet[Stream] | None], Iterator[Packet[Stream]]], damage: Damage) -> None:
        self._carry = carry
        self._damage = damage
        self._waiting: list[Packet[Stream]] = []  # the first ones, until two in a row are alike
        self._usual: object = None
        self._before: object = None

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        if packet is not None:
            kind = _kind(packet)
            if kind == self._before:  # two in a row: so it is, from the start or from here on
                self._usual = kind
            self._before = kind
            self._waiting.append(packet)
        if packet is None or self._usual is not None or len(self._waiting) == _MOST:
            for waited in self._waiting:
                if self._usual in (None, _kind(waited)):
                    yield from self._carry(waited)
                else:
                    self._damage.other(packet_time(waited))
            self._waiting.clear()
        if packet is None:
            yield from self._carry(None)


def _kind(packet: Packet[Stream]) -> object:
    """What its header says: the sync word; AC-3 or E-AC-3; sampling rate and number of blocks; which substream."""
    head = bytes(packet)[:6]
    if len(head) < 6:
        return head
    version = head[5] >> 3
    return head[:2], version, head[4] >> 4, head[2] >> 3 if version > 10 else None  # AC-3 has a checksum there
