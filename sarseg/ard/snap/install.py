"""Finds SNAP's gpt and asks which version it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sarseg.ard.snap.failures import explain_text
from sarseg.ard.snap.operators import VERSIONS
from sarseg.ard.snap.process import Limits, run_group
from sarseg.errors import MissingError, UsageError

_DIAG_S = 180.0
_MOST_DIAG_BYTES = 1 << 20
_VERSION = re.compile(r"^SNAP Release version (\d+(?:\.\d+)*)", re.MULTILINE)
_UBUNTU = Path("/snap/bin")  # of the package manager of that name
_GET = (
    "install ESA SNAP 10 or newer from step.esa.int and name its gpt with --gpt, set SNAP_HOME, or put its bin folder on the PATH;"
    " without SNAP: --engine native"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snap:
    """An installed SNAP."""

    gpt: Path
    version: tuple[int, ...]

    @property
    def major(self) -> int:
        """10, 11, ..."""
        return self.version[0]

    @property
    def known(self) -> int:
        """The version whose operators are known: its own, or the last one before."""
        return min(self.major, VERSIONS[-1])


def find_snap(gpt: Path | None = None) -> Snap:
    """SNAP as the user names it, else in $SNAP_HOME, else on the PATH; its version is asked once a process.

    Parameters
    ----------
    gpt : the program, or the folder where SNAP is installed

    Raises
    ------
    UsageError : `gpt` is no program
    MissingError : no SNAP, one that does not start, or one older than 10
    """
    if gpt is not None:
        program = next((path for path in _programs(gpt) if path.is_file()), None)
        if program is None:
            raise UsageError("no gpt", gpt, "--gpt takes the program gpt, or the folder where SNAP is installed")
        return _ask(program.absolute())
    home = os.environ.get("SNAP_HOME")
    if home:
        program = next((path for path in _programs(Path(home)) if path.is_file()), None)
        if program is None:
            raise MissingError("SNAP_HOME has no bin/gpt", home, _GET)
        return _ask(program.absolute())
    others = []
    for program in _on_path():
        try:
            return _ask(program)
        except MissingError as error:  # another program of that name may stand before SNAP's
            others.append(error)
    if others:
        raise others[0]
    raise MissingError("SNAP is not found", hint=_GET)


def _programs(place: Path) -> Iterator[Path]:
    yield place
    yield place / "bin" / "gpt"
    yield place / "gpt"


def _on_path() -> Iterator[Path]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = Path(folder) / "gpt"
        if folder and program.is_file() and os.access(program, os.X_OK) and _UBUNTU not in (Path(folder), program.resolve().parent):
            yield program.absolute()


def _ask(program: Path) -> Snap:
    if not os.access(program, os.X_OK):
        raise MissingError("no permission to run gpt", program, f"chmod +x {program}")
    return _asked(program, program.stat().st_mtime_ns)


@cache
def _asked(program: Path, _changed: int) -> Snap:
    printed = bytearray()

    def sink(_stream: str, chunk: bytes) -> bool:
        printed.extend(chunk)
        return len(printed) > _MOST_DIAG_BYTES

    try:
        ended = run_group([program, "--diag"], sink, Limits(time_s=_DIAG_S, stall_s=_DIAG_S))
    except OSError as error:
        raise MissingError(f"gpt cannot be started: {error.strerror}", program, _GET) from error
    text = printed.decode("utf-8", errors="replace")
    found = _VERSION.search(text)
    if found is None:
        known = explain_text(text.splitlines())
        if known is not None:
            raise MissingError(f"gpt does not start: {known[1]}", program, known[0].advice)
        said = next((line.strip() for line in text.splitlines() if line.strip()), f"{ended.why}, exit code {ended.exit_code}")
        raise MissingError(f"this gpt does not tell a version of SNAP, but: {said[:200]}", program, _GET)
    version = tuple(map(int, found[1].split(".")))
    if version[0] < VERSIONS[0]:
        raise MissingError(f"SNAP {found[1]} is too old", program, _GET)
    return Snap(gpt=program, version=version)
