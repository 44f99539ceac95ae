"""Makes sarseg/ard/snap/operators.json: the parameters of SNAP's operators in SNAP 10 to 14.

    python tools/snap_operators.py FOLDER

FOLDER holds 13.0/ and 14.0/, each with a file `<Operator>.txt` an operator (`gpt <Operator> -h > <Operator>.txt`) and `gpt.txt`
(`gpt -h`). Names, types, values, intervals and defaults are kept; no sentence of the texts is: they are SNAP's (GPL-3.0).
SNAP 10 to 12 are as 13 but for `BEFORE_13`, which lists what a comparison of the @Parameter annotations of the releases 10.0.0,
11.0.1, 12.0.1 and 13.0.4 of SNAP's sources found.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from sarseg.ard.snap.operators import Operator, Parameter, parse_help

BEFORE_13: dict[tuple[str, str], dict[str, Any]] = {
    # what is otherwise in older versions; "since" = the first one that has the parameter
    ("Read", "vectorFile"): {"since": 12},
    ("Read", "polygonRegion"): {"since": 12},
    ("Subset", "vectorFile"): {"since": 12},
    ("Subset", "polygonRegion"): {"since": 12},
    ("Subset", "copyMetadata"): {"default": "false"},
    ("TOPSAR-Split", "enableSingleSwathMode"): {"since": 13},
    ("Terrain-Flattening", "demName"): {"default": "SRTM 1Sec HGT"},
    ("Terrain-Correction", "demName"): {"default": "SRTM 3Sec"},
    ("Ellipsoid-Correction-RD", "demName"): {"default": "SRTM 3Sec"},  # the same Java class as Terrain-Correction
    ("ALOS-Deskewing", "demName"): {"default": "SRTM 3Sec"},
}
NOT_PRINTED: dict[str, dict[str, Any]] = {
    # deprecated parameters: SNAP takes them, and -h does not print them
    "Collocate": {"targetProductName": {"type": "string"}},
}
_COMPARED = ("type", "values", "interval", "default", "mandatory", "items")


def read_folder(folder: Path) -> tuple[dict[str, Operator], set[str]]:
    """The operators of a version's texts by name, and the names of all that `gpt -h` lists."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))}
    listed = texts.pop("gpt").partition("\nOperators:\n")[2]
    names = set(re.findall(r"^ {2}(\S+) {2,}\S", listed, re.MULTILINE))
    return {operator.name: operator for operator in map(parse_help, texts.values())}, names


def describe(parameter: Parameter) -> dict[str, Any]:
    """A parameter's facts without its name, and without what is not set."""
    facts = {key: getattr(parameter, key) for key in _COMPARED}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items() if value not in (None, False, ())}


def entry(older: Operator | None, newer: Operator) -> dict[str, Any]:
    """An operator's entry in the data file, out of what SNAP 13 and SNAP 14 say."""
    parameters = {}
    for name, parameter in newer.parameters.items():
        was = older.parameters.get(name) if older is not None else None
        facts = describe(was or parameter)
        changes: dict[str, Any] = {}
        if was is None and older is not None:
            facts["since"] = 14
        before = BEFORE_13.get((newer.name, name), {})
        if "since" in before:
            facts["since"] = before["since"]
        for key, value in before.items():
            if key != "since":
                changes.setdefault("13", {})[key] = facts[key]
                facts[key] = value
        if was is not None:
            new = {key: value for key, value in describe(parameter).items() if value != describe(was).get(key)}
            if new:
                changes["14"] = new
        parameters[name] = {**facts, **({"changes": changes} if changes else {})}
    for name, parameter in (older.parameters if older is not None else {}).items():
        if name not in newer.parameters:
            parameters[name] = {**describe(parameter), "until": 13}
    parameters |= NOT_PRINTED.get(newer.name, {})
    sources = [
        {"name": one.name, **({"many": True} if one.many else {}), **({"optional": True} if one.optional else {})} for one in newer.sources
    ]
    return {"sources": sources, "parameters": parameters}


def main(folder: Path) -> None:
    """Write the data file."""
    (older, names13), (newer, names14) = read_folder(folder / "13.0"), read_folder(folder / "14.0")
    data: dict[str, dict[str, Any]] = {
        "operators": {name: entry(older.get(name), operator) for name, operator in sorted(newer.items())},
        "others": {name: 10 if name in names13 else 14 for name in sorted((names13 | names14) - set(newer))},
    }
    path = Path(__file__).resolve().parents[1] / "sarseg" / "ard" / "snap" / "operators.json"
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(data['operators'])} operators, {len(data['others'])} more names")  # noqa: T201 a tool says what it made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
