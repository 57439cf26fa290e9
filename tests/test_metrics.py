import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rcan_video.metrics import Pixels, luma_bt601, psnr, psnr_rgb, psnr_y
from rcan_video.resize import enlarge

SET5 = Path(__file__).parents[2] / "shared/data/sr/Set5"
needs_set5 = pytest.mark.skipif(not SET5.is_dir(), reason="the Set5 pictures are not here (../shared/data/sr/Set5)")


def read(path: Path) -> Pixels:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def names(scale: int) -> list[str]:
    found = sorted(path.name for path in (SET5 / f"HR/x{scale}").glob("*.png"))
    assert len(found) == 5
    return found


def published(method: str) -> dict[tuple[int, str], float]:
    """(scale, picture) -> dB from the results file, where the picture "Mean" is the mean."""
    figures, current = {}, ""
    for line in (SET5 / "PSNR_SSIM_Results_BI_model.txt").read_text().splitlines():
        words = line.replace(";", " ").split()
        if line.startswith("Method"):
            current = words[1]
        elif current == method and "PSNR=" in words:
            scale = int(words[0].strip("x:"))
            name = "Mean" if words[1] == "PSNR=" else words[2].split("_")[0]
            figures[scale, name] = float(words[words.index("PSNR=") + 1])
    return figures


@needs_set5
@pytest.mark.parametrize("method", ["RCAN", "RCANplus"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_psnr_y_gives_the_published_figures(method: str, scale: int) -> None:
    wanted = published(method)
    got = {}
    for name in names(scale):
        hr, sr = read(SET5 / f"HR/x{scale}" / name), read(SET5 / f"SR_{method}/x{scale}" / name)
        got[scale, name.removesuffix(".png")] = psnr_y(hr, sr, scale)
    got[scale, "Mean"] = float(np.mean(list(got.values())))
    assert got == {key: pytest.approx(value, abs=1e-5) for key, value in wanted.items() if key[0] == scale}


@needs_set5
@pytest.mark.parametrize(("scale", "decibels"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_scores_what_papers_give_for_it(scale: int, decibels: float) -> None:
    """Papers enlarge the luma alone, unrounded: 0.01 to 0.02 dB below what 8-bit RGB gives. a = -0.75 is 0.2 above."""
    scores = [
        psnr_y(read(SET5 / f"HR/x{scale}" / n), enlarge(read(SET5 / f"LRBI/x{scale}" / n), scale), scale)
        for n in names(scale)
    ]
    assert np.mean(scores) == pytest.approx(decibels, abs=0.02)


def test_luma_is_that_of_matlab() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma_bt601(colours) == pytest.approx(np.array([[16.0, 235.0, 81.481, 144.553, 40.966]]), abs=1e-9)


@pytest.mark.parametrize("picture", [np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8)])
def test_luma_refuses_what_is_no_8_bit_rgb(picture: Pixels) -> None:
    with pytest.raises(ValueError, match="expected uint8 RGB"):
        luma_bt601(picture)


def test_psnr_by_hand() -> None:
    a, b = np.zeros((4, 4), np.uint8), np.full((4, 4), 5, np.uint8)
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 25))
    assert psnr(b, a) == psnr(a, b)  # unsigned bytes must not wrap around
    assert psnr(a / 255, b / 255, peak=1.0) == pytest.approx(psnr(a, b))
    assert psnr(a, a) == math.inf


def test_psnr_refuses_other_sizes_and_emptiness() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\) and \(4, 1\)"):
        psnr(np.zeros((4, 4)), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="expected two pictures"):
        psnr(np.zeros((0, 4)), np.zeros((0, 4)))


@pytest.mark.parametrize("measure", [psnr_y, psnr_rgb])
def test_the_border_does_not_count(measure: Callable[[Pixels, Pixels, int], float]) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    sr = hr.copy()
    sr[:2] ^= 255
    sr[-2:] ^= 255
    sr[:, :2] ^= 255
    sr[:, -2:] ^= 255
    assert measure(hr, sr, 2) == math.inf
    assert measure(hr, sr, 1) < 20
    with pytest.raises(ValueError, match="cannot cut 5 pixels off each side of a picture of 10x12"):
        measure(hr, sr, 5)


def test_psnr_rgb_counts_every_channel() -> None:
    hr, sr = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    sr[..., 2] = 30
    assert psnr_rgb(hr, sr, 2) == pytest.approx(10 * math.log10(255**2 / (900 / 3)))


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
