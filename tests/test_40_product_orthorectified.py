"""PALSAR-2 levels 2.1 and 3.1: CEOS by the tests' own writer (`palsar_files`) and GeoTIFF, and what contradicts itself."""

from __future__ import annotations

import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine
from ceos_damage import damaged
from circular_orbit import circle
from click.testing import CliRunner
from palsar_files import Made, ground_of, image_place, lonlat, write_image, write_product
from pyproj import Transformer

from sarseg.cli.info import command as info
from sarseg.errors import InputError, SarsegError, UsageError
from sarseg.masks import Mask
from sarseg.product.open import is_ready_made, open_product
from sarseg.scene.open import is_scene, open_scene
from sarseg.tiles import Window

SHAPE = (120, 90)
SIGMA = 10**-8.3  # JAXA: sigma0 dB = 10 log10 DN^2 - 83.0
ZONE = 30


def made(level="2.1", shape=SHAPE, **words):
    """A geocoded product around a point that the satellite passes at the scene centre time."""
    one = Made(
        form="geocoded", level="1.5", level_text=level, mission="ALOS2", wavelength_m=0.2424525, shape=shape, utm_zone=ZONE, first_s=0.0
    )
    for name, value in words.items():
        setattr(one, name, value)
    x, y = Transformer.from_crs(4326, 32600 + ZONE, always_xy=True).transform(*ground_of(one, 0.0, 868e3))
    step = one.spacing_m
    one.corner_m = (round(float(x) / step - shape[1] / 2) * step, round(float(y) / step + shape[0] / 2) * step)
    return one


def amplitudes(shape=SHAPE, seed=3):
    numbers = np.random.default_rng(seed).integers(1, 65536, shape)
    numbers[:9, :7] = 0
    return numbers


def text_of(one, **more):
    said = {
        "Scs_SceneID": one.scene,
        "Pds_ProductID": one.product,
        "Pds_PixelSpacing": "12.500000",
        "Img_SceneCenterDateTime": "20230405 06:07:08.250",
        "Img_SceneStartDateTime": "20230405 06:07:03.250",
        "Img_SceneEndDateTime": "20230405 06:07:13.250",
        "Pdi_NoOfPixels_0": str(one.shape[1]),
        "Pdi_NoOfLines_0": str(one.shape[0]),
        "Lbi_ProcessLevel": one.level_text,
        "Odi_SiteDateTime": "PROCESS:JAPAN-JAXA-ALOS2-EICS  20230407 080952",
        **more,
    }
    return "".join(f'{key}="{value}"\n' for key, value in said.items())


def write_tiffs(folder, one, images, *, text=True, **more):
    folder.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": one.shape[0],
        "width": one.shape[1],
        "dtype": "uint16",
        "crs": f"EPSG:{32600 + ZONE}",
    }
    left, top = one.corner_m[0] - one.spacing_m / 2, one.corner_m[1] + one.spacing_m / 2
    profile = {**profile, "transform": Affine(one.spacing_m, 0, left, 0, -one.spacing_m, top), **more}
    for name, image in images.items():
        with rasterio.open(folder / f"IMG-{name}-{one.name}.tif", "w", **profile) as file:
            file.write(image.astype(profile["dtype"]), 1)
    if text:
        (folder / "summary.txt").write_text(text_of(one))
    return folder


def as_zip(folder, method=zipfile.ZIP_STORED):
    path = folder.with_suffix(f".{method}.zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for one in sorted(folder.iterdir()):
            archive.write(one, f"inner/{one.name}")
    return path


@pytest.mark.parametrize("level", ["2.1", "3.1"])
def test_ceos_opens_as_sigma0_on_its_grid(tmp_path, level):
    """Folder, zip, or any of the files: DN^2 times the factor, 0 no data, pixels where the writer put them; not a scene."""
    one = made(level, polarisations=("HH", "HV"), factor_db=-81.5)
    images = {"HH": amplitudes(), "HV": amplitudes(seed=4)}
    folder = write_product(tmp_path / one.name, one, images)
    assert f"R{level}GUA" in one.name
    packed = as_zip(folder, zipfile.ZIP_DEFLATED)
    for path in (folder, as_zip(folder), packed, folder / f"IMG-HV-{one.name}", folder / f"LED-{one.name}"):
        product = open_product(path)
        assert is_ready_made(path)
        assert not is_scene(path)
        assert (product.id, product.bands, product.quantity, product.radiometry) == (one.name, ("HH", "HV"), "power", "sigma0")
        want = np.where(images["HV"] == 0, np.nan, images["HV"].astype(np.float64) ** 2 * 10**-8.15)
        np.testing.assert_allclose(product.read(bands=["HV"])[0], want, rtol=1e-6)
        window = Window(row=5, col=3, rows=20, cols=11)
        np.testing.assert_array_equal(product.read(window), product.read()[(slice(None), *window.slices)])
        empty = (images["HH"] == 0) | (images["HV"] == 0)
        np.testing.assert_array_equal(product.mask(), np.where(empty, int(Mask.NO_DATA), 0))
        assert any("packed" in warning for warning in product.warnings) == (path == packed)
    assert product.grid.crs.to_epsg() == 32600 + ZONE
    assert product.grid.transform == Affine(12.5, 0, one.corner_m[0] - 6.25, 0, -12.5, one.corner_m[1] + 6.25)
    said = product.item["properties"]
    assert (said["sar:instrument_mode"], said["sar:product_type"], said["sar:frequency_band"]) == ("FBD", f"L{level}", "L")
    assert (said["platform"], said["sat:orbit_state"], said["sat:absolute_orbit"]) == ("alos-2", "ascending", 12345)
    assert product.warnings == (
        "sigma0, not gamma0: do not mix it with products of gamma0",
        "no mask layer: layover and shadow are not known",
        "the leader's calibration factor is -81.5 dB, JAXA has published -83 dB for such products",
    )
    assert "ellipsoid_incidence" in CliRunner().invoke(info, [str(folder)]).output


def test_incidence_is_that_of_the_orbit(tmp_path):
    """Against bisection on the orbit's formula: to 0.0005 degree, at corners and between the nodes."""
    one = made(shape=(700, 500), spacing_m=100.0)
    product = open_product(write_product(tmp_path / one.name, one, None))
    angles = product.read(bands=["ellipsoid_incidence"])[0]
    assert "ellipsoid_incidence" not in product.bands
    to_ecef = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    for row, col in ((0, 0), (0, 499), (699, 0), (699, 499), (333, 222), (71, 460)):
        lon, lat = (float(value) for value in lonlat(one, row, col))
        point = np.array(to_ecef.transform(lon, lat, 0.0))
        up = np.array(to_ecef.transform(lon, lat, 1.0)) - point
        t, slant = image_place(one, lon, lat, 0.0)
        want = np.degrees(np.arccos(np.dot(circle(t)[0] - point, up) / slant / np.linalg.norm(up)))
        assert angles[row, col] == pytest.approx(want, abs=5e-4)
    assert np.ptp(angles) > 2
    window = Window(row=100, col=37, rows=50, cols=400)
    np.testing.assert_array_equal(product.read(window, ["ellipsoid_incidence"])[0], angles[window.slices])
    array = product.to_xarray()
    np.testing.assert_array_equal(array["ellipsoid_incidence"].values, angles)


def test_geotiff_opens_with_what_is_published(tmp_path):
    one = made("2.1", polarisations=("HH", "HV"))
    images = {"HH": amplitudes(), "HV": amplitudes(seed=4)}
    folder = write_tiffs(tmp_path / one.name, one, images)
    for path in (folder, as_zip(folder), folder / f"IMG-HH-{one.name}.tif"):
        product = open_product(path)
        assert is_ready_made(path)
        assert not is_scene(path)
        assert (product.id, product.bands, product.radiometry) == (one.name, ("HH", "HV"), "sigma0")
        want = np.where(images["HH"] == 0, np.nan, images["HH"].astype(np.float64) ** 2 * SIGMA)
        np.testing.assert_allclose(product.read(bands=["HH"])[0], want, rtol=1e-6)
        assert product.datetime_utc == "2023-04-05T06:07:08.250Z"
    assert "no calibration factor in the product: JAXA's -83 dB is taken" in product.warnings
    assert "no leader file: the incidence on the ellipsoid is not known" in product.warnings
    (folder / "summary.txt").unlink()
    product = open_product(folder)
    assert product.item["properties"]["start_datetime"] == "2023-04-05T00:00:00.000Z"
    assert "no summary.txt: only the day is known" in product.warnings


def test_old_scansar_may_need_another_factor(tmp_path):
    one = made()
    names = {"scene": "ALOS2012345678-150607", "product": "WBDR2.1GUD"}
    base = "-".join(names.values())
    for processed, doubt in (("20150620 080952", True), ("20190101 000000", False)):
        folder = write_tiffs(tmp_path / processed[:8], one, {"HH": amplitudes()}, text=False)
        (folder / f"IMG-HH-{one.name}.tif").rename(folder / f"IMG-HH-{base}.tif")
        said = {"Scs_SceneID": names["scene"], "Pds_ProductID": names["product"], "Odi_SiteDateTime": f"PROCESS:JAPAN  {processed}"}
        (folder / "summary.txt").write_text(text_of(one, **said))
        product = open_product(folder)
        assert any("may need -79 dB" in warning for warning in product.warnings) == doubt
        assert product.item["properties"]["sat:orbit_state"] == "descending"


ZONE_FIELD = b"UTM-PROJECTION" + b" " * 50
CONTRADICTIONS = {
    "level": (lambda content: content.replace(b"2.1             ", b"1.5             "), "the leader is of level 1.5"),
    "scene": (lambda content: content.replace(b"ALOS2123456780-230405", b"ALOS2123456781-230405"), "the leader is of the scene"),
    "form": (lambda content: content.replace(b"GEOCODED", b"GEOREFER"), "not GEOCODED"),
    "projection": (lambda content: content.replace(b"UTM-PROJECTION", b"MER-PROJECTION"), "'MER-PROJECTION': not supported"),
    "zone": (
        lambda content: content.replace(b"UTM-PROJECTION" + b" " * 50 + b"  30", b"UTM-PROJECTION" + b" " * 50 + b"  31"),
        "km from the",
    ),
    "size": (lambda content: content.replace(b"%16d" % SHAPE[1], b"%16d" % (SHAPE[1] + 1)), "map projection record says"),
    "ellipsoid": (lambda content: content.replace(b"6378.1370000", b"6377.3970000"), "not GRS80 or WGS84"),
    "record": (lambda content: content[:5000], "truncated"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_leader_that_contradicts_itself_is_refused(tmp_path, case):
    one = made()
    folder = write_product(tmp_path / one.name, one, amplitudes())
    led = folder / f"LED-{one.name}"
    change, words = CONTRADICTIONS[case]
    content = change(led.read_bytes())
    assert content != led.read_bytes()
    led.write_bytes(content)
    with pytest.raises(InputError, match=words):
        open_product(folder)


def test_the_orbit_of_another_scene_is_refused_and_a_blank_one_is_said(tmp_path):
    one = made()
    folder = write_product(tmp_path / one.name, one, amplitudes())
    led = folder / f"LED-{one.name}"
    content = led.read_bytes()
    platform = 720 + 4096 + 1620
    led.write_bytes(content[: platform + 386] + b" " * 22 + content[platform + 408 :])
    product = open_product(folder)
    assert "the leader has no orbit: the incidence on the ellipsoid is not known" in product.warnings
    assert list(product.rasters) == ["HH"]
    first_s = float(content[platform + 160 : platform + 182])
    led.write_bytes(content[: platform + 160] + f"{first_s + 30:22.9f}".encode() + content[platform + 182 :])
    with pytest.raises(InputError, match=r"passes the image's middle \+30 s"):
        open_product(folder)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    one = made(polarisations=("HH", "HV"))
    folder = write_product(tmp_path / one.name, one, amplitudes())
    with pytest.raises(UsageError, match="one scale only"):
        open_product(folder, scale="db")
    write_image(folder / f"IMG-HV-{one.name}", made(shape=(120, 91)), None, "VV")
    with pytest.raises(InputError, match="differ in size or layout"):
        open_product(folder)
    write_image(folder / f"IMG-HV-{one.name}", one, None, "VV")
    assert "HV: its lines say VV" in open_product(folder).warnings
    write_product(folder, made("3.1"))
    with pytest.raises(InputError, match="2 products lie here"):
        open_product(folder)
    assert open_product(folder / f"LED-{one.name}").id == one.name
    (folder / f"LED-{one.name}").unlink()
    with pytest.raises(InputError, match="no leader file"):
        open_product(folder / f"IMG-HH-{one.name}")
    for name in ("HH", "HV"):
        (folder / f"IMG-{name}-{one.name}").unlink()
    with pytest.raises(InputError, match="no image file"):
        open_product(folder / f"VOL-{one.name}")


def test_geotiffs_that_contradict_are_refused(tmp_path):
    one = made()
    image = {"HH": amplitudes()}
    for key, value in (("Lbi_ProcessLevel", "1.5"), ("Pdi_NoOfLines_0", "13161"), ("Scs_SceneID", "ALOS2015976960-140909")):
        folder = write_tiffs(tmp_path / key, one, image)
        (folder / "summary.txt").write_text(text_of(one, **{key: value}))
        with pytest.raises(InputError, match=f"summary.txt has {key} {value}"):
            open_product(folder)
    folder = write_tiffs(tmp_path / "spacing", one, image)
    (folder / "summary.txt").write_text(text_of(one, Pds_PixelSpacing="6.25"))
    with pytest.raises(InputError, match=r"pixels of 6\.25 m"):
        open_product(folder)
    with pytest.raises(InputError, match="of float32 where"):
        open_product(write_tiffs(tmp_path / "float", one, image, dtype="float32"))
    turned = Affine(12.5, 1, one.corner_m[0], 1, -12.5, one.corner_m[1])
    with pytest.raises(InputError, match="no map with north at its top"):
        open_product(write_tiffs(tmp_path / "turned", one, image, transform=turned))


def test_open_scene_says_that_it_is_a_product(tmp_path):
    one = made()
    folder = write_product(tmp_path / one.name, one, amplitudes())
    with pytest.raises(InputError, match=r"level 2\.1 \(orthorectified\) is not in radar geometry"):
        open_scene(folder)


def test_damaged_products_are_our_errors(tmp_path):
    """Leader, image and text with damage, 90 ways: an error of ours or a product that reads; seconds and megabytes are bounded."""
    one = made(shape=(24, 18))
    whole = write_product(tmp_path / one.name, one, amplitudes((24, 18)))
    (whole / "summary.txt").write_text(text_of(one))
    rng = np.random.default_rng(11)
    refused = 0
    tracemalloc.start()
    try:
        for at in range(90):
            name = (f"LED-{one.name}", f"IMG-HH-{one.name}", "summary.txt")[0 if at % 3 else at // 3 % 3]
            good = (whole / name).read_bytes()
            (whole / name).write_bytes(damaged(good, rng))
            begun = time.monotonic()
            try:
                product = open_product(whole)
                product.read(Window(row=0, col=0, rows=24, cols=18), list(product.rasters))
            except SarsegError:
                refused += 1
            assert time.monotonic() - begun < 5
            (whole / name).write_bytes(good)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert 30 < refused < 90
