"""Classes of a map: code, name, colour; and how they stand in files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError

NODATA = 0
IGNORE = 255
_NOT_A_CLASS = 255
_HEX_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_CLASS_TAG = re.compile(r"class_(\d{1,3})", re.IGNORECASE)

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LandClass:
    """One class: code 1..254, name, RGB colour 0..255."""

    code: int
    name: str
    color: Color

    def __post_init__(self) -> None:
        if not 1 <= self.code <= 254:
            raise InputError(f"class code {self.code} of '{self.name}' is not in 1..254", hint="0 is nodata, 255 is ignore")
        if not self.name.strip():
            raise InputError(f"class {self.code} has no name")
        if len(self.color) != 3 or not all(0 <= part <= 255 for part in self.color):
            raise InputError(f"class {self.code} '{self.name}' has the colour {self.color}", hint="three numbers from 0 to 255")


@dataclass(frozen=True, slots=True)
class Legend:
    """The classes of a map in the order of their codes; 0 is nodata, 255 (labels only) is ignore."""

    classes: tuple[LandClass, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.classes, key=lambda one: one.code))
        object.__setattr__(self, "classes", ordered)
        if not ordered:
            raise InputError("a legend needs at least one class")
        for values, what in ((self.codes, "code"), (self.names, "name")):
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise InputError(f"class {what} {', '.join(twice)} stands twice in the legend")

    @property
    def codes(self) -> tuple[int, ...]:
        """Codes in ascending order."""
        return tuple(one.code for one in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the codes."""
        return tuple(one.name for one in self.classes)

    def index_of(self, code: int) -> int:
        """0-based position of a code; InputError when it is not in the legend."""
        if code not in self.codes:
            raise InputError(f"code {code} is not in the legend", hint=f"codes are {', '.join(map(str, self.codes))}")
        return self.codes.index(code)

    def lookup(self) -> NDArray[np.uint8]:
        """Table uint8 (256,) from code to 0-based class index; 255 for every code that is no class."""
        table = np.full(256, _NOT_A_CLASS, np.uint8)
        table[list(self.codes)] = np.arange(len(self.codes), dtype=np.uint8)
        return table

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """GDAL's colour table {code: (r, g, b, a)}; 0 is transparent."""
        table: dict[int, tuple[int, int, int, int]] = {NODATA: (0, 0, 0, 0)}
        for one in self.classes:
            table[one.code] = (*one.color, 255)
        return table

    def tags(self) -> dict[str, str]:
        """File tags {"class_1": "water", ...}."""
        return {f"class_{one.code}": one.name for one in self.classes}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str], colormap: Mapping[int, tuple[int, ...]] | None) -> Legend | None:
        """The legend that a file's tags and colour table give, or None without class tags."""
        names = {int(found[1]): value for key, value in tags.items() if (found := _CLASS_TAG.fullmatch(key))}
        if not names:
            return None
        colors = colormap or {}
        fallback = default_colors(names)
        return cls(
            tuple(
                LandClass(code=code, name=name, color=_rgb(colors[code]) if code in colors else fallback[code])
                for code, name in names.items()
            )
        )

    @classmethod
    def from_codes(cls, codes: Iterable[int]) -> Legend:
        """A legend for bare codes: names class_N, distinct colours."""
        wanted = sorted(set(codes) - {NODATA, IGNORE})
        colors = default_colors(wanted)
        return cls(tuple(LandClass(code=code, name=f"class_{code}", color=colors[code]) for code in wanted))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON and YAML: {"classes": [{"code", "name", "color": [r, g, b]}]}."""
        return {"classes": [{"code": one.code, "name": one.name, "color": list(one.color)} for one in self.classes]}

    @classmethod
    def from_dict(cls, data: Any, where: object = None) -> Legend:
        """Reverse of `to_dict`; InputError that names `where` and the entry that is wrong.

        The list may also stand without "classes", and a colour as "#0000ff" or under the key "colour".
        """
        entries = data.get("classes") if isinstance(data, Mapping) else data
        if not isinstance(entries, list):
            raise InputError("no list 'classes' in the legend", where, "- {code: 1, name: water, color: [0, 0, 255]}")
        found = []
        for entry in entries:
            try:
                color = _color_of(entry["colour"] if "colour" in entry else entry["color"])
                found.append(LandClass(code=int(entry["code"]), name=str(entry["name"]), color=color))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"legend entry {entry!r} is not code, name and color", where) from error
        return cls(tuple(found))

    @classmethod
    def from_file(cls, path: Path) -> Legend:
        """The legend of a YAML (or JSON) file."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, YAMLError) as error:
            raise InputError("the legend cannot be read", path, str(error)) from error
        return cls.from_dict(data, path)

    def to_file(self, path: Path) -> None:
        """Write the legend as YAML."""
        lines = ["classes:"]
        for one in self.classes:
            name = one.name.replace("'", "''")
            lines.append(f"  - {{code: {one.code}, name: '{name}', color: [{', '.join(map(str, one.color))}]}}")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def codes_from_colors(self, rgb: NDArray[np.uint8], where: object = None) -> NDArray[np.uint8]:
        """Codes uint8 (rows, cols) of a colour mask uint8 (rows, cols, 3).

        Black is nodata unless a class is black. InputError names a colour that the legend lacks.
        """
        packed = _packed(rgb)
        known = {_pack(one.color): one.code for one in self.classes}
        known.setdefault(0, NODATA)
        present, inverse = np.unique(packed, return_inverse=True)
        unknown = [int(value) for value in present if int(value) not in known]
        if unknown:
            first = unknown[0]
            color = (first >> 16, first >> 8 & 255, first & 255)
            hint = f"{len(unknown)} colours of the mask are not; the legend has {len(self.classes)}"
            raise InputError(f"colour {color} is not in the legend", where, hint)
        codes = np.array([known[int(value)] for value in present], np.uint8)
        return codes[inverse].reshape(packed.shape)


def default_colors(codes: Iterable[int]) -> dict[int, Color]:
    """Distinct colours for codes without any: hues a golden angle apart."""
    import colorsys

    found: dict[int, Color] = {}
    for code in codes:
        red, green, blue = colorsys.hsv_to_rgb(code * 0.618_034 % 1.0, 0.65, 0.9)
        found[code] = (round(red * 255), round(green * 255), round(blue * 255))
    return found


def _color_of(value: Any) -> Color:
    """A colour as a legend file has it: three numbers, or #rrggbb."""
    if isinstance(value, str):
        if not _HEX_COLOR.fullmatch(value):
            raise ValueError(value)
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    return _rgb(tuple(int(part) for part in value))


def _rgb(color: tuple[int, ...]) -> Color:
    red, green, blue = color[:3]
    return red, green, blue


def _pack(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _packed(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    wide = rgb.astype(np.int64)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])
