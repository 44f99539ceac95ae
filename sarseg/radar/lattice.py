"""Radar coordinates of every pixel of a map, interpolated from exactly solved nodes.

(row, col, height) -> (time, range) is smooth, so it is solved exactly on a lattice of nodes and interpolated between them by
quadratic elements (3 nodes a side in row, column and height, continuous across elements). `plan_lattice` looks at a whole map
once and halves the node steps until the worst error, measured where quadratics err most, is <= 0.005 pixel. Nodes stand at
absolute multiples of the steps, and a pixel uses the nodes of its own element only: its bits do not depend on the block.

Terrain angles come from the same nodes. With the unit vector l from the ground to the satellite, the ellipsoid's normal n and
the tangent vectors e_row, e_col (metres per pixel step), a slope (dh/drow, dh/dcol) has the upward normal n - grad h, so that
    cos(local incidence) = (l.n - p dh/drow - q dh/dcol) / sqrt(1 + A (dh/drow)^2 + 2 B dh/drow dh/dcol + C (dh/dcol)^2)
with p, q the components of l along e_row, e_col and A, B, C the inverse metric: six smooth fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.errors import InputError
from sarseg.grid import MapGrid, transform_points
from sarseg.radar.ellipsoid import ImageGrid
from sarseg.radar.geometry import ecef_from_geodetic, range_doppler
from sarseg.radar.orbit import Floats, Orbit
from sarseg.tiles import Window

TOLERANCE_PX = 0.005
"""Largest error in line and in pixel that a plan accepts."""

_FIRST_STEP_PX = 128  # an element is two steps wide
_FIRST_STEP_GROUND_M = 10_000.0  # and at most so wide on the ground: the corners of wider ones may lie beyond the orbit's reach
_FIRST_STEP_M = 1024.0
_ELEMENTS_LOOKED_AT = (24, 192)  # a side, spread over the map; the second where the image is a small part of it
_BETWEEN_NODES = np.array([-1.0, 1.0]) / math.sqrt(3.0)  # where the error of a quadratic through -1, 0, 1 is greatest

_TIME_RANGE = slice(0, 2)
_ANGLES = slice(2, 8)
_DIRECTION = slice(8, 10)
_FIELDS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class LatticePlan:
    """Node spacing for one map, orbit, radar image and range of heights: decided once, used by every block.

    Parameters
    ----------
    grid, orbit, radar_grid : what it is for; the grid needs a CRS
    step_px : node spacing in rows and columns
    step_m : node spacing in height
    first_element, elements : of the height elements, counted from height 0 (each is 2 * step_m high)
    error_px : worst error measured (map and height added up), in line or pixel; 0 when the map does not touch the radar image
    """

    grid: MapGrid
    orbit: Orbit
    radar_grid: ImageGrid
    step_px: int
    step_m: float
    first_element: int
    elements: int
    error_px: float = 0.0

    @property
    def heights_m(self) -> Floats:
        """Ellipsoidal heights of the nodes, float64 (2 * elements + 1,)."""
        first = 2 * self.first_element
        return np.arange(first, first + 2 * self.elements + 1, dtype=np.float64) * np.float64(self.step_m)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """The nodes around one block of a map.

    Parameters
    ----------
    plan : the plan that it follows
    window : the block
    nodes : float64 (10, heights, rows, cols): time, range; l.n, p, q, A, B, C; direction away from the sensor (row, col)
    """

    plan: LatticePlan
    window: Window
    nodes: Floats

    def time_range(self, heights_m: Floats) -> tuple[Floats, Floats]:
        """Time at the image's Doppler (s after the epoch) and slant range (m) of every pixel of the block.

        Parameters
        ----------
        heights_m : float64 (rows, cols), ellipsoidal; NaN gives NaN
        """
        t_s, slant_range_m = self._fields(_TIME_RANGE, heights_m)
        return t_s, slant_range_m

    def incidence(self, heights_m: Floats, dh_drow: Floats, dh_dcol: Floats) -> tuple[Floats, Floats]:
        """Local and ellipsoid incidence angle, float64 (rows, cols), rad.

        The local angle lies between the line of sight and the terrain's upward normal (greater than pi/2 where the slope faces
        away); the ellipsoid angle between the line of sight and the ellipsoid's normal.

        Parameters
        ----------
        heights_m : float64 (rows, cols), ellipsoidal; NaN gives NaN
        dh_drow, dh_dcol : float64 (rows, cols), rise in metres per pixel step; NaN gives a NaN local angle
        """
        out = np.empty((2, *heights_m.shape))
        _incidence(self._fields(_ANGLES, heights_m), _plain(dh_drow), _plain(dh_dcol), out)
        return out[0], out[1]

    def away(self, heights_m: Floats) -> tuple[Floats, Floats]:
        """Direction away from the sensor at constant azimuth: rows and columns per metre of ground distance, (rows, cols) each.

        Along it the zero-Doppler time stays and the range grows.
        """
        row_per_m, col_per_m = self._fields(_DIRECTION, heights_m)
        return row_per_m, col_per_m

    def _fields(self, fields: slice, heights_m: Floats) -> Floats:
        if heights_m.shape != self.window.shape:
            raise ValueError(f"heights {heights_m.shape} for a block of {self.window.shape}")
        plan = self.plan
        nodes = np.ascontiguousarray(self.nodes[fields])
        out = np.empty((len(nodes), *heights_m.shape))
        position = (self.window.row, self.window.col, plan.step_px, 2 * plan.first_element, plan.step_m)
        _interpolate(nodes, position, _plain(heights_m), out)
        return out


def plan_lattice(grid: MapGrid, orbit: Orbit, radar_grid: ImageGrid, height_range_m: tuple[float, float]) -> LatticePlan:
    """Choose node steps so that every pixel is within 0.005 line and pixel of the exact solution.

    Parameters
    ----------
    grid : the whole map; must have a CRS
    height_range_m : lowest and highest ellipsoidal height that will be asked for

    Raises
    ------
    InputError when the map's pixels are so coarse that even nodes at every pixel do not suffice
    """
    if orbit.epoch_utc != radar_grid.epoch_utc:
        raise ValueError(f"orbit counts from {orbit.epoch_utc}, radar grid from {radar_grid.epoch_utc}")
    step_px, step_m = _first_step_px(grid), _FIRST_STEP_M
    while True:
        first = math.floor(height_range_m[0] / (2.0 * step_m))
        plan = LatticePlan(
            grid=grid,
            orbit=orbit,
            radar_grid=radar_grid,
            step_px=step_px,
            step_m=step_m,
            first_element=first,
            elements=max(1, math.ceil(height_range_m[1] / (2.0 * step_m)) - first),
        )
        across, upward = _error_px(plan)
        if across + upward <= TOLERANCE_PX:
            return replace(plan, error_px=across + upward)
        if across >= upward:
            step_px //= 2
        else:
            step_m /= 2.0
        if step_px < 1 or step_m < 1.0:
            raise InputError(f"map pixels of {grid.spacing} are too coarse for the radar geometry", grid.crs, "choose a finer spacing")


def make_lattice(plan: LatticePlan, window: Window) -> Lattice:
    """Solve the nodes around a block of the plan's map."""
    rows = _nodes_around(window.row, window.rows, plan.step_px)
    cols = _nodes_around(window.col, window.cols, plan.step_px)
    height, row, col = np.meshgrid(plan.heights_m, rows, cols, indexing="ij")
    return Lattice(plan=plan, window=window, nodes=_solve_nodes(plan, row, col, height))


def _nodes_around(first: int, count: int, step: int) -> Floats:
    """Pixel positions of the nodes of every element that the pixels first .. first + count - 1 touch."""
    element = 2 * step
    return np.arange(first // element * 2, ((first + count - 1) // element + 1) * 2 + 1, dtype=np.float64) * step


def _lonlat(grid: MapGrid, row: Floats, col: Floats) -> tuple[Floats, Floats]:
    """WGS84 longitude and latitude in degrees of fractional (row, col); NaN where the projection has no answer."""
    if grid.crs is None:
        raise InputError("the map has no coordinate reference system")
    matrix = grid.transform
    x = matrix.a * (col + 0.5) + matrix.b * (row + 0.5) + matrix.c
    y = matrix.d * (col + 0.5) + matrix.e * (row + 0.5) + matrix.f
    lon, lat = transform_points(grid.crs, CRS.from_epsg(4326), x, y)
    good = np.isfinite(lon) & np.isfinite(lat)
    return np.where(good, lon, np.nan), np.where(good, lat, np.nan)


def _see(plan: LatticePlan, lonlat: tuple[Floats, Floats], height_m: Floats) -> tuple[Floats, Floats, Floats]:
    """Exact time and range, (...), and position (..., 3), of points; NaN on the side that the antenna does not look at."""
    point = ecef_from_geodetic(*lonlat, height_m)
    t_s, slant_range_m = range_doppler(point, plan.orbit, plan.radar_grid.doppler)
    satellite, velocity = plan.orbit.position(t_s), plan.orbit.velocity(t_s)
    right = _dot(point - satellite, np.cross(velocity, satellite))
    seen = right > 0 if plan.radar_grid.look_side == "right" else right < 0
    return np.where(seen, t_s, np.nan), np.where(seen, slant_range_m, np.nan), point


def _solve_nodes(plan: LatticePlan, row: Floats, col: Floats, height_m: Floats) -> Floats:
    """All fields at map positions (...): float64 (10, ...)."""
    # the node itself, and half a pixel before and after it in row and in column
    half_row = np.array([0.0, -0.5, 0.5, 0.0, 0.0]).reshape(-1, *[1] * row.ndim)
    half_col = np.array([0.0, 0.0, 0.0, -0.5, 0.5]).reshape(-1, *[1] * row.ndim)
    lons, lats = _lonlat(plan.grid, row + half_row, col + half_col)
    t_s, slant_range_m, point = _see(plan, (lons[0], lats[0]), height_m)
    around = ecef_from_geodetic(lons[1:], lats[1:], height_m)
    e_row, e_col = around[1] - around[0], around[3] - around[2]
    lon, lat = np.radians(lons[0]), np.radians(lats[0])
    normal = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    sight = (plan.orbit.position(t_s) - point) / slant_range_m[..., None]

    rr, rc, cc = _dot(e_row, e_row), _dot(e_row, e_col), _dot(e_col, e_col)
    area2 = rr * cc - rc * rc
    along = np.cross(normal, plan.orbit.velocity(t_s))
    along *= -np.sign(_dot(along, sight))[..., None] / np.sqrt(_dot(along, along))[..., None]
    fields = [t_s, slant_range_m, _dot(sight, normal), *_components(sight, e_row, e_col)]
    fields += [cc / area2, -rc / area2, rr / area2, *_components(along, e_row, e_col)]
    return np.stack(fields)


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.sum(a * b, axis=-1))


def _components(vector: Floats, e_row: Floats, e_col: Floats) -> tuple[Floats, Floats]:
    """(p, q) so that p e_row + q e_col is the vector's part in their plane."""
    rr, rc, cc = _dot(e_row, e_row), _dot(e_row, e_col), _dot(e_col, e_col)
    along_row, along_col = _dot(vector, e_row), _dot(vector, e_col)
    area2 = rr * cc - rc * rc
    return (cc * along_row - rc * along_col) / area2, (rr * along_col - rc * along_row) / area2


def _first_step_px(grid: MapGrid) -> int:
    """The greatest step that is not too wide on the ground in the middle of the map."""
    row, col = (np.array([0.0, 1.0, 0.0]) + grid.shape[0] / 2, np.array([0.0, 0.0, 1.0]) + grid.shape[1] / 2)
    points = ecef_from_geodetic(*_lonlat(grid, row, col), 0.0)
    pixel_m = float(np.linalg.norm(points[1:] - points[0], axis=-1).max())
    step_px = _FIRST_STEP_PX
    while step_px > 1 and step_px * pixel_m > _FIRST_STEP_GROUND_M:
        step_px //= 2
    return step_px


def _error_px(plan: LatticePlan) -> tuple[float, float]:
    """Worst error of the interpolation over the map and of that over height, in line or pixel, in elements spread over the map."""
    for looked_at in _ELEMENTS_LOOKED_AT:
        middles = [_spread(length, plan.step_px, looked_at) for length in plan.grid.shape]
        height = (2 * np.arange(plan.first_element, plan.first_element + plan.elements) + 1) * plan.step_m
        row, col, h = np.meshgrid(*middles, height, indexing="ij")
        touched = _touches_image(plan, row, col, h)
        if touched.any():
            break
    row, col, h = (place[touched][:, None] for place in (row, col, h))
    half = _BETWEEN_NODES * plan.step_px
    across = 0.0
    for d_row, d_col in ((half, np.zeros(2)), (np.zeros(2), half), (half, half), (half, -half)):
        across = max(across, _worst_px(plan, (row + d_row, col + d_col, h), axes=(0, 1)))
    upward = _worst_px(plan, (row, col, h + _BETWEEN_NODES * plan.step_m), axes=(2,))
    return across, upward


def _spread(length: int, step: int, looked_at: int) -> Floats:
    """Middles of at most `looked_at` elements, the first and the last among them."""
    count = math.ceil(length / (2 * step))
    chosen = np.unique(np.linspace(0, count - 1, min(count, looked_at)).round())
    return np.asarray((2 * chosen + 1) * step)


def _touches_image(plan: LatticePlan, row: Floats, col: Floats, height_m: Floats) -> NDArray[np.bool_]:
    """Whether the elements around these middles reach into the radar image."""
    corners = []
    for d_row, d_col in product((-plan.step_px, plan.step_px), repeat=2):
        t_s, slant_range_m, _ = _see(plan, _lonlat(plan.grid, row + d_row, col + d_col), height_m)
        corners.append(plan.radar_grid.line_pixel(t_s, slant_range_m))
    least, most = (reduce(choose, (np.stack(corner) for corner in corners)) for choose in (np.fmin, np.fmax))
    lines, pixels = plan.radar_grid.shape
    return np.asarray((most[0] > -1) & (least[0] < lines) & (most[1] > -1) & (least[1] < pixels))


def _worst_px(plan: LatticePlan, place: tuple[Floats, Floats, Floats], *, axes: tuple[int, ...]) -> float:
    """Largest |interpolated - exact| at map positions in line or pixel, interpolating along the axes named; inf beside NaN nodes."""
    row, col, height = np.broadcast_arrays(*place)
    exact_t, exact_range, _ = _see(plan, _lonlat(plan.grid, row, col), height)
    near_t, near_range = np.zeros_like(exact_t), np.zeros_like(exact_range)
    steps = (float(plan.step_px), float(plan.step_px), plan.step_m)
    positions = (row, col, height)
    nodes = [_element(positions[axis], steps[axis]) if axis in axes else [(np.ones(1), positions[axis])] for axis in range(3)]
    for (weight_row, at_row), (weight_col, at_col), (weight_height, at_height) in product(*nodes):
        t_s, slant_range_m, _ = _see(plan, _lonlat(plan.grid, at_row, at_col), at_height)
        near_t += weight_row * weight_col * weight_height * t_s
        near_range += weight_row * weight_col * weight_height * slant_range_m
    exact, near = plan.radar_grid.line_pixel(exact_t, exact_range), plan.radar_grid.line_pixel(near_t, near_range)
    error = np.abs(np.stack(near) - np.stack(exact))[:, np.isfinite(exact_t)]
    return float(np.nan_to_num(error, nan=np.inf).max(initial=0.0))


def _element(position: Floats, step: float) -> list[tuple[Floats, Floats]]:
    """Weight and position of the three nodes of the element around each position."""
    middle = (2.0 * np.floor(position / (2.0 * step)) + 1.0) * step
    x = (position - middle) / step
    weights = (0.5 * x * (x - 1.0), 1.0 - x * x, 0.5 * x * (x + 1.0))
    return [(weight, middle + offset * step) for weight, offset in zip(weights, (-1, 0, 1), strict=True)]


def _plain(values: Floats) -> Floats:
    """Contiguous writable float64: another layout would have every kernel compiled once more."""
    return np.require(values, np.float64, ["C", "W"])


@njit(nogil=True, cache=True)
def _interpolate(nodes: Floats, position: tuple[int, int, int, int, float], heights: Floats, out: Floats) -> None:
    """Quadratic elements in row, column and height; heights outside of the nodes continue their end element's polynomial."""
    row0, col0, step, node_height0, step_m = position
    fields, n_heights, _, n_cols = nodes.shape
    element_row0, element_col0 = row0 // (2 * step), col0 // (2 * step)
    line = np.empty((n_cols, n_heights, fields))
    for r in range(heights.shape[0]):
        at = 2 * ((row0 + r) // (2 * step) - element_row0)
        x = (row0 + r - (at + 1 + 2 * element_row0) * step) / step
        w0, w1, w2 = 0.5 * x * (x - 1.0), 1.0 - x * x, 0.5 * x * (x + 1.0)
        for c in range(n_cols):
            for h in range(n_heights):
                for f in range(fields):
                    line[c, h, f] = w0 * nodes[f, h, at, c] + w1 * nodes[f, h, at + 1, c] + w2 * nodes[f, h, at + 2, c]
        for c in range(heights.shape[1]):
            height = heights[r, c] / step_m - node_height0
            if np.isnan(height):
                for f in range(fields):
                    out[f, r, c] = np.nan
                continue
            at_h = 2 * max(0, min(int(np.floor(0.5 * height)), (n_heights - 3) // 2))
            z = height - (at_h + 1)
            z0, z1, z2 = 0.5 * z * (z - 1.0), 1.0 - z * z, 0.5 * z * (z + 1.0)
            at_c = 2 * ((col0 + c) // (2 * step) - element_col0)
            y = (col0 + c - (at_c + 1 + 2 * element_col0) * step) / step
            y0, y1, y2 = 0.5 * y * (y - 1.0), 1.0 - y * y, 0.5 * y * (y + 1.0)
            for f in range(fields):
                low = y0 * line[at_c, at_h, f] + y1 * line[at_c + 1, at_h, f] + y2 * line[at_c + 2, at_h, f]
                middle = y0 * line[at_c, at_h + 1, f] + y1 * line[at_c + 1, at_h + 1, f] + y2 * line[at_c + 2, at_h + 1, f]
                high = y0 * line[at_c, at_h + 2, f] + y1 * line[at_c + 1, at_h + 2, f] + y2 * line[at_c + 2, at_h + 2, f]
                out[f, r, c] = z0 * low + z1 * middle + z2 * high


@njit(nogil=True, cache=True)
def _incidence(fields: Floats, dh_drow: Floats, dh_dcol: Floats, out: Floats) -> None:
    for r in range(dh_drow.shape[0]):
        for c in range(dh_drow.shape[1]):
            u, v = dh_drow[r, c], dh_dcol[r, c]
            upward = fields[0, r, c]
            facing = upward - u * fields[1, r, c] - v * fields[2, r, c]
            length = np.sqrt(1.0 + fields[3, r, c] * u * u + 2.0 * fields[4, r, c] * u * v + fields[5, r, c] * v * v)
            # rounding alone takes a cosine beyond 1; NaN passes through the comparison
            cosine = facing / length
            out[0, r, c] = 0.0 if cosine > 1.0 else np.arccos(cosine)
            out[1, r, c] = np.arccos(upward)
