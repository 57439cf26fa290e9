"""Pictures for people: the same detail, enlarged in several ways, side by side.

OpenCV draws the labels and packs the PNG. It is imported inside the functions that use it, because its wheel needs
system libraries that servers often lack and the main job must run without them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from rcan_video.errors import InputError, OutputError
from rcan_video.metrics import Pixels, luma_bt601
from rcan_video.resize import KERNELS, enlarge

# The layout, in pixels of the picture; colours are RGB.
_BACKGROUND = (24, 25, 28)
_LINE = (62, 64, 70)
_TEXT = (236, 237, 240)
_QUIET = (150, 153, 160)
_ACCENT = (255, 196, 64)
_MARGIN = 28
_GAP = 16
_HEADING = 44  # height of the band that carries a panel's label
_PANEL = 480  # side that an enlarged crop fits into
_FRAME_WIDTH, _FRAME_HEIGHT = 480, 380  # box that the whole frame fits into
_NOTES_WIDTH = 400
SHEET_CROP = 96  # side of a crop on a sheet
_CELL = 2 * SHEET_CROP
_LABEL = 27  # letters that fit above it
_ROW = 48 + _CELL + 20  # with its title and labels
_CROP = 80  # side of the crop in source pixels where the panel allows it: small enough to see single pixels


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the source: its top left corner and its size, in source pixels."""

    x: int
    y: int
    width: int
    height: int


def before_after(
    source: Pixels,
    result: Pixels,
    crop: Crop | None = None,
    *,
    kernels: Sequence[str] = ("bicubic",),
    title: str = "Whole frame",
) -> Pixels:
    """Draw a labelled comparison of one frame before and after.

    ``source`` is (H, W, 3) and ``result`` (s·H, s·W, 3), uint8 RGB, s a whole number. On the left the whole result
    small, with the crop marked; on the right the crop by ``kernels`` (of ``resize.KERNELS``) and by the network, all
    enlarged by the same whole factor with pixels repeated, so that they can be compared one by one. Without ``crop``
    the most detailed part is taken.

    Returns the picture, uint8 RGB. Raises InputError if the sizes do not belong together or the crop lies outside,
    OutputError if OpenCV cannot be loaded.
    """
    scale = _scale_of(source, result)
    height, width = source.shape[:2]
    if crop is None:
        side = max(_PANEL // (scale * _zoom(scale, _CROP)), 1)
        crop = most_detailed(source, min(side, width), min(side, height))
    elif not (0 <= crop.x < crop.x + crop.width <= width and 0 <= crop.y < crop.y + crop.height <= height):
        raise InputError(f"the crop {crop} is not inside the frame of {width}x{height}: choose one that is")
    cv2 = _opencv()

    zoom = _zoom(scale, max(crop.width, crop.height))
    here = slice(crop.y * scale, (crop.y + crop.height) * scale), slice(crop.x * scale, (crop.x + crop.width) * scale)
    panels = [(f"{kernel.capitalize()} x{scale}", _part_by(kernel, source, crop, scale)) for kernel in kernels]
    panels.append((f"RCAN x{scale}", result[here]))
    enlarged = [(name, part.repeat(zoom, axis=0).repeat(zoom, axis=1)) for name, part in panels]
    overview = _overview(cv2, result, crop, scale)

    panel_height, panel_width = enlarged[0][1].shape[:2]
    notes = [
        (f"{width} x {height}  to  {width * scale} x {height * scale}", _TEXT),
        (f"marked: {crop.width} x {crop.height} source pixels at ({crop.x}, {crop.y})", _QUIET),
        (f"shown at {zoom}x with pixels repeated" if zoom > 1 else "shown pixel for pixel", _QUIET),
    ]
    notes_height = 22 + 28 * len(notes)
    body = max(panel_height, overview.shape[0] + notes_height)
    first = _MARGIN + max(overview.shape[1], _NOTES_WIDTH) + _GAP
    columns = [first + n * (panel_width + _GAP) for n in range(len(panels))]
    canvas = np.empty((2 * _MARGIN + _HEADING + body, columns[-1] + panel_width + _MARGIN, 3), np.uint8)
    canvas[:] = _BACKGROUND
    top = _MARGIN + _HEADING

    _write(cv2, canvas, title, _MARGIN, _MARGIN + 26, _TEXT, 0.8)
    _paste(canvas, overview, _MARGIN, top)
    for n, (text, colour) in enumerate(notes):
        _write(cv2, canvas, text, _MARGIN, top + overview.shape[0] + 42 + 28 * n, colour, 0.62)
    for n, ((name, part), left) in enumerate(zip(enlarged, columns, strict=True), 1):
        _write(cv2, canvas, name, left, _MARGIN + 26, _ACCENT if n == len(columns) else _TEXT, 0.8)
        _paste(canvas, part, left, top)
    return canvas


def stacked(pictures: Sequence[Pixels]) -> Pixels:
    """Comparisons one under another, on the drawings' ground."""
    width = max(picture.shape[1] for picture in pictures)
    canvas = np.empty((sum(picture.shape[0] for picture in pictures), width, 3), np.uint8)
    canvas[:] = _BACKGROUND
    top = 0
    for picture in pictures:
        canvas[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += picture.shape[0]
    return canvas


def sheet(rows: Sequence[tuple[str, Sequence[tuple[str, Pixels]]]]) -> Pixels:
    """Draw rows of labelled crops: each has a title and (label, crop) from left to right, crops (h, w, 3) uint8 RGB of
    one size, shown larger with pixels repeated. Returns the picture, uint8 RGB. Raises OutputError if OpenCV cannot be
    loaded."""
    cv2 = _opencv()
    across = max(len(panels) for _, panels in rows)
    canvas = np.empty((_MARGIN + len(rows) * _ROW, 2 * _MARGIN + across * (_CELL + _GAP) - _GAP, 3), np.uint8)
    canvas[:] = _BACKGROUND
    for n, (title, panels) in enumerate(rows):
        top = _MARGIN + n * _ROW
        _write(cv2, canvas, title, _MARGIN, top + 14, _TEXT, 0.55)
        for k, (label, crop) in enumerate(panels):
            left, zoom = _MARGIN + k * (_CELL + _GAP), max(_CELL // max(crop.shape[:2]), 1)
            _write(cv2, canvas, label[-_LABEL:], left, top + 38, _ACCENT if k else _QUIET, 0.42)
            _paste(canvas, crop.repeat(zoom, axis=0).repeat(zoom, axis=1), left, top + 48)
    return canvas


def most_detailed(picture: Pixels, width: int, height: int) -> Crop:
    """The crop of this size, in pixels of ``picture`` (H, W, 3), with the largest sum of luma gradients.

    Not of their squares: the edge of a black bar would beat any texture. The first in reading order where several are
    equal.
    """
    luma = luma_bt601(picture)
    energy = np.zeros(luma.shape)
    energy[:, 1:] += np.abs(np.diff(luma, axis=1))
    energy[1:, :] += np.abs(np.diff(luma, axis=0))
    sums = _window_sums(_window_sums(energy, height, axis=0), width, axis=1)
    y, x = np.unravel_index(np.argmax(sums), sums.shape)
    return Crop(int(x), int(y), width, height)


def pack_jpeg(picture: Pixels, quality: int) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG of this quality (0..100), its colours at full resolution. Raises OutputError."""
    cv2 = _opencv()
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    return _packed(cv2, picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])


def write_png(path: Path, picture: Pixels) -> None:
    """Write (H, W, 3) uint8 RGB as PNG. Raises OutputError if that cannot be done."""
    cv2 = _opencv()
    content = _packed(cv2, picture, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 9])
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def _packed(cv2: ModuleType, picture: Pixels, ending: str, options: list[int]) -> bytes:
    # OpenCV only packs the bytes: its own file writing fails without a reason, and on names that are not ASCII.
    done, packed = cv2.imencode(ending, picture[..., ::-1], options)
    if not done:
        raise OutputError(f"OpenCV cannot pack a picture of shape {picture.shape} as {ending[1:].upper()}")
    content: bytes = packed.tobytes()
    return content


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise OutputError(
            f"pictures cannot be drawn because OpenCV does not load ({error}); install the system libraries that it "
            "names (on Debian: libgl1 and libglib2.0-0), or opencv-python-headless in place of opencv-python"
        ) from error
    return cv2


def _scale_of(source: Pixels, result: Pixels) -> int:
    (height, width), (result_height, result_width) = source.shape[:2], result.shape[:2]
    scale: int = result_width // width
    if scale < 1 or (result_width, result_height) != (width * scale, height * scale):
        raise InputError(
            f"a result of {result_width}x{result_height} is no whole multiple of its source of {width}x{height}: "
            "give the video that was upscaled and what came out of it"
        )
    return scale


def _zoom(scale: int, side: int) -> int:
    """How often to repeat the pixels of a crop of ``side`` source pixels, so that it fills a panel."""
    return max(_PANEL // (scale * side), 1)


def _part_by(kernel: str, source: Pixels, crop: Crop, scale: int) -> Pixels:
    """The crop of the source enlarged, without enlarging all of it."""
    reach = math.ceil(KERNELS[kernel][1])
    left, top = max(crop.x - reach, 0), max(crop.y - reach, 0)
    around = enlarge(source[top : crop.y + crop.height + reach, left : crop.x + crop.width + reach], scale, kernel)
    y, x = (crop.y - top) * scale, (crop.x - left) * scale
    return around[y : y + crop.height * scale, x : x + crop.width * scale]


def _window_sums(values: npt.NDArray[np.float64], size: int, axis: int) -> npt.NDArray[np.float64]:
    """Sums over every run of ``size`` values along an axis."""
    padding = [(1, 0) if i == axis else (0, 0) for i in range(values.ndim)]
    total = np.pad(values, padding).cumsum(axis)
    last = total.shape[axis]
    sums: npt.NDArray[np.float64] = total.take(range(size, last), axis) - total.take(range(last - size), axis)
    return sums


def _overview(cv2: ModuleType, result: Pixels, crop: Crop, scale: int) -> Pixels:
    """The whole result, reduced into its box, with the crop framed."""
    height, width = result.shape[:2]
    ratio = min(_FRAME_WIDTH / width, _FRAME_HEIGHT / height)
    size = max(round(width * ratio), 1), max(round(height * ratio), 1)
    small: Pixels = cv2.resize(result, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
    left, top = (round(n * scale * ratio) for n in (crop.x, crop.y))
    right, bottom = (round(n * scale * ratio) - 1 for n in (crop.x + crop.width, crop.y + crop.height))
    cv2.rectangle(small, (left, top), (right, bottom), (0, 0, 0), 4)
    cv2.rectangle(small, (left, top), (right, bottom), _ACCENT, 2)
    return small


def _paste(canvas: Pixels, picture: Pixels, left: int, top: int) -> None:
    """Put ``picture`` onto ``canvas`` with a thin line around it."""
    height, width = picture.shape[:2]
    canvas[top - 1 : top + height + 1, left - 1 : left + width + 1] = _LINE
    canvas[top : top + height, left : left + width] = picture


def _write(
    cv2: ModuleType, canvas: Pixels, text: str, left: int, baseline: int, colour: tuple[int, int, int], size: float
) -> None:
    cv2.putText(canvas, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
