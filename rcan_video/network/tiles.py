"""The residual groups tile by tile, for frames whose feature maps do not fit the memory."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from rcan_video.network.rcan import RCANConfig

OVERLAP = 32
"""Pixels of the body's input that a tile sees beyond its own edge, where the network reaches that far. What a pixel
owes to others fades with their distance: of the 27 that ``fast`` reaches, 16 suffice for a thousandth of an 8-bit step,
pooling aside (``benchmarks/README.md``). Deeper networks reach further, 411 pixels in the paper's, and lose as little
only as far as that holds for them, too: pooling over tiles changes more than what is cut off."""


def reach(config: RCANConfig) -> int:
    """Pixels that the body sees each way, its channel attention aside: one for each 3x3 convolution in a row."""
    return config.groups * (2 * config.blocks + 1) + 1


class TiledBody(nn.Module):
    """(N,features,H,W) -> the same shape: ``body`` on tiles of at most ``tile`` pixels a side, each with ``overlap``
    pixels around it that are thrown away afterwards.

    Beside input and output only one tile's feature maps are ever there. Channel attention pools over the tile and what
    overlaps it, not over the frame: this is another network, if a similar one. With attention aside it is the same one
    where ``overlap`` is the body's reach. A frame of one tile goes through ``body`` as it is.
    """

    def __init__(self, body: nn.Module, tile: int, overlap: int) -> None:
        super().__init__()
        self.body = body
        self.tile = tile
        self.overlap = overlap

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        if max(height, width) <= self.tile:
            whole: Tensor = self.body(features)
            return whole
        result = torch.empty_like(features)
        for top, bottom, y in self._cuts(height):
            for left, right, x in self._cuts(width):
                seen = self.body(features[..., y, x])
                own = seen[..., top - y.start : bottom - y.start, left - x.start : right - x.start]
                result[..., top:bottom, left:right] = own
        return result

    def _cuts(self, size: int) -> list[tuple[int, int, slice]]:
        """(start, end, what is seen) of the tiles along one axis. They differ in length by a pixel at most, and all see
        the same number of pixels: one shape for the whole frame, as cuDNN likes it."""
        count = -(-size // self.tile)
        edges = [number * size // count for number in range(count + 1)]
        seen = min(size, -(-size // count) + 2 * self.overlap)
        cuts = []
        for start, end in pairwise(edges):
            first = min(max(0, start - self.overlap), size - seen)
            cuts.append((start, end, slice(first, first + seen)))
        return cuts
