"""Where a video is cut, and what a segment depends on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Frames of a segment. Longer ones cost nothing more in size (750 frames of three real clips: 0.3 % against one
# unbroken encode), shorter ones do (50 frames: 4 %).
LONGEST, SHORTEST = 750, 24
# A last piece below this belongs to the segment before it.
_SCRAP = 8
# Segments of a plan: a video of a month at least. Broken times can make a video of any length out of a few packets.
_MOST = 100_000
# What a crash may cost, in seconds of computing.
_AT_STAKE = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Segment k holds the frames from ``starts[k]`` on and before ``starts[k + 1]``; the last one has no end.

    With ``by_pts`` these are PTS in ticks of the source, which a decoder knows wherever it lands; otherwise places in
    the order of frames. ``identity`` is everything that the frames of the output depend on, by the name that people
    know it by; ``frames`` how many are expected.
    """

    identity: Mapping[str, str]
    starts: tuple[int, ...]
    by_pts: bool
    frames: int

    def __post_init__(self) -> None:
        if not self.starts or any(a >= b for a, b in zip(self.starts, self.starts[1:], strict=False)):
            raise ValueError("segments start one after another")

    def __len__(self) -> int:
        return len(self.starts)

    def segment(self, place: int, pts: int) -> int:
        """The segment of the frame at ``place`` (from 0) in the output's order, with this PTS."""
        return max(0, bisect_right(self.starts, pts if self.by_pts else place) - 1)

    def changed(self, identity: Mapping[str, str]) -> list[str]:
        """The names of what differs in ``identity``."""
        names = {**self.identity, **identity}
        return [name for name in names if self.identity.get(name) != identity.get(name)]


def segment_length(fps: float) -> int:
    """Frames of a segment where ``fps`` frames are computed in a second: a minute's work, within bounds."""
    return round(min(max(_AT_STAKE * fps, SHORTEST), LONGEST))


def cut(identity: Mapping[str, str], length: int, frames: int, times: Sequence[int] | None) -> Plan:
    """A plan of segments of ``length`` frames, for ``frames`` of them to expect: by PTS where ``times``, theirs in
    order, are to be trusted, else by place. What comes beyond all expectation belongs to the last segment."""
    places = range(0, max(1, frames - _SCRAP), length)[:_MOST]
    starts = tuple(places) if times is None else tuple(int(times[place]) for place in places)
    return Plan(identity, starts, times is not None, frames)
