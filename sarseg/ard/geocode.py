"""One block of the map from a scene and a DEM: geometry, radiometry, speckle, resampling, mask. Pure in (job, window)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sarseg.ard.polarimetry import Polarimetry, bands_of, matrix_image
from sarseg.ard.radiometry import ZERO_RUN_PX, calibrate, scale
from sarseg.ard.relief import Relief
from sarseg.bands import diagonals_of
from sarseg.grid import MapGrid
from sarseg.masks import Mask
from sarseg.radar.lattice import Lattice, LatticePlan, make_lattice
from sarseg.radar.lut import Quantity
from sarseg.radar.orbit import Floats
from sarseg.radar.resample import bilinear
from sarseg.radar.visibility import layover_shadow, terrain_slopes
from sarseg.raster.dem import Dem
from sarseg.scene.model import Scene
from sarseg.speckle.filters import lee
from sarseg.tiles import Window

T = TypeVar("T", bound=np.generic)

LAYERS_BEHIND = ("incidence", "ellipsoid_incidence", "mask")
"""Layers of a block after its bands."""

COMPUTED_BITS = Mask.NO_DATA | Mask.LAYOVER | Mask.SHADOW | Mask.DEM_FILLED | Mask.BELOW_NOISE
"""Mask bits that this engine decides; it flattens no terrain and knows no border but no data."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Speckle:
    """A Lee filter in radar geometry: side of the window in pixels, equivalent number of looks."""

    window: int
    looks: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A scene on its way to a map: everything that a block needs, read only.

    Parameters
    ----------
    scene, dem, relief : what is seen, where, and how high it is
    plan : geometry of the whole map
    quantity : which backscatter
    polarisations : in order
    denoised : of them, those whose thermal noise is subtracted
    speckle : None = no filter
    polarimetry : the matrix of the four polarisations that is made instead of their powers; None = their powers
    """

    scene: Scene
    dem: Dem
    relief: Relief
    plan: LatticePlan
    quantity: Quantity
    polarisations: tuple[str, ...]
    denoised: frozenset[str]
    speckle: Speckle | None
    polarimetry: Polarimetry | None = None

    @property
    def grid(self) -> MapGrid:
        """The map."""
        return self.plan.grid

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of backscatter: polarisations, or elements of the matrix."""
        return self.polarisations if self.polarimetry is None else bands_of(self.polarimetry)

    @property
    def power_bands(self) -> tuple[str, ...]:
        """The bands that are powers: all but the off-diagonal elements, which may be negative."""
        return tuple(name for name in self.bands if diagonals_of(name) is None)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of a block's layers."""
        return (*self.bands, *LAYERS_BEHIND)

    @property
    def halo_px(self) -> int:
        """Radar pixels around those that a block touches, for zero runs, the speckle filter and interpolation."""
        return ZERO_RUN_PX + (self.speckle.window // 2 if self.speckle else 0) + 1


def geocode_block(job: Job, window: Window) -> NDArray[np.float32]:
    """All layers of a window of the map, float32 (layers, rows, cols); a pixel's bits do not depend on the window.

    Backscatter is linear power, NaN = no data, negative where the signal is below the noise; elements beside a matrix's diagonal
    have any sign. Angles are in degrees. The mask's bits are whole numbers; where there is no data, only that bit is set.
    """
    out = np.full((len(job.layers), *window.shape), np.nan, np.float32)
    out[-1] = int(Mask.NO_DATA)
    if job.relief.within(window) is None:
        return out
    lattice = make_lattice(job.plan, window)
    if not _sees(job, lattice):
        return out
    terrain = see_terrain(job, lattice)
    line, pixel = job.scene.grid.line_pixel(terrain.t_s, terrain.slant_range_m)
    radar = _radar_window(job, line, pixel)
    if radar is None:
        return out
    out[: len(job.bands)] = bilinear(_radar_image(job, radar), line - radar.row, pixel - radar.col)
    out[-3], out[-2] = np.degrees(terrain.local_rad), np.degrees(terrain.ellipsoid_rad)
    _finish(job, out, terrain.bits)
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terrain:
    """What the radar sees of a block, (rows, cols) each.

    Parameters
    ----------
    t_s, slant_range_m : float64, zero-Doppler time and range
    local_rad, ellipsoid_rad : float64, incidence on the terrain and on the ellipsoid
    bits : uint8, mask bits LAYOVER, SHADOW and DEM_FILLED
    """

    t_s: Floats
    slant_range_m: Floats
    local_rad: Floats
    ellipsoid_rad: Floats
    bits: NDArray[np.uint8]


def see_terrain(job: Job, lattice: Lattice) -> Terrain:
    """Geometry, angles and visibility of the block of a lattice; NaN where there is no height."""
    margin = _margin_px(job, lattice)
    around, filled = job.dem.filled_heights(job.grid, lattice.window.expand(margin))
    heights_m = _inner(around, margin)
    t_s, slant_range_m = lattice.time_range(heights_m)
    local, ellipsoid = lattice.incidence(heights_m, *terrain_slopes(_inner(around, margin - 1)))
    bits = layover_shadow(around, margin, (slant_range_m, ellipsoid), lattice.away(heights_m))
    bits[_inner(filled, margin)] |= np.uint8(Mask.DEM_FILLED)
    return Terrain(t_s=t_s, slant_range_m=slant_range_m, local_rad=local, ellipsoid_rad=ellipsoid, bits=bits)


def _inner(array: NDArray[T], margin: int) -> NDArray[T]:
    return np.ascontiguousarray(array[margin : array.shape[0] - margin, margin : array.shape[1] - margin])


def _sees(job: Job, lattice: Lattice) -> bool:
    """Whether the radar image can reach the block: its nodes lie around every pixel at every height."""
    line, pixel = job.scene.grid.line_pixel(lattice.nodes[0], lattice.nodes[1])
    line, pixel = line[np.isfinite(line)], pixel[np.isfinite(pixel)]
    lines, pixels = job.scene.shape
    return bool(line.size and line.max() > -1 and line.min() < lines and pixel.max() > -1 and pixel.min() < pixels)


def _margin_px(job: Job, lattice: Lattice) -> int:
    incidence = np.arccos(lattice.nodes[2][np.isfinite(lattice.nodes[2])])
    px_per_m = float(np.nanmax(np.abs(lattice.nodes[8:10])))
    return job.relief.margin_px(lattice.window, (float(incidence.min()), float(incidence.max())), px_per_m)


def _radar_window(job: Job, line: Floats, pixel: Floats) -> Window | None:
    """The part of the radar image that the block's pixels fall into, with the halo; None outside of it."""
    lines, pixels = job.scene.shape
    inside = (line >= -0.5) & (line < lines - 0.5) & (pixel >= -0.5) & (pixel < pixels - 0.5)
    if not inside.any():
        return None
    line, pixel = line[inside], pixel[inside]
    row, col = math.floor(line.min()), math.floor(pixel.min())
    rows, cols = math.floor(line.max()) + 1 - row, math.floor(pixel.max()) + 1 - col
    return Window(row=row, col=col, rows=rows, cols=cols).expand(job.halo_px).clip(job.scene.shape)


def _radar_image(job: Job, window: Window) -> NDArray[np.float32]:
    """All bands in radar geometry, float32 (band, lines, pixels), filtered."""
    if job.polarimetry is not None:
        return matrix_image(job.scene, job.polarimetry, job.quantity, window)
    image = np.empty((len(job.polarisations), *window.shape), np.float32)
    for band, polarisation in enumerate(job.polarisations):
        amplitude = job.scene.calibration[polarisation].amplitude(job.quantity, window)
        if job.scene.pixels != "dn":
            image[band] = scale(job.scene.power(polarisation, window), amplitude)
            if job.speckle is not None:
                image[band] = lee(image[band], job.speckle.looks, window=job.speckle.window)
            continue
        table = job.scene.noise[polarisation] if polarisation in job.denoised else None
        power, noise = calibrate(job.scene.dn(polarisation, window), amplitude, table.power(window) if table is not None else None)
        if job.speckle is not None:
            power = lee(power, job.speckle.looks, window=job.speckle.window, noise=noise if table is not None else None)
        image[band] = power
    return image


def _finish(job: Job, out: NDArray[np.float32], bits: NDArray[np.uint8]) -> None:
    """Put the mask into the last layer, and make a pixel without data that in every layer."""
    bands = out[: len(job.bands)]
    powers = bands[[job.bands.index(name) for name in job.power_bands]]
    bits[(powers <= 0).any(0)] |= np.uint8(Mask.BELOW_NOISE)
    empty = np.isnan(bands).any(0)
    bits[empty] = np.uint8(Mask.NO_DATA)
    out[:-1, empty] = np.nan
    out[-1] = bits
