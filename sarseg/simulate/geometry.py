"""Where a ground point lies in the simulated image: zero Doppler on the simulator's own orbit, its own range conversion.

Independent of the processor on purpose: orbits are one polynomial (track.py), ground range comes from inverse tables made
by spline, never from Newton on the polynomials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.simulate.ellipsoid import geodetic, normal
from sarseg.simulate.track import Track

_TABLE_STEP_M = 16.0
"""Step of the inverse range tables: linear interpolation between nodes is then within 1e-4 m."""
_TABLE_MARGIN_PX = 60.0


class Frame(NamedTuple):
    """What the projection kernel needs, in a form that numba takes; `table` holds pixels, (records, ranges)."""

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    middle_s: float
    half_s: float
    line_interval_s: float
    tau_ref_s: float
    record_s: NDArray[np.float64]
    table: NDArray[np.float64]
    table_start_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGeometry:
    """The geometry of one ground-range image.

    Times are seconds after the first line, `track.epoch_utc`. `range_m` holds the records' polynomials of ground range,
    float64 (records, degree + 1), lowest power first: slant range in metres of pixel times `pixel_spacing_m`.
    """

    track: Track
    lines: int
    pixels: int
    line_interval_s: float
    pixel_spacing_m: float
    record_s: NDArray[np.float64]
    range_m: NDArray[np.float64]
    tau_ref_s: float
    frame: Frame

    def slant_range_m(self, line: NDArray[np.float64], pixel: NDArray[np.float64]) -> NDArray[np.float64]:
        """One-way slant range of pixel centres; range records are blended linearly in time, the end ones are kept beyond."""
        line, ground_m = np.broadcast_arrays(np.asarray(line, np.float64), np.asarray(pixel, np.float64) * self.pixel_spacing_m)
        before, weight = _between(self.record_s, line * self.line_interval_s)
        after = np.minimum(before + 1, len(self.record_s) - 1)
        return (1.0 - weight) * _polynomial(self.range_m[before], ground_m) + weight * _polynomial(self.range_m[after], ground_m)

    def time_s(self, line: NDArray[np.float64], slant_range_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Zero-Doppler time of what lies in a line at a range: the line's time and the residual bistatic term."""
        half_delay_s = slant_range_m / SPEED_OF_LIGHT_M_S - 0.5 * self.tau_ref_s
        return np.asarray(line * self.line_interval_s + half_delay_s)

    def ground_point(
        self, line: NDArray[np.float64], pixel: NDArray[np.float64], height_m: float | NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Earth-fixed point, float64 (..., 3), at an ellipsoidal height on the right side of the track."""
        slant_m = self.slant_range_m(line, pixel)
        return ground_point(self.track, self.time_s(line, slant_m), slant_m, height_m)

    def place(self, points_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Line, pixel, zero-Doppler time (s) and slant range (m), float64 (..., 4), of earth-fixed points float64 (..., 3).

        Lines and pixels are centres, from 0, and NaN outside the range tables.
        """
        out = np.empty((points_m.size // 3, 4))
        project(np.ascontiguousarray(points_m.reshape(-1, 3)), self.frame, out)
        return out.reshape(*points_m.shape[:-1], 4)

    def line_pixel(self, points_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The first two of `place`, (...)."""
        place = self.place(points_m)
        return place[..., 0], place[..., 1]


class RangeRecords(NamedTuple):
    """Ground-range records: times (n,), polynomials of ground range in metres (n, degree + 1), range spacing."""

    time_s: NDArray[np.float64]
    coefficients_m: NDArray[np.float64]
    pixel_spacing_m: float


def make_geometry(track: Track, shape: tuple[int, int], line_interval_s: float, records: RangeRecords) -> ImageGeometry:
    """Tables and reference of an image of (lines, pixels).

    The range of the residual bistatic term is the middle of the middle record's first and last column: within 3 cm in line of
    what ESA's processor uses, and exact for own scenes, which are made with this rule.
    """
    lines, pixels = shape
    middle = records.coefficients_m[len(records.time_s) // 2]
    ends_m = _polynomial(np.stack([middle, middle]), np.array([0.0, (pixels - 1) * records.pixel_spacing_m]))
    tau_ref_s = float(ends_m.sum()) / SPEED_OF_LIGHT_M_S
    start_m, table = _inverse_tables(records, pixels)
    frame = Frame(
        track.position,
        track.velocity,
        track.middle_s,
        track.half_s,
        line_interval_s,
        tau_ref_s,
        records.time_s,
        table,
        start_m,
    )
    return ImageGeometry(
        track=track,
        lines=lines,
        pixels=pixels,
        line_interval_s=line_interval_s,
        pixel_spacing_m=records.pixel_spacing_m,
        record_s=records.time_s,
        range_m=records.coefficients_m,
        tau_ref_s=tau_ref_s,
        frame=frame,
    )


def _inverse_tables(records: RangeRecords, pixels: int) -> tuple[float, NDArray[np.float64]]:
    """Pixel against slant range for each record, on one common lattice of ranges; NaN where a record does not reach."""
    from scipy.interpolate import CubicSpline

    pixel = np.linspace(-_TABLE_MARGIN_PX, pixels + _TABLE_MARGIN_PX, max(64, pixels // 16))
    ranges = [_polynomial(np.tile(one, (len(pixel), 1)), pixel * records.pixel_spacing_m) for one in records.coefficients_m]
    start_m = float(min(one[0] for one in ranges))
    nodes_m = start_m + _TABLE_STEP_M * np.arange(int((max(one[-1] for one in ranges) - start_m) / _TABLE_STEP_M) + 2)
    tables = [CubicSpline(one, pixel)(nodes_m, extrapolate=False) for one in ranges]
    return start_m, np.stack(tables)


def _between(nodes: NDArray[np.float64], at: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Index of the node before, and the weight of the one after; clamped at the ends."""
    if len(nodes) == 1:
        return np.zeros(at.shape, np.intp), np.zeros(at.shape)
    before = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
    return before, np.clip((at - nodes[before]) / (nodes[before + 1] - nodes[before]), 0.0, 1.0)


def _polynomial(coefficients: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each point's own polynomial: coefficients (..., degree + 1), at (...)."""
    total = np.zeros(np.shape(at))
    for power in range(coefficients.shape[-1] - 1, -1, -1):
        total = total * at + coefficients[..., power]
    return total


def ground_point(
    track: Track, t_s: NDArray[np.float64], slant_range_m: NDArray[np.float64], height_m: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Point of the zero-Doppler plane at a slant range and an ellipsoidal height, right of the flight direction.

    Newton on the off-nadir angle; the height's slope is minus range times the horizontal share of the sight.
    """
    position, velocity = track.state(t_s)
    ahead = velocity / np.linalg.norm(velocity, axis=-1, keepdims=True)
    down = -(position - np.sum(position * ahead, axis=-1, keepdims=True) * ahead)
    down /= np.linalg.norm(down, axis=-1, keepdims=True)
    right = np.cross(down, ahead)
    slant = np.asarray(slant_range_m, np.float64)[..., np.newaxis]
    radius_m = np.linalg.norm(position, axis=-1)
    cosine = (slant[..., 0] ** 2 + radius_m**2 - 6_371_000.0**2) / (2.0 * slant[..., 0] * radius_m)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))[..., np.newaxis]
    for _ in range(8):
        point = position + slant * (np.cos(angle) * down + np.sin(angle) * right)
        lon_deg, lat_deg, height = geodetic(point)
        turning = slant * (np.cos(angle) * right - np.sin(angle) * down)
        slope = np.sum(turning * normal(lon_deg, lat_deg), axis=-1)
        angle = angle + ((height_m - height) / slope)[..., np.newaxis]
    return np.asarray(position + slant * (np.cos(angle) * down + np.sin(angle) * right))


def incidence_deg(track: Track, t_s: NDArray[np.float64], points_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle between the sight and the ellipsoid's normal at points seen at their zero-Doppler times, degrees (...)."""
    position, _ = track.state(t_s)
    lon_deg, lat_deg, _ = geodetic(points_m)
    sight = position - points_m
    cosine = np.sum(sight * normal(lon_deg, lat_deg), axis=-1) / np.linalg.norm(sight, axis=-1)
    return np.asarray(np.degrees(np.arccos(cosine)))


@njit(nogil=True, cache=True)
def project(points, frame, out):  # type: ignore[no-untyped-def]
    """Line, pixel, zero-Doppler time (s) and slant range (m) of earth-fixed points (n, 3), into `out` (n, 4).

    NaN in line and pixel where a point is NaN or its range lies outside the tables.
    """
    degree = frame.position.shape[0] - 1
    last_record = frame.record_s.shape[0] - 1
    last_node = frame.table.shape[1] - 1
    t = 0.0
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if not np.isfinite(x):
            out[i] = np.nan
            continue
        dx = dy = dz = 0.0
        for _ in range(20):
            u = (t - frame.middle_s) / frame.half_s
            sx = sy = sz = vx = vy = vz = ax = ay = az = 0.0
            for k in range(degree, -1, -1):
                ax, ay, az = ax * u + vx, ay * u + vy, az * u + vz
                vx, vy, vz = vx * u + frame.velocity[k, 0], vy * u + frame.velocity[k, 1], vz * u + frame.velocity[k, 2]
                sx, sy, sz = sx * u + frame.position[k, 0], sy * u + frame.position[k, 1], sz * u + frame.position[k, 2]
            dx, dy, dz = x - sx, y - sy, z - sz
            doppler = dx * vx + dy * vy + dz * vz
            slope = -(vx * vx + vy * vy + vz * vz) + (dx * ax + dy * ay + dz * az) / frame.half_s
            step = -doppler / slope
            t += step
            if abs(step) < 1e-11:
                break
        slant = np.sqrt(dx * dx + dy * dy + dz * dz)
        tau = 2.0 * slant / SPEED_OF_LIGHT_M_S
        line_s = t - 0.5 * (tau - frame.tau_ref_s)
        node = (slant - frame.table_start_m) / _TABLE_STEP_M
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = line_s / frame.line_interval_s, np.nan, t, slant
        cell = int(np.floor(node))
        if cell < 0 or cell >= last_node:
            out[i, 0] = np.nan
            continue
        share = node - cell
        record = 0
        while record < last_record - 1 and frame.record_s[record + 1] <= line_s:
            record += 1
        pixel = (1.0 - share) * frame.table[record, cell] + share * frame.table[record, cell + 1]
        if last_record > 0:
            weight = (line_s - frame.record_s[record]) / (frame.record_s[record + 1] - frame.record_s[record])
            weight = min(1.0, max(0.0, weight))
            later = (1.0 - share) * frame.table[record + 1, cell] + share * frame.table[record + 1, cell + 1]
            pixel = (1.0 - weight) * pixel + weight * later
        out[i, 1] = pixel
