"""Sentinel-1 SAFE -> Scene: which file is which, what is missing, and whether the files agree (docs/sentinel1.md 7)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np

from sarseg.errors import InputError
from sarseg.radar.lut import Noise
from sarseg.scene.annotation import Annotation, read_annotation, read_calibration, read_noise
from sarseg.scene.model import Measurement, Scene, Tables
from sarseg.scene.safe import MANIFEST, Element, Safe

T = TypeVar("T")

_ORDER = ("VV", "HH", "VH", "HV")  # co-polarised first
_FIRST_ORBIT = {"S1A": 73, "S1B": 27}  # absolute orbit that is relative orbit 1, modulo 175; S1C changed its track at first
_CYCLE = 175
_MANY = 3  # names of absent files that a warning lists


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Manifest:
    product_type: str
    resolution: str
    ipf_version: str | None
    relative_orbit: int | None
    orbit_file: str | None
    footprint_lonlat: tuple[tuple[float, float], ...]
    hrefs: tuple[str, ...]


def read_sentinel1(safe: Safe) -> Scene:
    """A Sentinel-1 GRD product as a Scene; files that are absent become warnings.

    InputError for other levels, damaged files, and polarisations that do not fit together.
    """
    manifest = _read_manifest(safe)
    if manifest.product_type not in ("GRD", ""):
        raise InputError(f"Sentinel-1 {manifest.product_type} is not supported", safe.root, "give a GRD product")
    names = _annotation_names(safe)
    annotation_of = {name: read_annotation(safe.xml(name)) for name in names["product"]}
    annotations = sorted(annotation_of.values(), key=_rank)
    if not annotations:
        raise InputError("no product annotation", safe.root, "download the complete product again")
    _check_equal(annotations, safe)
    first = annotations[0]
    calibration = _tables(safe, names["calibration"], annotations, read_calibration, "calibration")
    noise = _tables(safe, names["noise"], annotations, read_noise, "noise table")
    measurements = _measurements(safe, annotation_of)
    missing = _absent(safe, manifest, annotations, (calibration, noise, measurements))
    return Scene(
        id=safe.id,
        path=str(safe.root),
        mission=first.mission,
        mode=first.mode if first.mode != "SM" else first.swath,
        product_type=first.product_type + manifest.resolution,
        polarisations=tuple(annotation.polarisation for annotation in annotations),
        start_utc=first.start_utc,
        stop_utc=first.stop_utc,
        orbit_direction=first.orbit_direction,
        absolute_orbit=first.absolute_orbit,
        relative_orbit=manifest.relative_orbit or _relative_orbit(first),
        ipf_version=manifest.ipf_version,
        footprint_lonlat=manifest.footprint_lonlat or _footprint(first),
        orbit=replace(first.orbit, source=_orbit_source(first, manifest), note=_orbit_note(first, manifest)),
        grid=first.grid,
        calibration=calibration,
        noise=noise,
        noise_removed=first.noise_removed,
        geolocation_grid=first.geolocation_grid,
        measurements=measurements,
        notes=(*missing, *_noise_notes(noise, first)),
    )


def _read_manifest(safe: Safe) -> _Manifest:
    root = safe.xml(MANIFEST)
    types = root.all("//standAloneProductInformation/productType")
    orbits = root.all("//orbitReference/relativeOrbitNumber")
    corners = root.all("//footPrint/coordinates")
    versions = [software.attribute("version") for software in root.all("//software") if software.node.get("name") == "Sentinel-1 IPF"]
    resources = [str(resource.node.get("name", "")) for resource in root.all("//resource")]
    orbit_files = [PurePosixPath(name).name for name in resources if re.search(r"_(PRE|RES|POE)ORB_", name)]
    files = root.all("dataObjectSection/dataObject/byteStream/fileLocation")
    resolution = re.match(r"S1._.._GRD([FHM])_", safe.id)
    return _Manifest(
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


def _annotation_names(safe: Safe) -> dict[str, list[str]]:
    """Annotation files by kind, from their places: the names differ between ESA's products and mirrors (docs/sentinel1.md 7)."""
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


def _rank(annotation: Annotation) -> int:
    return _ORDER.index(annotation.polarisation) if annotation.polarisation in _ORDER else len(_ORDER)


def _check_equal(annotations: list[Annotation], safe: Safe) -> None:
    """All polarisations of a GRD share one geometry (docs/sentinel1.md 7); anything else is a mixture of products."""
    first = annotations[0]
    for other in annotations[1:]:
        for what, mine, theirs in (
            ("size", first.grid.shape, other.grid.shape),
            ("first line", first.start_utc, other.start_utc),
            ("line interval", first.grid.line_interval_s, other.grid.line_interval_s),
            ("pixel spacing", first.grid.pixel_spacing_m, other.grid.pixel_spacing_m),
            ("polarisation", first.polarisation != other.polarisation, True),
        ):
            if mine != theirs:
                raise InputError(
                    f"{first.polarisation} and {other.polarisation} differ in {what}: {mine} and {theirs}",
                    safe.root,
                    "the folder mixes files of several products",
                )


def _tables(safe: Safe, names: list[str], annotations: list[Annotation], read: Callable[[Element, Annotation], T], what: str) -> Tables[T]:
    by_polarisation = {annotation.polarisation: annotation for annotation in annotations}
    found: dict[str, T] = {}
    for name in names:
        root = safe.xml(name)
        annotation = by_polarisation.get(root.text("adsHeader/polarisation"))
        if annotation is not None:
            found[annotation.polarisation] = read(root, annotation)
    ordered = {polarisation: found[polarisation] for polarisation in by_polarisation if polarisation in found}
    return Tables(ordered, what=what, where=str(safe.root))


def _measurements(safe: Safe, annotation_of: dict[str, Annotation]) -> Tables[Measurement]:
    """An image carries its annotation's name, on mirrors too."""
    images = {PurePosixPath(name).stem: name for name in safe.names if re.fullmatch(r"measurement/[^/]+\.tiff?", name, re.IGNORECASE)}
    found = {}
    for name, annotation in annotation_of.items():
        image = images.get(PurePosixPath(name).stem)
        if image is not None:
            place = Measurement(path=safe.member(image), archive=str(safe.root)) if safe.zipped else Measurement(path=safe.where(image))
            found[annotation.polarisation] = place
    return Tables(found, what="image", where=str(safe.root))


def _absent(safe: Safe, manifest: _Manifest, annotations: list[Annotation], tables: tuple[Tables[Any], ...]) -> tuple[str, ...]:
    """Warnings about files that the manifest names or a polarisation needs and that are not there."""
    notes = []
    missing = [href for href in manifest.hrefs if href not in safe.names]
    if missing and not any(href in safe.names for href in manifest.hrefs):
        notes.append("the manifest names none of the files here (a mirror's short names?): they were found by their places")
    elif missing:
        listed = ", ".join(missing[:_MANY]) + (f" and {len(missing) - _MANY} more" if len(missing) > _MANY else "")
        notes.append(f"the manifest names {len(missing)} files that are absent: {listed}")
    for table, what in zip(tables, ("calibration", "noise table", "image"), strict=True):
        lacking = [annotation.polarisation for annotation in annotations if annotation.polarisation not in table]
        if lacking:
            notes.append(f"no {what} for {', '.join(lacking)}")
    return tuple(notes)


def _noise_notes(noise: Tables[Noise | None], annotation: Annotation) -> tuple[str, ...]:
    empty = [polarisation for polarisation, table in noise.items() if table is None]
    notes = []
    if empty:
        notes.append(f"the noise tables of {', '.join(empty)} hold nothing but 0: the image cannot be denoised")
    if annotation.noise_removed:
        notes.append("the producer has subtracted the thermal noise already")
    return tuple(notes)


def _relative_orbit(annotation: Annotation) -> int | None:
    first = _FIRST_ORBIT.get(annotation.mission)
    return None if first is None else (annotation.absolute_orbit - first) % _CYCLE + 1


def _footprint(annotation: Annotation) -> tuple[tuple[float, float], ...]:
    """The geolocation grid's corners, around the image."""
    points = annotation.geolocation_grid
    last = points.line.max(), points.pixel.max()
    corners = [(0.0, 0.0), (0.0, last[1]), (last[0], last[1]), (last[0], 0.0)]
    places = [int(np.argmin(np.hypot(points.line - line, points.pixel - pixel))) for line, pixel in corners]
    return tuple((float(points.lon_deg[at]), float(points.lat_deg[at])) for at in places)


def _orbit_source(annotation: Annotation, manifest: _Manifest) -> str:
    return manifest.orbit_file or f"annotation ({annotation.orbit_source})"


def _orbit_note(annotation: Annotation, manifest: _Manifest) -> str:
    """Predicted and downlinked orbits are up to a metre off along track (docs/sentinel1.md 1)."""
    notes = [annotation.orbit.note] if annotation.orbit.note else []
    if annotation.orbit_source.lower() == "downlink":
        notes.append("the annotated orbit was downlinked in real time; a precise orbit file is better")
    elif "PREORB" in (manifest.orbit_file or ""):
        notes.append("the annotated orbit is a prediction, up to 1 m off along track; a precise orbit file is better")
    return "; ".join(notes)
