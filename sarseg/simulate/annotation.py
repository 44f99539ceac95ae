"""The simulator's own reader of Sentinel-1 annotation: orbit, range records, calibration, noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.simulate.geometry import ImageGeometry, RangeRecords, make_geometry
from sarseg.simulate.track import fit_track


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What names an annotation: mission, mode, product type, polarisation, and the numbers that key the random numbers."""

    mission: str
    mode: str
    product_type: str
    polarisation: str
    absolute_orbit: int
    data_take: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A tables (DN^2 / A^2 is the quantity) at nodes: lines (n,), pixels (m,), sigma0 and beta0 (n, m), float64."""

    line: NDArray[np.float64]
    pixel: NDArray[np.float64]
    sigma0: NDArray[np.float64]
    beta0: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseVectors:
    """Noise power in DN^2: one range vector a line, times azimuth blocks (first and last line and sample, lines, factors)."""

    line: NDArray[np.float64]
    pixel: tuple[NDArray[np.float64], ...]
    power: tuple[NDArray[np.float64], ...]
    blocks: tuple[tuple[int, int, int, int, NDArray[np.float64], NDArray[np.float64]], ...]


def parse(path: Path) -> Any:
    """Root element of an XML file, without entities and network; InputError when it cannot be read."""
    from lxml import etree  # type: ignore[import-untyped]

    try:
        return etree.parse(str(path), etree.XMLParser(resolve_entities=False, no_network=True)).getroot()
    except (OSError, etree.XMLSyntaxError) as error:
        raise InputError("cannot be read as XML", path, str(error)) from error


def text(element: Any, path: str) -> str:
    """Text of a required child; InputError when it is absent."""
    found = element.findtext(path)
    if found is None:
        raise InputError(f"the annotation has no {path}", element.getroottree().docinfo.URL)
    return str(found)


def numbers(element: Any, path: str) -> NDArray[np.float64]:
    """The numbers of a list element, float64 (n,)."""
    return np.array(text(element, path).split(), np.float64)


def seconds(times: list[str], epoch_utc: np.datetime64) -> NDArray[np.float64]:
    """Seconds after the epoch: subtracted as whole microseconds, because float64 days lose them."""
    since = np.array(times, "datetime64[us]") - epoch_utc
    return np.asarray(since.astype(np.int64) * 1e-6)


def read_header(root: Any) -> Header:
    """The adsHeader."""
    head = root.find("adsHeader")
    if head is None:
        raise InputError("not a Sentinel-1 annotation", root.getroottree().docinfo.URL)
    return Header(
        mission=text(head, "missionId"),
        mode=text(head, "mode"),
        product_type=text(head, "productType"),
        polarisation=text(head, "polarisation"),
        absolute_orbit=int(text(head, "absoluteOrbitNumber")),
        data_take=int(text(head, "missionDataTakeId")),
    )


def read_geometry(root: Any) -> ImageGeometry:
    """Image geometry of a ground-range annotation."""
    image = root.find("imageAnnotation/imageInformation")
    if image is None:
        raise InputError("not a Sentinel-1 annotation", root.getroottree().docinfo.URL)
    epoch_utc = np.datetime64(text(image, "productFirstLineUtcTime"), "us")
    vectors = root.findall("generalAnnotation/orbitList/orbit")
    t_s = _vector_times(vectors, epoch_utc)
    position, velocity = (
        np.array([[float(text(one, f"{part}/{axis}")) for axis in "xyz"] for one in vectors]).reshape(-1, 3)
        for part in ("position", "velocity")
    )
    records = root.findall("coordinateConversion/coordinateConversionList/coordinateConversion")
    if not records:
        raise InputError("the annotation has no ground-range records", root.getroottree().docinfo.URL, "only GRD products are simulated")
    coefficients = np.stack([numbers(one, "grsrCoefficients") for one in records])
    origins = {float(text(one, "gr0")) for one in records}
    if origins != {0.0}:
        raise InputError(f"ground ranges start at {sorted(origins)}", root.getroottree().docinfo.URL, "only gr0 = 0 is understood")
    ranges = RangeRecords(
        seconds([text(one, "azimuthTime") for one in records], epoch_utc), coefficients, float(text(image, "rangePixelSpacing"))
    )
    shape = int(text(image, "numberOfLines")), int(text(image, "numberOfSamples"))
    return make_geometry(fit_track(epoch_utc, t_s, position, velocity), shape, float(text(image, "azimuthTimeInterval")), ranges)


def _vector_times(vectors: list[Any], epoch_utc: np.datetime64) -> NDArray[np.float64]:
    """Times of the state vectors. IPF 2.36 rounds them to milliseconds: vectors one second apart begin 2 s before the first line."""
    t_s = seconds([text(one, "time") for one in vectors], epoch_utc)
    if len(t_s) > 1 and abs(t_s[1] - t_s[0] - 1.0) < 0.01:
        t_s = t_s + (round(t_s[0]) - t_s[0])
    return t_s


def read_calibration(root: Any) -> Calibration:
    """Calibration vectors; all must share their pixels, as in every GRD seen."""
    vectors = root.findall("calibrationVectorList/calibrationVector")
    if not vectors:
        raise InputError("no calibration vectors", root.getroottree().docinfo.URL)
    pixel = numbers(vectors[0], "pixel")
    if any(not np.array_equal(numbers(one, "pixel"), pixel) for one in vectors):
        raise InputError("the calibration vectors have different pixels", root.getroottree().docinfo.URL)
    return Calibration(
        line=np.array([float(text(one, "line")) for one in vectors]),
        pixel=pixel,
        sigma0=np.stack([numbers(one, "sigmaNought") for one in vectors]),
        beta0=np.stack([numbers(one, "betaNought") for one in vectors]),
    )


def read_noise(root: Any) -> NoiseVectors:
    """Noise vectors: range and azimuth (IPF 2.90 and later), or range only (before)."""
    vectors, name = root.findall("noiseRangeVectorList/noiseRangeVector"), "noiseRangeLut"
    if not vectors:
        vectors, name = root.findall("noiseVectorList/noiseVector"), "noiseLut"
    if not vectors:
        raise InputError("no noise vectors", root.getroottree().docinfo.URL)
    keys = ("firstAzimuthLine", "firstRangeSample", "lastAzimuthLine", "lastRangeSample")
    blocks = []
    for one in root.findall("noiseAzimuthVectorList/noiseAzimuthVector"):
        if one.find(keys[0]) is None:
            continue  # an SLC vector; it has no extent
        first_line, first_pixel, last_line, last_pixel = (int(text(one, key)) for key in keys)
        blocks.append((first_line, first_pixel, last_line, last_pixel, numbers(one, "line"), numbers(one, "noiseAzimuthLut")))
    return NoiseVectors(
        line=np.array([float(text(one, "line")) for one in vectors]),
        pixel=tuple(numbers(one, "pixel") for one in vectors),
        power=tuple(numbers(one, name) for one in vectors),
        blocks=tuple(blocks),
    )
