"""What ``rcan-video-bench`` measures: every stage alone, every engine alone, and the command as a process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcan_video.errors import RcanVideoError
from rcan_video.options import ENGINES, EncodeOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rcan_video.engine.base import Engine, Ticket
    from rcan_video.engine.task import Task
    from rcan_video.frames import Frame, Plane, VideoInfo
    from rcan_video.network.frame_net import FrameNet

MATMUL = 2048
"""Side of the square matrices whose product is the machine's peak."""

_MATMUL_REPEATS = 8


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
    engines: Sequence[str],
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
        engines = [name for name in ENGINES[1:] if name != "openvino" or openvino_installed()]
    info, decoded, decode_seconds = _decode(clip, frames)
    stored = (info.layout, info.color)
    task = Task(load_model(model, scale), stored, stored, (info.width, info.height))
    net = task.module()
    frame_gflop = _flop(net, decoded[0]) / 1e9
    opened = {name: _open(name, task, threads) for name in engines}
    found: dict[str, list[_Run]] = {name: [] for name in engines}
    peaks = []
    for engine in opened.values():
        _loop(engine, decoded[:2])  # memory is got and algorithms are chosen on the first frames
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(runs):
            peaks.append(_matmul_gflops())
            for name, engine in opened.items():
                process = _Process(
                    _command_line(clip, scale, model, name, threads, preset), info, folder / f"{name} {number}"
                )
                cold, warm = process.seconds(1), process.seconds(1)
                bare = _timed(partial(_loop, engine, decoded))
                found[name].append(_Run(len(decoded), bare, process.seconds(len(decoded)), cold, warm))
        colour_seconds, large = _colour(net, decoded)
        encode_seconds = _encode(folder / "encode.mp4", info, decoded, large, scale, preset)
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


def _open(name: str, task: Task, threads: int | None) -> Engine:
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


def _flop(net: nn.Module, frame: Frame) -> int:
    """What the convolutions of one frame take, a multiplication and an addition counted as two."""
    import torch

    total = 0

    def count(conv: Any, _: object, output: Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.inference_mode():
        net(*_stored(frame))
    for hook in hooks:
        hook.remove()
    return total


def _matmul_gflops() -> float:
    import torch

    a, b = torch.rand(MATMUL, MATMUL), torch.rand(MATMUL, MATMUL)
    a @ b
    seconds = _timed(lambda: deque((a @ b for _ in range(_MATMUL_REPEATS)), maxlen=0))
    return 2 * MATMUL**3 * _MATMUL_REPEATS / seconds / 1e9


def _colour(net: FrameNet, frames: Sequence[Frame]) -> tuple[float, tuple[Plane, ...]]:
    """Seconds for the colour of all frames in torch, both ways, and the planes of one enlarged frame."""
    import torch

    def both(frame: Frame) -> None:
        net.to_rgb(*_stored(frame))
        net.to_planes(large)

    with torch.inference_mode():
        large: Tensor = net.net(net.to_rgb(*_stored(frames[0])))
        seconds = _timed(lambda: deque(map(both, frames), maxlen=0))
        return seconds, tuple(plane[0] for plane in net.to_planes(large))


def _stored(frame: Frame) -> list[Tensor]:
    from torch.utils.dlpack import from_dlpack

    return [from_dlpack(plane).unsqueeze(0) for plane in frame.planes]


def _decode(clip: str, frames: int) -> tuple[VideoInfo, list[Frame], float]:
    import numpy as np

    from rcan_video.frames import Frame
    from rcan_video.media.decode import Source

    decoded: list[Frame] = []
    begun = time.perf_counter()
    with Source(clip) as source:
        for frame in source.frames():
            # Copied: the decoder's own memory is short-lived in the real job, and so many frames would hold all of it.
            decoded.append(Frame(tuple(np.array(p) for p in frame.planes), frame.pts, frame.duration, frame.index))
            if len(decoded) == frames:
                break
        return source.info, decoded, time.perf_counter() - begun


def _encode(
    path: Path, info: VideoInfo, frames: Sequence[Frame], planes: tuple[Plane, ...], scale: int, preset: str
) -> float:
    from rcan_video.frames import Frame
    from rcan_video.media.encode import Writer

    begun = time.perf_counter()
    options = EncodeOptions(preset=preset)
    with Writer(path, info, scale, options, name=str(path), stop=threading.Event()) as writer:
        for frame in frames:
            writer.write(Frame(planes, frame.pts, frame.duration, frame.index))
        writer.finish()
    return time.perf_counter() - begun


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


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
