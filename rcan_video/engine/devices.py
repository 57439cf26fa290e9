"""The devices that a job computes on: one, or several that share its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rcan_video.engine.choice import Choice, choose, may_have_accelerator, open_engine
from rcan_video.engine.cores import available_cores
from rcan_video.engine.pool import Pool
from rcan_video.engine.task import Task
from rcan_video.errors import UsageError
from rcan_video.options import DeviceOptions

if TYPE_CHECKING:
    from rcan_video.engine.base import Engine

_ALONE = ("auto", "all")


def choose_devices(options: DeviceOptions) -> tuple[Choice, ...]:
    """An engine for each of the devices that the user means: one name, several with commas between them (a device may
    be named twice), or "all", every accelerator of the kind that "auto" takes, and what that takes where there is none.

    Raises as ``choose``, and UsageError for a list that is none.
    """
    names = options.device.split(",")
    if "" in names or (len(names) > 1 and any(name in _ALONE for name in names)):
        raise UsageError(
            f"--device {options.device} is no list of devices: name each, as in cuda:0,cuda:1, or use all or auto alone"
        )
    if names == ["all"] and options.engine != "openvino":
        names = _accelerators() or ["auto"]
    return tuple(choose(replace(options, device=name)) for name in names)


def open_devices(
    choices: Sequence[Choice], task: Task, batch: int | None, threads: int | None, notice: Callable[[str], None]
) -> Engine:
    """The engines of all ``choices`` as one, each with a ladder of its own. Those on the CPU share ``threads``, or the
    cores that there are. Raises as ``open_engine``."""
    if len(choices) == 1:
        return open_engine(choices[0], task, batch, threads, notice)
    on_cpu = sum(choice.on_cpu for choice in choices)
    share = max(1, (threads or available_cores()) // on_cpu) if on_cpu else threads
    engines: list[Engine] = []
    try:
        for choice in choices:
            engines.append(open_engine(choice, task, batch, share, notice))
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    target, _ = task.target
    return Pool(engines, target, task.target_size, notice)


def _accelerators() -> list[str]:
    """The names of all accelerators of one kind, none where there is none."""
    if not may_have_accelerator():
        return []
    from rcan_video.engine.backend import accelerators

    return accelerators()
