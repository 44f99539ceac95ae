"""Bilinear resampling with nodata against plain Python."""

from __future__ import annotations

import math

import numpy as np

from sarseg.radar.resample import bilinear


def by_hand(band, row, col):
    rows, cols = band.shape
    near = math.floor(row + 0.5), math.floor(col + 0.5)
    if not (0 <= near[0] < rows and 0 <= near[1] < cols) or math.isnan(band[near]):
        return math.nan
    total = weights = 0.0
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(col), math.floor(col) + 1):
            weight = (1 - abs(row - r)) * (1 - abs(col - c))
            if 0 <= r < rows and 0 <= c < cols and weight > 0 and not math.isnan(band[r, c]):
                total, weights = total + weight * float(band[r, c]), weights + weight
    return total / weights


def test_bilinear_equals_plain_python():
    rng = np.random.default_rng(1)
    image = rng.gamma(1.0, 1.0, (2, 9, 13)).astype("f4")
    image[0][rng.random((9, 13)) < 0.3] = np.nan
    row, col = rng.uniform(-1.5, 10, (7, 80)), rng.uniform(-1.5, 14.5, (7, 80))
    row[0], col[1] = np.round(row[0]), np.round(col[1])
    got = bilinear(image, row, col)
    assert got.shape == (2, 7, 80)
    assert got.dtype == np.float32
    for (b, i, j), value in np.ndenumerate(got):
        np.testing.assert_allclose(value, by_hand(image[b], row[i, j], col[i, j]), rtol=1e-6)  # one rounding to float32


def test_on_pixel_centres_nothing_changes_and_nan_positions_stay_nan():
    rng = np.random.default_rng(2)
    image = rng.normal(size=(1, 5, 8)).astype("f4")
    image[0, 2, 3] = np.nan
    row, col = np.mgrid[:5, :8].astype(float)
    np.testing.assert_array_equal(bilinear(image, row, col), image)
    assert np.isnan(bilinear(image, np.array([np.nan, 1.0]), np.array([1.0, np.nan]))).all()


def test_a_plane_is_kept_across_a_hole():
    row, col = np.mgrid[:11, :17].astype(float)
    image = (2 * row + 3 * col).astype("f4")[None]
    at_row, at_col = np.full(30, 4.5), np.linspace(0, 16, 30)
    np.testing.assert_allclose(bilinear(image, at_row, at_col)[0], 9 + 3 * at_col, rtol=1e-6)
