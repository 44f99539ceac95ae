"""A folder of one kind where another is wanted, and damaged ones: one line that says what it is and what to do."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_patches import LEGEND
from PIL import Image
from safetensors.torch import load_file, save_file

from sarseg.cli.main import run
from sarseg.nets.modelfile import BandSpec, ModelSpec, save_model
from sarseg.nets.registry import build_network
from sarseg.patches import generate_train_data

OPTIONS: dict[str, int | float | bool | str] = {"width": 4, "depth": 1, "stem": 1}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    bands = tuple(BandSpec(name=name, scale="raw", mean=128.0, std=50.0) for name in ("b1", "b2", "b3"))
    spec = ModelSpec(network="compact_unet", options=OPTIONS, bands=bands, quantity="raw", legend=LEGEND)
    torch.manual_seed(0)
    return save_model(tmp_path / "model", build_network("compact_unet", bands=3, classes=3, options=OPTIONS), spec)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A plain folder with images/ and masks/."""
    rng = np.random.default_rng(1)
    for name in ("images", "masks"):
        (tmp_path / "plain" / name).mkdir(parents=True)
    for at in range(3):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / f"plain/images/{at}.png")
        Image.fromarray(rng.choice(np.array([1, 4, 7], np.uint8), (40, 40))).save(tmp_path / f"plain/masks/{at}.png")
    return tmp_path / "plain"


def told(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """The one line that a refused command says."""
    assert run(["--quiet", *map(str, words)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-50] ^= 4
    path.write_bytes(bytes(data))


def spoil(folder: Path) -> None:
    """A weight is NaN, and the checksum is that of such a file."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    next(one for one in tensors.values() if one.is_floating_point()).view(-1)[0] = float("nan")
    save_file(tensors, path)
    said = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**said, "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "the weights are not those that the model was saved with"),
        (flip, "the weights are not those that the model was saved with"),
        (spoil, "some weights are no numbers"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.json or model.safetensors is absent"),
        (lambda folder: (folder / "model.json").unlink(), "model.json or model.safetensors is absent"),
        (lambda folder: (folder / "model.json").write_text('{"name": "resnet", "layers": 50}'), "is no model.json of sarseg"),
    ],
)
def test_info_tells_a_damaged_model(damage: Callable[[Path], object], says: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(model)]) == 0
    assert "kind:              model" in capsys.readouterr().out
    damage(model)
    line = told(capsys, 3, "info", model)
    assert says in line
    assert str(model) in line


def test_info_of_folders_that_are_not_ours(tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    assert "the folder is no scene, product, dataset, map or model" in (line := told(capsys, 3, "info", tmp_path / "photos"))
    assert "it is empty" in line
    (tmp_path / "photos/notes.txt").write_text("mine")
    assert "it holds notes.txt" in told(capsys, 3, "info", tmp_path / "photos")
    (tmp_path / "photos/net.pth").write_bytes(b"PK\x03\x04")
    assert "pickled weights are not opened" in told(capsys, 3, "info", tmp_path / "photos")
    assert run(["info", str(pairs)]) == 0
    said = capsys.readouterr().out
    assert "images and masks" in said
    assert "pairs:             3" in said
    made = generate_train_data(9, 16, pairs / "images", pairs / "masks", tmp_path / "made")
    capsys.readouterr()
    assert run(["info", str(made)]) == 0
    assert "kind:              dataset" in capsys.readouterr().out
    (made / "index.parquet").write_bytes(b"PAR1")
    assert "the index of the data set cannot be read" in told(capsys, 3, "info", made)
    (made / "dataset.json").write_text('{"format": "coco"}')
    assert "is no data set of patches" in told(capsys, 3, "info", made)
    (tmp_path / "m.training").mkdir()
    (tmp_path / "m.training/checkpoint.json").write_text('{"step": 40}')
    assert run(["info", str(tmp_path / "m.training")]) == 0
    assert "--resume" in capsys.readouterr().out


def test_info_leads_on_from_a_folder_of_downloads(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path that the hint names is one that info describes."""
    real = shared / "data"
    scenes = sorted((real / "s1_grd_metadata").glob("S1A_IW_GRDH_1SDV_2015*.zip"))
    for count in (1, 2):
        (tmp_path / "scenes").mkdir(exist_ok=True)
        (tmp_path / "scenes" / scenes[count].name).symlink_to(scenes[count])
        line = told(capsys, 3, "info", tmp_path / "scenes")
        assert ("it holds one download: give ", "it holds 2 downloads: give one, such as ")[count - 1] in line
        named = line.partition("give ")[2].removeprefix("one, such as ").partition(";")[0]
        assert run(["info", named]) == 0
        assert "kind:              scene" in capsys.readouterr().out
    (tmp_path / "scenes" / "unpacked.SAFE").mkdir()
    assert "it holds 3 downloads" in told(capsys, 3, "info", tmp_path / "scenes")
    for folder, ending in (("alos2_ceos_l15", ".zip"), ("s1_grd_rome", ".SAFE")):
        line = told(capsys, 3, "info", real / folder)
        assert "it holds one download: give " in line
        assert line.endswith(ending)


def test_info_leads_on_from_labels(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("jaxa_fnf", "worldcover"):
        assert "it holds labels: `sarseg labels` puts them on a product's grid" in told(capsys, 3, "info", shared / "data" / name)
    packed = next((shared / "data/jaxa_fnf").glob("*.tar.gz"))
    assert "holds labels, and is no scene and no product" in told(capsys, 3, "info", packed)
    with zipfile.ZipFile(tmp_path / "N05W060_17_FNF_F02DAR.zip", "w") as archive:
        archive.writestr("N05W060_17_C_F02DAR.tif", b"")
    assert "holds labels" in told(capsys, 3, "info", tmp_path / "N05W060_17_FNF_F02DAR.zip")
    assert "labels" not in told(capsys, 3, "info", shared / "data/orbits").partition("it holds")[2]


def test_predict_says_what_a_folder_is_instead_of_a_product(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path) -> str:
        line = told(capsys, 3, "predict", model, path, "-o", tmp_path / "maps")
        assert not (tmp_path / "maps").exists()
        return line

    assert "is no product but images and masks" in refused(pairs)
    assert "is no product but a folder with 3 raster files" in (line := refused(pairs / "images"))
    assert f"give the files: {pairs / 'images'}/*.png" in line
    assert "is no product but a model" in refused(model)
    made = generate_train_data(9, 16, pairs / "images", pairs / "masks", tmp_path / "made")
    capsys.readouterr()
    assert "is no product but a dataset" in refused(made)
    assert run(["--quiet", "predict", str(model), str(pairs / "images/0.png"), "-o", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert "is no product but a map" in refused(tmp_path / "out/0")
    folder = tmp_path / "out/0"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "would take the place of one of its maps" in told(capsys, 2, "mosaic", folder, "-o", tmp_path / "out/../out/0")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for words in (("mosaic", tmp_path / "out", "-o", tmp_path / "maps"), ("assess", tmp_path / "out", "--truth", folder)):
        assert "is no map: it has no landcover.tif" in told(capsys, 3, *words)
    assert "1<=x<=1024" in told(capsys, 2, "predict", model, pairs / "images/0.png", "-o", tmp_path / "maps", "--threads", 100_000)
    assert "--steps and --epochs both say how long" in told(capsys, 2, "train", pairs, "-o", tmp_path / "m", "--steps", 9, "--epochs", 9)
    (tmp_path / "S1A_x.SAFE").mkdir()
    (tmp_path / "S1A_x.SAFE/manifest.safe").write_text("<a/>")
    assert "`sarseg preprocess` makes a product of it" in refused(tmp_path / "S1A_x.SAFE")
    assert "no such file" in refused(tmp_path / "nothing")


def test_assess_says_which_option_goes_with_what(model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = told(capsys, 2, "assess", model, "--truth", pairs / "masks/0.png")
    assert "is a model, and --truth is for a map" in line
    assert "sarseg predict" in line
    assert "--dataset" in line
    assert run(["--quiet", "predict", str(model), str(pairs / "images/0.png"), "-o", str(tmp_path / "maps")]) == 0
    capsys.readouterr()
    for path in (tmp_path / "maps/0", tmp_path / "maps/0/landcover.tif"):
        line = told(capsys, 2, "assess", path, "--dataset", pairs)
        assert "is a map, and --dataset is for a model" in line
        assert "--truth" in line
