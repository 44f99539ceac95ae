"""Downloads in radar geometry: a file a product family, format -> `Scene`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {
    "Scene": "sarseg.scene.model",
    "choose_eof": "sarseg.scene.orbitfile",
    "open_scene": "sarseg.scene.open",
    "read_eof": "sarseg.scene.orbitfile",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
