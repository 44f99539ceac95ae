"""What SNAP would download by itself, put in place beforehand: the EGM96 grid and orbit files (docs/snap.md 4)."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sarseg.errors import InputError, MissingError
from sarseg.raster.dem import Dem
from sarseg.raster.geoid import Geoid, open_geoid
from sarseg.scene.model import Scene

_STEP_DEG = 0.25
_LATITUDES, _LONGITUDES = 721, 1441
_BLOCKS, _LINES_A_BLOCK, _A_LINE = 9, 20, 8
_HEADER = "   -90.000000   90.000000    0.000000  360.000000    0.250000    0.250000"  # SNAP skips 75 characters
_ORBIT = re.compile(r"S1[A-D]_OPER_AUX_(POEORB|RESORB)_OPOD_\d{8}T\d{6}_V\d{8}T\d{6}_\d{8}T\d{6}\.EOF")
_ORBIT_TYPES = {"POEORB": "Sentinel Precise (Auto Download)", "RESORB": "Sentinel Restituted (Auto Download)"}
_BEFORE = np.timedelta64(180, "s")  # SNAP looks in the month of the product's first state vector, a minute or two before the scene


def prepare_userdir(folder: Path, *, geoid: Geoid, orbit: tuple[Path, Scene] | None = None) -> Path:
    """Fill a new user directory of SNAP: `auxdata/dem/egm96/ww15mgh_b.zip` and the orbit file of a scene.

    Parameters
    ----------
    geoid : what the EGM96 file is made from
    orbit : EOF file and the scene it is for

    InputError when SNAP would not find the orbit file by its name.
    """
    if orbit is not None:
        _put_orbit(folder, *orbit)
    egm96 = folder / "auxdata" / "dem" / "egm96"
    egm96.mkdir(parents=True)
    write_egm96(geoid, egm96 / "ww15mgh_b.zip")
    return folder


def geoid_for_snap(dem: Dem, file: Path | None) -> Geoid:
    """The geoid that SNAP is given: EGM96, else that of the DEM's heights. MissingError when there is neither.

    SNAP reads its EGM96 file with every external DEM, and uses it where the DEM ends; there the product has no data.
    """
    try:
        return open_geoid("egm96", file)
    except MissingError:
        if "fill" in dem.geoids:
            return dem.geoids["fill"]
        raise


def write_egm96(geoid: Geoid, path: Path) -> None:
    """A grid of undulations as SNAP reads it: ww15mgh_b.grd in a zip, text, 721 latitudes from the north, 0 to 360 degrees east."""
    lat = 90.0 - _STEP_DEG * np.arange(_LATITUDES)
    lon = _STEP_DEG * np.arange(_LONGITUDES)
    undulation_m = geoid.undulation_m(*np.meshgrid(lon, lat))
    if not np.isfinite(undulation_m).all():
        raise InputError("the geoid grid does not cover the Earth, as SNAP wants it", geoid.raster.path, "give us_nga_egm96_15.tif")
    latitude = "\n".join(_latitude_lines())
    text = "\n".join([f"{_HEADER:<74}", *(latitude % tuple(row) for row in undulation_m.tolist()), ""])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ww15mgh_b.grd", text)


def _latitude_lines() -> Iterator[str]:
    """Format of the 191 lines of a latitude: 9 blocks of 20 lines of 8 values, a blank line after each, the last value, a blank line."""
    for _ in range(_BLOCKS):
        yield from [" " + _A_LINE * "%9.3f"] * _LINES_A_BLOCK
        yield ""
    yield " %9.3f"
    yield ""


def orbit_file(place: Path, name: str) -> Path:
    """The file `name` that was chosen from `place`, itself or a folder of orbit files."""
    return place if place.is_file() else next(path for path in sorted(place.rglob("*")) if path.name == name)


def orbit_type(file: Path) -> str:
    """Value of Apply-Orbit-File's `orbitType` for an orbit file; InputError when SNAP would not find it by its name."""
    return _ORBIT_TYPES[_orbit_kind(file)]


def _orbit_kind(file: Path) -> str:
    found = _ORBIT.fullmatch(file.name)
    if found is None:
        hint = "give a precise or restituted one under its own name, or use --engine native"
        raise InputError("SNAP finds orbit files by their names, and does not know this one", file, hint)
    return found[1]


def _put_orbit(folder: Path, file: Path, scene: Scene) -> None:
    kind = _orbit_kind(file)
    for time in (scene.start_utc, scene.start_utc - _BEFORE):
        year, month = str(time)[:7].split("-")
        place = folder / "auxdata" / "Orbits" / "Sentinel-1" / kind / scene.mission / year / month
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place / file.name)
