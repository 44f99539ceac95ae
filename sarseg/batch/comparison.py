"""A map beside what a sceptic would try: per-pixel classifiers on the same training pixels, scored on the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.decibel import to_db
from sarseg.errors import InputError
from sarseg.grid import Bounds, MapGrid
from sarseg.labels.resample import choose_rule, on_grid
from sarseg.labels.sources import open_labels
from sarseg.legend import Legend
from sarseg.metrics import Accuracy, confusion, is_class
from sarseg.nets.baselines import fit_gaussian
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

    def window_in(self, other: Product | LandcoverMap) -> Window:
        """The same pixels in a product or map; InputError when it is on another lattice, or does not hold them all."""
        offset = other.grid.offset_of(self.grid)
        window = None if offset is None else Window(row=offset[0], col=offset[1], rows=self.grid.shape[0], cols=self.grid.shape[1])
        if window is None or window.clip(other.grid.shape) != window:
            raise InputError("does not hold the region on the map's lattice", other.path)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """Codes uint8 (rows, cols) of a region: one raster a scene, and one of all scenes together; 0 where there is no data."""

    scenes: tuple[NDArray[np.uint8], ...]
    together: NDArray[np.uint8]


def classify_gaussian(
    products: Sequence[Product], training: Sequence[TrainingPixels], region: Region, smooth: Filter | None = None
) -> Classified:
    """A region by Gaussian maximum likelihood on dB of the bands and the incidence angle, with the classes' shares as priors.

    Each scene has a classifier of its own, which does better than one for all. Together, likelihoods are multiplied.

    Parameters
    ----------
    training : of each product
    smooth : speckle filter on the map, before dB
    """
    scenes, priors = [], np.zeros(len(region.legend.codes))
    together = np.zeros((len(region.legend.codes), *region.grid.shape))
    seen = np.zeros(region.grid.shape, bool)
    for product, one in zip(products, training, strict=True):
        layer = features(product, smooth)
        used = (one.codes != 0) & (product.mask() == 0)
        classifier = fit_gaussian(layer[:, used], one.codes[used])
        here = layer[(slice(None), *region.window_in(product).slices)]
        valid = np.asarray(~np.isnan(here).any(0))
        rows = [region.legend.index_of(int(code)) for code in classifier.codes]
        likelihood = np.full((len(region.legend.codes), int(valid.sum())), -np.inf)
        likelihood[rows] = classifier.log_likelihood(here[:, valid])
        prior = np.zeros(len(region.legend.codes))
        prior[rows] = classifier.log_prior
        priors += prior / len(products)
        scenes.append(_most_likely(likelihood, valid, region.legend))
        together[:, valid] += likelihood - prior[:, np.newaxis]
        seen |= valid
    fused = together[:, seen] + priors[:, np.newaxis]  # the shares count once
    return Classified(scenes=tuple(scenes), together=_most_likely(fused, seen, region.legend))


def classified_by_network(maps: Sequence[LandcoverMap], region: Region) -> Classified:
    """The scenes' maps in the region, and their mosaic, which the region was taken from."""
    return Classified(scenes=tuple(one.codes(region.window_in(one)) for one in maps), together=region.codes)


def _most_likely(likelihood: NDArray[np.float64], valid: NDArray[np.bool_], legend: Legend) -> NDArray[np.uint8]:
    codes = np.zeros(valid.shape, np.uint8)
    codes[valid] = np.array(legend.codes, np.uint8)[likelihood.argmax(0)]
    return codes


def features(product: Product, smooth: Filter | None = None) -> NDArray[np.float32]:
    """dB of the product's bands and its incidence angle, float32 (bands + 1, rows, cols)."""
    power = product.read()
    decibel = to_db(power if smooth is None else smooth(power))
    return np.concatenate([decibel, product.read(bands=(INCIDENCE_BAND,))]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy of the scenes' maps, each against the same truth, their pixels counted together; and of all scenes together."""

    scenes: Accuracy
    together: Accuracy

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"scenes": self.scenes.to_dict(), "together": self.together.to_dict()}


def score(region: Region, made: Mapping[str, Classified]) -> dict[str, Scores]:
    """Accuracies by name, all on the same pixels: those with a label and a class in every raster."""
    scored = is_class(region.truth)
    for one in made.values():
        for codes in (*one.scenes, one.together):
            scored &= codes != 0
    truth = np.where(scored, region.truth, np.uint8(0))

    def accuracy(rasters: Sequence[NDArray[np.uint8]]) -> Accuracy:
        return Accuracy(np.sum([confusion(truth, codes, region.legend) for codes in rasters], axis=0), region.legend)

    return {name: Scores(accuracy(one.scenes), accuracy([one.together])) for name, one in made.items()}


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
