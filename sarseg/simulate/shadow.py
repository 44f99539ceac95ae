"""What the radar sees: the greatest look angle so far, outwards along the ground range of each line."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sarseg.simulate.ellipsoid import geodetic, normal
from sarseg.simulate.geometry import ImageGeometry
from sarseg.simulate.terrain import Terrain, bilinear, node_values
from sarseg.tiles import Window

_STEP_PX = 0.5
"""Ground-range step of the profiles, in image pixels."""
_NODES = 32
"""Lines and pixels between exactly solved nodes, at absolute multiples in line."""
_EDGE_PX = 40.0
_REACH = 3.0
"""Ground that a height can shift or shade, per metre of it: tangents of 18 and 72 degrees."""


class Visibility:
    """Seen or not on the ground of a block of lines, by line and ground pixel (that of the point at height 0 below).

    Each line's profile starts so far before the window that whatever could shade it is in it. Nothing stands beyond the
    terrain's posts.
    """

    def __init__(self, terrain: Terrain, geometry: ImageGeometry, window: Window) -> None:
        low_m, high_m = float(np.nanmin(terrain.height_m)), float(np.nanmax(terrain.height_m))
        reach_px = _EDGE_PX + _REACH * (max(high_m, 0.0) - min(low_m, 0.0)) / geometry.pixel_spacing_m
        self.first_line = window.row
        self.first_pixel = max(-_EDGE_PX, np.floor(window.col - reach_px))
        last_pixel = min(window.col_stop + reach_px, geometry.pixels + _EDGE_PX)
        lines = np.arange(window.row, window.row_stop, dtype=np.float64)
        origin = window.row // _NODES * _NODES
        node_line = origin + _NODES * np.arange((window.row_stop - origin) // _NODES + 2)
        node_pixel = self.first_pixel + _NODES * np.arange(int((last_pixel - self.first_pixel) / _NODES) + 2)
        line, pixel = np.meshgrid(node_line.astype(float), node_pixel, indexing="ij")
        flat = geometry.ground_point(line, pixel, 0.0)
        lon_deg, lat_deg, _ = geodetic(flat)
        nodes = np.concatenate([flat, normal(lon_deg, lat_deg), terrain.posts_at(lon_deg, lat_deg)], axis=-1)
        # the bistatic term moves a time by 0.3 ms at most across a line: 2 m along the track, nothing to a look angle
        satellite, _ = geometry.track.state(np.asarray(lines * geometry.line_interval_s, np.float64))
        self.seen = np.ones((window.rows, int((last_pixel - self.first_pixel) / _STEP_PX)), np.uint8)
        _walk(nodes, satellite, terrain.height_m, window.row - origin, self.seen)

    def at(self, line: NDArray[np.float64], pixel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share 0..1 of the ground around points (...) that is seen, by the line and pixel of their foot at height 0."""
        out = np.empty(line.size)
        _look_up(self.seen, line.ravel() - self.first_line, (pixel.ravel() - self.first_pixel) / _STEP_PX, out)
        return out.reshape(line.shape)


@njit(nogil=True, cache=True)
def _walk(nodes, satellite, height, first_line, seen):  # type: ignore[no-untyped-def]
    here = np.empty(8)
    for r in range(seen.shape[0]):
        least = 2.0  # cosine of the off-nadir angle; the greatest angle has the least cosine
        length = np.sqrt(satellite[r, 0] ** 2 + satellite[r, 1] ** 2 + satellite[r, 2] ** 2)
        for c in range(seen.shape[1]):
            node_values(nodes, (r + first_line) / _NODES, c * _STEP_PX / _NODES, here)
            h = bilinear(height, here[6], here[7])
            if np.isnan(h):
                continue
            along = norm = 0.0
            for axis in range(3):
                sight = here[axis] + h * here[axis + 3] - satellite[r, axis]
                along -= sight * satellite[r, axis]
                norm += sight * sight
            cosine = along / (length * np.sqrt(norm))
            if cosine > least:
                seen[r, c] = 0
            else:
                least = cosine


@njit(nogil=True, cache=True)
def _look_up(seen, line, pixel, out):  # type: ignore[no-untyped-def]
    last_row, last_col = seen.shape[0] - 1, seen.shape[1] - 1
    for i in range(out.shape[0]):
        if not np.isfinite(line[i]) or not np.isfinite(pixel[i]):
            out[i] = 0.0
            continue
        row, col = min(max(line[i], 0.0), float(last_row)), min(max(pixel[i], 0.0), float(last_col))
        r, c = min(int(row), max(last_row - 1, 0)), min(int(col), max(last_col - 1, 0))
        a, b = row - r, col - c
        below, right = min(r + 1, last_row), min(c + 1, last_col)
        top = (1.0 - b) * seen[r, c] + b * seen[r, right]
        bottom = (1.0 - b) * seen[below, c] + b * seen[below, right]
        out[i] = (1.0 - a) * top + a * bottom
