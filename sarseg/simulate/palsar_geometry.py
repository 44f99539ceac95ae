"""Where a ground point lies in a simulated image of PALSAR, and back: time and range at the image's Doppler, then the image's raster.

Independent of the processor on purpose: the orbit is one polynomial, the ground range a table with splines, the map projection exact
points with splines between; nothing is read from the leader's coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.grid import MapGrid, transform_points
from sarseg.simulate.ellipsoid import geodetic, normal, surface
from sarseg.simulate.geometry import ground_point
from sarseg.simulate.track import Track

Floats = NDArray[np.float64]

GEOGRAPHIC = CRS.from_epsg(4326)
_NODES = 48
_ROUNDS = 12
_EXACT_S = 1e-11


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A radar on its track, looking to the right.

    A point is imaged when its Doppler frequency is `doppler_hz` + `slope_hz_m` x (slant range - `origin_m`); times are seconds
    after the track's epoch.
    """

    track: Track
    wavelength_m: float
    origin_m: float = 0.0
    doppler_hz: float = 0.0
    slope_hz_m: float = 0.0

    def frequency_hz(self, slant_m: Floats) -> Floats:
        """Doppler at which the image shows what is at slant ranges (...)."""
        return np.asarray(self.doppler_hz + self.slope_hz_m * (slant_m - self.origin_m))

    def see(self, points: Floats) -> tuple[Floats, Floats]:
        """Time (s) and slant range (m) at which Earth-fixed points (..., 3) are imaged; NaN for NaN."""
        out = np.empty((points.size // 3, 2))
        law = np.array([self.wavelength_m, self.origin_m, self.doppler_hz, self.slope_hz_m])
        track = self.track
        flat = np.ascontiguousarray(points.reshape(-1, 3))
        _see(flat, track.position, track.velocity, np.array([track.middle_s, track.half_s]), law, out)
        return out[:, 0].reshape(points.shape[:-1]), out[:, 1].reshape(points.shape[:-1])

    def ground(self, t_s: Floats, slant_m: Floats, height_m: float) -> Floats:
        """Earth-fixed points (..., 3) at an ellipsoidal height that are imaged at times and ranges (...).

        Its neighbour at zero Doppler is moved until it is seen there; the way from one to the other is all but a shift.
        """
        t_s, slant_m = np.broadcast_arrays(np.asarray(t_s, np.float64), np.asarray(slant_m, np.float64))
        broadside_s, nearest_m = t_s, slant_m
        for _ in range(_ROUNDS):
            points = ground_point(self.track, broadside_s, nearest_m, height_m)
            seen_s, seen_m = self.see(points)
            late_s, far_m = seen_s - t_s, seen_m - slant_m
            if max(float(np.abs(late_s).max()), float(np.abs(far_m).max()) * 1e-4) < _EXACT_S:
                break
            broadside_s, nearest_m = broadside_s - late_s, nearest_m - far_m
        return points

    def incidence_deg(self, t_s: Floats, points: Floats) -> Floats:
        """Angle between the line of sight and the ellipsoid's normal at points (..., 3) seen at times (...)."""
        lon_deg, lat_deg, _ = geodetic(points)
        sight = self.track.state(t_s)[0] - points
        cosine = np.sum(sight * normal(lon_deg, lat_deg), axis=-1) / np.linalg.norm(sight, axis=-1)
        return np.asarray(np.degrees(np.arccos(cosine)))


class PalsarImage(Protocol):
    """A raster of times and ranges; pixel centres at whole numbers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(lines, pixels)."""

    def to_image(self, t_s: Floats, slant_m: Floats) -> tuple[Floats, Floats]:
        """Line and pixel of times and ranges (...), also outside."""

    def to_radar(self, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Time and slant range of lines and pixels (...)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlantImage:
    """Level 1.1: lines in the order of time, samples at equal steps of slant range."""

    shape: tuple[int, int]
    first_s: float
    interval_s: float
    near_m: float
    spacing_m: float

    def to_image(self, t_s: Floats, slant_m: Floats) -> tuple[Floats, Floats]:
        """Line and pixel."""
        return (t_s - self.first_s) / self.interval_s, (slant_m - self.near_m) / self.spacing_m

    def to_radar(self, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Time and slant range."""
        line, pixel = np.broadcast_arrays(np.asarray(line, np.float64), np.asarray(pixel, np.float64))
        return self.first_s + line * self.interval_s, self.near_m + pixel * self.spacing_m


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundImage:
    """Level 1.5, georeferenced: equal steps along the track and of arc along the ellipsoid; the first line is in the north.

    `ground_m`, `slant_m` float64 (n,): a table of arc and slant range. The first pixel is in the west [unverified for descending
    passes]: near range in ascending, far range in descending ones (`westward`), whose lines then follow time.
    """

    shape: tuple[int, int]
    first_s: float
    interval_s: float
    spacing_m: float
    westward: bool
    ground_m: Floats
    slant_m: Floats

    def to_image(self, t_s: Floats, slant_m: Floats) -> tuple[Floats, Floats]:
        """Line and pixel."""
        from scipy.interpolate import CubicSpline

        pixel = CubicSpline(self.slant_m, self.ground_m)(slant_m) / self.spacing_m
        return (t_s - self.first_s) / self.interval_s, (self.shape[1] - 1.0) - pixel if self.westward else pixel

    def to_radar(self, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Time and slant range."""
        from scipy.interpolate import CubicSpline

        line, pixel = np.broadcast_arrays(np.asarray(line, np.float64), np.asarray(pixel, np.float64))
        arc_px = (self.shape[1] - 1.0) - pixel if self.westward else pixel
        return self.first_s + line * self.interval_s, CubicSpline(self.ground_m, self.slant_m)(arc_px * self.spacing_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapTables:
    """Easting and northing (n, n), metres, of the ellipsoid's points at times (n,) and ranges (n,)."""

    nodes_s: Floats
    nodes_m: Floats
    east_m: Floats
    north_m: Floats

    def at(self, t_s: Floats, slant_m: Floats) -> tuple[Floats, Floats]:
        """Easting and northing of times and ranges (...), by cubic splines."""
        from scipy.interpolate import RectBivariateSpline

        east, north = (RectBivariateSpline(self.nodes_s, self.nodes_m, table).ev(t_s, slant_m) for table in (self.east_m, self.north_m))
        return np.asarray(east), np.asarray(north)


def map_tables(view: View, crs: CRS, bounds: tuple[float, float, float, float]) -> MapTables:
    """Tables of a map within (first, last, near, far) of time and range."""
    nodes_s, nodes_m = np.linspace(*bounds[:2], _NODES), np.linspace(*bounds[2:], _NODES)
    lon_deg, lat_deg, _ = geodetic(view.ground(*np.meshgrid(nodes_s, nodes_m, indexing="ij"), 0.0))
    east_m, north_m = transform_points(GEOGRAPHIC, crs, lon_deg, lat_deg)
    return MapTables(nodes_s=nodes_s, nodes_m=nodes_m, east_m=east_m, north_m=north_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapImage:
    """Level 1.5, geocoded: a pixel of a UTM map shows what has the time and range of its point of the ellipsoid."""

    grid: MapGrid
    view: View
    tables: MapTables

    @property
    def shape(self) -> tuple[int, int]:
        """(lines, pixels)."""
        return self.grid.shape

    def to_image(self, t_s: Floats, slant_m: Floats) -> tuple[Floats, Floats]:
        """Line and pixel."""
        return self.grid.pixel_of(*self.tables.at(t_s, slant_m))

    def to_radar(self, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Time and slant range."""
        line, pixel = np.broadcast_arrays(np.asarray(line, np.float64), np.asarray(pixel, np.float64))
        to_map = self.grid.transform
        x, y = to_map.a * (pixel + 0.5) + to_map.c, to_map.e * (line + 0.5) + to_map.f
        return self.view.see(surface(*transform_points(self.grid.crs, GEOGRAPHIC, x, y)))


@njit(nogil=True, cache=True)
def _see(points, position, velocity, span, law, out):  # type: ignore[no-untyped-def]
    wavelength, origin, constant, slope = law
    degree = position.shape[0] - 1
    t = 0.0
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if not np.isfinite(x):
            out[i] = np.nan
            continue
        slant = 0.0
        for _ in range(30):
            u = (t - span[0]) / span[1]
            sx = sy = sz = vx = vy = vz = ax = ay = az = 0.0
            for k in range(degree, -1, -1):
                ax, ay, az = ax * u + vx, ay * u + vy, az * u + vz
                vx, vy, vz = vx * u + velocity[k, 0], vy * u + velocity[k, 1], vz * u + velocity[k, 2]
                sx, sy, sz = sx * u + position[k, 0], sy * u + position[k, 1], sz * u + position[k, 2]
            dx, dy, dz = x - sx, y - sy, z - sz
            slant = np.sqrt(dx * dx + dy * dy + dz * dz)
            # range times speed of approach, and its slope; that of the range in the wanted frequency is left out, so it takes a few
            # steps more
            wanted = 0.5 * wavelength * slant * (constant + slope * (slant - origin))
            change = -(vx * vx + vy * vy + vz * vz) + (dx * ax + dy * ay + dz * az) / span[1]
            step = -(dx * vx + dy * vy + dz * vz - wanted) / change
            t += step
            if abs(step) < 1e-12:
                break
        out[i, 0], out[i, 1] = t, slant
