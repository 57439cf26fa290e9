"""Memory that runs out: whatever the rung and the moment, every frame comes out once, in order, and people are told."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from clips import make_clip, read_video
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rcan_video.engine import choice
from rcan_video.engine.base import Engine, Ticket
from rcan_video.engine.choice import Choice, open_engine
from rcan_video.engine.ladder import Ladder, Rung
from rcan_video.engine.task import Task
from rcan_video.errors import OutOfMemory
from rcan_video.frames import ColorSpec, Frame, FrameBatch, PlaneLayout
from rcan_video.job import upscale
from rcan_video.network.catalog import load_model
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.tiles import TiledBody
from rcan_video.options import DeviceOptions, Options
from rcan_video.progress import Silent

GRAY = PlaneLayout("gray")
SIZE = (4, 2)


class Counted:
    """An engine that adds its number to every sample, and of which memory runs out as ``fails`` says."""

    class Done:
        def synchronize(self) -> None: ...

    def __init__(self, number: int, fails: Callable[[str], bool], batch: int = 2) -> None:
        self.number, self.fails, self.batch = number, fails, batch
        self.open, self.busy = True, threading.Lock()
        self.waiting: list[Ticket] = []

    def describe(self) -> str:
        return f"engine {self.number}"

    def submit(self, batch: FrameBatch) -> Ticket:
        assert self.open and self.busy.acquire(blocking=False), "two threads submit, or it is closed"
        try:
            self._use("submit")
            frames = tuple(
                Frame((frame.planes[0] + self.number,), frame.pts, frame.duration, frame.index)
                for frame in batch.frames
            )
            self.waiting.append(Ticket(FrameBatch(frames), self.Done(), torch.zeros(1)))
            return self.waiting[-1]
        finally:
            self.busy.release()

    def result(self, ticket: Ticket) -> FrameBatch:
        place = self.waiting.index(ticket)  # in the order in which they were given out, though perhaps not all
        del self.waiting[: place + 1]
        self._use("result")
        return ticket.output

    def close(self) -> None:
        self.open = False

    def _use(self, where: str) -> None:
        if self.fails(where):
            raise OutOfMemory(f"engine {self.number} has not enough memory in {where}")


def batches(count: int, size: int = 2) -> Iterator[FrameBatch]:
    for first in range(0, count, size):
        yield FrameBatch(
            tuple(
                Frame((torch.full((2, 4), 10, dtype=torch.uint8),), 3 * index, 3, index)
                for index in range(first, min(count, first + size))
            )
        )


def through(engine: Engine, work: Iterator[FrameBatch], ahead: int) -> list[Frame]:
    """All frames that come out, ``submit`` and ``result`` in threads of their own."""
    tickets: Queue[Ticket | None] = Queue(maxsize=ahead)
    frames: list[Frame] = []
    errors: list[BaseException] = []

    def collect() -> None:
        while (ticket := tickets.get()) is not None:
            try:
                frames.extend(engine.result(ticket).frames)
            except BaseException as error:
                errors.append(error)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for batch in work:
            tickets.put(engine.submit(batch))
    finally:
        tickets.put(None)
        collector.join()
    if errors:
        raise errors[0]
    return frames


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(("open", "submit", "result")), st.integers(0, 9)), max_size=4),
    st.integers(1, 5),
)
def test_every_frame_comes_out_once(failures: list[tuple[str, int]], ahead: int) -> None:
    """Each engine but the last fails at its n-th opening, submit or result."""
    said: list[str] = []

    def rung(number: int) -> Rung:
        place, countdown = failures[number] if number < len(failures) else ("never", 0)
        uses = itertools.count()

        def fails(where: str) -> bool:
            return where == place and next(uses) >= countdown

        def open_(batch: int | None) -> Engine:
            if place == "open":
                raise OutOfMemory("cannot even begin")
            return Counted(number, fails)

        return Rung(f"engine {number}", open_)

    ladder = Ladder([rung(number) for number in range(len(failures) + 1)], 2, said.append)
    frames = through(ladder, batches(23), ahead)
    ladder.close()
    assert [(frame.index, frame.pts, frame.duration) for frame in frames] == [(i, 3 * i, 3) for i in range(23)]
    engines = [int(frame.planes[0][0, 0]) - 10 for frame in frames]
    # Not that they rise: what the engine above had done before it was left may come out of it, in between.
    assert max(engines) <= len(said) <= len(failures)
    assert said == [
        f"engine {n} ran out of memory: engine {n + 1} goes on with the same frames" for n in range(len(said))
    ]
    assert not ladder._flight, "what is done is forgotten"


def test_nothing_left_is_the_last_ones_error() -> None:
    """Once: the thread of ``submit`` hears it as well as that of ``result``, and no closed engine is asked again."""

    def opening(number: int) -> Callable[[int | None], Engine]:
        return lambda batch: Counted(number, lambda where: where == "result")

    ladder = Ladder([Rung(f"engine {n}", opening(n)) for n in range(2)], None, lambda _: None)
    one, another = batches(4)
    ticket = ladder.submit(one)
    with pytest.raises(OutOfMemory, match=r"^engine 1 has not enough memory in result$"):
        ladder.result(ticket)
    ladder.close()

    def never(batch: int | None) -> Engine:
        raise OutOfMemory("cannot begin")

    ladder = Ladder([Rung("engine 0", opening(0)), Rung("engine 1", never)], None, lambda _: None)
    ticket = ladder.submit(one)
    for attempt in (lambda: ladder.result(ticket), lambda: ladder.submit(another)):
        with pytest.raises(OutOfMemory, match=r"^cannot begin$"):
            attempt()
    ladder.close()
    with pytest.raises(OutOfMemory, match=r"^cannot begin$"):
        Ladder([Rung("engine 1", never)], None, lambda _: None)


def test_a_ring_that_does_not_fit_gets_smaller_batches_first() -> None:
    asked: list[int | None] = []
    said: list[str] = []

    def open_(batch: int | None) -> Engine:
        asked.append(batch)
        if batch is None or batch > 3:
            raise OutOfMemory("no room")
        return Counted(0, lambda _: False, batch)

    assert Ladder([Rung("engine 0", open_)], 13, said.append).batch == 3
    assert asked == [13, 6, 3]
    assert said == ["engine 0 has no memory for a batch of 13 frames: 3 from here on"]


def make_task(size: tuple[int, int]) -> Task:
    stored = (PlaneLayout("yuv", 8, 1, 1), ColorSpec(1, False, "left"))
    return Task(load_model("fast", 2), stored, stored, size)


TORCH = Choice("torch", torch.device("cpu"), asked=False)


def noise(size: tuple[int, int], count: int) -> list[FrameBatch]:
    generator = torch.Generator().manual_seed(3)
    shapes = make_task(size).source[0].shapes(*size)
    return [
        FrameBatch(
            (Frame(tuple(torch.randint(0, 256, s, generator=generator, dtype=torch.uint8) for s in shapes), i, 1, i),)
        )
        for i in range(count)
    ]


class Scarce:
    """Memory for so many samples in one convolution of ``features`` maps; injected, as torch says it for the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.largest = 0
        forward = nn.Conv2d.forward

        def counted(conv: nn.Conv2d, x: Tensor) -> Tensor:
            if conv.in_channels == conv.out_channels == 16:  # of the residual groups
                samples = len(x) * x.shape[-2] * x.shape[-1]
                if samples > most:
                    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: injected")
                self.largest = max(self.largest, samples)
            return forward(conv, x)

        monkeypatch.setattr(nn.Conv2d, "forward", counted)


@pytest.mark.parametrize(("most", "rung"), [(700 * 16, 0), (400 * 16, 1), (230 * 16, 2), (100 * 16, None)])
def test_torch_goes_down_to_tiles(most: int, rung: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """600x16 in two tiles of 300 and then in four of 150 pixels, and 27 more on either side of each."""
    size, said = (600, 16), list[str]()
    work = noise(size, 3)
    expected = through(open_engine(TORCH, make_task(size), 1, None, said.append), iter(work), 2)
    scarce = Scarce(monkeypatch, most)
    monkeypatch.setattr(choice, "TILES", (500, 192))
    engine = open_engine(TORCH, make_task(size), 1, None, said.append)
    if rung is None:
        with pytest.raises(OutOfMemory, match=r"^cpu has not enough memory for one frame of 600x16 at scale 2: use a"):
            through(engine, iter(work), 2)
        return
    frames = through(engine, iter(work), 2)
    engine.close()
    assert [frame.index for frame in frames] == [0, 1, 2]
    names = ["torch on cpu", "torch on cpu in tiles of 500 pixels", "torch on cpu in tiles of 192 pixels"]
    attention = "whose channel attention sees one tile at a time instead of the frame"
    assert said == [
        f"{above} ran out of memory: {below} goes on with the same frames, {attention}"
        for above, below in itertools.pairwise(names[: rung + 1])
    ]
    assert scarce.largest == (600, 300 + 54, 150 + 54)[rung] * 16
    for one, other in zip(frames, expected, strict=True):
        for plane, whole in zip(one.planes, other.planes, strict=True):
            difference = (plane.int() - whole.int()).abs().float()
            assert difference.mean() < (0.001, 2, 2)[rung]  # of noise, in 16 rows; pictures: test_tiles.py


def test_openvino_goes_down_to_torch_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was asked for by name or not: a long job is worth more than the engine that it was begun with."""

    class Full(Counted):
        def __init__(self, *_: object) -> None:
            super().__init__(0, lambda where: where == "result")

    size = (200, 16)
    monkeypatch.setattr(choice, "_open_openvino", Full)
    for asked in (False, True):
        said: list[str] = []
        engine = open_engine(Choice("openvino", None, asked), make_task(size), None, None, said.append)
        frames = through(engine, iter(noise(size, 3)), 2)
        engine.close()
        assert [frame.index for frame in frames] == [0, 1, 2] and frames[0].planes[0].shape == (32, 400)
        assert said == [
            "OpenVINO ran out of memory: torch on cpu in tiles of 192 pixels goes on with the same frames, whose "
            "channel attention sees one tile at a time instead of the frame"
        ]


def test_a_gpu_goes_down_to_tiles_and_then_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, size = torch.device("cuda", 0), (600, 16)
    opened, real = [], choice._open_torch

    def open_torch(task: Task, device: torch.device | None, batch: int | None, *rest: Any, **more: Any) -> Engine:
        opened.append((device, task.tile, batch))
        if device is not None:
            return Counted(0, lambda where: where == "submit", batch or 4)
        return real(task, device, batch, *rest, **more)

    monkeypatch.setattr(choice, "_open_torch", open_torch)
    monkeypatch.setattr(choice, "openvino_installed", lambda: False)
    said: list[str] = []
    engine = open_engine(Choice("torch", gpu, asked=False), make_task(size), None, None, said.append)
    frames = through(engine, iter(noise(size, 3)), 2)
    engine.close()
    assert [frame.index for frame in frames] == [0, 1, 2] and frames[0].planes[0].shape == (32, 1200)
    assert opened == [(gpu, None, None), (gpu, 512, 4), (gpu, 192, 4), (None, None, 4)]
    assert said[0].startswith("torch on cuda:0 ran out of memory: torch on cuda:0 in tiles of 512 pixels goes on with")
    assert said[-1] == (
        "torch on cuda:0 in tiles of 192 pixels ran out of memory: torch on cpu goes on with the same frames"
    )

    def rungs(device: torch.device | None, *, asked: bool = False) -> list[str]:
        name = "torch" if device else "openvino"
        return [rung.name for rung in choice._rungs(Choice(name, device, asked), make_task(size), None, said.append)]

    on_cpu = [f"torch on cpu in tiles of {tile} pixels" for tile in (512, 192)]
    assert rungs(gpu)[3:] == rungs(gpu, asked=True)[3:] == ["torch on cpu", *on_cpu]
    monkeypatch.setattr(choice, "openvino_installed", lambda: True)
    assert rungs(gpu)[3:] == rungs(None) == ["OpenVINO", *on_cpu]
    assert rungs(gpu, asked=True)[3:] == ["torch on cpu", *on_cpu]


class Listener(Silent):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_a_job_says_it_once_and_keeps_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the input's packets to the output's: the memory is gone from the third frame on."""
    calls = itertools.count()
    forward = FoldedRCAN.forward

    def scarce(net: FoldedRCAN, x: Tensor) -> Tensor:
        if next(calls) >= 2 and not isinstance(net.body, TiledBody):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: injected")
        return forward(net, x)

    monkeypatch.setattr(FoldedRCAN, "forward", scarce)
    monkeypatch.setattr(choice, "TILES", (48,))
    clip, heard = make_clip(tmp_path / "in.mp4", frames=7, size=(96, 64)), Listener()
    output = tmp_path / "out.mp4"
    options = Options(str(clip), str(output), device=DeviceOptions("cpu", engine="torch"))
    report = upscale(options, heard)
    sentence = (
        "torch on cpu ran out of memory: torch on cpu in tiles of 48 pixels goes on with the same frames, whose "
        "channel attention sees one tile at a time instead of the frame"
    )
    assert heard.notices.count(sentence) == report.notices.count(sentence) == 1
    assert report.frames_out == report.frames_in == 7
    assert [time for time, _ in read_video(output)] == [time for time, _ in read_video(clip)]


@pytest.mark.cuda
def test_cuda_out_of_memory_ends_in_the_same_frames() -> None:
    """A real shortage: the process is allowed a share of the device that holds tiles, but not the whole frame."""
    size, device = (1920, 1080), torch.device("cuda", 0)
    work, said = noise(size, 2), list[str]()
    expected = through(open_engine(TORCH, make_task(size), 1, None, said.append), iter(work), 2)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(0.7e9 / total, device)
        engine = open_engine(Choice("torch", device, asked=True), make_task(size), 1, None, said.append)
        frames = through(engine, iter(work), 2)
        engine.close()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert said and said[0].startswith("torch on cuda:0 ran out of memory: ")
    for one, other in zip(frames, expected, strict=True):
        assert (one.planes[0].int() - other.planes[0].int()).abs().float().mean() < 2
