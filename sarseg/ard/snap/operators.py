"""SNAP's operators: their parameters, types, allowed values, defaults and sources, for SNAP 10 to 14.

The data file beside this module holds names, types and values only. tools/snap_operators.py makes it from what `gpt <Operator> -h`
prints in SNAP 13 and 14, and from the list of what changed since 10; `parse_help` reads the same text of any installed SNAP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sarseg.ard.snap.graphxml import parse_xml
from sarseg.errors import InputError, UsageError

Kind = Literal["boolean", "integer", "number", "text", "list", "file", "rectangle", "geometry", "xml"]

VERSIONS = range(10, 15)
"""The SNAP versions that are known."""

_KINDS: Mapping[str, Kind] = {
    "boolean": "boolean",
    "int": "integer",
    "integer": "integer",
    "float": "number",
    "double": "number",
    "file": "file",
    "rectangle": "rectangle",
    "geometry": "geometry",
    "polygon": "geometry",
    "list": "list",
    "xml": "xml",
}
_LIST = "string,string,string,..."
_FIELDS: Mapping[str, str] = {
    "bandNames": "sourceBands",
    "maskNames": "sourceMasks",
    "sourceBandNames": "sourceBands",
    "targetBandDescriptors": "targetBands",
    "tiePointGridNames": "tiePointGrids",
}
"""Names of Java fields that SNAP takes for the names that it prints."""

_ENTRY = re.compile(r"^ {2}-[PS](\w+)=<([^>]*)> *(.*)$")
_VALUES = re.compile(r"Value must be one of ((?:'[^']*'(?:, )?)+)\.")
_DEFAULT = re.compile(r"Default value is '(.*)'\.")
_INTERVAL = re.compile(r"Valid interval is ([\[(][^\])]*[\])])\.")
_MOST_HELP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of an operator in one version of SNAP.

    Parameters
    ----------
    type : SNAP's word: boolean, int (never empty), integer, float, double, string, list, file, rectangle, geometry, polygon, xml
    values : the allowed ones; None = any
    interval : "(1,100]" as SNAP prints it, * = no limit; None = any
    default : None = none
    mandatory : must be given
    items : of an xml parameter: the name of its elements, then those of their children
    since, until : first and last version that have it; None = all of 10 to 14
    """

    name: str
    type: str
    values: tuple[str, ...] | None = None
    interval: str | None = None
    default: str | None = None
    mandatory: bool = False
    items: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None

    @property
    def kind(self) -> Kind:
        """How its value is read."""
        return _KINDS.get(self.type, "text")

    def allows(self, number: float) -> bool:
        """Whether a number lies in the interval."""
        if self.interval is None:
            return True
        low, high = (part.strip() for part in self.interval[1:-1].split(","))
        above = low == "*" or number > float(low) or (number == float(low) and self.interval[0] == "[")
        below = high == "*" or number < float(high) or (number == float(high) and self.interval[-1] == "]")
        return above and below


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of an operator; `many`: it takes any number of products, under any names."""

    name: str
    many: bool = False
    optional: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The element names that SNAP takes for it: its alias and its field."""
        return (self.name, "sourceProduct") if self.name == "source" else (self.name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator in one version of SNAP; `known` is False when only its name is."""

    name: str
    parameters: Mapping[str, Parameter]
    sources: tuple[Source, ...]
    known: bool = True

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of an element's name, which may be that of the Java field; None when there is none."""
        return self.parameters.get(name) or self.parameters.get(_FIELDS.get(name, ""))


@cache
def operators(version: int) -> Mapping[str, Operator]:
    """All operators that are known of a version, by name; UsageError for a version that is not.

    Parameters
    ----------
    version : 10 to 14
    """
    if version not in VERSIONS:
        raise UsageError(f"SNAP {version} is not known", None, f"known are {VERSIONS[0]} to {VERSIONS[-1]}; the installed one can be asked")
    data = json.loads(Path(__file__).with_name("operators.json").read_text(encoding="utf-8"))
    found = {name: _operator(name, entry, version) for name, entry in data["operators"].items()}
    for name, since in data["others"].items():
        if version >= since:
            found[name] = Operator(name=name, parameters={}, sources=(), known=False)
    return found


def _operator(name: str, entry: Mapping[str, Any], version: int) -> Operator:
    parameters = {}
    for parameter, given in entry["parameters"].items():
        changes = {int(since): change for since, change in given.get("changes", {}).items()}
        plain = {key: value for key, value in given.items() if key != "changes"}
        for since in sorted(changes):
            if version >= since:
                plain |= changes[since]
        for key in ("values", "items"):
            if key in plain:
                plain[key] = tuple(plain[key])
        made = Parameter(name=parameter, **plain)
        if (made.since or version) <= version <= (made.until or version):
            parameters[parameter] = made
    return Operator(name=name, parameters=parameters, sources=tuple(Source(**source) for source in entry["sources"]))


def versions_of(name: str, parameter: str) -> tuple[int, ...]:
    """The versions in which an operator has a parameter."""
    return tuple(
        version
        for version in VERSIONS
        if (operator := operators(version).get(name)) is not None and operator.parameter(parameter) is not None
    )


def parse_help(text: str) -> Operator:
    """What `gpt <Operator> -h` prints, as an operator of that version; InputError when it is no such text."""
    usage = re.search(r"^ {2}gpt (\S+) \[options\]", text, re.MULTILINE)
    start = text.find("\n  <graph ")
    if usage is None or start < 0 or len(text) > _MOST_HELP_BYTES:
        raise InputError("this is not the help of an operator", usage[1] if usage else None, "it comes from: gpt <Operator> -h")
    node = parse_xml(text[start:].strip(), f"help of {usage[1]}").find("node")
    skeleton = node.find("parameters") if node is not None else None
    sources = node.find("sources") if node is not None else None
    if skeleton is None or sources is None:
        raise InputError("the help shows no graph", usage[1])
    options = _options(text[:start])
    shown = {element.tag: _shown(element) for element in skeleton}
    given = {name: _option(name, kind, words) for name, (letter, kind, words) in options.items() if letter == "P"}
    single = {name: words for name, (letter, _, words) in options.items() if letter == "S"}
    return Operator(
        name=usage[1],
        parameters={**shown, **given},
        sources=tuple(
            Source(name=element.tag, many=element.tag not in single, optional="optional source" in single.get(element.tag, ""))
            for element in sources
        ),
    )


def _options(text: str) -> dict[str, tuple[str, str, str]]:
    """Name -> (P or S, type, words) of the options that a help text lists."""
    found: dict[str, tuple[str, str, str]] = {}
    name = ""
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry is not None:
            name = entry[1]
            found[name] = (line.strip()[1], entry[2], entry[3])
        elif name and line.startswith("   "):
            letter, kind, words = found[name]
            found[name] = (letter, kind, f"{words} {line.strip()}")
        else:
            name = ""
    return found


def _option(name: str, kind: str, words: str) -> Parameter:
    values, default, interval = _VALUES.search(words), _DEFAULT.search(words), _INTERVAL.search(words)
    return Parameter(
        name=name,
        type="list" if kind == _LIST else kind,
        values=tuple(re.findall(r"'([^']*)'", values[1])) if values else None,
        interval=interval[1].replace(" ", "") if interval else None,
        default=default[1] if default else None,
        mandatory="This is a mandatory parameter." in words,
    )


def _shown(element: Any) -> Parameter:
    """A parameter that only the graph shows: one of XML elements, or one that has no -P."""
    items = [item for item in element if not item.tag.startswith("_.")]
    if items:
        return Parameter(name=element.tag, type="xml", items=(items[0].tag, *(child.tag for child in items[0])))
    kind = (element.text or "").strip()
    return replace(_option(element.tag, kind, ""), type="list" if kind == _LIST else kind)
