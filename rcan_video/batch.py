"""Several inputs, one after another: which they are, what their outputs are called, and what became of each."""

from __future__ import annotations

import glob
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from rcan_video.engine.devices import choose_devices
from rcan_video.errors import (
    BatchFailed,
    InputError,
    Interrupted,
    OutputError,
    PipeClosed,
    RcanVideoError,
    UsageError,
    bug_sentence,
    damage_sentence,
)
from rcan_video.job import upscale
from rcan_video.media.files import PIPE
from rcan_video.network.catalog import usable_scales
from rcan_video.options import BatchOptions, Options
from rcan_video.progress import Display, FileResult
from rcan_video.segments.home import ENDING, home

VIDEO_ENDINGS = frozenset(
    {
        ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc",
        ".ivf", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
        ".nut", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
"""What is taken for a video in a folder. A file that is named is taken whatever its name."""

KEPT_ENDINGS = frozenset({".mkv", ".mov", ".mp4", ".m4v", ".webm"})
"""Outputs end as their inputs do where that is one of these, which segments can be joined in; else they are .mkv."""

_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")


class Task(NamedTuple):
    """An input and the name of its output."""

    input: str
    output: str


class _Found(NamedTuple):
    """``place`` is the folder of the output below the chosen one; ``named``: by the caller, not by a pattern."""

    path: Path
    place: Path
    named: bool


def plan(options: BatchOptions) -> list[Task]:
    """Every input once, with its output. Nothing is written but the folder for them.

    Raises UsageError where two of them would have one output, or an input would be its own; InputError where there is
    nothing to do; OutputError where the folder cannot be made.
    """
    tasks: dict[str, Task] = {}
    outputs: dict[str, Task] = {}
    sources = []
    for found in _inputs(options):
        key = _key(found.path)
        if key not in tasks:
            tasks[key] = Task(str(found.path), str(Path(options.out_dir) / found.place / _name(found.path, options)))
            sources.append(found)
    results = {_key(task.output) for task in tasks.values()}
    # What an earlier run has made of the others: a folder that is its own --out-dir, with a suffix.
    old = {_key(found.path) for found in sources if not found.named and _key(found.path) in results}
    old -= {key for key in old if _key(tasks[key].output) == key}
    for key, task in tasks.items():
        if key in old:
            continue
        target = _key(task.output)
        if target in tasks and target not in old:
            raise UsageError(f"{task.output} would be written over an input: give another --out-dir, or a --suffix")
        if target in outputs:
            raise UsageError(
                f"{outputs[target].input} and {task.input} would both become {task.output}: give them in two "
                "runs, with another --out-dir or --suffix"
            )
        outputs[target] = task
    if not outputs:
        raise InputError(
            f"there is no video in {', '.join(options.inputs) or options.inputs_from}: name a file or a folder"
        )
    return list(outputs.values())


def run_batch(tasks: Sequence[Task], options: Options, display: Display, *, debug: bool = False) -> None:
    """Upscale all ``tasks`` as ``options`` say (but for input and output), one after another, whatever becomes of each.

    Outputs that are there are left as they are, unless ``options.overwrite``; a job that was interrupted goes on.
    Raises BatchFailed with the highest exit code in the end; Interrupted; before the first file what would be wrong
    with all of them (UsageError, WeightsError, DeviceError).
    """
    if options.format is not None:
        raise UsageError("--format is for standard output: the ending of a file says its container")
    usable_scales(options.model, options.size)
    if options.ray is None:
        choose_devices(options.device)
    begun, rows = time.monotonic(), list[FileResult]()
    try:
        for number, task in enumerate(tasks, 1):
            display.file(number, len(tasks), task.input, task.output)
            rows.append(_one(task, _rest(options, begun), display, debug=debug))
    except (KeyboardInterrupt, Interrupted) as error:
        display.results(rows)
        ready = sum(row.status in ("done", "damaged") for row in rows)
        kept = bool(ready) or (isinstance(error, Interrupted) and error.kept)
        raise Interrupted(
            f"{str(error) or 'interrupted'}: {len(rows)} of {len(tasks)} files are done", kept=kept
        ) from None
    display.results(rows)
    failed = [row for row in rows if row.exit_code]
    if failed:
        raise BatchFailed(
            f"{len(failed)} of {len(rows)} files went wrong, first {failed[0].input} (exit code {failed[0].exit_code})",
            max(row.exit_code for row in failed),
        )


def _one(task: Task, options: Options, display: Display, *, debug: bool) -> FileResult:
    """One file, and what became of it. Raises Interrupted and PipeClosed alone."""
    failed = FileResult(*task, "failed")
    try:
        if _is_there(task, options):
            row = FileResult(*task, "skipped", text="is there already")
            display.notice(f"{task.output} is there already: left as it is")
            return row
        Path(task.output).parent.mkdir(parents=True, exist_ok=True)
        report = upscale(replace(options, input=task.input, output=task.output), display)
    except (Interrupted, PipeClosed):
        raise
    except RcanVideoError as error:
        row = failed._replace(exit_code=error.exit_code, text=str(error))
    except OSError as error:
        row = failed._replace(
            exit_code=OutputError.exit_code,
            text=f"{task.output} cannot be written ({error.strerror}): choose another --out-dir",
        )
    except Exception as error:  # one file that meets a bug does not stop the others
        if debug:
            display.notice(traceback.format_exc())
        row = failed._replace(exit_code=RcanVideoError.exit_code, text=bug_sentence(error))
    else:
        row = FileResult(*task, "done", frames=report.frames_out, seconds=report.seconds)
        if report.damaged:
            text = damage_sentence(task.input, task.output)
            row = row._replace(status="damaged", exit_code=InputError.exit_code, text=text)
    if row.exit_code:
        display.fail(row.text, row.exit_code)
    return row


def _is_there(task: Task, options: Options) -> bool:
    """Whether the output is there and no job that is still to be finished: it has its name only when it is whole."""
    if options.overwrite or not Path(task.output).is_file():
        return False
    return not home(task.output, options.work_dir).is_dir()


def _rest(options: Options, begun: float) -> Options:
    """``options`` with what is left of --max-time. Raises Interrupted."""
    if options.max_time is None:
        return options
    rest = options.max_time - Fraction(time.monotonic() - begun)
    if rest <= 0:
        raise Interrupted("--max-time is over")
    return replace(options, max_time=rest)


def _inputs(options: BatchOptions) -> Iterator[_Found]:
    """Files, those in folders, those that match patterns; those of the list come last. Raises InputError."""
    folder = Path() if options.inputs_from in (None, PIPE) else Path(str(options.inputs_from)).parent
    listed = [] if options.inputs_from is None else [str(folder / name) for name in read_list(options.inputs_from)]
    for name in (*options.inputs, *listed):
        if name == PIPE:
            raise UsageError("standard input is one video: give it alone, as rcan-video - OUTPUT")
        path = Path(name)
        if path.is_dir():
            for file in _files_in(path, Path(options.out_dir), recursive=options.recursive):
                yield _Found(file, file.parent.relative_to(path), named=False)
        elif glob.has_magic(name) and not path.exists():  # a shell that expands none, or a pattern in quotes
            # Path.glob takes no absolute patterns.
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            files = [
                Path(match)
                for match in matches
                if Path(match).is_file() and not Path(match).parent.name.endswith(ENDING)
            ]
            if not files:
                raise InputError(f"no file matches {name}: correct the pattern")
            yield from (_Found(file, Path(), named=False) for file in files)
        else:
            yield _Found(path, Path(), named=True)


def read_list(name: str) -> list[str]:
    """The names in a list: a line each, or as ``find -print0`` writes them; lines of "#" are comments, as in playlists.

    Raises InputError.
    """
    try:
        content = sys.stdin.buffer.read() if name == PIPE and sys.stdin is not None else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"--inputs-from {name} cannot be read ({error.strerror}): name a list of files") from error
    parts = content.removeprefix(b"\xef\xbb\xbf").split(b"\0" if b"\0" in content else b"\n")
    names = (os.fsdecode(part.rstrip(b"\r") if b"\0" not in content else part) for part in parts)
    return [name for name in names if name.strip() and not name.startswith("#")]


def _files_in(folder: Path, out_dir: Path, *, recursive: bool) -> Iterator[Path]:
    """Videos by name, in order; not those in hidden folders, in folders of jobs, and where the outputs go."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be looked into ({error.strerror}): leave it out, or permit it")

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            name
            for name in folders
            if recursive
            and not name.startswith(".")
            and not name.endswith(ENDING)
            and _key(Path(place, name)) != _key(out_dir)
        )
        for name in sorted(files):
            if Path(name).suffix.lower() in VIDEO_ENDINGS and not name.startswith("."):
                yield Path(place, name)


def _name(path: Path, options: BatchOptions) -> str:
    """What the output of ``path`` is called. A suffix that ends as files do names the container, too."""
    ending = path.suffix if path.suffix.lower() in KEPT_ENDINGS else ".mkv"
    if _ENDING.fullmatch(Path(f"x{options.suffix}").suffix):
        ending = ""
    stem = path.stem if path.suffix.lower() in VIDEO_ENDINGS else path.name
    return f"{stem}{options.suffix}{ending}"


def _key(path: str | Path) -> str:
    """Equal for names of one file. macOS takes no notice of capitals, nor does Windows."""
    real = os.path.normcase(os.path.realpath(path))
    return real.casefold() if sys.platform == "darwin" else real
