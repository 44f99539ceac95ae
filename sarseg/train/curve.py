"""The training curve: loss, validation scores and learning rate over the steps, as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence


def training_curve(rows: Sequence[Mapping[str, float | None]], *, best_step: int, smooth: int = 10) -> bytes:
    """A PNG of the log.

    Parameters
    ----------
    rows : each with "step", "lr", "loss", and "val_loss", "val_miou" where the validation patches were scored
    best_step : of the weights that were kept; 0 when nothing was scored
    smooth : values over which the loss's thick line is a running mean
    """
    from matplotlib.figure import Figure  # not pyplot: no window system, no state

    figure = Figure(figsize=(8, 7), layout="constrained")
    losses, scores, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    steps, loss = _column(rows, "loss")
    losses.plot(steps, loss, color="tab:blue", alpha=0.35, linewidth=1)
    means = [sum(loss[max(0, at - smooth + 1) : at + 1]) / len(loss[max(0, at - smooth + 1) : at + 1]) for at in range(len(loss))]
    losses.plot(steps, means, color="tab:blue", label="training")
    losses.plot(*_column(rows, "val_loss"), color="tab:orange", marker="o", label="validation")
    losses.set_ylabel("loss")
    losses.legend(loc="upper right")
    scores.plot(*_column(rows, "val_miou"), color="tab:green", marker="o", label="mean IoU")
    scores.plot(*_column(rows, "val_oa"), color="tab:gray", marker=".", label="overall accuracy")
    scores.set(ylim=(0, 1), ylabel="validation")
    if best_step:
        scores.axvline(best_step, color="tab:green", linestyle=":", label="kept")
    scores.legend(loc="lower right")
    rates.plot(*_column(rows, "lr"), color="tab:red")
    rates.set(xlabel="step", ylabel="learning rate")
    rates.set_ylim(bottom=0)
    for axes in (losses, scores, rates):
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
    return picture.getvalue()


def _column(rows: Sequence[Mapping[str, float | None]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values where the column has one."""
    pairs = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [float(step) for step, _ in pairs if step is not None], [float(value) for _, value in pairs if value is not None]
