"""Calibration of PALSAR images: one factor, and the incidence angle for what is not sigma0 (docs/palsar.md 7)."""

from __future__ import annotations

import numpy as np

from sarseg.errors import InputError
from sarseg.radar.ellipsoid import EllipsoidMap
from sarseg.radar.geometry import RadarGrid, ecef_from_geodetic, on_ellipsoid, zero_doppler
from sarseg.radar.lut import Calibration, LineTimes, LutVector, Quantity
from sarseg.radar.orbit import Floats, Orbit
from sarseg.raster.palsar import OTHER_WIDE_DB, STANDARD_DB, WIDE_UNTIL
from sarseg.scene.palsar_geometry import incidence_rad
from sarseg.scene.palsar_leader import Leader

_SLC_DB = -32.0
_NODES = 33, 65  # lines and pixels with an angle; between them it is linear to a ten-thousandth of a dB
_SAME_DB = 0.005
_NEW_FROM = np.datetime64("2009-01-09")

_OLD_DB: dict[tuple[str, float, str], float] = {
    ("FBS", 9.9, "HH"): -83.16,
    ("FBS", 21.5, "HH"): -83.55,
    ("FBS", 34.3, "HH"): -83.4,
    ("FBS", 41.5, "HH"): -83.65,
    ("FBS", 50.8, "HH"): -83.30,
    ("FBD", 34.3, "HH"): -83.2,
    ("FBD", 34.3, "HV"): -80.2,
    ("FBD", 41.5, "HH"): -83.19,
    ("FBD", 41.5, "HV"): -80.19,
}
"""Factors of PALSAR products that were processed before 2009-01-09, by mode, off-nadir angle and polarisation (JAXA)."""

_OLD_PLR_DB = -83.40


def published_db(leader: Leader, mode: str, polarisation: str, processed: np.datetime64 | None) -> tuple[float, ...]:
    """Factors that JAXA has published for such a product, usually one; empty = unknown."""
    if leader.mission == "ALOS2":
        return (STANDARD_DB, OTHER_WIDE_DB) if leader.wide and (processed is None or processed < WIDE_UNTIL) else (STANDARD_DB,)
    if processed is None:
        return ()
    if processed >= _NEW_FROM:
        return (STANDARD_DB,)
    off_nadir = leader.summary.maybe("off_nadir_deg")
    if mode == "PLR" and off_nadir is not None and abs(off_nadir - 21.5) < 0.2:
        return (_OLD_PLR_DB,)
    found = [
        value
        for (name, angle, band), value in _OLD_DB.items()
        if name == mode and band == polarisation and off_nadir is not None and abs(angle - off_nadir) < 0.2
    ]
    return tuple(found)


def factor_db(leader: Leader, mode: str, polarisation: str, processed: np.datetime64 | None) -> tuple[float, tuple[str, ...]]:
    """The factor that makes sigma0 of DN^2 or |I + jQ|^2, -32 dB of level 1.1 included, and warnings.

    The record's own factor counts; what JAXA has published only where it is blank. InputError where neither is known.
    """
    published, recorded = published_db(leader, mode, polarisation, processed), leader.factor_db
    notes: tuple[str, ...] = ()
    if recorded is None:
        if len(published) != 1:
            raise InputError("the leader has no calibration factor", leader.where, "order the product again")
        recorded = published[0]
        notes = (f"{polarisation}: the leader has no calibration factor; JAXA's {recorded:g} dB is taken",)
    elif published and min(abs(value - recorded) for value in published) > _SAME_DB:
        words = " or ".join(f"{value:g}" for value in published)
        notes = (f"{polarisation}: the leader's calibration factor is {recorded:g} dB, JAXA has published {words} dB for such products",)
    if leader.esa:
        notes += (f"{polarisation}: calibrated as JAXA's products; ESA's factor may differ",)
    return recorded + (_SLC_DB if leader.level == "1.1" else 0.0), notes


def _nodes(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    line, pixel = (np.unique(np.linspace(0, side - 1, min(side, count))) for side, count in zip(shape, _NODES, strict=True))
    return line, pixel


def slant_incidence(grid: RadarGrid, orbit: Orbit, where: str) -> tuple[Floats, Floats, Floats]:
    """Lines, pixels, and the ellipsoid's incidence angle there (rad) of an image in slant range."""
    line, pixel = _nodes(grid.shape)
    mesh = np.meshgrid(line, pixel, indexing="ij")
    slant = grid.slant_range_m(*mesh)
    t_s = grid.line_time_s(mesh[0])
    points = on_ellipsoid(t_s, slant, orbit, grid.look_side, grid.doppler)
    if not np.isfinite(points).all():
        raise InputError("the slant ranges do not meet the ground", where, "the product is damaged: download it again")
    return line, pixel, incidence_rad(points, t_s, orbit)


def map_incidence(image: EllipsoidMap, orbit: Orbit) -> tuple[Floats, Floats, Floats]:
    """Lines, pixels, and the ellipsoid's incidence angle there (rad) of an image on the ellipsoid."""
    line, pixel = _nodes(image.shape)
    points = ecef_from_geodetic(*image.lonlat(*np.meshgrid(line, pixel, indexing="ij")), 0.0)
    return line, pixel, incidence_rad(points, zero_doppler(points, orbit)[0], orbit)


def make_calibration(factor: float, angles: tuple[Floats, Floats, Floats]) -> Calibration:
    """Amplitude tables of a factor in dB: beta0 = sigma0 / sin, gamma0 = sigma0 / cos of the incidence on the ellipsoid."""
    line, pixel, theta = angles
    sigma0 = 10.0 ** (-factor / 20.0)
    values: dict[Quantity, Floats] = {
        "sigma0": np.full(theta.shape, sigma0),
        "beta0": sigma0 * np.sqrt(np.sin(theta)),
        "gamma0": sigma0 * np.sqrt(np.cos(theta)),
    }
    return Calibration(
        times=LineTimes(first_s=0.0, interval_s=1.0),  # the tables count lines, not seconds: a map's lines have no times
        tables={
            quantity: tuple(LutVector(t_s=float(at), pixel=pixel, value=row) for at, row in zip(line, rows, strict=True))
            for quantity, rows in values.items()
        },
    )
