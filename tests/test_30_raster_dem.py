"""DEM tiles made ellipsoidal: datums, geoid, mosaics, voids, the same bits in any window; against PROJ and plain Python."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from sarseg.errors import InputError, MissingError
from sarseg.grid import MapGrid
from sarseg.raster.dem import Dem, open_dem
from sarseg.raster.geoid import open_geoid, proj_folders
from sarseg.raster.nodes import node_step, on_nodes
from sarseg.tiles import Window

ROME = CRS.from_epsg(32633)


@pytest.fixture
def geoid_file(shared: Path) -> Path:
    return shared / "data" / "geoid" / "us_nga_egm96_15.tif"


def write(path: Path, heights: np.ndarray, transform: Affine, *, crs: str = "EPSG:4979", nodata: float | None = None) -> Path:
    profile = {"driver": "GTiff", "count": 1, "height": heights.shape[0], "width": heights.shape[1], "dtype": heights.dtype.name}
    with rasterio.open(path, "w", crs=crs, transform=transform, nodata=nodata, **profile) as file:
        file.write(heights, 1)
    return path


def hills(shape: tuple[int, int], seed: int = 3) -> np.ndarray:
    return (400.0 + 300.0 * np.random.default_rng(seed).random(shape)).astype("f4")


def rome_grid(shape: tuple[int, int] = (70, 53), spacing: float = 10.0, at: tuple[float, float] = (12.5, 42.0)) -> MapGrid:
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(*at)
    half_x, half_y = shape[1] * spacing / 2, shape[0] * spacing / 2
    grid = MapGrid.snapped(ROME, (x - half_x, y - half_y, x + half_x, y + half_y), spacing)
    return grid.crop(Window(row=0, col=0, rows=shape[0], cols=shape[1]))


def brute_force(heights: np.ndarray, transform: Affine, crs: str, grid: MapGrid) -> np.ndarray:
    """Every pixel by PROJ and four neighbours, weights of the valid ones, the nearest must be valid."""
    to_dem, heights = Transformer.from_crs(grid.crs.to_wkt(), crs, always_xy=True), heights.astype("f8")
    out = np.full(grid.shape, np.nan)
    for row in range(grid.shape[0]):
        for col in range(grid.shape[1]):
            j, i = ~transform @ to_dem.transform(*(grid.transform @ (col + 0.5, row + 0.5)))
            i, j = i - 0.5, j - 0.5
            near = int(np.floor(i + 0.5)), int(np.floor(j + 0.5))
            if not (0 <= near[0] < heights.shape[0] and 0 <= near[1] < heights.shape[1]) or np.isnan(heights[near]):
                continue
            total = weights = 0.0
            for r in (int(np.floor(i)), int(np.floor(i)) + 1):
                for c in (int(np.floor(j)), int(np.floor(j)) + 1):
                    weight = (1 - abs(i - r)) * (1 - abs(j - c))
                    if 0 <= r < heights.shape[0] and 0 <= c < heights.shape[1] and not np.isnan(heights[r, c]):
                        total, weights = total + weight * heights[r, c], weights + weight
            out[row, col] = total / weights
    return out


@pytest.mark.parametrize(
    ("crs", "transform", "shape"),
    [
        ("EPSG:4326", Affine(0.0003, 0, 12.498, 0, -0.00025, 42.002), (17, 14)),
        ("EPSG:32633", Affine(25.0, 0, 292773.0, 0, -30.0, 4653127.0), (19, 13)),
        ("EPSG:3035", Affine(40.0, 0, 4528600.0, 0, -20.0, 2103200.0), (16, 13)),
    ],
)
def test_heights_equal_brute_force(tmp_path, crs, transform, shape):
    """Voids (NaN, declared nodata, undeclared -32768) are neither averaged in nor grown; outside is NaN."""
    stored = hills(shape)
    stored[4, 5], stored[9, 3], stored[0, 0] = -9999, np.nan, -32768
    path = write(tmp_path / "dem.tif", stored, transform, crs=crs, nodata=-9999)
    grid = rome_grid((41, 37))
    dem = open_dem([path], datum="ellipsoidal")
    want = brute_force(np.where(stored < -1000, np.nan, stored), transform, crs, grid)
    assert 0.05 < np.isnan(want).mean() < 0.7
    # 1e-9 of a DEM pixel between the nodes times 300 m between neighbours
    np.testing.assert_allclose(dem.heights(grid), want, rtol=0, atol=1e-5)


def test_100_m_above_egm96_in_rome(tmp_path, geoid_file):
    path = write(tmp_path / "N41E012.hgt.tif", np.full((9, 11), 100, "i2"), Affine(0.1, 0, 12, 0, -0.1, 42.5), crs="EPSG:4326+5773")
    grid = MapGrid(crs=CRS.from_epsg(4326), transform=Affine(1e-4, 0, 12.49995, 0, -1e-4, 42.00005), shape=(1, 1))
    heights = open_dem([path], geoid=geoid_file).heights(grid)
    assert heights[0, 0] == pytest.approx(148.613, abs=0.001)  # the geoid's README: N = 48.61272


def test_geoid_wraps_and_reaches_the_poles(geoid_file):
    with rasterio.open(geoid_file) as file:
        values = file.read(1).astype("f8")
    lon = np.array([12.5, 179.9, -180.1, 539.9, 27.0, 0.0, -180.0])
    lat = np.array([42.0, 10.1, 10.1, 10.1, 90.0, -90.0, 0.0])

    def plain(lon: float, lat: float) -> float:
        col, row = (lon + 180.0) % 360.0 / 0.25, min((90.0 - lat) / 0.25, 719.999999)
        i, j, u, v = int(row), int(col), row % 1, col % 1
        pair = [values[i + d, j % 1440] * (1 - v) + values[i + d, (j + 1) % 1440] * v for d in (0, 1)]
        return float(pair[0] * (1 - u) + pair[1] * u)

    got = open_geoid("egm96", geoid_file).undulation_m(lon, lat)
    np.testing.assert_allclose(got, [plain(a, b) for a, b in zip(lon, lat, strict=True)], atol=1e-4)
    assert np.isnan(open_geoid("egm96", geoid_file).undulation_m(np.array([np.nan]), np.array([1.0]))[0])


@pytest.mark.parametrize(
    ("name", "crs", "datum"),
    [
        ("a.tif", "EPSG:9707", "egm96"),
        ("a.tif", "EPSG:9518", "egm2008"),
        ("a.tif", "EPSG:4979", "ellipsoidal"),
        ("a.tif", "EPSG:32633+5773", "egm96"),
        ("a.tif", "EPSG:32633+3855", "egm2008"),
        ("Copernicus_DSM_COG_10_N41_00_E012_00_DEM.tif", "EPSG:4326", "egm2008"),
        ("Copernicus_DSM_10_N41_00_E012_00_DEM.tif", "EPSG:4326", "egm2008"),
        ("srtm_39_04.tif", "EPSG:4326", "egm96"),
        ("n41_e012_1arc_v3.tif", "EPSG:4326", "egm96"),
        ("ASTGTMV003_N41E012_dem.tif", "EPSG:4326", "egm96"),
        ("ALPSMLC30_N041E012_DSM.tif", "EPSG:4326", "egm96"),
        ("Copernicus_DSM_COG_10_N41_00_E012_00_DEM.tif", "EPSG:4326+5773", "egm96"),
    ],
)
def test_datum_from_crs_then_name(tmp_path, geoid_file, name, crs, datum):
    path = write(tmp_path / name, hills((3, 4)), Affine(0.1, 0, 12, 0, -0.1, 42), crs=crs)
    assert open_dem([path], geoid=geoid_file).datums == (datum,)


@pytest.mark.parametrize(("crs", "said"), [("EPSG:4326", "neither its CRS nor its name"), ("EPSG:4326+5703", "NAVD88")])
def test_unknown_datum_is_missing(tmp_path, crs, said):
    path = write(tmp_path / "heights.tif", hills((3, 4)), Affine(0.1, 0, 12, 0, -0.1, 42), crs=crs)
    with pytest.raises(MissingError, match=rf"{said}.*--dem-datum") as error:
        open_dem([path])
    assert error.value.exit_code == 4


def test_asked_datum_wins_with_a_warning(tmp_path, geoid_file):
    path = write(tmp_path / "heights.tif", np.full((5, 5), 10, "f4"), Affine(0.1, 0, 12.2, 0, -0.1, 42.2), crs="EPSG:9707")
    dem = open_dem([path], datum="ellipsoidal", geoid=geoid_file)
    assert dem.heights(rome_grid((2, 2)))[0, 0] == pytest.approx(10.0, abs=1e-9)
    assert "egm96" in dem.warnings[0]
    egm2008 = open_dem([path], datum="egm2008", geoid=geoid_file)
    assert any("geoid grid is EGM96" in text for text in egm2008.warnings)


def test_missing_geoid_is_never_zero(tmp_path, monkeypatch):
    monkeypatch.setattr("sarseg.raster.geoid.proj_folders", lambda: iter([tmp_path]))
    path = write(tmp_path / "heights.tif", hills((3, 4)), Affine(0.1, 0, 12, 0, -0.1, 42), crs="EPSG:9707")
    with pytest.raises(MissingError, match=r"us_nga_egm96_15.tif.*--geoid FILE.*pyproj sync.*proj-data"):
        open_dem([path])
    with pytest.raises(MissingError, match="EGM96"):
        open_dem([path], geoid=tmp_path)


def test_geoid_is_found_in_projs_folders(tmp_path, monkeypatch, geoid_file):
    (tmp_path / geoid_file.name).symlink_to(geoid_file)
    monkeypatch.setenv("PROJ_DATA", str(tmp_path))
    assert tmp_path in list(proj_folders())
    path = write(tmp_path / "heights.tif", hills((3, 4)), Affine(0.1, 0, 12, 0, -0.1, 42), crs="EPSG:9707")
    assert open_dem([path]).geoids["egm96"].raster.path == str(tmp_path / geoid_file.name)


def test_a_raster_of_heights_is_no_geoid(tmp_path):
    file = write(tmp_path / "hills.tif", np.full((3, 3), 400.0), Affine(1, 0, 11, 0, -1, 43), crs="EPSG:4326")
    with pytest.raises(InputError, match="no undulations"):
        open_geoid("egm96", file).undulation_m(np.array([12.5]), np.array([42.0]))


def test_heights_in_feet_are_refused(tmp_path):
    path = write(tmp_path / "feet.tif", hills((3, 4)), Affine(0.1, 0, 12, 0, -0.1, 42), crs="EPSG:4326+6360")
    with pytest.raises(InputError, match="foot"):
        open_dem([path])


def cut(folder: Path, whole: np.ndarray, transform: Affine, *, overlap: int) -> list[Path]:
    """Four tiles of a raster at (31, 22), with `overlap` more pixels on their right and lower sides."""
    tiles = []
    for i, rows in enumerate((slice(0, 31 + overlap), slice(31, None))):
        for j, cols in enumerate((slice(0, 22 + overlap), slice(22, None))):
            moved = transform @ Affine.translation(cols.start or 0, rows.start or 0)
            tiles.append(write(folder / f"tile_{i}{j}.tif", whole[rows, cols], moved))
    return tiles


@pytest.mark.parametrize("overlap", [0, 1])
def test_seams_of_tiles_do_not_show(tmp_path, overlap):
    """Tiles that abut (GLO-30) or share a row (SRTM) give the bits of the uncut raster."""
    whole, transform = hills((60, 41)), Affine(0.0003, 0, 12.4945, 0, -0.0003, 42.0095)
    whole[31, 10] = np.nan
    (tmp_path / "tiles" / "deep").mkdir(parents=True)
    cut(tmp_path / "tiles" / "deep", whole, transform, overlap=overlap)
    write(tmp_path / "tiles" / "a_WBM.tif", np.zeros((60, 41), "f4"), transform)  # a water mask beside the tiles is no DEM
    single, grid = write(tmp_path / "single.tif", whole, transform), rome_grid((123, 77))
    got = open_dem([tmp_path / "tiles"]).heights(grid)
    assert np.isfinite(got).mean() > 0.9
    np.testing.assert_array_equal(got, open_dem([single]).heights(grid))


def test_tiles_of_other_spacing_fill_the_rest(tmp_path, geoid_file):
    """Two lattices with other datums and spacings (GLO-30 changes at 50 degrees): each is made ellipsoidal by itself."""
    upper = write(tmp_path / "a.tif", np.full((40, 30), 20.0, "f4"), Affine(0.0003, 0, 12.495, 0, -0.0003, 42.012), crs="EPSG:9707")
    lower = write(tmp_path / "b.tif", np.full((40, 20), 68.0, "f4"), Affine(0.00045, 0, 12.495, 0, -0.0003, 42.0), crs="EPSG:4979")
    heights = open_dem([upper, lower], geoid=geoid_file).heights(rome_grid((90, 41)))
    assert np.isfinite(heights).all()  # no gap at the seam
    assert heights[0, 0] == pytest.approx(68.61, abs=0.02)
    assert heights[-1, 0] == 68.0


def test_voids_are_filled_with_the_geoid_inside_the_tiles_only(tmp_path, geoid_file):
    stored = hills((30, 20))
    stored[12:16, 8:12] = np.nan
    path = write(tmp_path / "a.tif", stored, Affine(0.0003, 0, 12.497, 0, -0.0003, 42.0045), crs="EPSG:9707")
    dem, grid = open_dem([path], geoid=geoid_file), rome_grid((141, 97))
    heights, filled = dem.filled_heights(grid)
    plain = dem.heights(grid)
    assert filled.any()
    assert np.isnan(plain[filled]).all()
    np.testing.assert_allclose(heights[filled], 48.61, atol=0.01)
    outside = np.isnan(heights)
    assert outside[0, 0]
    assert outside.any()
    np.testing.assert_array_equal(heights[~filled & ~outside], plain[~filled & ~outside])
    low, high = dem.height_range_m(grid, Window.whole(grid.shape))
    assert low <= np.nanmin(heights) <= np.nanmax(heights) <= high < 760


def test_ellipsoidal_voids_stay_without_a_geoid(tmp_path, monkeypatch):
    monkeypatch.setattr("sarseg.raster.geoid.proj_folders", lambda: iter([]))
    stored = hills((30, 20))
    stored[12:16, 8:12] = np.nan
    path = write(tmp_path / "a.tif", stored, Affine(0.0003, 0, 12.497, 0, -0.0003, 42.0045))
    heights, filled = open_dem([path]).filled_heights(rome_grid((41, 37)))
    assert not filled.any()
    assert np.isnan(heights).any()


def windows_of(shape: tuple[int, int], sizes: tuple[int, int]) -> list[Window]:
    return [
        Window(row=row, col=col, rows=min(sizes[0], shape[0] - row), cols=min(sizes[1], shape[1] - col))
        for row in range(0, shape[0], sizes[0])
        for col in range(0, shape[1], sizes[1])
    ]


@pytest.mark.parametrize("sizes", [(37, 64), (1, 213), (200, 5)])
def test_any_window_has_the_same_bits(tmp_path, geoid_file, sizes):
    path = write(tmp_path / "a.tif", hills((90, 80)), Affine(0.0003, 0, 12.487, 0, -0.0003, 42.0125), crs="EPSG:9707")
    dem, grid = open_dem([path], geoid=geoid_file), rome_grid((209, 213))
    whole = dem.heights(grid)
    for window in windows_of(grid.shape, sizes):
        np.testing.assert_array_equal(dem.heights(grid, window), whole[window.slices])
        np.testing.assert_array_equal(dem.heights(grid.crop(window)), whole[window.slices])
    beyond = dem.heights(grid, Window.whole(grid.shape).expand(9))
    np.testing.assert_array_equal(beyond[9:-9, 9:-9], whole)


@pytest.mark.parametrize(("lon", "lat", "epsg"), [(12.5, 42.0, 32633), (-71.0, -33.4, 32719), (25.0, 70.0, 32635), (100.0, 20.0, 3857)])
def test_node_interpolation_is_exact(lon, lat, epsg):
    """Cubic interpolation between nodes 640 m apart against PROJ at every pixel: below a micrometre."""
    crs = CRS.from_epsg(epsg)
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    grid = MapGrid.snapped(crs, (x, y, x + 3710.0, y + 2930.0), 10.0)
    to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
    assert node_step(grid) == 64
    window = Window(row=101, col=57, rows=153, cols=211)
    got = on_nodes(grid, window, 64, lambda x, y: np.stack(to_degrees.transform(x, y)))
    want = np.stack(to_degrees.transform(*np.meshgrid(*grid.centres(window))))
    assert np.abs(got - want).max() * 111_320 < 1e-6


def test_tiles_on_both_sides_of_the_antimeridian(tmp_path):
    write(tmp_path / "w.tif", np.full((20, 20), 5.0, "f4"), Affine(0.001, 0, 179.98, 0, -0.001, -16.99))
    write(tmp_path / "e.tif", np.full((20, 20), 9.0, "f4"), Affine(0.001, 0, -180.0, 0, -0.001, -16.99))
    x, y = Transformer.from_crs(4326, 32701, always_xy=True).transform(180.0, -17.0)
    grid = MapGrid.snapped(CRS.from_epsg(32701), (x - 600.0, y - 200.0, x + 600.0, y + 200.0), 20.0)
    heights = open_dem([tmp_path]).heights(grid)
    assert np.isfinite(heights).all()
    assert (heights[10, 0], heights[10, -1]) == pytest.approx((5.0, 9.0))
    assert np.all(np.diff(heights[10]) > -1e-9)


def test_not_a_dem(tmp_path):
    with pytest.raises(InputError, match="no DEM tiles"):
        open_dem([tmp_path])
    with pytest.raises(InputError, match="no such file"):
        open_dem([tmp_path / "absent.tif"])
    with pytest.raises(InputError, match="no coordinate system"):
        open_dem([write(tmp_path / "a.tif", hills((3, 3)), Affine(0.1, 0, 12, 0, -0.1, 42), crs="")])


def test_pickled_dem_gives_the_same(tmp_path, geoid_file):
    path = write(tmp_path / "a.tif", hills((30, 20)), Affine(0.0003, 0, 12.497, 0, -0.0003, 42.0045), crs="EPSG:9707")
    dem, grid = open_dem([path], geoid=geoid_file), rome_grid()
    copy: Dem = pickle.loads(pickle.dumps(dem))
    np.testing.assert_array_equal(copy.heights(grid), dem.heights(grid))
