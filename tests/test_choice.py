"""Which engine is taken, and what is said where it is not there."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rcan_video.engine import backend, choice
from rcan_video.engine.choice import Choice, choose, may_have_accelerator, open_engine
from rcan_video.engine.task import Task
from rcan_video.errors import DeviceError, OutOfMemory, UsageError
from rcan_video.frames import ColorSpec, PlaneLayout
from rcan_video.network.catalog import load_model
from rcan_video.options import DeviceOptions

CPU = torch.device("cpu")
OPENVINO = Choice("openvino", None, asked=False)
TORCH = Choice("torch", CPU, asked=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says what is there: ``machine(openvino=False, gpu=True)``."""

    def arrange(*, openvino: bool = True, gpu: bool = False, driver: bool | None = None) -> None:
        monkeypatch.setattr(choice, "openvino_installed", lambda: openvino)
        monkeypatch.setattr(choice, "may_have_accelerator", lambda: gpu if driver is None else driver)
        monkeypatch.setattr(backend, "_count", lambda kind: int(kind == "cpu" or (gpu and kind == "cuda")))
        monkeypatch.setattr(backend, "_lacking_code", lambda kind, index: None)

    return arrange


def test_auto(machine: Any) -> None:
    machine()
    assert choose(DeviceOptions()) == choose(DeviceOptions("cpu")) == choose(DeviceOptions("cpu:0")) == OPENVINO
    machine(driver=True)  # an integrated GPU, which this torch cannot use
    assert choose(DeviceOptions()) == OPENVINO
    machine(openvino=False)
    assert choose(DeviceOptions()) == choose(DeviceOptions("cpu")) == TORCH
    machine(gpu=True)
    assert choose(DeviceOptions()).device == torch.device("cuda", 0)
    assert choose(DeviceOptions("cpu")) == OPENVINO


def test_named(machine: Any) -> None:
    machine(gpu=True)
    assert choose(DeviceOptions(engine="openvino")) == Choice("openvino", None, asked=True)
    assert choose(DeviceOptions("cpu", engine="torch")) == Choice("torch", CPU, asked=True)
    assert choose(DeviceOptions("cuda", engine="torch")).device == torch.device("cuda", 0)
    with pytest.raises(UsageError, match=r"^--engine openvino computes on the CPU: leave --device cuda out, or use"):
        choose(DeviceOptions("cuda", engine="openvino"))
    machine(openvino=False)
    with pytest.raises(DeviceError, match=r"^OpenVINO is not installed here: pip install rcan-video\[openvino\], or"):
        choose(DeviceOptions(engine="openvino"))


def test_unknown_devices_are_still_named(machine: Any) -> None:
    machine()
    with pytest.raises(DeviceError, match="no device is called 'gpu'"):
        choose(DeviceOptions("gpu"))


def test_torch_is_asked_about_accelerators_only_where_one_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cpu"}
    drivers: set[str] = set()
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    monkeypatch.setattr(Path, "exists", lambda path: path.as_posix() in drivers)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not may_have_accelerator()
    drivers.add("/dev/nvidiactl")
    assert not may_have_accelerator()  # a build for CPUs could not use it
    versions["torch"] = "2.13.0"
    assert may_have_accelerator()
    drivers.clear()
    assert not may_have_accelerator()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert may_have_accelerator()


@pytest.fixture
def task() -> Task:
    stored = (PlaneLayout("gray"), ColorSpec(1, False, "left"))
    return Task(load_model("fast", 2), stored, stored, (8, 6))


def test_what_is_chosen_is_opened(task: Task) -> None:
    pytest.importorskip(
        "rcan_video.engine.openvino_silent", exc_type=ImportError, reason="the extra openvino is not installed here"
    )
    said: list[str] = []
    for chosen, name in ((OPENVINO, "OpenVINO on cpu"), (TORCH, "torch on cpu")):
        engine = open_engine(chosen, task, 2, None, said.append)
        assert engine.describe().startswith(name)
        assert engine.batch == 2
        engine.close()
    assert not said


@pytest.mark.parametrize("error", [ImportError("no libtbb"), DeviceError("OpenVINO cannot (x): use --engine torch")])
def test_auto_falls_back_to_torch_and_says_so(task: Task, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(error, ImportError):
        monkeypatch.setitem(sys.modules, "rcan_video.engine.openvino_engine", None)
        sentence = "OpenVINO does not load here ("
    else:
        sentence = "OpenVINO cannot (x): torch computes instead"
        monkeypatch.setattr(choice, "_open_openvino", _raising(error))
    said: list[str] = []
    engine = open_engine(OPENVINO, task, None, None, said.append)
    assert engine.describe().startswith("torch on cpu")
    engine.close()
    assert len(said) == 1
    assert said[0].startswith(sentence) and said[0].endswith(": torch computes instead")
    with pytest.raises(DeviceError, match=r": use --engine torch$"):
        open_engine(Choice("openvino", None, asked=True), task, None, None, said.append)
    assert len(said) == 1


def test_memory_that_runs_out_is_no_reason_for_torch(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_open_openvino", _raising(OutOfMemory("not enough")))
    with pytest.raises(OutOfMemory):
        open_engine(OPENVINO, task, None, None, lambda _: None)


def _raising(error: Exception) -> Any:
    def fail(*_: object) -> Any:
        raise error

    return fail
