"""What several readers of PALSAR and PALSAR-2 products ask of the leader's records and of `summary.txt` (docs/palsar.md 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.constants import METRES_PER_DEGREE, WGS84_A_M, WGS84_E2
from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.raster.archive import Member
from sarseg.raster.ceos import CeosImage, Layout, RawRecord, Record, Source, big_endian

STANDARD_DB = -83.0
"""Calibration factor that JAXA has published for all products of PALSAR-2, and for those of PALSAR since 2009-01-09."""
OTHER_WIDE_DB = -79.0
"""That of some ScanSAR products of PALSAR-2 (beam W2) which were ordered before `WIDE_UNTIL`."""
WIDE_UNTIL = np.datetime64("2016-09-29")
LEADER_BYTES, SUMMARY_TEXT_BYTES, VOLUME_BYTES = 64 << 20, 1 << 20, 1 << 20
"""The most that such a file can have."""

_ELLIPSOID_M = 1.0  # more is another datum
_FACTOR_DB = (-150.0, 0.0)
_SAME_SCENE_S = 1.0
_CORNERS_WARN_PX, _CORNERS_REFUSE_M = 2.0, 1000.0
_AGAIN = "the product is damaged, or of a kind that is not known: download it again"


def source_of(member: Member) -> Source:
    """A file of a folder or of a zip archive; InputError for one in a tar archive."""
    if member.kind == "/vsitar/":
        raise InputError("a CEOS product in a tar archive is not read in place", member.root, "unpack it")
    if member.kind:
        return Source(path=str(member.root.absolute()), member=member.name)
    return Source(path=str((member.root / member.name).absolute()))


def one_record(raw: tuple[RawRecord, ...], kind: Layout, where: str) -> Record:
    """The first record of a kind; InputError when there is none."""
    found = maybe_record(raw, kind)
    if found is None:
        raise InputError(f"no {kind.name} record", where, _AGAIN)
    return found


def maybe_record(raw: tuple[RawRecord, ...], kind: Layout) -> Record | None:
    """The first record of a kind, None when there is none."""
    found = next((record for record in raw if record.type == kind.type), None)
    return None if found is None else found.decoded(kind)


def check_corners(projection: Record, lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64], pixel_m: float) -> tuple[str, ...]:
    """Warnings about recorded corners that are blank, or pixels away from the image's; InputError from a kilometre on.

    Parameters
    ----------
    lon_deg, lat_deg : float64 (4,), centres of the corner pixels: top left, top right, bottom right, bottom left
    """
    corners = projection.numbers("corner_lat_lon_deg").reshape(4, 2)
    if not np.isfinite(corners).all() or not corners.any():
        return ("the corners of the map projection record are blank",)
    east = ((lon_deg - corners[:, 1] + 180.0) % 360.0 - 180.0) * np.cos(np.radians(lat_deg))
    off_m = float((np.hypot(east, lat_deg - corners[:, 0]) * METRES_PER_DEGREE).max())
    if not off_m <= _CORNERS_REFUSE_M:
        raise InputError(f"the corners of the map projection record lie {off_m / 1000:.1f} km from the image's", projection.where, _AGAIN)
    if off_m > _CORNERS_WARN_PX * pixel_m:
        return (f"the corners of the map projection record lie {off_m / pixel_m:.1f} pixels from the image's",)
    return ()


def within(record: Record, name: str, bounds: tuple[float, float]) -> float:
    """A number that must lie within bounds; InputError otherwise."""
    value = record.number(name)
    if not bounds[0] <= value <= bounds[1]:
        raise InputError(f"{name} is {value:g}, not within {bounds[0]:g} and {bounds[1]:g}", record.where, _AGAIN)
    return value


def mission_of(summary: Record, where: str) -> Literal["ALOS", "ALOS2"]:
    """Whose product it is; InputError when it is of neither."""
    words = f"{summary.text('scene_id')} {summary.text('mission')} {summary.text('sensor')}".upper()
    if "ALOS4" in words or "ALOS-4" in words:
        raise InputError("PALSAR-3 (ALOS-4) is not supported", where, "give a product of ALOS or ALOS-2")
    if "ALOS2" in words or "ALOS-2" in words:
        return "ALOS2"
    if "ALPSR" in words or "ALOS" in words or "PALSAR" in words:
        return "ALOS"
    raise InputError(f"a CEOS product of '{summary.text('mission')}', not of ALOS", where, "give a PALSAR or PALSAR-2 product")


def centre_utc(summary: Record) -> np.datetime64:
    """Scene centre time, datetime64[us]."""
    text = summary.text("centre_time")
    found = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d{1,6})?", text)
    try:
        if found is None:
            raise ValueError(text)
        year, month, day, hour, minute, second, rest = found.groups()
        return np.datetime64(f"{year}-{month}-{day}T{hour}:{minute}:{second}.{(rest or '0').ljust(6, '0')}", "us")
    except ValueError as error:
        raise InputError(f"scene centre time is '{text[:32]}'", summary.where, _AGAIN) from error


def check_ellipsoid(record: Record) -> None:
    """InputError when the axes that a record names are not those of GRS80 or WGS84."""
    wanted = WGS84_A_M, WGS84_A_M * np.sqrt(1.0 - WGS84_E2)
    for name, value in zip(("semi_major_m", "semi_minor_m"), wanted, strict=True):
        found = record.maybe(name)
        if found is not None and not abs(found - value) <= _ELLIPSOID_M:
            raise InputError(f"the ellipsoid is {record.text('ellipsoid')} with {name} {found:.1f}, not GRS80 or WGS84", record.where)


def factor_db(radiometric: Record | None) -> float | None:
    """The calibration factor, None where it is blank."""
    value = None if radiometric is None else radiometric.maybe("factor_db")
    if radiometric is None or value is None or value == 0.0 or not np.isfinite(value):
        return None
    return within(radiometric, "factor_db", _FACTOR_DB)


def utm_grid(projection: Record, shape: tuple[int, int]) -> MapGrid | None:
    """The UTM grid of a geocoded image, between its corner pixels' centres; None where one is blank.

    The record's "centre of projection" is no central meridian. InputError when spacings and corners contradict each other.
    """
    zone = projection.text("utm_zone")
    if not (zone.isdecimal() and 1 <= int(zone) <= 60):
        raise InputError(f"UTM zone '{zone}'", projection.where, _AGAIN)
    crs = CRS.from_epsg((32700 if projection.number("false_northing_m") > 0 else 32600) + int(zone))
    corners = projection.numbers("corner_northing_easting_m").reshape(4, 2)
    if not np.isfinite(corners).all():
        return None
    (top_left, top_right, bottom_right, bottom_left), (lines, pixels) = corners[:, ::-1], shape
    by_pixel, by_line = (top_right - top_left) / max(1, pixels - 1), (bottom_left - top_left) / max(1, lines - 1)
    if np.linalg.norm(top_left + (pixels - 1) * by_pixel + (lines - 1) * by_line - bottom_right) > np.linalg.norm(by_pixel) / 2:
        raise InputError("the corners of the map are no rectangle", projection.where, _AGAIN)
    for name, step in (("pixel_spacing_m", by_pixel), ("line_spacing_m", by_line)):
        if not abs(projection.number(name) - np.linalg.norm(step)) <= 1e-3 * projection.number(name):
            raise InputError(f"{name} is {projection.number(name):g}, the corners say {np.linalg.norm(step):g}", projection.where, _AGAIN)
    origin = top_left - (by_pixel + by_line) / 2.0
    return MapGrid(crs=crs, transform=Affine(by_pixel[0], by_line[0], origin[0], by_pixel[1], by_line[1], origin[1]), shape=shape)


def line_polarisation(image: CeosImage) -> str:
    """Transmitted and received polarisation as the first line says it: HH, HV ...; "?" for an unknown code."""
    prefix = image.prefixes(step=image.layout.lines)[:1]
    codes = int(big_endian(prefix, 52, 2)[0]), int(big_endian(prefix, 54, 2)[0])
    return "".join({0: "H", 1: "V"}.get(code, "?") for code in codes)


def summary_text(content: bytes) -> dict[str, str]:
    """Lines `Key="value"` of a `summary.txt`."""
    return dict(re.findall(r'^(\w+)="([^"\n]*)"\s*$', content.decode("latin-1"), re.MULTILINE))


def scene_times(text: Mapping[str, str]) -> tuple[np.datetime64, np.datetime64, np.datetime64] | None:
    """Start, centre and end of the scene, datetime64[us], by `summary.txt`; None where one is missing or they are in no order."""
    found = [_time(text.get(f"Img_Scene{name}DateTime", "")) for name in ("Start", "Center", "End")]
    start, centre, stop = found
    if start is None or centre is None or stop is None or not start <= centre <= stop:
        return None
    return start, centre, stop


def same_time(one: np.datetime64, other: np.datetime64) -> bool:
    """Whether two centre times are of one scene."""
    return abs(float((one - other).astype(np.int64)) / 1e6) <= _SAME_SCENE_S


def _time(text: str) -> np.datetime64 | None:
    found = re.fullmatch(r"(\d{4})(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d{3})", text.strip())
    try:
        return None if found is None else np.datetime64(f"{found[1]}-{found[2]}-{found[3]}T{found[4]}", "us")
    except ValueError:
        return None
