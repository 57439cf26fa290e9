"""When frames are shown: at their own times, or one at every tick of a constant rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import floor, gcd

from rcan_video.errors import UsageError
from rcan_video.frames import Frame
from rcan_video.options import FrameOptions
from rcan_video.video import VideoInfo

_FASTEST = 1000  # frames per second
_LIMIT = 1 << 31  # FFmpeg's time bases are fractions of 32-bit integers


class Passthrough:
    """Frames as they come. ``info`` is that of the frames that are given out; ``stateless``: what becomes of a frame
    does not depend on those before it."""

    stateless = True

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.repeated = 0
        self.dropped = 0

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        return iter(frames)

    def notices(self) -> list[str]:
        """What was done, in sentences; complete once the frames are used up."""
        return []


class ConstantRate(Passthrough):
    """Exactly one frame for each tick of ``1 / rate`` seconds, from the first frame's time to the last one's end.

    Each frame belongs to the tick nearest to its time, a half counting up. Where several have the same one, the
    nearest is shown; a tick that has none shows the frame before it. What is shown again are the very same planes, by
    which whoever computes something from them can tell. ``rate`` None is the input's own, on average.

    Raises UsageError for a rate out of all bounds.
    """

    stateless = False

    def __init__(self, info: VideoInfo, rate: Fraction | None) -> None:
        rate = info.rate if rate is None else rate
        if not 0 < rate <= _FASTEST:
            raise UsageError(f"--fps {rate}: give a rate above 0 and up to {_FASTEST} frames/s")
        self._source = info
        self._begin = info.start * info.time_base
        base = _time_base(self._begin, 1 / rate)
        self._step = round(1 / (rate * base))
        super().__init__(
            replace(
                info,
                rate=rate,
                time_base=base,
                start=round(self._begin / base),
                frames=info.frames if info.duration is None else max(1, round(info.duration * rate)),
            )
        )

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        group: list[Frame] = []  # of the tick ``at``
        at = end = 0
        for frame in frames:
            tick = self._tick(frame.pts)
            if group and tick > at:
                yield from self._show(group, at, tick)
                group.clear()
            group.append(frame)
            at, end = tick, self._tick(frame.pts + frame.duration)
        if group:
            yield from self._show(group, at, max(end, at + 1))

    def notices(self) -> list[str]:
        return [f"constant {self.info.rate} frames/s: {self.repeated} frames repeated, {self.dropped} dropped"]

    def _position(self, pts: int) -> Fraction:
        """A time of the source in ticks from its first frame."""
        return (pts * self._source.time_base - self._begin) * self.info.rate

    def _tick(self, pts: int) -> int:
        return floor(self._position(pts) + Fraction(1, 2))

    def _show(self, group: list[Frame], at: int, end: int) -> Iterator[Frame]:
        """The nearest frame of a tick, then the last one until the next that has frames of its own."""
        shown = [min(group, key=lambda frame: abs(self._position(frame.pts) - at)), *(end - at - 1) * [group[-1]]]
        different = len({frame.index for frame in shown})
        self.repeated += len(shown) - different
        self.dropped += len(group) - different
        for tick, frame in enumerate(shown, at):
            yield replace(frame, pts=self.info.start + tick * self._step, duration=self._step)


def open_pace(info: VideoInfo, options: FrameOptions) -> Passthrough:
    """The pace that ``options`` ask for. Raises UsageError."""
    if options.fps_mode == "cfr":
        return ConstantRate(info, options.fps)
    if options.fps is not None:
        raise UsageError("--fps is the rate of --fps-mode cfr: give that too, or leave --fps out")
    return Passthrough(info)


def _time_base(begin: Fraction, tick: Fraction) -> Fraction:
    """The coarsest unit that counts both the first frame's time and the ticks exactly, so that the picture stays where
    it was beside the sound; the tick itself where that unit would be too fine for FFmpeg."""
    common = Fraction(
        gcd(begin.numerator * tick.denominator, tick.numerator * begin.denominator),
        begin.denominator * tick.denominator,
    )
    return common if max(common.numerator, common.denominator) < _LIMIT else tick
