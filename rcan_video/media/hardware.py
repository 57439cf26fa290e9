"""Encoders in hardware: the chosen one where it opens, else the software encoder of the same format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import av
from av.codec.codec import UnknownCodecError

from rcan_video.errors import OutputError
from rcan_video.media.codecs import VideoTarget, plan_video
from rcan_video.media.encoder_options import takes_crf
from rcan_video.media.files import reason
from rcan_video.options import EncodeOptions
from rcan_video.size import Size
from rcan_video.video import VideoInfo

_KINDS = frozenset({"nvenc", "qsv", "amf", "vaapi", "videotoolbox", "mf", "v4l2m2m", "vulkan", "omx"})

# The prefix of a hardware encoder's name, and who writes the same format without hardware.
_SOFTWARE: Mapping[str, str] = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "mpeg2": "mpeg2video",
    "mpeg4": "mpeg4",
    "prores": "prores_ks",
}


def plan_for_this_machine(
    info: VideoInfo, scale: int, container: str, options: EncodeOptions, wanted: Size | None = None
) -> VideoTarget:
    """``plan_video``, for an encoder that opens here: whether hardware does is known only once it was tried.

    Preset, pixel format and options were chosen for the hardware encoder, so they do not go to the other one; a
    constant quality does, whose scale is alike. Raises OutputError and UsageError as ``plan_video``.
    """
    name = options.codec or ""
    family, _, kind = name.rpartition("_")
    if kind not in _KINDS or family not in _SOFTWARE:
        return plan_video(info, scale, container, options, wanted)
    software = _SOFTWARE[family]
    try:
        av.Codec(name, "w")
        _try(plan_video(info, scale, container, EncodeOptions(codec=name), wanted), info)
    except UnknownCodecError:
        why = "this FFmpeg was built without it"
    except (OutputError, av.FFmpegError, ValueError) as error:
        why = f"it does not open on this machine: {reason(error)}"
    else:
        return plan_video(info, scale, container, options, wanted)
    crf = options.crf if takes_crf(software) else None
    target = plan_video(info, scale, container, EncodeOptions(codec=software, crf=crf, quality=options.quality), wanted)
    given = {"--preset": options.preset, "--pix-fmt": options.pix_fmt, "--encoder-opt": options.options}
    unused = ", ".join(option for option, value in given.items() if value)
    also = f", without {unused}" if unused else ""
    return replace(target, notices=(f"{software} encodes instead of {name}{also}: {why}", *target.notices))


def _try(target: VideoTarget, info: VideoInfo) -> None:
    """Open and close the encoder at the real size. Raises what FFmpeg says."""
    context = av.CodecContext.create(target.codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = target.width, target.height, target.pix_fmt
    context.time_base, context.framerate = 1 / info.rate, info.rate
    context.options = dict(target.options)
    context.open()
