"""The scheduler of the torch engine under the checking double: every wait is there, and every one is needed."""

from __future__ import annotations

import sys
import types
from collections import deque
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from racecheck import HiddenSync, Race, RaceChecker
from torch import Tensor, nn

from rcan_video.engine import torch_engine
from rcan_video.engine.base import Ticket
from rcan_video.engine.torch_engine import DEPTH, TorchEngine
from rcan_video.errors import DeviceError, InputError, NotFinite, OutOfMemory
from rcan_video.frames import Frame, FrameBatch, PlaneLayout

SOURCE = Path(torch_engine.__file__).read_text(encoding="utf-8")
SIZE = (6, 5)  # odd, so that chroma is rounded up
BATCH = 4


class Doubler(nn.Module):
    """Every sample times two plus one, twice as wide and high; runs out of memory above ``most`` frames."""

    def __init__(self, layout: PlaneLayout, most: int = 99, divisor: float = 1.0) -> None:
        super().__init__()
        self.shapes = layout.shapes(SIZE[0] * 2, SIZE[1] * 2)
        self.most, self.divisor = most, divisor
        self.sizes: list[int] = []

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        self.sizes.append(len(planes[0]))
        if len(planes[0]) > self.most:
            raise torch.OutOfMemoryError("injected")
        bad = torch.zeros(1, dtype=torch.bool)
        out = []
        for plane, (height, width) in zip(planes, self.shapes, strict=True):
            value = plane.to(torch.float32) * 2 + 1
            large = value.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width] / self.divisor
            bad = bad | ~torch.isfinite(large.sum())
            out.append(torch.nan_to_num(large, posinf=0).to(plane.dtype))
        return (*out, bad)


def make_batch(first: int, count: int, layout: PlaneLayout) -> FrameBatch:
    """Frames whose planes hold (index + plane) % 100 everywhere; pts are not evenly spaced."""
    dtype = torch.uint8 if layout.depth == 8 else torch.uint16
    return FrameBatch(
        tuple(
            Frame(
                tuple(
                    torch.full(shape, (index + number) % 100, dtype=torch.int32).to(dtype)
                    for number, shape in enumerate(layout.shapes(*SIZE))
                ),
                pts=index * index,
                duration=2 * index + 1,
                index=index,
            )
            for index in range(first, first + count)
        )
    )


def check_result(result: FrameBatch, sent: FrameBatch, layout: PlaneLayout) -> None:
    assert [(f.pts, f.duration, f.index) for f in result.frames] == [(f.pts, f.duration, f.index) for f in sent.frames]
    for frame in result.frames:
        assert [tuple(p.shape) for p in frame.planes] == list(layout.shapes(SIZE[0] * 2, SIZE[1] * 2))
        for number, plane in enumerate(frame.planes):
            assert bool((plane.to(torch.int32) == 2 * ((frame.index + number) % 100) + 1).all())


YUV = PlaneLayout("yuv", 8, 1, 1)


def make_engine(
    checker: RaceChecker, net: nn.Module, layout: PlaneLayout = YUV, engine: type[TorchEngine] = TorchEngine
) -> TorchEngine:
    return engine(net, layout, SIZE, layout, 2, torch.device("cpu"), batch=BATCH, backend=checker)


def drive(
    engine_class: type[TorchEngine] = TorchEngine,
    net: Doubler | None = None,
    layout: PlaneLayout = YUV,
    counts: tuple[int, ...] = (BATCH,) * 10 + (3,),
    ahead: int = DEPTH + 2,
) -> RaceChecker:
    """Every frame through the engine, ``submit`` being ``ahead`` batches further than ``result``."""
    checker = RaceChecker()
    with checker:
        engine = make_engine(checker, net or Doubler(layout), layout, engine_class)
        waiting: deque[tuple[FrameBatch, Ticket]] = deque()
        first = returned = 0
        for count in counts:
            batch = make_batch(first, count, layout)
            waiting.append((batch, engine.submit(batch)))
            first += count
            if len(waiting) > ahead:
                sent, ticket = waiting.popleft()
                check_result(engine.result(ticket), sent, layout)
                returned += len(sent)
        for sent, ticket in waiting:
            check_result(engine.result(ticket), sent, layout)
            returned += len(sent)
        engine.close()
    assert returned == sum(counts)
    return checker


def test_no_race() -> None:
    """Results are right and in order with submit further ahead than the ring is deep; the check did see the work."""
    assert drive().operations > 1000


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p", "gray", "gray12le", "gbrp"])
def test_no_race_in_other_layouts(pix_fmt: str) -> None:
    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    drive(layout=layout)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.lists(st.integers(1, BATCH), min_size=1, max_size=9), st.integers(0, 2 * DEPTH), st.integers(1, BATCH))
def test_no_race_whatever_the_rhythm(counts: list[int], ahead: int, most: int) -> None:
    """Any batch sizes, any lead of submit over result, memory for any number of frames."""
    drive(counts=tuple(counts), ahead=ahead, net=Doubler(YUV, most=most))


def test_the_shape_is_constant() -> None:
    net = Doubler(YUV)
    drive(net=net, counts=(4, 2, 4, 1))
    assert set(net.sizes) == {BATCH}


WAIT_UPLOAD = "self._upload.wait_event(slot.computed)"
WAIT_INPUT = "self._compute.wait_event(slot.uploaded)"
WAIT_DRAINED = "self._compute.wait_event(slot.downloaded)"
WAIT_OUTPUT = "self._download.wait_event(slot.computed)"
DONE = "                done.record(self._download)\n"
DOWNLOAD = "host.samples.copy_(out.samples[:n], non_blocking=True)"
TICKET_MEMORY = "backend.pinned((n, self._target.samples(*self._target_size)), _dtype(self._target))"
RUN = "self._run(slot.dev_in[:rows], out)"

MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "refill without waiting for the upload": [("slot.uploaded.synchronize()", "pass")],
    "upload while the network reads": [(WAIT_UPLOAD, "pass")],
    "network before its input is there": [(WAIT_INPUT, "pass")],
    "network while the output is downloaded": [(WAIT_DRAINED, "pass")],
    "download before the network is done": [(WAIT_OUTPUT, "pass")],
    "result without waiting": [("ticket.done.synchronize()", "pass")],
    "done recorded before the copies": [(DONE, ""), (WAIT_OUTPUT, f"{WAIT_OUTPUT}; done.record(self._download)")],
    "ticket is a part of the slot": [
        (
            TICKET_MEMORY,
            f"self.__dict__.setdefault(str(id(slot)), {TICKET_MEMORY.replace('(n,', '(self._batch,')})[:n]",
        ),
    ],
    "output of the network escapes its stream": [
        (RUN, f"{RUN}; out = _Output(out.samples.clone(), out.not_finite)"),
    ],
    "done recorded on another stream": [(DONE, DONE.replace("_download", "_compute"))],
    "computed recorded before the network": [
        (f"{RUN}\n                slot.computed.record(self._compute)", f"slot.computed.record(self._compute); {RUN}"),
    ],
}


def mutate(monkeypatch: pytest.MonkeyPatch, changes: list[tuple[str, str]]) -> type[TorchEngine]:
    """The engine's module with changes to its text, each of which must be found exactly once."""
    text = SOURCE
    for old, new in changes:
        assert text.count(old) == 1, f"not found once: {old}"
        text = text.replace(old, new)
    name = "mutated_torch_engine"
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
    exec(compile(text, name, "exec"), module.__dict__)
    engine: type[TorchEngine] = module.__dict__["TorchEngine"]
    return engine


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_wait_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Race):
        drive(mutate(monkeypatch, MUTATIONS[name]))


@pytest.mark.parametrize("read", ["bool(out.not_finite)", "out.not_finite.item()", "out.samples.nonzero()"])
def test_a_hidden_wait_for_the_device_is_found(read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HiddenSync):
        drive(mutate(monkeypatch, [(RUN, f"{RUN}; {read}")]))


def test_the_unchanged_text_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the mutations might fail for being compiled from text."""
    drive(mutate(monkeypatch, []))


def test_out_of_memory_halves_the_batch_and_loses_nothing() -> None:
    net = Doubler(YUV, most=1)
    drive(net=net, counts=(4, 4, 3))
    assert net.sizes == [4, 2] + [1] * 12  # the limit is remembered


def test_out_of_memory_keeps_the_shape_where_halves_are_uneven() -> None:
    """Three of four rows fit not; two do, and a last part of one would be another shape."""
    checker, net = RaceChecker(), Doubler(YUV, most=2)
    with checker:
        engine = TorchEngine(net, YUV, SIZE, YUV, 2, torch.device("cpu"), batch=5, backend=checker)
        sent = make_batch(0, 5, YUV)
        check_result(engine.result(engine.submit(sent)), sent, YUV)
    assert net.sizes == [5, 2, 2, 2]


def test_out_of_memory_for_one_frame_names_the_size_and_leaves_the_engine_usable() -> None:
    checker, net = RaceChecker(), Doubler(YUV, most=0)
    with checker:
        engine = make_engine(checker, net)
        for _ in range(DEPTH + 1):
            with pytest.raises(OutOfMemory, match="one frame of 6x5 at scale 2: use a smaller model or scale"):
                engine.submit(make_batch(0, 4, YUV))
        net.most = 99
        sent = make_batch(4, 4, YUV)
        check_result(engine.result(engine.submit(sent)), sent, YUV)
    assert net.sizes == [4, 2, 1] + [1] * DEPTH + [1] * 4


def test_not_finite_names_the_frames_and_does_not_stick() -> None:
    checker, net = RaceChecker(), Doubler(YUV, divisor=0.0)
    with checker:
        engine = make_engine(checker, net)
        bad = engine.submit(make_batch(8, 4, YUV))
        net.divisor = 1.0
        later = make_batch(12, 4, YUV)
        good = engine.submit(later)
        with pytest.raises(NotFinite, match="frames 8 to 11"):
            engine.result(bad)
        check_result(engine.result(good), later, YUV)


@pytest.mark.parametrize("where", ["submit", "result"])
def test_a_lost_device_is_never_called_again(where: str) -> None:
    checker = RaceChecker()
    with checker:
        engine = make_engine(checker, Doubler(YUV))
        ticket = engine.submit(make_batch(0, 4, YUV))
        checker.dead = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nfurther advice")
        with pytest.raises(
            DeviceError, match=r"was lost .*\(CUDA error: an illegal memory access was encountered\)"
        ) as e:
            engine.result(ticket) if where == "result" else engine.submit(make_batch(4, 4, YUV))
        assert isinstance(e.value.__cause__, torch.AcceleratorError)
        calls = checker.calls
        with pytest.raises(DeviceError, match="was lost"):
            engine.submit(make_batch(4, 4, YUV))
        with pytest.raises(DeviceError, match="was lost"):
            engine.result(ticket)
        engine.close()
        assert checker.calls == calls


def test_an_error_of_the_network_is_not_taken_for_a_lost_device() -> None:
    checker, net = RaceChecker(), Doubler(YUV)
    with checker:
        engine = make_engine(checker, net)
        before = make_batch(0, 4, YUV)
        ticket = engine.submit(before)
        net.shapes = ()
        with pytest.raises(ValueError, match="zip"):
            engine.submit(make_batch(4, 4, YUV))
        net.shapes = YUV.shapes(SIZE[0] * 2, SIZE[1] * 2)
        again = make_batch(4, 4, YUV)
        tickets = [engine.submit(again) for _ in range(2 * DEPTH)]
        check_result(engine.result(ticket), before, YUV)
        for later in tickets:
            check_result(engine.result(later), again, YUV)


def test_a_frame_of_another_size_is_refused_before_anything_is_queued() -> None:
    checker = RaceChecker()
    with checker:
        engine = make_engine(checker, Doubler(YUV))
        calls = checker.calls
        wide = Frame(tuple(torch.zeros(s, dtype=torch.uint8) for s in YUV.shapes(8, 5)), 0, 1, 7)
        with pytest.raises(InputError, match=r"frame 7 is 8x5 in 3 planes of uint8, but the video began as 6x5"):
            engine.submit(FrameBatch((wide,)))
        assert checker.calls == calls


def test_results_outlive_ring_and_engine() -> None:
    checker = RaceChecker()
    with checker:
        engine = make_engine(checker, Doubler(YUV))
        kept = []
        for number in range(3 * DEPTH):
            sent = make_batch(4 * number, 4, YUV)
            kept.append((sent, engine.result(engine.submit(sent))))
        last = make_batch(99, 2, YUV)
        ticket = engine.submit(last)
        engine.close()
        for sent, result in [*kept, (last, engine.result(ticket))]:
            check_result(result, sent, YUV)


def test_the_checker_finds_a_plain_race() -> None:
    """The double itself: two streams and one tensor, with and without an event between them."""
    checker = RaceChecker()
    with checker:
        one, two, event = checker.stream(), checker.stream(), checker.event()
        tensor = torch.zeros(3)
        with checker.on(one):
            tensor.add_(1)
            event.record(one)
        with checker.on(two), pytest.raises(Race, match="writes what"):
            tensor.mul_(2)
        with checker.on(two), pytest.raises(Race, match="reads what"):
            tensor.sum()
        with pytest.raises(Race, match="on host reads"):
            tensor.sum()
        two.wait_event(event)
        with checker.on(two):
            tensor.mul_(2)
        two.synchronize()
        assert int(tensor.sum()) == 3 * 2 * 2  # what raced was done all the same
        with checker.on(one):
            mine = torch.zeros(3)
        two.wait_event(event)
        with checker.on(two), pytest.raises(Race, match="no record_stream"):
            mine.add_(1)
