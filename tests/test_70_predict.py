"""Maps from products: nodata, bands, classes and colours as other software sees them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate
from torch import nn

from sarseg.cli.main import run
from sarseg.decibel import to_db
from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.legend import LandClass, Legend
from sarseg.nets.compact import CompactUNet, CompactUNetConfig
from sarseg.nets.infer import TileOptions
from sarseg.nets.modelfile import BandSpec, Model, ModelSpec, save_model
from sarseg.predict.engine import PredictOptions, predict
from sarseg.product.folder import create_product
from sarseg.product.open import open_map
from sarseg.product.stac import make_item
from sarseg.raster.cog import CogSpec, create_cog
from sarseg.tiles import Window

torch.set_num_threads(1)

LEGEND = Legend(
    (
        LandClass(code=1, name="water", color=(0, 0, 250)),
        LandClass(code=3, name="bare & dry", color=(200, 150, 90)),
        LandClass(code=9, name="forest", color=(0, 120, 10)),
    )
)
UTM = CRS.from_epsg(32633)
SMALL_TILES = PredictOptions(tiles=TileOptions(tile_px=48, overlap_px=12))


class Thresholds(nn.Module):
    """A network without context: class 0, 1, 2 where the first band is below -1, between, above 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = x[:, :1]
        return torch.cat([-4 * (v + 1), 2 - 2 * v.abs(), 4 * (v - 1)], 1)


def thresholds(scale: str = "db", names: tuple[str, ...] = ("VV", "VH")) -> Model:
    bands = tuple(BandSpec(name=name, scale=scale, mean=-12.0 - 4 * at, std=3.0) for at, name in enumerate(names))  # type: ignore[arg-type]
    quantity = "raw" if scale == "raw" else "power"
    return Model(Thresholds(), ModelSpec(network="compact_unet", bands=bands, quantity=quantity, legend=LEGEND), Path("thresholds"))


def grid_of(shape: tuple[int, int]) -> MapGrid:
    return MapGrid(crs=UTM, transform=Affine(10, 0, 399_990, 0, -10, 4_650_020), shape=shape)


def write_ard(folder: Path, bands: dict[str, NDArray[np.float32]], mask: NDArray[np.uint8] | None = None) -> Path:
    shape = next(iter(bands.values())).shape
    grid = grid_of((shape[0], shape[1]))
    with create_product(folder) as out:
        for name, data in bands.items():
            spec = CogSpec(grid=grid, dtype="float32", bands=(name,), nodata=float("nan"), overviews="average")
            with create_cog(out.path / f"{name}.tif", spec) as cog:
                cog.write(Window.whole(grid.shape), data)
        if mask is not None:
            spec = CogSpec(grid=grid, dtype="uint8", bands=("mask",), nodata=None, overviews="mode")
            with create_cog(out.path / "mask.tif", spec) as cog:
                cog.write(Window.whole(grid.shape), mask)
        out.finish(make_item(folder.name, grid, assets={}, properties={"sarseg:warnings": []}, datetime_utc="2024-05-06T07:08:09Z"))
    return folder


def powers(shape: tuple[int, int], seed: int = 1) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    smooth = np.kron(rng.uniform(-22, -2, (shape[0] // 8 + 1, shape[1] // 8 + 1)), np.ones((8, 8)))[: shape[0], : shape[1]]
    vv = 10 ** (smooth / 10) * rng.gamma(20, 1 / 20, shape)
    return {"VV": vv.astype("f4"), "VH": (vv / 5).astype("f4")}


def expected_codes(vv: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The thresholds by hand, in dB."""
    z = (to_db(vv) + 12.0) / 3.0
    logits = np.stack([-4 * (z + 1), 2 - 2 * np.abs(z), 4 * (z - 1)])
    codes = np.array([1, 3, 9], np.uint8)[np.nan_to_num(logits).argmax(0)]
    codes[np.isnan(vv)] = 0
    return codes


def test_map_holds_the_classes_and_nodata_of_each_pixel(tmp_path: Path) -> None:
    bands = powers((101, 77))
    bands["VV"][10, 20] = np.nan
    bands["VV"][60:, :15] = bands["VH"][60:, :15] = np.nan
    bands["VH"][99, 76] = np.nan
    mask = np.zeros((101, 77), np.uint8)
    mask[np.isnan(bands["VV"])] = 1
    mask[30:34, 30:40] = 2
    mask[50:53, 70:] = 4
    ard = write_ard(tmp_path / "scene_gamma0", bands, mask)
    folder = predict(thresholds(), ard, tmp_path / "maps", SMALL_TILES)
    assert folder == tmp_path / "maps" / "scene_gamma0"

    expected = expected_codes(bands["VV"])
    expected[99, 76] = 0
    found = open_map(folder)
    np.testing.assert_array_equal(found.codes(), expected)
    assert found.grid == grid_of((101, 77))
    confidence = found.confidence()
    assert confidence is not None
    np.testing.assert_array_equal(confidence == 0, expected == 0)
    z = (to_db(bands["VV"][0, 0]) + 12.0) / 3.0
    chance = np.exp([-4 * (z + 1), 2 - 2 * abs(z), 4 * (z - 1)])
    assert confidence[0, 0] == pytest.approx(255 * chance.max() / chance.sum(), abs=1.01)

    item = json.loads((folder / "item.json").read_text())
    assert item["properties"]["sarseg:mapped_under"] == {"layover": 40, "shadow": 21}
    assert item["properties"]["sarseg:pixels"]["nodata"] == int((expected == 0).sum())
    assert item["properties"]["sarseg:pixels"]["bare & dry"] == int((expected == 3).sum())
    assert item["properties"]["sarseg:warnings"] == []
    assert item["properties"]["datetime"] == "2024-05-06T07:08:09Z"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confidence.tif",
        "item.json",
        "landcover.qml",
        "landcover.tif",
        "landcover.tif.aux.xml",
        "quicklook.png",
    ]
    for asset in item["assets"].values():
        assert (folder / asset["href"]).is_file()


def test_tiles_and_threads_change_no_pixel_of_a_network_without_context(tmp_path: Path) -> None:
    ard = write_ard(tmp_path / "scene", powers((90, 130)))
    ways = {
        "small": SMALL_TILES,
        "odd": PredictOptions(tiles=TileOptions(tile_px=37, overlap_px=30), threads=2),
        "whole": PredictOptions(),
    }
    maps = {name: open_map(predict(thresholds(), ard, tmp_path / name, way)).codes() for name, way in ways.items()}
    np.testing.assert_array_equal(maps["small"], maps["whole"])
    np.testing.assert_array_equal(maps["odd"], maps["whole"])


def test_same_map_has_the_same_bytes(tmp_path: Path) -> None:
    ard = write_ard(tmp_path / "scene", powers((40, 50)))
    first, second = (predict(thresholds(), ard, tmp_path / name, PredictOptions(probabilities=True)) for name in ("a", "b"))
    for path in sorted(first.iterdir()):
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_probabilities_on_demand(tmp_path: Path) -> None:
    bands = powers((40, 50))
    bands["VV"][3, 4] = np.nan
    ard = write_ard(tmp_path / "scene", bands)
    folder = predict(thresholds(), ard, tmp_path / "maps", PredictOptions(probabilities=True))
    with rasterio.open(folder / "probabilities.tif") as file:
        chance, names = file.read(), file.descriptions
    assert names == ("water", "bare & dry", "forest")
    codes = open_map(folder).codes()
    valid = codes > 0
    assert np.abs(chance.astype(int).sum(0)[valid] - 65535).max() <= 2
    assert not chance[:, 3, 4].any()
    np.testing.assert_array_equal(np.array([1, 3, 9])[chance.argmax(0)][valid], codes[valid])


def test_other_software_sees_names_colours_and_a_valid_cog(tmp_path: Path) -> None:
    folder = predict(thresholds(), write_ard(tmp_path / "scene", powers((700, 530))), tmp_path / "maps", PredictOptions(probabilities=True))
    for name in ("landcover.tif", "confidence.tif", "probabilities.tif"):
        valid, errors, warnings = cog_validate(folder / name, strict=True)
        assert valid, (errors, warnings)
    with rasterio.open(folder / "landcover.tif") as file:
        assert file.colormap(1)[3] == (200, 150, 90, 255)
        assert file.nodata == 0
        assert file.tags()["class_3"] == "bare & dry"
        assert file.block_shapes == [(512, 512)]
        assert file.crs == UTM
        codes = file.read(1)
        small = file.read(1, out_shape=(350, 265))
    assert set(np.unique(small)) <= set(np.unique(codes)), "an overview invented a class"
    tree = ElementTree.parse(folder / "landcover.tif.aux.xml")
    assert [one.text or "" for one in tree.iter("Category")] == ["nodata", "water", "", "bare & dry", "", "", "", "", "", "forest"]
    style = ElementTree.parse(folder / "landcover.qml")
    entries = {one.get("value"): (one.get("label"), one.get("color")) for one in style.iter("paletteEntry")}
    assert entries == {"1": ("water", "#0000fa"), "3": ("bare & dry", "#c8965a"), "9": ("forest", "#00780a")}
    picture = np.asarray(Image.open(folder / "quicklook.png"))
    assert picture.shape == (700, 530, 4)
    np.testing.assert_array_equal((picture[:, :, 0] == 200), codes == 3)


def test_category_names_reach_gdal(tmp_path: Path) -> None:
    """GDAL copies category names into a VRT: rasterio cannot show them, but its own GDAL can write them out."""
    folder = predict(thresholds(), write_ard(tmp_path / "scene", powers((20, 30))), tmp_path / "maps")
    rasterio.shutil.copy(folder / "landcover.tif", tmp_path / "copy.vrt", driver="VRT")
    names = [one.text or "" for one in ElementTree.parse(tmp_path / "copy.vrt").iter("Category")]
    assert names == ["nodata", "water", "", "bare & dry", "", "", "", "", "", "forest"]


def test_tiff_alone_still_names_its_classes(tmp_path: Path) -> None:
    folder = predict(thresholds(), write_ard(tmp_path / "scene", powers((20, 30))), tmp_path / "maps")
    (tmp_path / "elsewhere").mkdir()
    alone = tmp_path / "elsewhere" / "somewhere.tif"
    alone.write_bytes((folder / "landcover.tif").read_bytes())
    assert open_map(alone).legend == LEGEND


def test_empty_product_gives_nodata_and_a_warning(tmp_path: Path) -> None:
    empty = {name: np.full((33, 21), np.nan, np.float32) for name in ("VV", "VH")}
    folder = predict(thresholds(), write_ard(tmp_path / "scene", empty), tmp_path / "maps")
    assert not open_map(folder).codes().any()
    item = json.loads((folder / "item.json").read_text())
    assert item["properties"]["sarseg:warnings"] == ["no valid pixel: the whole map is nodata"]


def test_tiles_unlike_the_patches_are_told_where_they_matter(tmp_path: Path) -> None:
    ard = write_ard(tmp_path / "scene", powers((60, 70)))
    plain = thresholds()
    spec = plain.spec.model_copy(update={"training": {"patch_px": 32}})
    pooling = Model(Thresholds(), spec, plain.path)
    pooling.network.pools_globally = True  # type: ignore[assignment]
    for one, tile, told in ((pooling, 512, True), (pooling, 32, False), (Model(Thresholds(), spec, plain.path), 512, False)):
        options = PredictOptions(tiles=TileOptions(tile_px=tile, overlap_px=8))
        item = json.loads((predict(one, ard, tmp_path / "maps", options) / "item.json").read_text())
        said = item["properties"]["sarseg:warnings"]
        assert any("it learnt from 32 pixels, the tiles have 70; try --tile 32" in one for one in said) == told


def test_missing_bands_are_named(tmp_path: Path) -> None:
    ard = write_ard(tmp_path / "scene", {"VV": powers((20, 30))["VV"]})
    with pytest.raises(InputError, match="no band VH, which the model takes"):
        predict(thresholds(), ard, tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_power_and_raw_values_are_not_mixed_up(tmp_path: Path) -> None:
    ard = write_ard(tmp_path / "scene", powers((20, 30)))
    with pytest.raises(InputError, match="the model takes values as they stand, not linear power"):
        predict(thresholds("raw"), ard, tmp_path / "maps")
    with pytest.raises(InputError, match="the model takes linear power, not values as they stand"):
        predict(thresholds("db", ("VV",)), ard / "VV.tif", tmp_path / "maps")


def test_png_without_georeference_is_mapped_by_band_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rgb = rng.integers(0, 256, (41, 67, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    bands = tuple(BandSpec(name=name, scale="raw", mean=128.0, std=50.0) for name in ("b1", "b2", "b3"))
    model = Model(Thresholds(), ModelSpec(network="compact_unet", bands=bands, quantity="raw", legend=LEGEND), Path("m"))
    folder = predict(model, tmp_path / "photo.png", tmp_path / "maps")
    found = open_map(folder)
    assert found.grid.crs is None
    z = (rgb[:, :, 0].astype("f8") - 128) / 50
    expected = np.array([1, 3, 9])[np.stack([-4 * (z + 1), 2 - 2 * np.abs(z), 4 * (z - 1)]).argmax(0)]
    np.testing.assert_array_equal(found.codes(), expected)
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(folder / "landcover.tif") as file:
        assert file.crs is None


def write_unnamed(path: Path, values: np.ndarray) -> None:
    """A raster whose bands have no names."""
    count, *shape = values.shape
    grid = grid_of((shape[0], shape[1]))
    profile = {"driver": "GTiff", "count": count, "height": shape[0], "width": shape[1], "crs": UTM, "transform": grid.transform}
    with rasterio.open(path, "w", dtype=values.dtype.name, **profile) as file:
        file.write(values)


def test_unnamed_bands_match_by_order_with_a_warning(tmp_path: Path) -> None:
    data = np.random.default_rng(3).normal(-12, 6, (2, 25, 31)).astype("f4")
    write_unnamed(tmp_path / "chip.tif", data)
    folder = predict(thresholds("raw"), tmp_path / "chip.tif", tmp_path / "maps")
    assert json.loads((folder / "item.json").read_text())["properties"]["sarseg:warnings"] == ["bands matched by order: VV = b1, VH = b2"]
    with pytest.raises(InputError, match="no band VV, VH, HH"):
        predict(thresholds("raw", ("VV", "VH", "HH")), tmp_path / "chip.tif", tmp_path / "maps")


def test_an_image_of_more_bands_without_names_is_told(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 256, (4, 20, 30), dtype=np.uint16)
    write_unnamed(tmp_path / "four.tif", values)
    bands = tuple(BandSpec(name=name, scale="raw", mean=128.0, std=50.0) for name in ("b1", "b2", "b3"))
    model = Model(Thresholds(), ModelSpec(network="compact_unet", bands=bands, quantity="raw", legend=LEGEND), Path("m"))
    folder = predict(model, tmp_path / "four.tif", tmp_path / "maps")
    said = json.loads((folder / "item.json").read_text())["properties"]["sarseg:warnings"]
    assert said == ["the bands have no names: the model takes b1, b2, b3, and leaves out b4"]


def test_command_maps_several_products(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = CompactUNet(CompactUNetConfig(bands=2, classes=3, width=4, depth=1, stem=1))
    spec = thresholds().spec.model_copy(update={"options": {"width": 4, "depth": 1, "stem": 1}})
    model = save_model(tmp_path / "model", network, spec)
    for name in ("one", "two"):
        write_ard(tmp_path / name, powers((30, 40)))
    code = run(["--quiet", "predict", str(model), str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "maps")])
    assert code == 0
    said = capsys.readouterr().out.split("\n")
    assert said[:2] == [f"map: {tmp_path / 'maps' / name}" for name in ("one", "two")]
    assert run(["predict", str(model), str(tmp_path / "one"), str(tmp_path / "one"), "-o", str(tmp_path / "x")]) == 2
    assert run(["predict", str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "x")]) == 3
    errors = capsys.readouterr().err
    assert "two products are named one" in errors
    assert "no model" in errors


def test_real_chip_without_radar_data_is_nodata_with_a_warning(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    size = {"width": 4, "depth": 1, "stem": 2}
    spec = thresholds("raw").spec.model_copy(update={"options": size})
    model = save_model(tmp_path / "model", CompactUNet(CompactUNetConfig(bands=2, classes=3, **size)), spec)
    chips = [shared / "data/sen1floods11" / f"{name}_S1Hand.tif" for name in ("Paraguay_34417", "Bolivia_312675")]
    assert run(["predict", str(model), *map(str, chips), "-o", str(tmp_path / "maps"), "--threads", "1"]) == 0
    assert "Paraguay_34417_S1Hand: no valid pixel: the whole map is nodata" in capsys.readouterr().err
    for chip in chips:
        with rasterio.open(chip) as file:
            empty, transform = (file.read_masks() == 0).any(0), file.transform
        found = open_map(tmp_path / "maps" / chip.stem)
        np.testing.assert_array_equal(found.codes() == 0, empty)
        assert found.grid.transform == transform
    assert 0 < empty.mean() < 1
