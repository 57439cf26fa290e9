"""A picture of what a job would make: some frames, whole and in part, by interpolation and by the network.

Frames come from the job's own source and go through the job's own engine, planes in and planes out; only the encoder is
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from rcan_video.engine.devices import choose_devices, open_devices
from rcan_video.engine.task import Task
from rcan_video.errors import InputError, UsageError
from rcan_video.frames import Frame, FrameBatch
from rcan_video.media.decode import Source
from rcan_video.media.files import PIPE, PartFile, check_output
from rcan_video.media.index import Index, read_index
from rcan_video.metrics import Pixels, luma_bt601, sharpness
from rcan_video.network.catalog import load_model, usable_scales
from rcan_video.options import Options
from rcan_video.pictures import planes_to_pixels
from rcan_video.report import before_after, stacked, write_png
from rcan_video.size import enlargement
from rcan_video.video import VideoInfo

KERNELS = ("bicubic", "lanczos")
_CANDIDATES = 9  # frames that are looked at, spread evenly, where none is asked for


@dataclass(frozen=True, slots=True)
class Still:
    """A frame ``at`` seconds after the input's first one: (H, W, 3) RGB before, (s·H, s·W, 3) after the network."""

    at: float
    source: Pixels
    result: Pixels


def preview(options: Options, time: Fraction | None, notice: Callable[[str], None]) -> list[Still]:
    """Write the PNG ``options.output`` with the first frame at or after ``time`` (seconds from the input's first one),
    or, where that is None, with three frames of the part that ``options`` choose: one with little detail, one with
    some, one with much. ``notice`` hears what people should know. Returns what is on the picture.

    Raises RcanVideoError as the job does.
    """
    if not options.output.lower().endswith(".png"):
        raise UsageError(f"--preview writes a picture: give OUTPUT an ending of .png, not {options.output}")
    check_output(options.input, options.output, overwrite=options.overwrite)
    stills = look(options, time, notice)
    drawn = [before_after(s.source, s.result, kernels=KERNELS, title=f"Frame at {s.at:.2f} s") for s in stills]
    with PartFile(options.output, overwrite=options.overwrite) as part:
        write_png(part.path, stacked(drawn))
        part.commit()
    return stills


def look(options: Options, time: Fraction | None, notice: Callable[[str], None]) -> list[Still]:
    """The frames of ``preview``, before and after."""
    if options.ray is not None:
        raise UsageError("--preview computes on this machine: leave --ray out, or give --ray none")
    factors = usable_scales(options.model, options.size)
    choices = choose_devices(options.device)
    index = None if options.input == PIPE else read_index(options.input)
    info, frames = _chosen(options, index, time)
    size, stored = (info.width, info.height), (info.layout, info.color)
    before = planes_to_pixels(*stored, size)
    larger = enlargement(factors, options.model, options.size, info)
    model = load_model(options.model.model, larger.scale)
    task = Task(model, stored, stored, size)
    if larger.wanted is not None:
        notice(f"the picture shows what the network makes, {larger.scale} times as large, before that is reduced")
    after = planes_to_pixels(*stored, task.target_size)
    engine = open_devices(choices, task, 1, options.device.threads, notice)
    try:
        stills = []
        for at, frame in frames:
            (done,) = engine.result(engine.submit(FrameBatch((frame,)))).frames
            stills.append(Still(float(at), before(frame.planes), after(done.planes)))
    finally:
        engine.close()
    return stills


_Timed = tuple[Fraction, Frame]  # seconds from the input's first frame


def _chosen(options: Options, index: Index | None, time: Fraction | None) -> tuple[VideoInfo, list[_Timed]]:
    """What the input's frames are, and those to show, in order of time."""
    if time is not None:
        _check_reached(options, index, time)
        with _open(options, index, time) as source:
            return source.info, [_kept(source, source.first())]
    if index is None:
        raise UsageError("--preview of standard input needs a time: write --preview=12.5")
    with _open(options, index, options.start, options.duration) as source:
        info = source.info
        if index.seekable:
            times = index.between(info.start, source.end)
            ticks = [int(times[place]) - source.origin for place in _places(len(times))]
            candidates = [_at(options, index, tick * info.time_base) for tick in ticks]
        else:
            places = _places(max(1, min(info.frames or index.frames, index.frames)))
            candidates = [_kept(source, frame) for frame in _up_to(source, places[-1]) if frame.index in places]
    return info, _three(candidates, info)


def _places(count: int) -> list[int]:
    """Of some frames out of ``count``, not the first and the last where there are others: those are often black."""
    places = sorted(set(np.linspace(0, count - 1, _CANDIDATES + 2).round().astype(int).tolist()))
    return places[1:-1] if len(places) > 4 else places


def _three(candidates: list[_Timed], info: VideoInfo) -> list[_Timed]:
    """The one with the least detail, one of the middle and the one with the most."""
    if not candidates:
        raise InputError(f"{info.path} has fewer frames than it says: give --preview a time")
    pixels = planes_to_pixels(info.layout, info.color, (info.width, info.height))
    by_detail = sorted(candidates, key=lambda timed: sharpness(luma_bt601(pixels(timed[1].planes))))
    picked = {timed[0]: timed for timed in (by_detail[0], by_detail[len(by_detail) // 2], by_detail[-1])}
    return [timed for _, timed in sorted(picked.items())]


def _open(options: Options, index: Index | None, start: Fraction | None, duration: Fraction | None = None) -> Source:
    source = Source(
        options.input,
        index=index,
        start=start,
        duration=duration,
        on_corrupt=options.on_corrupt,
        deinterlace=options.frames.deinterlace,
        max_pixels=options.max_pixels,
    )
    source.leave_alpha_out()
    return source


def _at(options: Options, index: Index, time: Fraction) -> _Timed:
    with _open(options, index, time) as source:
        return _kept(source, source.first())


def _up_to(source: Source, last: int) -> Iterator[Frame]:
    for frame in source.frames():
        yield frame
        if frame.index >= last:
            return


def _kept(source: Source, frame: Frame) -> _Timed:
    """With planes of its own: those of a decoder are views of its memory."""
    at = (frame.pts - source.origin) * source.info.time_base
    return at, replace(frame, planes=tuple(np.array(plane) for plane in frame.planes))


def _check_reached(options: Options, index: Index | None, time: Fraction) -> None:
    if index is None or not len(index.times):
        return
    last = int(index.times[-1] - index.times[0]) * index.time_base
    if time > last:
        raise InputError(
            f"{options.input} ends before --preview {float(time):g}: its last frame comes at {float(last):.3f} s"
        )
