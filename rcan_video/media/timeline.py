"""Timestamps that only go forward."""

from __future__ import annotations

from fractions import Fraction


class Timeline:
    """Timestamps that only go forward. PTS pass through; what is missing or goes back is repaired and counted."""

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self.tick = max(1, round(1 / (rate * time_base)))
        self.missing = 0
        self.repaired = 0
        self._last: int | None = None
        self._next = 0

    def restart(self) -> None:
        """Forget the last frame: the next one comes from elsewhere in the file."""
        self._last = None

    def behind(self, pts: int | None) -> int:
        """How many ticks ``pts`` lies before the last frame; 0 where it does not."""
        return max(0, self._last - pts) if self._last is not None and pts is not None else 0

    def stamp(self, pts: int | None, duration: int) -> tuple[int, int]:
        """(pts, duration) for the next frame; a missing PTS continues at the nominal rate, a repeated one is
        moved up by one tick."""
        duration = duration if duration > 0 else self.tick
        if pts is None:
            self.missing += 1
            pts = self._next
        if self._last is not None and pts <= self._last:
            self.repaired += 1
            pts = self._last + 1
        self._last = pts
        self._next = pts + duration
        return pts, duration
