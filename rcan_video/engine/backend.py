"""Devices: which one is meant, and the few calls with which the scheduler drives it.

All stream, event and pinning calls of the package are in this module. ``torch.accelerator`` and ``torch.Event`` are
not used, because they raise on a machine without an accelerator, and the scheduler has to be the same code there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from rcan_video.engine.memory import keep_freed_memory, return_freed_memory
from rcan_video.errors import DeviceError

ACCELERATORS = ("cuda", "xpu", "mps")  # in the order in which "auto" asks for them


class Event(Protocol):
    """A mark in a stream. One that was never recorded holds nobody up."""

    def record(self, stream: Any) -> object: ...

    def synchronize(self) -> object:
        """The host waits until the work before the latest ``record`` is done."""


class Stream(Protocol):
    """A queue of work on the device, done in order."""

    def wait_event(self, event: Any) -> object:
        """What is queued from now on starts after the latest ``record`` of the event. The host does not wait."""

    def synchronize(self) -> object:
        """The host waits until the stream is empty."""


class Backend(Protocol):
    """One device as the scheduler sees it.

    ``unified`` says that the device works in the host's memory and finishes every call before it returns: nothing is
    uploaded or downloaded then, and no wait ever blocks.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def unified(self) -> bool: ...

    def name(self) -> str:
        """The device for people."""

    def free_bytes(self) -> int | None:
        """Free memory of the device, or None where that is no reason to choose another batch."""

    def stream(self) -> Stream: ...

    def event(self) -> Event: ...

    def current(self) -> AbstractContextManager[object]:
        """Makes the device the current one of the calling thread: that setting is thread-local."""

    def on(self, stream: Any) -> AbstractContextManager[object]:
        """What is called inside is queued on this stream."""

    def join(self, stream: Any) -> None:
        """The stream waits for all that the calling thread's current stream holds."""

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Uninitialised host memory which the device can copy from and to while the host goes on."""

    def empty_cache(self) -> None:
        """Gives unused memory back to the device."""


class DeviceModule:
    """CUDA (or ROCm, which has the same name in torch) and XPU, by their device module.

    Sets what is process-wide in cuDNN, once: algorithms are chosen by trial, since every batch has the same shape,
    and float32 means IEEE float32. Only the newer generation of torch's precision settings is used (2.9 and later);
    reading the older one (``allow_tf32``) raises after that.
    """

    unified = False

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._module: Any = torch.get_device_module(device)
        # Blocking: a waiting host thread sleeps instead of spinning on a core that the encoder needs.
        self._event_options = {"blocking": True} if device.type == "cuda" else {}
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.fp32_precision = "ieee"

    def name(self) -> str:
        return str(self._module.get_device_name(self.device))

    def free_bytes(self) -> int | None:
        return int(self._module.mem_get_info(self.device)[0])

    def stream(self) -> Stream:
        stream: Stream = self._module.Stream(device=self.device)
        return stream

    def event(self) -> Event:
        event: Event = self._module.Event(**self._event_options)
        return event

    def current(self) -> AbstractContextManager[object]:
        context: AbstractContextManager[object] = self._module.device(self.device)
        return context

    def on(self, stream: Any) -> AbstractContextManager[object]:
        context: AbstractContextManager[object] = self._module.stream(stream)
        return context

    def join(self, stream: Any) -> None:
        stream.wait_stream(self._module.current_stream(self.device))

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def empty_cache(self) -> None:
        self._module.empty_cache()


class _NullStream:
    """The only queue of a device that has one, or none at all: order is the order of the calls."""

    def __init__(self, synchronize: Callable[[], object]) -> None:
        self.synchronize = synchronize

    def wait_event(self, event: Any) -> None: ...


class _NullEvent:
    def __init__(self, synchronize: Callable[[], object]) -> None:
        self.synchronize = synchronize

    def record(self, stream: Any) -> None: ...


class Plain:
    """Devices without streams of their own: the CPU, which works at once, and MPS, which has one queue.

    torch's MPS events belong to that one queue, so waiting for it is the same and needs less.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.unified = device.type == "cpu"
        self._synchronize: Callable[[], object] = torch.mps.synchronize if device.type == "mps" else lambda: None
        if self.unified:
            keep_freed_memory()

    def name(self) -> str:
        return "Apple GPU" if self.device.type == "mps" else f"{torch.get_num_threads()} threads"

    def free_bytes(self) -> int | None:
        if self.device.type == "mps":
            return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
        return None

    def stream(self) -> Stream:
        return _NullStream(self._synchronize)

    def event(self) -> Event:
        return _NullEvent(self._synchronize)

    def current(self) -> AbstractContextManager[object]:
        return nullcontext()

    def on(self, stream: Any) -> AbstractContextManager[object]:
        return nullcontext()

    def join(self, stream: Any) -> None: ...

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    def empty_cache(self) -> None:
        if self.unified:
            return_freed_memory()
        else:
            torch.mps.empty_cache()


def open_backend(device: torch.device) -> Backend:
    """The backend of a device that ``resolve_device`` returned."""
    return DeviceModule(device) if device.type in ("cuda", "xpu") else Plain(device)


def resolve_device(name: str) -> torch.device:
    """The device that a user means: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``xpu:0``, ``mps``.

    ``auto`` is the first accelerator that is there and that this build of torch has code for, else the CPU. CUDA and
    XPU devices come back with an explicit index. Raises DeviceError for anything that cannot be used.
    """
    if name == "auto":
        for kind in ACCELERATORS:
            if _count(kind) and _lacking_code(kind, 0) is None:
                return _device(kind, 0)
        return torch.device("cpu")
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", *ACCELERATORS) or (colon and not (index.isascii() and index.isdigit())):
        raise DeviceError(f"no device is called {name!r}: use auto, cpu, cuda, cuda:1, xpu or mps")
    number, count = int(index or 0), _count(kind)
    if count == 0:
        raise DeviceError(
            f"there is no {kind} device here for torch {torch.__version__}: use --device cpu, or install the driver "
            f"and a build of torch with {kind}"
        )
    if number >= count:
        last = f"{kind}:{count - 1}" if count > 1 else kind
        raise DeviceError(f"there is no device {name} here: the last one is {last}")
    lacking = _lacking_code(kind, number)
    if lacking is not None:
        raise DeviceError(lacking)
    return _device(kind, number)


def has_tensor_cores(device: torch.device) -> bool:
    """Whether half precision is the quicker one for certain: NVIDIA's GPUs from Volta on (compute capability 7.0)."""
    if device.type != "cuda" or torch.version.cuda is None:  # ROCm: nothing is known
        return False
    return torch.cuda.get_device_capability(device) >= (7, 0)


def _device(kind: str, index: int) -> torch.device:
    return torch.device(kind, index) if kind in ("cuda", "xpu") else torch.device(kind)


def accelerators() -> list[str]:
    """The names of all devices of the kind that "auto" takes; none where that is the CPU. Raises DeviceError as
    ``resolve_device`` where one of them cannot be used."""
    first = resolve_device("auto")
    if first.type == "cpu":
        return []
    names = [f"{first.type}:{index}" for index in range(_count(first.type))]
    return [str(resolve_device(name)) for name in names]


def _count(kind: str) -> int:
    """How many devices of a kind torch can see."""
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return int(torch.get_device_module(kind).device_count())


def _lacking_code(kind: str, index: int) -> str | None:
    """Why this build of torch cannot run on the device, or None where it can (or where nothing is known)."""
    if kind != "cuda" or torch.version.cuda is None:  # ROCm says cuda too, but names its architectures otherwise
        return None
    capability = torch.cuda.get_device_capability(index)
    built_for = torch.cuda.get_arch_list()
    if not built_for or runs_on(capability, built_for):
        return None
    return (
        f"torch {torch.__version__} has no code for cuda:{index} ({torch.cuda.get_device_name(index)}, compute "
        f"capability {capability[0]}.{capability[1]}; built for {' '.join(built_for)}): install a build of torch "
        f"that has, or use --device cpu"
    )


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether code for these architectures runs on a GPU of this compute capability.

    Machine code (``sm_86``) runs within its major version from its own minor version on; PTX (``compute_90``) is
    compiled by the driver for anything newer; the suffixes a and f (``sm_90a``) tie code to the one capability or
    its family (CUDA C++ Programming Guide, "Compute capability compatibility").
    """
    for arch in built_for:
        kind, _, number = arch.partition("_")
        digits = number.rstrip("af")
        if not digits.isdigit():
            continue
        code = (int(digits[:-1]), int(digits[-1]))
        if number.endswith("a"):
            runs = capability == code
        elif kind == "compute" and digits == number:
            runs = capability >= code
        else:
            runs = capability[0] == code[0] and capability >= code
        if runs:
            return True
    return False
