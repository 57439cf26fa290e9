"""The driver of a job whose segments are computed elsewhere: it alone has the input, the job's folder and the output.

Segments go out in order. What comes back is kept at once if it fits (``receive.py``). A segment that does not fit is
computed here, the way it is without a cluster, and what was done beyond it is done again.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rcan_video.distributed.crew import Crew, Lost
from rcan_video.distributed.receive import Receiver
from rcan_video.distributed.work import Answer, Setting
from rcan_video.engine.devices import choose_devices
from rcan_video.errors import DeviceError, UsageError, VerificationError
from rcan_video.media.index import Index
from rcan_video.media.parcel import Cutter, Parcel, why_not_cut
from rcan_video.pipeline import Counts
from rcan_video.prepare import Job
from rcan_video.segments.job import Here
from rcan_video.segments.store import JobFolder

if TYPE_CHECKING:
    from rcan_video.media.codecs import VideoTarget

# Frames of a segment: long enough that keyframes cost nothing (docs/segments.md), and some for every worker.
_LONGEST, _SHORTEST, _EACH = 250, 100, 4
# A segment is started a second time where nothing else is to be done and it takes so much longer than others.
SLOW = 1.5
_MOST_LOSSES = 3  # of workers that had the same segment
_NOBODY = 120.0  # seconds without a worker
_POLL = 0.2


def segment_length(frames: int, workers: int) -> int:
    """Frames of a segment, of so many that are expected."""
    return min(max(frames // (_EACH * max(1, workers)), _SHORTEST), _LONGEST)


@dataclass(slots=True)
class _Flight:
    """A segment that a worker has."""

    number: int
    begun: float


class Driver:
    """``Hands`` that are a ``crew``. Raises UsageError where the input of ``job`` cannot be cut into pieces."""

    def __init__(self, job: Job, index: Index, crew: Crew) -> None:
        self._job = job
        self._index = index
        self._crew = crew
        self._here: Here | None = None
        self._target: VideoTarget | None = None
        self._flights: dict[int, _Flight] = {}
        self._weights: dict[int, int] = {}  # bytes of the parcels that workers have, also of those in vain
        self._losses: Counter[int] = Counter()
        self._barren = 0  # workers in a row that were lost before they had anything to do
        self._lasted: list[float] = []
        self._ready: Parcel | None = None
        self._receiver = Receiver(job, index)
        why = (
            why_not_cut(job.options.input, index, job.info, [0])
            if job.pace.stateless
            else "--fps-mode cfr counts frames"
        )
        if why is not None:
            raise UsageError(f"--ray cannot send {job.options.input} away in pieces: {why}; leave --ray out")

    def due(self, folder: JobFolder) -> bool:
        return bool(folder.missing()) or folder.done.ending is None

    def open(self, target: VideoTarget) -> None:
        job, options = self._job, self._job.options
        self._target = target
        model = replace(job.model)  # without the network, where that was built
        self._crew.open(
            Setting(model, job.info, target, options.device, options.frames.deinterlace, options.max_pixels)
        )

    def describe(self) -> str:
        return self._crew.describe()

    def length(self, expected: int) -> int:
        return segment_length(expected, self._crew.size)

    def compute(self, folder: JobFolder) -> Counts:
        plan = folder.plan
        why = why_not_cut(self._job.options.input, self._index, self._job.info, plan.starts)
        if why is None and not plan.by_pts:
            why = "its frames are counted"
        if why is not None:
            raise UsageError(f"--ray cannot send {self._job.options.input} away in pieces: {why}; leave --ray out")
        begun = time.monotonic()
        with closing(Cutter(self._job.options.input, self._index)) as cutter:
            while folder.missing():
                apart = self._send_away(folder, cutter)
                if apart is not None:
                    self._compute_here(folder, apart)
        self._end(folder)
        seconds = time.monotonic() - begun
        for node, frames in sorted(self._receiver.nodes.items()):
            self._job.progress.detail(f"{node}: {frames} frames, {frames / seconds:.2f} frames/s")
        return self._receiver.counts

    def close(self) -> None:
        self._crew.close()
        if self._here is not None:
            self._here.close()

    def _send_away(self, folder: JobFolder, cutter: Cutter) -> int | None:
        """All that is missing; or as much as comes before a segment that has to be computed here: that one."""
        todo, apart = deque(folder.missing()), None
        self._flights.clear()  # whatever an earlier round has left behind is computed in vain
        last_seen = time.monotonic()
        while True:
            self._job.check_time()
            idle = self._crew.idle()
            if idle or self._flights:
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > _NOBODY:
                raise DeviceError(f"no worker came up in {_NOBODY:.0f} s: see the cluster with ray status")
            for worker in idle:
                number = self._next(todo)
                if number is None or not self._send(folder, cutter, worker, number):
                    break
                if todo and todo[0] == number:
                    todo.popleft()
            if not self._flights and not todo:
                return apart
            for worker, answer in self._crew.wait(_POLL):
                self._weights.pop(worker, None)
                flight = self._flights.pop(worker, None)
                if flight is None:
                    self._idle_one(answer)
                    continue
                self._barren = 0
                number = flight.number
                if isinstance(answer, Lost):
                    self._lose(number, answer, todo)
                    continue
                answer.check()
                # Whoever else has it computes in vain: that answer will be nobody's.
                self._flights = {w: f for w, f in self._flights.items() if f.number != number}
                self._lasted.append(time.monotonic() - flight.begun)
                unfit = self._receiver.keep(folder, answer)
                if unfit is not None:
                    apart = unfit
                    folder.drop(n for n in folder.done.records if n >= unfit)
                    todo = deque(n for n in todo if n < unfit)
                    self._flights = {w: f for w, f in self._flights.items() if f.number < unfit}

    def _next(self, todo: deque[int]) -> int | None:
        """The segment to be started next: the first that nobody has, or, where there is none, one that takes long."""
        if todo:
            return todo[0]
        if not self._lasted:
            return None
        slow = SLOW * statistics.median(self._lasted)
        now = time.monotonic()
        twice = Counter(flight.number for flight in self._flights.values())
        late = [f for f in self._flights.values() if twice[f.number] == 1 and now - f.begun > slow]
        return min(late, key=lambda flight: flight.begun).number if late else None

    def _send(self, folder: JobFolder, cutter: Cutter, worker: int, number: int) -> bool:
        """Whether there was room for it."""
        starts = folder.plan.starts
        end = starts[number + 1] if number + 1 < len(starts) else self._job.source.end
        if self._ready is None or self._ready.number != number:
            self._ready = cutter.cut(number, starts[number], end)
        nbytes = len(self._ready.data)
        if self._flights and sum(self._weights.values()) + nbytes > self._crew.room:
            return False
        self._crew.send(worker, self._ready)
        self._weights[worker] = nbytes
        self._flights[worker] = _Flight(number, time.monotonic())
        self._ready = None
        return True

    def _lose(self, number: int, lost: Lost, todo: deque[int]) -> None:
        self._losses[number] += 1
        if self._losses[number] == _MOST_LOSSES:
            raise DeviceError(
                f"segment {number} has lost {_MOST_LOSSES} workers, the last because {lost.why}: see their logs, and "
                "whether a worker has the memory that it needs"
            )
        self._job.progress.notice(f"a worker is lost ({lost.why}): its segment goes to another")
        if not any(flight.number == number for flight in self._flights.values()):
            todo.appendleft(number)

    def _idle_one(self, answer: Answer | Lost) -> None:
        """Of a worker that nobody waits for. Raises DeviceError where none gets as far as that."""
        if isinstance(answer, Lost):
            self._barren += 1
            if self._barren > _MOST_LOSSES * max(1, self._crew.size):
                raise DeviceError(f"workers do not come up ({answer.why}): is rcan-video installed on every node?")

    def _compute_here(self, folder: JobFolder, number: int) -> None:
        if self._here is None:
            assert self._target is not None
            device = self._job.options.device
            # "cuda" is what the workers compute on; this machine may have none.
            self._job.choices = choose_devices(replace(device, device="auto") if device.device == "cuda" else device)
            self._here = Here(self._job)
            self._here.open(self._target)
        counts, total = self._here.compute(folder, [number]), self._receiver.counts
        total.decoded += counts.decoded
        total.written += counts.written
        total.reused += counts.reused

    def _end(self, folder: JobFolder) -> None:
        """Decode the last segment here, which tells how long the last frame is shown and what the input has to say at
        its end, in the words of a job that was computed here. Raises VerificationError where its frames are not as
        many as came back."""
        if folder.done.ending is not None:
            return
        source = self._job.source
        before = folder.done.records.get(len(folder.plan) - 2)
        if before is None or before.mark is None or not source.resume(before.mark):
            source.restart()
        last = None
        for frame in source.frames():
            self._job.check_time()
            last = frame
        ending = self._job.ending()
        if last is None or ending.frames_out != folder.done.frames:
            folder.forget()
            raise VerificationError(
                f"{ending.frames_out} frames were decoded, and the segments hold {folder.done.frames}: please report "
                "this"
            )
        folder.end(ending, last.pts + last.duration)
