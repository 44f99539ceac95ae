"""Each packaged pipeline from a folder of simulated downloads to a GeoTIFF with class names, compared with the truth."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from sarseg.batch.config import packaged_pipeline, read_pipeline
from sarseg.batch.run import Outcome, run_pipeline
from sarseg.grid import MapGrid
from sarseg.raster.archive import list_members
from sarseg.simulate.jaxa import JaxaOptions, simulate_jaxa
from sarseg.simulate.landscape import make_landscape, write_landscape
from sarseg.simulate.options import LandscapeOptions
from sarseg.simulate.palsar import simulate_palsar
from sarseg.simulate.palsar_modes import PalsarOptions

SMALL = {"patches": {"size": 32, "stride": 16, "val_share": 0.1}, "train": {"batch": 8, "threads": 1, "validations": 1, "lr": 0.004}}
NET = {"width": 8, "depth": 2}
AS_FOREST_MAP = np.array([0, 3, 2, 2, 2, 2, 1, 2])
"""Of the landscape's classes water, bare, grass, cereal, broadleaf, forest, built (codes 1 to 7) the classes of each legend."""
AS_SAR5 = np.array([0, 1, 2, 2, 2, 2, 4, 5])
AS_WORLDCOVER = np.array([0, 80, 60, 30, 40, 40, 10, 50])


def run(name: str, downloads: Path, out: Path, **changes) -> Outcome:
    """A packaged pipeline as it is, but for the size of patches and network, and the region that is held out."""
    pipeline = read_pipeline(packaged_pipeline(name))
    options = {step: {**kept, **SMALL.get(step, {}), **changes.get(step, {})} for step, kept in pipeline.options.items()}
    return run_pipeline(replace(pipeline, options=options), downloads, out)


def truth_at(folder: Path, grid: MapGrid) -> np.ndarray:
    """Class codes of the landscape under the centres of a grid's pixels; 0 outside."""
    with rasterio.open(folder / "truth.tif") as file:
        codes, inverse, crs = file.read(1), ~file.transform, file.crs
    x, y = Transformer.from_crs(grid.crs.to_wkt(), crs.to_wkt(), always_xy=True).transform(*np.meshgrid(*grid.centres()))
    col, row = np.floor(inverse.a * x + inverse.c).astype(int), np.floor(inverse.e * y + inverse.f).astype(int)
    inside = (row >= 0) & (row < codes.shape[0]) & (col >= 0) & (col < codes.shape[1])
    return np.where(inside, codes[row.clip(0, codes.shape[0] - 1), col.clip(0, codes.shape[1] - 1)], 0)


def check(outcome: Outcome, folder: Path, table: np.ndarray, bounds, classes: dict[int, tuple[str, str]]) -> tuple[float, float]:
    """Asserts names, colours and the accuracy that the run tells; returns held-out accuracy and the commonest class's share."""
    assert not outcome.failed
    with rasterio.open(outcome.landcover / "landcover.tif") as file:
        codes, colours = file.read(1), file.colormap(1)
        tags = {**file.tags(), **file.tags(1)}
        assert (file.driver, file.dtypes, file.nodata) == ("GTiff", ("uint8",), 0)
        grid = MapGrid(crs=file.crs, transform=file.transform, shape=file.shape)
    assert {int(key[6:]): name for key, name in tags.items() if key.startswith("class_")} == {k: name for k, (name, _) in classes.items()}
    assert {code: "#{:02x}{:02x}{:02x}".format(*colours[code][:3]) for code in classes} == {k: colour for k, (_, colour) in classes.items()}
    x, y = np.meshgrid(*grid.centres())
    truth = table[truth_at(folder, grid)]
    held_out = (x > bounds[0]) & (y > bounds[1]) & (x < bounds[2]) & (y < bounds[3]) & (truth > 0) & (codes > 0)
    assert np.count_nonzero(held_out) > 1500
    commonest = np.bincount(truth[held_out]).max() / np.count_nonzero(held_out)
    accuracy = float((truth == codes)[held_out].mean())
    said = json.loads(outcome.accuracy.read_text())
    assert abs(said["overall_accuracy"] - accuracy) < 0.05
    return accuracy, float(commonest)


FOREST_MAP = {1: ("forest", "#006400"), 2: ("non-forest", "#ffff99"), 3: ("water", "#0000ff")}


def test_mosaic_tiles_to_a_forest_map(tmp_path):
    """Two tiles of 2020 with the forest map of 2018, whose four classes become three."""
    land = LandscapeOptions(size_px=500, lon_deg=11.0, lat_deg=48.97, field_ha=8.0)
    folder = tmp_path / "land"
    write_landscape(make_landscape(land), folder)
    downloads = tmp_path / "downloads"
    made = simulate_jaxa(downloads, JaxaOptions(year=2020, landscape_dir=folder, trimmed=True))
    shutil.rmtree(downloads / "fnf")
    simulate_jaxa(tmp_path / "later", JaxaOptions(year=2018, landscape_dir=folder, trimmed=True))
    shutil.move(tmp_path / "later" / "fnf", downloads)
    assert len(made.mosaic) == 2
    bounds = (11.012, 48.9, 11.05, 49.0)
    outcome = run("jaxa_mosaic_fnf", downloads, tmp_path / "out", patches={"test_bounds": bounds}, train={"steps": 100, "net_options": NET})
    accuracy, commonest = check(outcome, folder, AS_FOREST_MAP, bounds, FOREST_MAP)
    assert accuracy > commonest + 0.4 * (1 - commonest)
    assert outcome.products == (tmp_path / "out" / "unpacked" / "downloads",)
    inside = [member.base for tile in made.mosaic for member in list_members(tile)]
    assert sorted([*inside, "unpacked"]) == sorted(path.name for path in outcome.products[0].iterdir())


def test_palsar_scenes_to_a_forest_map(tmp_path):
    """One of ALOS of 2010 with the forest map of that year, which has three classes."""
    folder, downloads = tmp_path / "land", tmp_path / "downloads"
    write_landscape(make_landscape(LandscapeOptions(size_px=500, lon_deg=11.04, lat_deg=48.97, field_ha=8.0)), folder)
    simulate_palsar(downloads, PalsarOptions(mission="alos1", landscape_dir=folder, zipped=True))
    shutil.copy(folder / "dem.tif", downloads)
    simulate_jaxa(tmp_path / "jaxa", JaxaOptions(year=2010, landscape_dir=folder, trimmed=True))
    shutil.move(tmp_path / "jaxa" / "fnf", downloads)
    with rasterio.open(folder / "truth.tif") as file:
        left, bottom, right, top = file.bounds
    bounds = (left + 3300, bottom, right, top)
    outcome = run(
        "palsar_fnf",
        downloads,
        tmp_path / "out",
        patches={"test_bounds": bounds},
        train={"steps": 100, "net_options": NET},
        preprocess={"threads": 1},
    )
    accuracy, commonest = check(outcome, folder, AS_FOREST_MAP, bounds, FOREST_MAP)
    assert accuracy > commonest + 0.4 * (1 - commonest)


def hyp3(path: Path, name: str, power: np.ndarray, grid: MapGrid) -> None:
    """The zip of a product in power, with its layover and shadow map."""
    layers = {"VV": power[0].astype("f4"), "VH": power[1].astype("f4"), "ls_map": np.ones(grid.shape, "u1")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for layer, values in layers.items():
            with rasterio.MemoryFile() as memory:
                profile = {"driver": "GTiff", "height": grid.shape[0], "width": grid.shape[1], "count": 1, "dtype": values.dtype}
                with memory.open(**profile, crs=grid.crs, transform=grid.transform, nodata=0) as file:
                    file.write(values, 1)
                archive.writestr(f"{name}/{name}_{layer}.tif", memory.read())


def worldcover(folder: Path, landscape_dir: Path, bounds) -> None:
    """The part of a WorldCover tile that lies in bounds (degrees), on the product's lattice of 1/12000 degree."""
    grid = MapGrid.snapped(CRS.from_epsg(4326), bounds, 1 / 12000)
    codes = AS_WORLDCOVER[truth_at(landscape_dir, grid)].astype("u1")
    folder.mkdir(parents=True)
    profile = {"driver": "GTiff", "height": grid.shape[0], "width": grid.shape[1], "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(
        folder / "ESA_WorldCover_10m_2021_v200_N48E009_Map.tif", "w", **profile, crs=grid.crs, transform=grid.transform, compress="deflate"
    ) as file:
        file.write(codes, 1)


def test_hyp3_products_to_land_cover(tmp_path):
    """Two dates of 30 m over one landscape."""
    land = make_landscape(LandscapeOptions(size_px=900, relief_m=0.0, field_ha=15.0))
    folder, downloads = tmp_path / "land", tmp_path / "downloads"
    write_landscape(land, folder)
    downloads.mkdir()
    grid = MapGrid(crs=land.grid.crs, transform=land.grid.transform @ Affine.scale(3), shape=(300, 300))
    mean = land.gamma0_39.reshape(2, 300, 3, 300, 3).mean(axis=(2, 4))
    for number, day in enumerate(("20210604", "20210616")):
        speckle = np.random.default_rng(number).gamma(13.0, 1 / 13.0, mean.shape)  # 4.4 looks and their correlation over 3 x 3 pixels
        name = f"S1A_IW_{day}T051827_DVP_RTC30_G_gpuned_{number:04X}"
        hyp3(downloads / f"{name}.zip", name, (mean + 10**-2.8) * speckle, grid)
    left, bottom, right, top = land.grid.bounds_in(CRS.from_epsg(4326))
    worldcover(downloads / "worldcover", folder, (left - 0.01, bottom - 0.01, right + 0.01, top + 0.01))
    bounds = (grid.bounds[0] + 6000, grid.bounds[1], grid.bounds[2], grid.bounds[3])
    outcome = run("hyp3_landcover", downloads, tmp_path / "out", patches={"test_bounds": bounds}, train={"steps": 120, "net_options": NET})
    classes = {
        1: ("water", "#0064c8"),
        2: ("bare and low vegetation", "#ffff4c"),
        3: ("shrub and wetland", "#ffbb22"),
        4: ("forest", "#006400"),
        5: ("built-up", "#fa0000"),
    }
    accuracy, commonest = check(outcome, folder, AS_SAR5, bounds, classes)
    assert accuracy > commonest + 0.4 * (1 - commonest)
    assert len(outcome.maps) == 2
