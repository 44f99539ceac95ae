"""The simulator's own geometry against the grids of real annotations, and its own orbit against mechanics."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarseg.errors import InputError
from sarseg.simulate.annotation import parse, read_geometry, seconds
from sarseg.simulate.ellipsoid import geodetic, normal, surface
from sarseg.simulate.geometry import ImageGeometry, RangeRecords, incidence_deg, make_geometry, project
from sarseg.simulate.track import OwnOrbit, fit_track, orbit_over

_C = 299_792_458.0
# product, azimuth time and line in metres, that its annotation allows: IPF 2.36 ends its vectors 2 ms after the last line, so
# that a polynomial has nothing to hold it there; IPF 2.70 has a constant shift of 0.5 m that nothing explains
_PRODUCTS = {
    "DF62": 0.05,
    "Rome": 0.05,
    "BB15": 0.05,
    "4B8B": 0.05,
    "ECC8": 0.05,
    "9550": 0.05,
    "8255": 0.05,
    "6D00": 0.58,
    "FEC3": 0.08,
    "CEAB": 0.06,
    "3768": 0.06,
}
_NO_RECORD_IN_LAST_ROW = {"FEC3": 11.40, "CEAB": 23.29, "3768": 13.48}


def _annotation(shared: Path, name: str, folder: Path) -> Path:
    if name == "Rome":
        return next((shared / "data" / "s1_grd_rome").glob("*.SAFE/annotation/*.xml"))
    archive = next((shared / "data" / "s1_grd_metadata").glob(f"*{name}*.zip"))
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    found = [path for path in sorted(folder.rglob("*.xml")) if path.parent.name in ("annotation", folder.name) or name == "DF62"]
    return found[0]


def _grid(root: Any, geometry: ImageGeometry) -> dict[str, np.ndarray]:
    points = root.findall("geolocationGrid/geolocationGridPointList/geolocationGridPoint")
    names = ("line", "pixel", "latitude", "longitude", "height", "slantRangeTime", "incidenceAngle")
    out = {name: np.array([float(one.findtext(name)) for one in points]) for name in names}
    out["t_s"] = seconds([one.findtext("azimuthTime") for one in points], geometry.track.epoch_utc)
    return out


@pytest.mark.parametrize("name", _PRODUCTS)
def test_solver_reproduces_the_grids_of_real_annotations(name: str, shared: Path, tmp_path: Path) -> None:
    root = parse(_annotation(shared, name, tmp_path))
    geometry = read_geometry(root)
    grid = _grid(root, geometry)
    points = surface(grid["longitude"], grid["latitude"]) + grid["height"][:, np.newaxis] * normal(grid["longitude"], grid["latitude"])
    place = np.empty((len(points), 4))
    project(points, geometry.frame, place)
    _, velocity = geometry.track.state(grid["t_s"])
    ground_m_s = np.linalg.norm(velocity, axis=1) * 6371.0 / 7071.0
    assert (np.abs(place[:, 2] - grid["t_s"]) * ground_m_s).max() <= _PRODUCTS[name]
    assert (np.abs(place[:, 0] - grid["line"]) * geometry.line_interval_s * ground_m_s).max() <= _PRODUCTS[name]
    # range to 0.4 mm: the grid's own digits of latitude and longitude
    assert np.abs(place[:, 3] - 0.5 * _C * grid["slantRangeTime"]).max() <= 4e-4
    # the grid uses the nearest record; ours blends, so it is given one record at a time here
    nearest = np.abs(geometry.record_s - grid["t_s"][:, np.newaxis]).argmin(axis=1)
    for record in np.unique(nearest):
        rows = nearest == record
        one = RangeRecords(geometry.record_s[[record]], geometry.range_m[[record]], geometry.pixel_spacing_m)
        alone = make_geometry(geometry.track, (geometry.lines, geometry.pixels), geometry.line_interval_s, one)
        miss_m = np.abs(alone.line_pixel(points[rows])[1] - grid["pixel"][rows]) * geometry.pixel_spacing_m
        last_row = grid["line"][rows] == geometry.lines - 1
        if name in _NO_RECORD_IN_LAST_ROW and last_row.any():
            assert miss_m[last_row].max() == pytest.approx(_NO_RECORD_IN_LAST_ROW[name], abs=0.1)
            miss_m = miss_m[~last_row]
        assert miss_m.max(initial=0.0) <= 0.002


@pytest.mark.parametrize("name", ["Rome", "9550"])
def test_points_of_the_image_are_those_of_the_grid(name: str, shared: Path, tmp_path: Path) -> None:
    """Image to ground: the right side, the place, the angle (geocentric in the grid, so up to 0.05 degrees from ours)."""
    root = parse(_annotation(shared, name, tmp_path))
    geometry = read_geometry(root)
    grid = _grid(root, geometry)
    points = geometry.ground_point(grid["line"], grid["pixel"], grid["height"])
    lon_deg, lat_deg, height_m = geodetic(points)
    np.testing.assert_allclose(height_m, grid["height"], atol=1e-5)
    # 25 m: the grid takes the nearest range record, the image the blend
    assert np.abs(lat_deg - grid["latitude"]).max() * 111e3 < 25.0
    assert np.abs(lon_deg - grid["longitude"]).max() * 111e3 < 25.0
    theta = incidence_deg(geometry.track, grid["t_s"], points)
    assert np.abs(theta - grid["incidenceAngle"]).max() < 0.05
    line, pixel = geometry.line_pixel(points)
    np.testing.assert_allclose(line, grid["line"], atol=1e-6)
    np.testing.assert_allclose(pixel, grid["pixel"], atol=1e-4)


@pytest.mark.parametrize("direction", ["ascending", "descending"])
@pytest.mark.parametrize(("lon", "lat", "incidence"), [(11.0, 48.0, 39.0), (-70.0, -33.0, 31.5), (179.9, 68.0, 45.0), (30.0, 0.3, 39.0)])
def test_own_orbit_sees_the_point_as_wanted(direction: str, lon: float, lat: float, incidence: float) -> None:
    target = (surface(np.array([lon]), np.array([lat])) + 300.0 * normal(np.array([lon]), np.array([lat])))[0]
    orbit = orbit_over(target, incidence, direction)
    position, velocity = orbit.state(np.array(0.0))
    sight = target - position
    assert abs(sight @ velocity) < 1.0  # of 6e9: broadside
    assert np.cross(velocity, position) @ sight > 0.0  # to the right
    up = normal(np.array(lon), np.array(lat))
    assert np.degrees(np.arccos(-(sight @ up) / np.linalg.norm(sight))) == pytest.approx(incidence, abs=1e-6)
    assert (velocity[2] > 0.0) == (direction == "ascending")
    assert 690e3 < geodetic(position)[2] < 730e3


def test_own_orbit_is_mechanics() -> None:
    """In the inertial frame the acceleration is gravity; the velocity is the position's derivative in the rotating one."""
    orbit = OwnOrbit(node_lon_rad=0.7, argument_rad=1.1)
    step_s = 0.5
    t_s = np.array([-step_s, 0.0, step_s])
    position, velocity = orbit.state(t_s)
    np.testing.assert_allclose((position[2] - position[0]) / (2.0 * step_s), velocity[1], atol=1e-3)
    turn = 7.292115e-5 * t_s
    inertial = np.stack(
        [
            np.cos(turn) * position[:, 0] - np.sin(turn) * position[:, 1],
            np.sin(turn) * position[:, 0] + np.cos(turn) * position[:, 1],
            position[:, 2],
        ],
        axis=1,
    )
    acceleration = (inertial[0] - 2.0 * inertial[1] + inertial[2]) / step_s**2
    gravity = -3.986004418e14 * inertial[1] / np.linalg.norm(inertial[1]) ** 3
    # the node's drift (2e-7 rad/s) adds 2 x 2e-7 x 7500 m/s
    np.testing.assert_allclose(acceleration, gravity, atol=4e-3)


def test_track_follows_the_orbit_between_vectors() -> None:
    orbit = OwnOrbit(node_lon_rad=-2.0, argument_rad=4.0)
    t_s = 10.0 * np.arange(-6.0, 8.0)
    track = fit_track(np.datetime64("2021-06-03T05:00:00", "us"), t_s, *orbit.state(t_s))
    between = np.linspace(-59.0, 69.0, 41)
    for got, want, tolerance in zip(track.state(between), orbit.state(between), (1e-5, 1e-7), strict=True):
        np.testing.assert_allclose(got, want, atol=tolerance)


def test_refuses_what_is_no_orbit() -> None:
    t_s = 10.0 * np.arange(14.0)
    position, velocity = OwnOrbit(node_lon_rad=0.0, argument_rad=0.0).state(t_s)
    with pytest.raises(InputError, match="too few"):
        fit_track(np.datetime64("2021-06-03", "us"), t_s[:9], position[:9], velocity[:9])
    position[5, 0] += 3.0
    with pytest.raises(InputError, match="off a smooth orbit"):
        fit_track(np.datetime64("2021-06-03", "us"), t_s, position, velocity)
    with pytest.raises(InputError, match="no Sentinel-1 orbit passes latitude 85"):
        orbit_over(surface(np.array([0.0]), np.array([85.0]))[0], 39.0, "ascending")


def test_ellipsoid_equals_proj() -> None:
    from pyproj import Transformer

    rng = np.random.default_rng(3)
    lon, lat, height = rng.uniform(-180, 180, 50), rng.uniform(-90, 90, 50), rng.uniform(-500, 9000, 50)
    x, y, z = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True).transform(lon, lat, height)
    points = surface(lon, lat) + height[:, np.newaxis] * normal(lon, lat)
    np.testing.assert_allclose(points, np.stack([x, y, z], axis=1), atol=1e-8)
    np.testing.assert_allclose(np.stack(geodetic(points)), np.stack([lon, lat, height]), atol=1e-8)
