"""When a packet is shown and decoded."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.packet import Packet


def decoding_time(packet: Packet[Any]) -> int | None:
    """The DTS, or what stands for it, in ticks."""
    return packet.dts if packet.dts is not None else packet.pts


def packet_time(packet: Packet[Any]) -> Fraction | None:
    """Seconds; None for a packet without any time."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None or not packet.time_base else ticks * Fraction(packet.time_base)
