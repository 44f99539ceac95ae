"""How high the terrain is around each block of a map, so that every block knows how far it must look for layover and shadow."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.grid import MapGrid
from sarseg.radar.visibility import reach_m
from sarseg.raster.dem import Dem
from sarseg.tiles import BLOCK, Window, blocks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relief:
    """Bounds of the ellipsoidal heights of every 512 x 512 block of a map, NaN where there is no DEM.

    Parameters
    ----------
    shape : of the map
    low_m, high_m : float64 (block rows, block columns)
    """

    shape: tuple[int, int]
    low_m: NDArray[np.float64]
    high_m: NDArray[np.float64]

    @property
    def range_m(self) -> tuple[float, float] | None:
        """Bounds over the whole map; None where there is no DEM at all."""
        if np.isnan(self.low_m).all():
            return None
        return float(np.nanmin(self.low_m)), float(np.nanmax(self.high_m))

    def within(self, window: Window) -> tuple[float, float] | None:
        """Bounds over the blocks that a window touches; None where there is no DEM."""
        rows = slice(window.row // BLOCK, (window.row_stop - 1) // BLOCK + 1)
        cols = slice(window.col // BLOCK, (window.col_stop - 1) // BLOCK + 1)
        low, high = self.low_m[rows, cols], self.high_m[rows, cols]
        if np.isnan(low).all():
            return None
        return float(np.nanmin(low)), float(np.nanmax(high))

    def margin_px(self, window: Window, incidence_rad: tuple[float, float], px_per_m: float) -> int:
        """Pixels around a window beyond which no terrain can overlay or shade it; at least 2, for slopes and interpolation.

        Parameters
        ----------
        incidence_rad : least and greatest ellipsoid incidence angle in the window
        px_per_m : the most rows or columns that one metre along a line of sight can be
        """
        own, whole = self.within(window), self.range_m
        if own is None or whole is None:
            return 2
        farthest = math.ceil(reach_m(whole[1] - own[0], own[1] - whole[0], incidence_rad) * px_per_m)
        margin = 0
        for row in range(max(0, (window.row - farthest) // BLOCK), min(self.low_m.shape[0], (window.row_stop + farthest) // BLOCK + 1)):
            for col in range(max(0, (window.col - farthest) // BLOCK), min(self.low_m.shape[1], (window.col_stop + farthest) // BLOCK + 1)):
                if np.isnan(self.low_m[row, col]):
                    continue
                reach = reach_m(self.high_m[row, col] - own[0], own[1] - self.low_m[row, col], incidence_rad) * px_per_m
                near, far = _distance(window, Window(row=row * BLOCK, col=col * BLOCK, rows=BLOCK, cols=BLOCK))
                if reach >= near:
                    margin = max(margin, min(math.ceil(reach), far))
        return margin + 2


def survey(dem: Dem, grid: MapGrid, *, threads: int) -> Relief:
    """Ask the DEM for the height bounds of every block of a map."""
    shape = -(-grid.shape[0] // BLOCK), -(-grid.shape[1] // BLOCK)
    with ThreadPoolExecutor(threads) as pool:
        ranges = list(pool.map(lambda block: dem.height_range_m(grid, block) or (math.nan, math.nan), blocks(grid.shape)))
    low, high = np.array(ranges).T.reshape(2, *shape)
    return Relief(shape=grid.shape, low_m=low, high_m=high)


def _distance(window: Window, cell: Window) -> tuple[int, int]:
    """How far the nearest and the farthest pixel of a cell lie outside of a window, in rows or columns; 0 = inside."""
    before = max(window.row - cell.row, window.col - cell.col)
    after = max(cell.row_stop - window.row_stop, cell.col_stop - window.col_stop)
    gaps = (window.row - cell.row_stop, cell.row - window.row_stop, window.col - cell.col_stop, cell.col - window.col_stop)
    return max(0, *gaps), max(0, before, after)
