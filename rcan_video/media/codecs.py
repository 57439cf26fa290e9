"""Which encoder, in which pixel format and at which size: decided before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import av
from av.codec.codec import UnknownCodecError, find_best_pix_fmt_of_list
from av.video.reformatter import VideoReformatter

from rcan_video.errors import InputError, OutputError, UsageError, did_you_mean
from rcan_video.frames import ColorSpec, ColorTags, PlaneLayout
from rcan_video.media.alpha import keeps_alpha, usable_formats
from rcan_video.media.encoder_options import encoder_options
from rcan_video.media.picture import converted
from rcan_video.media.probe import planar_layout
from rcan_video.options import EncodeOptions
from rcan_video.size import Size, reshaped, settle
from rcan_video.video import VideoInfo

PQ, HLG = 16, 18  # transfer characteristics of H.273 that make a video HDR

# x265 4 writes beyond its memory where the picture is 48 pixels wide or less (its lookahead); with a margin.
_X265_WIDTH = 64

# Containers with a codec that keeps alpha, and that codec.
_ALPHA_CODECS: Mapping[str, str] = {"matroska": "ffv1", "webm": "libvpx-vp9", "mov": "prores_ks", "nut": "rawvideo"}

# What Y4M has a name for, of which its muxer tells nobody; above 8 bits by an extension that all readers know.
_Y4M_FORMATS = (
    "yuv411p",
    *(f"{base}{depth}" for base in ("gray", "yuv420p", "yuv422p", "yuv444p") for depth in ("", "9le", "10le", "12le")),
    *("gray16le", "yuv420p14le", "yuv422p14le", "yuv444p14le", "yuv420p16le", "yuv422p16le", "yuv444p16le"),
)

# Containers that store when a packet is decoded, not when it is shown: B-frames would come at wrong times.
_DECODE_TIMES = frozenset({"avi", "asf"})

# Encoders that refuse odd sizes with subsampled chroma.
_EVEN_ONLY = frozenset({"libx264", "libx265", "libsvtav1"})


@dataclass(frozen=True, slots=True)
class VideoTarget:
    """What will be encoded. The network writes ``layout``; the encoder takes ``pix_fmt``, which holds the same
    samples, perhaps packed. ``width`` and ``height`` in pixels; ``alpha``: transparency reaches the file.
    ``reduced`` is the (width, height) that the enlarged picture is reduced to, None where it is not; ``sar`` the sample
    aspect ratio, None for square samples."""

    codec: str
    pix_fmt: str
    layout: PlaneLayout
    color: ColorSpec
    width: int
    height: int
    options: Mapping[str, str]
    notices: tuple[str, ...] = ()
    alpha: bool = False
    reduced: tuple[int, int] | None = None
    sar: Fraction | None = None

    def lost_alpha(self, container: str) -> str:
        """What is said where the input's transparency does not reach the output."""
        advice = "leave --codec and --pix-fmt out" if container in _ALPHA_CODECS else "choose .mkv, .mov or .webm"
        return f"transparency is left out: {self.codec} as {self.pix_fmt} in {container} keeps none; {advice}"


def default_codec(container: str, layout: PlaneLayout, transfer: int) -> str:
    """8-bit: H.264. More bits or HDR: HEVC. WebM: VP9, or AV1 above 8 bits. NUT and Y4M: uncompressed. With alpha: what
    keeps it, where the container has such a codec."""
    if layout.alpha and container in _ALPHA_CODECS:
        plain = layout == PlaneLayout("yuv", 8, 1, 1, alpha=True)
        return "libvpx-vp9" if plain and container == "matroska" else _ALPHA_CODECS[container]
    deep = layout.depth > 8 or transfer in (PQ, HLG)
    if container in ("nut", "yuv4mpegpipe"):
        return "rawvideo"
    if container == "webm":
        return "libsvtav1" if deep else "libvpx-vp9"
    if deep:
        return "libx265"
    return "libx264rgb" if layout.family == "rgb" else "libx264"


def plan_video(
    info: VideoInfo, scale: int, container: str, options: EncodeOptions, wanted: Size | None = None
) -> VideoTarget:
    """The encoder and everything it is told for ``info`` enlarged ``scale`` times, and then reduced to about the size
    ``wanted``, into ``container``.

    Raises OutputError (no such encoder here, or not for this size), UsageError (an option that the encoder does not
    have).
    """
    width, height = info.width * scale, info.height * scale
    name = options.codec or default_codec(container, info.layout, info.color.tags.transfer)
    if options.codec is None and name == "libx265" and (width if wanted is None else wanted[0]) < _X265_WIDTH:
        name = "libx264"
    try:
        codec = av.Codec(name, "w")
    except UnknownCodecError as error:
        raise OutputError(
            f"there is no encoder {name!r}: try libx264, libx265, libsvtav1, libvpx-vp9, ffv1 or prores_ks"
            f"{did_you_mean(name, av.codecs_available)}"
        ) from error
    name = codec.name  # "h264" finds libx264
    if codec.type != "video":
        raise OutputError(f"{name} is no video encoder: try libx264, libx265, libsvtav1, libvpx-vp9 or ffv1")
    formats = usable_formats(name, [f.name for f in codec.video_formats or ()])
    if container == "yuv4mpegpipe":
        formats = [f for f in formats or _Y4M_FORMATS if f in _Y4M_FORMATS]
    keeps = keeps_alpha(name, container)
    stored = replace(info.layout, alpha=info.layout.alpha and keeps)
    pix_fmt = _pix_fmt(name, formats, stored, options.pix_fmt)
    layout = planar_layout(pix_fmt)
    notices = []
    if options.pix_fmt is None and replace(layout, alpha=stored.alpha) != stored:
        notices.append(f"{name} cannot store {stored.pix_fmt}: the output is {layout.pix_fmt}")
    reduced, sar = None, info.sar
    if wanted is not None:
        width, height = reduced = settle(wanted, (width, height), (1 << layout.sub_w, 1 << layout.sub_h))
        sar = reshaped(info, width, height)
        notices += _rounding(wanted, reduced, pix_fmt, info.sar, sar)
    elif name in _EVEN_ONLY:
        even = (width - width % (1 << layout.sub_w), height - height % (1 << layout.sub_h))
        if even != (width, height):
            notices.append(f"{name} needs even sizes: {width}x{height} is cut to {even[0]}x{even[1]}")
            width, height = even
    if name == "libx265" and width < _X265_WIDTH:
        raise OutputError(
            f"libx265 takes no picture narrower than {_X265_WIDTH} pixels, and this one has {width}: "
            "use --codec libx264 or ffv1"
        )
    color = _color(info, layout, pix_fmt)
    settings = encoder_options(name, options, color.tags, info.hdr)
    if container in _DECODE_TIMES:
        settings.setdefault("bf", "0")
    if name == "libvpx" and layout.alpha:
        settings.setdefault("auto-alt-ref", "0")  # with alpha it does not open otherwise
    return VideoTarget(
        codec=name,
        pix_fmt=pix_fmt,
        layout=layout,
        color=color,
        width=width,
        height=height,
        options=settings,
        notices=tuple(notices),
        alpha=layout.alpha and keeps,
        reduced=reduced,
        sar=sar,
    )


def _rounding(
    wanted: Size, size: tuple[int, int], pix_fmt: str, before: Fraction | None, after: Fraction | None
) -> list[str]:
    """What was done to a size that was asked for, in a sentence."""
    width, height = size
    told = []
    if any(want.denominator == 1 and want != got for want, got in zip(wanted, size, strict=True)):
        told.append(f"the picture becomes {width}x{height}, since {pix_fmt} goes in steps of two pixels or more")
    if after != before:
        told.append(
            f"the sample aspect ratio of {width}x{height} is {after or 1} instead of {before or 1}, "
            "so that the picture keeps its shape"
        )
    return told


def _pix_fmt(codec: str, formats: list[str], layout: PlaneLayout, wanted: str | None) -> str:
    if wanted is not None:
        try:
            planar_layout(wanted)
        except ValueError as error:
            meant = did_you_mean(wanted, formats)
            raise UsageError(f"--pix-fmt {wanted}: FFmpeg knows no such pixel format{meant}") from error
        except InputError as error:
            raise UsageError(f"--pix-fmt {wanted}: frames cannot be written in it") from error
        if formats and wanted not in formats:
            raise UsageError(f"--pix-fmt {wanted}: {codec} takes only {', '.join(formats)}")
        planar = planar_layout(wanted).pix_fmt
        try:
            converted(av.VideoFrame(16, 16, planar), wanted, VideoReformatter())
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UsageError(f"--pix-fmt {wanted}: FFmpeg cannot write it, choose another such as {planar}") from error
        return wanted
    if not formats or layout.pix_fmt in formats:
        return layout.pix_fmt
    # The full-range twins (yuvj) are the same formats by an old name; the range travels in the tags.
    usable = [f for f in formats if not f.startswith("yuvj")]
    # Alpha comes before all else, and its place is not left empty where there is none.
    usable = [f for f in usable if planar_layout(f).alpha == layout.alpha] or usable
    # FFmpeg ranks RGB above YUV for gray; for us gray is luma, and 4:2:0 holds it.
    like = replace(layout, family="yuv", sub_w=1, sub_h=1) if layout.family == "gray" else layout
    best, _ = find_best_pix_fmt_of_list(usable or formats, like.pix_fmt)
    assert best is not None  # the list is not empty
    return best.name


def _color(info: VideoInfo, layout: PlaneLayout, pix_fmt: str) -> ColorSpec:
    """The source's colour; adapted only where YUV becomes RGB or the other way."""
    source = info.color
    if (layout.family == "rgb") == (info.layout.family == "rgb"):
        if pix_fmt.startswith("yuvj"):
            return replace(source, full_range=True, tags=replace(source.tags, range=2))
        return source
    if layout.family == "rgb":
        tags = replace(source.tags, matrix=0, range=2, siting=None)
    else:
        tags = ColorTags(1, source.tags.primaries, source.tags.transfer, 1)
    return ColorSpec.resolve(tags, layout, info.width, info.height)
