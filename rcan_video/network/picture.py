"""One 8-bit picture through a network, on the way that the main job's frames take; and in eight positions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from rcan_video.errors import NotFinite
from rcan_video.frames import ColorSpec, PlaneLayout
from rcan_video.metrics import Pixels
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.frame_net import FrameNet
from rcan_video.network.rcan import RCAN

POSITIONS = 8
_RGB = (PlaneLayout("rgb"), ColorSpec(matrix=1, full_range=True, siting="left"))


class PictureNet:
    """``net``, folded, for pictures of any size, in float32 on ``device``.

    ``self_ensemble`` gives the mean of the outputs for the eight positions of the input, before rounding: what the
    literature marks with "+". It costs eight times as much.
    """

    def __init__(self, net: RCAN, device: torch.device, *, self_ensemble: bool = False) -> None:
        self.config = net.config
        self.device = device
        folded = FoldedRCAN(net)
        inner: nn.Module = SelfEnsemble(folded) if self_ensemble else folded
        self._net = inner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, picture: Pixels) -> Pixels:
        """(H, W, 3) uint8 RGB to (H * scale, W * scale, 3), clipped and rounded.

        Raises WeightsError for a network of neither 1 nor 3 colours, NotFinite where it gives NaN or infinity.
        """
        height, width = picture.shape[:2]
        frame_net = FrameNet(
            self._net,
            source=_RGB,
            target=_RGB,
            width=width,
            height=height,
            colors=self.config.colors,
            scale=self.config.scale,
        )
        stored = torch.from_numpy(np.array(picture)).to(self.device)[None]  # a copy: maps of files are read-only
        green, blue, red, not_finite = frame_net(*(stored[..., channel] for channel in (1, 2, 0)))
        if not_finite:
            raise NotFinite(
                f"the network gave NaN or infinity for a picture of {width}x{height}: its weights are spoilt"
            )
        enlarged: Pixels = torch.stack((red, green, blue), dim=-1)[0].cpu().numpy()
        return enlarged


class SelfEnsemble(nn.Module):
    """The mean of a network's outputs for its input in eight positions, each turned back (geometric self-ensemble:
    R. Timofte et al., "Seven ways to improve example-based single image super resolution", 2016)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to what ``net`` gives for it, one position after the other: memory is that of one."""
        total = in_position(self.net, x, 0)
        for position in range(1, POSITIONS):
            total = total + in_position(self.net, x, position)
        return total / POSITIONS


def in_position(net: nn.Module, x: Tensor, position: int) -> Tensor:
    """What ``net`` gives for (N, C, H, W) in one of its eight positions (0..7), turned back: two flips and a
    transposition, 0 as it is."""
    flip = [axis for bit, axis in ((1, -1), (2, -2)) if position & bit]
    seen = x.flip(flip)
    if position & 4:
        seen = seen.transpose(-2, -1)
    y: Tensor = net(seen.contiguous(memory_format=torch.channels_last))
    if position & 4:
        y = y.transpose(-2, -1)
    return y.flip(flip)
