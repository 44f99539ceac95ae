"""What goes into a step: a function of (seed, step, index in the global batch), whoever makes it and whenever.

An item of the torch dataset is the part of a step that one device works on, so that a loader needs no state: after an
interruption it starts at another step.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchData

from sarseg.errors import SarsegError
from sarseg.nets.modelfile import BandSpec, normalise
from sarseg.patches.dataset import Dataset
from sarseg.train.augment import sample_at
from sarseg.train.options import TrainOptions

_MOST_WORKERS = 8


class Batch(NamedTuple):
    """Patches as they leave the disk.

    `images` float32 (n, band, rows, cols), normalised, NaN = no value; `target` uint8 (n, rows, cols), class indexes, 255 =
    no label; `samples` their numbers in the dataset.
    """

    images: Tensor
    target: Tensor
    samples: tuple[int, ...]


class Part(NamedTuple):
    """Which of `of` equal parts of each step is meant."""

    rank: int = 0
    of: int = 1


class Patches(TorchData[Batch | SarsegError], ABC):
    """Items are stacks of patches: number `k` of them holds the samples `of(k)`.

    What is wrong with a patch is returned, not raised: torch would make a text of it on its way out of a worker process.
    """

    def __init__(self, dataset: Dataset, bands: tuple[BandSpec, ...]) -> None:
        self.dataset, self.bands = dataset, bands
        self.lookup = dataset.legend.lookup()

    @abstractmethod
    def of(self, item: int) -> tuple[int, ...]:
        """Numbers of the samples of an item."""

    def __getitem__(self, item: int) -> Batch | SarsegError:
        samples = self.of(item)
        try:
            pairs = [self.dataset.read(sample) for sample in samples]
            images = np.stack([normalise(values, self.bands) for values, _ in pairs])
        except SarsegError as error:
            return error
        target: NDArray[np.uint8] = self.lookup[np.stack([mask for _, mask in pairs])]
        return Batch(torch.from_numpy(images), torch.from_numpy(target), samples)


class StepPatches(Patches):
    """Training patches: item `step` is one part of the batch of that step."""

    def __init__(self, dataset: Dataset, bands: tuple[BandSpec, ...], options: TrainOptions, part: Part) -> None:
        super().__init__(dataset, bands)
        self.training = dataset.split("train")
        self.seed, self.batch = options.seed, options.batch
        each = options.batch // part.of
        self.places = range(part.rank * each, (part.rank + 1) * each)
        """Indexes in the global batch."""

    def of(self, item: int) -> tuple[int, ...]:
        """Numbers of the samples of this part of a step."""
        return self.samples(item, self.places)

    def samples(self, step: int, places: Sequence[int]) -> tuple[int, ...]:
        """Numbers of the samples at these places of the batch of a step."""
        count = len(self.training)
        return tuple(int(self.training[sample_at(self.seed, step, at, batch=self.batch, count=count)]) for at in places)

    def draws(self, step: int) -> list[tuple[int, int, int]]:
        """(seed, step, index in the global batch) of each sample: what decides how it is changed."""
        return [(self.seed, step, at) for at in self.places]


class ValidationPatches(Patches):
    """Validation patches in their order, `stack` at a time."""

    def __init__(self, dataset: Dataset, bands: tuple[BandSpec, ...], *, stack: int) -> None:
        super().__init__(dataset, bands)
        self.validation, self.stack = dataset.split("val"), stack

    def __len__(self) -> int:
        return math.ceil(len(self.validation) / self.stack)

    def of(self, item: int) -> tuple[int, ...]:
        """Numbers of the samples of a stack."""
        return tuple(int(sample) for sample in self.validation[item * self.stack : (item + 1) * self.stack])


def load(patches: Patches, items: range, *, workers: int, pinned: bool) -> Iterator[Batch]:
    """The items in order, made by `workers` processes ahead of their use, or right here when there are none."""
    loader = DataLoader(
        patches,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        pin_memory=pinned,
        generator=torch.Generator(),  # else it would draw from the process's own
    )
    for batch in loader:
        if isinstance(batch, SarsegError):
            raise batch
        yield batch


def worker_count(options: TrainOptions, device: torch.device) -> int:
    """Loading processes of one device.

    None on a CPU: the few milliseconds that one takes away from the convolutions cost a third of their time.
    """
    if options.workers is not None:
        return options.workers
    if device.type == "cpu":
        return 0
    return max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0)) // options.devices - 1))
