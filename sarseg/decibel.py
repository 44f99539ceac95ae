"""Decibels: only at the network's door and in pictures; everything between files is linear power."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOOR_POWER = 1e-5
"""Linear power below which dB stops: -50 dB."""


def to_db(power: NDArray[np.floating]) -> NDArray[np.floating]:
    """10 log10 of linear power, any shape; below `FLOOR_POWER` (negatives too) -50 dB; NaN stays NaN."""
    dtype = np.result_type(power.dtype, np.float32)
    return np.asarray(10.0 * np.log10(np.maximum(power, dtype.type(FLOOR_POWER))), dtype=dtype)


def from_db(decibel: NDArray[np.floating]) -> NDArray[np.floating]:
    """Linear power of dB values, any shape; NaN stays NaN."""
    dtype = np.result_type(decibel.dtype, np.float32)
    return np.asarray(np.power(dtype.type(10.0), decibel / dtype.type(10.0)), dtype=dtype)
