"""A class raster as codes of our legend, whatever values it stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.raster.read import Raster, open_raster
from sarseg.tiles import Window


@dataclass(frozen=True, slots=True)
class Remap:
    """Codes (0..255) for the values of a foreign raster; `default` for every other value, or None: then such a value is an error."""

    codes: dict[int, int] = field(hash=False)
    default: int | None = None

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
        present, inverse = np.unique(values, return_inverse=True)
        found = np.zeros(len(present), np.uint8)
        for at, value in enumerate(present.tolist()):
            if value in self.codes:
                found[at] = self.codes[value]
            elif value == nodata:
                found[at] = NODATA
            elif self.default is not None:
                found[at] = self.default
            else:
                raise InputError(f"value {value} is not in the remap table", where, "name every value, or a default")
        return found[inverse].reshape(values.shape)


@dataclass(frozen=True)
class LabelSource:
    """An opened class raster, its legend, and the table that makes codes of its values (None: they are codes)."""

    raster: Raster
    legend: Legend
    remap: Remap | None = None

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


def open_labels(path: str | Path, legend: Legend | None = None, remap: Remap | None = None) -> LabelSource:
    """Open a class raster.

    The legend is the one given, else the file's class tags and colours (of the codes before `remap`, so not with one),
    else bare names class_N for the codes of `remap`. InputError when there is none of these, or more than one band.
    """
    raster = open_raster(path)
    if len(raster.bands) != 1 or np.dtype(raster.dtype).kind not in "iub":
        raise InputError(f"a class raster has one band of integers, not {len(raster.bands)} of {raster.dtype}", path)
    if legend is None and remap is not None:
        codes = {*remap.codes.values(), *((remap.default,) if remap.default is not None else ())} - {NODATA, IGNORE}
        legend = Legend.from_codes(codes)
    legend = legend or Legend.from_tags(raster.tags, raster.colormap)
    if legend is None:
        raise InputError("the raster names no classes", path, "give a legend file, or a remap table from values to codes")
    return LabelSource(raster, legend, remap)
