"""Products and the class rasters on their grids: opened to be cut, or found again by a data set that keeps no pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.bands import Scale, diagonals_of
from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.masks import NOT_TRAINED
from sarseg.patches.split import PatchOptions
from sarseg.patches.tally import Pixels
from sarseg.patches.windows import check_size
from sarseg.product.folder import ITEM
from sarseg.product.open import Product, open_product
from sarseg.raster.archive import split_virtual
from sarseg.raster.read import Raster, open_raster
from sarseg.tiles import Window

_CUT_AGAIN = "put it back as it was, or run `sarseg patches` again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A product (folder or raster) and the class raster on its grid; `name` is the scene's, the product's id when empty."""

    image: Path
    labels: Path
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class ProductScene:
    """An opened source."""

    name: str
    product: Product
    labels: Raster
    legend: Legend
    offset: tuple[int, int]
    """(row, col) of the product's first pixel in the label raster."""
    bands: tuple[str, ...]

    @property
    def grid(self) -> MapGrid:
        """Of the product."""
        return self.product.grid

    @property
    def labels_path(self) -> str:
        """Where its labels come from."""
        return self.labels.path

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        known = np.zeros(256, bool)
        known[[NODATA, IGNORE, *self.legend.codes]] = True
        return known

    def read(self, window: Window) -> Pixels:
        """Bands and codes of a window of the product; 255 also where a band has no value and under layover and shadow."""
        image = self.product.read(window, self.bands)
        mask = np.full(window.shape, IGNORE, np.uint8)
        there = window.shift(rows=self.offset[0], cols=self.offset[1])
        inside = there.clip(self.labels.grid.shape)
        if inside is not None:
            codes = self.labels.read_codes(inside)
            wrong = (codes < 0) | (codes > IGNORE) | ~self._known[np.clip(codes, 0, IGNORE)]
            if wrong.any():
                hint = "bring its values to the legend with `sarseg labels --remap`"
                raise InputError(f"label {int(codes[wrong][0])} is not in the legend", self.labels.path, hint)
            mask[inside.relative_to(there).slices] = codes
        untrained = np.isnan(image).any(0) | (mask == NODATA)
        if self.product.mask_raster is not None:
            untrained |= (self.product.mask(window) & NOT_TRAINED) != 0
        mask[untrained] = IGNORE
        return Pixels(image=image, mask=mask)

    def usual_scale(self, band: str) -> Scale:
        """Backscatter is seen in dB, an off-diagonal element beside its diagonals as a correlation, all else as it stands."""
        if self.product.quantity != "power" or band not in self.product.bands:
            return "raw"
        diagonals = diagonals_of(band)
        if diagonals is None:
            return "db"
        return "correlation" if set(diagonals) <= set(self.bands) else "raw"

    def info(self) -> dict[str, Any]:
        """For dataset.json."""
        return {
            "name": self.name,
            "image": self.product.path.name,
            "labels": Path(self.labels.path).name,
            "shape": list(self.grid.shape),
            "datetime_utc": self.product.datetime_utc,
            "crs": self.grid.crs.to_string() if self.grid.crs is not None else None,
        }

    def place(self, dataset: Path) -> dict[str, Any]:
        """For dataset.json: where a data set folder finds the files again, and how it knows them."""
        image, labels = self.product.path, Path(self.labels.path)
        return {
            "image": {"path": _path_from(dataset, image), **_stamp(image, self._files())},
            "labels": {"path": _path_from(dataset, labels), **_stamp(labels, ())},
        }

    def files(self) -> list[Path]:
        """What it is read from, or the archives that hold it."""
        archive = split_virtual(self.labels.path)
        return [*self.product.files(self.bands), archive[0] if archive is not None else Path(self.labels.path)]

    def _files(self) -> tuple[str, ...]:
        folder = self.product.path.resolve()
        inside = [file.resolve() for file in self.product.files(self.bands)] if folder.is_dir() else []
        return tuple(file.relative_to(folder).as_posix() for file in inside if file.is_relative_to(folder))


def open_sources(sources: Sequence[Source], options: PatchOptions) -> list[ProductScene]:
    """Open what is to be cut: equal bands and quantities, labels on each image's grid."""
    if not sources:
        raise UsageError("no image to cut patches from")
    products, labels = [open_product(source.image) for source in sources], [open_raster(source.labels) for source in sources]
    names = [source.name or product.id for source, product in zip(sources, products, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two images are called {', '.join(twice)}")
    bands = options.bands or products[0].bands
    legend = options.legend or _common_legend(labels)
    scenes = []
    for name, product, label in zip(names, products, labels, strict=True):
        check_size(product.grid.shape, options.size, product.path)
        if product.radiometry != products[0].radiometry:
            known = f"{product.radiometry or 'values of unknown kind'} beside {products[0].radiometry or 'values of unknown kind'}"
            raise InputError(known, product.path, "products of one quantity can be cut into one data set")
        if product.quantity != products[0].quantity or not set(bands) <= set(product.rasters):
            raise InputError(f"bands {', '.join(product.rasters)} are not those wanted: {', '.join(bands)}", product.path)
        scenes.append(_scene(name, product, label, legend, bands))
    return scenes


def find_sources(entries: Sequence[dict[str, Any]], dataset: Path, legend: Legend, bands: tuple[str, ...]) -> list[ProductScene]:
    """Open the sources of a data set without pixels again, by the entries of its dataset.json.

    InputError for one that is not there or has changed. KeyError, TypeError or ValueError for a damaged entry.
    """
    scenes = []
    for entry in entries:
        image, labels = (_found(entry["place"][kind], dataset) for kind in ("image", "labels"))
        scenes.append(_scene(str(entry["name"]), open_product(image), open_raster(labels), legend, bands))
    return scenes


def _scene(name: str, product: Product, labels: Raster, legend: Legend, bands: tuple[str, ...]) -> ProductScene:
    offset = labels.grid.offset_of(product.grid)
    if offset is None or (product.grid.crs is None and product.grid.shape != labels.grid.shape):
        raise InputError("the labels lie on another grid than the image", labels.path, f"`sarseg labels ... --like {product.path}`")
    return ProductScene(name=name, product=product, labels=labels, legend=legend, offset=offset, bands=bands)


def _common_legend(labels: Sequence[Raster]) -> Legend:
    found = [Legend.from_tags(raster.tags, raster.colormap) for raster in labels]
    for raster, legend in zip(labels, found, strict=True):
        if legend is None:
            raise InputError("the labels name no classes", raster.path, "give a legend file, or make them with `sarseg labels`")
        if found[0] is not None and (legend.codes, legend.names) != (found[0].codes, found[0].names):
            raise InputError(f"the labels have other classes than {labels[0].path}", raster.path, "give one legend file")
    assert found[0] is not None
    return found[0]


def _path_from(dataset: Path, path: Path) -> str:
    """Relative to the data set where they share a folder above both, so that they can move together; else absolute."""
    if _is_virtual(path):
        return str(path)
    here, there = dataset.resolve(), path.resolve()
    if len(Path(os.path.commonpath([here, there])).parts) < 2:
        return str(there)
    return Path(os.path.relpath(there, here)).as_posix()


def _stamp(path: Path, files: Sequence[str]) -> dict[str, Any]:
    """What a source is known by: a product folder by its item and the sizes of `files`, a file by size, time and content."""
    if _is_virtual(path):
        return {}
    if path.is_dir():
        item = {"item_sha256": _sha256(path / ITEM)} if (path / ITEM).is_file() else {}  # only our own folders have one
        return {**item, "bytes": {name: (path / name).stat().st_size for name in files}}
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": _sha256(path)}


def _found(place: dict[str, Any], dataset: Path) -> Path:
    """The path of a source that is there and as it was.

    A file is read through only where its time has changed: a copy of it may have another time.
    """
    path = Path(place["path"])
    if _is_virtual(path):
        return path
    path = Path(os.path.normpath(dataset.resolve() / path))
    if not path.exists():
        raise InputError("a source of the data set is not there", path, _CUT_AGAIN)
    try:
        if path.is_dir():
            same = "item_sha256" not in place or _sha256(path / ITEM) == place["item_sha256"]
            same = same and all((path / name).stat().st_size == size for name, size in place["bytes"].items())
        else:
            status = path.stat()
            same = status.st_size == place["bytes"] and (status.st_mtime_ns == place["mtime_ns"] or _sha256(path) == place["sha256"])
    except OSError as error:
        raise InputError("a source of the data set cannot be read", path, str(error)) from error
    if not same:
        raise InputError("a source of the data set has changed since it was cut", path, _CUT_AGAIN)
    return path


def _is_virtual(path: Path) -> bool:
    """Inside an archive or the like: GDAL alone knows it, so it keeps its name and has no stamp."""
    return str(path).startswith("/vsi")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
