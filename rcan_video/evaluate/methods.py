"""What enlarges: the two interpolations that everything is held against, and networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rcan_video.engine.backend import open_backend, resolve_device
from rcan_video.errors import UsageError
from rcan_video.metrics import Pixels
from rcan_video.network.catalog import load_model
from rcan_video.network.picture import PictureNet
from rcan_video.options import EvalOptions, ModelOptions
from rcan_video.resize import enlarge

BASELINES = {"bicubic": "bicubic", "Lanczos": "lanczos"}
"""Columns of the interpolations, and their kernels."""


@dataclass(frozen=True, slots=True)
class Method:
    """``enlarge`` takes (h, w, 3) uint8 RGB to (h * scale, w * scale, 3)."""

    name: str
    enlarge: Callable[[Pixels], Pixels]


def open_methods(options: EvalOptions) -> tuple[int, list[Method]]:
    """The scale, and what enlarges, interpolations first.

    Raises UsageError where nothing tells the scale, WeightsError for a model that there is not or that has another
    scale, DeviceError.
    """
    models = options.models or (() if options.results else (ModelOptions().model,))
    if options.self_ensemble and not models:
        raise UsageError("--self-ensemble is for a network: name one with --model")
    scale = options.scale
    networks = []
    backend = open_backend(resolve_device(options.device))  # also tells cuDNN that float32 means float32
    for model, name in zip(models, short_names(models), strict=True):
        net = load_model(model, scale).net
        scale = net.config.scale
        networks.append(Method(name, PictureNet(net, backend.device)))
        if options.self_ensemble:
            networks.append(Method(f"{name}+", PictureNet(net, backend.device, self_ensemble=True)))
    if scale is None:
        raise UsageError("nothing tells the scale of what --sr gives: add --scale")
    return scale, [
        *(Method(name, partial(enlarge, scale=scale, kernel=kernel)) for name, kernel in BASELINES.items()),
        *networks,
    ]


def short_names(places: Sequence[str]) -> list[str]:
    """What columns are called: the last two parts of each path, or all of it where that tells two of them not apart."""
    short = [Path(*Path(place).parts[-2:]).as_posix() for place in places]
    return short if len(set(short)) == len(set(places)) else list(places)
