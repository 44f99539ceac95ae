"""Compiled kernel: the area that each class has in each target pixel, from source pixels as quadrangles."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

UNIT = 1 << 40
"""A whole target pixel. Areas are integers, so that their sum does not hang on the order of the blocks."""

_MAX_SIDE_PX = 64.0  # a wider quadrangle is torn, by the edge of the projection or by the 180th meridian
_CORNERS = 8  # a quadrangle cut by a square


@njit(nogil=True, cache=True)
def _cut(x: NDArray[np.float64], y: NDArray[np.float64], count: int, limit: float, sign: float, out: NDArray[np.float64]) -> int:
    """Sutherland and Hodgman's step: the part of a polygon with sign * x <= sign * limit, as rows x, y of `out`."""
    kept = 0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        here, there = sign * (limit - x[i]), sign * (limit - x[j])
        if here >= 0.0:
            out[0, kept], out[1, kept] = x[i], y[i]
            kept += 1
        if (here > 0.0 and there < 0.0) or (here < 0.0 and there > 0.0):
            out[0, kept], out[1, kept] = limit, y[i] + (y[j] - y[i]) * (here / (here - there))
            kept += 1
    return kept


@njit(nogil=True, cache=True)
def _shoelace(x: NDArray[np.float64], y: NDArray[np.float64], count: int) -> float:
    total = 0.0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        total += (x[i] - x[0]) * (y[j] - y[0]) - (x[j] - x[0]) * (y[i] - y[0])
    return abs(total) / 2.0


@njit(nogil=True, cache=True)
def add_areas(
    corner_row: NDArray[np.float64],
    corner_col: NDArray[np.float64],
    places: NDArray[np.int16],
    origin: tuple[int, int],
    areas: NDArray[np.int64],
) -> None:
    """Add the area of every source pixel to the target pixels that it touches.

    Parameters
    ----------
    corner_row, corner_col : float64 (h + 1, w + 1), corners of the source pixels in target pixels (0 = the first one's edge)
    places : int16 (h, w), last index of `areas` of each source pixel; negative = it counts nowhere
    origin : (row, col) of the first target pixel of `areas`
    areas : int64 (rows, cols, places), added to, in units of 1 / UNIT of a target pixel
    """
    rows, cols = areas.shape[:2]
    x, y = np.empty(_CORNERS), np.empty(_CORNERS)
    first, second = np.empty((2, _CORNERS)), np.empty((2, _CORNERS))
    for h in range(places.shape[0]):
        for w in range(places.shape[1]):
            place = places[h, w]
            if place < 0:
                continue
            x[0], x[1], x[2], x[3] = corner_col[h, w], corner_col[h, w + 1], corner_col[h + 1, w + 1], corner_col[h + 1, w]
            y[0], y[1], y[2], y[3] = corner_row[h, w], corner_row[h, w + 1], corner_row[h + 1, w + 1], corner_row[h + 1, w]
            left, right = min(x[0], x[1], x[2], x[3]), max(x[0], x[1], x[2], x[3])
            top, bottom = min(y[0], y[1], y[2], y[3]), max(y[0], y[1], y[2], y[3])
            # this way round, what is not a number is left out as well
            if not (right - left < _MAX_SIDE_PX and bottom - top < _MAX_SIDE_PX):
                continue
            if not (right > origin[1] and left < origin[1] + cols and bottom > origin[0] and top < origin[0] + rows):
                continue
            col0, col1 = int(np.floor(left)), int(np.ceil(right))
            row0, row1 = int(np.floor(top)), int(np.ceil(bottom))
            if col1 - col0 == 1 and row1 - row0 == 1:
                areas[row0 - origin[0], col0 - origin[1], place] += np.int64(np.rint(_shoelace(x, y, 4) * UNIT))
                continue
            for col in range(max(col0, origin[1]), min(col1, origin[1] + cols)):
                count = _cut(x, y, 4, float(col), -1.0, first)
                count = _cut(first[0], first[1], count, col + 1.0, 1.0, second)
                if count < 3:
                    continue
                # the column's strip is cut again for every row: it is kept in `second`
                for row in range(max(row0, origin[0]), min(row1, origin[0] + rows)):
                    inside = _cut(second[1], second[0], count, float(row), -1.0, first)
                    area = _row_area(first, inside, row + 1.0)
                    areas[row - origin[0], col - origin[1], place] += np.int64(np.rint(area * UNIT))


@njit(nogil=True, cache=True)
def _row_area(strip: NDArray[np.float64], count: int, limit: float) -> float:
    """Area of the part of a polygon (rows y, x of `strip`) with y <= limit."""
    out = np.empty((2, _CORNERS))
    kept = _cut(strip[0], strip[1], count, limit, 1.0, out)
    return _shoelace(out[0], out[1], kept)
