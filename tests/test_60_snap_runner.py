"""The runner against a fake gpt that behaves, and misbehaves, as SNAP's; nothing of it may stay behind."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_snap import install_fake
from rasterio.errors import NotGeoreferencedWarning
from test_60_snap_fake import GRAPHS, IN_DIM, OK, chain, node, recorded

from sarseg.ard.snap import install, process, runner
from sarseg.ard.snap.failures import FAILURES, Listener, SnapFailed
from sarseg.ard.snap.install import Snap, find_snap
from sarseg.ard.snap.memory import free_bytes
from sarseg.ard.snap.outputs import check_output
from sarseg.ard.snap.runner import RunOptions, RunReport, run_gpt
from sarseg.errors import InputError, MissingError, UsageError

GIB = 1 << 30


def stat_of(pid: int) -> list[str]:
    """State, parent, group, session, ...; nothing of a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return fields if fields[0] not in "ZX" else []


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def processes_of(group: int) -> list[int]:
    """Living processes of a process group."""
    return [pid for pid in all_processes() if (stat_of(pid) or [""] * 3)[2] == str(group)]


def all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def left_behind(mark: Path) -> list[int]:
    """Living processes that inherited $FAKE_GPT_MARK."""
    found = []
    for pid in all_processes():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"FAKE_GPT_MARK={mark}".encode() in environment and pid != os.getpid() and stat_of(pid):
            found.append(pid)
    return found


class Place:
    """A folder with a fake SNAP, an input and a graph."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.snap = Snap(gpt=install_fake(folder), version=(13, 0, 0))
        self.output = folder / "out.dim"
        self.log = folder / "gpt.log"
        (folder / "in.dim").write_text(IN_DIM)
        self.percent: list[int] = []

    def graph(self, text: str = OK, output: str = "out.dim") -> Path:
        path = self.folder / "graph.xml"
        path.write_text(text.replace("${input}", str(self.folder / "in.dim")).replace("${output}", str(self.folder / output)))
        return path

    def run(self, how: str = "ok", text: str = OK, **options: object) -> RunReport:
        self.monkeypatch.setenv("FAKE_GPT", how)
        chosen = RunOptions(**{"heap_bytes": GIB, "time_limit_s": 20.0, "stall_limit_s": 20.0, **options})  # type: ignore[arg-type]
        self.percent.clear()
        return run_gpt(
            self.snap,
            self.graph(text),
            outputs=[self.output],
            options=chosen,
            log=self.log,
            progress=lambda done, total, label: self.percent.append(done),
        )

    def fails(self, how: str, kind: str, text: str = OK, **options: object) -> SnapFailed:
        """It fails as that kind, in one line, and leaves nothing but the log."""
        with pytest.raises(SnapFailed) as caught:
            self.run(how, text, **options)
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)
        assert caught.value.hint
        assert {path.name for path in self.folder.iterdir()} <= {"bin", "in.dim", "graph.xml", "gpt.log", "user dir's"}
        return caught.value


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("FAKE_GPT_MARK", str(tmp_path))
    monkeypatch.setattr(process, "GRACE_S", 0.5)
    yield Place(tmp_path, monkeypatch)
    left = left_behind(tmp_path)
    for pid in left:  # a failed test leaves nothing either
        os.kill(pid, signal.SIGKILL)
    assert left == []


def test_a_good_run_reports_what_it_made(place: Place) -> None:
    report = place.run(cache_bytes=300 << 20, threads=3)
    assert place.percent == [22, 45, 56, 67, 90]
    assert report.valid_shares == {place.output: {"Sigma0_VV": 0.9}}
    assert (report.attempts, report.warnings, report.heap_bytes, report.cache_bytes) == (1, (), GIB, 300 << 20)
    text = place.log.read_text()
    assert "-c 300M" in text
    assert "-q 3" in text
    assert "-J-Xmx1024m" in text
    assert "Executing processing graph\n22%45%56%67%90% done.\n" in text
    assert {path.name for path in place.folder.iterdir()} == {"bin", "in.dim", "graph.xml", "gpt.log", "out.dim", "out.data"}


def test_the_user_directory_may_have_blanks_and_quotes(place: Place) -> None:
    userdir = place.folder / "user dir's"
    text = chain(node("Orb", "Apply-Orbit-File", "Read"))
    failure = place.fails("ok", "orbit", text, userdir=userdir)
    assert failure.exit_code == MissingError.exit_code
    orbits = userdir / "auxdata" / "Orbits" / "Sentinel-1" / "POEORB"
    orbits.mkdir(parents=True)
    (orbits / "S1B.EOF").write_text("")
    place.run("ok", text, userdir=userdir)
    assert [path.name for path in userdir.iterdir()] == ["auxdata"]


def test_java_gets_its_folders_and_keeps_what_the_user_gave(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dmine=1")
    shown = "import os; print(os.environ['JAVA_TOOL_OPTIONS'])"
    place.snap.gpt.write_text(f'#!/bin/sh\n"{sys.executable}" -c "{shown}"\n')
    with pytest.raises(SnapFailed, match="wrote no file"):
        place.run()
    told = place.log.read_text().splitlines()[1]
    assert told.startswith("-Dmine=1 -Dsnap.userdir=")
    assert "-Djava.io.tmpdir=" in told
    assert "-XX:+ExitOnOutOfMemoryError" in told


@pytest.mark.parametrize("version", [13, 14])
def test_every_recorded_failure_is_known(shared: Path, version: int) -> None:
    text = (shared / "data" / "snap_reference" / "gpt_transcripts.md").read_text(encoding="utf-8")
    kinds = {}
    for name, run in recorded(text, version).items():
        listener = Listener()
        for at in range(0, len(run.stdout), 7):  # as pipes do, without regard to lines
            listener.feed("stdout", run.stdout[at : at + 7].encode())
        listener.feed("stderr", run.stderr.encode())
        listener.close()
        known = listener.diagnose(failed=run.code != 0)
        kinds[name] = known[0].kind if known else None
        assert run.code or listener.warnings() == (), name
        if known and name != "out_of_memory" and run.code:
            assert known[1] in run.stdout + run.stderr
            assert not known[1].startswith(("org.", "java.", "com.")) or known[0].kind in ("cycle", "graph")
    assert kinds == KINDS


KINDS = {
    "success": None, "missing_variable": None, "extra_variable": None, "boolean_yes": None, "parameter_twice": None,
    "value_with_spaces": None, "value_wrong_case": "value", "value_not_in_set": "value", "value_outside_interval": "value",
    "value_not_a_number": "value", "empty_value": "empty", "unknown_parameter_graph": "element", "parameter_wrong_case": "element",
    "unknown_parameter_cli": "parameter", "unknown_operator": "operator", "unknown_operator_cli": None,
    "unused_node_unknown_operator": "operator", "unknown_source_refid": "source", "missing_source": "source",
    "other_source_element_name": "source", "duplicate_node_id": "source", "cycle": "cycle", "application_data": None,
    "no_parameters_element": None, "unknown_root_element": "graph", "no_version": "graph", "wrong_version": "graph",
    "malformed_xml": "graph", "missing_graph": "input", "no_write_node": None, "unknown_format": "format", "missing_band": "band",
    "missing_polarisation": None, "region_outside": "region", "flattening_without_beta0": "beta0", "missing_input": "input",
    "unreadable_input": "input", "output_not_writable": "write", "external_dem_missing": "dem", "dem_name_unknown": "dem",
    "dem_download_fails": "dem-empty", "orbit_missing": "orbit", "out_of_memory": "heap", "no_arguments": None,
}  # fmt: skip
"""What each recorded run is; None where gpt says that all is well and prints nothing."""


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Error: Unable to download http://step.esa.int/auxdata/dem/egm96/", "egm96"),
        ("Error: Source product should not be map projected.", "map"),
        ("Error: Thermal noise correction has already been performed for the product", "denoised"),
        ("java.lang.ArithmeticException: / by zero", "noise-order"),
        ("Error: The deskewing operator is for ALOS PALSAR 1 products only", "deskewing"),
        ("java.io.IOException: No space left on device", "disk"),
        ("java.io.FileNotFoundException: /out/x.dim (Permission denied)", "write"),
        ("Error: Cannot invoke method: java.lang.NullPointerException", "null"),
        ("java.net.UnknownHostException: step.esa.int", "network"),
        ("/opt/snap/bin/gpt: 1: java: not found", "jvm"),
        ("# A fatal error has been detected by the Java Runtime Environment:", "crash"),
    ],
)
def test_failures_that_users_report(line: str, kind: str) -> None:
    listener = Listener()
    listener.feed("stderr", line.encode())
    listener.close()
    known = listener.diagnose(failed=True)
    assert known is not None
    assert known[0].kind == kind


def test_signs_do_not_hide_one_another() -> None:
    for at, failure in enumerate(FAILURES):
        for sign in failure.signs:
            earlier = [one for one in FAILURES[:at] if one.when == failure.when and any(text in sign for text in one.signs)]
            assert earlier == [], sign


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("lcase.xml", "value", 2),
        ("unkop.xml", "operator", 2),
        ("demmiss.xml", "dem", 4),
        ("tfsig.xml", "beta0", 2),
        ("demnet.xml", "dem-empty", 4),
    ],
)
def test_failures_end_to_end(place: Place, name: str, kind: str, code: int) -> None:
    failure = place.fails("ok", kind, GRAPHS[name])
    assert failure.exit_code == code
    assert str(place.log) in str(failure)


def test_an_unknown_failure_is_told_as_it_is(place: Place) -> None:
    failure = place.fails("odd", "unknown")
    assert failure.what == "SNAP failed: Something nobody has heard of"
    assert (pickle.loads(pickle.dumps(failure)).kind, failure.exit_code) == ("unknown", InputError.exit_code)
    assert str(pickle.loads(pickle.dumps(failure))) == str(failure)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("empty", "output"), ("nan", "output"), ("loud", "output"), ("quiet", "output"), ("no-file", "output"), ("no-band", "output"),
        ("torn", "output"), ("tile-error", "tile"), ("jai-error", "tile"), ("class-error", "library"),
        ("disk-full", "disk"), ("no-java", "jvm"),
    ],
)  # fmt: skip
def test_exit_0_is_not_believed(place: Place, how: str, kind: str) -> None:
    """And the message names the log, since the output is gone."""
    failure = place.fails(how, kind)
    assert str(place.log) in str(failure)
    assert "download" not in failure.hint


def test_a_polarisation_that_is_not_there_ends_without_a_file(place: Place) -> None:
    text = chain(node("Cal", "Calibration", "Read", "<selectedPolarisations>HH</selectedPolarisations>"))
    assert "wrote no file" in place.fails("ok", "output", text).what


def test_a_continued_run_without_orbit_is_a_warning(place: Place) -> None:
    report = place.run(text=chain(node("Orb", "Apply-Orbit-File", "Read", "<continueOnFail>true</continueOnFail>")))
    assert report.warnings == ("no orbit file was found and the graph goes on without: positions are those of the annotation",)


@pytest.mark.parametrize("how", ["hang", "stubborn", "children"])
def test_a_run_that_stands_still_is_ended_with_all_its_processes(place: Place, how: str) -> None:
    failure = place.fails(how, "stall", stall_limit_s=1.0)
    assert place.percent == [22, 45]
    assert failure.exit_code == MissingError.exit_code


def test_a_child_that_outlives_gpt_is_ended(place: Place) -> None:
    assert place.run("orphan").attempts == 1


@pytest.mark.parametrize("how", ["slow", "busy"])
def test_slow_work_is_no_stall(place: Place, how: str) -> None:
    report = place.run(how, stall_limit_s=1.0)
    assert report.wall_s > 1.4
    assert report.cpu_s > (1.9 if how == "busy" else 0)


def test_the_time_limit_holds_under_a_flood_of_output(place: Place) -> None:
    start = time.monotonic()
    place.fails("endless-flood", "time", time_limit_s=1.0)
    assert time.monotonic() - start < 6
    assert place.log.stat().st_size < 7 << 20


def test_a_flood_keeps_its_beginning_and_its_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GPT_FLOOD_MB", "20")
    place.run("flood")
    text = place.log.read_text()
    assert 5 << 20 <= len(text) < 7 << 20
    assert text.startswith("$ ")
    assert "bytes are left out here" in text
    assert "90% done.\n" in text[-300:]


@pytest.mark.parametrize("how", ["heap", "heap-exit", "killed"])
def test_memory_is_tried_twice(place: Place, caplog: pytest.LogCaptureFixture, how: str) -> None:
    start = time.monotonic()
    failure = place.fails(how, "killed" if how == "killed" else "heap", cache_bytes=400 << 20)
    assert time.monotonic() - start < 10  # far from the stall limit: a dead scheduler thread is seen at once
    assert failure.exit_code == MissingError.exit_code
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    text = place.log.read_text()
    assert "-c 400M" in text
    assert "-c 100M" in text


def test_a_smaller_cache_helps(place: Place) -> None:
    report = place.run("heap-cache", cache_bytes=1200 << 20)
    assert (report.attempts, report.cache_bytes) == (2, 300 << 20)
    assert place.log.read_text().count(" -x ") == 1


def test_an_output_that_exists_is_not_touched(place: Place) -> None:
    folder = place.output.with_suffix(".data")
    folder.mkdir()
    with pytest.raises(InputError, match="exists already"):
        place.run()
    assert folder.is_dir()
    folder.rmdir()
    place.output.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        place.run()
    assert place.output.read_text() == "mine"


def test_a_program_that_cannot_be_started(place: Place) -> None:
    place.snap.gpt.write_bytes(b"\x7fELF nonsense")
    with pytest.raises(MissingError, match="cannot be started"):
        place.run()


def test_an_exception_of_the_caller_ends_the_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GPT", "hang")

    def broken(done: int, total: int, label: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_gpt(place.snap, place.graph(), outputs=[place.output], log=place.log, progress=broken, options=RunOptions(heap_bytes=GIB))
    assert not place.output.with_suffix(".data").exists()


INTERRUPTED = """
import signal, sys
from pathlib import Path
from sarseg.ard.snap import process
from sarseg.ard.snap.install import Snap
from sarseg.ard.snap.runner import RunOptions, run_gpt
from sarseg.cli import main
process.GRACE_S = 0.5
signal.signal(signal.SIGTERM, main._terminated)
folder = Path(sys.argv[1])
options = RunOptions(heap_bytes=1 << 30)
snap = Snap(gpt=folder / "bin/gpt", version=(13,))
run_gpt(snap, folder / "graph.xml", outputs=[folder / "out.dim"], options=options, log=folder / "gpt.log")
"""


@pytest.mark.parametrize(
    ("how", "numbers"),
    [
        ("children", (signal.SIGINT,)),
        ("stubborn", (signal.SIGINT, signal.SIGINT)),  # the second one while the first is being heeded
        ("children", (signal.SIGTERM,)),
        ("stubborn", (signal.SIGTERM,)),
        ("children", (signal.SIGKILL,)),
    ],
)
def test_nothing_stays_when_we_are_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch, how: str, numbers: tuple[signal.Signals, ...]
) -> None:
    monkeypatch.setenv("FAKE_GPT", how)
    place.graph()
    ours = subprocess.Popen([sys.executable, "-c", INTERRUPTED, place.folder], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while "45%" not in (place.log.read_text() if place.log.exists() else "") and time.monotonic() < until:
        time.sleep(0.05)
    assert len(left_behind(place.folder)) >= (4 if how == "children" else 3)  # we, our guard, the launcher, gpt, its child
    session = int(stat_of(next(pid for pid in left_behind(place.folder) if "/bin/gpt" in command_of(pid)))[3])
    assert len(processes_of(session)) >= 2
    for number in numbers:
        ours.send_signal(number)
        time.sleep(0.2)
    assert ours.wait(15) != 0
    until = time.monotonic() + 6
    while left_behind(place.folder) and time.monotonic() < until:
        time.sleep(0.05)
    assert left_behind(place.folder) == []
    assert processes_of(session) == []
    assert place.output.with_suffix(".data").exists() == (numbers == (signal.SIGKILL,))


def test_progress_survives_any_cut() -> None:
    seen: list[int] = []
    percent = runner._Percent(lambda done, total, label: seen.append(done))
    for byte in b"Executing processing graph\n18%36%.54%The DEM 'x'\n[0.25%]72%90%100% done.\n":
        percent.feed(bytes([byte]))
    assert seen == [18, 36, 54, 72, 90, 100]


def test_real_products_pass_and_their_shares_are_counted(shared: Path) -> None:
    folder = shared / "data" / "snap_reference" / "products"
    for name in ("map.dim", "map.tif"):
        shares = check_output(folder / name, 0.5)
        with rasterio.open(folder / "map.tif") as tif:
            values = tif.read()
        expected = [np.mean((band != 0) & (band != -32768) & np.isfinite(band)) for band in values]
        assert list(shares.values()) == pytest.approx(expected, abs=0)
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(folder / "radar.data" / "Sigma0_VV.img") as img:
        assert check_output(folder / "radar.dim", 0.5) == {"Sigma0_VV": np.mean(img.read(1) != 0)}
    with pytest.raises(SnapFailed, match=r"only 9\d\.\d\d% of the pixels of Sigma0_VV"):
        check_output(folder / "map.dim", 0.99)


def memory_tree(root: Path, groups: str, files: dict[str, str], available_kb: int = 8 << 20) -> Path:
    for name, text in {"proc/self/cgroup": groups, "proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:  {available_kb} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_free_memory_heeds_the_limits_of_containers(tmp_path: Path) -> None:
    top = "sys/fs/cgroup"
    assert free_bytes(memory_tree(tmp_path / "plain", "0::/\n", {})) == 8 * GIB
    parent = {
        f"{top}/a/memory.max": f"{3 * GIB}\n",
        f"{top}/a/memory.current": f"{2 * GIB}",
        f"{top}/a/memory.stat": f"anon 1\ninactive_file {GIB}\n",
    }
    child = {f"{top}/a/b/memory.max": "max\n", f"{top}/a/b/memory.current": "1"}
    assert free_bytes(memory_tree(tmp_path / "two", "0::/a/b\n", parent | child)) == 2 * GIB
    own = {f"{top}/memory/memory.limit_in_bytes": str(GIB), f"{top}/memory/memory.usage_in_bytes": "24", f"{top}/memory/memory.stat": ""}
    assert free_bytes(memory_tree(tmp_path / "one", "5:cpu:/x\n4:memory:/docker/77\n0::/\n", own)) == GIB - 24  # its own group is the top
    none = {f"{top}/memory/memory.limit_in_bytes": "9223372036854771712", f"{top}/memory/memory.usage_in_bytes": "5"}
    assert free_bytes(memory_tree(tmp_path / "unlimited", "4:memory:/\n", none)) == 8 * GIB
    assert free_bytes(tmp_path / "nothing") is None


def test_heap_and_cache_come_from_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "free_bytes", lambda: 10 * GIB)
    assert runner._memory(RunOptions()) == runner._Memory(heap_bytes=7 * GIB, cache_bytes=3.5 * GIB)
    monkeypatch.setattr(runner, "free_bytes", lambda: 500 * GIB)
    assert runner._memory(RunOptions()).heap_bytes == 31 * GIB
    monkeypatch.setattr(runner, "free_bytes", lambda: GIB)
    with pytest.raises(MissingError, match=r"only 1\.0 GiB of memory are free"):
        runner._memory(RunOptions())
    assert runner._memory(RunOptions(heap_bytes=GIB // 2)).cache_bytes == GIB // 4
    with pytest.raises(UsageError, match="stall_limit_s is 0"):
        RunOptions(stall_limit_s=0)


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_snap_is_found_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNAP_HOME", raising=False)
    monkeypatch.setenv("FAKE_GPT", "ok")
    first, second = install_fake(tmp_path / "a", "14.0.0"), install_fake(tmp_path / "b", "12.0.1")
    other = program(tmp_path / "chat" / "gpt", "echo Hello, how can I help you?")
    ubuntu = program(tmp_path / "snap" / "bin" / "gpt", f"exec {first} $@")
    monkeypatch.setattr(install, "_UBUNTU", ubuntu.parent)
    system = "/usr/bin:/bin"
    monkeypatch.setenv("PATH", f"{ubuntu.parent}:{other.parent}:{second.parent}:{system}")
    assert find_snap() == Snap(gpt=second, version=(12, 0, 1))
    monkeypatch.setenv("SNAP_HOME", str(tmp_path / "a"))
    assert find_snap() == Snap(gpt=first, version=(14, 0, 0))
    assert find_snap(second).version == find_snap(tmp_path / "b").version == (12, 0, 1)
    assert find_snap(first).major == 14
    with pytest.raises(UsageError, match="no gpt"):
        find_snap(tmp_path / "c")
    monkeypatch.setenv("SNAP_HOME", str(tmp_path))
    with pytest.raises(MissingError, match="SNAP_HOME has no bin/gpt"):
        find_snap()
    monkeypatch.delenv("SNAP_HOME")
    monkeypatch.setenv("PATH", f"{other.parent}:{system}")
    with pytest.raises(MissingError, match="does not tell a version of SNAP, but: Hello"):
        find_snap()
    monkeypatch.setenv("PATH", f"{ubuntu.parent}:{system}")
    with pytest.raises(MissingError, match=r"SNAP is not found.*--engine native"):
        find_snap()


def test_a_snap_that_is_of_no_use_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingError, match=r"SNAP 9\.0\.0 is too old"):
        find_snap(install_fake(tmp_path / "old", "9.0.0"))
    monkeypatch.setenv("FAKE_GPT", "no-java")
    with pytest.raises(MissingError, match=r"gpt does not start: No suitable Java Virtual Machine.*bundled Java"):
        find_snap(install_fake(tmp_path / "java"))
    closed = install_fake(tmp_path / "closed")
    closed.chmod(0o644)
    with pytest.raises(MissingError, match="no permission to run gpt"):
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may run everything
        find_snap(closed)


def test_the_version_is_asked_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    gpt = program(tmp_path / "gpt", f"echo x >> {count}\necho SNAP Release version 13.0.0")
    assert find_snap(gpt) == find_snap(gpt) == Snap(gpt=gpt, version=(13, 0, 0))
    assert count.read_text() == "x\n"
