"""The graphs that come with sarseg (folder `graphs`), chosen for a product and filled in for a version of SNAP.

The files are graphs of SNAP as they stand: each describes its parameters at its head, and gpt runs it with -P. For the engine, nodes
that a product does not need are left out and bands are repeated for each polarisation; `graph_text` takes these values:

| value | what it is | when it is not given |
|---|---|---|
| input, output | the product for SNAP's Read, the .dim file to write | needed |
| radiometry | "sigma0", "gamma0" or "gamma0-rtc" | gamma0; gamma0-rtc for a graph that flattens |
| polarisations | those that are wanted, "VV,VH" | needed |
| denoised | those whose thermal noise SNAP subtracts; "" = none | "" |
| mission, level, ipf | `Scene.mission`, `.product_type`, `.ipf_version` | ""; alos_rtc needs the level |
| swath | of an SLC with a single one, "IW2": SNAP keeps it in the names of bands then; "" = several | "" |
| orbit_type | of Apply-Orbit-File; "" = the orbit of the product | "" |
| range_looks, azimuth_looks | pixels and lines to average in radar geometry | 1 |
| columns, lines | pixels and lines, from the first on, that fill whole looks; SNAP's Multilook is given no others | all of them |
| dem, dem_nodata | heights for SNAP (sarseg.ard.snap.dem), and a value that they never have | needed; -32768.0 |
| crs, spacing_m, spacing_deg, origin | the map: pixel size (the unit that does not apply is 0.0), half of it | needed |
| region | WKT polygon in longitude and latitude; "" = the whole scene | "" |

What the graph writes: one BEAM-DIMAP product with `Sigma0_<pol>` or `Gamma0_<pol>` (flattened gamma0 too) for every polarisation
wanted, linear power, 0 = no signal; and `Floor_<pol>` for those in `denoised`: 0 = no signal, 1 = signal, 2 = at the floor that
SNAP's removal of noise leaves; <pol> as `band_suffix` says. Floors are told apart in radar geometry and then averaged and resampled
like the powers: a value of 1.5 or more says that most of the pixel's weight is floored (mask bit 32). In a GRD they are the 1e-5 that
ThermalNoiseRemoval puts for a negative difference, before Calibration; in an SLC, after Deburst, what is not above `FLOORS` of the
version. Averaging counts zeros in: along the image's edge a floored look is told as such when a quarter of it or less has no signal.

BandMaths' own product is never averaged, flattened or corrected: SNAP may leave its tie points empty. Its bands are merged into the
product that they were made from, whose metadata, tie points and geocoding count.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sarseg.ard.snap.check import check_graph
from sarseg.ard.snap.graphxml import fill, parse_xml, placeholders, read_text
from sarseg.errors import UsageError

GRAPHS: Mapping[str, str] = {
    "s1_grd": "Sentinel-1 GRD to sigma0 or gamma0",
    "s1_grd_rtc": "Sentinel-1 GRD to flattened gamma0",
    "s1_slc": "Sentinel-1 IW SLC to sigma0 or gamma0",
    "s1_slc_rtc": "Sentinel-1 IW SLC to flattened gamma0",
    "alos": "ALOS and ALOS-2, L1.1 and L1.5 georeferenced, to sigma0 or gamma0",
    "alos_rtc": "ALOS and ALOS-2, L1.1 and L1.5 georeferenced, to flattened gamma0",
    "alos_geocoded": "ALOS and ALOS-2, L1.5 geocoded, to sigma0 in the product's own grid",
}
"""The graphs by name, which is also that of the file."""

RADIOMETRIES = ("sigma0", "gamma0", "gamma0-rtc")
_SIGMA0: Mapping[str, str] = {"L1.1": "(i_${polarisation} * i_${polarisation} + q_${polarisation} * q_${polarisation})"}
"""Calibrated power in `alos_rtc`, by level, where it is no band: SNAP's flattening takes slant range for ground range, and makes L1.1
about 2 dB too dark, unless the calibrated image is complex (docs/snap.md 5)."""

FLOORS: Mapping[int, str] = {10: "2.0E-5", 14: "1.0E-9"}
"""Since which version: the largest calibrated value of a pixel whose noise exceeds its signal (1e-5 to 2e-5; 1e-5 / A^2)."""

_FLATTENED = "gamma0-rtc"
_PALSAR_LEVELS = ("L1.1", "L1.5R")
_NO_BORDER_NOISE_SINCE = (2, 90)
_DEFAULTS: Mapping[str, str] = {
    "denoised": "",
    "mission": "",
    "level": "",
    "ipf": "",
    "swath": "",
    "orbit_type": "",
    "range_looks": "1",
    "azimuth_looks": "1",
    "columns": "",
    "lines": "",
    "dem_nodata": "-32768.0",
    "region": "",
}
_DERIVED = ("bands", "complex", "floor", "polarisation", "sigma0")
_CHOOSING = ("radiometry", "polarisations", "denoised", "mission", "level", "ipf", "swath")


def packaged_graph(name: str) -> Path:
    """The file of a graph of `GRAPHS`: inside an installed package, at the top of a checkout; UsageError for another name."""
    if name not in GRAPHS:
        raise UsageError(f"no graph '{name}'", None, f"there are {', '.join(GRAPHS)}")
    package = Path(__file__).resolve().parents[2]
    inside = package / "graphs" / f"{name}.xml"
    return inside if inside.is_file() else package.parent / "graphs" / f"{name}.xml"


def choose_graph(mission: str, level: str, radiometry: str) -> Path:
    """The graph for a product; UsageError, with the reason, where SNAP cannot do it.

    Parameters
    ----------
    mission, level : `Scene.mission` and `Scene.product_type`: "S1A" and "GRDH" or "SLC", "ALOS" or "ALOS2" and "L1.1", "L1.5R" or "L1.5G"
    radiometry : one of `RADIOMETRIES`
    """
    if radiometry not in RADIOMETRIES:
        raise UsageError(f"SNAP's graphs make no {radiometry}", None, f"they make {', '.join(RADIOMETRIES)}; or take --engine native")
    flattened = "_rtc" if radiometry == _FLATTENED else ""
    if mission.startswith("S1") and level[:3] in ("GRD", "SLC"):
        return packaged_graph(f"s1_{level[:3].lower()}{flattened}")
    if mission in ("ALOS", "ALOS2"):
        if level == "L1.5G":
            raise UsageError(
                "SNAP cannot correct PALSAR products of level 1.5 geocoded: it refuses them, and its incidence angles for them are 0",
                None,
                "take --engine native",
            )
        if level in _PALSAR_LEVELS:
            return packaged_graph(f"alos{flattened}")
    raise UsageError(f"no graph of SNAP for {mission} {level}", None, "take --engine native, or a graph of your own with sarseg snap run")


def graph_text(graph: Path, values: Mapping[str, str], version: int) -> str:
    """A graph of `GRAPHS`, filled and without the nodes that the product does not need, ready for gpt.

    UsageError when a value is missing, not known, or one that SNAP would not take as it is meant; it names node and parameter.

    Parameters
    ----------
    values : as the table above says
    version : of SNAP, 10 to 14
    """
    text = read_text(graph)
    wanted = set(placeholders(text))
    given = {**_DEFAULTS, "radiometry": _FLATTENED if graph.stem.endswith("_rtc") else "gamma0", **values}
    unknown = [name for name in values if name not in wanted and name not in _CHOOSING and name not in _DEFAULTS]
    unknown += [name for name in _DERIVED if name in values]
    if unknown:
        raise UsageError(f"the graph has no {', '.join(unknown)}", graph.name, "its head lists its parameters")
    if "polarisation" in wanted:
        wanted |= {"polarisations"}
    missing = sorted(name for name in wanted - set(_DERIVED) if name not in given)
    missing += ["level"] if "sigma0" in wanted and given["level"] not in _PALSAR_LEVELS else []
    if missing:
        raise UsageError(f"no value for {', '.join(missing)}", graph.name, "its head says what they are")
    root = parse_xml(text, graph)
    for name in _unneeded(given):
        _drop(root, name)
    _repeat_bands(root, given)
    text = _text(root)
    given |= {"bands": _bands(given), "complex": str(given["level"] in _SIGMA0).lower(), "floor": _floor(version)}
    used = {name: given[name] for name in placeholders(text)}
    for problem in check_graph(text, version, values=used, polarisations=_list(given.get("polarisations", "")) or None):
        place = ", ".join(part for part in (graph.name, f"node {problem.node}" if problem.node else "", problem.parameter or "") if part)
        raise UsageError(problem.message, place)
    return fill(text, used)


def band_suffix(polarisation: str, swath: str = "") -> str:
    """What SNAP's names of bands end with after TOPSAR-Deburst: "VV", of a product with a single sub-swath "IW2_VV"."""
    return f"{swath}_{polarisation}" if swath else polarisation


def _suffixes(given: Mapping[str, str], which: str) -> list[str]:
    return [band_suffix(name, given["swath"]) for name in _list(given.get(which, ""))]


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _bands(given: Mapping[str, str]) -> str:
    """What Terrain-Correction resamples."""
    quantity = given["radiometry"].removesuffix("-rtc").capitalize()
    names = [f"{quantity}_{name}" for name in _suffixes(given, "polarisations")]
    return ",".join([*names, *(f"Floor_{name}" for name in _suffixes(given, "denoised"))])


def _floor(version: int) -> str:
    return FLOORS[max(since for since in FLOORS if since <= version)]


def _unneeded(given: Mapping[str, str]) -> list[str]:
    """Ids of the nodes to leave out, those of the graph at hand and of others."""
    found = []
    if not given["orbit_type"]:
        found.append("Orbit")
    if not given["ipf"] or _version(given["ipf"]) >= _NO_BORDER_NOISE_SINCE:
        found.append("Border")
    if not given["denoised"]:
        found += ["Noise", "Floors", "FloorMerge", "FloorLooks"]
    if (given["mission"], given["level"]) != ("ALOS", "L1.1"):
        found.append("Deskew")
    if given["radiometry"] == "sigma0":
        found += ["Angle", "AngleMerge"]
    if given["range_looks"] == given["azimuth_looks"] == "1":
        found.append("Looks")
    if given["azimuth_looks"] == "1" or not (given["columns"] and given["lines"]):
        found.append("Whole")
    if not given["region"]:
        found.append("Cut")
    return found


def _version(text: str) -> tuple[int, ...]:
    """ "002.84" as numbers."""
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError as error:
        raise UsageError(f"'{text}' is no version of ESA's processor", None, "write it like 2.84") from error


def _drop(root: Any, name: str) -> None:
    """Take a node out, if it is there: what it fed gets its first source."""
    node = next((one for one in root.iterfind("node") if one.get("id") == name), None)
    if node is None:
        return
    sources = [source.get("refid") for source in node.iterfind("sources/*")]
    for source in root.iterfind("node/sources/*"):
        if source.get("refid") == name:
            source.set("refid", sources[0])
    root.remove(node)


def _repeat_bands(root: Any, given: Mapping[str, str]) -> None:
    """One targetBand for each polarisation."""
    for node in root.iterfind("node"):
        names = _suffixes(given, "denoised" if node.get("id") == "Floors" else "polarisations")
        sigma0 = _SIGMA0.get(given["level"], "Sigma0_${polarisation}")
        for band in list(node.iterfind("parameters/targetBands/targetBand")):
            place = band.getparent()
            for name in names:
                made = copy.deepcopy(band)
                for element in made:
                    element.text = (element.text or "").replace("${sigma0}", sigma0).replace("${polarisation}", name)
                place.append(made)
            place.remove(band)


def _text(root: Any) -> str:
    from lxml import etree  # type: ignore[import-untyped]

    return str(etree.tostring(root, encoding="unicode"))
