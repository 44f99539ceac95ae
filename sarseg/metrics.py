"""One confusion matrix and the accuracies that follow from it (Congalton 1991; Cohen 1960 for kappa); reliability (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.legend import IGNORE, NODATA, Legend

Matrix = NDArray[np.int64]
RELIABILITY_BINS = 15
"""Equal bins of the confidence 0..1, as in Guo et al. (2017), On Calibration of Modern Neural Networks, section 4."""


def confusion(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], legend: Legend) -> Matrix:
    """Counts of pixels, int64 (classes, classes): rows are the truth, columns the prediction, in the legend's order.

    Parameters
    ----------
    truth, prediction : codes uint8, equal shapes; a pixel where either is no class of the legend is not scored
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
    lookup, count = legend.lookup(), len(legend.codes)
    row, col = lookup[truth], lookup[prediction]
    scored = (row < count) & (col < count)
    index = row[scored].astype(np.int64) * count + col[scored]
    return np.bincount(index, minlength=count * count).reshape(count, count)


def unscored(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], legend: Legend) -> dict[str, int]:
    """Why pixels are not in the matrix: no label there, or a label but no prediction of a class."""
    lookup, count = legend.lookup(), len(legend.codes)
    labelled = lookup[truth] < count
    return {
        "without_label": int(np.count_nonzero(~labelled)),
        "label_without_prediction": int(np.count_nonzero(labelled & (lookup[prediction] >= count))),
    }


@dataclass(frozen=True, slots=True)
class ClassMean:
    """A mean in which every class counts the same, and the names of the classes that it leaves out; NaN when it leaves out all."""

    value: float
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracies of a confusion matrix int64 (classes, classes); NaN for a class without pixels, and means leave it out."""

    matrix: Matrix
    legend: Legend

    @property
    def total(self) -> int:
        """Scored pixels."""
        return int(self.matrix.sum())

    @property
    def oa(self) -> float:
        """Overall accuracy: share of scored pixels that are right."""
        return float(np.trace(self.matrix) / self.total) if self.total else float("nan")

    @property
    def kappa(self) -> float:
        """Cohen's kappa; NaN where chance agreement is total."""
        if not self.total:
            return float("nan")
        share = self.matrix / self.total
        chance = float(share.sum(0) @ share.sum(1))
        return (self.oa - chance) / (1.0 - chance) if chance < 1.0 else float("nan")

    @property
    def producers(self) -> NDArray[np.float64]:
        """Producer's accuracy (recall) a class."""
        return _ratio(np.diag(self.matrix), self.matrix.sum(1))

    @property
    def users(self) -> NDArray[np.float64]:
        """User's accuracy (precision) a class."""
        return _ratio(np.diag(self.matrix), self.matrix.sum(0))

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 a class."""
        return _ratio(2 * np.diag(self.matrix), self.matrix.sum(0) + self.matrix.sum(1))

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union a class."""
        hit = np.diag(self.matrix)
        return _ratio(hit, self.matrix.sum(0) + self.matrix.sum(1) - hit)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur in truth or prediction."""
        return _mean(self.iou)

    @property
    def means(self) -> dict[str, ClassMean]:
        """Macro means by name: "iou", "f1", "users_accuracy" and "producers_accuracy".

        The producer's leaves out classes without a labelled pixel, the others classes in neither truth nor prediction. A class
        with labels that is never predicted has a user's accuracy of 0 here: left out, it would reward not naming it.
        """
        labelled, predicted = self.matrix.sum(1) > 0, self.matrix.sum(0) > 0
        occurs = labelled | predicted
        users = np.where(labelled & ~predicted, 0.0, self.users)
        return {
            "iou": self._mean_over(self.iou, occurs),
            "f1": self._mean_over(self.f1, occurs),
            "users_accuracy": self._mean_over(users, occurs),
            "producers_accuracy": self._mean_over(self.producers, labelled),
        }

    def _mean_over(self, values: NDArray[np.float64], counted: NDArray[np.bool_]) -> ClassMean:
        left_out = tuple(name for name, one in zip(self.legend.names, counted, strict=True) if not one)
        return ClassMean(_mean(values[counted]), left_out)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes without a labelled pixel."""
        return tuple(name for name, count in zip(self.legend.names, self.matrix.sum(1), strict=True) if count == 0)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: None stands for NaN."""
        classes = {
            name: {
                "code": code,
                "pixels": int(self.matrix[i].sum()),
                "iou": _number(self.iou[i]),
                "f1": _number(self.f1[i]),
                "users_accuracy": _number(self.users[i]),
                "producers_accuracy": _number(self.producers[i]),
            }
            for i, (code, name) in enumerate(zip(self.legend.codes, self.legend.names, strict=True))
        }
        return {
            "overall_accuracy": _number(self.oa),
            "kappa": _number(self.kappa),
            "mean_iou": _number(self.miou),
            "macro_means": {
                name: {"mean": _number(mean.value), "classes_left_out": list(mean.left_out)} for name, mean in self.means.items()
            },
            "scored_pixels": self.total,
            "classes_without_labels": list(self.absent),
            "classes": classes,
            "confusion_matrix": {"rows": "truth", "columns": "map", "codes": list(self.legend.codes), "counts": self.matrix.tolist()},
        }


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far probabilities mean what they say: pixels in 15 equal bins (low, high] of the confidence, which add up over batches.

    `count` int64 (15,) pixels, `confidence_sum` float64 (15,), `correct` int64 (15,) pixels that are right.
    """

    count: NDArray[np.int64]
    confidence_sum: NDArray[np.float64]
    correct: NDArray[np.int64]

    @classmethod
    def none(cls) -> Reliability:
        """Of no pixel: what sums start from."""
        return cls.of(np.empty(0), np.empty(0, bool))

    @classmethod
    def of(cls, confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> Reliability:
        """Count pixels by the probability of the class they were given, 0..1, and whether it is right; any one shape.

        ValueError for shapes that differ and for NaN.
        """
        if confidence.shape != correct.shape:
            raise ValueError(f"confidence {confidence.shape} and correct {correct.shape} differ in shape")
        # a softmax of float32 may pass 1 by a rounding
        values = np.clip(np.asarray(confidence, np.float64).ravel(), 0.0, 1.0)
        if np.isnan(values).any():
            raise ValueError("a confidence is NaN")
        inner = np.arange(1, RELIABILITY_BINS) / RELIABILITY_BINS
        place = np.searchsorted(inner, values, side="left")
        return cls(
            np.bincount(place, minlength=RELIABILITY_BINS).astype(np.int64),
            np.asarray(np.bincount(place, values, RELIABILITY_BINS), np.float64),
            np.bincount(place[np.asarray(correct, bool).ravel()], minlength=RELIABILITY_BINS).astype(np.int64),
        )

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.count + other.count, self.confidence_sum + other.confidence_sum, self.correct + other.correct)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of right pixels a bin, NaN in an empty one."""
        return _ratio(self.correct, self.count)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Mean confidence a bin, NaN in an empty one."""
        return _ratio(self.confidence_sum, self.count)

    @property
    def ece(self) -> float:
        """Expected calibration error: |accuracy - confidence| of the bins, weighted by their pixels; NaN without pixels."""
        total = self.count.sum()
        return float(np.abs(self.correct - self.confidence_sum).sum() / total) if total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the error and every bin; None stands for NaN."""
        bins = [
            {
                "above": at / RELIABILITY_BINS,
                "to": (at + 1) / RELIABILITY_BINS,
                "pixels": int(self.count[at]),
                "confidence": _number(self.confidence[at]),
                "accuracy": _number(self.accuracy[at]),
            }
            for at in range(RELIABILITY_BINS)
        ]
        return {"expected_calibration_error": _number(self.ece), "pixels": int(self.count.sum()), "bins": bins}


def is_class(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a label raster holds a class: neither nodata nor ignore."""
    return np.asarray((codes != NODATA) & (codes != IGNORE))


def _ratio(part: NDArray[np.int64] | NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0), np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
