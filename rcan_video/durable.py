"""Files that outlive a crash and belong to one process: bytes made durable, locks, names that nobody planted, and names
of one file."""

from __future__ import annotations

import os
from pathlib import Path

# What is opened is the file itself, never what a link of its name points to. Windows has no such flag.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable. Raises OSError."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # it opens none
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows wants a file that may be written to
    try:
        os.fsync(handle)
    except OSError:
        if not folder:  # some file systems refuse that for folders
            raise
    finally:
        os.close(handle)


def replace(part: Path, path: Path) -> None:
    """Give the file ``part`` the name ``path`` of the same folder, in place of what had it: at every moment there is a
    whole file of that name, after a crash too. Raises OSError."""
    sync(part)
    part.replace(path)
    sync(path.parent)


def create(path: Path, mode: int = 0o600) -> None:
    """Make an empty file, by default of this user's alone, at ``path``, in place of what had the name: for whoever then
    writes into it by that name. Raises OSError."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, mode))


def same_file(one: Path, other: Path) -> bool:
    """Whether two names are of one file, through links and spellings, or would be if it were there."""
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return os.path.realpath(one) == os.path.realpath(other)


def runs(process: int) -> bool:
    """Whether a process of that number is there, on this machine. Always False on Windows, which removes no file that
    somebody has open, and where the question would be a Ctrl-C."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def lock(handle: int) -> bool:
    """Hold an open file for this process until it is closed, which the system does where the process dies. False where
    another process holds it. Raises OSError where the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows, which has no such lock
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
