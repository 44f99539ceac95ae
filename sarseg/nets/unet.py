"""U-Net (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597), with padded convolutions: the answer is as large as the image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sarseg.nets.resnet import check_config, initialise

Norm = Literal["batch", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """Size of a U-Net: `width` channels at the first level, doubled at each of `depth` halvings; 64 and 4 are the published ones.

    `norm`: "batch" has batch norm after each 3 x 3 convolution in place of its bias; "none" is the paper's.
    """

    bands: int
    classes: int
    width: int = 64
    depth: int = 4
    norm: Norm = "batch"

    def __post_init__(self) -> None:
        check_config(self, norm=Norm)
        if self.depth > 8:
            raise ValueError(f"depth is {self.depth}, not <= 8")
        for name, least in (("width", 1), ("depth", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, not >= {least}")


class UNet(nn.Module):
    """float (n, bands, h, w) -> logits (n, classes, h, w), any h, w >= 1."""

    pools_globally = False

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        self.stride = 2**config.depth
        self.encoder = nn.ModuleList(_convolutions(before, after, config.norm) for before, after in pairwise([config.bands, *widths]))
        # finest first, as the encoder
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(_convolutions(2 * width, width, config.norm) for width in widths[:-1])
        self.head = nn.Conv2d(config.width, config.classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits for normalised bands without NaN."""
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % self.stride, 0, -h % self.stride), mode="replicate")  # (n, bands, H, W), multiples of stride
        skips = []
        for level, convolutions in enumerate(self.encoder):
            x = convolutions(F.max_pool2d(x, 2) if level else x)  # (n, width * 2**level, H / 2**level, W / 2**level)
            skips.append(x)
        for skip, up, convolutions in zip(reversed(skips[:-1]), reversed(self.up), reversed(self.decoder), strict=True):
            x = convolutions(torch.cat([skip, up(x)], dim=1))
        return self.head(x)[..., :h, :w]  # type: ignore[no-any-return]  # (n, classes, h, w)


def _convolutions(before: int, after: int, norm: Norm) -> nn.Sequential:
    """Two 3 x 3 convolutions with ReLU, (n, before, h, w) -> (n, after, h, w)."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        convolution = nn.Conv2d(channels, after, kernel_size=3, padding=1, bias=norm == "none")
        layers += [convolution, *([nn.BatchNorm2d(after)] if norm == "batch" else []), nn.ReLU(inplace=True)]
        if norm == "none":  # the paper's start: without a norm the incoming values decide whether the signal lives through 19 layers
            nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    block = nn.Sequential(*layers)
    initialise(block)
    return block
