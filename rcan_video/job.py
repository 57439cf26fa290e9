"""One job, from the input's first packet to the output's final name.

    probe -> plan -> [ decode -> network -> encode ] -> join -> verify -> rename

A file is computed in segments, so that a run that was interrupted goes on; the rest in one go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rcan_video.engine.choice import check_device
from rcan_video.engine.devices import choose_devices
from rcan_video.errors import UsageError
from rcan_video.image_job import upscale_images
from rcan_video.media.decode import Source, probe
from rcan_video.media.encode import Writer
from rcan_video.media.files import PIPE, check_output
from rcan_video.media.images import is_image
from rcan_video.media.index import Index, read_index
from rcan_video.media.pace import open_pace
from rcan_video.media.segment import why_whole
from rcan_video.network.catalog import load_model, usable_scales
from rcan_video.one_go import in_one_go
from rcan_video.options import STREAM_FORMATS, Options, Report
from rcan_video.prepare import Job
from rcan_video.progress import Progress, Silent
from rcan_video.segments.home import asked, finished, home, may_be_finished
from rcan_video.segments.job import Hands, Here, in_segments
from rcan_video.segments.plan import LONGEST
from rcan_video.segments.records import Done
from rcan_video.size import enlargement


def upscale(options: Options, progress: Progress | None = None) -> Report:
    """Upscale one video as ``options`` say; blocks until the output is whole, verified and under its final name.

    Raises RcanVideoError (see ``rcan_video.errors``). Whatever was written by then is removed, but for the segments
    that are whole: called again, it goes on behind them.
    """
    progress = progress or Silent()
    if is_image(options.output):
        return upscale_images(options, progress)
    with open_job(options, progress) as job:
        if isinstance(job, Done):
            return _tidied(options, progress, job)
        if options.output == PIPE:
            with job.writer(None) as writer:
                return in_one_go(job, writer, None)
        with job.part_file() as part, job.writer(part) as writer:
            part.sweep()
            whole = why_in_one_go(job, writer)
            if options.ray is not None and whole is not None:
                raise UsageError(f"--ray sends segments away, and this job has none: {whole}; leave --ray out")
            if job.index is None or whole is not None:
                return in_one_go(job, writer, part)
        hands = Here(job) if options.ray is None else _elsewhere(job, job.index)
        return in_segments(job, writer, job.index, hands)


def why_in_one_go(job: Job, writer: Writer) -> str | None:
    """Why what goes into ``writer`` is no sum of segments, None where it is one. ``told`` says so where an interruption
    would cost something."""
    times = job.index.times if job.index is not None and job.pace.stateless else None
    whole = why_whole(writer.target, writer.container, job.info, times)
    if whole is not None and not (job.info.frames and job.info.frames <= LONGEST):
        job.told.append(f"a run that is interrupted will have to begin again: {whole}")
    return whole


@contextmanager
def open_job(options: Options, progress: Progress, *, look: bool = False) -> Iterator[Job | Done]:
    """The job that ``options`` describe, its input open; or what is known of it, where an earlier run has completed the
    output. With ``look`` nothing is changed, not even what such a run has left to be removed.

    Raises RcanVideoError for all that can be known without an encoder and an engine.
    """
    begun = time.perf_counter()
    if options.output == PIPE and options.format not in STREAM_FORMATS:
        raise UsageError(f"standard output needs a container: give --format {', '.join(STREAM_FORMATS)}")
    if options.format is not None and options.output != PIPE:
        raise UsageError("--format is for standard output: the ending of a file says its container")
    if options.streams.audio_bitrate is not None and options.streams.audio_codec in (None, "copy"):
        raise UsageError("--audio-bitrate is for audio that is encoded again: give --audio-codec too, or leave it out")
    if options.ray is not None and PIPE in (options.input, options.output):
        raise UsageError("--ray sends segments of a file away: name files as input and output, or leave --ray out")
    if options.ray is not None and options.device.hwaccel != "none":
        raise UsageError("--hwaccel decodes on this machine, and --ray on others: leave one of the two out")
    check_device(options.device)
    folder = None
    if options.output != PIPE and not options.restart:
        folder = home(options.output, options.work_dir)
        folder = folder if may_be_finished(folder, Path(options.output)) else None
    if folder is None:
        check_output(options.input, options.output, overwrite=options.overwrite)
    name = options.model.model
    factors = usable_scales(options.model, options.size)
    choices = choose_devices(options.device) if options.ray is None else ()
    progress.stage("reading")
    index = None if options.input == PIPE else read_index(options.input)
    if folder is not None:
        now = {"input": "a pipe"}
        if index is not None:
            size = enlargement(factors, options.model, options.size, probe(options.input))
            now = asked(options, size, load_model(name, size.scale).sha256, index)
        done = finished(folder, Path(options.output), now, look=look)
        if done is not None:
            yield done
            return
        check_output(options.input, options.output, overwrite=options.overwrite)
    stop = threading.Event()
    with Source(
        options.input,
        index=index,
        start=options.start,
        duration=options.duration,
        on_corrupt=options.on_corrupt,
        deinterlace=options.frames.deinterlace,
        hwaccel=options.device.hwaccel,
        max_pixels=options.max_pixels,
        stop=stop,
    ) as source:
        pace = open_pace(source.info, options.frames)
        size = enlargement(factors, options.model, options.size, source.info)
        model = load_model(name, size.scale)
        yield Job(options, progress, model, size, choices, index, source, pace, pace.info, stop, begun=begun)


def _elsewhere(job: Job, index: Index) -> Hands:
    """The workers of a cluster. Raises UsageError and DeviceError."""
    from rcan_video.distributed.driver import Driver
    from rcan_video.distributed.ray_crew import RayCrew

    assert job.options.ray is not None
    return Driver(job, index, RayCrew(job.options.ray, job.options.device))


def _tidied(options: Options, progress: Progress, done: Done) -> Report:
    """The report of a job that an earlier run has finished, but for the folder that it could not remove any more."""
    progress.notice(f"{options.output} is complete: the run before this one was interrupted after its last step")
    info, ending = probe(options.output), done.ending
    return Report(
        output=Path(options.output),
        frames_in=done.frames if ending is None else ending.frames_in,
        frames_out=done.frames,
        width=info.width,
        height=info.height,
        seconds=0.0,
        stages={},
        kept=done.frames,
        damaged=ending is not None and bool(ending.damaged_packets or ending.damaged_frames),
    )
