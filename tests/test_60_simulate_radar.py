"""Facets, cells, layover and shadow of the simulator against brute force and conservation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import Transformer

from sarseg.grid import MapGrid
from sarseg.simulate.ellipsoid import geodetic, normal, surface
from sarseg.simulate.facets import spread, triangle_power
from sarseg.simulate.geometry import ImageGeometry, ground_point
from sarseg.simulate.landscape import Landscape, make_landscape
from sarseg.simulate.options import LandscapeOptions
from sarseg.simulate.plan import ScenePlan, make_plan
from sarseg.simulate.radar import Radar, make_radar
from sarseg.simulate.shadow import Visibility
from sarseg.simulate.terrain import Terrain, ground_points, map_nodes
from sarseg.tiles import Window


@pytest.mark.parametrize(
    ("lines", "pixels"),
    [
        ([0.2, 3.7, 1.9], [0.4, 1.1, 4.3]),  # over many cells
        ([2.1, 2.3, 2.2], [3.1, 3.2, 3.4]),  # inside one
        ([-3.0, 2.6, 1.2], [1.0, -2.5, 7.5]),  # out of the image on three sides
        ([1.0, 1.0, 4.0], [0.5, 3.5, 3.5]),  # edges along cell borders
        ([0.5, 2.5, 2.5], [1.5, 1.5, 2.5]),
        ([1.0, 3.0, 2.0000001], [1.0, 3.0, 2.0]),  # nearly a line
    ],
)
def test_overlap_equals_dense_sampling(lines: list[float], pixels: list[float]) -> None:
    x, y = np.array(lines), np.array(pixels)
    area = 0.5 * abs((x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]))
    image = np.zeros((2, 5, 7))
    spread(x, y, np.array([1.0, 10.0]), area, image)
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 400_000))
    a, b = np.where(a + b > 1.0, 1.0 - a, a), np.where(a + b > 1.0, 1.0 - b, b)
    row, col = (np.floor(v[0] + a * (v[1] - v[0]) + b * (v[2] - v[0]) + 0.5).astype(int) for v in (x, y))
    inside = (row >= 0) & (row < 5) & (col >= 0) & (col < 7)
    want = np.zeros((5, 7))
    np.add.at(want, (row[inside], col[inside]), 1.0 / len(a))
    np.testing.assert_allclose(image[0], want, atol=0.004)  # 5 sigma of 400000 samples
    np.testing.assert_allclose(image[1], 10.0 * image[0], rtol=1e-12)
    if inside.all():
        assert image[0].sum() == pytest.approx(1.0, abs=1e-7)


def test_many_triangles_keep_their_power() -> None:
    rng = np.random.default_rng(2)
    image, total = np.zeros((1, 40, 37)), 0.0
    for _ in range(3000):
        x, y = rng.uniform(5, 32) + rng.uniform(-2, 2, 3), rng.uniform(5, 30) + rng.uniform(-2, 2, 3)
        area = 0.5 * abs((x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]))
        weight = rng.random()
        spread(x, y, np.array([weight]), area, image)
        total += weight
    assert image.sum() == pytest.approx(total, rel=1e-9)
    assert image.min() >= 0.0


def test_power_of_a_facet() -> None:
    """A square metre tilted by 20 degrees towards a radar at 45: gamma0 of 25 degrees times the area seen."""
    tilt, look = np.radians(20.0), np.radians(45.0)
    sight = np.array([np.sin(look), 0.0, -np.cos(look)])  # the radar is in the west, above
    corners = np.array([[0.0, 0.0, 0.0], [np.cos(tilt), 0.0, np.sin(tilt)], [0.0, 2.0, 0.0]])
    weights = np.empty(3)
    triangle_power(corners, sight, np.array([0.5, 0.2]), np.array([-0.1, 0.0]), 1.0, weights)
    np.testing.assert_allclose(weights[:2], np.cos(np.radians(25.0)) * np.array([0.5 * 10 ** (0.01 * 14.0), 0.2]), rtol=1e-12)
    triangle_power(corners[[0, 2, 1]], sight, np.array([0.5, 0.2]), np.array([-0.1, 0.0]), 1.0, weights)
    assert (weights[:2] == 0.0).all()  # seen from behind


@dataclass(frozen=True)
class _Scene:
    landscape: Landscape
    plan: ScenePlan
    radar: Radar
    window: Window

    @property
    def geometry(self) -> ImageGeometry:
        return self.plan.geometry


def _scene(options: LandscapeOptions, direction: str = "ascending", incidence: float = 39.0, gamma0: float = 1.0) -> _Scene:
    """One class without slope everywhere, gamma0 as given."""
    land = make_landscape(options)
    forest = land.legend.codes[land.legend.names.index("forest")]
    land = replace(land, codes=np.full_like(land.codes, forest), gamma0_39=np.full_like(land.gamma0_39, gamma0))
    plan = make_plan(land, direction, incidence, ("VV",))  # type: ignore[arg-type]
    radar = make_radar(land, plan.geometry, ("VV",))
    return _Scene(land, plan, radar, Window.whole((plan.geometry.lines, plan.geometry.pixels)))


@pytest.mark.parametrize(
    ("direction", "incidence", "base_m"), [("ascending", 39.0, 0.0), ("descending", 31.0, 120.0), ("descending", 45.5, 0.0)]
)
def test_flat_ground_is_flat(direction: str, incidence: float, base_m: float) -> None:
    """gamma0 = beta0 tan(theta) of every cell is the class's, within 0.01 dB; at 120 m the table's angle (height 0) costs 0.003."""
    scene = _scene(LandscapeOptions(size_px=150, relief_m=0.0, base_m=base_m), direction, incidence, 0.2)
    image = scene.radar.power(scene.window)
    inside = np.abs(image[-1] - 1.0) < 1e-9
    assert 0.5 < inside.mean() < 0.9
    gamma0 = image[0] / scene.radar.cell_area_m2(scene.window) * np.tan(np.radians(scene.plan.incidence_deg))
    gamma0_db = 10.0 * np.log10(gamma0[inside] / 0.2)
    assert np.abs(gamma0_db).max() < 0.005
    assert np.ptp(gamma0_db) < 0.001


def test_cell_area_is_the_true_one() -> None:
    """Slant range step times the way along the ground between lines, by differences over a kilometre."""
    scene = _scene(LandscapeOptions(size_px=120, relief_m=0.0, base_m=0.0))
    geometry = scene.geometry
    middle = np.array(geometry.lines / 2.0), np.array(geometry.pixels / 2.0)
    window = Window(row=int(middle[0]), col=int(middle[1]), rows=1, cols=1)
    line, pixel = np.array(float(window.row)), np.array(float(window.col))
    step_m = float(geometry.slant_range_m(line, pixel + 0.5) - geometry.slant_range_m(line, pixel - 0.5))
    slant_m = geometry.slant_range_m(line, pixel)
    t_s = geometry.time_s(line, slant_m)
    ends = [ground_point(geometry.track, t_s + shift, slant_m, 0.0) for shift in (-0.05, 0.05)]
    along_m = float(np.linalg.norm(ends[1] - ends[0])) / 0.1 * geometry.line_interval_s
    # the ground track leans on lines of equal range by up to 3 mrad: 5e-6
    assert scene.radar.cell_area_m2(window)[0, 0] == pytest.approx(step_m * along_m, rel=2e-5)
    assert 9.9 < along_m < 10.1


@pytest.fixture(scope="module")
def steep() -> _Scene:
    return _scene(LandscapeOptions(size_px=210, steepest_deg=40.0, base_m=50.0, seed=5), "descending", 33.0)


def _facet_power(scene: _Scene) -> float:
    """Sum over the mesh by numpy: areas seen of all triangles that face the radar."""
    land, geometry = scene.landscape, scene.geometry
    window = Window.whole(land.grid.shape)
    points = ground_points(land.terrain, map_nodes(land.terrain, land.grid, window), window.shape)
    row, col = np.indices(window.shape)
    lean = (row + col) % 2 == 1
    nw, ne, sw, se = points[:-1, :-1], points[:-1, 1:], points[1:, :-1], points[1:, 1:]
    lean = lean[..., np.newaxis]
    halves = [(nw, sw, np.where(lean, ne, se)), (np.where(lean, ne, nw), np.where(lean, sw, se), np.where(lean, se, ne))]
    total = 0.0
    for a, b, c in halves:
        area = 0.5 * np.cross(b - a, c - a)
        middle = (a + b + c) / 3.0
        line, pixel = geometry.line_pixel(middle)
        position, _ = geometry.track.state(geometry.time_s(line, geometry.slant_range_m(line, pixel)))
        sight = middle - position
        sight /= np.linalg.norm(sight, axis=-1, keepdims=True)
        total += float(np.maximum(-np.sum(area * sight, axis=-1), 0.0).sum())
    return total


def test_slopes_conserve_power_and_cover(steep: _Scene) -> None:
    """All the facets' power is in the image; however folded, the inside is covered once (orientation counted)."""
    wide = steep.radar.extent()
    image = steep.radar.power(wide)
    assert image[0].sum() == pytest.approx(_facet_power(steep), rel=1e-6)
    assert steep.landscape.terrain.steepest_deg > 35.0
    inside = image[-1] > 0.5
    whole = np.abs(image[-1] - 1.0) < 1e-9
    assert np.abs(image[-1]).max() < 1.0 + 1e-9  # folded ground is there three times, and counts once
    # only cells on the landscape's rim are covered in part
    assert (inside & ~whole).sum() < 8 * 210
    assert whole.sum() > 0.8 * 210 * 210 / 1.05


def test_bright_slopes_face_the_radar(steep: _Scene) -> None:
    """A facet's gamma0-like brightness follows tan(theta) / tan(local): power of a cell against the local slope in range."""
    image = steep.radar.power(steep.window)
    gain = image[0] / steep.radar.cell_area_m2(steep.window) * np.tan(np.radians(steep.plan.incidence_deg))
    geometry, terrain = steep.geometry, steep.landscape.terrain
    line, pixel = np.meshgrid(np.arange(20.0, geometry.lines - 20.0, 7.0), np.arange(20.0, geometry.pixels - 20.0, 7.0), indexing="ij")
    # true range slope, from heights 15 m up and down range of the point that the cell shows
    height = np.full(line.shape, 100.0)
    for _ in range(30):
        lon, lat, _ = geodetic(geometry.ground_point(line, pixel, height))
        height = 0.5 * height + 0.5 * np.nan_to_num(terrain.height_at(lon, lat), nan=100.0)
    near, far = (terrain.height_at(*geodetic(geometry.ground_point(line, pixel + step, height))[:2]) for step in (-1.5, 1.5))
    slope = np.degrees(np.arctan2(far - near, 30.0))
    theta = steep.plan.incidence_deg[pixel.astype(int)]
    got = gain[line.astype(int), pixel.astype(int)]
    gentle = np.isfinite(slope) & (np.abs(slope) < 12.0) & (image[-1][line.astype(int), pixel.astype(int)] > 0.999)
    want = np.tan(np.radians(theta)) / np.tan(np.radians(theta - slope))
    correlation = np.corrcoef(np.log(got[gentle]), np.log(want[gentle]))[0, 1]
    assert gentle.sum() > 100
    assert correlation > 0.9


def _ridge(scene_land: Landscape, profile: NDArray[np.float64]) -> Terrain:
    """Terrain whose height depends on longitude only: a wall across the look direction (nearly)."""
    grid = scene_land.terrain.grid
    return Terrain(grid=grid, height_m=np.tile(profile.astype(np.float32), (grid.shape[0], 1)))


def _tent(land: Landscape, height_m: float, half_px: int) -> Landscape:
    cols = land.terrain.grid.shape[1]
    profile = np.maximum(0.0, height_m * (1.0 - np.abs(np.arange(cols) - cols // 2) / half_px))
    return replace(land, terrain=_ridge(land, profile))


def test_layover_adds_and_shadow_is_dark() -> None:
    """A ridge with slopes of 63 degrees: its near side lies over the foreland, its far side is dark, as geometry says."""
    base = _scene(LandscapeOptions(size_px=160, relief_m=0.0, base_m=0.0), "ascending", 39.0)
    land = _tent(base.landscape, 200.0, 10)
    plan = make_plan(land, "ascending", 39.0, ("VV",))
    radar = make_radar(land, plan.geometry, ("VV",))
    assert radar.shades
    window = Window.whole((plan.geometry.lines, plan.geometry.pixels))
    image = radar.power(window)
    gain = image[0] / radar.cell_area_m2(window) * np.tan(np.radians(plan.incidence_deg))
    row = plan.geometry.lines // 2
    # crest and feet on the ground track of this line, from the map
    line = np.full(4000, float(row))
    pixel = np.linspace(0.0, plan.geometry.pixels - 1.0, 4000)
    lon, lat, _ = geodetic(plan.geometry.ground_point(line, pixel, 0.0))
    foot = land.terrain.height_at(lon, lat)
    near_foot, far_foot = pixel[np.flatnonzero(foot > 1.0)[[0, -1]]]
    crest = pixel[np.nanargmax(foot)]
    theta = np.radians(plan.incidence_deg[int(crest)])
    crest_shown = crest - 200.0 / np.tan(theta) / 10.0
    assert crest_shown < near_foot - 3.0
    shadow_end = crest + 200.0 * np.tan(theta) / 10.0
    flat = gain[row, int(far_foot) + 25 : int(far_foot) + 45]
    np.testing.assert_allclose(flat, 1.0, atol=0.01)
    folded = gain[row, int(crest_shown) + 2 : int(near_foot) - 1]
    assert folded.min() > 1.5  # the foreland and the slope above it
    dark = np.flatnonzero(gain[row] < 0.02)
    dark = dark[(dark > near_foot) & (dark < far_foot + 60)]
    assert abs(dark[0] - near_foot) <= 2.0 + 1.0
    assert abs(dark[-1] - shadow_end) <= 2.0


def test_visibility_equals_a_walk_towards_the_radar() -> None:
    """For points on rough ground: dark when any point of the straight line to the radar lies under the terrain."""
    land = make_landscape(LandscapeOptions(size_px=220, steepest_deg=60.0, base_m=20.0, seed=9))
    plan = make_plan(land, "descending", 45.0, ("VV",))
    geometry = plan.geometry
    window = Window(row=40, col=0, rows=90, cols=geometry.pixels)
    visibility = Visibility(land.terrain, geometry, window)
    rng = np.random.default_rng(4)
    line, pixel = rng.integers(41, 129, 1500).astype(float), rng.uniform(60.0, geometry.pixels - 60.0, 1500)
    lon, lat, _ = geodetic(geometry.ground_point(line, pixel, 0.0))
    height = land.terrain.height_at(lon, lat)
    known = np.isfinite(height)
    points = surface(lon, lat) + height[:, np.newaxis] * normal(lon, lat)
    position, _ = geometry.track.state(geometry.time_s(line, geometry.slant_range_m(line, pixel)))
    sight = position - points
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    dark = np.zeros(len(line), bool)
    for step_m in np.arange(3.0, 1500.0, 3.0):
        lon, lat, up = geodetic(points + step_m * sight)
        dark |= land.terrain.height_at(lon, lat) > up + 0.05
    seen = visibility.at(line, pixel)
    clear = known & ((seen < 0.01) | (seen > 0.99))  # between are the borders, within half a cell
    assert 0.02 < dark[clear].mean() < 0.5
    assert (dark[clear] == (seen[clear] < 0.5)).mean() > 0.985
    assert clear.sum() > 0.9 * known.sum()


def test_power_does_not_depend_on_the_window() -> None:
    scene = _scene(LandscapeOptions(size_px=300, steepest_deg=55.0, seed=2), "ascending", 44.0)
    assert scene.radar.shades
    whole = scene.radar.power(scene.window)
    area = scene.radar.cell_area_m2(scene.window)
    for part in (Window(row=0, col=0, rows=37, cols=scene.window.cols), Window(row=101, col=0, rows=61, cols=scene.window.cols)):
        np.testing.assert_array_equal(scene.radar.power(part), whole[:, part.row : part.row_stop])
        np.testing.assert_allclose(scene.radar.cell_area_m2(part), area[part.row : part.row_stop], rtol=1e-12)


def test_map_pixels_lie_where_the_map_says() -> None:
    """One bright pixel of the map: the centroid of its power is the image of its centre."""
    scene = _scene(LandscapeOptions(size_px=140, relief_m=60.0, seed=3), "descending", 36.0)
    row, col = 83, 47
    gamma0 = np.full_like(scene.landscape.gamma0_39, 1e-9)
    gamma0[:, row, col] = 1.0
    land = replace(scene.landscape, gamma0_39=gamma0)
    image = make_radar(land, scene.geometry, ("VV",)).power(scene.window)[0]
    image[image < 1e-6] = 0.0
    got = [float((image * axis).sum() / image.sum()) for axis in np.indices(image.shape)]
    grid: MapGrid = land.grid
    x, y = grid.centres()
    lon, lat = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True).transform(x[col], y[row])
    height = land.terrain.height_at(np.array([lon]), np.array([lat]))
    point = surface(np.array([lon]), np.array([lat])) + height[:, np.newaxis] * normal(np.array([lon]), np.array([lat]))
    want = scene.geometry.line_pixel(point)
    # the facets' own slopes weigh the centroid by less than this
    assert got[0] == pytest.approx(want[0][0], abs=0.03)
    assert got[1] == pytest.approx(want[1][0], abs=0.03)
