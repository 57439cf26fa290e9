"""``rcan-video-train DATA... OUT``: pictures and clips in, a checkpoint out."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from rcan_video.commands.asked import help_and_version
from rcan_video.commands.params import ModelName, Number
from rcan_video.commands.shell import run_command
from rcan_video.options import SCALES, Equivariant, TrainOptions
from rcan_video.progress import duration_text
from rcan_video.progress.estimate import Estimate

_EPILOG = """
The same command again goes on where the training was cut off. Exit codes: 0 all well, 1 a bug, 2 wrong usage,
3 input, 4 output, 5 weights, 6 device or a loss that is not finite, 130 interrupted.
"""

_DEFAULT = TrainOptions((), "")
_PLAIN_SECONDS = 30.0
_POSITIONS: dict[str, Equivariant] = {"off": 0, "4": 4, "8": 8}


def _default(name: str) -> dict[str, Any]:
    return {"default": getattr(_DEFAULT, name), "show_default": True}


@click.command(epilog=_EPILOG, context_settings={"max_content_width": 80})
@click.argument("data", metavar="DATA...", nargs=-1, required=True)
@click.argument("output", metavar="OUT.safetensors")
@click.option("-s", "--scale", type=click.Choice([str(s) for s in SCALES]), **_default("scale"), help="Enlargement.")
@click.option("--groups", type=click.IntRange(1), help="Residual groups.  [default: 2, or as in --init]")
@click.option("--blocks", type=click.IntRange(1), help="Blocks in each group.  [default: 6, or as in --init]")
@click.option("--features", type=click.IntRange(1), help="Channels.  [default: 16, or as in --init]")
@click.option("--reduction", type=click.IntRange(1), help="Of the attention.  [default: 4, or as in --init]")
@click.option("--unshuffle", is_flag=True, help="Compute at half the input's size, behind a pixel unshuffle.")
@click.option("--tail", type=click.Choice(["short", "standard"]), help="Upscaler.  [default: short, or as in --init]")
@click.option(
    "--equivariant",
    type=click.Choice([*_POSITIONS]),
    default="off",
    show_default=True,
    help="Tie kernels: a turned picture comes out turned. 4: by flips, 8: by quarter turns as well.",
)
@click.option("--factors/--no-factors", **_default("factors"), help="Train each kernel as K + A*K*B.")
@click.option(
    "--init",
    type=ModelName(),
    metavar="NAME|PATH",
    multiple=True,
    help="Checkpoint to start from, of any scale. Several times, all alike: their mean.",
)
@click.option(
    "--teacher", type=ModelName(), metavar="NAME|PATH", help="Checkpoint, best a larger one, to aim at as well."
)
@click.option(
    "--filtered",
    type=Number(0, 1),
    **_default("filtered"),
    help="Share of the clean patches whose originals are behind a random filter.",
)
@click.option("--uniform", is_flag=True, help="Patches from anywhere, not rather from where there is detail.")
@click.option(
    "--degradation",
    type=click.Choice(["bicubic", "video"]),
    **_default("degradation"),
    help="What makes the small pictures: reduction alone, or blur, noise and real encoders as well.",
)
@click.option("--clean", type=Number(0, 1), **_default("clean"), help="Of video: share of patches without.")
@click.option("--sequences", type=click.IntRange(1), **_default("sequences"), help="Of video: clips to compress.")
@click.option(
    "-n",
    "--iterations",
    type=click.IntRange(0),
    **_default("iterations"),
    help="How long to train; 0: write the beginning.",
)
@click.option("--batch", type=click.IntRange(1), **_default("batch"), help="Patches per iteration.")
@click.option("--patch", type=click.IntRange(8), **_default("patch"), help="Their size, in small pixels.")
@click.option(
    "--optimizer",
    type=click.Choice(["adam", "muon"]),
    **_default("optimizer"),
    help="muon (with --no-factors) to go on from good weights.",
)
@click.option("--lr", "learning_rate", type=Number(0, 1, min_open=True), **_default("learning_rate"))
@click.option("--warmup", type=click.IntRange(0), **_default("warmup"), help="Iterations until --lr is reached.")
@click.option("--decay", type=Number(0, 1), **_default("decay"), help="Share of the final cosine.")
@click.option("--squared", is_flag=True, help="Squared errors in the loss: for a last part, with --fourier 0.")
@click.option("--fourier", type=Number(0), **_default("fourier"), help="Weight of the spectra in the loss.")
@click.option("--temporal", type=Number(0), **_default("temporal"), help="Of video: weight of flicker in the loss.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), **_default("seed"), help="Of all that is random.")
@click.option("--valid", metavar="PATH", help="Pictures to validate on.")
@click.option("-d", "--device", **_default("device"), help="auto, cpu, cuda, cuda:1, mps or xpu.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: all cores]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "single", "half", "bf16"]),
    **_default("precision"),
    help="auto: half (mixed) on CUDA, single elsewhere; bf16 (mixed) pays on CPUs that multiply it.",
)
@click.option("--compile", is_flag=True, help="Through torch.compile: quicker after a minute, with a C++ compiler.")
@click.option("--state", metavar="DIR", help="State, log and curve.  [default: OUT.safetensors.train]")
@click.option("--cache", metavar="DIR", help="Decoded data.  [default: rcan-video/train in the user's cache]")
@click.option("--log-every", type=click.IntRange(1), **_default("log_every"), help="Iterations per row of the log.")
@click.option("--validate-every", type=click.IntRange(1), **_default("validate_every"), help="A multiple of it.")
@click.option("--save-every", type=Number(0), **_default("save_every"), help="Seconds between two states.")
@click.option("-y", "--overwrite", is_flag=True, help="Replace an existing OUT.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors alone.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@help_and_version("rcan-video-train")
def command(scale: str, equivariant: str, quiet: bool, debug: bool, **options: Any) -> None:
    """Train an RCAN on the pictures and videos DATA (files, or folders of them), and
    write it as safetensors in the layout of the official code.

    Small pictures are made from large ones, and the network learns the way back.
    """
    from rcan_video.train.loop import train

    # torchrun starts many of these; one of them speaks.
    other = os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"
    watch = Silent() if quiet or other else _watch()
    try:
        train(TrainOptions(scale=int(scale), equivariant=_POSITIONS[equivariant], **options), watch)
    finally:
        watch.close()


class Silent:
    """Says nothing."""

    def preparing(self, text: str) -> None: ...

    def start(self, description: str, done: int, total: int) -> None: ...

    def warmed_up(self, step: int) -> None: ...

    def update(self, step: int, loss: float) -> None: ...

    def validated(self, step: int, scores: Mapping[str, float]) -> None: ...

    def finish(self, text: str) -> None: ...

    def close(self) -> None: ...


class _Paced(Silent):
    """Knows how fast it goes, and how long it has to go."""

    def start(self, description: str, done: int, total: int) -> None:
        self._total, self._estimate = total, Estimate(total, done)

    def warmed_up(self, step: int) -> None:
        self._estimate.update(step, time.monotonic())

    def _pace(self, step: int, now: float) -> list[str]:
        self._estimate.update(step, now)
        rate, left = self._estimate.rate(now), self._estimate.left(now)
        return [] if rate is None or left is None else [f"{rate:.2f} it/s", f"{duration_text(left)} left"]


class Plain(_Paced):
    """Lines for logs and pipes: one every half minute, and one for each validation."""

    def start(self, description: str, done: int, total: int) -> None:
        super().start(description, done, total)
        self._last = time.monotonic()
        self._say(f"{description}" + (f"; goes on at iteration {done}" if done else ""))

    def update(self, step: int, loss: float) -> None:
        now = time.monotonic()
        words = [f"iteration {step}/{self._total}", *self._pace(step, now), f"loss {loss:.5f}"]
        if now - self._last >= _PLAIN_SECONDS:
            self._last = now
            self._say(", ".join(words))

    def validated(self, step: int, scores: Mapping[str, float]) -> None:
        if scores:
            self._say(f"iteration {step}/{self._total}, {_decibels(scores)}")

    def finish(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a training of hours does not end because its log is full
            click.echo(f"rcan-video-train: {text}", err=True)


class Bar(_Paced):
    """A live line on a terminal: iterations, rate, loss, PSNR, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(stderr=True, highlight=False)
        columns = [TextColumn(f"{{task.fields[{name}]}}") for name in ("count", "rate", "loss", "psnr")]
        self._bar = Progress(BarColumn(bar_width=None), *columns, console=self._console, expand=True)
        self._task = self._bar.add_task("", total=None, count="", rate="", loss="", psnr="")
        self._bar.start()

    def preparing(self, text: str) -> None:
        self._bar.update(self._task, count=text)

    def start(self, description: str, done: int, total: int) -> None:
        super().start(description, done, total)
        self._console.print(description, markup=False)
        self._bar.update(self._task, total=total, completed=done, count=f"{done}/{total}")

    def update(self, step: int, loss: float) -> None:
        rate = ", ".join(self._pace(step, time.monotonic()))
        self._bar.update(self._task, completed=step, count=f"{step}/{self._total}", rate=rate, loss=f"loss {loss:.5f}")

    def validated(self, step: int, scores: Mapping[str, float]) -> None:
        self._bar.update(self._task, psnr=_decibels(scores))

    def finish(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None:
        self._bar.stop()


def _decibels(scores: Mapping[str, float]) -> str:
    names = {"psnr_y": "PSNR-Y", "psnr_y_video": "compressed"}
    return ", ".join(f"{names.get(name, name)} {value:.3f} dB" for name, value in scores.items())


def _watch() -> Plain | Bar:
    return Bar() if sys.stderr is not None and sys.stderr.isatty() else Plain()


def main() -> None:
    run_command(command, "rcan-video-train")
