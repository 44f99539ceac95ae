"""The per-pixel baselines against scikit-learn's arithmetic, done by hand, and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from sarseg.errors import InputError
from sarseg.nets.baselines import boxcar, fit_gaussian


def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    means = {4: (-20.0, -30.0, 35.0), 7: (-9.0, -16.0, 40.0), 11: (-8.0, -13.0, 38.0)}
    mixing = np.array([[2.0, 0.0, 0.0], [1.2, 1.0, 0.0], [0.1, -0.2, 0.8]])
    parts, codes = [], []
    for (code, mean), count in zip(means.items(), (400, 900, 150), strict=True):
        parts.append(np.array(mean)[:, None] + mixing @ rng.standard_normal((3, count)))
        codes.append(np.full(count, code, np.uint8))
    return np.concatenate(parts, 1).astype(np.float32), np.concatenate(codes)


@pytest.mark.parametrize("priors", ["training", "equal"])
def test_gaussian_equals_the_formula_pixel_by_pixel(priors: str) -> None:
    features, codes = samples()
    got = fit_gaussian(features, codes, priors=priors).predict(features.reshape(3, 29, 50)).ravel()  # type: ignore[arg-type]
    for at in range(0, features.shape[1], 7):
        scores = {}
        for code in (4, 7, 11):
            own = features[:, codes == code].astype("f8")
            centre, spread = own.mean(1), np.cov(own)
            off = features[:, at].astype("f8") - centre
            density = np.exp(-0.5 * off @ np.linalg.inv(spread) @ off) / np.sqrt((2 * np.pi) ** 3 * np.linalg.det(spread))
            scores[code] = density * (own.shape[1] / features.shape[1] if priors == "training" else 1 / 3)
        assert got[at] == max(scores, key=lambda code: scores[code])


def test_nan_and_unlabelled_pixels_are_left_out() -> None:
    features, codes = samples()
    clean = fit_gaussian(features, codes)
    more = np.concatenate([features, np.full((3, 5), 99.0, np.float32), np.full((3, 4), np.nan, np.float32)], 1)
    labels = np.concatenate([codes, np.array([0, 255, 255, 0, 0], np.uint8), np.full(4, 7, np.uint8)])
    dirty = fit_gaussian(more, labels)
    np.testing.assert_array_equal(dirty.mean, clean.mean)
    np.testing.assert_array_equal(dirty.predict(more[:, -4:].reshape(3, 2, 2)), np.zeros((2, 2)))


def test_classes_without_enough_pixels_are_left_out() -> None:
    features, codes = samples()
    codes[:3], codes[3:6] = 99, 98
    assert set(fit_gaussian(features, codes).codes) == {4, 7, 11}
    with pytest.raises(InputError, match="more than 3 training pixels"):
        fit_gaussian(features[:, :3], codes[:3])


@pytest.mark.parametrize(("shape", "size"), [((2, 1, 1), 3), ((1, 7, 11), 5), ((2, 12, 3), 7), ((1, 4, 5), 1)])
def test_boxcar_equals_brute_force(shape: tuple[int, int, int], size: int) -> None:
    rng = np.random.default_rng(8)
    power = rng.gamma(4.4, 1 / 4.4, shape).astype("f4")
    power[rng.random(shape) < 0.2] = np.nan
    got, half = boxcar(power, size), size // 2
    for (b, r, c), value in np.ndenumerate(power):
        near = power[b, max(0, r - half) : r + half + 1, max(0, c - half) : c + half + 1].astype("f8")
        np.testing.assert_allclose(got[b, r, c], np.nan if np.isnan(value) else np.nanmean(near), rtol=1e-6)


def test_boxcar_needs_a_centre() -> None:
    with pytest.raises(InputError, match="no centre"):
        boxcar(np.ones((1, 3, 3), np.float32), 4)
