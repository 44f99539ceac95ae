"""Patches for training: windows, the split by space, the store, and plain folders of patches."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.patches.contact import draw_contact_sheet
    from sarseg.patches.dataset import Dataset, open_dataset
    from sarseg.patches.legacy import generate_train_data
    from sarseg.patches.sources import Source
    from sarseg.patches.split import PatchOptions
    from sarseg.patches.store import write_dataset

__all__ = ["Dataset", "PatchOptions", "Source", "draw_contact_sheet", "generate_train_data", "open_dataset", "write_dataset"]

_NAMES = {
    "Dataset": "sarseg.patches.dataset",
    "PatchOptions": "sarseg.patches.split",
    "Source": "sarseg.patches.sources",
    "draw_contact_sheet": "sarseg.patches.contact",
    "generate_train_data": "sarseg.patches.legacy",
    "open_dataset": "sarseg.patches.dataset",
    "write_dataset": "sarseg.patches.store",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
