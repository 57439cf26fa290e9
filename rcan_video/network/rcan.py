"""RCAN, the residual channel attention network of Zhang et al., ECCV 2018 (arXiv 1807.02758).

Four parts: shallow features (one convolution), deep features (residual in residual), sub-pixel upscale, and
reconstruction (one convolution), between the mean shifts of EDSR. Parameters carry the names of the official
code, so that its state dict loads with ``strict=True``:

    sub_mean                          1x1 convolution, the dataset's mean goes out
    head.0                            shallow features (head.1 behind a pixel unshuffle)
    body.G.body.B.body.{0,2}          the two convolutions of block B of group G
    body.G.body.B.body.3.conv_du      its channel attention
    body.G.body.<blocks>              convolution that ends a group
    body.<groups>                     convolution that ends the body
    tail.0.{0,2,4}, tail.1            upscale stages (step 3 where they are activated), reconstruction
    add_mean                          1x1 convolution, the mean comes back

Three variants share it: pixel-unshuffle heads (features at a fraction of the input's size), networks without
mean shift, and RCAN-it (Lin et al., arXiv 2201.11279): SiLU, scaled residuals and activated upscale stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "silu"]

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""RGB mean of the DIV2K training set as a share of the range, as EDSR and the official RCAN subtract it."""


@dataclass(frozen=True, slots=True)
class RCANConfig:
    """The shape of a network and the range of its samples. The defaults are those of the paper.

    ``upscale`` is the factor of the tail, 1, 3 or a power of two; ``unshuffle`` that of the head, so that the
    picture grows by ``scale = upscale // unshuffle``. Attention squeezes ``features`` to ``features // reduction``.
    ``activation`` "silu" also activates the upscale stages, as RCAN-it does.

    Raises ValueError for a combination that is no network.
    """

    groups: int = 10
    blocks: int = 20
    features: int = 64
    reduction: int = 16
    colors: int = 3
    upscale: int = 2
    unshuffle: int = 1
    rgb_range: float = 255.0
    mean_shift: bool = True
    activation: Activation = "relu"
    residual_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("groups", "blocks", "features", "reduction", "colors", "upscale", "unshuffle"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.reduction > self.features:
            raise ValueError(f"reduction {self.reduction} leaves nothing of {self.features} features")
        if self.upscale != 3 and self.upscale & (self.upscale - 1):
            raise ValueError(f"upscale must be 3 or a power of two, got {self.upscale}")
        if self.upscale % self.unshuffle:
            raise ValueError(f"upscale {self.upscale} is no multiple of unshuffle {self.unshuffle}")
        if self.mean_shift and self.colors != 3:
            raise ValueError(f"a mean shift is for 3 colors, got {self.colors}")
        if not 0 < self.rgb_range < float("inf") or not 0 < self.residual_scale < float("inf"):
            raise ValueError(
                f"rgb_range and residual_scale must be positive, got {self.rgb_range} and {self.residual_scale}"
            )
        if self.activation not in ("relu", "silu"):
            raise ValueError(f"activation must be relu or silu, got {self.activation}")

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.upscale // self.unshuffle

    @property
    def stages(self) -> tuple[int, ...]:
        """Factors of the tail's sub-pixel stages: one of 3, or as many of 2 as it takes."""
        return (3,) if self.upscale == 3 else (2,) * (self.upscale.bit_length() - 1)


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def activate(activation: Activation) -> nn.Module:
    return nn.ReLU(inplace=True) if activation == "relu" else nn.SiLU(inplace=True)


def pad_to_multiple(x: Tensor, factor: int) -> Tensor:
    """Extend (N,C,H,W) below and on the right to multiples of ``factor``: mirrored, or repeated where too small."""
    height, width = x.shape[-2:]
    below, right = -height % factor, -width % factor
    if not (below or right):
        return x
    mode = "reflect" if below < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, below), mode=mode)


class MeanShift(nn.Conv2d):
    """Add ``sign`` times the dataset's mean, as a 1x1 convolution so that a checkpoint can bring its own mean.

    Not trained: the mean belongs to the data.
    """

    def __init__(self, rgb_range: float, sign: int) -> None:
        super().__init__(3, 3, 1)
        # On the CPU, wherever the network is: on the meta device, where checkpoints are built, these operations are
        # Python and import torch._dynamo, which takes longer than the rest of a start.
        mean = torch.tensor(DIV2K_MEAN, device="cpu") * (sign * rgb_range)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3, device="cpu").view(3, 3, 1, 1))
            self.get_parameter("bias").copy_(mean)
        self.requires_grad_(False)


class ChannelAttention(nn.Module):
    """The gate alone: (N,C,H,W) -> (N,C,1,1) in 0..1. The block multiplies, in one pass with its skip."""

    def __init__(self, config: RCANConfig) -> None:
        super().__init__()
        squeezed = config.features // config.reduction
        self.conv_du = nn.Sequential(
            nn.Conv2d(config.features, squeezed, 1),
            activate(config.activation),
            nn.Conv2d(squeezed, config.features, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.conv_du(x.mean((2, 3), keepdim=True))
        return gate


class RCAB(nn.Module):
    """Residual channel attention block: ``x + residual_scale * gate(y) * y`` with ``y = conv(act(conv(x)))``."""

    def __init__(self, config: RCANConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(config.features, config.features),
            activate(config.activation),
            conv3x3(config.features, config.features),
            ChannelAttention(config),
        )
        self.residual_scale = config.residual_scale

    def forward(self, x: Tensor) -> Tensor:
        first, activation, second, attention = self.body
        y = second(activation(first(x)))
        return torch.addcmul(x, y, attention(y), value=self.residual_scale)


class ResidualGroup(nn.Module):
    """Blocks and a convolution under a short skip."""

    def __init__(self, config: RCANConfig) -> None:
        super().__init__()
        blocks: list[nn.Module] = [RCAB(config) for _ in range(config.blocks)]
        self.body = nn.Sequential(*blocks, conv3x3(config.features, config.features))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y


def upsampler(config: RCANConfig) -> nn.Sequential:
    """Sub-pixel stages (Shi et al., arXiv 1609.05158); an empty sequence where ``upscale`` is 1."""
    layers: list[nn.Module] = []
    for factor in config.stages:
        layers += [conv3x3(config.features, config.features * factor**2), nn.PixelShuffle(factor)]
        if config.activation == "silu":
            layers.append(activate(config.activation))
    return nn.Sequential(*layers)


class RCAN(nn.Module):
    """(N,colors,H,W) in 0..rgb_range -> (N,colors,H*scale,W*scale) in the same range, not clipped."""

    def __init__(self, config: RCANConfig) -> None:
        super().__init__()
        self.config = config
        unshuffle: list[nn.Module] = [nn.PixelUnshuffle(config.unshuffle)] if config.unshuffle > 1 else []
        groups: list[nn.Module] = [ResidualGroup(config) for _ in range(config.groups)]
        self.sub_mean = MeanShift(config.rgb_range, -1) if config.mean_shift else nn.Identity()
        self.head = nn.Sequential(*unshuffle, conv3x3(config.colors * config.unshuffle**2, config.features))
        self.body = nn.Sequential(*groups, conv3x3(config.features, config.features))
        self.tail = nn.Sequential(upsampler(config), conv3x3(config.features, config.colors))
        self.add_mean = MeanShift(config.rgb_range, +1) if config.mean_shift else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        features = self.head(self.sub_mean(pad_to_multiple(x, self.config.unshuffle)))
        y: Tensor = self.add_mean(self.tail(features + self.body(features)))
        return y[..., : height * self.config.scale, : width * self.config.scale]
