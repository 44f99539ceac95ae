"""Plain folders: which image belongs to which mask, and what the masks' values or colours mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.legend import IGNORE, NODATA, LandClass, Legend, default_colors
from sarseg.raster.read import Raster, open_raster
from sarseg.tiles import Window

IMAGE_SUFFIXES = (".bmp", ".gif", ".img", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".vrt", ".webp")
_MOST_CLASSES = 254
_STRIP_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image and its mask: equal names without the ending, and the same place."""

    name: str
    image: Raster
    mask: Raster
    offset: tuple[int, int]
    """(row, col) of the image's first pixel in the mask."""


@dataclass(frozen=True, kw_only=True)
class MaskCodes:
    """How the pixels of mask files become codes: by `table` (uint8 (256,)), or by the legend's colours where there is none."""

    legend: Legend
    table: NDArray[np.uint8] | None = field(default=None, compare=False)

    def read(self, pair: Pair, window: Window) -> NDArray[np.uint8]:
        """Codes uint8 (rows, cols) under a window of the image; 255 = ignore, also outside of the mask and where it has nodata."""
        out = np.full(window.shape, IGNORE, np.uint8)
        there = window.shift(rows=pair.offset[0], cols=pair.offset[1])
        inside = there.clip(pair.mask.grid.shape)
        if inside is None:
            return out
        codes = self._codes(pair.mask, inside)
        out[inside.relative_to(there).slices] = np.where(codes == NODATA, IGNORE, codes)
        return out

    def _codes(self, mask: Raster, window: Window) -> NDArray[np.uint8]:
        if is_colored(mask) != (self.table is None):
            raise InputError("some masks are coloured and others hold numbers", mask.path)
        if self.table is None:
            return self.legend.codes_from_colors(_rgb(mask, window), mask.path)
        values = mask.read_codes(window)
        if values.min() < 0 or values.max() > IGNORE:
            raise InputError(f"mask values {values.min()}..{values.max()} are no codes 0..255", mask.path)
        codes = np.asarray(self.table[values], np.uint8)
        wrong = ~np.isin(codes, [NODATA, IGNORE, *self.legend.codes])
        if wrong.any():
            raise InputError(f"mask value {int(values[wrong][0])} is not in the legend", mask.path)
        return codes


def find_pairs(image_dir: Path, mask_dir: Path) -> tuple[list[Pair], list[str]]:
    """Pair the files of two folders by name (without the ending) and place, sorted by name; and what was left out, as warnings.

    InputError when a folder is absent or nothing pairs, when two files of a folder share a name, or when a mask lies on
    another grid than its image.
    """
    images, masks = _by_stem(image_dir), _by_stem(mask_dir)
    common = sorted(images.keys() & masks.keys())
    if not common:
        few = ", ".join([path.name for path in (*images.values(), *masks.values())][:4]) or "none"
        raise InputError("no image and mask have the same name", f"{image_dir}, {mask_dir}", f"files are paired by name; found: {few}")
    warnings = [
        f"{len(alone)} {kind} left out, without a partner: {', '.join(alone[:5])}{' ...' if len(alone) > 5 else ''}"
        for kind, alone in (("images", sorted(images.keys() - masks.keys())), ("masks", sorted(masks.keys() - images.keys())))
        if alone
    ]
    pairs = [_pair(name, open_raster(images[name]), open_raster(masks[name])) for name in common]
    first = pairs[0].image
    for pair in pairs:
        if (len(pair.image.bands), pair.image.dtype) != (len(first.bands), first.dtype):
            what = f"{len(pair.image.bands)} bands of {pair.image.dtype}, but {len(first.bands)} of {first.dtype} in {first.path}"
            raise InputError(what, pair.image.path, "keep images of one kind in a folder")
    if any((pair.image.grid.crs is None) != (pair.mask.grid.crs is None) for pair in pairs):
        warnings.append("a mask or image has no georeference: it was matched by name and equal size only")
    indexed = [pair.image.path for pair in pairs if pair.image.colormap is not None]
    if indexed:
        warnings.append(f"{len(indexed)} images hold numbers of a palette, which are taken as values (save them as RGB): {indexed[0]}")
    return pairs, warnings


def mask_codes(pairs: Sequence[Pair], legend: Legend | None) -> tuple[MaskCodes, list[str]]:
    """What the masks' pixels mean: through the legend given, else by class tags, else by the colours or values that occur."""
    colored = is_colored(pairs[0].mask)
    identity = np.arange(256, dtype=np.uint8)
    if legend is not None:
        return MaskCodes(legend=legend, table=None if colored else identity), []
    if colored:
        return _from_colors(pairs)
    tagged = [Legend.from_tags(pair.mask.tags, pair.mask.colormap) for pair in pairs]
    if tagged[0] is not None:
        for pair, one in zip(pairs, tagged, strict=True):
            if one is None or (one.codes, one.names) != (tagged[0].codes, tagged[0].names):
                raise InputError(f"other classes than in {pairs[0].mask.path}", pair.mask.path, "give one legend file")
        return MaskCodes(legend=tagged[0], table=identity), []
    return _from_values(pairs)


def is_colored(mask: Raster) -> bool:
    """Whether a mask stores colours and not codes."""
    return len(mask.bands) >= 3 and mask.dtype == "uint8"


def _from_colors(pairs: Sequence[Pair]) -> tuple[MaskCodes, list[str]]:
    found: set[int] = set()
    for pair in pairs:
        for strip in _strips(pair.mask.grid.shape):
            rgb = _rgb(pair.mask, strip).astype(np.int64)
            found.update(np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]).tolist())
            if len(found) > _MOST_CLASSES:
                hint = "masks saved as JPEG or smoothed have false colours; give a legend"
                raise InputError(f"more than {_MOST_CLASSES} colours in the masks", pair.mask.path, hint)
    classes = tuple(
        LandClass(code=at + 1, name=f"color_{value:06x}", color=(value >> 16, value >> 8 & 255, value & 255))
        for at, value in enumerate(sorted(found))
    )
    text = ", ".join(f"{one.code} {one.color}" for one in classes[:8])
    return MaskCodes(legend=Legend(classes)), [f"no legend given: codes were made from the {len(classes)} colours found: {text}"]


def _from_values(pairs: Sequence[Pair]) -> tuple[MaskCodes, list[str]]:
    found: set[int] = set()
    for pair in pairs:
        for strip in _strips(pair.mask.grid.shape):
            found.update(np.unique(pair.mask.read_codes(strip)).tolist())
        if not found <= set(range(256)):
            raise InputError(f"mask values {min(found)}..{max(found)} are no codes 0..255", pair.mask.path, "`sarseg labels --remap`")
    nodata = {int(pair.mask.nodata) for pair in pairs if pair.mask.nodata is not None}
    # 255 is ignore by our convention and many others', but a mask of 0 and 255 has two classes
    values = sorted(found - nodata - (set() if found == {NODATA, IGNORE} else {IGNORE}))
    if not values or values == [NODATA]:
        what = f"the masks hold no class: every pixel is {' or '.join(map(str, sorted(found)))}"
        raise InputError(what, pairs[0].mask.path, f"{NODATA} is nodata, {IGNORE} is ignore, classes are 1..254: were they saved empty?")
    shift = bool({NODATA, IGNORE} & set(values))
    table = np.full(256, IGNORE, np.uint8)
    table[values] = np.arange(1, len(values) + 1) if shift else values
    colors = pairs[0].mask.colormap or {}
    spare = default_colors(table[values].tolist())
    classes = []
    for value in values:
        code = int(table[value])
        red, green, blue = colors.get(value, spare[code])[:3]
        classes.append(LandClass(code=code, name=f"value_{value}" if shift else f"class_{code}", color=(red, green, blue)))
    warnings = [f"no legend given: classes are the {len(values)} values found"]
    if shift:
        said = f"value {NODATA if NODATA in values else IGNORE} is a class, so values {', '.join(map(str, values[:8]))}"
        warnings.append(f"{said} became codes 1..{len(values)}: code 0 is nodata, 255 ignore")
    return MaskCodes(legend=Legend(tuple(classes)), table=table), warnings


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError("no such folder", folder)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(f"{path.name} and {found[path.stem].name} have the same name", folder, "pairs are found by name")
        found[path.stem] = path
    if not found:
        raise InputError("no image in the folder", folder, f"files end in {', '.join(IMAGE_SUFFIXES)}")
    return found


def _pair(name: str, image: Raster, mask: Raster) -> Pair:
    if image.grid.crs is not None and mask.grid.crs is not None:
        offset = mask.grid.offset_of(image.grid)
        if offset is None:
            raise InputError("the mask lies on another grid than its image", mask.path, f"`sarseg labels {mask.path} --like {image.path}`")
        if Window.whole(image.grid.shape).shift(rows=offset[0], cols=offset[1]).clip(mask.grid.shape) is None:
            raise InputError("the mask lies beside its image", mask.path)
    else:
        offset = (0, 0)
        if image.grid.shape != mask.grid.shape:
            sizes = " and ".join(f"{rows} x {cols}" for rows, cols in (image.grid.shape, mask.grid.shape))
            raise InputError(f"image and mask '{name}' have {sizes} pixels", mask.path, "without georeference they must be of equal size")
    return Pair(name=name, image=image, mask=mask, offset=offset)


def _strips(shape: tuple[int, int]) -> list[Window]:
    rows, cols = shape
    return [Window(row=row, col=0, rows=min(_STRIP_ROWS, rows - row), cols=cols) for row in range(0, rows, _STRIP_ROWS)]


def _rgb(mask: Raster, window: Window) -> NDArray[np.uint8]:
    return np.stack([mask.read_codes(window, band) for band in range(3)], axis=-1)
