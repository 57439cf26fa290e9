"""``rcan-video-bench CLIP``: each stage alone, every engine, then the whole process, on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, get_args

import click

from rcan_video.commands.shell import run_command
from rcan_video.options import EngineName, ModelOptions
from rcan_video.version import __version__

if TYPE_CHECKING:
    from rcan_video.commands.measure import Figures

_DEFAULT_MODEL = ModelOptions()


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.argument("clip", metavar="CLIP")
@click.option("-s", "--scale", type=click.IntRange(1, 8), default=2, show_default=True, help="Enlargement.")
@click.option("-m", "--model", default=_DEFAULT_MODEL.model, show_default=True, help="Bundled weights or a path.")
@click.option("-n", "--frames", type=click.IntRange(2), default=60, show_default=True, help="Frames to use.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Interleaved runs.")
@click.option(
    "--engine",
    "engines",
    type=click.Choice(get_args(EngineName)[1:]),
    multiple=True,
    help="Engine to measure; may be repeated.  [default: all that are installed]",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads of the network.  [default: all cores]")
@click.option("--preset", default="ultrafast", show_default=True, help="Preset of the encoder.")
@click.option("--ray", metavar="ADDRESS", help="Measure a Ray cluster against one worker instead (auto, local).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="rcan-video-bench", message="%(prog)s %(version)s")
def command(
    clip: str,
    scale: int,
    model: str,
    frames: int,
    runs: int,
    engines: tuple[EngineName, ...],
    threads: int | None,
    preset: str,
    ray: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Measure rcan-video on CLIP on the CPU: decoding, colour, encoding, and for every
    engine the bare network and the whole command as a process of its own, start-up
    included.

    Bare is an engine alone in a loop on the same frames with the same threads. Every
    run times all engines both ways, one after the other.
    """
    if ray is not None:
        from rcan_video.commands.scaling import measure_scaling, scaling_table

        if engines:
            raise click.UsageError("--engine is for measuring this machine: leave it out with --ray")
        found = measure_scaling(ray, clip, scale, model, frames, runs, threads, preset)
        click.echo(json.dumps(asdict(found)) if as_json else scaling_table(found))
        return
    from rcan_video.commands.measure import measure

    figures = measure(clip, scale, model, frames, runs, engines, threads, preset)
    click.echo(json.dumps(asdict(figures)) if as_json else table(figures))


def table(figures: Figures) -> str:
    """The figures for people; pastes into Markdown."""
    from rcan_video.commands.stages import MATMUL

    head = (
        f"{figures.clip}, {figures.size}, {figures.frames} frames, {figures.model} x{figures.scale}, "
        f"{figures.device}, {figures.threads} threads, preset {figures.preset}, median of {figures.runs} runs"
    )
    lines = [head, "", "| stage | frames/s |", "|---|---|"]
    stages = (("decode", figures.decode), ("colour in and out", figures.colour), ("encode", figures.encode))
    lines += [f"| {name} | {fps:.2f} |" for name, fps in stages]
    lines += ["", "| engine | bare, frames/s | of the peak | whole process | / bare | after the first frame | / bare |"]
    lines[-1] += " one frame, s | with its cache |"
    lines.append("|" + "---|" * 9)
    lines += [
        f"| {e.engine} | {e.bare:.2f} | {e.peak_share:.0%} | {e.whole:.2f} | {e.whole_to_bare:.3f} | {e.steady:.2f} | "
        f"{e.steady_to_bare:.3f} | {e.first:.2f} | {e.first_cached:.2f} |"
        for e in figures.engines
    ]
    peak = f"peak: {figures.peak_gflops:.0f} GFLOP/s in a float32 matrix product of {MATMUL}x{MATMUL}"
    return "\n".join([*lines, "", f"{peak}; the convolutions of one frame take {figures.frame_gflop:.2f} GFLOP"])


def main() -> None:
    run_command(command, "rcan-video-bench")
