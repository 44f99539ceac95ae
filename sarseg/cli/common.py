"""What the commands share: progress on stderr, JSON on stdout, the log, warnings."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from sarseg.progress import Progress, silent

_LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options that stand before the command."""

    debug: bool = False
    quiet: bool = False


def settings() -> Settings:
    """The options of the running command line; the defaults outside of one."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Settings) if context is not None else None
    return found if found is not None else Settings()


class _Stderr(logging.Handler):
    """One line a record on stderr; a warning that falls for each block of a scene is said once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if text not in self._said:
            click.echo(f"sarseg: {record.levelname.lower()}: {text}", err=True)
        if record.levelno >= logging.WARNING:
            self._said.add(text)


def start_talking(options: Settings) -> None:
    """Send the log and Python's warnings to stderr, each as one line."""
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Stderr)]:
        root.removeHandler(old)
    root.addHandler(_Stderr())
    level = logging.DEBUG if options.debug else logging.WARNING if options.quiet else logging.INFO
    logging.getLogger("sarseg").setLevel(level)
    # GDAL's own words: what they are about comes as an error of ours
    logging.getLogger("rasterio").setLevel(logging.DEBUG if options.debug else logging.CRITICAL)

    def show(message: Warning | str, *_place: object, **_more: object) -> None:
        logging.getLogger("sarseg").warning("%s", message)

    warnings.showwarning = show


def _task(label: str) -> str:
    """What a label is about: after a comma it says how it goes."""
    return label.partition(",")[0]


class _Lines:
    """Progress as plain lines: one when a task starts or ends, and one every few seconds between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._task = ""
        self._said_s = 0.0

    def __call__(self, done: int, total: int, label: str) -> None:
        with self._lock:
            now_s = time.monotonic()
            if _task(label) == self._task and done < total and now_s - self._said_s < _LINE_EVERY_S:
                return
            self._task, self._said_s = _task(label), now_s
            click.echo(f"{label}: {done}/{total}", err=True)


class _Bar:
    """Progress as one bar a task."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._lock = threading.Lock()
        self._number_of: dict[str, Any] = {}

    def __call__(self, done: int, total: int, label: str) -> None:
        with self._lock:
            task = self._number_of.get(_task(label))
            if task is None:
                task = self._number_of[_task(label)] = self._bar.add_task(label, total=total)
            self._bar.update(task, completed=done, total=total, description=label)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A `Progress` on stderr: bars on a terminal, plain lines otherwise, nothing with `--quiet`."""
    if settings().quiet:
        yield silent
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(stderr=True)) as bar:
            yield _Bar(bar)


def echo_json(value: object) -> None:
    """Print a value as JSON on stdout; paths become strings, NaN becomes null."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
