"""A trained network, usually a larger one, whose pictures a training aims at as well (knowledge distillation).

What is lost in a small picture cannot be known, and so an original is, to the network that is to find it, a good answer
with noise. What a better network makes of the same small picture has less of that noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcan_video.errors import UsageError
from rcan_video.network.catalog import LoadedModel, load_model
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.picture import POSITIONS, in_position

SHARE = 0.5  # of the teacher's picture in what is aimed at


def load_teacher(model: str, scale: int) -> LoadedModel:
    """The network called ``model``, a bundled name or a path. Raises WeightsError as ``load_model`` does, UsageError
    where it is not of three colours."""
    loaded = load_model(model, scale)
    if loaded.net.config.colors != 3:
        raise UsageError(f"{model}: has {loaded.net.config.colors} colour, training is on RGB; give another --teacher")
    return loaded


class Teacher:
    """``model`` on ``device``, its residual groups in ``dtype``: with float16 it could overflow, and nobody would
    fall back as the engine does."""

    def __init__(self, model: LoadedModel, device: torch.device, dtype: torch.dtype) -> None:
        net = FoldedRCAN(model.net, dtype)
        self._net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def aim(self, small: Tensor, large: Tensor, largest: float, step: int) -> Tensor:
        """What lies halfway between ``large`` (N, 3, H * scale, W * scale) and the teacher's picture of ``small``
        (N, 3, H, W), all of samples in 0..``largest``.

        The teacher sees it in another of its eight positions at each ``step``: on average over eight of them the aim
        is the picture of its self-ensemble, which is better than its own.
        """
        return torch.lerp(large, in_position(self._net, small / largest, step % POSITIONS) * largest, SHARE)
