"""Patches in one zarr v3 array a kind, sharded and uncompressed: written in one pass, read as slices of the files.

Any zarr v3 reader opens the arrays. A shard ends with the (offset, length) of each of its chunks as little-endian uint64
and a CRC-32C (zarr v3 specification, codec `sharding_indexed` 1.0); an uncompressed chunk is a slice of the file, so a
patch is read by one look into that index (zarr-python spends thirty times as long on a patch).
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError

_SHARD_BYTES = 64 << 20
_ABSENT = (1 << 64) - 1  # offset and length of a chunk that was never written: all fill value
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected


class ShardWriter:
    """Appends patches to a zarr array `folder`; the array is complete when the writer is left without error.

    Parameters
    ----------
    shape : of one patch, e.g. (bands, rows, cols)
    fill : what a reader sees where nothing was written: NaN or an integer
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: str, fill: float) -> None:
        self._folder = folder
        self._shape = shape
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._fill = fill
        self._chunk_bytes = int(np.prod(shape)) * self._dtype.itemsize
        self._per_shard = max(1, min(256, _SHARD_BYTES // self._chunk_bytes))
        self._file: BinaryIO | None = None
        self._in_shard = 0
        self.count = 0
        folder.mkdir(parents=True)

    def append(self, patch: NDArray[Any]) -> None:
        """Write one more patch."""
        if patch.shape != self._shape:
            raise ValueError(f"a patch {patch.shape} does not fit an array of {self._shape}")
        if self._file is None:
            path = self._folder / _key(self.count // self._per_shard, len(self._shape))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb")
        self._file.write(np.ascontiguousarray(patch, self._dtype).data)
        self._in_shard += 1
        self.count += 1
        if self._in_shard == self._per_shard:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._file is None:
            return
        index = np.full((self._per_shard, 2), _ABSENT, "<u8")
        index[: self._in_shard, 0] = np.arange(self._in_shard, dtype="<u8") * self._chunk_bytes
        index[: self._in_shard, 1] = self._chunk_bytes
        with self._file as file:
            file.write(index.tobytes() + crc32c(index.tobytes()).to_bytes(4, "little"))
        self._file, self._in_shard = None, 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            if self._file is not None:
                self._file.close()
            return
        self._end_shard()
        (self._folder / "zarr.json").write_text(json.dumps(self._metadata(), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _metadata(self) -> dict[str, Any]:
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        plain = little if self._dtype.itemsize > 1 else {"name": "bytes"}
        sharding = {
            "chunk_shape": [1, *self._shape],
            "codecs": [plain],
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [self.count, *self._shape],
            "data_type": self._dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self._per_shard, *self._shape]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN" if np.isnan(self._fill) else int(self._fill),
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["patch", *("band", "y", "x")[3 - len(self._shape) :]],
            "attributes": {},
        }


class ShardReader:
    """Reads single patches of such an array, by threads and worker processes alike.

    InputError when the array is damaged, or is compressed or cut in another way.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            meta = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
            (codec,) = meta["codecs"]
            sharding = codec["configuration"]
            self.shape: tuple[int, ...] = tuple(meta["shape"])
            self.dtype = np.dtype(meta["data_type"]).newbyteorder("<")
            self._per_shard = int(meta["chunk_grid"]["configuration"]["chunk_shape"][0])
            self._fill = float(meta["fill_value"])
            plain = [inner["name"] for inner in sharding["codecs"]] == ["bytes"] and sharding.get("index_location", "end") == "end"
            whole = tuple(sharding["chunk_shape"]) == (1, *self.shape[1:])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError("is no zarr array of patches", folder, str(error)) from error
        if codec.get("name") != "sharding_indexed" or not plain or not whole:
            raise InputError("is a zarr array of another layout", folder, "patches are uncompressed chunks of (1, ...) in shards")
        # a map has no place to share or lose: a forked process reads the same one
        self._open: dict[int, tuple[mmap.mmap, NDArray[np.uint64]]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[Any]:
        """One patch, a fresh array of the array's dtype."""
        if not 0 <= index < self.shape[0]:
            raise IndexError(f"no patch {index} in {self.shape[0]}")
        shard, inside = divmod(index, self._per_shard)
        opened = self._open.get(shard)
        if opened is None:
            opened = self._map(shard)
        memory, places = opened
        offset, length = int(places[inside, 0]), int(places[inside, 1])
        if offset == _ABSENT:
            return np.full(self.shape[1:], self._fill, self.dtype)
        count = int(np.prod(self.shape[1:]))
        if length != count * self.dtype.itemsize:
            raise InputError(f"patch {index} is damaged", self._folder)
        return np.frombuffer(memory, self.dtype, count, offset).reshape(self.shape[1:]).copy()

    def _map(self, shard: int) -> tuple[mmap.mmap, NDArray[np.uint64]]:
        path = self._folder / _key(shard, len(self.shape) - 1)
        size = self._per_shard * 16
        try:
            with path.open("rb") as file:
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise InputError("a shard is absent or empty", path, "write the data set again") from error
        tail = memory[-size - 4 :]
        places = np.frombuffer(tail[:-4], "<u8").reshape(-1, 2) if len(tail) == size + 4 else np.empty((0, 2), "<u8")
        ends = [offset + length for offset, length in places.tolist() if offset != _ABSENT]
        whole = len(places) and max(ends, default=0) <= len(memory) - size - 4
        if not whole or crc32c(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
            raise InputError("a shard is damaged", path, "write the data set again")
        return self._open.setdefault(shard, (memory, places))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}


def crc32c(data: bytes) -> int:
    """CRC-32C of a few kilobytes (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 255] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _table()


def _key(shard: int, inner_dimensions: int) -> str:
    return "/".join(["c", str(shard), *["0"] * inner_dimensions])
