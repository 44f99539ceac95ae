"""Plan of a scene of our own: which orbit sees the landscape, when, and the image's frame around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.errors import InputError
from sarseg.simulate.ellipsoid import surface
from sarseg.simulate.geometry import Frame, ImageGeometry, RangeRecords, ground_point, incidence_deg, make_geometry, project
from sarseg.simulate.landscape import Landscape
from sarseg.simulate.options import Direction
from sarseg.simulate.terrain import map_nodes
from sarseg.simulate.track import OwnOrbit, Track, fit_track, orbit_over
from sarseg.tiles import Window

PIXEL_SPACING_M = 10.0
_EDGE_PX = 8
_VECTOR_STEP_S = 10.0
_FIRST_VECTOR_S = -0.165428
"""State vectors do not fall on the first line's second, as in real products."""
_RECORD_STEP_S = 1.0
_RECORD_LEAD_S = 1.3
_DEGREE = 8
_DAY_UTC = {"ascending": np.datetime64("2021-06-03"), "descending": np.datetime64("2021-06-05")}
_NODE_LOCAL_H = 18.0
"""Local mean solar time of Sentinel-1's ascending node."""
_ORBIT_NUMBER = {"ascending": 38022, "descending": 38050}
"""Ours; the incidence is added, so that scenes of one landscape have orbit numbers, and speckle, of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenePlan:
    """All that the annotation of a scene says; times are seconds after the first line, `geometry.track.epoch_utc`.

    `ground_to_slant` and `slant_to_ground` are the records' polynomials, float64 (records, 9); `terrain_m` (records,) the
    mean terrain height that each follows; `incidence_deg` (pixels,) the ellipsoidal incidence at height 0 along the first line.
    """

    direction: Direction
    geometry: ImageGeometry
    node_utc: np.datetime64
    absolute_orbit: int
    relative_orbit: int
    vector_s: NDArray[np.float64]
    position_m: NDArray[np.float64]
    velocity_m_s: NDArray[np.float64]
    ground_to_slant: NDArray[np.float64]
    slant_to_ground: NDArray[np.float64]
    terrain_m: NDArray[np.float64]
    incidence_deg: NDArray[np.float64]
    polarisations: tuple[str, ...]

    @property
    def data_take(self) -> int:
        """Number of the data take: ours, one an orbit."""
        return 0x48000 + self.absolute_orbit % 0x1000

    def utc(self, t_s: float) -> str:
        """UTC of seconds after the first line, microseconds."""
        return str(self.geometry.track.epoch_utc + np.timedelta64(round(t_s * 1e6), "us"))

    @property
    def last_s(self) -> float:
        """Time of the last line."""
        return (self.geometry.lines - 1) * self.geometry.line_interval_s


def make_plan(landscape: Landscape, direction: Direction, incidence: float, polarisations: tuple[str, ...]) -> ScenePlan:
    """Orbit and frame so that the landscape's centre is seen under `incidence` degrees (of the ellipsoid's normal)."""
    points, heights_m = _mesh_nodes(landscape)
    target = _centre(landscape)
    orbit_number = _ORBIT_NUMBER[direction] + round(4.0 * incidence)
    orbit = orbit_over(target, incidence, direction)
    node_utc, pass_utc = _times(orbit, direction)
    coarse_s: NDArray[np.float64] = np.linspace(-90.0, 90.0, 19)
    about = fit_track(pass_utc, coarse_s, *orbit.state(coarse_s))
    t_s, slant_m = _seen(points, about)
    speed_m_s = _ground_speed(about, target)
    interval_s = PIXEL_SPACING_M / speed_m_s
    first_us = math.floor((float(t_s.min()) - _EDGE_PX * interval_s) * 1e6)
    epoch_utc, shift_s = pass_utc + np.timedelta64(first_us, "us"), first_us * 1e-6
    lines = math.ceil((float(t_s.max()) - shift_s) / interval_s) + _EDGE_PX
    steps = np.arange(-6, math.ceil(lines * interval_s / _VECTOR_STEP_S) + 7)
    vector_s: NDArray[np.float64] = (_VECTOR_STEP_S * steps + _FIRST_VECTOR_S).astype(np.float64)
    position, velocity = (np.round(one, 6) for one in orbit.state(vector_s + shift_s))
    track = fit_track(epoch_utc, vector_s, position, velocity)
    records = _records(track, lines * interval_s, (t_s - shift_s, slant_m, heights_m))
    geometry = make_geometry(track, (lines, records.pixels), interval_s, records.ranges)
    first_line = np.zeros(records.pixels)
    pixel = np.arange(records.pixels, dtype=np.float64)
    points = geometry.ground_point(first_line, pixel, 0.0)
    return ScenePlan(
        direction=direction,
        geometry=geometry,
        node_utc=node_utc,
        absolute_orbit=orbit_number,
        relative_orbit=(orbit_number - 73) % 175 + 1,
        vector_s=vector_s,
        position_m=position,
        velocity_m_s=velocity,
        ground_to_slant=records.ranges.coefficients_m,
        slant_to_ground=records.inverse,
        terrain_m=records.terrain_m,
        incidence_deg=incidence_deg(track, geometry.time_s(first_line, geometry.slant_range_m(first_line, pixel)), points),
        polarisations=polarisations,
    )


def _mesh_nodes(landscape: Landscape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the landscape every 16 pixels on its terrain, float64 (n, 3), and their heights; voids are left out."""
    nodes = map_nodes(landscape.terrain, landscape.grid, Window.whole(landscape.grid.shape)).reshape(-1, 8)
    cols, rows = nodes[:, 7], nodes[:, 6]
    to_map = landscape.terrain.grid.transform
    heights_m = landscape.terrain.height_at(to_map.c + (cols + 0.5) * to_map.a, to_map.f + (rows + 0.5) * to_map.e)
    good = np.isfinite(heights_m)
    if not good.any():
        raise InputError("the land cover does not lie on the heights")
    return nodes[good, :3] + heights_m[good, np.newaxis] * nodes[good, 3:6], heights_m[good]


def _centre(landscape: Landscape) -> NDArray[np.float64]:
    """Earth-fixed point of the map's middle at the mean height."""
    from sarseg.grid import transform_points

    left, bottom, right, top = landscape.grid.bounds
    middle = np.array([0.5 * (left + right)]), np.array([0.5 * (bottom + top)])
    lon_deg, lat_deg = transform_points(landscape.grid.crs, landscape.terrain.grid.crs, *middle)
    foot = surface(lon_deg, lat_deg)[0]
    return np.asarray(foot * (1.0 + float(np.nanmean(landscape.terrain.height_m)) / np.linalg.norm(foot)))


def _times(orbit: OwnOrbit, direction: Direction) -> tuple[np.datetime64, np.datetime64]:
    """UTC of the ascending node before the pass, at 18 h local mean time there, and of t = 0."""
    node_s = -_since_node_s(orbit)
    position, _ = orbit.state(np.array(node_s))
    node_lon_deg = math.degrees(math.atan2(position[1], position[0]))
    utc_h = (_NODE_LOCAL_H - node_lon_deg / 15.0) % 24.0
    node_utc = _DAY_UTC[direction].astype("datetime64[us]") + np.timedelta64(round(utc_h * 3.6e9), "us")
    return node_utc, node_utc + np.timedelta64(round(-node_s * 1e6), "us")


def _since_node_s(orbit: OwnOrbit) -> float:
    """Seconds since the ascending node at t = 0, by bisection on the height above the equator."""
    guess_s = orbit.argument_rad % (2.0 * math.pi) / orbit.rate_rad_s
    low_s, high_s = guess_s - 60.0, guess_s + 60.0
    for _ in range(60):
        middle_s = 0.5 * (low_s + high_s)
        if orbit.state(np.array(-middle_s))[0][2] > 0.0:
            low_s = middle_s
        else:
            high_s = middle_s
    return 0.5 * (low_s + high_s)


def _seen(points: NDArray[np.float64], track: Track) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zero-Doppler times and slant ranges of points, before there is a frame."""
    frame = Frame(track.position, track.velocity, track.middle_s, track.half_s, 1.0, 0.0, np.zeros(1), np.zeros((1, 2)), 0.0)
    out = np.empty((len(points), 4))
    project(points, frame, out)
    return out[:, 2], out[:, 3]


def _ground_speed(track: Track, target: NDArray[np.float64]) -> float:
    """Speed of the zero-Doppler point on the ground at the landscape's centre."""
    t_s, slant_m = _seen(target[np.newaxis], track)
    ends = ground_point(track, t_s + np.array([-0.5, 0.5]), np.repeat(slant_m, 2), 0.0)
    return float(np.linalg.norm(ends[1] - ends[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Records:
    ranges: RangeRecords
    inverse: NDArray[np.float64]
    terrain_m: NDArray[np.float64]
    pixels: int


def _records(track: Track, duration_s: float, seen: tuple[NDArray[np.float64], ...]) -> _Records:
    """Ground-range records every second: arc along the ellipsoid at the mean terrain height of that time.

    `seen` holds times, slant ranges and heights of points all over the landscape.
    """
    t_s, slant_m, heights_m = seen
    edge_m = 0.6 * _EDGE_PX * PIXEL_SPACING_M
    near_m, far_m = float(slant_m.min()) - edge_m, float(slant_m.max()) + edge_m
    record_s = np.arange(-_RECORD_LEAD_S, duration_s + 1.0 + _RECORD_STEP_S, _RECORD_STEP_S)
    record_s = np.round(record_s, 6)
    terrain_m, forward, inverse, far_ground = [], [], [], []
    for one_s in record_s:
        close = np.abs(t_s - one_s) < 0.75
        height_m = float(heights_m[close].mean() if close.any() else heights_m.mean())
        slant = np.linspace(near_m, far_m, 600)
        points = ground_point(track, np.full(slant.shape, one_s), slant, height_m)
        ground = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        forward.append(_power_series(ground, slant))
        inverse.append(_power_series(slant - near_m, ground))
        terrain_m.append(height_m)
        far_ground.append(float(ground[-1]))
    forward_m = np.array(forward)
    forward_m[:, 0] = near_m
    ranges = RangeRecords(record_s, forward_m, PIXEL_SPACING_M)
    return _Records(
        ranges=ranges, inverse=np.array(inverse), terrain_m=np.array(terrain_m), pixels=int(max(far_ground) / PIXEL_SPACING_M) + 1
    )


def _power_series(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the degree-8 least-squares polynomial, lowest power first, float64 (9,)."""
    fitted = Polynomial.fit(x, y, _DEGREE).convert().coef
    return np.pad(fitted, (0, _DEGREE + 1 - len(fitted)))


def near_delay_s(plan: ScenePlan) -> float:
    """Two-way delay of column 0."""
    return 2.0 * float(plan.ground_to_slant[0, 0]) / SPEED_OF_LIGHT_M_S
