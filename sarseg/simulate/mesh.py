"""The landscape as tiles of ground in front of an image: where each lies in it, and what the facets of one need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sarseg.grid import MapGrid
from sarseg.simulate.facets import Tile
from sarseg.simulate.geometry import ImageGeometry
from sarseg.simulate.shadow import Visibility
from sarseg.simulate.terrain import NODE_STEP_PX, Terrain, ground_points, map_nodes
from sarseg.simulate.track import Track
from sarseg.tiles import Window, blocks

Floats = NDArray[np.float64]

NO_SHADOW_DEG = 40.0
"""Slopes that cannot lie in shadow up to 50 degrees of incidence."""

_TILE = 256
_AREA_NODES = 64


class Ground(Protocol):
    """What scatters: a map of gamma0 and its slope over the terrain."""

    @property
    def grid(self) -> MapGrid:
        """The map; its pixels' corners are the mesh."""

    @property
    def terrain(self) -> Terrain:
        """Heights under the mesh."""

    def gamma0(self, window: Window, polarisations: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Linear gamma0 at 39 degrees (NaN = no ground) and dB per degree, each float32 (polarisations, rows, cols)."""


class MapTile(NamedTuple):
    """A window of the map, and the first and last line and pixel of the image that its ground can have."""

    window: Window
    first_line: float
    last_line: float
    first_pixel: float
    last_pixel: float

    def meets(self, window: Window) -> bool:
        """Whether its ground can lie in a window of the image."""
        lines = self.last_line >= window.row - 0.5 and self.first_line <= window.row_stop - 0.5
        return lines and self.last_pixel >= window.col - 0.5 and self.first_pixel <= window.col_stop - 0.5


def map_tiles(ground: Ground, locate: Callable[[Floats], tuple[Floats, Floats]]) -> Iterator[MapTile]:
    """The tiles of the map in its order; those that have no place in the image are left out.

    `locate` tells line and pixel of earth-fixed points float64 (n, 3), NaN where they have none.
    """
    heights_m = float(np.nanmin(ground.terrain.height_m)), float(np.nanmax(ground.terrain.height_m))
    for window in blocks(ground.grid.shape, _TILE):
        nodes = map_nodes(ground.terrain, ground.grid, window)
        corners = np.concatenate([(nodes[..., :3] + height * nodes[..., 3:6]).reshape(-1, 3) for height in heights_m])
        line, pixel = locate(corners)
        good = np.isfinite(pixel)
        if good.any():
            line, pixel = line[good], pixel[good]
            yield MapTile(window, line.min() - 1.0, line.max() + 1.0, pixel.min() - 1.0, pixel.max() + 1.0)


class Sight(NamedTuple):
    """How a radar sees points: `place` tells line, pixel, time and range, float64 (..., 4), of earth-fixed points (..., 3)."""

    track: Track
    place: Callable[[Floats], Floats]


class Shades(NamedTuple):
    """Where slopes lie in shadow, and the geometry in which that was found."""

    seen: Visibility
    geometry: ImageGeometry


def ground_tile(ground: Ground, window: Window, polarisations: tuple[str, ...], sight: Sight, shades: Shades | None) -> Tile:
    """The ground of a window of the map as a radar sees it."""
    nodes = map_nodes(ground.terrain, ground.grid, window)
    points = ground_points(ground.terrain, nodes, window.shape)
    feet = np.ascontiguousarray(nodes[..., :3])
    corners = points.shape[:2]
    visible = np.ones(corners)
    if shades is not None:
        visible = shades.seen.at(*(_between_nodes(values, corners) for values in shades.geometry.line_pixel(feet)))
    # the radar's path bends by less than a millimetre between nodes
    heard, _ = sight.track.state(sight.place(feet)[..., 2])
    satellite = np.stack([_between_nodes(heard[..., axis], corners) for axis in range(3)], axis=-1)
    gamma0, slope_db = ground.gamma0(window, polarisations)
    return Tile(points, sight.place(points), visible, satellite, gamma0, slope_db)


def cell_nodes(window: Window) -> tuple[Floats, Floats]:
    """Lines and pixels of the nodes around a window of the image, at absolute multiples: float64 (n, m) each."""
    first_line, first_pixel = window.row // _AREA_NODES * _AREA_NODES, window.col // _AREA_NODES * _AREA_NODES
    line = np.arange(first_line, window.row_stop + _AREA_NODES, _AREA_NODES, dtype=np.float64)
    pixel = np.arange(first_pixel, window.col_stop + _AREA_NODES, _AREA_NODES, dtype=np.float64)
    return tuple(np.meshgrid(line, pixel, indexing="ij"))  # type: ignore[return-value]


def to_cells(values: Floats, window: Window) -> Floats:
    """Bilinear between the nodes of `cell_nodes`, float64 (lines, pixels)."""
    line = (np.arange(window.row, window.row_stop) - window.row // _AREA_NODES * _AREA_NODES) / _AREA_NODES
    pixel = (np.arange(window.col, window.col_stop) - window.col // _AREA_NODES * _AREA_NODES) / _AREA_NODES
    return _bilinear(values, line, pixel)


def _between_nodes(values: Floats, shape: tuple[int, ...]) -> Floats:
    return _bilinear(values, np.arange(shape[0]) / NODE_STEP_PX, np.arange(shape[1]) / NODE_STEP_PX)


def _bilinear(values: Floats, row: Floats, col: Floats) -> Floats:
    """Values at all (row, col) of two axes of fractional nodes."""
    r = np.minimum(row.astype(np.intp), values.shape[0] - 2)
    c = np.minimum(col.astype(np.intp), values.shape[1] - 2)
    a, b = (row - r)[:, np.newaxis], (col - c)[np.newaxis, :]
    rows = (1.0 - a) * values[r] + a * values[r + 1]
    return np.asarray((1.0 - b) * rows[:, c] + b * rows[:, c + 1])
