"""Fully convolutional networks (Long, Shelhamer, Darrell 2015, CVPR, doi 10.1109/CVPR.2015.7298965) on residual networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sarseg.nets.resnet import ResNet, check_config, enlarge, initialise, pad_to_grid

FcnBackbone = Literal["resnet50", "resnet101"]
FcnForm = Literal["d8", "8s", "32s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FCNConfig:
    """Options of an FCN.

    `form`: "d8" is torchvision's, with dilation in place of the last two strides (features at stride 8) and its tensor names;
    "32s" is the paper's plain one, scored at stride 32; "8s" adds the scores of layer3 and layer2, as the paper does with pool4
    and pool3. `aux`: a second head on layer3, for training only (loss weight 0.5, as torchvision's reference training has it).
    """

    bands: int
    classes: int
    backbone: FcnBackbone = "resnet50"
    form: FcnForm = "d8"
    aux: bool = False

    def __post_init__(self) -> None:
        check_config(self, backbone=FcnBackbone, form=FcnForm, aux=Literal[True, False])


class FCN(nn.Module):
    """float (n, bands, h, w) -> logits (n, classes, h, w), any h, w >= 1; in training with `aux` {"out": ..., "aux": ...}.

    The form "d8" resizes its scores to the input's size as torchvision does (`align_corners=False`): where that is no multiple of
    8, they move by a fraction of a pixel. The other forms pad, and keep every score in its place.
    """

    pools_globally = False
    aux_weight: float = 0.5

    def __init__(self, config: FCNConfig) -> None:
        super().__init__()
        dilated = config.form == "d8"
        self.form = config.form
        self.stride = 8 if dilated else 32
        self.backbone = ResNet(config.backbone, bands=config.bands, dilation="torchvision" if dilated else "none")
        *_, layer2, layer3, layer4 = self.backbone.channels
        self.classifier = head(layer4, 512, config.classes, nn.Dropout(0.1))
        self.aux_classifier = head(layer3, 256, config.classes, nn.Dropout(0.1)) if config.aux else None
        if config.form == "8s":
            self.score2 = nn.Conv2d(layer2, config.classes, kernel_size=1)
            self.score3 = nn.Conv2d(layer3, config.classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Logits for normalised bands without NaN; in training of all heads."""
        scores = self.heads(x, auxiliary=self.training)
        return scores if "aux" in scores else scores["out"]

    def heads(self, x: Tensor, *, auxiliary: bool = True) -> dict[str, Tensor]:
        """Logits of the main head, "out", and, where there is one and it is wanted, of the auxiliary head, "aux"; in either mode."""
        h, w = x.shape[-2:]
        if self.form != "d8":
            x = pad_to_grid(x, self.stride)
        *_, layer2, layer3, layer4 = self.backbone(x)
        scores = {"out": self.classifier(layer4)}  # (n, classes, h / stride, w / stride)
        if self.form == "8s":
            finer = enlarge(scores["out"], layer3) + self.score3(layer3)
            scores["out"] = enlarge(finer, layer2) + self.score2(layer2)
        if auxiliary and self.aux_classifier is not None:
            scores["aux"] = self.aux_classifier(layer3)
        corners = self.form != "d8"
        return {
            name: F.interpolate(score, size=x.shape[-2:], mode="bilinear", align_corners=corners)[..., :h, :w]
            for name, score in scores.items()
        }


def head(before: int, between: int, classes: int, dropout: nn.Module) -> nn.Sequential:
    """A 3 x 3 convolution with batch norm and ReLU, dropout, and the 1 x 1 convolution that scores the classes."""
    layers = nn.Sequential(
        nn.Conv2d(before, between, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(between),
        nn.ReLU(inplace=True),
        dropout,
        nn.Conv2d(between, classes, kernel_size=1),
    )
    initialise(layers)
    return layers
