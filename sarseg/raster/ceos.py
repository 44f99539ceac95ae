"""CEOS files: records that are declared as data and walked by their lengths, and the pixels of image files (docs/palsar.md 2)."""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.tiles import Window

HEAD_BYTES = 12
_MOST_RECORDS = 512
_MOST_BYTES = 256 << 20  # of a leader, volume or trailer file; the greatest are some ten megabytes
_MOST_SIDE = 1 << 20  # lines or pixels
_DEFLATED_LARGE, _DEFLATED_RATIO = 1 << 30, 100  # more is no image of a radar, whose noise packs badly
_DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError)
_AGAIN = "download the product again"

_PROCESSED_BYTES, _SIGNAL_BYTES, _MOST_PREFIX_BYTES = 192, 412, 4096  # prefixes; ESA's level 1.1 has that of processed data
FILE_DESCRIPTOR_BYTES = 720
TYPE_IMAGE_DESCRIPTOR = (50, 192, 18, 18)
TYPE_SIGNAL = (50, 10, 18, 20)
TYPE_PROCESSED = (50, 11, 18, 20)

Value = str | int | float | None
Type = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One value of a record, or a row of equal ones.

    Parameters
    ----------
    name : ends in the unit that a decoded number has
    offset : bytes from the record's start, 0-based
    kind : "A" text, "I" and "F" numbers as text, "B" big-endian unsigned binary
    width : bytes
    unit, factor : in the file, and what makes the name's unit of it
    count, step : how many, and the bytes from one to the next; count 0 = a single value
    """

    name: str
    offset: int
    kind: Literal["A", "I", "F", "B"]
    width: int
    unit: str = ""
    factor: float = 1.0
    count: int = 0
    step: int = 0

    @property
    def stop(self) -> int:
        """One past the last byte."""
        return self.offset + max(0, self.count - 1) * self.step + self.width


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """What a kind of record holds.

    Parameters
    ----------
    name : for people
    type : subtype 1, type, subtype 2, subtype 3
    fields : by name
    """

    name: str
    type: Type
    fields: Mapping[str, Field]

    @property
    def least_bytes(self) -> int:
        """The shortest record that holds every field."""
        return max(field.stop for field in self.fields.values())


def layout(name: str, kind: Type, table: str) -> Layout:
    """A layout from lines `offset type name [unit [factor]]`; the type is a letter and a width, `F16x8+16` = eight, 16 bytes apart."""
    fields = {}
    for line in filter(str.strip, table.splitlines()):
        offset, shape, field_name, *rest = line.split()
        found = re.fullmatch(r"([AIFB])(\d+)(?:x(\d+)\+(\d+))?", shape)
        assert found is not None, line
        fields[field_name] = Field(
            name=field_name,
            offset=int(offset),
            kind=found[1],  # type: ignore[arg-type]
            width=int(found[2]),
            unit=rest[0] if rest else "",
            factor=float(rest[1]) if len(rest) > 1 else 1.0,
            count=int(found[3] or 0),
            step=int(found[4] or 0),
        )
    return Layout(name=name, type=kind, fields=fields)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawRecord:
    """A record as it is walked.

    Parameters
    ----------
    sequence : number in its file, from 1
    type : subtype 1, type, subtype 2, subtype 3
    content : all bytes, the 12 of the head included
    where : file and record, for messages
    """

    sequence: int
    type: Type
    content: bytes
    where: str

    def decoded(self, kind: Layout) -> Record:
        """With names; InputError when it is of another kind or too short."""
        if self.type != kind.type:
            raise InputError(
                f"a record of type {_words(self.type)} where the {kind.name} ({_words(kind.type)}) belongs", self.where, _AGAIN
            )
        if len(self.content) < kind.least_bytes:
            raise InputError(
                f"the {kind.name} has {len(self.content)} bytes, not the {kind.least_bytes} that its fields need", self.where, _AGAIN
            )
        return Record(layout=kind, content=self.content, where=f"{self.where} ({kind.name})")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """Values by name; whatever is not readable is an InputError that names record and field."""

    layout: Layout
    content: bytes
    where: str

    def text(self, name: str) -> str:
        """Text without the blanks around it."""
        value = self._values(name)[0]
        return "" if value is None else str(value)

    def maybe(self, name: str) -> float | None:
        """A number in the name's unit; None = blank."""
        value = self._values(name)[0]
        return None if value is None or isinstance(value, str) else value * self.layout.fields[name].factor

    def number(self, name: str) -> float:
        """A finite number in the name's unit; InputError when the field is blank or `NAN`."""
        value = self.maybe(name)
        if value is None or not math.isfinite(value):
            raise InputError(
                f"field {name} is {'blank' if value is None else 'not a number'}", self.where, "the file is damaged or of a new kind"
            )
        return float(value)

    def integer(self, name: str) -> int:
        """A whole number; InputError when the field is blank."""
        return int(self.number(name))

    def numbers(self, name: str, count: int | None = None) -> NDArray[np.float64]:
        """The first `count` (or all) of equal fields, float64; NaN = blank."""
        values = self._values(name)[:count]
        factor = self.layout.fields[name].factor
        return np.array([np.nan if value is None or isinstance(value, str) else value * factor for value in values])

    def all(self) -> dict[str, Value | tuple[Value, ...]]:
        """Every declared field as it is decoded, before its factor."""
        found: dict[str, Value | tuple[Value, ...]] = {}
        for name, field in self.layout.fields.items():
            values = self._values(name)
            found[name] = tuple(values) if field.count else values[0]
        return found

    def _values(self, name: str) -> list[Value]:
        field = self.layout.fields[name]
        starts = range(field.offset, field.offset + max(1, field.count) * max(1, field.step), max(1, field.step))
        return [self._decode(field, self.content[start : start + field.width]) for start in starts]

    def _decode(self, field: Field, piece: bytes) -> Value:
        if len(piece) != field.width:
            raise InputError(f"field {field.name} lies beyond the record's end", self.where, _AGAIN)
        if field.kind == "B":
            return int.from_bytes(piece, "big")
        text = piece.decode("latin-1").replace("\0", " ").strip()
        if field.kind == "A":
            return text
        if not text:
            return None
        try:
            return int(text) if field.kind == "I" else float(text.upper().replace("D", "E"))
        except ValueError as error:
            raise InputError(f"field {field.name} holds '{text[:20]}', no number", self.where, _AGAIN) from error


def walk(content: bytes, where: str, most: int = _MOST_RECORDS) -> tuple[RawRecord, ...]:
    """The records of a file, each found by the length of the one before.

    Parameters
    ----------
    most : stop after so many (a trailer's image follows its descriptor without a head)

    InputError when a length cannot be, when the numbers do not count 1, 2, ..., or when bytes are left over.
    """
    records: list[RawRecord] = []
    at = 0
    while at < len(content) and len(records) < most:
        here = f"{where}, record {len(records) + 1}"
        if len(content) - at < HEAD_BYTES:
            raise InputError(f"{len(content) - at} bytes after the last record", here, _AGAIN)
        sequence, *kind, length = struct.unpack_from(">I4BI", content, at)
        if length < HEAD_BYTES or length > len(content) - at:
            raise InputError(
                f"a record of {length} bytes where {len(content) - at} are left", here, f"the file is truncated or damaged: {_AGAIN}"
            )
        if sequence != len(records) + 1:
            raise InputError(f"the record says that it is number {sequence}", here, _AGAIN)
        records.append(
            RawRecord(sequence=sequence, type=(kind[0], kind[1], kind[2], kind[3]), content=content[at : at + length], where=here)
        )
        at += length
    if at < len(content) and most == _MOST_RECORDS:
        raise InputError(f"more than {_MOST_RECORDS} records", where, _AGAIN)
    return tuple(records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Bytes of a file, or of a member of a zip archive in place.

    Parameters
    ----------
    path : the file or the archive
    member : name inside of the archive; "" = a plain file
    """

    path: str
    member: str = ""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.path}/{self.member}" if self.member else self.path

    @property
    def size_bytes(self) -> int:
        """As the file system or the archive says; InputError when there is no such file."""
        return _place(self)[1]

    def read(self, most_bytes: int = _MOST_BYTES) -> bytes:
        """All of it; InputError when it is longer than such a file can be."""
        size = self.size_bytes
        if size > most_bytes:
            raise InputError(f"the file has {size} bytes", self.where, "it is damaged, or of another kind")
        with self.open() as file:
            return file.pick(0, size)

    @contextmanager
    def open(self) -> Iterator[Opened]:
        """A handle; trouble with the file comes out as InputError."""
        base, size = _place(self)
        try:
            if base is not None:
                with Path(self.path).open("rb") as file:
                    yield Opened(file=file, base=base, where=self.where)
            else:
                with zipfile.ZipFile(self.path) as archive:
                    info = archive.getinfo(self.member)
                    if size > _DEFLATED_LARGE and size > _DEFLATED_RATIO * max(1, info.compress_size):
                        raise InputError(f"{info.compress_size} bytes that unpack to {size}", self.where, "the archive is damaged")
                    with archive.open(info) as inside:
                        yield Opened(file=inside, base=0, where=self.where)
        except _DAMAGED as error:
            raise InputError("cannot be read", self.where, f"{error or type(error).__name__}; {_AGAIN}") from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A source that is open, its first byte at `base`."""

    file: IO[bytes]
    base: int
    where: str

    def pick(self, offset: int, count: int) -> bytes:
        """Bytes; ascending offsets are quick in a compressed member too. InputError when they end early."""
        self.file.seek(self.base + offset)
        content = self.file.read(count)
        if len(content) != count:
            raise InputError(f"the file ends {count - len(content)} bytes too early", self.where, f"it is truncated: {_AGAIN}")
        return content


@cache
def _stored(path: str, member: str, identity: tuple[int, int]) -> tuple[int | None, int]:
    """Where a member's bytes lie inside of the archive when it is not compressed, else None; and its size."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
    if info.flag_bits & 1:
        raise RuntimeError("the member is encrypted")
    if info.compress_type != zipfile.ZIP_STORED:
        return None, info.file_size
    with Path(path).open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(30)
    if head[:4] != b"PK\3\4":
        raise zipfile.BadZipFile("no local head")
    name_bytes, extra_bytes = struct.unpack_from("<HH", head, 26)
    base = info.header_offset + 30 + name_bytes + extra_bytes
    return base, min(info.file_size, max(0, identity[0] - base))


def _place(source: Source) -> tuple[int | None, int]:
    """Offset of the first byte in the file (None = compressed) and the number of bytes."""
    try:
        status = Path(source.path).stat()
        if not source.member:
            return 0, status.st_size
        return _stored(source.path, source.member, (status.st_size, status.st_mtime_ns))
    except _DAMAGED as error:
        raise InputError("cannot be read", source.where, f"{error or type(error).__name__}; {_AGAIN}") from error


DESCRIPTOR = layout(
    "image file descriptor",
    TYPE_IMAGE_DESCRIPTOR,
    """
    180 I6  records
    186 I6  record_bytes
    216 I4  bits_per_sample
    220 I4  samples_per_group
    224 I4  bytes_per_group
    232 I4  channels
    236 I8  lines
    244 I4  left_border_px
    248 I8  pixels
    256 I4  right_border_px
    260 I4  top_border_px
    264 I4  bottom_border_px
    268 A4  interleave
    276 I4  prefix_bytes
    280 I8  data_bytes
    288 I4  suffix_bytes
    400 A28 format
    428 A4  format_code
    440 I8  maximum
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayout:
    """Where the pixels of an image file lie.

    Parameters
    ----------
    lines, pixels : of the image
    record_bytes, prefix_bytes : of a line; the prefix begins with the record's head
    dtype : "u2" amplitude, "c8" pairs of float32; both big-endian in the file
    signal : the lines are signal data records, not processed data records (docs/palsar.md 4)
    """

    lines: int
    pixels: int
    record_bytes: int
    prefix_bytes: int
    dtype: Literal["u2", "c8"]
    signal: bool

    @property
    def invalid_at(self) -> int | None:
        """Offset of the flag that marks a line without data."""
        return 96 if self.signal else None


def read_layout(source: Source) -> ImageLayout:
    """Layout of an image file, from its descriptor and its first line; nothing is allocated before the sizes agree with the file's.

    InputError for damaged and truncated files, and for samples of an unknown kind (raw data of level 1.0).
    """
    size = source.size_bytes
    with source.open() as file:
        head = file.pick(0, FILE_DESCRIPTOR_BYTES)
        record = walk(head, source.where, most=1)[0].decoded(DESCRIPTOR)
        lines, record_bytes = record.integer("lines"), record.integer("record_bytes")
        whole = FILE_DESCRIPTOR_BYTES + lines * record_bytes
        _check_size((lines, record_bytes, size), source.where)
        bits, samples = record.integer("bits_per_sample"), record.integer("samples_per_group")
        kinds: dict[tuple[int, int], Literal["u2", "c8"]] = {(16, 1): "u2", (32, 2): "c8"}
        if (bits, samples) not in kinds:
            what = "raw signal data (level 1.0)" if (bits, samples) == (8, 2) else f"{samples} samples of {bits} bits a pixel"
            raise InputError(f"{what}: not supported", source.where, "give a product of level 1.1 or 1.5")
        pixels, prefix = record.integer("pixels"), record.integer("prefix_bytes")
        dtype = kinds[bits, samples]
        if not (
            0 < pixels <= _MOST_SIDE
            and _PROCESSED_BYTES <= prefix <= _MOST_PREFIX_BYTES
            and prefix + pixels * np.dtype(dtype).itemsize <= record_bytes
        ):
            raise InputError(f"{pixels} pixels after {prefix} bytes do not fit into a line of {record_bytes}", source.where, _AGAIN)
        if whole != size:
            raise InputError(f"the file has {size} bytes where {lines} lines ask for {whole}", source.where, _AGAIN)
        kind = _line_head(file.pick(FILE_DESCRIPTOR_BYTES, HEAD_BYTES), record_bytes, source.where)
    return ImageLayout(
        lines=lines,
        pixels=pixels,
        record_bytes=record_bytes,
        prefix_bytes=prefix,
        dtype=dtype,
        signal=kind == TYPE_SIGNAL and prefix >= _SIGNAL_BYTES,
    )


def _check_size(declared: tuple[int, int, int], where: str) -> None:
    lines, record_bytes, size = declared
    if not (0 < lines <= _MOST_SIDE and record_bytes > HEAD_BYTES):
        raise InputError(f"{lines} lines of {record_bytes} bytes", where, f"the head is damaged: {_AGAIN}")
    there = max(0, size - FILE_DESCRIPTOR_BYTES) // record_bytes
    if there < lines:
        raise InputError(f"truncated: {there} of {lines} lines are there", where, _AGAIN)


def _line_head(head: bytes, record_bytes: int, where: str) -> Type:
    _, *kind, length = struct.unpack(">I4BI", head)
    found: Type = (kind[0], kind[1], kind[2], kind[3])
    if found not in (TYPE_SIGNAL, TYPE_PROCESSED) or length != record_bytes:
        raise InputError(f"a record of type {_words(found)} and {length} bytes where a line belongs", where, _AGAIN)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CeosImage:
    """Pixels and line prefixes of an image file."""

    source: Source
    layout: ImageLayout

    def read(self, window: Window) -> NDArray[Any]:
        """Pixels, uint16 or complex64 (rows, cols); a complex line that is marked as invalid is NaN.

        Parameters
        ----------
        window : inside of the image
        """
        shape = self.layout
        if window.clip((shape.lines, shape.pixels)) != window:
            raise ValueError(f"{window} is not inside of an image of {shape.lines} x {shape.pixels}")
        item = np.dtype(shape.dtype).itemsize
        raw = np.empty((window.rows, window.cols * item), np.uint8)
        invalid = np.zeros(window.rows, np.bool_)
        flag_at = shape.invalid_at
        with self.source.open() as file:
            for at in range(window.rows):
                start = FILE_DESCRIPTOR_BYTES + (window.row + at) * shape.record_bytes
                if flag_at is not None:
                    invalid[at] = any(file.pick(start + flag_at, 4))
                raw[at] = np.frombuffer(file.pick(start + shape.prefix_bytes + window.col * item, window.cols * item), np.uint8)
        if shape.dtype == "u2":
            return raw.view(">u2").astype(np.uint16)
        pixels = raw.view(">c8").astype(np.complex64)
        pixels[invalid] = np.nan
        return pixels

    def prefixes(self, step: int = 1) -> NDArray[np.uint8]:
        """Prefixes of every `step`-th line and of the last one, uint8 (n, prefix bytes); each line's head is checked."""
        shape = self.layout
        lines = self.prefix_lines(step)
        out = np.empty((len(lines), shape.prefix_bytes), np.uint8)
        with self.source.open() as file:
            for at, line in enumerate(lines):
                prefix = file.pick(FILE_DESCRIPTOR_BYTES + int(line) * shape.record_bytes, shape.prefix_bytes)
                _line_head(prefix[:HEAD_BYTES], shape.record_bytes, f"{self.source.where}, line {line}")
                out[at] = np.frombuffer(prefix, np.uint8)
        return out

    def prefix_lines(self, step: int = 1) -> NDArray[np.int64]:
        """Numbers of the lines that `prefixes` reads."""
        return np.unique(np.append(np.arange(0, self.layout.lines, step), self.layout.lines - 1))


def big_endian(prefixes: NDArray[np.uint8], offset: int, width: int) -> NDArray[np.int64]:
    """A binary field of every line, int64 (n,); a field of 4 bytes counts as signed."""
    piece = np.ascontiguousarray(prefixes[:, offset : offset + width])
    kind = {2: ">u2", 4: ">i4", 8: ">i8"}[width]
    return piece.view(kind)[:, 0].astype(np.int64)


def _words(kind: Type) -> str:
    return " ".join(map(str, kind))
