"""Pictures made smaller and larger: MATLAB's ways, bit for bit where there are published pictures."""

import math

import numpy as np
import pytest
from clips import shared
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from train_helpers import texture

from rcan_video.metrics import Pixels, psnr_y
from rcan_video.pictures import read_picture
from rcan_video.resize import KERNELS, enlarge, reduce, resize


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_reduction_is_the_published_one_bit_for_bit(scale: int) -> None:
    """Set5: the high- and low-resolution pictures that every paper measures with."""
    small = sorted(shared(f"sr/Set5/LRBI/x{scale}").glob("*.png"))
    assert len(small) == 5
    for path in small:
        hr = read_picture(shared(f"sr/Set5/HR/x{scale}/{path.name}"))
        assert np.array_equal(reduce(hr, scale), read_picture(path)), path.name


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_reduction_keeps_what_is_flat_and_where_things_are(kernel: str, scale: int) -> None:
    flat = np.full((5 * scale + scale - 1, 4 * scale, 3), 77, np.uint8)
    assert np.array_equal(reduce(flat, scale, kernel), np.full((5, 4, 3), 77))
    ramp = np.broadcast_to(np.arange(8 * scale, dtype=np.uint8)[:, None, None], (8 * scale, scale, 3))
    inner = slice(3, 5)  # far from the edges
    centres = scale * np.arange(8) + (scale - 1) / 2
    assert np.abs(reduce(np.ascontiguousarray(ramp), scale, kernel)[inner, 0, 0] - centres[inner]).max() <= 0.5


def test_area_is_the_mean_of_the_pixels() -> None:
    picture = texture(0, 12)
    columns = np.floor(picture.reshape(4, 3, 12, 3).mean(1) + 0.5)
    assert np.array_equal(reduce(picture, 3, "area"), np.floor(columns.reshape(4, 4, 3, 3).mean(2) + 0.5))


@pytest.mark.parametrize("picture", [np.zeros((1, 9, 3), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8)])
def test_what_cannot_be_reduced(picture: Pixels) -> None:
    with pytest.raises(ValueError, match="cannot reduce"):
        reduce(picture, 2)


@pytest.mark.parametrize(("scale", "decibels"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_scores_what_papers_give_for_it(scale: int, decibels: float) -> None:
    """Papers enlarge the luma alone, unrounded: 0.01 to 0.02 dB below what 8-bit RGB gives. a = -0.75 is 0.2 above."""
    small = sorted(shared(f"sr/Set5/LRBI/x{scale}").glob("*.png"))
    hr = [read_picture(shared(f"sr/Set5/HR/x{scale}/{path.name}")) for path in small]
    scores = [psnr_y(h, enlarge(read_picture(path), scale), scale) for h, path in zip(hr, small, strict=True)]
    assert len(scores) == 5 and np.mean(scores) == pytest.approx(decibels, abs=0.02)


def test_bicubic_of_a_single_pixel_is_the_kernel_of_keys() -> None:
    """Keys' a = -0.5 at the distances 0.25, 0.75, 1.25 and 1.75 is 111, 29, -9 and -3 of 128."""
    row = np.full((1, 9), 100, np.uint8)
    row[0, 4] = 228
    kernel = [0, -3, -9, 29, 111, 111, 29, -9, -3, 0]
    for picture, line in ((row, np.s_[0]), (row.T, np.s_[:, 0])):
        assert enlarge(picture, 2)[line][4:14].tolist() == [100 + k for k in kernel]


def test_bicubic_rounds_halves_up() -> None:
    # 29 of 128 of 64 is 14.5.
    assert enlarge(np.array([[0, 0, 64, 0, 0]], np.uint8), 2)[0, 3] == 15


pictures = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=7))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(picture=pictures, scale=st.integers(1, 5))
def test_bicubic_commutes_with_mirroring_and_knows_no_channels(picture: Pixels, scale: int) -> None:
    large = enlarge(picture, scale)
    height, width, channels = picture.shape
    assert large.shape == (height * scale, width * scale, channels)
    assert np.array_equal(enlarge(picture[::-1, ::-1], scale), large[::-1, ::-1])
    assert np.array_equal(enlarge(picture[..., 0], scale), large[..., 0])
    if scale == 1:
        assert np.array_equal(large, picture)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(value=st.integers(0, 255), scale=st.integers(1, 8))
def test_bicubic_keeps_a_plain_picture(value: int, scale: int) -> None:
    assert np.all(enlarge(np.full((3, 5), value, np.uint8), scale) == value)


def test_bicubic_refuses_what_it_cannot_enlarge() -> None:
    with pytest.raises(ValueError, match="got float64 and 2"):
        enlarge(np.zeros((2, 2)), 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got uint8 and 0"):
        enlarge(np.zeros((2, 2), np.uint8), 0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_enlarging_keeps_what_is_flat_and_where_things_are(kernel: str, scale: int) -> None:
    assert np.all(enlarge(np.full((3, 5, 3), 77, np.uint8), scale, kernel) == 77)
    ramp = np.arange(20, 220, 10, dtype=np.uint8)[None]  # between its samples it goes on in a line, inside
    large = enlarge(ramp, scale, kernel)[0].astype(float)
    line = 20 + 10 * ((np.arange(len(large)) + 0.5) / scale - 0.5)
    inner = slice(4 * scale, -4 * scale)
    least = {"area": 10 / 2, "lanczos": 1.0}  # steps; a sinc that is cut off does not keep a ramp exactly
    assert np.abs(large - line)[inner].max() <= least.get(kernel, 0.5)


def test_lanczos_of_a_single_pixel_is_the_windowed_sinc() -> None:
    row = np.full((1, 15), 50, np.uint8)
    row[0, 7] = 250

    def weight(x: float) -> float:
        return math.sin(math.pi * x) * math.sin(math.pi * x / 3) * 3 / (math.pi * x) ** 2

    distances = [k + 0.25 for k in range(-3, 3)]  # of the inputs that an output a quarter to the left sees
    total = sum(map(weight, distances))
    wanted = [math.floor(50 + 200 * weight(x) / total + 0.5) for x in distances]
    large = enlarge(row, 2, "lanczos")[0].tolist()
    assert large[10:22:2] == wanted[::-1]
    assert large == large[::-1]
    assert np.array_equal(enlarge(row.T, 2, "lanczos").T[0], large)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("length", [1, 7, 30, 45, 64, 90, 131])
def test_any_size_keeps_what_is_flat_and_where_things_are(kernel: str, length: int) -> None:
    assert np.all(resize(np.full((9, 60, 3), 77, np.uint8), length, 5, kernel) == 77)
    ramp = np.arange(10, 250, 4, dtype=np.uint8)[None]
    row = resize(ramp, length, 1, kernel)[0].astype(float)
    line = 10 + 4 * ((np.arange(length) + 0.5) * 60 / length - 0.5)
    inner = slice(round(length * 0.1), round(length * 0.9))
    least = {"area": 4 / 2 + 0.5, "lanczos": 1.0}
    assert np.abs(row - line)[inner].max(initial=0) <= least.get(kernel, 0.5)


def test_any_size_is_the_reduction_and_the_enlargement_of_whole_factors() -> None:
    picture = texture(1, 24)
    assert np.array_equal(resize(picture, 8, 8), reduce(picture, 3))
    assert np.array_equal(resize(picture, 48, 48, "lanczos"), enlarge(picture, 2, "lanczos"))
    with pytest.raises(ValueError, match="cannot bring uint8"):
        resize(picture, 0, 5)
