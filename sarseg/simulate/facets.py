"""The ground's triangles in the image: what each scatters, and its exact overlap with the radar cells.

Radar cell (line, pixel) is the unit square around the pixel's centre. A triangle's power is spread evenly over its image,
so foreshortened ground piles up and layover adds. Compiled kernels only; radar.py prepares their arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Incidence beyond which the class table's slope is not followed: it was made for 30..46 degrees (ours)
_NEAREST_DEG = 10.0
_FARTHEST_DEG = 75.0
_SLIVER = 1e-9
_NUDGE = 1e-4


@njit(nogil=True, cache=True)
def inside_below(u):  # type: ignore[no-untyped-def]
    """Integral from 0 to u of x limited to 0..1."""
    if u <= 0.0:
        return 0.0
    if u < 1.0:
        return 0.5 * u * u
    return u - 0.5


@njit(nogil=True, cache=True)
def spread(lines, pixels, weights, area, image):  # type: ignore[no-untyped-def]
    """Add a triangle's weights (n,) to the cells of `image` (n, lines, pixels) by exact overlap.

    The overlap of a cell is the integral over the line coordinate of the length that the triangle has inside the cell: the
    sum over its edges of the integral of the edge's pixel coordinate, limited to the cell, with the edge's direction as sign.

    `lines`, `pixels` float64 (3,), relative to the image's first centre; `area` is the triangle's area in cells, not 0.
    What falls outside the image is left out.
    """
    first_line = max(0, int(np.floor(min(lines[0], lines[1], lines[2]) + 0.5)))
    last_line = min(image.shape[1] - 1, int(np.floor(max(lines[0], lines[1], lines[2]) + 0.5)))
    first_pixel = max(0, int(np.floor(min(pixels[0], pixels[1], pixels[2]) + 0.5)))
    last_pixel = min(image.shape[2] - 1, int(np.floor(max(pixels[0], pixels[1], pixels[2]) + 0.5)))
    for line in range(first_line, last_line + 1):
        for pixel in range(first_pixel, last_pixel + 1):
            overlap = 0.0
            for i in range(3):
                j = (i + 1) % 3
                rise = lines[j] - lines[i]
                if rise == 0.0:
                    continue
                # the part of the edge between the cell's line borders, as shares of the edge
                a, b = (line - 0.5 - lines[i]) / rise, (line + 0.5 - lines[i]) / rise
                if a > b:
                    a, b = b, a
                start, stop = max(0.0, a), min(1.0, b)
                if stop <= start:
                    continue
                run = pixels[j] - pixels[i]
                left, right = pixels[i] + start * run - pixel + 0.5, pixels[i] + stop * run - pixel + 0.5
                if abs(right - left) > 1e-6:
                    mean = (inside_below(right) - inside_below(left)) / (right - left)
                else:
                    mean = min(1.0, max(0.0, 0.5 * (left + right)))
                overlap += mean * (stop - start) * rise
            share = abs(overlap) / area
            for k in range(weights.shape[0]):
                image[k, line, pixel] += share * weights[k]


@njit(nogil=True, cache=True)
def triangle_power(corners, sight, gamma0, slope_db, visible, weights):  # type: ignore[no-untyped-def]
    """Power that a triangle sends back, into weights[:-1], one a polarisation.

    `corners` (3, 3) in metres, counter-clockwise seen from above; `sight` unit vector from the radar; `gamma0` linear at 39
    degrees, `slope_db` per degree. Power = gamma0(local incidence) x area seen by the radar: gamma0 is the ratio of
    sigma0 to the cosine of the local incidence, and cosine x area is the area seen.
    """
    e0, e1, e2 = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1], corners[1, 2] - corners[0, 2]
    f0, f1, f2 = corners[2, 0] - corners[0, 0], corners[2, 1] - corners[0, 1], corners[2, 2] - corners[0, 2]
    n0, n1, n2 = 0.5 * (e1 * f2 - e2 * f1), 0.5 * (e2 * f0 - e0 * f2), 0.5 * (e0 * f1 - e1 * f0)
    seen_m2 = -(n0 * sight[0] + n1 * sight[1] + n2 * sight[2])
    if seen_m2 <= 0.0:
        for k in range(gamma0.shape[0]):
            weights[k] = 0.0
        return
    area_m2 = np.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
    theta_deg = np.degrees(np.arccos(min(1.0, seen_m2 / area_m2)))
    theta_deg = min(_FARTHEST_DEG, max(_NEAREST_DEG, theta_deg))
    for k in range(gamma0.shape[0]):
        weights[k] = visible * seen_m2 * gamma0[k] * 10.0 ** (0.1 * slope_db[k] * (theta_deg - 39.0))


class Tile(NamedTuple):
    """A tile of ground, arrays over the corners of its map pixels (rows + 1, cols + 1) or over its pixels (rows, cols).

    `points` float64 (..., 3), corners on the terrain, earth-fixed, rows run south and columns east; `place` float64 (..., 4),
    their line, pixel, time, range; `visible` float64, 1 where the radar sees the corner, 0 in shadow; `satellite` float64
    (..., 3), the radar at the corners' times; `gamma0` float32 (polarisations, rows, cols), linear at 39 degrees, NaN = no
    ground; `slope_db` alike, dB per degree.
    """

    points: NDArray[np.float64]
    place: NDArray[np.float64]
    visible: NDArray[np.float64]
    satellite: NDArray[np.float64]
    gamma0: NDArray[np.float32]
    slope_db: NDArray[np.float32]


@njit(nogil=True, cache=True)
def accumulate(tile, origin, image):  # type: ignore[no-untyped-def]
    """Add one tile of ground to the image.

    Parameters
    ----------
    tile : a Tile
    origin : (line, pixel) of the image's first centre
    image : float64 (polarisations + 1, lines, pixels); the last plane counts how often a cell is covered, with the sign of
        the triangle's orientation: 1 inside whatever is folded there
    """
    points, place, visible, satellite = tile.points, tile.place, tile.visible, tile.satellite
    gamma0, slope_db = tile.gamma0, tile.slope_db
    pols = gamma0.shape[0]
    weights, alpha, beta = np.empty(pols + 1), np.empty(pols), np.empty(pols)
    corners, sight = np.empty((3, 3)), np.empty(3)
    lines, pixels = np.empty(3), np.empty(3)
    for row in range(gamma0.shape[1]):
        for col in range(gamma0.shape[2]):
            if np.isnan(gamma0[0, row, col]):
                continue
            for k in range(pols):
                alpha[k], beta[k] = gamma0[k, row, col], slope_db[k, row, col]
            for half in range(2):
                seen = 0.0
                for i in range(3):
                    # the diagonal changes from pixel to pixel, so that the mesh leans nowhere
                    r, c = corner_of(half, i, (row + col) % 2)
                    lines[i] = place[row + r, col + c, 0] - origin[0]
                    pixels[i] = place[row + r, col + c, 1] - origin[1]
                    seen += visible[row + r, col + c] / 3.0
                    for axis in range(3):
                        corners[i, axis] = points[row + r, col + c, axis]
                extent = lines[0] + lines[1] + lines[2] + pixels[0] + pixels[1] + pixels[2]
                if not np.isfinite(extent):
                    continue
                if max(lines[0], lines[1], lines[2]) < -0.5 or min(lines[0], lines[1], lines[2]) > image.shape[1] - 0.5:
                    continue
                norm = 0.0
                for axis in range(3):
                    middle = (corners[0, axis] + corners[1, axis] + corners[2, axis]) / 3.0
                    sight[axis] = middle - satellite[row, col, axis]
                    norm += sight[axis] * sight[axis]
                for axis in range(3):
                    sight[axis] /= np.sqrt(norm)
                triangle_power(corners, sight, alpha, beta, seen, weights)
                signed = signed_area(lines, pixels)
                weights[pols] = -signed  # a right-looking image is a mirrored map
                if abs(signed) < _SLIVER:
                    # ground that lies in one range: move two corners apart by less than matters
                    lines[0] += _NUDGE
                    pixels[1] += _NUDGE
                    signed = signed_area(lines, pixels)
                if signed != 0.0:
                    spread(lines, pixels, weights, abs(signed), image)


@njit(nogil=True, cache=True)
def signed_area(lines, pixels):  # type: ignore[no-untyped-def]
    """Area of a triangle in cells, with the sign of its orientation."""
    return 0.5 * ((lines[1] - lines[0]) * (pixels[2] - pixels[0]) - (pixels[1] - pixels[0]) * (lines[2] - lines[0]))


@njit(nogil=True, cache=True)
def corner_of(half, i, lean):  # type: ignore[no-untyped-def]
    """Row and column (0 or 1) of corner i of a pixel's first or second triangle, counter-clockwise seen from above."""
    if lean == 0:  # cut from north-west to south-east
        if half == 0:
            return (0, 0) if i == 0 else ((1, 0) if i == 1 else (1, 1))
        return (0, 0) if i == 0 else ((1, 1) if i == 1 else (0, 1))
    if half == 0:  # cut from north-east to south-west
        return (0, 0) if i == 0 else ((1, 0) if i == 1 else (0, 1))
    return (0, 1) if i == 0 else ((1, 0) if i == 1 else (1, 1))
