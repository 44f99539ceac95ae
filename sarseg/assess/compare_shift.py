"""How far one image lies beside another, to a few hundredths of a pixel.

Tiles are clipped, smoothed by a Gaussian of one pixel, and taken into dB where they are powers (in this order: the logarithm of
unsmoothed speckle has details that pixels are too coarse for). Their cross-spectra are summed, divided by the tiles' spectra (a
coherence), and weighted by a Gaussian low pass; the shift is where their correlation is greatest, found on finer and finer steps
of the Fourier sum (Guizar-Sicairos et al. 2008, Efficient subpixel image registration algorithms). The low pass keeps away the
frequencies whose phase interpolation bends: bilinear interpolation at 0.3 pixel errs by 0.04 pixel at a quarter of the sampling
frequency, by 0.01 below a sixth of it. One tile of 256 pixels of 4-look speckle is right to 0.05 pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.decibel import FLOOR_POWER
from sarseg.tiles import Window

TILE_PX = 256
MOST_TILES = 36
_LEAST_TILE_PX = 32
_LOW_PASS = 0.12  # cycles a pixel, one standard deviation
_LEAST_VALID = 0.75
_CLIP_PERCENT = 2.0
_SMOOTH_PX = 1.0
_SIGNIFICANT = 6.0  # standard deviations of the correlation of unrelated images
_HANN_SPREAD = 1.5  # frequencies that one takes together, along each side
_STEPS_PX = (0.1, 0.01, 0.001)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What stands at (row, col) in A stands at (row + `row_px`, col + `col_px`) in B.

    `error_px` is the standard error by the scatter of single tiles, NaN with fewer than three; `scatter_px` that scatter itself,
    (row, col): 1.48 median absolute deviations. `correlation` is 1 for equal images.
    """

    row_px: float
    col_px: float
    correlation: float
    tiles: int
    scatter_px: tuple[float, float]

    @property
    def error_px(self) -> float:
        """Of the larger component."""
        return float(max(self.scatter_px) / np.sqrt(_independent(self.tiles)))


def _independent(tiles: int) -> float:
    """Tiles lie half over each other: a quarter of them is new."""
    return max(1.0, tiles / 4.0)


def choose_tiles(window: Window) -> list[Window]:
    """At most `MOST_TILES` square windows spread over one, half over each other where there is room for few; none when it is too small."""
    shorter = min(window.rows, window.cols)
    if shorter < _LEAST_TILE_PX:
        return []
    side = min(TILE_PX, max(_LEAST_TILE_PX, shorter // 4 * 2))  # of a small image, whose corners may be empty, half
    most = int(np.sqrt(MOST_TILES))
    starts = []
    for first, length in ((window.row, window.rows), (window.col, window.cols)):
        count = min(most, 1 + -(-2 * (length - side) // side))
        starts.append(np.unique(np.linspace(first, first + length - side, count).round().astype(int)) if count > 1 else [first])
    return [Window(row=int(row), col=int(col), rows=side, cols=side) for row in starts[0] for col in starts[1]]


def find_shift(tiles: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]], *, power: bool) -> Shift | None:
    """The shift between images given as pairs of tiles, float32 (n, n) all of one size, NaN = no data.

    `power`: the values are linear power, and are compared in dB.
    None when no tile holds enough data, or when the images are not alike.
    """
    cross: NDArray[np.complex128] = np.zeros((1, 1), np.complex128)
    power_a: Floats = np.zeros((1, 1))
    power_b: Floats = np.zeros((1, 1))
    single: list[tuple[float, float]] = []
    for a, b in tiles:
        seen = _spectra(a, b, power=power)
        if seen is None:
            continue
        one, mine, theirs = seen[0] * np.conj(seen[1]), np.abs(seen[0]) ** 2, np.abs(seen[1]) ** 2
        cross, power_a, power_b = cross + one, power_a + mine, power_b + theirs
        single.append(_peak(_coherence(one, mine, theirs))[:2])
    if not single:
        return None
    coherence = _coherence(cross, power_a, power_b)
    row, col, correlation = _peak(coherence)
    weight = _low_pass(len(coherence))
    noise = _HANN_SPREAD * np.sqrt((weight**2).sum()) / weight.sum() / np.sqrt(_independent(len(single)))
    if correlation < _SIGNIFICANT * noise:
        return None
    scatter = 1.4826 * np.median(np.abs(np.array(single) - np.median(single, axis=0)), axis=0) if len(single) > 2 else (np.nan, np.nan)
    return Shift(row_px=row, col_px=col, correlation=correlation, tiles=len(single), scatter_px=(float(scatter[0]), float(scatter[1])))


def _spectra(
    a: NDArray[np.float32], b: NDArray[np.float32], *, power: bool
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]] | None:
    """Fourier transforms of B and A, windowed, their means and gaps taken out; None without data, or of an even image."""
    from scipy.ndimage import gaussian_filter

    valid = np.isfinite(a) & np.isfinite(b)
    if valid.mean() < _LEAST_VALID:
        return None
    hann = np.hanning(len(a) + 2)[1:-1]
    found = []
    for image in (b, a):
        low, middle, high = np.percentile(image[valid], (_CLIP_PERCENT, 50.0, 100.0 - _CLIP_PERCENT))
        smooth = gaussian_filter(np.where(valid, np.clip(image, low, high), middle).astype(np.float64), _SMOOTH_PX)
        if power:
            smooth = np.log10(np.maximum(smooth, FLOOR_POWER))
        centred = np.where(valid, smooth - smooth[valid].mean(), 0.0)
        if not centred.any():
            return None
        found.append(np.fft.fft2(centred * hann[:, None] * hann))
    return found[0], found[1]


def _coherence(cross: NDArray[np.complex128], power_a: Floats, power_b: Floats) -> NDArray[np.complex128]:
    weight = np.sqrt(power_a * power_b)
    return np.divide(cross, weight, out=np.zeros_like(cross), where=weight > 0)


def _low_pass(side: int) -> Floats:
    one = np.exp(-0.5 * (np.fft.fftfreq(side) / _LOW_PASS) ** 2)
    weight = np.outer(one, one)
    weight[0, 0] = 0.0  # the mean has no place
    return np.asarray(weight)


def _peak(coherence: NDArray[np.complex128]) -> tuple[float, float, float]:
    """Row, column (within a quarter of the tile) and height of the greatest correlation."""
    side = len(coherence)
    weighted = coherence * _low_pass(side)
    total = _low_pass(side).sum()
    reach = side // 4
    whole = np.fft.ifft2(weighted).real
    near = np.roll(whole, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    top = np.unravel_index(int(near.argmax()), near.shape)
    row, col = float(top[0]) - reach, float(top[1]) - reach
    frequency, height = np.fft.fftfreq(side), 0.0
    for step in _STEPS_PX:
        offsets = np.arange(-10, 11) * step
        down, across = (np.exp(2j * np.pi * np.outer(place + offsets, frequency)) for place in (row, col))
        fine = (down @ weighted @ across.T).real / total
        best = np.unravel_index(int(fine.argmax()), fine.shape)
        row, col, height = row + float(offsets[best[0]]), col + float(offsets[best[1]]), float(fine.max())
    return row, col, height
