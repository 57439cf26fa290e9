"""Originals behind a random filter before they are reduced and trained on, each patch behind another.

What a network learns of fine detail is how its pictures were made. Lenses and scanners lose some of the finest detail,
and whatever sharpens lifts what is coarser; photographs that were reduced, as training pictures are, have seen neither.
A network that saw the one kind alone does worse on the other. Small pictures are made from what the filter leaves:
what is asked for is still what was there before the reduction.

A filter multiplies the spectrum and leaves the phase alone. Over the distance f from zero, in cycles per pixel, its
gain in decibels is ``lift * hill(f) - loss * ramp(f)``: the hill is a bell around ``center`` that beyond it does not
fall below ``shelf``; the ramp goes from 0 at ``edge`` to 1 at f = 0.5, and on to 1.4 towards the corners. All six are
drawn for each patch. A wide bell reaches zero: flat areas get up to 1.37 times as bright.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rcan_video.metrics import Pixels
from rcan_video.resize import reduce

VERSION = 1
"""Part of what a training is known by: change it with anything below."""

_LIFT = (-1.0, 6.0)  # decibels; Kodak's pictures have about 3 more than reduced ones around 0.3 cycles
_CENTER = (0.2, 0.34)  # cycles per pixel
_WIDTH = (0.08, 0.16)  # of the bell, one sigma in cycles per pixel
_SHELF = (0.0, 1.0)
_LOSS = (0.0, 8.0)  # decibels at 0.5
_EDGE = (0.3, 0.42)  # cycles per pixel
_MARGIN = 16  # pixels around a patch: more than a filter or a reduction by 8 reaches

Spectrum = npt.NDArray[np.float32]


def filtered_patch(
    picture: Pixels, place: tuple[int, int], size: int, scale: int, rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """A patch of ``picture`` (H, W, 3) behind a filter: ``size`` x ``size`` small pixels, from the one at ``place``
    (y, x) on, and the ``scale`` times larger patch that they are reduced from."""
    margin = _MARGIN // scale * scale
    window = _window(picture, place[0] * scale - margin, place[1] * scale - margin, size * scale + 2 * margin)
    large = apply(window, response(len(window), rng))
    inner, small_inner = slice(margin, -margin), slice(margin // scale, -margin // scale)
    return reduce(large, scale)[small_inner, small_inner], large[inner, inner]


def response(side: int, rng: np.random.Generator) -> Spectrum:
    """The gains (side, side // 2 + 1) of a random filter, as factors, in the order of ``numpy.fft.rfft2``."""
    lift, center, width, shelf, loss, edge = (
        rng.uniform(*span) for span in (_LIFT, _CENTER, _WIDTH, _SHELF, _LOSS, _EDGE)
    )
    f = _frequencies(side)
    bell = np.exp(-(((f - center) / width) ** 2) / 2)
    hill = np.where(f > center, shelf + (1 - shelf) * bell, bell)
    ramp = np.clip((f - edge) / (0.5 - edge), 0, 1.4)  # on, towards the corners
    gains: Spectrum = (10 ** ((lift * hill - loss * ramp) / 20)).astype(np.float32)
    return gains


def apply(picture: Pixels, gains: Spectrum) -> Pixels:
    """(N, N, 3) uint8 behind a filter, rounded and clipped. At the edges it sees the opposite ones."""
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)
    exact = np.fft.irfft2(np.fft.rfft2(planes) * gains, s=picture.shape[:2])
    return np.ascontiguousarray(np.clip(np.rint(exact), 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _window(picture: Pixels, top: int, left: int, side: int) -> Pixels:
    """``side`` x ``side`` pixels of ``picture``, mirrored where they lie outside."""
    bottom, right = top + side, left + side
    height, width = picture.shape[:2]
    part = picture[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    beyond = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)), (0, 0))
    return np.pad(part, beyond, mode="symmetric")


@lru_cache(maxsize=4)
def _frequencies(side: int) -> Spectrum:
    """Distance from zero in cycles per pixel, up to the corners' 0.71."""
    distances: Spectrum = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]).astype(np.float32)
    return distances
