"""Writing CEOS files: records from the same declarations that the reader decodes, and the lines of image files (docs/palsar.md 2)."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.raster.ceos import HEAD_BYTES, Field, Layout, Type

Values = Mapping[str, Any]
"""Text, numbers in the unit of the field's name, or a row of numbers, by field; what is absent or None stays blank."""


def record(kind: Layout, sequence: int, length: int, values: Values, words: Mapping[int, str] | None = None) -> bytes:
    """One record of `length` bytes: head, blanks, fields.

    Parameters
    ----------
    words : text at byte offsets, for what the layout does not name

    ValueError for a field that the layout lacks or a value that does not fit.
    """
    out = bytearray(blank(kind.type, sequence, length))
    for offset, text in (words or {}).items():
        out[offset : offset + len(text)] = text.encode("ascii")
    for name, value in values.items():
        field = kind.fields.get(name)
        if field is None or field.stop > length:
            raise ValueError(f"the {kind.name} of {length} bytes has no field {name}")
        row = list(value) if field.count else [value]
        if len(row) > max(1, field.count):
            raise ValueError(f"{len(row)} values for the {field.count} of {name}")
        for k, one in enumerate(row):
            start = field.offset + k * field.step
            out[start : start + field.width] = _field(field, one)
    return bytes(out)


def blank(kind: Type, sequence: int, length: int, text: str = "") -> bytes:
    """A record whose content is text and then blanks."""
    head = struct.pack(">I4BI", sequence, *kind, length)
    return head + text.encode("ascii").ljust(length - HEAD_BYTES)


def _field(field: Field, value: Any) -> bytes:
    if value is None:
        return b" " * field.width
    if field.kind == "A":
        text = str(value).ljust(field.width)
    elif field.kind == "I":
        text = f"{round(value / field.factor):{field.width}d}"
    else:
        text = _number(float(value) / field.factor, field.width).rjust(field.width)
    if len(text) != field.width:
        raise ValueError(f"'{text}' does not fit field {field.name} of {field.width} bytes")
    return text.encode("ascii")


def _number(value: float, width: int) -> str:
    """Fixed point as JAXA writes it where that loses nothing, else with an exponent."""
    if not math.isfinite(value):
        return "NAN"
    if width <= 8:
        return f"{value:.3f}"
    if width == 16:
        fixed = f"{value:.7f}"
        if len(fixed) <= width and math.isclose(float(fixed), value, rel_tol=1e-9):
            return fixed
    return f"{value:.{width - 7}E}"


def put(prefixes: NDArray[np.uint8], offset: int, dtype: str, values: NDArray[Any] | Sequence[float] | float) -> None:
    """Set a big-endian binary field of every line in prefixes uint8 (lines, bytes); numbers are rounded."""
    kind = np.dtype(dtype)
    rounded = np.rint(np.broadcast_to(np.asarray(values, np.float64), len(prefixes))).astype(kind)
    prefixes[:, offset : offset + kind.itemsize] = rounded[:, np.newaxis].view(np.uint8)


def line_heads(kind: Type, lines: int, prefix_bytes: int, record_bytes: int) -> NDArray[np.uint8]:
    """Prefixes of an image's lines, uint8 (lines, prefix_bytes), with their heads; the rest is 0. The file descriptor is record 1."""
    out = np.zeros((lines, prefix_bytes), np.uint8)
    put(out, 0, ">u4", np.arange(2, lines + 2))
    out[:, 4:8] = kind
    put(out, 8, ">u4", record_bytes)
    return out


def line_records(prefixes: NDArray[np.uint8], pixels: NDArray[Any]) -> bytes:
    """Whole records of a block of lines: prefixes uint8 (lines, bytes), pixels uint16 or complex64 (lines, pixels)."""
    samples = np.ascontiguousarray(pixels.astype(">c8" if np.iscomplexobj(pixels) else ">u2"))
    return np.concatenate([prefixes, samples.view(np.uint8).reshape(len(pixels), -1)], axis=1).tobytes()
