"""What a video is, asked once: from the container's header and its first decoded frame into a ``VideoInfo``."""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast, get_args

import av
import av.logging
from av.audio.stream import AudioStream
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from rcan_video.errors import InputError
from rcan_video.frames import ColorSpec, ColorTags, PlaneLayout, Siting
from rcan_video.media.alpha import has_alpha, hidden_alpha
from rcan_video.media.files import shown
from rcan_video.video import Chapter, HdrMetadata, StreamInfo, VideoInfo

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_DEFAULT_RATE = Fraction(25)
_FASTEST = 480  # containers that count in milliseconds may claim 1000 frames/s where they do not know
_SITINGS = frozenset(get_args(Siting))
# PyAV frees the metadata of side data that belong to the frame, which is then freed twice and the process dies. Only
# these decoders give any: the name of an ICC profile.
_SIDE_DATA_KILLS = frozenset({"png", "apng"})
# Tags that would be wrong of the enlarged stream: its encoder, and mkvmerge's statistics, with a language or without.
# alpha_mode is no tag, but how Matroska says that there is alpha: the muxer's to write.
_STALE = re.compile(
    r"alpha_mode|(encoder|bps|number_of_(bytes|frames)|duration|_statistics_\w+)(-[a-z]{2,3})?", re.IGNORECASE
)
_log_lock = threading.Lock()


def best_video(container: InputContainer, path: str) -> VideoStream:
    """The stream to upscale: FFmpeg's choice, which passes over cover art.

    Raises InputError where there is none.
    """
    stream = container.streams.best("video")
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
        raise InputError(f"{shown(path)} has no video stream to upscale (it holds {kinds})")
    if stream.disposition & Disposition.attached_pic:
        raise InputError(
            f"{shown(path)} has no video stream to upscale, only cover art: extract that as a picture first"
        )
    if stream.codec_context is None:
        raise InputError(f"{shown(path)} has a video stream of a codec that FFmpeg cannot decode")
    return cast("VideoStream", stream)


def nominal_rate(stream: VideoStream) -> Fraction:
    """Frames per second as far as the container knows; a hint for encoders and estimates, never for times."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and rate <= _FASTEST:
            return Fraction(rate)
    return _DEFAULT_RATE


def time_base(stream: VideoStream) -> Fraction:
    """Seconds per tick of the stream's timestamps."""
    return Fraction(stream.time_base) if stream.time_base else 1 / nominal_rate(stream)


def planar_layout(pix_fmt: str, *, alpha: bool | None = None) -> PlaneLayout:
    """The planar layout that holds every sample of a pixel format exactly.

    ``alpha`` True adds an alpha plane whatever the format says (gray becomes RGB: there is no planar gray with alpha),
    False leaves it out; None goes by the format, and leaves the alpha of gray out.

    Raises InputError for formats with nothing to hold them (hardware surfaces).
    """
    if layout := PlaneLayout.parse(pix_fmt):
        return layout if alpha is None else replace(layout, alpha=alpha)
    fmt = av.VideoFormat(pix_fmt, 16, 16)
    color = [c for c in fmt.components if not c.is_alpha]
    if not color:
        raise InputError(f"frames in the pixel format {pix_fmt} cannot be read")
    # xyz12 and the like have no depth of their own among the planar formats; floats are read as 16 bits.
    depth = next((d for d in (8, 9, 10, 12, 14, 16) if d >= max(c.bits for c in color)), 16)
    gray = len(color) == 1 and not fmt.has_palette
    if alpha is None:
        alpha = len(color) < len(fmt.components) and not gray
    if fmt.is_rgb or fmt.has_palette or pix_fmt.startswith("xyz") or (gray and alpha):
        return PlaneLayout("rgb", depth, alpha=alpha)
    if gray:
        return PlaneLayout("gray", depth)
    chroma = color[1]
    subsampling = ((16 // chroma.width).bit_length() - 1, (16 // chroma.height).bit_length() - 1)
    return PlaneLayout("yuv", depth, *subsampling, alpha=alpha)


def describe(
    container: InputContainer,
    stream: VideoStream,
    frame: VideoFrame,
    start: int,
    path: str,
    plain: VideoFrame | None = None,
) -> VideoInfo:
    """``VideoInfo`` of an opened input. ``frame`` is the first decoded one: it, not the header, is what will come.
    ``plain`` is one from the stream's own decoder, where ``frame`` comes from another."""
    plain = plain or frame
    alpha = has_alpha(frame)
    layout = planar_layout(frame.format.name, alpha=alpha)
    side = {} if stream.codec_context.name in _SIDE_DATA_KILLS else _side_data(plain)
    tags = ColorTags(
        matrix=int(plain.colorspace),
        primaries=int(plain.color_primaries),
        transfer=int(plain.color_trc),
        range=2 if plain.format.name.startswith("yuvj") else int(plain.color_range),
        siting=_siting(container, stream.index),
    )
    rate = nominal_rate(stream)
    duration = _duration(container, stream)
    frames = stream.frames or (round(duration * rate) if duration else None)
    sar = stream.sample_aspect_ratio
    return VideoInfo(
        path=path,
        container=container.format.name,
        index=stream.index,
        codec=stream.codec_context.name,
        width=frame.width,
        height=frame.height,
        pix_fmt=frame.format.name,
        layout=layout,
        color=ColorSpec.resolve(tags, layout, frame.width, frame.height),
        time_base=time_base(stream),
        rate=rate,
        start=start,
        duration=duration,
        frames=frames,
        sar=Fraction(sar) if sar and sar != 1 else None,
        others=tuple(_stream_info(s) for s in container.streams if s.index != stream.index),
        display_matrix=_numbers(side.get(SideDataType.DISPLAYMATRIX), "<9i"),
        hdr=_hdr(side),
        unwritable=_unwritable(side),
        interlaced=bool(frame.interlaced_frame),
        alpha=alpha or hidden_alpha(stream),
        chapters=_chapters(container),
        tags=dict(container.metadata),
        stream_tags={key: value for key, value in stream.metadata.items() if not _STALE.fullmatch(key)},
    )


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return Fraction(stream.duration * stream.time_base)
    return Fraction(container.duration, av.time_base) if container.duration else None


def _stream_info(stream: Stream) -> StreamInfo:
    context, base = stream.codec_context, stream.time_base
    detail = ""
    if isinstance(stream, AudioStream) and context is not None:
        detail = f"{stream.codec_context.channels} ch, {stream.codec_context.sample_rate} Hz"
    return StreamInfo(
        index=stream.index,
        kind=stream.type,
        # A stream without a decoder has no name of its own in PyAV, or one that raises.
        codec=context.name if context is not None else getattr(stream, "name", None) or "unknown",
        language=stream.metadata.get("language"),
        detail=detail,
        cover=bool(stream.disposition & Disposition.attached_pic),
        start=stream.start_time * Fraction(base) if base and stream.start_time is not None else None,
    )


def _chapters(container: InputContainer) -> tuple[Chapter, ...]:
    return tuple(
        Chapter(c["start"] * Fraction(c["time_base"]), c["end"] * Fraction(c["time_base"]), dict(c["metadata"]))
        for c in container.chapters()
        if c["time_base"]
    )


def _side_data(frame: VideoFrame) -> dict[SideDataType, bytes]:
    """A frame's side data by kind; none at all where FFmpeg has a kind that PyAV does not know: it then gives none."""
    try:
        return {data.type: bytes(data) for data in cast("Any", frame.side_data)}  # in PyAV's stubs they have no type
    except ValueError:
        return {}


def _numbers(data: bytes | None, layout: str) -> tuple[int, ...] | None:
    """The fields of one of FFmpeg's structs."""
    return None if data is None else struct.unpack_from(layout, data)


def _hdr(side: Mapping[SideDataType, bytes]) -> HdrMetadata | None:
    """From AVMasteringDisplayMetadata (ten fractions, then which of its halves are set) and AVContentLightMetadata."""
    mastering = _numbers(side.get(SideDataType.MASTERING_DISPLAY_METADATA), "<22i")
    light = _numbers(side.get(SideDataType.CONTENT_LIGHT_LEVEL), "<2I")
    if mastering is None and light is None:
        return None
    primaries = luminance = None
    if mastering is not None:
        values = [
            Fraction(n, d) if d else Fraction(0) for n, d in zip(mastering[0:20:2], mastering[1:20:2], strict=True)
        ]
        has_primaries, has_luminance = mastering[20:22]
        if has_primaries:
            primaries = tuple(zip(values[0:8:2], values[1:8:2], strict=True))
        if has_luminance:
            luminance = (values[8], values[9])
    return HdrMetadata(primaries, luminance, None if light is None else (light[0], light[1]))


def _unwritable(side: Mapping[SideDataType, bytes]) -> tuple[str, ...]:
    """PyAV attaches nothing to a frame that is encoded, and to a stream its display matrix alone."""
    names = {
        "Dolby Vision metadata of each frame": {SideDataType.DOVI_METADATA, SideDataType.DOVI_RPU_BUFFER},
        "HDR10+ metadata of each frame": {SideDataType.DYNAMIC_HDR_PLUS},
        "HDR Vivid metadata of each frame": {SideDataType.DYNAMIC_HDR_VIVID},
        "closed captions inside the video stream": {SideDataType.A53_CC},
        "the note that this is a 360° video": {SideDataType.SPHERICAL},
        "the note how the picture holds two views (3D)": {SideDataType.STEREO3D},
    }
    found = set(side)
    if not any(_numbers(side.get(SideDataType.STEREO3D), "<i") or ()):  # AVStereo3D begins with its kind: 0 is 2D
        found.discard(SideDataType.STEREO3D)
    return tuple(name for name, wanted in names.items() if found & wanted)


def _siting(container: InputContainer, index: int) -> Siting | None:
    """The chroma location tag. PyAV 18 has no attribute for it, but FFmpeg's dump of the format names it.

    The dump exists only while PyAV listens to FFmpeg's log. That is switched on for this one call alone: a decoder
    whose threads log while it is closed can deadlock as long as PyAV listens (PyAV #367).
    """
    with _log_lock:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        av.logging.set_libav_level(av.logging.VERBOSE)  # below, the dump leaves the location out
        try:
            dump = cast("Any", container).dumps_format()  # missing in PyAV's stubs
        finally:
            av.logging.set_libav_level(av.logging.INFO)  # FFmpeg's default; it cannot be asked
            av.logging.set_level(level)
    line = re.search(rf"Stream #0:{index}(?!\d).*?: Video: .*", dump)
    for group in re.findall(r"\(([^()]*)\)", line.group()) if line else ():
        for word in group.split(", "):
            if word in _SITINGS:
                return cast("Siting", word)
    return None
