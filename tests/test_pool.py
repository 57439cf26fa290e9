"""Several engines as one: order, shares, and what happens to the frames of a device that is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from rcan_video.engine.base import Ticket
from rcan_video.engine.pool import Pool
from rcan_video.errors import DeviceError, InputError, NotFinite
from rcan_video.frames import Frame, FrameBatch, PlaneLayout
from rcan_video.pipeline import run

GRAY = PlaneLayout("gray")
SIZE = (4, 2)


def frame(index: int) -> Frame:
    return Frame((np.full((2, 4), index % 251, np.uint8),), 10 * index, 10, index)


def video(count: int) -> Iterator[Frame]:
    return map(frame, range(count))


class Ready:
    def synchronize(self) -> None: ...

    def item(self) -> bool:
        return False


@dataclass
class Worker:
    """Gives frames back as they came, ``seconds`` later, but for what ``on_submit`` and ``on_result`` do first."""

    name: str = "worker"
    seconds: float = 0.0
    batch: int = 1
    on_submit: Callable[[FrameBatch], object] = lambda _: None
    on_result: Callable[[FrameBatch], object] = lambda _: None
    computed: list[int] = field(default_factory=list)
    closed: int = 0
    threads: set[int] = field(default_factory=set)

    def describe(self) -> str:
        return self.name

    def submit(self, batch: FrameBatch) -> Ticket:
        self.threads.add(threading.get_ident())
        self.on_submit(batch)
        return Ticket(batch, Ready(), Ready())

    def result(self, ticket: Ticket) -> FrameBatch:
        time.sleep(self.seconds)
        self.on_result(ticket.output)
        self.computed += [f.index for f in ticket.output.frames]
        return ticket.output

    def close(self) -> None:
        self.closed += 1


def compute(workers: list[Worker], count: int, notices: list[str] | None = None) -> list[Frame]:
    pool = Pool(workers, GRAY, SIZE, (notices if notices is not None else []).append)
    written: list[Frame] = []
    try:
        run(video(count), pool, written.append, stop=threading.Event())
    finally:
        pool.close()
    return written


def assert_whole(written: list[Frame], count: int) -> None:
    assert [(f.index, f.pts) for f in written] == [(k, 10 * k) for k in range(count)]
    for found in written:
        np.testing.assert_array_equal(found.planes[0], frame(found.index).planes[0])


@pytest.mark.parametrize("count", [0, 1, 2, 50])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_frame_comes_out_once_and_in_order(count: int, batch: int) -> None:
    workers = [Worker(seconds=0.002, batch=batch), Worker(batch=batch), Worker(seconds=0.001, batch=batch)]
    assert_whole(compute(workers, count), count)
    assert sorted(index for worker in workers for index in worker.computed) == list(range(count))
    assert all(worker.closed == 1 and len(worker.threads) <= 1 for worker in workers)
    assert len({ident for worker in workers for ident in worker.threads}) == sum(map(len, (w.threads for w in workers)))


def test_shares_follow_the_speed() -> None:
    """A worker that takes no time gets nearly everything while the other one is busy with one batch."""
    release = threading.Event()
    slow = Worker("slow", on_result=lambda _: release.wait())
    fast = Worker("fast", on_result=lambda batch: release.set() if batch.index >= 30 else None)
    pool = Pool([slow, fast], GRAY, SIZE, lambda _: None)
    tickets = [pool.submit(FrameBatch((one,))) for one in video(40)]
    assert [pool.result(ticket).index for ticket in tickets] == list(range(40))
    pool.close()
    assert len(slow.computed) + len(fast.computed) == 40
    assert len(fast.computed) >= 28


@pytest.mark.parametrize("at", ["on_submit", "on_result"])
@pytest.mark.parametrize("lost", [0, 5])
def test_the_frames_of_a_lost_device_go_to_the_others(at: str, lost: int) -> None:
    def fail(batch: FrameBatch) -> None:
        if batch.index >= lost:
            raise DeviceError("the cable was pulled")

    notices: list[str] = []
    bad, good = Worker("cuda:1", **{at: fail}), Worker("cuda:0", seconds=0.001)  # type: ignore[arg-type]
    assert_whole(compute([bad, good], 30, notices), 30)
    assert notices == ["cuda:1 is lost (the cable was pulled): the other devices take its frames"]
    assert bad.closed == good.closed == 1


def test_the_last_device_that_is_lost_ends_the_run() -> None:
    def fail(batch: FrameBatch) -> None:
        if batch.index >= 8:
            raise DeviceError("gone")

    notices: list[str] = []
    with pytest.raises(DeviceError, match="gone"):
        compute([Worker("a", on_result=fail), Worker("b", on_submit=fail)], 30, notices)
    assert len(notices) == 1


@pytest.mark.parametrize("error", [InputError("another size"), NotFinite("weights"), RuntimeError("a bug")])
def test_what_is_no_fault_of_a_device_is_raised_as_it_is(error: Exception) -> None:
    def fail(batch: FrameBatch) -> None:
        if batch.index == 7:
            raise error

    workers = [Worker("a", on_result=fail), Worker("b", on_result=fail)]
    with pytest.raises(type(error)) as caught:
        compute(workers, 30)
    assert caught.value is error
    assert all(worker.closed == 1 for worker in workers)


def test_nobody_runs_ahead_without_bound() -> None:
    release, submitted = threading.Event(), []
    workers = [Worker(on_result=lambda _: release.wait()) for _ in range(2)]
    pool = Pool(workers, GRAY, SIZE, lambda _: None)

    def hand_over() -> None:
        for one in video(30):
            submitted.append(pool.submit(FrameBatch((one,))))

    thread = threading.Thread(target=hand_over)
    thread.start()
    time.sleep(0.1)
    assert len(submitted) <= 6  # two under way and one waiting for each
    release.set()
    thread.join(10)
    assert [pool.result(ticket).index for ticket in submitted] == list(range(30))
    pool.close()


def test_a_ticket_counts_its_memory_before_it_has_any() -> None:
    pool = Pool([Worker()], PlaneLayout("yuv", 10, 1, 1), (64, 32), lambda _: None)
    ticket = pool.submit(FrameBatch((frame(0),)))
    assert ticket.nbytes == 64 * 32 * 3
    pool.close()


def test_it_says_who_is_at_work() -> None:
    pool = Pool([Worker("cuda:0", batch=8), Worker("cuda:1", batch=2)], GRAY, SIZE, lambda _: None)
    assert (pool.describe(), pool.batch) == ("cuda:0; cuda:1", 2)
    pool.close()
