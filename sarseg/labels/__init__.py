"""Labels: class rasters and polygons brought onto the grid of a product."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.labels.options import LabelOptions, check_dates
    from sarseg.labels.resample import make_labels
    from sarseg.labels.sources import LabelSource, Remap, open_labels

__all__ = ["LabelOptions", "LabelSource", "Remap", "check_dates", "make_labels", "open_labels"]

_NAMES = {
    "LabelOptions": "sarseg.labels.options",
    "check_dates": "sarseg.labels.options",
    "LabelSource": "sarseg.labels.sources",
    "Remap": "sarseg.labels.sources",
    "make_labels": "sarseg.labels.resample",
    "open_labels": "sarseg.labels.sources",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
