"""XML as ESA's processor lays it out: nested (name, content) pairs to text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Node: TypeAlias = "tuple[str, str | Sequence[Node]] | tuple[str, str | Sequence[Node], dict[str, str]]"


def render(node: Node, depth: int = 0) -> str:
    """One element and what is in it; two spaces a level."""
    name, content = node[0], node[1]
    marks = node[2] if len(node) == 3 else {}
    start = " ".join([name, *(f'{key}="{value}"' for key, value in marks.items())])
    pad = "  " * depth
    if isinstance(content, str):
        return f"{pad}<{start}>{content}</{name}>\n" if content else f"{pad}<{start}/>\n"
    return f"{pad}<{start}>\n" + "".join(render(child, depth + 1) for child in content) + f"{pad}</{name}>\n"


def document(node: Node) -> str:
    """A whole file."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + render(node)


def listed(name: str, items: Sequence[Node]) -> Node:
    """A list element with its count."""
    return name, items, {"count": str(len(items))}


def array(name: str, values: str, count: int) -> Node:
    """An element with many values."""
    return name, values, {"count": str(count)}


def double(value: float) -> str:
    """As ESA writes a double."""
    return f"{float(value):.15e}"


def single(value: float) -> str:
    """As ESA writes a float."""
    return f"{float(value):.6e}"


def doubles(values: Iterable[float] | NDArray[np.float64]) -> str:
    """Doubles with spaces."""
    return " ".join(double(value) for value in values)


def singles(values: Iterable[float] | NDArray[np.float64]) -> str:
    """Floats with spaces."""
    return " ".join(single(value) for value in values)


def flag(value: bool) -> str:
    """Truth as XML."""
    return "true" if value else "false"
