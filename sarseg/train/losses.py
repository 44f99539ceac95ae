"""Losses and scores of logits, with pixels that are ignored."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

IGNORED = 255
"""Class index of a pixel that teaches nothing."""


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross entropy over the pixels that count, weighted by class; 0 when none counts.

    Parameters
    ----------
    logits : float (n, classes, h, w)
    target : int64 (n, h, w), class indexes; 255 = ignored
    weights : float32 (classes,)
    """
    flat = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).float()
    wanted = target.reshape(-1)
    total = F.cross_entropy(flat, wanted, weight=weights, ignore_index=IGNORED, reduction="sum")
    counted = wanted[wanted != IGNORED]
    share = weights[counted].sum() if weights is not None else torch.tensor(float(counted.numel()), device=flat.device)
    return total / share.clamp(min=1e-6)


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
