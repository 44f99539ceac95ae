"""Traps that lie between the nodes and the parameters of a graph: each alone is allowed, together they go wrong (docs/snap.md 8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath

from sarseg.ard.snap.graphxml import Graph, Node, placeholders
from sarseg.ard.snap.problems import Problem

_EXTERNAL = "External DEM"
_DEMS = {
    "ACE", "ACE30", "ACE2_5Min", "ASTER 1sec GDEM", "CDEM", "Copernicus 30m Global DEM", "Copernicus 90m Global DEM", "GETASSE30",
    "SRTM 1Sec Grid", "SRTM 1Sec HGT", "SRTM 3Sec",
}  # fmt: skip
_DEM_ENDINGS = (" (Auto Download)", " (Auto Install)")
_FORMATS = {
    "BEAM-DIMAP", "BMP", "CSV", "ENVI", "GIF", "Gamma", "Gamma for PyRate", "GeoTIFF", "GeoTIFF-BigTIFF", "GeoTIFF+XML", "HDF5",
    "Generic Binary", "Generic Binary BSQ", "JP2", "JPEG", "JPEG2000", "JSON", "NetCDF-BEAM", "NetCDF-CF", "NetCDF4-BEAM", "NetCDF4-CF",
    "PNG", "PolSARPro", "PyRate export", "Snaphu", "SNAPHU", "TIFF", "ZNAP",
}  # fmt: skip
_EGM_DEFAULTS = {"Terrain-Correction": True, "Terrain-Flattening": False, "SAR-Simulation": True, "SARSim-Terrain-Correction": True}
_NO_EXTERNAL = {"ALOS-Deskewing"}
ENDINGS: Mapping[str, tuple[str, ...]] = {
    "BEAM-DIMAP": (".dim",),
    "GeoTIFF": (".tif", ".tiff"),
    "GeoTIFF-BigTIFF": (".tif", ".tiff"),
}
"""Of the files of a format; SNAP appends the first one to a name that has none of them."""
_EXPECTS_BETA0 = {"Calibration", "BandMaths", "BandMerge", "Multilook", "TOPSAR-Deburst", "Subset", "Speckle-Filter", "Terrain-Flattening"}
"""Between Calibration and Terrain-Flattening these, and no other, leave it clear which bands arrive."""
_ON_A_MAP = {"Terrain-Correction", "SARSim-Terrain-Correction", "Ellipsoid-Correction-GG", "Ellipsoid-Correction-RD", "Reproject"}
_EARTH_M = 6378137.0  # SNAP's, between metres and degrees
_SAME = 0.01
_MOST_DIGITS = 10
_TOLD = {"s1_slc", "s1_slc_rtc", "alos", "alos_rtc"}  # graphs of ours that average lines, which no graph can do without this trap


def traps(graph: Graph) -> Iterator[Problem]:
    """All of them, in any order; safe for graphs with cycles and open references."""
    by_id = {node.id: node for node in graph.nodes}
    for node in graph.nodes:
        before = _upstream(node, by_id)
        for rule in (_dem_name, *_RULES.get(node.operator, ())):
            if rule is not _last_line or graph.id not in _TOLD:
                yield from rule(node, before)
    yield from _same_file(graph)


def _upstream(node: Node, by_id: Mapping[str, Node]) -> list[Node]:
    """The nodes that a node's data come from, nearest first."""
    found: dict[str, Node] = {}
    waiting = [node]
    while waiting:
        for _, refid in waiting.pop(0).sources:
            if refid in by_id and refid not in found and refid != node.id:
                found[refid] = by_id[refid]
                waiting.append(by_id[refid])
    return list(found.values())


def _true(node: Node, name: str, default: bool) -> bool:
    return node.value(name, str(default)).lower() == "true"


def _names(nodes: list[Node]) -> set[str]:
    return {node.operator for node in nodes}


def _dem_name(node: Node, _before: list[Node]) -> Iterator[Problem]:
    name = node.value("demName")
    for ending in _DEM_ENDINGS:
        name = name.removesuffix(ending)
    takes_file = node.operator not in _NO_EXTERNAL
    if name and not placeholders(name) and name not in _DEMS and not (_EXTERNAL in name and takes_file):
        message = (
            f"demName is '{name}', which SNAP does not know: one of {', '.join(sorted(_DEMS))}{f', {_EXTERNAL}' if takes_file else ''}"
        )
        yield Problem(node=node.id, parameter="demName", message=message, fatal=True)


def _dem(node: Node, _before: list[Node]) -> Iterator[Problem]:
    """Heights from a file: SNAP's defaults for it differ between operators, and it ignores the file's own no-data value."""
    name, file = node.value("demName"), node.value("externalDEMFile")
    if placeholders(name):
        return
    external = _EXTERNAL in name
    if file and not external and (name in _DEMS or not name):
        said = f"demName is '{name}'" if name else "demName is not stated"
        yield Problem(node=node.id, parameter="demName", message=f"{said}, and externalDEMFile is given: it must be '{_EXTERNAL}' then")
    if external and not file:
        yield Problem(node=node.id, parameter="externalDEMFile", message=f"demName is '{_EXTERNAL}' and no file is given", fatal=True)
    if not (external and file):
        return
    if not node.value("externalDEMNoDataValue"):
        message = "externalDEMNoDataValue is not stated: SNAP takes 0 m for no data and ignores the file's own value"
        yield Problem(node=node.id, parameter="externalDEMNoDataValue", message=message)
    if not node.value("externalDEMApplyEGM"):
        adds = "adds EGM96 to" if _EGM_DEFAULTS[node.operator] else "adds no geoid to"
        message = f"externalDEMApplyEGM is not stated: {node.operator} {adds} the file's heights by default, and others do otherwise"
        yield Problem(node=node.id, parameter="externalDEMApplyEGM", message=message)
    if node.value("demResamplingMethod") == "DELAUNAY_INTERPOLATION":
        message = "SNAP refuses DELAUNAY_INTERPOLATION for an external DEM"
        yield Problem(node=node.id, parameter="demResamplingMethod", message=message, fatal=True)


def _no_range_subset(node: Node, before: list[Node]) -> Iterator[Problem]:
    """Flattening of ground-range images counts ground range from the first pixel of the whole image."""
    if _names(before) & {"TOPSAR-Deburst", "TOPSAR-Split"}:
        return
    for other in before:
        if other.operator == "Subset":
            names, pixels = ("geoRegion", "polygonRegion", "vectorFile"), other.value("region")
        elif other.operator == "Read" and _true(other, "useAdvancedOptions", False):
            names, pixels = ("geometryRegion", "polygonRegion", "vectorFile"), other.value("pixelRegion")
        else:
            continue
        if any(other.value(name) for name in names) or (pixels and pixels.partition(",")[0].strip() not in ("0", "-0")):
            message = f"cuts in range before {node.operator} ({node.id}), which scales wrongly then: cut after the terrain correction"
            yield Problem(node=other.id, parameter=None, message=message)


def _beta0(node: Node, before: list[Node]) -> Iterator[Problem]:
    calibration = next((other for other in before if other.operator == "Calibration"), None)
    if calibration is None or _names(before[: before.index(calibration)]) - _EXPECTS_BETA0:
        return
    made = [
        (name.text or "").strip()
        for other in before
        if other.operator == "BandMaths" and other.parameters is not None
        for name in other.parameters.iterfind("targetBands/targetBand/name")
    ]
    flags = [calibration.value(name).lower() for name in ("outputBetaBand", "createBetaBand")]
    if any(flag == "true" or placeholders(flag) for flag in flags) or any(name.startswith("Beta0") or placeholders(name) for name in made):
        return
    yield Problem(
        node=node.id,
        parameter="sourceBands",
        message=f"{node.operator} needs beta0, and {calibration.id} has no outputBetaBand",
        fatal=True,
    )


def _noise_first(node: Node, before: list[Node]) -> Iterator[Problem]:
    names = _names(before)
    if "TOPSAR-Deburst" in names:
        yield Problem(node=node.id, message="after TOPSAR-Deburst SNAP fails with '/ by zero': remove the noise before", fatal=True)
    if "SliceAssembly" in names:
        message = "after SliceAssembly SNAP refuses products of processor 2.90 and newer: remove the noise of each slice before"
        yield Problem(node=node.id, message=message)


def _border_first(node: Node, before: list[Node]) -> Iterator[Problem]:
    if "Calibration" in _names(before):
        yield Problem(node=node.id, message="after Calibration the border noise is not found: it is known as uncalibrated amplitude")


def _looks(node: Node, _before: list[Node]) -> Iterator[Problem]:
    if node.value("nAzLooks") and _true(node, "grSquarePixel", True):
        message = "grSquarePixel is true: SNAP computes nAzLooks from nRgLooks, whatever is given"
        yield Problem(node=node.id, parameter="nAzLooks", message=message)


def _last_line(_node: Node, before: list[Node]) -> Iterator[Problem]:
    """Multilook keeps the time of the last line, and the correction spreads the lines evenly from the first one's to it."""
    for other in before:
        lines = other.value("nAzLooks") if other.operator == "Multilook" else ""
        if lines.isdecimal() and len(lines) < _MOST_DIGITS and int(lines) > 1:
            message = (
                f"of the {lines} lines that are averaged SNAP keeps the last one's time: at the scene's end pixels lie "
                f"{(int(lines) - 1) / 2:g} of these lines too far along the track, and those that fill no look"
            )
            yield Problem(node=other.id, parameter="nAzLooks", message=message)


def _radar_geometry(node: Node, before: list[Node]) -> Iterator[Problem]:
    on_a_map = next((other for other in before if other.operator in _ON_A_MAP), None)
    if on_a_map is not None:
        message = f"{node.operator} comes after {on_a_map.operator} ({on_a_map.id}): SNAP refuses an image that is on a map"
        yield Problem(node=node.id, message=message, fatal=True)


def _no_bursts(node: Node, before: list[Node]) -> Iterator[Problem]:
    names = _names(before)
    if "TOPSAR-Split" in names and "TOPSAR-Deburst" not in names:
        yield Problem(node=node.id, message=f"{node.operator} refuses bursts: TOPSAR-Deburst must come before", fatal=True)


def _complex_alos(node: Node, before: list[Node]) -> Iterator[Problem]:
    """SNAP gives ALOS of level 1.1 coefficients of ground range, and flattening takes them for an image that is not complex."""
    calibration = next((other for other in before if other.operator == "Calibration"), None)
    if calibration is None or "ALOS-Deskewing" not in _names(before):
        return
    if _true(calibration, "outputImageInComplex", False) or placeholders(calibration.value("outputImageInComplex")):
        return
    message = (
        f"of ALOS level 1.1 {calibration.id} must keep the image complex (outputImageInComplex true): else {node.operator} takes slant "
        "range for ground range, and the result is some 2 dB too dark"
    )
    yield Problem(node=node.id, message=message)


def _spacings(node: Node, _before: list[Node]) -> Iterator[Problem]:
    try:
        metres, degrees = (float(node.value(f"pixelSpacingIn{unit}", "0")) for unit in ("Meter", "Degree"))
    except ValueError:
        return
    if metres > 0.0 and degrees > 0.0 and not math.isclose(math.degrees(metres / _EARTH_M), degrees, rel_tol=_SAME):
        message = f"pixelSpacingInMeter {metres:g} and pixelSpacingInDegree {degrees:g} differ: SNAP takes the one of the map's unit"
        yield Problem(node=node.id, parameter="pixelSpacingInDegree", message=message)


def _format(node: Node, _before: list[Node]) -> Iterator[Problem]:
    file, kind = node.value("file"), node.value("formatName", "BEAM-DIMAP")
    if kind not in _FORMATS and not placeholders(kind) and not kind.startswith("GDAL-"):
        yield Problem(
            node=node.id, parameter="formatName", message=f"formatName is '{kind}', a format that SNAP does not write", fatal=True
        )
    endings = ENDINGS.get(kind)
    if endings is None or not file or placeholders(file):
        return
    suffix = PurePath(file).suffix.lower()
    known = {ending for group in ENDINGS.values() for ending in group}
    if suffix in known and suffix not in endings:
        yield Problem(node=node.id, parameter="file", message=f"the format is {kind}: SNAP writes {file}{endings[0]}")


def _same_file(graph: Graph) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for node in graph.nodes:
        file = node.value("file") if node.operator == "Write" else ""
        if file and file in seen:
            yield Problem(node=node.id, parameter="file", message=f"node {seen[file]} writes the same file: one overwrites the other")
        seen.setdefault(file, node.id)


_RULES: Mapping[str, tuple[Callable[[Node, list[Node]], Iterator[Problem]], ...]] = {
    "Terrain-Flattening": (_dem, _radar_geometry, _no_range_subset, _beta0, _complex_alos),
    "Terrain-Correction": (_dem, _radar_geometry, _no_bursts, _last_line, _spacings),
    "Ellipsoid-Correction-RD": (_last_line,),
    "SAR-Simulation": (_dem,),
    "SARSim-Terrain-Correction": (_dem,),
    "ThermalNoiseRemoval": (_noise_first,),
    "Remove-GRD-Border-Noise": (_border_first,),
    "Multilook": (_looks, _radar_geometry, _no_bursts),
    "Write": (_format,),
}
