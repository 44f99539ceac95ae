"""`Product`: bands and a mask on one map grid, whatever their files store; `LandcoverMap`: classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sarseg.bands import Quantity
from sarseg.decibel import from_db
from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.legend import IGNORE, NODATA, Legend
from sarseg.masks import INVALID, Mask
from sarseg.raster.archive import split_virtual
from sarseg.raster.joined import JoinedRaster
from sarseg.raster.read import Raster
from sarseg.tiles import BLOCK, Window

if TYPE_CHECKING:
    import xarray

log = logging.getLogger(__name__)

INCIDENCE_BAND = "incidence"
ELLIPSOID_INCIDENCE_BAND = "ellipsoid_incidence"
DATE_BAND = "date"
"""Days since 1970-01-01, as numpy's datetime64[D] counts them."""
WATER_BAND = "water"
"""1 = ocean or inland water, 0 = land, as the product's own mask says it."""
POLARISATIONS = ("VV", "VH", "HH", "HV")

Radiometry = Literal["gamma0", "sigma0", "beta0"]

_UNKNOWN = 255  # no sum of our bits


class Layer(Protocol):
    """What a product asks of a raster: `sarseg.raster.read.Raster`, or several joined."""

    @property
    def path(self) -> str:
        """Its file."""
        ...

    @property
    def grid(self) -> MapGrid:
        """Where its pixels lie."""
        ...

    @property
    def bands(self) -> tuple[str, ...]:
        """Band names."""
        ...

    def read(self, window: Window | None = None, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Values float32 (band, rows, cols), NaN where there is none."""
        ...

    def read_codes(self, window: Window | None = None, band: int = 0) -> NDArray[Any]:
        """Integers as they are stored, (rows, cols)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """From the values of a file to those of a band, window by window.

    Parameters
    ----------
    form : "linear" = value * factor + offset; "square" = value^2 * factor; "decibel" = 10^(value / 10) * factor;
        "table" = what `table` says of an integer value, NaN for others
    nodata : values that mean "none"
    nodata_upto, nodata_above : values up to the one, and above the other, mean "none"
    """

    form: Literal["linear", "square", "decibel", "table"] = "linear"
    factor: float = 1.0
    offset: float = 0.0
    nodata: tuple[float, ...] = ()
    nodata_upto: float | None = None
    nodata_above: float | None = None
    table: tuple[tuple[int, float], ...] = ()

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The band's values float32, of the shape of `values`, which may be changed; NaN stays NaN, infinity becomes NaN."""
        if self.form == "table":
            out = np.full(values.shape, np.nan, np.float32)
            for code, meaning in self.table:
                out[values == code] = meaning
            return out
        for value in self.nodata:
            np.copyto(values, np.nan, where=values == np.float32(value))
        if self.nodata_upto is not None:
            np.copyto(values, np.nan, where=values <= np.float32(self.nodata_upto))
        if self.nodata_above is not None:
            np.copyto(values, np.nan, where=values > np.float32(self.nodata_above))
        with np.errstate(over="ignore"):
            if self.form == "square":
                values *= values
            elif self.form == "decibel":
                values = np.asarray(from_db(values), np.float32)
            if self.factor != 1.0:
                values *= np.float32(self.factor)
            if self.offset != 0.0:
                values += np.float32(self.offset)
        if self.form != "linear":
            np.copyto(values, np.nan, where=np.isinf(values))
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskCodes:
    """What each code 0..255 of a foreign mask means in our bits; `bits` holds 256 of them, None for a code that nobody knows."""

    bits: tuple[int | None, ...]

    @classmethod
    def of(cls, meanings: Mapping[int, int]) -> MaskCodes:
        """From the known codes."""
        return cls(bits=tuple(meanings.get(code) for code in range(256)))

    @classmethod
    def of_bits(cls, meanings: Mapping[int, int]) -> MaskCodes:
        """From a sum of bits: the meaning of each bit; code 0 is no data."""
        sums = [sum(meaning for bit, meaning in meanings.items() if code & bit) for code in range(256)]
        return cls(bits=(int(Mask.NO_DATA), *sums[1:]))

    def unknown(self, codes: NDArray[Any]) -> list[int]:
        """The codes among `codes` that nobody knows."""
        return [int(code) for code in np.unique(codes) if not 0 <= code < 256 or self.bits[int(code)] is None]

    def apply(self, codes: NDArray[Any], where: str) -> NDArray[np.uint8]:
        """Our bits uint8 of the shape of `codes`; an unknown code is no data, which is said once a file."""
        table = np.array([_UNKNOWN if bits is None else bits for bits in self.bits], np.uint8)
        if codes.dtype != np.uint8:
            codes = np.where((codes < 0) | (codes > 255), -1, codes).astype(np.int16)
            table = np.append(table, np.uint8(_UNKNOWN))  # where -1 points
        bits = table[codes]
        odd = bits == _UNKNOWN
        if odd.any():
            bits[odd] = int(Mask.NO_DATA)
            _say_unknown(where, tuple(np.unique(codes[odd]).tolist()))
        return np.asarray(bits, np.uint8)


def _say_unknown(where: str, codes: tuple[int, ...]) -> None:
    if where not in _said:
        _said.add(where)
        log.warning("%s: mask code %s not known: its pixels are taken as no data", where, ", ".join(map(str, codes)))


_said: set[str] = set()
"""Files whose unknown codes were said: once a file is enough."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """Bands on one map grid: linear power of backscatter ("power"), or values as they stand in the file ("raw")."""

    path: Path
    id: str
    grid: MapGrid
    quantity: Quantity
    rasters: Mapping[str, Layer] = field(hash=False)
    """The file of each band, by band name."""
    mask_raster: Layer | None
    item: dict[str, Any] = field(hash=False)
    auxiliary: frozenset[str] = frozenset({INCIDENCE_BAND})
    """Bands of a product of power that hold something else: they are read by name only."""
    conversions: Mapping[str, Conversion] = field(default_factory=dict, hash=False)
    """How the values of a file become those of a band; a band without one stands in its file as it is."""
    mask_codes: MaskCodes | None = None
    """Of a mask in foreign codes; None when it holds our bits."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that hold backscatter; the auxiliary ones, "incidence" among them, can be read beside them."""
        return tuple(name for name in self.rasters if self.quantity == "raw" or name not in self.auxiliary)

    @property
    def datetime_utc(self) -> str | None:
        """Time of the scene, ISO 8601, or None when it is not known."""
        stamp = self.item.get("properties", {}).get("datetime")
        return str(stamp) if stamp else None

    @property
    def radiometry(self) -> str | None:
        """ "gamma0", "sigma0" or "beta0"; None when it is not known, or the bands are something else."""
        found = self.item.get("properties", {}).get("sarseg:quantity")
        return str(found) if found else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was assumed or fell short."""
        return tuple(map(str, self.item.get("properties", {}).get("sarseg:warnings", ())))

    def files(self, bands: Sequence[str] | None = None) -> tuple[Path, ...]:
        """The files (or the archives that hold them) behind the bands, all when None, and behind the mask; sorted."""
        layers = [self.rasters[name] for name in (self.rasters if bands is None else bands)]
        layers += [self.mask_raster] if self.mask_raster is not None else []
        tiles = [layer.tiles if isinstance(layer, JoinedRaster) else ((layer, 0, 0),) for layer in layers]
        places = {raster.path for one in tiles for raster, _, _ in one}
        return tuple(sorted({found[0] if (found := split_virtual(place)) is not None else Path(place) for place in places}))

    def read(self, window: Window | None = None, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Values float32 (band, rows, cols), NaN where there is none.

        InputError for a band that the product lacks.
        """
        wanted = self.bands if bands is None else tuple(bands)
        missing = [name for name in wanted if name not in self.rasters]
        if missing:
            raise InputError(f"no band {', '.join(missing)}", self.path, f"bands are {', '.join(self.rasters)}")
        window = window or Window.whole(self.grid.shape)
        out = self._values(window, wanted)
        if self.mask_codes is not None:
            np.copyto(out, np.nan, where=(self._bits(window) & INVALID) != 0)
        return out

    def mask(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Our mask bits, uint8 (rows, cols); NO_DATA where any band is NaN, unless the product brings a mask of ours."""
        window = window or Window.whole(self.grid.shape)
        if self.mask_raster is not None and self.mask_codes is None:
            return np.asarray(self.mask_raster.read_codes(window), np.uint8)
        empty = np.isnan(self._values(window, self.bands)).any(0)
        bits = np.where(empty, np.uint8(Mask.NO_DATA), np.uint8(0))
        return bits if self.mask_codes is None else bits | self._bits(window)

    def valid(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Where there is backscatter, bool (rows, cols)."""
        return np.asarray((self.mask(window) & INVALID) == 0)

    def to_xarray(self) -> xarray.Dataset:
        """Lazy bands and mask, dask chunks of one block, with x and y coordinates of pixel centres."""
        import dask.array as da
        import xarray as xr

        rows, cols = self.grid.shape
        chunks = (_chunks(rows), _chunks(cols))
        variables = {
            name: (("y", "x"), da.map_blocks(_read_chunk, self, name, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32)))
            for name in self.rasters
        }
        variables["mask"] = (
            ("y", "x"),
            da.map_blocks(_read_chunk, self, None, chunks=chunks, dtype=np.uint8, meta=np.empty((0, 0), np.uint8)),
        )
        coords: dict[str, Any] = {}
        if self.grid.transform.b == 0 and self.grid.transform.d == 0:
            coords["x"], coords["y"] = self.grid.centres()
        attributes = {"id": self.id, "quantity": self.quantity, "crs": self.grid.crs.to_wkt() if self.grid.crs else None}
        return xr.Dataset(variables, coords=coords, attrs=attributes)

    def _values(self, window: Window, wanted: tuple[str, ...]) -> NDArray[np.float32]:
        """Converted values of bands; the mask has no say."""
        out = np.empty((len(wanted), *window.shape), np.float32)
        for raster in {id(self.rasters[name]): self.rasters[name] for name in wanted}.values():
            at = [i for i, name in enumerate(wanted) if self.rasters[name] is raster]
            out[at] = raster.read(window, [self._band_in_file(wanted[i]) for i in at])
        for i, name in enumerate(wanted):
            if name in self.conversions:
                out[i] = self.conversions[name].apply(out[i])
        return out

    def _bits(self, window: Window) -> NDArray[np.uint8]:
        """A foreign mask in our bits."""
        assert self.mask_codes is not None
        assert self.mask_raster is not None
        return self.mask_codes.apply(self.mask_raster.read_codes(window), self.mask_raster.path)

    def _band_in_file(self, name: str) -> str:
        raster = self.rasters[name]
        return name if name in raster.bands else raster.bands[0]


@dataclass(frozen=True, kw_only=True)
class LandcoverMap:
    """A class raster with its legend, and the confidence of each pixel where it was written."""

    path: Path
    id: str
    grid: MapGrid
    legend: Legend
    raster: Raster
    confidence_raster: Raster | None
    item: dict[str, Any] = field(hash=False)

    def codes(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Class codes uint8 (rows, cols); 0 = nodata. InputError for a code that is no class of the legend."""
        codes = self.raster.read_codes(window)
        unknown = codes[~np.isin(codes, [NODATA, IGNORE, *self.legend.codes])]
        if unknown.size:
            raise InputError(f"code {unknown[0]} is no class of the map", self.raster.path, "its tags should hold class_1=..., class_2=...")
        return np.asarray(codes, np.uint8)

    def confidence(self, window: Window | None = None) -> NDArray[np.uint8] | None:
        """Confidence uint8 (rows, cols) as written by `predict`, or None without such a file."""
        return None if self.confidence_raster is None else np.asarray(self.confidence_raster.read_codes(window), np.uint8)


def _chunks(length: int) -> tuple[int, ...]:
    return tuple(min(BLOCK, length - start) for start in range(0, length, BLOCK))


def _read_chunk(product: Product, name: str | None, block_info: Any = None) -> NDArray[Any]:
    (row, row_stop), (col, col_stop) = block_info[None]["array-location"]
    window = Window(row=row, col=col, rows=row_stop - row, cols=col_stop - col)
    return product.mask(window) if name is None else product.read(window, [name])[0]
