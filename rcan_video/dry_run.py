"""What a job would do and take, found by its own steps as far as the first frames; nothing is left behind.

The input is opened, the output planned and its encoder opened, in a folder of its own that goes again, and the engine
started; three frames go through engine and encoder. Whatever a run would be refused for before its first frame is
refused here, by the same sentence.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rcan_video import briefing
from rcan_video.bounded_queue import QUEUE_BYTES
from rcan_video.engine.base import Engine
from rcan_video.errors import InputError, UsageError
from rcan_video.frames import Frame, FrameBatch
from rcan_video.job import open_job, why_in_one_go
from rcan_video.media.decode import Source
from rcan_video.media.encode import Writer
from rcan_video.media.files import PIPE, PartFile
from rcan_video.media.index import Index, read_index
from rcan_video.options import Options
from rcan_video.prepare import Job
from rcan_video.progress import Progress, StreamRow, duration_text
from rcan_video.progress.estimate import peak_bytes
from rcan_video.segments.home import check_same, home, identity
from rcan_video.segments.job import expected_frames
from rcan_video.segments.plan import LONGEST, SHORTEST, cut, segment_length
from rcan_video.segments.records import Done
from rcan_video.segments.store import JobFolder

_FRAMES = 3
# What files of the containers that standard output takes are called.
_ENDINGS = {"nut": ".nut", "matroska": ".mkv", "mp4": ".mp4", "mpegts": ".ts", "yuv4mpegpipe": ".y4m"}


@dataclass(frozen=True, slots=True)
class Video:
    """One side of the job. ``path`` is ``-`` for standard output; ``rate`` in frames per second, ``duration`` in
    seconds, None where nobody knows."""

    path: str
    container: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    frames: int
    rate: float
    duration: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the rest of the job takes, about. Seconds: ``start`` until the engine is ready, ``decode``, ``network`` and
    ``encode`` for a frame, ``seconds`` in all. Bytes: of the output, of the disk at most while the job runs, free on
    that disk (None for standard output), and of memory: the most that this process has taken, and what the queues of a
    run may hold beside it."""

    start: float
    decode: float
    network: float
    encode: float
    seconds: float
    output_bytes: int
    disk_bytes: int
    free_bytes: int | None
    memory_bytes: int | None
    queue_bytes: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a dry run finds. ``complete``: the output is there already, and nothing else was looked at. ``segments`` is
    None where the job is computed in one go, for the reason ``whole``; ``kept`` frames are done by an earlier run."""

    complete: bool
    input: Video | None = None
    output: Video | None = None
    model: dict[str, str | int] | None = None
    engine: str = ""
    encoder_options: dict[str, str] | None = None
    streams: tuple[StreamRow, ...] = ()
    notices: tuple[str, ...] = ()
    segments: int | None = None
    whole: str | None = None
    kept: int = 0
    cost: Cost | None = None

    def json(self) -> str:
        """One object, as docs/dry-run.md describes it."""
        found = asdict(self)
        found["streams"] = [row._asdict() for row in self.streams]
        return json.dumps({"version": 1, **found}, allow_nan=False)

    def lines(self) -> Iterator[str]:
        """What ``Job.announce`` has not said yet."""
        if self.cost is None or self.input is None:
            yield "the output is complete: there is nothing to do"
            return
        cost = self.cost
        frames = self.input.frames
        if self.segments is None:
            yield f"segments: none, {frames} frames in one go ({self.whole or 'standard output'})"
        else:
            done = f", {self.kept} of them done" if self.kept else ""
            yield f"segments: {self.segments} for {frames} frames{done}"
        yield (
            f"time: about {duration_text(cost.seconds)}, and {cost.start:.1f} s until the first frame; "
            f"{1000 * cost.network:.0f} ms a frame in the network, {1000 * cost.encode:.0f} in the encoder"
        )
        free = "" if cost.free_bytes is None else f", {_megabytes(cost.free_bytes)} are free"
        yield f"disk: very roughly {_megabytes(cost.disk_bytes)} for an output of {_megabytes(cost.output_bytes)}{free}"
        taken = "unknown here" if cost.memory_bytes is None else f"{_megabytes(cost.memory_bytes)} so far"
        yield f"memory: {taken}, up to {_megabytes(cost.queue_bytes)} more in queues"


def rehearse(options: Options, progress: Progress) -> Forecast:
    """Find out what the job of ``options`` would do and take; ``progress`` hears what a run would announce.

    Raises RcanVideoError where a run would before its first frame; UsageError for an input that cannot be read twice.
    """
    if options.input == PIPE:
        raise UsageError("--dry-run reads the beginning of its input, which a pipe gives once: name a file")
    if options.ray is not None:
        raise UsageError("--dry-run measures this machine: leave --ray out, or give --ray none")
    with open_job(options, progress, look=True) as job:
        if isinstance(job, Done):
            return Forecast(complete=True)
        with TemporaryDirectory(prefix="rcan-video-") as folder:
            return _rehearse(job, Path(folder))


def _rehearse(job: Job, folder: Path) -> Forecast:
    options, index = job.options, job.index
    assert index is not None, "the input is a file"
    name = f"out{_ENDINGS[str(options.format)]}" if options.output == PIPE else Path(options.output).name
    with _part(folder, name) as part, job.writer(part) as writer:
        whole = why_in_one_go(job, writer)
        rows = briefing.rows(job.info, writer)
    in_segments = whole is None and options.output != PIPE
    times, frames = expected_frames(job, index)
    kept = _kept(job, writer, index) if in_segments else 0
    begun = time.perf_counter()
    engine = job.engine(writer.target)
    try:
        job.announce(writer, engine.describe(), frames, kept)
        cost = _calibrate(job, engine, folder / name, index, frames - kept, begun, in_segments=in_segments)
        description = engine.describe()
    finally:
        engine.close()
    length = LONGEST if frames <= SHORTEST else segment_length(1 / max(cost.network, 1e-6))
    info, target, model = job.info, writer.target, job.model
    if cost.free_bytes is not None and cost.free_bytes < cost.disk_bytes:
        job.tell(f"the disk has {_megabytes(cost.free_bytes)} left, and about {_megabytes(cost.disk_bytes)} are needed")
    duration = None if info.duration is None else float(info.duration)
    seen = (frames, float(info.rate), duration)
    return Forecast(
        complete=False,
        input=Video(options.input, info.container, info.codec, info.pix_fmt, info.width, info.height, *seen),
        output=Video(
            options.output, writer.container, target.codec, target.pix_fmt, target.width, target.height, *seen
        ),
        model={"name": model.name, "path": str(model.path), "sha256": model.sha256, "scale": model.scale},
        engine=description,
        encoder_options=dict(target.options),
        streams=tuple(rows),
        notices=tuple(job.told),
        segments=len(cut({}, length, frames, times or None)) if in_segments else None,
        whole=whole,
        kept=kept,
        cost=cost,
    )


def _part(folder: Path, name: str) -> PartFile:
    return PartFile(str(folder / name), overwrite=True)


def _kept(job: Job, writer: Writer, index: Index) -> int:
    """Frames that an earlier run has done. Raises UsageError where they are of another job."""
    options = job.options
    with JobFolder(home(options.output, options.work_dir), restart=options.restart, look=True) as folder:
        check_same(folder, identity(options, job.enlargement, job.model.sha256, writer.target, index))
        return folder.done.frames


def _calibrate(
    job: Job, engine: Engine, path: Path, index: Index, frames: int, begun: float, *, in_segments: bool
) -> Cost:
    """Three frames through ``engine``, which was asked for at ``begun``, and through an encoder of its own."""
    source, before, decode = _sample(job, index)
    batch = FrameBatch(tuple(source[k % len(source)] for k in range(engine.batch)))
    devices = len(job.choices)
    for ticket in [engine.submit(batch) for _ in range(devices)]:
        engine.result(ticket)
    started = time.perf_counter()
    done: list[Frame] = []
    for frame in source if engine.batch == 1 else source[:1]:
        given = FrameBatch((frame,)) if engine.batch == 1 else batch
        first, *_ = [engine.result(ticket) for ticket in [engine.submit(given) for _ in range(devices)]]
        done += first.frames
    network = (time.perf_counter() - started) / (devices * len(done))
    encode, size = _encode(job, path, (done * _FRAMES)[: len(source)])
    on_cpu = any(choice.on_cpu for choice in job.choices)
    # The stages run at once, but on a CPU they share its cores.
    per_frame = decode + network + encode if on_cpu else max(decode, network, encode)
    video = index.size.sum() * size / max(before, 1) * _share(job, index)
    others = (index.file_bytes - index.size.sum()) * _share(job, index)
    free = None if job.options.output == PIPE else shutil.disk_usage(Path(job.options.output).parent).free
    piped = job.options.output == PIPE
    return Cost(
        start=started - begun,
        decode=decode,
        network=network,
        encode=encode,
        seconds=started - begun + max(0, frames) * per_frame,
        output_bytes=int(video + others),
        disk_bytes=0 if piped else int(video * (1 + in_segments) + others),
        free_bytes=free,
        memory_bytes=peak_bytes(),
        queue_bytes=2 * QUEUE_BYTES,
    )


def _sample(job: Job, index: Index) -> tuple[list[Frame], int, float]:
    """Three frames from the middle, where the decoder can land there, the bytes of their packets, and seconds to decode
    one."""
    options, info = job.options, job.info
    start = options.start
    if index.seekable and job.pace.stateless:
        keys = index.keyframes
        first, last = info.start, job.source.end or int(index.times[-1])
        inside = keys[(keys >= first) & (keys < last)]
        if len(inside) > 1:
            start = (int(inside[np.abs(inside - (first + last) // 2).argmin()]) - job.source.origin) * info.time_base
    with Source(
        options.input,
        index=index,
        start=start,
        on_corrupt=options.on_corrupt,
        deinterlace=options.frames.deinterlace,
        max_pixels=options.max_pixels,
        hwaccel=options.device.hwaccel,
    ) as source:
        if not info.layout.alpha:
            source.leave_alpha_out()
        begun = time.perf_counter()
        frames = list(islice(source.frames(), _FRAMES))
        if not frames:
            raise InputError(f"not one frame of {options.input} can be decoded")
        decode = (time.perf_counter() - begun) / len(frames)
        size = int(index.size[np.isin(index.pts, [frame.pts for frame in frames])].sum())
        step = max(1, round(1 / (info.rate * info.time_base)))
        kept = [
            replace(f, planes=tuple(np.array(np.asarray(p)) for p in f.planes), pts=info.start + k * step)
            for k, f in enumerate(frames)
        ]
    return kept, size or int(index.size.sum() * len(kept) / max(1, index.frames)), decode


def _encode(job: Job, path: Path, frames: list[Frame]) -> tuple[float, int]:
    """Seconds for a frame, and the bytes of all, in an output with nothing but the video."""
    alone = replace(job, info=replace(job.info, others=(), chapters=()), told=[])
    with _part(path.parent, path.name) as part, alone.writer(part) as writer:
        begun = time.perf_counter()
        for frame in frames:
            writer.write(frame)
        writer.finish()
        return (time.perf_counter() - begun) / len(frames), int(read_index(str(part.path)).size.sum())


def _share(job: Job, index: Index) -> float:
    """How much of the input's video the chosen part is."""
    if job.options.start is None and job.options.duration is None:
        return 1.0
    if not len(index.times):
        return min(1.0, (job.source.info.frames or index.frames) / max(1, index.frames))
    return len(index.between(job.source.info.start, job.source.end)) / max(1, index.frames)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
