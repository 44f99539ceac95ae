"""What lies in a folder of downloads: scenes, which are preprocessed, and products that are on the map already."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sarseg.errors import InputError, SarsegError, UsageError
from sarseg.product import folder as names
from sarseg.product.described import read_side
from sarseg.product.jaxa import MOSAIC, MOSAIC_ARCHIVE, SCANSAR
from sarseg.product.model import POLARISATIONS
from sarseg.product.open import is_ready_made, open_product
from sarseg.product.orthorectified import ORTHORECTIFIED
from sarseg.product.readymade import ASF, HYP3, OPERA
from sarseg.raster.archive import is_archive, without_ending

log = logging.getLogger(__name__)

_MANY_FILES = (SCANSAR, HYP3, ASF, OPERA, ORTHORECTIFIED)
"""Names of products whose files may lie loose in the folder."""
_NONE = "no downloads in the folder: no scene (*.SAFE, *.zip, LED-*), and no product that is known by its name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One scene or product.

    Parameters
    ----------
    name : of what is made of it, unlike those of the other downloads
    path : what is opened
    ready : it is a product on the map, which needs no preprocessing
    packed : the packed tars that hold all of it
    """

    name: str
    path: Path
    ready: bool
    packed: tuple[Path, ...] = ()


def find_downloads(folder: Path, others: Sequence[Path] = ()) -> list[Download]:
    """The scenes and products in a folder, in the order of their names; a folder goes before an archive of the same name.

    Scenes are SAFE and PALSAR folders, leaders and zips. Products are what `open_product` knows by the names of the files
    (folders and archives of them, or loose files), and GeoTIFFs that say what their bands are. JAXA's mosaic tiles that lie
    loose are one product.

    Parameters
    ----------
    others : what the pipeline names beside the downloads (DEM, labels): these are none

    InputError when there is no download.
    """
    if not folder.is_dir():
        raise InputError("no such folder", folder, "name the folder with the downloads by --input")
    apart = {path.resolve() for path in others}
    entries = [one for one in sorted(folder.iterdir()) if not one.name.startswith(".") and one.resolve() not in apart]
    by_name: dict[str, Download] = {}
    for found in (*_folders(entries), *_archives(entries), *_loose(folder, entries)):
        if by_name.setdefault(found.name, found) is not found:
            log.warning("%s is there twice: %s is taken", found.name, by_name[found.name].path.name)
    if not by_name:
        raise InputError(_NONE, folder, "name the folder with the downloads by --input")
    return [by_name[name] for name in sorted(by_name)]


def _folders(entries: Sequence[Path]) -> Iterator[Download]:
    for path in entries:
        if not path.is_dir():
            continue
        if path.name.endswith(".SAFE"):
            yield Download(name=path.name.removesuffix(".SAFE"), path=path, ready=False)
        elif _is_our_product(path) or _is_ready_made(path):
            tiles, layers = _mosaic_files(sorted(path.iterdir()))
            yield Download(name=path.name, path=path, ready=True, packed=() if layers else _packed(tiles))
        elif any(path.glob("LED-*")):
            yield Download(name=path.name, path=path, ready=False)


def _archives(entries: Sequence[Path]) -> Iterator[Download]:
    """Archives but the mosaic's tiles; a zip that cannot be listed is a scene, whose opening says what is wrong."""
    for path in entries:
        if path.is_file() and is_archive(path) and not MOSAIC_ARCHIVE.match(without_ending(path)):
            ready, zipped = _is_ready_made(path), path.suffix.lower() == ".zip"
            if ready or zipped:
                packed = _packed([path]) if ready else ()
                yield Download(name=without_ending(path).removesuffix(".SAFE"), path=path, ready=ready, packed=packed)


def _loose(folder: Path, entries: Sequence[Path]) -> Iterator[Download]:
    """Products of one file, and products and tiles whose files lie side by side."""
    files = [path for path in entries if path.is_file()]
    tiles, layers = _mosaic_files(files)
    packed = () if layers else _packed(tiles)
    if len(tiles) == 1 and not layers:
        yield Download(name=without_ending(tiles[0]), path=tiles[0], ready=True, packed=packed)
    elif tiles or layers:
        yield Download(name=folder.resolve().name, path=folder.resolve(), ready=True, packed=packed)
    seen: set[str] = set()
    for path in files:
        if is_archive(path) or path in layers:
            continue
        match = next((found for pattern in _MANY_FILES if (found := pattern.match(path.name))), None)
        if match is not None:
            if match["base"] not in seen and match["layer"].removesuffix("_SLP").removeprefix("IMG-") in POLARISATIONS:
                seen.add(match["base"])
                yield Download(name=match["base"], path=path, ready=True)
        elif path.name.startswith("LED-"):
            yield Download(name=path.name, path=path, ready=False)
        elif path.suffix.lower() == ".dim" or _says_backscatter(path):
            yield Download(name=path.stem, path=path, ready=True)


def _mosaic_files(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Archives with a tile of the mosaic each, and loose layers of tiles."""
    archives = [path for path in files if is_archive(path) and MOSAIC_ARCHIVE.match(without_ending(path))]
    return archives, [path for path in files if MOSAIC.match(path.name)]


def _packed(archives: Sequence[Path]) -> tuple[Path, ...]:
    """The archives, when all are packed tars."""
    return tuple(archives) if all(path.name.lower().endswith("gz") for path in archives) else ()


def _is_our_product(path: Path) -> bool:
    return (path / names.ITEM).is_file() and not (path / names.LANDCOVER).is_file()


def _is_ready_made(path: Path) -> bool:
    try:
        return is_ready_made(path)
    except SarsegError as error:
        log.debug("%s: %s", path, error)
        return False


def _says_backscatter(path: Path) -> bool:
    """Whether a raster has a side file or descriptions that make backscatter of its bands, or all but one word of it."""
    try:
        is_raster = path.suffix.lower() in (".tif", ".tiff") or read_side(path) is not None
        return is_raster and open_product(path).quantity == "power"
    except UsageError:  # something must be told: who opens it says what
        return True
    except SarsegError as error:
        log.debug("%s: %s", path, error)
        return False
