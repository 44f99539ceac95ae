"""Speckle with the looks and the pixel correlation of an IW GRDH.

Five looks, each a complex white field through the look's kernel, added with weights (0.4208, 1, 1, 1, 0.4208): 4.40 looks.
The 7-tap kernels were fitted to the correlations of the annotated bandwidths and Hamming windows (range and azimuth of
IW1..IW3) by <= 0.004 in azimuth and <= 0.007 in range; between near, middle and far range they are blended.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sarseg.rng import white_noise
from sarseg.tiles import Window

HALO = 3
"""Pixels that the kernels reach on each side."""
LOOK_WEIGHTS = (0.4208, 1.0, 1.0, 1.0, 0.4208)

# (1, k1, k2, k3) of a symmetric kernel
_AZIMUTH = (
    (1.0, 0.6841, 0.1746, 0.0015),
    (1.0, 0.6912, 0.1599, -0.0385),
    (1.0, 0.6889, 0.1569, -0.0380),
)
# incidence in degrees, then the kernel, at near, middle and far range of each swath
_RANGE = (
    (33.7 - 3.05, 33.7, 36.5),
    (36.5, 39.1, 41.6),
    (41.6, 43.9, 46.05),
)
_RANGE_TAPS = (
    ((1.0, 0.6965, 0.1908, 0.0021), (1.0, 0.6453, 0.1270, 0.0025), (1.0, 0.6049, 0.0811, 0.0081)),
    ((1.0, 0.6818, 0.1576, -0.0204), (1.0, 0.6428, 0.1117, -0.0145), (1.0, 0.6100, 0.0761, -0.0072)),
    ((1.0, 0.6828, 0.1492, -0.0367), (1.0, 0.6517, 0.1127, -0.0296), (1.0, 0.6257, 0.0845, -0.0229)),
)
SWATH_EDGES_DEG = (36.5, 41.6)
"""Ellipsoidal incidence at the seams IW1/IW2 and IW2/IW3."""


def swath_of(incidence_deg: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the sub-swath, 0..2, that images an incidence."""
    return np.searchsorted(np.array(SWATH_EDGES_DEG), incidence_deg, side="right")


def kernels(incidence_deg: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half kernels, centre first, of each column: azimuth and range, float64 (pixels, 4); each passes unit power."""
    swath = swath_of(incidence_deg)
    azimuth = np.array(_AZIMUTH)[swath]
    along = np.empty((len(swath), 4))
    for number, (angles, taps) in enumerate(zip(_RANGE, _RANGE_TAPS, strict=True)):
        inside = swath == number
        for tap in range(4):
            along[inside, tap] = np.interp(incidence_deg[inside], angles, [one[tap] for one in taps])
    return _unit_power(azimuth), _unit_power(along)


def _unit_power(taps: NDArray[np.float64]) -> NDArray[np.float64]:
    power = taps[:, 0] ** 2 + 2.0 * (taps[:, 1:] ** 2).sum(axis=1)
    return np.asarray(taps / np.sqrt(power)[:, np.newaxis])


def speckled(
    mean: NDArray[np.float32], incidence_deg: NDArray[np.float64], window: Window, seed: int, stream: tuple[int, ...]
) -> NDArray[np.float32]:
    """Detected power of a distributed target whose mean power is given, as the radar's resolution shows it.

    The root of the mean stands on the white fields before the kernels, as the reflectivity does before the radar's
    response: edges are as soft as real ones, and inside a class power is mean times speckle.

    Parameters
    ----------
    mean : float32 (lines + 2 HALO, pixels + 2 HALO), power of signal and noise in `window` and its halo, no NaN
    incidence_deg : float64 (pixels + 2 HALO), of the columns
    window : the pixels wanted, in the image; numbers depend on the place, not on the window
    stream : keys of the random numbers beside the seed; the look is added

    Returns
    -------
    float32 (lines, pixels)
    """
    amplitude = np.sqrt(mean)
    azimuth, along = kernels(incidence_deg)
    taps = azimuth.astype(np.float32), along.astype(np.float32)
    total = np.zeros(window.shape, np.float32)
    scratch = np.empty((window.rows, mean.shape[1]), np.float32)
    for look, weight in enumerate(LOOK_WEIGHTS):
        for part in range(2):
            field = white_noise(seed, (*stream, look, part), window.expand(HALO))
            _add_look(field, amplitude, taps, np.float32(0.5 * weight / sum(LOOK_WEIGHTS)), scratch, total)
    return total


@njit(nogil=True, cache=True)
def _add_look(field, amplitude, taps, weight, scratch, total):  # type: ignore[no-untyped-def]
    azimuth, along = taps
    rows, cols = total.shape
    for r in range(rows):
        for c in range(field.shape[1]):
            value = azimuth[c, 0] * field[r + 3, c] * amplitude[r + 3, c]
            for k in range(1, 4):
                value += azimuth[c, k] * (field[r + 3 - k, c] * amplitude[r + 3 - k, c] + field[r + 3 + k, c] * amplitude[r + 3 + k, c])
            scratch[r, c] = value
        for c in range(cols):
            value = along[c + 3, 0] * scratch[r, c + 3]
            for k in range(1, 4):
                value += along[c + 3, k] * (scratch[r, c + 3 - k] + scratch[r, c + 3 + k])
            total[r, c] += weight * value * value
