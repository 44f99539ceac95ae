"""Graph files as SNAP reads them: its template language, its checks, its messages. Nothing of sarseg is used here."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

OPERATORS: dict[str, Any] = json.loads((Path(__file__).parent / "operators.json").read_text(encoding="utf-8"))
CLASSES = {
    "LinearToFromdB": "LinearTodBOp",
    "Speckle-Filter": "SpeckleFilterOp",
    "Calibration": "CalibrationOp",
    "Terrain-Correction": "RangeDopplerGeocodingOp",
    "Terrain-Flattening": "TerrainFlatteningOp",
    "Apply-Orbit-File": "ApplyOrbitFileOp",
    "ThermalNoiseRemoval": "Sentinel1RemoveThermalNoiseOp",
    "TOPSAR-Deburst": "TOPSARDeburstOp",
}
LABELS = {"filter": "Filter", "filterSizeX": "Size X", "filterSizeY": "Size Y", "sourceBands": "Source Bands"}
SOURCES = {"source", "sourceProduct", "sourceProducts", "sources", "masterProduct", "reference"}
GRAPH = "org.esa.snap.core.gpf.graph.GraphException"
OPERATOR = "org.esa.snap.core.gpf.OperatorException"
XSTREAM = "com.thoughtworks.xstream.converters"
REFLECTION = f"{XSTREAM}.reflection"


class SnapError(Exception):
    """What SNAP throws: a chain of (class, message); `stdout` is printed first; `runtime` ones are traced twice."""

    def __init__(self, *chain: tuple[str, str], stdout: str = "", runtime: bool = False) -> None:
        super().__init__(chain)
        self.chain = chain
        self.stdout = stdout
        self.runtime = runtime
        self.seen_by_jai = False


@dataclass
class Node:
    id: str
    operator: str
    sources: list[tuple[str, str]]
    element: ET.Element | None

    @property
    def parameters(self) -> dict[str, str]:
        """Texts; of a parameter that comes twice the last one."""
        return {one.tag: (one.text or "").strip() for one in self.element} if self.element is not None else {}

    @property
    def java_class(self) -> str:
        return CLASSES.get(self.operator, f"{self.operator.replace('-', '')}Op")


@dataclass
class Graph:
    nodes: dict[str, Node]
    version: tuple[int, ...]
    userdir: Path | None = None
    write: Node = field(init=False)

    @property
    def format(self) -> str:
        return self.write.parameters.get("formatName", "BEAM-DIMAP")


def node_error(node: Node, *chain: tuple[str, str], stdout: str = "") -> SnapError:
    """An error in a node's initialisation: the same message with the node's name in front."""
    return SnapError((GRAPH, f"[NodeId: {node.id}] {chain[0][1]}"), *chain, stdout=stdout)


def fill(text: str, values: dict[str, str]) -> str:
    """${name} and $name; what has no value stays."""
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda found: values.get(found[1] or found[2], found[0]), text)


def parse(text: str, version: tuple[int, ...]) -> Graph:
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise _malformed(text, error) from error
    for number, child in enumerate(root):
        if child.tag not in ("version", "node", "header", "applicationData"):
            raise _no_such_field(text, child.tag, number)
    found = root.findtext("version")
    if found is None:
        raise SnapError((GRAPH, "No version is specified in the graph XML."))
    if found.strip() != "1.0":
        raise SnapError((GRAPH, f"Wrong version given in the graph XML. Given version: {found.strip()} Current version: 1.0"))
    graph = Graph(nodes={}, version=version)
    for element in root.findall("node"):
        sources = element.find("sources")
        node = Node(
            id=element.get("id", ""),
            operator=(element.findtext("operator") or "").strip(),
            sources=[(one.tag, one.get("refid") or (one.text or "").strip()) for one in sources] if sources is not None else [],
            element=element.find("parameters"),
        )
        graph.nodes[node.id] = node
    return graph


def add_write(graph: Graph, target: str, name: str) -> None:
    """A graph without Write gets one for its sink."""
    if all(node.operator != "Write" for node in graph.nodes.values()):
        used = {refid for node in graph.nodes.values() for _, refid in node.sources}
        sink = next(node_id for node_id in reversed(graph.nodes) if node_id not in used)
        parameters = ET.Element("parameters")
        ET.SubElement(parameters, "file").text = target
        ET.SubElement(parameters, "formatName").text = name
        graph.nodes["WriteOp@fake"] = Node("WriteOp@fake", "Write", [("sourceProduct", sink)], parameters)


def check_links(graph: Graph) -> list[Node]:
    """The nodes so that sources come first."""
    for node in graph.nodes.values():
        for _, refid in node.sources:
            if refid not in graph.nodes and not refid.startswith("${"):
                raise SnapError((GRAPH, f"Missing source '{refid}' in node '{node.id}'"))
    for node in graph.nodes.values():
        if node.operator not in OPERATORS:
            raise SnapError((GRAPH, f"SPI not found for operator '{node.operator}'"))
    ordered: list[Node] = []
    open_nodes: set[str] = set()

    def visit(node: Node) -> None:
        if node in ordered:
            return
        if node.id in open_nodes:
            raise SnapError(("java.lang.StackOverflowError", ""), runtime=True)
        open_nodes.add(node.id)
        for _, refid in node.sources:
            visit(graph.nodes[refid])
        ordered.append(node)

    for node in graph.nodes.values():
        visit(node)
    return ordered


def parameters_of(operator: str, version: tuple[int, ...]) -> dict[str, Any]:
    known = OPERATORS[operator]
    if version[0] < 14:
        return dict(known["parameters"])
    left = {name: one for name, one in known["parameters"].items() if name not in known.get("until 13", [])}
    return left | known.get("since 14", {})


def check_parameters(node: Node, version: tuple[int, ...]) -> None:
    known = parameters_of(node.operator, version)
    start = f"Operator '{node.java_class}': "
    for one in node.element if node.element is not None else ():
        text = (one.text or "").strip()
        if one.tag not in known:
            raise _parameter(node, start, "ConversionException", f"Unknown element '{one.tag}'")
        if not text:
            if node.operator == "Speckle-Filter" and one.tag == "filter":
                null = f'Cannot invoke "String.equals(Object)" because "this.{one.tag}" is null'
                raise node_error(node, (OPERATOR, null), ("java.lang.NullPointerException", null), stdout=f"{null}\n")
            continue
        _check_value(node, start, one.tag, known[one.tag], text)
    if OPERATORS[node.operator]["sources"] and not any(tag.partition(".")[0] in SOURCES for tag, _ in node.sources):
        raise node_error(node, (OPERATOR, f"{start}Mandatory source product (field 'sourceProduct') not set."))


def _check_value(node: Node, start: str, name: str, known: dict[str, Any], text: str) -> None:
    label = LABELS.get(name, name)
    number = None
    if known["type"] in ("int", "double", "float", "integer"):
        try:
            number = int(text) if known["type"].startswith("int") else float(text)
        except ValueError:
            kind = "integer" if known["type"].startswith("int") else "number"
            raise _parameter(node, start, "ConversionException", f"'{text}' cannot be converted to a {kind}.") from None
    for item in text.split(",") if known["type"].endswith("[]") else [text]:
        if "values" in known and item.strip() not in known["values"]:
            raise _parameter(node, start, "ValidationException", f"Value for '{label}' is invalid: '{item.strip()}'")
    if "interval" in known and number is not None:
        low, high = known["interval"][1:-1].split(",")
        below = low != "*" and (number < float(low) or (number == float(low) and known["interval"][0] == "("))
        above = high != "*" and (number > float(high) or (number == float(high) and known["interval"][-1] == ")"))
        if below or above:
            raise _parameter(
                node,
                start,
                "ValidationException",
                f"Value for '{label}' is out of range {known['interval']}.\n( = excluding; ] = including; *= max value",
            )


def _parameter(node: Node, start: str, kind: str, message: str) -> SnapError:
    return node_error(node, (OPERATOR, start + message), (f"com.bc.ceres.binding.{kind}", message))


def band_error(node: Node, band: str) -> SnapError:
    """A name in sourceBands that the source lacks."""
    return _parameter(node, f"Operator '{node.java_class}': ", "ValidationException", f"Value for 'Source Bands' is invalid: '{band}'")


def _debugging(*lines: tuple[str, str]) -> str:
    told = [("message", ""), *lines] if lines[0][0] == "field" else list(lines)
    return "\n".join(["---- Debugging information ----", *(f"{name:<20}: {value}" for name, value in told)])


def _no_such_field(text: str, tag: str, number: int) -> SnapError:
    graph = "org.esa.snap.core.gpf.graph.Graph"
    line = text[: text.index(f"<{tag}")].count("\n") + 1
    message = f"No such field {graph}.{tag}"
    rows = (
        ("message", message),
        ("field", tag),
        ("class", graph),
        ("required-type", graph),
        ("converter-type", f"{REFLECTION}.ReflectionConverter"),
        ("path", f"/graph/{tag}"),
        ("line number", str(line)),
        ("version", "1.4.20"),
    )
    full = f"{message}\n{_debugging(*rows)}\n-------------------------------"
    return SnapError((f"{REFLECTION}.AbstractReflectionConverter$UnknownFieldException", full), runtime=True)


def _malformed(text: str, error: ET.ParseError) -> SnapError:
    graph = "org.esa.snap.core.gpf.graph.Graph"
    line, column = error.position
    rows = (
        ("cause-exception", "com.thoughtworks.xstream.io.StreamException"),
        ("cause-message", ""),
        ("class", graph),
        ("required-type", graph),
        ("converter-type", f"{REFLECTION}.ReflectionConverter"),
        ("path", "/graph"),
        ("line number", str(line)),
        ("version", "1.4.20"),
    )
    full = f"\n{_debugging(*rows)}\n-------------------------------"
    seen = re.findall(r"<[^<]*", text)[-2:]
    reason = (
        "no more data available - expected end tag </graph> to close start tag <graph> from line 1, parser stopped on END_TAG seen ..."
        f"{''.join(seen)!r} @{line}:{column + 1}".replace("'", "").replace(" @", "... @")
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS]
        else str(error)
    )
    stream = "com.thoughtworks.xstream.io.StreamException"
    return SnapError((f"{XSTREAM}.ConversionException", full), (stream, ""), ("java.io.EOFException", reason), runtime=True)
