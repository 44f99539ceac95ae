"""Which map grid a scene gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from sarseg.constants import METRES_PER_DEGREE
from sarseg.errors import InputError, UsageError
from sarseg.grid import Bounds, MapGrid, transform_points, utm_crs
from sarseg.radar.geometry import ecef_from_geodetic, range_doppler
from sarseg.raster.dem import Dem
from sarseg.scene.model import Scene

_ROOM_M = 1000.0  # around the producer's grid points: relief moves the image's edges, and their lines bend between the points
_COARSEST_M = 10_000.0
_SAMPLES = 128
_LON_LAT = CRS.from_epsg(4326)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The grid of a product, and the share of the scene that the DEM covers (0..1, to about one percent)."""

    grid: MapGrid
    dem_share: float


def choose_extent(scene: Scene, dem: Dem, *, crs: str | None, spacing_m: float) -> Extent:
    """The snapped grid over the part of a scene that the DEM covers.

    Parameters
    ----------
    crs : anything that GDAL reads as a CRS; None = UTM (UPS) of the scene's centre
    spacing_m : pixel size; becomes degrees at the equator for a geographic CRS

    InputError when the DEM misses the scene; UsageError for a CRS or a spacing that makes no sense.
    """
    if not 0 < spacing_m <= _COARSEST_M:
        raise UsageError(f"the spacing is above 0 and at most {_COARSEST_M:g} m, not {spacing_m:g} m")
    lon_deg, lat_deg = _unwrapped(scene.geolocation_grid.lon_deg), scene.geolocation_grid.lat_deg
    target = _parse(crs) if crs is not None else utm_crs(float(lon_deg.mean()), float(lat_deg.mean()))
    unit = METRES_PER_DEGREE if target.is_geographic else 1.0
    x, y = transform_points(_LON_LAT, target, lon_deg, lat_deg)
    room = _ROOM_M / unit
    footprint = float(x.min()) - room, float(y.min()) - room, float(x.max()) + room, float(y.max()) + room
    if not np.isfinite(footprint).all():
        raise UsageError(f"the scene does not lie in {crs}", scene.id, "choose a CRS whose area holds it")
    parts = [part for tile in dem.bounds_in(target) if (part := _common(tile, footprint)) is not None]
    seen = _seen_points(scene, (lon_deg, lat_deg))
    share = float(dem.covers(*seen).mean()) if len(seen[0]) else 0.0
    if not parts:
        west, east, south, north = lon_deg.min(), lon_deg.max(), lat_deg.min(), lat_deg.max()
        raise InputError(
            f"the DEM misses the scene {scene.id}",
            ", ".join(str(path) for path in dem.paths[:3]),
            f"give one that reaches into {west:.2f}..{east:.2f} E, {south:.2f}..{north:.2f} N",
        )
    bounds = tuple(pick(part[k] for part in parts) for k, pick in enumerate((min, min, max, max)))
    return Extent(grid=MapGrid.snapped(target, (bounds[0], bounds[1], bounds[2], bounds[3]), spacing_m / unit), dem_share=share)


def choose_looks(scene: Scene, spacing_m: float) -> tuple[int, int]:
    """Lines and pixels of a scene that fit into a map pixel, at least one each; (1, 1) for images that are not averaged here ("dn")."""
    if scene.pixels == "dn":
        return 1, 1
    points = scene.geolocation_grid
    place = ecef_from_geodetic(points.lon_deg, points.lat_deg, points.height_m)
    steps = np.linalg.lstsq(np.stack([points.line, points.pixel, np.ones_like(points.line)], axis=-1), place, rcond=None)[0][:2]
    step_m = np.linalg.norm(steps, axis=1)  # the mean over the image, which is longer in near range
    looks = [max(1, math.floor(spacing_m / max(step, 1e-3) + 1e-2)) for step in step_m]
    return min(looks[0], scene.shape[0]), min(looks[1], scene.shape[1])


def _parse(text: str) -> CRS:
    try:
        with rasterio.Env():  # else GDAL prints its own line
            crs = CRS.from_user_input(text)
    except (CRSError, ValueError) as error:  # ValueError: EPSG: without a number
        raise UsageError(f"'{text}' is no coordinate system", None, "write it like EPSG:32633") from error
    if not (crs.is_projected or crs.is_geographic):  # of heights, of the Earth's centre, of a building site
        raise UsageError(f"'{text}' is no coordinate system of a map", None, "write it like EPSG:32633")
    return crs


def _unwrapped(lon_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes without a jump at 180 degrees."""
    return np.asarray(lon_deg[0] + (lon_deg - lon_deg[0] + 180.0) % 360.0 - 180.0)


def _common(a: Bounds, b: Bounds) -> Bounds | None:
    both = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return both if both[0] < both[2] and both[1] < both[3] else None


def _seen_points(scene: Scene, place: tuple[NDArray[np.float64], NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes, (n,) each, of points spread evenly over the image (at the mean height of its grid points)."""
    lon, lat = place
    mesh_lon, mesh_lat = np.meshgrid(np.linspace(lon.min(), lon.max(), _SAMPLES), np.linspace(lat.min(), lat.max(), _SAMPLES))
    points = ecef_from_geodetic(mesh_lon, mesh_lat, float(scene.geolocation_grid.height_m.mean()))
    line, pixel = scene.grid.line_pixel(*range_doppler(points, scene.orbit, scene.grid.doppler))
    inside = (line >= 0) & (line < scene.shape[0]) & (pixel >= 0) & (pixel < scene.shape[1])
    return mesh_lon[inside], mesh_lat[inside]
