"""Many maps into one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.mosaic.composite import MosaicOptions, mosaic

__all__ = ["MosaicOptions", "mosaic"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("sarseg.mosaic.composite"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
