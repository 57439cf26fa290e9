"""Pictures made smaller, as the field makes them: MATLAB's ``imresize`` by whole factors, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from rcan_video.metrics import Pixels, cubic

_Weights = npt.NDArray[np.float64]


def _triangle(x: _Weights) -> _Weights:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _box(x: _Weights) -> _Weights:
    return np.where(np.abs(x) < 0.5, 1.0, 0.0)


def _lanczos(x: _Weights) -> _Weights:
    return np.where(np.abs(x) < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)


KERNELS: MappingProxyType[str, tuple[Callable[[_Weights], _Weights], float]] = MappingProxyType(
    {"bicubic": (cubic, 2.0), "bilinear": (_triangle, 1.0), "area": (_box, 0.5), "lanczos": (_lanczos, 3.0)}
)
"""Interpolation kernels and their reach in pixels of the small picture."""


def reduce(picture: Pixels, scale: int, kernel: str = "bicubic") -> Pixels:
    """Make an 8-bit picture (H, W, C) ``scale`` times smaller, as (H // scale, W // scale, C).

    The kernel is widened by ``scale``, so that it also removes what the small picture cannot hold ("antialiasing").
    Pixel centres are aligned, edge pixels repeated; columns first ("vertical pass"), then rows, rounded to 8 bits
    after each, halves up. With ``bicubic`` these are the low-resolution pictures that the published tables are made
    with, bit for bit: MATLAB up to R2018 or so, where ``imresize`` of uint8 does all that.

    Rows and columns beyond the last multiple of ``scale`` are left out. Raises ValueError for a picture smaller than
    ``scale`` or of another type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or scale < 1 or min(picture.shape[:2]) < scale:
        raise ValueError(f"cannot reduce {picture.dtype} of shape {picture.shape} by {scale}")
    height, width = (size // scale * scale for size in picture.shape[:2])
    return _reduced(_reduced(picture[:height, :width], scale, kernel, axis=0), scale, kernel, axis=1)


def _reduced(picture: Pixels, scale: int, kernel: str, axis: int) -> Pixels:
    # Every output lies at the same place between its inputs, so all of them share one set of weights.
    offsets, weights = _taps(scale, kernel)
    before, after = -offsets[0], max(offsets[-1] - scale + 1, 0)
    padding = [(0, 0)] * picture.ndim
    padding[axis] = (before, after)
    padded = np.moveaxis(np.pad(picture, padding, mode="edge"), axis, 0)
    count = picture.shape[axis] // scale
    total = np.zeros((count, *padded.shape[1:]))
    for offset, weight in zip(offsets, weights, strict=True):
        start = before + offset
        total += weight * padded[start : start + (count - 1) * scale + 1 : scale]
    # MATLAB rounds halves up; np.rint would send them to the even side.
    return np.moveaxis(np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8), 0, axis)


def _taps(scale: int, kernel: str) -> tuple[list[int], list[float]]:
    """Offsets of the inputs from the first one under an output (it covers ``scale`` of them), and their weights."""
    function, reach = KERNELS[kernel]
    centre = (scale - 1) / 2
    far = int(np.ceil(reach * scale))
    offsets = np.arange(int(np.floor(centre)) - far, int(np.ceil(centre)) + far + 1)
    weights = function((offsets - centre) / scale)
    weights /= weights.sum()
    inner = np.flatnonzero(weights)
    return offsets[inner].tolist(), weights[inner].tolist()
