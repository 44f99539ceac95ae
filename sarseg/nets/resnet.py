"""Residual networks (He, Zhang, Ren, Sun 2016, CVPR, doi 10.1109/CVPR.2016.90) as encoders, with torchvision's tensor names.

`ResNet` gives five features, finest first. h and w are halved with rounding up at each halving.

| feature | stride | channels of resnet18, resnet34 | of resnet50, resnet101 |
|---|---|---|---|
| stem, before the max pool | 2 | 64 (deep stem: 128) | 64 (deep stem: 128) |
| layer1 | 4 | 64 | 256 |
| layer2 | 8 | 128 | 512 |
| layer3 | 16 (8 for the dilations "torchvision" and "semseg") | 256 | 1024 |
| layer4 | 32 (16 for "layer4", 8 for "torchvision" and "semseg") | 512 | 2048 |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
Stem = Literal["plain", "deep"]
Dilation = Literal["none", "layer4", "torchvision", "semseg"]

_BLOCKS: dict[str, tuple[int, int, int, int]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
POOLED_EPS = 1.0
"""Added to the variance where batch norm sees one value an image. With two equal patches a batch that variance is 0, and a small number
multiplies what differs between training and eval: a DeepLabV3+ that is 99 % right in training answered 49 % of its patch rightly in eval
mode with 1e-3 (after 20 steps), 99.1 % with 0.1 and 99.6 % with 1 (after 40)."""

_PLANES = (64, 128, 256, 512)

# of layer3 and layer4: stride, dilation of the first block, dilation of the other blocks
_DILATIONS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "none": ((2, 1, 1), (2, 1, 1)),
    "layer4": ((2, 1, 1), (1, 1, 2)),
    "torchvision": ((1, 1, 2), (1, 2, 4)),
    "semseg": ((1, 2, 2), (1, 4, 4)),
}


class ResNet(nn.Module):
    """float (n, bands, h, w) -> five features (see the module), any h, w >= 1.

    Parameters
    ----------
    backbone : which of the residual networks
    bands : input bands
    stem : "plain" is one 7 x 7 convolution; "deep" is three of 3 x 3 with 64, 64, 128 channels (`conv1..conv3`, `bn1..bn3`)
    dilation : "none"; "layer4": layer4 has dilation in place of its stride; "torchvision": layer3 and layer4 have, and a layer's
        first block keeps the dilation of the layer before; "semseg": every 3 x 3 convolution has 2 in layer3 and 4 in layer4
    fc : classes of a fully connected layer for `classify`; None = no such layer
    """

    def __init__(self, backbone: Backbone, *, bands: int, stem: Stem = "plain", dilation: Dilation = "none", fc: int | None = None) -> None:
        super().__init__()
        block = BasicBlock if backbone in ("resnet18", "resnet34") else Bottleneck
        wide = 64 if stem == "plain" else 128
        self.deep = stem == "deep"
        if self.deep:
            self.conv1 = nn.Conv2d(bands, 64, kernel_size=3, stride=2, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.conv2 = nn.Conv2d(64, 64, kernel_size=3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(64)
            self.conv3 = nn.Conv2d(64, 128, kernel_size=3, padding=1, bias=False)
            self.bn3 = nn.BatchNorm2d(128)
        else:
            self.conv1 = nn.Conv2d(bands, 64, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        plans = ((1, 1, 1), (2, 1, 1), *_DILATIONS[dilation])
        counts = _BLOCKS[backbone]
        self.channels = (wide, *(planes * block.expansion for planes in _PLANES))
        """Channels of the five features."""
        self.strides = (2, 4, 8, 8 * plans[2][0], 8 * plans[2][0] * plans[3][0])
        """Strides of the five features."""
        befores = self.channels[:-1]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*_blocks(block, before, planes, count, plan))
            for before, planes, count, plan in zip(befores, _PLANES, counts, plans, strict=True)
        )
        self.fc = None if fc is None else nn.Linear(self.channels[-1], fc)
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stem (before the max pool), layer1, layer2, layer3, layer4."""
        x = self.relu(self.bn1(self.conv1(x)))
        if self.deep:
            x = self.relu(self.bn3(self.conv3(self.relu(self.bn2(self.conv2(x))))))
        features = [x]
        x = self.maxpool(x)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return tuple(features)

    def classify(self, x: Tensor) -> Tensor:
        """Logits (n, fc) of whole images; only with `fc`."""
        assert self.fc is not None, "a ResNet without fc has no classes"
        logits: Tensor = self.fc(self.forward(x)[-1].mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity, float (n, before, h, w) -> (n, planes, ceil(h / stride), ceil(w / stride))."""

    expansion = 1

    def __init__(self, before: int, planes: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, kernel_size=3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(before, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways, after ReLU."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride), 1 x 1 convolutions beside the identity, float (n, before, h, w) -> (n, 4 planes, ...)."""

    expansion = 4

    def __init__(self, before: int, planes: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        after = planes * self.expansion
        self.conv1 = nn.Conv2d(before, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, after, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways, after ReLU."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


def initialise(network: nn.Module) -> None:
    """He's weights (normal, fan out, ReLU) for every convolution without bias, 1 and 0 for every batch norm.

    A convolution with bias is no part of a chain of batch norms: it keeps torch's own start, so that the first logits are small.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def pad_to_grid(x: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column of (n, c, h, w) until h - 1 and w - 1 are multiples of `stride`.

    A halving convolution with symmetric padding puts its outputs on every second pixel, from the first one on. At such a size the
    last feature lies on the last pixel, so that `enlarge` puts everything back where it came from, whatever the size.
    """
    h, w = x.shape[-2:]
    return F.pad(x, (0, (1 - w) % stride, 0, (1 - h) % stride), mode="replicate")


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear interpolation of (n, c, h, w) to the size of `like`; the corner pixels' centres stay where they are."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def check_config(config: Any, **choices: Any) -> None:
    """ValueError when `bands` or `classes` is below 1, or an option is not among its choices (a Literal, by the option's name)."""
    for name in ("bands", "classes"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}, not >= 1")
    for name, literal in choices.items():
        allowed = get_args(literal)
        # 8.0 and True equal an int of the choices, but are none
        if not any(getattr(config, name) == one and type(getattr(config, name)) is type(one) for one in allowed):
            raise ValueError(f"{name} is {getattr(config, name)!r}, not one of {', '.join(map(str, allowed))}")


def _blocks(
    block: type[BasicBlock] | type[Bottleneck], before: int, planes: int, count: int, plan: tuple[int, int, int]
) -> Iterator[nn.Module]:
    stride, first, others = plan
    yield block(before, planes, stride=stride, dilation=first)
    for _ in range(count - 1):
        yield block(planes * block.expansion, planes, stride=1, dilation=others)


def _downsample(before: int, after: int, stride: int) -> nn.Sequential | None:
    """The way beside a block that changes the shape; None where the identity fits."""
    if stride == 1 and before == after:
        return None
    return nn.Sequential(nn.Conv2d(before, after, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(after))
