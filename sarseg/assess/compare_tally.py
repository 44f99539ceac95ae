"""Differences of two images, counted group by group: sums and a fine histogram, whatever the images' size."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sarseg.decibel import FLOOR_POWER

Unit = Literal["dB", "deg", ""]
"""Of differences: dB of powers, degrees of angles, or that of values as they stand in the files."""

PERCENTS = (1, 5, 25, 50, 75, 95, 99)
STEP = 1.01
"""Ratio of the edges of a bin: a percentile is right to half a per cent of itself."""
SCATTER_DB = (-40.0, 10.0)
SCATTER_BINS = 150
_LOG_STEP = float(np.log(STEP))
_LEAST = 1e-9  # differences below it count as 0
_SIDE = int(np.ceil(np.log(1e12 / _LEAST) / np.log(STEP)))  # bins of one sign
_BINS = 2 * _SIDE + 1

Floats = NDArray[np.float64]


class Tally:
    """Differences B - A of one band in some groups; windows may come in any order.

    In dB, only pixels count where both powers are above -50 dB (`FLOOR_POWER`); `power_ratio_db` is of all pixels that have a value.
    """

    def __init__(self, groups: int, unit: Unit) -> None:
        self.unit: Unit = unit
        self.pixels, self.count = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
        self.total, self.squares = np.zeros(groups), np.zeros(groups)
        self.sum_a, self.sum_b = np.zeros(groups), np.zeros(groups)
        self.least, self.most = np.full(groups, np.inf), np.full(groups, -np.inf)
        self.bins = np.zeros((groups, _BINS), np.int64)

    def add(self, group: NDArray[np.int16], a: NDArray[np.float32], b: NDArray[np.float32], difference: Floats) -> None:
        """Count pixels, (rows, cols) each: their group (-1 = none), their values (NaN = none), and their difference (NaN = none)."""
        sums = (self.sum_a, self.sum_b, self.total, self.squares, self.least, self.most)
        _count(group.ravel(), (a.ravel(), b.ravel(), difference.ravel()), (self.pixels, self.count, self.bins), sums)

    @property
    def suffix(self) -> str:
        """What names of numbers in the unit end in."""
        return {"dB": "_db", "deg": "_deg", "": ""}[self.unit]

    def percentile(self, group: int, percent: float) -> float:
        """Of the differences, right to half a per cent of itself; NaN without pixels, and where it lies beyond the bins (1e12)."""
        running = np.cumsum(self.bins[group])
        if not running[-1]:
            return float("nan")
        found = int(np.searchsorted(running, percent / 100.0 * running[-1], side="left"))
        if found in (0, _BINS - 1):
            return float("nan")
        return float(np.clip(bin_middle(np.array([found]))[0], self.least[group], self.most[group]))

    def describe(self, group: int) -> dict[str, Any]:
        """Pixels, bias (mean of B - A), rms, standard deviation, least, most and percentiles, the unit in the names; None = no pixel."""
        unit = self.suffix
        count = int(self.count[group])
        mean = self.total[group] / count if count else np.nan
        square = self.squares[group] / count if count else np.nan
        said: dict[str, Any] = {"pixels": count}
        said |= {f"bias{unit}": mean, f"rms{unit}": np.sqrt(square), f"std{unit}": np.sqrt(max(square - mean**2, 0.0))}
        said |= {f"least{unit}": self.least[group] if count else np.nan, f"most{unit}": self.most[group] if count else np.nan}
        said |= {f"p{percent}{unit}": self.percentile(group, percent) for percent in PERCENTS}
        if self.unit == "dB":
            a, b = self.sum_a[group], self.sum_b[group]
            said["power_ratio_db"] = 10.0 * np.log10(b / a) if a > 0 and b > 0 else np.nan
            said["pixels_below_floor"] = int(self.pixels[group]) - count
        return {key: value if isinstance(value, int) else number(value) for key, value in said.items()}


def differences(a: NDArray[np.float32], b: NDArray[np.float32], scatter: NDArray[np.int64] | None) -> Floats:
    """B - A, float64 of their shape, NaN where there is none: in dB where `scatter` is given, else of the values.

    `scatter` int64 (A, B), equal bins of `SCATTER_DB`, gets the pixels counted; what lies beyond is in the end bins.
    """
    if scatter is None:
        return b.astype(np.float64) - a
    out = np.empty(a.shape)
    _decibels(a.ravel(), b.ravel(), (*SCATTER_DB, FLOOR_POWER), out.ravel(), scatter)
    return out


@njit(nogil=True, cache=True)
def _decibels(
    a: NDArray[np.float32], b: NDArray[np.float32], limits: tuple[float, float, float], out: Floats, scatter: NDArray[np.int64]
) -> None:
    low, high, floor = limits
    bins = scatter.shape[0]
    for i in range(a.size):
        if a[i] > floor and b[i] > floor:  # False for NaN
            x, y = 10.0 * np.log10(np.float64(a[i])), 10.0 * np.log10(np.float64(b[i]))
            out[i] = y - x
            row, col = int(bins * (x - low) / (high - low)), int(bins * (y - low) / (high - low))
            scatter[min(max(row, 0), bins - 1), min(max(col, 0), bins - 1)] += 1
        else:
            out[i] = np.nan


@njit(nogil=True, cache=True)
def _count(
    group: NDArray[np.int16],
    values: tuple[NDArray[np.float32], NDArray[np.float32], Floats],
    counts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    sums: tuple[Floats, Floats, Floats, Floats, Floats, Floats],
) -> None:
    a, b, difference = values
    pixels, count, bins = counts
    sum_a, sum_b, total, squares, least, most = sums
    for i in range(group.size):
        g = group[i]
        if g < 0 or np.isnan(a[i]) or np.isnan(b[i]):
            continue
        pixels[g] += 1
        sum_a[g] += a[i]
        sum_b[g] += b[i]
        d = difference[i]
        if np.isnan(d):
            continue
        count[g] += 1
        total[g] += d
        squares[g] += d * d
        least[g], most[g] = min(least[g], d), max(most[g], d)
        away = 0
        if abs(d) >= _LEAST:
            away = min(1 + int(np.log(abs(d) / _LEAST) / _LOG_STEP), _SIDE)
        bins[g, _SIDE - away if d < 0 else _SIDE + away] += 1


def bin_middle(index: NDArray[np.int64]) -> Floats:
    """Difference in the middle of bins."""
    away = np.abs(index - _SIDE)
    size = _LEAST * STEP ** (away - 0.5)
    return np.asarray(np.where(away == 0, 0.0, np.sign(index - _SIDE) * size))


def number(value: float) -> float | None:
    """For JSON: None stands for NaN."""
    return float(value) if np.isfinite(value) else None
