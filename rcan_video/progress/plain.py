"""Lines: for logs and pipes, for a log file of its own, and for errors alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from rcan_video.progress.base import FileResult, Silent, Stage, StreamRow, outcome, summary, tally
from rcan_video.progress.estimate import Gauge, stage_text

if TYPE_CHECKING:
    from rcan_video.options import Report

_SECONDS = 10.0
_LOG_SECONDS = 60.0


class Plain(Silent):
    """Lines for logs and pipes: one at the start, one every ten seconds, one at the end."""

    def __init__(
        self,
        stream: TextIO,
        *,
        verbose: bool = False,
        every: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._verbose = verbose
        self._every = every
        self._clock = clock
        self._gauge = Gauge(clock)
        self._last = clock()

    def stage(self, stage: Stage) -> None:
        self._gauge.stage = stage

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        self._gauge.start(total, kept)
        self._last = self._clock()
        self._say(description)

    def streams(self, rows: Sequence[StreamRow]) -> None:
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        for row in rows:
            stream, before, after, why = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._say(f"  {stream}  {before} -> {after}  {why}".rstrip())

    def update(self, done: int, reused: int = 0) -> None:
        self._gauge.update(done, reused)
        if self._clock() - self._last >= self._every:
            self._last = self._clock()
            self.status()

    def status(self) -> None:
        gauge = self._gauge
        self._say("frame " + ", ".join(gauge.figures().words()) if gauge.began else stage_text(gauge))

    def notice(self, text: str) -> None:
        self._say(text)

    def detail(self, text: str) -> None:
        if self._verbose:
            self._say(text)

    def finish(self, report: Report | None) -> None:
        if report is not None:
            self._say(summary(report))

    def file(self, number: int, count: int, name: str, output: str) -> None:
        self._gauge = Gauge(self._clock)
        self._say(f"file {number} of {count}: {name} -> {output}")

    def results(self, rows: Sequence[FileResult]) -> None:
        width = max((len(row.input) for row in rows), default=0)
        for row in rows:
            self._say(f"  {row.status:8} {row.input.ljust(width)}  {outcome(row)}".rstrip())
        self._say(tally(rows))

    def fail(self, text: str, code: int) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        _write(self._stream, f"rcan-video: {text}\n")


class Log(Plain):
    """A log file: every line with its time, the details too, and how far the work is once a minute."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, verbose=True, every=_LOG_SECONDS, clock=clock)

    def stage(self, stage: Stage) -> None:
        super().stage(stage)
        self._say(stage_text(self._gauge))

    def finish(self, report: Report | None) -> None:
        super().finish(report)
        if report is not None:
            self._say("busy: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.stages.items()))

    def close(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.close()

    def _say(self, text: str) -> None:
        _write(self._stream, f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")


class ErrorsAlone(Silent):
    """``--quiet``: nothing but the sentences of errors."""

    def __init__(self, stream: TextIO | None, name: str = "rcan-video") -> None:
        self._stream = stream
        self._name = name

    def fail(self, text: str, code: int) -> None:
        if self._stream is not None:
            _write(self._stream, f"{self._name}: {text}\n")


def _write(stream: TextIO, line: str) -> None:
    # A job of hours does not end because its log is full or nobody reads it any more.
    with suppress(OSError, ValueError, RuntimeError):  # the last: a status asked for in the middle of a line
        stream.write(line)
        stream.flush()
