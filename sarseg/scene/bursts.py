"""Where a TOPS image has data: the valid samples of its bursts, put together on one grid (docs/sentinel1.md 8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.tiles import Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Burst:
    """One burst of one sub-swath.

    Parameters
    ----------
    line, pixel : of its first sample, on the grid of the whole image
    first, last : int64 (lines,), first and last valid sample of each of its lines; -1 = none
    """

    line: int
    pixel: int
    first: NDArray[np.int64]
    last: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coverage:
    """The union of the valid samples of all bursts."""

    bursts: tuple[Burst, ...]

    def within(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window have data, bool (rows, cols)."""
        out = np.zeros(window.shape, bool)
        cols = np.arange(window.col, window.col_stop)
        for burst in self.bursts:
            start, stop = max(window.row, burst.line), min(window.row_stop, burst.line + len(burst.first))
            if start >= stop:
                continue
            lines = slice(start - burst.line, stop - burst.line)
            first, last = burst.first[lines, None], burst.last[lines, None]
            valid = (cols >= first + burst.pixel) & (cols <= last + burst.pixel) & (first >= 0)
            out[start - window.row : stop - window.row] |= valid
        return out
