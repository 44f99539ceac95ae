"""Whether what SNAP wrote is worth anything: its files have their full size before the first pixel, and exit code 0 says nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import IDENTITY

from sarseg.ard.snap.failures import SnapFailed
from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.raster.archive import Member
from sarseg.raster.dimap import Dimap, embedded_header, open_bands, parse_dimap, read_header
from sarseg.raster.read import Raster, open_raster
from sarseg.tiles import Window

_MOST_SAMPLES = 1 << 24
_STRIP_ROWS = 64
_CUT_SHORT = "run it again; a full disk and a process that somebody ended are the usual reasons"
_LIMITS_DB = (-60.0, 20.0)
_HIGH_PERCENTILE = 95.0  # half of a dark, denoised scene may be at the floor, and single targets may be brighter than any limit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Band:
    raster: Raster
    name: str
    scale: str  # "linear" or "db" power, "" = anything else


def check_output(path: Path, least_valid_share: float) -> dict[str, float]:
    """The share of valid pixels of every band of a product that SNAP wrote, and that its backscatter is backscatter.

    Valid is what is neither NaN, infinite, the band's no-data value, nor 0, SNAP's no-data in all but name. Of large bands every
    n-th strip of 64 lines is looked at. Backscatter (bands Sigma0, Gamma0, Beta0, linear or dB) must have its 95th percentile
    between -60 and +20 dB.

    SnapFailed (kind "output") when a file is missing or cannot be read, when a band of backscatter, or else every band, has fewer
    valid pixels than `least_valid_share`, or values that are no backscatter.
    """
    if not path.is_file():
        raise _failed("SNAP ended without an error, but wrote no file", path, "does the product have the polarisation and bands asked for?")
    try:
        shares = {band.name: _checked(band, path, least_valid_share) for band in _bands(path)}
    except InputError as error:
        raise _failed(f"SNAP ended without an error, but its output cannot be read: {error.what}", path, _CUT_SHORT) from error
    if not shares:
        raise _failed("SNAP ended without an error, but its output has no bands", path, "does the product have what the graph selects?")
    if max(shares.values()) < least_valid_share:
        raise _empty(path, max(shares, key=lambda name: shares[name]), max(shares.values()))
    return shares


def remove_output(path: Path) -> None:
    """Remove a product, whole or in parts: the file and, of a BEAM-DIMAP, its folder."""
    path.unlink(missing_ok=True)
    if path.suffix == ".dim":
        shutil.rmtree(path.with_suffix(".data"), ignore_errors=True)


def _bands(path: Path) -> Iterator[_Band]:
    if path.suffix == ".dim":
        file = Member(root=path.parent, name=path.name, size_bytes=path.stat().st_size)
        header = read_header(file)
        if not any(band.header for band in header.bands):
            return
        grid = header.grid or MapGrid(crs=None, transform=IDENTITY, shape=header.bands[0].shape)
        units = _units(header)
        for name, raster in open_bands(header, grid, file).items():
            yield _Band(raster=raster, name=name, scale=_scale(name, units.get(name, "")))
        return
    raster = open_raster(path)
    content = embedded_header(path)
    units = _units(parse_dimap(content, path)) if content else {}
    names = tuple(units) if len(units) == len(raster.bands) else raster.bands
    raster = replace(raster, bands=names)
    for name in names:
        yield _Band(raster=raster, name=name, scale=_scale(name, units.get(name, "")))


def _units(header: Dimap) -> Mapping[str, str]:
    return {band.name: band.unit for band in header.bands}


def _scale(name: str, unit: str) -> str:
    if not name.lower().startswith(("sigma0", "gamma0", "beta0")):
        return ""
    return "db" if name.lower().endswith("_db") or unit.lower().endswith("db") else "linear"


def _checked(band: _Band, path: Path, least_valid_share: float) -> float:
    """The share of valid pixels."""
    valid, count = [], 0
    for values in _strips(band):
        count += values.size
        valid.append(values[np.isfinite(values) & (values != 0)])
    found = np.concatenate(valid)
    share = found.size / count
    if band.scale and share < least_valid_share:
        raise _empty(path, band.name, share)
    if band.scale:
        high = float(np.percentile(found, _HIGH_PERCENTILE))
        high_db = high if band.scale == "db" else 10 * np.log10(high) if high > 0 else -np.inf
        if not _LIMITS_DB[0] <= high_db <= _LIMITS_DB[1]:
            raise _failed(
                f"SNAP ended without an error, but the values of {band.name} are no backscatter: 95 % are below {high:.4g}",
                path,
                "is the input calibrated, and does the band's name say what it holds?",
            )
    return share


def _strips(band: _Band) -> Iterator[NDArray[np.float32]]:
    rows, cols = band.raster.grid.shape
    step = _STRIP_ROWS * max(1, -(-rows * cols // _MOST_SAMPLES))
    for row in range(0, rows, step):
        yield band.raster.read(Window(row=row, col=0, rows=min(_STRIP_ROWS, rows - row), cols=cols), [band.name])[0]


def _empty(path: Path, band: str, share: float) -> SnapFailed:
    return _failed(
        f"SNAP ended without an error, but only {share:.2%} of the pixels of {band} hold a value",
        path,
        "does the DEM cover the scene, and does the output's region meet it?",
    )


def _failed(what: str, where: Path, hint: str) -> SnapFailed:
    return SnapFailed(what, where, hint, kind="output", cause=InputError)
