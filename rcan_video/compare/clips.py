"""Two videos side by side: each frame of the one with the frame of the other that it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from rcan_video.errors import UsageError
from rcan_video.frames import Frame, Plane
from rcan_video.media.decode import Source
from rcan_video.media.files import PIPE
from rcan_video.media.index import read_index
from rcan_video.metrics import Pixels
from rcan_video.options import Deinterlace
from rcan_video.pictures import planes_to_pixels
from rcan_video.video import VideoInfo

# Matroska counts milliseconds: two frames this close are the same one, whatever their rate.
_TICK = Fraction(1, 1000)


class Shown(NamedTuple):
    """A frame in time: seconds from the first one, how long it lasts, and the frame before it."""

    at: Fraction
    lasts: Fraction
    frame: Frame
    before: Frame | None


class Clip:
    """A video file that is read from its first frame, or from ``start`` on.

    ``like`` is the video that it was made of: what its own stream does not say of its colours is taken from there, as
    the job does. Raises InputError as ``Source`` does, and UsageError for a pipe, which cannot be read twice.
    """

    def __init__(
        self,
        path: str,
        *,
        start: Fraction | None = None,
        duration: Fraction | None = None,
        deinterlace: Deinterlace = "off",
        like: VideoInfo | None = None,
    ) -> None:
        if path == PIPE:
            raise UsageError("files alone can be compared: name one in place of -")
        self.index = read_index(path)
        self.source = Source(path, index=self.index, start=start, duration=duration, deinterlace=deinterlace)
        self.source.leave_alpha_out()
        self.info = self.source.info
        color = self.info.color
        if like is not None and "matrix" in color.guessed:
            color = replace(color, matrix=like.color.matrix)
        self._pixels: Callable[[Sequence[Plane]], Pixels]
        self._pixels = planes_to_pixels(self.info.layout, color, (self.info.width, self.info.height))

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    @property
    def expected(self) -> int:
        """About how many frames will come."""
        return max(1, min(self.info.frames or self.index.frames, self.index.frames))

    def shown(self) -> Iterator[Shown]:
        """Every frame, once."""
        before, base = None, self.info.time_base
        for frame in self.source.frames():
            yield Shown((frame.pts - self.info.start) * base, frame.duration * base, frame, before)
            before = frame

    def pixels(self, frame: Frame) -> Pixels:
        """(H, W, 3) RGB."""
        return self._pixels(frame.planes)


def matched(shown: Iterable[Shown], others: Iterable[Shown]) -> Iterator[tuple[Shown, Shown]]:
    """Each of ``shown`` with the one of ``others`` that belongs to it: the nearest in time, where that is nearer than
    half as long as it lasts, or else the one before it, which a constant rate repeats. Ends where either does."""
    coming = iter(others)
    last = next(coming, None)
    following = next(coming, None)
    for frame in shown:
        while following is not None and following.at <= frame.at:
            last, following = following, next(coming, None)
        if last is None:
            return
        ahead = None if following is None else following.at - frame.at
        nearer = ahead is not None and ahead <= max(frame.lasts / 2, _TICK) and ahead < abs(frame.at - last.at)
        yield frame, following if nearer and following is not None else last
