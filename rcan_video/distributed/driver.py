"""The driver of a job whose segments are computed elsewhere: it alone has the input, the job's folder and the output.

Segments go out in order. What comes back is kept at once if it is what the index promises (the very PTS, no damage) and
fits its neighbours (the frame behind a segment is the first of the next, by a hash of its samples); it is then the file
that this machine would have written. What does not fit needs packets that lie before those that were sent, as damage
may do: that segment is computed here, the way it is without a cluster, and what was done beyond it is done again.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rcan_video.distributed.crew import Crew, Lost
from rcan_video.distributed.work import Answer, Setting
from rcan_video.engine.devices import choose_devices
from rcan_video.errors import DeviceError, Interrupted, UsageError, VerificationError
from rcan_video.frames import Mark, digest
from rcan_video.media.index import Index
from rcan_video.media.parcel import Cutter, Parcel, why_not_cut
from rcan_video.pipeline import Counts
from rcan_video.prepare import Job
from rcan_video.segments.job import Here
from rcan_video.segments.records import Record
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
        self._first = digest(job.source.first().planes)
        self._times = index.between(job.source.info.start, job.source.end)
        self._flights: dict[int, _Flight] = {}
        self._weights: dict[int, int] = {}  # bytes of the parcels that workers have, also of those in vain
        self._losses: Counter[int] = Counter()
        self._barren = 0  # workers in a row that were lost before they had anything to do
        self._nodes: Counter[str] = Counter()
        self._told: set[str] = set()
        self._lasted: list[float] = []
        self._counts = Counts()
        self._ready: Parcel | None = None
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
        for node, frames in sorted(self._nodes.items()):
            self._job.progress.detail(f"{node}: {frames} frames, {frames / seconds:.2f} frames/s")
        return self._counts

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
            self._check_time()
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
                unfit = self._keep(folder, answer)
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

    def _keep(self, folder: JobFolder, answer: Answer) -> int | None:
        """Keep what came back; the number of a segment, this one or the next, that does not fit."""
        number, records, starts = answer.number, folder.done.records, folder.plan.starts
        following = starts[number + 1] if number + 1 < len(starts) else None
        end = self._job.source.end if following is None else following
        expected = self._index.between(starts[number], end)
        marked = answer.mark.pts if answer.mark is not None else None
        whole = answer.encoded is not None and np.array_equal(expected, answer.times)
        if answer.trouble or not whole or (following is not None and marked != following):
            why = answer.trouble or "its packets do not give the frames that they promise"
            self._job.progress.notice(f"segment {number} is computed here: {why}")
            return number
        before = records.get(number - 1)
        if number == 0:
            begins = self._first
        elif before is not None and before.mark is not None:
            begins = before.mark.digest
        else:
            begins = answer.begin
        if begins != answer.begin:
            self._job.progress.notice(f"segment {number} is computed here: it hangs on what lies before it")
            return number
        mark = None if answer.mark is None or following is None else self._placed(answer.mark, folder)
        folder.receive(number, answer.data, Record(answer.encoded, mark, answer.begin))
        self._note(answer)
        self._job.progress.update(folder.done.frames)
        after = records.get(number + 1)
        if mark is not None and after is not None and after.begin not in (None, mark.digest):
            self._job.progress.notice(f"segment {number + 1} is computed here: it hangs on what lies before it")
            return number + 1
        return None

    def _placed(self, mark: Mark, folder: JobFolder) -> Mark:
        """``mark`` as it would be had everything been decoded from the top: reckoned from the nearest mark before it,
        since nothing between the two is damaged or missing."""
        known = [r.mark for r in folder.done.records.values() if r.mark is not None and r.mark.pts < mark.pts]
        base = max(known, key=lambda known: known.pts, default=None)
        if base is None:
            return replace(mark, index=int(np.searchsorted(self._times, mark.pts)), damaged_packets=0, damaged_frames=0)
        between = np.searchsorted(self._times, [base.pts, mark.pts])
        return replace(
            mark,
            index=base.index + int(between[1] - between[0]),
            damaged_packets=base.damaged_packets,
            damaged_frames=base.damaged_frames,
        )

    def _note(self, answer: Answer) -> None:
        counts, frames = self._counts, len(answer.times)
        counts.decoded += frames
        counts.written += frames
        counts.reused += answer.reused
        self._nodes[answer.node] += frames
        for text in answer.notices:
            if text not in self._told:
                self._told.add(text)
                self._job.tell(f"{answer.node}: {text}")
        for stage in counts.seconds:
            counts.seconds[stage] += answer.stages.get(stage, 0.0)

    def _compute_here(self, folder: JobFolder, number: int) -> None:
        if self._here is None:
            assert self._target is not None
            device = self._job.options.device
            # "cuda" is what the workers compute on; this machine may have none.
            self._job.choices = choose_devices(replace(device, device="auto") if device.device == "cuda" else device)
            self._here = Here(self._job)
            self._here.open(self._target)
        counts = self._here.compute(folder, [number])
        self._counts.decoded += counts.decoded
        self._counts.written += counts.written
        self._counts.reused += counts.reused

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
            self._check_time()
            last = frame
        ending = self._job.ending()
        if last is None or ending.frames_out != folder.done.frames:
            folder.forget()
            raise VerificationError(
                f"{ending.frames_out} frames were decoded, and the segments hold {folder.done.frames}: please report "
                "this"
            )
        folder.end(ending, last.pts + last.duration)

    def _check_time(self) -> None:
        limit = self._job.options.max_time
        if limit is not None and time.perf_counter() - self._job.begun > limit:
            raise Interrupted(f"--max-time {float(limit):g} s is over")
