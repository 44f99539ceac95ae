"""Downloads over landscapes whose truth is known, with a geometry of their own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarseg.simulate.jaxa import JaxaOptions, SimulatedMosaic, simulate_jaxa
    from sarseg.simulate.landscape import Landscape, make_landscape, read_landscape, write_landscape
    from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
    from sarseg.simulate.palsar import SimulatedPalsar, simulate_palsar
    from sarseg.simulate.palsar_modes import PalsarOptions
    from sarseg.simulate.sentinel1 import SimulatedScene, simulate_sentinel1

__all__ = [
    "JaxaOptions",
    "Landscape",
    "LandscapeOptions",
    "PalsarOptions",
    "Sentinel1Options",
    "SimulatedMosaic",
    "SimulatedPalsar",
    "SimulatedScene",
    "make_landscape",
    "read_landscape",
    "simulate_jaxa",
    "simulate_palsar",
    "simulate_sentinel1",
    "write_landscape",
]

_MODULES = {
    "landscape": ("Landscape", "make_landscape", "read_landscape", "write_landscape"),
    "options": ("LandscapeOptions", "Sentinel1Options"),
    "jaxa": ("JaxaOptions", "SimulatedMosaic", "simulate_jaxa"),
    "palsar": ("SimulatedPalsar", "simulate_palsar"),
    "palsar_modes": ("PalsarOptions",),
    "sentinel1": ("SimulatedScene", "simulate_sentinel1"),
}
_NAMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
