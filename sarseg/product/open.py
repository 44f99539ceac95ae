"""Anything that lies on the map, opened as a `Product` (radar bands) or a `LandcoverMap` (classes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.masks import INVALID, Mask
from sarseg.product import folder as names
from sarseg.raster.read import Raster, open_raster
from sarseg.tiles import BLOCK, Window

if TYPE_CHECKING:
    import xarray

Quantity = Literal["power", "raw"]
INCIDENCE_BAND = "incidence"
POLARISATIONS = ("VV", "VH", "HH", "HV")


@dataclass(frozen=True, kw_only=True)
class Product:
    """Bands on one map grid: linear power of backscatter ("power"), or values as they stand in the file ("raw")."""

    path: Path
    id: str
    grid: MapGrid
    quantity: Quantity
    rasters: Mapping[str, Raster] = field(hash=False)
    """The file of each band, by band name."""
    mask_raster: Raster | None
    item: dict[str, Any] = field(hash=False)

    @property
    def bands(self) -> tuple[str, ...]:
        """Band names; the local incidence angle of a product folder can be read as the band "incidence" beside them."""
        return tuple(name for name in self.rasters if self.quantity == "raw" or name != INCIDENCE_BAND)

    @property
    def datetime_utc(self) -> str | None:
        """Time of the scene, ISO 8601, or None when it is not known."""
        stamp = self.item.get("properties", {}).get("datetime")
        return str(stamp) if stamp else None

    def read(self, window: Window | None = None, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Values float32 (band, rows, cols), NaN where there is none.

        InputError for a band that the product lacks.
        """
        wanted = self.bands if bands is None else tuple(bands)
        missing = [name for name in wanted if name not in self.rasters]
        if missing:
            raise InputError(f"no band {', '.join(missing)}", self.path, f"bands are {', '.join(self.rasters)}")
        window = window or Window.whole(self.grid.shape)
        out = np.empty((len(wanted), *window.shape), np.float32)
        for raster in {id(self.rasters[name]): self.rasters[name] for name in wanted}.values():
            at = [i for i, name in enumerate(wanted) if self.rasters[name] is raster]
            out[at] = raster.read(window, [self._band_in_file(wanted[i]) for i in at])
        return out

    def mask(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Our mask bits, uint8 (rows, cols); without a mask file, NO_DATA where any band is NaN."""
        if self.mask_raster is not None:
            return np.asarray(self.mask_raster.read_codes(window), np.uint8)
        empty = np.isnan(self.read(window)).any(0)
        return np.where(empty, np.uint8(Mask.NO_DATA), np.uint8(0))

    def valid(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Where there is backscatter, bool (rows, cols)."""
        return np.asarray((self.mask(window) & INVALID) == 0)

    def to_xarray(self) -> xarray.Dataset:
        """Lazy bands and mask, dask chunks of one block, with x and y coordinates of pixel centres."""
        import dask.array as da
        import xarray as xr

        rows, cols = self.grid.shape
        chunks = (_chunks(rows), _chunks(cols))
        variables = {
            name: (("y", "x"), da.map_blocks(_read_chunk, self, name, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32)))
            for name in self.rasters
        }
        variables["mask"] = (
            ("y", "x"),
            da.map_blocks(_read_chunk, self, None, chunks=chunks, dtype=np.uint8, meta=np.empty((0, 0), np.uint8)),
        )
        coords: dict[str, Any] = {}
        if self.grid.transform.b == 0 and self.grid.transform.d == 0:
            coords["x"], coords["y"] = self.grid.centres()
        attributes = {"id": self.id, "quantity": self.quantity, "crs": self.grid.crs.to_wkt() if self.grid.crs else None}
        return xr.Dataset(variables, coords=coords, attrs=attributes)

    def _band_in_file(self, name: str) -> str:
        raster = self.rasters[name]
        return name if name in raster.bands else raster.bands[0]


@dataclass(frozen=True, kw_only=True)
class LandcoverMap:
    """A class raster with its legend, and the confidence of each pixel where it was written."""

    path: Path
    id: str
    grid: MapGrid
    legend: Legend
    raster: Raster
    confidence_raster: Raster | None
    item: dict[str, Any] = field(hash=False)

    def codes(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Class codes uint8 (rows, cols); 0 = nodata. InputError for a code that is no class of the legend."""
        codes = self.raster.read_codes(window)
        unknown = codes[~np.isin(codes, [NODATA, IGNORE, *self.legend.codes])]
        if unknown.size:
            raise InputError(f"code {unknown[0]} is no class of the map", self.raster.path, "its tags should hold class_1=..., class_2=...")
        return np.asarray(codes, np.uint8)

    def confidence(self, window: Window | None = None) -> NDArray[np.uint8] | None:
        """Confidence uint8 (rows, cols) as written by `predict`, or None without such a file."""
        return None if self.confidence_raster is None else np.asarray(self.confidence_raster.read_codes(window), np.uint8)


def open_product(path: str | Path) -> Product:
    """Open a product folder of ours, or any raster file as raw bands.

    InputError when the path is absent, a folder without its item, or no raster.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    raster = open_raster(path)
    return Product(
        path=path,
        id=path.stem,
        grid=raster.grid,
        quantity="raw",
        rasters=dict.fromkeys(raster.bands, raster),
        mask_raster=None,
        item={},
    )


def open_map(path: str | Path) -> LandcoverMap:
    """Open a map folder, or a class raster with class tags or a colour table.

    InputError when it is neither, or names no classes.
    """
    path = Path(path)
    base = path if path.is_dir() else path.parent
    item = read_item(base) if path.is_dir() else {}
    raster = open_raster(path / names.LANDCOVER if path.is_dir() else path)
    legend = Legend.from_tags(raster.tags, raster.colormap)
    if legend is None:
        raise InputError("the raster names no classes", raster.path, "its tags should hold class_1=..., class_2=...")
    confidence = base / names.CONFIDENCE
    return LandcoverMap(
        path=path,
        id=str(item.get("id", path.stem)),
        grid=raster.grid,
        legend=legend,
        raster=raster,
        confidence_raster=open_raster(confidence) if path.is_dir() and confidence.is_file() else None,
        item=item,
    )


def read_item(folder: Path) -> dict[str, Any]:
    """The STAC item of a product folder; InputError when there is none or it is damaged."""
    if not folder.exists():
        raise InputError("no such file or folder", folder)
    if not (folder / names.ITEM).is_file():
        raise InputError("the folder is no product: it has no item.json", folder, "a run that was stopped leaves none; run it again")
    item = names.read_json(folder / names.ITEM)
    if not isinstance(item, dict) or not isinstance(item.get("properties"), dict) or not isinstance(item.get("assets"), dict):
        raise InputError("item.json is no STAC item", folder)
    return item


def _open_folder(path: Path) -> Product:
    item = read_item(path)
    bands = {name: open_raster(path / f"{name}.tif") for name in POLARISATIONS if (path / f"{name}.tif").is_file()}
    if not bands:
        raise InputError("the product holds no backscatter", path, "a map is opened where a map is asked for")
    if (path / names.INCIDENCE).is_file():
        bands[INCIDENCE_BAND] = open_raster(path / names.INCIDENCE)
    grid = next(iter(bands.values())).grid
    for name, raster in bands.items():
        if raster.grid != grid:
            raise InputError(f"{name}.tif lies on another grid than its neighbours", path)
    mask = path / names.MASK
    return Product(
        path=path,
        id=str(item.get("id", path.name)),
        grid=grid,
        quantity="power",
        rasters=bands,
        mask_raster=open_raster(mask) if mask.is_file() else None,
        item=item,
    )


def _chunks(length: int) -> tuple[int, ...]:
    return tuple(min(BLOCK, length - start) for start in range(0, length, BLOCK))


def _read_chunk(product: Product, name: str | None, block_info: Any = None) -> NDArray[Any]:
    (row, row_stop), (col, col_stop) = block_info[None]["array-location"]
    window = Window(row=row, col=col, rows=row_stop - row, cols=col_stop - col)
    return product.mask(window) if name is None else product.read(window, [name])[0]
