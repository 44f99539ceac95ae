"""Geometry of PALSAR images (docs/palsar.md 5, 6).

Line times and the Doppler of slant range images; where georeferenced and geocoded ones lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.constants import WGS84_E2
from sarseg.errors import InputError
from sarseg.grid import MapGrid, transform_points
from sarseg.radar.ellipsoid import EllipsoidGrid, EllipsoidMap, ImageWords, fit_ellipsoid_grid
from sarseg.radar.geometry import Doppler, RadarGrid, Side, doppler_of, ecef_from_geodetic, range_doppler
from sarseg.radar.orbit import Floats, Orbit
from sarseg.raster.ceos import CeosImage, big_endian
from sarseg.raster.palsar import check_corners, utm_grid
from sarseg.scene.palsar_leader import Coefficients, Leader

FITS_S = 0.005
"""A Doppler that puts the image's coordinates within this of their line times is the product's."""

_INVERSE_STEPS = 8
_MAPS_APART_PX = 1.0
_CENTRE_S = 1.0  # 100 Hz of Doppler are 0.2 s
_RANGE_WARN_M, _RANGE_REFUSE_M = 100.0, 5000.0
_SAMPLING = 0.02  # of the swath's width in slant range
_FINE_TIMES_BYTES = 544  # prefixes of this length have times in microseconds too
_DRIFT_S, _SCATTER_S = 2e-5, 2e-4  # of line times about a straight line
_RANGE_STEPS = 64
_DAY_S = 86_400.0
_AGAIN = "the product is damaged, or its files belong to several products: download it again"


@dataclass(frozen=True, kw_only=True, eq=False)
class PolynomialMap:
    """An image that the leader's polynomials put on the ellipsoid."""

    shape: tuple[int, int]
    coefficients: Coefficients

    def lonlat(self, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Longitude (not wrapped) and latitude, degrees."""
        x, y = np.asarray(pixel) - self.coefficients.origin_pixel, np.asarray(line) - self.coefficients.origin_line
        return power_4(self.coefficients.lon_deg, x, y), power_4(self.coefficients.lat_deg, x, y)

    def line_pixel(self, lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats]:
        """Line and pixel by Newton on `lonlat`: one truth for both ways."""
        middle = self.coefficients.lon_deg[4, 4]
        lon = middle + (np.asarray(lon_deg) - middle + 180.0) % 360.0 - 180.0
        line, pixel = np.full(lon.shape, self.coefficients.origin_line), np.full(lon.shape, self.coefficients.origin_pixel)
        half = 0.5
        for _ in range(_INVERSE_STEPS):
            here = self.lonlat(line, pixel)
            wrong = lon - here[0], np.asarray(lat_deg) - here[1]
            by_line = [(a - b) / (2 * half) for a, b in zip(self.lonlat(line + half, pixel), self.lonlat(line - half, pixel), strict=True)]
            by_pixel = [(a - b) / (2 * half) for a, b in zip(self.lonlat(line, pixel + half), self.lonlat(line, pixel - half), strict=True)]
            determinant = by_line[0] * by_pixel[1] - by_line[1] * by_pixel[0]
            with np.errstate(invalid="ignore", divide="ignore"):
                line = line + (wrong[0] * by_pixel[1] - wrong[1] * by_pixel[0]) / determinant
                pixel = pixel + (by_line[0] * wrong[1] - by_line[1] * wrong[0]) / determinant
        return line, pixel


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectedMap:
    """An image whose pixels are a regular grid of a map projection."""

    grid: MapGrid

    @property
    def shape(self) -> tuple[int, int]:
        """(lines, pixels)."""
        return self.grid.shape

    def lonlat(self, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Longitude and latitude, degrees."""
        assert self.grid.crs is not None
        matrix = self.grid.transform
        x = matrix.a * (pixel + 0.5) + matrix.b * (line + 0.5) + matrix.c
        y = matrix.d * (pixel + 0.5) + matrix.e * (line + 0.5) + matrix.f
        return transform_points(self.grid.crs, CRS.from_epsg(4326), x, y)

    def line_pixel(self, lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats]:
        """Line and pixel."""
        assert self.grid.crs is not None
        return self.grid.pixel_of(*transform_points(CRS.from_epsg(4326), self.grid.crs, lon_deg, lat_deg))


def power_4(table: Floats, x: Floats, y: Floats) -> Floats:
    """Sum of c[i, j] x^(4 - i) y^(4 - j), float64 (...)."""
    value = np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))
    for row in table:
        inner = np.zeros_like(value)
        for c in row:
            inner = inner * y + c
        value = value * x + inner
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTimes:
    """Straight line through the times of an image's lines: seconds after the leader's centre time."""

    first_s: float
    interval_s: float
    notes: tuple[str, ...] = ()


def map_of(leader: Leader, shape: tuple[int, int]) -> tuple[EllipsoidMap, tuple[str, ...]]:
    """Where a georeferenced or geocoded image lies, checked against the corners of the map projection record; and warnings.

    InputError when the record says nothing that is known, or contradicts the polynomials.
    """
    projection = leader.projection
    assert projection is not None
    declared = projection.maybe("lines"), projection.maybe("pixels")
    if None not in declared and declared != shape:
        raise InputError(f"the image has {shape} lines and pixels, the map projection record says {declared}", leader.where, _AGAIN)
    by_polynomial = None if leader.coefficients is None else PolynomialMap(shape=shape, coefficients=leader.coefficients)
    notes: tuple[str, ...] = ()
    chosen: EllipsoidMap | None = by_polynomial
    if leader.form == "geocoded" and projection.text("projection").upper().startswith("UTM"):
        grid = utm_grid(projection, shape)
        chosen = by_polynomial if grid is None else ProjectedMap(grid=grid)
    if chosen is None:
        raise InputError("no coordinate coefficients and no UTM grid: it cannot be known where the pixels lie", leader.where, _AGAIN)
    notes += check_corners(projection, *chosen.lonlat(*_corner_pixels(shape)), projection.number("pixel_spacing_m"))
    if by_polynomial is not None and chosen is not by_polynomial:
        line, pixel = _corner_pixels(shape)
        found = chosen.line_pixel(*by_polynomial.lonlat(line, pixel))
        off = float(np.hypot(found[0] - line, found[1] - pixel).max())
        if not off <= _MAPS_APART_PX:
            raise InputError(f"polynomials and UTM grid are {off:.1f} pixels apart", leader.where, _AGAIN)
    return chosen, notes


def _corner_pixels(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Top left, top right, bottom right, bottom left."""
    last = shape[0] - 1.0, shape[1] - 1.0
    return np.array([0.0, 0.0, last[0], last[0]]), np.array([0.0, last[1], last[1], 0.0])


def ellipsoid_grid(leader: Leader, image: EllipsoidMap) -> tuple[EllipsoidGrid, tuple[str, ...]]:
    """Geometry of a georeferenced or geocoded image, and warnings; InputError when the orbit passed the scene at another time."""
    projection = leader.projection
    assert projection is not None
    lines, pixels = image.shape
    centre = ecef_from_geodetic(*image.lonlat(np.array([(lines - 1) / 2]), np.array([(pixels - 1) / 2])), 0.0)
    t_s, _ = range_doppler(centre, leader.orbit, None)
    if not abs(float(t_s[0])) <= _CENTRE_S:
        raise InputError(f"the orbit passes the image's middle {float(t_s[0]):+.2f} s from the scene centre time", leader.where, _AGAIN)
    side, notes = _side_of(leader, centre, t_s)
    words = ImageWords(
        look_side=side,
        wavelength_m=leader.wavelength_m,
        pixel_spacing_m=projection.number("pixel_spacing_m"),
        line_spacing_m=projection.number("line_spacing_m"),
    )
    try:
        return fit_ellipsoid_grid(image, leader.orbit, words), notes
    except InputError as error:
        raise InputError(error.what, leader.where, error.hint) from error


def _side_of(leader: Leader, points: Floats, t_s: Floats) -> tuple[Side, tuple[str, ...]]:
    """On which side of the track the image lies; a record that says the other is reported."""
    satellite, velocity = leader.orbit.position(t_s), leader.orbit.velocity(t_s)
    right = np.sum((points - satellite) * np.cross(velocity, satellite), axis=-1)
    side: Side = "right" if float(np.median(right)) > 0 else "left"
    return side, () if side == leader.look_side else (f"the leader says {leader.look_side}-looking, the image lies on the {side}",)


def line_times(leader: Leader, image: CeosImage, prefixes: NDArray[np.uint8]) -> LineTimes:
    """Times of a slant range image's lines, from the prefixes of all lines.

    Single times are rounded (to 1 ms in ALOS-1), so a straight line with the summary's PRF is put through all of them; with its own
    slope where that differs by more than rounding can.

    InputError when there are none, or when they lie on no straight line (the PRF changes inside).
    """
    lines = np.arange(image.layout.lines)
    year, day = big_endian(prefixes, 36, 4), big_endian(prefixes, 40, 4)
    seconds = big_endian(prefixes, 44, 4) / 1e3
    rounded_s = 1e-3
    if leader.mission == "ALOS2" and image.layout.prefix_bytes >= _FINE_TIMES_BYTES:
        fine = big_endian(prefixes, 84, 8)
        if (fine > 0).any():
            seconds, rounded_s = np.where(fine > 0, fine / 1e6, np.nan), 1e-6
    good = (year >= 2006) & (year < 2100) & (day >= 1) & (day <= 366) & (seconds >= 0) & (seconds <= _DAY_S + 1)
    if image.layout.invalid_at is not None:
        good &= big_endian(prefixes, image.layout.invalid_at, 4) == 0
    if good.sum() < 2:
        raise InputError("no line has a time", image.source.where, _AGAIN)
    january = np.array([np.datetime64(f"{y}-01-01", "us") for y in np.clip(year, 2006, 2099)])
    t_s = (january - leader.centre_utc).astype(np.int64) / 1e6 + (day - 1) * _DAY_S + seconds
    t_s, lines = t_s[good], lines[good]
    fitted = float(np.polynomial.polynomial.polyfit(lines - lines.mean(), t_s - t_s.mean(), 1)[1])
    interval = 1.0 / leader.prf_hz
    notes: tuple[str, ...] = ()
    # how far rounding alone turns the line over the whole image, six times its standard deviation
    turned_s = max(_DRIFT_S, 6.0 * 0.29 * rounded_s * np.sqrt(12.0 / len(lines)))
    if abs(fitted - interval) * np.ptp(lines) > turned_s:
        notes = (f"the lines are {fitted * 1e3:.6f} ms apart, the summary's PRF says {interval * 1e3:.6f} ms",)
        interval = fitted
    rest = t_s - lines * interval
    if not interval > 0 or np.ptp(rest) > max(_SCATTER_S, 3.0 * rounded_s):
        what = "the times of the lines lie on no straight line (does the PRF change inside?)"
        raise InputError(what, image.source.where, "not supported")
    # the middle of the scatter, not its mean: it stands still when lines fall out
    return LineTimes(first_s=float(rest.max() + rest.min()) / 2.0, interval_s=float(interval), notes=notes)


def near_ranges(image: CeosImage, prefixes: NDArray[np.uint8], times: LineTimes) -> list[tuple[float, float]]:
    """(time, slant range to the first sample) wherever it changes along the image, at least once; InputError for impossible ones."""
    at = 116 if image.layout.signal else 64
    near = big_endian(prefixes, at, 4).astype(np.float64)
    good = near > 0
    if not good.any():
        raise InputError("no line has a slant range", image.source.where, _AGAIN)
    near = near[good]
    if near.min() < 500e3 or near.max() > 2000e3:
        raise InputError(f"slant ranges of {near.min() / 1e3:.0f} to {near.max() / 1e3:.0f} km", image.source.where, _AGAIN)
    lines = np.flatnonzero(good)
    steps = np.flatnonzero(np.diff(near)) + 1
    if len(steps) > _RANGE_STEPS:
        raise InputError(f"the slant range changes {len(steps)} times inside the image", image.source.where, "not supported")
    found = []
    for first, last in zip((0, *steps), (*(steps - 1), len(near) - 1), strict=True):
        found.append((times.first_s + lines[first] * times.interval_s, float(near[first])))
        if last > first and len(steps):
            found.append((times.first_s + lines[last] * times.interval_s, float(near[last])))
    return found


def slant_grid(leader: Leader, image: CeosImage) -> tuple[RadarGrid, tuple[str, ...]]:
    """Geometry of a slant range image (level 1.1), its Doppler measured; and warnings."""
    if min(image.layout.lines, image.layout.pixels) < 2:
        raise InputError(f"an image of {image.layout.lines} lines and {image.layout.pixels} pixels", image.source.where, _AGAIN)
    prefixes = image.prefixes()
    times = line_times(leader, image, prefixes)
    ranges = near_ranges(image, prefixes, times)
    notes = list(times.notes)
    if len(ranges) > 1:
        notes.append(f"the first slant range changes inside the image: {len({near for _, near in ranges})} values")
    grid = RadarGrid(
        epoch_utc=leader.centre_utc,
        shape=(image.layout.lines, image.layout.pixels),
        look_side=leader.look_side,
        wavelength_m=leader.wavelength_m,
        first_line_s=times.first_s,
        line_interval_s=times.interval_s,
        pixel_spacing_m=leader.slant_spacing_m,
        record_t_s=np.array([t_s for t_s, _ in ranges]),
        record_origin_m=np.zeros(len(ranges)),
        record_coefficients=np.array([[near, 1.0] for _, near in ranges]),
        tau_ref_s=0.0,
        bistatic=False,
    )
    middle_s = times.first_s + (grid.shape[0] - 1) / 2 * times.interval_s
    if abs(middle_s) > max(5.0, grid.shape[0] * times.interval_s):
        raise InputError(f"the lines' times lie {middle_s:+.0f} s from the scene centre time", image.source.where, _AGAIN)
    grid, sampling = _with_measured_sampling(leader, grid)
    notes += sampling
    doppler, side, more = measure_doppler(leader, grid)
    return replace(grid, doppler=doppler, look_side=side), (*notes, *more)


def _nine_points(leader: Leader, grid: RadarGrid) -> tuple[Floats, Floats, Floats]:
    """Time, slant range and place, (3, 3) and (3, 3, 3), of near, middle and far range on three lines by the leader's coordinates."""
    assert leader.coefficients is not None
    lines, pixels = (np.array([0.02, 0.5, 0.98]) * (side - 1) for side in grid.shape)
    line, pixel = np.meshgrid(lines, pixels, indexing="ij")
    points = ecef_from_geodetic(*PolynomialMap(shape=grid.shape, coefficients=leader.coefficients).lonlat(line, pixel), 0.0)
    return grid.line_time_s(line), grid.slant_range_m(line, pixel), points


def _with_measured_sampling(leader: Leader, grid: RadarGrid) -> tuple[RadarGrid, tuple[str, ...]]:
    """The grid, its spacing doubled or halved where the coordinates say so (a rate of the sampler, not of the image); and a warning.

    InputError when swath and sampling rate differ by another factor.
    """
    if leader.coefficients is None:
        return grid, ()
    t_s, slant, points = _nine_points(leader, grid)
    measured = np.linalg.norm(points - leader.orbit.position(t_s), axis=-1)
    factor = float(np.median((measured[:, -1] - measured[:, 0]) / (slant[:, -1] - slant[:, 0])))
    for known in (1.0, 2.0, 0.5):
        if abs(factor / known - 1.0) <= _SAMPLING:
            if known == 1.0:
                return grid, ()
            note = f"the image's samples are {known:g} times as far apart as the leader's sampling rate says: taken from its coordinates"
            return replace(grid, pixel_spacing_m=grid.pixel_spacing_m * known), (note,)
    raise InputError(f"the swath is {factor:.3f} times as wide as the range sampling rate says", leader.where, _AGAIN)


def measure_doppler(leader: Leader, grid: RadarGrid) -> tuple[Doppler | None, Side, tuple[str, ...]]:
    """The Doppler at which a slant range image shows its points, chosen by what its own coordinates say (docs/palsar.md 6).

    The coordinates of near, middle and far range on three lines, with the orbit at the lines' times, give frequencies. Of the ways in
    which readers take the leader's polynomials the one that fits best is taken; None = zero Doppler.

    Returns
    -------
    Doppler, look side, warnings
    """
    across = leader.summary.numbers("doppler_across_hz")
    c0, c1, c2 = (float(value) for value in np.nan_to_num(across))
    near, far = grid.range_span_m
    middle = (near + far) / 2.0
    if leader.coefficients is None:
        doppler = Doppler(wavelength_m=leader.wavelength_m, origin_m=middle, coefficients_hz=(c0, c1, c2))
        if leader.mission == "ALOS2" or (c0, c1, c2) == (0.0, 0.0, 0.0):
            return None, leader.look_side, ()
        return (
            doppler,
            leader.look_side,
            ("without coordinate coefficients the Doppler polynomial cannot be checked: taken from mid range",),
        )
    t_s, slant, points = _nine_points(leader, grid)
    side, side_note = _side_of(leader, points, t_s)
    notes = [*side_note, *_check_ranges(leader, slant, np.linalg.norm(points - leader.orbit.position(t_s), axis=-1))]
    measured = doppler_of(points, t_s, leader.orbit, leader.wavelength_m)
    per_hz = _seconds_per_hz(leader, points, t_s)

    def misfit_s(doppler: Doppler | None) -> float:
        expected = np.zeros_like(slant) if doppler is None else doppler.at(slant)
        return float(np.abs((measured - expected) * per_hz).max())

    ways = _ways(leader, (c0, c1, c2), (near, far, grid.pixel_spacing_m))
    fits = {name: misfit_s(way) for name, way in ways.items()}
    if fits["zero"] <= FITS_S:
        return None, side, tuple(notes)
    best = min(fits, key=lambda name: fits[name])
    if fits[best] <= FITS_S:
        return ways[best], side, tuple(notes)
    slope, constant = np.polyfit((slant - middle).ravel() / 1000.0, measured.ravel(), 1)
    fitted = Doppler(wavelength_m=leader.wavelength_m, origin_m=middle, coefficients_hz=(float(constant), float(slope), 0.0))
    notes.append(
        f"the leader's Doppler ({c0:.1f} Hz, {c1:.4f} Hz/km) misses the image's coordinates by {fits[best] * 1e3:.0f} ms at best: "
        f"measured instead, {constant:.1f} Hz and {slope:.3f} Hz/km ({misfit_s(fitted) * 1e3:.1f} ms off at most)"
    )
    return fitted, side, tuple(notes)


def _ways(leader: Leader, across: tuple[float, float, float], span: tuple[float, float, float]) -> dict[str, Doppler | None]:
    """The ways in which the Doppler fields are read, by name."""
    near, far, spacing_m = span
    middle = (near + far) / 2.0
    c0, c1, c2 = across
    d0, d1 = (
        value if value is not None and np.isfinite(value) else 0.0
        for value in map(leader.summary.maybe, ("doppler_centre_hz", "doppler_slope_hz_km"))
    )
    per_px = 1000.0 / spacing_m
    plans = {
        "across, from near range": (near, (c0, c1, c2)),
        "across, from mid range": (middle, (c0, c1, c2)),
        "across, constant": (near, (c0, 0.0, 0.0)),
        "across, absolute range": (0.0, (c0, c1, c2)),
        "across, per pixel": (near, (c0, c1 * per_px, c2 * per_px**2)),
        "centre, from near range": (near, (d0, d1, 0.0)),
        "centre, from mid range": (middle, (d0, d1, 0.0)),
        "centre, constant": (near, (d0, 0.0, 0.0)),
        "centre, absolute range": (0.0, (d0, d1, 0.0)),
    }
    found: dict[str, Doppler | None] = {"zero": None}
    for name, (origin_m, coefficients) in plans.items():
        found[name] = Doppler(wavelength_m=leader.wavelength_m, origin_m=origin_m, coefficients_hz=coefficients)
    return found


def _seconds_per_hz(leader: Leader, points: Floats, t_s: Floats) -> Floats:
    """How much later a point is imaged a hertz: the slope of its Doppler history, by difference."""
    half_s = 0.05
    before, after = (doppler_of(points, t_s + shift, leader.orbit, leader.wavelength_m) for shift in (-half_s, half_s))
    return np.asarray(2.0 * half_s / np.abs(after - before))


def _check_ranges(leader: Leader, slant: Floats, measured: Floats) -> tuple[str, ...]:
    """Slant ranges of the prefixes against those of the coordinates."""
    off = measured - slant
    worst = float(np.abs(off).max())
    if not worst <= _RANGE_REFUSE_M:
        raise InputError(f"slant ranges of the lines and of the coordinates are {worst:.0f} m apart", leader.where, _AGAIN)
    if worst > _RANGE_WARN_M:
        return (f"slant ranges of the lines and of the coordinates (on the ellipsoid) are up to {worst:.0f} m apart",)
    return ()


def incidence_rad(points: Floats, t_s: Floats, orbit: Orbit) -> Floats:
    """Angle between the line of sight and the ellipsoid's normal at points (..., 3) of the ellipsoid, seen at times (...)."""
    normal = points * np.array([1.0, 1.0, 1.0 / (1.0 - WGS84_E2)])
    sight = orbit.position(t_s) - points
    cosine = np.sum(normal * sight, -1) / np.linalg.norm(normal, axis=-1) / np.linalg.norm(sight, axis=-1)
    return np.asarray(np.arccos(cosine))
