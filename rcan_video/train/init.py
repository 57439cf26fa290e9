"""The checkpoint that a training begins from, or the mean of several.

Networks that went different ways from one ancestor may lie around a better one: part of what each has of its own is
noise of its batches, and goes out in the mean (Wortsman et al., arXiv 2203.05482; Izmailov et al., arXiv 1803.05407).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from rcan_video.errors import UsageError
from rcan_video.network.catalog import LoadedModel, entries, load_model
from rcan_video.network.rcan import RCAN
from rcan_video.train.tails import short_form


@dataclass(frozen=True, slots=True)
class Init:
    """``sha256`` is of the file's bytes, or of the files' hashes."""

    net: RCAN
    sha256: str


def load_init(models: tuple[str, ...], scale: int) -> Init | None:
    """The network called so, a bundled name or a path, that training for ``scale`` begins as, the mean of several in
    any order (one that is named twice counts twice), or None where there is none: of a bundled name the weights for
    that scale, where there are none those for 2.

    Raises WeightsError as ``load_model`` does, UsageError where several are not alike.
    """
    loaded = [_load(model, scale) for model in models]
    if len(loaded) < 2:
        return Init(loaded[0].net, loaded[0].sha256) if loaded else None
    _check_alike(models, [model.net for model in loaded])
    loaded.sort(key=lambda model: model.sha256)
    digest = hashlib.sha256("".join(model.sha256 for model in loaded).encode()).hexdigest()
    return Init(_mean([model.net for model in loaded]), digest)


def _load(model: str, scale: int) -> LoadedModel:
    bundled = any((entry.name, entry.scale) == (model, scale) for entry in entries())
    return load_model(model, scale if bundled else None)


def _check_alike(models: Sequence[str], nets: Sequence[RCAN]) -> None:
    first, *others = [asdict(net.config) | {"short tail": short_form(net) is not None} for net in nets]
    for model, other in zip(models[1:], others, strict=True):
        for name, value in other.items():
            if value != first[name]:
                raise UsageError(
                    f"{model}: has {name} {value}, {models[0]} has {first[name]}, so they have no mean; "
                    "leave one of them out"
                )


def _mean(nets: Sequence[RCAN]) -> RCAN:
    states = [net.state_dict() for net in nets]
    mean = RCAN(nets[0].config)
    mean.load_state_dict({name: torch.stack([state[name].double() for state in states]).mean(0) for name in states[0]})
    return mean.eval().requires_grad_(False)
