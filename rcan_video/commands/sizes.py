"""How large the output is to be, as options of a command."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, get_args

import click

from rcan_video.options import LARGEST, Fit

_SCALE = re.compile(r"0*[1-8](\.\d{1,9}|/0*[1-9]\d{0,3})?|\d{1,4}/0*[1-9]\d{0,3}")
_SIZE = re.compile(r"(\d{1,6})[xX](\d{1,6})")


class _Scale(click.ParamType[Fraction]):
    """A factor from 1 to 8, as a number or as a fraction."""

    name = "scale"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        scale = Fraction(str(value)) if _SCALE.fullmatch(str(value)) else Fraction(0)
        if not 1 <= scale <= LARGEST:
            self.fail(f"{value!r} is no scale: give a number from 1 to {LARGEST}, such as 2, 1.5 or 4/3", param, ctx)
        return scale


class _Size(click.ParamType[tuple[int, int]]):
    """Width and height in pixels."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = _SIZE.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no size: write width and height in pixels, 3840x2160", param, ctx)
        return int(found[1]), int(found[2])


def size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``scale``, ``height``, ``size`` and ``fit``."""
    options = (
        click.option(
            "-s",
            "--scale",
            type=_Scale(),
            metavar="N",
            help="Enlargement, any number from 1 to 8.  [default: 2, or what the checkpoint is made for]",
        ),
        click.option("--height", type=click.IntRange(1), metavar="LINES", help="Or: so many lines."),
        click.option("--size", type=_Size(), metavar="WxH", help="Or: this size; the shape on display stays."),
        click.option("--fit", type=click.Choice(get_args(Fit)), help="Or: as large as fits this format."),
    )
    for option in reversed(options):
        command = option(command)
    return command
