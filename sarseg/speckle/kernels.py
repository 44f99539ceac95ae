"""Speckle kernels: one image, one thread, no checks.

Every window's sums are added in one order (along the row, then down the rows), whatever the image around it, so a tile
with a halo has the bits of the whole image. No running sums: nothing is carried from one window to the next.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

STRIP = 1024
"""Columns worked on at a time, so that the row sums of a window stay in the processor's cache."""


@njit(nogil=True, cache=True)
def lee(power: NDArray[np.float32], noise: NDArray[np.float32], looks: float, half: int, out: NDArray[np.float32]) -> None:
    """Lee's filter of (rows, cols) into `out`; `noise` is (rows, cols) or (0, 0) for none; windows of 2 half + 1 pixels.

    The last three columns of sums are: of values, of squares, of valid pixels.
    """
    n_row, n_col = power.shape
    window = 2 * half + 1
    for first in range(0, n_col, STRIP):
        width = min(STRIP, n_col - first)
        ring = np.zeros((window, 3, width))  # row sums of the rows in the window; row r is at r % window
        line = np.zeros((3, width + 2 * half))
        total = np.empty((3, width))
        for r in range(-half, n_row):
            if r + half < n_row:
                _row_sums(power[r + half], first, half, line, ring[(r + half) % window])
            if r < 0:
                continue
            total[:] = 0.0
            for i in range(max(0, r - half), min(n_row, r + half + 1)):
                part = ring[i % window]
                for k in range(3):
                    for c in range(width):
                        total[k, c] += part[k, c]
            for c in range(width):
                centre = np.float64(power[r, first + c])
                added = np.float64(noise[r, first + c]) if noise.size else 0.0
                out[r, first + c] = _weighted(centre, total[0, c], total[1, c], total[2, c], added, looks)


@njit(nogil=True, cache=True)
def _row_sums(row: NDArray[np.float32], first: int, half: int, line: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    """Sums over 2 half + 1 pixels of one row: of values, of squares, of valid pixels; NaN and outside count as nothing."""
    width = sums.shape[1]
    for k in range(line.shape[1]):
        c = first - half + k
        value = np.float64(row[c]) if 0 <= c < row.size else np.nan
        valid = value == value
        line[0, k] = value if valid else 0.0
        line[1, k] = value * value if valid else 0.0
        line[2, k] = 1.0 if valid else 0.0
    for k in range(3):
        for c in range(width):
            sums[k, c] = line[k, c]
        for j in range(1, 2 * half + 1):
            for c in range(width):
                sums[k, c] += line[k, c + j]


@njit(nogil=True, cache=True)
def _weighted(centre: float, total: float, squares: float, count: float, noise: float, looks: float) -> float:
    """m + max(0, 1 - K (m + noise)^2 / v) (x - m); NaN for a NaN centre; count >= 1 otherwise."""
    if np.isnan(centre):
        return np.nan
    mean = total / count
    if count < 2.0:
        return mean
    variance = (squares - total * mean) / (count - 1.0)
    speckle = (mean + noise) * (mean + noise) / looks
    if variance <= speckle:
        return mean
    return mean + (1.0 - speckle / variance) * (centre - mean)
