"""AC-3 and E-AC-3 for the MP4 family, whose muxer reads every header and, in the midst of it, takes no wrong one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from rcan_video.media.damage import Damage
from rcan_video.media.times import packet_time

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream

_MANY = 16  # packets at the start, of which most are as they should be
_ROW = 4  # as many alike in a row are no damage: the sound changes

_BLOCKS = 6  # that the muxer joins
_HEADER = 7  # bytes that the muxer wants
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_RATES = (48000, 44100, 32000)
_DEPENDENT = 1


class Kind(NamedTuple):
    """What the packets of a stream have in common: the header of their first frame, and whether frames fill them."""

    extended: bool  # E-AC-3
    rate: int  # the code, with that of the halved ones
    blocks: int  # of sound
    stream: int  # the type and number of the substream
    whole: bool


class Uniform:
    """What ``carry`` of a carrier gives, without packets that are damaged: those without a valid header, and, of each
    run of up to three that differ from the others, all. ``damage`` counts them. More of them alike are a change of the
    sound, and pass.

    The muxer joins packets until they hold six blocks. Only whole sets pass, so that no change comes amid one, after
    which it would refuse all that follow, and none lasts longer than its packets: damage costs its set. What is left at
    the end, less than 32 ms, has no place in these containers.
    """

    def __init__(self, carry: Callable[[Packet[Stream] | None], Iterator[Packet[Stream]]], damage: Damage) -> None:
        self._carry = carry
        self._damage = damage
        self._usual: Kind | None = None
        self._held: list[tuple[Kind, Packet[Stream]]] = []  # the first ones, later those alike of another kind
        self._set: list[Packet[Stream]] = []  # of the usual kind, not yet six blocks

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        if packet is not None:
            kind = kind_of(bytes(packet))
            if kind is None:
                self._leave_out([packet])
            elif self._usual is None:
                self._held.append((kind, packet))
                if len(self._held) == _MANY:
                    yield from self._settle()
            else:
                yield from self._next(kind, packet)
            return
        if self._usual is None:
            yield from self._settle()
        self._leave_out_held()
        yield from self._carry(None)

    def _settle(self) -> Iterator[Packet[Stream]]:
        """Find what is usual among the first ones, and let these go."""
        first, self._held = self._held, []
        if first:
            self._usual = Counter(kind for kind, _ in first).most_common(1)[0][0]
        for kind, packet in first:
            yield from self._next(kind, packet)

    def _next(self, kind: Kind, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        if self._held and self._held[0][0] != kind:  # this one is of the usual kind, or of yet another
            self._leave_out_held()
        if kind == self._usual:
            yield from self._joined(kind, packet)
            return
        self._held.append((kind, packet))
        if len(self._held) == _ROW:
            self._usual = kind
            changed, self._held = self._held, []
            self._leave_out([])
            for _, held in changed:
                yield from self._joined(kind, held)

    def _joined(self, kind: Kind, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        self._set.append(packet)
        if len(self._set) * kind.blocks == _BLOCKS:
            whole, self._set = self._set, []
            for joined in whole:
                yield from self._carry(joined)

    def _leave_out_held(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._leave_out([packet for _, packet in held])

    def _leave_out(self, damaged: list[Packet[Stream]]) -> None:
        """``damaged``, and what has come of the set that they end."""
        damaged, self._set = [*self._set, *damaged], []
        for packet in damaged:
            self._damage.other(packet_time(packet))


def kind_of(data: bytes) -> Kind | None:
    """The kind of a packet; None where its header is none, or promises more than there is."""
    size = _frame_size(data)
    if size is None or size > len(data):
        return None
    at = size
    while at < len(data):  # dependent substreams
        more = _frame_size(data[at : at + _HEADER])
        if more is None or data[at + 2] >> 6 != _DEPENDENT or _version(data[at:]) <= 10:
            break
        at += more
    if _version(data) <= 10:
        return Kind(False, data[4] >> 6, 6, 0, at == len(data))
    slow = data[4] >> 6 == 3  # half the rate, and six blocks in place of their number
    blocks = 6 if slow else (1, 2, 3, 6)[data[4] >> 4 & 3]
    return Kind(True, data[4] >> 4 if slow else data[4] >> 6, blocks, data[2] >> 3, at == len(data))


def _version(data: bytes) -> int:
    return data[5] >> 3


def _frame_size(data: bytes) -> int | None:
    """The bytes of the frame whose header ``data`` begins with, as FFmpeg reads it; None where it is none."""
    if len(data) < _HEADER or data[:2] != b"\x0b\x77" or _version(data) > 16:
        return None
    rate = data[4] >> 6
    if _version(data) > 10:
        if data[2] >> 6 == 3 or (rate == 3 and data[4] >> 4 & 3 == 3):  # reserved
            return None
        size = ((data[2] & 7) << 8 | data[3]) * 2 + 2
        return size if size >= _HEADER else None
    code = data[4] & 0x3F
    if rate == 3 or code >> 1 >= len(_AC3_KBITS):
        return None
    words = _AC3_KBITS[code >> 1] * 1000 * 1536 // (_AC3_RATES[rate] * 16)
    return (words + (code & 1 if rate == 1 else 0)) * 2
