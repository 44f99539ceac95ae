"""Per-pixel baselines that a network must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sarseg.errors import InputError

_CHUNK = 1 << 18  # pixels at a time: the working arrays stay in the cache


@dataclass(frozen=True, slots=True)
class GaussianClassifier:
    """Gaussian maximum likelihood (e.g. Richards 2013, section 8.2): one mean and one covariance a class.

    `codes` uint8 (classes,), `mean` float64 (classes, features), `whitening` float64 (classes, features, features), lower
    triangular with covariance^-1 = whitening @ whitening.T, `log_prior` float64 (classes,).
    """

    codes: NDArray[np.uint8]
    mean: NDArray[np.float64]
    whitening: NDArray[np.float64]
    log_prior: NDArray[np.float64]

    def log_likelihood(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log of prior x density up to a constant, float64 (classes, pixels), of features (features, pixels)."""
        centred = features.astype(np.float64)[np.newaxis] - self.mean[:, :, np.newaxis]
        white = np.einsum("cij,cip->cjp", self.whitening, centred, optimize=True)
        log_det = np.log(np.diagonal(self.whitening, axis1=1, axis2=2)).sum(1)  # of the root of the inverse covariance
        return np.asarray((self.log_prior + log_det)[:, np.newaxis] - 0.5 * np.einsum("cjp,cjp->cp", white, white))

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Codes uint8 (rows, cols) of features (features, rows, cols); 0 where a feature is NaN; ties go to the smallest code."""
        flat = features.reshape(len(features), -1)
        valid = np.flatnonzero(~np.isnan(flat).any(axis=0))
        out = np.zeros(flat.shape[1], np.uint8)
        for start in range(0, len(valid), _CHUNK):
            part = valid[start : start + _CHUNK]
            out[part] = self.codes[self.log_likelihood(flat[:, part]).argmax(axis=0)]
        return out.reshape(features.shape[1:])


def fit_gaussian(
    features: NDArray[np.floating], codes: NDArray[np.uint8], *, priors: Literal["training", "equal"] = "training"
) -> GaussianClassifier:
    """Fit one Gaussian a class.

    Parameters
    ----------
    features : (features, pixels), e.g. bands in dB; a pixel with a NaN is left out
    codes : uint8 (pixels,); 0 and 255 are left out; a class with no more pixels than features is left out as well
    priors : "training" takes the classes' shares, "equal" the same for all

    Returns
    -------
    the classifier; InputError when no class is left
    """
    used = ~np.isnan(features).any(axis=0) & (codes != 0) & (codes != 255)
    features, codes = features[:, used].astype(np.float64), codes[used]
    present, counts = np.unique(codes, return_counts=True)
    enough = counts > len(features)
    present, counts = present[enough], counts[enough]
    if not len(present):
        raise InputError(f"no class has more than {len(features)} training pixels")
    mean, whitening = [], []
    for code in present:
        sample = features[:, codes == code]
        covariance = np.atleast_2d(np.cov(sample))
        # a feature that does not vary in a class would make the covariance singular
        covariance += np.eye(len(features)) * (1e-9 + 1e-9 * np.trace(covariance))
        mean.append(sample.mean(axis=1))
        whitening.append(np.linalg.cholesky(np.linalg.inv(covariance)))
    share = counts / counts.sum() if priors == "training" else np.full(len(present), 1.0 / len(present))
    return GaussianClassifier(present.astype(np.uint8), np.array(mean), np.array(whitening), np.log(share))


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


def _window_sum(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Sum over a square window in the last two axes; outside the image is 0."""
    for axis in (values.ndim - 2, values.ndim - 1):
        margin = [(size // 2, size // 2) if at == axis else (0, 0) for at in range(values.ndim)]
        values = sliding_window_view(np.pad(values, margin), size, axis=axis).sum(axis=-1)
    return values
