"""Images that the producer has put on the ellipsoid: georeferenced or geocoded, without relief.

Such an image shows a ground point where the ellipsoid has the point of the same time and range. So the way from (time, range) to a
pixel leads over the ellipsoid; it is smooth, and one polynomial replaces it over the whole image. Terrain is corrected by it as for
an image in radar geometry. A Doppler other than zero moves both points alike, to a fraction of a metre: zero-Doppler times serve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sarseg.errors import InputError
from sarseg.radar.geometry import Doppler, RadarGrid, Side, ecef_from_geodetic, on_ellipsoid, zero_doppler
from sarseg.radar.orbit import Floats, Orbit

TOLERANCE_PX = 0.005
"""Largest error of the polynomial, in line and in pixel."""

_DEGREES = ((4, 7), (6, 10), (8, 13), (10, 16), (12, 24))  # the last ones for ScanSAR swaths of 500 km
_MARGIN = 0.02  # of the image's extent in time and range, on each side
_SAMPLES = 33
_CHECKS = 23


class EllipsoidMap(Protocol):
    """Where the pixels of an image lie on the ellipsoid, and back; degrees, pixel centres at whole numbers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(lines, pixels)."""

    def lonlat(self, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Longitude and latitude, (...)."""

    def line_pixel(self, lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats]:
        """Line and pixel, (...), also outside of the image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EllipsoidGrid:
    """How (line, pixel) of an image on the ellipsoid and (zero-Doppler time, slant range) belong together.

    Parameters
    ----------
    epoch_utc, shape, look_side, wavelength_m : as in `RadarGrid`
    pixel_spacing_m, line_spacing_m : on the ground
    domain : middle and half width of time (s), then of range (m)
    table : float64 (2, powers of time, powers of range), line and pixel
    error_px : worst difference to the exact way, measured
    """

    epoch_utc: np.datetime64
    shape: tuple[int, int]
    look_side: Side
    wavelength_m: float
    pixel_spacing_m: float
    line_spacing_m: float
    domain: tuple[float, float, float, float]
    table: Floats
    error_px: float

    @property
    def doppler(self) -> Doppler | None:
        """None: times are zero-Doppler."""
        return None

    def line_pixel(self, t_s: Floats, slant_range_m: Floats) -> tuple[Floats, Floats]:
        """Fractional line and pixel (0 = centre of the first) of times and ranges; NaN gives NaN.

        Beyond the image and a margin they continue on straight lines.
        """
        from sarseg.radar.kernels import power_series

        t_s, slant_range_m = np.broadcast_arrays(t_s, slant_range_m)
        out = np.empty((2, t_s.size))
        flat = [np.require(values, np.float64, ["C", "W"]).ravel() for values in (t_s, slant_range_m)]
        power_series(flat[0], flat[1], self.domain, self.table, out)
        return out[0].reshape(t_s.shape), out[1].reshape(t_s.shape)

    def multilooked(self, looks: tuple[int, int]) -> EllipsoidGrid:
        """The grid of an image with so many lines and pixels in one."""
        table = self.table / np.array(looks, np.float64)[:, None, None]
        table[:, 0, 0] -= (np.array(looks) - 1) / 2.0 / np.array(looks)
        return replace(
            self,
            shape=(self.shape[0] // looks[0], self.shape[1] // looks[1]),
            line_spacing_m=self.line_spacing_m * looks[0],
            pixel_spacing_m=self.pixel_spacing_m * looks[1],
            table=table,
        )


ImageGrid = RadarGrid | EllipsoidGrid
"""Where (time, range) lies in an image: what the engine knows of a sensor's geometry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWords:
    """What an `EllipsoidGrid` says besides its polynomial."""

    look_side: Side
    wavelength_m: float
    pixel_spacing_m: float
    line_spacing_m: float


def fit_ellipsoid_grid(image: EllipsoidMap, orbit: Orbit, words: ImageWords) -> EllipsoidGrid:
    """The grid of an image that lies on the ellipsoid.

    InputError when orbit and image do not belong together, or when no polynomial holds the way to `TOLERANCE_PX`.
    """
    lines, pixels = image.shape
    line, pixel = np.meshgrid(np.linspace(0, lines - 1, _SAMPLES), np.linspace(0, pixels - 1, _SAMPLES), indexing="ij")
    t_s, slant = _seen(image, orbit, line, pixel)
    if not (np.isfinite(t_s).all() and np.isfinite(slant).all()):
        raise InputError("the orbit does not reach the whole image", None, "orbit and coordinates do not belong together")
    domain = (*_middle_half(t_s), *_middle_half(slant))
    check = np.meshgrid((np.arange(_CHECKS) + 0.37) / _CHECKS * (lines - 1), (np.arange(_CHECKS) + 0.41) / _CHECKS * (pixels - 1))
    seen = _seen(image, orbit, *check)
    worst = np.inf
    for n_t, n_r in _DEGREES:
        table = _fit(image, (orbit, words.look_side), domain, (n_t, n_r))
        grid = EllipsoidGrid(
            epoch_utc=orbit.epoch_utc,
            shape=image.shape,
            look_side=words.look_side,
            wavelength_m=words.wavelength_m,
            pixel_spacing_m=words.pixel_spacing_m,
            line_spacing_m=words.line_spacing_m,
            domain=domain,
            table=table,
            error_px=0.0,
        )
        found = grid.line_pixel(*seen)
        worst = float(np.nan_to_num(np.abs(np.stack(found) - np.stack(check)), nan=np.inf).max())
        if worst <= TOLERANCE_PX:
            return replace(grid, error_px=worst)
    raise InputError(f"time and range reach the image's pixels to {worst:.3g} pixel only", None, "its coordinates are damaged")


def _seen(image: EllipsoidMap, orbit: Orbit, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
    return zero_doppler(ecef_from_geodetic(*image.lonlat(line, pixel), 0.0), orbit)


def _middle_half(values: Floats) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low + high) / 2.0, max((high - low) / 2.0 * (1.0 + 2.0 * _MARGIN), 1e-6)


def _fit(image: EllipsoidMap, view: tuple[Orbit, Side], domain: tuple[float, float, float, float], counts: tuple[int, int]) -> Floats:
    """Interpolation at Chebyshev nodes, as powers: float64 (2, n_t, n_r)."""
    chebyshev = np.polynomial.chebyshev
    u, v = (chebyshev.chebpts1(count) for count in counts)
    t_s, slant = np.meshgrid(domain[0] + domain[1] * u, domain[2] + domain[3] * v, indexing="ij")
    lon, lat = geodetic_of(on_ellipsoid(t_s, slant, view[0], view[1]))
    values = np.stack(image.line_pixel(lon, lat))
    by_u, by_v = (np.linalg.inv(chebyshev.chebvander(x, len(x) - 1)) for x in (u, v))
    series = np.einsum("it,ftr,jr->fij", by_u, values, by_v)
    return np.ascontiguousarray(np.einsum("ia,fij,jb->fab", _powers(counts[0]), series, _powers(counts[1])))


def _powers(count: int) -> Floats:
    """Coefficients of powers in each Chebyshev polynomial, float64 (count, count)."""
    out = np.zeros((count, count))
    for n in range(count):
        out[n, : n + 1] = np.polynomial.chebyshev.cheb2poly(np.eye(n + 1)[n]) if n else 1.0
    return out


def geodetic_of(points_ecef_m: Floats) -> tuple[Floats, Floats]:
    """WGS84 longitude and latitude, degrees (...), of Earth-fixed points (..., 3)."""
    from pyproj import Transformer

    transformer = Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)
    flat = np.asarray(points_ecef_m, np.float64).reshape(-1, 3)
    lon, lat, _ = transformer.transform(flat[:, 0], flat[:, 1], flat[:, 2])
    shape = np.shape(points_ecef_m)[:-1]
    return np.asarray(lon).reshape(shape), np.asarray(lat).reshape(shape)
