"""What a training leaves in its folder: the state from which it goes on exactly, and the log of what it did.

    state.pt            kernels and factors, optimiser, average, loss scale, step; replaced as a whole
    log.csv             one row every ``log_every`` iterations
    latest.safetensors  the network as it would be shipped now, at each validation
    curve.png           loss and PSNR over the iterations

There is no state of random numbers: the start is drawn from the seed, and each batch from the seed and its step.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rcan_video import durable
from rcan_video.errors import OutputError, UsageError, WeightsError
from rcan_video.train.recipe import WHERE_ON

COLUMNS = ("step", "seconds", "learning_rate", "loss", "psnr_y", "psnr_y_video")
Row = Mapping[str, float | int | None]


LATEST = "latest.safetensors"
CURVE = "curve.png"
_LOG = "log.csv"
_STATE = "state.pt"


def has_state(folder: Path) -> bool:
    """Whether a training can go on from what lies in ``folder``."""
    return (folder / _STATE).is_file()


def is_curve(path: Path) -> bool:
    """Whether a picture is what a training has drawn in its folder, and so none to train on."""
    return path.name == CURVE and path.with_name(_LOG).exists()


class StateFolder:
    """The folder of one training, held for this process alone while it is open.

    ``recipe`` is everything that the result depends on, by the name of its option. Raises OutputError where the
    folder cannot be made or another process trains in it.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        self.folder = folder
        self.recipe = dict(recipe)
        _check_ours(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("a")
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made: {error.strerror}; choose another --state") from error
        try:
            mine = durable.lock(self._lock.fileno())
        except OSError as error:
            self._lock.close()
            raise OutputError(
                f"the file system of {folder} has no locks ({error.strerror}): choose another --state, on another disk"
            ) from error
        if not mine:
            self._lock.close()
            raise OutputError(f"{folder}: another process is training here; wait for it, or choose another --state")

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def load(self) -> dict[str, Any] | None:
        """What ``save`` wrote last, or None for a training that is yet to begin.

        Raises UsageError where that was another training, WeightsError where the file is damaged.
        """
        path = self.folder / _STATE
        if not path.exists():
            return None
        try:
            saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            recipe = dict(saved.pop("recipe"))
        except Exception as error:  # bytes that are damaged drive the unpickler into errors of any class
            raise WeightsError(f"{path}: is damaged; delete it to begin again ({type(error).__name__})") from error
        for name in recipe | self.recipe:  # what is no option any more first: that cannot be given
            both, same = name in recipe and name in self.recipe, recipe.get(name) == self.recipe.get(name)
            if not (both or name in WHERE_ON) or (both and name == "filtering" and not same):  # no option has a say
                how = "with another" if both else "with" if name in recipe else "without"
                raise UsageError(
                    f"{self.folder}: holds a training that another version of this program began, {how} {name}; "
                    "go on with that version, or give another --state"
                )
            if not same:
                raise UsageError(
                    f"{self.folder}: holds a training with another {name} ({recipe.get(name)}, not "
                    f"{self.recipe.get(name)}); give the options that it was begun with, or another --state"
                )
        return saved

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the state. Raises OutputError."""
        path, part = self.folder / _STATE, self.folder / f"{_STATE}.part"
        try:
            with part.open("wb") as file:
                torch.save({**state, "recipe": self.recipe}, file)
            durable.replace(part, path)
        except (OSError, RuntimeError) as error:  # RuntimeError: torch's zip writer on a full disk
            raise OutputError(f"{path}: the state cannot be written: {error}") from error


def _check_ours(folder: Path) -> None:
    """Whether what would be written over is a training's own. Raises OutputError."""
    there = [name for name in (_LOG, LATEST, CURVE) if (folder / name).exists()]
    if there and not has_state(folder) and not (folder / "lock").exists():
        raise OutputError(f"{folder / there[0]}: is of no training here, and would be replaced: choose another --state")


class Log:
    """``log.csv`` in ``folder``. Rows after ``step``, which a run that was cut off wrote and its state does not know,
    are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = path = folder / _LOG
        self.rows = [row for row in read_log(path) if (row["step"] or 0) <= step] if step else []
        part = path.with_suffix(".part")
        try:
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(self.rows)
            part.replace(path)
        except OSError as error:
            raise OutputError(f"{path}: the log cannot be written: {error.strerror}") from error

    def add(self, row: Row) -> None:
        self.rows.append(row)
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        except OSError as error:
            raise OutputError(f"{self.path}: the log cannot be written: {error.strerror}") from error


def read_log(path: Path) -> list[Row]:
    """The rows of a log; a line that a crash cut short is left out."""
    if not path.exists():
        return []
    rows: list[Row] = []
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            try:
                row = {name: float(line[name]) if line[name] else None for name in COLUMNS}
            except (KeyError, TypeError, ValueError):
                continue
            rows.append({**row, "step": int(row["step"] or 0)})
    return rows
