"""The three sub-swaths of the interferometric wide swath: where they meet, how they are processed, their noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.simulate.speckle import swath_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Swath:
    """Processing of one sub-swath, as the nine IW GRDH annotations read say; `noise_db` is the noise equivalent sigma0.

    Noise from near to far at nine equal steps: (VV, VH), means of S1A 2021-01-19 (data take 043ED0); `far_deg` and
    `near_deg` bound it. `scallop` is the greatest azimuth noise factor; the least is 1.
    """

    name: str
    near_deg: float
    far_deg: float
    range_look_hz: float
    range_total_hz: float
    range_overlap_hz: float
    range_hamming: float
    azimuth_hz: float
    azimuth_hamming: float
    prf_hz: float
    scallop: float
    noise_vh_db: tuple[float, ...]
    vv_below_vh_db: float


SWATHS = (
    Swath(
        name="IW1",
        near_deg=30.65,
        far_deg=36.5,
        range_look_hz=14.1e6,
        range_total_hz=56.5e6,
        range_overlap_hz=3.500262e6,
        range_hamming=0.70,
        azimuth_hz=327.0,
        azimuth_hamming=0.70,
        prf_hz=1717.128973878037,
        scallop=1.14,
        noise_vh_db=(-21.8, -23.0, -23.4, -23.5, -23.7, -24.0, -24.2, -23.9, -22.9),
        vv_below_vh_db=0.6,
    ),
    Swath(
        name="IW2",
        near_deg=36.5,
        far_deg=41.6,
        range_look_hz=12.1e6,
        range_total_hz=48.3e6,
        range_overlap_hz=3.050938e6,
        range_hamming=0.73,
        azimuth_hz=313.0,
        azimuth_hamming=0.75,
        prf_hz=1451.627112193990,
        scallop=1.10,
        noise_vh_db=(-22.9, -24.5, -25.4, -25.9, -26.1, -26.1, -25.8, -25.0, -23.7),
        vv_below_vh_db=0.6,
    ),
    Swath(
        name="IW3",
        near_deg=41.6,
        far_deg=46.05,
        range_look_hz=10.7e6,
        range_total_hz=42.79e6,
        range_overlap_hz=2.678569e6,
        range_hamming=0.75,
        azimuth_hz=314.0,
        azimuth_hamming=0.75,
        prf_hz=1685.817302492702,
        scallop=1.115,
        noise_vh_db=(-25.2, -27.5, -28.8, -29.3, -29.2, -28.4, -27.0, -24.8, -22.0),
        vv_below_vh_db=0.4,
    ),
)


def columns(incidence_deg: NDArray[np.float64]) -> list[tuple[Swath, int, int]]:
    """The sub-swaths of an image with their first and last column, from near to far."""
    number = swath_of(incidence_deg)
    parts = []
    for k, swath in enumerate(SWATHS):
        inside = np.flatnonzero(number == k)
        if len(inside):
            parts.append((swath, int(inside[0]), int(inside[-1])))
    return parts


def noise_sigma0(swath: Swath, polarisation: str, incidence_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Noise equivalent sigma0, linear, float64 like the incidence (ellipsoidal, degrees)."""
    nodes = np.linspace(swath.near_deg, swath.far_deg, len(swath.noise_vh_db))
    db = np.interp(incidence_deg, nodes, swath.noise_vh_db) - (swath.vv_below_vh_db if polarisation == "VV" else 0.0)
    return np.asarray(10.0 ** (0.1 * db))
