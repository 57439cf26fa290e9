"""How far one picture is from another, and the baseline that every upscaler is held against, as the field does both.

Conventions of the published super-resolution tables, which the figures of this project follow:

* pictures are clipped and rounded to 8 bits before they are compared;
* a border as wide as the scale is cut off all round ("shave"), because it depends on how a method pads;
* PSNR is taken on the luma of BT.601 in its studio range, unrounded, with a peak of 255;
* the mean of a set is the mean of its pictures' decibels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def luma_bt601(rgb: Pixels) -> npt.NDArray[np.float64]:
    """Luma of an 8-bit RGB picture (H, W, 3), as (H, W) in 16..235, not rounded.

    The first row of MATLAB's ``rgb2ycbcr``: Y = (65.481 R + 128.553 G + 24.966 B) / 255 + 16 (ITU-R BT.601-7, 2.5).
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected uint8 RGB of shape (H, W, 3), got {rgb.dtype} of shape {rgb.shape}")
    return rgb @ (np.array([65.481, 128.553, 24.966]) / 255.0) + 16.0


def psnr(a: npt.NDArray[Any], b: npt.NDArray[Any], peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio of two arrays of one shape, in dB: 10 log10(peak² / mean squared error).

    Identical arrays give infinity. Raises ValueError where the shapes differ or there is nothing to compare.
    """
    if a.shape != b.shape or not a.size:
        raise ValueError(f"expected two pictures of one size, got shapes {a.shape} and {b.shape}")
    error = float(np.mean(np.square(a.astype(np.float64) - b.astype(np.float64))))
    return 10.0 * math.log10(peak * peak / error) if error else math.inf


def psnr_y(hr: Pixels, sr: Pixels, shave: int) -> float:
    """PSNR on BT.601 luma of two 8-bit RGB pictures (H, W, 3) without their outer ``shave`` pixels (the scale), in dB.

    This is the figure of the published tables. Raises ValueError as ``psnr`` does.
    """
    return psnr(_shaved(luma_bt601(hr), shave), _shaved(luma_bt601(sr), shave))


def psnr_rgb(hr: Pixels, sr: Pixels, shave: int) -> float:
    """PSNR over all samples of two 8-bit RGB pictures (H, W, 3) without their outer ``shave`` pixels, in dB."""
    return psnr(_shaved(hr, shave), _shaved(sr, shave))


def _shaved(picture: npt.NDArray[Any], border: int) -> npt.NDArray[Any]:
    height, width = picture.shape[:2]
    if not 0 <= 2 * border < min(height, width):
        raise ValueError(f"cannot cut {border} pixels off each side of a picture of {width}x{height}")
    return picture[border : height - border, border : width - border]


def bicubic(picture: Pixels, scale: int) -> Pixels:
    """Enlarge an 8-bit picture (H, W) or (H, W, C) by a whole ``scale``, as MATLAB's ``imresize`` does.

    Keys' cubic with a = -0.5 (R. Keys, "Cubic convolution interpolation for digital image processing", 1981), pixel
    centres aligned, edge pixels repeated; columns first, then rows, rounded to 8 bits after each. OpenCV and torch
    default to a = -0.75, which is sharper and not what the published tables call bicubic.
    """
    if picture.dtype != np.uint8 or scale < 1:
        raise ValueError(f"expected a uint8 picture and a scale of 1 or more, got {picture.dtype} and {scale}")
    return _stretched(_stretched(picture, scale, axis=0), scale, axis=1)


def _stretched(picture: Pixels, scale: int, axis: int) -> Pixels:
    size = picture.shape[axis]
    position = (np.arange(size * scale) + 0.5) / scale - 0.5
    first = np.floor(position).astype(np.intp) - 1
    total = np.zeros([n * scale if i == axis else n for i, n in enumerate(picture.shape)])
    for tap in range(4):
        weight = cubic(position - (first + tap)).reshape([-1 if i == axis else 1 for i in range(picture.ndim)])
        total += weight * picture.take(np.clip(first + tap, 0, size - 1), axis)
    # MATLAB rounds halves up, and with a scale of 2 halves are common; np.rint would send them to the even side.
    return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)


def cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' kernel with a = -0.5 at the distances ``x`` in samples; 0 from 2 on."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))
