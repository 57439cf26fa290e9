"""How far one picture, or one video, is from another, as the field measures it.

Conventions of the published super-resolution tables, which the figures of this project follow:

* pictures are clipped and rounded to 8 bits before they are compared;
* a border as wide as the scale is cut off all round ("shave"), because it depends on how a method pads;
* PSNR and SSIM are taken on the luma of BT.601 in its studio range, unrounded, with a peak of 255;
* the mean of a set is the mean of its pictures' decibels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

FIGURES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
"""The figures that every picture has."""

SSIM_WINDOW = 11
_HALF_WINDOW = np.exp(-(np.arange(SSIM_WINDOW // 2, -1, -1) ** 2) / (2 * 1.5**2))  # from the edge to the centre
_HALF_WINDOW /= 2 * _HALF_WINDOW.sum() - _HALF_WINDOW[-1]


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


def sharpness(luma: npt.NDArray[np.float64]) -> float:
    """Root mean square of the gradient of a picture (H, W), by differences of neighbours: grey levels per pixel."""
    parts = (np.diff(luma, axis=axis) for axis in (0, 1))
    return math.sqrt(sum(float(np.mean(np.square(part))) for part in parts if part.size))


def _shaved(picture: npt.NDArray[Any], border: int) -> npt.NDArray[Any]:
    height, width = picture.shape[:2]
    if not 0 <= 2 * border < min(height, width):
        raise ValueError(f"cannot cut {border} pixels off each side of a picture of {width}x{height}")
    return picture[border : height - border, border : width - border]


def ssim(a: npt.NDArray[Any], b: npt.NDArray[Any], peak: float = 255.0) -> float:
    """Structural similarity of two arrays (H, W), or the mean over the channels of (H, W, C): 1 for identical ones.

    Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, as its
    ``ssim_index.m``, which the published tables use: a Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03,
    windows that lie inside the picture, nothing reduced first. scikit-image gives the same with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``.

    Raises ValueError where the shapes differ or a side is below 11.
    """
    if a.shape != b.shape or a.ndim not in (2, 3) or min(a.shape[:2]) < SSIM_WINDOW or not a.size:
        raise ValueError(f"expected two pictures of one size, {SSIM_WINDOW} or more, got {a.shape} and {b.shape}")
    if a.ndim == 3:
        return float(np.mean([ssim(a[..., k], b[..., k], peak) for k in range(a.shape[2])]))
    # Variances do not depend on where zero is: in the middle, float32 is close enough (1e-5).
    x, y = (np.subtract(p, peak / 2, dtype=np.float64).astype(np.float32) for p in (a, b))
    mean_x, mean_y = _windowed(x), _windowed(y)
    squares = _windowed(x * x + y * y) - (mean_x * mean_x + mean_y * mean_y)
    covariance = _windowed(x * y) - mean_x * mean_y
    mean_x += peak / 2
    mean_y += peak / 2
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return float(np.mean(luminance * (2 * covariance + c2) / (squares + c2), dtype=np.float64))


def _windowed(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Gaussian means over every window that lies inside (H, W): (H - 10, W - 10)."""
    reach = SSIM_WINDOW // 2
    for _ in range(2):
        x = x.T
        count = len(x) - 2 * reach
        total = x[reach : reach + count] * np.float32(_HALF_WINDOW[-1])
        for tap, weight in enumerate(_HALF_WINDOW[:-1]):
            pair = x[tap : tap + count] + x[2 * reach - tap : 2 * reach - tap + count]
            pair *= np.float32(weight)
            total += pair
        x = total
    return x


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR in dB and SSIM of a picture against its original, on BT.601 luma and on RGB.

    ``temporal`` is the mean of |(SR[t] - SR[t-1]) - (HR[t] - HR[t-1])| on the luma of a frame and of the one before, in
    grey levels: what flickers or sticks where the original does not. None for a picture and a first frame.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float
    temporal: float | None = None


class Meter:
    """Scores of consecutive frames. ``shave`` pixels of each side do not count."""

    def __init__(self, shave: int) -> None:
        self.shave = shave
        self._before: npt.NDArray[np.float64] | None = None

    def __call__(self, hr: Pixels, sr: Pixels) -> Score:
        """The score of the next frame, (H, W, 3) uint8 RGB. Raises ValueError as ``psnr`` and ``ssim`` do."""
        hr, sr = _shaved(hr, self.shave), _shaved(sr, self.shave)
        y, z = luma_bt601(hr), luma_bt601(sr)
        score = Score(psnr(y, z), ssim(y, z), psnr(hr, sr), ssim(hr, sr))
        # The differences in time of two videos differ by the difference in time of their difference.
        error = z - y
        before, self._before = self._before, error
        return score if before is None else replace(score, temporal=float(np.mean(np.abs(error - before))))


def mean_score(scores: Sequence[Score]) -> Score:
    """Mean of each figure: of decibels, as the field does. ``temporal`` over the frames that have one."""
    moving = [score.temporal for score in scores if score.temporal is not None]
    psnr_y, ssim_y, psnr_rgb, ssim_rgb = (float(np.mean([getattr(s, name) for s in scores])) for name in FIGURES)
    return Score(psnr_y, ssim_y, psnr_rgb, ssim_rgb, float(np.mean(moving)) if moving else None)
