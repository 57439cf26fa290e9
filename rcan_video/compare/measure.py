"""Figures of frames, and which of them are worth a look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rcan_video.compare.clips import Clip, Shown, matched
from rcan_video.errors import InputError
from rcan_video.metrics import SSIM_WINDOW, Pixels, luma_bt601, psnr, sharpness, ssim
from rcan_video.options import CompareOptions
from rcan_video.resize import resize

KERNEL, KERNEL_NAME = "lanczos", "Lanczos"
"""How the source is enlarged, to be held against the output."""

DETAIL, MOTION, HARDEST = "most detail", "most motion", "hardest"
_REASONS = (DETAIL, MOTION, HARDEST)
_ALIKE = 20.0  # dB; frames of different clips have 7 to 20 of each other, 12 in the median (eight clips, 320x180)

_Luma = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """One frame of the output. ``at``: seconds from its first frame; ``index`` and ``source`` count frames from 0;
    ``late`` is how many seconds it is shown after the source's. All on BT.601 luma in grey levels and dB: ``sharpness``
    is the root mean square of the gradient, ``fidelity`` the PSNR of the output, reduced to the source's size, against
    the source, ``motion`` the mean difference between the source's frame and the one before, None for the first.
    ``psnr`` and ``ssim`` are against the reference; those called plain are of the source, enlarged."""

    at: float
    index: int
    source: int
    late: float
    sharpness: float
    sharpness_plain: float
    fidelity: float
    motion: float | None
    psnr: float | None = None
    ssim: float | None = None
    psnr_plain: float | None = None
    ssim_plain: float | None = None


@dataclass(frozen=True, slots=True)
class Still:
    """A frame to look at, and why; pictures (H, W, 3) RGB of the source and of the output."""

    figures: Figures
    reasons: tuple[str, ...]
    source: Pixels
    output: Pixels


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a pass over both videos found. ``frames`` of the output were seen; ``figures`` are of every ``step``-th."""

    frames: int
    step: int
    figures: tuple[Figures, ...]
    stills: tuple[Still, ...]

    @property
    def alike(self) -> bool:
        """Whether the output looks as if it had been made of the source."""
        return float(np.median([f.fidelity for f in self.figures])) >= _ALIKE


def measure(source: Clip, output: Clip, reference: Clip | None, options: CompareOptions) -> Comparison:
    """Read all of both videos, and measure as many frames as ``options`` allow, evenly spread. Raises InputError."""
    _check_sizes(source, output, reference)
    expected = output.expected
    if options.duration is not None:
        expected = min(expected, math.ceil(options.duration * output.info.rate))
    step = max(1, math.ceil(expected / options.samples))
    chosen = _Chosen(expected, options.stills)
    found: list[Figures] = []
    frames = 0
    for shown, of, like in _together(source, output, reference):
        if options.duration is not None and shown.at >= options.duration:
            break
        frames += 1
        if (frames - 1) % step:
            continue
        small, large = source.pixels(of.frame), output.pixels(shown.frame)
        before = None if of.before is None else source.pixels(of.before)
        truth = None if like is None or reference is None else reference.pixels(like.frame)
        figures = _figures(shown, of, small, large, before, truth)
        found.append(figures)
        chosen.offer(figures, small, large)
    if not found:
        raise InputError(f"{options.output} has no frame to compare: name another, or leave --start out")
    return Comparison(frames, step, tuple(found), chosen.stills())


def enlarged(still: Still) -> Pixels:
    """The source's frame at the output's size."""
    return resize(still.source, still.output.shape[1], still.output.shape[0], KERNEL)


def _together(source: Clip, output: Clip, reference: Clip | None) -> Iterator[tuple[Shown, Shown, Shown | None]]:
    """Each frame of the output, with those of the source and of the reference that belong to it."""
    pairs = matched(output.shown(), source.shown())
    if reference is None:
        yield from ((shown, of, None) for shown, of in pairs)
        return
    of: list[Shown] = []  # of the frame that is being matched

    def outputs() -> Iterator[Shown]:
        for shown, mate in pairs:
            of[:] = [mate]
            yield shown

    for shown, like in matched(outputs(), reference.shown()):
        yield shown, of[0], like


def _figures(
    shown: Shown, of: Shown, small: Pixels, large: Pixels, before: Pixels | None, truth: Pixels | None
) -> Figures:
    size = large.shape[1], large.shape[0]
    luma = luma_bt601(small)
    plain = resize(_codes(luma), *size, KERNEL).astype(np.float64)
    after = luma_bt601(large)
    reduced = resize(_codes(after), small.shape[1], small.shape[0])
    scores: dict[str, float] = {}
    if truth is not None:
        edge = max(1, round(size[0] / small.shape[1]))
        inner = slice(edge, -edge), slice(edge, -edge)
        wanted = luma_bt601(truth)[inner]
        scores = {
            "psnr": psnr(wanted, after[inner]),
            "ssim": ssim(wanted, after[inner]),
            "psnr_plain": psnr(wanted, plain[inner]),
            "ssim_plain": ssim(wanted, plain[inner]),
        }
    return Figures(
        at=float(shown.at),
        index=shown.frame.index,
        source=of.frame.index,
        late=float(shown.at - of.at),
        sharpness=sharpness(after),
        sharpness_plain=sharpness(plain),
        fidelity=psnr(_codes(luma), reduced),
        motion=None if before is None else float(np.mean(np.abs(luma - luma_bt601(before)))),
        **scores,
    )


def _codes(luma: _Luma) -> Pixels:
    return np.rint(luma).astype(np.uint8)


def _check_sizes(source: Clip, output: Clip, reference: Clip | None) -> None:
    before, after = source.info, output.info
    if after.width < before.width or after.height < before.height:
        raise InputError(
            f"{after.path} is {after.width}x{after.height}, smaller than {before.path} of "
            f"{before.width}x{before.height}: give the source first and then the output"
        )
    if reference is None:
        return
    like = reference.info
    if (like.width, like.height) != (after.width, after.height):
        raise InputError(
            f"{like.path} is {like.width}x{like.height}, not {after.width}x{after.height} as {after.path}: "
            "give a reference of the output's size"
        )
    if min(after.width, after.height) - 2 * round(after.width / before.width) < SSIM_WINDOW:
        raise InputError(f"{after.path} is too small to be measured: leave --reference out")


class _Chosen:
    """The best frame of each reason in each part of the video, so that they are spread over it."""

    def __init__(self, expected: int, most: int) -> None:
        self._most = most
        self._part = max(1, math.ceil(expected / max(1, math.ceil(most / len(_REASONS)))))
        self._best: dict[tuple[int, str], tuple[float, Still]] = {}

    def offer(self, figures: Figures, source: Pixels, output: Pixels) -> None:
        hardness = -(figures.fidelity if figures.psnr is None else figures.psnr)
        merits = {DETAIL: figures.sharpness_plain, MOTION: figures.motion, HARDEST: hardness}
        part = figures.index // self._part
        for reason, merit in merits.items():
            held = self._best.get((part, reason))
            if merit is not None and (held is None or merit > held[0]):
                self._best[part, reason] = merit, Still(figures, (reason,), source, output)

    def stills(self) -> tuple[Still, ...]:
        """Each frame once, with all its reasons, in order of time."""
        found: dict[int, Still] = {}
        # By reason first: where there is no room for all, each part has its most detailed frame.
        for (_, reason), (_, still) in sorted(self._best.items(), key=lambda item: _REASONS.index(item[0][1])):
            known = found.get(still.figures.index)
            reasons = (*(known.reasons if known else ()), reason)
            if known is not None or len(found) < self._most:
                found[still.figures.index] = Still(still.figures, reasons, still.source, still.output)
        return tuple(still for _, still in sorted(found.items()))
