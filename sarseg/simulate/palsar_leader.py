"""Leader files of PALSAR and PALSAR-2: the records of given numbers, and the numbers of a simulated scene (docs/palsar.md 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sarseg.constants import SPEED_OF_LIGHT_M_S, WGS84_A_M
from sarseg.grid import transform_points
from sarseg.raster import palsar_records as layouts
from sarseg.raster.ceos import Layout
from sarseg.simulate.ceos import Values, blank, record
from sarseg.simulate.ellipsoid import geodetic
from sarseg.simulate.lband import NOISE_SIGMA0_DB
from sarseg.simulate.palsar_geometry import GEOGRAPHIC, Floats
from sarseg.simulate.palsar_modes import CALIBRATION_DB
from sarseg.simulate.palsar_plan import PalsarPlan

GRS80_B_M = 6_356_752.3141
_BYTES = {"summary": 4096, "projection": 1620, "platform": 4680, "radiometric": 9860, "quality": 1620}
_LAYOUTS: dict[str, Layout] = {
    "summary": layouts.SUMMARY,
    "projection": layouts.MAP_PROJECTION,
    "platform": layouts.PLATFORM,
    "attitude": layouts.ATTITUDE,
    "radiometric": layouts.RADIOMETRIC,
    "quality": layouts.QUALITY,
}
_COUNTED = {
    "summary": ("summaries", "summary_bytes"),
    "projection": ("map_projections", "map_projection_bytes"),
    "platform": ("platforms", "platform_bytes"),
    "attitude": ("attitudes", "attitude_bytes"),
    "radiometric": ("radiometrics", "radiometric_bytes"),
    "quality": ("qualities", "quality_bytes"),
}
NO_RECORDS = f"{0:6d}" * 30
"""Numbers and lengths of the kinds of records that a leader or trailer does not have."""
_ATTITUDE_POINTS = 22
_LATTICE = 11
_DEGREES = 4
_SWATH_M = 20_000.0
"""Slant range beyond the scene over which the incidence polynomial is fitted: a full scene is 70 km wide on the ground."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderValues:
    """What a leader says: values by field, in the units of the fields' names.

    `projection` is None in level 1.1; `coefficients` are those of the last facility record; `facility_bytes` the lengths of all of
    them; `file_id` and `software` stand in the file descriptor.
    """

    file_id: str
    software: str
    summary: Values
    projection: Values | None
    platform: Values
    attitude: Values
    radiometric: Values
    quality: Values
    coefficients: Values
    attitude_bytes: int
    facility_bytes: tuple[int, ...]


def head_words(file_id: str, software: str, number: int = 1) -> dict[int, str]:
    """What the file descriptors of all files of a product begin with."""
    return {
        12: "A",
        16: "CEOS-SAR",
        29: "A A",
        32: software,
        44: f"{number:4d}{file_id}",
        64: "FSEQ       1   4FTYP       5   4FLGT       9   4",
    }


def leader_file(values: LeaderValues) -> bytes:
    """All bytes of the file; ValueError for values that do not fit their fields."""
    given = {name: getattr(values, name) for name in _LAYOUTS}
    sizes = {name: _BYTES.get(name, values.attitude_bytes) for name in given if given[name] is not None}
    records = [_descriptor(values, sizes)]
    for name, size in sizes.items():
        words = {12: "   1"} if name == "summary" else {}
        records.append(record(_LAYOUTS[name], len(records) + 1, size, given[name], words))
    for number, size in enumerate(values.facility_bytes[:-1], start=1):
        records.append(blank(layouts.TYPE_FACILITY, len(records) + 1, size, f"{number:4d}"))
    last = {"number": f"{len(values.facility_bytes):4d}", **values.coefficients}
    records.append(record(layouts.COEFFICIENTS, len(records) + 1, values.facility_bytes[-1], last))
    return b"".join(records)


def _descriptor(values: LeaderValues, sizes: dict[str, int]) -> bytes:
    fields: dict[str, int] = {}
    for name, size in sizes.items():
        many, length = _COUNTED[name]
        fields |= {many: 1, length: size}
    words = head_words(values.file_id, values.software) | {180: NO_RECORDS}
    words[420] = "".join(f"{1:6d}{size:8d}" for size in values.facility_bytes)
    return record(layouts.LEADER, 1, 720, fields, words)


def scene_values(plan: PalsarPlan) -> LeaderValues:
    """The numbers of a simulated scene."""
    about, level = plan.options.about, plan.options.level
    facts = _Facts.of(plan)
    return LeaderValues(
        file_id=f"{about.short} SAR{'B' if level == '1.1' else 'C'}SARL",
        software=about.software,
        summary=_summary(plan, facts),
        projection=None if level == "1.1" else _projection(plan, facts),
        platform=_platform(plan, facts),
        attitude=_attitude(plan, facts),
        radiometric={"sequence": 1, "sets": 1, "factor_db": CALIBRATION_DB, "distortion": (*_IDENTITY, *_IDENTITY)},
        quality=_quality(facts),
        coefficients=_coefficients(plan),
        attitude_bytes=about.attitude_bytes,
        facility_bytes=about.facility_bytes,
    )


_IDENTITY = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """Numbers of the image's middle that several records tell."""

    t_s: float
    slant_m: float
    lon_deg: float
    lat_deg: float
    incidence_deg: float
    off_nadir_deg: float
    nadir_lon_deg: float
    nadir_lat_deg: float
    altitude_m: float
    ground_speed_m_s: float
    heading_deg: float
    resolution_range_m: float
    resolution_azimuth_m: float
    state: tuple[float, ...]

    @classmethod
    def of(cls, plan: PalsarPlan) -> _Facts:
        line, pixel = (np.array(one) for one in plan.middle)
        t_s, slant_m = plan.image.to_radar(line, pixel)
        point = plan.view.ground(t_s, slant_m, 0.0)
        lon_deg, lat_deg, _ = geodetic(point)
        position, velocity = plan.view.track.state(t_s)
        nadir_lon_deg, nadir_lat_deg, altitude_m = geodetic(position)
        sight = point - position
        off_nadir = math.acos(-float(sight @ position) / float(np.linalg.norm(sight) * np.linalg.norm(position)))
        theta_deg = float(plan.view.incidence_deg(t_s, point))
        later = plan.view.ground(t_s + 1.0, slant_m, 0.0)
        speed = float(np.linalg.norm(later - point))
        later_lon, later_lat, _ = (float(one) for one in geodetic(later))
        east = (later_lon - float(lon_deg)) * math.cos(math.radians(float(lat_deg)))
        mode = plan.options.mode
        looks = 1 if plan.options.level == "1.1" else len(mode.looks)
        ground = SPEED_OF_LIGHT_M_S / (2.0 * mode.range_hz) / (1.0 if plan.options.level == "1.1" else math.sin(math.radians(theta_deg)))
        return cls(
            t_s=float(t_s),
            slant_m=float(slant_m),
            lon_deg=float(lon_deg),
            lat_deg=float(lat_deg),
            incidence_deg=theta_deg,
            off_nadir_deg=math.degrees(off_nadir),
            nadir_lon_deg=float(nadir_lon_deg),
            nadir_lat_deg=float(nadir_lat_deg),
            altitude_m=float(altitude_m),
            ground_speed_m_s=speed,
            heading_deg=math.degrees(math.atan2(east, later_lat - float(lat_deg))),
            resolution_range_m=ground,
            resolution_azimuth_m=speed / mode.azimuth_hz * looks,
            state=(*map(float, position), *map(float, velocity)),
        )


def _stamp(utc: np.datetime64) -> str:
    """20140909043347052 of a time."""
    return "".join(letter for letter in str(utc.astype("datetime64[ms]")) if letter.isdigit())


def _summary(plan: PalsarPlan, facts: _Facts) -> Values:
    options, about, mode = plan.options, plan.options.about, plan.options.mode
    slant = options.level == "1.1"
    looks = 1 if slant else len(mode.looks)
    rate_hz_s = mode.range_hz / about.pulse_s
    doppler = (0.0, 0.0) if options.geocoded else options.doppler
    code = "0000" if options.mission == "alos1" else "1815" if len(options.polarisations) == 4 else "0315"
    kinds = {"1.1": "BASIC IMAGE", "1.5": f"STANDARD {'GEOCODED' if options.geocoded else 'GEOREFERENCED'} IMAGE"}
    line_m = facts.ground_speed_m_s / mode.prf_hz if slant else mode.spacing_m
    pixel_m = SPEED_OF_LIGHT_M_S / (2.0 * mode.sampling_hz) if slant else mode.spacing_m
    values: dict[str, object] = {
        "scene_id": plan.scene_id,
        "centre_time": _stamp(plan.utc(facts.t_s)),
        "ellipsoid": "GRS80",
        "semi_major_m": WGS84_A_M,
        "semi_minor_m": GRS80_B_M,
        "centre_line": plan.image.shape[0] // 2,
        "centre_pixel": plan.image.shape[1] // 2,
        "channels": len(options.polarisations),
        "mission": about.name,
        "sensor": f"{about.name:<6}-L -{code}-",
        "orbit": f"{plan.absolute_orbit:8d}",
        "platform_lat_deg": facts.nadir_lat_deg,
        "platform_lon_deg": facts.nadir_lon_deg,
        "platform_heading_deg": facts.heading_deg,
        "clock_angle_deg": 90.0,
        "incidence_deg": facts.incidence_deg,
        "wavelength_m": about.wavelength_m,
        "chirp_hz": (0.0, rate_hz_s, 0.0, 0.0, 0.0),
        "range_sampling_hz": mode.sampling_hz,
        "range_gate_s": 95.274816e-6,
        "pulse_s": about.pulse_s,
        "prf_hz": mode.prf_hz,
        "facility": about.facility,
        "system": about.facility,
        "version": about.software,
        "level": options.level,
        "product_type": kinds[options.level],
        "looks_azimuth": looks,
        "looks_range": 1,
        "look_bandwidth_azimuth_hz": mode.azimuth_hz / looks,
        "look_bandwidth_range_hz": mode.range_hz,
        "bandwidth_azimuth_hz": mode.azimuth_hz,
        "bandwidth_range_hz": mode.range_hz,
        "resolution_range_m": facts.resolution_range_m,
        "resolution_azimuth_m": facts.resolution_azimuth_m,
        "doppler_along_hz": (0.0, 0.0, 0.0),
        "doppler_across_hz": (*doppler, 0.0),
        "time_along_line": "ASCEND" if options.direction == "ascending" else "DESCEND",
        "doppler_rate_along": (0.0, 0.0, 0.0),
        "doppler_rate_across": (0.0, 0.0, 0.0),
        "line_spacing_m": line_m,
        "pixel_spacing_m": pixel_m,
        "doppler_centre_hz": options.doppler[0],
        "doppler_slope_hz_km": options.doppler[1],
        "prf_switch": 0,
        "prf_switch_line": 1,
        "off_nadir_deg": facts.off_nadir_deg,
        "beam": 7,
        "incidence_rad": (0.0,) * 6 if options.geocoded else _incidence(plan, facts),
    }
    if not slant:
        values |= {"centre_lat_deg": facts.lat_deg, "centre_lon_deg": facts.lon_deg, "centre_heading_deg": facts.heading_deg}
    return values


def _incidence(plan: PalsarPlan, facts: _Facts) -> tuple[float, ...]:
    """Polynomial of the incidence angle (rad) in slant range (km)."""
    _, _, near_m, far_m = plan.bounds
    slant = np.linspace(near_m - _SWATH_M, far_m + _SWATH_M, 41)
    t_s = np.full(slant.shape, facts.t_s)
    theta = np.radians(plan.view.incidence_deg(t_s, plan.view.ground(t_s, slant, 0.0)))
    series = np.polynomial.Polynomial.fit(slant / 1000.0, theta, _DEGREES).convert().coef
    return (*map(float, series), *(0.0,) * (6 - len(series)))


def _projection(plan: PalsarPlan, facts: _Facts) -> Values:
    lines, pixels = plan.image.shape
    spacing_m = plan.options.mode.spacing_m
    corner_line, corner_pixel = np.array([0, 0, lines - 1, lines - 1.0]), np.array([0, pixels - 1.0, pixels - 1.0, 0])
    lon, lat = lonlat(plan, corner_line, corner_pixel)
    code = plan.crs.to_epsg()
    east, north = transform_points(GEOGRAPHIC, plan.crs, lon, lat)
    line, pixel = (one.ravel() for one in _lattice(plan))
    at_lon, at_lat = lonlat(plan, line, pixel)
    line, pixel = line + 1.0, pixel + 1.0
    to_map = [_least_squares(_bilinear(line, pixel), one) for one in (at_lon, at_lat)]
    to_image = [_least_squares(_bilinear(at_lon, at_lat), one) for one in (line, pixel)]
    geocoded = plan.options.geocoded
    return {
        "descriptor": "GEOCODED" if geocoded else "GEOREFERENCED",
        "pixels": pixels,
        "lines": lines,
        "pixel_spacing_m": spacing_m,
        "line_spacing_m": spacing_m,
        "orientation_deg": float("nan") if geocoded else facts.heading_deg,
        "distance_m": WGS84_A_M,
        "altitude_m": facts.altitude_m,
        "ground_speed_m_s": facts.ground_speed_m_s,
        "heading_deg": facts.heading_deg,
        "ellipsoid": "GRS80",
        "semi_major_m": WGS84_A_M,
        "semi_minor_m": GRS80_B_M,
        "datum_shift": (0.0,) * 7,
        "projection": "UTM-PROJECTION",
        "utm": "UNIVERSAL TRANSVERSE MERCATOR",
        "utm_zone": f"{code % 100:4d}",
        "false_easting_m": 500_000.0,
        "false_northing_m": 0.0 if code < 32700 else 10_000_000.0,
        "centre_lon_deg": facts.lon_deg,
        "centre_lat_deg": facts.lat_deg,
        "scale": 0.9996,
        "corner_northing_easting_m": np.stack([north, east], axis=1).ravel(),
        "corner_lat_lon_deg": np.stack([lat, (lon + 180.0) % 360.0 - 180.0], axis=1).ravel(),
        "lonlat_of_line_pixel": np.concatenate(to_map),
        "line_pixel_of_lonlat": np.concatenate(to_image),
    }


def _bilinear(a: Floats, b: Floats) -> Floats:
    return np.stack([np.ones_like(a), a, b, a * b], axis=1)


def _least_squares(terms: Floats, values: Floats) -> Floats:
    """Coefficients; the terms are scaled to 1 first."""
    scale = np.abs(terms).max(axis=0)
    return np.asarray(np.linalg.lstsq(terms / scale, values, rcond=None)[0] / scale)


def _lattice(plan: PalsarPlan) -> tuple[Floats, Floats]:
    line, pixel = np.meshgrid(*(np.linspace(0.0, side - 1.0, _LATTICE) for side in plan.image.shape), indexing="ij")
    return line, pixel


def lonlat(plan: PalsarPlan, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
    """Longitude (within 180 degrees of the landscape's) and latitude of the ellipsoid's points in pixels, degrees (...)."""
    lon_deg, lat_deg, _ = geodetic(plan.view.ground(*plan.image.to_radar(line, pixel), 0.0))
    return plan.centre_lon_deg + (lon_deg - plan.centre_lon_deg + 180.0) % 360.0 - 180.0, lat_deg


def _platform(plan: PalsarPlan, facts: _Facts) -> Values:
    position, velocity = plan.orbit.state(plan.vector_s)
    first = plan.utc(float(plan.vector_s[0]))
    day = first.astype("datetime64[D]")
    date = day.item()
    rows = dict(zip(("x_m", "y_m", "z_m", "vx_m_s", "vy_m_s", "vz_m_s"), (*position.T, *velocity.T), strict=True))
    return {
        "quality": "2",
        "centre_state": facts.state,
        "points": len(plan.vector_s),
        "year": date.year,
        "month": date.month,
        "day": date.day,
        "day_of_year": date.timetuple().tm_yday,
        "first_s": float((first - day.astype("datetime64[us]")).astype(np.int64)) / 1e6,
        "interval_s": float(plan.vector_s[1] - plan.vector_s[0]),
        "frame": "ECR",
        "error": (100.0, 100.0, 100.0, 0.3, 0.3, 0.3),
        "leap_second": "0",
        **rows,
    }


def _attitude(plan: PalsarPlan, facts: _Facts) -> Values:
    """A level attitude; ALOS-2 rolls its antenna by 30 degrees."""
    times = [plan.utc(facts.t_s + k - _ATTITUDE_POINTS // 2) for k in range(_ATTITUDE_POINTS)]
    days = [utc.astype("datetime64[D]") for utc in times]
    zeros: Sequence[float] = (0.0,) * _ATTITUDE_POINTS
    roll_deg = 0.0 if plan.options.mission == "alos1" else -30.195
    angles = {"pitch": zeros, "roll": (roll_deg,) * _ATTITUDE_POINTS, "yaw": zeros}
    values: dict[str, object] = {
        "points": _ATTITUDE_POINTS,
        "day_of_year": [day.item().timetuple().tm_yday for day in days],
        "time_s": [float((utc - day.astype("datetime64[us]")).astype(np.int64)) / 1e6 for utc, day in zip(times, days, strict=True)],
    }
    for name, row in angles.items():
        values |= {f"{name}_flag": zeros, f"{name}_deg": row, f"{name}_rate_flag": zeros, f"{name}_rate_deg_s": zeros}
    return values


def _quality(facts: _Facts) -> Values:
    return {
        "channels": "   4",
        "islr_db": -10.16,
        "pslr_db": -13.26,
        "azimuth_ambiguity_db": 24.4,
        "range_ambiguity_db": 32.7,
        "noise_db": NOISE_SIGMA0_DB,
        "resolution_range_m": facts.resolution_range_m,
        "resolution_azimuth_m": facts.resolution_azimuth_m,
    }


def _coefficients(plan: PalsarPlan) -> Values:
    """Latitude and longitude of (pixel, line) and back, 25 terms each; the two tables of 10 terms stay blank."""
    line, pixel = (one.ravel() for one in _lattice(plan))
    lon, lat = lonlat(plan, line, pixel)
    origin_line, origin_pixel = (float(side // 2) for side in plan.image.shape)
    origin_lon, origin_lat = (float(one) for one in lonlat(plan, np.array(origin_line), np.array(origin_pixel)))
    to_map = _terms(pixel - origin_pixel, line - origin_line)
    to_image = _terms(lat - origin_lat, lon - origin_lon)
    return {
        "calibration_flag": 0,
        "prf_switch": 0,
        "prf_switch_line": 1,
        "start_line": 1,
        "lost_lines_raw": 0,
        "lost_lines": 0,
        "first_of_pixel_line": _least_squares(to_map, lat),
        "second_of_pixel_line": _least_squares(to_map, lon),
        "origin_pixel": origin_pixel,
        "origin_line": origin_line,
        "third_of_lat_lon": _least_squares(to_image, pixel),
        "fourth_of_lat_lon": _least_squares(to_image, line),
        "origin_lat_deg": origin_lat,
        "origin_lon_deg": origin_lon,
    }


def _terms(x: Floats, y: Floats) -> Floats:
    """Powers x^(4 - i) y^(4 - j), float64 (n, 25)."""
    return np.stack([x ** (4 - i) * y ** (4 - j) for i in range(5) for j in range(5)], axis=1)
