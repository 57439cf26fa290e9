"""Frames that equal one of those before, bit for bit, need no network: they get what that one became."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from rcan_video.frames import Frame, Plane

DEPTH = 2
"""Different pictures that are remembered: drawings and slides stay for several frames, and what blinks has two states.
Each keeps its output in memory."""


class Picture:
    """One picture, however many frames show it. ``planes`` are its output, empty until the network is done."""

    __slots__ = ("planes",)

    def __init__(self) -> None:
        self.planes: tuple[Plane, ...] = ()


class Repeats:
    """Tells which frames show a picture that was shown before. For one thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Picture] = OrderedDict()

    def find(self, frame: Frame) -> tuple[Picture, bool]:
        """The picture that ``frame`` shows, and whether an earlier frame has shown it."""
        key = digest(frame)
        picture = self._known.get(key)
        if picture is not None:
            self._known.move_to_end(key)
            return picture, True
        picture = self._known[key] = Picture()
        if len(self._known) > DEPTH:
            self._known.popitem(last=False)
        return picture, False


def digest(frame: Frame) -> bytes:
    """SHA-256 of how the samples are stored and of all the samples."""
    total = hashlib.sha256(repr([(tuple(p.shape), str(p.dtype)) for p in frame.planes]).encode())
    for plane in frame.planes:
        total.update(np.asarray(plane).ravel().data)  # rows are padded in a decoder's memory
    return total.digest()
