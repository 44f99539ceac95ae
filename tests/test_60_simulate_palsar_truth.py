"""Simulated PALSAR products through `sarseg preprocess`: on the truth, and with the backscatter that was put in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from registration import shifts
from scipy.ndimage import binary_erosion, gaussian_filter, shift

from sarseg.ard.preprocess import PreprocessOptions, preprocess
from sarseg.masks import Mask
from sarseg.product.open import open_product
from sarseg.radar.geometry import range_doppler
from sarseg.raster.read import open_raster
from sarseg.scene.open import open_scene
from sarseg.simulate.landscape import Landscape, make_landscape, read_landscape
from sarseg.simulate.lband import TABLE, LBandGround
from sarseg.simulate.options import LandscapeOptions
from sarseg.simulate.palsar import simulate_palsar
from sarseg.simulate.palsar_modes import PalsarOptions
from sarseg.simulate.palsar_plan import plan_scene
from sarseg.tiles import Window

NOISE = 10**-3.2
ROWS, FLAT, COLS = 414, 100, 460
"""The landscape's map: a flat strip of class blocks in the west, hills with a made-up land cover in the east; pixels of 10 m."""

KINDS = {
    "alos1 1.1": {"mission": "alos1", "level": "1.1"},
    "alos1 1.1 -300 Hz": {"mission": "alos1", "level": "1.1", "doppler_hz": -300.0, "direction": "descending"},
    "alos2 1.1": {"mission": "alos2", "level": "1.1", "direction": "descending"},
    "alos1 R": {"mission": "alos1", "level": "1.5"},
    "alos2 R": {"mission": "alos2", "level": "1.5", "direction": "descending"},
    "alos1 G": {"mission": "alos1", "level": "1.5", "geocoded": True, "direction": "descending"},
    "alos2 G": {"mission": "alos2", "level": "1.5", "geocoded": True},
}


def hills(x, y):
    """Heights, m, at easting and northing from the map's south-west corner: 60 in the west, to 240 m and 22 degrees in the east."""
    rise = np.clip((x - 1200.0) / 300.0, 0.0, 1.0)
    return 60.0 + rise**2 * (3 - 2 * rise) * (90.0 + 90.0 * np.sin(x / 260.0) * np.cos(y / 330.0))


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Path:
    """A folder with a landscape of given heights and land cover, written by the first scene."""
    folder = tmp_path_factory.mktemp("ground")
    corner = np.array([666_000.0, 5_330_000.0])
    codes = np.empty((ROWS, COLS), "u1")
    made = make_landscape(LandscapeOptions(size_px=414, seed=4)).codes
    codes[:, FLAT:] = made[:ROWS, : COLS - FLAT]
    for row in range(ROWS):
        codes[row, :FLAT] = min(7, 1 + row // 59)
    transform = Affine(10, 0, corner[0], 0, -10, corner[1] + 10 * ROWS)
    profile = {"driver": "GTiff", "count": 1, "height": ROWS, "width": COLS, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(folder / "cover.tif", "w", transform=transform, **profile) as file:
        file.write(codes, 1)
    to_map = Transformer.from_crs(4326, 32632, always_xy=True)
    west, south = to_map.transform(corner[0] - 600, corner[1] - 600, direction="INVERSE")
    step = 1 / 9000
    shape = 510, 760
    lon, lat = np.meshgrid(west + (np.arange(shape[1]) + 0.5) * step, south + (shape[0] - np.arange(shape[0]) - 0.5) * step)
    x, y = to_map.transform(lon, lat)
    profile = {"driver": "GTiff", "count": 1, "height": shape[0], "width": shape[1], "dtype": "float32", "crs": "EPSG:4979"}
    with rasterio.open(folder / "heights.tif", "w", transform=Affine(step, 0, west, 0, -step, south + shape[0] * step), **profile) as file:
        file.write(hills(x - corner[0], y - corner[1]).astype("f4"), 1)
    land = LandscapeOptions(variation="none", dem=folder / "heights.tif", landcover=folder / "cover.tif")
    simulate_palsar(folder, PalsarOptions(landscape=land, mission="alos1", speckle=False))
    return folder


@dataclass
class Made:
    """A terrain-corrected scene on the landscape's own grid; places outside of it are NaN."""

    options: PalsarOptions
    landscape: Landscape
    scene: Path
    folder: Path
    power: np.ndarray
    hidden: np.ndarray


@pytest.fixture(scope="module", params=KINDS)
def made(request, ground, tmp_path_factory) -> Made:
    """Without speckle: what is looked for is not of the mean."""
    out = tmp_path_factory.mktemp("scene")
    options = PalsarOptions(landscape_dir=ground, speckle=False, **KINDS[request.param])
    written = simulate_palsar(out, options)
    assert sorted(path.name for path in out.iterdir()) == [written.product.name]
    folder = preprocess(written.product, out / "ard", [written.dem], PreprocessOptions(crs="EPSG:32632", threads=1))
    landscape, product = read_landscape(ground), open_product(folder)
    assert open_scene(written.product).warnings == ()
    power = on_landscape(landscape, product.grid, product.read(bands=["HH", "HV"]))
    mask = on_landscape(landscape, product.grid, product.mask()[np.newaxis].astype(float))[0]
    hidden = ~np.isfinite(mask) | (np.nan_to_num(mask).astype(int) & int(Mask.LAYOVER | Mask.SHADOW | Mask.NO_DATA) > 0)
    return Made(options, landscape, written.product, folder, power, hidden)


def on_landscape(landscape: Landscape, grid, planes: np.ndarray) -> np.ndarray:
    down, right = grid.offset_of(landscape.grid)
    out = np.full((len(planes), *landscape.grid.shape), np.nan)
    rows, cols = (np.arange(size) + start for size, start in zip(landscape.grid.shape, (down, right), strict=True))
    there = (rows >= 0) & (rows < grid.shape[0]), (cols >= 0) & (cols < grid.shape[1])
    out[:, there[0][:, None] & there[1][None, :]] = planes[:, rows[there[0]]][:, :, cols[there[1]]].reshape(len(planes), -1)
    return out


def test_class_means_on_flat_ground(made):
    """gamma0 of every class, within 0.02 dB (0.1 was asked for, 0.004 measured) of what was put in and its noise, which no table lets
    subtract: water's HV, 4 dB below the noise, too."""
    gamma0, slope_db = LBandGround(landscape=made.landscape).gamma0(Window.whole(made.landscape.grid.shape), ("HH", "HV"))
    product = open_product(made.folder)
    (theta_deg,) = on_landscape(made.landscape, product.grid, open_raster(made.folder / "ellipsoid_incidence.tif").read().astype(float))
    strip = np.zeros(made.landscape.grid.shape, bool)
    strip[:, :FLAT] = True
    for code, name in zip(made.landscape.legend.codes, made.landscape.legend.names, strict=True):
        inner = binary_erosion(strip & (made.landscape.codes == code), iterations=6) & ~made.hidden
        assert inner.sum() > 1000
        for k, pol in enumerate(("HH", "HV")):
            assert 10 * np.log10(gamma0[k][inner].mean()) == pytest.approx(TABLE[name].gamma0_db[k], abs=1e-4)
            law = gamma0[k][inner] * 10 ** (slope_db[k][inner] * (theta_deg[inner] - 39) / 10)
            want = np.mean(law + NOISE / np.cos(np.radians(theta_deg[inner])))
            assert 10 * np.log10(made.power[k][inner].mean() / want) == pytest.approx(0, abs=0.02), (name, pol)


def test_image_lies_on_the_truth(made):
    """Within 0.2 pixel of 10 m, on slopes to 22 degrees and 180 m of relief, by the classes' edges."""
    gamma0, _ = LBandGround(landscape=made.landscape).gamma0(Window.whole(made.landscape.grid.shape), ("HH", "HV"))
    image = 10 * np.log10(np.maximum(made.power[0], 1e-5))
    image[made.hidden] = np.nan
    found = shifts(image[:, FLAT:], 10 * np.log10(gaussian_filter(gamma0[0], 0.9))[:, FLAT:], size=90, first=20)
    assert len(found) >= 6
    assert np.abs(found.mean(0)).max() < 0.12, found.mean(0)
    assert np.sqrt((found**2).mean(0)).max() < 0.2, found


def test_coordinates_equal_the_simulators_projection(made):
    """Line and pixel of terrain points by the reader's orbit, Doppler and polynomials against the simulator's own way.

    Measured 0.003 lines at worst: ALOS-1's times are whole milliseconds, through which the reader puts a straight line.
    """
    plan = plan_scene(made.landscape, made.options)
    scene = open_scene(made.scene)
    x, y = np.meshgrid(*(values[::17] for values in made.landscape.grid.centres()))
    lon, lat = Transformer.from_crs(32632, 4326, always_xy=True).transform(x, y)
    height = made.landscape.terrain.height_at(lon, lat)
    points = np.stack(Transformer.from_crs(4979, 4978, always_xy=True).transform(lon, lat, height), axis=-1)
    assert np.ptp(height) > 100
    want = plan.image.to_image(*plan.view.see(points))
    t_s, slant = range_doppler(points, scene.orbit, scene.grid.doppler)
    line, pixel = scene.grid.line_pixel(t_s, slant)
    np.testing.assert_allclose(line, want[0], atol=0.01)
    np.testing.assert_allclose(pixel, want[1], atol=0.002)


def test_half_a_pixel_would_be_seen(ground):
    """The yardstick itself: the truth moved by (0.5, -0.3) pixel is found there."""
    landscape = read_landscape(ground)
    gamma0, _ = LBandGround(landscape=landscape).gamma0(Window.whole(landscape.grid.shape), ("HH",))
    truth = 10 * np.log10(gaussian_filter(gamma0[0], 0.9))[:, FLAT:]
    np.testing.assert_allclose(
        shifts(shift(truth, (0.5, -0.3), order=3, mode="nearest"), truth, size=90, first=20).mean(0), (0.5, -0.3), atol=0.05
    )
