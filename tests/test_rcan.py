"""The network against the outputs of the original code, against the formulas written out, and as a thing to train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rcan_video.network import checkpoint
from rcan_video.network.rcan import RCAN, RCANConfig, pad_to_multiple

PARITY = Path(__file__).parents[2] / "shared" / "data" / "parity"
NAMES = [entry["name"] for entry in json.loads((PARITY / "manifest.json").read_text())] if PARITY.is_dir() else []

SMALL = {"groups": 2, "blocks": 2, "features": 8, "reduction": 4}
CONFIGS = [
    RCANConfig(**SMALL, upscale=2),
    RCANConfig(**SMALL, upscale=3),
    RCANConfig(**SMALL, upscale=4, rgb_range=1.0),
    RCANConfig(**SMALL, upscale=8, mean_shift=False, rgb_range=1.0),
    RCANConfig(**SMALL, upscale=1, mean_shift=False, rgb_range=1.0),
    RCANConfig(**SMALL, upscale=2, colors=1, mean_shift=False, rgb_range=1.0),
    RCANConfig(**SMALL, upscale=4, unshuffle=2, mean_shift=False, rgb_range=1.0),
    RCANConfig(**SMALL, upscale=4, activation="silu", residual_scale=0.1),
]


@pytest.mark.skipif(not NAMES, reason="needs ../shared/data/parity")
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_original_code(name: str) -> None:
    net = checkpoint.load(PARITY / f"{name}.pth")
    stored = np.load(PARITY / f"{name}.npz")
    lr, sr = (torch.from_numpy(stored[key]).permute(2, 0, 1)[None].float() for key in ("lr", "sr"))
    gain = net.config.rgb_range / 255
    with torch.inference_mode():
        y = net(lr * gain) / gain
    assert y.shape == sr.shape
    assert float((y - sr).abs().max()) < 0.02


def formula(x: Tensor, p: dict[str, Tensor], config: RCANConfig) -> Tensor:
    """RCAN written out from the paper and from RCAN-it, on a state dict, for sizes that need no padding."""
    act = F.relu if config.activation == "relu" else F.silu

    def conv(key: str, x: Tensor) -> Tensor:
        weight = p[f"{key}.weight"]
        return F.conv2d(x, weight, p[f"{key}.bias"], padding=weight.shape[-1] // 2)

    if config.mean_shift:
        x = conv("sub_mean", x)
    x = conv("head.1", F.pixel_unshuffle(x, config.unshuffle)) if config.unshuffle > 1 else conv("head.0", x)
    deep = x
    for g in range(config.groups):
        group = deep
        for b in range(config.blocks):
            key = f"body.{g}.body.{b}.body"
            y = conv(f"{key}.2", act(conv(f"{key}.0", group)))
            pooled = F.adaptive_avg_pool2d(y, 1)
            gate = torch.sigmoid(conv(f"{key}.3.conv_du.2", act(conv(f"{key}.3.conv_du.0", pooled))))
            group = group + y * gate * config.residual_scale
        deep = deep + conv(f"body.{g}.body.{config.blocks}", group)
    x = x + conv(f"body.{config.groups}", deep)
    step = 3 if config.activation == "silu" else 2
    for stage, factor in enumerate(config.stages):
        x = F.pixel_shuffle(conv(f"tail.0.{step * stage}", x), factor)
        x = act(x) if config.activation == "silu" else x
    x = conv("tail.1", x)
    return conv("add_mean", x) if config.mean_shift else x


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_equals_the_formulas(config: RCANConfig) -> None:
    torch.manual_seed(1)
    net = RCAN(config).double()
    x = config.rgb_range * torch.rand(2, config.colors, 6, 10, dtype=torch.float64)
    before = x.clone()
    y = net(x)
    assert y.shape == (2, config.colors, 6 * config.scale, 10 * config.scale)
    torch.testing.assert_close(y, formula(x, dict(net.state_dict()), config), rtol=1e-10, atol=1e-10)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("upscale", "parameters"), [(2, 15_444_643), (3, 15_629_283), (4, 15_592_355), (8, 15_740_067)]
)
def test_the_defaults_are_the_published_network(upscale: int, parameters: int) -> None:
    with torch.device("meta"):
        net = RCAN(RCANConfig(upscale=upscale))
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == parameters
    if upscale == 4:
        assert len(net.state_dict()) == 1634


def test_the_mean_of_div2k_goes_out_and_comes_back() -> None:
    net = RCAN(RCANConfig(**SMALL))
    mean = 255 * torch.tensor([0.4488, 0.4371, 0.4040])[None, :, None, None]
    assert torch.equal(net.sub_mean(mean), torch.zeros(1, 3, 1, 1))
    assert torch.equal(net.add_mean(torch.zeros(1, 3, 1, 1)), mean)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_trains(config: RCANConfig) -> None:
    torch.manual_seed(2)
    net = RCAN(config)
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == (
        {f"{m}.{p}" for m in ("sub_mean", "add_mean") for p in ("weight", "bias")} & set(net.state_dict())
    )
    net(config.rgb_range * torch.rand(1, config.colors, 8, 8)).square().mean().backward()
    missing = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(3)
    net = RCAN(CONFIGS[-1]).double()
    x = 255 * torch.rand(1, 3, 4, 4, dtype=torch.float64)
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    ours = torch.autograd.grad(net(x).square().mean(), list(trained.values()))
    theirs = torch.autograd.grad(
        formula(x, {**net.state_dict(), **trained}, net.config).square().mean(), list(trained.values())
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 2), (5, 7), (8, 8)])
def test_unshuffle_takes_any_size(height: int, width: int) -> None:
    torch.manual_seed(4)
    config = RCANConfig(**SMALL, upscale=4, unshuffle=4, mean_shift=False, rgb_range=1.0)
    net = RCAN(config).eval()
    x = torch.rand(1, 3, height, width)
    y = net(x)
    assert y.shape == x.shape
    padded = pad_to_multiple(x, 4)
    assert padded.shape[-2] % 4 == padded.shape[-1] % 4 == 0
    torch.testing.assert_close(y, net(padded)[..., :height, :width])


def test_padding_mirrors_and_repeats_only_where_it_must() -> None:
    row = torch.arange(5.0).expand(1, 1, 4, 5)
    assert pad_to_multiple(row, 4)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert pad_to_multiple(row[..., :1], 4)[0, 0, 0].tolist() == [0, 0, 0, 0]
    assert pad_to_multiple(row[..., :4], 4) is not None
    assert pad_to_multiple(row[..., :4], 4).shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 0}, "groups must be at least 1"),
        ({"features": 8, "reduction": 16}, "leaves nothing"),
        ({"upscale": 6}, "upscale must be 3 or a power of two, got 6"),
        ({"upscale": 2, "unshuffle": 4}, "no multiple of unshuffle"),
        ({"colors": 1}, "a mean shift is for 3 colors"),
        ({"rgb_range": 0.0}, "must be positive"),
        ({"rgb_range": float("nan")}, "must be positive"),
        ({"activation": "gelu"}, "must be relu or silu"),
    ],
)
def test_what_is_no_network(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RCANConfig(**change)  # type: ignore[arg-type]
