"""The device's whole work as one module: stored planes in, stored planes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rcan_video.color import PlanesToRgb
from rcan_video.errors import WeightsError
from rcan_video.frames import LUMA_WEIGHTS, ColorSpec, PlaneLayout
from rcan_video.network.alpha import EnlargeAlpha
from rcan_video.network.bands import RgbToPlanesInBands
from rcan_video.network.resample import Resample

_KR, _KB = LUMA_WEIGHTS[1]
_KG = 1 - _KR - _KB


class FrameNet(nn.Module):
    """``PlanesToRgb``, the network, ``RgbToPlanesInBands``.

    ``net`` maps (N, colors, H, W) float32, nominally 0..1, to (N, colors, scale H, scale W), not clipped. ``source``
    and ``target`` say how the planes that come and go are stored and coloured; they may differ in every respect.
    ``width`` and ``height`` are those of the source in pixels, the same for every frame. ``reduced`` is the (width,
    height) that the enlarged picture is reduced to, before anything is rounded; None leaves it as it is.

    Alpha goes past the network (``EnlargeAlpha``); a target that has it where the source has none becomes opaque.

    A network of one colour gets the luma of the picture (BT.709, whatever the video's own matrix: the network
    wants lightness, not the video's Y), and the rest of the colours is enlarged by bicubic interpolation beside it.

    Raises ``WeightsError`` for a network of any other number of colours than 1 and 3.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        source: tuple[PlaneLayout, ColorSpec],
        target: tuple[PlaneLayout, ColorSpec],
        width: int,
        height: int,
        colors: int,
        scale: int,
        reduced: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if colors not in (1, 3):
            raise WeightsError(f"this model has {colors} colour channels; a video needs one with 3 (RGB) or 1 (luma)")
        self.net = net
        self.colors = colors
        self.scale = scale
        self.to_rgb = PlanesToRgb(*source, width, height)
        enlarged = (scale * width, scale * height)
        self.reduce = None if reduced is None else Resample(enlarged, reduced)
        size = reduced or enlarged
        self.to_planes = RgbToPlanesInBands(*target, *size)
        (incoming, _), (outgoing, _) = source, target
        self.alpha_in, self.alpha_out = incoming.alpha, outgoing.alpha
        self.enlarge_alpha = EnlargeAlpha((width, height), size, (incoming.depth, outgoing.depth))

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W) uint8 or uint16 of the source's layout to planes of the target's, ``scale`` times as large or of
        the size ``reduced``, chroma as stored; and one tensor more, a bool of shape (1,): whether the network gave NaN
        or infinity, which rounding hides."""
        planes, alpha = (planes[:-1], planes[-1:]) if self.alpha_in else (planes, ())
        enlarged = self.enlarge(self.to_rgb(*planes))
        # A sum carries any NaN or infinity on; looking at each sample took forty times as long.
        not_finite = ~torch.isfinite(enlarged.sum()).reshape(1)
        if self.reduce is not None:
            # One colour at a time, each a plane of its own: the windows of all three would double what is there.
            enlarged = torch.stack([self.reduce(color.contiguous()) for color in enlarged.unbind(1)], 1)
        return (*self.to_planes(enlarged), *self._alpha(alpha, enlarged), not_finite)

    def _alpha(self, alpha: tuple[Tensor, ...], enlarged: Tensor) -> tuple[Tensor, ...]:
        if not self.alpha_out:
            return ()
        if not alpha:
            opaque = torch.full_like(enlarged[:, 0], self.enlarge_alpha.top_code)
            return (opaque.to(self.enlarge_alpha.dtype),)
        return (self.enlarge_alpha(alpha[0]),)

    def enlarge(self, rgb: Tensor) -> Tensor:
        """(N, 3, H, W) RGB, 0..1, to (N, 3, scale H, scale W), not clipped: the network and what goes past it."""
        enlarged: Tensor
        if self.colors == 3:
            # Convolutions on CPU and on tensor cores want the channels innermost; the rest of the network follows.
            enlarged = self.net(rgb.contiguous(memory_format=torch.channels_last))
        else:
            luma = _KR * rgb[:, 0:1] + _KG * rgb[:, 1:2] + _KB * rgb[:, 2:3]
            differences = F.interpolate(rgb - luma, scale_factor=self.scale, mode="bicubic", align_corners=False)
            enlarged = differences + self.net(luma)
        return enlarged
