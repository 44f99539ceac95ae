"""Majority by area across coordinate systems, against many points a pixel; purity; any block."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS

from sarseg.grid import MapGrid
from sarseg.labels.area import UNIT, add_areas
from sarseg.labels.resample import choose_rule, on_grid, pixel_ratio
from sarseg.labels.sources import LabelSource, open_labels
from sarseg.legend import Legend
from sarseg.tiles import Window

LEGEND = Legend.from_codes([1, 2, 3])
POINTS = 100  # a side: an area off by an edge through the pixel is off by less than 1 / POINTS


def labels_of(path: Path, grid: MapGrid, codes: NDArray[np.uint8]) -> LabelSource:
    with rasterio.open(
        path, "w", driver="GTiff", count=1, dtype="uint8", height=grid.shape[0], width=grid.shape[1], crs=grid.crs, transform=grid.transform
    ) as file:
        file.write(codes[np.newaxis])
    return open_labels(path, LEGEND)


@cache
def way(source: CRS, target: CRS) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def applied(matrix: Affine, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return matrix.a * x + matrix.b * y + matrix.c, matrix.d * x + matrix.e * y + matrix.f


def shares(codes: NDArray[np.uint8], source: MapGrid, target: MapGrid, pixel: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each value 0..255 of one target pixel, by points that PROJ takes into the source."""
    steps = (np.arange(POINTS) + 0.5) / POINTS
    col, row = np.meshgrid(pixel[1] + steps, pixel[0] + steps)
    x, y = applied(target.transform, col, row)
    x, y = way(target.crs, source.crs).transform(x, y)
    there_col, there_row = (np.floor(place).astype(int) for place in applied(~source.transform, x, y))
    inside = (there_row >= 0) & (there_row < source.shape[0]) & (there_col >= 0) & (there_col < source.shape[1])
    values = np.zeros(inside.shape, np.uint8)
    values[inside] = codes[there_row[inside], there_col[inside]]
    return np.bincount(values.ravel(), minlength=256) / values.size


GRIDS = {
    "degrees to UTM": (
        MapGrid(crs=CRS.from_epsg(4326), transform=Affine(1 / 12000, 0, 11.7003, 0, -1 / 12000, 48.2001), shape=(97, 131)),
        MapGrid(crs=CRS.from_epsg(32632), transform=Affine(25, 0, 700_650, 0, -25, 5_342_600), shape=(33, 27)),
        0.3,
    ),
    "LAEA to UTM, turned by degrees": (
        MapGrid(crs=CRS.from_epsg(3035), transform=Affine(100, 0, 5_500_000, 0, -100, 2_204_000), shape=(40, 40)),
        MapGrid(crs=CRS.from_epsg(32634), transform=Affine(230, 0, 770_200, 0, -310, 4_646_800), shape=(11, 15)),
        0.375,
    ),
    "UTM to a rotated raster of the same CRS": (
        MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 500_000, 0, -10, 5_000_000), shape=(60, 60)),
        MapGrid(crs=CRS.from_epsg(32633), transform=Affine(20, 7, 500_030, 5, -22, 4_999_970), shape=(25, 25)),
        0.462,
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_majority_by_area_equals_many_points_a_pixel(tmp_path: Path, name: str) -> None:
    source, target, ratio = GRIDS[name]
    rng = np.random.default_rng(3)
    codes = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), source.shape, p=[0.1, 0.3, 0.25, 0.25, 0.1])
    labels = labels_of(tmp_path / "a.tif", source, codes)
    assert choose_rule(source, target) == "majority"
    assert pixel_ratio(source, target) == pytest.approx(ratio, rel=0.05)
    got = on_grid(labels, target, Window.whole(target.shape), "majority")
    pure = on_grid(labels, target, Window.whole(target.shape), "majority", min_purity=0.5)
    judged = {"class": 0, "ignored": 0, "empty": 0}
    places = rng.permutation(np.array(list(np.ndindex(*target.shape))))[:150]
    for place in map(tuple, places.tolist()):
        share = shares(codes, source, target, place)
        (best, second), most = np.sort(share[1:4])[:-3:-1], int(share[1:4].argmax()) + 1
        if best == 0:
            assert got[place] == (255 if share[255] else 0)
            judged["empty"] += 1
        elif best - second > 0.04:
            assert got[place] == most
            judged["class"] += 1
            if abs(best - 0.5) > 0.02:
                assert pure[place] == (most if best > 0.5 else 255)
                judged["ignored"] += best < 0.5
    assert min(judged["class"], judged["ignored"]) > 20, judged


def test_areas_themselves_are_right_to_the_points_error() -> None:
    """Every class of every pixel, a lattice turned by 30 degrees; the sum of a covered pixel is one."""
    rng = np.random.default_rng(5)
    turn = Affine.translation(-3, -5) @ Affine.rotation(30) @ Affine.scale(0.7, 0.45)
    places = rng.integers(-1, 3, (50, 30)).astype(np.int16)
    col, row = np.meshgrid(np.arange(31.0), np.arange(51.0))
    across, down = applied(turn, col, row)
    areas = np.zeros((7, 6, 3), np.int64)
    add_areas(down, across, places, (1, -2), areas)
    steps = (np.arange(POINTS) + 0.5) / POINTS
    for (r, c), _ in np.ndenumerate(areas[..., 0]):
        x, y = np.meshgrid(c - 2 + steps, r + 1 + steps)
        at_col, at_row = (np.floor(place).astype(int) for place in applied(~turn, x, y))
        inside = (at_row >= 0) & (at_row < 50) & (at_col >= 0) & (at_col < 30)
        found = np.where(inside, places[at_row.clip(0, 49), at_col.clip(0, 29)], -1)
        want = [np.mean(found == place) for place in range(3)]
        np.testing.assert_allclose(areas[r, c] / UNIT, want, atol=2.0 / POINTS)
    full = np.zeros((7, 6, 3), np.int64)
    add_areas(down, across, np.zeros_like(places), (5, 0), full)
    np.testing.assert_allclose(full[:4, :3, 0] / UNIT, 1.0, atol=1e-10)


def test_any_window_gives_the_same_bits(tmp_path: Path) -> None:
    source, target, _ = GRIDS["degrees to UTM"]
    codes = np.random.default_rng(8).choice(np.array([0, 1, 2, 255], np.uint8), source.shape)
    labels = labels_of(tmp_path / "a.tif", source, codes)
    whole = on_grid(labels, target, Window.whole(target.shape), "majority")
    for window in (Window(row=0, col=0, rows=1, cols=1), Window(row=7, col=11, rows=13, cols=9), Window(row=20, col=0, rows=13, cols=27)):
        np.testing.assert_array_equal(on_grid(labels, target, window, "majority"), whole[window.slices])


def test_purity_counts_ignore_and_what_lies_outside(tmp_path: Path) -> None:
    grid = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 0, 0, -10, 100), shape=(4, 8))
    codes = np.array([[1, 1, 1, 1, 2, 2, 1, 1], [1, 1, 1, 255, 2, 3, 0, 1], [1] * 8, [2] * 8], np.uint8)
    labels = labels_of(tmp_path / "a.tif", grid, codes)
    target = MapGrid(crs=grid.crs, transform=Affine(20, 0, 0, 0, -20, 100), shape=(2, 4))
    wants = {None: [[1, 1, 2, 1], [255] * 4], 0.75: [[1, 1, 2, 1], [255] * 4], 0.76: [[1, 255, 255, 255], [255] * 4]}
    for purity, want in wants.items():
        np.testing.assert_array_equal(on_grid(labels, target, Window.whole((2, 4)), "majority", min_purity=purity), want)
    over_the_edge = MapGrid(crs=grid.crs, transform=Affine(40, 0, 40, 0, -40, 140), shape=(1, 2))
    assert on_grid(labels, over_the_edge, Window.whole((1, 2)), "majority").tolist() == [[0, 0]]
    half = MapGrid(crs=grid.crs, transform=Affine(20, 0, -10, 0, -20, 100), shape=(1, 1))
    assert on_grid(labels, half, Window.whole((1, 1)), "majority").tolist() == [[1]]
    assert on_grid(labels, half, Window.whole((1, 1)), "majority", min_purity=0.6).tolist() == [[255]]
