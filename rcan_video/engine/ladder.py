"""When memory runs out: the next engine that needs less takes over, with the same frames, and keeps the job. Where an
engine's arithmetic is at fault, one that computes more plainly does.

The rungs go from the fastest engine to the most frugal. Fewer frames at a time are tried first, by the engine itself
where the frames still lie in its memory. There is no way back up: what did not fit once would not fit again, and
trying costs time and, on a GPU, a fragmented memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rcan_video.engine.base import Engine, Ticket, Unfaithful
from rcan_video.errors import NotFinite, OutOfMemory
from rcan_video.frames import FrameBatch


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to compute. ``name`` stands in a sentence, ``remark`` says what is different then. ``open`` takes the
    most frames that one ``submit`` will bring, None for its own choice, and raises OutOfMemory where it cannot begin.
    ``plainer`` are the rungs to go on with, instead of those below, where ``open`` raises Unfaithful or a result is not
    finite.
    """

    name: str
    open: Callable[[int | None], Engine]
    remark: str = ""
    plainer: tuple[Rung, ...] = ()


_Fault = OutOfMemory | NotFinite | Unfaithful


@dataclass(slots=True, eq=False)
class _Work:
    """A batch on its way, kept until its result is there, and the engine that has it: one value, for two threads."""

    frames: FrameBatch
    place: tuple[Engine, Ticket] = field(init=False)


class Ladder:
    """An ``Engine`` made of several, of which one is open at a time.

    Frames that were submitted are submitted again to the next engine, in their order; each comes out of ``result``
    once, for the ticket it was given first. ``notice`` hears a sentence for every step, from whichever thread takes it.

    Raises OutOfMemory or NotFinite, the last engine's, where nothing is left to try.
    """

    def __init__(self, rungs: Iterable[Rung], batch: int | None, notice: Callable[[str], None]) -> None:
        self._below = deque(rungs)
        self._notice = notice
        self._rung = self._below.popleft()
        self._turn = threading.Lock()  # to submit or to go down: the thread of ``result`` may do the latter, too
        self._flight: dict[Ticket, _Work] = {}
        engine = self._begin(batch)
        self._batch = engine.batch
        self._description = engine.describe()
        self._engine: Engine | None = engine  # None where the last one has failed

    @property
    def batch(self) -> int:
        return self._batch

    def describe(self) -> str:
        return self._description

    def submit(self, batch: FrameBatch) -> Ticket:
        work = _Work(batch)
        with self._turn:
            while (fault := self._start(work)) is not None:
                self._descend(fault)
            _, ticket = work.place
            self._flight[ticket] = work
        return ticket

    def result(self, ticket: Ticket) -> FrameBatch:
        work = self._flight[ticket]
        while True:
            engine, current = work.place
            try:
                done = engine.result(current)
                break
            except (OutOfMemory, NotFinite) as error:
                fault = _bare(error)
            with self._turn:
                if engine is work.place[0]:  # else the other thread has gone down meanwhile, and took this along
                    self._descend(fault)
        del self._flight[ticket]
        return done

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _begin(self, batch: int | None) -> Engine:
        """The first engine that opens. No frame is under way yet, so it may take fewer at a time."""
        while True:
            for most in [None] if batch is None else [batch >> halvings for halvings in range(batch.bit_length())]:
                try:
                    engine = self._rung.open(most)
                except OutOfMemory as error:
                    fault = _bare(error)
                    continue
                except Unfaithful as error:
                    fault = _bare(error)
                    break
                if most != batch:
                    self._notice(f"{self._rung.name} has no memory for a batch of {batch} frames: {most} from here on")
                return engine
            self._step(fault)

    def _start(self, work: _Work) -> _Fault | None:
        """Submit to the open engine; what it said where its memory does not suffice."""
        if self._engine is None:
            return self._fault
        try:
            work.place = self._engine, self._engine.submit(work.frames)
        except OutOfMemory as error:
            return _bare(error)
        return None

    def _descend(self, fault: _Fault | None) -> None:
        """Go down until an engine has taken everything that is under way. Raises OutOfMemory and NotFinite."""
        while fault is not None:
            self._step(fault)
            if self._engine is not None:
                self._engine.close()
                self._engine = None
            try:
                self._engine = self._rung.open(self._batch)
            except (OutOfMemory, Unfaithful) as error:
                fault = _bare(error)
                continue
            fault = None
            # In the order in which they came. People keep their first tickets.
            for work in list(self._flight.values()):
                fault = self._start(work)
                if fault is not None:
                    break

    def _step(self, fault: _Fault) -> None:
        above = self._rung
        if isinstance(fault, OutOfMemory):
            below, what = self._below, "ran out of memory"
        else:
            below, what = deque(above.plainer), str(fault) if isinstance(fault, Unfaithful) else "gave NaN or infinity"
        if not below:
            self._fault = fault
            raise _bare(fault)
        self._rung, self._below = below.popleft(), below
        self._notice(f"{above.name} {what}: {self._rung.name} goes on with the same frames{self._rung.remark}")


def _bare(fault: _Fault) -> _Fault:
    """The same without its traceback, which holds the tensors that failed."""
    return type(fault)(str(fault))
