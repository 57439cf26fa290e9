"""The inference form of an RCAN: samples in 0..1, and a tail that is one convolution and one pixel shuffle.

Upsampler and reconstruction are linear between them, so their composition is one convolution at the input's
resolution: at most 5x5 for every factor, read off impulse responses in float64. It saves most of the tail's work
and all of its large tensors. The two forms differ in one place: the original zero-pads its later convolutions at
their own resolution, which changes the outermost low-resolution pixel. That ring is computed by the original tail
on strips of three rows or columns, so the result equals the unfolded network everywhere.

Networks of range 255 run 256 times smaller, so that their body fits half precision. With biases divided and the
attention's first weights multiplied by that power of two this is exact: convolution, ReLU, skips and means scale,
and the gates see what they saw. SiLU does not scale, so RCAN-it keeps its range.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcan_video.network.frugal import FrugalBody, FrugalTail
from rcan_video.network.rcan import RCAN, ChannelAttention, RCANConfig, pad_to_multiple
from rcan_video.network.tiles import OVERLAP, TiledBody, reach

_REACH = 2
"""Low-resolution pixels that a tail of 3x3 convolutions sees each way, whatever its factor: 1 for the first, and
1/2 + 1/4 + ... < 1 for all the later ones."""

_STRIP = 2**26
"""Elements of the widest tensor of a strip: 256 MiB in float32."""


class FoldedRCAN(nn.Module):
    """(N,colors,H,W) float32 in 0..1 -> (N,colors,H*scale,W*scale) float32 in the same domain, not clipped.

    Equal to ``net`` (scaled to its range and back) up to float32 rounding. Built from a float32 network, on the CPU,
    which is left as it is; move the result with ``.to(device, memory_format=torch.channels_last)``. ``body_dtype``
    is the precision of the residual groups; head, long skip, tail and mean are float32 always. ``tile`` makes the
    residual groups run tile by tile (``TiledBody``), in pixels of their input: then it is not equal any more.
    ``frugal`` is for engines that run one operation after the other and want less memory (``network/frugal.py``).
    """

    def __init__(
        self, net: RCAN, body_dtype: torch.dtype = torch.float32, tile: int | None = None, *, frugal: bool = False
    ) -> None:
        super().__init__()
        self.config = net.config
        self.body_dtype = body_dtype
        net = copy.deepcopy(net).cpu().double()
        shrink = _shrink(net.config)
        self.sub_mean, self.head = _unit_input(net, shrink)
        body = _shrink_body(net, shrink)
        self.body: nn.Module = FrugalBody(body) if frugal else body
        if tile is not None:
            self.body = TiledBody(self.body, tile, min(OVERLAP, reach(net.config)))
        tail, mean = _unit_output(net, shrink)
        self.mean: Tensor | None
        self.register_buffer("mean", mean)
        folded = net.config.activation == "relu"
        self.tail = FoldedTail(tail, net.config, frugal=frugal) if folded else StripedTail(tail, net.config)
        self.float().eval().requires_grad_(False)
        self.body.to(body_dtype)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        features = self.head(self.sub_mean(pad_to_multiple(x, self.config.unshuffle)))
        deep: Tensor = self.body(features.to(self.body_dtype)).float()
        deep.add_(features)
        del features
        y: Tensor = self.tail(deep)
        if self.mean is not None:
            y.add_(self.mean)
        return y[..., : height * self.config.scale, : width * self.config.scale]


class FoldedTail(nn.Module):
    """A linear tail, (N,features,H,W) -> (N,colors,H*upscale,W*upscale), for any H and W from 1 on.

    ``border`` is the original tail, or None where its later convolutions touch no neighbours (a short tail stored
    in the standard layout), because then no padding but the first can matter.
    """

    def __init__(self, tail: nn.Sequential, config: RCANConfig, *, frugal: bool = False) -> None:
        super().__init__()
        self.upscale = config.upscale
        self.border = None if _only_first_spreads(tail) else tail
        weight, bias = fold(tail, config)
        # Without the outermost ring of outputs, the ring of ``border``, one pixel of padding less is needed.
        padding = weight.shape[-1] // 2 - (self.border is not None)
        conv = nn.Conv2d(config.features, weight.shape[0], weight.shape[-1], padding=padding)
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.frugal = frugal
        self.inner = (
            FrugalTail(conv, config.upscale) if frugal else nn.Sequential(conv, nn.PixelShuffle(config.upscale))
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.border is not None and min(height, width) <= _REACH:  # the ring is all there is
            whole: Tensor = self.border(x)
            return whole
        inner: Tensor = self.inner(x)
        if self.border is None:
            return inner
        ring, strip = self.upscale, _REACH + 1
        top = self.border(x[..., :strip, :])[..., :ring, :]
        bottom = self.border(x[..., -strip:, :])[..., -ring:, :]
        left = self.border(x[..., :strip])[..., ring:-ring, :ring]
        right = self.border(x[..., -strip:])[..., ring:-ring, -ring:]
        if not self.frugal:
            return torch.cat((top, torch.cat((left, inner, right), dim=3), bottom), dim=2)
        inner[..., :ring, :], inner[..., -ring:, :] = top, bottom
        inner[..., ring:-ring, :ring], inner[..., ring:-ring, -ring:] = left, right
        return inner


class StripedTail(nn.Module):
    """A tail with activations, as it is, in strips of rows: the same values, and memory that stays bounded.

    The cut edges of a strip would be padded where the picture goes on, so it takes ``_REACH`` rows more there.
    """

    def __init__(self, tail: nn.Sequential, config: RCANConfig) -> None:
        super().__init__()
        self.layers = tail
        self.upscale = config.upscale
        self.elements = config.features * config.upscale**2  # of the widest tensor, per low-resolution pixel
        self.strip_elements = _STRIP

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        # A batch of none is a trace for another engine: it gets the strips of one frame.
        rows = max(1, self.strip_elements // (max(batch, 1) * width * self.elements) - 2 * _REACH)
        strips = []
        for top in range(0, height, rows):
            start, end = max(0, top - _REACH), min(height, top + rows + _REACH)
            skip, keep = (top - start) * self.upscale, min(rows, height - top) * self.upscale
            strips.append(self.layers(x[..., start:end, :])[..., skip : skip + keep, :])
        return torch.cat(strips, dim=2)


def fold(tail: nn.Sequential, config: RCANConfig) -> tuple[Tensor, Tensor]:
    """Weight (colors*upscale**2, features, K, K) and bias of the convolution that, before a pixel shuffle, equals
    the linear ``tail`` (float64) away from the border. K is 5, or 3 where the outer ring is zero."""
    size = 2 * _REACH + 1
    impulses = torch.eye(config.features, dtype=torch.float64)[:, :, None, None]
    with torch.no_grad():
        silent = F.pixel_unshuffle(tail(torch.zeros(1, config.features, size, size).double()), config.upscale)
        struck = F.pixel_unshuffle(tail(F.pad(impulses, (_REACH,) * 4)), config.upscale)
    # out[y] = sum_k weight[k] * x[y + k - reach]: the response at an offset is the weight at the opposite one.
    weight = (struck - silent).flip(2, 3).transpose(0, 1)
    inner = weight[..., 1:-1, 1:-1]
    if torch.equal(weight, F.pad(inner, (1,) * 4)):
        weight = inner
    return weight.contiguous(), silent[0, :, _REACH, _REACH].clone()


def _only_first_spreads(tail: nn.Sequential) -> bool:
    """Whether all convolutions after the first have centre taps alone."""
    later = [module.weight for module in tail.modules() if isinstance(module, nn.Conv2d)][1:]
    return all(torch.count_nonzero(weight) == torch.count_nonzero(weight[..., 1, 1]) for weight in later)


def _shrink(config: RCANConfig) -> float:
    """The power of two that the network's samples are divided by, to be near 0..1 inside."""
    return 2.0 ** math.ceil(math.log2(config.rgb_range)) if config.activation == "relu" else 1.0


@torch.no_grad()
def _unit_input(net: RCAN, shrink: float) -> tuple[nn.Module, nn.Sequential]:
    """Mean shift and head that take 0..1 and give features divided by ``shrink``."""
    conv = net.head[-1]
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    gain = net.config.rgb_range / shrink
    conv.bias /= shrink
    if isinstance(net.sub_mean, nn.Conv2d):
        assert net.sub_mean.bias is not None
        net.sub_mean.weight *= gain
        net.sub_mean.bias /= shrink
    else:
        conv.weight *= gain
    return net.sub_mean, net.head


@torch.no_grad()
def _shrink_body(net: RCAN, shrink: float) -> nn.Sequential:
    """The body on features divided by ``shrink``, for ReLU; the gates come out as they were."""
    for module in net.body.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None and module.kernel_size == (3, 3):
            module.bias /= shrink
        elif isinstance(module, ChannelAttention):
            squeeze = module.conv_du[0]
            assert isinstance(squeeze, nn.Conv2d)
            squeeze.weight *= shrink
    return net.body


@torch.no_grad()
def _unit_output(net: RCAN, shrink: float) -> tuple[nn.Sequential, Tensor | None]:
    """The tail that takes features divided by ``shrink`` and gives 0..1, and the mean (1,colors,1,1) to add.

    The weights of ``add_mean`` go into the last convolution. Its bias could, too, but sums that begin at the mean
    instead of near zero lose a bit or two of float32.
    """
    convs = [module for module in net.tail.modules() if isinstance(module, nn.Conv2d)]
    last = convs[-1]
    assert last.bias is not None
    for conv in convs[:-1]:
        assert conv.bias is not None
        conv.bias /= shrink
    mean = None
    if isinstance(net.add_mean, nn.Conv2d):
        assert net.add_mean.bias is not None
        mix = net.add_mean.weight[:, :, 0, 0]
        last.weight.copy_(torch.einsum("oc,cikl->oikl", mix, last.weight))
        last.bias.copy_(mix @ last.bias)
        mean = net.add_mean.bias.view(1, -1, 1, 1) / net.config.rgb_range
    last.weight *= shrink / net.config.rgb_range
    last.bias /= net.config.rgb_range
    return net.tail, mean
