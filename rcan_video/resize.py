"""Pictures made smaller and larger, as MATLAB's ``imresize`` does it: the field's way. In 8 bits here, and as weights
for the device (``network/resample.py``).

Pixel centres are aligned and edge pixels repeated; columns go first ("vertical pass"), then rows, rounded to 8 bits
after each, halves up. With ``bicubic`` (Keys, a = -0.5) the small pictures are those that the published tables are made
with, bit for bit, and the large ones what those tables call bicubic. OpenCV and torch default to a = -0.75, which is
sharper. ``lanczos`` is the sinc of three lobes ("lanczos3"), the kernel of Pillow and of FFmpeg's scaler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from rcan_video.metrics import Pixels

_Weights = npt.NDArray[np.float64]


def cubic(x: _Weights) -> _Weights:
    """Keys' kernel with a = -0.5 at the distances ``x`` in samples; 0 from 2 on (R. Keys, "Cubic convolution
    interpolation for digital image processing", 1981)."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


def _triangle(x: _Weights) -> _Weights:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _box(x: _Weights) -> _Weights:
    return np.where((x >= -0.5) & (x < 0.5), 1.0, 0.0)  # one of two neighbours, where a place is between them


def _lanczos(x: _Weights) -> _Weights:
    return np.where(np.abs(x) < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)


KERNELS: MappingProxyType[str, tuple[Callable[[_Weights], _Weights], float]] = MappingProxyType(
    {"bicubic": (cubic, 2.0), "bilinear": (_triangle, 1.0), "area": (_box, 0.5), "lanczos": (_lanczos, 3.0)}
)
"""Interpolation kernels and their reach in pixels of the small picture."""


def reduce(picture: Pixels, scale: int, kernel: str = "bicubic") -> Pixels:
    """Make an 8-bit picture (H, W, C) ``scale`` times smaller, as (H // scale, W // scale, C).

    The kernel is widened by ``scale``, so that it also removes what the small picture cannot hold ("antialiasing").
    ``bicubic`` gives the published low-resolution pictures bit for bit: MATLAB up to R2018 or so, where ``imresize``
    of uint8 rounds between the passes.

    Rows and columns beyond the last multiple of ``scale`` are left out. Raises ValueError for a picture smaller than
    ``scale`` or of another type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or scale < 1 or min(picture.shape[:2]) < scale:
        raise ValueError(f"cannot reduce {picture.dtype} of shape {picture.shape} by {scale}")
    height, width = (size // scale * scale for size in picture.shape[:2])
    return resize(picture[:height, :width], width // scale, height // scale, kernel)


def enlarge(picture: Pixels, scale: int, kernel: str = "bicubic") -> Pixels:
    """Make an 8-bit picture (H, W) or (H, W, C) a whole ``scale`` times larger. ``kernel`` is a key of ``KERNELS``.

    Raises ValueError for a picture of another type and a scale below 1.
    """
    if picture.dtype != np.uint8 or scale < 1:
        raise ValueError(f"expected a uint8 picture and a scale of 1 or more, got {picture.dtype} and {scale}")
    return resize(picture, picture.shape[1] * scale, picture.shape[0] * scale, kernel)


def weights(source: int, target: int, block: int, kernel: str = "bicubic") -> tuple[npt.NDArray[np.int64], _Weights]:
    """One axis of ``source`` samples to one of ``target``, as small dense products: where each block's window of K
    inputs begins, (blocks,), and the weights of its ``block`` outputs, (blocks, block, K); those behind the last are 0.

    The kernel is widened by the reduction, or as it is where there is none. Pixel centres are aligned, edges repeated.
    """
    function, reach = KERNELS[kernel]
    ratio = source / target
    width = max(ratio, 1.0)
    centres = (np.arange(target) + 0.5) * ratio - 0.5
    first = np.ceil(centres - reach * width).astype(np.int64)
    inputs = first[:, None] + np.arange(int(2 * reach * width) + 1)
    taps = function((inputs - centres[:, None]) / width)
    taps /= taps.sum(axis=1, keepdims=True)
    inputs = np.clip(inputs, 0, source - 1)
    number = np.arange(target)
    seen = int(max(inputs[k : k + block].max() - inputs[k, 0] for k in range(0, target, block))) + 1
    starts = np.minimum(inputs[::block, 0], source - seen)
    found = np.zeros((len(starts), block, seen))
    places = (number // block)[:, None], (number % block)[:, None], inputs - starts[number // block][:, None]
    np.add.at(found, places, taps)  # at an edge several taps fall on the same input
    return starts, found


def resize(picture: Pixels, width: int, height: int, kernel: str = "bicubic") -> Pixels:
    """Bring an 8-bit picture (H, W) or (H, W, C) to any size; on an axis that shrinks, the kernel is widened.

    Raises ValueError for a picture of another type, without pixels, and for a size below 1.
    """
    if picture.dtype != np.uint8 or not picture.size or min(width, height) < 1:
        raise ValueError(f"cannot bring {picture.dtype} of shape {picture.shape} to {width}x{height}")
    return _resized(_resized(picture, height, kernel, axis=0), width, kernel, axis=1)


def _resized(picture: Pixels, length: int, kernel: str, axis: int) -> Pixels:
    size = picture.shape[axis]
    step = Fraction(size, length)
    if step == 1:
        return picture
    up, down = step.denominator, step.numerator
    # Every up-th output lies at the same place between its inputs, down of them further on: they share their weights.
    phases = [_taps((phase + 0.5) * down / up - 0.5, max(down / up, 1), kernel) for phase in range(up)]
    before = max(max(-offsets[0], 0) for offsets, _ in phases)
    rows = length // up  # outputs of a phase
    last = (rows - 1) * down
    after = max(max(offsets[-1] + last - size + 1, 0) for offsets, _ in phases)
    padding = [(before, after) if i == axis else (0, 0) for i in range(picture.ndim)]
    padded = np.moveaxis(np.pad(picture, padding, mode="edge"), axis, 0)
    resized = np.empty([length if i == axis else n for i, n in enumerate(picture.shape)], np.uint8)
    for phase, (offsets, weights) in enumerate(phases):
        lines = (padded[before + offset : before + offset + last + 1 : down] for offset in offsets)
        np.moveaxis(resized, axis, 0)[phase::up] = _weighted(lines, weights)
    return resized


def _taps(centre: float, width: float, kernel: str) -> tuple[list[int], list[float]]:
    """Offsets of the inputs that an output at ``centre`` sees through a kernel widened by ``width``, and weights."""
    function, reach = KERNELS[kernel]
    far = int(np.ceil(reach * width))
    offsets = np.arange(int(np.floor(centre)) - far, int(np.ceil(centre)) + far + 1)
    weights = function(np.asarray((offsets - centre) / width, np.float64))
    weights /= weights.sum()
    inner = np.flatnonzero(weights)
    return offsets[inner].tolist(), weights[inner].tolist()


def _weighted(lines: Iterable[Pixels], weights: Sequence[float]) -> Pixels:
    total = sum(weight * line for line, weight in zip(lines, weights, strict=True))
    # MATLAB rounds halves up, and with a scale of 2 halves are common; np.rint would send them to the even side.
    return np.clip(np.floor(np.asarray(total) + 0.5), 0, 255).astype(np.uint8)
