"""CEOS records and image files: what the declarations mean, byte by byte, and what is refused."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarseg.errors import InputError, SarsegError
from sarseg.raster.ceos import CeosImage, Source, big_endian, layout, read_layout, walk
from sarseg.tiles import Window

KIND = (18, 10, 18, 20)
TABLE = """
    12 A6  name
    18 I4  count
    22 F8  rate_hz   MHz 1e6
    30 B2  flag
    32 B4  big
    36 F4x3+5 rows
"""


def record(sequence=1, kind=KIND, body=b"", length=None):
    return struct.pack(">I4BI", sequence, *kind, 12 + len(body) if length is None else length) + body


BODY = b"  ALOS" + b"  42" + b"   34.93" + b"\x01\x02" + b"\x80\0\0\1" + b" 1.5|    |1D+1|"


def test_fields_by_type_unit_and_row():
    found = walk(record(body=BODY), "x")[0].decoded(layout("test", KIND, TABLE))
    assert (found.text("name"), found.integer("count"), found.maybe("flag"), found.maybe("big")) == ("ALOS", 42, 258, 0x80000001)
    assert found.number("rate_hz") == pytest.approx(34.93e6, rel=1e-12)
    np.testing.assert_array_equal(found.numbers("rows"), [1.5, np.nan, 10.0])
    assert found.all()["rows"] == (1.5, None, 10.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (record(kind=(1, 2, 3, 4), body=BODY), "type 1 2 3 4"),
        (record(body=BODY[:-3]), "not the 50 that its fields need"),
        (record(body=BODY, length=11), "a record of 11 bytes"),
        (record(body=BODY, length=0xFFFFFFFF), "bytes where"),
        (record(body=BODY) + b"12345", "5 bytes after"),
        (record(sequence=2, body=BODY), "number 2"),
    ],
)
def test_wrong_heads(content, words):
    with pytest.raises(InputError, match=words):
        walk(content, "x")[0].decoded(layout("test", KIND, TABLE))


def test_text_that_is_no_number_names_record_and_field():
    broken = walk(record(body=BODY.replace(b"  42", b" 4x2")), "file")[0].decoded(layout("test", KIND, TABLE))
    with pytest.raises(InputError, match=r"field count holds '4x2', no number \[file, record 1 \(test\)\]"):
        broken.integer("count")
    blank = walk(record(body=BODY.replace(b"   34.93", b" " * 8)), "file")[0].decoded(layout("test", KIND, TABLE))
    assert blank.maybe("rate_hz") is None
    with pytest.raises(InputError, match="rate_hz is blank"):
        blank.number("rate_hz")


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_walked_or_refused(content):
    try:
        records = walk(content, "x")
    except SarsegError:
        return
    assert b"".join(one.content for one in records) == content


def image_file(path, pixels, prefix=192):
    size = 720 + len(pixels) * (prefix + 2 * pixels.shape[1])
    length = prefix + 2 * pixels.shape[1]
    head = bytearray(struct.pack(">I4BI", 1, 50, 192, 18, 18, 720) + b" " * 708)
    lines, cols = pixels.shape
    numbers = {(180, 6): lines, (186, 6): length, (216, 4): 16, (220, 4): 1, (236, 8): lines, (248, 8): cols, (276, 4): prefix}
    for (offset, width), value in numbers.items():
        head[offset : offset + width] = f"{value:{width}d}".encode()
    rows = [
        struct.pack(">I4BI", k + 2, 50, 11, 18, 20, length) + struct.pack(">I", k + 1) + bytes(prefix - 16) + row.astype(">u2").tobytes()
        for k, row in enumerate(pixels)
    ]
    path.write_bytes(bytes(head) + b"".join(rows))
    assert path.stat().st_size == size
    return path


def test_windows_and_prefixes_of_plain_stored_and_packed_images(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 65536, (23, 31)).astype(np.uint16)
    path = image_file(tmp_path / "IMG", pixels)
    sources = [Source(path=str(path))]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / f"{method}.zip", "w", method) as archive:
            archive.writestr("first", b"x" * 1000)
            archive.write(path, "folder/IMG")
        sources.append(Source(path=str(tmp_path / f"{method}.zip"), member="folder/IMG"))
    for source in sources:
        image = CeosImage(source=source, layout=read_layout(source))
        for window in (
            Window(row=0, col=0, rows=23, cols=31),
            Window(row=21, col=30, rows=2, cols=1),
            Window(row=3, col=5, rows=9, cols=7),
        ):
            found = image.read(window)
            assert found.dtype == np.uint16
            np.testing.assert_array_equal(found, pixels[window.slices])
        np.testing.assert_array_equal(big_endian(image.prefixes(), 12, 4), np.arange(1, 24))
        np.testing.assert_array_equal(big_endian(image.prefixes(step=10), 12, 4), [1, 11, 21, 23])
        with pytest.raises(ValueError, match="not inside"):
            image.read(Window(row=0, col=0, rows=24, cols=1))


def test_lengths_that_do_not_fit_the_file(tmp_path):
    path = image_file(tmp_path / "IMG", np.zeros((5, 4), np.uint16))
    whole = path.read_bytes()
    for content, words in (
        (whole[:-1], "truncated: 4 of 5 lines"),
        (whole[:720], "truncated: 0 of 5 lines"),
        (whole[:700], "ends 20 bytes too early"),
        (whole + b"x", "5 lines ask for 1720"),
        (whole[:248] + b"     999" + whole[256:], "do not fit"),
        (whole[:236] + b"       6" + whole[244:], "truncated: 5 of 6 lines"),
        (whole[:216] + b"  32" + whole[220:], "1 samples of 32 bits"),
        (b"", "ends 720 bytes too early"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_layout(Source(path=str(path)))
    with pytest.raises(InputError, match="cannot be read"):
        read_layout(Source(path=str(tmp_path / "absent")))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", b"x")
    with pytest.raises(InputError, match="cannot be read"):
        read_layout(Source(path=str(tmp_path / "a.zip"), member="IMG"))
