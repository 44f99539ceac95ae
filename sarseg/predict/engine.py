"""Prediction: one product in, one map folder out, a strip of rows at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sarseg.errors import InputError, UsageError
from sarseg.masks import INVALID, Mask
from sarseg.nets.infer import PROBABILITY_ONE, Strip, TileOptions, make_forward, predict_strips
from sarseg.nets.modelfile import Model, check_quantity, load_model, normalise
from sarseg.product.landcover import CONFIDENCE_ONE, MapSpec, MapWriter, create_map
from sarseg.product.open import Product, open_product
from sarseg.progress import Progress, silent
from sarseg.raster.cog import Compression
from sarseg.tiles import Window
from sarseg.version import __version__

_UNNAMED = re.compile(r"b\d+")
_COUNTED_APART = {"layover": Mask.LAYOVER, "shadow": Mask.SHADOW}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How to map. `probabilities` also writes the probability of every class.

    `both_ways` also maps every tile turned by 180 degrees and takes the mean: twice the time, a few per cent fewer errors.
    """

    tiles: TileOptions = field(default_factory=TileOptions)
    probabilities: bool = False
    both_ways: bool = False
    threads: int | None = None
    """CPU threads of the network; what torch chooses when None."""
    compress: Compression = "zstd"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads is {self.threads}", hint="at least 1")


def predict(
    model_path: str | Path | Model,
    product_path: str | Path,
    out_dir: str | Path,
    options: PredictOptions | None = None,
    progress: Progress = silent,
) -> Path:
    """Map one product with a trained model.

    A pixel without all of the model's bands is nodata in the map, and only such a pixel. Layover and shadow are mapped
    and counted apart in the item. A product without any valid pixel gives a map of nodata and a warning.

    Parameters
    ----------
    model_path : a model folder, or a model that is open already
    product_path : a product folder, or a raster file
    out_dir : the map becomes the folder `<product id>` in it; an older map there is replaced

    Returns
    -------
    the map folder; InputError for a damaged model or a product that lacks a band of the model
    """
    options = options or PredictOptions()
    model = model_path if isinstance(model_path, Model) else load_model(model_path)
    product = open_product(product_path)
    bands, warnings = match_bands(model, product)
    warnings = [*product.warnings, *warnings, *_tile_warning(model, product, options.tiles)]
    folder = Path(out_dir) / product.id
    spec = MapSpec(
        id=product.id,
        grid=product.grid,
        legend=model.spec.legend,
        layers=frozenset({"probabilities"} if options.probabilities else ()),
        compress=options.compress,
    )
    with create_map(folder, spec) as writer, _threads(options.threads):
        counted = _map_strips(model, product, bands, writer, options, progress)
        if not writer.mapped_pixels:
            warnings.append("no valid pixel: the whole map is nodata")
        writer.describe(
            datetimes_utc=[product.datetime_utc] if product.datetime_utc else [],
            properties={
                "sarseg:source": product.id,
                "sarseg:model": {"name": model.path.name, "network": model.spec.network, "weights_sha256": model.spec.weights_sha256},
                "sarseg:bands": list(bands),
                "sarseg:mapped_under": counted,
                "sarseg:version": __version__,
            },
            warnings=warnings,
        )
    return folder


def match_bands(model: Model, product: Product) -> tuple[tuple[str, ...], list[str]]:
    """The product's band for each band of the model, and warnings.

    By name; by order where one side has no names and both have as many bands. InputError for missing bands, and where
    the model was trained on backscatter and the product holds something else, or the reverse.
    """
    wanted, there = model.spec.band_names, tuple(product.rasters)
    found, warnings = wanted, []
    missing = [name for name in wanted if name not in there]
    nameless = [all(_UNNAMED.fullmatch(name) for name in names) for names in (wanted, product.bands)]
    if not missing and all(nameless) and len(product.bands) > len(wanted):
        spare = [name for name in product.bands if name not in wanted]
        warnings.append(f"the bands have no names: the model takes {', '.join(wanted)}, and leaves out {', '.join(spare)}")
    if missing:
        unnamed = any(nameless)
        if not unnamed or len(product.bands) != len(wanted):
            raise InputError(f"no band {', '.join(missing)}, which the model takes", product.path, f"bands are {', '.join(there)}")
        found = product.bands
        warnings.append(f"bands matched by order: {', '.join(f'{a} = {b}' for a, b in zip(wanted, found, strict=True))}")
    check_quantity(model.spec, product.quantity, product.path)
    return found, warnings


def _tile_warning(model: Model, product: Product, tiles: TileOptions) -> list[str]:
    """A network that takes means over the whole tile wants tiles as large as the patches that it learnt from."""
    patch, tile = model.spec.training.get("patch_px"), min(tiles.tile_px, max(product.grid.shape))
    if not getattr(model.network, "pools_globally", False) or patch is None or tile == patch:
        return []
    return [f"{model.spec.network} takes means over whole tiles: it learnt from {patch} pixels, the tiles have {tile}; try --tile {patch}"]


def _map_strips(
    model: Model, product: Product, bands: tuple[str, ...], writer: MapWriter, options: PredictOptions, progress: Progress
) -> dict[str, int]:
    """Read, predict and write from top to bottom; returns the mapped pixels under layover and under shadow."""

    def read(window: Window) -> NDArray[np.float32]:
        values = product.read(window, bands)
        if product.mask_raster is not None:
            values[:, (product.mask(window) & INVALID) != 0] = np.nan
        return normalise(values, model.spec.bands)

    codes = np.asarray(model.spec.legend.codes, np.uint8)
    forward = make_forward(model.network, temperature=model.spec.temperature, both_ways=options.both_ways)
    counted = dict.fromkeys(_COUNTED_APART, 0)
    rows = product.grid.shape[0]
    for strip in predict_strips(read, product.grid.shape, forward, classes=len(codes), options=options.tiles):
        best, confidence = decide(strip, codes)
        layers = {"probabilities": strip.probabilities * strip.valid} if options.probabilities else {}
        writer.write(strip.window, best, confidence, **layers)
        if product.mask_raster is not None:
            mask = product.mask(strip.window)
            for name, bit in _COUNTED_APART.items():
                counted[name] += int(np.count_nonzero((mask & bit != 0) & strip.valid))
        progress(strip.window.row_stop, rows, f"map {product.id}")
    return counted


def decide(strip: Strip, codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Code and confidence uint8 (rows, cols) of a strip; equal probabilities go to the smallest code; 0 where not valid."""
    winner = strip.probabilities.argmax(axis=0)
    top = np.take_along_axis(strip.probabilities, winner[np.newaxis], axis=0)[0].astype(np.uint32)
    step = PROBABILITY_ONE // CONFIDENCE_ONE
    confidence = np.maximum((top + step // 2) // step, 1).astype(np.uint8)
    return np.where(strip.valid, codes[winner], 0).astype(np.uint8), np.where(strip.valid, confidence, 0).astype(np.uint8)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
