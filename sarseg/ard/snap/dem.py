"""The DEM as SNAP takes it: one GeoTIFF in WGS 84 longitude and latitude, heights above the ellipsoid, no voids.

SNAP looks an external DEM up half a pixel too far to the north-west. The file's origin is moved the other way, so that the heights
lie where they belong (docs/snap.md 3).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window as GdalWindow

from sarseg.constants import METRES_PER_DEGREE
from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.raster.cog import check_space
from sarseg.raster.dem import Dem
from sarseg.raster.geoid import Geoid
from sarseg.tiles import Window, blocks

NODATA_M = -32768.0
"""What SNAP is told to be no data; no pixel has it."""

ORIGIN_SHIFT_PX = 0.5
"""How far the file's origin is moved to the east and to the south, in pixels of the DEM."""

_LON_LAT = CRS.from_epsg(4326)
_MARGIN_DEG = 0.02  # tiles of an image reach beyond the map, and flattening looks 20 pixels further
_MARGIN_PX = 32
_WIDEST_DEG = 90.0


def write_dem(dem: Dem, grid: MapGrid, geoid: Geoid, path: Path) -> None:
    """Write the heights around a map for SNAP as a GeoTIFF, float32, metres above the WGS 84 ellipsoid.

    Voids and what lies beyond the tiles hold the geoid's height, so that no pixel is without one. Pixels are those of the DEM where
    it is one raster in degrees, else as fine as its finest tiles.

    InputError for a map that reaches over 180 degrees or around a pole, MissingError when the disk is full.
    """
    target = _lon_lat_grid(dem, grid)
    check_space(path.parent, 4 * math.prod(target.shape))
    matrix = target.transform
    moved = matrix @ Affine.translation(ORIGIN_SHIFT_PX, ORIGIN_SHIFT_PX)
    profile = {
        "driver": "GTiff",
        "height": target.shape[0],
        "width": target.shape[1],
        "count": 1,
        "dtype": "float32",
        "nodata": NODATA_M,
        "crs": _LON_LAT,
        "transform": moved,
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "bigtiff": "IF_SAFER",
    }
    with rasterio.open(path, "w", **profile) as file:
        for block in blocks(target.shape):
            file.write(_heights(dem, target, geoid, block), 1, window=GdalWindow(block.col, block.row, block.cols, block.rows))


def _heights(dem: Dem, grid: MapGrid, geoid: Geoid, block: Window) -> NDArray[np.float32]:
    heights, _ = dem.filled_heights(grid, block)
    empty = np.isnan(heights)
    if empty.any():
        lon, lat = np.meshgrid(*grid.centres(block))
        heights[empty] = geoid.undulation_m(lon[empty], lat[empty])
    return np.nan_to_num(heights, nan=0.0).astype(np.float32)


def _lon_lat_grid(dem: Dem, grid: MapGrid) -> MapGrid:
    west, south, east, north = grid.bounds_in(_LON_LAT)
    if not west < east < west + _WIDEST_DEG:
        raise InputError("SNAP cannot be given heights across 180 degrees or around a pole", None, "use --engine native")
    (left, step_x), (top, step_y) = _lattice(dem)
    stretch = 1.0 / max(0.05, math.cos(math.radians(max(abs(south), abs(north)))))
    room_x, room_y = max(_MARGIN_DEG * stretch, _MARGIN_PX * step_x), max(_MARGIN_DEG, _MARGIN_PX * step_y)
    north, south = min(north + room_y, 90.0), max(south - room_y, -90.0)
    col0, col1 = math.floor((west - room_x - left) / step_x), math.ceil((east + room_x - left) / step_x)
    row0, row1 = math.floor((top - north) / step_y), math.ceil((top - south) / step_y)
    transform = Affine(step_x, 0.0, left + col0 * step_x, 0.0, -step_y, top - row0 * step_y)
    return MapGrid(crs=_LON_LAT, transform=transform, shape=(row1 - row0, col1 - col0))


def _lattice(dem: Dem) -> tuple[tuple[float, float], tuple[float, float]]:
    """Origin and spacing in longitude and in latitude, degrees: the DEM's own, or one as fine that starts at 0."""
    first = dem.lattices[0].grid
    if len(dem.lattices) == 1 and first.crs is not None and first.crs.is_geographic:
        return (first.transform.c, first.transform.a), (first.transform.f, -first.transform.e)
    steps = []
    for lattice in dem.lattices:
        unit = 1.0 if lattice.grid.crs is not None and lattice.grid.crs.is_geographic else METRES_PER_DEGREE
        steps += [side / unit for side in lattice.grid.spacing]
    return (0.0, min(steps)), (0.0, min(steps))
