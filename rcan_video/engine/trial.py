"""Whatever computes otherwise than float32, one operation after the other, is held against that before it is trusted.

The first batch of such an engine is not the video's but a picture made for the trial: videos begin in black, which
tells nothing, and a verdict that hangs on network, frame size and device (and, for its last bits, on the batch measured
there) is the same when a job goes on later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.dlpack import from_dlpack

from rcan_video.engine.base import Engine, Unfaithful
from rcan_video.errors import NotFinite
from rcan_video.frames import Frame, FrameBatch, PlaneLayout
from rcan_video.metrics import psnr

LEAST = 55.0
"""PSNR in dB that every plane has to reach: about one sample in five may be off by a code of 8 bits. Half precision
reaches 58.8 and more with every network that was tried, bfloat16 55.3 and more with the bundled ones and 48 to 54 with
others (``benchmarks/README.md``)."""

MOST = 4
"""Codes of 8 bits by which a single sample may be off: what a mean over the plane does not show. Half precision: 2."""


def tried(
    engine: Callable[[], Engine],
    plain: Callable[[], Engine],
    layouts: tuple[PlaneLayout, PlaneLayout],
    size: tuple[int, int],
) -> Engine:
    """``engine``, opened and warm, whose enlargement of a picture is that of the ``plain`` one, which is closed again.

    ``layouts`` are of what goes in and comes out, ``size`` is (width, height) of the former. One frame is a batch's
    shape, too (``TorchEngine``). Raises Unfaithful where it is another picture, and whatever opening raises.
    """
    source, target = layouts
    batch = FrameBatch((picture(source, size),))
    reference = plain()
    try:
        expected = _enlarged(reference, batch)
    except NotFinite as error:
        raise Unfaithful("cannot be told right from wrong, because float32 gives NaN or infinity, too") from error
    finally:
        reference.close()
    with _unfaithful():
        quick = engine()
        try:
            check(_enlarged(quick, batch), expected, target.depth)
        except BaseException:
            quick.close()
            raise
    return quick


def check(planes: tuple[Tensor, ...], expected: tuple[Tensor, ...], depth: int) -> None:
    """Raises Unfaithful where a plane (codes of ``depth`` bits) differs by more than rounding lets it."""
    peak = 2**depth - 1
    most = max(int((one.int() - other.int()).abs().max()) for one, other in zip(planes, expected, strict=True))
    least = min(psnr(one.numpy(), other.numpy(), peak) for one, other in zip(planes, expected, strict=True))
    if most > MOST << (depth - 8) or least < LEAST:
        raise Unfaithful(f"differs from float32 by up to {most} of {peak} and {least:.1f} dB")


def picture(layout: PlaneLayout, size: tuple[int, int]) -> Frame:
    """Edges, flats and noise at all scales and over the whole range of codes: squares of random value from one sample
    to the whole plane, all as strong, as the spectrum of photographs is. Always the same."""
    generator = torch.Generator().manual_seed(1)
    dtype = torch.uint8 if layout.depth == 8 else torch.uint16
    planes = []
    for height, width in layout.shapes(*size):
        total = torch.zeros(1, 1, height, width)
        for octave in range(max(height, width).bit_length()):
            squares = torch.rand(1, 1, -(-height >> octave), -(-width >> octave), generator=generator)
            total += F.interpolate(squares, (height, width))
        low, high = torch.aminmax(total)
        codes = (total - low) * ((2**layout.depth - 1) / max(high - low, torch.tensor(1e-6)))
        planes.append(codes[0, 0].round().to(dtype))
    return Frame(tuple(planes), 0, 1, 0)


@contextmanager
def _unfaithful() -> Iterator[None]:
    """What an engine that cannot compute in its way raises, as Unfaithful."""
    try:
        yield
    except NotFinite as error:
        raise Unfaithful("gives NaN or infinity") from error
    except RuntimeError as error:  # of torch: it has no such operation, or no memory of a kind of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise Unfaithful(f"does not work here ({reason})") from error


def _enlarged(engine: Engine, batch: FrameBatch) -> tuple[Tensor, ...]:
    (frame,) = engine.result(engine.submit(batch)).frames
    return tuple(from_dlpack(plane) for plane in frame.planes)
