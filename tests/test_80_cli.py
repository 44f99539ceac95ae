"""The command line's frame: lightness, help, error lines, exit codes, signals. The commands' own work is tested in their layers."""

from __future__ import annotations

import errno
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sarseg.cli import common
from sarseg.cli import main as frame
from sarseg.errors import InputError, MissingError, SarsegError, UsageError

HEAVY = ("torch", "dask", "xarray", "numba", "scipy", "numpy", "pandas", "rasterio", "pyproj", "pydantic", "rich", "pyarrow", "zarr")


def sarseg(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sarseg", *map(str, args)], capture_output=True, text=True, cwd=cwd, check=False)


def loaded_by(code: str) -> set[str]:
    script = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import sarseg", "import sarseg.cli.main", "import sarseg.cli.main as m; m.run(['--version'])"])
def test_the_frame_imports_nothing_heavy(code: str) -> None:
    assert loaded_by(code).isdisjoint(HEAVY)


@pytest.mark.parametrize("name", [name for name, _ in frame.COMMANDS])
def test_the_help_of_a_command_imports_nothing_heavy(name: str) -> None:
    loaded = loaded_by(f"import sarseg.cli.{name}")
    assert loaded.isdisjoint(HEAVY)
    assert "click" in loaded


def test_help_lists_every_command_with_the_first_words_of_its_own_help() -> None:
    text = " ".join(CliRunner().invoke(frame.cli, ["--help"]).output.split())
    for name, sentence in frame.COMMANDS:
        assert f"{name} {sentence}" in text
        command = frame.cli.get_command(click.Context(frame.cli), name)
        assert command is not None
        assert " ".join((command.help or "").split()).startswith(sentence.rstrip("."))


GROUPS = {"simulate": ("sentinel1", "palsar", "jaxa-mosaic"), "snap": ("check", "describe", "run")}


@pytest.mark.parametrize("words", [(name, *word.split()) for name, _ in frame.COMMANDS for word in GROUPS.get(name, ("",))])
def test_every_command_has_a_help_page_with_an_example(words: tuple[str, ...]) -> None:
    done = sarseg(*words, "--help")
    assert done.returncode == 0, done.stderr
    assert " ".join(("sarseg", *words)) in " ".join(done.stdout.partition("Example")[2].split())


def test_version() -> None:
    from sarseg import __version__

    done = sarseg("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sarseg {__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nonsense"], "No such command 'nonsense'. See sarseg --help"),
        (["run"], "Missing argument 'PIPELINE'. See sarseg run --help"),
        (["--loud"], "No such option"),
        (["run", "x.yaml", "--bogus"], "No such option"),
    ],
)
def test_wrong_use_is_one_line_and_2(args: list[str], says: str) -> None:
    done = sarseg(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("sarseg: error: ")
    assert says in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UsageError("w", "p", "h"), 2, "w [p]: h"),
        (InputError("w", "p"), 3, "w [p]"),
        (MissingError("w", None, "h"), 4, "w: h"),
        (OSError(errno.ENOSPC, "No space left on device", "big.tif"), 4, "the disk is full [big.tif]: free"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "big.tif"), 4, "the disk is full [big.tif]: free"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 4, "no permission [out]: change"),
        (OSError(errno.EROFS, "Read-only file system", "out"), 4, "no permission [out]: change"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.tif/x"), 3, "the path cannot be used: not a directory [a.tif/x]: choose"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".partial-x", None, "x"), 3, "the path cannot be used: is a directory [x]"),
        (OSError(errno.EIO, "Input/output error"), 3, "the path cannot be used: input/output error: choose another one"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "a.tif"), 3, "the path cannot be used: too many levels of sym"),
        (FileExistsError(errno.EEXIST, "File exists", "a.tif"), 3, "the path cannot be used: file exists [a.tif]"),
        (ValueError("PROJ: Cannot find proj.db"), 4, "PROJ's database proj.db is not found: unset PROJ_DATA"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 4, "the memory is full"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 4, "the memory is full"),
        (MemoryError(), 4, "the memory is full"),
        (ZeroDivisionError("float\ndivision"), 1, "ZeroDivisionError: float division [a bug of ours]: repeat with `sarseg --debug"),
    ],
)
def test_every_error_is_one_line_with_its_exit_code(
    error: Exception, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("run")
    def failing() -> None:
        raise error

    monkeypatch.setattr(frame.LazyGroup, "get_command", lambda *_: failing)
    assert frame.run(["run"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith(f"sarseg: error: {says}")


@pytest.mark.parametrize("words", [[], ["simulate"]])
def test_without_a_command_the_help_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Usage: sarseg")
    assert "\nCommands:\n" in said.err


def test_a_file_that_may_not_be_read_is_a_missing_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tif").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert frame.run(["info", str(tmp_path / "a.tif")]) == 4
    assert capsys.readouterr().err.startswith("sarseg: error: no permission: ")


def test_gdal_says_nothing_beside_our_line() -> None:
    code = (
        "import sys; sys.argv = ['sarseg', '--version']; import sarseg.cli.main as m\n"
        "try: m.main()\n"
        "except SystemExit: import rasterio.crs; rasterio.crs.CRS.from_user_input('EPSG:99999999')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "CRSError" in done.stderr
    assert not any(line.startswith("ERROR") for line in done.stderr.splitlines())


def test_a_cause_deeper_down_decides() -> None:
    wrapped = RuntimeError("writer failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device", "big.tif")
    known = frame.explain(wrapped)
    assert isinstance(known, MissingError)
    assert frame.explain(RuntimeError("unknown")) is None


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command("run")
    def failing() -> None:
        raise InputError("odd file", "x.tif")

    monkeypatch.setattr(frame.LazyGroup, "get_command", lambda *_: failing)
    assert frame.run(["--debug", "run"]) == 3
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "in failing" in said
    assert said.splitlines()[-1] == "sarseg: error: odd file [x.tif]"


SLEEPER = """
import pathlib, sys, time, click
import sarseg.cli.main as frame
part = pathlib.Path(sys.argv[1])
@click.command("run")
def sleeping():
    part.touch()
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        part.unlink()
frame.LazyGroup.get_command = lambda *_: sleeping
sys.argv = ["sarseg", "run"]
frame.main()
"""


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")])
def test_a_signal_cleans_up_and_has_its_exit_code(number: signal.Signals, code: int, word: str, tmp_path: Path) -> None:
    part = tmp_path / ".partial-x"
    with subprocess.Popen([sys.executable, "-c", SLEEPER, part], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert part.exists()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert not part.exists()
    assert said.strip() == f"sarseg: error: {word}; nothing half-written is left"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_progress_is_plain_lines_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with common.progress_bar() as progress:
        for done in range(1, 1001):
            progress(done, 1000, f"blocks, {done} bad")
        progress(7, 7, "tiles")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["blocks, 1 bad: 1/1000", "blocks, 1000 bad: 1000/1000", "tiles: 7/7"]


def test_progress_is_bars_on_a_terminal(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    with common.progress_bar() as progress:
        progress(1, 3, "blocks, 1 bad")
        progress(3, 3, "blocks, 2 bad")
        progress(5, 5, "tiles")
    said = capsys.readouterr()
    assert said.out == ""
    assert "3/3" in said.err
    assert "blocks, 2 bad" in said.err
    assert "5/5" in said.err


def test_quiet_silences_progress_and_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command
    def talking() -> None:
        log = logging.getLogger("sarseg.somewhere")
        with common.progress_bar() as progress:
            progress(1, 2, "blocks")
        for _ in range(3):
            log.info("by the way")
            log.warning("the geoid\nis old")

    for quiet, want in ((True, []), (False, ["blocks: 1/2", *["sarseg: info: by the way"]])):
        options = common.Settings(quiet=quiet)
        common.start_talking(options)
        talking.main([], standalone_mode=False, obj=options)
        said = capsys.readouterr().err.splitlines()
        assert said.count("sarseg: warning: the geoid is old") == 1
        assert sorted({line for line in said if "warning" not in line}) == sorted(want)


def test_json_is_plain_json(capsys: pytest.CaptureFixture[str]) -> None:
    common.echo_json({"path": Path("a/b"), "none": float("nan"), "far": float("inf"), "n": (1, 2.5, True), 3: None, "où": "é"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"path": "a/b", "none": None, "far": None, "n": [1, 2.5, True], "3": None, "où": "é"}
    assert "é" in text


def test_package_is_a_verb_too() -> None:
    code = "import sarseg.mosaic; assert sarseg.mosaic is sys.modules['sarseg.mosaic']; assert callable(sarseg.mosaic)"
    assert "sarseg" in loaded_by(code)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        import sarseg as package

        package.nonsense  # noqa: B018
    assert issubclass(SarsegError, Exception)
