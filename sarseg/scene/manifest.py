"""What a SAFE product says as a whole: its manifest, which file is which, and what is missing (docs/sentinel1.md 7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from sarseg.errors import InputError
from sarseg.radar.orbit import Orbit
from sarseg.scene.annotation import Header
from sarseg.scene.model import Measurement, Tables
from sarseg.scene.safe import MANIFEST, Element, Safe

_ORDER = ("VV", "HH", "VH", "HV")  # co-polarised first
_FIRST_ORBIT = {"S1A": 73, "S1B": 27}  # absolute orbit that is relative orbit 1, modulo 175; S1C changed its track at first
_CYCLE = 175
_MANY = 3  # names of absent files that a warning lists


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """What `manifest.safe` holds.

    Parameters
    ----------
    product_type : "GRD", "SLC" ..., empty where it does not say
    resolution : letter of a GRD, from the product's name, or empty
    ipf_version : of the processor, None where unknown
    relative_orbit : None where unknown
    orbit_file : that the product was made with, None where none is named
    footprint_lonlat : corners, degrees, or nothing
    hrefs : files, relative to the manifest
    """

    product_type: str
    resolution: str
    ipf_version: str | None
    relative_orbit: int | None
    orbit_file: str | None
    footprint_lonlat: tuple[tuple[float, float], ...]
    hrefs: tuple[str, ...]


def read_manifest(safe: Safe) -> Manifest:
    """The manifest of a product; InputError when it is damaged."""
    root = safe.xml(MANIFEST)
    types = root.all("//standAloneProductInformation/productType")
    orbits = root.all("//orbitReference/relativeOrbitNumber")
    corners = root.all("//footPrint/coordinates")
    versions = [software.attribute("version") for software in root.all("//software") if software.node.get("name") == "Sentinel-1 IPF"]
    resources = [str(resource.node.get("name", "")) for resource in root.all("//resource")]
    orbit_files = [PurePosixPath(name).name for name in resources if re.search(r"_(PRE|RES|POE)ORB_", name)]
    files = root.all("dataObjectSection/dataObject/byteStream/fileLocation")
    resolution = re.match(r"S1._.._GRD([FHM])_", safe.id)
    return Manifest(
        product_type=types[0].text("") if types else "",
        resolution=resolution[1] if resolution else "",
        ipf_version=versions[0] if versions else None,
        relative_orbit=orbits[0].integer("") if orbits else None,
        orbit_file=orbit_files[0] if orbit_files else None,
        footprint_lonlat=_corners(corners[0]) if corners else (),
        hrefs=tuple(str(PurePosixPath(place.attribute("href"))) for place in files),
    )


def _corners(coordinates: Element) -> tuple[tuple[float, float], ...]:
    """The manifest writes lat,lon pairs."""
    try:
        pairs = [pair.split(",") for pair in coordinates.text("").split()]
        return tuple((float(lon), float(lat)) for lat, lon in pairs)
    except ValueError as error:
        raise InputError("the footprint is no list of lat,lon", coordinates.where) from error


def annotation_names(safe: Safe) -> dict[str, list[str]]:
    """Annotation files by kind ("product", "calibration", "noise"), from their places: mirrors change the names."""
    kinds: dict[str, list[str]] = {"product": [], "calibration": [], "noise": []}
    for name in sorted(safe.names):
        path = PurePosixPath(name)
        if path.suffix.lower() != ".xml" or path.parts[0] != "annotation":
            continue
        if len(path.parts) == 2:
            kinds["product"].append(name)
        elif path.parts[1] == "calibration":
            kind = path.name.partition("-")[0]
            if kind in kinds:
                kinds[kind].append(name)
    return kinds


def image_names(safe: Safe) -> dict[str, str]:
    """Images by the stem of their annotation's name, which they carry, on mirrors too."""
    return {PurePosixPath(name).stem: name for name in safe.names if re.fullmatch(r"measurement/[^/]+\.tiff?", name, re.IGNORECASE)}


def measurement_of(safe: Safe, image: str) -> Measurement:
    """An image of the product."""
    return Measurement(path=safe.member(image), archive=str(safe.root)) if safe.zipped else Measurement(path=safe.where(image))


def rank(polarisation: str) -> int:
    """Place of a polarisation in a scene."""
    return _ORDER.index(polarisation) if polarisation in _ORDER else len(_ORDER)


def missing_notes(safe: Safe, manifest: Manifest) -> tuple[str, ...]:
    """Warnings about files that the manifest names and that are not there."""
    missing = [href for href in manifest.hrefs if href not in safe.names]
    if missing and not any(href in safe.names for href in manifest.hrefs):
        return ("the manifest names none of the files here (a mirror's short names?): they were found by their places",)
    if missing:
        listed = ", ".join(missing[:_MANY]) + (f" and {len(missing) - _MANY} more" if len(missing) > _MANY else "")
        return (f"the manifest names {len(missing)} files that are absent: {listed}",)
    return ()


def lacking_notes(polarisations: Sequence[str], tables: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Warnings about what a polarisation needs and lacks; `tables` by what they hold."""
    lacks = {what: [name for name in polarisations if name not in set(table)] for what, table in tables.items()}
    return tuple(f"no {what} for {', '.join(names)}" for what, names in lacks.items() if names)


def noise_notes(noise: Tables[Any], *, removed: bool) -> tuple[str, ...]:
    """Warnings about noise that cannot be subtracted, or was before."""
    empty = [polarisation for polarisation, table in noise.items() if table is None]
    notes = []
    if empty:
        notes.append(f"the noise tables of {', '.join(empty)} hold nothing but 0: the image cannot be denoised")
    if removed:
        notes.append("the producer has subtracted the thermal noise already")
    return tuple(notes)


def relative_orbit(manifest: Manifest, header: Header) -> int | None:
    """The manifest's, or else by the absolute orbit; None where unknown."""
    first = _FIRST_ORBIT.get(header.mission)
    return manifest.relative_orbit or (None if first is None else (header.absolute_orbit - first) % _CYCLE + 1)


def named_orbit(orbit: Orbit, header: Header, manifest: Manifest) -> Orbit:
    """The annotated orbit with its source; predicted and downlinked ones are up to a metre off along track (docs/sentinel1.md 1)."""
    notes = [orbit.note] if orbit.note else []
    if header.orbit_source.lower() == "downlink":
        notes.append("the annotated orbit was downlinked in real time; a precise orbit file is better")
    elif "PREORB" in (manifest.orbit_file or ""):
        notes.append("the annotated orbit is a prediction, up to 1 m off along track; a precise orbit file is better")
    return replace(orbit, source=manifest.orbit_file or f"annotation ({header.orbit_source})", note="; ".join(notes))
