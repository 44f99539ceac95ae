"""The scales in which a network sees its bands: from values as they stand in files to values at its door.

Arrays and names only. An off-diagonal element of a covariance or coherency matrix carries the power of both its channels;
divided by the root of its two diagonal elements it is the real or imaginary part of a correlation coefficient, -1..1
(Lee and Pottier 2009, Polarimetric Radar Imaging, section 4.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from sarseg.decibel import to_db
from sarseg.errors import UsageError

Scale = Literal["db", "linear", "correlation", "raw"]
"""db: dB of linear power; linear: power as it stands; correlation: an off-diagonal element over the root of its diagonals;
raw: anything else, as it stands."""
SCALES: tuple[Scale, ...] = get_args(Scale)
Quantity = Literal["power", "raw"]
"""What a product holds: linear power of backscatter, or values as they stand in a foreign file."""

_OFF_DIAGONAL = re.compile(r"([a-z]+)([1-4])([1-4])_?(real|imag|re|im)", re.IGNORECASE)


class Band(Protocol):
    """What must be known of a band to scale it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def scale(self) -> Scale:
        """Its scale at the network's door."""
        ...

    @property
    def diagonals(self) -> tuple[str, str] | None:
        """For "correlation", and only there: the names of the two bands the root of whose product divides."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BandScale:
    """A band and its scale; `diagonals` are the bands that divide a "correlation"."""

    name: str
    scale: Scale
    diagonals: tuple[str, str] | None = None


def choose_scales(names: Sequence[str], default: Iterable[Scale], wanted: Mapping[str, Scale]) -> tuple[BandScale, ...]:
    """Each band with the scale `wanted` of it, else its default; the diagonals of a "correlation" are known from its name.

    UsageError for a band that is not there, and for a correlation whose diagonal elements are unknown or not there.
    """
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise UsageError(f"no band {', '.join(unknown)} to scale", hint=f"bands are {', '.join(names)}")
    bands = tuple(
        BandScale(name=name, scale=scale, diagonals=diagonals_of(name) if scale == "correlation" else None)
        for name, scale in ((name, wanted.get(name, plain)) for name, plain in zip(names, default, strict=True))
    )
    for band in bands:
        fault = diagonal_fault(band, names)
        if fault:
            raise UsageError(fault, hint="a correlation is an off-diagonal element such as T12_real, beside T11 and T22")
    return bands


def diagonals_of(name: str) -> tuple[str, str] | None:
    """The diagonal elements that belong to an off-diagonal one, by name; None for any other name.

    >>> diagonals_of("T12_real"), diagonals_of("C13_imag"), diagonals_of("T11"), diagonals_of("VV")
    (('T11', 'T22'), ('C11', 'C33'), None, None)
    """
    found = _OFF_DIAGONAL.fullmatch(name)
    if found is None or found[2] == found[3]:
        return None
    return f"{found[1]}{found[2] * 2}", f"{found[1]}{found[3] * 2}"


def diagonal_fault(band: Band, names: Sequence[str]) -> str:
    """What is wrong with the diagonals of a band among bands of these names; empty when nothing is."""
    if band.scale != "correlation":
        return f"band {band.name}: only a correlation has diagonals" if band.diagonals is not None else ""
    if band.diagonals is None:
        return f"band {band.name}: its diagonal elements are not known"
    missing = [name for name in band.diagonals if name not in names]
    return f"band {band.name}: its diagonal element {missing[0]} is not among the bands" if missing else ""


def scaled(values: NDArray[np.float32], bands: Sequence[Band]) -> NDArray[np.float32]:
    """Values (band, ...) in the scales of `bands`, a fresh array float32 of the same shape; NaN stays NaN.

    All bands are needed at once: a correlation looks at its diagonal elements, as they stand in `values`.
    """
    out = np.empty(values.shape, np.float32)
    for at, _ in enumerate(bands):
        out[at] = scaled_band(values, bands, at)
    return out


def scaled_band(values: NDArray[np.float32], bands: Sequence[Band], at: int) -> NDArray[np.float32]:
    """Band number `at` of `values` (band, ...) in its scale, float32 (...); a view where nothing is to be done."""
    band = bands[at]
    if band.scale == "db":
        return np.asarray(to_db(values[at]), np.float32)
    if band.scale == "correlation":
        assert band.diagonals is not None
        first, second = (next(k for k, one in enumerate(bands) if one.name == name) for name in band.diagonals)
        return correlation(values[at], values[first], values[second])
    return np.asarray(values[at], np.float32)


def correlation(element: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """element / sqrt(first * second), float32 of the same shape, kept in -1..1; 0 where the product is not above 0.

    NaN where any of the three is NaN.
    """
    product = first.astype(np.float64) * second  # of two weak powers: below what float32 holds
    empty = product <= 0
    product[empty] = 1.0
    found = np.clip(element / np.sqrt(product), -1.0, 1.0)
    found[empty & ~np.isnan(element)] = 0.0
    return np.asarray(found, np.float32)
