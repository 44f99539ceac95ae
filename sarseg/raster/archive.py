"""Files of a folder or an archive (zip, tar, tar.gz), listed and read in place; a tar can be unpacked too."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from lxml import etree  # type: ignore[import-untyped]

from sarseg.errors import InputError, MissingError
from sarseg.raster.cog import check_space
from sarseg.raster.read import Raster, open_raster

ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")
_MAX_MEMBERS = 50_000
_MAX_UNPACKED_BYTES = 64 << 30
_MAX_RECORD_BYTES = 1 << 20  # a name or a tag of a tar member; longer ones are an attack on the memory
_MOST_PADDING_RECORDS = 64
_MAX_PIXELS = 1 << 37
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError)
_FROM_ROOT = re.compile(r"^(/|\\|[A-Za-z]:)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a folder or an archive.

    Parameters
    ----------
    root : the folder or archive
    name : relative to it, with "/"
    size_bytes : as the archive says
    kind : "" in a folder, else GDAL's prefix of the archive
    """

    root: Path
    name: str
    size_bytes: int
    kind: Literal["", "/vsizip/", "/vsitar/"] = ""

    @property
    def base(self) -> str:
        """Name without folders."""
        return PurePosixPath(self.name).name

    @property
    def place(self) -> str:
        """As GDAL opens it."""
        return f"{self.kind}{self.root.absolute()}/{self.name}" if self.kind else str(self.root / self.name)

    def read(self, most_bytes: int) -> bytes:
        """Content; InputError when it is damaged, or longer than a file of its kind can be."""
        if self.size_bytes > most_bytes:
            raise InputError(f"{self.base} has {self.size_bytes} bytes", self.place, "it is damaged")
        try:
            if self.kind == "":
                with Path(self.place).open("rb") as file:
                    return file.read(most_bytes)
            if self.kind == "/vsizip/":
                with zipfile.ZipFile(self.root) as archive, archive.open(self.name) as inside:
                    return inside.read(most_bytes)
            with _open_tar(self.root) as tar:
                for info in tar:
                    if info.isreg() and _clean(info.name) == self.name:
                        found = tar.extractfile(info)
                        assert found is not None
                        return found.read(most_bytes)
        except (*_DAMAGED, OSError, RuntimeError) as error:  # RuntimeError: an encrypted member
            raise InputError(f"{self.base} cannot be read", self.root, str(error)) from error
        raise InputError(f"no file {self.name}", self.root)

    def raster(self, beside: Iterable[Member] = ()) -> Raster:
        """Open it as a raster; a raw one by its ENVI header, which stands among `beside`.

        InputError when it is damaged, when the header is not there, or asks for another number of bytes.
        """
        header = None
        if not self.name.lower().endswith((".tif", ".tiff")):
            header = self.header(beside)
            if header is None:
                raise InputError(f"no ENVI header {self.base}.hdr beside the raw raster", self.place, "download both")
        raster = open_raster(self.place)
        if raster.grid.shape[0] * raster.grid.shape[1] > _MAX_PIXELS:
            raise InputError(
                f"the raster says that it has {raster.grid.shape[0]} x {raster.grid.shape[1]} pixels", self.place, "it is damaged"
            )
        if header is not None:
            self._check_size(raster, header)
        if self.kind:
            status = self.root.stat()
            raster = replace(raster, identity=(status.st_size, status.st_mtime_ns))
        return raster

    def header(self, beside: Iterable[Member]) -> Member | None:
        """The ENVI header of a raw raster among other files, None when it is not there."""
        names = {f"{self.name}.hdr".lower(), str(PurePosixPath(self.name).with_suffix(".hdr")).lower()}
        return next((one for one in beside if one.root == self.root and one.name.lower() in names), None)

    def _check_size(self, raster: Raster, header: Member) -> None:
        """GDAL fills up what is missing of a raw raster: so its size is compared."""
        found = re.search(rb"^header offset\s*=\s*(\d{1,9})\s*$", header.read(_MAX_RECORD_BYTES), re.MULTILINE)
        rows, cols = raster.grid.shape
        asked = rows * cols * len(raster.bands) * np.dtype(raster.dtype).itemsize + (int(found[1]) if found else 0)
        if self.size_bytes != asked:
            raise InputError(
                f"the raw raster has {self.size_bytes} bytes where its header asks for {asked}", self.place, "download it again"
            )


def is_archive(path: Path) -> bool:
    """Whether the name is one of an archive that we read."""
    return path.name.lower().endswith(ENDINGS)


def without_ending(path: Path) -> str:
    """The name of an archive without its ending, of any other file without its suffix."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def list_members(path: Path) -> tuple[Member, ...]:
    """The files of a folder (and of its folders) or of an archive, in the order of their names.

    Raises
    ------
    InputError : no such file, a damaged archive, a name that leads out of it, more or larger members than a product has
    MissingError : no permission
    """
    try:
        if path.is_dir():
            return tuple(sorted(_in_folder(path), key=lambda one: one.name))
        found = list(_in_zip(path) if path.name.lower().endswith(".zip") else _in_tar(path))
    except _DAMAGED as error:
        raise InputError("the archive is damaged or was not downloaded to its end", path, f"download it again ({error})") from error
    except FileNotFoundError as error:
        raise InputError("no such file or folder", path) from error
    except PermissionError as error:
        raise MissingError("no permission to read", path, "change the permissions") from error
    except OSError as error:
        raise InputError("the archive cannot be read", path, str(error)) from error
    return tuple(sorted(found, key=lambda one: one.name))


def unpack(path: Path, folder: Path) -> None:
    """Write the files of a tar into an existing folder, under their names without folders.

    InputError when it is damaged, or two files have one name; MissingError when the disk has not the space.
    """
    check_space(folder, sum(one.size_bytes for one in list_members(path)))
    try:
        with _open_tar(path) as archive:
            for info in archive:
                content = archive.extractfile(info) if info.isreg() else None
                if content is not None:
                    with (folder / PurePosixPath(info.name).name).open("xb") as file:
                        shutil.copyfileobj(content, file)
    except FileExistsError as error:
        raise InputError(f"two files are named {Path(error.filename).name}", path, "keep one of them") from error
    except _DAMAGED as error:
        raise InputError("the archive changed while it was read", path, str(error)) from error


def split_virtual(text: str) -> tuple[Path, str] | None:
    """The archive of GDAL's path into one, and the name inside of it ("" = the archive itself); None for another path.

    `Path` takes doubled slashes away, so a path that starts after the prefix is looked for from the root too.
    """
    found = re.match(r"^/vsi(?:zip|tar)/+\{?(.+?)\}?$", text)
    if found is None:
        return None
    rest = found[1].replace("}", "")
    for start in (Path("/") / rest, Path(rest)):
        for place in (start, *start.parents):
            if is_archive(place) and place.is_file():
                return place, "" if place == start else start.relative_to(place).as_posix()
    return None


def parse_xml(content: bytes, where: object) -> Any:
    """Root element of an XML text; no entity is resolved and nothing fetched. InputError when it is damaged."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True)
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InputError("damaged XML", where, str(error)) from error
    if root is None:
        raise InputError("damaged XML", where)
    return root


def _in_folder(path: Path) -> Iterator[Member]:
    """Files of a folder and of the folders in it."""
    count = 0
    for folder in (path, *sorted(one for one in path.iterdir() if one.is_dir())):
        with os.scandir(folder) as entries:
            for entry in entries:
                count += 1
                if count > _MAX_MEMBERS:
                    raise InputError(f"the folder holds more than {_MAX_MEMBERS} files", path, "give the product's own folder")
                if Path(entry.path).is_file():
                    name = Path(entry.path).relative_to(path).as_posix()
                    yield Member(root=path, name=name, size_bytes=entry.stat().st_size)


def _in_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        total = 0
        for at, info in enumerate(archive.infolist()):
            total = _counted(path, total, info.file_size, at)
            _check_name(path, info.filename)
            if not info.is_dir():
                yield Member(root=path, name=info.filename, size_bytes=info.file_size, kind="/vsizip/")


def _in_tar(path: Path) -> Iterator[Member]:
    with _open_tar(path) as archive:
        total = 0
        for at, info in enumerate(archive):
            total = _counted(path, total, info.size, at)
            _check_name(path, info.name)
            if info.isreg():
                yield Member(root=path, name=_clean(info.name), size_bytes=info.size, kind="/vsitar/")
        rest = archive.fileobj
        for _ in range(_MOST_PADDING_RECORDS):  # to the end of the packed file, where its checksum stands
            if rest is None or not rest.read(_MAX_RECORD_BYTES):
                return
    raise InputError("the archive goes on behind its end", path, "it is damaged")


@contextmanager
def _open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    packed = path.name.lower().endswith("gz")
    with gzip.open(path) if packed else path.open("rb") as raw, tarfile.open(fileobj=_Bounded(raw), mode="r:") as archive:
        yield archive


class _Bounded(io.RawIOBase):
    """A file whose reads have a limit: `tarfile` asks for a name of any length at once."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if size > _MAX_RECORD_BYTES:
            raise tarfile.ReadError("a record is longer than any name")
        return bytes(self._file.read(size))

    def seek(self, place: int, whence: int = 0, /) -> int:
        return int(self._file.seek(place, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()


def _clean(name: str) -> str:
    return name.removeprefix("./")


def _check_name(path: Path, name: str) -> None:
    if _FROM_ROOT.match(name) or ".." in re.split(r"[/\\]", name) or "\0" in name:
        raise InputError(f"the archive names a file outside of itself: {name[:80]!r}", path, "do not use it")


def _counted(path: Path, total: int, size: int, members: int) -> int:
    if size < 0 or total + size > _MAX_UNPACKED_BYTES or members >= _MAX_MEMBERS:
        raise InputError("the archive says that it unpacks to more than a product can be", path, "it is damaged, or no product")
    return total + size
