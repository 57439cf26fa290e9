"""Which display shows a job: by what standard error is, or by what was asked for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from rcan_video.durable import same_file
from rcan_video.errors import OutputError, UsageError
from rcan_video.progress import Display, Silent

if TYPE_CHECKING:
    from rcan_video.progress.plain import Log

ProgressName = Literal["auto", "rich", "plain", "json", "none"]

_STDERR = 2


def open_display(
    kind: ProgressName = "auto",
    *,
    descriptor: int = _STDERR,
    log: str | None = None,
    media: Sequence[str] = (),
    verbose: bool = False,
) -> Display:
    """The display of ``kind`` on an open file ``descriptor``, beside a ``log`` file; none of ``media`` may be that.

    "auto" is a live bar on a terminal and lines elsewhere. Errors go to standard error, whatever else goes where: as
    JSON only where all of it does. Raises UsageError, OutputError.
    """
    from rcan_video.progress.plain import ErrorsAlone
    from rcan_video.progress.several import Several

    stream = sys.stderr if descriptor == _STDERR else _open_descriptor(descriptor)
    shown = _open(kind, stream, verbose=verbose)
    displays = [shown]
    if descriptor != _STDERR:
        displays.append(ErrorsAlone(sys.stderr))
    if log is not None:
        displays.append(_open_log(log, media))
    display = Several(displays) if len(displays) > 1 else shown
    if hasattr(signal, "SIGUSR1"):  # Windows has none
        signal.signal(signal.SIGUSR1, lambda *_: display.status())
    return display


def _open(kind: ProgressName, stream: TextIO | None, *, verbose: bool) -> Display:
    if stream is None:  # closed by the caller
        return Silent()
    if kind == "auto":
        kind = "rich" if stream.isatty() and os.environ.get("TERM") != "dumb" else "plain"
        forced = None
    else:
        forced = True
    if kind == "rich":
        from rcan_video.progress.bar import Bar, terminal

        return Bar(terminal(stream, force_terminal=forced), verbose=verbose)
    if kind == "json":
        from rcan_video.progress.events import Events

        return Events(stream)
    from rcan_video.progress.plain import ErrorsAlone, Plain

    return ErrorsAlone(stream) if kind == "none" else Plain(stream, verbose=verbose)


def _open_descriptor(number: int) -> TextIO:
    try:
        os.write(number, b"")  # fails where it is open for reading alone
        return os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    except OSError as error:
        raise UsageError(
            f"--progress-fd {number}: no such descriptor is open for writing: open it in the shell, as in {number}>FILE"
        ) from error


def _open_log(path: str, media: Sequence[str]) -> Log:
    """A log file that is added to. Raises UsageError, OutputError."""
    from rcan_video.progress.plain import Log

    file = Path(path)
    for other in media:
        if same_file(file, Path(other)):
            raise UsageError(f"--log {path} is the input or the output itself: name another file")
    try:
        return Log(file.open("a", encoding="utf-8", errors="backslashreplace"))
    except OSError as error:
        raise OutputError(f"--log {path} cannot be written ({error.strerror}): name another file") from error
