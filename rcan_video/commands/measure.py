"""What ``rcan-video-bench`` measures: every stage alone, every engine alone, and the command as a process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from rcan_video.commands import stages
from rcan_video.commands.waiting import peak_memory
from rcan_video.errors import InputError, RcanVideoError, UsageError
from rcan_video.options import EngineName, Precision

if TYPE_CHECKING:
    import torch

    from rcan_video.engine.base import Engine, Ticket
    from rcan_video.engine.task import Task
    from rcan_video.frames import Frame
    from rcan_video.video import VideoInfo


_NOISE = 0.2
"""Share of a whole process's time that must remain without its start-up for a rate to be made of it."""


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """``bare`` (the engine in a loop on frames in memory), ``whole`` (the command as a process) and ``steady`` (the
    same after its first frame) in frames/s, ``first`` and ``first_cached`` (a process for one frame, without and with
    what an earlier run has kept) in seconds, ``memory`` the peak of the whole process in MB (10**6 bytes; None where
    the system does not count it); medians of the runs. The ratios are medians of those run by run. ``peak_gflops`` is
    the device's matrix product in this ``precision``, ``peak_share`` what the bare network reaches of it."""

    engine: str
    precision: Precision
    bare: float
    whole: float
    steady: float | None
    first: float
    first_cached: float
    whole_to_bare: float
    steady_to_bare: float | None
    peak_gflops: float
    peak_share: float
    memory: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Stages in frames per second; ``frame_gflop`` is what the convolutions of one frame take, ``matrix`` the side of
    the matrices whose product is the peak."""

    clip: str
    size: str
    frames: int
    model: str
    scale: int
    device: str
    threads: int
    runs: int
    preset: str
    decode: float
    colour: float
    encode: float
    matrix: int
    frame_gflop: float
    engines: tuple[EngineFigures, ...]


def measure(
    clip: str,
    scale: int,
    model: str,
    frames: int,
    runs: int,
    device: str,
    engines: Sequence[EngineName],
    precisions: Sequence[Precision],
    threads: int | None,
    preset: str,
) -> Figures:
    """Run the benchmark; empty ``engines`` and ``precisions`` mean all that the device is good for. Raises
    RcanVideoError as the main job does."""
    import torch

    from rcan_video.engine.backend import resolve_device
    from rcan_video.engine.task import Task
    from rcan_video.network.catalog import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    place = resolve_device(device)
    rivals = _rivals(place, engines, precisions)
    info, decoded, decode_seconds = stages.decode(clip, frames)
    if len(decoded) < 2:
        raise InputError(f"{clip}: has one frame, and the benchmark needs two: give it a video")
    stored = (info.layout, info.color)
    task = Task(load_model(model, scale), stored, stored, (info.width, info.height))
    net = task.module().to(place)
    frame_gflop = stages.flop(net, decoded[0]) / 1e9
    found: dict[_Rival, list[_Run]] = {rival: [] for rival in rivals}
    matrix = stages.matrix_side(place)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(runs):
            for rival in rivals:
                peak = stages.matmul_gflops(place, rival.precision)
                line = _command_line(clip, scale, model, place, rival, threads, preset)
                process = _Process(line, info, folder / f"{rival.engine} {rival.precision} {number}")
                cold, warm = process.run(1), process.run(1)
                bare = rival.bare(place, task, threads, decoded)
                whole = process.run(len(decoded))
                found[rival].append(
                    _Run(len(decoded), bare, whole.seconds, cold.seconds, warm.seconds, peak, whole.memory)
                )
        colour_seconds, large = stages.colour(net, decoded)
        encode_seconds = stages.encode(folder / "encode.mp4", info, decoded, large, scale, preset)
    return Figures(
        clip=Path(clip).name,
        size=f"{info.width}x{info.height}",
        frames=len(decoded),
        model=model,
        scale=scale,
        device=str(place),
        threads=torch.get_num_threads(),
        runs=runs,
        preset=preset,
        decode=len(decoded) / decode_seconds,
        colour=len(decoded) / colour_seconds,
        encode=len(decoded) / encode_seconds,
        matrix=matrix,
        frame_gflop=frame_gflop,
        engines=tuple(_summary(rival, runs_, frame_gflop) for rival, runs_ in found.items()),
    )


@dataclass(frozen=True, slots=True)
class _Rival:
    """What is measured against each other."""

    engine: EngineName
    precision: Precision

    def bare(self, device: torch.device, task: Task, threads: int | None, frames: Sequence[Frame]) -> float:
        """Seconds for all frames. The engine is closed afterwards: the measured command needs the device's memory."""
        engine = self.open(device, task, threads)
        try:
            _loop(engine, frames[: 2 * engine.batch])  # memory is got and algorithms are chosen on the first frames
            return stages.timed(partial(_loop, engine, frames))
        finally:
            engine.close()

    def open(self, device: torch.device, task: Task, threads: int | None) -> Engine:
        from rcan_video.engine.choice import choose, open_engine
        from rcan_video.options import DeviceOptions

        options = DeviceOptions(str(device), engine=self.engine, precision=self.precision)
        # Said, because the figures under this precision's name are another's where the engine has given it up.
        return open_engine(choose(options), task, None, threads, partial(click.echo, err=True))


def _rivals(device: torch.device, engines: Sequence[EngineName], precisions: Sequence[Precision]) -> list[_Rival]:
    """OpenVINO has one precision, and is for the CPU."""
    from rcan_video.engine.choice import openvino_installed

    on_cpu = device.type == "cpu"
    if "openvino" in engines and not on_cpu:
        raise UsageError(f"--engine openvino computes on the CPU: leave it out with --device {device}")
    if not engines:
        engines = [name for name in get_args(EngineName)[1:] if name != "openvino" or (on_cpu and openvino_installed())]
    if not precisions:
        precisions = ["single"] if on_cpu else ["single", "half"]
    rivals = [_Rival(name, p) for name in engines for p in precisions if name != "openvino" or p == "single"]
    if not rivals:
        raise UsageError("--engine openvino computes in float32: leave --precision out, or give --engine torch as well")
    return rivals


@dataclass(frozen=True, slots=True)
class _Run:
    """Seconds: ``bare`` and ``whole`` for ``frames``, ``cold`` and ``warm`` for a process of one frame."""

    frames: int
    bare: float
    whole: float
    cold: float
    warm: float
    peak_gflops: float
    memory: float | None

    @property
    def steady(self) -> float | None:
        """Frames per second after the first: what a process of one frame takes is not counted. None where the others
        take so little that the difference is noise."""
        rest = self.whole - self.warm
        return (self.frames - 1) / rest if rest > _NOISE * self.whole else None


def _summary(rival: _Rival, runs: Sequence[_Run], frame_gflop: float) -> EngineFigures:
    median = statistics.median
    bare = median(run.frames / run.bare for run in runs)
    peak = median(run.peak_gflops for run in runs)
    memory = [run.memory for run in runs if run.memory is not None]
    steady = [(run.steady, run.bare / run.frames) for run in runs if run.steady is not None]
    return EngineFigures(
        engine=rival.engine,
        precision=rival.precision,
        bare=bare,
        whole=median(run.frames / run.whole for run in runs),
        steady=median(rate for rate, _ in steady) if steady else None,
        first=median(run.cold for run in runs),
        first_cached=median(run.warm for run in runs),
        whole_to_bare=median(run.bare / run.whole for run in runs),
        steady_to_bare=median(rate * bare for rate, bare in steady) if steady else None,
        peak_gflops=peak,
        peak_share=bare * frame_gflop / peak,
        memory=median(memory) if memory else None,
    )


def _loop(engine: Engine, frames: Sequence[Frame]) -> None:
    """All frames through the engine in batches of its size (it computes shorter ones in full), of which it always has
    the next one at hand; the results are dropped at once."""
    from rcan_video.frames import FrameBatch

    waiting: deque[Ticket] = deque()
    for first in range(0, len(frames), engine.batch):
        waiting.append(engine.submit(FrameBatch(tuple(frames[first : first + engine.batch]))))
        if len(waiting) > 1:
            engine.result(waiting.popleft())
    while waiting:
        engine.result(waiting.popleft())


def _command_line(
    clip: str, scale: int, model: str, device: torch.device, rival: _Rival, threads: int | None, preset: str
) -> list[str]:
    """The main job; what to do is to be added."""
    line = [sys.executable, "-m", "rcan_video", clip, "--scale", str(scale), "--model", model, "--device", str(device)]
    line += ["--engine", rival.engine, "--precision", rival.precision]
    line += ["--preset", preset, "--quiet", "--overwrite"]
    return line + (["--threads", str(threads)] if threads is not None else [])


@dataclass(frozen=True, slots=True)
class _Took:
    """A process: its time from start-up to the file under its name, its peak of memory as in ``EngineFigures``."""

    seconds: float
    memory: float | None


@dataclass(frozen=True, slots=True)
class _Process:
    """The whole command, with an output, a cache and no standing choices (configuration, environment) in ``folder``,
    where nothing is yet: the bare engine that it is held against knows none either."""

    line: Sequence[str]
    info: VideoInfo
    folder: Path

    def run(self, frames: int) -> _Took:
        """Let it do so many frames. Raises RcanVideoError with its own words where it fails."""
        self.folder.mkdir(exist_ok=True)
        line = [*self.line, str(self.folder / "out.mp4"), "--duration", str(float(Fraction(frames) / self.info.rate))]
        nothing = self.folder / "nothing.toml"
        nothing.touch()
        line += ["--config", str(nothing)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RCAN_VIDEO_")}
        environment |= {"XDG_CACHE_HOME": str(self.folder), "LOCALAPPDATA": str(self.folder)}
        with (self.folder / "said").open("w+", encoding="utf-8") as said:
            begun = time.perf_counter()
            process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, env=environment
            )
            try:
                memory = peak_memory(process)
            except BaseException:  # interrupted: the process may have heard nothing of it
                process.kill()
                process.wait()
                raise
            seconds = time.perf_counter() - begun
            said.seek(0)
            if process.returncode:
                raise RcanVideoError(f"the measured command failed: {said.read().strip()}")
        return _Took(seconds, memory)
