"""PALSAR and PALSAR-2 CEOS products -> Scene: which file is which, what is missing, and whether the files agree (docs/palsar.md 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sarseg.errors import InputError
from sarseg.radar.ellipsoid import EllipsoidMap, ImageGrid, geodetic_of
from sarseg.radar.geometry import RadarGrid, ecef_from_geodetic, on_ellipsoid, zero_doppler
from sarseg.radar.orbit import Floats
from sarseg.raster import palsar_records as records
from sarseg.raster.archive import Member, is_archive, list_members
from sarseg.raster.ceos import CeosImage, Record, Source, big_endian, read_layout, walk
from sarseg.raster.palsar import (
    LEADER_BYTES,
    SUMMARY_TEXT_BYTES,
    VOLUME_BYTES,
    line_polarisation,
    same_time,
    scene_times,
    source_of,
    summary_text,
)
from sarseg.scene.model import GeolocationGrid, Measurement, Scene, Tables
from sarseg.scene.palsar_calibration import factor_db, make_calibration, map_incidence, slant_incidence
from sarseg.scene.palsar_geometry import ellipsoid_grid, incidence_rad, map_of, slant_grid
from sarseg.scene.palsar_leader import Leader, read_leader

_NAME = re.compile(r"^(VOL|LED|TRL|IMG-(?:HH|HV|VH|VV))-(.+)(?<!\.tif)(?<!\.tiff)$")
_ON_MAP = re.compile(r"[LR](2\.1|3\.1)[A-Z_]{3}$")
_SCAN = re.compile(r"-F\d$")
_PATH_PRODUCT = re.compile(r"^PSR2-SLTR_|^facter_m\.dat$|^sar\.\w+$", re.IGNORECASE)
_ORDER = ("VV", "HH", "VH", "HV")  # co-polarised first
_LINES_APART = 1.5
_POINTS = 11
_CENTRE_M = 20_000.0
_ANGLE_DEG = 0.5
_FINE_HZ = 24e6  # PALSAR samples single polarisation with 32 MHz, others with 16
_AGAIN = "download the product again"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Files:
    """Files of one product.

    Parameters
    ----------
    root : folder or archive
    name : what their names have in common
    of : VOL, LED, TRL, IMG-HH ... -> source
    summary : `summary.txt`, if it is there
    """

    root: Path
    name: str
    of: dict[str, Source]
    summary: Source | None

    @property
    def product(self) -> str:
        """The product's part of the name: FBDR1.5GUA, H1.5_UA."""
        return self.name.rpartition("-")[2]

    @property
    def images(self) -> dict[str, Source]:
        """By polarisation, co-polarised first."""
        found = {kind[4:]: source for kind, source in self.of.items() if kind.startswith("IMG-")}
        return {name: found[name] for name in _ORDER if name in found}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Volume:
    """What the volume descriptor says; blanks where there is none."""

    esa: bool = False
    processed: np.datetime64 | None = None
    images: int | None = None
    product: str = ""
    software: str = ""


def is_palsar(path: Path) -> bool:
    """Whether a file, a folder or an archive has the names of a CEOS product of PALSAR that is not orthorectified."""
    files = _files(path)
    return files is not None and not _ON_MAP.search(files.name)


def open_palsar(path: Path) -> Scene | None:
    """The CEOS product at a folder, in a zip archive (read in place), or that a file belongs to; None when no file is of one.

    InputError for damaged and truncated products, several in one place, and levels and forms that are not supported.
    """
    files = _files(path)
    if files is None:
        return None
    try:
        with np.errstate(all="ignore"):  # damaged numbers overflow; what comes of them is checked
            return _read(files)
    except (ValueError, ArithmeticError) as error:  # of types and solvers, which refuse what no radar has
        raise InputError(f"numbers of the product cannot be: {error}", path, _AGAIN) from error


def _files(path: Path) -> _Files | None:
    if path.is_file() and not is_archive(path):
        found = _NAME.match(path.name)
        if found is None and not _PATH_PRODUCT.match(path.name):
            return None
        members = [member for member in list_members(path.parent) if "/" not in member.name]
        if found is not None:
            members = [member for member in members if member.base.endswith(_SCAN.sub("", found[2])) or member.base == "summary.txt"]
        return _choose(path.parent, members)
    if path.is_dir() or is_archive(path):
        return _choose(path, list_members(path))
    return None


def _choose(root: Path, members: Iterable[Member]) -> _Files | None:
    named: dict[str, dict[str, Member]] = {}
    summary = None
    scans = path_product = False
    for member in members:
        found = _NAME.match(member.base)
        if member.base == "summary.txt":
            summary = member
        if _PATH_PRODUCT.match(member.base):
            path_product = True
        if found is None:
            continue
        scans |= _SCAN.search(found[2]) is not None
        named.setdefault(_SCAN.sub("", found[2]), {})[found[1]] = member
    with_leader = {name: kinds for name, kinds in named.items() if "LED" in kinds}
    if not named:
        if path_product:
            raise InputError("an EORC path product (PSR2-SLTR) is another format: not supported", root, "order the scene as CEOS")
        return None
    if scans:
        raise InputError("a ScanSAR product of level 1.1, an image a scan: not supported", root, "order level 1.5")
    if not with_leader:
        raise InputError(f"no leader file LED-{next(iter(named))}", root, _AGAIN)
    if len(with_leader) > 1:
        raise InputError(
            f"{len(with_leader)} products in one place: {', '.join(sorted(with_leader)[:3])}", root, "give one of the LED- files"
        )
    name, kinds = next(iter(with_leader.items()))
    return _Files(
        root=root,
        name=name,
        of={kind: source_of(member) for kind, member in kinds.items()},
        summary=None if summary is None else source_of(summary),
    )


def _read(files: _Files) -> Scene:
    volume = _volume(files)
    led = files.of["LED"]
    leader = read_leader(led.read(LEADER_BYTES), led.where, esa=volume.esa)
    if leader.wide and leader.form == "slant":
        raise InputError("a ScanSAR product of level 1.1 is not supported", files.root, "order level 1.5")
    images, image_notes = _images(files, leader, volume)
    first = next(iter(images.values()))
    mode = _mode(leader, files, volume, len(images))
    image_map: EllipsoidMap | None = None
    grid: ImageGrid
    if leader.form == "slant":
        grid, notes = slant_grid(leader, first)
        angles = slant_incidence(grid, leader.orbit, led.where)
        notes += _check_lines(images, grid)
    else:
        image_map, map_notes = map_of(leader, (first.layout.lines, first.layout.pixels))
        grid, notes = ellipsoid_grid(leader, image_map)
        angles = map_incidence(image_map, leader.orbit)
        notes = (*map_notes, *notes)
    factors = {name: factor_db(leader, mode, name, volume.processed) for name in images}
    points = _points(leader, grid, image_map)
    start_utc, stop_utc, time_notes = _times(files, leader, grid, points)
    notes += _check_summary(leader, points)
    notes = (*leader.notes, *image_notes, *notes, *time_notes, *(note for _, more in factors.values() for note in more))
    where = str(files.root)
    return Scene(
        id=files.name,
        path=where,
        mission=leader.mission,
        mode=mode,
        product_type=leader.form_name,
        polarisations=tuple(images),
        start_utc=start_utc,
        stop_utc=stop_utc,
        orbit_direction="ascending" if leader.orbit.velocity(0.0)[2] > 0 else "descending",
        absolute_orbit=leader.absolute_orbit,
        relative_orbit=None,
        ipf_version=leader.summary.text("version") or volume.software or None,
        footprint_lonlat=_footprint(points),
        orbit=leader.orbit,
        grid=grid,
        calibration=Tables(
            {name: make_calibration(factor, angles) for name, (factor, _) in factors.items()}, what="calibration", where=where
        ),
        noise=Tables(dict.fromkeys(images), what="noise table", where=where),
        noise_removed=False,
        geolocation_grid=points,
        measurements=Tables({name: _measurement(image) for name, image in images.items()}, what="image", where=where),
        pixels="complex" if leader.form == "slant" else "amplitude",
        notes=tuple(dict.fromkeys(notes)),
    )


def _measurement(image: CeosImage) -> Measurement:
    if image.source.member:
        return Measurement(path=image.source.member, archive=image.source.path, layout=image.layout)
    return Measurement(path=image.source.path, layout=image.layout)


def _volume(files: _Files) -> _Volume:
    source = files.of.get("VOL")
    if source is None:
        return _Volume()
    raw = walk(source.read(VOLUME_BYTES), source.where)
    if not raw:
        raise InputError("the file is empty", source.where, _AGAIN)
    head = raw[0].decoded(records.VOLUME)
    pointers = [record.decoded(records.POINTER) for record in raw if record.type == records.POINTER.type]
    texts = [record.decoded(records.TEXT) for record in raw if record.type == records.TEXT.type]
    return _Volume(
        esa="AIPF" in head.text("specification").upper(),
        processed=_date(head),
        images=sum(pointer.text("class_code") == "IMOP" for pointer in pointers) or None,
        product=texts[0].text("product").removeprefix("PRODUCT:").strip() if texts else "",
        software=head.text("software"),
    )


def _date(head: Record) -> np.datetime64 | None:
    found = re.fullmatch(r"(\d{4})(\d\d)(\d\d)", head.text("date"))
    try:
        return None if found is None else np.datetime64("-".join(found.groups()))
    except ValueError:
        return None


def _mode(leader: Leader, files: _Files, volume: _Volume, images: int) -> str:
    """FBS, FBD, PLR ...: written in the names of ALOS-2; ALOS-1 writes H for single and dual."""
    product = volume.product or files.product
    if leader.mission == "ALOS2":
        return product[:3]
    if leader.wide or product[:1] == "W":
        return "WB1"
    if images > 2 or product[:1] == "P":
        return "PLR"
    if product[:1] == "D":
        return "DSN"
    return "FBS" if images == 1 and leader.range_sampling_hz > _FINE_HZ else "FBD"


def _images(files: _Files, leader: Leader, volume: _Volume) -> tuple[dict[str, CeosImage], tuple[str, ...]]:
    """Images by polarisation; they must have one layout, of the leader's level."""
    if not files.images:
        raise InputError("no image file", files.root, _AGAIN)
    found = {name: CeosImage(source=source, layout=read_layout(source)) for name, source in files.images.items()}
    first_name, first = next(iter(found.items()))
    for name, image in found.items():
        if image.layout != first.layout:
            raise InputError(f"{first_name} and {name} differ in size or layout", files.root, "the folder mixes files of several products")
    if (first.layout.dtype == "c8") != (leader.form == "slant"):
        raise InputError(f"the leader is of level {leader.level}, the image's samples are {first.layout.dtype}", files.root, _AGAIN)
    expected = volume.images or {"D": 2, "Q": 4}.get((volume.product or files.product)[2:3] if leader.mission == "ALOS2" else "", 0)
    notes = []
    if "VOL" not in files.of:
        notes.append("no volume file: the date of processing is unknown")
    if len(found) < expected:
        notes.append(f"the product has {expected} polarisations, of which only these are here: {', '.join(found)}")
    return found, tuple(notes)


def _check_lines(images: dict[str, CeosImage], grid: RadarGrid) -> tuple[str, ...]:
    """Polarisations of one product start together; and their lines say the polarisation that the name has."""
    notes = []
    started: dict[str, float] = {}
    for name, image in images.items():
        prefix = image.prefixes(step=image.layout.lines)[:1]
        letters = line_polarisation(image)
        if name not in (letters, letters[::-1]):
            notes.append(f"{name}: its lines say {letters}")
        started[name] = float(big_endian(prefix, 44, 4)[0]) / 1e3
    apart = max(started.values()) - min(started.values())
    if apart > _LINES_APART * grid.line_interval_s + 1e-3:
        notes.append(f"the polarisations' first lines are {apart * 1e3:.1f} ms apart; the first one's times are used")
    return tuple(notes)


def _points(leader: Leader, grid: ImageGrid, image: EllipsoidMap | None) -> GeolocationGrid:
    """A grid of points on the ellipsoid, where the image shows them."""
    line, pixel = np.meshgrid(*(np.linspace(0, side - 1, min(side, _POINTS)) for side in grid.shape), indexing="ij")
    if isinstance(grid, RadarGrid):
        t_s, slant = grid.line_time_s(line), grid.slant_range_m(line, pixel)
        places = on_ellipsoid(t_s, slant, leader.orbit, grid.look_side, grid.doppler)
        lon, lat = geodetic_of(places)
    else:
        assert image is not None
        lon, lat = image.lonlat(line, pixel)
        places = ecef_from_geodetic(lon, lat, 0.0)
        t_s, slant = zero_doppler(places, leader.orbit)
    angle = np.degrees(incidence_rad(places, t_s, leader.orbit))
    flat = [np.ravel(values) for values in (line, pixel, t_s, slant, (lon + 180.0) % 360.0 - 180.0, lat, angle)]
    return GeolocationGrid(
        line=flat[0],
        pixel=flat[1],
        time_s=flat[2],
        slant_range_m=flat[3],
        lon_deg=flat[4],
        lat_deg=flat[5],
        height_m=np.zeros_like(flat[5]),
        incidence_deg=flat[6],
    )


def _check_summary(leader: Leader, points: GeolocationGrid) -> tuple[str, ...]:
    """Incidence angles and the centre of the data set summary against the image's own; InputError when the centre is another place."""
    summary, notes = leader.summary, []
    series = np.nan_to_num(summary.numbers("incidence_rad"))
    middle = len(points.line) // 2
    if series.any():
        recorded = np.degrees(np.polynomial.polynomial.polyval(points.slant_range_m / 1000.0, series))
        off = float(np.abs(recorded - points.incidence_deg).max())
        if not off <= _ANGLE_DEG:
            notes.append(f"the leader's incidence polynomial is up to {off:.2f} degrees from the orbit's angles")
    at_centre = summary.maybe("incidence_deg")
    if at_centre and not abs(at_centre - points.incidence_deg[middle]) <= _ANGLE_DEG:
        notes.append(f"the leader's incidence is {at_centre:.2f} degrees, the orbit says {points.incidence_deg[middle]:.2f} in the middle")
    lat, lon = summary.maybe("centre_lat_deg"), summary.maybe("centre_lon_deg")
    if lat and lon and leader.form != "slant":
        place = ecef_from_geodetic(points.lon_deg[middle], points.lat_deg[middle], 0.0)
        off = float(np.linalg.norm(ecef_from_geodetic(lon, lat, 0.0) - place))
        if not off <= _CENTRE_M:
            raise InputError(f"the scene's centre lies {off / 1000:.0f} km from the image's", leader.where, _AGAIN)
    return tuple(notes)


def _footprint(points: GeolocationGrid) -> tuple[tuple[float, float], ...]:
    last = points.line.max(), points.pixel.max()
    corners = [(0.0, 0.0), (0.0, last[1]), last, (last[0], 0.0)]
    places = [int(np.argmin(np.hypot(points.line - line, points.pixel - pixel))) for line, pixel in corners]
    return tuple((float(points.lon_deg[at]), float(points.lat_deg[at])) for at in places)


def _times(files: _Files, leader: Leader, grid: ImageGrid, points: GeolocationGrid) -> tuple[np.datetime64, np.datetime64, tuple[str, ...]]:
    """First and last time, and warnings: of the lines, else of `summary.txt`, else of the middles of the frame's edges."""
    if isinstance(grid, RadarGrid):
        ends = np.sort(grid.line_time_s(np.array([0.0, grid.shape[0] - 1.0])))
        return _at(leader, ends[0]), _at(leader, ends[1]), ()
    notes: tuple[str, ...] = ()
    times = None if files.summary is None else scene_times(summary_text(files.summary.read(SUMMARY_TEXT_BYTES)))
    if times is not None:
        if same_time(times[1], leader.centre_utc):
            return times[0], times[2], ()
        notes = ("summary.txt belongs to another scene: not used",)
    middle = (np.abs(points.line - np.median(points.line)) < 1) | (np.abs(points.pixel - np.median(points.pixel)) < 1)
    inner: Floats = points.time_s[middle]
    return _at(leader, float(inner.min())), _at(leader, float(inner.max())), notes


def _at(leader: Leader, t_s: float) -> np.datetime64:
    return leader.centre_utc + np.timedelta64(round(float(t_s) * 1e6), "us")
