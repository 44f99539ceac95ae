"""How good a network is: batch norm settled, validation patches scored, probabilities made honest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sarseg.legend import Legend
from sarseg.metrics import Accuracy, Reliability, confusion
from sarseg.train.loader import Batch
from sarseg.train.losses import IGNORED, best_temperature, cross_entropy

_SCORED_PIXELS = 200_000  # of the validation, for the temperature


@dataclass(frozen=True, slots=True)
class Score:
    """What the validation patches say of one state of the network."""

    loss: float
    accuracy: Accuracy
    logits: Tensor
    """float32 (pixels, classes): an even sample of the pixels, for the temperature."""
    target: Tensor

    def temperature(self) -> float:
        """The temperature that makes the probabilities honest (Guo et al. 2017)."""
        return best_temperature(self.logits, self.target)

    def to_dict(self, temperature: float) -> dict[str, Any]:
        """For `model.json`: accuracies, loss, and the reliability of the sampled pixels before and after the temperature."""
        reliability = {"before": self._reliability(1.0).to_dict(), "after": self._reliability(temperature).to_dict()}
        calibration = {**reliability, "temperature": temperature}
        return {"validation": self.accuracy.to_dict(), "validation_loss": self.loss, "calibration": calibration}

    def _reliability(self, temperature: float) -> Reliability:
        counted = self.target != IGNORED
        confidence, answer = torch.softmax(self.logits[counted] / temperature, 1).max(1)
        return Reliability.of(confidence.numpy(), (answer == self.target[counted]).numpy())


def settle(network: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], Any]) -> None:
    """Take batch norm's statistics anew, for the weights as they are, over several batches (Wu and Johnson 2021, section 3).

    The running ones look back at ten small batches and other weights, which can cost points of accuracy in eval mode.

    Parameters
    ----------
    batches : not looked at when the network has no batch norm
    forward : the network, called in training mode
    """
    norms = {module: module.momentum for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # torch's word for a plain mean
    network.train()
    if norms:
        for images in batches:
            with torch.no_grad():
                forward(images)
    for module, momentum in norms.items():
        module.momentum = momentum


def validate(
    network: nn.Module,
    batches: Iterable[Batch],
    legend: Legend,
    *,
    autocast: Callable[[], AbstractContextManager[Any]],
    total: int,
    device: torch.device,
) -> Score:
    """Score a network on patches as they are; it sees NaN where it says `takes_nan = True`.

    Parameters
    ----------
    autocast : makes the context of each forward pass
    total : how many patches there are
    """
    network.eval()
    codes = np.array([*legend.codes, *[0] * (256 - len(legend.codes))], np.uint8)
    matrix = np.zeros((len(legend.codes),) * 2, np.int64)
    logits, targets, loss, counted = [], [], 0.0, 0
    for batch in batches:
        given, target = batch.images.to(device, non_blocking=True), batch.target.to(device, non_blocking=True).long()
        images, target = fill_nan(given, target)
        images = given if getattr(network, "takes_nan", False) else images
        with torch.inference_mode(), autocast():
            answer = network(images.contiguous(memory_format=torch.channels_last)).float()
            known = int((target != IGNORED).sum())
            loss, counted = loss + known * float(cross_entropy(answer, target)), counted + known
            index = target.cpu().numpy()
            truth = np.where(index == IGNORED, np.uint8(0), codes[np.minimum(index, 255)])
            matrix += confusion(truth, codes[answer.argmax(1).cpu().numpy()], legend)
            every = target[0].numel() * total // _SCORED_PIXELS | 1  # odd, so that it does not stay in one column
            logits.append(answer.flatten(2).permute(0, 2, 1)[:, ::every].reshape(-1, answer.shape[1]).cpu())
            targets.append(target.flatten(1)[:, ::every].reshape(-1).cpu())
    return Score(loss / max(1, counted), Accuracy(matrix, legend), torch.cat(logits), torch.cat(targets))


def fill_nan(images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """What a network is fed: 0, the mean, where any band is NaN; such pixels are ignored.

    Parameters
    ----------
    images : float32 (n, band, h, w), normalised
    target : int64 (n, h, w), class indexes
    """
    missing = images.isnan().any(1)
    return images.masked_fill(missing[:, None], 0.0), target.masked_fill(missing, IGNORED)
