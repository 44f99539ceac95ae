"""The landscape's heights as a surface: a geographic raster of ellipsoidal heights, interpolated bilinearly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sarseg.grid import MapGrid, transform_points
from sarseg.simulate.ellipsoid import normal, surface
from sarseg.tiles import Window

NODE_STEP_PX = 16
"""Map pixels between the nodes of exact map projection; bilinear between them it is within 1 mm for 10 m pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terrain:
    """Heights at posts: float32 (rows, cols) above WGS 84, NaN = void; `grid` is EPSG:4979, posts are its pixel centres."""

    grid: MapGrid
    height_m: NDArray[np.float32]

    @property
    def steepest_deg(self) -> float:
        """Greatest slope between neighbouring posts, degrees; 0 for a single row or column."""
        if min(self.height_m.shape) < 2:
            return 0.0
        dx_deg, dy_deg = self.grid.spacing
        north_m = 111_000.0 * dy_deg
        east_m = 111_000.0 * dx_deg * float(np.cos(np.radians(self.grid.centres()[1].mean())))
        down, across = np.diff(self.height_m, axis=0) / north_m, np.diff(self.height_m, axis=1) / east_m
        squares = down[:, 1:] ** 2 + across[1:, :] ** 2
        return float(np.degrees(np.arctan(np.sqrt(np.nanmax(squares, initial=0.0)))))

    def posts_at(self, lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
        """(row, col) among the posts, float64 (..., 2)."""
        return np.stack(self.grid.pixel_of(lon_deg, lat_deg), axis=-1)

    def height_at(self, lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights in metres, float64 (...); NaN outside the posts."""
        posts = self.posts_at(lon_deg, lat_deg)
        last = np.array(self.height_m.shape) - 1
        at = np.clip(posts, 0, last)
        first = np.minimum(at.astype(np.intp), np.maximum(last - 1, 0))
        a, b = (at - first)[..., 0], (at - first)[..., 1]
        row, col = first[..., 0], first[..., 1]
        below, right = np.minimum(row + 1, last[0]), np.minimum(col + 1, last[1])
        top = (1.0 - b) * self.height_m[row, col] + b * self.height_m[row, right]
        bottom = (1.0 - b) * self.height_m[below, col] + b * self.height_m[below, right]
        inside = (np.abs(posts - at) <= 0.5).all(axis=-1)
        return np.where(inside, (1.0 - a) * top + a * bottom, np.nan)


def map_nodes(terrain: Terrain, grid: MapGrid, window: Window) -> NDArray[np.float64]:
    """Exact nodes under the corners of a window's pixels, float64 (n, m, 8), every NODE_STEP_PX pixels from its first corner.

    Planes: earth-fixed position at height 0 (3), normal (3), row and column among the posts (2).
    """
    rows = window.row + NODE_STEP_PX * np.arange(-(-window.rows // NODE_STEP_PX) + 1)
    cols = window.col + NODE_STEP_PX * np.arange(-(-window.cols // NODE_STEP_PX) + 1)
    col, row = np.meshgrid(cols.astype(np.float64), rows.astype(np.float64))
    to_map = grid.transform
    x, y = to_map.a * col + to_map.b * row + to_map.c, to_map.d * col + to_map.e * row + to_map.f
    lon_deg, lat_deg = transform_points(grid.crs, terrain.grid.crs, x, y)
    return np.concatenate([surface(lon_deg, lat_deg), normal(lon_deg, lat_deg), terrain.posts_at(lon_deg, lat_deg)], axis=-1)


def ground_points(terrain: Terrain, nodes: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Earth-fixed corners of a tile's pixels on the terrain, float64 (rows + 1, cols + 1, 3); NaN outside the posts."""
    out = np.empty((shape[0] + 1, shape[1] + 1, 3))
    _raise(nodes, NODE_STEP_PX, terrain.height_m, out)
    return out


@njit(nogil=True, cache=True)
def bilinear(height, row, col):  # type: ignore[no-untyped-def]
    """Height between posts; NaN outside the posts' centres, which half a post beyond are taken for the edge."""
    rows, cols = height.shape
    if not (-0.5 <= row <= rows - 0.5 and -0.5 <= col <= cols - 0.5):
        return np.nan
    row, col = min(max(row, 0.0), rows - 1.0), min(max(col, 0.0), cols - 1.0)
    r, c = min(int(row), max(rows - 2, 0)), min(int(col), max(cols - 2, 0))
    a, b = row - r, col - c
    below, right = min(r + 1, rows - 1), min(c + 1, cols - 1)
    top = (1.0 - b) * height[r, c] + b * height[r, right]
    bottom = (1.0 - b) * height[below, c] + b * height[below, right]
    return (1.0 - a) * top + a * bottom


@njit(nogil=True, cache=True)
def node_values(nodes, row, col, out):  # type: ignore[no-untyped-def]
    """All planes of nodes (n, m, planes) at a fractional node, into `out` (planes,)."""
    r, c = min(int(row), nodes.shape[0] - 2), min(int(col), nodes.shape[1] - 2)
    a, b = row - r, col - c
    for k in range(out.shape[0]):
        top = (1.0 - b) * nodes[r, c, k] + b * nodes[r, c + 1, k]
        bottom = (1.0 - b) * nodes[r + 1, c, k] + b * nodes[r + 1, c + 1, k]
        out[k] = (1.0 - a) * top + a * bottom


@njit(nogil=True, cache=True)
def _raise(nodes, step, height, out):  # type: ignore[no-untyped-def]
    here = np.empty(8)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            node_values(nodes, r / step, c / step, here)
            h = bilinear(height, here[6], here[7])
            for axis in range(3):
                out[r, c, axis] = here[axis] + h * here[axis + 3]
