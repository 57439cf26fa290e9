"""``rcan-video-bench CLIP``: each stage alone, then the whole process, on this machine."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rcan_video.commands.shell import run_command
from rcan_video.errors import RcanVideoError
from rcan_video.options import EncodeOptions, ModelOptions
from rcan_video.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from rcan_video.frames import Frame, VideoInfo

_DEFAULT_MODEL = ModelOptions()


@dataclass(frozen=True, slots=True)
class Figures:
    """Frames per second: medians of the runs. ``whole_to_bare`` is the median of the ratios run by run."""

    clip: str
    size: str
    frames: int
    model: str
    scale: int
    device: str
    threads: int
    runs: int
    preset: str
    decode: float
    colour: float
    network: float
    encode: float
    whole: float
    whole_to_bare: float


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.argument("clip", metavar="CLIP")
@click.option("-s", "--scale", type=click.IntRange(1, 8), default=2, show_default=True, help="Enlargement.")
@click.option("-m", "--model", default=_DEFAULT_MODEL.model, show_default=True, help="Bundled weights or a path.")
@click.option("-n", "--frames", type=click.IntRange(1), default=60, show_default=True, help="Frames to use.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Interleaved runs.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads of the network.  [default: all cores]")
@click.option("--preset", default="ultrafast", show_default=True, help="Preset of the encoder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="rcan-video-bench", message="%(prog)s %(version)s")
def command(
    clip: str,
    scale: int,
    model: str,
    frames: int,
    runs: int,
    threads: int | None,
    preset: str,
    as_json: bool,
    debug: bool,
) -> None:
    """Measure rcan-video on CLIP on the CPU: decoding, colour, network, encoding, and
    the whole command as a process of its own, start-up included.

    The network alone is timed in a bare loop on the same frames with the same
    threads, and every run times both, one after the other.
    """
    figures = measure(clip, scale, model, frames, runs, threads, preset)
    click.echo(json.dumps(asdict(figures)) if as_json else table(figures))


def measure(clip: str, scale: int, model: str, frames: int, runs: int, threads: int | None, preset: str) -> Figures:
    """Run the benchmark. Raises RcanVideoError as the main job does."""
    import torch

    from rcan_video.color import PlanesToRgb, RgbToPlanes
    from rcan_video.engine.memory import keep_freed_memory
    from rcan_video.network.catalog import load_model
    from rcan_video.network.fold import FoldedRCAN

    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()  # as the engine does it: the bare loop gets all that the whole process has
    network = FoldedRCAN(load_model(model, scale).net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    info, decoded, decode_seconds = _decode(clip, frames)
    to_rgb = PlanesToRgb(info.layout, info.color, info.width, info.height)
    to_planes = RgbToPlanes(info.layout, info.color, info.width * scale, info.height * scale)

    bare, whole = [], []
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        stored = [tuple(plane.unsqueeze(0) for plane in frame.planes) for frame in decoded]
        pictures = [to_rgb(*planes).contiguous(memory_format=torch.channels_last) for planes in stored]
        large: Tensor = network(pictures[0])  # also the warm-up
        line = _command_line(clip, info, len(decoded), scale, model, threads, preset)
        for run in range(runs):
            bare.append(_timed(lambda: deque(map(network, pictures), maxlen=0)))
            whole.append(_timed(partial(_run, [*line, str(Path(folder) / f"{run}.mp4")])))
        colour_seconds = _timed(
            lambda: deque((to_planes(large) for _ in map(lambda planes: to_rgb(*planes), stored)), maxlen=0)
        )
        planes = tuple(plane[0] for plane in to_planes(large))
        encode_seconds = _encode(Path(folder) / "encode.mp4", info, decoded, planes, scale, preset)
    return Figures(
        clip=Path(clip).name,
        size=f"{info.width}x{info.height}",
        frames=len(decoded),
        model=model,
        scale=scale,
        device="cpu",
        threads=torch.get_num_threads(),
        runs=runs,
        preset=preset,
        decode=len(decoded) / decode_seconds,
        colour=len(decoded) / colour_seconds,
        network=len(decoded) / statistics.median(bare),
        encode=len(decoded) / encode_seconds,
        whole=len(decoded) / statistics.median(whole),
        whole_to_bare=statistics.median(b / w for b, w in zip(bare, whole, strict=True)),
    )


def table(figures: Figures) -> str:
    """The figures for people; pastes into Markdown."""
    rows = [
        ("decode", figures.decode),
        ("colour in and out", figures.colour),
        ("network, bare loop", figures.network),
        ("encode", figures.encode),
        ("whole process", figures.whole),
    ]
    head = (
        f"{figures.clip}, {figures.size}, {figures.frames} frames, {figures.model} x{figures.scale}, "
        f"{figures.device}, {figures.threads} threads, preset {figures.preset}, median of {figures.runs} runs"
    )
    lines = [head, "", "| stage | frames/s |", "|---|---|"]
    lines += [f"| {name} | {fps:.2f} |" for name, fps in rows]
    lines += ["", f"whole process against bare network: {figures.whole_to_bare:.3f}"]
    return "\n".join(lines)


def _decode(clip: str, frames: int) -> tuple[VideoInfo, list[Frame], float]:
    from rcan_video.frames import Frame
    from rcan_video.media.decode import Source

    decoded: list[Frame] = []
    begun = time.perf_counter()
    with Source(clip) as source:
        for frame in source.frames():
            # Cloned: the decoder's own memory is short-lived in the real job, and so many frames would hold all of it.
            decoded.append(Frame(tuple(p.clone() for p in frame.planes), frame.pts, frame.duration, frame.index))
            if len(decoded) == frames:
                break
        return source.info, decoded, time.perf_counter() - begun


def _encode(
    path: Path, info: VideoInfo, frames: list[Frame], planes: tuple[Tensor, ...], scale: int, preset: str
) -> float:
    from rcan_video.frames import Frame
    from rcan_video.media.encode import Writer

    begun = time.perf_counter()
    options = EncodeOptions(preset=preset)
    with Writer(path, info, scale, options, name=str(path), stop=threading.Event()) as writer:
        for frame in frames:
            writer.write(Frame(planes, frame.pts, frame.duration, frame.index))
        writer.finish()
    return time.perf_counter() - begun


def _command_line(
    clip: str, info: VideoInfo, frames: int, scale: int, model: str, threads: int | None, preset: str
) -> list[str]:
    """The main job on the same frames; the output's name is to be added."""
    duration = str(float(Fraction(frames) / info.rate))
    line = [sys.executable, "-m", "rcan_video", "--scale", str(scale), "--model", model, "--device", "cpu"]
    line += ["--preset", preset, "--duration", duration, "--quiet"]
    line += ["--threads", str(threads)] if threads is not None else []
    return [*line, clip]


def _run(line: list[str]) -> None:
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RcanVideoError(f"the measured command failed: {done.stderr.strip()}")


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    run_command(command, "rcan-video-bench")
