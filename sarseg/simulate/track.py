"""The simulator's orbit: one polynomial over all state vectors, and an orbit of its own for own scenes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from sarseg.constants import EARTH_GM_M3_S2, EARTH_ROTATION_RAD_S
from sarseg.errors import InputError
from sarseg.simulate.ellipsoid import geodetic, normal

_DEGREE = 8
"""Over the 150 s of an annotation the orbit's Chebyshev terms beyond this degree are below 1e-8 m."""
_MAX_RESIDUAL_M = 0.05

# Sentinel-1's reference orbit: 175 revolutions in 12 days, so 98.18 degrees of inclination keep the local time (ESA, Sentinel-1 mission)
_REPEAT_S = 12.0 * 86400.0
_REVOLUTIONS = 175
_INCLINATION_RAD = math.radians(98.18)
_ECCENTRICITY = 0.00114
_PERIGEE_RAD = 0.5 * math.pi
_NODE_DRIFT_RAD_S = 2.0 * math.pi / (365.2422 * 86400.0)
"""A sun-synchronous node follows the mean sun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Positions and velocities as polynomials of time: float64 (degree + 1, 3), lowest power first, of (t - middle) / half.

    Velocity is that relative to the rotating earth; it is fitted to the recorded velocities, not derived from positions.
    Times are seconds after `epoch_utc`.
    """

    epoch_utc: np.datetime64
    middle_s: float
    half_s: float
    position: NDArray[np.float64]
    velocity: NDArray[np.float64]

    def state(self, t_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (m) and velocity (m/s), each float64 (..., 3)."""
        powers = ((np.asarray(t_s, np.float64) - self.middle_s) / self.half_s)[..., np.newaxis]
        position, velocity = np.zeros(3), np.zeros(3)
        for a, b in zip(self.position[::-1], self.velocity[::-1], strict=True):
            position = position * powers + a
            velocity = velocity * powers + b
        return position, velocity


def fit_track(
    epoch_utc: np.datetime64, t_s: NDArray[np.float64], position_m: NDArray[np.float64], velocity_m_s: NDArray[np.float64]
) -> Track:
    """One least-squares polynomial through all state vectors.

    Parameters
    ----------
    t_s : float64 (n,), seconds after `epoch_utc`; position_m, velocity_m_s : float64 (n, 3)

    InputError when there are fewer than ten vectors or they are not an orbit (a residual above 5 cm).
    """
    if len(t_s) < _DEGREE + 2:
        raise InputError(f"{len(t_s)} orbit state vectors are too few", hint=f"the simulator needs {_DEGREE + 2}")
    middle_s, half_s = 0.5 * (t_s[0] + t_s[-1]), 0.5 * (t_s[-1] - t_s[0])
    unit = (t_s - middle_s) / half_s
    series = [chebyshev.chebfit(unit, values, _DEGREE) for values in (position_m, velocity_m_s)]
    residual_m = float(np.abs(chebyshev.chebval(unit, series[0]).T - position_m).max())
    if residual_m > _MAX_RESIDUAL_M:
        raise InputError(f"the orbit's state vectors are {residual_m:.2f} m off a smooth orbit")
    position, velocity = (np.stack([chebyshev.cheb2poly(axis) for axis in one.T], axis=1) for one in series)
    return Track(epoch_utc=epoch_utc, middle_s=float(middle_s), half_s=float(half_s), position=position, velocity=velocity)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOrbit:
    """A Sentinel-1-like orbit: a frozen Kepler ellipse whose node follows the sun.

    `node_lon_rad` is the longitude of the ascending node and `argument_rad` the argument of latitude at t = 0, both in the
    earth-fixed frame of t = 0.
    """

    node_lon_rad: float
    argument_rad: float

    @property
    def rate_rad_s(self) -> float:
        """Mean motion, node to node."""
        return 2.0 * math.pi * _REVOLUTIONS / _REPEAT_S

    def state(self, t_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Earth-fixed position (m) and velocity relative to the earth (m/s), float64 (..., 3), at seconds after t = 0."""
        t_s = np.asarray(t_s, np.float64)
        axis_m = (EARTH_GM_M3_S2 / self.rate_rad_s**2) ** (1.0 / 3.0)
        mean = _mean_anomaly(self.argument_rad - _PERIGEE_RAD) + self.rate_rad_s * t_s
        eccentric = mean + _ECCENTRICITY * np.sin(mean)
        for _ in range(4):
            eccentric -= (eccentric - _ECCENTRICITY * np.sin(eccentric) - mean) / (1.0 - _ECCENTRICITY * np.cos(eccentric))
        minor = math.sqrt(1.0 - _ECCENTRICITY**2)
        eccentric_rate = self.rate_rad_s / (1.0 - _ECCENTRICITY * np.cos(eccentric))
        plane = np.stack([np.cos(eccentric) - _ECCENTRICITY, minor * np.sin(eccentric)], axis=-1) * axis_m
        plane_rate = np.stack([-np.sin(eccentric), minor * np.cos(eccentric)], axis=-1) * axis_m * eccentric_rate[..., np.newaxis]
        turn_rad_s = _NODE_DRIFT_RAD_S - EARTH_ROTATION_RAD_S
        first, second = _axes(self.node_lon_rad + turn_rad_s * t_s)
        position = plane[..., :1] * first + plane[..., 1:] * second
        velocity = plane_rate[..., :1] * first + plane_rate[..., 1:] * second
        return position, velocity + np.cross(np.array([0.0, 0.0, turn_rad_s]), position)


def _mean_anomaly(true_rad: float) -> float:
    eccentric = 2.0 * math.atan2(
        math.sqrt(1.0 - _ECCENTRICITY) * math.sin(0.5 * true_rad), math.sqrt(1.0 + _ECCENTRICITY) * math.cos(0.5 * true_rad)
    )
    return eccentric - _ECCENTRICITY * math.sin(eccentric)


def _axes(node_rad: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ellipse's axes (towards perigee, and 90 degrees on) in the earth-fixed frame."""
    cos_node, sin_node = np.cos(node_rad), np.sin(node_rad)
    cos_i, sin_i = math.cos(_INCLINATION_RAD), math.sin(_INCLINATION_RAD)
    node = np.stack([cos_node, sin_node, np.zeros_like(node_rad)], axis=-1)
    ahead = np.stack([-sin_node * cos_i, cos_node * cos_i, np.full_like(node_rad, sin_i)], axis=-1)
    cos_p, sin_p = math.cos(_PERIGEE_RAD), math.sin(_PERIGEE_RAD)
    return cos_p * node + sin_p * ahead, cos_p * ahead - sin_p * node


def orbit_over(target_m: NDArray[np.float64], incidence_deg: float, direction: str) -> OwnOrbit:
    """The orbit that sees a point broadside to the right at t = 0 under a wanted ellipsoidal incidence.

    Parameters
    ----------
    target_m : float64 (3,), earth-fixed; direction : "ascending" or "descending"

    InputError where the ground track does not reach (near the poles).
    """
    lon_deg, lat_deg, _ = geodetic(target_m)
    up = normal(lon_deg, lat_deg)
    sin_u = math.sin(math.radians(float(lat_deg))) / math.sin(_INCLINATION_RAD)
    if abs(sin_u) > 0.992:
        raise InputError(f"no Sentinel-1 orbit passes latitude {float(lat_deg):.1f}", hint="choose a landscape within 79 degrees")
    argument = math.asin(sin_u) if direction == "ascending" else math.pi - math.asin(sin_u)
    ahead = math.atan2(math.sin(argument) * math.cos(_INCLINATION_RAD), math.cos(argument))
    side = -1.0 if direction == "ascending" else 1.0
    ground_rad = side * 0.1 / max(math.cos(math.radians(float(lat_deg))), 0.15)
    unknown = np.array([math.radians(float(lon_deg)) - ahead + ground_rad, argument])

    def miss(values: NDArray[np.float64]) -> NDArray[np.float64]:
        position, velocity = OwnOrbit(node_lon_rad=values[0], argument_rad=values[1]).state(np.array(0.0))
        sight = target_m - position
        along_rad = sight @ velocity / (np.linalg.norm(sight) * np.linalg.norm(velocity))
        incidence = math.acos(-(sight @ up) / float(np.linalg.norm(sight)))
        right = math.copysign(1.0, float(np.cross(velocity, position) @ sight))
        return np.array([along_rad, right * incidence - math.radians(incidence_deg)])

    return _newton(miss, unknown)


def _newton(miss, unknown: NDArray[np.float64]) -> OwnOrbit:  # type: ignore[no-untyped-def]
    for _ in range(50):
        error = miss(unknown)
        if np.abs(error).max() < 1e-13:
            break
        step = 1e-6
        slope = np.stack([(miss(unknown + shift) - error) / step for shift in np.eye(2) * step], axis=1)
        change = np.linalg.solve(slope, -error)
        unknown = unknown + np.clip(change, -0.05, 0.05)
    else:
        raise InputError("no orbit sees the landscape under this incidence")
    return OwnOrbit(node_lon_rad=float(unknown[0]), argument_rad=float(unknown[1]))
