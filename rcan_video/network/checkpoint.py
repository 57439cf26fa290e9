"""Read every RCAN checkpoint that is about, strictly, and write safetensors that describe themselves.

    bytes -> read -> unwrap -> strip_prefix -> classify, rename -> infer -> check -> RCAN

Each step is a function of its input alone and raises WeightsError with the reason; ``from_bytes`` puts the file's
name before it. Nobody states the configuration: the tensors' shapes are the configuration, and ``sub_mean.bias``
tells the range. What tensors cannot tell (activation, residual scale, the range without a mean) comes from the
layout, or from the metadata of a file that ``save`` wrote.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from rcan_video.errors import OutputError, WeightsError
from rcan_video.network.files import ZIP_MAGIC, is_safetensors, read_bytes
from rcan_video.network.rcan import DIV2K_MEAN, RCAN, Activation, RCANConfig

State = Mapping[str, Tensor]

CONFIG_KEY = "rcan_config"
_RESERVED = ("format", "architecture", CONFIG_KEY)


_WRAPPERS = ("params_ema", "ema", "params", "state_dict", "model_state_dict", "model", "net", "generator", "netG")
_MAX_WRAPPERS = 4

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
        stored, metadata = read(content)
        state = strip_prefix(unwrap(stored))
        layout = classify(state)
        state = layout.rename(state)
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
    content = safetensors.torch.save(state, described)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # same folder, so that the rename is atomic
    try:
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: the weights cannot be written: {error.strerror}") from error


# --- read: bytes -> whatever the file holds, and its metadata ---------------------------------------------------------


def read(content: bytes) -> tuple[object, Mapping[str, str]]:
    """The unpickled object or the tensors of a safetensors file, and the latter's metadata."""
    if is_safetensors(content):
        return _read_safetensors(content)
    return _read_pickle(content), {}


def _read_safetensors(content: bytes) -> tuple[State, Mapping[str, str]]:
    header = int.from_bytes(content[:8], "little")
    if header > len(content) - 8:
        raise WeightsError("is a cut-off or damaged safetensors file: its header is longer than the file")
    try:
        tensors = safetensors.torch.load(content)
        metadata = json.loads(content[8 : 8 + header]).get("__metadata__", {})
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype that torch has not
        raise WeightsError(f"is a damaged safetensors file ({_first_line(error)})") from error
    return tensors, metadata


def _read_pickle(content: bytes) -> object:
    _check_unpacked_size(content)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL ([\w.]+)", str(error))
        if unsafe is None:
            raise WeightsError(f"is a damaged or foreign pickle ({_first_line(error)})") from error
        raise WeightsError(
            f"asks for {unsafe[1]} when loaded, and so could run code, which is never allowed; "
            "keep its state dict alone, or convert it to safetensors where you trust it"
        ) from error
    except Exception as error:
        # The one broad handler here: bytes that are damaged drive the unpickler into errors of any class.
        raise WeightsError(
            f"cannot be read as a PyTorch checkpoint, it may be cut off or damaged ({_first_line(error)})"
        ) from error


def _check_unpacked_size(content: bytes) -> None:
    """An archive that unpacks to more than it is could fill the memory. torch.save compresses nothing."""
    if not content.startswith(ZIP_MAGIC):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:  # as below
        raise WeightsError(
            f"cannot be read as a PyTorch checkpoint, it may be cut off or damaged ({_first_line(error)})"
        ) from error
    if unpacked > len(content):
        raise WeightsError(f"is a compressed archive that unpacks to {unpacked} bytes, which torch.save does not write")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no details'}"


# --- unwrap, strip_prefix: the state dict itself, under plain names ---------------------------------------------------


def unwrap(stored: object) -> State:
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
        raise WeightsError(f"has entries that are no tensors, so it is no state dict: {_few(strange)}")
    return dict(stored)


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized and not value.is_meta


def strip_prefix(state: State) -> State:
    """Drop what all the names share up to a dot (``module.``, ``model.``, ``netG.``): an RCAN has several parts."""
    while True:
        heads = {key.partition(".")[::2] for key in state}
        if len({head for head, _ in heads}) != 1 or not all(rest for _, rest in heads):
            return state
        state = {key.partition(".")[2]: tensor for key, tensor in state.items()}


# --- classify, rename: official names ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layout:
    """One naming of the parameters, told by ``marker``, and what it implies without storing it."""

    marker: str
    rename: Callable[[State], State]
    activation: Activation = "relu"
    residual_scale: float = 1.0


def classify(state: State) -> Layout:
    """The layout by the names of its channel attention, which differ in each."""
    for layout in _LAYOUTS:
        if any(layout.marker in key for key in state):
            return layout
    if any(".ca.fc1." in key for key in state):
        raise WeightsError(
            "is the BAM variant of super-image, which adds spatial attention to RCAN; "
            "give a plain RCAN, this network is not supported"
        )
    raise WeightsError(f"is of another architecture, no channel attention of an RCAN is in it: {_few(state)}")


def _from_rcan_it(state: State) -> State:
    return {key.replace(".excitation.", ".conv_du."): tensor for key, tensor in state.items()}


def _from_basicsr(state: State) -> State:
    """BasicSR keeps the mean in code (DIV2K, range 255): it is put where the official layout has it."""
    groups = _children(state, "body")
    rules = [
        (r"conv_first\.", "head.0."),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1\.", r"body.\1.body.\2.body.3.conv_du.0."),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3\.", r"body.\1.body.\2.body.3.conv_du.2."),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.([02])\.", r"body.\1.body.\2.body.\3."),
        *(
            (rf"body\.{group}\.conv\.", f"body.{group}.body.{_children(state, f'body.{group}.residual_group')}.")
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
            groups=_children(state, "body") - 1,
            blocks=_children(state, "body.0.body") - 1,
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


def _children(state: State, parent: str) -> int:
    """How many numbered parts ``parent`` has."""
    pattern = re.compile(rf"{re.escape(parent)}\.(\d+)\.")
    return len({match[1] for key in state if (match := pattern.match(key))})


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
        raise WeightsError(f"has keys that its RCAN ({_describe(config)}) does not know: {_few(unknown)}")
    if missing := [key for key in shapes if key not in state]:
        raise WeightsError(f"lacks keys of its RCAN ({_describe(config)}): {_few(missing)}")
    if wrong := [
        f"{key} {tuple(state[key].shape)} instead of {shape}"
        for key, shape in shapes.items()
        if tuple(state[key].shape) != shape
    ]:
        raise WeightsError(f"has tensors of the wrong shape: {_few(wrong)}")
    if integers := [key for key, tensor in state.items() if not tensor.is_floating_point()]:
        raise WeightsError(f"has tensors that are not of floating point: {_few(integers)}")
    # A view that repeats its few numbers (stride 0) would become as large as it claims to be.
    if hollow := [k for k, t in state.items() if t.untyped_storage().nbytes() < t.numel() * t.element_size()]:
        raise WeightsError(f"has tensors that claim more numbers than the file holds: {_few(hollow)}")
    weights = {key: state[key].detach().to(torch.float32).contiguous() for key in shapes}
    if broken := [key for key, tensor in weights.items() if not bool(tensor.isfinite().all())]:
        raise WeightsError(f"has weights that are not finite: {_few(broken)}")
    net.load_state_dict(weights, strict=True, assign=True)
    return net.eval().requires_grad_(False)


def _describe(config: RCANConfig) -> str:
    return f"{config.groups}x{config.blocks} blocks of {config.features} features, x{config.scale}"


def _few(items: Iterable[str], most: int = 3) -> str:
    names = list(items)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
