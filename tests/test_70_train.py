"""Training: what a batch holds, same bits twice, learning, refusals, and the stranger's case from PNG pairs to a map."""

from __future__ import annotations

import csv
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from made_patches import LEGEND, Made, made_dataset
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from sarseg.cli.main import run
from sarseg.errors import InputError, MissingError, UsageError
from sarseg.nets.infer import make_forward
from sarseg.nets.modelfile import load_model, normalise
from sarseg.nets.registry import build_network
from sarseg.train import loop
from sarseg.train.augment import Augmentation
from sarseg.train.curve import training_curve
from sarseg.train.ema import RunningMean
from sarseg.train.loop import TrainOptions, train
from sarseg.train.losses import cross_entropy
from sarseg.train.options import options_from
from sarseg.train.plan import class_pixels, learning_rate, refuse_tiny
from sarseg.train.precision import choose_precision
from sarseg.train.record import Record

torch.set_num_threads(1)

TINY = TrainOptions(net_options={"width": 6, "depth": 2, "stem": 1}, steps=12, batch=3, validations=2, threads=1, seed=5)
QUIET = Augmentation(turns=False, common_offset_db=0.0, band_offset_db=0.0)


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
    assert sorted(path.name for path in first.iterdir()) == ["metrics.csv", "model.json", "model.safetensors", "training.png"]
    for name in ("model.json", "model.safetensors", "training.png"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert [path.name for path in first.parent.iterdir()] == ["model"]
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


def test_validation_patches_without_a_label_score_nothing(tmp_path: Path) -> None:
    class Unlabelled(Made):
        def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
            power, mask = super().read(index)
            return power, mask if index < 10 else np.full_like(mask, 255)

    said: list[str] = []
    folder = train(made_dataset(patches=Unlabelled(14)), tmp_path / "model", TINY, lambda *line: said.append(line[2]))
    assert not [words for words in said if "nan" in words]
    assert {row["val_miou"] for row in csv.DictReader((folder / "metrics.csv").read_text().splitlines())} == {""}
    assert load_model(folder).spec.training["kept_step"] == TINY.steps


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
    np.testing.assert_array_equal(class_pixels(dataset, dataset.split("train")).sum(0), expected)
    columns = {f"class_{code}": np.array([1, 20, 300, 4000, 50000]) * (at + 1) for at, code in enumerate((1, 4, 7))}
    indexed = replace(dataset, index={**dataset.index, **columns})
    np.testing.assert_array_equal(class_pixels(indexed, indexed.split("train")).sum(0), [321, 642, 963])


def test_labels_of_one_class_are_refused(tmp_path: Path) -> None:
    """By networks and baselines alike: there is nothing to tell apart."""
    columns = {f"class_{code}": np.array([9, 9, 9, 9, 9]) * (code == 4) for code in (1, 4, 7)}
    dataset = made_dataset(3, 2)
    dataset = replace(dataset, index={**dataset.index, **columns})
    for net in ("tiny", "majority", "random_forest"):
        with pytest.raises(InputError, match=r"every label of the training patches is 'field' \[made\]: .*two classes or more"):
            train(dataset, tmp_path / "model", TrainOptions(net=net, threads=1))
    assert not any(tmp_path.iterdir())


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
    before = {key: value.clone() for key, value in network.eval().state_dict().items()}
    with pytest.raises(UsageError, match=r"batch of 1 with patches of 8 x 7 leaves .*: take a larger batch or larger patches"):
        refuse_tiny(network, 1, (8, 7), 1)
    refuse_tiny(network, 1, (8, 9), 1)
    refuse_tiny(network, 1, (8, 7), 2)
    assert not network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    pooling = build_network("pspnet", bands=1, classes=2, options={})
    with pytest.raises(UsageError, match=r"of 1 with patches of 64 x 64 leaves batch norm a single value a channel: take a larger batch$"):
        refuse_tiny(pooling, 1, (64, 64), 1)
    refuse_tiny(build_network("tiny", bands=1, classes=2, options={"norm": False}), 1, (1, 1), 1)  # no batch norm, no limit


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("compact_unet", {"width": 4, "depth": 2}), ("unet", {"width": 4, "depth": 2}), ("unet_resnet", {"backbone": "resnet18"}),
        ("segnet", {"width": 4}), ("fcn", {}), ("fcn", {"form": "8s"}), ("fcn", {"form": "32s"}), ("pspnet", {}),
        ("deeplabv3plus", {"backbone": "resnet18"}),
    ],
)  # fmt: skip
def test_sizes_that_batch_norm_refuses_are_found_without_computing(name: str, options: dict[str, Any]) -> None:
    network = build_network(name, bands=2, classes=3, options=options).train()
    stride = int(network.stride)  # type: ignore[arg-type]
    for count, h, w in ((1, 1, 1), (1, 1, 2), (1, stride, stride), (1, stride + 1, 1), (1, 3 * stride, 2 * stride), (2, 1, 1)):
        refused = False
        try:
            network(torch.randn(count, 2, h, w))
        except ValueError as error:
            assert "more than 1 value per channel" in str(error)  # noqa: PT017 whether it comes is what is asked
            refused = True
        with pytest.raises(UsageError) if refused else nullcontext():
            refuse_tiny(network, 2, (h, w), count)
        assert not refused or count == 1
        if (h, w) == (3 * stride, 2 * stride):
            assert refused == network.pools_globally  # one image is not enough, however large


def training(options: TrainOptions, dataset: object = None) -> loop.Training:
    """A training before its first step."""
    torch.manual_seed(options.seed)
    return loop.Training(dataset or made_dataset(), options, *loop._fabric(None, options))  # type: ignore[arg-type]


def test_batch_norm_is_settled_on_whole_batches_of_the_final_weights() -> None:
    one = training(replace(TINY, net_options={"width": 4, "depth": 1, "stem": 1}))
    loop.settle(one.network, one.settling(), one.forward_only)
    first = next(module for module in one.network.modules() if isinstance(module, torch.nn.Conv2d))
    norm = next(module for module in one.network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    with torch.no_grad():
        means = [first(one.prepared(one.whole[step], one.whole, step)[0]).mean((0, 2, 3)) for step in range(16)]  # type: ignore[arg-type]
    # float32 sums over 16 batches of 3 x 32 x 32 values
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1


@pytest.mark.parametrize("weights", ["none", "inverse-sqrt"])
@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_micro_batches_add_up_to_the_batch(loss: str, weights: str) -> None:
    """Without batch norm and dropout the cut must not matter, although each patch has another number of labels."""
    plain = TrainOptions(net="tiny", net_options={"norm": False, "dropout": 0.0}, batch=6, loss=loss, class_weights=weights, threads=1)  # type: ignore[arg-type]
    gradients, losses = [], []
    for micro in (6, 3, 1):
        one = training(replace(plain, micro_batch=micro), made_dataset(10, 0, Made(10, sparse=True)))
        loss_of_step = one.accumulate(0, *one.prepared(one.patches[0], one.patches, 0))  # type: ignore[arg-type]
        assert loss_of_step is not None
        losses.append(float(loss_of_step))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in one.parameters if parameter.grad is not None]))
    scale = float(gradients[0].abs().max())
    for gradient, value in zip(gradients[1:], losses[1:], strict=True):
        assert value == pytest.approx(losses[0], rel=1e-5)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-6 * scale)


def test_an_auxiliary_head_counts_by_its_weight() -> None:
    one = training(TrainOptions(net="tiny", net_options={"aux": True, "dropout": 0.0}, batch=2, threads=1))
    images, target = one.prepared(one.patches[0], one.patches, 0)  # type: ignore[arg-type]
    assert not images.isnan().any()
    answer = one.network.train()(images)
    expected = cross_entropy(answer["out"], target) + 0.5 * cross_entropy(answer["aux"], target)
    assert one.objective(images, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_running_mean_equals_its_definition() -> None:
    network, rng = torch.nn.Linear(2, 1, bias=False), np.random.default_rng(0)
    network.weight.data[:] = torch.tensor([1.0, 2.0])
    running, expected = RunningMean(network, 0.6), np.array([1.0, 2.0])
    for step in range(1, 30):
        weights = rng.normal(size=2)
        network.weight.data[:] = torch.from_numpy(weights)
        running.update(step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights
    with running.in_place():
        np.testing.assert_allclose(network.weight.detach().numpy()[0], expected, rtol=1e-5)
    np.testing.assert_allclose(network.weight.detach().numpy()[0], weights, rtol=1e-6)


def test_running_mean_is_what_is_kept(tmp_path: Path) -> None:
    """At a learning rate that makes the weights jump, their mean is another network."""
    options = replace(TINY, net="tiny", net_options={}, steps=30, lr=0.05, validations=1)
    plain, mean = (load_model(train(made_dataset(), tmp_path / str(ema), replace(options, ema=ema))) for ema in (0.0, 0.9))
    assert not torch.equal(plain.network.state_dict()["head.weight"], mean.network.state_dict()["head.weight"])
    assert mean.spec.metrics["validation_loss"] != plain.spec.metrics["validation_loss"]


def test_memory_that_does_not_suffice_halves_the_micro_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rest of the run is that of the smaller micro-batch, to the bit: samples, order and number of steps stay."""
    options = TrainOptions(net="tiny", net_options={"limit": 2}, batch=8, steps=9, validations=1, threads=1, seed=2)
    short = train(made_dataset(), tmp_path / "short", options)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "the device's memory does not hold micro-batches of 8: they are of 4 from now on",
        "the device's memory does not hold micro-batches of 4: they are of 2 from now on",
    ]
    said = load_model(short).spec.training
    assert (said["micro_batch"], said["micro_batch_was_halved"], said["samples_seen"]) == (2, True, 72)
    small = train(made_dataset(), tmp_path / "small", replace(options, micro_batch=2))
    assert (short / "model.safetensors").read_bytes() == (small / "model.safetensors").read_bytes()


class NoMemory(torch.nn.Module):
    """It holds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_for_nothing_is_said() -> None:
    one = training(TrainOptions(net="tiny", batch=6, threads=1))
    one.forward = NoMemory()
    with pytest.raises(MissingError, match="does not hold micro-batches of 1: take smaller patches"):
        one.step(0, one.patches[0])  # type: ignore[arg-type]
    one.micro, one.shape = 2, (1, 1)
    with pytest.raises(MissingError, match="micro-batches of 2, and a batch of 1 with patches of 1 x 1 leaves batch norm a single value"):
        one.step(0, one.patches[0])  # type: ignore[arg-type]


def test_patience_ends_a_training_early(tmp_path: Path) -> None:
    """A network that is frozen after its first steps gets no better."""
    options = replace(TINY, steps=60, validations=20, lr=1e-12, patience=3)
    spec = load_model(train(made_dataset(), tmp_path / "model", options)).spec
    assert spec.training["stopped_early"] is True
    assert spec.training["steps"] == 12  # four validations, a step of three: the first, and three no better


@pytest.mark.parametrize(
    ("has", "format_", "reason"),
    [
        ((), "float32", "no units"),
        (("_is_avx512_bf16_supported",), "bfloat16", "AVX512-BF16"),
        (("_is_amx_tile_supported",), "bfloat16", "AMX"),
    ],
)
def test_precision_is_what_the_processor_computes_well(
    has: tuple[str, ...], format_: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, question, lambda answer=question in has: answer)
    found = choose_precision(torch.device("cpu"), "auto")
    assert found.format == format_
    assert reason in found.reason
    assert choose_precision(torch.device("cpu"), "float32").format == "float32"
    with pytest.raises(UsageError, match="float16 does not train on a CPU"):
        choose_precision(torch.device("cpu"), "float16")


@pytest.mark.parametrize(("capability", "format_"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")])
def test_precision_of_a_gpu(capability: tuple[int, int], format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision(torch.device("cuda"), "auto").format == format_


def test_bfloat16_trains_and_keeps_float32_weights(tmp_path: Path) -> None:
    half = replace(TINY, precision="bfloat16", augmentation=QUIET)
    spec = load_model(train(made_dataset(), tmp_path / "half", half)).spec
    assert (spec.training["precision"], spec.training["precision_reason"]) == ("bfloat16", "as asked for")
    model = load_model(train(made_dataset(), tmp_path / "whole", replace(half, precision="float32")))
    other = load_model(tmp_path / "half").network.state_dict()["head.weight"]
    assert other.dtype == torch.float32
    assert not torch.equal(other, model.network.state_dict()["head.weight"])


def test_training_curve_opens_and_shows_lines(tmp_path: Path) -> None:
    folder = train(made_dataset(), tmp_path / "model", TINY)
    with Image.open(folder / "training.png") as picture:
        assert picture.size == (800, 700)
        shown = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for color in ((31, 119, 180), (44, 160, 44), (214, 39, 40)):  # matplotlib's blue, green, red: loss, IoU, learning rate
        assert (np.abs(shown.astype(int) - color).max(1) < 3).sum() > 50, color
    assert training_curve([], best_step=0).startswith(b"\x89PNG")
    assert training_curve([{"step": 1, "lr": 0.1, "loss": 2.0}], best_step=0).startswith(b"\x89PNG")


def test_tensorboard_gets_the_log(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    folder = train(made_dataset(), tmp_path / "model", TINY, tensorboard=tmp_path / "events")
    (file,) = (tmp_path / "events").iterdir()
    said = {}
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            said[value.tag, event.step] = value.tensor.float_val[0]
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert {step for _, step in said} == {int(row["step"]) for row in rows}
    assert said["training/loss", 12] == pytest.approx(float(rows[-1]["loss"]), rel=1e-5)
    assert said["validation/val_miou", 12] == pytest.approx(float(rows[-1]["val_miou"]), rel=1e-5)


def test_progress_says_rate_and_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 110.0, 120.0, 130.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    said: list[tuple[int, int, str]] = []
    record = Record(lambda *line: said.append(line), steps=50, batch=8, tensorboard=None)
    record.start(20)
    record.tell(25, 0.5)
    record.best = 0.75
    record.tell(30, 0.25)
    # 5 steps of 8 patches in 10 s, then 10 in 20 s
    assert said == [
        (25, 50, "train, loss 0.500, 4 patches/s, 0:50 left"),
        (30, 50, "train, loss 0.250, mIoU 0.750, 4 patches/s, 0:40 left"),
    ]


CONFIG = """# a run
net: fcn
net_options: {depth: 50}
steps: 20
ema: 0.9
augmentation_turns: false
micro_batch: 2
"""


def test_options_from_a_file_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    options = options_from(path, {"steps": 7, "net_options": {"stem": "deep"}})
    assert options == TrainOptions(
        net="fcn", net_options={"depth": 50, "stem": "deep"}, steps=7, ema=0.9, augmentation=Augmentation(turns=False), micro_batch=2
    )
    assert options_from(path, {"net": "unet"}).net_options == {}
    assert options_from(None, {}) == TrainOptions()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stepz: 3", r"unknown key 'stepz' \[.*run.yaml:8\]: did you mean 'steps'"),
        ("augmentation_turn: true", r"unknown key 'augmentation_turn' \[.*:8\]: did you mean 'augmentation_turns'"),
        ("lr: fast", r"key 'lr': .* \[.*run.yaml:8\]: the file says 'fast'"),
        ("lr: -1", r"lr is -1"),
        ("precision: float8", r"key 'precision': .* \[.*run.yaml:8\]"),
        ("- lr", r"is not YAML"),
    ],
)
def test_faults_of_a_configuration_name_the_line(line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{CONFIG}{line}\n")
    with pytest.raises(UsageError, match=said):
        options_from(path, {})
    assert run(["train", str(tmp_path), "-o", str(tmp_path / "model"), "--config", str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_training_starts_from_pretrained_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from sarseg.nets.resnet import ResNet

    torch.manual_seed(8)
    source = ResNet("resnet18", bands=2).state_dict()
    save_file(source, tmp_path / "encoder.safetensors")
    options = TrainOptions(
        net="unet_resnet",
        net_options={"backbone": "resnet18"},
        weights=str(tmp_path / "encoder.safetensors"),
        steps=1,
        batch=2,
        lr=1e-9,
        weight_decay=0.0,
        threads=1,
    )
    folder = train(made_dataset(2, 0), tmp_path / "model", options)
    trained = load_file(folder / "model.safetensors")
    for name in ("conv1.weight", "layer4.1.conv2.weight"):
        torch.testing.assert_close(trained[f"backbone.{name}"], source[name], rtol=0, atol=1e-7)
    spec = load_model(folder).spec
    assert spec.mlm["mlm:pretrained"] is True
    assert "loaded" in " ".join(spec.training["pretrained_report"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lr": 0.0}, "lr is 0.0: above 0"),
        ({"steps": 0}, "steps is 0: at least 1"),
        ({"epochs": -1.0}, "epochs is -1.0: above 0"),
        ({"warm_up": 1.0}, "warm_up is 1.0"),
        ({"batch": 0}, "batch is 0"),
        ({"ema": 1.0}, "ema is 1.0: from 0 to below 1"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"patience": 0}, "patience is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"precision": "float8"}, "precision is 'float8': one of auto"),
        ({"micro_batch": 3}, "micro_batch 3 does not divide the 8 samples of a device"),
        ({"devices": 3}, "a batch of 8 does not go onto 3 devices"),
        ({"devices": 2, "micro_batch": 8}, "micro_batch 8 does not divide the 4 samples"),
        ({"weights_sha256": "abc"}, "weights_sha256 is no SHA-256"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
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
    words = [
        "--net-option",
        "width=8",
        "--net-option",
        "depth=2",
        "--net-option",
        "stem=1",
        "--steps",
        "50",
        "--batch",
        "4",
        "--lr",
        "0.01",
        "--threads",
        "1",
    ]
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
