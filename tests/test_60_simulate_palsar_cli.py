"""`sarseg simulate palsar`: what it writes, and one line for what it cannot."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from sarseg.cli.main import run
from sarseg.cli.simulate import command
from sarseg.scene.open import open_scene
from sarseg.simulate import palsar
from sarseg.simulate.options import LandscapeOptions
from sarseg.simulate.palsar import simulate_palsar
from sarseg.simulate.palsar_modes import PalsarOptions


def test_a_zip_beside_its_truth_and_a_second_look(tmp_path: Path) -> None:
    """JSON names the files; the zip opens in place; a second run sees the same landscape and leaves it as it is."""
    words = ["palsar", "-o", str(tmp_path), "--json"]
    result = CliRunner().invoke(command, [*words, "--size", "64", "--mission", "alos1", "--level", "1.1", "--zip"], catch_exceptions=False)
    assert result.exit_code == 0
    paths = {name: Path(path) for name, path in json.loads(result.stdout).items()}
    assert all(path.is_file() for path in paths.values())
    with zipfile.ZipFile(paths["product"]) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {paths["product"].stem}
    assert open_scene(paths["product"]).polarisations == ("HH", "HV")
    before = paths["truth"].read_bytes()
    again = CliRunner().invoke(
        command, [*words, "--landscape", str(tmp_path), "--polarisations", "HH", "--geocoded"], catch_exceptions=False
    )
    scene = open_scene(Path(json.loads(again.stdout)["product"]))
    assert (scene.mission, scene.mode, scene.product_type, scene.polarisations) == ("ALOS2", "FBS", "L1.5G", ("HH",))
    assert paths["truth"].read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--level", "1.1", "--geocoded"], 2, "slant range"),
        (["--doppler", "100"], 2, "zero-Doppler"),
        (["--mission", "alos3"], 2, "alos3"),
        (["--incidence", "80"], 2, "80"),
        (["--polarisations", "VV"], 2, "VV"),
        (["--landscape", "nowhere"], 3, "nowhere"),
        (["--centre", "20", "83", "--size", "64"], 3, "latitude"),
        (["--centre", "20", "90"], 2, "latitude of -80 to 84"),
        (["--centre", "500", "48"], 2, "longitude of -180 to 180"),
        (["--centre", "nan", "48"], 2, "longitude"),
        (["--relief", "nan"], 2, "relief 0 to 9000"),
        (["--relief", "1e9"], 2, "0.0<=x<=9000.0"),
        (["--landcover", "cover.tif"], 2, "land cover without heights"),
        (["--geoid", "geoid.tif"], 2, "a geoid without heights"),
        (["--landscape", ".", "--size", "64"], 2, "--size without effect beside --landscape"),
        (
            ["--landscape", ".", "--centre", "11", "48", "--variation", "none"],
            2,
            "--centre and --variation without effect beside --landscape",
        ),
        (["--landscape", ".", "--dem", "dem.tif"], 2, "--dem without effect beside --landscape"),
        (["--dem", "dem.tif", "--relief", "10", "--field", "5"], 2, "--relief without effect beside --dem"),
        (["--dem", "dem.tif", "--landcover", "cover.tif", "--field", "5"], 2, "--field without effect beside --landcover"),
        (["--slope", "20", "--relief", "10"], 2, "--relief without effect beside --slope"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], code: int, says: str) -> None:
    assert run(["simulate", "palsar", "-o", str(tmp_path / "out"), *words]) == code
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("breaks", ["leader_file", "summary_text", "write_landscape"])
def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str) -> None:
    def fails(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(palsar, breaks, fails)
    with pytest.raises(KeyboardInterrupt):
        simulate_palsar(tmp_path, PalsarOptions(landscape=LandscapeOptions(size_px=32)))
    assert list(tmp_path.iterdir()) == []


def test_a_product_replaces_its_older_self(tmp_path: Path) -> None:
    options = PalsarOptions(landscape=LandscapeOptions(size_px=32), speckle=False)
    product = simulate_palsar(tmp_path, options).product
    (product / "old").touch()
    again = simulate_palsar(tmp_path, options).product
    assert again == product
    assert not (product / "old").exists()


def test_help_lists_every_kind() -> None:
    text = CliRunner().invoke(command, ["--help"]).stdout
    for name in ("sentinel1", "palsar", "jaxa-mosaic"):
        assert name in text
