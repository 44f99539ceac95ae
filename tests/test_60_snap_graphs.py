"""The graphs that come with sarseg: valid for every SNAP from 10 to 14, without SNAP's traps, chosen and filled for a product.

They are read here with another XML reader than sarseg's, and judged by `fake_snap.graph`, which knows SNAP's checks by itself.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fake_snap import graph as fake
from fake_snap import install_fake

from sarseg.ard.snap.check import check_graph
from sarseg.ard.snap.graphs import GRAPHS, RADIOMETRIES, choose_graph, graph_text, packaged_graph
from sarseg.ard.snap.graphxml import placeholders, read_text
from sarseg.ard.snap.operators import VERSIONS, operators
from sarseg.cli.snap import command
from sarseg.errors import InputError, UsageError

ROOT = Path(__file__).resolve().parents[1]
VALUES = {
    "input": "/data/S1 & co/manifest.safe", "output": "/out/image.dim", "dem": "/out/dem.tif", "crs": "EPSG:32633", "spacing_m": "10.0",
    "spacing_deg": "0.0", "origin": "5.0", "region": "POLYGON ((12 41, 13 41, 13 42, 12 41))",
    "orbit_type": "Sentinel Precise (Auto Download)",
}  # fmt: skip
PRODUCTS = [("S1A", "GRDH", "VV,VH"), ("S1C", "SLC", "VV"), ("ALOS", "L1.1", "HH,HV"), ("ALOS2", "L1.1", "HH"), ("ALOS2", "L1.5R", "HH,HV")]


def make(mission: str, level: str, radiometry: str, version: int = 13, **more: str) -> ET.Element:
    polarisations = next(names for one, form, names in PRODUCTS if (one[:2], form) == (mission[:2], level))
    noise = {"denoised": polarisations} if mission.startswith("S1") else {}
    values = {**VALUES, "mission": mission, "level": level, "radiometry": radiometry, "polarisations": polarisations, **noise, **more}
    return ET.fromstring(graph_text(choose_graph(mission, level, radiometry), values, version))


def nodes(root: ET.Element) -> dict[str, ET.Element]:
    return {node.get("id", ""): node for node in root.iter("node")}


def operator_of(node: ET.Element) -> str:
    return node.findtext("operator") or ""


def chain_to(root: ET.Element, end: str = "Write") -> list[str]:
    """Operators from Read to a node, along the first source of each."""
    by_id, found = nodes(root), []
    name: str | None = end
    while name is not None:
        found.append(operator_of(by_id[name]))
        first = by_id[name].find("sources/*")
        name = first.get("refid") if first is not None else None
    return found[::-1]


def parameters(root: ET.Element, operator: str) -> dict[str, str]:
    node = next(node for node in root.iter("node") if operator_of(node) == operator)
    return {one.tag: one.text or "" for one in node.find("parameters") or ()}


ALL = [(mission, level, radiometry) for (mission, level, _), radiometry in product(PRODUCTS, RADIOMETRIES)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("mission", "level", "radiometry"), ALL)
@pytest.mark.parametrize(
    "more",
    [
        {}, {"region": "", "orbit_type": "", "denoised": ""}, {"ipf": "2.84", "range_looks": "4", "azimuth_looks": "2"},
        {"range_looks": "2", "azimuth_looks": "3", "columns": "4000", "lines": "6000"},
    ],
)  # fmt: skip
def test_every_graph_is_valid_for_every_version(mission, level, radiometry, version, more):
    """No problem, neither one that SNAP says nor one that it is silent about; another reader of graphs agrees.

    That averaged lines end too late is not said of these graphs: the product's warnings tell it with its size.
    """
    root = make(mission, level, radiometry, version, **more)
    text = ET.tostring(root, encoding="unicode")
    assert check_graph(text, version) == []
    graph = fake.parse(text, (max(version, 13), 0, 0))
    for node in fake.check_links(graph):
        fake.check_parameters(node, graph.version)
    used = {refid for node in graph.nodes.values() for _, refid in node.sources}
    assert set(graph.nodes) - used == {"Write"}  # nothing is left hanging


@pytest.mark.parametrize("name", GRAPHS)
def test_the_files_are_graphs_as_they_stand(name):
    """For gpt with -P, one polarisation; every parameter is described at the head; nothing that one version lacks or changed."""
    text = read_text(packaged_graph(name))
    head = text.partition("<!--")[2].partition("-->")[0]
    assert "$" not in head  # SNAP fills comments too
    assert all(re.search(rf"^    [\w, ]*\b{value}\b", head, re.MULTILINE) for value in placeholders(text))
    made = {
        "bands": "Gamma0_VV",
        "polarisation": "VV",
        "floor": "2.0E-5",
        "dem_nodata": "-32768.0",
        "range_looks": "4",
        "azimuth_looks": "1",
        "columns": "4000",
        "lines": "6000",
        "complex": "true",
        "sigma0": "(i_VV * i_VV + q_VV * q_VV)",
    }
    values = {key: value for key, value in {**VALUES, **made}.items() if key in placeholders(text)}
    for version in VERSIONS:
        assert check_graph(packaged_graph(name), version, values=values) == []
        if version >= 13:
            graph = fake.parse(fake.fill(text.replace(head, ""), values | {"input": "a"}), (version, 0, 0))
            for node in fake.check_links(graph):
                fake.check_parameters(node, graph.version)
    for node in ET.fromstring(text).iter("node"):
        for parameter in node.find("parameters") or ():
            facts = [operators(version)[operator_of(node)].parameters[parameter.tag] for version in VERSIONS]  # each has it
            assert all(fact.values is None or (parameter.text or "").startswith("$") or parameter.text in fact.values for fact in facts)


@pytest.mark.parametrize(("mission", "level", "radiometry"), ALL)
def test_heights_grid_and_no_data_are_as_they_must_be(mission, level, radiometry):
    root = make(mission, level, radiometry)
    terrain = parameters(root, "Terrain-Correction")
    for given in [terrain, *([parameters(root, "Terrain-Flattening")] if radiometry == "gamma0-rtc" else [])]:
        assert given["demName"] == "External DEM"
        assert given["externalDEMFile"] == "/out/dem.tif"
        assert given["externalDEMNoDataValue"] == "-32768.0"
        assert given["externalDEMApplyEGM"] == given["nodataValueAtSea"] == "false"
    assert terrain["alignToStandardGrid"] == "true"
    assert float(terrain["standardGridOriginX"]) == float(terrain["standardGridOriginY"]) == float(terrain["pixelSpacingInMeter"]) / 2
    assert terrain["mapProjection"] == "EPSG:32633"
    chain = chain_to(root)
    assert "Subset" not in chain[: chain.index("Terrain-Correction")]
    assert parameters(root, "Subset") == {"geoRegion": VALUES["region"], "copyMetadata": "true"}
    assert parameters(root, "Read")["file"] == VALUES["input"]


def test_the_chains():
    noise = ["Read", "Apply-Orbit-File", "Remove-GRD-Border-Noise", "ThermalNoiseRemoval", "Calibration"]
    end = ["Terrain-Correction", "Subset", "Write"]
    assert chain_to(make("S1A", "GRDH", "sigma0", ipf="002.84")) == [*noise, "BandMerge", *end]
    assert chain_to(make("S1A", "GRDH", "gamma0-rtc", ipf="2.36")) == [*noise, "Terrain-Flattening", "BandMerge", *end]
    slc = [*(step for step in noise if step != "Remove-GRD-Border-Noise"), "TOPSAR-Deburst"]
    looks = {"range_looks": "4", "azimuth_looks": "1"}
    assert chain_to(make("S1A", "SLC", "gamma0", **looks)) == [*slc, "BandMerge", "Multilook", *end]
    assert chain_to(make("S1A", "SLC", "gamma0-rtc", **looks)) == [*slc, "BandMerge", "Multilook", "Terrain-Flattening", "BandMerge", *end]
    alos = ["Read", "ALOS-Deskewing", "Calibration", "BandMerge", "Multilook"]
    assert chain_to(make("ALOS", "L1.1", "gamma0", **looks)) == [*alos, *end]
    assert chain_to(make("ALOS", "L1.1", "sigma0", **looks)) == [step for step in alos if step != "BandMerge"] + end
    assert chain_to(make("ALOS", "L1.1", "gamma0-rtc", **looks)) == [*alos, "Terrain-Flattening", *end]
    assert chain_to(make("ALOS2", "L1.5R", "gamma0-rtc")) == ["Read", "Calibration", "BandMerge", "Terrain-Flattening", *end]


@pytest.mark.parametrize(
    ("ipf", "kept"), [("2.84", True), ("002.36", True), ("2.90", False), ("002.91", False), ("3.40", False), ("", False)]
)
def test_border_noise_only_before_processor_2_90(ipf, kept):
    assert ("Remove-GRD-Border-Noise" in chain_to(make("S1A", "GRDH", "gamma0", ipf=ipf))) == kept


@pytest.mark.parametrize(
    ("more", "gone"),
    [
        ({"orbit_type": ""}, {"Apply-Orbit-File"}), ({"region": ""}, {"Subset"}), ({"range_looks": "1"}, {"Multilook"}),
        ({"denoised": ""}, {"ThermalNoiseRemoval", "BandMaths", "BandMerge"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("radiometry", ["gamma0", "gamma0-rtc"])
def test_what_a_product_does_not_need_is_left_out(radiometry, more, gone):
    whole = {operator_of(node) for node in make("S1A", "SLC", radiometry, range_looks="4").iter("node")}
    rest = {operator_of(node) for node in make("S1A", "SLC", radiometry, **{"range_looks": "4", **more}).iter("node")}
    assert whole - rest == gone


def test_only_alos_1_level_1_1_is_deskewed():
    assert "ALOS-Deskewing" in chain_to(make("ALOS", "L1.1", "gamma0"))
    for mission, level in (("ALOS2", "L1.1"), ("ALOS", "L1.5R"), ("ALOS2", "L1.5R")):
        assert "ALOS-Deskewing" not in chain_to(make(mission, level, "gamma0"))


def evaluate(expression: str, names: dict[str, object]) -> np.ndarray:
    """What SNAP's band arithmetic makes of `condition ? value : value`, in numpy."""
    text = expression.strip()
    if text.startswith("(") and text.endswith(")") and "?" in text:
        text = text[1:-1]
    condition, question, rest = text.partition("?")
    if not question:
        return np.asarray(eval(text.strip(), {"sin": np.sin, "cos": np.cos, "__builtins__": {}}, names))
    first, _, second = rest.partition(":")
    return np.where(evaluate(condition, names), evaluate(first, names), evaluate(second, names))


def bands(root: ET.Element) -> dict[str, str]:
    """Names and expressions of the bands that BandMaths makes."""
    return {band.findtext("name") or "": band.findtext("expression") or "" for band in root.iter("targetBand")}


@pytest.mark.parametrize(
    ("mission", "level", "radiometry", "written"),
    [
        ("S1A", "GRDH", "sigma0", "Sigma0_VV,Sigma0_VH,Floor_VV,Floor_VH"),
        ("S1A", "GRDH", "gamma0", "Gamma0_VV,Gamma0_VH,Floor_VV,Floor_VH"),
        ("S1A", "GRDH", "gamma0-rtc", "Gamma0_VV,Gamma0_VH,Floor_VV,Floor_VH"),
        ("ALOS", "L1.1", "sigma0", "Sigma0_HH,Sigma0_HV"), ("ALOS2", "L1.5R", "gamma0-rtc", "Gamma0_HH,Gamma0_HV"),
    ],
)  # fmt: skip
def test_the_bands_that_are_written(mission, level, radiometry, written):
    root = make(mission, level, radiometry)
    assert parameters(root, "Terrain-Correction")["sourceBands"] == written
    beta0 = parameters(root, "Calibration").get("outputBetaBand") == "true" or "Beta0_HH" in bands(root)
    assert beta0 == (radiometry == "gamma0-rtc")


def test_noise_of_one_polarisation_only():
    root = make("S1A", "GRDH", "gamma0", denoised="VH")
    assert list(bands(root)) == ["Floor_VH"]
    assert parameters(root, "Terrain-Correction")["sourceBands"] == "Gamma0_VV,Gamma0_VH,Floor_VH"


def floor_rule(level: str, radiometry: str, version: int) -> tuple[str, str, str]:
    """Expression of Floor_VV, the band that it looks at, and the operator that makes this band."""
    root = make("S1A", level, radiometry, version)
    expression = bands(root)["Floor_VV"]
    node = nodes(root)["Floors"]
    assert node.findtext("parameters/targetBands/targetBand/noDataValue") == "0.0"
    return expression, re.match(r"\w+", expression)[0], operator_of(nodes(root)[node.find("sources/*").get("refid")])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("radiometry", RADIOMETRIES)
def test_floors_of_a_grd_are_the_pixels_below_the_noise(version, radiometry):
    """SNAP writes 1e-5 for DN^2 - noise < 0 and keeps 0; float32."""
    expression, band, operator = floor_rule("GRDH", radiometry, version)
    assert (band, operator) == ("Intensity_VV", "ThermalNoiseRemoval")
    generator = np.random.default_rng(1)
    dn = generator.integers(0, 60, 200_000).astype(float)
    noise = generator.uniform(313.7, 327.7, dn.size)  # of the reference
    intensity = np.where(dn == 0, 0.0, np.where(dn * dn < noise, 1e-5, dn * dn - noise)).astype(np.float32)
    made = evaluate(expression, {band: intensity.astype(float)})
    assert (made == np.where(dn == 0, 0, np.where(dn * dn < noise, 2, 1))).all()


@pytest.mark.parametrize(("version", "floored"), [(10, (1.0e-5, 1.6e-5, 2.0e-5)), (13, (1.0e-5, 1.6e-5, 2.0e-5)), (14, (3.1e-11, 4e-10))])
@pytest.mark.parametrize("radiometry", RADIOMETRIES)
def test_floors_of_an_slc_go_by_the_version(version, floored, radiometry):
    """SNAP up to 13 leaves 1e-5 to 2e-5 of a pixel below its noise, SNAP 14 1e-5 / A^2; 0 has no signal."""
    expression, band, operator = floor_rule("SLC", radiometry, version)
    assert operator == "TOPSAR-Deburst"
    values = np.array([0.0, *floored, 1e-4, 0.1, 30.0], np.float32)
    assert evaluate(expression, {band: values}).tolist() == [0, *(2 for _ in floored), 1, 1, 1]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_floors_of_real_snap(shared):
    """By the calibrated value: in SNAP 14 exactly those below the noise, in SNAP 13 all of them and some weak signals."""
    import rasterio

    folder, found = shared / "data/snap_reference/calibration", {}
    for version, name in ((13, "sigma0_denoised.tif"), (14, "sigma0_denoised_snap14.tif")):
        with rasterio.open(folder / name) as file:
            found[version] = file.read(1)
        expression, band, _ = floor_rule("SLC", "sigma0", version)
        found[version] = evaluate(expression, {band: found[version]}) == 2, found[version]
    by_13, values = found[13]
    constant = (values > 1.6148e-5 * 0.999) & (values < 1.6210e-5 * 1.001)  # what SNAP 13 left, and a few that happen to lie there
    assert 1213 <= constant.sum() <= 1213 * 1.02
    assert (by_13 >= constant).all()
    assert by_13.sum() < 1.3 * 1213
    by_14, _ = found[14]
    assert (by_14 == constant[:200, :200]).mean() > 1 - 3e-4
    assert (by_13[:200, :200] >= by_14).all()


@pytest.mark.parametrize(
    ("level", "radiometry"), [("L1.1", "gamma0"), ("L1.1", "gamma0-rtc"), ("L1.5R", "gamma0"), ("L1.5R", "gamma0-rtc")]
)
def test_gamma0_and_beta0_of_alos_come_from_the_angle(level, radiometry):
    """gamma0 = sigma0 / cos, beta0 = sigma0 / sin of the ellipsoid's incidence angle, 0 stays 0."""
    root = make("ALOS2", level, radiometry)
    name, divisor = {"gamma0": ("Gamma0_HH", np.cos), "gamma0-rtc": ("Beta0_HH", np.sin)}[radiometry]
    expression, angle = bands(root)[name], np.radians(38.7)
    for amplitude in (0.0, 0.5):
        calibrated = calibrated_bands(root, level, "HH", amplitude * np.exp(0.7j))
        made = evaluate(expression, {**calibrated, "incident_angle": 38.7})
        assert float(made) == pytest.approx(amplitude**2 / divisor(angle), rel=1e-12)
        with np.errstate(divide="ignore", invalid="ignore"):  # without an angle the result would be sigma0, or infinite
            assert float(evaluate(expression, {**calibrated, "incident_angle": 0.0})) == 0.0


def calibrated_bands(root: ET.Element, level: str, polarisation: str, value: complex) -> dict[str, np.float64]:
    """What SNAP's Calibration makes of PALSAR: of level 1.1 i and q when it shall stay complex, else the power."""
    stays_complex = parameters(root, "Calibration").get("outputImageInComplex") == "true" and level == "L1.1"
    if stays_complex:
        return {f"i_{polarisation}": np.float64(value.real), f"q_{polarisation}": np.float64(value.imag)}
    return {f"Sigma0_{polarisation}": np.float64(abs(value) ** 2)}


@pytest.mark.parametrize("mission", ["ALOS", "ALOS2"])
def test_slant_range_is_flattened_as_slant_range(mission):
    """SNAP's Terrain-Flattening scales by the slope of ground range when an image is not COMPLEX and has its coefficients.

    SNAP's reader makes these for every PALSAR product that is not geocoded; its Calibration calls an image DETECTED that it does not
    leave complex; nothing between the two says otherwise, Multilook unless it makes intensities.
    """
    for level, in_ground_range in (("L1.1", False), ("L1.5R", True)):
        root = make(mission, level, "gamma0-rtc", range_looks="2", azimuth_looks="4")
        kind = "COMPLEX" if level == "L1.1" else "DETECTED"
        if parameters(root, "Calibration").get("outputImageInComplex") != "true":
            kind = "DETECTED"
        assert parameters(root, "Multilook")["outputIntensity"] == "false"
        assert ("COMPLEX" not in kind) == in_ground_range


@pytest.mark.parametrize(("mission", "level", "radiometry"), ALL)
@pytest.mark.parametrize("more", [{}, {"range_looks": "4", "azimuth_looks": "2", "columns": "40", "lines": "60"}, {"denoised": "VV"}])
def test_computed_bands_are_only_merged(mission, level, radiometry, more):
    """BandMaths may leave its product's tie points empty: another product's must count wherever SNAP needs a place or an angle."""
    if more.get("denoised") and not mission.startswith("S1"):
        return
    by_id = nodes(make(mission, level, radiometry, **more))
    maths = {name for name, node in by_id.items() if operator_of(node) == "BandMaths"}
    for node in by_id.values():
        for number, source in enumerate(node.iterfind("sources/*")):
            if source.get("refid") in maths:
                assert (operator_of(node), number) == ("BandMerge", 1)
        if operator_of(node) == "BandMerge":
            assert len(node.findall("sources/*")) == 2


# Averaged lines: first and last line's time, number of lines, of an image whose lines are 1 apart


def subset_times(first: float, last: float, lines: int, region: str) -> tuple[float, float, int]:
    """SNAP's Subset: by the interval that the two times and the lines give."""
    step, (_, row, _, rows) = (last - first) / (lines - 1), map(int, region.split(","))
    return first + row * step, first + (row + rows - 1) * step, rows


def test_a_cut_changes_times_as_in_real_snap(shared):
    """A product of 120 lines that SNAP 13 cut out of 16705, from line 7900 on."""
    found = re.findall(
        r'name="(\w+_line_time)"[^>]*>[^<]*:(\d\d\.\d+)<', (shared / "data/snap_reference/products/radar.dim").read_text("latin-1")
    )
    cut, whole = ({name: float(seconds) for name, seconds in part} for part in (found[:2], found[2:4]))
    made = subset_times(whole["first_line_time"], whole["last_line_time"], 16705, "21950,7900,160,120")
    assert made == pytest.approx((cut["first_line_time"], cut["last_line_time"], 120), abs=2e-6)


@pytest.mark.parametrize(("lines", "looks"), [(18432, 4), (18432, 5), (18435, 4), (999, 2), (1000, 1)])
@pytest.mark.parametrize(("mission", "level", "radiometry"), [one for one in ALL if one[1] in ("L1.1", "SLC")])
def test_only_whole_looks_are_averaged(mission, level, radiometry, lines, looks):
    """By SNAP's rules pixels at the scene's end lie (n - 1) / 2 lines too far along the track, plus the lines that fill no look."""
    given = {"range_looks": "2", "azimuth_looks": str(looks), "columns": "4000", "lines": str(lines // looks * looks)}
    for cut in (True, False):
        root = make(mission, level, radiometry, **(given if cut else given | {"columns": "", "lines": ""}), region="")
        times = 0.0, lines - 1.0, lines
        subset = [one.findtext("parameters/region") or "" for one in root.iter("node") if operator_of(one) == "Subset"]
        assert len(subset) == (cut and looks > 1)
        if subset:
            assert subset[0].startswith("0,0,")  # nothing in near range
            times = subset_times(*times, subset[0])
        first, last, rows = times[0] + (looks - 1) / 2, times[1], times[2] // looks  # Multilook
        taken = first + np.arange(rows) * (last - first) / (rows - 1)  # Terrain-Correction
        true = (looks - 1) / 2 + np.arange(rows) * looks
        assert taken[0] == true[0]
        left_over = 0 if cut else lines % looks
        assert taken[-1] - true[-1] == pytest.approx((looks - 1) / 2 + left_over, abs=1e-9)


def test_lines_are_cut_right_before_they_are_averaged():
    steps = chain_to(make("ALOS", "L1.1", "gamma0-rtc", range_looks="2", azimuth_looks="4", columns="40", lines="80"))
    at = steps.index("Multilook")
    assert steps[at - 2 : at + 2] == ["BandMerge", "Subset", "Multilook", "Terrain-Flattening"]
    assert "Subset" not in steps[: at - 1]


@pytest.mark.parametrize(("mission", "level", "radiometry"), [one for one in ALL if one[0].startswith("S1") or one[2] != "sigma0"])
def test_merging_does_not_depend_on_the_corners(mission, level, radiometry):
    """They differ by up to 360 degrees where one product's tie points are not filled; SNAP's default fails at 1e-5."""
    assert float(parameters(make(mission, level, radiometry), "BandMerge")["geographicError"]) > 360


# Choosing


@pytest.mark.parametrize(
    ("mission", "level", "radiometry", "name"),
    [
        ("S1A", "GRDH", "gamma0", "s1_grd"), ("S1D", "GRDM", "sigma0", "s1_grd"), ("S1B", "GRDH", "gamma0-rtc", "s1_grd_rtc"),
        ("S1C", "SLC", "sigma0", "s1_slc"), ("S1A", "SLC", "gamma0-rtc", "s1_slc_rtc"), ("ALOS", "L1.1", "gamma0", "alos"),
        ("ALOS2", "L1.5R", "gamma0-rtc", "alos_rtc"),
    ],
)  # fmt: skip
def test_the_graph_of_a_product(mission, level, radiometry, name):
    path = choose_graph(mission, level, radiometry)
    assert path == ROOT / "graphs" / f"{name}.xml"
    assert path.is_file()


@pytest.mark.parametrize(
    ("mission", "level", "radiometry", "message"),
    [
        ("ALOS", "L1.5G", "gamma0", r"geocoded.*angles for them are 0.*--engine native"), ("ALOS2", "L1.5G", "sigma0", "--engine native"),
        ("S1A", "GRDH", "beta0", "make no beta0.*--engine native"), ("S1A", "OCN", "gamma0", "no graph.*snap run"),
        ("TSX", "L1.1", "gamma0", "no graph"),
    ],
)  # fmt: skip
def test_what_snap_cannot_is_refused_with_the_reason(mission, level, radiometry, message):
    with pytest.raises(UsageError, match=message):
        choose_graph(mission, level, radiometry)


def test_geocoded_products_end_with_sigma0():
    root = ET.fromstring(graph_text(packaged_graph("alos_geocoded"), {"input": "VOL-ALOS", "output": "x.dim"}, 14))
    assert chain_to(root) == ["Read", "Calibration", "Write"]
    assert "native" in read_text(packaged_graph("alos_geocoded"))


def test_there_is_a_file_for_every_name_and_no_other():
    assert {path.stem for path in (ROOT / "graphs").glob("*")} == set(GRAPHS)
    for name in GRAPHS:
        assert ET.fromstring(read_text(packaged_graph(name))).get("id") == name
    with pytest.raises(UsageError, match="no graph 'x'"):
        packaged_graph("x")


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    inside = tmp_path / "sarseg" / "graphs"
    inside.mkdir(parents=True)
    (inside / "alos.xml").write_text("<graph/>")
    monkeypatch.setattr("sarseg.ard.snap.graphs.__file__", str(tmp_path / "sarseg/ard/snap/graphs.py"))
    assert packaged_graph("alos") == inside / "alos.xml"
    assert '"graphs" = "sarseg/graphs"' in (ROOT / "pyproject.toml").read_text()


# Filling

GRD = {**VALUES, "polarisations": "VV", "denoised": "VV"}


def test_values_that_are_missing_unknown_or_wrong():
    path = choose_graph("S1A", "GRDH", "gamma0")
    for changes, message in (
        ({"dem": None}, r"no value for dem \[s1_grd.xml\]"),
        ({"polarisations": None}, "no value for polarisations"),
        ({"pixel": "5"}, "has no pixel"),
        ({"bands": "Gamma0_VV"}, "has no bands"),
        ({"spacing_m": "ten"}, r"is 'ten', which is not a number \[s1_grd.xml, node TerrainCorrection, pixelSpacingInMeter\]"),
        ({"orbit_type": "Precise"}, r"orbitType is 'Precise'.*node Orbit, orbitType"),
        ({"dem": ""}, r"no file is given.*node TerrainCorrection, externalDEMFile"),
        ({"dem_nodata": ""}, "node TerrainCorrection, externalDEMNoDataValue"),
        ({"ipf": "new"}, "'new' is no version"),
        ({"input": "a\x00b"}, "control character"),
        ({"output": "x.tif"}, "x.tif.dim"),
    ):  # fmt: skip
        values = {name: value for name, value in {**GRD, **changes}.items() if value is not None}
        with pytest.raises(UsageError, match=message):
            graph_text(path, values, 13)
    flattened = {name: value for name, value in GRD.items() if name not in ("denoised", "orbit_type")}
    for level in ("", "L1.5G", "GRDH"):
        with pytest.raises(UsageError, match=r"no value for level \[alos_rtc.xml\]"):
            graph_text(packaged_graph("alos_rtc"), {**flattened, "level": level}, 13)
    with pytest.raises(UsageError, match="has no complex"):
        graph_text(packaged_graph("alos_rtc"), {**flattened, "level": "L1.1", "complex": "false"}, 13)


@pytest.mark.parametrize("path", ["/data/a & b/<x>.zip", "/data/$HOME/${x}/a.zip", "/data/\N{LATIN SMALL LETTER U WITH DIAERESIS} '\".zip"])
def test_any_path_arrives_as_it_is(path):
    root = ET.fromstring(graph_text(choose_graph("S1A", "GRDH", "gamma0"), {**GRD, "input": path}, 13))
    assert parameters(root, "Read")["file"] == path


def test_the_command_runs_a_graph_by_its_name(shared, tmp_path, monkeypatch):
    """And refuses what the graph cannot use, before SNAP starts."""
    monkeypatch.delenv("FAKE_GPT", raising=False)
    gpt, out = install_fake(tmp_path / "snap"), tmp_path / "x"
    given = ["run", "--graph", "alos_geocoded", "--gpt", str(gpt), "-o", str(out)]
    result = CliRunner().invoke(command, given)
    assert isinstance(result.exception, UsageError)
    assert "no value for input" in str(result.exception)
    result = CliRunner().invoke(command, [*given, "-P", f"input={shared / 'data/snap_reference/products/radar.dim'}"])
    assert result.exception is None, result.exception
    assert result.output.splitlines()[-1] == f"{out}.dim"
    assert isinstance(CliRunner().invoke(command, ["run", "--graph", "none.xml", "--gpt", str(gpt), "-o", str(out)]).exception, InputError)
