"""A map beside what a sceptic would try: per-pixel classifiers on the same training pixels, scored on the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarseg.decibel import to_db
from sarseg.errors import InputError
from sarseg.grid import Bounds, MapGrid
from sarseg.labels.resample import choose_rule, on_grid
from sarseg.labels.sources import open_labels
from sarseg.legend import Legend
from sarseg.metrics import Accuracy, confusion, is_class
from sarseg.nets.baselines import GaussianClassifier, fit_gaussian
from sarseg.patches.store import INDEX
from sarseg.patches.tally import read_index
from sarseg.product.open import INCIDENCE_BAND, LandcoverMap, Product
from sarseg.raster.picture import classes_picture, power_picture, save_picture
from sarseg.raster.read import open_raster
from sarseg.tiles import Window

Filter = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Linear power (band, rows, cols) to linear power."""

_TRAIN = "train"
_GAP_PX = 12
_CAPTION_PX = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Part of a map with its truth, codes uint8 (rows, cols): the pixels whose centres lie in the given bounds."""

    grid: MapGrid
    codes: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    legend: Legend

    @classmethod
    def of(cls, landcover: LandcoverMap, truth: Path, bounds: Bounds) -> Region:
        """Read it; InputError when map and bounds do not meet."""
        window = landcover.grid.window_covering(bounds)
        if window is None:
            raise InputError(f"the region {bounds} lies outside of the map", landcover.path)
        labels = open_labels(truth, landcover.legend)
        on_map = on_grid(labels, landcover.grid, window, choose_rule(labels.grid, landcover.grid))
        return cls(grid=landcover.grid.crop(window), codes=landcover.codes(window), truth=on_map, legend=landcover.legend)

    def window_in(self, product: Product) -> Window:
        """The same pixels in a product; InputError when it is on another lattice, or does not hold them all."""
        offset = product.grid.offset_of(self.grid)
        window = None if offset is None else Window(row=offset[0], col=offset[1], rows=self.grid.shape[0], cols=self.grid.shape[1])
        if window is None or window.clip(product.grid.shape) != window:
            raise InputError("does not hold the region on the map's lattice", product.path)
        return window


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPixels:
    """Where a dataset's training windows lie in one scene, and the labels there: codes uint8 (rows, cols), 0 elsewhere."""

    codes: NDArray[np.uint8]

    @classmethod
    def of(cls, dataset: Path, scene: str, labels: Path) -> TrainingPixels:
        """Take them from the dataset's index and the scene's label raster."""
        index, codes = read_index(dataset / INDEX), np.asarray(open_raster(labels).read_codes(), np.uint8)
        inside = np.zeros(codes.shape, bool)
        for at in np.flatnonzero((index["scene"] == scene) & (index["split"] == _TRAIN)):
            row, col, size = int(index["row"][at]), int(index["col"][at]), int(index["size"][at])
            inside[row : row + size, col : col + size] = True
        return cls(codes=np.where(inside, codes, np.uint8(0)))


def gaussian_map(
    products: Sequence[Product], training: Sequence[TrainingPixels], region: Region, smooth: Filter | None = None
) -> NDArray[np.uint8]:
    """Codes uint8 (rows, cols) of a region by Gaussian maximum likelihood on dB of the bands and the incidence angle.

    One classifier is fitted to the training pixels of all products. The products' likelihoods are multiplied where they
    overlap, and by the classes' shares of the training pixels; 0 where no product has data.

    Parameters
    ----------
    training : of each product
    smooth : speckle filter on the map, before dB
    """
    layers = [features(product, smooth) for product in products]
    used = [(one.codes != 0) & (product.mask() == 0) for product, one in zip(products, training, strict=True)]
    samples = np.concatenate([layer[:, here] for layer, here in zip(layers, used, strict=True)], axis=1)
    codes = np.concatenate([one.codes[here] for one, here in zip(training, used, strict=True)])
    classifier = fit_gaussian(samples, codes, priors="equal")
    shares = np.array([np.count_nonzero(codes == code) for code in classifier.codes]) / len(codes)
    total = np.zeros((len(shares), *region.grid.shape))
    seen = np.zeros(region.grid.shape, bool)
    for product, layer in zip(products, layers, strict=True):
        rows, cols = region.window_in(product).slices
        _add_likelihood(classifier, layer[:, rows, cols], total, seen)
    best = classifier.codes[(total + np.log(shares)[:, np.newaxis, np.newaxis]).argmax(0)]
    return np.where(seen, best, np.uint8(0))


def features(product: Product, smooth: Filter | None = None) -> NDArray[np.float32]:
    """dB of the product's bands and its incidence angle, float32 (bands + 1, rows, cols)."""
    power = product.read()
    decibel = to_db(power if smooth is None else smooth(power))
    return np.concatenate([decibel, product.read(bands=(INCIDENCE_BAND,))]).astype(np.float32)


def _add_likelihood(
    classifier: GaussianClassifier, layer: NDArray[np.float32], total: NDArray[np.float64], seen: NDArray[np.bool_]
) -> None:
    valid = ~np.isnan(layer).any(0)
    total[:, valid] += classifier.log_likelihood(layer[:, valid])
    seen |= valid


def score(region: Region, others: Mapping[str, NDArray[np.uint8]]) -> tuple[Accuracy, dict[str, Accuracy]]:
    """Accuracy of the map and of other codes (rows, cols) of its region, on the pixels that have a label and all codes."""
    scored = is_class(region.truth) & (region.codes != 0)
    for codes in others.values():
        scored &= codes != 0
    truth = np.where(scored, region.truth, np.uint8(0))

    def accuracy(codes: NDArray[np.uint8]) -> Accuracy:
        return Accuracy(confusion(truth, codes, region.legend), region.legend)

    return accuracy(region.codes), {name: accuracy(codes) for name, codes in others.items()}


def draw(path: Path, region: Region, product: Product, baseline: NDArray[np.uint8], captions: Sequence[str]) -> None:
    """A PNG of the region: radar, truth, map and a baseline side by side, under four captions."""
    from PIL import Image, ImageDraw, ImageFont

    pictures = [power_picture(product.read(region.window_in(product)))]
    pictures += [classes_picture(codes, region.legend) for codes in (region.truth, region.codes, baseline)]
    rows, cols = region.grid.shape
    sheet = Image.new("RGB", (len(pictures) * (cols + _GAP_PX) - _GAP_PX, rows + _CAPTION_PX), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for at, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = at * (cols + _GAP_PX)
        tile = Image.fromarray(picture)
        sheet.paste(tile, (left, _CAPTION_PX), tile)
        pen.text((left, 2), caption, fill="black", font=font)
    save_picture(np.asarray(sheet), path)
