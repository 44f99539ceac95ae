"""The physics of a side-looking radar: orbit, geometry, lookup tables, resampling. Arrays and frozen values only, no files."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {
    "Calibration": "sarseg.radar.lut",
    "Doppler": "sarseg.radar.geometry",
    "EllipsoidGrid": "sarseg.radar.ellipsoid",
    "Lattice": "sarseg.radar.lattice",
    "Noise": "sarseg.radar.lut",
    "Orbit": "sarseg.radar.orbit",
    "RadarGrid": "sarseg.radar.geometry",
    "bilinear": "sarseg.radar.resample",
    "ecef_from_geodetic": "sarseg.radar.geometry",
    "make_lattice": "sarseg.radar.lattice",
    "plan_lattice": "sarseg.radar.lattice",
    "range_doppler": "sarseg.radar.geometry",
    "zero_doppler": "sarseg.radar.geometry",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
