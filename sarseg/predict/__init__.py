"""Maps from products and a trained model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.predict.engine import PredictOptions, predict

__all__ = ["PredictOptions", "predict"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("sarseg.predict.engine"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
