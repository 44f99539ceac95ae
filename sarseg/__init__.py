"""From downloaded radar scenes to a land-cover map.

The verbs of the command line as functions: `open_scene`, `open_product`, `open_map`, `preprocess`, `train`, `predict`,
`mosaic`, `assess`; packages hold the rest (`sarseg.patches.generate_train_data`, `sarseg.simulate` ...).
Nothing is loaded before it is used: `import sarseg` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sarseg.version import __version__

if TYPE_CHECKING:
    from sarseg.ard.preprocess import preprocess
    from sarseg.errors import InputError, MissingError, SarsegError, UsageError
    from sarseg.product.open import open_map, open_product
    from sarseg.scene.open import open_scene

__all__ = [
    "InputError",
    "MissingError",
    "SarsegError",
    "UsageError",
    "__version__",
    "open_map",
    "open_product",
    "open_scene",
    "preprocess",
]

_NAMES = {
    "InputError": "sarseg.errors",
    "MissingError": "sarseg.errors",
    "SarsegError": "sarseg.errors",
    "UsageError": "sarseg.errors",
    "open_map": "sarseg.product.open",
    "open_product": "sarseg.product.open",
    "open_scene": "sarseg.scene.open",
    "preprocess": "sarseg.ard.preprocess",
}

_VERBS = {
    "train": "sarseg.train.loop",
    "predict": "sarseg.predict.engine",
    "mosaic": "sarseg.mosaic.composite",
    "assess": "sarseg.assess.accuracy",
}
"""Packages that are verbs too: `sarseg.train(...)` calls the function of the same name in this module."""


class _Verb(ModuleType):
    """A package that can be called."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(_VERBS[name]), name)(*args, **options)


class _Sarseg(ModuleType):
    """This package: a sub-package that is a verb becomes callable in the moment in which the import system binds it here."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _VERBS and type(value) is ModuleType:
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Sarseg


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    if name in _VERBS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_VERBS})
