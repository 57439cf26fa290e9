"""How good the network is on pictures that it does not train on: PSNR-Y as the published tables have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rcan_video.metrics import psnr_y
from rcan_video.network.picture import PictureNet
from rcan_video.network.rcan import RCAN
from rcan_video.train.data import Pair


class Validation:
    """Pictures and their reduced forms, by kind ("psnr_y", "psnr_y_video"); the mean of each is reported."""

    def __init__(self, sets: Mapping[str, Sequence[Pair]]) -> None:
        self.sets = sets

    def scores(self, net: RCAN) -> dict[str, float]:
        """Mean PSNR-Y in dB of each kind: output clipped and rounded to 8 bits, a border of the scale cut off."""
        upscaler = PictureNet(net, next(net.parameters()).device)
        return {
            kind: sum(found) / len(found)
            for kind, pairs in self.sets.items()
            if (found := [_score(upscaler, pair) for pair in pairs])
        }


def _score(upscaler: PictureNet, pair: Pair) -> float:
    scale, decibels = upscaler.config.scale, []
    for lr, hr in zip(pair.lr, pair.hr, strict=True):
        height, width = (size * scale for size in lr.shape[:2])
        decibels.append(psnr_y(hr[:height, :width], upscaler(lr), scale))
    return sum(decibels) / len(decibels)
