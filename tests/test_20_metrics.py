"""Confusion matrix by hand and against scikit-style formulas written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarseg.legend import LandClass, Legend
from sarseg.metrics import Accuracy, confusion, unscored

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
