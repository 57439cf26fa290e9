"""A job in segments: what is missing is computed, everything is joined, and an interrupted run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Protocol

from rcan_video.engine.base import Engine
from rcan_video.errors import Interrupted, RcanVideoError, VerificationError
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.encode import Writer
from rcan_video.media.files import check_output
from rcan_video.media.index import Index
from rcan_video.media.join import join
from rcan_video.media.segment import suffix
from rcan_video.options import Report
from rcan_video.pipeline import Counts, run
from rcan_video.prepare import Job
from rcan_video.segments.home import check_room, check_same, forecast, home, identity
from rcan_video.segments.plan import Plan, cut
from rcan_video.segments.run import Feed, Sink, choose_length
from rcan_video.segments.store import JobFolder


class Hands(Protocol):
    """Who computes the segments that a job lacks."""

    def due(self, folder: JobFolder) -> bool:
        """Whether anything of the job in ``folder`` is left to be computed."""

    def open(self, target: VideoTarget) -> None:
        """Make ready to compute frames of ``target``. Raises RcanVideoError."""

    def describe(self) -> str:
        """A line for people."""

    def length(self, expected: int) -> int:
        """Frames of a segment, for a video of ``expected`` frames."""

    def compute(self, folder: JobFolder) -> Counts:
        """All segments that ``folder`` lacks, into it, and its ending. Raises RcanVideoError."""

    def close(self) -> None: ...


class Here:
    """This process, with the devices of ``job``; ``open`` it before anything is computed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._engine: Engine | None = None

    def due(self, folder: JobFolder) -> bool:
        folder.drop_unsure()
        return bool(folder.missing())

    def open(self, target: VideoTarget) -> None:
        self._engine, self._target = self._job.engine(target), target

    @property
    def engine(self) -> Engine:
        assert self._engine is not None
        return self._engine

    def describe(self) -> str:
        return self.engine.describe()

    def length(self, expected: int) -> int:
        return choose_length(self.engine, self._job.source.first(), expected)

    def compute(self, folder: JobFolder, numbers: Sequence[int] | None = None) -> Counts:
        """As the protocol says; with ``numbers`` these segments alone, for whoever knows the ending."""
        return _compute(self._job, folder, self.engine, self._target, numbers)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def in_segments(job: Job, rehearsed: Writer, index: Index, hands: Hands) -> Report:
    """Have ``hands`` compute what ``job`` still lacks, join all of it, and give the file its name.

    ``rehearsed`` is a writer that has shown, and is closed, that the output can be written. Raises RcanVideoError:
    Interrupted where the job can go on.
    """
    where = home(job.options.output, job.options.work_dir)
    with JobFolder(where, suffix(rehearsed.target), restart=job.options.restart) as folder:
        try:
            # Again: another run of this job may have ended since, and let go of the folder.
            check_output(job.options.input, job.options.output, overwrite=job.options.overwrite)
            report = _run(job, folder, rehearsed, index, hands)
        except (KeyboardInterrupt, Interrupted) as error:
            if folder.done.records:
                raise Interrupted(f"{str(error) or 'interrupted'}: {_kept(folder)}", kept=True) from None
            raise
        with suppress(KeyboardInterrupt):  # too late: the output is there
            folder.remove()
    return report


def _run(job: Job, folder: JobFolder, rehearsed: Writer, index: Index, hands: Hands) -> Report:
    report, target = None, rehearsed.target
    with ExitStack() as stack:
        stack.callback(hands.close)
        due = _begin(job, folder, target, index, hands)
        kept = folder.done.frames
        try:
            job.announce(rehearsed, hands.describe() if due else "nothing left to compute", folder.plan.frames, kept)
            if kept:
                job.progress.notice(f"{_kept(folder)} by an earlier run: this one goes on from there")
            counts = hands.compute(folder) if due else Counts(seconds={})
            report = _join(job, folder, rehearsed, index, counts, kept)
        except Interrupted:
            raise
        except RcanVideoError:
            if folder.done.records:
                job.progress.notice(f"{_kept(folder)}: the same command goes on from there")
            raise
        finally:
            job.progress.finish(report)
    return report


def _begin(job: Job, folder: JobFolder, target: VideoTarget, index: Index, hands: Hands) -> bool:
    """Make ``folder`` ready, with a plan; whether anything is left for ``hands``, which are open then."""
    now = identity(job.options, job.enlargement, job.model.sha256, target, index)
    check_same(folder, now)
    if folder.begun:
        folder.sweep()
        if folder.done.records and not hands.due(folder):
            return False
    hands.open(target)
    if not folder.done.records:
        folder.begin(_plan(job, now, hands, index))
        folder.sweep()
    return True


def _plan(job: Job, now: Mapping[str, str], hands: Hands, index: Index) -> Plan:
    times, frames = expected_frames(job, index)
    return cut(now, hands.length(frames), frames, times or None)


def expected_frames(job: Job, index: Index) -> tuple[list[int], int]:
    """PTS of the frames to come, none where they are not to be trusted, and how many frames to expect."""
    source = job.source
    times = index.between(source.info.start, source.end).tolist() if index.seekable and job.pace.stateless else []
    return times, len(times) or _expected(job, index)


def _expected(job: Job, index: Index) -> int:
    """How many frames to expect where they are counted: as many as the header says, which may say anything, but no more
    than the packets give."""
    source = job.source.info
    if job.pace.stateless:
        most = index.frames
    else:
        span = (index.times[-1] - index.times[0]).item() * source.time_base if len(index.times) else Fraction(0)
        most = ceil(max(index.frames / source.rate, span + 1 / source.rate) * job.info.rate)
    return min(job.info.frames or most, most)


def _compute(job: Job, folder: JobFolder, engine: Engine, target: VideoTarget, numbers: Sequence[int] | None) -> Counts:
    """Segments ``numbers``, or all that are missing. Raises RcanVideoError."""
    kept = folder.done.frames
    feed = Feed(job.source, job.pace, folder, numbers)

    looked_at, warned = len(folder.done.records), False

    def tell(written: int, reused: int) -> None:
        nonlocal looked_at, warned
        job.progress.update(kept + written, reused)
        if len(folder.done.records) > looked_at and not warned:
            looked_at = len(folder.done.records)
            if text := forecast(folder):
                job.progress.notice(text)
                warned = True

    with Sink(feed, folder, target, job.info, job.output_name, numbers) as sink:
        write = job.in_time(sink.write)
        counts = run(
            feed.frames(), engine, write, stop=job.stop, on_written=tell, watch=job.watch, devices=len(job.choices)
        )
        ending = job.ending() if feed.to_the_end and numbers is None else None
        sink.finish(ending)
    frames = folder.done.frames
    if counts.decoded != counts.written or counts.written != sink.frames or frames != kept + sink.frames:
        folder.forget()
        raise VerificationError(
            f"{counts.decoded} frames were decoded, {counts.written} upscaled and {frames - kept} encoded: "
            "please report this"
        )
    if ending is not None and ending.frames_out != frames:
        folder.forget()
        raise VerificationError(
            f"{ending.frames_out} frames were decoded, and the segments hold {frames}: please report this"
        )
    return counts


def _join(job: Job, folder: JobFolder, rehearsed: Writer, index: Index, counts: Counts, kept: int) -> Report:
    ending = folder.done.ending
    if ending is None:
        raise VerificationError(f"the records in {folder.path} lack their end: run the command with --restart")
    whole = job.options.start is None and job.options.duration is None
    check_room(folder, Path(job.options.output), index.file_bytes - int(index.size.sum()) if whole else 0)
    job.progress.stage("joining")
    with job.part_file(folder.path) as part:
        with job.container(part) as output:
            join(output, folder.segments(), job.info, rehearsed.target)
            container, ledger = output.format, output.ledger
        index.check_unchanged(job.options.input)  # the other streams were read only now
        job.check(part, container, ledger)
        report = job.report(rehearsed, ending, counts, ending.notices, kept)
        folder.joined(part.path.stat().st_size)
        try:
            part.commit()
        except BaseException:
            if part.path.exists():  # else it has its name: the next run will see that
                folder.joined(None)
            raise
    return report


def _kept(folder: JobFolder) -> str:
    return f"{folder.done.frames} of {folder.plan.frames} frames are kept in {folder.path}"
