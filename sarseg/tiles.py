"""Windows, blocks, overlapping tiles and their blend weights: integers only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 512
"""Side of a block of every raster that we write, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """A rectangle of pixels: first row and column (may be negative before clipping), and its size (>= 1)."""

    row: int
    col: int
    rows: int
    cols: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"a window needs at least one pixel, not {self.rows} x {self.cols}")

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Window:
        """The window of a whole image of (rows, cols)."""
        return cls(row=0, col=0, rows=shape[0], cols=shape[1])

    @property
    def row_stop(self) -> int:
        """One past the last row."""
        return self.row + self.rows

    @property
    def col_stop(self) -> int:
        """One past the last column."""
        return self.col + self.cols

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.rows, self.cols

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.rows * self.cols

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of an array that starts at (0, 0); asks for row, col >= 0."""
        if self.row < 0 or self.col < 0:
            raise ValueError(f"{self} starts before the array")
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def expand(self, halo: int) -> Window:
        """The window with `halo` more pixels on every side (not clipped)."""
        return Window(row=self.row - halo, col=self.col - halo, rows=self.rows + 2 * halo, cols=self.cols + 2 * halo)

    def shift(self, *, rows: int, cols: int) -> Window:
        """The window moved by so many rows and columns."""
        return Window(row=self.row + rows, col=self.col + cols, rows=self.rows, cols=self.cols)

    def relative_to(self, outer: Window) -> Window:
        """The same pixels counted from the first pixel of `outer`."""
        return self.shift(rows=-outer.row, cols=-outer.col)

    def intersect(self, other: Window) -> Window | None:
        """The common pixels, or None."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        rows, cols = min(self.row_stop, other.row_stop) - row, min(self.col_stop, other.col_stop) - col
        return Window(row=row, col=col, rows=rows, cols=cols) if rows > 0 and cols > 0 else None

    def clip(self, shape: tuple[int, int]) -> Window | None:
        """The part that lies inside an image of (rows, cols), or None."""
        return self.intersect(Window.whole(shape))


def blocks(shape: tuple[int, int], size: int = BLOCK) -> list[Window]:
    """The blocks of an image, row by row, at multiples of `size`; the last ones may be smaller."""
    rows, cols = shape
    return [
        Window(row=row, col=col, rows=min(size, rows - row), cols=min(size, cols - col))
        for row in range(0, rows, size)
        for col in range(0, cols, size)
    ]


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of overlapping tiles along one axis: every pixel is covered, the last tile ends with the image.

    Tiles start at multiples of (tile - overlap); a length up to `tile` has the one start 0 (its tile is shorter).
    """
    if length < 1 or not 0 <= overlap < tile:
        raise ValueError(f"no tiles of {tile} with overlap {overlap} over {length} pixels")
    if length <= tile:
        return [0]
    step = tile - overlap
    starts = list(range(0, length - tile, step))
    return [*starts, length - tile]


RAMP_TOP = 4096
"""Blend weight of a pixel that lies outside every overlap."""


def ramp(length: int, overlap_before: int, overlap_after: int) -> NDArray[np.int64]:
    """Blend weights of a tile along one axis, int64 (length,), 1 .. RAMP_TOP: they rise and fall linearly over the overlaps."""
    position = np.arange(length, dtype=np.int64)
    rise = (position + 1) * RAMP_TOP // (overlap_before + 1)
    fall = (length - position) * RAMP_TOP // (overlap_after + 1)
    return np.clip(np.minimum(rise, fall), 1, RAMP_TOP)
