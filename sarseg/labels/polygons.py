"""Polygons drawn on a grid: a pixel belongs to the polygon in which its centre lies.

Inside is what a ray crosses into an odd number of times, over all rings of the polygon: holes are outside, whichever way the
rings turn, and a ring that crosses itself needs no repair. Where polygons overlap, the one with the smaller area wins
(of equal ones the later): large ones are drawn first. A centre exactly on an edge belongs to the side right of or below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.legend import Legend
from sarseg.tiles import Window

Floats = NDArray[np.float64]

_EDGE_PX = 1e-6  # a centre this close to an edge lies on it: coordinates are rounded


@dataclass(frozen=True, eq=False)
class Polygon:
    """One polygon in pixels of the grid (0 = outer edge of the first), ready to be drawn.

    Parameters
    ----------
    edges : float64 (n, 4): col, row of the upper end, col, row of the lower end; level edges are left out
    area : in pixels, the holes taken off
    code : what is drawn
    """

    edges: Floats
    area: float
    code: int

    @classmethod
    def from_rings(cls, rings: Sequence[Floats], code: int) -> Polygon:
        """From rings float64 (n, 2) of (col, row): the outer one, then the holes; they need not be closed."""
        pieces, areas = [], []
        for ring in rings:
            start, stop = ring, np.roll(ring, -1, axis=0)
            shifted = ring - ring[:1]
            after = stop - ring[:1]
            areas.append(abs(float((shifted[:, 0] * after[:, 1] - after[:, 0] * shifted[:, 1]).sum())) / 2.0)
            pieces.append(np.hstack([start, stop]))
        edges = np.concatenate(pieces)
        upward = edges[:, 1] > edges[:, 3]
        edges[upward] = edges[upward][:, [2, 3, 0, 1]]
        return cls(edges[edges[:, 1] < edges[:, 3]], areas[0] - sum(areas[1:]), code)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """First row, last row, first column, last column that its edges reach; an empty box without edges."""
        if not len(self.edges):
            return np.inf, -np.inf, np.inf, -np.inf
        cols = self.edges[:, [0, 2]]
        return float(self.edges[:, 1].min()), float(self.edges[:, 3].max()), float(cols.min()), float(cols.max())

    def draw(self, out: NDArray[np.uint8], window: Window) -> None:
        """Write `code` into `out`, uint8 (rows, cols) of a window of the grid, where the centres lie inside."""
        first = np.maximum(_first_centre(self.edges[:, 1]), window.row)
        last = np.minimum(_first_centre(self.edges[:, 3]), window.row_stop)
        crossed = last > first
        if not crossed.any():
            return
        edges, first, count = self.edges[crossed], first[crossed], (last - first)[crossed]
        at = np.repeat(np.arange(len(edges)), count)
        row = first[at] + np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
        x0, y0, x1, y1 = edges[at].T
        x = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        col = np.clip(_first_centre(x), window.col, window.col_stop) - window.col
        row0, row1, col0, col1 = int(row.min()), int(row.max()) + 1, int(col.min()), int(col.max())
        if col0 == col1:
            return
        shape = (row1 - row0, col1 - col0 + 1)
        toggles = np.bincount((row - row0) * shape[1] + col - col0, minlength=shape[0] * shape[1]).reshape(shape)
        inside = (np.cumsum(toggles, axis=1)[:, :-1] & 1).astype(bool)
        out[row0 - window.row : row1 - window.row, col0:col1][inside] = self.code


@dataclass(frozen=True, eq=False)
class Drawing:
    """Polygons of one grid, the largest first, the box of each (n, 4), and their legend."""

    polygons: tuple[Polygon, ...]
    boxes: Floats
    legend: Legend

    @classmethod
    def of(cls, polygons: Sequence[Polygon], legend: Legend) -> Drawing:
        """Put the polygons into the order in which they are drawn."""
        ordered = tuple(sorted(polygons, key=lambda one: -one.area))
        return cls(ordered, np.array([one.box for one in ordered], np.float64).reshape(-1, 4), legend)

    def codes(self, window: Window) -> NDArray[np.uint8]:
        """Codes uint8 (rows, cols) of a window of the grid; 0 where there is no polygon."""
        out = np.zeros(window.shape, np.uint8)
        row0, row1, col0, col1 = self.boxes.T
        near = (row0 < window.row_stop) & (row1 > window.row) & (col0 < window.col_stop) & (col1 > window.col)
        for at in np.flatnonzero(near):
            self.polygons[at].draw(out, window)
        return out


def _first_centre(place: Floats) -> NDArray[np.int64]:
    """The first pixel whose centre lies at or beyond a place."""
    return np.ceil(place - 0.5 - _EDGE_PX).astype(np.int64)
