"""manifest.safe: written for scenes of our own, brought up to date for templates."""

from __future__ import annotations

import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path

from sarseg.simulate.annotation import parse
from sarseg.simulate.plan import ScenePlan
from sarseg.simulate.xmltext import Node, document

_SPACES = {
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "xmlns:gml": "http://www.opengis.net/gml",
    "xmlns:xfdu": "urn:ccsds:schema:xfdu:1",
    "xmlns:safe": "http://www.esa.int/safe/sentinel-1.0",
    "xmlns:s1": "http://www.esa.int/safe/sentinel-1.0/sentinel-1",
    "xmlns:s1sar": "http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar",
    "xmlns:s1sarl1": "http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1",
    "xmlns:s1sarl2": "http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-2",
    "xmlns:gx": "http://www.google.com/kml/ext/2.2",
}
_IPF = "003.40"
_SCHEMAS = {
    "product": "s1Level1ProductSchema",
    "calibration": "s1Level1CalibrationSchema",
    "noise": "s1Level1NoiseSchema",
    "measurement": "s1Level1MeasurementSchema",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of the product: its kind (a key of the schema table), its place relative to the product folder."""

    kind: str
    place: str

    @property
    def identity(self) -> str:
        """Its ID: the name without dashes, with the kind before, as ESA writes it."""
        stem = Path(self.place).stem.replace("calibration-", "").replace("noise-", "").replace("-", "")
        return stem if self.kind == "measurement" else self.kind + stem


def md5(path: Path) -> str:
    """MD5 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def manifest_file(plan: ScenePlan, folder: Path, files: list[DataFile], footprint: list[tuple[float, float]]) -> str:
    """The manifest of a product folder whose files lie there; `footprint` holds (lat, lon) corners."""
    return document(
        (
            "xfdu:XFDU",
            [_package_map(files), _metadata(plan, files, footprint), ("dataObjectSection", [_data_object(folder, one) for one in files])],
            {**_SPACES, "version": "esa/safe/sentinel-1.0/sentinel-1/sar/level-1/grd/standard/iwdp"},
        )
    )


def _package_map(files: list[DataFile]) -> Node:
    units: list[Node] = []
    for one in files:
        kind = "Measurement Data Unit" if one.kind == "measurement" else "Metadata Unit"
        pointer: Node = ("dataObjectPointer", "", {"dataObjectID": one.identity})
        marks = {"unitType": kind, "repID": _SCHEMAS[one.kind]}
        if one.kind == "measurement":  # readers find a band's annotation through these
            marks["dmdID"] = " ".join(f"{name}{one.identity}Annotation" for name in ("product", "noise", "calibration"))
        units.append(("xfdu:contentUnit", [pointer], marks))
    package = {
        "unitType": "SAFE Archive Information Package",
        "textInfo": "Sentinel-1 IW Level-1 GRD Product",
        "dmdID": "acquisitionPeriod platform generalProductInformation measurementOrbitReference measurementFrameSet",
        "pdiID": "processing",
    }
    return "informationPackageMap", [("xfdu:contentUnit", units, package)]


def _wrap(name: str, title: str, content: Node, category: tuple[str, str] = ("DESCRIPTION", "DMD")) -> Node:
    wrapped: Node = ("metadataWrap", [("xmlData", [content])], {"mimeType": "text/xml", "vocabularyName": "SAFE", "textInfo": title})
    return "metadataObject", [wrapped], {"ID": name, "classification": category[0], "category": category[1]}


def _metadata(plan: ScenePlan, files: list[DataFile], footprint: list[tuple[float, float]]) -> Node:
    pointers: list[Node] = [
        (
            "metadataObject",
            [("dataObjectPointer", "", {"dataObjectID": one.identity})],
            {"ID": f"{one.identity}Annotation", "classification": "DESCRIPTION", "category": "DMD"},
        )
        for one in files
        if one.kind != "measurement"
    ]
    software: Node = ("safe:software", "", {"name": "Sentinel-1 IPF", "version": _IPF})
    simulator: Node = ("safe:resource", "", {"name": "sarseg simulate", "role": "Simulated landscape"})
    facility: Node = ("safe:facility", [software], {"country": "", "name": "sarseg", "organisation": "simulated", "site": ""})
    stop = plan.utc(plan.last_s)
    processing: Node = ("safe:processing", [facility, simulator], {"name": "GRD Post Processing", "start": stop, "stop": stop})
    objects: list[Node] = [
        *pointers,
        _wrap("processing", "Processing", processing, ("PROVENANCE", "PDI")),
        _wrap("platform", "Platform Description", _platform()),
        _wrap("measurementOrbitReference", "Orbit Reference", _orbit(plan)),
        _wrap("generalProductInformation", "General Product Information", _general(plan)),
        _wrap("acquisitionPeriod", "Acquisition Period", _period(plan)),
        _wrap("measurementFrameSet", "Frame Set", _frame(footprint)),
    ]
    return "metadataSection", objects


def _platform() -> Node:
    mode: Node = ("s1sarl1:instrumentMode", [("s1sarl1:mode", "IW"), ("s1sarl1:swath", "IW")])
    instrument: list[Node] = [
        ("safe:familyName", "Synthetic Aperture Radar", {"abbreviation": "SAR"}),
        ("safe:extension", [mode]),
    ]
    parts: list[Node] = [
        ("safe:nssdcIdentifier", "2014-016A"),
        ("safe:familyName", "SENTINEL-1"),
        ("safe:number", "A"),
        ("safe:instrument", instrument),
    ]
    return "safe:platform", parts


def _orbit(plan: ScenePlan) -> Node:
    numbers: list[Node] = []
    for name, value in (("orbitNumber", plan.absolute_orbit), ("relativeOrbitNumber", plan.relative_orbit)):
        numbers += [(f"safe:{name}", str(value), {"type": end}) for end in ("start", "stop")]
    properties: Node = (
        "s1:orbitProperties",
        [("s1:pass", plan.direction.upper()), ("s1:ascendingNodeTime", str(plan.node_utc))],
    )
    return (
        "safe:orbitReference",
        [
            *numbers,
            ("safe:cycleNumber", str((plan.absolute_orbit - 73) // 175 + 8)),
            ("safe:phaseIdentifier", "1"),
            ("safe:extension", [properties]),
        ],
    )


def _general(plan: ScenePlan) -> Node:
    pols: list[Node] = [("s1sarl1:transmitterReceiverPolarisation", pol) for pol in plan.polarisations]
    return (
        "s1sarl1:standAloneProductInformation",
        [
            ("s1sarl1:instrumentConfigurationID", "6"),
            ("s1sarl1:missionDataTakeID", str(plan.data_take)),
            *pols,
            ("s1sarl1:productClass", "S"),
            ("s1sarl1:productClassDescription", "SAR Standard L1 Product"),
            ("s1sarl1:productComposition", "Individual"),
            ("s1sarl1:productType", "GRD"),
            ("s1sarl1:productTimelinessCategory", "Fast-24h"),
            ("s1sarl1:sliceProductFlag", "false"),
            ("s1sarl1:segmentStartTime", plan.utc(0.0)),
        ],
    )


def _period(plan: ScenePlan) -> Node:
    first_ms = float((plan.geometry.track.epoch_utc - plan.node_utc).astype("int64")) * 1e-3
    anx: list[Node] = [("s1:startTimeANX", f"{first_ms:.6e}"), ("s1:stopTimeANX", f"{first_ms + plan.last_s * 1e3:.6e}")]
    parts: list[Node] = [
        ("safe:startTime", plan.utc(0.0)),
        ("safe:stopTime", plan.utc(plan.last_s)),
        ("safe:extension", [("s1:timeANX", anx)]),
    ]
    return "safe:acquisitionPeriod", parts


def _frame(footprint: list[tuple[float, float]]) -> Node:
    corners = " ".join(f"{lat_deg:.6f},{lon_deg:.6f}" for lat_deg, lon_deg in footprint)
    shape: Node = (
        "safe:footPrint",
        [("gml:coordinates", corners)],
        {"srsName": "http://www.opengis.net/gml/srs/epsg.xml#4326"},
    )
    return "safe:frameSet", [("safe:frame", [shape])]


def _data_object(folder: Path, one: DataFile) -> Node:
    path = folder / one.place
    mime = "application/octet-stream" if one.kind == "measurement" else "text/xml"
    stream: list[Node] = [
        ("fileLocation", "", {"locatorType": "URL", "href": f"./{one.place}"}),
        ("checksum", md5(path), {"checksumName": "MD5"}),
    ]
    return (
        "dataObject",
        [("byteStream", stream, {"mimeType": mime, "size": str(path.stat().st_size)})],
        {"ID": one.identity, "repID": _SCHEMAS[one.kind]},
    )


def refresh(manifest: Path, polarisations: tuple[str, ...]) -> None:
    """Make a copied manifest true: its polarisations, sizes and checksums of the files that are there; the absent go out."""
    from lxml import etree  # type: ignore[import-untyped]

    root = parse(manifest)
    gone = set()
    for one in root.findall("dataObjectSection/dataObject"):
        stream = one.find("byteStream")
        place = manifest.parent / one.find("byteStream/fileLocation").get("href")
        if not place.is_file():
            gone.add(one.get("ID"))
            one.getparent().remove(one)
            continue
        stream.set("size", str(place.stat().st_size))
        one.find("byteStream/checksum").text = md5(place)
    for pointer in root.findall(".//dataObjectPointer"):
        if pointer.get("dataObjectID") in gone:
            unit = pointer.getparent()
            unit.getparent().remove(unit)
    for one in root.findall(".//{*}transmitterReceiverPolarisation"):
        if one.text not in polarisations:
            one.getparent().remove(one)
    manifest.write_bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))


def crc16(text: str) -> str:
    """Four hexadecimal digits of a text, CRC-16 with polynomial 0x1021: the end of a product's name."""
    return f"{binascii.crc_hqx(text.encode(), 0xFFFF):04X}"
