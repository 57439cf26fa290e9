"""Transparency beside the network: one more plane, enlarged by bicubic interpolation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rcan_video.resize import cubic

_REACH = 2  # samples to either side that a point between two samples is made of, its own sample included


class EnlargeAlpha(nn.Module):
    """An alpha plane to one ``scale`` times as large, rounded to the codes of another depth.

    Cubic convolution with a = -0.5 (Keys 1981), edges replicated, clamped to the code range. Alpha is always full
    range: 0 is transparent, the top code opaque, and both stay exactly that where the plane is even. Not the network:
    that was trained on pictures, and would draw texture into what are shapes.

    ``depths`` are the bits of what comes and of what leaves; ``width`` and ``height`` are of what comes, in pixels.
    Weights are plain floats, which stay float32 under ``.half()`` and autocast.
    """

    def __init__(self, scale: int, depths: tuple[int, int], width: int, height: int) -> None:
        super().__init__()
        self.sizes = (width, height)
        self.phases = [_taps((phase + 0.5) / scale - 0.5) for phase in range(scale)]
        source, target = depths
        self.top_code = 2**target - 1
        self.gain = self.top_code / (2**source - 1)
        self.dtype = torch.uint8 if target == 8 else torch.uint16

    def forward(self, plane: Tensor) -> Tensor:
        """(N, H, W) uint8 or uint16 to (N, scale H, scale W) uint8 or uint16."""
        width, height = self.sizes
        x = plane.to(torch.float32)[:, None]
        x = self._enlarge(F.pad(x, (_REACH, _REACH, 0, 0), mode="replicate"), -1, width)
        x = self._enlarge(F.pad(x, (0, 0, _REACH, _REACH), mode="replicate"), -2, height)
        codes: Tensor = (x[:, 0] * self.gain).add_(0.5).floor_().clamp_(0, self.top_code).to(self.dtype)
        return codes

    def _enlarge(self, padded: Tensor, dim: int, size: int) -> Tensor:
        """One axis of ``size`` samples: every phase is a sum of shifted copies; then they take turns."""
        phases = []
        for taps in self.phases:
            total = torch.zeros_like(padded.narrow(dim, 0, size))
            for shift, weight in enumerate(taps):
                if weight:
                    total = torch.add(total, padded.narrow(dim, shift, size), alpha=weight)
            phases.append(total)
        return torch.stack(phases, dim).flatten(dim - 1, dim)


def _taps(offset: float) -> list[float]:
    """Weights of the samples -2 to 2 for a point at ``offset`` (-0.5..0.5) from sample 0."""
    weights: list[float] = cubic(np.arange(-_REACH, _REACH + 1, dtype=np.float64) - offset).tolist()
    return weights
