import math
from collections.abc import Callable

import numpy as np
import pytest
from train_helpers import texture

from rcan_video.metrics import Meter, Pixels, Score, luma_bt601, mean_score, psnr, psnr_rgb, psnr_y, sharpness, ssim


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


def pair(number: int) -> tuple[Pixels, Pixels]:
    """Two pictures of odd sizes, near and far, dark and bright: for figures that another program computed."""
    rng = np.random.default_rng(number)
    picture = texture(number, 64)[: 40 + 3 * number, : 64 - 5 * number]
    noisy = picture * (1 - 0.2 * number) + rng.normal(3 * number, 2 + 10 * number, picture.shape)
    return picture, noisy.clip(0, 255).astype(np.uint8)


REFERENCE = {  # of scikit-image 0.26.0: the mean over the channels, and the first channel alone
    0: (0.9983476, 0.997969),
    1: (0.9115459, 0.9039399),
    2: (0.5297302, 0.4238558),
    3: (0.3247537, 0.3288428),
}


@pytest.mark.parametrize("number", range(4))
def test_ssim_is_that_of_scikit_image(number: int) -> None:
    a, b = pair(number)
    assert (ssim(a, b), ssim(a[..., 0], b[..., 0])) == pytest.approx(REFERENCE[number], abs=1e-4)


@pytest.mark.parametrize("number", range(4))
def test_ssim_agrees_with_scikit_image_here(number: int) -> None:
    """Live, on luma, which is not whole numbers; with the settings that its documentation gives for Wang et al."""
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed (extra 'reference')")
    a, b = map(luma_bt601, pair(number))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    wanted = metrics.structural_similarity(a, b, data_range=255, **settings)
    assert ssim(a, b) == pytest.approx(wanted, abs=1e-6)


def test_ssim_of_flat_pictures_by_hand() -> None:
    """Without variance the first factor alone is left: (2 x y + C1) / (x² + y² + C1), also at the ends of the range."""
    for x, y in ((0, 0), (0, 255), (255, 255), (100, 110)):
        a, b = np.full((11, 12), x, np.uint8), np.full((11, 12), y, np.uint8)
        c1 = (0.01 * 255) ** 2
        assert ssim(a, b) == pytest.approx((2 * x * y + c1) / (x * x + y * y + c1), abs=1e-6)
    assert ssim(a / 255, b / 255, peak=1.0) == pytest.approx(ssim(a, b), abs=1e-5)


@pytest.mark.parametrize("shape", [(10, 30), (30, 10, 3), (30,)])
def test_ssim_refuses_what_holds_no_window(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected two pictures of one size, 11 or more"):
        ssim(np.zeros(shape), np.zeros(shape))
    with pytest.raises(ValueError, match="expected two pictures"):
        ssim(np.zeros((20, 20)), np.zeros((20, 21)))


def test_a_meter_scores_frames_as_the_functions_do() -> None:
    hr, sr = texture(0, 30), texture(1, 30)
    score = Meter(shave=3)(hr, sr)
    inner = np.s_[3:-3, 3:-3]
    assert score.psnr_y == psnr_y(hr, sr, 3) and score.psnr_rgb == psnr_rgb(hr, sr, 3)
    assert score.ssim_y == ssim(luma_bt601(hr)[inner], luma_bt601(sr)[inner])
    assert score.ssim_rgb == ssim(hr[inner], sr[inner]) and score.temporal is None


def test_temporal_error_is_of_changes_not_of_pictures() -> None:
    hr = [np.full((20, 20, 3), value, np.uint8) for value in (100, 120, 90)]
    gray = (65.481 + 128.553 + 24.966) / 255  # luma of one step of gray
    steady, flickering = Meter(2), Meter(2)
    assert [steady(frame, frame + 9).temporal for frame in hr] == [None, *[pytest.approx(0.0, abs=1e-9)] * 2]
    found = [flickering(frame, frame + np.uint8(4 * (k % 2))).temporal for k, frame in enumerate(hr)]
    assert found == [None, pytest.approx(4 * gray), pytest.approx(4 * gray)]


def test_the_mean_of_scores_is_that_of_decibels() -> None:
    scores = [Score(30.0, 0.5, 20.0, 0.25), Score(40.0, 0.7, 22.0, 0.75, 1.5), Score(50.0, 0.9, 24.0, 0.5, 2.5)]
    assert mean_score(scores) == Score(40.0, pytest.approx(0.7), 22.0, 0.5, 2.0)
    assert mean_score(scores[:1]) == scores[0]


def test_sharpness_is_that_of_a_known_ramp() -> None:
    y, x = np.mgrid[:20, :30].astype(float)
    assert sharpness(3 * x + 4 * y) == pytest.approx(5)
    assert sharpness(np.full((4, 4), 7.0)) == 0
