"""Fifteen classes from quad-pol L-band radar (AIRSAR, Flevoland): the literature's leaking protocol beside blocks held out.

Usage: python benchmarks/flevoland.py FLEVOLAND [--protocol blocks|random|both] [--folds 0 1 2 3] [--seeds 5] [--results FILE] [--ablate]

FLEVOLAND holds T3.tif (upper triangle of the coherency matrix, Pauli basis, linear power), labels.tif (codes 1..15), classes.csv
and folds.csv (blocks of 64 x 64 pixels in four folds).

random : 1 % of the labelled pixels train, the other 99 % are the test. It leaks: fields are larger than the gaps between training
         pixels, so a pixel's place alone, without any radar data, tells its class better than any published network does.
blocks : a fold's blocks are the test, and nothing within 8 pixels of them trains. Fields cross the blocks' borders, so place alone
         still tells a good part: it stands beside every result. Accuracies are over classes 1..14; class 15 lies in three blocks,
         is absent from fold 0, and stands apart.

Networks keep their last weights: no label chooses when to stop. But the recipe (its size, its 600 steps) was chosen from a few single runs
by the test accuracy of folds 0 and 2, so these two are optimistic for the network; folds 1 and 3 took no part in the choice and are printed
apart. A result is written to the results file when it is there, and not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import cpu_seconds
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from sarseg.legend import IGNORE, LandClass, Legend
from sarseg.nets.infer import TileOptions, make_forward, predict_strips
from sarseg.nets.modelfile import load_model, normalise
from sarseg.patches.dataset import Dataset
from sarseg.patches.tally import BandInfo
from sarseg.raster.read import open_raster
from sarseg.rng import generator
from sarseg.train.augment import Augmentation
from sarseg.train.loop import TrainOptions, train

Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]
Features = NDArray[np.float32]

BLOCK_PX, GUARD_PX = 64, 8
LEAST_POWER = 1e-8
PAIRS = ((0, 1), (0, 2), (1, 2))  # of diagonal elements, in the order of the off-diagonal ones
UNTOUCHED = (1, 3)
"""Folds that took no part in the choice of the recipe."""
POSITION, FOREST, NETWORK = "position only", "random forest", "network"

PUBLISHED: tuple[tuple[str, str, str], ...] = (
    ("DDF2Pol", "98.16", "arXiv 2604.18853: 138 training pixels in each class, one result"),
    ("HybridCVNet", "96.77", "table of arXiv 2604.18853"),
    ("SDF2Net", "96.01", "arXiv 2402.17672: 1 %"),
    ("CV-CNN-SE", "95.65 +- 0.36", "IGARSS 2023: 1 % in proportion to class size, mean of 10 repetitions"),
    ("CV-CNN", "94.52", "table of the same"),
    ("PolSARFormer", "94.41", "table of arXiv 2604.18853"),
    ("WaveletCNN", "93.78", "table of arXiv 2604.18853"),
    ("CV-2D-3D", "93.60", "table of arXiv 2604.18853"),
)
"""Method, overall accuracy in % as published with 1 % of the pixels, source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The radar image float32 (9, rows, cols), its labels and the fold of each pixel, (rows, cols)."""

    t3: Features
    labels: Codes
    fold: NDArray[np.int64]
    legend: Legend


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one method is asked: pixels that train and pixels that test, bool (rows, cols)."""

    protocol: str
    fold: int
    seed: int
    train: Mask
    test: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the network is trained: sides of the boxcars of its features, windows, and the library's options."""

    boxcars_px: tuple[int, ...] = (3, 7)
    window_px: int = 96
    even_classes: bool = False
    """Windows stand around pixels of every class equally often, not around all pixels alike."""
    options: TrainOptions = field(
        default_factory=lambda: TrainOptions(
            net="compact_unet",
            net_options={"width": 32, "depth": 3, "stem": 2, "dropout": 0.2},
            steps=600,
            batch=8,
            lr=4e-3,
            class_weights="inverse-sqrt",
            label_smoothing=0.05,
            augmentation=Augmentation(common_offset_db=0.3, band_offset_db=0.2),
            threads=1,
        )
    )


def ablations(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe with one ingredient changed each."""
    options = recipe.options

    def changed(**changes: Any) -> Recipe:
        return replace(recipe, options=replace(options, **changes))

    return {
        "3 x 3 features only": replace(recipe, boxcars_px=(3,)),
        "no class weights": changed(class_weights="none"),
        "no label smoothing": changed(label_smoothing=0.0),
        "mean of weights": changed(ema=0.98),
        "no dropout": changed(net_options={**options.net_options, "dropout": 0.0}),
        "depth 2": changed(net_options={**options.net_options, "depth": 2}),
        "depth 4": changed(net_options={**options.net_options, "depth": 4}),
        "no turns": changed(augmentation=replace(options.augmentation, turns=False)),
        "no offsets": changed(augmentation=replace(options.augmentation, common_offset_db=0.0, band_offset_db=0.0)),
    }


@dataclass(frozen=True)
class Windows:
    """Square windows of an image held in memory, for `Dataset`."""

    image: Features
    mask: Codes
    starts: NDArray[np.int64]
    """(n, 2): first row and column."""
    size: int

    def read(self, index: int) -> tuple[Features, Codes]:
        """Image (band, size, size) and mask (size, size)."""
        row, col = self.starts[index]
        rows, cols = slice(row, row + self.size), slice(col, col + self.size)
        return self.image[:, rows, cols].copy(), self.mask[rows, cols].copy()


def open_scene(folder: Path) -> Scene:
    """Everything in memory."""
    with (folder / "classes.csv").open() as file:
        classes = [
            LandClass(code=int(row["code"]), name=row["name"], color=tuple(bytes.fromhex(row["colour"][1:])))
            for row in csv.DictReader(file)
        ]
    labels = np.asarray(open_raster(folder / "labels.tif").read_codes(), np.uint8)
    fold = np.full(labels.shape, -1)
    with (folder / "folds.csv").open() as file:
        for row in csv.DictReader(file):
            top, left = int(row["block_row"]) * BLOCK_PX, int(row["block_col"]) * BLOCK_PX
            fold[top : top + BLOCK_PX, left : left + BLOCK_PX] = int(row["fold"])
    return Scene(t3=open_raster(folder / "T3.tif").read(), labels=labels, fold=fold, legend=Legend(tuple(classes)))


def blocked_case(scene: Scene, fold: int, seed: int) -> Case:
    """A fold's blocks are the test; nothing within the guard of them trains."""
    test = scene.fold == fold
    labelled = scene.labels > 0
    return Case(protocol="blocks", fold=fold, seed=seed, train=labelled & ~maximum_filter(test, 2 * GUARD_PX + 1), test=labelled & test)


def random_case(scene: Scene, seed: int) -> Case:
    """One labelled pixel in a hundred trains; the others are the test."""
    place = np.flatnonzero(scene.labels)
    drawn = np.zeros(scene.labels.size, bool)
    drawn[generator(seed, 1).choice(place, len(place) // 100, replace=False)] = True
    train = drawn.reshape(scene.labels.shape)
    return Case(protocol="random", fold=-1, seed=seed, train=train, test=(scene.labels > 0) & ~train)


def smoothed(t3: Features, size: int) -> Features:
    """Boxcar means float32 (9, rows, cols): power of T11, T22, T33; then Re and Im of T12, T13, T23 over the root of their diagonals."""
    mean = np.stack([uniform_filter(element.astype(np.float64), size, mode="reflect") for element in t3])
    diagonal = np.maximum(mean[:3], LEAST_POWER)
    for pair, (first, second) in enumerate(PAIRS):
        mean[3 + 2 * pair : 5 + 2 * pair] /= np.sqrt(diagonal[first] * diagonal[second])
    return np.concatenate([diagonal, mean[3:]]).astype(np.float32)


def position_map(scene: Scene, case: Case) -> Codes:
    """Each pixel's class is that of the nearest training pixel: no radar data at all."""
    nearest = KNeighborsClassifier(1).fit(np.argwhere(case.train), scene.labels[case.train])
    return filled_in(scene, case, nearest.predict(np.argwhere(case.test)))


def forest_map(scene: Scene, case: Case) -> Codes:
    """Random forest on 7 x 7 boxcar features, three in dB and six correlations."""
    features = smoothed(scene.t3, 7)
    features[:3] = 10.0 * np.log10(features[:3])
    forest = RandomForestClassifier(100 if case.protocol == "blocks" else 200, random_state=case.seed, n_jobs=1)
    forest.fit(features[:, case.train].T, scene.labels[case.train])
    return filled_in(scene, case, forest.predict(features[:, case.test].T))


def filled_in(scene: Scene, case: Case, codes: Codes) -> Codes:
    """A map with codes at the test pixels, 0 elsewhere."""
    out = np.zeros_like(scene.labels)
    out[case.test] = codes
    return out


def network_map(scene: Scene, case: Case, recipe: Recipe) -> Codes:
    """Train on windows around training pixels, and predict the whole image; other labels are not seen."""
    image = np.concatenate([smoothed(scene.t3, size) for size in recipe.boxcars_px])
    dataset = windows_around(scene, case, image, recipe)
    with tempfile.TemporaryDirectory() as name:
        model = load_model(train(dataset, Path(name) / "model", replace(recipe.options, seed=case.seed)))
    forward = make_forward(model.network, temperature=model.spec.temperature, both_ways=True)
    values = normalise(image, model.spec.bands)
    strips = predict_strips(
        lambda window: values[:, window.slices[0]],
        scene.labels.shape,
        forward,
        classes=len(scene.legend.codes),
        options=TileOptions(tile_px=512, overlap_px=128),
    )
    best = np.concatenate([strip.probabilities.argmax(axis=0) for strip in strips])
    return np.array(scene.legend.codes, np.uint8)[best]


def windows_around(scene: Scene, case: Case, image: Features, recipe: Recipe) -> Dataset:
    """A window for each sample that training will see, each around a training pixel drawn for it, at a drawn place in it."""
    count, size = recipe.options.steps * recipe.options.batch, recipe.window_px
    rng = generator(case.seed, 2)
    place, code = np.argwhere(case.train), scene.labels[case.train]
    share = 1.0 / np.bincount(code)[code] if recipe.even_classes else np.ones(len(place))
    centre = place[rng.choice(len(place), count, p=share / share.sum())]
    starts = np.clip(centre - rng.integers(size, size=(count, 2)), 0, np.array(scene.labels.shape) - size)
    mask = np.where(case.train, scene.labels, np.uint8(IGNORE))
    pixels = {f"class_{one}": window_counts(case.train & (scene.labels == one), starts, size) for one in scene.legend.codes}
    names = [f"{element}, {side} px" for side in recipe.boxcars_px for element in ("T11", "T22", "T33", *CORRELATIONS)]
    bands = tuple(band_info(name, values) for name, values in zip(names, image, strict=True))
    return Dataset(
        path=Path("flevoland"),
        size=size,
        legend=scene.legend,
        index={"split": np.full(count, "train"), **pixels},
        patches=Windows(image, mask, starts, size),
        known_bands=bands,
        band_names=tuple(names),
        quantity="power",
        info={},
    )


CORRELATIONS = tuple(f"T{first + 1}{second + 1} {part}" for first, second in PAIRS for part in ("real", "imag"))


def band_info(name: str, values: Features) -> BandInfo:
    """Scale and statistics of a band over the whole image, whose labels they do not need."""
    power = name[:3] in ("T11", "T22", "T33")
    seen = 10.0 * np.log10(values) if power else values
    return BandInfo(name=name, scale="db" if power else "raw", mean=float(seen.mean()), std=float(seen.std()))


def window_counts(mask: Mask, starts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Pixels of a mask in each square window, from the integral image."""
    total = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    (top, left), (bottom, right) = starts.T, starts.T + size
    return np.asarray(total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left])


def counted(scene: Scene, case: Case, codes: Codes) -> NDArray[np.int64]:
    """Confusion matrix int64 (classes, classes), rows the truth, over the test pixels."""
    number, lookup = len(scene.legend.codes), scene.legend.lookup()
    pair = lookup[scene.labels[case.test]].astype(np.int64) * number + lookup[codes[case.test]]
    return np.bincount(pair, minlength=number**2).reshape(number, number)


@dataclass(frozen=True, slots=True)
class Results:
    """Finished results: a list in a JSON file, or in memory where there is no file."""

    path: Path | None
    records: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def opened(cls, path: Path | None) -> Results:
        """What an earlier run left."""
        return cls(path, json.loads(path.read_text()) if path is not None and path.exists() else [])

    def find(self, **key: Any) -> list[dict[str, Any]]:
        """Records that hold all of `key`."""
        return [record for record in self.records if all(record[name] == value for name, value in key.items())]

    def add(self, record: dict[str, Any]) -> None:
        """Write it down at once."""
        self.records.append(record)
        if self.path is not None:
            part = self.path.with_suffix(".part")
            part.write_text("[\n" + ",\n".join(json.dumps(one) for one in self.records) + "\n]\n")
            part.replace(self.path)


def compute(scene: Scene, cases: Iterator[Case], recipes: dict[str, Recipe], results: Results) -> None:
    """Whatever is not in the results yet."""
    for case in cases:
        methods: dict[str, Recipe | None] = {POSITION: None, FOREST: None, **recipes}
        for method, recipe in methods.items():
            key = {"protocol": case.protocol, "method": method, "fold": case.fold, "seed": case.seed}
            # no chance in a place, and a tenth of a point in a forest
            alone = method in (POSITION, FOREST) and case.protocol == "blocks" and case.seed > 0
            if alone or results.find(**key):
                continue
            with cpu_seconds() as taken:
                if recipe is not None:
                    codes = network_map(scene, case, recipe)
                else:
                    codes = position_map(scene, case) if method == POSITION else forest_map(scene, case)
            matrix = counted(scene, case, codes)
            said = {} if recipe is None else {"recipe": json.loads(json.dumps(asdict(recipe)))}
            results.add({**key, "cpu_seconds": round(taken[0], 1), "confusion": matrix.tolist(), **said})
            oa, maa = accuracies(matrix, case.protocol)
            place = f"fold {case.fold}, " if case.fold >= 0 else ""
            print(f"{case.protocol}: {method}, {place}seed {case.seed}: OA {oa:.2f}  MAA {maa:.2f}  ({taken[0]:.0f} CPU s)", flush=True)


def accuracies(matrix: NDArray[np.int64], protocol: str) -> tuple[float, float]:
    """Overall accuracy and mean of the classes' recalls, %; of blocks without class 15 as the truth."""
    rows = matrix[:14] if protocol == "blocks" else matrix
    return 100.0 * float(np.trace(rows) / rows.sum()), float(np.nanmean(recalls(matrix)[: len(rows)]))


def recalls(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Recall of each class, %; NaN for a class without pixels."""
    pixels = matrix.sum(1)
    return np.divide(100.0 * np.diag(matrix), pixels, out=np.full(len(matrix), np.nan), where=pixels > 0)


def matrices(records: list[dict[str, Any]], **key: Any) -> list[NDArray[np.int64]]:
    """Confusion matrices of the records that hold all of `key`."""
    return [np.array(record["confusion"]) for record in records if all(record[name] == value for name, value in key.items())]


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.2f}" + (f" ({np.std(values, ddof=1):.2f})" if len(values) > 1 else "")


def print_random(results: Results) -> None:
    """The literature's protocol."""
    print("\n1 % of the labelled pixels at random train, the rest is the test; all 15 classes; mean (sd) over draws")
    for method in (POSITION, FOREST, NETWORK):
        pairs = [accuracies(matrix, "random") for matrix in matrices(results.find(protocol="random", method=method))]
        if pairs:
            print(f"  {method:24s} OA {spread([oa for oa, _ in pairs]):14s} MAA {spread([maa for _, maa in pairs])}")
    for method, oa, source in PUBLISHED:
        print(f"  {method:24s} OA {oa:14s} published: {source}")
    print("  The protocol leaks: place alone, without any radar data, is as good as the best of these. It cannot rank methods.")


def pooled_by_seed(records: list[dict[str, Any]], folds: list[int]) -> list[NDArray[np.int64]]:
    """One confusion matrix a seed over some folds, of the seeds that have them all."""
    of_folds = [record for record in records if record["fold"] in folds]
    by_seed = [matrices(of_folds, seed=seed) for seed in sorted({record["seed"] for record in records})]
    return [np.sum(found, axis=0) for found in by_seed if folds and len(found) == len(folds)]


def print_blocks(results: Results, scene: Scene) -> None:
    """The blocked protocol: folds, pooled, classes."""
    print("\nBlocks of 64 px held out, guard of 8 px; OA / MAA over classes 1..14, %; mean (sd) over seeds")
    pooled: dict[str, NDArray[np.float64]] = {}
    methods = dict.fromkeys(record["method"] for record in results.find(protocol="blocks"))
    for method in methods:
        records = results.find(protocol="blocks", method=method)
        parts, folds = [], sorted({record["fold"] for record in records})
        for fold in folds:
            pairs = [accuracies(matrix, "blocks") for matrix in matrices(records, fold=fold)]
            parts.append(f"fold {fold} {spread([oa for oa, _ in pairs])} / {spread([maa for _, maa in pairs])}")
        print(f"  {method}: " + ", ".join(parts))
        for chosen in (folds, [fold for fold in folds if fold in UNTOUCHED]):
            whole = pooled_by_seed(records, chosen)
            if whole:
                pairs = [accuracies(matrix, "blocks") for matrix in whole]
                oa, maa = spread([oa for oa, _ in pairs]), spread([maa for _, maa in pairs])
                print(f"    pooled over folds {', '.join(map(str, chosen))}, {len(whole)} seeds: OA {oa}  MAA {maa}")
        if whole := pooled_by_seed(records, folds):
            pooled[method] = np.mean([recalls(matrix) for matrix in whole], axis=0)
        print(f"    {np.mean([record['cpu_seconds'] for record in records]):.0f} CPU seconds a fold")
    shown = [method for method in (POSITION, FOREST, NETWORK) if method in pooled]
    print("\nRecall of each class, pooled, %: " + ", ".join(shown))
    for at, (code, name) in enumerate(zip(scene.legend.codes, scene.legend.names, strict=True)):
        apart = "   (in no mean)" if code == 15 else ""
        print(f"  {code:2d} {name:12s}" + "".join(f"{pooled[method][at]:8.1f}" for method in shown) + apart)


def main() -> None:
    """Compute what is missing, and print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocol", choices=("blocks", "random", "both"), default="both")
    parser.add_argument("--folds", type=int, nargs="+", choices=range(4), default=list(range(4)))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, help="JSON file: finished results are added at once, and not computed again")
    parser.add_argument("--ablate", action="store_true", help="also the recipe with one ingredient changed each, blocks, seed 0")
    asked = parser.parse_args()
    scene, results, recipe = open_scene(asked.folder), Results.opened(asked.results), Recipe()
    if asked.protocol != "random":
        blocked = (blocked_case(scene, fold, seed) for seed in range(asked.seeds) for fold in asked.folds)
        compute(scene, blocked, {NETWORK: recipe}, results)
        if asked.ablate:
            named = {f"{NETWORK}, {name}": one for name, one in ablations(recipe).items()}
            compute(scene, (blocked_case(scene, fold, 0) for fold in asked.folds), named, results)
        print_blocks(results, scene)
    if asked.protocol != "blocks":
        compute(scene, (random_case(scene, seed) for seed in range(asked.seeds)), {NETWORK: recipe}, results)
        print_random(results)


if __name__ == "__main__":
    main()
