"""Several devices for one job: which are meant, and that their frames are those of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcan_video.engine import backend, choice, devices
from rcan_video.engine.choice import Choice
from rcan_video.engine.devices import choose_devices, open_devices
from rcan_video.engine.task import Task
from rcan_video.errors import DeviceError, UsageError
from rcan_video.frames import ColorSpec, Frame, FrameBatch, PlaneLayout
from rcan_video.job import upscale
from rcan_video.network.catalog import load_model
from rcan_video.options import DeviceOptions, EncodeOptions, Options
from tests.clips import make_clip, read_video

CPU = Choice("torch", torch.device("cpu"), asked=True)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says how many CUDA devices there are."""

    def arrange(count: int) -> None:
        for module in (choice, devices):
            monkeypatch.setattr(module, "may_have_accelerator", lambda: count > 0)
        monkeypatch.setattr(choice, "openvino_installed", lambda: False)
        monkeypatch.setattr(backend, "_count", lambda kind: {"cpu": 1, "cuda": count}.get(kind, 0))
        monkeypatch.setattr(backend, "_lacking_code", lambda kind, index: None)

    return arrange


def names(options: DeviceOptions) -> list[str]:
    return [str(found.device) for found in choose_devices(options)]


def test_lists_of_devices(gpus: Any) -> None:
    gpus(3)
    assert names(DeviceOptions("cuda:2,cuda:0,cpu")) == ["cuda:2", "cuda:0", "cpu"]
    assert names(DeviceOptions("cpu,cpu")) == ["cpu", "cpu"]
    assert names(DeviceOptions("all")) == ["cuda:0", "cuda:1", "cuda:2"]
    assert names(DeviceOptions()) == ["cuda:0"]
    gpus(0)
    assert names(DeviceOptions("all")) == names(DeviceOptions()) == ["cpu"]


@pytest.mark.parametrize("text", ["cpu,", ",cpu", "cpu,,cpu", "", "auto,cpu", "cpu,all"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--device .*is no list of devices: name each, as in cuda:0,cuda:1, or use"):
        choose_devices(DeviceOptions(text))


def test_one_that_is_not_there_is_named(gpus: Any) -> None:
    gpus(2)
    with pytest.raises(DeviceError, match="there is no device cuda:2 here: the last one is cuda:1"):
        choose_devices(DeviceOptions("cuda:0,cuda:2"))
    with pytest.raises(UsageError, match="--engine openvino computes on the CPU: leave --device all out"):
        choose_devices(DeviceOptions("all", engine="openvino"))


class Opened:
    """An engine that is never used."""

    batch = 1

    def __init__(self) -> None:
        self.closed = False

    def describe(self) -> str:
        return "opened"

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def task() -> Task:
    stored = (PlaneLayout("gray"), ColorSpec(1, False, "left"))
    return Task(load_model("fast", 2), stored, stored, (8, 6))


@pytest.mark.parametrize(
    ("given", "kinds", "shares"),
    [
        (5, ["cpu", "cpu"], [2, 2]),
        (1, ["cpu", "cpu", "cpu"], [1, 1, 1]),
        (None, ["cpu", "cpu"], [4, 4]),
        (6, ["cuda", "cpu"], [6, 6]),
        (None, ["cuda", "cuda"], [None, None]),
        (None, ["cpu"], [None]),
    ],
)
def test_engines_on_the_cpu_share_its_threads(
    monkeypatch: pytest.MonkeyPatch, task: Task, given: int | None, kinds: list[str], shares: list[int | None]
) -> None:
    asked = []

    def open_engine(one: Choice, _: Task, batch: int | None, threads: int | None, __: object) -> Opened:
        asked.append(threads)
        return Opened()

    monkeypatch.setattr(devices, "open_engine", open_engine)
    monkeypatch.setattr(devices, "available_cores", lambda: 8)
    choices = [Choice("torch", torch.device(kind), asked=True) for kind in kinds]
    open_devices(choices, task, None, given, lambda _: None).close()
    assert asked == shares


def test_where_one_does_not_open_the_others_are_closed(monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    opened: list[Opened] = []

    def open_engine(*_: object) -> Opened:
        if len(opened) == 2:
            raise DeviceError("the third is broken")
        opened.append(Opened())
        return opened[-1]

    monkeypatch.setattr(devices, "open_engine", open_engine)
    with pytest.raises(DeviceError, match="the third is broken"):
        open_devices([CPU] * 3, task, None, None, lambda _: None)
    assert [engine.closed for engine in opened] == [True, True]


def test_two_real_engines_give_the_frames_of_one(task: Task) -> None:
    random = np.random.default_rng(1)
    frames = [Frame((random.integers(16, 235, (6, 8), np.uint8),), k, 1, k) for k in range(7)]

    def through(count: int) -> list[Frame]:
        engine = open_devices([CPU] * count, task, 1, count, lambda _: None)
        found = []
        for frame in frames:
            found += engine.result(engine.submit(FrameBatch((frame,)))).frames
        engine.close()
        return found

    for one, other in zip(through(1), through(2), strict=True):
        assert (one.pts, one.index) == (other.pts, other.index)
        np.testing.assert_array_equal(np.asarray(one.planes[0]), np.asarray(other.planes[0]))


def test_a_whole_job_on_two_engines(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 24), frames=20)

    def pictures(device: str) -> list[Any]:
        out = tmp_path / f"{device.count(',')}.mp4"
        said = DeviceOptions(device, batch=1, threads=2, engine="torch")
        encode = EncodeOptions(codec="libx264", preset="ultrafast", options={"threads": "1"})
        report = upscale(Options(str(clip), str(out), device=said, encode=encode))
        assert report.frames_out == 20
        return read_video(out)

    for (time, planes), (other_time, others) in zip(pictures("cpu"), pictures("cpu,cpu"), strict=True):
        assert time == other_time
        for a, b in zip(planes, others, strict=True):
            np.testing.assert_array_equal(a, b)
