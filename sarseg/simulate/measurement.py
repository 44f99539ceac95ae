"""Measurement GeoTIFFs as ESA writes them: uint16, whole lines as strips, ground control points, no map projection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.windows import Window as GdalWindow

from sarseg.simulate.annotation import text
from sarseg.tiles import Window


def control_points(root: Any) -> list[GroundControlPoint]:
    """The geolocation grid of an annotation as ground control points, pixel and line as annotated."""
    points = root.findall("geolocationGrid/geolocationGridPointList/geolocationGridPoint")
    names = ("line", "pixel", "longitude", "latitude", "height")
    return [
        GroundControlPoint(*(float(text(one, name)) for name in names), id=str(number), info="")
        for number, one in enumerate(points, start=1)
    ]


class Measurement:
    """Takes the image block by block; lines never written stay sparse: they take no space and read as 0, no data."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def write(self, window: Window, dn: NDArray[np.uint16]) -> None:
        """Write uint16 (lines, pixels)."""
        self._dataset.write(dn, 1, window=GdalWindow(window.col, window.row, window.cols, window.rows))


@contextmanager
def create_measurement(path: Path, shape: tuple[int, int], points: list[GroundControlPoint]) -> Iterator[Measurement]:
    """Create the file of an image of (lines, pixels)."""
    profile = {
        "driver": "GTiff",
        "height": shape[0],
        "width": shape[1],
        "count": 1,
        "dtype": "uint16",
        "blockysize": 1,
        "sparse_ok": True,
        "bigtiff": "IF_SAFER",
        "photometric": "MINISBLACK",
        "gcps": points,
        "crs": CRS.from_epsg(4326),
    }
    with rasterio.open(path, "w", **profile) as dataset:
        yield Measurement(dataset)
