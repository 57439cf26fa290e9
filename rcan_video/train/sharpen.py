"""Originals made sharper before they are trained on, each by another amount.

What a network learns of fine detail is how its pictures were made. Photographs that were reduced, as training pictures
are, are softer around edges than what scanners, cameras and broadcasters have sharpened, and a network that saw the one
kind alone does worse on the other. Small pictures are made from the sharpened originals: what is asked for is still
what was there before the reduction.
"""

from __future__ import annotations

import cv2
import numpy as np

from rcan_video.metrics import Pixels

VERSION = 1
"""Part of the cache's names: change it with anything below."""

_SIGMA = (0.6, 1.5)  # pixels: the halos of scanners and cameras


def drawn(key: str, strongest: float) -> tuple[float, float]:
    """An amount between 0 and ``strongest``, and a sigma in pixels, of the picture with the hexadecimal ``key``: for
    the same picture always the same."""
    rng = np.random.default_rng(int(key, 16))
    return float(rng.uniform(0.0, strongest)), float(rng.uniform(*_SIGMA))


def sharpen(picture: Pixels, amount: float, sigma: float) -> Pixels:
    """Unsharp mask of (H, W, 3) uint8: ``p + amount * (p - p blurred by a Gaussian of sigma)``, rounded and clipped."""
    exact = picture.astype(np.float32)
    exact += amount * (exact - cv2.GaussianBlur(exact, (0, 0), sigma))
    return np.clip(np.rint(exact), 0, 255).astype(np.uint8)
