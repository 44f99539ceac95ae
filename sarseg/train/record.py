"""What a training says while it runs: the log's rows, TensorBoard's events, the line of the progress bar."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sarseg.errors import MissingError
from sarseg.progress import Progress

COLUMNS = ("step", "lr", "loss", "val_loss", "val_miou", "val_oa")
Row = dict[str, float | None]


class Record:
    """The log of one training.

    Parameters
    ----------
    progress : called after every step
    steps : of the whole training
    batch : samples a step
    tensorboard : folder for TensorBoard's events; MissingError when the package is absent
    """

    def __init__(self, progress: Progress, *, steps: int, batch: int, tensorboard: Path | None) -> None:
        self.progress, self.steps, self.batch = progress, steps, batch
        self.rows: list[Row] = []
        self.best: float | None = None
        self._events = _event_writer(tensorboard) if tensorboard is not None else None
        self._start_s = self._since_s = time.monotonic()
        self._first: int | None = None
        self._since = 0

    def start(self, first: int, rows: Sequence[Row] = ()) -> None:
        """The clock starts at the step `first`; `rows` come from before an interruption."""
        self.rows = list(rows)
        self._first = self._since = first
        self._start_s = self._since_s = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not the training's own rate: validation, checkpoints."""
        start_s = time.monotonic()
        yield
        self._since_s += time.monotonic() - start_s

    def row(self, step: int, *, lr: float, loss: float) -> None:
        """Log the step number `step` (from 1)."""
        taken_s = time.monotonic() - self._since_s
        rate = (step - self._since) * self.batch / taken_s if taken_s > 0 else None
        self._since, self._since_s = step, time.monotonic()
        self.rows.append({"step": step, "lr": lr, "loss": loss})
        # the rate is told, and no part of the table: two runs write the same bytes
        self._send(step, self.rows[-1] | {"patches_per_s": rate})

    def score(self, *, loss: float, miou: float, oa: float) -> None:
        """Add the validation's scores to the last row; NaN is left out."""
        scores: Row = {"val_loss": loss, "val_miou": miou, "val_oa": oa}
        scores = {name: value for name, value in scores.items() if value == value}
        self.rows[-1] |= scores
        self._send(int(self.rows[-1]["step"] or 0), scores)

    def tell(self, step: int, loss: float) -> None:
        """Move the progress bar to the step number `step`."""
        done = step - (self._first or 0)
        elapsed_s = time.monotonic() - self._start_s
        words = [f"train, loss {loss:.3f}"]
        if self.best is not None:
            words.append(f"mIoU {self.best:.3f}")
        if done > 0 and elapsed_s > 0:
            left_s = round(elapsed_s / done * (self.steps - step))
            words += [f"{done * self.batch / elapsed_s:.3g} patches/s", f"{left_s // 60}:{left_s % 60:02d} left"]
        self.progress(step, self.steps, ", ".join(words))

    def table(self) -> str:
        """The log as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({key: _text(key, value) for key, value in row.items() if value is not None})
        return text.getvalue()

    def close(self) -> None:
        """Flush the events."""
        if self._events is not None:
            self._events.close()

    def _send(self, step: int, values: Row) -> None:
        if self._events is not None:
            for name, value in values.items():
                if name != "step" and value is not None:
                    self._events.add_scalar(f"{'validation' if name.startswith('val_') else 'training'}/{name}", value, step)


def _text(name: str, value: float) -> str:
    return str(int(value)) if name == "step" else f"{value:.6g}"


def _event_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingError("TensorBoard is not installed", hint="pip install 'sarseg[tensorboard]', or leave out --tensorboard") from error
    return SummaryWriter(str(folder))
