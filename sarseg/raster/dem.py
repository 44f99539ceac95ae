"""Digital elevation models: any mosaic of tiles, heights made ellipsoidal on the pixels of a map.

The vertical datum of every tile is known or asked for: from its CRS, from its name (Copernicus GLO-30: EGM2008; SRTM,
ASTER, AW3D30: EGM96), or from the caller, who wins. Tiles on one lattice (same CRS, spacing and phase) act as one
raster, so that nothing shows at their seams; several lattices are asked in the order of their first files' names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.errors import InputError, MissingError
from sarseg.grid import Bounds, MapGrid
from sarseg.raster.geoid import Geoid, GeoidModel, open_geoid
from sarseg.raster.nodes import Fields, horizontal, node_step, on_nodes, transformer_between
from sarseg.raster.read import Raster, open_raster
from sarseg.tiles import Window

VerticalDatum = Literal["ellipsoidal", "egm96", "egm2008"]
DATUMS: tuple[VerticalDatum, ...] = ("ellipsoidal", "egm96", "egm2008")

_DATUM_OF_EPSG: dict[int, VerticalDatum] = {5773: "egm96", 3855: "egm2008"}
_DATUM_OF_NAME: tuple[tuple[str, VerticalDatum], ...] = (
    (r"copernicus_dsm_", "egm2008"),
    (r"(^|_)srtm|srtmgl1|_1arc_v3|_3arc_v2|^nasadem|^[ns]\d\d[ew]\d{3}\.hgt", "egm96"),
    (r"^astgtm|^aster", "egm96"),
    (r"^alpsmlc30|^[ns]\d{3}[ew]\d{3}_ave_dsm", "egm96"),
)
_SUFFIXES = frozenset({".tif", ".tiff", ".hgt", ".vrt", ".dt1", ".dt2"})
_BESIDE_HEIGHTS = re.compile(r"_(edm|flm|hem|wbm|acm|msk|stk|num|lst|hdr|qai)\.", re.IGNORECASE)  # masks that come with the tiles
_LOWEST_M, _HIGHEST_M = -1000.0, 10_000.0  # the Dead Sea and Everest with room; beyond lie undeclared voids (-9999, -32768)
_PHASE_PX = 1e-3
_SAME_SPACING = _PHASE_PX / 3600  # relative: over a tile of 3600 pixels the phase still holds
_LON_LAT = CRS.from_epsg(4326)


@dataclass(frozen=True, slots=True)
class _Tile:
    raster: Raster
    row: int
    col: int
    """First pixel, counted from the first tile's of the lattice."""

    @property
    def window(self) -> Window:
        return Window(row=self.row, col=self.col, rows=self.raster.grid.shape[0], cols=self.raster.grid.shape[1])


@dataclass(frozen=True, slots=True)
class _Lattice:
    """Tiles that are windows of one raster; `grid` is the first tile's."""

    grid: MapGrid
    datum: VerticalDatum
    tiles: tuple[_Tile, ...]

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Heights as stored, NaN where void or outside; and where a tile lies. The first tile with a height wins."""
        heights = np.full(window.shape, np.nan, np.float32)
        covered = np.zeros(window.shape, np.bool_)
        for tile in self.tiles:
            part = tile.window.intersect(window)
            if part is None:
                continue
            read = tile.raster.read(part.relative_to(tile.window), bands=[tile.raster.bands[0]])[0]
            read[(read < _LOWEST_M) | (read > _HIGHEST_M)] = np.nan
            place = part.relative_to(window).slices
            heights[place] = np.where(np.isnan(heights[place]), read, heights[place])
            covered[place] = True
        return heights, covered

    def bounds_window(self) -> Window:
        """The smallest window that holds every tile."""
        row, col = min(tile.row for tile in self.tiles), min(tile.col for tile in self.tiles)
        row_stop, col_stop = max(tile.window.row_stop for tile in self.tiles), max(tile.window.col_stop for tile in self.tiles)
        return Window(row=row, col=col, rows=row_stop - row, cols=col_stop - col)


@dataclass(frozen=True, slots=True)
class Dem:
    """Heights above the WGS 84 ellipsoid wherever the tiles reach."""

    paths: tuple[Path, ...]
    lattices: tuple[_Lattice, ...]
    geoids: dict[str, Geoid]
    """By datum; "fill" is the one that voids are filled with (absent: voids stay)."""
    warnings: tuple[str, ...]

    @property
    def datums(self) -> tuple[VerticalDatum, ...]:
        """The vertical datums of the tiles, without repetition."""
        return tuple(dict.fromkeys(lattice.datum for lattice in self.lattices))

    def heights(self, grid: MapGrid, window: Window | None = None) -> NDArray[np.float64]:
        """Ellipsoidal heights of a window's pixel centres, float64 (rows, cols), metres; NaN where void or outside.

        Bilinear over the valid neighbours when the nearest DEM pixel is valid: a void is never averaged in and never
        grows. The window may reach beyond the grid. A pixel's bits do not depend on the window.
        """
        return self._heights(grid, window or Window.whole(grid.shape))[0]

    def filled_heights(self, grid: MapGrid, window: Window | None = None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """As `heights`, with the voids inside the tiles filled with the geoid (height 0); and where that was done.

        Without a geoid grid (ellipsoidal heights need none) the voids stay NaN.
        """
        heights, covered, lon, lat = self._heights(grid, window or Window.whole(grid.shape))
        filled = covered & np.isnan(heights)
        if "fill" not in self.geoids or not filled.any():
            return heights, np.zeros_like(filled)
        heights[filled] = self.geoids["fill"].undulation_m(lon[filled], lat[filled])
        return heights, filled & np.isfinite(heights)

    def height_range_m(self, grid: MapGrid, window: Window) -> tuple[float, float] | None:
        """Bounds of every height that `filled_heights` can give there, not tight; None when no tile touches the window."""
        undulations = self._undulation_ranges_m(grid, window)
        lows, highs = [], []
        for lattice in self.lattices:
            row, col = _pixels(grid, window, lattice)
            part = _window_around(row, col, lattice)
            stored, covered = lattice.read(part) if part is not None else (np.empty((0, 0), np.float32), np.empty((0, 0), np.bool_))
            valid = stored[np.isfinite(stored)]
            if valid.size:
                low, high = undulations.get(lattice.datum, (0.0, 0.0))
                lows.append(float(valid.min()) + low)
                highs.append(float(valid.max()) + high)
            if covered.sum() > valid.size and "fill" in undulations:
                lows.append(undulations["fill"][0])
                highs.append(undulations["fill"][1])
        return (min(lows), max(highs)) if lows else None

    def covers(self, lon_deg: Fields, lat_deg: Fields) -> NDArray[np.bool_]:
        """Whether a tile lies at points given in degrees, bool of their shape; voids count as covered."""
        found = np.zeros(np.shape(lon_deg), np.bool_)
        for lattice in self.lattices:
            row, col = _on_lattice(lattice, _LON_LAT, np.asarray(lon_deg), np.asarray(lat_deg))
            for tile in lattice.tiles:
                place = tile.window
                found |= (row >= place.row - 0.5) & (row < place.row_stop - 0.5) & (col >= place.col - 0.5) & (col < place.col_stop - 0.5)
        return found

    def bounds_in(self, crs: CRS) -> list[Bounds]:
        """left, bottom, right, top of every tile in a CRS."""
        from pyproj import CRS as ProjCRS
        from pyproj import Transformer

        bounds: list[Bounds] = []
        for lattice in self.lattices:
            transformer = Transformer.from_crs(_horizontal_of(lattice.grid), ProjCRS.from_wkt(crs.to_wkt()), always_xy=True)
            for tile in lattice.tiles:
                left, bottom, right, top = transformer.transform_bounds(*tile.raster.grid.bounds, densify_pts=21)
                bounds.append((left, bottom, right, top))
        return bounds

    def _undulation_ranges_m(self, grid: MapGrid, window: Window) -> dict[str, tuple[float, float]]:
        """Bounds of the undulations over a window, by the keys of `geoids`."""
        room_m = 2.0  # between every sixteenth pixel
        lon, lat = _mapped(grid, window, _LON_LAT) if self.geoids else (np.empty((0, 0)), np.empty((0, 0)))
        ranges: dict[str, tuple[float, float]] = {}
        for key, geoid in self.geoids.items():
            values = geoid.undulation_m(lon[::16, ::16].copy(), lat[::16, ::16].copy())
            if np.isfinite(values).any():
                ranges[key] = float(np.nanmin(values)) - room_m, float(np.nanmax(values)) + room_m
        return ranges

    def _heights(self, grid: MapGrid, window: Window) -> tuple[Fields, NDArray[np.bool_], Fields, Fields]:
        """Heights, where a tile lies, and longitude and latitude (empty when no geoid asks for them)."""
        out = np.full(window.shape, np.nan)
        covered = np.zeros(window.shape, np.bool_)
        lon, lat = _mapped(grid, window, _LON_LAT) if self.geoids else (np.empty(0), np.empty(0))
        for lattice in self.lattices:
            row, col = _pixels(grid, window, lattice)
            part = _window_around(row, col, lattice)
            if part is None:
                continue
            stored, inside = lattice.read(part)
            heights = np.full(window.shape, np.nan)
            _bilinear(stored, inside, (part.row, part.col), (row, col), heights, covered)
            if lattice.datum != "ellipsoidal":
                heights += self.geoids[lattice.datum].undulation_m(lon, lat)
            out = np.where(np.isnan(out), heights, out)
        return out, covered, lon, lat


@njit(nogil=True, cache=True)
def _bilinear(
    stored: NDArray[np.float32],
    inside: NDArray[np.bool_],
    first: tuple[int, int],
    place: tuple[Fields, Fields],
    out: Fields,
    covered: NDArray[np.bool_],
) -> None:
    """Heights float32 (n, m), whose first pixel is `first` of the lattice, at (row, col) float64 (rows, cols) each.

    A value where the nearest pixel is valid, renormalised over the valid ones; the outer half of the edge pixels takes the
    edge's value. `covered` becomes true where the nearest pixel is in a tile. Positions are split into whole and
    fraction before `first` is taken off, so that rounding is the same in any window.
    """
    n_row, n_col = stored.shape
    row, col = place
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            if np.isnan(row[r, c]) or np.isnan(col[r, c]):
                continue
            whole_row, whole_col = np.floor(row[r, c]), np.floor(col[r, c])
            u, v = row[r, c] - whole_row, col[r, c] - whole_col
            i0, j0 = int(whole_row) - first[0], int(whole_col) - first[1]
            i, j = i0 + (1 if u >= 0.5 else 0), j0 + (1 if v >= 0.5 else 0)
            if not (0 <= i < n_row and 0 <= j < n_col):
                continue
            covered[r, c] = covered[r, c] or inside[i, j]
            if np.isnan(stored[i, j]):
                continue
            total, weights = 0.0, 0.0
            for di in range(2):
                for dj in range(2):
                    weight = (u if di else 1.0 - u) * (v if dj else 1.0 - v)
                    if weight == 0.0 or not (0 <= i0 + di < n_row and 0 <= j0 + dj < n_col):
                        continue
                    height = stored[i0 + di, j0 + dj]
                    if not np.isnan(height):
                        total += weight * height
                        weights += weight
            out[r, c] = total / weights


def _pixels(grid: MapGrid, window: Window, lattice: _Lattice) -> tuple[Fields, Fields]:
    """Fractional (row, col) of map pixels in the lattice, float64 (rows, cols) twice."""
    return _mapped(grid, window, lattice.grid.crs, lattice)


def _mapped(grid: MapGrid, window: Window, crs: CRS | None, lattice: _Lattice | None = None) -> tuple[Fields, Fields]:
    """Map pixels in another CRS, (x, y), or on a lattice's tiles, (row, col); exact at nodes, cubic between them."""
    if grid.crs is None or crs is None:
        raise InputError("terrain needs a georeferenced grid and a georeferenced DEM", crs)
    source = grid.crs

    def exact(x: Fields, y: Fields) -> Fields:
        if lattice is not None:
            return np.stack(_on_lattice(lattice, source, x, y))
        return np.stack([np.asarray(value, np.float64) for value in transformer_between(source, crs).transform(x, y)])

    first, second = on_nodes(grid, window, _step(grid), exact)
    return first, second


def _on_lattice(lattice: _Lattice, source: CRS, x: Fields, y: Fields) -> tuple[Fields, Fields]:
    """Fractional (row, col) in a lattice of points in another CRS, exactly."""
    crs = lattice.grid.crs
    if crs is None:
        raise InputError("the DEM has no coordinate system")
    out_x, out_y = (np.array(value, np.float64) for value in transformer_between(source, crs).transform(x, y))
    if crs.is_geographic:  # the turn nearest to the tiles
        whole = lattice.bounds_window()
        centre = lattice.grid.transform.c + (whole.col + whole.cols / 2) * lattice.grid.transform.a
        out_x[out_x - centre > 180.0] -= 360.0
        out_x[out_x - centre < -180.0] += 360.0
    return lattice.grid.pixel_of(out_x, out_y)


def _step(grid: MapGrid) -> int:
    """Near a pole or where the grid meets the antimeridian, longitude is not smooth: every pixel is computed there."""
    left, bottom, right, top = grid.bounds_in(_LON_LAT)
    room_deg = 0.5
    smooth = -84.5 < bottom <= top < 84.5 and -180.0 + room_deg < left <= right < 180.0 - room_deg
    return node_step(grid) if smooth else 1


def _window_around(row: Fields, col: Fields, lattice: _Lattice) -> Window | None:
    """The lattice's pixels that bilinear interpolation at (row, col) touches, within its tiles' bounds."""
    finite = np.isfinite(row) & np.isfinite(col)
    if not finite.any():
        return None
    row, col = row[finite], col[finite]
    row0, col0 = math.floor(row.min()), math.floor(col.min())
    rows, cols = math.floor(row.max()) + 2 - row0, math.floor(col.max()) + 2 - col0
    return Window(row=row0, col=col0, rows=rows, cols=cols).intersect(lattice.bounds_window())


def open_dem(paths: Sequence[Path], *, datum: VerticalDatum | None = None, geoid: Path | None = None) -> Dem:
    """Open files, or folders of tiles (searched with their subfolders), as one DEM.

    Parameters
    ----------
    datum : of all tiles; wins over their CRS (with a note in `warnings`) and over their names
    geoid : undulation grid, or a folder with PROJ's grids; else PROJ's data folders are searched

    InputError when there is no DEM or it has no CRS; MissingError when a vertical datum or a geoid grid is unknown.
    """
    files = _files(paths)
    rasters = [open_raster(file) for file in files]
    warned: list[str] = []
    datums = [_datum_of(raster, datum, warned) for raster in rasters]
    geoids: dict[str, Geoid] = {}
    for kind in dict.fromkeys(datums):
        if kind != "ellipsoidal":
            geoids[kind] = open_geoid(kind, geoid)
            _compare_models(kind, geoids[kind], warned)
    fill = next(iter(geoids.values()), None) or _optional_geoid(geoid)
    if fill is not None:
        geoids["fill"] = fill
    return Dem(paths=tuple(files), lattices=_lattices(rasters, datums), geoids=geoids, warnings=tuple(warned))


def _optional_geoid(file: Path | None) -> Geoid | None:
    """A geoid for voids of an ellipsoidal DEM: any model serves, and none is an answer unless a file was named."""
    models: tuple[GeoidModel, ...] = ("egm2008", "egm96")
    for model in models:
        try:
            return open_geoid(model, file)
        except MissingError:
            continue
    if file is not None:
        raise MissingError("no geoid grid in the folder", file, "it holds neither us_nga_egm96_15.tif nor us_nga_egm08_25.tif")
    return None


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and not _BESIDE_HEIGHTS.search(file.name))
            if not found:
                raise InputError("no DEM tiles in the folder", path, f"files that end in {', '.join(sorted(_SUFFIXES))} are looked for")
            files += found
        else:
            files.append(path)
    if not files:
        raise InputError("no DEM given", None, "give --dem with a file, several files or a folder of tiles")
    return list(dict.fromkeys(files))


def _datum_of(raster: Raster, asked: VerticalDatum | None, warned: list[str]) -> VerticalDatum:
    path = Path(raster.path)
    if raster.grid.crs is None:
        raise InputError("the DEM has no coordinate system", path, "give it one, e.g. with `rio edit-info --crs EPSG:4326`")
    if raster.grid.transform.b != 0 or raster.grid.transform.d != 0:
        raise InputError("the DEM's grid is rotated", path, "warp it to a north-up grid first")
    said, name = _datum_of_crs(raster)
    if asked is not None:
        if said is not None and said != asked:
            warned.append(f"the CRS of {path.name} says {said} heights; {asked} was asked for and is used")
        return asked
    if said is not None:
        return said
    if name is None:
        for pattern, datum in _DATUM_OF_NAME:
            if re.search(pattern, path.name, re.IGNORECASE):
                return datum
    why = f"its CRS has the vertical datum '{name}', which is not known here" if name else "neither its CRS nor its name says it"
    raise MissingError(f"the vertical datum of the DEM is unknown: {why}", path, f"say it with --dem-datum {'|'.join(DATUMS)}")


def _datum_of_crs(raster: Raster) -> tuple[VerticalDatum | None, str | None]:
    """The datum that the CRS says, and the name of a vertical part that is unknown to us."""
    from pyproj import CRS as ProjCRS

    crs = ProjCRS.from_wkt(raster.grid.crs.to_wkt(version="WKT2_2019")) if raster.grid.crs is not None else None
    vertical: Any = None
    if crs is not None and crs.is_compound:
        vertical = next((part for part in crs.sub_crs_list if part.is_vertical), None)
    elif crs is not None and len(crs.axis_info) == 3:
        _demand_metres(crs.axis_info[2].unit_name, raster.path)
        return "ellipsoidal", None
    if vertical is None:
        return None, None
    _demand_metres(vertical.axis_info[0].unit_name, raster.path)
    return _known_vertical(vertical.to_epsg(), vertical.name), vertical.name


def _known_vertical(epsg: int | None, name: str) -> VerticalDatum | None:
    if epsg in _DATUM_OF_EPSG:
        return _DATUM_OF_EPSG[epsg]
    word = re.sub(r"[^a-z0-9]", "", name.lower())
    if word.startswith(("egm96", "egm1996")):
        return "egm96"
    if word.startswith(("egm2008", "egm08")):
        return "egm2008"
    return "ellipsoidal" if "ellipsoid" in word else None


def _demand_metres(unit: str, path: str) -> None:
    if unit not in ("metre", "meter"):
        raise InputError(f"the DEM's heights are in {unit}", path, "convert them to metres")


def _compare_models(datum: str, geoid: Geoid, warned: list[str]) -> None:
    if geoid.model is not None and geoid.model != datum:
        warned.append(f"the DEM's heights are {datum.upper()}, the geoid grid is {geoid.model.upper()}: heights may be off by a metre")


def _lattices(rasters: Sequence[Raster], datums: Sequence[VerticalDatum]) -> tuple[_Lattice, ...]:
    """Put every tile on the lattice that it fits, in the order given."""
    found: list[tuple[MapGrid, VerticalDatum, list[_Tile]]] = []
    for raster, datum in zip(rasters, datums, strict=True):
        for grid, kind, tiles in found:
            offset = _offset(grid, raster.grid) if kind == datum else None
            if offset is not None:
                tiles.append(_Tile(raster, *offset))
                break
        else:
            found.append((raster.grid, datum, [_Tile(raster, 0, 0)]))
    return tuple(_Lattice(grid, datum, tuple(tiles)) for grid, datum, tiles in found)


def _offset(grid: MapGrid, other: MapGrid) -> tuple[int, int] | None:
    """(row, col) of the other grid's first pixel in this one's lattice, the short way round the Earth; None off the lattice."""
    mine, theirs = grid.transform, other.transform
    if grid.crs != other.crs or max(abs(theirs.a / mine.a - 1.0), abs(theirs.e / mine.e - 1.0)) > _SAME_SPACING:
        return None
    row, col = (theirs.f - mine.f) / mine.e, (theirs.c - mine.c) / mine.a
    if grid.crs is not None and grid.crs.is_geographic:
        turn = 360.0 / abs(mine.a)
        col -= turn * round(col / turn)
    if abs(row - round(row)) > _PHASE_PX or abs(col - round(col)) > _PHASE_PX:
        return None
    return round(row), round(col)


def _horizontal_of(grid: MapGrid) -> Any:
    if grid.crs is None:
        raise InputError("the DEM has no coordinate system")
    return horizontal(grid.crs)
