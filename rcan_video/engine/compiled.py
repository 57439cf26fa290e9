"""``--compile``: a network through torch.compile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rcan_video.errors import DeviceError


class Compiled(nn.Module):
    """``net``, planes in and planes out, compiled for the shape that it is first called with; for another shape it is
    compiled again.

    Raises DeviceError where torch.compile does not work.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        # Never with symbolic shapes: those forgo the layout that convolutions want.
        self._compiled = torch.compile(net.forward, dynamic=False)

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        try:
            computed: tuple[Tensor, ...] = self._compiled(*planes)
        except _errors() as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise DeviceError(
                f"torch.compile does not work here ({reason.rstrip('.:')}): leave --compile out, or install a C++ "
                "compiler (g++)"
            ) from error
        return computed


def _errors() -> tuple[type[BaseException], ...]:
    """What the stages of torch.compile raise. Loaded only when something is wrong, but for a module or two."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    errors: tuple[Any, ...] = (TorchDynamoException, InductorError, InvalidCxxCompiler)
    return errors
