"""Pictures and videos on disk as memory-mapped RGB, decoded once and kept in a cache folder by what they contain.

    <cache>/<sha256 of the file>/hr.npy             (T, H, W, 3) uint8; T is 1 for a picture
                                 bicubic-x2.npy     the same, reduced

A folder that is there is complete as far as it goes: every file gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rcan_video import durable
from rcan_video.cache import folder as cache_folder
from rcan_video.errors import InputError, OutputError, UsageError
from rcan_video.metrics import Pixels
from rcan_video.pictures import is_picture, planes_to_pixels, read_picture
from rcan_video.resize import reduce

if TYPE_CHECKING:
    from rcan_video.media.decode import Source

RUN = 10
"""Frames in a row that are kept of a video: as many as one compressed sequence takes."""
_RUNS = 8  # of each video, evenly spread
_GUESSED_FRAMES = 2500  # where the container does not tell

_STALE = 24 * 3600.0
"""Seconds after which nobody is thought to be writing a file any more."""

Said = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Footage:
    """A decoded file. ``frames`` is (T, H, W, 3) uint8 RGB; a video's are runs of ``RUN`` consecutive ones."""

    path: Path
    key: str
    frames: Pixels
    folder: Path

    @property
    def moving(self) -> bool:
        return len(self.frames) >= RUN

    def reduced(self, scale: int) -> Pixels:
        """The frames made smaller by bicubic reduction, (T, H // scale, W // scale, 3), memory-mapped."""
        path = self.folder / f"bicubic-x{scale}.npy"
        if not path.exists():
            keep(path, (reduce(frame, scale) for frame in self.frames))
        height, width = self.frames.shape[1:3]
        return mapped(path, (len(self.frames), height // scale, width // scale, 3))


def default_cache() -> Path:
    """``train`` in this program's part of the user's cache folder. Raises UsageError for a user without a home."""
    folder = cache_folder()
    if folder is None:
        raise UsageError("there is no home folder to keep decoded pictures in: name a folder with --cache")
    return folder / "train"


def load(paths: Sequence[Path], cache: Path, say: Said) -> Iterator[Footage]:
    """Every file, decoded or from the cache; what is there twice comes once.

    Raises InputError for a file that is neither picture nor video, OutputError where the cache cannot be written.
    """
    met = set()
    for number, path in enumerate(paths, 1):
        say(f"reading {number}/{len(paths)}: {path.name}")
        key = _digest(path)
        if key in met:
            continue
        met.add(key)
        folder = cache / key
        stored = folder / "hr.npy"
        clear(folder)
        if not stored.exists():
            _decode(path, stored)
        yield Footage(path, key, mapped(stored), folder)


def _decode(path: Path, stored: Path) -> None:
    if is_picture(path):
        keep(stored, [read_picture(path)])
        return
    from rcan_video.media.decode import Source

    with Source(str(path), on_corrupt="fail") as source:
        keep(stored, _runs(source))


def _runs(source: Source) -> Iterator[Pixels]:
    """Runs of ``RUN`` consecutive frames, evenly spread; of a shorter video the first frame alone."""
    source.leave_alpha_out()
    info = source.info
    pixels = planes_to_pixels(info.layout, info.color, (info.width, info.height))
    stride = max(RUN, (info.frames or _GUESSED_FRAMES) // _RUNS)
    run: list[Pixels] = []
    whole = 0
    for frame in source.frames():
        if whole == _RUNS:
            return
        if frame.index % stride < RUN:
            run.append(pixels(frame.planes))
            if len(run) == RUN:
                yield from run
                run, whole = [], whole + 1
    if run and not whole:  # behind whole ones, a run that the end cut short is none
        yield run[0]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def mapped(path: Path, shape: tuple[int, ...] | None = None) -> Pixels:
    """A file that ``keep`` wrote, memory-mapped. Raises InputError where it cannot be read, is damaged, or has another
    ``shape``."""
    try:
        found: Pixels = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); see to that, or give another --cache"
        ) from error
    except Exception as error:  # a header that is damaged drives numpy's parser into errors of any class
        raise InputError(
            f"{path}: is damaged ({type(error).__name__}); delete {path.parent}, it is made anew"
        ) from error
    if found.dtype != np.uint8 or found.shape[3:] != (3,) or 0 in found.shape or shape not in (None, found.shape):
        raise InputError(f"{path}: is damaged ({found.dtype}, {found.shape}); delete {path.parent}, it is made anew")
    return found


def keep(path: Path, frames: Iterable[Pixels]) -> None:
    """Write frames (H, W, 3) as one array (T, H, W, 3), each as it comes, since a clip may not fit memory; the file
    appears whole. Raises OutputError, and what making the frames raises.

    Not through a map: where the disk is full, writing there ends the process (SIGBUS) and not this function. Without a
    buffer: closing that would fail once more.
    """
    part = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part")
    try:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = part.open("xb", buffering=0)
        with file:
            count, shape = 0, (0, 0, 3)
            for frame in frames:
                with _writing(path):
                    if not count:
                        shape = frame.shape
                        _write_header(file, (0, *shape))
                    left = np.ascontiguousarray(frame).data.cast("B")
                    while left:
                        left = left[file.write(left) :]
                count += 1
            with _writing(path):
                file.seek(0)
                _write_header(file, (count, *shape))  # as long as before: numpy leaves room for the first axis to grow
        with _writing(path):
            durable.replace(part, path)
    finally:
        with suppress(OSError):  # where nothing could be made, nothing has to go
            part.unlink()


def _write_header(file: FileIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def clear(folder: Path) -> None:
    """Remove what processes that were killed have left half written in ``folder``, one of the cache's own: above it may
    lie what is nobody's business here."""
    for part in folder.glob(".*.part"):
        with suppress(OSError):
            if part.stat().st_mtime < time.time() - _STALE:
                part.unlink()


def allow_many_files() -> None:
    """Each picture is mapped twice, and each map holds a file open: take as many as this system grants a process."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS names a limit that it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); make room for it, or choose another --cache"
        ) from error
