"""What moves the parameters: Adam, or Muon for the 3x3 kernels of the body and Adam for the rest.

Muon (Jordan et al. 2024, torch.optim.Muon) takes a kernel as one matrix and makes every direction of its step equally
long. With ``match_rms_adamw`` (Liu et al., arXiv 2502.16982) its steps are as large as Adam's, so one rate is for both.
"""

from __future__ import annotations

from torch import Tensor, nn, optim
from torch.nn.utils import parametrize

from rcan_video.network.rcan import RCAN
from rcan_video.options import TrainOptimizer

_BETAS = (0.9, 0.99)


class Matrix(nn.Module):
    """A parametrisation of a kernel (O, I, H, W) by a matrix (O, H * W * I), which is what Muon takes.

    The inputs come last, so the kernel that is seen lies in memory as torch's channels_last has it.
    """

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self._outputs, self._inputs, self._height, self._width = kernel.shape

    def forward(self, matrix: Tensor) -> Tensor:
        return matrix.view(self._outputs, self._height, self._width, self._inputs).permute(0, 3, 1, 2)

    def right_inverse(self, kernel: Tensor) -> Tensor:
        return kernel.permute(0, 2, 3, 1).reshape(self._outputs, -1)


def optimizers(net: RCAN, kind: TrainOptimizer) -> list[optim.Optimizer]:
    """Adam, and for "muon" Muon as well, for the 3x3 kernels of the body, which become views of
    matrices with the same values."""
    matrices = _matrices(net) if kind == "muon" else []
    taken = {id(matrix) for matrix in matrices}
    rest = [p for p in net.parameters() if p.requires_grad and id(p) not in taken]
    found: list[optim.Optimizer] = [optim.Adam(rest, betas=_BETAS, fused=True)]
    if matrices:
        found.append(optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"))
    return found


def _matrices(net: RCAN) -> list[Tensor]:
    found: list[Tensor] = []
    for conv in [module for module in net.body.modules() if isinstance(module, nn.Conv2d)]:
        if conv.kernel_size == (3, 3):
            parametrize.register_parametrization(conv, "weight", Matrix(conv.weight))
            found.extend(conv.parametrizations.weight.parameters())  # type: ignore[union-attr]
    return found
