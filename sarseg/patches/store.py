"""Write a data set: windows of products and their labels, split by space, as sharded arrays with an index."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError, UsageError
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.masks import NOT_TRAINED
from sarseg.patches.shards import ShardWriter
from sarseg.patches.split import PatchOptions, Refusals, Supply, split_scenes
from sarseg.patches.tally import Place, Tally
from sarseg.patches.windows import (
    NONE,
    SPLITS,
    TRAIN,
    Positions,
    Splitter,
    check_size,
    grid_windows,
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
_ROUNDS = 200  # times that windows are drawn anew for those refused, before a shortfall is accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A product (folder or raster) and the class raster on its grid; `name` is the scene's, the product's id when empty."""

    image: Path
    labels: Path
    name: str = ""


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
    splitters = split_scenes([scene.product.grid for scene in scenes], [scene.name for scene in scenes], options)
    cutter = _Cutter(scenes, splitters, legend, options)
    with create_folder(out, mark=DATASET) as part:
        tally = _write_arrays(part, cutter, progress)
        warnings = _judge(tally, cutter)
        tally.write_index(part / INDEX)
        write_json(part / DATASET, _describe(tally, cutter, warnings))
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
    number: int
    """Of the scene."""
    box: NDArray[np.float64]
    """Outline in the CRS in which blocks are counted."""


class _Cutter:
    """Windows of the scenes, chosen, read and checked, in the order in which they are stored."""

    def __init__(self, scenes: Sequence[_Scene], splitters: Sequence[Splitter], legend: Legend, options: PatchOptions) -> None:
        self.scenes, self.splitters, self.legend, self.options = scenes, splitters, legend, options
        self.refused = Refusals()
        self.stored: list[tuple[int, int, NDArray[np.float64]]] = []
        self._known = np.zeros(256, bool)
        self._known[[NODATA, IGNORE, *legend.codes]] = True

    def patches(self, progress: Progress) -> Iterator[_Patch]:
        """All patches, each read once."""
        yield from self._at_random(progress) if self.options.count is not None else self._on_grid(progress)

    def _on_grid(self, progress: Progress) -> Iterator[_Patch]:
        size = self.options.size
        for done, (scene, splitter) in enumerate(zip(self.scenes, self.splitters, strict=True)):
            grid = scene.product.grid
            positions = grid_windows(grid.shape, size, self.options.stride or size)
            kept = positions[splitter(grid, positions, size) != NONE]
            self.refused.without_split += len(positions) - len(kept)
            progress(done, len(self.scenes), "patches: images")
            yield from self._read(scene, splitter, kept)
        progress(len(self.scenes), len(self.scenes), "patches: images")

    def _at_random(self, progress: Progress) -> Iterator[_Patch]:
        options = self.options
        total = missing = options.count or 0
        supplies = [
            Supply(scene.product.grid, splitter, options.size, generator(options.seed, scene.number))
            for scene, splitter in zip(self.scenes, self.splitters, strict=True)
        ]
        for _ in range(_ROUNDS):
            wanted = shares(missing, [0 if supply.dry else supply.positions for supply in supplies])
            for scene, splitter, supply, count in zip(self.scenes, self.splitters, supplies, wanted, strict=True):
                if not count:
                    continue
                for patch in self._read(scene, splitter, supply.take(count, self.refused)):
                    yield patch
                    missing -= 1
                    progress(total - missing, total, "patches")
            if not missing or all(supply.dry for supply in supplies):
                return

    def _read(self, scene: _Scene, splitter: Splitter, positions: Positions) -> Iterator[_Patch]:
        if not len(positions):
            return
        grid, size = scene.product.grid, self.options.size
        split, boxes = splitter(grid, positions, size), splitter.boxes(grid, positions, size)
        own = window_boxes(grid, positions, (size, size), grid.crs)
        for cell in _cells(positions):
            window = _union(positions[cell], size)
            image, mask = scene.read(window, self._known)
            for at in cell:
                row, col = (int(start) for start in positions[at])
                inside = Window(row=row, col=col, rows=size, cols=size).relative_to(window).slices
                part, codes = image[:, inside[0], inside[1]], mask[inside]
                if self._refuse(part, codes):
                    continue
                left, bottom, right, top = (float(edge) for edge in own[at])
                place = Place(scene=scene.name, row=row, col=col, crs=scene.crs, bounds=(left, bottom, right, top))
                yield _Patch(image=part, mask=codes, split=int(split[at]), place=place, number=scene.number, box=boxes[at])

    def _refuse(self, image: NDArray[np.float32], mask: NDArray[np.uint8]) -> bool:
        if np.isfinite(image).all(0).mean() < self.options.min_valid:
            self.refused.too_empty += 1
            return True
        if (mask == IGNORE).all():
            self.refused.unlabelled += 1
            return True
        return False


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


def _write_arrays(part: Path, cutter: _Cutter, progress: Progress) -> Tally:
    product, size = cutter.scenes[0].product, cutter.options.size
    bands = cutter.scenes[0].bands
    tally = Tally(bands, "db" if product.quantity == "power" else "raw", cutter.legend, size)
    with (
        ShardWriter(part / IMAGES, (len(bands), size, size), "float32", np.nan) as images,
        ShardWriter(part / MASKS, (size, size), "uint8", IGNORE) as masks,
    ):
        for patch in cutter.patches(progress):
            if len(tally) % 256 == 0:
                check_space(part, 256 * (patch.image.nbytes + patch.mask.nbytes))
            images.append(patch.image)
            masks.append(patch.mask)
            tally.add(patch.place, patch.split, patch.image, patch.mask)
            cutter.stored.append((patch.number, patch.split, patch.box))
    return tally


def _judge(tally: Tally, cutter: _Cutter) -> list[str]:
    """What the user must know about the windows; InputError when nothing trains or the split leaks."""
    options = cutter.options
    if tally.without_split("train"):
        hint = f"{cutter.refused}; try a smaller size, block or guard, or a smaller least valid share"
        raise InputError(f"no training window among {len(tally)}", hint=hint)
    warnings = []
    if options.count is not None and len(tally) < options.count:
        warnings.append(f"{len(tally)} patches instead of {options.count}: there are no more; {cutter.refused}")
    if options.val_share > 0 and tally.without_split("val"):
        warnings.append("no patch validates: try a smaller block or guard, or hold a scene out")
    number = np.array([one for one, _, _ in cutter.stored])
    split = np.array([one for _, one, _ in cutter.stored], np.int8)
    boxes = np.array([one for _, _, one in cutter.stored])
    group = np.array([splitter.plan_number for splitter in cutter.splitters])[number]
    for one in np.unique(group):
        here = group == one
        guard = next(splitter for splitter in cutter.splitters if splitter.plan_number == one).plan.guard_m
        if options.split != "random":
            leak_check(boxes[here], split[here], group[here], guard)
            continue
        leaking = leaks(boxes[here], split[here], group[here], guard)
        share = leaking.sum() / max(1, (split[here] > TRAIN).sum())
        warnings.append(f"random split: {share:.0%} of the patches held out lie within {guard:g} of training patches: accuracies flatter")
    return warnings


def _describe(tally: Tally, cutter: _Cutter, warnings: Sequence[str]) -> dict[str, Any]:
    """The content of dataset.json."""
    sources = [
        {
            "name": scene.name,
            "image": scene.source.image.name,
            "labels": scene.source.labels.name,
            "datetime_utc": scene.product.datetime_utc,
            "crs": scene.crs or None,
            "split": SPLITS[splitter.whole] if splitter.whole is not None else splitter.plan.to_dict(),
        }
        for scene, splitter in zip(cutter.scenes, cutter.splitters, strict=True)
    ]
    return {
        "format": FORMAT,
        "version": 1,
        "store": "zarr",
        "size": cutter.options.size,
        "patches": len(tally),
        "bands": [band.to_dict() for band in tally.band_infos()],
        "legend": cutter.legend.to_dict(),
        "split": {"method": cutter.options.split, "seed": cutter.options.seed, **tally.split_summary()},
        "sources": sources,
        "warnings": list(warnings),
    }


def _cells(positions: Positions) -> list[NDArray[np.int64]]:
    """Indices of windows that start in one square of `_CELL` pixels, square by square, row by row."""
    cell = positions // _CELL
    order = np.lexsort((positions[:, 1], positions[:, 0], cell[:, 1], cell[:, 0]))
    changes = np.flatnonzero((np.diff(cell[order], axis=0) != 0).any(1)) + 1
    return np.split(order, changes)


def _union(positions: Positions, size: int) -> Window:
    (row, col), (last_row, last_col) = positions.min(0).tolist(), positions.max(0).tolist()
    return Window(row=row, col=col, rows=last_row + size - row, cols=last_col + size - col)
