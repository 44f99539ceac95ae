"""A program in a session of its own, under limits: whatever happens to it or to us, none of its processes stays behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""
_CHUNK_BYTES = 1 << 16
_POLL_S = 0.1
_IDLE_SHARE = 0.02  # a Java machine whose threads all wait still takes up to 1 % of a core
_LAST_WORDS_S = 0.5
_PROC = Path("/proc")
# It outlives us, even after SIGKILL: the end of its input without the word "done" means that we are gone.
_GUARD = 'read -r group && { read -r done || { kill -s TERM -- "-$group"; sleep 2; kill -s KILL -- "-$group"; }; }'

Sink = Callable[[Literal["stdout", "stderr"], bytes], bool]
"""Takes what was printed; True asks to stop the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a program is stopped.

    Parameters
    ----------
    time_s : after this time at most
    stall_s : after so long without output in which all its processes together took under 2 % of a core
    """

    time_s: float
    stall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended.

    Parameters
    ----------
    why : it ended by itself, reached a limit, or the sink asked for it
    exit_code : of the program; negative = the signal that ended it; None when it was stopped
    cpu_s : of all its processes, as far as it was seen
    """

    why: Literal["exit", "time", "stall", "asked"]
    exit_code: int | None
    wall_s: float
    cpu_s: float


def run_group(command: Sequence[str | Path], sink: Sink, limits: Limits, env: Mapping[str, str] | None = None) -> Ended:
    """Run a program to its end, or to a limit, and hand what it prints to `sink`.

    The program leads a session of its own. All processes of that session are ended (SIGTERM, after `GRACE_S` SIGKILL) when a
    limit is reached, when `sink` asks for it, when an exception passes through here (Ctrl-C and the exception of a SIGTERM
    handler among them), when the program itself ends, and, by a small guard process, when we are killed. A process that opens
    a session of its own escapes.

    OSError when the program cannot be started.
    """
    with _guarded() as guard:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env) if env is not None else None,
            start_new_session=True,
        )
        try:
            guard.watch(process.pid)
            return _watch(process, sink, limits)
        finally:
            try:
                _end(process)
            finally:
                for pipe in (process.stdout, process.stderr):
                    if pipe is not None:
                        pipe.close()


def members(session: int) -> dict[int, float]:
    """The living processes of a session: process id -> CPU seconds, those of its ended children included."""
    return {pid: cpu_s for pid, state, cpu_s in _processes(session) if state not in ("Z", "X")}


def _processes(session: int) -> Iterator[tuple[int, str, float]]:
    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(encoding="latin-1")
        except OSError:  # it ended meanwhile
            continue
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything
        if int(fields[3]) == session:
            yield int(entry.name), fields[0], sum(map(int, fields[11:15])) * tick_s


class _Pulse:
    """Whether the processes still do something."""

    def __init__(self, session: int, stall_s: float) -> None:
        self.session = session
        self.stall_s = stall_s
        self.cpu_s = 0.0
        self.marked_cpu_s = 0.0
        self.marked = self.looked = time.monotonic()

    def output(self) -> None:
        self.marked, self.marked_cpu_s = time.monotonic(), self.cpu_s

    def count(self) -> None:
        self.cpu_s = max(self.cpu_s, sum(cpu_s for _, _, cpu_s in _processes(self.session)))

    def stalled(self) -> bool:
        now = time.monotonic()
        if now - self.looked < min(0.5, self.stall_s / 4):
            return False
        self.looked = now
        self.count()
        if self.cpu_s - self.marked_cpu_s > _IDLE_SHARE * self.stall_s:
            self.output()
        return now - self.marked >= self.stall_s


def _watch(process: subprocess.Popen[bytes], sink: Sink, limits: Limits) -> Ended:
    start = time.monotonic()
    pulse = _Pulse(process.pid, limits.stall_s)

    def ended(why: Literal["exit", "time", "stall", "asked"], exit_code: int | None = None) -> Ended:
        return Ended(why=why, exit_code=exit_code, wall_s=time.monotonic() - start, cpu_s=pulse.cpu_s)

    with selectors.DefaultSelector() as selector:
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ, name)
        last_words = None
        while True:
            if _read_ready(selector, sink, pulse):
                return ended("asked")
            now = time.monotonic()
            if last_words is None and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                last_words = now + _LAST_WORDS_S  # a child that lives on may keep the pipes open for ever
                pulse.count()  # before it is reaped
                process.poll()
            if last_words is not None and (now >= last_words or not selector.get_map()):
                return ended("exit", process.returncode)
            if now - start >= limits.time_s:
                return ended("time")
            if pulse.stalled():
                return ended("stall")


def _read_ready(selector: selectors.BaseSelector, sink: Sink, pulse: _Pulse) -> bool:
    """Hand over what has been printed; True when the sink asks to stop."""
    if not selector.get_map():
        time.sleep(_POLL_S)
    for key, _ in selector.select(_POLL_S):
        chunk = os.read(key.fd, _CHUNK_BYTES)
        if not chunk:
            selector.unregister(key.fileobj)
            continue
        pulse.output()
        if sink(key.data, chunk):
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End all processes of the session."""
    for number, patience_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        until = time.monotonic() + patience_s
        asked: set[int] = set()
        while alive := members(process.pid):
            for pid in alive:
                if number == signal.SIGKILL or pid not in asked:
                    asked.add(pid)
                    _kill(pid, number)
            if time.monotonic() >= until:
                break
            process.poll()
            time.sleep(0.02)
        if not alive:
            break
    process.wait()


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


class _Guard:
    """A process that ends a group when we die, or give up, without having ended it."""

    def __init__(self) -> None:
        self.group = 0
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        self.group = group
        self._tell(f"{group}\n")

    def release(self) -> None:
        if not (self.group and members(self.group)):  # a second Ctrl-C may have cut the ending short
            self._tell("done\n")
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        except BrokenPipeError:  # somebody ended the guard
            return


@contextmanager
def _guarded() -> Iterator[_Guard]:
    guard = _Guard()
    try:
        yield guard
    finally:
        guard.release()
