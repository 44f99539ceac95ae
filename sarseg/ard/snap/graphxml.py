"""SNAP's graph files: read as data, with placeholders filled as SNAP fills them (docs/snap.md 8).

No entities, no document types, no network, a limit on size: a graph may come from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from lxml import etree  # type: ignore[import-untyped]

from sarseg.errors import InputError, MissingError, UsageError

_MOST_BYTES = 1 << 20
_MOST_ELEMENTS = 10_000
_PLACEHOLDER = re.compile(r"\$(?:\{([^{}$]{0,200})\}|((?:[^\W\d]|\$)[\w.$]{0,200}))")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of a graph.

    Parameters
    ----------
    sources : (element, id of a node, or the text of a source without refid)
    parameters : the element <parameters>, None when there is none
    """

    id: str
    operator: str
    sources: tuple[tuple[str, str], ...]
    parameters: Any

    def texts(self, name: str) -> list[str]:
        """The texts of a parameter, trimmed; more than one when it is given more than once."""
        return [(element.text or "").strip() for element in self.parameters if element.tag == name] if self.parameters is not None else []

    def value(self, name: str, default: str = "") -> str:
        """The text that counts: the last one; `default` when it is absent or empty."""
        return next((text for text in reversed(self.texts(name)) if text), default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A graph file: `version` is None when it states none."""

    id: str
    version: str | None
    nodes: tuple[Node, ...]


class Malformed(InputError):
    """A graph that SNAP cannot read; `node` is where, if anywhere."""

    def __init__(self, what: str, where: object = None, hint: str = "", node: str | None = None) -> None:
        super().__init__(what, where, hint)
        self.node = node


def read_text(path: Path) -> str:
    """The text of a graph file; InputError when it is absent, too large, or not UTF-8."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError("no such graph", path) from error
    except PermissionError as error:
        raise MissingError("no permission to read", path, "change the permissions") from error
    except OSError as error:
        raise InputError(f"the graph cannot be read: {error.strerror}", path) from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"the graph has more than {_MOST_BYTES >> 20} MB", path, "it is no graph of SNAP")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("the graph is not UTF-8", path, "save it as UTF-8") from error


def parse_xml(text: str, where: object = None) -> Any:
    """The root element of an XML text; Malformed when it is not well-formed, InputError when it has a document type."""
    if len(text) > _MOST_BYTES:
        raise InputError(f"more than {_MOST_BYTES >> 20} MB of XML", where)
    if "<!DOCTYPE" in _without_comments(text):
        raise InputError("a document type declaration", where, "remove it: graphs have none")
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(text.encode("utf-8", errors="surrogatepass"), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Malformed(f"the XML is damaged: {error}", where) from error


def _without_comments(text: str) -> str:
    kept, start = [], 0
    while (begin := text.find("<!--", start)) >= 0 and (end := text.find("-->", begin)) >= 0:
        kept.append(text[start:begin])
        start = end + 3
    return "".join([*kept, text[start:]])


def placeholders(text: str) -> tuple[str, ...]:
    """The names in ${name} and $name, each once, in their order; comments do not count."""
    return tuple(dict.fromkeys(found[1] if found[1] is not None else found[2] for found in _PLACEHOLDER.finditer(_without_comments(text))))


def fill(text: str, values: Mapping[str, str]) -> str:
    """A graph's text with ${name} and $name replaced by values, escaped for XML; what has no value stays, as in SNAP.

    UsageError when a value has a character that XML cannot hold.
    """
    for name, value in values.items():
        if _NOT_XML.search(value):
            raise UsageError(f"the value of {name} has a control character", None, "remove it")

    def put(found: re.Match[str]) -> str:
        value = values.get(found[1] if found[1] is not None else found[2])
        return found[0] if value is None else escape(value, {'"': "&quot;"})

    return _PLACEHOLDER.sub(put, text)


def read_graph(path: Path) -> Graph:
    """The graph of a file; InputError (Malformed where SNAP would reject it) when it cannot be read."""
    return parse_graph(read_text(path), path)


def parse_graph(text: str, where: object = None) -> Graph:
    """The graph of a text, as SNAP reads it; Malformed when SNAP would reject it as a whole."""
    root = parse_xml(text, where)
    count = sum(1 for _ in root.iter())
    if count > _MOST_ELEMENTS:
        raise InputError(f"the graph has {count} elements", where, f"more than {_MOST_ELEMENTS} are not read")
    if root.tag != "graph":
        raise Malformed(f"the root element is <{root.tag}>", where, "SNAP wants <graph>")
    for element in root:
        if element.tag not in ("version", "node", "header", "applicationData"):
            raise Malformed(f"unknown element <{element.tag}>", where, "a graph has version, node, header, applicationData")
    versions = root.findall("version")
    if len(versions) > 1:
        raise Malformed("the element <version> comes twice", where)
    return Graph(
        id=root.get("id", ""),
        version=(versions[0].text or "") if versions else None,
        nodes=tuple(_node(element, where) for element in root.findall("node")),
    )


def _node(element: Any, where: object) -> Node:
    name = element.get("id")
    if not name:
        raise Malformed(f"the node in line {element.sourceline} has no id", where)
    for tag in (child.tag for child in element):
        if tag not in ("operator", "sources", "parameters"):
            raise Malformed(f"node {name}: unknown element <{tag}>", where, "a node has operator, sources, parameters", name)
        if len(element.findall(tag)) > 1:
            raise Malformed(f"node {name}: the element <{tag}> comes twice", where, node=name)
    sources = element.find("sources")
    given = [(one.tag, one.get("refid") or (one.text or "").strip()) for one in sources] if sources is not None else []
    return Node(
        id=name,
        operator=element.findtext("operator") or "",
        sources=tuple(given),
        parameters=element.find("parameters"),
    )
