"""Native against SNAP: a replay of SNAP's choices explains its geometry and values, and our defaults differ by what is known.

Calibration and denoising by our tables equal SNAP's in test_60_ard_radiometry.py and test_50_scene_tables.py, Lee's filter in
test_40_speckle_lee.py. What the differences mean stands in docs/snap.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from snap_replay import SnapDem, SnapView, snap_bilinear, snap_calibrate, snap_view, with_pixels

from sarseg.ard.extent import Extent
from sarseg.ard.geocode import geocode_block, see_terrain
from sarseg.ard.preprocess import PreprocessOptions, make_job
from sarseg.grid import MapGrid
from sarseg.legend import LandClass, Legend
from sarseg.patches import PatchOptions, Source, open_dataset, write_dataset
from sarseg.radar.lattice import make_lattice
from sarseg.raster.dem import open_dem
from sarseg.scene.model import Scene
from sarseg.scene.open import open_scene
from sarseg.tiles import Window

INPUT = Window(row=7440, col=21600, rows=1280, cols=1070)
"""Where inputs/dn_window.tif lies in the image (data/snap_reference/README.md)."""
INNER = Window(row=100, col=100, rows=256, cols=256)
"""Of the map: what the smaller reference files hold."""


@dataclass(frozen=True, kw_only=True)
class Rome:
    """The scene with the reference's pixels, its DEM as SNAP was given it, and the map of the reference."""

    scene: Scene
    dn: np.ndarray
    dem: SnapDem
    grid: MapGrid
    view: SnapView
    col_row: np.ndarray
    """SNAP's sample and line, float64 (2, rows, cols)."""
    folder: Path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def ramps(path: Path) -> np.ndarray:
    """Sample and line of two ramp images (data/snap_reference/README.md)."""
    return read(path).astype(float) - 1 + np.array([INPUT.col, INPUT.row])[:, None, None]


@pytest.fixture(scope="module")
def rome(shared, tmp_path_factory) -> Rome:
    data, folder = shared / "data", tmp_path_factory.mktemp("rome")
    with rasterio.open(data / "s1_grd_rome/Rome-30m-DEM.tif") as file:
        dem = SnapDem(heights_m=file.read(1).astype(float), transform=file.transform)
    with rasterio.open(data / "snap_reference/terrain_correction/col_row.tif") as file:
        grid = MapGrid(crs=file.crs, transform=file.transform, shape=file.shape)
    with pytest.warns(NotGeoreferencedWarning):
        (dn,) = read(data / "snap_reference/inputs/dn_window.tif")
    (path,) = (data / "s1_grd_rome").glob("*.SAFE")
    scene = with_pixels(open_scene(path), dn, (INPUT.row, INPUT.col), folder)
    col_row = ramps(data / "snap_reference/terrain_correction/col_row.tif")
    return Rome(scene=scene, dn=dn, dem=dem, grid=grid, view=snap_view(scene, dem, grid), col_row=col_row, folder=folder)


def sigma0_of_input(rome: Rome) -> np.ndarray:
    return snap_calibrate(rome.dn, rome.scene.calibration["VV"].amplitude("sigma0", INPUT), None)


def test_the_replay_finds_the_samples_and_lines_of_snap(rome):
    column, line = np.abs(rome.view.pixel - rome.col_row[0]), np.abs(rome.view.line - rome.col_row[1])
    assert column.shape == (515, 513)
    assert np.quantile(column, 0.99) < 1e-4
    assert column.max() < 0.03  # where the bisection ends one step earlier or later
    assert line.max() < 2e-4


def test_the_replay_finds_the_lines_of_snap_14(shared, rome):
    want = ramps(shared / "data/snap_reference/terrain_correction/col_row_snap14.tif")
    view = snap_view(rome.scene, rome.dem, rome.grid.crop(INNER), version=14)
    assert np.abs(view.line - want[1]).max() < 2e-4
    assert np.abs(view.pixel - want[0]).max() < 1e-4
    later = view.line - rome.view.line[INNER.slices]  # the wrong sign of the bistatic term, 3 m here
    assert 0.295 < later.min() < later.max() < 0.306


def test_each_of_snaps_choices_is_needed(rome):
    """Without its tolerance of 0.1 m in range, and without its half pixel of the DEM, the samples are missed."""
    exact = np.abs(snap_view(rome.scene, rome.dem, rome.grid, exact_range=True).pixel - rome.col_row[0])
    assert 0.005 < np.median(exact) < exact.max() < 0.0145
    moved = replace(rome.dem, transform=rome.dem.transform @ Affine.translation(0.5, 0.5))
    missed = np.abs(snap_view(rome.scene, moved, rome.grid).pixel - rome.col_row[0])
    assert np.quantile(missed, 0.99) > 0.5


def test_the_replay_finds_elevation_and_angles(shared, rome):
    local, _, ellipsoid, elevation = read(shared / "data/snap_reference/terrain_correction/angles.tif")
    for got, want, tolerance in (
        (rome.view.height_m, elevation, 5e-6),
        (rome.view.local_incidence_deg, local, 1e-5),
        (rome.view.ellipsoid_incidence_deg, ellipsoid, 5e-6),
    ):
        np.testing.assert_allclose(got[INNER.slices], want, rtol=0, atol=tolerance)


def test_the_replay_gives_the_image_of_snap(shared, rome):
    """Zeros of the hole at the same pixels, and their rims; bilinear weights of float32 steps of 1e-5 pixel."""
    (want,) = read(shared / "data/snap_reference/terrain_correction/sigma0_bilinear.tif")
    got = snap_bilinear(sigma0_of_input(rome), rome.view.line - INPUT.row, rome.view.pixel - INPUT.col)
    np.testing.assert_array_equal(got == 0, want == 0)
    assert np.count_nonzero(want == 0) == 1147
    error = np.abs(got / np.where(want == 0, np.nan, want) - 1)
    assert np.nanquantile(error, 0.99) < 1e-4
    assert np.nanmax(error) < 0.01


def test_the_replay_gives_the_rims_of_snap_14(rome):
    """Counted in a run of SNAP 14: 1292 pixels beside a zero, of which 1221 are zero."""
    view = snap_view(rome.scene, rome.dem, rome.grid, version=14)
    thirteen, fourteen = (
        snap_bilinear(sigma0_of_input(rome), view.line - INPUT.row, view.pixel - INPUT.col, version=version) for version in (13, 14)
    )
    assert np.count_nonzero(fourteen == 0) == 1221
    assert np.count_nonzero((fourteen != thirteen) | (thirteen == 0)) == 1292


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("version", "name"), [(13, "sigma0_denoised.tif"), (14, "sigma0_denoised_snap14.tif")])
def test_the_replay_gives_the_noise_floors_of_snap(shared, rome, version, name):
    (want,) = read(shared / "data/snap_reference/calibration" / name)
    window = Window(row=7500, col=21700, rows=want.shape[0], cols=want.shape[1])
    amplitude, noise = rome.scene.calibration["VV"].amplitude("sigma0", window), rome.scene.noise["VV"].power(window)
    got = snap_calibrate(rome.dn[window.relative_to(INPUT).slices], amplitude, noise, version=version)
    np.testing.assert_array_equal(got == 0, want == 0)
    np.testing.assert_allclose(got, want, rtol=5e-6)
    floored = want < {13: 2e-5, 14: 1e-9}[version]
    assert np.count_nonzero(floored & (want > {13: 1e-5, 14: 0}[version])) > 150


def native(rome: Rome, *, dem_shift: float, bistatic: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line, pixel and sigma0 (no denoising, as in the reference) of the native engine, float (rows, cols)."""
    heights = rome.dem.heights_m
    path = rome.folder / f"dem{dem_shift}.tif"
    transform = rome.dem.transform @ Affine.translation(-dem_shift, -dem_shift)
    profile = {"driver": "GTiff", "count": 1, "height": heights.shape[0], "width": heights.shape[1], "dtype": "float32"}
    with rasterio.open(path, "w", crs="EPSG:4979", transform=transform, **profile) as file:
        file.write(heights.astype("f4"), 1)
    scene = replace(rome.scene, grid=replace(rome.scene.grid, bistatic=bistatic))
    options = PreprocessOptions(threads=1, radiometry="sigma0")
    job = replace(make_job(scene, open_dem([path]), Extent(grid=rome.grid, dem_share=1.0), options), denoised=frozenset())
    whole = Window.whole(rome.grid.shape)
    terrain = see_terrain(job, make_lattice(job.plan, whole))
    line, pixel = scene.grid.line_pixel(terrain.t_s, terrain.slant_range_m)
    return line, pixel, geocode_block(job, whole)[0]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the native engine does, and the differences to SNAP 13 that it may have.

    Largest in column and line (pixels of 10 m), 99 % in metres, |mean| and rms in dB of a speckled image.
    """

    dem_shift: float
    bistatic: bool
    column: float
    line: float
    p99_m: float
    bias_db: float
    rms_db: float


@pytest.mark.parametrize(
    "case",
    [
        Case(dem_shift=0.5, bistatic=False, column=0.0146, line=5e-4, p99_m=0.145, bias_db=0.001, rms_db=0.05),
        Case(dem_shift=0.5, bistatic=True, column=0.016, line=0.126, p99_m=1.25, bias_db=0.005, rms_db=0.4),
        Case(dem_shift=0.0, bistatic=True, column=1.02, line=0.126, p99_m=5.5, bias_db=0.005, rms_db=0.6),
    ],
    ids=["as SNAP chooses", "with our bistatic term", "our defaults"],
)
def test_the_native_engine_differs_from_snap_as_known(shared, rome, case):
    """The whole engine, DN to map; each of our choices adds its share (docs/snap.md). Ours loses the rim of holes, not its values."""
    (want,) = read(shared / "data/snap_reference/terrain_correction/sigma0_bilinear.tif")
    line, pixel, sigma0 = native(rome, dem_shift=case.dem_shift, bistatic=case.bistatic)
    column, lines = np.abs(pixel - rome.col_row[0]), np.abs(line - rome.col_row[1])
    assert 0.9 * case.column < column.max() < case.column
    assert lines.max() < case.line
    assert np.quantile(10 * np.hypot(column, lines), 0.99) < case.p99_m
    both = np.isfinite(sigma0) & (want > 0)
    assert both.mean() > 0.99
    difference_db = 10 * np.log10(sigma0[both] / want[both])
    assert abs(difference_db.mean()) < case.bias_db
    assert np.sqrt(np.mean(difference_db**2)) < case.rms_db


def test_our_bistatic_term_is_the_line_difference(rome):
    """1.2 m here, at far range: what SNAP 13 leaves out, to a thousandth of a line."""
    line, _, _ = native(rome, dem_shift=0.5, bistatic=True)
    grid = rome.scene.grid
    slant_m = grid.slant_range_m(rome.col_row[1], rome.col_row[0])
    term = (2.0 * slant_m / 299_792_458.0 - grid.tau_ref_s) / 2.0 / grid.line_interval_s
    assert 0.113 < term.min() < term.max() < 0.125
    assert np.abs(line + term - rome.col_row[1]).max() < 0.001


def test_patches_of_snaps_product_hold_its_pixels(shared, tmp_path):
    """A .dim is a product for `patches` too; `info` and `predict` are in test_40_product_pipeline.py, `compare` in test_70_compare.py."""
    with rasterio.open(shared / "data/snap_reference/products/map.tif") as file:
        sigma0, profile = file.read(1), file.profile
    legend = Legend((LandClass(code=1, name="left", color=(0, 0, 250)), LandClass(code=4, name="right", color=(200, 150, 90))))
    codes = np.where(np.arange(sigma0.shape[1]) < 100, 1, 4).astype("u1") * np.ones(sigma0.shape, "u1")
    labels = tmp_path / "labels.tif"
    with rasterio.open(labels, "w", **{**profile, "count": 1, "dtype": "uint8", "nodata": 0}) as file:
        file.write(codes, 1)
    source = Source(image=shared / "data/snap_reference/products/map.dim", labels=labels)
    options = PatchOptions(size=32, stride=32, legend=legend, min_valid=0.1)
    dataset = open_dataset(write_dataset(tmp_path / "data", [source], options))
    rows, cols = dataset.index["row"], dataset.index["col"]
    assert len(rows) > 20
    for at, (row, col) in enumerate(zip(rows, cols, strict=True)):
        image, mask = dataset.read(at)
        there = sigma0[row : row + 32, col : col + 32]
        np.testing.assert_array_equal(image[0], np.where(there == 0, np.nan, there))
        np.testing.assert_array_equal(mask[there != 0], codes[row : row + 32, col : col + 32][there != 0])
