"""Heights of a made-up landscape: fractal hills that come down to level water."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid, transform_points
from sarseg.rng import generator
from sarseg.simulate.patterns import gaussian_field
from sarseg.simulate.terrain import Terrain

_MARGIN_PX = 24
"""Map pixels by which the heights reach beyond the land cover."""
_BANK_PX = 25.0
"""Distance from the water at which hills reach two thirds of their height."""
_EXPONENT = 4.2
_WIDEST_PX = 350.0
_SMOOTH_PX = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """Wanted heights: lowest height above the ellipsoid, range from there; or, when given, the steepest slope instead."""

    base_m: float
    range_m: float
    steepest_deg: float | None


def make_terrain(grid: MapGrid, water: NDArray[np.bool_], relief: Relief, seed: int) -> Terrain:
    """Heights made on the map, then interpolated to geographic posts as fine as the map's pixels.

    Parameters
    ----------
    grid : the landscape's map, metres; water : bool (rows, cols), kept level
    """
    from scipy.ndimage import map_coordinates

    wide = (grid.shape[0] + 2 * _MARGIN_PX, grid.shape[1] + 2 * _MARGIN_PX)
    heights = _heights(wide, np.pad(water, _MARGIN_PX, mode="edge"), relief, seed, grid.spacing[0])
    posts = _posts(grid)
    lon_deg, lat_deg = np.meshgrid(*posts.centres())
    x, y = transform_points(posts.crs, grid.crs, lon_deg, lat_deg)
    row, col = grid.pixel_of(x, y)
    values = map_coordinates(heights, [row + _MARGIN_PX, col + _MARGIN_PX], order=1, mode="nearest")
    return Terrain(grid=posts, height_m=values.astype(np.float32))


def _heights(shape: tuple[int, int], water: NDArray[np.bool_], relief: Relief, seed: int, pixel_m: float) -> NDArray[np.float64]:
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    flat = relief.range_m == 0.0 and relief.steepest_deg is None
    if flat or relief.steepest_deg == 0.0:
        return np.full(shape, relief.base_m)
    hills = gaussian_field(shape, _EXPONENT, _WIDEST_PX, generator(seed, 7))
    hills = hills - hills.min()
    if water.any():
        hills = hills * (1.0 - np.exp(-((distance_transform_edt(~water) / _BANK_PX) ** 1.5)))
    hills = gaussian_filter(hills, _SMOOTH_PX)
    if relief.steepest_deg is None:
        return np.asarray(relief.base_m + hills * (relief.range_m / hills.max()))
    slope = np.hypot(*np.gradient(hills, pixel_m))
    return np.asarray(relief.base_m + hills * (math.tan(math.radians(relief.steepest_deg)) / slope.max()))


def _posts(grid: MapGrid) -> MapGrid:
    """Geographic posts over the map and its margin, about as far apart as its pixels, at multiples of their spacing."""
    from rasterio.crs import CRS

    geographic = CRS.from_epsg(4979)
    left, bottom, right, top = grid.bounds
    margin_m = 0.5 * _MARGIN_PX * grid.spacing[0]
    corners_x = np.array([left - margin_m, right + margin_m, left - margin_m, right + margin_m])
    corners_y = np.array([bottom - margin_m, bottom - margin_m, top + margin_m, top + margin_m])
    lon_deg, lat_deg = transform_points(grid.crs, geographic, corners_x, corners_y)
    if float(np.ptp(lon_deg)) > 180.0:
        raise InputError("the landscape crosses the 180th meridian", hint="choose another --centre")
    step_deg = grid.spacing[0] / 111_320.0
    step_lon_deg = step_deg / math.cos(math.radians(float(np.abs(lat_deg).max())))
    bounds = (float(lon_deg.min()), float(lat_deg.min()), float(lon_deg.max()), float(lat_deg.max()))
    nice = tuple(1.0 / math.ceil(1.0 / step) for step in (step_lon_deg, step_deg))
    return MapGrid.snapped(geographic, bounds, (nice[0], nice[1]))
