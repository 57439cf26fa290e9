"""The stages of the job alone, each timed in a loop, and the machine's own peak."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from rcan_video.options import EncodeOptions, Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rcan_video.frames import Frame, Plane
    from rcan_video.network.frame_net import FrameNet
    from rcan_video.video import VideoInfo

_MATMUL_REPEATS = 8
_LONG = 2.0  # seconds: what one product takes where a CPU computes half precision in software


def flop(net: nn.Module, frame: Frame) -> int:
    """What the convolutions of one frame take, a multiplication and an addition counted as two."""
    import torch

    total = 0

    def count(conv: Any, _: object, output: Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.inference_mode():
        net(*_stored(net, frame))
    for hook in hooks:
        hook.remove()
    return total


def matrix_side(device: torch.device) -> int:
    """Of the square matrices whose product is the device's peak: large enough to fill it."""
    return 2048 if device.type == "cpu" else 8192


def matmul_gflops(device: torch.device, precision: Precision) -> float:
    """What the device's matrix product reaches, in GFLOP/s, with torch's threads; of float32 without TF32."""
    import torch

    from rcan_video.engine.task import DTYPES

    side = matrix_side(device)
    dtype = getattr(torch, DTYPES["single" if precision == "auto" else precision])
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))

    def multiply(times: int) -> None:
        for _ in range(times):
            product = a @ b
        _wait_for(product)

    first = timed(lambda: multiply(1))
    if first > _LONG:  # nothing that a first call does besides counts beside that
        return 2 * side**3 / first / 1e9
    return 2 * side**3 * _MATMUL_REPEATS / timed(lambda: multiply(_MATMUL_REPEATS)) / 1e9


def colour(net: FrameNet, frames: Sequence[Frame]) -> tuple[float, tuple[Plane, ...]]:
    """Seconds for the colour of all frames in torch on the network's device, both ways, and the planes of one enlarged
    frame."""
    import torch

    def both(frame: Frame) -> Tensor:
        net.to_rgb(*_stored(net, frame))
        planes: tuple[Tensor, ...] = net.to_planes(large)
        return planes[0]

    with torch.inference_mode():
        large: Tensor = net.enlarge(net.to_rgb(*_stored(net, frames[0])))
        both(frames[0])
        seconds = timed(lambda: _wait_for(deque(map(both, frames), maxlen=1)[0]))
        return seconds, tuple(plane[0].cpu() for plane in net.to_planes(large))


def _wait_for(result: Tensor) -> None:
    """Until the device has computed it: reading a number of it does."""
    result.flatten()[0].item()


def _stored(net: nn.Module, frame: Frame) -> list[Tensor]:
    """The planes of the frame where the network is."""
    from torch.utils.dlpack import from_dlpack

    device = next(net.parameters()).device
    return [from_dlpack(plane).unsqueeze(0).to(device) for plane in frame.planes]


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
