"""What a video is, as probing found it out once: its picture, its times, and all that the file holds beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from rcan_video.frames import ColorSpec, PlaneLayout


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of the input other than the video that is upscaled."""

    index: int
    kind: str  # "audio", "subtitle", "video", "data", "attachment"
    codec: str
    language: str | None = None
    detail: str = ""  # "2 channels, 48000 Hz" and the like, for people
    cover: bool = False  # a picture that stands for the file (attached picture)
    start: Fraction | None = None  # seconds, without what only starts a decoder up (AAC, Opus); None: unknown


@dataclass(frozen=True, slots=True)
class Chapter:
    """A named part of the video; times in seconds."""

    start: Fraction
    end: Fraction
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """Static metadata of HDR10 as SMPTE ST 2086 and CTA-861.3 define it. None where the stream has no such part.

    ``primaries`` are x and y of red, green, blue and white; ``luminance`` is (lowest, highest) of the mastering
    display in cd/m2; ``light`` is (MaxCLL, MaxFALL) in cd/m2.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What probing found out once. Nobody asks the container again.

    Times are in ``time_base`` units (seconds per tick) unless named otherwise; ``frames`` is an estimate, or
    None where neither the container nor duration and rate tell. ``layout`` is how frames leave the decoder:
    packed formats are unpacked there, so it differs from ``pix_fmt`` for them.
    """

    path: str
    container: str
    index: int
    codec: str
    width: int
    height: int
    pix_fmt: str
    layout: PlaneLayout
    color: ColorSpec
    time_base: Fraction
    rate: Fraction
    start: int
    duration: Fraction | None  # seconds
    frames: int | None
    sar: Fraction | None = None
    others: tuple[StreamInfo, ...] = ()
    display_matrix: tuple[int, ...] | None = None  # nine numbers as MP4 stores them: rotation and flips on display
    hdr: HdrMetadata | None = None
    unwritable: tuple[str, ...] = ()  # what the first frame has and no output can: "HDR10+ metadata of each frame"
    interlaced: bool = False  # frames leave the decoder with two fields woven together
    alpha: bool = False  # the stream has transparency; where the layout has none, it cannot be decoded
    chapters: tuple[Chapter, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)  # of the container
    stream_tags: Mapping[str, str] = field(default_factory=dict)  # of the video stream: language, title

    def of_kind(self, kind: str) -> tuple[StreamInfo, ...]:
        return tuple(s for s in self.others if s.kind == kind)
