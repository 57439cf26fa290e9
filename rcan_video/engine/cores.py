"""How many cores this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores(quota: Path = _QUOTA) -> int:
    """Those that the process may run on, or fewer where a container's share of time is fewer (cgroup v2, rounded up).

    torch counts the former alone: in a container of 2 of 64 cores its 64 threads would take turns.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroups, or "max": no limit
        time, period = map(int, quota.read_text(encoding="ascii").split())
        cores = min(cores, -(-time // period))
    return max(1, cores)
