"""A U-Net whose encoder is a residual network: the decoder of the package segmentation_models_pytorch (its `Unet`), with its widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sarseg.nets.resnet import ResNet, check_config, initialise

UNetBackbone = Literal["resnet18", "resnet34", "resnet50"]

_WIDTHS = (256, 128, 64, 32, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetResNetConfig:
    """Options of a U-Net on a residual network."""

    bands: int
    classes: int
    backbone: UNetBackbone = "resnet34"

    def __post_init__(self) -> None:
        check_config(self, backbone=UNetBackbone)


class UNetResNet(nn.Module):
    """float (n, bands, h, w) -> logits (n, classes, h, w), any h, w >= 1."""

    stride = 32
    pools_globally = False

    def __init__(self, config: UNetResNetConfig) -> None:
        super().__init__()
        self.backbone = ResNet(config.backbone, bands=config.bands)
        *finer, coarsest = self.backbone.channels
        befores = (coarsest, *_WIDTHS[:-1])
        skips = (*reversed(finer), 0)  # at full size there is no feature to join
        self.decoder = nn.ModuleList(
            _convolutions(before + skip, after) for before, skip, after in zip(befores, skips, _WIDTHS, strict=True)
        )
        self.head = nn.Conv2d(_WIDTHS[-1], config.classes, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits for normalised bands without NaN."""
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % self.stride, 0, -h % self.stride), mode="replicate")  # (n, bands, H, W), multiples of stride
        *finer, x = self.backbone(x)  # strides 2, 4, 8, 16 and 32
        for skip, convolutions in zip((*reversed(finer), None), self.decoder, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = convolutions(x if skip is None else torch.cat([x, skip], dim=1))  # (n, 256 .. 16, H / 16 .. 1, W / 16 .. 1)
        return self.head(x)[..., :h, :w]  # type: ignore[no-any-return]  # (n, classes, h, w)


def _convolutions(before: int, after: int) -> nn.Sequential:
    """Two 3 x 3 convolutions with batch norm and ReLU, (n, before, h, w) -> (n, after, h, w)."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    block = nn.Sequential(*layers)
    initialise(block)
    return block
