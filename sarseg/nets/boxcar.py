"""Means over square windows, and the features that a random forest is fed: what a filter makes of the bands.

A window sees what it is given and nothing else: at the edge of a patch or tile it is cut off there, and NaN is left out of
its mean. Maps are blended from overlapping tiles, which hides most of the tiles' edges and not all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sarseg.decibel import from_db, to_db
from sarseg.errors import InputError

if TYPE_CHECKING:
    from sarseg.nets.modelfile import BandSpec

SIZES = (3, 7, 15)
"""Sides of the windows of the means, pixels."""
DEVIATION_SIZE = 7
FEATURES_A_BAND = 2 + len(SIZES)
"""The band, its means, and its standard deviation."""

_KINDS = {"db": 1, "linear": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class BandScales:
    """How to undo the normalisation of the bands.

    `kind` int8 (bands,): 1 = dB, whose power is averaged, 2 = power already, 0 = anything else; `diagonals` int64 (bands, 2):
    numbers of the two bands the root of whose product divides a correlation, -1 for any other band; `mean`, `std` float32
    (bands,).
    """

    kind: NDArray[np.int8]
    diagonals: NDArray[np.int64]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def of(cls, bands: Sequence[BandSpec]) -> BandScales:
        """Of a model's bands."""
        names = [band.name for band in bands]
        pairs = [[names.index(name) for name in band.diagonals] if band.diagonals else [-1, -1] for band in bands]
        return cls(
            kind=np.array([_KINDS.get(band.scale, 0) for band in bands], np.int8),
            diagonals=np.array(pairs, np.int64),
            mean=np.array([band.mean for band in bands], np.float32),
            std=np.array([band.std for band in bands], np.float32),
        )


def boxcar(power: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """Mean of linear power over size x size pixels, float32 (band, rows, cols); NaN is left out and stays NaN.

    InputError for an even size.
    """
    if size < 1 or size % 2 == 0:
        raise InputError(f"a boxcar of {size} pixels has no centre", hint="an odd size")
    valid = ~np.isnan(power)
    total = _window_sum(np.where(valid, power, 0.0), size)
    count = _window_sum(valid.astype(np.float64), size)
    return np.where(valid, total / np.maximum(count, 1.0), np.nan).astype(np.float32)


def deviation(values: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """Standard deviation (divided by the count) over size x size pixels, float32 (band, rows, cols); NaN as in `boxcar`.

    Values should be near zero, as normalised bands are: it is the root of mean square less squared mean, in float64.
    """
    valid = ~np.isnan(values)
    known = np.where(valid, values, 0.0).astype(np.float64)
    count = np.maximum(_window_sum(valid.astype(np.float64), size), 1.0)
    mean = _window_sum(known, size) / count
    variance = _window_sum(known * known, size) / count - mean * mean
    return np.where(valid, np.sqrt(np.maximum(variance, 0.0)), np.nan).astype(np.float32)


def filtered_features(normalised: NDArray[np.float32], scales: BandScales) -> NDArray[np.float32]:
    """Features float32 (bands * FEATURES_A_BAND, rows, cols) of normalised bands (bands, rows, cols); NaN where a band is NaN.

    Band after band: the band, its means over 3 x 3, 7 x 7 and 15 x 15, its standard deviation over 7 x 7. Backscatter is
    averaged as linear power and then turned to dB; a correlation is averaged as the covariance that it came from and divided
    by the root of the averaged powers; other bands are averaged as they are.
    """
    values = normalised * scales.std[:, np.newaxis, np.newaxis] + scales.mean[:, np.newaxis, np.newaxis]
    in_db = scales.kind == _KINDS["db"]
    plain = values.copy()
    plain[in_db] = from_db(values[in_db])
    crossed = np.flatnonzero(scales.diagonals[:, 0] >= 0)
    first, second = scales.diagonals[crossed].T
    summed = plain.copy()
    summed[crossed] *= np.sqrt(np.maximum(plain[first] * plain[second], 0.0))
    out = np.empty((len(values), FEATURES_A_BAND, *values.shape[1:]), np.float32)
    out[:, 0] = values
    for at, size in enumerate(SIZES, start=1):
        mean = boxcar(summed, size)
        product = mean[first] * mean[second]
        root = np.sqrt(np.where(product > 0, product, 1.0))
        mean[crossed] = np.where(product > 0, mean[crossed] / root, mean[crossed] * 0)  # 0, and NaN where it was
        mean[scales.kind > 0] = to_db(mean[scales.kind > 0])
        out[:, at] = mean
    out[:, -1] = deviation(normalised, DEVIATION_SIZE) * scales.std[:, np.newaxis, np.newaxis]
    return out.reshape(-1, *values.shape[1:])


def _window_sum(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Sum over a square window in the last two axes; outside the image is 0."""
    for axis in (values.ndim - 2, values.ndim - 1):
        margin = [(size // 2, size // 2) if at == axis else (0, 0) for at in range(values.ndim)]
        values = sliding_window_view(np.pad(values, margin), size, axis=axis).sum(axis=-1)
    return values
