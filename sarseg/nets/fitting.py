"""Fit the baselines: training pixels drawn by counter-based numbers, and the arithmetic on them.

At most about `BUDGET` labelled pixels of at most about `PATCHES` patches are used. Every class keeps its share, except that
a rare one gets up to `LEAST` pixels, so that none is lost. The draw depends on (seed, patch) alone. Where training patches
overlap, a pixel of the ground may be drawn from each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sarseg.errors import InputError
from sarseg.legend import Legend
from sarseg.nets.baselines import fit_gaussian, gaussian_of, majority_of
from sarseg.nets.boxcar import BandScales, filtered_features
from sarseg.nets.forest import RandomForestConfig, forest_of
from sarseg.nets.modelfile import BandSpec, normalise
from sarseg.progress import Progress, silent
from sarseg.rng import generator

BUDGET = 50_000
PATCHES = 400
LEAST = 500

_ORDER, _PIXELS = 21, 22  # streams of random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPatches:
    """What there is to fit on.

    `read` gives image (band, rows, cols) in the order of `bands` and mask (rows, cols) of one patch; `numbers` int64 (patches,)
    are the training patches; `pixels` int64 (patches, classes) their labelled pixels by class.
    """

    read: Callable[[int], tuple[NDArray[np.float32], NDArray[np.uint8]]]
    numbers: NDArray[np.int64]
    pixels: NDArray[np.int64]
    bands: tuple[BandSpec, ...]
    legend: Legend


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Drawn pixels: normalised bands float32 (bands, pixels), filtered features (features, pixels), class index int64 (pixels,).

    `pixels` int64 (classes,) are all labelled ones of the training patches, drawn or not.
    """

    values: NDArray[np.float32]
    features: NDArray[np.float32]
    target: NDArray[np.int64]
    pixels: NDArray[np.int64]
    bands: tuple[BandSpec, ...]


def count_pixels(
    read: Callable[[int], tuple[NDArray[np.float32], NDArray[np.uint8]]],
    index: Mapping[str, NDArray[Any]],
    numbers: NDArray[np.int64],
    legend: Legend,
) -> NDArray[np.int64]:
    """Labelled pixels int64 (patches, classes): from the index where it has them, else by reading the patches."""
    columns = [f"class_{code}" for code in legend.codes]
    if all(column in index for column in columns):
        return np.stack([index[column][numbers] for column in columns], axis=1).astype(np.int64)
    return np.array([np.bincount(read(int(number))[1].ravel(), minlength=256)[list(legend.codes)] for number in numbers], np.int64)


def draw_sample(patches: TrainingPatches, *, seed: int, progress: Progress = silent) -> Sample:
    """Read the chosen patches and draw their pixels; InputError when no training pixel has a label."""
    if not patches.pixels.any():
        raise InputError("no pixel of the training patches has a label", hint="the masks hold only nodata (0) and ignore (255)")
    chosen = choose_patches(patches.pixels, seed)
    there = patches.pixels[chosen]
    upto = np.cumsum(there, axis=0)
    quota = quotas(patches.pixels.sum(0), upto[-1])
    # shares of a running sum: patches give what they hold, and together exactly the quota
    running = upto * quota // np.maximum(upto[-1], 1)
    wanted = np.diff(running, axis=0, prepend=0)
    scales, lookup = BandScales.of(patches.bands), patches.legend.lookup()
    values, features, targets = [], [], []
    for done, at in enumerate(chosen):
        number = int(patches.numbers[at])
        image, mask = patches.read(number)
        normalised = normalise(image, patches.bands)
        target = np.where(np.isnan(normalised).any(0), 255, lookup[mask]).ravel()
        kept = _pick(target, wanted[done], generator(seed, _PIXELS, number))
        values.append(normalised.reshape(len(normalised), -1)[:, kept])
        features.append(filtered_features(normalised, scales).reshape(-1, target.size)[:, kept])
        targets.append(target[kept].astype(np.int64))
        progress(done + 1, len(chosen), "draw training pixels")
    return Sample(
        values=np.concatenate(values, axis=1),
        features=np.concatenate(features, axis=1),
        target=np.concatenate(targets),
        pixels=patches.pixels.sum(0),
        bands=patches.bands,
    )


def choose_patches(pixels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions of the patches to read, ascending: `PATCHES` of a random order, and more until each class has `LEAST` pixels.

    Parameters
    ----------
    pixels : int64 (patches, classes)
    """
    order = generator(seed, _ORDER).permutation(len(pixels))
    chosen = np.zeros(len(pixels), bool)
    chosen[order[:PATCHES]] = True
    for one in range(pixels.shape[1]):
        holding = order[pixels[order, one] > 0]
        before = np.cumsum(pixels[holding, one]) - pixels[holding, one]
        chosen[holding[before < LEAST]] = True
    return np.flatnonzero(chosen)


def quotas(pixels: NDArray[np.int64], available: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pixels of each class to draw, int64 (classes,): its share of `BUDGET`, at least `LEAST`, at most what there is."""
    share = np.minimum(pixels, pixels * BUDGET // max(1, int(pixels.sum())))
    return np.minimum(available, np.maximum(share, LEAST)) if pixels.sum() > BUDGET else available


def _pick(target: NDArray[np.int64], wanted: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of `wanted` pixels of each class, ascending: those with the smallest of one random number a pixel."""
    key = rng.random(target.size)
    kept = []
    for one in np.flatnonzero(wanted):
        there = np.flatnonzero(target == one)
        kept.append(there[np.argsort(key[there], kind="stable")[: wanted[one]]])
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, np.int64)


def fit(name: str, sample: Sample, *, seed: int, options: Mapping[str, Any] | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """A fitted baseline in eval mode, and the options that rebuild it.

    Gaussian and majority take the classes' shares of all training pixels; the forest's follow from the pixels drawn.
    ValueError for options that the baseline does not have.
    """
    classes, bands = len(sample.pixels), sample.bands
    if name == "majority":
        return majority_of(sample.pixels, bands=len(bands)), {}
    if name == "gaussian":
        # codes start at 1 there
        fitted = fit_gaussian(sample.values, (sample.target + 1).astype(np.uint8))
        share = sample.pixels[fitted.codes - 1]
        fitted = replace(fitted, codes=fitted.codes - np.uint8(1), log_prior=np.log(share / share.sum()))
        return gaussian_of(fitted, classes), {}
    given = {key: value for key, value in (options or {}).items() if key != "nodes"}
    config = RandomForestConfig(bands=len(bands), classes=classes, **given)
    forest = forest_of(fit_trees(sample, config, seed=seed), bands, classes=classes, min_leaf=config.min_leaf)
    return forest, {"trees": config.trees, "min_leaf": config.min_leaf, "nodes": forest.config.nodes}


def fit_trees(sample: Sample, config: RandomForestConfig, *, seed: int) -> Any:
    """scikit-learn's forest on the filtered features; a split looks at the root of their number (Breiman 2001)."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        n_estimators=config.trees,
        min_samples_leaf=config.min_leaf,
        max_features="sqrt",
        random_state=seed % 2**32,
        n_jobs=torch.get_num_threads(),
    )
    return model.fit(np.ascontiguousarray(sample.features.T), sample.target)
