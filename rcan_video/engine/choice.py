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
from rcan_video.engine.task import DTYPES, BodyPrecision, Task
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
    user named this engine and wants no other; ``compile`` and ``precision`` are as in ``DeviceOptions``, and for torch
    alone."""

    engine: str
    device: torch.device | None
    asked: bool
    compile: bool = False
    precision: BodyPrecision = "single"

    @property
    def on_cpu(self) -> bool:
        return self.device is None or self.device.type == "cpu"


def check_device(options: DeviceOptions) -> None:
    """Raises UsageError for options that contradict each other, whatever devices there are."""
    if options.engine == "openvino":
        if options.compile:
            raise UsageError("--compile is torch's: leave it out with --engine openvino, which compiles in any case")
        if options.precision not in ("auto", "single"):
            raise UsageError(
                f"--precision {options.precision} is torch's: leave it out with --engine openvino, which computes in "
                "float32"
            )


def choose(options: DeviceOptions) -> Choice:
    """The engine and the device that the user means: with "auto", an accelerator if there is one, else OpenVINO if it
    is installed, else torch on the CPU.

    Raises DeviceError for what is not there, UsageError for a device that the named engine does not know.
    """
    check_device(options)
    if options.engine == "openvino":
        if options.device not in ("auto", *_CPU):
            raise UsageError(
                f"--engine openvino computes on the CPU: leave --device {options.device} out, or use --engine torch"
            )
        if not openvino_installed():
            raise DeviceError("OpenVINO is not installed here: pip install rcan-video[openvino], or use --engine torch")
        return Choice("openvino", None, asked=True)
    asked = options.engine == "torch" or options.compile or options.precision in ("half", "bf16")
    on_cpu = options.device in _CPU or (options.device == "auto" and not may_have_accelerator())
    if on_cpu and not asked and openvino_installed():
        return Choice("openvino", None, asked=False)
    from rcan_video.engine.backend import has_tensor_cores, resolve_device

    device = resolve_device(options.device)
    if device.type == "cpu" and not asked and openvino_installed():
        return Choice("openvino", None, asked=False)
    precision = options.precision
    if precision == "auto":
        precision = "half" if has_tensor_cores(device) else "single"
    return Choice("torch", device, asked, options.compile, precision)


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
    """From the fastest to the most frugal: the whole frame, the residual groups in tiles, the same on the CPU. Beside
    them, the same in float32 for what is in half precision, and without torch.compile for what goes through it."""

    def torch_on(
        device: torch.device | None, tile: int | None, precision: BodyPrecision = "single", *, compiles: bool = False
    ) -> Rung:
        name = f"torch on {device or 'cpu'}"
        name += f" in {DTYPES[precision]}" if precision != "single" else ""
        name += " through torch.compile" if compiles else ""
        variant = replace(task, tile=tile, precision=precision)

        def open_(batch: int | None) -> Engine:
            return _open_torch(variant, device, batch, threads, notice, compiles=compiles)

        if tile is None:
            return Rung(name, open_)
        remark = ", whose channel attention sees one tile at a time instead of the frame"
        return Rung(f"{name} in tiles of {tile} pixels", open_, remark)

    openvino = Rung("OpenVINO", lambda batch: _open_openvino_or_torch(choice, task, batch, threads, notice))
    device, precision = choice.device, choice.precision
    tiles = [tile for tile in TILES if tile < max(task.size)]
    on_cpu = [torch_on(None, tile) for tile in tiles]
    if choice.engine == "openvino":
        return [openvino, *on_cpu]
    below = []
    if device is not None and device.type != "cpu":
        below = [openvino if openvino_installed() and not choice.asked else torch_on(None, None), *on_cpu]
    rungs = [torch_on(device, tile) for tile in (None, *tiles)] + below
    if precision != "single":
        quick = [torch_on(device, tile, precision) for tile in (None, *tiles)]
        rungs = [replace(rung, plainer=tuple(rungs[place:])) for place, rung in enumerate(quick)] + below
    if choice.compile:  # the whole frame alone: tiles of other shapes would have to be compiled, too
        first = torch_on(device, None, precision, compiles=True)
        rungs = [replace(first, plainer=tuple(rungs)), *rungs[1:]]
    return rungs


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
    plain_task = replace(task, precision="single")

    def begin(module: nn.Module, arithmetic: str, batch: int | None, eager: nn.Module | None = None) -> Engine:
        scale = task.model.scale
        return TorchEngine(
            module,
            source,
            task.size,
            target,
            scale,
            device,
            batch,
            threads,
            notice=notice,
            arithmetic=arithmetic,
            reduced=task.reduced,
            eager=eager,
        )

    def plain(batch: int | None) -> Engine:
        return begin(plain_task.module(frugal=True), "float32", batch)

    def quick() -> Engine:
        arithmetic = DTYPES[task.precision]
        if not compiles:
            return begin(task.module(frugal=True), arithmetic, batch)
        from rcan_video.engine.compiled import Compiled

        net = task.module()
        return begin(Compiled(net), f"{arithmetic}, compiled", batch, eager=net)

    if not compiles and task.precision == "single":
        return plain(batch)
    from rcan_video.engine.trial import tried

    return tried(quick, lambda: plain(1), (source, target), task.size)


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
