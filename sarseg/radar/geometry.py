"""Range-Doppler geometry: where and when the radar saw a point, and in which line and pixel that lies.

Images in radar geometry end in `RadarGrid`, images that lie on the ellipsoid already in `sarseg.radar.ellipsoid`. Choices, with their
measurements in docs/sentinel1.md: times are zero-Doppler, unless the sensor's Doppler is given; the line carries the residual
bistatic term (B2); ground range is the inverse of the GRSR polynomials, never the SRGR ones (B3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from sarseg.constants import SPEED_OF_LIGHT_M_S, WGS84_A_M, WGS84_E2
from sarseg.radar.orbit import Floats, Orbit

_TABLE_STEP_M = 500.0  # slant range between table nodes; the Hermite cubic between them errs by < 1e-6 pixel
_MARGIN_PX = 64.0  # the table goes so far beyond the image; further out pixels continue on a straight line
_GRSR_STEPS = 8
_ELLIPSOID_STEPS = 12

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
    return range_doppler(points_ecef_m, orbit, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doppler:
    """Doppler frequency at which an image shows each point: a polynomial in slant range.

    Parameters
    ----------
    wavelength_m : of the radar
    origin_m : slant range from which the polynomial counts
    coefficients_hz : Hz, Hz/km, Hz/km^2; positive = the point lies ahead
    """

    wavelength_m: float
    origin_m: float
    coefficients_hz: tuple[float, float, float]

    def at(self, slant_range_m: Floats | float) -> Floats:
        """Frequency, Hz, float64 (...)."""
        x = (np.asarray(slant_range_m, np.float64) - self.origin_m) / 1000.0
        c0, c1, c2 = self.coefficients_hz
        return np.asarray(c0 + x * (c1 + x * c2))


def range_doppler(points_ecef_m: Floats, orbit: Orbit, doppler: Doppler | None) -> tuple[Floats, Floats]:
    """Time and range at which the radar saw each point at its Doppler: 2 / wavelength (X - S(t)) . V(t) / R = f(R), R = |X - S(t)|.

    Parameters
    ----------
    doppler : None = zero Doppler, as `zero_doppler`, whose other parameters and answers are the same
    """
    from sarseg.radar.kernels import solve_range_doppler

    points = _flat(points_ecef_m).reshape(-1, 3)
    t_s, slant_range_m = np.empty(len(points)), np.empty(len(points))
    vectors = (orbit.t_s, orbit.scale, orbit.position_m, orbit.velocity_m_s)
    words = (0.0,) * 5 if doppler is None else (doppler.wavelength_m / 2.0, doppler.origin_m, *doppler.coefficients_hz)
    solve_range_doppler(points, vectors, orbit.reach_s, words, t_s, slant_range_m)
    shape = np.shape(points_ecef_m)[:-1]
    return t_s.reshape(shape), slant_range_m.reshape(shape)


def doppler_of(points_ecef_m: Floats, t_s: Floats, orbit: Orbit, wavelength_m: float) -> Floats:
    """Doppler frequency, Hz (...), at which the radar sees points (..., 3) at times (...)."""
    sight = points_ecef_m - orbit.position(t_s)
    return np.asarray(2.0 / wavelength_m * np.sum(sight * orbit.velocity(t_s), axis=-1) / np.linalg.norm(sight, axis=-1))


def on_ellipsoid(t_s: Floats, slant_range_m: Floats, orbit: Orbit, look_side: Side, doppler: Doppler | None = None) -> Floats:
    """The points of the WGS84 ellipsoid that the radar saw at these times and ranges: float64 (..., 3), Earth-fixed metres.

    Newton on range, Doppler and ellipsoid from the point of a sphere; NaN where the range meets no ground.
    """
    t_s, slant = np.broadcast_arrays(np.asarray(t_s, np.float64), np.asarray(slant_range_m, np.float64))
    satellite, velocity = orbit.position(t_s), orbit.velocity(t_s)
    shift = np.zeros_like(slant) if doppler is None else doppler.wavelength_m / 2.0 * slant * doppler.at(slant)
    inverse = np.array([1.0, 1.0, 1.0 / (1.0 - WGS84_E2)]) / WGS84_A_M**2
    point = _on_sphere(satellite, velocity, slant, look_side)
    for _ in range(_ELLIPSOID_STEPS):
        sight = point - satellite
        wrong = np.stack(
            [
                (np.sum(sight * sight, -1) - slant**2) / 2.0,
                np.sum(sight * velocity, -1) - shift,
                (np.sum(point * point * inverse, -1) - 1.0) / 2.0,
            ],
            axis=-1,
        )
        matrix = np.stack([sight, velocity, point * inverse], axis=-2)
        good = np.isfinite(matrix).all(axis=(-1, -2))
        matrix[~good] = np.eye(3)
        point = point - np.linalg.solve(matrix, wrong[..., None])[..., 0]
    point[~(np.abs(np.linalg.norm(point - satellite, axis=-1) - slant) < 1e-3)] = np.nan
    return point


def _on_sphere(satellite: Floats, velocity: Floats, slant: Floats, look_side: Side) -> Floats:
    """Points of a sphere through the ground below, at a range and broadside."""
    distance = np.linalg.norm(satellite, axis=-1)
    down = -satellite / distance[..., None]
    ground = WGS84_A_M * np.sqrt((1.0 - WGS84_E2) / (1.0 - WGS84_E2 * (1.0 - down[..., 2] ** 2)))
    across = np.cross(velocity, satellite) if look_side == "right" else np.cross(satellite, velocity)
    across = across / np.linalg.norm(across, axis=-1, keepdims=True)
    straight = np.cross(velocity, across)
    straight = straight / np.linalg.norm(straight, axis=-1, keepdims=True)
    straight = straight * np.sign(np.sum(straight * down, -1))[..., None]
    with np.errstate(invalid="ignore"):
        cosine = (distance**2 + slant**2 - ground**2) / (2.0 * distance * slant)
        sine = np.sqrt(1.0 - cosine**2)
    return np.asarray(satellite + slant[..., None] * (cosine[..., None] * straight + sine[..., None] * across))


@dataclass(frozen=True, kw_only=True, eq=False)
class RadarGrid:
    """How (line, pixel) of a radar image and (zero-Doppler time, slant range) belong together.

    Line time is linear: `first_line_s + line * line_interval_s`. The slant range of a pixel is a polynomial in ground range
    (pixel * pixel_spacing_m), given at some times, and clamped to the end records outside of them. For an image in slant range the
    polynomial is first range + distance, and the spacing is that of slant range.

    Parameters
    ----------
    epoch_utc : datetime64[us], zero of every time; the orbit must have the same
    shape : (lines, pixels)
    look_side : of the antenna, seen along the flight
    wavelength_m : radar wavelength
    first_line_s, line_interval_s : image line times
    pixel_spacing_m : ground range (slant range where the polynomials say so)
    record_t_s : float64 (k,), times of the range records, increasing, k >= 1
    record_origin_m : float64 (k,), ground range at which each polynomial counts from
    record_coefficients : float64 (k, degree + 1), slant range in metres, lowest power first
    tau_ref_s : two-way time for which the bistatic delay was removed from the lines
    bistatic : False = the lines carry no residual bistatic term
    doppler : at which the image shows the points, whose times are then not zero-Doppler ones; None = zero
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
    bistatic: bool = True
    doppler: Doppler | None = None

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
        return np.asarray(self.line_time_s(line) + float(self.bistatic) * ((tau_s - self.tau_ref_s) / 2.0))

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
        timing = (self.first_line_s, self.line_interval_s, self.tau_ref_s, float(self.bistatic))
        lines_pixels(_flat(t_s), _flat(slant_range_m), timing, self._tables, records == "nearest", out)
        return out[0].reshape(t_s.shape), out[1].reshape(t_s.shape)

    def multilooked(self, looks: tuple[int, int]) -> RadarGrid:
        """The grid of an image with so many lines and pixels in one."""
        down, across = looks
        return replace(
            self,
            shape=(self.shape[0] // down, self.shape[1] // across),
            first_line_s=self.first_line_s + (down - 1) / 2.0 * self.line_interval_s,
            line_interval_s=self.line_interval_s * down,
            pixel_spacing_m=self.pixel_spacing_m * across,
            record_origin_m=self.record_origin_m - (across - 1) / 2.0 * self.pixel_spacing_m,
        )

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
