"""Which of its two legends a tile of JAXA's forest/non-forest map has (docs/labels.md 4)."""

from __future__ import annotations

import re

import numpy as np

from sarseg.errors import UsageError
from sarseg.labels.files import ClassFile
from sarseg.labels.known import KINDS, legend_of
from sarseg.tiles import blocks

_LAST_OF_3, _FIRST_OF_4 = 2016, 2018
_BLOCK = 2048
_OTHER_COLORS = {(254, 255, 153): (255, 255, 153)}  # as one catalogue has the colour of non-forest


def fnf_kind(file: ClassFile, year: int | None) -> str | None:
    """ "fnf3" or "fnf4" by the file's class names, its colours, a value 4 in it, or its year; None when none of them says it.

    Values 1..3 alone say nothing: a tile of four classes may have no water.
    """
    said = _by_names(file.header) or _by_colors(file)
    if said is not None:
        return said
    if year is not None and year >= _FIRST_OF_4:
        return "fnf4"
    # a 4 decides before an early year does; the later years need no look at the data
    if _has_water_of_4(file):
        return "fnf4"
    return "fnf3" if year is not None and year <= _LAST_OF_3 else None


def check_told(file: ClassFile, told: str) -> None:
    """UsageError when the user calls the tile by one legend and the tile itself names the other."""
    said = _by_names(file.header) or _by_colors(file)
    if said is not None and told in ("fnf3", "fnf4") and told != said:
        raise UsageError(f"the tile itself names the legend {said}, not {told}", file.name)


def ask(file: ClassFile) -> UsageError:
    """What is raised where the legend cannot be known."""
    hint = "say which: --legend fnf3 (1 forest, 2 non-forest, 3 water) or --legend fnf4 (1 and 2 forest, 3 non-forest, 4 water)"
    return UsageError("nothing says whether this forest map has three or four classes", file.name, hint)


def _by_names(header: str) -> str | None:
    found = re.search(r"class names\s*=\s*\{([^}]*)\}", header, re.IGNORECASE)
    if found is None:
        return None
    names = [re.sub(r"[^a-z]", "", name.lower()) for name in found[1].split(",")]
    names = names[1:] if names and names[0] in ("nodata", "unclassified", "") else names
    if names == ["forest", "nonforest", "water"]:
        return "fnf3"
    if len(names) == 4 and names[2:] == ["nonforest", "water"] and all("forest" in name for name in names[:2]):
        return "fnf4"
    return None


def _by_colors(file: ClassFile) -> str | None:
    colors = {value: color[:3] for value, color in (file.raster.colormap or {}).items() if 1 <= value <= 4}
    colors = {value: _OTHER_COLORS.get(color, color) for value, color in colors.items()}
    for kind in KINDS[:2]:
        legend = legend_of(kind)
        if all(colors.get(one.code) == one.color for one in legend.classes):
            return kind
    return None


def _has_water_of_4(file: ClassFile) -> bool:
    return any(bool(np.any(file.raster.read_codes(window) == 4)) for window in blocks(file.raster.grid.shape, _BLOCK))
