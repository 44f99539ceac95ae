"""Write a data set: windows of products and their labels, split by space, as sharded arrays with an index."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.masks import NOT_TRAINED
from sarseg.patches.cut import Cutter
from sarseg.patches.shards import ShardWriter
from sarseg.patches.split import PatchOptions, split_scenes
from sarseg.patches.tally import Pixels, Scale, Tally
from sarseg.patches.windows import SPLITS, Splitter, check_size
from sarseg.product.folder import create_folder, write_json
from sarseg.product.open import INCIDENCE_BAND, Product, open_product
from sarseg.progress import Progress, silent
from sarseg.raster.cog import check_space
from sarseg.raster.read import Raster, open_raster
from sarseg.tiles import Window

log = logging.getLogger(__name__)

DATASET = "dataset.json"
INDEX = "index.parquet"
LEGEND = "legend.yaml"
IMAGES, MASKS = "images.zarr", "masks.zarr"
FORMAT = "sarseg patches"
_SPACE_EVERY = 256  # patches between two looks at the free disk space


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
    splitters = split_scenes([scene.grid for scene in scenes], [scene.name for scene in scenes], options)
    cutter = Cutter(scenes, splitters, options)
    first = scenes[0]
    tally = Tally(first.bands, [_scale(first.product, name) for name in first.bands], first.legend, options.size)
    with create_folder(out, mark=DATASET) as part:
        _write_arrays(part, cutter, tally, progress)
        warnings = cutter.judge(tally)
        tally.write_index(part / INDEX)
        write_json(part / DATASET, describe(tally, options, [scene.info() for scene in scenes], splitters, warnings))
    for warning in warnings:
        log.warning("%s: %s", out.name, warning)
    return out


def describe(
    tally: Tally, options: PatchOptions, sources: Sequence[dict[str, Any]], splitters: Sequence[Splitter], warnings: Sequence[str]
) -> dict[str, Any]:
    """The content of dataset.json; `sources` says what each scene is."""
    return {
        "format": FORMAT,
        "version": 1,
        "size": options.size,
        "patches": len(tally),
        "bands": [band.to_dict() for band in tally.band_infos()],
        "legend": tally.legend.to_dict(),
        "split": {"method": options.split, "seed": options.seed, **tally.split_summary()},
        "sources": [
            {**source, "split": SPLITS[one.whole] if one.whole is not None else one.plan.to_dict()}
            for source, one in zip(sources, splitters, strict=True)
        ],
        "warnings": list(warnings),
    }


@dataclass(frozen=True, kw_only=True)
class _ProductScene:
    """An opened source."""

    name: str
    product: Product
    labels: Raster
    legend: Legend
    offset: tuple[int, int]
    """(row, col) of the product's first pixel in the label raster."""
    bands: tuple[str, ...]

    @property
    def grid(self) -> MapGrid:
        return self.product.grid

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        known = np.zeros(256, bool)
        known[[NODATA, IGNORE, *self.legend.codes]] = True
        return known

    def read(self, window: Window) -> Pixels:
        image = self.product.read(window, self.bands)
        mask = np.full(window.shape, IGNORE, np.uint8)
        there = window.shift(rows=self.offset[0], cols=self.offset[1])
        inside = there.clip(self.labels.grid.shape)
        if inside is not None:
            codes = self.labels.read_codes(inside)
            wrong = (codes < 0) | (codes > IGNORE) | ~self._known[np.clip(codes, 0, IGNORE)]
            if wrong.any():
                hint = "bring its values to the legend with `sarseg labels --remap`"
                raise InputError(f"label {int(codes[wrong][0])} is not in the legend", self.labels.path, hint)
            mask[inside.relative_to(there).slices] = codes
        untrained = np.isnan(image).any(0) | (mask == NODATA)
        if self.product.mask_raster is not None:
            untrained |= (self.product.mask(window) & NOT_TRAINED) != 0
        mask[untrained] = IGNORE
        return Pixels(image=image, mask=mask)

    def info(self) -> dict[str, Any]:
        """For dataset.json."""
        return {
            "name": self.name,
            "image": self.product.path.name,
            "labels": Path(self.labels.path).name,
            "datetime_utc": self.product.datetime_utc,
            "crs": self.grid.crs.to_string() if self.grid.crs is not None else None,
        }


def _open_sources(sources: Sequence[Source], options: PatchOptions) -> list[_ProductScene]:
    if not sources:
        raise UsageError("no image to cut patches from")
    products, labels = [open_product(source.image) for source in sources], [open_raster(source.labels) for source in sources]
    names = [source.name or product.id for source, product in zip(sources, products, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two images are called {', '.join(twice)}")
    bands = options.bands or products[0].bands
    legend = options.legend or _common_legend(labels)
    scenes = []
    for name, product, label in zip(names, products, labels, strict=True):
        check_size(product.grid.shape, options.size, product.path)
        offset = label.grid.offset_of(product.grid)
        if offset is None or (product.grid.crs is None and product.grid.shape != label.grid.shape):
            raise InputError("the labels lie on another grid than the image", label.path, f"`sarseg labels ... --like {product.path}`")
        if product.quantity != products[0].quantity or not set(bands) <= set(product.rasters):
            raise InputError(f"bands {', '.join(product.rasters)} are not those wanted: {', '.join(bands)}", product.path)
        scenes.append(_ProductScene(name=name, product=product, labels=label, legend=legend, offset=offset, bands=bands))
    return scenes


def _scale(product: Product, band: str) -> Scale:
    """Backscatter is seen in dB; angles and values of foreign rasters as they are."""
    return "db" if product.quantity == "power" and band != INCIDENCE_BAND else "raw"


def _common_legend(labels: Sequence[Raster]) -> Legend:
    found = [Legend.from_tags(raster.tags, raster.colormap) for raster in labels]
    for raster, legend in zip(labels, found, strict=True):
        if legend is None:
            raise InputError("the labels name no classes", raster.path, "give a legend file, or make them with `sarseg labels`")
        if found[0] is not None and (legend.codes, legend.names) != (found[0].codes, found[0].names):
            raise InputError(f"the labels have other classes than {labels[0].path}", raster.path, "give one legend file")
    assert found[0] is not None
    return found[0]


def _write_arrays(part: Path, cutter: Cutter, tally: Tally, progress: Progress) -> None:
    size = cutter.options.size
    with (
        ShardWriter(part / IMAGES, (len(tally.bands), size, size), "float32", np.nan) as images,
        ShardWriter(part / MASKS, (size, size), "uint8", IGNORE) as masks,
    ):
        for patch in cutter.patches(progress):
            image, mask = patch.pixels.image, patch.pixels.mask
            if len(tally) % _SPACE_EVERY == 0:
                check_space(part, _SPACE_EVERY * (image.nbytes + mask.nbytes))
            images.append(image)
            masks.append(mask)
            tally.add(patch)
