"""open_scene: whatever a user downloaded -> Scene."""

from __future__ import annotations

from pathlib import Path

from sarseg.errors import InputError
from sarseg.scene.manifest import read_manifest
from sarseg.scene.model import Scene
from sarseg.scene.safe import open_safe
from sarseg.scene.sentinel1 import read_sentinel1
from sarseg.scene.tops import read_tops

_KINDS = (
    "give a Sentinel-1 GRD or IW SLC product (its .SAFE folder, the zip as downloaded, or its manifest.safe) "
    "or a PALSAR CEOS product (its folder, its zip, or its LED- file)"
)


def open_scene(path: str | Path) -> Scene:
    """Open a radar scene without reading its pixels.

    Parameters
    ----------
    path : a Sentinel-1 GRD or IW SLC product as SAFE folder, zip archive (read in place) or manifest.safe; a PALSAR or PALSAR-2
        product of level 1.1 or 1.5 as folder, zip archive (read in place) or one of its files

    Raises
    ------
    InputError when there is no such file, when it is no scene or of an unsupported level, or when it is damaged
    """
    place = Path(path)
    if not place.exists():
        raise InputError("no such file or folder", place, _KINDS)
    safe = open_safe(place)
    if safe is not None:
        manifest = read_manifest(safe)
        if manifest.product_type == "SLC":
            return read_tops(safe, manifest)
        if manifest.product_type not in ("GRD", ""):
            raise InputError(f"Sentinel-1 {manifest.product_type} is not supported", place, "give a GRD or an IW SLC product")
        return read_sentinel1(safe, manifest)
    from sarseg.scene.palsar import open_palsar

    scene = open_palsar(place)
    if scene is None:
        raise InputError("not a radar scene", place, _KINDS)
    return scene


def is_scene(path: str | Path) -> bool:
    """Whether a file, a folder or an archive has the names of a radar scene; InputError when it cannot be listed."""
    from sarseg.scene.palsar import is_palsar

    place = Path(path)
    return place.exists() and (open_safe(place) is not None or is_palsar(place))
