"""Several devices as one engine: whoever is free takes the next batch, and results come out in order all the same.

Every engine has a thread of its own, which takes work from a common queue as soon as it has room for it: unequal
devices share the work in proportion to their speed, and nobody has to know that beforehand.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rcan_video.engine.base import Engine, Ticket
from rcan_video.errors import DeviceError, NotFinite
from rcan_video.frames import FrameBatch, PlaneLayout

# Batches that one device has at a time: one computes while the next is brought there.
_DEPTH = 2


@dataclass(slots=True, eq=False)
class _Work:
    """A batch, and what became of it: ``result`` or ``error``, from ``ended`` on."""

    batch: FrameBatch
    ended: threading.Event = field(default_factory=threading.Event)
    result: FrameBatch | None = None
    error: BaseException | None = None

    def synchronize(self) -> None:
        self.ended.wait()

    def end(self, result: FrameBatch | None = None, error: BaseException | None = None) -> None:
        self.result, self.error = result, error
        self.ended.set()


class _Fine:
    """A flag that is never raised: the engines look at theirs themselves."""

    def item(self) -> bool:
        return False


class Pool:
    """An ``Engine`` made of ``engines``, which are the pool's from now on. Their output is ``target`` of ``size``
    (width, height).

    A device that is lost or runs out of memory gives its batches to the others; ``notice`` hears a sentence about it,
    in the thread of that device. Its error is raised where no other is left.
    """

    def __init__(
        self, engines: Sequence[Engine], target: PlaneLayout, size: tuple[int, int], notice: Callable[[str], None]
    ) -> None:
        self._engines = tuple(engines)
        self._notice = notice
        # What tickets promise: planes of the right shapes, without memory of their own.
        sample = np.zeros((), np.uint8 if target.sample_bytes == 1 else np.uint16)
        self._planes = tuple(np.broadcast_to(sample, shape) for shape in target.shapes(*size))
        self._waiting: deque[_Work] = deque()
        self._changed = threading.Condition()
        self._left = len(self._engines)
        self._closed = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._serve, args=(engine,), name=f"rcan-video device {number}", daemon=True)
            for number, engine in enumerate(self._engines)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def batch(self) -> int:
        return min(engine.batch for engine in self._engines)

    def describe(self) -> str:
        return "; ".join(engine.describe() for engine in self._engines)

    def submit(self, batch: FrameBatch) -> Ticket:
        work = _Work(batch)
        with self._changed:
            # As many as there are devices: enough that none of them waits, and no more memory than that.
            while self._error is None and len(self._waiting) >= len(self._engines):
                self._changed.wait()
            if self._error is not None:
                raise self._error
            self._waiting.append(work)
            self._changed.notify_all()
        promised = tuple(replace(frame, planes=self._planes) for frame in batch.frames)
        return Ticket(FrameBatch(promised), work, _Fine())

    def result(self, ticket: Ticket) -> FrameBatch:
        work = ticket.done
        assert isinstance(work, _Work)
        work.synchronize()
        if work.error is not None:
            raise work.error
        assert work.result is not None
        return work.result

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _serve(self, engine: Engine) -> None:
        """The life of a device's thread."""
        taken: deque[_Work] = deque()
        tickets: deque[Ticket] = deque()
        try:
            while True:
                work = self._next(wait=not taken)
                if work is not None:
                    taken.append(work)
                    tickets.append(engine.submit(work.batch))
                elif not taken:
                    break
                if work is None or len(taken) == _DEPTH:
                    try:
                        taken[0].end(engine.result(tickets.popleft()))
                    except NotFinite as error:  # the network's doing, not the device's
                        taken[0].end(error=error)
                    taken.popleft()
        except DeviceError as error:
            self._lose(engine, error, taken)
        except BaseException as error:  # a frame that does not fit, or a bug: for whoever asked
            for work in taken:
                work.end(error=error)
            self._fail(error)
        finally:
            engine.close()

    def _next(self, *, wait: bool) -> _Work | None:
        """The next batch; None where there is none, and with ``wait`` where none will come any more."""
        with self._changed:
            while wait and not self._waiting and not self._closed and self._error is None:
                self._changed.wait()
            if self._closed or self._error is not None or not self._waiting:
                return None
            work = self._waiting.popleft()
            self._changed.notify_all()
            return work

    def _lose(self, engine: Engine, error: DeviceError, taken: Sequence[_Work]) -> None:
        """Give the work of a device back, ahead of all that waits."""
        with self._changed:
            self._left -= 1
            alone = not self._left or self._error is not None
            self._waiting.extendleft(reversed(taken))
            self._changed.notify_all()
        if alone:
            self._fail(error)
        else:
            self._notice(f"{engine.describe()} is lost ({error}): the other devices take its frames")

    def _fail(self, error: BaseException) -> None:
        """Nobody is left to compute: say so to everybody who waits."""
        with self._changed:
            self._error = self._error or error
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for work in waiting:
            work.end(error=error)
