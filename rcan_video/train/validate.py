"""How good the network is on pictures that it does not train on: PSNR-Y as the published tables have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rcan_video.metrics import Pixels, psnr_y
from rcan_video.network.rcan import RCAN
from rcan_video.train.data import Pair
from rcan_video.train.start import to_range


class Validation:
    """Pictures and their reduced forms, by kind ("psnr_y", "psnr_y_video"); the mean of each is reported."""

    def __init__(self, sets: Mapping[str, Sequence[Pair]]) -> None:
        self.sets = sets

    def scores(self, net: RCAN) -> dict[str, float]:
        """Mean PSNR-Y in dB of each kind: output clipped and rounded to 8 bits, a border of the scale cut off."""
        return {
            kind: sum(found) / len(found)
            for kind, pairs in self.sets.items()
            if (found := [_score(net, pair) for pair in pairs])
        }


def _score(net: RCAN, pair: Pair) -> float:
    scale, decibels = net.config.scale, []
    for lr, hr in zip(pair.lr, pair.hr, strict=True):
        height, width = (size * scale for size in lr.shape[:2])
        decibels.append(psnr_y(hr[:height, :width], enlarged(net, lr), scale))
    return sum(decibels) / len(decibels)


@torch.inference_mode()
def enlarged(net: RCAN, picture: Pixels) -> Pixels:
    """An 8-bit picture (h, w, 3) through the network, clipped and rounded: (h * scale, w * scale, 3)."""
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(next(net.parameters()).device)
    y = net(to_range(x, net.config)) * (255 / net.config.rgb_range)
    return y[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()  # type: ignore[no-any-return]
