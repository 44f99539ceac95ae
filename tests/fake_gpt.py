"""SNAP's gpt for tests: reads graph and arguments as gpt does, and succeeds or fails as gpt does.

$FAKE_GPT says how it behaves; several words are joined by "+":

    ok            as gpt would; with Terrain-Correction the pixels come from fake_snap_product.write_product(graph, path)
    hang          prints some progress, then waits for ever
    stubborn      the same, and ignores SIGTERM
    children      starts a child that ignores SIGTERM, then hangs;  orphan: starts it, then ends well
    heap          scheduler threads die, the main thread waits for ever, the files have their full size
    heap-cache    the same, unless -c is at most 300M;  heap-exit: ends at once, as -XX:+ExitOnOutOfMemoryError makes it
    killed        dies of SIGKILL
    empty, nan, loud, quiet   ends well with zeros, NaN, too large, too small values
    no-file, no-band, torn    ends well without a file, without a band's file, with one cut short
    tile-error, class-error, jai-error   ends well after an error in a tile
    flood         prints $FAKE_GPT_FLOOD_MB (200) of log on the way;  endless-flood: does not stop
    slow          prints its progress slowly;  busy: prints nothing, works
    disk-full, no-java, odd   other failures

$FAKE_GPT_HELP names a folder with the texts of `gpt -h` and `gpt OPERATOR -h`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fake_snap import graph as graphs
from fake_snap import products
from fake_snap.graph import Graph, SnapError

STEPS = {3: (22, 45, 56, 67, 90), 4: (18, 36, 54, 72, 90)}
HOW = set(os.environ.get("FAKE_GPT", "ok").split("+"))
TRACE = "\tat org.esa.snap.core.gpf.main.GPT.run(GPT.java:60)\n\tat org.esa.snap.core.gpf.main.GPT.main(GPT.java:37)\n"
TILE_TRACE = (
    "java.lang.ArrayIndexOutOfBoundsException: Index -1 out of bounds for length 27\n"
    "\tat eu.esa.sar.calibration.gpf.calibrators.Sentinel1Calibrator.computeTile(Sentinel1Calibrator.java:520)\n"
    "\tat org.esa.snap.core.gpf.internal.OperatorImage.computeRect(OperatorImage.java:80)\n"
)
CLASS_TRACE = "java.lang.NoClassDefFoundError: org/jlinda/core/Orbit\n\tat eu.esa.sar.sar.gpf.geometric.Some.of(Some.java:1)\n"
JAI_ERROR = (
    "SEVERE: org.esa.snap.core.util.SystemUtils$SnapImagingListener: JAI error occurred: "
    "'Problem occurs when computing a tile by the owner.' at com.sun.media.jai.util.SunTileScheduler@6995a927\n"
)


def main(words: list[str]) -> int:
    version = tuple(map(int, words.pop(0).split("."))) if words.pop(0) == "--fake-version" else ()
    words = [word for word in words if not word.startswith("-J")]  # the launcher's
    if "no-java" in HOW:
        say("No suitable Java Virtual Machine could be found on your system.\n")
        return 83
    if words == ["--diag"]:
        say(f"SNAP Release version {'.'.join(map(str, version))}\nSNAP home: /opt/snap/bin//..\nSNAP log level: INFO\nMax memory: 4.0 GB\n")
        return 0
    plain, options = arguments(words)
    if "-h" in options or not plain:
        return show_help(plain[0] if plain else "gpt")
    try:
        if plain[0].endswith(".xml"):
            run_graph(Path(plain[0]), options, version)
        else:
            run_operator(plain[0], options, version)
    except SnapError as error:
        report(error)
        return 1
    return 0


def arguments(words: list[str]) -> tuple[list[str], dict[str, str]]:
    plain, options = [], {}
    rest = iter(words)
    for word in rest:
        if word[:2] in ("-P", "-S", "-D"):
            name, _, value = word[2:].partition("=")
            options[word[:2] + name] = value
        elif word in ("-t", "-f", "-c", "-q", "-p", "-m", "-v"):
            options[word] = next(rest, "")
        elif word.startswith("-"):
            options[word] = ""
        else:
            plain.append(word)
    return plain, options


def show_help(name: str) -> int:
    file = Path(os.environ.get("FAKE_GPT_HELP", "/nowhere")) / f"{name}.txt"
    say(file.read_text(encoding="utf-8") if file.is_file() else f"Unknown operator '{name}'.")
    return 0


def report(error: SnapError) -> None:
    first = error.chain[0][1] or error.chain[0][0]
    sys.stderr.write((traced(error.chain) if error.runtime else "") + f"\nError: {first}\n{traced(error.chain)}")
    if error.seen_by_jai:
        sys.stderr.write(f"{JAI_ERROR}{traced(error.chain[1:])}\n")


def traced(chain: Sequence[tuple[str, str]]) -> str:
    text = ""
    for number, (name, message) in enumerate(chain):
        text += ("Caused by: " if number else "") + (f"{name}: {message}" if message or "xstream" in name else name) + "\n" + TRACE
        text += "\t... 12 more\n" if number else ""
    return text


def run_operator(name: str, options: dict[str, str], version: tuple[int, ...]) -> None:
    if name not in graphs.OPERATORS:
        raise SnapError((graphs.OPERATOR, f"Unknown operator name '{name}'."), runtime=True)
    for key in options:
        if key.startswith("-P") and key[2:] not in graphs.parameters_of(name, version):
            raise SnapError(("java.lang.RuntimeException", f"Operator '{name}': unknown parameter '{key[2:]}'"), runtime=True)


def run_graph(path: Path, options: dict[str, str], version: tuple[int, ...]) -> None:
    if not path.exists():
        raise SnapError(("java.io.FileNotFoundException", f"{path} (No such file or directory)"))
    values = {key[2:]: value for key, value in options.items() if key.startswith("-P")}
    graph = graphs.parse(graphs.fill(path.read_text(encoding="utf-8"), values), version)
    graph.userdir = userdir(options)
    graphs.add_write(graph, options.get("-t", "target.dim"), options.get("-f", "BEAM-DIMAP"))
    say("Executing processing graph\n")
    try:
        execute(graph, options)
    except SnapError as error:
        say(error.stdout)
        raise
    finally:
        say(" done.\n")


def userdir(options: dict[str, str]) -> Path | None:
    java = dict(
        word[2:].split("=", 1) for word in shlex.split(os.environ.get("JAVA_TOOL_OPTIONS", "")) if word.startswith("-D") and "=" in word
    )
    given = options.get("-Dsnap.userdir") or java.get("snap.userdir")
    return Path(given) if given else None


def execute(graph: Graph, options: dict[str, str]) -> None:
    made: dict[str, products.Bands] = {}
    for node in graphs.check_links(graph):
        graphs.check_parameters(node, graph.version)
        source = made[node.sources[0][1]] if node.sources else None
        made[node.id] = products.initialise(node, source, graph)
        for _, refid in node.sources[1:]:
            made[node.id].units.update(made[refid].units if node.operator == "BandMerge" else {})
    corrections = [node for node in graph.nodes.values() if node.operator in ("Terrain-Correction", "Terrain-Flattening")]
    progress = [f"{step}%" for step in STEPS.get(len(graph.nodes), tuple(90 * n // 6 for n in range(1, 7)))]
    if any(node.operator == "Terrain-Correction" for node in corrections):
        progress[1] += "."
    warning = ""
    try:
        for node in corrections:
            if node.operator == "Terrain-Flattening":
                products.check_beta0(made[node.sources[0][1]])
            warning = products.check_dem(node)
    except SnapError as error:
        early = "DEM '" in error.stdout and graph.version[0] < 14
        say("".join(progress[:3] if early else progress))
        if early:
            say(error.stdout)
            say("".join(progress[3:]))
            error.stdout = ""
        elif "DEM '" in error.stdout:
            error.stdout *= 2
        error.seen_by_jai = graph.version[0] >= 14 and "product path" in error.stdout
        raise
    disturb(graph, made, options, progress)
    for word in progress:
        say(word)
        time.sleep(0.3 if "slow" in HOW else 0)
    if warning:
        if graph.version[0] < 14:
            say("Copernicus_DSM_COG_10_N42_00_E012_00_DEM.tif\nCopernicus_DSM_COG_10_N41_00_E012_00_DEM.tif\n")
        sys.stderr.write(warning)
    for node in graph.nodes.values():
        if node.operator == "Write":
            graph.write = node
            write(graph, made[node.id], empty=bool(warning))


def write(graph: Graph, bands: products.Bands, *, empty: bool) -> None:
    path = products.target(graph.write)
    if not bands.units or "no-file" in HOW:  # SNAP writes nothing then, and calls it a success
        return
    products.create_folder(path)
    small = products.Bands(bands.units, (min(bands.shape[0], 60), min(bands.shape[1], 50)))
    values = {"nan": float("nan"), "loud": 40000.0, "quiet": 1e-9}
    value = next((values[word] for word in HOW & set(values)), 0.0 if empty or "empty" in HOW else 0.1)
    if value == 0.1 and any(node.operator == "Terrain-Correction" for node in graph.nodes.values()):
        from fake_snap_product import write_product  # late: it takes a second to load

        write_product(graph, path)
    else:
        products.write_small(path, small, value)
    images = sorted(path.with_suffix(".data").glob("*.img"))
    if "torn" in HOW:
        images[0].write_bytes(images[0].read_bytes()[:-4])
    if "no-band" in HOW:
        images[0].unlink()


def disturb(graph: Graph, made: dict[str, products.Bands], options: dict[str, str], progress: list[str]) -> None:
    """What can go wrong while the graph runs."""
    if "tile-error" in HOW:
        sys.stderr.write(TILE_TRACE)
    if "class-error" in HOW:
        sys.stderr.write(CLASS_TRACE)
    if "jai-error" in HOW:
        sys.stderr.write(JAI_ERROR)
    if "odd" in HOW:
        raise SnapError((graphs.OPERATOR, "Something nobody has heard of"), runtime=True)
    if HOW & {"flood", "endless-flood"}:
        flood(endless="endless-flood" in HOW)
    if HOW & {"orphan", "children"}:
        subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
        time.sleep(0.3)
    if "busy" in HOW:
        until = time.process_time() + 2
        while time.process_time() < until:
            pass
    if "killed" in HOW:
        os.kill(os.getpid(), signal.SIGKILL)
    cache = re.fullmatch(r"(\d+)M", options.get("-c", "1024M"))
    heap = HOW & {"heap", "heap-exit"} or ("heap-cache" in HOW and cache and int(cache[1]) > 300)
    if heap or HOW & {"hang", "stubborn", "children", "disk-full"}:
        allocate(graph, made)
    if "disk-full" in HOW:
        raise SnapError((graphs.OPERATOR, "No space left on device"), ("java.io.IOException", "No space left on device"), runtime=True)
    if heap:
        run_out(at_once="heap-exit" in HOW)
    if HOW & {"hang", "stubborn", "children"}:
        if "stubborn" in HOW:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("".join(progress[:2]))
        time.sleep(600)


def allocate(graph: Graph, made: dict[str, products.Bands]) -> None:
    for node in graph.nodes.values():
        if node.operator == "Write":
            products.allocate(products.target(node), made[node.id])


def run_out(*, at_once: bool) -> None:
    if at_once:
        say("Terminating due to java.lang.OutOfMemoryError: Java heap space\n")
        sys.stdout.flush()
        os._exit(3)
    say("[30.960s][warning][gc,alloc] SunTileScheduler0Standard1: Retried waiting for GCLocker too often allocating 1670530 words\n")
    for number in (0, 1):
        sys.stderr.write(f'Exception in thread "SunTileScheduler0Standard{number}" java.lang.OutOfMemoryError: Java heap space\n')
    sys.stderr.flush()
    time.sleep(600)


def flood(*, endless: bool) -> None:
    line = "INFO: eu.esa.sar.commons.io.ImageIOFile: Using FileCacheImageInputStream\n" * 1000
    left = float(os.environ.get("FAKE_GPT_FLOOD_MB", "200")) * 1e6
    while left > 0 or endless:
        sys.stderr.write(line)
        left -= len(line)


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
