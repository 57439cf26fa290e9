"""What a caller can choose: one frozen dataclass per concern. A default is written here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

SCALES = (1, 2, 3, 4, 8)
"""Factors that networks are made for."""

Fit = Literal["720p", "1080p", "1440p", "4k", "8k"]
DEFAULT_SCALE = 2
"""Of bundled weights."""

LARGEST = 8
"""The most that a picture may be enlarged by."""

FITS: Mapping[Fit, tuple[int, int]] = {
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "4k": (3840, 2160),
    "8k": (7680, 4320),
}
"""Boxes (width, height) that a picture may be fitted into."""

OnCorrupt = Literal["skip", "fail"]
STREAM_FORMATS = ("nut", "matroska", "mp4", "mpegts", "yuv4mpegpipe")

Deinterlace = Literal["auto", "on", "off"]
FpsMode = Literal["passthrough", "cfr"]
Quality = Literal["draft", "balanced", "best"]
EngineName = Literal["auto", "torch", "openvino"]
HwAccel = Literal["none", "cuda"]
Precision = Literal["auto", "single", "half", "bf16"]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """``model`` is the name of bundled weights or the path of a checkpoint; ``scale``, 1 to 8, is how many times as
    large the picture becomes: by the network alone where it has such a factor, else reduced behind the next larger one.
    None means what ``SizeOptions`` say, or else the model's own (2 for a bundled name)."""

    model: str = "fast"
    scale: int | Fraction | None = None


@dataclass(frozen=True, slots=True)
class SizeOptions:
    """How large the picture becomes, in pixels, instead of ``ModelOptions.scale``; one of them at most. ``height``: so
    many lines, width in proportion; ``size``: (width, height), with the sample aspect ratio changed where that is
    another shape; ``fit``: as large as fits the box of that name."""

    height: int | None = None
    size: tuple[int, int] | None = None
    fit: Fit | None = None


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """``device`` as torch names it (``cpu``, ``cuda:1``, ``mps``), several of these with commas between them, ``all``
    accelerators, or ``auto``; ``batch`` None is measured on a GPU, else 1;
    ``threads`` None means all the cores this process may use; ``engine`` "auto" is the fastest that is
    installed for the device; ``compile`` sends the network through torch.compile, which makes the engine torch's.
    ``precision`` is that of the residual groups: float32, float16 or bfloat16 (the latter two are torch's); "auto" is
    half on NVIDIA's GPUs with tensor cores, else single. ``hwaccel`` "cuda" lets NVIDIA's hardware decode the input
    where it can and where its frames are those of software, bit for bit."""

    device: str = "auto"
    batch: int | None = None
    threads: int | None = None
    engine: EngineName = "auto"
    compile: bool = False
    precision: Precision = "auto"
    hwaccel: HwAccel = "none"


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """What is done to frames before the network. ``deinterlace``: those flagged as interlaced, all, or none.
    ``fps_mode``: frames keep their times, or come at a constant rate, which is ``fps`` (frames per second) or, where
    that is None, the source's."""

    deinterlace: Deinterlace = "auto"
    fps_mode: FpsMode = "passthrough"
    fps: Fraction | None = None


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """None everywhere means: follow the source and the container. ``options`` go to the encoder as they are.
    ``quality`` chooses ``crf`` and ``preset`` where these are None."""

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    quality: Quality = "balanced"


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
    ``start`` and ``duration`` are seconds; ``on_corrupt`` says whether damage in the input is stepped over or ends the
    job. ``work_dir`` is where the job's own folder lies, None beside the output; ``restart`` forgets what is done of
    the job; ``max_time`` is the number of seconds after which it stops, to go on another time;
    ``max_pixels`` bounds the input's picture. ``ray`` is the address of a Ray cluster for the segments,
    "auto" or "local"; None computes them here."""

    input: str
    output: str
    model: ModelOptions = ModelOptions()
    size: SizeOptions = SizeOptions()
    device: DeviceOptions = DeviceOptions()
    frames: FrameOptions = FrameOptions()
    encode: EncodeOptions = EncodeOptions()
    streams: StreamOptions = StreamOptions()
    format: str | None = None
    overwrite: bool = False
    start: Fraction | None = None
    duration: Fraction | None = None
    on_corrupt: OnCorrupt = "skip"
    work_dir: str | None = None
    restart: bool = False
    max_time: Fraction | None = None
    max_pixels: int = 1 << 27
    ray: str | None = None


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Several jobs. ``inputs`` are files, folders (with ``recursive`` also what lies deeper) and patterns;
    ``inputs_from`` is a file, or ``-``, that lists more, relative to its own folder. The output of each lies in
    ``out_dir``, where folders are repeated below it, and is called as its input, with ``suffix`` behind the stem."""

    inputs: tuple[str, ...]
    out_dir: str
    suffix: str = ""
    recursive: bool = False
    inputs_from: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a finished job did. ``skipped_packets`` and ``concealed_frames`` count the damage in the input's video,
    ``repeated`` and ``dropped`` the frames that a constant rate adds and leaves out, ``reused`` those that equal an
    earlier one and took its output instead of the network's work, ``kept`` those of the output that an earlier run had
    done."""

    output: Path | None  # None: standard output
    frames_in: int
    frames_out: int
    width: int
    height: int
    seconds: float
    stages: Mapping[str, float]  # seconds that each stage was busy
    repeated: int = 0
    dropped: int = 0
    reused: int = 0
    skipped_packets: int = 0
    concealed_frames: int = 0
    kept: int = 0
    damaged: bool = False  # whether anything of the input, the other streams included, was damaged
    notices: tuple[str, ...] = ()

    @property
    def fps(self) -> float:
        return (self.frames_out - self.kept) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """One evaluation. ``hr`` are the originals: pictures, videos and folders of them.

    ``lr`` is a folder (or a file) of small ones by the same names; None makes them by MATLAB's bicubic reduction.
    ``crf`` sends those through libx264 first, once for each value. ``results`` are folders or files of finished
    enlargements. ``models`` are names or paths as in ``ModelOptions``; empty means its default where there are no
    results, else none. ``scale`` None is that of the first model. ``self_ensemble`` gives each model a second column.
    ``frames`` None takes all frames of a video. Written where not None: ``csv``, ``json``, ``sheet`` (PNG).
    """

    hr: tuple[str, ...]
    lr: str | None = None
    results: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    scale: int | None = None
    self_ensemble: bool = False
    crf: tuple[float, ...] = ()
    frames: int | None = None
    device: str = "auto"
    threads: int | None = None
    csv: str | None = None
    json: str | None = None
    sheet: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """One report on what became of a video.

    ``report`` is the HTML file to write. ``reference`` is the video that ``output`` ought to look like, of its size.
    ``start`` (seconds of ``source``) is where the part begins that was upscaled; ``duration`` ends the comparison.
    ``deinterlace`` as the output was made. ``samples`` bounds the number of frames that are measured, spread evenly;
    ``stills`` that of the frames that are shown.
    """

    source: str
    output: str
    report: str
    reference: str | None = None
    start: Fraction | None = None
    duration: Fraction | None = None
    deinterlace: Deinterlace = FrameOptions().deinterlace
    samples: int = 200
    stills: int = 6
    overwrite: bool = False


Degradation = Literal["bicubic", "video"]
Equivariant = Literal[0, 4, 8]
Tail = Literal["short", "standard"]
TrainOptimizer = Literal["adam", "muon"]
TrainPrecision = Literal["auto", "single", "half", "bf16"]


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One training. ``data`` are pictures, videos and folders of them; ``output`` is the checkpoint.

    The structure (``groups``, ``blocks``, ``features``, ``reduction``) and ``tail`` are None for "as in ``init``", the
    checkpoint to start from, or several of one structure to start from the mean of; without any as in the bundled fast
    networks. ``patch`` is in pixels of the small picture, ``batch`` in patches of all processes together. The learning
    rate rises for ``warmup`` iterations, stays, and falls on a cosine over the last ``decay`` (a share) of all.
    The loss is the L1 distance, or with ``squared`` the mean squared error; ``fourier`` weighs the L1 distance of the
    spectra in it. What is logged is the L1 distance.
    ``filtered`` is the share of clean patches whose originals are behind a random filter. ``uniform`` takes patches
    from anywhere; otherwise those with more detail are preferred.
    ``teacher`` is a checkpoint whose pictures are aimed at as much as the originals.
    With the degradation "video", ``clean`` is the share of patches that is reduced alone, and ``sequences`` the number
    of short compressed clips; ``temporal`` weighs how much the error differs between two frames of one.
    ``equivariant`` ties kernels so that a picture in another of 4 (flips) or 8 positions (quarter turns as well) comes
    out in that position; 0 is off.
    ``factors`` trains kernels as sums of themselves and a product of factors; the optimizer "muon" takes plain ones.
    ``compile`` computes the groups through torch.compile.
    Intervals: ``log_every`` and ``validate_every`` in iterations, ``save_every`` in seconds. ``state`` None is a folder
    beside the output, ``cache`` None one in the user's cache folder.
    """

    data: tuple[str, ...]
    output: str
    scale: int = 2
    groups: int | None = None
    blocks: int | None = None
    features: int | None = None
    reduction: int | None = None
    unshuffle: bool = False
    tail: Tail | None = None
    equivariant: Equivariant = 0
    factors: bool = True
    init: tuple[str, ...] = ()
    teacher: str | None = None
    filtered: float = 0.0
    uniform: bool = False
    degradation: Degradation = "bicubic"
    clean: float = 0.3
    sequences: int = 2000
    iterations: int = 30_000
    batch: int = 16
    patch: int = 48
    optimizer: TrainOptimizer = "adam"
    learning_rate: float = 1e-3
    warmup: int = 300
    decay: float = 0.4
    squared: bool = False
    fourier: float = 0.05
    temporal: float = 0.0
    seed: int = 1
    valid: str | None = None
    device: str = "auto"
    threads: int | None = None
    precision: TrainPrecision = "auto"
    compile: bool = False
    state: str | None = None
    cache: str | None = None
    log_every: int = 100
    validate_every: int = 1000
    save_every: float = 60.0
    overwrite: bool = False
