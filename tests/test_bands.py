"""Bands of rows give the planes of the whole picture, bit for bit."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch

from rcan_video.color import RgbToPlanes
from rcan_video.frames import ColorSpec, PlaneLayout, Siting
from rcan_video.network import bands
from rcan_video.network.bands import RgbToPlanesInBands

_YUV = [PlaneLayout("yuv", depth, w, h) for depth in (8, 10) for w, h in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 2))]
_LAYOUTS = [*_YUV, PlaneLayout("gray"), PlaneLayout("rgb", 12)]


@pytest.mark.parametrize("layout", _LAYOUTS, ids=lambda layout: layout.pix_fmt)
@pytest.mark.parametrize("siting", get_args(Siting))
def test_bands_are_the_whole(layout: PlaneLayout, siting: Siting) -> None:
    """Noise, which shows every pixel that a filter takes from elsewhere, at heights that end bands at all places."""
    color = ColorSpec(1, False, siting)
    random = torch.Generator().manual_seed(1)
    for width, height in itertools.product((1, 7), (1, 2, 3, 63, 64, 66)):
        rgb = torch.rand(2, 3, height, width, generator=random) * 1.4 - 0.2
        whole = RgbToPlanes(layout, color, width, height)(rgb)
        for rows in (1, 16):
            parted = RgbToPlanesInBands(layout, color, width, height, pixels=rows * width)
            assert len(parted.seen) > 1 or height < 17
            for one, other in zip(whole, parted(rgb), strict=True):
                assert one.dtype == other.dtype and torch.equal(one.int(), other.int())


def test_a_halo_too_small_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise above does tell."""
    monkeypatch.setattr(bands, "_HALO", 2)
    layout, color = PlaneLayout("yuv", 8, 1, 1), ColorSpec(1, False, "left")
    rgb = torch.rand(1, 3, 64, 9, generator=torch.Generator().manual_seed(1))
    whole = RgbToPlanes(layout, color, 9, 64)(rgb)
    parted = RgbToPlanesInBands(layout, color, 9, 64, pixels=9)(rgb)
    assert any(not torch.equal(one, other) for one, other in zip(whole, parted, strict=True))
