"""JSON lines for programs: the schema is docs/progress.md, and a test holds the two together."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, TextIO

from rcan_video.progress.base import FileResult, Silent, Stage, StreamRow
from rcan_video.progress.estimate import Gauge

if TYPE_CHECKING:
    from rcan_video.options import Report

SCHEMA = 1
"""Raised where a field goes away or means something else. New events and new fields do not raise it."""

_SECONDS = 0.5


class Events(Silent):
    """One object in a line for every event, flushed; how far the work is twice a second."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._begun = clock()
        self._gauge = Gauge(clock)
        self._last = float("-inf")

    def stage(self, stage: Stage) -> None:
        self._gauge.stage = stage
        self._tell("stage", stage=stage)

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        self._gauge.start(total, kept)
        self._tell("start", text=description, frames_total=total, frames_kept=kept)

    def streams(self, rows: Sequence[StreamRow]) -> None:
        self._tell("streams", streams=[row._asdict() for row in rows])

    def update(self, done: int, reused: int = 0) -> None:
        self._gauge.update(done, reused)
        if self._clock() - self._last >= _SECONDS:
            self.status()

    def status(self) -> None:
        self._last = self._clock()
        figures = self._gauge.figures()
        self._tell(
            "progress",
            frames_done=figures.done,
            frames_total=figures.total,
            frames_kept=figures.kept,
            frames_reused=figures.reused,
            fps=_rounded(figures.fps),
            seconds_left=_rounded(figures.left),
            memory_bytes=figures.memory,
        )

    def notice(self, text: str) -> None:
        self._tell("notice", text=text)

    def detail(self, text: str) -> None:
        self._tell("detail", text=text)

    def finish(self, report: Report | None) -> None:
        if report is None:
            return
        self.status()
        values = {field.name: getattr(report, field.name) for field in fields(report)}
        values["output"] = None if report.output is None else str(report.output)
        self._tell("finish", **values | {"fps": report.fps})

    def file(self, number: int, count: int, name: str, output: str) -> None:
        self._gauge = Gauge(self._clock)
        self._tell("file", number=number, count=count, input=name, output=output)

    def results(self, rows: Sequence[FileResult]) -> None:
        self._tell("results", files=[row._asdict() for row in rows])

    def fail(self, text: str, code: int) -> None:
        self._tell("error", text=text, exit_code=code)

    def _tell(self, event: str, **values: object) -> None:
        line = {"schema": SCHEMA, "event": event, "elapsed": _rounded(self._clock() - self._begun), **values}
        with suppress(OSError, ValueError, RuntimeError):  # nobody reads it any more: the job goes on
            # In ASCII: names that are no text in this locale, or in any, go through as escapes.
            self._stream.write(json.dumps(line, default=_plain) + "\n")
            self._stream.flush()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _plain(value: object) -> object:
    """What JSON has no type for: mappings and tuples of the report."""
    return dict(value) if hasattr(value, "keys") else str(value)  # type: ignore[call-overload]
