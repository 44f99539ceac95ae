"""Two products and where they lie on each other: the second comes onto the first one's pixels, window by window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid, transform_points
from sarseg.product.open import Product
from sarseg.raster.nodes import node_step, on_nodes, transformer_between
from sarseg.tiles import BLOCK, Window

_MOST_SAMPLES = 8
_FINER = 1.5  # B's pixels count as finer than A's from this ratio
_LEAST_BLOCK = 64
_LOOKS = 65
_NOWHERE = -1e9  # a place without an answer in B's CRS lies outside of B

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Products A and B; `read_b` and `mask_b` give B on A's pixels.

    Parameters
    ----------
    window : of A's grid, the pixels that B touches
    offset : on one lattice, (row, col) of A's origin in B; None where B is resampled
    samples : of B along a side of each pixel of A; their mean is taken
    """

    a: Product
    b: Product
    window: Window
    offset: tuple[int, int] | None
    samples: int

    @property
    def block_px(self) -> int:
        """Side of the windows that keep memory small."""
        return max(_LEAST_BLOCK, BLOCK // self.samples)

    @property
    def resampling(self) -> str:
        """How B came onto A's grid, in words."""
        if self.offset is not None:
            return "none: A and B lie on one lattice"
        if self.samples == 1:
            return "bilinear, B at A's pixel centres, no data where one of four pixels has none"
        return f"mean of {self.samples} x {self.samples} bilinear samples of B in each pixel of A, no data where one has none"

    def read_b(self, window: Window, bands: Sequence[str]) -> NDArray[np.float32]:
        """Bands of B on a window of A, float32 (band, rows, cols), NaN = no data."""
        if self.offset is not None:
            return self.b.read(window.shift(rows=self.offset[0], cols=self.offset[1]), bands)
        from scipy.ndimage import map_coordinates

        n, out = self.samples, np.full((len(bands), *window.shape), np.nan, np.float32)
        row, col = self._places(window, n)
        around = _around(row, col, self.b.grid.shape)
        if around is None:
            return out
        read = self.b.read(around, bands)
        for at, band in enumerate(read):
            found = map_coordinates(band, [row - around.row, col - around.col], order=1, cval=np.nan, prefilter=False)
            out[at] = found.reshape(window.rows, n, window.cols, n).mean((1, 3))
        return out

    def mask_b(self, window: Window) -> NDArray[np.uint8]:
        """Mask bits of B on a window of A, those of the nearest pixel; outside of B 1 = no data."""
        if self.offset is not None:
            return self.b.mask(window.shift(rows=self.offset[0], cols=self.offset[1]))
        row, col = (np.floor(place + 0.5) for place in self._places(window, 1))
        rows, cols = self.b.grid.shape
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        out = np.ones(window.shape, np.uint8)
        if inside.any():
            here = row[inside].astype(np.int64), col[inside].astype(np.int64)
            row0, col0 = int(here[0].min()), int(here[1].min())
            read = self.b.mask(Window(row=row0, col=col0, rows=int(here[0].max()) - row0 + 1, cols=int(here[1].max()) - col0 + 1))
            out[inside] = read[here[0] - row0, here[1] - col0]
        return out

    def _places(self, window: Window, samples: int) -> tuple[Floats, Floats]:
        """Fractional (row, col) in B of samples * samples places in each pixel, float64 (rows * samples, cols * samples) each."""
        grid = self.a.grid
        fine = MapGrid(
            crs=grid.crs, transform=grid.transform @ Affine.scale(1 / samples), shape=(grid.shape[0] * samples, grid.shape[1] * samples)
        )
        finer = Window(row=window.row * samples, col=window.col * samples, rows=window.rows * samples, cols=window.cols * samples)
        row, col = np.nan_to_num(on_nodes(fine, finer, node_step(fine), self._exact), nan=_NOWHERE, posinf=_NOWHERE, neginf=_NOWHERE)
        return row, col

    def _exact(self, x: Floats, y: Floats) -> Floats:
        source, target = self.a.grid.crs, self.b.grid.crs
        assert source is not None
        assert target is not None
        if source != target:
            x, y = (_finite(np.asarray(value, np.float64)) for value in transformer_between(source, target).transform(x, y))
        return np.stack(self.b.grid.pixel_of(x, y))


def pair(a: Product, b: Product) -> Pair:
    """Lay two products on each other.

    InputError when only one has a georeference, when images without one differ in size, or when they do not overlap.
    """
    if (a.grid.crs is None) != (b.grid.crs is None):
        has, lacks = (a, b) if b.grid.crs is None else (b, a)
        raise InputError("it has no georeference", lacks.path, f"{has.path} has one: give both, or none")
    if a.grid.crs is None and a.grid.shape != b.grid.shape:
        sizes = " and ".join(f"{rows} x {cols}" for rows, cols in (a.grid.shape, b.grid.shape))
        raise InputError(f"images without georeference of {sizes} pixels", a.path, "they must be of equal size")
    offset = b.grid.offset_of(a.grid)
    if offset is not None:
        there = Window.whole(b.grid.shape).shift(rows=-offset[0], cols=-offset[1])
        window = there.clip(a.grid.shape)
    else:
        if _rotated(a.grid):
            hint = "bring one of them north up (gdalwarp)" if _rotated(b.grid) else "compare the other way round"
            raise InputError("B cannot be brought onto a rotated grid", a.path, hint)
        assert a.grid.crs is not None
        window = _overlap(a.grid, b.grid)
    if window is None:
        raise InputError(f"no overlap with {a.path}", b.path, f"bounds are {_bounds(a.grid)} and {_bounds(b.grid)}")
    return Pair(a=a, b=b, window=window, offset=offset, samples=1 if offset is not None else _samples(a.grid, b.grid))


def _rotated(grid: MapGrid) -> bool:
    return bool(grid.transform.b or grid.transform.d)


def _overlap(mine: MapGrid, theirs: MapGrid) -> Window | None:
    """Pixels of mine that the other grid touches: by its bounds, and, where these have no good answer in my CRS, by places of mine."""
    assert mine.crs is not None
    assert theirs.crs is not None
    rows, cols = (np.unique(np.linspace(0, side - 1, min(side, _LOOKS)).round()) for side in mine.shape)
    col, row = np.meshgrid(cols, rows)
    matrix = mine.transform
    x, y = matrix.a * (col + 0.5) + matrix.b * (row + 0.5) + matrix.c, matrix.d * (col + 0.5) + matrix.e * (row + 0.5) + matrix.f
    at_row, at_col = theirs.pixel_of(*(_finite(value) for value in transform_points(mine.crs, theirs.crs, x, y)))
    inside = (at_row > -0.5) & (at_row < theirs.shape[0] - 0.5) & (at_col > -0.5) & (at_col < theirs.shape[1] - 0.5)
    bounds = theirs.bounds_in(mine.crs)
    window = mine.window_covering(bounds) if all(map(math.isfinite, bounds)) else None
    if not inside.any():
        return window
    row0, col0, row1, col1 = (int(value) for value in (row[inside].min(), col[inside].min(), row[inside].max(), col[inside].max()))
    if window is not None:
        row0, col0 = min(row0, window.row), min(col0, window.col)
        row1, col1 = max(row1, window.row_stop - 1), max(col1, window.col_stop - 1)
    return Window(row=row0, col=col0, rows=row1 - row0 + 1, cols=col1 - col0 + 1)


def _finite(values: Floats) -> Floats:
    """PROJ's infinity, no answer, as NaN."""
    return np.where(np.isfinite(values), values, np.nan)


def _samples(mine: MapGrid, theirs: MapGrid) -> int:
    ratio = math.sqrt(math.prod(_spacing_m(mine)) / math.prod(_spacing_m(theirs)))
    return 1 if ratio < _FINER else min(_MOST_SAMPLES, round(ratio))


def _spacing_m(grid: MapGrid) -> tuple[float, float]:
    """Pixel size (x, y), metres; of a grid in degrees at its middle, on a sphere."""
    x, y = grid.spacing
    per_x, per_y = metres_per_unit(grid)
    return x * per_x, y * per_y


def metres_per_unit(grid: MapGrid) -> tuple[float, float]:
    """Metres of one unit of x and of y in the middle of a grid."""
    if grid.crs is None or not grid.crs.is_geographic:
        factor = float(grid.crs.linear_units_factor[1]) if grid.crs is not None and grid.crs.is_projected else 1.0
        return factor, factor
    _, bottom, _, top = grid.bounds
    degree_m = math.pi / 180.0 * 6_371_009.0
    return degree_m * math.cos(math.radians((bottom + top) / 2.0)), degree_m


def _around(row: Floats, col: Floats, shape: tuple[int, int]) -> Window | None:
    """The pixels of an image that bilinear interpolation at these places needs, or None outside."""
    inside = (row > -1) & (row < shape[0]) & (col > -1) & (col < shape[1])
    if not inside.any():
        return None
    row0, col0 = math.floor(row[inside].min()), math.floor(col[inside].min())
    rows, cols = math.floor(row[inside].max()) + 2 - row0, math.floor(col[inside].max()) + 2 - col0
    return Window(row=row0, col=col0, rows=rows, cols=cols).clip(shape)


def _bounds(grid: MapGrid) -> str:
    name = grid.crs.to_string() if grid.crs is not None else "no CRS"
    return f"{', '.join(f'{value:.9g}' for value in grid.bounds)} ({name[:20]})"
