"""Scene: one acquisition in radar geometry, everything but the pixels in memory."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError, MissingError
from sarseg.radar.geometry import RadarGrid
from sarseg.radar.lut import Calibration, Noise
from sarseg.radar.orbit import Floats, Orbit
from sarseg.raster.read import Raster, open_raster
from sarseg.scene.safe import UNREADABLE
from sarseg.tiles import Window

if TYPE_CHECKING:
    import xarray as xr

T = TypeVar("T")

_CHUNK_LINES = 512
_COPY_BYTES = 1 << 22


class Tables(Mapping[str, T], Generic[T]):
    """What belongs to each polarisation; asking for one that the product lacks is an InputError that names it.

    Parameters
    ----------
    what : of the things held, for the message
    where : the product
    """

    def __init__(self, values: Mapping[str, T], *, what: str, where: str) -> None:
        self._values = dict(values)
        self._what = what
        self._where = where

    def __getitem__(self, polarisation: str) -> T:
        if polarisation not in self._values:
            raise InputError(f"no {self._what} for {polarisation}", self._where, "download the complete product again")
        return self._values[polarisation]

    def __contains__(self, polarisation: object) -> bool:
        return polarisation in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Tables({', '.join(self._values)})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """The image file of one polarisation: a plain file, or a member of a zip archive (`archive` is then the zip)."""

    path: str
    archive: str | None = None

    @property
    def gdal_path(self) -> str:
        """Name under which GDAL opens it."""
        return self.path if self.archive is None else f"/vsizip/{{{self.archive}}}/{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeolocationGrid:
    """Points that the producer located, float64 (n,) each; for checking, not for geocoding.

    Parameters
    ----------
    line, pixel : image position
    time_s : zero-Doppler time, seconds after the scene's epoch
    slant_range_m : one-way
    lon_deg, lat_deg, height_m : WGS84, ellipsoidal
    incidence_deg : against the geocentric direction, not the ellipsoid's normal (docs/sentinel1.md 2)
    """

    line: Floats
    pixel: Floats
    time_s: Floats
    slant_range_m: Floats
    lon_deg: Floats
    lat_deg: Floats
    height_m: Floats
    incidence_deg: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One acquisition in radar geometry.

    Parameters
    ----------
    id : name of the product
    path : where it was opened
    mission, mode, product_type : as the producer writes them, "S1A", "IW", "GRDH"
    polarisations : in the order VV, VH or HH, HV
    start_utc, stop_utc : datetime64[us] of the first and last line
    orbit_direction : "ascending" or "descending"
    absolute_orbit, relative_orbit : numbers; None where unknown
    ipf_version : of the processor, None where unknown
    footprint_lonlat : corners, degrees
    orbit, grid : the geometry, both with the same epoch
    calibration, noise : per polarisation; a noise of None means that there is nothing to subtract
    noise_removed : the producer has already subtracted the noise
    notes : warnings about the product (`warnings` has the orbit's too)
    """

    id: str
    path: str
    mission: str
    mode: str
    product_type: str
    polarisations: tuple[str, ...]
    start_utc: np.datetime64
    stop_utc: np.datetime64
    orbit_direction: str
    absolute_orbit: int | None
    relative_orbit: int | None
    ipf_version: str | None
    footprint_lonlat: tuple[tuple[float, float], ...]
    orbit: Orbit
    grid: RadarGrid
    calibration: Tables[Calibration]
    noise: Tables[Noise | None]
    noise_removed: bool
    geolocation_grid: GeolocationGrid
    measurements: Tables[Measurement]
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(lines, pixels)."""
        return self.grid.shape

    @property
    def warnings(self) -> tuple[str, ...]:
        """What fell back or is missing, the orbit's part included."""
        return (*self.notes, self.orbit.note) if self.orbit.note else self.notes

    def dn(self, polarisation: str, window: Window) -> NDArray[np.uint16]:
        """Digital numbers as stored (amplitude; 0 = no data), (rows, cols); InputError when the image file is absent or damaged.

        Parameters
        ----------
        window : inside of the image
        """
        if window.clip(self.shape) != window:
            raise ValueError(f"{window} is not inside of an image of {self.shape}")
        return np.asarray(self._image(polarisation).read_codes(window))

    def with_orbit(self, orbit: Orbit) -> Scene:
        """The scene with another orbit; its times may count from any epoch."""
        return replace(self, orbit=orbit.at_epoch(self.grid.epoch_utc))

    def unpacked(self, folder: Path) -> Scene:
        """The scene with its images outside of the zip, when they are compressed in one.

        A compressed member can only be read forwards: whoever reads it in another order inflates it again and again. The images
        are inflated once into `folder`, which the caller removes.

        Raises
        ------
        MissingError without room for them, InputError when the archive is damaged
        """
        packed: dict[str, zipfile.ZipInfo] = {}
        for polarisation, measurement in self.measurements.items():
            if measurement.archive is not None:
                with zipfile.ZipFile(measurement.archive) as archive:
                    member = archive.getinfo(measurement.path)
                if member.compress_type != zipfile.ZIP_STORED:
                    packed[polarisation] = member
        if not packed:
            return self
        folder.mkdir(parents=True, exist_ok=True)
        need, free = sum(member.file_size for member in packed.values()), shutil.disk_usage(folder).free
        if need > free:
            raise MissingError(
                f"{need / 1e9:.1f} GB are needed to unpack the images of {self.id}, {free / 1e9:.1f} GB are free", folder, "free some space"
            )
        plain = {
            polarisation: Measurement(path=str(_inflate(self.measurements[polarisation], folder)))
            if polarisation in packed
            else self.measurements[polarisation]
            for polarisation in self.measurements
        }
        return replace(self, measurements=Tables(plain, what="image", where=self.path))

    def to_xarray(self) -> xr.DataArray:
        """Digital numbers as a lazy DataArray (band, line, pixel), dask chunks of whole lines, of the polarisations that have an image."""
        import dask.array as da
        import xarray as xr

        bands = [polarisation for polarisation in self.polarisations if polarisation in self.measurements]
        if not bands:
            raise InputError("the product has no image file", self.path, "download the complete product again")
        lines, pixels = self.shape
        chunk = tuple(min(_CHUNK_LINES, lines - first) for first in range(0, lines, _CHUNK_LINES))

        def read(block_info: dict[None, dict[str, list[tuple[int, int]]]], polarisation: str) -> NDArray[np.uint16]:
            first, last = block_info[None]["array-location"][0]
            return self.dn(polarisation, Window(row=first, col=0, rows=last - first, cols=pixels))

        layers = [da.map_blocks(read, chunks=(chunk, (pixels,)), dtype=np.uint16, polarisation=band) for band in bands]
        attributes = {"id": self.id, "mission": self.mission, "mode": self.mode, "product_type": self.product_type}
        return xr.DataArray(da.stack(layers), dims=("band", "line", "pixel"), coords={"band": bands}, name="dn", attrs=attributes)

    @cached_property
    def _images(self) -> dict[str, Raster]:
        return {}

    def _image(self, polarisation: str) -> Raster:
        """The opened image; opened once, and its handles once a thread."""
        if polarisation not in self._images:
            image = open_raster(self.measurements[polarisation].gdal_path)
            if image.grid.shape != self.shape:
                raise InputError(f"the image has {image.grid.shape} lines and pixels, its annotation says {self.shape}", image.path)
            if np.dtype(image.dtype).kind != "u":
                raise InputError(f"the image holds {image.dtype}, not the unsigned integers of a GRD", image.path)
            self._images[polarisation] = image
        return self._images[polarisation]


def _inflate(measurement: Measurement, folder: Path) -> Path:
    """Copy a member of an archive into the folder; the name appears when the file is complete."""
    assert measurement.archive is not None
    target = folder / Path(measurement.path).name
    part = target.with_name(f".partial-{target.name}")
    try:
        with zipfile.ZipFile(measurement.archive) as archive, archive.open(measurement.path) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink, _COPY_BYTES)
        part.replace(target)
    except UNREADABLE as error:
        raise InputError("the archive is damaged", measurement.archive, "download it again") from error
    finally:
        part.unlink(missing_ok=True)
    return target
