"""Standard input and output as files for FFmpeg, which can be told to give up.

FFmpeg's own ``pipe:`` blocks in the kernel until the other side moves: a thread in it can neither be stopped nor may
its container be closed. These wait in short steps and look at the stop event between them.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterator

from rcan_video.errors import Interrupted

_POLL_SECONDS = 0.1
BUFFER_BYTES = 1 << 20  # raw video comes in megabytes a frame: few calls through Python


class PipeReader:
    """A readable file on descriptor ``fd``; says "end of file" once ``stop`` is set."""

    def __init__(self, fd: int, stop: threading.Event) -> None:
        self._fd = fd
        self._stop = stop

    def read(self, size: int) -> bytes:
        with _interruptible(self._stop):
            return self._read(size)

    def _read(self, size: int) -> bytes:
        while not self._stop.is_set():
            if select.select([self._fd], [], [], _POLL_SECONDS)[0]:
                return os.read(self._fd, size)
        return b""


class PipeWriter:
    """A writable file on descriptor ``fd``; drops what it is given once ``stop`` is set.

    Raises BrokenPipeError where the reader has gone.
    """

    def __init__(self, fd: int, stop: threading.Event) -> None:
        self._fd = fd
        self._stop = stop

    def write(self, data: bytes) -> int:
        with _interruptible(self._stop):
            return self._write(data)

    def _write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and not self._stop.is_set():
            if select.select([], [self._fd], [], _POLL_SECONDS)[1]:
                # PIPE_BUF bytes never block once select says yes; a larger write may, and then nobody could stop it.
                rest = rest[os.write(self._fd, rest[: select.PIPE_BUF]) :]
        return len(data)


@contextlib.contextmanager
def _interruptible(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C inside a call from FFmpeg: PyAV carries only an Exception through, and FFmpeg may call again."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        stop.set()
        raise Interrupted from interrupt
