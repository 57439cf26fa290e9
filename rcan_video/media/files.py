"""Opening inputs, naming outputs, and FFmpeg's errors in one sentence."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import av
import av.error

from rcan_video.durable import create, runs, sync
from rcan_video.errors import InputError, OutputError, PipeClosed
from rcan_video.media.numbering import is_numbered
from rcan_video.media.pipes import BUFFER_BYTES, PipeReader, PipeWriter

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer, OutputContainer

PIPE = "-"

# Muxers that write one video file. Others write several files, some under names of their own (HLS, DASH, numbered
# pictures), beside the part file and past its rename.
_ONE_FILE = frozenset(
    {
        "3g2", "3gp", "asf", "avi", "f4v", "flv", "gif", "h264",
        "hevc", "ipod", "ivf", "matroska", "mov", "mp4", "mpeg", "mpegts",
        "mxf", "nut", "obu", "ogg", "rm", "vob", "webm", "yuv4mpegpipe",
    }
)  # fmt: skip

MP4_FAMILY = frozenset({"mp4", "mov", "ipod", "3gp", "3g2", "f4v"})
"""Muxers of the ISO base media format and of QuickTime, by FFmpeg's names."""

# A container may name other resources: only files are ever opened, and none by what does nothing but name others,
# which could be anybody's secrets.
_PROTOCOLS = "file"
_PLAYLISTS = frozenset({"concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "webm_dash_manifest"})
_FORMATS = ",".join(sorted(av.formats_available - _PLAYLISTS))


def open_input(path: str, *, stop: threading.Event | None = None, hwaccel: HWAccel | None = None) -> InputContainer:
    """Open a file, or standard input where ``path`` is ``-``; reading from that ends when ``stop`` is set. What
    ``hwaccel`` can decode it does.

    Raises InputError (no such file, a directory, no permission, not media, a playlist).
    """
    options = {"protocol_whitelist": _PROTOCOLS, "format_whitelist": _FORMATS}
    source: PipeReader | str
    if path == PIPE:
        if sys.stdin is None:
            raise InputError("standard input is closed: pipe a video into it, or name a file")
        source = PipeReader(sys.stdin.fileno(), stop or threading.Event())
    else:
        _check_regular(path)
        # "file:" keeps names such as "concat:x" or "a:b.mp4" from being read as protocols.
        source = f"file:{path}"
    try:
        return av.open(
            source, "r", options=options, metadata_errors="replace", buffer_size=BUFFER_BYTES, hwaccel=hwaccel
        )
    except (av.FFmpegError, ValueError, OSError) as error:
        raise InputError(f"{shown(path)} cannot be opened: {_why_not_open(path, error)}") from error


def _check_regular(path: str) -> None:
    """A file is opened twice and sought in, which nothing else allows. FFmpeg would also open a name that is none, but
    stands for numbered pictures."""
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(f"{path} cannot be opened: {_why_not_open(path, error)}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {reason(error)}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a directory: name a video file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is a pipe or a device: give it as standard input, rcan-video - OUTPUT < {path}")


def _why_not_open(path: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        if "://" in path:
            return "only local files are; pipe it in, curl -L ADDRESS | rcan-video - OUTPUT"
        if is_numbered(path):
            return (
                "there is no such file, and numbered pictures are upscaled to pictures alone; make a video of them "
                f"first, ffmpeg -framerate 25 -i {path} -c:v ffv1 in.mkv"
            )
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "permission is denied"
    if path != PIPE and Path(path).exists() and Path(path).stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, av.error.ArgumentError):  # FFmpeg says no more where a format is not allowed
        return (
            "it is a playlist or a script, which only names other files (give one of those), or its header is damaged"
        )
    if isinstance(error, EOFError | av.error.InvalidDataError):
        return "it is no media file that FFmpeg can read, or its header is damaged or cut off"
    return reason(error)


def reason(error: Exception) -> str:
    """FFmpeg's own words, without its error number and file name."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def shown(path: str) -> str:
    """How a path is called in messages."""
    return "standard input" if path == PIPE else path


def elsewhere(container: str) -> str:
    """Ends the sentence "choose another ..." where ``container`` does not take a stream."""
    return "codec" if container == "matroska" else "container, such as .mkv"


@contextlib.contextmanager
def output_errors(name: str) -> Iterator[None]:
    """Turn what FFmpeg and the system raise while writing ``name`` into OutputError."""
    try:
        yield
    except BrokenPipeError as error:
        raise PipeClosed(f"the reader of {name} has closed it") from error
    except OSError as error:  # FFmpeg's errors too, where they have an errno
        if error.errno == errno.ENOSPC:
            raise OutputError(f"{name} cannot be written: the disk is full") from error
        if error.errno == errno.ENOENT:
            raise OutputError(f"{name} cannot be written: its folder or the unfinished file in it is gone") from error
        raise OutputError(f"{name} cannot be written: {reason(error)}") from error
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"{name} cannot be written: {reason(error)}") from error


def check_output(source: str, target: str, *, overwrite: bool) -> None:
    """Refuse, before any work, an output that exists, is the input itself, or has no folder to lie in.

    Raises OutputError.
    """
    if target == PIPE:
        if source != PIPE and sys.stdout is not None and _same_file(sys.stdout, source):
            raise OutputError("standard output is the input itself: redirect it into another file")
        return
    if source == PIPE and sys.stdin is not None and _same_file(sys.stdin, target):
        raise OutputError(f"{target} is the input itself: name another output")
    try:
        _check_file(source, Path(target), target, overwrite=overwrite)
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise OutputError(f"{target} cannot be written: {reason(error)}") from error


def _same_file(stream: TextIO, path: str) -> bool:
    """Whether a standard stream is the regular file at ``path``."""
    try:
        mine, other = os.fstat(stream.fileno()), Path(path).stat()
    except OSError:
        return False
    return stat.S_ISREG(other.st_mode) and os.path.samestat(mine, other)


def _check_file(source: str, path: Path, target: str, *, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{target} is a directory: name a file in it")
    if path.exists() and not path.is_file():
        raise OutputError(
            f"{target} is a pipe or a device: name a file; into a pipe, rcan-video writes with - and --format nut"
        )
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{target} cannot be written: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{target} cannot be written: the folder {folder} does not permit it")
    if path.exists():
        if source != PIPE and Path(source).exists() and path.samefile(source):
            raise OutputError(f"{target} is the input itself: name another output")
        if not overwrite:
            raise OutputError(f"{target} exists already: name another output or pass --overwrite")


PART = ".part"
_OLD = 24 * 3600  # seconds
_numbers = count()  # two jobs of one process never share a part file


class PartFile:
    """The file that is written: hidden beside the output, and given its name only by ``commit``. For the job of
    ``folder``, which nobody else works at, it lies in there, or, where that is on another disk, beside the output under
    a name that is always the same: what a crash leaves is written over by the next run.

    The suffix stays last so that FFmpeg knows the container. Entering the ``with`` makes it, empty, whatever link of
    its name somebody has planted; leaving it without ``commit`` removes it. Raises OutputError.
    """

    def __init__(self, target: str, *, overwrite: bool, folder: Path | None = None) -> None:
        self._overwrite = overwrite
        # A link is followed: what it points to is the file that is written.
        self.target = Path(os.path.realpath(target))
        # The stem is cut so that the name stays within what file systems allow.
        self._stem = stem = os.fsencode(self.target.stem)[:100].decode(errors="ignore")
        unique = f"{os.getpid()}-{next(_numbers)}"
        if folder is not None:
            unique = hashlib.blake2b(os.fsencode(folder), digest_size=4).hexdigest()
        self.path = self.target.with_name(f".{stem}.{unique}{PART}{self.target.suffix}")
        if folder is not None and folder.stat().st_dev == self.target.parent.stat().st_dev:
            self.path = folder / f"joined{PART}{self.target.suffix}"

    def __enter__(self) -> PartFile:
        with output_errors(str(self.target)):
            create(self.path, 0o666)  # as any program makes a file: the user's mask decides who may read it
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # gone with its folder, or on a disk that was taken away
            self.path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what other processes have left beside the output because they were killed: files like this one that
        nobody has written to for a day, and whose process is not there. It may be one of another machine or container:
        hence the day."""
        name = re.compile(rf"\.{re.escape(self._stem)}\.(\d+)-\d+{re.escape(PART + self.target.suffix)}")
        with contextlib.suppress(OSError):
            for file in self.target.parent.iterdir():
                found = name.fullmatch(file.name)
                if found and time.time() - file.lstat().st_mtime > _OLD and not runs(int(found[1])):
                    file.unlink(missing_ok=True)

    def commit(self) -> None:
        """Make the bytes durable, then give the file its name, which is atomic for a reader.

        Raises OutputError, also where a file of that name has appeared meanwhile that is not to be overwritten.
        """
        with output_errors(str(self.target)):
            sync(self.path)
            if not self._overwrite and self.target.exists():
                raise FileExistsError(errno.EEXIST, "a file of that name has appeared meanwhile")
            self.path.replace(self.target)
            sync(self.target.parent)

    def keep(self, why: str) -> Path:
        """Keep the file after all, as ``stem.why.suffix`` beside the target.

        Raises OutputError.
        """
        kept = self.target.with_name(f"{self.target.stem}.{why}{self.target.suffix}")
        with output_errors(str(kept)):
            self.path.replace(kept)
        return kept


def open_output(
    path: Path | None, *, format: str | None, options: dict[str, str], stop: threading.Event
) -> OutputContainer:
    """Open a container for writing: a file, or standard output where ``path`` is None.

    Raises OutputError where FFmpeg knows no container for the name.
    """
    if path is None:
        if sys.stdout is None:
            raise OutputError("standard output is closed: pipe it into another program, or name a file")
        writer = PipeWriter(sys.stdout.fileno(), stop)
        return av.open(writer, "w", format=format, container_options=options, buffer_size=BUFFER_BYTES)
    try:
        output = av.open(f"file:{path}", "w", format=format, container_options=options)
    except ValueError as error:
        # A part file has no other ending than ".part" where its target has none.
        ending = path.suffix if path.suffix != PART else ""
        raise OutputError(f"no container is known for the ending {ending!r}: use .mp4, .mkv, .mov or .webm") from error
    if output.format.name not in _ONE_FILE:
        raise OutputError(f"{output.format.name} (the ending {path.suffix!r}) is no video file: use .mp4, .mkv or .mov")
    return output
