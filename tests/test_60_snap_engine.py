"""The SNAP engine's products against the native engine's: the same files, grid, tags, item and mask; and what it gives to SNAP.

SNAP is a stand-in that computes what is known of SNAP 13 and 14 (fake_snap_chain.py), by its own geometry (snap_replay.py).
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from click.testing import CliRunner
from fake_snap import install_fake
from fake_snap_chain import write_dimap
from palsar_files import Made, ground_of, lonlat
from palsar_files import write_product as write_palsar
from pyproj import Transformer
from scipy.ndimage import binary_erosion
from snap_geoid import write_geoid
from torch import nn

from sarseg.ard.preprocess import PreprocessOptions, preprocess
from sarseg.ard.snap import engine
from sarseg.ard.snap.check import check_graph
from sarseg.ard.snap.engine import SnapOptions, preprocess_snap
from sarseg.ard.snap.failures import SnapFailed
from sarseg.ard.snap.graphxml import read_graph
from sarseg.ard.snap.runner import RunReport
from sarseg.cli.main import cli, run
from sarseg.errors import InputError, MissingError, UsageError
from sarseg.legend import LandClass, Legend
from sarseg.masks import Mask
from sarseg.nets.modelfile import BandSpec, Model, ModelSpec
from sarseg.predict.engine import predict
from sarseg.product.open import Product, open_map, open_product
from sarseg.raster.read import open_raster
from sarseg.scene.open import open_scene
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.sentinel1 import SimulatedScene, simulate_sentinel1
from sarseg.tiles import Window


@pytest.fixture(scope="module")
def geoid(tmp_path_factory) -> Path:
    return write_geoid(tmp_path_factory.mktemp("geoid"))


# Products of both engines


KINDS = (("Gamma0", 1.0), ("Floor", 10.0))


@dataclass(frozen=True)
class Case:
    """A simulated scene over land with lakes, a DEM with a void for the open sea, and a geoid."""

    sim: SimulatedScene
    dem: Path
    options: PreprocessOptions
    folder: Path


@dataclass(frozen=True)
class Pair:
    """Products of the two engines for one scene."""

    native: Path
    snap: Path
    case: Case

    def opened(self) -> tuple[Product, Product]:
        return open_product(self.native), open_product(self.snap)

    def items(self) -> tuple[dict, dict]:
        native, snap = (json.loads((folder / "item.json").read_text()) for folder in (self.native, self.snap))
        return native, snap


@pytest.fixture(scope="module")
def scene(tmp_path_factory, geoid) -> Case:
    folder = tmp_path_factory.mktemp("scene")
    sim = simulate_sentinel1(folder, Sentinel1Options(landscape=LandscapeOptions(size_px=230, relief_m=150, field_ha=3, seed=5), seed=5))
    dem = folder / "coarse" / "dem.tif"
    dem.parent.mkdir()
    with rasterio.open(sim.dem) as file:
        heights = file.read(1)[1::3, 1::3]
        heights[-20:, -24:] = np.nan  # the open sea
        profile = {**file.profile, "height": heights.shape[0], "width": heights.shape[1], "transform": file.transform @ Affine.scale(3)}
    with rasterio.open(dem, "w", **profile | {"nodata": np.nan}) as file:
        file.write(heights, 1)
    return Case(sim=sim, dem=dem, options=PreprocessOptions(threads=1, geoid=geoid), folder=folder)


@pytest.fixture(scope="module")
def native(scene) -> Path:
    return preprocess(scene.sim.safe, scene.folder / "native", [scene.dem], scene.options)


@pytest.fixture(scope="module", params=["13.0.2", "14.0.0"])
def pair(request, scene, native) -> Pair:
    folder = scene.folder / request.param
    gpt = install_fake(folder, request.param)
    return Pair(native, preprocess_snap(scene.sim.safe, folder / "snap", [scene.dem], scene.options, SnapOptions(gpt=gpt)), scene)


def test_both_products_have_the_same_files_and_tags(pair):
    names = sorted(path.name for path in pair.native.iterdir())
    assert names == sorted(path.name for path in pair.snap.iterdir())
    assert pair.native.name == pair.snap.name
    assert {"VV.tif", "VH.tif", "mask.tif", "incidence.tif", "ellipsoid_incidence.tif", "quicklook.png", "item.json"} == set(names)
    for name in names:
        if name.endswith(".tif"):
            mine, theirs = open_raster(pair.native / name), open_raster(pair.snap / name)
            for what in ("grid", "bands", "dtype", "nodata", "tags", "colormap"):
                if what != "nodata" or not np.isnan(mine.nodata or 0):
                    assert getattr(mine, what) == getattr(theirs, what), (name, what)
            with rasterio.open(mine.path) as a, rasterio.open(theirs.path) as b:
                assert {k: v for k, v in a.profile.items() if k != "nodata"} == {k: v for k, v in b.profile.items() if k != "nodata"}
                assert a.overviews(1) == b.overviews(1)
                assert a.tags(ns="IMAGE_STRUCTURE") == b.tags(ns="IMAGE_STRUCTURE")
    assert list(pair.snap.parent.iterdir()) == [pair.snap]  # no log, no scratch


def test_both_items_say_the_same(pair):
    native, snap = pair.items()
    assert native.keys() == snap.keys()
    assert native["properties"].keys() == snap["properties"].keys()
    assert native["assets"] == snap["assets"]
    differ = {key for key, value in native["properties"].items() if snap["properties"][key] != value}
    assert differ == {"sarseg:engine", "sarseg:warnings", "sarseg:dem"}
    assert snap["properties"]["sarseg:engine"] == f"snap {pair.snap.parent.parent.name}"
    assert snap["properties"]["sarseg:dem"] == {**native["properties"]["sarseg:dem"], "moved_px": [0.5, 0.5]}
    told = snap["properties"]["sarseg:warnings"]
    assert set(native["properties"]["sarseg:warnings"]) < set(told)
    assert any("half a pixel" in line for line in told)
    assert any("bistatic" in line for line in told)
    assert {key: native[key] for key in ("id", "bbox", "geometry", "stac_extensions")} == {
        key: snap[key] for key in ("id", "bbox", "geometry", "stac_extensions")
    }


def test_both_masks_are_ours(pair):
    """Every bit but 32 (another rule) and 1 along the very edge (SNAP ends half a pixel earlier)."""
    native, snap = pair.opened()
    mine, theirs = native.mask().astype(int), snap.mask().astype(int)
    valid = ((mine | theirs) & Mask.NO_DATA) == 0
    assert valid.sum() > 20_000
    np.testing.assert_array_equal((mine & ~Mask.BELOW_NOISE)[valid], (theirs & ~Mask.BELOW_NOISE)[valid])
    assert np.count_nonzero(mine & Mask.DEM_FILLED) > 1500
    lost = (theirs & Mask.NO_DATA > 0) & (mine & Mask.NO_DATA == 0)
    assert not ((mine & Mask.NO_DATA > 0) & (theirs & Mask.NO_DATA == 0)).any()
    assert not (lost & binary_erosion(mine & Mask.NO_DATA == 0, iterations=2)).any()
    for name in ("incidence", "ellipsoid_incidence"):
        angles = [open_raster(folder / f"{name}.tif").read()[0] for folder in (pair.native, pair.snap)]
        np.testing.assert_array_equal(angles[0][valid], angles[1][valid])
    power = snap.read(bands=["VV", "VH"])
    np.testing.assert_array_equal(power > 0, np.broadcast_to(theirs & Mask.NO_DATA == 0, power.shape))  # NaN elsewhere


def inside(pair: Pair, name: str) -> np.ndarray:
    """Truth codes of the landscape on the product's pixels, 0 outside."""
    truth, grid = open_raster(pair.case.sim.truth), open_product(pair.native).grid
    row, col = grid.offset_of(truth.grid)
    place = Window(row=row, col=col, rows=truth.grid.shape[0], cols=truth.grid.shape[1])
    common, codes = place.clip(grid.shape), np.zeros(grid.shape, int)
    codes[common.slices] = truth.read_codes(common.relative_to(place))
    table = json.loads((pair.case.sim.truth.parent / "backscatter.json").read_text())["classes"]
    return codes == table[name]["code"]


def test_a_dark_lake_and_the_open_sea_are_as_valid_in_both(pair):
    """Floors are values, marked by bit 32 as often as our own negative ones; heights that the DEM lacks are the geoid's."""
    native, snap = pair.opened()
    mine, theirs = native.mask().astype(int), snap.mask().astype(int)
    lake = binary_erosion(inside(pair, "water"), iterations=2) & (mine & Mask.DEM_FILLED == 0)
    lake &= binary_erosion(mine & Mask.NO_DATA == 0, iterations=2)  # of the image
    sea = binary_erosion(mine & Mask.DEM_FILLED > 0, iterations=2)
    assert lake.sum() > 800
    assert sea.sum() > 800
    for ground in (lake, sea):
        shares = [float(np.mean(mask[ground] & Mask.NO_DATA == 0)) for mask in (mine, theirs)]
        assert shares == [1.0, 1.0]
    below = [float(np.mean(mask[lake] & Mask.BELOW_NOISE > 0)) for mask in (mine, theirs)]
    assert 0.03 < below[0] < 0.5
    assert below[1] == pytest.approx(below[0], rel=0.5)
    dry = ~inside(pair, "water") & (mine & (Mask.NO_DATA | Mask.DEM_FILLED) == 0)
    assert np.mean(theirs[dry] & Mask.BELOW_NOISE > 0) < 0.01
    floored = snap.read(bands=["VH"])[0][lake & (theirs & Mask.BELOW_NOISE > 0)]
    assert (floored > 0).all()


def test_backscatter_differs_as_the_geometries_do(pair):
    """Same ground, no bias; the rest is speckle seen a hundredth of a pixel beside (the swath is too narrow for a bistatic term)."""
    native, snap = pair.opened()
    good = (native.mask() | snap.mask()) & (Mask.NO_DATA | Mask.BELOW_NOISE | Mask.DEM_FILLED) == 0
    good &= binary_erosion(native.mask() & Mask.NO_DATA == 0, iterations=3)  # SNAP 13 mixes zeros into the rim
    for mine, theirs in zip(native.read(bands=["VV", "VH"]), snap.read(bands=["VV", "VH"]), strict=True):
        high = good & (mine > np.nanmedian(mine))  # floors beside a bright pixel would show
        difference_db = 10 * np.log10(theirs[high] / mine[high])
        assert abs(difference_db.mean()) < 0.01
        assert np.quantile(np.abs(difference_db), 0.95) < 0.15


class Thresholds(nn.Module):
    """A network without context: three classes by the first band."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = x[:, :1]
        return torch.cat([-4 * (v + 1), 2 - 2 * v.abs(), 4 * (v - 1)], 1)


def test_predict_cannot_tell_them_apart(pair, tmp_path):
    legend = Legend(tuple(LandClass(code=code, name=name, color=(code, 9, 200)) for code, name in ((1, "a"), (4, "b"), (7, "c"))))
    bands = (BandSpec(name="VV", scale="db", mean=-10.0, std=3.0), BandSpec(name="VH", scale="db", mean=-16.0, std=3.0))
    model = Model(Thresholds(), ModelSpec(network="compact_unet", quantity="power", bands=bands, legend=legend), Path("thresholds"))
    maps = [predict(model, folder, tmp_path / name) for name, folder in (("native", pair.native), ("snap", pair.snap))]
    mine, theirs = (open_map(folder) for folder in maps)
    assert sorted(path.name for path in maps[0].iterdir()) == sorted(path.name for path in maps[1].iterdir())
    assert (mine.grid, mine.id, mine.legend) == (theirs.grid, theirs.id, theirs.legend)
    a, b = mine.raster.read_codes(), theirs.raster.read_codes()
    both = (a > 0) & (b > 0)
    assert set(np.unique(a[both])) == {1, 4, 7}
    assert np.mean(a[both] == b[both]) > 0.98
    items = [json.loads((folder / "item.json").read_text())["properties"].keys() for folder in maps]
    assert items[0] == items[1]


def test_flattened_gamma0_comes_from_snap_only(scene, native, tmp_path):
    """Its own name and quantity; what flattening makes 0 has bit 16 and no value."""
    gpt = install_fake(tmp_path, "13.0.2")
    made = preprocess_snap(scene.sim.safe, tmp_path / "snap", [scene.dem], scene.options, SnapOptions(gpt=gpt, flattened=True))
    assert made.name == f"{native.name}-rtc"
    properties = json.loads((made / "item.json").read_text())["properties"]
    assert properties["sarseg:quantity"] == "gamma0-rtc"
    assert properties["sarseg:mask_computed"] == [1, 2, 4, 8, 16, 32]
    flattened, plain = open_product(made), open_product(native)
    mine, theirs = plain.mask().astype(int), flattened.mask().astype(int)
    np.testing.assert_array_equal(mine & Mask.NO_DATA, theirs & Mask.NO_DATA)
    np.testing.assert_array_equal(np.isnan(flattened.read(bands=["VV"])[0]), theirs & (Mask.NO_DATA | Mask.AREA_FLOOR) > 0)
    dry = ~inside(Pair(native, made, scene), "water") & (mine == 0) & (theirs == 0)
    slope = np.radians(open_raster(made / "incidence.tif").read()[0] - open_raster(made / "ellipsoid_incidence.tif").read()[0])
    leaning = []
    for product in (plain, flattened):
        db = 10 * np.log10(product.read(bands=["VV"])[0][dry])
        leaning.append(float(np.polyfit(slope[dry], db, 1)[0]))
    assert abs(leaning[1]) < abs(leaning[0])  # dB a radian of slope towards the radar


def test_a_geographic_map_lies_on_our_grid(scene, tmp_path):
    options = PreprocessOptions(threads=1, geoid=scene.options.geoid, crs="EPSG:4326", spacing_m=20.0, radiometry="sigma0")
    gpt = install_fake(tmp_path, "13.0.2")
    native = preprocess(scene.sim.safe, tmp_path / "native", [scene.dem], options)
    made = preprocess_snap(scene.sim.safe, tmp_path / "snap", [scene.dem], options, SnapOptions(gpt=gpt))
    assert open_product(made).grid == open_product(native).grid
    both = np.stack([open_product(folder).read(bands=["VV"])[0] for folder in (native, made)])
    good = np.isfinite(both).all(0) & (both[0] > 0.02)
    assert good.sum() > 5000
    assert abs(np.mean(10 * np.log10(both[1][good] / both[0][good]))) < 0.02


# PALSAR


PALSAR = {
    "ALOS-1 L1.1": Made(shape=(600, 300)),
    "ALOS-2 L1.1": Made(mission="ALOS2", wavelength_m=0.2424525, sampling_hz=34.93e6, shape=(600, 300), polarisations=("HH", "HV")),
    "ALOS-1 L1.5 georeferenced": Made(form="georeferenced", level="1.5", shape=(150, 130)),
}


def palsar(folder: Path, made: Made) -> tuple[Path, Path]:
    """A product, and a plane of heights around it."""
    values = np.ones(made.shape) if made.form != "slant" else np.ones(made.shape, np.complex64)
    product = write_palsar(folder / made.name, made, 900 * values)
    lon, lat = (float(value) for value in lonlat(made, made.shape[0] / 2, made.shape[1] / 2))
    profile = {"driver": "GTiff", "count": 1, "height": 120, "width": 120, "dtype": "float32", "crs": "EPSG:4979"}
    with rasterio.open(folder / "plane.tif", "w", transform=Affine(5e-4, 0, lon - 0.03, 0, -5e-4, lat + 0.03), **profile) as file:
        file.write(np.full((120, 120), 200.0, "f4"), 1)
    return product, folder / "plane.tif"


def test_flattening_of_an_image_that_looks_left_is_refused(tmp_path, monkeypatch, geoid):
    """SNAP's reader calls every PALSAR image right-looking (docs/snap.md 5)."""
    product, dem = palsar(tmp_path, PALSAR["ALOS-2 L1.1"])
    open_right = engine.open_inputs

    def open_left(*given, **more):
        scene, heights, extent = open_right(*given, **more)
        return replace(scene, grid=replace(scene.grid, look_side="left")), heights, extent

    monkeypatch.setattr(engine, "open_inputs", open_left)
    options, wanted = PreprocessOptions(geoid=geoid), SnapOptions(gpt=install_fake(tmp_path, "13.0.2"), flattened=True)
    with pytest.raises(UsageError, match="looks left"):
        preprocess_snap(product, tmp_path / "snap", [dem], options, wanted)
    assert not (tmp_path / "snap").exists()


@pytest.mark.parametrize("name", PALSAR)
def test_a_palsar_product_has_the_same_mask_and_grid(tmp_path, monkeypatch, geoid, name):
    """SNAP's work is left out: a constant on the map that was asked for."""
    made, asked = PALSAR[name], {}
    product, dem = palsar(tmp_path, made)
    options = PreprocessOptions(threads=1, geoid=geoid, spacing_m=20.0)
    native = preprocess(product, tmp_path / "native", [dem], options)

    def run_gpt(snap, graph, *, outputs, options, log, progress):
        asked.update(graph=read_graph(graph), check=check_graph(graph, 13, polarisations=made.polarisations))
        (target,) = outputs
        target.with_suffix(".data").mkdir()
        grid = open_product(native).grid
        bands = {f"Gamma0_{name}": np.full(grid.shape, 0.1, "f4") for name in made.polarisations}
        write_dimap(target, bands, {}, grid)
        return RunReport(valid_shares={}, warnings=("said by SNAP",), attempts=1, heap_bytes=1, cache_bytes=1, wall_s=0, cpu_s=0)

    monkeypatch.setattr("sarseg.ard.snap.engine.run_gpt", run_gpt)
    folder = preprocess_snap(product, tmp_path / "snap", [dem], options, SnapOptions(gpt=install_fake(tmp_path)))
    theirs, mine = open_product(folder), open_product(native)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in native.iterdir())
    assert theirs.grid == mine.grid
    np.testing.assert_array_equal(theirs.mask(), mine.mask())
    assert np.count_nonzero(mine.mask() == 0) > 1000
    nodes = {node.operator: node for node in asked["graph"].nodes}
    assert nodes["Read"].value("file") == str(product / f"VOL-{made.name}")
    assert ("ALOS-Deskewing" in nodes) == (name == "ALOS-1 L1.1")
    assert asked["check"] == []
    assert not any(node.value("sourceBands").count("Floor") for node in asked["graph"].nodes)
    looks = json.loads((native / "item.json").read_text())["properties"].get("sarseg:multilook", [1, 1])
    assert ("Multilook" in nodes) == (looks != [1, 1]) == (made.form == "slant")
    if looks != [1, 1]:
        assert [nodes["Multilook"].value("nAzLooks"), nodes["Multilook"].value("nRgLooks")] == [str(value) for value in looks]
    told = json.loads((folder / "item.json").read_text())["properties"]["sarseg:warnings"]
    assert told[-1] == "said by SNAP"
    lines = looks[0]
    averaged = [float(found[1]) for line in told if (found := re.search(r"averages \d+ lines .* up to (\d+) m off", line))]
    if lines > 1:  # (n - 1) / 2 lines of 6.8 km/s over ground; none is left over
        assert averaged == pytest.approx([0.5 * (lines - 1) * 6800 / made.prf_hz], rel=0.05, abs=0.5)
        first_cut = next(node for node in asked["graph"].nodes if node.operator == "Subset" and node.value("region"))
        x, y, columns, rows = map(int, first_cut.value("region").split(","))
        assert (x, y, columns % looks[1], rows % looks[0]) == (0, 0, 0, 0)
        assert 0 <= made.shape[0] - rows < looks[0]
    else:
        assert averaged == []
    moved = [line for line in told if "travel time" in line]
    assert len(moved) == (name == "ALOS-1 L1.1")
    if moved:  # 847 km: 2.83 ms, at 6.8 km/s over ground
        assert "19 to 19 m" in moved[0]


def test_palsar_that_snap_cannot_do(tmp_path, geoid):
    made = Made(form="geocoded", level="1.5", mission="ALOS2", wavelength_m=0.2424525, shape=(60, 60), utm_zone=30, first_s=0.0)
    x, y = Transformer.from_crs(4326, 32630, always_xy=True).transform(*ground_of(made, 0.0, 868e3))
    made.corner_m = (round(float(x) / 12.5 - 30) * 12.5, round(float(y) / 12.5 + 30) * 12.5)
    product, dem = palsar(tmp_path, made)
    options, gpt = PreprocessOptions(threads=1, geoid=geoid), SnapOptions(gpt=install_fake(tmp_path))
    with pytest.raises(UsageError, match=r"geocoded.*--engine native"):
        preprocess_snap(product, tmp_path / "snap", [dem], options, gpt)
    product, dem = palsar(tmp_path, PALSAR["ALOS-1 L1.1"])
    packed = shutil.make_archive(str(tmp_path / "packed" / "scene"), "zip", product)
    with pytest.raises(InputError, match="unpack the product"):
        preprocess_snap(packed, tmp_path / "snap", [dem], options, gpt)


# Failures


def command(scene: Case, out: Path, *more: str) -> list[str]:
    words = [
        "preprocess",
        scene.sim.safe,
        "-o",
        out,
        "--dem",
        scene.dem,
        "--geoid",
        scene.options.geoid,
        "--engine",
        "snap",
        "--threads",
        "1",
    ]
    return [*map(str, words), *more]


def test_without_snap_it_is_exit_code_4(scene, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SNAP_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(command(scene, tmp_path / "out")) == 4
    assert "--gpt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("how", "code", "advice"), [("empty", 3, "hold a value"), ("disk-full", 4, "free some space")])
def test_nothing_but_the_log_is_left_when_snap_fails(scene, tmp_path, monkeypatch, capsys, how, code, advice):
    monkeypatch.setenv("FAKE_GPT", how)
    assert run(command(scene, tmp_path / "out", "--gpt", str(install_fake(tmp_path)))) == code
    error = capsys.readouterr().err
    assert advice in error
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(left) == 1
    assert left[0].endswith("_gamma0.gpt.log")


def test_a_time_limit_ends_it(scene, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_GPT", "hang")
    with pytest.raises(SnapFailed, match="longer than 3 s") as failed:
        gpt = install_fake(tmp_path)
        preprocess_snap(scene.sim.safe, tmp_path / "out", [scene.dem], scene.options, SnapOptions(gpt=gpt, time_limit_s=3))
    assert failed.value.exit_code == 4
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".log"]


def test_the_command_prints_the_product_and_leaves_no_old_log(scene, tmp_path):
    """One thing in the folder: a log of an earlier failure goes, too."""
    log = tmp_path / "out" / f"{open_scene(scene.sim.safe).id}_sigma0.gpt.log"
    log.parent.mkdir()
    log.write_text("of an earlier failure")
    words = command(scene, log.parent, "--gpt", str(install_fake(tmp_path)), "--radiometry", "sigma0", "--spacing", "40", "--json")
    outcome = CliRunner().invoke(cli, words)
    assert outcome.exit_code == 0
    (folder,) = json.loads(outcome.stdout)["products"]
    assert folder.endswith("_sigma0")
    assert [str(path) for path in log.parent.iterdir()] == [folder]
    assert open_product(folder).grid.spacing == (40.0, 40.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radiometry": "beta0"}, "no beta0"),
        ({"speckle": "lee"}, "no speckle"),
        ({"crs": "EPSG:27700"}, "choose a CRS on WGS 84"),
        ({"crs": "EPSG:3035"}, "choose a CRS on WGS 84"),
    ],
)
def test_what_snap_cannot_do_is_refused(scene, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        preprocess_snap(
            scene.sim.safe, tmp_path / "out", [scene.dem], replace(scene.options, **changes), SnapOptions(gpt=install_fake(tmp_path))
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [("--radiometry", "gamma0-rtc"), ("--gpt", "gpt"), ("--time-limit", "5")])
def test_the_native_engine_refuses_snaps_options(scene, tmp_path, capsys, words):
    given = [word if word != "snap" else "native" for word in command(scene, tmp_path / "out", *words)]
    assert run(given) == 2
    assert "--engine snap" in capsys.readouterr().err


@pytest.mark.parametrize(("share", "told"), [(0.0, False), (0.5, True)])
def test_much_that_snap_lacks_is_a_warning(scene, native, tmp_path, monkeypatch, share, told):
    """Zeros in the upper part of the image, as lost tiles leave them; no more data than the other engine has are expected of it."""
    grid = open_product(native).grid

    def run_gpt(*_, outputs, **__):
        outputs[0].with_suffix(".data").mkdir()
        values = np.full(grid.shape, 0.1, "f4")
        values[: int(share * len(values))] = 0
        write_dimap(outputs[0], {f"{kind}_{name}": values * scale for kind, scale in KINDS for name in ("VV", "VH")}, {}, grid)
        return RunReport(valid_shares={}, warnings=(), attempts=1, heap_bytes=1, cache_bytes=1, wall_s=0, cpu_s=0)

    monkeypatch.setattr("sarseg.ard.snap.engine.run_gpt", run_gpt)
    folder = preprocess_snap(scene.sim.safe, tmp_path / "out", [scene.dem], scene.options, SnapOptions(gpt=install_fake(tmp_path)))
    mine, theirs = (open_product(one).mask() & Mask.NO_DATA.value == 0 for one in (native, folder))
    lost = np.count_nonzero(mine & ~theirs) / np.count_nonzero(mine)
    assert (lost > 0.05) == told
    warnings = [line for line in json.loads((folder / "item.json").read_text())["properties"]["sarseg:warnings"] if "no value" in line]
    assert warnings == ([f"SNAP has no value in {lost:.1%} of the pixels that have data"] if told else [])


@pytest.mark.parametrize(
    ("name", "shift_px", "message"), [("Gamma0", 0.5, "does not lie on the pixels"), ("Sigma0", 0.0, "no band Gamma0_VV")]
)
def test_another_image_than_was_asked_for_is_refused(scene, native, tmp_path, monkeypatch, name, shift_px, message):
    """The error names the log, which stays: the image does not."""
    grid = open_product(native).grid
    moved = replace(grid, transform=grid.transform @ Affine.translation(shift_px, 0))

    def run_gpt(*_, outputs, **__):
        outputs[0].with_suffix(".data").mkdir()
        write_dimap(outputs[0], {f"{kind}_{pol}": np.ones(grid.shape, "f4") for kind in (name, "Floor") for pol in ("VV", "VH")}, {}, moved)

    monkeypatch.setattr("sarseg.ard.snap.engine.run_gpt", run_gpt)
    with pytest.raises(InputError, match=rf"{message}.* \[image\.dim, log {tmp_path}/out/S1\S+\.gpt\.log\]"):
        preprocess_snap(scene.sim.safe, tmp_path / "out", [scene.dem], scene.options, SnapOptions(gpt=install_fake(tmp_path)))
    assert list((tmp_path / "out").iterdir()) == []


def test_without_any_geoid_it_is_exit_code_4(scene, tmp_path, monkeypatch):
    """An ellipsoidal DEM needs none by itself; SNAP wants its EGM96 file with every external DEM."""
    monkeypatch.setattr("sarseg.raster.geoid.proj_folders", lambda: iter(()))
    with pytest.raises(MissingError, match=r"us_nga_egm96_15\.tif"):
        preprocess_snap(
            scene.sim.safe, tmp_path / "out", [scene.dem], PreprocessOptions(threads=1), SnapOptions(gpt=install_fake(tmp_path))
        )
    assert list((tmp_path / "out").iterdir()) == []
