"""The class rasters behind a path: a file, a folder of tiles, or an archive of tiles that is read in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sarseg.errors import InputError
from sarseg.labels.known import recognise
from sarseg.raster.archive import Member, is_archive, list_members
from sarseg.raster.read import Raster, open_raster

_RASTERS = (".tif", ".tiff")
_BESIDE = (".hdr", ".xml", ".txt", ".kml", ".png", ".jpg", ".ovr")
_MOST_HEADER_BYTES = 64 << 10


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


def class_files(path: str | Path) -> list[ClassFile]:
    """Open what lies behind `path`, in the order of the names.

    In a folder or archive these are the rasters of known products, in it or in its folders; when there are none, its GeoTIFFs.

    InputError when there is none, or when something is damaged; MissingError without permission.
    """
    if str(path).startswith("/vsi"):
        return [ClassFile(raster=open_raster(path), name=Path(str(path)))]
    path = Path(path)
    if path.is_dir():
        files = [one for member in _chosen(list_members(path)) for one in class_files(path / member.name)]
    elif is_archive(path):
        members = list_members(path)
        files = [_in_archive(member, members) for member in _chosen(members)]
    else:
        return [_plain(path)]
    if not files:
        hint = "give a class raster, or a folder or archive of tiles (JAXA FNF, WorldCover, LC100, CORINE, HRLULC, GeoTIFFs)"
        raise InputError("holds no class raster that is known by its name, and no GeoTIFF", path, hint)
    return files


def holds_known(path: Path) -> bool:
    """Whether a folder or an archive holds rasters of label products that are known by their names. InputError when it is damaged."""
    return bool(_known(list_members(path)))


def _chosen(members: Sequence[Member]) -> list[Member]:
    """The files of known products; else the GeoTIFFs."""
    return _known(members) or [one for one in members if one.base.lower().endswith(_RASTERS)]


def _known(members: Sequence[Member]) -> list[Member]:
    pieces = (one for one in members if not one.base.lower().endswith(_BESIDE) and "inputquality" not in one.base.lower())
    return [one for one in pieces if recognise(Path(one.name), {}).kind is not None]


def _plain(path: Path) -> ClassFile:
    """A file; for an ENVI header the raster beside it."""
    if path.suffix.lower() == ".hdr" and path.is_file():
        path = path.with_suffix("")
    headers = [one for one in dict.fromkeys((path.with_name(f"{path.name}.hdr"), path.with_suffix(".hdr"))) if one.is_file()]
    if headers and not path.is_file():
        raise InputError(f"only the header {headers[0].name} is there, not its raster", path, "give the raster, with the header beside it")
    if not headers or path.suffix.lower() in _RASTERS:
        return ClassFile(raster=open_raster(path), name=path)
    raster, beside = _member(path), [_member(one) for one in headers]
    return ClassFile(raster=raster.raster(beside), name=path, header=_header_text(raster, beside))


def _in_archive(member: Member, members: Sequence[Member]) -> ClassFile:
    if is_archive(Path(member.base)):
        raise InputError(f"{member.name} is an archive inside of the archive", member.root, "unpack the outer one and give its folder")
    return ClassFile(raster=member.raster(members), name=member.root.parent / member.base, header=_header_text(member, members))


def _member(path: Path) -> Member:
    return Member(root=path.parent, name=path.name, size_bytes=path.stat().st_size)


def _header_text(member: Member, beside: Sequence[Member]) -> str:
    header = member.header(beside)
    return "" if header is None else header.read(_MOST_HEADER_BYTES).decode("utf-8", "replace")
