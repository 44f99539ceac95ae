"""`sarseg simulate`: what it prints and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sarseg.cli.simulate import command
from sarseg.errors import InputError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def _run(*words: object) -> str:
    result = CliRunner().invoke(command, ["sentinel1", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_two_passes_over_one_landscape(tmp_path: Path) -> None:
    first = json.loads(_run("-o", tmp_path, "--size", 48, "--seed", 3, "--centre", 146.9, -36.1, "--relief", 0, "--json"))
    assert {Path(path).parent for path in first.values()} == {tmp_path}
    assert all(Path(path).exists() for path in first.values())
    words = ("-o", tmp_path, "--landscape", tmp_path, "--pass", "descending", "--incidence", 42, "--polarisations", "VV", "--zip")
    second = dict(line.split(" ", 1) for line in _run(*words).splitlines())
    assert second["truth"] == first["truth"]
    name = Path(second["product"]).name
    assert name.startswith("S1A_IW_GRDH_1SSV_")
    assert name.endswith(".zip")
    assert not list(tmp_path.glob(".partial*"))


def test_same_command_same_bytes(tmp_path: Path) -> None:
    products = []
    for folder in ("a", "b"):
        _run("-o", tmp_path / folder, "--size", 40, "--seed", 9, "--slope", 30)
        files = sorted(path for path in (tmp_path / folder).rglob("*") if path.is_file())
        products.append({path.relative_to(tmp_path / folder): path.read_bytes() for path in files})
    assert products[0] == products[1]
    _run("-o", tmp_path / "c", "--size", 40, "--seed", 10, "--slope", 30)
    one, other = (next((tmp_path / folder).glob("*.SAFE/measurement/*-vv-*")).read_bytes() for folder in ("a", "c"))
    assert one != other


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (("--landcover", "x.tif"), UsageError, "land cover without heights"),
        (("--window", "0", "0", "5", "5"), UsageError, "window without a template"),
        (("--template", "t.zip", "--pass", "descending"), UsageError, "--pass without effect beside --template"),
        (("--landscape", "nowhere", "--relief", "5"), UsageError, "--relief without effect beside --landscape"),
        (("--landscape", "nowhere"), InputError, "not a landscape"),
        (("--template", "nowhere.zip", "--size", "32"), InputError, "no such template"),
        (("--centre", "10", "83", "--size", "32"), InputError, "no Sentinel-1 orbit"),
    ],
)
def test_errors(words: tuple[str, ...], error: type[Exception], match: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=match):
        CliRunner().invoke(command, ["sentinel1", "-o", str(tmp_path), *words], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_window_is_wrong_use(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["sentinel1", "-o", str(tmp_path), "--template", "x", "--window", "-1", "0", "5", "5"])
    assert result.exit_code == 2
    assert "first line" in result.stderr
