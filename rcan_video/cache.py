"""What may be computed anew at any time: files in the user's cache folder, each whole and checked, or not there.

Losing any of them costs time alone, so nothing here raises: a file that is damaged, cut off or not readable is as good
as absent, and one that cannot be written is not written. What is read back is run (a compiled network), and a checksum
stops accidents only; so a folder that anybody else owns or may write to is not used at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

from rcan_video.version import __version__

LIMIT_BYTES = 512 << 20
"""All files together; those used longest ago go first."""

_MAGIC = b"rcan-video cache 1\n"
_DIGEST_BYTES = 32


def folder() -> Path | None:
    """This program's part of the user's cache folder: XDG Base Directory Specification, ~/Library/Caches,
    %LOCALAPPDATA%. None for a user without a home."""
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library/Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or "")
            if not base.is_absolute():  # which the specification says to ignore
                base = Path.home() / ".cache"
    except RuntimeError:  # nobody's home
        return None
    return base / "rcan-video"


def load(key: str) -> bytes | None:
    """What was stored under ``key``, or None."""
    base = _base()
    try:
        if base is None or not _is_private(base):
            return None
        path = base / key
        content = path.read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    payload = content[start:]
    if content[:start] != _MAGIC + hashlib.sha256(payload).digest():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return payload


def store(key: str, payload: bytes) -> None:
    """Keep ``payload`` under ``key`` if that is possible. The file appears whole, whoever else writes it."""
    base = _base()
    if base is None:
        return
    with contextlib.suppress(OSError):
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(base):
            return
        handle, part = tempfile.mkstemp(dir=base, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
            Path(part).replace(base / key)
        finally:
            Path(part).unlink(missing_ok=True)
        _trim(base)


def key_of(*parts: object) -> str:
    """A key made of everything that the payload depends on; the parts' ``repr`` must tell them apart.

    This package's own sources are always among it.
    """
    return hashlib.sha256(repr((__version__, _sources(), parts)).encode()).hexdigest()


@cache
def _sources() -> str:
    """Digest of the package's code: no version number to forget when the graph changes. Of an installation without
    sources, nothing: there the version has to do."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    with contextlib.suppress(OSError):
        for path in sorted(package.rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _base() -> Path | None:
    whole = folder()
    return None if whole is None else whole / "computed"


def _is_private(base: Path) -> bool:
    """Whether this is a folder, not a link to one, that its user alone may write to. Raises OSError."""
    info = base.lstat()
    if not stat.S_ISDIR(info.st_mode):
        return False
    # Windows keeps LOCALAPPDATA to its user by other means.
    return sys.platform == "win32" or (info.st_uid == os.geteuid() and not info.st_mode & 0o022)


def _trim(base: Path) -> None:
    found = sorted(
        ((info.st_mtime, info.st_size, path) for path in base.iterdir() for info in (path.stat(),)), reverse=True
    )
    total = 0
    for _, size, path in found:
        total += size
        if total > LIMIT_BYTES:
            path.unlink(missing_ok=True)
