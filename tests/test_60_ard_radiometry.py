"""Calibration and border zeros: against plain Python and against SNAP."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from sarseg.ard.radiometry import ZERO_RUN_PX, calibrate
from sarseg.scene.open import open_scene
from sarseg.tiles import Window

ROME = "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371.SAFE"
LINE, PIXEL = 7440, 21600  # where SNAP's input window lies in the image


def no_data(dn: np.ndarray) -> np.ndarray:
    """Every maximal run of zeros along lines and columns, spelled out."""
    found = np.zeros(dn.shape, bool)
    for image, mark in ((dn, found), (dn.T, found.T)):
        for line, marked in zip(image, mark, strict=True):
            text = "".join("0" if value == 0 else "1" for value in line)
            start = 0
            for run in text.replace("10", "1 0").replace("01", "0 1").split(" "):
                ends = start == 0 or start + len(run) == len(line)
                if run[0] == "0" and (len(run) >= ZERO_RUN_PX or ends):
                    marked[start : start + len(run)] = True
                start += len(run)
    return found


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (37, 29)])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_zero_runs_are_no_data_and_isolated_zeros_are_not(shape, share):
    rng = np.random.default_rng(3)
    dn = np.where(rng.random(shape) < share, 0, rng.integers(1, 900, shape)).astype("u2")
    power, _ = calibrate(dn, np.full(shape, 400.0), None)
    np.testing.assert_array_equal(np.isnan(power), no_data(dn))


def test_a_zero_inside_stays():
    dn = np.full((30, 31), 50, "u2")
    dn[12, 13] = 0  # dark water
    dn[:, :3] = 0  # the border
    power, noise = calibrate(dn, np.full(dn.shape, 100.0), np.full(dn.shape, 400.0))
    assert np.isnan(power[:, :3]).all()
    assert np.isfinite(power[:, 3:]).all()
    assert power[12, 13] == pytest.approx(-0.04)  # (0 - 400) / 100^2: negative values stay
    assert power[0, 20] == pytest.approx((50**2 - 400) / 100**2)
    assert noise[5, 5] == pytest.approx(0.04)


def test_no_noise_information_is_no_data():
    noise = np.full((9, 20), 300.0)
    noise[:, 15:] = np.nan
    power, _ = calibrate(np.full((9, 20), 60, "u2"), np.full((9, 20), 400.0), noise)
    np.testing.assert_array_equal(np.isnan(power), np.isnan(noise))


@pytest.fixture(scope="module")
def snap_input(shared):
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(shared / "data" / "snap_reference" / "inputs" / "dn_window.tif") as file:
        return file.read(1), open_scene(shared / "data" / "s1_grd_rome" / ROME)


def snap_result(shared, name: str) -> np.ndarray:
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(shared / "data" / "snap_reference" / "calibration" / name) as file:
        return file.read()


@pytest.mark.parametrize(("name", "quantities"), [("sigma0.tif", ["sigma0"]), ("beta0_gamma0.tif", ["beta0", "gamma0"])])
def test_calibration_equals_snap(shared, snap_input, name, quantities):
    """1e-6 relative; the reference window starts at line 7500, sample 21700."""
    image, scene = snap_input
    for quantity, want in zip(quantities, snap_result(shared, name), strict=True):
        window = Window(row=7500, col=21700, rows=want.shape[0], cols=want.shape[1])
        dn = image[window.shift(rows=-LINE, cols=-PIXEL).slices]
        power, _ = calibrate(dn, scene.calibration["VV"].amplitude(quantity, window), None)
        valid = np.isfinite(power)
        assert valid.mean() > 0.99
        np.testing.assert_allclose(power[valid], want[valid], rtol=1e-6)


def test_denoising_equals_snap(shared, snap_input):
    """99.9 % of the pixels above SNAP's floor within 1e-6, all within 5e-5 (SNAP keeps DN^2 - noise as float32)."""
    image, scene = snap_input
    want = snap_result(shared, "sigma0_denoised.tif")[0]
    window = Window(row=7500, col=21700, rows=want.shape[0], cols=want.shape[1])
    noise = scene.noise["VV"]
    assert noise is not None
    dn = image[window.shift(rows=-LINE, cols=-PIXEL).slices]
    power, _ = calibrate(dn, scene.calibration["VV"].amplitude("sigma0", window), noise.power(window))
    above = np.isfinite(power) & (want > 2e-5)
    assert above.mean() > 0.98
    error = np.abs(power[above] / want[above] - 1)
    assert np.quantile(error, 0.999) < 1e-6
    assert error.max() < 5e-5
    floored = np.isfinite(power) & (want > 0) & (want < 2e-5)
    assert (power[floored] < 2e-5).all()
