"""One job whose output is pictures: a picture, numbered ones, or the frames of a video.

Each picture is written, verified and named on its own, so that what is there is whole whenever a run ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rcan_video import briefing
from rcan_video.engine.choice import Choice
from rcan_video.engine.devices import choose_devices, open_devices
from rcan_video.engine.task import Task
from rcan_video.errors import InputError, OutputError, UsageError
from rcan_video.frames import Frame
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.decode import Source
from rcan_video.media.files import PIPE, check_output
from rcan_video.media.image_tags import Extras, oriented
from rcan_video.media.images import (
    Picture,
    is_picture,
    orientation,
    plan_image,
    read_image,
    write_image,
)
from rcan_video.media.index import read_index
from rcan_video.media.numbering import is_numbered, numbered, numbers
from rcan_video.media.pace import open_pace
from rcan_video.network.catalog import LoadedModel, load_model, usable_scales
from rcan_video.options import Options, Report
from rcan_video.pipeline import Counts, run
from rcan_video.progress import Progress
from rcan_video.size import enlargement
from rcan_video.video import VideoInfo


@dataclass(slots=True)
class _Work:
    """What all pictures of a job share, and what is done so far."""

    options: Options
    progress: Progress
    factors: tuple[int, ...]
    choices: tuple[Choice, ...]
    stop: threading.Event = field(default_factory=threading.Event)
    models: dict[int, LoadedModel] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    started: bool = False
    size: tuple[int, int] = (0, 0)

    def tell(self, text: str) -> None:
        """Each sentence once: a thousand pictures may have the same to say."""
        if text not in self.told:
            self.told.append(text)
            self.progress.notice(text)

    def compute(
        self, info: VideoInfo, frames: Callable[[VideoInfo], Iterable[Frame]], total: int | None, write: _Write
    ) -> None:
        """Send frames of one size and kind through the network to ``write``."""
        options = self.options
        size = enlargement(self.factors, options.model, options.size, info)
        if size.scale not in self.models:
            self.models[size.scale] = load_model(options.model.model, size.scale)
        model = self.models[size.scale]
        target = plan_image(info, size.scale, options.output, options.encode, size.wanted)
        if options.streams.strict and target.notices:
            raise OutputError(f"--strict: {target.notices[0]}")
        stored = (info.layout, info.color), (target.layout, target.color)
        task = Task(model, *stored, (info.width, info.height), reduced=target.reduced)
        self.progress.stage("starting")
        engine = open_devices(self.choices, task, options.device.batch, options.device.threads, self.tell)
        try:
            if not self.started:
                self.started = True
                self.progress.start(briefing.description(options, info, target, engine.describe()), total)
            for text in target.notices:
                self.tell(text)
            self.progress.stage("upscaling")
            before = self.counts
            done = run(
                frames(info),
                engine,
                lambda frame: write(frame, target),
                stop=self.stop,
                on_written=lambda count, reused: self.progress.update(before.written + count, before.reused + reused),
                devices=len(self.choices),
            )
        finally:
            engine.close()
        self.size = target.width, target.height
        self.counts.decoded += done.decoded
        self.counts.written += done.written
        self.counts.reused += done.reused
        for stage, seconds in done.seconds.items():
            self.counts.seconds[stage] += seconds


_Write = Callable[[Frame, VideoTarget], None]


def upscale_images(options: Options, progress: Progress) -> Report:
    """Upscale ``options.input`` into pictures; returns when all of them are whole, verified and under their names.

    Raises RcanVideoError; pictures that are there by then stay.
    """
    begun = time.perf_counter()
    many, single = is_numbered(options.output), is_picture(options.input) and not is_numbered(options.input)
    if many and single:
        raise UsageError(f"{options.output} stands for several pictures, and {options.input} is one: name one output")
    if not many and not single:
        raise UsageError(
            f"{options.output} is one picture, and {options.input} is more than one: number the output, "
            f"as {Path(options.output).stem}_%05d{Path(options.output).suffix}"
        )
    if options.max_time is not None:
        raise UsageError("--max-time is for videos: leave it out, every picture is kept when a run is interrupted")
    if options.ray is not None:
        raise UsageError("--ray sends segments of a video away, and pictures have none: leave it out")
    factors = usable_scales(options.model, options.size)
    work = _Work(options, progress, factors, choose_devices(options.device))
    report = None
    progress.stage("reading")
    try:
        if single or is_numbered(options.input):
            _pictures(work)
            report = _report(work, begun)
        else:
            report = _video(work, begun)
    finally:
        progress.finish(report)
    return report


def _pictures(work: _Work) -> None:
    options = work.options
    if options.start is not None or options.duration is not None:
        raise UsageError("--start and --duration are for videos: leave them out, and name the pictures that are meant")
    found = numbers(options.input) if is_numbered(options.input) else [0]
    if not found:
        raise InputError(f"{options.input}: there is no file such as {numbered(options.input, 1)}; name the pictures")

    def names(number: int) -> tuple[str, str]:
        if not is_numbered(options.input):
            return options.input, options.output
        return numbered(options.input, number), numbered(options.output, number)

    for number in found:
        check_output(*names(number), overwrite=options.overwrite)
    coming = (read_image(names(number)[0], number, options.max_pixels) for number in found)
    extras: dict[int, Extras] = {}
    held = [next(coming)]

    def alike(info: VideoInfo) -> Iterator[Frame]:
        """The picture held and those after it that are like it; the first that is not is held."""
        picture: Picture | None = held.pop()
        while picture is not None and _kind(picture.info) == _kind(info):
            extras[picture.frame.index] = picture.extras
            yield picture.frame
            picture = next(coming, None)
        if picture is not None:
            held.append(picture)

    def write(frame: Frame, target: VideoTarget) -> None:
        source, path = names(frame.index)
        for lost in write_image(path, frame.planes, target, extras.pop(frame.index), overwrite=options.overwrite):
            work.tell(f"{source} {lost}")

    while held:
        work.compute(held[0].info, alike, len(found), write)


def _kind(info: VideoInfo) -> tuple[object, ...]:
    """What an engine and an encoder are opened for."""
    return (info.width, info.height, info.layout, info.color, info.sar, info.display_matrix)


def _video(work: _Work, begun: float) -> Report:
    options = work.options
    check_output(options.input, numbered(options.output, 1), overwrite=options.overwrite)
    if not options.overwrite and (there := numbers(options.output)):
        first = numbered(options.output, there[0])
        raise OutputError(f"{first} exists already: name another output or pass --overwrite")
    with Source(
        options.input,
        index=None if options.input == PIPE else read_index(options.input),
        start=options.start,
        duration=options.duration,
        on_corrupt=options.on_corrupt,
        deinterlace=options.frames.deinterlace,
        max_pixels=options.max_pixels,
        stop=work.stop,
    ) as source:
        pace = open_pace(source.info, options.frames)
        extras = oriented(orientation(source.info))
        if source.info.others:
            work.tell(f"{len(source.info.others)} other streams are left out: pictures hold none")
        source.listen(lambda _: None)
        written = 0

        def write(frame: Frame, target: VideoTarget) -> None:
            nonlocal written
            written += 1
            path = numbered(options.output, written)
            write_image(path, frame.planes, target, extras, overwrite=options.overwrite)

        for text in source.first_notices():
            work.tell(text)
        if not plan_image(pace.info, 1, options.output, options.encode, None).alpha:
            source.leave_alpha_out()
        info = replace(pace.info, layout=source.info.layout)
        work.compute(info, lambda _: pace(source.frames()), info.frames, write)
        for text in (*source.notices(), *pace.notices()):
            work.tell(text)
        return _report(work, begun, source)


def _report(work: _Work, begun: float, source: Source | None = None) -> Report:
    damage = None if source is None else source.damage
    return Report(
        output=Path(work.options.output),
        frames_in=work.counts.decoded if source is None else source.decoded,
        frames_out=work.counts.written,
        width=work.size[0],
        height=work.size[1],
        seconds=time.perf_counter() - begun,
        stages=work.counts.seconds,
        reused=work.counts.reused,
        skipped_packets=damage.packets if damage else 0,
        concealed_frames=damage.frames if damage else 0,
        damaged=bool(damage),
        notices=tuple(work.told),
    )
