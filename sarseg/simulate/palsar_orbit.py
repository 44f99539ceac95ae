"""Orbits of ALOS and ALOS-2: circles whose node follows the mean sun."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.constants import EARTH_GM_M3_S2, EARTH_ROTATION_RAD_S
from sarseg.errors import InputError
from sarseg.simulate.ellipsoid import geodetic, normal
from sarseg.simulate.options import Direction

_NODE_DRIFT_RAD_S = 2.0 * math.pi / (365.2422 * 86400.0)
_HIGHEST = 0.992
"""Sine of the argument of latitude beyond which passes are not planned: the track runs east there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrbitShape:
    """A repeat orbit: revolutions in a number of days, inclination, local mean time of the ascending node."""

    revolutions: int
    repeat_days: int
    inclination_deg: float
    node_local_h: float

    @property
    def rate_rad_s(self) -> float:
        """From node to node."""
        return 2.0 * math.pi * self.revolutions / (self.repeat_days * 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircularOrbit:
    """Longitude of the ascending node and argument of latitude are those of t = 0, in the Earth-fixed frame of t = 0."""

    shape: OrbitShape
    node_lon_rad: float
    argument_rad: float

    def state(self, t_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Earth-fixed position (m) and velocity relative to the Earth (m/s), float64 (..., 3), at seconds after t = 0."""
        t_s = np.asarray(t_s, np.float64)
        rate, turn = self.shape.rate_rad_s, _NODE_DRIFT_RAD_S - EARTH_ROTATION_RAD_S
        radius_m = (EARTH_GM_M3_S2 / rate**2) ** (1.0 / 3.0)
        node, argument = self.node_lon_rad + turn * t_s, self.argument_rad + rate * t_s
        cos_i, sin_i = (f(math.radians(self.shape.inclination_deg)) for f in (math.cos, math.sin))
        to_node = np.stack([np.cos(node), np.sin(node), np.zeros_like(node)], axis=-1)
        ahead = np.stack([-np.sin(node) * cos_i, np.cos(node) * cos_i, np.full_like(node, sin_i)], axis=-1)
        cosine, sine = np.cos(argument)[..., np.newaxis], np.sin(argument)[..., np.newaxis]
        position = radius_m * (cosine * to_node + sine * ahead)
        velocity = radius_m * rate * (cosine * ahead - sine * to_node)
        return position, velocity + np.cross(np.array([0.0, 0.0, turn]), position)

    @property
    def since_node_s(self) -> float:
        """Seconds from the ascending node before to t = 0."""
        return self.argument_rad % (2.0 * math.pi) / self.shape.rate_rad_s

    def pass_utc(self, day: np.datetime64) -> np.datetime64:
        """UTC of t = 0, datetime64[us] at whole milliseconds, when the node is passed on a day at its local mean time."""
        node_lon_rad = self.node_lon_rad - (_NODE_DRIFT_RAD_S - EARTH_ROTATION_RAD_S) * self.since_node_s
        utc_h = (self.shape.node_local_h - math.degrees(node_lon_rad) / 15.0) % 24.0
        return np.datetime64(day.astype("datetime64[us]") + np.timedelta64(round((utc_h * 3600.0 + self.since_node_s) * 1e3), "ms"))


def orbit_over(shape: OrbitShape, target_m: NDArray[np.float64], incidence_deg: float, direction: Direction) -> CircularOrbit:
    """The orbit that sees an Earth-fixed point (3,) at zero Doppler to its right at t = 0 under an ellipsoidal incidence.

    InputError where the ground track does not reach (near the poles).
    """
    from scipy.optimize import root

    lon_deg, lat_deg, _ = (float(value) for value in geodetic(target_m))
    up = normal(np.array(lon_deg), np.array(lat_deg))
    inclination = math.radians(shape.inclination_deg)
    sin_u = math.sin(math.radians(lat_deg)) / math.sin(inclination)
    if abs(sin_u) > _HIGHEST:
        raise InputError(f"no orbit of ALOS passes latitude {lat_deg:.1f} north- or southward", hint="choose a landscape within 79 degrees")
    argument = math.asin(sin_u) if direction == "ascending" else math.pi - math.asin(sin_u)
    ahead = math.atan2(math.sin(argument) * math.cos(inclination), math.cos(argument))
    beside = (-0.1 if direction == "ascending" else 0.1) / max(math.cos(math.radians(lat_deg)), 0.15)

    def miss(values: NDArray[np.float64]) -> list[float]:
        orbit = CircularOrbit(shape=shape, node_lon_rad=float(values[0]), argument_rad=float(values[1]))
        position, velocity = orbit.state(np.array(0.0))
        sight = target_m - position
        distance = float(np.linalg.norm(sight))
        right = math.copysign(1.0, float(np.cross(velocity, position) @ sight))
        along = float(sight @ velocity) / distance / float(np.linalg.norm(velocity))
        return [along, right * math.acos(-float(sight @ up) / distance) - math.radians(incidence_deg)]

    found = root(miss, [math.radians(lon_deg) - ahead + beside, argument], tol=1e-14)
    if np.abs(miss(found.x)).max() > 1e-9:
        raise InputError("no orbit sees the landscape under this incidence")
    return CircularOrbit(shape=shape, node_lon_rad=float(found.x[0]), argument_rad=float(found.x[1]))
