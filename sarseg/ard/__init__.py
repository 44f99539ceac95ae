"""The native engine: a scene in radar geometry becomes analysis-ready backscatter on a map."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.ard.preprocess import PreprocessOptions, open_lazy

__all__ = ["PreprocessOptions", "open_lazy"]  # the function `preprocess` has its module's name: it is `sarseg.preprocess`


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("sarseg.ard.preprocess"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
