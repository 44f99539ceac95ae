"""Class rasters as codes of our legend, whatever values they store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.labels.files import ClassFile, class_files
from sarseg.labels.fnf import ask, check_told, fnf_kind
from sarseg.labels.known import FNF, HRLULC, KINDS, READY, Origin, checked_kind, composed, legend_of, ready_remap, recognise, values_of
from sarseg.labels.options import LabelOptions
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.raster.read import Raster
from sarseg.tiles import Window

_UNKNOWN = Origin()


@dataclass(frozen=True, slots=True)
class Remap:
    """Codes (0..255) for the values of a foreign raster; `default` for every other value, or None: then such a value is an error."""

    codes: dict[int, int] = field(hash=False)
    default: int | None = None
    title: str = "the remap table"

    def __post_init__(self) -> None:
        for code in (*self.codes.values(), *((self.default,) if self.default is not None else ())):
            if not NODATA <= code <= IGNORE:
                raise InputError(f"code {code} in the remap table is not in 0..255", hint="0 is nodata, 255 is ignore")

    @classmethod
    def from_file(cls, path: Path) -> Remap:
        """Read a YAML mapping from stored value to code, e.g. `-1: 255`; the key `default` stands for all other values."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError("no such remap table", path, f"ready are {', '.join(READY)}; else give a YAML file") from error
        except (OSError, UnicodeDecodeError, YAMLError) as error:
            raise InputError("the remap table cannot be read", path, str(error)) from error
        if not isinstance(data, dict) or not data:
            raise InputError("the remap table holds no values", path, "one line a value, e.g. `10: 4`")
        default = data.pop("default", None)
        for value, code in (*data.items(), *([("default", default)] if default is not None else [])):
            if type(code) is not int or (value != "default" and type(value) is not int):
                raise InputError(f"'{value}: {code}' in the remap table is not two integers", path)
        return cls(data, default)

    def apply(self, values: NDArray[Any], nodata: float | None, where: object) -> NDArray[np.uint8]:
        """Codes uint8 of integer values of any shape; the file's nodata value is 0 unless the table names it."""
        small = values.dtype == np.uint8
        present = np.flatnonzero(np.bincount(values.ravel(), minlength=256)) if small else np.unique(values)
        found = np.zeros(len(present), np.uint8)
        for at, value in enumerate(present.tolist()):
            if value in self.codes:
                found[at] = self.codes[value]
            elif value == nodata:
                found[at] = NODATA
            elif self.default is not None:
                found[at] = self.default
            else:
                raise InputError(f"value {value} is not in {self.title}", where, "name every value, or a default")
        if small:
            table = np.zeros(256, np.uint8)
            table[present] = found
            return np.asarray(table[values])
        return found[np.searchsorted(present, values)]


class Labels(Protocol):
    """Codes on a grid, window by window."""

    @property
    def grid(self) -> MapGrid:
        """Where the codes lie."""

    @property
    def legend(self) -> Legend:
        """What they mean."""

    @property
    def origin(self) -> Origin:
        """What they are, and of which year."""

    def codes(self, window: Window) -> NDArray[np.uint8]:
        """Codes uint8 (rows, cols) of a window inside: classes of the legend, 0 = nodata, 255 = ignore."""


@dataclass(frozen=True)
class LabelSource:
    """An opened class raster, its legend, and the table that makes codes of its values (None: they are codes)."""

    raster: Raster
    legend: Legend
    remap: Remap | None = None
    origin: Origin = _UNKNOWN

    @property
    def grid(self) -> MapGrid:
        """Where it lies."""
        return self.raster.grid

    def codes(self, window: Window) -> NDArray[np.uint8]:
        """Codes uint8 (rows, cols) of a window inside the raster: classes of the legend, 0 = nodata, 255 = ignore.

        InputError names a value that is neither.
        """
        values = self.raster.read_codes(window)
        if self.remap is not None:
            codes, hint = self.remap.apply(values, self.raster.nodata, self.raster.path), "add the class to the legend"
        else:
            if self.raster.nodata is not None:
                values = np.where(values == self.raster.nodata, NODATA, values)
            codes, hint = np.clip(values, NODATA, IGNORE).astype(np.uint8), "give a legend, or a remap table from values to codes"
        known = np.zeros(256, bool)
        known[[NODATA, IGNORE, *self.legend.codes]] = True
        wrong = ~known[codes]
        if self.remap is None:
            wrong |= (values < NODATA) | (values > IGNORE)
        if wrong.any():
            raise InputError(f"value {int(values[wrong][0])} is no class of the legend", self.raster.path, hint)
        return codes


@dataclass(frozen=True)
class JoinedSource:
    """Tiles of one lattice and one legend side by side; where tiles overlap, the first one that has a code there gives it."""

    sources: tuple[LabelSource, ...]
    grid: MapGrid
    places: tuple[Window, ...]
    """Window of each tile in `grid`."""

    @property
    def legend(self) -> Legend:
        """The tiles' legend."""
        return self.sources[0].legend

    @property
    def origin(self) -> Origin:
        """Kind, year and version that the tiles share."""
        return self.sources[0].origin

    def codes(self, window: Window) -> NDArray[np.uint8]:
        """Codes uint8 (rows, cols) of a window inside the tiles' bounds; 0 where there is no tile."""
        out = np.zeros(window.shape, np.uint8)
        for source, place in zip(self.sources, self.places, strict=True):
            here = place.intersect(window)
            if here is not None:
                part = out[here.relative_to(window).slices]
                part[...] = np.where(part == NODATA, source.codes(here.relative_to(place)), part)
        return out


def open_labels(path: str | Path, legend: Legend | None = None, remap: Remap | None = None) -> LabelSource:
    """Open one class raster.

    The legend is the one given, else the file's class tags and colours (of the codes before `remap`, so not with one),
    else that of the product which the file is known to be, else bare names class_N for the codes of `remap`.
    InputError when there is none of these, or more than one band.
    """
    return _opened(_only(class_files(path), path), legend, remap, LabelOptions())


def open_sources(
    path: str | Path, legend: Legend | None = None, remap: Remap | None = None, options: LabelOptions | None = None
) -> LabelSource | JoinedSource:
    """Open a class raster, or a folder or archive of tiles, by what `options` say about it.

    Raises
    ------
    UsageError : an edition that must be named (`LabelOptions.kind`), a remap without a table for the source
    InputError : damaged files, tiles that differ in lattice, legend or year
    """
    options = options or LabelOptions()
    opened = [_opened(file, legend, remap, options) for file in class_files(path)]
    return opened[0] if len(opened) == 1 else _joined(opened, path)


def is_known(path: Path) -> bool:
    """Whether the name alone says which label product a file is."""
    return recognise(path, {}).kind is not None


def _only(files: list[ClassFile], path: str | Path) -> ClassFile:
    if len(files) != 1:
        raise InputError(f"{len(files)} class rasters where one is wanted", path, "name one of them")
    return files[0]


def _opened(file: ClassFile, legend: Legend | None, remap: Remap | None, options: LabelOptions) -> LabelSource:
    raster = file.raster
    if len(raster.bands) != 1 or np.dtype(raster.dtype).kind not in "iub":
        raise InputError(f"a class raster has one band of integers, not {len(raster.bands)} of {raster.dtype}", raster.path)
    tagged = Legend.from_tags(raster.tags, raster.colormap)
    origin = recognise(file.name, raster.tags)
    if options.kind is not None:
        origin = replace(origin, kind=checked_kind(options.kind))
        check_told(file, options.kind)
    elif tagged is not None:
        origin = replace(origin, kind=None)  # a file of our own, whatever it was made of
    if options.year is not None:
        origin = replace(origin, year=options.year)
    if origin.kind == FNF and (legend is None or remap is not None or options.remap is not None):
        origin = replace(origin, kind=fnf_kind(file, origin.year) or FNF)
    if options.remap is not None:
        return _by_ready_remap(file, legend, options.remap, origin)
    if remap is not None:
        if origin.kind in KINDS:
            remap = Remap(composed(origin.kind, remap.codes, remap.default, raster.path), remap.default)
        codes = {*remap.codes.values(), *((remap.default,) if remap.default is not None else ())} - {NODATA, IGNORE}
        return LabelSource(raster, legend or Legend.from_codes(codes), remap, origin)
    if legend is not None:
        return LabelSource(raster, legend, None, origin)
    if origin.kind is not None:
        kind = _decided(file, origin)
        return LabelSource(raster, legend_of(kind), Remap(values_of(kind), title=f"the legend of {kind}"), origin)
    if tagged is None:
        raise InputError("the raster names no classes", raster.path, "give a legend file, or a remap table from values to codes")
    return LabelSource(raster, tagged, None, origin)


def _by_ready_remap(file: ClassFile, legend: Legend | None, name: str, origin: Origin) -> LabelSource:
    ready = ready_remap(name)
    kind = _decided(file, origin) if origin.kind in (FNF, HRLULC) else origin.kind
    table = ready.table(kind, file.name)
    assert kind is not None
    return LabelSource(
        file.raster,
        legend or ready.legend,
        Remap(composed(kind, table, None, file.name), title=f"the legend of {kind}"),
        origin,
    )


def _decided(file: ClassFile, origin: Origin) -> str:
    """The kind, where its edition is known; else UsageError."""
    if origin.kind == FNF:
        raise ask(file)
    if origin.kind == HRLULC:
        known = [kind for kind in KINDS if kind.startswith(HRLULC)]
        what = f"HRLULC of version {origin.version} is not known" if origin.version else "the version of HRLULC is not in the name"
        raise UsageError(what, file.name, f"say it (--legend {'|'.join(known)}), or give a legend file and a remap table")
    assert origin.kind is not None
    return origin.kind


def _joined(sources: Sequence[LabelSource], path: str | Path) -> JoinedSource:
    first = sources[0]
    for source in sources[1:]:
        where = source.raster.path
        if source.legend != first.legend:
            raise InputError("the tiles have different legends", path, "remap them to one (--remap), or give one kind at a time")
        if source.origin.year != first.origin.year:
            raise InputError(f"the tiles are of {first.origin.year} and {source.origin.year}", path, "give one year at a time")
        if first.grid.crs is None or first.grid.offset_of(source.grid) is None:
            raise InputError("the tiles do not lie on one lattice", where, "give them one at a time")
    offsets = [first.grid.offset_of(source.grid) or (0, 0) for source in sources]
    row0, col0 = min(row for row, _ in offsets), min(col for _, col in offsets)
    places = [
        Window(row=row - row0, col=col - col0, rows=source.grid.shape[0], cols=source.grid.shape[1])
        for source, (row, col) in zip(sources, offsets, strict=True)
    ]
    whole = Window(row=row0, col=col0, rows=max(one.row_stop for one in places), cols=max(one.col_stop for one in places))
    return JoinedSource(tuple(sources), first.grid.crop(whole), tuple(places))
