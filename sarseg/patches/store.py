"""Write a data set: windows of products and their labels, split by space, as sharded arrays with an index."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError, UsageError
from sarseg.grid import Bounds, MapGrid
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.masks import NOT_TRAINED
from sarseg.patches.shards import ShardWriter
from sarseg.patches.tally import Place, Tally
from sarseg.patches.windows import (
    NONE,
    TEST,
    TRAIN,
    VAL,
    Boxes,
    Ground,
    Positions,
    RandomWindows,
    SplitPlan,
    Splitter,
    check_size,
    grid_windows,
    grounds,
    leak_check,
    leaks,
    shares,
    window_boxes,
)
from sarseg.product.folder import create_folder, write_json
from sarseg.product.open import Product, open_product
from sarseg.progress import Progress, silent
from sarseg.raster.cog import check_space
from sarseg.raster.read import Raster, open_raster
from sarseg.rng import generator
from sarseg.tiles import Window

log = logging.getLogger(__name__)

DATASET = "dataset.json"
INDEX = "index.parquet"
IMAGES, MASKS = "images.zarr", "masks.zarr"
FORMAT = "sarseg patches"
_CELL = 1024  # windows that start in one such square are read together: a block is decoded about once
_ROUNDS = 40  # times that windows are drawn anew for those refused, before a shortfall is accepted
_MOST_DRAWN = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A product (folder or raster) and the class raster on its grid; `name` is the scene's, the product's id when empty."""

    image: Path
    labels: Path
    name: str = ""


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
    bands : in this order; None takes all bands of the first image
    legend : None takes it from the label files' tags
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
    legend: Legend | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or (self.stride is not None and self.stride < 1) or (self.count is not None and self.count < 1):
            raise UsageError(f"size {self.size}, stride {self.stride} and count {self.count} must be at least 1")
        if self.stride is not None and self.count is not None:
            raise UsageError("windows come from a grid (stride) or at random (count), not both")
        if not 0 <= self.min_valid <= 1:
            raise UsageError(f"the least valid share {self.min_valid} is not in 0..1")
        both = set(self.val_scenes) & set(self.test_scenes)
        if both:
            raise UsageError(f"scene {', '.join(sorted(both))} cannot validate and test")


def write_dataset(out: Path, sources: Sequence[Source], options: PatchOptions, progress: Progress = silent) -> Path:
    """Cut windows of products and their labels into the data set folder `out`, and return it.

    The folder holds dataset.json, index.parquet, images.zarr (float32 (n, band, size, size): linear power or raw values,
    NaN = nodata) and masks.zarr (uint8 (n, size, size): codes, 255 = not trained on, also under layover and shadow).
    Windows are read in the order of blocks; memory does not grow with the scenes. Two runs write the same bytes.

    Raises
    ------
    InputError : images that differ in bands, labels on another grid, an image smaller than a patch, no training window
    """
    scenes = _open_sources(sources, options)
    legend = _common_legend(scenes, options)
    bands = options.bands or scenes[0].product.bands
    splitters = split_scenes([scene.product.grid for scene in scenes], [scene.name for scene in scenes], options)
    tally = Tally(bands, "db" if scenes[0].product.quantity == "power" else "raw", legend, options.size)
    boxes: list[Boxes] = []
    with create_folder(out, mark=DATASET) as part:
        shape = (options.size, options.size)
        with ShardWriter(part / IMAGES, (len(bands), *shape), "float32", np.nan) as images:
            with ShardWriter(part / MASKS, shape, "uint8", IGNORE) as masks:
                for patch in _patches(scenes, splitters, tally, progress):
                    if not len(tally) & 255:
                        check_space(part, 256 * (patch.image.nbytes + patch.mask.nbytes))
                    images.append(patch.image)
                    masks.append(patch.mask)
                    tally.add(patch.place, patch.split, patch.image, patch.mask)
                    boxes.append(patch.box)
        warnings = _judge(tally, np.array(boxes).reshape(-1, 4), [scene.name for scene in scenes], splitters, options)
        tally.write_index(part / INDEX)
        write_json(part / DATASET, _describe(tally, scenes, splitters, options, warnings))
    for warning in warnings:
        log.warning("%s: %s", out.name, warning)
    return out


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """An opened source."""

    name: str
    number: int
    product: Product
    labels: Raster
    offset: tuple[int, int]
    """(row, col) of the product's first pixel in the label raster."""
    bands: tuple[str, ...]
    source: Source = field(repr=False)

    @cached_property
    def crs(self) -> str:
        return self.product.grid.crs.to_string() if self.product.grid.crs is not None else ""

    def read(self, window: Window, known: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Bands (band, rows, cols) and mask (rows, cols); `known` (256,) says which codes may occur."""
        image = self.product.read(window, self.bands)
        mask = np.full(window.shape, IGNORE, np.uint8)
        there = window.shift(rows=self.offset[0], cols=self.offset[1])
        inside = there.clip(self.labels.grid.shape)
        if inside is not None:
            codes = self.labels.read_codes(inside)
            wrong = (codes < 0) | (codes > IGNORE) | ~known[np.clip(codes, 0, IGNORE)]
            if wrong.any():
                hint = "map its values to the legend with `sarseg labels --remap`"
                raise InputError(f"label {int(codes[wrong][0])} is not in the legend", self.labels.path, hint)
            mask[inside.relative_to(there).slices] = codes
        untrained = np.isnan(image).any(0) | (mask == NODATA)
        if self.product.mask_raster is not None:
            untrained |= (self.product.mask(window) & NOT_TRAINED) != 0
        mask[untrained] = IGNORE
        return image, mask


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patch:
    image: NDArray[np.float32]
    mask: NDArray[np.uint8]
    split: int
    place: Place
    box: NDArray[np.float64]


@dataclass(slots=True)
class Refusals:
    """Why windows did not become patches."""

    without_split: int = 0
    too_empty: int = 0
    unlabelled: int = 0

    def __str__(self) -> str:
        return (
            f"of the windows tried {self.without_split} lie in a guard band, "
            f"{self.too_empty} hold too little data, {self.unlabelled} hold no label"
        )


class Supply:
    """Different random windows of an image that belong to a split."""

    def __init__(self, grid: MapGrid, splitter: Splitter, size: int, rng: np.random.Generator) -> None:
        self._grid, self._splitter, self._size = grid, splitter, size
        self._windows = RandomWindows(grid.shape, size, rng)
        self._ready: Positions = np.empty((0, 2), np.int64)
        self._drawn = 0
        self.positions = self._windows.positions
        self.dry = False

    def take(self, count: int, refused: Refusals) -> Positions:
        """Up to `count` windows, int64 (n, 2); fewer when there are no more, and the supply is then dry."""
        while len(self._ready) < count and not self.dry:
            drawn = self._windows.draw(max(count, 4096))
            kept = drawn[self._splitter(self._grid, drawn, self._size) != NONE] if len(drawn) else drawn
            refused.without_split += len(drawn) - len(kept)
            self._drawn += len(drawn)
            self._ready = np.concatenate([self._ready, kept])
            self.dry = not len(drawn) or (self._drawn > _MOST_DRAWN and not len(kept))
        found, self._ready = self._ready[:count], self._ready[count:]
        return found


def split_scenes(grids: Sequence[MapGrid], names: Sequence[str], options: PatchOptions) -> list[Splitter]:
    """How the windows of each image are split; images near one another share one system of blocks."""
    unknown = (set(options.val_scenes) | set(options.test_scenes)) - set(names)
    if unknown:
        raise UsageError(f"no scene {', '.join(sorted(unknown))}", hint=f"scenes are {', '.join(names)}")
    whole = [VAL if name in options.val_scenes else TEST if name in options.test_scenes else None for name in names]
    found = grounds(grids, reach_m=20_000.0 + (options.guard_m or 0.0))
    outlines = [
        window_boxes(grid, np.zeros((1, 2), np.int64), grid.shape, ground.crs)[0] for grid, ground in zip(grids, found, strict=True)
    ]
    splitters = []
    for at, ground in enumerate(found):
        members = [other for other, one in enumerate(found) if one.group == ground.group]
        plan = _plan(grids, [outlines[other] for other in members], ground, options, found[at].group)
        apart = [outlines[other] for other in members if whole[other] is not None]
        splitters.append(Splitter(plan=plan, held_out=np.array(apart).reshape(-1, 4), whole=whole[at], method=options.split))
    return splitters


def _plan(grids: Sequence[MapGrid], outlines: Sequence[NDArray[np.float64]], ground: Ground, options: PatchOptions, first: int) -> SplitPlan:
    rows, cols = grids[first].shape
    spans = [(box[2] - box[0]) * (box[3] - box[1]) for box in outlines]
    pixel = float(np.sqrt(spans[0] / (rows * cols))) if ground.crs is not None else 1.0
    guard = options.guard_m if options.guard_m is not None else options.size // 4 * pixel
    # about two dozen blocks over the ground, but each holds a patch with its guard, and none is larger than eight patches
    block = float(np.clip(np.sqrt(sum(spans) / 24), options.size * pixel + guard, 8 * options.size * pixel + guard))
    return SplitPlan(
        crs=ground.crs,
        block_m=options.block_m if options.block_m is not None else float(np.ceil(block / pixel) * pixel),
        guard_m=guard,
        seed=options.seed,
        val_share=0.0 if options.val_scenes else options.val_share,
        test_bounds=_region(options.test_bounds, grids[0], ground.crs),
        stream=0 if ground.crs is not None else 1 + first,
    )


def _region(bounds: Bounds | None, grid: MapGrid, crs: Any) -> Bounds | None:
    """The test region, given in the CRS of `grid`, in another; None where it has no place there."""
    if bounds is None or (crs is None) != (grid.crs is None):
        return None
    left, bottom, right, top = bounds
    if not (left < right and bottom < top):
        raise UsageError(f"the test region {bounds} is empty", hint="xmin ymin xmax ymax")
    if crs is None:
        return bounds
    from affine import Affine

    region = MapGrid(crs=grid.crs, transform=Affine(right - left, 0, left, 0, bottom - top, top), shape=(1, 1)).bounds_in(crs)
    return region if np.isfinite(region).all() else None


def _open_sources(sources: Sequence[Source], options: PatchOptions) -> list[_Scene]:
    if not sources:
        raise UsageError("no image to cut patches from")
    scenes: list[_Scene] = []
    for number, source in enumerate(sources):
        product, labels = open_product(source.image), open_raster(source.labels)
        check_size(product.grid.shape, options.size, source.image)
        offset = labels.grid.offset_of(product.grid)
        if offset is None:
            raise InputError("the labels lie on another grid than the image", source.labels, f"`sarseg labels ... --like {source.image}`")
        bands = options.bands or (scenes[0].bands if scenes else product.bands)
        if scenes and (product.quantity != scenes[0].product.quantity or not set(bands) <= set(product.bands)):
            raise InputError(f"bands {', '.join(product.bands)} are not those of the first image: {', '.join(bands)}", source.image)
        name = source.name or product.id
        scenes.append(_Scene(name=name, number=number, product=product, labels=labels, offset=offset, bands=bands, source=source))
    names = [scene.name for scene in scenes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two images are called {', '.join(twice)}")
    return scenes


def _common_legend(scenes: Sequence[_Scene], options: PatchOptions) -> Legend:
    if options.legend is not None:
        return options.legend
    found: Legend | None = None
    for scene in scenes:
        legend = Legend.from_tags(scene.labels.tags, scene.labels.colormap)
        if legend is None:
            raise InputError("the labels name no classes", scene.labels.path, "give a legend file, or make them with `sarseg labels`")
        if found is not None and (legend.codes, legend.names) != (found.codes, found.names):
            raise InputError(f"the labels have other classes than {scenes[0].labels.path}", scene.labels.path, "give one legend file")
        found = found or legend
    assert found is not None
    return found


def _patches(scenes: Sequence[_Scene], splitters: Sequence[Splitter], tally: Tally, progress: Progress) -> Iterator[_Patch]:
    """Patches of all scenes, in the order in which they are stored."""
    yield from ()
