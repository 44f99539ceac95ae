"""The leader file of a PALSAR or PALSAR-2 product: its numbers with their meaning, checked against each other (docs/palsar.md 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.errors import InputError
from sarseg.radar.ellipsoid import geodetic_of
from sarseg.radar.geometry import Side
from sarseg.radar.orbit import Floats, Orbit
from sarseg.raster import palsar_records as records
from sarseg.raster.ceos import RawRecord, Record, walk
from sarseg.raster.palsar import centre_utc, check_ellipsoid, factor_db, maybe_record, mission_of, one_record, within

Form = Literal["slant", "georeferenced", "geocoded"]

_HERMITE_M = 60.0  # two-point Hermite over two steps of 60 s is wrong by 5.5 m on a real orbit (docs/palsar.md 5)
_SPEED_M_S = (6_500.0, 8_500.0)
_RADIUS_M = (6_900_000.0, 7_300_000.0)
_AGAIN = "the leader is damaged, or of a kind that is not known: download the product again"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coefficients:
    """Polynomials of degree 4 x 4 between the image and the ellipsoid (docs/palsar.md 3).

    Parameters
    ----------
    lat_deg, lon_deg : float64 (5, 5): sum of c[i, j] x^(4 - i) y^(4 - j), x = pixel - origin_pixel, y = line - origin_line
    origin_pixel, origin_line : 0-based
    line, pixel : float64 (5, 5), the other way: x = latitude - origin_lat_deg, y = longitude - origin_lon_deg
    """

    lat_deg: Floats
    lon_deg: Floats
    origin_pixel: float
    origin_line: float
    line: Floats
    pixel: Floats
    origin_lat_deg: float
    origin_lon_deg: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Leader:
    """What a leader file says.

    Parameters
    ----------
    scene_id : name of the scene, ALPSR... or ALOS2...
    mission : "ALOS" or "ALOS2"
    level : "1.1" or "1.5"
    form : decided by the records, not by names
    esa : processed by ESA, whose files differ
    wide : ScanSAR
    centre_utc : datetime64[us], epoch of the orbit
    orbit : state vectors, Earth-fixed
    absolute_orbit : number, None where it is blank
    look_side : as recorded
    wavelength_m, prf_hz, range_sampling_hz : of the radar
    factor_db : calibration factor, None where it is blank
    coefficients : None in old and in ESA's products
    summary, projection : the records
    notes : warnings
    """

    scene_id: str
    mission: Literal["ALOS", "ALOS2"]
    level: str
    form: Form
    esa: bool
    wide: bool
    centre_utc: np.datetime64
    orbit: Orbit
    absolute_orbit: int | None
    look_side: Side
    wavelength_m: float
    prf_hz: float
    range_sampling_hz: float
    factor_db: float | None
    coefficients: Coefficients | None
    summary: Record
    projection: Record | None
    notes: tuple[str, ...]
    where: str

    @property
    def form_name(self) -> str:
        """Level and form in a word: L1.1, L1.5R, L1.5G."""
        letter = {"slant": "", "georeferenced": "R", "geocoded": "G"}[self.form]
        return f"L{self.level}{letter}"

    @property
    def slant_spacing_m(self) -> float:
        """Distance of two samples of a slant range image."""
        return SPEED_OF_LIGHT_M_S / (2.0 * self.range_sampling_hz)


def read_leader(content: bytes, where: str, *, esa: bool = False) -> Leader:
    """A leader file.

    Parameters
    ----------
    esa : what the volume descriptor says; the leader's own word is added to it

    InputError for damaged files, levels other than 1.1 and 1.5, and numbers that contradict each other.
    """
    try:
        return _read_leader(content, where, esa)
    except ValueError as error:  # of the types, which refuse values that no radar has
        raise InputError(str(error), where, _AGAIN) from error


def _read_leader(content: bytes, where: str, esa: bool) -> Leader:
    raw = walk(content, where)
    if not raw:
        raise InputError("the file is empty", where, _AGAIN)
    raw[0].decoded(records.LEADER)
    summary = one_record(raw, records.SUMMARY, where)
    projection = maybe_record(raw, records.MAP_PROJECTION)
    level, mission = _level(summary, where), mission_of(summary, where)
    epoch_utc = centre_utc(summary)
    check_ellipsoid(summary)
    orbit = read_orbit(one_record(raw, records.PLATFORM, where), epoch_utc)
    sensor = summary.text("sensor")
    wide = (mission == "ALOS2" and sensor[10:12] in ("08", "09")) or summary.text("scene_id").startswith("ALPSRS")
    form, notes = _form(level, projection, where)
    coefficients, lacking = _coefficients(raw, _reference(summary, orbit), where)
    side, side_note = _side(summary)
    radiometric = maybe_record(raw, records.RADIOMETRIC)
    return Leader(
        scene_id=summary.text("scene_id") or "unnamed",
        mission=mission,
        level=level,
        form=form,
        esa=esa or summary.text("system").upper().startswith("ESA"),
        wide=wide,
        centre_utc=epoch_utc,
        orbit=orbit,
        absolute_orbit=int(summary.text("orbit")) if summary.text("orbit").isdecimal() else None,
        look_side=side,
        wavelength_m=within(summary, "wavelength_m", (0.2, 0.28)),
        prf_hz=within(summary, "prf_hz", (500.0, 10_000.0)),
        range_sampling_hz=within(summary, "range_sampling_hz", (5e6, 250e6)),
        factor_db=factor_db(radiometric),
        coefficients=coefficients,
        summary=summary,
        projection=projection,
        notes=(*notes, *side_note, *lacking),
        where=where,
    )


def _level(summary: Record, where: str) -> str:
    level, product_type = summary.text("level"), summary.text("product_type").upper()
    if level not in ("1.0", "1.1", "1.5", "2.1", "3.1"):
        level = "1.1" if product_type.startswith("BASIC") or "SLC" in product_type else "1.5"  # ESA's words [unverified]
    if level == "1.0":
        raise InputError("level 1.0 (raw signal data) is not supported", where, "order the scene as level 1.1 or 1.5")
    if level in ("2.1", "3.1"):
        raise InputError(
            f"level {level} (orthorectified) is not in radar geometry", where, "it needs no preprocessing: use it as a product on the map"
        )
    return level


def _form(level: str, projection: Record | None, where: str) -> tuple[Form, tuple[str, ...]]:
    if projection is None:
        if level != "1.1":
            raise InputError(f"level {level} without a map projection record", where, _AGAIN)
        return "slant", ()
    if level == "1.1":
        return "slant", ("a level 1.1 leader with a map projection record: the record is not used",)
    check_ellipsoid(projection)
    word = projection.text("descriptor").upper()
    if word.startswith(("GEOCODED", "GEC")):
        return "geocoded", ()
    known = word.startswith(("GEOREF", "GEO-REF")) or "GROUND" in word
    return "georeferenced", () if known else (f"map descriptor '{word}' is unknown here: taken as georeferenced",)


def _side(summary: Record) -> tuple[Side, tuple[str, ...]]:
    angle = summary.maybe("clock_angle_deg")
    if angle is None or not np.isfinite(angle) or abs(abs(angle) - 90.0) > 1.0:
        return "right", () if angle is None else (f"clock angle {angle:g}: taken as right-looking",)
    return ("right" if angle > 0 else "left"), ()


def read_orbit(platform: Record, epoch_utc: np.datetime64) -> Orbit:
    """State vectors of the platform position record; InputError when they are no orbit of an Earth-fixed frame."""
    count = platform.integer("points")
    if not 4 <= count <= platform.layout.fields["x_m"].count:
        raise InputError(f"{count} orbit points", platform.where, _AGAIN)
    try:
        date = f"{platform.integer('year'):04d}-{platform.integer('month'):02d}-{platform.integer('day'):02d}"
        midnight_s = float((np.datetime64(date, "us") - epoch_utc).astype(np.int64)) / 1e6
    except ValueError as error:
        raise InputError("the date of the orbit is no date", platform.where, _AGAIN) from error
    interval_s = within(platform, "interval_s", (0.5, 300.0))
    t_s = midnight_s + platform.number("first_s") + interval_s * np.arange(count)
    position = np.stack([platform.numbers(name, count) for name in ("x_m", "y_m", "z_m")], axis=1)
    velocity = np.stack([platform.numbers(name, count) for name in ("vx_m_s", "vy_m_s", "vz_m_s")], axis=1)
    _check_mechanics(position, velocity, interval_s, platform.where)
    if not t_s[0] <= 0.0 <= t_s[-1]:
        raise InputError("the orbit's times do not reach the scene", platform.where, _AGAIN)
    quality = {"0": "preliminary", "1": "determined", "2": "precise"}.get(platform.text("quality"), platform.text("quality"))
    note = "the orbit is a preliminary one" if quality == "preliminary" else ""
    return Orbit(
        epoch_utc=epoch_utc,
        t_s=np.asarray(t_s, np.float64),
        position_m=position,
        velocity_m_s=velocity,
        source=f"leader ({quality or 'unknown quality'})",
        note=note,
    )


def _check_mechanics(position: Floats, velocity: Floats, interval_s: float, where: str) -> None:
    """Height, speed, and positions that follow from the neighbours' positions and Earth-fixed velocities."""
    radius, speed = np.linalg.norm(position, axis=1), np.linalg.norm(velocity, axis=1)
    for what, values, (low, high) in (("radius", radius, _RADIUS_M), ("speed", speed, _SPEED_M_S)):
        if not ((values >= low) & (values <= high)).all():
            raise InputError(f"the {what} of an orbit vector is not that of ALOS", where, _AGAIN)
    middle = (position[:-2] + position[2:]) / 2.0 + interval_s / 4.0 * (velocity[:-2] - velocity[2:])
    worst = float(np.linalg.norm(middle - position[1:-1], axis=1).max())
    allowed = max(1.0, _HERMITE_M * (interval_s / 60.0) ** 4)
    if worst > allowed:
        raise InputError(
            f"positions and velocities of the orbit disagree by {worst:.0f} m", where, "the frame is not Earth-fixed, or damaged"
        )


def _coefficients(raw: tuple[RawRecord, ...], reference: tuple[float, float], where: str) -> tuple[Coefficients | None, tuple[str, ...]]:
    facilities = [record for record in raw if record.type == records.TYPE_FACILITY]
    if not facilities:
        return None, ("no coordinate coefficients (ESA's or an old product)",)
    last = facilities[-1]
    if len(last.content) < records.COEFFICIENTS.least_bytes:
        return None, (f"the coefficient record has {len(last.content)} bytes only (an old product)",)
    record = last.decoded(records.COEFFICIENTS)

    def table(name: str) -> Floats:
        values = record.numbers(name)
        if not np.isfinite(values).all():
            raise InputError(f"field {name} is blank", record.where, _AGAIN)
        return values.reshape(5, 5)

    first, second = table("first_of_pixel_line"), table("second_of_pixel_line")
    third, fourth = table("third_of_lat_lon"), table("fourth_of_lat_lon")
    origin_lat, origin_lon = record.number("origin_lat_deg"), record.number("origin_lon_deg")
    swapped = _is_swapped(float(first[4, 4]), float(second[4, 4]), reference)
    if _is_swapped(origin_lat, origin_lon, reference):
        origin_lat, origin_lon = origin_lon, origin_lat
    lat, lon = (second, first) if swapped else (first, second)
    origin_pixel, origin_line = record.number("origin_pixel"), record.number("origin_line")
    # the same product that swaps latitude and longitude swaps line and pixel: their constants lie beside the origin
    turned = abs(third[4, 4] - origin_pixel) + abs(fourth[4, 4] - origin_line) > abs(fourth[4, 4] - origin_pixel) + abs(
        third[4, 4] - origin_line
    )
    pixel, line = (fourth, third) if turned else (third, fourth)
    if abs(lat[4, 4]) > 90.0 or abs(lon[4, 4]) > 360.0:
        raise InputError(f"the image's middle lies at {lat[4, 4]:.3f}, {lon[4, 4]:.3f}", where, _AGAIN)
    return Coefficients(
        lat_deg=lat,
        lon_deg=lon,
        origin_pixel=origin_pixel,
        origin_line=origin_line,
        line=line,
        pixel=pixel,
        origin_lat_deg=origin_lat,
        origin_lon_deg=origin_lon,
    ), ("latitude and longitude stand in exchanged order: read by their values",) if swapped else ()


def _is_swapped(first: float, second: float, reference_lat_lon: tuple[float, float]) -> bool:
    """Whether two angles are longitude and latitude, in this order: which way lies nearer to the reference."""
    lat, lon = reference_lat_lon

    def off(one: float, other: float) -> float:
        return abs(one - lat) + abs((other - lon + 180.0) % 360.0 - 180.0)

    return abs(first) > 90.0 or off(second, first) < off(first, second)


def _reference(summary: Record, orbit: Orbit) -> tuple[float, float]:
    """Latitude and longitude near the scene: its centre where it is given, else the point below the satellite."""
    lat, lon = summary.maybe("centre_lat_deg"), summary.maybe("centre_lon_deg")
    if lat is not None and lon is not None and np.isfinite(lat) and np.isfinite(lon) and (lat, lon) != (0.0, 0.0):
        return lat, lon
    lon_deg, lat_deg = geodetic_of(orbit.position(0.0))
    return float(lat_deg), float(lon_deg)
