"""What every job needs, however its frames get into the output: the input, the engine, the output opened for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video import briefing
from rcan_video.bounded_queue import QUEUE_BYTES
from rcan_video.engine.choice import Choice
from rcan_video.engine.devices import open_devices
from rcan_video.engine.task import Task
from rcan_video.errors import InputHangs, Interrupted, OutputError, VerificationError
from rcan_video.frames import Frame
from rcan_video.media.decode import Source
from rcan_video.media.encode import Writer
from rcan_video.media.files import PIPE, PartFile
from rcan_video.media.index import Index
from rcan_video.media.output import Output
from rcan_video.media.pace import Passthrough
from rcan_video.media.packets import FilePackets, PipePackets, Window
from rcan_video.media.verify import Ledger, verify
from rcan_video.network.catalog import LoadedModel
from rcan_video.options import DeviceOptions, Options, Report
from rcan_video.pipeline import Counts
from rcan_video.progress import Progress
from rcan_video.size import Enlargement

if TYPE_CHECKING:
    from rcan_video.engine.base import Engine
    from rcan_video.media.codecs import VideoTarget
    from rcan_video.video import VideoInfo

# Seconds without a packet after which a file's reader is taken for stuck: sleeping disks need some ten.
_PATIENCE = 300.0
# Seconds between two looks at it, a tenth of a second apart, by which the process itself has stood still.
_STANDSTILL = 5.0


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when the last frame has come: frames read, repeated and dropped by a constant rate, damaged
    packets and frames of the input, and sentences for people."""

    frames_in: int
    repeated: int
    dropped: int
    damaged_packets: int
    damaged_frames: int
    notices: tuple[str, ...]

    @property
    def frames_out(self) -> int:
        return self.frames_in + self.repeated - self.dropped


@dataclass(slots=True)
class Job:
    """An open input and what is to become of it. ``info`` is that of the frames that go to the network, ``index`` None
    for a pipe."""

    options: Options
    progress: Progress
    model: LoadedModel
    enlargement: Enlargement
    choices: tuple[Choice, ...]
    index: Index | None
    source: Source
    pace: Passthrough
    info: VideoInfo
    stop: threading.Event
    told: list[str] = field(default_factory=list)
    announced: bool = False
    begun: float = field(default_factory=time.perf_counter)
    _watched: float = field(default_factory=time.monotonic, init=False)  # when ``watch`` looked last
    _awake: float = field(default=0.0, init=False)  # since when it has looked all the time

    @property
    def output_name(self) -> str:
        return "standard output" if self.options.output == PIPE else self.options.output

    def part_file(self, folder: Path | None = None) -> PartFile:
        """The file that will get the output's name; in ``folder``, where it can be renamed from there."""
        return PartFile(self.options.output, overwrite=self.options.overwrite, folder=folder)

    @contextmanager
    def writer(self, part: PartFile | None) -> Iterator[Writer]:
        """The output (standard output where ``part`` is None) with its encoder, opened and introduced: from here on
        ``told`` says what people have to know.

        Raises OutputError, with --strict for anything that cannot be kept; UsageError.
        """
        options = self.options
        with Writer(self.container(part), self.model.scale, options.encode, self.enlargement.wanted) as writer:
            if not writer.target.alpha:
                self.source.leave_alpha_out()
                self.info = replace(self.info, layout=self.source.info.layout)
            if options.streams.strict:
                _refuse_losses([*(plan.sentence() for plan in writer.plans if plan.lossy), *writer.losses])
            self.told = [
                *writer.notices,
                *writer.losses,
                *self.source.first_notices(),
                *briefing.warnings(self.info, writer.target),
            ]
            yield writer

    def container(self, part: PartFile | None) -> Output:
        """The output without its video: standard output where ``part`` is None."""
        options = self.options
        return Output(
            part.path if part is not None else None,
            self.info,
            streams=options.streams,
            format=options.format if part is None else None,
            window=self._window,
            packets=self._packets(),
            name=self.output_name,
            stop=self.stop,
        )

    def engine(self, target: VideoTarget) -> Engine:
        """The engine that turns frames of ``info`` into frames of ``target``; ``told`` says where it is not the one
        that was chosen. Raises as ``engine.devices.open_devices``."""
        self.progress.stage("starting")
        return engine_for(self.model, self.info, target, self.options.device, self.choices, self.tell)

    def announce(self, writer: Writer, engine: str, frames: int | None, kept: int = 0) -> None:
        """Tell people what was found and what will be done."""
        options, progress, target = self.options, self.progress, writer.target
        progress.start(briefing.description(options, self.info, target, engine), frames, kept)
        progress.stage("upscaling")
        if self.info.others:
            progress.streams(briefing.rows(self.info, writer))
        for text in briefing.details(self.info, writer, self.model):
            progress.detail(text)
        for text in self.told:
            progress.notice(text)
        self.announced = True

    def tell(self, text: str) -> None:
        """One sentence that people should read: with all others before the first frame, at once from then on."""
        self.told.append(text)
        if self.announced:
            self.progress.notice(text)

    def in_time(self, write: Callable[[Frame], None]) -> Callable[[Frame], None]:
        """``write``, until --max-time is over: then it raises Interrupted."""

        def timed(frame: Frame) -> None:
            self.check_time()
            write(frame)

        return timed

    def check_time(self) -> None:
        """Raises Interrupted where --max-time is over."""
        limit = self.options.max_time  # of several files, what the earlier ones have left: no number to name
        if limit is not None and time.perf_counter() - self.begun > limit:
            raise Interrupted("--max-time is over")

    def watch(self, since: float) -> None:
        """Raises InputHangs where a file has given no packet for minutes, and somebody waits ``since``
        (``time.monotonic``) for a frame. A pipe may take its time. A process that was stopped (Ctrl-Z, a virtual
        machine that was paused) has given the file no time: counting begins anew."""
        now = time.monotonic()
        if now - self._watched > _STANDSTILL:
            self._awake = now
        self._watched = now
        silent = now - max(since, self.source.alive, self._awake)
        if silent > _PATIENCE and self.options.input != PIPE:
            raise InputHangs(
                f"{self.options.input} has given nothing for {silent:.0f} s: its disk does not answer, or its decoder "
                "hangs; see whether the file can be copied, and run the command again"
            )

    def ending(self) -> Ending:
        """What the input and the pace say now that all frames were read."""
        source, pace = self.source, self.pace
        return Ending(
            frames_in=source.decoded,
            repeated=pace.repeated,
            dropped=pace.dropped,
            damaged_packets=source.damage.packets,
            damaged_frames=source.damage.frames,
            notices=(*source.notices(), *pace.notices()),
        )

    def check(self, part: PartFile, container: str, ledger: Ledger) -> None:
        """Verify the written file; one that fails is kept for whoever wants to look into it, under a name that says
        so. Raises VerificationError."""
        self.progress.stage("checking")
        try:
            verify(part.path, self.output_name, container, ledger)
        except VerificationError as error:
            raise VerificationError(f"{error}; what was written is kept as {part.keep('unverified')}") from error

    def report(
        self,
        writer: Writer,
        ending: Ending,
        counts: Counts,
        late: Sequence[str],
        kept: int = 0,
    ) -> Report:
        """The report of a job whose output is whole; ``late`` is what people are told at its end."""
        late = [*late, *self.source.damage.others_notices()]
        for text in late:
            self.progress.notice(text)
        converted = [plan.sentence() for plan in writer.plans if plan.action != "copy"]
        return Report(
            output=Path(self.options.output) if self.options.output != PIPE else None,
            frames_in=ending.frames_in,
            frames_out=ending.frames_out,
            width=writer.target.width,
            height=writer.target.height,
            seconds=time.perf_counter() - self.begun,
            stages=counts.seconds,
            repeated=ending.repeated,
            dropped=ending.dropped,
            reused=counts.reused,
            skipped_packets=ending.damaged_packets,
            concealed_frames=ending.damaged_frames,
            kept=kept,
            damaged=bool(ending.damaged_packets or ending.damaged_frames or self.source.damage),
            notices=(*converted, *self.told, *late),
        )

    def _packets(self) -> FilePackets | PipePackets | None:
        """The streams beside the video."""
        indices = [s.index for s in self.info.others]
        if not indices:
            self.source.listen(lambda _: None)
            return None
        if self.options.input == PIPE:
            packets = PipePackets(self.source.container, indices, self.source.damage)
            self.source.listen(packets.put)
            return packets
        return FilePackets(self.options.input, indices, self._window, self.source.damage)

    @property
    def _window(self) -> Window:
        """What the other streams keep: all of it, or as much as the chosen part of the video lasts.

        A part that begins later is moved so that its first frame comes at the input's own start, zero.
        """
        first = self.info.start * self.info.time_base
        start = first if self.options.start else None
        end = None if self.options.duration is None else first + self.options.duration
        return Window(start, end, -first if start is not None else Fraction(0))


def engine_for(
    model: LoadedModel,
    info: VideoInfo,
    target: VideoTarget,
    options: DeviceOptions,
    choices: Sequence[Choice],
    notice: Callable[[str], None],
) -> Engine:
    """The engine that turns frames of ``info`` into frames of ``target``. Raises as ``engine.devices.open_devices``."""
    task = Task(
        model,
        (info.layout, info.color),
        (target.layout, target.color),
        (info.width, info.height),
        reduced=target.reduced,
    )
    batch = options.batch and _bounded(options.batch, info, target)
    return open_devices(choices, task, batch, options.threads, notice)


def _bounded(batch: int, info: VideoInfo, target: VideoTarget) -> int:
    """``batch``, or as many frames as the pipeline's queues hold: batches are gathered before they are counted."""
    before = info.layout.frame_bytes(info.width, info.height)
    after = target.layout.frame_bytes(target.width, target.height)
    return min(batch, max(1, QUEUE_BYTES // max(before, after)))


def _refuse_losses(losses: Sequence[str]) -> None:
    if losses:
        more = f" (and {len(losses) - 1} more)" if len(losses) > 1 else ""
        raise OutputError(f"--strict: {losses[0]}{more}")
