"""SNAP's BEAM-DIMAP: the header, which SNAP also embeds in its GeoTIFFs, band files and tie-point grids (docs/products.md 6)."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.raster.archive import Member, parse_xml
from sarseg.raster.read import Raster

Floats = NDArray[np.float64]

_SNAP_TAG = 65000
_MOST_HEADER_BYTES = 64 << 20
_MOST_ENVI_BYTES = 1 << 20
_MOST_BANDS = 10_000
_ENVI_TYPES = {"uint8": "1", "int8": "1", "int16": "2", "int32": "3", "float32": "4", "float64": "5", "uint16": "12", "uint32": "13"}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True, slots=True, kw_only=True)
class DimapBand:
    """One band of the header.

    Parameters
    ----------
    unit : as SNAP writes it: "intensity", "intensity_db", "deg", ...
    header : name of its ENVI header relative to the .dim file, "" where the band has no file (a virtual band, a GeoTIFF)
    nodata : as it is stored, None where the band has none
    factor, offset : physical value = stored * factor + offset
    """

    name: str
    unit: str
    header: str
    shape: tuple[int, int]
    dtype: str
    nodata: float | None
    factor: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DimapTiePoints:
    """One tie-point grid of the header.

    Parameters
    ----------
    header : name of its ENVI header relative to the .dim file
    shape : nodes (rows, cols)
    first : (line, pixel) of the first node, 0 = centre of the product's first pixel
    step : lines and pixels between nodes
    cyclic : angles that jump by 360 degrees somewhere
    """

    name: str
    unit: str
    header: str
    shape: tuple[int, int]
    first: tuple[float, float]
    step: tuple[float, float]
    cyclic: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiePoints:
    """A tie-point grid with its values, float32 (rows, cols)."""

    grid: DimapTiePoints
    values: NDArray[np.float32]

    def at(self, line: Floats, pixel: Floats) -> Floats:
        """Bilinear values, float64 (...), at positions in the product (0 = centre of the first pixel); straight on beyond the grid."""
        place = []
        for value, first, step, count in zip((line, pixel), self.grid.first, self.grid.step, self.grid.shape, strict=True):
            at = (np.asarray(value, np.float64) - first) / step
            node = np.clip(np.floor(at), 0, max(count - 2, 0)).astype(np.int64)
            place.append((node, np.minimum(node + 1, count - 1), at - node))
        (row, below, down), (col, right, across) = place
        corner = self.values[row, col].astype(np.float64)
        others = [self.values[at].astype(np.float64) - corner for at in ((row, right), (below, col), (below, right))]
        if self.grid.cyclic:
            others = [other - 360.0 * np.round(other / 360.0) for other in others]
        change = others[0] * across * (1 - down) + others[1] * (1 - across) * down + others[2] * across * down
        found = corner + change
        return (found + 180.0) % 360.0 - 180.0 if self.grid.cyclic else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimap:
    """A header; `grid` is None for a product in radar geometry, times are None where they are not told."""

    name: str
    shape: tuple[int, int]
    grid: MapGrid | None
    bands: tuple[DimapBand, ...]
    tie_points: tuple[DimapTiePoints, ...]
    start_utc: np.datetime64 | None
    stop_utc: np.datetime64 | None
    metadata: dict[str, str]
    """The entries of the "Abstracted_Metadata": MISSION, PASS, ABS_ORBIT, ..."""


def parse_dimap(content: bytes, where: object) -> Dimap:
    """The header of a product; InputError when it is damaged, or of another format."""
    root = parse_xml(content, where)
    if root.tag != "Dimap_Document" or not _text(root, "Metadata_Id/METADATA_PROFILE").startswith("BEAM-DATAMODEL"):
        raise InputError("no BEAM-DIMAP header", where)
    shape = (_count(root, "Raster_Dimensions/NROWS", where), _count(root, "Raster_Dimensions/NCOLS", where))
    headers: dict[str, str] = {}
    for node in root.findall("Data_Access/Data_File"):
        path = node.find("DATA_FILE_PATH")
        headers[_text(node, "BAND_INDEX")] = path.get("href", "") if path is not None else ""
    infos = root.findall("Image_Interpretation/Spectral_Band_Info")
    if not 0 < len(infos) <= _MOST_BANDS:
        raise InputError(f"the header names {len(infos)} bands", where, "it is damaged")
    metadata = {}
    for node in root.iterfind(".//MDElem[@name='Abstracted_Metadata']/MDATTR"):
        metadata[node.get("name", "")] = (node.text or "").strip()
    return Dimap(
        name=_text(root, "Dataset_Id/DATASET_NAME"),
        shape=shape,
        grid=_grid(root, shape, where),
        bands=tuple(_band(info, headers, where) for info in infos),
        tie_points=_tie_points(root, where),
        start_utc=_time(_text(root, "Production/PRODUCT_SCENE_RASTER_START_TIME")),
        stop_utc=_time(_text(root, "Production/PRODUCT_SCENE_RASTER_STOP_TIME")),
        metadata=metadata,
    )


def read_header(dim: Member) -> Dimap:
    """The header of a .dim file; InputError as `parse_dimap`."""
    return parse_dimap(dim.read(_MOST_HEADER_BYTES), dim.place)


def open_bands(header: Dimap, grid: MapGrid, dim: Member, beside: Sequence[Member] = ()) -> dict[str, Raster]:
    """The rasters of a header's bands, by name, on its grid; a band without a file is left out.

    Parameters
    ----------
    dim : the .dim file
    beside : the other files of the archive that holds it; of a plain one the files are found where the header says

    InputError when a file is missing, or does not fit the header.
    """
    found = {}
    for band in header.bands:
        if not band.header:
            continue
        if band.shape != grid.shape:
            raise InputError(f"band {band.name} has {band.shape[0]} x {band.shape[1]} pixels, not the product's", dim.place)
        envi = _beside(dim, beside, band.header)
        image = _beside(dim, beside, band.header.removesuffix(".hdr") + ".img")
        _check_envi(band, envi)
        raster = image.raster([envi])
        found[band.name] = replace(raster, grid=grid, bands=(band.name,))
    return found


def read_tie_points(header: Dimap, dim: Member, beside: Sequence[Member] = ()) -> dict[str, TiePoints]:
    """The tie-point grids of a product, by name; parameters and errors as of `open_bands`."""
    found = {}
    for grid in header.tie_points:
        envi = _beside(dim, beside, grid.header)
        band = DimapBand(
            name=grid.name, unit=grid.unit, header=grid.header, shape=grid.shape, dtype="float32", nodata=None, factor=1.0, offset=0.0
        )
        _check_envi(band, envi)
        image = _beside(dim, beside, grid.header.removesuffix(".hdr") + ".img")
        found[grid.name] = TiePoints(grid=grid, values=image.raster([envi]).read()[0])
    return found


def embedded_header(path: Path) -> bytes | None:
    """The header that SNAP embeds in a GeoTIFF (tag 65000); None when there is none. Only the first directory is walked."""
    try:
        with path.open("rb") as file:
            return _tag(file, _SNAP_TAG)
    except (OSError, struct.error):
        return None


def _tag(file: BinaryIO, wanted: int) -> bytes | None:
    """Content of an ASCII tag of a TIFF or BigTIFF."""
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None or len(start) < 16:
        return None
    version = struct.unpack(f"{order}H", start[2:4])[0]
    if version == 42:
        (place,), counter, entry = struct.unpack(f"{order}I", start[4:8]), f"{order}H", f"{order}HHII"
    elif version == 43:
        (place,), counter, entry = struct.unpack(f"{order}Q", start[8:16]), f"{order}Q", f"{order}HHQQ"
    else:
        return None
    file.seek(place)
    (count,) = struct.unpack(counter, file.read(struct.calcsize(counter)))
    for _ in range(min(count, _MOST_BANDS)):
        tag, kind, length, offset = struct.unpack(entry, file.read(struct.calcsize(entry)))
        if tag == wanted and kind == 2 and 8 < length <= _MOST_HEADER_BYTES:
            file.seek(offset)
            return file.read(length).rstrip(b"\0")
    return None


def _grid(root: Any, shape: tuple[int, int], where: object) -> MapGrid | None:
    text = _text(root, "Geoposition/IMAGE_TO_MODEL_TRANSFORM")
    wkt = _text(root, "Coordinate_Reference_System/WKT")
    if not text or not wkt:
        return None
    try:
        a, d, b, e, c, f = (float(number) for number in text.split(","))  # Java's order: column by column
        crs = CRS.from_wkt(wkt)
        code = crs.to_epsg()
        if not all(map(math.isfinite, (a, b, c, d, e, f))):
            raise ValueError(text)
        return MapGrid(crs=CRS.from_epsg(code) if code else crs, transform=Affine(a, b, c, d, e, f), shape=shape)
    except (ValueError, CRSError) as error:
        raise InputError("the header's georeference is damaged", where, str(error)) from error


def _band(info: Any, headers: dict[str, str], where: object) -> DimapBand:
    name = _text(info, "BAND_NAME")
    dtype = _text(info, "DATA_TYPE")
    if not name or dtype not in _ENVI_TYPES:
        raise InputError(f"band '{name}' of type '{dtype}' is not known", where, "the header is damaged")
    if _text(info, "LOG10_SCALED") == "true":
        raise InputError(f"band {name} is stored as a logarithm", where, "write it again without scaling")
    used = _text(info, "NO_DATA_VALUE_USED") == "true"
    return DimapBand(
        name=name,
        unit=_text(info, "PHYSICAL_UNIT"),
        header=headers.get(_text(info, "BAND_INDEX"), ""),
        shape=(_count(info, "BAND_RASTER_HEIGHT", where), _count(info, "BAND_RASTER_WIDTH", where)),
        dtype=dtype,
        nodata=_number(info, "NO_DATA_VALUE", where, 0.0) if used else None,
        factor=_number(info, "SCALING_FACTOR", where, 1.0),
        offset=_number(info, "SCALING_OFFSET", where, 0.0),
    )


def _tie_points(root: Any, where: object) -> tuple[DimapTiePoints, ...]:
    headers = {}
    for node in root.findall("Data_Access/Tie_Point_Grid_File"):
        path = node.find("TIE_POINT_GRID_FILE_PATH")
        headers[_text(node, "TIE_POINT_GRID_INDEX")] = path.get("href", "") if path is not None else ""
    found = []
    for info in root.findall("Tie_Point_Grids/Tie_Point_Grid_Info")[:_MOST_BANDS]:
        name, index = _text(info, "TIE_POINT_GRID_NAME"), _text(info, "TIE_POINT_GRID_INDEX")
        if not headers.get(index):
            continue  # of a GeoTIFF
        offset, step = ([_number(info, f"{key}_{axis}", where, math.nan) for axis in "YX"] for key in ("OFFSET", "STEP"))
        if not (all(map(math.isfinite, (*offset, *step))) and min(step) > 0) or _text(info, "DATA_TYPE") != "float32":
            raise InputError(f"the tie-point grid '{name}' has no place", where, "the header is damaged")
        found.append(
            DimapTiePoints(
                name=name,
                unit=_text(info, "PHYSICAL_UNIT"),
                header=headers[index],
                shape=(_count(info, "NROWS", where), _count(info, "NCOLS", where)),
                first=(offset[0] - 0.5, offset[1] - 0.5),
                step=(step[0], step[1]),
                cyclic=_text(info, "CYCLIC") == "true",
            )
        )
    return tuple(found)


def _beside(dim: Member, beside: Sequence[Member], name: str) -> Member:
    """A file that the header names; InputError when it is not there or lies outside of the product."""
    if not name or name.startswith("/") or ".." in re.split(r"[/\\]", name) or ":" in name or "\\" in name:
        raise InputError(f"the header names a file outside of the product: {name[:80]!r}", dim.place)
    folder = dim.name.rpartition("/")[0]
    full = f"{folder}/{name}" if folder else name
    if dim.kind:
        found = next((one for one in beside if one.name == full), None)
    else:
        path = dim.root / full
        found = Member(root=dim.root, name=full, size_bytes=path.stat().st_size) if path.is_file() else None
    if found is None:
        raise InputError(f"{name} is missing", dim.place, "copy the .data folder with the .dim file")
    return found


def _check_envi(band: DimapBand, envi: Member) -> None:
    """The ENVI header says the same as the DIMAP one, since GDAL reads by it."""
    text = envi.read(_MOST_ENVI_BYTES).decode("latin-1")
    said = {key.strip().lower(): value.strip() for key, value in re.findall(r"^([^=\n]{1,60})=([^\n]{0,200})", text, re.MULTILINE)}
    rows, cols = band.shape
    wanted = {"samples": str(cols), "lines": str(rows), "bands": "1", "header offset": "0", "data type": _ENVI_TYPES[band.dtype]}
    for key, value in wanted.items():
        if said.get(key) != value:
            raise InputError(f"{key} is {said.get(key)} where the product's header says {value}", envi.place, "it is damaged")
    if said.get("byte order") not in ("0", "1") or not text.startswith("ENVI"):
        raise InputError("no ENVI header with a byte order", envi.place, "it is damaged")
    for key, factor, plain in (("data gain values", band.factor, 1.0), ("data offset values", band.offset, 0.0)):
        try:
            given = float(said.get(key, "").strip("{} ") or plain)
        except ValueError:
            given = math.nan
        if given != factor:
            raise InputError(f"{key} are {said.get(key)} where the product's header says {factor}", envi.place, "it is damaged")


def _text(node: Any, path: str) -> str:
    return (node.findtext(path) or "").strip()


def _count(node: Any, path: str, where: object) -> int:
    text = _text(node, path)
    if not re.fullmatch(r"[1-9]\d{0,6}", text):
        raise InputError(f"{path} is '{text[:40]}', no number of pixels", where, "the header is damaged")
    return int(text)


def _number(node: Any, path: str, where: object, default: float) -> float:
    text = _text(node, path)
    try:
        return float(text) if text else default
    except ValueError as error:
        raise InputError(f"{path} is '{text[:40]}', no number", where, "the header is damaged") from error


def _time(text: str) -> np.datetime64 | None:
    """As SNAP writes it: 23-DEC-2021 05:11:32.794663."""
    found = re.fullmatch(r"(\d\d)-([A-Z]{3})-(\d{4}) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)", text.upper())
    if found is None or found[2] not in _MONTHS:
        return None
    try:
        return np.datetime64(f"{found[3]}-{_MONTHS.index(found[2]) + 1:02d}-{found[1]}T{found[4]}", "us")
    except ValueError:
        return None
