"""What is settled before the first step: bands, class frequencies, the learning rate of every step, sizes that cannot be trained."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn
from torch.func import functional_call

from sarseg.errors import InputError, UsageError
from sarseg.nets.fitting import count_pixels
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
    """Labelled pixels of each training patch and class, int64 (patches, classes), in the order of `training` and of the legend.

    InputError for a dataset without any, and for one whose labels all have one class: there is nothing to tell apart.
    """
    pixels = count_pixels(dataset.read, dataset.index, training, dataset.legend)
    there = [name for name, count in zip(dataset.legend.names, pixels.sum(0), strict=True) if count]
    if not there:
        raise InputError("no pixel of the training patches has a label", dataset.path, "the masks hold only nodata (0) and ignore (255)")
    if len(there) == 1:
        hint = "a model tells two classes or more apart: look at the masks, or at the legend that gives their values a meaning"
        raise InputError(f"every label of the training patches is '{there[0]}'", dataset.path, hint)
    return pixels


def learning_rate(step: int, steps: int, options: TrainOptions) -> float:
    """Linear rise over the warm-up, then a half cosine that would reach zero at `steps`."""
    rise = max(1, round(steps * options.warm_up))
    if step < rise:
        return options.lr * (step + 1) / rise
    return options.lr * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def refuse_tiny(network: nn.Module, bands: int, shape: tuple[int, ...], micro: int) -> None:
    """UsageError when batch norm would see a single value a channel, found by a forward pass in which no number is computed."""
    tensors = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    was_training = network.training
    try:
        functional_call(network.train(), tensors, torch.zeros(micro, bands, *shape, device="meta"))
    except ValueError as error:  # torch's own refusal
        raise UsageError(
            f"a batch of {micro} with patches of {shape[0]} x {shape[1]} leaves batch norm a single value a channel",
            hint=f"take a larger batch{'' if getattr(network, 'pools_globally', False) else ' or larger patches'}",
        ) from error
    finally:
        network.train(was_training)
