"""Patterns of a made-up landscape: fields, forest, towns, lakes, a river.

Two populations, as in real label maps: fields (log-normal sizes) and natural patches (power law). Shapes and numbers were
tuned to boundary length, patch sizes and class shares of measured label rasters of 5 to 400 km2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.rng import generator

_PIXEL_M = 10.0
_PARISH_HA = 400.0
_TOWN_KM2 = 12.0
_PATCH_SCALE_PX = 300.0
"""Natural patches have no pattern wider than this, so that each part of a landscape has some of each."""
_FIELD_SHARES = {"bare": 0.15, "grass": 0.30, "cereal": 0.33, "broadleaf": 0.22}
_FOREST_SHARE, _BUILT_SHARE, _LAKE_SHARE = 0.22, 0.055, 0.05
_SMOOTH_PX = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Class names' indices into `names`, uint8 (rows, cols), and the number of each pixel's field, int32 (rows, cols)."""

    names: tuple[str, ...]
    index: NDArray[np.uint8]
    field: NDArray[np.int32]


def make_pattern(shape: tuple[int, int], seed: int, names: tuple[str, ...], field_ha: float) -> Pattern:
    """Classes and fields over (rows, cols) of 10 m.

    Parameters
    ----------
    names : the classes in the order of their indices; must hold the seven of the simulator's table
    field_ha : median size of a field
    """
    fields = _fields(shape, field_ha, generator(seed, 1))
    count = int(fields.max()) + 1
    rng = generator(seed, 2)
    crops = np.array([names.index(name) for name in _FIELD_SHARES], np.uint8)
    index = rng.choice(crops, size=count, p=list(_FIELD_SHARES.values()))[fields]
    woods = 0.85 * patchy(shape, 3.2, generator(seed, 3)) + 0.25 * rng.random(count)[fields] * math.sqrt(12.0)
    index[_upper(woods, _FOREST_SHARE)] = names.index("forest")
    index[_upper(_towns(shape, generator(seed, 4)), _BUILT_SHARE)] = names.index("built")
    lakes = _upper(patchy(shape, 3.4, generator(seed, 5)), _LAKE_SHARE)
    index[lakes | _river(shape, generator(seed, 6))] = names.index("water")
    return Pattern(names=names, index=index, field=fields)


def gaussian_field(shape: tuple[int, int], exponent: float, widest_px: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaussian field of unit variance whose power falls as frequency^-exponent, flat below 1 / `widest_px`; float64 (rows, cols).

    It is made on a larger period, so that opposite edges are not alike.
    """
    from scipy import fft

    padded = [fft.next_fast_len(size + min(size, int(widest_px)), real=True) for size in shape]
    frequency = np.hypot(np.fft.fftfreq(padded[0])[:, np.newaxis], np.fft.rfftfreq(padded[1])[np.newaxis, :])
    amplitude = np.maximum(frequency, 1.0 / widest_px) ** (-0.5 * exponent)
    amplitude[0, 0] = 0.0
    spectrum = fft.rfft2(rng.standard_normal(padded, dtype=np.float32)) * amplitude.astype(np.float32)
    values = fft.irfft2(spectrum, s=padded)[: shape[0], : shape[1]].astype(np.float64)
    return np.asarray((values - values.mean()) / max(values.std(), 1e-12))


def patchy(shape: tuple[int, int], exponent: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A smoothed Gaussian field for natural patches."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(gaussian_field(shape, exponent, _PATCH_SCALE_PX, rng), _SMOOTH_PX))


def _upper(values: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    return np.asarray(values > np.quantile(values, 1.0 - share))


def _fields(shape: tuple[int, int], field_ha: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Numbers of the fields: parishes (Voronoi), each with its direction, aspect and field size, cut into bricks (Voronoi)."""
    from scipy.spatial import cKDTree

    rows, cols = shape
    pixel = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float64)
    parishes = max(1, round(rows * cols * _PIXEL_M**2 / (_PARISH_HA * 1e4)))
    centres = rng.random((parishes, 2)) * np.array(shape)
    parish = cKDTree(centres).query(pixel)[1]
    number, out = 0, np.empty(rows * cols, np.int32)
    for one in range(parishes):
        angle, aspect = rng.uniform(0.0, math.pi), math.exp(rng.normal(0.6, 0.3))
        size_px = field_ha * 1e4 / _PIXEL_M**2 * math.exp(rng.normal(0.0, 0.5))
        inside = np.flatnonzero(parish == one)
        if not len(inside):
            continue
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        place = (pixel[inside] - centres[one]) @ turn / np.array([math.sqrt(size_px / aspect), math.sqrt(size_px * aspect)])
        seeds = _bricks(place.min(axis=0), place.max(axis=0), rng)
        out[inside] = number + cKDTree(seeds * [1.0, aspect]).query(place * [1.0, aspect])[1]
        number += len(seeds)
    return out.reshape(shape)


def _bricks(low: NDArray[np.float64], high: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Seeds of a brick wall in units of a field: every second row offset by half, jittered, 15 % dropped."""
    row, col = np.meshgrid(np.arange(np.floor(low[0]) - 1, high[0] + 2), np.arange(np.floor(low[1]) - 1, high[1] + 2), indexing="ij")
    seeds = np.stack([row, col + 0.5 * (row % 2)], axis=-1).reshape(-1, 2)
    seeds += rng.uniform(-0.18, 0.18, seeds.shape)
    kept = seeds[rng.random(len(seeds)) >= 0.15]
    return kept if len(kept) else seeds


def _towns(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Nearness to towns: the greatest of radius / (1 + distance), roughened. One centre in each cell of a 12 km2 lattice."""
    from scipy.ndimage import gaussian_filter

    rows, cols = shape
    side_px = math.sqrt(_TOWN_KM2 * 1e6) / _PIXEL_M
    counts = [max(1, round(size / side_px)) for size in shape]
    lattice = np.stack(np.meshgrid(*(np.arange(count) for count in counts), indexing="ij"), axis=-1).reshape(-1, 2)
    centres = (lattice + rng.uniform(0.15, 0.85, lattice.shape)) / counts * np.array(shape)
    nearness = np.zeros(shape)
    for row, col in centres:
        radius_px = math.exp(rng.normal(math.log(22.0), 0.6))
        distance = np.hypot(np.arange(rows)[:, np.newaxis] - row, np.arange(cols)[np.newaxis, :] - col)
        np.maximum(nearness, radius_px / (1.0 + distance), out=nearness)
    rough = np.exp(0.35 * gaussian_field(shape, 2.5, _PATCH_SCALE_PX, rng))
    return np.asarray(gaussian_filter(nearness * rough, _SMOOTH_PX))


def _river(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """One river from north to south, 7 to 17 pixels wide, meandering with 1.5 and 4 km waves."""
    rows, cols = shape
    row = np.arange(rows)
    phase = rng.uniform(0.0, 2.0 * math.pi, 4)
    middle = cols * rng.uniform(0.3, 0.7) + rng.uniform(-0.15, 0.15) * cols * (row / rows - 0.5)
    middle += 35.0 * np.sin(2.0 * math.pi * row / 400.0 + phase[0]) + 12.0 * np.sin(2.0 * math.pi * row / 150.0 + phase[1])
    slope = np.gradient(middle) if rows > 1 else np.zeros(rows)
    width = 12.0 + 3.5 * np.sin(2.0 * math.pi * row / 310.0 + phase[2]) + 1.5 * np.sin(2.0 * math.pi * row / 90.0 + phase[3])
    half = 0.5 * width * np.sqrt(1.0 + slope**2)
    return np.asarray(np.abs(np.arange(cols)[np.newaxis, :] - middle[:, np.newaxis]) < half[:, np.newaxis])
