"""Accuracy of a map against the truth, and of a model on the patches of a dataset."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.assess.accuracy import Assessment, assess, score
    from sarseg.assess.evaluate import Evaluation, evaluate

_HOME = {"Assessment": "accuracy", "assess": "accuracy", "score": "accuracy", "Evaluation": "evaluate", "evaluate": "evaluate"}

__all__ = ["Assessment", "Evaluation", "assess", "evaluate", "score"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"sarseg.assess.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
