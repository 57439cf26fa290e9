"""One job, from the input's first packet to the output's final name.

probe -> plan -> [ decode -> network -> encode ] -> verify -> rename
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video import briefing
from rcan_video.engine.backend import resolve_device
from rcan_video.engine.torch_engine import TorchEngine
from rcan_video.errors import OutputError, UsageError, VerificationError
from rcan_video.media.decode import Source
from rcan_video.media.encode import Writer
from rcan_video.media.files import PIPE, PartFile, check_output
from rcan_video.media.pace import open_pace
from rcan_video.media.packets import FilePackets, PipePackets, Window
from rcan_video.media.verify import verify
from rcan_video.network.catalog import LoadedModel, load_model
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.frame_net import FrameNet
from rcan_video.options import STREAM_FORMATS, DeviceOptions, Options, Report
from rcan_video.pipeline import QUEUE_BYTES, run
from rcan_video.progress import Progress, Silent

if TYPE_CHECKING:
    import torch

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
    if options.format is not None and options.output != PIPE:
        raise UsageError("--format is for standard output: the ending of a file says its container")
    if options.streams.audio_bitrate is not None and options.streams.audio_codec in (None, "copy"):
        raise UsageError("--audio-bitrate is for audio that is encoded again: give --audio-codec too, or leave it out")
    check_output(options.input, options.output, overwrite=options.overwrite)
    model = load_model(options.model.model, options.model.scale)
    device = resolve_device(options.device.device)
    stop = threading.Event()
    with ExitStack() as stack:
        source = stack.enter_context(
            Source(
                options.input,
                start=options.start,
                duration=options.duration,
                on_corrupt=options.on_corrupt,
                deinterlace=options.frames.deinterlace,
                stop=stop,
            )
        )
        pace = open_pace(source.info, options.frames)
        info = pace.info
        part = (
            stack.enter_context(PartFile(options.output, overwrite=options.overwrite))
            if options.output != PIPE
            else None
        )
        writer = stack.enter_context(_open_writer(options, source, info, part, model.net.config.scale, stop))
        if not writer.target.alpha:
            source.leave_alpha_out()
            info = replace(info, layout=source.info.layout)
        engine = open_engine(model, info, writer.target, device, options.device)
        stack.callback(engine.close)
        if options.streams.strict:
            _refuse_losses([*(plan.sentence() for plan in writer.plans if plan.lossy), *writer.losses])
        told = [*writer.notices, *writer.losses, *source.first_notices(), *briefing.warnings(info, writer.target)]
        notices = [*(plan.sentence() for plan in writer.plans if plan.action != "copy"), *told]
        report = None
        try:
            progress.start(briefing.description(options, info, writer.target, engine), info.frames)
            if info.others:
                progress.streams(briefing.rows(info, writer))
            for text in briefing.details(info, writer, model):
                progress.detail(text)
            for text in told:
                progress.notice(text)
            counts = run(pace(source.frames()), engine, writer.write, stop=stop, on_written=progress.update)
            writer.finish()
            due = source.decoded + pace.repeated - pace.dropped
            if not due == counts.decoded == counts.written == writer.frames:
                raise VerificationError(
                    f"{due} frames were decoded, {counts.written} upscaled and {writer.frames} encoded: "
                    "please report this"
                )
            if part is not None:
                _check(part, options.output, writer)
            late = [*source.notices(), *pace.notices(), *writer.late_notices()]
            for text in late:
                progress.notice(text)
            notices += late
            if part is not None:
                part.commit()
            report = Report(
                output=Path(options.output) if part is not None else None,
                frames_in=source.decoded,
                frames_out=writer.frames,
                width=writer.target.width,
                height=writer.target.height,
                seconds=time.perf_counter() - begun,
                stages=counts.seconds,
                repeated=pace.repeated,
                dropped=pace.dropped,
                skipped_packets=source.damage.packets,
                concealed_frames=source.damage.frames,
                damaged=bool(source.damage),
                notices=tuple(notices),
            )
        finally:
            progress.finish(report)
    return report


def _check(part: PartFile, name: str, writer: Writer) -> None:
    """Verify the written file; one that fails is kept for whoever wants to look into it, under a name that says so."""
    try:
        verify(part.path, name, writer.container, writer.ledger)
    except VerificationError as error:
        raise VerificationError(f"{error}; what was written is kept as {part.keep('unverified')}") from error


def open_engine(
    model: LoadedModel, info: VideoInfo, target: VideoTarget, device: torch.device, options: DeviceOptions
) -> Engine:
    """The engine that turns frames of ``info`` into frames of ``target`` with ``model`` on ``device``.

    Raises OutOfMemory.
    """
    config = model.net.config
    net = FrameNet(
        FoldedRCAN(model.net),
        source=(info.layout, info.color),
        target=(target.layout, target.color),
        width=info.width,
        height=info.height,
        colors=config.colors,
        scale=config.scale,
    )
    return TorchEngine(
        net,
        info.layout,
        (info.width, info.height),
        target.layout,
        config.scale,
        device,
        batch=options.batch and _bounded(options.batch, info, target),
        threads=options.threads,
    )


def _bounded(batch: int, info: VideoInfo, target: VideoTarget) -> int:
    """``batch``, or as many frames as the pipeline's queues hold: batches are gathered before they are counted."""
    before = info.layout.frame_bytes(info.width, info.height)
    after = target.layout.frame_bytes(target.width, target.height)
    return min(batch, max(1, QUEUE_BYTES // max(before, after)))


def _open_writer(
    options: Options, source: Source, info: VideoInfo, part: PartFile | None, scale: int, stop: threading.Event
) -> Writer:
    indices = [s.index for s in info.others]
    window = _window(options, info)
    packets: FilePackets | PipePackets | None = None
    if indices and options.input == PIPE:
        packets = PipePackets(source.container, indices)
        source.listen(packets.put)
    elif indices:
        packets = FilePackets(options.input, indices, window, source.damage)
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


def _refuse_losses(losses: Sequence[str]) -> None:
    if losses:
        more = f" (and {len(losses) - 1} more)" if len(losses) > 1 else ""
        raise OutputError(f"--strict: {losses[0]}{more}")
