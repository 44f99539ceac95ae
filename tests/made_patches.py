"""Patches made in memory and networks that train in a second, for the tests of training; a script can import it too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarseg.legend import LandClass, Legend
from sarseg.nets.registry import NETWORKS
from sarseg.patches.dataset import Dataset
from sarseg.patches.tally import BandInfo

LEGEND = Legend(
    (
        LandClass(code=1, name="water", color=(0, 0, 255)),
        LandClass(code=4, name="field", color=(255, 220, 0)),
        LandClass(code=7, name="forest", color=(0, 120, 0)),
    )
)
MEAN_DB = np.array([[-21.0, -27.0], [-12.0, -18.0], [-8.0, -13.0]])


@dataclass(frozen=True)
class Made:
    """Patches in memory: three classes in squares of 8 pixels under 4-look speckle, a NaN corner, an ignored row.

    `sparse` takes labels away, of each patch another share.
    """

    count: int
    size: int = 32
    seed: int = 0
    sparse: bool = False

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        rng = np.random.default_rng((self.seed, index))
        kind = np.kron(rng.integers(0, 3, (self.size // 8, self.size // 8)), np.ones((8, 8), np.int64))
        power = 10 ** (MEAN_DB[kind].transpose(2, 0, 1) / 10) * rng.gamma(4, 0.25, (2, self.size, self.size))
        power[0, :2, :3] = np.nan
        mask = np.array([1, 4, 7], np.uint8)[kind]
        mask[5] = 255
        if self.sparse:
            mask[rng.random(mask.shape) > 1 / (1 + index % 4)] = 255
        return power.astype(np.float32), mask


def made_dataset(train: int = 10, val: int = 4, patches: object = None) -> Dataset:
    bands = (BandInfo(name="VV", scale="db", mean=-14.0, std=6.0), BandInfo(name="VH", scale="db", mean=-20.0, std=6.5))
    return Dataset(
        path=Path("made"),
        size=32,
        legend=LEGEND,
        index={"split": np.array(["train"] * train + ["val"] * val)},
        patches=patches or Made(train + val),  # type: ignore[arg-type]
        known_bands=bands,
        band_names=("VV", "VH"),
        quantity="power",
        info={},
    )


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """`norm`: with batch norm; `aux`: a second head, in training; `limit`: patches that its memory holds, any number for 0."""

    bands: int
    classes: int
    norm: bool = True
    dropout: float = 0.3
    aux: bool = False
    limit: int = 0


class Tiny(nn.Module):
    """Two convolutions with dropout between them."""

    stride = 1
    pools_globally = False
    aux_weight = 0.5

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv2d(config.bands, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5) if config.norm else nn.Identity()
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Conv2d(5, config.classes, 3, padding=1)
        self.second = nn.Conv2d(5, config.classes, 1) if config.aux else None

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        if self.training and self.config.limit and len(x) > self.config.limit and not x.is_meta:
            raise torch.OutOfMemoryError("CUDA out of memory")
        features = self.drop(torch.relu(self.norm(self.first(x))))
        if self.training and self.second is not None:
            return {"out": self.head(features), "aux": self.second(features)}
        answer: Tensor = self.head(features)
        return answer


NETWORKS["tiny"] = (TinyConfig, Tiny)
