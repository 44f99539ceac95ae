"""Lee's filter: against plain Python and against SNAP's own results; NaN, tiles, dask, dark water."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning

import sarseg.speckle
from sarseg.errors import UsageError
from sarseg.speckle import lee


def brute_force(power: np.ndarray, looks: float, window: int, noise: np.ndarray | None = None) -> np.ndarray:
    """Lee (1980) in the words of SNAP's source, one pixel at a time."""
    half, out = window // 2, np.full(power.shape, np.nan)
    for (r, c), x in np.ndenumerate(power.astype("f8")):
        box = power[max(0, r - half) : r + half + 1, max(0, c - half) : c + half + 1].astype("f8")
        box = box[~np.isnan(box)]
        if np.isnan(x):
            continue
        mean, variance = box.mean(), box.var(ddof=1) if box.size > 1 else 0.0
        explained = (mean + (0.0 if noise is None else float(noise[r, c]))) ** 2 / looks
        out[r, c] = mean if variance <= explained else mean + (1 - explained / variance) * (x - mean)
    return out


def image(shape: tuple[int, int], seed: int = 7) -> np.ndarray:
    """Speckle over two levels with bright points and holes."""
    rng = np.random.default_rng(seed)
    power = rng.gamma(4.4, 1 / 4.4, shape).astype("f4")
    power[:, shape[1] // 2 :] *= 8
    power[rng.random(shape) < 0.03] = 500.0
    power[rng.random(shape) < 0.15] = np.nan
    return power


@pytest.mark.parametrize(("shape", "window"), [((1, 1), 3), ((7, 11), 5), ((64, 2), 9), ((3, 41), 7), ((23, 17), 1)])
def test_equals_brute_force(shape, window):
    power = image(shape)
    np.testing.assert_allclose(lee(power, 4.4, window=window), brute_force(power, 4.4, window), rtol=2e-7)  # rounding to float32


def test_wide_image_is_cut_into_strips():
    power = image((5, 2100))  # more than two strips of 1024 columns
    np.testing.assert_allclose(lee(power, window=5), brute_force(power, 4.4, 5), rtol=2e-7)


def test_noise_belongs_to_what_speckle_multiplies():
    """Signal and noise fluctuate together: with the noise given, the weights are those of the image before denoising."""
    total, noise = image((31, 27)), np.full((31, 27), 0.7, "f4")
    got = lee(total - noise, window=7, noise=noise)
    np.testing.assert_allclose(got, brute_force(total - noise, 4.4, 7, noise), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got, lee(total, window=7) - noise, rtol=1e-5, atol=1e-5)


def snap(shared: Path, name: str) -> np.ndarray:
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(shared / "data" / "snap_reference" / "speckle" / name) as file:
        return file.read(1)


@pytest.mark.parametrize(("name", "window"), [("lee5_rows0-149.tif", 5), ("lee7.tif", 7)])
def test_equals_snap(shared, name, window):
    """Image edges included. SNAP fills the 0 of its holes, ours stay."""
    source, want = snap(shared, "input.tif"), snap(shared, name)
    got = lee(np.where(source == 0, np.nan, source), 4.4, window=window)[: len(want)]
    valid = source[: len(want)] != 0
    assert valid.mean() > 0.98
    np.testing.assert_array_equal(np.isnan(got), ~valid)
    np.testing.assert_allclose(got[valid], want[valid], rtol=1e-6)


def test_one_nan_stays_one_nan():
    power = image((21, 19))
    power[:] = np.nan_to_num(power, nan=1.0)
    power[10, 9] = np.nan
    assert np.argwhere(np.isnan(lee(power, window=7))).tolist() == [[10, 9]]
    assert np.isnan(lee(np.full((4, 5), np.nan, "f4"))).all()


def test_mean_of_dark_water_is_kept():
    """Below the noise: signed power in, the mean comes out, though a third of the pixels is negative."""
    rng = np.random.default_rng(2)
    noise = np.full((400, 500), 4e-3, "f4")
    power = (rng.gamma(4.4, 1 / 4.4, noise.shape) * (1e-3 + noise) - noise).astype("f4")
    filtered = lee(power, 4.4, window=7, noise=noise)
    assert (power < 0).mean() > 0.3
    assert filtered.mean(dtype="f8") == pytest.approx(power.mean(dtype="f8"), rel=0.01)
    assert filtered.std() < 0.35 * power.std()


@given(rows=st.integers(1, 40), cols=st.integers(1, 40), chunk=st.integers(1, 40), window=st.sampled_from([3, 5, 7]))
@settings(max_examples=40)
def test_tiling_changes_no_bit(rows, cols, chunk, window):
    power, noise = image((rows, cols), seed=rows * 41 + cols), np.full((rows, cols), 0.1, "f4")
    whole = lee(power, window=window, noise=noise)
    lazy = lee(da.from_array(power, chunks=chunk), window=window, noise=da.from_array(noise, chunks=7))
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == np.float32
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), whole)


def test_bands_and_dtypes():
    bands = np.stack([image((13, 9), seed) for seed in (1, 2, 3)])
    got = lee(bands.astype("f8"), window=3)
    assert got.dtype == np.float32
    for band, one in zip(bands, got, strict=True):
        np.testing.assert_array_equal(one, lee(band, window=3))
    lazy = lee(da.from_array(bands, chunks=(1, 5, 4)), window=3)
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), got)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"window": 4}, "odd"), ({"window": -1}, "odd"), ({"looks": 0.0}, "positive"), ({"noise": np.ones((2, 2))}, "does not fit")],
)
def test_wrong_use(arguments, said):
    with pytest.raises(UsageError, match=said):
        lee(np.ones((5, 6)), **arguments)
    with pytest.raises(UsageError, match="dimensions"):
        lee(np.ones(5))


def test_the_package_offers_lee():
    assert sarseg.speckle.lee is lee
    assert dir(sarseg.speckle) == ["lee"]
    with pytest.raises(AttributeError, match="no attribute 'frost'"):
        _ = sarseg.speckle.frost
