"""Transparency beside the network: one more plane, enlarged by bicubic interpolation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rcan_video.network.resample import Resample


class EnlargeAlpha(nn.Module):
    """An alpha plane to one of another size, rounded to the codes of another depth.

    Cubic convolution with a = -0.5 (Keys 1981), edges replicated, clamped to the code range. Alpha is always full
    range: 0 is transparent, the top code opaque, and both stay exactly that where the plane is even. Not the network:
    that was trained on pictures, and would draw texture into what are shapes.

    ``depths`` are the bits of what comes and of what leaves; ``source`` and ``target`` are (width, height) in pixels.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int], depths: tuple[int, int]) -> None:
        super().__init__()
        self.resample = Resample(source, target)
        incoming, outgoing = depths
        self.top_code = 2**outgoing - 1
        self.gain = self.top_code / (2**incoming - 1)
        self.dtype = torch.uint8 if outgoing == 8 else torch.uint16

    def forward(self, plane: Tensor) -> Tensor:
        """(N, H, W) uint8 or uint16 to (N, h, w) uint8 or uint16."""
        x: Tensor = self.resample(plane.to(torch.float32))
        codes: Tensor = (x * self.gain).add_(0.5).floor_().clamp_(0, self.top_code).to(self.dtype)
        return codes
