"""The OpenVINO engine against torch, which is the oracle; its cache, its threads, and how it fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip, picture
from numpy.typing import NDArray
from torch import Tensor, nn

from rcan_video import cache
from rcan_video.engine.task import Task
from rcan_video.errors import DeviceError, InputError, NotFinite, OutOfMemory, WeightsError
from rcan_video.frames import ColorSpec, Frame, FrameBatch, PlaneLayout
from rcan_video.network import checkpoint
from rcan_video.network.catalog import LoadedModel, load_model
from rcan_video.network.frame_net import FrameNet
from rcan_video.network.rcan import RCAN, RCANConfig

openvino = pytest.importorskip(
    "rcan_video.engine.openvino_silent", reason="the extra openvino is not installed here", exc_type=ImportError
).openvino
openvino_compile = pytest.importorskip("rcan_video.engine.openvino_compile")
openvino_engine = pytest.importorskip("rcan_video.engine.openvino_engine")
OpenVinoEngine = openvino_engine.OpenVinoEngine
convert = pytest.importorskip("rcan_video.engine.openvino_graph").convert

COLOR = ColorSpec(6, False, "left")
SMALL = RCANConfig(groups=1, blocks=1, features=8, reduction=4)


def task_for(model: LoadedModel, pix_fmt: str, size: tuple[int, int], color: ColorSpec = COLOR) -> Task:
    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    return Task(model, (layout, color), (layout, color), size)


def save_model(folder: Path, config: RCANConfig, edit: Any = None) -> LoadedModel:
    """Random weights as a checkpoint of the user's own; ``edit`` may change the network first."""
    torch.manual_seed(0)
    net = RCAN(config).eval()
    if edit is not None:
        edit(net)
    path = folder / "own.safetensors"
    checkpoint.save(net, path)
    return load_model(str(path))


def make_frames(layout: PlaneLayout, size: tuple[int, int], count: int) -> list[Frame]:
    """Noise; planes are strided and read-only, as a decoder's are."""
    random = np.random.default_rng(7)
    dtype = np.uint8 if layout.depth == 8 else np.uint16
    frames = []
    for index in range(count):
        planes = [random.integers(0, 2**layout.depth, (h, w + 3)).astype(dtype) for h, w in layout.shapes(*size)]
        for plane in planes:
            plane.flags.writeable = False
        frames.append(Frame(tuple(p[:, :-3] for p in planes), 1000 + 7 * index, 7, index))
    return frames


def by_torch(task: Task, frame: Frame) -> list[NDArray[Any]]:
    with torch.inference_mode():
        planes = task.module()(*(torch.from_numpy(np.array(plane))[None] for plane in frame.planes))
    return [plane[0].numpy() for plane in planes[:-1]]


def assert_like_torch(task: Task, sent: Frame, got: Frame) -> None:
    """Nine samples in ten thousand may be one code off: float sums of another order, near a half. That is for 8 bits;
    every bit more doubles it, because the codes get finer and the sums do not."""
    assert (got.pts, got.duration, got.index) == (sent.pts, sent.duration, sent.index)
    layout, _ = task.target
    for ours, theirs in zip(got.planes, by_torch(task, sent), strict=True):
        ours = np.asarray(ours)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        off = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        assert off.max() <= 1
        assert off.sum() <= max(1, 9e-4 * off.size * min(2 ** (layout.depth - 8), 32))


def run_one(task: Task, frames: list[Frame], batch: int = 1) -> list[Frame]:
    engine = OpenVinoEngine(task, batch=batch, threads=1)
    try:
        parts = [FrameBatch(tuple(frames[i : i + batch])) for i in range(0, len(frames), batch)]
        return [frame for part in parts for frame in engine.result(engine.submit(part)).frames]
    finally:
        engine.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Quick to convert, for what does not depend on the network."""
    return save_model(tmp_path_factory.mktemp("small"), SMALL)


@pytest.mark.parametrize(("scale", "pix_fmt"), [(2, "yuv420p"), (3, "yuv422p10le"), (4, "yuv420p")])
def test_the_bundled_nets_give_what_torch_gives(scale: int, pix_fmt: str) -> None:
    task = task_for(load_model("fast", scale), pix_fmt, (64, 48))
    frames = make_frames(task.source[0], task.size, 2)
    for sent, got in zip(frames, run_one(task, frames), strict=True):
        assert_like_torch(task, sent, got)


@pytest.mark.parametrize(
    ("pix_fmt", "size"),
    [
        ("yuv420p", (64, 48)),
        ("yuv420p", (33, 21)),
        ("yuv420p", (1, 1)),
        ("yuv420p10le", (5, 1)),
        ("yuv422p10le", (33, 21)),
        ("yuv444p", (64, 48)),
        ("yuv411p", (33, 21)),
        ("yuv440p", (2, 3)),
        ("gray", (64, 48)),
        ("gray12le", (3, 9)),
        ("gbrp", (33, 21)),
        ("gbrp16le", (64, 48)),
        ("yuva420p10le", (33, 21)),
        ("gbrap16le", (64, 48)),
    ],
)
def test_layouts_and_odd_sizes(small: LoadedModel, pix_fmt: str, size: tuple[int, int]) -> None:
    task = task_for(small, pix_fmt, size)
    (sent,) = make_frames(task.source[0], size, 1)
    (got,) = run_one(task, [sent])
    assert_like_torch(task, sent, got)


def test_alpha_that_only_the_target_has_is_opaque(small: LoadedModel) -> None:
    task = task_for(small, "yuv420p", (33, 21))
    task = replace(task, target=(PlaneLayout("yuv", 10, 1, 1, alpha=True), COLOR))
    (sent,) = make_frames(task.source[0], task.size, 1)
    (got,) = run_one(task, [sent])
    assert_like_torch(task, sent, got)
    assert set(np.asarray(got.planes[3]).ravel()) == {1023}


@pytest.mark.parametrize("siting", ["center", "topleft", "bottom"])
def test_sitings_and_full_range(small: LoadedModel, siting: Any) -> None:
    task = task_for(small, "yuv420p", (19, 13), ColorSpec(9, True, siting))
    (sent,) = make_frames(task.source[0], task.size, 1)
    (got,) = run_one(task, [sent])
    assert_like_torch(task, sent, got)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (replace(SMALL, colors=1, mean_shift=False), (17, 11)),  # and bicubic beside it
        (replace(SMALL, upscale=8), (17, 11)),
        (replace(SMALL, upscale=4, unshuffle=2, mean_shift=False, rgb_range=1.0), (17, 11)),  # padded to even sizes
        (replace(SMALL, upscale=4, unshuffle=2, mean_shift=False, rgb_range=1.0), (16, 10)),
        (replace(SMALL, activation="silu", residual_scale=0.1), (17, 11)),  # a tail in strips
        (replace(SMALL, upscale=1), (17, 11)),
    ],
    ids=["one colour", "x8", "unshuffle, odd", "unshuffle", "silu", "x1"],
)
def test_every_kind_of_network(config: RCANConfig, size: tuple[int, int], tmp_path: Path) -> None:
    task = task_for(save_model(tmp_path, config), "yuv420p", size)
    (sent,) = make_frames(task.source[0], size, 1)
    (got,) = run_one(task, [sent])
    assert_like_torch(task, sent, got)


class BeforeRounding(nn.Module):
    """The enlarged picture (1, 3, H, W) itself."""

    def __init__(self, net: FrameNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, *planes: Tensor) -> Tensor:
        return self.net.enlarge(self.net.to_rgb(*planes))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_before_rounding_it_is_equal_to_a_thousandth_of_a_code(scale: int) -> None:
    """Of a picture. Noise drives a network far out of its range, where float32 itself is no longer that good."""
    task = task_for(load_model("fast", scale), "yuv420p", (64, 48))
    net = BeforeRounding(task.module())
    planes = [plane[None] for plane in picture(task.source[0], task.size, 3)]
    with torch.inference_mode():
        expected = net(*map(torch.from_numpy, planes)).numpy()
    model = convert(net, task.source[0].shapes(*task.size), torch.uint8)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert float(np.abs(compiled(planes)[0] - expected).max()) * 255 < 1e-3


def test_the_task_is_computed_in_float32(small: LoadedModel) -> None:
    """Its own choice would be bfloat16 on CPUs that have it, some hundred times coarser than the test above allows."""
    engine = OpenVinoEngine(task_for(small, "gray", (16, 8)), threads=1)
    assert engine._compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert engine.describe() == "OpenVINO on cpu (1 threads), float32, batch 1"
    engine.close()


@pytest.mark.parametrize("batch", [1, 3])
def test_submit_may_run_ahead_of_result_in_another_thread(small: LoadedModel, batch: int) -> None:
    """More tickets outstanding than there are requests: results are right, in order, and nobody's memory is reused."""
    task = task_for(small, "yuv420p", (24, 16))
    frames = make_frames(task.source[0], task.size, 17)
    engine = OpenVinoEngine(task, batch=batch, threads=1)
    tickets: deque[Any] = deque()
    results: list[Frame] = []
    ready = threading.Semaphore(0)
    parts = [FrameBatch(tuple(frames[i : i + batch])) for i in range(0, len(frames), batch)]

    def collect() -> None:
        for _ in parts:
            ready.acquire()
            results.extend(engine.result(tickets.popleft()).frames)

    collector = threading.Thread(target=collect)
    for part in parts[:7]:  # well ahead
        tickets.append(engine.submit(part))
    collector.start()
    for _ in range(7):
        ready.release()
    for part in parts[7:]:
        tickets.append(engine.submit(part))
        ready.release()
    collector.join()
    engine.close()
    assert len(results) == len(frames)
    for sent, got in zip(frames, results, strict=True):
        assert_like_torch(task, sent, got)


def test_input_may_be_overwritten_after_submit_and_output_is_packed(small: LoadedModel) -> None:
    task = task_for(small, "yuv420p", (24, 16))
    planes = [np.array(plane) for plane in make_frames(task.source[0], task.size, 1)[0].planes]
    frame = Frame(tuple(planes), 0, 1, 0)
    kept = Frame(tuple(plane.copy() for plane in planes), 0, 1, 0)
    engine = OpenVinoEngine(task, threads=1)
    ticket = engine.submit(FrameBatch((frame,)))
    for plane in planes:
        plane[:] = 0
    (got,) = engine.result(ticket).frames
    engine.close()
    assert_like_torch(task, kept, got)
    assert ticket.nbytes == 48 * 32 * 3 // 2
    addresses = [np.asarray(plane).ctypes.data for plane in got.planes]
    assert addresses == [addresses[0], addresses[0] + 48 * 32, addresses[0] + 48 * 32 + 24 * 16]


def test_not_finite_is_told_and_does_not_stick(tmp_path: Path) -> None:
    """A network that overflows on white, and not on black."""

    def edit(net: RCAN) -> None:
        with torch.no_grad():
            net.head[-1].weight.fill_(1e36)
            net.head[-1].bias.fill_(0)
            net.body[-1].weight.mul_(1e10)

    config = replace(SMALL, mean_shift=False, rgb_range=1.0)
    task = task_for(save_model(tmp_path, config, edit), "gray", (8, 6), ColorSpec(6, True, "left"))
    engine = OpenVinoEngine(task, batch=2, threads=1)

    def batch(first: int, *values: int) -> FrameBatch:
        return FrameBatch(
            tuple(Frame((np.full((6, 8), value, np.uint8),), 0, 1, first + k) for k, value in enumerate(values))
        )

    bad, good = engine.submit(batch(5, 0, 255)), engine.submit(batch(7, 0, 0))
    with pytest.raises(NotFinite, match=r"^the network returned NaN or infinity in frames 5 to 6 on cpu: the weights"):
        engine.result(bad)
    assert len(engine.result(good)) == 2
    engine.close()


def test_frames_of_another_kind_are_refused(small: LoadedModel) -> None:
    task = task_for(small, "yuv420p", (24, 16))
    engine = OpenVinoEngine(task, threads=1)
    for pix_fmt, size in (("yuv420p", (24, 18)), ("yuv420p10le", (24, 16)), ("gray", (24, 16))):
        layout = PlaneLayout.parse(pix_fmt)
        assert layout is not None
        with pytest.raises(InputError, match="but the video began as 24x16 yuv420p: cut the input where"):
            engine.submit(FrameBatch(tuple(make_frames(layout, size, 1))))
    with pytest.raises(ValueError, match="a batch of 2 frames for an engine of 1"):
        engine.submit(FrameBatch(tuple(make_frames(task.source[0], task.size, 2))))
    engine.close()


def test_a_model_that_no_video_can_use_is_refused_as_by_torch(tmp_path: Path) -> None:
    model = save_model(tmp_path, replace(SMALL, colors=4, mean_shift=False))
    with pytest.raises(WeightsError, match="4 colour channels"):
        OpenVinoEngine(task_for(model, "gray", (8, 6)))


class Failing:
    """A request whose run fails."""

    def __init__(self, request: Any, error: Exception) -> None:
        self._request, self._error = request, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def wait(self) -> None:
        self._request.wait()
        raise self._error


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (
            RuntimeError("Exception from src/a.cpp:1:\nthe thing is broken.\n\n"),
            DeviceError,
            r"^OpenVINO \S+ failed on own at 24x16 \(the thing is broken\): use --engine torch$",
        ),
        (
            MemoryError("std::bad_alloc"),
            OutOfMemory,
            r"^there is not enough memory for one frame of 24x16 at scale 2 in OpenVINO: use a smaller model or scale$",
        ),
    ],
)
def test_a_run_that_fails_is_told_wherever_it_is_waited_for(
    small: LoadedModel, error: Exception, kind: type[Exception], sentence: str
) -> None:
    task = task_for(small, "yuv420p", (24, 16))
    engine = OpenVinoEngine(task, threads=1)
    batch = FrameBatch(tuple(make_frames(task.source[0], task.size, 1)))
    for slot in engine._slots:
        slot._request = Failing(slot._request, error)
    tickets = [engine.submit(batch), engine.submit(batch)]
    with pytest.raises(kind, match=sentence):
        engine.submit(batch)
    for ticket in tickets:
        with pytest.raises(kind, match=sentence):
            engine.result(ticket)
    engine.close()


def test_a_network_that_does_not_compile_is_told(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(task: Task, threads: int | None) -> bytes:
        raise RuntimeError("Check 'false' failed at src/x.cpp:9:\nNo conversion rule for aten::frobnicate\n")

    monkeypatch.setattr(openvino_engine, "compile_task", broken)
    with pytest.raises(DeviceError, match=r"cannot compile own at 25x16 \(No conversion rule for aten::frobnicate\)"):
        OpenVinoEngine(task_for(small, "yuv420p", (25, 16)))


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Task]:
    """What was converted; the cache is empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done: list[Task] = []
    compile_task = openvino_engine.compile_task

    def counted(task: Task, threads: int | None) -> bytes:
        done.append(task)
        compiled: bytes = compile_task(task, threads)
        return compiled

    monkeypatch.setattr(openvino_engine, "compile_task", counted)
    return done


def test_what_was_compiled_is_used_again(small: LoadedModel, conversions: list[Task]) -> None:
    task = task_for(small, "yuv420p", (24, 16))
    frames = make_frames(task.source[0], task.size, 1)
    first, second = run_one(task, frames)[0], run_one(task, frames)[0]
    assert len(conversions) == 1
    for a, b in zip(first.planes, second.planes, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    engine = OpenVinoEngine(task, threads=2)  # as many as asked for, whoever compiled it with how many
    assert engine.describe() == "OpenVINO on cpu (2 threads), float32, batch 1"
    engine.close()
    engine.close()  # does nothing
    assert len(conversions) == 1
    others = [
        replace(task, size=(24, 18)),
        replace(task, model=load_model("fast", 3)),
        replace(task, source=(task.source[0], ColorSpec(1, False, "left"))),
        replace(task, target=(PlaneLayout("yuv", 8), COLOR)),
    ]
    for number, other in enumerate(others, 2):
        OpenVinoEngine(other, threads=1).close()
        assert len(conversions) == number, "of another task"


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_cache_is_rebuilt(small: LoadedModel, damage: str, conversions: list[Task]) -> None:
    task = task_for(small, "yuv420p", (24, 16))
    frames = make_frames(task.source[0], task.size, 1)
    run_one(task, frames)
    base = cache.folder()
    assert base is not None
    (path,) = (base / "computed").iterdir()
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-1000])
    elif damage == "flipped":
        path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    else:  # whole and checked, but not what OpenVINO wrote
        cache.store(path.name, b"something else")
    assert_like_torch(task, frames[0], run_one(task, frames)[0])
    assert len(conversions) == 2
    assert cache.load(path.name) is not None
    run_one(task, frames)
    assert len(conversions) == 2


def test_no_cache_is_no_error(
    small: LoadedModel, conversions: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    task = task_for(small, "yuv420p", (24, 16))
    frames = make_frames(task.source[0], task.size, 1)
    run_one(task, frames)
    run_one(task, frames)
    assert len(conversions) == 2


@pytest.mark.parametrize("own", [False, True], ids=["bundled", "checkpoint"])
def test_a_run_does_not_load_torch(own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the first one, whose network another process compiles: to the same effect as in this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clip = make_clip(tmp_path / "in.mp4", size=(32, 24), frames=3)
    model = str(save_model(tmp_path, SMALL).path) if own else "fast"
    (tmp_path / "cache").rename(tmp_path / "unused") if own else None  # ``save_model`` has looked at the file
    code = """if True:
        import sys
        before = sys.argv[4] and __import__(sys.argv[4])
        from rcan_video import DeviceOptions, ModelOptions, Options, upscale
        source, target, model = sys.argv[1:4]
        options = Options(source, target, model=ModelOptions(model), device=DeviceOptions("cpu"), overwrite=True)
        print(upscale(options).frames_out, "torch" in sys.modules)
    """
    said = []
    for number, loaded in enumerate(("", "", "torch")):
        if loaded:
            (tmp_path / "cache").rename(tmp_path / "filled")
        line = [sys.executable, "-c", code, str(clip), str(tmp_path / f"{number}.mp4"), model, loaded]
        said.append(subprocess.run(line, check=True, capture_output=True, text=True, timeout=120).stdout.split())
    # A checkpoint is looked at by torch once: without a cache of what it was found to be, in every run.
    assert said == [["3", str(own)], ["3", "False"], ["3", "True"]]
    assert len({(tmp_path / f"{number}.mp4").read_bytes() for number in range(3)}) == 1


def test_the_process_that_compiles_hands_over_its_errors(tmp_path: Path) -> None:
    four = task_for(save_model(tmp_path, replace(SMALL, colors=4, mean_shift=False)), "yuv420p", (25, 16))
    with pytest.raises(WeightsError, match="4 colour channels"):
        openvino_compile._apart(four, None)


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("raise SystemExit('no such library')", DeviceError, "the process that compiles has failed: no such library"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", OutOfMemory, "not enough memory"),
    ],
)
def test_a_process_that_ends_badly_is_told(
    code: str, kind: type[Exception], sentence: str, small: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_compile, "_CHILD", code)
    monkeypatch.setattr(openvino_engine, "compile_task", openvino_compile._apart)
    with pytest.raises(kind, match=sentence):
        OpenVinoEngine(task_for(small, "yuv420p", (27, 16)))


@pytest.mark.parametrize("module", ["openvino_engine", "openvino_graph", "openvino_compile"])
def test_nothing_is_told_to_anybody(module: str, tmp_path: Path) -> None:
    """OpenVINO's telemetry, which begins with its import, is left out, and free for others to load afterwards."""
    code = (
        f"import sys; import rcan_video.engine.{module}; assert 'openvino' in sys.modules; "
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')], 'loaded'"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    assert not list(tmp_path.iterdir())
