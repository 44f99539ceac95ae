"""How long work says how far it is: a function of (done, total, label)."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, label: str) -> None:
    """Say nothing."""
