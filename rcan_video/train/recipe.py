"""Everything that the result of a training depends on but the number of iterations, which may grow: what a state is
recognised by, and what a checkpoint tells of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rcan_video.network.catalog import LoadedModel
from rcan_video.options import TrainOptions
from rcan_video.train.filters import VERSION as FILTERS_VERSION
from rcan_video.train.init import Init
from rcan_video.train.start import Structure

_ALWAYS = ("batch", "patch", "optimizer", "factors", "precision", "learning_rate", "warmup", "decay", "fourier", "seed")
_VIDEO = ("clean", "sequences", "temporal")  # with that degradation alone
_SWITCHES = ("filtered", "uniform", "equivariant", "squared", "compile")  # where they are on; compiled rounds otherwise
_SOURCES = ("init", "teacher")

WHERE_ON = (*_SWITCHES, "filtering", *_SOURCES)
"""Parts of a recipe that are there only where they are on: what a program of today knows and one of yesterday did not
is no other training as long as it is off."""


def chosen(options: TrainOptions) -> dict[str, Any]:
    """The options, by name, that the result depends on; checkpoints by their files' names: where they lay is nobody's
    business."""
    names = [*_ALWAYS, "degradation", *(_VIDEO if options.degradation == "video" else ())]
    found = {name: getattr(options, name) for name in names}
    found |= {name: value for name in _SWITCHES if (value := getattr(options, name))}
    if options.init:
        found["init"] = " + ".join(Path(given).name for given in options.init)
    if options.teacher:
        found["teacher"] = Path(options.teacher).name
    return found


def recipe(
    options: TrainOptions, shape: Structure, data: str, init: Init | None, teacher: LoadedModel | None
) -> Mapping[str, Any]:
    """The same with the structure, and ``data`` and checkpoints by their contents."""
    found = chosen(options) | asdict(shape.config) | {"tail": shape.tail, "data": data}
    if options.filtered:
        found["filtering"] = FILTERS_VERSION
    sources = zip(_SOURCES, (init, teacher), strict=True)
    return found | {name: model.sha256 for name, model in sources if model}
