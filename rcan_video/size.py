"""How large the output is to be: what people ask for in pixels, and the network's factor that reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, inf
from typing import get_args

from rcan_video.errors import UsageError, WeightsError
from rcan_video.options import DEFAULT_SCALE, FITS, LARGEST, Fit, ModelOptions, SizeOptions
from rcan_video.video import VideoInfo

_MOST = 65_535  # parts of a sample aspect ratio, which H.264 and HEVC store in 16 bits

Size = tuple[Fraction, Fraction]
"""Width and height in pixels, before rounding."""


@dataclass(frozen=True, slots=True)
class Enlargement:
    """``scale`` is the network's factor; ``wanted`` what its picture is reduced to, None where that is not done."""

    scale: int
    wanted: Size | None = None

    def __str__(self) -> str:
        """What it comes to, however it was asked for."""
        return str(self.scale) if self.wanted is None else f"{self.scale} to {self.wanted[0]}x{self.wanted[1]}"


def option_of(model: ModelOptions, size: SizeOptions) -> str | None:
    """The option that says how large, as people write it; None where none does.

    Raises UsageError for two of them, and for values that mean nothing.
    """
    given = {
        "--scale": None if model.scale is None else f"{float(model.scale):g}",
        "--height": size.height,
        "--size": None if size.size is None else "{}x{}".format(*size.size),
        "--fit": size.fit,
    }
    options = [f"{name} {value}" for name, value in given.items() if value is not None]
    if len(options) > 1:
        raise UsageError(f"{' and '.join(options)} each say how large the output is to be: give one of them")
    if model.scale is not None and not 1 <= model.scale <= LARGEST:
        raise UsageError(f"--scale {float(model.scale):g}: give a number from 1 to {LARGEST}")
    if any(pixels is not None and pixels < 1 for pixels in (size.height, *(size.size or ()))):
        raise UsageError(f"{options[0]}: a picture has at least one pixel")
    if size.fit is not None and size.fit not in get_args(Fit):
        raise UsageError(f"--fit {size.fit}: give {', '.join(get_args(Fit))}, or --size for any other")
    return options[0] if options else None


def check_scale(name: str, scales: Sequence[int], scale: Fraction | float | None) -> None:
    """Raises WeightsError where the network called ``name`` does not reach a ``scale`` by any of its ``scales``."""
    if scale is not None:
        _factor(name, scales, scale, f"--scale {float(scale):g}")


def enlargement(scales: Sequence[int], model: ModelOptions, size: SizeOptions, info: VideoInfo) -> Enlargement:
    """The smallest of a network's ``scales`` that reaches what is asked for, 2 (or its only one) where nothing is, and
    the size that is left to reduce to.

    Heights and boxes mean the picture as it is displayed: of one that is shown turned by a quarter, the stored one is
    turned back, and a box is turned for a picture that is higher than wide. Raises UsageError for what is asked wrongly
    (``option_of``) and for a size that is no larger than the picture, WeightsError for one that no scale reaches.
    """
    option = option_of(model, size)
    if option is None:
        return Enlargement(DEFAULT_SCALE if DEFAULT_SCALE in scales else scales[0])
    width, height = Fraction(info.width), Fraction(info.height)
    if model.scale is not None:
        factor = Fraction(model.scale)
        wanted = (width * factor, height * factor)
    else:
        wanted = _in_pixels(size, info)
        if wanted[0] < width or wanted[1] < height or wanted == (width, height):
            there = f"{info.height}x{info.width}" if turned(info) else f"{info.width}x{info.height}"
            raise UsageError(
                f"{info.path} is {there} already, which {option} does not enlarge: give a larger size, or --scale 1 "
                "for the network's work at the size that there is"
            )
    scale = _factor(model.model, scales, max(wanted[0] / width, wanted[1] / height), option)
    return Enlargement(scale, None if wanted == (width * scale, height * scale) else wanted)


def turned(info: VideoInfo) -> bool:
    """Whether the picture is shown turned by a quarter (to the left or to the right)."""
    matrix = info.display_matrix
    return matrix is not None and not matrix[0] and not matrix[4] and bool(matrix[1] and matrix[3])


def settle(wanted: Size, enlarged: tuple[int, int], steps: tuple[int, int]) -> tuple[int, int]:
    """``wanted`` in whole multiples of ``steps``, halves up, and no more than there is."""
    width, height = (
        max(step, min(floor(want / step + Fraction(1, 2)), most // step) * step)
        for want, most, step in zip(wanted, enlarged, steps, strict=True)
    )
    return width, height


def reshaped(info: VideoInfo, width: int, height: int) -> Fraction | None:
    """The sample aspect ratio with which a picture of ``width`` x ``height`` is shown in the shape of ``info``; None
    for square samples."""
    ratio = (info.sar or Fraction(1)) * Fraction(info.width * height, info.height * width)
    if max(ratio.numerator, ratio.denominator) > _MOST:
        ratio = ratio.limit_denominator(_MOST) if ratio < 1 else 1 / (1 / ratio).limit_denominator(_MOST)
    return None if ratio == 1 else ratio


def _in_pixels(size: SizeOptions, info: VideoInfo) -> Size:
    shown = (info.height, info.width) if turned(info) else (info.width, info.height)
    if size.size is not None:
        wanted = Fraction(size.size[0]), Fraction(size.size[1])
    else:
        factor = Fraction(size.height or 0, shown[1])
        if size.fit is not None:
            box = FITS[size.fit] if shown[0] >= shown[1] else FITS[size.fit][::-1]
            factor = min(Fraction(box[0], shown[0]), Fraction(box[1], shown[1]))
        wanted = shown[0] * factor, shown[1] * factor
    return wanted[::-1] if turned(info) else wanted


def _factor(name: str, scales: Sequence[int], needed: Fraction | float, option: str) -> int:
    scale = min((scale for scale in scales if scale >= needed), default=inf)
    if scale == inf:
        *some, most = (f"{scale}" for scale in scales)
        listing = f"{', '.join(some)} or {most}" if some else most
        times = "" if option.startswith("--scale") else f", {float(needed):.3g} times as large,"
        raise WeightsError(
            f"{name} enlarges by {listing}, and {option}{times} is beyond that: give --scale {most}, or a checkpoint "
            "that enlarges by more"
        )
    return int(scale)
