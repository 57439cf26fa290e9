"""More than one display at once: a bar and a log file, JSON for a program and errors for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rcan_video.progress.base import Display, FileResult, Stage, StreamRow

if TYPE_CHECKING:
    from rcan_video.options import Report


class Several:
    """Tells all of ``displays`` the same."""

    def __init__(self, displays: Sequence[Display]) -> None:
        self._displays = tuple(displays)

    def stage(self, stage: Stage) -> None:
        for display in self._displays:
            display.stage(stage)

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        for display in self._displays:
            display.start(description, total, kept)

    def streams(self, rows: Sequence[StreamRow]) -> None:
        for display in self._displays:
            display.streams(rows)

    def update(self, done: int, reused: int = 0) -> None:
        for display in self._displays:
            display.update(done, reused)

    def status(self) -> None:
        for display in self._displays:
            display.status()

    def notice(self, text: str) -> None:
        for display in self._displays:
            display.notice(text)

    def detail(self, text: str) -> None:
        for display in self._displays:
            display.detail(text)

    def finish(self, report: Report | None) -> None:
        for display in self._displays:
            display.finish(report)

    def file(self, number: int, count: int, name: str, output: str) -> None:
        for display in self._displays:
            display.file(number, count, name, output)

    def results(self, rows: Sequence[FileResult]) -> None:
        for display in self._displays:
            display.results(rows)

    def fail(self, text: str, code: int) -> None:
        for display in self._displays:
            display.fail(text, code)

    def close(self) -> None:
        for display in self._displays:
            display.close()
