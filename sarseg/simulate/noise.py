"""The tables of a scene at every pixel: thermal noise and calibration, by the simulator's own interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sarseg.simulate.annotation import Calibration, NoiseVectors
from sarseg.tiles import Window


def noise_power(vectors: NoiseVectors, shape: tuple[int, int], window: Window) -> NDArray[np.float64]:
    """Noise in DN^2, float64 (lines, pixels); NaN where the vectors say that there is no signal.

    Linear in pixel, linear in line between range vectors, times the azimuth block that holds the pixel (linear in line).
    A range value of 0 means no data, in the newer format; where all is 0 (IPF 2.36) there is no noise to know.
    Outside an image of `shape` the nearest pixel's value is taken, so that a halo can be filled.
    """
    line = np.clip(np.arange(window.row, window.row_stop), 0, shape[0] - 1).astype(np.float64)
    pixel = np.clip(np.arange(window.col, window.col_stop), 0, shape[1] - 1).astype(np.float64)
    rows = np.stack([_range_vector(*one, pixel) for one in zip(vectors.pixel, vectors.power, strict=True)])
    if not any(one.any() for one in vectors.power):
        return np.zeros(window.shape)
    power = _between_lines(vectors.line, rows, line)
    if not vectors.blocks:
        return power
    factor = np.full(window.shape, np.nan)
    for first_line, first_pixel, last_line, last_pixel, lines, factors in vectors.blocks:
        inside = np.ix_((line >= first_line) & (line <= last_line), (pixel >= first_pixel) & (pixel <= last_pixel))
        factor[inside] = np.interp(line[inside[0][:, 0]], lines, factors)[:, np.newaxis]
    return np.asarray(power * factor)


def _range_vector(nodes: NDArray[np.float64], values: NDArray[np.float64], pixel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear between nodes; NaN where a node that counts is 0."""
    known = np.where(values > 0.0, values, np.nan)
    at = np.clip(np.searchsorted(nodes, pixel, side="right") - 1, 0, len(nodes) - 2)
    share = np.clip((pixel - nodes[at]) / (nodes[at + 1] - nodes[at]), 0.0, 1.0)
    both = (1.0 - share) * known[at] + share * known[at + 1]
    return np.where(share == 0.0, known[at], np.where(share == 1.0, known[at + 1], both))


def _between_lines(nodes: NDArray[np.float64], rows: NDArray[np.float64], line: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(nodes) == 1:
        return np.repeat(rows, len(line), axis=0)
    at = np.clip(np.searchsorted(nodes, line, side="right") - 1, 0, len(nodes) - 2)
    share = np.clip((line - nodes[at]) / (nodes[at + 1] - nodes[at]), 0.0, 1.0)[:, np.newaxis]
    return (1.0 - share) * rows[at] + share * rows[at + 1]


def beta0_amplitude(calibration: Calibration, window: Window) -> NDArray[np.float64]:
    """A of beta0, float64 (lines, pixels), bilinear in A; the ends are kept beyond."""
    pixel = np.arange(window.col, window.col_stop, dtype=np.float64)
    rows = np.stack([np.interp(pixel, calibration.pixel, one) for one in calibration.beta0])
    return _between_lines(calibration.line, rows, np.arange(window.row, window.row_stop, dtype=np.float64))
