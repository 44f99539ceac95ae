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
    and lowest terrain of `heights_m` can matter; terrain at the array's edge ends the look.

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
    valid = heights_m[np.isfinite(heights_m)]
    if valid.size:
        limits = float(valid.min()), float(valid.max())
        _look(np.ascontiguousarray(heights_m), margin, limits, sight, away, out)
    return out


def terrain_slopes(heights_m: Floats) -> tuple[Floats, Floats]:
    """Rise per pixel step, dh/drow and dh/dcol, of the inner pixels of (rows + 2, cols + 2): float64 (rows, cols) each.

    Central differences; beside a void the difference to the one valid neighbour, and NaN between two voids or on one.
    """
    down, across = np.empty((2, heights_m.shape[0] - 2, heights_m.shape[1] - 2))
    _slopes(np.ascontiguousarray(heights_m), down, across)
    return down, across


@njit(nogil=True, cache=True)
def _look(
    heights: Floats,
    margin: int,
    limits: tuple[float, float],
    sight: tuple[Floats, Floats],
    away: tuple[Floats, Floats],
    out: NDArray[np.uint8],
) -> None:
    slant_range, incidence = sight
    row_per_m, col_per_m = away
    lowest, highest = limits
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            height = heights[r + margin, c + margin]
            if np.isnan(height) or np.isnan(slant_range[r, c]):
                continue
            sine, cosine = np.sin(incidence[r, c]), np.cos(incidence[r, c])
            # one step is one pixel along the axis that changes faster
            step_m = 1.0 / max(abs(row_per_m[r, c]), abs(col_per_m[r, c]))
            d_row, d_col = row_per_m[r, c] * step_m, col_per_m[r, c] * step_m
            above, below = highest - height, height - lowest
            near_m = _SLACK * max(above * sine / cosine, below * cosine / sine)
            far_m = _SLACK * above * cosine / sine
            place = (r + margin, c + margin, height)
            across, upward = 2.0 * slant_range[r, c] * sine, 2.0 * slant_range[r, c] * cosine
            bits = _toward(heights, place, (-d_row, -d_col, step_m, near_m), (across, upward, cosine / sine))
            if bits & _LAYOVER == 0:
                bits |= _beyond(heights, place, (d_row, d_col, step_m, far_m), (across, upward))
            out[r, c] = bits


@njit(nogil=True, cache=True)
def _toward(
    heights: Floats, place: tuple[int, int, float], step: tuple[float, float, float, float], sight: tuple[float, float, float]
) -> int:
    """Both bits, from the terrain between the pixel and the sensor."""
    row, col, height = place
    d_row, d_col, step_m, reach = step
    across, upward, slope = sight
    bits = 0
    for k in range(1, int(reach / step_m) + 2):
        distance = k * step_m
        rise = _height_at(heights, row, col, k * d_row, k * d_col) - height - distance * distance / (2.0 * _EARTH_RADIUS_M)
        if rise > distance * slope:
            bits |= _SHADOW
        if distance * (distance - across) + rise * (rise - upward) >= 0.0:
            bits |= _LAYOVER
        if bits == _SHADOW | _LAYOVER:
            break
    return bits


@njit(nogil=True, cache=True)
def _beyond(heights: Floats, place: tuple[int, int, float], step: tuple[float, float, float, float], sight: tuple[float, float]) -> int:
    """The layover bit, from the terrain behind the pixel."""
    row, col, height = place
    d_row, d_col, step_m, reach = step
    across, upward = sight
    for k in range(1, int(reach / step_m) + 2):
        distance = k * step_m
        rise = _height_at(heights, row, col, k * d_row, k * d_col) - height - distance * distance / (2.0 * _EARTH_RADIUS_M)
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
    if v == 0.0:  # along a column; what lies beside it, perhaps a void, has no say
        return heights[i, j] if u == 0.0 else heights[i, j] * (1.0 - u) + heights[i + 1, j] * u
    top = heights[i, j] * (1.0 - v) + heights[i, j + 1] * v
    if u == 0.0:
        return top
    bottom = heights[i + 1, j] * (1.0 - v) + heights[i + 1, j + 1] * v
    return top * (1.0 - u) + bottom * u


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
