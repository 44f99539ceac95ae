"""Baselines that a network must beat: the largest class, Gaussian maximum likelihood, a random forest on filtered bands.

Each is a network like any other, which `predict` maps too; its logits are log probabilities. `sarseg.nets.fitting` fits them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor, nn

from sarseg.errors import InputError
from sarseg.nets.boxcar import boxcar
from sarseg.nets.forest import LEAST_PROBABILITY, RandomForest, RandomForestConfig

__all__ = [
    "BASELINES",
    "Gaussian",
    "GaussianClassifier",
    "GaussianConfig",
    "Majority",
    "MajorityConfig",
    "RandomForest",
    "RandomForestConfig",
    "boxcar",
    "fit_gaussian",
    "gaussian_of",
    "majority_of",
]

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


@dataclass(frozen=True, slots=True)
class MajorityConfig:
    """Nothing to choose."""

    bands: int
    classes: int


class Majority(nn.Module):
    """The same answer everywhere: bands (n, bands, h, w) -> log of the classes' shares, float32 (n, classes, h, w).

    Buffer `log_share` float32 (classes,).
    """

    takes_nan = True
    stride = 1
    pools_globally = False

    log_share: Tensor

    def __init__(self, config: MajorityConfig) -> None:
        super().__init__()
        self.register_buffer("log_share", torch.zeros(config.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Log shares float32 (n, classes, h, w)."""
        return self.log_share.reshape(1, -1, 1, 1).expand(len(x), -1, *x.shape[2:]).contiguous()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if not rest[-1] and not bool(self.log_share.isfinite().all()):
            rest[-1].append("a share is not finite")


@dataclass(frozen=True, slots=True)
class GaussianConfig:
    """Nothing to choose."""

    bands: int
    classes: int


class Gaussian(nn.Module):
    """`GaussianClassifier` on normalised bands (n, bands, h, w), NaN = no value -> log posterior float32 (n, classes, h, w).

    Where a band is NaN all classes are equal. It computes on the CPU, in float64. Buffers: `mean`, `whitening` and `log_prior`
    of the classifier, float64; a class that was not fitted has the prior 0.
    """

    takes_nan = True
    stride = 1
    pools_globally = False

    mean: Tensor
    whitening: Tensor
    log_prior: Tensor

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(config.classes, config.bands, dtype=torch.float64))
        self.register_buffer("whitening", torch.eye(config.bands, dtype=torch.float64).repeat(config.classes, 1, 1))
        self.register_buffer("log_prior", torch.zeros(config.classes, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Log posteriors float32 (n, classes, h, w)."""
        return torch.from_numpy(np.stack([self._log_posterior(image) for image in x.detach().cpu().numpy()])).to(x.device)

    def _log_posterior(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        classes = len(self.log_prior)
        arrays = (getattr(self, name).cpu().numpy() for name in ("mean", "whitening", "log_prior"))
        classifier = GaussianClassifier(np.arange(classes, dtype=np.uint8), *arrays)
        flat = values.reshape(len(values), -1)
        valid = np.flatnonzero(~np.isnan(flat).any(axis=0))
        out = np.zeros((classes, flat.shape[1]), np.float32)
        for start in range(0, len(valid), _CHUNK):
            part = valid[start : start + _CHUNK]
            score = classifier.log_likelihood(flat[:, part])
            out[:, part] = np.maximum(score - logsumexp(score, axis=0), math.log(LEAST_PROBABILITY))
        return out.reshape(classes, *values.shape[1:])

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if rest[-1]:
            return
        diagonal = self.whitening.diagonal(dim1=1, dim2=2)
        finite = bool(self.mean.isfinite().all() and self.whitening.isfinite().all())
        if not finite or not bool((diagonal > 0).all() and (self.log_prior <= 0).all() and self.log_prior.isfinite().any()):
            rest[-1].append("a mean, covariance or prior is no such thing")


def gaussian_of(fitted: GaussianClassifier, classes: int) -> Gaussian:
    """The network of a classifier whose codes are class indexes 0 .. classes - 1."""
    network = Gaussian(GaussianConfig(bands=fitted.mean.shape[1], classes=classes))
    network.log_prior.fill_(-math.inf)
    at = torch.from_numpy(fitted.codes.astype(np.int64))
    for name in ("mean", "whitening", "log_prior"):
        getattr(network, name)[at] = torch.from_numpy(getattr(fitted, name))
    return network.eval()


def majority_of(pixels: NDArray[np.int64], *, bands: int) -> Majority:
    """The network of class counts int64 (classes,)."""
    network = Majority(MajorityConfig(bands=bands, classes=len(pixels)))
    share = torch.from_numpy(pixels / pixels.sum())
    network.log_share.copy_(share.clamp(min=LEAST_PROBABILITY).log())
    return network.eval()


BASELINES: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "majority": (MajorityConfig, Majority),
    "gaussian": (GaussianConfig, Gaussian),
    "random_forest": (RandomForestConfig, RandomForest),
}
"""What is fitted and not trained: name -> (config, network), as in the registry."""
