"""From a simulated SAFE to a product: radiometry and place against the landscape's truth, the same bits in any chunks, the errors.

The simulator shares no code with the processor (it accumulates facets, this solves zero Doppler), so its truth is a yardstick.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from pyproj import Transformer
from registration import shifts
from scipy.ndimage import binary_erosion, gaussian_filter, shift

import sarseg
from sarseg.ard.extent import choose_extent
from sarseg.ard.geocode import geocode_block
from sarseg.ard.preprocess import PreprocessOptions, lazy_layers, make_job, open_lazy, preprocess
from sarseg.cli.main import cli
from sarseg.errors import InputError, MissingError, UsageError
from sarseg.masks import Mask
from sarseg.product.open import Product, open_product
from sarseg.radar.lattice import make_lattice
from sarseg.raster.dem import open_dem
from sarseg.raster.read import open_raster
from sarseg.scene.open import open_scene
from sarseg.simulate.annotation import read_geometry
from sarseg.simulate.fill import read_channels
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.sentinel1 import SimulatedScene, simulate_sentinel1
from sarseg.tiles import Window, blocks

ROME = "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371.SAFE"
REFERENCE_DEG = 39.0


@dataclass(frozen=True)
class Made:
    """A simulated scene and the product of it."""

    scene: SimulatedScene
    folder: Path
    product: Product

    def on_product(self, name: str, band: int = 0) -> np.ndarray:
        """A raster of the landscape on the product's pixels, float64, NaN outside."""
        raster = open_raster(self.scene.truth.parent / name)
        row, col = self.product.grid.offset_of(raster.grid)
        place = Window(row=row, col=col, rows=raster.grid.shape[0], cols=raster.grid.shape[1])
        inside = place.clip(self.product.grid.shape)
        out = np.full(self.product.grid.shape, np.nan)
        out[inside.slices] = raster.read(inside.relative_to(place))[band]
        return out


def make(folder: Path, options: Sentinel1Options, dem: list[Path] | None = None, **more: object) -> Made:
    scene = simulate_sentinel1(folder, options)
    done = preprocess(scene.safe, folder / "ard", dem or [scene.dem], PreprocessOptions(**more))
    return Made(scene, done, open_product(done))


# Radiometry


def make_flat(folder: Path, shape: tuple[int, int], variation: str = "none", **more: object) -> Made:
    """Flat ground, 60 m high: more than half of it water (below the noise in VH), the other classes in six blocks."""
    codes, side = np.ones(shape, "u1"), shape[0] // 6
    for k in range(6):
        codes[side * k : side * (k + 1), shape[1] * 6 // 10 :] = k + 2
    x, y = Transformer.from_crs(4326, 32632, always_xy=True).transform(11.2, 48.1)
    transform = Affine(10, 0, round(x / 10) * 10.0 - 5 * shape[1], 0, -10, round(y / 10) * 10.0 + 5 * shape[0])
    profile = {"driver": "GTiff", "count": 1, "height": shape[0], "width": shape[1], "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(folder / "cover.tif", "w", transform=transform, **profile) as file:
        file.write(codes, 1)
    profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 60, "dtype": "float32", "crs": "EPSG:4979"}
    with rasterio.open(folder / "flat.tif", "w", transform=Affine(0.005, 0, 11.05, 0, -0.005, 48.2), **profile) as file:
        file.write(np.full((40, 60), 60.0, "f4"), 1)
    landscape = LandscapeOptions(variation=variation, dem=folder / "flat.tif", landcover=folder / "cover.tif")
    return make(folder, Sentinel1Options(landscape=landscape, incidence_deg=43.0, seed=11, **more), [folder / "flat.tif"])


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> Made:
    """With speckle; large, because speckle averages slowly."""
    return make_flat(tmp_path_factory.mktemp("flat"), (1180, 1100))


def class_errors_db(made: Made) -> dict[tuple[str, str], float]:
    """Mean of gamma0 (linear, of pixels 4 px inside their class) against the truth: the mean written for each pixel, which is
    the class's table but for fields and texture, at its local incidence; dB."""
    power, mask, codes = made.product.read(), made.product.mask(), made.on_product("truth.tif")
    truth = [made.on_product("gamma0.tif", band) for band in range(2)]
    incidence_deg = open_raster(made.folder / "incidence.tif").read()[0]
    table = json.loads((made.scene.truth.parent / "backscatter.json").read_text())["classes"]
    found = {}
    for name, entry in table.items():
        inner = binary_erosion(codes == entry["code"], iterations=4) & (mask & Mask.NO_DATA == 0)
        assert inner.sum() > 15_000
        for band, mean, polarisation in zip(power, truth, ("VV", "VH"), strict=True):
            law = entry["polarisations"][polarisation]
            want = np.mean(mean[inner] * 10 ** (law["slope_db_per_deg"] * (incidence_deg[inner].astype("f8") - REFERENCE_DEG) / 10))
            found[name, polarisation] = float(10 * np.log10(band[inner].mean(dtype="f8") / want))
    assert len(found) == 14
    return found


def test_class_means_on_flat_ground(tmp_path):
    """Without speckle every class mean is within 0.05 dB (it is 0.002), water's VH below the noise included.

    Texture spreads a class over several whole DN, which would otherwise bias it.
    """
    errors = class_errors_db(make_flat(tmp_path, (620, 560), "full", speckle="none"))
    assert max(errors.values(), key=abs) == pytest.approx(0, abs=0.05), errors


def test_class_means_under_speckle(flat):
    """Water's VH, half below the noise, is within 0.05 dB too: its 600,000 pixels leave 0.017 dB. The other classes' 70,000
    leave 0.03 dB (4.4 looks, 6.5 pixels to an independent one)."""
    errors = class_errors_db(flat)
    assert errors["water", "VH"] == pytest.approx(0, abs=0.05)
    assert max(errors.values(), key=abs) == pytest.approx(0, abs=0.12), errors
    power, mask = flat.product.read(), flat.product.mask()
    water = binary_erosion(flat.on_product("truth.tif") == 1, iterations=4) & (mask & Mask.NO_DATA == 0)
    below = (mask[water] & Mask.BELOW_NOISE) > 0
    np.testing.assert_array_equal(below, (power[:, water] <= 0).any(0))
    assert 0.02 < below.mean() < 0.3  # negatives are kept; set to 0, they would raise the mean above
    clipped_db = 10 * np.log10(np.maximum(power[1][water], 0).mean(dtype="f8") / power[1][water].mean(dtype="f8"))
    assert clipped_db > 0.05


def test_flat_ground_is_all_there(flat):
    """No pixel inside the scene is lost, none is layover or shadow, and the angles are those of a plane."""
    mask = flat.product.mask()
    inner = binary_erosion(flat.on_product("truth.tif") > 0, iterations=6)  # the simulator leaves cells at its edge empty
    assert set(np.unique(mask[inner])) <= {0, int(Mask.BELOW_NOISE)}
    local, ellipsoid = (open_raster(flat.folder / f"{name}.tif").read()[0] for name in ("incidence", "ellipsoid_incidence"))
    np.testing.assert_allclose(local[inner], ellipsoid[inner], atol=1e-3)
    assert 42.0 < np.nanmin(ellipsoid) < np.nanmax(ellipsoid) < 44.0


# Place


@pytest.fixture(scope="module")
def rome(tmp_path_factory, shared) -> Made:
    """Pixels for a real product's annotation, over a real DEM above EGM96, made ellipsoidal by each side by itself."""
    data = shared / "data"
    dem, geoid = data / "s1_grd_rome" / "Rome-30m-DEM.tif", data / "geoid" / "us_nga_egm96_15.tif"
    landscape = LandscapeOptions(variation="none", dem=dem, geoid=geoid)
    options = Sentinel1Options(template=data / "s1_grd_rome" / ROME, landscape=landscape, speckle="none")
    return make(tmp_path_factory.mktemp("rome"), options, [dem], geoid=geoid)


@pytest.fixture(scope="module")
def steep(tmp_path_factory) -> Made:
    """Slopes to 40 degrees, near the near range: layover on the steepest."""
    landscape = LandscapeOptions(size_px=600, steepest_deg=40.0, variation="none", seed=5)
    return make(tmp_path_factory.mktemp("steep"), Sentinel1Options(landscape=landscape, incidence_deg=38.0, speckle="none"))


def decibel(made: Made) -> tuple[np.ndarray, np.ndarray]:
    """VV and the truth in dB; layover and shadow are no place to look for edges."""
    power = made.product.read(bands=["VV"])[0]
    power[(made.product.mask() & (Mask.LAYOVER | Mask.SHADOW)) > 0] = np.nan
    truth = gaussian_filter(made.on_product("gamma0.tif"), 0.9)  # the radar's resolution
    return 10 * np.log10(np.maximum(power, 1e-5)), 10 * np.log10(truth)


@pytest.mark.parametrize(("name", "mean_px", "rms_px"), [("rome", 0.05, 0.1), ("steep", 0.15, 0.2)])
def test_image_lies_on_the_truth(name, mean_px, rms_px, request):
    """Within 0.2 pixel. On the steep ground the yardstick itself leans: a cell's power there comes from one end of the cell."""
    found = shifts(*decibel(request.getfixturevalue(name)))
    assert len(found) >= 9
    assert np.abs(found.mean(0)).max() < mean_px
    assert np.sqrt((found**2).mean(0)).max() < rms_px


def test_coordinates_equal_the_simulators_projection(job):
    """Line and pixel of every pixel of the steep map, by the simulator's own orbit, range tables and zero Doppler: 0.001 pixel."""
    window = Window(row=90, col=110, rows=301, cols=350)
    heights = job.dem.heights(job.grid, window)
    line, pixel = job.scene.grid.line_pixel(*make_lattice(job.plan, window).time_range(heights))
    x, y = np.meshgrid(*job.grid.centres(window))
    points = np.stack(Transformer.from_crs(job.grid.crs.to_wkt(), "EPSG:4978", always_xy=True).transform(x, y, heights), axis=-1)
    geometry = read_geometry(read_channels(Path(job.scene.path), None)[0].root)
    want_line, want_pixel = geometry.line_pixel(points)
    assert np.isfinite(want_pixel).all()
    assert np.ptp(heights) > 100
    np.testing.assert_allclose(line, want_line, atol=0.001)
    np.testing.assert_allclose(pixel, want_pixel, atol=0.001)


def test_half_a_pixel_would_be_seen(rome):
    """The yardstick itself: an image moved by (0.5, -0.3) pixel is found there."""
    image_db, truth_db = decibel(rome)
    filled = np.nan_to_num(image_db, nan=-15.0)
    moved = np.where(np.isnan(image_db), np.nan, shift(filled, (0.5, -0.3), order=3, mode="nearest"))
    difference = shifts(moved, truth_db).mean(0) - shifts(image_db, truth_db).mean(0)
    np.testing.assert_allclose(difference, (0.5, -0.3), atol=0.05)


# The same bits


@pytest.fixture(scope="module")
def job(steep):
    options = PreprocessOptions(speckle="lee", window=5, threads=2)
    scene, dem = open_scene(steep.scene.safe), open_dem([steep.scene.dem])
    return make_job(scene, dem, choose_extent(scene, dem, crs=None, spacing_m=10.0), options)


@pytest.mark.parametrize("block", [512, 200, 131])
def test_any_chunking_and_threads_give_the_same_bits(job, block):
    one = geocode_block(job, Window.whole(job.grid.shape))
    many = lazy_layers(job, block).compute(scheduler="threads", num_workers=3)
    np.testing.assert_array_equal(many, one)
    assert np.isfinite(one[0]).mean() > 0.4


def test_lazy_dataset_equals_the_files(steep):
    lazy = open_lazy(steep.scene.safe, str(steep.scene.dem))
    assert set(lazy.data_vars) == {"VV", "VH", "incidence", "ellipsoid_incidence", "mask"}
    np.testing.assert_array_equal(
        lazy["VH"].isel(y=slice(100, 300), x=slice(90, 250)), steep.product.read(bands=["VH"])[0, 100:300, 90:250]
    )
    np.testing.assert_array_equal(lazy["mask"].isel(y=slice(100, 300), x=slice(90, 250)), steep.product.mask()[100:300, 90:250])
    assert lazy["mask"].dtype == np.uint8
    assert (float(lazy.x[0]), float(lazy.y[0])) == tuple(axis[0] for axis in steep.product.grid.centres())


def test_zip_gives_the_same_bytes(steep, tmp_path):
    """Read from a compressed zip, with another number of threads: every file of the product is the same."""
    packed = shutil.make_archive(str(tmp_path / steep.scene.safe.stem), "zip", steep.scene.safe.parent, steep.scene.safe.name)
    again = preprocess(packed, tmp_path / "ard", [steep.scene.dem], PreprocessOptions(threads=1))
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in steep.folder.iterdir())
    for path in again.iterdir():
        assert path.read_bytes() == (steep.folder / path.name).read_bytes(), path.name


# What is in the folder


def test_product_folder(steep):
    names = {"VV.tif", "VH.tif", "mask.tif", "incidence.tif", "ellipsoid_incidence.tif", "quicklook.png", "item.json"}
    assert {path.name for path in steep.folder.iterdir()} == names
    assert steep.folder.name == f"{steep.scene.safe.stem}_gamma0"
    assert list(steep.folder.parent.iterdir()) == [steep.folder]
    assert steep.product.bands == ("VV", "VH")
    properties = steep.product.item["properties"]
    assert properties["sarseg:mask_computed"] == [1, 2, 4, 8, 32]
    assert properties["sar:polarizations"] == ["VV", "VH"]
    assert properties["sarseg:denoised"] == ["VH", "VV"]
    assert any("DEM covers" in text for text in properties["sarseg:warnings"])
    assert properties["proj:code"] == "EPSG:32632"
    left, top = steep.product.grid.transform.c, steep.product.grid.transform.f
    assert (left % 10, top % 10) == (0, 0)
    with rasterio.open(steep.folder / "mask.tif") as file:
        assert file.tags()["mask_bit_2"] == "layover"
    mask, power = steep.product.mask(), steep.product.read()
    np.testing.assert_array_equal(np.isnan(power).any(0), (mask & 1) == 1)
    assert set(np.unique(mask[(mask & 1) == 1])) == {1}


def test_speckle_filter_smooths_and_keeps_the_mean(flat, tmp_path):
    filtered = open_product(
        preprocess(flat.scene.safe, tmp_path, [flat.scene.truth.parent / "flat.tif"], PreprocessOptions(speckle="lee", radiometry="sigma0"))
    )
    assert filtered.item["properties"]["sarseg:speckle"] == {"filter": "lee", "window": 7, "looks": 4.4}
    inner = binary_erosion(flat.on_product("truth.tif") == 1, iterations=12)
    cosine = np.cos(np.radians(open_raster(flat.folder / "incidence.tif").read()[0][inner]))
    for before, after in zip(flat.product.read()[:, inner], filtered.read()[:, inner], strict=True):
        # sigma0 = gamma0 cos(theta); ESA's tables differ by up to 0.06 dB in real products, the simulator's do not
        assert after.mean(dtype="f8") == pytest.approx((before * cosine).mean(dtype="f8"), rel=0.01)
        assert after.std() < 0.5 * (before * cosine).std()


def test_other_grid(steep, tmp_path):
    """Degrees, a coarser spacing, an older codec."""
    options = PreprocessOptions(crs="EPSG:4326", spacing_m=40.0, compress="deflate", radiometry="beta0")
    product = open_product(preprocess(steep.scene.safe, tmp_path, [steep.scene.dem], options))
    assert product.grid.crs.to_epsg() == 4326
    assert product.grid.spacing[0] == pytest.approx(40 / 111_319.5)
    assert 0.3 < np.isfinite(product.read()[0]).mean() < 1.0
    with rasterio.open(product.path / "VV.tif") as file:
        assert file.compression.value == "DEFLATE"


# Voids and errors


def copy_dem(made: Made, to: Path, *, crs: str | None = None, change=lambda heights: heights) -> Path:
    with rasterio.open(made.scene.dem) as file:
        profile, heights = file.profile, file.read(1)
    profile = {key: profile[key] for key in ("height", "width", "count", "dtype", "transform")} | {"crs": crs or profile["crs"]}
    with rasterio.open(to, "w", driver="GTiff", **profile) as file:
        file.write(change(heights), 1)
    return to


def test_voids_of_the_dem(steep, tmp_path, shared):
    """Filled with the geoid and marked where there is one, no data otherwise; nothing else changes away from them."""

    def holes(heights: np.ndarray) -> np.ndarray:
        heights[300:340, 200:260] = np.nan
        return heights

    dem = copy_dem(steep, tmp_path / "dem.tif", change=holes)
    plain = open_product(preprocess(steep.scene.safe, tmp_path / "a", [dem], PreprocessOptions()))
    before, after = steep.product.mask(), plain.mask()
    lost = ((after & 1) == 1) & ((before & 1) == 0)
    assert 2000 < lost.sum() < 3200  # 40 x 60 posts of about 10 m
    assert not (after & Mask.DEM_FILLED).any()
    far = ~np.pad(lost, 0) & (gaussian_filter(lost.astype("f4"), 6) < 1e-6)
    np.testing.assert_array_equal(plain.read()[:, far], steep.product.read()[:, far])

    geoid = shared / "data" / "geoid" / "us_nga_egm96_15.tif"
    filled = open_product(preprocess(steep.scene.safe, tmp_path / "b", [dem], PreprocessOptions(geoid=geoid)))
    np.testing.assert_array_equal((filled.mask() & Mask.DEM_FILLED) > 0, lost)
    assert any("voids of the DEM" in text for text in filled.item["properties"]["sarseg:warnings"])


def test_errors_are_told_by_their_codes(steep, tmp_path, monkeypatch):
    monkeypatch.setattr("sarseg.raster.geoid.proj_folders", lambda: iter([]))
    out, safe = tmp_path / "out", steep.scene.safe
    with pytest.raises(MissingError, match=r"vertical datum.*--dem-datum"):
        preprocess(safe, out, [copy_dem(steep, tmp_path / "neutral.tif", crs="EPSG:4326")])
    with pytest.raises(MissingError, match=r"us_nga_egm96_15.tif.*--geoid"):
        preprocess(safe, out, [copy_dem(steep, tmp_path / "egm96.tif", crs="EPSG:9707")])
    elsewhere = copy_dem(steep, tmp_path / "elsewhere.tif")
    with rasterio.open(elsewhere, "r+") as file:
        file.transform = Affine.translation(25.0, -3.0) @ file.transform
    with pytest.raises(InputError, match=r"DEM misses the scene.*11\.\d\d\.\.11\.\d\d E"):
        preprocess(safe, out, [elsewhere])
    with pytest.raises(InputError, match="no height"):
        preprocess(safe, out, [copy_dem(steep, tmp_path / "void.tif", change=lambda heights: heights * np.nan)])
    with pytest.raises(UsageError, match="no coordinate system"):
        preprocess(safe, out, [steep.scene.dem], PreprocessOptions(crs="EPSG:nonsense"))
    for crs in ("EPSG:5773", "EPSG:4978", 'LOCAL_CS["site"]'):
        with pytest.raises(UsageError, match="no coordinate system of a map"):
            preprocess(safe, out, [steep.scene.dem], PreprocessOptions(crs=crs))
    for spacing_m in (-10.0, 0.0, np.nan, np.inf, 1e9):
        with pytest.raises(UsageError, match="the spacing is above 0"):
            preprocess(safe, out, [steep.scene.dem], PreprocessOptions(spacing_m=spacing_m))
    with pytest.raises(MissingError, match="not enough disk space"):
        preprocess(safe, out, [steep.scene.dem], PreprocessOptions(spacing_m=1e-3))
    with pytest.raises(UsageError, match="sigma1"):
        PreprocessOptions(radiometry="sigma1")
    assert not out.exists() or not any(out.iterdir())


def test_scene_without_calibration_or_image(steep, tmp_path):
    safe = tmp_path / steep.scene.safe.name
    shutil.copytree(steep.scene.safe, safe)
    next((safe / "measurement").glob("*-vh-*")).unlink()
    product = open_product(preprocess(safe, tmp_path / "out", [steep.scene.dem]))
    assert product.bands == ("VV",)
    assert any("no image" in text for text in product.item["properties"]["sarseg:warnings"])
    np.testing.assert_array_equal(product.read(bands=["VV"]), steep.product.read(bands=["VV"]))
    for path in (safe / "annotation" / "calibration").glob("calibration-*"):
        path.unlink()
    with pytest.raises(InputError, match="calibration"):
        preprocess(safe, tmp_path / "none", [steep.scene.dem])
    assert not any((tmp_path / "none").glob("*"))


def test_an_error_in_a_block_leaves_nothing(steep, tmp_path, monkeypatch):
    def broken(*_: object) -> np.ndarray:
        raise InputError("the image is damaged", "block")

    monkeypatch.setattr("sarseg.ard.preprocess.geocode_block", broken)
    with pytest.raises(InputError, match="damaged"):
        preprocess(steep.scene.safe, tmp_path / "out", [steep.scene.dem])
    assert not any((tmp_path / "out").iterdir())


def test_progress_counts_the_blocks(steep, tmp_path):
    said = []
    preprocess(steep.scene.safe, tmp_path, [steep.scene.dem], PreprocessOptions(threads=1), lambda *words: said.append(words))
    total = len(blocks(steep.product.grid.shape))
    assert [words[:2] for words in said] == [(k + 1, total) for k in range(total)]


def test_command_line(steep, tmp_path):
    words = [
        "--quiet",
        "preprocess",
        str(steep.scene.safe),
        "-o",
        str(tmp_path),
        "--dem",
        str(steep.scene.dem),
        "--radiometry",
        "sigma0",
        "--json",
    ]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    folder = tmp_path / f"{steep.scene.safe.stem}_sigma0"
    assert json.loads(result.stdout) == {"products": [str(folder)]}
    assert open_product(folder).item["properties"]["sarseg:quantity"] == "sigma0"
    assert sarseg.preprocess is preprocess
