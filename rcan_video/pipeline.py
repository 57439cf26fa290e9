"""One segment: three threads, two bounded queues, one stop event, and the first error wins.

A decode thread owns the input, the caller's thread owns the device, an encode thread owns the output::

    frames -> [decode thread] -> batches -> [caller: engine.submit] -> tickets -> [encode thread: engine.result, write]

Queues are bounded by the bytes that they hold, so memory does not depend on the length of the video. Every wait is
short and every step looks at the stop event; whoever fails first sets it, and the error is raised in the caller with
its own traceback once both threads have ended.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from rcan_video.frames import Frame, FrameBatch

if TYPE_CHECKING:
    from rcan_video.engine.base import Engine, Ticket

T = TypeVar("T")

QUEUE_BYTES = 256 << 20
# Below this many items a queue admits more whatever their size: the engine's three streams need work in flight.
QUEUE_ITEMS = 3
_POLL_SECONDS = 0.1


class _Stopped(Exception):
    """Somebody else failed or the caller gave up; never leaves this module."""


class BoundedQueue(Generic[T]):
    """First in, first out, between one producer and one consumer, bounded by bytes.

    Once ``stop`` is set neither side gets any further: what is queued is dropped, not worked off.
    """

    def __init__(self, stop: threading.Event, limit: int = QUEUE_BYTES) -> None:
        self._stop = stop
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, nbytes: int) -> None:
        """Wait for room, then append."""
        with self._changed:
            self._check()
            while len(self._items) >= QUEUE_ITEMS and self._bytes + nbytes > self._limit:
                self._wait()
            self._items.append((item, nbytes))
            self._bytes += nbytes
            self._changed.notify_all()

    def close(self) -> None:
        """No more items will come; the consumer ends after the last one."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._check()
                while not self._items:
                    if self._closed:
                        return
                    self._wait()
                item, nbytes = self._items.popleft()
                self._bytes -= nbytes
                self._changed.notify_all()
            yield item

    def _wait(self) -> None:
        self._changed.wait(_POLL_SECONDS)
        self._check()

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped


@dataclass(slots=True)
class Counts:
    """What went through. ``seconds`` by stage: the time that each was busy, not waiting for another."""

    decoded: int = 0
    written: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "network": 0.0, "encode": 0.0})
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # two threads time the network

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - start


def run(
    frames: Iterable[Frame],
    engine: Engine,
    write: Callable[[Frame], None],
    *,
    stop: threading.Event,
    on_written: Callable[[int], None] = lambda _: None,
) -> Counts:
    """Send all ``frames`` through ``engine`` to ``write``, in order; ``on_written`` hears the number written so far.

    ``frames`` is used up in the decode thread, ``write`` and ``on_written`` run in the encode thread.
    ``stop`` is set on the first error, for whatever else waits in these threads; nobody else may set it.
    Raises whatever any stage raises first, and only when both threads have ended, so that the caller may close what
    they used. After an error no further frame is written.
    """
    batches: BoundedQueue[FrameBatch] = BoundedQueue(stop)
    tickets: BoundedQueue[Ticket] = BoundedQueue(stop)
    counts = Counts()
    errors: list[BaseException] = []
    lock = threading.Lock()

    def fail(error: BaseException) -> None:
        with lock:
            errors.append(error)
        stop.set()

    def decode() -> None:
        for batch in _batched(frames, engine.batch, counts):
            counts.decoded += len(batch)
            batches.put(batch, batch.nbytes)
        batches.close()

    def encode() -> None:
        for ticket in tickets:
            with counts.timed("network"):
                done = engine.result(ticket)
            with counts.timed("encode"):
                for frame in done.frames:
                    if stop.is_set():
                        return
                    write(frame)
            counts.written += len(done)
            on_written(counts.written)

    threads = [_Worker(stage, fail) for stage in (decode, encode)]
    try:
        for thread in threads:
            thread.start()
        for batch in batches:
            with counts.timed("network"):
                ticket = engine.submit(batch)
            tickets.put(ticket, ticket.nbytes)
        tickets.close()
        for thread in threads:
            thread.wait()
    except _Stopped:
        pass
    except BaseException as error:
        fail(error)
    finally:
        for thread in threads:
            thread.wait()
    if errors:
        raise errors[0]
    return counts


class _Worker(threading.Thread):
    """A thread that hands its error to ``fail``."""

    def __init__(self, stage: Callable[[], None], fail: Callable[[BaseException], None]) -> None:
        super().__init__(name=f"rcan-video {stage.__name__}", daemon=True)
        self._stage = stage
        self._fail = fail
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            self._stage()
        except _Stopped:
            pass
        except BaseException as error:  # kept, and raised in the caller
            self._fail(error)
        finally:
            self._ended.set()

    def wait(self) -> None:
        """Until it has ended, if it was started. Not ``join``: when Ctrl-C interrupts that, CPython 3.11 takes the
        thread for dead from then on (gh-90882), and the caller would close what it still uses."""
        while self.ident is not None and not self._ended.wait(_POLL_SECONDS):
            pass


def _batched(frames: Iterable[Frame], size: int, counts: Counts) -> Iterator[FrameBatch]:
    waiting: list[Frame] = []
    iterator = iter(frames)
    while True:
        with counts.timed("decode"):
            frame = next(iterator, None)
        if frame is not None:
            waiting.append(frame)
        if waiting and (frame is None or len(waiting) == size):
            yield FrameBatch(tuple(waiting))
            waiting = []
        if frame is None:
            return
