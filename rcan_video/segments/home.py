"""Where the folder of a job lies, whether the job in it is the one that is asked for, and whether the disk has room."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rcan_video.errors import OutputError, UsageError
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.files import output_errors
from rcan_video.media.index import Index
from rcan_video.options import Options
from rcan_video.segments.records import Done
from rcan_video.segments.store import JobFolder
from rcan_video.size import Enlargement

ENDING = ".rcan"
"""Of the name of a job's folder."""

# What the file systems in use allow for a name, less our ending and a hash.
_LONGEST_NAME = 200


def home(output: str, work_dir: str | None) -> Path:
    """The folder of the job that writes ``output``: beside it, or in ``work_dir``. Raises OutputError."""
    target = Path(os.path.realpath(output))
    name = os.fsencode(target.name)[:_LONGEST_NAME].decode(errors="ignore")
    if work_dir is None:
        return target.with_name(name + ENDING)
    folder = Path(work_dir)
    with output_errors(work_dir):
        there = folder.is_dir()
    if not there:
        raise OutputError(f"--work-dir {work_dir} is no folder: make it, or name another")
    # Outputs of one name in several folders have jobs of their own.
    where = hashlib.blake2b(os.fsencode(target), digest_size=4).hexdigest()
    return Path(os.path.realpath(folder)) / f"{name}-{where}{ENDING}"


def may_be_finished(folder: Path, output: Path) -> bool:
    """Whether there are an ``output`` and the ``folder`` of a job that may have written it."""
    try:
        return folder.is_dir() and output.is_file()
    except OSError:  # a name that is too long, a folder that may not be looked into: what comes next will say so
        return False


def finished(folder: Path, output: Path, now: Mapping[str, str], *, look: bool = False) -> Done | None:
    """What was done of a job whose ``output`` has its name, where only its ``folder`` is left to be removed: that
    happens here, but for ``look``. None for any other state, and where it was another job than ``now``. Raises
    OutputError."""
    with JobFolder(folder, look=look) as job:
        if job.done.joined is None or job.done.joined != output.stat().st_size:
            return None
        same = all(job.plan.identity.get(name) == value for name, value in now.items())
        if not look:
            job.remove()
        return job.done if same else None


def asked(options: Options, enlargement: Enlargement, sha256: str, index: Index) -> dict[str, str]:
    """What is computed, by the name that people know it by."""
    return {
        "input": index.digest,
        "--model": sha256,
        "--scale": str(enlargement),
        "--start": str(options.start or 0),
        "--duration": str(options.duration),
        "--deinterlace": options.frames.deinterlace,
        "--fps-mode": options.frames.fps_mode,
        "--fps": str(options.frames.fps),
    }


def identity(
    options: Options, enlargement: Enlargement, sha256: str, target: VideoTarget, index: Index
) -> dict[str, str]:
    """Everything that the frames of the output depend on, but for the device and the batch, whose arithmetic may differ
    in the last bit, and the precision, which "auto" takes from the device: a job can go on elsewhere."""
    settings = " ".join(f"{key}={value}" for key, value in sorted(target.options.items()))
    return {
        **asked(options, enlargement, sha256, index),
        "colour description": str(target.color),
        "encoder setting": f"{target.codec} {target.pix_fmt} {target.width}x{target.height} {settings}",
        "version of rcan-video, torch or av": " ".join(map(_version, ("rcan-video", "torch", "av"))),
    }


def check_same(folder: JobFolder, now: Mapping[str, str]) -> None:
    """Raises UsageError where ``folder`` holds segments of a job other than ``now``."""
    changed = folder.plan.changed(now) if folder.begun and folder.done.records else []
    if changed:
        raise UsageError(
            f"{folder.path} holds {folder.done.frames} frames of a job with another {', another '.join(changed)}: "
            "run it as it was begun, or begin again with --restart"
        )


def check_room(folder: JobFolder, target: Path, others: int) -> None:
    """Before the join: is there room for the segments once more, and ``others`` bytes of other streams?

    Raises OutputError.
    """
    needed = sum(encoded.size for _, encoded in folder.segments()) + others
    with output_errors(str(target)):
        free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise OutputError(
            f"{target} needs {_megabytes(needed)}, and its disk has {_megabytes(free)} left: free some and run the "
            "same command again, every frame is kept"
        )


def forecast(folder: JobFolder) -> str | None:
    """A sentence about the room that the rest of the job will need, where the disk does not have it."""
    done = folder.done.frames
    if not done or folder.plan.frames <= done:
        return None
    size = sum(encoded.size for _, encoded in folder.segments())
    whole = size * folder.plan.frames // done
    needed = 2 * whole - size  # the segments to come, and all of them once more at the join
    free = shutil.disk_usage(folder.path).free
    if free >= needed:
        return None
    return (
        f"the disk of {folder.path} has {_megabytes(free)} left, and about {_megabytes(needed)} will be needed: free "
        "some before the end"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
