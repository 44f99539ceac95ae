"""What a data set says about itself: its index table, class counts, and statistics of the training windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.bands import SCALES, BandScale, Scale, scaled_band
from sarseg.errors import InputError
from sarseg.grid import Bounds
from sarseg.legend import Legend
from sarseg.patches.windows import SPLITS, TRAIN
from sarseg.tiles import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class BandInfo:
    """A band as a network sees it: its scale, and mean and standard deviation of the training windows in that scale.

    `diagonals` are the two bands the root of whose product divides; of a correlation only.
    """

    name: str
    scale: Scale
    mean: float
    std: float
    diagonals: tuple[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        known = {"name": self.name, "scale": self.scale, "mean": self.mean, "std": self.std}
        return known if self.diagonals is None else {**known, "diagonals": list(self.diagonals)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BandInfo:
        """Reverse of `to_dict`; KeyError, TypeError or ValueError where an entry is missing, unknown or of a wrong kind."""
        diagonals = data.get("diagonals")
        if data["scale"] not in SCALES or (data["scale"] == "correlation") != (diagonals is not None):
            raise ValueError(f"band {data['name']} has the scale {data['scale']!r} and the diagonals {diagonals}")
        if diagonals is not None:
            first, second = (str(name) for name in diagonals)
            diagonals = first, second
        mean, std = float(data["mean"]), float(data["std"])
        return cls(**{**data, "mean": mean, "std": std, "diagonals": diagonals})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a patch lies: its scene, block of the split, first row and column, CRS (empty without georeference) and outline in that CRS."""

    scene: str
    block: str
    row: int
    col: int
    crs: str
    bounds: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """What a window holds: image (band, rows, cols) with NaN for nodata, mask (rows, cols) with 255 for ignore.

    `stored` are the file's own numbers (band, rows, cols), where they are to be written on.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.uint8]
    stored: NDArray[Any] | None = None

    def crop(self, window: Window) -> Pixels:
        """A part of it."""
        rows, cols = window.slices
        stored = self.stored[:, rows, cols] if self.stored is not None else None
        return Pixels(image=self.image[:, rows, cols], mask=self.mask[rows, cols], stored=stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A window that was taken."""

    pixels: Pixels
    split: int
    place: Place
    valid_share: float
    """Share of pixels with a value in every band."""
    scene: int
    """Number of the scene."""
    box: NDArray[np.float64]
    """Outline in the CRS in which blocks are counted."""


class Tally:
    """Sums over patches in the order in which they are added.

    Parameters
    ----------
    bands : each with its scale
    size : side of a patch; 0 where sizes differ
    """

    def __init__(self, bands: Sequence[BandScale], legend: Legend, size: int) -> None:
        self.bands, self.legend, self.size = tuple(bands), legend, size
        self._count = np.zeros(len(bands), np.int64)
        self._sum, self._square = np.zeros(len(bands)), np.zeros(len(bands))
        self._places: list[Place] = []
        self._splits: list[int] = []
        self._valid: list[float] = []
        self._classes: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, patch: Patch) -> None:
        """Count one patch."""
        self._places.append(patch.place)
        self._splits.append(patch.split)
        self._valid.append(patch.valid_share)
        self._classes.append(np.bincount(patch.pixels.mask.ravel(), minlength=256)[list(self.legend.codes)])
        if patch.split == TRAIN:
            self.add_statistics(patch.pixels.image)

    def add_statistics(self, image: NDArray[np.float32]) -> None:
        """Let an image (band, rows, cols) count for mean and standard deviation; NaN does not."""
        for at, _ in enumerate(self.bands):
            band = scaled_band(image, self.bands, at)
            finite = np.isfinite(band)
            values = (band if finite.all() else band[finite]).astype(np.float64).ravel()
            self._count[at] += values.size
            self._sum[at] += values.sum()
            self._square[at] += np.square(values).sum()

    def band_infos(self) -> tuple[BandInfo, ...]:
        """Name, scale, mean and standard deviation of every band; 0 and 1 for a band without a value."""
        some = np.maximum(self._count, 1)
        mean = self._sum / some
        std = np.sqrt(np.maximum(self._square / some - mean**2, 0.0))
        return tuple(
            BandInfo(
                name=band.name,
                scale=band.scale,
                mean=float(mean[at]),
                std=float(std[at]) if std[at] > 0 else 1.0,
                diagonals=band.diagonals,
            )
            for at, band in enumerate(self.bands)
        )

    def split_summary(self) -> dict[str, Any]:
        """Patches and labelled pixels of every split and class, for JSON."""
        splits, classes = np.array(self._splits, np.int64), self._class_table()
        return {
            name: {
                "patches": int((splits == at).sum()),
                "pixels": {title: int(count) for title, count in zip(self.legend.names, classes[splits == at].sum(0), strict=True)},
            }
            for at, name in enumerate(SPLITS)
            if (splits == at).any()
        }

    def classes_there(self) -> list[str]:
        """Names of the classes that have a labelled pixel."""
        return [name for name, count in zip(self.legend.names, self._class_table().sum(0), strict=True) if count]

    def without_split(self, name: str) -> bool:
        """Whether no patch belongs to a split."""
        return SPLITS.index(name) not in self._splits

    def write_index(self, path: Path, **more: Sequence[str]) -> None:
        """Write the index as Parquet: a row a patch, further text columns by name."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        places = self._places
        columns: dict[str, Any] = {
            "id": pa.array(np.arange(len(places), dtype=np.int32)),
            "scene": pa.array([place.scene for place in places], pa.string()),
            "row": pa.array([place.row for place in places], pa.int32()),
            "col": pa.array([place.col for place in places], pa.int32()),
            "size": pa.array([self.size] * len(places), pa.int32()),
            "block": pa.array([place.block for place in places], pa.string()),
            "crs": pa.array([place.crs for place in places], pa.string()),
        }
        for at, name in enumerate(("x_min", "y_min", "x_max", "y_max")):
            columns[name] = pa.array([place.bounds[at] for place in places], pa.float64())
        columns["split"] = pa.array([SPLITS[split] for split in self._splits], pa.string())
        columns["valid_share"] = pa.array(self._valid, pa.float32())
        for code, counts in zip(self.legend.codes, self._class_table().T, strict=True):
            columns[f"class_{code}"] = pa.array(counts.astype(np.int32))
        columns.update({name: pa.array(list(values), pa.string()) for name, values in more.items()})
        pq.write_table(pa.table(columns), path, compression="zstd")

    def _class_table(self) -> NDArray[np.int64]:
        return np.array(self._classes, np.int64).reshape(len(self._places), len(self.legend.codes))


def read_index(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of an index, one numpy array each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError("the index of the data set cannot be read", path, str(error)) from error
    return {name: table[name].to_numpy() for name in table.column_names}
