"""The raster writer: valid COGs, the same bytes for any order, nothing left after trouble."""

import concurrent.futures
import hashlib

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from sarseg.errors import MissingError
from sarseg.grid import MapGrid
from sarseg.raster import cog
from sarseg.raster.cog import CogSpec, create_cog
from sarseg.tiles import BLOCK, Window, blocks

GRID = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 290370, 0, -10, 4655100), shape=(1300, 902))
POWER = CogSpec(grid=GRID, dtype="float32", bands=("VV", "VH"), nodata=float("nan"), overviews="average", tags={"unit": "power"})
CLASSES = CogSpec(
    grid=GRID,
    dtype="uint8",
    bands=("landcover",),
    nodata=0,
    overviews="mode",
    tags={"class_3": "water"},
    colormap={0: (0, 0, 0, 0), 3: (0, 0, 255, 255)},
)


def power_image():
    image = np.random.default_rng(0).gamma(4.4, 1 / 4.4, (2, *GRID.shape)).astype("f4")
    image[:, 100:300, 50:400] = np.nan
    return image


def write(path, spec, image, order, threads=1):
    with create_cog(path, spec) as out, concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda block: out.write(block, image[(slice(None), *block.slices)]), order))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_float_cog_is_valid_and_complete(tmp_path):
    image = power_image()
    write(tmp_path / "a.tif", POWER, image, blocks(GRID.shape))
    valid, errors, warnings = cog_validate(tmp_path / "a.tif", strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "a.tif") as got:
        np.testing.assert_array_equal(got.read(), image)
        assert got.block_shapes == [(BLOCK, BLOCK)] * 2
        assert got.descriptions == ("VV", "VH")
        assert got.compression.name == "zstd"
        assert got.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        assert got.tags()["AREA_OR_POINT"] == "Area"
        assert got.tags()["unit"] == "power"
        assert np.isnan(got.nodata)
        assert (got.crs, got.transform) == (GRID.crs, GRID.transform)
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as half:
        window = image[0, 400:500, 500:600].reshape(50, 2, 50, 2).mean((1, 3))
        # overviews are means of linear power, summed in float32 by GDAL
        np.testing.assert_allclose(half.read(1)[200:250, 250:300], window, rtol=1e-6)


@pytest.mark.parametrize("spec", [POWER, CLASSES], ids=["power", "classes"])
def test_same_bytes_for_any_order_and_threads(tmp_path, spec):
    image = power_image()[: len(spec.bands)]
    image = image if spec.dtype == "float32" else np.where(image > 1, 3, 0).astype(spec.dtype)
    order = blocks(GRID.shape)
    first = write(tmp_path / "a.tif", spec, image, order)
    assert write(tmp_path / "b.tif", spec, image, order[::-1], threads=4) == first


def test_class_overviews_are_classes_and_names_travel(tmp_path):
    codes = np.where(np.arange(GRID.shape[0])[:, None] % 7 < 5, 3, 9).astype("u1") * np.ones(GRID.shape, "u1")
    write(tmp_path / "a.tif", CLASSES, codes[None], blocks(GRID.shape))
    assert cog_validate(tmp_path / "a.tif", strict=True)[0]
    with rasterio.open(tmp_path / "a.tif", overview_level=1) as quarter:
        assert set(np.unique(quarter.read(1))) <= {3, 9}
        assert quarter.colormap(1)[3] == (0, 0, 255, 255)
        assert quarter.tags()["class_3"] == "water"


def test_blocks_never_written_are_nodata(tmp_path):
    block = Window(row=512, col=0, rows=512, cols=512)
    with create_cog(tmp_path / "a.tif", POWER) as out:
        out.write(block, np.ones((2, 512, 512), np.float32))
    with rasterio.open(tmp_path / "a.tif") as got:
        image = got.read(1)
    assert (image[block.slices] == 1).all()
    assert np.isnan(image).sum() == image.size - block.size


def test_an_image_without_georeference_stays_without(tmp_path):
    spec = CogSpec(
        grid=MapGrid(crs=None, transform=Affine.identity(), shape=(33, 41)), dtype="uint8", bands=("a",), nodata=0, overviews="mode"
    )
    with create_cog(tmp_path / "new" / "a.tif", spec) as out:
        out.write(Window.whole((33, 41)), np.ones((33, 41), np.uint8))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(tmp_path / "new" / "a.tif") as got:
        assert got.crs is None
        assert got.shape == (33, 41)


def test_after_an_error_the_old_file_stands_and_nothing_else(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")

    class StopError(Exception):
        pass

    with pytest.raises(StopError), create_cog(path, POWER) as out:
        out.write(blocks(GRID.shape)[0], power_image()[:, :BLOCK, :BLOCK])
        raise StopError
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.tif"]


def test_a_disk_that_is_too_small_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(cog.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(MissingError, match=r"not enough disk space: 25\.2 MB needed, 0\.0 MB free"), create_cog(tmp_path / "a.tif", POWER):
        pass
    assert list(tmp_path.iterdir()) == []


def test_whole_blocks_count_for_the_space(tmp_path, monkeypatch):
    one = CogSpec(
        grid=MapGrid(crs=None, transform=Affine.identity(), shape=(1, 1)), dtype="uint8", bands=("a",), nodata=0, overviews="mode"
    )
    monkeypatch.setattr(cog.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2 * BLOCK**2 - 1})())
    with pytest.raises(MissingError, match=r"not enough disk space: 0\.5 MB"), create_cog(tmp_path / "a.tif", one):
        pass


def test_a_block_of_the_wrong_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not fit 1 bands"), create_cog(tmp_path / "a.tif", CLASSES) as out:
        out.write(Window(row=0, col=0, rows=2, cols=2), np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match="nodata 300 does not fit uint8"):
        CogSpec(grid=GRID, dtype="uint8", bands=("a",), nodata=300, overviews="mode")
