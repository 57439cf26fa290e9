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

from rcan_video.commands import stages
from rcan_video.errors import RcanVideoError
from rcan_video.options import EngineName

if TYPE_CHECKING:
    from rcan_video.engine.base import Engine, Ticket
    from rcan_video.engine.task import Task
    from rcan_video.frames import Frame
    from rcan_video.video import VideoInfo


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """``bare`` (the engine in a loop on frames in memory), ``whole`` (the command as a process) and ``steady`` (the
    same after its first frame) in frames/s, ``first`` and ``first_cached`` (a process for one frame, without and with
    what an earlier run has kept) in seconds; medians of the runs. The ratios are medians of those run by run."""

    engine: str
    bare: float
    whole: float
    steady: float
    first: float
    first_cached: float
    whole_to_bare: float
    steady_to_bare: float
    peak_share: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Stages in frames per second; ``peak_gflops`` is the machine's float32 matrix product, ``frame_gflop`` what the
    convolutions of one frame take."""

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
    peak_gflops: float
    frame_gflop: float
    engines: tuple[EngineFigures, ...]


def measure(
    clip: str,
    scale: int,
    model: str,
    frames: int,
    runs: int,
    engines: Sequence[EngineName],
    threads: int | None,
    preset: str,
) -> Figures:
    """Run the benchmark. Raises RcanVideoError as the main job does."""
    import torch

    from rcan_video.engine.choice import openvino_installed
    from rcan_video.engine.task import Task
    from rcan_video.network.catalog import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    if not engines:
        engines = [name for name in get_args(EngineName)[1:] if name != "openvino" or openvino_installed()]
    info, decoded, decode_seconds = stages.decode(clip, frames)
    stored = (info.layout, info.color)
    task = Task(load_model(model, scale), stored, stored, (info.width, info.height))
    net = task.module()
    frame_gflop = stages.flop(net, decoded[0]) / 1e9
    opened = {name: _open(name, task, threads) for name in engines}
    found: dict[str, list[_Run]] = {name: [] for name in engines}
    peaks = []
    for engine in opened.values():
        _loop(engine, decoded[:2])  # memory is got and algorithms are chosen on the first frames
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(runs):
            peaks.append(stages.matmul_gflops())
            for name, engine in opened.items():
                process = _Process(
                    _command_line(clip, scale, model, name, threads, preset), info, folder / f"{name} {number}"
                )
                cold, warm = process.seconds(1), process.seconds(1)
                bare = stages.timed(partial(_loop, engine, decoded))
                found[name].append(_Run(len(decoded), bare, process.seconds(len(decoded)), cold, warm))
        colour_seconds, large = stages.colour(net, decoded)
        encode_seconds = stages.encode(folder / "encode.mp4", info, decoded, large, scale, preset)
    for engine in opened.values():
        engine.close()
    peak = statistics.median(peaks)
    return Figures(
        clip=Path(clip).name,
        size=f"{info.width}x{info.height}",
        frames=len(decoded),
        model=model,
        scale=scale,
        device="cpu",
        threads=torch.get_num_threads(),
        runs=runs,
        preset=preset,
        decode=len(decoded) / decode_seconds,
        colour=len(decoded) / colour_seconds,
        encode=len(decoded) / encode_seconds,
        peak_gflops=peak,
        frame_gflop=frame_gflop,
        engines=tuple(_summary(name, runs_, frame_gflop / peak) for name, runs_ in found.items()),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """Seconds: ``bare`` and ``whole`` for ``frames``, ``cold`` and ``warm`` for a process of one frame."""

    frames: int
    bare: float
    whole: float
    cold: float
    warm: float

    @property
    def steady(self) -> float:
        """Frames per second after the first: what a process of one frame takes is not counted."""
        return (self.frames - 1) / (self.whole - self.warm)


def _summary(engine: str, runs: Sequence[_Run], peak_share_of_one: float) -> EngineFigures:
    median = statistics.median
    bare = median(run.frames / run.bare for run in runs)
    return EngineFigures(
        engine=engine,
        bare=bare,
        whole=median(run.frames / run.whole for run in runs),
        steady=median(run.steady for run in runs),
        first=median(run.cold for run in runs),
        first_cached=median(run.warm for run in runs),
        whole_to_bare=median(run.bare / run.whole for run in runs),
        steady_to_bare=median(run.steady * run.bare / run.frames for run in runs),
        peak_share=bare * peak_share_of_one,
    )


def _open(name: EngineName, task: Task, threads: int | None) -> Engine:
    from rcan_video.engine.choice import choose, open_engine
    from rcan_video.options import DeviceOptions

    return open_engine(choose(DeviceOptions("cpu", engine=name)), task, None, threads, lambda _: None)


def _loop(engine: Engine, frames: Sequence[Frame]) -> None:
    """All frames through the engine, which always has the next one at hand; the results are dropped at once."""
    from rcan_video.frames import FrameBatch

    waiting: deque[Ticket] = deque()
    for frame in frames:
        waiting.append(engine.submit(FrameBatch((frame,))))
        if len(waiting) > 1:
            engine.result(waiting.popleft())
    while waiting:
        engine.result(waiting.popleft())


def _command_line(clip: str, scale: int, model: str, engine: str, threads: int | None, preset: str) -> list[str]:
    """The main job; what to do is to be added."""
    line = [sys.executable, "-m", "rcan_video", clip, "--scale", str(scale), "--model", model, "--device", "cpu"]
    line += ["--engine", engine, "--preset", preset, "--quiet", "--overwrite"]
    return line + (["--threads", str(threads)] if threads is not None else [])


@dataclass(frozen=True, slots=True)
class _Process:
    """The whole command, with an output and a cache of its own in ``folder``, where nothing is yet."""

    line: Sequence[str]
    info: VideoInfo
    folder: Path

    def seconds(self, frames: int) -> float:
        """How long it takes for so many frames, from start-up to the file under its name."""
        self.folder.mkdir(exist_ok=True)
        line = [*self.line, str(self.folder / "out.mp4"), "--duration", str(float(Fraction(frames) / self.info.rate))]
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder), "LOCALAPPDATA": str(self.folder)}
        begun = time.perf_counter()
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RcanVideoError(f"the measured command failed: {done.stderr.strip()}")
        return time.perf_counter() - begun
