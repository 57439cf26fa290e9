"""What of an input could not be read as it was meant: counted, or the end of the job."""

from __future__ import annotations

from fractions import Fraction

from rcan_video.errors import InputError
from rcan_video.media.files import shown
from rcan_video.options import OnCorrupt


class Damage:
    """The damage met so far in one input. With ``policy`` "fail" the first of it raises InputError.

    ``packets`` of the video gave no frame, ``frames`` were patched by their decoder, ``others`` are the packets of the
    streams beside the video that had to be left out, ``others_cut`` says that these could not be read to their end, and
    ``cut_off`` that the file is shorter than it says. ``moved`` timestamps of the others had to be changed, which
    is told and no damage, as are the ``overlapping`` samples of PCM that had no place. Each has one writer: the thread
    that reads the others for what is said of them, the one that reads the video for the rest.
    """

    def __init__(self, path: str, policy: OnCorrupt = "skip") -> None:
        self._name = shown(path)
        self._policy = policy
        self.packets = 0
        self.frames = 0
        self.others = 0
        self.others_cut = False
        self.cut_off = False
        self.moved = 0
        self.overlapping = 0

    def __bool__(self) -> bool:
        return bool(self.packets or self.frames or self.others or self.others_cut or self.cut_off)

    def packet(self, at: Fraction | None) -> None:
        """A packet of the video, at ``at`` seconds where it has a time, cannot be decoded."""
        self.packets += 1
        self._met(f"a packet{_place(at)} cannot be decoded")

    def frame(self, index: int) -> None:
        """A frame of the video was decoded as far as possible."""
        self.frames += 1
        self._met(f"frame {index} can be decoded in part only")

    def other(self, at: Fraction | None) -> None:
        """A packet of another stream, at ``at`` seconds where it has a time, is left out."""
        self.others += 1
        self._met(f"a packet{_place(at)} of its other streams cannot be read")

    def cut(self) -> None:
        """The other streams can be read no further."""
        self.others_cut = True
        self._met("its other streams can be read no further")

    def end(self) -> None:
        """The end of the file is missing, within the part that is wanted."""
        self.cut_off = True
        self._met("it is cut off, its end is missing")

    def first_notices(self) -> list[str]:
        """Sentences about what is known before anything is decoded."""
        if not self.cut_off:
            return []
        return [f"{self._name} is cut off: it is shorter than it says, and its end is missing; get it again"]

    def notices(self, came: int, of: int | None) -> list[str]:
        """Sentences about the video, where ``came`` frames ``of`` an expected number came out."""
        found = []
        if self.packets:
            about = f" of about {of}" if of else ""
            found.append(
                f"{self.packets} damaged packets of {self._name} could not be decoded: {came}{about} frames came out"
            )
        if self.frames:
            found.append(f"{self.frames} frames of {self._name} are damaged: they were decoded as far as possible")
        return found

    def others_notices(self) -> list[str]:
        """Sentences about the streams beside the video."""
        found = []
        if self.moved:
            found.append(
                f"{self.moved} timestamps of the other streams of {self._name} repeat, go back or are out of line with "
                "their neighbours: each was replaced by one that follows the packet before"
            )
        if self.overlapping:
            found.append(
                f"{self.overlapping} samples of the sound of {self._name} were left out: they come at times of others "
                "before them, and there PCM is stored without times"
            )
        if self.others:
            found.append(f"{self.others} damaged packets of the other streams of {self._name} were left out")
        if self.others_cut:
            found.append(f"{self._name} is damaged: its other streams were read no further")
        return found

    def _met(self, what: str) -> None:
        if self._policy == "fail":
            raise InputError(
                f"{self._name} is damaged: {what}; get it again, or let rcan-video --on-corrupt skip go on with what "
                "can be read"
            )


def _place(at: Fraction | None) -> str:
    return "" if at is None else f" at {float(at):.3f} s"
