"""Speckle of PALSAR images: complex white fields with the reflectivity's root on them, through the sensor's bandwidths.

A kernel is the impulse response of a band of a width relative to the sampling, weighted by Hamming's window (0.75). Fields are
numbered by the place in the image, so that blocks of it have no seams.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sarseg.rng import white_noise
from sarseg.tiles import Window

HALO = 8
"""Pixels that a kernel reaches on each side."""
HAMMING = 0.75


def kernel(band: float) -> NDArray[np.float64]:
    """Taps, float64 (2 HALO + 1,), of a band that fills a share 0..1 of the spectrum; they pass unit power."""
    n = np.arange(-HALO, HALO + 1)
    side = 0.5 * (1.0 - HAMMING) * (np.sinc(band * n - 1.0) + np.sinc(band * n + 1.0))
    taps = HAMMING * np.sinc(band * n) + side
    return np.asarray(taps / math.sqrt(float(np.sum(taps**2))))


def white(seed: int, stream: tuple[int, ...], window: Window) -> NDArray[np.complex64]:
    """Complex white noise of unit mean power, complex64 (rows, cols)."""
    parts = [white_noise(seed, (*stream, part), window) for part in range(2)]
    return np.asarray((parts[0] + 1j * parts[1]) * np.float32(math.sqrt(0.5)), np.complex64)


def smoothed(field: NDArray[np.complex64], taps: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.complex64]:
    """A field through the kernels along lines' and pixels' directions; the halo is cut off."""
    from scipy.ndimage import convolve1d

    along = convolve1d(field, taps[0], axis=0, mode="constant")[HALO:-HALO]
    return np.asarray(convolve1d(along, taps[1], axis=1, mode="constant")[:, HALO:-HALO], np.complex64)
