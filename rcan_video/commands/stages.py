"""The stages of the job alone, each timed in a loop, and the machine's own peak."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from rcan_video.options import EncodeOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rcan_video.frames import Frame, Plane
    from rcan_video.network.frame_net import FrameNet
    from rcan_video.video import VideoInfo

MATMUL = 2048
"""Side of the square matrices whose product is the machine's peak."""

_MATMUL_REPEATS = 8


def flop(net: nn.Module, frame: Frame) -> int:
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


def matmul_gflops() -> float:
    """What this machine's float32 matrix product reaches, in GFLOP/s, with torch's threads."""
    import torch

    a, b = torch.rand(MATMUL, MATMUL), torch.rand(MATMUL, MATMUL)
    a @ b
    seconds = timed(lambda: deque((a @ b for _ in range(_MATMUL_REPEATS)), maxlen=0))
    return 2 * MATMUL**3 * _MATMUL_REPEATS / seconds / 1e9


def colour(net: FrameNet, frames: Sequence[Frame]) -> tuple[float, tuple[Plane, ...]]:
    """Seconds for the colour of all frames in torch, both ways, and the planes of one enlarged frame."""
    import torch

    def both(frame: Frame) -> None:
        net.to_rgb(*_stored(frame))
        net.to_planes(large)

    with torch.inference_mode():
        large: Tensor = net.enlarge(net.to_rgb(*_stored(frames[0])))
        seconds = timed(lambda: deque(map(both, frames), maxlen=0))
        return seconds, tuple(plane[0] for plane in net.to_planes(large))


def _stored(frame: Frame) -> list[Tensor]:
    from torch.utils.dlpack import from_dlpack

    return [from_dlpack(plane).unsqueeze(0) for plane in frame.planes]


def decode(clip: str, frames: int) -> tuple[VideoInfo, list[Frame], float]:
    """At most so many frames, in memory, and the seconds that they took. Raises InputError."""
    import numpy as np

    from rcan_video.frames import Frame
    from rcan_video.media.decode import Source

    decoded: list[Frame] = []
    begun = time.perf_counter()
    with Source(clip) as source:
        source.leave_alpha_out()
        for frame in source.frames():
            # Copied: the decoder's own memory is short-lived in the real job, and so many frames would hold all of it.
            decoded.append(Frame(tuple(np.array(p) for p in frame.planes), frame.pts, frame.duration, frame.index))
            if len(decoded) == frames:
                break
        return source.info, decoded, time.perf_counter() - begun


def encode(
    path: Path, info: VideoInfo, frames: Sequence[Frame], planes: tuple[Plane, ...], scale: int, preset: str
) -> float:
    """Seconds to encode the same enlarged ``planes`` at the time of every frame. Raises OutputError."""
    from rcan_video.frames import Frame
    from rcan_video.media.encode import Writer
    from rcan_video.media.output import Output

    begun = time.perf_counter()
    options = EncodeOptions(preset=preset)
    with Writer(Output(path, info, name=str(path), stop=Event()), scale, options) as writer:
        for frame in frames:
            writer.write(Frame(planes, frame.pts, frame.duration, frame.index))
        writer.finish()
    return time.perf_counter() - begun


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
