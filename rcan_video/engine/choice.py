"""Which engine computes, and on which device. Loads torch only where it may be needed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video.engine.ladder import Ladder, Rung
from rcan_video.engine.task import Task
from rcan_video.errors import DeviceError, OutOfMemory, UsageError
from rcan_video.options import DeviceOptions

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rcan_video.engine.base import Engine

TILES = (512, 192)
"""Sides of tiles, in pixels of the source: what overlaps included, half a GB and a tenth of one for 64 features."""

_CPU = ("cpu", "cpu:0")

# What the drivers of NVIDIA (also on Jetson and under Windows' Linux), AMD and Intel put there.
_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvmap", "/dev/dxg", "/dev/kfd", "/dev/dri")


@dataclass(frozen=True, slots=True)
class Choice:
    """``engine`` is "torch" or "openvino"; ``device`` is torch's, and None for the other. ``asked`` says that the
    user named this engine and wants no other; ``compile`` is for torch alone."""

    engine: str
    device: torch.device | None
    asked: bool
    compile: bool = False


def choose(options: DeviceOptions) -> Choice:
    """The engine and the device that the user means: with "auto", an accelerator if there is one, else OpenVINO if it
    is installed, else torch on the CPU.

    Raises DeviceError for what is not there, UsageError for a device that the named engine does not know.
    """
    if options.engine == "openvino":
        if options.compile:
            raise UsageError("--compile is torch's: leave it out with --engine openvino, which compiles in any case")
        if options.device not in ("auto", *_CPU):
            raise UsageError(
                f"--engine openvino computes on the CPU: leave --device {options.device} out, or use --engine torch"
            )
        if not openvino_installed():
            raise DeviceError("OpenVINO is not installed here: pip install rcan-video[openvino], or use --engine torch")
        return Choice("openvino", None, asked=True)
    asked = options.engine == "torch" or options.compile
    on_cpu = options.device in _CPU or (options.device == "auto" and not may_have_accelerator())
    if on_cpu and not asked and openvino_installed():
        return Choice("openvino", None, asked=False)
    from rcan_video.engine.backend import resolve_device

    device = resolve_device(options.device)
    if device.type == "cpu" and not asked and openvino_installed():
        return Choice("openvino", None, asked=False)
    return Choice("torch", device, asked, options.compile)


def open_engine(
    choice: Choice, task: Task, batch: int | None, threads: int | None, notice: Callable[[str], None]
) -> Engine:
    """The chosen engine for ``task``, and behind it those that take over where memory runs out. Where OpenVINO cannot
    run it and was not asked for by name, ``notice`` is told why, and torch does; it is told of every step down, too,
    whenever that is.

    Raises DeviceError, OutOfMemory and WeightsError.
    """
    return Ladder(_rungs(choice, task, threads, notice), batch, notice)


def _rungs(choice: Choice, task: Task, threads: int | None, notice: Callable[[str], None]) -> list[Rung]:
    """From the fastest to the most frugal: the whole frame, the residual groups in tiles, the same on the CPU."""

    def torch_on(device: torch.device | None, tile: int | None) -> Rung:
        name = f"torch on {device or 'cpu'}"
        if tile is None:
            compiles = choice.compile and device is choice.device
            return Rung(name, lambda batch: _open_torch(task, device, batch, threads, notice, compiles=compiles))
        return Rung(
            f"{name} in tiles of {tile} pixels",
            lambda batch: _open_torch(replace(task, tile=tile), device, batch, threads, notice),
            remark=", whose channel attention sees one tile at a time instead of the frame",
        )

    openvino = Rung("OpenVINO", lambda batch: _open_openvino_or_torch(choice, task, batch, threads, notice))
    tiles = [tile for tile in TILES if tile < max(task.size)]
    if choice.engine == "openvino":
        rungs = [openvino]
    else:
        rungs = [torch_on(choice.device, tile) for tile in (None, *tiles)]
        if choice.device is None or choice.device.type == "cpu":
            return rungs
        rungs.append(openvino if openvino_installed() and not choice.asked else torch_on(None, None))
    return rungs + [torch_on(None, tile) for tile in tiles]


def _open_torch(
    task: Task,
    device: torch.device | None,
    batch: int | None,
    threads: int | None,
    notice: Callable[[str], None],
    *,
    compiles: bool = False,
) -> Engine:
    from rcan_video.engine.backend import resolve_device
    from rcan_video.engine.torch_engine import TorchEngine

    (source, _), (target, _) = task.source, task.target
    device = device or resolve_device("cpu")

    def begin(module: nn.Module) -> Engine:
        scale = task.model.scale
        return TorchEngine(
            module, source, task.size, target, scale, device, batch, threads, notice, reduced=task.reduced
        )

    if not compiles:
        return begin(task.module(frugal=True))
    from rcan_video.engine.compiled import Compiled, warm_up

    engine = begin(Compiled(task.module(), notice))
    try:
        warm_up(engine, task, 1 if device.type == "cpu" else engine.batch)
    except BaseException:
        engine.close()
        raise
    return engine


def _open_openvino_or_torch(
    choice: Choice, task: Task, batch: int | None, threads: int | None, notice: Callable[[str], None]
) -> Engine:
    try:
        return _open_openvino(task, batch, threads)
    except OutOfMemory:
        raise
    except DeviceError as error:
        if choice.asked:
            raise
        reason = str(error).removesuffix(": use --engine torch")
        notice(f"{reason}: torch computes instead")
    return _open_torch(task, None, batch, threads, notice)


def openvino_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def may_have_accelerator() -> bool:
    """False where torch could not find one either, which it is therefore not loaded to say."""
    try:
        if importlib.metadata.version("torch").endswith("+cpu"):
            return False
    except importlib.metadata.PackageNotFoundError:  # not installed by pip
        return True
    return sys.platform != "linux" or any(Path(driver).exists() for driver in _DRIVERS)


def _open_openvino(task: Task, batch: int | None, threads: int | None) -> Engine:
    try:
        from rcan_video.engine.openvino_engine import OpenVinoEngine
    except (ImportError, OSError) as error:  # its libraries do not fit this system
        raise DeviceError(f"OpenVINO does not load here ({error}): use --engine torch") from error
    return OpenVinoEngine(task, batch=batch, threads=threads)
