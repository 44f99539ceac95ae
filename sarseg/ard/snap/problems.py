"""What is wrong with a graph."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem.

    Parameters
    ----------
    message : what it is, in a sentence without a full stop
    node, parameter : where; None = the graph as a whole
    fatal : SNAP rejects the graph; else it takes it without a word
    """

    message: str
    node: str | None = None
    parameter: str | None = None
    fatal: bool = False

    def __str__(self) -> str:
        return f"node {self.node}: {self.message}" if self.node is not None else self.message
