"""Half precision: the body alone, held against float32 before the first frame, and left where it does not suffice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from racecheck import RaceChecker
from test_ladder import Counted, batches, noise, through
from torch import Tensor, nn

from rcan_video.engine import backend, choice, trial
from rcan_video.engine.base import Engine, Ticket, Unfaithful
from rcan_video.engine.choice import Choice, choose, open_engine
from rcan_video.engine.ladder import Ladder, Rung
from rcan_video.engine.task import BodyPrecision, Task
from rcan_video.engine.torch_engine import DEPTH, TorchEngine
from rcan_video.errors import NotFinite, OutOfMemory, UsageError
from rcan_video.frames import ColorSpec, FrameBatch, PlaneLayout
from rcan_video.network import checkpoint, fold
from rcan_video.network.catalog import LoadedModel, load_model
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.options import DeviceOptions

CPU = torch.device("cpu")
YUV = PlaneLayout("yuv", 8, 1, 1)
HALVES: tuple[BodyPrecision, ...] = ("half", "bf16")


def make_task(layout: PlaneLayout = YUV, size: tuple[int, int] = (50, 38), model: LoadedModel | None = None) -> Task:
    stored = (layout, ColorSpec(1, False, "left"))
    return Task(model or load_model("fast", 2), stored, stored, size)


def on_cpu(precision: BodyPrecision = "single", *, compiles: bool = False) -> Choice:
    return Choice("torch", CPU, asked=True, compile=compiles, precision=precision)


class Dtypes:
    """In what the convolutions of the body (of 16 features) computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[torch.dtype] = []
        forward = nn.Conv2d.forward

        def noted(conv: nn.Conv2d, x: Tensor) -> Tensor:
            if conv.in_channels == conv.out_channels == 16:
                self.seen.append(x.dtype)
            else:
                assert x.dtype == conv.weight.dtype
            return forward(conv, x)

        monkeypatch.setattr(nn.Conv2d, "forward", noted)


@pytest.mark.parametrize("layout", [YUV, PlaneLayout("yuv", 10, 1, 1)])
@pytest.mark.parametrize(("precision", "dtype"), [("half", torch.float16), ("bf16", torch.bfloat16)])
def test_the_body_is_in_half_and_the_picture_is_that_of_float32(
    layout: PlaneLayout, precision: BodyPrecision, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, said = make_task(layout), list[str]()
    frames = [FrameBatch((trial.picture(layout, task.size),))]
    plain = open_engine(on_cpu(), task, None, 1, said.append)
    (expected,) = through(plain, iter(frames), 1)
    engine = open_engine(on_cpu(precision), task, None, 1, said.append)
    dtypes = Dtypes(monkeypatch)
    (frame,) = through(engine, iter(frames), 1)
    assert not said and set(dtypes.seen) == {dtype}
    assert str(dtype).removeprefix("torch.") in engine.describe() and "float32" in plain.describe()
    trial.check(frame.planes, expected.planes, layout.depth)
    assert not all(torch.equal(*pair) for pair in zip(frame.planes, expected.planes, strict=True)), "it is used"
    engine.close()
    plain.close()


@pytest.mark.parametrize("precision", HALVES)
def test_in_tiles_too(precision: BodyPrecision, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for less than the whole frame: tiles, in the same precision."""
    task, said = make_task(size=(200, 16)), list[str]()
    forward = FoldedRCAN.forward

    def scarce(net: FoldedRCAN, x: Tensor) -> Tensor:
        if net.body_dtype != torch.float32 and not hasattr(net.body, "tile"):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: injected")
        return forward(net, x)

    monkeypatch.setattr(FoldedRCAN, "forward", scarce)
    engine = open_engine(on_cpu(precision), task, None, 1, said.append)
    dtypes = Dtypes(monkeypatch)
    frames = through(engine, noise_of(task, 2), 2)
    engine.close()
    name = {"half": "float16", "bf16": "bfloat16"}[precision]
    assert [frame.index for frame in frames] == [0, 1] and name in engine.describe()
    assert {str(dtype) for dtype in dtypes.seen} == {f"torch.{name}"}
    assert said == [
        f"torch on cpu in {name} ran out of memory: torch on cpu in {name} in tiles of 192 pixels goes on with the "
        "same frames, whose channel attention sees one tile at a time instead of the frame"
    ]


def noise_of(task: Task, count: int) -> Iterator[FrameBatch]:
    return iter(noise(task.size, count))


def large_model(tmp_path: Path, activation: str = "relu") -> LoadedModel:
    """Range 255, and activations of up to some 10^5 in it: more than float16 holds."""
    torch.manual_seed(0)
    net = RCAN(RCANConfig(groups=1, blocks=2, features=16, reduction=4, activation=activation)).requires_grad_(False)  # type: ignore[arg-type]
    head = net.head[-1]
    assert isinstance(head, nn.Conv2d)
    head.weight *= 2000
    net.tail[0][0].weight /= 2000  # type: ignore[union-attr, operator]
    checkpoint.save(net, tmp_path / "large.safetensors")
    return load_model(str(tmp_path / "large.safetensors"))


def test_range_255_does_not_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Because the body sees a 256th of it. Without that it does, which the trial finds: float32 takes over."""
    task = make_task(model=large_model(tmp_path))
    said: list[str] = []
    engine = open_engine(on_cpu("half"), task, None, 1, said.append)
    assert not said and "float16" in engine.describe()
    engine.close()
    monkeypatch.setattr(fold, "_shrink", lambda _: 1.0)
    engine = open_engine(on_cpu("half"), task, None, 1, said.append)
    assert said == [
        "torch on cpu in float16 gives NaN or infinity: torch on cpu goes on with the same frames",
    ]
    assert "float32" in engine.describe()
    dtypes = Dtypes(monkeypatch)
    assert len(through(engine, noise_of(task, 2), 1)) == 2 and set(dtypes.seen) == {torch.float32}
    engine.close()


def test_silu_cannot_be_scaled_and_is_told_from_what_overflows(tmp_path: Path) -> None:
    """RCAN-it's activation is not homogeneous, so its range stays, and with it the trial is what it is for."""
    said: list[str] = []
    engine = open_engine(on_cpu("half"), make_task(model=large_model(tmp_path, "silu")), None, 1, said.append)
    assert said == ["torch on cpu in float16 gives NaN or infinity: torch on cpu goes on with the same frames"]
    engine.close()


def test_another_picture_is_found_and_float32_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    task, said, forward = make_task(), list[str](), FoldedRCAN.forward

    def off(net: FoldedRCAN, x: Tensor) -> Tensor:
        return forward(net, x) + (0 if net.body_dtype == torch.float32 else 0.1)

    monkeypatch.setattr(FoldedRCAN, "forward", off)
    engine = open_engine(on_cpu("bf16"), task, None, 1, said.append)
    (sentence,) = said
    assert sentence.startswith("torch on cpu in bfloat16 differs from float32 by up to 2")
    assert sentence.endswith(" dB: torch on cpu goes on with the same frames") and "float32" in engine.describe()
    engine.close()


def test_what_the_device_cannot_do_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    task, said, forward = make_task(), list[str](), FoldedRCAN.forward

    def unknown(net: FoldedRCAN, x: Tensor) -> Tensor:
        if net.body_dtype != torch.float32:
            raise NotImplementedError("\"convolution\" not implemented for 'Half'")
        return forward(net, x)

    monkeypatch.setattr(FoldedRCAN, "forward", unknown)
    open_engine(on_cpu("half"), task, None, 1, said.append).close()
    assert said == [
        "torch on cpu in float16 does not work here (\"convolution\" not implemented for 'Half'): torch on cpu goes on "
        "with the same frames"
    ]


def test_weights_that_are_damaged_are_no_fault_of_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to compare with: float32 says of which frames."""
    task, said, forward = make_task(), list[str](), FoldedRCAN.forward
    monkeypatch.setattr(FoldedRCAN, "forward", lambda net, x: forward(net, x) * float("nan"))
    engine = open_engine(on_cpu("half"), task, None, 1, said.append)
    assert len(said) == 1 and "float32 gives NaN or infinity, too" in said[0]
    with pytest.raises(NotFinite, match="in frames 0 to 0 on cpu"):
        through(engine, noise_of(task, 1), 1)
    engine.close()


@pytest.mark.parametrize("ahead", [1, 4])
def test_nan_on_the_way_computes_the_same_frames_again(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the fourth frame on half precision fails; what was under way comes out of float32, once each, in order."""
    task, said, forward, calls = make_task(), list[str](), FoldedRCAN.forward, itertools.count()

    def overflowing(net: FoldedRCAN, x: Tensor) -> Tensor:
        y = forward(net, x)
        return y * float("inf") if net.body_dtype != torch.float32 and next(calls) > 3 else y

    expected = through(open_engine(on_cpu(), task, None, 1, said.append), noise_of(task, 7), 1)
    monkeypatch.setattr(FoldedRCAN, "forward", overflowing)
    engine = open_engine(on_cpu("half"), task, None, 1, said.append)
    frames = through(engine, noise_of(task, 7), ahead)
    engine.close()
    assert [(frame.index, frame.pts) for frame in frames] == [(frame.index, frame.pts) for frame in expected]
    assert said == ["torch on cpu in float16 gave NaN or infinity: torch on cpu goes on with the same frames"]
    for one, other in zip(frames, expected, strict=True):
        trial.check(one.planes, other.planes, 8)
    for one, other in zip(frames[3:], expected[3:], strict=True):
        assert all(torch.equal(*pair) for pair in zip(one.planes, other.planes, strict=True))


class Faulty(Counted):
    """An engine of ``test_ladder`` that may also give NaN."""

    def __init__(self, number: int, fails: Any, batch: int = 2) -> None:
        super().__init__(number, fails, batch)

    def result(self, ticket: Ticket) -> FrameBatch:
        done = super().result(ticket)
        if self.fails("nan"):
            raise NotFinite(f"engine {self.number}: NaN")
        return done


PLACES = ("open", "unfaithful", "submit", "result", "nan")


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 6)), max_size=4),
    st.integers(1, 5),
)
def test_whatever_is_at_fault_every_frame_comes_out_once(faults: list[tuple[str, int]], ahead: int) -> None:
    """Below a rung and plainer than it is the same one, the next; each fault leads there, and the last is sound."""
    said: list[str] = []

    def rung(number: int) -> Rung:
        place, countdown = faults[number] if number < len(faults) else ("never", 0)
        uses = itertools.count()

        def fails(where: str) -> bool:
            return where == place and next(uses) >= countdown

        def open_(batch: int | None) -> Engine:
            if place == "open":
                raise OutOfMemory("cannot even begin")
            if place == "unfaithful":
                raise Unfaithful("is wrong")
            return Faulty(number, fails)

        return Rung(f"engine {number}", open_, plainer=rungs(number + 1))

    def rungs(first: int) -> tuple[Rung, ...]:
        return (rung(first), *rungs(first + 1)) if first <= len(faults) else ()

    ladder = Ladder(rungs(0), 2, said.append)
    frames = through(ladder, batches(19), ahead)
    ladder.close()
    assert [(frame.index, frame.pts) for frame in frames] == [(i, 3 * i) for i in range(19)]
    engines = [int(frame.planes[0][0, 0]) - 10 for frame in frames]
    assert max(engines) <= len(said) <= len(faults)
    what = {"unfaithful": "is wrong", "nan": "gave NaN or infinity"}
    assert said == [
        f"engine {n} {what.get(faults[n][0], 'ran out of memory')}: engine {n + 1} goes on with the same frames"
        for n in range(len(said))
    ]
    assert not ladder._flight


def test_nan_with_nothing_plainer_is_an_error_and_does_not_stick() -> None:
    nans = itertools.count()
    ladder = Ladder(
        [
            Rung("engine 0", lambda _: Faulty(0, lambda where: where == "nan" and next(nans) == 0)),
            Rung("engine 1", lambda _: Faulty(1, lambda _: False)),
        ],
        2,
        lambda _: None,
    )
    one, another = batches(4)
    bad, good = ladder.submit(one), ladder.submit(another)
    with pytest.raises(NotFinite, match="engine 0: NaN"):
        ladder.result(bad)
    assert len(ladder.result(good)) == 2
    ladder.close()


def test_order_of_the_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "openvino_installed", lambda: False)
    gpu = torch.device("cuda", 0)

    def names(rungs: Any) -> list[str]:
        return [rung.name.replace(" pixels", "").replace("torch on ", "") for rung in rungs]

    def rungs(chosen: Choice) -> list[Rung]:
        return choice._rungs(chosen, make_task(size=(300, 200)), None, lambda _: None)

    below = ["cpu", "cpu in tiles of 192"]
    single = ["cuda:0", "cuda:0 in tiles of 192", *below]
    half = ["cuda:0 in float16", "cuda:0 in float16 in tiles of 192", *below]
    plain = rungs(Choice("torch", gpu, asked=False, precision="half"))
    assert names(plain) == half
    assert [names(rung.plainer) for rung in plain] == [single, single[1:], [], []]
    compiled = rungs(Choice("torch", gpu, asked=True, compile=True, precision="half"))
    assert names(compiled) == ["cuda:0 in float16 through torch.compile", *half[1:]]
    assert names(compiled[0].plainer) == half and names(compiled[0].plainer[0].plainer) == single
    assert names(rungs(on_cpu("bf16"))) == ["cpu in bfloat16", "cpu in bfloat16 in tiles of 192"]


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto is half where tensor cores are; elsewhere half is torch's and has to be asked for."""
    monkeypatch.setattr(choice, "openvino_installed", lambda: True)
    monkeypatch.setattr(choice, "may_have_accelerator", lambda: True)
    monkeypatch.setattr(backend, "_count", lambda kind: int(kind in ("cpu", "cuda")))
    monkeypatch.setattr(backend, "_lacking_code", lambda kind, index: None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for capability, found in (((6, 1), "single"), ((7, 0), "half"), ((12, 0), "half")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, value=capability: value)
        assert choose(DeviceOptions()).precision == found
        assert choose(DeviceOptions(precision="single")).precision == "single"
        assert choose(DeviceOptions(precision="bf16")).precision == "bf16"
    monkeypatch.setattr(torch.version, "cuda", None)  # ROCm
    assert choose(DeviceOptions()).precision == "single"
    assert choose(DeviceOptions("cpu")).engine == choose(DeviceOptions("cpu", precision="single")).engine == "openvino"
    assert choose(DeviceOptions("cpu", precision="half")) == on_cpu("half")
    with pytest.raises(UsageError, match=r"^--precision bf16 is torch's: leave it out with --engine openvino"):
        choose(DeviceOptions(engine="openvino", precision="bf16"))


def test_how_much_may_differ() -> None:
    def planes(*values: int) -> tuple[Tensor, ...]:
        found = torch.full((len(values), 20, 20), 100, dtype=torch.int32)
        found[:, 3, 4] += torch.tensor(values)
        return tuple(found.to(torch.uint16))

    same = planes(0, 0)
    trial.check(planes(4, 0), same, 8)
    trial.check(planes(0, -16), same, 10)
    with pytest.raises(Unfaithful, match=r"^differs from float32 by up to 5 of 255 and 60\.2 dB$"):
        trial.check(planes(0, 5), same, 8)
    with pytest.raises(Unfaithful, match=r"by up to 17 of 1023"):
        trial.check(planes(-17, 0), same, 10)
    every = tuple((plane.int() + 1).to(torch.uint16) for plane in same)
    with pytest.raises(Unfaithful, match=r"by up to 1 of 255 and 48\.1 dB"):
        trial.check(every, same, 8)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (64, 48)])
@pytest.mark.parametrize("layout", [YUV, PlaneLayout("gray", 12), PlaneLayout("yuv", 10, 1, 0, alpha=True)])
def test_the_picture_of_the_trial(layout: PlaneLayout, size: tuple[int, int]) -> None:
    frame, again = trial.picture(layout, size), trial.picture(layout, size)
    for plane, same, shape in zip(frame.planes, again.planes, layout.shapes(*size), strict=True):
        assert tuple(plane.shape) == shape and torch.equal(plane, same)  # type: ignore[arg-type]
        if plane.shape[0] * plane.shape[1] > 1:
            values = torch.as_tensor(plane).int()
            assert (int(values.min()), int(values.max())) == (0, 2**layout.depth - 1)


def test_a_precision_is_another_network() -> None:
    """As what is kept of compiled ones takes it."""
    task = make_task()
    variants = [replace(task, precision=precision).identity() for precision in ("single", *HALVES)]
    assert len(set(variants)) == 3


@pytest.mark.parametrize("precision", HALVES)
def test_no_race_in_half(precision: BodyPrecision) -> None:
    """The network of a job under the double of the GPU: no wait is missing, and none is hidden in it."""
    checker, work = RaceChecker(), [FrameBatch((frame,)) for frame in [trial.picture(YUV, (18, 14))] * (2 * DEPTH)]
    task = make_task(size=(18, 14))
    with checker:
        net = Task(task.model, task.source, task.target, task.size, precision=precision).module(frugal=True)
        engine = TorchEngine(net, YUV, task.size, YUV, 2, CPU, batch=1, backend=checker)
        tickets = [engine.submit(batch) for batch in work]
        results = [engine.result(ticket).frames[0].planes for ticket in tickets]
        engine.close()
    assert all(torch.equal(one, other) for planes in results for one, other in zip(planes, results[0], strict=True))


@pytest.mark.cuda
def test_cuda_computes_in_half_and_gives_the_picture_of_the_cpu() -> None:
    task, said = make_task(size=(96, 54)), list[str]()
    chosen = choose(DeviceOptions("cuda:0"))
    assert chosen.precision == "half"
    on_gpu = open_engine(chosen, task, 3, None, said.append)
    assert "float16" in on_gpu.describe() and not said
    frames = through(on_gpu, noise_of(task, 9), 5)
    expected = through(open_engine(on_cpu(), task, None, None, said.append), noise_of(task, 9), 1)
    on_gpu.close()
    for one, other in zip(frames, expected, strict=True):
        trial.check(one.planes, other.planes, 8)
