"""Map grids against affine arithmetic, PROJ and known zones."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from sarseg.grid import MapGrid, transform_points, utm_crs
from sarseg.tiles import Window

UTM33 = CRS.from_epsg(32633)
GRID = MapGrid(crs=UTM33, transform=Affine(10, 0, 290370, 0, -20, 4655100), shape=(31, 17))


@given(
    left=st.floats(-1e6, 1e6),
    bottom=st.floats(-1e6, 1e6),
    width=st.floats(1, 5e3),
    height=st.floats(1, 5e3),
    spacing=st.sampled_from([3.0, 10.0, 12.5, 30.0]),
)
def test_a_snapped_grid_covers_and_starts_at_a_multiple(left, bottom, width, height, spacing):
    grid = MapGrid.snapped(UTM33, (left, bottom, left + width, bottom + height), spacing)
    got = grid.bounds
    slack = 2e-4 * spacing
    assert got[0] <= left + slack
    assert got[1] <= bottom + slack
    assert got[2] >= left + width - slack
    assert got[3] >= bottom + height - slack
    assert max(got[2] - got[0] - width, got[3] - got[1] - height) <= 2 * spacing
    for origin in (grid.transform.c, grid.transform.f):
        assert abs(origin / spacing - round(origin / spacing)) < 1e-9


def test_centres_crop_and_back():
    window = Window(row=3, col=5, rows=7, cols=2)
    x, y = GRID.crop(window).centres()
    whole_x, whole_y = GRID.centres()
    assert (x == whole_x[5:7]).all()
    assert (y == whole_y[3:10]).all()
    assert x[0] == 290370 + 5.5 * 10
    assert y[0] == 4655100 - 3.5 * 20
    row, col = GRID.pixel_of(x[:1], y[:1])
    assert (row[0], col[0]) == (3, 5)


def test_offset_only_on_the_same_lattice():
    assert GRID.offset_of(GRID.crop(Window(row=4, col=6, rows=1, cols=1))) == (4, 6)
    shifted = MapGrid(crs=UTM33, transform=GRID.transform @ Affine.translation(0.25, 0), shape=(5, 5))
    assert GRID.offset_of(shifted) is None
    assert GRID.offset_of(MapGrid(crs=CRS.from_epsg(32634), transform=GRID.transform, shape=(5, 5))) is None
    assert GRID.offset_of(MapGrid(crs=UTM33, transform=Affine(10.01, 0, 290370, 0, -20, 4655100), shape=(5, 5))) is None


def test_window_covering_is_the_touched_pixels():
    assert GRID.window_covering((290370 + 15, 4655100 - 45, 290370 + 30, 4655100 - 1)) == Window(row=0, col=1, rows=3, cols=2)
    assert GRID.window_covering((0, 0, 5, 5)) is None


def test_bounds_in_degrees_contain_every_edge_pixel():
    rows, cols = GRID.shape
    edge = [(r, c) for r in range(rows + 1) for c in range(cols + 1) if r in (0, rows) or c in (0, cols)]
    x, y = zip(*[GRID.transform @ (c, r) for r, c in edge], strict=True)
    lon, lat = transform_points(UTM33, CRS.from_epsg(4326), np.array(x), np.array(y))
    west, south, east, north = GRID.bounds_in(CRS.from_epsg(4326))
    # PROJ densifies 31 points an edge: within a millimetre of all of them
    assert west <= lon.min() + 1e-8
    assert east >= lon.max() - 1e-8
    assert south <= lat.min() + 1e-8
    assert north >= lat.max() - 1e-8


@pytest.mark.parametrize(
    ("lon", "lat", "code"),
    [
        (12.5, 42, 32633),
        (-180, 10, 32601),
        (180, 10, 32601),
        (179.99, -10, 32760),
        (5, 60, 32632),
        (2.9, 60, 32631),
        (8.9, 78, 32631),
        (9, 78, 32633),
        (35, 78, 32637),
        (0, 84, 32661),
        (0, -80.1, 32761),
        (0, -80, 32731),
    ],
)
def test_utm_zone(lon, lat, code):
    assert utm_crs(lon, lat).to_epsg() == code


def test_a_grid_without_pixels_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        MapGrid(crs=None, transform=Affine.identity(), shape=(0, 5))
