"""Product folders: files that belong together, published in one step, their STAC item written last."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sarseg.errors import InputError, MissingError

log = logging.getLogger(__name__)

ITEM = "item.json"
MASK = "mask.tif"
INCIDENCE = "incidence.tif"
ELLIPSOID_INCIDENCE = "ellipsoid_incidence.tif"
LANDCOVER = "landcover.tif"
CONFIDENCE = "confidence.tif"
PROBABILITIES = "probabilities.tif"
STYLE = "landcover.qml"
QUICKLOOK = "quicklook.png"


class ProductFolder:
    """A product in the making: write files into `path`, then `finish`."""

    def __init__(self, path: Path, final: Path) -> None:
        self.path = path
        self.final = final
        self.item: dict[str, Any] | None = None

    def finish(self, item: dict[str, Any]) -> None:
        """Write the item, which makes the folder a product, and say its warnings once."""
        for warning in item["properties"].get("sarseg:warnings", ()):
            log.warning("%s: %s", item["id"], warning)
        self.item = item
        write_json(self.path / ITEM, item)


def refuse_foreign(final: Path, mark: str) -> None:
    """InputError when a folder may not be replaced: it holds something, and not the file `mark`."""
    if final.exists() and not (final / mark).is_file() and not (final.is_dir() and not any(final.iterdir())):
        raise InputError("exists and is not ours to replace", final, "choose another output folder")


def make_parent(final: Path) -> None:
    """The folder that a new file or folder is to stand in; MissingError when it cannot be made, or takes no files, as /proc."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=final.parent):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError("no file or folder can be made here", final.parent, "choose another place for the output") from error


@contextmanager
def create_product(final: Path) -> Iterator[ProductFolder]:
    """A folder that gets its name when its item is written; an older product of that name is replaced.

    After an error nothing stays. InputError when `final` exists and is no product.
    """
    with create_folder(final, mark=ITEM) as path:
        folder = ProductFolder(path, final)
        yield folder
        if folder.item is None:
            raise RuntimeError(f"{final} was left without its item")


@contextmanager
def create_folder(final: Path, mark: str) -> Iterator[Path]:
    """A temporary folder beside `final` that gets its name on leaving without error.

    An older folder of that name is replaced when it holds the file `mark`, or nothing at all; else InputError.
    """
    refuse_foreign(final, mark)
    make_parent(final)
    part = final.with_name(f".partial-{os.getpid()}-{final.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        old = final.with_name(f".partial-{os.getpid()}-old-{final.name}")
        if final.exists():
            final.replace(old)
        part.replace(final)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON under a temporary name and publish it in one step; NaN is not JSON and is refused."""
    part = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        part.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Parse a JSON file; InputError when it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # damaged text or JSON, and numbers or nests beyond the parser
        raise InputError("cannot be read as JSON", path, str(error)) from error
