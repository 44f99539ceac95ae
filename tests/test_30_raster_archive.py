"""Unpacking a tar: every file under its own name, or a clear word and no more."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sarseg.errors import InputError
from sarseg.raster.archive import unpack


def tar(path: Path, *files: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_files_come_out_without_their_folders(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.gz", ("./one", b"1" * 70_000), ("deep/er/two", b""), ("deep/three.xml", b"3"))
    out = tmp_path / "out"
    out.mkdir()
    unpack(path, out)
    assert {one.name: one.read_bytes() for one in out.iterdir()} == {"one": b"1" * 70_000, "two": b"", "three.xml": b"3"}


def test_two_files_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two files are named x"):
        unpack(tar(tmp_path / "a.tar.gz", ("a/x", b"1"), ("b/x", b"2")), tmp_path)


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="outside"):
        unpack(tar(tmp_path / "a.tar.gz", ("ok", b"1"), ("../evil", b"2")), out)
    assert not (tmp_path / "evil").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    out = tmp_path / "out"
    out.mkdir()
    unpack(tmp_path / "a.tar.gz", out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
def test_cut(keep: float, tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.gz", ("x", bytes(range(256)) * 400), ("y", b"2"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match="damaged"):
        unpack(path, tmp_path)
