"""Open a data set for training: a folder that we wrote, or a plain folder with images/ and masks/."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from sarseg.bands import BandScale, Quantity
from sarseg.errors import InputError
from sarseg.legend import IGNORE, Legend
from sarseg.patches.layout import DATASET, FORMAT, IMAGES, INDEX, LEGEND, MASKS
from sarseg.patches.pairs import MaskCodes, Pair, find_pairs, mask_codes
from sarseg.patches.shards import ShardReader
from sarseg.patches.sources import ProductScene, find_sources
from sarseg.patches.split import folder_options, split_scenes
from sarseg.patches.tally import BandInfo, Tally, read_index
from sarseg.patches.windows import SPLITS, TRAIN, grid_windows
from sarseg.product.folder import read_json
from sarseg.raster.read import open_raster
from sarseg.tiles import Window

log = logging.getLogger(__name__)

_FOREIGN_SIZE = 256
_VAL_SHARE = 0.2


class Patches(Protocol):
    """Where patches come from; threads and worker processes may share one."""

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image (band, rows, cols) with NaN for nodata, and mask (rows, cols) with 255 for ignore."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Patches with their split, bands, legend and index.

    `read(i)` gives image float32 (band, size, size), linear power or raw values, NaN = nodata, and mask uint8
    (size, size), codes of the legend, 255 = not trained on.
    """

    path: Path
    size: int
    legend: Legend
    index: Mapping[str, NDArray[Any]] = field(repr=False)
    """Columns by name; "split" at least."""
    patches: Patches = field(repr=False)
    known_bands: tuple[BandInfo, ...] | None
    """None where the statistics were never written down: `bands` then computes them."""
    band_names: tuple[str, ...]
    quantity: Quantity
    """What the patches hold: linear power, or values as they stand."""
    info: Mapping[str, Any] = field(repr=False)
    """dataset.json; empty for a plain folder."""
    files: tuple[Path, ...] = field(default=(), repr=False)
    """Files, and folders of files, that the patches are read from; none for patches in memory."""

    def __len__(self) -> int:
        return len(self.index["split"])

    def split(self, name: str) -> NDArray[np.int64]:
        """Numbers of the patches of "train", "val" or "test", ascending, int64."""
        if name not in SPLITS:
            raise ValueError(f"no split '{name}', there are {', '.join(SPLITS)}")
        return np.flatnonzero(self.index["split"] == name)

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image and mask of one patch."""
        return self.patches.read(int(index))

    @cached_property
    def bands(self) -> tuple[BandInfo, ...]:
        """Name, scale, mean and standard deviation (in that scale, training windows only) of every band."""
        if self.known_bands is not None:
            return self.known_bands
        tally = Tally([BandScale(name=name, scale="raw") for name in self.band_names], self.legend, self.size)
        for index in self.split("train"):
            tally.add_statistics(self.read(index)[0])
        return tally.band_infos()

    def statistics(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of every band in its scale, float64 (band,), from training windows only."""
        return np.array([band.mean for band in self.bands]), np.array([band.std for band in self.bands])


def open_dataset(path: str | Path, *, legend: Legend | None = None) -> Dataset:
    """Open a data set folder of `write_dataset` or `generate_train_data`, or a plain folder with images/ and masks/.

    A plain folder is paired by name; its classes come from `legend`, else legend.yaml in it, class tags, or the colours
    or values that occur; it is split by whole images or by blocks (`folder_options`). InputError when it is none of these.
    """
    path = Path(path)
    if (path / DATASET).is_file():
        return _open_ours(path, legend)
    if (path / "images").is_dir() and (path / "masks").is_dir():
        return _open_plain(path, legend)
    if not path.exists():
        raise InputError("no such folder", path)
    raise InputError("is no data set", path, "it needs dataset.json, or the folders images and masks")


def _open_ours(path: Path, legend: Legend | None) -> Dataset:
    info = read_json(path / DATASET)
    if not isinstance(info, dict) or info.get("format") != FORMAT or info.get("version") != 1:
        raise InputError("is no data set of patches, or one of another version", path / DATASET)
    try:
        bands = tuple(BandInfo.from_dict(band) for band in info["bands"])
        written = Legend.from_dict(info["legend"], path / DATASET)
        size, count, quantity = int(info["size"]), int(info["patches"]), info["quantity"]
        if quantity not in get_args(Quantity):
            raise ValueError(f"the quantity {quantity!r} is not known")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"is damaged: {error!r}", path / DATASET, "write the data set again") from error
    index = read_index(path / INDEX)
    if len(index.get("split", ())) != count:
        raise InputError(f"the index has not the {count} patches of {DATASET}", path / INDEX)
    names = tuple(band.name for band in bands)
    patches: Patches
    files: tuple[Path, ...] = (path / "images", path / "masks")
    if info.get("store") == "windows":
        patches = _open_windows(path, info, index, written, names)
        files = tuple(dict.fromkeys(file for scene in patches.scenes for file in scene.files()))
    elif (path / IMAGES).is_dir():
        patches = _Shards(path)
        files = (path / IMAGES, path / MASKS)
        if len(patches.images) != count or len(patches.masks) != count:
            raise InputError(f"the arrays have not the {count} patches of {DATASET}", path)
    elif "file" not in index:
        raise InputError(f"the arrays {IMAGES} are absent", path, "write the data set again")
    else:
        patches = _Files(path, tuple(index["file"].tolist()), len(bands), size)
    return Dataset(
        path=path,
        size=size,
        legend=legend or written,
        index=index,
        patches=patches,
        known_bands=bands,
        band_names=names,
        quantity=quantity,
        info=info,
        files=files,
    )


def _open_windows(path: Path, info: dict[str, Any], index: dict[str, NDArray[Any]], legend: Legend, bands: tuple[str, ...]) -> _Scenes:
    try:
        scenes = find_sources(info["sources"], path, legend, bands)
        number = {scene.name: at for at, scene in enumerate(scenes)}
        table = np.stack([[number[name] for name in index["scene"].tolist()], index["row"], index["col"]], axis=1).astype(np.int64)
        return _Scenes(scenes=scenes, table=table, size=int(info["size"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"is damaged: {error!r}", path / DATASET) from error


def _open_plain(path: Path, legend: Legend | None) -> Dataset:
    pairs, warnings = find_pairs(path / "images", path / "masks")
    if legend is None and (path / LEGEND).is_file():
        legend = Legend.from_file(path / LEGEND)
    codes, more = mask_codes(pairs, legend)
    for warning in (*warnings, *more):
        log.warning("%s: %s", path.name, warning)
    grids, names = [pair.image.grid for pair in pairs], [pair.name for pair in pairs]
    size = min(_FOREIGN_SIZE, *(min(grid.shape) for grid in grids))
    splitters = split_scenes(grids, names, folder_options(grids, names, size=size, seed=0, val_share=_VAL_SHARE))
    places, split, blocks = [], [], []
    for at, (grid, splitter) in enumerate(zip(grids, splitters, strict=True)):
        positions = grid_windows(grid.shape, size, size)
        places.append(np.column_stack([np.full(len(positions), at), positions]))
        split.append(splitter(grid, positions, size))
        blocks += splitter.blocks(grid, positions, size)
    table, numbers = np.concatenate(places), np.concatenate(split)
    if not (numbers == TRAIN).any():
        raise InputError("no patch trains", path, f"the images are too small for patches of {size} with a guard between splits")
    index = {
        "split": np.array(SPLITS)[numbers],
        "scene": np.array(names)[table[:, 0]],
        "row": table[:, 1],
        "col": table[:, 2],
        "block": np.array(blocks),
    }
    return Dataset(
        path=path,
        size=size,
        legend=codes.legend,
        index=index,
        patches=_Windows(pairs, codes, table, size),
        known_bands=None,
        band_names=pairs[0].image.bands,
        quantity="raw",
        info={},
        files=(path / "images", path / "masks"),
    )


class _Shards:
    def __init__(self, path: Path) -> None:
        self.images, self.masks = ShardReader(path / IMAGES), ShardReader(path / MASKS)

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        return self.images[index], self.masks[index]


@dataclass(frozen=True)
class _Files:
    """A file a patch, written by `generate_train_data`: the masks hold codes."""

    path: Path
    names: tuple[str, ...]
    bands: int
    size: int

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        mask = open_raster(self.path / "masks" / self.names[index]).read_codes()
        image = open_raster(self.path / "images" / self.names[index])
        want = (self.bands, self.size, self.size)
        if (len(image.bands), *image.grid.shape) != want or mask.shape != want[1:]:
            raise InputError(f"the patch has not the {want[0]} bands and {want[1]} x {want[2]} pixels of {DATASET}", image.path)
        return image.read(), np.asarray(mask, np.uint8)


@dataclass(frozen=True)
class _Windows:
    """Windows of the pairs of a plain folder."""

    pairs: Sequence[Pair]
    codes: MaskCodes
    table: NDArray[np.int64]
    """(n, 3): number of the pair, first row and column."""
    size: int

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        at, row, col = self.table[index].tolist()
        window = Window(row=row, col=col, rows=self.size, cols=self.size)
        image, mask = self.pairs[at].image.read(window), self.codes.read(self.pairs[at], window)
        mask[np.isnan(image).any(0)] = IGNORE
        return image, mask


@dataclass(frozen=True)
class _Scenes:
    """Windows of the products and labels that a data set without pixels points at."""

    scenes: Sequence[ProductScene]
    table: NDArray[np.int64]
    """(n, 3): number of the scene, first row and column."""
    size: int

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        at, row, col = self.table[index].tolist()
        pixels = self.scenes[at].read(Window(row=row, col=col, rows=self.size, cols=self.size))
        return pixels.image, pixels.mask
