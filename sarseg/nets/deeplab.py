"""DeepLabv3+ (Chen, Zhu, Papandreou, Schroff, Adam 2018, ECCV, doi 10.1007/978-3-030-01234-2_49) on residual networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sarseg.nets.resnet import POOLED_EPS, Backbone, ResNet, check_config, enlarge, initialise, pad_to_grid

OutputStride = Literal[8, 16]
_WIDTH = 256
_LOW_LEVEL = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepLabV3PlusConfig:
    """Options of a DeepLabv3+: the backbone, and the stride of its coarsest features (16; 8 is slower and finer)."""

    bands: int
    classes: int
    backbone: Backbone = "resnet50"
    output_stride: OutputStride = 16

    def __post_init__(self) -> None:
        check_config(self, backbone=Backbone, output_stride=OutputStride)


class DeepLabV3Plus(nn.Module):
    """float (n, bands, h, w) -> logits (n, classes, h, w), any h, w >= 1.

    The image pooling is a mean over the whole input: a pixel's answer depends on the whole tile, so predict with tiles as large as
    the training patches.
    """

    pools_globally = True

    def __init__(self, config: DeepLabV3PlusConfig) -> None:
        super().__init__()
        self.stride: int = config.output_stride
        self.backbone = ResNet(config.backbone, bands=config.bands, dilation="layer4" if self.stride == 16 else "torchvision")
        self.aspp = ASPP(self.backbone.channels[4], rates=(6, 12, 18) if self.stride == 16 else (12, 24, 36))
        self.low_level = _convolution(self.backbone.channels[1], _LOW_LEVEL, 1)
        self.decoder = nn.Sequential(_convolution(_WIDTH + _LOW_LEVEL, _WIDTH, 3), _convolution(_WIDTH, _WIDTH, 3))
        self.classifier = nn.Conv2d(_WIDTH, config.classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits for normalised bands without NaN."""
        h, w = x.shape[-2:]
        x = pad_to_grid(x, self.stride)  # (n, bands, H, W)
        _, fine, _, _, coarse = self.backbone(x)  # fine: (n, c, (H - 1) / 4 + 1, (W - 1) / 4 + 1)
        fine = self.low_level(fine)  # (n, 48, ...)
        y = self.decoder(torch.cat([enlarge(self.aspp(coarse), fine), fine], dim=1))
        return enlarge(self.classifier(y), x)[..., :h, :w]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling, float (n, before, h, w) -> (n, 256, h, w).

    A 1 x 1 convolution, one 3 x 3 convolution a rate, and the image's mean, each with 256 channels, joined by a 1 x 1 convolution.
    """

    def __init__(self, before: int, *, rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_convolution(before, _WIDTH, 1), *(_convolution(before, _WIDTH, 3, rate) for rate in rates)])
        self.image = _convolution(before, _WIDTH, 1)
        self.image[1].eps = POOLED_EPS  # type: ignore[assignment]
        self.project = nn.Sequential(_convolution(_WIDTH * 5, _WIDTH, 1), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """The five ways, joined."""
        h, w = x.shape[-2:]
        image = self.image(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, h, w)
        joined: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), image], dim=1))
        return joined


def _convolution(before: int, after: int, side: int, rate: int = 1) -> nn.Sequential:
    """A convolution with batch norm and ReLU that keeps the size."""
    layers = nn.Sequential(
        nn.Conv2d(before, after, kernel_size=side, padding=rate * (side // 2), dilation=rate, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
    initialise(layers)
    return layers
