"""Vector polygons with a class field (GeoPackage, GeoJSON, Shapefile, FlatGeobuf) as polygons of a grid."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid, transform_points
from sarseg.labels.polygons import Drawing, Floats, Polygon
from sarseg.labels.sources import Remap
from sarseg.legend import IGNORE, NODATA, Legend

log = logging.getLogger(__name__)

_BEND_PX = 1e-4  # how far an edge may lie from where its straight line in the file's CRS comes to lie on the grid
_LONG_PX = 64.0
_MAX_HALVINGS = 24
_POLYGON, _MULTIPOLYGON = 3, 6


def open_vector(path: Path, grid: MapGrid, *, class_field: str | None, legend: Legend | None, remap: Remap | None) -> Drawing:
    """The polygons that may touch a grid, in its pixels.

    Edges are straight in the file's CRS; on the grid they bend, which is followed to a ten-thousandth of a pixel.

    Parameters
    ----------
    class_field : holds integers (codes, or values of `remap`) or names (of `legend`; without one, the names of the whole file in
        their order get the codes 1, 2, ...). May be None when the file has one field only

    Raises
    ------
    UsageError : the field must be named
    InputError : a damaged file, geometry that is no polygon, a class that the legend lacks
    """
    layer, info = _layer_of(path)
    crs = _crs_of(info["crs"], path)
    if (crs is None) != (grid.crs is None):
        raise InputError("one of polygons and image has a georeference, the other has none", path, "georeference both, or none")
    name = _field_of(info, class_field, path)
    codes, legend = _codes_of(_read(path, layer=layer, columns=[name], read_geometry=False)[3][0], legend, remap, path)
    bbox = _bbox(grid, crs)
    _, fids, shapes, fields = _read(path, layer=layer, columns=[name], force_2d=True, return_fids=True, **({"bbox": bbox} if bbox else {}))
    polygons: list[Polygon] = []
    for fid, shape, value in zip(fids, shapes, fields[0], strict=True):
        if shape is not None:
            polygons += [
                Polygon.from_rings([_on_grid(ring, crs, grid, path) for ring in rings], codes[value])
                for rings in _rings_of(shape, f"{path}, feature {fid}")
                if rings
            ]
    return Drawing.of(polygons, legend)


def _layer_of(path: Path) -> tuple[str, dict[str, Any]]:
    """Name and description of the only layer of polygons."""
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    if not path.exists():
        raise InputError("no such file", path)
    try:
        with _told(path):
            layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
            if len(layers) != 1:
                raise UsageError(f"the file has {len(layers)} layers with geometry: {', '.join(layers)}", path, "give one with one layer")
            return layers[0], pyogrio.read_info(path, layer=layers[0])
    except (DataSourceError, DataLayerError) as error:
        raise InputError("cannot be read as a vector file", path, str(error)) from error


def _read(path: Path, **how: Any) -> Any:
    import pyogrio.raw
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

    try:
        with _told(path):
            return pyogrio.raw.read(path, **how)
    except (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError, ValueError) as error:
        raise InputError("the vector file is damaged", path, str(error)) from error


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """The driver's warnings go to the log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        log.warning("%s: %s", path, one.message)


def _crs_of(text: str | None, path: Path) -> CRS | None:
    if not text:
        return None
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise InputError("the coordinate system is not known", path, str(error)) from error


def _field_of(info: dict[str, Any], wanted: str | None, path: Path) -> str:
    fields = [str(name) for name in info["fields"]]
    if wanted is None and len(fields) != 1:
        raise UsageError(
            "the field with the classes must be named", path, f"--class-field, one of {', '.join(fields) or '(there is none)'}"
        )
    name = wanted or fields[0]
    if name not in fields:
        raise UsageError(f"the file has no field '{name}'", path, f"fields are {', '.join(fields)}")
    return name


def _codes_of(values: NDArray[Any], legend: Legend | None, remap: Remap | None, path: Path) -> tuple[dict[Any, int], Legend]:
    """Code of each value of the class field of the whole file, so that the part that is read changes no code; and the legend."""
    present = list(dict.fromkeys(values.tolist()))
    if not present:
        raise InputError("the file has no features", path)
    if all(isinstance(value, str) for value in present):
        if remap is not None:
            raise UsageError("a remap table takes integers, and the class field holds names", path, "give a legend with these names")
        names = legend.names if legend is not None else tuple(sorted(present))
        if legend is None:
            bare = Legend.from_codes(range(1, len(names) + 1))
            data = [{"code": one.code, "name": name, "color": one.color} for one, name in zip(bare.classes, names, strict=True)]
            legend = Legend.from_dict({"classes": data}, path)
        codes = dict(zip(names, legend.codes, strict=True))
    elif all(isinstance(value, int) for value in present):
        codes = {value: value for value in present}
        if remap is not None:
            codes = {value: int(remap.apply(np.array([value]), None, path)[0]) for value in present}
        legend = legend or Legend.from_codes(_in_range(codes.values(), path))
        codes = {value: code for value, code in codes.items() if code in (NODATA, IGNORE, *legend.codes)}
    else:
        raise InputError("the class field holds neither integers nor names alone", path, "every feature needs a class")
    unknown = [value for value in present if value not in codes]
    if unknown:
        raise InputError(f"class '{unknown[0]}' is not in the legend", path, f"its classes are {', '.join(legend.names)}")
    return codes, legend


def _in_range(codes: Any, path: Path) -> list[int]:
    wrong = [code for code in codes if not NODATA <= code <= IGNORE]
    if wrong:
        raise InputError(f"class {wrong[0]} is not in 0..255", path, "give a remap table")
    return list(codes)


def _bbox(grid: MapGrid, crs: CRS | None) -> tuple[float, float, float, float] | None:
    """Bounds in the file's CRS with some margin; None where they are not a box (over the 180th meridian or a pole)."""
    if crs is None:
        return None
    left, bottom, right, top = grid.bounds_in(crs)
    if not (np.isfinite([left, bottom, right, top]).all() and left < right and bottom < top):
        return None
    more_x, more_y = 0.05 * (right - left), 0.05 * (top - bottom)
    return left - more_x, bottom - more_y, right + more_x, top + more_y


def _on_grid(ring: Floats, crs: CRS | None, grid: MapGrid, path: Path) -> Floats:
    """A ring (n, 2) of x, y in the file's CRS as (col, row) of the grid, with points added where edges bend."""
    places = _places(ring, crs, grid)
    if crs != grid.crs:
        # the bend is looked for in the middle of an edge, where one that bends to both sides has none: long ones are cut beforehand
        after = np.roll(ring, -1, axis=0)
        with np.errstate(invalid="ignore"):
            long = np.flatnonzero(np.abs(np.roll(places, -1, axis=0) - places).max(axis=1) > _LONG_PX)
        ring = np.insert(ring, long + 1, (0.6 * ring + 0.4 * after)[long], axis=0)
        places = _places(ring, crs, grid)
        for _ in range(_MAX_HALVINGS):
            middle = (ring + np.roll(ring, -1, axis=0)) / 2.0
            there = _places(middle, crs, grid)
            bend = np.abs(there - (places + np.roll(places, -1, axis=0)) / 2.0).max(axis=1)
            if not np.isfinite(bend).all():
                break
            at = np.flatnonzero(bend > _BEND_PX)
            if not at.size:
                break
            ring, places = np.insert(ring, at + 1, middle[at], axis=0), np.insert(places, at + 1, there[at], axis=0)
    if not np.isfinite(places).all():
        raise InputError("a polygon reaches where the image's coordinate system has no coordinates", path, "cut it to the scene")
    return places


def _places(points: Floats, crs: CRS | None, grid: MapGrid) -> Floats:
    x, y = points[:, 0], points[:, 1]
    if crs is not None and grid.crs is not None:
        x, y = transform_points(crs, grid.crs, x, y)
    with np.errstate(invalid="ignore"):
        row, col = grid.pixel_of(x, y)
    return np.stack([col + 0.5, row + 0.5], axis=1)


def _rings_of(wkb: bytes, where: str) -> list[list[Floats]]:
    """The rings of each polygon of a two-dimensional WKB geometry; InputError for any other."""
    try:
        kind, count, order, at = _head(wkb, 0)
        if kind not in (_POLYGON, _MULTIPOLYGON):
            raise InputError("the geometry is no polygon", where, "labels are drawn from polygons only")
        if kind == _POLYGON:
            return [_polygon(wkb, count, order, at)[0]]
        out = []
        for _ in range(count):
            kind, rings, order, at = _head(wkb, at)
            polygon, at = _polygon(wkb, rings, order, at)
            out.append(polygon)
        return out
    except (struct.error, ValueError, IndexError) as error:
        raise InputError("the geometry is damaged", where, str(error)) from error


def _head(wkb: bytes, at: int) -> tuple[int, int, str, int]:
    """Kind, number of parts, byte order and next place."""
    order = "<" if wkb[at] == 1 else ">"
    kind, count = struct.unpack_from(f"{order}II", wkb, at + 1)
    return kind, count, order, at + 9


def _polygon(wkb: bytes, count: int, order: str, at: int) -> tuple[list[Floats], int]:
    rings: list[Floats] = []
    for _ in range(count):
        (points,) = struct.unpack_from(f"{order}I", wkb, at)
        ring = np.frombuffer(wkb, f"{order}f8", count=2 * points, offset=at + 4).reshape(points, 2).astype(np.float64)
        at += 4 + 16 * points
        if not np.isfinite(ring).all():
            raise ValueError("a coordinate is not a number")
        if points:
            rings.append(without_repeat(ring))
    return rings, at


def without_repeat(ring: Floats) -> Floats:
    """The ring without its last point where that is the first once more."""
    return ring[:-1] if len(ring) > 1 and np.array_equal(ring[0], ring[-1]) else ring
