"""Batches of patches: which ones is a function of the seed, the step and the place in the batch, of nothing else.

So a run that was cut off goes on with the batches that it would have seen, and several processes share one batch
without a word to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rcan_video.metrics import Pixels
from rcan_video.train.filters import filtered_patch

# Places that are looked at for each patch; the one with the most detail is taken.
_CANDIDATES = 2


@dataclass(frozen=True, slots=True)
class Pair:
    """What an upscaler sees, ``lr`` (T, h, w, 3), and what it should make of it, ``hr`` (T, at least h * scale, ...);
    both uint8 RGB, usually memory-mapped. Every ``run`` frames are of one sequence."""

    lr: Pixels
    hr: Pixels
    run: int = 1


class Pool:
    """Pairs that one kind of degradation has made, ``share`` (0..1) of all patches; ``filtered`` of these (0..1) are
    behind a random filter, and reduced anew.

    A pair is drawn by the square root of its pixels: large pictures more often, but not so much more that they
    crowd out the others.
    """

    def __init__(self, pairs: Sequence[Pair], share: float = 1.0, filtered: float = 0.0) -> None:
        if not pairs:
            raise ValueError("a pool without pairs")
        self.pairs = tuple(pairs)
        self.share = share
        self.filtered = filtered
        weights = np.sqrt([float(np.prod(pair.lr.shape[:3])) for pair in self.pairs])
        self._edges = np.cumsum(weights) / weights.sum()

    def draw(self, rng: np.random.Generator) -> Pair:
        place = int(np.searchsorted(self._edges, rng.random(), side="right"))
        return self.pairs[min(place, len(self.pairs) - 1)]


class Patches:
    """Patches of ``patch`` x ``patch`` small pixels, and what they come from, at random in one of eight positions.

    All pairs must be at least as large. ``seed`` makes another training of the same data. With ``frames`` 2, places
    2k and 2k + 1 of a batch are the same part of two frames of a sequence, or of one frame where there is no other.
    Of two places the one with more detail is taken; with ``uniform``, any.
    """

    def __init__(
        self, pools: Sequence[Pool], scale: int, patch: int, seed: int, *, frames: int = 1, uniform: bool = False
    ) -> None:
        self.pools = tuple(pools)
        self.scale = scale
        self.patch = patch
        self.seed = seed
        self.frames = frames
        self.candidates = 1 if uniform else _CANDIDATES
        shares = np.array([pool.share for pool in pools])
        self._edges = np.cumsum(shares) / shares.sum()

    def batch(self, step: int, places: range) -> tuple[Tensor, Tensor]:
        """The patches at ``places`` of the batch of ``step``: (N, 3, P, P) and (N, 3, P * scale, P * scale), uint8."""
        drawn = [divmod(place, self.frames) for place in places]
        pairs = [self._patch(np.random.default_rng((self.seed, step, place)), later) for place, later in drawn]
        small, large = zip(*pairs, strict=True)
        return _stacked(small), _stacked(large)

    def _patch(self, rng: np.random.Generator, later: int) -> tuple[Pixels, Pixels]:
        pool = self.pools[min(int(np.searchsorted(self._edges, rng.random(), side="right")), len(self.pools) - 1)]
        pair = pool.draw(rng)
        frame = int(rng.integers(len(pair.lr)))
        lr = pair.lr[frame]
        size, scale = self.patch, self.scale
        tops = rng.integers(lr.shape[0] - size + 1, size=self.candidates).tolist()
        lefts = rng.integers(lr.shape[1] - size + 1, size=self.candidates).tolist()
        places = zip(tops, lefts, strict=True)
        y, x = max(places, key=lambda place: detail(lr[place[0] : place[0] + size, place[1] : place[1] + size]))
        shown = frame - frame % pair.run + (frame + later) % pair.run
        if pool.filtered and rng.random() < pool.filtered:
            small, large = filtered_patch(pair.hr[shown], (y, x), size, scale, rng)
        else:
            small = pair.lr[shown][y : y + size, x : x + size]
            large = pair.hr[shown][y * scale : (y + size) * scale, x * scale : (x + size) * scale]
        position = int(rng.integers(8))
        return turned(small, position), turned(large, position)


def detail(patch: Pixels) -> int:
    """Sum of the absolute Laplacian of the green channel of (H, W, 3): how much there is to learn from a patch."""
    green = patch[:, :, 1].astype(np.int16)
    inner = green[1:-1, 1:-1] * 4
    around = green[:-2, 1:-1] + green[2:, 1:-1] + green[1:-1, :-2] + green[1:-1, 2:]
    return int(np.abs(inner - around).sum(dtype=np.int64))


def turned(picture: Pixels, position: int) -> Pixels:
    """(H, W, 3) in one of its eight positions (0..7): two flips and a transposition, 0 as it is."""
    if position & 1:
        picture = picture[:, ::-1]
    if position & 2:
        picture = picture[::-1]
    if position & 4:
        picture = picture.swapaxes(0, 1)
    return picture


def _stacked(pictures: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    # (N, H, W, 3) seen as (N, 3, H, W) is what torch calls channels_last, the quicker layout for convolutions.
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
