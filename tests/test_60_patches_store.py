"""Data sets: every patch equals its place in the source, the split holds across scenes, the bytes repeat."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.labels.options import LabelOptions
from sarseg.labels.resample import make_labels
from sarseg.legend import LandClass, Legend
from sarseg.masks import Mask
from sarseg.patches import PatchOptions, Source, open_dataset, write_dataset
from sarseg.product import open as product_open
from sarseg.product.folder import create_product
from sarseg.product.stac import asset, make_item
from sarseg.raster.read import open_raster

LEGEND = Legend(tuple(LandClass(code=code, name=f"kind {code}", color=(code, 0, 0)) for code in (1, 4, 9)))
GRID = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 600_000, 0, -10, 5_000_000), shape=(701, 1130))


def write(path: Path, data: NDArray[np.generic], grid: MapGrid, names: tuple[str, ...], tags: dict[str, str] | None = None) -> None:
    bands = data if data.ndim == 3 else data[np.newaxis]
    nodata = float("nan") if bands.dtype.kind == "f" else None
    profile = {"driver": "GTiff", "count": len(bands), "dtype": bands.dtype.name, "crs": grid.crs, "transform": grid.transform}
    with rasterio.open(
        path, "w", height=grid.shape[0], width=grid.shape[1], tiled=True, blockxsize=256, blockysize=256, nodata=nodata, **profile
    ) as file:
        file.write(bands)
        file.descriptions = names
        file.update_tags(**(tags or {}))


def make_product(folder: Path, grid: MapGrid, seed: int) -> dict[str, NDArray[np.generic]]:
    """A product folder with VV, VH, mask, and labels beside it."""
    rng = np.random.default_rng(seed)
    power = rng.gamma(4.4, 0.02, (2, *grid.shape)).astype(np.float32)
    mask = np.zeros(grid.shape, np.uint8)
    mask[:40, :60] = Mask.NO_DATA
    mask[100:160, 300:420] = Mask.LAYOVER
    mask[200:210] = Mask.SHADOW
    mask[300:310] = Mask.BELOW_NOISE
    power[:, (mask & Mask.NO_DATA) != 0] = np.nan
    labels = rng.choice(np.array([0, 1, 4, 9, 255], np.uint8), grid.shape, p=[0.05, 0.5, 0.3, 0.1, 0.05])
    with create_product(folder) as out:
        for at, name in enumerate(("VV", "VH")):
            write(out.path / f"{name}.tif", power[at], grid, (name,))
        write(out.path / "mask.tif", mask, grid, ("mask",))
        write(
            out.path / "incidence.tif", np.linspace(20, 60, grid.shape[1], dtype=np.float32) + np.zeros(grid.shape, np.float32), grid, ("",)
        )
        assets = {name: asset(f"{name}.tif", name, "data") for name in ("VV", "VH")}
        out.finish(make_item(folder.name, grid, assets=assets, properties={}, datetime_utc="2021-01-19T05:00:00Z"))
    write(folder.with_suffix(".labels.tif"), labels, grid, ("class",), LEGEND.tags())
    return {"power": power, "mask": mask, "labels": labels}


def source(folder: Path) -> Source:
    return Source(image=folder, labels=folder.with_suffix(".labels.tif"))


def wanted_mask(truth: dict[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    wanted = truth["labels"].copy()
    wanted[(wanted == 0) | np.isnan(truth["power"]).any(0) | np.isin(truth["mask"], [Mask.LAYOVER, Mask.SHADOW, Mask.NO_DATA])] = 255
    return wanted


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, NDArray[np.generic]]]:
    folder = tmp_path_factory.mktemp("store") / "sceneA"
    return folder, make_product(folder, GRID, 1)


Made = tuple[Path, dict[str, NDArray[np.generic]]]


@pytest.mark.parametrize("how", [{"stride": 40}, {"count": 300}])
def test_patches_equal_their_places(scene: Made, tmp_path: Path, how: dict[str, int]) -> None:
    folder, truth = scene
    options = PatchOptions(size=48, block_m=1500, guard_m=100, val_share=0.3, seed=2, **how)
    made = open_dataset(write_dataset(tmp_path / "d", [source(folder)], options))
    index = made.index
    wanted = wanted_mask(truth)
    decibel, hist = [], {split: np.zeros(3, np.int64) for split in ("train", "val")}
    for at in range(len(made)):
        row, col = int(index["row"][at]), int(index["col"][at])
        image, mask = made.read(at)
        np.testing.assert_array_equal(image, truth["power"][:, row : row + 48, col : col + 48])
        np.testing.assert_array_equal(mask, wanted[row : row + 48, col : col + 48])
        assert image.dtype == np.float32
        assert mask.dtype == np.uint8
        assert index["x_min"][at] == 600_000 + 10 * col
        assert index["y_max"][at] == 5_000_000 - 10 * row
        assert index["y_min"][at] == index["y_max"][at] - 480
        assert [index[f"class_{code}"][at] for code in (1, 4, 9)] == [(mask == code).sum() for code in (1, 4, 9)]
        middle_x, middle_y = 600_000 + 10 * (col + 24), 5_000_000 - 10 * (row + 24)
        assert index["block"][at] == f"0/{middle_y // 1500}/{middle_x // 1500}"
        assert index["valid_share"][at] == pytest.approx(np.isfinite(image).all(0).mean(), abs=1e-6)
        assert index["valid_share"][at] >= 0.5
        hist[str(index["split"][at])] += [(mask == code).sum() for code in (1, 4, 9)]
        if index["split"][at] == "train":
            decibel.append(10 * np.log10(np.maximum(image.astype(np.float64), 1e-5)).reshape(2, -1))
    values = np.concatenate(decibel, axis=1)
    mean, std = made.statistics()
    # dB is made in float32: 1e-6 relative a value, far less in the mean
    np.testing.assert_allclose(mean, np.nanmean(values, 1), atol=1e-5)
    np.testing.assert_allclose(std, np.nanstd(values, 1), rtol=1e-5)
    assert [(band.name, band.scale) for band in made.bands] == [("VV", "db"), ("VH", "db")]
    assert made.legend == Legend.from_tags(LEGEND.tags(), None)
    for split, counts in hist.items():
        assert list(made.info["split"][split]["pixels"].values()) == counts.tolist()
        assert made.info["split"][split]["patches"] == len(made.split(split)) > 0
    assert len(made.split("train")) + len(made.split("val")) == len(made)
    if "count" in how:
        assert len(made) == 300
        assert len(np.unique(np.stack([index["row"], index["col"]]), axis=1).T) == 300


def test_incidence_is_a_band_in_degrees(scene: Made, tmp_path: Path) -> None:
    options = PatchOptions(size=64, guard_m=50, bands=("incidence", "VH"))
    made = open_dataset(write_dataset(tmp_path / "d", [source(scene[0])], options))
    assert [(band.name, band.scale) for band in made.bands] == [("incidence", "raw"), ("VH", "db")]
    image, _ = made.read(5)
    row, col = int(made.index["row"][5]), int(made.index["col"][5])
    np.testing.assert_array_equal(image[0], np.tile(np.linspace(20, 60, 1130, dtype=np.float32)[col : col + 64], (64, 1)))
    np.testing.assert_array_equal(image[1], scene[1]["power"][1, row : row + 64, col : col + 64])
    assert 30 < made.bands[0].mean < 50
    assert made.bands[1].mean == pytest.approx(10 * np.log10(4.4 * 0.02), abs=1)  # log of a gamma mean, less its bias of 0.5 dB


def test_two_runs_write_the_same_bytes(scene: Made, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dataset(tmp_path / name / "d", [source(scene[0])], PatchOptions(size=32, count=200, guard_m=50))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) >= 6
    assert files == sorted(path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file())
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    other = write_dataset(tmp_path / "c", [source(scene[0])], PatchOptions(size=32, count=200, guard_m=50, seed=1))
    assert (other / "images.zarr/c/0/0/0/0").read_bytes() != (tmp_path / "a/d/images.zarr/c/0/0/0/0").read_bytes()


def test_windows_are_read_together_and_never_the_scene(scene: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain = product_open.Product.read

    def read(self, window=None, bands=None):  # type: ignore[no-untyped-def]
        asked.append(window)
        return plain(self, window, bands)

    monkeypatch.setattr(product_open.Product, "read", read)
    monkeypatch.setattr("sarseg.patches.cut._CELL", 256)
    write_dataset(tmp_path / "d", [source(scene[0])], PatchOptions(size=32, stride=16, guard_m=50))
    assert max(window.size for window in asked) <= (256 + 31) ** 2
    # 3 x 5 cells; each pixel is asked for about once: (256 + 31)^2 / 256^2 = 1.26 times
    assert len(asked) <= 15
    assert sum(window.size for window in asked) <= 1.3 * 701 * 1130


def test_two_scenes_share_their_blocks_and_the_test_region(scene: Made, tmp_path: Path) -> None:
    other = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 603_000, 0, -10, 4_998_500), shape=(611, 900))
    make_product(tmp_path / "sceneB", other, 2)
    bounds = (604_000.0, 4_995_000.0, 607_500.0, 4_997_500.0)
    options = PatchOptions(size=32, stride=16, block_m=900, guard_m=120, val_share=0.25, test_bounds=bounds)
    made = open_dataset(write_dataset(tmp_path / "d", [source(scene[0]), source(tmp_path / "sceneB")], options))
    index = made.index
    boxes = np.stack([index[name] for name in ("x_min", "y_min", "x_max", "y_max")], axis=1)
    assert set(index["scene"]) == {"sceneA", "sceneB"}
    for name in ("sceneA", "sceneB"):
        for split in ("train", "val", "test"):
            assert ((index["scene"] == name) & (index["split"] == split)).any()
    train, held = boxes[index["split"] == "train"], boxes[index["split"] != "train"]
    across = np.maximum(train[:, None, 0] - held[None, :, 2], held[None, :, 0] - train[:, None, 2])
    along = np.maximum(train[:, None, 1] - held[None, :, 3], held[None, :, 1] - train[:, None, 3])
    assert np.maximum(across, along).min() >= 120
    test = boxes[index["split"] == "test"]
    assert test[:, :2].min(0).tolist() >= [604_000, 4_995_000]
    assert (test[:, 2:].max(0) <= [607_500, 4_997_500]).all()


def test_shortfall_and_random_split_are_told(scene: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = MapGrid(crs=GRID.crs, transform=GRID.transform, shape=(70, 75))
    make_product(tmp_path / "s", small, 3)
    made = write_dataset(tmp_path / "d", [source(tmp_path / "s")], PatchOptions(size=64, count=500, val_share=0, min_valid=0.5))
    info = json.loads((made / "dataset.json").read_text())
    # 7 x 12 positions; the corner without data leaves fewer
    truth = wanted_positions(tmp_path / "s")
    assert info["patches"] == truth < 84
    assert f"{truth} patches instead of 500" in info["warnings"][0]
    assert f"{84 - truth} hold too little data" in info["warnings"][0]
    made = write_dataset(tmp_path / "r", [source(scene[0])], PatchOptions(size=32, split="random"))
    assert "random split: 100%" in json.loads((made / "dataset.json").read_text())["warnings"][0]
    assert "random split" in caplog.text


def wanted_positions(folder: Path) -> int:
    power = open_raster(folder / "VV.tif").read()[0]
    shares = [np.isfinite(power[row : row + 64, col : col + 64]).mean() for row in range(7) for col in range(12)]
    return sum(share >= 0.5 for share in shares)


def test_trouble_leaves_nothing(scene: Made, tmp_path: Path) -> None:
    folder, _ = scene
    with pytest.raises(InputError, match="701 x 1130 pixels are less than a patch of 800"):
        write_dataset(tmp_path / "d", [source(folder)], PatchOptions(size=800))
    with pytest.raises(InputError, match=r"no training window.*smaller --size, .*patches_size, "):
        write_dataset(tmp_path / "d", [source(folder)], PatchOptions(size=64, test_bounds=(500_000, 4_900_000, 700_000, 5_100_000)))
    with pytest.raises(UsageError, match="two images are called sceneA"):
        write_dataset(tmp_path / "d", [source(folder)] * 2, PatchOptions(size=64))
    with pytest.raises(UsageError, match="no image"):
        write_dataset(tmp_path / "d", [], PatchOptions())
    moved = MapGrid(crs=GRID.crs, transform=Affine(10, 0, 600_004, 0, -10, 5_000_000), shape=GRID.shape)
    write(tmp_path / "moved.tif", np.ones(GRID.shape, np.uint8), moved, ("class",), LEGEND.tags())
    with pytest.raises(InputError, match=r"another grid.*sarseg labels"):
        write_dataset(tmp_path / "d", [Source(image=folder, labels=tmp_path / "moved.tif")], PatchOptions())
    write(tmp_path / "odd.tif", np.full(GRID.shape, 77, np.uint8), GRID, ("class",), LEGEND.tags())
    with pytest.raises(InputError, match="label 77 is not in the legend"):
        write_dataset(tmp_path / "d", [Source(image=folder, labels=tmp_path / "odd.tif")], PatchOptions())
    write(tmp_path / "empty.tif", np.zeros(GRID.shape, np.uint8), GRID, ("class",), LEGEND.tags())
    with pytest.raises(InputError, match=r"no window holds a label \[.*empty.tif\]: where images have values, labels have only 0"):
        write_dataset(tmp_path / "d", [Source(image=folder, labels=tmp_path / "empty.tif")], PatchOptions(size=64))
    write(tmp_path / "bare.tif", np.ones(GRID.shape, np.uint8), GRID, ("class",))
    with pytest.raises(InputError, match="the labels name no classes"):
        write_dataset(tmp_path / "d", [Source(image=folder, labels=tmp_path / "bare.tif")], PatchOptions())
    with pytest.raises(InputError, match="bands VV, VH, incidence are not those wanted: HH"):
        write_dataset(tmp_path / "d", [source(folder)], PatchOptions(bands=("HH",)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not ours to replace"):
        write_dataset(tmp_path / "mine", [source(folder)], PatchOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.tif", "empty.tif", "mine", "moved.tif", "odd.tif"]


def test_opening_checks_what_is_there(scene: Made, tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "d", [source(scene[0])], PatchOptions(size=64, bands=("VH",)))
    assert [band.name for band in open_dataset(made).bands] == ["VH"]
    with pytest.raises(InputError, match="no such folder"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(InputError, match="is no data set"):
        open_dataset(tmp_path)
    text = (made / "dataset.json").read_text()
    (made / "dataset.json").write_text(text.replace('"version": 1', '"version": 7'))
    with pytest.raises(InputError, match="another version"):
        open_dataset(made)
    (made / "dataset.json").write_text(text.replace('"quantity"', '"note"'))
    with pytest.raises(InputError, match=r"is damaged: KeyError\('quantity'\) .*write the data set again"):  # and not guessed
        open_dataset(made)
    (made / "dataset.json").write_text(text)
    pq.write_table(pq.read_table(made / "index.parquet").slice(0, 3), made / "index.parquet")
    with pytest.raises(InputError, match="has not the"):
        open_dataset(made)


def test_sen1floods11_with_whole_chips_held_out(shared: Path, tmp_path: Path) -> None:
    """The real chips: centi-dB with a scale, labels -1/0/1 through a remap table, split_b by chip."""
    data = shared / "data" / "sen1floods11"
    rows = [row for row in csv.DictReader((data / "splits.csv").read_text().splitlines()) if row["split_b"] != "exclude"]
    legend = Legend((LandClass(code=1, name="land", color=(180, 160, 90)), LandClass(code=2, name="water", color=(0, 90, 200))))
    (tmp_path / "remap.yaml").write_text("-1: 255\n0: 1\n1: 2\n")
    recoded = LabelOptions(remap=str(tmp_path / "remap.yaml"))
    sources, counts = [], {"train": [0, 0], "val": [0, 0], "test": [0, 0]}
    for row in rows:
        chip = row["chip"]
        made = make_labels(data / f"{chip}_LabelHand.tif", data / f"{chip}_S1Hand.tif", tmp_path / f"{chip}.tif", recoded, legend=legend)
        sources.append(Source(image=data / f"{chip}_S1Hand.tif", labels=made, name=chip))
        with rasterio.open(data / f"{chip}_LabelHand.tif") as file, rasterio.open(data / f"{chip}_S1Hand.tif") as radar:
            there = (radar.read() != -32768).all(0)
            for at in (0, 1):
                counts[row["split_b"]][at] += int(((file.read(1) == at) & there).sum())
    held = {name: tuple(row["chip"] for row in rows if row["split_b"] == name) for name in ("val", "test")}
    options = PatchOptions(size=256, val_scenes=held["val"], test_scenes=held["test"], min_valid=0)
    dataset = open_dataset(write_dataset(tmp_path / "d", sources, options))
    for name, want in counts.items():
        assert list(dataset.info["split"][name]["pixels"].values()) == want
    assert sum(counts["test"]) == 656_691  # valid test pixels of the data set's README
    image, _ = dataset.read(0)
    with rasterio.open(data / f"{rows[0]['chip']}_S1Hand.tif") as file:
        row, col = int(dataset.index["row"][0]), int(dataset.index["col"][0])
        want = file.read()[:, row : row + 256, col : col + 256].astype(np.float64) * 0.01
    np.testing.assert_allclose(image, want, atol=2e-6)  # float32 of values to 50 dB
    assert {band.scale for band in dataset.bands} == {"raw"}
    assert -30 < dataset.bands[0].mean < 0
