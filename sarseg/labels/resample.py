"""Bring class codes onto another grid: a copy, a majority, or the nearest pixel; each pixel's answer depends on nothing else.

- One lattice: the codes as they are.
- Source pixels finer, in whatever CRS: the class that has the largest area of the target pixel. The corners of the source
  pixels are taken into the target's CRS by PROJ's exact formulas and joined by straight lines (docs/labels.md 5 has the error).
  Nodata and ignore do not compete; where two classes have equal areas 255; where no class has any, 255 if any of it is ignore, else 0.
- Otherwise: the source pixel in which the target pixel's centre lies, taken there by PROJ's exact formulas.
A centre exactly on an edge belongs to the pixel right of or below it. Outside of the source: 0.
Vector polygons are drawn at the target's pixel centres (`sarseg.labels.vector`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid, transform_points
from sarseg.labels.known import READY, Origin
from sarseg.labels.options import LabelOptions, check_dates
from sarseg.labels.sources import Labels, Remap, open_sources
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.product.open import Product, open_product
from sarseg.progress import Progress, silent
from sarseg.raster.cog import CogSpec, create_cog
from sarseg.tiles import Window, blocks

Rule = Literal["copy", "majority", "nearest"]
Floats = NDArray[np.float64]

_TILE = 256  # target pixels treated at once, along a side: with 44 classes the areas are 24 MB
_STRIP = 1024  # source pixels read at once, along a side
_EDGE_PX = 1e-6  # a place this close to an edge lies on it: coordinates are rounded
_SLIVER = 1e-6  # of a pixel: areas below it, or closer to one another, are rounding


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Labels that can be put on the wanted grid."""

    legend: Legend
    origin: Origin
    on: Callable[[Window], NDArray[np.uint8]]
    tags: dict[str, str] = field(default_factory=dict)


def make_labels(
    source: str | Path,
    like: str | Path,
    out: Path,
    options: LabelOptions | None = None,
    *,
    legend: Legend | None = None,
    progress: Progress = silent,
) -> Path:
    """Write labels of any source that we know onto the grid of `like` as the COG `out`, and return it.

    The file holds uint8 codes (0 nodata, 255 ignore), the colour table, class tags, and how it was made. Memory is a block.

    Parameters
    ----------
    source : class raster, folder or archive of tiles, vector file, or Dstl's table of polygons
    like : a product folder or a raster
    options : how the source is recognised, remapped and dated
    legend : the classes of the codes that come out, where neither a ready remap nor the source names them

    Raises
    ------
    UsageError : something that must be told: the edition of a forest map, the class field of a vector file; a class field of a raster;
        an output in the place of an input
    InputError : no legend, a value that is no class, labels too many years from the scene, no labelled pixel on the grid
    """
    source, product, options = Path(source), open_product(like), options or LabelOptions()
    if out.resolve() in (source.resolve(), Path(like).resolve()):
        raise UsageError("the labels would take the place of what they are made of", out, "choose another output file")
    if options.class_field is not None and not is_vector(source):
        raise UsageError(f"no vector file, and so no field '{options.class_field}'", source, "leave the class field away")
    ready, remap = options.remap, None
    if ready is not None and ready not in READY:
        remap, ready = Remap.from_file(Path(ready)), None
    if source.suffix.lower() == ".csv":
        layer = _of_table(source, product, legend, remap, ready)
    elif is_vector(source):
        layer = _of_vector(source, product.grid, legend, remap, options)
    else:
        labels = open_sources(source, legend, remap, replace(options, remap=ready))
        layer = _of_raster(labels, product.grid, options.min_purity)
    check_dates(layer.origin.year, product.datetime_utc, options.max_years)
    if options.remap is not None:
        layer.tags["label_remap"] = Path(options.remap).name
    return _write(layer, source, product, out, progress)


def is_vector(path: Path) -> bool:
    """Whether the name is one of a vector file."""
    return path.name.lower().endswith((".gpkg", ".geojson", ".json", ".shp", ".fgb"))


def _of_raster(labels: Labels, grid: MapGrid, min_purity: float | None) -> _Layer:
    rule = choose_rule(labels.grid, grid)
    tags = {"label_resampling": rule, "label_ratio": f"{pixel_ratio(labels.grid, grid):.4g}"}
    if min_purity is not None:
        tags["label_min_purity"] = f"{min_purity:g}"
    return _Layer(
        legend=labels.legend, origin=labels.origin, on=lambda window: on_grid(labels, grid, window, rule, min_purity=min_purity), tags=tags
    )


def _of_vector(source: Path, grid: MapGrid, legend: Legend | None, remap: Remap | None, options: LabelOptions) -> _Layer:
    from sarseg.labels.vector import open_vector

    if options.remap in READY:
        raise UsageError(f"remap '{options.remap}' has no table for vector files", source, "give a YAML file of `value: code` lines")
    if options.kind is not None:
        raise UsageError(f"a vector file is not {options.kind}", source, "give a legend file")
    drawing = open_vector(source, grid, class_field=options.class_field, legend=legend, remap=remap)
    origin = Origin(year=options.year)
    return _Layer(legend=drawing.legend, origin=origin, on=drawing.codes, tags={"label_resampling": "polygons"})


def _of_table(source: Path, product: Product, legend: Legend | None, remap: Remap | None, ready: str | None) -> _Layer:
    from sarseg.labels.dstl import open_dstl

    drawing = open_dstl(source, product.path, product.grid, legend=legend, remap=ready or remap)
    return _Layer(legend=drawing.legend, origin=Origin(kind="dstl"), on=drawing.codes, tags={"label_resampling": "polygons"})


def _write(layer: _Layer, source: Path, product: Product, out: Path, progress: Progress) -> Path:
    grid, origin = product.grid, layer.origin
    dated = {"label_kind": origin.kind, "label_year": origin.year, "label_version": origin.version, "scene_datetime": product.datetime_utc}
    tags = {
        **layer.legend.tags(),
        "label_source": source.name,
        **layer.tags,
        **{name: str(value) for name, value in dated.items() if value is not None},
    }
    colormap = layer.legend.colormap()
    spec = CogSpec(grid=grid, dtype="uint8", bands=("class",), nodata=NODATA, overviews="mode", tags=tags, colormap=colormap)
    todo, empty = blocks(grid.shape), True
    with create_cog(out, spec) as cog:
        for done, window in enumerate(todo):
            progress(done, len(todo), "labels")
            codes = layer.on(window)
            if codes.any():
                empty = False
                cog.write(window, codes)
        if empty:
            raise InputError("no labelled pixel falls on the grid", source, f"labels and {product.path} do not overlap")
        progress(len(todo), len(todo), "labels")
    return out


def choose_rule(source: MapGrid, target: MapGrid) -> Rule:
    """How codes come from one grid onto another.

    InputError when only one of them has a georeference, or when none has and the sizes differ.
    """
    if (source.crs is None) != (target.crs is None):
        raise InputError("one of labels and image has a georeference, the other has none", hint="georeference both, or none")
    if source.crs is None and source.shape != target.shape:
        sizes = " and ".join(f"{rows} x {cols}" for rows, cols in (source.shape, target.shape))
        raise InputError(f"labels and image without georeference have {sizes} pixels", hint="they must be of equal size")
    if source.offset_of(target) is not None:
        return "copy"
    sides = np.hypot(*_steps(source, target))
    return "majority" if sides.max() <= 1 + _EDGE_PX and sides.min() < 1 - _EDGE_PX else "nearest"


def pixel_ratio(source: MapGrid, target: MapGrid) -> float:
    """Side of a source pixel over side of a target pixel, by their areas at the middle of the target: below 1 = finer labels."""
    return float(np.sqrt(abs(np.linalg.det(_steps(source, target)))))


def _steps(source: MapGrid, target: MapGrid) -> Floats:
    """Columns: one source column and one source row, in target pixels (x, y), in the middle of the target; NaN if it has no place."""
    row, col = target.shape[0] / 2, target.shape[1] / 2
    if source.crs == target.crs:
        matrix = ~target.transform @ source.transform
        return np.array([[matrix.a, matrix.b], [matrix.d, matrix.e]])
    assert source.crs is not None
    assert target.crs is not None
    x, y = (np.array([value]) for value in target.transform @ (col, row))
    at_row, at_col = source.pixel_of(*transform_points(target.crs, source.crs, x, y))
    rows, cols = at_row + np.array([0.0, 0.0, 1.0]), at_col + np.array([0.0, 1.0, 0.0])
    down, across = _in_target(source, target, rows + 0.5, cols + 0.5)
    steps = np.array([[across[1] - across[0], across[2] - across[0]], [down[1] - down[0], down[2] - down[0]]])
    return np.where(np.isfinite(steps), steps, np.nan)


def on_grid(labels: Labels, grid: MapGrid, window: Window, rule: Rule, *, min_purity: float | None = None) -> NDArray[np.uint8]:
    """Codes uint8 (rows, cols) of a window of `grid`.

    Parameters
    ----------
    min_purity : by "majority", a class with a smaller share of the pixel's area becomes ignore; the share counts ignore, nodata and
        what lies outside of the labels as well
    """
    if rule == "copy":
        return _copy(labels, grid, window)
    out = np.zeros(window.shape, np.uint8)
    for tile in blocks(window.shape, _TILE):
        part = tile.shift(rows=window.row, cols=window.col)
        out[tile.slices] = _majority(labels, grid, part, min_purity or 0.0) if rule == "majority" else _nearest(labels, grid, part)
    return out


def _copy(labels: Labels, grid: MapGrid, window: Window) -> NDArray[np.uint8]:
    out = np.zeros(window.shape, np.uint8)
    offset = labels.grid.offset_of(grid)
    assert offset is not None
    there = window.shift(rows=offset[0], cols=offset[1])
    inside = there.clip(labels.grid.shape)
    if inside is not None:
        out[inside.relative_to(there).slices] = labels.codes(inside)
    return out


def _nearest(labels: Labels, grid: MapGrid, window: Window) -> NDArray[np.uint8]:
    row, col = np.meshgrid(np.arange(window.row, window.row_stop) + 0.5, np.arange(window.col, window.col_stop) + 0.5, indexing="ij")
    out = np.zeros(window.shape, np.uint8)
    at_row, at_col = (np.floor(place + _EDGE_PX) for place in _in_target(grid, labels.grid, row, col))
    rows, cols = labels.grid.shape
    with np.errstate(invalid="ignore"):
        inside = (at_row >= 0) & (at_row < rows) & (at_col >= 0) & (at_col < cols)
    if not inside.any():
        return out
    here_row, here_col = at_row[inside].astype(np.int64), at_col[inside].astype(np.int64)
    row0, col0 = int(here_row.min()), int(here_col.min())
    codes = labels.codes(Window(row=row0, col=col0, rows=int(here_row.max()) - row0 + 1, cols=int(here_col.max()) - col0 + 1))
    out[inside] = codes[here_row - row0, here_col - col0]
    return out


def _majority(labels: Labels, grid: MapGrid, window: Window, min_purity: float) -> NDArray[np.uint8]:
    from sarseg.labels.area import UNIT, add_areas

    around = _covering(labels.grid, grid, window)
    if around is None:
        return np.zeros(window.shape, np.uint8)
    classes = len(labels.legend.codes)
    # the last place counts ignore; nodata counts nowhere
    places = labels.legend.lookup().astype(np.int16)
    places[IGNORE], places[NODATA] = classes, -1
    areas = np.zeros((*window.shape, classes + 1), np.int64)
    for strip in blocks(around.shape, _STRIP):
        part = strip.shift(rows=around.row, cols=around.col)
        codes = labels.codes(part)
        if codes.any():
            row, col = _corners(part)
            down, across = (_snapped(place) for place in _in_target(labels.grid, grid, row, col))
            add_areas(down, across, places[codes], (window.row, window.col), areas)
    most, sliver = areas[..., :classes].max(-1), int(_SLIVER * UNIT)
    rivals = (areas[..., :classes] >= (most - sliver)[..., np.newaxis]).sum(-1)
    best = np.array(labels.legend.codes, np.uint8)[areas[..., :classes].argmax(-1)]
    mixed = (rivals > 1) | (most < int(min_purity * UNIT) - sliver)
    nothing = np.where(areas[..., classes] > sliver, IGNORE, NODATA)
    return np.where(most > sliver, np.where(mixed, IGNORE, best), nothing).astype(np.uint8)


def _covering(source: MapGrid, grid: MapGrid, window: Window) -> Window | None:
    """The source pixels that may touch a window of `grid`, one more on each side, or None."""
    places = [place[np.isfinite(place)] for place in _in_target(grid, source, *_corners(window))]
    if not all(place.size for place in places):
        return None
    (row0, row1), (col0, col1) = ((np.floor(place.min()) - 1, np.ceil(place.max()) + 1) for place in places)
    rows, cols = source.shape
    if row1 <= 0 or col1 <= 0 or row0 >= rows or col0 >= cols:
        return None
    row0, row1, col0, col1 = max(0, int(row0)), min(rows, int(row1)), max(0, int(col0)), min(cols, int(col1))
    return Window(row=row0, col=col0, rows=row1 - row0, cols=col1 - col0)


def _corners(window: Window) -> tuple[Floats, Floats]:
    """Row and column of every pixel corner of a window, float64 (rows + 1, cols + 1)."""
    rows, cols = np.arange(window.row, window.row_stop + 1.0), np.arange(window.col, window.col_stop + 1.0)
    row, col = np.meshgrid(rows, cols, indexing="ij")
    return row, col


def _in_target(source: MapGrid, target: MapGrid, row: Floats, col: Floats) -> tuple[Floats, Floats]:
    """Places of one grid, (row, col) from its outer edge, in pixels of another from its outer edge; inf or NaN where there is none."""
    matrix = source.transform
    x, y = matrix.a * col + matrix.b * row + matrix.c, matrix.d * col + matrix.e * row + matrix.f
    if source.crs is not None and target.crs is not None:
        x, y = transform_points(source.crs, target.crs, x, y)
    with np.errstate(invalid="ignore"):
        at_row, at_col = target.pixel_of(x, y)
    return at_row + 0.5, at_col + 0.5


def _snapped(place: Floats) -> Floats:
    """Places on the whole pixel where they are rounding away from it."""
    with np.errstate(invalid="ignore"):
        whole = np.rint(place)
        return np.where(np.abs(place - whole) < _EDGE_PX, whole, place)
