"""Kernels of a network that sees no difference between a picture and the same picture flipped or turned: what it makes
of one is, flipped or turned, what it makes of the other (equivariance; Cohen and Welling, arXiv 1602.07576).

    features    fields of as many channels as there are positions of the picture; when it is turned, each is turned and
                the channels of a field change places
    sub-pixels  of a small pixel, before a pixel shuffle: they change places as the pixels of a small square
    attention   what it squeezes to stays as it is

A kernel has this property where it is the mean over all positions of itself, turned, its outputs and inputs each in
their new places. Every step then learns from a patch in all positions, for the work of one; what is kept is a plain
RCAN.
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
_ALL: tuple[Position, ...] = tuple((flip, turns) for flip in (0, 1) for turns in range(4))


def positions(order: int) -> tuple[Position, ...]:
    """The first is the picture as it is; 8: flips and quarter turns, 4: flips and half turns alone."""
    return tuple(position for position in _ALL if position[1] % (8 // order) == 0)


def place(x: Tensor, position: Position) -> Tensor:
    """(..., S, S) in another position, as a view."""
    flip, turns = position
    return torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1))


@torch.no_grad()
def symmetrise(net: RCAN, order: int) -> None:
    """Replace each kernel and bias by its mean over ``order`` positions."""
    for _, module, name, places in _parts(net, order):
        values = getattr(module, name)
        values.copy_(Mean(places)(values))


@torch.no_grad()
def asymmetry(net: RCAN, order: int) -> float:
    """How far head and body of ``net`` are from their means over ``order`` positions: the largest difference in a
    kernel or bias, as a share of its largest value. 0.0 is equivariant, random kernels are near 1."""
    found = 0.0
    for part, module, name, places in _parts(net, order):
        values = getattr(module, name)
        if part != "tail":
            largest = float(values.abs().max())
            found = max(found, float((Mean(places)(values) - values).abs().max()) / (largest or 1.0))
    return found


def keep_symmetric(net: RCAN, order: int) -> None:
    """From now on the kernels and biases of ``net`` are means over ``order`` positions, and train as such."""
    for _, module, name, places in list(_parts(net, order)):
        parametrize.register_parametrization(module, name, Mean(places), unsafe=True)


class Mean(nn.Module):
    """A parametrisation of a kernel (O, I, H, W) or bias (O,), which becomes its mean over all positions.

    ``places`` (positions, elements) says for each which elements of it lie where, a kernel's with the inputs last.
    """

    def __init__(self, places: Tensor) -> None:
        super().__init__()
        self.register_buffer("places", places, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        places: Tensor = self.get_buffer("places").to(values.device)
        if values.dim() == 1:
            return _mean(values, places)
        outputs, inputs, height, width = values.shape
        mean = _mean(values.permute(0, 2, 3, 1).reshape(-1), places)
        return mean.view(outputs, height, width, inputs).permute(0, 3, 1, 2)  # as channels_last has it

    def right_inverse(self, values: Tensor) -> Tensor:
        return values


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return values[places].mean(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # A mean over a group of permutations is its own adjoint: gathering, where autograd would scatter.
        (places,) = ctx.saved_tensors
        return gradients[0][places].mean(0), None


def _mean(values: Tensor, places: Tensor) -> Tensor:
    found: Tensor = _Projection.apply(values, places)  # type: ignore[no-untyped-call]
    return found


@dataclass(frozen=True, slots=True)
class _Channels:
    """What the channels are that go into a convolution or come out of it: ``kind``s, each times ``side`` x ``side``
    sub-pixels."""

    kind: str  # "features", or "fixed": colours, and what attention squeezes to
    side: int = 1

    def order(self, count: int, position: Position, group: tuple[Position, ...]) -> Tensor:
        """Where the ``count`` channels of a picture in that position come from."""
        kinds = torch.arange(count // self.side**2)
        if self.kind == "features":
            places = {(flip, turns): number for number, (flip, turns) in enumerate(group)}
            back = _inverse(position)
            kinds = kinds.view(-1, len(group))[:, [places[_after(back, member)] for member in group]].flatten()
        square = place(torch.arange(self.side**2).view(self.side, self.side), position).flatten()
        return (kinds[:, None] * self.side**2 + square).flatten()


def _parts(net: RCAN, order: int) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """What trains: the part of the network, the convolution, the name of its parameter, and the places of that."""
    group, known = positions(order), dict[Any, Tensor]()
    for part, conv, inputs, outputs in _convolutions(net):
        for name in ("weight", "bias"):
            shape = getattr(conv, name).shape
            if (outputs, inputs, shape) not in known:
                known[outputs, inputs, shape] = _places(shape, outputs, inputs, group)
            yield part, conv, name, known[outputs, inputs, shape]


def _places(shape: torch.Size, outputs: _Channels, inputs: _Channels, group: tuple[Position, ...]) -> Tensor:
    if len(shape) == 1:
        return torch.stack([outputs.order(shape[0], position, group) for position in group])
    count, seen, height, width = shape
    elements = torch.arange(shape.numel()).view(count, height, width, seen).permute(0, 3, 1, 2)
    found = []
    for position in group:
        rows, columns = outputs.order(count, position, group), inputs.order(seen, position, group)
        found.append(place(elements[rows][:, columns], position).permute(0, 2, 3, 1).flatten())
    return torch.stack(found)


def _convolutions(net: RCAN) -> Iterator[tuple[str, nn.Conv2d, _Channels, _Channels]]:
    """The convolutions that train: the part of the network that each is in, what goes in and what comes out."""
    for name, module in net.named_modules():
        if not isinstance(module, nn.Conv2d) or name.endswith("_mean"):
            continue
        part, _, rest = name.partition(".")
        inputs, outputs = _Channels("features"), _Channels("features")
        if part == "head":
            inputs = _Channels("fixed", net.config.unshuffle)
        elif rest.endswith("conv_du.0"):
            outputs = _Channels("fixed")
        elif rest.endswith("conv_du.2"):
            inputs = _Channels("fixed")
        elif part == "tail" and is_short(net):
            outputs = _Channels("fixed", net.config.upscale)
        elif part == "tail":
            outputs = _Channels("fixed") if rest == "1" else _Channels("features", net.config.stages[0])
        yield part, module, inputs, outputs


def _inverse(position: Position) -> Position:
    return next(other for other in _ALL if _after(position, other) == (0, 0))


def _after(second: Position, first: Position) -> Position:
    """The position of what is put into ``first`` and then into ``second``."""
    square = torch.arange(9).view(3, 3)
    found = place(place(square, first), second)
    return next(position for position in _ALL if torch.equal(place(square, position), found))
