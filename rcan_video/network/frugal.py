"""The network with fewer maps of the whole frame, for engines that run one operation after the other.

The values are those of the plain modules. Large memory that comes and goes leaves holes which the next request, in
glibc a little larger than what it gets, does not fit: what is alive at once is only half of what the process grows to.
So what can be is written where something lies already.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcan_video.network.rcan import RCAB, ResidualGroup

BAND = 1 << 22
"""Samples of the tail's convolution that are there at a time, about: 16 MiB in float32."""


class FrugalBody(nn.Module):
    """``body`` (residual groups and a convolution) on (N,features,H,W), for inference.

    All that blocks and groups give lies in two maps, allocated as one. Kept from frame to frame they would be missed
    after the residual groups: 180 MiB more at 1080p x4.
    """

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body

    def forward(self, features: Tensor) -> Tensor:
        y: Tensor
        batch, *shape = features.shape
        both = torch.empty(
            (2 * batch, *shape), dtype=features.dtype, device=features.device, memory_format=torch.channels_last
        )
        inner, skip = both.chunk(2)
        *groups, last = self.body
        x = features
        for group in groups:
            assert isinstance(group, ResidualGroup)
            *blocks, conv = group.body
            source = x  # the group's skip still needs it after the first block
            for block in blocks:
                assert isinstance(block, RCAB)
                first, activation, second, attention = block.body
                y = second(activation(first(source)))
                source = torch.addcmul(source, y, attention(y), value=block.residual_scale, out=inner)
                del y
            x = torch.add(conv(source), x, out=skip)
        y = last(x)
        return y


class FrugalTail(nn.Module):
    """``conv`` and a pixel shuffle by ``upscale``, in bands of rows: (N,features,H,W) ->
    (N,colors,H*upscale,W*upscale), one plane after the other as ``RgbToPlanes`` wants them.

    Where ``conv`` is padded by less than it reaches, its result is smaller: the ring that lacks is left for the caller
    to write.
    """

    def __init__(self, conv: nn.Conv2d, upscale: int) -> None:
        super().__init__()
        self.conv = conv
        self.upscale = upscale

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        up, outputs = self.upscale, self.conv.out_channels
        reach = self.conv.kernel_size[0] // 2
        ring = reach - int(self.conv.padding[0])
        out = x.new_empty(batch, outputs // up**2, height * up, width * up)
        rows = max(16, BAND // (batch * outputs * width))
        for top in range(ring, height - ring, rows):
            bottom = min(height - ring, top + rows)
            start = max(0, top - reach)
            seen = F.pixel_shuffle(self.conv(x[..., start : bottom + reach, :]), up)
            own = seen[..., (top - start - ring) * up :, :][..., : (bottom - top) * up, :]
            out[..., top * up : bottom * up, ring * up : (width - ring) * up] = own
        return out
