"""How far a job is, how fast it goes, and when it will be done."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rcan_video.progress.base import STAGES, Stage, duration_text

# The rate forgets what lies behind by this share of the time that it knows, and never by less than so many seconds: a
# burst of repeats or a busy second does not show, a machine that has become slower does.
_SHARE = 0.5
_SHORTEST = 60.0
# Frames of the first second behind the first one do not count: devices warm up, caches fill.
_WARM_UP = 1.0
# Seconds of counted work before the first estimate: with less, batches and queues are all that it would see.
_SOON = 1.0
# A frame that is later than so many of the usual gaps makes the time left grow.
_LATE = 3.0


class Estimate:
    """Frames per second and seconds left of the whole job, from when frames were written (a monotonic clock); of a
    training, its iterations.

    The time before the first frame that this run writes counts for nothing: engines start, decoders pass over what is
    kept. From there on the rate is a mean, weighted by exp(-age / horizon), of frames over time.
    """

    def __init__(self, total: int | None, kept: int) -> None:
        self._total = total
        self._done = kept
        self._first: float | None = None
        self._last = 0.0
        self._frames = self._seconds = self._updates = 0.0

    def update(self, done: int, now: float) -> None:
        if self._first is None:
            self._first = self._last = now
        passed = now - self._last
        if max(passed, self._last - self._first) >= _WARM_UP:
            fade = math.exp(-passed / max(_SHORTEST, _SHARE * (now - self._first)))
            self._frames = self._frames * fade + done - self._done
            self._seconds = self._seconds * fade + passed
            self._updates = self._updates * fade + 1
        self._done, self._last = done, now

    def rate(self, now: float) -> float | None:
        """Frames per second; None before there is anything to go by."""
        if not self._frames or self._seconds < _SOON:
            return None
        return self._frames / max(self._seconds + max(0.0, now - self._last - self._patience), 1e-9)

    def left(self, now: float) -> float | None:
        """Seconds; None where nobody knows how many frames there are, or how fast it goes."""
        rate = self.rate(now)
        if rate is None or not self._total:
            return None
        return max(0.0, max(0, self._total - self._done) / rate - min(now - self._last, self._patience))

    @property
    def _patience(self) -> float:
        return _LATE * self._seconds / self._updates


@dataclass(frozen=True, slots=True)
class Figures:
    """``total``, ``fps``, ``left`` (seconds) and ``memory`` (bytes of this process) are None where nobody knows."""

    stage: Stage
    done: int
    total: int | None
    kept: int
    reused: int
    fps: float | None
    left: float | None
    elapsed: float
    memory: int | None

    @property
    def share(self) -> float | None:
        """Of the whole job, 0..1."""
        return min(1.0, self.done / self.total) if self.total else None

    def words(self) -> list[str]:
        """The most important first."""
        total = max(self.total, self.done) if self.total else "?"
        return [
            f"{self.done}/{total}",
            *([f"{self.fps:.2f} fps"] if self.fps is not None else []),
            *([f"{duration_text(self.left)} left"] if self.left is not None else []),
            f"{duration_text(self.elapsed)} elapsed",
            *([f"{self.reused} repeats"] if self.reused else []),
            *([memory_text(self.memory)] if self.memory is not None else []),
        ]


class Gauge:
    """What a display shows of one job: hears what the job tells, gives figures at any moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self.began = False
        """Whether the number of frames is known, as far as it ever will be."""
        self.stage: Stage = "reading"
        self._total: int | None = None
        self._kept = self._done = self._reused = 0
        self._estimate = Estimate(None, 0)

    @property
    def elapsed(self) -> float:
        """Seconds since the job began."""
        return self._clock() - self._begun

    def start(self, total: int | None, kept: int) -> None:
        self.began = True
        self._total, self._kept, self._done = total, kept, kept
        self._estimate = Estimate(total, kept)

    def update(self, done: int, reused: int) -> None:
        self._done, self._reused = done, reused
        self._estimate.update(done, self._clock())

    def figures(self) -> Figures:
        now = self._clock()
        return Figures(
            stage=self.stage,
            done=self._done,
            total=self._total,
            kept=self._kept,
            reused=self._reused,
            fps=self._estimate.rate(now),
            left=self._estimate.left(now),
            elapsed=now - self._begun,
            memory=resident_bytes(),
        )


def stage_text(gauge: Gauge) -> str:
    """What a job without frames to count is at."""
    return f"{STAGES[gauge.stage]}, {duration_text(gauge.elapsed)}"


def resident_bytes() -> int | None:
    """The memory that this process holds; its peak on macOS and the BSDs, None on Windows."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes()


def peak_bytes() -> int | None:
    """The most memory that this process has held; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
