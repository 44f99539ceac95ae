"""From a scene and a DEM to an analysis-ready product: the recipe. What it does is elsewhere."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from sarseg.ard.extent import Extent, choose_extent, choose_looks
from sarseg.ard.geocode import Job, Speckle, geocode_block
from sarseg.ard.output import Sink, describe, open_sink, write_picture
from sarseg.ard.polarimetry import CHANNELS, FULL_RANK_LOOKS, POLARIMETRIES, Polarimetry, check_quad
from sarseg.ard.relief import survey
from sarseg.errors import InputError, UsageError
from sarseg.masks import Mask
from sarseg.product.folder import create_product
from sarseg.progress import Progress, silent
from sarseg.radar.lattice import plan_lattice
from sarseg.radar.lut import QUANTITIES, Quantity
from sarseg.raster.cog import Compression, check_space
from sarseg.raster.dem import Dem, VerticalDatum, open_dem
from sarseg.scene.model import Scene
from sarseg.scene.open import open_scene
from sarseg.scene.orbitfile import choose_eof
from sarseg.speckle.filters import LEE_WINDOW, LOOKS_GRDH
from sarseg.tiles import BLOCK, Window, blocks

if TYPE_CHECKING:
    import xarray as xr

DemPaths = str | Path | Sequence[str | Path]
"""A file or a folder of tiles, or several."""

_GDAL_CACHE_BYTES = 256 << 20  # rasterio hands the number to GDALSetCacheMax, which counts bytes
_LEAST_BYTES_PX = 4 + 4 + 1  # the least product: one image, its incidence, the mask; uncompressed
_COVERED = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessOptions:
    """How a scene becomes a product.

    Parameters
    ----------
    radiometry : backscatter coefficient
    spacing_m : pixel size (of a geographic CRS: at the equator)
    crs : of the product; None = UTM of the scene's centre
    dem_datum : vertical datum of the DEM, wins over what its CRS or name says
    geoid : undulation grid, or a folder with PROJ's grids; None = PROJ's data folders
    orbit : EOF file, or a folder of them; None = the product's own orbit
    speckle : filter in radar geometry; None = none
    window, looks : of the speckle filter
    polarimetry : covariance matrix, coherency matrix or Pauli powers of a quad-polarised scene instead of its powers
    compress : of the rasters
    threads : workers; None = one a processor
    """

    radiometry: Quantity = "gamma0"
    spacing_m: float = 10.0
    crs: str | None = None
    dem_datum: VerticalDatum | None = None
    geoid: Path | None = None
    orbit: Path | None = None
    speckle: Literal["lee"] | None = None
    window: int = LEE_WINDOW
    looks: float = LOOKS_GRDH
    polarimetry: Polarimetry | None = None
    compress: Compression = "zstd"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.radiometry not in QUANTITIES:
            raise UsageError(f"no radiometry '{self.radiometry}'", None, f"choose one of {', '.join(QUANTITIES)}")
        if self.speckle not in (None, "lee"):
            raise UsageError(f"no speckle filter '{self.speckle}'", None, "the one there is: lee")
        if self.window < 1 or self.window % 2 == 0 or not self.looks > 0:
            raise UsageError(f"a speckle window of {self.window} pixels with {self.looks} looks", None, "an odd window and positive looks")
        if self.polarimetry not in (None, *POLARIMETRIES):
            raise UsageError(f"no polarimetry '{self.polarimetry}'", None, f"choose one of {', '.join(POLARIMETRIES)}")
        if self.polarimetry is not None and self.speckle is not None:
            hint = "leave --speckle away: the looks of --spacing average the matrix"
            raise UsageError("the speckle filter is for powers, not for the elements of a matrix", None, hint)

    def product_name(self, scene_id: str) -> str:
        """Name of the product of a scene: `<scene id>_<radiometry>`, and the matrix."""
        return "_".join((scene_id, self.radiometry, *((self.polarimetry,) if self.polarimetry else ())))


def preprocess(
    scene_path: str | Path, out_dir: str | Path, dem: DemPaths, options: PreprocessOptions | None = None, progress: Progress = silent
) -> Path:
    """Calibrate, denoise, filter and terrain-correct a scene; write the product folder `<scene id>_<radiometry>` into `out_dir`.

    Parameters
    ----------
    scene_path : a SAFE folder, its zip or its manifest, of a GRD; a PALSAR product's folder, zip or one of its files
    dem : files or folders of tiles

    Returns the folder, whose name ends in the matrix too when one is asked for. InputError when scene or DEM cannot be used or the
    DEM misses the scene, MissingError for an unknown vertical datum, a missing geoid grid, a full disk. Nothing is left after an
    error.
    """
    options = options or PreprocessOptions()
    scene, heights, extent = open_inputs(scene_path, dem, options, reads_pixels=True)
    name = options.product_name(scene.id)
    with create_product(Path(out_dir) / name) as folder:
        check_space(folder.path, _LEAST_BYTES_PX * math.prod(extent.grid.shape))  # before the DEM is read
        scratch = folder.path / "scratch"
        job = make_job(scene.unpacked(scratch), heights, extent, options)
        with open_sink(folder.path, job, options.compress, len(blocks(job.grid.shape)), progress) as sink:
            with rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES):
                _store(lazy_layers(job), sink, options)
            if sink.counts[Mask.NO_DATA] == sink.pixels:
                raise InputError(f"no pixel of {scene.id} lies on the DEM", ", ".join(str(path) for path in heights.paths[:3]))
        shutil.rmtree(scratch, ignore_errors=True)
        write_picture(folder.path, job)
        folder.finish(describe(name, job, (*warnings_of(job, extent), *counted(sink))))
    return folder.final


def open_lazy(scene_path: str | Path, dem: DemPaths, options: PreprocessOptions | None = None) -> xr.Dataset:
    """The same layers as a lazy xarray Dataset on dask arrays; nothing is written, blocks are computed when they are asked for.

    Variables VV, VH (those there are), incidence, ellipsoid_incidence (degrees) and mask, on dimensions y and x.
    """
    import xarray as xr

    options = options or PreprocessOptions()
    scene, heights, extent = open_inputs(scene_path, dem, options, reads_pixels=True)
    job = make_job(scene, heights, extent, options)
    layers = lazy_layers(job)
    variables: dict[str, Any] = {
        name: (("y", "x"), layers[k].astype(np.uint8) if name == "mask" else layers[k]) for k, name in enumerate(job.layers)
    }
    x, y = job.grid.centres()
    attributes = {
        "scene": scene.id,
        "quantity": job.quantity,
        "crs": job.grid.crs.to_wkt() if job.grid.crs else "",
        "warnings": warnings_of(job, extent),
    }
    return xr.Dataset(variables, coords={"x": x, "y": y}, attrs=attributes)


def make_job(scene: Scene, dem: Dem, extent: Extent, options: PreprocessOptions) -> Job:
    """Look at the whole map once: how high it is, how finely its geometry must be solved."""
    relief = survey(dem, extent.grid, threads=threads(options))
    if relief.range_m is None:
        raise InputError(f"the DEM has no height within the scene {scene.id}", ", ".join(str(path) for path in dem.paths[:3]))
    polarisations = tuple(name for name in scene.polarisations if name in scene.measurements)
    if options.polarimetry is not None:
        polarisations = CHANNELS
    if not polarisations:
        raise InputError("the product has no image file", scene.path, "download the complete product again")
    for name in polarisations:
        scene.calibration[name]  # a product without calibration is refused here, not in a block
    has_noise = [name for name in polarisations if name in scene.noise and scene.noise[name] is not None]
    return Job(
        scene=scene,
        dem=dem,
        relief=relief,
        plan=plan_lattice(extent.grid, scene.orbit, scene.grid, relief.range_m),
        quantity=options.radiometry,
        polarisations=polarisations,
        denoised=frozenset() if scene.noise_removed else frozenset(has_noise),
        speckle=Speckle(window=options.window, looks=options.looks) if options.speckle else None,
        polarimetry=options.polarimetry,
    )


def lazy_layers(job: Job, block: int = BLOCK) -> Any:
    """All layers as one dask array float32 (layers, rows, cols), one task a block of the map."""
    import dask.array as da

    rows, cols = job.grid.shape
    sides = [tuple(min(block, length - first) for first in range(0, length, block)) for length in (rows, cols)]

    def compute(block_info: Any = None) -> NDArray[np.float32]:
        _, (row, row_stop), (col, col_stop) = block_info[None]["array-location"]
        return geocode_block(job, Window(row=row, col=col, rows=row_stop - row, cols=col_stop - col))

    chunks = ((len(job.layers),), *sides)
    return da.map_blocks(compute, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))


def threads(options: PreprocessOptions) -> int:
    """How many workers: as many as this process may use."""
    from dask.system import CPU_COUNT

    return options.threads or int(CPU_COUNT)


def open_inputs(scene_path: str | Path, dem: DemPaths, options: PreprocessOptions, *, reads_pixels: bool) -> tuple[Scene, Dem, Extent]:
    """Scene, heights and map of a product, as the options ask for them.

    InputError for a scene whose pixels are not read here, when `reads_pixels`.
    """
    scene = open_scene(scene_path)
    if reads_pixels:
        scene.check_pixels()
    if options.polarimetry is not None:
        check_quad(scene)
    if options.orbit is not None:
        scene = scene.with_orbit(choose_eof(options.orbit, scene))
    paths = [dem] if isinstance(dem, (str, Path)) else dem
    heights = open_dem([Path(path) for path in paths], datum=options.dem_datum, geoid=options.geoid)
    extent = choose_extent(scene, heights, crs=options.crs, spacing_m=options.spacing_m)
    looks = choose_looks(scene, options.spacing_m)
    return scene if looks == (1, 1) else scene.multilooked(looks), heights, extent


def _store(layers: Any, sink: Any, options: PreprocessOptions) -> None:
    """Run the blocks; what is in memory are those in flight."""
    import dask.array as da

    da.store(layers, sink, lock=False, scheduler="threads", num_workers=threads(options))


def warnings_of(job: Job, extent: Extent) -> tuple[str, ...]:
    """What is to be known of a product before it is computed."""
    found = [*job.scene.warnings, *job.dem.warnings]
    lacking = [name for name in job.scene.polarisations if name not in job.polarisations]
    if lacking:
        found.append(f"no image of {', '.join(lacking)}: not in the product")
    noisy = [name for name in job.polarisations if name not in job.denoised]
    if noisy and not job.scene.noise_removed:
        found.append(f"thermal noise was not removed from {', '.join(noisy)}: the product has no noise table for it")
    if job.polarimetry is not None and math.prod(job.scene.looks) < FULL_RANK_LOOKS:
        found.append(f"the matrices are means of {math.prod(job.scene.looks)} look(s), and singular: a wider spacing averages more")
    if extent.dem_share < _COVERED:
        found.append(f"the DEM covers {extent.dem_share:.1%} of the scene: the rest is not in the product")
    return tuple(dict.fromkeys(found))


def counted(sink: Sink) -> tuple[str, ...]:
    """What is to be known of a product when all its pixels have been written."""
    filled = sink.share(Mask.DEM_FILLED)
    return (f"{filled:.1%} of the pixels lie on voids of the DEM, filled with the geoid",) if filled > 0 else ()
