"""What a simulation can be asked for; defaults stand here only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sarseg.errors import UsageError
from sarseg.tiles import Window

Variation = Literal["full", "fields", "none"]
Direction = Literal["ascending", "descending"]
Speckle = Literal["grdh", "none"]
MOST_PX = 8192
"""Side of a landscape whose classes are made up: the memory grows with its square."""
_PLACES = "give a longitude of -180 to 180 and a latitude of -80 to 84, where UTM ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class LandscapeOptions:
    """A landscape: made up, or from given heights and land cover.

    `size_px` is the side of the made-up map in pixels of 10 m, around (`lon_deg`, `lat_deg`), in UTM. `relief_m` is the range of its
    heights above `base_m` (ellipsoidal); `steepest_deg`, when given, sets the steepest slope instead. `variation`: spread
    between fields and texture between pixels ("full"), the first only, or every pixel at its class's mean ("none").
    `field_ha` is the median size of a field: 3 to 15 ha were measured, up to 44 for wheat.
    `dem` with a geoid grid for heights above the sea; `landcover` is a class raster in metres whose class names are known.
    """

    seed: int = 1
    size_px: int = 800
    lon_deg: float = 11.2
    lat_deg: float = 48.1
    relief_m: float = 80.0
    steepest_deg: float | None = None
    base_m: float = 60.0
    field_ha: float = 15.0
    variation: Variation = "full"
    dem: Path | None = None
    landcover: Path | None = None
    geoid: Path | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"the seed {self.seed} is negative")
        if not 32 <= self.size_px <= MOST_PX:
            raise UsageError(f"a landscape of {self.size_px} pixels", hint=f"give a side of 32 to {MOST_PX}")
        if not (-180.0 <= self.lon_deg <= 180.0 and -80.0 <= self.lat_deg <= 84.0):
            raise UsageError(f"a landscape at longitude {self.lon_deg:g}, latitude {self.lat_deg:g}", hint=_PLACES)
        if not (0.0 <= self.relief_m <= 9000.0 and 0.0 <= (self.steepest_deg or 0.0) <= 60.0):
            raise UsageError(f"relief {self.relief_m:g} m, slope {self.steepest_deg} degrees", hint="relief 0 to 9000, slope 0 to 60")
        if not 0.1 <= self.field_ha <= 400.0:
            raise UsageError(f"fields of {self.field_ha} ha", hint="give 0.1 to 400")
        for what, path in (("land cover", self.landcover), ("a geoid", self.geoid)):
            if path is not None and self.dem is None:
                raise UsageError(f"{what} without heights", path, "give --dem too")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel1Options:
    """A scene over a landscape: `landscape_dir` is one written before, else `landscape` is made (and written once).

    With `template`, a product whose annotation is kept and whose pixels are made, `window` limits the lines and pixels filled;
    `direction` and `incidence_deg` (ellipsoidal, of the landscape's centre) are for scenes of our own.
    `speckle` "none" writes the root of the expected power of signal and noise.
    """

    seed: int = 1
    landscape: LandscapeOptions = field(default_factory=LandscapeOptions)
    landscape_dir: Path | None = None
    polarisations: tuple[str, ...] | None = None
    direction: Direction = "ascending"
    incidence_deg: float = 39.0
    template: Path | None = None
    window: Window | None = None
    speckle: Speckle = "grdh"
    zipped: bool = False

    def __post_init__(self) -> None:
        if self.polarisations is not None and (not self.polarisations or set(self.polarisations) - {"VV", "VH"}):
            raise UsageError(f"polarisations {self.polarisations}", hint="VV, VH or both")
        if not 30.0 <= self.incidence_deg <= 46.0:
            raise UsageError(f"an incidence of {self.incidence_deg} degrees", hint="the IW swath sees 30 to 46 degrees")
        if self.window is not None and self.template is None:
            raise UsageError("a window without a template", hint="give --template, or choose the size of the landscape")
