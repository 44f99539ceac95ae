"""Files of a PALSAR product beside the leader: volume, images with their line prefixes, trailer, summary.txt (docs/palsar.md 1, 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.raster import palsar_records as layouts
from sarseg.raster.ceos import DESCRIPTOR, FILE_DESCRIPTOR_BYTES, TYPE_PROCESSED, TYPE_SIGNAL
from sarseg.simulate.ceos import line_heads, line_records, put, record
from sarseg.simulate.palsar_geometry import Floats, MapImage
from sarseg.simulate.palsar_leader import NO_RECORDS, head_words, lonlat
from sarseg.simulate.palsar_plan import PalsarPlan
from sarseg.tiles import Window

_PROCESSED_PREFIX_BYTES = 192
_NODE_LINES = 64
_POINTER_BYTES = 360
_CLASSES = {"SARL": "SARLEADER FILE", "IMOP": "IMAGERY OPTIONS FILE", "SART": "SARTRAILER FILE"}


def _slant(plan: PalsarPlan) -> bool:
    return plan.options.level == "1.1"


def prefix_bytes(plan: PalsarPlan) -> int:
    """Bytes of a line before its pixels."""
    return plan.options.about.signal_prefix_bytes if _slant(plan) else _PROCESSED_PREFIX_BYTES


def record_bytes(plan: PalsarPlan) -> int:
    """Bytes of a line."""
    return prefix_bytes(plan) + plan.image.shape[1] * (8 if _slant(plan) else 2)


def _file_id(plan: PalsarPlan, code: str) -> str:
    return f"{plan.options.about.short} SAR{'B' if _slant(plan) else 'C'}{code}"


def volume_file(plan: PalsarPlan, leader_bytes: list[int]) -> bytes:
    """The volume directory; `leader_bytes` are the lengths of the leader's records."""
    options, about = plan.options, plan.options.about
    images = len(options.polarisations)
    head: dict[str, object] = {
        "specification": "CEOS-SAR",
        "software": about.software,
        "physical_volume": about.facility,
        "logical_volume": f"{about.short}SAR{about.processed}",
        "date": about.processed,
        "time": "00000000",
        "pointers": images + 2,
    }
    words = {12: "A", 29: "A A", 76: f"{about.name:<6} SAR", 92: " 1 1 1 1   4   1   1", 128: "JAPAN", 140: "JAXA", 148: about.facility}
    records = [record(layouts.VOLUME, 1, _POINTER_BYTES, head, words | {164: "   1"})]
    image = [FILE_DESCRIPTOR_BYTES, *[record_bytes(plan)] * plan.image.shape[0]]
    for code, sizes in (("SARL", leader_bytes), *[("IMOP", image)] * images, ("SART", [FILE_DESCRIPTOR_BYTES])):
        values = {
            "number": ("SARL", "IMOP", "SART").index(code) + 1,
            "file_id": _file_id(plan, code),
            "file_class": _CLASSES[code],
            "class_code": code,
            "records": len(sizes),
            "first_bytes": sizes[0],
            "longest_bytes": max(sizes),
        }
        more = {12: "A", 68: "MIXED BINARY AND ASCII      MBAA", 116: "VARIABLE LENVARE 1 1       1", 144: f"{len(sizes):8d}"}
        records.append(record(layouts.POINTER, len(records) + 1, _POINTER_BYTES, values, more))
    lat, lon = (float(one) for one in lonlat(plan, *(np.array(value) for value in plan.middle))[::-1])
    text = {
        "product": f"PRODUCT:{plan.product_id}",
        "process": f"PROCESS:JAPAN-JAXA-{about.name}-{about.facility}  {about.processed} 000000",
        "orbit": f"ORBIT :{plan.scene_id}",
        "frame_centre": f"FRAME CENTRE: {'NS'[lat < 0]}{lat:+07.2f}  {'EW'[lon < 0]}{lon:+07.2f}",
    }
    records.append(record(layouts.TEXT, len(records) + 1, _POINTER_BYTES, text, {12: "A", 116: "TAPE ID:"}))
    return b"".join(records)


def trailer_file(plan: PalsarPlan) -> bytes:
    """A trailer without a small image."""
    words = head_words(_file_id(plan, "SART"), plan.options.about.software) | {180: NO_RECORDS, 420: f"{0:6d}{0:8d}" * 5}
    small = {"images": 0, "image_bytes": 0, "image_pixels": 0, "image_lines": 0, "image_pixel_bytes": 0}
    return record(layouts.TRAILER, 1, FILE_DESCRIPTOR_BYTES, small, words)


def summary_text(plan: PalsarPlan, size_mb: float) -> str:
    """summary.txt, with the keys that JAXA's has."""
    options, about = plan.options, plan.options.about
    lines, pixels = plan.image.shape
    t_s, _ = plan.image.to_radar(np.array([0.0, plan.middle[0], lines - 1.0]), np.full(3, plan.middle[1]))
    times = {"Center": float(t_s[1]), "Start": float(t_s.min()), "End": float(t_s.max())}
    corners = {"Center": plan.middle, "LeftTop": (0.0, 0.0), "RightTop": (0.0, pixels - 1.0)}
    corners |= {"LeftBottom": (lines - 1.0, 0.0), "RightBottom": (lines - 1.0, pixels - 1.0)}
    entries = {
        "Scs_SceneID": plan.scene_id,
        "Pds_ProductID": plan.product_id,
        "Pds_OrbitDataPrecision": "Precision",
    }
    if not _slant(plan):
        entries |= {"Pds_ResamplingMethod": "NN", "Pds_UTM_ZoneNo": f"{plan.crs.to_epsg() % 100}"}
        entries["Pds_PixelSpacing"] = f"{options.mode.spacing_m:.6f}"
        if options.geocoded:
            entries["Pds_MapDirection"] = "MapNorth"
    for name, one_s in times.items():
        stamp = str(plan.utc(one_s).astype("datetime64[ms]"))
        entries[f"Img_Scene{name}DateTime"] = f"{stamp[:10].replace('-', '')} {stamp[11:]}"
    for name, (line, pixel) in corners.items():
        lon, lat = lonlat(plan, np.array(line), np.array(pixel))
        entries[f"Img_FrameScene{name}Latitude"] = f"{float(lat):.3f}"
        entries[f"Img_FrameScene{name}Longitude"] = f"{(float(lon) + 180.0) % 360.0 - 180.0:.3f}"
    names = [f"VOL-{plan.name}", f"LED-{plan.name}", *(f"IMG-{pol}-{plan.name}" for pol in options.polarisations), f"TRL-{plan.name}"]
    key = f"L{options.level.replace('.', '')}"
    entries |= {"Pdi_ProductDataSize": f"{size_mb:.1f}", f"Pdi_CntOf{key}ProductFileName": f"{len(names)}"}
    entries |= {f"Pdi_{key}ProductFileName{number:02d}": name for number, name in enumerate(names, start=1)}
    entries |= {
        "Pdi_BitPixel": "32" if _slant(plan) else "16",
        "Pdi_NoOfPixels_0": f"{pixels}",
        "Pdi_NoOfLines_0": f"{lines}",
        "Pdi_ProductFormat": "CEOS",
        "Lbi_Satellite": about.name,
        "Lbi_Sensor": "SAR",
        "Lbi_ProcessLevel": options.level,
        "Lbi_ProcessFacility": about.facility,
        "Lbi_ObservationDate": str(plan.utc(0.0))[:10].replace("-", ""),
    }
    return "".join(f'{name}="{value}"\n' for name, value in entries.items())


def write_images(folder: Path, plan: PalsarPlan, blocks: Iterator[tuple[Window, list[NDArray[Any]]]]) -> None:
    """The image files, one a polarisation, from blocks of whole lines in their order: pixels uint16 or complex64 (lines, pixels)."""
    prefixes = [_prefixes(plan, number) for number in range(len(plan.options.polarisations))]
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"IMG-{pol}-{plan.name}").open("wb")) for pol in plan.options.polarisations]
        for file in files:
            file.write(_image_descriptor(plan))
        for window, planes in blocks:
            for file, prefix, pixels in zip(files, prefixes, planes, strict=True):
                file.write(line_records(prefix[window.row : window.row_stop], pixels))


def _image_descriptor(plan: PalsarPlan) -> bytes:
    lines, pixels = plan.image.shape
    slant = _slant(plan)
    values = {
        "records": lines,
        "record_bytes": record_bytes(plan),
        "bits_per_sample": 32 if slant else 16,
        "samples_per_group": 2 if slant else 1,
        "bytes_per_group": 8 if slant else 2,
        "channels": 1,
        "lines": lines,
        "left_border_px": 0,
        "pixels": pixels,
        "right_border_px": 0,
        "top_border_px": 0,
        "bottom_border_px": 0,
        "interleave": "BSQ",
        "prefix_bytes": prefix_bytes(plan),
        "data_bytes": record_bytes(plan) - prefix_bytes(plan),
        "suffix_bytes": 0,
    }
    kind = f"{'COMPLEX*8':<28}C*8    0   0       0" if slant else f"{'UNSIGNED INTEGER*2':<28}IU2    0   0   65535"
    # where in a line number, channel, time and fills stand, counted from 1, and the pixels' format
    words = {272: " 1 1", 296: "  13 4PB  49 2PB  45 4PB  21 4PB  29 4PB", 370: " 97 4PB", 400: kind}
    return record(DESCRIPTOR, 1, FILE_DESCRIPTOR_BYTES, values, head_words(_file_id(plan, "IMOP"), plan.options.about.software) | words)


def _prefixes(plan: PalsarPlan, number: int) -> NDArray[np.uint8]:
    """Prefixes of all lines of one polarisation."""
    lines, pixels = plan.image.shape
    polarisation = plan.options.polarisations[number]
    out = line_heads(TYPE_SIGNAL if _slant(plan) else TYPE_PROCESSED, lines, prefix_bytes(plan), record_bytes(plan))
    put(out, 12, ">u4", np.arange(1, lines + 1))
    put(out, 16, ">u4", 1)
    put(out, 24, ">u4", pixels)
    t_s, _ = plan.image.to_radar(np.arange(lines, dtype=np.float64), np.array(plan.middle[1]))
    utc = plan.view.track.epoch_utc.astype("datetime64[us]") + np.rint(t_s * 1e6).astype("timedelta64[us]")
    day, year = utc.astype("datetime64[D]"), utc.astype("datetime64[Y]")
    of_day_us = (utc - day.astype("datetime64[us]")).astype(np.int64)
    put(out, 36, ">u4", year.astype(np.int64) + 1970)
    put(out, 40, ">u4", (day - year.astype("datetime64[D]")).astype(np.int64) + 1)
    put(out, 44, ">u4", of_day_us / 1e3)
    put(out, 48, ">u2", number + 1)
    put(out, 52, ">u2", "HV".index(polarisation[0]))
    put(out, 54, ">u2", "HV".index(polarisation[1]))
    put(out, 56, ">u4", plan.options.mode.prf_hz * 1e3)
    if _slant(plan):
        _put_signal(out, plan, of_day_us)
    else:
        _put_processed(out, plan)
    return out


def _put_signal(out: NDArray[np.uint8], plan: PalsarPlan, of_day_us: NDArray[np.int64]) -> None:
    about = plan.options.about
    _, slant_m = plan.image.to_radar(np.array(0.0), np.array(0.0))
    put(out, 64, ">u2", 1)
    put(out, 68, ">u4", about.pulse_s * 1e9)
    if plan.options.mission == "alos2":
        out[:, 84:92] = of_day_us.astype(">u8")[:, np.newaxis].view(np.uint8)
    put(out, 116, ">u4", float(slant_m))
    _put_places(out, plan, (192, 204))


def _put_processed(out: NDArray[np.uint8], plan: PalsarPlan) -> None:
    for offset, (_, _, slant_m) in zip((64, 68, 72), _along(plan), strict=True):
        put(out, offset, ">u4", slant_m)
    _put_places(out, plan, (132, 144))
    if isinstance(plan.image, MapImage):
        grid = plan.image.grid
        east, north = grid.centres()
        put(out, 156, ">u4", north)
        put(out, 164, ">u4", north)
        put(out, 168, ">u4", float(east[0]))
        put(out, 176, ">u4", float(east[-1]))


def _put_places(out: NDArray[np.uint8], plan: PalsarPlan, offsets: tuple[int, int]) -> None:
    """Latitudes and longitudes of each line's first, middle and last pixel."""
    for k, (lat, lon, _) in enumerate(_along(plan)):
        put(out, offsets[0] + 4 * k, ">i4", lat * 1e6)
        put(out, offsets[1] + 4 * k, ">i4", ((lon + 180.0) % 360.0 - 180.0) * 1e6)


def _along(plan: PalsarPlan) -> list[tuple[Floats, Floats, Floats]]:
    """Latitude, longitude and slant range of the first, middle and last pixel of all lines, each float64 (lines,)."""
    lines, pixels = plan.image.shape
    every: Floats = np.arange(lines, dtype=np.float64)
    nodes = np.unique(np.append(every[::_NODE_LINES], every[-1]))
    found = []
    for pixel in (0.0, (pixels - 1.0) // 2.0, pixels - 1.0):
        lon, lat = lonlat(plan, nodes, np.full(nodes.shape, pixel))
        _, slant_m = plan.image.to_radar(nodes, np.full(nodes.shape, pixel))
        found.append((np.interp(every, nodes, lat), np.interp(every, nodes, lon), np.interp(every, nodes, slant_m)))
    return found
