"""The labels' options in a pipeline file, and the truth that goes through the same table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from sarseg.batch.config import read_pipeline
from sarseg.batch.run import _Line
from sarseg.errors import InputError, UsageError
from sarseg.labels.options import LabelOptions
from sarseg.labels.resample import make_labels
from sarseg.product.folder import write_json
from sarseg.progress import silent


def line(folder: Path, text: str) -> _Line:
    (folder / "line.yaml").write_text(f"dem: dem.tif\n{text}")
    return _Line(read_pipeline(folder / "line.yaml"), folder, folder / "out", silent)


def test_the_keys_of_the_labels(tmp_path: Path) -> None:
    base = "labels: N00E006_17_FNF_F02DAR.zip\n"
    options = line(tmp_path, base + "labels_remap: fnf\nlabels_kind: fnf4\nlabels_min_purity: 0.75\nlabels_max_years: 1\n")._label_options()
    assert options == LabelOptions(remap="fnf", kind="fnf4", min_purity=0.75, max_years=1)
    assert line(tmp_path, base)._label_options() == LabelOptions()
    assert line(tmp_path, base + "labels_remap: mine.yaml\n")._label_options().remap == str(tmp_path / "mine.yaml")
    with pytest.raises(UsageError, match="min_purity 2"):
        line(tmp_path, base + "labels_min_purity: 2.0\n")._label_options()


@pytest.mark.parametrize(
    ("text", "remapped"),
    [
        ("labels: truth.tif\n", False),
        ("labels: truth.tif\nlabels_min_purity: 0.5\n", False),
        ("labels: truth.tif\nlabels_remap: t.yaml\n", True),
        ("labels: a.tif\ntruth: truth.tif\nlabels_remap: fnf\n", False),
        ("labels: S16W150_15_FNF_F02DAR.tar.gz\n", True),
        ("labels: a.tif\ntruth: fields.gpkg\n", True),
    ],
)
def test_which_truth_needs_the_table(tmp_path: Path, text: str, remapped: bool) -> None:
    inputs = line(tmp_path, text).pipeline.inputs
    assert line(tmp_path, text)._is_remapped(tmp_path / (inputs.truth or inputs.labels)) is remapped


def raster(path: Path, codes: Any) -> Path:
    profile = {"driver": "GTiff", "height": 2, "width": 2, "crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    with rasterio.open(path, "w", count=1, dtype=codes.dtype.name, **profile) as file:
        file.write(codes[np.newaxis])
    return path


def test_the_truth_comes_in_the_maps_codes_and_old_labels_are_refused(tmp_path: Path) -> None:
    name = "ESA_WorldCover_10m_2020_v100_N45E012_Map.tif"
    raster(tmp_path / name, np.array([[10, 80], [70, 40]], np.uint8))
    for folder, band in (("map", "landcover"), ("ard", "VV")):
        (tmp_path / folder).mkdir()
        raster(tmp_path / folder / f"{band}.tif", np.ones((2, 2), np.float32))
    made, _ = line(tmp_path, f"labels: {name}\nlabels_remap: sar5\nlabels_min_purity: 0.9\n")._truth(
        tmp_path / name, tmp_path / "map", "key"
    )
    with rasterio.open(made) as file:
        assert file.read(1).tolist() == [[4, 1], [255, 2]]
    item = {"id": "s", "properties": {"datetime": "2024-05-01T00:00:00Z"}, "assets": {}}
    write_json(tmp_path / "ard" / "item.json", item)
    with pytest.raises(InputError, match="of 2020 and the scene of 2024"):
        make_labels(tmp_path / name, tmp_path / "ard", tmp_path / "o.tif", LabelOptions(remap="sar5"))
    told = make_labels(tmp_path / name, tmp_path / "ard", tmp_path / "o.tif", LabelOptions(remap="sar5", max_years=4))
    with rasterio.open(told) as file:
        assert (file.tags()["label_year"], file.tags()["scene_datetime"]) == ("2020", "2024-05-01T00:00:00Z")
