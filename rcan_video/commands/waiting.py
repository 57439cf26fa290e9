"""What a process has taken, when it has ended."""

from __future__ import annotations

import os
import subprocess
import sys


def peak_memory(process: subprocess.Popen[bytes]) -> float | None:
    """Wait for the process, which nobody else waits for: what the kernel counted as its largest resident set, or as
    that of one which it has waited for itself, in MB (10**6 bytes). None where the system does not count."""
    if not hasattr(os, "wait4"):  # Windows
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e6
