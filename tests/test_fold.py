"""The folded form equals the network it was made of, at every pixel and for every size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rcan_video.network import catalog, checkpoint, frugal
from rcan_video.network.fold import FoldedRCAN, FoldedTail, StripedTail
from rcan_video.network.rcan import RCAN, RCANConfig

PARITY = Path(__file__).parents[2] / "shared" / "data" / "parity"
NAMES = [entry["name"] for entry in json.loads((PARITY / "manifest.json").read_text())] if PARITY.is_dir() else []

SMALL = {"groups": 1, "blocks": 2, "features": 8, "reduction": 4}
PLAIN = {"mean_shift": False, "rgb_range": 1.0}
CONFIGS = {
    "x2": RCANConfig(**SMALL, upscale=2),
    "x3": RCANConfig(**SMALL, upscale=3),
    "x4": RCANConfig(**SMALL, upscale=4),
    "x8": RCANConfig(**SMALL, upscale=8, rgb_range=1.0),
    "x1": RCANConfig(**SMALL, upscale=1, **PLAIN),
    "x2 plain": RCANConfig(**SMALL, upscale=2, **PLAIN),
    "x2 plain 255": RCANConfig(**SMALL, upscale=2, mean_shift=False),
    "x2 gray": RCANConfig(**SMALL, upscale=2, colors=1, **PLAIN),
    "unshuffle x1": RCANConfig(**SMALL, upscale=4, unshuffle=4, **PLAIN),
    "unshuffle x2": RCANConfig(**SMALL, upscale=4, unshuffle=2, **PLAIN),
    "rcan-it x2": RCANConfig(**SMALL, upscale=2, activation="silu", residual_scale=0.1),
    "rcan-it x3": RCANConfig(**SMALL, upscale=3, activation="silu", residual_scale=0.1),
    "rcan-it x4": RCANConfig(**SMALL, upscale=4, activation="silu", residual_scale=0.1),
}


def network(config: RCANConfig, seed: int = 0) -> RCAN:
    """Random weights whose outputs stay near the range, so that an absolute bound on the 0..255 scale means something.

    Biases are larger than torch's on purpose: they are what the border ring is about.
    """
    torch.manual_seed(seed)
    net = RCAN(config).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.shape[-1] == 3:
            module.bias.copy_(torch.rand_like(module.bias) * config.rgb_range / 16)
    return net


def short_tail(config: RCANConfig) -> RCAN:
    """One live stage, identity taps after it: a short tail in the standard layout (x2 and x3)."""
    net = network(config)
    stage, last = net.tail[0][0], net.tail[1]
    stage.weight[3 * config.upscale**2 :] = 0
    stage.bias[3 * config.upscale**2 :] = 0
    last.weight.zero_()
    last.bias.zero_()
    for color in range(3):
        last.weight[color, color, 1, 1] = 1
    return net


NETS = {name: network(config) for name, config in CONFIGS.items()}
FOLDED = {name: FoldedRCAN(net) for name, net in NETS.items()}


def error(net: RCAN, folded: nn.Module, x: torch.Tensor) -> float:
    """Largest difference on the 0..255 scale, for ``x`` in 0..1."""
    with torch.inference_mode():
        y = net(x * net.config.rgb_range) / net.config.rgb_range
        z = folded(x)
    assert z.shape == y.shape and z.dtype == torch.float32
    return 255 * float((z - y).abs().max())


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    name=st.sampled_from(sorted(CONFIGS)),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    batch=st.integers(1, 2),
    seed=st.integers(0, 9),
)
def test_equals_the_network(name: str, height: int, width: int, batch: int, seed: int) -> None:
    x = torch.rand(batch, CONFIGS[name].colors, height, width, generator=torch.Generator().manual_seed(seed))
    assert error(NETS[name], FOLDED[name], x) < 1e-4


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (6, 1), (2, 2), (3, 2), (3, 3), (4, 5), (17, 23)])
def test_small_and_odd_sizes(name: str, height: int, width: int) -> None:
    x = torch.rand(1, CONFIGS[name].colors, height, width, generator=torch.Generator().manual_seed(1))
    assert error(NETS[name], FOLDED[name], x) < 1e-4


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (24, 35)])
def test_bundled_weights(scale: int, height: int, width: int) -> None:
    net = catalog.load_model("fast", scale).net
    folded = FoldedRCAN(net)
    assert isinstance(folded.tail, FoldedTail)
    assert folded.tail.inner[0].kernel_size == (3, 3) and folded.tail.border is None
    assert error(net, folded, torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(2))) < 1e-4


@pytest.mark.skipif(not NAMES, reason="needs ../shared/data/parity")
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_original_code(name: str) -> None:
    stored = np.load(PARITY / f"{name}.npz")
    lr, sr = (torch.from_numpy(stored[key]).permute(2, 0, 1)[None].float() for key in ("lr", "sr"))
    with torch.inference_mode():
        y = 255 * FoldedRCAN(checkpoint.load(PARITY / f"{name}.pth"))(lr / 255)
    assert y.shape == sr.shape
    assert float((y - sr).abs().max()) < 0.02


@pytest.mark.parametrize(("name", "size"), [("x2", 5), ("x3", 5), ("x4", 5), ("x8", 5), ("x1", 3)])
def test_one_convolution_of_the_least_size(name: str, size: int) -> None:
    tail = FOLDED[name].tail
    assert isinstance(tail, FoldedTail)
    assert tail.inner[0].kernel_size == (size, size)
    assert tail.inner[0].out_channels == 3 * CONFIGS[name].upscale ** 2
    assert (tail.border is None) == (name == "x1")


@pytest.mark.parametrize("name", ["x2", "x3", "x4", "x8"])
def test_the_border_ring_matters(name: str) -> None:
    """Without it, exactly the outermost low-resolution pixel would be wrong: the ring is neither idle nor too thin."""
    tail, scale = FOLDED[name].tail, CONFIGS[name].upscale
    assert isinstance(tail, FoldedTail) and tail.border is not None
    x = torch.rand(1, 8, 9, 7, generator=torch.Generator().manual_seed(3))
    naive = F.pixel_shuffle(F.conv2d(x, tail.inner[0].weight, tail.inner[0].bias, padding=2), scale)
    wrong = (naive - tail.border(x)).abs().amax((0, 1)) * 255
    assert float(wrong.max()) > 1
    assert float(wrong[scale:-scale, scale:-scale].max()) < 1e-4


@pytest.mark.parametrize("upscale", [2, 3])
def test_a_short_tail_is_found(upscale: int) -> None:
    net = short_tail(RCANConfig(**SMALL, upscale=upscale, **PLAIN))
    folded = FoldedRCAN(net)
    assert isinstance(folded.tail, FoldedTail)
    assert folded.tail.inner[0].kernel_size == (3, 3) and folded.tail.border is None
    for height, width in ((1, 1), (3, 2), (9, 8)):
        assert error(net, folded, torch.rand(1, 3, height, width)) < 1e-4


def test_a_tail_with_a_small_kernel_and_a_border() -> None:
    """Centre taps first, neighbours after: folds to 3x3, and its border needs the ring all the same."""
    net = network(CONFIGS["x2"])
    stage = net.tail[0][0]
    centre = stage.weight[..., 1, 1].clone()
    stage.weight.zero_()
    stage.weight[..., 1, 1] = centre
    folded = FoldedRCAN(net)
    assert isinstance(folded.tail, FoldedTail)
    assert folded.tail.inner[0].kernel_size == (3, 3) and folded.tail.border is not None
    for height, width in ((1, 1), (3, 3), (9, 8)):
        assert error(net, folded, torch.rand(1, 3, height, width)) < 1e-4


@pytest.mark.parametrize("name", ["rcan-it x2", "rcan-it x3", "rcan-it x4"])
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_strips_change_nothing(name: str, rows: int) -> None:
    tail = StripedTail(NETS[name].tail, CONFIGS[name])
    x = torch.rand(2, 8, 11, 6, generator=torch.Generator().manual_seed(4))
    tail.strip_elements = (rows + 4) * 2 * 6 * tail.elements
    with torch.inference_mode():
        torch.testing.assert_close(tail(x), NETS[name].tail(x), rtol=1e-6, atol=1e-5)


def test_strips_are_bounded() -> None:
    tail = StripedTail(NETS["rcan-it x4"].tail, CONFIGS["rcan-it x4"])
    tail.strip_elements = 12 * 50 * tail.elements
    heights: list[int] = []
    tail.layers.register_forward_pre_hook(lambda _, args: heights.append(args[0].shape[2]))
    with torch.inference_mode():
        tail(torch.rand(1, 8, 100, 50))
    tail.layers._forward_pre_hooks.clear()
    assert max(heights) == 12 and len(heights) == 13  # 8 rows and 4 of overlap at a time


def test_the_network_is_left_alone() -> None:
    net = network(CONFIGS["x2"])
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    FoldedRCAN(net, torch.bfloat16)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert all(tensor.dtype == torch.float32 for tensor in net.state_dict().values())


def test_range_255_runs_near_one() -> None:
    """A power of two less in the body, bit for bit, so that half precision cannot overflow."""
    net = network(CONFIGS["x2"])
    folded = FoldedRCAN(net)
    features = 255 * torch.rand(1, 8, 6, 7, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        assert torch.equal(folded.body(features / 256) * 256, net.body(features))


def test_half_precision_is_for_the_body_alone() -> None:
    folded = FoldedRCAN(NETS["x2"], torch.bfloat16)
    dtypes = {name.partition(".")[0]: p.dtype for name, p in folded.named_parameters()}
    assert dtypes.pop("body") == torch.bfloat16
    assert set(dtypes.values()) == {torch.float32}
    assert 0 < error(NETS["x2"], folded, torch.rand(1, 3, 8, 8)) < 2


def test_channels_last_stays() -> None:
    x = torch.rand(1, 3, 9, 8).contiguous(memory_format=torch.channels_last)
    folded = FoldedRCAN(NETS["x2"]).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        y = folded(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert error(NETS["x2"], folded, x) < 1e-4


@pytest.mark.parametrize("name", ["x2", "x8", "unshuffle x1", "rcan-it x4"])
def test_exports(name: str) -> None:
    """Nothing in it depends on values, so that torch.export (and what is built on it) takes it whole."""
    x = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(6))
    program = torch.export.export(FOLDED[name], (x,))
    torch.testing.assert_close(program.module()(x), FOLDED[name](x))


def test_of_full_size() -> None:
    """The published shape of blocks, where sums are longest; few blocks, because only their sums matter here."""
    net = network(replace(RCANConfig(upscale=4), groups=1, blocks=2))
    assert error(net, FoldedRCAN(net), torch.rand(1, 3, 12, 11, generator=torch.Generator().manual_seed(7))) < 1e-4


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [(9, 7), (40, 33), (2, 12), (3, 3), (1, 1)])
def test_the_frugal_form_gives_the_same(name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """In bands of rows that cut anywhere, and with whatever lies in the memory that it gets."""
    net = network(CONFIGS[name])
    plain, sparing = FoldedRCAN(net), FoldedRCAN(net, frugal=True)
    monkeypatch.setattr(frugal, "BAND", 1)
    with torch.inference_mode():
        for count in (2, 2, 1):
            x = torch.rand(count, net.config.colors, *size)
            torch.testing.assert_close(sparing(x), plain(x), rtol=0, atol=1e-6)


def test_the_frugal_body_is_the_same_bit_for_bit() -> None:
    net = catalog.load_model("fast", 2).net
    plain, sparing = FoldedRCAN(net).body, FoldedRCAN(net, frugal=True).body
    with torch.inference_mode():
        for _ in range(2):
            features = torch.rand(1, 16, 37, 52).contiguous(memory_format=torch.channels_last)
            assert torch.equal(sparing(features), plain(features))
