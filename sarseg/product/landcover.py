"""The folder of a land-cover map, as `predict` and `mosaic` write it: rasters, GDAL's category names, a QGIS style, a picture."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from sarseg.grid import MapGrid
from sarseg.legend import NODATA, Legend
from sarseg.product import folder as names
from sarseg.product.stac import CLASSIFICATION, Asset, asset, make_item
from sarseg.raster.cog import CogSpec, CogWriter, Compression, create_cog
from sarseg.raster.picture import classes_picture, save_picture, thumbnail_step
from sarseg.tiles import Window

COUNT = "count.tif"
CONFIDENCE_ONE = 255
"""Confidence 1 as it stands in `confidence.tif`; 0 there is nodata."""

_CONFIDENCE_TEXT = "1..255 = probability of the mapped class x 255, 0 = nodata"
_PROBABILITY_TEXT = "0..65535 = probability of the class x 65535; meaningless where landcover.tif is 0"
_COUNT_TEXT = "number of maps with a class at this pixel"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSpec:
    """What a map folder holds. `layers` are further rasters beside landcover.tif and confidence.tif: "probabilities", "count"."""

    id: str
    grid: MapGrid
    legend: Legend
    layers: frozenset[str] = frozenset()
    compress: Compression = "zstd"


class MapWriter:
    """Takes finished windows in any order from any thread."""

    def __init__(self, spec: MapSpec, files: Mapping[str, CogWriter]) -> None:
        self.spec = spec
        self._files = files
        self._lock = threading.Lock()
        self._step = thumbnail_step(spec.grid.shape)
        self._pixels = np.zeros(256, np.int64)
        self.thumbnail = np.zeros(tuple(-(-side // self._step) for side in spec.grid.shape), np.uint8)
        self.datetimes_utc: tuple[str, ...] = ()
        self.properties: dict[str, Any] = {}

    def write(self, window: Window, codes: NDArray[np.uint8], confidence: NDArray[np.uint8], **layers: NDArray[Any]) -> None:
        """Write class codes and confidence (rows, cols), and each further layer of the folder by name.

        `probabilities` are uint16 (class, rows, cols), `count` is uint8 (rows, cols). What is never written is nodata.
        """
        for name, data in {"landcover": codes, "confidence": confidence, **layers}.items():
            self._files[name].write(window, data)
        row, col = -window.row % self._step, -window.col % self._step
        small = codes[row :: self._step, col :: self._step]
        if small.size:
            at_row, at_col = (window.row + row) // self._step, (window.col + col) // self._step
            self.thumbnail[at_row : at_row + small.shape[0], at_col : at_col + small.shape[1]] = small
        counts = np.bincount(codes.ravel(), minlength=256)
        with self._lock:
            self._pixels += counts

    @property
    def mapped_pixels(self) -> int:
        """Pixels with a class so far."""
        return int(self._pixels.sum() - self._pixels[NODATA])

    def describe(self, *, datetimes_utc: Sequence[str], properties: Mapping[str, Any], warnings: Sequence[str]) -> None:
        """What the item says of the map: times of its sources (ISO 8601 with Z), further properties, what fell short."""
        self.datetimes_utc = tuple(sorted(datetimes_utc))
        self.properties = {**properties, "sarseg:warnings": list(warnings)}

    def pixels(self) -> dict[str, int]:
        """Pixels of each class by name, and of nodata."""
        legend = self.spec.legend
        shares = {name: int(self._pixels[code]) for name, code in zip(legend.names, legend.codes, strict=True)}
        rows, cols = self.spec.grid.shape
        return {**shares, "nodata": rows * cols - self.mapped_pixels}


@contextmanager
def create_map(folder: Path, spec: MapSpec) -> Iterator[MapWriter]:
    """Write a map folder window by window; it has its name only when its item is written, and nothing stays after an error."""
    with names.create_product(folder) as out:
        with ExitStack() as stack:
            files = {layer: stack.enter_context(create_cog(out.path / name, one)) for layer, (name, one) in _files(spec).items()}
            writer = MapWriter(spec, files)
            yield writer
        write_side_files(out.path / names.LANDCOVER, spec.legend)
        save_picture(classes_picture(writer.thumbnail, spec.legend), out.path / names.QUICKLOOK)
        out.finish(_item(writer))


def _files(spec: MapSpec) -> dict[str, tuple[str, CogSpec]]:
    """Name and content of each raster, by layer."""
    legend = spec.legend
    one_band = CogSpec(grid=spec.grid, dtype="uint8", bands=("landcover",), nodata=NODATA, overviews="mode", compress=spec.compress)
    files = {
        "landcover": (names.LANDCOVER, replace(one_band, tags=legend.tags(), colormap=legend.colormap())),
        "confidence": (names.CONFIDENCE, replace(one_band, bands=("confidence",), overviews="average", tags={"values": _CONFIDENCE_TEXT})),
    }
    if "count" in spec.layers:
        files["count"] = COUNT, replace(one_band, bands=("count",), overviews="average", tags={"values": _COUNT_TEXT})
    if "probabilities" in spec.layers:
        tags = {"values": _PROBABILITY_TEXT, **legend.tags()}
        wide = replace(one_band, dtype="uint16", bands=legend.names, nodata=None, overviews="average", tags=tags)
        files["probabilities"] = names.PROBABILITIES, wide
    return files


def write_side_files(landcover: Path, legend: Legend) -> None:
    """Beside a class raster: GDAL's category names (`.aux.xml`) and a QGIS style (`.qml`)."""
    landcover.with_name(landcover.name + ".aux.xml").write_text(category_xml(legend), encoding="utf-8")
    landcover.with_suffix(".qml").write_text(qgis_style(legend), encoding="utf-8")


def category_xml(legend: Legend) -> str:
    """GDAL's PAM file with one category name a code from 0 to the largest; a code without class has an empty name."""
    by_code = {NODATA: "nodata", **dict(zip(legend.codes, legend.names, strict=True))}
    lines = [f"      <Category>{escape(by_code.get(code, ''))}</Category>" for code in range(max(by_code) + 1)]
    inside = "\n".join(["    <CategoryNames>", *lines, "    </CategoryNames>"])
    return f'<PAMDataset>\n  <PAMRasterBand band="1">\n{inside}\n  </PAMRasterBand>\n</PAMDataset>\n'


def qgis_style(legend: Legend) -> str:
    """A QGIS layer style (.qml): one palette entry a class."""
    entries = [
        f'        <paletteEntry value="{one.code}" label={quoteattr(one.name)} color="#{bytes(one.color).hex()}" alpha="255"/>'
        for one in legend.classes
    ]
    return "\n".join(
        [
            "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>",
            '<qgis version="3.22" styleCategories="Symbology">',
            "  <pipe>",
            '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">',
            "      <colorPalette>",
            *entries,
            "      </colorPalette>",
            "    </rasterrenderer>",
            "  </pipe>",
            "</qgis>",
            "",
        ]
    )


def _item(writer: MapWriter) -> dict[str, Any]:
    spec, times = writer.spec, writer.datetimes_utc
    one_time = times[0] if len(set(times)) == 1 else None
    item = make_item(
        spec.id,
        spec.grid,
        datetime_utc=one_time,
        assets=_assets(spec),
        properties={**writer.properties, "sarseg:pixels": writer.pixels()},
        extensions=(CLASSIFICATION,),
    )
    if times and one_time is None:
        item["properties"] |= {"start_datetime": times[0], "end_datetime": times[-1]}
    return item


def _assets(spec: MapSpec) -> dict[str, Asset]:
    classes = [{"value": one.code, "name": one.name, "color_hint": bytes(one.color).hex().upper()} for one in spec.legend.classes]
    nodata = {"value": NODATA, "name": "nodata", "nodata": True}
    found = {
        "landcover": asset(names.LANDCOVER, "Land cover", "data", **{"classification:classes": [nodata, *classes]}),
        "confidence": asset(names.CONFIDENCE, f"Confidence: {_CONFIDENCE_TEXT}", "data"),
        "style": asset(names.STYLE, "QGIS style of landcover.tif", "metadata"),
        "quicklook": asset(names.QUICKLOOK, "Quicklook", "overview"),
    }
    if "probabilities" in spec.layers:
        found["probabilities"] = asset(names.PROBABILITIES, f"Probabilities: {_PROBABILITY_TEXT}", "data")
    if "count" in spec.layers:
        found["count"] = asset(COUNT, f"Count: {_COUNT_TEXT}", "data")
    return found
