"""Label products that we know by name or content, and the ready tables from their codes to ours (docs/labels.md 2, 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sarseg.errors import InputError, UsageError
from sarseg.legend import NODATA, Legend

KINDS = ("fnf3", "fnf4", "worldcover", "lc100", "corine", "hrlulc21.11", "dstl")
"""Sources whose codes we know."""
READY = ("sar5", "fnf", "worldcover")
"""Remap tables that come with the package."""

FNF = "fnf"
"""JAXA's forest map before it is known whether it has three or four classes."""
HRLULC = "hrlulc"
"""JAXA's HRLULC of a version that is not known."""

_HERE = Path(__file__).parent
_CORINE_NODATA = 48
_FNF_NAME = re.compile(r"[NS]\d{2}[EW]\d{3}_(\d{2})_(?:FNF|C)(?:_[A-Z0-9]{6})?(?![A-Za-z0-9])", re.IGNORECASE)
_WORLDCOVER_NAME = re.compile(r"ESA_WorldCover_10m_(\d{4})_(v\d+)_", re.IGNORECASE)
_WORLDCOVER_TITLE = re.compile(r"ESA WorldCover product at 10m resolution for year (\d{4})")
_LC100_NAME = re.compile(r"PROBAV_LC100_\w*?_v([\d.]+)_(\d{4})-\w+?_Discrete-Classification", re.IGNORECASE)
_CORINE_NAME = re.compile(r"(?<![A-Za-z0-9])CLC(\d{4}|\d{2})(?:ACC)?_V(\w+?)(?=\.|_raster|$)", re.IGNORECASE)
_HRLULC_NAME = re.compile(r"(?<![A-Za-z0-9])LC_[NS]\d{2}[EW]\d{3}|HRLULC", re.IGNORECASE)
_HRLULC_VERSION = re.compile(r"(?<![A-Za-z0-9])v(?:er)?_?(\d{2})\.?(\d{2})(?!\d)", re.IGNORECASE)
_HRLULC_YEAR = re.compile(r"(?<!\d)(\d{4})[A-Z]{3}_v", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What labels are: one of `KINDS` (or `FNF`, `HRLULC`), their year and version; None where it is not known."""

    kind: str | None = None
    year: int | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class ReadyRemap:
    """A legend, and for each source the table from its codes to codes of the legend."""

    name: str
    legend: Legend
    tables: Mapping[str, Mapping[int, int]] = field(hash=False)

    def table(self, kind: str | None, where: object) -> Mapping[int, int]:
        """The table for a source; UsageError when there is none."""
        if kind is None or kind not in self.tables:
            what = "a source that is not known by its name" if kind is None else f"'{kind}'"
            raise UsageError(f"remap '{self.name}' has no table for {what}", where, f"say what it is: --legend {'|'.join(self.tables)}")
        return self.tables[kind]


def recognise(path: Path, tags: Mapping[str, str]) -> Origin:
    """What a file is by its name, else by its tags."""
    name = path.name
    if found := _FNF_NAME.search(name):
        short = int(found[1])
        return Origin(kind=FNF, year=short + (1900 if short >= 92 else 2000))
    if found := _WORLDCOVER_NAME.search(name):
        if "inputquality" in name.lower():
            raise InputError("is WorldCover's quality layer, not its map", path, "take the file that ends in _Map.tif")
        return Origin(kind="worldcover", year=int(found[1]), version=found[2].lower())
    if found := _LC100_NAME.search(name):
        return Origin(kind="lc100", year=int(found[2]), version=found[1])
    if found := _CORINE_NAME.search(name):
        year = int(found[1]) if len(found[1]) == 4 else int(found[1]) + (1900 if int(found[1]) >= 85 else 2000)
        return Origin(kind="corine", year=year, version=found[2])
    if _HRLULC_NAME.search(name):
        return _hrlulc(path)
    if found := _WORLDCOVER_TITLE.search(tags.get("title", "")):
        return Origin(kind="worldcover", year=int(found[1]), version=tags.get("product_version"))
    return Origin(year=int(tags["label_year"]) if tags.get("label_year", "").isdecimal() else None, version=tags.get("label_version"))


def _hrlulc(path: Path) -> Origin:
    """HRLULC by the version in the file's name or its folder's."""
    for name in (path.name, path.absolute().parent.name):
        if found := _HRLULC_VERSION.search(name):
            version, year = f"{found[1]}.{found[2]}", _HRLULC_YEAR.search(name)
            kind = f"hrlulc{version}"
            return Origin(kind=kind if kind in KINDS else HRLULC, year=int(year[1]) if year else None, version=version)
    return Origin(kind=HRLULC)


def checked_kind(name: str) -> str:
    """`name` when it is one of `KINDS`; else UsageError."""
    if name not in KINDS:
        raise UsageError(f"no known source is called '{name}'", hint=f"known are {', '.join(KINDS)}")
    return name


@cache
def legend_of(kind: str) -> Legend:
    """The legend of a source by its own codes (CORINE: by rank)."""
    return Legend.from_file(_HERE / "legends" / f"{kind}.yaml")


@cache
def ready_remap(name: str) -> ReadyRemap:
    """A remap that comes with the package; UsageError when there is none of this name."""
    if name not in READY:
        raise UsageError(f"no ready remap is called '{name}'", hint=f"ready are {', '.join(READY)}; else give a YAML file")
    path = _HERE / "remaps" / f"{name}.yaml"
    data = _yaml(path)
    tables = {
        kind: {value: int(code) for code, values in table.items() for value in values}  # a value may make one class only: tested
        for kind, table in data["from"].items()
    }
    return ReadyRemap(name, Legend.from_dict(data, path), tables)


def values_of(kind: str) -> dict[int, int]:
    """Code of `legend_of(kind)` for every value that a raster of the kind may store, no data included.

    A CORINE raster stores ranks or three-digit codes, which no value leaves open.
    """
    codes = {code: code for code in legend_of(kind).codes}
    if kind == "corine":
        return {0: NODATA, _CORINE_NODATA: NODATA, **codes, **{clc: rank for rank, clc in corine_codes().items()}}
    return {0: NODATA, **codes}


@cache
def corine_codes() -> Mapping[int, int]:
    """The three-digit code of each rank."""
    return {one.code: int(one.name[:3]) for one in legend_of("corine").classes}


def composed(kind: str, table: Mapping[int, int], default: int | None, where: object) -> dict[int, int]:
    """Output code for every value that a raster of the kind may store, from a table that names the kind's codes.

    For CORINE the table may name ranks or three-digit codes. InputError when it neither names a code nor has a default.
    """
    ranks = {clc: rank for rank, clc in corine_codes().items()} if kind == "corine" else {}
    named = {ranks.get(value, value): code for value, code in table.items()}
    legend = legend_of(kind)
    left_out = [one for one in legend.classes if one.code not in named and default is None]
    if left_out:
        names = ", ".join(f"{one.code} ({one.name})" for one in left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        raise InputError(f"the remap table leaves out {names} of {kind}", where, "name every code of the source, or a default")
    out = {}
    for value, code in values_of(kind).items():
        if code in named:
            out[value] = named[code]
        elif code == NODATA:
            out[value] = named.get(value, NODATA)
        elif default is not None:
            out[value] = default
    return {**{value: code for value, code in named.items() if value not in out}, **out}


def _yaml(path: Path) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
