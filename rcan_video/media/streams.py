"""The streams that travel beside the video, as planned in ``fit``: at its pace, each packet at its time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import av.error

from rcan_video.media.carriers import Carrier, carrier_of
from rcan_video.media.fit import StreamPlan
from rcan_video.media.order import Order
from rcan_video.media.packets import FilePackets, PipePackets, Window
from rcan_video.media.times import packet_time
from rcan_video.media.verify import Ledger

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream


# What muxers raise where they do not like a packet.
_REFUSALS = (av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.ArgumentError)


class Passengers:
    """Streams carried from ``packets`` into ``output`` beside the video, as ``plans`` say.

    Raises OutputError at construction where the container takes one of them neither as it is nor re-encoded.
    """

    def __init__(
        self,
        output: OutputContainer,
        ledger: Ledger,
        packets: FilePackets | PipePackets,
        plans: Sequence[StreamPlan],
        window: Window,
        audio_bitrate: int | None,
    ) -> None:
        self._output = output
        self._ledger = ledger
        self._packets = packets
        self._window = window
        self._held: Packet[Stream] | None = None
        self._timeless = frozenset(plan.info.index for plan in plans if plan.info.cover)
        self._order = Order(output, packets.damage)
        self._carriers: dict[int, Carrier] = {
            plan.info.index: carrier_of(output, packets, plan, audio_bitrate) for plan in plans if plan.action != "drop"
        }

    def mux_until(self, time: Fraction | None) -> None:
        """Write the packets that belong before ``time`` (seconds of the output); all that is left where None.

        Muxers sort only within a few seconds, so that the other streams must keep pace with the video.
        """
        while True:
            packet = self._held or self._packets(last=time is None)
            self._held = None
            if packet is None:
                break
            at = packet_time(packet)
            # What has no time, and a cover, which is no moment of the film, belongs to every part of it.
            if at is not None and packet.stream_index not in self._timeless:
                if not self._window.holds(at):
                    continue
                if time is not None and at + self._window.shift > time:
                    self._held = packet
                    return
                self._shift(packet)
            carrier = self._carriers.get(packet.stream_index)
            for written in carrier.carry(packet) if carrier is not None else ():
                self._mux(written)
        if time is None:
            for carrier in self._carriers.values():
                for written in carrier.carry(None):
                    self._mux(written)

    def close(self) -> None:
        self._packets.close()

    def _mux(self, packet: Packet[Stream]) -> None:
        if not self._order.keep(packet):
            return
        try:
            self._output.mux(packet)
        except _REFUSALS:  # what lies behind a gap in AAC is no frame of it
            self._packets.damage.other(packet_time(packet))
        else:
            self._ledger.note(packet)

    def _shift(self, packet: Packet[Stream]) -> None:
        if self._window.shift and packet.time_base:
            ticks = round(self._window.shift / Fraction(packet.time_base))
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
