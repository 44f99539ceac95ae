"""JAXA's products on the map: the 25 m mosaics of all years, and PALSAR-2 ScanSAR ARD (docs/products.md 1 and 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sarseg.errors import InputError
from sarseg.masks import Mask
from sarseg.product.gather import Gathered, describe, odd_codes, same_grid, time_range
from sarseg.product.model import (
    DATE_BAND,
    INCIDENCE_BAND,
    POLARISATIONS,
    WATER_BAND,
    Conversion,
    Layer,
    MaskCodes,
    Product,
)
from sarseg.raster.archive import Member, is_archive, list_members, parse_xml, without_ending
from sarseg.raster.joined import join_rasters
from sarseg.raster.read import Raster

MOSAIC = re.compile(
    r"^(?P<base>(?P<tile>[NS]\d{2}[EW]\d{3})_(?P<year>\d{2}))_(?:sl_)?(?P<layer>HH|HV|VH|VV|linci|date|mask)"
    r"(?:_(?P<mode>[A-Z0-9]{6}))?(?:\.tiff?)?$"
)
SCANSAR = re.compile(r"^(?P<base>ALOS\d\d{9}-\d{6}_[\w.]+?)_(?P<layer>(?:HH|HV|VH|VV)_SLP|LIN|MSK|summary(?=\.xml))\.(?:tiff?|xml)$")

MOSAIC_ARCHIVE = re.compile(r"^[NS]\d{2}[EW]\d{3}_(?P<year>\d{2})_MOS(?:_[A-Z0-9]{6})?$")
_MOSAIC_XML = re.compile(r"^[NS]\d{2}[EW]\d{3}_\d{2}(?:_[A-Z0-9]{6})?\.xml$")
_MOSAIC_CODES = MaskCodes.of({0: Mask.NO_DATA, 50: 0, 100: Mask.LAYOVER, 150: Mask.SHADOW, 255: 0})
_SCANSAR_CODES = MaskCodes.of({0: Mask.NO_DATA, 1: 0, 2: Mask.LAYOVER, 3: Mask.SHADOW, 4: 0, 5: Mask.NO_DATA})
_CALIBRATION_DB = -83.0
_JERS_CALIBRATION_DB = -84.66
_MOST_XML_BYTES = 8 << 20
_MOST_XML_TILES = 4  # of one archive: in a packed one each look runs through all of it
_STARTS, _ENDS = ("UTCStartTime", "StartTime"), ("UTCEndTime", "EndTime")


@dataclass(frozen=True, slots=True)
class _Mission:
    platform: str
    launch: str
    calibration_db: float


def _mission(year: int, where: object) -> _Mission:
    """Whose mosaic a year is."""
    if 1992 <= year <= 1998:
        return _Mission("jers-1", "1992-02-11", _JERS_CALIBRATION_DB)
    if 2006 <= year <= 2011:
        return _Mission("alos", "2006-01-24", _CALIBRATION_DB)
    if 2014 <= year < 2092:
        return _Mission("alos-2", "2014-05-24", _CALIBRATION_DB)
    raise InputError(f"there is no mosaic of the year {year}", where, "its name should end in _YY_MOS")


@dataclass(frozen=True, slots=True)
class _Notes:
    """What the XML of a tile says; None where it does not."""

    calibration_db: float | None = None
    launch: str | None = None
    start: np.datetime64 | None = None
    end: np.datetime64 | None = None
    orbit_state: str | None = None
    incidence_factor: float | None = None
    size: tuple[int, int] | None = None


def open_mosaic(files: Gathered) -> Product | None:
    """A tile of the mosaic, or neighbouring tiles of one year, as one product; None when there is none.

    Parameters
    ----------
    files : layers of the tiles (GeoTIFF, or raw with ENVI header), or a folder of the archives as downloaded

    InputError for tiles of several years, a tile that lies elsewhere than its name says, and damaged files.
    """
    tiles = _find_tiles(files)
    if not tiles:
        return None
    years = {year for year, _ in tiles.values()}
    _check_one_year(years, files.path)
    year = min(years)
    mission = _mission(year, files.path)
    layers = {tile: found for tile, (_, found) in tiles.items()}
    opened, warnings = _open_layers(layers, files.path)
    notes = _read_notes(layers)
    calibration_db, launch = _agreed(mission, notes, warnings)
    name = next(iter(layers)) if len(layers) == 1 else files.name
    codes = _MOSAIC_CODES if "mask" in opened else None
    if codes is None:
        warnings.append("no mask layer: layover, shadow and water are not known")
    elif len(layers) == 1:
        warnings += odd_codes(_raster_of(opened["mask"]), codes)
    polarisations = [name for name in POLARISATIONS if name in opened]
    rasters, conversions = _bands(opened, polarisations, calibration_db, {"date": launch, "angle": 1.0}, {50: 1.0, 255: 0.0})
    times = [note for note in notes if note.start is not None and note.end is not None]
    start = min((note.start for note in times if note.start is not None), default=np.datetime64(f"{year}-01-01T00:00:00"))
    end = max((note.end for note in times if note.end is not None), default=np.datetime64(f"{year}-12-31T23:59:59"))
    if times and len(times) < len(layers):
        warnings.append(f"times are those of {len(times)} of {len(layers)} tiles")
    states = {note.orbit_state for note in notes}
    return Product(
        path=files.path,
        id=f"{name}_MOS" if len(layers) == 1 else name,
        grid=opened[polarisations[0]].grid,
        quantity="power",
        rasters=rasters,
        mask_raster=opened.get("mask"),
        auxiliary=frozenset({INCIDENCE_BAND, DATE_BAND, WATER_BAND}),
        conversions=conversions,
        mask_codes=codes,
        item=describe(
            "JAXA 25 m mosaic",
            radiometry="gamma0",
            warnings=warnings,
            **time_range(start, end),
            platform=mission.platform,
            **{
                "sar:frequency_band": "L",
                "sar:polarizations": polarisations,
                "sat:orbit_state": states.pop() if len(states) == 1 else None,
                "sarseg:year": year,
                "sarseg:tiles": sorted(layers),
                "sarseg:calibration_db": calibration_db,
                "sarseg:launch": launch,
                "sarseg:mask_computed": [1, 2, 4] if codes is not None else [1],
            },
        ),
    )


def open_scansar(files: Gathered) -> Product | None:
    """A PALSAR-2 ScanSAR ARD scene (level 2.2); None when there is none.

    Its mask has other codes than the mosaic's, its angles other units, and its XML swaps lines and pixels: the raster is right.
    """
    found = files.only(SCANSAR)
    if found is None:
        return None
    base, layers = found
    xml = layers.pop("summary", None)
    names = {layer: layer.removesuffix("_SLP") for layer in layers}
    if not any(name in POLARISATIONS for name in names.values()):
        raise InputError("no backscatter: HH_SLP and HV_SLP are missing", files.path, f"{base}_HH_SLP.tif should lie beside its mask")
    warnings: list[str] = []
    opened: dict[str, Layer] = {names[layer]: _integers(member.raster()) for layer, member in layers.items()}
    grid = same_grid({name: _raster_of(one) for name, one in opened.items()}, files.path)
    notes = _notes(xml.read(_MOST_XML_BYTES), xml.place) if xml is not None else _Notes()
    if xml is None:
        warnings.append("no summary.xml: the time is not known beyond the day")
    elif notes.size not in (grid.shape, grid.shape[::-1], None):
        warnings.append(f"the XML's {notes.size[0]} x {notes.size[1]} pixels are not the raster's {grid.shape[0]} x {grid.shape[1]}")
    codes = _SCANSAR_CODES if "MSK" in opened else None
    if codes is None:
        warnings.append("no mask layer: layover, shadow and water are not known")
    else:
        warnings += odd_codes(_raster_of(opened["MSK"]), codes)
    calibration_db, _ = _agreed(_Mission("alos-2", "2014-05-24", _CALIBRATION_DB), [notes], warnings)
    renamed = {{"LIN": "linci", "MSK": "mask"}.get(name, name): one for name, one in opened.items()}
    polarisations = [name for name in POLARISATIONS if name in renamed]
    told = {"angle": notes.incidence_factor or 0.01}
    rasters, conversions = _bands(renamed, polarisations, calibration_db, told, {4: 1.0, 1: 0.0})
    day = base.split("-")[1][:6]
    noon = np.datetime64(f"20{day[:2]}-{day[2:4]}-{day[4:]}T12:00:00") if _is_day(day) else None
    start, end = notes.start if notes.start is not None else noon, notes.end if notes.end is not None else noon
    return Product(
        path=files.path,
        id=base,
        grid=grid,
        quantity="power",
        rasters=rasters,
        mask_raster=renamed.get("mask"),
        auxiliary=frozenset({INCIDENCE_BAND, WATER_BAND}),
        conversions=conversions,
        mask_codes=codes,
        item=describe(
            "PALSAR-2 ScanSAR ARD",
            radiometry="gamma0",
            warnings=warnings,
            **(time_range(start, end) if start is not None and end is not None else {}),
            platform="alos-2",
            **{
                "sar:frequency_band": "L",
                "sar:polarizations": polarisations,
                "sat:orbit_state": notes.orbit_state,
                "sarseg:calibration_db": calibration_db,
                "sarseg:mask_computed": [1, 2, 4] if codes is not None else [1],
            },
        ),
    )


def check_year(archives: Iterable[Path], where: object) -> None:
    """InputError when archives of the mosaic's tiles are of several years, by their names."""
    named = [found for path in archives if (found := MOSAIC_ARCHIVE.match(without_ending(path)))]
    _check_one_year({_year(found["year"]) for found in named}, where)


def _year(digits: str) -> int:
    return (1900 if int(digits) >= 92 else 2000) + int(digits)


def _check_one_year(years: set[int], where: object) -> None:
    if len(years) > 1:
        several = ", ".join(map(str, sorted(years)))
        raise InputError(f"tiles of the years {several} lie together", where, "give each year a folder of its own")


def _find_tiles(files: Gathered) -> dict[str, tuple[int, dict[str, Member]]]:
    """Year and layers of each tile by its name with the year; of archives in a folder, what is in them."""
    members = list(files.members)
    archives = [one for one in members if is_archive(Path(one.base)) and MOSAIC_ARCHIVE.match(without_ending(Path(one.base)))]
    if archives and archives[0].kind:
        raise InputError(f"{archives[0].base} is an archive inside of the archive", files.path, "unpack the outer one and give its folder")
    for one in archives:
        members += list_members(Path(one.place))
    found: dict[str, tuple[int, dict[str, Member]]] = {}
    origin: dict[tuple[str, str], Member] = {}
    for base, layers in Gathered(path=files.path, members=tuple(members), chosen=files.chosen).groups(MOSAIC).items():
        for layer, member in layers.items():
            origin[base, layer] = member
        found[base] = (_year(base[-2:]), layers)
    for one in members:  # `groups` keeps the first of two files of one name
        match = MOSAIC.match(one.base)
        if match is not None and (match["base"], match["layer"]) in origin and origin[match["base"], match["layer"]] != one:
            raise InputError(
                f"the tile {match['base']} is here twice", files.path, f"{one.place} and {origin[match['base'], match['layer']].place}"
            )
    for base, (_, layers) in found.items():
        headers = {one.base: one for one in members if one.base.lower().endswith(".hdr") and one.base.startswith(base)}
        layers.update({f"header {name}": one for name, one in headers.items()})
        for one in members:
            if _MOSAIC_XML.match(one.base) and one.base.startswith(base):
                layers.setdefault("xml", one)
    return found


def _open_layers(tiles: Mapping[str, Mapping[str, Member]], path: Path) -> tuple[dict[str, Layer], list[str]]:
    """Each layer that all tiles have, joined, and warnings about the others. InputError without backscatter."""
    warnings = []
    wanted = [*POLARISATIONS, "linci", "date", "mask"]
    there = [name for name in wanted if any(name in layers for layers in tiles.values())]
    common = [name for name in there if all(name in layers for layers in tiles.values())]
    if len(common) < len(there):
        warnings.append(f"not read, since some tiles lack it: {', '.join(name for name in there if name not in common)}")
    if not any(name in POLARISATIONS for name in common):
        raise InputError("no backscatter: sl_HH is missing", path, f"{next(iter(tiles))}_sl_HH should lie beside the other layers")
    rasters: dict[str, list[Raster]] = {name: [] for name in common}
    for base, layers in tiles.items():
        headers = [member for key, member in layers.items() if key.startswith("header ")]
        opened = {name: _integers(layers[name].raster(headers)) for name in common}
        _check_place(base, same_grid(opened, path), path)
        for name, raster in opened.items():
            rasters[name].append(raster)
    if len(tiles) == 1:
        return {name: one[0] for name, one in rasters.items()}, warnings
    return {name: join_rasters(some, path) for name, some in rasters.items()}, warnings


def _integers(raster: Raster) -> Raster:
    if raster.dtype not in ("uint8", "uint16") or len(raster.bands) != 1:
        raise InputError(f"{len(raster.bands)} band(s) of {raster.dtype} where one of uint8 or uint16 is right", raster.path)
    return raster


def _check_place(base: str, grid: Any, path: Path) -> None:
    """A tile is named by its top left corner."""
    lat = int(base[1:3]) * (1 if base[0] == "N" else -1)
    lon = int(base[4:7]) * (1 if base[3] == "E" else -1)
    left, _, _, top = grid.bounds
    if grid.crs is None or not grid.crs.is_geographic or not grid.north_up:
        raise InputError(f"the tile {base} has no degrees, north up", path, "its headers are damaged, or it was reprojected")
    if abs(left - lon) > grid.spacing[0] / 2 or abs(top - lat) > grid.spacing[1] / 2:
        raise InputError(f"the tile {base} has its corner at {left:g}, {top:g}, where its name says {lon}, {lat}", path, "it was renamed")


def _read_notes(tiles: Mapping[str, Mapping[str, Member]]) -> list[_Notes]:
    """The XML of each tile; of many in one packed archive only of the first few."""
    wanted = [layers["xml"] for layers in tiles.values() if "xml" in layers]
    packed = [one for one in wanted if one.kind == "/vsitar/"]
    if len({one.root for one in packed}) == 1 and len(packed) > _MOST_XML_TILES:
        wanted = wanted[:_MOST_XML_TILES]
    return [_notes(one.read(_MOST_XML_BYTES), one.place) for one in wanted]


def _notes(content: bytes, where: str) -> _Notes:
    """What JAXA's XML says; the two families spell some names in different ways."""
    texts: dict[str, list[str]] = {}
    for node in parse_xml(content, where).iter():
        if isinstance(node.tag, str) and node.text and node.text.strip():
            texts.setdefault(node.tag.rpartition("}")[2], []).append(node.text.strip())
    equations = [text.replace(" ", "") for name in ("BackscatterConversionEq", "ConversionEq") for text in texts.get(name, [])]
    factors = [re.fullmatch(r"10\*log10\(DN\^2\)([-+]\d+(?:\.\d+)?)", text) for text in equations]
    angles = [re.fullmatch(r"(\d*\.?\d+)\*DN", text) for text in equations]
    starts = [time for name in _STARTS for time in map(_time, texts.get(name, [])) if time is not None]
    ends = [time for name in _ENDS for time in map(_time, texts.get(name, [])) if time is not None]
    lines, pixels = (texts.get(name, ["0"])[0] for name in ("NumberLines", "NumPixelsPerLine"))
    return _Notes(
        calibration_db=next((float(one[1]) for one in factors if one is not None), None),
        launch=next((text for text in texts.get("ZeroReferenceDate", []) if re.fullmatch(r"\d{4}-\d\d-\d\d", text)), None),
        start=min(starts, default=None),
        end=max(ends, default=None),
        orbit_state=next((text.lower() for text in texts.get("PassDirection", []) if text.lower() in ("ascending", "descending")), None),
        incidence_factor=next((float(one[1]) for one in angles if one is not None), None),
        size=(int(lines), int(pixels)) if lines.isdecimal() and pixels.isdecimal() and lines != "0" else None,
    )


def _time(text: str) -> np.datetime64 | None:
    try:
        return np.datetime64(text.removesuffix("Z"), "ms")
    except ValueError:
        return None


def _is_day(yymmdd: str) -> bool:
    return yymmdd.isdecimal() and _time(f"20{yymmdd[:2]}-{yymmdd[2:4]}-{yymmdd[4:]}") is not None


def _agreed(mission: _Mission, notes: Sequence[_Notes], warnings: list[str]) -> tuple[float, str]:
    """Calibration factor in dB and launch day: the XML's, with a warning where it is not the known one.

    InputError when tiles differ, or when the XML's is no calibration factor or day.
    """
    factors = {note.calibration_db for note in notes if note.calibration_db is not None} or {mission.calibration_db}
    launches = {note.launch for note in notes if note.launch is not None} or {mission.launch}
    if len(factors) > 1 or len(launches) > 1:
        raise InputError(f"the XML files name several calibrations ({sorted(factors)}) or first days ({sorted(launches)})")
    factor, launch = factors.pop(), launches.pop()
    if not -120.0 < factor < -40.0 or _time(launch) is None:
        raise InputError(f"the XML names {factor} dB as calibration and {launch} as first day", hint="it is damaged")
    if factor != mission.calibration_db:
        warnings.append(f"calibration {factor} dB as the XML says, not the usual {mission.calibration_db} dB")
    if launch != mission.launch:
        warnings.append(f"days are counted from {launch} as the XML says, not from the launch on {mission.launch}")
    return factor, launch


def _bands(
    opened: Mapping[str, Layer], polarisations: Sequence[str], calibration_db: float, told: Mapping[str, Any], water: Mapping[int, float]
) -> tuple[dict[str, Layer], dict[str, Conversion]]:
    """Bands and how they are made of the layers: gamma0 = DN^2 * 10^(calibration / 10), DN 0 and 1 are no data.

    `told` has the degrees a unit of the angle, and the first day of the dates; `water` the codes of water (1) and land (0).
    """
    rasters: dict[str, Layer] = {name: opened[name] for name in polarisations}
    conversions = {name: Conversion(form="square", factor=10 ** (calibration_db / 10), nodata_upto=1) for name in polarisations}
    if "linci" in opened:
        rasters[INCIDENCE_BAND] = opened["linci"]
        upto = 1 if told["angle"] == 1.0 else 0
        conversions[INCIDENCE_BAND] = Conversion(factor=told["angle"], nodata_upto=upto, nodata_above=90 / told["angle"])
    if "date" in opened:
        rasters[DATE_BAND] = opened["date"]
        conversions[DATE_BAND] = Conversion(offset=float(np.datetime64(told["date"], "D").astype(int)), nodata_upto=1)
    if "mask" in opened:
        rasters[WATER_BAND] = opened["mask"]
        conversions[WATER_BAND] = Conversion(form="table", table=tuple(water.items()))
    return rasters, conversions


def _raster_of(layer: Layer) -> Raster:
    assert isinstance(layer, Raster)
    return layer
