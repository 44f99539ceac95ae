"""Sentinel-1 IW SLC -> Scene: the geometry of the image that its bursts make when they are put together (docs/sentinel1.md 8).

No pixels are read: the scene knows where the image has data, and its power there is 1. SNAP makes the backscatter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.errors import InputError
from sarseg.radar.geometry import RadarGrid
from sarseg.radar.lut import QUANTITIES, Calibration, LineTimes, LutVector, Noise
from sarseg.radar.orbit import Floats, Orbit, seconds_between
from sarseg.scene.annotation import Header, calibration_vectors, noise_vectors, read_geolocation_grid, read_header, read_orbit
from sarseg.scene.bursts import Burst, Coverage
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
from sarseg.scene.model import GeolocationGrid, Measurement, Scene, Tables
from sarseg.scene.safe import Element, Safe

_SWATHS = ("IW1", "IW2", "IW3")
_REFERENCE = "IW2"
_REFERENCE_AFTER_S = {"IW1": 336e-6, "IW3": -359.5e-6}  # IW2's middle after another swath's (docs/sentinel1.md 8)
_OFF_GRID = 0.01  # of a line or a sample; real ones are within 0.0023 (docs/sentinel1.md 8)
_LARGEST = 1 << 17  # lines, pixels: above every IW product
_AGAIN = "download the product again"


@dataclass(frozen=True, kw_only=True, eq=False)
class Swath(Header):
    """What the product annotation of one sub-swath of a TOPS SLC holds, in one polarisation.

    Parameters
    ----------
    where : the file
    burst_s : float64 (bursts,), time of each one's first line, seconds after `start_utc`
    interval_s, sampling_hz : of lines and samples
    tau_s : two-way time of the first sample
    shape : (lines of a burst, samples)
    first, last : int64 (bursts, lines of a burst), valid samples of each line; -1 = none
    orbit, points : with `start_utc` as their epoch; `points.line` counts the lines of all bursts
    """

    where: str
    wavelength_m: float
    burst_s: Floats
    interval_s: float
    sampling_hz: float
    tau_s: float
    shape: tuple[int, int]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    orbit: Orbit
    points: GeolocationGrid

    @property
    def tau_middle_s(self) -> float:
        """Two-way time of the middle of its samples."""
        return self.tau_s + (self.shape[1] - 1) / 2.0 / self.sampling_hz

    @property
    def old(self) -> bool:
        """IPF 2.36: vectors a second apart at rounded times, and points whose lines are not theirs (docs/sentinel1.md 8)."""
        return bool(np.allclose(np.diff(self.orbit.t_s), 1.0, rtol=0.0, atol=1e-6))


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """The image that the bursts of all swaths make together; times count from `grid.epoch_utc`.

    Parameters
    ----------
    swaths : one annotation of each, in order of range
    polarisations : those that all swaths have
    stop_utc : of the last line
    points : of all swaths, on the grid of the image
    footprint_lonlat : outline, degrees; longitudes go on beyond 180
    notes : warnings
    """

    swaths: tuple[Swath, ...]
    polarisations: tuple[str, ...]
    stop_utc: np.datetime64
    grid: RadarGrid
    coverage: Coverage
    orbit: Orbit
    points: GeolocationGrid
    footprint_lonlat: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]


def read_tops(safe: Safe, manifest: Manifest) -> Scene:
    """A Sentinel-1 IW SLC as a Scene that has a geometry but no pixels; files that are absent become warnings.

    InputError for other modes, damaged files, and annotations that do not fit together.
    """
    names = annotation_names(safe)
    swath_of = {name: read_swath(safe.xml(name)) for name in names["product"]}
    if not swath_of:
        raise InputError("no product annotation", safe.root, "download the complete product again")
    image = merge_swaths(list(swath_of.values()))
    header = image.swaths[0]
    calibration = Tables(_calibration(safe, names["calibration"], image), what="calibration", where=str(safe.root))
    noise = Tables(_noise(safe, names["noise"], image), what="noise table", where=str(safe.root))
    measurements = Tables(_measurements(safe, swath_of, image), what="image", where=str(safe.root))
    removed = any(swath.noise_removed for swath in swath_of.values())
    lacking = lacking_notes(image.polarisations, {"calibration": calibration, "noise table": noise, "image": measurements})
    return Scene(
        id=safe.id,
        path=str(safe.root),
        mission=header.mission,
        mode=header.mode,
        product_type=header.product_type,
        polarisations=image.polarisations,
        start_utc=image.grid.epoch_utc,
        stop_utc=image.stop_utc,
        orbit_direction=header.orbit_direction,
        absolute_orbit=header.absolute_orbit,
        relative_orbit=relative_orbit(manifest, header),
        ipf_version=manifest.ipf_version,
        footprint_lonlat=image.footprint_lonlat,
        orbit=named_orbit(image.orbit, header, manifest),
        grid=image.grid,
        calibration=calibration,
        noise=noise,
        noise_removed=removed,
        geolocation_grid=image.points,
        measurements=measurements,
        pixels="coverage",
        coverage=image.coverage,
        swaths=tuple(swath.swath for swath in image.swaths),
        notes=(*image.notes, *missing_notes(safe, manifest), *lacking, *noise_notes(noise, removed=removed)),
    )


def read_swath(root: Element) -> Swath:
    """A product annotation of an IW SLC; InputError for anything that is missing or cannot be, and for other products."""
    try:
        return _read_swath(root)
    except ValueError as error:  # of the types, which refuse values that no radar has
        raise InputError(str(error), root.where, "the annotation is damaged") from error


def _read_swath(root: Element) -> Swath:
    header = read_header(root)
    if header.product_type != "SLC":
        raise InputError(f"a {header.product_type} annotation in an SLC product", root.where, "the folder mixes files of several products")
    _check_mode(header, root)
    image, timing = root.find("imageAnnotation/imageInformation"), root.find("swathTiming")
    shape = timing.integer("linesPerBurst"), timing.integer("samplesPerBurst")
    bursts = timing.all("burstList/burst")
    size = image.integer("numberOfLines"), image.integer("numberOfSamples")
    if not bursts or min(shape) < 1 or size != (shape[0] * len(bursts), shape[1]):
        raise InputError(
            f"{len(bursts)} bursts of {shape} lines and samples in an image of {size}", root.where, "the annotation is damaged"
        )
    valid = np.stack([_valid(burst, shape) for burst in bursts])
    burst_s = np.array([seconds_between(burst.time("azimuthTime"), header.start_utc) for burst in bursts])
    if not (np.diff(burst_s) > 0).all():
        raise InputError("the times of the bursts do not increase", root.where, "the annotation is damaged")
    swath = Swath(
        **vars(header),
        where=root.where,
        wavelength_m=SPEED_OF_LIGHT_M_S / _between(root, "generalAnnotation/productInformation/radarFrequency", 1e9, 1e11),
        burst_s=burst_s,
        interval_s=_between(image, "azimuthTimeInterval", 1e-4, 1e-1),
        sampling_hz=_between(root, "generalAnnotation/productInformation/rangeSamplingRate", 1e6, 1e9),
        tau_s=_between(image, "slantRangeTime", 1e-3, 1e-1),
        shape=shape,
        first=valid[:, 0],
        last=valid[:, 1],
        orbit=read_orbit(root, header.start_utc),
        points=read_geolocation_grid(root, header.start_utc),
    )
    if not ((swath.points.line >= 0) & (swath.points.line <= size[0])).all():
        raise InputError("the geolocation grid has points beyond the image", root.where, "the annotation is damaged")
    return swath


def _check_mode(header: Header, root: Element) -> None:
    """Refuse other modes, with what to do."""
    if header.mode == "EW":
        raise InputError(
            "Sentinel-1 EW SLC is not supported: for which of its swaths the lines' bistatic delay was removed is not known",
            root.where,
            "give the GRD product, or run SNAP's graph by itself: sarseg snap run --graph s1_slc",
        )
    if header.mode != "IW" or header.swath not in _SWATHS:
        raise InputError(
            f"Sentinel-1 {header.swath} SLC is not supported: it has no bursts, which SNAP's graph puts together",
            root.where,
            "give the GRD product, or a graph of your own to sarseg snap run",
        )


def _between(root: Element, path: str, low: float, high: float) -> float:
    value = root.number(path)
    if not low <= value <= high:
        raise ValueError(f"{path.rpartition('/')[2]} lies between {low:g} and {high:g}, not at {value:g}")
    return value


def _valid(burst: Element, shape: tuple[int, int]) -> NDArray[np.int64]:
    """First and last valid sample of each line, int64 (2, lines)."""
    first, last = (burst.numbers(f"{end}ValidSample") for end in ("first", "last"))
    if len(first) != shape[0] or len(last) != shape[0]:
        raise InputError(f"valid samples of {len(first)} and {len(last)} lines in a burst of {shape[0]}", burst.where, _AGAIN)
    none = (first == -1) & (last == -1)
    if not (none | ((first >= 0) & (first <= last) & (last < shape[1]))).all():
        raise InputError(f"valid samples beyond the {shape[1]} of a burst", burst.where, _AGAIN)
    return np.stack([first, last]).astype(np.int64)


def merge_swaths(annotations: Sequence[Swath]) -> Image:
    """The image of all bursts of the annotations of one product.

    InputError when they are of several products, when no polarisation has all swaths, or when the bursts lie on no common grid.
    """
    names = tuple(name for name in _SWATHS if any(one.swath == name for one in annotations))
    table: dict[str, dict[str, Swath]] = {}
    for one in annotations:
        if table.setdefault(one.polarisation, {}).setdefault(one.swath, one) is not one:
            raise InputError(f"two annotations of {one.swath} {one.polarisation}", one.where, "the folder mixes files of several products")
    complete = tuple(sorted((name for name, found in table.items() if len(found) == len(names)), key=rank))
    if not complete:
        raise InputError(f"no polarisation has all of {', '.join(names)}", annotations[0].where, "download the complete product again")
    for one in annotations:
        _check_equal(next(found[one.swath] for found in table.values() if one.swath in found), one)
    swaths = tuple(sorted(table[complete[0]].values(), key=lambda one: one.tau_s))
    grid, starts = _grid(swaths)
    points = [_points(swath, lines, pixel, grid) for swath, (lines, pixel) in zip(swaths, starts, strict=True)]
    return Image(
        swaths=swaths,
        polarisations=complete,
        stop_utc=max(swath.stop_utc for swath in swaths),
        grid=grid,
        coverage=_coverage(swaths, starts),
        orbit=_orbit(swaths[0], grid.epoch_utc),
        points=GeolocationGrid(**{name: np.concatenate([getattr(one, name) for one in points]) for name in GeolocationGrid.__slots__}),
        footprint_lonlat=_footprint(points),
        notes=_notes(names, [name for name in table if name not in complete]),
    )


def _check_equal(first: Swath, other: Swath) -> None:
    """All polarisations of a swath share one geometry; anything else is a mixture of products."""
    for what, mine, theirs in (
        ("orbit", first.absolute_orbit, other.absolute_orbit),
        ("size", first.first.shape + first.shape, other.first.shape + other.shape),
        ("first line", first.start_utc, other.start_utc),
        ("bursts", tuple(first.burst_s), tuple(other.burst_s)),
        ("range", (first.tau_s, first.sampling_hz), (other.tau_s, other.sampling_hz)),
    ):
        if mine != theirs:
            raise InputError(
                f"{first.polarisation} and {other.polarisation} of {first.swath} differ in {what}",
                other.where,
                "the folder mixes files of several products",
            )


def _grid(swaths: Sequence[Swath]) -> tuple[RadarGrid, list[tuple[NDArray[np.int64], int]]]:
    """The grid that all swaths lie on, and on it the first lines of each one's bursts and its first pixel."""
    near, epoch_utc = swaths[0], min(swath.start_utc for swath in swaths)
    for swath in swaths:
        if (swath.interval_s, swath.sampling_hz, swath.absolute_orbit) != (near.interval_s, near.sampling_hz, near.absolute_orbit):
            raise InputError(f"{near.swath} and {swath.swath} differ in orbit, line interval or sampling rate", swath.where, _AGAIN)
    times = [seconds_between(swath.start_utc, epoch_utc) + swath.burst_s for swath in swaths]
    first_s = float(min(time[0] for time in times))
    starts = []
    for swath, time in zip(swaths, times, strict=True):
        lines = _whole((time - first_s) / swath.interval_s, "lines", swath)
        pixel = _whole(np.array([(swath.tau_s - near.tau_s) * swath.sampling_hz]), "samples", swath)
        starts.append((lines, int(pixel[0])))
    shape = (
        max(int(lines[-1]) + swath.shape[0] for swath, (lines, _) in zip(swaths, starts, strict=True)),
        max(pixel + swath.shape[1] for swath, (_, pixel) in zip(swaths, starts, strict=True)),
    )
    if max(shape) > _LARGEST:
        raise InputError(f"the bursts make an image of {shape} lines and samples", near.where, "the annotation is damaged")
    grid = RadarGrid(
        epoch_utc=epoch_utc,
        shape=shape,
        look_side="right",
        wavelength_m=near.wavelength_m,
        first_line_s=first_s,
        line_interval_s=near.interval_s,
        pixel_spacing_m=SPEED_OF_LIGHT_M_S / 2.0 / near.sampling_hz,
        record_t_s=np.zeros(1),
        record_origin_m=np.zeros(1),
        record_coefficients=np.array([[near.tau_s * SPEED_OF_LIGHT_M_S / 2.0, 1.0]]),
        tau_ref_s=_tau_ref_s({swath.swath: swath for swath in swaths}),
    )
    return grid, starts


def _whole(steps: Floats, what: str, swath: Swath) -> NDArray[np.int64]:
    """Places in whole steps of the grid; InputError for one that lies between them."""
    whole = np.rint(np.clip(steps, -1e12, 1e12))
    off = float(np.abs(steps - whole).max())
    if off > _OFF_GRID:
        raise InputError(
            f"{swath.swath} lies {min(off, 1e6):.3g} {what} beside the grid of the other bursts",
            swath.where,
            "the annotation is damaged, or the folder mixes files of several products",
        )
    return np.asarray(whole.astype(np.int64))


def _tau_ref_s(swaths: Mapping[str, Swath]) -> float:
    """The middle of IW2's samples, for all swaths; without IW2 by what lies between the middles."""
    if _REFERENCE in swaths:
        return swaths[_REFERENCE].tau_middle_s
    name, swath = next(iter(swaths.items()))
    return swath.tau_middle_s + _REFERENCE_AFTER_S[name]


def _coverage(swaths: Sequence[Swath], starts: Sequence[tuple[NDArray[np.int64], int]]) -> Coverage:
    return Coverage(
        bursts=tuple(
            Burst(line=int(line), pixel=pixel, first=first, last=last)
            for swath, (lines, pixel) in zip(swaths, starts, strict=True)
            for line, first, last in zip(lines, swath.first, swath.last, strict=True)
        )
    )


def _orbit(swath: Swath, epoch_utc: np.datetime64) -> Orbit:
    """The annotated vectors, the same in all swaths; in IPF 2.36 their times are rounded, and nothing tells by how much."""
    orbit = swath.orbit.at_epoch(epoch_utc)
    if not swath.old:
        return orbit
    note = "the orbit's times are rounded to 1 ms (IPF 2.36): up to 1.1 m off along track; a precise orbit file is better"
    return replace(orbit, note=note)


def _points(swath: Swath, lines: NDArray[np.int64], pixel: int, grid: RadarGrid) -> GeolocationGrid:
    """A swath's points on the grid of the image; where their lines are not to be trusted, by their times."""
    points = swath.points
    time_s = points.time_s + seconds_between(swath.start_utc, grid.epoch_utc)
    burst = np.minimum(points.line // swath.shape[0], len(lines) - 1).astype(np.int64)
    line = lines[burst] + points.line - burst * swath.shape[0]
    if swath.old:
        line, _ = grid.line_pixel(time_s, points.slant_range_m)
    return replace(points, line=line, pixel=points.pixel + pixel, time_s=time_s)


def _footprint(swaths: Sequence[GeolocationGrid]) -> tuple[tuple[float, float], ...]:
    """Around the image: its first lines from near to far, its last lines back."""
    upper, lower = [], []
    for points in swaths:
        for pixel in (points.pixel.min(), points.pixel.max()):
            column = np.flatnonzero(points.pixel == pixel)
            upper.append(int(column[np.argmin(points.line[column])]))
            lower.append(int(column[np.argmax(points.line[column])]))
    count = 2 * len(swaths)
    outline = [(swaths[k // 2], upper[k]) for k in range(count)] + [(swaths[k // 2], lower[k]) for k in reversed(range(count))]
    start = float(outline[0][0].lon_deg[outline[0][1]])
    corners = [(float(points.lon_deg[at]), float(points.lat_deg[at])) for points, at in outline]
    return tuple((start + (lon - start + 180.0) % 360.0 - 180.0, lat) for lon, lat in corners)


def _notes(names: Sequence[str], incomplete: Sequence[str]) -> tuple[str, ...]:
    absent = [name for name in _SWATHS if name not in names]
    notes = []
    if absent:
        notes.append(f"no annotation of {', '.join(absent)}: the image is that of {', '.join(names)}")
    if incomplete:
        notes.append(f"{', '.join(incomplete)} is not there in all swaths, and left out")
    return tuple(notes)


def _tables_of(safe: Safe, names: Sequence[str], image: Image) -> dict[str, list[Element]]:
    """Annotations of a kind by polarisation, of those that have one for each swath."""
    found: dict[str, dict[str, Element]] = {}
    for name in names:
        root = safe.xml(name)
        found.setdefault(root.text("adsHeader/polarisation"), {})[root.text("adsHeader/swath")] = root
    swaths = {swath.swath for swath in image.swaths}
    return {name: list(found[name].values()) for name in image.polarisations if swaths <= found.get(name, {}).keys()}


def _calibration(safe: Safe, names: Sequence[str], image: Image) -> dict[str, Calibration]:
    """Tables of 1 for the polarisations that have tables: the coverage's power is 1 (the product's own are for SNAP)."""
    unit = (LutVector(t_s=0.0, pixel=np.zeros(1), value=np.ones(1)),)
    times = LineTimes(first_s=image.grid.first_line_s, interval_s=image.grid.line_interval_s)
    found = _tables_of(safe, names, image)
    for root in (root for roots in found.values() for root in roots):
        calibration_vectors(root, image.grid.epoch_utc)  # a damaged file is refused before SNAP runs
    return {name: Calibration(times=times, tables=dict.fromkeys(QUANTITIES, unit)) for name in found}


def _noise(safe: Safe, names: Sequence[str], image: Image) -> dict[str, Noise | None]:
    """Whether there is noise to subtract: None where all tables are 0, else an empty table (the product's own are for SNAP)."""
    times = LineTimes(first_s=image.grid.first_line_s, interval_s=image.grid.line_interval_s)
    found: dict[str, Noise | None] = {}
    for name, roots in _tables_of(safe, names, image).items():
        vectors = [vector for root in roots for vector in noise_vectors(root, image.grid.epoch_utc)]
        found[name] = Noise(times=times, vectors=(), blocks=()) if any(vector.value.any() for vector in vectors) else None
    return found


def _measurements(safe: Safe, swath_of: Mapping[str, Swath], image: Image) -> dict[str, Measurement]:
    """The first swath's image, where each swath has one."""
    images, found = image_names(safe), {}
    for polarisation in image.polarisations:
        stems = [PurePosixPath(name).stem for name, swath in swath_of.items() if swath.polarisation == polarisation]
        if all(stem in images for stem in stems):
            found[polarisation] = measurement_of(safe, images[stems[0]])
    return found
