"""`sarseg`: a group of commands that are imported when they are called, and one place where errors become lines and exit codes."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from importlib import import_module
from types import FrameType
from typing import Any

import click

from sarseg.cli.common import Settings, start_talking
from sarseg.errors import InputError, MissingError, SarsegError
from sarseg.version import __version__

COMMANDS = (
    ("info", "Say what a scene, product, dataset, map or model is."),
    ("simulate", "Write a complete product over a known landscape."),
    ("preprocess", "Make analysis-ready backscatter on a map grid from scenes."),
    ("labels", "Put labels on a product's grid."),
    ("patches", "Cut products and their labels into a data set for training."),
    ("train", "Train a network on DATASET and write a model folder."),
    ("predict", "Map products with a trained MODEL."),
    ("export", "Write a trained MODEL as an ONNX or OpenVINO file."),
    ("mosaic", "Fuse maps into one."),
    ("assess", "Compare the map MAP (folder or class raster) with the truth."),
    ("compare", "Measure how the product or raster B differs from A."),
    ("snap", "Check, describe and run graphs of ESA SNAP."),
    ("run", "Run the whole line over a folder of downloads."),
    ("demo", "Show the whole line on simulated scenes in a few minutes."),
)
"""Name and first words of the help of every command, in the order of the work: `sarseg --help` imports no command."""

_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_MEMORY = re.compile("allocate memory|out of memory", re.IGNORECASE)  # torch's words
_IN_THE_WAY = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO}


class LazyGroup(click.Group):
    """A group whose commands live in `sarseg.cli.<name>` as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the work."""
        return [name for name, _ in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None when there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"sarseg.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `sarseg --help`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and the log.")
@click.option("--quiet", is_flag=True, help="No progress on stderr; warnings and errors stay.")
@click.version_option(__version__, prog_name="sarseg", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, debug: bool, quiet: bool) -> None:
    """From downloaded radar scenes to a land-cover map as a GeoTIFF.

    Results and paths go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 a bug of ours, 2 wrong use,
    3 bad input, 4 something missing (the message says how to get it), 5 finished with some scenes failed.

    The first five minutes: sarseg demo
    """
    ctx.obj = Settings(debug=debug, quiet=quiet)
    start_talking(ctx.obj)


def explain(error: BaseException) -> SarsegError | None:
    """The error as a user should see it; None when it is a bug of ours."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, SarsegError):
            return seen
        if isinstance(seen, MemoryError) or (isinstance(seen, RuntimeError) and _NO_MEMORY.search(str(seen))):
            return MissingError("the memory is full", hint="end other programs, or use smaller patches, batches, windows or networks")
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return MissingError("the disk is full", seen.filename, "free some space and repeat; nothing half-written is left")
        if isinstance(seen, OSError) and seen.errno in _FORBIDDEN:
            return MissingError("no permission", seen.filename, "change the permissions, or choose another folder")
        if isinstance(seen, OSError) and seen.errno in _IN_THE_WAY:
            what = (seen.strerror or "cannot be made").lower()
            return InputError(f"the path cannot be used: {what}", seen.filename2 or seen.filename, "choose another one")
        if "proj.db" in str(seen):
            return MissingError(
                "PROJ's database proj.db is not found", hint="unset PROJ_DATA and PROJ_LIB, or let them name its folder too"
            )
        seen = seen.__cause__
    return None


def _fail(line: str, code: int) -> int:
    click.echo(f"sarseg: error: {line}", err=True)
    return code


def _usage(error: click.UsageError) -> int:
    if isinstance(error, click.BadParameter) and error.message.endswith("is not readable."):
        return _fail(f"no permission: {error.message} Change the permissions", MissingError.exit_code)
    command = error.ctx.command_path if error.ctx is not None else "sarseg"
    return _fail(f"{' '.join(error.format_message().split())} See {command} --help", 2)


def _bug(error: BaseException) -> int:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return _fail(f"{text} [a bug of ours]: repeat with `sarseg --debug ...` and report what it prints in the project's issue tracker", 1)


def run(args: list[str]) -> int:
    """Run one command line and return its exit code; every error has become one line on stderr.

    Parameters
    ----------
    args : the words after `sarseg`
    """
    try:
        result: Any = cli.main(args=args, prog_name="sarseg", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return _fail(" ".join(error.format_message().split()), 2)
    except click.Abort:
        return _fail("interrupted; nothing half-written is left", _INTERRUPTED)
    except Exception as error:  # noqa: BLE001 the one place where every error becomes a line
        if "--debug" in args:
            traceback.print_exc()
        known = explain(error)
        return _bug(error) if known is None else _fail(str(known), known.exit_code)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    # an exception, not the default end of the process: whatever holds a partial file removes it on the way out
    raise SystemExit(_TERMINATED)


def main() -> None:
    """The console script."""
    if "--debug" not in sys.argv:
        os.environ.setdefault("CPL_LOG", os.devnull)  # what GDAL and libtiff would print beside our line
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = run(sys.argv[1:])
    except SystemExit as end:
        if end.code == _TERMINATED:
            _fail("terminated; nothing half-written is left", _TERMINATED)
        raise
    sys.exit(code)
