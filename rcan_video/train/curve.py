"""The log as a picture: loss on the left axis, PSNR-Y on the right one, over the iterations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rcan_video.report import write_png

_WIDTH, _HEIGHT = 1000, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 90, 50, 60
_BACKGROUND, _GRID, _TEXT = (24, 25, 28), (62, 64, 70), (236, 237, 240)
_COLOURS = {"loss": (120, 170, 255), "psnr_y": (255, 196, 64), "psnr_y_video": (120, 220, 140)}  # RGB
_NAMES = {"loss": "L1 loss", "psnr_y": "PSNR-Y [dB]", "psnr_y_video": "PSNR-Y, compressed [dB]"}
_GRIDLINES = 5


def draw_curve(rows: Sequence[Mapping[str, float | int | None]], path: Path) -> None:
    """Draw the rows of a log. Raises OutputError where OpenCV cannot be loaded or the file not written."""
    import cv2

    canvas = np.empty((_HEIGHT, _WIDTH, 3), np.uint8)
    canvas[:] = _BACKGROUND
    last = max((row["step"] or 0 for row in rows), default=1) or 1
    series = {
        name: [
            (float(row["step"] or 0), float(value))
            for row in rows
            if (value := row.get(name)) is not None and math.isfinite(value)  # identical pictures have infinite dB
        ]
        for name in _COLOURS
    }
    loss_axis = _limits([value for _, value in series["loss"]])
    psnr_axis = _limits([value for name in ("psnr_y", "psnr_y_video") for _, value in series[name]])

    def write(text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
        cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)

    for line in range(_GRIDLINES + 1):
        share = line / _GRIDLINES
        y = round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM))
        cv2.line(canvas, (_LEFT, y), (_WIDTH - _RIGHT, y), _GRID, 1)
        write(f"{loss_axis[0] + share * (loss_axis[1] - loss_axis[0]):.5f}", 14, y + 5, _COLOURS["loss"])
        if series["psnr_y"] or series["psnr_y_video"]:
            value = psnr_axis[0] + share * (psnr_axis[1] - psnr_axis[0])
            write(f"{value:.2f}", _WIDTH - _RIGHT + 14, y + 5, _COLOURS["psnr_y"])
        x = round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT))
        write(f"{share * last:.0f}", x - 20, _HEIGHT - _BOTTOM + 24, _TEXT)
    write("iterations", _WIDTH // 2 - 36, _HEIGHT - 14, _TEXT)

    place = _LEFT
    for name, points in series.items():
        if not points:
            continue
        low, high = loss_axis if name == "loss" else psnr_axis
        xy = np.array([(x / last, (y - low) / (high - low)) for x, y in points])
        xy[:, 0] = _LEFT + xy[:, 0] * (_WIDTH - _LEFT - _RIGHT)
        xy[:, 1] = _HEIGHT - _BOTTOM - xy[:, 1] * (_HEIGHT - _TOP - _BOTTOM)
        cv2.polylines(canvas, [xy.round().astype(np.int32)], False, _COLOURS[name], 2, cv2.LINE_AA)
        write(f"{_NAMES[name]}: {points[-1][1]:.5g}", place, 30, _COLOURS[name])
        place += 260
    write_png(path, canvas)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Axis limits. The first values of a training are far off, and are cut: the rest is what one looks at."""
    if not values:
        return 0.0, 1.0
    low, high = np.percentile(values, (0, 100) if len(values) < 20 else (2, 98))
    margin = max(float(high - low) * 0.1, 1e-6)
    return float(low) - margin, float(high) + margin
