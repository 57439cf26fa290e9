"""Types of option values: times, rates, pairs, choices that know what was meant, names of files for completion."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any, ClassVar, Literal

import click
from click.shell_completion import CompletionItem

from rcan_video.errors import WeightsError, did_you_mean
from rcan_video.options import LARGEST

# Digits and a point alone: Fraction would also take exponents, and compute a power of ten of any size.
_TIME = re.compile(r"(\d{1,9}:){0,2}(\d{1,9}(\.\d{1,18})?|\.\d{1,18})")
_SCALE = re.compile(r"0*[1-8](\.\d{1,9}|/0*[1-9]\d{0,3})?|\d{1,4}/0*[1-9]\d{0,3}")
_SIZE = re.compile(r"(\d{1,6})[xX](\d{1,6})")
_RATE = re.compile(r"\d{1,9}(/0*[1-9]\d{0,8}|\.\d{1,9})?")


class Number(click.FloatRange):
    """A number of a range. click takes "nan" for one of every range, and "inf" where there is no upper end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number that one can count with", param, ctx)
        return number


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


class Scale(click.ParamType[Fraction]):
    """A factor from 1 to 8, as a number or as a fraction."""

    name = "scale"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        scale = Fraction(str(value)) if _SCALE.fullmatch(str(value)) else Fraction(0)
        if not 1 <= scale <= LARGEST:
            self.fail(f"{value!r} is no scale: give a number from 1 to {LARGEST}, such as 2, 1.5 or 4/3", param, ctx)
        return scale


class Size(click.ParamType[tuple[int, int]]):
    """Width and height in pixels."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = _SIZE.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no size: write width and height in pixels, 3840x2160", param, ctx)
        return int(found[1]), int(found[2])


class Choice(click.Choice[str]):
    """One of a few words; for another one, the word that was meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        said = super().get_invalid_choice_message(value, ctx).rstrip(".")
        return said + did_you_mean(str(value), map(str, self.choices))


class PathName(click.ParamType[str]):
    """A name of a file ("file") or a folder ("dir"), as it is: whoever opens it says what is wrong with it."""

    def __init__(self, kind: Literal["file", "dir"] = "file") -> None:
        self.name = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type=self.name)]


class ModelName(PathName):
    """Bundled weights, or the name of a file."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from rcan_video.network.catalog import entries

        try:
            names = dict.fromkeys(entry.name for entry in entries())
        except WeightsError:  # of an installation that lacks them; the command itself will say so
            names = {}
        words = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*words, *super().shell_complete(ctx, param, incomplete)]


class Word(click.ParamType[str]):
    """Any text; ``words`` are the usual ones."""

    name = "text"

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]


def pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """A callback: KEY=VALUE, several times."""
    found = {}
    for value in values:
        key, equals, setting = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE", ctx, param)
        found[key] = setting
    return found
