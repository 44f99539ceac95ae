"""Rasters that say what their bands are: a side file, SNAP's headers, band descriptions, PolSARpro's folders (docs/products.md 6 to 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
from affine import Affine

from sarseg.bands import diagonals_of
from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.product.gather import BackscatterScale, Gathered, backscatter, describe, look, time_range
from sarseg.product.model import INCIDENCE_BAND, POLARISATIONS, Conversion, Layer, Product, Radiometry
from sarseg.raster.archive import Member
from sarseg.raster.dimap import Dimap, DimapBand, embedded_header, open_bands, parse_dimap, read_header
from sarseg.raster.joined import renamed
from sarseg.raster.raw import RawRaster
from sarseg.raster.read import Raster, open_raster

SIDE_ENDING = ".sarseg.yaml"

_RADIOMETRIES: dict[str, Radiometry] = {"gamma0": "gamma0", "sigma0": "sigma0", "beta0": "beta0"}
_SCALE_WORDS: dict[str, BackscatterScale] = {
    "db": "db",
    "decibel": "db",
    "power": "power",
    "linear": "power",
    "intensity": "power",
    "amplitude": "amplitude",
}
_SWATH = re.compile(r"(iw|ew|s|wv)\d")
_ELEMENT = re.compile(r"^(?P<letter>[TC])(?P<row>[1-4])(?P<col>[1-4])(?:_(?P<part>real|imag))?$")
_LOCAL_INCIDENCE = "localIncidenceAngle"
_ASK = "say what they are in a side file {name}.sarseg.yaml: `bands: [VV, VH]`, `quantity: gamma0`, `scale: db`"
_MATRIX_FOLDER = re.compile(r"^[TC][2-4]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one band of backscatter is."""

    polarisation: str
    radiometry: Radiometry
    scale: BackscatterScale
    scale_told: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A side file: what the user says of a raster; None where it says nothing."""

    path: Path
    bands: tuple[str, ...] | None
    quantity: Radiometry | None
    scale: BackscatterScale | None
    nodata: float | None
    datetime: str | None
    platform: str | None


def _utc(stamp: str, place: Path) -> str:
    """ISO 8601 in UTC; a time without a zone is one. YAML reads times as such: they come as `2021-06-30 12:00:00+00:00`."""
    try:
        moment = datetime.fromisoformat(stamp)
        moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment
    except (ValueError, OverflowError) as error:
        raise UsageError(f"datetime is '{stamp}'", place, "write it as 2021-06-30T12:00:00Z") from error
    return f"{moment.replace(tzinfo=None).isoformat()}Z"


def read_side(path: Path) -> Side | None:
    """The side file of a product: `<name>.sarseg.yaml` beside it, `name` with or without its ending; None without one.

    UsageError for a wrong key or value, with the line.
    """
    names = dict.fromkeys(path.with_name(f"{name}{SIDE_ENDING}") for name in (path.name, path.stem) if name)
    place = next((one for one in names if one.is_file()), None)
    if place is None:
        return None
    from pydantic import create_model

    from sarseg.flatyaml import read_flat

    fields: dict[str, Any] = {
        "bands": (tuple[str, ...] | None, None),
        "polarisation": (str | None, None),
        "quantity": (Radiometry | None, None),
        "scale": (BackscatterScale | None, None),
        "nodata": (float | None, None),
        "datetime": (str | None, None),
        "platform": (str | None, None),
    }
    found = read_flat(place, create_model("side file", **fields), kind="side file")
    single = found.get("polarisation")
    bands = found.get("bands") or ((single,) if single else None)
    if bands is not None and len(set(bands)) < len(bands):
        raise UsageError(f"a band is named twice: {', '.join(bands)}", place)
    return Side(
        path=place,
        bands=bands,
        quantity=found.get("quantity"),
        scale=found.get("scale"),
        nodata=found.get("nodata"),
        datetime=_utc(found["datetime"], place) if found.get("datetime") is not None else None,
        platform=found.get("platform"),
    )


def open_described(place: str, path: Path, side: Side | None, scale: BackscatterScale | None) -> Product:
    """One raster file: by its side file, SNAP's header in it, or its band descriptions; else its bands as they stand.

    Parameters
    ----------
    place : as GDAL opens it
    path : as the user gave it
    scale : of the backscatter, where the caller says it
    """
    raster = open_raster(place)
    if side is not None and (side.bands is not None or side.quantity is not None):
        return _by_side(raster, path, side, scale)
    scale = scale or (side.scale if side is not None else None)
    content = embedded_header(Path(place)) if place.lower().endswith((".tif", ".tiff")) and not place.startswith("/vsi") else None
    if content is not None:
        header = parse_dimap(content, place)
        if len(header.bands) != len(raster.bands):
            raise InputError(f"SNAP's header names {len(header.bands)} bands, the raster has {len(raster.bands)}", place, "it is damaged")
        names = [band.name for band in header.bands]
        whole = renamed(raster, names)
        return _by_snap(path, header, dict.fromkeys(names, whole), scale, stored=True)
    matrix = matrix_bands(raster.bands)
    if matrix is not None and len(matrix) == len(raster.bands):
        return _matrix(path, path.stem, raster.grid, dict.fromkeys(matrix, raster))
    meanings = {name: meaning_of(name) for name in raster.bands}
    if any(meanings.values()):
        return _by_descriptions(raster, path, meanings, scale)
    if scale is not None:
        raise UsageError("a scale alone does not say what the bands are", path, _ASK.format(name=path.stem))
    return Product(
        path=path,
        id=path.stem,
        grid=raster.grid,
        quantity="raw",
        rasters=dict.fromkeys(raster.bands, raster),
        mask_raster=None,
        item={},
    )


def open_dimap(dim: Member, path: Path, scale: BackscatterScale | None, beside: Sequence[Member] = ()) -> Product:
    """A BEAM-DIMAP product on the map, by its .dim file; InputError for one in radar geometry, and for a damaged one."""
    header = read_header(dim)
    if header.grid is None:
        raise InputError("the product is in radar geometry", path, "run SNAP's Terrain-Correction, or `sarseg preprocess` on its source")
    rasters = open_bands(header, header.grid, dim, beside)
    if not rasters:
        raise InputError("the product has no band with a file", path, "its bands are virtual: write it again with their data")
    return _by_snap(path, header, rasters, scale, stored=False)


def open_matrix(files: Gathered) -> Product | None:
    """A PolSARpro folder (T3, C3, T2, C2, T4, C4): raw bands with ENVI headers, or config.txt; None when it is none."""
    binaries = {PurePosixPath(one.base).stem: one for one in files.members if one.base.lower().endswith(".bin")}
    elements = [name for name in binaries if _ELEMENT.match(name)]
    if files.chosen is not None or not elements:
        return None
    folders = {str(PurePosixPath(binaries[name].name).parent) for name in elements}
    if len(folders) > 1 or len({name[0] for name in elements}) > 1:
        raise InputError("several matrices lie here", files.path, f"give one of {', '.join(sorted(folders))}")
    order = _order(elements)
    missing = [name for name in order if name not in binaries]
    if missing:
        raise InputError(f"{', '.join(f'{name}.bin' for name in missing)} missing", files.path, "a matrix needs all its elements")
    config = next(
        (one for one in files.members if one.base.lower() == "config.txt" and str(PurePosixPath(one.name).parent) in folders), None
    )
    layers: dict[str, Layer] = {}
    for name in order:
        member = binaries[name]
        headers = [one for one in files.members if one.base.lower() in (f"{name}.bin.hdr".lower(), f"{name}.hdr".lower())]
        if headers:
            raster = member.raster(headers)
            if raster.dtype != "float32" or len(raster.bands) != 1:
                raise InputError(f"{len(raster.bands)} band(s) of {raster.dtype} where PolSARpro has one of float32", member.place)
            layers[name] = renamed(raster, [name])
        elif config is None or member.kind:
            raise InputError(f"neither {name}.bin.hdr nor config.txt is there", files.path, "copy the whole folder")
        else:
            layers[name] = RawRaster(member.place, _grid_of_config(config), (name,), "<f4")
    grid = layers[order[0]].grid
    if any(layer.grid != grid for layer in layers.values()):
        raise InputError("the elements of the matrix differ in size or place", files.path)
    # of a folder that is called T3 the folder above has the name of the scene
    name = f"{files.path.absolute().parent.name}_{files.name}" if _MATRIX_FOLDER.match(files.name) else files.name
    return _matrix(files.path, name, grid, layers)


def is_element(name: str) -> bool:
    """Whether a band's name is that of an element of a matrix."""
    return _ELEMENT.match(name) is not None


def matrix_bands(names: Sequence[str]) -> tuple[str, ...] | None:
    """The elements of a covariance or coherency matrix among band names, in one order; None when they make none.

    >>> matrix_bands(["C22", "C11", "C12_imag", "C12_real"])
    ('C11', 'C22', 'C12_real', 'C12_imag')
    """
    elements = [name for name in names if is_element(name)]
    if not elements or len({name[0] for name in elements}) > 1:
        return None
    order = _order(elements)
    return order if set(order) <= set(elements) else None


def matrix_elements(letter: str, size: int) -> tuple[str, ...]:
    """The elements of a matrix: the diagonal, then the upper triangle row by row, real before imaginary parts.

    >>> matrix_elements("C", 2)
    ('C11', 'C22', 'C12_real', 'C12_imag')
    """
    numbers = range(1, size + 1)
    upper = [f"{letter}{row}{col}_{part}" for row in numbers for col in numbers if col > row for part in ("real", "imag")]
    return (*(f"{letter}{at}{at}" for at in numbers), *upper)


def meaning_of(description: str, unit: str = "") -> Meaning | None:
    """What a band name such as "Sigma0_VV_db" or "gamma0 HH (power)" says; None unless it says polarisation and quantity.

    >>> meaning_of("Gamma0_VH_db").scale, meaning_of("VV")
    ('db', None)
    """
    words = [word for word in re.split(r"[^a-z0-9]+", description.lower()) if word and not _SWATH.fullmatch(word)]
    polarisations = [word.upper() for word in words if word.upper() in POLARISATIONS]
    quantities = [_RADIOMETRIES[word] for word in words if word in _RADIOMETRIES]
    scales = [_SCALE_WORDS[word] for word in words if word in _SCALE_WORDS]
    if len(polarisations) != 1 or len(quantities) != 1 or len(words) != 2 + len(scales) or len(scales) > 1:
        return None
    units = [_SCALE_WORDS[word] for word in re.split(r"[^a-z]+", unit.lower()) if word in _SCALE_WORDS]
    if "db" in units:
        units = ["db"]
    told = scales or units
    if scales and units and scales[0] != units[0]:
        return None
    return Meaning(polarisation=polarisations[0], radiometry=quantities[0], scale=told[0] if told else "power", scale_told=bool(told))


def _by_side(raster: Raster, path: Path, side: Side, scale: BackscatterScale | None) -> Product:
    chosen = scale or side.scale
    if side.quantity is None or chosen is None:
        raise UsageError("quantity or scale is missing", side.path, "`quantity: gamma0` and `scale: power` (or amplitude, db)")
    names = side.bands or raster.bands
    if len(names) != len(raster.bands):
        raise UsageError(f"{len(names)} bands are named, the raster has {len(raster.bands)}", side.path, "name all of them, in their order")
    if not any(name in POLARISATIONS for name in names):
        raise UsageError(f"no band is a polarisation: {', '.join(names)}", side.path, f"`bands: [VV, VH]`, of {', '.join(POLARISATIONS)}")
    rule = backscatter(chosen, () if side.nodata is None else (side.nodata,))
    rules = {name: rule for name in names if name in POLARISATIONS}
    said = {"datetime": side.datetime, "platform": side.platform, "sarseg:scale": chosen}
    item = describe("raster with a side file", radiometry=side.quantity, warnings=(), **said)
    return _of_layers(path, dict.fromkeys(names, renamed(raster, names)), rules, item)


def _by_descriptions(raster: Raster, path: Path, meanings: Mapping[str, Meaning | None], scale: BackscatterScale | None) -> Product:
    """A raster whose descriptions say quantity and polarisation; where they do not say the scale, it is taken as power."""
    chosen = _choose(meanings, path)
    warnings = _left_over(meanings, chosen)
    untold = [name for name in chosen if not meanings[name].scale_told]  # type: ignore[union-attr]
    if untold and scale is None:
        values = look(raster, untold[0])
        if values.size and float(np.median(values)) < 0:
            raise UsageError(f"{untold[0]} has negative values: these are decibels", path, _ASK.format(name=path.stem))
        warnings.append(f"taken as linear power, since nothing says the scale: {', '.join(untold)}")
    names = [chosen.get(name, name) for name in raster.bands]
    rules = {chosen[name]: backscatter(scale or one.scale) for name, one in meanings.items() if one is not None and name in chosen}
    item = describe("described GeoTIFF", radiometry=_radiometry(meanings, chosen), warnings=warnings)
    return _of_layers(path, dict.fromkeys(names, renamed(raster, names)), rules, item)


def _by_snap(path: Path, header: Dimap, rasters: Mapping[str, Raster], scale: BackscatterScale | None, *, stored: bool) -> Product:
    """SNAP's bands. `stored`: the rasters give stored values (a GeoTIFF), else physical ones (GDAL scales an ENVI file)."""
    bands = {band.name: band for band in header.bands if band.name in rasters}
    matrix = matrix_bands(list(bands))
    if matrix is not None:
        rules = {name: _snap_rule(bands[name], None, scale, stored=stored) for name in matrix}
        return _matrix(path, path.stem, next(iter(rasters.values())).grid, {name: rasters[name] for name in matrix}, rules)
    meanings = {name: meaning_of(name, band.unit) for name, band in bands.items()}
    if not any(meanings.values()):
        raise UsageError(f"no band is calibrated backscatter by its name: {', '.join(bands)}", path, _ASK.format(name=path.stem))
    chosen = _choose(meanings, path)
    names = {name: chosen.get(name, INCIDENCE_BAND if name == _LOCAL_INCIDENCE else name) for name in bands}
    rules = {
        names[name]: _snap_rule(band, meanings[name] if name in chosen else None, scale, stored=stored) for name, band in bands.items()
    }
    whole = {id(raster): renamed(raster, [names[one] for one in raster.bands]) for raster in rasters.values()}
    layers = {names[name]: whole[id(raster)] for name, raster in rasters.items()}
    warnings = _left_over(meanings, chosen)
    warnings += ["its layover and shadow mask is not read as a mask"] if "layover_shadow_mask" in bands else []
    item = describe("SNAP product", radiometry=_radiometry(meanings, chosen), warnings=warnings, **_of_header(header))
    return _of_layers(path, layers, rules, item)


def _snap_rule(band: DimapBand, meaning: Meaning | None, scale: BackscatterScale | None, *, stored: bool) -> Conversion:
    factor, offset = (band.factor, band.offset) if stored else (1.0, 0.0)
    nodata = () if band.nodata is None else (band.nodata if stored else band.nodata * band.factor + band.offset,)
    if meaning is None or (scale or meaning.scale) == "power":
        return Conversion(factor=factor, offset=offset, nodata=nodata)
    if (factor, offset) != (1.0, 0.0):
        raise InputError(f"band {band.name} is scaled by {factor:g}", hint="write the product again as float32")
    return backscatter(scale or meaning.scale, nodata)


def _choose(meanings: Mapping[str, Meaning | None], path: Path) -> dict[str, str]:
    """File bands that become the product's, with their polarisation: of one radiometry, linear before decibels."""
    known = {name: one for name, one in meanings.items() if one is not None}
    radiometry = next(word for word in get_args(Radiometry) if any(one.radiometry == word for one in known.values()))
    found: dict[str, str] = {}
    for polarisation in POLARISATIONS:
        same = [name for name, one in known.items() if (one.polarisation, one.radiometry) == (polarisation, radiometry)]
        for scale in ("power", "amplitude", "db"):
            fitting = [name for name in same if known[name].scale == scale]
            if len(fitting) > 1:
                raise UsageError(f"several bands are {radiometry} {polarisation}: {', '.join(fitting)}", path, _ASK.format(name=path.stem))
            if fitting and polarisation not in found.values():
                found[fitting[0]] = polarisation
    return found


def _left_over(meanings: Mapping[str, Meaning | None], chosen: Mapping[str, str]) -> list[str]:
    left = [name for name, one in meanings.items() if one is not None and name not in chosen]
    return [f"beside {', '.join(chosen)} there are also {', '.join(left)}: read as they stand"] if left else []


def _radiometry(meanings: Mapping[str, Meaning | None], chosen: Mapping[str, str]) -> Radiometry:
    return next(one.radiometry for name, one in meanings.items() if one is not None and name in chosen)


def _of_layers(path: Path, layers: Mapping[str, Layer], rules: Mapping[str, Conversion], item: dict[str, Any]) -> Product:
    """Polarisations are the bands, all others can be read beside them."""
    radar = [name for name in POLARISATIONS if name in layers]
    item["properties"]["sar:polarizations"] = radar
    return Product(
        path=path,
        id=path.stem,
        grid=layers[radar[0]].grid,
        quantity="power",
        rasters={name: layers[name] for name in (*radar, *(name for name in layers if name not in radar))},
        mask_raster=None,
        auxiliary=frozenset(name for name in layers if name not in radar) | {INCIDENCE_BAND},
        conversions={name: rule for name, rule in rules.items() if rule != Conversion()},
        item=item,
    )


def _matrix(path: Path, name: str, grid: MapGrid, layers: Mapping[str, Layer], rules: Mapping[str, Conversion] | None = None) -> Product:
    """The elements of a matrix as bands, all of them linear power."""
    size = sum(diagonals_of(one) is None for one in layers)
    return Product(
        path=path,
        id=name,
        grid=grid,
        quantity="power",
        rasters=dict(layers),
        mask_raster=None,
        conversions={name: rule for name, rule in (rules or {}).items() if rule != Conversion()},
        item=describe(f"polarimetric matrix {next(iter(layers))[0]}{size}", radiometry=None, warnings=()),
    )


def _order(elements: Sequence[str]) -> tuple[str, ...]:
    """All elements of the matrix that these are of."""
    return matrix_elements(elements[0][0], max(int(digit) for name in elements for digit in name[1:3]))


def _grid_of_config(config: Member) -> MapGrid:
    """PolSARpro's config.txt: a word, its value in the next line, dashes."""
    lines = [line.strip() for line in config.read(1 << 16).decode("latin-1").splitlines()]
    sides = []
    for word in ("Nrow", "Ncol"):
        value = lines[lines.index(word) + 1] if word in lines[:-1] else ""
        if not re.fullmatch(r"[1-9]\d{0,6}", value):
            raise InputError(f"{word} is '{value[:40]}', no number of pixels", config.place, "it is damaged")
        sides.append(int(value))
    return MapGrid(crs=None, transform=Affine.identity(), shape=(sides[0], sides[1]))


def _of_header(header: Dimap) -> dict[str, Any]:
    """STAC properties of SNAP's header."""
    said = header.metadata
    platform = said.get("MISSION", "").lower().replace("_", "-")
    times = {}
    if header.start_utc is not None and header.stop_utc is not None:
        times = time_range(header.start_utc, header.stop_utc)
    return {
        **times,
        "platform": platform or None,
        "sat:orbit_state": said.get("PASS", "").lower() or None,
        "sar:instrument_mode": said.get("ACQUISITION_MODE") or None,
        "sarseg:scene": said.get("PRODUCT") or None,
    }
