"""Devices, batches and the torch engine on the plain CPU backend; on CUDA where there is one."""

from __future__ import annotations

import threading
from queue import Queue

import pytest
import torch
from torch import Tensor, nn

from rcan_video.engine import backend as backend_module
from rcan_video.engine.backend import DeviceModule, Plain, open_backend, resolve_device, runs_on
from rcan_video.engine.base import Engine, Ticket
from rcan_video.engine.memory import is_oom
from rcan_video.engine.torch_engine import DEPTH, TorchEngine
from rcan_video.errors import DeviceError, OutOfMemory
from rcan_video.frames import Frame, FrameBatch, PlaneLayout

CPU = torch.device("cpu")
YUV = PlaneLayout("yuv", 8, 1, 1)
YUV10 = PlaneLayout("yuv", 10, 1, 1)


class Enlarger(nn.Module):
    """A convolution and a pixel shuffle on every plane: planes in, planes out, real arithmetic."""

    def __init__(self, layout: PlaneLayout, size: tuple[int, int], scale: int = 2) -> None:
        super().__init__()
        self.peak = 2.0**layout.depth - 1
        self.shapes = layout.shapes(size[0] * scale, size[1] * scale)
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, scale * scale, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        out = []
        for plane, (height, width) in zip(planes, self.shapes, strict=True):
            value = self.body(plane.to(torch.float32)[:, None] / self.peak)[:, 0, :height, :width]
            out.append((value * self.peak).clamp(0, self.peak).add(0.5).floor().to(plane.dtype))
        return tuple(out)


def make_frames(layout: PlaneLayout, size: tuple[int, int], count: int) -> list[Frame]:
    """Noise; planes are strided views, as a decoder's are."""
    generator = torch.Generator().manual_seed(7)
    dtype = torch.uint8 if layout.depth == 8 else torch.uint16
    return [
        Frame(
            tuple(
                torch.randint(0, 2**layout.depth, (h, w + 3), generator=generator, dtype=torch.int32).to(dtype)[:, :w]
                for h, w in layout.shapes(*size)
            ),
            pts=1000 + 7 * index,
            duration=7,
            index=index,
        )
        for index in range(count)
    ]


def batches(frames: list[Frame], size: int) -> list[FrameBatch]:
    return [FrameBatch(tuple(frames[i : i + size])) for i in range(0, len(frames), size)]


def run(engine: Engine, work: list[FrameBatch]) -> list[FrameBatch]:
    """All batches, ``submit`` and ``result`` in threads of their own and a bounded queue between them."""
    tickets: Queue[Ticket | None] = Queue(maxsize=DEPTH + 2)
    results: list[FrameBatch] = []

    def collect() -> None:
        while (ticket := tickets.get()) is not None:
            results.append(engine.result(ticket))

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for batch in work:
            tickets.put(engine.submit(batch))
    finally:
        tickets.put(None)
        collector.join()
    return results


@pytest.mark.parametrize("layout", [YUV, YUV10, PlaneLayout("gray", 12), PlaneLayout("rgb")])
@pytest.mark.parametrize("batch", [1, 3])
def test_cpu_gives_what_the_network_gives(layout: PlaneLayout, batch: int) -> None:
    """Bit for bit, partial batch included, with times and indices carried over."""
    size = (17, 11)
    torch.manual_seed(0)
    net = Enlarger(layout, size)
    engine = TorchEngine(net, layout, size, layout, 2, CPU, batch=batch)
    work = batches(make_frames(layout, size, 10), batch)
    results = run(engine, work)
    engine.close()
    assert [len(r) for r in results] == [len(w) for w in work]
    for sent, got in zip(work, results, strict=True):
        with torch.inference_mode():
            expected = net(*(torch.stack(planes) for planes in zip(*(f.planes for f in sent.frames), strict=True)))
        for row, (before, after) in enumerate(zip(sent.frames, got.frames, strict=True)):
            assert (after.pts, after.duration, after.index) == (before.pts, before.duration, before.index)
            for plane, reference in zip(after.planes, expected, strict=True):
                assert plane.dtype == reference.dtype
                assert torch.equal(plane, reference[row])


class Spy(nn.Module):
    """Remembers where its planes were."""

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        self.address = planes[0].data_ptr()
        return planes


def test_cpu_copies_once_on_either_side() -> None:
    """The network reads the memory that the frames were packed into, and there is no other memory for its output
    than the ticket's."""
    spy = Spy()
    engine = TorchEngine(spy, YUV, (8, 6), YUV, 1, CPU)
    ticket = engine.submit(batches(make_frames(YUV, (8, 6), 1), 1)[0])
    slot = engine._slots[0]
    assert slot.dev_in is slot.host_in
    assert spy.address == slot.host_in.data_ptr()
    assert slot.out is None
    assert ticket.nbytes == 8 * 6 * 3 // 2


def test_frames_of_a_result_are_packed_plane_after_plane() -> None:
    engine = TorchEngine(Spy(), YUV, (8, 6), YUV, 1, CPU, batch=2)
    first, second = engine.result(engine.submit(batches(make_frames(YUV, (8, 6), 2), 2)[0])).frames
    y, u, v = first.planes
    assert u.data_ptr() == y.data_ptr() + 48
    assert v.data_ptr() == u.data_ptr() + 12
    assert second.planes[0].data_ptr() == y.data_ptr() + 72
    assert all(plane.is_contiguous() for plane in first.planes + second.planes)


def test_the_result_is_an_ordinary_tensor() -> None:
    """No inference tensors leave the engine: whoever gets a result may write into it."""
    engine = TorchEngine(Spy(), YUV, (8, 6), YUV, 1, CPU)
    plane = engine.result(engine.submit(batches(make_frames(YUV, (8, 6), 1), 1)[0])).frames[0].planes[0]
    assert not plane.is_inference()
    plane.add_(1)


def test_host_memory_that_runs_out_is_told() -> None:
    class Hungry(nn.Module):
        def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
            torch.empty(2**60, dtype=torch.uint8)
            return planes

    engine = TorchEngine(Hungry(), YUV, (8, 6), YUV, 1, CPU, batch=2)
    with pytest.raises(OutOfMemory, match=r"^cpu has not enough memory for one frame of 8x6 at scale 1: .* scale$"):
        engine.submit(batches(make_frames(YUV, (8, 6), 2), 2)[0])


def test_a_ring_that_does_not_fit_is_told() -> None:
    with pytest.raises(OutOfMemory, match=r"a batch of 1099511627776 frames of 8x6 at scale 1: use a smaller --batch"):
        TorchEngine(Spy(), YUV, (8, 6), YUV, 1, CPU, batch=2**40)


def test_a_network_of_another_shape_is_a_bug_not_a_broadcast() -> None:
    engine = TorchEngine(Spy(), YUV, (8, 6), YUV, 2, CPU)
    with pytest.raises(ValueError, match=r"returned \(1, 6, 8\) for a plane of \(1, 12, 16\)"):
        engine.submit(batches(make_frames(YUV, (8, 6), 1), 1)[0])


def test_too_many_frames_are_a_bug() -> None:
    engine = TorchEngine(Spy(), YUV, (8, 6), YUV, 1, CPU)
    with pytest.raises(ValueError, match="a batch of 2 frames for an engine of 1"):
        engine.submit(batches(make_frames(YUV, (8, 6), 2), 2)[0])


def test_threads_and_description() -> None:
    before = torch.get_num_threads()
    try:
        engine = TorchEngine(Spy(), YUV, (8, 6), YUV, 1, CPU, threads=2)
        assert torch.get_num_threads() == 2
        assert engine.describe() == "torch on cpu (2 threads), float32, batch 1"
    finally:
        torch.set_num_threads(before)


def test_resolve_device_names_what_is_wrong() -> None:
    for name in ("gpu", "cuda:x", "cuda:", "cuda:-1", "meta", "", "CUDA", "cuda:²"):
        with pytest.raises(DeviceError, match=r"no device is called .*: use auto, cpu, cuda, cuda:1, xpu or mps"):
            resolve_device(name)
    with pytest.raises(DeviceError, match="there is no device cpu:1 here: the last one is cpu"):
        resolve_device("cpu:1")
    assert resolve_device("cpu") == resolve_device("cpu:0") == CPU


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_resolve_device_without_the_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_count", lambda asked: int(asked == "cpu"))
    with pytest.raises(
        DeviceError, match=f"there is no {kind} device here for torch 2.*: use --device cpu, or install"
    ):
        resolve_device(kind)
    assert resolve_device("auto") == CPU


def test_resolve_device_with_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_count", lambda kind: 2 if kind == "cuda" else 1)
    monkeypatch.setattr(backend_module, "_lacking_code", lambda kind, index: None)
    assert resolve_device("cuda") == resolve_device("auto") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("mps") == torch.device("mps")
    with pytest.raises(DeviceError, match="there is no device cuda:2 here: the last one is cuda:1"):
        resolve_device("cuda:2")


def test_a_gpu_that_is_too_old_is_named_and_passed_over_by_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_count", lambda kind: int(kind in ("cuda", "cpu")))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "GeForce GTX 1080")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "compute_120"])
    with pytest.raises(DeviceError, match=r"no code for cuda:0 \(GeForce GTX 1080, compute capability 6\.1; built for"):
        resolve_device("cuda")
    assert resolve_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert resolve_device("auto") == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((8, 6), ["sm_80"], True),  # a later minor version
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),  # another major version, no PTX
        ((12, 0), ["sm_90", "compute_90"], True),  # PTX
        ((7, 5), ["compute_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 3), ["sm_100a"], False),
        ((10, 3), ["sm_100f"], True),
        ((6, 1), ["sm_75", "sm_80", "sm_120"], False),
        ((9, 0), ["gfx90a"], False),
    ],
)
def test_capability_gate(capability: tuple[int, int], built_for: list[str], runs: bool) -> None:
    assert runs_on(capability, built_for) is runs


def test_backends_by_device() -> None:
    plain = open_backend(CPU)
    assert isinstance(plain, Plain)
    assert plain.unified
    assert not Plain(torch.device("mps")).unified


class FakeModule:
    """The part of a device module that the backend uses; remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def Stream(self, device: torch.device) -> str:
        self.calls.append(("Stream", device))
        return "stream"

    def Event(self, **options: bool) -> str:
        self.calls.append(("Event", options))
        return "event"

    def device(self, device: torch.device) -> str:
        self.calls.append(("device", device))
        return "context"


@pytest.mark.parametrize(("kind", "options"), [("cuda", {"blocking": True}), ("xpu", {})])
def test_device_module_gets_an_explicit_index(
    kind: str, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeModule()
    monkeypatch.setattr(torch, "get_device_module", lambda device: fake)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    precision = torch.backends.cudnn.fp32_precision
    try:
        device = torch.device(kind, 1)
        opened = open_backend(device)
        assert isinstance(opened, DeviceModule)
        opened.stream()
        opened.event()
        opened.current()
        assert fake.calls == [("Stream", device), ("Event", options), ("device", device)]
        assert torch.backends.cudnn.benchmark is (kind == "cuda")
    finally:
        torch.backends.cudnn.fp32_precision = precision


class OutsideAllocator(torch.AcceleratorError):
    def __init__(self, error_code: int) -> None:
        super().__init__("CUDA error")
        self.error_code = error_code


def test_is_oom() -> None:
    assert is_oom(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_oom(MemoryError())
    assert is_oom(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_oom(caught.value)
    assert is_oom(OutsideAllocator(2))
    assert not is_oom(OutsideAllocator(700))
    assert not is_oom(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    assert not is_oom(ValueError("out of memory"))


@pytest.mark.cuda
@pytest.mark.parametrize("layout", [YUV, YUV10])
def test_cuda_gives_what_the_cpu_gives(layout: PlaneLayout) -> None:
    """20 frames, a partial batch at the end; float rounding may move a sample across a rounding edge, by one code."""
    size = (96, 54)
    torch.manual_seed(0)
    frames = make_frames(layout, size, 20)
    net = Enlarger(layout, size)
    results = {}
    for name, batch in (("cpu", 1), ("cuda:0", 3)):
        engine = TorchEngine(net, layout, size, layout, 2, resolve_device(name), batch=batch)
        results[name] = [f for r in run(engine, batches(frames, batch)) for f in r.frames]
        engine.close()
    for on_cpu, on_cuda in zip(results["cpu"], results["cuda:0"], strict=True):
        assert (on_cpu.pts, on_cpu.index) == (on_cuda.pts, on_cuda.index)
        for a, b in zip(on_cpu.planes, on_cuda.planes, strict=True):
            off = (a.to(torch.int32) - b.to(torch.int32)).abs()
            assert int(off.max()) <= 1
            assert float((off > 0).float().mean()) < 1e-3


@pytest.mark.cuda
def test_cuda_submit_never_waits_for_the_device() -> None:
    size, layout = (96, 54), YUV
    engine = TorchEngine(Enlarger(layout, size), layout, size, layout, 2, resolve_device("cuda:0"), batch=2)
    work = batches(make_frames(layout, size, 2), 2) * (2 * DEPTH)
    run(engine, work)  # algorithms are chosen on the first batch
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(engine, work)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    engine.close()


@pytest.mark.cuda
def test_cuda_allocates_no_host_memory_once_it_runs() -> None:
    """Page-locking is slow: the pinned memory of dropped results is used again."""
    size, layout = (96, 54), YUV
    engine = TorchEngine(Enlarger(layout, size), layout, size, layout, 2, resolve_device("cuda:0"), batch=2)
    for batch in batches(make_frames(layout, size, 40), 2)[:10]:
        engine.result(engine.submit(batch))
    before = torch.cuda.host_memory_stats()["num_host_alloc"]
    for batch in batches(make_frames(layout, size, 40), 2):
        engine.result(engine.submit(batch))
    assert torch.cuda.host_memory_stats()["num_host_alloc"] == before
    engine.close()
