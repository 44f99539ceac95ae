"""The contact sheet: a page to look at before training. Patches beside their masks, class shares, and where the windows lie.

Which patches are shown is a fixed rule, and the file holds no date, so that the same data set gives the same bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sarseg.bands import BandScale, scaled_band
from sarseg.legend import IGNORE, NODATA
from sarseg.patches.dataset import Dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 100
_TILE = 112  # side of a patch on the page, pixels
_PAIR = 2 * _TILE + 2
_GAP, _CAPTION = 18, 20
_COLUMNS, _SHOWN = 5, 30
_MARGIN, _HEAD, _BAND = 40, 108, 34
_RIGHT = 480
_LEFT = _COLUMNS * (_PAIR + _GAP) - _GAP
_LEAST_HEIGHT = 900
_LOOKED_AT = 150  # patches of a split whose masks are counted where no index has done it
_PANELS = 4
_MOST_ROWS = 22  # classes
_MOST_WINDOWS = 4000  # drawn on a map
_STRETCH_PERCENT = (2.0, 98.0)
_SPLIT_COLORS = {"train": "#2f6db3", "val": "#f08c2e", "test": "#8e44ad", "none": "#b5b5b5"}
_INK, _GREY = "#22303c", "#6b7780"
_MASKED, _EMPTY = 226, (236, 214)  # grey of what is not trained on, and the two greys of the chequers where there is no data


@dataclass(frozen=True, slots=True)
class _Count:
    """Pixels of each class in some patches of a split."""

    numbers: NDArray[np.int64]
    """(n,): numbers of the patches counted."""
    pixels: NDArray[np.int64]
    """(n, classes)."""
    of: int
    """Patches of the split."""


def draw_contact_sheet(dataset: Dataset, path: str | Path, *, name: str = "") -> Path:
    """Draw the contact sheet of a data set as the PNG `path`, and return it.

    It shows up to 30 patches of training and validation (half of them chosen for the rarest classes), the share of each
    class in each split, and the windows of the first scenes on a map. Memory does not grow with the data set.

    Parameters
    ----------
    name : in the title; that of the data set's folder when empty
    """
    import matplotlib as mpl
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    counts = {split: _count(dataset, split) for split in ("train", "val", "test") if len(dataset.split(split))}
    shown = _shown(counts)
    rows = sum(_rows(numbers) for numbers in shown.values())
    height = max(_LEAST_HEIGHT, _HEAD + rows * (_TILE + _CAPTION) + len(shown) * _BAND + _MARGIN)
    width = 2 * _MARGIN + _LEFT + 56 + _RIGHT
    # a user's own style would change the page; class names are words, not formulas, and may be in any script
    with style.context("default"), mpl.rc_context({"text.parse_math": False, "font.size": 9}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        page = _Page(figure, width, height)
        _write_head(page, dataset, name or dataset.path.name, counts)
        _draw_patches(page, dataset, shown)
        _draw_shares(page, dataset, counts)
        _draw_maps(page, dataset)
        figure.savefig(path, format="png", metadata={"Software": None})
    return path


def choose_patches(pixels: NDArray[np.int64], wanted: int) -> list[int]:
    """Which patches to show, ascending: half for the rarest classes, the others evenly spread.

    Parameters
    ----------
    pixels : int64 (n, classes), pixels of each class in each patch
    """
    if len(pixels) <= wanted:
        return list(range(len(pixels)))
    total = pixels.sum(0)
    rarest = [int(at) for at in np.argsort(total, kind="stable") if total[at]]
    taken: list[int] = []
    for turn in range((wanted + 1) // 2 if rarest else 0):
        column = pixels[:, rarest[turn % len(rarest)]].copy()
        column[taken] = -1
        taken.append(int(column.argmax()))
    free = np.setdiff1d(np.arange(len(pixels)), taken)
    more = wanted - len(taken)
    taken += free[(np.arange(more) * 2 + 1) * len(free) // (2 * more)].tolist()
    return sorted(taken)


@dataclass(frozen=True, slots=True)
class _Page:
    """The figure, and places on it in pixels from the top left."""

    figure: Figure
    width: int
    height: int

    def text(self, x: float, y: float, words: str, **look: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, words, **{"color": _INK, "va": "top", **look})

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height))

    def image(self, x: int, y: int, picture: NDArray[np.uint8]) -> None:
        self.figure.figimage(picture, xo=x, yo=self.height - y - len(picture), origin="upper")


def _count(dataset: Dataset, split: str) -> _Count:
    """From the index, or, without one, from an even choice of the masks."""
    numbers = dataset.split(split)
    columns = [f"class_{code}" for code in dataset.legend.codes]
    if all(column in dataset.index for column in columns):
        return _Count(numbers, np.stack([dataset.index[column][numbers].astype(np.int64) for column in columns], axis=1), len(numbers))
    few = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), _LOOKED_AT)).astype(np.int64))]
    codes = list(dataset.legend.codes)
    found = [np.bincount(dataset.read(int(number))[1].ravel(), minlength=256)[codes] for number in few]
    return _Count(few, np.array(found, np.int64), len(numbers))


def _shown(counts: dict[str, _Count]) -> dict[str, list[int]]:
    """Numbers of the patches to show of training and validation: two thirds and one third where there are both."""
    held = [split for split in ("train", "val") if split in counts]
    share = {"train": _SHOWN * 2 // 3, "val": _SHOWN // 3} if len(held) == 2 else dict.fromkeys(held, _SHOWN)
    return {split: counts[split].numbers[choose_patches(counts[split].pixels, share[split])].tolist() for split in held}


def _rows(numbers: Sequence[int]) -> int:
    return -(-len(numbers) // _COLUMNS)


def _write_head(page: _Page, dataset: Dataset, name: str, counts: dict[str, _Count]) -> None:
    page.text(_MARGIN, 24, _short(name, 70), size=20, weight="bold")
    scenes = list(dict.fromkeys(dataset.index["scene"].tolist())) if "scene" in dataset.index else []
    few = ", ".join(_short(str(scene), 40) for scene in scenes[:3]) + (", ..." if len(scenes) > 3 else "")
    splits = ", ".join(f"{count.of:,} {split}" for split, count in counts.items())
    line = f"{len(dataset):,} patches of {dataset.size} x {dataset.size} pixels: {splits}"
    page.text(_MARGIN, 62, line + (f"  |  {len(scenes)} scene{'s' * (len(scenes) != 1)}: {few}" if scenes else ""), size=10)
    page.text(_MARGIN, 82, f"{_bands_line(dataset)}  |  grey in a mask: not trained on; chequers: no data", size=9, color=_GREY)


def _bands_line(dataset: Dataset) -> str:
    bands = _bands(dataset)
    names = [bands[at].name + " (dB)" * (bands[at].scale == "db") for at in _pictured(bands)]
    if len(names) == 1:
        shown = f"grey {names[0]}"
    else:
        third = names[2] if len(names) > 2 else "their difference"
        shown = f"red {names[0]}, green {names[1]}, blue {third}"
    return f"bands {_short(', '.join(band.name for band in bands), 60)}; pictures: {shown}"


def _draw_patches(page: _Page, dataset: Dataset, shown: dict[str, list[int]]) -> None:
    read = {split: [_thumbnail(dataset, number) for number in numbers] for split, numbers in shown.items()}
    pictures = _pictures(dataset, [picture for pairs in read.values() for picture, _ in pairs])
    top = _HEAD
    colors = _mask_colors(dataset)
    for split, pairs in read.items():
        title = {"train": "Training patches", "val": "Validation patches"}[split]
        page.text(_MARGIN, top + 4, title, size=12, weight="bold", color=_SPLIT_COLORS[split])
        top += _BAND
        for at, (number, (_, mask)) in enumerate(zip(shown[split], pairs, strict=True)):
            x, y = _MARGIN + at % _COLUMNS * (_PAIR + _GAP), top + at // _COLUMNS * (_TILE + _CAPTION)
            pair = np.full((_TILE, _PAIR, 3), 255, np.uint8)
            pair[:, :_TILE], pair[:, -_TILE:] = next(pictures), colors[mask]
            page.image(x, y, pair)
            page.text(x, y + _TILE + 2, _caption(dataset, number, mask), size=7, color=_GREY)
        top += _rows(shown[split]) * (_TILE + _CAPTION)


def _thumbnail(dataset: Dataset, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scaled bands float32 (band <= 3, _TILE, _TILE) and mask uint8 (_TILE, _TILE) of a patch."""
    image, mask = dataset.read(number)
    bands = _bands(dataset)
    layers = [_fit(scaled_band(image, bands, at)) for at in _pictured(bands)]
    return np.stack(layers), mask[np.ix_(*(_nearest(length) for length in mask.shape))]


def _fit(band: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square of _TILE pixels: means of whole pixels where there are more, else the nearest."""
    step = max(1, min(band.shape) // _TILE)
    if step > 1:
        rows, cols = (length // step for length in band.shape)
        band = band[: rows * step, : cols * step].reshape(rows, step, cols, step).mean((1, 3))
    return band[np.ix_(*(_nearest(length) for length in band.shape))]


def _nearest(length: int) -> NDArray[np.int64]:
    return (np.arange(_TILE) * 2 + 1) * length // (2 * _TILE)


def _pictures(dataset: Dataset, patches: list[NDArray[np.float32]]) -> Any:
    """RGB uint8 (_TILE, _TILE, 3) of each patch, all in one stretch so that they can be compared."""
    if not patches:
        return iter(())
    stack = np.stack(patches)
    if stack.shape[1] == 2:
        stack = np.concatenate([stack, stack[:, :1] - stack[:, 1:]], axis=1)
    # the colours of a photograph hang together; bands of a radar do not
    bands = _bands(dataset)
    together = stack.shape[1] == 3 and all(bands[at].scale == "raw" for at in _pictured(bands)) and len(bands) >= 3
    for layers in [stack] if together else [stack[:, at] for at in range(stack.shape[1])]:
        values = layers[np.isfinite(layers)]
        low, high = np.percentile(values, _STRETCH_PERCENT) if values.size else (0.0, 1.0)
        layers -= low
        layers *= 255.0 / max(float(high - low), 1e-12)
    chequers = np.where((np.indices((_TILE, _TILE)) // 8).sum(0) % 2, *_EMPTY).astype(np.uint8)
    empty = np.asarray(np.isnan(stack).any(1))
    rgb = np.clip(np.nan_to_num(stack), 0, 255).astype(np.uint8)
    rgb = np.moveaxis(np.broadcast_to(rgb, (len(rgb), 3, _TILE, _TILE)), 1, -1)
    return iter(np.where(empty[..., np.newaxis], chequers[..., np.newaxis], rgb))


def _mask_colors(dataset: Dataset) -> NDArray[np.uint8]:
    colors = np.full((256, 3), 255, np.uint8)
    colors[[NODATA, IGNORE]] = _MASKED
    for one in dataset.legend.classes:
        colors[one.code] = one.color
    return colors


def _caption(dataset: Dataset, number: int, mask: NDArray[np.uint8]) -> str:
    """Number, scene, and the class that fills most of the mask."""
    pixels = np.bincount(mask.ravel(), minlength=256)[list(dataset.legend.codes)]
    most = int(pixels.argmax())
    share = f"{pixels[most] / mask.size:.0%} {_short(dataset.legend.names[most], 16)}"
    scene = _short(str(dataset.index["scene"][number]), 16) if "scene" in dataset.index else ""
    return "  ".join(word for word in (f"{number}", scene, share) if word)


def _bands(dataset: Dataset) -> Sequence[BandScale]:
    """Without their statistics, which a plain folder would have to be read for."""
    if dataset.known_bands is None:
        return [BandScale(name=name, scale="raw") for name in dataset.band_names]
    return [BandScale(name=band.name, scale=band.scale, diagonals=band.diagonals) for band in dataset.known_bands]


def _pictured(bands: Sequence[BandScale]) -> list[int]:
    """The first three bands of power, or of any kind without power."""
    power = [at for at, band in enumerate(bands) if band.scale in ("db", "linear")]
    return (power or list(range(len(bands))))[:3]


def _draw_shares(page: _Page, dataset: Dataset, counts: dict[str, _Count]) -> None:
    from matplotlib.patches import Rectangle

    left, rows = _MARGIN + _LEFT + 56, min(len(dataset.legend.codes), _MOST_ROWS)
    page.text(left, _HEAD + 4, "Share of each class", size=12, weight="bold")
    for at, split in enumerate(counts):
        page.text(left + 190 + at * 66, _HEAD + 7, f"\u25a0 {split}", size=9, color=_SPLIT_COLORS[split])
    if any(len(count.numbers) < count.of for count in counts.values()):
        page.text(left + 400, _HEAD + 7, "(a sample)", size=8, color=_GREY)
    axes = page.axes(left + 130, _HEAD + _BAND, _RIGHT - 130, rows * _row_height(rows))
    total = {split: np.maximum(count.pixels.sum(), 1) for split, count in counts.items()}
    shares = {split: count.pixels.sum(0) / total[split] for split, count in counts.items()}
    together = np.sum([*shares.values()], axis=0)
    top = max(1e-9, *(float(share.max()) for share in shares.values()))
    largest = np.sort(np.argsort(-together, kind="stable")[:rows])
    thick = 0.76 / len(counts)
    for row, at in enumerate(largest.tolist()):
        one = dataset.legend.classes[at]
        for turn, (split, share) in enumerate(shares.items()):
            axes.barh(row - 0.38 + (turn + 0.5) * thick, share[at], height=thick, color=_SPLIT_COLORS[split])
        words = " / ".join(_percent(share[at]) for share in shares.values())
        axes.text(top * 1.02, row, words, va="center", size=7, color=_GREY)
        axes.text(-0.055, row, _short(one.name, 18), va="center", ha="right", size=8, color=_INK, transform=axes.get_yaxis_transform())
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        color = tuple(part / 255 for part in one.color)
        axes.add_patch(Rectangle((-0.042, row - 0.31), 0.03, 0.62, facecolor=color, edgecolor=_GREY, linewidth=0.4, **place))
    axes.set_xlim(0, top * (1.16 + 0.13 * len(counts)))
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xticks([])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(_GREY)
    if rows < len(dataset.legend.codes):
        rest = f"and {len(dataset.legend.codes) - rows} smaller classes"
        page.text(left + 130, _HEAD + _BAND + rows * _row_height(rows) + 2, rest, size=8, color=_GREY)


def _row_height(rows: int) -> float:
    return min(34.0, 400.0 / rows)


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _draw_maps(page: _Page, dataset: Dataset) -> None:
    rows = min(len(dataset.legend.codes), _MOST_ROWS)
    left, top = _MARGIN + _LEFT + 56, _HEAD + _BAND + rows * _row_height(rows) + 28
    index = dataset.index
    if not all(name in index for name in ("scene", "row", "col")):
        return
    scenes = list(dict.fromkeys(index["scene"].tolist()))
    said = f" (the first {_PANELS} of {len(scenes)} scenes)" if len(scenes) > _PANELS else ""
    page.text(left, top, f"Where the windows lie{said}", size=12, weight="bold")
    top += 24
    if (index["split"] == "none").any():
        page.text(left + _RIGHT, top - 18, "grey: in no split", size=8, color=_GREY, ha="right")
    scenes = scenes[:_PANELS]
    across = 1 if len(scenes) == 1 else 2
    down = -(-len(scenes) // across)
    cell = (_RIGHT - 20 * (across - 1)) / across, (page.height - _MARGIN / 2 - top) / down
    known = {source.get("name"): source.get("shape") for source in dataset.info.get("sources", []) if isinstance(source, dict)}
    for at, scene in enumerate(scenes):
        axes = page.axes(left + at % across * (cell[0] + 20), top + at // across * cell[1] + 16, cell[0], cell[1] - 24)
        _draw_map(axes, dataset, scene, known.get(scene), _MOST_WINDOWS // len(scenes))


def _draw_map(axes: Axes, dataset: Dataset, scene: str, shape: list[int] | None, most: int) -> None:
    """The windows of one scene in its rows and columns, the first training ones, so that others lie above them."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Rectangle

    index, size = dataset.index, dataset.size
    here = np.flatnonzero(index["scene"] == scene)
    rows, cols = shape or (int(index["row"][here].max()) + size, int(index["col"][here].max()) + size)
    axes.add_patch(Rectangle((0, 0), cols, rows, facecolor="#f2f3f4", edgecolor=_GREY, linewidth=0.6))
    some = here[np.unique(np.linspace(0, len(here) - 1, min(len(here), most)).astype(np.int64))]
    for split in ("none", "train", "val", "test"):
        windows = some[index["split"][some] == split]
        row, col = index["row"][windows].astype(float), index["col"][windows].astype(float)
        corners = np.stack([np.stack([col + x, row + y], axis=-1) for x, y in ((0, 0), (size, 0), (size, size), (0, size))], axis=1)
        color = _SPLIT_COLORS[split]
        axes.add_collection(PolyCollection([*corners], alpha=0.45, linewidth=0.5, facecolor=color, edgecolor=color), autolim=False)
    axes.set_xlim(-0.01 * cols, 1.01 * cols)
    axes.set_ylim(1.01 * rows, -0.01 * rows)
    axes.set_aspect("equal", anchor="NW")
    axes.set_axis_off()
    part = f", {len(some):,} of {len(here):,} windows" if len(some) < len(here) else ""
    axes.set_title(f"{_short(str(scene), 30)}\n{rows:,} x {cols:,} px{part}", size=7, loc="left", color=_INK, pad=3)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
