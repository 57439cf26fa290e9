"""From the user's files to what the loop takes: pools of pairs to train on, and pairs to validate on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rcan_video.errors import InputError
from rcan_video.metrics import Pixels
from rcan_video.options import TrainOptions
from rcan_video.pictures import find
from rcan_video.train.data import Pair, Patches, Pool
from rcan_video.train.state import is_curve
from rcan_video.train.store import Footage, default_cache, load
from rcan_video.train.validate import Validation
from rcan_video.train.video import compressed_examples, compressed_pairs


@dataclass(frozen=True, slots=True)
class Prepared:
    """``digest`` names the content that was given, whatever its files are called; ``description`` is for
    people."""

    patches: Patches
    validation: Validation
    digest: str
    description: str


def prepare(options: TrainOptions, say: Callable[[str], None]) -> Prepared:
    """Decode, reduce and degrade whatever is not yet in the cache.

    Raises InputError where there is nothing large enough, OutputError where the cache cannot be written.
    """
    cache = Path(options.cache) if options.cache else default_cache()
    least = options.patch * options.scale
    paths = _pictures(options.data)
    held_out = _pictures([options.valid]) if options.valid is not None else []  # a wrong name is told at once
    found = load(paths, cache, say)
    # By content: whatever the files are called and wherever they lie, the same patches are drawn.
    footage = sorted((f for f in found if min(f.frames.shape[1:3]) >= least), key=lambda f: f.key)
    if not footage:
        raise InputError(
            f"{', '.join(options.data)}: nothing is as large as a patch, {least} pixels each way; "
            "give larger pictures or a smaller --patch"
        )
    digest = hashlib.sha256("".join(f.key for f in footage).encode()).hexdigest()
    clean = []
    for number, f in enumerate(footage, 1):
        say(f"reducing {number}/{len(footage)}: {f.path.name}")
        clean.append(Pair(f.reduced(options.scale), f.frames))
    pools = [Pool(clean, filtered=options.filtered)]
    if options.degradation == "video":
        made = compressed_pairs(footage, options.scale, options.sequences, options.seed, cache, say)
        pools = [Pool(clean, options.clean, options.filtered), Pool(made, 1 - options.clean)]
    validation: dict[str, Sequence[Pair]] = {}
    if options.valid is not None:
        enough = 4 * options.scale  # a border of ``scale`` does not count
        others = [f for f in load(held_out, cache, say) if min(f.frames.shape[1:3]) >= enough]
        if not others:
            raise InputError(f"{options.valid}: nothing has {enough} pixels each way; give larger ones")
        validation["psnr_y"] = [_first(f, options.scale) for f in others]
        if options.degradation == "video":
            validation["psnr_y_video"] = compressed_examples(others, options.scale, cache, say)
    pixels = sum(f.frames.shape[0] * f.frames.shape[1] * f.frames.shape[2] for f in footage)
    return Prepared(
        patches=Patches(
            pools,
            options.scale,
            options.patch,
            options.seed,
            frames=2 if options.temporal else 1,
            uniform=options.uniform,
        ),
        validation=Validation(validation),
        digest=digest,
        description=f"{len(footage)} files, {pixels / 1e6:.0f} megapixels",
    )


def _pictures(places: Sequence[str]) -> list[Path]:
    return [path for path in find(places) if not is_curve(path)]


def _first(footage: Footage, scale: int) -> Pair:
    """A picture, or the first frame of a video."""
    lr: Pixels = footage.reduced(scale)[:1]
    return Pair(lr, footage.frames[:1])
