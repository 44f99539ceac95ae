"""The class rasters behind a path: a file, a folder of tiles, or an archive of tiles that is read in place."""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from sarseg.errors import InputError, MissingError
from sarseg.labels.known import recognise
from sarseg.raster.read import Raster, open_raster

_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
_RASTERS = (".tif", ".tiff")
_MAX_MEMBERS = 10_000
_MAX_UNPACKED_BYTES = 8 << 30  # a bundle of 25 tiles unpacks to 0.5 GB
_MAX_HEADER_BYTES = 64 << 10
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFile:
    """One class raster.

    Parameters
    ----------
    name : its name, in a form in which products are recognised
    header : text of its ENVI header, "" without one
    """

    raster: Raster
    name: Path
    header: str = ""


def is_archive(path: Path) -> bool:
    """Whether the name is one of an archive."""
    return path.name.lower().endswith(_ARCHIVES)


def class_files(path: str | Path) -> list[ClassFile]:
    """Open what lies behind `path`, in the order of the names.

    In a folder or archive these are the rasters of known products, in it or in its folders; when there are none, its GeoTIFFs.

    InputError when there is none, or when something is damaged; MissingError without permission.
    """
    if str(path).startswith("/vsi"):
        return [ClassFile(raster=open_raster(path), name=Path(str(path)))]
    path = Path(path)
    if path.is_dir():
        found = _chosen([one.relative_to(path).as_posix() for one in sorted(path.rglob("*")) if one.is_file()])
        files = [one for name in found for one in class_files(path / name)]
    elif is_archive(path):
        files = list(_in_archive(path))
    else:
        return [_plain(path)]
    if not files:
        raise InputError("holds no class raster that is known by its name, and no GeoTIFF", path)
    return files


def _chosen(names: Sequence[str]) -> list[str]:
    """The names of known products; else of GeoTIFFs."""
    pieces = [PurePosixPath(name) for name in names if not name.lower().endswith((".hdr", ".xml", ".txt", ".kml", ".png", ".jpg", ".ovr"))]
    known = [str(one) for one in pieces if "inputquality" not in one.name.lower() and recognise(Path(one), {}).kind is not None]
    return known or [str(one) for one in pieces if one.suffix.lower() in _RASTERS]


def _plain(path: Path) -> ClassFile:
    """A file; for an ENVI header the raster beside it."""
    if path.suffix.lower() == ".hdr" and path.with_suffix("").is_file():
        path = path.with_suffix("")
    raster = open_raster(path)
    beside = [one for one in (path.with_name(f"{path.name}.hdr"), path.with_suffix(".hdr")) if one.is_file()]
    header = ""
    if beside and path.suffix.lower() not in _RASTERS:
        with beside[0].open("rb") as file:
            header = file.read(_MAX_HEADER_BYTES).decode("utf-8", "replace")
        _check_size(raster, header, path.stat().st_size, path)
    return ClassFile(raster=raster, name=path, header=header)


def _in_archive(path: Path) -> Iterator[ClassFile]:
    prefix = "/vsizip/" if path.name.lower().endswith(".zip") else "/vsitar/"
    try:
        status = path.stat()
        sizes, headers = _listing(path)
    except _UNREADABLE as error:
        raise InputError("the archive is damaged", path, f"download it again ({error})") from error
    except FileNotFoundError as error:
        raise InputError("no such file", path) from error
    except PermissionError as error:
        raise MissingError("no permission to read", path, "change the permissions") from error
    except OSError as error:
        raise InputError("the archive cannot be read", path, str(error)) from error
    for name in _chosen(sorted(sizes)):
        if is_archive(Path(name)):
            raise InputError(f"{name} is an archive inside of the archive", path, "unpack the outer one and give its folder")
        raster = replace(open_raster(f"{prefix}{path.absolute()}/{name}"), identity=(status.st_size, status.st_mtime_ns))
        header = headers.get(f"{name}.hdr", headers.get(str(PurePosixPath(name).with_suffix(".hdr")), ""))
        if not name.lower().endswith(_RASTERS):
            _check_size(raster, header, sizes[name], f"{path}, {name}")
        yield ClassFile(raster=raster, name=path.parent / PurePosixPath(name).name, header=header)


def _listing(path: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Size of each file in an archive, and the text of each ENVI header."""
    sizes: dict[str, int] = {}
    headers: dict[str, str] = {}
    total = 0
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                total += _counted(path, member.file_size, total, len(sizes))
                sizes[member.filename] = member.file_size
                if member.filename.lower().endswith(".hdr"):
                    with archive.open(member) as file:
                        headers[member.filename] = file.read(_MAX_HEADER_BYTES).decode("utf-8", "replace")
        return {name: size for name, size in sizes.items() if not name.endswith("/")}, headers
    with tarfile.open(path) as archive_t:
        for info in archive_t:
            total += _counted(path, info.size, total, len(sizes))
            if not info.isreg():
                continue
            name = info.name.removeprefix("./")
            sizes[name] = info.size
            if name.lower().endswith(".hdr"):
                content = archive_t.extractfile(info)
                assert content is not None
                headers[name] = content.read(_MAX_HEADER_BYTES).decode("utf-8", "replace")
    return sizes, headers


def _counted(path: Path, size: int, total: int, members: int) -> int:
    if size < 0 or total + size > _MAX_UNPACKED_BYTES or members >= _MAX_MEMBERS:
        raise InputError("the archive says that it unpacks to more than labels can be", path, "it is damaged, or no archive of labels")
    return size


def _check_size(raster: Raster, header: str, size: int, where: object) -> None:
    """A raw file holds as many bytes as its ENVI header says; GDAL fills up what is missing."""
    found = re.search(r"^header offset\s*=\s*(\d{1,9})\s*$", header, re.MULTILINE)
    rows, cols = raster.grid.shape
    asked = rows * cols * len(raster.bands) * np.dtype(raster.dtype).itemsize + (int(found[1]) if found else 0)
    if size != asked:
        raise InputError(f"the raw raster has {size} bytes where its header asks for {asked}", where, "download it again")
