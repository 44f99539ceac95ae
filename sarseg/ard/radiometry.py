"""From digital numbers to backscatter, in radar geometry."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

ZERO_RUN_PX = 8
"""So many zeros in a row are no data. Thermal noise alone makes a true 0 of one pixel in 1e9 or fewer (DN^2 >= 100 at 4.4
looks), so a run this long is never signal; shorter ones are dark water and stay."""


def calibrate(
    dn: NDArray[np.uint16], amplitude: NDArray[np.float64], noise: NDArray[np.float64] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Backscatter (DN^2 - noise) / A^2 and the noise in it, noise / A^2; float32 (lines, pixels) each, linear power.

    Negative values stay: clipped, they would make dark areas too bright as soon as pixels are averaged.

    Parameters
    ----------
    dn : (lines, pixels), amplitude as stored; 0 = no data where eight or more follow each other along a line or a column,
        or where a run of them ends at the array's edge (a window inside an image needs a halo of ZERO_RUN_PX for this)
    amplitude : float64 (lines, pixels), calibration table A of the quantity wanted
    noise : float64 (lines, pixels), thermal noise power in DN^2, NaN = no data; None = nothing to subtract
    """
    dn = np.ascontiguousarray(dn)
    power, noise_power = np.empty(dn.shape, np.float32), np.empty(dn.shape if noise is not None else (0, 0), np.float32)
    empty = np.empty(dn.shape, np.bool_)
    _mark_zero_runs(dn, empty)
    subtracted = np.empty((0, 0)) if noise is None else np.ascontiguousarray(noise, np.float64)
    _calibrate(dn, np.ascontiguousarray(amplitude, np.float64), subtracted, empty, power, noise_power)
    return power, noise_power


def scale(power: NDArray[np.float32], amplitude: NDArray[np.float64]) -> NDArray[np.float32]:
    """Backscatter of powers that have no noise table and know their no data (NaN): power / A^2, float32 (lines, pixels)."""
    return np.asarray(power / np.square(amplitude), np.float32)


@njit(nogil=True, cache=True)
def _calibrate(
    dn: NDArray[np.uint16],
    amplitude: NDArray[np.float64],
    noise: NDArray[np.float64],
    empty: NDArray[np.bool_],
    power: NDArray[np.float32],
    noise_power: NDArray[np.float32],
) -> None:
    for r in range(dn.shape[0]):
        for c in range(dn.shape[1]):
            squared = np.float64(dn[r, c]) * np.float64(dn[r, c])
            gain = amplitude[r, c] * amplitude[r, c]
            if noise.size > 0:
                squared -= noise[r, c]
                noise_power[r, c] = noise[r, c] / gain
            power[r, c] = np.nan if empty[r, c] else squared / gain


@njit(nogil=True, cache=True)
def _mark_zero_runs(dn: NDArray[np.uint16], empty: NDArray[np.bool_]) -> None:
    """True where a run of zeros along the line or the column is long, or ends at the array's edge."""
    n_row, n_col = dn.shape
    empty[:] = False
    above = np.zeros(n_col, np.int64)  # zeros right above, in each column
    for r in range(n_row + 1):
        run = 0
        for c in range(n_col + 1):
            zero = r < n_row and c < n_col and dn[r, c] == 0
            if c < n_col:
                if not zero:
                    length = above[c]
                    if length > 0 and (length >= ZERO_RUN_PX or r in (n_row, length)):
                        empty[r - length : r, c] = True
                    above[c] = 0
                else:
                    above[c] += 1
            if r == n_row:
                continue
            if not zero:
                if run > 0 and (run >= ZERO_RUN_PX or c in (n_col, run)):
                    empty[r, c - run : c] = True
                run = 0
            else:
                run += 1
