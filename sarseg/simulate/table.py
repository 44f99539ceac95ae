"""Backscatter by class at C band: gamma0 at 39 degrees and its slope.

Values are ours, chosen inside measured ranges (Sentinel-1 chips of known land cover, CMOD5.N for the slope of VV over
water, Oh 1992 for bare soil); `basis` says what each was checked against. gamma0(theta) = value + slope x (theta - 39).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sarseg.errors import UsageError
from sarseg.legend import LandClass, Legend

REFERENCE_DEG = 39.0
POLARISATIONS = ("VV", "VH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backscatter:
    """One class: pairs are (VV, VH); `field_sd_db` is the spread between fields, `texture_db` that between pixels."""

    name: str
    color: tuple[int, int, int]
    gamma0_db: tuple[float, float]
    slope_db_per_deg: tuple[float, float]
    field_sd_db: tuple[float, float]
    field_correlation: float
    texture_db: float
    basis: str


TABLE: tuple[Backscatter, ...] = (
    Backscatter(
        name="water",
        color=(38, 104, 186),
        gamma0_db=(-20.0, -30.0),
        slope_db_per_deg=(-0.45, 0.0),
        field_sd_db=(1.0, 0.5),
        field_correlation=0.3,
        texture_db=0.5,
        basis="ours; measured denoised chips of calm water; CMOD5.N at 3 to 4 m/s; VH lies below the noise",
    ),
    Backscatter(
        name="bare",
        color=(176, 132, 92),
        gamma0_db=(-15.0, -22.5),
        slope_db_per_deg=(-0.10, -0.10),
        field_sd_db=(0.7, 0.7),
        field_correlation=0.7,
        texture_db=0.3,
        basis="ours; Oh 1992, moisture 0.10 to 0.25; measured dry hills",
    ),
    Backscatter(
        name="grass",
        color=(156, 204, 101),
        gamma0_db=(-11.0, -17.6),
        slope_db_per_deg=(-0.05, -0.03),
        field_sd_db=(0.6, 0.6),
        field_correlation=0.7,
        texture_db=0.3,
        basis="ours; measured rangeland chips; slopes ours",
    ),
    Backscatter(
        name="cereal",
        color=(238, 205, 70),
        gamma0_db=(-14.5, -18.6),
        slope_db_per_deg=(-0.06, -0.03),
        field_sd_db=(0.7, 0.7),
        field_correlation=0.7,
        texture_db=0.3,
        basis="ours; low VV to VH ratio of stalks, lower half of the measured crop chips",
    ),
    Backscatter(
        name="broadleaf",
        color=(203, 116, 45),
        gamma0_db=(-9.0, -15.8),
        slope_db_per_deg=(-0.02, -0.02),
        field_sd_db=(0.6, 0.6),
        field_correlation=0.7,
        texture_db=0.3,
        basis="ours; measured crop chip of Denmark",
    ),
    Backscatter(
        name="forest",
        color=(24, 94, 50),
        gamma0_db=(-7.3, -12.9),
        slope_db_per_deg=(0.0, 0.0),
        field_sd_db=(0.4, 0.4),
        field_correlation=0.7,
        texture_db=0.4,
        basis="ours; measured tree chips; a volume scatters with constant gamma0",
    ),
    Backscatter(
        name="built",
        color=(200, 40, 60),
        gamma0_db=(-3.5, -11.3),
        slope_db_per_deg=(0.0, 0.0),
        field_sd_db=(1.0, 1.0),
        field_correlation=0.7,
        texture_db=2.0,
        basis="ours; brighter than the measured built chips, which hold gardens and parks",
    ),
)


def legend() -> Legend:
    """The simulator's classes: codes 1.. in the table's order."""
    return Legend(tuple(LandClass(code=code, name=one.name, color=one.color) for code, one in enumerate(TABLE, start=1)))


def of_legend(classes: Legend) -> dict[int, Backscatter]:
    """Backscatter of each code of a legend, by the classes' names; UsageError for a name that the table lacks."""
    by_name = {one.name: one for one in TABLE}
    unknown = [name for name in classes.names if name not in by_name]
    if unknown:
        raise UsageError(f"no backscatter is known for {', '.join(unknown)}", hint=f"the simulator's classes are {', '.join(by_name)}")
    return {code: by_name[name] for code, name in zip(classes.codes, classes.names, strict=True)}


def as_dict(classes: Legend, *, spread: bool, texture: bool) -> dict[str, Any]:
    """The table as JSON: what a test needs to know of the truth."""
    return {
        "quantity": "gamma0",
        "reference_incidence_deg": REFERENCE_DEG,
        "law": "gamma0_db + slope_db_per_deg * (local incidence - reference); class means are of linear power",
        "spread_between_fields": spread,
        "texture": texture,
        "classes": {
            one.name: {
                "code": code,
                "basis": one.basis,
                "texture_db": one.texture_db if texture else 0.0,
                "polarisations": {
                    pol: {
                        "gamma0_db": one.gamma0_db[k],
                        "slope_db_per_deg": one.slope_db_per_deg[k],
                        "field_sd_db": one.field_sd_db[k] if spread else 0.0,
                    }
                    for k, pol in enumerate(POLARISATIONS)
                },
            }
            for code, one in of_legend(classes).items()
        },
    }
