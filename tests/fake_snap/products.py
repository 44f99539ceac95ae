"""Products of the fake SNAP: what a node makes of its source's bands, and files as SNAP writes them, at full size first."""

from __future__ import annotations

import array
import math
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from fake_snap.graph import GRAPH, OPERATOR, Graph, Node, SnapError, band_error, node_error

S1_ROME = (16705, 26102)
ENDINGS = {"BEAM-DIMAP": ".dim", "GeoTIFF": ".tif", "GeoTIFF-BigTIFF": ".tif", "ENVI": ".hdr"}
BUILT_IN_DEMS = ("Copernicus 30m Global DEM", "Copernicus 90m Global DEM", "SRTM 3Sec", "SRTM 1Sec HGT", "ACE2_5Min", "GETASSE30")


@dataclass(frozen=True)
class Bands:
    """What is known of a product: units by name, and its size."""

    units: dict[str, str]
    shape: tuple[int, int]
    on_map: bool = False


def read_input(node: Node) -> Bands:
    given = node.parameters.get("file", "")
    path = Path(given)
    if not path.exists():
        raise node_error(node, (OPERATOR, f"Specified 'file' [{path.absolute()}] does not exist."))
    if path.name == "manifest.safe" or path.suffix == ".SAFE":
        return _safe(path if path.is_dir() else path.parent)
    if path.suffix == ".dim":
        text = path.read_text(encoding="latin-1")
        names = re.findall(r"<BAND_NAME>([^<]+)</BAND_NAME>", text)
        size = re.search(r"<NCOLS>(\d+)</NCOLS>\s*<NROWS>(\d+)</NROWS>", text)
        if names and size:
            units = re.findall(r"<PHYSICAL_UNIT>([^<]*)</PHYSICAL_UNIT>", text) or [""] * len(names)
            return Bands(dict(zip(names, units, strict=False)), (int(size[2]), int(size[1])))
    if path.name.startswith(("VOL-", "IMG-", "LED-")):
        pols = sorted({one.name.split("-")[1] for one in path.parent.glob("IMG-*")})
        return Bands({f"Amplitude_{pol}": "amplitude" for pol in pols}, (400, 500))
    message = f"No product reader found for file '{path.absolute()}'."
    raise node_error(node, (OPERATOR, message), (OPERATOR, message))


def _safe(folder: Path) -> Bands:
    """Bands of several swaths have their names after Deburst from the start; those of a single one (IW2) keep the swath for good."""
    files = sorted(folder.glob("annotation/*.xml"))
    swaths = {one.name.split("-")[1].upper() for one in files}
    swath = f"{swaths.pop()}_" if len(swaths) == 1 and "-slc-" in files[0].name else ""
    pols = sorted({one.name.split("-")[3].upper() for one in files}) or ["VV"]
    shape = S1_ROME
    if files:
        text = files[0].read_text(encoding="utf-8", errors="replace")
        lines, samples = (re.search(rf"<{name}>(\d+)</{name}>", text) for name in ("numberOfLines", "numberOfSamples"))
        if lines and samples:
            shape = (int(lines[1]), int(samples[1]))
    return Bands({f"Amplitude_{swath}{pol}": "amplitude" for pol in pols}, shape)


def initialise(node: Node, source: Bands | None, graph: Graph) -> Bands:
    """The product of a node, before any pixel."""
    given = node.parameters
    if node.operator == "Read":
        return read_input(node)
    assert source is not None
    units = dict(source.units)
    if given.get("sourceBands"):
        wanted = [name.strip() for name in given["sourceBands"].split(",")]
        for name in wanted:
            if name not in units:
                raise band_error(node, name)
        units = {name: units[name] for name in wanted}
    if given.get("selectedPolarisations"):  # one that is not there is left out without a word
        wanted = [name.strip() for name in given["selectedPolarisations"].split(",")]
        units = {name: unit for name, unit in units.items() if name.rpartition("_")[2] in wanted}
    if node.operator == "Calibration":
        units = _calibrated(units, given)
    elif node.operator == "BandMaths":
        units = _computed(node)
    elif node.operator == "Apply-Orbit-File":
        _orbit(node, graph)
    elif node.operator == "Subset" and given.get("region"):
        return replace(source, units=units, shape=_region(given["region"], source.shape))
    elif node.operator == "Write":
        name = graph_format(node)
        if name not in ENDINGS:
            raise node_error(node, (OPERATOR, f"No data product writer for the '{name}' format available"))
    elif node.operator in ("Terrain-Correction", "Terrain-Flattening") and source.on_map:
        message = "Source product should not be map projected."
        raise node_error(node, (OPERATOR, message), stdout=f"{message}\n")
    elif node.operator == "Terrain-Flattening":
        units = {f"Gamma0{name.removeprefix('Beta0')}": unit for name, unit in units.items() if name.startswith("Beta0")} or units
    return replace(source, units=units, on_map=source.on_map or node.operator == "Terrain-Correction")


def graph_format(node: Node) -> str:
    return node.parameters.get("formatName") or "BEAM-DIMAP"


def _calibrated(units: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    pols = dict.fromkeys(name.partition("_")[2] for name in units)
    wanted = [("Sigma0", "outputSigmaBand", "true"), ("Gamma0", "outputGammaBand", "false"), ("Beta0", "outputBetaBand", "false")]
    names = [name for name, element, default in wanted if given.get(element, default).lower() == "true"]
    return {f"{name}_{pol}": "intensity" for pol in pols for name in names}


def _computed(node: Node) -> dict[str, str]:
    found = node.element.findall("targetBands/targetBand") if node.element is not None else []
    return {(one.findtext("name") or "").strip(): (one.findtext("unit") or "").strip() for one in found}


def _region(text: str, shape: tuple[int, int]) -> tuple[int, int]:
    x, y, width, height = (int(part) for part in text.split(","))
    right, bottom = min(x + width, shape[1]), min(y + height, shape[0])
    if right <= x or bottom <= y:
        message = f"The pixel region 'java.awt.Rectangle[x={x},y={y},width={right - x},height={bottom - y}]' is invalid."
        raise SnapError(("java.lang.IllegalArgumentException", message), runtime=True)
    return bottom - y, right - x


def _orbit(node: Node, graph: Graph) -> None:
    home = graph.userdir or Path("/home/u/.snap")
    found = list((home / "auxdata" / "Orbits").rglob("*.EOF*")) if graph.userdir else []
    if found:
        return
    folder = "Orbits/Sentinel-1/POEORB/S1B/2021/12"
    message = (
        "No valid orbit file found for 23-DEC-2021 05:10:21.029300\nOrbit files may be downloaded from Copernicus Dataspaces \n"
        f"and placed in {home}/auxdata/{folder}"
    )
    scraper = "WARNING: eu.esa.sar.orbits.io.sentinel1.OrbitFileScraper: Unable to connect to http://step.esa.int/auxdata/orbits/Sentinel-1"
    tried = [f"{scraper}/{kind}/S1B/{month}/: step.esa.int\n" for kind in ("POEORB", "RESORB") for month in ("2021/12", "2022/01")]
    tried.insert(2, f"WARNING: eu.esa.sar.orbits.gpf.ApplyOrbitFileOp: {message}\n")
    sys.stderr.write("".join(tried))
    if node.parameters.get("continueOnFail", "false").lower() != "true":
        error = node_error(node, (OPERATOR, message), ("java.io.IOException", message), stdout=f"{message}\n")
        if graph.version[0] >= 14:
            error = SnapError((OPERATOR, message), ("java.io.IOException", message), stdout=f"18%{message}\n36%90%", runtime=True)
        raise error


def check_dem(node: Node) -> str:
    """What the first tile of a correction runs into; "" when there are heights, else the WARNING."""
    given = node.parameters
    name = given.get("demName", "Copernicus 30m Global DEM")
    if name == "External DEM":
        file = Path(given.get("externalDEMFile", ""))
        if not file.exists():
            message = f"The product path '{file.absolute()}' does not exist."
            chain = [(OPERATOR, message)] * 3 + [("java.io.FileNotFoundException", message)]
            raise SnapError(*chain, stdout=f"{message}\n" * 2, runtime=True)
        return ""
    if name not in BUILT_IN_DEMS:
        message = f"The DEM '{name}' is not supported."
        raise SnapError(*[(OPERATOR, message)] * 3, ("java.io.IOException", message), stdout=f"{message}\n", runtime=True)
    return "WARNING: eu.esa.sar.sar.gpf.geometric.RangeDopplerGeocodingOp: TC error: no valid output was produced. Please verify the DEM\n"


def check_beta0(bands: Bands) -> None:
    if not any(name.startswith(("Beta0", "C11", "T11")) for name in bands.units):
        message = "TerrainFlattening requires beta0 or T3, C3, C2 as input"
        raise SnapError(*[(OPERATOR, message)] * 3, stdout=f"{message}\n", runtime=True)


def target(node: Node) -> Path:
    """The file of a Write node: the format's ending is added, whatever the name ends in."""
    given, ending = node.parameters["file"], ENDINGS[graph_format(node)]
    return Path(given if given.endswith(ending) else given + ending)


def create_folder(path: Path) -> None:
    """The data folder, before any pixel."""
    folder = path.with_suffix(".data") if path.suffix == ".dim" else path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        cause = f"failed to create data output directory: {folder}"
        raise SnapError((OPERATOR, f"Not able to write product file: '{path}'"), ("java.io.IOException", cause), runtime=True) from None


def allocate(path: Path, bands: Bands) -> None:
    """All files at their full size, zeros."""
    create_folder(path)
    rows, cols = bands.shape
    if path.suffix != ".dim":
        path.write_bytes(bytes(4 * rows * cols * len(bands.units)))
        return
    for name in bands.units:
        (path.with_suffix(".data") / f"{name}.img").write_bytes(bytes(4 * rows * cols))


def write_small(path: Path, bands: Bands, value: float) -> None:
    """A small product in radar geometry: backscatter around `value`, a tenth of it 0."""
    allocate(path, bands)
    rows, cols = bands.shape
    pixels = array.array("f", (0.0 if at % 10 == 0 else value * (1 + 0.5 * math.sin(at)) for at in range(rows * cols)))
    if path.suffix != ".dim":
        _write_tiff(path, bands, pixels)
        return
    if sys.byteorder == "little":
        pixels.byteswap()
    folder = path.with_suffix(".data")
    for name in bands.units:
        (folder / f"{name}.img").write_bytes(pixels.tobytes())
        (folder / f"{name}.hdr").write_text(
            f"ENVI\ndescription = {{{name}}}\nsamples = {cols}\nlines = {rows}\nbands = 1\nheader offset = 0\nfile type = ENVI Standard\n"
            f"data type = 4\ninterleave = bsq\nbyte order = 1\nband names = {{ {name} }}\n"
        )
    path.write_text(_header(path, bands), encoding="latin-1")


def _write_tiff(path: Path, bands: Bands, pixels: array.array[float]) -> None:
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    path.unlink()
    values = np.asarray(pixels, np.float32).reshape(bands.shape)
    profile = {"driver": "GTiff", "height": bands.shape[0], "width": bands.shape[1], "count": len(bands.units), "dtype": "float32"}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=from_origin(290000, 4650000, 10, 10), **profile) as file:
        for number, name in enumerate(bands.units, 1):
            file.write(values, number)
            file.set_band_description(number, name)


def _header(path: Path, bands: Bands) -> str:
    rows, cols = bands.shape
    files = "".join(
        f'<Data_File><DATA_FILE_PATH href="{path.stem}.data/{name}.hdr" /><BAND_INDEX>{at}</BAND_INDEX></Data_File>'
        for at, name in enumerate(bands.units)
    )
    infos = "".join(
        f"<Spectral_Band_Info><BAND_INDEX>{at}</BAND_INDEX><BAND_NAME>{name}</BAND_NAME><BAND_RASTER_WIDTH>{cols}</BAND_RASTER_WIDTH>"
        f"<BAND_RASTER_HEIGHT>{rows}</BAND_RASTER_HEIGHT><DATA_TYPE>float32</DATA_TYPE><PHYSICAL_UNIT>{unit}</PHYSICAL_UNIT>"
        "<LOG10_SCALED>false</LOG10_SCALED><NO_DATA_VALUE_USED>true</NO_DATA_VALUE_USED><NO_DATA_VALUE>0.0</NO_DATA_VALUE>"
        "</Spectral_Band_Info>"
        for at, (name, unit) in enumerate(bands.units.items())
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<Dimap_Document name="' + path.name + '"><Metadata_Id>'
        '<METADATA_FORMAT version="2.13.0">DIMAP</METADATA_FORMAT><METADATA_PROFILE>BEAM-DATAMODEL-V1</METADATA_PROFILE></Metadata_Id>'
        f"<Dataset_Id><DATASET_NAME>{path.stem}</DATASET_NAME></Dataset_Id>"
        f"<Raster_Dimensions><NCOLS>{cols}</NCOLS><NROWS>{rows}</NROWS><NBANDS>{len(bands.units)}</NBANDS></Raster_Dimensions>"
        f"<Data_Access>{files}</Data_Access><Image_Interpretation>{infos}</Image_Interpretation></Dimap_Document>\n"
    )


def remove(path: Path) -> None:
    """As Write does after a failure."""
    path.unlink(missing_ok=True)
    if path.suffix == ".dim":
        shutil.rmtree(path.with_suffix(".data"), ignore_errors=True)


__all__ = ["GRAPH", "Bands"]
