"""The segments that a job still lacks, computed in one pass: one decoder and one engine run through them without a
pause, only the encoder changes at a boundary.

A ``Feed`` gives the frames that are due and knows the segment of each, a ``Sink`` encodes them into that segment's
file. They run in two threads, the feed ahead of the sink.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video.durable import create
from rcan_video.frames import Frame, FrameBatch, Mark
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.decode import Source
from rcan_video.media.files import output_errors
from rcan_video.media.pace import Passthrough
from rcan_video.media.segment import SegmentWriter
from rcan_video.prepare import Ending
from rcan_video.segments.plan import LONGEST, SHORTEST, segment_length
from rcan_video.segments.records import Record
from rcan_video.segments.store import JobFolder
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from rcan_video.engine.base import Engine

# A first frame that takes longer than this, in seconds, says enough: warming up is no great part of it.
_LONG = 2.0


class Feed:
    """The frames of the segments ``numbers``, in order; None: of those that ``folder`` lacks. For one thread."""

    def __init__(
        self, source: Source, pace: Passthrough, folder: JobFolder, numbers: Sequence[int] | None = None
    ) -> None:
        self._source = source
        self._pace = pace
        self._plan = folder.plan
        self._records = dict(folder.done.records)
        self._missing = deque(folder.missing() if numbers is None else numbers)
        self._place = 0  # of the frame to come, in the output's order
        self._lands = pace.stateless and source.seekable
        self.to_the_end = False
        """Whether the input was read to its end, or to that of the chosen part."""
        self.numbers: deque[int] = deque()
        """The segment of each frame that was given and not yet taken by the sink."""
        self.marks: dict[int, Mark | None] = {}
        """The place behind each segment that was passed: there before the first frame of a later one is given."""

    def frames(self) -> Iterator[Frame]:
        """Every frame that is due, once. Raises InputError."""
        frames, current = self._open()
        while self._missing:
            frame = next(frames, None)
            number = len(self._plan) if frame is None else self._plan.segment(self._place, frame.pts)
            if number > current:
                mark = None if frame is None else self._source.mark(frame)
                self.marks |= dict.fromkeys(range(current, number), mark)
                while self._missing and self._missing[0] < number:
                    self._missing.popleft()
                current = number
                if frame is not None and self._missing and self._missing[0] > number and self._landing() is not None:
                    frames, current = self._open()
                    continue
            if frame is None:
                self.to_the_end = True
                return
            self._place += 1
            if self._missing and number == self._missing[0]:
                self.numbers.append(number)
                yield frame

    def _open(self) -> tuple[Iterator[Frame], int]:
        """Frames from the first segment that is missing, where the decoder can land there, else from the top; and the
        segment of the first of them."""
        mark = self._landing()
        if mark is not None:
            if self._source.resume(mark):
                self._place = mark.index
                return self._pace(self._source.frames()), self._missing[0]
            self._lands = False
        self._place = 0
        self._source.restart()
        return self._pace(self._source.frames()), 0

    def _landing(self) -> Mark | None:
        """Where the first segment that is missing begins, None where the decoder cannot land or nobody knows."""
        before = self._records.get(self._missing[0] - 1)
        return before.mark if self._lands and before is not None else None


class Sink:
    """Encodes what a ``feed`` gave, upscaled, into the segments ``numbers`` of ``folder``, or into all that it
    lacks. For one thread.

    Leaving the ``with`` throws the segment away that is not whole. Raises OutputError and VerificationError.
    """

    def __init__(
        self,
        feed: Feed,
        folder: JobFolder,
        target: VideoTarget,
        info: VideoInfo,
        name: str,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._feed = feed
        self._folder = folder
        self._target = target
        self._info = info
        self._name = name
        self._todo = deque(folder.missing() if numbers is None else numbers)
        self._number: int | None = None
        self._writer: SegmentWriter | None = None
        self.frames = 0

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)

    @property
    def _part(self) -> Path:
        assert self._number is not None
        return self._folder.part(self._number)

    def write(self, frame: Frame) -> None:
        number = self._feed.numbers.popleft()
        if number != self._number:
            self._complete(number)
            self._number = number
            with output_errors(str(self._part)):
                create(self._part)
            self._writer = SegmentWriter(self._part, self._target, self._info, self._name)
        assert self._writer is not None
        self._writer.write(frame)
        self.frames += 1

    def finish(self, ending: Ending | None) -> None:
        """Everything was written; ``ending`` is recorded with the last segment, where the input's end was reached."""
        if ending is not None:
            self._folder.done.ending = ending
        self._complete(None)

    def _complete(self, following: int | None) -> None:
        """Record the segments before ``following``: the open one, and those that got no frame."""
        while self._todo and (following is None or self._todo[0] < following):
            number = self._todo.popleft()
            encoded = None
            if self._writer is not None and number == self._number:
                encoded = self._writer.finish()
                self._writer = None
            self._folder.keep(number, Record(encoded, self._feed.marks[number]))


def choose_length(engine: Engine, frame: Frame, expected: int) -> int:
    """How many frames a segment is to have, by the time that ``engine`` takes for ``frame``; a video of ``expected``
    frames that is one segment anyway is not worth the trial."""
    if expected <= SHORTEST:
        return LONGEST
    seconds = _seconds(engine, frame)
    if seconds < _LONG:  # most of that was the engine's start
        seconds = _seconds(engine, frame)
    return segment_length(1 / max(seconds, 1e-6))


def _seconds(engine: Engine, frame: Frame) -> float:
    begun = time.perf_counter()
    engine.result(engine.submit(FrameBatch((frame,))))
    return time.perf_counter() - begun
