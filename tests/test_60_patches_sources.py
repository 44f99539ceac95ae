"""Data sets that keep no pixels, worker processes over both stores, and scales: equal values, moved or changed sources refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.cli.patches import command
from sarseg.errors import InputError, SarsegError, UsageError
from sarseg.grid import MapGrid
from sarseg.legend import LandClass, Legend
from sarseg.masks import Mask
from sarseg.nets.modelfile import BandSpec, normalise
from sarseg.patches import Dataset, PatchOptions, Source, open_dataset, write_dataset
from sarseg.product.folder import create_product
from sarseg.product.stac import asset, make_item
from sarseg.raster.read import open_raster

LEGEND = Legend(tuple(LandClass(code=code, name=f"kind {code}", color=(code, 90, 0)) for code in (1, 4, 9)))
GRID = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 600_000, 0, -10, 5_000_000), shape=(331, 470))
OPTIONS: dict[str, Any] = {"size": 32, "stride": 24, "block_m": 800, "guard_m": 60, "val_share": 0.3}


def write(path: Path, data: NDArray[Any], names: tuple[str, ...], tags: dict[str, str] | None = None) -> None:
    bands = data if data.ndim == 3 else data[np.newaxis]
    place = {"crs": GRID.crs, "transform": GRID.transform, "height": GRID.shape[0], "width": GRID.shape[1]}
    nodata = float("nan") if bands.dtype.kind == "f" else None
    layout = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", count=len(bands), dtype=bands.dtype.name, nodata=nodata, **layout, **place) as file:
        file.write(bands)
        file.descriptions = names
        file.update_tags(**(tags or {}))


def make_source(root: Path, name: str, seed: int) -> Source:
    rng = np.random.default_rng(seed)
    power = rng.gamma(4.4, 0.02, (2, *GRID.shape)).astype(np.float32)
    mask = np.zeros(GRID.shape, np.uint8)
    mask[:40, :60], mask[100:160, 200:320], mask[200:210] = Mask.NO_DATA, Mask.LAYOVER, Mask.SHADOW
    power[:, mask == Mask.NO_DATA] = np.nan
    with create_product(root / name) as out:
        for at, band in enumerate(("VV", "VH")):
            write(out.path / f"{band}.tif", power[at], (band,))
        write(out.path / "mask.tif", mask, ("mask",))
        assets = {band: asset(f"{band}.tif", band, "data") for band in ("VV", "VH")}
        out.finish(make_item(name, GRID, assets=assets, properties={}, datetime_utc="2021-01-19T05:00:00Z"))
    labels = root / f"{name}.labels.tif"
    write(labels, rng.choice(np.array([0, 1, 4, 9, 255], np.uint8), GRID.shape), ("class",), LEGEND.tags())
    return Source(image=root / name, labels=labels)


@dataclass(frozen=True)
class Made:
    """Two data sets of the same windows, in a folder beside their sources."""

    root: Path
    arrays: Dataset
    windows: Dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("sources")
    sources = [make_source(root / "ard", name, seed) for seed, name in enumerate(("first", "second"))]
    arrays = write_dataset(root / "sets" / "arrays", sources, PatchOptions(**OPTIONS))
    windows = write_dataset(root / "sets" / "windows", sources, PatchOptions(**OPTIONS, store="windows"))
    return Made(root, open_dataset(arrays), open_dataset(windows))


def test_windows_hold_what_the_arrays_hold(made: Made) -> None:
    assert sorted(path.name for path in made.windows.path.iterdir()) == [
        "contact_sheet.png",
        "dataset.json",
        "index.parquet",
        "legend.yaml",
    ]
    assert len(made.windows) == len(made.arrays) > 200
    for index in range(len(made.arrays)):
        (image, mask), (wanted_image, wanted_mask) = made.windows.read(index), made.arrays.read(index)
        assert (image.dtype, mask.dtype) == (wanted_image.dtype, wanted_mask.dtype)
        np.testing.assert_array_equal(image, wanted_image)
        np.testing.assert_array_equal(mask, wanted_mask)
    assert made.windows.bands == made.arrays.bands
    assert made.windows.quantity == made.arrays.quantity == "power"
    for name, column in made.arrays.index.items():
        np.testing.assert_array_equal(made.windows.index[name], column)


def test_data_set_and_sources_move_together(made: Made, tmp_path: Path) -> None:
    """Without keeping the times of the files: their content tells."""
    shutil.copytree(made.root, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    moved = open_dataset(tmp_path / "elsewhere/sets/windows")
    np.testing.assert_array_equal(moved.read(7)[0], made.arrays.read(7)[0])
    shutil.move(tmp_path / "elsewhere/ard/second", tmp_path / "elsewhere/second")
    with pytest.raises(InputError, match=r"a source of the data set is not there.*elsewhere/ard/second.*sarseg patches"):
        open_dataset(tmp_path / "elsewhere/sets/windows")


def other_label(root: Path) -> None:
    with rasterio.open(root / "ard/first.labels.tif", "r+") as file:
        block = file.read(1)
        block[5, 5] = 9 if block[5, 5] != 9 else 4
        file.write(block, 1)


def other_item(root: Path) -> None:
    item = root / "ard/second/item.json"
    item.write_text(item.read_text().replace("second", "sekond"))


def longer_band(root: Path) -> None:
    with (root / "ard/first/VH.tif").open("ab") as file:
        file.write(b"\0")


def no_band(root: Path) -> None:
    (root / "ard/first/VH.tif").unlink()


def no_sources(root: Path) -> None:
    path = root / "sets/windows/dataset.json"
    content = json.loads(path.read_text())
    del content["sources"][1]
    path.write_text(json.dumps(content))


def half_a_place(root: Path) -> None:
    path = root / "sets/windows/dataset.json"
    content = json.loads(path.read_text())
    del content["sources"][0]["place"]["labels"]["bytes"]
    path.write_text(json.dumps(content))


FAULTS = {
    "a label": (other_label, "has changed since it was cut.*first.labels.tif"),
    "an item": (other_item, "has changed since it was cut.*second"),
    "a band's size": (longer_band, "has changed since it was cut.*first"),
    "a band that is gone": (no_band, "cannot be read.*first"),
    "a scene of the index without source": (no_sources, "is damaged.*second"),
    "an entry without size": (half_a_place, "is damaged.*bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_changed_sources_are_refused_in_one_line(fault: str, made: Made, tmp_path: Path) -> None:
    breaks, says = FAULTS[fault]
    root = tmp_path / "copy"
    shutil.copytree(made.root, root)
    breaks(root)
    with pytest.raises(InputError, match=says) as caught:
        open_dataset(root / "sets/windows")
    assert "\n" not in str(caught.value)


def test_sources_without_a_common_folder_are_found_by_their_whole_path(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from sarseg.patches import sources

    entry = made.windows.info["sources"][0]["place"]["image"]["path"]
    assert entry == "../../ard/first"
    assert sources._path_from(Path("/somewhere/else"), made.root / "ard/first") == str(made.root / "ard/first")
    assert sources._path_from(Path("/somewhere/else"), Path("/vsizip/a.zip/b.tif")) == "/vsizip/a.zip/b.tif"


class Patches(torch.utils.data.Dataset[tuple[int, torch.Tensor, torch.Tensor]]):
    """As a training loop reads them."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        image, mask = self.dataset.read(index)
        return os.getpid(), torch.from_numpy(image), torch.from_numpy(mask)


@pytest.mark.parametrize("store", ["arrays", "windows"])
def test_two_forked_workers_read_what_the_parent_reads(made: Made, store: str) -> None:
    dataset: Dataset = getattr(made, store)
    want = [dataset.read(index) for index in range(len(dataset))]  # so that the files are open when the workers are made
    loader = torch.utils.data.DataLoader(Patches(dataset), batch_size=1, num_workers=2, multiprocessing_context="fork")
    workers = set()
    for index, (pid, image, mask) in enumerate(loader):
        workers.add(int(pid))
        np.testing.assert_array_equal(image[0].numpy(), want[index][0])
        np.testing.assert_array_equal(mask[0].numpy(), want[index][1])
    assert len(workers - {os.getpid()}) == 2


@pytest.mark.parametrize("store", ["arrays", "windows"])
def test_data_set_can_be_sent_to_another_process(made: Made, store: str) -> None:
    dataset: Dataset = getattr(made, store)
    want = dataset.read(11)
    for got, one in zip(pickle.loads(pickle.dumps(dataset)).read(11), want, strict=True):
        np.testing.assert_array_equal(got, one)


def open_files_of(path: str) -> list[str]:
    """The descriptors of this process that lead to a file."""
    folder = Path("/proc/self/fd")
    return [each.name for each in folder.iterdir() if each.is_symlink() and os.path.realpath(each) == path]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at the open files as Linux lists them")
def test_forked_process_opens_files_anew(tmp_path: Path) -> None:
    """A handle of the parent has the parent's place in the file; also those of its other threads stay untouched."""
    path = str(make_t3(tmp_path) / "t3.tif")
    raster = open_raster(path)
    want = raster.read()
    stay, ready = threading.Event(), threading.Event()

    def other_thread() -> None:
        raster.read()
        ready.set()
        stay.wait(60)

    thread = threading.Thread(target=other_thread)
    thread.start()
    assert ready.wait(60)
    inherited = len(open_files_of(path))
    assert inherited == 2
    inlet, outlet = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
        child = os.fork()
    if child == 0:
        same = np.array_equal(raster.read(), want, equal_nan=True)
        os.write(outlet, f"{int(same)} {len(open_files_of(path))}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    stay.set()
    thread.join()
    assert os.read(inlet, 100).decode() == f"1 {inherited + 1}"
    os.close(inlet)
    os.close(outlet)
    np.testing.assert_array_equal(raster.read(), want)


T3 = ("T11", "T22", "T12_real", "T12_imag")


def make_t3(root: Path) -> Path:
    rng = np.random.default_rng(8)
    diagonals = rng.gamma(2.0, 0.1, (2, *GRID.shape))
    cross = rng.normal(0, 0.4, (2, *GRID.shape)) * np.sqrt(diagonals.prod(0))
    values = np.concatenate([diagonals, cross]).astype(np.float32)
    values[0, :5, :50] = 0.0
    values[:, 300:, :20] = np.nan
    write(root / "t3.tif", values, T3)
    write(root / "labels.tif", rng.choice(np.array([1, 4, 9], np.uint8), GRID.shape), ("class",), LEGEND.tags())
    return root


def test_scales_of_a_coherency_matrix(tmp_path: Path) -> None:
    root = make_t3(tmp_path)
    words = ["--scale", "T22=raw", "--store", "windows"]  # the others are known by their names
    words += ["--size", "32", "--block", "800", "--guard", "60"]
    result = CliRunner().invoke(command, [str(root / "t3.tif"), "--labels", str(root / "labels.tif"), "-o", str(root / "d"), *words])
    assert result.exit_code == 0, result.output
    dataset = open_dataset(root / "d")
    assert dataset.quantity == "power"
    assert [(band.scale, band.diagonals) for band in dataset.bands] == [
        ("db", None),
        ("raw", None),
        ("correlation", ("T11", "T22")),
        ("correlation", ("T11", "T22")),
    ]
    images = np.stack([dataset.read(int(index))[0] for index in dataset.split("train")]).astype(np.float64)
    t11, t22, real, imag = np.moveaxis(images, 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        root_of_power = np.sqrt(t11 * t22)
        scaled = [10 * np.log10(np.maximum(t11, 1e-5)), t22]
        scaled += [np.where(t11 * t22 <= 0, 0.0, np.clip(one / root_of_power, -1, 1)) for one in (real, imag)]
    mean, std = dataset.statistics()
    for at, values in enumerate(scaled):
        values[np.isnan(images[:, at])] = np.nan
        # scaled values are float32: 1e-7 of the largest, 50 dB
        assert mean[at] == pytest.approx(np.nanmean(values), abs=1e-5)
        assert std[at] == pytest.approx(np.nanstd(values), rel=1e-5)
    bands = tuple(BandSpec(**band.to_dict()) for band in dataset.bands)
    first = int(dataset.split("train")[0])
    got = normalise(dataset.read(first)[0], bands)
    for at, values in enumerate(scaled):
        np.testing.assert_allclose(got[at], (values[0] - mean[at]) / std[at], atol=2e-5)


@pytest.mark.parametrize(
    ("scales", "says"),
    [
        ({"T33": "db"}, "no band T33 to scale"),
        ({"T11": "correlation"}, "band T11: its diagonal elements are not known"),
        ({"T11": "decibel"}, "band T11: no scale 'decibel'"),
    ],
)
def test_wrong_scales_are_refused(tmp_path: Path, scales: dict[str, Any], says: str) -> None:
    root = make_t3(tmp_path)
    with pytest.raises(UsageError, match=says):
        write_dataset(root / "d", [Source(image=root / "t3.tif", labels=root / "labels.tif")], PatchOptions(size=32, scales=scales))
    assert not (root / "d").exists()


@pytest.mark.parametrize(
    ("words", "says"), [(["T11"], "not NAME=SCALE"), (["T11=db", "T11=raw"], "gives band T11 twice"), (["=db"], "not NAME")]
)
def test_wrong_words_for_a_scale(tmp_path: Path, words: list[str], says: str) -> None:
    given = [str(tmp_path / "x.tif"), "--labels", "y.tif", "-o", str(tmp_path / "d")]
    result = CliRunner().invoke(command, [*given, *(part for word in words for part in ("--scale", word))])
    assert isinstance(result.exception, SarsegError)
    assert says in str(result.exception)
