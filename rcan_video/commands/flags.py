"""The options of ``rcan-video``, section by section, and the values that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import click

from rcan_video.commands import config, lists
from rcan_video.commands.asked import printed
from rcan_video.commands.completion import SHELLS, print_completion
from rcan_video.commands.display import ProgressName
from rcan_video.commands.look import PreviewTime
from rcan_video.commands.params import Choice, ModelName, PathName, Rate, Scale, Seconds, Size, Span, Word, pairs
from rcan_video.commands.sections import options_of
from rcan_video.options import (
    STREAM_FORMATS,
    Deinterlace,
    DeviceOptions,
    EncodeOptions,
    EngineName,
    Fit,
    FpsMode,
    FrameOptions,
    HwAccel,
    ModelOptions,
    OnCorrupt,
    Options,
    Precision,
    Quality,
    SizeOptions,
    StreamOptions,
)

DEFAULT = Options(input="", output="")

_picture = options_of("Picture")
_engine = options_of("Where it is computed")
_encoder = options_of("How it is encoded")
_streams = options_of("What else travels")
_job = options_of("The job")
_batch = options_of("Several inputs")
_standing = options_of("What there is, and standing choices")
_said = options_of("What is said")

PICTURE = (
    _picture(
        "-s",
        "--scale",
        type=Scale(),
        metavar="N",
        help="Enlargement, any number from 1 to 8.  [default: 2, or what the checkpoint is made for]",
    ),
    _picture("--height", type=click.IntRange(1), metavar="LINES", help="Or: so many lines."),
    _picture("--size", type=Size(), metavar="WxH", help="Or: this size; the shape on display stays."),
    _picture("--fit", type=Choice(get_args(Fit)), help="Or: as large as fits this format."),
    _picture(
        "-m",
        "--model",
        type=ModelName(),
        metavar="NAME|PATH",
        default=DEFAULT.model.model,
        show_default=True,
        help="Bundled weights, or any RCAN checkpoint.",
    ),
    _picture(
        "--deinterlace",
        type=Choice(get_args(Deinterlace)),
        default=DEFAULT.frames.deinterlace,
        show_default=True,
        help="Turn fields into frames: where flagged, all, or none.",
    ),
    _picture(
        "--fps-mode",
        type=Choice(get_args(FpsMode)),
        default=DEFAULT.frames.fps_mode,
        show_default=True,
        help="Frames at their own times, or at a constant rate, repeated or dropped where need be.",
    ),
    _picture("--fps", type=Rate(), metavar="RATE", help="Rate of --fps-mode cfr, as 30000/1001.  [default: input's]"),
    _picture("--start", type=Seconds(), metavar="TIME", standing=False, help="Begin here (seconds or h:mm:ss)."),
    _picture("--duration", type=Seconds(), metavar="TIME", standing=False, help="Do only this much."),
    _picture(
        "--max-pixels",
        type=click.IntRange(1),
        default=DEFAULT.max_pixels,
        show_default=True,
        help="Refuse larger pictures.",
    ),
)
ENGINE = (
    _engine(
        "-d",
        "--device",
        type=Word(("auto", "all", "cpu", "cuda", "cuda:0", "cuda:1", "mps", "xpu")),
        metavar="DEVICE",
        default=DEFAULT.device.device,
        show_default=True,
        help="auto, cpu, cuda, cuda:1, mps, xpu; several as cuda:0,cuda:1, or all.",
    ),
    _engine(
        "--engine",
        type=Choice(get_args(EngineName)),
        default=DEFAULT.device.engine,
        show_default=True,
        help="What computes: auto is torch on a GPU, else OpenVINO if installed.",
    ),
    _engine("--batch", type=click.IntRange(1, 256), help="Frames per batch.  [default: measured on a GPU, else 1]"),
    _engine("--threads", type=click.IntRange(1, 1024), help="CPU threads of the network.  [default: all cores]"),
    _engine(
        "--precision",
        type=Choice(get_args(Precision)),
        default=DEFAULT.device.precision,
        show_default=True,
        help="Arithmetic of the network's body: auto is half on NVIDIA's tensor cores, else single.",
    ),
    _engine("--compile", is_flag=True, help="Use torch.compile: minutes before the first frame."),
    _engine(
        "--hwaccel",
        type=Choice(get_args(HwAccel)),
        default=DEFAULT.device.hwaccel,
        show_default=True,
        help="Decode on a GPU, where that gives the same frames; else in software.",
    ),
    _engine(
        "--ray",
        metavar="ADDRESS",
        default="none",
        show_default=True,
        help="Compute on a Ray cluster: auto, local, or its address.",
    ),
)
ENCODER = (
    _encoder(
        "--quality",
        type=Choice(get_args(Quality)),
        default=DEFAULT.encode.quality,
        show_default=True,
        help="Crf and preset that suit the encoder: quick and small, or slow and good.",
    ),
    _encoder("--codec", metavar="ENCODER", help="Video encoder, by FFmpeg's name.  [default: by container and depth]"),
    _encoder("--crf", type=click.FloatRange(0), help="Constant quality of the encoder; lower is better."),
    _encoder("--preset", metavar="NAME", help="Speed preset of the encoder."),
    _encoder("--pix-fmt", metavar="FORMAT", help="Pixel format of the output.  [default: the input's]"),
    _encoder(
        "--encoder-opt",
        metavar="K=V",
        multiple=True,
        callback=pairs,
        help="Any option of the encoder; may be repeated.",
    ),
    _encoder("--format", type=Choice(STREAM_FORMATS), help="Container of standard output ('-')."),
)
STREAMS = (
    _streams("--audio-codec", metavar="ENCODER", help="Re-encode audio, for example aac.  [default: copy]"),
    _streams("--audio-bitrate", type=click.IntRange(1), metavar="BITS", help="Bits per second of re-encoded audio."),
    _streams("--no-audio", is_flag=True, help="Leave all audio out."),
    _streams("--no-subs", is_flag=True, help="Leave all subtitles out."),
    _streams("--strict", is_flag=True, help="Fail, before the first frame, if anything cannot be kept."),
)
JOB = (
    _job("-y", "--overwrite", is_flag=True, help="Replace an existing output."),
    _job(
        "--on-corrupt",
        type=Choice(get_args(OnCorrupt)),
        default=DEFAULT.on_corrupt,
        show_default=True,
        help="Damaged input: go on with what can be decoded (exit 3 at the end), or fail.",
    ),
    _job(
        "--work-dir",
        type=PathName("dir"),
        metavar="DIR",
        help="Where unfinished work is kept.  [default: beside the output, as OUTPUT.rcan]",
    ),
    _job("--restart", is_flag=True, standing=False, help="Begin again, whatever an interrupted run has done."),
    _job(
        "--preview",
        type=PreviewTime(),
        metavar="[TIME]",
        is_flag=False,
        flag_value="auto",
        standing=False,
        help="Write a picture into OUTPUT (.png) instead: this frame, or three, by bicubic, Lanczos and RCAN.",
    ),
    _job(
        "--dry-run",
        is_flag=True,
        standing=False,
        help="Say what would be done, and what time, disk and memory it takes; write nothing.",
    ),
    _job("--json", "as_json", is_flag=True, standing=False, help="With --dry-run: as one JSON object."),
    _job("--max-time", type=Span(), metavar="TIME", help="Stop after this long (90m, 8h); run again to go on."),
)
BATCH = (
    _batch(
        "-o",
        "--out-dir",
        type=PathName("dir"),
        metavar="DIR",
        standing=False,
        help="Upscale every INPUT (files, folders, patterns) into DIR.",
    ),
    _batch(
        "--suffix",
        metavar="TEXT",
        default="",
        help="Add it to the names, as _x2; with an ending, as _x2.mkv, it names the container too.",
    ),
    _batch("-r", "--recursive", is_flag=True, help="Also take what lies deeper in folders, and repeat these."),
    _batch(
        "--inputs-from",
        type=PathName(),
        metavar="FILE",
        standing=False,
        help="Take more inputs from a list or playlist, or from '-'.",
    ),
)
SAID = (
    _said(
        "--progress",
        type=Choice(get_args(ProgressName)),
        default="auto",
        show_default=True,
        help="How: auto is rich (a live bar) on a terminal, else plain lines; json is for programs (docs/progress.md).",
    ),
    _said(
        "--progress-fd",
        type=click.IntRange(2),
        metavar="N",
        default=2,
        show_default=True,
        help="Say it to this open file descriptor.",
    ),
    _said("--log", type=PathName(), metavar="FILE", help="Also add it, with times and details, to a file."),
    _said("-q", "--quiet", is_flag=True, help="The same as --progress none: errors alone."),
    _said("-v", "--verbose", is_flag=True, help="Also what was found and chosen."),
    _said("--debug", is_flag=True, standing=False, help="Show tracebacks."),
)
STANDING = (
    _standing(
        "--config",
        type=PathName(),
        metavar="FILE",
        in_config=False,
        is_eager=True,
        expose_value=False,
        callback=config.standing,
        help="Take defaults from FILE.  [default: rcan-video.toml here, then in the user's configuration folder]",
    ),
    *(
        _standing(
            name,
            is_flag=True,
            standing=False,
            is_eager=True,
            expose_value=False,
            callback=printed(make),
            help=text,
        )
        for name, make, text in (
            ("--list-models", lists.models, "Print the bundled weights, and exit."),
            ("--list-devices", lists.devices, "Print the devices of this machine, and exit."),
            ("--list-codecs", lists.codecs, "Print the video encoders, and exit."),
        )
    ),
    _standing(
        "--completion",
        type=Choice(SHELLS),
        standing=False,
        is_eager=True,
        expose_value=False,
        callback=print_completion,
        help="Print a script that completes options in this shell, and exit.",
    ),
)

ALL = (PICTURE, ENGINE, ENCODER, STREAMS, JOB, BATCH, SAID, STANDING)


def with_options(*groups: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...]) -> Callable[..., Any]:
    """A decorator that gives a function the options of all ``groups``, in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return decorate


def options_from(given: Mapping[str, Any], input: str, output: str) -> Options:
    """The job that the values of the options, by name, make of one input and output."""
    given = {**given, "ray": None if given["ray"] == "none" else given["ray"]}
    return Options(
        input=input,
        output=output,
        model=ModelOptions(given["model"], given["scale"]),
        size=SizeOptions(given["height"], given["size"], given["fit"]),
        device=DeviceOptions(**{name: given[name] for name in _OF_DEVICE}),
        frames=FrameOptions(given["deinterlace"], given["fps_mode"], given["fps"]),
        encode=EncodeOptions(
            given["codec"], given["crf"], given["preset"], given["pix_fmt"], given["encoder_opt"], given["quality"]
        ),
        streams=StreamOptions(
            not given["no_audio"], not given["no_subs"], given["audio_codec"], given["audio_bitrate"], given["strict"]
        ),
        **{name: given[name] for name in _BY_NAME},
    )


_OF_DEVICE = ("device", "batch", "threads", "engine", "compile", "precision", "hwaccel")
# Fields of Options that options give as they are.
_BY_NAME = (
    "format",
    "overwrite",
    "start",
    "duration",
    "on_corrupt",
    "work_dir",
    "restart",
    "max_time",
    "max_pixels",
    "ray",
)
