"""The SNAP engine: ESA SNAP computes the backscatter; in everything else the product is the native engine's (docs/snap.md)."""

from __future__ import annotations

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS

from sarseg.ard.extent import Extent
from sarseg.ard.geocode import COMPUTED_BITS, Job
from sarseg.ard.output import Sink, describe, open_sink, write_picture
from sarseg.ard.preprocess import DemPaths, PreprocessOptions, counted, make_job, open_inputs, threads, warnings_of
from sarseg.ard.snap.auxiliary import geoid_for_snap, orbit_file, orbit_type, prepare_userdir
from sarseg.ard.snap.dem import NODATA_M, ORIGIN_SHIFT_PX, write_dem
from sarseg.ard.snap.finish import BandNames, SnapImage, finish_block, open_image
from sarseg.ard.snap.graphs import band_suffix, choose_graph, graph_text
from sarseg.ard.snap.install import Snap, find_snap
from sarseg.ard.snap.runner import RunOptions, RunReport, run_gpt
from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid, transform_points
from sarseg.masks import Mask
from sarseg.product.folder import create_product
from sarseg.progress import Progress, silent
from sarseg.radar.geometry import RadarGrid
from sarseg.raster.cog import check_space
from sarseg.scene.model import Scene
from sarseg.tiles import Window, blocks

_GDAL_CACHE_BYTES = 256 << 20
_EARTH_M = 6_371_000.0
_LON_LAT = CRS.from_epsg(4326)
_REGION_PX = 8.0
_REGION_POINTS = 32
_BISTATIC_SINCE = 14
_MUCH = 0.05  # half a pixel along the image's edge is less, but for tiny images


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapOptions:
    """What the SNAP engine needs beside `PreprocessOptions`.

    Parameters
    ----------
    gpt : the program, or the folder where SNAP is installed; None = $SNAP_HOME, else the PATH
    flattened : terrain-flattened gamma0 ("gamma0-rtc"); the radiometry is then "gamma0"
    time_limit_s : of SNAP's work on a scene
    """

    gpt: Path | None = None
    flattened: bool = False
    time_limit_s: float = RunOptions().time_limit_s

    def product_name(self, options: PreprocessOptions, scene_id: str) -> str:
        """Name of the product of a scene: the native engine's, or `<scene id>_gamma0-rtc`."""
        return options.product_name(scene_id) + ("-rtc" if self.flattened else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One scene for SNAP: `scratch` is a folder that is removed, `log` a file that stays after a failure."""

    snap: Snap
    job: Job
    extent: Extent
    options: PreprocessOptions
    wanted: SnapOptions
    source: Path
    graph: Path
    scratch: Path
    log: Path

    @property
    def radiometry(self) -> str:
        return "gamma0-rtc" if self.wanted.flattened else self.options.radiometry

    @property
    def names(self) -> BandNames:
        suffixes = {name: band_suffix(name, self.swath) for name in self.job.polarisations}
        power = {name: f"{self.options.radiometry.capitalize()}_{suffix}" for name, suffix in suffixes.items()}
        return BandNames(power=power, floors={name: f"Floor_{suffix}" for name, suffix in suffixes.items() if name in self.job.denoised})

    @property
    def swath(self) -> str:
        """The only sub-swath of an SLC, else ""."""
        swaths = self.job.scene.swaths
        return swaths[0] if len(swaths) == 1 else ""


def preprocess_snap(
    scene_path: str | Path,
    out_dir: str | Path,
    dem: DemPaths,
    options: PreprocessOptions | None = None,
    snap_options: SnapOptions | None = None,
    progress: Progress = silent,
) -> Path:
    """As `sarseg.ard.preprocess.preprocess`, of Sentinel-1 IW SLC too, with SNAP's backscatter: the same files, grid, tags and item.

    Mask and angles are computed here, from the same DEM. What SNAP prints is kept in `<product>.gpt.log` beside the product when SNAP
    fails. Nothing else is left after an error.

    UsageError for what SNAP, or this engine, cannot do; MissingError when SNAP or something that it needs is missing; SnapFailed when
    SNAP fails; the native engine's errors for scene and DEM.
    """
    options, wanted = options or PreprocessOptions(), snap_options or SnapOptions()
    _check(options, wanted)
    snap = find_snap(wanted.gpt)
    scene, heights, extent = open_inputs(scene_path, dem, options, reads_pixels=False)
    _check_datum(extent.grid)
    _check_side(scene, wanted)
    graph = choose_graph(scene.mission, scene.product_type, "gamma0-rtc" if wanted.flattened else options.radiometry)
    name = wanted.product_name(options, scene.id)
    with create_product(Path(out_dir) / name) as folder:
        scratch = folder.path / "scratch"
        scratch.mkdir()
        task = _Task(
            snap=snap,
            job=make_job(scene.unpacked(scratch), heights, extent, options),
            extent=extent,
            options=options,
            wanted=wanted,
            source=_source(scene, Path(scene_path)),
            graph=graph,
            scratch=scratch,
            log=folder.final.with_name(f"{name}.gpt.log"),
        )
        report = _run(task, progress)
        with open_sink(folder.path, task.job, options.compress, len(blocks(extent.grid.shape)), progress) as sink:
            lost = _fill(task, open_image(_output(task), extent.grid, task.names, task.log, flattened=wanted.flattened), sink)
        shutil.rmtree(scratch)
        write_picture(folder.path, task.job)
        folder.finish(_describe(name, task, (*warnings_of(task.job, extent), *counted(sink), *lost, *_warnings(task, report))))
    task.log.unlink(missing_ok=True)
    return folder.final


def _check(options: PreprocessOptions, wanted: SnapOptions) -> None:
    """Refuse what this engine cannot do, before anything is opened."""
    if options.radiometry == "beta0" or (wanted.flattened and options.radiometry != "gamma0"):
        raise UsageError(
            f"the SNAP engine makes no {options.radiometry}", None, "it makes gamma0, sigma0 and gamma0-rtc; or take --engine native"
        )
    if options.speckle is not None or options.polarimetry is not None:
        raise UsageError("the SNAP engine filters no speckle and makes no matrices", None, "take --engine native for it")


def _check_datum(grid: MapGrid) -> None:
    from pyproj import CRS as ProjCRS

    crs = ProjCRS.from_wkt(grid.crs.to_wkt()) if grid.crs is not None else None
    geodetic = crs.geodetic_crs if crs is not None else None
    if geodetic is None or not geodetic.name.startswith("WGS 84"):
        raise UsageError(
            f"SNAP does not reach {geodetic.name if geodetic else 'this CRS'} exactly",
            None,
            "choose a CRS on WGS 84 (UTM is the default), or --engine native",
        )


def _check_side(scene: Scene, wanted: SnapOptions) -> None:
    """SNAP's reader calls every PALSAR image right-looking, and its flattening looks for shadow from the wrong side then."""
    if wanted.flattened and isinstance(scene.grid, RadarGrid) and scene.grid.look_side == "left":
        raise UsageError("SNAP's flattening loses nearly all of a PALSAR image that looks left", scene.path, "take gamma0")


def _source(scene: Scene, path: Path) -> Path:
    """The file that SNAP reads a product from."""
    if not scene.mission.startswith("S1"):
        folder = path if path.is_dir() else path.parent
        volume = folder / f"VOL-{scene.id}"
        if not volume.is_file():
            raise InputError("SNAP reads a PALSAR product from its volume file", volume, "unpack the product, with its VOL- file")
        return volume.absolute()
    return (path / "manifest.safe" if path.is_dir() else path).absolute()


def _output(task: _Task) -> Path:
    return task.scratch / "image.dim"


def _run(task: _Task, progress: Progress) -> RunReport:
    """Put in place what SNAP needs, and run it."""
    heights, grid, scene, options = task.job.dem, task.extent.grid, task.job.scene, task.options
    geoid = geoid_for_snap(heights, options.geoid)
    orbit = orbit_file(options.orbit, scene.orbit.source) if options.orbit is not None and scene.mission.startswith("S1") else None
    userdir = prepare_userdir(task.scratch / "user", geoid=geoid, orbit=(orbit, scene) if orbit is not None else None)
    terrain = task.scratch / "dem.tif"
    write_dem(heights, grid, geoid, terrain)
    geographic = grid.crs is not None and grid.crs.is_geographic
    lines, columns = (looks * side for looks, side in zip(scene.looks, scene.shape, strict=True))
    palsar = not scene.mission.startswith("S1")  # of a Sentinel-1 SLC SNAP makes the lines by itself
    values = {
        "input": str(task.source),
        "output": str(_output(task)),
        "radiometry": task.radiometry,
        "polarisations": ",".join(task.names.power),
        "denoised": ",".join(task.names.floors),
        "mission": scene.mission,
        "level": scene.product_type,
        "ipf": scene.ipf_version or "" if scene.mission.startswith("S1") else "",
        "swath": task.swath,
        "orbit_type": orbit_type(orbit) if orbit is not None else "",
        "range_looks": str(scene.looks[1]),
        "azimuth_looks": str(scene.looks[0]),
        "lines": str(lines) if palsar else "",
        "columns": str(columns) if palsar else "",
        "dem": str(terrain),
        "dem_nodata": str(NODATA_M),
        "crs": _crs_text(grid),
        "spacing_m": "0.0" if geographic else repr(grid.spacing[0]),
        "spacing_deg": repr(grid.spacing[0]) if geographic else "0.0",
        "origin": repr(grid.spacing[0] / 2),
        "region": _region(grid),
    }
    graph = task.scratch / "graph.xml"
    graph.write_text(graph_text(task.graph, values, task.snap.known), encoding="utf-8")
    check_space(task.scratch, 4 * math.prod(grid.shape) * (len(task.names.power) + len(task.names.floors)))
    limits = RunOptions(userdir=userdir, threads=options.threads, time_limit_s=task.wanted.time_limit_s)
    return run_gpt(task.snap, graph, outputs=[_output(task)], options=limits, log=task.log, progress=progress)


def _crs_text(grid: MapGrid) -> str:
    assert grid.crs is not None
    code = grid.crs.to_epsg()
    return f"EPSG:{code}" if code else str(grid.crs.to_wkt())


def _region(grid: MapGrid) -> str:
    """The map's outline in longitude and latitude, some pixels wider, as WKT."""
    (rows, cols), room, steps = grid.shape, _REGION_PX, np.linspace(0.0, 1.0, _REGION_POINTS, endpoint=False)
    across, down = steps * (cols + 2 * room) - room, steps * (rows + 2 * room) - room
    col = np.concatenate([across, np.full_like(down, cols + room), across[::-1], np.full_like(down, -room), [-room]])
    row = np.concatenate([np.full_like(across, -room), down, np.full_like(across, rows + room), down[::-1], [-room]])
    matrix = grid.transform
    x, y = matrix.c + col * matrix.a, matrix.f + row * matrix.e
    assert grid.crs is not None
    lon, lat = transform_points(grid.crs, _LON_LAT, x, y)
    return f"POLYGON (({', '.join(f'{one:.8f} {other:.8f}' for one, other in zip(lon, lat, strict=True))}))"


def _fill(task: _Task, image: SnapImage, sink: Sink) -> tuple[str, ...]:
    """Write all layers; a warning where SNAP has no value for many pixels that have data."""

    def put(block: Window) -> int:
        sink[(slice(None), *block.slices)], lost = finish_block(task.job, image, block)
        return lost

    with rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES), ThreadPoolExecutor(threads(task.options)) as pool:
        lost = sum(pool.map(put, blocks(task.job.grid.shape)))
    if sink.counts[Mask.NO_DATA] == sink.pixels:
        raise InputError(f"no pixel of {task.job.scene.id} lies on the DEM", ", ".join(str(path) for path in task.job.dem.paths[:3]))
    share = lost / (sink.pixels - sink.counts[Mask.NO_DATA] + (0 if image.flattened else lost))
    return (f"SNAP has no value in {share:.1%} of the pixels that have data",) if share > _MUCH else ()


def _describe(name: str, task: _Task, warnings: tuple[str, ...]) -> dict[str, Any]:
    """The native engine's item, and what is SNAP's."""
    item = describe(name, task.job, warnings)
    bits = COMPUTED_BITS | (Mask.AREA_FLOOR if task.wanted.flattened else Mask(0))
    properties: dict[str, Any] = item["properties"]
    properties["sarseg:engine"] = f"snap {'.'.join(map(str, task.snap.version))}"
    properties["sarseg:quantity"] = task.radiometry
    properties["sarseg:dem"]["moved_px"] = [ORIGIN_SHIFT_PX, ORIGIN_SHIFT_PX]
    properties["sarseg:mask_computed"] = [bit.value for bit in Mask if bit in bits]
    return item


def _warnings(task: _Task, report: RunReport) -> tuple[str, ...]:
    """What SNAP does to the place of pixels, and what it said."""
    scene, version = task.job.scene, ".".join(map(str, task.snap.version))
    found = ["SNAP misplaces external DEMs by half a pixel: the DEM's origin was moved by half a pixel to the south-east to undo it"]
    if isinstance(scene.grid, RadarGrid):
        middle = scene.orbit.position(np.array(0.0)), scene.orbit.velocity(np.array(0.0))
        speed_m_s = float(np.linalg.norm(middle[1]) * _EARTH_M / np.linalg.norm(middle[0]))
        near_m, far_m = scene.grid.range_span_m
        if scene.mission.startswith("S1"):
            reference_m = scene.grid.tau_ref_s * SPEED_OF_LIGHT_M_S / 2.0
            wrong_m = max(reference_m - near_m, far_m - reference_m)
            said = "leaves the residual bistatic delay out"
            if task.snap.major >= _BISTATIC_SINCE:
                wrong_m = max(reference_m - near_m, 2.0 * far_m - reference_m - near_m)
                said = "corrects the bistatic delay the wrong way"
            found.append(f"SNAP {version} {said}: pixels are up to {wrong_m / SPEED_OF_LIGHT_M_S * speed_m_s:.1f} m off along the track")
        elif scene.mission == "ALOS":
            moved = [round(range_m / SPEED_OF_LIGHT_M_S * speed_m_s) for range_m in (near_m, far_m)]
            found.append(
                f"SNAP adds the pulse's travel time to the times of ALOS-1: it moves pixels by {moved[0]} to {moved[1]} m along the track"
            )
        lines = scene.looks[0]
        if lines > 1:
            file_line_m = scene.grid.line_interval_s / lines * speed_m_s
            left_over = lines - 1 if scene.mission.startswith("S1") else 0  # at most; others are cut to whole looks
            found.append(
                f"SNAP averages {lines} lines but keeps the last line's time (by its sources; not tried): pixels are up to "
                f"{((lines - 1) / 2 + left_over) * file_line_m:.0f} m off along the track at the scene's end, less before"
            )
    if scene.orbit.note and task.options.orbit is None and "moved by" in scene.orbit.note:
        found.append("SNAP takes the annotated orbit as it is, with the rounded times")
    return (*found, *report.warnings)
