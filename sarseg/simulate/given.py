"""Heights and land cover that the user gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError, MissingError
from sarseg.grid import MapGrid, transform_points
from sarseg.legend import Legend
from sarseg.raster.read import open_raster
from sarseg.simulate import table
from sarseg.simulate.terrain import Terrain


def read_terrain(dem: Path, geoid: Path | None) -> Terrain:
    """Heights of a raster, made ellipsoidal, on geographic posts.

    A raster with geographic posts keeps them; another is interpolated to posts as fine. MissingError when the heights are
    not ellipsoidal and no geoid grid is given: never is a geoid taken for zero.
    """
    from pyproj import CRS as ProjCrs
    from rasterio.crs import CRS

    raster = open_raster(dem)
    if raster.grid.crs is None:
        raise InputError("the heights have no georeference", dem)
    reference = ProjCrs.from_wkt(raster.grid.crs.to_wkt())
    ellipsoidal = len(reference.axis_info) == 3 and not reference.is_compound
    if not ellipsoidal and geoid is None:
        hint = "give the grid of their geoid with --geoid, or heights in EPSG:4979"
        raise MissingError("the heights are not ellipsoidal, or do not say so", dem, hint)
    geographic = CRS.from_epsg(4979)
    if reference.is_geographic or (reference.is_compound and reference.sub_crs_list[0].is_geographic):
        grid = MapGrid(crs=geographic, transform=raster.grid.transform, shape=raster.grid.shape)
        height_m = raster.read()[0].astype(np.float64)
    else:
        grid, height_m = _on_geographic_posts(raster, geographic)
    if not ellipsoidal and geoid is not None:
        height_m = height_m + _undulation_m(geoid, grid)
    if np.isnan(height_m).all():
        raise InputError("the raster holds no height", dem)
    return Terrain(grid=grid, height_m=height_m.astype(np.float32))


def _on_geographic_posts(raster: Any, geographic: Any) -> tuple[MapGrid, NDArray[np.float64]]:
    from scipy.ndimage import map_coordinates

    left, bottom, right, top = raster.grid.bounds_in(geographic)
    rows, cols = raster.grid.shape
    grid = MapGrid.snapped(geographic, (left, bottom, right, top), ((right - left) / cols, (top - bottom) / rows))
    lon_deg, lat_deg = np.meshgrid(*grid.centres())
    row, col = raster.grid.pixel_of(*transform_points(geographic, raster.grid.crs, lon_deg, lat_deg))
    return grid, map_coordinates(raster.read()[0].astype(np.float64), [row, col], order=1, mode="constant", cval=np.nan)


def _undulation_m(geoid: Path, grid: MapGrid) -> NDArray[np.float64]:
    """Height of the geoid over the ellipsoid at the posts, bilinear; the grid's longitudes go around."""
    from scipy.ndimage import map_coordinates

    if not geoid.is_file():
        raise MissingError("no geoid grid there", geoid, "give an existing one with --geoid")
    raster = open_raster(geoid)
    lon_deg, lat_deg = np.meshgrid(*grid.centres())
    left, _, right, _ = raster.grid.bounds
    row, col = raster.grid.pixel_of(left + (lon_deg - left) % 360.0, lat_deg)
    values = raster.read()[0].astype(np.float64)
    if right - left > 359.9:
        values, col = np.pad(values, ((0, 0), (1, 1)), mode="wrap"), col + 1.0
    undulation_m = map_coordinates(values, [row, col], order=1, mode="constant", cval=np.nan)
    if np.isnan(undulation_m).any():
        raise MissingError("the geoid grid does not reach the heights", geoid, "give one of the whole area with --geoid")
    return np.asarray(undulation_m)


def read_landcover(path: Path) -> tuple[MapGrid, NDArray[np.uint8], Legend]:
    """Map, codes uint8 (rows, cols) and legend of a class raster in metres, north up.

    Its classes are those of its tags (class_1=water ...), or the simulator's codes when it has none; names must be the
    simulator's (UsageError). 255 and 0 are no ground.
    """
    raster = open_raster(path)
    if raster.grid.crs is None or not raster.grid.crs.is_projected or not raster.grid.north_up:
        raise InputError("land cover must lie on a projected map, north up", path, "reproject it, to UTM for example")
    codes = np.asarray(raster.read_codes())
    legend = Legend.from_tags(raster.tags, raster.colormap) or table.legend()
    table.of_legend(legend)
    codes = np.where(codes == 255, 0, codes)
    unknown = sorted(set(np.unique(codes).tolist()) - {0, *legend.codes})
    if unknown:
        raise InputError(f"land cover codes {unknown} are not in the legend {list(legend.codes)}", path)
    return raster.grid, codes.astype(np.uint8), legend
