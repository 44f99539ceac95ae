"""The files that a path means: a folder's, an archive's, or those that stand beside one file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.product.model import Conversion, MaskCodes
from sarseg.raster.archive import Member, is_archive, list_members, split_virtual, without_ending
from sarseg.raster.read import Raster
from sarseg.tiles import Window

BackscatterScale = Literal["power", "amplitude", "db"]

_LOOKS, _LOOK_PX = 6, 48  # a look at a raster: so many by so many windows of so many pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Files of one path.

    Parameters
    ----------
    path : as the user gave it
    members : the files, sorted by name
    chosen : the one that the path names; None for a folder or archive
    scale : of the backscatter, where the user said it
    """

    path: Path
    members: tuple[Member, ...]
    chosen: Member | None = None
    scale: BackscatterScale | None = None

    @property
    def name(self) -> str:
        """The path's name without the ending of an archive."""
        return self.path.name if self.path.is_dir() else without_ending(self.path)

    def groups(self, pattern: re.Pattern[str]) -> dict[str, dict[str, Member]]:
        """Files of each product by what `pattern` calls `base`, and in it by what it calls `layer`, in the order of names.

        Of a path that names a file only the product of that file.
        """
        found: dict[str, dict[str, Member]] = {}
        for one in self.members:
            match = pattern.match(one.base)
            if match is not None:
                found.setdefault(match["base"], {}).setdefault(match["layer"], one)
        if self.chosen is None:
            return found
        match = pattern.match(self.chosen.base)
        return {} if match is None else {match["base"]: found[match["base"]]}

    def only(self, pattern: re.Pattern[str]) -> tuple[str, dict[str, Member]] | None:
        """The one product of `groups`; None when there is none; InputError when there are several."""
        found = self.groups(pattern)
        if len(found) > 1:
            hint = "give one of its files: it is opened with those that belong to it"
            raise InputError(f"{len(found)} products lie here: {', '.join(sorted(found)[:3])}, ...", self.path, hint)
        return next(iter(found.items()), None)


def gather(path: Path, names: Sequence[re.Pattern[str]], scale: BackscatterScale | None = None) -> Gathered | None:
    """The files of a folder, an archive, a file in an archive, or, for a file whose name is one of `names`, those beside it.

    None for any other file. InputError for a path or archive that is absent or damaged.
    """
    virtual = split_virtual(str(path))
    if virtual is not None:
        archive, inside = virtual
        members = list_members(archive)
        chosen = next((one for one in members if one.name == inside), None)
        if inside and chosen is None:
            folder = tuple(one for one in members if one.name.startswith(f"{inside}/"))
            return Gathered(path=path, members=folder, scale=scale) if folder else None
        return Gathered(path=path, members=members, chosen=chosen, scale=scale)
    if path.is_dir() or is_archive(path):
        return Gathered(path=path, members=list_members(path), scale=scale)
    if not path.is_file() or not any(pattern.match(path.name) for pattern in names):
        return None
    start = path.name[:8]
    beside = sorted(one for one in path.parent.iterdir() if one.name.startswith(start) and one.is_file())
    members = tuple(Member(root=path.parent, name=one.name, size_bytes=one.stat().st_size) for one in beside)
    return Gathered(path=path, members=members, chosen=next(one for one in members if one.name == path.name), scale=scale)


def same_grid(rasters: Mapping[str, Raster], path: object) -> MapGrid:
    """The grid of all rasters; InputError when they differ."""
    grid = next(iter(rasters.values())).grid
    for name, raster in rasters.items():
        if raster.grid.shape != grid.shape or raster.grid.offset_of(grid) != (0, 0):
            raise InputError(
                f"{name} lies on another grid than its neighbours", path, f"{PurePosixPath(raster.path).name} is of another product"
            )
    return grid


def backscatter(scale: BackscatterScale, nodata: Sequence[float] = ()) -> Conversion:
    """Of backscatter in a scale to linear power; 0 has no decibel, so that only the others ask for a rule of it."""
    forms: dict[BackscatterScale, Literal["linear", "square", "decibel"]] = {"power": "linear", "amplitude": "square", "db": "decibel"}
    return Conversion(form=forms[scale], nodata=tuple(nodata))


def look(raster: Raster, band: str | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Values of a band (the first one when None) at windows spread over it, NaN left out: float32 (n,)."""
    rows, cols = raster.grid.shape
    size = Window.whole((min(rows, _LOOK_PX), min(cols, _LOOK_PX)))
    starts = [np.unique(np.linspace(0, side - part, _LOOKS).astype(int)) for side, part in zip((rows, cols), size.shape, strict=True)]
    parts = [
        raster.read(size.shift(rows=int(row), cols=int(col)), [band or raster.bands[0]]).ravel() for row in starts[0] for col in starts[1]
    ]
    values = np.concatenate(parts)
    return values[~np.isnan(values)]


def odd_codes(raster: Raster, codes: MaskCodes) -> list[str]:
    """A warning for each mask code that a look finds and nobody knows."""
    return [f"mask code {code} is not known: its pixels are taken as no data" for code in codes.unknown(look(raster).astype(int))]


def describe(family: str, *, radiometry: str | None, warnings: Sequence[str], **properties: Any) -> dict[str, Any]:
    """The item of a product that was not made by us; properties that are None are left out."""
    kept = {key: value for key, value in properties.items() if value is not None}
    own = {"sarseg:family": family, "sarseg:quantity": radiometry, "sarseg:warnings": list(warnings)}
    return {"properties": {**kept, **{key: value for key, value in own.items() if value is not None}}}


def time_range(start: np.datetime64, end: np.datetime64) -> dict[str, str]:
    """STAC's times: the range and its middle."""
    middle = start + (end - start) // 2
    keys = {"datetime": middle, "start_datetime": start, "end_datetime": end}
    return {key: f"{np.datetime_as_string(value.astype('datetime64[ms]'))}Z" for key, value in keys.items()}
