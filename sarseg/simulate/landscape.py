"""A landscape whose truth is known: classes, backscatter, heights; made once, written once, seen by any number of orbits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid, utm_crs
from sarseg.legend import NODATA, Legend
from sarseg.product.folder import make_parent, read_json
from sarseg.raster.cog import CogSpec, create_cog
from sarseg.raster.read import open_raster
from sarseg.rng import generator
from sarseg.simulate import table
from sarseg.simulate.given import read_landcover, read_terrain
from sarseg.simulate.options import MOST_PX, LandscapeOptions
from sarseg.simulate.patterns import make_pattern
from sarseg.simulate.relief import Relief, make_terrain
from sarseg.simulate.terrain import Terrain
from sarseg.tiles import Window

DEM_NAME, TRUTH_NAME, LEGEND_NAME = "dem.tif", "truth.tif", "legend.yaml"
TABLE_NAME, GAMMA0_NAME = "backscatter.json", "gamma0.tif"
_SPACING_M = 10.0
_PATCH_PX = 60
"""Side of the blocks (600 m) over which the backscatter of water and forest drifts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Classes uint8 (rows, cols), 0 = none, with mean gamma0 at 39 degrees of every pixel, linear float32 (VV VH, rows, cols).

    `description` is the class table as written beside the truth.
    """

    grid: MapGrid
    codes: NDArray[np.uint8]
    legend: Legend
    terrain: Terrain
    gamma0_39: NDArray[np.float32]
    description: dict[str, Any]

    def gamma0(self, window: Window, polarisations: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Linear gamma0 at 39 degrees (NaN = no ground) and its slope in dB per degree, each float32 (n, rows, cols)."""
        planes = [table.POLARISATIONS.index(pol) for pol in polarisations]
        slopes = np.zeros((256, len(planes)), np.float32)
        for code, one in table.of_legend(self.legend).items():
            slopes[code] = [one.slope_db_per_deg[k] for k in planes]
        rows, cols = window.slices
        gamma0 = self.gamma0_39[planes, rows, cols]
        return gamma0, np.ascontiguousarray(np.moveaxis(slopes[self.codes[rows, cols]], -1, 0))


def make_landscape(options: LandscapeOptions) -> Landscape:
    """Make a landscape, or take it from the given heights and land cover.

    Given heights without land cover get made-up classes. InputError when land cover and heights do not overlap.
    """
    legend = table.legend()
    if options.dem is not None:
        terrain = read_terrain(options.dem, options.geoid)
        grid, codes, legend = _given_classes(options, terrain)
        fields = _classes(grid, options)[1] if options.landcover is None else np.zeros(grid.shape, np.int32)
    else:
        grid = _own_grid(options)
        codes, fields = _classes(grid, options)
        relief = Relief(base_m=options.base_m, range_m=options.relief_m, steepest_deg=options.steepest_deg)
        terrain = make_terrain(grid, codes == legend.codes[legend.names.index("water")], relief, options.seed)
    gamma0 = _mean_gamma0(codes, fields, legend, options)
    return _described(Landscape(grid=grid, codes=codes, legend=legend, terrain=terrain, gamma0_39=gamma0, description={}), options)


def _own_grid(options: LandscapeOptions) -> MapGrid:
    crs = utm_crs(options.lon_deg, options.lat_deg)
    from sarseg.grid import transform_points

    x, y = transform_points(_geographic(), crs, np.array([options.lon_deg]), np.array([options.lat_deg]))
    left, top = (round(float(one[0]) / _SPACING_M) * _SPACING_M for one in (x, y))
    half_m = options.size_px // 2 * _SPACING_M
    size_m = options.size_px * _SPACING_M
    return MapGrid.snapped(crs, (left - half_m, top + half_m - size_m, left - half_m + size_m, top + half_m), _SPACING_M)


def _geographic() -> Any:
    from rasterio.crs import CRS

    return CRS.from_epsg(4979)


def _given_classes(options: LandscapeOptions, terrain: Terrain) -> tuple[MapGrid, NDArray[np.uint8], Legend]:
    if options.landcover is not None:
        return read_landcover(options.landcover)
    left, bottom, right, top = terrain.grid.bounds
    crs = utm_crs(0.5 * (left + right), 0.5 * (bottom + top))
    grid = MapGrid.snapped(crs, terrain.grid.bounds_in(crs), _SPACING_M)
    if max(grid.shape) > MOST_PX:
        what = f"a landscape of {grid.shape[0]} x {grid.shape[1]} pixels of 10 m on the whole DEM"
        raise InputError(what, options.dem, f"cut the DEM to at most {MOST_PX} pixels a side, or give --landcover")
    return grid, _classes(grid, options)[0], table.legend()


def _classes(grid: MapGrid, options: LandscapeOptions) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    pattern = make_pattern(grid.shape, options.seed, table.legend().names, options.field_ha)
    return pattern.index + np.uint8(1), pattern.field


def _mean_gamma0(codes: NDArray[np.uint8], fields: NDArray[np.int32], legend: Legend, options: LandscapeOptions) -> NDArray[np.float32]:
    """Class value with the spread of its field and the texture of its pixels; linear means of classes stay those of the table.

    A Gaussian spread of s dB raises the linear mean by s^2 ln(10) / 20 dB, so as much is taken off.
    """
    db = np.full((2, *codes.shape), np.nan)
    rng = generator(options.seed, 10)
    by_field = rng.standard_normal((2, int(fields.max()) + 1))
    by_patch = [_patches(codes.shape, rng) for _ in range(2)]
    by_pixel = rng.standard_normal((2, *codes.shape), dtype=np.float32)
    for code, one in table.of_legend(legend).items():
        here = codes == code
        drifts = one.name in ("water", "forest")
        common = by_patch if drifts else [plane[fields] for plane in by_field]
        shared = one.field_correlation
        for k in range(2):
            offset = common[0][here] if k == 0 else shared * common[0][here] + np.sqrt(1.0 - shared**2) * common[1][here]
            spread_db = 0.0 if options.variation == "none" else one.field_sd_db[k]
            texture_db = one.texture_db if options.variation == "full" else 0.0
            bias_db = np.log(10.0) / 20.0 * (spread_db**2 + texture_db**2)
            db[k, here] = one.gamma0_db[k] - bias_db + spread_db * offset + texture_db * by_pixel[k][here]
    return np.asarray(10.0 ** (0.1 * db)).astype(np.float32)


def _patches(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Standard normal numbers, one a block of 600 m, blended linearly with unit variance kept; float64 (rows, cols)."""
    rows, cols = (np.arange(size) / _PATCH_PX for size in shape)
    nodes = rng.standard_normal((int(rows[-1]) + 2, int(cols[-1]) + 2))
    r, c = rows.astype(np.intp), cols.astype(np.intp)
    a, b = (rows - r)[:, np.newaxis], (cols - c)[np.newaxis, :]
    along = (1.0 - a) * nodes[r] + a * nodes[r + 1]
    values = (1.0 - b) * along[:, c] + b * along[:, c + 1]
    return np.asarray(values / np.sqrt(((1.0 - a) ** 2 + a**2) * ((1.0 - b) ** 2 + b**2)))


def _described(landscape: Landscape, options: LandscapeOptions) -> Landscape:
    description = table.as_dict(landscape.legend, spread=options.variation != "none", texture=options.variation == "full")
    for code, name in zip(landscape.legend.codes, landscape.legend.names, strict=True):
        here = landscape.codes == code
        for k, pol in enumerate(table.POLARISATIONS):
            mean = float(landscape.gamma0_39[k][here].mean(dtype=np.float64)) if here.any() else float("nan")
            entry = description["classes"][name]["polarisations"][pol]
            entry["realised_mean_db"] = round(float(10.0 * np.log10(mean)), 6) if here.any() else None
        description["classes"][name]["pixels"] = int(here.sum())
    description["seed"] = options.seed
    return Landscape(
        grid=landscape.grid,
        codes=landscape.codes,
        legend=landscape.legend,
        terrain=landscape.terrain,
        gamma0_39=landscape.gamma0_39,
        description=description,
    )


def write_landscape(landscape: Landscape, folder: Path) -> None:
    """Write the truth: dem.tif (EPSG:4979), truth.tif with names and colours, gamma0.tif (mean at 39 degrees), the legend, the table."""
    make_parent(folder / DEM_NAME)
    terrain, legend = landscape.terrain, landscape.legend
    dem = CogSpec(grid=terrain.grid, dtype="float32", bands=("height",), nodata=float("nan"), overviews="average")
    with create_cog(folder / DEM_NAME, dem) as out:
        out.write(Window.whole(terrain.grid.shape), terrain.height_m)
    truth = CogSpec(
        grid=landscape.grid,
        dtype="uint8",
        bands=("class",),
        nodata=NODATA,
        overviews="mode",
        tags=legend.tags(),
        colormap=legend.colormap(),
    )
    with create_cog(folder / TRUTH_NAME, truth) as out:
        out.write(Window.whole(landscape.grid.shape), landscape.codes)
    gamma0 = CogSpec(grid=landscape.grid, dtype="float32", bands=table.POLARISATIONS, nodata=float("nan"), overviews="average")
    with create_cog(folder / GAMMA0_NAME, gamma0) as out:
        out.write(Window.whole(landscape.grid.shape), landscape.gamma0_39)
    legend.to_file(folder / LEGEND_NAME)
    (folder / TABLE_NAME).write_text(json.dumps(landscape.description, indent=2) + "\n", encoding="utf-8")


def read_landscape(folder: Path) -> Landscape:
    """Read back what `write_landscape` wrote; InputError when a part is absent or damaged."""
    missing = [name for name in (DEM_NAME, TRUTH_NAME, GAMMA0_NAME, LEGEND_NAME, TABLE_NAME) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"not a landscape: {', '.join(missing)} is not there", folder, "make one with sarseg simulate")
    dem, truth = open_raster(folder / DEM_NAME), open_raster(folder / TRUTH_NAME)
    return Landscape(
        grid=truth.grid,
        codes=np.asarray(truth.read_codes(), np.uint8),
        legend=Legend.from_file(folder / LEGEND_NAME),
        terrain=Terrain(grid=dem.grid, height_m=dem.read()[0]),
        gamma0_39=open_raster(folder / GAMMA0_NAME).read(),
        description=read_json(folder / TABLE_NAME),
    )
