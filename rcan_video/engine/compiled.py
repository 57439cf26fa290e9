"""``--compile``: a network through torch.compile, held against itself without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rcan_video.engine.base import Engine
from rcan_video.engine.task import Task
from rcan_video.errors import DeviceError
from rcan_video.frames import Frame, FrameBatch

_STEP = 1
"""Codes by which a plane may differ: what was just below a half before rounding may be just above it after."""


class Compiled(nn.Module):
    """``net``, planes in and planes out, compiled for the shape that it is first called with; for another shape it is
    compiled again.

    The first call computes both ways. Where the planes differ by more than rounding, ``notice`` is told and ``net``
    runs as it is from then on. Raises DeviceError where torch.compile does not work.
    """

    def __init__(self, net: nn.Module, notice: Callable[[str], None]) -> None:
        super().__init__()
        self.net = net
        self._notice = notice
        # Never with symbolic shapes: those forgo the layout that convolutions want.
        self._compiled: Callable[..., tuple[Tensor, ...]] | None = torch.compile(net.forward, dynamic=False)
        self._checked = False

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        plain: tuple[Tensor, ...]
        if self._compiled is None:
            plain = self.net(*planes)
            return plain
        try:
            computed = self._compiled(*planes)
        except _errors() as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise DeviceError(
                f"torch.compile does not work here ({reason.rstrip('.:')}): leave --compile out, or install a C++ "
                "compiler (g++)"
            ) from error
        if not self._checked:
            self._checked = True
            plain = self.net(*planes)
            if any(_differ(one, other) for one, other in zip(computed, plain, strict=True)):
                self._compiled = None
                self._notice("torch.compile changes the picture here: the network runs without it")
                return plain
        return computed


def warm_up(engine: Engine, task: Task, count: int) -> None:
    """Compile for so many frames now: the first frame's time is taken for every frame's, and what torch.compile lacks
    ends the job before it has begun."""
    layout, _ = task.source
    dtype = torch.uint8 if layout.sample_bytes == 1 else torch.uint16
    planes = tuple(torch.zeros(shape, dtype=dtype) for shape in layout.shapes(*task.size))
    engine.result(engine.submit(FrameBatch((Frame(planes, 0, 1, 0),) * count)))


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one.to(torch.int32) - other.to(torch.int32)).abs().max() > _STEP)


def _errors() -> tuple[type[BaseException], ...]:
    """What the stages of torch.compile raise. Loaded only when something is wrong, but for a module or two."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    errors: tuple[Any, ...] = (TorchDynamoException, InductorError, InvalidCxxCompiler)
    return errors
