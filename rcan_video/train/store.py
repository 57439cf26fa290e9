"""Pictures and videos on disk as memory-mapped RGB, decoded once and kept in a cache folder by what they contain.

    <cache>/<sha256 of the file>/hr.npy             (T, H, W, 3) uint8; T is 1 for a picture
                                 bicubic-x2.npy     the same, reduced
                                 sharpened-0.8/     both, of sharpened originals

A folder that is there is complete as far as it goes: every file gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rcan_video.cache import folder as cache_folder
from rcan_video.errors import InputError, OutputError, UsageError
from rcan_video.metrics import Pixels
from rcan_video.pictures import is_picture, planes_to_pixels, read_picture
from rcan_video.resize import reduce
from rcan_video.train.sharpen import UnsharpMask

if TYPE_CHECKING:
    from rcan_video.media.decode import Source

RUN = 10
"""Frames in a row that are kept of a video: as many as one compressed sequence takes."""
_RUNS = 8  # of each video, evenly spread
_GUESSED_FRAMES = 2500  # where the container does not tell

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
            keep(path, np.stack([reduce(frame, scale) for frame in self.frames]))
        return mapped(path)

    def sharpened(self, strongest: float) -> Footage:
        """The same, every frame sharpened alike by at most ``strongest`` (``UnsharpMask``), memory-mapped."""
        folder = self.folder / f"sharpened-{strongest:g}"
        stored = folder / "hr.npy"
        if not stored.exists():
            mask = UnsharpMask(self.key, strongest)
            with _whole(stored) as part:
                made = np.lib.format.open_memmap(part, "w+", np.uint8, self.frames.shape)
                for number, frame in enumerate(self.frames):
                    made[number] = mask(frame)
                made.flush()
        return Footage(self.path, f"{self.key}-{folder.name}", mapped(stored), folder)


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
        if not stored.exists():
            with _whole(stored) as part:
                _decode(path, part)
        yield Footage(path, key, mapped(stored), folder)


def _decode(path: Path, part: Path) -> None:
    if is_picture(path):
        np.save(part, read_picture(path)[None])
        return
    from rcan_video.media.decode import Source

    with Source(str(path)) as source:
        _decode_runs(source, part)


def _decode_runs(source: Source, part: Path) -> None:
    """Runs of ``RUN`` consecutive frames, evenly spread. They are written as they come: a clip may not fit memory."""
    source.leave_alpha_out()
    info = source.info
    pixels = planes_to_pixels(info.layout, info.color, (info.width, info.height))
    stride = max(RUN, (info.frames or _GUESSED_FRAMES) // _RUNS)
    count = 0
    raw = part.with_suffix(".raw")
    try:
        with raw.open("wb") as file:
            for frame in source.frames():
                if frame.index % stride < RUN and count < RUN * _RUNS:
                    file.write(pixels(frame.planes).tobytes())
                    count += 1
        whole = max(count // RUN * RUN, min(count, 1))  # a run that the end cut short is no run
        shape = (whole, info.height, info.width, 3)
        np.save(part, np.memmap(raw, np.uint8, "r", shape=shape))
    finally:
        raw.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def mapped(path: Path) -> Pixels:
    """A file that ``keep`` wrote, memory-mapped. Raises InputError where it is damaged."""
    try:
        found: Pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}); delete its folder, it is made anew") from error
    return found


def keep(path: Path, pixels: Pixels) -> None:
    """Write an array; the file appears whole. Raises OutputError."""
    with _whole(path) as part:
        np.save(part, pixels)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write under; what is there in the end gets the name ``path``. Raises OutputError."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.npy")  # numpy adds its suffix to names without
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free space there, or choose another --cache"
        ) from error
    finally:
        with suppress(OSError):  # where nothing could be made, nothing has to go
            part.unlink()
