"""``rcan-video`` in a process of its own that starts at once: forked from this one, which has imported everything.

The process is real, with its own memory, signals and exit code; only the two seconds of imports are saved. Nothing of
torch may have run here before, since its threads do not survive a fork.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# What the command imports when it is at work.
import rcan_video.job  # noqa: F401
from rcan_video.commands.upscale import main

_PAGE = os.sysconf("SC_PAGE_SIZE")
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Ended:
    """How a process ended: ``code`` as ``subprocess`` gives it, what it ``said`` on both standard streams, and why it
    was ended from here ("" where it was not)."""

    code: int
    said: str
    seconds: float
    peak_bytes: int
    cut: str = ""

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.said or "this is a bug" in self.said

    @property
    def last_line(self) -> str:
        return self.said.strip().splitlines()[-1] if self.said.strip() else ""


class Command:
    """A running ``rcan-video`` with the arguments ``line``, whose standard streams go to ``log``. ``before`` is called
    in it first."""

    def __init__(self, line: Sequence[object], log: Path, before: Callable[[], None] = lambda: None) -> None:
        self._log = log
        log.unlink(missing_ok=True)
        self._begun = time.monotonic()
        self._ended: tuple[int, int] | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run([str(word) for word in line], log, before)

    def poll(self) -> bool:
        """Whether it has ended."""
        if self._ended is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._ended = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
        return self._ended is not None

    def send(self, number: int) -> None:
        if not self.poll():
            os.kill(self.pid, number)

    def wait(self, seconds: float = 120, most_bytes: int = 1 << 62) -> Ended:
        """Until it has ended, which is enforced when it has said nothing for ``seconds`` (of frames that come it speaks
        every ten), and above ``most_bytes`` of memory."""
        cut, spoke, said_bytes = "", time.monotonic(), 0
        while not self.poll():
            size = self._log.stat().st_size if self._log.exists() else 0
            if size != said_bytes:
                spoke, said_bytes = time.monotonic(), size
            if not cut and time.monotonic() - spoke > seconds:
                cut = "time"
            if not cut and self._resident() > most_bytes:
                cut = "memory"
            if cut:
                self.send(signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        assert self._ended is not None
        said = self._log.read_text(errors="replace") if self._log.exists() else ""
        return Ended(self._ended[0], said, time.monotonic() - self._begun, self._ended[1], cut)

    def _resident(self) -> int:
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0


def _run(line: list[str], log: Path, before: Callable[[], None]) -> None:
    code: object = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.argv = ["rcan-video", *line]
        before()
        main()
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)
