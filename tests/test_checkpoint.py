"""Every layout loads to the same network, whatever is wrong is one sentence, and what is saved comes back."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rcan_video.errors import OutputError, WeightsError
from rcan_video.network import checkpoint
from rcan_video.network.rcan import RCAN, RCANConfig

SMALL = {"groups": 2, "blocks": 3, "features": 8, "reduction": 4}
PLAIN = {"mean_shift": False, "rgb_range": 1.0}
OFFICIAL = RCANConfig(**SMALL, upscale=4)
RCAN_IT = replace(OFFICIAL, activation="silu", residual_scale=0.1)
State = dict[str, Tensor]


def network(config: RCANConfig) -> RCAN:
    torch.manual_seed(0)
    return RCAN(config).eval().requires_grad_(False)


def state_of(config: RCANConfig) -> State:
    return dict(network(config).state_dict())


def saved(content: object, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def refusal(content: bytes) -> str:
    """What is said about it: one sentence behind the file's name."""
    with pytest.raises(WeightsError) as caught:
        checkpoint.from_bytes(content, "some.pth")
    message = str(caught.value)
    assert message.startswith("some.pth: ")
    assert "\n" not in message and len(message) < 600
    return message


def to_basicsr(state: State) -> State:
    """The inverse of the loader's renaming, written the other way round."""
    renamed = {}
    for key, tensor in state.items():
        key = re.sub(r"^head\.0\.", "conv_first.", key)
        key = re.sub(r"^tail\.0\.", "upsample.", key)
        key = re.sub(r"^tail\.1\.", "conv_last.", key)
        key = re.sub(r"^body\.(\d)\.body\.3\.(weight|bias)", r"body.\1.conv.\2", key)
        key = re.sub(r"^body\.2\.(weight|bias)", r"conv_after_body.\1", key)
        key = re.sub(
            r"^body\.(\d)\.body\.(\d)\.body\.3\.conv_du\.0", r"body.\1.residual_group.\2.rcab.3.attention.1", key
        )
        key = re.sub(
            r"^body\.(\d)\.body\.(\d)\.body\.3\.conv_du\.2", r"body.\1.residual_group.\2.rcab.3.attention.3", key
        )
        key = re.sub(r"^body\.(\d)\.body\.(\d)\.body\.", r"body.\1.residual_group.\2.rcab.", key)
        if "_mean" not in key:
            renamed[key] = tensor
    return renamed


def to_rcan_it(state: State) -> State:
    return {key.replace("conv_du", "excitation"): tensor for key, tensor in state.items()}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


LAYOUTS: dict[str, tuple[RCANConfig, Callable[[State], object]]] = {
    **{f"official x{s}": (RCANConfig(**SMALL, upscale=s), lambda state: state) for s in (1, 2, 3, 4, 8)},
    "official range 1": (replace(OFFICIAL, rgb_range=1.0), lambda state: state),
    "DataParallel": (OFFICIAL, lambda state: prefixed("module.", state)),
    "wrapped": (OFFICIAL, lambda state: {"model": prefixed("module.", state), "epoch": 3}),
    "wrapped twice": (OFFICIAL, lambda state: {"model": {"state_dict": prefixed("netG._orig_mod.", state)}}),
    "averaged beside raw": (
        OFFICIAL,
        lambda state: {"params": {k: v + 1 for k, v in state.items()}, "params_ema": OrderedDict(state)},
    ),
    **{f"BasicSR x{s}": (RCANConfig(**SMALL, upscale=s), to_basicsr) for s in (2, 3, 4)},
    "BasicSR wrapped": (OFFICIAL, lambda state: {"params_ema": to_basicsr(state)}),
    **{f"rcan-it x{s}": (replace(RCAN_IT, upscale=s), to_rcan_it) for s in (2, 3, 4)},
    "rcan-it in a tuple": (
        RCAN_IT,
        lambda state: {"iteration": 9, "state_dict": (prefixed("model.", to_rcan_it(state)), 1)},
    ),
    "no mean shift": (RCANConfig(**SMALL, **PLAIN), lambda state: state),
    "one colour": (RCANConfig(**SMALL, **PLAIN, colors=1), lambda state: state),
    "unshuffle x1": (RCANConfig(**SMALL, **PLAIN, upscale=4, unshuffle=4), lambda state: state),
    "unshuffle x2": (RCANConfig(**SMALL, **PLAIN, upscale=4, unshuffle=2), lambda state: state),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_layout(layout: str, legacy: bool) -> None:
    config, convert = LAYOUTS[layout]
    state = state_of(config)
    net = checkpoint.from_bytes(saved(convert(state), legacy), "some.pth")
    assert net.config == config
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    loaded = net.state_dict()
    assert set(loaded) == set(state)
    for key, tensor in state.items():
        assert torch.equal(loaded[key], tensor), key
    x = config.rgb_range * torch.rand(1, config.colors, 5, 6)
    torch.testing.assert_close(net(x), network(config)(x))


def test_safetensors_without_our_metadata(tmp_path: Path) -> None:
    state = state_of(OFFICIAL)
    path = tmp_path / "called.pth"  # the suffix does not matter
    path.write_bytes(safetensors.torch.save(prefixed("module.", state), {"format": "pt"}))
    assert checkpoint.load(path).config == OFFICIAL


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype) -> None:
    state = {key: tensor.to(dtype) for key, tensor in state_of(RCANConfig(**SMALL, **PLAIN)).items()}
    for content in (saved(state), safetensors.torch.save(state)):
        loaded = checkpoint.from_bytes(content, "half").state_dict()
        assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
        assert all(torch.equal(tensor, state[key].float()) for key, tensor in loaded.items())


@pytest.mark.parametrize("hidden", [1, 2, 3, 6])
def test_reduction_by_width(hidden: int) -> None:
    config = RCANConfig(groups=1, blocks=1, features=20, reduction=20 // hidden, **PLAIN)
    net = checkpoint.from_bytes(saved(state_of(config)), "some.pth")
    assert net.config.features // net.config.reduction == hidden


# --- the range ---


@pytest.mark.parametrize("mean", [(0.4488, 0.4371, 0.4040), (0.4690, 0.4490, 0.4036)], ids=["DIV2K", "DF2K"])
@pytest.mark.parametrize("rgb_range", [1.0, 100.0, 255.0, 1023.0])
def test_range_of_known_means(mean: tuple[float, ...], rgb_range: float) -> None:
    assert checkpoint.range_of_mean(-rgb_range * torch.tensor(mean)) == rgb_range


@pytest.mark.parametrize("rgb_range", [1.0, 255.0])
def test_range_of_a_mean_that_was_trained(rgb_range: float) -> None:
    assert checkpoint.range_of_mean(-rgb_range * torch.tensor([0.41, 0.46, 0.43])) == rgb_range


@pytest.mark.parametrize("bias", [[0.0, 0.0, 0.0], [114.0, 111.0, 103.0], [-1e6, 2.0, 5.0], [float("nan")] * 3])
def test_no_range(bias: list[float]) -> None:
    with pytest.raises(WeightsError, match="no range can be told"):
        checkpoint.range_of_mean(torch.tensor(bias))


def test_the_mean_is_loaded_not_recomputed() -> None:
    state = state_of(OFFICIAL)
    state["sub_mean.bias"] = -255 * torch.tensor([0.41, 0.46, 0.43])
    net = checkpoint.from_bytes(saved(state), "some.pth")
    assert torch.equal(net.state_dict()["sub_mean.bias"], state["sub_mean.bias"])


# --- save ---


@pytest.mark.parametrize(
    "config", [OFFICIAL, replace(RCAN_IT, upscale=2), RCANConfig(**SMALL, **PLAIN, upscale=4, unshuffle=2)]
)
def test_what_is_saved_comes_back(config: RCANConfig, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    net = RCAN(config).to(memory_format=torch.channels_last)  # in training, and not contiguous
    checkpoint.save(net, path, {"licence": "MIT"})
    loaded = checkpoint.load(path)
    assert loaded.config == config
    for key, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["licence"] == "MIT"
        assert json.loads(file.metadata()["rcan_config"]) == asdict(config)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_metadata_tells_what_tensors_cannot(tmp_path: Path) -> None:
    config = RCANConfig(**SMALL, upscale=2, mean_shift=False, rgb_range=255.0, residual_scale=0.5)
    checkpoint.save(RCAN(config), tmp_path / "w")
    assert checkpoint.load(tmp_path / "w").config == config


def test_save_leaves_the_old_file_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"w\.safetensors: the weights cannot be written: No space left on device"):
        checkpoint.save(RCAN(OFFICIAL), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_save_keeps_its_own_metadata() -> None:
    with pytest.raises(ValueError, match="rcan_config"):
        checkpoint.save(RCAN(OFFICIAL), "unused", {"rcan_config": "{}"})


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("{", "is no configuration"),
        ("[1]", "is no configuration"),
        ('{"depth": 3}', "is no configuration"),
        ('{"groups": "two"}', "is no configuration"),
        (json.dumps(asdict(replace(OFFICIAL, blocks=4))), "its tensors contradict"),
    ],
)
def test_metadata_that_lies(stated: str, message: str) -> None:
    assert message in refusal(safetensors.torch.save(state_of(OFFICIAL), {"rcan_config": stated}))


# --- refusals: files ---


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("once upon a time {there} was no checkpoint")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    os.mkfifo(tmp_path / "pipe")
    for name, message in [
        ("missing.pth", "cannot be read: No such file or directory"),
        ("", "is a directory"),
        ("empty.pth", "is empty"),
        ("text.pth", "is no checkpoint"),
        ("plain.pkl", "is no checkpoint"),
        ("pipe", "is no regular file"),
        ("null\0byte", "cannot be read"),
        ("text.pth/inside", "cannot be read"),
    ]:
        with pytest.raises(WeightsError) as caught:
            checkpoint.load(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and message in str(caught.value)


def test_safetensors_with_a_header_beyond_its_end() -> None:
    content = safetensors.torch.save({"a": torch.zeros(2)})
    assert "header is longer than the file" in refusal(content[:40])
    assert "damaged safetensors" in refusal(content[:-1])
    assert "damaged safetensors" in refusal(content.replace(b'"F32"', b'"Q32"'))


class Evil:
    """Runs code in a loader that lets it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_wants_to_run_code(legacy: bool, tmp_path: Path) -> None:
    message = refusal(saved({**state_of(OFFICIAL), "x": Evil(tmp_path / "ran")}, legacy))
    assert "posix.mkdir" in message and "could run code" in message
    assert not (tmp_path / "ran").exists()


def test_an_archive_that_unpacks_to_more_than_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """250 kB of it would be 256 MB in memory, and so on: nothing of it is unpacked."""
    file = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(saved({**state_of(OFFICIAL), "x": torch.zeros(1 << 20)})))
    with source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in source.infolist():
            archive.writestr(entry.filename, source.read(entry))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    assert re.search(r"is a compressed archive that unpacks to 4\d{6} bytes", refusal(file.getvalue()))


def test_other_archives() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "hello")
    assert "cannot be read as a PyTorch checkpoint" in refusal(file.getvalue())
    assert "could run code" in refusal(saved(nn.Linear(2, 2)))


def test_loading_is_quick(tmp_path: Path) -> None:
    """torch._dynamo takes seconds to import, and some operations on the meta device do so."""
    path = tmp_path / "official.pth"
    path.write_bytes(saved(state_of(OFFICIAL)))
    assert "sub_mean.bias" in state_of(OFFICIAL)
    code = "import sys; from rcan_video.network.checkpoint import load; load(sys.argv[1]); "
    code += "print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


# --- refusals: contents ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"state_dict": {}}, "holds no state dict"),
        ({"epoch": 3, "w": torch.zeros(1)}, "entries that are no tensors.*: epoch"),
        ({1: torch.zeros(1)}, "entries that are no tensors"),
        ({"w": torch.zeros(2, 2).to_sparse()}, "entries that are no tensors"),
        (
            {"conv.weight": torch.zeros(1), "fc.weight": torch.zeros(1)},
            "another architecture.*: conv.weight, fc.weight",
        ),
        ({"a.conv_du.0.weight": torch.zeros(1), "b": torch.zeros(1)}, r"lacks tail\.1\.weight"),
        ({"body.0.body.0.body.3.ca.fc1.weight": torch.zeros(1), "head.0.weight": torch.zeros(1)}, "BAM variant"),
    ],
)
def test_no_rcan(content: object, message: str) -> None:
    assert re.search(message, refusal(saved(content)))


def _spoilt(change: Callable[[State], object]) -> str:
    state = state_of(OFFICIAL)
    change(state)
    return refusal(saved(state))


def test_wrong_keys_shapes_and_values() -> None:
    some = "body.1.body.2.body.2.weight"
    assert re.search(r"does not know: extra\.weight$", _spoilt(lambda s: s.update({"extra.weight": torch.zeros(1)})))
    assert re.search(rf"lacks keys .*: {re.escape(some)}$", _spoilt(lambda s: s.pop(some)))
    assert re.search(
        r"lacks keys .*: add_mean\.weight, add_mean\.bias$",
        _spoilt(lambda s: [s.pop(k) for k in list(s) if "add" in k]),
    )
    assert f"wrong shape: {some} (8, 8, 1, 1) instead of (8, 8, 3, 3)" in _spoilt(
        lambda s: s.update({some: torch.zeros(8, 8, 1, 1)})
    )
    assert f"not finite: {some}" in _spoilt(lambda s: s[some].fill_(float("nan")))
    assert f"not finite: {some}" in _spoilt(
        lambda s: s.update({some: torch.full((8, 8, 3, 3), 1e300, dtype=torch.float64)})
    )
    assert f"not of floating point: {some}" in _spoilt(
        lambda s: s.update({some: torch.zeros(8, 8, 3, 3, dtype=torch.int8)})
    )
    assert "is no convolution" in _spoilt(lambda s: s.update({"tail.1.weight": torch.zeros(3)}))
    assert "is no convolution" in _spoilt(lambda s: s.update({"tail.1.weight": torch.zeros(3, 0, 3, 3)}))
    assert "make no RCAN" in _spoilt(lambda s: s.update({"tail.0.0.weight": torch.zeros(72, 8, 3, 3)}))
    assert "where (3,) belongs" in _spoilt(lambda s: s.update({"sub_mean.bias": torch.zeros(1)}))


def test_only_a_few_keys_are_named() -> None:
    message = _spoilt(lambda s: s.update({f"extra.{n}": torch.zeros(1) for n in range(50)}))
    assert message.endswith("extra.0, extra.1, extra.2 and 47 more")


def test_a_strange_key_among_basicsr() -> None:
    state = to_basicsr(state_of(OFFICIAL)) | {"discriminator.weight": torch.zeros(1)}
    assert "looks like BasicSR's RCAN" in refusal(saved(state))


_CONTENTS = {
    "zip": saved(state_of(RCANConfig(groups=1, blocks=1, features=4, reduction=4))),
    "legacy": saved(state_of(RCANConfig(groups=1, blocks=1, features=4, reduction=4)), legacy=True),
    "safetensors": safetensors.torch.save(state_of(RCANConfig(groups=1, blocks=1, features=4, reduction=4))),
}


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    kind=st.sampled_from(sorted(_CONTENTS)),
    length=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    whole=st.booleans(),
    near_start=st.booleans(),
)
def test_damage_of_any_kind(
    kind: str, length: float, flips: list[tuple[float, int]], whole: bool, near_start: bool
) -> None:
    """Cut off and overwritten at random: loads, or says that it is damaged; never an error of another class."""
    content = bytearray(_CONTENTS[kind])
    if not whole:
        content = content[: 16 + int(length * (len(content) - 16))]
    for place, value in flips:
        content[int(place * (min(len(content), 600 if near_start else len(content)) - 1))] = value
    try:
        checkpoint.from_bytes(bytes(content), "some.pth")
    except WeightsError as error:
        assert "\n" not in str(error)
