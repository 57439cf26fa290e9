"""The OpenVINO engine: the same planes-to-planes module as torch runs, compiled for the CPU and for one frame size.

What was compiled is kept in the user's cache folder. A run that finds it there neither converts nor loads torch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcan_video import cache
from rcan_video.engine.base import Ticket, check_frames, not_finite
from rcan_video.engine.openvino_compile import DEVICE, compile_task, settings
from rcan_video.engine.openvino_silent import openvino
from rcan_video.engine.task import Task
from rcan_video.errors import DeviceError, OutOfMemory
from rcan_video.frames import Frame, FrameBatch, PlaneLayout

_OUT_OF_MEMORY_TEXTS = ("bad_alloc", "out of memory", "failed to allocate", "could not allocate")


class OpenVinoEngine:
    """Runs ``task`` on the CPU; an ``Engine``.

    ``threads`` None leaves their number to OpenVINO: all the cores that this process may use, hyper-threads not
    counted. A batch is so many frames one after the other: on a CPU there is nothing to gain from more at once.

    Raises DeviceError where OpenVINO cannot compile the network, OutOfMemory, and WeightsError as ``Task.module``.
    """

    def __init__(self, task: Task, *, batch: int | None = None, threads: int | None = None) -> None:
        self._task = task
        self._batch = batch or 1
        self._submitted = 0
        try:
            self._compiled = _compiled(task, threads)
            # One frame is computed while the next waits: the cores never do.
            self._slots = [_Slot(self._compiled) for _ in range(self._batch + 1)]
        except (RuntimeError, MemoryError) as error:
            raise self._translated(error, "cannot compile") from error

    @property
    def batch(self) -> int:
        return self._batch

    def describe(self) -> str:
        threads = self._compiled.get_property("INFERENCE_NUM_THREADS")
        return f"OpenVINO on cpu ({threads} threads), float32, batch {self._batch}"

    def submit(self, batch: FrameBatch) -> Ticket:
        source, _ = self._task.source
        check_frames(batch, self._batch, source, self._task.size)
        target, _ = self._task.target
        samples = np.empty((len(batch), target.samples(*self._task.target_size)), _dtype(target))
        flags = np.zeros((len(batch), 1), np.bool_)
        frames, runs = [], []
        for frame, row, flag in zip(batch.frames, samples, flags, strict=True):
            slot = self._slots[self._submitted % len(self._slots)]
            self._submitted += 1
            planes = _planes(row, target, self._task.target_size)
            try:
                runs.append((slot, slot.start([np.asarray(plane) for plane in frame.planes], [*planes, flag])))
            except (RuntimeError, MemoryError) as error:
                raise self._translated(error, "failed on") from error
            frames.append(Frame(tuple(planes), frame.pts, frame.duration, frame.index))
        return Ticket(FrameBatch(tuple(frames)), _Runs(tuple(runs)), _AnyOf(flags))

    def result(self, ticket: Ticket) -> FrameBatch:
        try:
            ticket.done.synchronize()
        except (RuntimeError, MemoryError) as error:
            raise self._translated(error, "failed on") from error
        if ticket.not_finite.item():
            raise not_finite(ticket.output, "cpu")
        return ticket.output

    def close(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots.clear()
        self._compiled = None

    def _translated(self, error: RuntimeError | MemoryError, what: str) -> DeviceError:
        width, height = self._task.size
        text = str(error)
        if isinstance(error, MemoryError) or any(hint in text for hint in _OUT_OF_MEMORY_TEXTS):
            return OutOfMemory(
                f"there is not enough memory for one frame of {width}x{height} at scale {self._task.model.scale} in "
                f"OpenVINO: use a smaller model or scale"
            )
        # OpenVINO's own sentence comes last, behind the places in its sources that it went through.
        reasons = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
        return DeviceError(
            f"OpenVINO {openvino.__version__.partition('-')[0]} {what} {self._task.model.name} at {width}x{height} "
            f"({reasons[-1].rstrip('.')}): use --engine torch"
        )


class _Slot:
    """One request, used again and again: memory for a frame's planes, and the network's run on them.

    The output goes into the memory that ``start`` is given, without a copy. Two threads may call.
    """

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._inputs = [np.zeros(tuple(port.shape), port.element_type.to_dtype()) for port in compiled.inputs]
        for number, planes in enumerate(self._inputs):
            self._request.set_input_tensor(number, openvino.Tensor(planes, shared_memory=True))
        self._lock = threading.Lock()
        self._number = 0
        self._running = False
        self._outputs: Sequence[NDArray[Any]] = ()
        self._failure: Exception | None = None

    def start(self, planes: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]]) -> int:
        """Run on these planes (H, W), as soon as the run before is done; gives the run's number."""
        with self._lock:
            self._finish()
            for stored, plane in zip(self._inputs, planes, strict=True):
                stored[0] = plane  # also packs: a decoder's rows are padded, and OpenVINO takes dense memory only
            for number, output in enumerate(outputs):
                self._request.set_output_tensor(number, openvino.Tensor(_batched(output), shared_memory=True))
            self._outputs = outputs  # OpenVINO does not keep them alive
            self._request.start_async()
            self._running = True
            self._number += 1
            return self._number

    def wait(self, number: int) -> None:
        """Until that run is done. Raises what went wrong with it, or with a run since."""
        with self._lock:
            if number == self._number:
                self._finish()
            elif self._failure is not None:
                raise self._failure

    def close(self) -> None:
        """Wait until nothing runs, well or not, and free the request: tickets that still hold the slot do not."""
        with self._lock:
            with contextlib.suppress(RuntimeError, MemoryError):
                self._finish()
            self._request = None

    def _finish(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._running:
            try:
                self._request.wait()
            except Exception as error:
                self._failure = error
                raise
            self._running = False


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of one batch, to be waited for."""

    runs: tuple[tuple[_Slot, int], ...]

    def synchronize(self) -> None:
        for slot, number in self.runs:
            slot.wait(number)


@dataclass(frozen=True, slots=True, eq=False)
class _AnyOf:
    """Whether any frame of a batch was flagged."""

    flags: NDArray[np.bool_]

    def item(self) -> bool:
        return bool(self.flags.any())


def _compiled(task: Task, threads: int | None) -> Any:
    """The compiled network for ``task``, out of the cache or anew."""
    core = openvino.Core()
    machine = (core.get_property(DEVICE, "FULL_DEVICE_NAME"), core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    key = cache.key_of("openvino", openvino.__version__, machine, task.identity())
    known = cache.load(key)
    if known is not None:
        try:
            return core.import_model(known, DEVICE, settings(threads))
        except RuntimeError:
            pass  # it refuses what another build of it has written: compiled anew, and replaced
    made = compile_task(task, threads)
    cache.store(key, made)
    return core.import_model(made, DEVICE, settings(threads))


def _dtype(layout: PlaneLayout) -> type[np.uint8 | np.uint16]:
    return np.uint8 if layout.sample_bytes == 1 else np.uint16


def _planes(samples: NDArray[Any], layout: PlaneLayout, size: tuple[int, int]) -> list[NDArray[Any]]:
    """The planes (H, W) of a packed frame (samples,), as views."""
    shapes = layout.shapes(*size)
    edges = np.cumsum([height * width for height, width in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(samples, edges), shapes, strict=True)]


def _batched(output: NDArray[Any]) -> NDArray[Any]:
    """A plane (H, W) as the network's (1, H, W); the flag, of one element, as it is."""
    return output[np.newaxis] if output.ndim == 2 else output
