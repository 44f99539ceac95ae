"""What is settled before the first step: bands, class frequencies, the learning rate of every step, sizes that cannot be trained."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from sarseg.errors import InputError, UsageError
from sarseg.nets.modelfile import BandSpec
from sarseg.patches.dataset import Dataset
from sarseg.train.options import TrainOptions


def band_specs(dataset: Dataset) -> tuple[BandSpec, ...]:
    """The dataset's bands as a model knows them; InputError for statistics that are no usable numbers."""
    found = []
    for band in dataset.bands:
        try:
            found.append(BandSpec(name=band.name, scale=band.scale, mean=band.mean, std=band.std, diagonals=band.diagonals))
        except ValidationError as error:
            fault = f"band {band.name}: mean {band.mean:g} and deviation {band.std:g} cannot be used"
            raise InputError(fault, dataset.path, "mark pixels that are no backscatter as nodata") from error
    return tuple(found)


def class_pixels(dataset: Dataset, training: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labelled pixels of each class in the training patches, int64 (classes,), in the legend's order.

    InputError for a dataset without any.
    """
    codes = dataset.legend.codes
    columns = [f"class_{code}" for code in codes]
    if all(column in dataset.index for column in columns):
        pixels = np.array([int(dataset.index[column][training].sum(dtype=np.int64)) for column in columns])
    else:
        pixels = np.zeros(len(codes), np.int64)
        for sample in training:
            pixels += np.bincount(dataset.read(int(sample))[1].ravel(), minlength=256)[list(codes)]
    if not pixels.any():
        raise InputError("no pixel of the training patches has a label", dataset.path, "the masks hold only nodata (0) and ignore (255)")
    return pixels


def learning_rate(step: int, steps: int, options: TrainOptions) -> float:
    """Linear rise over the warm-up, then a half cosine that would reach zero at `steps`."""
    rise = max(1, round(steps * options.warm_up))
    if step < rise:
        return options.lr * (step + 1) / rise
    return options.lr * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def refuse_tiny(network: nn.Module, shape: tuple[int, ...], micro: int) -> None:
    """UsageError when batch norm would see fewer than two values a channel at the coarsest features."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        least = 1
    else:
        least = 2
    stride = int(getattr(network, "stride", 1))
    pixels = 1 if getattr(network, "pools_globally", False) else math.prod(-(-side // stride) for side in shape)
    if micro * pixels < least:
        raise UsageError(
            f"a batch of {micro} with patches of {shape[0]} x {shape[1]} leaves batch norm {micro * pixels} value a channel",
            hint="take a larger batch" + ("" if getattr(network, "pools_globally", False) else " or larger patches"),
        )
