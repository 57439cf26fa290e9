"""Planes to RGB and back: against a float64 reference written from the formulas, against swscale, and with itself."""

from __future__ import annotations

import io
from itertools import product

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rcan_video.color import PlanesToRgb, RgbToPlanes
from rcan_video.frames import LUMA_WEIGHTS, ColorSpec, PlaneLayout, Siting

Floats = NDArray[np.float64]

SITINGS: tuple[Siting, ...] = ("left", "center", "topleft", "top", "bottomleft", "bottom")
FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "gray", "gbrp")
DEPTHS = (8, 9, 10, 12, 14, 16)


def layout_of(name: str, depth: int = 8) -> PlaneLayout:
    layout = PlaneLayout.parse(name if depth == 8 else f"{name}{depth}le")
    assert layout is not None
    return layout


def noise(layout: PlaneLayout, width: int, height: int, seed: int = 0, frames: int = 1) -> list[torch.Tensor]:
    """Planes of any codes, legal or not."""
    random = np.random.default_rng(seed)
    dtype = np.uint8 if layout.depth == 8 else np.uint16
    shapes = layout.shapes(width, height)
    return [torch.from_numpy(random.integers(0, 2**layout.depth, (frames, *s)).astype(dtype)) for s in shapes]


def equal(ours: tuple[torch.Tensor, ...], theirs: list[torch.Tensor]) -> bool:
    return len(ours) == len(theirs) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)
    )


# --- the reference: one line at a time, one sample at a time ---


def at(line: Floats, i: int) -> float:
    """With replicated edges."""
    return float(line[min(max(i, 0), len(line) - 1)])


def line_up(c: Floats, size: int, where: str) -> Floats:
    full = []
    for i in range(len(c)):
        if where == "between":
            half = 22 / 128 * (at(c, i + 1) - at(c, i - 1)) - 3 / 128 * (at(c, i + 2) - at(c, i - 2))
            full += [c[i] - half, c[i] + half]
        elif where == "first":
            full += [c[i], (9 * (c[i] + at(c, i + 1)) - at(c, i - 1) - at(c, i + 2)) / 16]
        else:
            full += [(9 * (at(c, i - 1) + c[i]) - at(c, i - 2) - at(c, i + 1)) / 16, c[i]]
    return np.array(full[:size])


def line_down(f: Floats, where: str) -> Floats:
    size, n = len(f), -(-len(f) // 2)
    if size % 2 and where != "first":
        # The sample that the picture lacks: up must make the last that is there from the last chroma sample.
        known = (f[0:-1:2] + f[1::2]) / 2 if where == "between" else f[1::2]

        def last(c: float) -> float:
            return float(line_up(np.append(known, c), 2 * n, where)[size - 1])

        chroma = np.append(known, (f[-1] - last(0.0)) / (last(1.0) - last(0.0)))
        f = np.append(f, line_up(chroma, 2 * n, where)[-1])
    if where == "between":
        c = (f[0::2] + f[1::2]) / 2
        r = (f[1::2] - f[0::2] - line_up(c, 2 * n, where)[1::2] + line_up(c, 2 * n, where)[0::2]) / 2
        return np.array([c[i] + (at(r, i - 1) - at(r, i + 1)) / 8 for i in range(n)])
    if where == "first":
        c = f[0::2]
        r = f[1::2] - line_up(c, size, where)[1::2]
        return np.array([c[i] + (at(r, i - 1) + at(r, i)) / 4 if len(r) else c[i] for i in range(n)])
    return line_down(f[::-1], "first")[::-1]


def along(axis: int, plane: Floats, function: str, sizes: list[int], where: str) -> Floats:
    for size in sizes:
        if function == "up":
            plane = np.apply_along_axis(line_up, axis, plane, size, where)
        else:
            plane = np.apply_along_axis(line_down, axis, plane, where)
    return plane


def resample(plane: Floats, function: str, layout: PlaneLayout, siting: Siting, width: int, height: int) -> Floats:
    vertical = {"top": "first", "bot": "second"}.get(siting[:3], "between")
    horizontal = "first" if "left" in siting else "between"
    for axis, size, shift, where in ((1, width, layout.sub_w, horizontal), (0, height, layout.sub_h, vertical)):
        sizes = [-(-size >> k) for k in reversed(range(shift))]
        plane = along(axis, plane, function, sizes, where)
    return plane


def yuv_matrix(matrix: int) -> Floats:
    """Y, Cb, Cr of R, G, B."""
    kr, kb = LUMA_WEIGHTS[matrix]
    y = np.array([kr, 1 - kr - kb, kb])
    return np.array([y, (np.array([0, 0, 1]) - y) / (2 - 2 * kb), (np.array([1, 0, 0]) - y) / (2 - 2 * kr)])


def code_scale(layout: PlaneLayout, full: bool, chroma: bool) -> tuple[float, float]:
    """Zero and span of a component, in codes."""
    if full:
        return (2.0 ** (layout.depth - 1) if chroma else 0.0), 2.0**layout.depth - 1
    unit = 2.0**layout.depth / 256
    return (128 * unit, 224 * unit) if chroma else (16 * unit, 219 * unit)


def reference_rgb(planes: list[torch.Tensor], layout: PlaneLayout, color: ColorSpec) -> Floats:
    """(3, H, W)."""
    arrays = [plane[0].numpy().astype(np.float64) for plane in planes]
    height, width = arrays[0].shape
    zero, span = code_scale(layout, color.full_range, chroma=False)
    luma = [(a - zero) / span for a in arrays]
    if layout.family == "rgb":
        return np.stack([luma[2], luma[0], luma[1]])
    if layout.family == "gray":
        return np.stack([luma[0]] * 3)
    zero, span = code_scale(layout, color.full_range, chroma=True)
    chroma = [resample((a - zero) / span, "up", layout, color.siting, width, height) for a in arrays[1:]]
    return np.tensordot(np.linalg.inv(yuv_matrix(color.matrix)), np.stack([luma[0], *chroma]), 1)


def reference_planes(rgb: Floats, layout: PlaneLayout, color: ColorSpec) -> list[Floats]:
    """Codes, clamped and not rounded."""
    height, width = rgb.shape[1:]
    top = 2**layout.depth - 1
    zero, span = code_scale(layout, color.full_range, chroma=False)
    if layout.family == "rgb":
        return [np.clip(rgb[i] * span + zero, 0, top) for i in (1, 2, 0)]
    yuv = np.tensordot(yuv_matrix(color.matrix), rgb, 1)
    planes = [np.clip(yuv[0] * span + zero, 0, top)]
    if layout.family == "yuv":
        zero, span = code_scale(layout, color.full_range, chroma=True)
        for component in yuv[1:]:
            plane = resample(component, "down", layout, color.siting, width, height)
            planes.append(np.clip(plane * span + zero, 0, top))
    return planes


SIZES = ((1, 1), (2, 2), (3, 1), (1, 5), (5, 3), (7, 8), (13, 9), (16, 11))


@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize("name", FORMATS)
def test_both_ways_agree_with_the_reference(name: str, siting: Siting) -> None:
    for (width, height), depth, full, matrix in zip(
        SIZES, (8, 10, 12, 16) * 2, (False, True, True, False) * 2, (1, 9, 6, 7, 4, 5, 1, 9), strict=True
    ):
        layout, color = layout_of(name, depth), ColorSpec(matrix, full, siting)
        planes = noise(layout, width, height, seed=width)
        rgb = PlanesToRgb(layout, color, width, height)(*planes)
        assert rgb.dtype == torch.float32
        assert rgb.shape == (1, 3, height, width)
        np.testing.assert_allclose(rgb[0].numpy(), reference_rgb(planes, layout, color), atol=1e-5)

        # Other content than chroma up could have made, far beyond the legal range now and then.
        rgb = torch.from_numpy(np.random.default_rng(height).normal(0.5, 0.5, (1, 3, height, width))).float()
        ours = RgbToPlanes(layout, color, width, height)(rgb)
        theirs = reference_planes(rgb[0].double().numpy(), layout, color)
        for plane, codes in zip(ours, theirs, strict=True):
            # Rounded to the nearest, up to ties; float32 resolves 16 bits to a hundredth of a code.
            np.testing.assert_allclose(plane[0].numpy(), codes, atol=0.5 + 2**layout.depth * 4e-7, rtol=0)


# --- the round trip ---


@given(
    name=st.sampled_from(FORMATS),
    depth=st.sampled_from(DEPTHS),
    full=st.booleans(),
    matrix=st.sampled_from(sorted(LUMA_WEIGHTS)),
    siting=st.sampled_from(SITINGS),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, derandomize=True, max_examples=300)
def test_noise_comes_back_bit_for_bit(
    name: str, depth: int, full: bool, matrix: int, siting: Siting, width: int, height: int, seed: int
) -> None:
    layout, color = layout_of(name, depth), ColorSpec(matrix, full, siting)
    planes = noise(layout, width, height, seed, frames=2)
    rgb = PlanesToRgb(layout, color, width, height)(*planes)
    assert equal(RgbToPlanes(layout, color, width, height)(rgb), planes)


@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize("name", ("yuv420p", "yuv422p", "yuv410p"))
def test_the_smallest_sizes_come_back_bit_for_bit(name: str, siting: Siting) -> None:
    layout, color = layout_of(name, 10), ColorSpec(9, False, siting)
    for width, height in product(range(1, 8), repeat=2):
        planes = noise(layout, width, height)
        rgb = PlanesToRgb(layout, color, width, height)(*planes)
        assert equal(RgbToPlanes(layout, color, width, height)(rgb), planes), (width, height)


def test_the_memory_format_makes_no_difference() -> None:
    layout, color = layout_of("yuv420p"), ColorSpec(1, False, "left")
    rgb = torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(0))
    convert = RgbToPlanes(layout, color, 14, 10)
    assert equal(convert(rgb.contiguous(memory_format=torch.channels_last)), list(convert(rgb)))


# --- the filters' figures, as the documentation gives them ---


def responses(siting: Siting) -> tuple[Floats, Floats]:
    """Gain of up (halved: it doubles the samples) and of down at 257 frequencies from 0 to half the sampling rate.

    Read off impulses in the middle of a line through the public modules: 16 bits of Cr resolve 1.5e-5.
    """
    size, middle = 64, 16
    layout, color = layout_of("yuv422p", 16), ColorSpec(1, True, siting)
    planes = [torch.full((1, *s), 2**15, dtype=torch.int32).to(torch.uint16) for s in layout.shapes(size, 1)]
    flat = PlanesToRgb(layout, color, size, 1)(*planes)
    planes[2][0, 0, middle] = 2**16 - 1
    rise = (PlanesToRgb(layout, color, size, 1)(*planes) - flat)[0, 0, 0].double().numpy()
    rise /= rise.sum() / 2

    # Red alone, its luma taken back by green: R - Y = 0.5, the other colour difference and luma are 0.
    kr, kb = LUMA_WEIGHTS[1]
    rgb = torch.zeros(size, 3, 1, size)
    index = torch.arange(size)
    rgb[index, 0, 0, index], rgb[index, 1, 0, index] = 0.5, -0.5 * kr / (1 - kr - kb)
    codes = RgbToPlanes(layout, color, size, 1)(rgb)[2][:, 0, middle].double().numpy() - 2**15
    codes /= codes.sum()

    centre = 2 * middle + (0 if siting == "left" else 0.5)
    phases = np.exp(1j * np.outer(np.linspace(0, np.pi, 257), np.arange(size) - centre))
    up, down = phases @ rise / 2, phases @ codes
    assert np.abs(up.imag).max() < 1e-4, "up shifts the chroma"
    assert np.abs(down.imag).max() < 1e-4, "down shifts the chroma"
    return up.real, down.real


@pytest.mark.parametrize(
    ("siting", "up_gain", "down_gain", "at_quarter"), [("left", 1.0, 1.087, 0.5), ("center", 1.057, 1.0, 0.7071)]
)
def test_the_filters_are_low_passes_of_nearly_even_gain(
    siting: Siting, up_gain: float, down_gain: float, at_quarter: float
) -> None:
    up, down = responses(siting)
    assert up.max() == pytest.approx(up_gain, abs=1e-3)
    assert down.max() == pytest.approx(down_gain, abs=1e-3)
    assert up[128] == pytest.approx(at_quarter, abs=1e-3)
    assert up[:77].min() > 0.89  # up to 0.3 of the half rate
    assert np.abs(up[205:]).max() < 0.15  # images above 0.8
    assert down[:77].min() > 0.92
    assert np.abs(down[231:]).max() < 0.06  # aliases above 0.9
    # Biorthogonality: what makes down undo up on any content.
    assert up * down + up[::-1] * down[::-1] == pytest.approx(np.ones(257), abs=1e-3)


# --- swscale ---

EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
WIDTH, HEIGHT = 96, 80
COLORSPACES = {1: Colorspace.ITU709, 6: Colorspace.ITU601, 9: Colorspace.BT2020}
CHROMALOC = {"left": 0, "center": 1, "topleft": 2}


def picture(layout: PlaneLayout) -> list[NDArray[np.generic]]:
    """Detailed luma, chroma of 60 to 120 pixels a wave, all inside the RGB cube."""
    planes = []
    for i, (h, w) in enumerate(layout.shapes(WIDTH, HEIGHT)):
        y, x = np.mgrid[:h, :w] * np.array([HEIGHT / h, WIDTH / w]).reshape(2, 1, 1)
        if i == 0:
            value = 0.5 + 0.1 * np.sin(1.9 * x + 0.7 * y) + 0.08 * np.cos(0.02 * (x * x + y * y))
        else:
            value = 0.5 + 0.07 * np.sin(0.06 * x + 0.05 * i * y) + 0.04 * np.cos(0.09 * y - 0.04 * i * x)
        planes.append(np.round(value * (2**layout.depth - 1)).astype(np.uint8 if layout.depth == 8 else np.uint16))
    return planes


def frame_of(layout: PlaneLayout, planes: list[NDArray[np.generic]]) -> av.VideoFrame:
    frame = av.VideoFrame(WIDTH, HEIGHT, layout.pix_fmt)
    for target, plane in zip(frame.planes, planes, strict=True):
        padded = np.zeros((plane.shape[0], target.line_size // plane.itemsize), plane.dtype)
        padded[:, : plane.shape[1]] = plane
        target.update(padded.tobytes())
    return frame


def planes_of(frame: av.VideoFrame, layout: PlaneLayout) -> list[NDArray[np.generic]]:
    dtype = np.dtype(np.uint8 if layout.depth == 8 else np.uint16)
    return [
        np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)[:h, :w].copy()
        for plane, (h, w) in zip(frame.planes, layout.shapes(WIDTH, HEIGHT), strict=True)
    ]


def through_x264(frame: av.VideoFrame, siting: Siting) -> av.VideoFrame:
    """The same frame, lossless, with its siting tagged: only a decoder can tell swscale."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = frame.width, frame.height, frame.format.name
        video.options = {"qp": "0", "preset": "ultrafast", "x264-params": f"chromaloc={CHROMALOC[siting]}"}
        frame.pts = 0
        container.mux(video.encode(frame))
        container.mux(video.encode())
    stream.seek(0)
    with av.open(stream) as container:
        return next(container.decode(video=0))


def swscale(frame: av.VideoFrame, target: PlaneLayout, matrix: int, from_full: bool, to_full: bool) -> av.VideoFrame:
    ranges = {False: ColorRange.MPEG, True: ColorRange.JPEG}
    return VideoReformatter().reformat(
        frame,
        format=target.pix_fmt,
        src_colorspace=COLORSPACES[matrix],
        dst_colorspace=COLORSPACES[matrix],
        src_color_range=ranges[from_full],
        dst_color_range=ranges[to_full],
        interpolation=EXACT,
        threads=1,
    )


# x264 tags 4:2:0 only; a frame made by hand is centred for swscale.
CASES: list[tuple[str, Siting, bool]] = [
    ("yuv420p", "left", True),
    ("yuv420p", "center", True),
    ("yuv420p", "topleft", True),
    ("yuv422p", "left", True),
    ("yuv422p", "center", False),
    ("yuv444p", "left", False),
]


@pytest.mark.parametrize("matrix", COLORSPACES)
@pytest.mark.parametrize("full", (False, True), ids=("limited", "full"))
@pytest.mark.parametrize("depth", (8, 10))
@pytest.mark.parametrize(("name", "siting", "encoded"), CASES)
def test_swscale_sees_the_same_colours(
    name: str, siting: Siting, encoded: bool, depth: int, full: bool, matrix: int
) -> None:
    layout, color = layout_of(name, depth), ColorSpec(matrix, full, siting)
    rgb_layout = layout_of("gbrp", depth)
    # swscale has RGB white at 255 * 2^(depth - 8), FFmpeg's ticket 7978, but lets luma of full range through as it is.
    white = 255 * 2 ** (depth - 8)
    white_of_full = 2**depth - 1 if full else white
    planes = picture(layout)
    frame = frame_of(layout, planes)
    if encoded:
        frame = through_x264(frame, siting)
        assert all(np.array_equal(a, b) for a, b in zip(planes_of(frame, layout), planes, strict=True))

    rgb_frame = swscale(frame, rgb_layout, matrix, full, True)
    green, blue, red = (plane.astype(np.float64) for plane in planes_of(rgb_frame, rgb_layout))
    theirs = np.stack([red, green, blue])
    ours = (
        PlanesToRgb(layout, color, WIDTH, HEIGHT)(*(torch.from_numpy(p)[None] for p in planes))[0].numpy()
        * white_of_full
    )
    error = np.abs(np.floor(ours + 0.5) - theirs)
    assert error.mean() < 0.5, error.mean()
    assert error.max() <= 4, error.max()

    back = planes_of(swscale(rgb_frame, layout, matrix, True, full), layout)
    rgb = torch.from_numpy(theirs / white).float()[None]
    for i, (ours_back, theirs_back) in enumerate(
        zip(RgbToPlanes(layout, color, WIDTH, HEIGHT)(rgb), back, strict=True)
    ):
        difference = ours_back[0].numpy().astype(np.float64) - theirs_back
        # swscale makes full-range chroma half a code too small throughout.
        bias = 0.5 if full and i else 0.0
        assert abs(difference.mean() - bias) < 0.15, (i, difference.mean())
        assert np.abs(difference).mean() < 0.5 + bias / 2, (i, np.abs(difference).mean())


# --- what survives, and what leaves in another form ---


def test_super_white_and_impossible_colours_survive() -> None:
    layout, color = layout_of("yuv420p"), ColorSpec(1, False, "left")
    y, cb, cr = noise(layout, 8, 8)
    y.fill_(254), cb.fill_(240), cr.fill_(16)
    rgb = PlanesToRgb(layout, color, 8, 8)(y, cb, cr)
    assert rgb.max() > 1.5
    assert equal(RgbToPlanes(layout, color, 8, 8)(rgb), [y, cb, cr])


def test_only_the_code_range_clamps() -> None:
    layout = layout_of("gbrp", 10)
    rgb = torch.tensor([-0.7, 0.0, 1.8]).reshape(1, 3, 1, 1)
    for full, codes in ((False, [64, 1023, 0]), (True, [0, 1023, 0])):
        planes = RgbToPlanes(layout, ColorSpec(1, full, "left"), 1, 1)(rgb)
        assert [int(plane[0, 0, 0]) for plane in planes] == codes


def test_halves_round_up() -> None:
    rgb = (torch.tensor([0.49, 0.5, 0.51, 254.49, 254.5]) / 255).expand(1, 3, 1, 5)
    (plane,) = RgbToPlanes(layout_of("gray"), ColorSpec(1, True, "left"), 5, 1)(rgb)
    assert plane.flatten().tolist() == [0, 1, 1, 254, 255]


@pytest.mark.parametrize(
    ("depth", "full", "black", "white"),
    [(8, False, 16, 235), (10, False, 64, 940), (8, True, 0, 255), (16, True, 0, 65535)],
)
@pytest.mark.parametrize("name", FORMATS)
def test_black_and_white_have_their_codes(name: str, depth: int, full: bool, black: int, white: int) -> None:
    layout = layout_of(name, depth)
    rgb = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 5, 7)
    planes = RgbToPlanes(layout, ColorSpec(9, full, "left"), 7, 5)(rgb)
    assert [tuple(p.shape) for p in planes] == [(2, h, w) for h, w in layout.shapes(7, 5)]
    assert {p.dtype for p in planes} == {torch.uint8 if depth == 8 else torch.uint16}
    assert [plane.to(torch.int32).unique().tolist() for plane in planes] == (
        [[black, white]] + [[2 ** (depth - 1)]] * 2 if layout.family == "yuv" else [[black, white]] * len(planes)
    )


def test_gray_is_the_same_in_all_colours_and_luma_on_the_way_out() -> None:
    gray, color = layout_of("gray", 10), ColorSpec(1, False, "left")
    rgb = PlanesToRgb(gray, color, 6, 4)(*noise(gray, 6, 4))
    assert torch.equal(rgb[:, 0], rgb[:, 1])
    assert torch.equal(rgb[:, 0], rgb[:, 2])
    colour = layout_of("yuv444p", 10)
    planes = noise(colour, 6, 4)
    assert equal(RgbToPlanes(gray, color, 6, 4)(PlanesToRgb(colour, color, 6, 4)(*planes)), planes[:1])


def test_a_target_of_more_samples_and_bits_loses_nothing() -> None:
    small, large = layout_of("yuv420p", 8), layout_of("yuv444p", 16)
    source, target = ColorSpec(6, False, "left"), ColorSpec(9, True, "left")
    planes = noise(small, 15, 11)
    wide = RgbToPlanes(large, target, 15, 11)(PlanesToRgb(small, source, 15, 11)(*picture_within(planes)))
    back = RgbToPlanes(small, source, 15, 11)(PlanesToRgb(large, target, 15, 11)(*wide))
    assert equal(back, picture_within(planes))


def picture_within(planes: list[torch.Tensor]) -> list[torch.Tensor]:
    """The planes with a tenth of their contrast, so that no colour leaves the range of another matrix."""
    return [plane.div(10, rounding_mode="floor") + 115 for plane in planes]


# --- graphs ---


@pytest.mark.parametrize("siting", ("left", "bottom"))
@pytest.mark.parametrize("name", ("yuv420p", "yuv410p", "gray", "gbrp"))
def test_an_exported_graph_gives_the_same(name: str, siting: Siting) -> None:
    layout, color = layout_of(name, 10), ColorSpec(1, False, siting)
    planes, example = noise(layout, 9, 7), tuple(noise(layout, 9, 7, seed=1))
    to_rgb, to_planes = PlanesToRgb(layout, color, 9, 7), RgbToPlanes(layout, color, 9, 7)
    first = torch.export.export(to_rgb, example).module()
    second = torch.export.export(to_planes, (to_rgb(*example),)).module()
    assert equal(second(first(*planes)), planes)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("siting", ("left", "bottom"))
@pytest.mark.parametrize("name", ("yuv420p", "yuv410p", "gray", "gbrp"))
def test_a_trace_is_static_and_gives_the_same(name: str, siting: Siting) -> None:
    """A ``TracerWarning`` would say that a number was baked in that could change: tests take it for an error."""
    layout, color = layout_of(name, 10), ColorSpec(1, False, siting)
    planes, example = noise(layout, 9, 7), tuple(noise(layout, 9, 7, seed=1))
    to_rgb, to_planes = PlanesToRgb(layout, color, 9, 7), RgbToPlanes(layout, color, 9, 7)
    first = torch.jit.trace(to_rgb, example)
    second = torch.jit.trace(to_planes, (to_rgb(*example),))
    assert equal(tuple(second(first(*planes))), planes)
    nodes = {node.kind() for graph in (first, second) for node in graph.inlined_graph.nodes()}
    assert "aten::size" not in nodes
