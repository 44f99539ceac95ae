"""Smooth functions of the map (another CRS's coordinates, look angles), exact at nodes and interpolated between them.

A pixel's value depends on its place alone, never on the window that asks for it: nodes lie at absolute multiples of a
step, counted from the map's origin when the grid is snapped, and each pixel uses the same four by four of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.constants import METRES_PER_DEGREE
from sarseg.grid import MapGrid
from sarseg.tiles import Window

Fields = NDArray[np.float64]
NodeFunction = Callable[[NDArray[np.float64], NDArray[np.float64]], Fields]
"""Map x, y float64 (n,) -> float64 (fields, n)"""

_NODE_DISTANCE_M = 700.0  # cubic interpolation of a map projection over 640 m errs by less than a micrometre
_SNAPPED_PX = 1e-6
_threads = threading.local()


def node_step(grid: MapGrid) -> int:
    """Pixels between nodes: the largest power of two that spans at most 700 m, at least 1."""
    spacing = max(grid.spacing) * (METRES_PER_DEGREE if grid.crs is not None and grid.crs.is_geographic else 1.0)
    step = 1
    while 2 * step * spacing <= _NODE_DISTANCE_M:
        step *= 2
    return step


def origin_of(grid: MapGrid) -> tuple[int, int]:
    """(row, col) of the first pixel counted from the map's origin; (0, 0) for a grid that is not snapped."""
    matrix = grid.transform
    row, col = matrix.f / matrix.e, matrix.c / matrix.a
    if abs(row - round(row)) > _SNAPPED_PX or abs(col - round(col)) > _SNAPPED_PX:
        return 0, 0
    return round(row), round(col)


def on_nodes(grid: MapGrid, window: Window, step: int, function: NodeFunction) -> Fields:
    """Fields of a window's pixel centres, float64 (fields, rows, cols), by tensor-product cubics through the nodes.

    Parameters
    ----------
    grid : a grid without rotation
    window : of the grid; may reach beyond it
    step : pixels between nodes; 1 computes every pixel exactly
    function : from map coordinates to fields, called once with all nodes
    """
    origin_row, origin_col = origin_of(grid)
    if step == 1:
        x, y = grid.centres(window)
        mesh_x, mesh_y = np.meshgrid(x, y)
        return np.ascontiguousarray(function(mesh_x.ravel(), mesh_y.ravel())).reshape(-1, *window.shape)
    first_row, row_index, row_weight = _axis(window.row + origin_row, window.rows, step)
    first_col, col_index, col_weight = _axis(window.col + origin_col, window.cols, step)
    node_rows = (np.arange(row_index[-1] + 4) + first_row) * step - origin_row
    node_cols = (np.arange(col_index[-1] + 4) + first_col) * step - origin_col
    x = grid.transform.c + (node_cols + 0.5) * grid.transform.a
    y = grid.transform.f + (node_rows + 0.5) * grid.transform.e
    mesh_x, mesh_y = np.meshgrid(x, y)
    nodes = np.ascontiguousarray(function(mesh_x.ravel(), mesh_y.ravel())).reshape(-1, node_rows.size, node_cols.size)
    out = np.empty((nodes.shape[0], *window.shape))
    _cubic(nodes, row_index, row_weight, col_index, col_weight, out)
    return out


def _axis(start: int, count: int, step: int) -> tuple[int, NDArray[np.int64], NDArray[np.float64]]:
    """First node, each pixel's first node counted from it, and the weights of its four nodes (Lagrange)."""
    position = np.arange(start, start + count, dtype=np.int64)
    node = position // step
    t = (position - node * step) / step
    weights = np.stack(
        [
            -t * (t - 1.0) * (t - 2.0) / 6.0,
            (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0,
            -(t + 1.0) * t * (t - 2.0) / 2.0,
            (t + 1.0) * t * (t - 1.0) / 6.0,
        ],
        axis=1,
    )
    return int(node[0]) - 1, node - node[0], weights


@njit(nogil=True, cache=True)
def _cubic(
    nodes: Fields, row_index: NDArray[np.int64], row_weight: Fields, col_index: NDArray[np.int64], col_weight: Fields, out: Fields
) -> None:
    """Nodes float64 (fields, node rows, node cols) -> out float64 (fields, rows, cols): along columns, then along rows."""
    n_field, n_row, n_col = out.shape
    strip = np.empty((nodes.shape[1], n_col))
    for f in range(n_field):
        for i in range(nodes.shape[1]):
            for c in range(n_col):
                j = col_index[c]
                strip[i, c] = (
                    nodes[f, i, j] * col_weight[c, 0]
                    + nodes[f, i, j + 1] * col_weight[c, 1]
                    + nodes[f, i, j + 2] * col_weight[c, 2]
                    + nodes[f, i, j + 3] * col_weight[c, 3]
                )
        for r in range(n_row):
            i = row_index[r]
            w0, w1, w2, w3 = row_weight[r, 0], row_weight[r, 1], row_weight[r, 2], row_weight[r, 3]
            for c in range(n_col):
                out[f, r, c] = strip[i, c] * w0 + strip[i + 1, c] * w1 + strip[i + 2, c] * w2 + strip[i + 3, c] * w3


def transformer_between(source: CRS, target: CRS) -> Any:
    """This thread's PROJ transformer between the horizontal parts of two CRSs, x east and y north; made once a thread."""
    cache: dict[tuple[str, str], Any] = _threads.__dict__.setdefault("transformers", {})
    key = (source.to_wkt(version="WKT2_2019"), target.to_wkt(version="WKT2_2019"))
    if key not in cache:
        from pyproj import Transformer

        cache[key] = Transformer.from_crs(horizontal(source), horizontal(target), always_xy=True)
    return cache[key]


def horizontal(crs: CRS) -> Any:
    """The two-dimensional part of a CRS, as a pyproj CRS: of a compound one the first part, of a 3D one without heights."""
    from pyproj import CRS as ProjCRS

    full = ProjCRS.from_wkt(crs.to_wkt(version="WKT2_2019"))
    return full.sub_crs_list[0] if full.is_compound else full.to_2d()
