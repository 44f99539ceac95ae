"""Losses: against loops over pixels in plain Python, by their gradients, and on what is ignored."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sarseg.errors import UsageError
from sarseg.train.losses import IGNORED, counted_weight, make_loss

torch.set_num_threads(1)

NAMES = ("ce", "dice", "focal", "lovasz")
CLASSES = 4
WEIGHTS = torch.tensor([0.3, 2.0, 1.1, 0.7])


def made_batch(seed: int = 0, *, ignored: float = 0.4, shape: tuple[int, int, int] = (3, 5, 7)) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits float64 (n, 4, h, w) and sparse labels, of which class 2 is absent."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (shape[0], CLASSES, *shape[1:]))
    target = rng.choice([0, 1, 3], shape)
    target[rng.random(shape) < ignored] = IGNORED
    return torch.from_numpy(logits), torch.from_numpy(target)


def labelled(logits: torch.Tensor, target: torch.Tensor) -> tuple[list[list[float]], list[int]]:
    """Probabilities of every class at every labelled pixel, and its class: plain Python."""
    chances, classes = [], []
    for n, row, col in np.ndindex(*target.shape):
        if int(target[n, row, col]) == IGNORED:
            continue
        powers = [math.exp(float(value)) for value in logits[n, :, row, col]]
        chances.append([power / sum(powers) for power in powers])
        classes.append(int(target[n, row, col]))
    return chances, classes


def brute_ce(chances: list[list[float]], classes: list[int], weights: list[float], smoothing: float) -> float:
    total = 0.0
    for chance, one in zip(chances, classes, strict=True):
        for k in range(CLASSES):
            label = smoothing / CLASSES + (1 - smoothing if k == one else 0)
            total -= weights[k] * label * math.log(chance[k])
    return total / sum(weights[one] for one in classes)


def brute_focal(chances: list[list[float]], classes: list[int], weights: list[float]) -> float:
    total = 0.0
    for chance, one in zip(chances, classes, strict=True):
        total -= weights[one] * (1 - chance[one]) ** 2 * math.log(chance[one])
    return total / sum(weights[one] for one in classes)


def brute_dice(chances: list[list[float]], classes: list[int]) -> float:
    losses = []
    for k in set(classes):
        both, squares = 0.0, 0.0
        for chance, one in zip(chances, classes, strict=True):
            truth = float(one == k)
            both += chance[k] * truth
            squares += chance[k] ** 2 + truth**2
        losses.append(1 - 2 * both / squares)
    return sum(losses) / len(losses)


def jaccard_loss(wrong: set[int], truth: set[int]) -> float:
    """1 - Jaccard of a class when exactly these pixels are wrong, truth being the pixels of the class."""
    predicted = truth ^ wrong
    return 1 - len(truth & predicted) / len(truth | predicted)


def brute_lovasz(chances: list[list[float]], classes: list[int]) -> float:
    """The Lovasz extension by its definition: the set function along the chain of the largest errors."""
    losses = []
    for k in set(classes):
        truth = {at for at, one in enumerate(classes) if one == k}
        errors = [abs(float(one == k) - chance[k]) for chance, one in zip(chances, classes, strict=True)]
        order = sorted(range(len(errors)), key=lambda at: -errors[at])
        chain = [jaccard_loss(set(order[:count]), truth) for count in range(len(order) + 1)]
        losses.append(sum(errors[at] * (chain[place + 1] - chain[place]) for place, at in enumerate(order)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_equal_loops_over_pixels(seed: int, weighted: bool) -> None:
    logits, target = made_batch(seed, ignored=(0.0, 0.4, 0.9, 0.97)[seed])
    chances, classes = labelled(logits, target)
    assert len(classes) > 1
    weights, plain = (WEIGHTS, [float(weight) for weight in WEIGHTS]) if weighted else (None, [1.0] * CLASSES)
    expected = {
        "ce": brute_ce(chances, classes, plain, 0.1),
        "focal": brute_focal(chances, classes, plain),
        "dice": brute_dice(chances, classes),
        "lovasz": brute_lovasz(chances, classes),
    }
    for name, value in expected.items():
        loss = make_loss(name, weights, 0.1)
        assert float(loss(logits, target)) == pytest.approx(value, rel=1e-12), name
        assert loss(logits.float(), target).dtype == torch.float32
        assert float(loss(logits.float(), target)) == pytest.approx(value, rel=2e-6), name
    total = make_loss("ce + 0.5*lovasz+2e0 * dice", weights, 0.1)(logits, target)
    assert float(total) == pytest.approx(expected["ce"] + 0.5 * expected["lovasz"] + 2 * expected["dice"], rel=1e-12)
    assert float(make_loss("ce", weights, 0.0)(logits, target)) == pytest.approx(brute_ce(chances, classes, plain, 0.0), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_lovasz_of_hard_predictions_is_one_minus_the_jaccard_index(seed: int) -> None:
    _, target = made_batch(seed)
    predicted = np.random.default_rng(seed).integers(0, CLASSES, target.shape)
    predicted[0] = np.where(target[0].numpy() == IGNORED, 2, target[0].numpy())
    logits = torch.from_numpy(np.moveaxis(np.eye(CLASSES)[predicted] * 1000.0, -1, 1))  # probabilities are 0 and 1 exactly
    truth, known = target.numpy(), target.numpy() != IGNORED
    indices = []
    for k in (0, 1, 3):
        union = ((predicted == k) | (truth == k)) & known
        indices.append(((predicted == k) & (truth == k) & known).sum() / union.sum())
    assert 0.1 < np.mean(indices) < 0.9
    assert float(make_loss("lovasz")(logits, target)) == pytest.approx(1 - np.mean(indices), rel=1e-12)


@pytest.mark.parametrize("formula", [*NAMES, "ce+0.5*lovasz"])
def test_gradients_are_those_of_finite_differences(formula: str) -> None:
    logits, target = made_batch(7, shape=(2, 3, 4))
    loss = make_loss(formula, WEIGHTS.double(), 0.1)
    assert torch.autograd.gradcheck(lambda values: loss(values, target), logits.clone().requires_grad_())


def gradient(formula: str, logits: torch.Tensor, target: torch.Tensor) -> tuple[float, NDArray[np.float64]]:
    leaf = logits.clone().requires_grad_()
    loss = make_loss(formula, WEIGHTS.to(logits.dtype), 0.1)(leaf, target)
    loss.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return loss.item(), leaf.grad.double().numpy()


@pytest.mark.parametrize("formula", [*NAMES, "ce+dice+focal+lovasz"])
def test_ignored_pixels_have_no_say(formula: str) -> None:
    logits, target = made_batch(3)
    value, slope = gradient(formula, logits, target)
    known = (target != IGNORED).numpy()
    per_pixel = np.moveaxis(slope, 1, -1)
    assert (per_pixel[~known] == 0).all()
    assert (per_pixel[known] != 0).any(-1).mean() > 0.95
    changed = logits.clone()
    changed.permute(0, 2, 3, 1)[torch.from_numpy(~known)] = 37.0
    other, other_slope = gradient(formula, changed, target)
    assert other == value
    np.testing.assert_array_equal(other_slope, slope)


@pytest.mark.parametrize("formula", [*NAMES, "ce+dice+focal+lovasz"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_without_a_label_gives_zero(formula: str, dtype: torch.dtype) -> None:
    logits, target = made_batch(1, ignored=1.1)
    value, slope = gradient(formula, logits.to(dtype), target)
    assert value == 0
    assert (slope == 0).all()


@pytest.mark.parametrize("formula", NAMES)
def test_sure_predictions_stay_finite(formula: str) -> None:
    """Right and wrong with probabilities that are 0 and 1 in float32."""
    logits, target = made_batch(5)
    value, slope = gradient(formula, (logits * 1e4).float(), target)
    assert math.isfinite(value)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("formula", NAMES)
def test_half_precision_is_computed_in_float32(formula: str) -> None:
    logits, target = made_batch(2, shape=(2, 17, 23))
    halves = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = make_loss(formula, WEIGHTS)(halves, target)
    outside = make_loss(formula, WEIGHTS)(halves.float(), target)
    assert inside.dtype == torch.float32
    assert float(inside) == float(outside)


@pytest.mark.parametrize("formula", ["ce", "focal"])
@pytest.mark.parametrize("weights", [None, WEIGHTS.double()])
def test_shares_make_the_parts_the_whole(formula: str, weights: torch.Tensor | None) -> None:
    """Micro-batches weighed by their share of the counted weight: the loss of the whole batch."""
    logits, target = made_batch(4, shape=(5, 4, 6))
    target[1] = IGNORED
    loss = make_loss(formula, weights, 0.2)
    whole = counted_weight(target, weights)
    parts = [(logits[cut], target[cut]) for cut in (slice(0, 1), slice(1, 2), slice(2, 5))]
    total = sum(float(loss(*part)) * float(counted_weight(part[1], weights) / whole) for part in parts)
    assert total == pytest.approx(float(loss(logits, target)), rel=1e-6)
    known = target[target != IGNORED].tolist()
    assert float(whole) == pytest.approx(sum(1.0 if weights is None else float(weights[one]) for one in known), rel=1e-6)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("lovas", r"no loss 'lovas' \[loss lovas\]: did you mean 'lovasz'\?"),
        ("ce+2*dicee", "no loss 'dicee'.*did you mean 'dice'"),
        ("ce+", "no loss ''.*there are ce, dice, focal, lovasz"),
        ("x*ce", "factor 'x' of loss 'ce'"),
        ("ce+0*dice", "factor '0' of loss 'dice'"),
        ("-1*dice", "factor '-1'"),
        ("inf*dice", "factor 'inf'"),
        ("nan*dice", "factor 'nan'"),
        ("*dice", "factor ''"),
    ],
)
def test_impossible_formulas_are_refused(formula: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_loss(formula)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_impossible_smoothing_is_refused(smoothing: float) -> None:
    with pytest.raises(UsageError, match="label smoothing"):
        make_loss("ce", None, smoothing)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("formula", [*NAMES, "ce+dice+focal+lovasz"])
def test_a_gpu_gives_the_same_loss(formula: str) -> None:
    logits, target = made_batch(6, shape=(3, 33, 31))
    for weights in (None, WEIGHTS):
        there = make_loss(formula, None if weights is None else weights.cuda(), 0.1)(logits.float().cuda(), target.cuda())
        assert there.item() == pytest.approx(make_loss(formula, weights, 0.1)(logits.float(), target).item(), rel=1e-5)
