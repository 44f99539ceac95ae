"""The check of SNAP's graphs against real SNAP: its help texts, graphs that it ran, graphs that it rejected (transcripts of 13 and 14).

The graphs here are small ones of the kind that the transcripts show; `fake_snap.graph`, which knows SNAP's checks by itself, judges
them too.
"""

from __future__ import annotations

import json
import runpy
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from click.testing import CliRunner
from fake_snap import graph as fake
from fake_snap import install_fake
from hypothesis import given
from hypothesis import strategies as st

from sarseg.ard.snap.check import check_graph
from sarseg.ard.snap.graphxml import fill, parse_graph, placeholders, read_graph, read_text
from sarseg.ard.snap.operators import VERSIONS, Operator, Parameter, operators, parse_help, versions_of
from sarseg.ard.snap.problems import Problem
from sarseg.cli.snap import command
from sarseg.errors import InputError, MissingError, UsageError

ALL = tuple(VERSIONS)
TOOL = Path(__file__).resolve().parents[1] / "tools" / "snap_operators.py"
DATA = Path(__file__).resolve().parents[1] / "sarseg" / "ard" / "snap" / "operators.json"


def node(name: str, operator: str, source: str = "", parameters: str = "", *, element: str = "sourceProduct") -> str:
    sources = f"<sources><{element} refid={quoteattr(source)}/></sources>" if source else "<sources/>"
    return f"<node id={quoteattr(name)}><operator>{operator}</operator>{sources}<parameters>{parameters}</parameters></node>"


def chain(*nodes: str, version: str = "<version>1.0</version>") -> str:
    return f'<graph id="Graph">{version}{"".join(nodes)}</graph>'


READ = node("Read", "Read", "", "<file>in.dim</file>")
WRITE = node("Write", "Write", "Op", "<file>x.dim</file><formatName>BEAM-DIMAP</formatName>")
SRTM = "<demName>SRTM 3Sec</demName>"
SPECKLE = "<filter>Lee</filter><filterSizeX>5</filterSizeX><filterSizeY>5</filterSizeY>"


TO_DB = node("Op", "LinearToFromdB", "Read")


def one(operator: str, parameters: str = "", *, element: str = "sourceProduct") -> str:
    """Read, an operator, Write."""
    return chain(READ, node("Op", operator, "Read", parameters, element=element), WRITE)


def found(text: str, version: int = 13, **more: object) -> list[tuple[str | None, str | None, bool]]:
    return [(problem.node, problem.parameter, problem.fatal) for problem in check_graph(text, version, **more)]


# What SNAP says of its operators


def plain(operator: Operator) -> dict[str, object]:
    def facts(parameter: Parameter) -> tuple[object, ...]:
        return parameter.type, parameter.values, parameter.interval, parameter.default, parameter.mandatory, parameter.items

    return {
        "parameters": {name: facts(parameter) for name, parameter in operator.parameters.items()},
        "sources": [(source.name, source.many, source.optional) for source in operator.sources],
    }


@pytest.mark.parametrize("version", [13, 14])
def test_the_data_agree_with_the_help_of_real_snap(shared, version):
    folder = shared / f"data/snap_reference/gpt_help/{version}.0"
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.txt")}
    listed = texts.pop("gpt")
    assert len(texts) == 43
    for name, text in texts.items():
        said, known = plain(parse_help(text)), plain(operators(version)[name])
        if name == "Collocate":  # deprecated: taken, and not printed
            assert known["parameters"].pop("targetProductName")[0] == "string"
        assert known == said, name
        assert set(said["parameters"]) >= {line.strip()[2:].partition("=")[0] for line in text.splitlines() if line.startswith("  -P")}
    for line in listed.partition("\nOperators:\n")[2].splitlines():
        if line.startswith("  ") and line[2:3].strip():
            assert line.split()[0] in operators(version), line


def test_help_texts_are_read_to_the_letter(shared):
    """Some facts of the texts of SNAP 14, by eye."""
    folder = shared / "data/snap_reference/gpt_help/14.0"
    speckle = parse_help((folder / "Speckle-Filter.txt").read_text()).parameters
    assert speckle["filter"].values[-2:] == ("IDAN", "MuLoG")
    assert (speckle["anSize"].interval, speckle["enl"].interval) == ("(1,200]", "(0,*)")
    assert speckle["sourceBands"].kind == "list"
    orbit = parse_help((folder / "Apply-Orbit-File.txt").read_text()).parameters["orbitType"]
    assert orbit.values[0] == orbit.default == "Sentinel Precise (Auto Download)"
    assert len(orbit.values) == len(set(orbit.values)) == 8
    assert parse_help((folder / "Read.txt").read_text()).parameters["file"].mandatory
    maths = parse_help((folder / "BandMaths.txt").read_text())
    assert maths.parameters["targetBands"].items[:4] == ("targetBand", "name", "type", "expression")
    assert maths.sources[0].many
    assert parse_help((folder / "Collocate.txt").read_text()).parameters["referenceComponentPattern"].default == "${ORIGINAL_NAME}_M"


def test_the_script_makes_the_data_file(shared, tmp_path, monkeypatch):
    tool = runpy.run_path(str(TOOL))
    tool["main"].__globals__["__file__"] = str(tmp_path / "tools" / "snap_operators.py")
    (tmp_path / "sarseg/ard/snap").mkdir(parents=True)
    tool["main"](shared / "data/snap_reference/gpt_help")
    assert (tmp_path / "sarseg/ard/snap/operators.json").read_text() == DATA.read_text()


def test_no_sentence_of_snap_is_in_the_data():
    """Keys of ours, names, types; values and defaults are as long as SNAP's longest one."""

    def strings(value: object) -> list[str]:
        if isinstance(value, dict):
            return [*map(str, value), *(text for inner in value.values() for text in strings(inner))]
        if isinstance(value, list):
            return [text for inner in value for text in strings(inner)]
        return [value] if isinstance(value, str) else []

    for text in strings(json.loads(DATA.read_text())):
        assert len(text) <= 50, text
        assert not text.rstrip().endswith("."), text


@pytest.mark.parametrize(
    ("operator", "parameter", "since"),
    [
        ("Read", "vectorFile", 12), ("Read", "polygonRegion", 12), ("Subset", "vectorFile", 12), ("Subset", "polygonRegion", 12),
        ("TOPSAR-Split", "enableSingleSwathMode", 13), ("ThermalNoiseRemoval", "clipNegativeValues", 14),
        ("Terrain-Correction", "applyAPDCorrection", 14), ("Terrain-Flattening", "applyAPDCorrection", 14),
        ("CreateStack", "autoCoregisterGSLC", 14), ("CreateStack", "skipBiasEstimation", 14), ("Terrain-Flattening", "outputSigma0", 10),
    ],
)  # fmt: skip
def test_what_came_with_which_version(operator, parameter, since):
    assert versions_of(operator, parameter) == tuple(range(since, 15))


@pytest.mark.parametrize(
    ("operator", "parameter", "until_12", "since_13"),
    [
        ("Terrain-Correction", "demName", "SRTM 3Sec", "Copernicus 30m Global DEM"),
        ("Terrain-Flattening", "demName", "SRTM 1Sec HGT", "Copernicus 30m Global DEM"),
        ("ALOS-Deskewing", "demName", "SRTM 3Sec", "Copernicus 30m Global DEM"),
        ("Subset", "copyMetadata", "false", "true"),
        ("Terrain-Correction", "externalDEMApplyEGM", "true", "true"),
        ("Terrain-Flattening", "externalDEMApplyEGM", "false", "false"),
    ],
)
def test_defaults_of_the_versions(operator, parameter, until_12, since_13):
    defaults = [operators(version)[operator].parameters[parameter].default for version in ALL]
    assert defaults == [until_12] * 3 + [since_13] * 2


def test_an_unknown_version_and_an_unknown_text():
    with pytest.raises(UsageError, match="SNAP 9"):
        operators(9)
    with pytest.raises(InputError, match="not the help"):
        parse_help("Unknown operator 'NoSuchOp'.")


# What SNAP rejects: the cases of the transcripts that a graph alone can show

REJECTED = {
    "value_wrong_case": (one("Speckle-Filter", "<filter>lee</filter>"), "Op", "filter"),
    "value_not_in_set": (one("Speckle-Filter", "<filter>Lee Sygma</filter>"), "Op", "filter"),
    "value_outside_interval": (one("Speckle-Filter", "<filterSizeX>1</filterSizeX>"), "Op", "filterSizeX"),
    "value_above_interval": (one("Speckle-Filter", "<filterSizeX>101</filterSizeX>"), "Op", "filterSizeX"),
    "value_not_a_number": (one("Speckle-Filter", "<filterSizeX>five</filterSizeX>"), "Op", "filterSizeX"),
    "integer_with_a_point": (one("Speckle-Filter", "<filterSizeX>5.0</filterSizeX>"), "Op", "filterSizeX"),
    "empty_value": (one("Speckle-Filter", "<filter/>"), "Op", "filter"),
    "unknown_parameter_graph": (one("LinearToFromdB", "<noSuchParameter>1</noSuchParameter>"), "Op", "noSuchParameter"),
    "parameter_wrong_case": (one("Speckle-Filter", "<Filter>Lee</Filter>"), "Op", "Filter"),
    "unknown_operator": (one("LinearToDb"), "Op", None),
    "unused_node_unknown_operator": (chain(READ, TO_DB, WRITE, node("Lost", "NoSuchOperator")), "Lost", None),
    "unknown_source_refid": (chain(READ, node("Op", "LinearToFromdB", "Reed"), WRITE), "Op", "sourceProduct"),
    "missing_source": (chain(READ, node("Op", "LinearToFromdB"), WRITE), "Op", "sourceProduct"),
    "cycle": (chain(node("Op", "LinearToFromdB", "Two"), node("Two", "LinearToFromdB", "Op"), WRITE), "Op", None),
    "its_own_source": (chain(node("Op", "LinearToFromdB", "Op"), WRITE), "Op", None),
    "unknown_root_element": (chain(READ, "<foo/>", WRITE), None, None),
    "no_version": (chain(READ, TO_DB, WRITE, version=""), None, None),
    "wrong_version": (chain(READ, TO_DB, WRITE, version="<version>2.0</version>"), None, None),
    "malformed_xml": (one("LinearToFromdB").removesuffix("</graph>"), None, None),
}  # fmt: skip
BY_NODE_ONLY = {
    # rejected by SNAP as well, in ways that the stand-in does not know
    "other_source_element_name": (one("LinearToFromdB", element="sourceProducts"), "Op", "sourceProduct"),
    "duplicate_node_id": (chain(READ, TO_DB, node("Op", "Speckle-Filter", "Read", SPECKLE), WRITE), "Op", None),
    "unknown_format": (chain(READ, TO_DB, WRITE.replace("BEAM-DIMAP", "NOFORMAT")), "Write", "formatName"),
    "dem_name_unknown": (one("Terrain-Correction", "<demName>No Such DEM</demName>"), "Op", "demName"),
    "flattening_without_beta0": (
        chain(READ, node("Cal", "Calibration", "Read"), node("Op", "Terrain-Flattening", "Cal", "<demName>SRTM 3Sec</demName>"), WRITE),
        "Op", "sourceBands",
    ),
    "noise_after_deburst": (
        chain(READ, node("Deb", "TOPSAR-Deburst", "Read"), node("Op", "ThermalNoiseRemoval", "Deb"), WRITE), "Op", None
    ),
    "no_file_to_read": (chain(node("Read", "Read"), TO_DB, WRITE), "Read", "file"),
    "an_empty_file_to_read": (chain(node("Read", "Read", "", "<file/>"), TO_DB, WRITE), "Read", "file"),
    "a_node_without_operator": (chain(READ, "<node id='Op'><sources><source refid='Read'/></sources></node>", WRITE), "Op", None),
    "external_dem_without_file": (one("Terrain-Correction", "<demName>External DEM</demName><externalDEMFile/>"), "Op", "externalDEMFile"),
    "delaunay_for_a_file": (
        one("Terrain-Correction", "<demName>External DEM</demName><externalDEMFile>d.tif</externalDEMFile><externalDEMNoDataValue>-1"
            "</externalDEMNoDataValue><externalDEMApplyEGM>false</externalDEMApplyEGM><demResamplingMethod>DELAUNAY_INTERPOLATION"
            "</demResamplingMethod>"),
        "Op", "demResamplingMethod",
    ),
    "deskewing_with_a_file": (one("ALOS-Deskewing", "<demName>External DEM</demName>"), "Op", "demName"),
    "a_region_of_three_numbers": (one("Subset", "<region>1,2,3</region><copyMetadata>true</copyMetadata>"), "Op", "region"),
    "an_int_that_is_empty": (one("Speckle-Filter", "<filterSizeX/>"), "Op", "filterSizeX"),
    "no_band_to_compute": (one("BandMaths"), "Op", "targetBands"),
    "a_band_without_type": (
        one("BandMaths", "<targetBands><targetBand><name>a</name><expression>1</expression></targetBand></targetBands>"),
        "Op", "targetBands",
    ),
    "an_element_twice_in_a_node": (chain(READ, TO_DB.replace("<sources>", "<sources/><sources>"), WRITE), "Op", None),
    "an_unknown_element_in_a_node": (chain(READ, TO_DB.replace("<sources>", "<x/><sources>"), WRITE), "Op", None),
    "another_root": (one("LinearToFromdB").replace("graph", "grapf"), None, None),
}  # fmt: skip


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("case", [*REJECTED, *BY_NODE_ONLY])
def test_what_snap_rejects_is_rejected_with_node_and_parameter(case, version):
    text, node_id, parameter = {**REJECTED, **BY_NODE_ONLY}[case]
    assert [problem for problem in found(text, version) if problem[2]] == [(node_id, parameter, True)]


@pytest.mark.parametrize("case", REJECTED)
def test_the_stand_in_for_snap_rejects_the_same(case):
    with pytest.raises(fake.SnapError):
        judge(REJECTED[case][0], 13)


def judge(text: str, version: int) -> None:
    graph = fake.parse(text, (version, 0, 0))
    for one_node in fake.check_links(graph):
        fake.check_parameters(one_node, graph.version)


def test_all_transcribed_failures_are_covered(shared):
    """Every case of the transcripts is here, or is none of a graph alone."""
    transcripts = (shared / "data/snap_reference/gpt_transcripts.md").read_text(encoding="utf-8")
    cases = {line[3:].strip() for line in transcripts.splitlines() if line.startswith("## ")}
    of_the_command_line = {"success", "unknown_parameter_cli", "unknown_operator_cli", "missing_graph", "no_arguments"}
    of_the_world = {
        "region_outside", "missing_input", "unreadable_input", "output_not_writable", "external_dem_missing", "dem_download_fails",
        "orbit_missing", "out_of_memory",
    }  # fmt: skip
    elsewhere = {"missing_variable", "extra_variable", "boolean_yes", "parameter_twice", "missing_polarisation", "missing_band"}
    fine = {"value_with_spaces", "application_data", "no_parameters_element", "no_write_node"}
    assert cases <= {*REJECTED, *BY_NODE_ONLY} | of_the_command_line | of_the_world | elsewhere | fine


@pytest.mark.parametrize(
    ("operator", "parameters", "parameter", "since", "word"),
    [
        ("Terrain-Correction", SRTM + "<applyAPDCorrection>true</applyAPDCorrection>", "applyAPDCorrection", 14, "since SNAP 14"),
        ("ThermalNoiseRemoval", "<clipNegativeValues>false</clipNegativeValues>", "clipNegativeValues", 14, "since SNAP 14"),
        ("Speckle-Filter", "<filter>MuLoG</filter>", "filter", 14, "came with SNAP 14"),
        ("TOPSAR-Split", "<enableSingleSwathMode>true</enableSingleSwathMode>", "enableSingleSwathMode", 13, "since SNAP 13"),
        ("Subset", "<copyMetadata>true</copyMetadata><vectorFile>a.shp</vectorFile>", "vectorFile", 12, "since SNAP 12"),
        ("GSLC-Terrain-Correction", "", None, 14, "came with SNAP 14"),
    ],
)  # fmt: skip
def test_what_another_version_has_is_rejected_and_said(operator, parameters, parameter, since, word):
    text = one(operator, parameters)
    for version in ALL:
        problems = check_graph(text, version)
        if version >= since:
            assert problems == []
        else:
            assert [(problem.node, problem.parameter, problem.fatal) for problem in problems] == [("Op", parameter, True)]
            assert word in problems[0].message


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("4", True), ("4.4", True), ("+.5e1", True), ("4.4f", True), ("1e400", True), ("Infinity", True), ("0x1p3", True), (" 4 ", True),
        ("4,4", False), ("1e", False), ("inf", False), ("nan", False), ("0x", False), ("4 4", False), ("1_000", False), ("-1", False),
        ("0", False), ("9" * 5000, True),
    ],
)  # fmt: skip
def test_numbers_are_read_as_java_does(text, taken):
    """enl: a double above 0."""
    assert found(one("Speckle-Filter", f"<enl>{text}</enl>")) == ([] if taken else [("Op", "enl", True)])


@pytest.mark.parametrize(
    ("text", "taken"), [("5", True), ("+5", True), ("2147483648", False), ("9" * 5000, False), ("5f", False), ("", False)]
)
def test_integers_are_read_as_java_does(text, taken):
    assert found(one("Apply-Orbit-File", f"<polyDegree>{text}</polyDegree>")) == ([] if taken else [("Op", "polyDegree", True)])


def test_a_near_name_is_offered():
    assert "did you mean 'filter'" in check_graph(one("Speckle-Filter", "<Filter>Lee</Filter>"), 13)[0].message
    assert "did you mean 'Lee'" in check_graph(one("Speckle-Filter", "<filter>lee</filter>"), 13)[0].message
    assert "did you mean 'LinearToFromdB'" in check_graph(one("LinearTofromDb"), 13)[0].message
    assert "did you mean 'Read'" in check_graph(chain(READ, node("Op", "LinearToFromdB", "Reed"), WRITE), 13)[0].message


def test_every_problem_of_a_graph_is_reported():
    text = chain(
        READ, node("Op", "Speckle-Filter", "Reed", "<filter>lee</filter><enl>x</enl><size>3</size>"), WRITE.replace("x.dim", ""), version=""
    )
    assert found(text) == [
        (None, None, True),
        ("Op", "sourceProduct", True), ("Op", "filter", True), ("Op", "enl", True), ("Op", "size", True),
        ("Write", "file", True),
    ]  # fmt: skip


# What SNAP takes without a word


def silent(text: str, version: int = 13, **more: object) -> list[tuple[str | None, str | None]]:
    problems = check_graph(text, version, **more)
    assert not any(problem.fatal for problem in problems)
    return [(problem.node, problem.parameter) for problem in problems]


@pytest.mark.parametrize(
    ("word", "taken"),
    [
        ("yes", "false"),
        ("on", "false"),
        ("1", "true"),
        ("0.0", "false"),
        ("2.5", "true"),
        ("T", "false"),
        ("0x0p0", "false"),
        ("1d", "true"),
    ],
)
def test_booleans(word, taken):
    """BooleanConverter: true and false in any case, a number that is not 0 is true, anything else false."""
    problems = check_graph(one("Speckle-Filter", f"<estimateENL>{word}</estimateENL>"), 13)
    assert [(problem.node, problem.parameter, problem.fatal) for problem in problems] == [("Op", "estimateENL", False)]
    assert problems[0].message.endswith(f"as {taken}")


def test_placeholders_without_a_value_and_values_without_a_placeholder():
    text = one("Speckle-Filter", "<filter>${filter}</filter><enl>$enl</enl>").replace("in.dim", "${input}").replace("x.dim", "${output}")
    assert silent(text) == [("Read", "file"), ("Op", "filter"), ("Op", "enl"), ("Write", "file")]
    values = {"filter": "Lee", "enl": "4.4", "input": "a.dim", "output": "b.dim"}
    assert silent(text, values=values) == []
    assert silent(text, values={**values, "notused": "5"}) == [(None, "notused")]
    assert found(text, values={**values, "filter": "lee"}) == [("Op", "filter", True)]


def test_placeholders_that_touch():
    """SNAP's template reader passes the character after a value on as it is, a $ too."""
    text = one("LinearToFromdB").replace("in.dim", "${folder}${name}")
    assert silent(text, values={"folder": "/d/", "name": "x.dim"}) == [(None, None)]
    assert silent(one("LinearToFromdB").replace("in.dim", "${folder}/${name}"), values={"folder": "/d", "name": "x.dim"}) == []


def test_a_source_for_the_command_line():
    text = chain(node("Op", "LinearToFromdB").replace("<sources/>", "<sources><source>${product}</source></sources>"), WRITE)
    problems = check_graph(text, 13)
    assert [(problem.node, problem.fatal) for problem in problems] == [("Op", False)]
    assert "-Sproduct=FILE" in problems[0].message


def test_names_in_expressions_and_of_collocate_are_no_placeholders():
    band = "<targetBand><name>a</name><type>float32</type><expression>$sourceProduct.1.B4 / $sourceProduct.B4</expression></targetBand>"
    assert silent(one("BandMaths", f"<targetBands>{band}</targetBands>")) == []
    assert silent(one("BandMaths", f"<targetBands>{band.replace('$sourceProduct.B4', '${b}')}</targetBands>")) == [("Op", "targetBands")]
    patterns = "<secondaryComponentPattern>${ORIGINAL_NAME}_S${SLAVE_NUMBER_ID}</secondaryComponentPattern>"
    assert silent(one("Collocate", patterns)) == []


def test_a_parameter_twice_counts_last():
    text = one("Speckle-Filter", "<filter>Lee</filter><filter>Boxcar</filter>")
    assert silent(text) == [("Op", "filter")]
    assert parse_graph(text).nodes[1].value("filter") == "Boxcar"


def test_polarisations_that_the_product_lacks():
    text = one("Calibration", "<selectedPolarisations>HH</selectedPolarisations>")
    assert silent(text) == []
    problems = check_graph(text, 13, polarisations=["VV", "VH"])
    assert [(problem.node, problem.parameter, problem.fatal) for problem in problems] == [("Op", "selectedPolarisations", False)]
    assert "no file at all" in problems[0].message
    mixed = check_graph(text.replace(">HH<", ">VV, HH<"), 13, polarisations=["VV"])
    assert len(mixed) == 1
    assert "no file at all" not in mixed[0].message
    assert found(one("Speckle-Filter", "<sourceBands>Sigma0_HH</sourceBands>"), polarisations=["VV"]) == [("Op", "sourceBands", True)]
    assert found(one("Speckle-Filter", "<sourceBands>Sigma0_VV,elevation</sourceBands>"), polarisations=["VV"]) == []
    assert silent(text.replace(">HH<", ">vv<")) == [("Op", "selectedPolarisations")]


@pytest.mark.parametrize(
    ("operator", "parameter"), [("Terrain-Correction", "demName"), ("ALOS-Deskewing", "demName"), ("Subset", "copyMetadata")]
)
def test_a_default_that_changed_must_be_stated(operator, parameter):
    for version in ALL:
        assert silent(one(operator), version) == [("Op", parameter)]
        empty = found(one(operator, f"<{parameter}/>"), version)
        assert empty == [("Op", parameter, parameter == "demName")]  # SNAP needs the name, and takes no flag for false


EXTERNAL = "<demName>External DEM</demName><externalDEMFile>dem.tif</externalDEMFile>"
STATED = "<externalDEMNoDataValue>-32768.0</externalDEMNoDataValue><externalDEMApplyEGM>false</externalDEMApplyEGM>"


def test_heights_from_a_file():
    assert silent(one("Terrain-Correction", EXTERNAL + STATED)) == []
    assert silent(one("Terrain-Correction", EXTERNAL)) == [("Op", "externalDEMNoDataValue"), ("Op", "externalDEMApplyEGM")]
    for operator, adds in (("Terrain-Correction", "adds EGM96"), ("Terrain-Flattening", "adds no geoid")):
        text = one(operator, EXTERNAL + STATED.replace("<externalDEMApplyEGM>false</externalDEMApplyEGM>", ""))
        problems = check_graph(text, 14)
        assert [problem.parameter for problem in problems] == ["externalDEMApplyEGM"]
        assert adds in problems[0].message
    assert silent(one("Terrain-Correction", (EXTERNAL + STATED).replace("External DEM", "SRTM 3Sec"))) == [("Op", "demName")]
    assert silent(one("Terrain-Correction", "<demName>SRTM 3Sec (Auto Download)</demName>")) == []


BETA0 = node("Cal", "Calibration", "Cut", "<outputBetaBand>true</outputBetaBand>")
FLATTEN = node("Op", "Terrain-Flattening", "Cal", "<demName>SRTM 3Sec</demName>")


@pytest.mark.parametrize(
    ("where", "trap"),
    [
        ("<region>100,0,50,50</region>", True), ("<geoRegion>POLYGON ((1 2, 3 2, 3 4, 1 2))</geoRegion>", True),
        ("<region>0,100,500,50</region>", False), ("<region></region>", False),
    ],
)  # fmt: skip
def test_a_cut_in_range_before_flattening(where, trap):
    cut = node("Cut", "Subset", "Read", f"{where}<copyMetadata>true</copyMetadata>")
    assert silent(chain(READ, cut, BETA0, FLATTEN, WRITE)) == ([("Cut", None)] if trap else [])
    after = [
        READ,
        BETA0.replace("Cut", "Read"),
        FLATTEN.replace('"Op"', '"Flat"'),
        cut.replace('"Read"', '"Flat"').replace('"Cut"', '"Op"'),
    ]
    assert silent(chain(*after, WRITE)) == []


def test_beta0_for_flattening():
    cal = node("Cal", "Calibration", "Read", "<outputBetaBand>{}</outputBetaBand>")
    for flag, wrong in (("true", False), ("True", False), ("${flag}", False), ("false", True), ("no", True)):
        problems = [problem for problem in found(chain(READ, cal.replace("{}", flag), FLATTEN, WRITE)) if problem[2]]
        assert problems == ([("Op", "sourceBands", True)] if wrong else [])
    band = "<targetBand><name>Beta0_HH</name><type>float32</type><expression>Sigma0_HH</expression></targetBand>"
    maths = node("Maths", "BandMaths", "Cal", f"<targetBands>{band}</targetBands>")
    assert found(chain(READ, cal.replace("{}", "false"), maths, FLATTEN.replace('"Cal"', '"Maths"'), WRITE)) == []
    assert found(chain(READ, FLATTEN.replace('"Cal"', '"Read"'), WRITE)) == []  # of a product that may hold beta0


TO_MAP = node("Map", "Terrain-Correction", "Read", SRTM)
TO_LOOKS = node("Op", "Multilook", "Read", "<nRgLooks>2</nRgLooks><nAzLooks>{}</nAzLooks><grSquarePixel>false</grSquarePixel>")


@pytest.mark.parametrize("operator", ["Multilook", "Terrain-Flattening", "Terrain-Correction"])
def test_radar_operators_after_the_map(operator):
    """SNAP: "Source product should not be map projected."."""
    last = node("Op", operator, "Map", "" if operator == "Multilook" else SRTM)
    for to_map in (TO_MAP, node("Map", "Reproject", "Read", "<crs>EPSG:32633</crs>"), node("Map", "Ellipsoid-Correction-GG", "Read")):
        assert [problem for problem in found(chain(READ, to_map, last, WRITE)) if problem[2]] == [("Op", None, True)]
        between = node("Filter", "Speckle-Filter", "Map", SPECKLE)
        assert ("Op", None, True) in found(chain(READ, to_map, between, last.replace('"Map"', '"Filter"'), WRITE))
    assert not any(fatal for _, _, fatal in found(chain(READ, TO_MAP, node("Op", "Speckle-Filter", "Map", SPECKLE), WRITE)))


@pytest.mark.parametrize("operator", ["Multilook", "Terrain-Correction"])
def test_bursts_are_joined_first(operator):
    """SNAP: "Source product should first be deburst."."""
    split = node("Split", "TOPSAR-Split", "Read", "<subswath>IW1</subswath>")
    last = node("Op", operator, "Split", "" if operator == "Multilook" else SRTM)
    assert found(chain(READ, split, last, WRITE)) == [("Op", None, True)]
    joined = node("Joined", "TOPSAR-Deburst", "Split")
    assert found(chain(READ, split, joined, last.replace('"Split"', '"Joined"'), WRITE)) == []


@pytest.mark.parametrize(
    ("looks", "words"), [("2", "0.5 of these"), ("5", "2 of these"), ("1", ""), ("${looks}", ""), ("", ""), ("9" * 5000, "")]
)
def test_times_of_averaged_lines(looks, words):
    """First line's time + (n - 1) / 2, last line's as it was."""
    text = chain(READ, TO_LOOKS.replace("{}", looks), TO_MAP.replace("Read", "Op"), WRITE.replace('"Op"', '"Map"'))
    problems = [problem for problem in check_graph(text, 13) if "keeps the last one" in problem.message]
    assert [(problem.node, problem.parameter, problem.fatal) for problem in problems] == [("Op", "nAzLooks", False)] * bool(words)
    assert all(words in problem.message for problem in problems)
    if words:
        assert found(text.replace('"Graph"', '"alos"')) == []  # sarseg's own: the engine says it, in metres
    assert not any(
        "keeps the last one" in problem.message for problem in check_graph(chain(READ, TO_LOOKS.replace("{}", looks), WRITE), 13)
    )


@pytest.mark.parametrize(("flag", "wrong"), [("true", False), ("TRUE", False), ("${c}", False), ("false", True), (None, True)])
def test_alos_stays_complex_until_it_is_flattened(flag, wrong):
    given = "" if flag is None else f"<outputImageInComplex>{flag}</outputImageInComplex>"
    deskew, calibration = node("Deskew", "ALOS-Deskewing", "Read", SRTM), node("Cal", "Calibration", "Deskew", given)
    band = "<targetBand><name>Beta0_HH</name><type>float32</type><expression>1</expression></targetBand>"
    maths = node("Maths", "BandMaths", "Cal", f"<targetBands>{band}</targetBands>")
    merged = node("Merged", "BandMerge", "Cal").replace("</sources>", '<sourceProduct.1 refid="Maths"/></sources>')
    flatten = FLATTEN.replace('"Cal"', '"Merged"')
    other = calibration.replace('"Deskew"', '"Read"')
    for text, told in (
        (chain(READ, deskew, calibration, maths, merged, flatten, WRITE), wrong),
        (chain(READ, other, maths, merged, flatten, WRITE), False),
    ):
        problems = [problem for problem in check_graph(text, 13) if "too dark" in problem.message]
        assert [(problem.node, problem.fatal) for problem in problems] == [("Op", False)] * told


@pytest.mark.parametrize(
    ("metres", "degrees", "wrong"),
    [
        ("10.0", "8.983152841195215E-5", False), ("20.0", "8.983152841195215E-5", True), ("0.0", "1.0E-4", False), ("10.0", "", False),
        ("10.0", "8.9998E-5", False), ("${m}", "1.0E-4", False), ("10.0", "0.0", False),
    ],
)  # fmt: skip
def test_the_two_spacings_agree(metres, degrees, wrong):
    """The first pair is SNAP's own."""
    given = f"<pixelSpacingInMeter>{metres}</pixelSpacingInMeter><pixelSpacingInDegree>{degrees}</pixelSpacingInDegree>"
    problems = [problem for problem in check_graph(one("Terrain-Correction", SRTM + given), 13) if "differ" in problem.message]
    assert [(problem.parameter, problem.fatal) for problem in problems] == [("pixelSpacingInDegree", False)] * wrong


def test_noise_after_slices_are_joined():
    text = chain(READ, node("Join", "SliceAssembly", "Read"), node("Op", "ThermalNoiseRemoval", "Join"), WRITE)
    assert silent(text) == [("Op", None)]
    assert silent(chain(READ, node("Noise", "ThermalNoiseRemoval", "Read"), node("Op", "SliceAssembly", "Noise"), WRITE)) == []


def test_other_traps():
    assert silent(one("Multilook", "<nAzLooks>3</nAzLooks>")) == [("Op", "nAzLooks")]
    assert silent(one("Multilook", "<nAzLooks>3</nAzLooks><grSquarePixel>false</grSquarePixel>")) == []
    border = chain(READ, node("Cal", "Calibration", "Read"), node("Op", "Remove-GRD-Border-Noise", "Cal"), WRITE)
    assert silent(border) == [("Op", None)]
    tif = one("LinearToFromdB").replace("BEAM-DIMAP", "GeoTIFF")
    assert silent(tif) == [("Write", "file")]
    assert "x.dim.tif" in check_graph(tif, 13)[0].message
    assert silent(tif.replace("x.dim", "x.tif")) == silent(tif.replace("x.dim", "x")) == []
    two = one("LinearToFromdB").replace("</graph>", WRITE.replace('"Write"', '"Again"') + "</graph>")
    assert silent(two) == [("Again", "file")]
    assert silent(chain(READ, TO_DB)) == [(None, None)]  # no Write
    assert silent(one("LinearToFromdB").replace("</sources>", '<other refid="Read"/></sources>', 1)) == [("Op", "other")]


# What SNAP takes


@pytest.mark.parametrize("version", ALL)
def test_graphs_that_real_snap_ran_pass(shared, version):
    """They ran on 13 and 14; none uses what 10 to 12 lack."""
    values = {"input": "S1B.SAFE/manifest.safe", "output": "x", "dem": "Rome.tif", "format": "GeoTIFF", "region": "21700,7500,400,400"}
    paths = sorted((shared / "data/snap_reference/graphs").glob("*.xml"))
    assert len(paths) == 16
    for path in paths:
        used = {name: value for name, value in values.items() if name in placeholders(read_text(path))}
        assert check_graph(path, version, values=used) == [], path
        assert all("no value for" in problem.message and not problem.fatal for problem in check_graph(path, version)), path


FROM_THE_GRAPH_BUILDER = """<graph id="Graph">
  <version>1.0</version>
  <node id="Read(2)">
    <operator>Read</operator>
    <sources/>
    <parameters class="com.bc.ceres.binding.dom.XppDomElement">
      <useAdvancedOptions>false</useAdvancedOptions>
      <file>D:\\data\\S1A.zip</file>
      <formatName>SENTINEL-1</formatName>
      <copyMetadata>true</copyMetadata>
      <bandNames/>
      <pixelRegion>0,0,26752,16678</pixelRegion>
      <maskNames/>
    </parameters>
  </node>
  <node id="Resample">
    <operator>Resample</operator>
    <sources><sourceProduct refid="Read(2)"/></sources>
    <parameters><referenceBand/><targetWidth/><targetHeight/><targetResolution>20</targetResolution><upsampling>Nearest</upsampling></parameters>
  </node>
  <node id="Subset">
    <operator>Subset</operator>
    <sources><sourceProduct refid="Resample"/></sources>
    <parameters class="com.bc.ceres.binding.dom.XppDomElement">
      <sourceBands>B2,B3
      </sourceBands>
      <region>0, 0, 500, 400</region>
      <referenceBand/>
      <geoRegion/>
      <subSamplingX>1</subSamplingX>
      <fullSwath> false </fullSwath>
      <tiePointGridNames/>
      <copyMetadata>TRUE</copyMetadata>
    </parameters>
  </node>
  <node id="Terrain-Correction">
    <operator>Terrain-Correction</operator>
    <sources><source refid="Subset"/></sources>
    <parameters>
      <sourceBands/>
      <demName>SRTM 3Sec</demName>
      <externalDEMFile/>
      <externalDEMNoDataValue>0.0</externalDEMNoDataValue>
      <pixelSpacingInDegree>8.983152841195215E-5</pixelSpacingInDegree>
      <mapProjection>GEOGCS[&quot;WGS84(DD)&quot;, &#xd;
  DATUM[&quot;WGS84&quot;]]</mapProjection>
      <externalAuxFile/>
    </parameters>
  </node>
  <node id="BandMaths">
    <operator>BandMaths</operator>
    <sources><sourceProduct refid="Subset"/></sources>
    <parameters><targetBands><targetBand><name>a</name><type>float32</type><expression>B2</expression><description/><unit/>
      <noDataValue>NaN</noDataValue></targetBand></targetBands><variables/></parameters>
  </node>
  <node id="BandMerge">
    <operator>BandMerge</operator>
    <sources><sourceProduct refid="Subset"/><sourceProduct.1 refid="BandMaths"/></sources>
    <parameters><sourceBands/><geographicError>1.0E-5</geographicError></parameters>
  </node>
  <node id="Reproject">
    <operator>Reproject</operator>
    <sources><sourceProduct refid="BandMerge"/></sources>
    <parameters><wktFile/><crs>EPSG:4326</crs><pixelSizeX/><noDataValue>NaN</noDataValue></parameters>
  </node>
  <node id="Write"><operator>Write</operator><sources><sourceProduct refid="Reproject"/></sources>
    <parameters><file>x.dim</file><formatName>BEAM-DIMAP</formatName></parameters></node>
  <node id="Write2"><operator>Write</operator><sources><sourceProduct refid="Terrain-Correction"/></sources>
    <parameters><file>y.nc</file><formatName>NetCDF4-CF</formatName></parameters></node>
  <applicationData id="Presentation"><Description/><node id="Read(2)"><displayPosition x="42.0" y="35.0"/></node></applicationData>
</graph>
"""


@pytest.mark.parametrize("version", ALL)
def test_graphs_as_the_graph_builder_writes_them_pass(version):
    """Empty lists and files, names of Java fields, class attributes, blanks, control characters, Windows paths, applicationData."""
    assert check_graph(FROM_THE_GRAPH_BUILDER, version) == []


def test_a_node_without_parameters_and_a_header_pass():
    text = one("LinearToFromdB").replace("<parameters></parameters>", "", 1)
    assert found(text.replace("<version>", "<header/><version>")) == []


def test_operators_of_which_only_the_name_is_known_pass():
    assert found(one("GLCM", "<anything>5</anything>")) == []


def test_an_installed_snap_knows_better(shared):
    """Operators of toolboxes that are not known here are asked for."""
    text = one("S2Resampling", "<resolution>20</resolution><upsmpling>Nearest</upsmpling>")
    assert found(text) == [("Op", None, True)]
    helped = (shared / "data/snap_reference/gpt_help/13.0/Resample.txt").read_text()
    helped = helped.replace("Resample", "S2Resampling").replace("targetResolution", "resolution")
    asked = []

    def ask(name: str) -> str:
        asked.append(name)
        return helped if name == "S2Resampling" else f"Unknown operator '{name}'."

    assert found(text, ask=ask) == [("Op", "upsmpling", True)]
    assert asked == ["Read", "S2Resampling", "Write"]


# Reading


def test_values_are_filled_as_snap_does():
    assert placeholders("<a>${x} $y ${z.1} $y</a><!-- ${no} -->") == ("x", "y", "z.1")
    assert fill("${x} $y $yy ${z} $1 $", {"x": "1", "y": "2"}) == "1 2 $yy ${z} $1 $"
    assert fill("<a>${x}</a>", {"x": "a&b<c>"}) == "<a>a&amp;b&lt;c&gt;</a>"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1))
def test_a_value_arrives_as_it_is(value):
    text = fill('<graph><version>1.0</version><node id="${v}"><parameters><file>${v}</file></parameters></node></graph>', {"v": value})
    assert ET.fromstring(text).findtext("node/parameters/file") == value
    parsed = parse_graph(text).nodes[0]
    assert parsed.parameters.findtext("file") == value
    assert parsed.id == value


def test_a_control_character_is_refused():
    with pytest.raises(UsageError, match="control character"):
        fill("${x}", {"x": "a\x00b"})


ENTITIES = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'<?xml version="1.0"?><!DOCTYPE graph [<!ENTITY a0 "bomb">{ENTITIES}]><graph>&a8;</graph>', "document type"),
        ('<!DOCTYPE graph [<!ENTITY f SYSTEM "file:///etc/passwd">]><graph><version>&f;</version></graph>', "document type"),
        ('<!DOCTYPE graph SYSTEM "http://localhost:1/x.dtd"><graph/>', "document type"),
        ("<graph>" + " " * (1 << 20) + "</graph>", "more than 1 MB"),
        ("<graph>" + "<node/>" * 20_000 + "</graph>", "elements"),
        (b"<graph><version>1.0</version>\xff\xfe</graph>", "UTF-8"),
    ],
    ids=["bomb", "file", "network", "huge", "many", "encoding"],
)  # fmt: skip
def test_hostile_files_are_refused(tmp_path, content, message):
    path = tmp_path / "graph.xml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message):
        check_graph(path, 13)


@pytest.mark.parametrize(
    "text",
    ["${" * 400_000, "<!--" * 250_000, ("${" + "a" * 198) * 5000, "<a>" * 300_000, "$a" * 500_000,
     "<graph>" + "<node id='a'><parameters><x/></parameters></node>" * 3000 + "</graph>"],
    ids=["placeholders", "comments", "long names", "nested", "names", "nodes"],
)  # fmt: skip
def test_hostile_texts_end_soon(text):
    start = time.monotonic()
    assert any(problem.fatal for problem in check_graph(text, 13))
    assert time.monotonic() - start < 10


def test_absent_files(tmp_path):
    with pytest.raises(InputError, match="no such graph"):
        read_graph(tmp_path / "no.xml")
    with pytest.raises(InputError):
        read_graph(tmp_path)


# The command


def call(*args: str | Path) -> tuple[object, str]:
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    return result.exception, result.output


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_check_says_what_and_for_which_versions(tmp_path):
    path = write(tmp_path / "g.xml", one("Speckle-Filter", "<filter>MuLoG</filter><estimateENL>yes</estimateENL>"))
    error, text = call("check", path)
    assert isinstance(error, InputError)
    assert "SNAP 10 to 13 would reject" in str(error)
    first, second = text.splitlines()
    assert first.startswith("error: SNAP 10 to 13: node Op: filter is 'MuLoG'")
    assert second.startswith("warning: SNAP 10 to 14: node Op: estimateENL is 'yes'")
    error, text = call("check", path, "--snap-version", 14)
    assert error is None
    assert len(text.splitlines()) == 1
    _, text = call("check", path, "--json")
    assert json.loads(text)[0]["versions"] == [10, 11, 12, 13]
    assert json.loads(text)[0] | {"versions": []} == {
        "node": "Op", "parameter": "filter", "rejected": True, "versions": [],
        "message": "filter is 'MuLoG', which came with SNAP 14",
    }  # fmt: skip


def test_check_takes_values_and_names(tmp_path):
    path = write(tmp_path / "g.xml", one("LinearToFromdB").replace("in.dim", "${input}"))
    assert call("check", path, "-P", "input=a=b.dim") == (None, "no problems\n")
    assert "no value for ${input}" in call("check", path)[1]
    assert isinstance(call("check", path, "-P", "input")[0], UsageError)
    assert isinstance(call("check", tmp_path / "no.xml")[0], InputError)
    assert isinstance(call("check", path, "--snap-version", 9)[0], UsageError)
    error, text = call("check", "s1_grd")
    assert error is None
    assert all("no value for" in line for line in text.splitlines())


def test_describe():
    error, text = call("describe", "Subset")
    assert error is None
    assert "copyMetadata: boolean; default false; true (since 13)" in text
    assert "vectorFile: file; only SNAP 12 to 14" in text
    _, text = call("describe", "Speckle-Filter", "--json")
    assert next(row for row in json.loads(text)["parameters"] if row["name"] == "anSize")["values"] == "(1,200]"
    error, _ = call("describe", "subset")
    assert isinstance(error, UsageError)
    assert "Subset" in str(error)
    assert isinstance(call("describe", "GLCM")[0], MissingError)


SMALL = chain(
    node("Read", "Read", "", "<file>${input}</file>"),
    node("Op", "Speckle-Filter", "Read", "<filter>${filter}</filter>"),
    node("Write", "Write", "Op", "<file>${output}</file>"),
)


def test_run(shared, tmp_path, monkeypatch):
    monkeypatch.delenv("FAKE_GPT", raising=False)
    graph = write(tmp_path / "mine.xml", SMALL)
    source = shared / "data/snap_reference/products/radar.dim"
    gpt, out = install_fake(tmp_path / "snap"), tmp_path / "out" / "a b"
    given = ("run", "--graph", graph, "--gpt", gpt, "-o", out, "-P", f"input={source}")
    for more, message in (((), "no value for filter"), (("-P", "filter=lee"), "would reject")):
        error, _ = call(*given, *more)
        assert message in str(error)
        assert not out.parent.exists() or not list(out.parent.iterdir())
    error, text = call(*given, "-P", "filter=Lee")
    assert error is None, error
    assert text.splitlines()[-1] == f"{out}.dim"
    assert sorted(path.name for path in out.parent.iterdir()) == ["a b.data", "a b.dim", "a b.gpt.log"]
    error, _ = call("run", "--graph", write(tmp_path / "fixed.xml", one("LinearToFromdB")), "--gpt", gpt, "-o", out)
    assert "${output}" in str(error)
    error, _ = call(*(word if word != out else "/proc/x" for word in given), "-P", "filter=Lee")
    assert isinstance(error, MissingError), error


def test_check_asks_an_installed_snap(tmp_path, monkeypatch):
    monkeypatch.delenv("FAKE_GPT", raising=False)
    gpt = install_fake(tmp_path / "snap", "14.0.0")
    path = write(tmp_path / "g.xml", one("Speckle-Filter", "<filter>MuLoG</filter><noSuch>1</noSuch>"))
    error, text = call("check", path, "--gpt", gpt)
    assert isinstance(error, InputError)
    assert text.startswith("error: SNAP 14: node Op: Speckle-Filter has no parameter 'noSuch'")


def test_a_problem_in_words():
    assert str(Problem(message="it is wrong", node="TC", parameter="demName")) == "node TC: it is wrong"
