"""Originals blurred a little and made sharper before they are trained on, each in another way.

What a network learns of fine detail is how its pictures were made. Photographs that were reduced, as training pictures
are, have as much detail as pixels can hold and soft edges; scanners, cameras and broadcasters record less of the finest
detail and sharpen what is coarser. A network that saw the one kind alone does worse on the other. Small pictures are
made from the sharpened originals: what is asked for is still what was there before the reduction.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from rcan_video.metrics import Pixels

Samples = npt.NDArray[np.float32]

VERSION = 2
"""Part of the cache's names: change it with anything below."""

_BLUR = (0.0, 0.6)  # pixels: the spot of a lens or a scanner
_HALO = (1.0, 2.0)  # pixels: what comes of sharpening for the eye


@dataclass(frozen=True, slots=True)
class Sharpening:
    """A Gaussian blur of ``blur`` pixels, and then an unsharp mask of ``amount`` and a sigma of ``halo`` pixels."""

    blur: float
    amount: float
    halo: float


def drawn(key: str, strongest: float) -> Sharpening:
    """One with an amount between 0 and ``strongest`` for the picture with the hexadecimal ``key``: for the same picture
    always the same."""
    rng = np.random.default_rng(int(key, 16))
    return Sharpening(
        blur=float(rng.uniform(*_BLUR)), amount=float(rng.uniform(0.0, strongest)), halo=float(rng.uniform(*_HALO))
    )


def sharpen(picture: Pixels, how: Sharpening) -> Pixels:
    """(H, W, 3) uint8, ``b + amount * (b - b blurred by halo)`` where b is the picture behind that blur, rounded and
    clipped."""
    exact = _blurred(picture.astype(np.float32), how.blur)
    exact += how.amount * (exact - _blurred(exact, how.halo))
    return np.clip(np.rint(exact), 0, 255).astype(np.uint8)


def _blurred(picture: Samples, sigma: float) -> Samples:
    return cv2.GaussianBlur(picture, (0, 0), sigma).astype(np.float32, copy=False) if sigma else picture
