"""One segment: three threads, two bounded queues, one stop event, and the first error wins.

A decode thread owns the input, the caller's thread owns the device, an encode thread owns the output::

    frames -> [decode thread] -> batches -> [caller: engine.submit] -> tickets -> [encode thread: engine.result, write]

The decode thread also finds the frames that equal an earlier one: batches hold the others alone, and the encode thread
writes all of them, in order and at their own times.

Queues are bounded by the bytes that they hold, so memory does not depend on the length of the video. Every wait is
short and every step looks at the stop event; whoever fails first sets it, and the error is raised in the caller with
its own traceback once both threads have ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rcan_video.bounded_queue import QUEUE_ITEMS, BoundedQueue, Stopped
from rcan_video.errors import InputHangs
from rcan_video.frames import Frame, FrameBatch
from rcan_video.repeats import Picture, Repeats

if TYPE_CHECKING:
    from rcan_video.engine.base import Engine, Ticket

# Tickets that are admitted whatever their size for each device, where there are several: the one that has the oldest
# batch takes its time over that and the next, while one three times as fast ends six.
DEVICE_ITEMS = 6
# Frames in a row, for each place in a batch, that wait for it to fill with pictures that are new.
_PATIENCE = 4
_POLL_SECONDS = 0.1


@dataclass(slots=True)
class Counts:
    """What went through; ``reused`` of the written frames took the output of an earlier one. ``seconds`` by stage: the
    time that each was busy, not waiting for another."""

    decoded: int = 0
    written: int = 0
    reused: int = 0
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
    on_written: Callable[[int, int], None] = lambda written, reused: None,
    watch: Callable[[float], None] = lambda _: None,
    devices: int = 1,
) -> Counts:
    """Send all ``frames`` through ``engine`` to ``write``, in order; ``on_written`` hears how many were written so far,
    and how many of them took the output of an earlier one.

    ``frames`` is used up in the decode thread, ``write`` and ``on_written`` run in the encode thread.
    ``watch`` is called in the caller's thread while that waits for a frame, with the time (``time.monotonic``) since
    which the decode thread has waited for it; where it raises InputHangs, that thread is left behind.
    ``devices`` is how many ``engine`` is made of: more batches are under way for more of them.

    ``stop`` is set on the first error, for whatever else waits in these threads; nobody else may set it.
    Raises whatever any stage raises first, and only when both threads have ended, so that the caller may close what
    they used. After an error no further frame is written.
    """
    asking = _Asking(frames)
    batches: BoundedQueue[_Span] = BoundedQueue(stop, on_wait=lambda: asking.tell(watch))
    tickets: BoundedQueue[tuple[_Span, Ticket | None]] = BoundedQueue(
        stop, least=QUEUE_ITEMS if devices == 1 else DEVICE_ITEMS * devices
    )
    counts = Counts()
    errors: list[BaseException] = []
    lock = threading.Lock()

    def fail(error: BaseException) -> None:
        with lock:
            errors.append(error)
        stop.set()

    def decode() -> None:
        for span in _spans(asking, engine.batch, counts):
            counts.decoded += len(span.shown)
            batches.put(span, span.nbytes)
        batches.close()

    def encode() -> None:
        for span, ticket in tickets:
            if ticket is not None:
                with counts.timed("network"):
                    done = engine.result(ticket)
                for picture, frame in zip(span.pictures, done.frames, strict=True):
                    picture.planes = frame.planes
            with counts.timed("encode"):
                for frame, picture in span.shown:
                    if stop.is_set():
                        return
                    write(replace(frame, planes=picture.planes))
            counts.written += len(span.shown)
            counts.reused += len(span.shown) - len(span.pictures)
            on_written(counts.written, counts.reused)

    threads = [_Worker(stage, fail) for stage in (decode, encode)]
    try:
        for thread in threads:
            thread.start()
        for span in batches:
            ticket = None
            if span.new:
                with counts.timed("network"):
                    ticket = engine.submit(FrameBatch(tuple(span.new)))
                span.new.clear()  # the decoder may have its memory back
            tickets.put((span, ticket), span.nbytes if ticket is None else ticket.nbytes)
        tickets.close()
        for thread in threads:
            thread.wait()
    except Stopped:
        pass
    except BaseException as error:
        fail(error)
    finally:
        for thread in threads[1:] if errors and isinstance(errors[0], InputHangs) else threads:
            thread.wait()
    if errors:
        raise errors[0]
    return counts


class _Asking:
    """``frames``, and since when somebody waits for the next of them."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = iter(frames)
        self._since: float | None = None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        self._since = time.monotonic()
        try:
            return next(self._frames)
        finally:
            self._since = None

    def tell(self, watch: Callable[[float], None]) -> None:
        since = self._since
        if since is not None:
            watch(since)


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
        except Stopped:
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


@dataclass(slots=True)
class _Span:
    """Frames in a row. ``new`` are those that show ``pictures`` for the first time; ``shown`` are all of them, without
    planes, each with its picture."""

    new: list[Frame] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    shown: list[tuple[Frame, Picture]] = field(default_factory=list)
    nbytes: int = 0  # of the planes that came in; repeats count too, so that they cannot pile up without bound

    def add(self, frame: Frame, picture: Picture, *, known: bool) -> None:
        if not known:
            self.new.append(frame)
            self.pictures.append(picture)
        self.shown.append((replace(frame, planes=()), picture))
        self.nbytes += frame.nbytes


def _spans(frames: Iterable[Frame], size: int, counts: Counts) -> Iterator[_Span]:
    """Spans of at most ``size`` new frames. One of repeats alone goes on at once: it waits for no network."""
    repeats, span = Repeats(), _Span()
    iterator = iter(frames)
    while True:
        with counts.timed("decode"):
            frame = next(iterator, None)
            if frame is not None:
                picture, known = repeats.find(frame)
                span.add(frame, picture, known=known)
        ready = frame is None or not span.new or len(span.new) == size or len(span.shown) == _PATIENCE * size
        if ready and span.shown:
            yield span
            span = _Span()
        if frame is None:
            return
