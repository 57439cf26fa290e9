"""What a training begins from: bundled weights of the right scale, and the mean of several checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from click.testing import CliRunner
from train_helpers import Watched, small_options, write_textures

from rcan_video import errors
from rcan_video.commands.train import command
from rcan_video.network import checkpoint
from rcan_video.network.catalog import load_model
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.train.init import load_init
from rcan_video.train.loop import train
from rcan_video.train.tails import official, shortened
from rcan_video.train.validate import Validation

LIKE_INIT: dict[str, Any] = {"groups": None, "blocks": None, "features": None}
SMALL = RCANConfig(1, 1, 12, 4, mean_shift=False, rgb_range=1.0)


def network(path: Path, seed: int, config: RCANConfig = SMALL) -> str:
    torch.manual_seed(seed)
    checkpoint.save(RCAN(config), path)
    return str(path)


@pytest.fixture
def three(tmp_path: Path) -> tuple[str, ...]:
    return tuple(network(tmp_path / f"{seed}.safetensors", seed) for seed in range(3))


@pytest.mark.parametrize(("model", "scale", "found"), [("fast", 3, 3), ("base", 4, 4), ("fast-video", 3, 2)])
def test_a_bundled_name_is_of_the_scale_that_is_trained(model: str, scale: int, found: int) -> None:
    init = load_init((model,), scale)
    assert init is not None and init.sha256 == load_model(model, found).sha256
    init = load_init((str(load_model(model, found).path),), 2)
    assert init is not None and init.net.config.scale == found  # a file is what it is


def test_no_checkpoint_is_none() -> None:
    assert load_init((), 2) is None


def test_the_mean_is_of_every_parameter_and_every_network_counts_as_often_as_it_is_named(
    three: tuple[str, ...],
) -> None:
    once, twice = load_init(three, 2), load_init((*three, three[0]), 2)
    assert once is not None and twice is not None
    states = [checkpoint.load(Path(path)).state_dict() for path in three]
    for name, value in once.net.state_dict().items():
        assert torch.allclose(value, sum(state[name] for state in states) / 3, rtol=0, atol=1e-6)
    for name, value in twice.net.state_dict().items():
        assert torch.allclose(value, sum(states[n][name] for n in (0, 0, 1, 2)) / 4, rtol=0, atol=1e-6)
    assert once.sha256 != twice.sha256


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            replace(SMALL, blocks=2),
            r"odd\.safetensors: has blocks 2, .*0\.safetensors has 1, so they have no",
        ),
        (
            RCANConfig(1, 1, 12, 4),
            r"odd\.safetensors: has rgb_range 255\.0, .*0\.safetensors has 1\.0, so they have",
        ),
    ],
)
def test_networks_of_two_structures_have_no_mean(
    tmp_path: Path, three: tuple[str, ...], other: RCANConfig, words: str
) -> None:
    odd = network(tmp_path / "odd.safetensors", 9, other)
    with pytest.raises(errors.UsageError, match=words):
        load_init((*three, odd), 2)


def test_a_short_tail_and_a_standard_one_have_no_mean(tmp_path: Path, three: tuple[str, ...]) -> None:
    short = RCAN(SMALL).requires_grad_(False)
    checkpoint.save(official(shortened(short)), tmp_path / "short.safetensors")
    with pytest.raises(errors.UsageError, match=r"short\.safetensors: has short tail True, .*0\.safetensors has False"):
        load_init((three[0], str(tmp_path / "short.safetensors")), 2)


def test_the_order_does_not_matter_and_the_mean_has_no_gradients(three: tuple[str, ...]) -> None:
    one, other = load_init(three, 2), load_init(three[::-1], 2)
    assert one is not None and other is not None and one.sha256 == other.sha256
    for name, value in one.net.state_dict().items():
        assert torch.equal(value, other.net.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in one.net.parameters())


def test_a_pickled_checkpoint_in_half_precision_counts_as_any_other(tmp_path: Path, three: tuple[str, ...]) -> None:
    states = [checkpoint.load(Path(path)).state_dict() for path in three[:2]]
    torch.save({name: value.half() for name, value in states[1].items()}, tmp_path / "half.pt")
    whole = load_init((three[0], str(tmp_path / "half.pt")), 2)
    assert whole is not None
    for name, value in whole.net.state_dict().items():
        assert torch.allclose(value, (states[0][name] + states[1][name]) / 2, rtol=0, atol=1e-3)


def test_bundled_weights_and_a_file_of_another_scale_share_no_mean() -> None:
    path = str(load_model("fast", 2).path)
    both = load_init(("fast", path), 2)
    assert both is not None and both.net.config.scale == 2
    with pytest.raises(errors.UsageError, match=r"has upscale 2, fast has 3, so they have no mean; leave one"):
        load_init(("fast", path), 3)


def test_the_mean_gets_a_tail_of_another_scale(tmp_path: Path, three: tuple[str, ...]) -> None:
    pictures = write_textures(tmp_path / "pictures", 2)
    train(small_options(pictures, init=three, **LIKE_INIT, scale=3, iterations=0), Watched())
    found, init = checkpoint.load(tmp_path / "out.safetensors"), load_init(three, 3)
    assert init is not None and found.config == replace(init.net.config, upscale=3)
    for name, value in found.body.state_dict().items():
        assert torch.equal(value, init.net.body.state_dict()[name])


def test_the_beginning_can_be_asked_for_again_and_gone_on_from_but_not_afterwards(tmp_path: Path) -> None:
    pictures = write_textures(tmp_path / "pictures", 2)
    for _ in range(2):
        train(small_options(pictures, iterations=0, decay=0.0), Watched())
    beginning = checkpoint.load(tmp_path / "out.safetensors")
    train(small_options(pictures, iterations=3, decay=0.0), Watched())
    train(small_options(pictures, iterations=3, decay=0.0, output=str(tmp_path / "straight.safetensors")), Watched())
    straight, resumed = (checkpoint.load(tmp_path / name) for name in ("straight.safetensors", "out.safetensors"))
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, straight.state_dict()[name])
    assert not torch.equal(beginning.head[0].weight, resumed.head[0].weight)
    with pytest.raises(errors.UsageError, match=r"holds a training of 3 iterations already; give no less"):
        train(small_options(pictures, iterations=0, decay=0.0), Watched())


def test_no_iterations_write_what_training_would_begin_with(tmp_path: Path, three: tuple[str, ...]) -> None:
    pictures = write_textures(tmp_path / "pictures", 2)
    out = tmp_path / "mean.safetensors"
    line = [str(pictures), str(out), "-n", "0", "--valid", str(pictures), "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(
        command, [*line, "--device", "cpu", "--patch", "12", *(word for path in three for word in ("--init", path))]
    )
    assert result.exit_code == 0, result.output
    assert "mean.safetensors: 0 iterations, psnr_y" in result.output
    mean, init = checkpoint.load(out), load_init(three, 2)
    assert init is not None
    for name, value in mean.state_dict().items():
        assert torch.equal(value, init.net.state_dict()[name])
    with safetensors.safe_open(out, "pt") as file:
        story = json.loads(file.metadata()["training"])
    assert (story["iterations"], story["init"]) == (0, "0.safetensors + 1.safetensors + 2.safetensors")


def test_a_training_is_known_by_all_that_it_began_from(tmp_path: Path, three: tuple[str, ...]) -> None:
    pictures = write_textures(tmp_path / "pictures", 2)
    options = {**LIKE_INIT, "iterations": 2, "validate_every": 1}
    for _ in range(2):
        train(small_options(pictures, init=(three[0], three[1]), **options), Watched())
    with pytest.raises(errors.UsageError, match="another init"):
        train(small_options(pictures, init=(three[0], three[2]), **options), Watched())
    network(Path(three[1]), 7)  # the same name, other weights
    with pytest.raises(errors.UsageError, match="another init"):
        train(small_options(pictures, init=(three[0], three[1]), **options), Watched())


def test_none_of_them_is_written_over(tmp_path: Path, three: tuple[str, ...]) -> None:
    pictures = write_textures(tmp_path / "pictures", 2)
    before = Path(three[1]).read_bytes()
    with pytest.raises(errors.UsageError, match=r"1\.safetensors: would be written over --init"):
        train(small_options(pictures, init=three, **LIKE_INIT, output=three[1], overwrite=True), Watched())
    assert Path(three[1]).read_bytes() == before


def test_what_is_there_is_scored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = write_textures(tmp_path / "pictures", 2)
    scored: list[RCAN] = []
    scores = Validation.scores
    monkeypatch.setattr(Validation, "scores", lambda self, net: scored.append(net) or scores(self, net))
    train(small_options(pictures, iterations=0, decay=0.0, valid=str(pictures)), Watched())
    assert len(scored) == 1
    train(small_options(pictures, iterations=5, decay=0.0, valid=str(pictures)), Watched())
    assert len(scored) == 3  # before the first iteration and after the last
