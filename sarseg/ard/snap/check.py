"""Checks a graph before SNAP runs it: what SNAP would reject, and what it would take without a word and do wrong (docs/snap.md 8)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from sarseg.ard.snap.graphxml import Graph, Malformed, Node, fill, parse_graph, placeholders, read_text
from sarseg.ard.snap.operators import VERSIONS, Operator, Parameter, operators, parse_help, versions_of
from sarseg.ard.snap.problems import Problem
from sarseg.ard.snap.traps import traps

__all__ = ["Problem", "check_graph"]

GRAPH_VERSION = "1.0"
_POLARISATIONS = ("HH", "HV", "VH", "VV", "CH", "CV", "RH", "RV", "LH", "LV")
_TOUCHING = re.compile(r"\$\{[^{}$]{0,200}\}\$\{?[^\W\d]")
_INTEGER = re.compile(r"[+-]?\d{1,20}")
_NUMBER = re.compile(r"[+-]?(?:NaN|Infinity|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fFdD]?|0[xX][\da-fA-F]*\.?[\da-fA-F]*[pP][+-]?\d+[fFdD]?)")
_INT_RANGE = range(-(1 << 31), 1 << 31)
_SOURCES_MAY_LACK = {"Collocate", "Mosaic"}  # their products may be named by a parameter, or be none
_EXPRESSIONS = {"expression", "validExpression"}  # $product.band is a name in them
_SHOWN = 6
_MOST_HINTS = 200


def check_graph(
    graph: Path | str,
    version: int,
    *,
    values: Mapping[str, str] | None = None,
    polarisations: Sequence[str] | None = None,
    ask: Callable[[str], str] | None = None,
) -> list[Problem]:
    """Every problem of a graph, in the order of the file.

    InputError when the graph cannot be read at all: absent, huge, not UTF-8, with a document type; UsageError for an unknown version.

    Parameters
    ----------
    graph : a file, or the text of one
    version : of SNAP, 10 to 14
    values : for its placeholders, as gpt's -P
    polarisations : of the product that it reads; None = unknown
    ask : what `gpt <Operator> -h` prints in an installed SNAP; wins over what is known of the version
    """
    known = dict(operators(version))
    text, given = (read_text(graph) if isinstance(graph, Path) else graph), values or {}
    problems = list(_check_placeholders(text, given))
    unfilled = frozenset(placeholders(text)) - frozenset(given)
    try:
        parsed = parse_graph(fill(text, given), graph if isinstance(graph, Path) else None)
    except Malformed as error:
        hint = f": {error.hint}" if error.hint else ""
        return [*problems, Problem(node=error.node, message=f"{error.what}{hint}", fatal=True)]
    if parsed.version != GRAPH_VERSION:
        found = "states no version" if parsed.version is None else f"states version '{parsed.version}'"
        problems.append(Problem(message=f"the graph {found}: SNAP wants <version>{GRAPH_VERSION}</version>", fatal=True))
    if ask is not None:
        known |= _asked(parsed, ask)
    problems += _check_links(parsed)
    made = _made_bands(parsed)
    for node in parsed.nodes:
        operator = known.get(node.operator)
        if operator is None:
            problems.append(_unknown_operator(node, known))
        elif operator.known:
            problems += _NodeCheck(node, operator, version, polarisations, made, unfilled).run()
    problems += traps(parsed)
    order = {node.id: number for number, node in enumerate(parsed.nodes)}
    return sorted(problems, key=lambda problem: order.get(problem.node or "", -1))


def _asked(graph: Graph, ask: Callable[[str], str]) -> dict[str, Operator]:
    texts = {name: ask(name) for name in dict.fromkeys(node.operator for node in graph.nodes)}
    return {name: parse_help(text) for name, text in texts.items() if "Unknown operator" not in text}


def _check_placeholders(text: str, values: Mapping[str, str]) -> Iterator[Problem]:
    wanted = placeholders(text)
    for name in values:
        if name not in wanted:
            yield Problem(parameter=name, message=f"-P{name}: the graph has no ${{{name}}}, SNAP ignores the value")
    for found in _TOUCHING.finditer(text):
        yield Problem(message=f"{found[0]}...: of two placeholders that touch SNAP fills only the first; put one character between")


def _check_links(graph: Graph) -> Iterator[Problem]:
    """Ids, references, cycles, the Write node."""
    ids = Counter(node.id for node in graph.nodes)
    for name, count in ids.items():
        if count > 1:
            yield Problem(node=name, message=f"{count} nodes have this id: SNAP knows one of them", fatal=True)
    for node in graph.nodes:
        for element, refid in node.sources:
            if placeholders(refid):
                yield Problem(node=node.id, parameter=element, message=f"the source {refid} is no node: SNAP wants -S{_bare(refid)}=FILE")
            elif refid not in ids:
                yield Problem(node=node.id, parameter=element, message=f"no node has the id '{refid}'{_near(refid, list(ids))}", fatal=True)
    try:
        TopologicalSorter({node.id: [refid for _, refid in node.sources] for node in graph.nodes}).prepare()
    except CycleError as error:
        cycle = list(dict.fromkeys(error.args[1]))
        message = f"the nodes {', '.join(cycle[:_SHOWN])} form a cycle" if len(cycle) > 1 else "the node is its own source"
        yield Problem(node=cycle[0], message=message, fatal=True)
    if not graph.nodes:
        yield Problem(message="the graph has no node", fatal=True)
    elif not any(node.operator == "Write" for node in graph.nodes):
        yield Problem(message="no Write node: gpt appends one that writes target.dim in the working folder, or what -t says")


def _bare(text: str) -> str:
    return text.strip("${}")


def _near(name: str, names: Sequence[str]) -> str:
    """A hint: the name that may be meant."""
    if len(names) > _MOST_HINTS:
        return ""
    lower = {one.lower(): one for one in names}
    near = [lower[name.lower()]] if name.lower() in lower else get_close_matches(name, names, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _unknown_operator(node: Node, known: Mapping[str, Operator]) -> Problem:
    since = [other for other in VERSIONS if node.operator in operators(other)]
    if not node.operator:
        message = "the node has no operator"
    elif since:
        message = f"the operator '{node.operator}' came with SNAP {since[0]}"
    elif node.operator.strip() in known:
        message = f"no operator '{node.operator}': remove the blanks around its name"
    else:
        hint = _near(node.operator, list(known)) or " (an installed SNAP can be asked with --gpt)"
        message = f"SNAP's engine and radar toolbox have no operator '{node.operator}'{hint}"
    return Problem(node=node.id, message=message, fatal=True)


def _made_bands(graph: Graph) -> set[str]:
    """Names of bands that the graph computes."""
    return {
        (name.text or "").strip()
        for node in graph.nodes
        if node.operator == "BandMaths" and node.parameters is not None
        for name in node.parameters.iterfind("targetBands/targetBand/name")
    }


@dataclass(frozen=True, slots=True)
class _NodeCheck:
    node: Node
    operator: Operator
    version: int
    polarisations: Sequence[str] | None
    made: set[str]
    unfilled: frozenset[str]

    def run(self) -> Iterator[Problem]:
        yield from self._sources()
        elements = list(self.node.parameters) if self.node.parameters is not None else []
        for tag, count in Counter(element.tag for element in elements).items():
            if count > 1 and self.operator.parameter(tag) is not None:
                yield self._problem(f"{tag} is given {count} times: SNAP takes the last one", tag)
        for element in elements:
            yield from self._parameter(element)
        yield from self._absent()

    def _problem(self, message: str, parameter: str | None = None, *, fatal: bool = False) -> Problem:
        return Problem(node=self.node.id, parameter=parameter, message=message, fatal=fatal)

    def _sources(self) -> Iterator[Problem]:
        given = [element for element, _ in self.node.sources]
        named = [name for source in self.operator.sources if not source.many for name in source.names]
        for source in self.operator.sources:
            if not source.many and not source.optional and not any(element in source.names for element in given):
                but = f", not as {', '.join(f'<{element}>' for element in given[:_SHOWN])}" if given else ""
                yield self._problem(
                    f"{self.operator.name} has no source: SNAP wants <{source.names[-1]} refid=.../>{but}", source.names[-1], fatal=True
                )
        if any(source.many for source in self.operator.sources):
            if not given and self.operator.name not in _SOURCES_MAY_LACK:
                yield self._problem(f"{self.operator.name} has no source", "sourceProduct", fatal=True)
            return
        for element in dict.fromkeys(given):
            if element not in named:
                yield self._problem(f"{self.operator.name} has no source <{element}>: SNAP ignores it", element)
            elif given.count(element) > 1:
                yield self._problem(f"{self.operator.name} takes one source <{element}>, and {given.count(element)} are given", element)

    def _absent(self) -> Iterator[Problem]:
        """What is not given: mandatory parameters, and those whose default changed from version to version."""
        name, present, filled = self.operator.name, set(), set()
        for element in self.node.parameters if self.node.parameters is not None else ():
            parameter = self.operator.parameter(element.tag)
            if parameter is not None:
                present.add(parameter.name)
                if len(element) or (element.text or "").strip():
                    filled.add(parameter.name)
        for parameter in self.operator.parameters.values():
            must = parameter.mandatory or (name, parameter.name) in {("Write", "file"), ("BandMaths", "targetBands")}
            if must and parameter.name not in filled:
                yield self._problem(f"{name} needs {parameter.name}", parameter.name, fatal=True)
            elif parameter.name not in present and (change := _default_change(name, parameter.name)):
                yield self._problem(f"{parameter.name} is not stated, and its default is {change}: state it", parameter.name)

    def _parameter(self, element: Any) -> Iterator[Problem]:
        parameter = self.operator.parameter(element.tag)
        if parameter is None:
            yield self._problem(self._unknown(element.tag), element.tag, fatal=True)
            return
        left = [name for name in _names_in(element) if name in self.unfilled and f"{{{name}}}" not in (parameter.default or "")]
        if left:
            shown = ", ".join(f"${{{name}}}" for name in left[:_SHOWN])
            yield self._problem(f"{element.tag}: no value for {shown}, SNAP takes it as it is written", element.tag)
        elif parameter.kind == "xml":
            yield from self._items(parameter, element)
        else:
            yield from self._value(replace(parameter, name=element.tag), (element.text or "").strip())

    def _unknown(self, tag: str) -> str:
        versions = versions_of(self.operator.name, tag) if self.operator.name in operators(self.version) else ()
        if versions:
            only = f"since SNAP {versions[0]}" if versions[-1] == VERSIONS[-1] else f"until SNAP {versions[-1]}"
            return f"{self.operator.name} has the parameter '{tag}' {only} only"
        return f"{self.operator.name} has no parameter '{tag}'{_near(tag, list(self.operator.parameters))}"

    def _items(self, parameter: Parameter, element: Any) -> Iterator[Problem]:
        """The elements of BandMaths' bands and their like: SNAP passes over those that it does not know."""
        item, *children = parameter.items
        for one in element:
            unknown = [child.tag for child in one if child.tag not in children] if one.tag == item else [one.tag]
            for tag in unknown:
                yield self._problem(f"{parameter.name} has no element <{tag}>: SNAP passes over it", parameter.name)
        found = element.findall(item)
        if self.operator.name != "BandMaths" or item != "targetBand":
            return
        if not found:
            yield self._problem(f"{parameter.name} has no <{item}>", parameter.name, fatal=True)
        for one in found:
            lacking = [tag for tag in ("name", "type", "expression") if not (one.findtext(tag) or "").strip()]
            if lacking:
                yield self._problem(f"a <{item}> has no {', '.join(lacking)}", parameter.name, fatal=True)

    def _value(self, parameter: Parameter, text: str) -> Iterator[Problem]:
        name = parameter.name
        if not text:
            yield from self._empty(parameter)
        elif parameter.kind == "boolean":
            if text.lower() not in ("true", "false"):
                taken = "false" if _java_number(text) in (None, 0.0) else "true"
                yield self._problem(f"{name} is '{text}', not true or false: SNAP takes it as {taken}", name)
        elif parameter.kind in ("integer", "number"):
            yield from self._number(parameter, text)
        elif parameter.kind == "rectangle":
            if not re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*){3}", text):
                yield self._problem(f"{name} is '{text}': SNAP wants x,y,width,height in pixels", name, fatal=True)
        elif parameter.kind == "list":
            yield from self._list(name, [item.strip() for item in text.split(",")])
        elif parameter.values is not None and text not in parameter.values:
            yield self._problem(self._not_allowed(parameter, text), name, fatal=True)

    def _empty(self, parameter: Parameter) -> Iterator[Problem]:
        if parameter.mandatory:
            return  # said by _absent
        if parameter.type == "int" or (parameter.kind == "text" and parameter.default is not None):
            yield self._problem(f"{parameter.name} is empty: SNAP needs a value, or the element left out", parameter.name, fatal=True)
        elif parameter.kind in ("boolean", "integer", "number") and parameter.default is not None:
            yield self._problem(f"{parameter.name} is empty: SNAP does not take the default for it; leave the element out", parameter.name)

    def _number(self, parameter: Parameter, text: str) -> Iterator[Problem]:
        whole = parameter.kind == "integer"
        number = _java_number(text)
        if number is None or (whole and (not _INTEGER.fullmatch(text) or int(text) not in _INT_RANGE)):
            what = "an integer" if whole else "a number"
            yield self._problem(f"{parameter.name} is '{text}', which is not {what}", parameter.name, fatal=True)
            return
        if not parameter.allows(number):
            yield self._problem(f"{parameter.name} is {text}, outside {parameter.interval}", parameter.name, fatal=True)
        elif parameter.values is not None and number not in {float(value) for value in parameter.values}:
            yield self._problem(self._not_allowed(parameter, text), parameter.name, fatal=True)

    def _not_allowed(self, parameter: Parameter, text: str) -> str:
        values = parameter.values or ()
        for version in VERSIONS:
            other = operators(version).get(self.operator.name)
            same = other.parameter(parameter.name) if other is not None else None
            if same is not None and text in (same.values or ()):
                return f"{parameter.name} is '{text}', which came with SNAP {version}"
        some = f": one of {', '.join(values[:_SHOWN])}{', ...' if len(values) > _SHOWN else ''}"
        allowed = _near(text, values) or some
        return f"{parameter.name} is '{text}', which SNAP does not allow{allowed}"

    def _list(self, name: str, items: Sequence[str]) -> Iterator[Problem]:
        """Polarisations and bands that the product lacks."""
        if name == "selectedPolarisations":
            unknown = [item for item in items if item and item not in _POLARISATIONS]
            lacking = [item for item in items if self.polarisations is not None and item not in self.polarisations and item not in unknown]
            for item in unknown:
                yield self._problem(f"{name}: '{item}' is no polarisation, SNAP passes over it", name)
            if lacking:
                none = " and writes no file at all" if len(lacking) + len(unknown) == len(items) else ""
                yield self._problem(f"{name}: the product has no {', '.join(lacking)}, SNAP passes over it{none}", name)
        elif name in ("sourceBands", "sourceBandNames", "bandNames") and self.polarisations is not None:
            for item in items:
                polarisation = item.rpartition("_")[2]
                if polarisation in _POLARISATIONS and polarisation not in self.polarisations and item not in self.made:
                    yield self._problem(f"{name}: the product has no {polarisation}, so no band '{item}'", name, fatal=True)


def _java_number(text: str) -> float | None:
    """What Java's Double.valueOf makes of a text; None = no number."""
    if not _NUMBER.fullmatch(text):
        return None
    digits = text if text.endswith(("NaN", "Infinity")) else text.rstrip("fFdD")
    try:
        return float.fromhex(digits) if "x" in digits.lower() else float(digits)
    except (ValueError, OverflowError):
        return None


def _names_in(element: Any) -> list[str]:
    """Names of the placeholders in an element; $name in an expression is a product."""
    names: list[str] = []
    for one in element.iter():
        text = one.text or ""
        if one.tag in _EXPRESSIONS:
            text = re.sub(r"\$(?!\{)", "", text)
        names += placeholders(text)
    return list(dict.fromkeys(names))


def _default_change(operator: str, parameter: str) -> str:
    """How a default changed from SNAP 10 to 14, in words; empty when it did not."""
    defaults: dict[int, str | None] = {}
    for version in VERSIONS:
        found = operators(version).get(operator)
        if found is not None and parameter in found.parameters:
            defaults[version] = found.parameters[parameter].default
    steps = [version for version in defaults if version - 1 in defaults and defaults[version] != defaults[version - 1]]
    if not steps:
        return ""
    return f"'{defaults[steps[0] - 1]}' until SNAP {steps[0] - 1} and '{defaults[steps[0]]}' since {steps[0]}"
