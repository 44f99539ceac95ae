"""Calibration and noise of real products against SNAP's own results and against loops over the files."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from sarseg.scene.open import open_scene
from sarseg.scene.safe import open_safe
from sarseg.tiles import Window

LINE0, PIXEL0 = 7440, 21600  # where inputs/dn_window.tif lies (data/snap_reference/README.md)
LINE, PIXEL = 7500, 21700  # where the reference windows start


@pytest.fixture(scope="module")
def rome(shared):
    (path,) = (shared / "data/s1_grd_rome").glob("*.SAFE")
    return open_scene(path)


def read(path, band=1):
    with rasterio.open(path) as dataset:
        return dataset.read(band).astype(np.float64)


def window_and_dn(shared, size):
    dn = read(shared / "data/snap_reference/inputs/dn_window.tif")
    row, col = LINE - LINE0, PIXEL - PIXEL0
    return Window(row=LINE, col=PIXEL, rows=size, cols=size), dn[row : row + size, col : col + size]


# GeoTIFFs of images in radar geometry have no georeference
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("quantity", "file", "band", "size"),
    [("sigma0", "sigma0", 1, 400), ("beta0", "beta0_gamma0", 1, 200), ("gamma0", "beta0_gamma0", 2, 200)],
)
def test_calibration_equals_snap(shared, rome, quantity, file, band, size):
    window, dn = window_and_dn(shared, size)
    want = read(shared / f"data/snap_reference/calibration/{file}.tif", band)
    got = dn**2 / rome.calibration["VV"].amplitude(quantity, window) ** 2
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_denoising_equals_snap_above_the_floor(shared, rome):
    window, dn = window_and_dn(shared, 400)
    want = read(shared / "data/snap_reference/calibration/sigma0_denoised.tif")
    got = (dn**2 - rome.noise["VV"].power(window)) / rome.calibration["VV"].amplitude("sigma0", window) ** 2
    floored = got < 0
    assert floored.sum() == 1213  # as many as SNAP floors, to values of 1.61e-5 .. 1.62e-5
    assert ((want[floored] > 1.61e-5) & (want[floored] < 1.63e-5)).all()
    error = np.abs(got / want - 1)[~floored]
    assert (error < 1e-6).mean() >= 0.999
    assert error.max() <= 5e-5


def tables(path, kind, tag):
    safe = open_safe(path)
    (name,) = [name for name in safe.names if name.rpartition("/")[2].startswith(f"{kind}-") and name.endswith("hh.xml")]
    root = safe.xml(name)
    vectors = [
        (vector.integer("line"), vector.numbers("pixel"), vector.numbers(tag).astype("f4").astype("f8"))
        for vector in root.all("noiseRangeVectorList/noiseRangeVector")
    ]
    blocks = [
        (
            block.text("swath"),
            *[block.integer(key) for key in ("firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample")],
            block.numbers("line"),
            block.numbers("noiseAzimuthLut").astype("f4").astype("f8"),
        )
        for block in root.all("noiseAzimuthVectorList/noiseAzimuthVector")
    ]
    return vectors, blocks


def noise_by_hand(vectors, blocks, line, pixel):
    """The definition for one pixel of an EW product, by the line labels instead of the times."""
    home = [b for b in blocks if b[1] <= line <= b[2] and b[3] <= pixel <= b[4]]
    if not home:
        return np.nan
    _, first, last, left, right, at, factor = home[0]
    mine = []
    for row, pixels, values in vectors:
        if first <= row <= last:
            inside = (pixels >= left) & (pixels <= right)
            mine.append((row, pixels[inside], values[inside]))
    along = []
    for _, pixels, values in mine:
        i = int(np.clip(np.searchsorted(pixels, pixel), 1, len(pixels) - 1))
        v0, v1 = values[i - 1], values[i]
        weight = (pixel - pixels[i - 1]) / (pixels[i] - pixels[i - 1])
        along.append(v0 + np.clip(weight, 0, 1) * (v1 - v0) if v0 and v1 else np.nan)
    return np.interp(line, [row for row, _, _ in mine], along) * np.interp(line, at, factor)


def test_noise_of_an_ew_product_is_the_definition(shared):
    (path,) = (shared / "data/s1_grd_metadata").glob("*_BB15.zip")
    noise, (vectors, blocks) = open_scene(path).noise["HH"], tables(path, "noise", "noiseRangeLut")
    rng = np.random.default_rng(2)
    seams = [3111, 3112, 5012, 5013, 7083, 7084, 8958, 8959]
    compared = 0
    for line in [1345, 1400, 1503, 1504, 5000, 10706, 10707, *rng.integers(1345, 10707, 12)]:
        got = noise.power(Window(row=int(line), col=0, rows=1, cols=10487))[0]
        for pixel in [*seams, *rng.integers(40, 10400, 40)]:
            want = noise_by_hand(vectors, blocks, int(line), int(pixel))
            assert got[pixel] == pytest.approx(want, rel=1e-6)  # labels are whole lines, times are exact
            compared += 1
    assert compared == 19 * 48


def test_the_start_of_an_ew_product_has_no_data_where_no_block_lies(shared):
    (path,) = (shared / "data/s1_grd_metadata").glob("*_BB15.zip")
    scene = open_scene(path)
    top = scene.noise["HH"].power(Window(row=0, col=0, rows=500, cols=10487))
    covered = np.zeros(top.shape, bool)
    for _, first, last, left, right, *_ in tables(path, "noise", "noiseRangeLut")[1]:
        covered[first : last + 1, left : right + 1] = True
    assert np.isnan(top[~covered]).all()
    assert (~covered).sum() / (10708 * 10487) == pytest.approx(0.0174, abs=1e-4)  # docs/sentinel1.md 5
    assert np.isfinite(top[covered]).mean() > 0.99
    assert np.nanmin(top) > 0


def test_noise_of_the_old_format_and_of_stripmap_has_no_blocks(shared):
    for product, polarisation in (("6D00", "VV"), ("4B8B", "HH")):
        (path,) = (shared / "data/s1_grd_metadata").glob(f"*_{product}.zip")
        scene = open_scene(path)
        noise = scene.noise[polarisation]
        assert noise.blocks == ()
        power = noise.power(Window(row=5000, col=0, rows=3, cols=scene.shape[1]))
        assert np.isfinite(power[:, 200:-600]).all()
        assert 10 < np.nanmedian(power) < 2000


def test_zero_noise_of_ipf_2_36_is_no_noise(shared):
    (path,) = (shared / "data/s1_grd_metadata").glob("*_CEAB.zip")
    scene = open_scene(path)
    assert dict(scene.noise) == {"VV": None, "VH": None}
    assert any("cannot be denoised" in warning for warning in scene.warnings)


def test_calibration_tables_hold_together(shared):
    # A_sigma^2 = A_beta^2 / sin(theta), A_gamma^2 = A_sigma^2 cos(theta) with one theta a pixel (docs/sentinel1.md 4)
    for path in sorted((shared / "data/s1_grd_metadata").glob("*_1SD*[!n].zip")):
        if "_ECC8" in path.name:
            continue
        scene = open_scene(path)
        for polarisation in scene.polarisations:
            window = Window(row=3000, col=0, rows=1, cols=scene.shape[1])
            sigma, beta, gamma = (scene.calibration[polarisation].amplitude(q, window)[0] for q in ("sigma0", "beta0", "gamma0"))
            theta = np.degrees(np.arcsin((beta / sigma) ** 2))
            assert np.abs(theta - np.degrees(np.arccos((gamma / sigma) ** 2))).max() < 5e-4  # seven digits in the file
            assert 17 < theta.min() < theta.max() < 48
