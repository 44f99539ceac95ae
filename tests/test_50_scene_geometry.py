"""Our solver at every point of every geolocation grid of real GRD products (docs/sentinel1.md 2), and the lattice on real scenes."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS

from sarseg.grid import MapGrid, transform_points, utm_crs
from sarseg.radar.geometry import ecef_from_geodetic, zero_doppler
from sarseg.radar.lattice import TOLERANCE_PX, make_lattice, plan_lattice
from sarseg.scene.annotation import read_annotation, read_orbit
from sarseg.scene.open import open_scene
from sarseg.scene.safe import Element, parse
from sarseg.tiles import Window

# last four characters of the product: annotations, line error m, column error m of the last row, where docs/sentinel1.md has an exception
PRODUCTS = {
    "BB15": (2, None, None),
    "6D00": (2, 0.562, None),
    "FEC3": (1, None, 11.40),
    "CEAB": (2, None, 23.29),
    "3768": (2, None, 13.48),
    "9550": (1, None, None),
    "8255": (2, None, None),
    "DF62": (1, None, None),
    "ECC8": (2, None, None),
    "4B8B": (2, None, None),
    "5371": (1, None, None),
}


def annotations(shared: Path, product: str) -> list[Element]:
    """The product annotations, read past the code under test: DF62 is a bare file."""
    if product == "5371":
        return [parse(path.read_bytes(), path.name) for path in sorted((shared / "data/s1_grd_rome").glob("*.SAFE/annotation/*.xml"))]
    (path,) = (shared / "data/s1_grd_metadata").glob(f"*_{product}*.zip")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".xml") and Path(name).parent.name in ("annotation", "")]
        return [parse(archive.read(name), name) for name in sorted(names)]


def errors_m(root, annotation, orbit):
    """Line and column errors of all grid points in metres (nominal spacings, as in docs/sentinel1.md 2), and which lie in the last row."""
    points, grid = annotation.geolocation_grid, annotation.grid
    ground = ecef_from_geodetic(points.lon_deg, points.lat_deg, points.height_m)
    t_s, slant_range_m = zero_doppler(ground, orbit)
    line, pixel = grid.line_pixel(t_s, slant_range_m, records="nearest")
    assert np.abs(slant_range_m - points.slant_range_m).max() < 1e-4
    line_m = np.abs(line - points.line) * root.number("imageAnnotation/imageInformation/azimuthPixelSpacing")
    return line_m, np.abs(pixel - points.pixel) * grid.pixel_spacing_m, points.line == points.line.max()


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_grid_point_lies_where_esa_puts_it(shared, product):
    count, line_exception_m, column_exception_m = PRODUCTS[product]
    roots = annotations(shared, product)
    assert len(roots) == count
    for root in roots:
        annotation = read_annotation(root)
        line_m, column_m, last_row = errors_m(root, annotation, annotation.orbit)
        assert len(line_m) == {"BB15": 483}.get(product, 210)
        if line_exception_m is None:
            assert line_m.max() <= 0.05
        else:
            assert line_m.max() == pytest.approx(line_exception_m, abs=0.005)
        assert column_m[~last_row].max() <= 0.1
        if column_exception_m is None:
            assert column_m[last_row].max() <= 0.1
        else:  # IPF 2.36 has no range record for the last row
            assert column_m[last_row].max() == pytest.approx(column_exception_m, abs=0.01)


@pytest.mark.parametrize(
    ("product", "rounded_m", "mended_m", "shift_us"),
    [("FEC3", 2.958, 0.0155, -440), ("CEAB", 1.751, 0.0095, -261), ("3768", 2.885, 0.0085, -431)],
)
def test_the_rounded_orbit_times_of_ipf_2_36_are_undone(shared, product, rounded_m, mended_m, shift_us):
    root = annotations(shared, product)[0]
    annotation = read_annotation(root)
    as_written = read_orbit(root, annotation.start_utc)
    assert errors_m(root, annotation, as_written)[0].max() == pytest.approx(rounded_m, abs=0.005)
    assert errors_m(root, annotation, annotation.orbit)[0].max() <= mended_m
    assert annotation.orbit.t_s[0] == -2.0
    assert f"moved by {shift_us} us" in annotation.orbit.note


@pytest.mark.parametrize("product", ["9550", "6D00", "BB15"])
def test_other_orbits_stay_as_they_are_written(shared, product):
    root = annotations(shared, product)[0]
    annotation = read_annotation(root)
    np.testing.assert_array_equal(annotation.orbit.t_s, read_orbit(root, annotation.start_utc).t_s)
    assert annotation.orbit.note == ""


def test_the_next_slice_holds_the_range_record_that_the_last_row_lacks(shared):
    first, second = (read_annotation(annotations(shared, product)[0]) for product in ("CEAB", "3768"))
    points = first.geolocation_grid
    last = points.line == points.line.max()
    ground = ecef_from_geodetic(points.lon_deg[last], points.lat_deg[last], points.height_m[last])
    seen = zero_doppler(ground, first.orbit.at_epoch(second.grid.epoch_utc))
    record = slice(1, 2)
    only = replace(
        second.grid,
        record_t_s=second.grid.record_t_s[record],
        record_origin_m=second.grid.record_origin_m[record],
        record_coefficients=second.grid.record_coefficients[record],
    )
    _, pixel = only.line_pixel(*seen)
    assert np.abs(pixel - points.pixel[last]).max() * 10.0 < 0.02


@pytest.mark.parametrize(("product", "spacing"), [("5371", 10.0), ("BB15", 40.0), ("FEC3", 10.0), ("4B8B", 25.0)])
@pytest.mark.parametrize("projection", ["utm", "degrees"])
def test_the_lattice_of_a_real_scene_is_within_the_tolerance_everywhere(shared, product, spacing, projection):
    folder = shared / "data" / ("s1_grd_rome" if product == "5371" else "s1_grd_metadata")
    (path,) = folder.glob(f"*_{product}.*")
    scene = open_scene(path)
    points, wgs84 = scene.geolocation_grid, CRS.from_epsg(4326)
    crs = utm_crs(float(points.lon_deg.mean()), float(points.lat_deg.mean())) if projection == "utm" else wgs84
    x, y = transform_points(wgs84, crs, points.lon_deg, points.lat_deg)
    grid = MapGrid.snapped(crs, (x.min(), y.min(), x.max(), y.max()), spacing if projection == "utm" else spacing / 111_320.0)
    plan = plan_lattice(grid, scene.orbit, scene.grid, (-100.0, 4000.0))
    rng, held, worst = np.random.default_rng(17), 0, 0.0
    for _ in range(60):
        window = Window(row=int(rng.integers(0, grid.shape[0])), col=int(rng.integers(0, grid.shape[1])), rows=5, cols=7)
        height = rng.uniform(-100.0, 4000.0, window.shape)
        row, col = np.mgrid[window.row : window.row_stop, window.col : window.col_stop] + 0.5
        lon, lat = transform_points(crs, wgs84, grid.transform.a * col + grid.transform.c, grid.transform.e * row + grid.transform.f)
        exact = np.stack(scene.grid.line_pixel(*zero_doppler(ecef_from_geodetic(lon, lat, height), scene.orbit)))
        near = np.stack(scene.grid.line_pixel(*make_lattice(plan, window).time_range(height)))
        inside = (exact > 0).all(axis=0) & (exact[0] < scene.shape[0]) & (exact[1] < scene.shape[1])
        held += int(inside.sum())
        worst = max(worst, np.abs(near - exact)[:, inside].max(initial=0.0))
    assert held > 500
    assert worst <= min(plan.error_px + 2e-6, TOLERANCE_PX)
