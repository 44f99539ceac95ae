"""Sentinel-1 GRD in a SAFE product -> Scene: whether the files agree (docs/sentinel1.md 7)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from sarseg.errors import InputError
from sarseg.scene.annotation import Annotation, read_annotation, read_calibration, read_noise
from sarseg.scene.manifest import (
    Manifest,
    annotation_names,
    image_names,
    lacking_notes,
    measurement_of,
    missing_notes,
    named_orbit,
    noise_notes,
    rank,
    relative_orbit,
)
from sarseg.scene.model import Measurement, Scene, Tables
from sarseg.scene.safe import Element, Safe

T = TypeVar("T")


def read_sentinel1(safe: Safe, manifest: Manifest) -> Scene:
    """A Sentinel-1 GRD product as a Scene; files that are absent become warnings.

    InputError for other levels, damaged files, and polarisations that do not fit together.
    """
    names = annotation_names(safe)
    annotation_of = {name: read_annotation(safe.xml(name)) for name in names["product"]}
    annotations = sorted(annotation_of.values(), key=lambda annotation: rank(annotation.polarisation))
    if not annotations:
        raise InputError("no product annotation", safe.root, "download the complete product again")
    _check_equal(annotations, safe)
    first = annotations[0]
    calibration = _tables(safe, names["calibration"], annotations, read_calibration, "calibration")
    noise = _tables(safe, names["noise"], annotations, read_noise, "noise table")
    measurements = _measurements(safe, annotation_of)
    polarisations = tuple(annotation.polarisation for annotation in annotations)
    lacking = lacking_notes(polarisations, {"calibration": calibration, "noise table": noise, "image": measurements})
    return Scene(
        id=safe.id,
        path=str(safe.root),
        mission=first.mission,
        mode=first.mode if first.mode != "SM" else first.swath,
        product_type=first.product_type + manifest.resolution,
        polarisations=polarisations,
        start_utc=first.start_utc,
        stop_utc=first.stop_utc,
        orbit_direction=first.orbit_direction,
        absolute_orbit=first.absolute_orbit,
        relative_orbit=relative_orbit(manifest, first),
        ipf_version=manifest.ipf_version,
        footprint_lonlat=manifest.footprint_lonlat or _footprint(first),
        orbit=named_orbit(first.orbit, first, manifest),
        grid=first.grid,
        calibration=calibration,
        noise=noise,
        noise_removed=first.noise_removed,
        geolocation_grid=first.geolocation_grid,
        measurements=measurements,
        notes=(*missing_notes(safe, manifest), *lacking, *noise_notes(noise, removed=first.noise_removed)),
    )


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
    images = image_names(safe)
    found = {
        annotation.polarisation: measurement_of(safe, images[PurePosixPath(name).stem])
        for name, annotation in annotation_of.items()
        if PurePosixPath(name).stem in images
    }
    return Tables(found, what="image", where=str(safe.root))


def _footprint(annotation: Annotation) -> tuple[tuple[float, float], ...]:
    """The geolocation grid's corners, around the image."""
    points = annotation.geolocation_grid
    last = points.line.max(), points.pixel.max()
    corners = [(0.0, 0.0), (0.0, last[1]), (last[0], last[1]), (last[0], 0.0)]
    places = [int(np.argmin(np.hypot(points.line - line, points.pixel - pixel))) for line, pixel in corners]
    return tuple((float(points.lon_deg[at]), float(points.lat_deg[at])) for at in places)
