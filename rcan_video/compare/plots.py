"""Curves over time as inline SVG. Colours and lines are the style sheet's, by class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

# In units of the drawing, which the page scales to its width.
_WIDTH, _HEIGHT = 900, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 14, 34


@dataclass(frozen=True, slots=True)
class Curve:
    """``values`` over the times of the plot; None and infinite ones leave a gap. ``kind`` is the class: "after",
    "before"."""

    name: str
    kind: str
    values: Sequence[float | None]


def plot(
    title: str, unit: str, times: Sequence[float], curves: Sequence[Curve], marks: Sequence[tuple[float, str]]
) -> str:
    """A drawing of ``curves`` over ``times`` in seconds, with ``marks`` (time, label) as lines from top to bottom."""
    known = [v for curve in curves for v in curve.values if v is not None and math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    rows = _ticks(low, high)
    low, high = min(low, rows[0]), max(high, rows[-1])
    first, last = times[0], times[-1] if times[-1] > times[0] else times[0] + 1

    def x(time: float) -> float:
        return _LEFT + (time - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(_summary(title, unit, curves))}">',
        f"<title>{escape(title)}</title>",
    ]
    for value in rows:
        at = f"{y(value):.1f}"
        parts.append(f'<path class="grid" d="M{_LEFT} {at}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{at}" dy="0.35em" text-anchor="end">{value:g}</text>')
    for time in _ticks(first, last):
        if first <= time <= last:
            place = f'x="{x(time):.1f}" y="{_HEIGHT - _BOTTOM + 20}"'
            parts.append(f'<text class="tick" {place} text-anchor="middle">{time:g} s</text>')
    for time, label in marks:
        line = f"M{x(time):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"
        parts.append(f'<path class="mark" d="{line}"><title>{escape(label)}</title></path>')
    for curve in curves:
        for run in _runs(times, curve.values):
            points = [f"{x(time):.1f} {y(value):.1f}" for time, value in run]
            if len(points) == 1:
                cx, cy = points[0].split()
                parts.append(f'<circle class="dot {curve.kind}" cx="{cx}" cy="{cy}" r="3"/>')
            else:
                parts.append(f'<path class="curve {curve.kind}" d="M{"L".join(points)}"/>')
    return "\n".join([*parts, "</svg>"])


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known and finite; None where there are none."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return sum(known) / len(known) if known else None


def _summary(title: str, unit: str, curves: Sequence[Curve]) -> str:
    """What the drawing says, for those who do not see it."""
    means = [(curve.name, mean(curve.values)) for curve in curves]
    return f"{title}: " + ", ".join(
        f"{name} {value:.4g} {unit} on average" for name, value in means if value is not None
    )


def _runs(times: Sequence[float], values: Sequence[float | None]) -> Iterator[list[tuple[float, float]]]:
    """Points in a row that have a value."""
    run: list[tuple[float, float]] = []
    for time, value in zip(times, values, strict=True):
        if value is not None and math.isfinite(value):
            run.append((time, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below ``low`` to above ``high``, four to nine of them."""
    span = (high - low) or abs(high) * 0.1 or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if span / (unit * factor) <= 6)
    begin, end = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 10) for n in range(begin, max(end, begin + 1) + 1)]
