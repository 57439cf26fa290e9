"""Equivariant networks: what comes out of a turned picture is turned, when training begins, and when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from train_helpers import Watched, small_options, write_textures

from rcan_video import errors
from rcan_video.network import checkpoint
from rcan_video.network.catalog import load_model
from rcan_video.network.picture import POSITIONS, in_position
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.train.data import Patches
from rcan_video.train.loop import train
from rcan_video.train.prepare import prepare
from rcan_video.train.start import load_init, starting_point, structure
from rcan_video.train.symmetry import Mean, asymmetry, keep_symmetric, symmetrise
from rcan_video.train.tails import shortened

FLIPS = range(4)  # of the positions of ``in_position``


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_textures(tmp_path / "pictures", 3)


def trained(pictures: Path, **changes: Any) -> tuple[Watched, Path]:
    watched, options = Watched(), small_options(pictures, **changes)
    train(options, watched)
    return watched, Path(options.output)


@torch.no_grad()
def difference(net: RCAN, position: int, side: int = 12) -> float:
    """What it makes of a picture against what it makes of that in another position, as a share of the range."""
    torch.manual_seed(1)
    x = torch.rand(2, 3, side, side + 4) * net.config.rgb_range
    return float((net(x) - in_position(net, x, position)).abs().max()) / net.config.rgb_range


def random_net(short: bool = False, **changes: Any) -> RCAN:
    torch.manual_seed(3)
    net = RCAN(RCANConfig(**{"groups": 2, "blocks": 2, "features": 24, "reduction": 4, "rgb_range": 1.0} | changes))
    return shortened(net) if short else net


@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize(
    "changes",
    [
        *({"short": True, "upscale": upscale} for upscale in (2, 3, 4)),
        *({"upscale": upscale} for upscale in (1, 2, 3, 4)),
        {"upscale": 4, "unshuffle": 2},
        {"upscale": 8, "unshuffle": 2, "short": True},
        {"activation": "silu", "residual_scale": 0.5},
        {"mean_shift": False},
        {"rgb_range": 255.0},
    ],
    ids=str,
)
def test_a_symmetrised_network_makes_of_a_turned_picture_the_same_turned(changes: dict[str, Any], order: int) -> None:
    net = random_net(**changes)
    assert min(difference(net, position) for position in range(1, POSITIONS)) > 1e-3
    symmetrise(net, order)
    for position in FLIPS if order == 4 else range(POSITIONS):
        assert difference(net, position) < 1e-5
    if order == 4:
        assert difference(net, 4) > 1e-3  # a transposition is another matter
    again = {name: parameter.clone() for name, parameter in net.named_parameters()}
    symmetrise(net, order)
    for name, parameter in net.named_parameters():
        assert torch.allclose(parameter, again[name], rtol=0, atol=1e-6), name


def test_asymmetry_is_of_what_order_it_is_asked_for() -> None:
    net = random_net()
    assert asymmetry(net, 8) > 0.1
    symmetrise(net, 4)
    assert asymmetry(net, 4) < 1e-6 and asymmetry(net, 8) > 0.1
    symmetrise(net, 8)
    assert asymmetry(net, 8) < 1e-6


def test_the_gradient_of_a_mean_is_what_autograd_says() -> None:
    net = random_net()
    keep_symmetric(net, 8)
    found = {id(module): module for module in net.modules() if isinstance(module, Mean)}
    assert len(found) == len(list(net.parameters())) - 4  # all but the mean shifts
    for mean in found.values():
        places = mean.get_buffer("places")
        values = torch.randn(places.shape[1], dtype=torch.float64, requires_grad=True)
        weights = torch.randn_like(values)
        (theirs,) = torch.autograd.grad(values[places].mean(0) @ weights, values)
        (mine,) = torch.autograd.grad(mean(values) @ weights, values)
        assert torch.allclose(mine, theirs)


def test_a_new_network_begins_equivariant_with_all_colours_and_as_large_kernels(pictures: Path) -> None:
    options = small_options(pictures, features=24, equivariant=8)
    net = starting_point(structure(options, None), None, prepared(pictures), options)
    plain = starting_point(structure(options, None), None, prepared(pictures), small_options(pictures, features=24))
    assert max(difference(net, position) for position in range(POSITIONS)) < 1e-5
    x = torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        assert torch.equal(net.head(x), x.repeat_interleave(8, dim=1))
        for name, parameter in net.named_parameters():
            if name.startswith("body") and parameter.shape[2:] == (3, 3):
                assert float(parameter.std()) == pytest.approx(float(plain.get_parameter(name).std()), rel=0.25), name


def prepared(pictures: Path) -> Patches:
    return prepare(small_options(pictures), lambda text: None).patches


TRAINED: dict[str, dict[str, Any]] = {
    "with factors": {"features": 12, "equivariant": 4},
    "Muon, bf16": {"features": 24, "equivariant": 8, "factors": False, "optimizer": "muon", "precision": "bf16"},
    "standard tail": {"features": 24, "equivariant": 8, "tail": "standard", "scale": 4},
    "unshuffle": {"features": 24, "equivariant": 8, "unshuffle": True},
}


@pytest.mark.parametrize("name", TRAINED)
def test_it_stays_equivariant_while_it_learns(pictures: Path, name: str) -> None:
    changes = TRAINED[name]
    watched, output = trained(pictures, iterations=24, warmup=4, **changes)
    net = checkpoint.load(output)
    for position in FLIPS if changes["equivariant"] == 4 else range(POSITIONS):
        assert difference(net, position) < 1e-5
    options = small_options(pictures, **changes)
    begun = starting_point(structure(options, None), None, prepare(options, lambda text: None).patches, options)
    moved = [name for name, p in begun.body.named_parameters() if not torch.equal(p, net.body.state_dict()[name])]
    assert len(moved) == len(list(begun.body.parameters()))  # every kernel and bias of it trains
    assert sum(watched.losses[-8:]) < sum(watched.losses[:8])


def test_without_it_training_leaves_symmetry(pictures: Path) -> None:
    _, first = trained(pictures, features=24, equivariant=8, output=str(pictures.parent / "first.safetensors"))
    _, output = trained(pictures, features=None, groups=None, blocks=None, init=str(first), iterations=24)
    assert difference(checkpoint.load(output), 4) > 1e-5


@pytest.mark.parametrize("scale", [2, 3])
def test_it_goes_on_from_an_equivariant_checkpoint(pictures: Path, scale: int) -> None:
    _, first = trained(pictures, features=24, equivariant=8, output=str(pictures.parent / "first.safetensors"))
    same = {"features": None, "groups": None, "blocks": None, "init": str(first), "scale": scale}
    _, output = trained(pictures, **same, equivariant=8, iterations=4)
    net, init = checkpoint.load(output), checkpoint.load(first)
    assert max(difference(net, position) for position in range(POSITIONS)) < 1e-5
    options = small_options(pictures, **same, equivariant=8)
    begun = starting_point(structure(options, init), init, prepare(options, lambda text: None).patches, options)
    for name, parameter in begun.body.named_parameters():
        assert torch.allclose(parameter, init.body.state_dict()[name], rtol=0, atol=1e-6), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"features": 20, "equivariant": 8},
            "--equivariant 8 takes a multiple of 8, 24 or more, for --features, not 20",
        ),
        (
            {"features": 16, "equivariant": 8},
            "--equivariant 8 takes a multiple of 8, 24 or more, for --features, not 16",
        ),
        ({"features": 8, "equivariant": 4}, "--equivariant 4 takes a multiple of 4, 12 or more, for --features, not 8"),
        (
            {"init": "base", "features": 36, "reduction": 9, "equivariant": 8},
            "takes a multiple of 8 for --features, not 36",
        ),
    ],
)
def test_what_has_no_fields_is_refused(pictures: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.UsageError, match=words):
        trained(pictures, **{"groups": None, "blocks": None} | changes)


def test_a_checkpoint_that_is_not_equivariant_is_refused(pictures: Path) -> None:
    checkpoint.save(random_net(), pictures.parent / "plain.safetensors")
    same = {"features": None, "groups": None, "blocks": None, "init": str(pictures.parent / "plain.safetensors")}
    with pytest.raises(errors.UsageError, match=r"was not trained with --equivariant 8; leave it out, or --init"):
        trained(pictures, **same, equivariant=8)


def test_another_equivariance_is_another_training(pictures: Path) -> None:
    trained(pictures, features=24, equivariant=8)
    with pytest.raises(errors.UsageError, match=r"another equivariant \(8, not 4\)"):
        trained(pictures, features=24, equivariant=4)


@pytest.mark.parametrize(("model", "scale", "begun"), [("fast", 3, 3), ("base", 4, 4), ("fast-video", 3, 2)])
def test_a_bundled_name_to_begin_as_is_of_the_scale_that_is_trained(model: str, scale: int, begun: int) -> None:
    assert load_init(model, scale).sha256 == load_model(model, begun).sha256
    path = str(load_model(model, begun).path)
    assert load_init(path, 2).scale == begun  # a file is what it is
