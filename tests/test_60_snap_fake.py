"""The fake gpt answers as the real one did: stdout, stderr and exit codes of the recorded runs, to the letter."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_snap import install_fake

GRAPH = '<graph id="Graph">\n  <version>1.0</version>\n{nodes}\n</graph>\n'
IN_DIM = """<Dimap_Document name="in.dim"><Raster_Dimensions><NCOLS>500</NCOLS><NROWS>400</NROWS></Raster_Dimensions>
<Spectral_Band_Info><BAND_NAME>Sigma0_VV</BAND_NAME><PHYSICAL_UNIT>intensity</PHYSICAL_UNIT></Spectral_Band_Info></Dimap_Document>"""


def node(name: str, operator: str, source: str, parameters: str = "", element: str = "sourceProduct") -> str:
    sources = f'<{element} refid="{source}"/>' if source else ""
    return f'  <node id="{name}"><operator>{operator}</operator><sources>{sources}</sources><parameters>{parameters}</parameters></node>'


READ = node("Read", "Read", "", "<file>${input}</file>")


def chain(*between: str, sink: str | None = None, form: str = "BEAM-DIMAP", read: str = READ) -> str:
    last = sink or re.findall(r'node id="(\w+)"', "".join((read, *between)))[-1]
    write = node("Write", "Write", last, f"<file>${{output}}</file><formatName>{form}</formatName>")
    return GRAPH.format(nodes="\n".join((read, *between, write)))


def speckle(parameters: str) -> str:
    return chain(node("Spk", "Speckle-Filter", "Read", parameters))


OK = speckle("<filter>Lee</filter>")
DB = node("LinearToFromdB", "LinearToFromdB", "Read")
CALIBRATED = node("Cal", "Multilook", "Read")
GRAPHS = {
    "ok.xml": OK,
    "boolyes.xml": speckle("<filter>Lee</filter><estimateENL>yes</estimateENL>"),
    "twice.xml": speckle("<filter>Lee</filter><filter>Boxcar</filter>"),
    "space.xml": speckle("<filter> Lee </filter>"),
    "lcase.xml": speckle("<filter>lee</filter>"),
    "valset.xml": speckle("<filter>Lee Sygma</filter>"),
    "interval.xml": speckle("<filterSizeX>1000</filterSizeX>"),
    "notint.xml": speckle("<filterSizeX>five</filterSizeX>"),
    "emptyp.xml": speckle("<filter/>"),
    "unkpar.xml": chain(node("LinearToFromdB", "LinearToFromdB", "Read", "<noSuchParameter>1</noSuchParameter>")),
    "ucase.xml": speckle("<Filter>Lee</Filter>"),
    "unkop.xml": chain(node("LinearToDb", "LinearToDb", "Read")),
    "orphan.xml": chain(DB, node("Orphan", "NoSuchOperator", "Read"), sink="LinearToFromdB"),
    "badref.xml": chain(node("LinearToFromdB", "LinearToFromdB", "Reed")),
    "nosrc.xml": chain(node("LinearToFromdB", "LinearToFromdB", "")),
    "srcname.xml": chain(node("LinearToFromdB", "LinearToFromdB", "Read", element="inputProduct")),
    "dup.xml": chain(node("Read", "LinearToFromdB", "Read"), sink="LinearToFromdB"),
    "cycle.xml": chain(node("A", "LinearToFromdB", "B"), node("B", "LinearToFromdB", "A")),
    "appdata.xml": OK.replace("</graph>", '<applicationData id="Presentation"><x/></applicationData></graph>'),
    "noparams.xml": chain(DB.replace("<parameters></parameters>", "")),
    "rootelem.xml": OK.replace(READ, f"{READ}\n  <foo>1</foo>"),
    "nover.xml": OK.replace("<version>1.0</version>", ""),
    "badver.xml": OK.replace("1.0", "2.0"),
    "malformed.xml": GRAPH.format(nodes=f"{READ}\n{node('Write', 'Write', 'Read')}").replace("</graph>\n", ""),
    "nowrite.xml": GRAPH.format(nodes=f"{READ}\n{DB}"),
    "badfmt.xml": chain(DB, form="NOFORMAT"),
    "noband.xml": speckle("<sourceBands>Sigma0_HH</sourceBands>"),
    "nopol.xml": chain(
        node("Cal", "Calibration", "Read", "<selectedPolarisations>HH</selectedPolarisations>"), node("Subset", "Subset", "Cal")
    ),
    "region.xml": chain(node("Subset", "Subset", "Read", "<region>90000,90000,100,100</region>")),
    "tfsig.xml": chain(node("TF", "Terrain-Flattening", "Read")),
    "demmiss.xml": chain(
        CALIBRATED,
        node("TC", "Terrain-Correction", "Cal", "<demName>External DEM</demName><externalDEMFile>nothere.tif</externalDEMFile>"),
    ),
    "demname.xml": chain(CALIBRATED, node("TC", "Terrain-Correction", "Cal", "<demName>No Such DEM</demName>")),
    "demnet.xml": chain(CALIBRATED, node("TC", "Terrain-Correction", "Cal", "<demName>Copernicus 30m Global DEM</demName>")),
    "orb.xml": chain(node("Orb", "Apply-Orbit-File", "Read")),
}


NEW_IN_14 = {"success", "external_dem_missing", "dem_name_unknown", "dem_download_fails", "orbit_missing"}
"""The runs that version 14 answers otherwise, and one that it does not."""


@dataclass(frozen=True)
class Run:
    words: list[str]
    stdout: str
    stderr: str
    code: int


def recorded(text: str, version: int) -> dict[str, Run]:
    """The runs of the transcripts by the name of their section."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        block = re.search(r"^```\n(\$ gpt.*?)^```$", section, re.MULTILINE | re.DOTALL)
        assert block is not None
        lines = block[1].split("\n")[:-1]
        difference = re.search(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        if version == 14 and difference:
            lines = patched(lines, difference[1].split("\n")[:-1])
        joined = "\n".join(lines)
        parts = re.fullmatch(r"\$ gpt ?(.*?)\n--- stdout\n(.*?)--- stderr\n(.*?)--- exit (\d+)", joined, re.DOTALL)
        assert parts is not None, section[:40]
        found[section.split("\n")[0]] = Run(words=parts[1].split(), stdout=parts[2], stderr=parts[3], code=int(parts[4]))
    return found


def patched(lines: list[str], difference: list[str]) -> list[str]:
    """Apply a unified diff without context."""
    out, at = [], 0
    for line in difference:
        hunk = re.match(r"@@ -(\d+)(?:,(\d+))? ", line)
        if hunk:
            start = int(hunk[1]) - (0 if hunk[2] == "0" else 1)
            out += lines[at:start]
            at = start
        elif line.startswith("-"):
            assert lines[at] == line[1:]
            at += 1
        else:
            out.append(line[1:])
    return out + lines[at:]


def shortened(text: str, folder: Path) -> str:
    """As the transcripts are: paths, traces."""
    text = text.replace(str(folder), "/data")
    return re.sub(r"\t\.\.\. \d+ more", "\t... N more", re.sub(r"(\tat [^\n]*\n)+", "\tat ...\n", text))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, text in GRAPHS.items():
        (folder / name).write_text(text)
    (folder / "in.dim").write_text(IN_DIM)
    (folder / "junk.dim").write_text("junk")
    (folder / "S1B.SAFE").mkdir()
    (folder / "S1B.SAFE" / "manifest.safe").write_text("")
    for version in ("13.0.0", "14.0.0"):
        install_fake(folder / version, version)
    return folder


def answer(place: Path, version: str, words: list[str], help_folder: Path) -> Run:
    environment = {**os.environ, "FAKE_GPT": "ok", "FAKE_GPT_HELP": str(help_folder)}
    done = subprocess.run(
        [place / version / "bin" / "gpt", *words], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    return Run(words=words, stdout=shortened(done.stdout, place), stderr=shortened(done.stderr, place), code=done.returncode)


@pytest.mark.parametrize("version", [13, 14])
def test_every_recorded_run_is_answered_to_the_letter(shared: Path, place: Path, version: int) -> None:
    reference = shared / "data" / "snap_reference"
    runs = recorded((reference / "gpt_transcripts.md").read_text(encoding="utf-8"), version)
    assert len(runs) == 44
    different = {}
    for name, run in runs.items():
        if name == "out_of_memory" or (version == 14 and name not in NEW_IN_14):
            continue
        folder = reference / "gpt_help" / f"{version}.0"
        expected = run
        if name == "no_arguments":
            expected = Run(words=[], stdout=(folder / "gpt.txt").read_text(encoding="utf-8"), stderr="", code=0)
        got = answer(place, f"{version}.0.0", run.words, folder)
        if got != expected:
            different[name] = (got, expected)
    assert different == {}


def test_what_the_recorded_runs_wrote(place: Path) -> None:
    for words, file in ((["-Pinput=in.dim"], "${output}.dim"), (["-Pinput=in.dim", "-Poutput=named"], "named.dim")):
        answer(place, "13.0.0", ["ok.xml", *words], place)
        assert (place / file).is_file()
        assert (place / file).with_suffix(".data").is_dir()
    answer(place, "13.0.0", ["nopol.xml", "-Pinput=S1B.SAFE/manifest.safe", "-Poutput=nopol.dim"], place)
    assert not (place / "nopol.dim").exists()
