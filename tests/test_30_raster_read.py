"""Rasters of many kinds, read as windows and compared with rasterio's own masked arrays."""

import concurrent.futures
import pickle

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp

from sarseg.errors import InputError, MissingError
from sarseg.raster.read import open_raster
from sarseg.tiles import Window

SHAPE = (37, 53)
WINDOW = Window(row=5, col=11, rows=20, cols=31)


def write(path, data, **profile):
    scale = profile.pop("scales", None)
    names = profile.pop("descriptions", None)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=data.shape[1],
        width=data.shape[2],
        count=data.shape[0],
        dtype=data.dtype,
        crs="EPSG:32633",
        transform=Affine(10, 0, 300000, 0, -10, 4600000),
        **profile,
    ) as target:
        target.write(data)
        if scale:
            target.scales = scale
        if names:
            target.descriptions = names
    return path


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0), ("int16", -32768), ("uint16", None), ("float32", float("nan")), ("float64", -9999.0), ("int32", 7)]
)
def test_windows_equal_rasterio(tmp_path, dtype, nodata):
    rng = np.random.default_rng(1)
    data = rng.integers(0, 200, (3, *SHAPE)).astype(dtype)
    if nodata is not None:
        data[rng.random(data.shape) < 0.1] = nodata
    path = write(tmp_path / "a.tif", data, nodata=nodata, descriptions=("VV", "VH", "angle"), tiled=True, blockxsize=16, blockysize=16)
    raster = open_raster(path)
    assert raster.bands == ("VV", "VH", "angle")
    got = raster.read(WINDOW, ["angle", "VV"])
    want = data[[2, 0]][(slice(None), *WINDOW.slices)].astype("f4")
    if nodata is not None:
        want[np.isnan(want) if np.isnan(nodata) else want == np.float32(nodata)] = np.nan
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


def test_scale_and_offset_are_applied_after_nodata(tmp_path):
    data = np.array([[[-32768, 1234], [-550, 0]]], np.int16)
    path = write(tmp_path / "a.tif", data, nodata=-32768, scales=(0.01,))
    np.testing.assert_allclose(open_raster(path).read()[0], [[np.nan, 12.34], [-5.5, 0]], rtol=1e-6)


def test_large_integers_do_not_lose_their_nodata(tmp_path):
    data = np.array([[[16777217, 16777216]]], np.int32)
    path = write(tmp_path / "a.tif", data, nodata=16777217)
    np.testing.assert_array_equal(open_raster(path).read()[0], [[np.nan, 16777216]])


def test_png_has_no_georeference_and_alpha_is_a_mask(tmp_path):
    rgba = np.random.default_rng(0).integers(1, 255, (*SHAPE, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    rgba[3, 4, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    raster = open_raster(tmp_path / "a.png")
    assert raster.grid.crs is None
    assert raster.grid.transform == Affine.identity()
    assert raster.grid.shape == SHAPE
    assert len(raster.bands) == 3
    got = raster.read()
    want = rgba[..., :3].transpose(2, 0, 1).astype("f4")
    want[:, 3, 4] = np.nan
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [(40, 50), (700, 900)])
def test_a_fourth_band_of_values_is_no_transparency(tmp_path, size):
    """GDAL marks the fourth band of any uint8 GeoTIFF as alpha, unless it is told otherwise."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (4, *size), dtype=np.uint8)
    path = write(tmp_path / "nir.tif", data)
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    raster = open_raster(path)
    assert (raster.bands, raster.numbers) == (("b1", "b2", "b3", "b4"), (1, 2, 3, 4))
    np.testing.assert_array_equal(raster.read(), data)  # valid where the fourth is 0 too
    data[3] = 255
    data[3, :, : size[1] // 3] = 0
    data[3, :, size[1] // 3] = 100  # a feathered edge
    raster = open_raster(write(tmp_path / "rgba.tif", data))
    assert raster.numbers == (1, 2, 3)
    np.testing.assert_array_equal(raster.read(), np.where(data[3] > 0, data[:3], np.float32(np.nan)))
    data[3] = 0
    assert np.isnan(open_raster(write(tmp_path / "nothing.tif", data)).read()).all()


def test_codes_as_stored_and_palette(tmp_path):
    codes = np.random.default_rng(0).integers(0, 4, (1, *SHAPE), dtype=np.uint8)
    path = write(tmp_path / "a.tif", codes, nodata=0, photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {1: (1, 2, 3, 255)})
    raster = open_raster(path)
    np.testing.assert_array_equal(raster.read_codes(WINDOW), codes[0][WINDOW.slices])
    assert raster.colormap[1] == (1, 2, 3, 255)
    floats = write(tmp_path / "b.tif", codes.astype("f4"))
    with pytest.raises(InputError, match="holds integers, not float32"):
        open_raster(floats).read_codes()


def test_threads_and_pickle_read_the_same(tmp_path):
    data = np.random.default_rng(0).random((1, 256, 256), np.float32)
    raster = open_raster(write(tmp_path / "a.tif", data, tiled=True, blockxsize=32, blockysize=32, compress="deflate"))
    copy = pickle.loads(pickle.dumps(raster))
    windows = [Window(row=r, col=c, rows=40, cols=24) for r in range(0, 200, 20) for c in range(0, 220, 20)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for window, got in zip(windows, pool.map(copy.read, windows), strict=True):
            np.testing.assert_array_equal(got[0], data[0][window.slices])


def test_a_replaced_file_is_read_anew(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 5, 6), np.float32))
    assert open_raster(path).read().max() == 0
    write(tmp_path / "b.tif", np.ones((1, 5, 6), np.float32)).replace(path)
    assert open_raster(path).read().min() == 1


@pytest.mark.parametrize("content", [None, b"", b"II*\0garbage", b"no raster at all"])
def test_bad_files_are_one_clear_error(tmp_path, content):
    path = tmp_path / "a.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="no such file" if content is None else "cannot be read as a raster"):
        open_raster(path)


def test_a_truncated_file_fails_when_it_is_read(tmp_path):
    data = np.random.default_rng(0).random((1, 256, 256), np.float32)
    path = write(tmp_path / "a.tif", data)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"damaged|cannot be read"):
        open_raster(path).read()


def test_infinite_values_are_nodata(tmp_path):
    data = np.array([[[1.0, np.inf], [-np.inf, 1e300]]])
    got = open_raster(write(tmp_path / "a.tif", data)).read()[0]
    np.testing.assert_array_equal(got, np.array([[1.0, np.nan], [np.nan, np.nan]], "f4"))


def test_a_file_that_may_not_be_read_is_missing_permission(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", np.ones((1, *SHAPE), "u1"))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(MissingError, match="no permission to read"):
        open_raster(path)


def test_an_unknown_band_is_named(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 5, 6), np.float32), descriptions=("VV",))
    with pytest.raises(InputError, match=r"no band 'HH'.*bands are VV"):
        open_raster(path).read(bands=["HH"])
