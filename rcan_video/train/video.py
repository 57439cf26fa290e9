"""What a video camera, a converter and an encoder do to pictures: the degradation for compressed sources.

Short sequences, because encoders predict frames from each other: runs of real clips, and still pictures under a pan or
a zoom. They are blurred, reduced, made noisy and sent through H.264 or HEVC at a random quality; then they are decoded
and brought to RGB on the way that the main job takes. Three frames of each sequence are kept. All of it is made once,
into memory-mapped files; sequence ``n`` of a seed is always the same.

The ranges are mild beside those of Real-ESRGAN and its like, which serve adversarial training: with an L1 loss a
heavy degradation teaches to smooth. Sources of the choices are named in docs/training.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from rcan_video.errors import InputError
from rcan_video.metrics import Pixels
from rcan_video.pictures import compressed
from rcan_video.resize import reduce
from rcan_video.train.data import Pair
from rcan_video.train.store import RUN, Footage, clear, keep, mapped

SIDE = {1: 256, 2: 192, 3: 144, 4: 128, 8: 96}
"""Size of the small pictures by scale, in pixels: multiples of 16, as encoders like them."""

_KEPT = 3
_CHUNK = 50  # sequences in a file
_VERSION = "1"  # part of the cache's key: change it with anything below

_STATIC, _ZOOM = 0.25, 0.2  # shares of still pictures that do not move, that are zoomed into or out of; the rest pan
_PAN = 3.0  # pixels of the large picture per frame, at most
_WINDOWS = (1.1, 1.6)  # part of a picture that a zoom shows, in sides: more than one, so that it never enlarges
_ZOOM_SPEED = 0.01  # per frame, at most
_SOFT, _SOFT_SIGMA = 0.3, (0.4, 1.2)  # share of soft footage; blur of large and small picture, in large pixels
_BLUR, _BLUR_SIGMA = 0.4, (0.2, 0.8)  # blur of the small picture alone, in small pixels
_KERNELS, _KERNEL_SHARES = ("bicubic", "area", "bilinear", "lanczos"), (0.5, 0.2, 0.15, 0.15)
_NOISE, _NOISE_SIGMA = 0.3, 3.0  # grey levels
_HEVC, _HEVC_CRF = 0.35, 3  # share, and how much higher its CRF is for about the same quality
_CRF = (16.0, 30.0)
_PRESETS = ("veryfast", "fast", "medium")
_MATRICES = (1, 6)  # BT.709 and BT.601, as H.273 counts


def compressed_pairs(
    footage: Sequence[Footage], scale: int, count: int, seed: int, cache: Path, say: Callable[[str], None]
) -> list[Pair]:
    """``count`` sequences made from ``footage``, those that the cache lacks now.

    Raises InputError where no footage is large enough, OutputError where an encoder is missing.
    """
    side = SIDE[scale] * scale
    usable = [f for f in footage if min(f.frames.shape[1:3]) >= side]
    if not usable:
        raise InputError(f"--degradation video takes pictures of {side} pixels each way at least; give larger ones")
    folder = _folder(cache, usable, scale, str(seed))
    clear(folder)

    def make(number: int) -> tuple[Pixels, Pixels]:
        say(f"compressing {number + 1}/{count}")
        return sequence(usable, scale, np.random.default_rng((seed, number)))

    starts = range(0, count, _CHUNK)
    return [Pair(*_chunk(folder, start, min(_CHUNK, count - start), make), run=_KEPT) for start in starts]


def compressed_examples(footage: Sequence[Footage], scale: int, cache: Path, say: Callable[[str], None]) -> list[Pair]:
    """One sequence of each that is large enough, always the same: to validate on."""
    usable = [f for f in footage if min(f.frames.shape[1:3]) >= SIDE[scale] * scale]
    if not usable:
        return []

    def make(number: int) -> tuple[Pixels, Pixels]:
        say(f"compressing what to validate on: {number + 1}/{len(usable)}")
        return sequence([usable[number]], scale, np.random.default_rng((0, number)))

    lr, hr = _chunk(_folder(cache, usable, scale, "examples"), 0, len(usable), make)
    return [Pair(lr[n : n + _KEPT], hr[n : n + _KEPT]) for n in range(0, len(lr), _KEPT)]


def _folder(cache: Path, footage: Sequence[Footage], scale: int, what: str) -> Path:
    """Where the sequences lie that are made of ``footage``, by its content."""
    text = "/".join([_VERSION, str(scale), what, *(f.key for f in footage)])
    return cache / f"video-{hashlib.sha256(text.encode()).hexdigest()}"


def _chunk(folder: Path, start: int, size: int, make: Callable[[int], tuple[Pixels, Pixels]]) -> tuple[Pixels, Pixels]:
    """The frames, small and large, of ``size`` sequences from ``start`` on, made now if they are not kept yet."""
    small, large = (folder / f"{start:06}-{size}-{name}.npy" for name in ("lr", "hr"))
    if not (small.exists() and large.exists()):
        lr, hr = (np.concatenate(part) for part in zip(*map(make, range(start, start + size)), strict=True))
        keep(small, lr)
        keep(large, hr)
    return mapped(small), mapped(large)


def sequence(footage: Sequence[Footage], scale: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Three frames of one compressed sequence: small ones (3, S, S, 3) and the large ones that they come from."""
    large = moving(footage[int(rng.integers(len(footage)))], SIDE[scale] * scale, rng)
    if rng.random() < _SOFT:
        large = _blurred(large, rng.uniform(*_SOFT_SIGMA))
    seen = _blurred(large, rng.uniform(*_BLUR_SIGMA) * scale) if rng.random() < _BLUR else large
    kernel = str(rng.choice(_KERNELS, p=_KERNEL_SHARES))
    small = np.stack([reduce(frame, scale, kernel) for frame in seen])
    if rng.random() < _NOISE:
        noisy = small + rng.normal(0.0, rng.uniform(0.0, _NOISE_SIGMA), small.shape)
        small = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    hevc = bool(rng.random() < _HEVC)
    crf = rng.uniform(*_CRF) + _HEVC_CRF * hevc
    options = {"crf": f"{crf:.2f}", "preset": str(rng.choice(_PRESETS))}
    codec = "libx265" if hevc else "libx264"
    decoded = np.stack(list(compressed(small, codec, options, int(rng.choice(_MATRICES)))))
    kept = np.sort(rng.choice(RUN, _KEPT, replace=False))
    return decoded[kept], large[kept]


def moving(footage: Footage, side: int, rng: np.random.Generator) -> Pixels:
    """``RUN`` frames of ``side`` x ``side``: a part of a clip, or a still picture with the camera in motion.

    A pan goes by whole pixels of the large picture, and a zoom shows more than ``side``: neither blurs what the
    network is to learn.
    """
    height, width = footage.frames.shape[1:3]
    if footage.moving:
        first = int(rng.integers(len(footage.frames) // RUN)) * RUN
        y, x = _place(height - side, rng), _place(width - side, rng)
        return footage.frames[first : first + RUN, y : y + side, x : x + side].copy()
    picture = footage.frames[0]
    way = rng.random()
    if way < _STATIC:
        y, x = _place(height - side, rng), _place(width - side, rng)
        return np.repeat(picture[None, y : y + side, x : x + side], RUN, axis=0)
    if way < _STATIC + _ZOOM and min(height, width) >= _WINDOWS[1] * side:
        return _zoom(picture, side, rng)
    path = [_path(limit, rng.uniform(-_PAN, _PAN), rng) for limit in (height - side, width - side)]
    return np.stack([picture[y : y + side, x : x + side] for y, x in zip(*path, strict=True)])


def _path(limit: int, speed: float, rng: np.random.Generator) -> list[int]:
    """Whole positions in 0..limit that move by ``speed`` a frame; where there is no room, they stop at the edge."""
    offsets = speed * np.arange(RUN)
    least = max(-float(offsets.min()), 0.0)
    positions = rng.uniform(least, max(limit - float(offsets.max()), least)) + offsets
    whole: list[int] = np.clip(np.rint(positions), 0, limit).astype(int).tolist()
    return whole


def _zoom(picture: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    height, width = picture.shape[:2]
    speed = rng.uniform(-_ZOOM_SPEED, _ZOOM_SPEED)
    windows = np.clip(rng.uniform(*_WINDOWS) * (1 + speed) ** np.arange(RUN), *_WINDOWS) * side
    y, x = rng.random(2)
    frames = []
    for window in np.rint(windows).astype(int).tolist():
        top, left = round(y * (height - window)), round(x * (width - window))
        part = picture[top : top + window, left : left + window]
        frames.append(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA))
    return np.stack(frames).astype(np.uint8)


def _place(room: int, rng: np.random.Generator) -> int:
    return int(rng.integers(room + 1))


def _blurred(frames: Pixels, sigma: float) -> Pixels:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]).astype(np.uint8)
