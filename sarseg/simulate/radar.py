"""From the landscape to the image: expected power of every radar cell, by adding up the ground's facets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.simulate.facets import accumulate
from sarseg.simulate.geometry import ImageGeometry, incidence_deg
from sarseg.simulate.mesh import NO_SHADOW_DEG, Ground, MapTile, Shades, Sight, cell_nodes, ground_tile, map_tiles, to_cells
from sarseg.simulate.shadow import Visibility
from sarseg.tiles import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Radar:
    """A landscape in front of an image geometry; `shades` where its slopes can cast shadows."""

    ground: Ground
    geometry: ImageGeometry
    polarisations: tuple[str, ...]
    tiles: tuple[MapTile, ...]
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
        sight = Sight(self.geometry.track, self.geometry.place)
        shades = None
        for tile in self.tiles:
            if not tile.meets(window):
                continue
            if shades is None and self.shades:
                shades = Shades(Visibility(self.ground.terrain, self.geometry, window), self.geometry)
            ground = ground_tile(self.ground, tile.window, self.polarisations, sight, shades)
            accumulate(ground, (float(window.row), float(window.col)), image)
        return image

    def cell_area_m2(self, window: Window) -> NDArray[np.float64]:
        """Area of the cells in the slant plane, float64 (lines, pixels): ground area x sine of the incidence, from true times.

        It is the area that beta0 refers to; of the ellipsoid at the landscape's mean height, solved at nodes.
        """
        line, pixel = cell_nodes(window)
        height_m = self.mean_height_m
        step = 0.5
        along = self.geometry.ground_point(line + step, pixel, height_m) - self.geometry.ground_point(line - step, pixel, height_m)
        across = self.geometry.ground_point(line, pixel + step, height_m) - self.geometry.ground_point(line, pixel - step, height_m)
        area = np.linalg.norm(np.cross(along, across), axis=-1)
        return to_cells(area * np.sin(np.radians(self._incidence(line, pixel, height_m))), window)

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
    tiles = [
        tile
        for tile in map_tiles(ground, geometry.line_pixel)
        if tile.last_line >= 0 and tile.first_line <= geometry.lines and tile.last_pixel >= 0 and tile.first_pixel <= geometry.pixels
    ]
    return Radar(
        ground=ground,
        geometry=geometry,
        polarisations=polarisations,
        tiles=tuple(tiles),
        shades=ground.terrain.steepest_deg > NO_SHADOW_DEG,
    )
