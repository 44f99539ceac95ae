"""What a run has done: one JSON record a scene and step, so that finished steps are skipped and nothing else is.

A step's key is a hash of everything that its result follows from: its options, the names, sizes and times of the user's files
that it reads, the keys of the steps before it, and the version of sarseg. A step is done when its record holds the same key
and its output is still there, file by file. Records hold no time of their own: the same run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sarseg.errors import InputError, SarsegError, UsageError
from sarseg.product.folder import make_parent, write_json
from sarseg.version import __version__

log = logging.getLogger(__name__)

STATE = "state"
ALL_SCENES = "all"
_PARTIAL = ".partial-*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One piece of work with one output.

    Parameters
    ----------
    name, scene : the step, and the scene that it treats (`ALL_SCENES` for one over all of them)
    inputs : the user's files and folders that it reads
    after : keys of the steps whose outputs it reads
    options : everything else that its result depends on, as JSON
    output : the file or folder that it publishes
    """

    name: str
    scene: str
    output: Path
    inputs: tuple[Path, ...] = ()
    after: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """SHA-256 of all that the result follows from, as hex digits."""
        content = {
            "step": self.name,
            "scene": self.scene,
            "options": self.options,
            "inputs": [_listing(path, times=True) for path in self.inputs],
            "after": self.after,
            "version": __version__,
        }
        return _digest(content)


class Ledger:
    """The records of a run's folder."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def is_done(self, step: Step) -> bool:
        """Whether the step's output is there and follows from the same inputs and options."""
        record = self._read(step)
        if record.get("status") != "done" or record.get("key") != step.key or not step.output.exists():
            return False
        return bool(record.get("content") == _digest(_listing(step.output, times=False)))

    def carry_out(self, step: Step, work: Callable[[], object]) -> str:
        """Do the step unless it is done; return its key. An error is recorded and raised again."""
        key = step.key
        if self.is_done(step):
            log.info("%s %s: done before", step.name, step.scene)
            return key
        try:
            work()
            if not step.output.exists():
                raise RuntimeError(f"{step.name} left no {step.output}")
        except Exception as error:
            text = str(error) if isinstance(error, SarsegError) else f"{type(error).__name__}: {error}"
            self._write(step, key, {"status": "failed", "error": text})
            raise
        self._write(step, key, {"status": "done", "content": _digest(_listing(step.output, times=False))})
        return key

    def _path(self, step: Step) -> Path:
        return self._out / STATE / step.scene / f"{step.name}.json"

    def _read(self, step: Step) -> dict[str, Any]:
        try:
            record = json.loads(self._path(step).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError):
            return {}  # no record, or one that a crash of the machine has damaged: the step is done again
        return record if isinstance(record, dict) else {}

    def _write(self, step: Step, key: str, outcome: Mapping[str, Any]) -> None:
        path = self._path(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "step": step.name,
            "scene": step.scene,
            "key": key,
            "options": step.options,
            "inputs": [str(path) for path in step.inputs],
            "after": step.after,
            "output": step.output.relative_to(self._out).as_posix(),
            **outcome,
        }
        write_json(path, record)


def as_json(options: Any) -> Any:
    """An options object (a dataclass) as JSON, for `Step.options`."""
    return json.loads(json.dumps(asdict(options), default=str))


@contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Make the folder, keep a second run out of it, and remove what a killed run has left half-written.

    UsageError while another run works there; InputError when `out` is no folder; MissingError when it takes no files.
    """
    from filelock import FileLock, Timeout

    if out.exists() and not out.is_dir():
        raise InputError("is no folder", out, "choose another output folder")
    make_parent(out / ".lock")
    lock = FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError("another run is working in this folder", out, "wait for it, or choose another output folder") from error
    try:
        for leftover in sorted(out.rglob(_PARTIAL)):
            log.info("removing %s, which a run that was killed has left", leftover)
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _listing(path: Path, *, times: bool) -> list[tuple[str, int, int]]:
    """Name, size and (when asked for) time of a file, or of every file in a folder, in the order of the names."""
    files: Sequence[Path] = [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
    listing = []
    for file in files:
        status = file.stat()
        listing.append((file.relative_to(path.parent).as_posix(), status.st_size, status.st_mtime_ns if times else 0))
    return listing


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
