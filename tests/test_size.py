"""Any size: what is asked for, which factor reaches it, and the reduction behind the network against the field's."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import make_clip, shared, to_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from test_alpha import FRAMES, clip_of, mattes
from test_job import QUICK, Listener
from torch import Tensor, nn
from torch.nn import functional as F
from train_helpers import texture

from rcan_video import DeviceOptions, EncodeOptions, ModelOptions, Options, SizeOptions, probe, upscale
from rcan_video.color import PlanesToRgb, RgbToPlanes
from rcan_video.engine.task import Task
from rcan_video.errors import UsageError, WeightsError
from rcan_video.frames import ColorSpec, Frame, FrameBatch, PlaneLayout
from rcan_video.media.codecs import plan_video
from rcan_video.network.catalog import load_model, scales
from rcan_video.network.frame_net import FrameNet
from rcan_video.network.resample import Resample
from rcan_video.pictures import read_picture
from rcan_video.resize import reduce
from rcan_video.size import Enlargement, enlargement, option_of, reshaped, settle
from rcan_video.video import VideoInfo

QUARTER = (0, 65536, 0, -65536, 0, 0, 480 * 65536, 0, 1 << 30)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("size") / "in.mp4", size=(54, 40), frames=3)


@pytest.fixture(scope="module")
def info(clip: Path) -> VideoInfo:
    return probe(str(clip))


# What is asked for


@pytest.mark.parametrize(
    ("size", "scale", "pixels"),
    [
        ({"height": 720}, 2, (Fraction(853 * 3, 2), Fraction(720))),
        ({"height": 960}, 2, None),
        ({"height": 962}, 3, (Fraction(853 * 962, 480), Fraction(962))),
        ({"size": (1706, 1440)}, 3, (Fraction(1706), Fraction(1440))),
        ({"fit": "720p"}, 2, (Fraction(853 * 3, 2), Fraction(720))),
        ({"fit": "1080p"}, 3, (Fraction(853 * 9, 4), Fraction(1080))),
    ],
)
def test_the_smallest_factor_that_reaches_a_size(
    info: VideoInfo, size: dict[str, Any], scale: int, pixels: tuple[Fraction, Fraction] | None
) -> None:
    here = replace(info, width=853, height=480)
    assert enlargement((2, 3, 4), ModelOptions(), SizeOptions(**size), here) == Enlargement(scale, pixels)


@pytest.mark.parametrize(
    ("asked", "scale", "exact"),
    [
        (None, 2, True),
        (1, 2, False),
        (Fraction(3, 2), 2, False),
        (2, 2, True),
        (Fraction("2.25"), 3, False),
        (4, 4, True),
    ],
)
def test_any_scale(info: VideoInfo, asked: Any, scale: int, exact: bool) -> None:
    found = enlargement((2, 3, 4), ModelOptions(scale=asked), SizeOptions(), info)
    assert found.scale == scale and (found.wanted is None) == exact
    assert found.wanted is None or found.wanted == (54 * asked, 40 * asked)


def test_a_checkpoint_of_one_factor_is_reduced_from_that(info: VideoInfo) -> None:
    assert enlargement((3,), ModelOptions(), SizeOptions(), info) == Enlargement(3)
    assert enlargement((3,), ModelOptions(scale=2), SizeOptions(), info) == Enlargement(
        3, (Fraction(108), Fraction(80))
    )
    assert enlargement((1, 4), ModelOptions(scale=1), SizeOptions(), info) == Enlargement(1)


def test_a_picture_that_is_shown_turned_is_measured_as_it_is_shown(info: VideoInfo) -> None:
    phone = replace(info, width=640, height=480, display_matrix=QUARTER)
    by_height = enlargement((2, 3, 4), ModelOptions(), SizeOptions(height=960), phone)
    assert by_height == Enlargement(2, (Fraction(960), Fraction(720)))
    box = enlargement((2, 3, 4), ModelOptions(), SizeOptions(fit="720p"), phone)
    assert box == Enlargement(2, (Fraction(960), Fraction(720))), "the box is turned for what is higher than wide"
    upright = enlargement((2, 3, 4), ModelOptions(), SizeOptions(size=(720, 960)), phone)
    assert upright == box
    with pytest.raises(UsageError, match="is 480x640 already, which --height 640 does not enlarge"):
        enlargement((2, 3, 4), ModelOptions(), SizeOptions(height=640), phone)


@pytest.mark.parametrize(
    ("model", "size", "error", "said"),
    [
        (ModelOptions(scale=2), SizeOptions(fit="4k"), UsageError, "--scale 2 and --fit 4k each say how large"),
        (ModelOptions(), SizeOptions(3, (4, 4)), UsageError, "--height 3 and --size 4x4 each say how large"),
        (ModelOptions(scale=9), SizeOptions(), UsageError, "--scale 9: give a number from 1 to 8"),
        (ModelOptions(scale=Fraction(1, 2)), SizeOptions(), UsageError, "--scale 0.5: give a number from 1 to 8"),
        (ModelOptions(), SizeOptions(size=(0, 9)), UsageError, "--size 0x9: a picture has at least one pixel"),
        (ModelOptions(), SizeOptions(fit="2k"), UsageError, "--fit 2k: give 720p, 1080p"),  # type: ignore[arg-type]
        (ModelOptions(), SizeOptions(height=40), UsageError, "is 54x40 already, which --height 40 does not enlarge"),
        (ModelOptions(), SizeOptions(size=(200, 20)), UsageError, "is 54x40 already"),
        (
            ModelOptions(),
            SizeOptions(height=161),
            WeightsError,
            "by 2, 3 or 4, and --height 161, 4.03 times as large, is",
        ),
        (
            ModelOptions(scale=5),
            SizeOptions(),
            WeightsError,
            "--scale 5 is beyond that: give --scale 4, or a checkpoint",
        ),
    ],
)
def test_sizes_that_make_no_sense(
    info: VideoInfo, model: ModelOptions, size: SizeOptions, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        enlargement((2, 3, 4), model, size, info)
    assert "\n" not in str(caught.value)
    assert error is WeightsError or "already" in said or option_of(ModelOptions(), SizeOptions()) is None


def test_the_factors_of_a_model() -> None:
    assert scales("fast") == (2, 3, 4)
    assert scales("fast-video") == (2, 4)
    with pytest.raises(WeightsError, match="fats: there is no such file"):
        scales("fats")


@settings(derandomize=True, deadline=None)
@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    factor=st.fractions(1, 4, max_denominator=400),
    step=st.sampled_from([1, 2, 4]),
)
def test_rounded_sizes_stay_near_within_and_in_shape(width: int, height: int, factor: Fraction, step: int) -> None:
    enlarged = 4 * width, 4 * height
    wanted = width * factor, height * factor
    got = settle(wanted, enlarged, (step, step))
    for pixels, want, most in zip(got, wanted, enlarged, strict=True):
        assert pixels % step == 0 and 0 < pixels <= most
        assert abs(pixels - want) <= Fraction(step, 2) or pixels in (step, most // step * step)


def test_the_shape_on_display_stays_exact(info: VideoInfo) -> None:
    here = replace(info, width=853, height=480, sar=Fraction(4, 3))
    found = reshaped(here, 1280, 720)
    assert found == Fraction(4, 3) * Fraction(853 * 720, 480 * 1280)
    assert reshaped(replace(here, sar=None), 1706, 960) is None
    tight = reshaped(replace(info, width=4999, height=4993, sar=None), 9973, 9967)
    assert tight is not None and max(tight.numerator, tight.denominator) <= 65535
    assert abs(float(tight / Fraction(4999 * 9967, 4993 * 9973)) - 1) < 1e-8


def test_steps_of_the_pixel_format(info: VideoInfo) -> None:
    here = replace(info, width=853, height=480)
    wanted = Fraction(2559, 2), Fraction(721)
    x264 = plan_video(here, 2, "mp4", EncodeOptions(), wanted)
    assert (x264.width, x264.height) == x264.reduced == (1280, 722)
    assert x264.notices[0] == "the picture becomes 1280x722, since yuv420p goes in steps of two pixels or more"
    assert x264.notices[1].startswith(f"the sample aspect ratio of 1280x722 is {x264.sar} instead of 1, so that")
    full = plan_video(here, 2, "mkv", EncodeOptions(codec="ffv1", pix_fmt="yuv444p"), wanted)
    assert (full.width, full.height) == full.reduced == (1280, 721)
    plain = plan_video(here, 2, "mp4", EncodeOptions())
    assert plain.reduced is None and plain.sar is None


# The reduction


def reduced(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) to (width, height)."""
    return Resample((picture.shape[2], picture.shape[1]), size)(picture)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_whole_factors_are_what_matlab_gives(scale: int) -> None:
    """``reduce`` is MATLAB's, bit for bit; it rounds and clips to codes after each pass, far from their ends."""
    picture = 64 + texture(3, 24 * scale) // 2
    ours = reduced(torch.from_numpy(picture).permute(2, 0, 1).float(), (24, 24)).clamp(0, 255).permute(1, 2, 0)
    assert np.abs(ours.numpy() - reduce(picture, scale)).max() <= 0.5 + 0.5 * 1.3


@pytest.mark.parametrize(("source", "target"), [((64, 48), (48, 36)), ((85, 66), (64, 37)), ((40, 30), (33, 30))])
def test_like_the_antialiased_bicubic_of_torch(source: tuple[int, int], target: tuple[int, int]) -> None:
    """Which is Pillow's. It leaves out at the edge what is repeated here, so the picture is given an edge."""
    x = torch.from_numpy(texture(1, 96)[: source[1], : source[0]]).permute(2, 0, 1).float()
    width, height = source
    wide = F.pad(x[None], (8 * width, 8 * width, 8 * height, 8 * height), mode="replicate")
    theirs = F.interpolate(wide, size=(17 * target[1], 17 * target[0]), mode="bicubic", antialias=True)
    inner = theirs[0, :, 8 * target[1] : 9 * target[1], 8 * target[0] : 9 * target[0]]
    assert (
        reduced(x, target) - inner
    ).abs().max() <= 0.05  # of 255; torch counts places of so large a picture in float32


def test_like_pillow() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed here")
    x = texture(1, 96)[:66, :85].astype(np.float32)
    theirs = np.stack(
        [np.asarray(image.fromarray(x[..., c], "F").resize((64, 37), image.Resampling.BICUBIC)) for c in range(3)]
    )
    ours = reduced(torch.from_numpy(x).permute(2, 0, 1), (64, 37)).numpy()
    assert np.abs(ours - theirs)[:, 6:-6, 6:-6].max() <= 1e-3


def test_close_to_the_area_of_opencv_and_sharper() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed here")
    x = texture(1, 96)
    ours = reduced(torch.from_numpy(x).permute(2, 0, 1).float(), (64, 64)).permute(1, 2, 0).numpy()
    area = cv2.resize(x.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(ours.mean() - area.mean()) < 0.1, "nothing is brighter or darker"
    assert np.abs(ours - area).mean() < 6
    assert ours.std() > area.std()


@pytest.mark.parametrize("size", [(60, 40), (45, 31), (7, 5), (1, 1), (80, 90)])
def test_what_is_flat_stays_and_everything_stays_in_its_place(size: tuple[int, int]) -> None:
    flat = torch.full((1, 50, 70), 77.0)
    torch.testing.assert_close(reduced(flat, size), torch.full((1, size[1], size[0]), 77.0))
    ramp = torch.arange(70.0)[None, None].expand(1, 50, 70)
    centres = (torch.arange(size[0]) + 0.5) * 70 / size[0] - 0.5
    edge = 3 * 70 // min(size[0], 70)
    inner = (centres > edge) & (centres < 70 - edge)
    torch.testing.assert_close(reduced(ramp, size)[0, 0][inner], centres[inner], atol=0.02, rtol=0)


def test_stripes_too_fine_for_the_result_vanish() -> None:
    stripes = (torch.arange(90) % 2)[None, None].expand(1, 90, 90).float()
    small = reduced(stripes, (45, 45))[0, 3:-3, 3:-3]
    assert (small - 0.5).abs().max() < 0.08


def test_half_precision_of_the_module_changes_nothing() -> None:
    module = Resample((30, 20), (21, 13))
    x = torch.rand(2, 20, 30)
    expected = module(x)
    assert torch.equal(module.half()(x), expected)


# In the module, and in the engines


class Enlarge(nn.Module):
    """A network that enlarges without thinking."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=float(self.scale), mode="bicubic")


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p", "gbrp", "gray"])
@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
def test_the_picture_is_reduced_in_float_before_its_chroma_is(pix_fmt: str, siting: Any) -> None:
    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    spec = ColorSpec(1, False, siting)
    how: dict[str, Any] = {"source": (layout, spec), "target": (layout, spec), "width": 20, "height": 14}
    rng = np.random.default_rng(0)
    shapes = layout.shapes(20, 14)
    top, dtype = (256, np.uint8) if layout.depth == 8 else (1024, np.uint16)
    planes = [torch.from_numpy(rng.integers(0, top, (1, *shape)).astype(dtype)) for shape in shapes]
    net = FrameNet(Enlarge(2), colors=3, scale=2, reduced=(30, 22), **how)
    *got, flag = net(*planes)
    assert not flag and [tuple(p.shape[1:]) for p in got] == list(layout.shapes(30, 22))
    large = Enlarge(2)(PlanesToRgb(layout, spec, 20, 14)(*planes))
    wanted = RgbToPlanes(layout, spec, 30, 22)(reduced(large[0], (30, 22))[None])
    assert all(torch.equal(ours.int(), theirs.int()) for ours, theirs in zip(got, wanted, strict=True))


def test_a_neutral_picture_has_no_colour_at_its_edges_and_chroma_stays_beside_luma() -> None:
    """A red square on grey, left-sited 4:2:0: its edge in Cr is where its edge in Y is."""
    layout, spec = PlaneLayout("yuv", 8, 1, 1), ColorSpec(1, False, "left")
    rgb = torch.full((1, 3, 48, 64), 0.5)
    rgb[:, :, :, 32:] = torch.tensor([0.9, 0.3, 0.3])[None, :, None, None]
    planes = RgbToPlanes(layout, spec, 64, 48)(rgb)
    net = FrameNet(
        Enlarge(2),
        source=(layout, spec),
        target=(layout, spec),
        width=64,
        height=48,
        colors=3,
        scale=2,
        reduced=(96, 72),
    )
    y, _, cr, _ = net(*planes)
    line, chroma = y[0, 36].float(), cr[0, 18].float()

    def edge(values: Tensor) -> float:
        low, high = values[:8].mean(), values[-8:].mean()
        return float(((high - values) / (high - low)).sum())  # samples before the edge

    # Cr sample i sits on luma sample 2 i, whose centre is at 2 i + 0.5 pixels.
    assert edge(line) == pytest.approx(48, abs=0.1)
    assert 2 * (edge(chroma) - 0.5) + 0.5 == pytest.approx(48, abs=0.3)


def frames_of(task: Task) -> Frame:
    layout, _ = task.source
    rng = np.random.default_rng(2)
    return Frame(tuple(rng.integers(0, 256, s).astype(np.uint8) for s in layout.shapes(*task.size)), 0, 1, 0)


@pytest.mark.parametrize(("pix_fmt", "size"), [("yuv420p", (66, 44)), ("yuva420p", (50, 70)), ("gray", (80, 61))])
def test_openvino_gives_what_torch_gives(pix_fmt: str, size: tuple[int, int]) -> None:
    pytest.importorskip(
        "rcan_video.engine.openvino_silent", exc_type=ImportError, reason="the extra openvino is not installed here"
    )
    from test_openvino import assert_like_torch

    from rcan_video.engine.openvino_engine import OpenVinoEngine

    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    stored = layout, ColorSpec(6, False, "left")
    task = Task(load_model("fast", 2), stored, stored, (40, 36), reduced=size)
    sent = frames_of(task)
    engine = OpenVinoEngine(task, threads=1)
    try:
        (got,) = engine.result(engine.submit(FrameBatch((sent,)))).frames
    finally:
        engine.close()
    assert tuple(got.planes[0].shape) == size[::-1]
    assert_like_torch(task, sent, got)


def test_tiles_are_joined_before_the_reduction() -> None:
    """With tiles that see everything, the reduced picture is that of the whole frame, seams nowhere."""
    layout, spec = PlaneLayout("yuv", 8, 1, 1), ColorSpec(6, False, "left")
    task = Task(load_model("fast", 2), (layout, spec), (layout, spec), (60, 40), reduced=(90, 60))
    planes = [torch.from_numpy(p)[None] for p in map(np.asarray, frames_of(task).planes)]
    with torch.inference_mode():
        whole = task.module()(*planes)
        tiled = replace(task, tile=32).module(frugal=True)(*planes)
    for ours, theirs in zip(tiled[:-1], whole[:-1], strict=True):
        assert ours.shape == theirs.shape
        assert (ours.int() - theirs.int()).abs().float().mean() < 1.0, "attention sees a tile, and no more changes"


def test_the_size_belongs_to_what_was_compiled() -> None:
    stored = PlaneLayout("yuv", 8, 1, 1), ColorSpec(6, False, "left")
    task = Task(load_model("fast", 2), stored, stored, (40, 36))
    assert task.target_size == task.enlarged == (80, 72)
    other = replace(task, reduced=(60, 54))
    assert other.target_size == (60, 54) and other.enlarged == (80, 72)
    assert other.identity() != task.identity()


# The job


def job(clip: Path, target: Path, **more: Any) -> Options:
    return replace(Options(str(clip), str(target), device=DeviceOptions("cpu", threads=1), encode=QUICK), **more)


@pytest.mark.parametrize(
    ("more", "size", "sar"),
    [
        ({"model": ModelOptions(scale=Fraction(3, 2))}, (82, 60), Fraction(81, 82)),
        ({"model": ModelOptions(scale=1)}, (54, 40), None),
        ({"size": SizeOptions(height=120)}, (162, 120), None),
        ({"size": SizeOptions(size=(108, 60))}, (108, 60), Fraction(27 * 60, 20 * 108)),
    ],
)
def test_a_job_to_any_size(clip: Path, tmp_path: Path, more: dict[str, Any], size: tuple[int, int], sar: Any) -> None:
    heard = Listener()
    report = upscale(job(clip, tmp_path / "out.mp4", **more), heard)
    assert (report.width, report.height, report.frames_out) == (*size, 3)
    found = probe(str(tmp_path / "out.mp4"))
    assert (found.width, found.height, found.sar) == (*size, sar)
    assert bool(heard.notices) == (sar is not None)
    assert any(text.startswith("size: enlarged ") for text in heard.details)


def test_a_job_is_another_one_at_another_size(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rcan_video.segments import home

    index = type("Index", (), {"digest": "0"})()
    names = [
        home.asked(Options("", ""), size, "0", index)
        for size in (Enlargement(2), Enlargement(2, (Fraction(81), Fraction(60))), Enlargement(3))
    ]
    assert len({name["--scale"] for name in names}) == 3
    assert names[0]["--scale"] == "2"


def test_alpha_has_the_size_of_the_picture(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mkv", "ffv1", "yuva444p")
    upscale(job(clip, tmp_path / "out.mkv", encode=EncodeOptions(), model=ModelOptions(scale=Fraction(3, 2))))
    before, after = mattes(clip), mattes(tmp_path / "out.mkv")
    assert len(after) == FRAMES and after[0].shape == (48, 72)
    for small, large in zip(before, after, strict=True):
        assert large.min() == 0 and large.max() == 255
        assert large[:, 1::3].astype(float).mean() == pytest.approx(small.astype(float).mean(), abs=2)


def test_a_photograph_at_one_and_a_half(tmp_path: Path) -> None:
    """Baby of Set5, x2 to x1.5, against its original reduced to that size: far above what bicubic gives."""
    hr = read_picture(shared("sr/Set5/HR/x2/baby.png"))[:480, :480]
    layout, spec = PlaneLayout("rgb"), ColorSpec(1, True, "left")
    small = reduce(hr, 2)
    net = Task(load_model("fast", 2), (layout, spec), (layout, spec), (240, 240), reduced=(360, 360)).module()
    planes = [torch.from_numpy(np.ascontiguousarray(small[..., c]))[None] for c in (1, 2, 0)]
    with torch.inference_mode():
        green, blue, red, _ = net(*planes)
    wanted = reduced(torch.from_numpy(hr).permute(2, 0, 1).float(), (360, 360))
    plain = reduced(torch.from_numpy(small).permute(2, 0, 1).float(), (360, 360))
    ours = torch.cat((red, green, blue)).float()

    def decibels(x: Tensor) -> float:
        return float(10 * torch.log10(255**2 / (x - wanted).square().mean()))

    assert decibels(ours) > decibels(plain) + 1.5
    assert abs(float(ours.mean() - wanted.mean())) < 0.1


def test_a_frame_in_the_file_is_the_reduced_one(tmp_path: Path) -> None:
    size = (40, 30)
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", size=size, frames=1, draw=lambda k: ramp(size))
    upscale(
        job(clip, tmp_path / "out.mkv", encode=EncodeOptions(codec="ffv1"), model=ModelOptions(scale=Fraction(5, 2)))
    )
    with av.open(str(tmp_path / "out.mkv")) as file:
        (frame,) = file.decode(video=0)
    luma = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)[:, :100].astype(float)
    centres = 20 + 4 * ((np.arange(100) + 0.5) / 2.5 - 0.5)
    assert (frame.width, frame.height) == (100, 76)
    assert np.abs(luma[30] - centres)[20:-20].max() <= 1.5


def ramp(size: tuple[int, int]) -> av.VideoFrame:
    width, height = size
    luma = (20 + 4 * np.arange(width, dtype=np.uint8))[None].repeat(height, 0)
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    return to_frame([luma, chroma, chroma], "yuv420p", size)
