"""The simulator's speckle: looks, correlation, independence, the same numbers in any block."""

from __future__ import annotations

import numpy as np
import pytest

from sarseg.simulate.speckle import HALO, kernels, speckled, swath_of
from sarseg.tiles import Window

# incidence, then lags 1, 2, 3 of intensity in azimuth and in range, from the annotated bandwidths and Hamming windows (model of
# overlapping looks); the kernels were fitted to them within 0.004 and 0.007, the estimate here scatters by 0.003
_LAGS = {
    33.7: ((0.652, 0.167, 0.015), (0.614, 0.129, 0.008)),
    39.1: ((0.631, 0.136, 0.005), (0.598, 0.110, 0.004)),
    43.9: ((0.629, 0.135, 0.005), (0.597, 0.105, 0.002)),
}


def _draw(theta_deg: float, shape: tuple[int, int], stream: tuple[int, ...] = (7, 0)) -> np.ndarray:
    mean = np.ones((shape[0] + 2 * HALO, shape[1] + 2 * HALO), np.float32)
    window = Window(row=0, col=0, rows=shape[0], cols=shape[1])
    return speckled(mean, np.full(mean.shape[1], theta_deg), window, 11, stream).astype(np.float64)


@pytest.mark.parametrize("theta_deg", _LAGS)
def test_looks_and_lags(theta_deg: float) -> None:
    power = _draw(theta_deg, (1100, 1200))
    assert power.mean() == pytest.approx(1.0, abs=0.004)
    assert power.mean() ** 2 / power.var() == pytest.approx(4.40, abs=0.03)
    rest = power - power.mean()
    azimuth = [float((rest[k:] * rest[:-k]).mean() / power.var()) for k in (1, 2, 3)]
    along = [float((rest[:, k:] * rest[:, :-k]).mean() / power.var()) for k in (1, 2, 3)]
    np.testing.assert_allclose(azimuth, _LAGS[theta_deg][0], atol=0.008)
    np.testing.assert_allclose(along, _LAGS[theta_deg][1], atol=0.01)
    diagonal = float((rest[1:, 1:] * rest[:-1, :-1]).mean() / power.var())
    assert diagonal == pytest.approx(azimuth[0] * along[0], abs=0.008)


def test_polarisations_are_independent() -> None:
    one, other = _draw(39.0, (500, 500)), _draw(39.0, (500, 500), (7, 1))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.012  # 3 sigma of 40000 independent places


def test_any_block_has_the_same_numbers() -> None:
    rng = np.random.default_rng(1)
    mean = rng.uniform(0.1, 3.0, (310 + 2 * HALO, 277 + 2 * HALO)).astype(np.float32)
    theta = np.linspace(36.0, 37.0, mean.shape[1])
    whole = speckled(mean, theta, Window(row=-5, col=250, rows=310, cols=277), 3, (1,))
    for row, col, rows, cols in ((0, 0, 1, 1), (17, 3, 255, 61), (251, 200, 59, 77)):
        part = mean[row : row + rows + 2 * HALO, col : col + cols + 2 * HALO]
        window = Window(row=row - 5, col=col + 250, rows=rows, cols=cols)
        got = speckled(part, theta[col : col + cols + 2 * HALO], window, 3, (1,))
        np.testing.assert_array_equal(got, whole[row : row + rows, col : col + cols])


def test_edges_are_as_wide_as_the_resolution() -> None:
    """A step of 20 dB: the mean over many lines rises over about two pixels, and its middle stays in place."""
    mean = np.ones((4000 + 2 * HALO, 60 + 2 * HALO), np.float32)
    mean[:, 30 + HALO :] = 100.0
    power = speckled(mean, np.full(mean.shape[1], 39.0), Window(row=0, col=0, rows=4000, cols=60), 5, (2,)).mean(axis=0)
    kernel = kernels(np.array([39.0]))[1][0]
    full = np.concatenate([kernel[:0:-1], kernel]) ** 2
    want = np.convolve(np.where(np.arange(-3, 63) < 30, 1.0, 100.0), full, mode="valid")
    np.testing.assert_allclose(power, want, rtol=0.05)  # 3 sigma of 4000 correlated lines


def test_swaths_by_angle() -> None:
    np.testing.assert_array_equal(swath_of(np.array([31.0, 36.4, 36.6, 41.5, 41.7, 46.0])), [0, 0, 1, 1, 2, 2])
    azimuth, along = kernels(np.array([31.0, 36.6, 45.0]))
    for taps in (azimuth, along):
        np.testing.assert_allclose(taps[:, 0] ** 2 + 2.0 * (taps[:, 1:] ** 2).sum(axis=1), 1.0, rtol=1e-12)
