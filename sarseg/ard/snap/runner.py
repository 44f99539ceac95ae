"""Runs SNAP's gpt: memory from what is free, limits on time, one retry, known failures in one line, and no trust in exit code 0."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from sarseg.ard.snap.failures import Listener, SnapFailed
from sarseg.ard.snap.install import Snap
from sarseg.ard.snap.memory import free_bytes
from sarseg.ard.snap.outputs import check_output, remove_output
from sarseg.ard.snap.process import Ended, Limits, run_group
from sarseg.errors import InputError, MissingError, UsageError
from sarseg.progress import Progress, silent

logger = logging.getLogger(__name__)

_GIB = 1 << 30
_HEAP_SHARE = 0.7  # the Java machine itself, its buffers and GDAL need the rest
_LEAST_HEAP_BYTES = 1 * _GIB
_MOST_HEAP_BYTES = 31 * _GIB  # from 32 GiB on pointers take twice the room, and less fits in
_RETRY_SHARE = 4
_LOG_HEAD_BYTES = 4 << 20
_LOG_TAIL_BYTES = 1 << 20
_PERCENT = re.compile(r"(?<![\d.])(\d{1,2}|100)%")
_KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}
_MEMORY_KINDS = ("heap", "killed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How gpt runs.

    Parameters
    ----------
    heap_bytes : of the Java machine; None = 0.7 of the free memory (limits of the container count), at most 31 GiB
    cache_bytes : of SNAP's tiles; None = half of the heap
    threads : None = as many as SNAP takes by itself
    time_limit_s : the run, a retry included, is stopped after this time
    stall_limit_s : it is stopped after so long without output and without work
    userdir : SNAP's user directory, with orbit files and geoid in its auxdata; None = an empty one that is removed afterwards
    least_valid_share : of the pixels of every band of backscatter
    """

    heap_bytes: int | None = None
    cache_bytes: int | None = None
    threads: int | None = None
    time_limit_s: float = 24 * 3600.0
    stall_limit_s: float = 900.0
    userdir: Path | None = None
    least_valid_share: float = 0.01

    def __post_init__(self) -> None:
        for name in ("heap_bytes", "cache_bytes", "threads", "time_limit_s", "stall_limit_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} is {value}", hint="give a number above 0")
        if not 0 <= self.least_valid_share <= 1:
            raise UsageError(f"least_valid_share is {self.least_valid_share}", hint="give a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a run took and made.

    Parameters
    ----------
    valid_shares : output file -> band -> share of its pixels that hold a value
    warnings : what the product's user should know
    attempts : 2 when the first one had too little memory
    """

    valid_shares: Mapping[Path, Mapping[str, float]]
    warnings: tuple[str, ...]
    attempts: int
    heap_bytes: int
    cache_bytes: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    heap_bytes: int
    cache_bytes: int
    frugal: bool = False


def run_gpt(
    snap: Snap, graph: Path, *, outputs: Sequence[Path], options: RunOptions | None = None, log: Path, progress: Progress = silent
) -> RunReport:
    """Run one graph and check what it wrote.

    Parameters
    ----------
    graph : a graph file without open ${...}
    outputs : the files that its Write nodes write, as SNAP names them (x.dim, x.tif); none may exist
    log : a file for what gpt prints (its first 4 MB and last 1 MB); it stays, also after a failure

    Raises
    ------
    SnapFailed : the graph failed, took too long, stood still, or its outputs are not what they should be; its `kind` says which,
        its exit code is that of the cause. The outputs are removed, all processes ended.
    InputError : an output exists
    MissingError : too little memory, or no permission to start gpt
    """
    options = options or RunOptions()
    for path in outputs:
        if path.exists() or (path.suffix == ".dim" and path.with_suffix(".data").exists()):
            raise InputError("the output of SNAP exists already", path, "remove it, or choose another name")
    memory = _memory(options)
    until = time.monotonic() + options.time_limit_s
    done = False
    try:
        with _folders(options.userdir, log.parent) as (userdir, tmpdir), _Log(log) as written:
            attempt = _Attempt(snap, graph, options, userdir, tmpdir)
            try:
                report = attempt.run(memory, until, written, progress)
            except SnapFailed as failure:
                if failure.kind not in _MEMORY_KINDS or time.monotonic() >= until:
                    raise
                logger.warning("SNAP had too little memory (%s); it is tried once more with a smaller tile cache", failure.what)
                for path in outputs:
                    remove_output(path)
                report = replace(attempt.run(_smaller(memory), until, written, progress), attempts=2)
        shares = {path: _checked(path, options.least_valid_share, log) for path in outputs}
        done = True
        return replace(report, valid_shares=shares)
    finally:
        if not done:
            for path in outputs:
                remove_output(path)


def _checked(path: Path, least_valid_share: float, log: Path) -> dict[str, float]:
    """As `check_output`; what is wrong is told with the log, which stays, since the output does not."""
    try:
        return check_output(path, least_valid_share)
    except SnapFailed as failure:
        raise SnapFailed(failure.what, f"{path.name}, log {log}", failure.hint, kind=failure.kind, cause=failure.cause) from failure


def _memory(options: RunOptions) -> _Memory:
    heap_bytes = options.heap_bytes
    if heap_bytes is None:
        free = free_bytes()
        heap_bytes = min(int(_HEAP_SHARE * free), _MOST_HEAP_BYTES) if free is not None else 4 * _GIB
        if heap_bytes < _LEAST_HEAP_BYTES:
            raise MissingError(
                f"only {(free or 0) / _GIB:.1f} GiB of memory are free, and SNAP needs 1 GiB of heap and as much again for the rest",
                hint="end other programs, or raise the container's limit",
            )
    cache_bytes = options.cache_bytes if options.cache_bytes is not None else heap_bytes // 2
    return _Memory(heap_bytes=heap_bytes, cache_bytes=cache_bytes)


def _smaller(memory: _Memory) -> _Memory:
    return replace(memory, cache_bytes=memory.cache_bytes // _RETRY_SHARE, frugal=True)


@contextmanager
def _folders(userdir: Path | None, beside: Path) -> Iterator[tuple[Path, Path]]:
    """SNAP's user directory and its temporary folder; what was made here is removed."""
    beside.mkdir(parents=True, exist_ok=True)
    if userdir is not None:
        userdir.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".snap-", dir=userdir or beside))
    try:
        (made / "tmp").mkdir()
        if userdir is None:
            (made / "user").mkdir()
        yield (userdir or made / "user").resolve(), (made / "tmp").resolve()
    finally:
        shutil.rmtree(made, ignore_errors=True)


class _Log:
    """A file that keeps the beginning and the end of what is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.room = _LOG_HEAD_BYTES
        self.tail = bytearray()
        self.left_out = 0
        self.file: BinaryIO | None = None

    def __enter__(self) -> _Log:
        self.file = self.path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        assert self.file is not None
        if self.left_out:
            self.file.write(f"\n... {self.left_out} bytes are left out here ...\n".encode())
        self.file.write(self.tail)
        self.file.close()

    def write(self, chunk: bytes) -> None:
        assert self.file is not None
        self.file.write(chunk[: self.room])
        self.file.flush()
        self.tail += chunk[self.room :]
        self.room -= min(len(chunk), self.room)
        if len(self.tail) > 2 * _LOG_TAIL_BYTES:
            self.left_out += len(self.tail) - _LOG_TAIL_BYTES
            del self.tail[:-_LOG_TAIL_BYTES]


class _Percent:
    """Progress out of "18%36%.54%", wherever the chunks are cut."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.rest = ""
        self.last = -1

    def feed(self, chunk: bytes) -> None:
        text = self.rest + chunk.decode("ascii", errors="replace")
        end = 0
        for found in _PERCENT.finditer(text):
            end = found.end()
            if int(found[1]) > self.last:
                self.last = int(found[1])
                self.progress(self.last, 100, "SNAP")
        self.rest = text[end:][-3:]


@dataclass(frozen=True, slots=True)
class _Attempt:
    snap: Snap
    graph: Path
    options: RunOptions
    userdir: Path
    tmpdir: Path

    def run(self, memory: _Memory, until: float, written: _Log, progress: Progress) -> RunReport:
        command = self._command(memory)
        written.write(f"$ {shlex.join(command)}\n".encode())
        listener, percent = Listener(), _Percent(progress)

        def sink(stream: Literal["stdout", "stderr"], chunk: bytes) -> bool:
            written.write(chunk)
            listener.feed(stream, chunk)
            if stream == "stdout":
                percent.feed(chunk)
            return "java.lang.OutOfMemoryError" in listener.found  # its main thread may wait for ever for those that died

        limits = Limits(time_s=max(until - time.monotonic(), 0.0), stall_s=self.options.stall_limit_s)
        try:
            ended = run_group(command, sink, limits, self._environment())
        except OSError as error:
            raise MissingError(
                f"gpt cannot be started: {error.strerror}", self.snap.gpt, "check the permissions, or install SNAP again"
            ) from error
        listener.close()
        written.write(f"\n$ {ended.why}, exit code {ended.exit_code}, {ended.wall_s:.1f} s, {ended.cpu_s:.1f} CPU-s\n".encode())
        self._judge(ended, listener, written.path)
        return RunReport(
            valid_shares={},
            warnings=listener.warnings(),
            attempts=1,
            heap_bytes=memory.heap_bytes,
            cache_bytes=memory.cache_bytes,
            wall_s=ended.wall_s,
            cpu_s=ended.cpu_s,
        )

    def _command(self, memory: _Memory) -> list[str]:
        words = [str(self.snap.gpt), str(self.graph), "-c", f"{memory.cache_bytes >> 20}M", f"-Dsnap.userdir={self.userdir}"]
        if memory.frugal:
            words.append("-x")
        if self.options.threads is not None:
            words += ["-q", str(self.options.threads)]
        return [*words, f"-J-Xmx{memory.heap_bytes >> 20}m"]  # after gpt.vmoptions, and the last one counts

    def _environment(self) -> dict[str, str]:
        """Java's own variable, since the launcher takes the words of -J apart at blanks; quotes are understood there."""
        told = (
            f"-Dsnap.userdir={self.userdir}",
            f"-Djava.io.tmpdir={self.tmpdir}",
            "-Dsnap.versionCheck.interval=NEVER",
            "-XX:+ExitOnOutOfMemoryError",
            f"-XX:ErrorFile={self.tmpdir}/hs_err.log",
        )
        given = os.environ.get("JAVA_TOOL_OPTIONS", "")
        return {**os.environ, "JAVA_TOOL_OPTIONS": " ".join([given, *map(shlex.quote, told)]).strip()}

    def _judge(self, ended: Ended, listener: Listener, log: Path) -> None:
        """SnapFailed unless gpt did its work."""
        failed = ended.why != "exit" or ended.exit_code != 0
        known = listener.diagnose(failed=failed)
        where = f"{self.graph.name}, log {log}"
        if known is not None and (ended.why in ("exit", "asked") or known[0].kind == "heap"):
            failure, said = known
            raise SnapFailed(f"SNAP failed: {said}", where, failure.advice, kind=failure.kind, cause=failure.cause)
        if ended.why == "time":
            raise SnapFailed(
                f"SNAP took longer than {self.options.time_limit_s:.0f} s and was stopped",
                where, "give it more time, or cut the scene", kind="time", cause=MissingError,
            )  # fmt: skip
        if ended.why == "stall":
            raise SnapFailed(
                f"SNAP printed nothing and did nothing for {self.options.stall_limit_s:.0f} s and was stopped",
                where, "too little memory or a download that hangs are the usual reasons", kind="stall", cause=MissingError,
            )  # fmt: skip
        if ended.exit_code in _KILLED:
            raise SnapFailed(
                "SNAP was killed, as the system does when the memory is full",
                where, "end other programs, or give SNAP a smaller heap", kind="killed", cause=MissingError,
            )  # fmt: skip
        if failed:
            reason = listener.reason() or f"exit code {ended.exit_code}"
            raise SnapFailed(f"SNAP failed: {reason}", where, "the log tells more", kind="unknown", cause=InputError)
