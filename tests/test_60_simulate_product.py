"""Simulated products: ESA's schema, GDAL's and xarray-sentinel's readers, radiometry, templates."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from lxml import etree

import sarseg.simulate.fill as fill
from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.simulate.annotation import parse, read_calibration, read_geometry, read_noise, seconds
from sarseg.simulate.ellipsoid import normal, surface
from sarseg.simulate.geometry import project
from sarseg.simulate.landscape import make_landscape, read_landscape, write_landscape
from sarseg.simulate.noise import noise_power
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.sentinel1 import SimulatedScene, simulate_sentinel1
from sarseg.simulate.table import TABLE
from sarseg.simulate.terrain import Terrain
from sarseg.tiles import Window

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SimulatedScene:
    out = tmp_path_factory.mktemp("scene")
    options = LandscapeOptions(seed=8, size_px=230, steepest_deg=15.0, lon_deg=-58.3, lat_deg=-34.2)
    return simulate_sentinel1(out, Sentinel1Options(seed=5, landscape=options, direction="descending", incidence_deg=36.5))


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    assert len(found) == 1, (pattern, found)
    return found[0]


def test_name_and_manifest(scene: SimulatedScene) -> None:
    parts = scene.safe.stem.split("_")
    assert parts[:4] == ["S1A", "IW", "GRDH", "1SDV"]
    assert scene.safe.suffix == ".SAFE"
    root = parse(scene.safe / "manifest.safe")
    objects = root.findall("dataObjectSection/dataObject")
    assert len(objects) == 8
    on_disk = {path.relative_to(scene.safe).as_posix() for path in scene.safe.rglob("*") if path.is_file()}
    named = set()
    for one in objects:
        place = one.find("byteStream/fileLocation").get("href").removeprefix("./")
        content = (scene.safe / place).read_bytes()
        assert one.find("byteStream").get("size") == str(len(content))
        assert one.findtext("byteStream/checksum") == hashlib.md5(content).hexdigest()
        named.add(place)
    assert on_disk == named | {"manifest.safe"}
    corners = [tuple(map(float, pair.split(","))) for pair in root.findtext(".//{*}coordinates").split()]
    assert len(corners) == 4
    for lat, lon in corners:  # (lat, lon), around the landscape
        assert abs(lat + 34.2) < 0.05
        assert abs(lon + 58.3) < 0.05
    assert {path.name for path in scene.safe.parent.iterdir()} == {
        scene.safe.name,
        "dem.tif",
        "truth.tif",
        "gamma0.tif",
        "legend.yaml",
        "backscatter.json",
    }


def test_files_are_valid_by_esas_schema(scene: SimulatedScene) -> None:
    xarray_sentinel = pytest.importorskip("xarray_sentinel")
    import xmlschema

    schemas = Path(xarray_sentinel.__file__).parent / "resources" / "sentinel1"
    for kind, pattern in (("product", "annotation/*.xml"), ("calibration", "**/calibration-*.xml"), ("noise", "**/noise-*.xml")):
        schema = xmlschema.XMLSchema(str(schemas / f"s1-level-1-{kind}.xsd"))
        files = sorted(scene.safe.glob(pattern))
        assert len(files) == 2
        for path in files:
            assert [str(error.reason) for error in schema.iter_errors(str(path))] == []


def test_gdals_driver_reads_the_same(scene: SimulatedScene) -> None:
    with rasterio.open(scene.safe / "manifest.safe") as product:
        assert product.driver == "SAFE"
        assert product.count == 2
        bands = {product.tags(band)["POLARIZATION"]: product.read(band) for band in (1, 2)}
        points, crs = product.gcps
    assert crs.to_epsg() == 4326
    for pol in ("vv", "vh"):
        root = parse(_one(scene.safe, f"annotation/*-{pol}-*.xml"))
        with rasterio.open(_one(scene.safe, f"measurement/*-{pol}-*.tiff")) as source:
            assert source.dtypes == ("uint16",)
            assert source.shape == (int(root.findtext(".//numberOfLines")), int(root.findtext(".//numberOfSamples")))
            np.testing.assert_array_equal(source.read(1), bands[pol.upper()])
            own, _ = source.gcps
        grid = root.findall(".//geolocationGridPoint")
        assert len(grid) == len(points) == len(own)
        for point, gdal, tiff in zip(grid, points, own, strict=True):
            want = [float(point.findtext(name)) for name in ("line", "pixel", "longitude", "latitude", "height")]
            np.testing.assert_allclose([gdal.row, gdal.col, gdal.x, gdal.y, gdal.z], want, rtol=1e-12)
            np.testing.assert_allclose([tiff.row, tiff.col, tiff.x, tiff.y, tiff.z], want, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_xarray_sentinel_reads_the_same(scene: SimulatedScene) -> None:
    xarray_sentinel = pytest.importorskip("xarray_sentinel")
    for pol in ("VV", "VH"):
        theirs = xarray_sentinel.open_sentinel1_dataset(str(scene.safe), group=f"IW/{pol}")
        with rasterio.open(_one(scene.safe, f"measurement/*-{pol.lower()}-*.tiff")) as source:
            np.testing.assert_array_equal(theirs.measurement.values, source.read(1))
        calibration = read_calibration(parse(_one(scene.safe, f"annotation/calibration/calibration-*-{pol.lower()}-*.xml")))
        tables = xarray_sentinel.open_sentinel1_dataset(str(scene.safe), group=f"IW/{pol}/calibration")
        np.testing.assert_array_equal(tables.pixel.values, calibration.pixel)
        np.testing.assert_array_equal(tables.line.values, calibration.line)
        np.testing.assert_allclose(tables.sigmaNought.values, calibration.sigma0, rtol=1e-7)
        np.testing.assert_allclose(tables.betaNought.values, calibration.beta0, rtol=1e-7)
        # gamma0 = sigma0 / cos(theta), theta from the other two
        theta = np.arcsin((calibration.beta0 / calibration.sigma0) ** 2)
        np.testing.assert_allclose(tables.gamma.values, calibration.sigma0 * np.sqrt(np.cos(theta)), rtol=2e-6)
        noise = read_noise(parse(_one(scene.safe, f"annotation/calibration/noise-*-{pol.lower()}-*.xml")))
        ranges = xarray_sentinel.open_sentinel1_dataset(str(scene.safe), group=f"IW/{pol}/noise_range")
        np.testing.assert_array_equal(ranges.line.values, noise.line)
        np.testing.assert_allclose(ranges.noiseRangeLut.values, np.stack(noise.power), rtol=1e-7)
        assert not np.array_equal(noise.power[0], noise.power[-1])
    orbit = xarray_sentinel.open_sentinel1_dataset(str(scene.safe), group="IW/VV/orbit")
    assert orbit.sizes["azimuth_time"] >= 13


def test_annotation_is_consistent(scene: SimulatedScene) -> None:
    """Every grid point is where orbit, range records and the bistatic term put it; VV and VH agree; 36.5 degrees is a seam."""
    path = _one(scene.safe, "annotation/*-vv-*.xml")
    root = parse(path)
    geometry = read_geometry(root)
    points = root.findall(".//geolocationGridPoint")
    line, pixel, lat, lon, height, delay = (
        np.array([float(one.findtext(name)) for one in points])
        for name in ("line", "pixel", "latitude", "longitude", "height", "slantRangeTime")
    )
    t_s = seconds([one.findtext("azimuthTime") for one in points], geometry.track.epoch_utc)
    place = np.empty((len(points), 4))
    project(surface(lon, lat) + height[:, np.newaxis] * normal(lon, lat), geometry.frame, place)
    np.testing.assert_allclose(place[:, 0], line, atol=1e-6)
    np.testing.assert_allclose(place[:, 1], pixel, atol=1e-4)
    np.testing.assert_allclose(place[:, 2], t_s, atol=6e-7)
    np.testing.assert_allclose(place[:, 3], 0.5 * 299_792_458.0 * delay, atol=1e-5)
    # the residual bistatic term: near range is later than its line
    bistatic_s = line * geometry.line_interval_s - t_s
    np.testing.assert_allclose(bistatic_s, -0.5 * (delay - geometry.tau_ref_s), atol=6e-7)
    assert [one.text for one in root.findall(".//swathMerge/swath")] == ["IW1", "IW2"]
    other = parse(_one(scene.safe, "annotation/*-vh-*.xml"))
    for tag in ("orbitList", "coordinateConversion", "geolocationGrid"):
        assert etree.tostring(root.find(f".//{tag}")) == etree.tostring(other.find(f".//{tag}"))
    with rasterio.open(_one(scene.safe, "measurement/*-vv-*.tiff")) as source:
        data = source.read(1).astype(float)
    assert float(root.findtext(".//imageInformation/imageStatistics/outputDataMean/re")) == pytest.approx(data[data > 0].mean(), rel=1e-6)


def test_range_records_are_arcs_of_the_ellipsoid(scene: SimulatedScene) -> None:
    """Pixels are 10 m apart on the ground along the record's own curve; lines are 10 m apart within a percent."""
    geometry = read_geometry(parse(_one(scene.safe, "annotation/*-vv-*.xml")))
    middle = geometry.lines // 2
    assert np.ptp(geometry.range_m[:, 1]) > 0.0  # the records follow the terrain
    points = geometry.ground_point(np.full(2, float(middle)), np.array([50.0, 150.0]), 60.0)
    assert np.linalg.norm(points[1] - points[0]) == pytest.approx(1000.0, rel=2e-3)
    points = geometry.ground_point(np.array([50.0, 150.0]), np.full(2, 100.0), 60.0)
    assert np.linalg.norm(points[1] - points[0]) == pytest.approx(1000.0, rel=1e-2)


def test_second_orbit_sees_the_same_landscape(scene: SimulatedScene, tmp_path: Path) -> None:
    options = Sentinel1Options(seed=5, landscape_dir=scene.dem.parent, polarisations=("VH",), zipped=True)
    other = simulate_sentinel1(tmp_path, options)
    assert other.truth == scene.truth
    assert other.safe.suffix == ".zip"
    assert [path.name for path in tmp_path.iterdir()] == [other.safe.name]
    with zipfile.ZipFile(other.safe) as archive:
        assert archive.testzip() is None
        tops = {Path(name).parts[0] for name in archive.namelist()}
        assert tops == {f"{other.safe.stem}.SAFE"}
        assert {one.compress_type for one in archive.infolist() if one.filename.endswith(".tiff")} == {zipfile.ZIP_DEFLATED}
        assert b">ASCENDING<" in archive.read(f"{other.safe.stem}.SAFE/manifest.safe")
    inner = f"/vsizip/{other.safe}/{other.safe.stem}.SAFE/manifest.safe"
    with rasterio.open(inner) as product:
        assert product.count == 1
        assert (product.read(1) > 0).mean() > 0.4


def _uniform(out: Path, name: str, size_px: int) -> Path:
    """A flat landscape of one class at height 0."""
    small = make_landscape(LandscapeOptions(size_px=32, relief_m=0.0, base_m=0.0, variation="none"))
    code = small.legend.codes[small.legend.names.index(name)]
    entry = next(one for one in TABLE if one.name == name)
    shape = (size_px, size_px)
    gamma0 = np.stack([np.full(shape, 10.0 ** (0.1 * value), np.float32) for value in entry.gamma0_db])
    posts = MapGrid.snapped(small.terrain.grid.crs, (10.0, 47.0, 13.0, 50.0), 0.5)
    land = replace(
        small,
        grid=replace(small.grid, shape=shape),
        codes=np.full(shape, code, np.uint8),
        gamma0_39=gamma0,
        terrain=Terrain(grid=posts, height_m=np.zeros(posts.shape, np.float32)),
    )
    write_landscape(land, out)
    return out


@pytest.mark.parametrize(("name", "size_px"), [("forest", 330), ("water", 1400)])
def test_class_means_on_flat_ground(name: str, size_px: int, tmp_path: Path) -> None:
    """gamma0 with the written tables, noise taken off: the class's value within 0.05 dB, water's VH far below the noise too."""
    out = simulate_sentinel1(tmp_path, Sentinel1Options(seed=1, landscape_dir=_uniform(tmp_path / "land", name, size_px)))
    entry = next(one for one in TABLE if one.name == name)
    for k, pol in enumerate(("vv", "vh")):
        with rasterio.open(_one(out.safe, f"measurement/*-{pol}-*.tiff")) as source:
            dn = source.read(1).astype(np.float64)
        root = parse(_one(out.safe, f"annotation/calibration/calibration-*-{pol}-*.xml"))
        vector = root.find(".//calibrationVector")
        nodes, gamma = (np.array(vector.findtext(tag).split(), float) for tag in ("pixel", "gamma"))
        amplitude = np.interp(np.arange(dn.shape[1]), nodes, gamma)
        noise = read_noise(parse(_one(out.safe, f"annotation/calibration/noise-*-{pol}-*.xml")))
        power = noise_power(noise, dn.shape, Window.whole(dn.shape))
        data = dn > 0
        gamma0 = (dn**2 - power) / amplitude**2
        theta_deg = np.degrees(np.arcsin((474.0 / np.interp(np.arange(dn.shape[1]), nodes, _sigma(vector))) ** 2))
        expected = 10.0 ** (0.1 * (entry.gamma0_db[k] + entry.slope_db_per_deg[k] * (theta_deg - 39.0)))
        want = np.broadcast_to(expected, dn.shape)[data].mean()
        assert abs(10.0 * np.log10(gamma0[data].mean() / want)) < 0.05
        assert abs(10.0 * np.log10(want) - entry.gamma0_db[k]) < 0.05
        if name == "water" and pol == "vh":
            assert want < 0.4 * (power / amplitude**2)[data].mean()


def _sigma(vector: etree._Element) -> np.ndarray:
    return np.array(vector.findtext("sigmaNought").split(), float)


def test_without_speckle_it_is_the_expected_power(tmp_path: Path) -> None:
    land = _uniform(tmp_path / "land", "grass", 64)
    out = simulate_sentinel1(tmp_path, Sentinel1Options(landscape_dir=land, speckle="none", polarisations=("VV",)))
    with rasterio.open(_one(out.safe, "measurement/*.tiff")) as source:
        dn = source.read(1).astype(float)
    noise = read_noise(parse(_one(out.safe, "annotation/calibration/noise-*.xml")))
    power = noise_power(noise, dn.shape, Window.whole(dn.shape))
    data = dn > 0
    want = np.sqrt(10.0**-1.1 * 474.0**2 / np.tan(np.radians(39.0)) + power)
    assert data.mean() > 0.3
    # rounding, and 1 degree of incidence around 39
    np.testing.assert_allclose(dn[data], want[data], atol=0.5, rtol=0.01)


def test_blocks_and_threads_change_no_pixel(scene: SimulatedScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "_BLOCK_CELLS", 64 * 1000)
    monkeypatch.setattr(
        fill,
        "_line_blocks",
        lambda area: [
            Window(row=row, col=area.col, rows=min(53, area.row_stop - row), cols=area.cols) for row in range(area.row, area.row_stop, 53)
        ],
    )
    options = Sentinel1Options(seed=5, landscape_dir=scene.dem.parent, direction="descending", incidence_deg=36.5)
    again = simulate_sentinel1(tmp_path, options)
    for pol in ("vv", "vh"):
        with (
            rasterio.open(_one(scene.safe, f"measurement/*-{pol}-*.tiff")) as one,
            rasterio.open(_one(again.safe, f"measurement/*-{pol}-*")) as two,
        ):
            np.testing.assert_array_equal(one.read(1), two.read(1))


@pytest.fixture(scope="module")
def rome(shared: Path) -> Path:
    return next((shared / "data" / "s1_grd_rome").glob("*.SAFE"))


def test_template_keeps_the_annotation_and_fills_the_window(rome: Path, shared: Path, tmp_path: Path) -> None:
    window = Window(row=7900, col=22000, rows=120, cols=151)
    land = LandscapeOptions(dem=shared / "data/s1_grd_rome/Rome-30m-DEM.tif", geoid=shared / "data/geoid/us_nga_egm96_15.tif")
    out = simulate_sentinel1(tmp_path, Sentinel1Options(template=rome, landscape=land, window=window))
    assert out.safe.name == rome.name
    for path in sorted((rome / "annotation").rglob("*.xml")):
        assert (out.safe / path.relative_to(rome)).read_bytes() == path.read_bytes()
    with rasterio.open(out.safe / "manifest.safe") as product:
        assert product.driver == "SAFE"
        assert product.shape == (16705, 26102)
        around = product.read(1, window=((7890, 8030), (21990, 22160)))
    assert (around[10:130, 10:161] > 0).all()
    assert np.count_nonzero(around) == window.size
    tiff = _one(out.safe, "measurement/*.tiff")
    assert tiff.stat().st_size < 120 * 26102 * 2 + 1_000_000  # the rest is sparse
    root = parse(out.safe / "manifest.safe")
    for one in root.findall("dataObjectSection/dataObject"):
        content = (out.safe / one.find("byteStream/fileLocation").get("href")).read_bytes()
        assert one.find("byteStream").get("size") == str(len(content))
        assert one.findtext("byteStream/checksum") == hashlib.md5(content).hexdigest()
    identities = {one.get("ID") for one in root.findall("dataObjectSection/dataObject")}
    assert {one.get("dataObjectID") for one in root.findall(".//dataObjectPointer")} == identities
    assert [one.text for one in root.findall(".//{*}transmitterReceiverPolarisation")] == ["VV"]
    with rasterio.open(out.dem) as dem:
        assert dem.crs.to_epsg() == 4979
        assert dem.read(1).min() > 50.0  # 5 m over the sea and 48.6 m of geoid


def test_template_from_a_zip_with_a_landscape_of_its_own(shared: Path, tmp_path: Path) -> None:
    archive = next((shared / "data" / "s1_grd_metadata").glob("*8255.zip"))
    land = LandscapeOptions(size_px=64, steepest_deg=20.0)
    out = simulate_sentinel1(tmp_path, Sentinel1Options(template=archive, landscape=land, zipped=True, polarisations=("VH",)))
    assert out.safe.name == archive.name
    with zipfile.ZipFile(out.safe) as packed, zipfile.ZipFile(archive) as original:
        name = next(one for one in packed.namelist() if "annotation/s1a" in one)
        assert packed.read(name) == original.read(name)
        assert not [one for one in packed.namelist() if "-vv-" in one]
    area = read_landscape(tmp_path).grid
    assert area.shape == (64, 64)


def test_template_errors(rome: Path, shared: Path, tmp_path: Path) -> None:
    meta = shared / "data" / "s1_grd_metadata"
    empty = tmp_path / "empty.SAFE"
    empty.mkdir()
    broken = tmp_path / "broken.zip"
    broken.write_bytes(next(meta.glob("*9550.zip")).read_bytes()[:5000])
    small = LandscapeOptions(size_px=40)
    for template, match in (
        (next(meta.glob("*BB15.zip")), "mode EW"),
        (next(meta.glob("*ECC8.zip")), "no annotation with calibration and noise"),
        (empty, "no manifest"),
        (broken, "cannot be read"),
        (tmp_path / "nowhere.zip", "no such template"),
    ):
        with pytest.raises(InputError, match=match):
            simulate_sentinel1(tmp_path / "out", Sentinel1Options(template=template, landscape=small))
    write_landscape(make_landscape(small), tmp_path / "far")
    with pytest.raises(InputError, match="does not lie in the scene"):
        simulate_sentinel1(tmp_path / "out", Sentinel1Options(template=rome, landscape_dir=tmp_path / "far"))
    assert list((tmp_path / "out").iterdir()) == []
