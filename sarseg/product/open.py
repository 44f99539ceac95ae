"""Anything that lies on the map, opened as a `Product` (radar bands) or a `LandcoverMap` (classes)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sarseg.errors import InputError, UsageError
from sarseg.legend import Legend
from sarseg.product import folder as names
from sarseg.product.described import is_element, open_described, open_dimap, open_matrix, read_side
from sarseg.product.gather import BackscatterScale, Gathered, gather
from sarseg.product.jaxa import MOSAIC, MOSAIC_ARCHIVE, SCANSAR, open_mosaic, open_scansar
from sarseg.product.model import INCIDENCE_BAND, POLARISATIONS, Conversion, LandcoverMap, Layer, MaskCodes, Product
from sarseg.product.orthorectified import ORTHORECTIFIED, open_orthorectified
from sarseg.product.readymade import ASF, HYP3, OPERA, open_asf, open_hyp3, open_opera
from sarseg.raster.archive import Member, is_archive, split_virtual, without_ending
from sarseg.raster.read import open_raster

__all__ = [
    "INCIDENCE_BAND",
    "POLARISATIONS",
    "Conversion",
    "LandcoverMap",
    "Layer",
    "MaskCodes",
    "Product",
    "is_ready_made",
    "open_map",
    "open_product",
    "read_item",
]

_FAMILIES: dict[re.Pattern[str], Callable[[Gathered], Product | None]] = {
    MOSAIC: open_mosaic,
    SCANSAR: open_scansar,
    HYP3: open_hyp3,
    ASF: open_asf,
    OPERA: open_opera,
    ORTHORECTIFIED: open_orthorectified,
}
"""Product families by the names of their files."""

_SCALE_KNOWN = (MOSAIC, SCANSAR, ORTHORECTIFIED)
_DIM = ".dim"


def open_product(path: str | Path, *, scale: BackscatterScale | None = None) -> Product:
    """Open whatever lies on the map.

    Product folders of ours; JAXA's mosaics, ScanSAR ARD and orthorectified scenes; HyP3, ASF and OPERA RTC; SNAP's map-projected
    products; PolSARpro's matrices; rasters whose side file `<name>.sarseg.yaml` or band descriptions say what they are; any other
    raster as raw bands. Folders, archives in place, GDAL's paths into archives, or one file of a product. `docs/products.md` has the
    table.

    Parameters
    ----------
    scale : of the backscatter, where the file does not say it, or says it wrongly; what the side file says when None

    Raises
    ------
    InputError : an absent path, a folder or archive without a product, damaged files
    UsageError : something that the user must say: the scale, the meaning of bands
    """
    text, path = str(path), Path(path)
    if path.is_dir() and (path / names.ITEM).is_file():
        return _open_folder(path)
    side = read_side(path)
    scale = scale or (side.scale if side is not None else None)
    if path.suffix.lower() == _DIM and path.is_file():
        return open_dimap(Member(root=path.parent, name=path.name, size_bytes=path.stat().st_size), path, scale)
    files = gather(path, list(_FAMILIES), scale)
    if files is None:
        return open_described(text, path, side, scale)
    for pattern, opener in _FAMILIES.items():
        product = opener(files)
        if product is not None:
            if scale is not None and pattern in _SCALE_KNOWN:
                raise UsageError(f"scale is {scale}, but these products have one scale only", path, "leave the scale away")
            return product
    return _open_other(files)


def is_ready_made(path: Path) -> bool:
    """Whether a path is a product on the map that somebody else made: known by the names of its files, nothing is read.

    InputError for a damaged archive.
    """
    if path.is_dir() and (path / names.ITEM).is_file():
        return False
    if path.suffix.lower() == _DIM or (is_archive(path) and MOSAIC_ARCHIVE.match(without_ending(path))):
        return True
    files = gather(path, list(_FAMILIES))
    if files is None:
        return False
    return any(
        pattern.match(one.base) or MOSAIC_ARCHIVE.match(without_ending(Path(one.base))) or re.fullmatch(r"[TC]11\.bin|.*\.dim", one.base)
        for one in files.members
        for pattern in _FAMILIES
    )


def open_map(path: str | Path) -> LandcoverMap:
    """Open a map folder, or a class raster with class tags or a colour table.

    InputError when it is neither, or names no classes.
    """
    path = Path(path)
    if path.is_dir() and not (path / names.LANDCOVER).is_file():
        raise InputError("is no map: it has no landcover.tif", path, "give folders that `sarseg predict` wrote, or class rasters")
    base = path if path.is_dir() else path.parent
    item = read_item(base) if path.is_dir() else {}
    raster = open_raster(path / names.LANDCOVER if path.is_dir() else path)
    legend = Legend.from_tags(raster.tags, raster.colormap)
    if legend is None:
        raise InputError("the raster names no classes", raster.path, "its tags should hold class_1=..., class_2=...")
    confidence = base / names.CONFIDENCE
    return LandcoverMap(
        path=path,
        id=str(item.get("id", path.stem)),
        grid=raster.grid,
        legend=legend,
        raster=raster,
        confidence_raster=open_raster(confidence) if path.is_dir() and confidence.is_file() else None,
        item=item,
    )


def read_item(folder: Path) -> dict[str, Any]:
    """The STAC item of a product folder; InputError when there is none or it is damaged."""
    if not folder.exists():
        raise InputError("no such file or folder", folder)
    if not (folder / names.ITEM).is_file():
        raise InputError("the folder is no product: it has no item.json", folder, "a run that was stopped leaves none; run it again")
    item = names.read_json(folder / names.ITEM)
    if not isinstance(item, dict) or not isinstance(item.get("properties"), dict) or not isinstance(item.get("assets"), dict):
        raise InputError("item.json is no STAC item", folder)
    return item


def _open_folder(path: Path) -> Product:
    item = read_item(path)
    elements = [name for name in item["assets"] if is_element(name)]  # in the order of the matrix, as they were written
    bands = {name: open_raster(path / f"{name}.tif") for name in (*POLARISATIONS, *elements) if (path / f"{name}.tif").is_file()}
    if not bands:
        raise InputError("the product holds no backscatter", path, "a map is opened where a map is asked for")
    if (path / names.INCIDENCE).is_file():
        bands[INCIDENCE_BAND] = open_raster(path / names.INCIDENCE)
    grid = next(iter(bands.values())).grid
    for name, raster in bands.items():
        if raster.grid != grid:
            raise InputError(f"{name}.tif lies on another grid than its neighbours", path)
    mask = path / names.MASK
    return Product(
        path=path,
        id=str(item.get("id", path.name)),
        grid=grid,
        quantity="power",
        rasters=dict(bands),
        mask_raster=open_raster(mask) if mask.is_file() else None,
        item=item,
    )


def _open_other(files: Gathered) -> Product:
    """What a folder or archive holds that no family knows by its names."""
    matrix = open_matrix(files)
    if matrix is not None:
        return matrix
    if files.chosen is not None and not files.chosen.base.lower().endswith(_DIM):
        return open_described(files.chosen.place, files.path, None, files.scale)
    headers = [files.chosen] if files.chosen is not None else [one for one in files.members if one.base.lower().endswith(_DIM)]
    if len(headers) == 1:
        return open_dimap(headers[0], files.path, files.scale, files.members)
    if split_virtual(str(files.path)) is None and files.path.is_dir():
        read_item(files.path)
    hint = "known are JAXA mosaics, ScanSAR ARD and levels 2.1 and 3.1, HyP3, ASF and OPERA RTC, SNAP (.dim), PolSARpro"
    raise InputError("no product that is known by the names of its files", files.path, hint)
