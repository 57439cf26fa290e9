"""One job, from the input's first packet to the output's final name.

    probe -> plan -> [ decode -> network -> encode ] -> join -> verify -> rename

A file is computed in segments, so that a run that was interrupted goes on; the rest in one go.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rcan_video.engine.choice import choose
from rcan_video.errors import UsageError
from rcan_video.image_job import upscale_images
from rcan_video.media.decode import Source, probe
from rcan_video.media.files import PIPE, check_output
from rcan_video.media.images import is_image
from rcan_video.media.index import read_index
from rcan_video.media.pace import open_pace
from rcan_video.media.segment import why_whole
from rcan_video.network.catalog import load_model, scales
from rcan_video.one_go import in_one_go
from rcan_video.options import STREAM_FORMATS, Options, Report
from rcan_video.prepare import Job
from rcan_video.progress import Progress, Silent
from rcan_video.segments.home import asked, finished, home, may_be_finished
from rcan_video.segments.job import in_segments
from rcan_video.segments.plan import LONGEST
from rcan_video.segments.store import Done
from rcan_video.size import check_scale, enlargement, option_of


def upscale(options: Options, progress: Progress | None = None) -> Report:
    """Upscale one video as ``options`` say; blocks until the output is whole, verified and under its final name.

    Raises RcanVideoError (see ``rcan_video.errors``). Whatever was written by then is removed, but for the segments
    that are whole: called again, it goes on behind them.
    """
    progress = progress or Silent()
    if is_image(options.output):
        return upscale_images(options, progress)
    begun = time.perf_counter()
    if options.output == PIPE and options.format not in STREAM_FORMATS:
        raise UsageError(f"standard output needs a container: give --format {', '.join(STREAM_FORMATS)}")
    if options.format is not None and options.output != PIPE:
        raise UsageError("--format is for standard output: the ending of a file says its container")
    if options.streams.audio_bitrate is not None and options.streams.audio_codec in (None, "copy"):
        raise UsageError("--audio-bitrate is for audio that is encoded again: give --audio-codec too, or leave it out")
    option_of(options.model, options.size)
    folder = None
    if options.output != PIPE and not options.restart:
        folder = home(options.output, options.work_dir)
        folder = folder if may_be_finished(folder, Path(options.output)) else None
    if folder is None:
        check_output(options.input, options.output, overwrite=options.overwrite)
    name = options.model.model
    factors = scales(name)
    check_scale(name, factors, options.model.scale)
    choice = choose(options.device)
    index = None if options.input == PIPE else read_index(options.input)
    if folder is not None:
        now = {"input": "a pipe"}
        if index is not None:
            size = enlargement(factors, options.model, options.size, probe(options.input))
            now = asked(options, size, load_model(name, size.scale).sha256, index)
        done = finished(folder, Path(options.output), now)
        if done is not None:
            return _tidied(options, progress, done)
        check_output(options.input, options.output, overwrite=options.overwrite)
    stop = threading.Event()
    with Source(
        options.input,
        index=index,
        start=options.start,
        duration=options.duration,
        on_corrupt=options.on_corrupt,
        deinterlace=options.frames.deinterlace,
        max_pixels=options.max_pixels,
        stop=stop,
    ) as source:
        pace = open_pace(source.info, options.frames)
        size = enlargement(factors, options.model, options.size, source.info)
        model = load_model(name, size.scale)
        job = Job(options, progress, model, size, choice, index, source, pace, pace.info, stop, begun=begun)
        if options.output == PIPE:
            with job.writer(None) as writer:
                return in_one_go(job, writer, None)
        with job.part_file() as part, job.writer(part) as writer:
            times = index.times if index is not None and pace.stateless else None
            whole = why_whole(writer.target, writer.container, job.info, times)
            if index is None or whole is not None:
                if whole is not None and not (job.info.frames and job.info.frames <= LONGEST):
                    job.told.append(f"a run that is interrupted will have to begin again: {whole}")
                return in_one_go(job, writer, part)
        return in_segments(job, writer, index)


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
