"""WGS 84 for the simulator: geodetic coordinates, earth-fixed coordinates, the normal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sarseg.constants import WGS84_A_M, WGS84_B_M, WGS84_E2

_SECOND_E2 = WGS84_E2 / (1.0 - WGS84_E2)


def normal(lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors that point up from the ellipsoid, float64 (..., 3)."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0.0 * lon], axis=-1)


def surface(lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Earth-fixed positions in metres at height 0, float64 (..., 3); a point at height h is this plus h times `normal`."""
    up = normal(lon_deg, lat_deg)
    curvature_m = WGS84_A_M / np.sqrt(1.0 - WGS84_E2 * up[..., 2:] ** 2)
    return np.asarray(up * curvature_m * np.array([1.0, 1.0, 1.0 - WGS84_E2]))


def geodetic(ecef_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude in degrees and ellipsoidal height in metres of earth-fixed points (..., 3).

    Bowring's formula (Survey Review 28, 1985), applied twice: exact to a nanometre below 100 km of height.
    """
    x, y, z = ecef_m[..., 0], ecef_m[..., 1], ecef_m[..., 2]
    axis_m = np.hypot(x, y)
    reduced = np.arctan2(z * WGS84_A_M, axis_m * WGS84_B_M)
    for _ in range(2):
        lat = np.arctan2(z + _SECOND_E2 * WGS84_B_M * np.sin(reduced) ** 3, axis_m - WGS84_E2 * WGS84_A_M * np.cos(reduced) ** 3)
        reduced = np.arctan2(WGS84_B_M * np.sin(lat), WGS84_A_M * np.cos(lat))
    curvature_m = WGS84_A_M / np.sqrt(1.0 - WGS84_E2 * np.sin(lat) ** 2)
    height_m = axis_m * np.cos(lat) + z * np.sin(lat) - WGS84_A_M**2 / curvature_m
    return np.degrees(np.arctan2(y, x)), np.degrees(lat), height_m
