"""One picture through a network: as the network itself gives it, and in eight positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from train_helpers import texture

from rcan_video.errors import NotFinite
from rcan_video.metrics import Pixels
from rcan_video.network.picture import PictureNet, SelfEnsemble
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.train.data import turned

CPU = torch.device("cpu")
SMALL = RCANConfig(1, 1, 8, 4, upscale=2, rgb_range=1.0, mean_shift=False)


def network(config: RCANConfig) -> RCAN:
    torch.manual_seed(0)
    return RCAN(config).eval().requires_grad_(False)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, upscale=3, rgb_range=255.0, mean_shift=True)])
def test_a_picture_comes_out_as_the_network_gives_it(config: RCANConfig) -> None:
    net = network(config)
    picture = texture(0, 24)[:, :19]
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] * (config.rgb_range / 255)
    wanted = (net(x)[0] * (255 / config.rgb_range)).clamp(0, 255).permute(1, 2, 0).numpy()
    enlarged = PictureNet(net, CPU)(picture)
    assert enlarged.dtype == np.uint8 and enlarged.shape == (24 * config.scale, 19 * config.scale, 3)
    assert wanted.std() > 1
    assert np.abs(enlarged - wanted).max() < 0.501


def test_a_network_of_one_colour_keeps_gray_gray() -> None:
    gray = texture(1, 20)[..., :1].repeat(3, axis=2)
    enlarged = PictureNet(network(replace(SMALL, colors=1)), CPU)(gray)
    assert enlarged.shape == (40, 40, 3) and np.ptp(enlarged.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("position", range(8))
def test_the_self_ensemble_knows_no_direction(position: int) -> None:
    """A turned picture gives the turned result, which the network alone does not."""
    picture = texture(2, 20)[:, :16]

    def difference(net: PictureNet) -> int:
        here: Pixels = turned(net(picture), position)
        there = net(np.ascontiguousarray(turned(picture, position)))
        return int(np.abs(here.astype(int) - there).max())

    net = network(SMALL)
    assert difference(PictureNet(net, CPU, self_ensemble=True)) <= 1
    if position:
        assert difference(PictureNet(net, CPU)) > 3


def test_the_self_ensemble_is_the_mean_of_eight_before_rounding() -> None:
    seen = []

    class Counting(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            return x + len(seen)  # 1 to 8: the mean is 4.5

    x = torch.rand(1, 3, 4, 6)
    torch.testing.assert_close(SelfEnsemble(Counting())(x), x + 4.5)
    assert len({(tuple(y.shape), tuple(y.flatten().tolist())) for y in seen}) == 8


def test_a_network_that_gives_nan_is_no_score() -> None:
    net = network(SMALL)
    net.head[0].bias[0] = float("nan")  # type: ignore[index]
    with pytest.raises(NotFinite, match="its weights are spoilt"):
        PictureNet(net, CPU)(texture(0, 12))
