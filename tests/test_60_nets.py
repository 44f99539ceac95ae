"""Networks and model folders: shapes, overfitting, and refusal of what is no model of ours."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import torch
from pystac.extensions.mlm import MLMExtension, ModelBand, ValueScaling
from safetensors.torch import load_file, save
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
    said: dict[str, Any] = {"temperature": 1.5, "training": {"steps": 7}}
    return network, ModelSpec(network="compact_unet", options=SMALL, bands=BANDS, quantity="power", legend=LEGEND, **said)


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
    assert set(complete_options("compact_unet", {"width": 7})) == {"width", "depth", "stem", "dropout"}
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


def test_files_beside_the_model_are_text_or_bytes(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", *small_model(), files={"metrics.csv": "step\nä\n", "curve.png": b"\x89PNG\r\n\x00"})
    assert (folder / "metrics.csv").read_bytes() == "step\nä\n".encode()
    assert (folder / "curve.png").read_bytes() == b"\x89PNG\r\n\x00"
    load_model(folder)


def test_quantity_is_kept_and_never_guessed(tmp_path: Path) -> None:
    """Values that a product calls raw may be seen in dB all the same."""
    network, _ = small_model()
    spec = ModelSpec(network="compact_unet", options=SMALL, bands=BANDS, legend=LEGEND, quantity="raw")
    assert load_model(save_model(tmp_path / "m", network, spec)).spec.quantity == "raw"


def test_mlm_fields_are_read_by_pystac(tmp_path: Path) -> None:
    """STAC's Machine Learning Model extension, read by other software; the pattern of names is its schema's."""
    torch.manual_seed(0)
    bands = (
        BandSpec(name="T11", scale="db", mean=-22.0, std=4.5),
        BandSpec(name="T22", scale="linear", mean=0.3, std=0.2),
        BandSpec(name="T12_real", scale="correlation", mean=0.1, std=0.4, diagonals=("T11", "T22")),
        BandSpec(name="angle", scale="raw", mean=38.0, std=2.5),
    )
    network = build_network("compact_unet", bands=4, classes=3, options=SMALL)
    said = {"pretrained": "SSL4EO-S12"}
    versions = {"torch": "2.13.0+cpu"}
    spec = ModelSpec(
        network="compact_unet", options=SMALL, bands=bands, legend=LEGEND, temperature=1.5, training=said, versions=versions, quantity="raw"
    )
    fields = read_spec(save_model(tmp_path / "model", network, spec)).mlm
    item = pystac.Item("model", None, None, datetime(2020, 1, 1, tzinfo=UTC), fields)
    mlm = MLMExtension.ext(item, add_if_missing=True)
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", mlm.mlm_name)
    assert (mlm.architecture, mlm.framework, mlm.framework_version) == ("U-Net", "PyTorch", "2.13.0+cpu")
    assert mlm.tasks == ["semantic-segmentation"]
    assert mlm.total_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert (mlm.pretrained, mlm.pretrained_source) == (True, "SSL4EO-S12")
    (entry,) = mlm.input
    assert entry.input.shape == [-1, 4, -1, -1]
    assert entry.input.dim_order == ["batch", "channel", "height", "width"]
    values = np.array([0.02, 0.08, 0.01, 40.0], np.float32)
    words: dict[str, Any] = {"log10": np.log10, "maximum": np.maximum, "clip": np.clip, "sqrt": np.sqrt}
    words |= dict(zip(spec.band_names, values.tolist(), strict=True))
    scaling = [ValueScaling(one) for one in fields["mlm:input"][0]["value_scaling"]]
    want = normalise(values[:, np.newaxis, np.newaxis], bands)[:, 0, 0]
    for at, band in enumerate(ModelBand(one) for one in fields["mlm:input"][0]["bands"]):
        mean, deviation = scaling[at].mean, scaling[at].stddev
        assert (band.name, scaling[at].type) == (bands[at].name, "z-score")
        assert mean is not None
        assert deviation is not None
        assert (eval(band.expression or band.name, words) - mean) / deviation == pytest.approx(want[at], rel=1e-5)
    (answer,) = mlm.output
    assert answer.result.shape == [-1, 3, -1, -1]
    classes = [(one.value, one.name, one.description, one.color_hint) for one in answer.classes or []]
    assert classes[1] == (5, "bare_soil", "bare <soil>", "C8965A")
    assert [one[0] for one in classes] == [2, 5, 9]
    assert mlm.hyperparameters is not None


def test_normalise_needs_every_band() -> None:
    with pytest.raises(ValueError, match="1 bands of values, but the model takes 2"):
        normalise(np.ones((1, 3, 3), np.float32), BANDS)


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


def truncate(folder: Path) -> None:
    resave(folder, (folder / "model.safetensors").read_bytes()[:-100])


def extra_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    resave(folder, save({**weights, "more.weight": torch.ones(3)}))


def missing_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(max(weights))
    resave(folder, save(weights))


def resave(folder: Path, data: bytes) -> None:
    """With a checksum that fits, so that the weights themselves are looked at."""
    (folder / "model.safetensors").write_bytes(data)
    edit(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def put(folder: Path, old: str, new: str) -> None:
    text = (folder / "model.json").read_text()
    assert old in text
    (folder / "model.json").write_text(text.replace(old, new))


def write_spec(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.json").write_text(text)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated weights": (truncate, "do not fit network 'compact_unet'"),
    "a tensor too many": (extra_tensor, "do not fit network 'compact_unet'.*more.weight"),
    "a tensor too few": (missing_tensor, "do not fit network 'compact_unet'"),
    "a number": (write_spec("7"), "is no model.json of sarseg"),
    "a null": (write_spec("null"), "is no model.json of sarseg"),
    "a deep nest": (write_spec("[" * 100_000), "cannot be read as JSON"),
    "a number of 5000 digits": (write_spec('{"format": ' + "9" * 5000 + "}"), "cannot be read as JSON"),
    "a mean beyond float64": (lambda folder: put(folder, "-11.5", "-1e999"), "bands.0.mean"),
    "a mean beyond float32": (lambda folder: put(folder, "-11.5", "-1e300"), "bands.0.mean"),
    "a mean that is no number": (lambda folder: put(folder, "-11.5", "NaN"), "bands.0.mean"),
    "a huge option": (lambda folder: edit(folder, options={**SMALL, "width": 4096}), "do not fit network 'compact_unet'.*values"),
    "an option beyond int64": (lambda folder: edit(folder, options={**SMALL, "width": 10**30}), "compact_unet"),
    "an option that is text": (
        lambda folder: edit(folder, options={**SMALL, "width": "wide"}),
        "option 'width' .* is 'wide'.*whole number",
    ),
    "an option that is a fraction": (lambda folder: edit(folder, options={**SMALL, "width": 4.5}), "option 'width' .* is 4.5"),
    "an option that is a list": (lambda folder: edit(folder, options={**SMALL, "width": [4]}), "options.width"),
    "options that are a list": (lambda folder: edit(folder, options=[4]), "options"),
    "an unknown entry": (lambda folder: edit(folder, code="print(1)"), "code"),
    "an unknown scale": (lambda folder: edit(folder, bands=[{**BANDS[0].model_dump(), "scale": "log"}]), "bands.0.scale"),
    "an unknown quantity": (lambda folder: edit(folder, quantity="phase"), "quantity"),
    "no quantity": (lambda folder: edit(folder, quantity=None), "quantity"),
    "no word of the quantity": (lambda folder: put(folder, '"quantity"', '"comment"'), "quantity: Field required"),
    "one band twice": (lambda folder: edit(folder, bands=[BANDS[0].model_dump()] * 2), "band VV stands twice"),
    "a correlation alone": (
        lambda folder: edit(folder, bands=[{**BANDS[0].model_dump(), "scale": "correlation"}, BANDS[1].model_dump()]),
        "its diagonal elements are not known",
    ),
    "a correlation with a band that is not there": (
        lambda folder: edit(
            folder, bands=[{**BANDS[0].model_dump(), "scale": "correlation", "diagonals": ["HH", "VV"]}, BANDS[1].model_dump()]
        ),
        "its diagonal element HH is not among the bands",
    ),
    "a colour without end": (lambda folder: put(folder, "250", "1e999"), "legend"),
    "a legend that is text": (lambda folder: edit(folder, legend="three"), "legend"),
    "one bit of the weights": (flip_a_byte, "not those that the model was saved with"),
    "half a json": (cut, "cannot be read as JSON"),
    "pickled weights under our name": (pickle_weights, "pickled weights are not opened"),
    "pickled weights": (pickle_beside, "pickled weights are not opened"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"model.json or model.safetensors is absent"),
    "no spec": (lambda folder: (folder / "model.json").unlink(), r"model.json or model.safetensors is absent"),
    "another width": (lambda folder: edit(folder, options={**SMALL, "width": 5}), "do not fit network 'compact_unet'"),
    "an unknown network": (lambda folder: edit(folder, network="vit"), "no network 'vit'"),
    "an unknown option": (lambda folder: edit(folder, options={"heads": 5}), "has no option 'heads'"),
    "a missing band": (lambda folder: edit(folder, bands=[BANDS[0].model_dump()]), "do not fit network 'compact_unet'"),
    "no bands": (lambda folder: edit(folder, bands=[]), "bands: "),
    "a band without scale": (lambda folder: edit(folder, bands=[{"name": "VV", "mean": 0, "std": 1}]), "bands.0.scale"),
    "a deviation of zero": (lambda folder: edit(folder, bands=[{**BANDS[0].model_dump(), "std": 0.0}]), "bands.0.std"),
    "a class too few": (lambda folder: edit(folder, legend=Legend(LEGEND.classes[:2]).to_dict()), "do not fit network 'compact_unet'"),
    "a temperature of zero": (lambda folder: edit(folder, temperature=0), "temperature"),
    "somebody else's json": (write_spec('{"model": "resnet"}'), "is no model.json of sarseg"),
    "another format": (lambda folder: edit(folder, format=2), "model format 2 is not 1"),
    "a list": (lambda folder: (folder / "model.json").write_text("[1]"), "is no model.json of sarseg"),
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
