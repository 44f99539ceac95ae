"""What SNAP wrote becomes layers of our product: its backscatter, our geometry, angles and mask (docs/snap.md 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarseg.ard.geocode import Job, geocode_block
from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.masks import Mask
from sarseg.raster.archive import Member
from sarseg.raster.dimap import open_bands, read_header
from sarseg.raster.read import Raster
from sarseg.tiles import Window

_MOSTLY_FLOORED = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapImage:
    """SNAP's output around a map.

    Parameters
    ----------
    place : of SNAP's image, in pixels of the map
    power : by polarisation, in order; linear power, 0 = no signal
    floors : by polarisation, of those whose noise was subtracted: a mean of 1 (signal) and 2 (floored), 0 = no signal
    flattened : gamma0 of flattened terrain, where 0 also stands for ground of hardly any area
    """

    place: Window
    power: Mapping[str, Raster]
    floors: Mapping[str, Raster]
    flattened: bool

    def backscatter(self, window: Window) -> NDArray[np.float32]:
        """Power of a window of the map, float32 (polarisations, rows, cols), NaN where SNAP has nothing."""
        values = self._read(self.power, window)
        values[values == 0] = np.nan
        return values

    def floored(self, window: Window) -> NDArray[np.bool_]:
        """Where the signal of any polarisation is below the noise, bool (rows, cols)."""
        return np.asarray((self._read(self.floors, window) >= _MOSTLY_FLOORED).any(0))

    def _read(self, rasters: Mapping[str, Raster], window: Window) -> NDArray[np.float32]:
        values = np.full((len(rasters), *window.shape), np.nan, np.float32)
        part = window.intersect(self.place)
        if part is not None:
            inside, there = part.relative_to(window).slices, part.relative_to(self.place)
            for band, raster in zip(values, rasters.values(), strict=True):
                band[inside] = raster.read(there)[0]
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class BandNames:
    """How a graph names its bands, by polarisation; `floors` of those whose noise was subtracted."""

    power: Mapping[str, str]
    floors: Mapping[str, str]


def open_image(path: Path, grid: MapGrid, names: BandNames, log: Path, *, flattened: bool) -> SnapImage:
    """The BEAM-DIMAP product that SNAP wrote for a map; InputError when a band is missing or its pixels are not the map's.

    Parameters
    ----------
    log : what SNAP printed; the errors name it, since the product is removed then
    """
    file = Member(root=path.parent, name=path.name, size_bytes=path.stat().st_size)
    header, where = read_header(file), f"{path.name}, log {log}"
    if header.grid is None or header.grid.crs is None or grid.crs is None:
        raise InputError("SNAP's output lies on no map", where, "the graph must end with Terrain-Correction")
    codes = header.grid.crs.to_epsg(), grid.crs.to_epsg()
    offset = grid.offset_of(replace(header.grid, crs=grid.crs)) if codes[0] == codes[1] else None
    if offset is None:
        raise InputError("SNAP's output does not lie on the pixels that it was asked for", where, "take --engine native, and report this")
    rasters = open_bands(header, header.grid, file)
    for name in (*names.power.values(), *names.floors.values()):
        if name not in rasters:
            raise InputError(f"SNAP's output has no band {name}", where, f"it has {', '.join(rasters)}")
    return SnapImage(
        place=Window(row=offset[0], col=offset[1], rows=header.grid.shape[0], cols=header.grid.shape[1]),
        power={polarisation: rasters[name] for polarisation, name in names.power.items()},
        floors={polarisation: rasters[name] for polarisation, name in names.floors.items()},
        flattened=flattened,
    )


def finish_block(job: Job, image: SnapImage, window: Window) -> tuple[NDArray[np.float32], int]:
    """All layers of a window of the map, as `geocode_block`, but with SNAP's backscatter; and in how many pixels only SNAP has none.

    Mask and angles are those of the native engine for the same scene, DEM and map. Bit 32 is set where SNAP's signal is at its
    floor. There is no data where either engine has none; what only flattening makes 0 gets bit 16.
    """
    layers = geocode_block(job, window)
    power = image.backscatter(window)
    bits = layers[-1].astype(np.uint8) & np.uint8(0xFF & ~int(Mask.BELOW_NOISE))
    bits[image.floored(window)] |= np.uint8(Mask.BELOW_NOISE)
    without = np.isnan(power).any(0)
    nothing = (bits & np.uint8(Mask.NO_DATA)) > 0
    lost = int(np.count_nonzero(without & ~nothing))
    if image.flattened:
        bits[without] |= np.uint8(Mask.AREA_FLOOR)
    else:
        nothing |= without
    bits[nothing] = np.uint8(Mask.NO_DATA)
    power[:, without] = np.nan
    layers[: len(power)] = power
    layers[:-1, nothing] = np.nan
    layers[-1] = bits
    return layers, lost
