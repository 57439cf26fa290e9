"""Kernels that are trained as a sum of themselves and a product of factors, and are plain kernels to everybody else.

    W = K0 + A * K * B      a 1x1 convolution B, a 3x3 convolution K and a 1x1 convolution A in a row are one 3x3

Over-parameterisation changes the path of the optimiser, not what the network can express (ECBSR, Zhang et al., ACM MM
2021; SESR, Bhardwaj et al., arXiv 2103.09404). As in SESR the product is multiplied out at every step, so a step
costs hardly more; and there is one bias, outside, because a bias between the factors would differ at padded borders.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Factors(nn.Module):
    """A parametrisation of a 3x3 kernel (O, I, 3, 3), with ``A`` (O, E), ``K`` (E, 9, E), ``B`` (E, I).

    ``K`` has its outputs first, its taps in reading order and its inputs last: then the product is two matrix
    products and comes out in torch's channels_last order. E is twice the inputs, at least 16.
    """

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        inner = 2 * max(inputs, 8)
        self.A = nn.Parameter(torch.randn(outputs, inner) * math.sqrt(1 / inner))
        self.K = nn.Parameter(torch.randn(inner, 9, inner) * (0.5 * math.sqrt(1 / (9 * inner))))
        self.B = nn.Parameter(torch.randn(inner, inputs) * math.sqrt(1 / inputs))

    def product(self) -> Tensor:
        """``sum_{e,f} A[o,e] K[e,ij,f] B[f,c]``, as (O, I, 3, 3)."""
        outputs, inner = self.A.shape
        left = self.A @ self.K.view(inner, 9 * inner)
        return (left.view(outputs * 9, inner) @ self.B).view(outputs, 3, 3, -1).permute(0, 3, 1, 2)

    def forward(self, kernel: Tensor) -> Tensor:
        with torch.autocast(kernel.device.type, enabled=False):  # mixed precision is for the work, not for what is kept
            return kernel + self.product()

    def right_inverse(self, kernel: Tensor) -> Tensor:
        """The K0 that gives ``kernel``: assigning to ``conv.weight``, now or later, does what it says."""
        return kernel - self.product().detach()


def factorise(net: nn.Module) -> None:
    """Give every 3x3 convolution of ``net`` factors; what it computes stays the same up to float rounding.

    In a ``with parametrize.cached():`` block each kernel is multiplied out once.
    """
    for conv in [module for module in net.modules() if isinstance(module, nn.Conv2d)]:
        if conv.kernel_size == (3, 3):
            factors = Factors(conv.out_channels, conv.in_channels).to(conv.weight.device)
            parametrize.register_parametrization(conv, "weight", factors)


def collapsed(net: nn.Module) -> dict[str, Tensor]:
    """The parameters of ``net`` as they were before ``factorise``, by name: every kernel multiplied out, detached."""
    found = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            found[f"{name}.weight"] = module.weight.detach()
            assert module.bias is not None
            found[f"{name}.bias"] = module.bias.detach()
    return found
