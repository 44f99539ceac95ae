"""Products and operators of an installed SNAP through esa_snappy, in a process of its own.

SNAP brings a GDAL of its own, which must not be loaded beside rasterio's. So a small script (`bridge_child`) runs under a Python
that has esa_snappy, and hands back what it read through files. A .dim is read without SNAP by `sarseg.raster.dimap`.

What was tried: the script against a stand-in for esa_snappy with the methods, types and refusals of the real one (its calls are
those of esa_snappy 1.1.3 and of SNAP's Java interface), and against the real package esa_snappy 1.1.3 without a SNAP, which must
end in the advice to configure it. It was not run with a SNAP.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sarseg.ard.snap import bridge_child
from sarseg.ard.snap.process import Limits, run_group
from sarseg.errors import InputError, MissingError, UsageError

if TYPE_CHECKING:
    import xarray as xr

_LIMITS = Limits(time_s=6 * 3600.0, stall_s=900.0)
_KEPT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterDescriptor:
    """A parameter as SNAP describes it.

    Parameters
    ----------
    java_type : "java.lang.String", "boolean", "[Ljava.lang.String;", ...
    default : None where there is none
    interval : as SNAP writes it, e.g. "(1, 100]"; "" where there is none
    values : all that are allowed; empty where any is
    """

    name: str
    java_type: str
    default: str | None
    interval: str
    values: tuple[str, ...]
    mandatory: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorDescriptor:
    """An operator as SNAP describes it."""

    name: str
    java_class: str
    sources: tuple[str, ...]
    parameters: tuple[ParameterDescriptor, ...]


def read_product(path: Path, bands: Sequence[str] = (), *, python: Path | None = None) -> xr.Dataset:
    """Read a product of any format that SNAP reads.

    Parameters
    ----------
    bands : names; all when empty
    python : the Python that has esa_snappy; None = this one

    Returns
    -------
    One variable a band, float32 or float64 (y, x), scaled, NaN for no-data, with attributes `units` and `long_name`; coordinates
    x and y (pixel centres) for a product on a map without rotation; attributes `name`, `crs` (WKT), `transform` (a, b, c, d, e, f),
    `start_utc`, `stop_utc`, where they are known.

    InputError when SNAP cannot read it, MissingError when esa_snappy is not installed or not configured.
    """
    import xarray as xr

    if not path.exists():
        raise InputError("no such file", path)
    with tempfile.TemporaryDirectory(prefix="sarseg-bridge-") as folder:
        _run(["read", folder, str(path.absolute()), *bands], python, path)
        header = json.loads(Path(folder, "header.json").read_text(encoding="utf-8"))
        variables = {}
        for at, band in enumerate(header["bands"]):
            values = np.load(Path(folder, f"{at}.npy"))
            if band["nodata"] is not None:
                values[values == values.dtype.type(band["nodata"])] = np.nan
            variables[band["name"]] = (("y", "x"), values, {"units": band["unit"], "long_name": band["description"]})
    attributes = {name: header[name] for name in ("name", "start_utc", "stop_utc", "crs", "transform") if header[name]}
    shapes = {values.shape for _, values, _ in variables.values()}
    return xr.Dataset(variables, _centres(header["transform"], shapes), attributes)


def operators(names: Sequence[str] = (), *, python: Path | None = None) -> dict[str, OperatorDescriptor]:
    """The operators of the installed SNAP by name, all of them when `names` is empty.

    UsageError when one does not exist, MissingError when esa_snappy is not installed or not configured.
    """
    with tempfile.TemporaryDirectory(prefix="sarseg-bridge-") as folder:
        _run(["describe", folder, *names], python, None)
        found = json.loads(Path(folder, "operators.json").read_text(encoding="utf-8"))
    return {
        name: OperatorDescriptor(
            name=name,
            java_class=one["java_class"],
            sources=tuple(one["sources"]),
            parameters=tuple(ParameterDescriptor(**{**each, "values": tuple(each["values"])}) for each in one["parameters"]),
        )
        for name, one in found.items()
    }


def _centres(transform: Sequence[float] | None, shapes: set[tuple[int, int]]) -> dict[str, Any]:
    if transform is None or transform[1] or transform[3] or len(shapes) != 1:
        return {}
    a, _, c, _, e, f = transform
    rows, cols = shapes.pop()
    return {"x": c + a * (np.arange(cols) + 0.5), "y": f + e * (np.arange(rows) + 0.5)}


def _run(words: Sequence[str], python: Path | None, path: Path | None) -> None:
    """Run the script; the errors of `read_product` and `operators`."""
    program = python or Path(sys.executable)
    last = bytearray()

    def sink(stream: str, chunk: bytes) -> bool:
        if stream == "stderr":
            last.extend(chunk)
            del last[:-_KEPT_BYTES]
        return False

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "PROJ_"))}
    try:
        ended = run_group([program, bridge_child.__file__, *words], sink, _LIMITS, environment)
    except OSError as error:
        raise UsageError(f"this Python cannot be started: {error.strerror}", program) from error
    if ended.exit_code == 0:
        return
    said = next(iter(reversed([line.strip() for line in last.decode("utf-8", errors="replace").splitlines() if line.strip()])), "")
    said = said[:300] or f"{ended.why}, exit code {ended.exit_code}"
    if ended.exit_code == bridge_child.NOT_INSTALLED:
        hint = f"{program} -m pip install esa-snappy numpy, then <SNAP>/bin/snappy-conf {program}; a .dim can be read without it"
        raise MissingError(f"esa_snappy is not installed: {said}", program, hint)
    if ended.exit_code == bridge_child.NOT_CONFIGURED:
        hint = f"install SNAP 12 or newer and run <SNAP>/bin/snappy-conf {program} (it may hang at its end: Ctrl-C)"
        raise MissingError(f"esa_snappy does not start: {said}", program, hint)
    if ended.exit_code == bridge_child.NOT_THERE:
        raise InputError(f"SNAP cannot read it: {said}", path) if path is not None else UsageError(f"SNAP: {said}")
    hint = (
        "give Java more memory in esa_snappy.ini (java_max_mem)"
        if "OutOfMemory" in said
        else "try `gpt` on it, and another version of SNAP"
    )
    raise InputError(f"esa_snappy failed: {said}", path, hint)
