"""Stored planes to RGB and back, in float32 torch, on whatever device the planes are.

``PlanesToRgb`` and ``RgbToPlanes`` are each other's inverse: a frame that goes through both, with no network between,
comes back bit for bit, whatever it shows (noise included), at every size, depth, range, matrix and chroma siting. Two
decisions make that so:

* **Nothing is clipped before the network.** Super-white, super-black and YUV outside the RGB cube stay what they are;
  the only clamp is to the code range of the target, at the very end.
* **Chroma down is an exact left inverse of chroma up.** Both are lifting steps (Sweldens 1996): up predicts what is
  missing, down measures how far the samples are from that prediction and smooths the chroma by the difference. On
  anything that up produced the difference is zero, borders included, so the chroma comes back as it was. On
  anything else it is the low-pass filter that decimation needs.

The filters of one axis that halves (``c`` chroma, ``f`` full resolution, edges replicated)::

    co-sited  up    f[2i] = c[i],  f[2i+1] = (-c[i-1] + 9 c[i] + 9 c[i+1] - c[i+2]) / 16
              down  c[i] = f[2i] + (r[i-1] + r[i]) / 4,  r[i] = f[2i+1] - its prediction from the f[2i]
    centred   up    f[2i], f[2i+1] = c[i] -+ h[i],  h[i] = (22 (c[i+1] - c[i-1]) - 3 (c[i+2] - c[i-2])) / 128
              down  c[i] = s[i] + (r[i-1] - r[i+1]) / 8,  s the mean of the pair,
                    r[i] = (f[2i+1] - f[2i]) / 2 - h[i] of the s

Co-sited, up is Catmull-Rom at the half and the pair is the Deslauriers-Dubuc (4, 2) wavelet. Centred, up is average
interpolation of degree 4 (Donoho 1993; the Cohen-Daubechies-Feauveau (1, 5) wavelet): the mean of a pair is its chroma
sample, which is how centred chroma is made. Catmull-Rom at the quarters has no inverse as short and as even: its
least-squares partners of 8, 10 and 12 taps reach a gain of 1.12 to 1.21 and are exact to 5e-4 or 4e-5 only, and it
restores the chroma of photographs 0.5 to 0.9 dB less well (Kodak, reduced by box, triangle or bicubic).
An axis that quarters (4:1:1, 4:1:0) halves twice.

Formulas of ranges and matrices: ITU-T H.273, MatrixCoefficients and VideoFullRangeFlag.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from rcan_video.frames import LUMA_WEIGHTS, ColorSpec, PlaneLayout, Siting


class PlanesToRgb(nn.Module):
    """Planes of one layout and frame size to RGB.

    ``width`` and ``height`` are those of the frame in pixels. They are asked for here, and not read from the
    tensors, so that a trace of the module has plain numbers for shapes.
    """

    def __init__(self, layout: PlaneLayout, color: ColorSpec, width: int, height: int) -> None:
        super().__init__()
        self.family = layout.family
        self.codes = _Codes(layout, color)
        self.chroma = _Chroma(layout, color.siting, width, height)

    def forward(self, *planes: Tensor) -> Tensor:
        """(N, H, W) uint8 or uint16 in the layout's order to (N, 3, H, W) float32, nominally 0..1, not clipped."""
        codes = self.codes
        if self.family == "rgb":
            green, blue, red = (_normalise(plane, codes.luma_zero, codes.luma_span) for plane in planes)
            return torch.stack((red, green, blue), dim=1)
        luma = _normalise(planes[0], codes.luma_zero, codes.luma_span)
        if self.family == "gray":
            return torch.stack((luma, luma, luma), dim=1)
        _, cb, cr = planes
        blue_diff = self.chroma.up(_normalise(cb, codes.chroma_zero, codes.blue_span))
        red_diff = self.chroma.up(_normalise(cr, codes.chroma_zero, codes.red_span))
        # Luma is the weighted sum of R, G and B, so the weighted differences from it cancel: this is G.
        green = torch.add(luma, red_diff, alpha=-codes.kr / codes.kg).add_(blue_diff, alpha=-codes.kb / codes.kg)
        return torch.stack((luma + red_diff, green, luma + blue_diff), dim=1)


class RgbToPlanes(nn.Module):
    """RGB to planes of one layout and frame size: the inverse of ``PlanesToRgb``, rounded to whole codes."""

    def __init__(self, layout: PlaneLayout, color: ColorSpec, width: int, height: int) -> None:
        super().__init__()
        self.family = layout.family
        self.codes = _Codes(layout, color)
        self.chroma = _Chroma(layout, color.siting, width, height)
        self.top_code = 2**layout.depth - 1
        self.dtype = torch.uint8 if layout.sample_bytes == 1 else torch.uint16

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) float32 in any memory format to (N, H, W) uint8 or uint16 planes in the layout's order."""
        codes = self.codes
        red, green, blue = rgb.contiguous().unbind(1)  # planes are worked on one by one: interleaved is 4x slower
        if self.family == "rgb":
            return tuple(self._quantise(plane, codes.luma_zero, codes.luma_span) for plane in (green, blue, red))
        luma = (red * codes.kr).add_(green, alpha=codes.kg).add_(blue, alpha=codes.kb)
        y = self._quantise(luma, codes.luma_zero, codes.luma_span)
        if self.family == "gray":
            return (y,)
        cb = self._quantise(self.chroma.down(blue - luma), codes.chroma_zero, codes.blue_span)
        cr = self._quantise(self.chroma.down(red - luma), codes.chroma_zero, codes.red_span)
        return (y, cb, cr)

    def _quantise(self, x: Tensor, zero: float, span: float) -> Tensor:
        # All in float: uint16 has no arithmetic in torch, and converting a float out of range is undefined.
        return (x * span).add_(zero + 0.5).floor_().clamp_(0, self.top_code).to(self.dtype)


class _Codes:
    """Zero point and span of each component, in codes.

    Chroma is handled as the differences R - Y and B - Y, not as Cr and Cb: their factors 2 (1 - Kr) and 2 (1 - Kb)
    are part of the spans, and the matrices come down to additions. Plain floats and additions are deliberate, too: they
    stay float32 under ``.half()``, autocast and TF32.
    """

    def __init__(self, layout: PlaneLayout, color: ColorSpec) -> None:
        unit = 2.0 ** (layout.depth - 8)
        top = 2.0**layout.depth - 1
        self.kr, self.kb = LUMA_WEIGHTS[color.matrix]
        self.kg = 1 - self.kr - self.kb
        self.luma_zero = 0.0 if color.full_range else 16 * unit
        self.luma_span = top if color.full_range else 219 * unit
        self.chroma_zero = 128 * unit
        chroma_span = top if color.full_range else 224 * unit
        self.red_span = chroma_span / (2 * (1 - self.kr))
        self.blue_span = chroma_span / (2 * (1 - self.kb))


def _normalise(plane: Tensor, zero: float, span: float) -> Tensor:
    return plane.to(torch.float32).sub_(zero).mul_(1 / span)


class _Chroma:
    """Resampling of one chroma plane between its own grid and luma's, one axis after the other."""

    def __init__(self, layout: PlaneLayout, siting: Siting, width: int, height: int) -> None:
        vertical = 0 if siting.startswith("top") else 1 if siting.startswith("bottom") else None
        horizontal = 0 if siting.endswith("left") else None
        # Full resolution first. Rows go first on the way down, because whole rows are cheap to add.
        self.steps = _halvings(-2, height, layout.sub_h, vertical) + _halvings(-1, width, layout.sub_w, horizontal)

    def up(self, chroma: Tensor) -> Tensor:
        for step in reversed(self.steps):
            chroma = step.up(chroma)
        return chroma

    def down(self, full: Tensor) -> Tensor:
        for step in self.steps:
            full = step.down(full)
        return full


class _Halving(Protocol):
    """One axis between a grid of ``size`` samples and one of half as many, rounded up."""

    def up(self, chroma: Tensor) -> Tensor: ...

    def down(self, full: Tensor) -> Tensor: ...


def _halvings(dim: int, size: int, times: int, phase: int | None) -> list[_Halving]:
    """``phase``: which sample of a pair the chroma sits on, or None for between the two."""
    steps: list[_Halving] = []
    for _ in range(times):
        steps.append(_Centred(dim, size) if phase is None else _CoSited(dim, size, phase))
        size = -(-size // 2)
    return steps


class _CoSited:
    """Chroma sits on sample ``phase`` of each pair: 0 for left and top, 1 for bottom."""

    def __init__(self, dim: int, size: int, phase: int) -> None:
        self.dim, self.size, self.phase = dim, size, phase

    def up(self, chroma: Tensor) -> Tensor:
        pair = (chroma, self._predict(chroma)) if self.phase == 0 else (self._predict(chroma), chroma)
        return _interleave(*pair, self.dim, self.size)

    def down(self, full: Tensor) -> Tensor:
        if self.size == 1:
            return full
        odd = self.size % 2
        if odd and self.phase == 1:
            full = self._complete(full)
        pairs = (self.size + self.phase) // 2  # whole ones, the completed one among them
        kept = _slice(full, self.dim, self.phase, step=2)
        others = _slice(full, self.dim, 1 - self.phase, step=2)
        residual = others - self._predict(kept).narrow(self.dim, 0, pairs)
        before, after = (1, odd) if self.phase == 0 else (0, 1)
        left, right = _windows(residual, self.dim, before, after, 2)
        return torch.add(kept, left + right, alpha=0.25)

    def _predict(self, chroma: Tensor) -> Tensor:
        """What lies between the chroma samples: after each of them, or, where they come second, before each."""
        before, after = (1, 2) if self.phase == 0 else (2, 1)
        outer_left, left, right, outer_right = _windows(chroma, self.dim, before, after, 4)
        return (left + right).mul_(9 / 16).sub_(outer_left + outer_right, alpha=1 / 16)

    def _complete(self, full: Tensor) -> Tensor:
        """Append the chroma sample that lies one row below an odd picture: the prediction, solved for it."""
        size, dim = self.size, self.dim
        last, near = full.narrow(dim, size - 1, 1), full.narrow(dim, size - 2, 1)
        far = full.narrow(dim, size - 4, 1) if size > 3 else near
        return torch.cat((full, 2 * last - (9 * near - far) / 8), dim)


class _Centred:
    """Chroma sits between the two samples of each pair."""

    def __init__(self, dim: int, size: int) -> None:
        self.dim, self.size = dim, size

    def up(self, chroma: Tensor) -> Tensor:
        half = self._half_difference(chroma)
        return _interleave(chroma - half, chroma + half, self.dim, self.size)

    def down(self, full: Tensor) -> Tensor:
        if self.size % 2:
            full = self._complete(full)
        first, second = _slice(full, self.dim, 0, step=2), _slice(full, self.dim, 1, step=2)
        mean = (first + second).mul_(0.5)
        residual = (second - mean).sub_(self._half_difference(mean))
        left, _, right = _windows(residual, self.dim, 1, 1, 3)
        return mean.add_(left - right, alpha=1 / 8)

    def _half_difference(self, chroma: Tensor) -> Tensor:
        outer_left, left, _, right, outer_right = _windows(chroma, self.dim, 2, 2, 5)
        return (right - left).mul_(22 / 128).sub_(outer_right - outer_left, alpha=3 / 128)

    def _complete(self, full: Tensor) -> Tensor:
        """Append the second sample of an odd picture's last pair.

        ``up`` gives that pair as c -+ (19 c - 22 b + 3 a) / 128, where a, b, c are the last chroma samples: solved for
        the second, with the first and the means b and a of the pairs before.
        """
        size, dim = self.size, self.dim
        last = full.narrow(dim, size - 1, 1)
        if size == 1:
            return torch.cat((last, last), dim)
        near = full.narrow(dim, size - 3, 2).mean(dim, keepdim=True)
        far = full.narrow(dim, size - 5, 2).mean(dim, keepdim=True) if size > 3 else near
        return torch.cat((full, (147 * last - 44 * near + 6 * far) / 109), dim)


def _windows(x: Tensor, dim: int, before: int, after: int, count: int) -> tuple[Tensor, ...]:
    """``count`` views of x, each shifted by one sample, after replicating its edges this often."""
    padded = torch.cat([x.narrow(dim, 0, 1)] * before + [x] + [_slice(x, dim, -1)] * after, dim)
    return tuple(_slice(padded, dim, i, i - count + 1 or None) for i in range(count))


def _slice(x: Tensor, dim: int, start: int, stop: int | None = None, step: int = 1) -> Tensor:
    return x[..., start:stop:step] if dim == -1 else x[..., start:stop:step, :]


def _interleave(first: Tensor, second: Tensor, dim: int, size: int) -> Tensor:
    """One sample of each in turn along ``dim``, ``size`` samples in all."""
    return torch.stack((first, second), dim).flatten(dim - 1, dim).narrow(dim, 0, size)
