"""Training from end to end, on pictures made here: that it learns, that it goes on exactly, what it writes, what it
refuses."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rcan_video.metrics import Pixels
from rcan_video.network import checkpoint
from rcan_video.options import TrainOptions
from rcan_video.report import write_png
from rcan_video.train.state import read_log

ROOT = Path(__file__).parents[1]
SMALL = ["--groups", "1", "--blocks", "1", "--features", "8", "--batch", "4", "--patch", "12", "--threads", "1"]


def texture(seed: int, size: int = 72) -> Pixels:
    """Edges and waves in several directions: something that can be learned."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    picture = np.full((size, size, 3), 128.0)
    for _ in range(4):
        direction, frequency, colour = rng.uniform(0, np.pi), rng.uniform(0.1, 0.9), rng.uniform(-50, 50, 3)
        wave = np.sin(frequency * (x * np.cos(direction) + y * np.sin(direction)) + rng.uniform(0, 6))
        picture += colour * np.sign(wave)[..., None]
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        write_png(folder / f"{seed}.png", texture(seed))
    return folder


def options(pictures: Path, **changes: object) -> TrainOptions:
    small = {"groups": 1, "blocks": 1, "features": 8, "batch": 4, "patch": 12, "threads": None}
    files = {"data": (str(pictures),), "output": str(pictures.parent / "out.safetensors")}
    rest = {"cache": str(pictures.parent / "cache"), "log_every": 1, "validate_every": 5, "device": "cpu"}
    return TrainOptions(**{**small, **files, **rest, **changes})  # type: ignore[arg-type]


class Watched:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.scores: dict[int, float] = {}

    def preparing(self, text: str) -> None: ...

    def start(self, description: str, done: int, total: int) -> None: ...

    def update(self, step: int, loss: float) -> None:
        self.losses.append(loss)

    def validated(self, step: int, scores: dict[str, float]) -> None:
        self.scores[step] = scores.get("psnr_y", 0.0)

    def finish(self, text: str) -> None: ...


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from rcan_video.commands.train import main; main()", *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, timeout=120)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_killed_and_resumed_is_the_unbroken_run_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    line = [pictures, "--valid", pictures, "--cache", tmp_path / "cache", *SMALL, "--iterations", "60"]
    line += ["--log-every", "3", "--validate-every", "30", "--device", "cpu", "--debug"]
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    done = run(*line, whole, "--save-every", "1000")
    assert done.returncode == 0, done.stderr

    process = subprocess.Popen(
        command(*line, broken, "--save-every", "0"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "broken.safetensors.train"
    limit = time.monotonic() + 60
    while len(read_log(folder / "log.csv")) < 4 or not (folder / "state.pt").exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(folder / "state.pt", weights_only=True)["step"]
    assert 0 < step < 60 and not broken.exists()

    done = run(*line, broken)
    assert done.returncode == 0, done.stderr
    assert f"goes on at iteration {step}" in done.stderr
    assert rows(folder) == rows(tmp_path / "whole.safetensors.train")
    assert [row["step"] for row in rows(folder)] == [str(n) for n in range(3, 61, 3)]
    one, other = checkpoint.load(whole).state_dict(), checkpoint.load(broken).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
