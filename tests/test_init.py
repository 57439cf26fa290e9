"""What a training begins from: bundled weights of the right scale, and the mean of several checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

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

SMALL = RCANConfig(1, 1, 12, 4, mean_shift=False)


def network(path: Path, seed: int, config: RCANConfig = SMALL) -> str:
    torch.manual_seed(seed)
    checkpoint.save(RCAN(config), path)
    return str(path)


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    return [network(tmp_path / f"{seed}.safetensors", seed) for seed in range(3)]


@pytest.mark.parametrize(("model", "scale", "found"), [("fast", 3, 3), ("base", 4, 4), ("fast-video", 3, 2)])
def test_a_bundled_name_is_of_the_scale_that_is_trained(model: str, scale: int, found: int) -> None:
    init = load_init([model], scale)
    assert init is not None and init.sha256 == load_model(model, found).sha256
    init = load_init([str(load_model(model, found).path)], 2)
    assert init is not None and init.net.config.scale == found  # a file is what it is


def test_no_checkpoint_is_none() -> None:
    assert load_init([], 2) is None


def test_the_mean_is_of_every_parameter_and_every_network_counts_as_often_as_it_is_named(three: list[str]) -> None:
    once, twice = load_init(three, 2), load_init([*three, three[0]], 2)
    assert once is not None and twice is not None
    states = [checkpoint.load(Path(path)).state_dict() for path in three]
    for name, value in once.net.state_dict().items():
        assert torch.allclose(value, sum(state[name] for state in states) / 3, rtol=0, atol=1e-6)
    for name, value in twice.net.state_dict().items():
        assert torch.allclose(value, sum(states[n][name] for n in (0, 0, 1, 2)) / 4, rtol=0, atol=1e-6)
    assert once.sha256 != twice.sha256


@pytest.mark.parametrize("other", [RCANConfig(1, 2, 12, 4, mean_shift=False), RCANConfig(1, 1, 12, 4)])
def test_networks_of_two_structures_have_no_mean(tmp_path: Path, three: list[str], other: RCANConfig) -> None:
    odd = network(tmp_path / "odd.safetensors", 9, other)
    with pytest.raises(errors.UsageError, match=r"odd\.safetensors: is not of the structure and scale of .*0\.safe"):
        load_init([*three, odd], 2)


def test_no_iterations_write_what_training_would_begin_with(tmp_path: Path, three: list[str]) -> None:
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


def test_a_training_is_known_by_all_that_it_began_from(tmp_path: Path, three: list[str]) -> None:
    pictures = write_textures(tmp_path / "pictures", 2)
    options = {"groups": None, "blocks": None, "features": None, "iterations": 2, "validate_every": 1}
    train(small_options(pictures, init=(three[0], three[1]), **options), Watched())
    with pytest.raises(errors.UsageError, match="another init"):
        train(small_options(pictures, init=(three[0], three[2]), **options), Watched())
    network(Path(three[1]), 7)  # the same name, other weights
    with pytest.raises(errors.UsageError, match="another init"):
        train(small_options(pictures, init=(three[0], three[1]), **options), Watched())
