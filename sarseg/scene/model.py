"""Scene: one acquisition in radar geometry, everything but the pixels in memory."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError, MissingError
from sarseg.radar.ellipsoid import ImageGrid
from sarseg.radar.lut import Calibration, Noise
from sarseg.radar.orbit import Floats, Orbit
from sarseg.raster.ceos import CeosImage, ImageLayout, Source
from sarseg.raster.read import Raster, open_raster
from sarseg.scene.bursts import Coverage
from sarseg.scene.safe import UNREADABLE
from sarseg.tiles import Window

if TYPE_CHECKING:
    import xarray as xr

T = TypeVar("T")

_CHUNK_LINES = 512
_COPY_BYTES = 1 << 22
_STRIP_PX = 1 << 18  # samples of a channel that are read at once for looks


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
    """The image file of one polarisation: a plain file, or a member of a zip archive (`archive` is then the zip).

    `layout` says where the pixels of a CEOS file lie; None = a file that GDAL opens.
    """

    path: str
    archive: str | None = None
    layout: ImageLayout | None = None

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
    pixels : what the image holds: "dn" amplitude whose lone zeros are dark ground; "amplitude" and "complex", where 0 is no data;
        "coverage" where no pixels are read, and the power is 1 where there are data (Sentinel-1 SLC)
    looks : lines and pixels of the file in one of the scene's (`multilooked`)
    coverage : where an image of "coverage" has data, without looks
    swaths : sub-swaths of an image of bursts, from near to far range
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
    grid: ImageGrid
    calibration: Tables[Calibration]
    noise: Tables[Noise | None]
    noise_removed: bool
    geolocation_grid: GeolocationGrid
    measurements: Tables[Measurement]
    pixels: Literal["dn", "amplitude", "complex", "coverage"] = "dn"
    looks: tuple[int, int] = (1, 1)
    coverage: Coverage | None = None
    swaths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(lines, pixels)."""
        return self.grid.shape

    @property
    def warnings(self) -> tuple[str, ...]:
        """What fell back or is missing, the orbit's part included."""
        return (*self.notes, self.orbit.note) if self.orbit.note else self.notes

    def check_pixels(self) -> None:
        """InputError for a scene whose pixels are not read here."""
        if self.pixels == "coverage":
            hint = "preprocess it with --engine snap, or give the GRD product of the same acquisition"
            raise InputError(f"sarseg by itself reads no pixels of Sentinel-1 {self.mode} {self.product_type}", self.path, hint)

    def dn(self, polarisation: str, window: Window) -> NDArray[np.uint16]:
        """Digital numbers as stored (amplitude; 0 = no data), (rows, cols); InputError when the image file is absent or damaged.

        Parameters
        ----------
        window : inside of the image
        """
        self.check_pixels()
        if self.pixels == "complex" or self.looks != (1, 1):
            raise ValueError(f"{self.id} has no digital numbers: its pixels are {self.pixels}, looks {self.looks}")
        return np.asarray(self._stored(polarisation, window))

    def slc(self, polarisation: str, window: Window) -> NDArray[np.complex64]:
        """Complex samples, complex64 (rows, cols), lines without data NaN; of an image without looks.

        InputError when the product is a detected one.
        """
        self.check_pixels()
        if self.pixels != "complex":
            raise InputError(f"a {self.product_type} image has no phase", self.path, "give a single look complex product")
        if self.looks != (1, 1):
            raise ValueError("looks have no phase")
        return np.asarray(self._stored(polarisation, window))

    def power(self, polarisation: str, window: Window) -> NDArray[np.float32]:
        """Power before calibration, |I + jQ|^2 or DN^2, float32 (rows, cols); the mean over the looks.

        NaN where there is no data, and where less than half of a pixel's looks have data. Zeros of "dn" images stay. As much is
        read at once as a strip needs, whatever the window and the looks.
        """
        if window.clip(self.shape) != window:
            raise ValueError(f"{window} is not inside of an image of {self.shape}")
        out = np.empty(window.shape, np.float32)
        step = max(1, _STRIP_PX // (self.looks[0] * self.looks[1] * max(1, window.cols)))
        for first in range(0, window.rows, step):
            strip = Window(row=window.row + first, col=window.col, rows=min(step, window.rows - first), cols=window.cols)
            out[first : first + strip.rows] = self._power(polarisation, strip)
        return out

    def _power(self, polarisation: str, window: Window) -> NDArray[np.float32]:
        down, across = self.looks
        fine = Window(row=window.row * down, col=window.col * across, rows=window.rows * down, cols=window.cols * across)
        stored = self._stored(polarisation, fine)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.pixels == "complex":
                power = np.square(stored.real, dtype=np.float32) + np.square(stored.imag, dtype=np.float32)
            else:
                power = np.square(stored, dtype=np.float32)
        power[~np.isfinite(power)] = np.nan
        if self.pixels != "dn":
            power[power == 0] = np.nan
        if self.looks == (1, 1):
            return np.asarray(power, np.float32)
        good = np.isfinite(power)
        power[~good] = 0.0
        total, count = _sum_looks(power, self.looks), _sum_looks(good, self.looks)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(2 * count >= down * across, total / count, np.nan).astype(np.float32)

    def products(self, polarisations: Sequence[str], window: Window) -> NDArray[np.complex64]:
        """Mean over the looks of s_i conj(s_j) of complex samples before calibration, complex64 (n, n, rows, cols).

        The diagonal is `power`. NaN where any of the polarisations has no data, and where less than half of a pixel's looks
        have data in all of them. As much is read at once as a strip needs, whatever the window and the looks.
        """
        self.check_pixels()
        if self.pixels != "complex":
            raise InputError(f"a {self.product_type} image has no phase", self.path, "give a single look complex product")
        if window.clip(self.shape) != window:
            raise ValueError(f"{window} is not inside of an image of {self.shape}")
        out = np.empty((len(polarisations), len(polarisations), *window.shape), np.complex64)
        step = max(1, _STRIP_PX // (self.looks[0] * self.looks[1] * window.cols))
        for first in range(0, window.rows, step):
            strip = Window(row=window.row + first, col=window.col, rows=min(step, window.rows - first), cols=window.cols)
            self._products(polarisations, strip, out[:, :, first : first + strip.rows])
        return out

    def _products(self, polarisations: Sequence[str], window: Window, out: NDArray[np.complex64]) -> None:
        down, across = self.looks
        fine = Window(row=window.row * down, col=window.col * across, rows=window.rows * down, cols=window.cols * across)
        samples = [np.asarray(self._stored(name, fine)) for name in polarisations]
        with np.errstate(over="ignore", invalid="ignore"):
            powers = [np.square(one.real, dtype=np.float32) + np.square(one.imag, dtype=np.float32) for one in samples]
            good = np.logical_and.reduce([np.isfinite(power) & (power != 0) for power in powers])
        for one, power in zip(samples, powers, strict=True):
            one[~good], power[~good] = 0.0, 0.0
        count = _sum_looks(good, self.looks)

        def mean(values: NDArray[np.float32]) -> NDArray[np.float64]:
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where(2 * count >= down * across, _sum_looks(values, self.looks) / count, np.nan)

        for i, first in enumerate(samples):
            out[i, i] = mean(powers[i])
            for j, second in enumerate(samples[i + 1 :], i + 1):
                # by parts: how numpy rounds a complex product depends on where in memory the numbers lie
                out[i, j].real = mean(first.real * second.real + first.imag * second.imag)
                out[i, j].imag = mean(first.imag * second.real - first.real * second.imag)
                out[j, i] = out[i, j].conj()

    def multilooked(self, looks: tuple[int, int]) -> Scene:
        """The scene with the mean power of so many lines and pixels in one; what is left over at the ends is cut off.

        Raises
        ------
        ValueError for looks that are no positive numbers or more than the image has, and for scenes of "dn" or with looks
        """
        down, across = looks
        if self.pixels == "dn" or self.looks != (1, 1) or down < 1 or across < 1 or down > self.shape[0] or across > self.shape[1]:
            raise ValueError(f"no {looks} looks of a {self.pixels} image of {self.shape} with {self.looks}")
        shift = (down - 1) / 2.0, (across - 1) / 2.0
        points = self.geolocation_grid
        tables = {name: table.multilooked(looks) for name, table in self.calibration.items()}
        return replace(
            self,
            grid=self.grid.multilooked(looks),
            looks=looks,
            calibration=Tables(tables, what="calibration", where=self.path),
            geolocation_grid=replace(points, line=(points.line - shift[0]) / down, pixel=(points.pixel - shift[1]) / across),
        )

    def with_orbit(self, orbit: Orbit) -> Scene:
        """The scene with another orbit; its times may count from any epoch."""
        return replace(self, orbit=orbit.at_epoch(self.grid.epoch_utc))

    def unpacked(self, folder: Path) -> Scene:
        """The scene with its images outside of the zip, when they are compressed in one; one whose pixels are not read as it is.

        A compressed member can only be read forwards: whoever reads it in another order inflates it again and again. The images
        are inflated once into `folder`, which the caller removes.

        Raises
        ------
        MissingError without room for them, InputError when the archive is damaged
        """
        if self.pixels == "coverage":
            return self
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
            polarisation: replace(
                self.measurements[polarisation], path=str(_inflate(self.measurements[polarisation], folder)), archive=None
            )
            if polarisation in packed
            else self.measurements[polarisation]
            for polarisation in self.measurements
        }
        return replace(self, measurements=Tables(plain, what="image", where=self.path))

    def to_xarray(self) -> xr.DataArray:
        """The image as a lazy DataArray (band, line, pixel), dask chunks of whole lines, of the polarisations that have an image.

        Digital numbers ("dn"), complex samples ("slc"), or the power of looks ("power").
        """
        import dask.array as da
        import xarray as xr

        self.check_pixels()
        bands = [polarisation for polarisation in self.polarisations if polarisation in self.measurements]
        if not bands:
            raise InputError("the product has no image file", self.path, "download the complete product again")
        lines, pixels = self.shape
        chunk = tuple(min(_CHUNK_LINES, lines - first) for first in range(0, lines, _CHUNK_LINES))

        kinds: dict[str, type[np.generic]] = {"slc": np.complex64, "dn": np.uint16, "power": np.float32}
        name = "power" if self.looks != (1, 1) else "slc" if self.pixels == "complex" else "dn"

        def read(block_info: dict[None, dict[str, list[tuple[int, int]]]], polarisation: str) -> NDArray[Any]:
            first, last = block_info[None]["array-location"][0]
            window = Window(row=first, col=0, rows=last - first, cols=pixels)
            return np.asarray(getattr(self, name)(polarisation, window))

        layers = [da.map_blocks(read, chunks=(chunk, (pixels,)), dtype=kinds[name], polarisation=band) for band in bands]
        attributes = {"id": self.id, "mission": self.mission, "mode": self.mode, "product_type": self.product_type}
        return xr.DataArray(da.stack(layers), dims=("band", "line", "pixel"), coords={"band": bands}, name=name, attrs=attributes)

    def _stored(self, polarisation: str, window: Window) -> NDArray[Any]:
        """Pixels of a window of the file."""
        if self.coverage is not None:
            return self.coverage.within(window)
        measurement = self.measurements[polarisation]
        if measurement.layout is None:
            if window.clip(self.shape) != window:
                raise ValueError(f"{window} is not inside of an image of {self.shape}")
            return self._image(polarisation).read_codes(window)
        source = Source(path=measurement.path) if measurement.archive is None else Source(path=measurement.archive, member=measurement.path)
        return CeosImage(source=source, layout=measurement.layout).read(window)

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


def _sum_looks(values: NDArray[Any], looks: tuple[int, int]) -> NDArray[np.float64]:
    """Sum of the values in each box of so many lines and pixels, float64, added in one order."""
    down, across = looks
    total = np.zeros((values.shape[0] // down, values.shape[1] // across))
    for row in range(down):
        for col in range(across):
            total += values[row::down, col::across]
    return total


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
