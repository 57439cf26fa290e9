"""What a caller can choose: one frozen dataclass per concern. A default is written here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

SCALES = (1, 2, 3, 4, 8)
ENGINES = ("auto", "torch", "openvino")
STREAM_FORMATS = ("nut", "matroska", "yuv4mpegpipe", "mpegts")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """``model`` is the name of bundled weights or the path of a checkpoint; ``scale`` None means the model's own
    (2 for a bundled name)."""

    model: str = "fast"
    scale: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """``device`` as torch names it (``cpu``, ``cuda:1``, ``mps``) or ``auto``; ``batch`` None lets the engine choose;
    ``threads`` None means all the cores this process may use; ``engine`` is one of ``ENGINES``."""

    device: str = "auto"
    batch: int | None = None
    threads: int | None = None
    engine: str = "auto"


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """None everywhere means: follow the source and the container. ``options`` go to the encoder as they are."""

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What is carried beside the video. ``audio_codec`` None or "copy": bit for bit; ``audio_bitrate`` in bits/s;
    ``strict`` makes an error of everything that cannot be kept as it is."""

    audio: bool = True
    subtitles: bool = True
    audio_codec: str | None = None
    audio_bitrate: int | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """One job. ``input`` and ``output`` are paths or ``-``; ``format`` names the container of standard
    output (that of standard input is recognised);
    ``start`` and ``duration`` are seconds."""

    input: str
    output: str
    model: ModelOptions = ModelOptions()
    device: DeviceOptions = DeviceOptions()
    encode: EncodeOptions = EncodeOptions()
    streams: StreamOptions = StreamOptions()
    format: str | None = None
    overwrite: bool = False
    start: Fraction | None = None
    duration: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a finished job did."""

    output: Path | None  # None: standard output
    frames_in: int
    frames_out: int
    width: int
    height: int
    seconds: float
    stages: Mapping[str, float]  # seconds that each stage was busy
    skipped_packets: int = 0
    notices: tuple[str, ...] = ()

    @property
    def fps(self) -> float:
        return self.frames_out / self.seconds if self.seconds else 0.0
