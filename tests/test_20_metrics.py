"""Confusion matrix by hand and against scikit-style formulas written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarseg.legend import LandClass, Legend
from sarseg.metrics import RELIABILITY_BINS, Accuracy, Reliability, confusion, unscored

LEGEND = Legend(tuple(LandClass(code=code, name=f"c{code}", color=(code, 0, 0)) for code in (3, 7, 8, 200)))


@given(seed=st.integers(0, 1000), size=st.integers(0, 60))
def test_matrix_equals_a_loop(seed, size):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.choice(np.array([0, 3, 7, 8, 200, 255, 9], np.uint8), (2, size))
    want = np.zeros((4, 4), int)
    without_label = without_prediction = 0
    for t, p in zip(truth, prediction, strict=True):
        if t in LEGEND.codes and p in LEGEND.codes:
            want[LEGEND.codes.index(t), LEGEND.codes.index(p)] += 1
        elif t not in LEGEND.codes:
            without_label += 1
        else:
            without_prediction += 1
    assert (confusion(truth, prediction, LEGEND) == want).all()
    assert unscored(truth, prediction, LEGEND) == {"without_label": without_label, "label_without_prediction": without_prediction}


def test_accuracies_by_hand():
    # Cohen's kappa: po = 45/60, pe = (30*35 + 20*15 + 10*10)/3600; class 200 does not occur
    matrix = np.array([[25, 3, 2, 0], [6, 12, 2, 0], [4, 0, 6, 0], [0, 0, 0, 0]])
    got = Accuracy(matrix, LEGEND)
    chance = (30 * 35 + 20 * 15 + 10 * 10) / 3600
    assert got.oa == pytest.approx(43 / 60)
    assert got.kappa == pytest.approx((43 / 60 - chance) / (1 - chance))
    np.testing.assert_allclose(got.producers, [25 / 30, 12 / 20, 6 / 10, np.nan])
    np.testing.assert_allclose(got.users, [25 / 35, 12 / 15, 6 / 10, np.nan])
    np.testing.assert_allclose(got.iou, [25 / 40, 12 / 23, 6 / 14, np.nan])
    np.testing.assert_allclose(got.f1, [50 / 65, 24 / 35, 12 / 20, np.nan])
    assert got.miou == pytest.approx((25 / 40 + 12 / 23 + 6 / 14) / 3)
    assert got.absent == ("c200",)
    assert got.to_dict()["classes"]["c200"]["iou"] is None


def test_nothing_scored_is_nan_not_a_crash():
    got = Accuracy(np.zeros((4, 4), np.int64), LEGEND)
    assert np.isnan(got.oa)
    assert np.isnan(got.kappa)
    assert got.to_dict()["mean_iou"] is None


def test_macro_means_leave_out_absent_classes_and_name_them():
    # c7 has labels and is never predicted; c8 is predicted and has no label; c200 is in neither
    matrix = np.array([[30, 0, 10, 0], [15, 0, 5, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    means = Accuracy(matrix, LEGEND).means
    assert means["producers_accuracy"].value == pytest.approx((30 / 40 + 0 / 20) / 2)
    assert means["producers_accuracy"].left_out == ("c8", "c200")
    assert means["users_accuracy"].value == pytest.approx((30 / 45 + 0 + 0) / 3)
    assert means["iou"].value == pytest.approx((30 / 55 + 0 + 0) / 3)
    assert means["f1"].value == pytest.approx((60 / 85 + 0 + 0) / 3)
    assert all(means[name].left_out == ("c200",) for name in ("users_accuracy", "iou", "f1"))
    said = Accuracy(matrix, LEGEND).to_dict()["macro_means"]
    assert said["iou"] == {"mean": pytest.approx(30 / 55 / 3), "classes_left_out": ["c200"]}


def test_macro_means_of_present_classes_are_those_of_scikit_learn():
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(2)
    truth = rng.choice(np.array(LEGEND.codes, np.uint8), 500)
    guess = np.where(rng.random(500) < 0.6, truth, rng.choice(np.array([3, 7], np.uint8), 500))
    means = Accuracy(confusion(truth, guess, LEGEND), LEGEND).means
    want = precision_recall_fscore_support(truth, guess, average="macro", zero_division=0)
    assert [means[name].value for name in ("users_accuracy", "producers_accuracy", "f1")] == pytest.approx(want[:3], abs=1e-12)


@given(seed=st.integers(0, 1000), size=st.integers(1, 300), edges=st.booleans())
def test_calibration_error_equals_a_loop(seed, size, edges):
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, RELIABILITY_BINS + 1, size) / RELIABILITY_BINS if edges else rng.random(size)
    correct = rng.random(size) < 0.7
    want = 0.0
    for at in range(RELIABILITY_BINS):
        # Guo et al. 2017, section 2: the bin is ((m - 1) / M, m / M]; 0 itself goes to the first
        low, high = at / RELIABILITY_BINS, (at + 1) / RELIABILITY_BINS
        inside = [i for i in range(size) if low < confidence[i] <= high or (at == 0 and confidence[i] == 0)]
        if inside:
            accuracy = sum(bool(correct[i]) for i in inside) / len(inside)
            want += len(inside) / size * abs(accuracy - sum(confidence[i] for i in inside) / len(inside))
    got = Reliability.of(confidence, correct)
    assert got.ece == pytest.approx(want, abs=1e-12)
    cut = size // 3
    parts = Reliability.none() + Reliability.of(confidence[:cut], correct[:cut]) + Reliability.of(confidence[cut:], correct[cut:])
    assert (parts.count == got.count).all()
    assert parts.ece == pytest.approx(got.ece, abs=1e-12)
    assert got.to_dict()["pixels"] == size


def test_reliability_of_nothing_and_of_nan():
    assert Reliability.none().to_dict()["expected_calibration_error"] is None
    with pytest.raises(ValueError, match="NaN"):
        Reliability.of(np.array([0.5, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match="differ in shape"):
        Reliability.of(np.array([0.5]), np.array([True, False]))
    assert Reliability.of(np.array([1.0000001], np.float32), np.array([True])).confidence[-1] == 1.0
