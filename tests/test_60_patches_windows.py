"""Windows and the split by space: properties over sizes from 1, and brute force on pixels."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from affine import Affine
from hypothesis import assume, example, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from rasterio.crs import CRS
from scipy.spatial import cKDTree

from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid, transform_points
from sarseg.patches.split import PatchOptions, folder_options, split_scenes
from sarseg.patches.windows import (
    NONE,
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    RandomWindows,
    SplitPlan,
    check_size,
    grid_windows,
    grounds,
    leak_check,
    leaks,
    shares,
    window_boxes,
)
from sarseg.rng import generator

UTM33, UTM34, LONLAT = CRS.from_epsg(32633), CRS.from_epsg(32634), CRS.from_epsg(4326)


def image(left: float, top: float, shape: tuple[int, int], spacing: float = 10.0, crs: CRS | None = UTM33) -> MapGrid:
    transform = Affine.identity() if crs is None else Affine(spacing, 0, left, 0, -spacing, top)
    return MapGrid(crs=crs, transform=transform, shape=shape)


@given(rows=st.integers(1, 40), cols=st.integers(1, 40), size=st.integers(1, 40), stride=st.integers(1, 50))
def test_grid_windows_cover_and_stay_inside(rows: int, cols: int, size: int, stride: int) -> None:
    assume(size <= min(rows, cols))
    covered = np.zeros((rows, cols), bool)
    for row, col in grid_windows((rows, cols), size, stride):
        assert 0 <= row <= rows - size
        assert 0 <= col <= cols - size
        covered[row : row + size, col : col + size] = True
    assert covered[-1, -1]
    assert covered[0, 0]
    assert stride > size or covered.all()


@given(rows=st.integers(1, 30), cols=st.integers(1, 30), size=st.integers(1, 30), seed=st.integers(0, 5))
def test_random_windows_are_all_positions_once(rows: int, cols: int, size: int, seed: int) -> None:
    assume(size <= min(rows, cols))
    windows = RandomWindows((rows, cols), size, generator(seed))
    parts = [windows.draw(7) for _ in range(windows.positions // 7 + 2)]
    given_ones = [tuple(place) for part in parts for place in part.tolist()]
    want = {(row, col) for row in range(rows - size + 1) for col in range(cols - size + 1)}
    assert len(given_ones) == windows.positions
    assert set(given_ones) == want


def test_random_windows_of_a_large_image_are_different_and_even() -> None:
    shape, size = (9001, 7003), 256
    windows = RandomWindows(shape, size, generator(3))
    drawn = np.concatenate([windows.draw(30_000), windows.draw(10_000)])
    assert len(np.unique(drawn, axis=0)) == 40_000
    assert drawn.min() >= 0
    assert (drawn.max(0) <= [shape[0] - size, shape[1] - size]).all()
    # 40,000 draws over 20 bands of rows: 2,000 each, standard deviation 44
    counts = np.histogram(drawn[:, 0], 20, (0, shape[0] - size + 1))[0]
    assert np.abs(counts - 2000).max() < 5 * 44
    again = RandomWindows(shape, size, generator(3))
    np.testing.assert_array_equal(again.draw(30_000), drawn[:30_000])


@given(total=st.integers(0, 500), weights=st.lists(st.integers(0, 10**9), min_size=1, max_size=9))
def test_shares_add_up(total: int, weights: list[int]) -> None:
    found = shares(total, weights)
    assert sum(found) == (total if sum(weights) else 0)
    assert all(count >= 0 for count in found)
    assert all(count == 0 for count, weight in zip(found, weights, strict=True) if weight == 0)
    if total >= len(weights):
        assert all(count > 0 for count, weight in zip(found, weights, strict=True) if weight)


def test_seven_images_give_the_whole_count() -> None:
    assert shares(80000, [5] * 7) == [11429] * 4 + [11428] * 3


def test_small_image_is_told() -> None:
    check_size((64, 70), 64, "a.png")
    with pytest.raises(InputError, match=r"63 x 70 pixels are less than a patch of 64 x 64 \[a.png\]"):
        check_size((63, 70), 64, "a.png")


@given(
    block=st.integers(1, 25),
    guard=st.integers(0, 8),
    size=st.integers(1, 9),
    share=st.sampled_from([0.0, 0.2, 0.5]),
    seed=st.integers(0, 9),
    origin=st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
    region=st.booleans(),
)
@limits(max_examples=80)
def test_split_keeps_the_guard_on_every_pixel(
    block: int, guard: int, size: int, share: float, seed: int, origin: tuple[int, int], region: bool
) -> None:
    """All windows of a 37 x 29 image, pixel by pixel: in one block system, and no pixel of two splits within the guard."""
    grid = image(origin[0], origin[1], (37, 29), spacing=1.0)
    bounds = (origin[0] + 5.0, origin[1] - 20.0, origin[0] + 17.0, origin[1] - 3.0) if region else None
    plan = SplitPlan(crs=UTM33, block_m=block, guard_m=guard, seed=seed, val_share=share, test_bounds=bounds)
    positions = grid_windows(grid.shape, size, 1)
    split = plan.split_of(window_boxes(grid, positions, (size, size), UTM33))
    painted = {number: np.zeros(grid.shape, bool) for number in (TRAIN, VAL, TEST)}
    for (row, col), number in zip(positions.tolist(), split.tolist(), strict=True):
        if number != NONE:
            painted[number][row : row + size, col : col + size] = True
    x, y = grid.centres()
    block_col, block_row = np.floor(x / block).astype(np.int64), np.floor(y / block).astype(np.int64)
    validates = plan.validates(*np.meshgrid(block_row, block_col, indexing="ij"))
    assert not (painted[TRAIN] & validates).any()
    assert not (painted[VAL] & ~validates).any()
    if share == 0.0:
        assert not painted[VAL].any()
    train = np.argwhere(painted[TRAIN])
    others = np.argwhere(painted[VAL] | painted[TEST])
    if len(train) and len(others):
        # gap between the edges of two pixels, in the larger of both axes: distance of centres less one
        gap = cKDTree(train).query(others, p=np.inf)[0].min() - 1
        assert gap >= guard
    if region:
        inside = (x > bounds[0]) & (x < bounds[2]) if bounds else x
        assert not painted[TEST][:, ~inside].any()
        assert not painted[TRAIN][np.ix_((y > bounds[1] - guard) & (y < bounds[3] + guard), inside)].any() if bounds else True


def test_a_window_is_used_wherever_the_rule_allows() -> None:
    """The rule is not only safe: a window whose surroundings hold one split only is never refused."""
    plan = SplitPlan(crs=UTM33, block_m=20, guard_m=6, seed=1, val_share=0.3)
    grid = image(0, 0, (200, 160), spacing=1.0)
    positions = grid_windows(grid.shape, 7, 3)
    split = plan.split_of(window_boxes(grid, positions, (7, 7), UTM33))
    for (row, col), number in zip(positions.tolist(), split.tolist(), strict=True):
        ys, xs = -(np.arange(row - 3, row + 7 + 3) + 0.5), np.arange(col - 3, col + 7 + 3) + 0.5
        around = plan.validates(*np.meshgrid(np.floor(ys / 20).astype(np.int64), np.floor(xs / 20).astype(np.int64), indexing="ij"))
        want = VAL if around.all() else TRAIN if not around.any() else NONE
        assert number == want
    assert {TRAIN, VAL, NONE} == set(split.tolist())


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35])
def test_blocks_reach_their_share_everywhere(share: float) -> None:
    for seed in range(20):
        plan = SplitPlan(crs=UTM33, block_m=1, guard_m=0, seed=seed, val_share=share)
        row, col = np.meshgrid(np.arange(-8, 12), np.arange(1000, 1020), indexing="ij")
        assert abs(plan.validates(row, col).mean() - share) < 0.03
        small = plan.validates(row[:6, :5], col[:6, :5])
        assert small.any()
        assert not small.all()


@given(seed=st.integers(0, 200), guard=st.sampled_from([0.0, 1.0, 3.5, 10.0]))
def test_leaks_equal_brute_force(seed: int, guard: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(-30, 30, (40, 2)).astype(float)
    boxes = np.concatenate([corner, corner + rng.integers(1, 9, (40, 2))], axis=1)
    split = rng.integers(0, 4, 40).astype(np.int8)
    want = np.zeros(40, bool)
    for at in range(40):
        for other in range(40):
            if split[at] in (VAL, TEST) and split[other] == TRAIN:
                across = max(boxes[at, 0] - boxes[other, 2], boxes[other, 0] - boxes[at, 2])
                along = max(boxes[at, 1] - boxes[other, 3], boxes[other, 1] - boxes[at, 3])
                want[at] |= max(across, along) < guard
    np.testing.assert_array_equal(leaks(boxes, split, guard), want)
    if want.any():
        with pytest.raises(InputError, match=f"{want.sum()} validation or test patches lie within"):
            leak_check(boxes, split, guard)
    else:
        leak_check(boxes, split, guard)


def test_same_ground_has_the_same_split_in_another_zone() -> None:
    """Two images of one place, in two UTM zones: dense points of training windows of either keep the guard to the other's."""
    first = image(690_000, 5_000_000, (900, 800), crs=UTM33)
    x, y = transform_points(UTM33, UTM34, np.array([690_000.0]), np.array([5_000_000.0]))
    second = image(float(x[0]), float(y[0]), (850, 830), crs=UTM34)
    options = PatchOptions(size=32, block_m=1200, guard_m=150, val_share=0.3, seed=4)
    splitters = split_scenes([first, second], ["a", "b"], options)
    assert splitters[0].plan == splitters[1].plan
    points: dict[int, list[np.ndarray]] = {TRAIN: [], VAL: []}
    for grid, splitter in zip((first, second), splitters, strict=True):
        positions = grid_windows(grid.shape, 32, 16)
        split = splitter(grid, positions, 32)
        rows, cols = np.meshgrid(np.linspace(0, 32, 17), np.linspace(0, 32, 17), indexing="ij")
        for number in (TRAIN, VAL):
            chosen = positions[split == number]
            assert len(chosen) > 50
            px, py = chosen[:, 1, None] + cols.ravel(), chosen[:, 0, None] + rows.ravel()
            mx, my = grid.transform.c + 10.0 * px, grid.transform.f - 10.0 * py
            assert grid.crs is not None
            points[number].append(np.stack(transform_points(grid.crs, UTM33, mx.ravel(), my.ravel()), axis=1))
    train, val = np.concatenate(points[TRAIN]), np.concatenate(points[VAL])
    gap = cKDTree(train).query(val, p=np.inf)[0].min()
    assert 150 - 1e-3 <= gap < 150 + 60  # kept, and not kept by throwing everything away


def test_whole_scenes_are_held_out_with_their_guard() -> None:
    grids = [image(600_000, 5_000_000, (300, 300)), image(602_000, 5_001_000, (300, 300)), image(900_000, 5_000_000, (300, 300))]
    options = PatchOptions(size=20, block_m=500, guard_m=200, val_scenes=("b",))
    first, second, third = split_scenes(grids, ["a", "b", "c"], options)
    positions = grid_windows((300, 300), 20, 7)
    assert set(second(grids[1], positions, 20).tolist()) == {VAL}
    assert set(third(grids[2], positions, 20).tolist()) == {TRAIN}
    split = first(grids[0], positions, 20)
    boxes = first.boxes(grids[0], positions, 20)
    left, bottom, _, _ = grids[1].bounds
    near = (boxes[:, 2] > left - 200) & (boxes[:, 3] > bottom - 200)
    np.testing.assert_array_equal(split, np.where(near, NONE, TRAIN))
    with pytest.raises(UsageError, match="no scene d"):
        split_scenes(grids, ["a", "b", "c"], PatchOptions(val_scenes=("d",)))
    with pytest.raises(UsageError, match="cannot validate and test"):
        PatchOptions(val_scenes=("a",), test_scenes=("a",))


def test_random_split_leaks_but_spares_the_test_region() -> None:
    grid = image(600_000, 5_000_000, (400, 500))
    bounds = (600_000.0, 4_997_000.0, 601_000.0, 4_999_000.0)
    options = PatchOptions(size=16, split="random", val_share=0.25, guard_m=100, test_bounds=bounds)
    (splitter,) = split_scenes([grid], ["a"], options)
    positions = grid_windows(grid.shape, 16, 8)
    split, boxes = splitter(grid, positions, 16), splitter.boxes(grid, positions, 16)
    share = (split == VAL).sum() / ((split == VAL) | (split == TRAIN)).sum()
    assert abs(share - 0.25) < 0.04
    inside = (boxes[:, 0] >= bounds[0]) & (boxes[:, 1] >= bounds[1]) & (boxes[:, 2] <= bounds[2]) & (boxes[:, 3] <= bounds[3])
    assert (split[inside] == TEST).all()
    found = leaks(boxes, split, 100)
    assert not found[split == TEST].any()
    assert found[split == VAL].mean() > 0.99
    # a window's split depends on the window, not on the order in which windows are asked for
    np.testing.assert_array_equal(splitter(grid, positions[::-1], 16)[::-1], split)


def test_rulers_and_groups() -> None:
    web = MapGrid(crs=CRS.from_epsg(3857), transform=Affine(10, 0, 1_700_000, 0, -10, 6_000_000), shape=(50, 60))
    degrees = MapGrid(crs=LONLAT, transform=Affine(1e-4, 0, 15.3, 0, -1e-4, 47.4), shape=(50, 60))
    far = image(600_000, 1_000_000, (50, 60))
    plain = image(0, 0, (50, 60), crs=None)
    found = grounds([web, degrees, far, plain, plain], reach_m=20_000)
    assert [one.group for one in found] == [0, 0, 2, 3, 4]
    assert found[0].crs == UTM33  # web mercator's metre is 0.67 m here, a degree is none
    assert found[1].crs == UTM33
    assert found[2].crs == UTM33
    assert found[3].crs is None
    east = MapGrid(crs=LONLAT, transform=Affine(1e-3, 0, 179.95, 0, -1e-3, 10.0), shape=(50, 49))
    west = MapGrid(crs=LONLAT, transform=Affine(1e-3, 0, -179.99, 0, -1e-3, 10.0), shape=(50, 49))
    assert [one.group for one in grounds([east, west], reach_m=10_000)] == [0, 0]
    assert [one.group for one in grounds([east, west], reach_m=500)] == [0, 1]


@given(seed=st.integers(0, 300), reach=st.sampled_from([0.0, 30_000.0, 200_000.0]))
@example(seed=191, reach=200_000.0)  # a box whose widened edge crosses the date line
@limits(max_examples=40)
def test_groups_equal_brute_force(seed: int, reach: float) -> None:
    """Boxes in degrees around the date line: the grouping of all pairs, one by one."""
    rng = np.random.default_rng(seed)
    spans = []
    grids = []
    for _ in range(12):
        left, top = float(rng.uniform(170, 190)), float(rng.uniform(-2, 2))
        rows, cols = int(rng.integers(1, 12)), int(rng.integers(1, 12))
        spans.append((left, top - 0.1 * rows, left + 0.1 * cols, top))
        shown = left - 360 if left >= 180 else left
        grids.append(MapGrid(crs=LONLAT, transform=Affine(0.1, 0, shown, 0, -0.1, top), shape=(rows, cols)))
    wide = reach / 111_000.0
    group = list(range(12))
    for _ in range(12):
        for one, other in itertools.product(range(12), range(12)):
            a, b = spans[one], spans[other]
            # at up to 3 degrees of latitude a degree of longitude is one of latitude to 0.2 %: leave near ties out
            gap = max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])
            assume(abs(gap - wide) > 0.01 * wide + 1e-6)
            if gap < wide:
                group[one] = group[other] = min(group[one], group[other])
    assert [ground.group for ground in grounds(grids, reach_m=reach)] == group


def test_many_images_are_grouped_quickly() -> None:
    grids = [image(600_000 + 640 * (at % 100), 5_000_000 - 640 * (at // 100), (64, 64)) for at in range(4_000)]
    started = time.process_time()
    splitters = split_scenes(grids, [str(at) for at in range(4_000)], PatchOptions(size=64))
    assert len({splitter.plan_number for splitter in splitters}) == 1
    assert time.process_time() - started < 15  # all pairs one by one would take minutes


def test_folder_is_split_by_whole_images_where_some_stand_apart() -> None:
    plain = [image(0, 0, (300, 300), crs=None)] * 5
    names = [f"i{at}" for at in range(5)]
    assert len(folder_options(plain, names, size=64, seed=0, val_share=0.2).val_scenes) == 1
    assert folder_options(plain[:1], names[:1], size=64, seed=0, val_share=0.2).val_scenes == ()
    touching = [image(600_000, 5_000_000, (100, 100)), image(601_000, 5_000_000, (100, 100)), image(700_000, 5_000_000, (100, 100))]
    for seed in range(6):
        chosen = set(folder_options(touching, ["a", "b", "c"], size=64, seed=seed, val_share=0.4).val_scenes)
        assert chosen in ({"a", "b"}, {"c"})


def test_plans_that_make_no_sense_are_refused() -> None:
    for wrong in ({"block_m": 0.0}, {"guard_m": -1.0}, {"val_share": 1.0}):
        with pytest.raises(UsageError):
            SplitPlan(**{"crs": UTM33, "block_m": 10.0, "guard_m": 1.0, **wrong})
    for bad in ({"size": 0}, {"stride": 0}, {"count": 0}, {"stride": 4, "count": 4}, {"min_valid": 1.5}, {"val_share": 2.0}):
        with pytest.raises(UsageError):
            PatchOptions(**bad)
    for length in (float("nan"), float("inf"), -1.0, 1e12):
        for name in ("block_m", "guard_m"):
            with pytest.raises(UsageError, match=f"the {name[:5]} is "):
                PatchOptions(**{name: length})
    # windows over millions of blocks would take for ever to be split
    for block_m in (0.0, 1e-3, 49.0):
        with pytest.raises(UsageError, match="too small for patches of 640 and a guard of 160"):
            split_scenes([image(600_000, 5_000_000, (100, 100))], ["a"], PatchOptions(size=64, block_m=block_m))
    assert split_scenes([image(600_000, 5_000_000, (100, 100))], ["a"], PatchOptions(size=64, block_m=50.0))
    assert SPLITS[TEST] == "test"
