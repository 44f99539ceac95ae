"""Geoid undulations, read from the grid file by ourselves: PROJ adds a silent zero when a grid is missing.

Ellipsoidal height = height above the geoid + undulation.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sarseg.errors import InputError, MissingError
from sarseg.raster.read import Raster, open_raster

GeoidModel = Literal["egm96", "egm2008"]

GRID_FILES: dict[GeoidModel, tuple[str, ...]] = {
    "egm96": ("us_nga_egm96_15.tif", "egm96_15.gtx"),
    "egm2008": ("us_nga_egm08_25.tif", "egm08_25.gtx"),
}
"""Names of the grids in PROJ's data, new and old."""

_HIGHEST_M = 120.0  # undulations lie within -107..+86 m
_HINT = "give a grid of PROJ-data, such as us_nga_egm96_15.tif"

_EPSG_HEIGHT: dict[str, GeoidModel] = {"5773": "egm96", "3855": "egm2008"}


@dataclass(frozen=True)
class Geoid:
    """A grid of undulations in degrees; the values are read at the first use and kept."""

    raster: Raster
    model: GeoidModel | None
    """What the file says it is; None when it does not say."""
    _values: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __reduce__(self) -> tuple[object, ...]:
        return Geoid, (self.raster, self.model)

    def undulation_m(self, lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height of the geoid above the WGS 84 ellipsoid, float64 of the shape of `lon_deg`, bilinear; NaN off the grid.

        Longitudes may be any turn of the circle; a grid of the whole circle wraps, its poles end with the last row.
        """
        grid = self.raster.grid
        with self._lock:
            if "grid" not in self._values:
                values = self.raster.read()[0]
                if not np.all(np.abs(values[np.isfinite(values)]) <= _HIGHEST_M):
                    raise InputError("the geoid grid holds no undulations", self.raster.path, _HINT)
                self._values["grid"] = values
        values = self._values["grid"]
        turn = round(360.0 / grid.spacing[0])
        wraps = values.shape[1] >= turn
        first_lon = grid.transform.c + 0.5 * grid.transform.a
        lon = first_lon + np.mod(np.asarray(lon_deg, np.float64) - first_lon, 360.0)
        row, col = grid.pixel_of(lon, np.asarray(lat_deg, np.float64))
        if not wraps:  # a point just west of the first centre is not a turn away
            col = np.where(col > turn - 0.5, col - turn, col)
        out = np.empty(np.shape(lon_deg))
        _bilinear_on_sphere(values, row.ravel(), col.ravel(), turn if wraps else 0, out.reshape(-1))
        return out


@njit(nogil=True, cache=True)
def _bilinear_on_sphere(
    values: NDArray[np.float32], row: NDArray[np.float64], col: NDArray[np.float64], turn: int, out: NDArray[np.float64]
) -> None:
    """Values float32 (rows, cols) at row, col float64 (n,); columns repeat after `turn` of them (0: they do not)."""
    n_row, n_col = values.shape
    for k in range(row.size):
        r, c = row[k], col[k]
        out[k] = np.nan
        if not (-0.5 <= r <= n_row - 0.5) or np.isnan(c) or (turn == 0 and not (-0.5 <= c <= n_col - 0.5)):
            continue
        r = min(max(r, 0.0), n_row - 1.0)
        i0 = min(int(r), max(n_row - 2, 0))
        i1 = min(i0 + 1, n_row - 1)
        if turn == 0:
            c = min(max(c, 0.0), n_col - 1.0)
            j0 = min(int(c), max(n_col - 2, 0))
            j1 = min(j0 + 1, n_col - 1)
        else:
            j0 = int(np.floor(c))
            j1 = j0 + 1
        u, v = r - i0, c - j0
        if turn > 0:
            j0, j1 = j0 % turn, j1 % turn
        top = values[i0, j0] * (1.0 - v) + values[i0, j1] * v
        bottom = values[i1, j0] * (1.0 - v) + values[i1, j1] * v
        out[k] = top * (1.0 - u) + bottom * u


def open_geoid(model: GeoidModel, file: Path | None = None) -> Geoid:
    """The grid of a geoid model: `file` (a grid or a folder of grids), else from PROJ's data folders.

    MissingError when none is found, InputError when the file is no grid in degrees.
    """
    path = _in_folder(file, model) if file is not None and file.is_dir() else file
    if path is None and file is None:
        path = next((found for folder in proj_folders() if (found := _in_folder(folder, model)) is not None), None)
    if path is None:
        raise MissingError(
            f"the heights need the geoid grid {GRID_FILES[model][0]} ({model.upper()}) and it is not here",
            file,
            f"give it with --geoid FILE, or `pyproj sync --file {GRID_FILES[model][0]}`, or conda's package proj-data",
        )
    raster = open_raster(path)
    crs = raster.grid.crs
    if crs is not None and not crs.is_geographic:
        raise InputError("the geoid grid is not in degrees", path, _HINT)
    return Geoid(raster=raster, model=_model_of(raster, Path(path)))


def _in_folder(folder: Path, model: GeoidModel) -> Path | None:
    return next((folder / name for name in GRID_FILES[model] if (folder / name).is_file()), None)


def _model_of(raster: Raster, path: Path) -> GeoidModel | None:
    said = _EPSG_HEIGHT.get(raster.tags.get("target_crs_epsg_code", ""))
    if said is not None:
        return said
    return next((model for model, names in GRID_FILES.items() if path.name in names), None)


def proj_folders() -> Iterator[Path]:
    """Where PROJ looks for grids: its environment variables, pyproj's folders, this environment's and the system's."""
    from pyproj import datadir

    named = [text for key in ("PROJ_DATA", "PROJ_LIB") for text in os.environ.get(key, "").split(os.pathsep)]
    named += datadir.get_data_dir().split(os.pathsep)
    named.append(str(datadir.get_user_data_dir()))  # type: ignore[attr-defined]  # documented, not in __all__
    folders = [Path(text) for text in named if text]
    folders += [Path(prefix) / "share" / "proj" for prefix in (sys.prefix, "/usr/local", "/usr")]
    yield from dict.fromkeys(folders)
