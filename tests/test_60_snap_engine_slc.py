"""Products of the SNAP engine from a real IW SLC's annotations, with made-up samples: as of a GRD, and as its bursts say."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from fake_snap import install_fake
from fake_snap_bursts import covered, place, swaths_of, unpack, write_samples
from pyproj import Transformer
from scipy.ndimage import binary_dilation, binary_erosion
from snap_geoid import write_geoid

from sarseg.ard.preprocess import PreprocessOptions, open_lazy, preprocess
from sarseg.ard.snap.engine import SnapOptions, preprocess_snap
from sarseg.ard.snap.graphxml import read_graph
from sarseg.cli.main import run
from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.errors import InputError
from sarseg.masks import Mask
from sarseg.product.open import open_product
from sarseg.radar.ellipsoid import geodetic_of
from sarseg.radar.geometry import ecef_from_geodetic, on_ellipsoid, zero_doppler
from sarseg.raster.dem import open_dem
from sarseg.raster.read import open_raster
from sarseg.scene.open import open_scene
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.sentinel1 import simulate_sentinel1
from sarseg.tiles import Window

CENTRE = 900, 21_200
"""Line and pixel where IW2's first valid line meets the seam to IW1, which starts 458 lines earlier."""
PART = (600, 1400, 19_500, 23_500)
DARK = (980, 1060, 20_700, 21_000)
SAMPLE = {"IW1": 200, "IW2": 200, "IW3": 200}


@dataclass(frozen=True)
class Case:
    """A folder and a zip of the same product, a DEM around its corner between two swaths, and what to make of it."""

    folder: Path
    archive: Path
    dem: Path
    options: PreprocessOptions


@pytest.fixture(scope="module")
def case(shared, tmp_path_factory) -> Case:
    root = tmp_path_factory.mktemp("slc")
    (archive,) = (shared / "data/s1_slc_metadata").glob("*_93A7.zip")
    folder = unpack(archive, root)
    write_samples(folder, SAMPLE, {"IW1": DARK}, PART)
    packed = Path(shutil.make_archive(str(root / folder.stem), "zip", root, folder.name))
    scene = open_scene(folder)
    slant_m = scene.grid.slant_range_m(*map(float, CENTRE))
    (lon,), (lat,) = geodetic_of(on_ellipsoid(scene.grid.zero_doppler_time_s(CENTRE[0], slant_m), slant_m, scene.orbit, "right")[None])
    rows, cols, step = 160, 240, 3e-4
    y, x = np.mgrid[:rows, :cols]
    heights = (40 * np.sin(x / 25) * np.sin(y / 18) + 40).astype("f4")
    profile = {"driver": "GTiff", "count": 1, "height": rows, "width": cols, "dtype": "float32", "crs": "EPSG:4979"}
    transform = Affine(step, 0, lon - cols / 2 * step, 0, -step, lat + rows / 2 * step)
    with rasterio.open(root / "dem.tif", "w", **profile, transform=transform) as file:
        file.write(heights, 1)
    options = PreprocessOptions(threads=1, geoid=write_geoid(root), spacing_m=20.0)
    return Case(folder=folder, archive=packed, dem=root / "dem.tif", options=options)


@pytest.fixture(scope="module", params=["13.0.2", "14.0.0"])
def product(request, case, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp(f"made{request.param}")
    return preprocess_snap(case.folder, out, [case.dem], case.options, SnapOptions(gpt=install_fake(out / "snap", request.param)))


def item(folder: Path) -> dict:
    return json.loads((folder / "item.json").read_text())


def seen(case: Case, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Lines and pixels of a product's pixels in the image of all bursts, worked out from the annotations."""
    grid, heights = open_product(folder).grid, open_dem([case.dem], datum=None, geoid=case.options.geoid)
    height_m, _ = heights.filled_heights(grid, Window.whole(grid.shape))
    x, y = np.meshgrid(*grid.centres())
    lon, lat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True).transform(x.ravel(), y.ravel())
    orbit, swaths = open_scene(case.folder).orbit, swaths_of(case.folder)
    t_s, slant_m = zero_doppler(ecef_from_geodetic(lon, lat, height_m.ravel()), orbit)
    middle = next(one for one in swaths if one.swath == "IW2")
    samples = middle.number("imageAnnotation/imageInformation/numberOfSamples")
    tau_s, reference_s = 2 * slant_m / SPEED_OF_LIGHT_M_S, middle.tau_s + (samples - 1) / 2 / middle.sampling_hz
    first_s = (min(one.starts_us[0] for one in swaths) - orbit.epoch_utc.astype("datetime64[us]").astype(int)) / 1e6
    line = (t_s - (tau_s - reference_s) / 2 - first_s) / middle.interval_s
    pixel = (tau_s - swaths[0].tau_s) * middle.sampling_hz
    beyond = -(10**6)  # of the DEM
    return np.nan_to_num(line.reshape(grid.shape), nan=beyond), np.nan_to_num(pixel.reshape(grid.shape), nan=beyond)


@pytest.fixture(scope="module")
def other(case, tmp_path_factory) -> Path:
    """A product of a GRD."""
    folder = tmp_path_factory.mktemp("grd")
    sim = simulate_sentinel1(folder, Sentinel1Options(landscape=LandscapeOptions(size_px=100, seed=5), seed=5))
    return preprocess_snap(sim.safe, folder / "made", [sim.dem], case.options, SnapOptions(gpt=install_fake(folder)))


def test_the_product_is_that_of_a_grd(product, other, case):
    """Files, tags, layout and fields, against what the same engine makes of a GRD."""
    names = sorted(path.name for path in product.iterdir())
    assert product.name == f"{case.folder.stem}_gamma0"
    assert names == sorted(path.name for path in other.iterdir() if path.name != "VH.tif")
    for name in names:
        if name.endswith(".tif"):
            mine, theirs = open_raster(product / name), open_raster(other / name)
            assert (mine.bands, mine.dtype, mine.tags, mine.colormap) == (theirs.bands, theirs.dtype, theirs.tags, theirs.colormap)
            with rasterio.open(mine.path) as a, rasterio.open(theirs.path) as b:
                same = ("driver", "dtype", "count", "compress", "interleave", "tiled", "blockxsize", "blockysize")
                assert [a.profile[key] for key in same] == [b.profile[key] for key in same]
    mine, theirs = item(product), item(other)
    assert mine.keys() == theirs.keys()
    assert mine["properties"].keys() == theirs["properties"].keys() | {"sarseg:multilook"}
    assert mine["assets"] == {name: value for name, value in theirs["assets"].items() if name != "VH"}
    said = mine["properties"]
    assert (said["sar:product_type"], said["sar:instrument_mode"], said["sar:polarizations"]) == ("SLC", "IW", ["VV"])
    assert (said["sarseg:multilook"], said["sarseg:denoised"], said["sarseg:quantity"]) == ([1, 5], ["VV"], "gamma0")
    assert list(product.parent.glob("*.log")) == []


def test_data_lie_where_the_bursts_have_them(product, case):
    """Beside two looks along the edges, which are averages of both; 458 lines of IW2 lack at its start."""
    line, pixel = seen(case, product)
    swaths = swaths_of(case.folder)
    shifts = [(down, across) for down in (-2, 0, 2) for across in (-10, 0, 10)]
    near = np.stack([covered(swaths, np.rint(line + down).astype(int), np.rint(pixel + across).astype(int)) for down, across in shifts])
    no_data = open_product(product).mask() & Mask.NO_DATA > 0
    heights = binary_erosion(line > -(10**5), iterations=3)
    assert not (no_data & near.all(0) & heights).any()
    assert (no_data | near.any(0))[heights].all()
    assert np.mean(no_data[heights]) > 0.15
    assert np.mean(~no_data[heights]) > 0.5


def test_values_and_floors_are_those_of_the_samples(product, case):
    """A constant |DN| is smooth gamma0, (DN^2 - noise) / A^2 by the tables of its place; what has no signal is below the noise."""
    line, pixel = seen(case, product)
    opened = open_product(product)
    power, mask = opened.read(bands=["VV"])[0], opened.mask()
    dark = (line > DARK[0]) & (line < DARK[1]) & (pixel > DARK[2]) & (pixel < DARK[3])
    below = mask & Mask.BELOW_NOISE > 0
    inner = binary_erosion(dark, iterations=2)
    assert inner.sum() > 500
    assert below[inner].all()
    assert not below[~binary_dilation(dark, iterations=2)].any()
    swath = next(one for one in swaths_of(case.folder) if one.swath == "IW2")
    table = ET.parse(case.folder / "annotation/calibration" / f"calibration-{Path(swath.name).name}").find("calibrationVectorList")
    gamma = np.interp(1700.0, *(np.array(table[2].findtext(name).split(), float) for name in ("pixel", "gamma")))
    noise = 342.0  # of the range vectors there, in the noise file; the azimuth vector is 0.9 to 1.12
    column = pixel - place(swaths_of(case.folder), swath, 0)[1]
    bright = binary_erosion(mask & Mask.NO_DATA == 0, iterations=3) & (np.abs(column - 1700.0) < 50)
    assert bright.sum() > 500
    assert np.median(power[bright]) == pytest.approx((200.0**2 - noise) / gamma**2, rel=0.002)
    assert np.std(10 * np.log10(power[bright])) < 0.01


def test_the_warnings_have_the_sizes_of_an_slc(product):
    told = item(product)["properties"]["sarseg:warnings"]
    (bistatic,) = [line for line in told if "bistatic" in line]
    off_m = {"13": "up to 1.9 m", "14": "up to 5.6 m"}[item(product)["properties"]["sarseg:engine"].split()[1][:2]]
    assert off_m in bistatic
    assert not any("averages" in line for line in told)  # of lines, only one
    assert any("annotation" in line and "absent" in line for line in told)  # VH


def test_flattened_gamma0_has_no_data_beside_the_swaths(case, tmp_path):
    gpt = install_fake(tmp_path, "13.0.2")
    options = replace(case.options, spacing_m=40.0)
    made = preprocess_snap(case.folder / "manifest.safe", tmp_path / "out", [case.dem], options, SnapOptions(gpt=gpt, flattened=True))
    assert made.name == f"{case.folder.stem}_gamma0-rtc"
    line, pixel = seen(case, made)
    swaths = swaths_of(case.folder)
    mask, power = open_product(made).mask(), open_product(made).read(bands=["VV"])[0]
    inside = line > -(10**5)
    beside = inside & ~binary_dilation(covered(swaths, np.rint(line).astype(int), np.rint(pixel).astype(int)), iterations=2)
    assert beside.sum() > 1000
    assert (mask[beside] == Mask.NO_DATA.value).all()
    good = mask == 0
    assert good.sum() > 6000
    assert np.median(power[good]) == pytest.approx(0.5, rel=0.2)


@pytest.mark.parametrize("flattened", [False, True])
def test_a_single_swath(case, tmp_path, flattened):
    """As burst extractors leave it; SNAP keeps IW2 in the names of its bands then."""
    folder = tmp_path / case.folder.name
    kept = [path for path in case.folder.rglob("*") if path.is_file() and (path.name == "manifest.safe" or "-iw2-" in path.name)]
    for path in kept:
        link = folder / path.relative_to(case.folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    options, asked = replace(case.options, spacing_m=40.0), SnapOptions(gpt=install_fake(tmp_path, "14.0.0"), flattened=flattened)
    made = preprocess_snap(folder, tmp_path / "out", [case.dem], options, asked)
    line, pixel = seen(replace(case, folder=folder), made)
    inside = covered(swaths_of(folder), np.rint(line).astype(int), np.rint(pixel).astype(int))
    good = open_product(made).mask() == 0
    assert good[binary_erosion(inside, iterations=3)].mean() > (0.9 if flattened else 0.999)
    assert not good[~binary_dilation(inside, iterations=2)].any()
    assert open_product(made).bands == ("VV",)
    assert any("no annotation of IW1, IW3" in told for told in item(made)["properties"]["sarseg:warnings"])


def test_snap_gets_the_archive_as_it_is(case, tmp_path, monkeypatch):
    """And a graph that takes the noise away, calibrates, puts the bursts together and averages, in this order; nothing is unpacked."""
    asked = []

    def run_gpt(_, graph, **words):
        asked.extend(node for node in read_graph(graph).nodes)
        raise InputError("no more is asked", None)

    monkeypatch.setattr("sarseg.ard.snap.engine.run_gpt", run_gpt)
    monkeypatch.setattr("shutil.copyfileobj", None)
    with pytest.raises(InputError, match="no more is asked"):
        preprocess_snap(case.archive, tmp_path / "out", [case.dem], case.options, SnapOptions(gpt=install_fake(tmp_path)))
    nodes = {node.operator: node for node in asked}
    assert nodes["Read"].value("file") == str(case.archive)
    chain = ["Read", "ThermalNoiseRemoval", "Calibration", "TOPSAR-Deburst", "Multilook", "Terrain-Correction", "Subset", "Write"]
    assert [node.operator for node in asked if node.operator in chain] == chain
    assert (nodes["Multilook"].value("nRgLooks"), nodes["Multilook"].value("nAzLooks")) == ("5", "1")
    assert nodes["Terrain-Correction"].value("sourceBands") == "Gamma0_VV,Floor_VV"


def test_the_native_engine_sends_an_slc_to_snap(case, tmp_path, capsys):
    with pytest.raises(InputError, match=r"reads no pixels of Sentinel-1 IW SLC .*--engine snap"):
        preprocess(case.archive, tmp_path / "out", [case.dem], case.options)
    with pytest.raises(InputError, match="--engine snap"):
        open_lazy(case.folder / "manifest.safe", [case.dem], case.options)
    words = ["preprocess", str(case.folder), "-o", str(tmp_path / "out"), "--dem", str(case.dem)]
    assert run(words) == 3
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["native", "snap"])
def test_the_pipeline_takes_an_slc_with_snap_only(case, tmp_path, monkeypatch, capsys, engine):
    """Without it the scene fails with the line that names the way out; with it the next step is reached."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / case.folder.name).symlink_to(case.folder)
    (tmp_path / "line.yaml").write_text(
        f"dem: [{case.dem}]\nlabels: {case.dem}\nengine: {engine}\npreprocess_spacing_m: 60\npreprocess_geoid: {case.options.geoid}\n"
    )
    monkeypatch.setenv("SNAP_HOME", str(install_fake(tmp_path / "snap").parents[1]))
    run(["run", str(tmp_path / "line.yaml"), "--input", str(tmp_path / "in"), "-o", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert ("reads no pixels of Sentinel-1 IW SLC" in said) == (engine == "native")
    made = [path.name for path in (tmp_path / "out" / "ard").glob("S1*")]
    assert made == ([f"{case.folder.stem}_gamma0"] if engine == "snap" else [])
    if made:
        properties = item(tmp_path / "out" / "ard" / made[0])["properties"]
        assert properties["sarseg:multilook"] == [4, 16]
        assert any("averages 4 lines" in line for line in properties["sarseg:warnings"])
