"""Training, from a dataset to a model folder, readable from top to bottom.

Choices: AdamW; learning rate with a short warm-up and a cosine to zero; whatever is random in a step (its samples, their
changes, dropout) drawn by its number, so that nothing depends on the clock, on how batches are loaded, or on whether the
run was interrupted; channels last; half precision only where the hardware has units for it. The weights kept are those of
the best mean IoU on the validation patches (the last ones where there are none), and the temperature makes their
probabilities honest.

A step's samples go through the network in micro-batches, on one device or several, and each micro-batch's loss counts by
its share of the labelled pixels: the sum of the gradients is the whole batch's. Gradients are added up over the devices
here, after the last micro-batch, because a device that runs out of memory must not leave the others waiting in theirs.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from sarseg.errors import InputError, MissingError, UsageError
from sarseg.nets.baselines import BASELINES
from sarseg.nets.infer import best_device, placed
from sarseg.nets.modelfile import METRICS, SPEC, ModelSpec, save_model
from sarseg.nets.registry import build_network, complete_options
from sarseg.nets.weights import load_pretrained
from sarseg.patches.dataset import Dataset, open_dataset
from sarseg.product.folder import refuse_foreign
from sarseg.progress import Progress, silent
from sarseg.rng import generator
from sarseg.train.augment import augment_batch
from sarseg.train.checkpoint import Checkpoints, State, fingerprint, folder_beside, only_one
from sarseg.train.curve import training_curve
from sarseg.train.ema import RunningMean
from sarseg.train.loader import Batch, Part, Patches, StepPatches, ValidationPatches, load, worker_count
from sarseg.train.losses import counted_weight, inverse_sqrt_weights, make_loss
from sarseg.train.options import TrainOptions
from sarseg.train.plan import band_specs, class_pixels, learning_rate, refuse_tiny
from sarseg.train.precision import Precision, choose_precision, reproducible
from sarseg.train.ranks import OneMachine, others
from sarseg.train.record import Record
from sarseg.train.score import Score, fill_nan, settle, validate
from sarseg.version import __version__

__all__ = ["TrainOptions", "train"]

log = logging.getLogger(__name__)

CURVE = "training.png"
_FORWARD = 3  # stream of random numbers: what the network itself draws
_LOG_EVERY = 10
_SETTLING = 16  # batches over which batch norm's statistics are taken before a network is judged


def train(
    dataset: str | Path | Dataset,
    out: str | Path,
    options: TrainOptions | None = None,
    progress: Progress = silent,
    *,
    resume: bool = False,
    tensorboard: Path | None = None,
) -> Path:
    """Train a network on a dataset and write a model folder.

    While it runs, the folder `<out>.training` holds what it takes to go on after an interruption.

    Parameters
    ----------
    dataset : a folder that `sarseg patches` wrote, or one with images/ and masks/; or such a dataset that is open already
    out : the model folder; an older model there is replaced
    resume : go on where an interrupted training of the same options and dataset stopped, exactly as if it had not been
    tensorboard : folder for TensorBoard's events

    Returns
    -------
    `out`, also when it is finished already and was asked to resume; InputError for a dataset without training patches or labels, for a
    damaged checkpoint, when loss or weights are no numbers, and when `out` is something else; UsageError when another training writes
    `out`, or resumes one of other options or data; MissingError when not even one sample fits into the memory
    """
    options = options or TrainOptions()
    dataset, out = dataset if isinstance(dataset, Dataset) else open_dataset(dataset), Path(out)
    refuse_foreign(out, SPEC)
    if options.net in BASELINES:
        from sarseg.train.fit import fit_baseline, refuse_meaningless

        refuse_meaningless(options, [*["resume"] * resume, *["tensorboard"] * (tensorboard is not None)])
        with only_one(out), reproducible(options, torch.device("cpu")):
            return fit_baseline(dataset, out, options.net, seed=options.seed, net_options=options.net_options, progress=progress)
    if resume and (out / SPEC).is_file() and not folder_beside(out).exists():
        log.warning("nothing to resume: the model %s is finished", out)
        return out
    with only_one(out):
        if options.devices == 1:
            return train_on(None, dataset, out, options, resume=resume, talk=Talk(progress, tensorboard))
        with others(dataset.path, options, out, {"resume": resume, "fingerprint": fingerprint(dataset)}) as machine:
            return train_on(machine, dataset, out, options, resume=resume, talk=Talk(progress, tensorboard))


@dataclass(frozen=True, slots=True)
class Talk:
    """To whom a training speaks."""

    progress: Progress = silent
    tensorboard: Path | None = None


def train_on(machine: OneMachine | None, dataset: Dataset, out: Path, options: TrainOptions, *, resume: bool, talk: Talk = Talk()) -> Path:
    """This process's part of a training; the first process writes the model."""
    if not len(dataset.split("train")):
        raise InputError("the dataset has no training patches", dataset.path)
    fabric, precision = _fabric(machine, options)
    try:
        with reproducible(options, fabric.device):
            training = Training(dataset, options, fabric, precision)
            training.record = Record(talk.progress, steps=training.steps, batch=options.batch, tensorboard=talk.tensorboard)
            training.checkpoints = Checkpoints.beside(out, options, dataset)
            try:
                training.run(resume=resume)
            finally:
                training.record.close()
            return training.save(out) if fabric.is_global_zero else out
    finally:
        if machine is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@dataclass(slots=True)
class Best:
    """The weights to keep: those of the best validation so far, the last ones where nothing is validated."""

    step: int
    miou: float | None
    weights: dict[str, Tensor]
    score: Score | None


class Training:
    """One training on one device: what its steps share."""

    record: Record
    checkpoints: Checkpoints

    def __init__(self, dataset: Dataset, options: TrainOptions, fabric: Fabric, precision: Precision) -> None:
        self.dataset, self.options, self.fabric, self.precision = dataset, options, fabric, precision
        self.bands = band_specs(dataset)
        self.pixels = class_pixels(dataset, dataset.split("train")).sum(0)
        network = build_network(options.net, bands=len(self.bands), classes=len(dataset.legend.codes), options=options.net_options)
        self.pretrained: dict[str, Any] = {}
        if options.weights is not None:
            said = load_pretrained(network, options.weights, band_names=dataset.band_names, sha256=options.weights_sha256)
            log.info("pretrained weights: %s", "; ".join(said))
            self.pretrained = {"pretrained": options.weights, "pretrained_report": said}
        self.shape = dataset.read(int(dataset.split("train")[0]))[1].shape
        refuse_tiny(network, len(self.bands), self.shape, options.micro)
        self.network = placed(network, fabric.device)
        self.forward: Callable[[Tensor], Any] = torch.compile(self.network) if options.compile else self.network
        self.parameters = list(self.network.parameters())
        self.adam = torch.optim.AdamW(
            self.parameters, lr=options.lr, weight_decay=options.weight_decay, fused=precision.format != "float16" or None
        )
        self.optimiser: Any = fabric.setup_optimizers(self.adam)
        self.mean = RunningMean(self.network, options.ema) if options.ema else None
        balanced = options.class_weights == "inverse-sqrt"
        self.weights = torch.from_numpy(inverse_sqrt_weights(self.pixels)).to(fabric.device) if balanced else None
        self.loss = make_loss(options.loss, self.weights, options.label_smoothing)
        self.patches = StepPatches(dataset, self.bands, options, Part(fabric.global_rank, options.devices))
        self.whole = StepPatches(dataset, self.bands, options, Part())
        self.validation = ValidationPatches(dataset, self.bands, stack=options.micro)
        self.micro = options.micro
        self.aux_weight = float(getattr(network, "aux_weight", 0.0))
        self.steps = options.steps if options.epochs is None else max(1, math.ceil(options.epochs * self.count / options.batch))
        self.workers = worker_count(options, fabric.device)
        self.best: Best | None = None
        self.stale = 0

    @property
    def count(self) -> int:
        """Training patches."""
        return len(self.patches.training)

    def run(self, *, resume: bool) -> None:
        """All steps, or those that an interrupted training has left."""
        log.info("computes in %s: %s", self.precision.format, self.precision.reason)
        state = self.checkpoints.read() if resume else None
        first = self.restore(state) if state is not None else 0
        if self.fabric.is_global_zero and state is None:
            if resume:
                log.warning("no interrupted training in %s: it starts at step 1", self.checkpoints.folder)
            else:
                self.checkpoints.start_anew()
        self.record.start(first, state.rows if state is not None else ())
        if not self.stopped():
            self.fit(first)

    def fit(self, first: int) -> None:
        """The steps from `first` on."""
        options = self.options
        checks = {math.ceil(self.steps * (k + 1) / options.validations) for k in range(options.validations)}
        waiting: deque[tuple[int, Tensor]] = deque()
        for step, batch in enumerate(self.load(self.patches, range(first, self.steps)), first):
            waiting.append((step, self.step(step, batch)))
            done = step + 1
            logged = done % _LOG_EVERY == 0 or done in checks
            saved = done in checks or (options.checkpoint_every is not None and done % options.checkpoint_every == 0)
            # a GPU works on this step while the loss of the one before is looked at
            behind = 1 if self.fabric.device.type == "cuda" and not logged and not saved else 0
            while len(waiting) > behind:
                at, loss = waiting.popleft()
                value = self.finite(loss, at)
                self.record.tell(at + 1, value)
            if logged:
                self.record.row(done, lr=learning_rate(step, self.steps, options), loss=value)
            if done in checks and self.fabric.is_global_zero:
                self.judge(done)
            if saved and self.fabric.is_global_zero:
                self.checkpoint(done)
            if done in checks and self.fabric.broadcast(self.stopped()):
                log.info("stopped at step %d: %d validations without a better one", done, self.stale)
                break

    def load(self, patches: Patches, items: range) -> Iterator[Batch]:
        """Items as they are needed."""
        return load(patches, items, workers=self.workers, pinned=self.fabric.device.type == "cuda")

    def step(self, step: int, batch: Batch) -> Tensor:
        """One step of the optimiser; the loss of the global batch."""
        self.network.train()
        images, target = self.prepared(batch, self.patches, step)
        while (loss := self.accumulate(step, images, target)) is None:
            self.halve()
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(step, self.steps, self.options)
        if self.options.clip is not None:
            self.fabric.clip_gradients(self.network, self.adam, max_norm=self.options.clip, error_if_nonfinite=False)
        self.optimiser.step()
        if self.mean is not None:
            self.mean.update(step + 1)
        return loss

    def prepared(self, batch: Batch, patches: StepPatches, step: int) -> tuple[Tensor, Tensor]:
        """A batch on the device, augmented: images float32 (n, band, h, w) channels last without NaN, target int64 (n, h, w)."""
        device = self.fabric.device
        images, target = batch.images.to(device, non_blocking=True), batch.target.to(device, non_blocking=True).long()
        images, target = fill_nan(*augment_batch(images, target, self.bands, self.options.augmentation, patches.draws(step)))
        return images.contiguous(memory_format=torch.channels_last), target

    def accumulate(self, step: int, images: Tensor, target: Tensor) -> Tensor | None:
        """Gradients of one step, added up over micro-batches and devices; None when a device's memory did not suffice."""
        self.adam.zero_grad(set_to_none=True)
        parts = list(zip(torch.split(images, self.micro), torch.split(target, self.micro), self.shares(target), strict=True))
        number = self.patches.places.start // self.micro  # of the first micro-batch in the global batch
        loss, full = torch.zeros((), device=images.device), False
        try:
            for at, (image, truth, share) in enumerate(parts):
                self.seed(step, number + at)
                value = self.objective(image, truth) * share
                self.fabric.backward(value)
                loss += value.detach()
        except torch.OutOfMemoryError:
            full = True  # and handled outside, where no traceback holds the tensors
        if self.options.devices == 1:
            return None if full else loss
        if float(self.total(torch.tensor(float(full), device=images.device))):
            return None
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        flat = self.total(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return self.total(loss)

    def shares(self, target: Tensor) -> list[Tensor | float]:
        """Each micro-batch's share of what the global batch's loss is a mean over."""
        parts = torch.split(target, self.micro)
        if len(parts) == 1 and self.options.devices == 1:
            return [1.0]
        counts = torch.stack([counted_weight(part, self.weights) for part in parts])
        return list(counts / self.total(counts.sum()).clamp(min=1e-6))

    def objective(self, images: Tensor, target: Tensor) -> Tensor:
        """Loss of one micro-batch, that of an auxiliary head included."""
        with self.fabric.autocast():
            answer = self.forward(images)
        if isinstance(answer, dict):
            return self.loss(answer["out"].float(), target) + self.aux_weight * self.loss(answer["aux"].float(), target)
        return self.loss(answer.float(), target)

    def total(self, values: Tensor) -> Tensor:
        """Sum over the devices, in place."""
        if self.options.devices > 1:
            self.fabric.all_reduce(values, reduce_op="sum")
        return values

    def seed(self, step: int, number: int) -> None:
        """Torch's generators at the place of one micro-batch: dropout too is a function of it."""
        torch.manual_seed(int(generator(self.options.seed, _FORWARD, step, number).integers(1 << 63)))

    def halve(self) -> None:
        """Smaller micro-batches, more of them: the samples, their order and the number of steps stay."""
        smaller = max((n for n in range(1, self.micro // 2 + 1) if self.micro % n == 0), default=0)
        what, hint = f"the device's memory does not hold micro-batches of {self.micro}", "take smaller patches or a smaller network"
        if not smaller:
            raise MissingError(what, hint=hint)
        try:
            refuse_tiny(self.network, len(self.bands), self.shape, smaller)
        except UsageError as error:
            raise MissingError(f"{what}, and {error.what}", hint=hint) from None
        log.warning("the device's memory does not hold micro-batches of %d: they are of %d from now on", self.micro, smaller)
        self.micro = smaller
        self.adam.zero_grad(set_to_none=True)
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()

    def finite(self, loss: Tensor, step: int) -> float:
        """The loss as a number; InputError when it is none."""
        value = float(loss)
        if not math.isfinite(value):
            samples = self.whole.samples(step, range(self.options.batch))
            raise InputError(
                f"the loss became {value} at step {step + 1}",
                f"patches {', '.join(map(str, samples))}",
                "a lower --lr helps; look at these patches for values that are no backscatter",
            )
        return value

    def judge(self, done: int) -> None:
        """Score the weights (their running mean where there is one) and keep them if they are the best so far."""
        with self.record.paused(), self.mean.in_place() if self.mean is not None else nullcontext():
            settle(self.network, self.settling(), self.forward_only)
            score = self.scored()
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.network.state_dict().items()}
            if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
                raise InputError(f"the network's weights are no numbers after step {done}", self.dataset.path, "a lower --lr helps")
            miou = score.accuracy.miou if score is not None and score.accuracy.total else None
            if score is not None and miou is not None:
                self.record.score(loss=score.loss, miou=miou, oa=score.accuracy.oa)
                log.info("step %d: validation loss %.4f, mean IoU %.4f", done, score.loss, miou)
            before = self.best.miou if self.best is not None else None
            self.stale = 0 if before is None or miou is None or miou > before else self.stale + 1
            if before is None or miou is None or miou >= before:
                self.best = Best(done, miou, weights, score)
                self.record.best = miou

    def settling(self) -> Iterator[Tensor]:
        """The first steps' images, in the micro-batches of training."""
        for step, batch in enumerate(self.load(self.whole, range(_SETTLING))):
            for number, images in enumerate(torch.split(self.prepared(batch, self.whole, step)[0], self.micro)):
                self.seed(step, number)
                yield images

    def forward_only(self, images: Tensor) -> None:
        """For batch norm's statistics."""
        with self.fabric.autocast():
            self.network(images)

    def scored(self) -> Score | None:
        """The network's score on the validation patches; None when there are none."""
        if not len(self.validation):
            return None
        batches = self.load(self.validation, range(len(self.validation)))
        total = len(self.validation.validation)
        return validate(self.network, batches, self.dataset.legend, autocast=self.fabric.autocast, total=total, device=self.fabric.device)

    def stopped(self) -> bool:
        """Whether patience is at its end."""
        return self.options.patience is not None and self.stale >= self.options.patience

    def checkpoint(self, done: int) -> None:
        """Write all that the steps after `done` depend on."""
        last = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        for at, parameter in enumerate(self.parameters):
            last |= {f"optimiser/{at}/{name}": tensor for name, tensor in self.adam.state[parameter].items()}
        if self.mean is not None:
            last |= {f"mean/{name}": tensor for name, tensor in self.mean.mean.items()}
        last["random/cpu"] = torch.get_rng_state()
        if self.fabric.device.type == "cuda":
            last["random/cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        facts = {
            "step": done,
            "micro_batch": self.micro,
            "stale": self.stale,
            "scaler": self.fabric.strategy.precision.state_dict(),
            "rows": self.record.rows,
            "best_score": self.best.miou if self.best is not None else None,
        }
        with self.record.paused():
            self.checkpoints.save(last, (self.best.step, self.best.weights) if self.best is not None else None, facts)

    def restore(self, state: State) -> int:
        """Go back to a checkpoint; the number of steps that are done."""
        last = self.checkpoints.tensors(state.last)
        try:
            self.network.load_state_dict(_under(last, "network"))
            for at, parameter in enumerate(self.parameters):
                for name, tensor in _under(last, f"optimiser/{at}").items():
                    alike = (
                        torch.empty_like(parameter)
                        if tensor.shape == parameter.shape
                        else torch.empty_like(tensor, device=parameter.device)
                    )
                    self.adam.state[parameter][name] = alike.detach().copy_(tensor)  # in the parameter's own layout
            if self.mean is not None:
                self.mean.load(_under(last, "mean"))
            torch.set_rng_state(last["random/cpu"])
            if "random/cuda" in last and self.fabric.device.type == "cuda":
                torch.cuda.set_rng_state(last["random/cuda"], self.fabric.device)
        except (KeyError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(f"the checkpoint does not fit: {text}", self.checkpoints.folder, "leave out --resume to start anew") from error
        self.fabric.strategy.precision.load_state_dict(state.scaler)
        self.micro, self.stale = state.micro_batch, state.stale
        if state.best is not None:
            self.best = Best(state.best_step, state.best_score, self.checkpoints.tensors(state.best), None)
            self.record.best = state.best_score
        if self.fabric.is_global_zero:
            log.info("goes on after step %d of %d", state.step, self.steps)
        return state.step

    def save(self, out: Path) -> Path:
        """Write the model folder with the best weights, and remove the checkpoints."""
        assert self.best is not None  # the last step is always judged
        self.network.load_state_dict(self.best.weights)
        score = self.best.score or self.scored()
        temperature = score.temperature() if score is not None else 1.0
        spec = ModelSpec(
            network=self.options.net,
            options=complete_options(self.options.net, self.options.net_options),
            bands=self.bands,
            quantity=self.dataset.quantity,
            legend=self.dataset.legend,
            temperature=temperature,
            training=self.provenance(),
            metrics=score.to_dict(temperature) if score is not None else {},
            versions={"sarseg": __version__, "torch": torch.__version__},
        )
        curve = training_curve(self.record.rows, best_step=self.best.step if score is not None else 0)
        save_model(out, self.network.cpu(), spec, files={METRICS: self.record.table(), CURVE: curve})
        self.checkpoints.remove()
        return out

    def provenance(self) -> dict[str, Any]:
        """What `model.json` says of the training."""
        options, done = self.options, int(self.record.rows[-1]["step"] or 0)
        return {
            "dataset": Path(self.dataset.path).name,
            "training_patches": self.count,
            "validation_patches": len(self.validation.validation),
            "patch_px": self.dataset.size,
            "training_pixels": dict(zip(self.dataset.legend.names, (int(n) for n in self.pixels), strict=True)),
            "steps": done,
            "stopped_early": done < self.steps,
            "kept_step": self.best.step if self.best is not None else done,
            "samples_seen": done * options.batch,
            "micro_batch": self.micro,
            "micro_batch_was_halved": self.micro < options.micro,
            "device": self.fabric.device.type,
            "precision": self.precision.format,
            "precision_reason": self.precision.reason,
            "options": asdict(options),
            **self.pretrained,
        }


def _fabric(machine: OneMachine | None, options: TrainOptions) -> tuple[Fabric, Precision]:
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # what it says is said here already
    device = best_device()
    if device.type == "cuda" and options.devices > torch.cuda.device_count():
        raise UsageError(f"{options.devices} devices", hint=f"this machine has {torch.cuda.device_count()}")
    precision = choose_precision(device, options.precision)
    fabric = Fabric(
        accelerator=device.type,
        devices=options.devices,
        strategy="auto" if machine is None else "ddp",
        precision=precision.fabric,
        plugins=None if machine is None else [machine],
    )
    fabric.launch()
    return fabric, precision


def _under(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those whose names begin with a folder's, without it."""
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
