"""Product folders: published last, opened as products, described by a STAC item."""

import json

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from rasterio import warp
from rasterio.crs import CRS

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.legend import LandClass, Legend
from sarseg.masks import Mask
from sarseg.product.folder import create_folder, create_product, read_json, write_json
from sarseg.product.open import open_map, open_product
from sarseg.product.stac import asset, make_item, mask_bitfields
from sarseg.raster.cog import CogSpec, create_cog
from sarseg.tiles import Window, blocks

GRID = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 290370, 0, -10, 4655100), shape=(601, 77))
LEGEND = Legend((LandClass(code=2, name="water", color=(0, 0, 255)), LandClass(code=5, name="forest", color=(0, 99, 0))))


def put(path, image, **more):
    spec = CogSpec(**{"grid": GRID, "dtype": str(image.dtype), "bands": (path.stem,), "nodata": None, "overviews": "average", **more})
    with create_cog(path, spec) as out:
        for block in blocks(GRID.shape):
            out.write(block, image[block.slices])


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(4)
    bands = {name: rng.gamma(4.4, 0.1, GRID.shape).astype("f4") for name in ("VV", "VH", "incidence")}
    mask = np.where(rng.random(GRID.shape) < 0.1, np.uint8(Mask.NO_DATA), np.uint8(0))
    mask[5, 6] = Mask.SHADOW
    bands["VV"][(mask & 1) == 1] = np.nan
    bands["VH"][(mask & 1) == 1] = np.nan
    return {**bands, "mask": mask}


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    final = tmp_path_factory.mktemp("product") / "scene_gamma0"
    with create_product(final) as out:
        for name, image in images.items():
            put(out.path / f"{name}.tif", image)
        assets = {"VV": asset("VV.tif", "gamma0 VV", "data"), "mask": asset("mask.tif", "mask", "metadata")}
        properties = {"sarseg:warnings": ["the DEM covers 31 % of the scene"], "sarseg:mask_computed": [1, 2, 4]}
        item = make_item("scene", GRID, assets=assets, properties=properties, datetime_utc="2021-12-23T05:11:35Z")
        assert not final.exists()
        out.finish(item)
    assert [one.name for one in final.parent.iterdir()] == ["scene_gamma0"]
    return final


def test_a_product_reads_what_was_written(folder, images):
    product = open_product(folder)
    window = Window(row=490, col=3, rows=40, cols=50)
    assert product.bands == ("VV", "VH")
    assert product.quantity == "power"
    assert product.grid == GRID
    assert product.datetime_utc == "2021-12-23T05:11:35Z"
    want = np.stack([images[name][window.slices] for name in ("incidence", "VV")])
    np.testing.assert_array_equal(product.read(window, ["incidence", "VV"]), want)
    np.testing.assert_array_equal(product.mask(window), images["mask"][window.slices])
    assert product.valid()[5, 6]
    assert (product.valid() == ((images["mask"] & 1) == 0)).all()


def test_the_lazy_form_is_the_same(folder, images):
    lazy = open_product(folder).to_xarray()
    for name, image in images.items():
        np.testing.assert_array_equal(lazy[name].compute(scheduler="sync").values, image)
    x, y = GRID.centres()
    np.testing.assert_array_equal(lazy.x, x)
    np.testing.assert_array_equal(lazy.y, y)


def test_the_item_is_stac(folder):
    item = pystac.Item.from_file(str(folder / "item.json"))
    assert item.properties["proj:code"] == "EPSG:32633"
    assert item.properties["proj:shape"] == [601, 77]
    assert item.properties["proj:transform"] == [10, 0, 290370, 0, -10, 4655100]
    west, south, east, north = item.bbox
    # GDAL's own copy of PROJ; the corners of a box this far west of the central meridian are its extremes
    left, bottom, right, top = GRID.bounds
    lon, lat = warp.transform(GRID.crs, CRS.from_epsg(4326), [left, left, right, right], [bottom, top, bottom, top])
    np.testing.assert_allclose([west, south, east, north], [min(lon), min(lat), max(lon), max(lat)], atol=1e-7)
    assert item.assets["VV"].media_type.startswith("image/tiff")
    json.dumps(item.to_dict(include_self_link=False), allow_nan=False)


def test_an_unknown_time_spans_all_time():
    item = make_item("a", GRID, assets={}, properties={})
    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"] < item["properties"]["end_datetime"]


def test_a_grid_across_180_degrees_has_two_parts():
    across = MapGrid(crs=CRS.from_epsg(32660), transform=Affine(1000, 0, 780000, 0, -1000, 1000000), shape=(50, 100))
    geometry = make_item("a", across, assets={}, properties={})["geometry"]
    assert geometry["type"] == "MultiPolygon"
    for part in geometry["coordinates"]:
        assert all(-180 <= lon <= 180 for lon, _ in part[0])


def test_bitfields_name_every_bit():
    fields = {1 << field["offset"]: field["name"] for field in mask_bitfields()}
    assert fields == {1: "no_data", 2: "layover", 4: "shadow", 8: "dem_filled", 16: "area_floor", 32: "below_noise", 64: "border"}


def test_a_folder_without_item_is_no_product(folder, tmp_path):
    (tmp_path / "VV.tif").write_bytes((folder / "VV.tif").read_bytes())
    with pytest.raises(InputError, match=r"no product: it has no item\.json"):
        open_product(tmp_path)
    (tmp_path / "item.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        open_product(tmp_path)
    (tmp_path / "item.json").write_text("[]")
    with pytest.raises(InputError, match="no STAC item"):
        open_product(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        open_product(tmp_path / "absent")


def test_after_an_error_nothing_stays_and_the_old_product_stands(tmp_path):
    final = tmp_path / "p"
    with create_folder(final, mark="item.json") as part:
        write_json(part / "item.json", {"old": True})
    with pytest.raises(KeyError), create_product(final):
        raise KeyError
    assert read_json(final / "item.json") == {"old": True}
    assert [one.name for one in tmp_path.iterdir()] == ["p"]


def test_a_foreign_folder_is_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="not ours to replace"), create_product(tmp_path / "photos"):
        pass
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"x"


def test_any_raster_is_a_raw_product(folder):
    product = open_product(folder / "VV.tif")
    assert product.quantity == "raw"
    assert product.bands == ("VV",)
    np.testing.assert_array_equal(product.mask() == 1, np.isnan(product.read()[0]))
    with pytest.raises(InputError, match="no band HH"):
        product.read(bands=["HH"])


def test_a_map_finds_its_names_in_the_tiff_alone(tmp_path):
    codes = np.full(GRID.shape, 5, np.uint8)
    codes[:9] = 2
    put(tmp_path / "copied.tif", codes, nodata=0, overviews="mode", tags=LEGEND.tags(), colormap=LEGEND.colormap())
    got = open_map(tmp_path / "copied.tif")
    assert got.legend == LEGEND
    assert got.confidence() is None
    np.testing.assert_array_equal(got.codes(), codes)
    with rasterio.open(tmp_path / "copied.tif") as file:
        assert file.colormap(1)[5] == (0, 99, 0, 255)
    put(tmp_path / "bare.tif", codes, nodata=0)
    with pytest.raises(InputError, match="names no classes"):
        open_map(tmp_path / "bare.tif")
    codes[3, 4] = 77
    put(tmp_path / "odd.tif", codes, nodata=0, overviews="mode", tags=LEGEND.tags())
    with pytest.raises(InputError, match="code 77 is no class of the map"):
        open_map(tmp_path / "odd.tif").codes()
