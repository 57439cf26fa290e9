"""One segment: three threads, two bounded queues, one stop event, and the first error wins.

A decode thread owns the input, the caller's thread owns the device, an encode thread owns the output::

    frames -> [decode thread] -> batches -> [caller: engine.submit] -> tickets -> [encode thread: engine.result, write]

Queues are bounded by the bytes that they hold, so memory does not depend on the length of the video. Every wait is
short and looks at the stop event; whoever fails first sets it, and the error is raised in the caller with its own
traceback once both threads have ended.
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
# A thread that does not come back from a system call (a dead network disk) is left behind as a daemon.
_JOIN_SECONDS = 5.0


class _Stopped(Exception):
    """Somebody else failed or the caller gave up; never leaves this module."""


class BoundedQueue(Generic[T]):
    """First in, first out, between one producer and one consumer, bounded by bytes."""

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
                while not self._items:
                    if self._closed:
                        return
                    self._wait()
                item, nbytes = self._items.popleft()
                self._bytes -= nbytes
                self._changed.notify_all()
            yield item

    def _wait(self) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._changed.wait(_POLL_SECONDS)


@dataclass(slots=True)
class Counts:
    """What went through. ``seconds`` by stage: the time that each was busy, not waiting."""

    decoded: int = 0
    written: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "network": 0.0, "encode": 0.0})

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
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
    ``stop`` is set on the first error, for whatever else waits in these threads.
    Raises whatever any stage raises first; then nothing more is written.
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
                    write(frame)
            counts.written += len(done)
            on_written(counts.written)

    def guarded(stage: Callable[[], None]) -> None:
        try:
            stage()
        except _Stopped:
            pass
        except BaseException as error:  # kept, and raised in the caller
            fail(error)

    threads = [
        threading.Thread(target=guarded, args=(stage,), name=f"rcan-video {stage.__name__}", daemon=True)
        for stage in (decode, encode)
    ]
    for thread in threads:
        thread.start()
    try:
        for batch in batches:
            with counts.timed("network"):
                ticket = engine.submit(batch)
            tickets.put(ticket, ticket.nbytes)
        tickets.close()
        # Until the last frame is written: in short waits, so that Ctrl-C is heard.
        while threads[1].is_alive() and not stop.is_set():
            threads[1].join(_POLL_SECONDS)
    except _Stopped:
        pass
    except BaseException as error:
        fail(error)
    finally:
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    return counts


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
