"""Fit a baseline instead of training a network: the same dataset in, the same model folder out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sarseg.errors import InputError, UsageError
from sarseg.metrics import Accuracy, confusion
from sarseg.nets.baselines import BASELINES
from sarseg.nets.fitting import TrainingPatches, count_pixels, draw_sample, fit
from sarseg.nets.modelfile import BandSpec, ModelSpec, normalise, save_model
from sarseg.nets.registry import complete_options
from sarseg.patches.dataset import Dataset
from sarseg.progress import Progress, silent
from sarseg.train.losses import IGNORED, cross_entropy
from sarseg.train.plan import band_specs
from sarseg.train.score import Score
from sarseg.version import __version__

_SCORED_PIXELS = 200_000  # of the validation, for the temperature


def fit_baseline(
    dataset: Dataset,
    out: Path,
    net: str,
    *,
    seed: int = 0,
    net_options: Mapping[str, int | float | bool | str] | None = None,
    progress: Progress = silent,
) -> Path:
    """Fit one of `BASELINES` on the training patches (`sarseg.nets.fitting`) and write a model folder.

    The validation patches give its metrics and temperature, as they do for a network.

    Returns
    -------
    `out`; UsageError for a name or an option that there is not, InputError without training patches or labels
    """
    if net not in BASELINES:
        raise UsageError(f"no baseline '{net}'", hint=f"there are {', '.join(BASELINES)}")
    complete_options(net, net_options or {})  # before any work: do they exist?
    training, validation = dataset.split("train"), dataset.split("val")
    if not len(training):
        raise InputError("the dataset has no training patches", dataset.path)
    bands = band_specs(dataset)
    pixels = count_pixels(dataset.read, dataset.index, training, dataset.legend)
    patches = TrainingPatches(read=dataset.read, numbers=training, pixels=pixels, bands=bands, legend=dataset.legend)
    sample = draw_sample(patches, seed=seed, progress=progress)
    network, options = fit(net, sample, seed=seed, options=net_options)
    score = _validate(network, dataset, validation, bands, progress) if len(validation) else None
    temperature = score.temperature() if score is not None else 1.0
    spec = ModelSpec(
        network=net,
        options=options,
        bands=bands,
        quantity=dataset.quantity,
        legend=dataset.legend,
        temperature=temperature,
        training={
            "dataset": Path(dataset.path).name,
            "training_patches": len(training),
            "validation_patches": len(validation),
            "training_pixels": dict(zip(dataset.legend.names, (int(n) for n in sample.pixels), strict=True)),
            "fitted_pixels": len(sample.target),
            "seed": seed,
        },
        metrics=_metrics(score, temperature),
        versions={"sarseg": __version__, "torch": torch.__version__},
    )
    return save_model(out, network, spec)


def _metrics(score: Score | None, temperature: float) -> dict[str, Any]:
    if score is None:
        return {}
    return {"validation": score.accuracy.to_dict(), "validation_loss": score.loss, "calibration": score.calibration(temperature)}


def _validate(
    network: nn.Module, dataset: Dataset, validation: NDArray[np.int64], bands: tuple[BandSpec, ...], progress: Progress
) -> Score:
    """Score the network on the validation patches as they are."""
    legend = dataset.legend
    lookup, codes = legend.lookup(), np.array(legend.codes, np.uint8)
    matrix = np.zeros((len(codes),) * 2, np.int64)
    logits, targets, loss, counted = [], [], 0.0, 0
    for done, number in enumerate(validation):
        image, mask = dataset.read(int(number))
        values = normalise(image, bands)
        missing = np.isnan(values).any(0)
        with torch.inference_mode():
            answer = network(torch.from_numpy(values)[None])
        target = torch.from_numpy(np.where(missing, IGNORED, lookup[mask]).astype(np.int64))
        matrix += confusion(np.where(missing, np.uint8(0), mask), codes[answer[0].argmax(0).numpy()], legend)
        known = int((target != IGNORED).sum())
        loss, counted = loss + known * float(cross_entropy(answer, target[None])), counted + known
        every = mask.size * len(validation) // _SCORED_PIXELS | 1  # odd, so that it does not stay in one column
        logits.append(answer[0].flatten(1).T[::every])
        targets.append(target.flatten()[::every])
        progress(done + 1, len(validation), "score")
    return Score(loss / max(1, counted), Accuracy(matrix, legend), torch.cat(logits), torch.cat(targets))
