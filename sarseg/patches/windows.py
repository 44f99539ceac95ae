"""Which windows become patches, and which split each belongs to: coordinates only, no pixels.

The split is a property of the ground. The map of a reference CRS is cut into square blocks at absolute multiples, and the
block's number alone says whether it trains or validates; so the same ground gets the same split in every scene, whatever
its grid or CRS. A window belongs to a split when it, and half a guard band around it, touches only blocks of that split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.errors import InputError, UsageError
from sarseg.grid import Bounds, MapGrid, transform_points, utm_crs
from sarseg.tiles import tile_starts

SPLITS = ("none", "train", "val", "test")
NONE, TRAIN, VAL, TEST = range(4)

Boxes = NDArray[np.float64]
"""float64 (n, 4): left, bottom, right, top."""
Positions = NDArray[np.int64]
"""int64 (n, 2): first row and column of windows."""

# the fractional parts of i * A + j * B fill 0..1 evenly over any patch of the plane (M. Roberts 2018, the R2 sequence):
# even a map of a few dozen blocks gets its share of validation, spread out; odd integers, so the arithmetic is exact
_STEP_ROW = np.uint64(0xC13FA9A902A6328F)
_STEP_COL = np.uint64(0x91E10DA5C79E7B1D)
_EDGE_POINTS = 9  # points on each edge of a window when its outline is taken into another CRS
_MAX_SCALE_ERROR = 0.02  # a CRS whose metre is off by more than this is no ruler for blocks and guards
_PERMUTED = 1 << 22  # up to so many positions are shuffled as a list; beyond, drawn one by one
_M_PER_DEG = 111_000.0
_SLACK = 1e-6  # relative rounding of coordinates that have been to another CRS and back


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """Blocks of the map and their splits.

    Parameters
    ----------
    crs : the CRS in which blocks are counted; None for an image without georeference
    block_m, guard_m : side of a block, and least gap between training pixels and others; pixels where `crs` is None
    val_share : share of the blocks that validate
    test_bounds : a region, in `crs`, whose windows test; nothing within the guard around it trains or validates
    stream : images without georeference have a pattern each, told apart by this number
    """

    crs: CRS | None
    block_m: float
    guard_m: float
    seed: int = 0
    val_share: float = 0.2
    test_bounds: Bounds | None = None
    stream: int = 0

    def __post_init__(self) -> None:
        if not self.block_m > 0 or not self.guard_m >= 0:
            raise UsageError(f"a block of {self.block_m} with a guard of {self.guard_m} makes no split")
        if not 0 <= self.val_share < 1:
            raise UsageError(f"the validation share {self.val_share} is not in 0..1")

    def validates(self, block_row: NDArray[np.int64], block_col: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether blocks, by their numbers (y, x) counted from the CRS's origin, validate."""
        start = np.random.SeedSequence(self.seed, spawn_key=(self.stream,)).generate_state(1, np.uint64)[0]
        with np.errstate(over="ignore"):
            place = start + block_row.astype(np.uint64) * _STEP_ROW + block_col.astype(np.uint64) * _STEP_COL
        return np.asarray(place < np.uint64(int(self.val_share * 2.0**64)))

    def block_of(self, boxes: Boxes) -> NDArray[np.int64]:
        """Number (y, x) of the block in which the middle of each box (in `crs`) lies, int64 (n, 2)."""
        middle = (boxes[:, [1, 0]] + boxes[:, [3, 2]]) / 2
        return np.floor(middle / self.block_m).astype(np.int64)

    def split_of(self, boxes: Boxes) -> NDArray[np.int8]:
        """Split of each box (in `crs`), int8 (n,): index into `SPLITS`; 0 where it belongs to none."""
        half = self.guard_m / 2
        first_col, first_row = (np.floor((boxes[:, at] - half) / self.block_m).astype(np.int64) for at in (0, 1))
        last_col, last_row = (np.ceil((boxes[:, at] + half) / self.block_m).astype(np.int64) - 1 for at in (2, 3))
        some, every = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
        for row in range(int((last_row - first_row).max(initial=0)) + 1):
            for col in range(int((last_col - first_col).max(initial=0)) + 1):
                block = self.validates(np.minimum(first_row + row, last_row), np.minimum(first_col + col, last_col))
                some |= block
                every &= block
        split = np.where(every, VAL, np.where(some, NONE, TRAIN)).astype(np.int8)
        if self.test_bounds is not None:
            region = np.array([self.test_bounds])
            split[near(boxes, region, self.guard_m)] = NONE
            left, bottom, right, top = self.test_bounds
            inside = (boxes[:, 0] >= left) & (boxes[:, 1] >= bottom) & (boxes[:, 2] <= right) & (boxes[:, 3] <= top)
            split[inside] = TEST
        return split

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "crs": self.crs.to_string() if self.crs is not None else None,
            "block": self.block_m,
            "guard": self.guard_m,
            "unit": "m" if self.crs is not None else "pixel",
            "seed": self.seed,
            "val_share": self.val_share,
            "test_bounds": list(self.test_bounds) if self.test_bounds is not None else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Splitter:
    """The split of the windows of one image.

    Parameters
    ----------
    name : of the image
    plan_number : equal for images that share a system of blocks
    held_out : boxes (in the plan's CRS) of whole scenes of another split; windows within the guard of one belong to none
    whole : the split of every window, for a scene that is held out as a whole (or trains as a whole)
    method : "random" gives each window a split by itself, which leaks; the test region and held-out scenes stay apart
    """

    name: str
    plan: SplitPlan
    plan_number: int
    held_out: Boxes
    whole: int | None = None
    method: Literal["blocks", "random"] = "blocks"

    def boxes(self, grid: MapGrid, positions: Positions, size: int) -> Boxes:
        """Outlines of windows in the plan's CRS."""
        return window_boxes(grid, positions, (size, size), self.plan.crs)

    def blocks(self, grid: MapGrid, positions: Positions, size: int) -> list[str]:
        """Name of the block that holds each window's middle; of the image, where it is held out as a whole.

        Images that share a system of blocks share their names: ground that two of them show is one block.
        """
        if self.whole is not None:
            return [self.name] * len(positions)
        return [f"{self.plan_number}/{row}/{col}" for row, col in self.plan.block_of(self.boxes(grid, positions, size)).tolist()]

    def __call__(self, grid: MapGrid, positions: Positions, size: int) -> NDArray[np.int8]:
        """Split of each window, int8 (n,)."""
        if self.whole in (VAL, TEST):
            return np.full(len(positions), self.whole, np.int8)
        boxes = self.boxes(grid, positions, size)
        split = self.plan.split_of(boxes)
        if self.method == "random":
            drawn = np.where(_chance(self.plan, positions) < self.plan.val_share, VAL, TRAIN)
            apart = np.zeros(len(boxes), bool)
            if self.plan.test_bounds is not None:
                apart = near(boxes, np.array([self.plan.test_bounds]), self.plan.guard_m)
            split = np.where(apart, split, drawn).astype(np.int8)
        if len(self.held_out):
            split[near(boxes, self.held_out, self.plan.guard_m)] = NONE
        return split


def near(boxes: Boxes, others: Boxes, guard: float) -> NDArray[np.bool_]:
    """Which boxes, bool (n,), overlap one of `others` or come closer to it than `guard` in both axes."""
    found = np.zeros(len(boxes), bool)
    reach = guard * (1.0 - _SLACK)
    for left, bottom, right, top in others:
        found |= (boxes[:, 0] - right < reach) & (left - boxes[:, 2] < reach) & (boxes[:, 1] - top < reach) & (bottom - boxes[:, 3] < reach)
    return found


def window_boxes(grid: MapGrid, positions: Positions, shape: tuple[int, int], crs: CRS | None) -> Boxes:
    """Outlines of windows of one shape (rows, cols) at `positions`, as boxes in `crs`, float64 (n, 4).

    The edges are densified. `crs` None counts pixels. InputError where the CRS has no answer for the place.
    """
    rows, cols = shape
    if crs is None or grid.crs is None:
        row, col = positions[:, 0].astype(np.float64), positions[:, 1].astype(np.float64)
        return np.stack([col, row, col + cols, row + rows], axis=1)
    along = np.linspace(0.0, 1.0, _EDGE_POINTS)
    edge_col = np.concatenate([along, along, np.zeros_like(along), np.ones_like(along)]) * cols
    edge_row = np.concatenate([np.zeros_like(along), np.ones_like(along), along, along]) * rows
    col, row = positions[:, 1, None] + edge_col, positions[:, 0, None] + edge_row
    matrix = grid.transform
    x, y = matrix.a * col + matrix.b * row + matrix.c, matrix.d * col + matrix.e * row + matrix.f
    x, y = transform_points(grid.crs, crs, x, y)
    boxes = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)
    if not np.isfinite(boxes).all():
        raise InputError(f"a window has no place in {crs.to_string()}", hint="choose other bounds or another CRS")
    return boxes


def grid_windows(shape: tuple[int, int], size: int, stride: int) -> Positions:
    """Windows that cover an image (rows, cols) >= size, at multiples of `stride`; the last ones end with the image."""
    rows, cols = (tile_starts(length, size, size - stride) if stride <= size else _sparse_starts(length, size, stride) for length in shape)
    return np.array([(row, col) for row in rows for col in cols], np.int64).reshape(-1, 2)


class RandomWindows:
    """Different windows of an image, drawn evenly: every position from (0, 0) to the last row and column can come.

    Parameters
    ----------
    shape : (rows, cols) of the image, each >= size
    """

    def __init__(self, shape: tuple[int, int], size: int, rng: np.random.Generator) -> None:
        self._cols = shape[1] - size + 1
        self.positions = (shape[0] - size + 1) * self._cols
        self._rng = rng
        self._given = 0
        self._order = rng.permutation(self.positions) if self.positions <= _PERMUTED else None
        self._seen: set[int] = set()

    def draw(self, count: int) -> Positions:
        """The next `count` windows, none of them given before; fewer when there are no more."""
        if self._order is not None:
            places = self._order[self._given : self._given + count]
        else:
            places = self._draw_new(min(count, self.positions - self._given))
        self._given += len(places)
        return np.stack([places // self._cols, places % self._cols], axis=1).astype(np.int64)

    def _draw_new(self, count: int) -> NDArray[np.int64]:
        fresh: list[int] = []
        while len(fresh) < count:
            for place in self._rng.integers(0, self.positions, count - len(fresh)).tolist():
                if place not in self._seen:
                    self._seen.add(place)
                    fresh.append(place)
        return np.array(fresh, np.int64)


def check_size(shape: tuple[int, int], size: int, where: object) -> None:
    """InputError when an image is smaller than a patch."""
    if min(shape) < size:
        raise InputError(f"{shape[0]} x {shape[1]} pixels are less than a patch of {size} x {size}", where, "choose a smaller size")


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` divided in proportion to integer weights, exactly; each weight > 0 gets at least one where the total allows."""
    whole = sum(weights)
    if whole == 0 or total <= 0:
        return [0] * len(weights)
    found = [total * weight // whole for weight in weights]
    rest = sorted(range(len(weights)), key=lambda at: (-(total * weights[at] % whole), at))
    for at in rest[: total - sum(found)]:
        found[at] += 1
    if total >= len(weights):
        for at in [at for at, weight in enumerate(weights) if weight > 0 and found[at] == 0]:
            found[found.index(max(found))] -= 1
            found[at] = 1
    return found


@dataclass(frozen=True, slots=True)
class Ground:
    """Where an image stands among the others: the group of images near one another, and the CRS that measures the group."""

    group: int
    crs: CRS | None


def grounds(grids: Sequence[MapGrid], reach_m: float) -> list[Ground]:
    """Group images that lie within `reach_m` of one another (chains count), and choose a CRS in metres for each group.

    A group is named after its first image, and measured in the CRS of that image when that is in true metres, else in its
    UTM zone. An image without georeference is a group by itself.
    """
    placed = [at for at, grid in enumerate(grids) if grid.crs is not None]
    boxes = _lonlat_boxes([grids[at] for at in placed], reach_m)
    group = np.arange(len(grids))
    group[placed] = np.array(placed, np.int64)[_islands(boxes)]
    rulers = {number: _ruler(grids[number]) for number in set(group.tolist())}
    return [Ground(number, rulers[number]) for number in group.tolist()]


def leaks(boxes: Boxes, split: NDArray[np.int8], guard: float) -> NDArray[np.bool_]:
    """Which validation and test windows, bool (n,), have a pixel within `guard` of a training window; boxes in one CRS."""
    found = np.zeros(len(boxes), bool)
    train, others = np.flatnonzero(split == TRAIN), np.flatnonzero(split > TRAIN)
    if not len(train) or not len(others):
        return found
    # two boxes within the guard have their first corners in neighbouring cells
    cell = float(np.max(boxes[:, 2:] - boxes[:, :2])) + guard
    at = np.floor(boxes[:, :2] / cell).astype(np.int64)
    cells: dict[tuple[int, int], list[int]] = {}
    for index in train.tolist():
        cells.setdefault((int(at[index, 0]), int(at[index, 1])), []).append(index)
    for index in others.tolist():
        col, row = int(at[index, 0]), int(at[index, 1])
        close = [other for dx in (-1, 0, 1) for dy in (-1, 0, 1) for other in cells.get((col + dx, row + dy), ())]
        found[index] = bool(near(boxes[close], boxes[index : index + 1], guard).any())
    return found


def leak_check(boxes: Boxes, split: NDArray[np.int8], guard: float) -> None:
    """InputError when a validation or test window has a pixel within `guard` of a training window."""
    count = int(leaks(boxes, split, guard).sum())
    if count:
        raise InputError(f"{count} validation or test patches lie within {guard:g} of training patches", hint="the split leaks")


def _sparse_starts(length: int, size: int, stride: int) -> list[int]:
    starts = list(range(0, length - size + 1, stride))
    return starts if starts[-1] == length - size else [*starts, length - size]


def _chance(plan: SplitPlan, positions: Positions) -> NDArray[np.float64]:
    """A number 0..1 for each window that depends on the seed and the window only (splitmix64, Steele et al. 2014)."""
    start = np.random.SeedSequence(plan.seed, spawn_key=(plan.stream, 1)).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        mixed = start + positions[:, 0].astype(np.uint64) * _STEP_ROW + positions[:, 1].astype(np.uint64) * _STEP_COL
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return np.asarray(mixed >> np.uint64(11), np.float64) / 2.0**53


def _lonlat_boxes(grids: Sequence[MapGrid], reach_m: float) -> Boxes:
    """Outlines in degrees, float64 (n, 4), widened by half of `reach_m`; left in -180..180, right may exceed 180."""
    boxes = np.empty((len(grids), 4))
    by_crs: dict[str, list[int]] = {}
    for at, grid in enumerate(grids):
        assert grid.crs is not None
        by_crs.setdefault(grid.crs.to_wkt(), []).append(at)
    along = np.linspace(0.0, 1.0, _EDGE_POINTS)
    for members in by_crs.values():
        bounds = np.array([grids[at].bounds for at in members])
        across, up = bounds[:, [0]] + along * (bounds[:, [2]] - bounds[:, [0]]), bounds[:, [1]] + along * (bounds[:, [3]] - bounds[:, [1]])
        x = np.concatenate([across, across, bounds[:, [0]] + 0 * along, bounds[:, [2]] + 0 * along], axis=1)
        y = np.concatenate([bounds[:, [1]] + 0 * along, bounds[:, [3]] + 0 * along, up, up], axis=1)
        crs = grids[members[0]].crs
        assert crs is not None
        lon, lat = transform_points(crs, CRS.from_epsg(4326), x, y)
        wraps = lon.max(1) - lon.min(1) > 180.0
        lon = np.where(wraps[:, None] & (lon < 0), lon + 360.0, lon)
        boxes[members] = np.stack([lon.min(1), lat.min(1), lon.max(1), lat.max(1)], axis=1)
    if not np.isfinite(boxes).all():
        raise InputError("an image lies nowhere on the earth by its CRS", hint="check the georeference")
    margin = reach_m / 2 / _M_PER_DEG
    margin_lon = margin / np.cos(np.radians(np.minimum(np.abs(boxes[:, [1, 3]]).max(1) + margin, 89.0)))
    margins = [-margin_lon, np.full_like(margin_lon, -margin), margin_lon, np.full_like(margin_lon, margin)]
    return np.asarray(boxes + np.stack(margins, axis=1))


def _islands(boxes: Boxes) -> NDArray[np.int64]:
    """For each box in degrees the number of the first box that it hangs together with; neighbouring cells are compared."""
    island = np.arange(len(boxes))
    if not len(boxes):
        return island
    cell = max(float(np.max(boxes[:, 2:] - boxes[:, :2])), 1e-6)
    around = max(1, int(360.0 // cell))  # cells around the earth, each at least as wide as the widest box
    cells: dict[tuple[int, int], list[int]] = {}
    for at, (left, bottom) in enumerate(boxes[:, :2].tolist()):
        col, row = int(np.floor((left + 180.0) / 360.0 * around)) % around, int(np.floor(bottom / cell))
        near_cells = {((col + dx) % around, row + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)}
        close = np.array([other for key in near_cells for other in cells.get(key, ())], np.int64)
        one, others = boxes[at], boxes[close]
        meet = (one[1] <= others[:, 3]) & (others[:, 1] <= one[3])
        meet &= np.any([(one[0] + turn <= others[:, 2]) & (others[:, 0] <= one[2] + turn) for turn in (-360.0, 0.0, 360.0)], axis=0)
        met = np.unique(island[close[meet]])
        if len(met):
            island[at] = met[0]
        if len(met) > 1:
            island[np.isin(island, met)] = met[0]
        cells.setdefault((col, row), []).append(at)
    return island


def _ruler(grid: MapGrid) -> CRS | None:
    """The image's own CRS where its metre is a metre, else the UTM zone of the image's centre."""
    if grid.crs is None:
        return None
    from pyproj import Proj

    left, bottom, right, top = grid.bounds
    x, y = transform_points(grid.crs, CRS.from_epsg(4326), np.array([(left + right) / 2]), np.array([(bottom + top) / 2]))
    lon, lat = float(x[0]), float(y[0])
    if grid.crs.is_projected and grid.crs.linear_units_factor[1] == 1.0:
        factors = Proj(grid.crs.to_wkt()).get_factors(lon, lat)
        if max(abs(factors.meridional_scale - 1), abs(factors.parallel_scale - 1)) < _MAX_SCALE_ERROR:
            return grid.crs
    return utm_crs(lon, lat)
