"""Training: what a batch holds, same bits twice, learning, refusals, and the stranger's case from PNG pairs to a map."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from sarseg.cli.main import run
from sarseg.errors import InputError, UsageError
from sarseg.legend import LandClass, Legend
from sarseg.nets.infer import make_forward
from sarseg.nets.modelfile import BandSpec, load_model, normalise
from sarseg.nets.registry import build_network
from sarseg.patches.dataset import Dataset
from sarseg.patches.tally import BandInfo
from sarseg.train.augment import Augmentation, augment, sample_at
from sarseg.train.loop import TrainOptions, _Run, class_pixels, learning_rate, refuse_tiny, train

torch.set_num_threads(1)

LEGEND = Legend(
    (
        LandClass(code=1, name="water", color=(0, 0, 255)),
        LandClass(code=4, name="field", color=(255, 220, 0)),
        LandClass(code=7, name="forest", color=(0, 120, 0)),
    )
)
MEAN_DB = np.array([[-21.0, -27.0], [-12.0, -18.0], [-8.0, -13.0]])
TINY = TrainOptions(net_options={"width": 6, "depth": 2, "stem": 1}, steps=12, batch=3, validations=2, threads=1, seed=5)
QUIET = Augmentation(turns=False, common_offset_db=0.0, band_offset_db=0.0)


@dataclass(frozen=True)
class Made:
    """Patches in memory: three classes in squares of 8 pixels under 4-look speckle, a NaN corner, an ignored row."""

    count: int
    size: int = 32
    seed: int = 0

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        rng = np.random.default_rng((self.seed, index))
        kind = np.kron(rng.integers(0, 3, (self.size // 8, self.size // 8)), np.ones((8, 8), np.int64))
        power = 10 ** (MEAN_DB[kind].transpose(2, 0, 1) / 10) * rng.gamma(4, 0.25, (2, self.size, self.size))
        power[0, :2, :3] = np.nan
        mask = np.array([1, 4, 7], np.uint8)[kind]
        mask[5] = 255
        return power.astype(np.float32), mask


def made_dataset(train: int = 10, val: int = 4, patches: object = None) -> Dataset:
    bands = (BandInfo(name="VV", scale="db", mean=-14.0, std=6.0), BandInfo(name="VH", scale="db", mean=-20.0, std=6.5))
    return Dataset(
        path=Path("made"),
        size=32,
        legend=LEGEND,
        index={"split": np.array(["train"] * train + ["val"] * val)},
        patches=patches or Made(train + val),  # type: ignore[arg-type]
        known_bands=bands,
        band_names=("VV", "VH"),
        info={},
    )


def test_epochs_are_permutations_without_a_rest() -> None:
    drawn = [sample_at(3, step, at, batch=4, count=7) for step in range(7) for at in range(4)]
    for epoch in range(4):
        assert sorted(drawn[epoch * 7 : epoch * 7 + 7]) == list(range(7))
    assert drawn[:7] != drawn[7:14]
    assert drawn == [sample_at(3, step, at, batch=4, count=7) for step in range(7) for at in range(4)]
    assert drawn != [sample_at(4, step, at, batch=4, count=7) for step in range(7) for at in range(4)]


def test_augmentation_moves_image_and_mask_alike() -> None:
    bands = (BandSpec(name="VV", scale="db", mean=0, std=4.0), BandSpec(name="angle", scale="raw", mean=0, std=2.0))
    mask = np.arange(25, dtype=np.uint8).reshape(5, 5)
    values = np.stack([mask, mask + 100]).astype(np.float32)
    seen = set()
    for step in range(100):
        out, codes = augment(values, mask, bands, Augmentation(), draw=(1, step, 0))
        np.testing.assert_array_equal(out[1], codes.astype(np.float32) + 100)  # a raw band has no offset in dB
        offset = out[0] - codes
        assert np.ptp(offset) < 1e-5
        assert abs(float(offset.mean())) < 2.0 / 4.0
        seen.add(codes.tobytes())
    assert len(seen) == 8  # the eight ways to lay a square
    np.testing.assert_array_equal(values, np.stack([mask, mask + 100]))


def test_augmentation_keeps_the_shape_of_oblong_patches() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    seen = {augment(mask[np.newaxis].astype("f4"), mask, (BANDS_RAW,), QUIET_TURNS, draw=(0, step, 2))[1].tobytes() for step in range(30)}
    assert len(seen) == 4


BANDS_RAW = BandSpec(name="b1", scale="raw", mean=0, std=1.0)
QUIET_TURNS = Augmentation(turns=True)


def test_learning_rate_rises_and_falls() -> None:
    options = TrainOptions(steps=200, lr=0.01, warm_up=0.1)
    rates = [learning_rate(step, 200, options) for step in range(200)]
    assert rates[:3] == pytest.approx([0.0005, 0.001, 0.0015])
    assert max(rates) == pytest.approx(0.01)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[110] == pytest.approx(0.005)
    assert rates[-1] < 1e-5


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(99)  # the caller's random state must not matter, nor be touched
    before = torch.random.get_rng_state()
    first = train(made_dataset(), tmp_path / "1" / "model", TINY)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(100)
    second = train(made_dataset(), tmp_path / "2" / "model", TINY)
    assert sorted(path.name for path in first.iterdir()) == ["metrics.csv", "model.json", "model.safetensors"]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    other = train(made_dataset(), tmp_path / "3" / "model", replace(TINY, seed=6))
    assert (other / "model.safetensors").read_bytes() != (first / "model.safetensors").read_bytes()


def test_network_learns_what_the_bands_tell(tmp_path: Path) -> None:
    """4 looks a pixel, 64 a square: a network that pools reaches what no single pixel can (80 % here)."""
    folder = train(
        made_dataset(24, 6), tmp_path / "model", replace(TINY, steps=120, batch=6, lr=1e-2, net_options={"width": 8, "depth": 2, "stem": 2})
    )
    model = load_model(folder)
    forward = make_forward(model.network, temperature=model.spec.temperature)
    right = []
    for index in range(40, 46):  # never seen
        power, mask = Made(50).read(index)
        normal = normalise(power, model.spec.bands)
        answer = np.array(LEGEND.codes)[forward(np.nan_to_num(normal)).argmax(0)]
        counted = (mask != 255) & ~np.isnan(power).any(0)
        right.append((answer == mask)[counted].mean())
    assert np.mean(right) > 0.9
    scores = model.spec.metrics["validation"]
    assert scores["overall_accuracy"] == pytest.approx(np.mean(right), abs=0.06)
    # 32 x 32 pixels less 6 without VV and the ignored row, in 6 patches
    assert scores["scored_pixels"] == 6 * (32 * 32 - 6 - 32)
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows if row["val_miou"]] == [60, 120]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_weights_kept_are_those_of_the_best_validation(tmp_path: Path) -> None:
    """A learning rate that ruins the network in the end must not ruin the model."""
    folder = train(made_dataset(), tmp_path / "model", replace(TINY, steps=40, validations=8, lr=0.02))
    rows = [row for row in csv.DictReader((folder / "metrics.csv").read_text().splitlines()) if row["val_miou"]]
    best = max(float(row["val_miou"]) for row in rows)
    assert load_model(folder).spec.metrics["validation"]["mean_iou"] == pytest.approx(best, abs=1e-5)


def test_one_patch_is_learnt_by_heart(tmp_path: Path) -> None:
    options = replace(TINY, steps=100, batch=2, lr=1e-2, augmentation=QUIET, net_options={"width": 16, "depth": 2, "stem": 1})
    model = load_model(train(made_dataset(1, 0), tmp_path / "model", options))
    power, mask = Made(1).read(0)
    answer = make_forward(model.network, temperature=1.0)(np.nan_to_num(normalise(power, model.spec.bands)))
    counted = (mask != 255) & ~np.isnan(power).any(0)
    assert (np.array(LEGEND.codes)[answer.argmax(0)] == mask)[counted].mean() > 0.99
    assert model.spec.temperature == 1.0
    assert model.spec.metrics == {}


def test_class_pixels_from_masks_and_from_the_index() -> None:
    dataset = made_dataset(3, 2)
    masks = np.stack([dataset.read(at)[1] for at in range(3)])
    expected = [(masks == code).sum() for code in (1, 4, 7)]
    np.testing.assert_array_equal(class_pixels(dataset, dataset.split("train")), expected)
    columns = {f"class_{code}": np.array([1, 20, 300, 4000, 50000]) * (at + 1) for at, code in enumerate((1, 4, 7))}
    indexed = replace(dataset, index={**dataset.index, **columns})
    np.testing.assert_array_equal(class_pixels(indexed, indexed.split("train")), [321, 642, 963])


@dataclass(frozen=True)
class Broken:
    """Patches of which number 3 holds an infinite value."""

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        power, mask = Made(10).read(index)
        if index == 3:
            power[1, 9, 9] = np.inf
        return power, mask


def test_loss_that_is_no_number_stops_with_the_patches_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the loss became nan at step [1-4] \[patches (\d+, )*3[,\]]"):
        train(made_dataset(10, 0, Broken()), tmp_path / "model", replace(TINY, augmentation=QUIET))
    assert not any(tmp_path.iterdir())


@dataclass(frozen=True)
class Unlabelled:
    """Patches without a label."""

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        power, mask = Made(10).read(index)
        return power, np.full_like(mask, 255)


def test_datasets_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training patches"):
        train(made_dataset(0, 4), tmp_path / "model", TINY)
    with pytest.raises(InputError, match="no pixel of the training patches has a label"):
        train(made_dataset(3, 0, Unlabelled()), tmp_path / "model", TINY)


def test_sizes_too_small_for_batch_norm_are_refused() -> None:
    network = build_network("compact_unet", bands=1, classes=2, options={"width": 4, "depth": 3, "stem": 1})
    with pytest.raises(UsageError, match=r"batch of 1 with patches of 8 x 7 leaves batch norm 1 value"):
        refuse_tiny(network, (8, 7), 1)
    refuse_tiny(network, (8, 9), 1)
    refuse_tiny(network, (8, 7), 2)
    network.train()
    with pytest.raises(ValueError, match="more than 1 value"):
        network(torch.zeros(1, 1, 8, 7))
    network(torch.zeros(1, 1, 8, 9))


def test_batch_norm_is_settled_on_whole_batches_of_the_final_weights() -> None:
    dataset = made_dataset()
    bands = tuple(BandSpec(name=band.name, scale="db", mean=band.mean, std=band.std) for band in dataset.bands)
    network = build_network("compact_unet", bands=2, classes=3, options={"width": 4, "depth": 1, "stem": 1})
    run = _Run(dataset, bands, network, TINY, TINY.steps)
    training = dataset.split("train")
    run.settle(training)
    first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    with torch.no_grad():
        means = torch.stack([first(run.batch(training, step)[0]).mean((0, 2, 3)) for step in range(16)])
    # float32 sums over 16 batches of 3 x 32 x 32 values
    torch.testing.assert_close(norm.running_mean, means.mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"steps": 0}, {"epochs": -1.0}, {"warm_up": 1.0}, {"batch": 0}])
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        TrainOptions(**wrong)  # type: ignore[arg-type]


def write_pairs(folder: Path, *, georeferenced: bool) -> None:
    """8 image and mask pairs: colour PNGs without georeference, or 4-band uint16 GeoTIFFs."""
    rng = np.random.default_rng(8)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    colors = np.array([one.color for one in LEGEND.classes], np.uint8)
    for at in range(8):
        shape = (88 + 4 * at, 100 - 3 * at)
        kind = np.kron(rng.integers(0, 3, (8, 8)), np.ones((16, 16), np.int64))[: shape[0], : shape[1]]
        if georeferenced:
            image = rng.normal(2000 + 9000 * kind, 900, (4, *shape)).clip(1, 65535).astype(np.uint16)
            place = {"crs": CRS.from_epsg(32633), "transform": Affine(10, 0, 500_000 + 5000 * at, 0, -10, 4_600_000)}
            for sub, data in (("images", image), ("masks", np.array(LEGEND.codes, np.uint8)[kind][np.newaxis])):
                profile = {"driver": "GTiff", "count": len(data), "height": shape[0], "width": shape[1], "dtype": data.dtype.name, **place}
                with rasterio.open(folder / sub / f"tile_{at}.tif", "w", **profile) as file:
                    file.write(data)
        else:
            image = rng.normal(40 + 80 * kind, 14, (3, *shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / "images" / f"tile_{at}.png")
            Image.fromarray(colors[kind]).save(folder / "masks" / f"tile_{at}.png")


@pytest.mark.parametrize("georeferenced", [False, True])
def test_pairs_become_patches_become_a_model_become_a_map(georeferenced: bool, tmp_path: Path) -> None:
    from sarseg.patches import generate_train_data

    write_pairs(tmp_path / "data", georeferenced=georeferenced)
    dataset = generate_train_data(
        nb_of_patches=40,
        size=32,
        image_dir=tmp_path / "data/images",
        mask_dir=tmp_path / "data/masks",
        out_dir=tmp_path / "dataset/train",
        legend=LEGEND,
    )
    words = ["--width", "8", "--depth", "2", "--stem", "1", "--steps", "50", "--batch", "4", "--lr", "0.01", "--threads", "1"]
    assert run(["--quiet", "train", str(dataset), "-o", str(tmp_path / "model"), *words]) == 0
    source = tmp_path / "data/images" / ("tile_5.tif" if georeferenced else "tile_5.png")
    assert run(["--quiet", "predict", str(tmp_path / "model"), str(source), "-o", str(tmp_path / "maps")]) == 0
    with _open(tmp_path / "maps/tile_5/landcover.tif", georeferenced) as file:
        codes, crs, transform = file.read(1), file.crs, file.transform
    assert codes.shape == (108, 85)
    assert set(np.unique(codes)) <= {1, 4, 7}
    if georeferenced:
        assert crs == CRS.from_epsg(32633)
        assert transform == Affine(10, 0, 525_000, 0, -10, 4_600_000)
        truth = rasterio.open(tmp_path / "data/masks/tile_5.tif").read(1)
    else:
        assert crs is None
        colors = np.asarray(Image.open(tmp_path / "data/masks/tile_5.png"))
        truth = LEGEND.codes_from_colors(colors)
    assert (codes == truth).mean() > 0.9
    assert (codes == truth)[-1].mean() > 0.8
    assert (codes == truth)[:, -1].mean() > 0.8


def _open(path: Path, georeferenced: bool):  # type: ignore[no-untyped-def]
    if georeferenced:
        return rasterio.open(path)
    with pytest.warns(NotGeoreferencedWarning):
        return rasterio.open(path)
