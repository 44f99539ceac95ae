"""Accuracies as text, CSV and picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sarseg.metrics import Accuracy, Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = (
    "method",
    "part",
    "name",
    "scene",
    "row",
    "col",
    "pixels",
    "overall_accuracy",
    "kappa",
    "iou",
    "f1",
    "users_accuracy",
    "producers_accuracy",
    "calibration_error",
)
"""Of the CSV; iou to producers_accuracy of more than one class are macro means."""

_DIGITS = 4
_MOST_NUMBERS = 20  # classes up to which the matrix's cells are written out
_INK, _GREY, _LINE, _BLUE, _RED = "#222222", "#777777", "#dddddd", "#2f6db3", "#c8553d"


def measures(accuracy: Accuracy) -> dict[str, Any]:
    """Pixels, overall accuracy, kappa and macro means; None for a number that does not exist."""
    means = {name: mean.value for name, mean in accuracy.means.items()}
    numbers = {"overall_accuracy": accuracy.oa, "kappa": accuracy.kappa, **means}
    return {"pixels": accuracy.total, **{name: None if np.isnan(value) else value for name, value in numbers.items()}}


def class_rows(accuracy: Accuracy, method: str) -> list[dict[str, Any]]:
    """Rows for CSV: the whole, and each class."""
    rows = [{"method": method, "part": "all", "name": "", **measures(accuracy)}]
    columns = {"iou": accuracy.iou, "f1": accuracy.f1, "users_accuracy": accuracy.users, "producers_accuracy": accuracy.producers}
    for at, name in enumerate(accuracy.legend.names):
        values = {key: column[at] for key, column in columns.items()}
        rows.append({"method": method, "part": "class", "name": name, "pixels": int(accuracy.matrix[at].sum()), **values})
    return rows


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows; a number that does not exist is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.6g}"
    return value


def text(value: float) -> str:
    """A share, or n/a for NaN."""
    return "n/a" if np.isnan(value) else f"{value:.{_DIGITS}f}"


def text_table(accuracy: Accuracy) -> str:
    """Every class in a line, and the whole below."""
    width = max(10, *(len(name) for name in accuracy.legend.names))
    lines = [f"{'class':<{width}} {'code':>4} {'pixels':>12} {'IoU':>7} {'F1':>7} {'user':>7} {'producer':>8}"]
    columns = (accuracy.iou, accuracy.f1, accuracy.users, accuracy.producers)
    for at, one in enumerate(accuracy.legend.classes):
        iou, f1, users, producers = (text(column[at]) for column in columns)
        pixels = int(accuracy.matrix[at].sum())
        lines.append(f"{one.name:<{width}} {one.code:>4} {pixels:>12} {iou:>7} {f1:>7} {users:>7} {producers:>8}")
    means = {name: text(mean.value) for name, mean in accuracy.means.items()}
    iou, f1, users, producers = (means[name] for name in ("iou", "f1", "users_accuracy", "producers_accuracy"))
    lines.append(f"{'mean':<{width}} {'':>4} {accuracy.total:>12} {iou:>7} {f1:>7} {users:>7} {producers:>8}")
    lines.append(f"overall accuracy {text(accuracy.oa)}, kappa {text(accuracy.kappa)}, mean IoU {text(accuracy.miou)}")
    return "\n".join(lines)


def draw_report(path: Path, accuracy: Accuracy, *, title: str, reliability: Reliability | None = None) -> None:
    """A PNG of the confusion matrix, shares of the truth's class, and of the reliability diagram where there is one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 2.2 + 0.52 * min(len(accuracy.legend.names), 2 * _MOST_NUMBERS)
    side = max(side, 4.6)
    figure = Figure(figsize=(side + 1.4 + (4.4 if reliability is not None else 0), side + 0.9), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=_INK, fontsize=12, x=0.02, ha="left")
    if reliability is None:
        _draw_matrix(figure.add_subplot(), accuracy)
    else:
        grid = figure.add_gridspec(2, 2, width_ratios=(side + 1.4, 4.4), height_ratios=(3, 1))
        _draw_matrix(figure.add_subplot(grid[:, 0]), accuracy)
        above = figure.add_subplot(grid[0, 1])
        _draw_reliability(above, figure.add_subplot(grid[1, 1], sharex=above), reliability)
    figure.savefig(path, metadata={"Software": None})


def _draw_matrix(axes: Axes, accuracy: Accuracy) -> None:
    names, matrix = accuracy.legend.names, accuracy.matrix
    total = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    axes.imshow(np.ma.masked_invalid(share), cmap="Blues", vmin=0, vmax=1, aspect="equal")
    axes.set_facecolor("#f3f3f3")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0, colors=_INK)
    for edge in axes.spines.values():
        edge.set_visible(False)
    axes.set_xlabel("predicted", color=_GREY)
    axes.set_ylabel("truth (per cent of its pixels)", color=_GREY)
    axes.set_title(
        f"OA {text(accuracy.oa)}   kappa {text(accuracy.kappa)}   mean IoU {text(accuracy.miou)}   {accuracy.total:,} pixels",
        fontsize=9,
        color=_GREY,
        loc="left",
    )
    if len(names) > _MOST_NUMBERS:
        return
    for (row, col), value in np.ndenumerate(share):
        if matrix[row, col]:
            per_cent = f"{100 * value:.0f}" if value >= 0.095 else f"{100 * value:.1f}"
            axes.text(col, row, per_cent, ha="center", va="center", fontsize=8, color="white" if value > 0.55 else _INK)
    for row in np.flatnonzero(total[:, 0] == 0):
        axes.text((len(names) - 1) / 2, float(row), "no label", ha="center", va="center", fontsize=8, color=_GREY)


def _draw_reliability(above: Axes, below: Axes, reliability: Reliability) -> None:
    bins = len(reliability.count)
    middle = (np.arange(bins) + 0.5) / bins
    filled = reliability.count > 0
    above.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=(0, (4, 3)))
    above.bar(middle[filled], reliability.accuracy[filled], width=0.9 / bins, color=_BLUE, alpha=0.85, label="accuracy")
    at = reliability.confidence[filled], reliability.accuracy[filled]
    above.plot(*at, "o", color=_RED, markersize=4, clip_on=False, label="at its mean confidence")
    above.set(xlim=(0, 1), ylim=(0, 1))
    above.set_ylabel("accuracy", color=_GREY)
    above.set_title(f"Reliability   ECE {text(reliability.ece)}", fontsize=9, color=_GREY, loc="left")
    above.legend(loc="upper left", frameon=False, fontsize=8)
    above.tick_params(labelbottom=False)
    below.bar(middle, 100 * reliability.count / max(1, int(reliability.count.sum())), width=0.9 / bins, color=_GREY)
    below.set_ylabel("% of pixels", color=_GREY)
    below.set_xlabel("confidence", color=_GREY)
    for axes in (above, below):
        axes.tick_params(colors=_INK, labelsize=8)
        axes.grid(axis="y", color=_LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        for name in ("top", "right"):
            axes.spines[name].set_visible(False)
