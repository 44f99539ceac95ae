"""PALSAR scenes to the map: point targets and calibration against brute-force geometry (`palsar_files`)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from palsar_files import Made, ground_of, image_place, lonlat, write_product
from pyproj import Transformer

from sarseg.ard.preprocess import PreprocessOptions, preprocess
from sarseg.radar.geometry import zero_doppler
from sarseg.scene.open import open_scene
from sarseg.tiles import Window

SIGMA0 = 0.05
SHAPE = (900, 450)
TARGETS = ((0.3, 0.3), (0.7, 0.4), (0.45, 0.7))
PEAK = 60.0
ZONE = 30


def height_of(x, y, origin):
    """A tilted plane, m: 250 m (400 m of shift on the ground) in the middle, falling to the east and rising to the north."""
    return 250.0 - 0.06 * (np.asarray(x) - origin[0]) + 0.04 * (np.asarray(y) - origin[1])


def write_dem(path, origin, half_m=3800.0, spacing=50.0):
    side = int(2 * half_m / spacing)
    left, top = np.round(origin[0] - half_m), np.round(origin[1] + half_m)
    x = left + (np.arange(side) + 0.5) * spacing
    y = top - (np.arange(side) + 0.5) * spacing
    heights = height_of(*np.meshgrid(x, y), origin).astype("f4")
    profile = {"driver": "GTiff", "count": 1, "height": side, "width": side, "dtype": "float32", "crs": f"EPSG:{32600 + ZONE}"}
    with rasterio.open(path, "w", transform=Affine(spacing, 0, left, 0, -spacing, top), **profile) as file:
        file.write(heights, 1)
    return path


def power_image(made, places, factor):
    """Power that gives SIGMA0 everywhere, and a hill of it around each (line, pixel, widths)."""
    line, pixel = np.meshgrid(np.arange(made.shape[0]), np.arange(made.shape[1]), indexing="ij")
    power = np.full(made.shape, 1.0)
    for at_line, at_pixel, lines, pixels in places:
        power += PEAK * np.exp(-(((line - at_line) / lines) ** 2) / 2 - ((pixel - at_pixel) / pixels) ** 2 / 2)
    return power * SIGMA0 * factor


def image_position(made, place):
    """Line and pixel at which a point (lon, lat, height) is imaged, without the reader."""
    t, slant = image_place(made, *place)
    if made.form == "slant":
        return (t - made.first_s) * made.prf_hz, (slant - made.near_m) / made.slant_m
    lon, lat = ground_of(made, t, slant)
    if made.form == "geocoded":
        x, y = Transformer.from_crs(4326, 32600 + made.utm_zone, always_xy=True).transform(lon, lat)
        return (made.corner_m[1] - y) / made.spacing_m, (x - made.corner_m[0]) / made.spacing_m
    line = made.shape[0] - 1.0 - (t - made.first_s) * 6800.0 / made.spacing_m
    root = np.roots([3.1e-7 * made.spacing_m**2, 0.62 * made.spacing_m, made.near_m - slant])
    return line, float(root.real.max())


def utm_of(lon, lat):
    return Transformer.from_crs(4326, 32600 + ZONE, always_xy=True).transform(lon, lat)


CASES = {
    "ALOS-1 +100 Hz": Made(doppler=lambda r: 100.0 + 0 * r, across=(100.0, 0.0, 0.0), shape=SHAPE),
    "ALOS-1 -100 Hz": Made(doppler=lambda r: -100.0 + 0 * r, across=(-100.0, 0.0, 0.0), shape=SHAPE),
    "ALOS-2 SLC": Made(mission="ALOS2", wavelength_m=0.2424525, sampling_hz=34.93e6, shape=SHAPE),
    "ALOS-1 R": Made(form="georeferenced", level="1.5", shape=(300, 270)),
    "ALOS-2 G": Made(form="geocoded", level="1.5", mission="ALOS2", wavelength_m=0.2424525, shape=(300, 300), utm_zone=ZONE, first_s=0.0),
}


@pytest.mark.parametrize("case", CASES)
def test_point_targets_and_calibration(tmp_path, case):
    """On a slope: targets within 0.2 pixel of the truth (asked for), gamma0 within 0.1 dB."""
    made = CASES[case]
    if made.form == "geocoded":
        x, y = utm_of(*ground_of(made, 0.0, 868e3))
        made.corner_m = (round(float(x) / 12.5 - 150) * 12.5, round(float(y) / 12.5 + 150) * 12.5)
    middle = lonlat(made, (made.shape[0] - 1) / 2, (made.shape[1] - 1) / 2)
    origin = tuple(float(value) for value in utm_of(*middle))
    truth, places = [], []
    for down, across in TARGETS:
        lon, lat = lonlat(made, down * made.shape[0], across * made.shape[1])
        x, y = (float(value) for value in utm_of(lon, lat))
        truth.append((x, y))
        widths = (9.0, 4.0) if made.form == "slant" else (2.5, 2.5)
        places.append((*image_position(made, (float(lon), float(lat), float(height_of(x, y, origin)))), *widths))
    factor = 10 ** ((83.0 + (32.0 if made.form == "slant" else 0.0)) / 10)
    amplitude = np.sqrt(power_image(made, places, factor))
    phase = np.random.default_rng(5).uniform(0, 2 * np.pi, made.shape)
    folder = write_product(tmp_path / made.name, made, amplitude * np.exp(1j * phase) if made.form == "slant" else np.round(amplitude))
    options = PreprocessOptions(spacing_m=10.0, crs=f"EPSG:{32600 + ZONE}", dem_datum="ellipsoidal", threads=1)
    product = preprocess(folder, tmp_path / "out", write_dem(tmp_path / "dem.tif", origin), options)
    with rasterio.open(product / "HH.tif") as file:
        gamma0, transform = file.read(1).astype(np.float64), file.transform
    item = json.loads((product / "item.json").read_text())["properties"]
    # 6.8 km/s over ground at 2100 Hz: 3 lines; 7 m of ground range: 1 sample; 12.5 m of level 1.5: none
    assert item.get("sarseg:multilook") == ([3, 1] if made.form == "slant" else None)
    assert item["sar:frequency_band"] == "L"
    scene = open_scene(folder)
    expected = expected_gamma0(scene, middle, float(height_of(*origin, origin)))
    for x, y in truth:
        col, row = (value - 0.5 for value in ~transform @ (x, y))
        found = centroid(gamma0, row, col, 14)
        assert np.hypot(found[0] - row, found[1] - col) < 0.2, (case, found[0] - row, found[1] - col)
    typical = np.nanmedian(gamma0)
    assert abs(10 * np.log10(typical / expected)) < 0.1, case
    assert scene.warnings == ()


def expected_gamma0(scene, middle, height):
    """SIGMA0 / cos(incidence on the ellipsoid) where the image shows the middle of the map, from the reader's orbit only."""
    from pyproj import Transformer as T

    point = np.array(T.from_crs("EPSG:4979", "EPSG:4978", always_xy=True).transform(*(float(v) for v in middle), 0.0))
    t_s, slant = zero_doppler(point, scene.orbit)
    lon, lat = np.radians(float(middle[0])), np.radians(float(middle[1]))
    normal = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    return SIGMA0 / float(np.sum((scene.orbit.position(t_s) - point) * normal) / slant)


def centroid(image, row, col, half):
    r0, c0 = round(row), round(col)
    part = image[r0 - half : r0 + half + 1, c0 - half : c0 + half + 1]
    weight = part - np.median(np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]]))
    assert np.isfinite(weight).all()
    rows, cols = np.mgrid[r0 - half : r0 + half + 1, c0 - half : c0 + half + 1]
    return float((rows * weight).sum() / weight.sum()), float((cols * weight).sum() / weight.sum())


def test_multilook_is_the_mean_power_and_keeps_places(tmp_path):
    """Each look box by hand, invalid lines left out; the same ground point lies on the same sample."""
    made = Made(shape=(64, 40), first_s=0.0)
    rng = np.random.default_rng(3)
    image = (rng.normal(size=made.shape) + 1j * rng.normal(size=made.shape)).astype(np.complex64)
    scene = open_scene(write_product(tmp_path / "p", made, image, invalid=(5, 6, 7, 9)))
    assert np.isnan(scene.power("HH", Window(row=5, col=0, rows=3, cols=40))).all()
    few = scene.multilooked((4, 3))
    assert few.shape == (16, 13)
    power = few.power("HH", Window(row=1, col=2, rows=2, cols=5))
    single = np.abs(image.astype(np.complex128)) ** 2
    np.testing.assert_allclose(power[1, 0], single[[8, 10, 11], 6:9].mean(), rtol=1e-5)
    assert np.isnan(power[0, 0])  # three of four lines are invalid
    t_s, slant = scene.grid.line_time_s(np.array([10.0, 33.0])), scene.grid.slant_range_m(np.array([10.0, 33.0]), np.array([7.0, 22.0]))
    line, pixel = few.grid.line_pixel(t_s, slant)
    np.testing.assert_allclose(line, (np.array([10.0, 33.0]) - 1.5) / 4, atol=1e-6)
    np.testing.assert_allclose(pixel, (np.array([7.0, 22.0]) - 1.0) / 3, atol=1e-6)
    whole, part = Window(row=0, col=0, rows=64, cols=40), Window(row=0, col=0, rows=16, cols=13)
    fine = scene.calibration["HH"].amplitude("gamma0", whole)
    coarse = few.calibration["HH"].amplitude("gamma0", part)
    np.testing.assert_allclose(coarse[3, 4], fine[12:16, 12:15].mean(), rtol=1e-6)
