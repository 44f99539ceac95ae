"""Products that others made go through labels, patches, predict and info as our own do."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from rasterio.crs import CRS
from torch import nn

from sarseg.cli.info import describe
from sarseg.cli.main import cli
from sarseg.decibel import to_db
from sarseg.labels import make_labels
from sarseg.legend import LandClass, Legend
from sarseg.nets.infer import TileOptions
from sarseg.nets.modelfile import BandSpec, Model, ModelSpec
from sarseg.patches import PatchOptions, Source, open_dataset, write_dataset
from sarseg.predict.engine import PredictOptions, predict
from sarseg.product.open import open_map, open_product

torch.set_num_threads(1)

LEGEND = Legend((LandClass(code=1, name="dark", color=(0, 0, 250)), LandClass(code=4, name="bright", color=(200, 150, 90))))
OPTIONS = PredictOptions(tiles=TileOptions(tile_px=64, overlap_px=16))
GRID = {"crs": CRS.from_epsg(32649), "transform": Affine(30, 0, 399_990, 0, -30, 2_650_020)}


class Threshold(nn.Module):
    """A network without context: the second class where the first band is above 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-4 * x[:, :1], 4 * x[:, :1]], 1)


def model(*names: str) -> Model:
    bands = tuple(BandSpec(name=name, scale="db", mean=-12.0, std=3.0) for name in names)
    return Model(Threshold(), ModelSpec(network="compact_unet", bands=bands, quantity="power", legend=LEGEND), Path("threshold"))


def by_hand(power: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.where(np.isnan(power), 0, np.where(to_db(power) > -12.0, 4, 1)).astype("u1")


def write(path: Path, data: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "height": data.shape[0], "width": data.shape[1], "count": 1, "dtype": data.dtype}
    with rasterio.open(path, "w", **profile, **GRID) as out:
        out.write(data, 1)


def made_power(shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-22, -2, (shape[0] // 8 + 1, shape[1] // 8 + 1))
    power = 10 ** (np.kron(coarse, np.ones((8, 8)))[: shape[0], : shape[1]] / 10)
    power[:20, :30] = 0
    return power.astype("f4")


def hyp3(folder: Path) -> tuple[Path, NDArray[np.float32]]:
    base = "S1A_IW_20180128T161201_DVP_RTC30_G_gduned_FD6A"
    power = made_power((150, 170), 1)
    with np.errstate(divide="ignore"):
        write(folder / base / f"{base}_VV.tif", 10 * np.log10(power))
        write(folder / base / f"{base}_VH.tif", 10 * np.log10(power / 5))
    codes = np.ones(power.shape, "u1")
    codes[40:50, 60:80] = 5
    codes[:3] = 0
    write(folder / base / f"{base}_ls_map.tif", codes)
    return folder / base, np.where((codes == 0) | (power == 0), np.nan, power)


def asf(folder: Path) -> tuple[Path, NDArray[np.float32]]:
    base = "AP_27154_FBD_F0640_RT2"
    power = made_power((150, 170), 2)
    path = folder / f"{base}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("HH", power), ("HV", power / 5)):
            write(folder / "plain" / f"{name}.tif", data)
            archive.write(folder / "plain" / f"{name}.tif", f"{base}/{base}_{name}.tif")
    return path, np.where(power == 0, np.nan, power)


def test_hyp3_and_asf_products_are_mapped_without_preprocessing(tmp_path):
    for (path, power), names in ((hyp3(tmp_path), ("VV", "VH")), (asf(tmp_path), ("HH", "HV"))):
        folder = predict(model(*names), path, tmp_path / "maps", OPTIONS)
        found = open_map(folder)
        np.testing.assert_array_equal(found.codes(), by_hand(power))
        assert found.grid == open_product(path).grid
    hyp3_item = json.loads((tmp_path / "maps" / "S1A_IW_20180128T161201_DVP_RTC30_G_gduned_FD6A" / "item.json").read_text())
    assert hyp3_item["properties"]["sarseg:mapped_under"] == {"layover": 200, "shadow": 0}
    assert hyp3_item["properties"]["datetime"].startswith("2018-01-28T16:12:01")


def test_opera_crops_are_mapped_without_preprocessing(tmp_path, shared):
    for path in sorted((shared / "data/opera_rtc").glob("*292319*_VV.tif")):
        with rasterio.open(path) as file:
            vv, transform, crs = file.read(1), file.transform, file.crs
        found = open_map(predict(model("VV", "VH"), path, tmp_path, OPTIONS))
        np.testing.assert_array_equal(found.codes(), by_hand(vv))
        assert (found.grid.transform, found.grid.crs, found.id) == (transform, crs, path.name.removesuffix("_VV.tif"))


def test_snap_dimap_and_geotiff_give_equal_maps(tmp_path, shared):
    source = shared / "data/snap_reference/products"
    maps = [open_map(predict(model("VV"), source / name, tmp_path / name, OPTIONS)) for name in ("map.dim", "map.tif")]
    with rasterio.open(source / "map.tif") as file:
        sigma0 = file.read(1)
    for found in maps:
        np.testing.assert_array_equal(found.codes(), by_hand(np.where(sigma0 == 0, np.nan, sigma0)))
        assert found.grid.crs == CRS.from_epsg(32633)
        assert found.grid.transform == Affine(10, 0, 292_065, 0, -10, 4_653_165)
    confidences = [found.confidence() for found in maps]
    np.testing.assert_array_equal(*confidences)


def labels_on(product: Path, folder: Path, seed: int) -> Path:
    """Class codes of the left and right half, drawn finer than the product, brought onto it by `labels --like`."""
    grid = open_product(product).grid
    fine = np.ones((grid.shape[0] * 2, grid.shape[1] * 2), "u1")
    fine[:, grid.shape[1] :] = 4
    fine[np.random.default_rng(seed).random(fine.shape) < 0.02] = 255
    path = folder / "fine.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=fine.shape[0], width=fine.shape[1], count=1, dtype="uint8", crs=grid.crs,
        transform=grid.transform @ Affine.scale(0.5),
    ) as out:  # fmt: skip
        out.write(fine, 1)
    return make_labels(path, product, folder / "labels.tif", legend=LEGEND)


@pytest.mark.parametrize("kind", ["archive", "folder"])
@pytest.mark.parametrize("store", ["arrays", "windows"])
def test_patches_of_an_archive_and_of_its_folder(tmp_path, store, kind):
    path, power = asf(tmp_path)
    if kind == "folder":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "unpacked")
        path = tmp_path / "unpacked" / path.stem
    labels = labels_on(path, tmp_path, 5)
    options = PatchOptions(size=16, stride=16, store=store, legend=LEGEND, min_valid=0.1)
    dataset = open_dataset(write_dataset(tmp_path / "data", [Source(image=path, labels=labels)], options))
    assert [(band.name, band.scale) for band in dataset.bands] == [("HH", "db"), ("HV", "db")]
    rows, cols = dataset.index["row"], dataset.index["col"]
    assert len(rows) > 10
    for at, (row, col) in enumerate(zip(rows, cols, strict=True)):
        image, mask = dataset.read(at)
        there = power[row : row + 16, col : col + 16]
        np.testing.assert_array_equal(image[0], there)
        np.testing.assert_allclose(image[1], there / 5, rtol=1e-6)
        known = mask != 255
        assert not known[np.isnan(there)].any()
        assert known.mean() > 0.05
        half = np.where(np.arange(col, col + 16) < power.shape[1] // 2, 1, 4)
        np.testing.assert_array_equal(mask[known], np.broadcast_to(half, mask.shape)[known])


@pytest.mark.parametrize("store", ["arrays", "windows"])
def test_patches_of_the_real_mosaic_in_place(tmp_path, shared, store):
    tile = tmp_path / "N23W161_20_MOS_F02DAR.tar.gz"
    shutil.copyfile(shared / "data/jaxa_mosaic" / tile.name, tile)
    options = PatchOptions(size=64, stride=64, store=store, legend=LEGEND, min_valid=0.9)
    dataset = open_dataset(write_dataset(tmp_path / "data", [Source(image=tile, labels=coast(tile, tmp_path))], options))
    with tarfile.open(tile) as archive:
        content = archive.extractfile("N23W161_20_sl_HV_F02DAR.tif")
        assert content is not None
        with rasterio.MemoryFile(content.read()) as memory, memory.open() as file:
            dn = file.read(1)
    rows, cols = dataset.index["row"], dataset.index["col"]
    assert len(rows) >= 20
    for at, (row, col) in enumerate(zip(rows, cols, strict=True)):
        there = dn[row : row + 64, col : col + 64].astype(float)
        np.testing.assert_allclose(dataset.read(at)[0][1], np.where(there <= 1, np.nan, there**2 * 10**-8.3), rtol=2e-6)


def coast(tile: Path, folder: Path) -> Path:
    """Water and land of the mosaic's own mask as labels."""
    with tarfile.open(tile) as archive:
        content = archive.extractfile("N23W161_20_mask_F02DAR.tif")
        assert content is not None
        with rasterio.MemoryFile(content.read()) as memory, memory.open() as file:
            codes, profile = file.read(1), file.profile
    path = folder / "coast.tif"
    with rasterio.open(path, "w", **{**profile, "nodata": 0, "compress": "deflate"}) as out:
        out.write(np.select([codes == 50, codes == 255], [1, 4], 0).astype("u1"), 1)
    return path


def test_info_says_what_they_are(tmp_path, shared):
    data = shared / "data"
    known = {
        data / "snap_reference/products/map.dim": ("SNAP product", "sigma0"),
        data / "snap_reference/products/map.tif": ("SNAP product", "sigma0"),
        next((data / "opera_rtc").glob("*_VH.tif")): ("OPERA RTC-S1", "gamma0"),
        asf(tmp_path)[0]: ("ASF ALOS PALSAR RTC", "gamma0"),
        hyp3(tmp_path)[0]: ("HyP3 Sentinel-1 RTC", "gamma0"),
    }
    for path, (family, radiometry) in known.items():
        found = describe(path)
        assert (found["kind"], found["family"], found["radiometry"]) == ("product", family, radiometry)
    matrix = describe(data / "flevoland_airsar/T3.tif")
    assert (matrix["kind"], matrix["family"], len(matrix["bands"])) == ("product", "polarimetric matrix T3", 9)
    result = CliRunner().invoke(cli, ["info", str(asf(tmp_path)[0])])
    assert result.exit_code == 0
    assert "taken as linear power, as ASF says of these products" in result.output
