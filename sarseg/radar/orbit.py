"""Satellite orbit: recorded state vectors and their 8-point Lagrange interpolation (docs/sentinel1.md 1).

Position and velocity are interpolated each by itself: ESA's processor uses the recorded velocities, and differentiating the
positions instead costs up to 0.4 m along track on products with a downlinked orbit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POINTS = 8
"""Vectors in one interpolation."""

_LEAST_RADIUS_M = 6.3e6  # inside of every point of the Earth's surface

REACH_STEPS = 3.0
"""The orbit reaches so many vector steps beyond its first and last vector.

Extrapolating 3 steps multiplies the last digit of the vectors (1e-6 m) by a few thousand: millimetres. It lets the nodes around
the last lines of an IPF 2.36 product be solved, whose vectors end 2 ms after the image.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Orbit:
    """State vectors in an Earth-fixed frame (ITRF/WGS84; the velocity is relative to the rotating Earth).

    Parameters
    ----------
    epoch_utc : datetime64[us], the zero of every time in seconds
    t_s : float64 (n,), strictly increasing, n >= 2
    position_m, velocity_m_s : float64 (n, 3)
    source : where the vectors come from, for people
    note : a warning about these vectors, or empty
    """

    epoch_utc: np.datetime64
    t_s: Floats
    position_m: Floats
    velocity_m_s: Floats
    source: str = "annotation"
    note: str = ""

    def __post_init__(self) -> None:
        count = len(self.t_s)
        if count < 2 or self.position_m.shape != (count, 3) or self.velocity_m_s.shape != (count, 3):
            raise ValueError(f"{count} times, positions {self.position_m.shape}, velocities {self.velocity_m_s.shape}")
        if not np.all(np.diff(self.t_s) > 0):
            raise ValueError("the times of an orbit must increase")
        if not (np.linalg.norm(self.position_m, axis=1) > _LEAST_RADIUS_M).all() or not self.velocity_m_s.any(axis=1).all():
            raise ValueError("an orbit vector lies inside of the Earth or stands still")

    @property
    def reach_s(self) -> tuple[float, float]:
        """First and last time with an answer: three vector steps beyond the ends."""
        return (
            float(self.t_s[0] - REACH_STEPS * (self.t_s[1] - self.t_s[0])),
            float(self.t_s[-1] + REACH_STEPS * (self.t_s[-1] - self.t_s[-2])),
        )

    def position(self, t_s: Floats | float) -> Floats:
        """Position, float64 (..., 3), m, at times (...) in seconds after the epoch; NaN where the orbit does not reach."""
        return self._interpolate(t_s, self.position_m)

    def velocity(self, t_s: Floats | float) -> Floats:
        """Velocity, float64 (..., 3), m/s, at times (...) in seconds after the epoch; NaN where the orbit does not reach."""
        return self._interpolate(t_s, self.velocity_m_s)

    def at_epoch(self, epoch_utc: np.datetime64) -> Orbit:
        """The same orbit with its times counted from another epoch."""
        shift_s = seconds_between(self.epoch_utc, epoch_utc)
        return self if shift_s == 0 else replace(self, epoch_utc=epoch_utc, t_s=self.t_s + shift_s)

    @cached_property
    def scale(self) -> Floats:
        """1 / prod(t_i - t_j), j != i, for each window of POINTS vectors: float64 (n - points + 1, points), s^(1 - points)."""
        points = min(POINTS, len(self.t_s))
        window = np.lib.stride_tricks.sliding_window_view(self.t_s, points)
        gaps = window[:, :, None] - window[:, None, :]
        gaps[:, np.arange(points), np.arange(points)] = 1.0
        return np.asarray(1.0 / gaps.prod(axis=2))

    def _interpolate(self, t_s: Floats | float, values: Floats) -> Floats:
        from sarseg.radar.kernels import interpolate_vectors

        times = np.asarray(t_s, np.float64)
        out = np.empty((times.size, 3))
        interpolate_vectors(np.require(times.ravel(), requirements="W"), self.t_s, self.scale, values, out)
        first, last = self.reach_s
        out[~((times.ravel() >= first) & (times.ravel() <= last))] = np.nan
        return out.reshape(*times.shape, 3)


def seconds_between(time_utc: np.datetime64, epoch_utc: np.datetime64) -> float:
    """time - epoch in seconds; subtracted as whole microseconds first, since 1 us is 7 mm on the ground (docs/sentinel1.md 2)."""
    microseconds = time_utc.astype("datetime64[us]").astype(np.int64) - epoch_utc.astype("datetime64[us]").astype(np.int64)
    return float(microseconds) / 1e6
