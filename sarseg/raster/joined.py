"""Rasters on one lattice, read as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.raster.read import Raster
from sarseg.tiles import Window

_MOST_UNION = 50  # the whole may have so many times the pixels of its tiles: beyond it they are no neighbours


@dataclass(frozen=True)
class JoinedRaster:
    """Tiles on one lattice; where there is none, values are NaN and codes 0. Tiles read as `Raster` reads them.

    `tiles` hold each raster and the (row, col) of its first pixel; of overlapping ones the last is seen.
    """

    path: str
    grid: MapGrid
    bands: tuple[str, ...]
    dtype: str
    tiles: tuple[tuple[Raster, int, int], ...]

    def read(self, window: Window | None = None, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Values as float32 (band, rows, cols)."""
        window = window or Window.whole(self.grid.shape)
        names = self.bands if bands is None else tuple(bands)
        out = np.full((len(names), *window.shape), np.nan, np.float32)
        for raster, inside, part in self._parts(window):
            out[:, inside.slices[0], inside.slices[1]] = raster.read(part, [raster.bands[self.bands.index(name)] for name in names])
        return out

    def read_codes(self, window: Window | None = None, band: int = 0) -> NDArray[Any]:
        """Integers as they are stored, (rows, cols)."""
        window = window or Window.whole(self.grid.shape)
        out = np.zeros(window.shape, self.dtype)
        for raster, inside, part in self._parts(window):
            out[inside.slices] = raster.read_codes(part, band)
        return out

    def _parts(self, window: Window) -> list[tuple[Raster, Window, Window]]:
        """Each tile that the window touches, with its pixels counted from the window's first one, and from its own."""
        parts = []
        for raster, row, col in self.tiles:
            rows, cols = raster.grid.shape
            common = window.intersect(Window(row=row, col=col, rows=rows, cols=cols))
            if common is not None:
                parts.append((raster, common.relative_to(window), common.shift(rows=-row, cols=-col)))
        return parts


def join_rasters(rasters: Sequence[Raster], where: object) -> JoinedRaster:
    """Tiles as one raster.

    InputError when they differ in CRS, pixel size or lattice, in type or number of bands, or are no neighbours.
    """
    first = rasters[0]
    places = []
    for raster in rasters:
        offset = first.grid.offset_of(raster.grid)
        if offset is None or first.grid.crs is None:
            raise InputError("lies on another grid than its neighbours", raster.path, "tiles of one lattice can be opened together")
        if (raster.dtype, len(raster.bands)) != (first.dtype, len(first.bands)):
            raise InputError(f"holds {raster.dtype} where {first.path} holds {first.dtype}", raster.path)
        places.append(offset)
    row0, col0 = min(row for row, _ in places), min(col for _, col in places)
    row1 = max(row + raster.grid.shape[0] for raster, (row, _) in zip(rasters, places, strict=True))
    col1 = max(col + raster.grid.shape[1] for raster, (_, col) in zip(rasters, places, strict=True))
    shape = (row1 - row0, col1 - col0)
    if shape[0] * shape[1] > _MOST_UNION * sum(raster.grid.shape[0] * raster.grid.shape[1] for raster in rasters):
        raise InputError("the tiles lie too far from each other to be one product", where, "give neighbours, or one tile at a time")
    grid = MapGrid(crs=first.grid.crs, transform=first.grid.transform @ Affine.translation(col0, row0), shape=shape)
    tiles = tuple((raster, row - row0, col - col0) for raster, (row, col) in zip(rasters, places, strict=True))
    return JoinedRaster(path=str(where), grid=grid, bands=first.bands, dtype=first.dtype, tiles=tiles)


def renamed(raster: Raster, names: Sequence[str]) -> Raster:
    """The same file, its bands under other names, in their order."""
    return replace(raster, bands=tuple(names))
