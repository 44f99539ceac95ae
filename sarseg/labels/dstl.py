"""Dstl's table of polygons (`ImageId,ClassType,MultipolygonWKT`) with its grid sizes, on an image without georeference."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.labels.known import composed, legend_of, ready_remap
from sarseg.labels.polygons import Drawing, Floats, Polygon
from sarseg.labels.sources import Remap
from sarseg.labels.vector import without_repeat
from sarseg.legend import IGNORE, NODATA, Legend

_HEADER = ["ImageId", "ClassType", "MultipolygonWKT"]
_SIZES_HEADER = ["", "Xmax", "Ymin"]
_IMAGE = re.compile(r"(?<!\d)(\d{4}_\d_\d)(?!\d)")
_MAX_FIELD = 1 << 28  # characters; the longest real ones have a few million
_PARENTHESES = re.compile(r"[()]")


def open_dstl(path: Path, image: Path, grid: MapGrid, *, legend: Legend | None, remap: Remap | str | None) -> Drawing:
    """The polygons of one image of the competition, in its pixels; the table of grid sizes lies beside `path` (`grid_sizes*.csv`).

    Parameters
    ----------
    image : its name holds the image's id, e.g. 6120_2_4.tif
    remap : a ready table's name, or a table; None keeps the classes 1..10

    Raises
    ------
    UsageError : an image without id, more or fewer than one table of grid sizes
    InputError : a damaged table, an image that has a georeference or stands in no row
    """
    found = _IMAGE.search(image.name)
    if found is None:
        raise UsageError("the name of the image holds no id of the competition", image, "e.g. 6120_2_4.tif")
    if grid.crs is not None:
        raise InputError("the image has a georeference, and the table counts in parts of the image", image)
    x_max, y_min = _grid_size(path, found[1])
    codes = _codes(remap, path)
    if legend is None:
        legend = ready_remap(remap).legend if isinstance(remap, str) else legend_of("dstl") if remap is None else None
    legend = legend or Legend.from_codes(codes.values())
    known = {NODATA, IGNORE, *legend.codes}
    if not set(codes.values()) <= known:
        raise InputError("a code of the remap table is not in the legend", path, "add the class to the legend")
    rows, cols = grid.shape
    # the competition's scaling: the grid's end is a little inside of the last pixel's edge
    scale = np.array([cols * cols / (cols + 1) / x_max, rows * rows / (rows + 1) / y_min])
    polygons = [
        Polygon.from_rings([ring * scale for ring in rings], codes[kind])
        for kind, text in _rows_of(path, found[1])
        for rings in wkt_rings(text, path)
    ]
    return Drawing.of(polygons, legend)


def wkt_rings(text: str, where: object) -> list[list[Floats]]:
    """The rings, float64 (n, 2), of each polygon of a POLYGON or MULTIPOLYGON; InputError for anything else."""
    body = text.strip()
    kind = re.match(r"(MULTIPOLYGON|POLYGON)\s*(EMPTY\s*$|\()", body, re.IGNORECASE)
    if kind is None:
        raise InputError(f"'{body[:40]}' is no polygon in WKT", where)
    if kind[2].upper().startswith("EMPTY"):
        return []
    innermost = 3 if kind[1].upper() == "MULTIPOLYGON" else 2
    out: list[list[Floats]] = []
    depth, start = 0, 0
    for found in _PARENTHESES.finditer(body):
        if found[0] == "(":
            depth += 1
            start = found.end()
            if depth == innermost - 1:
                out.append([])
            continue
        if depth == innermost:
            out[-1].append(_ring(body[start : found.start()], where))
        depth -= 1
        if depth < 0:
            break
    if depth != 0 or not all(out):
        raise InputError(f"'{body[:40]}...' is damaged WKT", where)
    return out


def _ring(text: str, where: object) -> Floats:
    try:
        ring = np.array([[float(part) for part in point.split()[:2]] for point in text.split(",")], np.float64)
    except ValueError as error:
        raise InputError("a ring of a polygon is damaged", where, str(error)) from error
    if ring.ndim != 2 or ring.shape[1] != 2 or not np.isfinite(ring).all():
        raise InputError("a ring of a polygon is damaged", where)
    return without_repeat(ring)


def _codes(remap: Remap | str | None, path: Path) -> dict[int, int]:
    """Output code of each class."""
    if remap is None:
        return {code: code for code in legend_of("dstl").codes}
    if isinstance(remap, str):
        return composed("dstl", ready_remap(remap).table("dstl", path), None, path)
    return composed("dstl", remap.codes, remap.default, path)


def _rows_of(path: Path, image_id: str) -> Iterator[tuple[int, str]]:
    """Class and polygons of each row of an image; UsageError when it has none."""
    seen = False
    for row in _table(path, _HEADER):
        if row[0] == image_id:
            seen = True
            if not row[1].strip().isdecimal() or int(row[1]) not in legend_of("dstl").codes:
                raise InputError(f"'{row[1]}' is no class of the competition", path, "classes are 1..10")
            yield int(row[1]), row[2]
    if not seen:
        raise InputError(f"the table has no row for image {image_id}", path, "only 25 of the competition's images have labels")


def _grid_size(path: Path, image_id: str) -> tuple[float, float]:
    tables = sorted(path.parent.glob("grid_sizes*.csv"))
    if len(tables) != 1:
        raise UsageError(
            f"{len(tables)} tables grid_sizes*.csv lie beside the polygons", path, "put the competition's grid_sizes.csv there"
        )
    for row in _table(tables[0], _SIZES_HEADER):
        if row[0] == image_id:
            try:
                x_max, y_min = float(row[1]), float(row[2])
            except ValueError as error:
                raise InputError(f"the grid size of {image_id} is damaged", tables[0], str(error)) from error
            if not (math.isfinite(x_max) and math.isfinite(y_min) and x_max > 0 > y_min):
                raise InputError(f"the grid size of {image_id} is {x_max}, {y_min}", tables[0], "x is above and y below zero")
            return x_max, y_min
    raise InputError(f"no grid size for image {image_id}", tables[0])


def _table(path: Path, header: list[str]) -> Iterator[list[str]]:
    """The rows of a CSV file with the given header."""
    limit = csv.field_size_limit(_MAX_FIELD)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            if next(rows, None) != header:
                raise InputError(f"the table does not begin with {','.join(header)}", path)
            for row in rows:
                if len(row) != len(header):
                    raise InputError(f"a row of the table has {len(row)} fields, not {len(header)}", f"{path}:{rows.line_num}")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("the table cannot be read", path, str(error)) from error
    finally:
        csv.field_size_limit(limit)
