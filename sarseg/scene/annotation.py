"""Sentinel-1 annotation files -> geometry and tables (docs/sentinel1.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.errors import InputError
from sarseg.radar.geometry import RadarGrid
from sarseg.radar.lut import Calibration, LineTimes, LutVector, Noise, NoiseBlock, Quantity
from sarseg.radar.orbit import Floats, Orbit, seconds_between
from sarseg.scene.model import GeolocationGrid
from sarseg.scene.safe import Element

_LEAD_S = 2.0  # IPF 2.36: the first vector stands exactly 2 s before the first line of a GRD (docs/sentinel1.md 1)
_ROUNDED_S = 1e-3  # ... but its time is rounded to this
_TAGS: dict[Quantity, str] = {"sigma0": "sigmaNought", "beta0": "betaNought", "gamma0": "gamma"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Header:
    """What a product annotation says of the product."""

    polarisation: str
    mission: str
    mode: str
    swath: str
    product_type: str
    absolute_orbit: int
    start_utc: np.datetime64
    stop_utc: np.datetime64
    orbit_direction: str
    orbit_source: str
    noise_removed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotation(Header):
    """What the product annotation of a GRD holds; equal in both polarisations but for the name."""

    orbit: Orbit
    grid: RadarGrid
    geolocation_grid: GeolocationGrid

    @property
    def times(self) -> LineTimes:
        """Times of the image lines."""
        return LineTimes(first_s=self.grid.first_line_s, interval_s=self.grid.line_interval_s)


def read_annotation(root: Element) -> Annotation:
    """A product annotation of a detected, ground range image (GRD).

    The first line's time is the epoch. InputError for anything that is missing or cannot be, and for other product types.
    """
    try:
        return _read_annotation(root)
    except ValueError as error:  # of the types, which refuse values that no radar has
        raise InputError(str(error), root.where, "the annotation is damaged") from error


def _read_annotation(root: Element) -> Annotation:
    header = read_header(root)
    if header.product_type != "GRD":
        raise InputError(f"a {header.product_type} annotation in a GRD product", root.where, "the folder mixes files of several products")
    return Annotation(
        **vars(header),
        orbit=_without_rounding(read_orbit(root, header.start_utc)),
        grid=_radar_grid(root, header.start_utc),
        geolocation_grid=read_geolocation_grid(root, header.start_utc),
    )


def read_header(root: Element) -> Header:
    """What any product annotation says of its product; InputError for anything that is missing."""
    header, image = root.find("adsHeader"), root.find("imageAnnotation/imageInformation")
    processing = root.find("imageAnnotation/processingInformation")
    return Header(
        polarisation=header.text("polarisation"),
        mission=header.text("missionId"),
        mode=header.text("mode"),
        swath=header.text("swath"),
        product_type=header.text("productType"),
        absolute_orbit=header.integer("absoluteOrbitNumber"),
        start_utc=image.time("productFirstLineUtcTime"),
        stop_utc=image.time("productLastLineUtcTime"),
        orbit_direction=root.text("generalAnnotation/productInformation/pass").lower(),
        orbit_source=processing.text("orbitSource"),
        noise_removed=processing.flag("thermalNoiseCorrectionPerformed"),
    )


def read_orbit(root: Element, epoch_utc: np.datetime64) -> Orbit:
    """The state vectors of a product annotation, as they are written."""
    vectors = root.all("generalAnnotation/orbitList/orbit")
    if len(vectors) < 2:
        raise InputError(f"{len(vectors)} orbit vectors", root.where, "the annotation is damaged")
    return Orbit(
        epoch_utc=epoch_utc,
        t_s=np.array([seconds_between(vector.time("time"), epoch_utc) for vector in vectors]),
        position_m=np.array([[vector.number(f"position/{axis}") for axis in "xyz"] for vector in vectors]),
        velocity_m_s=np.array([[vector.number(f"velocity/{axis}") for axis in "xyz"] for vector in vectors]),
    )


def _without_rounding(orbit: Orbit) -> Orbit:
    """Undo the rounding of vector times to 1 ms in IPF 2.36, which shifts a scene by up to 3 m (docs/sentinel1.md 1).

    Known by content, since a bare annotation does not name its processor: steps of 1 s, the first one 2 s before the first line
    to within a millisecond. The epoch must be the first line.
    """
    shift_s = -_LEAD_S - float(orbit.t_s[0])
    if not np.allclose(np.diff(orbit.t_s), 1.0, rtol=0.0, atol=1e-6) or abs(shift_s) > _ROUNDED_S or shift_s == 0.0:
        return orbit
    return Orbit(
        epoch_utc=orbit.epoch_utc,
        t_s=orbit.t_s + shift_s,
        position_m=orbit.position_m,
        velocity_m_s=orbit.velocity_m_s,
        note=f"the orbit's times are rounded to 1 ms (IPF 2.36): moved by {shift_s * 1e6:+.0f} us to their known place",
    )


def _radar_grid(root: Element, epoch_utc: np.datetime64) -> RadarGrid:
    image = root.find("imageAnnotation/imageInformation")
    records = root.all("coordinateConversion/coordinateConversionList/coordinateConversion")
    if not records:
        raise InputError("no coordinateConversion records", root.where, "the annotation is damaged, or not of a GRD")
    coefficients = [record.numbers("grsrCoefficients") for record in records]
    degree = max(len(row) for row in coefficients)
    shape = image.integer("numberOfLines"), image.integer("numberOfSamples")
    spacing_m, origin_m = image.number("rangePixelSpacing"), np.array([record.number("gr0") for record in records])
    table = np.array([np.pad(row, (0, degree - len(row))) for row in coefficients])
    middle = len(records) // 2
    ends_m = np.array([0.0, (shape[1] - 1) * spacing_m]) - origin_m[middle]
    return RadarGrid(
        epoch_utc=epoch_utc,
        shape=shape,
        look_side="right",
        wavelength_m=SPEED_OF_LIGHT_M_S / root.number("generalAnnotation/productInformation/radarFrequency"),
        first_line_s=0.0,
        line_interval_s=image.number("azimuthTimeInterval"),
        pixel_spacing_m=spacing_m,
        record_t_s=np.array([seconds_between(record.time("azimuthTime"), epoch_utc) for record in records]),
        record_origin_m=origin_m,
        record_coefficients=table,
        # the mean of the first and the last column's time, not the middle column's (docs/sentinel1.md 2: errs by 0.003..0.034 m)
        tau_ref_s=float(np.polynomial.polynomial.polyval(ends_m, table[middle]).mean()) * 2.0 / SPEED_OF_LIGHT_M_S,
    )


def read_geolocation_grid(root: Element, epoch_utc: np.datetime64) -> GeolocationGrid:
    """The located points of a product annotation."""
    points = root.all("geolocationGrid/geolocationGridPointList/geolocationGridPoint")
    if not points:
        raise InputError("no points in the geolocation grid", root.where, "the annotation is damaged")

    def column(name: str) -> Floats:
        return np.array([point.number(name) for point in points])

    return GeolocationGrid(
        line=column("line"),
        pixel=column("pixel"),
        time_s=np.array([seconds_between(point.time("azimuthTime"), epoch_utc) for point in points]),
        slant_range_m=column("slantRangeTime") * (SPEED_OF_LIGHT_M_S / 2.0),
        lon_deg=column("longitude"),
        lat_deg=column("latitude"),
        height_m=column("height"),
        incidence_deg=column("incidenceAngle"),
    )


def read_calibration(root: Element, annotation: Annotation) -> Calibration:
    """A calibration annotation."""
    return Calibration(times=annotation.times, tables=calibration_vectors(root, annotation.start_utc))


def calibration_vectors(root: Element, epoch_utc: np.datetime64) -> dict[Quantity, tuple[LutVector, ...]]:
    """The vectors of a calibration annotation."""
    vectors = root.all("calibrationVectorList/calibrationVector")
    if not vectors:
        raise InputError("no calibration vectors", root.where, "download the product again")
    return {quantity: tuple(_vector(vector, tag, epoch_utc) for vector in vectors) for quantity, tag in _TAGS.items()}


def read_noise(root: Element, annotation: Annotation) -> Noise | None:
    """A noise annotation of either format; None when every value is 0, as in IPF 2.36."""
    vectors = noise_vectors(root, annotation.start_utc)
    if not any(vector.value.any() for vector in vectors):
        return None
    blocks = tuple(_noise_block(block) for block in root.all("noiseAzimuthVectorList/noiseAzimuthVector"))
    return Noise(times=annotation.times, vectors=vectors, blocks=blocks)


def noise_vectors(root: Element, epoch_utc: np.datetime64) -> tuple[LutVector, ...]:
    """The range vectors of a noise annotation of either format."""
    new = root.all("noiseRangeVectorList/noiseRangeVector")
    old = root.all("noiseVectorList/noiseVector")
    if not new and not old:
        raise InputError("no noise vectors", root.where, "download the product again")
    return tuple(_vector(vector, "noiseRangeLut" if new else "noiseLut", epoch_utc) for vector in (new or old))


def _noise_block(block: Element) -> NoiseBlock:
    return NoiseBlock(
        swath=block.text("swath"),
        first_line=block.integer("firstAzimuthLine"),
        last_line=block.integer("lastAzimuthLine"),
        first_pixel=block.integer("firstRangeSample"),
        last_pixel=block.integer("lastRangeSample"),
        line=block.numbers("line"),
        factor=_single(block.numbers("noiseAzimuthLut")),
    )


def _single(values: Floats) -> Floats:
    """Table values count as float32: so the reference processor reads them, and denoising near zero shows it (SNAP's source)."""
    return values.astype(np.float32).astype(np.float64)


def _vector(vector: Element, tag: str, epoch_utc: np.datetime64) -> LutVector:
    pixel, value = vector.numbers("pixel"), _single(vector.numbers(tag))
    if len(pixel) != len(value) or len(pixel) == 0 or not np.all(np.diff(pixel) > 0):
        raise InputError(f"{vector.name}: {len(value)} values of {tag} at {len(pixel)} pixels", vector.where, "the file is damaged")
    return LutVector(t_s=seconds_between(vector.time("azimuthTime"), epoch_utc), pixel=pixel, value=value)
