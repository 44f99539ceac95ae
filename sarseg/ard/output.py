"""The files of an analysis-ready product: rasters as they come, the picture, the STAC item."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from sarseg.ard.geocode import COMPUTED_BITS, LAYERS_BEHIND, Job
from sarseg.ard.polarimetry import Polarimetry
from sarseg.masks import Mask, bit_tags
from sarseg.product.folder import ELLIPSOID_INCIDENCE, INCIDENCE, MASK, QUICKLOOK
from sarseg.product.stac import CLASSIFICATION, SAR, SATELLITE, Asset, asset, make_item, mask_bitfields
from sarseg.progress import Progress
from sarseg.raster.cog import CogSpec, CogWriter, Compression, create_cog
from sarseg.raster.picture import MAX_SIDE_PX, power_picture, save_picture
from sarseg.tiles import Window

PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
LABEL = "terrain correction"
_FILES = dict(zip(LAYERS_BEHIND, (INCIDENCE, ELLIPSOID_INCIDENCE, MASK), strict=True))
_QUANTITY = {"gamma0": "gamma nought", "sigma0": "sigma nought", "beta0": "beta nought"}


class Sink:
    """Takes blocks as `sink[:, rows, cols] = layers`, in any order and from any thread, and counts."""

    def __init__(self, writers: dict[str, CogWriter], total: int, progress: Progress) -> None:
        self._writers = writers
        self._lock = threading.Lock()
        self._total = total
        self._progress = progress
        self._done = 0
        self.counts: dict[Mask, int] = dict.fromkeys(Mask, 0)
        self.pixels = 0

    def __setitem__(self, place: tuple[slice, slice, slice], layers: NDArray[np.float32]) -> None:
        _, rows, cols = place
        window = Window(row=rows.start, col=cols.start, rows=rows.stop - rows.start, cols=cols.stop - cols.start)
        mask = layers[-1].astype(np.uint8)
        for (name, writer), layer in zip(self._writers.items(), layers, strict=True):
            writer.write(window, mask if name == "mask" else np.ascontiguousarray(layer))
        with self._lock:
            self.pixels += mask.size
            for bit in Mask:
                self.counts[bit] += int(np.count_nonzero(mask & bit.value))
            self._done += 1
            self._progress(self._done, self._total, LABEL)

    def share(self, bit: Mask) -> float:
        """Of the pixels written with data, those with a bit; of all pixels for NO_DATA."""
        valid = self.pixels - self.counts[Mask.NO_DATA]
        return self.counts[bit] / max(1, self.pixels if bit is Mask.NO_DATA else valid)


@contextmanager
def open_sink(folder: Path, job: Job, compress: Compression, total: int, progress: Progress) -> Iterator[Sink]:
    """Writers of all layers of a job; the files have their names when this is left without error."""
    with ExitStack() as stack:
        writers = {}
        for name in job.layers:
            is_mask = name == "mask"
            spec = CogSpec(
                grid=job.grid,
                dtype="uint8" if is_mask else "float32",
                bands=(name,),
                nodata=None if is_mask else float("nan"),
                overviews="mode" if is_mask else "average",
                tags=bit_tags() if is_mask else {},
                compress=compress,
            )
            writers[name] = stack.enter_context(create_cog(folder / _FILES.get(name, f"{name}.tif"), spec))
        yield Sink(writers, total, progress)


def write_picture(folder: Path, job: Job) -> None:
    """The quicklook, from the rasters' overviews."""
    step = max(1, -(-max(job.grid.shape) // MAX_SIDE_PX))
    shape = tuple(max(1, side // step) for side in job.grid.shape)
    bands = []
    for name in job.power_bands:
        with rasterio.open(folder / f"{name}.tif") as file:
            bands.append(file.read(1, out_shape=shape, resampling=Resampling.average))
    save_picture(power_picture(np.stack(bands)) if job.polarimetry is None else _matrix_picture(job.polarimetry, bands), folder / QUICKLOOK)


def _matrix_picture(polarimetry: Polarimetry, diagonal: list[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The usual colours: HH, HV, VV as red, green, blue; of Pauli powers red is double bounce, green volume, blue surface."""
    first, second, third = (power_picture(band[np.newaxis]) for band in diagonal)
    colours = (first, second, third) if polarimetry == "c3" else (second, third, first)
    return np.stack([*(one[..., 0] for one in colours), first[..., 3]], -1)


def describe(name: str, job: Job, warnings: tuple[str, ...]) -> dict[str, Any]:
    """The product's STAC item."""
    scene = job.scene
    properties = {
        "platform": _platform(scene.mission),
        "constellation": "sentinel-1" if scene.mission.startswith("S1") else None,
        "start_datetime": _iso(scene.start_utc),
        "end_datetime": _iso(scene.stop_utc),
        "sar:instrument_mode": scene.mode,
        "sar:frequency_band": "C" if scene.mission.startswith("S1") else "L",
        "sar:polarizations": list(job.polarisations),
        "sar:product_type": scene.product_type,
        "sar:observation_direction": scene.grid.look_side,
        "sat:orbit_state": scene.orbit_direction,
        "sat:relative_orbit": scene.relative_orbit,
        "sat:absolute_orbit": scene.absolute_orbit,
        "processing:level": "L2",
        "sarseg:scene": scene.id,
        "sarseg:engine": "native",
        "sarseg:quantity": job.quantity,
        "sarseg:polarimetry": job.polarimetry,
        "sarseg:multilook": list(scene.looks) if scene.looks != (1, 1) else None,
        "sarseg:denoised": sorted(job.denoised),
        "sarseg:speckle": {"filter": "lee", "window": job.speckle.window, "looks": job.speckle.looks} if job.speckle else None,
        "sarseg:orbit": scene.orbit.source,
        "sarseg:ipf_version": scene.ipf_version,
        "sarseg:dem": {"files": [path.name for path in job.dem.paths], "vertical_datum": list(job.dem.datums)},
        "sarseg:mask_computed": [bit.value for bit in Mask if bit in COMPUTED_BITS],
        "sarseg:warnings": list(warnings),
    }
    kept = {key: value for key, value in properties.items() if value is not None or key == "sarseg:speckle"}
    middle = scene.start_utc + (scene.stop_utc - scene.start_utc) // 2
    return make_item(
        name,
        job.grid,
        assets=_assets(job),
        properties=kept,
        datetime_utc=_iso(middle),
        extensions=(SAR, SATELLITE, CLASSIFICATION, PROCESSING),
    )


def _assets(job: Job) -> dict[str, Asset]:
    quantity = _QUANTITY[job.quantity]
    return {
        **{
            name: asset(f"{name}.tif", f"{name} {quantity}, {'linear power' if name in job.power_bands else 'off-diagonal'}", "data")
            for name in job.bands
        },
        "mask": asset(MASK, "mask bits", "metadata", **{"classification:bitfields": mask_bitfields()}),
        "incidence": asset(INCIDENCE, "local incidence angle, degrees", "local-incidence-angle", "metadata"),
        "ellipsoid_incidence": asset(ELLIPSOID_INCIDENCE, "ellipsoid incidence angle, degrees", "ellipsoid-incidence-angle", "metadata"),
        "quicklook": asset(QUICKLOOK, "quicklook", "thumbnail"),
    }


def _platform(mission: str) -> str:
    names = {"ALOS": "alos", "ALOS2": "alos-2"}
    return f"sentinel-1{mission[2:].lower()}" if mission.startswith("S1") else names.get(mission, mission.lower())


def _iso(time_utc: np.datetime64) -> str:
    return f"{np.datetime_as_string(time_utc, unit='us')}Z"
