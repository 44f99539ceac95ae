"""A complete Sentinel-1 IW GRDH product over a landscape whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sarseg.errors import InputError
from sarseg.progress import Progress, silent
from sarseg.simulate.annotationout import annotation_file
from sarseg.simulate.ellipsoid import geodetic
from sarseg.simulate.fill import Grain, fill_product, read_channels
from sarseg.simulate.landscape import DEM_NAME, LEGEND_NAME, TRUTH_NAME, Landscape, make_landscape, read_landscape, write_landscape
from sarseg.simulate.manifest import DataFile, crc16, manifest_file, refresh
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.plan import ScenePlan, make_plan
from sarseg.simulate.publish import publish, unfinished
from sarseg.simulate.tablesout import calibration_file, image_number, noise_file
from sarseg.simulate.template import copy_template, landscape_in


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedScene:
    """What was written: the product (folder or zip), and the truth of its landscape."""

    safe: Path
    dem: Path
    truth: Path
    legend: Path


def simulate_sentinel1(out: Path, options: Sentinel1Options, progress: Progress = silent) -> SimulatedScene:
    """Write a product into folder `out`, and the landscape's truth beside it unless the landscape was written before.

    InputError when the landscape lies outside the template; MissingError when heights need a geoid grid.
    """
    if options.landscape_dir is not None:
        landscape, folder = read_landscape(options.landscape_dir), options.landscape_dir
    else:
        landscape, folder = make_landscape(_placed(options)), out
    with unfinished(out) as work:
        if options.template is not None:
            product = _from_template(work, landscape, options, progress)
        else:
            product = _own(work, landscape, options, progress)
        if options.landscape_dir is None:
            write_landscape(landscape, out)
        safe = publish(product, out, zipped=options.zipped)
    return SimulatedScene(safe=safe, dem=folder / DEM_NAME, truth=folder / TRUTH_NAME, legend=folder / LEGEND_NAME)


def _placed(options: Sentinel1Options) -> LandscapeOptions:
    """A made-up landscape for a template goes into the middle of its image."""
    if options.template is None or options.landscape.dem is not None:
        return options.landscape
    return landscape_in(options.template, options.landscape, options.window)


def _from_template(work: Path, landscape: Landscape, options: Sentinel1Options, progress: Progress) -> Path:
    product = copy_template(options.template, work) if options.template else work
    channels = read_channels(product, options.polarisations, options.template)
    grain = Grain(seed=options.seed, speckle=options.speckle)
    fill_product(landscape, channels, grain, window=options.window, progress=progress)
    filled = {channel.annotation.name for channel in channels}
    for path in sorted((product / "annotation").rglob("*.xml")):
        if not any(path.name.endswith(name) for name in filled):
            path.unlink()
    refresh(product / "manifest.safe", tuple(channel.header.polarisation for channel in channels))
    return product


def _own(work: Path, landscape: Landscape, options: Sentinel1Options, progress: Progress) -> Path:
    plan = make_plan(landscape, options.direction, options.incidence_deg, options.polarisations or ("VV", "VH"))
    start, stop = (_compact(plan.utc(t_s)) for t_s in (0.0, plan.last_s))
    product = work / "product.SAFE"
    files = []
    for pol in plan.polarisations:
        stem = f"s1a-iw-grd-{pol.lower()}-{start}-{stop}-{plan.absolute_orbit:06d}-{plan.data_take:06x}-{image_number(plan, pol)}".lower()
        texts = {
            f"annotation/{stem}.xml": annotation_file(plan, pol, (0.0, 0.0)),
            f"annotation/calibration/calibration-{stem}.xml": calibration_file(plan, pol),
            f"annotation/calibration/noise-{stem}.xml": noise_file(plan, pol),
        }
        for place, content in texts.items():
            _write(product / place, content)
        kinds = zip(("product", "calibration", "noise"), texts, strict=True)
        files += [DataFile(kind=kind, place=place) for kind, place in kinds]
        files.append(DataFile(kind="measurement", place=f"measurement/{stem}.tiff"))
    channels = read_channels(product, plan.polarisations)
    moments = fill_product(landscape, channels, Grain(seed=options.seed, speckle=options.speckle), progress=progress)
    for channel in channels:
        _write(channel.annotation, annotation_file(plan, channel.header.polarisation, moments[channel.header.polarisation]))
    manifest = manifest_file(plan, product, files, _footprint(plan))
    _write(product / "manifest.safe", manifest)
    kind = {("VV", "VH"): "DV", ("VV",): "SV", ("VH",): "VH"}[plan.polarisations]
    name = f"S1A_IW_GRDH_1S{kind}_{start}_{stop}_{plan.absolute_orbit:06d}_{plan.data_take:06X}_{crc16(manifest)}.SAFE".upper()
    return product.rename(work / name)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def _compact(utc: str) -> str:
    """20210603T170512 of an ISO time, cut to whole seconds."""
    return utc[:19].replace("-", "").replace(":", "")


def _footprint(plan: ScenePlan) -> list[tuple[float, float]]:
    """(lat, lon) of the image's corners: last line near, last line far, first line far, first line near."""
    last_line, last_pixel = plan.geometry.lines - 1.0, plan.geometry.pixels - 1.0
    line, pixel = np.array([last_line, last_line, 0.0, 0.0]), np.array([0.0, last_pixel, last_pixel, 0.0])
    lon_deg, lat_deg, _ = geodetic(plan.geometry.ground_point(line, pixel, float(plan.terrain_m.mean())))
    if not np.isfinite(lon_deg).all():
        raise InputError("the scene's corners lie nowhere", hint="choose another place for the landscape")
    return [(float(lat), float(lon)) for lat, lon in zip(lat_deg, lon_deg, strict=True)]
