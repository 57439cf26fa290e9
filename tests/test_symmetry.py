"""Equivariant networks: what comes out of a turned picture is turned, when training begins, and when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from train_helpers import Stopped, StopsAt, Watched, small_options, write_textures

from rcan_video import errors
from rcan_video.network import checkpoint
from rcan_video.network.picture import POSITIONS, in_position
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.train.data import Patches
from rcan_video.train.loop import train
from rcan_video.train.prepare import prepare
from rcan_video.train.start import starting_point, structure
from rcan_video.train.symmetry import Mean, asymmetry, keep_symmetric, mean, symmetrise
from rcan_video.train.tails import official, shortened

FLIPS = range(4)  # of the positions of ``in_position``
LIKE_INIT: dict[str, Any] = {"features": None, "groups": None, "blocks": None}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_textures(tmp_path / "pictures", 3)


def trained(pictures: Path, **changes: Any) -> tuple[Watched, Path]:
    watched, options = Watched(), small_options(pictures, **changes)
    train(options, watched)
    return watched, Path(options.output)


def prepared(pictures: Path, **changes: Any) -> Patches:
    return prepare(small_options(pictures, **changes), lambda text: None).patches


def begun(pictures: Path, as_: RCAN | None, **changes: Any) -> RCAN:
    """The network that training with these options begins with."""
    options = small_options(pictures, **changes)
    return starting_point(structure(options, as_), as_, prepared(pictures, **changes), options)


def random_net(**changes: Any) -> RCAN:
    torch.manual_seed(3)
    shape = {"groups": 2, "blocks": 2, "features": 24, "reduction": 4, "rgb_range": 1.0} | changes
    return shortened(RCAN(RCANConfig(**shape)))


@torch.no_grad()
def difference(net: RCAN, position: int, side: int = 12) -> float:
    """What it makes of a picture against what it makes of that in another position, as a share of the range."""
    torch.manual_seed(1)
    x = torch.rand(2, 3, side, side + 4) * net.config.rgb_range
    return float((net(x) - in_position(net, x, position)).abs().max()) / net.config.rgb_range


def largest_difference(net: RCAN, order: int, side: int = 12) -> float:
    return max(difference(net, position, side) for position in (FLIPS if order == 4 else range(POSITIONS)))


def spread(values: Tensor) -> float:
    return float(values.detach().std())


@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize(
    "changes",
    [
        *({"upscale": upscale} for upscale in (1, 2, 3, 4)),
        {"upscale": 4, "unshuffle": 2},
        {"upscale": 8, "unshuffle": 2, "features": 48},
        {"activation": "silu", "residual_scale": 0.5},
        {"mean_shift": False},
        {"rgb_range": 255.0},
    ],
    ids=str,
)
def test_a_symmetrised_network_makes_of_a_turned_picture_the_same_turned(changes: dict[str, Any], order: int) -> None:
    net = random_net(**changes)
    side = 12 if "unshuffle" in changes else 11  # which extends an odd side on the right and below alone
    assert min(difference(net, position, side) for position in range(1, POSITIONS)) > 1e-3
    symmetrise(net, order)
    assert largest_difference(net, order, side) < 1e-5
    if order == 4:
        assert difference(net, 4, side) > 1e-3  # a transposition is another matter
    again = {name: parameter.clone() for name, parameter in net.named_parameters()}
    symmetrise(net, order)
    for name, parameter in net.named_parameters():
        assert torch.allclose(parameter, again[name], rtol=0, atol=1e-6), name


def test_asymmetry_is_of_the_order_that_it_is_asked_for() -> None:
    net = random_net()
    assert asymmetry(net, 8) > 0.1
    symmetrise(net, 4)
    assert asymmetry(net, 4) < 1e-6 and asymmetry(net, 8) > 0.1
    symmetrise(net, 8)
    assert asymmetry(net, 8) < 1e-6 and asymmetry(net, 4) < 1e-6  # a field of eight is two of four


def test_the_gradient_of_a_mean_is_what_autograd_says() -> None:
    net = random_net(mean_shift=False)
    keep_symmetric(net, 8)
    found = {id(module.places): module.places for module in net.modules() if isinstance(module, Mean)}
    assert len(found) == 9  # of head, body, both of attention, tail, and biases: shared by all blocks
    assert not list(net.buffers())  # which torchrun would send about at every step
    for places in found.values():
        values = torch.randn(places.shape[1], dtype=torch.float64, requires_grad=True)
        weights = torch.randn_like(values)
        (theirs,) = torch.autograd.grad(values[places].mean(0) @ weights, values)
        (mine,) = torch.autograd.grad(mean(values, places) @ weights, values)
        assert torch.allclose(mine, theirs)


@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize(
    "changes",
    [{}, {"features": 40}, {"scale": 3}, {"scale": 4, "patch": 18}, {"unshuffle": True, "features": 48}],
    ids=str,
)
def test_a_new_network_begins_as_good_as_one_without(pictures: Path, changes: dict[str, Any], order: int) -> None:
    size = {"features": 24, "batch": 16, "patch": 24} | changes  # enough to fit a tail to
    plain, tied = (begun(pictures, None, **size, equivariant=number) for number in (0, order))
    assert largest_difference(tied, order) < 1e-5
    small, large = (samples.float() / 255 for samples in prepared(pictures, **size).batch(7, range(16)))
    with torch.no_grad():
        edge = 6 * large.shape[-1] // small.shape[-1]  # where padding is seen, which no tail was fitted to
        off = [(net(small) - large)[..., edge:-edge, edge:-edge] for net in (tied, plain)]
        with_ties, without = (float(error.square().mean()) for error in off)
    assert with_ties < 1.3 * without
    for name, parameter in tied.body.named_parameters():
        theirs = spread(plain.body.get_parameter(name))
        if name.endswith("weight"):  # as large as the others
            assert spread(parameter) == pytest.approx(theirs, rel=0.4), name
        else:
            assert spread(parameter) <= theirs + 1e-6, name
    if changes == {"features": 40}:
        assert spread(tied.head[-1].weight[24:]) == pytest.approx(spread(plain.head[-1].weight[24:]), rel=0.4)


def test_the_head_of_a_new_network_passes_each_colour_on_in_a_field_of_its_own(pictures: Path) -> None:
    x = torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        head = begun(pictures, None, features=24, equivariant=8).head
        assert torch.equal(head(x), x.repeat_interleave(8, dim=1))
        behind = begun(pictures, None, features=48, equivariant=8, unshuffle=True).head(x)
        for color in range(3):  # sees its four sub-pixels, each twice
            field = behind[:, color * 8 : color * 8 + 8]
            seen = F.pixel_unshuffle(x[:, color : color + 1], 2).repeat(1, 2, 1, 1)
            assert torch.allclose(field.sort(dim=1).values, seen.sort(dim=1).values, atol=1e-6)


TRAINED: dict[str, dict[str, Any]] = {
    "with factors": {"features": 12, "equivariant": 4},
    "Muon, bf16": {"features": 24, "equivariant": 8, "factors": False, "optimizer": "muon", "precision": "bf16"},
    "unshuffle": {"features": 48, "equivariant": 8, "unshuffle": True},
    "beside a teacher": {"features": 24, "equivariant": 8, "teacher": "fast"},
}


@pytest.mark.parametrize("name", TRAINED)
def test_it_stays_equivariant_while_it_learns(pictures: Path, name: str) -> None:
    changes = TRAINED[name]
    watched, output = trained(pictures, iterations=24, warmup=4, **changes)
    net = checkpoint.load(output)
    assert largest_difference(net, changes["equivariant"]) < 1e-5
    start = begun(pictures, None, **changes).body.state_dict()
    still = [name for name, values in net.body.state_dict().items() if torch.equal(values, start[name])]
    assert not still  # every kernel and bias of it trains
    assert sum(watched.losses[-8:]) < sum(watched.losses[:8])


def test_without_it_training_leaves_symmetry(pictures: Path) -> None:
    _, first = trained(pictures, features=24, equivariant=8, output=str(pictures.parent / "first.safetensors"))
    _, output = trained(pictures, **LIKE_INIT, init=(str(first),), iterations=24)
    assert difference(checkpoint.load(output), 4) > 1e-5


@pytest.mark.parametrize(
    "changes",
    [{}, {"features": 32, "reduction": 4}, {"blocks": 3}, {"groups": 2}, {"scale": 3}, {"equivariant": 4}],
    ids=str,
)
def test_it_begins_as_an_equivariant_checkpoint(pictures: Path, changes: dict[str, Any]) -> None:
    _, first = trained(pictures, features=24, equivariant=8, output=str(pictures.parent / "first.safetensors"))
    asked = LIKE_INIT | {"init": (str(first),), "equivariant": 8} | changes
    init = checkpoint.load(first)
    net = begun(pictures, init, **asked)
    assert largest_difference(net, 8) < 1e-5
    x = torch.rand(1, 3, 9, 13)
    with torch.no_grad():
        theirs, mine = init.head(x), net.head(x)
        assert torch.allclose(net.body(mine)[:, :24], init.body(theirs), rtol=0, atol=1e-5)
        if "scale" not in changes:
            assert torch.allclose(net(x), init(x), rtol=0, atol=1e-5)
    _, output = trained(pictures, **asked, iterations=4)
    assert largest_difference(checkpoint.load(output), asked["equivariant"]) < 1e-5


def test_resumed_it_is_the_unbroken_run(pictures: Path) -> None:
    changes = {"features": 24, "equivariant": 8, "factors": False, "optimizer": "muon"}
    _, whole = trained(pictures, **changes, output=str(pictures.parent / "whole.safetensors"))
    options = small_options(pictures, **changes, save_every=0.0)
    with pytest.raises(Stopped):
        train(options, StopsAt(6))
    watched = Watched()
    train(options, watched)
    assert watched.begun_at == 5
    one, other = (checkpoint.load(path).state_dict() for path in (whole, Path(options.output)))
    assert all(torch.equal(one[name], other[name]) for name in one)


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
        ({"features": 24, "equivariant": 8, "tail": "standard"}, "for networks with a short tail: give --tail short"),
    ],
)
def test_what_has_no_fields_is_refused(pictures: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.UsageError, match=words):
        trained(pictures, **changes)


def test_a_width_without_fields_is_refused_beside_a_checkpoint_with_them(pictures: Path) -> None:
    net = random_net()
    symmetrise(net, 8)
    checkpoint.save(official(net), pictures.parent / "tied.safetensors")
    asked = LIKE_INIT | {"init": (str(pictures.parent / "tied.safetensors"),), "features": 30, "equivariant": 8}
    with pytest.raises(errors.UsageError, match="takes a multiple of 8 for --features, not 30"):
        trained(pictures, **asked)


@pytest.mark.parametrize(("features", "more"), [(24, {}), (36, {}), (36, {"features": 40, "reduction": 4})])
def test_a_checkpoint_that_is_not_equivariant_is_refused(pictures: Path, features: int, more: dict[str, int]) -> None:
    checkpoint.save(official(random_net(features=features)), pictures.parent / "plain.safetensors")
    asked = LIKE_INIT | {"init": (str(pictures.parent / "plain.safetensors"),), "equivariant": 8} | more
    with pytest.raises(
        errors.UsageError, match=r"plain\.safetensors: not trained with --equivariant 8; leave out --equivariant, or"
    ):
        trained(pictures, **asked)


def test_another_equivariance_is_another_training(pictures: Path) -> None:
    trained(pictures, features=24, equivariant=8)
    with pytest.raises(errors.UsageError, match=r"another equivariant \(8, not 4\)"):
        trained(pictures, features=24, equivariant=4)
