"""One job, from the input's first packet to the output's final name.

probe -> plan -> [ decode -> network -> encode ] -> verify -> rename
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video.engine.choice import choose, open_engine
from rcan_video.engine.task import Task
from rcan_video.errors import OutputError, UsageError, VerificationError
from rcan_video.frames import ColorSpec
from rcan_video.media.decode import Source
from rcan_video.media.encode import Writer
from rcan_video.media.files import PIPE, PartFile, check_output, shown
from rcan_video.media.streams import FilePackets, PipePackets, Window
from rcan_video.media.verify import verify
from rcan_video.network.catalog import LoadedModel, load_model
from rcan_video.options import STREAM_FORMATS, Options, Report
from rcan_video.pipeline import QUEUE_BYTES, run
from rcan_video.progress import Progress, Silent

if TYPE_CHECKING:
    from rcan_video.engine.base import Engine
    from rcan_video.frames import VideoInfo
    from rcan_video.media.codecs import VideoTarget


def upscale(options: Options, progress: Progress | None = None) -> Report:
    """Upscale one video as ``options`` say; blocks until the output is whole, verified and under its final name.

    Raises RcanVideoError (see ``rcan_video.errors``); whatever was written by then is removed.
    """
    progress = progress or Silent()
    begun = time.perf_counter()
    if options.output == PIPE and options.format not in STREAM_FORMATS:
        raise UsageError(f"standard output needs a container: give --format {', '.join(STREAM_FORMATS)}")
    if options.format is not None and PIPE not in (options.input, options.output):
        raise UsageError("--format is for standard input and output: the ending of a file says its container")
    check_output(options.input, options.output, overwrite=options.overwrite)
    model = load_model(options.model.model, options.model.scale)
    choice = choose(options.device)
    stop = threading.Event()
    with ExitStack() as stack:
        source = stack.enter_context(Source(options.input, start=options.start, duration=options.duration, stop=stop))
        info = source.info
        part = (
            stack.enter_context(PartFile(options.output, overwrite=options.overwrite))
            if options.output != PIPE
            else None
        )
        writer = stack.enter_context(_open_writer(options, source, part, model.scale, stop))
        target = writer.target
        task = Task(model, (info.layout, info.color), (target.layout, target.color), (info.width, info.height))
        batch = options.device.batch and _bounded(options.device.batch, info, target)
        notices: list[str] = []
        engine = open_engine(choice, task, batch, options.device.threads, notices.append)
        stack.callback(engine.close)
        if options.streams.strict and writer.losses:
            raise OutputError(f"--strict: {writer.losses[0]}{_and_more(writer.losses)}")
        notices += [*writer.notices, *_fates(writer), *_warnings(info, target)]
        report = None
        try:
            progress.start(_description(options, info, target, engine), info.frames)
            for text in _details(info, writer, model):
                progress.detail(text)
            for text in notices:
                progress.notice(text)
            counts = run(source.frames(), engine, writer.write, stop=stop, on_written=progress.update)
            writer.finish()
            if not source.decoded == counts.decoded == counts.written == writer.frames:
                raise VerificationError(
                    f"{source.decoded} frames were decoded, {counts.written} upscaled and {writer.frames} encoded: "
                    "please report this"
                )
            if part is not None:
                span = writer.span * info.time_base
                verify(part.path, options.output, writer.container, writer.frames, span)
            for text in (*source.notices(), *writer.late_notices()):
                progress.notice(text)
                notices.append(text)
            if part is not None:
                part.commit()
            report = Report(
                output=Path(options.output) if part is not None else None,
                frames_in=source.decoded,
                frames_out=writer.frames,
                width=target.width,
                height=target.height,
                seconds=time.perf_counter() - begun,
                stages=counts.seconds,
                skipped_packets=source.skipped,
                notices=tuple(notices),
            )
        finally:
            progress.finish(report)
    return report


def _bounded(batch: int, info: VideoInfo, target: VideoTarget) -> int:
    """``batch``, or as many frames as the pipeline's queues hold: batches are gathered before they are counted."""
    before = info.layout.frame_bytes(info.width, info.height)
    after = target.layout.frame_bytes(target.width, target.height)
    return min(batch, max(1, QUEUE_BYTES // max(before, after)))


def _open_writer(options: Options, source: Source, part: PartFile | None, scale: int, stop: threading.Event) -> Writer:
    info = source.info
    indices = [s.index for s in info.others]
    window = _window(options, info)
    packets: FilePackets | PipePackets | None = None
    if indices and options.input == PIPE:
        packets = PipePackets(source.container, indices)
        source.listen(packets.put)
    elif indices:
        packets = FilePackets(options.input, indices, window)
    else:
        source.listen(lambda _: None)
    return Writer(
        part.path if part is not None else None,
        info,
        scale,
        options.encode,
        streams=options.streams,
        format=options.format if part is None else None,
        window=window,
        packets=packets,
        name=options.output if part is not None else "standard output",
        stop=stop,
    )


def _window(options: Options, info: VideoInfo) -> Window:
    """What the other streams keep: all of it, or as much as the chosen part of the video lasts.

    A part that begins later is moved so that its first frame comes at the input's own start, zero.
    """
    first = info.start * info.time_base
    start = first if options.start else None
    end = None if options.duration is None else first + options.duration
    return Window(start, end, -first if start is not None else Fraction(0))


def _fates(writer: Writer) -> list[str]:
    """A sentence for every stream that does not simply travel on, and for all else that is lost."""
    told = [plan.sentence() for plan in writer.plans if plan.action != "copy"]
    return told + [loss for loss in writer.losses if loss not in told]


def _and_more(losses: Sequence[str]) -> str:
    return f" (and {len(losses) - 1} more)" if len(losses) > 1 else ""


def _warnings(info: VideoInfo, target: VideoTarget) -> list[str]:
    """What may turn out otherwise than people expect: fields, and a guessed matrix that the larger picture changes."""
    found = []
    if info.interlaced:
        found.append(f"{shown(info.path)} is interlaced and is upscaled as it is: deinterlace it first to avoid combs")
    guess = ColorSpec.resolve(info.color.tags, target.layout, target.width, target.height)
    if "matrix" in info.color.guessed and guess.matrix != info.color.matrix:
        found.append(
            f"{shown(info.path)} does not say which colour matrix it uses: it is read as BT.601, as its size suggests, "
            f"and stays untagged, but at {target.width}x{target.height} players may take it for BT.709"
        )
    return found


def _details(info: VideoInfo, writer: Writer, model: LoadedModel) -> list[str]:
    """What was found and chosen."""
    color, target = info.color, writer.target
    assumed = f" ({', '.join(color.guessed)} assumed)" if color.guessed else ""
    options = " ".join(f"{key}={value}" for key, value in target.options.items()) or "no options"
    return [
        f"input: {info.codec} {info.pix_fmt} in {info.container}, {float(info.rate):.6g} frames/s, "
        f"matrix {color.matrix}, {'full' if color.full_range else 'limited'} range, chroma {color.siting}{assumed}",
        *(f"input: {s.kind} stream {s.index}, {s.codec} {s.detail}".rstrip() for s in info.others),
        *(plan.sentence() for plan in writer.plans if plan.action == "copy"),
        f"output: {target.codec} {target.pix_fmt} in {writer.container}, {options}",
        f"weights: {model.path}, sha256 {model.sha256}",
    ]


def _description(options: Options, info: VideoInfo, target: VideoTarget, engine: Engine) -> str:
    name = "standard input" if options.input == PIPE else Path(options.input).name
    sizes = f"{info.width}x{info.height} to {target.width}x{target.height}"
    return f"{name} {sizes}, {options.model.model}, {engine.describe()}"
