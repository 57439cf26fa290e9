"""Pictures as files: read like a video of one frame, encoded, verified by decoding, and named when they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from rcan_video.errors import InputError, OutputError, UsageError, VerificationError
from rcan_video.frames import ColorSpec, ColorTags, Frame, Plane, PlaneLayout
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.decode import Source
from rcan_video.media.files import PartFile, output_errors, reason
from rcan_video.media.image_tags import (
    LONGEST_JPEG_EXIF,
    Extras,
    components,
    is_several,
    is_whole,
    oriented,
    put_extras,
    read_extras,
)
from rcan_video.media.image_tags import is_picture as begins_as_picture
from rcan_video.media.picture import frame_of, planes_of
from rcan_video.options import EncodeOptions
from rcan_video.size import Size, reshaped, settle
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

_ENCODERS = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".webp": "libwebp", ".tif": "tiff", ".tiff": "tiff"}
# What a format can count to, in pixels a side.
_SIDES = {"mjpeg": 65_500, "libwebp": 16_383}
_READ = frozenset({*_ENCODERS, ".bmp", ".pgm", ".ppm"})
_OPTIONS = {
    "png": {"compression_level": "6", "pred": "mixed"},
    "mjpeg": {"qmin": "2", "qmax": "2", "huffman": "optimal"},  # 1 to 31: no visible loss
    "libwebp": {"quality": "95"},
    "tiff": {"compression_algo": "deflate"},
}
# A display matrix as EXIF's orientation says it: turned by a quarter to the right, upside down, to the left.
_QUARTER = 1 << 16
_TURNS = {6: (0, _QUARTER, -_QUARTER, 0), 3: (-_QUARTER, 0, 0, -_QUARTER), 8: (0, -_QUARTER, _QUARTER, 0)}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was read: ``frame`` holds its planes and its number, ``extras`` what the file carries beside."""

    info: VideoInfo
    frame: Frame
    extras: Extras


def is_image(path: str) -> bool:
    """Whether a name is that of a picture, or of numbered ones, that can be written."""
    return Path(path).suffix.lower() in _ENCODERS


def is_picture(path: str) -> bool:
    """Whether a name is that of a picture that can be read."""
    return Path(path).suffix.lower() in _READ


def read_image(path: str, number: int, max_pixels: int | None) -> Picture:
    """The picture at ``path``. Raises InputError: none, damaged, CMYK, or several in one file."""
    data = Path(path).read_bytes() if Path(path).is_file() else b""  # what is none, Source refuses with its reason
    if data and not begins_as_picture(data):
        raise InputError(f"{path} is no PNG, JPEG, WebP, TIFF, BMP or PNM, whatever its name says: convert it first")
    if components(data) == 4:
        raise InputError(f"{path} is a CMYK picture, for printing: convert it to RGB first")
    if not is_whole(data):
        raise InputError(f"{path} is cut off: its end is missing; get it again")
    with Source(path, max_pixels=max_pixels) as source:
        frames = source.frames()
        frame = next(frames)
        if is_several(data) or next(frames, None) is not None:
            raise InputError(f"{path} holds several pictures: split it into files, or name a video as output, as .mkv")
        if source.damage:
            raise InputError(f"{path} is damaged: a part of it cannot be decoded; get it again")
        planes, info, extras = tuple(np.array(plane) for plane in frame.planes), source.info, read_extras(data)
    if info.layout.alpha and planes[-1].min() == (1 << info.layout.depth) - 1:
        # Lossless WebP is always decoded with an alpha plane.
        info, planes = replace(info, layout=replace(info.layout, alpha=False), alpha=False), planes[:-1]
    turned = extras.orientation > 4
    info = replace(info, color=_color_of(info), display_matrix=(*_matrix(6),) if turned else None)
    return Picture(info, Frame(planes, number, 1, number), extras)


def _color_of(info: VideoInfo) -> ColorSpec:
    """What a picture leaves unsaid is full range and BT.601, as JFIF has them; lossy WebP comes with its tags."""
    if info.layout.family == "rgb":
        return info.color
    matrix = 5 if "matrix" in info.color.guessed else info.color.matrix
    return replace(info.color, matrix=matrix, full_range=info.color.tags.range != 1, siting="center")


def orientation(info: VideoInfo) -> int:
    """EXIF's orientation for the frames of a video, as its display matrix says; 1 for what it cannot say."""
    if info.display_matrix is not None:
        a, b, _, c, d = info.display_matrix[:5]
        for value, turn in _TURNS.items():
            if turn == (a, b, c, d):
                return value
    return 1


def _matrix(value: int) -> tuple[int, ...]:
    a, b, c, d = _TURNS[value]
    return (a, b, 0, c, d, 0, 0, 0, 1 << 30)


def plan_image(info: VideoInfo, scale: int, path: str, options: EncodeOptions, wanted: Size | None) -> VideoTarget:
    """How the picture at ``path`` is encoded, for frames of ``info`` enlarged ``scale`` times and reduced to
    ``wanted``.

    PNG and TIFF keep 16 bits and alpha. WebP is lossless where the source was no YUV. JPEG has 8 bits of YUV in full
    range, by JFIF. Raises UsageError for options that are a video's, OutputError for a picture too large.
    """
    for name in ("codec", "crf", "preset", "pix_fmt"):
        if getattr(options, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is for videos: leave it out, and choose the format by the ending of {path}")
    codec = _ENCODERS[Path(path).suffix.lower()]
    pix_fmt, layout = _format(codec, info.layout)
    width, height = info.width * scale, info.height * scale
    reduced, sar = None, info.sar
    if wanted is not None:
        width, height = reduced = settle(wanted, (width, height), (1, 1))
        sar = reshaped(info, width, height)
    if max(width, height) > _SIDES.get(codec, 1 << 24):
        raise OutputError(f"{path} cannot have {width}x{height} pixels: {_SIDES[codec]} a side are the most; use .png")
    notices = []
    if info.layout.alpha and not layout.alpha:
        notices.append(f"transparency is left out: {path} cannot keep it; .png, .tiff and .webp can")
    if info.layout.depth > layout.depth:
        notices.append(f"{info.layout.depth} bits become 8 in {path}: .png and .tiff keep 16")
    lossless = {"lossless": "1"} if codec == "libwebp" and layout.family == "rgb" else {}
    return VideoTarget(
        codec=codec,
        pix_fmt=pix_fmt,
        layout=layout,
        color=_color(codec, layout, info.color.tags),
        width=width,
        height=height,
        options={**_OPTIONS[codec], **lossless, **options.options},
        notices=tuple(notices),
        alpha=layout.alpha,
        reduced=reduced,
        sar=sar,
    )


def _format(codec: str, source: PlaneLayout) -> tuple[str, PlaneLayout]:
    if codec == "mjpeg":
        sub = (source.sub_w, source.sub_h) if source.family == "yuv" else (0, 0)
        layout = PlaneLayout("yuv", 8, *(sub if sub in ((0, 0), (1, 0), (1, 1)) else (0, 0)))
        return layout.pix_fmt.replace("yuv", "yuvj"), layout
    if codec == "libwebp":
        if source.family == "yuv":
            layout = PlaneLayout("yuv", 8, 1, 1, alpha=source.alpha)
            return layout.pix_fmt, layout
        return "bgra", PlaneLayout("rgb", 8, alpha=source.alpha)
    depth = 8 if source.depth == 8 else 16
    order = "" if depth == 8 else "be" if codec == "png" else "le"
    if source.family == "gray":
        return f"gray{'16' + order if order else ''}", PlaneLayout("gray", depth)
    name = "rgba" if source.alpha else "rgb"
    bits = (64 if source.alpha else 48) if order else ("" if source.alpha else 24)
    return f"{name}{bits}{order}", PlaneLayout("rgb", depth, alpha=source.alpha)


def _color(codec: str, layout: PlaneLayout, tags: ColorTags) -> ColorSpec:
    """JFIF and WebP both have BT.601 and centred chroma, JFIF in full range, WebP in that of video."""
    if layout.family == "yuv":
        full = codec == "mjpeg"
        return ColorSpec(5, full, "center", ColorTags(5, tags.primaries, tags.transfer, 2 if full else 1, "center"))
    rgb = ColorTags(0 if layout.family == "rgb" else 2, tags.primaries, tags.transfer, 2)
    return ColorSpec(6, True, "center", rgb)


def write_image(
    path: str, planes: Sequence[Plane], target: VideoTarget, extras: Extras, *, overwrite: bool
) -> list[str]:
    """Encode, decode again and compare, then give the file its name. Returns what of ``extras`` had to be left out, and
    why, as ends of a sentence that the picture begins.

    Raises OutputError, UsageError for options that the encoder does not know, and VerificationError, with the file kept
    under a name that says so.
    """
    with output_errors(path):
        plain = _encoded(planes, target)
    size = (target.width, target.height)
    lost = []
    if extras.icc is not None and extras.icc[16:20] == b"GRAY" and target.layout.family != "gray":
        extras = replace(extras, icc=None)
        lost.append("loses its ICC profile, which is for grey: the format has colours alone")
    if target.codec == "mjpeg" and len(extras.exif or b"") > LONGEST_JPEG_EXIF:
        extras = replace(oriented(extras.orientation), icc=extras.icc)
        lost.append("keeps of its EXIF data the orientation alone: they are too long for a JPEG")
    data = put_extras(plain, extras, size)
    fault = _fault(data, planes, target)
    if fault is not None and extras.exif is not None:
        data = put_extras(plain, replace(oriented(extras.orientation), icc=extras.icc), size)
        fault = _fault(data, planes, target)
        lost.append("keeps of its EXIF data the orientation alone: they are damaged")
    with PartFile(path, overwrite=overwrite) as part:
        with output_errors(path):
            part.path.write_bytes(data)
        if fault is not None:
            kept = part.keep("unverified")
            raise VerificationError(f"{path} {fault}; what was written is kept as {kept}: please report this")
        part.commit()
    return lost


def _encoded(planes: Sequence[Plane], target: VideoTarget) -> bytes:
    context = cast("VideoCodecContext", av.CodecContext.create(target.codec, "w"))
    size = (target.width, target.height)
    context.width, context.height, context.pix_fmt = *size, target.pix_fmt
    context.time_base = Fraction(1, 25)
    if target.sar is not None or target.codec == "mjpeg":  # whose encoder says JFIF only where it has one to say
        context.sample_aspect_ratio = target.sar or Fraction(1)
    context.options = dict(target.options)
    frame = frame_of(planes, target.layout, size, target.pix_fmt, VideoReformatter())
    tags = target.color.tags
    frame.colorspace, frame.color_range = tags.matrix, tags.range
    frame.color_primaries, frame.color_trc = tags.primaries, tags.transfer
    context.colorspace, context.color_range = tags.matrix, tags.range
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    frame.pts, frame.time_base = 0, context.time_base
    try:
        context.open()
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(
            f"the encoder {target.codec} does not open for {size[0]}x{size[1]}: {reason(error)}; see --encoder-opt"
        ) from error
    for key in context.options:
        raise UsageError(f"the encoder {target.codec} has no option {key!r}: see ffmpeg -h encoder={target.codec}")
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


def _fault(data: bytes, planes: Sequence[Plane], target: VideoTarget) -> str | None:
    """What keeps ``data`` from being the picture: its size, or its samples where the format is lossless, but for the
    colour of what is fully transparent. None where nothing does."""
    try:
        with av.open(BytesIO(data), "r") as file:
            frame = next(file.decode(video=0))
    except (av.FFmpegError, StopIteration):
        return "cannot be read back"
    if (frame.width, frame.height) != (target.width, target.height):
        return f"holds {frame.width}x{frame.height} pixels, not {target.width}x{target.height}"
    if target.layout.family == "yuv":
        return None
    found = planes_of(frame, target.layout, VideoReformatter())
    seen = np.asarray(planes[-1]) > 0 if target.layout.alpha else True
    pairs = zip(planes, found, strict=True)
    wrong = any(((np.asarray(written) != read) & seen).any() for written, read in pairs)
    return "holds other pixels than were computed" if wrong else None
