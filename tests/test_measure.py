"""What the benchmark measures is what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rcan_video.commands import measure, stages
from rcan_video.engine import trial
from rcan_video.engine.task import Task
from rcan_video.frames import ColorSpec, Frame, PlaneLayout
from rcan_video.network.catalog import load_model


def process(code: str, folder: Path) -> measure._Process:
    info: Any = SimpleNamespace(rate=25)
    return measure._Process([sys.executable, "-c", code], info, folder)


def test_standing_choices_do_not_reach_the_measured_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCAN_VIDEO_COMPILE", "1")
    told = tmp_path / "told"
    process(f"import json, os, sys; json.dump([sys.argv, [*os.environ]], open({str(told)!r}, 'w'))", tmp_path).run(1)
    line, environment = json.loads(told.read_text())
    assert not [name for name in environment if name.startswith("RCAN_VIDEO_")]
    assert Path(line[line.index("--config") + 1]).read_text() == ""


def test_an_interrupted_benchmark_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes]) -> None:
        begun.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "peak_memory", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process("import time; time.sleep(60)", tmp_path).run(1)
    assert begun[0].returncode is not None


def test_a_slow_matrix_product_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision without hardware for it: nine products of that size take minutes."""
    timed: list[float] = []

    def slow(work: Callable[[], object]) -> float:
        work()
        timed.append(2 * stages._LONG)
        return timed[-1]

    monkeypatch.setattr(stages, "matrix_side", lambda _: 8)
    monkeypatch.setattr(stages, "timed", slow)
    assert stages.matmul_gflops(torch.device("cpu"), "half") == pytest.approx(2 * 8**3 / timed[0] / 1e9)
    assert len(timed) == 1


def test_a_precision_that_is_given_up_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial, "LEAST", 1000.0)
    stored = (PlaneLayout("yuv", 8, 1, 1), ColorSpec(1, False, "left"))
    task = Task(load_model("fast", 2), stored, stored, (32, 16))
    measure._Rival("torch", "bf16").open(torch.device("cpu"), task, 1).close()
    assert "in bfloat16 differs from float32" in capsys.readouterr().err


def test_the_bare_engine_gets_whole_batches() -> None:
    """A GPU's engine computes a batch of one frame as one of eight."""
    sizes: list[int] = []
    engine: Any = SimpleNamespace(batch=4, submit=lambda batch: sizes.append(len(batch)), result=lambda _: None)
    frames: list[Any] = [Frame((), number, 1, number) for number in range(10)]
    measure._loop(engine, frames)
    assert sizes == [4, 4, 2]


def test_a_rate_is_not_made_of_noise() -> None:
    run = measure._Run(frames=11, bare=1.0, whole=3.0, cold=2.0, warm=1.0, peak_gflops=100.0, memory=None)
    assert run.steady == 5.0
    for whole in (1.0, 0.9, 1.2):
        assert replace(run, whole=whole).steady is None
