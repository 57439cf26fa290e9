"""What an evaluation finds: values alone."""

from __future__ import annotations

from dataclasses import dataclass

from rcan_video.metrics import Pixels, Score, mean_score

Crops = tuple[str, list[tuple[str, Pixels]]]


@dataclass(frozen=True, slots=True)
class Series:
    """One method on one item under one condition ("" or "CRF 23"): a score for each frame, one for a picture."""

    item: str
    condition: str
    method: str
    frames: tuple[Score, ...]

    @property
    def mean(self) -> Score:
        return mean_score(self.frames)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All series, by item, condition and method in this order. A border of ``scale`` pixels does not count.

    ``crops`` are the rows of the sheet, where one was asked for: a title, and what each picture is called.
    """

    scale: int
    methods: tuple[str, ...]
    conditions: tuple[str, ...]
    items: tuple[str, ...]
    series: tuple[Series, ...]
    crops: tuple[Crops, ...] = ()

    def of(self, condition: str, method: str) -> list[Series]:
        return [s for s in self.series if (s.condition, s.method) == (condition, method)]

    def mean(self, condition: str, method: str) -> Score:
        """Mean over the items of their means."""
        return mean_score([series.mean for series in self.of(condition, method)])
