"""What people see while a job runs: a bar on a terminal, a line now and then elsewhere; all on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from rcan_video.options import Report

_PLAIN_SECONDS = 10.0
LEFT_OUT = "left out"


class StreamRow(NamedTuple):
    """One stream in words: "audio 1", "aac 2 ch, 48000 Hz", "copied", and why where it is not."""

    stream: str
    before: str
    after: str
    why: str = ""


class Progress(Protocol):
    """How a job tells what it is doing. Called from one thread at a time, but for ``notice`` and ``status``."""

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        """Work begins; ``total`` is the expected number of frames, None where nobody knows, ``kept`` of which an
        earlier run has done."""

    def streams(self, rows: Sequence[StreamRow]) -> None:
        """What becomes of every stream, before the first frame."""

    def update(self, done: int) -> None:
        """``done`` frames are written so far, those kept included."""

    def status(self) -> None:
        """Say at once how far the work is: somebody has asked (SIGUSR1). Called from the main thread, at any moment."""

    def notice(self, text: str) -> None:
        """One sentence that people should read. Called from any thread: engines report what happens to them."""

    def detail(self, text: str) -> None:
        """One sentence for people who want to know more (``--verbose``)."""

    def finish(self, report: Report | None) -> None:
        """Work ends, well with a report or badly with None."""


class Silent:
    """Says nothing (``--quiet``, and the default of the Python API)."""

    def status(self) -> None: ...

    def start(self, description: str, total: int | None, kept: int = 0) -> None: ...

    def streams(self, rows: Sequence[StreamRow]) -> None: ...

    def update(self, done: int) -> None: ...

    def notice(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def finish(self, report: Report | None) -> None: ...


class Plain:
    """Lines for logs and pipes: one at the start, one every ten seconds, one at the end."""

    def __init__(self, stream: TextIO | None = None, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._stream = stream or sys.stderr
        self._total: int | None = None
        self._kept = self._done = 0
        self._begin = self._last = 0.0

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        self._total, self._kept, self._done = total, kept, kept
        self._begin = self._last = time.monotonic()
        self._say(description)

    def streams(self, rows: Sequence[StreamRow]) -> None:
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        for row in rows:
            stream, before, after, why = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._say(f"  {stream}  {before} -> {after}  {why}".rstrip())

    def update(self, done: int) -> None:
        self._done = done
        if time.monotonic() - self._last >= _PLAIN_SECONDS:
            self._last = time.monotonic()
            self.status()

    def status(self) -> None:
        figures = _figures(self._done, self._kept, self._total, time.monotonic() - self._begin)
        self._say("frame " + ", ".join(part for part in figures if part))

    def notice(self, text: str) -> None:
        self._say(text)

    def detail(self, text: str) -> None:
        if self._verbose:
            self._say(text)

    def finish(self, report: Report | None) -> None:
        if report is not None:
            self._say(summary(report))

    def _say(self, text: str) -> None:
        # A job of hours does not end because its log is full or nobody reads it any more.
        with suppress(OSError, ValueError, RuntimeError):  # the last: a status asked for in the middle of a line
            self._stream.write(f"rcan-video: {text}\n")
            self._stream.flush()


class Bar:
    """What is done, in a line; below it a live bar: frames, rate, time left."""

    def __init__(self, console: Console | None = None, *, verbose: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._verbose = verbose
        self._console = console or Console(stderr=True, highlight=False)
        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.fields[count]}", justify="right"),
            TextColumn("{task.fields[rate]}", justify="right"),
            TextColumn("{task.fields[left]}", justify="right"),
            TimeElapsedColumn(),
            console=self._console,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None, start=False, count="", rate="", left="")
        self._begin = 0.0
        self._total: int | None = None
        self._kept = self._done = 0

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        self._total, self._kept, self._done = total, kept, kept
        self._begin = time.monotonic()
        self._console.print(description, markup=False)
        self._bar.start()
        self._bar.start_task(self._task)
        self._bar.update(self._task, total=total, completed=kept, count=f"{kept}/{total or '?'}")

    def streams(self, rows: Sequence[StreamRow]) -> None:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for row in rows:
            kept = row.after != LEFT_OUT
            table.add_row(
                *map(escape, (row.stream, row.before, f"-> {row.after}", row.why)), style="" if kept else "yellow"
            )
        self._console.print(table)

    def status(self) -> None:
        figures = _figures(self._done, self._kept, self._total, time.monotonic() - self._begin)
        self._console.print(", ".join(part for part in figures if part), markup=False)

    def update(self, done: int) -> None:
        self._done = done
        count, rate, left = _figures(done, self._kept, self._total, time.monotonic() - self._begin)
        total = max(self._total, done) if self._total else None
        self._bar.update(self._task, completed=done, total=total, count=count, rate=rate, left=left)

    def notice(self, text: str) -> None:
        self._console.print(text, style="yellow", markup=False)

    def detail(self, text: str) -> None:
        if self._verbose:
            self._console.print(text, style="dim", markup=False)

    def finish(self, report: Report | None) -> None:
        self._bar.stop()
        if report is not None:
            self._console.print(summary(report), markup=False)


def _figures(done: int, kept: int, total: int | None, seconds: float) -> tuple[str, str, str]:
    """(frames, rate, time left) in words; the last is empty where ``total`` is unknown. That is an estimate of the
    container's, and ``done`` may pass it. Those ``kept`` cost nothing of ``seconds``."""
    fps = max(done - kept, 1) / max(seconds, 1e-9)
    if not total:
        return f"{done}/?", f"{fps:.2f} fps", ""
    total = max(total, done)
    return f"{done}/{total}", f"{fps:.2f} fps", f"{duration_text((total - done) / fps)} left"


def duration_text(seconds: float) -> str:
    """``42 s``, ``3:07``, ``1:02:03``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def summary(report: Report) -> str:
    """One line about a finished job."""
    where = report.output or "standard output"
    kept = f" ({report.kept} of an earlier run)" if report.kept else ""
    repeats = f"{report.reused} of them repeats, " if report.reused else ""
    return (
        f"{where}: {report.frames_out} frames{kept}, {repeats}{report.width}x{report.height}, "
        f"{duration_text(report.seconds)}, {report.fps:.2f} fps"
    )
