"""`sarseg snap`: graphs of ESA SNAP, checked, described, run."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sarseg.cli.common import echo_json, progress_bar
from sarseg.errors import InputError, MissingError, UsageError

if TYPE_CHECKING:
    from sarseg.ard.snap.install import Snap
    from sarseg.ard.snap.problems import Problem

_HELP_S = 180.0
_NAMES_OF_COLLOCATE = ("ORIGINAL_NAME", "SLAVE_NUMBER_ID")  # which are no placeholders
_FILE = click.Path(path_type=Path)
_VALUES = click.option("-P", "--p", "pairs", multiple=True, metavar="NAME=VALUE", help="Value of a ${NAME}; may be given several times.")


@click.group("snap")
def command() -> None:
    """Check, describe and run graphs of ESA SNAP.

    \b
    Graphs that come with sarseg, by name:
      s1_grd, s1_grd_rtc        Sentinel-1 GRD to sigma0 or gamma0; to flattened gamma0
      s1_slc, s1_slc_rtc        Sentinel-1 IW SLC, likewise
      alos, alos_rtc            ALOS and ALOS-2, L1.1 and L1.5 georeferenced, likewise
      alos_geocoded             ALOS and ALOS-2, L1.5 geocoded, to sigma0 where it is
    """


@command.command("check")
@click.argument("graph", metavar="GRAPH", type=str)
@click.option("--snap-version", "versions", type=int, multiple=True, metavar="N", help="10 to 14; several times. [default: all]")
@_VALUES
@click.option("--polarisation", "polarisations", multiple=True, metavar="POL", help="One that the product has; several times.")
@click.option("--gpt", type=_FILE, help="Ask this SNAP instead: gpt, or SNAP's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def check(
    graph: str, versions: tuple[int, ...], pairs: tuple[str, ...], polarisations: tuple[str, ...], gpt: Path | None, as_json: bool
) -> None:
    """Say what SNAP would reject in GRAPH (errors), and what it would take without a word and do wrong (warnings).

    GRAPH is a file, or the name of one that comes with sarseg. SNAP is not needed. Exit code 3 when a version rejects it.

    Example: sarseg snap check mine.xml --snap-version 13 -P input=S1A.zip -P output=x.dim
    """
    from sarseg.ard.snap.check import check_graph
    from sarseg.ard.snap.operators import VERSIONS

    path, ask = _path(graph), None
    if gpt is not None:
        snap = _snap(gpt)
        versions, ask = (snap.known,), _asker(snap)
    found: dict[Problem, list[int]] = {}
    for version in dict.fromkeys(versions or VERSIONS):
        for problem in check_graph(path, version, values=_values(pairs), polarisations=polarisations or None, ask=ask):
            found.setdefault(problem, []).append(version)
    if as_json:
        echo_json([_described(problem, seen) for problem, seen in found.items()])
    else:
        for problem, seen in found.items():
            click.echo(f"{'error' if problem.fatal else 'warning'}: {_spoken(seen)}: {problem}")
        if not found:
            click.echo("no problems")
    rejecting = sorted({version for problem, seen in found.items() if problem.fatal for version in seen})
    if rejecting:
        raise InputError(f"{_spoken(rejecting)} would reject the graph", path, "see the errors above")


@command.command("describe")
@click.argument("operator", metavar="OPERATOR", type=str)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def describe(operator: str, as_json: bool) -> None:
    """List the parameters of SNAP's OPERATOR: types, allowed values, defaults, and the versions that differ.

    Example: sarseg snap describe Terrain-Correction
    """
    from difflib import get_close_matches

    from sarseg.ard.snap.operators import VERSIONS, operators, versions_of

    newest = next((found for version in reversed(VERSIONS) if (found := operators(version).get(operator)) is not None), None)
    if newest is None:
        near = get_close_matches(operator, operators(VERSIONS[-1]), 3, 0.5)
        raise UsageError(
            f"no operator '{operator}' is known", None, f"did you mean {' or '.join(near)}?" if near else "names are as in gpt -h"
        )
    if not newest.known:
        raise MissingError(f"of {operator} only the name is known", None, f"an installed SNAP tells its parameters: gpt {operator} -h")
    names = list(
        dict.fromkeys(name for version in VERSIONS if operator in operators(version) for name in operators(version)[operator].parameters)
    )
    rows = []
    for name in names:
        having = versions_of(operator, name)
        by_version = {version: operators(version)[operator].parameters[name] for version in having}
        last = by_version[having[-1]]
        rows.append(
            {
                "name": name,
                "type": last.type,
                "values": _differing({version: _allowed(one.values, one.interval) for version, one in by_version.items()}),
                "default": _differing({version: one.default or "" for version, one in by_version.items()}),
                "versions": _spoken(having) if len(having) < len(VERSIONS) else "",
                "mandatory": last.mandatory,
            }
        )
    sources = [("any number of " if source.many else "") + source.names[-1] for source in newest.sources]
    if as_json:
        echo_json({"operator": operator, "sources": sources, "parameters": rows})
        return
    click.echo(f"{operator}: sources {', '.join(sources) or 'none'}")
    for row in rows:
        words = [f"{row['type']}{', mandatory' if row['mandatory'] else ''}"]
        words += [f"{label} {row[key]}" for key, label in (("default", "default"), ("values", "values"), ("versions", "only")) if row[key]]
        click.echo(f"  {row['name']}: {'; '.join(words)}")


@command.command("run")
@click.option("--graph", required=True, metavar="GRAPH", help="A graph file, or the name of one that comes with sarseg.")
@_VALUES
@click.option("-o", "--output", "out", type=_FILE, required=True, help="The product to write: it is the value of ${output}.")
@click.option("--gpt", type=_FILE, help="SNAP's gpt, or SNAP's folder; else $SNAP_HOME, else the PATH.")
@click.option("--userdir", type=_FILE, help="SNAP's user directory, with its auxdata; else an empty one, removed afterwards.")
@click.option("--time-limit", "limit_min", type=click.FloatRange(min=0, min_open=True), help="Minutes. [default: 1440]")
def run(graph: str, pairs: tuple[str, ...], out: Path, gpt: Path | None, userdir: Path | None, limit_min: float | None) -> None:
    """Check a graph for the installed SNAP, run it, and check what it wrote.

    What gpt prints is kept in OUTPUT.gpt.log. Warnings of the check are printed; what SNAP would reject is exit code 3. A graph that
    comes with sarseg takes no value that has a warning (exit code 2).

    \b
    Examples:
      sarseg snap run --graph mine.xml -P input=S1A.zip -o mine.dim
      sarseg snap run --graph s1_slc -P input=S1A.zip -P polarisations=VV -P denoised=VV -P dem=dem.tif -P crs=EPSG:32633 \\
        -P spacing_m=20.0 -P spacing_deg=0.0 -P origin=10.0 -P range_looks=4 -o s1.dim
    """
    from sarseg.ard.snap.runner import RunOptions, run_gpt
    from sarseg.product.folder import make_parent

    snap = _snap(gpt)
    text = _filled(graph, {**_values(pairs), "output": str(out.absolute())}, snap.known)
    limit_s = RunOptions().time_limit_s if limit_min is None else 60.0 * limit_min
    make_parent(out.absolute())
    with tempfile.TemporaryDirectory(prefix=".snap-", dir=out.absolute().parent) as folder, progress_bar() as progress:
        file = Path(folder) / f"{Path(graph).stem}.xml"
        file.write_text(text, encoding="utf-8")
        outputs = _outputs(text)
        log = out.absolute().with_name(f"{out.name}.gpt.log")
        report = run_gpt(snap, file, outputs=outputs, options=RunOptions(userdir=userdir, time_limit_s=limit_s), log=log, progress=progress)
    for warning in report.warnings:
        click.echo(f"sarseg: warning: {warning}", err=True)
    for path in outputs:
        click.echo(path)


def _path(graph: str) -> Path:
    """A file, or one that comes with sarseg."""
    from sarseg.ard.snap.graphs import GRAPHS, packaged_graph

    path = Path(graph)
    return packaged_graph(graph) if not path.exists() and graph in GRAPHS else path


def _values(pairs: Sequence[str]) -> dict[str, str]:
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"-P {pair} is no NAME=VALUE", None, "write it like -P input=S1A.zip")
        values[name] = value
    return values


def _snap(gpt: Path | None) -> Snap:
    from sarseg.ard.snap.install import find_snap

    return find_snap(gpt)


def _asker(snap: Snap) -> Callable[[str], str]:
    def ask(operator: str) -> str:
        try:
            done = subprocess.run([str(snap.gpt), operator, "-h"], capture_output=True, timeout=_HELP_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingError("gpt does not answer", snap.gpt, str(error)) from error
        return done.stdout.decode("utf-8", errors="replace")

    return ask


def _filled(graph: str, values: Mapping[str, str], version: int) -> str:
    """The text for gpt; its warnings are printed, InputError when SNAP would reject it."""
    from sarseg.ard.snap.check import check_graph
    from sarseg.ard.snap.graphs import GRAPHS, graph_text, packaged_graph
    from sarseg.ard.snap.graphxml import fill, placeholders, read_text

    path = _path(graph)
    if graph in GRAPHS and path == packaged_graph(graph):
        return graph_text(path, values, version)
    text = read_text(path)
    if "output" not in placeholders(text):
        raise UsageError("the graph has no ${output}", path, "write it as the file of its Write node")
    problems = check_graph(path, version, values=values)
    for problem in problems:
        click.echo(f"sarseg: {'error' if problem.fatal else 'warning'}: {problem}", err=True)
    if any(problem.fatal for problem in problems):
        raise InputError(f"SNAP {version} would reject the graph", path, "see the errors above")
    missing = [name for name in placeholders(text) if name not in values and name not in _NAMES_OF_COLLOCATE and f"${{{name}}}" in text]
    if missing:
        raise UsageError(f"no value for {', '.join(missing)}", path, f"give -P {missing[0]}=...")
    return fill(text, values)


def _outputs(text: str) -> list[Path]:
    """The files that the Write nodes write; SNAP appends the ending of the format."""
    from sarseg.ard.snap.graphxml import parse_graph
    from sarseg.ard.snap.traps import ENDINGS

    files = []
    for node in parse_graph(text).nodes:
        if node.operator == "Write":
            file, endings = node.value("file"), ENDINGS.get(node.value("formatName", "BEAM-DIMAP"), ("",))
            files.append(Path(file if file.lower().endswith(endings) else file + endings[0]))
    return files


def _spoken(versions: Sequence[int]) -> str:
    if len(versions) > 1 and list(versions) == list(range(versions[0], versions[-1] + 1)):
        return f"SNAP {versions[0]} to {versions[-1]}"
    return f"SNAP {', '.join(map(str, versions))}"


def _described(problem: Problem, versions: Sequence[int]) -> dict[str, object]:
    return {
        "node": problem.node,
        "parameter": problem.parameter,
        "message": problem.message,
        "rejected": problem.fatal,
        "versions": list(versions),
    }


def _allowed(values: Sequence[str] | None, interval: str | None) -> str:
    return ", ".join(values) if values is not None else interval or ""


def _differing(by_version: Mapping[int, str]) -> str:
    """One word when all versions agree, else each with the first version that has it."""
    steps = {version: word for version, word in by_version.items() if word != by_version.get(version - 1)}
    if len(steps) == 1:
        return next(iter(steps.values()))
    return "; ".join(f"{word} (since {version})" if version != min(steps) else word for version, word in steps.items())
