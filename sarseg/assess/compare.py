"""Two products of the same ground beside each other: shift, differences in dB, masks; window by window, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from sarseg.assess.compare_pair import Pair, metres_per_unit, pair
from sarseg.assess.compare_shift import Shift, choose_tiles, find_shift
from sarseg.assess.compare_tally import SCATTER_BINS, Tally, Unit, differences
from sarseg.bands import diagonals_of
from sarseg.errors import InputError, UsageError
from sarseg.labels.resample import Rule, choose_rule, on_grid
from sarseg.labels.sources import LabelSource, open_labels
from sarseg.legend import Legend
from sarseg.masks import Mask
from sarseg.product.folder import LANDCOVER
from sarseg.product.open import INCIDENCE_BAND, Product, open_product
from sarseg.progress import Progress, silent
from sarseg.raster.read import Raster
from sarseg.tiles import Window, blocks

log = logging.getLogger(__name__)

PICTURE_PX = 480
"""Longest side of the difference map."""
INCIDENCE_STEP_DEG = 5.0
_GDAL_CACHE_BYTES = 64 << 20
_SAME_TIME = np.timedelta64(60, "s")
_CLASSES = "it holds classes, and their codes have no differences"
_SAY_IT = "say its quantity and scale in a side file {}.sarseg.yaml"
_SMOOTHED = "resampling smooths the speckle of B: it raises the mean of dB (the bias), not the power ratio"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What to compare.

    Parameters
    ----------
    classes : class raster or map folder, on any grid; differences are told by class too
    legend : its classes, where the file does not name them
    mixed : compare although one product is sigma0 and the other gamma0 (or the like)
    incidence_step_deg : width of the incidence bins
    """

    classes: Path | None = None
    legend: Legend | None = None
    mixed: bool = False
    incidence_step_deg: float = INCIDENCE_STEP_DEG

    def __post_init__(self) -> None:
        if not 0.5 <= self.incidence_step_deg <= 90.0:
            raise UsageError(f"incidence bins of {self.incidence_step_deg:g} degrees", hint="0.5 to 90")


@dataclass(frozen=True, slots=True, kw_only=True)
class BandTally:
    """One band of both: differences of all pixels, by class, by incidence bin, and how A and B go together (dB only).

    `scatter` int64 (A, B), bins of `SCATTER_DB`; None unless the unit is dB.
    """

    name: str
    in_b: str
    all: Tally
    classes: Tally | None
    incidence: Tally | None
    scatter: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskTally:
    """Pixels with one mask bit: in A only, in B only, in both; `computed` tells whether A and B decide the bit at all."""

    bit: Mask
    a_only: int
    b_only: int
    both: int
    computed: tuple[bool, bool]

    @property
    def iou(self) -> float:
        """Intersection over union; NaN where neither has the bit, or one does not decide it."""
        union = self.a_only + self.b_only + self.both
        return self.both / union if union and all(self.computed) else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found; every difference is B - A.

    Parameters
    ----------
    valid : pixels of the common window with data in A, in B, and in both (of the first band)
    incidence_edges_deg : of the bins, empty without an incidence band
    picture : mean difference of the first band, float32, one pixel for `picture_step` squared of A's; NaN = none
    """

    pair: Pair
    shift: Shift | None
    bands: tuple[BandTally, ...]
    legend: Legend | None
    incidence_edges_deg: tuple[float, ...]
    masks: tuple[MaskTally, ...]
    valid: tuple[int, int, int]
    notes: tuple[str, ...]
    picture: NDArray[np.float32]
    picture_step: int

    @property
    def shift_m(self) -> tuple[float, float] | None:
        """(east, north) of B's content against A's; None without a shift or a georeference."""
        if self.shift is None or self.pair.a.grid.crs is None:
            return None
        matrix = self.pair.a.grid.transform
        per_x, per_y = metres_per_unit(self.pair.a.grid)
        x = matrix.a * self.shift.col_px + matrix.b * self.shift.row_px
        y = matrix.d * self.shift.col_px + matrix.e * self.shift.row_px
        return x * per_x, y * per_y


def compare(
    a: str | Path | Product, b: str | Path | Product, options: CompareOptions | None = None, progress: Progress = silent
) -> Comparison:
    """Lay B on A and measure how they differ.

    Parameters
    ----------
    a, b : whatever `open_product` opens, or opened products

    Raises
    ------
    InputError : they do not overlap, have no band in common, or no pixel with data in both
    UsageError : they hold different quantities, or classes
    """
    options = options or CompareOptions()
    both = pair(_opened(a), _opened(b))
    notes = _check(both, options)
    names = _common_bands(both)
    labels = _open_classes(options, both) if options.classes is not None else None
    todo = blocks(both.window.shape, both.block_px)
    counts = _Counts(both, names, labels, options)
    with rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES):
        for done, block in enumerate(todo):
            progress(done, len(todo), "compare")
            counts.add(block.shift(rows=both.window.row, cols=both.window.col))
        progress(len(todo), len(todo), "compare")
        if not counts.valid[2]:
            raise InputError("no pixel has data in both", both.b.path, f"A is {both.a.path}")
        shift = find_shift(_tiles(both, names[0]), power=_unit(both.a, names[0][0]) == "dB")
    if shift is None:
        notes.append("no shift found: the images are too small, too empty, or not alike")
    first = counts.bands[0].all
    if both.a.quantity == "raw" and first.sum_a[0] * first.sum_b[0] < 0:
        negative = both.a if first.sum_a[0] < 0 else both.b
        notes.append(f"one mean is negative, the other positive: if {negative.path} is in dB, {_SAY_IT.format(negative.path.name)}")
    return counts.result(shift, notes)


def _opened(one: str | Path | Product) -> Product:
    """A product; UsageError when it is a map of classes."""
    hint = f"`sarseg assess {one} --truth FILE` compares it with another"
    if not isinstance(one, Product) and (Path(one) / LANDCOVER).is_file():
        raise UsageError(_CLASSES, str(one), hint)
    product = one if isinstance(one, Product) else open_product(one)
    if any(isinstance(layer, Raster) and Legend.from_tags(layer.tags, layer.colormap) for layer in product.rasters.values()):
        raise UsageError(_CLASSES, product.path, hint)
    return product


class _Counts:
    """What is counted so far."""

    def __init__(self, both: Pair, names: list[tuple[str, str]], labels: tuple[LabelSource, Rule] | None, options: CompareOptions) -> None:
        self.both, self.labels = both, labels
        self.angle = next((one for one in (both.a, both.b) if INCIDENCE_BAND in one.rasters), None)
        step = options.incidence_step_deg
        self.edges = np.arange(0.0, 90.0 + step, step) if self.angle is not None else np.empty(0)
        classes = len(labels[0].legend.codes) if labels is not None else 0
        self.bands = [
            BandTally(
                name=a,
                in_b=b,
                all=Tally(1, unit),
                classes=Tally(classes, unit) if classes and unit != "deg" else None,
                incidence=Tally(len(self.edges) - 1, unit) if self.angle is not None and unit != "deg" else None,
                scatter=np.zeros((SCATTER_BINS, SCATTER_BINS), np.int64) if unit == "dB" else None,
            )
            for (a, b), unit in ((name, _unit(both.a, name[0])) for name in names)
        ]
        self.valid = np.zeros(3, np.int64)
        self.mask = np.zeros((len(Mask), 3), np.int64)
        self.step = max(1, -(-max(both.window.shape) // PICTURE_PX))
        shape = tuple(-(-side // self.step) for side in both.window.shape)
        self.total, self.number = np.zeros(shape), np.zeros(shape, np.int64)

    def add(self, window: Window) -> None:
        """Count a window of A."""
        both = self.both
        a = both.a.read(window, [band.name for band in self.bands])
        b = both.read_b(window, [band.in_b for band in self.bands])
        self.valid += [np.count_nonzero(one) for one in (~np.isnan(a[0]), ~np.isnan(b[0]), ~np.isnan(a[0] + b[0]))]
        self._add_masks(both.a.mask(window), both.mask_b(window))
        groups = (np.zeros(window.shape, np.int16), self._classes(window), self._incidence(window))
        for at, band in enumerate(self.bands):
            difference = differences(a[at], b[at], band.scatter)
            for tally, group in zip((band.all, band.classes, band.incidence), groups, strict=True):
                if tally is not None and group is not None:
                    tally.add(group, a[at], b[at], difference)
            if at == 0:
                self._add_picture(window, difference)

    def _classes(self, window: Window) -> NDArray[np.int16] | None:
        """Place in the legend, -1 = no class."""
        if self.labels is None:
            return None
        source, rule = self.labels
        place = source.legend.lookup()[on_grid(source, self.both.a.grid, window, rule)].astype(np.int16)
        return np.where(place < len(source.legend.codes), place, np.int16(-1))

    def _incidence(self, window: Window) -> NDArray[np.int16] | None:
        """Bin of the incidence angle, -1 = none."""
        if self.angle is None:
            return None
        of_a = self.angle is self.both.a
        angle = (self.both.a.read(window, [INCIDENCE_BAND]) if of_a else self.both.read_b(window, [INCIDENCE_BAND]))[0]
        place = np.searchsorted(self.edges, np.nan_to_num(angle, nan=-1.0), "right") - 1
        return np.where((place >= 0) & (place < len(self.edges) - 1), place, -1).astype(np.int16)

    def _add_masks(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
        for at, bit in enumerate(Mask):
            mine, theirs = (a & bit) > 0, (b & bit) > 0
            self.mask[at] += [np.count_nonzero(one) for one in (mine & ~theirs, theirs & ~mine, mine & theirs)]

    def _add_picture(self, window: Window, difference: Floats) -> None:
        row, col = np.nonzero(~np.isnan(difference))
        values = difference[row, col]
        row = (row + window.row - self.both.window.row) // self.step
        col = (col + window.col - self.both.window.col) // self.step
        place = row * self.total.shape[1] + col
        self.total += np.bincount(place, values, self.total.size).reshape(self.total.shape)
        self.number += np.bincount(place, minlength=self.total.size).reshape(self.total.shape)

    def result(self, shift: Shift | None, notes: list[str]) -> Comparison:
        """The sums as they stand."""
        computed = [_computed(one) for one in (self.both.a, self.both.b)]
        masks = [
            MaskTally(bit=bit, a_only=int(row[0]), b_only=int(row[1]), both=int(row[2]), computed=(bit in computed[0], bit in computed[1]))
            for bit, row in zip(Mask, self.mask, strict=True)
        ]
        with np.errstate(invalid="ignore"):
            picture = (self.total / self.number).astype(np.float32)
        return Comparison(
            pair=self.both,
            shift=shift,
            bands=tuple(self.bands),
            legend=self.labels[0].legend if self.labels is not None else None,
            incidence_edges_deg=tuple(self.edges.tolist()),
            masks=tuple(masks),
            valid=(int(self.valid[0]), int(self.valid[1]), int(self.valid[2])),
            notes=tuple(notes),
            picture=picture,
            picture_step=self.step,
        )


def _tiles(both: Pair, name: tuple[str, str]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Tiles of one band for the shift."""
    for window in choose_tiles(both.window):
        yield both.a.read(window, [name[0]])[0], both.read_b(window, [name[1]])[0]


def _unit(product: Product, band: str) -> Unit:
    """An off-diagonal element of a matrix has a sign, and no dB."""
    if band == INCIDENCE_BAND:
        return "deg"
    return "dB" if product.quantity == "power" and diagonals_of(band) is None else ""


def _common_bands(both: Pair) -> list[tuple[str, str]]:
    """Names in A and B: equal ones, or the single raw band of each; then the incidence angle where both have it."""
    a, b = both.a, both.b
    names = [(name, name) for name in a.bands if name in b.bands]
    if not names and a.quantity == "raw" and len(a.bands) == len(b.bands) == 1:
        names = [(a.bands[0], b.bands[0])]
    if not names:
        raise InputError(f"no band in common: {', '.join(a.bands)} and {', '.join(b.bands)}", b.path, "give products of one polarisation")
    if all(INCIDENCE_BAND in one.rasters and INCIDENCE_BAND not in one.bands for one in (a, b)):
        names.append((INCIDENCE_BAND, INCIDENCE_BAND))
    return names


def _check(both: Pair, options: CompareOptions) -> list[str]:
    """Refuse what must not be compared; notes about what differs besides the pixels."""
    a, b = both.a, both.b
    if a.quantity != b.quantity:
        raw, power = (a, b) if a.quantity == "raw" else (b, a)
        hint = _SAY_IT.format(raw.path.name)
        raise UsageError(f"{power.id} holds backscatter, and nothing says what the values of the other are", raw.path, hint)
    notes = [_SMOOTHED] if both.offset is None and a.quantity == "power" else []
    if a.radiometry is not None and b.radiometry is not None and a.radiometry != b.radiometry:
        if not options.mixed:
            raise UsageError(
                f"A is {a.radiometry} and B is {b.radiometry}", b.path, "they differ by more than the processing; --mixed compares"
            )
        notes.append(f"A is {a.radiometry} and B is {b.radiometry}")
    elif a.quantity == "power" and (a.radiometry is None) != (b.radiometry is None):
        notes.append(f"{'A' if a.radiometry is None else 'B'} does not say whether it is sigma0 or gamma0")
    times = [np.datetime64(one.datetime_utc.rstrip("Z")) if one.datetime_utc else None for one in (a, b)]
    if times[0] is not None and times[1] is not None and abs(times[0] - times[1]) > _SAME_TIME:
        notes.append(f"A is of {a.datetime_utc}, B of {b.datetime_utc}: what changed on the ground differs too")
    return notes


def _computed(product: Product) -> frozenset[int]:
    """Bits that a product decides; "no data" always, its other bits where its item lists them."""
    said: Any = product.item.get("properties", {})
    bits = said.get("sarseg:mask_computed", []) if isinstance(said, Mapping) else []
    return frozenset({int(Mask.NO_DATA), *(int(bit) for bit in bits if isinstance(bit, int))})


def _open_classes(options: CompareOptions, both: Pair) -> tuple[LabelSource, Rule]:
    assert options.classes is not None
    path = options.classes / LANDCOVER if options.classes.is_dir() else options.classes
    source = open_labels(path, options.legend)
    return source, choose_rule(source.grid, both.a.grid)
