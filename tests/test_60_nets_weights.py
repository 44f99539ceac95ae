"""Published weights: every layout from made files, the fit to other bands, and refusal of what does not fit or could run code."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sarseg.errors import InputError, MissingError, UsageError
from sarseg.nets.deeplab import DeepLabV3Plus, DeepLabV3PlusConfig
from sarseg.nets.fcn import FCN, FCNConfig
from sarseg.nets.pspnet import PSPNet, PSPNetConfig
from sarseg.nets.registry import build_network
from sarseg.nets.resnet import Backbone, ResNet
from sarseg.nets.weights import load_pretrained

torch.set_num_threads(1)

State = dict[str, Tensor]


def drawn(network: nn.Module, seed: int = 5) -> State:
    """A state dict of the network's shapes, with random weights and statistics."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(like.shape, generator=generator) * 0.1 + 0.01 if like.is_floating_point() else torch.tensor(7)
        for name, like in network.state_dict().items()
    }


def resnet_state(backbone: Backbone = "resnet18", bands: int = 3, fc: int | None = 10) -> State:
    with torch.device("meta"):
        network = ResNet(backbone, bands=bands, fc=fc)
    return drawn(network)


def deeplab(bands: int = 3) -> DeepLabV3Plus:
    return DeepLabV3Plus(DeepLabV3PlusConfig(bands=bands, classes=4, backbone="resnet18"))


@pytest.fixture(scope="module")
def untouched() -> Iterator[DeepLabV3Plus]:
    """A network for loads that must fail: it is the same afterwards."""
    network = deeplab(bands=2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    yield network
    assert same(network.state_dict(), before)


def same(got: State, wanted: State) -> bool:
    return got.keys() == wanted.keys() and all(torch.equal(got[key], wanted[key]) for key in got)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


RGB = ("VV", "VH", "incidence")  # three bands of ours, as many as an image's


# layouts


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_torchvisions_resnet(suffix: str, tmp_path: Path) -> None:
    state = resnet_state()
    path = tmp_path / f"resnet18{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    network = deeplab()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = load_pretrained(network, path, band_names=RGB, sha256=sha256(path).upper())
    expected = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
    assert same(network.backbone.state_dict(), expected)
    others = {key: value for key, value in network.state_dict().items() if not key.startswith("backbone.")}
    assert same(others, {key: before[key] for key in others})
    assert report[0] == f"ResNet, {path.name}, sha256 {sha256(path)}"
    assert report[1] == "loaded 120 tensors"
    assert sorted(report[2].removeprefix("left out ").split(", ")) == ["backbone.fc.bias", "backbone.fc.weight"]
    assert len(report) == 3


def test_old_files_without_counters_and_without_fc(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in resnet_state(fc=None).items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    network = deeplab()
    report = load_pretrained(network, str(tmp_path / "old.pth"), band_names=RGB)
    assert same({key: tensor for key, tensor in network.backbone.state_dict().items() if key in state}, state)
    assert report[1:] == ["loaded 100 tensors"]


def test_moco_checkpoint_gives_its_query_encoder(tmp_path: Path) -> None:
    query, key = resnet_state(bands=2, fc=None), resnet_state(bands=2, fc=None)
    query = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in query.items()}
    projection = {"fc.0.weight": torch.ones(512, 8), "fc.2.bias": torch.ones(3)}
    content = {f"module.encoder_k.{name}": tensor for name, tensor in key.items()}
    content |= {f"module.encoder_q.{name}": tensor for name, tensor in (query | projection).items()}
    content |= {"module.queue": torch.ones(3, 5), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    checkpoint = {"epoch": 100, "arch": "resnet18", "state_dict": content, "optimizer": {"state": {}, "param_groups": [{"lr": 0.03}]}}
    torch.save(checkpoint, tmp_path / "B2_rn18_moco_0099_ckpt.pth")
    network = deeplab(bands=2)
    report = load_pretrained(network, tmp_path / "B2_rn18_moco_0099_ckpt.pth", band_names=("VV", "VH"))
    assert same(network.backbone.state_dict(), query)
    assert report[0].startswith("query encoder of MoCo, B2_rn18_moco_0099_ckpt.pth")
    assert report[2] == "left out backbone.fc.0.weight, backbone.fc.2.bias"


def test_flat_sentinel1_file_goes_by_band_name(tmp_path: Path) -> None:
    """torchgeo's file has timm's names, which are torchvision's, and two bands, VV and VH."""
    state = resnet_state(bands=2, fc=None)
    torch.save(state, tmp_path / "resnet18_sentinel1_all_moco.pth")
    network = deeplab(bands=2)
    report = load_pretrained(network, tmp_path / "resnet18_sentinel1_all_moco.pth", band_names=("vh", "vv"))
    got = network.backbone.state_dict()
    assert torch.equal(got.pop("conv1.weight"), state.pop("conv1.weight").flip(1))
    assert same(got, state)
    assert report[2] == "adapted backbone.conv1.weight: vh, vv by name; scaled by 2/2"


def test_torchvisions_fcn_with_other_classes(tmp_path: Path) -> None:
    state = drawn(FCN(FCNConfig(bands=3, classes=21, aux=True)))
    torch.save(state, tmp_path / "fcn_resnet50.pth")
    network = FCN(FCNConfig(bands=3, classes=4, aux=True))
    report = load_pretrained(network, tmp_path / "fcn_resnet50.pth", band_names=RGB)
    scores = {f"{head}.4.{kind}" for head in ("classifier", "aux_classifier") for kind in ("weight", "bias")}
    got = network.state_dict()
    assert all(torch.equal(got[key], state[key]) for key in state.keys() - scores)
    assert set(report[2].removeprefix("left out ").split(", ")) == scores

    whole = FCN(FCNConfig(bands=3, classes=21, aux=True))
    assert load_pretrained(whole, tmp_path / "fcn_resnet50.pth", band_names=RGB)[1:] == ["loaded 334 tensors"]
    assert same(whole.state_dict(), state)

    psp = PSPNet(PSPNetConfig(bands=3, classes=21, stem="plain"))
    heads = {key: value.clone() for key, value in psp.classifier.state_dict().items()}
    report = load_pretrained(psp, tmp_path / "fcn_resnet50.pth", band_names=RGB)
    assert torch.equal(psp.backbone.state_dict()["layer4.2.conv3.weight"], state["backbone.layer4.2.conv3.weight"])
    assert same(psp.classifier.state_dict(), heads)
    assert report[2].endswith("and 10 more")


class Vgg(nn.Module):
    """`features` of torchvision's vgg16_bn, by its description."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = bands
        for stage in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
            for width in stage:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(5, 3))


def test_torchvisions_vgg_goes_into_segnet(tmp_path: Path) -> None:
    state = drawn(Vgg(3))
    save_file(state, tmp_path / "vgg16_bn.safetensors")
    network = build_network("segnet", bands=2, classes=4, options={})
    report = load_pretrained(network, tmp_path / "vgg16_bn.safetensors", band_names=("HH", "HV"))
    got = {key: tensor for key, tensor in network.state_dict().items() if key.startswith("features.")}
    kernels = got.pop("features.0.weight")
    torch.testing.assert_close(kernels, state["features.0.weight"].mean(1, keepdim=True).expand(-1, 2, -1, -1) * 1.5)
    assert same(got, {key: tensor for key, tensor in state.items() if key in got})
    assert len(got) == 13 * 7 - 1
    assert report[2] == "adapted features.0.weight: the mean of 3 kernels for HH, HV; scaled by 3/2"
    assert set(report[3].removeprefix("left out ").split(", ")) == {"classifier.0.weight", "classifier.0.bias"}


def test_unet_on_a_resnet_takes_one(tmp_path: Path) -> None:
    network: Any = build_network("unet_resnet", bands=2, classes=4, options={"backbone": "resnet18"})
    state = resnet_state(bands=2, fc=None)
    save_file(state, tmp_path / "resnet18.safetensors")
    load_pretrained(network, tmp_path / "resnet18.safetensors", band_names=("VV", "VH"))
    assert same(network.backbone.state_dict(), state)


# bands


@pytest.mark.parametrize(
    ("known", "bands"),
    [(3, ("VV", "VH")), (3, ("HH",)), (3, ("a", "b", "c", "d", "e")), (2, ("VV", "VH", "incidence")), (2, ("HH", "HV", "VV", "VH"))],
)
def test_activations_keep_their_size(known: int, bands: tuple[str, ...], tmp_path: Path) -> None:
    """Where all bands are alike the first convolution answers as in the source."""
    state = resnet_state(bands=known, fc=None)
    state["conv1.weight"] -= 0.06
    save_file(state, tmp_path / "resnet18.safetensors")
    network = deeplab(bands=len(bands))
    report = load_pretrained(network, tmp_path / "resnet18.safetensors", band_names=bands)
    grey = torch.randn(1, 1, 31, 18)
    wanted = nn.functional.conv2d(grey.expand(-1, known, -1, -1), state["conv1.weight"], stride=2, padding=3)
    got = network.backbone.conv1(grey.expand(-1, len(bands), -1, -1))
    if (known, bands) == (2, ("HH", "HV", "VV", "VH")):
        kernels = network.backbone.conv1.weight.detach()
        torch.testing.assert_close(kernels[:, 2:], state["conv1.weight"] / 2)
        torch.testing.assert_close(kernels[:, 0], state["conv1.weight"].mean(1) / 2)
        assert "VV, VH by name; the mean of 2 kernels for HH, HV; scaled by 2/4" in report[2]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_one_band_by_name_keeps_about_the_size(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    state = resnet_state(bands=2, fc=None)
    state["conv1.weight"] = torch.randn(64, 2, 7, 7, generator=generator) * 0.05 + torch.randn(64, 1, 7, 7, generator=generator) * 0.05
    save_file(state, tmp_path / "resnet18.safetensors")
    network = deeplab(bands=1)
    load_pretrained(network, tmp_path / "resnet18.safetensors", band_names=("VH",))
    assert torch.equal(network.backbone.conv1.weight.detach(), state["conv1.weight"][:, 1:] * 2)


def test_as_many_unknown_bands_stay_in_their_order(tmp_path: Path) -> None:
    state = resnet_state(bands=2, fc=None)
    save_file(state, tmp_path / "resnet18.safetensors")
    network = deeplab(bands=2)
    assert len(load_pretrained(network, tmp_path / "resnet18.safetensors", band_names=("HH", "HV"))) == 2
    assert torch.equal(network.backbone.conv1.weight.detach(), state["conv1.weight"])


def test_band_names_must_be_the_networks(tmp_path: Path) -> None:
    save_file(resnet_state(), tmp_path / "resnet18.safetensors")
    with pytest.raises(UsageError, match="2 band names for a network of 3 bands"):
        load_pretrained(deeplab(), tmp_path / "resnet18.safetensors", band_names=("VV", "VH"))


# refusals


def reshape(state: State) -> None:
    state["layer2.0.conv1.weight"] = torch.ones(128, 64, 5, 5)
    state["layer3.0.conv1.weight"] = torch.ones(1)


def spoil(state: State) -> None:
    state["layer1.0.bn1.running_var"][3] = torch.nan


def to_integers(state: State) -> None:
    state["bn1.weight"] = torch.ones(64, dtype=torch.int64)


UNFIT: dict[str, tuple[Callable[[State], object], str]] = {
    "another shape": (reshape, r"tensor backbone.layer2.0.conv1.weight is \[128, 64, 5, 5\], not \[128, 64, 3, 3\]"),
    "another stem": (
        lambda state: state.update({"conv1.weight": torch.ones(64, 3, 3, 3)}),
        r"backbone.conv1.weight is \[64, 3, 3, 3\], not \[64, 2, 7, 7\]",
    ),
    "no dimensions": (lambda state: state.update({"conv1.weight": torch.tensor(1.0)}), r"backbone.conv1.weight is \[\]"),
    "no bands": (lambda state: state.update({"conv1.weight": torch.ones(64, 0, 7, 7)}), r"backbone.conv1.weight is \[64, 0, 7, 7\]"),
    "one absent": (lambda state: state.pop("layer4.1.bn2.bias"), "tensor backbone.layer4.1.bn2.bias is absent"),
    "one too many": (lambda state: state.update({"layer4.2.conv1.weight": torch.ones(1)}), "backbone.layer4.2.conv1.weight has no place"),
    "not a number": (spoil, "backbone.layer1.0.bn1.running_var has values that are no finite numbers"),
    "integers": (to_integers, "backbone.bn1.weight is torch.int64, not torch.float32"),
    "other names": (lambda state: state.pop("conv1.weight"), "no known layout: the first tensor is bn1.bias"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_what_does_not_fit_is_told_in_one_line_and_changes_nothing(fault: str, untouched: DeepLabV3Plus, tmp_path: Path) -> None:
    breaks, says = UNFIT[fault]
    state = resnet_state()
    breaks(state)
    path = tmp_path / "resnet18.safetensors"
    save_file(state, path)
    before = {key: value.clone() for key, value in untouched.state_dict().items()}
    with pytest.raises(InputError, match=says) as caught:
        load_pretrained(untouched, path, band_names=("VV", "VH"))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert same(untouched.state_dict(), before)


def test_another_backbone_does_not_fit(untouched: DeepLabV3Plus, tmp_path: Path) -> None:
    save_file(resnet_state("resnet34"), tmp_path / "resnet34.safetensors")
    with pytest.raises(InputError, match=r"backbone.layer1.2.bn1.bias has no place"):
        load_pretrained(untouched, tmp_path / "resnet34.safetensors", band_names=RGB)
    with pytest.raises(InputError, match=r"CompactUNet does not contain a ResNet .*unet_resnet"):
        load_pretrained(build_network("compact_unet", bands=3, classes=2, options={}), tmp_path / "resnet34.safetensors", band_names=RGB)
    save_file({"features.0.weight": torch.ones(64, 3, 3, 3)}, tmp_path / "vgg16_bn.safetensors")
    with pytest.raises(InputError, match=r"DeepLabV3Plus does not contain a VGG-16"):
        load_pretrained(untouched, tmp_path / "vgg16_bn.safetensors", band_names=RGB)


class Trap:
    """Unpickled by the usual means, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch, old", "safetensors"])
def test_code_in_a_file_does_not_run(kind: str, untouched: DeepLabV3Plus, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    content = {**resnet_state(), "layer9.weight": Trap(sprung)}
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind.startswith("torch"):
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    else:
        path.write_bytes(pickle.dumps(content["layer9.weight"]))
    with pytest.raises(InputError) as caught:
        load_pretrained(untouched, path, band_names=RGB)
    assert "\n" not in str(caught.value)
    assert not sprung.exists()
    if kind == "pickle":
        pickle.loads(path.read_bytes())
        assert sprung.exists()  # the trap works


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"PK\x03\x04 and no more", b"<html>404</html>", bytes(range(256)) * 5])
def test_damaged_files_are_refused(suffix: str, content: bytes, untouched: DeepLabV3Plus, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_pretrained(untouched, path, band_names=RGB)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"), [([1, 2], "no tensors by name"), ({}, "no tensors by name"), ({"epoch": 3}, "epoch is no tensor")]
)
def test_files_of_something_else_are_refused(content: object, says: str, untouched: DeepLabV3Plus, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=says):
        load_pretrained(untouched, tmp_path / "weights.pt", band_names=RGB)


def test_wrong_sources_are_told(untouched: DeepLabV3Plus, tmp_path: Path) -> None:
    save_file(resnet_state(), tmp_path / "resnet18.safetensors")
    load = partial(load_pretrained, untouched, band_names=RGB)
    with pytest.raises(InputError, match=r"SHA-256 is [0-9a-f]{64}, not 0{64}"):
        load(tmp_path / "resnet18.safetensors", sha256="0" * 64)
    with pytest.raises(UsageError, match="'12ab' is no SHA-256"):
        load(tmp_path / "resnet18.safetensors", sha256="12ab")
    with pytest.raises(InputError, match=r"cannot be read .*absent.pth"):
        load(tmp_path / "absent.pth")
    with pytest.raises(InputError, match=r"give .safetensors, .pth or .pt"):
        load(tmp_path / "weights.h5")
    with pytest.raises(UsageError, match="needs its checksum"):
        load("https://example.org/resnet18.pth")


# downloads


class Server(BaseHTTPRequestHandler):
    """Serves files of a folder and counts how often."""

    folder: Path
    served: list[str]

    def do_GET(self) -> None:
        path = self.folder / self.path.partition("?")[0].lstrip("/")
        self.served.append(self.path)
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if "half" in self.path else data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Server,), {"folder": tmp_path / "served", "served": []})
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", handler.served  # type: ignore[attr-defined]
        http.shutdown()
        thread.join()


def test_downloads_are_checked_and_kept(server: tuple[str, list[str]], tmp_path: Path) -> None:
    url, served = server
    state = resnet_state(fc=None)
    path = tmp_path / "served" / "resnet 18.pth"
    torch.save(state, path)
    wanted = sha256(path)
    path.rename(path.with_name("resnet18.pth"))
    for _ in range(2):  # the second time from the cache
        network = deeplab()
        report = load_pretrained(network, f"{url}/resnet18.pth?download=1", band_names=RGB, sha256=wanted)
        assert same(network.backbone.state_dict(), state)
        assert report[0] == f"ResNet, resnet18.pth, sha256 {wanted}"
    assert served == ["/resnet18.pth?download=1"]
    cache = tmp_path / "cache" / "sarseg"
    (kept,) = cache.iterdir()
    assert kept.name == f"{wanted[:16]}-resnet18.pth"
    kept.write_bytes(b"damaged")  # is fetched again
    load_pretrained(deeplab(), f"{url}/resnet18.pth", band_names=RGB, sha256=wanted)
    assert sha256(kept) == wanted
    assert len(served) == 2


def test_failed_downloads_leave_nothing(server: tuple[str, list[str]], untouched: DeepLabV3Plus, tmp_path: Path) -> None:
    url, _ = server
    torch.save(resnet_state(fc=None), tmp_path / "served" / "half.pth")
    wanted = sha256(tmp_path / "served" / "half.pth")
    load = partial(load_pretrained, untouched, band_names=RGB)
    with pytest.raises((InputError, MissingError), match=r"SHA-256 is|cannot be downloaded"):
        load(f"{url}/half.pth", sha256=wanted)
    with pytest.raises(MissingError, match=r"cannot be downloaded .*404.*fetch the file yourself"):
        load(f"{url}/absent.pth", sha256=wanted)
    with pytest.raises(MissingError, match="cannot be downloaded"):
        load((tmp_path / "absent.pth").as_uri(), sha256=wanted)
    assert list((tmp_path / "cache" / "sarseg").iterdir()) == []


def test_file_urls_are_read(server: tuple[str, list[str]], tmp_path: Path) -> None:
    path = tmp_path / "the weights.pth"
    torch.save(resnet_state(fc=None), path)
    load_pretrained(deeplab(), path.as_uri(), band_names=RGB, sha256=sha256(path))
    with pytest.raises(InputError, match=f"not {'1' * 64}"):
        load_pretrained(deeplab(), path.as_uri(), band_names=RGB, sha256="1" * 64)
