"""Enlarged pictures to planes in bands of rows, so that no second picture of that size ever lies beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rcan_video.color import RgbToPlanes
from rcan_video.frames import ColorSpec, PlaneLayout

BAND = 1 << 22
"""Pixels of a band, about: 16 MiB in float32 for each of the handful of planes that the conversion needs at once."""

_HALO = 8
"""Chroma samples that a band sees of its neighbours; the filters of ``color.py`` reach 3 up and 3 down."""


class RgbToPlanesInBands(nn.Module):
    """``RgbToPlanes``, bit for bit, with a fraction of its memory.

    What that needs beside the picture (luma, a difference from it, and each of these on its way to whole codes) comes
    to as much as the picture itself: 400 MB at 1080p x4.
    """

    def __init__(self, layout: PlaneLayout, color: ColorSpec, width: int, height: int, pixels: int = BAND) -> None:
        super().__init__()
        step = 2**layout.sub_h  # rows of luma for one of chroma: bands begin on such
        halo = _HALO * step
        rows = max(1, pixels // width // step) * step
        tops = range(0, height, rows)
        self.seen = [(max(0, top - halo), min(height, top + rows + halo)) for top in tops]
        self.bands = nn.ModuleList(RgbToPlanes(layout, color, width, end - start) for start, end in self.seen)
        # Of each plane: its own rows among those of a band.
        chroma = (1, step, step) if layout.family == "yuv" else (1,) if layout.family == "gray" else (1, 1, 1)
        self.own = [
            [slice((top - start) // each, -(-(min(height, top + rows) - start) // each)) for each in chroma]
            for top, (start, _) in zip(tops, self.seen, strict=True)
        ]

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """As ``RgbToPlanes``."""
        if len(self.seen) == 1:
            whole: tuple[Tensor, ...] = self.bands[0](rgb)
            return whole
        parts = []
        for band, (start, end), own in zip(self.bands, self.seen, self.own, strict=True):
            planes = band(rgb[..., start:end, :])
            parts.append([plane[:, rows] for plane, rows in zip(planes, own, strict=True)])
        return tuple(torch.cat(plane, 1) for plane in zip(*parts, strict=True))
