"""Frames on their way: how their samples are stored, what these mean, and the frames themselves; all of it frozen.

Colour code points (``ColorTags``) are those of ISO/IEC 23091-2 (H.273), which FFmpeg uses as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from rcan_video.errors import InputError

Family = Literal["yuv", "gray", "rgb"]
Siting = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]

_SUBSAMPLING = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
_PLANAR = re.compile(r"(?:yuvj?(?P<ya>a?)(?P<sub>4\d\d)p|(?P<gray>gray)|(?P<rgb>gbr(?P<ra>a?)p))(?P<depth>\d+)?(?:le)?")


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """How one frame is stored: one plane per component, 8-bit samples in bytes, deeper ones in 16-bit words.

    ``depth`` is in bits (8..16); ``sub_w`` and ``sub_h`` are the log2 chroma subsampling of ``yuv``.
    Plane order is FFmpeg's: Y U V, Y alone, or G B R, and then alpha where there is one, at full size and full range.
    """

    family: Family
    depth: int = 8
    sub_w: int = 0
    sub_h: int = 0
    alpha: bool = False

    def __post_init__(self) -> None:
        if not 8 <= self.depth <= 16:
            raise ValueError(f"depth must be 8..16 bits, got {self.depth}")
        if self.family != "yuv" and (self.sub_w or self.sub_h):
            raise ValueError(f"{self.family} has no subsampled planes")
        if self.family == "gray" and self.alpha:
            raise ValueError("there is no planar format of gray and alpha")

    @classmethod
    def parse(cls, pix_fmt: str) -> PlaneLayout | None:
        """The layout of a planar pixel format by FFmpeg's name, or None where it is packed or has floats."""
        match = _PLANAR.fullmatch(pix_fmt)
        if match is None or pix_fmt in ("gray8a",):
            return None
        depth = int(match["depth"] or 8)
        if not 8 <= depth <= 16:
            return None
        if match["sub"]:
            if match["sub"] not in _SUBSAMPLING:
                return None
            return cls("yuv", depth, *_SUBSAMPLING[match["sub"]], alpha=bool(match["ya"]))
        return cls("gray" if match["gray"] else "rgb", depth, alpha=bool(match["ra"]))

    @property
    def pix_fmt(self) -> str:
        """FFmpeg's name, for example ``yuv420p10le``."""
        names = {sub: name for name, sub in _SUBSAMPLING.items()}
        a = "a" if self.alpha else ""
        base = {"yuv": f"yuv{a}{names.get((self.sub_w, self.sub_h))}p", "gray": "gray", "rgb": f"gbr{a}p"}[self.family]
        return base if self.depth == 8 else f"{base}{self.depth}le"

    @property
    def sample_bytes(self) -> int:
        return 1 if self.depth == 8 else 2

    def shapes(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of each plane; chroma of odd sizes is rounded up, as FFmpeg does."""
        luma = (height, width)
        alpha = (luma,) if self.alpha else ()
        if self.family == "gray":
            return (luma,)
        if self.family == "rgb":
            return (luma, luma, luma, *alpha)
        chroma = (-(-height >> self.sub_h), -(-width >> self.sub_w))
        return (luma, chroma, chroma, *alpha)

    def samples(self, width: int, height: int) -> int:
        """Samples of one frame, all planes together."""
        return sum(h * w for h, w in self.shapes(width, height))

    def frame_bytes(self, width: int, height: int) -> int:
        return self.samples(width, height) * self.sample_bytes


@dataclass(frozen=True, slots=True)
class ColorTags:
    """The colour description as the stream carries it. 2 (for the range 0) says "unspecified" and stays so."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    range: int = 0  # AVCOL_RANGE: 1 limited, 2 full
    siting: Siting | None = None


# Kr and Kb of the matrices of H.273 table 4 that are a plain weighted sum. Key: matrix code point.
LUMA_WEIGHTS: Mapping[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}


@dataclass(frozen=True, slots=True)
class ColorSpec:
    """What the samples mean. One value drives the conversion and the tags of the output.

    ``matrix`` is a key of ``LUMA_WEIGHTS`` (ignored for RGB); ``tags`` is what the stream says, and
    ``guessed`` names what it left unsaid and was therefore assumed for the arithmetic alone.
    """

    matrix: int
    full_range: bool
    siting: Siting
    tags: ColorTags = ColorTags()
    guessed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.matrix not in LUMA_WEIGHTS:
            raise ValueError(f"no luma weights for matrix {self.matrix}")

    @classmethod
    def resolve(cls, tags: ColorTags, layout: PlaneLayout, width: int, height: int) -> ColorSpec:
        """The arithmetic for a stream with these tags.

        Unspecified means BT.709 from 720 lines or 1280 columns on and BT.601 below (what players do), limited
        range (full for RGB), and chroma sited left (the default of H.264 and HEVC, Annex E). Matrices that are
        no weighted sum (constant luminance, ICtCp, YCgCo) fall back to the sum nearest to them: the way back uses
        the same one, so that only the network's view of the colours is off.
        """
        guessed = []
        matrix = tags.matrix
        if layout.family == "rgb":
            matrix = 1
        elif matrix == 10 or matrix == 14:
            matrix = 9
            guessed.append("matrix")
        elif matrix not in LUMA_WEIGHTS:
            matrix = 1 if height >= 720 or width >= 1280 else 6
            guessed.append("matrix")
        full = tags.range == 2 or (tags.range == 0 and layout.family == "rgb")
        if tags.range == 0 and layout.family != "rgb":
            guessed.append("range")
        siting = tags.siting
        if siting is None:
            siting = "left"
            if layout.sub_w or layout.sub_h:
                guessed.append("siting")
        return cls(matrix, full, siting, tags, tuple(guessed))


class Plane(Protocol):
    """Samples in host memory: a NumPy array, or a CPU tensor of torch. ``np.asarray`` and ``torch.from_dlpack`` both
    take either without a copy, so that nobody has to load the other's library."""

    @property
    def ndim(self) -> int: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    @property
    def nbytes(self) -> int: ...

    def __dlpack__(self, *arguments: Any, **options: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, int]: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on its way: planes of shape (H, W), uint8 or uint16. Those of a decoder are strided, read-only views of
    its memory.

    ``pts`` and ``duration`` are in the video's time base; ``index`` counts decoded frames from 0.
    """

    planes: tuple[Plane, ...]
    pts: int
    duration: int
    index: int

    def __post_init__(self) -> None:
        if any(p.ndim != 2 for p in self.planes):
            raise ValueError(f"a frame's planes are (H, W), got {[tuple(p.shape) for p in self.planes]}")

    @property
    def nbytes(self) -> int:
        return sum(p.nbytes for p in self.planes)


def digest(planes: Sequence[Plane]) -> str:
    """A hash of every sample of some planes: equal for equal pictures, on every machine."""
    found = hashlib.blake2b(digest_size=16)
    for plane in planes:
        found.update(np.ascontiguousarray(plane).data)
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between two frames of an input, so that another run can go on there: ``index``, ``pts`` (time base of
    the input) and ``digest`` of the frame behind it, and the damage met before it."""

    index: int
    pts: int
    digest: str
    damaged_packets: int
    damaged_frames: int


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Consecutive frames that go through the network together, in presentation order."""

    frames: tuple[Frame, ...]

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError("an empty batch")
        shapes = [tuple(p.shape) for p in self.frames[0].planes]
        for frame in self.frames[1:]:
            if [tuple(p.shape) for p in frame.planes] != shapes:
                raise InputError(f"frame {frame.index} has another size than those before it")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def index(self) -> int:
        """Index of the first frame."""
        return self.frames[0].index

    @property
    def nbytes(self) -> int:
        return sum(f.nbytes for f in self.frames)
