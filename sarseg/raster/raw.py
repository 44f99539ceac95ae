"""A raw raster without a header of its own: one band, rows one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.tiles import Window


@dataclass(frozen=True)
class RawRaster:
    """One band in a plain file; reads as `sarseg.raster.read.Raster` does, infinities as NaN."""

    path: str
    grid: MapGrid
    bands: tuple[str, ...]
    dtype: str
    """numpy's, with the byte order: "<f4"."""

    def __post_init__(self) -> None:
        rows, cols = self.grid.shape
        try:
            size = Path(self.path).stat().st_size
        except OSError as error:
            raise InputError("cannot be read", self.path, str(error)) from error
        asked = rows * cols * np.dtype(self.dtype).itemsize
        if size != asked:
            raise InputError(f"the raw raster has {size} bytes where {rows} x {cols} pixels ask for {asked}", self.path, "copy it again")

    def read(self, window: Window | None = None, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Values as float32 (band, rows, cols)."""
        wrong = [name for name in bands or () if name not in self.bands]
        if wrong:
            raise InputError(f"no band '{wrong[0]}'", self.path, f"bands are {', '.join(self.bands)}")
        values = self._window(window).astype(np.float32)
        values[np.isinf(values)] = np.nan
        return np.repeat(values[np.newaxis], 1 if bands is None else len(bands), axis=0)

    def read_codes(self, window: Window | None = None, band: int = 0) -> NDArray[Any]:
        """Values as they are stored, (rows, cols)."""
        return np.asarray(self._window(window))

    def _window(self, window: Window | None) -> NDArray[Any]:
        window = window or Window.whole(self.grid.shape)
        try:
            return np.memmap(self.path, self.dtype, "r", shape=self.grid.shape)[window.slices]
        except (OSError, ValueError) as error:
            raise InputError("the raster is damaged or changed while it was read", self.path, str(error)) from error
