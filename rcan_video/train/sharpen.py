"""Originals made sharper before they are trained on, each by another amount.

What a network learns of fine detail is how its pictures were made. Photographs that were reduced, as training pictures
are, are softer around edges than what scanners, cameras and broadcasters have sharpened, and a network that saw the one
kind alone does worse on the other. Small pictures are made from the sharpened originals, so nothing is learnt that
would sharpen a source.
"""

from __future__ import annotations

import cv2
import numpy as np

from rcan_video.metrics import Pixels

_SIGMA = (0.6, 1.5)
"""Standard deviation in pixels of what the unsharp mask takes for blur: the halos of scanners and cameras."""


class UnsharpMask:
    """``p + amount * (p - blurred p)``, rounded and clipped; ``amount`` is between 0 and ``strongest``.

    ``content`` (hexadecimal) decides amount and width: the same picture is always sharpened alike.
    """

    def __init__(self, content: str, strongest: float) -> None:
        rng = np.random.default_rng(int(content, 16))
        self.amount = float(rng.uniform(0.0, strongest))
        self.sigma = float(rng.uniform(*_SIGMA))

    def __call__(self, picture: Pixels) -> Pixels:
        """(H, W, 3) uint8 to the same."""
        exact = picture.astype(np.float32)
        exact += self.amount * (exact - cv2.GaussianBlur(exact, (0, 0), self.sigma))
        return np.clip(np.rint(exact), 0, 255).astype(np.uint8)
