"""Trainings side by side: structures at equal cost, optimisers, whatever ``rcan-video-train`` takes.

    python benchmarks/training.py PICTURES KODAK --common "-n 3000 --scale 2 --warmup 100 --decay 0.8" \\
        "2x6x16=--groups 2 --blocks 6 --features 16" "1x5x24=--groups 1 --blocks 5 --features 24 --reduction 8"

Each variant is a name and its own options. All see the same batches, unless a variant says otherwise, one after the
other; then what they made is timed in turns. Work is in multiply-adds per input pixel; time is for one picture of
480x270 in torch's eager float32 against the first variant; PSNR-Y is the mean over KODAK at the end.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rcan_video.network import checkpoint
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.rcan import RCAN
from rcan_video.train.tails import short_form

TURNS = 7
START = "from rcan_video.commands.train import main; main()"


@dataclass(frozen=True, slots=True)
class Trained:
    name: str
    net: nn.Module
    parameters: int  # that train
    psnr: float
    hours: float


def train(variant: str, folder: Path, arguments: argparse.Namespace) -> Trained:
    name, _, options = variant.partition("=")
    output = folder / f"{name}.safetensors"
    line = [sys.executable, "-c", START, arguments.pictures, str(output), "--valid", arguments.valid, "--quiet"]
    line += shlex.split(arguments.common) + shlex.split(options)
    subprocess.run(line, check=True)
    with (folder / f"{output.name}.train" / "log.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    rcan = checkpoint.load(output)
    net = FoldedRCAN(rcan).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Trained(name, net, parameters(rcan), float(last["psnr_y"]), float(last["seconds"]) / 3600)


def parameters(net: RCAN) -> int:
    """A short tail counts as the one convolution that it is, not as the official layout that it is stored in."""
    short = short_form(net)
    tail = net.tail.parameters() if short is None else short
    body = [p for name, p in net.named_parameters() if name.startswith(("head.", "body."))]
    return sum(p.numel() for p in [*body, *tail])


def work(net: nn.Module, picture: Tensor) -> int:
    """Multiply-adds of the convolutions, per pixel of ``picture``."""
    total = 0

    def count(conv: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(conv, nn.Conv2d)
        total += output.numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    net(picture)
    for hook in hooks:
        hook.remove()
    return total // (picture.shape[2] * picture.shape[3])


def timed(nets: list[nn.Module], picture: Tensor) -> list[float]:
    """Seconds for one picture, the median of several, in turns."""
    taken: list[list[float]] = [[] for _ in nets]
    for _ in range(TURNS):
        for net, found in zip(nets, taken, strict=True):
            begin = time.perf_counter()
            net(picture)
            found.append(time.perf_counter() - begin)
    return [statistics.median(found) for found in taken]


@torch.inference_mode()
def table(trained: list[Trained]) -> str:
    picture = torch.rand(1, 3, 270, 480).to(memory_format=torch.channels_last)
    seconds = timed([one.net for one in trained], picture)
    lines = ["| | parameters, K | multiply-adds, K | time | PSNR-Y, dB | hours |", "|---|---|---|---|---|---|"]
    for one, took in zip(trained, seconds, strict=True):
        lines.append(
            f"| {one.name} | {one.parameters / 1000:.0f} | {work(one.net, picture) / 1000:.0f} "
            f"| {took / seconds[0]:.2f} | {one.psnr:.3f} | {one.hours:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pictures")
    parser.add_argument("valid", help="pictures to validate on")
    parser.add_argument("variants", nargs="+", metavar="NAME=OPTIONS")
    parser.add_argument("--common", default="", help="options of all variants")
    parser.add_argument("--keep", help="folder for what is trained; the same command goes on from it")
    arguments = parser.parse_args()
    names = [variant.partition("=")[0] for variant in arguments.variants]
    if (
        len(set(names)) < len(names)
        or any("/" in name for name in names)
        or not all("=" in v for v in arguments.variants)
    ):
        parser.error("variants are NAME=OPTIONS, each with a name of its own and no / in it")
    with tempfile.TemporaryDirectory(prefix="rcan-training-") as temporary:
        folder = Path(arguments.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        trained = []
        for variant in arguments.variants:
            try:
                trained.append(train(variant, folder, arguments))
            except subprocess.CalledProcessError:  # it has said why
                break
            print(f"{trained[-1].name}: {trained[-1].psnr:.3f} dB", file=sys.stderr, flush=True)
    if trained:
        print(table(trained))
    sys.exit(len(trained) < len(arguments.variants))


if __name__ == "__main__":
    main()
