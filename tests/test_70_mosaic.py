"""Mosaics against brute force: votes, order, grids, two UTM zones, refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from sarseg.cli.main import run
from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.legend import LandClass, Legend
from sarseg.mosaic.composite import MosaicOptions, mosaic, union_grid
from sarseg.mosaic.fuse import Observation, fuse
from sarseg.product.landcover import MapSpec, create_map
from sarseg.product.open import open_map
from sarseg.tiles import Window

LEGEND = Legend(tuple(LandClass(code=c, name=n, color=(c, 2 * c, 255 - c)) for c, n in ((2, "water"), (5, "crop"), (40, "forest"))))
CODES = np.array(LEGEND.codes, np.uint8)
ZONE_32, ZONE_33 = CRS.from_epsg(32632), CRS.from_epsg(32633)


def write_map(
    folder: Path,
    grid: MapGrid,
    *,
    seed: int,
    legend: Legend = LEGEND,
    date: str = "2024-01-01T00:00:00Z",
    probabilities: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A random map with a fifth of nodata; returns codes and confidence."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(np.array(legend.codes, np.uint8), grid.shape)
    confidence = rng.integers(85, 256, grid.shape, dtype=np.uint8) // 5 * 5  # steps of 5: ties occur
    empty = rng.random(grid.shape) < 0.2
    codes[empty] = confidence[empty] = 0
    layers = frozenset({"probabilities"} if probabilities else ())
    chance = rng.dirichlet([1.0] * len(legend.codes), grid.shape).transpose(2, 0, 1)
    more = {"probabilities": (chance * 65535).astype(np.uint16)} if probabilities else {}
    with create_map(folder, MapSpec(id=folder.name, grid=grid, legend=legend, layers=layers)) as writer:
        writer.write(Window.whole(grid.shape), codes, confidence, **more)
        writer.describe(datetimes_utc=[date], properties={}, warnings=[])
    return codes, confidence


def utm(crs: CRS, left: float, top: float, shape: tuple[int, int], spacing: float = 10.0) -> MapGrid:
    return MapGrid(crs=crs, transform=Affine(spacing, 0, left, 0, -spacing, top), shape=shape)


def vote(seen: list[tuple[int, int]]) -> tuple[int, int, int]:
    """Brute force of one pixel: (code, confidence) of each map -> (code, confidence, count)."""
    seen = [(code, confidence) for code, confidence in seen if code]
    if not seen:
        return 0, 0, 0
    votes = {int(code): sum(c for k, c in seen if k == code) for code in CODES}
    best = max(votes.values())
    code = min(k for k, v in votes.items() if v == best)
    return code, math.floor(best / len(seen) + 0.5), len(seen)


def read_all(folder: Path) -> list[NDArray[np.uint8]]:
    found = []
    for name in ("landcover.tif", "confidence.tif", "count.tif"):
        with rasterio.open(folder / name) as file:
            found.append(file.read(1))
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[MapGrid, NDArray[np.uint8], NDArray[np.uint8]]]]:
    """Three overlapping maps of one lattice, the second across two blocks."""
    folder = tmp_path_factory.mktemp("maps")
    grids = [
        utm(ZONE_33, 500_000, 4_600_000, (60, 90)),
        utm(ZONE_33, 500_400, 4_600_200, (75, 600)),
        utm(ZONE_33, 499_900, 4_599_800, (50, 81)),
    ]
    made = [write_map(folder / name, grid, seed=at) for at, (name, grid) in enumerate(zip("cab", grids, strict=True))]
    return folder, [(grid, *one) for grid, one in zip(grids, made, strict=True)]


def test_mosaic_equals_brute_force(three: tuple[Path, list], tmp_path: Path) -> None:  # type: ignore[type-arg]
    folder, maps = three
    out = mosaic([folder / name for name in "cab"], tmp_path / "all")
    left, top = 499_900, 4_600_200
    right = max(g.transform.c + 10 * g.shape[1] for g, _, _ in maps)
    bottom = min(g.transform.f - 10 * g.shape[0] for g, _, _ in maps)
    rows, cols = round((top - bottom) / 10), round((right - left) / 10)
    codes, confidence, count = read_all(out)
    assert codes.shape == (rows, cols)
    expected = np.zeros((3, rows, cols), np.uint8)
    for r, c in np.ndindex(rows, cols):
        seen = []
        for grid, code, sure in maps:
            i, j = r - round((top - grid.transform.f) / 10), c - round((grid.transform.c - left) / 10)
            if 0 <= i < grid.shape[0] and 0 <= j < grid.shape[1]:
                seen.append((int(code[i, j]), int(sure[i, j])))
        expected[:, r, c] = vote(seen)
    np.testing.assert_array_equal(codes, expected[0])
    np.testing.assert_array_equal(confidence, expected[1])
    np.testing.assert_array_equal(count, expected[2])
    assert count.max() == 3
    item = json.loads((out / "item.json").read_text())["properties"]
    assert item["sarseg:sources"] == ["a", "b", "c"]
    assert item["sarseg:fused_by"] == "confidence"
    for name in ("landcover.tif", "confidence.tif", "count.tif"):
        assert cog_validate(out / name, strict=True)[0]
    found = open_map(out)
    assert found.legend == LEGEND
    assert found.grid.crs == ZONE_33


def test_order_and_workers_change_no_byte(three: tuple[Path, list], tmp_path: Path) -> None:  # type: ignore[type-arg]
    folder, _ = three
    first = mosaic([folder / name for name in "abc"], tmp_path / "1" / "mosaic", MosaicOptions(workers=1))
    for at, order in enumerate(("cba", "bac"), start=2):
        again = mosaic([folder / name for name in order], tmp_path / str(at) / "mosaic", MosaicOptions(workers=3))
        names = sorted(path.name for path in first.iterdir())
        assert sorted(path.name for path in again.iterdir()) == names
        for name in names:
            assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_one_map_stays_what_it_is(three: tuple[Path, list], tmp_path: Path) -> None:  # type: ignore[type-arg]
    folder, maps = three
    codes, confidence, count = read_all(mosaic([folder / "c"], tmp_path / "one"))
    np.testing.assert_array_equal(codes, maps[0][1])
    np.testing.assert_array_equal(confidence, maps[0][2])
    np.testing.assert_array_equal(count, (maps[0][1] > 0).astype(np.uint8))


def test_two_zones_are_reprojected_to_the_nearest_pixel(tmp_path: Path) -> None:
    """Brute force: each output pixel's centre through PROJ into the other zone, the pixel in which it falls."""
    to_33 = Transformer.from_crs(ZONE_32, ZONE_33, always_xy=True)
    x, y = to_33.transform(761_000, 4_650_000)
    own = utm(ZONE_33, round(x / 10) * 10, round(y / 10) * 10, (70, 80))
    other = utm(ZONE_32, 760_800, 4_650_200, (64, 55), spacing=12.0)
    code_a, sure_a = write_map(tmp_path / "a", own, seed=1)
    code_b, sure_b = write_map(tmp_path / "b", other, seed=2)
    out = mosaic([tmp_path / "b", tmp_path / "a"], tmp_path / "out")
    grid = open_map(out).grid
    assert grid.crs == ZONE_33
    assert grid.offset_of(own) is not None, "the mosaic lies on the lattice of the map with the most pixels"
    codes, confidence, count = read_all(out)
    back = Transformer.from_crs(ZONE_33, ZONE_32, always_xy=True)
    shared = 0
    for r, c in np.ndindex(grid.shape):
        px, py = grid.transform @ (c + 0.5, r + 0.5)
        seen = []
        for own_grid, code, sure, (qx, qy) in ((own, code_a, sure_a, (px, py)), (other, code_b, sure_b, back.transform(px, py))):
            j, i = (math.floor(v) for v in ~own_grid.transform @ (qx, qy))
            if 0 <= i < own_grid.shape[0] and 0 <= j < own_grid.shape[1]:
                seen.append((int(code[i, j]), int(sure[i, j])))
        shared += len(seen) == 2
        assert (codes[r, c], confidence[r, c], count[r, c]) == vote(seen), (r, c)
    assert shared > 1000
    assert "resampled to the nearest pixel: b" in json.loads((out / "item.json").read_text())["properties"]["sarseg:warnings"][0]


def test_every_pixel_of_a_reprojected_map_lies_in_the_union(tmp_path: Path) -> None:
    grids = [utm(ZONE_33, 260_000, 4_650_000, (40, 50)), utm(ZONE_32, 757_000, 4_651_000, (30, 35))]
    for name, grid in zip("ab", grids, strict=True):
        write_map(tmp_path / name, grid, seed=3)
    union = union_grid([open_map(tmp_path / name) for name in "ab"])
    to_33 = Transformer.from_crs(ZONE_32, ZONE_33, always_xy=True)
    x, y = np.meshgrid(757_000 + 10 * np.arange(36), 4_651_000 - 10 * np.arange(31))
    left, bottom, right, top = union.bounds
    px, py = to_33.transform(x, y)
    assert px.min() >= left - 1e-3
    assert px.max() <= right + 1e-3
    assert py.min() >= bottom - 1e-3
    assert py.max() <= top + 1e-3


def test_probabilities_are_summed_when_all_maps_have_them(tmp_path: Path) -> None:
    grid = utm(ZONE_33, 500_000, 4_600_000, (30, 44))
    for at, name in enumerate("ab"):
        write_map(tmp_path / name, grid, seed=at, probabilities=True)
    out = mosaic([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    total, count = np.zeros((3, 30, 44), np.int64), np.zeros((30, 44), np.int64)
    for name in "ab":
        there = open_map(tmp_path / name).codes() > 0
        with rasterio.open(tmp_path / name / "probabilities.tif") as file:
            total += file.read().astype(np.int64) * there
        count += there
    codes, confidence, _ = read_all(out)
    np.testing.assert_array_equal(codes, np.where(count > 0, CODES[total.argmax(0)], 0))
    mean = total.max(0) / np.maximum(count, 1) / 257
    np.testing.assert_allclose(confidence, np.where(count > 0, mean, 0), atol=0.5)
    assert json.loads((out / "item.json").read_text())["properties"]["sarseg:fused_by"] == "probability"


def test_ties_go_to_the_first_class() -> None:
    index = [np.array([[2, 1]], np.uint8), np.array([[0, 2]], np.uint8)]
    sure = np.array([[100, 80]], np.uint8)
    for order in ((0, 1), (1, 0)):
        fused = fuse([Observation(index[at], sure) for at in order], classes=3, shape=(1, 2))
        np.testing.assert_array_equal(fused.index, [[0, 1]])
        np.testing.assert_array_equal(fused.confidence, [[50, 40]])


def test_far_maps_and_other_legends_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_map(tmp_path / "rome", utm(ZONE_33, 290_000, 4_640_000, (30, 40)), seed=1)
    write_map(tmp_path / "lima", utm(CRS.from_epsg(32718), 280_000, 8_660_000, (30, 40)), seed=1)
    write_map(tmp_path / "oslo", utm(ZONE_32, 600_000, 6_640_000, (30, 40)), seed=1)
    for other in ("lima", "oslo"):
        assert run(["mosaic", str(tmp_path / "rome"), str(tmp_path / other), "-o", str(tmp_path / "out")]) == 3
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "too far apart" in error or "does not fit the CRS" in error
    renamed = Legend(tuple(LandClass(code=c.code, name=c.name.upper(), color=c.color) for c in LEGEND.classes))
    write_map(tmp_path / "loud", utm(ZONE_33, 290_000, 4_640_000, (30, 40)), seed=1, legend=renamed)
    with pytest.raises(InputError, match="the legends differ: 2 WATER"):
        mosaic([tmp_path / "rome", tmp_path / "loud"], tmp_path / "out")
    with pytest.raises(UsageError, match="no maps"):
        mosaic([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_maps_without_crs_fuse_only_on_one_grid(tmp_path: Path) -> None:
    plain = MapGrid(crs=None, transform=Affine.identity(), shape=(20, 31))
    for at, name in enumerate("ab"):
        write_map(tmp_path / name, plain, seed=at)
    assert open_map(mosaic([tmp_path / "a", tmp_path / "b"], tmp_path / "out")).grid == plain
    write_map(tmp_path / "c", MapGrid(crs=None, transform=Affine.identity(), shape=(20, 30)), seed=4)
    write_map(tmp_path / "d", utm(ZONE_33, 290_000, 4_640_000, (20, 31)), seed=5)
    for other in "cd":
        with pytest.raises(InputError, match="without CRS"):
            mosaic([tmp_path / "a", tmp_path / other], tmp_path / "no")


def test_distant_maps_of_one_region_leave_blocks_between_them_empty(tmp_path: Path) -> None:
    grids = [utm(ZONE_33, 500_000, 4_600_000, (300, 300)), utm(ZONE_33, 512_000, 4_588_000, (310, 290))]
    codes = [write_map(tmp_path / name, grid, seed=at)[0] for at, (name, grid) in enumerate(zip("ab", grids, strict=True))]
    out = mosaic([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    got, _, count = read_all(out)
    assert got.shape == (1510, 1490)
    np.testing.assert_array_equal(got[:300, :300], codes[0])
    np.testing.assert_array_equal(got[1200:, 1200:], codes[1])
    assert count.sum() == sum(int((one > 0).sum()) for one in codes)


def test_command_prints_the_map(three: tuple[Path, list], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[type-arg]
    folder, _ = three
    assert run(["--quiet", "mosaic", str(folder / "a"), str(folder / "b"), "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"map": str(tmp_path / "out")}
