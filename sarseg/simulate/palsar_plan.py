"""Plan of a PALSAR scene: which orbit sees the landscape, when, and the image's raster around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from rasterio.crs import CRS

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.grid import MapGrid, transform_points, utm_crs
from sarseg.simulate.ellipsoid import geodetic, surface
from sarseg.simulate.landscape import Landscape
from sarseg.simulate.palsar_geometry import Floats, GroundImage, MapImage, PalsarImage, SlantImage, View, map_tables
from sarseg.simulate.palsar_modes import PalsarOptions
from sarseg.simulate.palsar_orbit import CircularOrbit, orbit_over
from sarseg.simulate.terrain import map_nodes
from sarseg.simulate.track import fit_track
from sarseg.tiles import Window

EDGE_PX = 16
"""Lines and pixels around the landscape."""
_SLANT_STEP_M = 50.0
_VECTORS, _VECTOR_STEP_S = 28, 60.0
_FRAME_DEG = 0.05
_SLACK_S, _SLACK_M = 0.2, 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PalsarPlan:
    """All that the files say of a scene; times are seconds after `view.track.epoch_utc`.

    `bounds` are the first and last time, near and far range that the landscape's points can have; `crs` is the UTM zone of its middle;
    `vector_s` (28,) are the times of the orbit's vectors, whole minutes of the day.
    """

    options: PalsarOptions
    orbit: CircularOrbit
    view: View
    image: PalsarImage
    bounds: tuple[float, float, float, float]
    crs: CRS
    centre_lon_deg: float
    vector_s: Floats
    absolute_orbit: int
    frame: int

    def place(self, points: Floats) -> Floats:
        """Line, pixel, time (s) and slant range (m), float64 (..., 4), of earth-fixed points (..., 3)."""
        t_s, slant_m = self.view.see(points)
        return np.stack([*self.image.to_image(t_s, slant_m), t_s, slant_m], axis=-1)

    @property
    def scene_id(self) -> str:
        """ALPSRP236551270, ALOS2331566960-200704."""
        numbers = f"{self.absolute_orbit:05d}{self.frame:04d}"
        if self.options.mission == "alos1":
            return f"ALPSRP{numbers}"
        return f"ALOS2{numbers}-{str(self.view.track.epoch_utc)[2:10].replace('-', '')}"

    @property
    def product_id(self) -> str:
        """H1.5GUA, FBDR1.5RUA."""
        options = self.options
        letters = "_" if options.level == "1.1" else "U"
        form = "G" if options.geocoded else "_"
        if options.mission == "alos1":
            head = "P" if len(options.polarisations) == 4 else "H"
        else:
            head = f"{options.mode.name}R"
            form = "R" if options.level == "1.5" and not options.geocoded else form
        return f"{head}{options.level}{form}{letters}{options.direction[0].upper()}"

    @property
    def name(self) -> str:
        """What the names of the product's files end in."""
        return f"{self.scene_id}-{self.product_id}"

    @property
    def middle(self) -> tuple[float, float]:
        """Line and pixel of the image's middle."""
        return (self.image.shape[0] - 1) / 2.0, (self.image.shape[1] - 1) / 2.0

    def utc(self, t_s: float) -> np.datetime64:
        """UTC of a time, microseconds."""
        return np.datetime64(self.view.track.epoch_utc + np.timedelta64(round(t_s * 1e6), "us"))


def plan_scene(landscape: Landscape, options: PalsarOptions) -> PalsarPlan:
    """Orbit and raster so that the landscape's middle is seen under the wanted incidence; InputError where no orbit does."""
    nodes = map_nodes(landscape.terrain, landscape.grid, Window.whole(landscape.grid.shape)).reshape(-1, 8)
    low_m, high_m = float(np.nanmin(landscape.terrain.height_m)), float(np.nanmax(landscape.terrain.height_m))
    points = np.concatenate([nodes[:, :3] + height * nodes[:, 3:6] for height in (low_m, high_m)])
    target = _middle_of(landscape)
    about = options.about
    orbit = orbit_over(about.orbit, target, options.incidence_deg, options.direction)
    epoch_utc = orbit.pass_utc(np.datetime64(about.day[options.direction]))
    around_s = np.linspace(-90.0, 90.0, 19)
    track = fit_track(epoch_utc, around_s, *orbit.state(around_s))
    view = View(track=track, wavelength_m=about.wavelength_m)
    if about.squinted:
        constant, slope = options.doppler
        near_m = float(view.see(points)[1].min())
        view = View(
            track=track,
            wavelength_m=about.wavelength_m,
            origin_m=math.floor(near_m - EDGE_PX * _slant_spacing_m(options)),
            doppler_hz=constant,
            slope_hz_m=slope / 1000.0,
        )
    seen = view.see(points)
    lon_deg, lat_deg, _ = geodetic(target)
    crs = utm_crs(float(lon_deg), float(lat_deg))
    minute_s = float((epoch_utc - epoch_utc.astype("datetime64[m]")).astype(np.int64)) / 1e6
    return PalsarPlan(
        options=options,
        orbit=orbit,
        view=view,
        image=_image(view, options, seen, crs),
        bounds=_bounds(seen),
        crs=crs,
        centre_lon_deg=float(lon_deg),
        vector_s=_VECTOR_STEP_S * np.arange(1.0 - _VECTORS // 2, _VECTORS - _VECTORS // 2 + 1.0) - minute_s,
        absolute_orbit=about.first_orbit[options.direction] + round(4.0 * options.incidence_deg),
        frame=round(math.degrees(orbit.argument_rad) % 360.0 / _FRAME_DEG / 10.0) * 10 % 7200,
    )


def _bounds(seen: tuple[Floats, Floats]) -> tuple[float, float, float, float]:
    """First and last time, near and far range."""
    t_s, slant_m = seen
    return float(t_s.min()), float(t_s.max()), float(slant_m.min()), float(slant_m.max())


def _slant_spacing_m(options: PalsarOptions) -> float:
    return SPEED_OF_LIGHT_M_S / (2.0 * options.mode.sampling_hz)


def _middle_of(landscape: Landscape) -> Floats:
    """Earth-fixed point of the map's middle on the ellipsoid, (3,)."""
    left, bottom, right, top = landscape.grid.bounds
    middle = np.array([0.5 * (left + right)]), np.array([0.5 * (bottom + top)])
    return np.asarray(surface(*transform_points(landscape.grid.crs, landscape.terrain.grid.crs, *middle))[0])


def _image(view: View, options: PalsarOptions, seen: tuple[Floats, Floats], crs: CRS) -> PalsarImage:
    first_s, last_s, near_m, far_m = bounds = _bounds(seen)
    mode = options.mode
    if options.geocoded:
        return _map_image(view, mode.spacing_m, seen, crs)
    if options.level == "1.5":
        return _ground_image(view, options, bounds)
    interval_s, spacing_m = 1.0 / mode.prf_hz, _slant_spacing_m(options)
    start_m = float(math.floor(near_m - EDGE_PX * spacing_m))  # the lines say it in whole metres
    start_s = math.floor((first_s - EDGE_PX * interval_s) * 1e6) * 1e-6
    shape = math.ceil((last_s - start_s) / interval_s) + EDGE_PX, math.ceil((far_m - start_m) / spacing_m) + EDGE_PX
    return SlantImage(shape=shape, first_s=start_s, interval_s=interval_s, near_m=start_m, spacing_m=spacing_m)


def _ground_image(view: View, options: PalsarOptions, bounds: tuple[float, float, float, float]) -> GroundImage:
    """Arc along the ellipsoid in the scene's middle; lines as far apart there as pixels."""
    first_s, last_s, near_m, far_m = bounds
    spacing_m = options.mode.spacing_m
    ground_m, slant_m = arc_table(view, bounds, EDGE_PX * spacing_m)
    middle_s = 0.5 * (first_s + last_s)
    ends = view.ground(np.array([middle_s - 0.5, middle_s + 0.5]), np.full(2, 0.5 * (near_m + far_m)), 0.0)
    interval_s = spacing_m / float(np.linalg.norm(ends[1] - ends[0]))
    rising = options.direction == "ascending"
    lines = math.ceil((last_s - first_s) / interval_s) + 2 * EDGE_PX
    return GroundImage(
        shape=(lines, math.ceil(float(np.interp(far_m, slant_m, ground_m)) / spacing_m) + EDGE_PX),
        first_s=last_s + EDGE_PX * interval_s if rising else first_s - EDGE_PX * interval_s,
        interval_s=-interval_s if rising else interval_s,
        spacing_m=spacing_m,
        westward=not rising,
        ground_m=ground_m,
        slant_m=slant_m,
    )


def arc_table(view: View, bounds: tuple[float, float, float, float], edge_m: float) -> tuple[Floats, Floats]:
    """Arc along the ellipsoid and slant range, float64 (n,) each, across the scene's middle, from `edge_m` of slant range before it."""
    first_s, last_s, near_m, far_m = bounds
    slant_m = np.arange(near_m - edge_m, far_m + 2.0 * edge_m + _SLACK_M, _SLANT_STEP_M)
    points = view.ground(np.full(slant_m.shape, 0.5 * (first_s + last_s)), slant_m, 0.0)
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]), slant_m


def _map_image(view: View, spacing_m: float, seen: tuple[Floats, Floats], crs: CRS) -> MapImage:
    t_s, slant_m = seen
    first_s, last_s, near_m, far_m = _bounds(seen)
    tables = map_tables(view, crs, (first_s - _SLACK_S, last_s + _SLACK_S, near_m - _SLACK_M, far_m + _SLACK_M))
    east_m, north_m = tables.at(t_s, slant_m)
    edge_m = EDGE_PX * spacing_m
    around = (float(east_m.min() - edge_m), float(north_m.min() - edge_m), float(east_m.max() + edge_m), float(north_m.max() + edge_m))
    return MapImage(grid=MapGrid.snapped(crs, around, spacing_m), view=view, tables=tables)
