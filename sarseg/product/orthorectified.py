"""PALSAR-2 products of level 2.1 and 3.1, which JAXA has orthorectified: CEOS and GeoTIFF (docs/products.md 10)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.errors import InputError
from sarseg.grid import MapGrid, transform_points
from sarseg.product.gather import Gathered, describe, same_grid, time_range
from sarseg.product.model import ELLIPSOID_INCIDENCE_BAND, INCIDENCE_BAND, POLARISATIONS, Conversion, Layer, Product
from sarseg.raster import palsar_records as records
from sarseg.raster.archive import Member, list_members
from sarseg.raster.ceos import CeosImage, ImageLayout, RawRecord, Record, read_layout, walk
from sarseg.raster.palsar import (
    LEADER_BYTES,
    OTHER_WIDE_DB,
    STANDARD_DB,
    SUMMARY_TEXT_BYTES,
    WIDE_UNTIL,
    centre_utc,
    check_corners,
    check_ellipsoid,
    factor_db,
    line_polarisation,
    maybe_record,
    mission_of,
    one_record,
    same_time,
    scene_times,
    source_of,
    summary_text,
    utm_grid,
)
from sarseg.raster.track import incidence_deg, read_track
from sarseg.tiles import Window

ORTHORECTIFIED = re.compile(
    r"^(?P<layer>VOL|LED|TRL|IMG-(?:HH|HV|VH|VV))-(?P<base>ALOS2\d{9}-(?P<day>\d{6})-(?P<mode>[A-Z]{3})[LR](?P<level>2\.1|3\.1)[A-Z_]{3})"
    r"(?:\.tiff?)?$"
)

_SUMMARY = "summary.txt"
_NODES = 17
_SAME_DB = 0.005
_LON_LAT = CRS.from_epsg(4326)
_AGAIN = "the product is damaged, or its files belong to several products: download it again"


@dataclass(frozen=True, kw_only=True)
class CeosRaster:
    """The image of a CEOS file as a layer of one band; reads as `sarseg.raster.read.Raster` does."""

    image: CeosImage
    grid: MapGrid
    bands: tuple[str, ...]

    @property
    def path(self) -> str:
        """The file, or the archive that holds it."""
        return self.image.source.path

    def read(self, window: Window | None = None, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Digital numbers as float32 (band, rows, cols)."""
        values = self.read_codes(window).astype(np.float32)
        return np.repeat(values[np.newaxis], 1 if bands is None else len(bands), axis=0)

    def read_codes(self, window: Window | None = None, band: int = 0) -> NDArray[Any]:
        """Digital numbers, uint16 (rows, cols)."""
        return self.image.read(window or Window.whole(self.grid.shape))


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeLayer:
    """A smooth field that is known at nodes spread evenly from the first to the last pixel's centre, linear between them.

    Parameters
    ----------
    path : the file that it comes from
    nodes : float64 (n, n)
    """

    path: str
    grid: MapGrid
    bands: tuple[str, ...]
    nodes: NDArray[np.float64]

    def read(self, window: Window | None = None, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Values float32 (band, rows, cols)."""
        window = window or Window.whole(self.grid.shape)
        (top, down), (left, right) = (
            self._along(start, count, side)
            for start, count, side in zip((window.row, window.col), window.shape, self.grid.shape, strict=True)
        )
        rows = self.nodes[top] + down[:, None] * (self.nodes[top + 1] - self.nodes[top])
        values = rows[:, left] + right * (rows[:, left + 1] - rows[:, left])
        return np.repeat(values.astype(np.float32)[np.newaxis], 1 if bands is None else len(bands), axis=0)

    def read_codes(self, window: Window | None = None, band: int = 0) -> NDArray[Any]:
        """InputError: it holds no integers."""
        raise InputError("an incidence angle is no class", self.path)

    def _along(self, start: int, count: int, side: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        last = len(self.nodes) - 1
        place: NDArray[np.float64] = np.arange(start, start + count, dtype=np.float64) * (last / max(1, side - 1))
        before = np.minimum(place, last - 1).astype(np.int64)
        return before, place - before


def open_orthorectified(files: Gathered) -> Product | None:
    """A product of level 2.1 or 3.1; None when there is none. sigma0 by the calibration factor, 0 is no data.

    InputError for files that contradict each other, another projection than UTM, and damaged files.
    """
    files = _with_neighbours(files)
    found = files.only(ORTHORECTIFIED)
    if found is None:
        return None
    base, layers = found
    images = {name: layers[f"IMG-{name}"] for name in POLARISATIONS if f"IMG-{name}" in layers}
    if not images:
        raise InputError(f"no image file IMG-..-{base}", files.path, "give the folder with all files of the product")
    text = next((one for one in files.members if one.base == _SUMMARY), None)
    said = {} if text is None else summary_text(text.read(SUMMARY_TEXT_BYTES))
    if all(member.base.lower().endswith((".tif", ".tiff")) for member in images.values()):
        return _of_tiffs(files.path, base, images, said)
    if "LED" not in layers:
        raise InputError(f"no leader file LED-{base}", files.path, "download the complete product again")
    return _of_ceos(files.path, base, layers["LED"], images, said)


def _with_neighbours(files: Gathered) -> Gathered:
    """The files of the folder, where one of them was given: leader and images begin with different words."""
    if files.chosen is None or files.chosen.kind or ORTHORECTIFIED.match(files.chosen.base) is None:
        return files
    beside = tuple(one for one in list_members(files.chosen.root) if "/" not in one.name)
    return replace(files, members=beside)


def _of_ceos(path: Path, base: str, led: Member, images: Mapping[str, Member], said: Mapping[str, str]) -> Product:
    leader = source_of(led)
    try:
        with np.errstate(all="ignore"):  # damaged numbers overflow; what comes of them is checked
            raw = walk(leader.read(LEADER_BYTES), leader.where)
            summary, projection = one_record(raw, records.SUMMARY, leader.where), one_record(raw, records.MAP_PROJECTION, leader.where)
            _check_kind(base, summary, projection)
            opened, layout = _open_images(images)
            grid = _grid(projection, (layout.lines, layout.pixels))
            centre, warnings = centre_utc(summary), [*_check_lines(opened), *_warn_packed(images)]
            warnings += check_corners(projection, *_lonlat(grid, *_corner_pixels(grid)), grid.transform.a)
            angles, orbit_state = _angles(raw, summary, grid, warnings)
            factor = _factor(factor_db(maybe_record(raw, records.RADIOMETRIC)), base, None, warnings)
    except (ValueError, ArithmeticError) as error:
        raise InputError(f"numbers of the product cannot be: {error}", path, _AGAIN) from error
    times = scene_times(said)
    if times is not None and not same_time(times[1], centre):
        warnings.append("summary.txt belongs to another scene: not used")
        times = None
    layers: dict[str, Layer] = {name: CeosRaster(image=image, grid=grid, bands=(name,)) for name, image in opened.items()}
    if angles is not None:
        layers[ELLIPSOID_INCIDENCE_BAND] = NodeLayer(path=leader.path, grid=grid, bands=(ELLIPSOID_INCIDENCE_BAND,), nodes=angles)
    item = _item(base, list(opened), warnings, (times[0], times[2]) if times is not None else (centre, centre))
    item["properties"] |= {"sat:orbit_state": orbit_state} if orbit_state else {}
    orbit = summary.text("orbit")
    item["properties"] |= {"sat:absolute_orbit": int(orbit)} if orbit.isdecimal() else {}
    return _product(path, base, grid, layers, factor, item)


def _of_tiffs(path: Path, base: str, images: Mapping[str, Member], said: Mapping[str, str]) -> Product:
    """GeoTIFFs carry no calibration and no orbit; `summary.txt` beside them says which scene they are."""
    opened = {name: member.raster() for name, member in images.items()}
    for raster in opened.values():
        if raster.dtype != "uint16" or len(raster.bands) != 1:
            raise InputError(f"{len(raster.bands)} band(s) of {raster.dtype} where the product has one of uint16", raster.path, _AGAIN)
    grid = same_grid(opened, path)
    _check_map(grid, path)
    warnings: list[str] = []
    day = _day(base, path)
    start, stop = day.astype("datetime64[s]"), day.astype("datetime64[s]") + np.timedelta64(86_399, "s")
    processed: np.datetime64 | None = None
    if said:
        _check_text(said, base, grid, path)
        times = scene_times(said)
        if times is not None:
            start, stop = times[0], times[2]
        found = re.search(r"\s(\d{4})(\d\d)(\d\d) \d{6}$", said.get("Odi_SiteDateTime", ""))
        try:
            processed = None if found is None else np.datetime64("-".join(found.groups()))
        except ValueError:
            processed = None
    else:
        warnings.append("no summary.txt: only the day is known")
    factor = _factor(None, base, processed, warnings)
    warnings.append("no leader file: the incidence on the ellipsoid is not known")
    item = _item(base, list(opened), warnings, (start, stop))
    item["properties"] |= {"sat:orbit_state": "descending" if base.endswith("D") else "ascending"}
    return _product(path, base, grid, opened, factor, item)


def _named(base: str) -> re.Match[str]:
    """The parts of a product's name."""
    found = ORTHORECTIFIED.match(f"LED-{base}")
    assert found is not None
    return found


def _product(path: Path, base: str, grid: MapGrid, layers: Mapping[str, Layer], factor: float, item: dict[str, Any]) -> Product:
    rule = Conversion(form="square", factor=10.0 ** (factor / 10.0), nodata=(0.0,))
    return Product(
        path=path,
        id=base,
        grid=grid,
        quantity="power",
        rasters=dict(layers),
        mask_raster=None,
        auxiliary=frozenset({INCIDENCE_BAND, ELLIPSOID_INCIDENCE_BAND}),
        conversions={name: rule for name in layers if name in POLARISATIONS},
        item=item,
    )


def _item(base: str, polarisations: list[str], warnings: Sequence[str], times: tuple[np.datetime64, np.datetime64]) -> dict[str, Any]:
    said = _named(base)
    return describe(
        f"PALSAR-2 level {said['level']}",
        radiometry="sigma0",
        warnings=[
            "sigma0, not gamma0: do not mix it with products of gamma0",
            "no mask layer: layover and shadow are not known",
            *warnings,
        ],
        **time_range(*times),
        platform="alos-2",
        **{
            "sar:frequency_band": "L",
            "sar:instrument_mode": said["mode"],
            "sar:product_type": f"L{said['level']}",
            "sar:polarizations": polarisations,
            "sarseg:mask_computed": [1],
        },
    )


def _check_kind(base: str, summary: Record, projection: Record) -> None:
    """Level and form by the records; they must be those of the name."""
    level = summary.text("level")
    if mission_of(summary, summary.where) != "ALOS2" or level not in ("2.1", "3.1") or level != _named(base)["level"]:
        raise InputError(f"the leader is of level {level or 'unknown'}, the name says {base}", summary.where, _AGAIN)
    scene = summary.text("scene_id")
    if scene and not base.startswith(scene):
        raise InputError(f"the leader is of the scene {scene}, the name says {base}", summary.where, _AGAIN)
    if not projection.text("descriptor").upper().startswith("GEOCODED"):
        raise InputError(f"the map's descriptor is '{projection.text('descriptor')}', not GEOCODED", projection.where, _AGAIN)
    kind = projection.text("projection")
    if not kind.upper().startswith("UTM"):
        raise InputError(f"the map projection is '{kind}': not supported", projection.where, "order the product in UTM, or as GeoTIFF")
    check_ellipsoid(summary)
    check_ellipsoid(projection)


def _open_images(images: Mapping[str, Member]) -> tuple[dict[str, CeosImage], ImageLayout]:
    opened = {}
    for name, member in images.items():
        source = source_of(member)
        opened[name] = CeosImage(source=source, layout=read_layout(source))
    first_name, first = next(iter(opened.items()))
    for name, image in opened.items():
        if image.layout != first.layout:
            raise InputError(f"{first_name} and {name} differ in size or layout", image.source.where, _AGAIN)
    if first.layout.dtype != "u2":
        raise InputError("the image holds complex samples, an orthorectified one holds amplitudes", first.source.where, _AGAIN)
    return opened, first.layout


def _grid(projection: Record, shape: tuple[int, int]) -> MapGrid:
    declared = projection.maybe("lines"), projection.maybe("pixels")
    if None not in declared and declared != shape:
        raise InputError(f"the image has {shape} lines and pixels, the map projection record says {declared}", projection.where, _AGAIN)
    grid = utm_grid(projection, shape)
    if grid is None:
        raise InputError("the corners of the map are blank: it cannot be known where the pixels lie", projection.where, _AGAIN)
    _check_map(grid, projection.where)
    return grid


def _check_map(grid: MapGrid, where: object) -> None:
    matrix = grid.transform
    if grid.crs is None or matrix.a <= 0 or matrix.e >= 0 or max(abs(matrix.b), abs(matrix.d)) > 1e-6 * matrix.a:
        raise InputError("the image is no map with north at its top", where, "an orthorectified product has a map grid")


def _check_lines(opened: Mapping[str, CeosImage]) -> list[str]:
    letters = {name: line_polarisation(image) for name, image in opened.items()}
    return [f"{name}: its lines say {said}" for name, said in letters.items() if name not in (said, said[::-1])]


def _warn_packed(images: Mapping[str, Member]) -> list[str]:
    """A packed member is inflated from its start for every window."""
    member = next(iter(images.values()))
    if member.kind == "":
        return []
    with zipfile.ZipFile(member.root) as archive:
        packed = archive.getinfo(member.name).compress_type != zipfile.ZIP_STORED
    return ["the images are packed in the zip: unpack it, since they are read slowly so"] if packed else []


def _corner_pixels(grid: MapGrid) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.array([0, 0, 1, 1]) * (grid.shape[0] - 1), np.array([0, 1, 1, 0]) * (grid.shape[1] - 1)


def _lonlat(grid: MapGrid, row: NDArray[Any], col: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert grid.crs is not None
    x, y = grid.transform.c + (col + 0.5) * grid.transform.a, grid.transform.f + (row + 0.5) * grid.transform.e
    return transform_points(grid.crs, _LON_LAT, x, y)


def _angles(
    raw: tuple[RawRecord, ...], summary: Record, grid: MapGrid, warnings: list[str]
) -> tuple[NDArray[np.float64] | None, str | None]:
    """Incidence on the ellipsoid at nodes, degrees, and whether the satellite ascended; None without an orbit that fits."""
    platform = maybe_record(raw, records.PLATFORM)
    track = None if platform is None else read_track(platform, centre_utc(summary))
    if track is None:
        warnings.append("the leader has no orbit: the incidence on the ellipsoid is not known")
        return None, None
    rows, cols = (np.linspace(0, side - 1, _NODES) for side in grid.shape)
    row, col = np.meshgrid(rows, cols, indexing="ij")
    angles = incidence_deg(track, *_lonlat(grid, row, col))
    recorded, middle = summary.maybe("incidence_deg"), float(angles[_NODES // 2, _NODES // 2])
    if recorded and not abs(recorded - middle) <= 0.5:
        warnings.append(f"the leader's incidence is {recorded:.2f} degrees, the orbit says {middle:.2f} in the middle")
    return angles, "ascending" if track.climbs else "descending"


def _factor(recorded: float | None, base: str, processed: np.datetime64 | None, warnings: list[str]) -> float:
    """The record's factor in dB, else JAXA's; warnings where they differ, or where JAXA has published two."""
    said = _named(base)
    wide = said["mode"].startswith(("W", "V")) and (processed is None or processed < WIDE_UNTIL) and said["day"] < "160929"
    published = (STANDARD_DB, OTHER_WIDE_DB) if wide else (STANDARD_DB,)
    if recorded is None:
        warnings.append(f"no calibration factor in the product: JAXA's {STANDARD_DB:g} dB is taken")
        if wide:
            warnings.append(f"a ScanSAR product that was ordered before 2016-09-28 may need {OTHER_WIDE_DB:g} dB")
        return STANDARD_DB
    if min(abs(value - recorded) for value in published) > _SAME_DB:
        words = " or ".join(f"{value:g}" for value in published)
        warnings.append(f"the leader's calibration factor is {recorded:g} dB, JAXA has published {words} dB for such products")
    return recorded


def _day(base: str, path: Path) -> np.datetime64:
    said = _named(base)
    try:
        return np.datetime64(f"20{said['day'][:2]}-{said['day'][2:4]}-{said['day'][4:]}")
    except ValueError as error:
        raise InputError(f"the name's day {said['day']} is no date", path, "it is written YYMMDD") from error


def _check_text(said: Mapping[str, str], base: str, grid: MapGrid, path: Path) -> None:
    """`summary.txt` against name and raster; InputError where they contradict each other."""
    wanted = {
        "Lbi_ProcessLevel": _named(base)["level"],
        "Scs_SceneID": base.rpartition("-")[0],
        "Pds_ProductID": base.rpartition("-")[2],
        "Pdi_NoOfLines_0": str(grid.shape[0]),
        "Pdi_NoOfPixels_0": str(grid.shape[1]),
    }
    for key, value in wanted.items():
        if said.get(key, value) != value:
            raise InputError(f"summary.txt has {key} {said[key][:40]}, the product {value}", path, _AGAIN)
    spacing = said.get("Pds_PixelSpacing", "")
    if re.fullmatch(r"\d{1,4}(\.\d{1,9})?", spacing) and abs(float(spacing) - grid.transform.a) > 1e-3 * grid.transform.a:
        raise InputError(f"summary.txt has pixels of {spacing} m, the raster of {grid.transform.a:g} m", path, _AGAIN)
