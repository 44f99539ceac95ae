"""A map against a class raster: one confusion matrix in which each pixel of the map counts once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.assess.report import class_rows, draw_report, measures, text, text_table, write_csv
from sarseg.errors import InputError, UsageError
from sarseg.grid import Bounds, MapGrid
from sarseg.labels.resample import Rule, choose_rule, on_grid
from sarseg.labels.sources import LabelSource, open_labels
from sarseg.legend import Legend
from sarseg.metrics import Accuracy, confusion, unscored
from sarseg.product.folder import make_parent, write_json
from sarseg.product.open import open_map
from sarseg.progress import Progress, silent
from sarseg.raster.read import open_raster
from sarseg.tiles import BLOCK, Window, blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """Accuracies, and what was not scored.

    Parameters
    ----------
    accuracy : confusion matrix (rows truth, columns map) and what follows from it
    unscored : pixels of the region without a label ("without_label"), or with one where the map has nodata
        ("label_without_prediction")
    bounds : the region, in the map's CRS; None is the whole map
    resampling : how the truth came onto the map's grid
    """

    accuracy: Accuracy
    unscored: dict[str, int]
    bounds: Bounds | None = None
    resampling: Rule = "copy"

    @property
    def constant(self) -> tuple[str, Accuracy]:
        """The truth's largest class (of equal ones the first), and what it scores as the answer everywhere: the least to beat."""
        counts = self.accuracy.matrix.sum(1)
        best = int(counts.argmax())
        matrix = np.zeros_like(self.accuracy.matrix)
        matrix[:, best] = counts
        return self.accuracy.legend.names[best], Accuracy(matrix, self.accuracy.legend)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; None stands for a number that does not exist."""
        name, constant = self.constant
        return {
            **self.accuracy.to_dict(),
            "constant_answer": {"class": name, **measures(constant)},
            "unscored_pixels": self.unscored,
            "bounds": list(self.bounds) if self.bounds is not None else None,
            "truth_resampling": self.resampling,
        }

    def table(self) -> str:
        """The accuracies as text, for a terminal."""
        accuracy = self.accuracy
        lines = [text_table(accuracy)]
        name, constant = self.constant
        lines.append(f"always '{name}': overall accuracy {text(constant.oa)}, mean IoU {text(constant.miou)}")
        lines.append(
            f"scored {accuracy.total} pixels; not scored: {self.unscored['without_label']} without label, "
            f"{self.unscored['label_without_prediction']} with a label where the map has none"
        )
        if accuracy.absent:
            lines.append(f"no label has {', '.join(accuracy.absent)}; a class in neither truth nor map is left out of the means")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """JSON at `path`, and beside it, with the same stem, the table as CSV and the matrix as PNG."""
        if path.suffix.lower() in (".csv", ".png"):
            raise UsageError(f"the result is JSON, and {path.suffix} comes beside it", path, "a name that ends in .json")
        if path.is_dir():
            raise InputError("is a folder", path, "give a name that ends in .json")
        make_parent(path)
        name, constant = self.constant
        write_csv(path.with_suffix(".csv"), [*class_rows(self.accuracy, "map"), *class_rows(constant, f"always {name}")])
        draw_report(path.with_suffix(".png"), self.accuracy, title=path.stem)
        write_json(path, self.to_dict())


def assess(
    map_path: str | Path,
    truth_path: str | Path,
    out: Path | None = None,
    *,
    bounds: Bounds | None = None,
    legend: Legend | None = None,
    progress: Progress = silent,
) -> Assessment:
    """Compare a map (folder or class raster) with a class raster on any grid, block by block.

    The truth comes onto the map's grid by the rule of the labels (`sarseg.labels.resample`). Classes must agree in code
    and name; `legend` names the truth's classes where its file does not.

    Parameters
    ----------
    out : where to write the result as JSON; a CSV and a PNG of the matrix, with the same stem, come beside it
    bounds : score only pixels whose centres lie in xmin, ymin, xmax, ymax, in the map's CRS

    Raises
    ------
    InputError : classes that do not agree, a truth or region that does not meet the map
    """
    landcover = open_map(map_path)
    truth = _open_truth(truth_path, landcover.legend, legend)
    window = Window.whole(landcover.grid.shape) if bounds is None else _pixels_in(landcover.grid, bounds, map_path)
    rule = choose_rule(truth.grid, landcover.grid)
    matrix = np.zeros((len(landcover.legend.codes),) * 2, np.int64)
    missed = {"without_label": 0, "label_without_prediction": 0}
    todo = [block for block in blocks(landcover.grid.shape, BLOCK) if block.intersect(window) is not None]
    for done, block in enumerate(todo):
        progress(done, len(todo), "assess")
        part = block.intersect(window)
        assert part is not None
        labels, codes = on_grid(truth, landcover.grid, part, rule), landcover.codes(part)
        matrix += confusion(labels, codes, landcover.legend)
        for reason, count in unscored(labels, codes, landcover.legend).items():
            missed[reason] += count
    progress(len(todo), len(todo), "assess")
    if matrix.sum() + missed["label_without_prediction"] == 0:
        raise InputError("the truth has no label on the map", truth_path, f"truth and {map_path} do not overlap there")
    result = Assessment(accuracy=Accuracy(matrix, landcover.legend), unscored=missed, bounds=bounds, resampling=rule)
    if out is not None:
        result.write(out)
    return result


def score(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], legend: Legend) -> Assessment:
    """Compare two arrays of codes, uint8, of one shape; 0 and 255 of the truth and 0 of the prediction are not scored."""
    accuracy = Accuracy(confusion(truth, prediction, legend), legend)
    return Assessment(accuracy=accuracy, unscored=unscored(truth, prediction, legend))


def _open_truth(path: str | Path, legend: Legend, given: Legend | None) -> LabelSource:
    """The truth with its own legend, which must be part of the map's; a truth that names no classes takes the map's."""
    raster = open_raster(path)
    named = given or Legend.from_tags(raster.tags, raster.colormap)
    if named is not None:
        ours = dict(zip(legend.codes, legend.names, strict=True))
        for code, name in zip(named.codes, named.names, strict=True):
            if ours.get(code) != name:
                there = f"'{ours[code]}'" if code in ours else "no class"
                raise InputError(f"class {code} is '{name}' in the truth and {there} in the map", path, "give both one legend")
    return open_labels(path, legend)


def _pixels_in(grid: MapGrid, bounds: Bounds, where: object) -> Window:
    """The pixels whose centres lie in `bounds`."""
    left, bottom, right, top = bounds
    if not (left < right and bottom < top):
        raise UsageError(f"the region {bounds} is empty", hint="xmin ymin xmax ymax")
    x, y = grid.centres()
    cols, rows = np.flatnonzero((x >= left) & (x <= right)), np.flatnonzero((y >= bottom) & (y <= top))
    if not cols.size or not rows.size:
        raise InputError(f"the region {bounds} lies outside of the map", where, f"the map's bounds are {grid.bounds}")
    return Window(row=int(rows[0]), col=int(cols[0]), rows=len(rows), cols=len(cols))
