"""``rcan-video-bench CLIP``: each stage alone, every engine, then the whole process, on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, get_args

import click

from rcan_video.commands.asked import help_and_version
from rcan_video.commands.saying import print_result
from rcan_video.commands.shell import run_command
from rcan_video.options import EngineName, ModelOptions, Precision

if TYPE_CHECKING:
    from rcan_video.commands.measure import EngineFigures, Figures

_DEFAULT_MODEL = ModelOptions()


@click.command(context_settings={"max_content_width": 80})
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
@click.option("-d", "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps or xpu.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(get_args(Precision)[1:]),
    multiple=True,
    help="Of torch's residual groups; may be repeated.  [default: single, and half on other devices than the CPU]",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads of the network.  [default: all cores]")
@click.option("--preset", default="ultrafast", show_default=True, help="Preset of the encoder.")
@click.option("--ray", metavar="ADDRESS", help="Measure a Ray cluster against one worker instead (auto, local).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@help_and_version("rcan-video-bench")
def command(
    clip: str,
    scale: int,
    model: str,
    frames: int,
    runs: int,
    engines: tuple[EngineName, ...],
    device: str,
    precisions: tuple[Precision, ...],
    threads: int | None,
    preset: str,
    ray: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Measure rcan-video on CLIP: decoding, colour, encoding, and for every engine and
    precision the bare network and the whole command as a process of its own, start-up
    included.

    Bare is an engine alone in a loop on the same frames with the same threads. Every
    run times all engines both ways, one after the other.
    """
    if ray is not None:
        from rcan_video.commands.scaling import measure_scaling, scaling_table

        if engines or precisions or device != "auto":
            raise click.UsageError("--engine, --device and --precision measure this machine: leave them out with --ray")
        found = measure_scaling(ray, clip, scale, model, frames, runs, threads, preset)
        print_result(json.dumps(asdict(found)) if as_json else scaling_table(found))
        return
    from rcan_video.commands.measure import measure

    figures = measure(clip, scale, model, frames, runs, device, engines, precisions, threads, preset)
    print_result(json.dumps(asdict(figures)) if as_json else table(figures))


def table(figures: Figures) -> str:
    """The figures for people; pastes into Markdown."""
    head = (
        f"{figures.clip}, {figures.size}, {figures.frames} frames, {figures.model} x{figures.scale}, "
        f"{figures.device}, {figures.threads} threads, preset {figures.preset}, median of {figures.runs} runs"
    )
    best = max(figures.engines, key=lambda e: e.bare)
    alone = 1 / figures.decode + 1 / best.bare + 1 / figures.encode

    def row(name: str, fps: float) -> str:
        return f"| {name} | {fps:.2f} | {1 / fps / alone:.1%} |"

    lines = [head, "", "| stage | frames/s | share of a frame's time |", "|---|---|---|"]
    lines += [row("decode", figures.decode), row(f"network ({_name(best)})", best.bare)]
    lines += [row("of it colour in and out, in torch", figures.colour), row("encode", figures.encode)]
    lines += ["", "| engine | bare, frames/s | of the peak | whole process | / bare | after the first frame | / bare |"]
    lines[-1] += " one frame, s | with its cache | peak memory, MB |"
    lines.append("|" + "---|" * 10)
    lines += map(_row, figures.engines)
    found = {e.precision: e.peak_gflops for e in figures.engines}
    peaks = ", ".join(f"{peak:.0f} in {precision} precision" for precision, peak in found.items())
    lines += ["", f"peak: {peaks}, in GFLOP/s of a matrix product of {figures.matrix}x{figures.matrix}; "]
    return "\n".join(lines) + f"the convolutions of one frame take {figures.frame_gflop:.2f} GFLOP"


def _name(figures: EngineFigures) -> str:
    return figures.engine if figures.precision == "single" else f"{figures.engine}, {figures.precision}"


def _row(e: EngineFigures) -> str:
    memory = "-" if e.memory is None else f"{e.memory:.0f}"
    steady = "-" if e.steady is None else f"{e.steady:.2f}"
    ratio = "-" if e.steady_to_bare is None else f"{e.steady_to_bare:.3f}"
    return (
        f"| {_name(e)} | {e.bare:.2f} | {e.peak_share:.0%} | {e.whole:.2f} | {e.whole_to_bare:.3f} | {steady} | "
        f"{ratio} | {e.first:.2f} | {e.first_cached:.2f} | {memory} |"
    )


def main() -> None:
    run_command(command, "rcan-video-bench")
