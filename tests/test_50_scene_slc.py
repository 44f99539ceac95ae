"""The geometry of real IW SLC annotations: every point that ESA located, the bursts' grid and their valid samples; what is refused."""

from __future__ import annotations

import json
import re
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fake_snap_bursts import contents, covered, deburst, place, swaths_of, unpack, write_samples
from matplotlib.path import Path as Outline

from sarseg.ard.extent import choose_looks
from sarseg.ard.polarimetry import check_quad
from sarseg.cli.main import cli
from sarseg.errors import InputError
from sarseg.radar.geometry import ecef_from_geodetic, on_ellipsoid, zero_doppler
from sarseg.scene.open import is_scene, open_scene
from sarseg.scene.orbitfile import choose_eof
from sarseg.scene.safe import parse
from sarseg.scene.tops import Image, merge_swaths, read_swath
from sarseg.tiles import Window

# last letters of the product: polarisations, swaths, largest error in metres of zero-Doppler time, of slant range, of line before
# the last row (None = the points' own lines are not theirs, docs/sentinel1.md 8)
PRODUCTS = {
    "7768": (("VV",), 3, 0.008, 3e-5, 0.017),
    "EFA4": (("VH",), 2, 0.008, 3e-5, 0.017),
    "2250": (("VV",), 3, 0.008, 3e-5, 0.017),
    "D952": (("VV",), 1, 0.008, 3e-5, 0.017),
    "E677": (("HH",), 1, 0.016, 3e-5, 0.02),
    "F396": (("VV",), 1, 0.008, 3e-5, 0.017),
    "115A": (("VV",), 3, 0.012, 3e-5, 0.017),
    "D6E2": (("VV",), 1, 0.016, 3e-5, 0.017),
    "93A7": (("VV",), 3, 0.016, 3e-5, 0.017),
    "62D6": (("VV",), 1, 0.015, 3e-5, 0.02),
    "91FC": (("HH",), 3, 0.70, 3e-4, None),
    "07B5": (("VV",), 1, 1.12, 0.034, None),
}
GROUND_M_S = 6830.0
LINE_M, SAMPLE_M = 13.95, 2.33


def source(shared: Path, product: str) -> Path:
    if product == "62D6":
        return shared / "data/s1_slc_terceira"
    (path,) = (shared / "data/s1_slc_metadata").glob(f"*_{product}*.zip")
    return path


@cache
def image_of(path: Path) -> Image:
    return merge_swaths([read_swath(parse(content, name)) for name, content in contents(path).items() if name.count("/") < 2])


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_grid_point_lies_where_esa_puts_it(shared, product):
    polarisations, count, time_m, range_m, line_m = PRODUCTS[product]
    image = image_of(source(shared, product))
    points, grid = image.points, image.grid
    assert (image.polarisations, len(image.swaths)) == (polarisations, count)
    t_s, slant_m = zero_doppler(ecef_from_geodetic(points.lon_deg, points.lat_deg, points.height_m), image.orbit)
    assert np.abs(t_s - points.time_s).max() * GROUND_M_S < time_m
    assert np.abs(slant_m - points.slant_range_m).max() < range_m
    line, pixel = grid.line_pixel(t_s, slant_m)
    assert np.abs(pixel - points.pixel).max() * SAMPLE_M < range_m + 0.0045
    if line_m is None:
        assert any("rounded to 1 ms" in note for note in image.orbit.note.split(";"))
        return
    ends = np.concatenate([points.line[one] == points.line[one].max() for one in swath_slices(image)])
    off_m = np.abs(line - points.line) * LINE_M
    assert off_m[~ends].max() < line_m
    assert off_m[ends].max() < 0.105  # their times lie on the product's last line, 14 us off
    tau_s = 2 * slant_m / 299792458.0
    if count == 3:
        assert 1.85 < np.abs(line - points.line + (tau_s - grid.tau_ref_s) / 2 / grid.line_interval_s).max() * LINE_M < 2.05


def swath_slices(image: Image) -> list[np.ndarray]:
    """Indices of each swath's points."""
    sizes = [len(swath.points.line) for swath in image.swaths]
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


@pytest.mark.parametrize(("product", "kind", "time_m"), [("07B5", "POEORB", 0.045), ("115A", "POEORB", 0.026), ("D6E2", "RESORB", 0.017)])
def test_an_orbit_file_takes_the_place_of_the_vectors(shared, product, kind, time_m):
    """It removes IPF 2.36's rounding."""
    scene = open_scene(source(shared, product))
    scene = scene.with_orbit(choose_eof(shared / "data/orbits", scene))
    assert kind in scene.orbit.source
    points = scene.geolocation_grid
    t_s, _ = zero_doppler(ecef_from_geodetic(points.lon_deg, points.lat_deg, points.height_m), scene.orbit)
    assert np.abs(t_s - points.time_s).max() * GROUND_M_S < time_m
    assert not any("rounded" in warning for warning in scene.warnings)


@pytest.mark.parametrize("product", PRODUCTS)
def test_bursts_and_swaths_lie_on_one_grid(shared, product):
    """In whole lines and samples, worked out from the annotations' times; the docs have the largest fractions."""
    path = source(shared, product)
    image, swaths = image_of(path), [one for one in swaths_of(path) if one.polarisation in image_of(path).polarisations]
    origin_us = min(one.starts_us[0] for one in swaths)
    for swath in swaths:
        lines = (np.array(swath.starts_us) - origin_us) / 1e6 / swath.interval_s
        assert np.abs(lines - np.rint(lines)).max() < 0.0023
        samples = (swath.tau_s - swaths[0].tau_s) * swath.sampling_hz
        assert abs(samples - round(samples)) < 1e-3
    bursts = [(burst.line, burst.pixel) for burst in image.coverage.bursts]
    assert bursts == [place(swaths, swath, k) for swath in swaths for k in range(len(swath.starts_us))]
    ends = [(line + len(burst.first), pixel) for (line, pixel), burst in zip(bursts, image.coverage.bursts, strict=True)]
    assert image.grid.shape[0] == max(end for end, _ in ends)


@pytest.mark.parametrize("product", ["93A7", "EFA4", "91FC", "07B5"])
def test_coverage_is_the_union_of_the_valid_samples(shared, product):
    path = source(shared, product)
    image = image_of(path)
    swaths = [one for one in swaths_of(path) if one.polarisation in image.polarisations]
    lines, pixels = image.grid.shape
    rng = np.random.default_rng(5)
    bursts = image.coverage.bursts
    near, far = min(burst.pixel for burst in bursts), max(burst.pixel for burst in bursts)
    places = [(burst.line + 700, near + int(burst.first[700])) for burst in bursts if burst.pixel == near]
    places += [(burst.line + 700, far + int(burst.last[700])) for burst in bursts if burst.pixel == far]
    starts, ends = ({burst.pixel: burst for burst in order}.values() for order in (reversed(bursts), bursts))
    places += [(burst.line + int(np.argmax(burst.first >= 0)), burst.pixel + 9000) for burst in starts]
    places += [(burst.line + int(np.flatnonzero(burst.first >= 0)[-1]), burst.pixel + 9000) for burst in ends]
    places += [(int(rng.integers(lines)), int(rng.integers(pixels))) for _ in range(12)]
    shares = []
    for line, pixel in [*places, (0, 0), (lines - 1, pixels - 1)]:
        window = Window(row=line - 40, col=pixel - 60, rows=90, cols=130).clip(image.grid.shape)
        row, col = np.mgrid[window.row : window.row_stop, window.col : window.col_stop]
        want = covered(swaths, row, col)
        np.testing.assert_array_equal(image.coverage.within(window), want)
        shares.append(want.mean())
    assert sum(0 < share < 1 for share in shares) >= 15
    assert shares[-2] < 1


def test_the_merged_image_of_the_stand_in_lies_inside(shared, tmp_path):
    """Bursts cut in the middle of their overlaps leave no line out; what a burst or a swath ends earlier is all that is missing."""
    path = source(shared, "93A7")
    image = image_of(path)
    folder = unpack(path, tmp_path)
    rows, cols = (1850, 2250), (19_000, 21_000)
    write_samples(folder, {"IW1": 9, "IW2": 9, "IW3": 9}, {}, (*rows, *cols))
    made = deburst(folder, rows, cols).dn["VV"] > 0
    want = image.coverage.within(Window(row=rows[0], col=cols[0], rows=rows[1] - rows[0], cols=cols[1] - cols[0]))
    assert not (made & ~want).any()
    assert np.mean(made[want]) > 0.999


def test_without_iw2_the_bistatic_reference_is_inferred(shared):
    """From IW1, and from IW3, to 6 us or 2 cm on the ground."""
    for product in ("7768", "2250", "115A", "93A7", "91FC"):
        image = image_of(source(shared, product))
        for keep in ({"IW1"}, {"IW3"}, {"IW1", "IW3"}):
            part = merge_swaths([swath for swath in image.swaths if swath.swath in keep])
            assert part.grid.tau_ref_s == pytest.approx(image.grid.tau_ref_s, abs=6e-6)
            assert f"the image is that of {', '.join(sorted(keep))}" in part.notes[0]


def test_the_footprint_holds_every_point(shared):
    """Across 180 degrees, too: as one polygon."""
    for product in ("93A7", "2250", "EFA4", "91FC"):
        image = image_of(source(shared, product))
        lon = image.footprint_lonlat[0][0] + (image.points.lon_deg - image.footprint_lonlat[0][0] + 180) % 360 - 180
        outline = np.array(image.footprint_lonlat)
        assert np.ptp(outline[:, 0]) < 9
        middle = outline.mean(axis=0)
        wider = Outline(middle + (outline - middle) * 1.02)  # rows are curved, and the outline turns back between swaths
        assert wider.contains_points(np.stack([lon, image.points.lat_deg], axis=1)).mean() > 0.99
        assert np.isclose(outline[:, 1].max(), image.points.lat_deg.max(), atol=1e-9)


def test_what_a_scene_says(shared):
    path = source(shared, "93A7")
    scene = open_scene(path)
    assert is_scene(path)
    assert (scene.mission, scene.mode, scene.product_type, scene.polarisations) == ("S1A", "IW", "SLC", ("VV",))
    assert (scene.absolute_orbit, scene.orbit_direction, scene.ipf_version) == (58630, "ascending", "003.91")
    assert (str(scene.start_utc), str(scene.stop_utc)) == ("2025-04-06T02:20:08.592193", "2025-04-06T02:20:35.567258")
    assert scene.shape == (13124, 69141)
    assert scene.grid.pixel_spacing_m == pytest.approx(2.329562, abs=1e-6)
    assert (list(scene.calibration), list(scene.noise), list(scene.measurements)) == (["VV"], ["VV"], [])
    assert scene.noise["VV"] is not None
    assert not scene.noise_removed
    assert "no image for VV" in scene.warnings
    part = open_scene(source(shared, "EFA4"))
    assert {"no annotation of IW3: the image is that of IW1, IW2", "VV is not there in all swaths, and left out"} <= set(part.warnings)
    assert any("downlinked" in warning for warning in part.warnings)


def test_noise_tables_of_nothing_but_0_are_nothing_to_subtract(shared, tmp_path):
    folder = unpack(source(shared, "07B5"), tmp_path)
    (path,) = folder.glob("annotation/calibration/noise-*.xml")
    path.write_text(re.sub(r"(<noiseLut[^>]*>)([^<]*)", lambda found: found[1] + "0 " * len(found[2].split()), path.read_text()))
    scene = open_scene(folder)
    assert list(scene.noise.items()) == [("VV", None)]
    assert any("nothing but 0" in warning for warning in scene.warnings)


def test_looks_fill_a_map_pixel_on_the_mean(shared):
    """Ground range of a sample, from near to far: 4.5 to 3.2 m, against the ellipsoid."""
    scene = open_scene(source(shared, "93A7"))
    ends = np.array([0.0, scene.shape[1] - 1.0])
    slant_m = scene.grid.slant_range_m(6000.0, ends)
    place = on_ellipsoid(scene.grid.zero_doppler_time_s(6000.0, slant_m), slant_m, scene.orbit, "right")
    mean_m = float(np.linalg.norm(place[1] - place[0])) / (scene.shape[1] - 1)
    assert 3.5 < mean_m < 3.8
    for spacing_m in (4.0, 10.0, 20.0, 30.0, 60.0):
        down, across = choose_looks(scene, spacing_m)
        assert down == max(1, int(spacing_m / 13.91))
        assert max(1, int(spacing_m / mean_m * 0.97)) <= across <= max(1, int(spacing_m / mean_m * 1.03))


def test_power_is_the_coverage_and_pixels_are_refused(shared):
    scene = open_scene(source(shared, "93A7"))
    window = Window(row=880, col=22_400, rows=60, cols=300)
    inside = scene.coverage.within(window)
    assert 0.1 < inside.mean() < 0.95
    power = scene.power("VV", window)
    np.testing.assert_array_equal(power == 1, inside)
    np.testing.assert_array_equal(np.isnan(power), ~inside)
    np.testing.assert_array_equal(scene.calibration["VV"].amplitude("gamma0", window), 1.0)
    looked = scene.multilooked((2, 5)).power("VV", Window(row=440, col=4480, rows=30, cols=60))
    boxes = inside.reshape(30, 2, 60, 5).sum(axis=(1, 3))
    np.testing.assert_array_equal(looked == 1, boxes >= 5)
    np.testing.assert_array_equal(np.isnan(looked), boxes < 5)
    asks = (scene.dn, scene.slc, lambda name, at: scene.products([name], at), lambda *_: scene.to_xarray())
    for ask in asks:
        with pytest.raises(InputError, match=r"reads no pixels of Sentinel-1 IW SLC .*: preprocess it with --engine snap"):
            ask("VV", window)
    with pytest.raises(InputError, match="no polarimetric matrix"):
        check_quad(scene)
    assert scene.unpacked(Path("nowhere")) is scene


def test_other_modes_say_what_to_do(shared):
    with pytest.raises(InputError, match=r"EW SLC is not supported.*sarseg snap run --graph s1_slc"):
        open_scene(source(shared, "8152"))
    with pytest.raises(InputError, match=r"S3 SLC is not supported.*no bursts.*give the GRD product"):
        open_scene(source(shared, "6001"))


BURST = r"(<burst>\s*<azimuthTime>)"
FIRST, LAST = (f'<{end}ValidSample count="1513">' for end in ("first", "last"))
DAMAGES = {  # pattern of a text of IW2's annotation, what comes in its place, message
    "a burst between two lines": (BURST + r"2025-04-06T02:20:32.45", r"\g<1>2025-04-06T02:20:32.46", "lines beside the grid"),
    "a swath between two samples": ("<slantRangeTime>5.649388", "<slantRangeTime>5.649380", "samples beside"),
    "a burst in another century": (BURST + r"2025-04-06T02:20:32", r"\g<1>2125-04-06T02:20:32", "beside the grid"),
    "a burst long after": (BURST + r"2025-04-06T02:20:32.459257", r"\g<1>2025-04-06T02:54:48.015557", "make an image of"),
    "bursts backwards": (BURST + r"2025-04-06T02:20:32", r"\g<1>2025-04-06T02:20:12", "do not increase"),
    "another interval": ("<azimuthTimeInterval>2.0555", "<azimuthTimeInterval>2.0556", "differ in orbit, line interval"),
    "a negative interval": ("<azimuthTimeInterval>2.05", "<azimuthTimeInterval>-2.05", "azimuthTimeInterval lies between"),
    "another rate": ("<rangeSamplingRate>6.4", "<rangeSamplingRate>6.5", "differ in orbit, line interval"),
    "another orbit": ("<absoluteOrbitNumber>58630", "<absoluteOrbitNumber>58631", "differ in orbit"),
    "an interval of hardly anything": (
        "<azimuthTimeInterval>[^<]*<",
        "<azimuthTimeInterval>1e-300<",
        "azimuthTimeInterval lies between",
    ),
    "a rate that would make an image of a light year": ("<rangeSamplingRate>[^<]*<", "<rangeSamplingRate>1<", "Rate lies between"),
    "another size": ("<numberOfLines>13617", "<numberOfLines>13618", "9 bursts of"),
    "no bursts": ("<burst>", "<other>", "not well-formed"),
    "bursts of a billion lines": ("<linesPerBurst>1513", "<linesPerBurst>1000000000", "9 bursts of"),
    "valid samples beyond": (LAST + "-1", LAST + "26395", "valid samples beyond"),
    "valid samples that lack": (FIRST + "-1", FIRST, "valid samples of 1512"),
    "valid samples that are words": (FIRST + "-1", FIRST + "x", "firstValidSample holds"),
    "the same swath twice": ("<swath>IW2", "<swath>IW1", "two annotations of IW1 VV"),
    "a GRD among them": ("<productType>SLC", "<productType>GRD", "a GRD annotation in an SLC product"),
    "points beyond": ("<line>13616</line>", "<line>99999</line>", "points beyond the image"),
    "an orbit in the Earth": ("<position>", "<position><x>0</x><y>0</y><z>0</z>", "inside of the Earth"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_does_not_fit_together_is_refused(shared, name):
    """One annotation of three is damaged."""
    old, new, message = DAMAGES[name]
    path = source(shared, "93A7")
    (file,) = [one for one in contents(path) if one.startswith("annotation/s1a-iw2")]
    text, count = re.subn(old, new, contents(path)[file].decode(), count=1)
    assert count
    others = [swath for swath in image_of(path).swaths if swath.swath != "IW2"]
    with pytest.raises(InputError, match=message):
        merge_swaths([*others, read_swath(parse(text.encode(), file))])


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("noise", '(<noiseRangeLut count="661">)', r"\g<1>x ", "holds 'x"),
        ("noise", "noise(Range)?Vector>", "vector>", "no noise vectors"),
        ("calibration", "calibrationVector>", "vector>", "no calibration vectors"),
    ],
)
def test_damaged_tables_are_refused(shared, tmp_path, kind, old, new, message):
    folder = unpack(source(shared, "93A7"), tmp_path)
    (path,) = folder.glob(f"annotation/calibration/{kind}-s1a-iw2*.xml")
    path.write_text(re.sub(old, new, path.read_text()))
    with pytest.raises(InputError, match=message):
        open_scene(folder)


def test_polarisations_of_two_products_are_refused(shared, tmp_path):
    folder = unpack(source(shared, "EFA4"), tmp_path)
    (path,) = folder.glob("annotation/s1b-iw1-slc-vv*.xml")
    path.write_text(path.read_text().replace("<azimuthTime>2021-04-01T05:26:26.96", "<azimuthTime>2021-04-01T05:26:26.97", 1))
    with pytest.raises(InputError, match=r"VH and VV of IW1 differ in bursts|VV and VH of IW1 differ in bursts"):
        open_scene(folder)


def test_an_archive_without_annotations_is_refused(shared, tmp_path):
    with zipfile.ZipFile(source(shared, "93A7")) as archive:
        (manifest,) = [name for name in archive.namelist() if name.endswith("manifest.safe")]
        folder = Path(archive.extract(manifest, tmp_path)).parent
    with pytest.raises(InputError, match="no product annotation"):
        open_scene(folder)


def test_info_of_an_slc(shared):
    done = CliRunner().invoke(cli, ["info", "--json", str(source(shared, "93A7"))])
    assert done.exit_code == 0, done.output
    (said,) = json.loads(done.output)
    assert (said["kind"], said["mode"], said["product_type"], said["polarisations"]) == ("scene", "IW", "SLC", ["VV"])
    assert (said["lines"], said["pixels"], said["orbit"], said["noise"]) == (13124, 69141, 58630, ["VV"])
    assert said["pixel_spacing_m"] == pytest.approx(2.3296, abs=1e-4)
    assert len(said["footprint_lonlat"]) == 12
