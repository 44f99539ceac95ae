"""The only writer of rasters: cloud-optimised GeoTIFFs, written in blocks, published in one step."""

from __future__ import annotations

import math
import os
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as GdalWindow

from sarseg.errors import MissingError
from sarseg.grid import MapGrid
from sarseg.tiles import BLOCK, Window

Compression = Literal["zstd", "deflate"]
_GDAL_CACHE_BYTES = 256 << 20  # rasterio hands the number to GDALSetCacheMax, which counts bytes
_FULL_BYTES = 32 << 20  # GDAL reports a full disk in many words; so little space left is the plain reason


@dataclass(frozen=True, slots=True, kw_only=True)
class CogSpec:
    """What a raster file holds beside its pixels.

    `overviews` says how the smaller versions are made: "average" of linear power or angles, "mode" of classes.
    """

    grid: MapGrid
    dtype: str
    bands: tuple[str, ...]
    nodata: float | None
    overviews: Literal["average", "mode"]
    tags: Mapping[str, str] = field(default_factory=dict)
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None
    compress: Compression = "zstd"

    def __post_init__(self) -> None:
        kind = np.dtype(self.dtype)
        if self.nodata is not None and kind.kind in "iu":
            limits = np.iinfo(kind)
            if not limits.min <= self.nodata <= limits.max:
                raise ValueError(f"nodata {self.nodata} does not fit {self.dtype}")


class CogWriter:
    """Takes blocks in any order from any thread; whoever writes waits for his turn, so nothing piles up."""

    def __init__(self, dataset: Any, spec: CogSpec) -> None:
        self._dataset = dataset
        self._lock = threading.Lock()
        self.spec = spec

    def write(self, window: Window, data: NDArray[Any]) -> None:
        """Write (bands, rows, cols), or (rows, cols) when there is one band, in the file's dtype."""
        block = data[np.newaxis] if data.ndim == 2 else data
        if block.shape != (len(self.spec.bands), *window.shape) or block.dtype != self.spec.dtype:
            raise ValueError(f"a block {block.shape} {block.dtype} does not fit {len(self.spec.bands)} bands of {window} {self.spec.dtype}")
        with self._lock:
            self._dataset.write(block, window=GdalWindow(window.col, window.row, window.cols, window.rows))


@contextmanager
def create_cog(path: Path, spec: CogSpec) -> Iterator[CogWriter]:
    """Write a COG block by block; it has its name only when it is complete, and nothing stays after an error.

    Pixels never written hold nodata (0 where there is none). Blocks go into an uncompressed temporary file beside
    `path`, whose space is checked first; each is compressed once, into the final file. Missing folders are made.
    MissingError when the disk is full or the folder cannot be written.
    """
    raw = path.with_name(f".partial-{os.getpid()}-{path.name}.raw")
    packed = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        with rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES), _said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = len(spec.bands) * math.prod(-(-side // BLOCK) * BLOCK for side in spec.grid.shape)  # whole blocks are stored
            check_space(path.parent, 2 * np.dtype(spec.dtype).itemsize * pixels)  # the uncompressed file and the final one
            with _create(raw, spec) as dataset:
                _describe(dataset, spec)
                yield CogWriter(dataset, spec)
            _pack(raw, packed, spec)
        packed.replace(path)
    finally:
        for leftover in (raw, packed, *(part.with_name(part.name + ".aux.xml") for part in (raw, packed))):
            leftover.unlink(missing_ok=True)


def check_space(folder: Path, size_bytes: int) -> None:
    """MissingError when the folder's disk has less than `size_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < size_bytes:
        raise MissingError(
            f"not enough disk space: {size_bytes / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free",
            folder,
            "free some, or write to another disk",
        )


def _create(raw: Path, spec: CogSpec) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(raw, "w", **_profile(spec))


def _profile(spec: CogSpec) -> dict[str, Any]:
    rows, cols = spec.grid.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": rows,
        "width": cols,
        "count": len(spec.bands),
        "dtype": spec.dtype,
        "nodata": spec.nodata,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "interleave": "band",
        "sparse_ok": True,
        "bigtiff": "IF_SAFER",
    }
    if spec.grid.crs is not None:
        profile["crs"] = spec.grid.crs
    if not spec.grid.transform.is_identity:
        profile["transform"] = spec.grid.transform
    return profile


def _describe(dataset: Any, spec: CogSpec) -> None:
    for number, name in enumerate(spec.bands, start=1):
        dataset.set_band_description(number, name)
    dataset.update_tags(AREA_OR_POINT="Area", **spec.tags)
    if spec.colormap is not None:
        dataset.write_colormap(1, dict(spec.colormap))


def _pack(raw: Path, packed: Path, spec: CogSpec) -> None:
    """Copy into the COG layout: overviews, one compression, ghost areas."""
    rasterio.shutil.copy(
        raw,
        packed,
        driver="COG",
        compress=spec.compress.upper(),
        level=1 if spec.compress == "zstd" else 6,
        predictor="FLOATING_POINT" if np.dtype(spec.dtype).kind == "f" else "STANDARD",
        blocksize=BLOCK,
        overview_resampling=spec.overviews.upper(),
        bigtiff="IF_SAFER",
        sparse_ok="YES",
        num_threads=str(min(4, os.cpu_count() or 1)),
        overview_compress=spec.compress.upper(),
    )


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """GDAL's and the system's failures to write, in one line."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        text = str(error.__cause__ or error)
        if "Permission denied" in text:
            raise MissingError("no permission to write", path, "choose a folder that you may write to") from error
        if "No space left" in text or shutil.disk_usage(path.parent).free < _FULL_BYTES:
            raise MissingError("the disk is full", path, "free some space, or write to another disk") from error
        raise MissingError("cannot be written", path, text) from error
