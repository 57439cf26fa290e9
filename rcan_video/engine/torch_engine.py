"""The torch engine: upload, network and download on three streams of one device, kept in order by events alone.

What each wait is for, and how that is proven without a GPU, is told in ``docs/cuda.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from rcan_video.engine.backend import Backend, Event, open_backend
from rcan_video.engine.base import Ticket, check_frames, not_finite
from rcan_video.engine.calibration import calibrate
from rcan_video.engine.cores import available_cores
from rcan_video.engine.memory import frame_bytes, is_oom
from rcan_video.errors import DeviceError, OutOfMemory
from rcan_video.frames import Frame, FrameBatch, PlaneLayout

DEPTH = 3  # slots in the ring: one being filled, one in the network, one on its way back


@dataclass(frozen=True, slots=True, eq=False)
class _Output:
    """What leaves the network: ``samples`` (rows, samples of a frame), and ``not_finite``, a bool of shape (1,)."""

    samples: Tensor
    not_finite: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """One batch's place on the device, used again every ``DEPTH`` batches.

    Allocated once and outliving every stream that touches it, so nothing is ever freed while a stream may still
    read it, and no ``record_stream`` is needed. Frames are packed, one a row, plane after plane. Where memory is
    unified, ``dev_in`` is ``host_in`` and there is no ``out``: the network writes into the ticket's memory.
    """

    host_in: Tensor
    dev_in: Tensor
    out: _Output | None
    uploaded: Event
    computed: Event
    downloaded: Event


class TorchEngine:
    """Runs a module of planes to planes on any device of torch; an ``Engine``.

    ``net`` takes the planes of ``source``, each (N, H, W) in uint8 or uint16, and returns those of ``target``,
    ``scale`` times as large or ``reduced``. One tensor more, a bool of one element, may say whether anything was NaN
    or infinite before rounding hid it. The engine owns ``net`` from then on. Sizes are (width, height) in pixels. With
    ``batch`` None it is measured (``calibrate``): on ``eager``, where ``net`` is that one compiled, so that no other
    shape is compiled for it. ``arithmetic`` says for people what the network computes in. ``threads`` bounds torch's
    on the CPU, None to the cores that this process may use. ``notice`` hears when fewer frames than a batch go through
    the network. ``backend`` is for tests.

    Raises OutOfMemory where the network and the ring do not fit the device.
    """

    def __init__(
        self,
        net: nn.Module,
        source: PlaneLayout,
        source_size: tuple[int, int],
        target: PlaneLayout,
        scale: int,
        device: torch.device,
        batch: int | None = None,
        threads: int | None = None,
        notice: Callable[[str], None] = lambda _: None,
        arithmetic: str = "float32",
        backend: Backend | None = None,
        reduced: tuple[int, int] | None = None,
        eager: nn.Module | None = None,
    ) -> None:
        if device.type == "cpu":
            torch.set_num_threads(threads or min(torch.get_num_threads(), available_cores()))
        self._backend = backend or open_backend(device)
        self._source, self._source_size = source, source_size
        self._target, self._scale = target, scale
        self._target_size = reduced or (source_size[0] * scale, source_size[1] * scale)
        self._batch = batch or 1
        self._notice = notice
        self._arithmetic = arithmetic
        self._submitted = 0
        self._lost: str | None = None
        self._guard_lock = threading.Lock()
        with self._backend.current():
            self._upload, self._compute, self._download = (self._backend.stream() for _ in range(3))
            out_of_memory = False
            try:
                self._net: nn.Module = net.eval().to(device=self._backend.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                if batch is None:
                    self._batch = self._calibrated(eager or self._net)
                self._slots = [self._slot() for _ in range(DEPTH)]
            except (RuntimeError, MemoryError) as error:
                if not is_oom(error):
                    raise
                out_of_memory = True
            if out_of_memory:
                raise OutOfMemory(self._too_large(self._batch))
            for stream in (self._upload, self._compute, self._download):
                self._backend.join(stream)  # weights and slots were made on the current stream
        self._limit = self._batch  # frames per call of the network; goes down when memory runs out and stays down

    @property
    def batch(self) -> int:
        return self._batch

    def describe(self) -> str:
        return f"torch on {self._backend.device} ({self._backend.name()}), {self._arithmetic}, batch {self._batch}"

    def submit(self, batch: FrameBatch) -> Ticket:
        check_frames(batch, self._batch, self._source, self._source_size)
        backend, n = self._backend, len(batch)
        slot = self._slots[self._submitted % len(self._slots)]
        self._submitted += 1
        with self._guard(), backend.current():
            host = _Output(
                backend.pinned((n, self._target.samples(*self._target_size)), _dtype(self._target)),
                backend.pinned((1,), torch.bool),
            )
            slot.uploaded.synchronize()  # the previous upload has read host_in
            rows = self._fill(slot.host_in, batch)
            with backend.on(self._upload):
                self._upload.wait_event(slot.computed)  # the previous network has read dev_in
                if slot.dev_in is not slot.host_in:
                    slot.dev_in.copy_(slot.host_in, non_blocking=True)
                slot.uploaded.record(self._upload)
            out = slot.out or host
            with backend.on(self._compute):
                self._compute.wait_event(slot.uploaded)  # the input is there
                self._compute.wait_event(slot.downloaded)  # the previous download has read out
                self._run(slot.dev_in[:rows], out)
                slot.computed.record(self._compute)
            done = backend.event()
            with backend.on(self._download):
                self._download.wait_event(slot.computed)  # the output is there
                if out is not host:
                    host.samples.copy_(out.samples[:n], non_blocking=True)
                    host.not_finite.copy_(out.not_finite, non_blocking=True)
                slot.downloaded.record(self._download)
                done.record(self._download)
        return Ticket(self._carry_over(batch, host.samples), done, host.not_finite)

    def result(self, ticket: Ticket) -> FrameBatch:
        with self._guard():
            ticket.done.synchronize()  # errors of the device's queues come up here
        if ticket.not_finite.item():
            raise not_finite(ticket.output, str(self._backend.device))
        return ticket.output

    def close(self) -> None:
        if self._lost is not None:
            return  # and keep the slots: freeing pinned memory asks the device, too
        with self._guard():
            self._drain()
            self._slots.clear()
            self._net = nn.Identity()  # whoever still holds the engine holds no memory of the device
            self._backend.empty_cache()

    def _calibrated(self, net: nn.Module) -> int:
        """Frames per batch for ``net``, which lies on the device."""

        def prepare(frames: int) -> Callable[[], None]:
            shape = (frames, self._source.samples(*self._source_size))
            black = torch.zeros(shape, dtype=torch.uint8, device=self._backend.device).to(_dtype(self._source))
            return partial(self._forward, net, black, self._room(frames))

        body = min((values.element_size() for values in net.parameters()), default=4)  # nothing else is below float32
        with self._guard():
            return calibrate(prepare, self._backend, frame_bytes(*self._source_size, self._scale, body))

    def _room(self, frames: int) -> _Output:
        """For what leaves the network, on the device."""
        device, shape = self._backend.device, (frames, self._target.samples(*self._target_size))
        samples = torch.empty(shape, dtype=_dtype(self._target), device=device)
        return _Output(samples, torch.empty(1, dtype=torch.bool, device=device))

    def _slot(self) -> _Slot:
        backend, batch = self._backend, self._batch
        host_in = backend.pinned((batch, self._source.samples(*self._source_size)), _dtype(self._source))
        dev_in, out = host_in, None
        if not backend.unified:
            dev_in = torch.empty_like(host_in, device=backend.device)
            out = self._room(batch)
        return _Slot(host_in, dev_in, out, backend.event(), backend.event(), backend.event())

    def _fill(self, host_in: Tensor, batch: FrameBatch) -> int:
        """Packs the frames and returns how many rows the network is to run.

        That is all rows on a device with memory of its own, for the sake of one shape for the whole run: the last
        frame is repeated, and the surplus is not downloaded. The CPU runs what there is.
        """
        planes = _planes(host_in, self._source, self._source_size)
        for row, frame in enumerate(batch.frames):
            for stored, plane in zip(planes, frame.planes, strict=True):
                stored[row].copy_(from_dlpack(plane))
        if self._backend.unified:
            return len(batch)
        host_in[len(batch) :].copy_(host_in[len(batch) - 1])
        return len(host_in)

    def _run(self, dev_in: Tensor, out: _Output) -> None:
        """Runs the network on all rows, in smaller and smaller parts where memory runs out: same rows, none dropped.

        Everything allocated in here is born and dies on the compute stream.
        """
        out.not_finite.zero_()
        rows, done = len(dev_in), 0
        while done < rows:
            size = min(self._limit, rows)
            first = min(done, rows - size)  # the last part overlaps the one before, so that the shape stays the same
            part = slice(first, first + size)
            out_of_memory = False
            try:
                self._forward(self._net, dev_in[part], _Output(out.samples[part], out.not_finite))
            except (RuntimeError, MemoryError) as error:
                if not is_oom(error):
                    raise
                out_of_memory = True
            if out_of_memory:  # only here: as long as the error is handled, its traceback holds the tensors that failed
                self._backend.empty_cache()
                if size == 1:
                    raise OutOfMemory(self._too_large(1))
                self._limit = size // 2
                self._notice(f"{self._backend.device} ran out of memory: the batch goes from {size} to {self._limit}")
            else:
                done = part.stop

    @torch.inference_mode()
    def _forward(self, net: nn.Module, dev_in: Tensor, out: _Output) -> None:
        planes = _planes(out.samples, self._target, self._target_size)
        computed: Sequence[Tensor] = net(*_planes(dev_in, self._source, self._source_size))
        for stored, plane in zip(planes, computed[: len(planes)], strict=True):
            if stored.shape != plane.shape:
                raise ValueError(f"the network returned {tuple(plane.shape)} for a plane of {tuple(stored.shape)}")
            stored.copy_(plane)
        for flag in computed[len(planes) :]:
            out.not_finite.logical_or_(flag)

    def _carry_over(self, batch: FrameBatch, samples: Tensor) -> FrameBatch:
        """The frames that the ticket's memory will hold."""
        planes = _planes(samples, self._target, self._target_size)
        return FrameBatch(
            tuple(
                Frame(tuple(plane[row] for plane in planes), frame.pts, frame.duration, frame.index)
                for row, frame in enumerate(batch.frames)
            )
        )

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """No call reaches a lost device; any error inside leaves the streams empty, or the device marked as lost.

        After an error the events of a slot may be recorded in part, so nothing may be in flight any more. Waiting for
        that is a probe as well: the errors that cannot be recovered from make every later call fail, this one first.
        """
        if self._lost is not None:
            raise DeviceError(self._lost)
        try:
            yield
        except BaseException as error:
            with self._guard_lock:  # the threads of submit and result may fail together
                if self._lost is None:
                    try:
                        self._drain()
                    except RuntimeError as dead:
                        self._lost = self._gone(dead)
            if self._lost is not None and isinstance(error, RuntimeError):
                raise DeviceError(self._lost) from error
            if is_oom(error):  # of the host's memory, or only seen when the device's queues were waited for
                raise OutOfMemory(self._too_large(self._batch)) from None
            raise

    def _drain(self) -> None:
        for stream in (self._upload, self._compute, self._download):
            stream.synchronize()

    def _gone(self, error: RuntimeError) -> str:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        return (
            f"{self._backend.device} was lost while it worked ({reason}): run the command again, and look at the "
            f"driver or use --device cpu if that repeats"
        )

    def _too_large(self, frames: int) -> str:
        width, height = self._source_size
        what = "one frame" if frames == 1 else f"a batch of {frames} frames"
        advice = "a smaller --batch" if frames > 1 else "a smaller model or scale"
        elsewhere = "" if self._backend.device.type == "cpu" else ", or --device cpu"
        return (
            f"{self._backend.device} has not enough memory for {what} of {width}x{height} at scale {self._scale}: "
            f"use {advice}{elsewhere}"
        )


def _dtype(layout: PlaneLayout) -> torch.dtype:
    return torch.uint8 if layout.sample_bytes == 1 else torch.uint16


def _planes(samples: Tensor, layout: PlaneLayout, size: tuple[int, int]) -> list[Tensor]:
    """The planes (N, H, W) of packed frames (N, samples), as views."""
    shapes = layout.shapes(*size)
    parts = torch.split(samples, [height * width for height, width in shapes], dim=1)
    return [part.view(len(part), *shape) for part, shape in zip(parts, shapes, strict=True)]
