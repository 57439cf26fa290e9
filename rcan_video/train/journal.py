"""What a training says and leaves behind while it runs: log, curve, validation, the state to resume from, the result.

Kept by the first process alone, apart from the loop: nothing here changes what is trained.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rcan_video.errors import UsageError
from rcan_video.network import checkpoint
from rcan_video.network.rcan import RCAN
from rcan_video.options import TrainOptions
from rcan_video.train.curve import draw_curve
from rcan_video.train.recipe import chosen
from rcan_video.train.state import CURVE, LATEST, Log, StateFolder
from rcan_video.train.tails import official
from rcan_video.train.validate import Validation
from rcan_video.version import __version__


class Watch(Protocol):
    """How a training tells people what it is doing."""

    def preparing(self, text: str) -> None: ...

    def start(self, description: str, done: int, total: int) -> None: ...

    def warmed_up(self, step: int) -> None:
        """The first iteration of this run is done, and with it the compiling: ``step`` are, in all."""

    def update(self, step: int, loss: float) -> None:
        """``step`` iterations are done; ``loss`` is their last ones' mean L1 distance, in 0..1, to what is aimed at."""

    def validated(self, step: int, scores: Mapping[str, float]) -> None: ...

    def finish(self, text: str) -> None: ...


class Journal:
    """One training's, in its state folder."""

    def __init__(
        self, options: TrainOptions, watch: Watch, state: StateFolder, validation: Validation, data: str
    ) -> None:
        self._options = options
        self._watch = watch
        self._state = state
        self._validation = validation
        self._data = data
        self._saved_at = time.monotonic()
        self._seconds = 0.0  # of runs before this one
        self._scored = -1  # the step that the scores are of
        self._scores: Mapping[str, float] = {}

    def saved(self) -> dict[str, Any] | None:
        """The state to go on from, or None at the beginning. Raises as ``StateFolder.load`` does, and UsageError where
        that is beyond what is asked for."""
        saved = self._state.load()
        if saved:
            if saved["step"] > self._options.iterations:
                raise UsageError(
                    f"{self._state.folder}: holds a training of {saved['step']} iterations already; give no less for "
                    "--iterations, or another --state"
                )
            self._seconds = saved["seconds"]
        return saved

    def begin(self, average: RCAN, description: str, step: int) -> None:
        self._log = Log(self._state.folder, step)
        self._watch.start(f"{description}, on {self._data}", step, self._options.iterations)
        if step == 0:
            self._watch.validated(0, self._score(average, 0))
        self._began = self._saved_at = time.monotonic()

    def warmed_up(self, step: int) -> None:
        self._watch.warmed_up(step)

    def log(self, average: RCAN, step: int, rate: float, loss: float) -> None:
        """A row of the log, and where it is time for that the scores of ``average``. Raises OutputError."""
        self._watch.update(step, loss)
        scores: Mapping[str, float] = {}
        if step % self._options.validate_every == 0 or step == self._options.iterations:
            scores = self._score(average, step)
            self._watch.validated(step, scores)
            self._write(average, self._state.folder / LATEST, step, scores)
        seconds = round(self._elapsed(), 1)
        self._log.add({"step": step, "seconds": seconds, "learning_rate": rate, "loss": loss, **scores})
        if step % self._options.validate_every == 0 or step == self._options.iterations:
            draw_curve(self._log.rows, self._state.folder / CURVE)

    def save_is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self._options.save_every

    def save(self, state: Mapping[str, Any]) -> None:
        """Raises OutputError."""
        self._state.save({**state, "seconds": self._elapsed()})
        self._saved_at = time.monotonic()

    def finish(self, average: RCAN, step: int) -> None:
        """Write the result. Raises OutputError."""
        scores = self._score(average, step)
        self._write(average, Path(self._options.output), step, scores)
        told = "".join(f", {name} {value:.3f} dB" for name, value in scores.items())
        self._watch.finish(f"{self._options.output}: {step} iterations{told}")

    def _score(self, average: RCAN, step: int) -> Mapping[str, float]:
        if step != self._scored:
            self._scored, self._scores = step, self._validation.scores(average)
        return self._scores

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._began

    def _write(self, average: RCAN, path: Path, step: int, scores: Mapping[str, float]) -> None:
        story = {
            "program": f"rcan-video-train {__version__}",
            "iterations": step,
            "of": self._options.iterations,
            **chosen(self._options),
            "validation": {name: round(value, 4) for name, value in scores.items() if math.isfinite(value)},
        }
        checkpoint.save(official(average), path, {"training": json.dumps(story)})
