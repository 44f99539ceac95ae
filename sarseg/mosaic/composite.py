"""Mosaic: each block of the output is a function of the sorted maps that touch it, whatever the order of the arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from sarseg.errors import InputError, UsageError
from sarseg.grid import Bounds, MapGrid, transform_points
from sarseg.legend import Legend
from sarseg.mosaic.fuse import Observation, fuse
from sarseg.product import folder as names
from sarseg.product.landcover import MapSpec, MapWriter, create_map
from sarseg.product.open import LandcoverMap, open_map
from sarseg.progress import Progress, silent
from sarseg.raster.cog import Compression
from sarseg.raster.read import Raster, open_raster
from sarseg.tiles import BLOCK, Window
from sarseg.version import __version__

_MOST_UNION = 50  # the union of all maps may be so many times their own area: beyond it they lie on different continents
_FULL_CONFIDENCE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicOptions:
    """How to fuse. `workers` threads fuse blocks at the same time; their number changes no bit."""

    workers: int = 2
    compress: Compression = "zstd"

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"workers is {self.workers}", hint="at least 1")


@dataclass(frozen=True, slots=True)
class Placed:
    """One map and where it lies in the mosaic.

    `offset` is (row, col) of its first pixel when the two share a lattice, None when it is resampled (nearest neighbour);
    `touches` are the mosaic's pixels that it may reach.
    """

    source: LandcoverMap
    probabilities: Raster | None
    offset: tuple[int, int] | None
    touches: Window


def mosaic(map_paths: Sequence[str | Path], out_dir: str | Path, options: MosaicOptions | None = None, progress: Progress = silent) -> Path:
    """Fuse maps into one map folder with landcover.tif, confidence.tif and count.tif (number of maps at a pixel).

    Every map votes (`fuse`). The grid is the union of the maps on the lattice of the first map (by id) in the CRS that
    most pixels have; other grids and CRS are resampled to the nearest pixel at exact coordinates.

    Parameters
    ----------
    map_paths : map folders, or class rasters with class tags; at least one
    out_dir : the map folder to write; an older one there is replaced

    Returns
    -------
    `out_dir`; InputError for different legends, for maps with and without CRS, and for maps on different continents
    """
    options = options or MosaicOptions()
    if not map_paths:
        raise UsageError("no maps to fuse")
    maps = sorted((open_map(path) for path in map_paths), key=lambda one: (one.id, str(one.path.resolve())))
    legend, out_dir = common_legend(maps), Path(out_dir)
    grid = union_grid(maps)
    warnings: list[str] = []
    placed = _place(maps, grid, warnings)
    spec = MapSpec(id=out_dir.name, grid=grid, legend=legend, layers=frozenset({"count"}), compress=options.compress)
    with create_map(out_dir, spec) as writer:
        _each(touched_blocks(placed, grid.shape), lambda block: _fuse_block(block, placed, grid, writer), options.workers, progress)
        if not writer.mapped_pixels:
            warnings.append("no map has a class anywhere: the mosaic is nodata")
        writer.describe(
            datetimes_utc=[stamp for one in maps for stamp in _datetimes(one)],
            properties={
                "sarseg:sources": [one.id for one in maps],
                "sarseg:fused_by": "probability" if all(one.probabilities for one in placed) else "confidence",
                "sarseg:version": __version__,
            },
            warnings=warnings,
        )
    return out_dir


def common_legend(maps: Sequence[LandcoverMap]) -> Legend:
    """The legend that all maps have; InputError when two differ in a code or a name."""
    first = maps[0]
    for one in maps[1:]:
        if (one.legend.codes, one.legend.names) != (first.legend.codes, first.legend.names):
            raise InputError(
                f"the legends differ: {_said(first.legend)} in {first.id}, {_said(one.legend)} in {one.id}",
                one.path,
                "maps of one model, or of one legend, can be fused",
            )
    return first.legend


def union_grid(maps: Sequence[LandcoverMap]) -> MapGrid:
    """The grid that covers all maps, on the lattice of the first map in the CRS with the most pixels (ties: the first).

    InputError when maps with and without CRS meet, or when the union is absurdly large.
    """
    pixels: dict[str, int] = {}
    anchors: dict[str, MapGrid] = {}
    for one in maps:
        if one.grid.crs is None:
            if any(other.grid != one.grid for other in maps):
                raise InputError("a map without CRS can only be fused with maps of the very same grid", one.path)
            return one.grid
        key = one.grid.crs.to_wkt()
        pixels[key] = pixels.get(key, 0) + math.prod(one.grid.shape)
        anchors.setdefault(key, one.grid)
    anchor = anchors[max(pixels, key=lambda key: pixels[key])]
    boxes = [_box(one.grid, anchor) for one in maps]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    shape = (bottom - top, right - left)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in boxes)
    if math.prod(shape) > _MOST_UNION * area:
        raise InputError(
            f"the maps lie too far apart: their union of {shape[0]} x {shape[1]} pixels is {math.prod(shape) / area:.0f} times their area",
            ", ".join(one.id for one in maps),
            "fuse those of one region at a time",
        )
    return MapGrid(crs=anchor.crs, transform=anchor.transform @ Affine.translation(left, top), shape=shape)


def touched_blocks(placed: Sequence[Placed], shape: tuple[int, int]) -> list[Window]:
    """The mosaic's blocks that at least one map may reach, row by row; the others stay sparse."""
    found = set()
    for one in placed:
        rows = range(one.touches.row // BLOCK, (one.touches.row_stop - 1) // BLOCK + 1)
        cols = range(one.touches.col // BLOCK, (one.touches.col_stop - 1) // BLOCK + 1)
        found |= {(row * BLOCK, col * BLOCK) for row in rows for col in cols}
    return [Window(row=r, col=c, rows=min(BLOCK, shape[0] - r), cols=min(BLOCK, shape[1] - c)) for r, c in sorted(found)]


def _place(maps: Sequence[LandcoverMap], grid: MapGrid, warnings: list[str]) -> list[Placed]:
    with_probabilities = [one for one in maps if one.path.is_dir() and (one.path / names.PROBABILITIES).is_file()]
    without_confidence = [one.id for one in maps if one.confidence_raster is None]
    if without_confidence:
        warnings.append(f"maps without confidence vote with full confidence: {', '.join(without_confidence)}")
    placed, resampled = [], []
    for one in maps:
        offset = grid.offset_of(one.grid)
        if offset is None:
            resampled.append(one.id)
            left, top, right, bottom = _box(one.grid, grid)
            touches = Window(row=top, col=left, rows=bottom - top, cols=right - left).expand(2).clip(grid.shape)
        else:
            touches = Window(row=offset[0], col=offset[1], rows=one.grid.shape[0], cols=one.grid.shape[1]).clip(grid.shape)
        assert touches is not None, "the union covers every map"
        use = len(with_probabilities) == len(maps)
        placed.append(Placed(one, open_raster(one.path / names.PROBABILITIES) if use else None, offset, touches))
    if resampled:
        warnings.append(f"on another grid or CRS, resampled to the nearest pixel: {', '.join(resampled)}")
    return placed


def _box(grid: MapGrid, anchor: MapGrid) -> tuple[int, int, int, int]:
    """First column and row, and one past the last, of a grid's outline counted in the anchor's pixels."""
    bounds: Bounds = grid.bounds_in(anchor.crs)
    if not all(map(math.isfinite, bounds)) or bounds[0] > bounds[2]:
        raise InputError(f"a map does not fit the CRS {anchor.crs} of the mosaic", bounds, "fuse maps of one region at a time")
    corners = [~anchor.transform @ (x, y) for x in (bounds[0], bounds[2]) for y in (bounds[1], bounds[3])]
    cols, rows = [corner[0] for corner in corners], [corner[1] for corner in corners]
    whole = 1e-4  # a bound that is a whole pixel but for rounding
    return math.floor(min(cols) + whole), math.floor(min(rows) + whole), math.ceil(max(cols) - whole), math.ceil(max(rows) - whole)


def _fuse_block(block: Window, placed: Sequence[Placed], grid: MapGrid, writer: MapWriter) -> None:
    legend = writer.spec.legend
    observations = [seen for one in placed if one.touches.intersect(block) and (seen := observe(one, block, grid, legend)) is not None]
    if not observations:
        return
    fused = fuse(observations, classes=len(legend.codes), shape=block.shape)
    codes = np.where(fused.count > 0, np.asarray(legend.codes, np.uint8)[fused.index], 0).astype(np.uint8)
    writer.write(block, codes, fused.confidence, count=fused.count)


def observe(one: Placed, block: Window, grid: MapGrid, legend: Legend) -> Observation | None:
    """What a map says of a block of the mosaic; None when none of its pixels falls in."""
    shape = one.source.grid.shape
    if one.offset is not None:
        window = block.shift(rows=-one.offset[0], cols=-one.offset[1])
        row, col = np.arange(window.row, window.row_stop)[:, np.newaxis], np.arange(window.col, window.col_stop)[np.newaxis, :]
        row, col = np.broadcast_arrays(row, col)
    else:
        row, col = _nearest(one.source.grid, grid, block)
    inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
    if not inside.any():
        return None
    first_row, first_col = int(row[inside].min()), int(col[inside].min())
    rows, cols = int(row[inside].max()) - first_row + 1, int(col[inside].max()) - first_col + 1
    window = Window(row=first_row, col=first_col, rows=rows, cols=cols)
    at = (np.where(inside, row - first_row, 0), np.where(inside, col - first_col, 0))
    codes = np.where(inside, one.source.codes(window)[at], 0)
    confidence = one.source.confidence(window)
    return Observation(
        index=legend.lookup()[codes],
        confidence=np.full(codes.shape, _FULL_CONFIDENCE, np.uint8) if confidence is None else confidence[at],
        probabilities=None if one.probabilities is None else _probabilities(one.probabilities, window)[:, at[0], at[1]],
    )


def _probabilities(raster: Raster, window: Window) -> NDArray[np.uint16]:
    return np.stack([raster.read_codes(window, band) for band in range(len(raster.bands))]).astype(np.uint16)


def _nearest(source: MapGrid, grid: MapGrid, block: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column in `source` of the pixel under each centre of a block of `grid`, int64 (rows, cols); -1 where there is none."""
    x, y = grid.centres(block)
    xs, ys = np.meshgrid(x, y)
    row, col = source.pixel_of(*transform_points(grid.crs, source.crs, xs, ys))
    return tuple(np.where(np.isfinite(part), np.floor(part + 0.5), -1).astype(np.int64) for part in (row, col))  # type: ignore[return-value]


def _each(blocks: Sequence[Window], work: Callable[[Window], None], workers: int, progress: Progress) -> None:
    """Do all blocks in threads; the first failure ends the rest and is raised here."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mosaic")
    try:
        for done, _ in enumerate(pool.map(work, blocks), start=1):
            progress(done, len(blocks), "mosaic")
    finally:
        pool.shutdown(cancel_futures=True)


def _datetimes(one: LandcoverMap) -> list[str]:
    properties = one.item.get("properties", {})
    ends = [properties.get("start_datetime"), properties.get("end_datetime")]
    return [str(properties["datetime"])] if properties.get("datetime") else [str(end) for end in ends if end]


def _said(legend: Legend) -> str:
    return ", ".join(f"{code} {name}" for code, name in zip(legend.codes, legend.names, strict=True))
