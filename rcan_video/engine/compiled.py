"""``--compile``: a network through torch.compile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rcan_video.errors import DeviceError

Computed = TypeVar("Computed")


class Compiled(nn.Module):
    """``net``, planes in and planes out, compiled as ``compiled`` does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._compiled: Callable[..., tuple[Tensor, ...]] = compiled(net.forward)

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        return self._compiled(*planes)


def compiled(forward: Callable[..., Computed]) -> Callable[..., Computed]:
    """``forward`` of a network, compiled for the shape that it is first called with; for another shape it is compiled
    again. The way back is compiled when it is first gone: that belongs within ``compiling``, too.

    What it returns raises DeviceError where torch.compile does not work.
    """
    # Never with symbolic shapes: those forgo the layout that convolutions want.
    quicker = torch.compile(forward, dynamic=False)

    def run(*tensors: Tensor) -> Computed:
        with compiling():
            return quicker(*tensors)

    return run


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Raises DeviceError where torch.compile does not work."""
    try:
        yield
    except _errors() as error:
        raise _without(error) from error


def check_compiler(device: torch.device) -> None:
    """Whether there is what torch.compile needs for a CPU, long before it is needed. Raises DeviceError."""
    if device.type != "cpu":
        return
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except (OSError, RuntimeError) as error:  # a folder for its cache that cannot be; no compiler
        raise _without(error) from error


def _without(error: BaseException) -> DeviceError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return DeviceError(
        f"torch.compile does not work here ({reason.rstrip('.:')}): leave --compile out, or install a C++ "
        "compiler (g++)"
    )


def _errors() -> tuple[type[BaseException], ...]:
    """What the stages of torch.compile raise. Loaded only when something is wrong, but for a module or two."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    errors: tuple[Any, ...] = (TorchDynamoException, InductorError, InvalidCxxCompiler)
    return errors
