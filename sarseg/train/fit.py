"""Fit a baseline instead of training a network: the same dataset in, the same model folder out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path

import torch

from sarseg.errors import InputError, UsageError
from sarseg.nets.baselines import BASELINES
from sarseg.nets.fitting import TrainingPatches, draw_sample, fit
from sarseg.nets.modelfile import ModelSpec, save_model
from sarseg.nets.registry import complete_options
from sarseg.patches.dataset import Dataset
from sarseg.progress import Progress, silent
from sarseg.train.loader import Batch, ValidationPatches, load
from sarseg.train.options import TrainOptions
from sarseg.train.plan import band_specs, class_pixels
from sarseg.train.score import validate
from sarseg.version import __version__

_MEANT = ("net", "net_options", "seed", "threads")  # what `TrainOptions` tell a baseline; the rest is of steps


def refuse_meaningless(options: TrainOptions, given: Iterable[str]) -> None:
    """UsageError for options that say something to a network in training and nothing to a baseline.

    Parameters
    ----------
    given : what was asked for beside the options, e.g. "resume"
    """
    usual = TrainOptions(net=options.net)
    idle = [one.name for one in fields(options) if one.name not in _MEANT and getattr(options, one.name) != getattr(usual, one.name)]
    if "augmentation" in idle:
        at = idle.index("augmentation")
        now, then = asdict(options.augmentation), asdict(usual.augmentation)
        idle[at : at + 1] = [f"augmentation_{name}" for name, value in now.items() if value != then[name]]
    if idle := [*idle, *given]:
        said = f"{', '.join(idle)} {'means' if len(idle) == 1 else 'mean'} nothing to '{options.net}'"
        raise UsageError(said, hint="it is fitted, not trained in steps: leave that out")


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
    pixels = class_pixels(dataset, training)
    patches = TrainingPatches(read=dataset.read, numbers=training, pixels=pixels, bands=bands, legend=dataset.legend)
    sample = draw_sample(patches, seed=seed, progress=progress)
    network, options = fit(net, sample, seed=seed, options=net_options)
    score = None
    if len(validation):
        batches = _told(
            load(ValidationPatches(dataset, bands, stack=1), range(len(validation)), workers=0, pinned=False), len(validation), progress
        )
        device = torch.device("cpu")
        score = validate(network, batches, dataset.legend, autocast=nullcontext, total=len(validation), device=device)
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
        metrics=score.to_dict(temperature) if score is not None else {},
        versions={"sarseg": __version__, "torch": torch.__version__},
    )
    return save_model(out, network, spec)


def _told(batches: Iterable[Batch], total: int, progress: Progress) -> Iterator[Batch]:
    for done, batch in enumerate(batches):
        progress(done, total, "score")
        yield batch
    progress(total, total, "score")
