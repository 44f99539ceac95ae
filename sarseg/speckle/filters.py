"""The one door to the speckle filters: numpy and dask arrays of linear power, of two dimensions or with bands in front."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarseg.errors import UsageError
from sarseg.speckle import kernels

LEE_WINDOW = 7
LOOKS_GRDH = 4.4
"""Equivalent number of looks of a Sentinel-1 IW GRDH, as ESA states it."""


def lee(power: ArrayLike | Any, looks: float = LOOKS_GRDH, *, window: int = LEE_WINDOW, noise: ArrayLike | Any | None = None) -> Any:
    """Lee's filter: the local mean where speckle explains the local variance, and towards the pixel where it does not.

    With m and v the mean and the sample variance (n - 1) of the n valid pixels of the window, x the pixel and
    K = 1 / looks: w = max(0, 1 - K m^2 / v), result = m + w (x - m). This is the filter of SNAP and of OTB inside the
    image; at the image's edges the window shrinks to the pixels that exist, as SNAP's does (OTB repeats edge pixels).

    Parameters
    ----------
    power : float (..., rows, cols), linear power, NaN = no data; numpy or dask
    looks : equivalent number of looks, > 0
    window : side of the window in pixels, odd
    noise : float, same shape: additive noise power that was subtracted from `power`. Speckle multiplied signal and noise
        together, so K (m + noise)^2 is then the variance that it explains. Negative power is welcome

    Returns
    -------
    float32, same shape and kind (dask stays lazy). NaN exactly where `power` is NaN: a hole neither grows nor shrinks.
    A pixel's bits do not depend on tiles or chunks. UsageError for a window that is even or looks that are not positive.

    References
    ----------
    Lee, J.-S. (1980), Digital image enhancement and noise filtering by use of local statistics, IEEE Trans. Pattern
    Analysis and Machine Intelligence 2(2), 165-168, doi:10.1109/TPAMI.1980.4766994.

    Examples
    --------
    >>> import numpy as np
    >>> lee(np.array([[1.0, 1.0, np.nan, 1.0]]), window=3)
    array([[ 1.,  1., nan,  1.]], dtype=float32)
    """
    if window < 1 or window % 2 == 0:
        raise UsageError(f"a speckle window has an odd number of pixels, not {window}")
    if not looks > 0:
        raise UsageError(f"the number of looks is positive, not {looks}")
    if _is_lazy(power):
        return _lee_lazy(power, looks, window, noise)
    values = np.asarray(power)
    if values.ndim < 2:
        raise UsageError(f"a speckle filter needs (..., rows, cols), not {values.ndim} dimensions")
    return _lee_numpy(values, None if noise is None else np.asarray(noise), looks, window)


def _is_lazy(array: object) -> bool:
    """Whether this is a dask array, without importing dask for those who do not use it."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(array, module.Array)


def _lee_numpy(power: NDArray[Any], noise: NDArray[Any] | None, looks: float, window: int) -> NDArray[np.float32]:
    if noise is not None and noise.shape != power.shape:
        raise UsageError(f"noise of shape {noise.shape} does not fit power of shape {power.shape}")
    images = np.ascontiguousarray(power, np.float32).reshape(-1, *power.shape[-2:])
    nothing = np.zeros((len(images), 0, 0), np.float32)
    added = nothing if noise is None else np.ascontiguousarray(noise, np.float32).reshape(images.shape)
    out = np.empty_like(images)
    for image, noise_power, result in zip(images, added, out, strict=True):
        kernels.lee(image, noise_power, float(looks), window // 2, result)
    return out.reshape(power.shape)


def _lee_lazy(power: Any, looks: float, window: int, noise: Any | None) -> Any:
    import dask.array as da

    arrays = [power] if noise is None else [power, da.asarray(noise).rechunk(power.chunks)]
    reach = {axis: min(window // 2, power.shape[axis] - 1) for axis in (power.ndim - 2, power.ndim - 1)}  # dask refuses more

    def part(block: NDArray[Any], noise_block: NDArray[Any] | None = None) -> NDArray[np.float32]:
        return _lee_numpy(block, noise_block, looks, window)

    depth: Any = reach if len(arrays) == 1 else [reach] * len(arrays)
    boundary: Any = "none" if len(arrays) == 1 else ["none"] * len(arrays)
    return da.map_overlap(part, *arrays, depth=depth, boundary=boundary, dtype=np.float32, meta=np.empty((0,) * power.ndim, np.float32))
