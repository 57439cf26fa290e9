import _thread
import itertools
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch

from rcan_video import repeats
from rcan_video.bounded_queue import MOST_ITEMS, QUEUE_BYTES, QUEUE_ITEMS, BoundedQueue
from rcan_video.engine.base import Ticket
from rcan_video.errors import InputError, InputHangs
from rcan_video.frames import Frame, FrameBatch
from rcan_video.pipeline import DEVICE_ITEMS, run

SECONDS = 10.0  # an upper bound for what takes milliseconds


class Boom(Exception):
    pass


def frame(index: int, nbytes: int = 1) -> Frame:
    """A frame that counts as ``nbytes`` and takes one."""
    return Frame((torch.zeros(1, 1, dtype=torch.uint8).expand(1, nbytes),), index, 1, index)


def video(count: int, nbytes: int = 1) -> Iterator[Frame]:
    return (frame(k, nbytes) for k in range(count))


class Ready:
    def synchronize(self) -> None: ...

    def item(self) -> bool:
        return False


@dataclass
class FakeEngine:
    """Gives the frames back as they came; the two hooks are called first, with the batch."""

    batch: int = 1
    on_submit: Callable[[FrameBatch], object] = lambda _: None
    on_result: Callable[[FrameBatch], object] = lambda _: None
    sizes: list[int] = field(default_factory=list)

    def describe(self) -> str:
        return "fake"

    def submit(self, batch: FrameBatch) -> Ticket:
        self.on_submit(batch)
        self.sizes.append(len(batch))
        return Ticket(batch, Ready(), Ready())

    def result(self, ticket: Ticket) -> FrameBatch:
        self.on_result(ticket.output)
        return ticket.output

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def every_frame_shows_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats have their own tests, and reading frames of this size would take long."""
    another = itertools.count()
    monkeypatch.setattr(repeats, "digest", lambda planes: str(next(another)))


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    limit = time.monotonic() + SECONDS
    while left := [t for t in threading.enumerate() if t.name.startswith("rcan-video")]:
        assert time.monotonic() < limit, left
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 1, [1, 1, 1]), (2, 5, [2]), (0, 3, [])],
)
def test_every_frame_comes_out_once_and_in_order(count: int, batch: int, sizes: list[int]) -> None:
    engine, written, heard = FakeEngine(batch), list[int](), list[int]()
    stop = threading.Event()
    counts = run(
        video(count), engine, lambda f: written.append(f.index), stop=stop, on_written=lambda n, _: heard.append(n)
    )
    assert written == list(range(count))
    assert engine.sizes == sizes
    assert heard == [sum(sizes[: k + 1]) for k in range(len(sizes))]
    assert (counts.decoded, counts.written) == (count, count)
    assert not stop.is_set()


def test_the_caller_owns_the_device_and_one_thread_each_the_input_and_the_output() -> None:
    seen = {}

    def frames() -> Iterator[Frame]:
        for k in range(3):
            seen["frames"] = threading.current_thread()
            yield frame(k)

    def note(stage: str) -> Callable[..., None]:
        return lambda *_: seen.__setitem__(stage, threading.current_thread())

    engine = FakeEngine(on_submit=note("submit"), on_result=note("result"))
    run(frames(), engine, note("write"), stop=threading.Event(), on_written=note("on_written"))
    assert seen["submit"] is threading.current_thread()
    assert seen["result"] is seen["write"] is seen["on_written"]
    assert len({seen["submit"], seen["frames"], seen["write"]}) == 3


def test_each_stage_is_timed() -> None:
    def slow(_: object) -> None:
        time.sleep(0.01)

    def frames() -> Iterator[Frame]:
        for k in range(2):
            slow(None)
            yield frame(k)

    engine = FakeEngine(on_submit=slow, on_result=slow)
    seconds = run(frames(), engine, slow, stop=threading.Event()).seconds
    assert seconds.keys() == {"decode", "network", "encode"}
    assert seconds["decode"] >= 0.02 and seconds["network"] >= 0.04 and seconds["encode"] >= 0.02


@pytest.mark.parametrize(
    ("nbytes", "most"),
    [
        # What both queues hold, and one in the hands of each thread; the caller's and the encoder's may be counted
        # twice for a moment, on the way from queue to queue.
        (QUEUE_BYTES // 8, 2 * 8 + 5),
        # Larger than the limit: the engine still gets the items that it needs in flight.
        (2 * QUEUE_BYTES, 2 * QUEUE_ITEMS + 5),
        # Small: a queue full of bytes would hold the whole video.
        (1, 2 * MOST_ITEMS + 5),
    ],
)
def test_a_slow_writer_bounds_the_memory(nbytes: int, most: int) -> None:
    taken = written = peak = 0

    def frames() -> Iterator[Frame]:
        nonlocal taken
        for one in video(100, nbytes):
            taken += 1
            yield one

    def write(_: Frame) -> None:
        nonlocal written, peak
        before = -1
        while written == 0 and before != taken:  # the first one waits until nobody moves any more
            before = taken
            time.sleep(0.2)
        peak = max(peak, taken - written)
        written += 1

    run(frames(), FakeEngine(), write, stop=threading.Event())
    assert written == 100
    assert most - 5 <= peak <= most


@pytest.mark.parametrize("stage", ["frames", "submit", "result", "write", "on_written"])
@pytest.mark.parametrize("at", [0, 7])
def test_the_error_of_any_stage_is_raised_as_it_is(stage: str, at: int) -> None:
    error, stop = Boom(stage), threading.Event()

    def culprit(name: str, index: int) -> None:
        if (name, index) == (stage, at):
            raise error

    def frames() -> Iterator[Frame]:
        for k in range(50):
            culprit("frames", k)
            yield frame(k)

    engine = FakeEngine(on_submit=lambda b: culprit("submit", b.index), on_result=lambda b: culprit("result", b.index))
    written = []

    def write(one: Frame) -> None:
        culprit("write", one.index)
        written.append(one.index)

    with pytest.raises(Boom) as caught:
        run(frames(), engine, write, stop=stop, on_written=lambda n, _: culprit("on_written", n - 1))
    assert caught.value is error
    assert "culprit" in [entry.name for entry in traceback.extract_tb(error.__traceback__)]
    assert stop.is_set()
    assert written == list(range(len(written)))
    assert len(written) <= (at + 1 if stage == "on_written" else at)


@pytest.mark.parametrize("batch", [1, 4])
def test_nothing_queued_is_written_after_an_error(batch: int) -> None:
    stop, writing, written = threading.Event(), threading.Event(), list[int]()

    def frames() -> Iterator[Frame]:
        yield from video(20)
        assert writing.wait(SECONDS)
        raise Boom

    def write(one: Frame) -> None:
        writing.set()
        assert stop.wait(SECONDS)  # by now there is an error, and 19 more frames are on their way
        written.append(one.index)

    with pytest.raises(Boom):
        run(frames(), FakeEngine(batch), write, stop=stop)
    assert written == [0]


def test_an_error_is_heard_where_all_queues_are_full() -> None:
    taken = 0

    def frames() -> Iterator[Frame]:
        nonlocal taken
        for one in video(1000, QUEUE_BYTES):
            taken += 1
            yield one

    def write(_: Frame) -> None:
        before = -1
        while before != taken:
            before = taken
            time.sleep(0.15)
        raise Boom

    begun = time.monotonic()
    with pytest.raises(Boom):
        run(frames(), FakeEngine(), write, stop=threading.Event())
    assert taken < 20 and time.monotonic() - begun < SECONDS


def test_the_first_of_two_errors_wins() -> None:
    stop = threading.Event()

    def frames() -> Iterator[Frame]:
        yield frame(0)
        raise Boom("first")

    def write(_: Frame) -> None:
        assert stop.wait(SECONDS)
        raise Boom("second")

    with pytest.raises(Boom, match="first"):
        run(frames(), FakeEngine(), write, stop=stop)


def test_ctrl_c_reaches_a_caller_that_waits_for_frames() -> None:
    stop, released = threading.Event(), False

    def frames() -> Iterator[Frame]:
        nonlocal released
        yield frame(0)
        _thread.interrupt_main()
        released = stop.wait(SECONDS)  # as a reader of a silent pipe does

    with pytest.raises(KeyboardInterrupt):
        run(frames(), FakeEngine(), lambda _: None, stop=stop)
    assert released


def test_after_ctrl_c_the_caller_gets_its_things_back_unused() -> None:
    """The caller waits for the last frame to be written when it is interrupted, and must go on to wait for its end."""
    writing = False

    def write(_: Frame) -> None:
        nonlocal writing
        writing = True
        time.sleep(0.2)
        _thread.interrupt_main()
        time.sleep(0.5)
        writing = False

    # Whatever ran before in this process may have put another handler there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(video(1), FakeEngine(), write, stop=threading.Event())
    finally:
        signal.signal(signal.SIGINT, before)
    assert not writing


def test_ctrl_c_inside_the_network() -> None:
    def submit(batch: FrameBatch) -> None:
        if batch.index == 3:
            raise KeyboardInterrupt

    written: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(video(100), FakeEngine(on_submit=submit), lambda f: written.append(f.index), stop=threading.Event())
    assert written == list(range(len(written))) and len(written) <= 3


def test_a_reader_that_is_stuck_is_left_behind() -> None:
    """``watch`` hears since when the caller waits; its InputHangs ends the run although the reader never comes back."""
    release, heard = threading.Event(), []

    def frames() -> Iterator[Frame]:
        yield frame(0)
        release.wait()

    def watch(since: float) -> None:
        heard.append(since)
        if len(heard) == 3:
            raise InputHangs("stuck")

    before = time.monotonic()
    try:
        with pytest.raises(InputHangs, match="stuck"):
            run(frames(), FakeEngine(), lambda _: None, stop=threading.Event(), watch=watch)
    finally:
        release.set()
    assert len(set(heard)) == 1
    assert before <= heard[0] <= time.monotonic()


def test_frames_of_two_sizes_in_one_batch_are_an_error_of_the_input() -> None:
    with pytest.raises(InputError, match="frame 1 has another size"):
        run(iter([frame(0, 1), frame(1, 2)]), FakeEngine(2), lambda _: None, stop=threading.Event())


def test_a_queue_is_first_in_first_out_and_ends_when_closed() -> None:
    queue: BoundedQueue[int] = BoundedQueue(threading.Event(), limit=10)
    for k in range(QUEUE_ITEMS):
        queue.put(k, 10)
    queue.close()
    assert list(queue) == list(range(QUEUE_ITEMS))


def test_several_devices_have_more_under_way_whatever_its_size() -> None:
    enough = threading.Event()
    submitted, waited = list[int](), list[bool]()

    def count(batch: FrameBatch) -> None:
        submitted.append(batch.index)
        if len(submitted) == 2 * DEVICE_ITEMS:
            enough.set()

    engine = FakeEngine(on_submit=count, on_result=lambda _: waited.append(enough.wait(SECONDS / 5)))
    run(video(14, QUEUE_BYTES), engine, lambda _: None, stop=threading.Event(), devices=2)
    assert all(waited)


def test_a_full_queue_makes_the_producer_wait() -> None:
    queue: BoundedQueue[int] = BoundedQueue(threading.Event(), limit=10)
    for k in range(QUEUE_ITEMS):
        queue.put(k, 5)
    producer = threading.Thread(target=queue.put, args=(QUEUE_ITEMS, 5))
    producer.start()
    producer.join(0.25)
    assert producer.is_alive()
    assert next(iter(queue)) == 0
    producer.join(SECONDS)
    assert not producer.is_alive()
    queue.close()
    assert list(queue) == list(range(1, QUEUE_ITEMS + 1))
