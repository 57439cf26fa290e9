"""An evaluation as text: Markdown for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict

from rcan_video.evaluate.results import Evaluation, Series
from rcan_video.metrics import FIGURES, Score

_TITLES = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "psnr_rgb": "PSNR-RGB", "ssim_rgb": "SSIM-RGB"}
_COLUMNS = (*FIGURES, "temporal")


def markdown(found: Evaluation) -> str:
    """For each condition: PSNR-Y and SSIM-Y of every item and method, then the means of all figures."""
    lines = [
        f"x{found.scale}, a border of {found.scale} pixels left out; PSNR in dB, temporal error in grey levels",
        "",
    ]
    for condition in found.conditions:
        if condition:
            lines += [condition, ""]
        columns = [found.of(condition, method) for method in found.methods]
        means = [found.mean(condition, method) for method in found.methods]
        lines += _table(["PSNR-Y / SSIM-Y", *found.methods])
        for name, row in zip(found.items, zip(*columns, strict=True), strict=True):
            lines.append(_row([name, *(_both(series.mean) for series in row)]))
        lines.append(_row([f"mean of {len(found.items)}", *map(_both, means)]))
        moving = means[0].temporal is not None
        lines += ["", *_table(["mean", *_TITLES.values(), *(["temporal error"] if moving else [])])]
        for method, mean in zip(found.methods, means, strict=True):
            figures = [f"{getattr(mean, n):.{3 if n.startswith('psnr') else 4}f}" for n in FIGURES]
            lines.append(_row([method, *figures, *([f"{mean.temporal:.4f}"] if mean.temporal is not None else [])]))
        lines.append("")
    return "\n".join(lines).rstrip()


def csv_text(found: Evaluation) -> str:
    """A row for each frame of each series (frames from 0; none for a picture), one for its mean where there are
    several, and the means over the items (item "mean") at the end. Identical pictures have "inf" dB."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["item", "condition", "method", "frame", *_COLUMNS])
    for series in found.series:
        head = (series.item, series.condition, series.method)
        for frame, score in _frames(series):
            writer.writerow([*head, frame, *_values(score)])
    for condition in found.conditions:
        for method in found.methods:
            writer.writerow(["mean", condition, method, "", *_values(found.mean(condition, method))])
    return text.getvalue()


def json_text(found: Evaluation) -> str:
    """One object: scale, means by condition and method, and every series with its mean and its frames. A figure that is
    infinite (identical pictures) or that there is not (the temporal error of a picture) is null."""
    means = [
        {"condition": condition, "method": method, **_finite(found.mean(condition, method))}
        for condition in found.conditions
        for method in found.methods
    ]
    series = [
        {"item": s.item, "condition": s.condition, "method": s.method, **_finite(s.mean)}
        | ({"frames": [_finite(score) for score in s.frames]} if len(s.frames) > 1 else {})
        for s in found.series
    ]
    whole = {"scale": found.scale, "shave": found.scale, "methods": found.methods, "means": means, "series": series}
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def _frames(series: Series) -> Iterator[tuple[int | str, Score]]:
    if len(series.frames) == 1:
        yield "", series.frames[0]
        return
    yield from enumerate(series.frames)
    yield "mean", series.mean


def _values(score: Score) -> list[object]:
    return ["" if value is None else f"{value:.6f}" for value in asdict(score).values()]


def _finite(score: Score) -> dict[str, float | None]:
    return {name: v if v is not None and math.isfinite(v) else None for name, v in asdict(score).items()}


def _both(score: Score) -> str:
    return f"{score.psnr_y:.3f} / {score.ssim_y:.4f}"


def _table(titles: list[str]) -> list[str]:
    return [_row(titles), "|---" * len(titles) + "|"]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
