"""Training: one short loop, every sample a function of (seed, step, index)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.train.loop import TrainOptions, train

__all__ = ["TrainOptions", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("sarseg.train.loop"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
