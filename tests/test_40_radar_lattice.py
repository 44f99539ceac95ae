"""The lattice against the exact solver and against angles made from three dimensions, on a synthetic orbit."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from circular_orbit import EPOCH, circle, circular_orbit, ground_point, ground_range_image
from pyproj import Transformer
from rasterio.crs import CRS

from sarseg.errors import InputError
from sarseg.grid import MapGrid, utm_crs
from sarseg.radar.geometry import ecef_from_geodetic, zero_doppler
from sarseg.radar.lattice import TOLERANCE_PX, make_lattice, plan_lattice
from sarseg.tiles import Window

ORBIT = circular_orbit()
RADAR = ground_range_image()
HEIGHTS_M = (-100.0, 4000.0)
MIDDLE = ground_point(2.2, 33.5)


def map_grid(crs, spacing, shape=(1900, 2300), rotation_deg=0.0):
    x, y = Transformer.from_crs(4326, crs.to_wkt(), always_xy=True).transform(*MIDDLE)
    turn = Affine.rotation(rotation_deg)
    corner = Affine.translation(x, y) @ turn @ Affine.scale(spacing, -spacing) @ Affine.translation(-shape[1] // 2, -shape[0] // 2)
    return MapGrid(crs=crs, transform=corner, shape=shape)


UTM = utm_crs(*MIDDLE)
GRIDS = {
    "utm 10 m": map_grid(UTM, 10.0),
    "utm 40 m": map_grid(UTM, 40.0, (470, 590)),
    "utm 300 m": map_grid(UTM, 300.0, (71, 83)),
    "degrees": map_grid(CRS.from_epsg(4326), 10.0 / 111_320.0),
    "mercator, turned": map_grid(CRS.from_epsg(3857), 20.0, (1900, 2300), 30.0),
}


def earth_fixed(grid, row, col, height_m):
    """Without the code under test: PROJ alone."""
    x, y = grid.transform @ (np.asarray(col) + 0.5, np.asarray(row) + 0.5)
    lon, lat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True).transform(x, y)
    return np.stack(Transformer.from_crs(4979, 4978, always_xy=True).transform(lon, lat, height_m), axis=-1)


@pytest.mark.parametrize("name", GRIDS)
def test_every_pixel_is_within_the_tolerance_of_the_exact_solution(name):
    grid, rng = GRIDS[name], np.random.default_rng(3)
    plan = plan_lattice(grid, ORBIT, RADAR, HEIGHTS_M)
    assert plan.error_px <= TOLERANCE_PX
    held, worst = 0, 0.0
    for _ in range(8):
        window = Window(row=int(rng.integers(0, grid.shape[0] - 40)), col=int(rng.integers(0, grid.shape[1] - 50)), rows=37, cols=49)
        height = rng.uniform(*HEIGHTS_M, window.shape)
        row, col = np.mgrid[window.row : window.row_stop, window.col : window.col_stop]
        exact = RADAR.line_pixel(*zero_doppler(earth_fixed(grid, row, col, height), ORBIT))
        near = RADAR.line_pixel(*make_lattice(plan, window).time_range(height))
        inside = (exact[0] > 0) & (exact[0] < 3000) & (exact[1] > 0) & (exact[1] < 5002)
        held += inside.sum()
        worst = max(worst, np.abs(near[0] - exact[0])[inside].max(initial=0.0), np.abs(near[1] - exact[1])[inside].max(initial=0.0))
    assert held > 3000
    # the plan's own measurement is the worst of all places, and it is no empty promise
    assert 0.0 < worst <= plan.error_px + 2e-6
    assert worst <= TOLERANCE_PX


def test_coarse_pixels_make_the_plan_refine_its_nodes():
    fine, coarse = (plan_lattice(GRIDS[name], ORBIT, RADAR, HEIGHTS_M) for name in ("utm 10 m", "utm 300 m"))
    assert coarse.step_px < fine.step_px
    with pytest.raises(InputError, match="too coarse"):
        plan_lattice(map_grid(UTM, 60_000.0, (5, 7)), ORBIT, RADAR, HEIGHTS_M)


@pytest.mark.parametrize("name", ["utm 10 m", "degrees"])
def test_no_bit_depends_on_the_block(name):
    grid, rng = GRIDS[name], np.random.default_rng(8)
    plan = plan_lattice(grid, ORBIT, RADAR, HEIGHTS_M)
    whole = Window(row=230, col=250, rows=301, cols=285)
    height = rng.uniform(*HEIGHTS_M, whole.shape)
    height[7, 9] = np.nan
    slope = rng.normal(0, 3, (2, *whole.shape))
    lattice = make_lattice(plan, whole)
    want = [*lattice.time_range(height), *lattice.incidence(height, *slope), *lattice.away(height)]
    assert np.isnan([field[7, 9] for field in want]).all()
    for _ in range(25):
        rows, cols = int(rng.integers(1, 60)), int(rng.integers(1, 70))
        row, col = int(rng.integers(0, 301 - rows)), int(rng.integers(0, 285 - cols))
        part = (slice(row, row + rows), slice(col, col + cols))
        lattice = make_lattice(plan, Window(row=230 + row, col=250 + col, rows=rows, cols=cols))
        got = [*lattice.time_range(height[part]), *lattice.incidence(height[part], *slope[:, *part]), *lattice.away(height[part])]
        for ours, all_of_it in zip(got, want, strict=True):
            np.testing.assert_array_equal(ours, all_of_it[part])


@pytest.mark.parametrize("name", ["utm 10 m", "degrees", "mercator, turned"])
def test_incidence_is_the_angle_between_the_normal_and_the_line_of_sight(name):
    grid, rng = GRIDS[name], np.random.default_rng(6)
    plan = plan_lattice(grid, ORBIT, RADAR, HEIGHTS_M)
    window = Window(row=900, col=1100, rows=31, cols=43)
    height = rng.uniform(*HEIGHTS_M, window.shape)
    dh_drow, dh_dcol = rng.normal(0, 8, (2, *window.shape))
    row, col = np.mgrid[window.row : window.row_stop, window.col : window.col_stop].astype(float)
    point = earth_fixed(grid, row, col, height)
    t_s, _ = zero_doppler(point, ORBIT)
    sight = circle(t_s)[0] - point
    sight /= np.linalg.norm(sight, axis=-1)[..., None]
    along_row = earth_fixed(grid, row + 0.5, col, height + dh_drow / 2) - earth_fixed(grid, row - 0.5, col, height - dh_drow / 2)
    along_col = earth_fixed(grid, row, col + 0.5, height + dh_dcol / 2) - earth_fixed(grid, row, col - 0.5, height - dh_dcol / 2)
    flat_row = earth_fixed(grid, row + 0.5, col, height) - earth_fixed(grid, row - 0.5, col, height)
    flat_col = earth_fixed(grid, row, col + 0.5, height) - earth_fixed(grid, row, col - 0.5, height)

    def angle(a, b):
        normal = np.cross(a, b)
        normal *= np.sign(np.sum(normal * point, axis=-1))[..., None] / np.linalg.norm(normal, axis=-1)[..., None]
        return np.arccos(np.sum(normal * sight, axis=-1))

    local, ellipsoid = make_lattice(plan, window).incidence(height, dh_drow, dh_dcol)
    assert np.degrees(np.abs(local - angle(along_row, along_col))).max() < 1e-3
    assert np.degrees(np.abs(ellipsoid - angle(flat_row, flat_col))).max() < 1e-3
    assert (local > np.pi / 2).any()  # steep enough that some slopes face away
    assert np.degrees(local.std()) > 5


def test_away_keeps_the_azimuth_and_grows_the_range():
    grid = GRIDS["mercator, turned"]
    plan = plan_lattice(grid, ORBIT, RADAR, HEIGHTS_M)
    window = Window(row=700, col=1500, rows=5, cols=7)
    height = np.full(window.shape, 812.5)
    lattice = make_lattice(plan, window)
    row, col = np.mgrid[window.row : window.row_stop, window.col : window.col_stop].astype(float)
    u_row, u_col = lattice.away(height)
    here, there = earth_fixed(grid, row, col, height), earth_fixed(grid, row + 1000 * u_row, col + 1000 * u_col, height)
    np.testing.assert_allclose(np.linalg.norm(there - here, axis=-1), 1000.0, rtol=2e-3)
    (t0, r0), (t1, r1) = zero_doppler(here, ORBIT), zero_doppler(there, ORBIT)
    assert np.abs(t1 - t0).max() < 3e-5  # 0.2 m along track over 1 km, on which the line of constant azimuth bends
    _, ellipsoid = lattice.incidence(height, height * 0, height * 0)
    np.testing.assert_allclose((r1 - r0) / 1000.0, np.sin(ellipsoid), atol=2e-3)


def test_the_other_side_of_the_track_is_not_seen():
    lon, lat = ground_point(2.2, 33.5, side="left")
    crs = utm_crs(lon, lat)
    x, y = Transformer.from_crs(4326, crs.to_wkt(), always_xy=True).transform(lon, lat)
    grid = MapGrid.snapped(crs, (x, y, x + 900, y + 700), 10.0)
    t_s, slant_range_m = zero_doppler(ecef_from_geodetic(lon, lat, 0.0), ORBIT)
    assert np.isfinite(t_s)
    assert RADAR.range_span_m[0] < slant_range_m < RADAR.range_span_m[1]
    lattice = make_lattice(plan_lattice(grid, ORBIT, RADAR, (0.0, 10.0)), Window.whole(grid.shape))
    assert np.isnan(lattice.time_range(np.zeros(grid.shape))).all()


def test_heights_beyond_the_plan_are_still_good():
    grid = GRIDS["utm 10 m"]
    plan = plan_lattice(grid, ORBIT, RADAR, (0.0, 300.0))
    window = Window(row=1000, col=1000, rows=3, cols=5)
    height = np.full(window.shape, 2300.0)
    row, col = np.mgrid[window.row : window.row_stop, window.col : window.col_stop]
    t_s, slant_range_m = make_lattice(plan, window).time_range(height)
    exact = zero_doppler(earth_fixed(grid, row, col, height), ORBIT)
    assert np.abs(t_s - exact[0]).max() < 1e-7
    assert np.abs(slant_range_m - exact[1]).max() < 1e-3


def test_epochs_must_agree_and_shapes_too():
    grid = GRIDS["utm 300 m"]
    other = ORBIT.at_epoch(EPOCH + np.timedelta64(1, "s"))
    with pytest.raises(ValueError, match="counts from"):
        plan_lattice(grid, other, RADAR, HEIGHTS_M)
    lattice = make_lattice(plan_lattice(grid, ORBIT, RADAR, HEIGHTS_M), Window(row=0, col=0, rows=4, cols=6))
    with pytest.raises(ValueError, match="for a block of"):
        lattice.time_range(np.zeros((6, 4)))
    plain = MapGrid(crs=None, transform=Affine.identity(), shape=(4, 6))
    with pytest.raises(InputError, match="no coordinate reference system"):
        plan_lattice(plain, ORBIT, RADAR, HEIGHTS_M)
