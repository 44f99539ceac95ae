"""A model on the patches of a split, beside baselines fitted on the same training patches: each pixel of a scene counts once."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarseg.assess.once import counted_once, unpacked
from sarseg.assess.report import draw_report, measures, text, text_table, write_csv
from sarseg.errors import InputError
from sarseg.legend import Legend
from sarseg.metrics import Accuracy, Reliability, confusion
from sarseg.nets.baselines import BASELINES
from sarseg.nets.fitting import TrainingPatches, count_pixels, draw_sample, fit
from sarseg.nets.infer import Forward, make_forward
from sarseg.nets.modelfile import Model, check_quantity, load_model, normalise
from sarseg.patches.dataset import Dataset, open_dataset
from sarseg.product.folder import make_parent, write_json
from sarseg.progress import Progress, silent
from sarseg.tiles import Window

log = logging.getLogger(__name__)

EVALUATION, TABLE, PICTURE = "evaluation.json", "evaluation.csv", "confusion.png"
SEED = 0
"""Of the baselines."""

Part = Literal["scene", "block"]
PARTS: tuple[Part, ...] = ("scene", "block")
"""Of the ground, on which accuracies are also told."""

Cells = tuple[NDArray[np.int32], NDArray[np.int32]]
"""The cells of a confusion matrix that are not 0, counted along its rows, and their pixels: of 200 classes a patch shows a few."""

_UNNAMED_SCENE = ""
_MOST_BLOCKS = 100  # that the JSON lists; the CSV has them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One patch of the split: its number in the dataset, its scene, first row and column in it, its block (empty where it is not known)."""

    number: int
    scene: str
    row: int
    col: int
    block: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one method did: the confusion matrix of the pixels that count in each patch.

    `reliability` of its probabilities as they are; `untempered` at temperature 1, for a model.
    """

    name: str
    patches: tuple[Cells, ...]
    reliability: Reliability
    untempered: Reliability | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The methods, the model first, on the same pixels.

    `held_twice` counts pixels that further patches hold as well; None where the dataset does not say where its patches lie.
    """

    dataset: str
    split: str
    legend: Legend
    temperature: float
    places: tuple[Place, ...]
    methods: tuple[Judged, ...]
    held_twice: int | None

    def accuracy(self, method: Judged) -> Accuracy:
        """Of all patches."""
        return self._sum(method.patches)

    def accuracies(self, method: Judged, part: Part) -> dict[str, Accuracy]:
        """Of each scene or block by name, in the order of the patches; none where it is not known which block a patch belongs to."""
        members: dict[str, list[Cells]] = defaultdict(list)
        for place, cells in zip(self.places, method.patches, strict=True):
            members[place.scene if part == "scene" else place.block].append(cells)
        if part == "block":
            members.pop("", None)
        return {name: self._sum(patches) for name, patches in members.items()}

    def _sum(self, patches: Iterable[Cells]) -> Accuracy:
        classes = len(self.legend.codes)
        matrix = np.zeros(classes**2, np.int64)
        for cells, pixels in patches:
            matrix[cells] += pixels
        return Accuracy(matrix.reshape(classes, classes), self.legend)

    @property
    def scenes(self) -> tuple[str, ...]:
        """In the order of the patches."""
        return tuple(dict.fromkeys(place.scene for place in self.places))

    def to_dict(self) -> dict[str, Any]:
        """For JSON; None stands for a number that does not exist. Single patches are in `rows`."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "patches": len(self.places),
            "pixels_held_by_several_patches": self.held_twice,
            "counting": "a pixel that several patches of a scene hold counts once, in the patch in whose inside it lies deepest",
            "temperature": self.temperature,
            "methods": {method.name: self._method(method) for method in self.methods},
        }

    def _method(self, method: Judged) -> dict[str, Any]:
        said: dict[str, Any] = {**self.accuracy(method).to_dict(), "calibration": method.reliability.to_dict()}
        if method.untempered is not None:
            said["calibration_at_temperature_1"] = method.untempered.to_dict()
        said["scenes"] = {scene: measures(accuracy) for scene, accuracy in self.accuracies(method, "scene").items()}
        said["blocks"] = _blocks(self.accuracies(method, "block"))
        return said

    def rows(self) -> list[dict[str, Any]]:
        """For CSV: each method as a whole, by class, by scene, by block and by patch."""
        rows = []
        for method in self.methods:
            accuracy = self.accuracy(method)
            whole = {**measures(accuracy), "calibration_error": method.reliability.ece}
            parts: list[tuple[str, str, Mapping[str, Any]]] = [("all", "", whole)]
            for at, name in enumerate(self.legend.names):
                single = {"iou": accuracy.iou[at], "f1": accuracy.f1[at], "users_accuracy": accuracy.users[at]}
                single |= {"producers_accuracy": accuracy.producers[at], "pixels": int(accuracy.matrix[at].sum())}
                parts.append(("class", name, single))
            parts += [(part, name, measures(one)) for part in PARTS for name, one in self.accuracies(method, part).items()]
            for place, cells in zip(self.places, method.patches, strict=True):
                where = {"scene": place.scene, "row": place.row, "col": place.col}
                parts.append(("patch", str(place.number), {**where, **measures(self._sum([cells]))}))
            rows += [{"method": method.name, "part": part, "name": name, **values} for part, name, values in parts]
        return rows

    def table(self) -> str:
        """The model by class, and below it the methods side by side, as text for a terminal."""
        model = self.methods[0]
        accuracy = self.accuracy(model)
        width = max(10, *(len(method.name) for method in self.methods))
        lines = [text_table(accuracy), ""]
        lines.append(f"{'':<{width}} {'OA':>7} {'kappa':>7} {'mean IoU':>8} {'mean F1':>7} {'ECE':>7}")
        for method in self.methods:
            one = self.accuracy(method)
            lines.append(
                f"{method.name:<{width}} {one.oa:>7.4f} {one.kappa:>7.4f} {one.miou:>8.4f} {one.means['f1'].value:>7.4f}"
                f" {method.reliability.ece:>7.4f}"
            )
        if model.untempered is not None:
            lines.append(f"temperature {self.temperature:g}; without it the model's ECE is {model.untempered.ece:.4f}")
        counted = f"{accuracy.total} pixels of {len(self.places)} patches ({self.split}) of {len(self.scenes)} scenes, each counted once"
        if self.held_twice is None:
            counted = f"{accuracy.total} pixels of {len(self.places)} patches ({self.split}); where they lie, and overlap, is not known"
        left_out = accuracy.means["iou"].left_out
        lines.append(counted)
        blocks = _blocks(self.accuracies(model, "block"))
        if blocks["count"] > 1:
            shares = " ".join(f"{name} {text(value)}" for name, value in blocks["overall_accuracy"].items())
            lines.append(f"overall accuracy over {blocks['count']} blocks of the ground: {shares}")
        if accuracy.absent:
            absent = f"no label has {', '.join(accuracy.absent)}"
            lines.append(f"{absent}; left out of the mean IoU: {', '.join(left_out) if left_out else 'none'}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """evaluation.json, evaluation.csv and confusion.png."""
        make_parent(folder / EVALUATION)
        model = self.methods[0]
        write_csv(folder / TABLE, self.rows())
        draw_report(
            folder / PICTURE, self.accuracy(model), title=f"{model.name}, {self.dataset} ({self.split})", reliability=model.reliability
        )
        write_json(folder / EVALUATION, self.to_dict())


def evaluate(
    model: str | Path | Model,
    dataset: str | Path | Dataset,
    split: str = "val",
    out_dir: Path | None = None,
    *,
    baselines: bool = True,
    progress: Progress = silent,
) -> Evaluation:
    """Judge a model on the patches of a split, as `predict` would map each patch alone.

    Parameters
    ----------
    split : "train", "val" or "test"
    out_dir : gets evaluation.json, evaluation.csv and confusion.png
    baselines : also fit and judge the largest class, Gaussian maximum likelihood and a random forest on the dataset's training
        patches, with the model's bands

    Raises
    ------
    InputError : no patches in the split, no labels, bands or classes that are not the model's
    """
    model = model if isinstance(model, Model) else load_model(model)
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    numbers = dataset.split(split)
    if not len(numbers):
        there = ", ".join(f"{name}: {len(dataset.split(name))}" for name in ("train", "val", "test"))
        raise InputError(f"no patch belongs to '{split}'", dataset.path, f"patches are {there}")
    reader = _Reader(model, dataset)
    forwards = {model.path.name: make_forward(model.network, temperature=model.spec.temperature)}
    forwards |= _fitted(model, dataset, reader, progress) if baselines else {}
    places, windows = _places(dataset, numbers)
    counted = counted_once([place.scene for place in places], windows) if windows else None
    found = {name: _Sums(model.spec.legend) for name in forwards}
    held, twice = model.spec.temperature, 0
    for done, place in enumerate(places):
        progress(done, len(places), f"assess {split}")
        values, mask = reader(place.number)
        if counted is not None:
            own = unpacked(counted[done], (mask.shape[0], mask.shape[1]))
            twice += int(np.count_nonzero(~own))
            mask = np.where(own, mask, np.uint8(255))
        for name, forward in forwards.items():
            found[name].add(forward(values), mask, temperature=held if name == model.path.name else 1.0)
    progress(len(places), len(places), f"assess {split}")
    methods = tuple(one.judged(name, is_model=at == 0) for at, (name, one) in enumerate(found.items()))
    if not any(len(cells) for cells, _ in methods[0].patches):
        raise InputError(f"no pixel of '{split}' has a label", dataset.path)
    result = Evaluation(
        dataset=Path(dataset.path).name,
        split=split,
        legend=model.spec.legend,
        temperature=model.spec.temperature,
        places=places,
        methods=methods,
        held_twice=twice if counted is not None else None,
    )
    if out_dir is not None:
        result.write(out_dir)
    return result


def _blocks(accuracies: Mapping[str, Accuracy]) -> dict[str, Any]:
    """How the overall accuracy varies over the blocks that have a label, and the blocks themselves, those with the lowest first."""
    found = {name: one for name, one in accuracies.items() if one.total}
    listed = sorted(found, key=lambda name: found[name].oa)[:_MOST_BLOCKS]
    shares = np.array([one.oa for one in found.values()])
    varies = {"mean": shares.mean(), "deviation": shares.std(), "least": shares.min(), "most": shares.max()} if found else {}
    return {
        "count": len(found),
        "overall_accuracy": {name: float(value) for name, value in varies.items()},
        "lowest": {name: measures(found[name]) for name in listed},
    }


class _Reader:
    """Patches of a dataset as the model takes them: normalised bands in its order, and codes of its legend where all are there."""

    def __init__(self, model: Model, dataset: Dataset) -> None:
        spec, ours = model.spec, dict(zip(model.spec.legend.codes, model.spec.legend.names, strict=True))
        missing = [name for name in spec.band_names if name not in dataset.band_names]
        if missing:
            hint = f"bands are {', '.join(dataset.band_names)}"
            raise InputError(f"no band {', '.join(missing)}, which the model takes", dataset.path, hint)
        for code, name in zip(dataset.legend.codes, dataset.legend.names, strict=True):
            if ours.get(code) != name:
                there = f"'{ours[code]}'" if code in ours else "no class"
                raise InputError(f"class {code} is '{name}' in the dataset and {there} in the model", dataset.path, "give both one legend")
        check_quantity(spec, dataset.quantity, dataset.path)
        self.dataset, self.bands = dataset, spec.bands
        self.order = [dataset.band_names.index(name) for name in spec.band_names]

    def raw(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Bands in the model's order, as they stand, and the mask."""
        image, mask = self.dataset.read(number)
        return image[self.order], mask

    def __call__(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        image, mask = self.raw(number)
        values = normalise(image, self.bands)
        return values, np.where(np.isnan(values).any(0), np.uint8(255), mask)


class _Sums:
    """What one method did so far."""

    def __init__(self, legend: Legend) -> None:
        self.legend, self.codes = legend, np.array(legend.codes, np.uint8)
        self.patches: list[Cells] = []
        self.reliability, self.untempered = Reliability.none(), Reliability.none()

    def add(self, probabilities: NDArray[np.float32], mask: NDArray[np.uint8], *, temperature: float) -> None:
        """Count a patch: probabilities (class, rows, cols), and codes (rows, cols) of the pixels that count."""
        index = self.legend.lookup()[mask]
        counted = index < len(self.codes)
        known, truth = probabilities[:, counted].astype(np.float64), index[counted]
        answer = known.argmax(0)
        matrix = confusion(self.codes[truth], self.codes[answer], self.legend).ravel()
        cells = np.flatnonzero(matrix)
        self.patches.append((cells.astype(np.int32), matrix[cells].astype(np.int32)))
        self.reliability += Reliability.of(known.max(0), answer == truth)
        plain = known**temperature  # softmax(logits), up to its sum
        self.untempered += Reliability.of(plain.max(0) / plain.sum(0), answer == truth)

    def judged(self, name: str, *, is_model: bool) -> Judged:
        """The sums."""
        untempered = self.untempered if is_model else None
        return Judged(name=name, patches=tuple(self.patches), reliability=self.reliability, untempered=untempered)


def _fitted(model: Model, dataset: Dataset, reader: _Reader, progress: Progress) -> dict[str, Forward]:
    """The baselines by name, in the model's legend and bands."""
    training = dataset.split("train")
    if not len(training):
        log.warning("%s: no training patches, hence no baselines", Path(dataset.path).name)
        return {}
    patches = TrainingPatches(
        read=reader.raw,
        numbers=training,
        pixels=count_pixels(dataset.read, dataset.index, training, dataset.legend),
        bands=model.spec.bands,
        legend=dataset.legend,
    )
    sample = draw_sample(patches, seed=SEED, progress=progress)
    place = [model.spec.legend.index_of(code) for code in dataset.legend.codes]
    made: dict[str, Forward] = {}
    for done, name in enumerate(BASELINES):
        progress(done, len(BASELINES), "fit baselines")
        forward = make_forward(fit(name, sample, seed=SEED)[0], temperature=1.0)
        made[name if name != model.path.name else f"{name} (fitted here)"] = _spread(forward, place, len(model.spec.legend.codes))
    progress(len(BASELINES), len(BASELINES), "fit baselines")
    return made


def _spread(forward: Forward, place: list[int], classes: int) -> Forward:
    """The answers in a larger legend."""

    def wide(values: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.zeros((classes, *values.shape[1:]), np.float32)
        out[place] = forward(values)
        return out

    return wide


def _places(dataset: Dataset, numbers: NDArray[np.int64]) -> tuple[tuple[Place, ...], list[Window]]:
    """Where the patches lie; no windows where the dataset does not say it."""
    index = dataset.index
    if not all(column in index for column in ("scene", "row", "col")):
        return tuple(Place(number=int(number), scene=_UNNAMED_SCENE, row=0, col=0) for number in numbers), []
    columns = [index[column][numbers].tolist() for column in ("scene", "row", "col")]
    blocks = index["block"][numbers].tolist() if "block" in index else [""] * len(numbers)
    places = tuple(
        Place(number=int(number), scene=str(scene), row=row, col=col, block=str(block))
        for number, scene, row, col, block in zip(numbers, *columns, blocks, strict=True)
    )
    sizes = index["size"][numbers].tolist() if "size" in index else [dataset.size] * len(places)
    return places, [Window(row=place.row, col=place.col, rows=side, cols=side) for place, side in zip(places, sizes, strict=True)]
