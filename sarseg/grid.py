"""MapGrid: where the pixels of a raster lie on the map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.tiles import Window

Bounds = tuple[float, float, float, float]
"""left, bottom, right, top"""

_ALIGNED_PX = 1e-4  # two grids are one lattice when their origins are whole pixels apart, to a ten-thousandth


@dataclass(frozen=True, slots=True, kw_only=True)
class MapGrid:
    """CRS, affine transform of pixel corners, and shape (rows, cols).

    `crs` is None for an image without georeference; its transform is then the identity (y grows downwards).
    """

    crs: CRS | None
    transform: Affine
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if self.shape[0] < 1 or self.shape[1] < 1:
            raise ValueError(f"a grid needs at least one pixel, not {self.shape}")
        if self.transform.determinant == 0:
            raise ValueError(f"the transform {tuple(self.transform)[:6]} has no inverse")

    @classmethod
    def snapped(cls, crs: CRS, bounds: Bounds, spacing: float | tuple[float, float]) -> MapGrid:
        """The north-up grid that covers `bounds`, its origin a multiple of the spacing (x, y), in CRS units."""
        step_x, step_y = spacing if isinstance(spacing, tuple) else (spacing, spacing)
        left, bottom, right, top = bounds
        col0, col1 = math.floor(left / step_x + _ALIGNED_PX), math.ceil(right / step_x - _ALIGNED_PX)
        row0, row1 = math.ceil(top / step_y - _ALIGNED_PX), math.floor(bottom / step_y + _ALIGNED_PX)
        transform = Affine(step_x, 0.0, col0 * step_x, 0.0, -step_y, row0 * step_y)
        return cls(crs=crs, transform=transform, shape=(max(1, row0 - row1), max(1, col1 - col0)))

    @property
    def spacing(self) -> tuple[float, float]:
        """Pixel size (x, y) in CRS units, positive."""
        matrix = self.transform
        return math.hypot(matrix.a, matrix.d), math.hypot(matrix.b, matrix.e)

    @property
    def bounds(self) -> Bounds:
        """left, bottom, right, top of the pixels' outer edges."""
        corners = [self.transform @ (col, row) for col in (0, self.shape[1]) for row in (0, self.shape[0])]
        xs, ys = [corner[0] for corner in corners], [corner[1] for corner in corners]
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def north_up(self) -> bool:
        """No rotation, columns go east and rows south."""
        matrix = self.transform
        return matrix.b == 0 and matrix.d == 0 and matrix.a > 0 and matrix.e < 0

    def crop(self, window: Window) -> MapGrid:
        """The grid of a window of this one."""
        return MapGrid(crs=self.crs, transform=self.transform @ Affine.translation(window.col, window.row), shape=window.shape)

    def centres(self, window: Window | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel centres of a grid without rotation: x (cols,) and y (rows,), float64, CRS units."""
        matrix = self.transform
        if matrix.b != 0 or matrix.d != 0:
            raise ValueError("the grid is rotated: x and y are not separable")
        window = window or Window.whole(self.shape)
        x = matrix.c + (np.arange(window.col, window.col_stop) + 0.5) * matrix.a
        y = matrix.f + (np.arange(window.row, window.row_stop) + 0.5) * matrix.e
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

    def pixel_of(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fractional (row, col) of map points; the centre of the first pixel is (0, 0)."""
        inverse = ~self.transform
        col = inverse.a * x + inverse.b * y + inverse.c - 0.5
        row = inverse.d * x + inverse.e * y + inverse.f - 0.5
        return row, col

    def offset_of(self, other: MapGrid) -> tuple[int, int] | None:
        """(row, col) of the other grid's origin in this one, or None when the two are not one lattice."""
        if self.crs != other.crs:
            return None
        mine, theirs = self.transform, other.transform
        reach = max(*self.shape, *other.shape)
        for name in "abde":
            if abs(getattr(mine, name) - getattr(theirs, name)) * reach > _ALIGNED_PX * max(self.spacing):
                return None
        col, row = ~mine @ (theirs.c, theirs.f)
        if abs(col - round(col)) > _ALIGNED_PX or abs(row - round(row)) > _ALIGNED_PX:
            return None
        return round(row), round(col)

    def window_covering(self, bounds: Bounds) -> Window | None:
        """The pixels of this grid that touch `bounds` (same CRS), or None outside."""
        left, bottom, right, top = bounds
        corners = [~self.transform @ (x, y) for x in (left, right) for y in (bottom, top)]
        cols, rows = [corner[0] for corner in corners], [corner[1] for corner in corners]
        col0, row0 = math.floor(min(cols) + _ALIGNED_PX), math.floor(min(rows) + _ALIGNED_PX)
        col1, row1 = math.ceil(max(cols) - _ALIGNED_PX), math.ceil(max(rows) - _ALIGNED_PX)
        return Window(row=row0, col=col0, rows=max(1, row1 - row0), cols=max(1, col1 - col0)).clip(self.shape)

    def bounds_in(self, crs: CRS) -> Bounds:
        """Bounds in another CRS, the edges densified; left > right is possible in degrees across 180."""
        if self.crs is None:
            raise ValueError("a grid without CRS has no bounds in another")
        if self.crs == crs:
            return self.bounds
        from pyproj import Transformer

        transformer = Transformer.from_crs(self.crs.to_wkt(), crs.to_wkt(), always_xy=True)
        left, bottom, right, top = transformer.transform_bounds(*self.bounds, densify_pts=31)
        return left, bottom, right, top


def transform_points(
    source: CRS, target: CRS, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map points from one CRS to another by PROJ's exact formulas; x east, y north; inf where there is no answer."""
    if source == target:
        return x, y
    out_x, out_y = _transformer(source.to_wkt(), target.to_wkt()).transform(x, y)
    return np.asarray(out_x), np.asarray(out_y)


@lru_cache(maxsize=16)
def _transformer(source: str, target: str) -> Any:
    """PROJ looks for the way between two CRS once, which takes a tenth of a second and more."""
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def utm_crs(lon_deg: float, lat_deg: float) -> CRS:
    """The WGS 84 UTM zone of a point (Norway's and Svalbard's exceptions included); UPS north of 84 and south of -80 degrees."""
    if lat_deg >= 84.0:
        return CRS.from_epsg(32661)
    if lat_deg < -80.0:
        return CRS.from_epsg(32761)
    lon_deg = (lon_deg + 180.0) % 360.0 - 180.0
    zone = int((lon_deg + 180.0) // 6.0) + 1
    if 56.0 <= lat_deg < 64.0 and 3.0 <= lon_deg < 12.0:
        zone = 32
    if lat_deg >= 72.0 and 0.0 <= lon_deg < 42.0:
        zone = 31 + 2 * int((lon_deg + 3.0) // 12.0)
    return CRS.from_epsg((32600 if lat_deg >= 0.0 else 32700) + zone)
