"""A SAFE product's files, in a folder or in place in a zip archive, and safe XML."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from lxml import etree  # type: ignore[import-untyped]

from sarseg.errors import InputError, MissingError
from sarseg.radar.orbit import Floats

V = TypeVar("V")

MANIFEST = "manifest.safe"

UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
"""What zipfile raises for a damaged member, or one that was compressed in a way that Python does not know."""

_UNLISTED = (*UNREADABLE, ValueError, OSError)
"""What it raises for a damaged list of members."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Safe:
    """Files of one product.

    Parameters
    ----------
    root : folder of the manifest, or the zip archive
    inner : folder of the manifest inside of the archive ("" = top); unused for a folder
    names : every file, relative to the manifest's folder, with "/"
    zipped : root is an archive
    """

    root: Path
    inner: str
    names: frozenset[str]
    zipped: bool

    @property
    def id(self) -> str:
        """Name of the product: that of the manifest's folder, without `.SAFE`."""
        name = PurePosixPath(self.inner).name if self.inner else self.root.name
        for ending in (".zip", ".SAFE"):
            name = name.removesuffix(ending)
        return name

    def read(self, name: str) -> bytes:
        """Content of a file; InputError when it is damaged."""
        if not self.zipped:
            return (self.root / name).read_bytes()
        try:
            with zipfile.ZipFile(self.root) as archive:
                return archive.read(self.member(name))
        except UNREADABLE as error:
            raise InputError(f"{name} is damaged inside of the archive", self.root, "download it again") from error

    def member(self, name: str) -> str:
        """Name of a file inside of the archive."""
        return f"{self.inner}/{name}" if self.inner else name

    def where(self, name: str) -> str:
        """A file's place, for messages."""
        return f"{self.root}/{self.member(name)}" if self.zipped else str(self.root / name)

    def xml(self, name: str) -> Element:
        """Parsed content of a file; InputError when it is not XML."""
        return parse(self.read(name), self.where(name))


def open_safe(path: Path) -> Safe | None:
    """The SAFE product at a folder, a manifest or a zip archive; None when there is no manifest.

    InputError when the archive is damaged.
    """
    if path.name == MANIFEST and path.is_file():
        path = path.parent
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            return None
        names = frozenset(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        return Safe(root=path.resolve(), inner="", names=names, zipped=False)
    if path.suffix.lower() != ".zip":
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/")]
    except PermissionError as error:
        raise MissingError("no permission to read", path, "change the permissions") from error
    except _UNLISTED as error:
        raise InputError("the zip archive is damaged or was not downloaded to its end", path, "download it again") from error
    manifests = sorted((name for name in members if PurePosixPath(name).name == MANIFEST), key=lambda name: (name.count("/"), name))
    if not manifests:
        return None
    inner = manifests[0].rpartition("/")[0]
    prefix = f"{inner}/" if inner else ""
    names = frozenset(name.removeprefix(prefix) for name in members if name.startswith(prefix))
    return Safe(root=path.resolve(), inner=inner, names=names, zipped=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Element:
    """An XML element that knows its file: whatever is asked of it and is not there is an InputError that names both."""

    node: etree._Element
    where: str

    @property
    def name(self) -> str:
        """The tag without its namespace."""
        return str(etree.QName(self.node).localname)

    def find(self, path: str) -> Element:
        """The one element at a path; InputError when it is not there."""
        found = self.maybe(path)
        if found is None:
            raise InputError(f"no element {self.name}/{path}", self.where, "the file is damaged or of an unknown kind")
        return found

    def maybe(self, path: str) -> Element | None:
        """The first element at a path of tags without namespaces, or None."""
        found = self.all(path)
        return found[0] if found else None

    def all(self, path: str) -> list[Element]:
        """All elements at a path of tags without namespaces; a leading "//" searches at any depth."""
        deep = path.startswith("//")
        steps = "/".join(f"*[local-name()='{tag}']" for tag in path.removeprefix("//").split("/"))
        nodes = self.node.xpath(f".//{steps}" if deep else steps)
        assert isinstance(nodes, list)
        return [Element(node=node, where=self.where) for node in nodes if isinstance(node, etree._Element)]

    def attribute(self, name: str) -> str:
        """An attribute's text; InputError when it is not there."""
        value = self.node.get(name)
        if value is None:
            raise InputError(f"no attribute {name} of element {self.name}", self.where)
        return str(value)

    def text(self, path: str) -> str:
        """The text at a path ("" = of this element), stripped."""
        found = self.find(path) if path else self
        return (found.node.text or "").strip()

    def number(self, path: str) -> float:
        """The number at a path; InputError when it is not finite."""
        return self._convert(path, lambda text: float(_finite(np.float64(text))))

    def integer(self, path: str) -> int:
        """The whole number at a path."""
        return self._convert(path, int)

    def time(self, path: str) -> np.datetime64:
        """The UTC time at a path, datetime64[us]."""
        return self._convert(path, utc)

    def numbers(self, path: str) -> Floats:
        """The numbers at a path, float64 (n,); InputError when one is not finite."""
        return self._convert(path, lambda text: _finite(np.array(text.split(), np.float64)))

    def flag(self, path: str) -> bool:
        """True or false at a path."""
        return self._convert(path, lambda text: {"true": True, "false": False}[text.lower()])

    def _convert(self, path: str, convert: Callable[[str], V]) -> V:
        text = self.text(path)
        try:
            return convert(text)
        except (ValueError, KeyError) as error:
            place = f"{self.name}/{path}".rstrip("/")
            raise InputError(f"element {place} holds '{text[:40]}'", self.where, "the file is damaged") from error


def parse(content: bytes, where: str) -> Element:
    """XML with entities and network off; InputError when it is not well-formed."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return Element(node=etree.fromstring(content, parser), where=where)
    except etree.XMLSyntaxError as error:
        raise InputError("not well-formed XML", where, f"{error}; download it again") from error


def _finite(values: V) -> V:
    if not np.isfinite(values).all():  # type: ignore[call-overload]
        raise ValueError("not finite")
    return values


def utc(text: str) -> np.datetime64:
    """A UTC time with microseconds, with or without a leading `UTC=`, datetime64[us]; ValueError for anything else."""
    time = np.datetime64(text.removeprefix("UTC=").removesuffix("Z"), "us")
    if np.isnat(time):
        raise ValueError(f"no time: {text}")
    return time
