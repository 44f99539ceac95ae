"""From the landscape to PALSAR's image: expected sigma0 of every pixel, by adding up the ground's facets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.grid import MapGrid
from sarseg.simulate.facets import accumulate
from sarseg.simulate.geometry import ImageGeometry, RangeRecords, make_geometry
from sarseg.simulate.landscape import Landscape
from sarseg.simulate.lband import LBandGround
from sarseg.simulate.mesh import NO_SHADOW_DEG, MapTile, Shades, Sight, cell_nodes, ground_tile, map_tiles, to_cells
from sarseg.simulate.palsar_geometry import Floats
from sarseg.simulate.palsar_plan import PalsarPlan, arc_table
from sarseg.simulate.shadow import Visibility
from sarseg.simulate.terrain import Terrain
from sarseg.tiles import Window

CROSS = "HH.VV"
"""A channel beside HH, HV and VV: the real part of HH times conjugate VV."""

_NATIVE_M, _NATIVE_EDGE_M, _NATIVE_DEGREE = 10.0, 100.0, 8
_SPEED_M_S = 6_850.0
"""Over ground, near enough to make the lines of the shadows' geometry as far apart as its pixels."""

# VV above HH in decibels, and the correlation of the two: 1 where a surface scatters, 0.2 in a volume, negative for double bounce.
# Ours; differences after an AIRSAR image of Flevoland
_VV: dict[str, tuple[float, float]] = {
    "water": (2.5, 0.85),
    "bare": (2.0, 0.8),
    "grass": (-0.5, 0.6),
    "cereal": (1.5, 0.6),
    "broadleaf": (0.0, 0.35),
    "forest": (0.0, 0.25),
    "built": (-4.0, -0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadGround:
    """The landscape in HH, HV, VV and `CROSS`; VH is HV."""

    land: LBandGround

    @property
    def grid(self) -> MapGrid:
        """The landscape's map."""
        return self.land.grid

    @property
    def terrain(self) -> Terrain:
        """Its heights."""
        return self.land.terrain

    def gamma0(self, window: Window, channels: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Linear gamma0 at 39 degrees (NaN = no ground) and dB per degree, each float32 (channels, rows, cols)."""
        gamma0, slope_db = self.land.gamma0(window, tuple("HV" if name == "HV" else "HH" for name in channels))
        landscape = self.land.landscape
        codes = landscape.codes[window.slices]
        power, cross = np.ones(256, np.float32), np.ones(256, np.float32)
        for code, name in zip(landscape.legend.codes, landscape.legend.names, strict=True):
            above_db, correlation = _VV[name]
            power[code], cross[code] = 10.0 ** (0.1 * above_db), correlation * 10.0 ** (0.05 * above_db)
        for at, name in enumerate(channels):
            if name in ("VV", CROSS):
                gamma0[at] *= (power if name == "VV" else cross)[codes]
        return gamma0, slope_db


@dataclass(frozen=True, slots=True, kw_only=True)
class PalsarRadar:
    """A landscape in front of an image; `shades` where its slopes can cast shadows."""

    ground: QuadGround
    plan: PalsarPlan
    channels: tuple[str, ...]
    tiles: tuple[MapTile, ...]
    shades: Shades | None

    def sigma0(self, window: Window) -> tuple[Floats, NDArray[np.bool_]]:
        """Mean sigma0 of the ellipsoid in each pixel, float64 (channels, lines, pixels), and where the pixel lies inside the landscape.

        Pixels get their facets in the map's order, whatever the window.
        """
        image = np.zeros((len(self.channels) + 1, *window.shape))
        sight = Sight(self.plan.view.track, self.plan.place)
        for tile in self.tiles:
            if tile.meets(window):
                ground = ground_tile(self.ground, tile.window, self.channels, sight, self.shades)
                accumulate(ground, (float(window.row), float(window.col)), image)
        # maps and images that look westward are not mirrored, so that their cover counts backwards
        inside = np.abs(np.abs(image[-1]) - 1.0) < 1e-3
        return image[:-1] * self._per_power(window), inside

    def _per_power(self, window: Window) -> Floats:
        """What makes sigma0 of gamma0 x square metres: the sine of the ellipsoid's incidence over the pixel's area in the slant plane.

        float64 (lines, pixels), solved at nodes. The area is that at the landscape's mean height.
        """
        line, pixel = cell_nodes(window)
        height_m = float(np.nanmean(self.ground.terrain.height_m, dtype=np.float64))
        along = self._ground(line + 0.5, pixel, height_m) - self._ground(line - 0.5, pixel, height_m)
        across = self._ground(line, pixel + 0.5, height_m) - self._ground(line, pixel - 0.5, height_m)
        area_m2 = np.linalg.norm(np.cross(along, across), axis=-1) * self._sine(line, pixel, height_m)
        return to_cells(self._sine(line, pixel, 0.0) / area_m2, window)

    def _ground(self, line: Floats, pixel: Floats, height_m: float) -> Floats:
        return self.plan.view.ground(*self.plan.image.to_radar(line, pixel), height_m)

    def _sine(self, line: Floats, pixel: Floats, height_m: float) -> Floats:
        """Of the ellipsoidal incidence."""
        t_s, _ = self.plan.image.to_radar(line, pixel)
        return np.asarray(np.sin(np.radians(self.plan.view.incidence_deg(t_s, self._ground(line, pixel, height_m)))))


def make_palsar_radar(landscape: Landscape, plan: PalsarPlan) -> PalsarRadar:
    """Find where each tile of the map lies in the image."""
    ground = QuadGround(land=LBandGround(landscape=landscape))
    terrain = landscape.terrain
    shades = None
    if terrain.steepest_deg > NO_SHADOW_DEG:
        native = _native(plan)
        lines = int(plan.bounds[0] / native.line_interval_s) - 1, int(plan.bounds[1] / native.line_interval_s) + 2
        seen = Visibility(terrain, native, Window(row=lines[0], col=0, rows=lines[1] - lines[0], cols=native.pixels))
        shades = Shades(seen, native)
    pols = plan.options.polarisations
    return PalsarRadar(
        ground=ground,
        plan=plan,
        channels=("HH", "HV", "VV", CROSS) if len(pols) == 4 else pols,
        tiles=tuple(map_tiles(ground, lambda points: plan.image.to_image(*plan.view.see(points)))),
        shades=shades,
    )


def _native(plan: PalsarPlan) -> ImageGeometry:
    """A zero-Doppler ground-range geometry over the scene, in which shadows are cast."""
    first_s, last_s, _, _ = plan.bounds
    ground_m, slant_m = arc_table(plan.view, plan.bounds, _NATIVE_EDGE_M)
    series: Floats = np.polynomial.Polynomial.fit(ground_m, slant_m, _NATIVE_DEGREE).convert().coef.astype(np.float64)
    records = RangeRecords(np.zeros(1), series[np.newaxis], _NATIVE_M)
    interval_s = _NATIVE_M / _SPEED_M_S
    return make_geometry(plan.view.track, (int((last_s - first_s) / interval_s), int(ground_m[-1] / _NATIVE_M)), interval_s, records)
