"""Frames that equal one of those before, bit for bit, need no network: they get what that one became."""

from __future__ import annotations

from collections import OrderedDict

from rcan_video.frames import Frame, Plane, digest

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
        self._known: OrderedDict[str, Picture] = OrderedDict()

    def find(self, frame: Frame) -> tuple[Picture, bool]:
        """The picture that ``frame`` shows, and whether an earlier frame has shown it."""
        key = digest(frame.planes)
        picture = self._known.get(key)
        if picture is not None:
            self._known.move_to_end(key)
            return picture, True
        picture = self._known[key] = Picture()
        if len(self._known) > DEPTH:
            self._known.popitem(last=False)
        return picture, False
