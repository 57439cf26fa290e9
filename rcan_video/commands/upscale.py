"""``rcan-video INPUT OUTPUT``: the main job."""

from __future__ import annotations

from fractions import Fraction
from typing import get_args

import click

from rcan_video.commands.look import dry_run_option, json_option, preview_option, say_dry_run, write_preview
from rcan_video.commands.params import Rate, Seconds, Span
from rcan_video.commands.shell import progress_for_terminal, run_command
from rcan_video.errors import InputError
from rcan_video.options import (
    SCALES,
    STREAM_FORMATS,
    Deinterlace,
    DeviceOptions,
    EncodeOptions,
    EngineName,
    FpsMode,
    FrameOptions,
    ModelOptions,
    OnCorrupt,
    Options,
    StreamOptions,
)
from rcan_video.version import __version__

_EPILOG = """
Exit codes: 0 all well, 1 a bug, 2 wrong usage, 3 input (where the output is there all the same: its
damaged parts were stepped over), 4 output, 5 weights, 6 device or memory, 7 the output failed its check,
130 interrupted.
"""


_DEFAULT = Options(input="", output="")


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, equals, setting = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE", ctx, param)
        pairs[key] = setting
    return pairs


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.argument("input", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.option(
    "-s",
    "--scale",
    type=click.Choice([str(s) for s in SCALES]),
    help="Enlargement.  [default: 2, or what the checkpoint is made for]",
)
@click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    default=_DEFAULT.model.model,
    show_default=True,
    help="Bundled weights, or any RCAN checkpoint.",
)
@click.option(
    "-d",
    "--device",
    metavar="DEVICE",
    default=_DEFAULT.device.device,
    show_default=True,
    help="auto, cpu, cuda, cuda:1, mps or xpu.",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default=_DEFAULT.device.engine,
    show_default=True,
    help="What computes: auto is torch on a GPU, else OpenVINO if installed.",
)
@click.option("--batch", type=click.IntRange(1, 256), help="Frames per batch.  [default: by size and memory]")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads of the network.  [default: all cores]")
@click.option("--compile", is_flag=True, help="Send the network through torch.compile: minutes before the first frame.")
@click.option(
    "--deinterlace",
    type=click.Choice(get_args(Deinterlace)),
    default=_DEFAULT.frames.deinterlace,
    show_default=True,
    help="Turn fields into frames: where flagged, all, or none.",
)
@click.option(
    "--fps-mode",
    type=click.Choice(get_args(FpsMode)),
    default=_DEFAULT.frames.fps_mode,
    show_default=True,
    help="Frames at their own times, or at a constant rate, repeated or dropped where need be.",
)
@click.option("--fps", type=Rate(), metavar="RATE", help="Rate of --fps-mode cfr, as 30000/1001.  [default: input's]")
@click.option("--codec", metavar="ENCODER", help="Video encoder, by FFmpeg's name.  [default: by container and depth]")
@click.option("--crf", type=click.FloatRange(0), help="Constant quality of the encoder; lower is better.")
@click.option("--preset", metavar="NAME", help="Speed preset of the encoder.")
@click.option("--pix-fmt", metavar="FORMAT", help="Pixel format of the output.  [default: the input's]")
@click.option(
    "--encoder-opt",
    "encoder_options",
    metavar="K=V",
    multiple=True,
    callback=_pairs,
    help="Any option of the encoder; may be repeated.",
)
@click.option("--audio-codec", metavar="ENCODER", help="Re-encode audio, for example aac.  [default: copy]")
@click.option("--audio-bitrate", type=click.IntRange(1), metavar="BITS", help="Bits per second of re-encoded audio.")
@click.option("--no-audio", is_flag=True, help="Leave all audio out.")
@click.option("--no-subs", is_flag=True, help="Leave all subtitles out.")
@click.option("--strict", is_flag=True, help="Fail, before the first frame, if anything cannot be kept.")
@click.option(
    "--format",
    type=click.Choice(STREAM_FORMATS),
    help="Container of standard output ('-').",
)
@click.option("--start", type=Seconds(), metavar="TIME", help="Begin here (seconds or h:mm:ss).")
@click.option("--duration", type=Seconds(), metavar="TIME", help="Do only this much.")
@click.option(
    "--on-corrupt",
    type=click.Choice(get_args(OnCorrupt)),
    default=_DEFAULT.on_corrupt,
    show_default=True,
    help="Damaged input: go on with what can be decoded (exit 3 at the end), or fail.",
)
@click.option(
    "--work-dir", metavar="DIR", help="Where unfinished work is kept.  [default: beside the output, as OUTPUT.rcan]"
)
@click.option("--restart", is_flag=True, help="Begin again, whatever an interrupted run has done.")
@click.option("--max-time", type=Span(), metavar="TIME", help="Stop after this long (90m, 8h); run again to go on.")
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=_DEFAULT.max_pixels,
    show_default=True,
    help="Refuse larger pictures.",
)
@preview_option
@dry_run_option
@json_option
@click.option("-y", "--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors alone.")
@click.option("-v", "--verbose", is_flag=True, help="Also print what was found and chosen.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="rcan-video", message="%(prog)s %(version)s")
def command(
    input: str,
    output: str,
    scale: str | None,
    model: str,
    device: str,
    engine: EngineName,
    batch: int | None,
    threads: int | None,
    compile: bool,
    deinterlace: Deinterlace,
    fps_mode: FpsMode,
    fps: Fraction | None,
    codec: str | None,
    crf: float | None,
    preset: str | None,
    pix_fmt: str | None,
    encoder_options: dict[str, str],
    audio_codec: str | None,
    audio_bitrate: int | None,
    no_audio: bool,
    no_subs: bool,
    strict: bool,
    format: str | None,
    start: Fraction | None,
    duration: Fraction | None,
    on_corrupt: OnCorrupt,
    work_dir: str | None,
    restart: bool,
    max_time: Fraction | None,
    max_pixels: int,
    preview: Fraction | str | None,
    dry_run: bool,
    as_json: bool,
    overwrite: bool,
    quiet: bool,
    verbose: bool,
    debug: bool,
) -> None:
    """Upscale the video INPUT into OUTPUT with RCAN, frame by frame.

    Everything but the picture's size stays as it was. Either may be '-': standard
    input, or standard output in the container that --format names. A run that was
    interrupted, however it was, goes on where it stopped when it is run again.
    """
    from rcan_video.job import upscale

    options = Options(
        input=input,
        output=output,
        model=ModelOptions(model, int(scale) if scale else None),
        device=DeviceOptions(device, batch, threads, engine, compile),
        frames=FrameOptions(deinterlace, fps_mode, fps),
        encode=EncodeOptions(codec, crf, preset, pix_fmt, encoder_options),
        streams=StreamOptions(not no_audio, not no_subs, audio_codec, audio_bitrate, strict),
        format=format,
        overwrite=overwrite,
        start=start,
        duration=duration,
        on_corrupt=on_corrupt,
        work_dir=work_dir,
        restart=restart,
        max_time=max_time,
        max_pixels=max_pixels,
    )
    if as_json and not dry_run:
        raise click.UsageError("--json is for --dry-run: give that too, or leave it out")
    if dry_run and preview is not None:
        raise click.UsageError("--dry-run and --preview are two questions: ask one at a time")
    if dry_run:
        say_dry_run(options, as_json=as_json, quiet=quiet)
        return
    progress = progress_for_terminal(quiet=quiet, verbose=verbose)
    if preview is not None:
        write_preview(options, preview, progress)
        return
    report = upscale(options, progress)
    if report.damaged:
        source = "standard input" if input == "-" else input
        raise InputError(
            f"{source} is damaged: {report.output or 'the output'} is whole but for what could not be read"
        )


def main() -> None:
    run_command(command, "rcan-video")
