"""Values of a radar image between its pixels."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sarseg.radar.orbit import Floats


def bilinear(image: NDArray[np.float32], row: Floats, col: Floats) -> NDArray[np.float32]:
    """Bilinear interpolation that neither spreads nor shrinks nodata.

    A position is NaN when its nearest pixel is NaN or lies outside of the image; otherwise the weights are shared among the
    valid ones of its four neighbours.

    Parameters
    ----------
    image : float32 (band, rows, cols); NaN = nodata
    row, col : float64 (...), pixel centres at whole numbers; NaN gives NaN

    Returns
    -------
    float32 (band, ...)
    """
    rows, cols = (np.require(values, np.float64, ["C", "W"]) for values in np.broadcast_arrays(row, col))
    out = np.empty((len(image), rows.size), np.float32)
    _bilinear(np.require(image, np.float32, ["C", "W"]), rows.ravel(), cols.ravel(), out)
    return out.reshape(len(image), *rows.shape)


@njit(nogil=True, cache=True)
def _bilinear(image: NDArray[np.float32], row: Floats, col: Floats, out: NDArray[np.float32]) -> None:
    bands, n_rows, n_cols = image.shape
    for k in range(row.size):
        y, x = row[k], col[k]
        if not (-0.5 <= y < n_rows - 0.5 and -0.5 <= x < n_cols - 0.5):
            out[:, k] = np.nan
            continue
        r0, c0 = int(np.floor(y)), int(np.floor(x))
        near_r, near_c = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
        for b in range(bands):
            total, weights = 0.0, 0.0
            if not np.isnan(image[b, near_r, near_c]):
                for r in range(max(r0, 0), min(r0 + 2, n_rows)):
                    for c in range(max(c0, 0), min(c0 + 2, n_cols)):
                        value = image[b, r, c]
                        weight = (1.0 - abs(y - r)) * (1.0 - abs(x - c))
                        if weight > 0.0 and not np.isnan(value):
                            total += weight * value
                            weights += weight
            out[b, k] = total / weights if weights > 0.0 else np.nan
