"""Residual networks and what stands on them: sizes, names and outputs of torchvision, counts of the authors' PSPNet."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sarseg.errors import UsageError
from sarseg.nets.deeplab import DeepLabV3Plus, DeepLabV3PlusConfig
from sarseg.nets.fcn import FCN, FCNConfig
from sarseg.nets.pspnet import PSPNet, PSPNetConfig, bin_means
from sarseg.nets.registry import build_network, complete_options
from sarseg.nets.resnet import ResNet

torch.set_num_threads(1)

RESNETS = {"resnet18": (11_689_512, 122), "resnet34": (21_797_672, 218), "resnet50": (25_557_032, 320), "resnet101": (44_549_160, 626)}


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


def weightless(name: str, bands: int, classes: int, **options: Any) -> Any:
    """A network whose tensors have shapes but no memory."""
    with torch.device("meta"):
        return build_network(name, bands=bands, classes=classes, options=options)


# sizes: torchvision 0.29.2 and hszhao/semseg 4f274c3, counted by running them


@pytest.mark.parametrize("backbone", RESNETS)
def test_resnet_has_torchvisions_size(backbone: Any) -> None:
    parameters, tensors = RESNETS[backbone]
    with torch.device("meta"):
        networks = {bands: ResNet(backbone, bands=bands, fc=1000) for bands in (2, 3, 7)}
        bare = ResNet(backbone, bands=3)
    for bands, network in networks.items():
        assert (count(network), len(network.state_dict())) == (parameters + (bands - 3) * 3136, tensors)
    assert count(bare) == parameters - bare.channels[-1] * 1000 - 1000


def test_sentinel1_resnet50_has_the_published_size() -> None:
    with torch.device("meta"):
        assert count(ResNet("resnet50", bands=2)) == 23_504_896


@pytest.mark.parametrize(
    ("backbone", "parameters", "aux", "bands", "classes"),
    [
        ("resnet50", 32_957_013, 2_365_205, 3, 21),
        ("resnet50", 32_957_013, 2_365_205, 1, 2),
        ("resnet50", 32_957_013, 2_365_205, 9, 150),
        ("resnet101", 51_949_141, 2_365_205, 2, 5),
    ],
)
def test_fcn_has_torchvisions_size(backbone: str, parameters: int, aux: int, bands: int, classes: int) -> None:
    wanted = parameters + (bands - 3) * 3136 + (classes - 21) * 513
    plain, double = (weightless("fcn", bands, classes, backbone=backbone, aux=flag) for flag in (False, True))
    assert count(plain) == wanted
    assert count(double) == wanted + aux + (classes - 21) * 257
    tensors = {"resnet50": 326, "resnet101": 632}[backbone]
    assert (len(plain.state_dict()), len(double.state_dict())) == (tensors, tensors + 8)
    assert count(weightless("fcn", bands, classes, backbone=backbone, form="32s")) == wanted
    # a score with bias from layer2 (512 channels) and from layer3 (1024)
    assert count(weightless("fcn", bands, classes, backbone=backbone, form="8s")) == wanted + classes * (513 + 1025)


@pytest.mark.parametrize(
    ("backbone", "bands", "classes", "parameters"),
    [
        ("resnet50", 3, 19, 49_080_038),
        ("resnet50", 3, 21, 49_081_578),
        ("resnet50", 3, 150, 49_180_908),
        ("resnet50", 2, 6, 49_081_578 - 64 * 9 - 15 * (513 + 257)),
        ("resnet101", 3, 19, 68_072_166),
        ("resnet101", 3, 150, 68_173_036),
        ("resnet101", 1, 21, 68_073_706 - 2 * 64 * 9),
    ],
)
def test_pspnet_has_the_authors_size(backbone: str, bands: int, classes: int, parameters: int) -> None:
    network = weightless("pspnet", bands, classes, backbone=backbone)
    assert count(network) == parameters
    assert count(network.pyramid) == 4_198_400
    assert count(network.aux_classifier) == 2_365_205 + (classes - 21) * 257


def test_pspnet_with_the_plain_stem_takes_torchvisions_backbone() -> None:
    network = weightless("pspnet", 2, 5, stem="plain")
    assert count(network.backbone) == 23_504_896
    assert network.backbone.conv1.weight.shape == (64, 2, 7, 7)


@pytest.mark.parametrize(
    ("backbone", "low", "high"), [("resnet18", 64, 512), ("resnet34", 64, 512), ("resnet50", 256, 2048), ("resnet101", 256, 2048)]
)
def test_deeplab_has_the_size_of_its_description(backbone: str, low: int, high: int) -> None:
    def convolution(before: int, after: int, side: int) -> int:
        return before * after * side**2 + 2 * after

    aspp = 2 * convolution(high, 256, 1) + 3 * convolution(high, 256, 3) + convolution(5 * 256, 256, 1)
    decoder = convolution(low, 48, 1) + convolution(256 + 48, 256, 3) + convolution(256, 256, 3)
    network = weightless("deeplabv3plus", 2, 7, backbone=backbone)
    encoder = RESNETS[backbone][0] - (high * 1000 + 1000) - 3136
    assert count(network) == encoder + aspp + decoder + 256 * 7 + 7


def strides_and_dilations(network: nn.Module) -> dict[str, tuple[int, int]]:
    """(stride, dilation) of every convolution where one of them is not 1."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            stride, dilation = module.stride[0], module.dilation[0]
            assert module.padding == (dilation * (module.kernel_size[0] // 2),) * 2
            if (stride, dilation) != (1, 1):
                found[name] = (stride, dilation)
    return found


def test_strides_and_dilations_are_the_published_ones() -> None:
    early = {"conv1": (2, 1), "layer2.0.conv2": (2, 1), "layer2.0.downsample.0": (2, 1)}
    layer3 = {f"layer3.{at}.conv2": (1, 2) for at in range(6)}
    layer4 = {f"layer4.{at}.conv2": (1, 4) for at in range(3)}
    torchvision = early | layer3 | layer4 | {"layer4.0.conv2": (1, 2)}
    del torchvision["layer3.0.conv2"]
    late = {f"layer{layer}.0.{name}": (2, 1) for layer in (3, 4) for name in ("conv2", "downsample.0")}
    coarse = {key: value for key, value in late.items() if key.startswith("layer3")} | {f"layer4.{at}.conv2": (1, 2) for at in (1, 2)}
    assert strides_and_dilations(weightless("fcn", 3, 21).backbone) == torchvision
    assert strides_and_dilations(weightless("fcn", 3, 21, form="32s").backbone) == early | late
    assert strides_and_dilations(weightless("pspnet", 3, 21).backbone) == early | layer3 | layer4
    assert strides_and_dilations(weightless("deeplabv3plus", 3, 21).backbone) == early | coarse
    assert strides_and_dilations(weightless("deeplabv3plus", 3, 21, output_stride=8).backbone) == torchvision
    rates = {f"branches.{at}.0": (1, rate) for at, rate in ((1, 6), (2, 12), (3, 18))}
    assert strides_and_dilations(weightless("deeplabv3plus", 3, 21).aspp) == rates


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("dilation", "strides"), [("none", (16, 32)), ("layer4", (16, 16)), ("torchvision", (8, 8)), ("semseg", (8, 8))])
@pytest.mark.parametrize("stem", ["plain", "deep"])
def test_features_have_the_sizes_that_are_told(backbone: Any, dilation: Any, strides: tuple[int, int], stem: Any) -> None:
    with torch.device("meta"):
        network = ResNet(backbone, bands=4, stem=stem, dilation=dilation).eval()
        features = network(torch.empty(2, 4, 97, 130))
    assert network.strides == (2, 4, 8, *strides)
    assert [feature.shape[1] for feature in features] == list(network.channels)
    for feature, stride in zip(features, network.strides, strict=True):
        assert feature.shape[2:] == (-(-97 // stride), -(-130 // stride))


# names and outputs: torchvision 0.29.2 on weights that a formula gives


@pytest.fixture(scope="module")
def reference(shared: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    folder = shared / "data" / "network_reference"
    with np.load(folder / "torchvision_outputs.npz") as outputs:
        return json.loads((folder / "torchvision_networks.json").read_text())["networks"], dict(outputs)


def uniform(name: str, size: int) -> NDArray[np.float64]:
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    x = (np.arange(size, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(start)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    x = (x * np.uint64(73244475)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return x / 2.0**32


def formula_tensor(name: str, like: Tensor) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    u = uniform(name, like.numel())
    if like.ndim == 4:
        values = (2 * u - 1) * np.sqrt(6 / like[0].numel())
    elif like.ndim == 2:
        values = (2 * u - 1) * np.sqrt(3 / like.shape[1])
    elif name.endswith("running_var"):
        values = 0.5 + u
    elif name.endswith(("running_mean", "bias")):
        values = 0.2 * (u - 0.5)
    else:
        values = 0.5 + 0.5 * u
    return torch.from_numpy(values.astype("f4").reshape(like.shape))


def with_formula_weights(network: nn.Module) -> nn.Module:
    """The network, made on the meta device, with memory and the formula's weights."""
    network.load_state_dict({name: formula_tensor(name, like) for name, like in network.state_dict().items()}, assign=True)
    return network.eval()


def formula_image(h: int, w: int) -> Tensor:
    return torch.from_numpy((2 * uniform("input", 3 * h * w) - 1).astype("f4").reshape(1, 3, h, w))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnet_gives_torchvisions_outputs(name: Any, reference: tuple[dict[str, Any], dict[str, NDArray[np.float32]]]) -> None:
    networks, outputs = reference
    with torch.device("meta"):
        network = ResNet(name, bands=3, fc=1000)
    assert (count(network), len(network.state_dict())) == (networks[name]["params"], networks[name]["state_tensors"])
    if networks[name].get("keys"):
        assert [[key, list(value.shape)] for key, value in network.state_dict().items()] == networks[name]["keys"]
    with_formula_weights(network)
    with torch.inference_mode():
        got = network.classify(formula_image(64, 64)).numpy()
    wanted = outputs[f"{name}.out"]
    assert got.shape == wanted.shape
    # float32 against float64: below 9e-7 of the largest output
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_fcn_gives_torchvisions_outputs(backbone: str, reference: tuple[dict[str, Any], dict[str, NDArray[np.float32]]]) -> None:
    networks, outputs = reference
    name = f"fcn_{backbone}"
    network = weightless("fcn", 3, 21, backbone=backbone, aux=True)
    assert (count(network), len(network.state_dict())) == (networks[name]["params"], networks[name]["state_tensors"])
    if networks[name].get("keys"):
        assert [[key, list(value.shape)] for key, value in network.state_dict().items()] == networks[name]["keys"]
    with_formula_weights(network)
    with torch.inference_mode():
        heads = network.heads(formula_image(65, 97))
        if backbone == "resnet50":
            assert torch.equal(network(formula_image(65, 97)), heads["out"])
    assert sorted(heads) == ["aux", "out"]
    for head, got in heads.items():
        assert got.shape == (1, 21, 65, 97)
        wanted = outputs[f"{name}.{head}"]
        assert np.abs(got[:, :, ::8, ::8].numpy() - wanted).max() < 1e-5 * np.abs(wanted).max()


# behaviour


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 7), (5, 6), (13, 17)])
def test_bin_means_are_adaptive_average_pooling(bins: int, h: int, w: int) -> None:
    x = torch.randn(2, 3, h, w, dtype=torch.float64)
    torch.testing.assert_close(bin_means(x, bins), F.adaptive_avg_pool2d(x, bins), rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    torch.manual_seed(2)
    return {
        "d8": FCN(FCNConfig(bands=2, classes=3, aux=True)),
        "32s": FCN(FCNConfig(bands=2, classes=3, form="32s")),
        "8s": FCN(FCNConfig(bands=2, classes=3, form="8s", aux=True)),
        "pspnet": PSPNet(PSPNetConfig(bands=2, classes=3)),
        "deeplab": DeepLabV3Plus(DeepLabV3PlusConfig(bands=2, classes=3, backbone="resnet18")),
    }


@pytest.mark.parametrize("name", ["d8", "32s", "8s", "pspnet", "deeplab"])
def test_any_size_gives_a_class_for_every_pixel(name: str, networks: dict[str, Any]) -> None:
    network = networks[name].eval()
    for n, h, w in ((1, 1, 1), (2, 1, 9), (1, 33, 20)):
        x = torch.randn(n, 2, h, w)
        before = x.clone()
        with torch.inference_mode():
            logits = network(x)
        assert logits.shape == (n, 3, h, w)
        assert bool(torch.isfinite(logits).all())
        assert torch.equal(x, before)


@pytest.mark.parametrize(("name", "aux_weight"), [("d8", 0.5), ("8s", 0.5), ("pspnet", 0.4)])
def test_training_gives_both_heads_and_teaches_both(name: str, aux_weight: float, networks: dict[str, Any]) -> None:
    network = networks[name].train()
    assert network.aux_weight == aux_weight
    answer = network(torch.randn(2, 2, 35, 41))
    assert {head: tuple(logits.shape) for head, logits in answer.items()} == {"out": (2, 3, 35, 41), "aux": (2, 3, 35, 41)}
    (answer["out"].square().mean() + answer["aux"].square().mean()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
    network.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", ["32s", "deeplab"])
def test_training_without_an_auxiliary_head_gives_a_tensor(name: str, networks: dict[str, Any]) -> None:
    logits = networks[name].train()(torch.randn(2, 2, 40, 33))
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 3, 40, 33)


def test_scores_stay_on_the_pixels_that_they_belong_to(networks: dict[str, Any]) -> None:
    """At the pixels on which the features lie, the logits are the scores themselves, at a size that needs padding too."""
    x = torch.randn(1, 2, 70, 45)
    padded = F.pad(x, (0, 20, 0, 27), mode="replicate")  # to 97 x 65, 1 more than multiples of 32
    with torch.inference_mode():
        network = networks["32s"].eval()
        scores = network.classifier(network.backbone(padded)[4])
        torch.testing.assert_close(network(x)[..., ::32, ::32], scores[..., :3, :2], rtol=1e-5, atol=1e-6)
        network = networks["8s"].eval()
        _, _, layer2, layer3, layer4 = network.backbone(padded)
        sums = network.classifier(layer4) + network.score3(layer3)[..., ::2, ::2] + network.score2(layer2)[..., ::4, ::4]
        torch.testing.assert_close(network(x)[..., ::32, ::32], sums[..., :3, :2], rtol=1e-4, atol=1e-5)


def test_pspnet_and_deeplab_equal_their_descriptions_on_their_grid(networks: dict[str, Any]) -> None:
    """Put together again from torch's own pooling and resizing, at a size that needs no padding."""
    x = torch.randn(1, 2, 65, 49)
    with torch.inference_mode():
        network = networks["pspnet"].eval()
        top = network.backbone(x)[4]
        pyramid = [
            F.interpolate(branch(F.adaptive_avg_pool2d(top, bins)), top.shape[2:], mode="bilinear", align_corners=True)
            for bins, branch in zip((1, 2, 3, 6), network.pyramid, strict=True)
        ]
        scores = network.classifier(torch.cat([top, *pyramid], dim=1))
        torch.testing.assert_close(network(x)[..., ::8, ::8], scores, rtol=1e-4, atol=1e-5)

        network = networks["deeplab"].eval()
        _, low, _, _, top = network.backbone(x)
        mean = F.interpolate(network.aspp.image(F.adaptive_avg_pool2d(top, 1)), top.shape[2:], mode="bilinear", align_corners=True)
        pooled = network.aspp.project(torch.cat([*(branch(top) for branch in network.aspp.branches), mean], dim=1))
        finer = F.interpolate(pooled, low.shape[2:], mode="bilinear", align_corners=True)
        scores = network.classifier(network.decoder(torch.cat([finer, network.low_level(low)], dim=1)))
        torch.testing.assert_close(network(x)[..., ::4, ::4], scores, rtol=1e-4, atol=1e-5)


def test_first_weights_are_hes(networks: dict[str, Any]) -> None:
    weight = networks["pspnet"].backbone.layer2[1].conv2.weight
    assert float(weight.detach().std()) == pytest.approx(np.sqrt(2 / (128 * 9)), rel=0.02)
    with torch.inference_mode():
        logits = networks["pspnet"].train()(torch.randn(2, 2, 33, 33))["out"]
    assert 0.01 < float(logits.std()) < 2  # no class is certain at the start


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("fcn", {"backbone": "resnet18"}, "backbone is 'resnet18', not one of resnet50, resnet101"),
        ("fcn", {"form": "16s"}, "form is '16s'"),
        ("fcn", {"aux": "no"}, "'aux' .* is 'no'"),
        ("pspnet", {"stem": "shallow"}, "stem is 'shallow', not one of plain, deep"),
        ("pspnet", {"aux_weight": -0.1}, "aux_weight is -0.1"),
        ("deeplabv3plus", {"output_stride": 32}, "output_stride is 32, not one of 8, 16"),
        ("deeplabv3plus", {"output_stride": 16.0}, "'output_stride' .* is 16.0"),
        ("deeplabv3plus", {"bands": 0}, "bands"),
    ],
)
def test_wrong_options_are_told(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build_network(name, bands=2, classes=3, options=options)


def test_options_have_defaults_that_a_model_file_can_hold() -> None:
    assert complete_options("fcn", {}) == {"backbone": "resnet50", "form": "d8", "aux": False}
    assert complete_options("pspnet", {"stem": "plain"}) == {"backbone": "resnet50", "stem": "plain", "aux_weight": 0.4}
    assert complete_options("deeplabv3plus", {}) == {"backbone": "resnet50", "output_stride": 16}
    with pytest.raises(UsageError, match="classes is 0"):
        build_network("fcn", bands=1, classes=0, options={})
