"""Accuracy of a map against the truth."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.assess.accuracy import Assessment, assess, score

__all__ = ["Assessment", "assess", "score"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("sarseg.assess.accuracy"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
