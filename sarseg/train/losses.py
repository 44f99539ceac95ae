"""Losses and scores of logits, with pixels that are ignored.

Cross entropy and focal loss are means over the labelled pixels, weighted by class; dice and Lovasz-softmax are means over
the classes that have a labelled pixel in the batch. Where no pixel has a label each is 0 and so are its gradients.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sarseg.errors import UsageError

IGNORED = 255
"""Class index of a pixel that teaches nothing."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits float (n, classes, h, w) and class indexes int64 (n, h, w), 255 = ignored -> a scalar.

Half precision is computed in float32; float64 stays float64.
"""

_FOCUS = 2.0  # the gamma of Lin et al. 2017
_LEAST = 1e-6  # a divisor where nothing counts


def make_loss(formula: str, weights: Tensor | None = None, smoothing: float = 0.0) -> Loss:
    """The loss that a formula names: "ce", "dice", "focal", "lovasz", or a sum such as "ce+0.5*lovasz".

    Parameters
    ----------
    weights : float32 (classes,), of the cross entropy and the focal loss; dice and Lovasz take every class alike
    smoothing : label smoothing of the cross entropy, from 0 to below 1 (Szegedy et al. 2016)

    Raises
    ------
    UsageError : for an unknown name, a factor that is not above 0, or a smoothing out of range
    """
    if not 0 <= smoothing < 1:
        raise UsageError(f"label smoothing {smoothing} cannot be used", hint="it is from 0 to below 1")
    named: dict[str, Loss] = {
        "ce": lambda logits, target: cross_entropy(logits, target, weights, smoothing),
        "dice": dice,
        "focal": lambda logits, target: focal(logits, target, weights),
        "lovasz": lovasz_softmax,
    }
    terms = [_term(word, formula, named) for word in formula.split("+")]
    if terms[0][0] == 1 and len(terms) == 1:
        return terms[0][1]

    def total(logits: Tensor, target: Tensor) -> Tensor:
        parts = [factor * loss(logits, target) for factor, loss in terms]
        return torch.stack(parts).sum()

    return total


def _term(word: str, formula: str, named: dict[str, Loss]) -> tuple[float, Loss]:
    factor, star, name = word.rpartition("*")
    name = name.strip()
    if name not in named:
        near = difflib.get_close_matches(name, named, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(named)}, and sums such as ce+0.5*lovasz"
        raise UsageError(f"no loss '{name}'", f"loss {formula}", hint)
    try:
        value = float(factor) if star else 1.0
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(
            f"factor '{factor.strip()}' of loss '{name}' cannot be used", f"loss {formula}", "a number above 0, as in 0.5*dice"
        )
    return value, named[name]


def counted_weight(target: Tensor, weights: Tensor | None = None) -> Tensor:
    """By what the means of cross entropy and focal loss divide: the labelled pixels, or the sum of their class weights.

    Batches cut from one batch and weighed by their shares of it give its loss.

    Parameters
    ----------
    target : int64, any shape, class indexes; 255 = ignored
    weights : float32 (classes,)

    Returns
    -------
    float scalar on the target's device, of the weights' type or float32
    """
    if weights is None:
        return (target != IGNORED).sum().float()
    return _pixel_weights(target, weights).sum()


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy over the labelled pixels, weighted by class; 0 when there is none.

    Parameters
    ----------
    logits : float (n, classes, h, w)
    target : int64 (n, h, w), class indexes; 255 = ignored
    weights : float32 (classes,)
    smoothing : this share of a pixel's label goes to all classes alike
    """
    chances, wanted = _log_chances(logits), target.reshape(-1)
    weight = None if weights is None else weights.to(chances.dtype)
    total = F.nll_loss(chances, wanted, weight=weight, ignore_index=IGNORED, reduction="sum")
    if smoothing:
        spread = -(chances if weight is None else chances * weight).mean(1).masked_fill(wanted == IGNORED, 0.0).sum()
        total = (1.0 - smoothing) * total + smoothing * spread
    return total / counted_weight(wanted, weight).clamp(min=_LEAST)


def focal(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of -(1 - p)^2 log p over the labelled pixels, p the probability of the true class (Lin et al. 2017, equation 4).

    Parameters
    ----------
    logits, target, weights : as of `cross_entropy`
    """
    chances, wanted = _log_chances(logits), target.reshape(-1)
    weight = None if weights is None else weights.to(chances.dtype)
    surprise = F.nll_loss(chances, wanted, ignore_index=IGNORED, reduction="none")  # -log p; 0 where ignored
    losses = (-torch.expm1(-surprise)) ** _FOCUS * surprise
    if weight is not None:
        losses = losses * _pixel_weights(wanted, weight)
    return losses.sum() / counted_weight(wanted, weight).clamp(min=_LEAST)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - mean over the labelled classes of 2 sum(p g) / (sum(p^2) + sum(g^2)) over the batch (Milletari et al. 2016).

    p is the probability of a class at a labelled pixel, g is 1 where it is the true one. A class without a labelled pixel is
    left out of the mean.

    Parameters
    ----------
    logits, target : as of `cross_entropy`
    """
    planes = _planes(logits)
    chance = planes.softmax(1) * (target != IGNORED)[:, None]
    truth = (target[:, None] == torch.arange(planes.shape[1], device=planes.device)[:, None, None]).to(planes.dtype)
    pixels = truth.sum((0, 2, 3))
    overlap = 2.0 * (chance * truth).sum((0, 2, 3)) / ((chance * chance).sum((0, 2, 3)) + pixels).clamp(min=_LEAST)
    present = (pixels > 0).to(planes.dtype)
    return ((1.0 - overlap) * present).sum() / present.sum().clamp(min=1.0)


def lovasz_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the labelled classes of the Lovasz extension of 1 - Jaccard over the batch (Berman et al. 2018).

    The gradient is that of the extension: at ties between errors one of its subgradients. On a CPU the sort of all labelled
    pixels for each class takes as long as a training step of a small network.

    Parameters
    ----------
    logits, target : as of `cross_entropy`
    """
    counted = target != IGNORED
    # sorting costs most: only labelled pixels and classes are sorted, although a GPU must wait for their number
    chance = _planes(logits).permute(0, 2, 3, 1)[counted].softmax(1)
    truth = target[counted][:, None] == torch.arange(chance.shape[1], device=chance.device)
    present = truth.any(0)
    errors = (truth.to(chance.dtype) - chance).abs().T[present]  # (labelled classes, labelled pixels)
    with torch.no_grad():
        order = errors.argsort(dim=1, descending=True, stable=True)
        hits = truth.T[present].long().gather(1, order)
        found = hits.cumsum(1)  # in integers: exact, and the same whatever the hardware
        all_hits = found[:, -1:]
        rank = torch.arange(1, hits.shape[1] + 1, device=chance.device)
        loss = 1.0 - (all_hits - found).to(chance.dtype) / (all_hits + rank - found).to(chance.dtype)
        rise = loss.diff(dim=1, prepend=loss.new_zeros(len(loss), 1))
        slope = torch.zeros_like(errors).scatter_(1, order, rise)
    return (errors * slope).sum() / max(1, len(errors))


def _planes(logits: Tensor) -> Tensor:
    """Logits float32 or float64, class by class in memory: with few classes a softmax over them is three times as fast so."""
    return (logits if logits.dtype == torch.float64 else logits.float()).contiguous()


def _log_chances(logits: Tensor) -> Tensor:
    """Logarithms of the probabilities, float32 or float64 (pixels, classes)."""
    return _planes(logits).log_softmax(1).permute(0, 2, 3, 1).reshape(-1, logits.shape[1])


def _pixel_weights(target: Tensor, weights: Tensor) -> Tensor:
    """The weight of each pixel's class, 0 where it is ignored."""
    counted = target != IGNORED
    return weights[target.masked_fill(~counted, 0)] * counted


def inverse_sqrt_weights(pixels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Class weights 1 / sqrt(share), float32 (classes,), mean 1 over the pixels; 0 for a class without pixels.

    Parameters
    ----------
    pixels : int64 (classes,), labelled pixels of each class
    """
    share = pixels / max(1, int(pixels.sum()))
    weights = np.divide(1.0, np.sqrt(share), out=np.zeros(len(pixels)), where=share > 0)
    mean = float((weights * share).sum())
    return np.asarray(weights / mean if mean > 0 else np.ones(len(pixels)), np.float32)


def best_temperature(logits: Tensor, target: Tensor, *, low: float = 0.2, high: float = 5.0) -> float:
    """The temperature at which softmax(logits / temperature) has the least cross entropy (Guo et al. 2017).

    The loss is convex in 1 / temperature, which a golden-section search over [1 / high, 1 / low] uses.

    Parameters
    ----------
    logits : float (pixels, classes), on the CPU
    target : int64 (pixels,), class indexes; 255 = ignored
    """
    counted = target != IGNORED
    if not bool(counted.any()):
        return 1.0
    scores, wanted = logits[counted].double(), target[counted]

    def loss(inverse: float) -> float:
        return float(F.cross_entropy(scores * inverse, wanted))

    golden = (5.0**0.5 - 1.0) / 2.0
    left, right = 1.0 / high, 1.0 / low
    inner_left, inner_right = right - golden * (right - left), left + golden * (right - left)
    loss_left, loss_right = loss(inner_left), loss(inner_right)
    while right - left > 1e-3:
        if loss_left <= loss_right:
            right, inner_right, loss_right = inner_right, inner_left, loss_left
            inner_left = right - golden * (right - left)
            loss_left = loss(inner_left)
        else:
            left, inner_left, loss_left = inner_left, inner_right, loss_right
            inner_right = left + golden * (right - left)
            loss_right = loss(inner_right)
    return round(2.0 / (left + right), 4)
