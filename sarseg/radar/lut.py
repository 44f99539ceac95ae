"""Lookup tables of a radar image: calibration and thermal noise, evaluated per window (docs/sentinel1.md 4 and 5).

Both are lists of vectors along the pixels, given at some azimuth times: linear along the pixels, then linear in azimuth time, and
the nearest vector beyond the ends. All numbers depend on the line and pixel only, never on the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from sarseg.radar.orbit import Floats
from sarseg.tiles import Window

Quantity = Literal["sigma0", "beta0", "gamma0"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LutVector:
    """One row of a table.

    Parameters
    ----------
    t_s : azimuth time, seconds after the scene's epoch
    pixel : float64 (n,), increasing
    value : float64 (n,)
    """

    t_s: float
    pixel: Floats
    value: Floats

    def __post_init__(self) -> None:
        if len(self.pixel) < 1 or self.pixel.shape != self.value.shape or not np.all(np.diff(self.pixel) > 0):
            raise ValueError(f"{len(self.value)} values at {len(self.pixel)} pixels that must increase")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTimes:
    """Time of an image line: first_s + line * interval_s, seconds after the scene's epoch."""

    first_s: float
    interval_s: float

    def at(self, lines: Floats) -> Floats:
        """Times of lines, float64, s."""
        return self.first_s + lines * self.interval_s

    def line_of(self, t_s: float) -> float:
        """Fractional line of a time."""
        return (t_s - self.first_s) / self.interval_s


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Calibration tables A of one polarisation: backscatter = DN^2 / A^2.

    The absolute calibration constant is already inside of the tables (docs/sentinel1.md 4).

    Parameters
    ----------
    times : of the image lines
    tables : per quantity, the vectors in order of time
    """

    times: LineTimes
    tables: Mapping[Quantity, tuple[LutVector, ...]]

    def amplitude(self, quantity: Quantity, window: Window) -> Floats:
        """A of every pixel of a window, float64 (rows, cols); bilinear in A, as the product specification asks for."""
        return _bilinear(self.tables[quantity], self.times, window)

    def multilooked(self, looks: tuple[int, int]) -> Calibration:
        """The tables for an image with so many lines and pixels in one."""
        down, across = looks
        times = LineTimes(first_s=self.times.first_s + (down - 1) / 2.0 * self.times.interval_s, interval_s=self.times.interval_s * down)
        tables = {
            quantity: tuple(replace(vector, pixel=(vector.pixel - (across - 1) / 2.0) / across) for vector in vectors)
            for quantity, vectors in self.tables.items()
        }
        return Calibration(times=times, tables=tables)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseBlock:
    """The part of an image that one swath fills between two lines, with its scalloping.

    Parameters
    ----------
    swath : name; the blocks of one swath share its range vectors
    first_line, last_line, first_pixel, last_pixel : all inclusive
    line, factor : float64 (n,), azimuth factor at some lines, linear between them
    """

    swath: str
    first_line: int
    last_line: int
    first_pixel: int
    last_pixel: int
    line: Floats
    factor: Floats

    @property
    def window(self) -> Window:
        """The block's pixels."""
        rows, cols = self.last_line - self.first_line + 1, self.last_pixel - self.first_pixel + 1
        return Window(row=self.first_line, col=self.first_pixel, rows=rows, cols=cols)


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """Thermal noise of one polarisation, as a power to be taken from DN^2 before it is divided by A^2.

    A table value of exactly 0 says "no information": outside of the data. It is neither subtracted nor interpolated from.

    Parameters
    ----------
    times : of the image lines
    vectors : range vectors in order of time
    blocks : azimuth blocks; where they leave pixels uncovered there is no data (docs/sentinel1.md 5); empty = factor 1 everywhere
    """

    times: LineTimes
    vectors: tuple[LutVector, ...]
    blocks: tuple[NoiseBlock, ...]

    def power(self, window: Window) -> Floats:
        """Noise power in DN^2, float64 (rows, cols); NaN where the tables say that there is no data."""
        if not self.blocks:
            return _bilinear(self.vectors, self.times, window, zero_is_nothing=True)
        out = np.full(window.shape, np.nan)
        for block, vectors in zip(self.blocks, self._vectors_of_blocks, strict=True):
            part = window.intersect(block.window)
            if part is not None:
                power = _bilinear(vectors, self.times, part, zero_is_nothing=True)
                factor = np.interp(np.arange(part.row, part.row_stop), block.line, block.factor)
                out[part.relative_to(window).slices] = power * factor[:, None]
        return out

    @cached_property
    def _vectors_of_blocks(self) -> tuple[tuple[LutVector, ...], ...]:
        return tuple(self._vectors_of(block) for block in self.blocks)

    def _vectors_of(self, block: NoiseBlock) -> tuple[LutVector, ...]:
        """The range vectors inside of a block, or else its swath's nearest one, each cut to the swath's pixels at its line.

        Without the cut, vectors between which a seam moves would be mixed across it (EW).
        """
        mine: list[tuple[float, LutVector]] = []
        for vector in self.vectors:
            line = self.times.line_of(vector.t_s)
            home = next((b for b in self.blocks if b.swath == block.swath and b.first_line - 0.5 <= line <= b.last_line + 0.5), None)
            inside = (vector.pixel >= home.first_pixel) & (vector.pixel <= home.last_pixel) if home is not None else np.zeros(1, bool)
            if inside.any():
                distance = max(block.first_line - line, line - block.last_line, 0.5)
                mine.append((distance, LutVector(t_s=vector.t_s, pixel=vector.pixel[inside], value=vector.value[inside])))
        nearest = min((distance for distance, _ in mine), default=0.0)
        return tuple(vector for distance, vector in mine if distance == nearest)


def _bilinear(vectors: tuple[LutVector, ...], times: LineTimes, window: Window, *, zero_is_nothing: bool = False) -> Floats:
    """Linear along the pixels, then linear in time; nearest vector beyond the ends. All NaN without a vector."""
    if not vectors:
        return np.full(window.shape, np.nan)
    cols = np.arange(window.col, window.col_stop, dtype=np.float64)
    t_s = times.at(np.arange(window.row, window.row_stop, dtype=np.float64))
    vector_t_s = np.array([vector.t_s for vector in vectors])
    after = np.clip(np.searchsorted(vector_t_s, t_s), 1, max(1, len(vectors) - 1))
    first, last = int(after.min()) - 1, min(int(after.max()), len(vectors) - 1)
    along = _along_valid if zero_is_nothing else _along
    table = np.stack([along(vector, cols) for vector in vectors[first : last + 1]])
    if len(table) == 1:
        return np.repeat(table, window.rows, axis=0)
    before = after - 1
    weight = np.clip((t_s - vector_t_s[before]) / (vector_t_s[after] - vector_t_s[before]), 0.0, 1.0)[:, None]
    low, high = table[before - first], table[after - first]
    if zero_is_nothing:
        # where only one of two vectors has information, it stands for both
        low, high = np.where(np.isnan(low), high, low), np.where(np.isnan(high), low, high)
    return np.asarray(low + weight * (high - low))


def _along(vector: LutVector, cols: Floats) -> Floats:
    return np.interp(cols, vector.pixel, vector.value)


def _along_valid(vector: LutVector, cols: Floats) -> Floats:
    """Interpolate, but a node of value 0 gives NaN, and beside one the other node's value stands for the whole gap."""
    pixel, value = vector.pixel, vector.value
    after = np.clip(np.searchsorted(pixel, cols), 1, max(1, len(pixel) - 1))
    if len(pixel) == 1:
        return np.full(cols.shape, value[0] if value[0] != 0.0 else np.nan)
    low, high = value[after - 1], value[after]
    weight = np.clip((cols - pixel[after - 1]) / (pixel[after] - pixel[after - 1]), 0.0, 1.0)
    result = np.where(low == 0.0, high, np.where(high == 0.0, low, low + weight * (high - low)))
    # between two empty nodes, and on or beyond an empty node, there is nothing
    empty = ((low == 0.0) & (weight == 0.0)) | ((high == 0.0) & (weight == 1.0)) | (result == 0.0)
    return np.where(empty, np.nan, result)
