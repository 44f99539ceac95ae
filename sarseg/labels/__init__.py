"""Labels: class rasters brought onto the grid of a product."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.labels.resample import make_labels
    from sarseg.labels.sources import LabelSource, Remap, open_labels

__all__ = ["LabelSource", "Remap", "make_labels", "open_labels"]

_NAMES = {
    "LabelSource": "sarseg.labels.sources",
    "Remap": "sarseg.labels.sources",
    "make_labels": "sarseg.labels.resample",
    "open_labels": "sarseg.labels.sources",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
