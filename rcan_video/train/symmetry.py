"""Kernels of a network that sees no difference between a picture and the same picture flipped or turned: what it makes
of one is, flipped or turned, what it makes of the other (equivariance; Cohen and Welling, arXiv 1602.07576).

    features    fields of as many channels as there are positions of the picture; when it is turned, each is turned and
                the channels of a field change places
    sub-pixels  of a small pixel, before a pixel shuffle or behind an unshuffle: they change places as the pixels of a
                small square
    attention   what it squeezes to stays as it is

A kernel has this property where it is the mean over all positions of itself, turned, its outputs and inputs each in
their new places. Every step then learns from a patch in all positions, for the work of one; what is kept is a plain
RCAN, with a short tail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rcan_video.network.rcan import RCAN
from rcan_video.train.tails import is_short

Position = tuple[int, int]  # whether flipped left to right, and then how many quarter turns


def positions(order: int) -> tuple[Position, ...]:
    """The first is the picture as it is; 8: flips and quarter turns, 4: flips and half turns alone."""
    return tuple((flip, turns) for flip in (0, 1) for turns in range(0, 4, 8 // order))


def place(x: Tensor, position: Position) -> Tensor:
    """(..., S, S) in another position."""
    flip, turns = position
    return torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1))


@torch.no_grad()
def symmetrise(net: RCAN, order: int) -> None:
    """Replace each kernel and bias of ``net`` by its mean over ``order`` positions; a tail that is not short stays."""
    for conv, name, places in _parts(net, order):
        values = getattr(conv, name)
        values.copy_(mean(values, places))


@torch.no_grad()
def asymmetry(net: RCAN, order: int) -> float:
    """How far head and body of ``net`` are from their means over ``order`` positions: the largest difference in a
    kernel or bias, as a share of its largest value. 0.0 is equivariant, random kernels are near 1."""
    found = 0.0
    for conv, name, places in _parts(net, order):
        values = getattr(conv, name)
        largest = float(values.abs().max()) or 1.0
        found = max(found, float((mean(values, places) - values).abs().max()) / largest)
    return found


def keep_symmetric(net: RCAN, order: int) -> None:
    """From now on the kernels and biases of ``net`` are means over ``order`` positions, and train as such.

    For a network that has its device, its factors and its optimisers: the means are of what those give.
    """
    tables: dict[int, Tensor] = {}  # many kernels share one, which goes to the device once
    for conv, name, places in list(_parts(net, order)):  # all, before the first of them becomes a module of its own
        table = tables.setdefault(id(places), places.to(conv.weight.device))
        parametrize.register_parametrization(conv, name, Mean(table))


class Mean(nn.Module):
    """A parametrisation of a kernel or bias, which becomes its ``mean``. It gives back what it is given: assigned
    values become their mean, too."""

    def __init__(self, places: Tensor) -> None:
        super().__init__()
        self.places = places  # no buffer: torchrun would send it to all processes at every step

    def forward(self, values: Tensor) -> Tensor:
        return mean(values, self.places)

    def right_inverse(self, values: Tensor) -> Tensor:
        return values


def mean(values: Tensor, places: Tensor) -> Tensor:
    """A kernel (O, I, H, W) or bias (O,), averaged over all positions. ``places`` (positions, elements) says for each
    which element comes to lie where, those of a kernel with the inputs last."""
    if values.dim() == 1:
        return _gathered(values, places)
    outputs, inputs, height, width = values.shape
    kernel = _gathered(values.permute(0, 2, 3, 1).reshape(-1), places)
    return kernel.view(outputs, height, width, inputs).permute(0, 3, 1, 2)  # as channels_last has it


def _gathered(values: Tensor, places: Tensor) -> Tensor:
    found: Tensor = _Gathered.apply(values, places)  # type: ignore[no-untyped-call]
    return found


class _Gathered(torch.autograd.Function):
    """``values[places].mean(0)``, for the permutations of a group."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return values[places].mean(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # A mean over a group of permutations is its own adjoint: this gathers, where autograd would scatter.
        (places,) = ctx.saved_tensors
        return gradients[0][places].mean(0), None


@dataclass(frozen=True, slots=True)
class _Channels:
    """What the channels are that go into a convolution or come out of it: in ``fields``, or else colours and what
    attention squeezes to; each of them ``side`` x ``side`` sub-pixels."""

    fields: bool
    side: int = 1

    def sources(self, count: int, position: Position, group: tuple[Position, ...]) -> Tensor:
        """Which of the ``count`` channels each of them comes from when the picture is put into ``position``."""
        channels = torch.arange(count // self.side**2)
        if self.fields:
            numbers = {member: number for number, member in enumerate(group)}
            back = next(other for other in group if _after(other, position) == (0, 0))
            channels = channels.view(-1, len(group))[:, [numbers[_after(back, member)] for member in group]].flatten()
        square = place(torch.arange(self.side**2).view(self.side, self.side), position).flatten()
        return (channels[:, None] * self.side**2 + square).flatten()


_FEATURES, _FIXED = _Channels(fields=True), _Channels(fields=False)


def _after(second: Position, first: Position) -> Position:
    """The position of what is put into ``first`` and then into ``second``."""
    flip, turns = first
    return (flip + second[0]) % 2, (second[1] + (-turns if second[0] else turns)) % 4


def _parts(net: RCAN, order: int) -> Iterator[tuple[nn.Conv2d, str, Tensor]]:
    """Convolutions, the names of their parameters, and the places of these."""
    group, known = positions(order), dict[Any, Tensor]()
    for conv, inputs, outputs in _convolutions(net):
        for name in ("weight", "bias"):
            kind = (inputs, outputs, getattr(conv, name).shape)
            if kind not in known:
                known[kind] = _places(*kind, group)
            yield conv, name, known[kind]


def _places(inputs: _Channels, outputs: _Channels, shape: torch.Size, group: tuple[Position, ...]) -> Tensor:
    if len(shape) == 1:
        return torch.stack([outputs.sources(shape[0], position, group) for position in group])
    count, seen, height, width = shape
    elements = torch.arange(shape.numel()).view(count, height, width, seen).permute(0, 3, 1, 2)
    found = []
    for position in group:
        rows, columns = outputs.sources(count, position, group), inputs.sources(seen, position, group)
        found.append(place(elements[rows][:, columns], position).permute(0, 2, 3, 1).flatten())
    return torch.stack(found)


def _convolutions(net: RCAN) -> Iterator[tuple[nn.Conv2d, _Channels, _Channels]]:
    """Those of head, body and a short tail, what goes into each and what comes out."""
    for name, conv in net.named_modules():
        part, _, rest = name.partition(".")
        if not isinstance(conv, nn.Conv2d):
            continue
        if part == "head":
            yield conv, _Channels(fields=False, side=net.config.unshuffle), _FEATURES
        elif part == "body":
            squeezes, opens = rest.endswith("conv_du.0"), rest.endswith("conv_du.2")
            yield conv, _FIXED if opens else _FEATURES, _FIXED if squeezes else _FEATURES
        elif part == "tail" and is_short(net):
            yield conv, _FEATURES, _Channels(fields=False, side=net.config.upscale)
