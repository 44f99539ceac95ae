"""Made-up and given landscapes: shares, level water, slopes, datum, class means, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from sarseg.errors import InputError, MissingError, UsageError
from sarseg.simulate import landscape, table
from sarseg.simulate.given import read_landcover, read_terrain
from sarseg.simulate.landscape import Landscape, make_landscape, read_landscape, write_landscape
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.table import TABLE
from sarseg.tiles import Window

# shares that the generator was tuned to on measured label rasters
_SHARES = {"water": 0.06, "bare": 0.11, "grass": 0.20, "cereal": 0.22, "broadleaf": 0.16, "forest": 0.20, "built": 0.05}


@pytest.fixture(scope="module")
def land() -> Landscape:
    return make_landscape(LandscapeOptions(seed=4, size_px=700))


def _share(land: Landscape, name: str) -> float:
    return float((land.codes == land.legend.codes[land.legend.names.index(name)]).mean())


def test_shares_and_boundaries(land: Landscape) -> None:
    for name, share in _SHARES.items():
        assert 0.45 * share < _share(land, name) < 1.8 * share
    codes = land.codes.astype(int)
    edge = np.zeros(codes.shape, bool)
    for axis in (0, 1):
        differs = np.diff(codes, axis=axis) != 0
        edge[:-1, :] |= differs if axis == 0 else False
        edge[1:, :] |= differs if axis == 0 else False
        edge[:, :-1] |= differs if axis == 1 else False
        edge[:, 1:] |= differs if axis == 1 else False
    # 9.7 % of the pixels of the tuned generator touch another class; 4 to 16 % of real label rasters
    assert 0.06 < edge.mean() < 0.14
    # each quarter has some of each class: a split by blocks needs them
    for window in (Window(row=r, col=c, rows=350, cols=350) for r in (0, 350) for c in (0, 350)):
        assert set(np.unique(codes[window.slices])) == set(land.legend.codes)


def test_seed_makes_the_landscape() -> None:
    one, same, other = (make_landscape(LandscapeOptions(seed=seed, size_px=90)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.codes, same.codes)
    np.testing.assert_array_equal(one.gamma0_39, same.gamma0_39)
    np.testing.assert_array_equal(one.terrain.height_m, same.terrain.height_m)
    assert (one.codes != other.codes).mean() > 0.3


def test_water_is_level_and_hills_are_as_high_as_wanted(land: Landscape) -> None:
    heights = _heights_at_centres(land)
    water = land.codes == land.legend.codes[land.legend.names.index("water")]
    assert np.percentile(heights[water], 95) < 60.0 + 1.0
    assert land.terrain.height_m.min() >= 60.0 - 0.01
    assert land.terrain.height_m.max() == pytest.approx(140.0, abs=1.0)
    steep = make_landscape(LandscapeOptions(seed=4, size_px=300, steepest_deg=40.0))
    assert steep.terrain.steepest_deg == pytest.approx(40.0, abs=1.5)
    flat = make_landscape(LandscapeOptions(size_px=64, relief_m=0.0, base_m=77.0))
    assert (flat.terrain.height_m == 77.0).all()


def _heights_at_centres(land: Landscape) -> np.ndarray:
    from pyproj import Transformer

    x, y = np.meshgrid(*land.grid.centres())
    lon, lat = Transformer.from_crs(land.grid.crs.to_wkt(), "EPSG:4326", always_xy=True).transform(x, y)
    return land.terrain.height_at(np.asarray(lon), np.asarray(lat))


def test_heights_cover_every_corner(land: Landscape) -> None:
    assert np.isfinite(_heights_at_centres(land)).all()
    left, bottom, right, top = land.terrain.grid.bounds
    west, south, east, north = land.grid.bounds_in(CRS.from_epsg(4326))
    assert left < west - 1e-3
    assert right > east + 1e-3
    assert bottom < south - 1e-3
    assert top > north + 1e-3


def test_class_means_are_the_tables() -> None:
    exact = make_landscape(LandscapeOptions(size_px=128, variation="none"))
    spread = make_landscape(LandscapeOptions(size_px=1000, seed=2))
    for code, one in zip(exact.legend.codes, TABLE, strict=True):
        for plane in range(2):
            here = exact.codes == code
            if here.any():
                np.testing.assert_allclose(10.0 * np.log10(exact.gamma0_39[plane][here]), one.gamma0_db[plane], atol=1e-5)
            mean_db = float(10.0 * np.log10(spread.gamma0_39[plane][spread.codes == code].mean(dtype=np.float64)))
            # the mean over n fields scatters by s / sqrt(n); built and water have few
            assert mean_db == pytest.approx(one.gamma0_db[plane], abs=0.6 if one.name in ("water", "built") else 0.25)
    built = spread.codes == spread.legend.codes[spread.legend.names.index("built")]
    texture_db = 10.0 * np.log10(spread.gamma0_39[0])
    neighbours = built[:, 1:] & built[:, :-1]
    # neighbours in one field differ by the texture of two pixels
    assert np.median(np.abs(np.diff(texture_db, axis=1)[neighbours])) == pytest.approx(2.0 * np.sqrt(2.0) * 0.6745, rel=0.1)


def test_spread_keeps_linear_class_means() -> None:
    """A field a pixel, 160000 of them: the mean of 10^(dB / 10) is the table's within 0.02 dB, 3 sigma of built's 2.2 dB spread."""
    options, shape = LandscapeOptions(seed=6), (400, 400)
    fields = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    for code, one in zip(table.legend().codes, TABLE, strict=True):
        if one.name in ("water", "forest"):
            continue  # they drift over 600 m, not by field
        gamma0 = landscape._mean_gamma0(np.full(shape, code, np.uint8), fields, table.legend(), options)
        db = 10.0 * np.log10(gamma0)
        for plane in range(2):
            assert 10.0 * np.log10(gamma0[plane].mean(dtype=np.float64)) == pytest.approx(one.gamma0_db[plane], abs=0.02)
            assert db[plane].std() == pytest.approx(np.hypot(one.field_sd_db[plane], one.texture_db), rel=0.01)
        shared = one.field_correlation * one.field_sd_db[0] * one.field_sd_db[1]
        assert np.cov(db[0].ravel(), db[1].ravel())[0, 1] == pytest.approx(shared, abs=0.03)


def test_drift_keeps_linear_class_means() -> None:
    """Water drifts over 600 m: 44 x 44 independent places here, so 0.07 dB is 3 sigma."""
    shape, entry = (2640, 2640), TABLE[0]
    gamma0 = landscape._mean_gamma0(np.full(shape, 1, np.uint8), np.zeros(shape, np.int32), table.legend(), LandscapeOptions(seed=6))
    for plane in range(2):
        assert 10.0 * np.log10(gamma0[plane].mean(dtype=np.float64)) == pytest.approx(entry.gamma0_db[plane], abs=0.07)
    db = 10.0 * np.log10(gamma0[0])
    assert db.std() == pytest.approx(np.hypot(entry.field_sd_db[0], entry.texture_db), rel=0.06)


def test_files_come_back(land: Landscape, tmp_path: Path) -> None:
    write_landscape(land, tmp_path)
    again = read_landscape(tmp_path)
    assert again.grid == land.grid
    assert again.terrain.grid == land.terrain.grid
    np.testing.assert_array_equal(again.codes, land.codes)
    np.testing.assert_array_equal(again.gamma0_39, land.gamma0_39)
    np.testing.assert_array_equal(again.terrain.height_m, land.terrain.height_m)
    with rasterio.open(tmp_path / "dem.tif") as dem, rasterio.open(tmp_path / "truth.tif") as truth:
        assert dem.crs.to_epsg() == 4979
        assert dem.dtypes == ("float32",)
        assert truth.tags()["class_1"] == "water"
        assert truth.colormap(1)[1][:3] == land.legend.classes[0].color
        assert truth.transform.c % 10.0 == 0.0
        assert truth.transform.f % 10.0 == 0.0
    table = json.loads((tmp_path / "backscatter.json").read_text())
    assert table["classes"]["water"]["polarisations"]["VH"]["gamma0_db"] == -30.0
    assert table["classes"]["water"]["code"] == 1
    (tmp_path / "gamma0.tif").unlink()
    with pytest.raises(InputError, match=r"gamma0\.tif is not there"):
        read_landscape(tmp_path)


def test_given_heights_become_ellipsoidal(shared: Path) -> None:
    """EGM96 is 48.613 m over the ellipsoid at 12.5 E, 42.0 N: a published grid's value; the DEM is orthometric there."""
    dem, geoid = shared / "data/s1_grd_rome/Rome-30m-DEM.tif", shared / "data/geoid/us_nga_egm96_15.tif"
    terrain = read_terrain(dem, geoid)
    with rasterio.open(dem) as source:
        heights = source.read(1)
        row, col = source.index(12.5, 42.0)
    undulation = terrain.height_m - heights
    assert undulation[row, col] == pytest.approx(48.613, abs=0.003)  # half a post away
    assert np.ptp(undulation) < 1.0
    with pytest.raises(MissingError, match="not ellipsoidal"):
        read_terrain(dem, None)
    with pytest.raises(MissingError, match="no geoid grid there"):
        read_terrain(dem, Path("nowhere.tif"))


def test_a_dem_of_a_whole_country_is_refused_before_the_memory_is_full(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "height": 12, "width": 12, "count": 1, "dtype": "float32", "crs": CRS.from_epsg(4979)}
    with rasterio.open(tmp_path / "dem.tif", "w", **profile, transform=rasterio.Affine(0.1, 0, 11, 0, -0.1, 48)) as file:
        file.write(np.ones((1, 12, 12), np.float32))
    with pytest.raises(InputError, match=r"pixels of 10 m on the whole DEM \[.*dem\.tif\]: cut the DEM to at most 8192 pixels"):
        make_landscape(LandscapeOptions(dem=tmp_path / "dem.tif"))


def test_ellipsoidal_heights_stay(tmp_path: Path) -> None:
    path = tmp_path / "dem.tif"
    heights = np.arange(42, dtype=np.float32).reshape(6, 7)
    heights[2, 3] = -9999.0
    profile = {"driver": "GTiff", "height": 6, "width": 7, "count": 1, "dtype": "float32", "nodata": -9999.0}
    for crs, fails in (("EPSG:4979", False), ("EPSG:4326", True), ("EPSG:32633", True)):
        with rasterio.open(path, "w", crs=crs, transform=rasterio.Affine(0.01, 0, 10.0, 0, -0.01, 50.0), **profile) as out:
            out.write(heights, 1)
        if fails:
            with pytest.raises(MissingError, match="do not say so"):
                read_terrain(path, None)
        else:
            terrain = read_terrain(path, None)
            assert np.isnan(terrain.height_m[2, 3])
            np.testing.assert_array_equal(terrain.height_m[3:], heights[3:])
            # bilinear between posts; a void spoils its neighbours; the edge holds half a post
            assert terrain.height_at(np.array([10.01]), np.array([49.95]))[0] == pytest.approx(0.25 * (28 + 29 + 35 + 36))
            assert np.isnan(terrain.height_at(np.array([10.031, 9.99]), np.array([49.972, 49.97]))).all()


def test_given_land_cover(tmp_path: Path) -> None:
    path = tmp_path / "classes.tif"
    codes = np.array([[1, 2, 255], [0, 9, 9]], np.uint8)
    profile = {"driver": "GTiff", "height": 2, "width": 3, "count": 1, "dtype": "uint8", "transform": rasterio.Affine(10, 0, 0, 0, -10, 20)}
    with rasterio.open(path, "w", crs="EPSG:32633", **profile) as out:
        out.write(codes, 1)
        out.update_tags(class_1="forest", class_2="water", class_9="built")
    grid, got, legend = read_landcover(path)
    np.testing.assert_array_equal(got, [[1, 2, 0], [0, 9, 9]])
    assert legend.names == ("forest", "water", "built")
    assert grid.shape == (2, 3)
    with rasterio.open(path, "r+") as out:
        out.update_tags(class_9="lava")
    with pytest.raises(UsageError, match="no backscatter is known for lava"):
        read_landcover(path)
    with rasterio.open(path, "w", crs="EPSG:4326", **profile) as out:
        out.write(codes, 1)
    with pytest.raises(InputError, match="projected map"):
        read_landcover(path)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"seed": -1}, "negative"),
        ({"size_px": 8}, "8 pixels"),
        ({"steepest_deg": 80.0}, "slope 80"),
        ({"landcover": Path("x")}, "without heights"),
    ],
)
def test_options_that_cannot_be(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        LandscapeOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"polarisations": ("HH",)}, "HH"),
        ({"incidence_deg": 20.0}, "20.0 degrees"),
        ({"window": Window(row=0, col=0, rows=1, cols=1)}, "without a template"),
    ],
)
def test_scenes_that_cannot_be(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Sentinel1Options(**wrong)  # type: ignore[arg-type]
