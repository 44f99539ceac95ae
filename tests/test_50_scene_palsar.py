"""PALSAR products that we write (`palsar_files`) as Scenes: geometry by brute force, Doppler conventions, forms, and what is missing."""

from __future__ import annotations

import json
import struct
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from palsar_files import TO_ECEF, Made, ground_of, image_place, lonlat, write_image, write_product
from pyproj import Transformer
from rasterio.errors import NotGeoreferencedWarning

from sarseg.cli.info import command as info
from sarseg.errors import InputError
from sarseg.radar.geometry import on_ellipsoid, range_doppler
from sarseg.raster.ceos import CeosImage, Source, read_layout
from sarseg.scene.open import is_scene, open_scene
from sarseg.scene.palsar_geometry import line_times
from sarseg.scene.palsar_leader import read_leader
from sarseg.tiles import Window

HEIGHTS = np.array([0.0, 2500.0, 300.0, 1200.0])
PLACES = np.array([[0.05, 0.1], [0.3, 0.9], [0.6, 0.2], [0.97, 0.8]])
NEAR = 847_000.0
FAR = NEAR + 1999 * 4.684257


def at_range(constant, slope, origin_m):
    return lambda slant: constant + slope * (slant - origin_m) / 1000.0


WAYS = {
    "from near range": (Made(doppler=at_range(54.6, -3.0, NEAR), across=(54.6, -3.0, 0.0)), False),
    "from mid range": (Made(doppler=at_range(54.6, -3.0, (NEAR + FAR) / 2), across=(54.6, -3.0, 0.0)), False),
    "constant": (Made(doppler=at_range(-80.0, 0.0, NEAR), across=(-80.0, -2.0, 0.0)), False),
    "absolute range": (Made(doppler=at_range(200.0, -0.15, 0.0), across=(200.0, -0.15, 0.0)), False),
    "per pixel": (Made(doppler=at_range(70.0, 0.004 * 1000 / 4.684257, NEAR), across=(70.0, 0.004, 0.0)), False),
    "centre field": (Made(doppler=at_range(150.0, -0.1, 0.0), centre=(150.0, -0.1)), False),
    "zero": (Made(across=(54.6, -3.0, 0.0)), False),
    "none": (Made(doppler=at_range(90.0, -2.0, NEAR), across=(10.0, 0.0, 0.0)), True),
    "left, ALOS-2": (Made(mission="ALOS2", wavelength_m=0.2424525, side="left"), False),
    "exchanged halves": (Made(doppler=at_range(50.0, 0.0, NEAR), across=(50.0, 0.0, 0.0), swapped=True), True),
}


@pytest.mark.parametrize("way", WAYS)
def test_slant_range_geometry_for_every_way_of_the_doppler(tmp_path, way):
    """Points with relief against bisection in time: 0.05 pixel (the line times are whole milliseconds: 0.04), Doppler within 1 Hz."""
    made, warns = WAYS[way]
    scene = open_scene(write_product(tmp_path / "p", made))
    assert (scene.product_type, scene.mission, scene.grid.look_side, scene.pixels) == ("L1.1", made.mission, made.side, "complex")
    assert bool(scene.warnings) == warns, scene.warnings
    for (down, across), height in zip(PLACES, HEIGHTS, strict=True):
        lon, lat = ground_of(made, *made.time_range(down * made.shape[0], across * made.shape[1]))
        t, slant = image_place(made, lon, lat, height)
        wanted = (t - made.first_s) * made.prf_hz, (slant - made.near_m) / made.slant_m
        point = np.array(TO_ECEF.transform(lon, lat, height))
        seen = range_doppler(point, scene.orbit, scene.grid.doppler)
        np.testing.assert_allclose(np.ravel(scene.grid.line_pixel(*seen)), wanted, atol=0.12 if way == "none" else 0.06)
        doppler = 0.0 if scene.grid.doppler is None else float(scene.grid.doppler.at(slant))
        assert abs(doppler - made.frequency(slant)) < 1.0
    points = scene.geolocation_grid
    assert np.abs(points.incidence_deg - 38.0).max() < 8.0
    back = on_ellipsoid(points.time_s, points.slant_range_m, scene.orbit, made.side, scene.grid.doppler)
    again = range_doppler(back, scene.orbit, scene.grid.doppler)
    np.testing.assert_allclose(again[0], points.time_s, atol=1e-9)
    np.testing.assert_allclose(again[1], points.slant_range_m, atol=1e-5)


def geocoded(**words):
    made = Made(form="geocoded", level="1.5", mission="ALOS2", wavelength_m=0.2424525, shape=(900, 700), utm_zone=30, first_s=0.0, **words)
    x, y = Transformer.from_crs(4326, 32630, always_xy=True).transform(*ground_of(made, 0.0, 868e3))
    made.corner_m = (round(float(x) / 12.5 - 350) * 12.5, round(float(y) / 12.5 + 450) * 12.5)
    return made


@pytest.mark.parametrize("form", ["georeferenced", "geocoded"])
def test_images_on_the_ellipsoid_show_relief_where_time_and_range_say(tmp_path, form):
    """Ground point -> (t, R) -> point of the ellipsoid -> pixel, each by brute force: 0.01 pixel."""
    made = geocoded() if form == "geocoded" else Made(form=form, level="1.5", shape=(900, 700))
    scene = open_scene(write_product(tmp_path / "p", made))
    assert (scene.product_type, scene.pixels, scene.warnings) == ({"georeferenced": "L1.5R", "geocoded": "L1.5G"}[form], "amplitude", ())
    for (down, across), height in zip(PLACES, HEIGHTS, strict=True):
        lon, lat = (float(value) for value in lonlat(made, down * 899, across * 699))
        t, slant = image_place(made, lon, lat, height)
        wanted = ground_of(made, t, slant)
        seen = range_doppler(np.array(TO_ECEF.transform(lon, lat, height)), scene.orbit, None)
        line, pixel = scene.grid.line_pixel(*seen)
        metres = 111_200.0 * np.array([np.cos(np.radians(lat)), 1.0]) * (np.ravel(lonlat(made, line, pixel)) - np.ravel(wanted))
        assert np.hypot(*metres) < 0.01 * made.spacing_m
    line, pixel = scene.grid.line_pixel(np.array([0.0, np.nan]), np.array([9e6, 8.6e5]))
    assert abs(pixel[0]) > 10_000  # far outside it continues on a straight line
    assert np.isnan(line[1])
    assert np.isnan(pixel[1])


def test_pixels_invalid_lines_and_zip(tmp_path):
    """Folder, stored and packed zip give the same samples; an invalid line and exact zeros are no data."""
    made = Made(shape=(30, 20), polarisations=("HH", "HV"))
    rng = np.random.default_rng(4)
    image = (rng.normal(size=made.shape) + 1j * rng.normal(size=made.shape)).astype(np.complex64)
    image[3, 4] = 0
    folder = write_product(tmp_path / "p", made, {"HH": image, "HV": 2 * image}, invalid=(7,))
    window = Window(row=2, col=3, rows=9, cols=8)
    for method in (None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = folder
        if method is not None:
            path = tmp_path / f"{method}.zip"
            with zipfile.ZipFile(path, "w", method) as archive:
                for file in sorted(folder.iterdir()):
                    archive.write(file, f"inner/{file.name}")
        scene = open_scene(path)
        assert scene.polarisations == ("HH", "HV")
        found = scene.slc("HV", window)
        expected = (2 * image[window.slices]).astype(np.complex64)
        expected[5] = np.nan
        np.testing.assert_array_equal(found, expected)
        power = scene.power("HH", window)
        np.testing.assert_allclose(power[0], np.abs(image[2, 3:11]) ** 2, rtol=1e-5)
        assert np.isnan(power[5]).all()
        assert np.isnan(power[1, 1])
        unpacked = scene.unpacked(tmp_path / f"scratch{method}")
        np.testing.assert_array_equal(unpacked.slc("HV", window), expected)
        assert (unpacked.measurements["HH"].archive is None) == (method != zipfile.ZIP_STORED)
    array = open_scene(folder).to_xarray()
    assert (array.dtype, array.name, array.shape) == (np.complex64, "slc", (2, 30, 20))
    np.testing.assert_array_equal(array.values[0][8:], image[8:])
    with pytest.raises(ValueError, match="no digital numbers"):
        open_scene(folder).dn("HH", window)


def test_detected_pixels(tmp_path):
    made = Made(form="georeferenced", level="1.5", shape=(30, 20))
    image = np.arange(600).reshape(30, 20)
    scene = open_scene(write_product(tmp_path / "p", made, image))
    window = Window(row=0, col=0, rows=30, cols=20)
    np.testing.assert_array_equal(scene.dn("HH", window), image)
    power = scene.power("HH", window)
    assert np.isnan(power[0, 0])
    assert power[29, 19] == 599.0**2
    with pytest.raises(InputError, match="has no phase"):
        scene.slc("HH", window)


def test_quad_and_a_missing_polarisation(tmp_path):
    made = Made(shape=(12, 10), polarisations=("HH", "HV", "VH", "VV"), off_nadir_deg=21.5)
    folder = write_product(tmp_path / "p", made)
    scene = open_scene(folder)
    assert (scene.polarisations, scene.mode, scene.warnings) == (("VV", "HH", "VH", "HV"), "PLR", ())
    next(folder.glob("IMG-VH-*")).unlink()
    assert open_scene(folder).warnings == ("the product has 4 polarisations, of which only these are here: VV, HH, HV",)
    next(folder.glob("VOL-*")).unlink()
    assert "no volume file" in open_scene(folder / f"LED-{made.name}").warnings[0]
    write_image(folder / f"IMG-HV-{made.name}", made, polarisation="VV")
    assert "HV: its lines say VV" in open_scene(folder).warnings


def test_esa_and_old_leaders(tmp_path):
    """ESA's level 1.1 has the short prefix of processed data and no coefficients; the Doppler is then taken and said to be unchecked."""
    made = Made(shape=(40, 30), esa=True, across=(40.0, 0.0, 0.0), doppler=at_range(40.0, 0.0, NEAR))
    scene = open_scene(write_product(tmp_path / "esa", made, np.full(made.shape, 3 + 4j)))
    assert any("ESA" in note for note in scene.warnings)
    assert scene.grid.doppler.coefficients_hz[0] == 40.0
    assert scene.grid.range_span_m[0] == NEAR
    assert (scene.power("HH", Window(row=3, col=5, rows=2, cols=2)) == 25.0).all()
    old = Made(shape=(40, 30), coefficients=False)
    scene = open_scene(write_product(tmp_path / "old", old))
    assert any("1024 bytes" in note for note in scene.warnings)
    with pytest.raises(InputError, match="cannot be known where"):
        open_scene(write_product(tmp_path / "R", Made(form="georeferenced", level="1.5", shape=(40, 30), coefficients=False)))


def test_slant_range_that_steps(tmp_path):
    """The sampling window moves by 100 m in the middle: pixels before and after follow their own first range."""
    made = Made(shape=(400, 50))
    folder = write_product(tmp_path / "p", made)
    image = next(folder.glob("IMG-*"))
    content = bytearray(image.read_bytes())
    for line in range(200, 400):
        struct.pack_into(">I", content, 720 + line * (412 + 400) + 116, 847_100)
    image.write_bytes(content)
    scene = open_scene(folder)
    assert "the first slant range changes inside the image: 2 values" in scene.warnings
    near = scene.grid.slant_range_m(np.array([0.0, 198.0, 201.0, 399.0]), 0.0)
    np.testing.assert_allclose(near, [847_000.0, 847_000.0, 847_100.0, 847_100.0], atol=1e-3)


def test_line_times(tmp_path):
    """A PRF that is not the summary's is measured, and one that changes is refused."""
    made = Made(mission="ALOS2", shape=(600, 10), wavelength_m=0.2424525)
    folder = write_product(tmp_path / "p", made)
    image = next(folder.glob("IMG-*"))
    whole = image.read_bytes()

    def with_times(micros):
        content = bytearray(whole)
        for line, value in enumerate(micros):
            struct.pack_into(">Q", content, 720 + line * (544 + 80) + 84, value)
        image.write_bytes(content)

    start = struct.unpack_from(">Q", whole, 720 + 84)[0]
    with_times([start + round(line * 1e6 / 2095.0) for line in range(600)])
    scene = open_scene(folder)
    assert scene.grid.line_interval_s == pytest.approx(1 / 2095.0, rel=1e-6)
    assert "the summary's PRF says" in scene.warnings[0]
    with_times([start + round(line * 1e6 / 2100.2) for line in range(600)])
    scene = open_scene(folder)  # 27 us over the image are more than whole microseconds explain
    assert scene.grid.line_interval_s == pytest.approx(1 / 2100.2, rel=2e-6)
    with_times([start + round(line * 1e6 / 2100.0) + (5000 if line > 300 else 0) for line in range(600)])
    with pytest.raises(InputError, match="no straight line"):
        open_scene(folder)
    image.write_bytes(whole)
    silent = bytearray(whole)
    for line in range(600):
        struct.pack_into(">I", silent, 720 + line * (544 + 80) + 36, 0)
    image.write_bytes(silent)
    with pytest.raises(InputError, match="no line has a time"):
        open_scene(folder)


@pytest.mark.parametrize("mission", ["ALOS", "ALOS2"])
def test_line_times_across_midnight(tmp_path, mission):
    """The day changes between two lines, at the end of the year; a line marked as invalid has no time."""
    made = Made(mission=mission, shape=(500, 10), wavelength_m=0.2424525)
    folder = write_product(tmp_path / "p", made, invalid=(3,))
    source = Source(path=str(next(folder.glob("IMG-*"))))
    image = CeosImage(source=source, layout=read_layout(source))
    midnight = np.datetime64("2011-01-01T00:00:00", "us")
    leader = replace(read_leader(next(folder.glob("LED-*")).read_bytes(), "LED"), centre_utc=midnight)
    prefixes = image.prefixes()
    for line in range(500):
        micros = round((line - 200) / 2100.0 * 1e6)
        year, day, micros = (2010, 365, 86_400_000_000 + micros) if micros < 0 else (2011, 1, micros)
        prefixes[line, 36:48] = np.frombuffer(struct.pack(">III", year, day, micros // 1000 if line != 3 else 5), np.uint8)
        if mission == "ALOS2":
            prefixes[line, 84:92] = np.frombuffer(struct.pack(">Q", micros), np.uint8)
    times = line_times(leader, image, prefixes)
    assert times.notes == ()
    assert times.interval_s == pytest.approx(1 / 2100.0, rel=1e-12)
    assert times.first_s == pytest.approx(-200 / 2100.0, abs=6e-4 if mission == "ALOS" else 2e-6)


FACTORS = {
    "standard": (Made(), "", -115.0),
    "old FBD HV": (Made(polarisations=("HV",), sampling_hz=16e6, processed="20080506"), "-80.2 dB", -115.0),
    "old FBS as published": (Made(processed="20080506", factor_db=-83.4), "", -115.4),
    "wrong in a new one": (Made(factor_db=-80.0), "has published -83 dB", -112.0),
    "blank": (Made(factor_db=None), "JAXA's -83 dB is taken", -115.0),
    "detected": (Made(form="georeferenced", level="1.5"), "", -83.0),
}


@pytest.mark.parametrize("case", FACTORS)
def test_calibration_factor(tmp_path, case):
    """The record's factor counts; a published one that differs is a warning; -32 dB for level 1.1; beta0 and gamma0 by the angle."""
    made, warning, wanted = FACTORS[case]
    made.shape = (40, 30)
    scene = open_scene(write_product(tmp_path / "p", made, np.full(made.shape, 1000.0)))
    assert len(scene.warnings) == bool(warning)
    assert warning in " ".join(scene.warnings)
    window = Window(row=20, col=15, rows=1, cols=1)
    (pol,) = scene.polarisations
    power = 20 * np.log10(1000.0)
    level = {name: power - 20 * np.log10(scene.calibration[pol].amplitude(name, window)[0, 0]) for name in ("sigma0", "beta0", "gamma0")}
    assert level["sigma0"] - power == pytest.approx(wanted, abs=1e-6)
    theta = np.radians(scene.geolocation_grid.incidence_deg[60])
    assert level["beta0"] - level["sigma0"] == pytest.approx(-10 * np.log10(np.sin(theta)), abs=1e-3)
    assert level["gamma0"] - level["sigma0"] == pytest.approx(-10 * np.log10(np.cos(theta)), abs=1e-3)


def test_unknown_factor_is_refused(tmp_path):
    made = Made(factor_db=None, processed="20080506", off_nadir_deg=25.8, shape=(12, 10))
    with pytest.raises(InputError, match="no calibration factor"):
        open_scene(write_product(tmp_path / "p", made))


def test_what_is_not_supported_is_named(tmp_path):
    """Level 1.0, orthorectified levels, ScanSAR SLC, EORC's path products, ALOS-4, tar: each refused by its name."""
    for level, words in (("1.0", "level 1.0"), ("2.1", "level 2.1"), ("3.1", "level 3.1")):
        with pytest.raises(InputError, match=words):
            open_scene(write_product(tmp_path / level, Made(shape=(12, 10), level_text=level)))
    folder = write_product(tmp_path / "scan", Made(shape=(12, 10), mission="ALOS2", wavelength_m=0.2424525))
    image = next(folder.glob("IMG-*"))
    image.rename(image.with_name(f"{image.name}-F1"))
    with pytest.raises(InputError, match="ScanSAR"):
        open_scene(folder)
    eorc = tmp_path / "eorc"
    eorc.mkdir()
    (eorc / "PSR2-SLTR_RSP123_20080506FBD34_HDR").write_bytes(b"x")
    with pytest.raises(InputError, match="EORC"):
        open_scene(eorc)
    raw = write_product(tmp_path / "raw", Made(shape=(12, 10)))
    image = next(raw.glob("IMG-*"))
    content = bytearray(image.read_bytes())
    content[216:224] = b"   8   2"
    image.write_bytes(content)
    with pytest.raises(InputError, match=r"level 1\.0"):
        open_scene(raw)


def test_mixed_and_contradicting_files_are_refused(tmp_path):
    a = write_product(tmp_path / "a", Made(shape=(12, 10), polarisations=("HH", "HV")))
    write_image(a / f"IMG-HV-{Made().name}", Made(shape=(12, 11)), polarisation="HV")
    with pytest.raises(InputError, match="differ in size"):
        open_scene(a)
    both = write_product(tmp_path / "both", Made(shape=(12, 10)))
    write_product(both, Made(shape=(12, 10), form="georeferenced", level="1.5"))
    with pytest.raises(InputError, match="2 products in one place"):
        open_scene(both)
    assert open_scene(both / f"LED-{Made().name}").product_type == "L1.1"
    other = Made(shape=(60, 50), sampling_hz=16e6)
    folder = write_product(tmp_path / "sampling", other)
    led = folder / f"LED-{other.name}"
    led.write_bytes(led.read_bytes().replace(f"{16.0:16.7f}".encode(), f"{20.0:16.7f}".encode()))
    with pytest.raises(InputError, match="times as wide"):
        open_scene(folder)
    moved = geocoded()
    folder = write_product(tmp_path / "moved", moved)
    led = folder / f"LED-{moved.name}"
    north = f"{moved.corner_m[1] / 1e3:16.7f}".encode()
    led.write_bytes(led.read_bytes().replace(north, f"{moved.corner_m[1] / 1e3 + 1:16.7f}".encode()))
    with pytest.raises(InputError, match=r"corners|apart"):
        open_scene(folder)
    (folder / f"LED-{moved.name}").unlink()
    with pytest.raises(InputError, match="no leader file"):
        open_scene(folder)


def test_a_sampling_rate_that_is_twice_the_images(tmp_path):
    """A leader that gives the sampler's 32 MHz for an image of 16 MHz: measured from the coordinates, and said."""
    made = Made(shape=(400, 300), sampling_hz=16e6)
    folder = write_product(tmp_path / "p", made)
    led = folder / f"LED-{made.name}"
    led.write_bytes(led.read_bytes().replace(f"{16.0:16.7f}".encode(), f"{32.0:16.7f}".encode()))
    scene = open_scene(folder)
    assert "2 times as far apart" in scene.warnings[0]
    assert scene.grid.slant_range_m(0.0, 299.0) == pytest.approx(made.near_m + 299 * made.slant_m, abs=1e-3)


def test_no_scene(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    for path in (tmp_path, tmp_path / "x.txt"):
        assert not is_scene(path)
        with pytest.raises(InputError, match="not a radar scene"):
            open_scene(path)


def test_info_of_an_archive(tmp_path):
    folder = write_product(tmp_path / "p", Made(shape=(12, 10)))
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    assert is_scene(tmp_path / "p.zip")
    result = CliRunner().invoke(info, ["--json", str(tmp_path / "p.zip")])
    found = json.loads(result.stdout)[0]
    assert (found["kind"], found["mission"], found["product_type"], found["mode"], found["lines"]) == ("scene", "ALOS", "L1.1", "FBS", 12)


@pytest.mark.parametrize("form", ["slant", "georeferenced"])
def test_gdal_reads_the_same_samples_one_line_later(tmp_path, form):
    """GDAL's own reader of ALOS-1 (JAXAPALSAR) shifts an image by one line: its row k + 1 is our row k."""
    with rasterio.Env() as env:
        if "JAXAPALSAR" not in env.drivers():
            pytest.skip("this GDAL has no driver JAXAPALSAR")
    made = Made(form=form, level="1.1" if form == "slant" else "1.5", shape=(40, 31))
    values = np.random.default_rng(8).integers(1, 65536, made.shape)
    folder = write_product(tmp_path / "p", made, values * (1 - 2j) if form == "slant" else values)
    scene = open_scene(folder)
    window = Window(row=0, col=0, rows=39, cols=31)
    ours = scene.slc("HH", window) if form == "slant" else scene.dn("HH", window)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(folder / f"VOL-{made.name}", driver="JAXAPALSAR") as file:
            theirs = file.read(1)
    np.testing.assert_array_equal(theirs[1:], ours)
