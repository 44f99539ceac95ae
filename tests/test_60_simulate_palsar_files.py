"""Simulated CEOS products under other readers: GDAL's two drivers, and a decoder of this file's own, byte offsets by hand.

The decoder shares nothing with the writer or with sarseg's reader. The numbers of two real leaders go through the writer too.
"""

from __future__ import annotations

import json
import re
import struct
import warnings
import zipfile
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.errors import NotGeoreferencedWarning
from scipy.interpolate import KroghInterpolator
from scipy.optimize import brentq

from sarseg.raster import palsar_records as layouts
from sarseg.raster.ceos import walk
from sarseg.scene.open import open_scene
from sarseg.scene.palsar_leader import read_leader
from sarseg.simulate.ceos import record
from sarseg.simulate.options import LandscapeOptions
from sarseg.simulate.palsar import simulate_palsar
from sarseg.simulate.palsar_leader import LeaderValues, leader_file
from sarseg.simulate.palsar_modes import QUAD, PalsarOptions
from sarseg.tiles import Window

C = 299_792_458.0
KINDS = {
    "alos1 1.1": {"mission": "alos1", "level": "1.1"},
    "alos1 1.1 HH": {"mission": "alos1", "level": "1.1", "polarisations": ("HH",), "direction": "descending", "doppler_hz": -100.0},
    "alos2 1.1 quad": {"mission": "alos2", "level": "1.1", "polarisations": QUAD},
    "alos1 1.5 R": {"mission": "alos1", "level": "1.5", "direction": "descending"},
    "alos1 1.5 G": {"mission": "alos1", "level": "1.5", "geocoded": True, "direction": "descending"},
    "alos2 1.5 R": {"mission": "alos2", "level": "1.5"},
    "alos2 1.5 G": {"mission": "alos2", "level": "1.5", "geocoded": True},
}
NAMES = {
    "alos1 1.1": r"ALPSRP\d{9}-H1\.1__A",
    "alos1 1.1 HH": r"ALPSRP\d{9}-H1\.1__D",
    "alos2 1.1 quad": r"ALOS2\d{9}-2007\d\d-HBQR1\.1__A",
    "alos1 1.5 R": r"ALPSRP\d{9}-H1\.5_UD",
    "alos1 1.5 G": r"ALPSRP\d{9}-H1\.5GUD",
    "alos2 1.5 R": r"ALOS2\d{9}-2007\d\d-FBDR1\.5RUA",
    "alos2 1.5 G": r"ALOS2\d{9}-2007\d\d-FBDR1\.5GUA",
}


@pytest.fixture(scope="module")
def products(tmp_path_factory) -> dict[str, Path]:
    """One small product of every kind, over one landscape."""
    out = tmp_path_factory.mktemp("palsar")
    found: dict[str, Path] = {}
    for kind, words in KINDS.items():
        land = {"landscape_dir": out} if found else {"landscape": LandscapeOptions(size_px=96, seed=3)}
        found[kind] = simulate_palsar(out, PalsarOptions(seed=5, **words, **land)).product
    return found


# A decoder of its own


def number(content: bytes, offset: int, width: int, count: int = 1, step: int = 0):
    """Numbers as text; blank is NaN."""
    pieces = [content[offset + k * step : offset + k * step + width].decode("ascii").strip() for k in range(count)]
    values = [float(piece) if piece else float("nan") for piece in pieces]
    return values[0] if count == 1 else np.array(values)


def words(content: bytes, offset: int, width: int) -> str:
    return content[offset : offset + width].decode("ascii").strip()


def binary(content: bytes, offset: int, kind: str = "I"):
    return struct.unpack_from(f">{kind}", content, offset)[0]


def split(content: bytes) -> list[tuple[tuple[int, ...], bytes]]:
    """Type and bytes of all records, by their lengths."""
    at, found = 0, []
    while at < len(content):
        sequence, *kind, length = struct.unpack_from(">I4BI", content, at)
        assert sequence == len(found) + 1
        assert at + length <= len(content)
        found.append((tuple(kind), content[at : at + length]))
        at += length
    return found


def decode_leader(content: bytes) -> SimpleNamespace:
    """The fields that geometry and calibration need."""
    records = split(content)
    of = dict(reversed(records))  # the first record of each type
    summary, platform = of[18, 10, 18, 20], of[18, 30, 18, 20]
    last = [one for kind, one in records if kind == (18, 200, 18, 70)][-1]
    head = records[0][1]
    points = int(number(platform, 140, 4))
    stamp = words(summary, 68, 32)
    first = datetime(*(int(number(platform, offset, 4)) for offset in (144, 148, 152)))
    table = {name: number(last, offset, 20, 25, 20) for name, offset in (("lat", 1024), ("lon", 1524), ("pixel", 2064), ("line", 2564))}
    projection = of.get((18, 20, 18, 20))
    return SimpleNamespace(
        lengths=[len(one) for _, one in records],
        types=[kind for kind, _ in records],
        declared=[int(number(head, offset, 6)) for offset in (186, 198, 210, 222, 234, 258)],
        facilities=[int(number(head, 426 + 14 * k, 8)) for k in range(sum(kind == (18, 200, 18, 70) for kind, _ in records))],
        scene=words(summary, 20, 32),
        centre=datetime.strptime(stamp[:14], "%Y%m%d%H%M%S") + timedelta(milliseconds=int(stamp[14:17])),
        axes_km=number(summary, 180, 16, 2, 16),
        orbit=words(summary, 444, 8),
        clock_deg=number(summary, 476, 8),
        incidence_deg=number(summary, 484, 8),
        wavelength_m=number(summary, 500, 16),
        sampling_hz=number(summary, 710, 16) * 1e6,
        pulse_s=number(summary, 742, 16) * 1e-6,
        prf_hz=number(summary, 934, 16) * 1e-3,
        level=words(summary, 1094, 16),
        looks=number(summary, 1174, 16),
        bandwidth_hz=number(summary, 1238, 16),
        doppler=number(summary, 1478, 16, 3, 16),
        spacing_m=number(summary, 1686, 16, 2, 16),
        incidence=number(summary, 1886, 20, 6, 20),
        start=first,
        points=points,
        first_s=number(platform, 160, 22),
        interval_s=number(platform, 182, 22),
        state=np.array([number(platform, 386 + 132 * k, 22, 6, 22) for k in range(points)]),
        factor_db=number(of[18, 50, 18, 20], 20, 16),
        noise_db=number(of[18, 60, 18, 20], 94, 16),
        attitude=int(number(of[18, 40, 18, 20], 12, 4)),
        descriptor=None if projection is None else words(projection, 28, 32),
        size=None if projection is None else number(projection, 60, 16, 2, 16),
        zone=None if projection is None else int(words(projection, 476, 4)),
        corners_km=None if projection is None else number(projection, 944, 16, 8, 16).reshape(4, 2),
        corners_deg=None if projection is None else number(projection, 1072, 16, 8, 16).reshape(4, 2),
        to_lon_lat=None if projection is None else number(projection, 1264, 20, 8, 20).reshape(2, 4),
        to_line_pixel=None if projection is None else number(projection, 1424, 20, 8, 20).reshape(2, 4),
        origin=(number(last, 2024, 20), number(last, 2044, 20)),
        place=(number(last, 3064, 20), number(last, 3084, 20)),
        **table,
    )


def series(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of c[5 i + j] x^(4 - i) y^(4 - j)."""
    return sum(table[5 * i + j] * x ** (4.0 - i) * y ** (4.0 - j) for i in range(5) for j in range(5))


def lat_lon(led: SimpleNamespace, line, pixel):
    x, y = np.asarray(pixel, float) - led.origin[0], np.asarray(line, float) - led.origin[1]
    return series(led.lat, x, y), series(led.lon, x, y)


def decode_image(path: Path) -> SimpleNamespace:
    content = path.read_bytes()
    head = content[:720]
    lines, length, pixels, prefix = (int(number(head, offset, width)) for offset, width in ((236, 8), (186, 6), (248, 8), (276, 4)))
    assert len(content) == 720 + lines * length
    assert head[4:8] == bytes((50, 192, 18, 18))
    raw = np.frombuffer(content, np.uint8, offset=720).reshape(lines, length)
    kind = {(16, 1): ">u2", (32, 2): ">c8"}[int(number(head, 216, 4)), int(number(head, 220, 4))]
    values = np.ascontiguousarray(raw[:, prefix:]).view(kind)
    assert values.shape == (lines, pixels)
    return SimpleNamespace(prefix=prefix, pixels=values, heads=[bytes(row[:prefix]) for row in raw], code=words(head, 428, 4))


def image_files(folder: Path) -> dict[str, Path]:
    return {path.name[4:6]: path for path in folder.glob("IMG-*")}


def leader_of(folder: Path) -> SimpleNamespace:
    return decode_leader(next(folder.glob("LED-*")).read_bytes())


# Files


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_records(products, kind):
    """Names of the mission, and the file descriptors' counts and lengths are those of the files."""
    folder, mission = products[kind], KINDS[kind]["mission"]
    pols = KINDS[kind].get("polarisations", ("HH", "HV"))
    assert re.fullmatch(NAMES[kind], folder.name)
    files = {f"{start}-{folder.name}" for start in ("VOL", "LED", "TRL", *(f"IMG-{pol}" for pol in pols))}
    assert {path.name for path in folder.iterdir()} == files | {"summary.txt"}
    led = leader_of(folder)
    fixed = [4096, *([1620] if KINDS[kind]["level"] == "1.5" else []), 4680, 8192 if mission == "alos1" else 16384, 9860, 1620]
    assert led.lengths[: len(fixed) + 1] == [720, *fixed]
    assert led.lengths[len(fixed) + 1 :] == led.facilities
    assert len(led.facilities) == (11 if mission == "alos1" else 5)
    assert led.facilities[-1] == 5000
    assert [size for size in led.declared if size] == fixed
    volume = split((folder / f"VOL-{folder.name}").read_bytes())
    assert [kind for kind, _ in volume] == [(192, 192, 18, 18), *[(219, 192, 18, 18)] * (len(pols) + 2), (18, 192, 18, 18)]
    assert words(volume[0][1], 60, 16)[:3] == ("AL1" if mission == "alos1" else "AL2")
    assert [words(one, 64, 4) for _, one in volume[1:-1]] == ["SARL", *["IMOP"] * len(pols), "SART"]
    assert {words(one, 20, 16)[7] for _, one in volume[1:-1]} == {"B" if KINDS[kind]["level"] == "1.1" else "C"}
    for (_, pointer), name in zip(volume[1:-1], [f"LED-{folder.name}", *(f"IMG-{pol}-{folder.name}" for pol in pols)], strict=False):
        sizes = [int(number(pointer, offset, 8)) for offset in (100, 108, 116)]
        content = (folder / name).read_bytes()
        if name.startswith("LED"):
            assert sizes == [len(led.lengths), 720, max(led.lengths)]
        else:
            line = int(number(content, 186, 6))
            assert sizes == [(len(content) - 720) // line + 1, 720, max(720, line)]
    assert words(volume[-1][1], 16, 40) == f"PRODUCT:{folder.name.rpartition('-')[2]}"
    trailer = split((folder / f"TRL-{folder.name}").read_bytes())
    assert [(kind, len(one)) for kind, one in trailer] == [((63, 192, 18, 18), 720)]


@pytest.mark.parametrize("kind", KINDS)
def test_lines(products, kind):
    """Prefixes: length, kind, number, polarisation, times a PRF apart, first slant range; times agree with leader and summary.txt."""
    folder, mission = products[kind], KINDS[kind]["mission"]
    led = leader_of(folder)
    slant = KINDS[kind]["level"] == "1.1"
    want = {("alos1", True): 412, ("alos2", True): 544}.get((mission, slant), 192)
    for number_, (pol, path) in enumerate(sorted(image_files(folder).items())):
        image = decode_image(path)
        assert image.prefix == want
        assert image.code == ("C*8" if slant else "IU2")
        for at, head in enumerate(image.heads):
            sequence, *types, length = struct.unpack_from(">I4BI", head)
            assert (sequence, tuple(types)) == (at + 2, (50, 10, 18, 20) if slant else (50, 11, 18, 20))
            assert length == want + image.pixels.itemsize * image.pixels.shape[1]
            assert binary(head, 12) == at + 1
            assert "HV"[binary(head, 52, "H")] + "HV"[binary(head, 54, "H")] == pol
        assert number_ < 4
    heads = image.heads
    times = np.array([_seconds(head, led.centre, fine=slant and mission == "alos2") for head in heads])
    middle = float(times[(len(times) - 1) // 2])
    assert abs(middle) < 0.01  # the leader's centre time is the middle line's
    if slant:
        apart = np.arange(len(times)) / led.prf_hz
        rounding = 0.6e-6 if mission == "alos2" else 0.51e-3
        assert np.ptp(times - apart) <= 2 * rounding
    elif not KINDS[kind].get("geocoded"):
        assert np.sign(np.diff(times[[0, -1]])) == (-1 if KINDS[kind].get("direction", "ascending") == "ascending" else 1)
    text = dict(re.findall(r'(\w+)="(.*)"', (folder / "summary.txt").read_text()))
    assert text["Scs_SceneID"] == led.scene
    assert abs((datetime.strptime(text["Img_SceneCenterDateTime"], "%Y%m%d %H:%M:%S.%f") - led.centre).total_seconds()) < 0.01
    assert (int(text["Pdi_NoOfLines_0"]), int(text["Pdi_NoOfPixels_0"])) == image.pixels.shape


def _seconds(head: bytes, centre: datetime, *, fine: bool) -> float:
    day = date(binary(head, 36), 1, 1) + timedelta(days=binary(head, 40) - 1)
    since_midnight = binary(head, 84, "Q") / 1e6 if fine else binary(head, 44) / 1e3
    return (datetime(day.year, day.month, day.day) - centre).total_seconds() + since_midnight


@pytest.mark.parametrize("kind", KINDS)
def test_leader_places_the_image(products, kind):
    """The 25-term polynomials with the orbit's vectors give the lines' slant ranges, times and the Doppler that the leader says."""
    folder = products[kind]
    led = leader_of(folder)
    image = decode_image(next(iter(image_files(folder).values())))
    lines, pixels = image.pixels.shape
    slant = KINDS[kind]["level"] == "1.1"
    line, pixel = (lines - 1) // 2, np.array([0, (pixels - 1) // 2, pixels - 1])
    lat, lon = lat_lon(led, line, pixel)
    points = np.stack(Transformer.from_crs(4979, 4978, always_xy=True).transform(lon, lat, np.zeros(3)), axis=1)
    head = image.heads[line]
    t_s = _seconds(head, led.start, fine=slant and KINDS[kind]["mission"] == "alos2") - led.first_s
    if slant:
        first = binary(head, 116)
        ranges = first + pixel * C / (2 * led.sampling_hz)
        position, velocity = _state(led, np.full(3, t_s))
    else:
        ranges = np.array([binary(head, offset) for offset in (64, 68, 72)])
        constant = led.doppler[0]
        t_s = np.array([_passes(led, point, constant, t_s) for point in points])
        position, velocity = _state(led, t_s)
    sight = points - position
    distance = np.linalg.norm(sight, axis=1)
    # the Doppler moves what is seen by half a millisecond's rounding: 4 m along the track, 5 mm in range
    np.testing.assert_allclose(distance, ranges, atol=0.6)
    frequency = 2 / led.wavelength_m * np.sum(sight * velocity, axis=1) / distance
    if slant:
        said = led.doppler[0] + led.doppler[1] * (ranges - ranges[0]) / 1e3 if KINDS[kind]["mission"] == "alos1" else np.zeros(3)
        rounding_hz = 0.51e-3 / 2.2e-3 if KINDS[kind]["mission"] == "alos1" else 0.01
        np.testing.assert_allclose(frequency, said, atol=rounding_hz)
    normal = points / np.array([6378137.0, 6378137.0, 6356752.3142]) ** 2
    angle = np.arccos(-np.sum(normal * sight, axis=1) / np.linalg.norm(normal, axis=1) / distance)
    assert np.degrees(angle[1]) == pytest.approx(led.incidence_deg, abs=0.002)
    if not KINDS[kind].get("geocoded"):
        np.testing.assert_allclose(np.polynomial.polynomial.polyval(distance / 1e3, led.incidence), angle, atol=2e-5)


def _state(led: SimpleNamespace, t_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity: one polynomial of degree 7 through places and speeds of the four vectors around."""
    near = int(np.mean(t_s) / led.interval_s) - 1
    vectors = led.state[near : near + 4]
    nodes = led.interval_s * np.arange(near, near + 4)
    track = KroghInterpolator(np.repeat(nodes, 2), np.stack([vectors[:, :3], vectors[:, 3:]], axis=1).reshape(8, 3))
    return track(t_s), track.derivative(t_s)


def _passes(led: SimpleNamespace, point: np.ndarray, frequency: float, near_s: float) -> float:
    """When a point has a Doppler frequency."""

    def off(t: float) -> float:
        position, velocity = (one[0] for one in _state(led, np.array([t])))
        sight = point - position
        return float(2 / led.wavelength_m * sight @ velocity / np.linalg.norm(sight) - frequency)

    return brentq(off, near_s - 5, near_s + 5, xtol=1e-7)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind]["level"] == "1.5"])
def test_map_projection(products, kind):
    """Corner coordinates, the 4-term polynomials (1-based) and the 25-term ones (0-based) agree; a geocoded image is UTM."""
    folder = products[kind]
    led = leader_of(folder)
    geocoded = bool(KINDS[kind].get("geocoded"))
    assert led.descriptor == ("GEOCODED" if geocoded else "GEOREFERENCED")
    pixels, lines = led.size
    corner = np.array([[0, 0], [0, pixels - 1], [lines - 1, pixels - 1], [lines - 1, 0]], float)
    lat, lon = lat_lon(led, corner[:, 0], corner[:, 1])
    spacing = led.spacing_m[0]
    assert lat[:2].min() > lat[2:].max()  # the first line is in the north, the first pixel in the west
    assert lon[[0, 3]].max() < lon[1:3].min()
    np.testing.assert_allclose(np.stack([lat, lon], axis=1), led.corners_deg, atol=1e-7)
    east, north = Transformer.from_crs(4326, 32600 + led.zone, always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(led.corners_km * 1e3, np.stack([north, east], axis=1), atol=0.01)
    if geocoded:
        steps = np.diff(led.corners_km * 1e3, axis=0)
        np.testing.assert_allclose(
            steps, [[0, (pixels - 1) * spacing], [-(lines - 1) * spacing, 0], [0, -(pixels - 1) * spacing]], atol=1e-3
        )
    terms = np.stack([np.ones(4), corner[:, 0] + 1, corner[:, 1] + 1, (corner[:, 0] + 1) * (corner[:, 1] + 1)])
    np.testing.assert_allclose(led.to_lon_lat @ terms, [lon, lat], atol=2 * spacing / 111e3)
    terms = np.stack([np.ones(4), lon, lat, lon * lat])
    np.testing.assert_allclose(led.to_line_pixel @ terms, (corner + 1).T, atol=2)
    u, v = lat - led.place[0], lon - led.place[1]
    np.testing.assert_allclose([series(led.line, u, v), series(led.pixel, u, v)], corner.T, atol=1e-3)


# GDAL


def gdal(path: Path, driver: str) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver=driver) as file:
            return [file.read(band) for band in file.indexes]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind]["level"] == "1.5"])
def test_sar_ceos_reads_the_images(products, kind):
    """GDAL's SAR_CEOS on the image file: the same pixels, no shift; and the reader's."""
    scene = open_scene(products[kind])
    for pol, path in image_files(products[kind]).items():
        (found,) = gdal(path, "SAR_CEOS")
        own = decode_image(path).pixels
        assert own.any()
        np.testing.assert_array_equal(found, own)
        whole = Window.whole(own.shape)
        np.testing.assert_allclose(scene.power(pol, whole), np.where(own > 0, own.astype(float) ** 2, np.nan), rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind]["mission"] == "alos1"])
def test_jaxapalsar_reads_alos(products, kind):
    """GDAL's JAXAPALSAR on the volume file: its row k + 1 is row k (its known shift), level 1.1 and 1.5."""
    folder = products[kind]
    found = gdal(folder / f"VOL-{folder.name}", "JAXAPALSAR")
    files = image_files(folder)
    assert len(found) == len(files)
    for pol, image in zip(("HH", "HV"), found, strict=False):
        own = decode_image(files[pol]).pixels
        assert own.any()
        np.testing.assert_array_equal(image[1:], own[:-1])
        assert not np.array_equal(image[1:], own[1:])


@pytest.mark.parametrize("kind", ["alos1 1.1", "alos2 1.1 quad"])
def test_reader_takes_the_same_samples(products, kind):
    """Level 1.1, where GDAL before 3.13 cannot follow ALOS-2: sarseg's samples are the decoder's."""
    scene = open_scene(products[kind])
    assert scene.warnings == ()
    for pol, path in image_files(products[kind]).items():
        own = decode_image(path).pixels
        np.testing.assert_array_equal(scene.slc(pol, Window.whole(own.shape)), own.astype(np.complex64))


# Numbers of real leaders


def test_numbers_of_a_real_palsar_leader(shared):
    """What was decoded from a real ALOS-1 leader fits into one of ours: every number comes back, and the reader takes it."""
    said = json.loads((shared / "data" / "alos1_ceos" / "ALPSRP041611270-H1.5_UA.decoded.json").read_text())
    vectors = said["state_vectors_ecr"]
    start_s = said["image_start_sod_utc"]
    centre = datetime(2006, 11, 5) + timedelta(seconds=said["scene_centre_sod_utc"])
    doppler = said["crosstrack_doppler"]
    values = LeaderValues(
        file_id="AL1 SARCSARL",
        software="001.001",
        summary={
            "scene_id": "ALPSRP041611270",
            "centre_time": f"{centre:%Y%m%d%H%M%S}{centre.microsecond // 1000:03d}",
            "semi_major_m": 6378137.0,
            "semi_minor_m": 6356752.3141,
            "mission": "ALOS",
            "sensor": "ALOS  -L -0000-",
            "orbit": f"{said['orbit']:8d}",
            "clock_angle_deg": 90.0,
            "wavelength_m": said["wavelength_m"],
            "range_sampling_hz": said["range_sampling_hz"],
            "pulse_s": said["pulse_s"],
            "prf_hz": said["prf_hz"],
            "level": "1.5",
            "looks_azimuth": said["azimuth_looks"],
            "bandwidth_azimuth_hz": said["azimuth_bandwidth_hz"],
            "doppler_across_hz": (doppler["c0_hz"], doppler["c1"], doppler["c2"]),
            "line_spacing_m": said["line_spacing_m"],
            "pixel_spacing_m": said["pixel_spacing_m"],
            "incidence_rad": said["incidence_poly_rad_of_slant_km"],
        },
        projection={
            "descriptor": "GEOREFERENCED",
            "pixels": said["samples"],
            "lines": said["lines"],
            "pixel_spacing_m": said["pixel_spacing_m"],
            "line_spacing_m": said["line_spacing_m"],
            "utm_zone": "   6",
        },
        platform={
            "points": len(vectors),
            "year": 2006,
            "month": 11,
            "day": 5,
            "day_of_year": 309,
            "first_s": start_s + vectors[0]["t_rel_start_s"],
            "interval_s": 60.0,
            **{
                f"{axis}_m" if axis in "xyz" else f"{axis}_m_s": [vector[axis] for vector in vectors]
                for axis in ("x", "y", "z", "vx", "vy", "vz")
            },
        },
        attitude={"points": 0},
        radiometric={"sequence": 1, "sets": 1, "factor_db": said["calibration_factor_db"]["HH"]},
        quality={},
        coefficients={
            "first_of_pixel_line": said["lat_of_pixel_line_25"],
            "second_of_pixel_line": said["lon_of_pixel_line_25"],
            "origin_pixel": said["origin_pixel"],
            "origin_line": said["origin_line"],
            "third_of_lat_lon": said["pixel_of_lat_lon_25"],
            "fourth_of_lat_lon": said["line_of_lat_lon_25"],
            "origin_lat_deg": said["origin_lat"],
            "origin_lon_deg": said["origin_lon"],
        },
        attitude_bytes=8192,
        facility_bytes=(*(3072,) * 10, 5000),
    )
    content = leader_file(values)
    led = decode_leader(content)
    exact = {"rtol": 1e-9}
    np.testing.assert_allclose(
        [led.wavelength_m, led.prf_hz, led.sampling_hz, led.pulse_s, led.bandwidth_hz, led.looks, *led.spacing_m],
        [
            *(said[name] for name in ("wavelength_m", "prf_hz", "range_sampling_hz", "pulse_s", "azimuth_bandwidth_hz", "azimuth_looks")),
            said["line_spacing_m"],
            said["pixel_spacing_m"],
        ],
        **exact,
    )
    np.testing.assert_allclose(led.doppler, [doppler["c0_hz"], doppler["c1"], doppler["c2"]], **exact)
    np.testing.assert_allclose(led.incidence, said["incidence_poly_rad_of_slant_km"], rtol=1e-12)
    np.testing.assert_allclose(led.state, [[vector[axis] for axis in ("x", "y", "z", "vx", "vy", "vz")] for vector in vectors], rtol=1e-15)
    for name, key in (("lat", "lat_of"), ("lon", "lon_of"), ("pixel", "pixel_of"), ("line", "line_of")):
        table = said[f"{key}_{'pixel_line' if name in ('lat', 'lon') else 'lat_lon'}_25"]
        np.testing.assert_allclose(getattr(led, name), table, rtol=1e-12)
    assert led.start + timedelta(seconds=led.first_s) == datetime(2006, 11, 5, 7, 51)  # the vectors fall on whole minutes
    assert led.factor_db == -83.0
    assert led.centre == centre
    lat, lon = lat_lon(led, 2650, 2800)
    assert (float(lat), float(lon)) == pytest.approx((63.932119, -144.789838), abs=1e-6)
    leader = read_leader(content, "written")
    assert (leader.form, leader.mission, leader.absolute_orbit) == ("georeferenced", "ALOS", 4161)
    assert leader.orbit.position_m[4] == pytest.approx([vectors[4][axis] for axis in "xyz"], rel=1e-15)


@pytest.fixture(scope="module")
def real(shared) -> bytes:
    with zipfile.ZipFile(shared / "data" / "alos2_ceos_l15" / "0000022708_001001_ALOS2015976960-140909.zip") as archive:
        return archive.read("LED-ALOS2015976960-140909-FBDR1.5GUA")


def test_a_real_palsar2_leader_goes_around(real):
    """Every declared field of the real leader, written anew, comes back; 28 vectors and the coefficients byte for byte."""
    declared = {
        one.type: one
        for one in (layouts.SUMMARY, layouts.MAP_PROJECTION, layouts.PLATFORM, layouts.ATTITUDE, layouts.RADIOMETRIC, layouts.QUALITY)
    }
    raw = walk(real, "real")
    given: dict[tuple, dict] = {}
    for one in raw:
        kind = declared.get(one.type)
        if kind is not None:
            given[one.type] = _values(one.decoded(kind))
    names = ("summary", "projection", "platform", "attitude", "radiometric", "quality")
    values = LeaderValues(
        file_id="AL2 SARCSARL",
        software="002.012",
        **{name: given[kind] for name, kind in zip(names, declared, strict=True)},
        coefficients=_values(raw[-1].decoded(layouts.COEFFICIENTS)),
        attitude_bytes=16384,
        facility_bytes=tuple(len(one.content) for one in raw if one.type == layouts.TYPE_FACILITY),
    )
    written = leader_file(values)
    assert len(written) == len(real)
    assert written[:720] == real[:720]
    again = walk(written, "written")
    assert [(one.type, len(one.content)) for one in again] == [(one.type, len(one.content)) for one in raw]
    for old, new in zip(raw, again, strict=True):
        kind = layouts.COEFFICIENTS if old is raw[-1] else declared.get(old.type)
        if kind is None:
            continue
        before, after = old.decoded(kind).all(), new.decoded(kind).all()
        assert before.keys() == after.keys()
        for name in before:
            assert _same(before[name], after[name]), (kind.name, name, before[name], after[name])
    assert again[3].content[386:4082] == raw[3].content[386:4082]
    ours, theirs = decode_leader(written), decode_leader(real)
    for name, value in vars(theirs).items():
        np.testing.assert_equal(getattr(ours, name), value, err_msg=name)


def _values(one) -> dict:
    found = {}
    for name, field in one.layout.fields.items():
        if field.kind == "A":
            found[name] = one.text(name)
        elif field.count:
            row = one.numbers(name)
            found[name] = [None if np.isnan(value) else value for value in row]
        else:
            found[name] = one.maybe(name)
    return found


def _same(one, other) -> bool:
    if isinstance(one, tuple):
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float):
        return one == other or (np.isnan(one) and np.isnan(other))
    return one == other


def test_values_that_do_not_fit_are_refused():
    for values in ({"nothing": 1}, {"orbit": "123456789"}, {"chirp_hz": (0.0,) * 6}, {"channels": 12345}):
        with pytest.raises(ValueError, match=r"fit|field|values"):
            record(layouts.SUMMARY, 1, 4096, values)
