"""Speckle, noise, Doppler spectrum, correlation of polarisations and shadow of simulated PALSAR images, against formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy.ndimage import binary_erosion

from sarseg.ard.preprocess import PreprocessOptions, preprocess
from sarseg.masks import Mask
from sarseg.product.open import open_product
from sarseg.raster.read import open_raster
from sarseg.scene.open import open_scene
from sarseg.simulate.landscape import make_landscape, read_landscape
from sarseg.simulate.options import LandscapeOptions
from sarseg.simulate.palsar import simulate_palsar
from sarseg.simulate.palsar_modes import QUAD, PalsarOptions
from sarseg.simulate.palsar_plan import plan_scene
from sarseg.simulate.palsar_radar import make_palsar_radar
from sarseg.tiles import Window

NOISE = 10**-3.2
SIDE = 280


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A flat landscape: forest in the north, built-up land in the south; no variation."""
    folder = tmp_path_factory.mktemp("plain")
    codes = np.full((SIDE, SIDE), 6, "u1")
    codes[SIDE // 2 :] = 7
    profile = {"driver": "GTiff", "count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(folder / "cover.tif", "w", transform=Affine(10, 0, 663_000, 0, -10, 5_331_000), **profile) as file:
        file.write(codes, 1)
    profile = {"driver": "GTiff", "count": 1, "height": 80, "width": 100, "dtype": "float32", "crs": "EPSG:4979"}
    with rasterio.open(folder / "flat.tif", "w", transform=Affine(0.001, 0, 11.16, 0, -0.001, 48.14), **profile) as file:
        file.write(np.full((80, 100), 60.0, "f4"), 1)
    land = LandscapeOptions(variation="none", dem=folder / "flat.tif", landcover=folder / "cover.tif")
    simulate_palsar(folder, PalsarOptions(landscape=land))
    return folder


def images(folder: Path, out: Path, **words) -> tuple[dict[str, np.ndarray], PalsarOptions]:
    """Samples of each polarisation."""
    options = PalsarOptions(landscape_dir=folder, seed=9, **words)
    scene = open_scene(simulate_palsar(out, options).product)
    take = scene.slc if options.level == "1.1" else scene.power
    return {pol: take(pol, Window.whole(scene.grid.shape)) for pol in options.polarisations}, options


def halves(image: np.ndarray, *, rising: bool) -> tuple[np.ndarray, np.ndarray]:
    """The inner parts of forest and built-up land: north is where time ends (rising) or the first line."""
    lines, pixels = image.shape
    cols = slice(pixels * 3 // 10, pixels * 7 // 10)
    ends = image[lines // 5 : lines * 2 // 5, cols], image[lines * 3 // 5 : lines * 4 // 5, cols]
    return ends[::-1] if rising else ends


def correlation(band: float, lag: int) -> float:
    """Of a complex field whose spectrum is the square of a Hamming window (0.75) over a share of the band."""
    f = np.linspace(-0.5, 0.5, 4001) * band
    window = 0.75 + 0.25 * np.cos(2 * np.pi * f / band)
    return float(np.sum(window**2 * np.cos(2 * np.pi * f * lag)) / np.sum(window**2))


def forest_sigma0() -> float:
    """In HH, with noise, in the landscape's middle: 39 degrees; 0.3 degrees aside change it by 0.5 %."""
    return 10**-0.75 * float(np.cos(np.radians(39.0))) + NOISE


def lagged(field: np.ndarray, axis: int) -> complex:
    """Correlation of neighbours."""
    one, other = (np.moveaxis(field, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
    return complex(np.sum(one * other.conj()) / np.sum(np.abs(field) ** 2))


@pytest.mark.parametrize(
    ("mission", "azimuth", "across"), [("alos1", 1507.42 / 1901.14, 14 / 16), ("alos2", 1355.93 / 2122.32, 24.9 / 34.9305)]
)
def test_complex_speckle(plain, tmp_path, mission, azimuth, across):
    """Level 1.1: one look, the correlation of the sensor's bandwidths, the spectrum around the image's Doppler frequency."""
    found, options = images(plain, tmp_path, mission=mission, level="1.1")
    forest, _ = halves(found["HH"], rising=True)
    power = np.abs(forest) ** 2
    independent = power.size * azimuth * across
    assert independent > 5_000
    assert power.mean() * 10**-11.5 == pytest.approx(forest_sigma0(), rel=4 / np.sqrt(independent) + 0.01)
    assert power.mean() ** 2 / power.var() == pytest.approx(1.0, abs=5 * np.sqrt(8 / independent))
    along, beside = lagged(forest, 0), lagged(forest, 1)
    error = 4 / np.sqrt(independent)
    assert abs(along) == pytest.approx(correlation(azimuth, 1), abs=error)
    assert beside.real == pytest.approx(correlation(across, 1), abs=error)
    frequency = np.angle(along) / (2 * np.pi) * options.mode.prf_hz
    want = 55.0 if mission == "alos1" else 0.0
    assert frequency == pytest.approx(want, abs=options.mode.prf_hz / (2 * np.pi) * error / abs(along))
    cross, other = halves(found["HV"], rising=True)[0], forest
    assert abs(np.mean(cross * other.conj())) < 4 / np.sqrt(independent) * np.sqrt(np.mean(np.abs(cross) ** 2) * power.mean())


@pytest.mark.parametrize(("mission", "looks"), [("alos1", 3.6), ("alos2", 1.8)])
def test_looks_of_level_15(plain, tmp_path, mission, looks):
    """0.9 of four and of two looks."""
    found, _ = images(plain, tmp_path, mission=mission, level="1.5", direction="descending")
    forest, built = halves(found["HH"], rising=False)
    for part in (forest, built):
        assert np.isfinite(part).all()
        assert part.mean() ** 2 / part.var() == pytest.approx(looks, rel=0.12)
    assert forest.mean() * 10**-8.3 == pytest.approx(forest_sigma0(), rel=4 / np.sqrt(forest.size * looks * 0.5) + 0.01)
    assert forest.mean() < built.mean()


def test_quad_polarisations_are_correlated(plain, tmp_path):
    """HH and VV as the table says (0.25 in forest, -0.5 in towns, less for noise), HV and VH one field and noise, HH and HV not."""
    found, _ = images(plain, tmp_path, mission="alos2", level="1.1", polarisations=QUAD)
    parts = {pol: halves(image, rising=True) for pol, image in found.items()}

    def coherence(one: str, other: str, part: int) -> complex:
        a, b = parts[one][part], parts[other][part]
        return complex(np.mean(a * b.conj()) / np.sqrt(np.mean(np.abs(a) ** 2) * np.mean(np.abs(b) ** 2)))

    error = 4 / np.sqrt(parts["HH"][0].size * 0.46)
    assert error < 0.05
    for part, want in ((0, 0.25), (1, -0.5)):
        assert coherence("HH", "VV", part) == pytest.approx(want, abs=error)
        assert abs(coherence("HH", "HV", part)) < error
        hv = np.mean(np.abs(parts["HV"][part]) ** 2)
        noise = NOISE * 10**11.5
        assert coherence("HV", "VH", part) == pytest.approx(1 - noise / hv, abs=0.01)


def test_blocks_have_no_seams(plain):
    """Expected sigma0 of a part is that part of the whole's."""
    plan = plan_scene(read_landscape(plain), PalsarOptions(landscape_dir=plain, geocoded=True))
    radar = make_palsar_radar(read_landscape(plain), plan)
    whole, inside = radar.sigma0(Window.whole(plan.image.shape))
    part = Window(row=101, col=60, rows=90, cols=110)
    power, there = radar.sigma0(part)
    np.testing.assert_array_equal(there, inside[part.slices])
    assert there.all()
    np.testing.assert_allclose(power, whole[(slice(None), *part.slices)], rtol=1e-9)


@pytest.mark.parametrize("words", [{"mission": "alos1", "level": "1.1"}, {"mission": "alos2", "geocoded": True, "direction": "descending"}])
def test_shadow_holds_noise_only(tmp_path, words):
    """Where the processor, by a way of its own, finds shadow behind slopes of 60 degrees, there is noise and nothing else."""
    land = LandscapeOptions(size_px=160, steepest_deg=60.0, variation="none", seed=8)
    written = simulate_palsar(tmp_path, PalsarOptions(landscape=land, incidence_deg=50.0, speckle=False, **words))
    folder = preprocess(written.product, tmp_path / "ard", [written.dem], PreprocessOptions(threads=1))
    product = open_product(folder)
    mask = product.mask()
    (theta_deg,) = open_raster(folder / "ellipsoid_incidence.tif").read()
    noise = NOISE / np.cos(np.radians(theta_deg))
    ratio = product.read(bands=["HV"])[0] / noise
    dark = binary_erosion(mask & Mask.SHADOW > 0, iterations=2) & (mask & (Mask.LAYOVER | Mask.NO_DATA) == 0)
    assert dark.sum() > 1000
    assert np.median(ratio[dark]) == pytest.approx(1.0, abs=0.03)
    clear = binary_erosion(mask == 0, iterations=3)
    assert np.mean(ratio[clear] < 1.01) < 0.01


def test_landscape_is_that_of_the_other_sensors(tmp_path):
    """The same seed gives the truth that `simulate sentinel1` has, by its own maker."""
    options = LandscapeOptions(size_px=96, seed=12)
    written = simulate_palsar(tmp_path, PalsarOptions(landscape=options, mission="alos1"))
    other = make_landscape(options)
    np.testing.assert_array_equal(open_raster(written.truth).read_codes(), other.codes)
    np.testing.assert_array_equal(open_raster(written.dem).read()[0], other.terrain.height_m)
