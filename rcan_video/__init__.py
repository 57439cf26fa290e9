"""rcan-video: the same video, only larger.

    from rcan_video import Options, upscale
    report = upscale(Options(input="in.mp4", output="out.mp4"))

Names are loaded when they are first used, so that ``import rcan_video`` (and ``rcan-video --help``) costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rcan_video.version import __version__

if TYPE_CHECKING:
    from rcan_video.errors import RcanVideoError
    from rcan_video.job import upscale
    from rcan_video.media.decode import probe
    from rcan_video.network.catalog import load_model
    from rcan_video.options import (
        DeviceOptions,
        EncodeOptions,
        FrameOptions,
        ModelOptions,
        Options,
        Report,
        SizeOptions,
        StreamOptions,
    )
    from rcan_video.video import VideoInfo

__all__ = [
    "DeviceOptions",
    "EncodeOptions",
    "FrameOptions",
    "ModelOptions",
    "Options",
    "RcanVideoError",
    "Report",
    "SizeOptions",
    "StreamOptions",
    "VideoInfo",
    "__version__",
    "load_model",
    "probe",
    "upscale",
]

_HOME = {
    "DeviceOptions": "rcan_video.options",
    "EncodeOptions": "rcan_video.options",
    "FrameOptions": "rcan_video.options",
    "ModelOptions": "rcan_video.options",
    "Options": "rcan_video.options",
    "RcanVideoError": "rcan_video.errors",
    "Report": "rcan_video.options",
    "SizeOptions": "rcan_video.options",
    "StreamOptions": "rcan_video.options",
    "VideoInfo": "rcan_video.video",
    "load_model": "rcan_video.network.catalog",
    "probe": "rcan_video.media.decode",
    "upscale": "rcan_video.job",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
