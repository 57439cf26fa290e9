"""RCAN checkpoints: read strictly, whoever made them, and written as safetensors that describe themselves.

    bytes -> read_content -> recognise -> infer -> build -> RCAN

Each step is a function of its input alone and raises WeightsError with the reason; ``from_bytes`` puts the file's
name before it. Nobody states the configuration: the tensors' shapes are the configuration, and ``sub_mean.bias``
tells the range. What tensors cannot tell (activation, residual scale, the range without a mean) comes from the
layout, or from the metadata of a file that ``save`` wrote.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from rcan_video import durable
from rcan_video.errors import OutputError, WeightsError
from rcan_video.network.files import read_bytes, read_content
from rcan_video.network.layouts import Layout, State, children, few, recognise
from rcan_video.network.rcan import DIV2K_MEAN, RCAN, RCANConfig

CONFIG_KEY = "rcan_config"
_RESERVED = ("format", "architecture", CONFIG_KEY)

_MEANS = (DIV2K_MEAN, (0.4690, 0.4490, 0.4036))  # DIV2K, DF2K
_USUAL_RANGES = (1.0, 255.0)


def load(path: str | Path) -> RCAN:
    """The network in the file: eval mode, float32, on the CPU, without gradients.

    Raises WeightsError, one sentence that names the file and the reason.
    """
    return from_bytes(read_bytes(path), str(path))


def from_bytes(content: bytes, name: str) -> RCAN:
    """The network in a checkpoint file's ``content``; ``name`` is for messages. Raises WeightsError as ``load``."""
    try:
        stored, metadata = read_content(content)
        state, layout = recognise(stored)
        config = infer(state, layout, stated_config(metadata))
        return build(state, config)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error


def save(net: RCAN, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``net`` as safetensors in the official layout, its configuration as JSON in the metadata.

    The file appears whole or not at all. ``metadata`` adds text of the caller's own, under keys other than
    "format", "architecture" and "rcan_config" (ValueError). Raises OutputError where the file cannot be written.
    """
    path = Path(path)
    if taken := [key for key in metadata or {} if key in _RESERVED]:
        raise ValueError(f"metadata keys {taken} are taken")
    state = {
        key: tensor.detach().to("cpu", torch.float32, memory_format=torch.contiguous_format)
        for key, tensor in net.state_dict().items()
    }
    described = {
        "format": "pt",
        "architecture": "RCAN",
        CONFIG_KEY: json.dumps(asdict(net.config)),
        **(metadata or {}),
    }
    content = _in_order(safetensors.torch.save(state, described))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # same folder, so that the rename is atomic
    try:
        try:
            part.write_bytes(content)
            durable.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: the weights cannot be written: {error.strerror}") from error


def _in_order(content: bytes) -> bytes:
    """The same file, its header sorted: safetensors writes metadata in another order in each process, and a file is
    recognised by the hash of its bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned, as the format recommends
    return len(header).to_bytes(8, "little") + header + content[end:]


# --- infer: the configuration -----------------------------------------------------------------------------------------


def stated_config(metadata: Mapping[str, str]) -> RCANConfig | None:
    """The configuration that ``save`` stated, or None for a file of other making."""
    if CONFIG_KEY not in metadata:
        return None
    try:
        return RCANConfig(**json.loads(metadata[CONFIG_KEY]))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"has a {CONFIG_KEY} in its metadata that is no configuration ({error})") from error


def infer(state: State, layout: Layout, stated: RCANConfig | None) -> RCANConfig:
    """The configuration by the shapes; the rest by the layout, or as ``stated``, which must agree with the shapes."""
    colors, features = _conv_shape(state, "tail.1.weight")
    squeezed, _ = _conv_shape(state, "body.0.body.0.body.3.conv_du.0.weight")
    unshuffle = 1
    if "head.1.weight" in state:
        unshuffle = math.isqrt(_conv_shape(state, "head.1.weight")[1] // colors)
    stages = [key for key in state if re.fullmatch(r"tail\.0\.\d+\.weight", key)]
    mean_shift = "sub_mean.bias" in state
    told_range = range_of_mean(state["sub_mean.bias"]) if mean_shift and stated is None else 1.0
    try:
        config = RCANConfig(
            groups=children(state, "body") - 1,
            blocks=children(state, "body.0.body") - 1,
            features=features,
            reduction=features // squeezed,
            colors=colors,
            upscale=math.prod(math.isqrt(_conv_shape(state, key)[0] // features) for key in stages),
            unshuffle=unshuffle,
            rgb_range=stated.rgb_range if stated else told_range,
            mean_shift=mean_shift,
            activation=stated.activation if stated else layout.activation,
            residual_scale=stated.residual_scale if stated else layout.residual_scale,
        )
    except ValueError as error:
        raise WeightsError(f"has shapes that make no RCAN: {error}") from error
    # Several reductions squeeze to the same width (20 features to 3 by 5 or 6), so the width is what must agree.
    if stated is not None and (
        replace(stated, reduction=config.reduction) != config or stated.features // stated.reduction != squeezed
    ):
        raise WeightsError(f"has a {CONFIG_KEY} in its metadata that its tensors contradict")
    return config


def _conv_shape(state: State, key: str) -> tuple[int, int]:
    """(outputs, inputs) of a convolution."""
    if key not in state:
        raise WeightsError(f"lacks {key}, which every RCAN has")
    shape = state[key].shape
    if len(shape) != 4 or 0 in shape:
        raise WeightsError(f"has a {key} of shape {tuple(shape)}, which is no convolution")
    return shape[0], shape[1]


def range_of_mean(bias: Tensor) -> float:
    """The range that makes a known mean of ``sub_mean.bias``: 255 for (-114.4, -111.5, -103.0).

    The official code left the mean trainable, so a bias near none of the means is read as the usual range nearest
    to it. Raises WeightsError where none is near.
    """
    if bias.shape != (3,):
        raise WeightsError(f"has a sub_mean.bias of shape {tuple(bias.shape)} where (3,) belongs")
    shift = -bias.double()
    for known in _MEANS:
        mean = torch.tensor(known, dtype=torch.float64)
        scale = float(shift @ mean / (mean @ mean))
        if scale > 0 and torch.allclose(shift / scale, mean, rtol=0, atol=2e-3):
            return float(round(scale)) if scale > 2 else 1.0
    share = float(shift.mean() / sum(DIV2K_MEAN) * 3)
    for usual in _USUAL_RANGES:
        if 0.5 < share / usual < 2:
            return usual
    raise WeightsError(f"has a sub_mean.bias of {bias.tolist()}, from which no range can be told")


# --- build: strictly --------------------------------------------------------------------------------------------------


def build(state: State, config: RCANConfig) -> RCAN:
    """The network with these tensors; every key, shape and value is checked before."""
    with torch.device("meta"):  # no memory and no random numbers for what is replaced at once
        net = RCAN(config)
    shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    if unknown := [key for key in state if key not in shapes]:
        raise WeightsError(f"has keys that its RCAN ({_describe(config)}) does not know: {few(unknown)}")
    if missing := [key for key in shapes if key not in state]:
        raise WeightsError(f"lacks keys of its RCAN ({_describe(config)}): {few(missing)}")
    if wrong := [
        f"{key} {tuple(state[key].shape)} instead of {shape}"
        for key, shape in shapes.items()
        if tuple(state[key].shape) != shape
    ]:
        raise WeightsError(f"has tensors of the wrong shape: {few(wrong)}")
    if integers := [key for key, tensor in state.items() if not tensor.is_floating_point()]:
        raise WeightsError(f"has tensors that are not of floating point: {few(integers)}")
    # A view that repeats its few numbers (stride 0) would become as large as it claims to be.
    if hollow := [k for k, t in state.items() if t.untyped_storage().nbytes() < t.numel() * t.element_size()]:
        raise WeightsError(f"has tensors that claim more numbers than the file holds: {few(hollow)}")
    weights = {key: state[key].detach().to(torch.float32).contiguous() for key in shapes}
    if broken := [key for key, tensor in weights.items() if not bool(tensor.isfinite().all())]:
        raise WeightsError(f"has weights that are not finite: {few(broken)}; take another file")
    net.load_state_dict(weights, strict=True, assign=True)
    return net.eval().requires_grad_(False)


def _describe(config: RCANConfig) -> str:
    return f"{config.groups}x{config.blocks} blocks of {config.features} features, x{config.scale}"
