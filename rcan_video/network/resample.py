"""Planes of one size to planes of any other, in float32, as part of the device's module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from rcan_video.resize import weights

BLOCK = 64
"""Outputs that share a window of inputs. A longer one wastes products on zeros, a shorter one reads inputs twice."""


class Resample(nn.Module):
    """(N, H, W) float32 to (N, h, w), not clipped, for sizes given as (width, height).

    Keys' cubic convolution (a = -0.5), widened where an axis shrinks so that nothing aliases: ``imresize`` of MATLAB,
    and what Pillow and torch call bicubic with antialiasing. Each axis is a product with a banded matrix, rows first,
    done as small dense products: the same few operations on every device and in OpenVINO.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        super().__init__()
        (width, height), (self.width, self.height) = source, target
        self.rows = _axis(height, self.height)
        self.columns = _axis(width, self.width)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Goes where the module goes, but stays float32: ``half()`` is for networks."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(torch.empty(0)).device
        self.rows, self.columns = (_moved(axis, device) for axis in (self.rows, self.columns))
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.rows is not None:
            starts, taps = self.rows
            windows = torch.stack([x[:, start : start + taps.shape[2]] for start in starts], 1)
            x = torch.matmul(taps, windows).flatten(1, 2)[:, : self.height]
        if self.columns is not None:
            starts, taps = self.columns
            # No windows here: a product reads a part of each row where it lies.
            blocks = [x[..., start : start + taps.shape[2]] @ taps[k].T for k, start in enumerate(starts)]
            x = torch.cat(blocks, 2)[..., : self.width]
        return x


_Axis = tuple[list[int], Tensor] | None
"""Where windows begin, and the weights (blocks, BLOCK, K) of what they give; None for an axis that keeps its size."""


def _axis(source: int, target: int) -> _Axis:
    if source == target:
        return None
    starts, taps = weights(source, target, BLOCK)
    return starts.tolist(), torch.from_numpy(taps).float()


def _moved(axis: _Axis, device: torch.device) -> _Axis:
    return None if axis is None else (axis[0], axis[1].to(device))
