"""What PALSAR and PALSAR-2 do in their fine and quad-polarised modes, and what a simulation can be asked for.

From leaders: all of dual polarisation (an ALOS-2 leader, the numbers of an ALOS one). Ours, chosen inside the sensors' published
parameters: the other modes, the noise, the looks' weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sarseg.errors import UsageError
from sarseg.simulate.options import Direction, LandscapeOptions
from sarseg.simulate.palsar_orbit import OrbitShape

MissionName = Literal["alos1", "alos2"]
Level = Literal["1.1", "1.5"]
QUAD = ("HH", "HV", "VH", "VV")
CALIBRATION_DB = -83.0
SLC_DB = -32.0
"""Added to the calibration factor in level 1.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """Sampling and bandwidths, Hz; looks and pixel spacing are those of level 1.5, `looks` the weights of their powers."""

    name: str
    prf_hz: float
    azimuth_hz: float
    sampling_hz: float
    range_hz: float
    spacing_m: float
    looks: tuple[float, ...]


_TWO, _FOUR = (1.0, 0.5), (0.5, 1.0, 1.0, 0.5)  # worth 1.8 and 3.6 looks: 0.9 of their number


@dataclass(frozen=True, slots=True, kw_only=True)
class Mission:
    """A satellite and its files.

    `modes` by the number of polarisations; `day` of a pass by direction, `first_orbit` the number of one on such days; `doppler` is
    the frequency (Hz) at near range and its slope (Hz/km) in the leader; images have it when `squinted`, else they are zero-Doppler.
    """

    name: str
    short: str
    orbit: OrbitShape
    wavelength_m: float
    pulse_s: float
    modes: dict[int, Mode]
    day: dict[Direction, str]
    first_orbit: dict[Direction, int]
    processed: str
    software: str
    facility: str
    doppler: tuple[float, float]
    squinted: bool
    signal_prefix_bytes: int
    attitude_bytes: int
    facility_bytes: tuple[int, ...]


MISSIONS: dict[MissionName, Mission] = {
    "alos1": Mission(
        name="ALOS",
        short="AL1",
        orbit=OrbitShape(revolutions=671, repeat_days=46, inclination_deg=98.16, node_local_h=22.5),
        wavelength_m=0.2360571,
        pulse_s=27e-6,
        modes={
            1: Mode(name="FBS", prf_hz=2141.3276232, azimuth_hz=1507.42, sampling_hz=32e6, range_hz=28e6, spacing_m=6.25, looks=_TWO),
            2: Mode(name="FBD", prf_hz=1901.1406844, azimuth_hz=1507.42, sampling_hz=16e6, range_hz=14e6, spacing_m=12.5, looks=_FOUR),
            4: Mode(name="PLR", prf_hz=1915.7088120, azimuth_hz=1507.42, sampling_hz=16e6, range_hz=14e6, spacing_m=12.5, looks=_FOUR),
        },
        day={"ascending": "2010-07-04", "descending": "2010-07-11"},
        first_orbit={"ascending": 23650, "descending": 23752},
        processed="20110302",
        software="001.001",
        facility="SCMO",
        doppler=(55.0, -0.07444),
        squinted=True,
        signal_prefix_bytes=412,
        attitude_bytes=8192,
        facility_bytes=(*(3072,) * 10, 5000),  # lengths of the first ten [unverified]
    ),
    "alos2": Mission(
        name="ALOS2",
        short="AL2",
        orbit=OrbitShape(revolutions=207, repeat_days=14, inclination_deg=97.92, node_local_h=0.0),
        wavelength_m=0.2424525,
        pulse_s=30.842168e-6,
        modes={
            1: Mode(
                name="FBS", prf_hz=2122.318448518, azimuth_hz=1355.93, sampling_hz=34.9305319e6, range_hz=24.9e6, spacing_m=6.25, looks=_TWO
            ),
            2: Mode(
                name="FBD", prf_hz=2122.318448518, azimuth_hz=1355.93, sampling_hz=34.9305319e6, range_hz=24.9e6, spacing_m=6.25, looks=_TWO
            ),
            4: Mode(
                name="HBQ",
                prf_hz=2122.318448518,
                azimuth_hz=1355.93,
                sampling_hz=52.3957978e6,
                range_hz=38.4e6,
                spacing_m=3.125,
                looks=_TWO,
            ),
        },
        day={"ascending": "2020-07-04", "descending": "2020-07-11"},
        first_orbit={"ascending": 33000, "descending": 33103},
        processed="20200901",
        software="002.024",
        facility="EICS",
        doppler=(-18.5767897, -0.0243354),
        squinted=False,
        signal_prefix_bytes=544,
        attitude_bytes=16384,
        facility_bytes=(325_000, 511_000, 3072, 728_000, 5000),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PalsarOptions:
    """A product: `landscape_dir` is a landscape written before, else `landscape` is made (and written once).

    Level 1.1 is complex in slant range, 1.5 amplitude on the ellipsoid, along the track or, `geocoded`, on a UTM map.
    `incidence_deg` is that on the ellipsoid in the landscape's middle. `doppler_hz`, of ALOS only: the frequency at near range at
    which the image shows its points. Without `speckle` the root of the expected power is written, with phase 0.
    """

    seed: int = 1
    landscape: LandscapeOptions = field(default_factory=LandscapeOptions)
    landscape_dir: Path | None = None
    mission: MissionName = "alos2"
    level: Level = "1.5"
    geocoded: bool = False
    polarisations: tuple[str, ...] = ("HH", "HV")
    direction: Direction = "ascending"
    incidence_deg: float = 39.0
    doppler_hz: float | None = None
    speckle: bool = True
    zipped: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"the seed {self.seed} is negative")
        if self.polarisations not in (("HH",), ("HH", "HV"), QUAD):
            raise UsageError(f"polarisations {'+'.join(self.polarisations) or 'none'}", hint="HH, HH+HV or HH+HV+VH+VV")
        if not 20.0 <= self.incidence_deg <= 50.0:
            raise UsageError(f"an incidence of {self.incidence_deg} degrees", hint="20 to 50")
        if self.geocoded and self.level == "1.1":
            raise UsageError(
                "a geocoded image of level 1.1", hint="level 1.1 is in slant range: leave --geocoded away, or give --level 1.5"
            )
        if self.doppler_hz is not None and not self.about.squinted:
            raise UsageError("a Doppler frequency for ALOS-2", hint="its images are zero-Doppler: leave --doppler away")
        if self.doppler_hz is not None and not abs(self.doppler_hz) <= 500.0:
            raise UsageError(f"a Doppler frequency of {self.doppler_hz} Hz", hint="-500 to 500")

    @property
    def about(self) -> Mission:
        """The satellite."""
        return MISSIONS[self.mission]

    @property
    def mode(self) -> Mode:
        """By the number of polarisations."""
        return self.about.modes[len(self.polarisations)]

    @property
    def doppler(self) -> tuple[float, float]:
        """Frequency (Hz) at near range and slope (Hz/km), as the leader says."""
        constant, slope = self.about.doppler
        return (constant if self.doppler_hz is None else self.doppler_hz), slope
