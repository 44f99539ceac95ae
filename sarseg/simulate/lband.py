"""Backscatter by class at L band: the landscape of `landscape.py` as PALSAR sees it.

Values are ours, tied to ranges of PALSAR forests in publications and to differences between fields of an AIRSAR image of
Flevoland; so is the spread between fields (0.7 dB HH, 0.9 dB HV measured over ten crops).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarseg.grid import MapGrid
from sarseg.simulate import table
from sarseg.simulate.landscape import Landscape
from sarseg.simulate.terrain import Terrain
from sarseg.tiles import Window

POLARISATIONS = ("HH", "HV")
NOISE_SIGMA0_DB = -32.0
"""Noise equivalent sigma0: that of a PALSAR-2 leader, and of the ocean in HV in a mosaic tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LBandBackscatter:
    """One class: pairs are (HH, HV), as in `table.Backscatter`."""

    gamma0_db: tuple[float, float]
    slope_db_per_deg: tuple[float, float]
    field_sd_db: tuple[float, float] = (0.7, 0.9)
    texture_db: float = 0.3


TABLE: dict[str, LBandBackscatter] = {
    "water": LBandBackscatter(gamma0_db=(-18.0, -36.0), slope_db_per_deg=(-0.4, 0.0), field_sd_db=(1.0, 0.5), texture_db=0.5),
    "bare": LBandBackscatter(gamma0_db=(-17.0, -28.0), slope_db_per_deg=(-0.17, -0.08)),
    "grass": LBandBackscatter(gamma0_db=(-14.5, -24.0), slope_db_per_deg=(-0.10, -0.03)),
    "cereal": LBandBackscatter(gamma0_db=(-13.0, -21.0), slope_db_per_deg=(-0.10, -0.03)),
    "broadleaf": LBandBackscatter(gamma0_db=(-8.5, -15.0), slope_db_per_deg=(-0.03, 0.0)),
    "forest": LBandBackscatter(gamma0_db=(-7.5, -12.5), slope_db_per_deg=(0.0, 0.0), texture_db=0.4),
    "built": LBandBackscatter(gamma0_db=(-2.0, -14.0), slope_db_per_deg=(0.0, 0.0), texture_db=3.0),
}
"""By the names of `table.TABLE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LBandGround:
    """A landscape in HH and HV, as `mesh.Ground` asks for it.

    A pixel lies as many standard deviations above its class's mean in HH as it does in VV at C band, and in HV as in VH: fields
    and texture are those of the landscape, whatever sensor looks at it.
    """

    landscape: Landscape

    @property
    def grid(self) -> MapGrid:
        """The landscape's map."""
        return self.landscape.grid

    @property
    def terrain(self) -> Terrain:
        """Its heights."""
        return self.landscape.terrain

    def gamma0(self, window: Window, polarisations: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Linear gamma0 at 39 degrees (NaN = no ground) and dB per degree, each float32 (polarisations, rows, cols)."""
        rows, cols = window.slices
        codes = self.landscape.codes[rows, cols]
        gamma0 = np.full((len(polarisations), *window.shape), np.nan, np.float32)
        slope_db = np.zeros(gamma0.shape, np.float32)
        for at, pol in enumerate(polarisations):
            k = POLARISATIONS.index(pol)
            c_band = self.landscape.gamma0_39[k, rows, cols]
            for code, one in table.of_legend(self.landscape.legend).items():
                here = codes == code
                gamma0[at][here] = 10.0 ** (0.1 * self._class_db(one, k, c_band[here]))
                slope_db[at][here] = TABLE[one.name].slope_db_per_deg[k]
        return gamma0, slope_db

    def _class_db(self, one: table.Backscatter, k: int, c_band: NDArray[np.float32]) -> NDArray[np.float64]:
        """L-band decibels of pixels of one class; a Gaussian variance of v dB^2 raises the linear mean by v ln(10) / 20 dB."""
        bias = np.log(10.0) / 20.0
        lband = TABLE[one.name]
        from_c, to_l = self._variance(one.field_sd_db[k], one.texture_db), self._variance(lband.field_sd_db[k], lband.texture_db)
        deviation = 10.0 * np.log10(c_band.astype(np.float64)) - one.gamma0_db[k] + bias * from_c
        scale = np.sqrt(to_l / from_c) if from_c > 0.0 else 0.0
        return np.asarray(lband.gamma0_db[k] - bias * to_l + scale * deviation)

    def _variance(self, field_sd_db: float, texture_db: float) -> float:
        """Of a class in this landscape, which may lack texture, or any variation."""
        said = self.landscape.description
        return float(said["spread_between_fields"] * field_sd_db**2 + said["texture"] * texture_db**2)
