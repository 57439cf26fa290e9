"""The network that training begins with: a new one that is a good linear upscaler, or a checkpoint's, made to fit.

RCAN has no skip from an enlarged input, but its long skip carries the head's features to the tail. So the head of a
new network passes the colours on by centre taps, its residual branches start near zero, and its tail is fitted to the
features by least squares: it starts above bicubic. The same fit gives a body that was trained for one scale the tail
of another.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcan_video.errors import UsageError
from rcan_video.network.rcan import RCAB, RCAN, RCANConfig, ResidualGroup
from rcan_video.options import Tail, TrainOptions
from rcan_video.train.data import Patches
from rcan_video.train.symmetry import asymmetry, symmetrise
from rcan_video.train.tails import is_short, least_features, short_form, shortened, standard_form

FAST = RCANConfig(groups=2, blocks=6, features=16, reduction=4, rgb_range=1.0, mean_shift=False)
"""The structure of a new network where the user asks for no other; samples in 0..1, as most programs take them."""

_FIT_STEPS = range(2**31, 2**31 + 32)  # batches for the tail's fit, far from those that training will see
_ASYMMETRY = 1e-3  # of an equivariant checkpoint, at most: half precision rounds to less
_RIDGE = 1e-5  # of the mean power of the features: keeps the fit small where they say the same thing twice


@dataclass(frozen=True, slots=True)
class Structure:
    """What is trained: ``tail`` "short" takes the place of the tail that ``config`` stands for."""

    config: RCANConfig
    tail: Tail


def structure(options: TrainOptions, init: RCAN | None) -> Structure:
    """What the options ask for, and where they do not say what ``init`` has, the checkpoint to start from.

    Raises UsageError where they contradict it or each other.
    """
    if init is not None and init.config.colors != 3:
        raise UsageError(f"{options.init[0]}: has {init.config.colors} colour, training is on RGB; give weights with 3")
    config = _config(options, init)
    if options.patch % config.unshuffle:
        raise UsageError(f"--patch {options.patch} cannot be unshuffled: give a multiple of {config.unshuffle}")
    tail = options.tail or ("short" if init is None or short_form(init) is not None else "standard")
    if options.equivariant:
        _check_equivariant(config, tail, init, options)
    if tail == "short":
        _check_short(config)
    return Structure(config, tail)


def starting_point(shape: Structure, init: RCAN | None, patches: Patches, options: TrainOptions) -> RCAN:
    """The network as training begins, its tail short if so asked; a new one where ``init`` is None. Float32, on the
    CPU, not yet factorised."""
    torch.manual_seed(options.seed)
    net = RCAN(shape.config)
    has_tail = False
    if init is None:
        _set_body(net, options.equivariant)
    else:
        if replace(init.config, upscale=net.config.upscale) != net.config:
            _set_body(net, options.equivariant)
        for part in ("sub_mean", "head", "add_mean"):
            _embed(net.get_submodule(part), init.get_submodule(part))
        _embed_body(net, init)
        has_tail = init.config.upscale == shape.config.upscale and _take_tail(net, init, shape.tail)
    if not has_tail:
        _fit_tail(net, patches, options.batch, shape.tail)
    if options.equivariant:
        symmetrise(net, options.equivariant)
    return net


def _config(options: TrainOptions, init: RCAN | None) -> RCANConfig:
    asked = {name: getattr(options, name) for name in ("groups", "blocks", "features", "reduction")}
    given = {name: value for name, value in asked.items() if value is not None}
    base = FAST if init is None else init.config
    if init is None:
        base = replace(base, unshuffle=2 if options.unshuffle else 1)
    else:
        if options.unshuffle and base.unshuffle == 1:
            raise UsageError(f"{options.init[0]}: has no pixel-unshuffle head; leave out --unshuffle, or --init")
        wider = given.get("features", base.features) > base.features  # and may squeeze otherwise for its attention
        asked_for = given.get("reduction", base.reduction)
        if not wider and base.features // asked_for == base.features // base.reduction:
            given.pop("reduction", None)  # the same: a checkpoint tells how many features it squeezes to, not by what
        for name, value in given.items():
            has = getattr(base, name)
            if value != has and not (wider if name == "reduction" else value > has):
                raise UsageError(f"{options.init[0]}: has {name} {has}, not {value}; leave out --{name}")
    try:
        config = replace(base, **given, upscale=options.scale * base.unshuffle)
    except ValueError as error:
        raise UsageError(f"these options make no network: {error}") from error
    least = base.features // base.reduction
    if init is not None and config.features // config.reduction < least:
        raise UsageError(f"{options.init[0]}: its attention squeezes to {least} features; give less --reduction")
    return config


def _check_equivariant(config: RCANConfig, tail: Tail, init: RCAN | None, options: TrainOptions) -> None:
    order = options.equivariant
    if tail != "short":  # the official layout of a tail knows no fields
        raise UsageError(f"--equivariant {order} is for networks with a short tail: give --tail short")
    if init is not None and (init.config.features % order or asymmetry(init, order) > _ASYMMETRY):
        raise UsageError(
            f"{' and '.join(options.init)}: not trained with --equivariant {order}; leave out --equivariant, or --init"
        )
    least = order * config.colors if init is None else 0  # the head passes each colour on, in a field of its own
    if config.features % order or config.features < least:
        some = f"a multiple of {order}" + (f", {least} or more," if least else "")
        raise UsageError(f"--equivariant {order} takes {some} for --features, not {config.features}")


def _check_short(config: RCANConfig) -> None:
    if config.activation != "relu":
        raise UsageError("a network with SiLU has activations in its tail; give --tail standard")
    if config.features < (least := least_features(config)):
        raise UsageError(
            f"a short tail for x{config.upscale} takes {least} features, not {config.features}; "
            "give more --features, or --tail standard"
        )


@torch.no_grad()
def _set_body(net: RCAN, order: int) -> None:
    """He initialisation (He et al., arXiv 1502.01852), less of it at the end of each residual branch; equivariant
    under ``order`` positions, where that is not 0. The head passes the colours on."""
    for module in net.modules():
        if isinstance(module, RCAB):
            _randomise(module.body[0], 1.0)
            _randomise(module.body[2], 0.2)
        elif isinstance(module, ResidualGroup):
            _randomise(module.body[-1], 0.1)
    _randomise(net.body[-1], 0.02)
    head = net.head[-1]
    _randomise(head, 0.5)
    assert isinstance(head, nn.Conv2d)
    if order:
        _set_equivariant(net, head, order)
    else:
        for channel in range(min(head.in_channels, head.out_channels)):
            head.weight[channel] = 0.0
            head.weight[channel, channel, 1, 1] = 1.0


def _set_equivariant(net: RCAN, head: nn.Conv2d, order: int) -> None:
    symmetrise(net, order)
    for conv in [*net.head.modules(), *net.body.modules()]:
        if isinstance(conv, nn.Conv2d):
            conv.weight.mul_(math.sqrt(order))  # as large as they were: a mean of independent values is less
    for color in range(net.config.colors):
        head.weight[color * order : (color + 1) * order] = 0.0
        head.weight[color * order, color * net.config.unshuffle**2, 1, 1] = order
    symmetrise(net, order)  # spreads them over their fields, behind a pixel unshuffle over all sub-pixels


def _randomise(conv: nn.Module, gain: float) -> None:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    nn.init.normal_(conv.weight, std=gain * math.sqrt(2 / (9 * conv.in_channels)))
    nn.init.zeros_(conv.bias)


@torch.no_grad()
def _embed_body(net: RCAN, init: RCAN) -> None:
    """The body of ``init`` in a wider or deeper one: blocks and groups beyond its own follow on them, and add nothing
    yet, as the last convolution of their branch is zero."""
    for group, narrow_group in _pairs(net.body, init.body):
        if narrow_group is None:
            _silence(group.body[-1])
            continue
        for block, narrow_block in _pairs(group.body, narrow_group.body):
            if narrow_block is None:
                _silence(block.body[2])
            else:
                _embed(block, narrow_block)
        _embed(group.body[-1], narrow_group.body[-1])
    _embed(net.body[-1], init.body[-1])


def _pairs(wide: nn.Sequential, narrow: nn.Sequential) -> Iterator[tuple[Any, Any]]:
    """Blocks or groups, all but the convolution that ends them: those of ``wide``, each with that of ``narrow`` or
    None."""
    return zip_longest(list(wide)[:-1], list(narrow)[:-1])


def _silence(conv: nn.Module) -> None:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)


@torch.no_grad()
def _embed(wide: nn.Module, narrow: nn.Module) -> None:
    """Make ``wide`` compute what ``narrow`` does in its first channels, which take nothing from the others: these keep
    their values and are there to be learned from (after Net2Net, Chen et al., arXiv 1511.05641)."""
    mine = wide.state_dict()
    for name, theirs in narrow.state_dict().items():
        rows = mine[name][: theirs.shape[0]]
        if theirs.dim() > 1:
            rows[:, theirs.shape[1] :] = 0.0
            rows = rows[:, : theirs.shape[1]]
        rows.copy_(theirs)


def _take_tail(net: RCAN, init: RCAN, tail: Tail) -> bool:
    """Copy the checkpoint's tail; False where it is longer than the short one that is asked for."""
    form = short_form(init)
    if form is not None:
        weight, bias = form
        weight = F.pad(weight, (0, 0, 0, 0, 0, net.config.features - weight.shape[1]))
        (_set_short if tail == "short" else _set_standard)(net, weight, bias)
    elif tail == "standard":
        _embed(net.tail, init.tail)
    return form is not None or tail == "standard"


def _set_short(net: RCAN, weight: Tensor, bias: Tensor) -> None:
    shortened(net).tail[0].load_state_dict({"weight": weight, "bias": bias})


@torch.no_grad()
def _set_standard(net: RCAN, weight: Tensor, bias: Tensor) -> None:
    """A tail of the official layout that computes a short one, all of it open to training. Raises ValueError where it
    has too few features."""
    values = standard_form(weight, bias, net.config)
    for name, mine in net.tail.state_dict().items():
        if name.startswith("0.") and name.endswith("weight"):
            # Nobody listens to these rows. As zeros they would stay: neither side of a product of zeros has a gradient.
            idle = (values[name] == 0).flatten(1).all(1)
            values[name][idle] = mine[idle]
    net.tail.load_state_dict(values)


@torch.no_grad()
def _fit_tail(net: RCAN, patches: Patches, batch: int, tail: Tail) -> None:
    if net.config.activation != "relu":  # its tail is not linear: it keeps the random values of torch
        return
    weight, bias = _least_squares(net, patches, batch)
    with contextlib.suppress(ValueError):  # too few features to hold it: the tail stays random as well
        (_set_short if tail == "short" else _set_standard)(net, weight, bias)


def _least_squares(net: RCAN, patches: Patches, batch: int) -> tuple[Tensor, Tensor]:
    """Weight (colors * upscale², features, 3, 3) and bias of the convolution that best turns the features into the
    sub-pixels of the target, by ridge regression (normal equations in float64)."""
    config = net.config
    size = 9 * config.features + 1
    gram = torch.zeros(size, size, dtype=torch.float64)
    moment = torch.zeros(size, config.colors * config.upscale**2, dtype=torch.float64)
    for step in _FIT_STEPS:
        small, large = (to_range(x, config) for x in patches.batch(step, range(batch)))
        features = net.head(net.sub_mean(small))
        features = features + net.body(features)
        target = large
        if isinstance(net.add_mean, nn.Conv2d):
            assert net.add_mean.bias is not None
            target = large - net.add_mean.bias.view(1, -1, 1, 1)
        seen = F.unfold(
            features, 3
        ).double()  # (N, 9 features, positions); the outermost pixels, seen only in part, drop
        wanted = F.pixel_unshuffle(target, config.upscale)[..., 1:-1, 1:-1].flatten(2).double()
        seen = torch.cat((seen, torch.ones_like(seen[:, :1])), dim=1)
        gram += torch.einsum("nap,nbp->ab", seen, seen)
        moment += torch.einsum("nap,nbp->ab", seen, wanted)
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, moment).T.float()
    return solution[:, :-1].reshape(-1, config.features, 3, 3), solution[:, -1].clone()


def to_range(pixels: Tensor, config: RCANConfig) -> Tensor:
    """uint8 samples as float32 in the range of the network."""
    return pixels.float().mul_(config.rgb_range / 255)


def describe(net: RCAN) -> str:
    """For people: the structure, and how many numbers train."""
    config = net.config
    tail = "short" if is_short(net) else "standard"
    weights = sum(parameter.numel() for name, parameter in net.named_parameters() if "_mean." not in name)
    head = f", unshuffle {config.unshuffle}" if config.unshuffle > 1 else ""
    return (
        f"RCAN x{config.scale}: {config.groups} groups of {config.blocks} blocks, {config.features} features, "
        f"reduction {config.reduction}{head}, {tail} tail, {weights / 1000:.0f} K parameters"
    )
