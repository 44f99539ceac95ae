"""JAXA's yearly 25 m mosaic and forest map over a landscape whose truth is known (docs/products.md 1, docs/labels.md 4).

The radar stands above a flat Earth beside the landscape, which is exact enough for what a mosaic still shows of its geometry:
local incidence, layover and shadow. Backscatter is terrain-corrected already; noise is in it, as in JAXA's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.errors import UsageError
from sarseg.grid import MapGrid, transform_points
from sarseg.progress import Progress, silent
from sarseg.rng import white_noise
from sarseg.simulate.jaxa_files import CALIBRATION_DB, Layers, Tile, write_fnf, write_mosaic
from sarseg.simulate.landscape import DEM_NAME, LEGEND_NAME, TRUTH_NAME, Landscape, make_landscape, read_landscape, write_landscape
from sarseg.simulate.lband import NOISE_SIGMA0_DB, POLARISATIONS, LBandGround
from sarseg.simulate.options import Direction, LandscapeOptions
from sarseg.tiles import Window, blocks

FNF_FOLDER = "fnf"
_TILE_PX = 4500
_STEP_DEG = 1.0 / _TILE_PX
_HEIGHT_M = 628_000.0
_INCLINATION_DEG = 97.9
_BLOCK = 512
_FINER = 3
"""Points along a side of a pixel at which the landscape is asked: every 8 m."""
_REFERENCE_DEG = 39.0
_STEEPEST_DEG = (10.0, 75.0)
"""Local incidence beyond which the classes' slopes are not followed."""
_FOREST, _DENSE = 0.5, 0.9
"""Shares of a pixel under forest from which the map calls it forest, and dense forest (ours; JAXA goes by crown cover)."""

# as measured over the ocean of a real tile: 6.4 looks in HH, 7.1 in HV; neighbours correlate by 0.62 0.14 0.03 along a row, by
# 0.15 0.07 (HH) and 0.06 0.02 (HV) along a column, to which symmetric kernels were fitted
_LOOKS = {"HH": (*(1.0,) * 6, 0.222), "HV": (*(1.0,) * 7, 0.05)}
_EAST = (1.0, 0.593, 0.117, 0.075)
_SOUTH = {"HH": (1.0, 0.186, 0.1125, 0.057), "HV": (1.0, 0.115, 0.066, 0.0)}
_HALO = 3
_STREAM = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class JaxaOptions:
    """A mosaic and a forest map: `landscape_dir` is a landscape written before, else `landscape` is made (and written once).

    The year says the satellite (ALOS 2007 to 2010, ALOS-2 from 2015), the files' format, and whether the forest map has three
    classes (until 2016) or four. `incidence_deg` is that of the landscape's centre. `trimmed` ends a tile at the last row and
    column with data; JAXA's always have 4500 x 4500. `folders` leaves the archives away. Without `speckle` the mean is written.
    """

    seed: int = 1
    landscape: LandscapeOptions = field(default_factory=LandscapeOptions)
    landscape_dir: Path | None = None
    year: int = 2020
    direction: Direction = "ascending"
    incidence_deg: float = 36.0
    speckle: bool = True
    trimmed: bool = False
    folders: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"the seed {self.seed} is negative")
        if not (2007 <= self.year <= 2010 or 2015 <= self.year < 2092):
            raise UsageError(f"no PALSAR mosaic of the year {self.year}", hint="2007 to 2010, or from 2015 on")
        if not 20.0 <= self.incidence_deg <= 50.0:
            raise UsageError(f"an incidence of {self.incidence_deg} degrees", hint="20 to 50")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMosaic:
    """What was written: tiles of the mosaic and of the forest map (archives or folders), and the truth of the landscape."""

    mosaic: tuple[Path, ...]
    fnf: tuple[Path, ...]
    dem: Path
    truth: Path
    legend: Path


def simulate_jaxa(out: Path, options: JaxaOptions, progress: Progress = silent) -> SimulatedMosaic:
    """Write the tiles that a landscape touches into `out`, those of the forest map into its folder fnf, and the landscape's truth.

    InputError when `options.landscape_dir` holds no landscape.
    """
    folder = options.landscape_dir or out
    landscape = read_landscape(folder) if options.landscape_dir is not None else make_landscape(options.landscape)
    if options.landscape_dir is None:
        write_landscape(landscape, out)
    view = _look(landscape, options)
    places = list(_places(landscape.grid))
    mosaic, fnf = [], []
    for done, (lon, lat, window) in enumerate(places):
        tile = Tile(
            lon=lon,
            lat=lat,
            year=options.year,
            direction=options.direction,
            shape=(window.row_stop, window.col_stop) if options.trimmed else (_TILE_PX, _TILE_PX),
            step_deg=_STEP_DEG,
        )
        layers = _layers(view, tile, window, options)
        mosaic.append(write_mosaic(out, tile, layers, packed=not options.folders))
        fnf.append(write_fnf(out / FNF_FOLDER, tile, layers.fnf, packed=not options.folders))
        progress(done + 1, len(places), "tiles")
    return SimulatedMosaic(
        mosaic=tuple(mosaic), fnf=tuple(fnf), dem=folder / DEM_NAME, truth=folder / TRUTH_NAME, legend=folder / LEGEND_NAME
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What the radar sees on the landscape's own map, all (rows, cols).

    `gamma0` float32 (2, rows, cols), linear, NaN = no ground, 0 in shadow; `noise` float32, gamma0 of the noise; `local_deg`
    float32, local incidence; `layover`, `shadow`, `water`, `forest` bool.
    """

    grid: MapGrid
    gamma0: NDArray[np.float32]
    noise: NDArray[np.float32]
    local_deg: NDArray[np.float32]
    layover: NDArray[np.bool_]
    shadow: NDArray[np.bool_]
    water: NDArray[np.bool_]
    forest: NDArray[np.bool_]


def _look(landscape: Landscape, options: JaxaOptions) -> _View:
    """Geometry and backscatter of every pixel of the landscape."""
    grid = landscape.grid
    x, y = np.meshgrid(*grid.centres())
    lon_deg, lat_deg = transform_points(grid.crs, landscape.terrain.grid.crs, x, y)
    height_m = landscape.terrain.height_at(lon_deg, lat_deg)
    radar = _Radar.over(options, float(lat_deg.mean()), float(np.nanmean(height_m)))
    across_m = (x - x.mean()) * radar.east + (y - y.mean()) * radar.north
    look_rad, _ = radar.see(across_m, height_m)
    rise_south, rise_east = np.gradient(height_m, grid.spacing[1], grid.spacing[0])
    away = rise_east * radar.east - rise_south * radar.north
    cosine = (np.cos(look_rad) + away * np.sin(look_rad)) / np.sqrt(1.0 + rise_east**2 + rise_south**2)
    local_deg = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    layover, shadow = _hidden(height_m, radar, grid.spacing[0])
    gamma0, slope_db = LBandGround(landscape=landscape).gamma0(Window.whole(grid.shape), POLARISATIONS)
    gamma0 = gamma0 * 10.0 ** (0.1 * slope_db * (np.clip(local_deg, *_STEEPEST_DEG) - _REFERENCE_DEG))
    codes = dict(zip(landscape.legend.names, landscape.legend.codes, strict=True))
    return _View(
        grid=grid,
        gamma0=np.where(shadow, 0.0, gamma0).astype(np.float32),
        noise=np.asarray(10.0 ** (0.1 * NOISE_SIGMA0_DB) / np.cos(look_rad), np.float32),
        local_deg=local_deg.astype(np.float32),
        layover=layover,
        shadow=shadow,
        water=landscape.codes == codes.get("water", -1),
        forest=landscape.codes == codes.get("forest", -1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Radar:
    """Where the radar looks, as a unit vector on the map, how far its track lies from the landscape's middle, and its ground level."""

    east: float
    north: float
    offset_m: float
    level_m: float

    @classmethod
    def over(cls, options: JaxaOptions, lat_deg: float, level_m: float) -> _Radar:
        """To the right of a track with ALOS's inclination."""
        heading = math.asin(max(-1.0, math.cos(math.radians(_INCLINATION_DEG)) / math.cos(math.radians(lat_deg))))
        if options.direction == "descending":
            heading = math.pi - heading
        offset_m = _HEIGHT_M * math.tan(math.radians(options.incidence_deg))
        return cls(east=math.cos(heading), north=-math.sin(heading), offset_m=offset_m, level_m=level_m)

    def see(self, across_m: NDArray[np.float64], height_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Angle from the vertical, radians, and slant range, metres, of points across the track from the middle."""
        ground_m, below_m = across_m + self.offset_m, _HEIGHT_M + self.level_m - height_m
        return np.arctan2(ground_m, below_m), np.hypot(ground_m, below_m)


def _hidden(height_m: NDArray[np.float64], radar: _Radar, step_m: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Layover and shadow, bool (rows, cols), along lines across the track."""
    from scipy.ndimage import map_coordinates

    rows, cols = height_m.shape
    half = math.ceil(0.5 * math.hypot(rows, cols)) + 1
    along, across = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    col = 0.5 * (cols - 1) + across * radar.east - along * radar.north
    row = 0.5 * (rows - 1) - across * radar.north - along * radar.east
    look_rad, range_m = radar.see(across * step_m, map_coordinates(height_m, [row, col], order=1, cval=np.nan))
    farthest, nearest = np.fmax.accumulate(range_m, axis=1), np.fmin.accumulate(range_m[:, ::-1], axis=1)[:, ::-1]
    layover = (range_m < farthest) | (range_m > nearest)
    shadow = look_rad < np.fmax.accumulate(look_rad, axis=1)
    # back from the lines onto the map
    row, col = (values - 0.5 * (size - 1) for values, size in zip(np.mgrid[:rows, :cols].astype(np.float64), (rows, cols), strict=True))
    place = [half - col * radar.north - row * radar.east, half + col * radar.east - row * radar.north]
    back = [map_coordinates(flag.astype(np.uint8), place, order=0).astype(bool) for flag in (layover, shadow)]
    return back[0], back[1]


def _places(grid: MapGrid) -> Iterator[tuple[int, int, Window]]:
    """Longitude and latitude of the top left corner of each tile that the map touches, and the tile's pixels that it may reach."""
    left, bottom, right, top = grid.bounds_in(_geographic())
    for lat in range(math.ceil(top), math.floor(bottom), -1):
        for lon in range(math.floor(left), math.ceil(right)):
            window = _tile_grid(lon, lat).window_covering((left, bottom, right, top))
            if window is not None:
                yield lon, lat, window


def _tile_grid(lon: int, lat: int) -> MapGrid:
    return MapGrid(crs=_geographic(), transform=Affine(_STEP_DEG, 0.0, lon, 0.0, -_STEP_DEG, lat), shape=(_TILE_PX, _TILE_PX))


def _geographic() -> CRS:
    return CRS.from_epsg(4326)


def _layers(view: _View, tile: Tile, touched: Window, options: JaxaOptions) -> Layers:
    """The tile's layers; pixels that lie on the landscape with all their points have data."""
    layers = Layers.empty(tile)
    grid = _tile_grid(tile.lon, tile.lat)
    for part in blocks(touched.shape, _BLOCK):
        window = part.shift(rows=touched.row, cols=touched.col)
        wide = _sampled(view, grid, window.expand(_HALO))
        ground = wide.crop(_HALO)
        there = ~np.isnan(ground.power[0])
        power = np.stack([_speckled(wide.power[k], tile, window, k, options.seed) for k in range(2)]) if options.speckle else ground.power
        dn = np.sqrt(np.where(there, power, 0.0) * 10.0 ** (-0.1 * CALIBRATION_DB))
        for k, pol in enumerate(POLARISATIONS):
            layers.put(pol, window, there, np.clip(np.rint(dn[k]), 2, 65535))
        layers.put("linci", window, there, np.clip(np.rint(np.nan_to_num(ground.local_deg)), 2, 90))
        layers.put("date", window, there, np.full(window.shape, tile.days))
        hidden = [ground.layover >= 0.5, ground.shadow >= 0.5, ground.water >= 0.5]
        layers.put("mask", window, there, np.select(hidden, [100, 150, 50], 255))
        layers.put("fnf", window, there, _forest_class(ground, tile.fnf_classes))
    return layers


def _forest_class(ground: _Ground, classes: int) -> NDArray[np.int64]:
    """Codes of the forest map, (rows, cols)."""
    dense, forest, water = ground.forest >= _DENSE, ground.forest >= _FOREST, ground.water >= 0.5
    if classes == 3:
        return np.select([water, forest], [3, 1], 2)
    return np.select([water, dense, forest], [4, 1, 2], 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """Means over the points of each pixel of a window, float64 (rows, cols), NaN outside of the landscape.

    `power` (2, rows, cols) is gamma0 of signal and noise; the last four are shares.
    """

    power: NDArray[np.float64]
    local_deg: NDArray[np.float64]
    layover: NDArray[np.float64]
    shadow: NDArray[np.float64]
    water: NDArray[np.float64]
    forest: NDArray[np.float64]

    def crop(self, rim: int) -> _Ground:
        """Without so many pixels along each edge."""
        inner = (..., slice(rim, -rim), slice(rim, -rim))
        return _Ground(**{one.name: getattr(self, one.name)[inner] for one in fields(self)})


def _sampled(view: _View, grid: MapGrid, window: Window) -> _Ground:
    to_map = grid.transform @ Affine.translation(window.col, window.row) @ Affine.scale(1.0 / _FINER)
    fine = MapGrid(crs=grid.crs, transform=to_map, shape=(window.rows * _FINER, window.cols * _FINER))
    row, col = view.grid.pixel_of(*transform_points(fine.crs, view.grid.crs, *np.meshgrid(*fine.centres())))
    place = []
    inside = np.ones(fine.shape, bool)
    for at, size in zip((row, col), view.grid.shape, strict=True):
        nearest = np.rint(at).astype(np.intp)
        inside &= (nearest >= 0) & (nearest < size)
        place.append(np.clip(nearest, 0, size - 1))

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        points = np.where(inside, values[place[0], place[1]], np.nan)
        return np.asarray(points.reshape(window.rows, _FINER, window.cols, _FINER).mean(axis=(1, 3)))

    return _Ground(
        power=np.stack([mean(gamma0 + view.noise) for gamma0 in view.gamma0]),
        local_deg=mean(view.local_deg),
        layover=mean(view.layover),
        shadow=mean(view.shadow),
        water=mean(view.water),
        forest=mean(view.forest),
    )


def _speckled(mean: NDArray[np.float64], tile: Tile, window: Window, k: int, seed: int) -> NDArray[np.float64]:
    """Power of a window (rows, cols) with speckle; `mean` reaches by the kernels' halo beyond it, NaN = no ground.

    A pixel's numbers depend on its place on the Earth, so that tiles have no seams.
    """
    from scipy.ndimage import convolve1d

    amplitude = np.sqrt(np.nan_to_num(mean))
    plane = window.shift(rows=(90 - tile.lat) * _TILE_PX, cols=(tile.lon + 180) * _TILE_PX).expand(_HALO)
    pol = POLARISATIONS[k]
    south, east, weights = _kernel(_SOUTH[pol]), _kernel(_EAST), _LOOKS[pol]
    total = np.zeros(window.shape)
    for look, weight in enumerate(weights):
        for part in range(2):
            field = white_noise(seed, (_STREAM, k, look, part), plane) * amplitude
            field = convolve1d(convolve1d(field, south, axis=0, mode="constant"), east, axis=1, mode="constant")
            total += 0.5 * weight / sum(weights) * field[_HALO:-_HALO, _HALO:-_HALO] ** 2
    return total


def _kernel(taps: tuple[float, ...]) -> NDArray[np.float64]:
    """Both sides of a symmetric kernel that passes unit power."""
    whole = np.array([*taps[:0:-1], *taps])
    return np.asarray(whole / np.sqrt((whole**2).sum()))
