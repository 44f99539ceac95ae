"""A product in the making, and its name in the output folder once it is complete."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sarseg.product.folder import make_parent


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder in `out` for what is not ready; gone at the end, whatever happens. MissingError when it cannot be made there."""
    work = out / f".partial-{os.getpid()}"
    make_parent(work)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(product: Path, out: Path, *, zipped: bool) -> Path:
    """Give a product's folder its name in `out`, zipped when wanted (X.SAFE becomes X.zip); an old one of that name is replaced."""
    if zipped:
        packed = product.with_name(f"{product.name.removesuffix('.SAFE')}.zip")
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in sorted(product.rglob("*")):
                archive.write(path, Path(product.name) / path.relative_to(product))
        return packed.replace(out / packed.name)
    final = out / product.name
    if final.exists():
        shutil.rmtree(final)
    return product.replace(final)
