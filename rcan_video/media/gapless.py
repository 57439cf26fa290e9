"""PCM for containers that store it as one run of samples, without times: what is missing of it becomes silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from rcan_video.media.damage import Damage
from rcan_video.media.order import TOO_LATE
from rcan_video.media.times import packet_time

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.stream import Stream

# What is no gap yet, in seconds. Times jitter, are rounded by containers, and drift away from the count of the samples
# where two clocks made them: the samples are whole all the same, and every silence put between them is a click. It is
# from where FFmpeg's aresample fills and cuts (min_hard_comp).
_SLACK = Fraction(1, 10)


class Gapless:
    """What ``carry`` of a carrier gives, PCM of the kind ``codec`` with the rate and channels of ``stream``, in a run:
    gaps are filled with silence, and what overlaps loses the samples whose time has passed, which ``damage`` counts.
    A packet that comes later than ``TOO_LATE`` is left out as damaged."""

    def __init__(
        self,
        carry: Callable[[Packet[Stream] | None], Iterator[Packet[Stream]]],
        stream: AudioStream,
        codec: str,
        damage: Damage,
    ) -> None:
        self._carry = carry
        self._damage = damage
        self._rate = stream.rate
        self._silence = _silent(codec) * stream.codec_context.channels
        self._next: int | None = None  # the time of the sample that comes next, in samples
        self._cutting = False  # whether more must be cut than there was in the last packet

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        for sound in self._carry(packet):
            yield from self._joined(sound)

    def _joined(self, sound: Packet[Stream]) -> Iterator[Packet[Stream]]:
        at = packet_time(sound)
        wanted = self._next if at is None else round(at * self._rate)
        if wanted is None:
            yield sound
            return
        if self._next is None:
            self._next = wanted
        missing = wanted - self._next
        if missing > _SLACK * self._rate:
            while missing > 0:  # of an hour, say: not all in one packet
                samples = min(missing, self._rate)
                yield self._stamped(_packet(self._silence * samples, sound.stream))
                missing -= samples
        elif -missing > (0 if self._cutting else _SLACK * self._rate):
            if -missing > TOO_LATE * self._rate:
                self._damage.other(at)
                return
            whole = sound.size
            sound = _packet(bytes(sound)[-missing * len(self._silence) :], sound.stream)
            self._damage.overlapping += (whole - sound.size) // len(self._silence)
            self._cutting = not sound.size
        if sound.size:
            yield self._stamped(sound)

    def _stamped(self, sound: Packet[Stream]) -> Packet[Stream]:
        """``sound`` at the place that it gets."""
        assert self._next is not None
        sound.time_base = Fraction(1, self._rate)
        sound.pts = sound.dts = self._next
        sound.duration = sound.size // len(self._silence)
        self._next += sound.duration
        return sound


def _silent(codec: str) -> bytes:
    """One sample of silence."""
    if codec in ("pcm_mulaw", "pcm_alaw", "pcm_u8"):
        return {"pcm_mulaw": b"\xff", "pcm_alaw": b"\xd5", "pcm_u8": b"\x80"}[codec]
    bits = re.search(r"\d+", codec)
    assert bits is not None
    return bytes(int(bits.group()) // 8)


def _packet(data: bytes, stream: Stream) -> Packet[Stream]:
    packet = av.Packet(data)
    packet.stream = stream
    return packet
