"""Training from end to end, on pictures made here: that it learns, that it goes on exactly, what it writes, what it
refuses."""

from __future__ import annotations

import copy
import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from clips import damage, make_clip, needs_encoder
from train_helpers import Stopped, StopsAt, Watched, small_options, texture, write_textures

from rcan_video import errors
from rcan_video.metrics import psnr_y
from rcan_video.network import checkpoint
from rcan_video.network.catalog import load_model
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.picture import PictureNet, SelfEnsemble
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.pictures import read_picture
from rcan_video.report import write_png
from rcan_video.resize import enlarge, reduce
from rcan_video.train import journal, loop
from rcan_video.train.loop import learning_rate, train
from rcan_video.train.optimizers import optimizers
from rcan_video.train.prepare import prepare
from rcan_video.train.reparam import collapsed, factorise
from rcan_video.train.state import COLUMNS, Log, StateFolder, read_log
from rcan_video.train.teacher import Teacher

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
SECONDS = 120.0  # for a process to do what takes it five


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_textures(tmp_path / "pictures", 3)


def trained(pictures: Path, **changes: Any) -> Watched:
    watched = Watched()
    train(small_options(pictures, **changes), watched)
    return watched


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from rcan_video.commands.train import main; main()", *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, timeout=SECONDS)


def rows(folder: Path) -> list[dict[str, str]]:
    """The log as text, but for the time that it took."""
    with (folder / "log.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def same_weights(one: Path, other: Path) -> bool:
    first, second = checkpoint.load(one).state_dict(), checkpoint.load(other).state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- it goes on exactly -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_and_resumed_is_the_unbroken_run_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    line = [pictures, "--valid", pictures, "--cache", tmp_path / "cache", "--iterations", "60", "--device", "cpu"]
    line += ["--groups", "1", "--blocks", "1", "--features", "8", "--batch", "4", "--patch", "12", "--threads", "1"]
    line += ["--log-every", "3", "--validate-every", "30"]
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    done = run(*line, whole, "--save-every", "1000")
    assert done.returncode == 0, done.stderr

    process = subprocess.Popen(
        command(*line, broken, "--save-every", "0"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "broken.safetensors.train"
    limit = time.monotonic() + SECONDS
    while len(read_log(folder / "log.csv")) < 4 or not (folder / "state.pt").exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(folder / "state.pt", weights_only=True)["step"]
    assert 0 < step < 60 and not broken.exists()

    done = run(*line, broken)
    assert done.returncode == 0, done.stderr
    assert f"goes on at iteration {step}" in done.stderr
    assert rows(folder) == rows(tmp_path / "whole.safetensors.train")
    assert [row["step"] for row in rows(folder)] == [str(n) for n in range(3, 61, 3)]
    assert same_weights(whole, broken)


def test_resumed_with_the_state_between_rows_of_the_log(pictures: Path) -> None:
    """What has been summed up for the next row is part of the state; rows that the state does not know are redone."""
    whole = trained(pictures, log_every=5, output=str(pictures.parent / "whole.safetensors"))
    options = small_options(pictures, log_every=5, save_every=0.0)
    with pytest.raises(Stopped):
        train(options, StopsAt(5))
    again = Watched()
    train(options, again)
    assert again.begun_at == 4
    assert again.losses == whole.losses


def test_a_finished_training_is_not_done_again(pictures: Path) -> None:
    trained(pictures)
    again = trained(pictures)
    assert again.begun_at == 10 and again.losses == []


def test_more_iterations_go_on_from_there(pictures: Path) -> None:
    trained(pictures, decay=0.0)
    longer = trained(pictures, decay=0.0, iterations=14)
    assert longer.begun_at == 10 and len(longer.losses) == 4


@pytest.mark.parametrize("log_every", [4, 3])
def test_the_loss_in_the_log_is_a_mean_whatever_the_interval(pictures: Path, log_every: int) -> None:
    """Of the steps that it sums up: after more iterations than were asked for first, and after another --log-every."""
    each = trained(pictures, decay=0.0, log_every=1, output=str(pictures.parent / "each.safetensors")).losses
    trained(pictures, decay=0.0, iterations=6, log_every=4, validate_every=4)
    longer = trained(pictures, decay=0.0, log_every=log_every, validate_every=2 * log_every)
    steps = each[6:8] if log_every == 4 else each[6:9]
    assert longer.losses[0] == pytest.approx(sum(steps) / len(steps), rel=1e-5)


def test_another_interval_in_the_middle_of_one(pictures: Path) -> None:
    each = trained(pictures, log_every=1, output=str(pictures.parent / "each.safetensors")).losses
    with pytest.raises(Stopped):
        train(small_options(pictures, log_every=5, save_every=0.0), StopsAt(5))
    again = trained(pictures, log_every=2, validate_every=2)
    assert again.begun_at == 4 and again.losses[0] == pytest.approx(sum(each[:6]) / 6, rel=1e-5)


def test_equal_trainings_are_equal_files(pictures: Path) -> None:
    """Wherever and whenever: what goes on from such a file knows it by its bytes."""
    line = [str(pictures), "--cache", str(pictures.parent / "cache"), "-n", "2", "--device", "cpu", "--threads", "1"]
    line += ["--groups", "1", "--blocks", "1", "--features", "8", "--batch", "2", "--patch", "12", "-q"]
    results = [pictures.parent / f"{number}.safetensors" for number in range(3)]
    for result in results:
        assert run(*line, result).returncode == 0
    assert len({path.read_bytes() for path in results}) == 1


def test_a_state_of_another_training_is_refused(pictures: Path) -> None:
    trained(pictures)
    with pytest.raises(errors.UsageError, match=r"another learning_rate \(0.001, not 0.002\)"):
        trained(pictures, learning_rate=2e-3)
    with pytest.raises(errors.UsageError, match=r"another filtered \(None, not 0.5\)"):
        trained(pictures, filtered=0.5)
    (pictures / "3.png").write_bytes((pictures / "0.png").read_bytes())
    trained(pictures)  # the same content under another name as well: still the same training
    (pictures / "2.png").unlink()
    with pytest.raises(errors.UsageError, match="another data"):
        trained(pictures)


def test_a_state_of_another_version_is_said_to_be(pictures: Path) -> None:
    trained(pictures)
    state = pictures.parent / "out.safetensors.train" / "state.pt"
    saved = torch.load(state, weights_only=True)
    del saved["recipe"]["optimizer"]
    torch.save(saved, state)
    with pytest.raises(errors.UsageError, match="that another version of this program began, without optimizer"):
        trained(pictures)


def test_a_damaged_state_is_said_to_be(pictures: Path) -> None:
    trained(pictures)
    state = pictures.parent / "out.safetensors.train" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(errors.WeightsError, match=r"state\.pt: is damaged; delete it"):
        trained(pictures)


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        StateFolder(tmp_path, {}),
        pytest.raises(errors.OutputError, match="another process is training here"),
        StateFolder(tmp_path, {}),
    ):
        pass
    with StateFolder(tmp_path, {}):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(errors.OutputError, match=r"has no locks \(No locks available\): choose another --state"):
        StateFolder(tmp_path, {})


def test_a_log_loses_what_the_state_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = Log(tmp_path, 0)
    for step in (10, 20, 30):
        log.add({**dict.fromkeys(COLUMNS), "step": step, "seconds": 1.0, "loss": 0.5})
    path.write_text(path.read_text() + "40,1.0,")  # a crash
    assert [row["step"] for row in Log(tmp_path, 20).rows] == [10, 20]
    assert [row["step"] for row in read_log(path)] == [10, 20]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "tolerance"),  # sums in another order, which the optimisers enlarge; Muon is in bfloat16 inside
    [
        ([], 2e-4),
        (["--no-factors", "--optimizer", "muon", "--teacher", "fast"], 1e-3),
        (["--features", "12", "--equivariant", "4"], 2e-4),
    ],
    ids=["adam", "muon and teacher", "equivariant"],
)
def test_two_processes_train_as_one_does(pictures: Path, tmp_path: Path, more: list[str], tolerance: float) -> None:
    """torchrun: each takes half of every batch, and their gradients are averaged."""
    line = [str(pictures), "--cache", str(tmp_path / "cache"), "--iterations", "8", "--device", "cpu", "--threads", "1"]
    line += ["--groups", "1", "--blocks", "1", "--features", "8", "--batch", "4", "--patch", "12"]
    line += ["--log-every", "1", "--validate-every", "8", "--warmup", "1", "--quiet", *more]
    assert run(*line, tmp_path / "one.safetensors").returncode == 0
    done = run_two(tmp_path, *line, str(tmp_path / "two.safetensors"))
    assert done.returncode == 0, done.stderr
    one, two = ([float(row["loss"]) for row in rows(tmp_path / f"{n}.safetensors.train")] for n in ("one", "two"))
    assert len(one) == 8 and two == pytest.approx(one, rel=tolerance)


def test_an_error_of_the_first_process_is_no_bug_of_the_other(pictures: Path, tmp_path: Path) -> None:
    (pictures / "z.png").write_text("no picture")
    done = run_two(tmp_path, str(pictures), "--cache", str(tmp_path / "cache"), "-q", str(tmp_path / "two.safetensors"))
    assert done.returncode != 0 and "z.png: is no picture that OpenCV can read" in done.stderr
    assert "this is a bug" not in done.stderr


def test_a_process_that_leaves_in_the_middle_is_named_by_the_others(pictures: Path, tmp_path: Path) -> None:
    """Whatever they wait for: gradients, the mean of the losses, each other at the end."""
    leave = """import os
from rcan_video.train.processes import Processes
mean = Processes.mean
Processes.mean = lambda self, value: os._exit(9) if self.rank else mean(self, value)
"""
    line = [str(pictures), "--cache", str(tmp_path / "cache"), "-q", "--device", "cpu", "--threads", "1"]
    line += ["--groups", "1", "--blocks", "1", "--features", "8", "--batch", "4", "--patch", "12"]
    done = run_two(tmp_path, *line, str(tmp_path / "two.safetensors"), before=leave)
    assert done.returncode != 0 and not (tmp_path / "two.safetensors").exists()
    assert "this is a bug" not in done.stderr


def run_two(folder: Path, *line: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """``rcan-video-train`` in two processes of torchrun."""
    script = folder / "start.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{before}{command()[2]}\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.run([*launcher, *line], capture_output=True, text=True, timeout=SECONDS)


# --- it learns, and what it writes ------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_beats_bicubic(pictures: Path) -> None:
    watched = trained(pictures, iterations=150, learning_rate=3e-3, validate_every=50, valid=str(pictures))
    assert sum(watched.losses[-20:]) < 0.9 * sum(watched.losses[:20])
    plain = [psnr_y(p, enlarge(reduce(p, 2), 2), 2) for p in map(texture, range(3))]
    assert min(watched.scores[0]["psnr_y"], watched.scores[150]["psnr_y"]) > sum(plain) / 3 + 0.2


@pytest.mark.parametrize(
    ("scale", "unshuffle", "tail"), [(2, False, "short"), (3, False, "standard"), (2, True, "short")]
)
def test_the_result_is_a_plain_rcan(pictures: Path, scale: int, unshuffle: bool, tail: str) -> None:
    features = 12 if unshuffle else 8
    watched = trained(pictures, scale=scale, unshuffle=unshuffle, tail=tail, features=features, valid=str(pictures))
    path = pictures.parent / "out.safetensors"
    net = checkpoint.load(path)
    assert net.config == RCANConfig(1, 1, features, 4, 3, scale * (1 + unshuffle), 1 + unshuffle, 1.0, False)
    assert not any("parametrizations" in name for name in safetensors.torch.load_file(path))
    folded = FoldedRCAN(net)
    assert folded.tail.inner[0].kernel_size == ((3, 3) if tail == "short" else (5, 5))  # type: ignore[union-attr]
    picture = reduce(texture(0), scale)
    assert psnr_y(PictureNet(net, CPU)(picture), unfolded(net, picture), scale) > 60
    with safetensors.safe_open(path, "pt") as file:
        story = json.loads(file.metadata()["training"])
    assert story["iterations"] == 10 and story["validation"] == {"psnr_y": round(watched.scores[10]["psnr_y"], 4)}


def unfolded(net: RCAN, picture: Any) -> Any:
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] * (net.config.rgb_range / 255)
    with torch.inference_mode():
        y = net(x)[0] * (255 / net.config.rgb_range)
    return y.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_saving_folding_and_half_storage_lose_nothing(tmp_path: Path, scale: int) -> None:
    """Less than 0.001 dB each, with the bundled weights, measured on outputs that are not rounded."""
    net = load_model("fast", scale).net
    picture = texture(1, 96 * scale // 2 // scale * scale)
    target = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    x = torch.from_numpy(reduce(picture, scale)).permute(2, 0, 1)[None] / 255

    def decibels(network: torch.nn.Module) -> float:
        with torch.inference_mode():
            return float(-10 * torch.log10((network(x).double() - target).square().mean()))

    checkpoint.save(net, tmp_path / "saved.safetensors")
    half = {name: tensor.half() for name, tensor in net.state_dict().items()}
    safetensors.torch.save_file(half, tmp_path / "half.safetensors")
    reference = decibels(net)
    assert decibels(checkpoint.load(tmp_path / "saved.safetensors")) == reference
    assert decibels(FoldedRCAN(net)) == pytest.approx(reference, abs=1e-3)
    assert decibels(checkpoint.load(tmp_path / "half.safetensors")) == pytest.approx(reference, abs=1e-3)


def test_fine_tuning_keeps_mean_range_and_function(pictures: Path) -> None:
    """An official checkpoint as it is: range 255, a mean shift, a standard tail. It starts as good as it is."""
    torch.manual_seed(0)
    official = RCAN(RCANConfig(1, 1, 8, 4))
    checkpoint.save(official, pictures.parent / "official.safetensors")
    changes = {
        "init": (str(pictures.parent / "official.safetensors"),),
        "groups": None,
        "blocks": None,
        "features": None,
    }
    watched = trained(pictures, **changes, factors=False, learning_rate=1e-5, iterations=2, valid=str(pictures))
    score = [psnr_y(picture, unfolded(official, reduce(picture, 2)), 2) for picture in map(texture, range(3))]
    assert watched.scores[0]["psnr_y"] == pytest.approx(sum(score) / 3, abs=1e-3)
    tuned = checkpoint.load(pictures.parent / "out.safetensors")
    assert tuned.config == official.config
    before, after = official.state_dict(), tuned.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "_mean." in name)
    assert not torch.equal(before["head.0.weight"], after["head.0.weight"])
    assert torch.allclose(before["head.0.weight"], after["head.0.weight"], atol=1e-4)


def test_a_body_of_x2_starts_x3_above_bicubic(pictures: Path) -> None:
    structure = {"init": ("fast",), "groups": None, "blocks": None, "features": None}
    watched = trained(pictures, **structure, scale=3, iterations=1, valid=str(pictures))
    plain = [psnr_y(p, enlarge(reduce(p, 3), 3), 3) for p in map(texture, range(3))]
    assert watched.scores[0]["psnr_y"] > sum(plain) / 3 + 0.3


def test_the_average_is_of_plain_kernels_not_of_factors() -> None:
    torch.manual_seed(0)
    net = RCAN(RCANConfig(1, 1, 8, 4))
    average, before = copy.deepcopy(net), {name: p.detach().clone() for name, p in net.named_parameters()}
    factorise(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    plain = collapsed(net)
    loop.follow(average, net, 26)  # a weight of 0.75
    for name, parameter in average.named_parameters():
        assert torch.allclose(parameter, 0.75 * before[name] + 0.25 * plain[name], atol=1e-6), name
    assert not torch.allclose(plain["head.0.weight"], before["head.0.weight"], atol=0.01)


def test_the_schedule_warms_up_stays_and_falls() -> None:
    options = replace(small_options(Path()), iterations=1000, learning_rate=1e-3, warmup=100, decay=0.4)
    rates = [learning_rate(step, options) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5) and rates[49] == pytest.approx(5e-4)
    assert rates[99:600] == pytest.approx([1e-3] * 501)
    assert rates[800] == pytest.approx(5e-4, rel=0.01)
    assert rates[999] < 1e-5 and all(a >= b for a, b in pairwise(rates[600:]))


def test_a_curve_is_drawn(pictures: Path) -> None:
    trained(pictures, valid=str(pictures))
    folder = pictures.parent / "out.safetensors.train"
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert same_weights(folder / "latest.safetensors", pictures.parent / "out.safetensors")


class Convolutions:
    """What every convolution that trains meanwhile gives out, by its inputs, outputs and size."""

    def __init__(self) -> None:
        self.dtypes: dict[tuple[int, int, int], torch.dtype] = {}

    def __enter__(self) -> dict[tuple[int, int, int], torch.dtype]:
        self._hook = torch.nn.modules.module.register_module_forward_hook(self._see)
        return self.dtypes

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _see(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.training:
            self.dtypes[module.in_channels, module.out_channels, module.kernel_size[0]] = output.dtype


def test_bf16_computes_the_body_alone_in_bfloat16(pictures: Path) -> None:
    with Convolutions() as dtypes:
        watched = trained(pictures, precision="bf16", iterations=150, learning_rate=3e-3)
    half, single = torch.bfloat16, torch.float32
    assert dtypes == {(3, 8, 3): single, (8, 8, 3): half, (8, 2, 1): half, (2, 8, 1): half, (8, 12, 3): single}
    assert sum(watched.losses[-20:]) < 0.9 * sum(watched.losses[:20])
    stored = safetensors.torch.load_file(pictures.parent / "out.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {single}
    assert not any("parametrizations" in name for name in stored)


@pytest.mark.parametrize(
    ("changes", "other", "words"),
    [
        ({"precision": "bf16"}, {"precision": "single"}, r"another precision \(bf16, not single\)"),
        ({"optimizer": "muon", "factors": False}, {"factors": False}, r"another optimizer \(muon, not adam\)"),
        ({"teacher": "fast"}, {}, r"another teacher \([0-9a-f]{64}, not None\)"),
        ({"filtered": 0.8}, {}, r"another filtered \(0\.8, not None\)"),
        ({"uniform": True}, {}, r"another uniform \(True, not None\)"),
    ],
)
def test_it_goes_on_exactly_however_it_trains(
    pictures: Path, changes: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    whole = trained(pictures, **changes, output=str(pictures.parent / "whole.safetensors"))
    options = small_options(pictures, **changes, save_every=0.0)
    with pytest.raises(Stopped):
        train(options, StopsAt(5))
    again = Watched()
    train(options, again)
    assert again.begun_at == 4 and again.losses == whole.losses[4:]
    assert same_weights(pictures.parent / "whole.safetensors", pictures.parent / "out.safetensors")
    with pytest.raises(errors.UsageError, match=words):
        trained(pictures, **other)


def test_bf16_multiplies_factors_out_in_float32(pictures: Path) -> None:
    """The network that is kept begins as the checkpoint, to more digits than bfloat16 has."""
    structure = {"init": ("fast",), "groups": None, "blocks": None, "features": None}
    trained(pictures, **structure, precision="bf16", iterations=1, learning_rate=1e-6)
    kept, init = checkpoint.load(pictures.parent / "out.safetensors"), load_model("fast", 2).net
    for name, tensor in init.state_dict().items():
        assert torch.allclose(kept.state_dict()[name], tensor, rtol=0, atol=3e-6), name


def test_muon_makes_every_direction_of_a_kernels_step_as_long_as_the_others() -> None:
    """The first step of a 3x3 kernel of the groups is near-orthogonal and of Adam's size; the others' are Adam's."""
    torch.manual_seed(0)
    net = RCAN(RCANConfig(1, 1, 8, 4))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    movers = optimizers(net, "muon")
    assert all(torch.equal(weight, before[name]) for name, weight in collapsed(net).items())
    net(torch.rand(2, 3, 9, 9)).square().mean().backward()
    for mover in movers:
        mover.param_groups[0]["lr"] = 1e-3
        mover.step()
    steps = {name: weight - before[name] for name, weight in collapsed(net).items()}
    kernels = [name for name, p in before.items() if name.startswith("body") and p.shape[2:] == (3, 3)]
    assert len(kernels) == 4  # two of the block, the group's and the body's last
    for name in kernels:
        stretched = torch.linalg.svdvals(steps[name].flatten(1))
        assert stretched.min() > 0.5 * stretched.max()  # what Newton-Schulz's five steps promise
        assert steps[name].square().mean().sqrt() == pytest.approx(2e-4, rel=0.2)
    for name in steps.keys() - set(kernels):
        moved = steps[name][steps[name] != 0]
        assert torch.allclose(moved.abs(), torch.tensor(1e-3), rtol=0.01), name  # Adam's first step is its rate


@pytest.mark.parametrize("bad", ["body.0.body.0.body.0.parametrizations.weight.original", "head.0.weight"])
def test_an_overflow_moves_nothing_whichever_optimizer_has_it(bad: str) -> None:
    net = RCAN(RCANConfig(1, 1, 8, 4))
    movers, scaler = optimizers(net, "muon"), torch.amp.GradScaler("cpu", init_scale=8.0)
    for value, moves in ((float("nan"), False), (float("inf"), False), (1.0, True)):
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        net.zero_grad()
        scaler.scale(net(torch.rand(1, 3, 8, 8)).square().mean()).backward()
        gradient = dict(net.named_parameters())[bad].grad
        assert gradient is not None
        gradient.flatten()[0] = value
        scale = scaler.get_scale()
        loop.move(net, movers, scaler)
        changed = [name for name, p in net.named_parameters() if not torch.equal(p, before[name])]
        assert bool(changed) == moves and (scaler.get_scale() < scale) == (not moves)


def test_the_weight_of_flicker_is_felt(tmp_path: Path) -> None:
    """The same batches: what trains against flicker flickers less at the end of the training than what does not."""
    needs_encoder("libx265")
    folder = write_textures(tmp_path / "pictures", 1, 400)
    found = []
    for weight in (1e-9, 3.0):
        output = tmp_path / f"{weight}.safetensors"
        options = small_options(folder, degradation="video", sequences=2, clean=0.0, temporal=weight, batch=8)
        options = replace(options, output=str(output), iterations=60, learning_rate=3e-3, validate_every=60)
        train(options, Watched())
        prepared = prepare(options, lambda _: None)
        small, large = (pixels.float() / 255 for pixels in prepared.patches.batch(0, range(200)))
        found.append(float(loop.unsteadiness(checkpoint.load(output)(small) - large)))
    assert found[1] < 0.98 * found[0]
    with pytest.raises(errors.UsageError, match="takes pairs of frames: give a --batch that is a multiple of 2"):
        train(replace(options, batch=3, output=str(tmp_path / "odd.safetensors")), Watched())


def test_a_teacher_is_aimed_at_as_much_as_the_pictures(pictures: Path) -> None:
    """One step from the teacher's own weights: its loss is half of what it is without, and a checkpoint tells of it."""
    torch.manual_seed(5)
    net = RCAN(RCANConfig(1, 1, 12, 4))  # of range 255, with mean shift, as the official ones are
    checkpoint.save(net, pictures.parent / "larger.safetensors")
    larger = str(pictures.parent / "larger.safetensors")
    alone = trained(pictures, groups=None, blocks=None, features=None, init=(larger,), factors=False, iterations=1)
    same = {"groups": None, "blocks": None, "features": None, "init": (larger,), "teacher": larger, "factors": False}
    output = pictures.parent / "taught.safetensors"
    taught = trained(pictures, **same, output=str(output), iterations=1)
    assert taught.losses[0] == pytest.approx(alone.losses[0] / 2, rel=1e-4)
    with safetensors.safe_open(output, "pt") as file:
        story = json.loads(file.metadata()["training"])
    assert (story["init"], story["teacher"]) == ("larger.safetensors", "larger.safetensors")

    other = trained(pictures, teacher=larger, output=str(pictures.parent / "smaller.safetensors"))
    assert len(other.losses) == 10
    with pytest.raises(errors.UsageError, match=r"another teacher \([0-9a-f]{64}, not None\)"):
        trained(pictures, output=str(pictures.parent / "smaller.safetensors"))


def test_a_teacher_is_asked_in_the_range_of_the_taught(pictures: Path) -> None:
    torch.manual_seed(6)
    net = RCAN(RCANConfig(1, 1, 12, 4)).eval()
    checkpoint.save(net, pictures.parent / "teacher.safetensors")
    teacher = Teacher(load_model(str(pictures.parent / "teacher.safetensors")), torch.device("cpu"), torch.float32)
    small, large = torch.rand(2, 3, 8, 9), torch.rand(2, 3, 16, 18)
    with torch.no_grad():
        halfway = (large + net(small * 255) / 255) / 2
    for largest in (1.0, 255.0):
        aim = teacher.aim(small * largest, large * largest, largest, 16)
        torch.testing.assert_close(aim / largest, halfway, rtol=0, atol=1e-5)


def test_a_teacher_is_asked_at_every_step_in_another_position(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def aim(self: Teacher, small: torch.Tensor, large: torch.Tensor, largest: float, step: int) -> torch.Tensor:
        asked.append(step)
        return large

    monkeypatch.setattr(Teacher, "aim", aim)
    options = small_options(pictures, teacher="fast", save_every=0.0)
    with pytest.raises(Stopped):
        train(options, StopsAt(5))
    train(options, Watched())
    assert asked == [0, 1, 2, 3, 4, *range(4, 10)]  # the fifth again: its state was not saved


def test_flicker_is_of_the_pictures_whatever_a_teacher_says(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.Tensor] = []

    def unsteadiness(error: torch.Tensor) -> torch.Tensor:
        given.append(error.detach())
        return error.sum() * 0

    def prepared(options: Any, say: Any) -> Any:  # clean pairs alone: nothing to encode
        return prepare(replace(options, degradation="bicubic"), say)

    def wrong(self: Teacher, small: torch.Tensor, large: torch.Tensor, largest: float, step: int) -> torch.Tensor:
        return large + 1

    monkeypatch.setattr(loop, "unsteadiness", unsteadiness)
    monkeypatch.setattr(loop, "prepare", prepared)
    for number, teacher in enumerate((None, "fast")):
        monkeypatch.setattr(Teacher, "aim", wrong)
        output = str(pictures.parent / f"{number}.safetensors")
        trained(pictures, degradation="video", temporal=1.0, iterations=1, teacher=teacher, output=output)
    assert torch.equal(*given)


def test_a_teacher_that_gives_infinity_is_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def infinite(self: Teacher, small: torch.Tensor, large: torch.Tensor, largest: float, step: int) -> torch.Tensor:
        return large * torch.inf

    monkeypatch.setattr(Teacher, "aim", infinite)
    with pytest.raises(
        errors.NotFinite, match="begin again with a smaller --lr or another --teacher, and another --state"
    ):
        trained(pictures, teacher="fast")


def source(option: str, path: Path) -> dict[str, Any]:
    return {option: (str(path),) if option == "init" else str(path)}


@pytest.mark.parametrize("option", ["init", "teacher"])
def test_what_is_trained_is_not_written_over_what_it_came_from(pictures: Path, option: str) -> None:
    output = pictures.parent / "out.safetensors"
    checkpoint.save(RCAN(RCANConfig(1, 1, 12, 4)), output)
    before = output.read_bytes()
    (pictures.parent / "link.safetensors").symlink_to(output)
    for name in (output, pictures / ".." / output.name, pictures.parent / "link.safetensors"):
        with pytest.raises(errors.UsageError, match=rf"out\.safetensors: would be written over --{option}"):
            trained(pictures, overwrite=True, **source(option, name))
    assert output.read_bytes() == before
    latest = pictures.parent / "other.safetensors.train" / "latest.safetensors"
    latest.parent.mkdir()
    latest.write_bytes(before)
    with pytest.raises(errors.UsageError, match=rf"latest\.safetensors: would be written over --{option}"):
        trained(pictures, output=str(pictures.parent / "other.safetensors"), **source(option, latest))


def test_a_teacher_is_asked_in_every_position_in_turn(pictures: Path) -> None:
    torch.manual_seed(7)
    checkpoint.save(RCAN(RCANConfig(1, 1, 12, 4)), pictures.parent / "teacher.safetensors")
    model = load_model(str(pictures.parent / "teacher.safetensors"))
    teacher = Teacher(model, torch.device("cpu"), torch.float32)
    small, large = torch.rand(2, 3, 8, 9), torch.rand(2, 3, 16, 18)
    aims = [teacher.aim(small, large, 1.0, step) for step in range(8)]
    assert all(not torch.allclose(one, other, atol=1e-5) for one, other in pairwise(aims))
    with torch.no_grad():
        ensemble = SelfEnsemble(FoldedRCAN(model.net))(small)
    torch.testing.assert_close(torch.stack(aims).mean(0), (large + ensemble) / 2, rtol=0, atol=1e-5)


@pytest.mark.cuda
def test_mixed_precision_trains_on_cuda(pictures: Path) -> None:
    watched = trained(pictures, iterations=100, learning_rate=3e-3, device="cuda", valid=str(pictures))
    assert sum(watched.losses[-20:]) < sum(watched.losses[:20])


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"data": ("nowhere",)}, errors.InputError, "nowhere: there is no such file or folder"),
        ({"patch": 60}, errors.InputError, "nothing is as large as a patch, 120 pixels"),
        ({"valid": "nowhere"}, errors.InputError, "nowhere: there is no such"),
        ({"output": "nowhere/out.safetensors"}, errors.OutputError, "its folder does not exist"),
        ({"output": "out.pth"}, errors.OutputError, r"must be called \*\.safetensors"),
        ({"valid": "nowhere", "degradation": "video"}, errors.InputError, "nowhere: there is no such"),
        ({"unshuffle": True, "features": 12, "patch": 13}, errors.UsageError, "--patch 13 .* a multiple of 2"),
        ({"init": ("nothing",)}, errors.WeightsError, "nothing: there is no such file"),
        ({"teacher": "nothing"}, errors.WeightsError, "nothing: there is no such file"),
        ({"teacher": "base", "scale": 8}, errors.WeightsError, "base: .*x8"),
        ({"init": ("fast",), "blocks": 7}, errors.UsageError, "fast: has groups 2, not 1; leave out --groups"),
        ({"scale": 8}, errors.UsageError, "a short tail for x8 takes 48 features, not 8; give more --features"),
        ({"scale": 3, "unshuffle": True}, errors.UsageError, "upscale must be 3 or a power of two, got 6"),
        ({"precision": "half"}, errors.UsageError, "--precision half is for CUDA, not cpu: give --precision bf16"),
        ({"optimizer": "muon"}, errors.UsageError, "--optimizer muon takes kernels as they are: give --no-factors"),
        ({"temporal": 1.0}, errors.UsageError, "--temporal is about frames of a sequence: give --degradation video"),
        ({"validate_every": 7, "log_every": 2}, errors.UsageError, "no multiple of --log-every 2"),
        ({"degradation": "video", "patch": 193}, errors.UsageError, "--patch is 193: give 192 or less"),
        ({"teacher": ""}, errors.WeightsError, "'': there is no such file"),
        ({"valid": ""}, errors.InputError, "one of the names is empty"),
        ({"device": "toaster"}, errors.DeviceError, "toaster"),
        ({"degradation": "video"}, errors.InputError, "takes pictures of 384 pixels each way"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    pictures: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        trained(pictures, **changes)
    assert "\n" not in str(caught.value)
    assert not (pictures.parent / "out.safetensors").exists()


@pytest.mark.parametrize("name", ["log.csv", "latest.safetensors", "curve.png"])
def test_a_folder_of_other_things_is_not_written_into(pictures: Path, name: str) -> None:
    folder = pictures.parent / "mine"
    folder.mkdir()
    (folder / name).touch()
    with pytest.raises(errors.OutputError, match=rf"{name}: is of no training here.*: choose another --state"):
        trained(pictures, state=str(folder))
    assert [path.name for path in folder.iterdir()] == [name] and not (folder / name).read_bytes()


def test_the_state_cannot_be_the_result(pictures: Path) -> None:
    with pytest.raises(errors.OutputError, match="cannot be the result and the folder of --state"):
        trained(pictures, state=str(pictures.parent / "out.safetensors"))


def test_a_curve_is_nothing_to_validate_on(pictures: Path) -> None:
    """What is drawn beside the pictures changes from run to run."""
    first = trained(pictures, valid=str(pictures), state=str(pictures / "state"))
    assert (pictures / "state" / "curve.png").exists()
    again = trained(pictures, valid=str(pictures), output=str(pictures.parent / "again.safetensors"))
    assert again.scores == first.scores


def test_small_pictures_are_validated_on_whatever_the_patch(pictures: Path) -> None:
    """What is compared between trainings is of the same pictures."""
    small = pictures.parent / "small"
    small.mkdir()
    write_png(small / "1.png", read_picture(next(pictures.glob("*.png")))[:20, :20])
    assert set(trained(pictures, valid=str(small), patch=12).scores[10]) == {"psnr_y"}


def test_squared_errors_seek_the_mean_and_others_the_median(tmp_path: Path) -> None:
    """Of noise that is white in one pixel of five, and so black in the median."""
    pictures, rng = tmp_path / "noise", np.random.default_rng(1)
    pictures.mkdir()
    for number in range(2):
        noise = np.repeat(rng.random((96, 96, 1)) < 0.2, 3, axis=2) * np.uint8(255)
        write_png(pictures / f"{number}.png", noise)
    found = []
    for squared in (True, False):
        options = {"squared": squared, "fourier": 0.0, "decay": 0.0, "iterations": 60, "learning_rate": 3e-3}
        out = tmp_path / f"{squared}.safetensors"
        trained(pictures, output=str(out), **options)
        found.append(PictureNet(checkpoint.load(out), CPU)(reduce(noise, 2)).mean() / noise.mean())
    assert found[0] == pytest.approx(1.0, abs=0.1) and found[1] < 0.8


def test_a_rate_below_the_last_one_stays(pictures: Path) -> None:
    assert {learning_rate(step, small_options(pictures, learning_rate=1e-8, warmup=0)) for step in (0, 5)} == {1e-8}


def test_the_reduction_that_a_checkpoint_was_made_with_may_be_given_again(pictures: Path) -> None:
    """Ten features squeeze to two by 4 and by 5."""
    trained(pictures, features=10, reduction=4)
    first = str(pictures.parent / "out.safetensors")
    options = {"init": (first,), "features": 10, "output": str(pictures.parent / "more.safetensors")}
    assert trained(pictures, reduction=4, **options).begun_at == 0
    with pytest.raises(errors.UsageError, match=r"out\.safetensors: has reduction 5, not 2"):
        trained(pictures, reduction=2, **options)


def test_a_state_as_weights_is_its_average(pictures: Path) -> None:
    trained(pictures, factors=False, tail="standard")
    out = checkpoint.load(pictures.parent / "out.safetensors").state_dict()
    state = checkpoint.load(pictures.parent / "out.safetensors.train" / "state.pt").state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in out.items())


def test_damaged_footage_is_refused(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", frames=20, size=(96, 96))
    clip = damage(tmp_path / "clip.mp4", 7)
    with pytest.raises(errors.InputError, match=r"damaged7\.mp4 is damaged: .*; get it again"):
        trained(clip)


def test_weights_of_one_colour_are_not_trained(pictures: Path) -> None:
    checkpoint.save(RCAN(RCANConfig(1, 1, 8, 4, colors=1, mean_shift=False)), pictures.parent / "gray.safetensors")
    for option in ("init", "teacher"):
        with pytest.raises(errors.UsageError, match=r"gray\.safetensors: has 1 colour, training is on RGB"):
            trained(pictures, **source(option, pictures.parent / "gray.safetensors"))


def test_a_checkpoint_tells_every_option_that_its_state_is_known_by(pictures: Path) -> None:
    checkpoint.save(RCAN(RCANConfig(1, 1, 8, 4)), pictures.parent / "first.safetensors")
    first = str(pictures.parent / "first.safetensors")
    trained(pictures, filtered=0.3, uniform=True, init=(first,), teacher=first)
    with safetensors.safe_open(pictures.parent / "out.safetensors", "pt") as file:
        story = json.loads(file.metadata()["training"])
    state = torch.load(pictures.parent / "out.safetensors.train" / "state.pt", weights_only=True)["recipe"]
    shape = {*asdict(RCANConfig()), "tail"}
    assert set(state) - set(story) - shape == {"data", "filtering"}
    assert (story["filtered"], story["uniform"], story["init"]) == (0.3, True, "first.safetensors")


def test_numbers_of_torchrun_that_are_none_are_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "x"), ("LOCAL_RANK", "0"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(errors.UsageError, match=r"^RANK in the environment is no number: start .* or unset"):
        trained(pictures)


def test_one_process_does_not_mind_what_others_call_their_port(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "tcp://10.0.0.1:80")  # as Kubernetes does for a service called master
    assert trained(pictures).begun_at == 0


def test_states_of_before_an_option_that_is_off_go_on(pictures: Path) -> None:
    trained(pictures, decay=0.0)
    path = pictures.parent / "out.safetensors.train" / "state.pt"
    saved = torch.load(path, weights_only=True)
    assert not {"filtered", "uniform", "teacher"} & set(saved["recipe"])
    saved["recipe"]["teacher"] = None  # as it was written once
    torch.save(saved, path)
    assert trained(pictures, decay=0.0, iterations=12).begun_at == 10
    saved["recipe"]["colour"] = "violet"
    torch.save(saved, path)
    with pytest.raises(errors.UsageError, match="that another version of this program began, with colour"):
        trained(pictures, decay=0.0)


def test_a_state_of_other_filters_is_that_versions(pictures: Path) -> None:
    trained(pictures, filtered=0.8)
    path = pictures.parent / "out.safetensors.train" / "state.pt"
    saved = torch.load(path, weights_only=True)
    saved["recipe"]["filtering"] -= 1
    torch.save(saved, path)
    with pytest.raises(errors.UsageError, match="that another version of this program began, with another filtering;"):
        trained(pictures, filtered=0.8)
    saved["recipe"]["filtering"] += 1
    torch.save(saved, path)
    assert trained(pictures, filtered=0.8, iterations=12).begun_at == 10


def test_a_state_with_an_option_that_is_no_more_is_that_versions(pictures: Path) -> None:
    """Whatever is given in its place: what it was begun with cannot be given."""
    trained(pictures)
    path = pictures.parent / "out.safetensors.train" / "state.pt"
    saved = torch.load(path, weights_only=True)
    saved["recipe"] |= {"sharpen": 2.4, "sharpening": 2}
    torch.save(saved, path)
    for given in ({}, {"filtered": 0.8}):
        with pytest.raises(errors.UsageError, match="that another version of this program began, with sharpen; go on"):
            trained(pictures, **given)


def test_half_an_environment_of_torchrun_is_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(errors.UsageError, match="WORLD_SIZE is 2 in the environment, without LOCAL_RANK, MASTER_ADDR"):
        trained(pictures)


def test_a_cache_that_cannot_be_is_said_to_be(pictures: Path) -> None:
    (pictures.parent / "file").touch()
    with pytest.raises(errors.OutputError, match=r"hr\.npy: cannot be written .*; make room for it, or choose another"):
        trained(pictures, cache=str(pictures.parent / "file"))


def test_trained_in_the_folder_of_its_pictures_it_does_not_train_on_its_curve(pictures: Path) -> None:
    output = str(pictures / "out.safetensors")
    trained(pictures, output=output, decay=0.0)
    assert list(pictures.rglob("curve.png"))
    assert trained(pictures, output=output, decay=0.0, iterations=12).begun_at == 10


def test_pictures_without_any_error_have_no_figure(tmp_path: Path) -> None:
    """Infinite decibels: neither the curve (a warning fails the test) nor the metadata can hold them."""
    flat = tmp_path / "flat"
    flat.mkdir()
    write_png(flat / "0.png", np.zeros((32, 32, 3), np.uint8))
    watched = trained(flat, valid=str(flat))
    assert watched.scores[10] == {"psnr_y": float("inf")}
    with safetensors.safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert json.loads(file.metadata()["training"])["validation"] == {}


def test_an_existing_output_is_kept_unless_told(pictures: Path) -> None:
    output = pictures.parent / "out.safetensors"
    output.write_bytes(b"mine")
    with pytest.raises(errors.OutputError, match="exists; give --overwrite"):
        trained(pictures)
    assert output.read_bytes() == b"mine"
    trained(pictures, overwrite=True)
    checkpoint.load(output)


def test_a_loss_that_is_not_finite_ends_it_and_leaves_the_last_good_state(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(step: int, options: object) -> float:
        return 1e-3 if step < 4 else float("inf")

    monkeypatch.setattr("rcan_video.train.loop.learning_rate", spoiled)
    with pytest.raises(
        errors.NotFinite, match="no longer finite at iteration 10: begin again with a smaller --lr, and"
    ):
        trained(pictures, save_every=0.0, log_every=5)
    state = torch.load(pictures.parent / "out.safetensors.train" / "state.pt", weights_only=True)
    assert state["step"] == 4 and not (pictures.parent / "out.safetensors").exists()


def test_out_of_memory_is_said(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(journal.Journal, "log", full)
    with pytest.raises(errors.OutOfMemory, match="memory ran out with --batch 4 and --patch 12"):
        trained(pictures)
    monkeypatch.setattr(loop, "prepare", full)
    with pytest.raises(errors.OutOfMemory, match="memory ran out while pictures were prepared"):
        trained(pictures)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["only.safetensors"], 2, "DATA"),
        (["nowhere", "out.safetensors"], 3, "nowhere: there is no such file or folder"),
        (["nowhere", "out.txt"], 4, "must be called"),
        (["nowhere", "out.safetensors", "--init", "nothing"], 5, "nothing: there is no such file"),
        (["", "out.safetensors", "--cache", "."], 3, "one of the names is empty"),
        (["nowhere", "out.safetensors", "--seed", "18446744073709551616"], 2, "--seed"),
        (["nowhere", "out.safetensors", "--lr", "nan"], 2, "'nan' is no number"),
        (["nowhere", "out.safetensors", "--fourier", "inf"], 2, "'inf' is no number"),
        (["nowhere", "out.safetensors", "--filtered", "nan"], 2, "'nan' is no number"),
        (["nowhere", "out.safetensors", "--filtered", "1.1"], 2, "--filtered"),
    ],
)
def test_exit_codes(
    line: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from rcan_video.commands.train import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rcan-video-train", *line])
    with pytest.raises(SystemExit) as exit:
        main()
    said = capsys.readouterr().err
    assert exit.value.code == code
    assert said.startswith("rcan-video-train: ") and words in said and said.count("\n") == 1


def test_the_rate_is_of_what_follows_on_compiling(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from rcan_video.commands import train as command

    times = iter((0.0, 40.0, 89.5, 139.5))  # compiling takes the first 40 seconds, a hundred iterations take 50
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: next(times)))
    lines = command.Plain()
    lines.start("a network", 0, 1000)
    lines.warmed_up(1)
    lines.update(100, 0.01)
    lines.update(200, 0.01)
    first, second = capsys.readouterr().err.splitlines()[1:]
    assert first == "rcan-video-train: iteration 100/1000, 2.00 it/s, 7:30 left, loss 0.01000"
    assert second == "rcan-video-train: iteration 200/1000, 2.00 it/s, 6:40 left, loss 0.01000"


def test_help_is_quick() -> None:
    code = (
        "import sys; sys.argv = ['rcan-video-train', '--help']\n"
        "import atexit; atexit.register(lambda: print({'torch', 'av', 'cv2', 'rich'} & set(sys.modules)))\n"
        "from rcan_video.commands.train import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=SECONDS)
    assert done.returncode == 0 and "OUT.safetensors" in done.stdout
    assert done.stdout.rstrip().endswith("set()")


@pytest.mark.parametrize("kept", [False, True])
def test_interrupted_says_whether_it_can_go_on(kept: bool, pictures: Path, tmp_path: Path) -> None:
    class Impatient(Watched):
        def update(self, step: int, loss: float) -> None:
            if step == 3:
                raise KeyboardInterrupt

    options = small_options(pictures, state=str(tmp_path / "state"), save_every=0.0 if kept else 1000.0)
    with pytest.raises(errors.Interrupted) as interrupted:
        train(options, Impatient())
    assert interrupted.value.kept == kept
