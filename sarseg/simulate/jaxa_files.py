"""Tiles of JAXA's 25 m mosaic and forest map as files: raw with ENVI headers until 2016, GeoTIFFs from 2017 on."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from sarseg.product.folder import make_parent
from sarseg.simulate.options import Direction
from sarseg.simulate.xmltext import Node, document
from sarseg.tiles import Window

CALIBRATION_DB = -83.0
_LAUNCH = {"ALOS": "2006-01-24", "ALOS-2": "2014-05-24"}
_DAY, _FIRST_UTC, _LAST_UTC = "06-15", "10:44:12.406", "10:44:26.423"
_NAMES = {"HH": "sl_HH", "HV": "sl_HV", "linci": "linci", "date": "date", "mask": "mask"}
"""Names of the layers in those of the files."""
_TYPES = {"HH": "<u2", "HV": "<u2", "linci": "u1", "date": "<u2", "mask": "u1", "fnf": "u1"}
_FNF_HEADER = {
    "classes": "4",
    "class lookup": "{0,0,0,0,100,0,255,255,153,0,0,255}",
    "class names": "{NoData,Forest,Non-Forest,Water}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One tile: its top left corner in whole degrees, year and pass, its rows and columns, the pixel size."""

    lon: int
    lat: int
    year: int
    direction: Direction
    shape: tuple[int, int]
    step_deg: float

    @property
    def satellite(self) -> str:
        """Whose mosaic it is."""
        return "ALOS" if self.year <= 2010 else "ALOS-2"

    @property
    def as_tiff(self) -> bool:
        """GeoTIFFs with metadata in XML, else raw files with ENVI headers."""
        return self.year >= 2017

    @property
    def base(self) -> str:
        """Beginning of all names: N49E011_20."""
        north, east = "N" if self.lat >= 0 else "S", "E" if self.lon >= 0 else "W"
        return f"{north}{abs(self.lat):02d}{east}{abs(self.lon):03d}_{self.year % 100:02d}"

    @property
    def mode(self) -> str:
        """End of all names: mode, beam, pass and look; ALOS's have none."""
        return "" if self.satellite == "ALOS" else f"_F02D{self.direction[0].upper()}R"

    @property
    def nodata(self) -> int:
        """Of all layers but the mask and the forest map, which have 0."""
        return 1 if self.as_tiff else 0

    @property
    def days(self) -> int:
        """Day of the acquisition, counted from the launch."""
        return int((np.datetime64(f"{self.year}-{_DAY}") - np.datetime64(_LAUNCH[self.satellite])).astype(int))

    @property
    def fnf_classes(self) -> int:
        """Classes of the forest map."""
        return 4 if self.as_tiff else 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The pixels of a tile, each (rows, cols): HH, HV, linci, date, mask and fnf."""

    planes: Mapping[str, NDArray[np.uint16] | NDArray[np.uint8]]

    @classmethod
    def empty(cls, tile: Tile) -> Layers:
        """No data everywhere."""
        nothing = {name: 0 if name in ("mask", "fnf") else tile.nodata for name in _TYPES}
        return cls(planes={name: np.full(tile.shape, nothing[name], kind) for name, kind in _TYPES.items()})

    @property
    def fnf(self) -> NDArray[np.uint8]:
        """The forest map."""
        return self.planes["fnf"].astype(np.uint8)

    def put(self, name: str, window: Window, there: NDArray[np.bool_], values: NDArray[np.generic]) -> None:
        """Set a layer where `there` says so; all (rows, cols) of the window."""
        plane = self.planes[name][window.slices]
        plane[there] = values[there].astype(plane.dtype)


def write_mosaic(out: Path, tile: Tile, layers: Layers, *, packed: bool) -> Path:
    """Write the tile's archive, or its folder, into `out`; an older one is replaced."""
    files: dict[str, bytes] = {}
    for name, label in _NAMES.items():
        nodata = 0 if name == "mask" else tile.nodata
        files |= _raster(f"{tile.base}_{label}{tile.mode}", tile, layers.planes[name], nodata=nodata, packed=name != "mask")
    if tile.as_tiff:
        files[f"{tile.base}{tile.mode}.xml"] = _metadata(tile, list(files)).encode()
    return _publish(out, f"{tile.base}_MOS{tile.mode}", files, packed=packed)


def write_fnf(out: Path, tile: Tile, fnf: NDArray[np.uint8], *, packed: bool) -> Path:
    """Write the forest map's archive, or its folder, into `out`; an older one is replaced.

    With three classes the header names them; with four the file says nothing of them but its year.
    """
    more = _FNF_HEADER if tile.fnf_classes == 3 else {}
    files = _raster(f"{tile.base}_C{tile.mode}", tile, fnf, nodata=0, more=more)
    return _publish(out, f"{tile.base}_FNF{tile.mode}", files, packed=packed)


def _raster(
    name: str, tile: Tile, values: NDArray[np.generic], *, nodata: int, packed: bool = True, more: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """The files of one layer by name. `packed` compresses a GeoTIFF; `more` goes into an ENVI header."""
    if tile.as_tiff:
        return {f"{name}.tif": _geotiff(tile, values, nodata, packed=packed)}
    return {name: values.tobytes(), f"{name}.hdr": _envi(tile, values, more or {}).encode()}


def _geotiff(tile: Tile, values: NDArray[np.generic], nodata: int, *, packed: bool) -> bytes:
    """One line a strip, as JAXA's."""
    from rasterio.io import MemoryFile

    profile = {"driver": "GTiff", "height": tile.shape[0], "width": tile.shape[1], "count": 1, "dtype": values.dtype.name}
    place = Affine(tile.step_deg, 0.0, tile.lon, 0.0, -tile.step_deg, tile.lat)
    more = {"compress": "lzw"} if packed else {}
    with MemoryFile() as memory:
        with memory.open(**profile, **more, crs="EPSG:4326", transform=place, nodata=nodata, blockysize=1) as file:
            file.write(values, 1)
        return bytes(memory.read())


def _envi(tile: Tile, values: NDArray[np.generic], more: Mapping[str, str]) -> str:
    """The corner is in seconds of arc."""
    step = f"{tile.step_deg * 3600.0:.10e}"
    corner = f"{tile.lon * 3600:.8f}, {tile.lat * 3600:.8f}"
    lines = {
        "samples": str(tile.shape[1]),
        "lines": str(tile.shape[0]),
        "bands": "1",
        "header offset": "0",
        "file type": "ENVI Standard",
        "data type": "1" if values.dtype.itemsize == 1 else "12",
        "interleave": "bsq",
        "sensor type": "Unknown",
        **more,
        "byte order": "0",
        "map info": f"{{Geographic Lat/Lon, 1.0000, 1.0000, {corner}, {step}, {step}, WGS-84, units=Seconds}}",
    }
    return "".join(["ENVI\n", *(f"{key} = {value}\n" for key, value in lines.items())])


def _metadata(tile: Tile, names: list[str]) -> str:
    """The XML beside the GeoTIFFs."""
    of_layer = {layer: next(name for name in names if f"_{label}_" in name) for layer, label in _NAMES.items()}
    top, left = tile.lat, tile.lon
    day = f"{tile.year}-{_DAY}"
    codes: list[Node] = [(name, code) for name, code in (("ValidData", "255"), ("NoData", "0"), ("Layover", "100"), ("Shadow", "150"))]
    pixels: list[Node] = [("DataFormat", "GeoTiff"), ("DataType", "UINT")]
    general: list[Node] = [
        ("Product", "Normalised Radar Backscatter"),
        ("DocumentIdentifier", "CARD4L-NRB v5.0"),
        (
            "SourceAttributes",
            [
                ("Satellite", tile.satellite),
                ("Instrument", "PALSAR-2"),
                ("SourceDataAcquisitionTime", [("UTCStartTime", f"{day}T{_FIRST_UTC}Z"), ("UTCEndTime", f"{day}T{_LAST_UTC}Z")]),
                ("AcquisitionParameters", [("RadarBand", "L"), ("Polarizations", "HH+HV"), ("AntennaPointing", "Right")]),
                ("OrbitInformation", [("PassDirection", tile.direction.capitalize())]),
            ],
            {"acqID": "1"},
        ),
        ("GeographicalBoundingBox", [("Latitude", str(top)), ("Longitude", str(left))], {"Corner": "UL"}),
        ("ProductImageSize", [("NumberLines", str(tile.shape[0])), ("NumPixelsPerLine", str(tile.shape[1]))]),
    ]
    layers: list[Node] = [
        ("DataMask", [("FileName", of_layer["mask"]), *pixels, ("BitValues", [*codes, ("OceanWater", "50")])]),
        ("LocalIncAngle", [("FileName", of_layer["linci"]), *pixels]),
        ("AcquisitionDate", [("FileName", of_layer["date"]), *pixels, ("ZeroReferenceDate", _LAUNCH[tile.satellite])]),
    ]
    data: list[Node] = [("Polarization", [("FileName", of_layer[pol]), *pixels], {"pol": pol}) for pol in ("HH", "HV")]
    measured: list[Node] = [
        ("BackscatterMeasurementData", [("BackscatterMeasurement", "Gamma-0"), ("BackscatterConvention", "Amplitude"), *data]),
        ("BackscatterConversionEq", f"10 * log10(DN^2) - {-CALIBRATION_DB:.1f}", {"Units": "dB"}),
        ("NoiseRemoval", "N"),
    ]
    parts: list[Node] = [
        ("GeneralMetadata", general),
        ("PerPixelMetadata", layers),
        ("RadiometricTerrainCorrectedMeasurements", measured),
    ]
    return document(("Metadata", parts))


def _publish(out: Path, name: str, files: Mapping[str, bytes], *, packed: bool) -> Path:
    """A tar.gz whose files lie at its root, or a folder; it has its name only when it is complete."""
    final = out / (f"{name}.tar.gz" if packed else name)
    part = out / f".partial-{os.getpid()}-{final.name}"
    make_parent(part)
    try:
        if packed:
            _pack(part, files)
        else:
            part.mkdir()
            for file, content in files.items():
                (part / file).write_bytes(content)
            if final.exists():
                shutil.rmtree(final)
        part.replace(final)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
    return final


def _pack(path: Path, files: Mapping[str, bytes]) -> None:
    """Without times, so that the same tile is the same bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=5, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
