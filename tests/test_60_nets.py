"""Networks and model folders: shapes, overfitting, and refusal of what is no model of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sarseg.errors import InputError, UsageError
from sarseg.legend import LandClass, Legend
from sarseg.nets.compact import CompactUNet, CompactUNetConfig
from sarseg.nets.modelfile import BandSpec, ModelSpec, load_model, normalise, read_spec, save_model
from sarseg.nets.registry import build_network, complete_options
from sarseg.train.losses import best_temperature, cross_entropy, inverse_sqrt_weights

torch.set_num_threads(1)  # tiny tensors: more threads would only wait for each other

LEGEND = Legend(
    (
        LandClass(code=2, name="water", color=(0, 0, 250)),
        LandClass(code=5, name="bare <soil>", color=(200, 150, 90)),
        LandClass(code=9, name="forest", color=(0, 120, 10)),
    )
)
BANDS = (BandSpec(name="VV", scale="db", mean=-11.5, std=4.25), BandSpec(name="incidence", scale="raw", mean=38.0, std=2.5))
SMALL = {"width": 4, "depth": 2, "stem": 1}


def small_model(seed: int = 3) -> tuple[nn.Module, ModelSpec]:
    torch.manual_seed(seed)
    network = build_network("compact_unet", bands=2, classes=3, options=SMALL)
    return network, ModelSpec(network="compact_unet", options=SMALL, bands=BANDS, legend=LEGEND, temperature=1.5, training={"steps": 7})


@pytest.mark.parametrize(("stem", "depth"), [(1, 0), (1, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 7), (9, 2), (33, 20)])
def test_compact_unet_takes_any_size(stem: int, depth: int, h: int, w: int) -> None:
    network = CompactUNet(CompactUNetConfig(bands=5, classes=3, width=6, depth=depth, stem=stem)).eval()
    x = torch.randn(2, 5, h, w)
    with torch.inference_mode():
        logits = network(x)
    assert logits.shape == (2, 3, h, w)
    assert bool(torch.isfinite(logits).all())


def test_compact_unet_sees_context_but_moves_with_the_image() -> None:
    """A shift by the stride shifts the answer: nothing in the network knows where it is."""
    torch.manual_seed(0)
    network = CompactUNet(CompactUNetConfig(bands=1, classes=2, width=4, depth=2, stem=2)).eval()
    x = torch.randn(1, 1, 96, 112)
    with torch.inference_mode():
        whole, moved = network(x), network(x[:, :, 8:, 16:])
    # 40 pixels from the cut the reach of the convolutions has ended
    torch.testing.assert_close(whole[:, :, 48:, 56:], moved[:, :, 40:, 40:], rtol=1e-5, atol=1e-6)


def test_compact_unet_learns_one_patch_by_heart() -> None:
    torch.manual_seed(1)
    rng = np.random.default_rng(4)
    image = torch.from_numpy(rng.standard_normal((1, 2, 64, 64)).astype("f4")).repeat(2, 1, 1, 1)
    target = torch.from_numpy(np.kron(rng.integers(0, 3, (8, 8)), np.ones((8, 8), np.int64)))[np.newaxis].repeat(2, 1, 1)
    network = CompactUNet(CompactUNetConfig(bands=2, classes=3, width=16, depth=2, stem=2))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        cross_entropy(network(image), target).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    right = (network(image).argmax(1) == target).float().mean()
    assert float(right) > 0.99


def test_unknown_network_and_options_are_refused() -> None:
    with pytest.raises(UsageError, match="no network 'resnext'"):
        build_network("resnext", bands=1, classes=2, options={})
    with pytest.raises(UsageError, match="colour"):
        build_network("compact_unet", bands=1, classes=2, options={"colour": 3})
    with pytest.raises(UsageError, match="depth is -1"):
        build_network("compact_unet", bands=1, classes=2, options={"depth": -1})
    assert set(complete_options("compact_unet", {"width": 7})) == {"width", "depth", "stem"}
    assert complete_options("compact_unet", {"width": 7})["width"] == 7


def test_model_folder_gives_the_network_back(tmp_path: Path) -> None:
    network, spec = small_model()
    x = torch.randn(1, 2, 13, 21)
    network.train()
    network(x)  # the running statistics of batch norm travel too
    folder = save_model(tmp_path / "model", network, spec, files={"metrics.csv": "step\n"})
    model = load_model(folder)
    with torch.inference_mode():
        assert torch.equal(model.network(x), network.eval()(x))
    assert model.spec.legend == LEGEND
    assert model.spec.bands == BANDS
    assert (model.spec.temperature, model.spec.options) == (1.5, SMALL)
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.csv", "model.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_model_folder_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, second = (save_model(tmp_path / name, *small_model()) for name in ("a", "b"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_normalise_is_decibel_minus_mean_over_deviation() -> None:
    power = np.array([[0.1, np.nan, -3e-7]], np.float32)
    angle = np.array([[38.0, 40.5, np.nan]], np.float32)
    got = normalise(np.stack([power, angle]), BANDS)
    np.testing.assert_allclose(got[0], [[(-10 + 11.5) / 4.25, np.nan, (-50 + 11.5) / 4.25]], rtol=1e-6)
    np.testing.assert_allclose(got[1], [[0.0, 1.0, np.nan]], rtol=1e-6)


def edit(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, **changes}))


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def cut(folder: Path) -> None:
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text[: len(text) // 2])


def pickle_weights(folder: Path) -> None:
    torch.save({"weight": torch.ones(3)}, folder / "model.safetensors")


def pickle_beside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.pth")


BROKEN = {
    "one bit of the weights": (flip_a_byte, "not those that the model was saved with"),
    "half a json": (cut, "cannot be read as JSON"),
    "pickled weights under our name": (pickle_weights, "pickled weights are not opened"),
    "pickled weights": (pickle_beside, "pickled weights are not opened"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"model.json or model.safetensors is absent"),
    "no spec": (lambda folder: (folder / "model.json").unlink(), r"model.json or model.safetensors is absent"),
    "another width": (lambda folder: edit(folder, options={**SMALL, "width": 5}), "do not fit network 'compact_unet'"),
    "an unknown network": (lambda folder: edit(folder, network="vit"), "no network 'vit'"),
    "an unknown option": (lambda folder: edit(folder, options={"heads": 5}), "cannot be built"),
    "a missing band": (lambda folder: edit(folder, bands=[BANDS[0].model_dump()]), "do not fit network 'compact_unet'"),
    "no bands": (lambda folder: edit(folder, bands=[]), "bands: "),
    "a band without scale": (lambda folder: edit(folder, bands=[{"name": "VV", "mean": 0, "std": 1}]), "bands.0.scale"),
    "a deviation of zero": (lambda folder: edit(folder, bands=[{**BANDS[0].model_dump(), "std": 0.0}]), "bands.0.std"),
    "a class too few": (lambda folder: edit(folder, legend=Legend(LEGEND.classes[:2]).to_dict()), "do not fit network 'compact_unet'"),
    "a temperature of zero": (lambda folder: edit(folder, temperature=0), "temperature"),
    "another format": (lambda folder: edit(folder, format=2), "model format 2 is not 1"),
    "a list": (lambda folder: (folder / "model.json").write_text("[1]"), "the file"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("good") / "model", *small_model())


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_model_is_refused_in_one_line(fault: str, good: Path, tmp_path: Path) -> None:
    breaks, says = BROKEN[fault]
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    load_model(folder)
    breaks(folder)
    with pytest.raises(InputError, match=says) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        read_spec(tmp_path / "absent")
    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="pickled"):
        read_spec(tmp_path / "weights.pth")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="not ours to replace"):
        save_model(tmp_path / "notes", *small_model())
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["diary.txt"]


def test_cross_entropy_equals_brute_force() -> None:
    rng = np.random.default_rng(5)
    logits, target = rng.standard_normal((2, 3, 4, 5)).astype("f4"), rng.integers(0, 3, (2, 4, 5))
    target[0, :2] = 255
    weights = np.array([0.5, 2.0, 1.25], np.float32)
    total = share = 0.0
    for n, r, c in np.ndindex(2, 4, 5):
        if target[n, r, c] != 255:
            z = logits[n, :, r, c].astype("f8")
            total -= weights[target[n, r, c]] * (z[target[n, r, c]] - np.log(np.exp(z).sum()))
            share += weights[target[n, r, c]]
    got = cross_entropy(torch.from_numpy(logits), torch.from_numpy(target), torch.from_numpy(weights))
    assert float(got) == pytest.approx(total / share, rel=1e-5)
    nothing = torch.full((2, 4, 5), 255)
    assert float(cross_entropy(torch.from_numpy(logits), nothing)) == 0.0


def test_class_weights_go_with_the_inverse_root_of_the_share() -> None:
    weights = inverse_sqrt_weights(np.array([100, 400, 0]))
    assert weights[0] / weights[1] == pytest.approx(2.0)
    assert weights[2] == 0.0
    assert (weights[0] * 100 + weights[1] * 400) / 500 == pytest.approx(1.0)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.6])
def test_temperature_is_found_again(true_temperature: float) -> None:
    """Labels are drawn from softmax(logits / T), so T is the best temperature up to the sampling error."""
    rng = np.random.default_rng(6)
    logits = rng.standard_normal((40_000, 4)) * 2.0
    chance = np.exp(logits / true_temperature)
    chance /= chance.sum(1, keepdims=True)
    target = (chance.cumsum(1) < rng.random((len(chance), 1))).sum(1)
    target[:100] = 255
    got = best_temperature(torch.from_numpy(logits.astype("f4")), torch.from_numpy(target))
    assert got == pytest.approx(true_temperature, rel=0.04)


def test_temperature_without_labels_is_one() -> None:
    assert best_temperature(torch.zeros(3, 2), torch.full((3,), 255)) == 1.0
