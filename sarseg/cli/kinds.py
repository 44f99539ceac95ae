"""What a folder is, by the names in it alone: for words that fit, before anything is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["model", "dataset", "interrupted training", "map", "product", "images and masks"]

_MARKS: tuple[tuple[str, Kind], ...] = (
    ("model.json", "model"),
    ("dataset.json", "dataset"),
    ("checkpoint.json", "interrupted training"),
    ("landcover.tif", "map"),
    ("item.json", "product"),
)


def kind_of(path: Path) -> Kind | None:
    """Which of our folders a path is; None for another one, and for a file."""
    if not path.is_dir():
        return None
    for mark, kind in _MARKS:
        if (path / mark).is_file():
            return kind
    return "images and masks" if (path / "images").is_dir() and (path / "masks").is_dir() else None
