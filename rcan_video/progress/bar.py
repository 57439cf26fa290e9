"""A live display for terminals, drawn by rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from rcan_video.progress.base import LEFT_OUT, STAGES, FileResult, Silent, Stage, StreamRow, outcome, summary, tally
from rcan_video.progress.estimate import Figures, Gauge, stage_text

if TYPE_CHECKING:
    from rcan_video.options import Report

_PER_SECOND = 4
_GAP = "  "
# Of a share that nobody knows, the bar shows a pulse.
_STYLES = {"done": "green", "skipped": "dim", "damaged": "yellow", "failed": "red"}


class Bar(Silent):
    """What is done, in lines; below them two that live: a bar, and its figures."""

    def __init__(
        self,
        console: Console,
        *,
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verbose = verbose
        self._console = console
        self._clock = clock
        self._gauge = Gauge(clock)
        self._spinner = Spinner("line")  # drawn in ASCII: every locale has it
        self._live: Live | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._gauge.began:
            self._spinner.update(text=Text(stage_text(self._gauge)))
            yield self._spinner
            return
        yield from _picture(self._gauge.figures(), options.max_width)

    def stage(self, stage: Stage) -> None:
        self._gauge.stage = stage
        self._open()

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        self._console.print(description, markup=False)
        self._gauge.start(total, kept)
        self._open()

    def streams(self, rows: Sequence[StreamRow]) -> None:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for row in rows:
            kept = row.after != LEFT_OUT
            table.add_row(
                *map(escape, (row.stream, row.before, f"-> {row.after}", row.why)), style="" if kept else "yellow"
            )
        self._console.print(table)

    def update(self, done: int, reused: int = 0) -> None:
        self._gauge.update(done, reused)

    def status(self) -> None:
        gauge = self._gauge
        text = ", ".join(gauge.figures().words()) if gauge.began else stage_text(gauge)
        self._console.print(text, markup=False)

    def notice(self, text: str) -> None:
        self._console.print(text, style="yellow", markup=False)

    def detail(self, text: str) -> None:
        if self._verbose:
            self._console.print(text, style="dim", markup=False)

    def finish(self, report: Report | None) -> None:
        self.close()
        if report is not None:
            self._console.print(summary(report), markup=False)

    def file(self, number: int, count: int, name: str, output: str) -> None:
        self._gauge = Gauge(self._clock)
        self._console.print(f"file {number} of {count}: {name}", style="bold", markup=False)

    def results(self, rows: Sequence[FileResult]) -> None:
        self.close()
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(Text(row.status, style=_STYLES[row.status]), Text(row.input), Text(outcome(row)))
        self._console.print(table)
        self._console.print(tally(rows), markup=False)

    def fail(self, text: str, code: int) -> None:
        self.close()
        self._console.print(f"rcan-video: {text}", style="red", markup=False, soft_wrap=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _open(self) -> None:
        if self._live is None:
            # Standard output is not for us: it may carry the video.
            self._live = Live(
                self, console=self._console, refresh_per_second=_PER_SECOND, redirect_stdout=False, transient=False
            )
            self._live.start(refresh=True)


class Steady:
    """A stream whose reader may go away: what is written from then on is lost, and ends no job. rich would end the
    process, and send standard output, which may carry the video, to nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def terminal(stream: TextIO, **settings: Any) -> Console:
    """A console for a ``Bar``; ``settings`` are rich's."""
    return Console(file=cast("TextIO", Steady(stream)), highlight=False, **settings)


def _picture(figures: Figures, width: int) -> RenderResult:
    """The bar in a line, its figures in another, none longer than ``width``: what matters least is left out first."""
    share = figures.share
    percent = "" if share is None else f"{int(100 * share):3d} %"
    line = Table.grid(expand=True, padding=(0, 2, 0, 0))
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    stage = "upscaling" if figures.stage in ("reading", "starting") else STAGES[figures.stage]
    line.add_row(Text(stage), ProgressBar(100, 100 * share if share is not None else 0, pulse=share is None), percent)
    yield line
    words = figures.words()
    while len(_GAP.join(words)) > width and len(words) > 1:
        words.pop()
    yield Text(_GAP.join(words), no_wrap=True, overflow="crop")
