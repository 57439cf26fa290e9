"""How much memory a frame takes, what running out of it looks like, and reuse on the host."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

import torch

# The network in flight: some six feature maps of 64 channels (the input of a block, of its group and of the body, two
# results of convolutions, one product), and the enlarged picture three times in float32 (RGB, YUV, rounding).
# On the high side for every checkpoint with the usual width.
_FEATURES = 64
_MAPS = 6
_FLOAT32 = 4
_PICTURE_BYTES = 3 * 3 * _FLOAT32

# Parameters of mallopt (malloc.h of glibc).
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4

_CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, for allocations made outside torch's allocator
_OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "DefaultCPUAllocator: can't allocate",
    "DefaultCPUAllocator: not enough memory",
)


def frame_bytes(width: int, height: int, scale: int, body: int = _FLOAT32) -> int:
    """About how much memory one frame of this size (of the source, in pixels) takes on its way, in bytes. ``body`` is
    what one value of the residual groups takes: where that is not 4, their input is there in float32 as well."""
    value = _MAPS * body + (_FLOAT32 if body != _FLOAT32 else 0)
    return width * height * (_FEATURES * value + scale * scale * _PICTURE_BYTES)


def is_oom(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or on the host.

    torch has an error of its own for its CUDA and XPU allocators only. What is allocated outside them raises
    AcceleratorError with a code, and MPS and the CPU a plain RuntimeError that says so.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError):
        return False
    if getattr(error, "error_code", None) == _CUDA_OUT_OF_MEMORY:
        return True
    return any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)


def keep_freed_memory() -> None:
    """Make glibc keep what torch frees and hand it out again. Process-wide; nothing happens with other C libraries.

    By default every feature map goes back to the kernel when it is freed, and the next one is paid for with a fault
    for each of its pages: more than the arithmetic costs. ``fast`` x2 on two cores: 81 to 51 ms a frame at 480x270,
    1.00 to 0.39 s at 1280x720 (``benchmarks/README.md``). The process keeps the size that it once needed.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl has no mallopt
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def return_freed_memory() -> None:
    """Give the kernel back what is free now: the counterpart, for when memory has run out."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
