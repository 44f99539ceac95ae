"""Speckle filters: arrays in, arrays out; NaN is no data, is never averaged in and never grows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.speckle.filters import lee

__all__ = ["lee"]

_HOME = {"lee": "sarseg.speckle.filters"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
