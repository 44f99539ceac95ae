"""From options to a split: which windows of which image train, validate and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from sarseg.bands import SCALES, Scale
from sarseg.errors import UsageError
from sarseg.grid import Bounds, MapGrid
from sarseg.legend import Legend
from sarseg.patches.windows import (
    TEST,
    VAL,
    Boxes,
    Ground,
    SplitPlan,
    Splitter,
    grounds,
    near,
    window_boxes,
)
from sarseg.rng import generator

_REACH_M = 20_000.0  # images so near one another share a system of blocks
_LONGEST = 1e8  # more than the earth's girth
_MOST_BLOCKS = 16  # along a window: with more, hardly one lies in blocks of one split


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchOptions:
    """How windows are chosen and split.

    Parameters
    ----------
    size : side of a patch, pixels
    stride : step of a grid of windows; None is `size`
    count : draw so many windows at random instead; over all images, in proportion to their positions
    block_m, guard_m : as in `SplitPlan`; None chooses from `size` and the ground covered
    test_bounds : a region, in the CRS of the first image, whose windows test
    val_scenes, test_scenes : whole scenes held out, by name; with `val_scenes` all others train and no blocks are cut
    split : "random" gives every window a split by itself: it leaks, and says so
    min_valid : least share of pixels with data in a patch
    bands : in this order, "incidence" may be one; None takes the backscatter (or all bands) of the first image
    scales : scale of a band by its name, for those that are not to be seen as usual: backscatter in dB, all else as it stands
    legend : None takes it from the label files' tags
    store : "arrays" copies the pixels into the data set; "windows" leaves them in the images and reads them when needed
    """

    size: int = 256
    stride: int | None = None
    count: int | None = None
    block_m: float | None = None
    guard_m: float | None = None
    val_share: float = 0.2
    test_bounds: Bounds | None = None
    val_scenes: tuple[str, ...] = ()
    test_scenes: tuple[str, ...] = ()
    split: Literal["blocks", "random"] = "blocks"
    seed: int = 0
    min_valid: float = 0.5
    bands: tuple[str, ...] | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)
    legend: Legend | None = None
    store: Literal["arrays", "windows"] = "arrays"

    def __post_init__(self) -> None:
        if self.size < 1 or (self.stride is not None and self.stride < 1) or (self.count is not None and self.count < 1):
            raise UsageError(f"size {self.size}, stride {self.stride} and count {self.count} must be at least 1")
        if self.seed < 0:
            raise UsageError(f"the seed is 0 or more, not {self.seed}")
        if self.stride is not None and self.count is not None:
            raise UsageError("windows come from a grid (stride) or at random (count), not both")
        for name, length in (("block", self.block_m), ("guard", self.guard_m)):
            if length is not None and not 0 <= length <= _LONGEST:
                raise UsageError(f"the {name} is {length}", hint=f"a length from 0 to {_LONGEST:g} m (or pixels)")
        if not 0 <= self.val_share < 1:
            raise UsageError(f"the validation share is {self.val_share}", hint="from 0 to below 1")
        if not 0 <= self.min_valid <= 1:
            raise UsageError(f"the least valid share {self.min_valid} is not in 0..1")
        for name, scale in self.scales.items():
            if scale not in SCALES:
                raise UsageError(f"band {name}: no scale '{scale}'", hint=f"scales are {', '.join(SCALES)}")
        if self.store not in ("arrays", "windows"):
            raise UsageError(f"no store '{self.store}'", hint="arrays, windows")
        both = set(self.val_scenes) & set(self.test_scenes)
        if both:
            raise UsageError(f"scene {', '.join(sorted(both))} cannot validate and test")


def split_scenes(grids: Sequence[MapGrid], names: Sequence[str], options: PatchOptions) -> list[Splitter]:
    """How the windows of each image are split; images near one another share one system of blocks."""
    unknown = (set(options.val_scenes) | set(options.test_scenes)) - set(names)
    if unknown:
        raise UsageError(f"no scene {', '.join(sorted(unknown))}", hint=f"scenes are {', '.join(names)}")
    whole = [VAL if name in options.val_scenes else TEST if name in options.test_scenes else None for name in names]
    found = grounds(grids, reach_m=_REACH_M + (options.guard_m or 0.0))
    outlines = np.concatenate(
        [window_boxes(grid, np.zeros((1, 2), np.int64), grid.shape, ground.crs) for grid, ground in zip(grids, found, strict=True)]
    )
    group = np.array([ground.group for ground in found])
    apart = np.array([one is not None for one in whole])
    plans = {number: _plan(grids, outlines[group == number], found[number], options) for number in sorted(set(group.tolist()))}
    splitters = []
    for at, number in enumerate(group.tolist()):
        others = outlines[apart & (group == number)]
        close = others[near(others, outlines[[at]], plans[number].guard_m)]
        splitters.append(
            Splitter(name=names[at], plan=plans[number], plan_number=number, held_out=close, whole=whole[at], method=options.split)
        )
    return splitters


def _plan(grids: Sequence[MapGrid], outlines: Boxes, ground: Ground, options: PatchOptions) -> SplitPlan:
    rows, cols = grids[ground.group].shape
    spans = (outlines[:, 2] - outlines[:, 0]) * (outlines[:, 3] - outlines[:, 1])
    pixel = float(np.sqrt(spans[0] / (rows * cols))) if ground.crs is not None else 1.0
    side = options.size * pixel
    guard = options.guard_m if options.guard_m is not None else options.size // 4 * pixel
    if options.block_m is not None and options.block_m * _MOST_BLOCKS < side + guard:
        hint = "give --block (in a configuration patches_block_m) more than both together"
        raise UsageError(f"a block of {options.block_m:g} is too small for patches of {side:g} and a guard of {guard:g}", hint=hint)
    # about two dozen blocks over the ground, but none so small that few patches lie clear of its edges, and none too large
    block = float(np.clip(np.sqrt(spans.sum() / 24), 2 * side + guard, 8 * side + guard))
    return SplitPlan(
        crs=ground.crs,
        block_m=options.block_m if options.block_m is not None else float(np.ceil(block / pixel) * pixel),
        guard_m=guard,
        seed=options.seed,
        val_share=0.0 if options.val_scenes else options.val_share,
        test_bounds=_region(options.test_bounds, grids[0], ground.crs),
        stream=0 if ground.crs is not None else 1 + ground.group,
    )


def _region(bounds: Bounds | None, grid: MapGrid, crs: CRS | None) -> Bounds | None:
    """The test region, given in the CRS of `grid`, in another; None where it has no place there."""
    if bounds is None or (crs is None) != (grid.crs is None):
        return None
    left, bottom, right, top = bounds
    if not (left < right and bottom < top):
        raise UsageError(f"the test region {bounds} is empty", hint="xmin ymin xmax ymax")
    if crs is None:
        return bounds
    region = MapGrid(crs=grid.crs, transform=Affine(right - left, 0, left, 0, bottom - top, top), shape=(1, 1)).bounds_in(crs)
    return region if np.isfinite(region).all() else None


def folder_options(grids: Sequence[MapGrid], names: Sequence[str], *, size: int, seed: int, val_share: float) -> PatchOptions:
    """How a plain folder of images is split when nobody says: whole images held out where some stand apart, else blocks.

    Images nearer to one another than the guard are held out together.
    """
    unit = max((grid.spacing[0] * (111_000.0 if grid.crs.is_geographic else 1.0) for grid in grids if grid.crs is not None), default=1.0)
    options = PatchOptions(size=size, seed=seed, val_share=val_share)
    groups = [ground.group for ground in grounds(grids, reach_m=size // 4 * unit)]
    islands = sorted(set(groups))
    if len(islands) < 2 or val_share == 0:
        return options
    chosen = set(generator(seed).permutation(islands)[: max(1, round(val_share * len(islands)))].tolist())
    return replace(options, val_scenes=tuple(name for name, group in zip(names, groups, strict=True) if group in chosen))
