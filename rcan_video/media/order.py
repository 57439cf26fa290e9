"""Packets in the order that a muxer demands: each of a stream later than the one before."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from av.format import Flags
from av.rational import AVRational

from rcan_video.media.damage import Damage
from rcan_video.media.times import decoding_time, packet_time

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream

TOO_LATE = Fraction(1, 2)
"""Seconds by which a packet may be moved up. Beyond that its time means nothing, or that of one before it."""


class Order:
    """The DTS of each stream of ``output``, which go forward, and the PTS, which come no earlier: FFmpeg refuses
    packets for which this does not hold. Its header is written before the first of them.

    Sound of which nobody knows how long it lasts (its frames are damaged) gets the shortest step between two packets:
    MP4 hides a last one that lasts no time.
    """

    def __init__(self, output: OutputContainer, damage: Damage) -> None:
        self._damage = damage
        self._may_repeat = bool(Flags(output.format.flags) & Flags.ts_nonstrict)
        self._last: dict[int, int] = {}
        self._step: dict[int, int] = {}

    def keep(self, packet: Packet[Stream]) -> bool:
        """Count the times of ``packet`` in the ticks of its stream in the output, and move them up where they repeat or
        go back, by as little as possible; whether it can be written so. ``damage`` counts both."""
        stream = packet.stream
        if stream.time_base:
            packet.rescale_ts(AVRational(stream.time_base))  # as the muxer does: only there are they equal or not
        dts = decoding_time(packet)
        if dts is None:
            return True
        last = self._last.get(stream.index)
        # Two subtitles may begin at once, and some containers let everything do so.
        repeats = self._may_repeat or stream.type in ("subtitle", "data")
        late = last is not None and (dts < last or (dts == last and not repeats))
        if late:
            assert last is not None
            if (last + 1 - dts) * Fraction(packet.time_base or 0) > TOO_LATE:
                self._damage.other(packet_time(packet))
                return False
            dts = packet.dts = last + 1
        elif last is not None and dts > last:
            self._step[stream.index] = min(dts - last, self._step.get(stream.index, dts - last))
        if stream.type == "audio" and not packet.duration:
            packet.duration = self._step.get(stream.index, 0)
        self._last[stream.index] = dts
        if packet.pts is not None and packet.pts < dts:
            packet.pts, late = dts, True
        self._damage.moved += late
        return True
