"""The batch that is measured: where the gain ends, within the memory, within the time, and without a trace in the
picture."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from racecheck import RaceChecker
from test_compile import standing_in
from test_engine import YUV, YUV10, Enlarger, batches, make_frames, run
from test_engine_races import SIZE, Doubler, check_result, make_batch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.dlpack import from_dlpack

from rcan_video.engine import calibration, torch_engine, trial
from rcan_video.engine.backend import resolve_device
from rcan_video.engine.calibration import BATCHES, GAIN, SECONDS, TRIALS, calibrate
from rcan_video.engine.choice import Choice, open_engine
from rcan_video.engine.memory import frame_bytes
from rcan_video.engine.task import BodyPrecision, Task
from rcan_video.engine.torch_engine import DEPTH, TorchEngine
from rcan_video.errors import DeviceError
from rcan_video.frames import ColorSpec, Frame, FrameBatch, PlaneLayout
from rcan_video.network import checkpoint
from rcan_video.network.catalog import LoadedModel, load_model
from rcan_video.network.rcan import RCAN, RCANConfig

CPU = torch.device("cpu")
FRAME = 1000  # bytes


def no_memory() -> Exception:
    return torch.OutOfMemoryError("injected")


class Device:
    """A ``Backend`` with a clock, which only work moves, and that only while somebody waits for it.

    ``seconds`` is what a call for so many frames takes, ``trials`` what is added to the first call for each number of
    frames, ``libraries`` what is added to the first of all. Calls for more than ``most`` frames raise what ``fails``
    makes, after which the device is lost if that is ``deadly``.
    """

    device = CPU
    unified = False

    def __init__(
        self,
        seconds: Callable[[int], float],
        *,
        free: int | None = 100 * FRAME,
        trials: float = 0.0,
        libraries: float = 0.0,
        most: int = 99,
        fails: Callable[[], Exception] = no_memory,
        deadly: bool = False,
    ) -> None:
        self.seconds, self.free, self.trials, self.libraries = seconds, free, trials, libraries
        self.most, self.fails, self.deadly = most, fails, deadly
        self.now = self.queued = 0.0
        self.calls: dict[int, int] = {}
        self.emptied = 0
        self.lost = False
        self.held: weakref.ref[Tensor] | None = None

    def prepare(self, frames: int) -> Callable[[], None]:
        def call() -> None:
            maps = torch.zeros(1)
            if frames > self.most:
                self.held = weakref.ref(maps)
                self.lost = self.deadly
                raise self.fails()
            self.queued += self.seconds(frames)
            self.queued += 0 if frames in self.calls else self.trials
            self.queued += 0 if self.calls else self.libraries
            self.calls[frames] = self.calls.get(frames, 0) + 1

        return call

    def clock(self) -> float:
        return self.now

    def synchronize(self) -> None:
        if self.lost:
            raise RuntimeError("CUDA error: unspecified launch failure")
        self.now += self.queued
        self.queued = 0.0

    def name(self) -> str:
        return "a device"

    def free_bytes(self) -> int | None:
        return self.free

    def stream(self) -> Any:
        return self

    def wait_event(self, event: Any) -> None: ...

    def event(self) -> Any:
        return self

    def record(self, stream: Any) -> None: ...

    def current(self) -> AbstractContextManager[object]:
        return nullcontext()

    def on(self, stream: Any) -> AbstractContextManager[object]:
        return nullcontext()

    def join(self, stream: Any) -> None: ...

    def pinned(self, shape: Any, dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    def empty_cache(self) -> None:
        assert self.held is None or self.held() is None, "what failed is still there"
        self.emptied += 1


def calibrated(device: Device, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[int]]:
    """The batch, and the sizes that worked when they were tried."""
    monkeypatch.setattr(calibration, "perf_counter", device.clock)
    return calibrate(device.prepare, device, FRAME), list(device.calls)


def table(times: Mapping[int, float]) -> Callable[[int], float]:
    return lambda frames: times[frames]


@pytest.mark.parametrize(
    ("seconds", "chosen", "tried"),
    [
        (lambda frames: 0.001 + 0.0001 * frames, 8, [1, 2, 4, 8]),  # launches outweigh the work
        (lambda frames: 0.001 * frames, 1, [1, 2]),  # one frame fills the device
        (lambda frames: 0.001 * max(frames, 2), 2, [1, 2, 4]),  # two fill it
        (table({1: 0.004, 2: 0.006, 4: 0.016, 8: 0.001}), 2, [1, 2, 4]),  # out of the cache; 8 is not looked at
        (lambda frames: 0.001 * frames * (1 - GAIN / 2 * (frames > 1)), 1, [1, 2]),  # quicker, but by too little
        (lambda frames: 0.001 * frames * (1 - 2 * GAIN * (frames > 1)), 2, [1, 2, 4]),
    ],
)
def test_as_many_as_are_quicker(
    seconds: Callable[[int], float], chosen: int, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calibrated(Device(seconds), monkeypatch) == (chosen, tried)


def test_the_first_call_of_a_shape_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what is loaded in the very first, which takes longer than all that the calibration may."""
    device = Device(lambda frames: 0.001 + 0.0001 * frames, trials=0.5 * TRIALS / 3, libraries=5 * SECONDS + 5 * TRIALS)
    assert calibrated(device, monkeypatch) == (8, [1, 2, 4, 8])


@pytest.mark.parametrize(("trials", "chosen"), [(0.4 * TRIALS, 8), (0.6 * TRIALS, 4), (1.1 * TRIALS, 2)])
def test_trials_of_algorithms_are_bounded(trials: float, chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(lambda frames: 0.001 + 0.0001 * frames, trials=trials)
    assert calibrated(device, monkeypatch)[0] == chosen


@pytest.mark.parametrize(
    ("free", "chosen", "tried"),
    [(None, 1, []), (0, 1, []), (3 * FRAME, 1, []), (4 * FRAME, 2, [1, 2]), (15 * FRAME, 4, [1, 2, 4])],
)
def test_within_half_of_the_free_memory(
    free: int | None, chosen: int, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that is no question, nothing is measured."""
    assert calibrated(Device(lambda _: 0.001, free=free), monkeypatch) == (chosen, tried)


@pytest.mark.parametrize(
    "fails",
    [no_memory, MemoryError, partial(RuntimeError, "CUDNN_STATUS_NOT_SUPPORTED")],
)
@pytest.mark.parametrize("most", [1, 2, 4])
def test_what_does_not_work_for_more_frames_is_left(
    fails: Callable[[], Exception], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its memory is given back, of which the error holds nothing any more."""
    device = Device(lambda _: 0.001, most=most, fails=fails)
    assert calibrated(device, monkeypatch)[0] == most
    assert device.held is not None and device.emptied == 1


def test_a_device_that_more_frames_cost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = partial(RuntimeError, "CUDA error: an illegal memory access")
    device = Device(lambda _: 0.001, most=1, fails=fails, deadly=True)
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        calibrated(device, monkeypatch)


def test_one_frame_that_does_not_fit_is_for_the_first_batch_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has the ladder below it."""
    assert calibrated(Device(lambda _: 0.001, most=0), monkeypatch) == (1, [])


def test_one_frame_that_does_not_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(lambda _: 0.001, most=0, fails=partial(RuntimeError, "not implemented for 'Half'"))
    with pytest.raises(RuntimeError, match="not implemented for 'Half'"):
        calibrated(device, monkeypatch)


@pytest.mark.parametrize("work", [0.0001, 0.001, 0.01, 0.03, 0.1, 0.2, 0.45])
def test_it_takes_about_a_second_at_most(work: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where every size is worth it; what was chosen until then is kept."""
    device = Device(lambda frames: work * frames * 0.8 ** frames.bit_length())
    chosen, tried = calibrated(device, monkeypatch)
    assert chosen == tried[-1] and device.now <= 1.1 * SECONDS
    assert chosen == 8 or device.now > 0.3 * SECONDS


def test_a_slow_network_computes_two_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(lambda frames: 20.0 + frames)
    assert calibrated(device, monkeypatch) == (1, [1])
    assert device.calls == {1: 2}


class Timed(Doubler):
    """``Doubler`` on a clock of its own: 1 ms and 0.1 ms a frame up to four, then 10 ms a frame."""

    now = 0.0

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        frames = len(planes[0])
        self.now += 0.001 + frames * (0.0001 if frames <= 4 else 0.01)
        return super().forward(*planes)


class Roomy(RaceChecker):
    """With memory of its own, of which ``free`` bytes are free."""

    free: int | None = 2**40

    def free_bytes(self) -> int | None:
        return self.free


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Timed:
    net = Timed(YUV)
    monkeypatch.setattr(calibration, "perf_counter", lambda: net.now)
    monkeypatch.setattr(calibration, "_WINDOW", 0.003)
    return net


def test_the_engine_takes_the_batch_that_was_measured(net: Timed) -> None:
    """And computes in no other; calibration, too, is without a race."""
    checker = Roomy()
    with checker:
        engine = TorchEngine(net, YUV, SIZE, YUV, 2, CPU, backend=checker)
        assert engine.batch == 4 and list(dict.fromkeys(net.sizes)) == [1, 2, 4, 8]
        assert engine.describe().endswith("batch 4")
        net.sizes.clear()
        for number in range(2 * DEPTH):
            sent = make_batch(4 * number, 4, YUV)
            check_result(engine.result(engine.submit(sent)), sent, YUV)
        engine.close()
    assert net.sizes == [4] * 2 * DEPTH


@pytest.mark.parametrize(("batch", "free"), [(3, 2**40), (None, None)])
def test_nothing_is_measured_where_the_batch_is_known(batch: int | None, free: int | None, net: Timed) -> None:
    """With ``--batch``, and on devices without memory of their own."""
    checker = Roomy()
    checker.free = free
    with checker:
        assert TorchEngine(net, YUV, SIZE, YUV, 2, CPU, batch=batch, backend=checker).batch == (batch or 1)
    assert not net.sizes


def test_nothing_is_measured_on_the_cpu(net: Timed) -> None:
    assert TorchEngine(net, YUV, SIZE, YUV, 2, CPU).batch == 1 and not net.sizes


def test_memory_that_runs_out_while_measuring_is_not_told(net: Timed) -> None:
    checker, said = Roomy(), list[str]()
    net.most = 2
    with checker:
        engine = TorchEngine(net, YUV, SIZE, YUV, 2, CPU, backend=checker, notice=said.append)
        assert engine.batch == 2
        sent = make_batch(0, 2, YUV)
        check_result(engine.result(engine.submit(sent)), sent, YUV)
    assert not said


def test_a_device_that_is_lost_while_measuring(net: Timed) -> None:
    checker = Roomy()

    class Deadly(Timed):
        def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
            checker.dead = RuntimeError("CUDA error: unspecified launch failure")
            return super().forward(*planes)

    with checker, pytest.raises(DeviceError, match=r"^cpu was lost while it worked \(CUDA error: unspecified"):
        TorchEngine(Deadly(YUV), YUV, SIZE, YUV, 2, CPU, backend=checker)


def make_task(layout: PlaneLayout = YUV, size: tuple[int, int] = (50, 38), model: LoadedModel | None = None) -> Task:
    stored = (layout, ColorSpec(1, False, "left"))
    return Task(model or load_model("fast", 2), stored, stored, size)


class Ticking(Device):
    """Takes 1 ms for whatever is waited for, so that eight frames are best."""

    def synchronize(self) -> None:
        self.now += 0.001


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Ticking(lambda _: 0.0, free=2**40)
    monkeypatch.setattr(torch_engine, "open_backend", lambda _: device)
    monkeypatch.setattr(calibration, "perf_counter", device.clock)
    monkeypatch.setattr(calibration, "_WINDOW", 0.001)
    return device


def test_one_shape_is_compiled(ticking: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the batch: the module that it is made of is measured."""
    seen, said, task = standing_in(monkeypatch, 0), list[str](), make_task(PlaneLayout("gray"), (8, 6))
    engine = open_engine(Choice("torch", CPU, asked=True, compile=True), task, None, None, said.append)
    engine.result(engine.submit(FrameBatch((trial.picture(PlaneLayout("gray"), (8, 6)),))))
    assert engine.describe().endswith("compiled, batch 8") and not said
    assert seen == [(8, 6, 8)] * 2
    engine.close()


@pytest.mark.parametrize("precision", ["single", "half", "bf16"])
def test_the_estimate_knows_the_precision(precision: BodyPrecision, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    def noted(prepare: object, backend: object, frame: int) -> int:
        given.append(frame)
        return 1

    monkeypatch.setattr(torch_engine, "calibrate", noted)
    engine = open_engine(Choice("torch", CPU, asked=True, precision=precision), make_task(), None, None, print)
    engine.close()
    assert given == [frame_bytes(50, 38, 2, {"single": 4, "half": 2, "bf16": 2}[precision])]
    assert frame_bytes(50, 38, 2, 2) < 0.75 * frame_bytes(50, 38, 2)


def test_a_precision_that_does_not_work_is_given_up_while_measuring(
    ticking: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, said = nn.Conv2d.forward, list[str]()

    def refuses(module: nn.Conv2d, x: Tensor) -> Tensor:
        if x.dtype == torch.float16:
            raise RuntimeError("\"slow_conv2d\" not implemented for 'Half'")
        return conv(module, x)

    monkeypatch.setattr(nn.Conv2d, "forward", refuses)
    engine = open_engine(Choice("torch", CPU, asked=True, precision="half"), make_task(), None, None, said.append)
    assert engine.describe().endswith("float32, batch 8")
    assert said == [
        "torch on cpu in float16 does not work here (\"slow_conv2d\" not implemented for 'Half'): torch on cpu goes on "
        "with the same frames"
    ]
    engine.close()


class Peak(TorchDispatchMode):
    """The most bytes that results of operations held at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._seen:
                storage = tensor.untyped_storage()
                self._seen.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return result

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


@pytest.mark.parametrize("frugal", [True, False])
@pytest.mark.parametrize("precision", ["single", "half"])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_estimate_covers_what_the_network_holds(
    frugal: bool, precision: BodyPrecision, scale: Literal[2, 4], tmp_path: Path
) -> None:
    """For the usual width, and not by much more than twice: 0.50 to 0.79 of it."""
    checkpoint.save(RCAN(RCANConfig(groups=1, blocks=2, features=64, upscale=scale)), tmp_path / "net.safetensors")
    size = (96, 72)
    task = replace(make_task(size=size, model=load_model(str(tmp_path / "net.safetensors"))), precision=precision)
    net = task.module(frugal=frugal)
    planes = [torch.zeros(1, *shape, dtype=torch.uint8) for shape in YUV.shapes(*size)]
    with torch.no_grad(), Peak() as peak:
        net(*planes)
    estimate = frame_bytes(*size, scale, 2 if precision == "half" else 4)
    assert 0.4 * estimate < peak.most <= estimate


@pytest.mark.parametrize("layout", [YUV, YUV10])
def test_the_batch_is_not_seen_in_the_picture(layout: PlaneLayout) -> None:
    task = make_task(layout)
    frames = make_frames(layout, task.size, 8)
    expected: list[Frame] = []
    for size in BATCHES:
        engine = TorchEngine(task.module(frugal=True), layout, task.size, layout, 2, CPU, size, 1)
        results = [frame for result in run(engine, batches(frames, size)) for frame in result.frames]
        engine.close()
        expected = expected or results
        for frame, reference in zip(results, expected, strict=True):
            check_close(frame, reference)


def check_close(frame: Frame, reference: Frame) -> None:
    """Equal but for a sample in a thousand, which rounding may put one code off."""
    for plane, other in zip(frame.planes, reference.planes, strict=True):
        off = (from_dlpack(plane).int() - from_dlpack(other).int()).abs()
        assert int(off.max()) <= 1 and float((off > 0).float().mean()) < 1e-3


@pytest.mark.cuda
def test_cuda_measures_and_computes_the_same() -> None:
    size, device = (96, 54), resolve_device("cuda:0")
    net, frames = Enlarger(YUV, size), make_frames(YUV, size, 20)
    plain = TorchEngine(copy.deepcopy(net), YUV, size, YUV, 2, device, batch=1)
    expected = [frame for result in run(plain, batches(frames, 1)) for frame in result.frames]
    plain.close()
    engine = TorchEngine(net, YUV, size, YUV, 2, device)
    assert engine.batch in BATCHES and engine.describe().endswith(f"batch {engine.batch}")
    results = [frame for result in run(engine, batches(frames, engine.batch)) for frame in result.frames]
    engine.close()
    for frame, reference in zip(results, expected, strict=True):
        check_close(frame, reference)
