"""The short tail, one convolution to all sub-pixels at once and a pixel shuffle, and how the official layout holds it.

The official tail of an RCAN spends most of a small network's work: 36 features² multiply-adds a pixel for x2, 180
features² for x4. A short one, as in ESPCN and its followers, costs 27 scale² features. It is stored as the first
rows of the official upsampler, with identity taps and zeros for the rest, so every reader of RCAN checkpoints takes
the file, and ``network.fold`` finds the short convolution again.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rcan_video.network.fold import fold
from rcan_video.network.rcan import RCAN, RCANConfig, conv3x3


def shortened(net: RCAN) -> RCAN:
    """``net`` itself, with a short tail that is yet to be set in place of its own."""
    config = net.config
    net.tail = nn.Sequential(
        conv3x3(config.features, config.colors * config.upscale**2), nn.PixelShuffle(config.upscale)
    )
    return net


def is_short(net: RCAN) -> bool:
    return isinstance(net.tail[-1], nn.PixelShuffle)


def short_form(net: RCAN) -> tuple[Tensor, Tensor] | None:
    """Weight (colors * upscale², features, 3, 3) and bias of the short tail that ``net``'s official tail holds, or
    None where it is a longer one. Exact where ``standard_form`` made it."""
    if net.config.activation != "relu" or net.config.features < least_features(net.config):
        return None
    weight, bias = fold(copy.deepcopy(net.tail).double(), net.config)
    return (weight.float(), bias.float()) if weight.shape[-1] == 3 else None


def standard_form(weight: Tensor, bias: Tensor, config: RCANConfig) -> dict[str, Tensor]:
    """The official tail of ``config`` that computes the short tail (colors * upscale², features, 3, 3), as a state
    dict of ``RCAN.tail``.

    Row (c, y, x) of the short convolution belongs to colour c at sub-pixel (y, x). A stage shuffles the leading part
    of y and x out; the rest it hands, as rows of the same order, to the next stage, which passes each row on by an
    identity tap. Raises ValueError where there are fewer features than such rows.
    """
    features, colors, size = config.features, config.colors, config.upscale
    if features < least_features(config):
        raise ValueError(f"a short tail for x{size} takes {least_features(config)} features, not {features}")
    state = {}
    for number, factor in enumerate(config.stages):
        rest = size // factor
        color, y, x = torch.meshgrid(torch.arange(colors), torch.arange(size), torch.arange(size), indexing="ij")
        handed = (color * rest + y % rest) * rest + x % rest
        row = ((handed * factor + y // rest) * factor + x // rest).flatten()
        state[f"0.{2 * number}.weight"] = _rows(weight, row, features * factor**2)
        state[f"0.{2 * number}.bias"] = _rows(bias, row, features * factor**2)
        weight, bias = _identity(colors * rest**2, features).to(weight), torch.zeros(colors * rest**2).to(bias)
        size = rest
    return {**state, "1.weight": weight, "1.bias": bias}


def least_features(config: RCANConfig) -> int:
    """How many a short tail needs in the official layout: the rows that the first stage hands on, if there is one."""
    return config.colors * (config.upscale // config.stages[0]) ** 2 if config.stages else 0


def official(net: RCAN) -> RCAN:
    """A copy of ``net`` with a tail of the official layout: float32, on the CPU, eval mode."""
    state = {name: tensor.detach().float().cpu() for name, tensor in net.state_dict().items()}
    if is_short(net):
        tail = standard_form(state.pop("tail.0.weight"), state.pop("tail.0.bias"), net.config)
        state.update({f"tail.{name}": tensor for name, tensor in tail.items()})
    whole = RCAN(net.config)
    whole.load_state_dict(state)
    return whole.eval().requires_grad_(False)


def _rows(values: Tensor, places: Tensor, count: int) -> Tensor:
    spread = values.new_zeros(count, *values.shape[1:])
    spread[places] = values
    return spread


def _identity(count: int, features: int) -> Tensor:
    kernel = torch.zeros(count, features, 3, 3)
    kernel[range(count), range(count), 1, 1] = 1.0
    return kernel
