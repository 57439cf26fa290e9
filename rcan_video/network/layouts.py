"""The state dict of an RCAN in whatever a training program stored, under the names of the official code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rcan_video.errors import WeightsError
from rcan_video.network.rcan import DIV2K_MEAN, Activation

State = Mapping[str, Tensor]

_AVERAGED = ("params_ema", "ema", "average")
_WRAPPERS = (*_AVERAGED, "params", "state_dict", "model_state_dict", "model", "net", "generator", "netG")
_MAX_WRAPPERS = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """One naming of the parameters, told by ``marker``, and what it implies without storing it."""

    marker: str
    rename: Callable[[State], State]
    activation: Activation = "relu"
    residual_scale: float = 1.0


def recognise(stored: object) -> tuple[State, Layout]:
    """The parameters in what a checkpoint holds, renamed as in the official code, and the layout that they were in.

    Raises WeightsError, without the file's name.
    """
    state = _strip_prefix(_unwrap(stored))
    layout = _classify(state)
    return layout.rename(state), layout


def _unwrap(stored: object) -> State:
    """The state dict inside what training programs wrap around it; an averaged one is preferred."""
    for _ in range(_MAX_WRAPPERS):
        if isinstance(stored, (tuple, list)):
            stored = next((item for item in stored if isinstance(item, Mapping)), None)
        if not isinstance(stored, Mapping):
            raise WeightsError("holds no state dict")
        inner = next((stored[key] for key in _WRAPPERS if isinstance(stored.get(key), (Mapping, tuple, list))), None)
        if inner is None:
            break
        stored = inner
    if not isinstance(stored, Mapping) or not stored:
        raise WeightsError("holds no state dict")
    if strange := [str(key) for key, value in stored.items() if not (isinstance(key, str) and _is_dense(value))]:
        raise WeightsError(f"has entries that are no tensors, so it is no state dict: {few(strange)}")
    return dict(stored)


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized and not value.is_meta


def _strip_prefix(state: State) -> State:
    """Drop what all the names share up to a dot (``module.``, ``model.``, ``netG.``): an RCAN has several parts."""
    while True:
        heads = {key.partition(".")[::2] for key in state}
        if len({head for head, _ in heads}) != 1 or not all(rest for _, rest in heads):
            return state
        state = {key.partition(".")[2]: tensor for key, tensor in state.items()}


def _classify(state: State) -> Layout:
    """The layout by the names of its channel attention, which differ in each."""
    for layout in _LAYOUTS:
        if any(layout.marker in key for key in state):
            return layout
    if any(".ca.fc1." in key for key in state):
        raise WeightsError(
            "is the BAM variant of super-image, which adds spatial attention to RCAN; "
            "give a plain RCAN, this network is not supported"
        )
    raise WeightsError(f"is of another architecture, no channel attention of an RCAN is in it: {few(state)}")


def _from_rcan_it(state: State) -> State:
    return {key.replace(".excitation.", ".conv_du."): tensor for key, tensor in state.items()}


def _from_basicsr(state: State) -> State:
    """BasicSR keeps the mean in code (DIV2K, range 255): it is put where the official layout has it."""
    groups = children(state, "body")
    rules = [
        (r"conv_first\.", "head.0."),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1\.", r"body.\1.body.\2.body.3.conv_du.0."),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3\.", r"body.\1.body.\2.body.3.conv_du.2."),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.([02])\.", r"body.\1.body.\2.body.\3."),
        *(
            (rf"body\.{group}\.conv\.", f"body.{group}.body.{children(state, f'body.{group}.residual_group')}.")
            for group in range(groups)
        ),
        (r"conv_after_body\.", f"body.{groups}."),
        (r"upsample\.", "tail.0."),
        (r"conv_last\.", "tail.1."),
    ]

    def official(key: str) -> str:
        for pattern, name in rules:
            renamed, hits = re.subn(f"^{pattern}", name, key)
            if hits:
                return renamed
        raise WeightsError(f"looks like BasicSR's RCAN, but has a key that is not part of it: {key}")

    mean = 255.0 * torch.tensor(DIV2K_MEAN)
    identity = torch.eye(3).view(3, 3, 1, 1)
    return {
        "sub_mean.weight": identity,
        "sub_mean.bias": -mean,
        "add_mean.weight": identity.clone(),
        "add_mean.bias": mean,
        **{official(key): tensor for key, tensor in state.items()},
    }


_LAYOUTS = (
    Layout(".conv_du.", dict),
    Layout(".excitation.", _from_rcan_it, activation="silu", residual_scale=0.1),
    Layout(".rcab.3.attention.", _from_basicsr),
)


def children(state: State, parent: str) -> int:
    """How many numbered parts ``parent`` has."""
    pattern = re.compile(rf"{re.escape(parent)}\.(\d+)\.")
    return len({match[1] for key in state if (match := pattern.match(key))})


def few(items: Iterable[str], most: int = 3) -> str:
    """The first ``most`` of them, for a message, and how many more there are."""
    names = list(items)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
