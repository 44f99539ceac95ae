"""Range-Doppler geometry: where and when the radar saw a point, and in which line and pixel that lies.

All sensors end in `RadarGrid`. Choices, with their measurements in docs/sentinel1.md: times are zero-Doppler; the line carries the
residual bistatic term (B2); ground range is the inverse of the GRSR polynomials, never the SRGR ones (B3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from sarseg.constants import SPEED_OF_LIGHT_M_S, WGS84_A_M, WGS84_E2
from sarseg.radar.orbit import Floats, Orbit

_TABLE_STEP_M = 500.0  # slant range between table nodes; the Hermite cubic between them errs by < 1e-6 pixel
_MARGIN_PX = 64.0  # the table goes so far beyond the image; further out pixels continue on a straight line
_GRSR_STEPS = 8

Side = Literal["right", "left"]
Records = Literal["linear", "nearest"]


def ecef_from_geodetic(lon_deg: Floats | float, lat_deg: Floats | float, height_m: Floats | float) -> Floats:
    """Earth-fixed position, float64 (..., 3), m, of WGS84 longitude, latitude and ellipsoidal height (broadcast together)."""
    lon, lat, height = np.broadcast_arrays(np.radians(lon_deg), np.radians(lat_deg), np.asarray(height_m, np.float64))
    normal_radius_m = WGS84_A_M / np.sqrt(1.0 - WGS84_E2 * np.sin(lat) ** 2)
    horizontal_m = (normal_radius_m + height) * np.cos(lat)
    vertical_m = (normal_radius_m * (1.0 - WGS84_E2) + height) * np.sin(lat)
    return np.stack([horizontal_m * np.cos(lon), horizontal_m * np.sin(lon), vertical_m], axis=-1)


def zero_doppler(points_ecef_m: Floats, orbit: Orbit) -> tuple[Floats, Floats]:
    """Time and range at which the radar passed each point broadside: (X - S(t)) . V(t) = 0.

    Newton from the nearest state vector until the step is below 1e-12 s. Both sides of the track are answered.

    Parameters
    ----------
    points_ecef_m : float64 (..., 3), ITRF; NaN = no ground there

    Returns
    -------
    t_s, slant_range_m : float64 (...), seconds after `orbit.epoch_utc`, one-way metres; NaN where the orbit does not reach
    """
    from sarseg.radar.kernels import solve_zero_doppler

    points = _flat(points_ecef_m).reshape(-1, 3)
    t_s, slant_range_m = np.empty(len(points)), np.empty(len(points))
    solve_zero_doppler(points, (orbit.t_s, orbit.scale, orbit.position_m, orbit.velocity_m_s), orbit.reach_s, t_s, slant_range_m)
    shape = np.shape(points_ecef_m)[:-1]
    return t_s.reshape(shape), slant_range_m.reshape(shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class RadarGrid:
    """How (line, pixel) of a radar image and (zero-Doppler time, slant range) belong together.

    Line time is linear: `first_line_s + line * line_interval_s`. The slant range of a pixel is a polynomial in ground range
    (pixel * pixel_spacing_m), given at some times, and clamped to the end records outside of them.

    Parameters
    ----------
    epoch_utc : datetime64[us], zero of every time; the orbit must have the same
    shape : (lines, pixels)
    look_side : of the antenna, seen along the flight
    wavelength_m : radar wavelength
    first_line_s, line_interval_s : image line times
    pixel_spacing_m : ground range
    record_t_s : float64 (k,), times of the range records, increasing, k >= 1
    record_origin_m : float64 (k,), ground range at which each polynomial counts from
    record_coefficients : float64 (k, degree + 1), slant range in metres, lowest power first
    tau_ref_s : two-way time for which the bistatic delay was removed from the lines
    """

    epoch_utc: np.datetime64
    shape: tuple[int, int]
    look_side: Side
    wavelength_m: float
    first_line_s: float
    line_interval_s: float
    pixel_spacing_m: float
    record_t_s: Floats
    record_origin_m: Floats
    record_coefficients: Floats
    tau_ref_s: float

    def __post_init__(self) -> None:
        count = len(self.record_t_s)
        if count < 1 or self.record_origin_m.shape != (count,) or len(self.record_coefficients) != count:
            raise ValueError(f"{count} range records, {len(self.record_coefficients)} polynomials")
        if not np.all(np.diff(self.record_t_s) > 0):
            raise ValueError("the times of the range records must increase")
        steps = {"line interval": self.line_interval_s, "pixel spacing": self.pixel_spacing_m, "wavelength": self.wavelength_m}
        for what, value in steps.items():
            if not value > 0:
                raise ValueError(f"the {what} is positive, not {value}")
        if min(self.shape) < 1:
            raise ValueError(f"an image has lines and pixels, not {self.shape}")

    def line_time_s(self, line: Floats | float) -> Floats:
        """Image time of a line: zero-Doppler time less the residual bistatic term; seconds after the epoch."""
        return np.asarray(self.first_line_s + np.asarray(line, np.float64) * self.line_interval_s)

    def zero_doppler_time_s(self, line: Floats | float, slant_range_m: Floats | float) -> Floats:
        """Zero-Doppler time of an image position: line time + (tau - tau_ref) / 2 (docs/sentinel1.md 2)."""
        tau_s = 2.0 * np.asarray(slant_range_m) / SPEED_OF_LIGHT_M_S
        return np.asarray(self.line_time_s(line) + (tau_s - self.tau_ref_s) / 2.0)

    def slant_range_m(self, line: Floats | float, pixel: Floats | float, *, records: Records = "linear") -> Floats:
        """One-way slant range, float64, of image positions (broadcast together): the inverse of `line_pixel`'s pixel."""
        from sarseg.radar.kernels import slant_ranges

        lines, pixels = np.broadcast_arrays(line, pixel)
        out = np.empty(lines.size)
        slant_ranges(_flat(self.line_time_s(lines)), _flat(pixels), self._tables, records == "nearest", out)
        return out.reshape(lines.shape)

    def line_pixel(self, t_s: Floats, slant_range_m: Floats, *, records: Records = "linear") -> tuple[Floats, Floats]:
        """Fractional line and pixel (0 = centre of the first) of zero-Doppler times and slant ranges.

        Parameters
        ----------
        t_s, slant_range_m : float64 (...), NaN = nothing there
        records : "linear" blends the pixels of the two neighbouring range records (continuous, as the image is);
            "nearest" takes the nearer one, as the geolocation grid of a product does (docs/sentinel1.md 3)

        Returns
        -------
        line, pixel : float64 (...); also outside the image, where pixels continue on a straight line
        """
        from sarseg.radar.kernels import lines_pixels

        t_s, slant_range_m = np.broadcast_arrays(t_s, slant_range_m)
        out = np.empty((2, t_s.size))
        timing = (self.first_line_s, self.line_interval_s, self.tau_ref_s)
        lines_pixels(_flat(t_s), _flat(slant_range_m), timing, self._tables, records == "nearest", out)
        return out[0].reshape(t_s.shape), out[1].reshape(t_s.shape)

    @property
    def range_span_m(self) -> tuple[float, float]:
        """Least and greatest slant range of any pixel."""
        ends = grsr_m(self.record_coefficients, self._ground_m(np.array([0.0, self.shape[1] - 1.0])))
        return float(ends.min()), float(ends.max())

    def _ground_m(self, pixels: Floats) -> Floats:
        """Ground range from each record's own origin, float64 (k, pixels)."""
        return np.asarray(pixels * self.pixel_spacing_m - self.record_origin_m[:, None])

    @cached_property
    def _tables(self) -> tuple[Floats, float, float, Floats]:
        """The inverse of every record: its times, first slant range, step, and (pixel, d pixel / d node) of each node.

        Solved by Newton on the polynomials; the cubic between nodes replaces that solution at every pixel.
        """
        margin = self._ground_m(np.array([-_MARGIN_PX, self.shape[1] - 1.0 + _MARGIN_PX]))
        ends = grsr_m(self.record_coefficients, margin)
        first, last = float(ends[:, 0].min()), float(ends[:, 1].max())
        nodes = 1 + int(np.ceil((last - first) / _TABLE_STEP_M))
        step = (last - first) / (nodes - 1) if nodes > 1 else _TABLE_STEP_M
        wanted = first + step * np.arange(nodes)
        ground = np.linspace(margin[:, 0], margin[:, 1], nodes, axis=1)
        derivative = self.record_coefficients[:, 1:] * np.arange(1, self.record_coefficients.shape[1])
        for _ in range(_GRSR_STEPS):
            slope = grsr_m(derivative, ground)
            ground = ground - (grsr_m(self.record_coefficients, ground) - wanted) / slope
        pixel = (ground + self.record_origin_m[:, None]) / self.pixel_spacing_m
        nodes_table = np.stack([pixel, step / (grsr_m(derivative, ground) * self.pixel_spacing_m)], axis=-1)
        return self.record_t_s, first, step, nodes_table


def _flat(values: Floats) -> Floats:
    """Values as one writable row of float64: a read-only array would have every kernel compiled once more."""
    return np.require(values, np.float64, ["C", "W"]).ravel()


def grsr_m(coefficients: Floats, ground_m: Floats) -> Floats:
    """Polynomials (k, degree + 1), lowest power first, each at its own (k, n) ground ranges: float64 (k, n)."""
    value = np.zeros_like(ground_m)
    for column in coefficients.T[::-1]:
        value = value * ground_m + column[:, None]
    return value
