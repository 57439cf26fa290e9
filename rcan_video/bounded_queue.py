"""A queue between two threads that holds so many bytes and no more, and that one event ends for both."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

QUEUE_BYTES = 64 << 20
# Below this many items a queue admits more whatever their size: the engine's three streams need work in flight.
QUEUE_ITEMS = 3
# And no more than this whatever their size: thousands of small frames would wait, and a longer video take more memory.
MOST_ITEMS = 32
_POLL_SECONDS = 0.1


class Stopped(Exception):
    """Somebody else failed or the caller gave up: it ends a thread, and is nobody's to hear."""


class BoundedQueue(Generic[T]):
    """First in, first out, between one producer and one consumer, bounded by bytes and number.

    Once ``stop`` is set neither side gets any further: both raise Stopped, and what is queued is dropped, not worked
    off. ``on_wait`` is called now and then while one of them waits; ``least`` items are admitted whatever their size.
    """

    def __init__(
        self,
        stop: threading.Event,
        limit: int = QUEUE_BYTES,
        on_wait: Callable[[], None] = lambda: None,
        least: int = QUEUE_ITEMS,
    ) -> None:
        self._stop = stop
        self._limit = limit
        self._on_wait = on_wait
        self._least, self._most = least, max(least, MOST_ITEMS)
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, nbytes: int) -> None:
        """Wait for room, then append."""
        with self._changed:
            self._check()
            while self._full(nbytes):
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

    def _full(self, nbytes: int) -> bool:
        count = len(self._items)
        return count >= self._most or (count >= self._least and self._bytes + nbytes > self._limit)

    def _wait(self) -> None:
        self._changed.wait(_POLL_SECONDS)
        self._check()
        self._on_wait()

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped
