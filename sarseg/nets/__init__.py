"""Networks (logits out, any size in), the folder that a trained one lives in, tiled prediction, and per-pixel baselines."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.nets.modelfile import BandSpec, Model, ModelSpec, load_model, read_spec, save_model

__all__ = ["BandSpec", "Model", "ModelSpec", "load_model", "read_spec", "save_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("sarseg.nets.modelfile"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
