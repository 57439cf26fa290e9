"""``--compile``: a network through torch.compile."""

from __future__ import annotations

from collections.abc import Callable
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
    again.

    Raises DeviceError, when it is first called, where torch.compile does not work.
    """
    # Never with symbolic shapes: those forgo the layout that convolutions want.
    quicker = torch.compile(forward, dynamic=False)

    def run(*tensors: Tensor) -> Computed:
        try:
            return quicker(*tensors)
        except _errors() as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise DeviceError(
                f"torch.compile does not work here ({reason.rstrip('.:')}): leave --compile out, or install a C++ "
                "compiler (g++)"
            ) from error

    return run


def _errors() -> tuple[type[BaseException], ...]:
    """What the stages of torch.compile raise. Loaded only when something is wrong, but for a module or two."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    errors: tuple[Any, ...] = (TorchDynamoException, InductorError, InvalidCxxCompiler)
    return errors
