"""What an engine is to compute, as a value: it can be compared and named without loading torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rcan_video.frames import ColorSpec, PlaneLayout
from rcan_video.network.catalog import LoadedModel

if TYPE_CHECKING:
    from rcan_video.network.frame_net import FrameNet


BodyPrecision = Literal["single", "half", "bf16"]

DTYPES: Mapping[BodyPrecision, str] = {"single": "float32", "half": "float16", "bf16": "bfloat16"}
"""What a precision is called in torch."""


@dataclass(frozen=True, slots=True)
class Task:
    """Frames of ``source`` in, frames of ``target`` out, ``model.scale`` times as large, or then ``reduced`` to that
    (width, height) in pixels.

    Each of the two is how planes are stored and coloured; ``size`` is (width, height) of the source in pixels.
    ``tile`` makes the residual groups run in tiles of that size, None on the whole frame; ``precision`` is that of
    the groups alone.
    """

    model: LoadedModel
    source: tuple[PlaneLayout, ColorSpec]
    target: tuple[PlaneLayout, ColorSpec]
    size: tuple[int, int]
    tile: int | None = None
    precision: BodyPrecision = "single"
    reduced: tuple[int, int] | None = None

    @property
    def target_size(self) -> tuple[int, int]:
        """(width, height) of what leaves."""
        return self.reduced or self.enlarged

    @property
    def enlarged(self) -> tuple[int, int]:
        """(width, height) after the network."""
        return self.size[0] * self.model.scale, self.size[1] * self.model.scale

    def module(self, *, frugal: bool = False) -> FrameNet:
        """The whole work as one module of torch; ``frugal`` as for ``FoldedRCAN``.

        Raises WeightsError for a model that no video can use.
        """
        import torch

        from rcan_video.network.fold import FoldedRCAN
        from rcan_video.network.frame_net import FrameNet

        net = self.model.net
        return FrameNet(
            FoldedRCAN(net, getattr(torch, DTYPES[self.precision]), self.tile, frugal=frugal),
            source=self.source,
            target=self.target,
            width=self.size[0],
            height=self.size[1],
            colors=net.config.colors,
            scale=net.config.scale,
            reduced=self.reduced,
        ).eval()

    def identity(self) -> tuple[object, ...]:
        """All that ``module`` depends on beside the code: equal for tasks with equal modules."""
        stored = tuple(
            (layout, color.matrix, color.full_range, color.siting) for layout, color in (self.source, self.target)
        )
        return (self.model.sha256, stored, self.size, self.tile, self.precision, self.reduced)
