"""How a job tells what it is doing, and the words that every display uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from rcan_video.options import Report

LEFT_OUT = "left out"

Stage = Literal["reading", "starting", "upscaling", "joining", "checking"]
"""What a job is at: the input is read from end to end; the engine gets ready; frames are computed; segments are put
together beside the other streams; what was written is read back."""

STAGES: Mapping[Stage, str] = {
    "reading": "reading the input",
    "starting": "starting the engine",
    "upscaling": "upscaling",
    "joining": "joining the segments",
    "checking": "checking the output",
}
"""The stages in words."""


class StreamRow(NamedTuple):
    """One stream in words: "audio 1", "aac 2 ch, 48000 Hz", "copied", and why where it is not."""

    stream: str
    before: str
    after: str
    why: str = ""


FileStatus = Literal["done", "skipped", "damaged", "failed"]


class FileResult(NamedTuple):
    """What became of one file of several: ``text`` is the sentence where it is not "done", ``frames`` how many the
    output has and ``seconds`` how long they took, where it is."""

    input: str
    output: str
    status: FileStatus
    exit_code: int = 0
    text: str = ""
    frames: int = 0
    seconds: float = 0.0


class Progress(Protocol):
    """How a job tells what it is doing. Called from one thread at a time, but for ``notice`` and ``status``."""

    def stage(self, stage: Stage) -> None:
        """What the job is at from now on."""

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        """The job in a line; ``total`` is the expected number of frames, None where nobody knows, ``kept`` of which an
        earlier run has done."""

    def streams(self, rows: Sequence[StreamRow]) -> None:
        """What becomes of every stream, before the first frame."""

    def update(self, done: int, reused: int = 0) -> None:
        """``done`` frames are written so far, those kept included; ``reused`` of them took the output of an earlier
        frame."""

    def status(self) -> None:
        """Say at once how far the work is: somebody has asked (SIGUSR1). Called from the main thread, at any moment."""

    def notice(self, text: str) -> None:
        """One sentence that people should read. Called from any thread: engines report what happens to them."""

    def detail(self, text: str) -> None:
        """One sentence for people who want to know more (``--verbose``)."""

    def finish(self, report: Report | None) -> None:
        """Work ends, well with a report or badly with None."""


class Display(Progress, Protocol):
    """What a command shows: jobs one after another, and what is said around them."""

    def file(self, number: int, count: int, name: str, output: str) -> None:
        """The next job is the ``number``-th of ``count``."""

    def results(self, rows: Sequence[FileResult]) -> None:
        """What became of all files, once no more will be begun."""

    def fail(self, text: str, code: int) -> None:
        """The sentence of an error, and its exit code."""

    def close(self) -> None:
        """Nothing more will be shown."""


class Silent:
    """Says nothing: the default of the Python API, and what displays begin with."""

    def stage(self, stage: Stage) -> None: ...

    def start(self, description: str, total: int | None, kept: int = 0) -> None: ...

    def streams(self, rows: Sequence[StreamRow]) -> None: ...

    def update(self, done: int, reused: int = 0) -> None: ...

    def status(self) -> None: ...

    def notice(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def finish(self, report: Report | None) -> None: ...

    def file(self, number: int, count: int, name: str, output: str) -> None: ...

    def results(self, rows: Sequence[FileResult]) -> None: ...

    def fail(self, text: str, code: int) -> None: ...

    def close(self) -> None: ...


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


def tally(rows: Sequence[FileResult]) -> str:
    """``12 files: 9 done, 2 skipped, 1 failed``."""
    counts = {status: sum(row.status == status for row in rows) for status in ("done", "skipped", "damaged", "failed")}
    parts = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{len(rows)} file{'s' if len(rows) != 1 else ''}: {parts or 'nothing done'}"


def outcome(row: FileResult) -> str:
    """What a row of the table of files says last."""
    if row.status == "done":
        return f"{row.frames} frames, {duration_text(row.seconds)}"
    return row.text
