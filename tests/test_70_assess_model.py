"""A model judged on a dataset's patches: every pixel once, by a walk over the ground; baselines beside it, and as maps."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from torch import nn

import sarseg.assess.evaluate as evaluation
from sarseg.assess.evaluate import evaluate
from sarseg.assess.once import counted_once, unpacked
from sarseg.cli.assess import command
from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.legend import LandClass, Legend
from sarseg.metrics import RELIABILITY_BINS
from sarseg.nets.boxcar import BandScales, filtered_features
from sarseg.nets.fitting import TrainingPatches, count_pixels, draw_sample, fit_trees
from sarseg.nets.forest import RandomForestConfig
from sarseg.nets.infer import TileOptions
from sarseg.nets.modelfile import BandSpec, Model, ModelSpec, load_model, normalise
from sarseg.patches.dataset import Dataset
from sarseg.patches.tally import BandInfo
from sarseg.predict.engine import PredictOptions, predict
from sarseg.product.folder import create_product
from sarseg.product.open import open_map
from sarseg.product.stac import make_item
from sarseg.raster.cog import CogSpec, create_cog
from sarseg.tiles import Window
from sarseg.train.augment import Augmentation
from sarseg.train.fit import fit_baseline
from sarseg.train.loop import TrainOptions, train

torch.set_num_threads(1)

LEGEND = Legend(
    tuple(LandClass(code=code, name=name, color=(code, 9, 9)) for code, name in ((2, "water"), (3, "wood"), (8, "ice"), (11, "town")))
)
INFOS = (BandInfo(name="VV", scale="db", mean=-12.0, std=6.0), BandInfo(name="VH", scale="db", mean=-18.0, std=6.0))
SPECS = tuple(BandSpec(name=one.name, scale=one.scale, mean=one.mean, std=one.std) for one in INFOS)
MEAN_DB = {2: (-22.0, -28.0), 3: (-10.0, -16.0), 11: (-6.0, -13.0)}
SIZE = 24


@lru_cache
def ground(scene: str, side: int = 90) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Linear power (2, rows, cols) with NaN and codes (rows, cols); "ice" occurs nowhere."""
    rng = np.random.default_rng(ord(scene))
    codes = np.kron(rng.choice(np.array([2, 3, 11], np.uint8), (side // 10, side // 10), p=[0.5, 0.3, 0.2]), np.ones((10, 10), np.uint8))
    power = np.stack([10 ** (np.vectorize(lambda c, at=at: MEAN_DB[c][at])(codes) / 10) for at in (0, 1)]) * rng.gamma(
        3, 1 / 3, (2, side, side)
    )
    power[1, 40:44, 50:61] = np.nan
    codes[70:73, 5:30] = 255
    codes[40:44, 50:61] = 255
    return power.astype(np.float32), codes


class Cut:
    """Windows of the grounds."""

    def __init__(self, places: list[tuple[str, int, int]]) -> None:
        self.places, self.grounds = places, {scene: ground(scene) for scene, _, _ in places}

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        scene, row, col = self.places[index]
        power, codes = self.grounds[scene]
        at = np.s_[row : row + SIZE, col : col + SIZE]
        return power[(slice(None), *at)].copy(), codes[at].copy()


TRAINING = [("a", row, col) for row in (0, 20, 66) for col in (0, 30, 66)]
# two scenes; windows that overlap along a grid, one twice, one alone
HELD = [("b", row, col) for row in (0, 15, 30, 66) for col in (0, 9, 40)] + [("b", 15, 9), ("c", 3, 5), ("c", 10, 20), ("c", 60, 60)]


def block_of(place: tuple[str, int, int]) -> str:
    """Blocks of 40 pixels; scene c is held out as a whole."""
    scene, row, col = place
    return scene if scene == "c" else f"0/{(row + SIZE // 2) // 40}/{(col + SIZE // 2) // 40}"


def dataset(*, placed: bool = True, **changes: Any) -> Dataset:
    places = [*TRAINING, *HELD]
    index: dict[str, NDArray[Any]] = {"split": np.array(["train"] * len(TRAINING) + ["val"] * len(HELD))}
    if placed:
        index |= {name: np.array([place[at] for place in places]) for at, name in enumerate(("scene", "row", "col"))}
        index["block"] = np.array([block_of(place) for place in places])
    made = Dataset(
        path=Path("made"),
        size=SIZE,
        legend=LEGEND,
        index=index,
        patches=Cut(places),
        known_bands=INFOS,
        band_names=("VV", "VH"),
        quantity="power",
        info={},
    )
    return replace(made, **changes)


class Nearest(nn.Module):
    """Logits by distance to the classes in VV, and by the place in the patch, so that overlapping patches disagree."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centres = torch.tensor([-22.0, -10.0, 3.0, -6.0]).reshape(1, -1, 1, 1)
        slope = torch.linspace(-1, 1, x.shape[-1]) + torch.linspace(-0.7, 0.7, x.shape[-2])[:, None]
        return -0.2 * (x[:, :1] * 6 - 12 - centres).abs() + slope * torch.tensor([1.0, -1.0, 0.0, 0.5]).reshape(1, -1, 1, 1)


def model(temperature: float = 0.6) -> Model:
    spec = ModelSpec(network="compact_unet", bands=SPECS, quantity="power", legend=LEGEND, temperature=temperature)
    return Model(Nearest(), spec, Path("nearest"))


def deepest(scenes: list[str], windows: list[Window]) -> dict[tuple[str, int, int], int]:
    """For each pixel of the ground the patch in which it counts, one pixel at a time."""
    best: dict[tuple[str, int, int], tuple[int, int]] = {}
    for at, (scene, window) in enumerate(zip(scenes, windows, strict=True)):
        for row in range(window.row, window.row_stop):
            for col in range(window.col, window.col_stop):
                depth = min(row - window.row, window.row_stop - 1 - row, col - window.col, window.col_stop - 1 - col)
                if (scene, row, col) not in best or depth > best[scene, row, col][0]:
                    best[scene, row, col] = depth, at
    return {place: at for place, (_, at) in best.items()}


def test_a_pixel_counts_in_one_patch_alone() -> None:
    rng = np.random.default_rng(5)
    corners = rng.integers(2000, 2100, (25, 2)).tolist()  # about a square's edge
    scenes = rng.choice(["a", "b"], 25).tolist()
    windows = [Window(row=r, col=c, rows=int(rng.integers(1, 40)), cols=int(rng.integers(1, 40))) for r, c in corners]
    want = deepest(scenes, windows)
    got: dict[tuple[str, int, int], int] = {}
    for at, bits in enumerate(counted_once(scenes, windows)):
        for row, col in zip(*np.nonzero(unpacked(bits, windows[at].shape)), strict=True):
            place = scenes[at], windows[at].row + int(row), windows[at].col + int(col)
            assert place not in got
            got[place] = at
    assert got == want


def test_matrix_and_calibration_equal_a_walk_over_the_ground() -> None:
    data, one = dataset(), model()
    result = evaluate(one, data, baselines=False)
    windows = [Window(row=row, col=col, rows=SIZE, cols=SIZE) for _, row, col in HELD]
    scenes = [scene for scene, _, _ in HELD]
    logits = []
    for at in range(len(HELD)):
        values = np.nan_to_num(normalise(data.read(len(TRAINING) + at)[0], SPECS))
        logits.append(Nearest()(torch.from_numpy(values)[None])[0].double().numpy())
    matrix, by_part = np.zeros((4, 4), int), {part: defaultdict(lambda: np.zeros((4, 4), int)) for part in ("scene", "block")}
    bins = {temperature: np.zeros((RELIABILITY_BINS, 3)) for temperature in (0.6, 1.0)}
    owners = deepest(scenes, windows)
    for (scene, row, col), at in owners.items():
        code = int(ground(scene)[1][row, col])
        if code == 255:
            continue
        scores = logits[at][:, row - windows[at].row, col - windows[at].col]
        truth, guess = LEGEND.codes.index(code), int(scores.argmax())
        matrix[truth, guess] += 1
        by_part["scene"][scene][truth, guess] += 1
        by_part["block"][block_of(HELD[at])][truth, guess] += 1
        for temperature, sums in bins.items():
            chance = np.exp((scores - scores.max()) / temperature)
            top = chance.max() / chance.sum()
            sums[max(0, int(np.ceil(top * RELIABILITY_BINS)) - 1)] += (1, top, truth == guess)
    judged = result.methods[0]
    assert result.accuracy(judged).matrix.tolist() == matrix.tolist()
    for part, counts in by_part.items():
        got = result.accuracies(judged, part)  # type: ignore[arg-type]
        assert {name: one.matrix.tolist() for name, one in got.items()} == {name: one.tolist() for name, one in counts.items()}
    assert len(by_part["block"]) == 5
    said, shares = result.to_dict()["methods"]["nearest"]["blocks"], [np.trace(one) / one.sum() for one in by_part["block"].values()]
    assert said["count"] == 5
    assert list(said["lowest"]) == [name for _, name in sorted(zip(shares, by_part["block"], strict=True), key=lambda pair: pair[0])]
    assert said["overall_accuracy"] == pytest.approx(
        {"mean": np.mean(shares), "deviation": np.std(shares), "least": min(shares), "most": max(shares)}
    )
    eces = [np.abs(sums[:, 1] - sums[:, 2]).sum() / sums[:, 0].sum() for sums in bins.values()]
    assert judged.untempered is not None
    assert [judged.reliability.ece, judged.untempered.ece] == pytest.approx(eces, abs=1e-5)  # float32 probabilities
    assert result.held_twice == len(HELD) * SIZE**2 - len(owners)
    assert result.accuracy(judged).absent == ("ice",)


def test_patches_of_unknown_place_are_all_counted_and_it_is_said() -> None:
    result = evaluate(model(), dataset(placed=False), baselines=False)
    labelled = sum(int((dataset().read(len(TRAINING) + at)[1] != 255).sum()) for at in range(len(HELD)))
    assert result.accuracy(result.methods[0]).total == labelled
    assert result.held_twice is None
    assert "overlap, is not known" in result.table()
    assert result.to_dict()["methods"]["nearest"]["blocks"] == {"count": 0, "overall_accuracy": {}, "lowest": {}}


def test_the_list_of_blocks_is_bounded_and_the_csv_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_MOST_BLOCKS", 2)
    result = evaluate(model(), dataset(), out_dir=tmp_path, baselines=False)
    said = json.loads((tmp_path / "evaluation.json").read_text())["methods"]["nearest"]["blocks"]
    assert (said["count"], len(said["lowest"])) == (5, 2)
    rows = [row for row in csv.DictReader((tmp_path / "evaluation.csv").read_text().splitlines()) if row["part"] == "block"]
    assert {row["name"]: int(row["pixels"]) for row in rows} == {
        name: one.total for name, one in result.accuracies(result.methods[0], "block").items()
    }
    lowest = min(float(row["overall_accuracy"]) for row in rows)
    assert f"over 5 blocks of the ground: mean {said['overall_accuracy']['mean']:.4f}" in result.table()
    assert f"least {lowest:.4f}" in result.table()


def test_memory_does_not_grow_with_the_square_of_the_classes() -> None:
    """A hundred patches of few classes, in a legend of many: whole matrices would take 52 MB."""
    many = Legend(tuple(LandClass(code=code, name=f"class {code}", color=(code, 9, 9)) for code in range(1, 255)))

    class Same(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(1, 1, 1, 1).expand(len(x), 254, *x.shape[2:])

    class Small:
        def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
            return np.ones((2, 4, 4), np.float32), np.full((4, 4), 1 + index % 3, np.uint8)

    data = dataset(size=4, legend=many, patches=Small(), index={"split": np.array(["val"] * 100)})
    judge = Model(Same(), model().spec.model_copy(update={"legend": many}), Path("same"))
    tracemalloc.start()
    try:
        result = evaluate(judge, data, baselines=False)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    accuracy = result.accuracy(result.methods[0])
    assert (accuracy.total, np.trace(accuracy.matrix)) == (1600, 34 * 16)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forest of few trees."""
    from sarseg.nets import forest

    fields = forest.RandomForestConfig.__init__.__defaults__
    monkeypatch.setattr(forest.RandomForestConfig.__init__, "__defaults__", (5, *fields[1:]))


def test_report_holds_the_model_and_its_baselines(tmp_path: Path, quick: None) -> None:
    result = evaluate(model(), dataset(), out_dir=tmp_path / "report")
    assert [method.name for method in result.methods] == ["nearest", "majority", "gaussian", "random_forest"]
    totals = {result.accuracy(method).total for method in result.methods}
    assert len(totals) == 1
    oa = {method.name: result.accuracy(method).oa for method in result.methods}
    training = np.concatenate([dataset().read(at)[1].ravel() for at in range(len(TRAINING))])
    largest = max((2, 3, 11), key=lambda code: int((training == code).sum()))
    assert result.accuracy(result.methods[1]).matrix.sum(0).argmax() == LEGEND.codes.index(largest)
    assert oa["random_forest"] > oa["gaussian"] > oa["majority"]  # fields of 10 pixels under speckle
    said = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert said == result.to_dict()
    assert said["methods"]["gaussian"]["overall_accuracy"] == oa["gaussian"]
    rows = list(csv.DictReader((tmp_path / "report" / "evaluation.csv").read_text().splitlines()))
    assert len(rows) == 4 * (1 + 4 + 2 + 5 + len(HELD))
    patches = [row for row in rows if row["method"] == "nearest" and row["part"] == "patch"]
    assert sum(int(row["pixels"]) for row in patches) == totals.pop()
    assert {(row["scene"], int(row["row"]), int(row["col"])) for row in patches} == set(HELD)
    with Image.open(tmp_path / "report" / "confusion.png") as picture:
        assert picture.width > picture.height > 300
    table = result.table().splitlines()
    assert [line.split()[0] for line in table if line.split()[:1] and line.split()[0] in oa] == list(oa)
    assert "left out of the mean IoU: " in table[-1]


def test_a_dataset_with_fewer_classes_is_judged_in_the_models_legend(quick: None) -> None:
    few = Legend(tuple(one for one in LEGEND.classes if one.code != 8))
    full, part = (evaluate(model(), dataset(legend=legend)) for legend in (LEGEND, few))
    for one, other in zip(full.methods[:3], part.methods[:3], strict=True):
        for mine, theirs in zip(one.patches, other.patches, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="no patch belongs to 'test'"):
        evaluate(model(), dataset(), "test")
    with pytest.raises(InputError, match="no band VH"):
        evaluate(model(), dataset(band_names=("VV", "HV")))
    other = Legend((LandClass(code=2, name="river", color=(0, 0, 0)), *LEGEND.classes[1:]))
    with pytest.raises(InputError, match="class 2 is 'river' in the dataset and 'water' in the model"):
        evaluate(model(), dataset(legend=other))
    with pytest.raises(InputError, match="the model takes linear power, not values as they stand"):
        evaluate(model(), dataset(quantity="raw"))


def test_command_takes_a_truth_or_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(command, list(words))

    for words, match in (
        (("m",), "neither --truth nor --dataset"),
        (("m", "--truth", "t", "--dataset", "d"), "both --truth and --dataset"),
        (("m", "--truth", "t", "--split", "val"), "--split does not go with --truth"),
        (("m", "--dataset", "d", "--bounds", "0", "0", "1", "1"), "--bounds does not go with --dataset"),
    ):
        error = run(*words).exception
        assert isinstance(error, UsageError)
        assert match in str(error)
    monkeypatch.setattr(evaluation, "open_dataset", lambda path: dataset())
    folder = fit_baseline(dataset(), tmp_path / "gaussian", "gaussian")
    printed = run(str(folder), "--dataset", "d", "--no-baselines", "-o", str(tmp_path / "out"))
    assert "gaussian" in printed.stdout
    assert (tmp_path / "out" / "confusion.png").is_file()
    printed = run(str(folder), "--dataset", "d", "--split", "train", "--no-baselines", "--json")
    assert json.loads(printed.stdout)["split"] == "train"


def write_product(folder: Path, power: NDArray[np.float32]) -> Path:
    grid = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 399_990, 0, -10, 4_650_020), shape=power.shape[1:])
    with create_product(folder) as out:
        for name, data in zip(("VV", "VH"), power, strict=True):
            spec = CogSpec(grid=grid, dtype="float32", bands=(name,), nodata=float("nan"), overviews="average")
            with create_cog(out.path / f"{name}.tif", spec) as cog:
                cog.write(Window.whole(grid.shape), data)
        out.finish(make_item(folder.name, grid, assets={}, properties={"sarseg:warnings": []}, datetime_utc="2024-05-06T07:08:09Z"))
    return folder


def test_forest_trained_by_name_maps_what_scikit_learn_says(tmp_path: Path) -> None:
    """Features here by scipy, in float64; the forest of scikit-learn is fitted anew."""
    from scipy.ndimage import uniform_filter

    data = dataset()
    folder = fit_baseline(data, tmp_path / "forest", "random_forest", seed=4, net_options={"trees": 7})
    spec = load_model(folder).spec
    assert spec.options["trees"] == 7
    assert spec.metrics["validation"]["overall_accuracy"] > 0.8
    power, _ = ground("z")
    found = open_map(predict(folder, write_product(tmp_path / "scene", power), tmp_path / "maps"))

    training = data.split("train")
    pixels = count_pixels(data.read, data.index, training, LEGEND)
    sample = draw_sample(TrainingPatches(read=data.read, numbers=training, pixels=pixels, bands=SPECS, legend=LEGEND), seed=4)
    trees = fit_trees(sample, RandomForestConfig(bands=2, classes=4, trees=7), seed=4)
    wide = np.pad(power.astype("f8"), ((0, 0), (20, 20), (20, 20)), constant_values=np.nan)
    known = (~np.isnan(wide)).astype("f8")

    def mean(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        total = uniform_filter(np.nan_to_num(values), (0, size, size), mode="constant")
        return total / np.maximum(uniform_filter(known, (0, size, size), mode="constant"), 1e-9)

    decibel = 10 * np.log10(wide)
    spread = np.sqrt(np.maximum(mean(decibel**2, 7) - mean(decibel, 7) ** 2, 0))
    layers = [decibel, *(10 * np.log10(np.maximum(mean(wide, size), 1e-9)) for size in (3, 7, 15)), spread]
    features = np.stack(layers, 1)[:, :, 20:-20, 20:-20].reshape(10, *power.shape[1:])
    valid = ~np.isnan(power).any(0)
    want = np.zeros(power.shape[1:], np.uint8)
    want[valid] = np.array(LEGEND.codes, np.uint8)[trees.predict(features[:, valid].T.astype(np.float32))]
    np.testing.assert_array_equal(found.codes() == 0, ~valid)
    # features differ by a rounding of float32: a threshold may lie between
    assert (found.codes() != want).mean() < 2e-3
    tiled = PredictOptions(tiles=TileOptions(tile_px=50, overlap_px=16))
    again = open_map(predict(folder, tmp_path / "scene", tmp_path / "tiled", tiled)).codes()
    assert (again != want).mean() < 0.02  # windows are cut off at the tiles' edges


def test_train_fits_a_baseline_by_its_name(tmp_path: Path) -> None:
    folder = train(dataset(), tmp_path / "m", TrainOptions(net="gaussian", seed=2))
    spec = load_model(folder).spec
    assert spec.network == "gaussian"
    assert spec.metrics["validation"]["overall_accuracy"] > 0.7
    assert spec.metrics["calibration"]["after"]["pixels"] > 0
    with pytest.raises(UsageError, match="cannot be built"):
        fit_baseline(dataset(), tmp_path / "n", "random_forest", net_options={"trees": 0})
    with pytest.raises(UsageError, match="no baseline 'unet'"):
        fit_baseline(dataset(), tmp_path / "n", "unet")
    only = {name: column[len(TRAINING) :] for name, column in dataset().index.items()}
    with pytest.raises(InputError, match="no training patches"):
        fit_baseline(dataset(index=only), tmp_path / "n", "gaussian")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss": "dice"}, "loss means nothing to 'gaussian'"),
        ({"steps": 7, "weights": "resnet.pth"}, "weights, steps mean nothing"),
        ({"augmentation": Augmentation(turns=False, band_dropout=0.5)}, "augmentation_turns, augmentation_band_dropout mean nothing"),
        ({"devices": 2, "precision": "bfloat16"}, "precision, devices mean nothing"),
    ],
)
def test_options_of_steps_are_refused_by_baselines(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{said}.*it is fitted, not trained in steps"):
        train(dataset(), tmp_path / "m", TrainOptions(net="gaussian", **given))
    assert not any(tmp_path.iterdir())


def test_baselines_are_not_resumed_and_take_what_means_something_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TrainOptions(net="majority", seed=3, threads=2, steps=1000)  # 1000 is the default
    for given, said in (({"resume": True}, "resume"), ({"tensorboard": tmp_path / "t"}, "tensorboard")):
        with pytest.raises(UsageError, match=f"{said} means nothing to 'majority'"):
            train(dataset(), tmp_path / "m", options, **given)
    seen = []

    def draw(*args: Any, **more: Any) -> Any:
        seen.append(torch.get_num_threads())
        return draw_sample(*args, **more)

    monkeypatch.setattr("sarseg.train.fit.draw_sample", draw)
    load_model(train(dataset(), tmp_path / "m", options))
    assert seen == [2]
    assert torch.get_num_threads() == 1


def test_normalised_features_are_those_of_the_ground() -> None:
    """The features of a patch's middle do not depend on where the patch was cut."""
    data = dataset(patches=Cut([("b", 10, 10), ("b", 12, 14)]))
    one, other = (filtered_features(normalise(data.read(at)[0], SPECS), BandScales.of(SPECS)) for at in (0, 1))
    np.testing.assert_array_equal(one[:, 9:15, 11:17], other[:, 7:13, 7:13])
