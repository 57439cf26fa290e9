"""``--compile``: the same planes, a sentence where torch.compile does not work, and no trust without a look."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_clip
from torch import Tensor, nn
from train_helpers import Watched, small_options, write_textures

from rcan_video.engine import choice, compiled
from rcan_video.engine.choice import Choice, choose, open_engine
from rcan_video.engine.compiled import Compiled
from rcan_video.engine.cores import available_cores
from rcan_video.engine.task import Task
from rcan_video.engine.trial import picture
from rcan_video.errors import DeviceError, UsageError
from rcan_video.frames import ColorSpec, FrameBatch, PlaneLayout
from rcan_video.network.catalog import load_model
from rcan_video.options import DeviceOptions, Precision
from rcan_video.train.loop import train


class Small(nn.Module):
    """A convolution and a pixel shuffle, planes in and planes out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, plane: Tensor) -> tuple[Tensor, ...]:
        y = nn.functional.pixel_shuffle(self.conv(plane.float()[:, None] / 255), 2)[:, 0]
        return ((y * 255).clamp(0, 255).add(0.5).floor().to(torch.uint8), torch.isfinite(y.sum()).reshape(1))


@pytest.fixture
def plane() -> Tensor:
    return torch.randint(0, 256, (1, 8, 6), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def standing_in(monkeypatch: pytest.MonkeyPatch, offset: int) -> list[tuple[int, ...]]:
    """torch.compile as a function that computes the same but for ``offset``; the shapes that it was called with."""
    seen: list[tuple[int, ...]] = []

    def compile_(forward: Callable[..., tuple[Tensor, ...]], *, dynamic: bool) -> object:
        assert dynamic is False

        def run(*planes: Tensor) -> tuple[Tensor, ...]:
            seen.append(tuple(planes[0].shape))
            large, flag = forward(*planes)
            return large.clamp(10, 245) + offset if offset else large, flag

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    return seen


@pytest.fixture
def task() -> Task:
    stored = (PlaneLayout("gray"), ColorSpec(1, False, "left"))
    return Task(load_model("fast", 2), stored, stored, (8, 6))


def test_what_differs_by_more_than_rounding_is_given_up(monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    """Before the first frame; what takes over is not compiled."""
    seen, said = standing_in(monkeypatch, 9), list[str]()
    engine = open_engine(choose(DeviceOptions("cpu", compile=True)), task, None, None, said.append)
    engine.result(engine.submit(FrameBatch((picture(*task.source[:1], task.size),))))
    (sentence,) = said
    assert re.fullmatch(
        r"torch on cpu through torch.compile differs from float32 by up to \d+ of 255 and .* dB: torch on cpu goes on "
        "with the same frames",
        sentence,
    )
    assert seen == [(1, 6, 8)] and "compiled" not in engine.describe()
    engine.close()


@pytest.mark.parametrize("precision", ["single", "half"])
def test_what_agrees_is_used(monkeypatch: pytest.MonkeyPatch, task: Task, precision: Precision) -> None:
    seen, said = standing_in(monkeypatch, 0), list[str]()
    engine = open_engine(choose(DeviceOptions("cpu", compile=True, precision=precision)), task, None, None, said.append)
    engine.result(engine.submit(FrameBatch((picture(*task.source[:1], task.size),))))
    assert seen == [(1, 6, 8)] * 2 and not said
    arithmetic = {"single": "float32", "half": "float16"}[precision]
    assert f", {arithmetic}, compiled, batch 1" in engine.describe()
    engine.close()


def test_without_a_compiler_there_is_a_sentence(tmp_path: Path) -> None:
    """And no output. A process of its own: torch remembers which compilers work."""
    clip, output = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2), tmp_path / "out.mp4"
    done = subprocess.run(
        [sys.executable, "-m", "rcan_video", clip, output, "--compile", "--device", "cpu", "--quiet"],
        env={**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 6, done.stderr
    assert re.search(r"rcan-video: torch.compile does not work here \(.*no-such-compiler.*\): leave --com", done.stderr)
    assert not output.exists()


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile for a few kernels, which are in nobody's way afterwards."""
    import torch._inductor.config

    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler (g++)")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    # No pool of processes, and no headers prepared: both are slower for one kernel.
    with torch._inductor.config.patch(compile_threads=1, cpp_cache_precompile_headers=False):
        yield


@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_for_good(plane: Tensor) -> None:
    net = Small().eval()
    quicker = Compiled(net)
    with torch.inference_mode():
        for _ in range(2):
            assert (quicker(plane)[0].int() - net(plane)[0].int()).abs().max() <= 1


@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"factors": False, "optimizer": "muon", "precision": "bf16", "learning_rate": 1e-4},
        {"features": 12, "equivariant": 4},
    ],
    ids=["factors", "muon, bf16", "equivariant, factors"],
)
def test_a_training_compiled_for_good_learns_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    from torch._dynamo.utils import counters

    pictures, losses = write_textures(tmp_path / "pictures", 3), []
    for compiles in (False, True):
        counters.clear()
        watched, output = Watched(), str(tmp_path / f"{compiles}.safetensors")
        train(small_options(pictures, compile=compiles, output=output, **changes), watched)
        losses.append(watched.losses)
        assert counters["stats"]["unique_graphs"] == compiles and not counters["graph_break"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_what_does_not_compile_on_the_way_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is compiled when it is first gone."""
    from torch._inductor.exc import InductorError

    def backward(self: Tensor) -> None:
        raise InductorError(RuntimeError("no space\nand more"), None)

    monkeypatch.setattr(torch, "compile", lambda forward, *, dynamic: forward)
    monkeypatch.setattr(compiled, "check_compiler", lambda device: None)
    monkeypatch.setattr(Tensor, "backward", backward)
    with pytest.raises(
        DeviceError, match=r"^torch\.compile does not work here \(RuntimeError: no space\): leave --compile out"
    ):
        train(small_options(write_textures(tmp_path / "pictures", 1), compile=True), Watched())


def test_a_training_without_a_compiler_ends_before_anything_is_decoded(tmp_path: Path) -> None:
    line = [sys.executable, "-c", "from rcan_video.commands.train import main; main()"]
    line += [str(write_textures(tmp_path / "pictures", 1)), "out.safetensors", "--patch", "12", "--compile"]
    done = subprocess.run(
        [*line, "--device", "cpu", "--cache", "cache"],
        cwd=tmp_path,
        env={**os.environ, "CXX": "no-such-compiler", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 6
    assert re.fullmatch(r"rcan-video-train: torch.compile does not .*no-such-compiler.*: leave --com.*\n", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_it_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "may_have_accelerator", lambda: False)
    assert choose(DeviceOptions("cpu", compile=True)) == Choice("torch", torch.device("cpu"), asked=True, compile=True)
    with pytest.raises(UsageError, match=r"^--compile is torch's: leave it out with --engine openvino"):
        choose(DeviceOptions(engine="openvino", compile=True))


def test_threads_keep_to_a_containers_share(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    free = available_cores(tmp_path / "none")
    for text, cores in (("max 100000", free), ("100000 100000", 1), ("50000 100000", 1), ("9900000 100000", free)):
        quota.write_text(text)
        assert available_cores(quota) == cores
