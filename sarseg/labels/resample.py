"""Bring class codes onto another grid: a copy, a majority, or the nearest pixel; each pixel's answer depends on nothing else.

- One lattice: the codes as they are.
- Source pixels finer, same CRS: the class that most source pixels have whose centres lie in the target pixel. Nodata and
  ignore do not count; where two classes have equal counts 255; where no class is, 255 if any of them was 255, else 0.
- Otherwise: the source pixel in which the target pixel's centre lies, taken there by PROJ's exact formulas.
A centre exactly on an edge belongs to the pixel right of or below it. Outside of the source: 0.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid, transform_points
from sarseg.labels.sources import LabelSource, Remap, open_labels
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.product.open import open_product
from sarseg.progress import Progress, silent
from sarseg.raster.cog import CogSpec, create_cog
from sarseg.tiles import Window, blocks

log = logging.getLogger(__name__)

Rule = Literal["copy", "majority", "nearest"]
_TILE = 128  # target pixels counted at once, along a side: 128 x 128 x 255 counts are 33 MB
_STRIP = 2048  # source pixels read at once, along a side
_EDGE_PX = 1e-6  # a centre this close to an edge lies on it: coordinates are rounded


def make_labels(
    source: str | Path,
    like: str | Path,
    out: Path,
    *,
    legend: Legend | None = None,
    remap: Remap | None = None,
    progress: Progress = silent,
) -> Path:
    """Write the class raster `source` onto the grid of `like` (a product folder or raster) as the COG `out`, and return it.

    The file holds uint8 codes (0 nodata, 255 ignore), the colour table, class tags, and how it was made. Memory is a block.

    Raises
    ------
    InputError : no legend, a value that is no class, or no labelled pixel on the grid
    """
    labels, grid = open_labels(source, legend, remap), open_product(like).grid
    rule = choose_rule(labels.grid, grid)
    tags = {**labels.legend.tags(), "label_source": Path(source).name, "label_resampling": rule}
    spec = CogSpec(
        grid=grid,
        dtype="uint8",
        bands=("class",),
        nodata=NODATA,
        overviews="mode",
        tags=tags,
        colormap=labels.legend.colormap(),
    )
    todo, empty = blocks(grid.shape), True
    with create_cog(out, spec) as cog:
        for done, window in enumerate(todo):
            progress(done, len(todo), "labels")
            codes = on_grid(labels, grid, window, rule)
            if codes.any():
                empty = False
                cog.write(window, codes)
        if empty:
            raise InputError("no labelled pixel falls on the grid", source, f"labels and {like} do not overlap")
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
    straight = all(grid.transform.b == 0 and grid.transform.d == 0 for grid in (source, target))
    finer = [fine / coarse for fine, coarse in zip(source.spacing, target.spacing, strict=True)]
    if source.crs == target.crs and straight and max(finer) <= 1 + _EDGE_PX and min(finer) < 1 - _EDGE_PX:
        return "majority"
    return "nearest"


def on_grid(labels: LabelSource, grid: MapGrid, window: Window, rule: Rule) -> NDArray[np.uint8]:
    """Codes uint8 (rows, cols) of a window of `grid`."""
    if rule == "copy":
        return _copy(labels, grid, window)
    out = np.zeros(window.shape, np.uint8)
    for tile in blocks(window.shape, _TILE):
        part = tile.shift(rows=window.row, cols=window.col)
        out[tile.slices] = _majority(labels, grid, part) if rule == "majority" else _nearest(labels, grid, part)
    return out


def _copy(labels: LabelSource, grid: MapGrid, window: Window) -> NDArray[np.uint8]:
    out = np.zeros(window.shape, np.uint8)
    offset = labels.grid.offset_of(grid)
    assert offset is not None
    there = window.shift(rows=offset[0], cols=offset[1])
    inside = there.clip(labels.grid.shape)
    if inside is not None:
        out[inside.relative_to(there).slices] = labels.codes(inside)
    return out


def _nearest(labels: LabelSource, grid: MapGrid, window: Window) -> NDArray[np.uint8]:
    matrix = grid.transform
    col, row = np.meshgrid(np.arange(window.col, window.col_stop) + 0.5, np.arange(window.row, window.row_stop) + 0.5)
    x, y = matrix.a * col + matrix.b * row + matrix.c, matrix.d * col + matrix.e * row + matrix.f
    if grid.crs is not None and labels.grid.crs is not None:
        x, y = transform_points(grid.crs, labels.grid.crs, x, y)
    out = np.zeros(window.shape, np.uint8)
    with np.errstate(invalid="ignore"):
        at_row, at_col = (np.floor(place + 0.5 + _EDGE_PX) for place in labels.grid.pixel_of(x, y))
        rows, cols = labels.grid.shape
        inside = (at_row >= 0) & (at_row < rows) & (at_col >= 0) & (at_col < cols)
    if not inside.any():
        return out
    here_row, here_col = at_row[inside].astype(np.int64), at_col[inside].astype(np.int64)
    row0, col0 = int(here_row.min()), int(here_col.min())
    codes = labels.codes(Window(row=row0, col=col0, rows=int(here_row.max()) - row0 + 1, cols=int(here_col.max()) - col0 + 1))
    out[inside] = codes[here_row - row0, here_col - col0]
    return out


def _majority(labels: LabelSource, grid: MapGrid, window: Window) -> NDArray[np.uint8]:
    source, rows, cols = labels.grid, *window.shape
    around = source.window_covering(grid.crop(window).bounds)
    if around is None:
        return np.zeros(window.shape, np.uint8)
    lookup, classes = labels.legend.lookup(), len(labels.legend.codes)
    counts = np.zeros(rows * cols * (classes + 1), np.int64)
    for strip in blocks(around.shape, _STRIP):
        part = strip.shift(rows=around.row, cols=around.col)
        x, y = source.centres(part)
        across, down = grid.pixel_of(x, np.full_like(x, y[0]))[1], grid.pixel_of(np.full_like(y, x[0]), y)[0]
        to_col = np.floor(across + 0.5 + _EDGE_PX).astype(np.int64) - window.col
        to_row = np.floor(down + 0.5 + _EDGE_PX).astype(np.int64) - window.row
        in_row, in_col = (to_row >= 0) & (to_row < rows), (to_col >= 0) & (to_col < cols)
        codes = labels.codes(part)[np.ix_(in_row, in_col)]
        target = (to_row[in_row, None] * cols + to_col[None, in_col]) * (classes + 1)
        # the last place of each pixel counts ignore; nodata counts nowhere
        place = np.where(codes == IGNORE, classes, lookup[codes])
        some = codes != NODATA
        counts += np.bincount((target + place)[some], minlength=counts.size)
    table = counts.reshape(rows, cols, classes + 1)
    most = table[..., :classes].max(-1)
    tied = (table[..., :classes] == most[..., np.newaxis]).sum(-1) > 1
    best = np.where(tied, np.uint8(IGNORE), np.array(labels.legend.codes, np.uint8)[table[..., :classes].argmax(-1)])
    found = most > 0
    return np.where(found, best, np.where(table[..., classes] > 0, IGNORE, NODATA)).astype(np.uint8)
