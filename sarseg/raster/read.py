"""Any raster that GDAL opens, as windows of float32 with NaN for nodata, or as integer codes."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as GdalWindow

from sarseg.errors import InputError, MissingError
from sarseg.grid import MapGrid
from sarseg.tiles import Window

_HANDLES_PER_THREAD = 32
_SAMPLE = 64  # pixels along a side
_FEATHERED = 0.2  # share of pixels: an outline may be half transparent, an image is not


class _Handles:
    """The open files of one thread by path and identity, the latest used last."""

    __slots__ = ("__weakref__", "files")

    def __init__(self) -> None:
        self.files: dict[tuple[str, tuple[int, int]], Any] = {}


_local = threading.local()
_all_handles: weakref.WeakSet[_Handles] = weakref.WeakSet()
_inherited: list[_Handles] = []  # of the parent process: never read, since the place in the file is shared, and never closed


def _before_fork() -> None:
    _inherited.extend(_all_handles)


def _in_parent() -> None:
    _inherited.clear()


def _in_child() -> None:
    global _local, _all_handles
    _local, _all_handles = threading.local(), weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


@dataclass(frozen=True)
class Raster:
    """A raster file: its grid, bands and tags, and windows of it.

    The file is opened once a thread and kept open; a forked process opens it anew, and the object can be pickled into others.
    """

    path: str
    grid: MapGrid
    bands: tuple[str, ...]
    numbers: tuple[int, ...]
    """GDAL's 1-based number of each band; an alpha band is a mask, and no band."""
    dtype: str
    nodata: float | None
    tags: dict[str, str] = field(hash=False)
    colormap: dict[int, tuple[int, int, int, int]] | None = field(hash=False)
    identity: tuple[int, int]
    """Size and time of change of the file (0, 0 where there is no plain file): a changed file is opened anew."""

    def read(self, window: Window | None = None, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Values as float32 (band, rows, cols): scale and offset applied, NaN where the file says nodata or masks, or is infinite.

        Parameters
        ----------
        window : inside the raster; the whole of it when None
        bands : names; all when None; InputError for a name that the file lacks
        """
        indexes = [self._index(name) for name in (self.bands if bands is None else bands)]
        with _dataset(self) as dataset:
            window = window or Window.whole(self.grid.shape)
            # float64 in between only where float32 cannot hold the stored integers
            wide = np.float64 if np.dtype(self.dtype).itemsize > 2 and np.dtype(self.dtype).kind in "iu" else np.float32
            data = dataset.read(indexes, window=_gdal(window), out_dtype=wide)
            for at, index in enumerate(indexes):
                flags = dataset.mask_flag_enums[index - 1]
                if MaskFlags.all_valid not in flags and not (MaskFlags.alpha in flags and len(self.numbers) == dataset.count):
                    data[at][_masked(dataset, index, window)] = np.nan
                scale, offset = dataset.scales[index - 1], dataset.offsets[index - 1]
                if (scale, offset) != (1.0, 0.0):
                    data[at] = data[at] * wide(scale) + wide(offset)
        values = np.asarray(data, np.float32)
        values[np.isinf(values)] = np.nan
        return values

    def read_codes(self, window: Window | None = None, band: int = 0) -> NDArray[Any]:
        """Integers as they are stored, (rows, cols), of the band with 0-based number `band`.

        InputError when the band holds no integers.
        """
        if np.dtype(self.dtype).kind not in "iub":
            raise InputError(f"a class raster holds integers, not {self.dtype}", self.path)
        with _dataset(self) as dataset:
            return np.asarray(dataset.read(band + 1, window=_gdal(window or Window.whole(self.grid.shape))))

    def _index(self, name: str) -> int:
        if name not in self.bands:
            raise InputError(f"no band '{name}'", self.path, f"bands are {', '.join(self.bands)}")
        return self.numbers[self.bands.index(name)]


def open_raster(path: str | Path) -> Raster:
    """Open a raster of any format that GDAL reads, also inside an archive (`/vsizip/...`).

    Bands are named by their descriptions, else b1, b2, ... InputError when the file is absent, damaged or no raster,
    MissingError when it may not be read.
    """
    text = str(path)
    if not text.startswith("/vsi") and not Path(text).exists():
        raise InputError("no such file", text)
    if not text.startswith("/vsi") and not os.access(text, os.R_OK):
        raise MissingError("no permission to read", text, "change the permissions")
    try:
        with _open(text) as dataset:
            numbers = _band_numbers(dataset)
            colormap = dataset.colormap(numbers[0]) if dataset.colorinterp[numbers[0] - 1] == ColorInterp.palette else None
            named = [dataset.descriptions[number - 1] for number in numbers]
            grid = MapGrid(crs=dataset.crs or None, transform=dataset.transform, shape=dataset.shape)
            tags = {**dataset.tags(), **(dataset.tags(numbers[0]) if len(numbers) == 1 else {})}
            return Raster(
                path=text,
                grid=grid,
                bands=_unique([name or f"b{at + 1}" for at, name in enumerate(named)]),
                numbers=numbers,
                dtype=dataset.dtypes[numbers[0] - 1],
                nodata=dataset.nodatavals[numbers[0] - 1],
                tags=tags,
                colormap=colormap,
                identity=_identity(text),
            )
    except (RasterioError, IndexError, ValueError) as error:
        raise InputError("cannot be read as a raster", text, str(error)) from error


@contextmanager
def _dataset(raster: Raster) -> Iterator[Any]:
    """This thread's open handle; GDAL's failures come out as InputError."""
    cache = _own_files()
    key = (raster.path, raster.identity)
    try:
        dataset = cache.pop(key, None)
        if dataset is None:
            while len(cache) >= _HANDLES_PER_THREAD:
                cache.pop(next(iter(cache))).close()
            dataset = _open(raster.path)
        cache[key] = dataset
        yield dataset
    except RasterioError as error:
        raise InputError("the raster is damaged or changed while it was read", raster.path, str(error.__cause__ or error)) from error


def close_handles() -> None:
    """Close the files that this thread holds open, so that they can be replaced or removed on every system."""
    cache = _own_files()
    while cache:
        cache.popitem()[1].close()


def _own_files() -> dict[tuple[str, tuple[int, int]], Any]:
    """The open files of this thread of this process."""
    found: _Handles | None = getattr(_local, "handles", None)
    if found is None:
        found = _local.handles = _Handles()
        _all_handles.add(found)
    return found.files


def _open(path: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if path.startswith("/vsi"):  # GDAL would leave a file of its own beside an archive of the user's
            with rasterio.Env(CPL_VSIL_GZIP_WRITE_PROPERTIES="NO"):
                return rasterio.open(path)
        return rasterio.open(path)


def _masked(dataset: Any, number: int, window: Window) -> NDArray[np.bool_]:
    if ColorInterp.alpha not in dataset.colorinterp:
        return np.asarray(dataset.read_masks(number, window=_gdal(window)) == 0)
    with warnings.catch_warnings(action="ignore", category=NodataShadowWarning):  # a nodata value goes before alpha
        return np.asarray(dataset.read_masks(number, window=_gdal(window)) == 0)


def _band_numbers(dataset: Any) -> tuple[int, ...]:
    """All bands but those that are transparency."""
    numbers = tuple(number for number, kind in zip(dataset.indexes, dataset.colorinterp, strict=True) if kind != ColorInterp.alpha)
    # whoever writes four bands of uint8 without further words gets a GeoTIFF whose fourth is called alpha, near infrared too
    unasked = (dataset.driver, dataset.count, numbers, dataset.dtypes[-1]) == ("GTiff", 4, (1, 2, 3), "uint8")
    return tuple(dataset.indexes) if unasked and _holds_values(dataset, 4) else numbers


def _holds_values(dataset: Any, number: int) -> bool:
    """Whether a uint8 band is more than transparent (0) and opaque (255), by nine windows of it."""
    side = [max(1, min(_SAMPLE, length)) for length in dataset.shape]
    starts = [sorted({(length - step) * part // 4 for part in (1, 2, 3)}) for length, step in zip(dataset.shape, side, strict=True)]
    read = [dataset.read(number, window=GdalWindow(col, row, side[1], side[0])).ravel() for row in starts[0] for col in starts[1]]
    seen = np.concatenate(read)
    seen = seen[seen > 0]
    return bool(np.mean(seen < 255) > _FEATHERED) if seen.size else False


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(name if names.count(name) == 1 else f"b{at + 1}" for at, name in enumerate(names))


def _identity(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _gdal(window: Window) -> GdalWindow:
    return GdalWindow(window.col, window.row, window.cols, window.rows)
