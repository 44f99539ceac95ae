"""SegNet (Badrinarayanan, Kendall, Cipolla 2015, arXiv 1511.00561): a decoder that puts each maximum back where it was found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST_PX = 32  # five halvings leave one pixel
# convolutions of VGG-16 (Simonyan, Zisserman 2014, arXiv 1409.1556) between its five pools, in units of the first width
_ENCODER: tuple[tuple[int, ...], ...] = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
# of the decoder, from the coarsest; a last one makes the classes
_DECODER: tuple[tuple[int, ...], ...] = ((8, 8, 8), (8, 8, 4), (4, 4, 2), (2, 1), (1,))


@dataclass(frozen=True, slots=True, kw_only=True)
class SegNetConfig:
    """Size of a SegNet: `width` channels in the first convolutions, up to eight times as many in the last; 64 is the published one."""

    bands: int
    classes: int
    width: int = 64

    def __post_init__(self) -> None:
        for name in ("bands", "classes", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not >= 1")


class SegNet(nn.Module):
    """float (n, bands, h, w) -> logits (n, classes, h, w), any h, w >= 1.

    `features` has the names and indices of torchvision's `vgg16_bn`, so that the weights of its `features` load.
    Sizes are kept as they are (each pool drops an odd last row or column, its unpooling leaves it 0); only below 32 is padded.
    """

    stride = 32
    pools_globally = False

    def __init__(self, config: SegNetConfig) -> None:
        super().__init__()
        encoder: list[nn.Module] = []
        channels = config.bands
        for stage in _ENCODER:
            for units in stage:
                encoder += _convolution(channels, units * config.width)
                channels = units * config.width
            encoder.append(nn.MaxPool2d(kernel_size=2, stride=2, return_indices=True))
        self.features = nn.Sequential(*encoder)
        stages: list[list[nn.Module]] = []
        for stage in _DECODER:
            stages.append([])
            for units in stage:
                stages[-1] += _convolution(channels, units * config.width)
                channels = units * config.width
        self.decoder = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        self.head = nn.Conv2d(channels, config.classes, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits for normalised bands without NaN."""
        h, w = x.shape[-2:]
        # (n, bands, H, W), not below 32 x 32
        right, below = (torch.sym_max(_LEAST_PX - length, 0) for length in (w, h))  # type: ignore[no-untyped-call]
        x = F.pad(x, (0, right, 0, below), mode="replicate")
        pools: list[tuple[Tensor, torch.Size]] = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                size = x.shape[-2:]
                x, places = layer(x)  # both (n, width * 1 .. 8, H / 2 .. 32, W / 2 .. 32), rounded down
                pools.append((places, size))
            else:
                x = layer(x)
        for (places, size), convolutions in zip(reversed(pools), self.decoder, strict=True):
            x = convolutions(F.max_unpool2d(x, places, kernel_size=(2, 2), output_size=size))
        return self.head(x)[..., :h, :w]  # type: ignore[no-any-return]  # (n, classes, h, w)


def _convolution(before: int, after: int) -> list[nn.Module]:
    """A 3 x 3 convolution with bias, batch norm and ReLU, (n, before, h, w) -> (n, after, h, w); He's initial weights as in VGG-BN."""
    convolution = nn.Conv2d(before, after, kernel_size=3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
