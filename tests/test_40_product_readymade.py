"""HyP3, ASF and OPERA RTC: made from their names and rules, and OPERA's real crops."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.cli.info import command as info
from sarseg.errors import InputError, UsageError
from sarseg.legend import Legend
from sarseg.patches.sources import Source, open_sources
from sarseg.patches.split import PatchOptions
from sarseg.product.open import is_ready_made, open_product

SHAPE = (60, 70)
HYP3 = "S1A_IW_20180128T161201_DVP_RTC30_G_{}uned_FD6A"
AP = "AP_27154_FBD_F0640_RT1"
OPERA = "OPERA_L2_RTC-S1_T137-292322-IW1_20211119T015905Z_20250830T120333Z_S1A_30_v1.0"


def write(path: Path, data: NDArray[np.generic], nodata: float | None = None, shift: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "height": data.shape[0], "width": data.shape[1], "count": 1, "dtype": data.dtype, "nodata": nodata}
    with rasterio.open(path, "w", **profile, crs=CRS.from_epsg(32649), transform=Affine(30, 0, 399_990 + shift, 0, -30, 2_650_020)) as out:
        out.write(data, 1)


def powers(seed: int = 1) -> dict[str, NDArray[np.float32]]:
    """Linear power with a hole of zeros."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, mean in (("first", 0.1), ("second", 0.02)):
        found[name] = rng.gamma(4, mean / 4, SHAPE).astype("f4")
        found[name][:7, :9] = 0
    return found


def as_zip(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in sorted(folder.iterdir()):
            archive.write(one, f"{folder.name}/{one.name}")
    return path


def stored(power: NDArray[np.float32], letter: str) -> NDArray[np.float32]:
    if letter == "a":
        return np.sqrt(power)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(power) if letter == "d" else power


def hyp3(folder: Path, letters: str, **more: NDArray[np.generic]) -> Path:
    base = HYP3.format(letters)
    for name, power in zip(("VV", "VH"), powers().values(), strict=True):
        write(folder / base / f"{base}_{name}.tif", stored(power, letters[1]), nodata=None if letters[1] == "d" else 0)
    for name, data in more.items():
        write(folder / base / f"{base}_{name}.tif", data)
    write(folder / base / f"{base}_dem.tif", np.zeros(SHAPE, "i2"))
    write(folder / base / f"{base}_area.tif", np.ones(SHAPE, "f4"))
    return folder / base


@pytest.mark.parametrize("letters", ["gp", "ga", "gd", "sp", "sa", "sd"])
def test_hyp3_is_what_its_name_says(tmp_path, letters):
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 32, SHAPE).astype("u1")
    angle = rng.uniform(0.1, 1.5, SHAPE).astype("f4")
    folder = hyp3(tmp_path, letters, ls_map=codes, inc_map=angle)
    for path in (folder, as_zip(folder), folder / f"{folder.name}_VH.tif"):
        product = open_product(path)
        assert (product.id, product.bands, product.quantity) == (folder.name, ("VV", "VH"), "power")
        assert product.radiometry == ("sigma0" if letters[0] == "s" else "gamma0")
        assert any("sigma0, not gamma0" in warning for warning in product.warnings) == (letters[0] == "s")
        for got, power in zip(product.read(), powers().values(), strict=True):
            np.testing.assert_allclose(got, np.where((power == 0) | (codes == 0), np.nan, power), rtol=3e-6)
        want = ((codes == 0) | (powers()["first"] == 0)) * 1 + (codes & 4 > 0) * 2 + (codes & 16 > 0) * 4
        np.testing.assert_array_equal(product.mask(), want)
        np.testing.assert_allclose(product.read(bands=["incidence"])[0], np.where(codes == 0, np.nan, np.degrees(angle)), rtol=1e-6)
        said = product.item["properties"]
        assert (said["platform"], said["sar:frequency_band"], product.datetime_utc) == ("sentinel-1a", "C", "2018-01-28T16:12:01.000Z")


def test_hyp3_sigma0_and_gamma0_keep_apart(tmp_path):
    """The letter decides, not the values: the same rasters are sigma0 by one name and gamma0 by the other, and are not cut together."""
    paths = [hyp3(tmp_path / letters, letters) for letters in ("gp", "sp")]
    gamma0, sigma0 = (open_product(path) for path in paths)
    np.testing.assert_array_equal(gamma0.read(), sigma0.read())
    assert (gamma0.radiometry, sigma0.radiometry) == ("gamma0", "sigma0")
    assert all(is_ready_made(path) for path in paths)
    output = CliRunner().invoke(info, [str(paths[1])]).output
    assert "sigma0, not gamma0" in output
    labels = tmp_path / "labels.tif"
    write(labels, np.ones(SHAPE, "u1"))
    sources = [Source(image=path, labels=labels, name=path.parent.name) for path in paths]
    with pytest.raises(InputError, match="sigma0 beside gamma0"):
        open_sources(sources, PatchOptions(size=16, legend=Legend.from_codes([1])))


def test_hyp3_without_mask_warns_and_a_scale_against_the_name_is_refused(tmp_path):
    folder = hyp3(tmp_path, "gp")
    assert open_product(folder).warnings == ("no mask layer: layover and shadow are not known",)
    with pytest.raises(UsageError, match="scale is db, but the product's name says power"):
        open_product(folder, scale="db")
    write(folder / f"{folder.name}_ls_map.tif", np.ones(SHAPE, "u1"), shift=30)
    with pytest.raises(InputError, match="ls_map lies on another grid"):
        open_product(folder)
    for name in ("VV", "VH"):
        (folder / f"{folder.name}_{name}.tif").unlink()
    with pytest.raises(InputError, match="no backscatter"):
        open_product(folder)


def ap(folder: Path, first: NDArray[np.float32], second: NDArray[np.float32]) -> Path:
    write(folder / AP / f"{AP}_HH.tif", first)
    write(folder / AP / f"{AP}_HV.tif", second)
    write(folder / AP / f"{AP}.dem.tif", np.zeros(SHAPE, "i2"))
    write(folder / AP / f"{AP}.ls_map.tif", np.ones(SHAPE, "u1"))
    return folder / AP


def test_asf_is_power_unless_told_otherwise(tmp_path):
    first, second = powers().values()
    folder = ap(tmp_path, first, second)
    for path in (folder, as_zip(folder)):
        product = open_product(path)
        assert (product.id, product.bands, product.radiometry) == (AP, ("HH", "HV"), "gamma0")
        np.testing.assert_array_equal(product.read()[1], np.where(second == 0, np.nan, second))
        assert [warning.split(",")[0] for warning in product.warnings] == [
            "taken as linear power",
            "the layover and shadow map is not read: its codes are not documented",
        ]
        squared = open_product(path, scale="amplitude")
        np.testing.assert_allclose(squared.read()[0], np.where(first == 0, np.nan, first.astype(float) ** 2), rtol=1e-6)
        assert not any("taken as" in warning for warning in squared.warnings)
    (tmp_path / f"{AP}.sarseg.yaml").write_text("scale: amplitude\n")
    for path in (folder, tmp_path / f"{AP}.zip"):
        np.testing.assert_array_equal(open_product(path).read(), squared.read())


def test_asf_amplitude_and_decibels_are_noticed(tmp_path):
    first, second = powers().values()
    folder = ap(tmp_path, np.sqrt(first * 4), np.sqrt(second))  # mean amplitude of HH 0.6
    assert any("median of HH is 0.6" in warning for warning in open_product(folder).warnings)
    folder = ap(tmp_path / "db", stored(first + 1e-6, "d"), stored(second + 1e-6, "d"))
    with pytest.raises(UsageError, match="these are decibels"):
        open_product(folder)
    np.testing.assert_allclose(open_product(folder, scale="db").read()[0], first + 1e-6, rtol=3e-6)


def test_opera_crops_have_their_known_means_and_keep_their_zeros(shared):
    known = {
        ("292319-IW2", 2021): (-7.44, -14.64), ("292319-IW2", 2022): (-7.31, -14.40), ("292320-IW2", 2021): (-8.78, -16.91),
        ("292320-IW2", 2022): (-8.20, -16.76), ("292322-IW1", 2021): (-22.45, -27.67), ("292322-IW1", 2022): (-14.05, -26.61),
        ("292323-IW2", 2021): (-11.96, -21.67), ("292323-IW2", 2022): (-10.58, -20.93),
    }  # fmt: skip
    folder = shared / "data/opera_rtc"
    zeros = {}
    for (burst, year), wanted in known.items():
        path = next(folder.glob(f"*T137-{burst}_{year}*_VH.tif"))
        product = open_product(path)
        assert product.bands == ("VV", "VH")
        assert product.id == path.name.removesuffix("_VH.tif")
        assert not (product.mask() != 0).any()
        values = product.read()
        for got, power_db in zip(values, wanted, strict=True):
            assert 10 * np.log10(got.mean(dtype=float)) == pytest.approx(power_db, abs=0.006)
        zeros[burst, year] = np.count_nonzero(values[1] == 0)
    assert sorted((zeros["292322-IW1", 2021], zeros["292322-IW1", 2022])) == [1, 2]
    with pytest.raises(InputError, match="8 products lie here"):
        open_product(folder)


def test_an_opera_burst_folder_with_mask_and_angles(tmp_path, shared):
    for name in ("VV", "VH"):
        shutil.copy(shared / f"data/opera_rtc/{OPERA}_{name}.tif", tmp_path)
    with rasterio.open(tmp_path / f"{OPERA}_VV.tif", "r+") as file:
        vv = file.read(1)
        vv[:3, :4] = np.nan
        file.write(vv, 1)
        profile = file.profile
    codes = np.random.default_rng(3).choice(np.array([0, 1, 2, 3], "u1"), (100, 100))
    codes[50:60] = 255
    with rasterio.open(tmp_path / f"{OPERA}_mask.tif", "w", **{**profile, "dtype": "uint8", "nodata": 255}) as out:
        out.write(codes, 1)
    angle = np.linspace(20, 60, 10_000, dtype="f4").reshape(100, 100)
    static = "OPERA_L2_RTC-S1-STATIC_T137-292322-IW1_20140403_S1A_30_v1.0_local_incidence_angle.tif"
    with rasterio.open(tmp_path / static, "w", **profile) as out:
        out.write(angle, 1)
    product = open_product(tmp_path)
    none = np.isnan(vv) | (codes == 255)
    np.testing.assert_array_equal(product.mask(), none * 1 + np.isin(codes, (2, 3)) * 2 + np.isin(codes, (1, 3)) * 4)
    np.testing.assert_array_equal(product.read(bands=["incidence"])[0], np.where(codes == 255, np.nan, angle))
    np.testing.assert_array_equal(product.read()[0], np.where(none, np.nan, vv))
    assert product.warnings == ()
    said = product.item["properties"]
    assert (said["platform"], said["sarseg:burst"]) == ("sentinel-1a", "T137-292322-IW1")
