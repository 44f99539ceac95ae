"""The real ALOS-2 leader, and the real numbers of an ALOS-1 leader in one that we write: against orbit mechanics and themselves."""

from __future__ import annotations

import json
import re
import struct
import zipfile

import numpy as np
import pytest
from palsar_files import IMAGE_LINE, Made, a, e, f, i, line_prefix, platform_record, record, summary_fields
from pyproj import Transformer

from sarseg.errors import InputError
from sarseg.product.open import open_product
from sarseg.radar.geometry import doppler_of, ecef_from_geodetic, zero_doppler
from sarseg.raster import palsar_records as records
from sarseg.raster.ceos import Source, read_layout, walk
from sarseg.scene.open import open_scene
from sarseg.scene.palsar_geometry import PolynomialMap, ellipsoid_grid, incidence_rad, map_of
from sarseg.scene.palsar_leader import read_leader
from sarseg.tiles import Window

ZIP = "0000022708_001001_ALOS2015976960-140909.zip"
NAME = "ALOS2015976960-140909-FBDR1.5GUA"
SHAPE = 13161, 12870
CORNERS = np.array([[-10.6794393, -62.9005207], [-10.6783401, -62.1650802], [-11.4221274, -62.1629744], [-11.4233051, -62.9002697]])
LINE, PIXEL = np.array([0.0, 0.0, 13160.0, 13160.0]), np.array([0.0, 12869.0, 12869.0, 0.0])


@pytest.fixture(scope="module")
def archive(shared):
    return shared / "data" / "alos2_ceos_l15" / ZIP


@pytest.fixture(scope="module")
def led(archive):
    return Source(path=str(archive), member=f"LED-{NAME}").read()


@pytest.fixture(scope="module")
def leader(led):
    return read_leader(led, "LED")


def test_every_declared_field_is_decoded(archive, led):
    """All 12 + 6 + 1 records, every field of every layout; the sizes are those of the files."""
    raw = walk(led, "LED")
    lengths = [720, 4096, 1620, 4680, 16384, 9860, 1620, 325000, 511000, 3072, 728000, 5000]
    assert [len(record.content) for record in raw] == lengths
    head = raw[0].decoded(records.LEADER).all()
    assert (head["summary_bytes"], head["attitude_bytes"], head["facility_bytes"]) == (4096, 16384, (325000, 511000, 3072, 728000, 5000))
    layouts = (records.SUMMARY, records.MAP_PROJECTION, records.PLATFORM, records.ATTITUDE, records.RADIOMETRIC, records.QUALITY)
    decoded = {kind.name: raw[1 + at].decoded(kind).all() for at, kind in enumerate(layouts)}
    decoded["coefficients"] = raw[-1].decoded(records.COEFFICIENTS).all()
    volume = walk(Source(path=str(archive), member=f"VOL-{NAME}").read(), "VOL")
    decoded["volume"] = volume[0].decoded(records.VOLUME).all()
    decoded["pointers"] = {f"{at}{key}": value for at in range(1, 5) for key, value in volume[at].decoded(records.POINTER).all().items()}
    decoded["text"] = volume[5].decoded(records.TEXT).all()
    trailer = Source(path=str(archive), member=f"TRL-{NAME}")
    image = walk(trailer.read(), "TRL", most=1)[0].decoded(records.TRAILER).all()
    assert (
        720 + image["image_bytes"] == trailer.size_bytes == 720 + image["image_pixels"] * image["image_lines"] * image["image_pixel_bytes"]
    )
    assert [decoded["pointers"][f"{at}class_code"] for at in range(1, 5)] == ["SARL", "IMOP", "IMOP", "SART"]
    assert decoded["pointers"]["2records"] == SHAPE[0] + 1
    blank = {f"{name}.{key}" for name, fields in decoded.items() for key, value in fields.items() if value in (None, "")}
    # what this product leaves blank: the other projections, the swath direction, the lost lines before processing
    other = {f"map projection.{key}" for key in decoded["map projection"] if key.startswith(("other", "ups"))}
    assert blank == other | {"data set summary.time_along_pixel", "coefficients.start_line"}


def test_numbers_in_their_units(leader):
    """The published numbers of this scene, in the units that the names say."""
    summary = leader.summary
    assert str(leader.centre_utc) == "2014-09-09T04:33:47.052000"
    assert (leader.mission, leader.level, leader.form, leader.wide, leader.esa) == ("ALOS2", "1.5", "geocoded", False, False)
    assert (leader.wavelength_m, leader.look_side, leader.factor_db, leader.absolute_orbit) == (0.2424525, "right", -83.0, 1597)
    assert leader.prf_hz == pytest.approx(2122.318448518, abs=1e-9)
    assert leader.range_sampling_hz == pytest.approx(34.9305319e6, abs=0.01)
    assert leader.slant_spacing_m == pytest.approx(4.2912, abs=1e-4)
    assert summary.number("semi_major_m") == pytest.approx(6378137.0, abs=1e-4)
    assert summary.number("bandwidth_range_hz") == pytest.approx(summary.number("look_bandwidth_range_hz"), rel=1e-9)  # kHz and Hz
    assert summary.number("pulse_s") == pytest.approx(30.842168e-6, rel=1e-9)
    assert np.isnan(leader.projection.maybe("orientation_deg"))
    assert leader.notes == ()


def test_corners_polynomials_and_map_agree(leader):
    """UTM grid, 25-term polynomials both ways, 4-term polynomials (1-based) and the record's corners."""
    image, notes = map_of(leader, SHAPE)
    assert notes == ()
    by_polynomial = PolynomialMap(shape=SHAPE, coefficients=leader.coefficients)
    for kind in (image, by_polynomial):
        lon, lat = kind.lonlat(LINE, PIXEL)
        gap_m = np.linalg.norm(ecef_from_geodetic(lon, lat, 0.0) - ecef_from_geodetic(CORNERS[:, 1], CORNERS[:, 0], 0.0), axis=-1)
        assert gap_m.max() < 0.02
        np.testing.assert_allclose(kind.line_pixel(lon, lat), [LINE, PIXEL], atol=1e-6)
    np.testing.assert_allclose(image.line_pixel(*by_polynomial.lonlat(LINE, PIXEL)), [LINE, PIXEL], atol=2e-5)
    lon, lat = by_polynomial.lonlat(LINE, PIXEL)
    a_terms = leader.projection.numbers("lonlat_of_line_pixel")
    ones = np.stack([np.ones(4), LINE + 1, PIXEL + 1, (LINE + 1) * (PIXEL + 1)])
    np.testing.assert_allclose([a_terms[:4] @ ones, a_terms[4:] @ ones], [lon, lat], atol=2e-6)
    c = leader.coefficients
    x, y = lat - c.origin_lat_deg, lon - c.origin_lon_deg
    for table, wanted in ((c.line, LINE), (c.pixel, PIXEL)):
        found = sum(table[p, q] * x ** (4 - p) * y ** (4 - q) for p in range(5) for q in range(5))
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_orbit_obeys_mechanics(leader):
    """Energy and angular momentum in the inertial frame are constant to what J2 does; period, inclination; Hermite through 8 others."""
    orbit = leader.orbit
    spin = np.array([0.0, 0.0, 7.292115e-5])
    velocity = orbit.velocity_m_s + np.cross(spin, orbit.position_m)
    radius = np.linalg.norm(orbit.position_m, axis=1)
    assert 7006.1e3 < radius.min() < radius.max() < 7017.4e3
    mu, j2, a_m = 3.986004418e14, 1.08262668e-3, 6378137.0
    z = orbit.position_m[:, 2] / radius
    energy = np.sum(velocity**2, 1) / 2 - mu / radius * (1 - j2 * (a_m / radius) ** 2 * (1.5 * z**2 - 0.5))
    assert np.ptp(energy) / abs(energy.mean()) < 3e-5  # J2 alone would be 2e-3; what is left is the equator's ellipse
    momentum = np.cross(orbit.position_m, velocity)
    inclination = np.degrees(np.arccos(momentum[:, 2] / np.linalg.norm(momentum, axis=1)))
    assert 97.90 < inclination.min() < inclination.max() < 97.93
    period_s = 2 * np.pi * np.sqrt((-mu / (2 * energy.mean())) ** 3 / mu)
    assert period_s == pytest.approx(86400 * 14 / 207, rel=2e-3)  # 207 revolutions in 14 days
    worst = 0.0
    for at in range(4, 24):
        near = [k for k in range(at - 4, at + 5) if k != at]
        worst = max(worst, float(np.linalg.norm(hermite(orbit, near, orbit.t_s[at]) - orbit.position_m[at])))
        between = (orbit.t_s[at] + orbit.t_s[at + 1]) / 2
        full = list(range(at - 3, at + 5))
        assert np.linalg.norm(hermite(orbit, full, between) - orbit.position(between)) < 1e-3
    assert worst < 6e-4


def hermite(orbit, points, t):
    """Position by the polynomial through positions and velocities of some vectors (divided differences)."""
    x = np.repeat(orbit.t_s[points] - orbit.t_s[points[0]], 2) / 60.0
    table = np.repeat(orbit.position_m[points], 2, axis=0)
    previous = table.copy()
    out, product = table[0].copy(), 1.0
    at = (t - orbit.t_s[points[0]]) / 60.0
    for order in range(1, len(x)):
        following = np.empty((len(previous) - 1, 3))
        for k in range(len(following)):
            gap = x[k + order] - x[k]
            following[k] = orbit.velocity_m_s[points[k // 2]] * 60.0 if gap == 0 else (previous[k + 1] - previous[k]) / gap
        product *= at - x[order - 1]
        out += product * following[0]
        previous = following
    return out


def test_geometry_against_times_and_angles(archive, leader):
    """Zero-Doppler time and range of the centre; the corners of summary.txt and the KML lie on the image's first and last time."""
    centre = ecef_from_geodetic(np.array([-62.5322403]), np.array([-11.0510316]), 0.0)
    t_s, slant = zero_doppler(centre, leader.orbit)
    assert abs(t_s[0] + 0.0014) < 1e-4
    assert slant[0] == pytest.approx(811678.5, abs=0.1)
    image, _ = map_of(leader, SHAPE)
    grid, notes = ellipsoid_grid(leader, image)
    assert notes == ()
    assert (grid.look_side, grid.error_px < 1e-3) == ("right", True)
    line, pixel = grid.line_pixel(t_s, slant)
    np.testing.assert_allclose([line[0], pixel[0]], [6580.0, 6434.0], atol=0.01)
    with zipfile.ZipFile(archive) as inside:
        summary = inside.read("summary.txt").decode()
        kml = inside.read(next(name for name in inside.namelist() if name.endswith(".kml"))).decode()
    numbers = dict(re.findall(r'Img_ImageScene(\w+)="(-?[\d.]+)"', summary))
    names = ("LeftTop", "RightTop", "RightBottom", "LeftBottom")
    lat, lon = (np.array([float(numbers[name + word]) for name in names]) for word in ("Latitude", "Longitude"))
    wanted = [[2345.1, 5.8, 10822.2, 13156.0], [8.3, 10490.5, 12875.3, 2378.4]]
    np.testing.assert_allclose(image.line_pixel(lon, lat), wanted, atol=0.06)
    t_s, slant = zero_doppler(ecef_from_geodetic(lon, lat, 0.0), leader.orbit)
    np.testing.assert_allclose(t_s, [5.0, 5.0, -5.0, -5.0], atol=0.0091)  # ascending: the first line is the latest
    np.testing.assert_allclose(np.stack(grid.line_pixel(t_s, slant)), wanted, atol=0.06)
    polygon = [[float(value) for value in point.split(",")[:2]] for point in re.search(r"<coordinates>([^<]+)<", kml)[1].split()]
    assert len(polygon) >= 4
    for corner in polygon:
        assert min(np.hypot(corner[0] - lon, corner[1] - lat)) < 2e-3


def test_cut_images_are_called_truncated(archive):
    for polarisation in ("HH", "HV"):
        with pytest.raises(InputError, match="truncated: 0 of 13161 lines"):
            read_layout(Source(path=str(archive), member=f"IMG-{polarisation}-{NAME}"))
    with pytest.raises(InputError, match="truncated: 0 of 13161 lines"):
        open_scene(archive)


def completed(archive, folder, change):
    """The real files, their names and contents changed, beside an image HH of zeros."""
    name_of = change(NAME.encode()).decode()
    with zipfile.ZipFile(archive) as inside:
        for name in inside.namelist():
            if not name.startswith("IMG-"):
                (folder / name.replace(NAME, name_of)).write_bytes(change(inside.read(name)))
        head = inside.read(f"IMG-HH-{NAME}")
    with (folder / f"IMG-HH-{name_of}").open("wb") as file:
        file.write(head)
        for line in (0, SHAPE[0] - 1):
            file.seek(720 + line * 25932)
            file.write(struct.pack(">I4BI", line + 2, *IMAGE_LINE["processed"], 25932))
        file.truncate(720 + SHAPE[0] * 25932)


def test_its_records_open_as_an_orthorectified_product(archive, leader, tmp_path):
    """The real records with the level 2.1: grid, times and factor; incidence as the scene's orbit gives it."""

    def change(content):
        return content.replace(b"FBDR1.5GUA", b"FBDR2.1GUA").replace(b"1.5             STANDARD", b"2.1             STANDARD")

    completed(archive, tmp_path, change)
    product = open_product(tmp_path)
    assert (product.id, product.bands, product.grid.shape) == (NAME.replace("1.5", "2.1"), ("HH",), SHAPE)
    assert product.grid.transform[:6] == pytest.approx((6.25, 0, 510879.0839 - 3.125, 0, -6.25, 8819462.993 + 3.125), abs=1e-3)
    assert product.grid.crs.to_epsg() == 32720
    said = product.item["properties"]
    assert (said["start_datetime"], said["end_datetime"]) == ("2014-09-09T04:33:42.052Z", "2014-09-09T04:33:52.052Z")
    assert (said["sat:orbit_state"], said["sat:absolute_orbit"]) == ("ascending", 1597)
    assert [warning.split(":")[0] for warning in product.warnings] == ["sigma0, not gamma0", "no mask layer"]
    assert product.conversions["HH"].factor == pytest.approx(10**-8.3)
    image, _ = map_of(leader, SHAPE)
    for row, col in ((6580, 6434), (0, 0), (13160, 12869), (3000, 9000)):
        angle = product.read(Window(row=row, col=col, rows=1, cols=1), ["ellipsoid_incidence"])[0, 0, 0]
        place = ecef_from_geodetic(*image.lonlat(np.array([float(row)]), np.array([float(col)])), 0.0)
        want = np.degrees(incidence_rad(place, zero_doppler(place, leader.orbit)[0], leader.orbit))[0]
        assert angle == pytest.approx(want, abs=5e-4)
    assert product.read(Window(row=6580, col=6434, rows=1, cols=1), ["ellipsoid_incidence"])[0, 0, 0] == pytest.approx(40.528, abs=1e-3)


def test_completed_with_an_image_it_opens(archive, tmp_path):
    """The real files beside an image of the declared size (a hole on the disk) and without HV."""
    completed(archive, tmp_path, lambda content: content)
    scene = open_scene(tmp_path)
    assert (scene.id, scene.mode, scene.product_type, scene.shape) == (NAME, "FBD", "L1.5G", SHAPE)
    assert (scene.orbit_direction, scene.absolute_orbit, scene.polarisations) == ("ascending", 1597, ("HH",))
    assert (str(scene.start_utc), str(scene.stop_utc)) == ("2014-09-09T04:33:42.052000", "2014-09-09T04:33:52.052000")
    assert scene.warnings == ("the product has 2 polarisations, of which only these are here: HH",)
    np.testing.assert_allclose(scene.footprint_lonlat, CORNERS[:, ::-1], atol=1e-6)
    assert scene.geolocation_grid.incidence_deg[60] == pytest.approx(40.53, abs=0.02)


@pytest.fixture(scope="module")
def alos1(shared, tmp_path_factory):
    """A georeferenced product of ALOS-1 around the real numbers."""
    real = json.loads((shared / "data" / "alos1_ceos" / "ALPSRP041611270-H1.5_UA.decoded.json").read_text())
    folder = tmp_path_factory.mktemp("alos1")
    midnight = np.datetime64("2006-11-05T00:00:00", "us")
    centre_utc = midnight + np.timedelta64(round(real["scene_centre_sod_utc"] * 1e3), "ms")
    made = Made(
        form="georeferenced", level="1.5", shape=(real["lines"], real["samples"]), prf_hz=real["prf_hz"], sampling_hz=16e6, esa=False
    )
    doppler = real["crosstrack_doppler"]
    made.across = (doppler["c0_hz"], doppler["c1"], doppler["c2"])
    words = [
        *summary_fields(made, centre_utc),
        a(20, 32, "ALPSRP041611270"),
        i(324, 8, real["centre_line"]),
        i(332, 8, real["centre_pixel"]),
    ]
    words += [e(1886 + 20 * k, 20, value) for k, value in enumerate(real["incidence_poly_rad_of_slant_km"])]
    tables = ("lat_of_pixel_line_25", "lon_of_pixel_line_25", "pixel_of_lat_lon_25", "line_of_lat_lon_25")
    fields = [
        e(start + 20 * k, 20, value)
        for start, name in zip((1024, 1524, 2064, 2564), tables, strict=True)
        for k, value in enumerate(real[name])
    ]
    for offset, name in ((2024, "origin_pixel"), (2044, "origin_line"), (3064, "origin_lat"), (3084, "origin_lon")):
        fields.append(e(offset, 20, real[name]))
    x, y = PIXEL5 - real["origin_pixel"], LINE5 - real["origin_line"]
    lat, lon = (sum(real[name][5 * p + q] * x ** (4 - p) * y ** (4 - q) for p in range(5) for q in range(5)) for name in tables[:2])
    corners = [f(1072 + 32 * k + 16 * n, 16, value) for k in range(4) for n, value in enumerate((lat[k], lon[k]))]
    mapped = [a(28, 32, "GEOREFERENCE"), i(60, 16, 5600), i(76, 16, 5300), f(92, 16, 12.5), f(108, 16, 12.5)]
    mapped += [f(268, 16, 6378137.0), f(284, 16, 6356752.3141, 4), *corners]
    vectors = real["state_vectors_ecr"]
    times = np.array([real["image_start_sod_utc"] + vector["t_rel_start_s"] for vector in vectors])
    place, speed = ([[vector[k] for k in names] for vector in vectors] for names in (("x", "y", "z"), ("vx", "vy", "vz")))
    parts = [
        record(1, (11, 192, 18, 18), 720),
        record(2, (18, 10, 18, 20), 4096, *words),
        record(3, (18, 20, 18, 20), 1620, *mapped),
        platform_record(4, times, place, speed, midnight),
        record(5, (18, 50, 18, 20), 9860, f(20, 16, real["calibration_factor_db"]["HH"])),
        record(6, (18, 200, 18, 70), 5000, a(12, 4, "  11"), *fields),
    ]
    (folder / "LED-ALPSRP041611270-H1.5_UA").write_bytes(b"".join(parts))
    record_bytes = 192 + 2 * real["samples"]
    head = [i(180, 6, 5300), i(186, 6, record_bytes), i(216, 4, 16), i(220, 4, 1), i(236, 8, 5300), i(248, 8, 5600), i(276, 4, 192)]
    with (folder / "IMG-HH-ALPSRP041611270-H1.5_UA").open("wb") as file:
        file.write(record(1, (50, 192, 18, 18), 720, *head) + bytes(line_prefix(made, 0, record_bytes)))
        file.truncate(720 + 5300 * record_bytes)
    return real, open_scene(folder)


LINE5, PIXEL5 = np.array([0.0, 0.0, 5299.0, 5299.0]), np.array([0.0, 5599.0, 5599.0, 0.0])


def test_real_alos_1_numbers_fit_together(alos1):
    """Times, ranges, angles and Doppler that were measured on these numbers with other software."""
    real, scene = alos1
    assert (scene.product_type, scene.mode, scene.mission, scene.orbit_direction) == ("L1.5R", "FBD", "ALOS", "ascending")
    image_start_s = real["image_start_sod_utc"] - real["scene_centre_sod_utc"]
    centre = ecef_from_geodetic(np.array([-144.78983784]), np.array([63.932119174]), 0.0)
    t_s, slant = zero_doppler(centre, scene.orbit)
    assert t_s[0] - image_start_s == pytest.approx(4.9754, abs=1e-4)
    line, pixel = scene.grid.line_pixel(t_s, slant)
    np.testing.assert_allclose([line[0], pixel[0]], [2650.0, 2800.0], atol=0.01)
    assert doppler_of(centre, np.zeros(1), scene.orbit, real["wavelength_m"])[0] == pytest.approx(55.0, abs=0.1)
    points = scene.geolocation_grid
    first = points.pixel == 0
    for at, wanted in ((0.0, 959628.0), (2649.5, 959640.0), (5299.0, 959625.0)):
        assert points.slant_range_m[first & (points.line == at)][0] == pytest.approx(wanted, abs=1.0)
    middle = points.line == 2649.5
    angles = points.incidence_deg[middle][[0, 5, 10]]
    np.testing.assert_allclose(angles, [45.619, 47.353, 49.006], atol=0.005)
    by_record = np.degrees(
        np.polynomial.polynomial.polyval(points.slant_range_m[middle][[0, 5, 10]] / 1e3, real["incidence_poly_rad_of_slant_km"])
    )
    np.testing.assert_allclose(angles, by_record, atol=0.03)
    lon, lat = np.array([-144.5]), np.array([63.9])
    t_s, slant = zero_doppler(ecef_from_geodetic(lon, lat, 0.0), scene.orbit)
    line, pixel = scene.grid.line_pixel(t_s, slant)
    x, y = lat - real["origin_lat"], lon - real["origin_lon"]
    for name, found in (("line_of_lat_lon_25", line), ("pixel_of_lat_lon_25", pixel)):
        wanted = sum(real[name][5 * p + q] * x ** (4 - p) * y ** (4 - q) for p in range(5) for q in range(5))
        np.testing.assert_allclose(found, wanted, atol=0.01)


def test_utm_of_the_corners_is_plain_wgs84(leader):
    """Northing and easting of the record against its latitudes and longitudes by PROJ: 0.006 m."""
    places = leader.projection.numbers("corner_northing_easting_m").reshape(4, 2)
    x, y = Transformer.from_crs(4326, 32720, always_xy=True).transform(CORNERS[:, 1], CORNERS[:, 0])
    np.testing.assert_allclose(places, np.stack([y, x], axis=1), atol=0.007)
