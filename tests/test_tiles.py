"""The body in tiles: the same as on the whole frame but for what channel attention pools over."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rcan_video.network.catalog import load_model
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.rcan import RCAN, ChannelAttention, RCANConfig
from rcan_video.network.tiles import OVERLAP, TiledBody, reach

SET5 = Path(__file__).parents[2] / "shared" / "data" / "sr" / "Set5"
SMALL = RCANConfig(groups=1, blocks=2, features=8, reduction=4)


class Halved(nn.Module):
    """A gate that is the same everywhere, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x[:, :, :1, :1], 0.5)


def without_pooling(config: RCANConfig) -> RCAN:
    torch.manual_seed(1)
    net = RCAN(config).eval()
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, ChannelAttention):
                setattr(module, name, Halved())
    return net


@pytest.mark.parametrize("size", [(20, 33), (16, 16), (17, 64), (5, 40), (64, 7)])
@pytest.mark.parametrize(
    "config", [SMALL, RCANConfig(groups=1, blocks=2, features=8, reduction=4, upscale=4, unshuffle=2)]
)
def test_only_attention_sees_the_tiles(config: RCANConfig, size: tuple[int, int]) -> None:
    """The overlap is the whole reach of this body, so that without pooling nothing of a tile is left."""
    net = without_pooling(config)
    assert reach(config) == 6 < OVERLAP
    x = torch.rand(2, 3, *size)
    with torch.inference_mode():
        whole, tiled = FoldedRCAN(net)(x), FoldedRCAN(net, tile=8)(x)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)


def test_a_reach_that_is_one_short_would_be_seen() -> None:
    net = without_pooling(SMALL)
    folded, x = FoldedRCAN(net, tile=16), torch.rand(1, 3, 40, 40)
    assert isinstance(folded.body, TiledBody)
    with torch.inference_mode():
        folded.body.overlap -= 1
        assert (folded(x) - FoldedRCAN(net)(x)).abs().max() > 1e-6


def test_a_tile_as_large_as_the_frame_changes_nothing() -> None:
    net = load_model("fast", 2).net
    x = torch.rand(1, 3, 30, 40)
    with torch.inference_mode():
        assert torch.equal(FoldedRCAN(net, tile=40)(x), FoldedRCAN(net)(x))


def test_all_windows_have_one_shape() -> None:
    """And every pixel is one tile's own."""
    shapes: list[torch.Size] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(x.shape)
            return x + 1

    x = torch.rand(1, 2, 101, 77)
    assert torch.equal(TiledBody(Spy(), 32, 5)(x), x + 1)
    assert set(shapes) == {(1, 2, 36, 36)} and len(shapes) == 4 * 3


@pytest.mark.skipif(not SET5.is_dir(), reason="needs ../shared/data/sr/Set5")
def test_a_picture_stays_the_picture() -> None:
    """``fast`` x2 on 512x512 in nine tiles, against the whole frame, on the scale of 8 bits."""
    baby = cv2.imdecode(np.frombuffer((SET5 / "HR/x2/baby.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    x = torch.from_numpy(baby[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    assert x.shape == (1, 3, 512, 512)
    net = load_model("fast", 2).net
    with torch.inference_mode():
        difference = (FoldedRCAN(net, tile=192)(x) - FoldedRCAN(net)(x)).abs() * 255
    assert 0 < difference.max() < 5
    assert 10 * torch.log10(255**2 / difference.square().mean()) > 70
