"""Orbit files (EOF) of the Copernicus POD service: reading, and choosing one for a scene (docs/sentinel1.md 1)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sarseg.errors import InputError, MissingError
from sarseg.radar.orbit import Orbit, seconds_between
from sarseg.scene.model import Scene
from sarseg.scene.safe import parse, utc

MARGIN_VECTORS = 4
"""Vectors that an orbit file must hold beyond each end of the scene: half of the 8 that an interpolation takes."""

_KEEP_VECTORS = 12  # kept beyond each end, so that a day's orbit does not go through every solve
_NAME = re.compile(
    r"(?P<mission>S1[A-D])_OPER_AUX_(?P<kind>POEORB|RESORB|PREORB)_OPOD_(?P<created>\d{8}T\d{6})"
    r"_V(?P<start>\d{8}T\d{6})_(?P<stop>\d{8}T\d{6})\.EOF",
    re.IGNORECASE,
)
_PREFERENCE = {"POEORB": 2, "RESORB": 1, "PREORB": 0}
_HINT = "get one from https://s1qc.asf.alaska.edu/aux_poeorb/ or from the Copernicus Data Space"


def read_eof(path: str | Path, scene: Scene) -> Orbit:
    """The state vectors of an orbit file around a scene, with the scene's epoch.

    The span is that of the vectors present: header and `count` are wrong in real files.

    Raises
    ------
    InputError when the file is absent, damaged, of another mission, or does not reach 4 vectors beyond both ends of the scene
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such orbit file", path, _HINT)
    root = parse(path.read_bytes(), str(path))
    mission = root.text("Earth_Explorer_Header/Fixed_Header/Mission")
    if mission.lower().replace("sentinel-1", "s1") != scene.mission.lower():
        raise InputError(f"an orbit of {mission} for a scene of {scene.mission}", path, _HINT)
    vectors = root.all("Data_Block/List_of_OSVs/OSV")
    times = [vector.time("UTC") for vector in vectors]
    t_s = np.array([seconds_between(time, scene.grid.epoch_utc) for time in times])
    end_s = seconds_between(scene.stop_utc, scene.grid.epoch_utc)
    before, after = np.flatnonzero(t_s <= 0.0), np.flatnonzero(t_s >= end_s)
    if len(before) < MARGIN_VECTORS or len(after) < MARGIN_VECTORS:
        held = f"{times[0]} to {times[-1]}" if times else "nothing"
        raise InputError(f"the orbit file holds {held}, too little around {scene.start_utc} to {scene.stop_utc}", path, _HINT)
    if not np.all(np.diff(t_s) > 0):
        raise InputError("the times of the orbit file do not increase", path, _HINT)
    keep = range(max(0, before[-1] + 1 - _KEEP_VECTORS), min(len(vectors), after[0] + _KEEP_VECTORS))
    return Orbit(
        epoch_utc=scene.grid.epoch_utc,
        t_s=t_s[keep.start : keep.stop],
        position_m=np.array([[vectors[i].number(axis) for axis in ("X", "Y", "Z")] for i in keep]),
        velocity_m_s=np.array([[vectors[i].number(axis) for axis in ("VX", "VY", "VZ")] for i in keep]),
        source=path.name,
    )


def choose_eof(place: str | Path, scene: Scene) -> Orbit:
    """The best orbit for a scene from a file, or from all `*.EOF` of a folder.

    Of the mission's files that reach 4 vectors beyond the scene: precise before restituted before predicted, then the newest.

    Raises
    ------
    InputError for a file that does not fit, MissingError when no file of a folder does
    """
    place = Path(place)
    if not place.is_dir():
        return read_eof(place, scene)
    named = [(match, path) for path in sorted(place.rglob("*")) if (match := _NAME.fullmatch(path.name)) is not None]
    fitting = [(match, path) for match, path in named if _may_fit(match, scene)]
    fitting.sort(key=lambda item: (_PREFERENCE[item[0]["kind"].upper()], item[0]["created"]), reverse=True)
    for _, path in fitting:
        try:
            return read_eof(path, scene)
        except InputError:
            continue  # its name promises more than it holds; the next best may do
    raise MissingError(f"none of {len(named)} orbit files covers {scene.id}", place, _HINT)


def _may_fit(match: re.Match[str], scene: Scene) -> bool:
    """By name; the validity in a name is cut to whole seconds."""
    second = np.timedelta64(1, "s")
    start, stop = (utc(_iso(match[key])) for key in ("start", "stop"))
    return bool(match["mission"].upper() == scene.mission and start - second <= scene.start_utc and scene.stop_utc <= stop + second)


def _iso(compact: str) -> str:
    date, time = compact.upper().split("T")
    return f"{date[:4]}-{date[4:6]}-{date[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}"
