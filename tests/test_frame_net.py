"""Planes in, planes out, with small doubles in the network's place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rcan_video.color import PlanesToRgb, RgbToPlanes
from rcan_video.errors import WeightsError
from rcan_video.frames import ColorSpec, PlaneLayout
from rcan_video.network.fold import FoldedRCAN
from rcan_video.network.frame_net import FrameNet
from rcan_video.network.rcan import RCAN, RCANConfig

LIMITED_709 = ColorSpec(1, False, "left")
FULL_2020 = ColorSpec(9, True, "topleft")


class Enlarge(nn.Module):
    """Nearest neighbour; remembers what it was given."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.given = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        self.given = x
        return F.interpolate(x, scale_factor=float(self.scale))


def layout_of(pix_fmt: str) -> PlaneLayout:
    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    return layout


def noise(layout: PlaneLayout, width: int, height: int, frames: int = 1) -> list[Tensor]:
    random = np.random.default_rng(0)
    dtype = np.uint8 if layout.depth == 8 else np.uint16
    shapes = layout.shapes(width, height)
    return [torch.from_numpy(random.integers(0, 2**layout.depth, (frames, *s)).astype(dtype)) for s in shapes]


@pytest.mark.parametrize("colors", (1, 3))
@pytest.mark.parametrize("pix_fmt", ("yuv420p", "yuv422p10le", "yuv410p", "gray", "gbrp12le"))
def test_without_enlargement_the_frame_comes_back_bit_for_bit(pix_fmt: str, colors: int) -> None:
    layout = layout_of(pix_fmt)
    source = (layout, LIMITED_709)
    net = FrameNet(nn.Identity(), source=source, target=source, width=9, height=7, colors=colors, scale=1)
    planes = noise(layout, 9, 7, frames=3)
    *ours, _ = net(*planes)
    assert all(torch.equal(a, b) for a, b in zip(ours, planes, strict=True))


@pytest.mark.parametrize("scale", (1, 2, 3, 4))
@pytest.mark.parametrize("colors", (1, 3))
@pytest.mark.parametrize(
    ("source", "target"), [("yuv420p", "yuv420p"), ("yuv420p10le", "gbrp"), ("gray", "yuv444p16le")]
)
def test_the_target_says_how_planes_leave(source: str, target: str, colors: int, scale: int) -> None:
    incoming, outgoing = layout_of(source), layout_of(target)
    net = FrameNet(
        Enlarge(scale),
        source=(incoming, LIMITED_709),
        target=(outgoing, FULL_2020),
        width=9,
        height=7,
        colors=colors,
        scale=scale,
    )
    *planes, _ = net(*noise(incoming, 9, 7, frames=2))
    assert [tuple(p.shape[1:]) for p in planes] == list(outgoing.shapes(9 * scale, 7 * scale))
    assert {len(p) for p in planes} == {2}
    assert {p.dtype for p in planes} == {torch.uint8 if outgoing.depth == 8 else torch.uint16}


def test_three_colours_go_in_unclipped_and_channels_last() -> None:
    layout = layout_of("yuv420p")
    enlarge = Enlarge(2)
    source = (layout, LIMITED_709)
    net = FrameNet(enlarge, source=source, target=source, width=10, height=8, colors=3, scale=2)
    planes = noise(layout, 10, 8)
    *ours, _ = net(*planes)
    rgb = PlanesToRgb(layout, LIMITED_709, 10, 8)(*planes)
    assert enlarge.given.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(enlarge.given, rgb)
    assert rgb.min() < 0
    assert rgb.max() > 1
    theirs = RgbToPlanes(layout, LIMITED_709, 20, 16)(F.interpolate(rgb, scale_factor=2.0))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_one_colour_is_bt709_luma_and_the_other_colours_are_bicubic() -> None:
    layout = layout_of("gbrp16le")
    enlarge = Enlarge(2)
    color = ColorSpec(1, True, "left")
    net = FrameNet(enlarge, source=(layout, color), target=(layout, color), width=10, height=8, colors=1, scale=2)
    planes = [
        plane.to(torch.int32).div(2, rounding_mode="floor").add(2**14).to(torch.uint16)
        for plane in noise(layout, 10, 8)
    ]
    green, blue, red = (plane.to(torch.float64) / 65535 for plane in net(*planes)[:3])

    rgb = PlanesToRgb(layout, color, 10, 8)(*planes).double()
    luma = (0.2126 * rgb[:, 0] + 0.7152 * rgb[:, 1] + 0.0722 * rgb[:, 2])[:, None]
    torch.testing.assert_close(enlarge.given.double(), luma, atol=1e-6, rtol=0)
    bicubic = F.interpolate(rgb - luma, size=(16, 20), mode="bicubic", align_corners=False)
    expected = (bicubic + F.interpolate(luma, scale_factor=2.0)).clamp(0, 1)
    torch.testing.assert_close(torch.stack((red, green, blue), 1), expected, atol=1e-5, rtol=0)


def test_gray_video_through_a_network_of_three_colours_stays_gray() -> None:
    layout = layout_of("gray")
    source = (layout, LIMITED_709)
    net = FrameNet(Enlarge(2), source=source, target=source, width=6, height=4, colors=3, scale=2)
    planes = noise(layout, 6, 4)
    ours, _ = net(*planes)
    assert torch.equal(ours, planes[0].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_frames_of_a_batch_do_not_know_of_each_other() -> None:
    layout = layout_of("yuv420p")
    torch.manual_seed(0)
    rcan = FoldedRCAN(RCAN(RCANConfig(groups=1, blocks=1, features=8, reduction=4, upscale=2)).eval())
    source = (layout, LIMITED_709)
    net = FrameNet(rcan, source=source, target=source, width=12, height=10, colors=3, scale=2)
    planes = noise(layout, 12, 10, frames=3)
    with torch.inference_mode():
        together = net(*planes)
        for i in range(3):
            alone = net(*(plane[i : i + 1] for plane in planes))
            for a, b in zip(together[:-1], alone[:-1], strict=True):
                # One code where float sums of another order fall on the other side of a half.
                assert (a[i].int() - b[0].int()).abs().max() <= 1


def test_any_other_number_of_colours_is_refused() -> None:
    source = (layout_of("yuv420p"), LIMITED_709)
    with pytest.raises(WeightsError, match=r"4 colour channels; .* 3 \(RGB\) or 1 \(luma\)"):
        FrameNet(nn.Identity(), source=source, target=source, width=8, height=8, colors=4, scale=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_is_not_finite_is_flagged(value: float) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(torch.arange(x.shape[-1]) == 3, value, x)

    layout = PlaneLayout("yuv", 8, 1, 1)
    source = (layout, ColorSpec(1, False, "left"))
    planes = noise(layout, 8, 8)
    for net, expected in ((nn.Identity(), False), (Broken(), True)):
        frame_net = FrameNet(net, source=source, target=source, width=8, height=8, colors=3, scale=1)
        *_, flag = frame_net(*planes)
        assert flag.shape == (1,)
        assert bool(flag) is expected
