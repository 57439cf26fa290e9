"""Kernels of a network that sees no difference between a picture and the same picture flipped or turned: what it makes
of one is, flipped or turned, what it makes of the other (equivariance; Cohen and Welling, arXiv 1602.07576).

    features    fields of as many channels as there are positions of the picture; when it is turned, each is turned and
                the channels of a field change places
    sub-pixels  of a small pixel, before a pixel shuffle or behind an unshuffle: they change places as the pixels of a
                small square
    attention   what it squeezes to stays as it is

A kernel has this property where it is the mean over all positions of itself, turned, its outputs and inputs each in
their new places. Every step then learns from a patch in all positions, for little more than the work of one;
what is kept is a plain RCAN, with a short tail.

The positions are 8 (flips and quarter turns) or the first 4 of these (flips and half turns).
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


def _place(x: Tensor, position: int) -> Tensor:
    """(..., S, S) in another position: transposed (bit 2), then flipped top to bottom and left to right (bits 1, 0).
    So each half of a field of eight is a field of four, and what was trained with 8 can go on with 4."""
    if position & 4:
        x = x.transpose(-2, -1)
    return x.flip([axis for bit, axis in ((1, -1), (2, -2)) if position & bit])


def _after(second: int, first: int) -> int:
    """The position of what is put into ``first`` and then into ``second``."""
    if second & 4:  # a transposition changes the flips before it into each other
        first = (first & 4) | (first & 1) << 1 | (first & 2) >> 1
    return first ^ second


@dataclass(frozen=True, slots=True)
class _Channels:
    """What the channels are that go into a convolution or come out of it: in ``fields``, or else colours and what
    attention squeezes to; each of them ``side`` x ``side`` sub-pixels."""

    fields: bool
    side: int = 1

    def sources(self, count: int, position: int, order: int) -> Tensor:
        """Which of the ``count`` channels each of them comes from when the picture is put into ``position``."""
        channels = torch.arange(count // self.side**2)
        if self.fields:
            back = next(other for other in range(order) if _after(other, position) == 0)
            channels = channels.view(-1, order)[:, [_after(back, member) for member in range(order)]].flatten()
        square = _place(torch.arange(self.side**2).view(self.side, self.side), position).flatten()
        return (channels[:, None] * self.side**2 + square).flatten()


_FEATURES, _FIXED = _Channels(fields=True), _Channels(fields=False)


def _parts(net: RCAN, order: int) -> Iterator[tuple[nn.Conv2d, str, Tensor]]:
    """Convolutions, the names of their parameters, and the places of these."""
    known: dict[Any, Tensor] = {}
    for conv, inputs, outputs in _convolutions(net):
        for name in ("weight", "bias"):
            kind = (inputs, outputs, getattr(conv, name).shape)
            if kind not in known:
                known[kind] = _places(*kind, order)
            yield conv, name, known[kind]


def _places(inputs: _Channels, outputs: _Channels, shape: torch.Size, order: int) -> Tensor:
    if len(shape) == 1:
        return torch.stack([outputs.sources(shape[0], position, order) for position in range(order)])
    count, seen, height, width = shape
    elements = torch.arange(shape.numel()).view(count, height, width, seen).permute(0, 3, 1, 2)
    found = []
    for position in range(order):
        rows, columns = outputs.sources(count, position, order), inputs.sources(seen, position, order)
        found.append(_place(elements[rows][:, columns], position).permute(0, 2, 3, 1).flatten())
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
