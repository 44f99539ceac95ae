"""The commands labels and patches, from files to a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner

from sarseg.cli.labels import command as labels
from sarseg.cli.patches import command as patches
from sarseg.errors import InputError, UsageError
from sarseg.patches import open_dataset


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for at, name in enumerate("ab"):
        place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 600_000 + 90_000 * at, 0, -10, 5_000_000)}
        profile = {"driver": "GTiff", "height": 130, "width": 170, **place}
        with rasterio.open(tmp_path / f"{name}.tif", "w", count=2, dtype="float32", **profile) as file:
            file.write(rng.normal(0, 1, (2, 130, 170)).astype(np.float32))
        with rasterio.open(tmp_path / f"{name}_raw.tif", "w", count=1, dtype="int16", **profile) as file:
            file.write(rng.choice(np.array([-1, 0, 10], np.int16), (1, 130, 170)))
    (tmp_path / "remap.yaml").write_text("-1: 255\n0: 1\n10: 2\n")
    (tmp_path / "legend.yaml").write_text(
        "classes:\n  - {code: 1, name: land, color: [200, 180, 90]}\n  - {code: 2, name: water, color: [0, 0, 200]}\n"
    )
    return tmp_path


def run(command: object, *words: object) -> str:
    result = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (("a_raw.tif", "--like", "a.tif", "-o", "sub/../a_raw.tif"), UsageError, "would take the place of what they are made of"),
        (("a_raw.tif", "--like", "a.tif", "-o", "a.tif"), UsageError, "would take the place of what they are made of"),
        (("a_raw.tif", "--like", "a.tif", "-o", "o.tif", "--class-field", "crop"), UsageError, "no vector file, and so no field 'crop'"),
        (
            ("a_raw.tif", "--like", "a.tif", "-o", "o.tif", "--remap", "sar6"),
            InputError,
            r"no such remap table \[sar6\]: ready are sar5, fnf",
        ),
        (
            ("a_raw.tif", "--like", "a.tif", "-o", "o.tif", "--legend", "fnf5"),
            UsageError,
            "fnf5 is no known source and no file: known are fnf3",
        ),
    ],
)
def test_labels_refuses(words: tuple[str, ...], error: type[Exception], match: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    (files / "sub").mkdir()
    before = {path.name: path.read_bytes() for path in files.glob("*.tif")}
    with pytest.raises(error, match=match):
        run(labels, *words)
    assert {path.name: path.read_bytes() for path in files.glob("*.tif")} == before


def test_from_labels_to_a_data_set(files: Path) -> None:
    for name in "ab":
        out = files / f"{name}_labels.tif"
        words = (files / f"{name}_raw.tif", "--like", files / f"{name}.tif", "-o", out)
        printed = run(labels, *words, "--remap", files / "remap.yaml", "--legend", files / "legend.yaml")
        assert printed == f"{out}\n"
        with rasterio.open(files / f"{name}_raw.tif") as raw, rasterio.open(out) as made:
            np.testing.assert_array_equal(made.read(1), np.select([raw.read(1) == -1, raw.read(1) == 0], [255, 1], 2))
    images = (files / "a.tif", files / "b.tif", "--labels", files / "a_labels.tif", "--labels", files / "b_labels.tif")
    assert run(patches, *images, "-o", files / "d", "--size", 32, "--test-scene", "b", "--block", 400, "--guard", 40) == f"{files / 'd'}\n"
    data = open_dataset(files / "d")
    assert data.legend.names == ("land", "water")
    assert set(data.index["scene"][data.split("test")]) == {"b"}
    assert len(data.split("test")) == 5 * 6  # 130 x 170 in windows of 32 that cover it
    assert set(data.index["scene"][data.split("train")]) == {"a"}
    run(
        patches,
        *images,
        "-o",
        files / "r",
        "--size",
        16,
        "--count",
        50,
        "--seed",
        3,
        "--band",
        "b2",
        "--test-bounds",
        600_000,
        4_998_700,
        600_500,
        5_000_000,
    )
    data = open_dataset(files / "r")
    assert len(data) == 50
    assert data.band_names == ("b2",)
    assert (data.index["x_max"][data.split("test")] <= 600_500).all()
    assert len(data.split("test"))
    with pytest.raises(UsageError, match="2 images but 1 label files"):
        run(patches, *images[:4], "-o", files / "x")
