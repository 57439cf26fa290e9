"""Pictures and videos as 8-bit RGB, (H, W, 3): found, read, and seen through an encoder.

OpenCV, PyAV and torch are loaded by the functions that need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rcan_video.errors import InputError
from rcan_video.frames import ColorSpec, Plane, PlaneLayout
from rcan_video.metrics import Pixels

if TYPE_CHECKING:
    from torch import Tensor

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VIDEOS = frozenset(
    {".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".y4m"}
)

_LAYOUT = PlaneLayout("yuv", 8, 1, 1)


def find(places: Sequence[str]) -> list[Path]:
    """The pictures and videos among ``places``, each a file or a folder that is searched to its depth; sorted.

    Raises InputError for a place that does not exist and where nothing is found.
    """
    if "" in places:
        raise InputError("one of the names is empty, perhaps a variable of the shell; give pictures, videos or folders")
    found: set[Path] = set()
    for place in map(Path, places):
        if place.is_dir():
            inside = (path for path in place.rglob("*") if path.suffix.lower() in PICTURES | VIDEOS)
            found.update(path for path in inside if path.is_file())
        elif place.is_file():
            found.add(place)
        else:
            raise InputError(f"{place}: there is no such file or folder; give pictures, videos or folders of them")
    if not found:
        raise InputError(f"{', '.join(places)}: holds no picture and no video; give others")
    return sorted(found)


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def read_picture(path: Path) -> Pixels:
    """A picture as (H, W, 3) uint8 RGB. Raises InputError."""
    import cv2

    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)  # OpenCV's own reading fails on names outside ASCII
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # one sentence of ours, not several of OpenCV's
    try:
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV does not read it ({error.err}); remove it or make it smaller") from error
    if picture is None:
        raise InputError(f"{path}: is no picture that OpenCV can read; remove it or convert it to PNG")
    return np.asarray(picture, np.uint8)


def read_frames(path: Path) -> Iterator[Pixels]:
    """The picture, or every frame of the video, as it comes. Raises InputError, also where a part is damaged."""
    if is_picture(path):
        yield read_picture(path)
        return
    from rcan_video.media.decode import Source

    with Source(str(path), on_corrupt="fail") as source:
        source.leave_alpha_out()
        info = source.info
        pixels = planes_to_pixels(info.layout, info.color, (info.width, info.height))
        for frame in source.frames():
            yield pixels(frame.planes)


def planes_to_pixels(
    layout: PlaneLayout, color: ColorSpec, size: tuple[int, int]
) -> Callable[[Sequence[Plane]], Pixels]:
    """What turns the planes of a frame of ``size`` (width, height), without alpha, into a picture."""
    import torch

    from rcan_video.color import PlanesToRgb

    to_rgb = PlanesToRgb(layout, color, *size)
    # Copies: those of a decoder are read-only, which torch does not know.
    return lambda planes: to_pixels(to_rgb(*(torch.from_numpy(np.asarray(p).copy())[None] for p in planes)))[0]


def compressed(frames: Iterable[Pixels], codec: str, options: Mapping[str, str], matrix: int) -> Iterator[Pixels]:
    """Frames of one even size through 8-bit 4:2:0 of limited range and an encoder, and back on the way that the main
    job takes. ``matrix`` is a key of ``LUMA_WEIGHTS``. Raises OutputError as ``roundtrip`` does."""
    import torch

    from rcan_video.color import PlanesToRgb, RgbToPlanes
    from rcan_video.media.roundtrip import roundtrip

    coming = iter(frames)
    first = next(coming, None)
    if first is None:
        return
    size = first.shape[1], first.shape[0]
    color = ColorSpec(matrix, full_range=False, siting="left")
    to_planes, to_rgb = RgbToPlanes(_LAYOUT, color, *size), PlanesToRgb(_LAYOUT, color, *size)

    def planes(frame: Pixels) -> tuple[Plane, ...]:
        rgb = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
        return tuple(plane[0].numpy() for plane in to_planes(rgb))

    for decoded in roundtrip(map(planes, chain([first], coming)), _LAYOUT, codec, options):
        yield to_pixels(to_rgb(*(torch.from_numpy(plane)[None] for plane in decoded)))[0]


def to_pixels(rgb: Tensor) -> Pixels:
    """(N, 3, H, W) float in 0..1 as (N, H, W, 3) uint8, clipped and rounded."""
    import torch

    return rgb.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
