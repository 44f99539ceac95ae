"""What SNAP is given: heights where its own lookup finds them, the geoid and orbit files in its formats and folders (docs/snap.md 3, 4)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from scipy.ndimage import binary_erosion
from snap_geoid import geoid_formula, write_geoid
from snap_replay import SnapDem

from sarseg.ard.snap.auxiliary import geoid_for_snap, prepare_userdir
from sarseg.ard.snap.dem import NODATA_M, write_dem
from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.raster.dem import open_dem
from sarseg.raster.geoid import open_geoid

UTM33 = rasterio.CRS.from_epsg(32633)


@pytest.fixture(scope="module")
def geoid(tmp_path_factory) -> Path:
    return write_geoid(tmp_path_factory.mktemp("geoid"))


def write_heights(path: Path, crs: str, transform: Affine, shape: tuple[int, int]) -> np.ndarray:
    """Hills, and a void."""
    row, col = np.indices(shape)
    heights = (300 + 60 * np.sin(row / 9.0) * np.cos(col / 7.0) + 0.4 * row).astype("f4")
    heights[20:30, 40:52] = -9999.0
    profile = {"driver": "GTiff", "count": 1, "height": shape[0], "width": shape[1], "dtype": "float32", "nodata": -9999.0}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as file:
        file.write(heights, 1)
    return heights


@pytest.mark.parametrize(
    ("crs", "transform", "tolerance_m"),
    [
        ("EPSG:4326", Affine(1 / 3600, 0, 12.5 - 0.37 / 3600, 0, -1 / 3600, 42.02), 2e-3),  # SNAP's samples are the DEM's own
        ("EPSG:32633", Affine(30, 0, 292_900, 0, -30, 4_654_930), 1.6),  # resampled: bilinear of bilinear on a curvature of 0.9 m a pixel
    ],
    ids=["degrees", "metres"],
)
def test_snap_finds_the_heights_where_they_are(tmp_path, geoid, crs, transform, tolerance_m):
    """Through its lookup, which is half a pixel off: our heights at any point of the map, the geoid in the void and beyond the tiles."""
    write_heights(tmp_path / "dem.tif", crs, transform, (130, 150))
    dem = open_dem([tmp_path / "dem.tif"], datum="egm96", geoid=geoid)
    grid = MapGrid(crs=UTM33, transform=Affine(10, 0, 293_200, 0, -10, 4_654_700), shape=(301, 333))
    write_dem(dem, grid, geoid_for_snap(dem, geoid), tmp_path / "for_snap.tif")
    with rasterio.open(tmp_path / "for_snap.tif") as file:
        stored = file.read(1).astype(float)
        assert file.crs.to_epsg() == 4326
        assert not (stored == NODATA_M).any()
        lookup = SnapDem(heights_m=stored, transform=file.transform)
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(*np.meshgrid(*grid.centres()))
    want, filled = dem.filled_heights(grid)
    assert 700 < filled.sum() < 2000
    found, geoid_m = lookup.at(lon, lat), geoid_formula(lon, lat)
    inner = binary_erosion(np.isfinite(want) & ~filled, iterations=4, border_value=1)  # a pixel of the DEM away from its edges
    empty = binary_erosion(~np.isfinite(want) | filled, iterations=4, border_value=1)
    assert inner.mean() > 0.8
    np.testing.assert_allclose(found[inner], want[inner], atol=tolerance_m)
    np.testing.assert_allclose(found[empty], geoid_m[empty], atol=0.02)
    unmoved = SnapDem(heights_m=stored, transform=lookup.transform @ Affine.translation(-0.5, -0.5))
    assert np.abs(unmoved.at(lon, lat) - want)[inner].max() > 2 * tolerance_m
    assert np.isfinite(found).all()


def test_no_heights_across_180_degrees(tmp_path, geoid):
    write_heights(tmp_path / "dem.tif", "EPSG:4326", Affine(0.01, 0, 179.5, 0, -0.01, 10.5), (130, 150))
    dem = open_dem([tmp_path / "dem.tif"], datum="ellipsoidal", geoid=geoid)
    grid = MapGrid(crs=rasterio.CRS.from_epsg(32660), transform=Affine(1000, 0, 790_000, 0, -1000, 1_100_000), shape=(90, 90))
    with pytest.raises(InputError, match=r"180 degrees.*--engine native"):
        write_dem(dem, grid, open_geoid("egm96", geoid), tmp_path / "for_snap.tif")


def read_egm96(path: Path) -> np.ndarray:
    """As SNAP does: 75 characters skipped, then 191 lines a latitude; (721, 1441)."""
    with zipfile.ZipFile(path) as archive:
        text = archive.read("ww15mgh_b.grd").decode()
    assert text.index("\n") == 74
    lines = text[75:].split("\n")
    assert len(lines) >= 721 * 191 - 1
    rows = [" ".join(lines[191 * k : 191 * (k + 1)]).split() for k in range(721)]
    return np.array(rows, float)


def test_the_geoid_file_is_read_by_snap(tmp_path, geoid):
    prepare_userdir(tmp_path / "user", geoid=open_geoid("egm96", geoid))
    table = read_egm96(tmp_path / "user/auxdata/dem/egm96/ww15mgh_b.zip")
    assert table.shape == (721, 1441)
    lon, lat = np.meshgrid(0.25 * np.arange(1441), 90 - 0.25 * np.arange(721))
    np.testing.assert_allclose(table, geoid_formula(lon, lat), atol=6e-3)  # half a degree is interpolated; three decimals


def test_the_geoid_file_has_the_undulations_of_egm96(tmp_path, shared):
    prepare_userdir(tmp_path / "user", geoid=open_geoid("egm96", shared / "data/geoid/us_nga_egm96_15.tif"))
    table = read_egm96(tmp_path / "user/auxdata/dem/egm96/ww15mgh_b.zip")
    assert table[int((90 - 42.0) / 0.25), int(12.5 / 0.25)] == pytest.approx(48.61, abs=0.05)  # added by SNAP at Rome
    assert table.min() == pytest.approx(-106.99, abs=0.03)  # south of India (NIMA TR8350.2)
    assert table.max() == pytest.approx(85.39, abs=0.03)  # New Guinea


def test_an_orbit_file_lies_where_snap_looks(tmp_path, geoid):
    """In the folder of the month of the first state vector, which may be the month before; under its own name."""
    scene = SimpleNamespace(mission="S1A", start_utc=np.datetime64("2021-06-01T00:00:40", "us"))
    name = "S1A_OPER_AUX_POEORB_OPOD_20210621T120000_V20210530T225942_20210601T235942.EOF"
    (tmp_path / name).write_text("orbit")
    prepare_userdir(tmp_path / "user", geoid=open_geoid("egm96", geoid), orbit=(tmp_path / name, scene))
    folder = tmp_path / "user/auxdata/Orbits/Sentinel-1/POEORB/S1A/2021"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.EOF")) == [f"05/{name}", f"06/{name}"]
    (tmp_path / "mine.EOF").write_text("orbit")
    with pytest.raises(InputError, match="by their names"):
        prepare_userdir(tmp_path / "other", geoid=open_geoid("egm96", geoid), orbit=(tmp_path / "mine.EOF", scene))
