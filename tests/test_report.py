import builtins
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rcan_video.errors import InputError, OutputError
from rcan_video.metrics import Pixels
from rcan_video.report import Crop, before_after, most_detailed, stacked, write_png
from rcan_video.resize import enlarge


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def holds(picture: Pixels, part: Pixels) -> bool:
    """Whether ``part`` is to be found in ``picture``, pixel for pixel."""
    height, width = part.shape[:2]
    corners = np.argwhere(np.all(picture == part[0, 0], axis=2))
    return any(np.array_equal(picture[y : y + height, x : x + width], part) for y, x in corners)


@pytest.mark.parametrize(("scale", "zoom"), [(1, 6), (2, 3), (3, 2), (4, 1), (8, 1)])
def test_both_crops_are_there_pixel_for_pixel(scale: int, zoom: int) -> None:
    source, result = noise(130, 160), noise(130 * scale, 160 * scale, seed=1)
    side = 480 // (scale * zoom)
    crop = Crop(3, 1, side, side)
    picture = before_after(source, result, crop)
    assert picture.dtype == np.uint8 and picture.ndim == 3
    here = np.s_[1 * scale : (1 + side) * scale, 3 * scale : (3 + side) * scale]
    for large in (enlarge(source, scale), result):
        assert holds(picture, large[here].repeat(zoom, 0).repeat(zoom, 1))


@pytest.mark.parametrize("crop", [Crop(0, 0, 20, 20), Crop(140, 70, 20, 20), Crop(1, 69, 20, 20), Crop(70, 2, 20, 20)])
def test_the_bicubic_crop_is_cut_from_the_whole_enlarged_frame(crop: Crop) -> None:
    source = noise(90, 160)
    whole = enlarge(source, 2)[crop.y * 2 : (crop.y + 20) * 2, crop.x * 2 : (crop.x + 20) * 2]
    assert holds(before_after(source, noise(180, 320, 1), crop), whole.repeat(12, 0).repeat(12, 1))


def test_other_kernels_have_panels_of_their_own() -> None:
    source, result = noise(60, 80), noise(120, 160, 1)
    picture = before_after(source, result, Crop(30, 20, 24, 24), kernels=("bicubic", "lanczos"))
    for kernel in ("bicubic", "lanczos"):
        assert holds(picture, enlarge(source, 2, kernel)[40:88, 60:108].repeat(10, 0).repeat(10, 1))
    assert stacked([picture, picture[:50, :90]]).shape == (picture.shape[0] + 50, picture.shape[1], 3)


def test_texture_is_more_detailed_than_one_edge() -> None:
    picture = np.full((60, 100, 3), 120, np.uint8)
    picture[:, :5] = 0
    picture[20:40, 60:80] = 110 + noise(20, 20) // 12
    crop = most_detailed(picture, 24, 24)
    assert crop.x >= 50


def test_the_most_detailed_part_is_found() -> None:
    picture = np.full((60, 100, 3), 128, np.uint8)
    picture[20:40, 70:90] = noise(20, 20)
    crop = most_detailed(picture, 22, 22)
    assert (crop.width, crop.height) == (22, 22)
    assert crop.x <= 70 and crop.x + 22 >= 90 and crop.y <= 20 and crop.y + 22 >= 40
    assert most_detailed(picture, 100, 60) == Crop(0, 0, 100, 60)
    assert most_detailed(np.zeros((9, 9, 3), np.uint8), 4, 4) == Crop(0, 0, 4, 4)


def test_without_a_crop_the_most_detailed_part_is_shown() -> None:
    source, result = np.full((120, 200, 3), 90, np.uint8), np.full((240, 400, 3), 90, np.uint8)
    source[30:60, 150:180] = noise(30, 30)
    result[60:120, 300:360] = noise(60, 60, seed=1)
    assert holds(before_after(source, result), result[60:120, 300:360].repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 40), (300, 8), (31, 17), (400, 700)])
def test_any_size_can_be_drawn(height: int, width: int) -> None:
    picture = before_after(noise(height, width), noise(height * 2, width * 2))
    assert min(picture.shape[:2]) > 100
    assert max(picture.shape[:2]) < 1700


def test_arguments_are_left_alone() -> None:
    source, result = noise(30, 40), noise(60, 80)
    source.setflags(write=False)
    result.setflags(write=False)
    assert np.array_equal(before_after(source, result), before_after(source, result))


@pytest.mark.parametrize("shape", [(60, 81, 3), (61, 80, 3), (60, 120, 3), (15, 20, 3)])
def test_sizes_that_do_not_belong_together(shape: tuple[int, int, int]) -> None:
    with pytest.raises(
        InputError, match=f"a result of {shape[1]}x{shape[0]} is no whole multiple of its source of 40x30"
    ):
        before_after(noise(30, 40), np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "crop", [Crop(-1, 0, 5, 5), Crop(36, 0, 5, 5), Crop(0, 26, 5, 5), Crop(0, 0, 0, 5), Crop(9, 9, 5, -1)]
)
def test_a_crop_outside(crop: Crop) -> None:
    with pytest.raises(InputError, match="is not inside the frame of 40x30"):
        before_after(noise(30, 40), noise(60, 80), crop)


def test_png_comes_back_as_it_was(tmp_path: Path) -> None:
    path, picture = tmp_path / "bild ä.png", noise(20, 30)
    write_png(path, picture)
    back = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(back[..., ::-1], picture)


def test_png_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "picture.png"
    with pytest.raises(OutputError, match=r"picture\.png: cannot be written \(No such file or directory\)"):
        write_png(path, noise(2, 2))


def test_opencv_without_its_system_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    really_import = builtins.__import__

    def without_cv2(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
        return really_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setattr(builtins, "__import__", without_cv2)
    with pytest.raises(OutputError, match=r"OpenCV does not load \(libGL\.so\.1: .*\); install the system libraries"):
        before_after(noise(4, 4), noise(8, 8))
