"""Training, from a dataset to a model folder, readable from top to bottom.

Choices: AdamW; learning rate with a short warm-up and a cosine to zero; cross entropy over pixels with a label and all
bands; batches drawn by (seed, step, index), so that nothing depends on the clock or on how batches are loaded; channels
last; bfloat16 only where the processor has units for it. The weights kept are those of the best mean IoU on the
validation patches (the last ones where there are none), and the temperature makes their probabilities honest.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarseg.errors import InputError, UsageError
from sarseg.metrics import Accuracy, confusion
from sarseg.nets.infer import best_device, filled, placed
from sarseg.nets.modelfile import METRICS, BandSpec, ModelSpec, normalise, save_model
from sarseg.nets.registry import build_network, complete_options, stride_of
from sarseg.patches.dataset import Dataset, open_dataset
from sarseg.progress import Progress, silent
from sarseg.train.augment import Augmentation, augment, sample_at
from sarseg.train.losses import IGNORED, best_temperature, cross_entropy, inverse_sqrt_weights
from sarseg.version import __version__

log = logging.getLogger(__name__)

_SCORED_PIXELS = 200_000  # of the validation, for the temperature
_LOG_EVERY = 10
_SETTLING = 16  # batches over which batch norm's statistics are taken before a network is judged


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How to train. `epochs` wins over `steps` when it is given."""

    net: str = "compact_unet"
    net_options: dict[str, int | float | bool | str] = field(default_factory=dict)
    steps: int = 1000
    epochs: float | None = None
    batch: int = 8
    lr: float = 4e-3
    weight_decay: float = 1e-2
    warm_up: float = 0.05
    """Share of the steps in which the learning rate rises."""
    class_weights: Literal["none", "inverse-sqrt"] = "none"
    validations: int = 4
    """How often the validation patches are scored, evenly over the run, the end included."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    threads: int | None = None
    """CPU threads; what torch chooses when None. The same number gives the same bits."""

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("batch", 1), ("validations", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise UsageError(f"{name} is {getattr(self, name)}", hint=f"at least {low}")
        if not self.lr > 0 or (self.epochs is not None and not self.epochs > 0) or not 0 <= self.warm_up < 1:
            hint = "lr and epochs are above 0, warm_up is from 0 to below 1"
            raise UsageError(f"lr {self.lr}, epochs {self.epochs}, warm_up {self.warm_up} cannot be used", hint=hint)


@dataclass(frozen=True, slots=True)
class Score:
    """What the validation patches say of one state of the network."""

    loss: float
    accuracy: Accuracy
    logits: Tensor
    """float32 (pixels, classes): an even sample of the pixels, for the temperature."""
    target: Tensor


def train(dataset: str | Path | Dataset, out: str | Path, options: TrainOptions | None = None, progress: Progress = silent) -> Path:
    """Train a network on a dataset and write a model folder.

    Parameters
    ----------
    dataset : a folder that `sarseg patches` wrote, or one with images/ and masks/; or such a dataset that is open already
    out : the model folder; an older model there is replaced

    Returns
    -------
    `out`; InputError for a dataset without training patches or labels, and when the loss is no number
    """
    options = options or TrainOptions()
    dataset, out = dataset if isinstance(dataset, Dataset) else open_dataset(dataset), Path(out)
    training, validation = dataset.split("train"), dataset.split("val")
    if not len(training):
        raise InputError("the dataset has no training patches", dataset.path)
    with _reproducible(options):
        bands = tuple(BandSpec(name=band.name, scale=band.scale, mean=band.mean, std=band.std) for band in dataset.bands)
        pixels = class_pixels(dataset, training)
        network = build_network(options.net, bands=len(bands), classes=len(dataset.legend.codes), options=options.net_options)
        steps = options.steps if options.epochs is None else max(1, math.ceil(options.epochs * len(training) / options.batch))
        refuse_tiny(network, dataset.read(int(training[0]))[1].shape, options.batch)
        run = _Run(dataset, bands, network, options, steps)
        state, score = run.fit(training, validation, pixels, progress)
    network.load_state_dict(state)
    spec = ModelSpec(
        network=options.net,
        options=complete_options(options.net, options.net_options),
        bands=bands,
        legend=dataset.legend,
        temperature=best_temperature(score.logits, score.target) if score else 1.0,
        training=run.provenance(training, validation, pixels),
        metrics={"validation": score.accuracy.to_dict(), "validation_loss": score.loss} if score else {},
        versions={"sarseg": __version__, "torch": torch.__version__},
    )
    return save_model(out, network.cpu(), spec, files={METRICS: run.table()})


class _Run:
    """One training run: what its steps share."""

    def __init__(self, dataset: Dataset, bands: tuple[BandSpec, ...], network: nn.Module, options: TrainOptions, steps: int) -> None:
        self.dataset, self.bands, self.options, self.steps = dataset, bands, options, steps
        self.device = best_device()
        self.network = placed(network, self.device)
        self.lookup = dataset.legend.lookup()
        self.rows: list[dict[str, Any]] = []

    def fit(
        self, training: NDArray[np.int64], validation: NDArray[np.int64], pixels: NDArray[np.int64], progress: Progress
    ) -> tuple[dict[str, Tensor], Score | None]:
        """All steps; the state to keep and its score."""
        options = self.options
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True)
        weights = torch.from_numpy(inverse_sqrt_weights(pixels)).to(self.device) if options.class_weights == "inverse-sqrt" else None
        checks = {math.ceil(self.steps * (k + 1) / options.validations) for k in range(options.validations)}
        best: tuple[dict[str, Tensor], Score] | None = None
        for step in range(self.steps):
            # made here and not ahead in a thread: that thread's few milliseconds took a third of the convolutions' time away
            images, target, samples = self.placed_batch(training, step)
            rate = learning_rate(step, self.steps, options)
            for group in optimiser.param_groups:
                group["lr"] = rate
            self.network.train()
            with self.precision():
                loss = cross_entropy(self.network(images), target, weights)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            value = _finite(loss, step, samples)
            if (step + 1) % _LOG_EVERY == 0 or step + 1 in checks:
                self.rows.append({"step": step + 1, "lr": rate, "loss": value})
            if step + 1 in checks:
                self.settle(training)
            if step + 1 in checks and len(validation):
                score = self.validate(validation)
                self.rows[-1] |= {"val_loss": score.loss, "val_miou": score.accuracy.miou, "val_oa": score.accuracy.oa}
                log.info("step %d: loss %.4f, validation mIoU %.4f", step + 1, value, score.accuracy.miou)
                if best is None or score.accuracy.miou >= best[1].accuracy.miou:
                    best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}, score
            progress(step + 1, self.steps, f"train, loss {value:.3f}" + (f", mIoU {best[1].accuracy.miou:.3f}" if best else ""))
        return best if best is not None else (self.network.state_dict(), None)

    def settle(self, training: NDArray[np.int64]) -> None:
        """Take batch norm's statistics anew, for the weights as they are, over several batches (Wu and Johnson 2021, section 3).

        The running ones look back at ten small batches and other weights, which can cost points of accuracy in eval mode.
        """
        norms = {module: module.momentum for module in self.network.modules() if isinstance(module, nn.BatchNorm2d)}
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # torch's word for a plain mean
        self.network.train()
        for step in range(_SETTLING if norms else 0):
            with torch.no_grad(), self.precision():
                self.network(self.placed_batch(training, step)[0])
        for module, momentum in norms.items():
            module.momentum = momentum

    def placed_batch(self, training: NDArray[np.int64], step: int) -> tuple[Tensor, Tensor, list[int]]:
        """`batch` on the device, its images channels last."""
        images, target, samples = self.batch(training, step)
        return images.to(self.device).contiguous(memory_format=torch.channels_last), target.to(self.device), samples

    def batch(self, training: NDArray[np.int64], step: int) -> tuple[Tensor, Tensor, list[int]]:
        """The augmented batch of one step, float32 (n, band, h, w) and int64 (n, h, w): a function of (seed, step) alone."""
        options = self.options
        samples = [
            int(training[sample_at(options.seed, step, at, batch=options.batch, count=len(training))]) for at in range(options.batch)
        ]
        pairs = []
        for at, sample in enumerate(samples):
            values, mask = self.dataset.read(sample)
            changed = augment(normalise(values, self.bands), mask, self.bands, options.augmentation, draw=(options.seed, step, at))
            pairs.append(self.tensors(*changed))
        return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs]), samples

    def tensors(self, normalised: NDArray[np.float32], mask: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Network input without NaN, and class indexes in which pixels without all bands are ignored."""
        values, valid = filled(normalised)
        target = np.where(valid, self.lookup[mask], IGNORED).astype(np.int64)
        return torch.from_numpy(values), torch.from_numpy(target)

    def validate(self, validation: NDArray[np.int64]) -> Score:
        """Score the network on the validation patches as they are."""
        self.network.eval()
        legend = self.dataset.legend
        codes = np.array([*legend.codes, *[0] * (256 - len(legend.codes))], np.uint8)
        matrix = np.zeros((len(legend.codes),) * 2, np.int64)
        logits, targets, loss, counted = [], [], 0.0, 0
        for sample in validation:
            values, mask = self.dataset.read(int(sample))
            image, target = self.tensors(normalise(values, self.bands), mask)
            with torch.inference_mode(), self.precision():
                answer = self.network(image[np.newaxis].to(self.device).contiguous(memory_format=torch.channels_last))
            answer, known = answer.float().cpu(), int((target != IGNORED).sum())
            loss, counted = loss + known * float(cross_entropy(answer, target[np.newaxis])), counted + known
            truth = np.where(target.numpy() == IGNORED, np.uint8(0), codes[target.numpy()])
            matrix += confusion(truth, codes[answer[0].argmax(0).numpy()], legend)
            every = mask.size * len(validation) // _SCORED_PIXELS | 1  # odd, so that it does not stay in one column
            logits.append(answer[0].flatten(1).T[::every])
            targets.append(target.flatten()[::every])
        return Score(loss / max(1, counted), Accuracy(matrix, legend), torch.cat(logits), torch.cat(targets))

    def precision(self) -> torch.autocast:
        """bfloat16 where the hardware computes in it, else float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=has_bfloat16(self.device))

    def provenance(self, training: NDArray[np.int64], validation: NDArray[np.int64], pixels: NDArray[np.int64]) -> dict[str, Any]:
        """What `model.json` says of the training."""
        return {
            "dataset": Path(self.dataset.path).name,
            "training_patches": len(training),
            "validation_patches": len(validation),
            "training_pixels": dict(zip(self.dataset.legend.names, (int(n) for n in pixels), strict=True)),
            "steps": self.steps,
            "samples_seen": self.steps * self.options.batch,
            "device": self.device.type,
            "precision": "bfloat16" if has_bfloat16(self.device) else "float32",
            "options": asdict(self.options),
        }

    def table(self) -> str:
        """The log as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ("step", "lr", "loss", "val_loss", "val_miou", "val_oa"), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: value if isinstance(value, int) else f"{value:.6g}" for key, value in row.items()} for row in self.rows)
        return text.getvalue()


def class_pixels(dataset: Dataset, training: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labelled pixels of each class in the training patches, int64 (classes,), in the legend's order.

    InputError for a dataset without any.
    """
    codes = dataset.legend.codes
    columns = [f"class_{code}" for code in codes]
    if all(column in dataset.index for column in columns):
        pixels = np.array([int(dataset.index[column][training].sum(dtype=np.int64)) for column in columns])
    else:
        pixels = np.zeros(len(codes), np.int64)
        for sample in training:
            pixels += np.bincount(dataset.read(int(sample))[1].ravel(), minlength=256)[list(codes)]
    if not pixels.any():
        raise InputError("no pixel of the training patches has a label", dataset.path, "the masks hold only nodata (0) and ignore (255)")
    return pixels


def learning_rate(step: int, steps: int, options: TrainOptions) -> float:
    """Linear rise over the warm-up, then a half cosine that would reach zero at `steps`."""
    rise = max(1, round(steps * options.warm_up))
    if step < rise:
        return options.lr * (step + 1) / rise
    return options.lr * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def refuse_tiny(network: nn.Module, shape: tuple[int, ...], batch: int) -> None:
    """UsageError when batch norm would see fewer than two values a channel at the coarsest features."""
    stride = stride_of(network)
    values = batch * math.prod(-(-side // stride) for side in shape)
    if values < 2:
        raise UsageError(
            f"a batch of {batch} with patches of {shape[0]} x {shape[1]} leaves batch norm {values} value a channel",
            hint="take a larger batch or larger patches",
        )


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 here: without units for it a CPU is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _finite(loss: Tensor, step: int, samples: list[int]) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise InputError(
            f"the loss became {value} at step {step + 1}",
            f"patches {', '.join(map(str, samples))}",
            "a lower --lr helps; look at these patches for values that are no backscatter",
        )
    return value


@contextmanager
def _reproducible(options: TrainOptions) -> Iterator[None]:
    """Seed and threads for the run; the process gets its own settings back."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
