"""From the landscape to the image: expected power of every radar cell, by adding up the ground's facets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sarseg.grid import MapGrid
from sarseg.simulate.facets import Tile, accumulate
from sarseg.simulate.geometry import ImageGeometry, incidence_deg, project
from sarseg.simulate.shadow import Visibility
from sarseg.simulate.terrain import NODE_STEP_PX, Terrain, ground_points, map_nodes
from sarseg.tiles import Window, blocks

_TILE = 256
_AREA_NODES = 64
_NO_SHADOW_DEG = 40.0
"""Slopes that no Sentinel-1 beam (up to 47 degrees of incidence) can leave in shadow."""


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


class _Tile(NamedTuple):
    window: Window
    first_line: float
    last_line: float
    first_pixel: float
    last_pixel: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Radar:
    """A landscape in front of an image geometry; `shades` where its slopes can cast shadows."""

    ground: Ground
    geometry: ImageGeometry
    polarisations: tuple[str, ...]
    tiles: tuple[_Tile, ...]
    shades: bool

    def extent(self) -> Window:
        """The image window that the landscape touches (it may reach beyond the image)."""
        row = int(np.floor(min(tile.first_line for tile in self.tiles)))
        col = int(np.floor(min(tile.first_pixel for tile in self.tiles)))
        rows = int(np.ceil(max(tile.last_line for tile in self.tiles))) - row + 1
        cols = int(np.ceil(max(tile.last_pixel for tile in self.tiles))) - col + 1
        return Window(row=row, col=col, rows=rows, cols=cols)

    def power(self, window: Window) -> NDArray[np.float64]:
        """Power of the facets in each cell (gamma0 x square metres), and the cover, float64 (polarisations + 1, lines, pixels).

        The cover is 1 where the cell lies inside the landscape. Cells get their facets in the map's order, whatever the window.
        """
        image = np.zeros((len(self.polarisations) + 1, *window.shape))
        seen = None
        for tile in self.tiles:
            if tile.last_line < window.row - 0.5 or tile.first_line > window.row_stop - 0.5:
                continue
            if tile.last_pixel < window.col - 0.5 or tile.first_pixel > window.col_stop - 0.5:
                continue
            if seen is None and self.shades:
                seen = Visibility(self.ground.terrain, self.geometry, window)
            self._add_tile(tile.window, window, seen, image)
        return image

    def _add_tile(self, tile: Window, window: Window, seen: Visibility | None, image: NDArray[np.float64]) -> None:
        nodes = map_nodes(self.ground.terrain, self.ground.grid, tile)
        points = ground_points(self.ground.terrain, nodes, tile.shape)
        place = np.empty((points.size // 3, 4))
        project(points.reshape(-1, 3), self.geometry.frame, place)
        node_place = np.empty((nodes.size // nodes.shape[2], 4))
        project(np.ascontiguousarray(nodes[..., :3]).reshape(-1, 3), self.geometry.frame, node_place)
        visible = np.ones(points.shape[:2])
        if seen is not None:
            foot = (node_place[:, k].reshape(nodes.shape[:2]) for k in range(2))
            visible = seen.at(*(_between_nodes(values, points.shape[:2], NODE_STEP_PX) for values in foot))
        gamma0, slope_db = self.ground.gamma0(tile, self.polarisations)
        # the radar's path bends by less than a millimetre between nodes
        heard, _ = self.geometry.track.state(node_place[:, 2])
        heard = heard.reshape(*nodes.shape[:2], 3)
        satellite = np.stack([_between_nodes(heard[..., axis], points.shape[:2], NODE_STEP_PX) for axis in range(3)], axis=-1)
        ground = Tile(points, place.reshape(*points.shape[:2], 4), visible, satellite, gamma0, slope_db)
        accumulate(ground, (float(window.row), float(window.col)), image)

    def cell_area_m2(self, window: Window) -> NDArray[np.float64]:
        """Area of the cells in the slant plane, float64 (lines, pixels): ground area x sine of the incidence, from true times.

        It is the area that beta0 refers to; of the ellipsoid at the landscape's mean height, solved at nodes.
        """
        line, pixel = _nodes(window)
        height_m = self.mean_height_m
        step = 0.5
        along = self.geometry.ground_point(line + step, pixel, height_m) - self.geometry.ground_point(line - step, pixel, height_m)
        across = self.geometry.ground_point(line, pixel + step, height_m) - self.geometry.ground_point(line, pixel - step, height_m)
        area = np.linalg.norm(np.cross(along, across), axis=-1)
        return _to_pixels(area * np.sin(np.radians(self._incidence(line, pixel, height_m))), window)

    def incidence_deg(self, window: Window) -> NDArray[np.float64]:
        """Ellipsoidal incidence at height 0 of the window's columns, at its middle line, float64 (pixels,)."""
        line = np.full(window.cols, 0.5 * self.geometry.lines)
        return self._incidence(line, np.arange(window.col, window.col_stop, dtype=np.float64), 0.0)

    def _incidence(self, line: NDArray[np.float64], pixel: NDArray[np.float64], height_m: float) -> NDArray[np.float64]:
        points = self.geometry.ground_point(line, pixel, height_m)
        t_s = self.geometry.time_s(line, self.geometry.slant_range_m(line, pixel))
        return incidence_deg(self.geometry.track, t_s, points)

    @property
    def mean_height_m(self) -> float:
        """Mean of the terrain's heights."""
        return float(np.nanmean(self.ground.terrain.height_m, dtype=np.float64))


def make_radar(ground: Ground, geometry: ImageGeometry, polarisations: tuple[str, ...]) -> Radar:
    """Find where each tile of the map lies in the image; tiles that miss it are left out."""
    low_m, high_m = float(np.nanmin(ground.terrain.height_m)), float(np.nanmax(ground.terrain.height_m))
    tiles = []
    for window in blocks(ground.grid.shape, _TILE):
        nodes = map_nodes(ground.terrain, ground.grid, window)
        corners = np.concatenate([(nodes[..., :3] + height * nodes[..., 3:6]).reshape(-1, 3) for height in (low_m, high_m)])
        line, pixel = geometry.line_pixel(corners)
        good = np.isfinite(pixel)
        if not good.any():
            continue
        line, pixel = line[good], pixel[good]
        tile = _Tile(window, line.min() - 1.0, line.max() + 1.0, pixel.min() - 1.0, pixel.max() + 1.0)
        outside = tile.last_line < 0 or tile.first_line > geometry.lines or tile.last_pixel < 0 or tile.first_pixel > geometry.pixels
        if not outside:
            tiles.append(tile)
    return Radar(
        ground=ground,
        geometry=geometry,
        polarisations=polarisations,
        tiles=tuple(tiles),
        shades=ground.terrain.steepest_deg > _NO_SHADOW_DEG,
    )


def _nodes(window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lines and pixels of the nodes around a window, at absolute multiples: float64 (n, m) each."""
    first_line, first_pixel = window.row // _AREA_NODES * _AREA_NODES, window.col // _AREA_NODES * _AREA_NODES
    line = np.arange(first_line, window.row_stop + _AREA_NODES, _AREA_NODES, dtype=np.float64)
    pixel = np.arange(first_pixel, window.col_stop + _AREA_NODES, _AREA_NODES, dtype=np.float64)
    return tuple(np.meshgrid(line, pixel, indexing="ij"))  # type: ignore[return-value]


def _to_pixels(values: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Bilinear between the nodes of `_nodes`."""
    line = (np.arange(window.row, window.row_stop) - window.row // _AREA_NODES * _AREA_NODES) / _AREA_NODES
    pixel = (np.arange(window.col, window.col_stop) - window.col // _AREA_NODES * _AREA_NODES) / _AREA_NODES
    return _bilinear(values, line, pixel)


def _between_nodes(values: NDArray[np.float64], shape: tuple[int, int], step: int) -> NDArray[np.float64]:
    return _bilinear(values, np.arange(shape[0]) / step, np.arange(shape[1]) / step)


def _bilinear(values: NDArray[np.float64], row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at all (row, col) of two axes of fractional nodes."""
    r = np.minimum(row.astype(np.intp), values.shape[0] - 2)
    c = np.minimum(col.astype(np.intp), values.shape[1] - 2)
    a, b = (row - r)[:, np.newaxis], (col - c)[np.newaxis, :]
    rows = (1.0 - a) * values[r] + a * values[r + 1]
    return np.asarray((1.0 - b) * rows[:, c] + b * rows[:, c + 1])
