"""What comes back from workers: kept where it is the file that this machine would have written, and counted.

It is if its frames are what the index promises (the very PTS, no damage) and fit their neighbours: the frame behind a
segment is the first of the next, by a hash of its samples. What does not fit needs packets that lie before those that
were sent, as damage may do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from rcan_video.distributed.work import Answer
from rcan_video.frames import Mark, digest
from rcan_video.media.index import Index
from rcan_video.pipeline import Counts
from rcan_video.prepare import Job
from rcan_video.segments.records import Record
from rcan_video.segments.store import JobFolder


class Receiver:
    """Receives the segments of ``job``. ``counts`` are of all their frames, ``nodes`` how many came from which."""

    def __init__(self, job: Job, index: Index) -> None:
        self._job = job
        self._index = index
        self._first = digest(job.source.first().planes)
        self._times = index.between(job.source.info.start, job.source.end)
        self._told: set[str] = set()
        self.counts = Counts()
        self.nodes: Counter[str] = Counter()

    def keep(self, folder: JobFolder, answer: Answer) -> int | None:
        """Keep what came back; the number of a segment, this one or the next, that does not fit. Raises OutputError."""
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
        counts, frames = self.counts, len(answer.times)
        counts.decoded += frames
        counts.written += frames
        counts.reused += answer.reused
        self.nodes[answer.node] += frames
        for text in answer.notices:
            if text not in self._told:
                self._told.add(text)
                self._job.tell(f"{answer.node}: {text}")
        for stage in counts.seconds:
            counts.seconds[stage] += answer.stages.get(stage, 0.0)
