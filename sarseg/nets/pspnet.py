"""Pyramid scene parsing network (Zhao, Shi, Qi, Wang, Jia 2017, CVPR, doi 10.1109/CVPR.2017.660).

The sizes are those of the authors' code (github.com/hszhao/semseg): a ResNet with features at stride 8, means over 1, 2, 3 and 6
bins a side beside them, one head on both, and in training an auxiliary head on layer3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sarseg.nets.fcn import head
from sarseg.nets.resnet import POOLED_EPS, ResNet, Stem, check_config, enlarge, initialise, pad_to_grid

PspBackbone = Literal["resnet50", "resnet101"]
BINS = (1, 2, 3, 6)
_BRANCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PSPNetConfig:
    """Options of a PSPNet: backbone, its stem ("deep" is the authors', "plain" takes torchvision's weights), the auxiliary loss' weight."""

    bands: int
    classes: int
    backbone: PspBackbone = "resnet50"
    stem: Stem = "deep"
    aux_weight: float = 0.4

    def __post_init__(self) -> None:
        check_config(self, backbone=PspBackbone, stem=Stem)
        if not 0 <= self.aux_weight < float("inf"):
            raise ValueError(f"aux_weight is {self.aux_weight}, not >= 0")


class PSPNet(nn.Module):
    """float (n, bands, h, w) -> logits (n, classes, h, w), any h, w >= 1; in training {"out": ..., "aux": ...}.

    The bins divide the whole input, so every pixel's answer depends on all of it: another tile size, or a tile moved by one pixel,
    gives other logits everywhere, not only near the tile's edge, and a larger overlap of tiles does not help: only their blending hides
    the seams. Predict with tiles as large as the training patches, so that the bins cover as much ground as they did in training.
    """

    pools_globally = True
    stride = 8

    def __init__(self, config: PSPNetConfig) -> None:
        super().__init__()
        self.aux_weight = config.aux_weight
        self.backbone = ResNet(config.backbone, bands=config.bands, stem=config.stem, dilation="semseg")
        *_, layer3, layer4 = self.backbone.channels
        self.pyramid = nn.ModuleList(_branch(layer4) for _ in BINS)
        self.pyramid[BINS.index(1)][1].eps = POOLED_EPS  # type: ignore[index]
        self.classifier = head(layer4 + _BRANCH * len(BINS), 512, config.classes, nn.Dropout2d(0.1))
        self.aux_classifier = head(layer3, 256, config.classes, nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Logits for normalised bands without NaN; in training of both heads."""
        h, w = x.shape[-2:]
        x = pad_to_grid(x, self.stride)  # (n, bands, H, W)
        *_, layer3, layer4 = self.backbone(x)  # (n, ..., (H - 1) / 8 + 1, (W - 1) / 8 + 1)
        means = [enlarge(branch(bin_means(layer4, bins)), layer4) for bins, branch in zip(BINS, self.pyramid, strict=True)]
        out = enlarge(self.classifier(torch.cat([layer4, *means], dim=1)), x)[..., :h, :w]
        if not self.training:
            return out
        return {"out": out, "aux": enlarge(self.aux_classifier(layer3), x)[..., :h, :w]}


def bin_means(x: Tensor, bins: int) -> Tensor:
    """Means over bins x bins parts of the image, (n, c, h, w) -> (n, c, bins, bins): adaptive average pooling.

    Part i holds the rows floor(i h / bins) to ceil((i + 1) h / bins). Written as two matrix products, which export with free sizes
    to ONNX, and whose gradient is deterministic on a GPU: torch's own pooling offers neither.
    """
    h, w = x.shape[-2:]
    return _shares(h, bins, x) @ x @ _shares(w, bins, x).transpose(0, 1)


def _shares(length: int, bins: int, like: Tensor) -> Tensor:
    """Each position's share in each bin's mean, (bins, length)."""
    edges = torch.arange(bins, device=like.device).unsqueeze(1) * length
    starts = torch.div(edges, bins, rounding_mode="floor")
    stops = torch.div(edges + length + bins - 1, bins, rounding_mode="floor")
    at = torch.arange(length, device=like.device)
    inside = ((at >= starts) & (at < stops)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)


def _branch(before: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Conv2d(before, _BRANCH, kernel_size=1, bias=False), nn.BatchNorm2d(_BRANCH), nn.ReLU(inplace=True))
    initialise(layers)
    return layers
