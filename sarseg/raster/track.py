"""A satellite's track as a leader file has it, as far as the incidence angle on the ellipsoid needs it.

Geometry to a pixel is that of `sarseg.radar`, which products on the map do not need.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.constants import WGS84_A_M, WGS84_E2
from sarseg.errors import InputError
from sarseg.raster.ceos import Record

Floats = NDArray[np.float64]

_REACH_S, _STEP_S = 60.0, 0.05
"""Before and after the scene centre time: the satellite stands 190 m from the place of closest approach at most, which changes the
angle by less than a thousandth of a degree."""
_RADIUS_M = (6_900_000.0, 7_300_000.0)
_PASSES_S = 5.0
_LEAST_POINTS, _MOST_INTERVAL_S = 4, 120.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """Positions around a scene's centre time.

    Parameters
    ----------
    t_s : float64 (n,), seconds after it
    position_m : float64 (n, 3), Earth-fixed
    climbs : the satellite ascended
    where : for messages
    """

    t_s: Floats
    position_m: Floats
    climbs: bool
    where: str


def read_track(platform: Record, centre_utc: np.datetime64) -> Track | None:
    """The track by the platform position record; None when it has no vectors around the scene, or such as no satellite has."""
    from scipy.interpolate import CubicHermiteSpline

    points = platform.maybe("points")
    first, interval = platform.maybe("first_s"), platform.maybe("interval_s")
    date = [platform.maybe(name) for name in ("year", "month", "day")]
    if points is None or first is None or interval is None or None in date:
        return None
    if not (_LEAST_POINTS <= points <= platform.layout.fields["x_m"].count and 0 < interval <= _MOST_INTERVAL_S and np.isfinite(first)):
        return None
    count = int(points)
    year, month, day = (int(value or 0) for value in date)
    try:
        midnight = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}", "us")
    except ValueError:
        return None
    t_s = float((midnight - centre_utc).astype(np.int64)) / 1e6 + first + interval * np.arange(count)
    position = np.stack([platform.numbers(name, count) for name in ("x_m", "y_m", "z_m")], axis=1)
    velocity = np.stack([platform.numbers(name, count) for name in ("vx_m_s", "vy_m_s", "vz_m_s")], axis=1)
    radius = np.linalg.norm(position, axis=1)
    if not (np.isfinite(velocity).all() and ((radius > _RADIUS_M[0]) & (radius < _RADIUS_M[1])).all()):
        return None
    if not t_s[0] <= -_REACH_S < _REACH_S <= t_s[-1]:
        return None
    times = np.arange(-_REACH_S, _REACH_S + _STEP_S, _STEP_S)
    places = CubicHermiteSpline(t_s, position, velocity)(times)
    return Track(t_s=times, position_m=places, climbs=bool(places[-1, 2] > places[0, 2]), where=platform.where)


def incidence_deg(track: Track, lon_deg: Floats, lat_deg: Floats) -> Floats:
    """Angle between the ellipsoid's normal and the line of sight from where the satellite was nearest, degrees (...).

    Nearest in an Earth-fixed frame is where the Doppler is zero. InputError when the satellite passed the middle of the points at
    another time than that of the scene.
    """
    lon, lat = np.radians(lon_deg).ravel(), np.radians(lat_deg).ravel()
    normal = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    radius = WGS84_A_M / np.sqrt(1.0 - WGS84_E2 * np.sin(lat) ** 2)
    points = radius[:, None] * normal * np.array([1.0, 1.0, 1.0 - WGS84_E2])
    squared = np.sum(track.position_m**2, -1) - 2.0 * points @ track.position_m.T
    nearest = np.argmin(squared, axis=1)
    passed_s = float(np.median(track.t_s[nearest]))
    if not abs(passed_s) <= _PASSES_S:
        raise InputError(f"the orbit passes the image's middle {passed_s:+.0f} s from the scene centre time", track.where)
    sight = track.position_m[nearest] - points
    cosine = np.sum(sight * normal, -1) / np.linalg.norm(sight, axis=-1)
    return np.asarray(np.degrees(np.arccos(cosine)).reshape(np.shape(lon_deg)))
