"""Real products as templates: their annotation is kept, their pixels are made."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from sarseg.errors import InputError
from sarseg.simulate.annotation import read_geometry
from sarseg.simulate.ellipsoid import geodetic
from sarseg.simulate.fill import read_channels
from sarseg.simulate.options import LandscapeOptions
from sarseg.tiles import Window


def copy_template(template: Path, work: Path) -> Path:
    """Copy manifest and annotation of a product (folder, zip or its manifest.safe) to `work`/NAME.SAFE; pixels are left."""
    if template.name == "manifest.safe":
        template = template.parent
    if template.is_dir():
        target = work / template.name
        if not (template / "manifest.safe").is_file():
            raise InputError("no manifest.safe in the template", template, "give a SAFE folder or a zip of one")
        target.mkdir()
        shutil.copy(template / "manifest.safe", target / "manifest.safe")
        for path in sorted((template / "annotation").rglob("*.xml")):
            place = target / path.relative_to(template)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        return target
    try:
        with zipfile.ZipFile(template) as archive:
            unpacked = _unpack(archive, work)
    except FileNotFoundError as error:
        raise InputError("no such template", template, "give a SAFE folder or a zip of one") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError("the template cannot be read", template, str(error)) from error
    if unpacked is None:
        raise InputError("no manifest.safe in the template", template, "give a zip of a SAFE folder")
    return work / unpacked


def _unpack(archive: zipfile.ZipFile, work: Path) -> str | None:
    """Write manifest and annotation below `work`; the product folder's name, None when there is no manifest."""
    manifests = [PurePosixPath(name) for name in archive.namelist() if PurePosixPath(name).name == "manifest.safe"]
    if not manifests:
        return None
    top = manifests[0].parent
    target = work / (top.name or "template.SAFE")
    for name in archive.namelist():
        place = PurePosixPath(name)
        if name.endswith("/") or not place.is_relative_to(top) or ".." in place.parts:
            continue
        inner = place.relative_to(top)
        if inner == PurePosixPath("manifest.safe") or (inner.parts[0] == "annotation" and inner.suffix == ".xml"):
            path = target.joinpath(*inner.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
    return target.name


def landscape_in(template: Path, landscape: LandscapeOptions, window: Window | None) -> LandscapeOptions:
    """A made-up landscape moved into the middle of a template's image, or of the window in it."""
    with tempfile.TemporaryDirectory() as folder:
        geometry = read_geometry(read_channels(copy_template(template, Path(folder)), None, template)[0].root)
    area = (window or Window.whole((geometry.lines, geometry.pixels))).clip((geometry.lines, geometry.pixels))
    if area is None:
        raise InputError(f"the window lies outside the image of {geometry.lines} x {geometry.pixels}", template)
    line, pixel = np.array(area.row + 0.5 * area.rows), np.array(area.col + 0.5 * area.cols)
    lon_deg, lat_deg, _ = geodetic(geometry.ground_point(line, pixel, landscape.base_m))
    return replace(landscape, lon_deg=float(lon_deg), lat_deg=float(lat_deg))
