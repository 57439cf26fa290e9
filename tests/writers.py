"""A ``Writer`` on an ``Output`` of its own, as a job without segments opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcan_video.media.encode import Writer
from rcan_video.media.output import Output
from rcan_video.options import EncodeOptions
from rcan_video.video import VideoInfo


def open_writer(path: Path | None, info: VideoInfo, scale: int, options: EncodeOptions, **output: Any) -> Writer:
    return Writer(Output(path, info, **output), scale, options)
