"""Transparency: enlarged beside the picture, kept where the codec can, named where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
import torch
from clips import make_clip, needs_encoder, picture, shared, to_frame
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rcan_video import EncodeOptions, ModelOptions, Options, StreamOptions, prepare, probe, upscale
from rcan_video.engine.torch_engine import TorchEngine
from rcan_video.errors import OutputError, UsageError
from rcan_video.frames import ColorSpec, Frame, FrameBatch, PlaneLayout
from rcan_video.media import alpha as alpha_module
from rcan_video.media.alpha import AlphaDecoder, has_alpha
from rcan_video.media.decode import Source
from rcan_video.media.deinterlace import Deinterlacer
from rcan_video.network.alpha import EnlargeAlpha
from rcan_video.network.frame_net import FrameNet
from rcan_video.options import DeviceOptions
from rcan_video.progress import Silent

SIZE = (48, 32)
FRAMES = 4
YUVA = PlaneLayout("yuv", 8, 1, 1, alpha=True)
SPEC = ColorSpec(1, False, "left")


class Listener(Silent):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def matte(index: int, size: tuple[int, int] = SIZE, depth: int = 8) -> NDArray[Any]:
    """Transparent at the left, opaque at the right, a ramp between them that moves with the frames."""
    width, height = size
    x = np.arange(width)[None].repeat(height, 0) - 2 * index
    top = 2**depth - 1
    return np.clip(np.rint((x - 12) / 16 * top), 0, top).astype(np.uint8 if depth == 8 else np.uint16)


def drawing(pix_fmt: str, size: tuple[int, int] = SIZE) -> Callable[[int], av.VideoFrame]:
    """The usual picture with the matte, in a planar format, packed where the one wanted is packed."""
    layout = PlaneLayout.parse(pix_fmt) or PlaneLayout("rgb", alpha=True)

    def draw(k: int) -> av.VideoFrame:
        planes = [*picture(layout, size, k)[:-1], matte(k, size, layout.depth)]
        return to_frame(planes, layout.pix_fmt, size)

    return draw


def clip_of(path: Path, codec: str, pix_fmt: str, size: tuple[int, int] = SIZE, **more: Any) -> Path:
    return make_clip(path, codec=codec, pix_fmt=pix_fmt, size=size, frames=FRAMES, draw=drawing(pix_fmt, size), **more)


def mattes(path: Path) -> list[NDArray[Any]]:
    """The alpha planes of a file, as they are decoded."""
    with Source(str(path)) as source:
        assert source.info.layout.alpha
        return [np.array(frame.planes[-1]) for frame in source.frames()]


def enlarged(path: Path, scale: int = 2, depths: tuple[int, int] = (8, 8)) -> list[NDArray[Any]]:
    """What the alpha of a file is to become, by the module that other tests judge."""
    planes = [torch.from_numpy(plane)[None] for plane in mattes(path)]
    height, width = planes[0].shape[1:]
    module = EnlargeAlpha((width, height), (scale * width, scale * height), depths)
    return [module(plane)[0].numpy() for plane in planes]


def options(source: Path, target: Path, **more: Any) -> Options:
    return Options(str(source), str(target), **{"device": DeviceOptions("cpu", threads=1), **more})


# The plane


def noise(depth: int, frames: int = 3, width: int = 11, height: int = 7) -> Tensor:
    rng = np.random.default_rng(1)
    dtype = np.uint8 if depth == 8 else np.uint16
    return torch.from_numpy(rng.integers(0, 2**depth, (frames, height, width)).astype(dtype))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("depth", [8, 10, 16])
def test_bicubic_as_torch_does_it_for_pictures(scale: int, depth: int) -> None:
    """Antialiased, torch has the same kernel, and leaves out at the edge what is replicated here."""
    plane = noise(depth)
    ours = EnlargeAlpha((11, 7), (11 * scale, 7 * scale), (depth, depth))(plane).double()
    x = F.pad(plane.double()[:, None], (4, 4, 4, 4), mode="replicate")
    theirs = F.interpolate(x, scale_factor=float(scale), mode="bicubic", antialias=True, align_corners=False)
    edge = 4 * scale
    theirs = theirs[:, 0, edge:-edge, edge:-edge].clamp(0, 2**depth - 1)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 0.5 + 2**depth * 1e-6


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("depths", [(8, 8), (8, 10), (10, 8), (12, 16), (16, 10)])
def test_even_planes_stay_even_to_the_code(scale: int, depths: tuple[int, int]) -> None:
    tops = [2**depth - 1 for depth in depths]
    module = EnlargeAlpha((5, 4), (5 * scale, 4 * scale), depths)
    for code in (0, tops[0]):
        plane = torch.full((2, 4, 5), code, dtype=torch.int32).to(torch.uint8 if depths[0] == 8 else torch.uint16)
        large = module(plane)
        assert large.shape == (2, 4 * scale, 5 * scale)
        assert large.dtype == (torch.uint8 if depths[1] == 8 else torch.uint16)
        assert (large.int() == code * tops[1] // tops[0]).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_shape_keeps_its_inside_and_its_outside(scale: int) -> None:
    plane = torch.zeros((1, 16, 16), dtype=torch.uint8)
    plane[:, 5:12, 4:11] = 255
    large = EnlargeAlpha((16, 16), (16 * scale, 16 * scale), (8, 8))(plane)[0]
    assert (large[7 * scale : 10 * scale, 6 * scale : 9 * scale] == 255).all()
    assert (large[: 3 * scale] == 0).all() and (large[:, 13 * scale :] == 0).all()
    assert large[5 * scale].unique().numel() > 2
    half = int((large.int() >= 128).sum())
    assert abs(half - 7 * 7 * scale * scale) <= 4 * scale, "but for the corners, which are rounded"


def test_without_enlargement_the_plane_comes_back() -> None:
    for depth in (8, 12):
        plane = noise(depth)
        assert torch.equal(EnlargeAlpha((11, 7), (11, 7), (depth, depth))(plane).int(), plane.int())
    wider = EnlargeAlpha((11, 7), (11, 7), (8, 10))(noise(8)).double()
    assert (wider - noise(8).double() * 1023 / 255).abs().max() <= 0.5


def test_half_precision_of_the_module_changes_nothing() -> None:
    plane = noise(16)
    module = EnlargeAlpha((11, 7), (33, 21), (16, 16))
    expected = module(plane)
    assert torch.equal(module.half()(plane).int(), expected.int())


# The module and the engine


def test_alpha_goes_past_the_network() -> None:
    class Black(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(F.interpolate(x, scale_factor=2.0))

    net = FrameNet(Black(), source=(YUVA, SPEC), target=(YUVA, SPEC), width=11, height=7, colors=3, scale=2)
    alpha = noise(8)
    chroma = noise(8, width=6, height=4)
    y, _, _, large, flag = net(noise(8), chroma, chroma, alpha)
    assert (y == 16).all() and not flag
    assert torch.equal(large, EnlargeAlpha((11, 7), (22, 14), (8, 8))(alpha))


@pytest.mark.parametrize(
    ("source", "target"), [("yuv420p", "yuva444p10le"), ("yuv420p10le", "gbrap"), ("gray", "gbrap")]
)
def test_a_target_with_alpha_is_opaque_where_the_source_has_none(source: str, target: str) -> None:
    layouts = [PlaneLayout.parse(name) for name in (source, target)]
    assert layouts[0] is not None and layouts[1] is not None
    net = FrameNet(
        nn.Identity(), source=(layouts[0], SPEC), target=(layouts[1], SPEC), width=11, height=7, colors=3, scale=1
    )
    dtype = torch.uint8 if layouts[0].depth == 8 else torch.uint16
    *planes, _ = net(*(torch.zeros((2, *shape), dtype=dtype) for shape in layouts[0].shapes(11, 7)))
    assert [tuple(p.shape) for p in planes] == [(2, *shape) for shape in layouts[1].shapes(11, 7)]
    assert (planes[-1].int() == 2 ** layouts[1].depth - 1).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_the_torch_engine_carries_alpha(batch: int) -> None:
    size = (12, 10)
    deep = PlaneLayout("yuv", 10, 1, 1, alpha=True)
    net = FrameNet(nn.Identity(), source=(deep, SPEC), target=(deep, SPEC), width=12, height=10, colors=3, scale=1)
    engine = TorchEngine(net, deep, size, deep, 1, torch.device("cpu"), batch=batch, threads=1)
    frames = []
    for k in range(7):
        planes = [*picture(deep, size, k)[:-1], matte(k, size, 10)]
        frames.append(Frame(tuple(torch.from_numpy(p) for p in planes), k, 1, k))
    try:
        done = []
        for first in range(0, 7, batch):
            done += engine.result(engine.submit(FrameBatch(tuple(frames[first : first + batch])))).frames
    finally:
        engine.close()
    assert len(done) == 7
    for before, after in zip(frames, done, strict=True):
        assert all(torch.equal(a.int(), b.int()) for a, b in zip(before.planes, after.planes, strict=True))


# Decoding


def test_vp9_is_decoded_with_its_alpha(tmp_path: Path) -> None:
    needs_encoder("libvpx-vp9")
    clip = clip_of(tmp_path / "in.webm", "libvpx-vp9", "yuva420p", options={"crf": "4", "b": "0"})
    info = probe(str(clip))
    assert (info.alpha, info.layout, info.pix_fmt, info.codec) == (True, YUVA, "yuva420p", "vp9")
    assert "alpha_mode" not in info.stream_tags
    for k, plane in enumerate(mattes(clip)):
        assert np.abs(plane.astype(int) - matte(k)).mean() < 1.5


def test_what_the_container_says_of_all_frames_is_heard(tmp_path: Path) -> None:
    """libvpx alone knows neither the primaries nor the rotation of a Matroska file."""
    turned = tmp_path / "in.mkv"
    with av.open(str(turned), "w") as output:
        stream: Any = output.add_stream("libvpx-vp9", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuva420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 14, 2
        stream.set_display_rotation(90)
        for k in range(2):
            frame = drawing("yuva420p")(k)
            frame.pts = k
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    info = probe(str(turned))
    assert info.alpha and info.display_matrix is not None
    assert (info.color.tags.matrix, info.color.tags.primaries, info.color.tags.transfer) == (9, 9, 14)
    assert info.color.full_range


def test_a_part_that_is_sought(tmp_path: Path) -> None:
    size = (32, 16)
    clip = make_clip(
        tmp_path / "in.webm",
        codec="libvpx-vp9",
        pix_fmt="yuva420p",
        size=size,
        frames=40,
        rate=2,
        draw=drawing("yuva420p", size),
        options={"g": "4", "crf": "10", "b": "0"},
    )
    whole = mattes(clip)
    with Source(str(clip), start=Fraction(15), duration=Fraction(2)) as source:
        frames = list(source.frames())
        assert [f.pts for f in frames] == [15000, 15500, 16000, 16500]
        assert all(np.array_equal(f.planes[3], whole[30 + k]) for k, f in enumerate(frames))


def test_vp9_without_the_decoder_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clip_of(tmp_path / "in.webm", "libvpx-vp9", "yuva420p")
    monkeypatch.setattr(alpha_module, "_DECODERS", {"vp9": "nothing"})
    info = probe(str(clip))
    assert (info.alpha, info.layout.alpha, info.pix_fmt) == (True, False, "yuv420p")
    heard = Listener()
    upscale(options(clip, tmp_path / "out.webm"), heard)
    assert heard.notices == ["transparency is left out: this FFmpeg has no decoder for that of vp9"]


def test_a_clip_that_is_marked_but_not_transparent() -> None:
    """Browsers mark all that they record."""
    info = probe(str(shared("odd/vfr_webm_rtc.webm")))
    assert (info.alpha, info.pix_fmt) == (False, "yuv420p")
    assert probe(str(shared("odd/vp8_alpha_small.webm"))).alpha


def test_frames_that_come_and_go_without_alpha() -> None:
    opaque = to_frame(picture(PlaneLayout("yuv", 8, 1, 1), SIZE, 0), "yuv420p", SIZE)
    clear = drawing("yuva420p")(0)

    class Context:
        def decode(self, packet: Any) -> list[av.VideoFrame]:
            return [packet]

    class Stream:
        def decode(self, packet: Any) -> list[av.VideoFrame]:
            return []

    first_clear = AlphaDecoder(cast("Any", Context()), cast("Any", Stream()))
    frames = [first_clear.decode(cast("Any", frame))[0] for frame in (clear, opaque, clear)]
    assert [f.format.name for f in frames] == ["yuva420p"] * 3
    assert set(bytes(frames[1].planes[3])[: SIZE[0]]) == {255}
    assert bytes(frames[1].planes[0]) == bytes(opaque.planes[0])
    assert first_clear.lost == 0
    first_opaque = AlphaDecoder(cast("Any", Context()), cast("Any", Stream()))
    frames = [first_opaque.decode(cast("Any", frame))[0] for frame in (opaque, clear, clear)]
    assert [f.format.name for f in frames] == ["yuv420p"] * 3
    assert bytes(frames[1].planes[0])[: SIZE[0]] == bytes(clear.planes[0])[: SIZE[0]]
    assert first_opaque.lost == 2


def test_a_palette_is_transparent_where_it_is_used() -> None:
    frame = av.VideoFrame(16, 16, "pal8")
    colours = np.zeros((256, 4), np.uint8)
    colours[:8, 3] = 255
    indices = np.zeros((16, frame.planes[0].line_size), np.uint8)
    frame.planes[1].update(colours.tobytes())
    frame.planes[0].update(indices.tobytes())
    assert not has_alpha(frame)
    indices[3, 5] = 9
    frame.planes[0].update(indices.tobytes())
    assert has_alpha(frame)


@pytest.mark.parametrize("pix_fmt", ["yuva420p", "yuva444p10le", "gbrap", "bgra"])
def test_alpha_can_be_deinterlaced(pix_fmt: str) -> None:
    frames = [drawing(pix_fmt)(k) for k in range(3)]
    frames = [f if f.format.name == pix_fmt else f.reformat(format=pix_fmt) for f in frames]
    out = list(Deinterlacer("on", "in.mkv", "rawvideo")([(f, k, 1) for k, f in enumerate(frames)]))
    assert [(f.format.name, pts) for f, pts, _ in out] == [(pix_fmt, k) for k in range(3)]


# Whole jobs


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("ffv1", "yuva420p", ".mkv"),
        ("ffv1", "yuva422p10le", ".mkv"),
        ("ffv1", "yuva444p16le", ".mkv"),
        ("ffv1", "gbrap12le", ".mkv"),
        ("ffv1", "bgra", ".mkv"),
        ("ffv1", "ya8", ".mkv"),
        ("png", "rgba", ".mov"),
        ("qtrle", "argb", ".mov"),
        ("rawvideo", "yuva444p10le", ".nut"),
        ("rawvideo", "gbrap", ".nut"),
    ],
)
@pytest.mark.parametrize("size", [SIZE, (33, 17)])
def test_lossless_all_the_way(tmp_path: Path, codec: str, pix_fmt: str, suffix: str, size: tuple[int, int]) -> None:
    clip = clip_of(tmp_path / f"in{suffix}", codec, pix_fmt, size)
    suffix = suffix if suffix == ".nut" else ".mkv"
    target = tmp_path / f"out{suffix}"
    chosen = EncodeOptions(codec=None if suffix == ".nut" else "ffv1")
    heard = Listener()
    upscale(options(clip, target, encode=chosen, streams=StreamOptions(strict=True)), heard)
    assert heard.notices == []
    depth = probe(str(clip)).layout.depth
    expected = enlarged(clip, depths=(depth, depth))
    assert all(np.array_equal(a, b) for a, b in zip(mattes(target), expected, strict=True))
    assert expected[0].min() == 0 and expected[0].max() == 2**depth - 1
    assert probe(str(target)).layout.depth == depth


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "source", "target", "expected"),
    [
        ("ffv1", "yuva420p", ".mkv", ".mkv", ("vp9", "yuva420p")),
        ("ffv1", "yuva420p", ".mkv", ".webm", ("vp9", "yuva420p")),
        ("libvpx-vp9", "yuva420p", ".webm", ".webm", ("vp9", "yuva420p")),
        ("libvpx-vp9", "yuva420p", ".webm", ".mov", ("prores", "yuva444p12le")),
        ("libvpx", "yuva420p", ".webm", ".webm", ("vp9", "yuva420p")),
        ("ffv1", "yuva420p10le", ".mkv", ".mkv", ("ffv1", "yuva420p10le")),
        ("ffv1", "yuva444p", ".mkv", ".mkv", ("ffv1", "yuva444p")),
        ("ffv1", "yuva444p", ".mkv", ".webm", ("vp9", "yuva420p")),
        ("png", "rgba", ".mov", ".mkv", ("ffv1", "bgra")),
        ("png", "rgba", ".mov", ".mov", ("prores", "yuva444p12le")),
        ("qtrle", "argb", ".mov", ".webm", ("vp9", "yuva420p")),
        ("prores_ks", "yuva444p10le", ".mov", ".mov", ("prores", "yuva444p12le")),
        ("prores_ks", "yuva444p10le", ".mov", ".mkv", ("ffv1", "yuva444p12le")),
        ("ffv1", "gbrap", ".mkv", ".nut", ("rawvideo", "gbrap")),
    ],
)
def test_what_is_chosen_keeps_it(
    tmp_path: Path, codec: str, pix_fmt: str, source: str, target: str, expected: tuple[str, str]
) -> None:
    pix_fmt = {("ffv1", "gbrap"): "bgra"}.get((codec, pix_fmt), pix_fmt)
    needs = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
    clip = clip_of(tmp_path / f"in{source}", codec, pix_fmt, options=needs)
    output = tmp_path / f"out{target}"
    heard = Listener()
    report = upscale(options(clip, output, streams=StreamOptions(strict=True)), heard)
    assert report.frames_out == FRAMES
    assert not any("transparency" in text for text in heard.notices)
    info = probe(str(output))
    assert (info.codec, info.pix_fmt, info.alpha) == (*expected, True)
    assert (info.width, info.height) == (2 * SIZE[0], 2 * SIZE[1])
    before, after = probe(str(clip)).layout.depth, info.layout.depth
    for plane, wanted in zip(mattes(output), enlarged(clip, depths=(before, after)), strict=True):
        error = np.abs(plane.astype(float) - wanted.astype(float)) / (2**after - 1)
        # ProRes holds ten of the twelve bits that are read.
        limit = {"vp9": 0.02, "prores": 1 / 1023, "ffv1": 0.0, "rawvideo": 0.0}[info.codec]
        assert error.mean() <= limit
        assert error[:, :8].max() <= limit and error[:, -8:].max() <= limit, "where it is clear or opaque"


@pytest.mark.parametrize(
    ("suffix", "chosen", "said"),
    [
        (".mp4", EncodeOptions(), "libx264 as yuv420p in mp4 keeps none; choose .mkv, .mov or .webm"),
        (".y4m", EncodeOptions(), "rawvideo as yuv420p in yuv4mpegpipe keeps none; choose .mkv, .mov or .webm"),
        (
            ".mkv",
            EncodeOptions(codec="libx264"),
            "libx264 as yuv420p in matroska keeps none; leave --codec and --pix-fmt out",
        ),
        (
            ".mp4",
            EncodeOptions(codec="libvpx-vp9"),
            "libvpx-vp9 as yuv420p in mp4 keeps none; choose .mkv, .mov or .webm",
        ),
        (
            ".mp4",
            EncodeOptions(codec="libvpx-vp9", pix_fmt="yuva420p"),
            "libvpx-vp9 as yuva420p in mp4 keeps none; choose .mkv, .mov or .webm",
        ),
        (
            ".webm",
            EncodeOptions(pix_fmt="yuv420p"),
            "libvpx-vp9 as yuv420p in webm keeps none; leave --codec and --pix-fmt out",
        ),
    ],
)
def test_where_it_cannot_be_kept_it_is_named(tmp_path: Path, suffix: str, chosen: EncodeOptions, said: str) -> None:
    clip = clip_of(tmp_path / "in.webm", "libvpx-vp9", "yuva420p")
    heard = Listener()
    upscale(options(clip, tmp_path / f"out{suffix}", encode=chosen), heard)
    assert heard.notices == [f"transparency is left out: {said}"]
    info = probe(str(tmp_path / f"out{suffix}"))
    assert not info.alpha
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert "alpha_mode" not in file.streams.video[0].metadata
    with pytest.raises(OutputError, match=r"^--strict: transparency is left out"):
        upscale(options(clip, tmp_path / f"no{suffix}", encode=chosen, streams=StreamOptions(strict=True)))
    assert not (tmp_path / f"no{suffix}").exists()


def test_vp8_takes_it_when_asked(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mkv", "ffv1", "yuva420p")
    upscale(options(clip, tmp_path / "out.webm", encode=EncodeOptions(codec="libvpx", options={"b": "2M"})))
    assert np.abs(mattes(tmp_path / "out.webm")[1].astype(int) - enlarged(clip)[1]).mean() < 4


@pytest.mark.parametrize(("suffix", "kept"), [(".mkv", True), (".mp4", False)])
def test_alpha_that_nobody_keeps_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kept: bool
) -> None:
    opened = []
    open_devices = prepare.open_devices

    def listening(choices: Any, task: Any, *rest: Any) -> Any:
        opened.append(task.source[0].alpha)
        return open_devices(choices, task, *rest)

    monkeypatch.setattr(prepare, "open_devices", listening)
    for codec, pix_fmt in (("ffv1", "yuva420p"), ("ffv1", "bgra")):
        clip = clip_of(tmp_path / f"{pix_fmt}.mkv", codec, pix_fmt)
        upscale(options(clip, tmp_path / f"out-{pix_fmt}{suffix}"))
    assert opened == [kept, kept]


def test_the_colours_are_those_without_alpha(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "in.mkv", "ffv1", "yuva420p")
    for name, pix_fmt in (("with", None), ("without", "yuv420p")):
        upscale(options(clip, tmp_path / f"{name}.mkv", encode=EncodeOptions(codec="ffv1", pix_fmt=pix_fmt)))
    with Source(str(tmp_path / "with.mkv")) as a, Source(str(tmp_path / "without.mkv")) as b:
        for one, other in zip(a.frames(), b.frames(), strict=True):
            assert (len(one.planes), len(other.planes)) == (4, 3)
            assert all(np.array_equal(x, y) for x, y in zip(one.planes, other.planes, strict=False))


def test_an_opaque_source_in_a_format_with_alpha(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", size=SIZE, frames=2)
    chosen = EncodeOptions(codec="ffv1", pix_fmt="yuva420p")
    heard = Listener()
    upscale(options(clip, tmp_path / "out.mkv", encode=chosen), heard)
    assert heard.notices == []
    assert all((plane == 255).all() for plane in mattes(tmp_path / "out.mkv"))


def test_an_alpha_format_that_libvpx_lists_and_does_not_open(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", size=SIZE, frames=2)
    with pytest.raises(UsageError, match=r"libvpx-vp9 takes only .*yuva420p"):
        upscale(options(clip, tmp_path / "out.webm", encode=EncodeOptions(pix_fmt="yuva444p")))


def test_a_real_clip_and_a_part_of_it(tmp_path: Path) -> None:
    clip = shared("odd/vp8_alpha_small.webm")
    target = tmp_path / "out.webm"
    heard = Listener()
    chosen = options(clip, target, start=Fraction(1), duration=Fraction(1, 10), model=ModelOptions(scale=2))
    upscale(chosen, heard)
    assert heard.notices == []
    before, after = probe(str(clip)), probe(str(target))
    assert (after.pix_fmt, after.width) == ("yuva420p", 2 * before.width)
    assert len({int(v) for v in mattes(target)[0].flat}) > 2
