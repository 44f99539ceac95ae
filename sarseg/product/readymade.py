"""Terrain-corrected backscatter that others make: HyP3, ASF's ALOS PALSAR RTC, OPERA RTC-S1 (docs/products.md 3 to 5)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sarseg.errors import InputError, UsageError
from sarseg.masks import Mask
from sarseg.product.gather import BackscatterScale, Gathered, backscatter, describe, look, odd_codes, same_grid, time_range
from sarseg.product.model import INCIDENCE_BAND, POLARISATIONS, Conversion, MaskCodes, Product
from sarseg.raster.archive import Member
from sarseg.raster.read import Raster

HYP3 = re.compile(
    r"^(?P<base>S1[ABCD]_(?P<beam>IW|EW|S\d|SM)_(?P<time>\d{8}T\d{6})_(?P<pol>[DS][VH])(?P<orbit>[PRO])_RTC(?P<spacing>\d+)_[A-Z]"
    r"_(?P<radiometry>[gs])(?P<scale>[pda])[uw](?P<filter>[nf])[ec][dm]_[0-9A-Z]{4})_(?P<layer>VV|VH|HH|HV|inc_map|ls_map)\.tiff?$"
)
ASF = re.compile(r"^(?P<base>AP_(?P<orbit>\d{5})_(?:FBS|FBD|PLR)_F\d{4}_RT[12])[._](?P<layer>VV|VH|HH|HV|inc_map|ls_map)\.tiff?$")
OPERA = re.compile(
    r"^(?P<base>OPERA_L2_RTC-S1_(?P<burst>T\d{3}-\d{6}-(?:IW|EW)\d)_(?P<time>\d{8}T\d{6})Z_\d{8}T\d{6}Z_(?P<platform>S1[ABCD])_\d+_v\d+\.\d+)"
    r"_(?P<layer>VV|VH|HH|HV|mask)\.tiff?$"
)
_OPERA_STATIC = re.compile(r"^OPERA_L2_RTC-S1-STATIC_(?P<burst>T\d{3}-\d{6}-(?:IW|EW)\d)_.+_local_incidence_angle\.tiff?$")

_SCALES: dict[str, BackscatterScale] = {"p": "power", "d": "db", "a": "amplitude"}
_GAMMA_CODES = MaskCodes.of_bits({4: Mask.LAYOVER, 16: Mask.SHADOW})
_OPERA_CODES = MaskCodes.of({0: 0, 1: Mask.SHADOW, 2: Mask.LAYOVER, 3: Mask.LAYOVER | Mask.SHADOW, 255: Mask.NO_DATA})
_USUAL_POWER = 0.5
"""L-band HH over land has 0.1 to 0.3 in power; its root is above this."""


def open_hyp3(files: Gathered) -> Product | None:
    """ASF HyP3's Sentinel-1 RTC; None when there is none. Scale and radiometry are what the name says."""
    found = files.only(HYP3)
    if found is None:
        return None
    base, layers = found
    said = HYP3.match(f"{base}_VV.tif")
    assert said is not None
    warnings = []
    scale = _SCALES[said["scale"]]
    if files.scale not in (None, scale):
        raise UsageError(f"scale is {files.scale}, but the product's name says {scale}", base, "leave the scale away")
    if said["radiometry"] == "s":
        warnings.append("sigma0, not gamma0: do not mix it with products of gamma0")
    if said["filter"] == "f":
        warnings.append("speckle was filtered by the producer")
    opened = _open(layers, files)
    angle = _angle(opened, warnings, usual="radians")
    return _product(
        files,
        base,
        opened,
        {**dict.fromkeys(POLARISATIONS, backscatter(scale, () if scale == "db" else (0.0,))), INCIDENCE_BAND: angle},
        _GAMMA_CODES if "ls_map" in opened else None,
        describe(
            "HyP3 Sentinel-1 RTC",
            radiometry="sigma0" if said["radiometry"] == "s" else "gamma0",
            warnings=_with_mask_warnings(warnings, opened, "ls_map", _GAMMA_CODES),
            **_times(said["time"]),
            **_sentinel1(base[:3], opened, "ls_map"),
            **{"sar:instrument_mode": said["beam"]},
        ),
    )


def open_asf(files: Gathered) -> Product | None:
    """ASF's ALOS PALSAR RTC (AP_*_RT1, RT2); None when there is none. Power, unless the user says otherwise."""
    found = files.only(ASF)
    if found is None:
        return None
    base, layers = found
    said = ASF.match(f"{base}_HH.tif")
    assert said is not None
    warnings = []
    opened = _open(layers, files)
    scale: BackscatterScale = files.scale or "power"
    if files.scale is None:
        warnings.append("taken as linear power, as ASF says of these products")
        name = next(name for name in ("HH", "VV", "HV", "VH") if name in opened)
        values = look(opened[name])
        values = values[values != 0.0]
        median = float(np.median(values)) if values.size else 0.0
        if median > _USUAL_POWER and name in ("HH", "VV"):
            warnings.append(f"the median of {name} is {median:.3g}, too much for power: if it is amplitude, say `scale: amplitude`")
        if median < 0:
            raise UsageError(f"the median of {name} is {median:.3g}: these are decibels", files.path, "say `scale: db` in a side file")
    if "ls_map" in opened:
        del opened["ls_map"]
        warnings.append("the layover and shadow map is not read: its codes are not documented")
    angle = _angle(opened, warnings, usual=None)
    return _product(
        files,
        base,
        opened,
        {**dict.fromkeys(POLARISATIONS, backscatter(scale, () if scale == "db" else (0.0,))), INCIDENCE_BAND: angle},
        None,
        describe(
            "ASF ALOS PALSAR RTC",
            radiometry="gamma0",
            warnings=warnings,
            platform="alos",
            **{
                "sar:frequency_band": "L",
                "sar:polarizations": [name for name in POLARISATIONS if name in opened],
                "sat:absolute_orbit": int(said["orbit"]),
                "sarseg:scale": scale,
                "sarseg:mask_computed": [1],
            },
        ),
    )


def open_opera(files: Gathered) -> Product | None:
    """One burst of OPERA RTC-S1; None when there is none. Power; NaN is no data, and an exact 0 is a measurement."""
    found = files.only(OPERA)
    if found is None:
        return None
    base, layers = found
    said = OPERA.match(f"{base}_VV.tif")
    assert said is not None
    if files.scale not in (None, "power"):
        raise UsageError(f"scale is {files.scale}, but OPERA's products hold power", base, "leave the scale away")
    static = next((one for one in files.members if (match := _OPERA_STATIC.match(one.base)) and match["burst"] == said["burst"]), None)
    opened = _open({**layers, **({"inc_map": static} if static is not None else {})}, files)
    warnings: list[str] = [] if "mask" in opened else ["no mask layer: layover and shadow are not known"]
    angle = _angle(opened, warnings, usual="degrees")
    return _product(
        files,
        base,
        opened,
        {INCIDENCE_BAND: angle},
        _OPERA_CODES if "mask" in opened else None,
        describe(
            "OPERA RTC-S1",
            radiometry="gamma0",
            warnings=_with_mask_warnings(warnings, opened, "mask", _OPERA_CODES),
            **_times(said["time"]),
            **_sentinel1(said["platform"], opened, "mask"),
            **{"sarseg:burst": said["burst"]},
        ),
    )


def _open(layers: Mapping[str, Member], files: Gathered) -> dict[str, Raster]:
    """The layers, of one grid and one band each; InputError without backscatter."""
    if not any(name in POLARISATIONS for name in layers):
        raise InputError(f"no backscatter: only {', '.join(layers)}", files.path, "give the folder with all files of the product")
    opened = {name: member.raster() for name, member in layers.items()}
    for name, raster in opened.items():
        if len(raster.bands) != 1:
            raise InputError(f"{name} has {len(raster.bands)} bands where one is right", raster.path)
        if name in POLARISATIONS and np.dtype(raster.dtype).kind != "f":
            raise InputError(f"{name} holds {raster.dtype} where the product has float32", raster.path)
    same_grid(opened, files.path)
    return opened


def _product(
    files: Gathered, base: str, opened: Mapping[str, Raster], rules: Mapping[str, Conversion], codes: MaskCodes | None, item: dict[str, Any]
) -> Product:
    """`rules` of the bands that are not taken as they stand; `codes` of the layer "mask" or "ls_map", None without one."""
    bands = {name: opened[name] for name in POLARISATIONS if name in opened}
    if "inc_map" in opened:
        bands[INCIDENCE_BAND] = opened["inc_map"]
    return Product(
        path=files.path,
        id=base,
        grid=next(iter(bands.values())).grid,
        quantity="power",
        rasters=bands,
        mask_raster=None if codes is None else opened.get("mask", opened.get("ls_map")),
        conversions={name: rules[name] for name in bands if name in rules and rules[name] != Conversion()},
        mask_codes=codes,
        item=item,
    )


def _angle(opened: Mapping[str, Raster], warnings: list[str], usual: str | None) -> Conversion:
    """Local incidence to degrees; a look tells radians (up to pi / 2) from degrees, and a warning where that is not as usual."""
    if "inc_map" not in opened:
        return Conversion()
    values = look(opened["inc_map"])
    values = values[values > 0.0]
    found = usual
    if values.size:
        found = "radians" if float(np.max(values)) <= math.pi else "degrees"
    if usual is not None and found != usual:
        warnings.append(f"the incidence angle looks like {found}, not the usual {usual}")
    factor = math.degrees(1.0) if found == "radians" else 1.0
    return Conversion(factor=factor, nodata_upto=0.0)


def _with_mask_warnings(warnings: list[str], opened: Mapping[str, Raster], layer: str, codes: MaskCodes) -> list[str]:
    if layer not in opened:
        return warnings if warnings and "no mask layer" in warnings[0] else [*warnings, "no mask layer: layover and shadow are not known"]
    return [*warnings, *odd_codes(opened[layer], codes)]


def _sentinel1(platform: str, opened: Mapping[str, Raster], mask: str) -> dict[str, Any]:
    return {
        "platform": f"sentinel-1{platform[2].lower()}",
        "constellation": "sentinel-1",
        "sar:frequency_band": "C",
        "sar:polarizations": [name for name in POLARISATIONS if name in opened],
        "sarseg:mask_computed": [1, 2, 4] if mask in opened else [1],
    }


def _times(compact: str) -> dict[str, str]:
    """STAC's times of 20180128T161201; none for a day that the calendar lacks."""
    day, clock = compact[:8], compact[9:]
    try:
        time = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}", "ms")
    except ValueError:
        return {}
    return time_range(time, time)
