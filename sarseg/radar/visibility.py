"""Layover and shadow of map pixels, found from the terrain along the line of sight.

In the plane of constant azimuth through a pixel, with R its slant range, theta the incidence angle on the ellipsoid and the
origin at the pixel, the satellite stands at (-R sin theta, R cos theta). A terrain point at the ground distance d (positive
away from the sensor), dh higher than the pixel (less d^2 / 2 Re for the curved Earth), has the slant range

    R'^2 = (d + R sin theta)^2 + (R cos theta - dh)^2,  so  R'^2 - R^2 = d (d + 2 R sin theta) + dh (dh - 2 R cos theta)

which holds over kilometres. A pixel is in layover when the range order is broken there: a nearer point is no closer to the
sensor, or a farther point is no farther. It is in shadow when a nearer point rises above its line of sight.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sarseg.masks import Mask
from sarseg.radar.orbit import Floats

_EARTH_RADIUS_M = 6_371_000.0  # the height of the horizon over 5 km depends on its 0.3 % by 6 mm
_SLACK = 1.02  # the quadratic terms of the range lengthen a reach by < 1.5 % over 10 km
_CELL_BITS = (3, 5, 7)
"""Cells of 8, 32 and 128 pixels, whose lowest and highest terrain bound how far a pixel must look; then the whole array's do."""

_LAYOVER = int(Mask.LAYOVER)
_SHADOW = int(Mask.SHADOW)


def reach_m(above_m: float, below_m: float, incidence_rad: tuple[float, float]) -> float:
    """Ground distance beyond which no terrain can hide or overlay a pixel.

    Parameters
    ----------
    above_m, below_m : how far the terrain around rises above the pixel, and falls below it; negative counts as 0
    incidence_rad : least and greatest ellipsoid incidence angle
    """
    above_m, below_m = max(0.0, above_m), max(0.0, below_m)
    shadow = above_m * math.tan(incidence_rad[1])
    layover = max(above_m, below_m) / math.tan(incidence_rad[0])
    return _SLACK * max(shadow, layover)


def layover_shadow(heights_m: Floats, margin: int, sight: tuple[Floats, Floats], away: tuple[Floats, Floats]) -> NDArray[np.uint8]:
    """Mask bits LAYOVER and SHADOW of a block.

    Every pixel looks along its own line, pixel by pixel and linearly between neighbours, both ways, as far as the highest
    and lowest terrain around can matter.

    Parameters
    ----------
    heights_m : float64 (rows + 2 margin, cols + 2 margin), ellipsoidal heights of the block and its surroundings; NaN = void
    margin : pixels around the block; `reach_m` says how many make the result independent of the block
    sight : slant range (m) and ellipsoid incidence angle (rad) of the block, float64 (rows, cols) each
    away : direction away from the sensor, rows and columns per metre of ground distance, float64 (rows, cols) each

    Returns
    -------
    uint8 (rows, cols); 0 where the height is NaN
    """
    out = np.zeros(sight[0].shape, np.uint8)
    heights = np.ascontiguousarray(heights_m)
    valid = heights[np.isfinite(heights)]
    if valid.size:
        limits = float(valid.min()), float(valid.max())
        fine, middle, coarse = (_limits(heights, bits) for bits in _CELL_BITS)
        _look(heights, margin, (fine, middle, coarse, limits), sight, away, out)
    return out


def terrain_slopes(heights_m: Floats) -> tuple[Floats, Floats]:
    """Rise per pixel step, dh/drow and dh/dcol, of the inner pixels of (rows + 2, cols + 2): float64 (rows, cols) each.

    Central differences; beside a void the difference to the one valid neighbour, and NaN between two voids or on one.
    """
    down, across = np.empty((2, heights_m.shape[0] - 2, heights_m.shape[1] - 2))
    _slopes(np.ascontiguousarray(heights_m), down, across)
    return down, across


@njit(nogil=True, cache=True)
def _limits(heights: Floats, bits: int) -> Floats:
    """Lowest and highest terrain in and around every cell of 2^bits pixels, float64 (2, cell rows, cell columns).

    They hold for every point within 2^bits pixels of any pixel of the cell. Without terrain they are +inf and -inf.
    """
    n_row, n_col = ((heights.shape[0] - 1) >> bits) + 1, ((heights.shape[1] - 1) >> bits) + 1
    own = np.empty((2, n_row, n_col))
    own[0], own[1] = np.inf, -np.inf
    for r in range(heights.shape[0]):
        for c in range(heights.shape[1]):
            if not np.isnan(heights[r, c]):
                own[0, r >> bits, c >> bits] = min(own[0, r >> bits, c >> bits], heights[r, c])
                own[1, r >> bits, c >> bits] = max(own[1, r >> bits, c >> bits], heights[r, c])
    around = own.copy()
    for r in range(n_row):
        for c in range(n_col):
            for i in range(max(0, r - 1), min(n_row, r + 2)):
                for j in range(max(0, c - 1), min(n_col, c + 2)):
                    around[0, r, c] = min(around[0, r, c], own[0, i, j])
                    around[1, r, c] = max(around[1, r, c], own[1, i, j])
    return around


@njit(nogil=True, cache=True)
def _look(
    heights: Floats,
    margin: int,
    around: tuple[Floats, Floats, Floats, tuple[float, float]],
    sight: tuple[Floats, Floats],
    away: tuple[Floats, Floats],
    out: NDArray[np.uint8],
) -> None:
    """The farther terrain is, the coarser the cells that say whether it can matter; most pixels look a few steps far."""
    slant_range, incidence = sight
    row_per_m, col_per_m = away
    fine, middle, coarse, (lowest, highest) = around
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            i, j = r + margin, c + margin
            height = heights[i, j]
            if np.isnan(height) or np.isnan(slant_range[r, c]):
                continue
            cosine = np.cos(incidence[r, c])
            sine = np.sqrt(1.0 - cosine * cosine)
            slope = cosine / sine
            # one step is one pixel along the axis that changes faster
            px_per_m = max(abs(row_per_m[r, c]), abs(col_per_m[r, c]))
            step = (row_per_m[r, c] / px_per_m, col_per_m[r, c] / px_per_m, 1.0 / px_per_m)
            view = (2.0 * slant_range[r, c] * sine, 2.0 * slant_range[r, c] * cosine, slope)
            scale = (_SLACK * px_per_m / slope, _SLACK * px_per_m * slope)
            all_near, all_far = _steps(highest - height, height - lowest, scale)
            bits, done = 0, 0
            for level in range(4):
                if level == 3:
                    near, far, size = all_near, all_far, max(all_near, all_far)
                else:
                    cells = fine if level == 0 else middle if level == 1 else coarse
                    shift = _CELL_BITS[level]
                    low, high = cells[0, i >> shift, j >> shift], cells[1, i >> shift, j >> shift]
                    near, far = _steps(high - height, height - low, scale)
                    size = 1 << shift
                bits |= _toward(heights, (i, j, height), step, view, (done + 1, min(near, size)))
                if bits & _LAYOVER == 0:
                    bits |= _beyond(heights, (i, j, height), step, view, (done + 1, min(far, size)))
                done = size
                if done >= all_near and done >= all_far:
                    break
            out[r, c] = bits


@njit(nogil=True, cache=True)
def _steps(above: float, below: float, scale: tuple[float, float]) -> tuple[int, int]:
    """How many steps toward the sensor and away from it terrain so much higher and lower can matter."""
    return int(max(above * scale[0], below * scale[1])) + 1, int(above * scale[1]) + 1


@njit(nogil=True, cache=True)
def _toward(
    heights: Floats,
    place: tuple[int, int, float],
    step: tuple[float, float, float],
    view: tuple[float, float, float],
    steps: tuple[int, int],
) -> int:
    """Both bits, from the terrain between the pixel and the sensor, first to last step."""
    row, col, height = place
    across, upward, slope = view
    bits = 0
    for k in range(steps[0], steps[1] + 1):
        distance = k * step[2]
        rise = _height_at(heights, row, col, -k * step[0], -k * step[1]) - height - distance * distance / (2.0 * _EARTH_RADIUS_M)
        if rise > distance * slope:
            bits |= _SHADOW
        if distance * (distance - across) + rise * (rise - upward) >= 0.0:
            bits |= _LAYOVER
        if bits == _SHADOW | _LAYOVER:
            break
    return bits


@njit(nogil=True, cache=True)
def _beyond(
    heights: Floats,
    place: tuple[int, int, float],
    step: tuple[float, float, float],
    view: tuple[float, float, float],
    steps: tuple[int, int],
) -> int:
    """The layover bit, from the terrain behind the pixel, first to last step."""
    row, col, height = place
    across, upward, _ = view
    for k in range(steps[0], steps[1] + 1):
        distance = k * step[2]
        rise = _height_at(heights, row, col, k * step[0], k * step[1]) - height - distance * distance / (2.0 * _EARTH_RADIUS_M)
        if distance * (distance + across) + rise * (rise - upward) <= 0.0:
            return _LAYOVER
    return 0


@njit(nogil=True, cache=True)
def _height_at(heights: Floats, row: int, col: int, d_row: float, d_col: float) -> float:
    """Bilinear at an offset from a pixel; NaN beside a void and outside.

    The offset is split by itself, so that rounding is the same wherever the block starts.
    """
    whole_row, whole_col = np.floor(d_row), np.floor(d_col)
    i, j = row + int(whole_row), col + int(whole_col)
    if i < 0 or j < 0 or i >= heights.shape[0] - 1 or j >= heights.shape[1] - 1:
        return np.nan
    u, v = d_row - whole_row, d_col - whole_col
    # what has no weight, perhaps a void, has no say
    top: float = heights[i, j] if v == 0.0 else heights[i, j] * (1.0 - v) + heights[i, j + 1] * v
    if u == 0.0:
        return top
    bottom: float = heights[i + 1, j] if v == 0.0 else heights[i + 1, j] * (1.0 - v) + heights[i + 1, j + 1] * v
    between: float = top * (1.0 - u) + bottom * u
    return between


@njit(nogil=True, cache=True)
def _slopes(heights: Floats, down: Floats, across: Floats) -> None:
    for r in range(down.shape[0]):
        for c in range(down.shape[1]):
            height = heights[r + 1, c + 1]
            down[r, c] = _difference(heights[r, c + 1], height, heights[r + 2, c + 1])
            across[r, c] = _difference(heights[r + 1, c], height, heights[r + 1, c + 2])


@njit(nogil=True, cache=True)
def _difference(before: float, here: float, after: float) -> float:
    if np.isnan(before):
        return after - here
    if np.isnan(after):
        return here - before
    return (after - before) / 2.0 if here == here else np.nan
