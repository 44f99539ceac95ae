"""Accuracy of a map: every pixel once, against a walk over all pixels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS

import sarseg
from sarseg.assess.accuracy import assess, score
from sarseg.cli.assess import command
from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.legend import LandClass, Legend

UTM33 = CRS.from_epsg(32633)
LEGEND = Legend(
    tuple(LandClass(code=code, name=name, color=(code, 9, 9)) for code, name in ((2, "water"), (3, "wood"), (8, "ice"), (11, "town")))
)
GRID = MapGrid(crs=UTM33, transform=Affine(20, 0, 600_000, 0, -20, 5_000_000), shape=(613, 1057))


def write(path: Path, codes: NDArray[np.uint8], grid: MapGrid, tags: dict[str, str]) -> Path:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": grid.crs, "transform": grid.transform, "nodata": 0}
    with rasterio.open(path, "w", height=grid.shape[0], width=grid.shape[1], **profile) as file:
        file.write(codes, 1)
        file.update_tags(**tags)
    return path


def some_map(seed: int, shape: tuple[int, int], also: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.array([0, 2, 3, 11, *also], np.uint8), shape)


def count(truth: NDArray[np.uint8], made: NDArray[np.uint8]) -> tuple[list[list[int]], int, int]:
    """Matrix and unscored pixels by one look at each pair of codes."""
    matrix = [[int(((truth == a) & (made == b)).sum()) for b in (2, 3, 8, 11)] for a in (2, 3, 8, 11)]
    labelled = (truth != 0) & (truth != 255)
    return matrix, int((~labelled).sum()), int((labelled & (made == 0)).sum())


def test_every_pixel_counts_once(tmp_path: Path) -> None:
    made, truth = some_map(0, GRID.shape), some_map(1, GRID.shape, also=(255,))
    map_path = write(tmp_path / "map.tif", made, GRID, LEGEND.tags())
    truth_path = write(tmp_path / "truth.tif", truth, GRID, {"class_2": "water", "class_3": "wood", "class_11": "town"})
    result = assess(map_path, truth_path, tmp_path / "deep" / "accuracy.json")
    matrix, without, missing = count(truth, made)
    assert result.accuracy.matrix.tolist() == matrix
    assert result.unscored == {"without_label": without, "label_without_prediction": missing}
    assert result.accuracy.total + without + missing == truth.size
    stored = json.loads((tmp_path / "deep" / "accuracy.json").read_text())
    assert stored == result.to_dict()
    assert stored["classes"]["ice"]["iou"] is None
    assert stored["classes_without_labels"] == ["ice"]
    scored = (truth != 0) & (truth != 255) & (made != 0)
    assert stored["overall_accuracy"] == pytest.approx((truth == made)[scored].mean(), abs=1e-12)
    ious = [((truth == c) & (made == c))[scored].sum() / ((truth == c) | (made == c))[scored].sum() for c in (2, 3, 11)]
    assert stored["mean_iou"] == pytest.approx(np.mean(ious), abs=1e-12)
    assert score(truth, made, LEGEND).to_dict() == stored
    assert sarseg.assess(map_path, truth_path).to_dict() == stored  # type: ignore[operator]


def test_region_holds_the_pixels_whose_centres_it_holds(tmp_path: Path) -> None:
    made, truth = some_map(0, GRID.shape), some_map(1, GRID.shape)
    paths = [write(tmp_path / name, codes, GRID, LEGEND.tags()) for name, codes in (("m.tif", made), ("t.tif", truth))]
    bounds = (600_000 + 20 * 500.6, 5_000_000 - 20 * 590.4, 600_000 + 20 * 530.5, 5_000_000 - 20 * 500.4)
    result = assess(*paths, bounds=bounds)
    # columns 501.. (centre 501.5 > 500.6) to 530 (530.5 is on the edge); rows 500 (500.5) to 589 (590.5 is outside)
    part = np.s_[500:590, 501:531]
    assert result.accuracy.matrix.tolist() == count(truth[part], made[part])[0]
    assert sum(result.unscored.values()) + result.accuracy.total == 90 * 30
    with pytest.raises(InputError, match="outside of the map"):
        assess(*paths, bounds=(0, 0, 1, 1))
    with pytest.raises(UsageError, match="is empty"):
        assess(*paths, bounds=(600_100, 4_999_000, 600_050, 4_999_900))


def test_truth_on_another_grid_comes_by_the_labels_rule(tmp_path: Path) -> None:
    made = some_map(0, GRID.shape)
    map_path = write(tmp_path / "m.tif", made, GRID, LEGEND.tags())
    fine = MapGrid(crs=UTM33, transform=Affine(10, 0, 600_000, 0, -10, 5_000_000), shape=(1226, 2114))
    truth = np.repeat(np.repeat(made, 2, 0), 2, 1)
    truth[::2, ::2] = 3  # one of four: no majority where the others agree
    result = assess(map_path, write(tmp_path / "t.tif", truth, fine, LEGEND.tags()))
    assert result.resampling == "majority"
    assert result.accuracy.oa == 1.0
    assert result.unscored["label_without_prediction"] == int((made == 0).sum())  # 3 is the only label there
    lonlat = MapGrid(crs=CRS.from_epsg(4326), transform=Affine(0.5, 0, 15, 0, -0.5, 46), shape=(4, 6))
    result = assess(map_path, write(tmp_path / "g.tif", np.full((4, 6), 2, np.uint8), lonlat, {}))
    assert result.resampling == "nearest"
    assert result.accuracy.matrix[0].sum() == (made != 0).sum()


def test_classes_must_agree(tmp_path: Path) -> None:
    made = some_map(0, (20, 30))
    grid = MapGrid(crs=UTM33, transform=GRID.transform, shape=(20, 30))
    map_path = write(tmp_path / "m.tif", made, grid, LEGEND.tags())
    for tags, word in (
        ({"class_2": "wood"}, "class 2 is 'wood' in the truth and 'water' in the map"),
        ({"class_9": "rock"}, "and no class in"),
    ):
        with pytest.raises(InputError, match=word):
            assess(map_path, write(tmp_path / "t.tif", made, grid, tags))
    with pytest.raises(InputError, match="value 9 is no class"):
        assess(map_path, write(tmp_path / "n.tif", np.full((20, 30), 9, np.uint8), grid, {}))
    with pytest.raises(InputError, match="names no classes"):
        assess(write(tmp_path / "bare.tif", made, grid, {}), map_path)
    far = MapGrid(crs=UTM33, transform=Affine(20, 0, 900_000, 0, -20, 5_000_000), shape=(20, 30))
    with pytest.raises(InputError, match="no label on the map"):
        assess(map_path, write(tmp_path / "far.tif", made, far, LEGEND.tags()))
    given = Legend((LandClass(code=3, name="forest", color=(0, 0, 0)),))
    with pytest.raises(InputError, match="class 3 is 'forest'"):
        assess(map_path, write(tmp_path / "b.tif", made, grid, {}), legend=given)


def test_command_prints_a_table_or_json(tmp_path: Path) -> None:
    made, truth = some_map(0, (40, 30)), some_map(1, (40, 30), also=(255,))
    grid = MapGrid(crs=UTM33, transform=GRID.transform, shape=(40, 30))
    map_path, truth_path = (str(write(tmp_path / name, codes, grid, LEGEND.tags())) for name, codes in (("m.tif", made), ("t.tif", truth)))
    printed = CliRunner().invoke(command, [map_path, "--truth", truth_path], catch_exceptions=False).stdout
    result = score(truth, made, LEGEND)
    assert f"overall accuracy {result.accuracy.oa:.4f}" in printed
    assert [line.split()[0] for line in printed.splitlines()[1:5]] == ["water", "wood", "ice", "town"]
    assert printed.splitlines()[3].split()[2:] == ["0", "n/a", "n/a", "n/a", "n/a"]
    assert "no label has ice" in printed
    assert "always '" in printed
    bounds = ["--bounds", "600000", "4999400", "600300", "5000000"]
    out = tmp_path / "a.json"
    printed = (
        CliRunner().invoke(command, [map_path, "--truth", truth_path, "--json", *bounds, "-o", str(out)], catch_exceptions=False).stdout
    )
    assert json.loads(printed) == json.loads(out.read_text())
    assert json.loads(printed)["confusion_matrix"]["counts"] == count(truth[:30, :15], made[:30, :15])[0]


def test_the_constant_answer_is_the_least_to_beat_and_files_come_together(tmp_path: Path) -> None:
    truth, made = some_map(1, (50, 40), also=(255,)), some_map(0, (50, 40))
    truth[:30] = 11
    grid = MapGrid(crs=UTM33, transform=GRID.transform, shape=(50, 40))
    paths = [write(tmp_path / name, codes, grid, LEGEND.tags()) for name, codes in (("m.tif", made), ("t.tif", truth))]
    result = assess(*paths, tmp_path / "out" / "result.json")
    scored = (truth != 0) & (truth != 255) & (made != 0)
    share = float((truth[scored] == 11).mean())
    name, constant = result.constant
    assert name == "town"
    assert constant.oa == pytest.approx(share)
    assert constant.kappa == pytest.approx(0.0, abs=1e-12)
    assert constant.miou == pytest.approx(share / 3)
    stored = json.loads((tmp_path / "out" / "result.json").read_text())
    assert stored["constant_answer"]["class"] == "town"
    assert stored["constant_answer"]["overall_accuracy"] == pytest.approx(share)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["result.csv", "result.json", "result.png"]
    rows = list(csv.DictReader((tmp_path / "out" / "result.csv").read_text().splitlines()))
    assert [row["name"] for row in rows if row["method"] == "map"] == ["", "water", "wood", "ice", "town"]
    assert float(rows[0]["overall_accuracy"]) == pytest.approx((truth == made)[scored].mean(), abs=1e-5)
    assert rows[3]["iou"] == ""
    with Image.open(tmp_path / "out" / "result.png") as picture:
        assert picture.width > 300
    with pytest.raises(UsageError, match="the result is JSON"):
        assess(*paths, tmp_path / "result.csv")
