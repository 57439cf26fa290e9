"""Pictures to train on that no camera took: shapes, stripes, grids, lettering and lines in front of each other.

    python examples/make_shapes.py FOLDER [COUNT]

Shapes that hide shapes, sizes by a power law: the dead leaves model (Lee, Mumford and Huang, IJCV 2001), with sharp
edges in all directions. Every picture is a function of its number, with the same numpy and OpenCV. ``rcan-video-train
PICTURES FOLDER OUT`` trains on both.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]  # float32 or float64, 0..255
SIDE = 512
FINER = 3  # drawn so many times as large, then reduced by area
FIRST_SEED = 7


def colour(rng: np.random.Generator, palette: Floats) -> Floats:
    """Near one of ``palette`` (N, 3), and lighter or darker: neighbours differ in luma more than in chroma."""
    return np.clip(palette[rng.integers(len(palette))] + rng.normal(0, 12, 3) + rng.normal(0, 25), 0, 255)


def filling(rng: np.random.Generator, shape: tuple[int, ...], palette: Floats) -> Floats:
    """(H, W, 3): one colour, or from one to another along a gradient, stripes, a grid, or clouds."""
    height, width = shape
    kind = rng.random()
    first = colour(rng, palette)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if kind < 0.35:
        return np.broadcast_to(first, (height, width, 3)).astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    second = colour(rng, palette)
    if kind < 0.6:
        share = (along - along.min()) / (along.max() - along.min() + 1)
    elif kind < 0.8:
        period = FINER * np.exp(rng.uniform(np.log(2.2), np.log(24)))
        wave = np.sin(along * 2 * np.pi / period + rng.uniform(0, 6))
        rng.random()  # for nothing, but the pictures that `base` x2 saw are with it
        share = hardened(rng, wave)
        if rng.random() < 0.4:
            other = angle + np.pi / 2 * rng.choice([1, 1, 0.7])
            across = x * np.cos(other) + y * np.sin(other)
            share = share * hardened(rng, np.sin(across * 2 * np.pi / (period * np.exp(rng.uniform(-0.7, 0.7)))))
    else:
        clouds = rng.normal(0, 1, (height // FINER // 2 + 2, width // FINER // 2 + 2)).astype(np.float32)
        clouds = cv2.GaussianBlur(clouds, (0, 0), np.exp(rng.uniform(-1, 1.2)))
        clouds /= clouds.std() + 1e-6
        share = cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC) * 0.2 + 0.5
        share = share.clip(0, 1)
    return first + (second - first) * share[..., None]


def hardened(rng: np.random.Generator, wave: Floats) -> Floats:
    """A wave of -1..1 as 0..1, its flanks up to twelve times as steep."""
    return (wave * np.exp(rng.uniform(0, 2.5))).clip(-1, 1) * 0.5 + 0.5


def shape_mask(rng: np.random.Generator, size: float) -> npt.NDArray[np.uint8]:
    """A square with an ellipse, a polygon, a line or lettering in it, 255 where that is."""
    half = int(size) + 2
    mask = np.zeros((2 * half, 2 * half), np.uint8)
    kind = rng.random()
    if kind < 0.35:
        axes = int(size), max(1, int(size * rng.uniform(0.2, 1)))
        cv2.ellipse(mask, (half, half), axes, rng.uniform(0, 180), 0, 360, 255, -1)
    elif kind < 0.7:
        corners = rng.integers(3, 8)
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = size * rng.uniform(0.4, 1, corners)
        points = np.stack([half + radii * np.cos(angles), half + radii * np.sin(angles)], 1)
        cv2.fillPoly(mask, [points.astype(np.int32)], 255)
    elif kind < 0.88:
        angle = rng.uniform(0, 2 * np.pi)
        dx, dy = size * np.cos(angle), size * np.sin(angle)
        ends = (int(half - dx), int(half - dy)), (int(half + dx), int(half + dy))
        cv2.line(mask, *ends, 255, int(max(1, FINER * np.exp(rng.uniform(-0.7, 1.5)))))
    else:
        text = "".join(chr(rng.integers(48, 122)) for _ in range(4))
        font = int(rng.integers(0, 7))
        scale, thickness = max(0.4, size / 60 * rng.uniform(0.5, 1.3)), int(max(1, FINER * rng.uniform(0.4, 2)))
        cv2.putText(mask, text, (int(half * 0.1), half), font, scale, 255, thickness)
    return mask


def shapes(number: int) -> npt.NDArray[np.uint8]:
    """Picture ``number``: (SIDE, SIDE, 3), BGR."""
    rng = np.random.default_rng(number + FIRST_SEED)
    side = SIDE * FINER
    palette = rng.uniform(20, 235, (5, 1)) + rng.normal(0, 35, (5, 3))
    canvas = filling(rng, (side, side), palette).copy()
    count = int(np.exp(rng.uniform(np.log(150), np.log(1200))))
    sizes = np.minimum(6 * FINER / rng.power(1.6, count), side / 3)
    for size in np.sort(sizes)[::-1].tolist():  # the smallest last, in front of all
        x, y = rng.integers(0, side, 2).tolist()
        mask = shape_mask(rng, size)
        left, top = x - len(mask) // 2, y - len(mask) // 2
        rows, columns = (slice(max(0, at), min(side, at + len(mask))) for at in (top, left))
        seen = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        if seen.any():
            canvas[rows, columns] = np.where(
                seen[..., None] > 0, filling(rng, seen.shape, palette), canvas[rows, columns]
            )
    canvas = cv2.GaussianBlur(canvas.clip(0, 255), (0, 0), FINER * rng.choice([0.3, 0.45, 0.6, 0.8]))
    picture = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        picture = picture + rng.normal(0, rng.uniform(0, 2), picture.shape)
    return picture.clip(0, 255).round().astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("count", type=int, nargs="?", default=120, metavar="COUNT")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for number in range(args.count):
        path = args.folder / f"shapes{number:03}.png"
        if not cv2.imwrite(str(path), shapes(number)):
            parser.error(f"{path}: cannot be written")


if __name__ == "__main__":
    main()
