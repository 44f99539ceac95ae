"""What SNAP 13 and 14 compute, replayed in numpy: their choices, where they differ from ours, on top of our orbit, tables and scenes.

Where the two are the same thing (8-point Lagrange orbit, calibration and noise tables, ellipsoid), the pieces are ours. What is SNAP's:
the orbit sampled once a line, the zero-Doppler time by one linear interpolation, range polynomials blended in time and inverted by
a bisection that stops within 0.1 m, the half pixel by which external DEMs are misplaced, no residual bistatic term (14: one of
the wrong sign), zeros interpolated as zeros, floors of the noise.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.grid import MapGrid
from sarseg.radar.geometry import RadarGrid, ecef_from_geodetic
from sarseg.scene.model import Measurement, Scene, Tables
from sarseg.tiles import Window

RANGE_TOLERANCE_M = 0.1
NOISE_FLOOR = 1e-5
"""What negative DN^2 - noise becomes, in DN^2."""


@dataclass(frozen=True, kw_only=True)
class SnapDem:
    """An external DEM as SNAP uses it: float (rows, cols), geographic WGS84, ellipsoidal heights, NaN = no data.

    `transform` is the file's (corners). SNAP takes sample (i, j) to lie at the corner of its pixel: half a pixel to the north-west.
    """

    heights_m: np.ndarray
    transform: Affine

    def at(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Heights, metres; beside no data the upper-left sample, outside of the file NaN."""
        x, y = ~self.transform @ (lon, lat)
        rows, cols = self.heights_m.shape
        inside = (x >= 0) & (x < cols) & (y >= 0) & (y < rows)
        col, row = (np.where(inside, np.floor(value), 0).astype(int) for value in (x, y))
        right, below = np.minimum(col + 1, cols - 1), np.minimum(row + 1, rows - 1)
        corners = (self.heights_m[row, col], self.heights_m[row, right], self.heights_m[below, col], self.heights_m[below, right])
        height = _mix(corners, x - col, y - row)
        return np.where(inside, np.where(np.isnan(height), corners[0], height), np.nan)


@dataclass(frozen=True, kw_only=True)
class SnapView:
    """What Terrain-Correction finds for each pixel of a map, float64 (rows, cols); NaN where it writes no data.

    `line`, `pixel` of the source image, both angles in degrees, `height_m` as its elevation band.
    """

    line: np.ndarray
    pixel: np.ndarray
    height_m: np.ndarray
    local_incidence_deg: np.ndarray
    ellipsoid_incidence_deg: np.ndarray


def snap_view(scene: Scene, dem: SnapDem, grid: MapGrid, *, version: int = 13, exact_range: bool = False) -> SnapView:
    """Terrain-Correction's geometry of every pixel of `grid` for a Sentinel-1 GRD, or another image with range polynomials.

    Parameters
    ----------
    version : 14 adds t += (R - R_near) / c
    exact_range : without the tolerance of the bisection
    """
    assert isinstance(scene.grid, RadarGrid)
    around = MapGrid(crs=grid.crs, transform=grid.transform @ Affine.translation(-1, -1), shape=(grid.shape[0] + 2, grid.shape[1] + 2))
    lon, lat = _lonlat(around)
    height = dem.at(lon, lat)
    ground = ecef_from_geodetic(lon, lat, height)
    point = ground[1:-1, 1:-1]
    position, velocity = _orbit_at_lines(scene)
    line = _zero_doppler_line(point, position, velocity)
    satellite, slant = _range_at(line, point, position)
    if version >= 14:
        near_m = float(scene.grid.slant_range_m(0.0, 0.0))
        line = line + (slant - near_m) / SPEED_OF_LIGHT_M_S / _line_interval_s(scene)
        satellite, slant = _range_at(line, point, position)
    pixel = _pixel(scene.grid, line * _line_interval_s(scene), slant, exact=exact_range)
    lines, pixels = scene.shape
    good = (pixel >= 0) & (pixel < pixels - 1) & (line >= 0) & (line < lines - 1)
    local = _local_incidence_deg(ground, satellite)
    ellipsoid = _tie_points(scene, np.where(good, line, 0), np.where(good, pixel, 0))
    found = (line, pixel, height[1:-1, 1:-1], local, ellipsoid)
    return SnapView(**dict(zip(SnapView.__dataclass_fields__, (np.where(good, one, np.nan) for one in found), strict=True)))


def snap_bilinear(image: np.ndarray, line: np.ndarray, pixel: np.ndarray, *, version: int = 13) -> np.ndarray:
    """Terrain-Correction's bilinear sampling of an image (lines, pixels) whose no data is 0: float32 (...), 0 = no data.

    13 interpolates the zeros as values; in 14 a neighbour of 0 or NaN makes the result the upper-left of the four.
    """
    rows, cols = image.shape
    inside = (line >= 0) & (line < rows - 1) & (pixel >= 0) & (pixel < cols - 1)  # False for NaN
    row, col = (np.where(inside, np.floor(value), 0).astype(int) for value in (line, pixel))
    corners = tuple(image[row + down, col + across].astype(np.float64) for down in (0, 1) for across in (0, 1))
    value = _mix(corners, np.where(inside, pixel, 0) - col, np.where(inside, line, 0) - row)
    if version >= 14:
        empty = np.any([(corner == 0) | np.isnan(corner) for corner in corners], axis=0)
        value = np.where(empty, corners[0], value)
    return np.where(inside, value, 0.0).astype(np.float32)


def snap_calibrate(dn: np.ndarray, amplitude: np.ndarray, noise: np.ndarray | None, *, version: int = 13) -> np.ndarray:
    """ThermalNoiseRemoval (where `noise` is given, in DN^2) and Calibration: float32 (lines, pixels), 0 = no data.

    Negative differences become 1e-5 DN^2; 13 then doubles them until the calibrated value is at least 1e-5.
    """
    squared, gain = dn.astype(np.float64) ** 2, amplitude**2
    if noise is None:
        return (squared / gain).astype(np.float32)
    power = np.asarray((squared - noise).astype(np.float32), np.float64) / gain  # stored in between
    floor = NOISE_FLOOR / gain
    if version < 14:
        floor = floor * 2.0 ** np.ceil(np.log2(NOISE_FLOOR / floor))
    power = np.where(squared < noise, floor, power)
    return np.where(squared == 0, 0.0, power).astype(np.float32)


def _lonlat(grid: MapGrid) -> tuple[np.ndarray, np.ndarray]:
    transformer = pyproj.Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    return transformer.transform(*np.meshgrid(*grid.centres(Window.whole(grid.shape))))


def _line_interval_s(scene: Scene) -> float:
    return float((scene.stop_utc - scene.start_utc) / np.timedelta64(1, "us")) / 1e6 / (scene.shape[0] - 1)


def _orbit_at_lines(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(scene.grid, RadarGrid)
    t_s = scene.grid.first_line_s + np.arange(scene.shape[0]) * _line_interval_s(scene)
    return scene.orbit.position(t_s), scene.orbit.velocity(t_s)


def _zero_doppler_line(point: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Bisection over whole lines, then one straight line between the two neighbours; NaN before the first and after the last."""

    def doppler(line: np.ndarray) -> np.ndarray:
        return np.sum(velocity[line] * (point - position[line]), axis=-1)

    low, high = np.zeros(point.shape[:-1], int), np.full(point.shape[:-1], len(position) - 1)
    at_low, at_high = doppler(low), doppler(high)
    outside = ~(at_low * at_high <= 0)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        at_middle = doppler(middle)
        before = at_middle * at_low > 0
        low, at_low = np.where(before, middle, low), np.where(before, at_middle, at_low)
        high, at_high = np.where(before, high, middle), np.where(before, at_high, at_middle)
    with np.errstate(invalid="ignore", divide="ignore"):
        line = low - at_low * (high - low) / (at_high - at_low)
    return np.where(outside, np.nan, line)


def _range_at(line: np.ndarray, point: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Satellite, straight between two lines, and slant range."""
    before = np.clip(np.nan_to_num(np.floor(line)), 0, len(position) - 2).astype(int)
    weight = (line - before)[..., None]
    satellite = position[before] * (1 - weight) + position[before + 1] * weight
    return satellite, np.linalg.norm(point - satellite, axis=-1)


def _pixel(grid: RadarGrid, t_s: np.ndarray, slant: np.ndarray, *, exact: bool) -> np.ndarray:
    """Pixel by a bisection on the polynomial of that time that is content within 0.1 m of slant range."""
    if grid.record_coefficients.shape[1] == 2 and (grid.record_coefficients[:, 1] == 1.0).all():
        return (slant - grid.record_coefficients[0, 0]) / grid.pixel_spacing_m
    t_s = t_s + grid.first_line_s
    before = np.clip(np.searchsorted(grid.record_t_s, t_s) - 1, 0, max(len(grid.record_t_s) - 2, 0))
    after = np.minimum(before + 1, len(grid.record_t_s) - 1)
    gap = np.where(after > before, grid.record_t_s[after] - grid.record_t_s[before], 1.0)
    weight = ((t_s - grid.record_t_s[before]) / gap)[..., None]
    coefficients = grid.record_coefficients[before] * (1 - weight) + grid.record_coefficients[after] * weight
    origin = grid.record_origin_m[before]

    def seen(ground: np.ndarray) -> np.ndarray:
        value = np.zeros_like(ground)
        for at in range(coefficients.shape[-1] - 1, -1, -1):
            value = value * ground + coefficients[..., at]
        return value

    low, high = origin + 0.0 * slant, origin + grid.shape[1] * grid.pixel_spacing_m + 0.0 * slant
    found = np.full(slant.shape, np.nan)
    open_ = (slant >= seen(low)) & (slant <= seen(high))
    for _ in range(60 if exact else 30):
        middle = (low + high) / 2
        error = seen(middle) - slant
        hit = open_ & ((np.abs(error) < RANGE_TOLERANCE_M) if not exact else True)
        found[hit] = middle[hit]
        open_ &= ~hit | exact
        low, high = np.where(error < 0, middle, low), np.where(error < 0, high, middle)
    return (found - origin) / grid.pixel_spacing_m


def _local_incidence_deg(ground: np.ndarray, satellite: np.ndarray) -> np.ndarray:
    """Angle between the line of sight and the normal of the means of three points on each side, (rows, cols) inside of `ground`."""

    def mean(*places: np.ndarray) -> np.ndarray:
        return sum(places) / len(places)

    rows, cols = ground.shape[0] - 2, ground.shape[1] - 2

    def shifted(down: int, across: int) -> np.ndarray:
        return ground[1 + down : 1 + down + rows, 1 + across : 1 + across + cols]

    right, left = (mean(*(shifted(down, side) for down in (-1, 0, 1))) for side in (1, -1))
    below, above = (mean(*(shifted(side, across) for across in (-1, 0, 1))) for side in (1, -1))
    normal = np.cross(right - left, below - above)
    point = shifted(0, 0)
    sight = satellite - point
    normal *= np.sign(np.sum(normal * point, -1, keepdims=True))
    cosine = np.sum(normal * sight, -1) / np.linalg.norm(normal, axis=-1) / np.linalg.norm(sight, axis=-1)
    return np.degrees(np.arccos(cosine))


def _tie_points(scene: Scene, line: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """The incidence angle of the product's own grid of points, put on equal steps and read half a pixel too early, each bilinear."""
    points = scene.geolocation_grid
    lines, pixels = np.unique(points.line), np.unique(points.pixel)
    table = points.incidence_deg.reshape(len(lines), len(pixels))
    down, across = (np.arange(len(ticks)) * size / (len(ticks) - 1) for ticks, size in zip((lines, pixels), scene.shape, strict=True))
    even = _on_ticks((lines, pixels), table, *np.meshgrid(down, across, indexing="ij"))
    return _on_ticks((down, across), even, line - 0.5, pixel - 0.5)


def _on_ticks(ticks: tuple[np.ndarray, np.ndarray], table: np.ndarray, line: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    row, col = (np.clip(np.searchsorted(one, at, "right") - 1, 0, len(one) - 2) for one, at in zip(ticks, (line, pixel), strict=True))
    (down, across) = ((at - one[k]) / (one[k + 1] - one[k]) for one, at, k in zip(ticks, (line, pixel), (row, col), strict=True))
    return _mix((table[row, col], table[row, col + 1], table[row + 1, col], table[row + 1, col + 1]), across, down)


def _mix(corners: tuple[np.ndarray, ...], across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Bilinear between upper left, upper right, lower left, lower right."""
    above = corners[0] * (1 - across) + corners[1] * across
    below = corners[2] * (1 - across) + corners[3] * across
    return above * (1 - down) + below * down


def with_pixels(scene: Scene, dn: np.ndarray, at: tuple[int, int], folder: Path) -> Scene:
    """The scene with VV digital numbers uint16 put at (line, pixel) into an image of zeros, a sparse file in `folder`."""
    path = folder / "vv.tif"
    lines, pixels = scene.shape
    profile = {"driver": "GTiff", "count": 1, "height": lines, "width": pixels, "dtype": "uint16", "tiled": True, "sparse_ok": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            file.write(dn, 1, window=((at[0], at[0] + dn.shape[0]), (at[1], at[1] + dn.shape[1])))
    return replace(scene, measurements=Tables({"VV": Measurement(path=str(path))}, what="image", where=str(path)))
