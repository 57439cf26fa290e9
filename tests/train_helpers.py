"""Pictures with something to learn, and small trainings of them, for the tests of ``rcan_video.train``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rcan_video.metrics import Pixels
from rcan_video.options import TrainOptions
from rcan_video.report import write_png


def texture(seed: int, size: int = 72) -> Pixels:
    """Edges in several directions and colours, (size, size, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    picture = np.full((size, size, 3), 128.0)
    for _ in range(4):
        direction, frequency, colour = rng.uniform(0, np.pi), rng.uniform(0.1, 0.9), rng.uniform(-50, 50, 3)
        wave = np.sin(frequency * (x * np.cos(direction) + y * np.sin(direction)) + rng.uniform(0, 6))
        picture += colour * np.sign(wave)[..., None]
    return picture.clip(0, 255).astype(np.uint8)


def write_textures(folder: Path, count: int, size: int = 72) -> Path:
    folder.mkdir()
    for seed in range(count):
        write_png(folder / f"{seed}.png", texture(seed, size))
    return folder


def small_options(data: Path, /, **changes: Any) -> TrainOptions:
    """A training of a tiny network on ``data``, with everything that it writes beside that."""
    beside = {"output": str(data.parent / "out.safetensors"), "cache": str(data.parent / "cache")}
    small = {"groups": 1, "blocks": 1, "features": 8, "batch": 4, "patch": 12, "device": "cpu"}
    rest = {"iterations": 10, "log_every": 1, "validate_every": 5, "warmup": 1}
    return TrainOptions(**{"data": (str(data),), **beside, **small, **rest, **changes})


class Watched:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.scores: dict[int, dict[str, float]] = {}
        self.begun_at = -1

    def preparing(self, text: str) -> None: ...

    def start(self, description: str, done: int, total: int) -> None:
        self.begun_at = done

    def warmed_up(self, step: int) -> None: ...

    def update(self, step: int, loss: float) -> None:
        self.losses.append(loss)

    def validated(self, step: int, scores: Mapping[str, float]) -> None:
        self.scores[step] = dict(scores)

    def finish(self, text: str) -> None: ...


class Stopped(Exception):
    pass


class StopsAt(Watched):
    """Ends the training in the middle, after the log has got its row and before the state is saved."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def update(self, step: int, loss: float) -> None:
        super().update(step, loss)
        if step == self._step:
            raise Stopped
