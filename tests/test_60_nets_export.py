"""Exported networks: what onnxruntime and OpenVINO answer is what torch answers, and the files say what they need."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from numpy.typing import NDArray

from sarseg.cli.main import run
from sarseg.errors import InputError, MissingError, UsageError
from sarseg.legend import LandClass, Legend
from sarseg.nets import export
from sarseg.nets.baselines import BASELINES
from sarseg.nets.export import check_export, export_model
from sarseg.nets.modelfile import SPEC, BandSpec, Model, ModelSpec, load_model, save_model
from sarseg.nets.registry import NETWORKS, build_network

torch.set_num_threads(1)  # tiny tensors: more threads would only wait for each other

LEGEND = Legend(tuple(LandClass(code=code, name=f"Grün <{code}>", color=(code, 0, 250)) for code in (2, 5, 9, 11)))
BANDS = tuple(BandSpec(name=f"band{at}", scale="raw", mean=-11.5 * at, std=4.25) for at in range(3))
TEMPERATURE = 1.75

SMALL: dict[str, dict[str, Any]] = {
    "compact_unet": {"width": 4, "depth": 1, "stem": 2},
    "unet": {"width": 2, "depth": 1},
    "segnet": {"width": 2},
    "unet_resnet": {"backbone": "resnet18"},
    "deeplabv3plus": {"backbone": "resnet18"},
    "pspnet": {},
    "fcn": {},
}
"""Smallest options of every network that can be exported."""
SLOW = ("unet", "unet_resnet", "deeplabv3plus", "pspnet", "fcn")  # SegNet, whose unpooling is the hardest operation, stays
FORMS = [pytest.param("fcn", {"form": form}, marks=pytest.mark.slow) for form in ("8s", "32s")]

Network = tuple[str, tuple[tuple[str, Any], ...]]


def made(name: str, options: dict[str, Any], folder: Path) -> Model:
    """A model on disk whose batch norms have seen data, as after training."""
    torch.manual_seed(5)
    network = build_network(name, bands=len(BANDS), classes=len(LEGEND.codes), options=options).train()
    with torch.no_grad():
        for scale in (0.5, 2.0):
            network(scale * torch.randn(2, len(BANDS), 64, 96))
    said: dict[str, Any] = {"temperature": TEMPERATURE, "training": {"steps": 7}}
    spec = ModelSpec(network=name, options=options, bands=BANDS, quantity="raw", legend=LEGEND, **said)
    return load_model(save_model(folder, network.eval(), spec))


@pytest.fixture(scope="module")
def compact(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return made("compact_unet", SMALL["compact_unet"], tmp_path_factory.mktemp("models") / "compact")


@pytest.fixture
def traced_once(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch writes a network's ONNX file once, and later exports take a copy: tracing is the slow part."""
    write = export._write_onnx

    def write_or_copy(model: Model, path: Path) -> None:
        kept = KEPT.get(model.spec.weights_sha256)
        if kept is None:
            write(model, path)
            kept = KEPT[model.spec.weights_sha256] = tmp_path_factory.mktemp("onnx") / "kept"
            shutil.copy(path, kept)
        shutil.copy(kept, path)

    monkeypatch.setattr(export, "_write_onnx", write_or_copy)


KEPT: dict[str, Path] = {}


def by_onnxruntime(file: Path) -> Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    session = onnxruntime.InferenceSession(file)
    return lambda x: dict(zip(("logits", "probabilities"), session.run(["logits", "probabilities"], {"bands": x}), strict=True))


def by_openvino(file: Path) -> Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    compiled = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: {name: compiled({"bands": x})[name] for name in ("logits", "probabilities")}


def test_every_network_is_exported_here() -> None:
    ours = {name for name, (_, module) in NETWORKS.items() if module.__module__.startswith("sarseg.")}  # other tests add theirs
    assert set(SMALL) | set(BASELINES) == ours


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize(
    ("name", "options"),
    [*(pytest.param(name, SMALL[name], marks=[pytest.mark.slow] * (name in SLOW)) for name in SMALL), *FORMS],
)
def test_onnxruntime_and_openvino_answer_as_torch_does(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """At sizes and batches that neither the tracing nor the check of the export saw: 1e-4 of the largest logit."""
    model = made(name, options, tmp_path / "model")
    rng = np.random.default_rng(1)
    (onnx_file, *_), (xml_file, *_) = (
        export_model(model, tmp_path / "out" / "net.onnx", "onnx"),
        export_model(model.path, tmp_path / "out" / "net.xml", "openvino"),
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["net.bin", "net.json", "net.onnx", "net.xml"]
    for software in (by_onnxruntime(onnx_file), by_openvino(xml_file)):
        for n, h, w in ((1, 64, 64), (5, 3, 7), (2, 1, 90), (3, 41, 58)):
            x = rng.standard_normal((n, len(BANDS), h, w), np.float32)
            with torch.inference_mode():
                want = model.network(torch.from_numpy(x)).numpy()
            answer = software(x)
            np.testing.assert_allclose(answer["logits"], want, rtol=0, atol=1e-4 * np.abs(want).max())
            weights = np.exp((want - want.max(1, keepdims=True)) / np.float64(TEMPERATURE))
            np.testing.assert_allclose(answer["probabilities"], weights / weights.sum(1, keepdims=True), rtol=0, atol=1e-4)


@pytest.mark.usefixtures("traced_once")
def test_the_files_say_what_the_model_folder_says(compact: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--quiet", "export", str(compact.path), "-o", str(tmp_path / "a.onnx"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"format": "onnx", "files": [str(tmp_path / "a.onnx"), str(tmp_path / "a.json")]}
    assert run(["--quiet", "export", str(compact.path), "-o", str(tmp_path / "b.xml")]) == 0
    assert capsys.readouterr().out.split() == [word for end in ("xml", "bin", "json") for word in ("exported:", str(tmp_path / f"b.{end}"))]
    said = json.loads((compact.path / SPEC).read_text())
    proto = onnx.load(tmp_path / "a.onnx")
    inside = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(inside["sarseg"]) == said
    assert json.loads(openvino.Core().read_model(tmp_path / "b.xml").get_rt_info(["sarseg", "model"]).value) == said
    for name in ("a", "b"):
        assert json.loads((tmp_path / f"{name}.json").read_text()) == said
    names = [[axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in proto.graph.input]
    assert names == [["batch", 3, "height", "width"]]
    here = str(Path(torch.__file__).parent).encode()
    assert all(here not in path.read_bytes() for path in tmp_path.iterdir()), "a path of the machine that exported"


def with_one_weight_changed(file: Path) -> None:
    proto = onnx.load(file)
    bias = next(value for value in proto.graph.initializer if len(value.dims) == 1 and value.data_type == onnx.TensorProto.FLOAT)
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += 0.25
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(proto, file)


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize(("kind", "name"), [("onnx", "net.onnx"), ("openvino", "net.xml")])
def test_a_changed_weight_is_noticed_and_nothing_stays(
    kind: export.ExportFormat, name: str, compact: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = export_model(compact, tmp_path / name, kind)
    contents = {path: path.read_bytes() for path in before}
    assert check_export(compact, tmp_path / name) < 1e-5
    write = export._write_onnx

    def write_wrong(model: Model, path: Path) -> None:
        write(model, path)
        with_one_weight_changed(path)

    monkeypatch.setattr(export, "_write_onnx", write_wrong)
    with pytest.raises(InputError, match=r"answers otherwise than torch for 1 x 3 x 1 x 1 values: logits by \d.*e-0[1-3] of the largest"):
        export_model(compact, tmp_path / name, kind)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == contents
    export_model(compact, tmp_path / name, kind, check=False)
    with pytest.raises(InputError, match="otherwise than torch"):
        check_export(compact, tmp_path / name)


@pytest.mark.usefixtures("traced_once")
def test_another_temperature_is_noticed(compact: Model, tmp_path: Path) -> None:
    """The logits are equal then, and only the probabilities tell."""
    file, _ = export_model(compact, tmp_path / "net.onnx", "onnx")
    other = Model(network=compact.network, spec=compact.spec.model_copy(update={"temperature": 0.6}), path=compact.path)
    with pytest.raises(InputError, match="otherwise than torch"):
        check_export(other, file)


@pytest.mark.parametrize(("wrong_answers", "accepted"), [(0, True), (1, True), (10**6, False)])
def test_a_tie_that_rounding_decides_is_no_error_but_a_lasting_difference_is(wrong_answers: int, accepted: bool) -> None:
    asked = 0

    def answer(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        nonlocal asked
        asked += 1
        logits = x + np.float32(0.01) * (asked <= wrong_answers)
        return [logits, torch.softmax(torch.from_numpy(logits) / TEMPERATURE, dim=1).numpy()]

    logits, probabilities = export._differences(torch.nn.Identity(), answer, (2, 3, 5, 7), TEMPERATURE)
    assert (logits == 0) == accepted
    assert probabilities < 1e-6


@pytest.mark.usefixtures("traced_once")
def test_the_network_stays_as_it_is(compact: Model, tmp_path: Path) -> None:
    network = made("compact_unet", SMALL["compact_unet"], tmp_path / "model").network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    export_model(Model(network=network, spec=compact.spec, path=compact.path), tmp_path / "net.onnx", "onnx")
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("package", "kind", "extra"),
    [("onnxscript", "onnx", "export"), ("onnxruntime", "onnx", "export"), ("openvino",) * 3],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    package: str, kind: export.ExportFormat, extra: str, compact: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError, match=rf'the package {package} is not installed: pip install "sarseg\[{extra}\]"'):
        export_model(compact, tmp_path / f"net{export.SUFFIXES[kind]}", kind)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_refused(name: str, tmp_path: Path) -> None:
    network = build_network(name, bands=3, classes=4, options={})
    model = Model(network=network, spec=ModelSpec(network=name, bands=BANDS, quantity="raw", legend=LEGEND), path=tmp_path / "baseline")
    with pytest.raises(UsageError, match=f"'{name}' is no network and has no exported form"):
        export_model(model, tmp_path / "net.onnx", "onnx")


def test_other_names_are_refused(compact: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"does not end in '\.onnx'.*name it net\.xml"):
        export_model(compact, tmp_path / "net.onnx", "openvino")
    assert run(["export", str(compact.path), "-o", str(tmp_path / "net.pb")]) == 2
    assert "no format of exported models ends in '.pb'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
