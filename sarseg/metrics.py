"""One confusion matrix, and the accuracies that follow from it (Congalton 1991; Cohen 1960 for kappa)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.legend import IGNORE, NODATA, Legend

Matrix = NDArray[np.int64]


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
            "scored_pixels": self.total,
            "classes_without_labels": list(self.absent),
            "classes": classes,
            "confusion_matrix": {"rows": "truth", "columns": "map", "codes": list(self.legend.codes), "counts": self.matrix.tolist()},
        }


def is_class(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a label raster holds a class: neither nodata nor ignore."""
    return np.asarray((codes != NODATA) & (codes != IGNORE))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0), np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
