"""Types of option values: times and rates."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import ClassVar

import click

# Digits and a point alone: Fraction would also take exponents, and compute a power of ten of any size.
_TIME = re.compile(r"(\d{1,9}:){0,2}(\d{1,9}(\.\d{1,18})?|\.\d{1,18})")
_RATE = re.compile(r"\d{1,9}(/0*[1-9]\d{0,8}|\.\d{1,9})?")


class Rate(click.ParamType[Fraction]):
    """Frames per second, as a number or as a fraction such as 30000/1001."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if isinstance(value, Fraction):
            return value
        if not _RATE.fullmatch(str(value)):
            self.fail(f"{value!r} is no rate: write frames per second, 25 or 30000/1001", param, ctx)
        return Fraction(str(value))


class Seconds(click.ParamType[Fraction]):
    """Seconds, or clock time such as 1:02:03.5, as an exact fraction."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if isinstance(value, Fraction):
            return value
        if not _TIME.fullmatch(str(value)):
            self.fail(f"{value!r} is no time: write seconds (12.5) or a clock time (1:02:03.5)", param, ctx)
        seconds = Fraction(0)
        for part in str(value).split(":"):
            seconds = seconds * 60 + Fraction(part)
        return seconds


class Span(Seconds):
    """A length of time: as ``Seconds``, or a number with its unit, such as 90m or 8h."""

    _UNITS: ClassVar = {"s": 1, "m": 60, "h": 3600}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        text = str(value)
        unit = self._UNITS.get(text[-1:], 1)
        return super().convert(text[:-1] if text[-1:] in self._UNITS else text, param, ctx) * unit
