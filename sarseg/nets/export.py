"""A trained network as an ONNX or OpenVINO file of any batch, height and width, checked against torch before it gets its name.

The file takes normalised bands and gives two outputs: the logits, and the probabilities at the model's temperature, so that
nobody has to remember it. OpenVINO reads the ONNX file: its own reader of torch's programs has no remainder of a size, which
padding to a multiple of the stride needs.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarseg.errors import InputError, MissingError, UsageError
from sarseg.nets.modelfile import Model, load_model
from sarseg.nets.registry import stride_of
from sarseg.product.folder import make_parent, write_json

log = logging.getLogger(__name__)

ExportFormat = Literal["onnx", "openvino"]
SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""What the name of an exported file ends in."""

INPUT = "bands"
OUTPUTS = ("logits", "probabilities")
METADATA = "sarseg"
"""Key of the model's description in an ONNX file's metadata, and in an OpenVINO model's runtime information."""

TOLERANCE = 1e-4
"""Largest accepted difference to torch, in units of the largest logit."""

_PACKAGES: dict[ExportFormat, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript"), "openvino": ("onnx", "onnxscript", "openvino")}
_EXTRAS: dict[ExportFormat, str] = {"onnx": "export", "openvino": "openvino"}
# inputs tried at a size before a difference counts: where all of a pool's window is 0 after ReLU in one software and 1e-8 in another,
# SegNet's unpooling puts the decoder's value one pixel further (full width, 137 x 63 pixels, onnxruntime: in 1 of 12 inputs)
_DRAWS = 5
_SAYS = (
    f"Input {INPUT}: float32 (batch, band, height, width), normalised as the metadata '{METADATA}' says, without NaN. "
    "Outputs: logits and probabilities, float32 (batch, class, height, width), classes in the order of the legend."
)

_Run = Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]


class _WithProbabilities(nn.Module):
    """What is exported: float (n, bands, h, w) -> logits and probabilities, both (n, classes, h, w)."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(x)
        return logits, torch.softmax(logits / self.temperature, dim=1)


def export_model(model: Model | str | Path, out: Path, format: ExportFormat, *, check: bool = True) -> list[Path]:  # noqa: A002
    """Write a model's network for other software; older files of these names are replaced, after an error nothing stays.

    Parameters
    ----------
    model : a model, or its folder
    out : FILE.onnx or FILE.xml (with FILE.bin beside it); FILE.json gets what `model.json` says, which is also inside the file
    check : compare the answers with torch's, see `check_export`

    Returns
    -------
    the files; UsageError for a model that is no network or another suffix, MissingError for an absent package,
    InputError when the network cannot be exported or the file answers otherwise than torch
    """
    if not isinstance(model, Model):
        model = load_model(model)
    if out.suffix.lower() != SUFFIXES[format]:
        raise UsageError(f"a file of the format {format} does not end in '{out.suffix}'", out, f"name it {out.stem}{SUFFIXES[format]}")
    if bool(getattr(model.network, "takes_nan", False)):
        raise UsageError(f"'{model.spec.network}' is no network and has no exported form", model.path, "sarseg predict maps with it")
    _require(format, check=check)
    with _folder_beside(out) as folder:
        onnx_file = folder / f"{out.stem}.onnx"
        _write_onnx(model, onnx_file)
        written = [onnx_file] if format == "onnx" else _write_openvino(model, onnx_file)
        if check:
            difference = check_export(model, written[-1])
            log.info("%s differs from torch by at most %.1e of the largest logit", out.name, difference)
        description = folder / f"{out.stem}.json"
        write_json(description, model.spec.model_dump())
        # the file that software opens comes last
        return [path.replace(out.with_suffix(path.suffix)) for path in (description, *written)][::-1]


def check_export(model: Model, file: Path) -> float:
    """Compare an exported file's answers with torch's, at three sizes and batches other than the traced one.

    The sizes are odd, smaller and larger; the inputs are random. OpenVINO is told to compute in float32, which is not its default
    on every processor. The probabilities are compared with the softmax of the file's own logits.

    Returns
    -------
    the largest difference of a logit over the largest logit; InputError when it exceeds `TOLERANCE`, or a probability does
    """
    run = _onnx_runner(file) if file.suffix.lower() == SUFFIXES["onnx"] else _openvino_runner(file)
    network = _copy_on_cpu(model.network)
    found = 0.0
    for shape in _check_shapes(model):
        logits, probabilities = _differences(network, run, shape, model.spec.temperature)
        found = max(found, logits)
        if not (logits <= TOLERANCE and probabilities <= TOLERANCE):
            size = " x ".join(str(length) for length in shape)
            said = f"logits by {logits:.1e} of the largest, probabilities by {probabilities:.1e}; allowed are {TOLERANCE:g}"
            raise InputError(f"the exported network answers otherwise than torch for {size} values: {said}", file.name, _versions())
    return found


def _differences(network: nn.Module, run: _Run, shape: tuple[int, ...], temperature: float) -> tuple[float, float]:
    """Largest differences of the logits, over the largest one, and of the probabilities, at one shape.

    Of a few draws the first good one counts: an error is there in all of them, a tie that rounding decides is not.
    """
    rng = np.random.default_rng(shape[-1])
    found = float("inf"), float("inf")
    for _ in range(_DRAWS):
        x = rng.standard_normal(shape, np.float32)
        with torch.inference_mode():
            logits = network(torch.from_numpy(x)).numpy()
        got, probabilities = run(x)
        if got.shape != logits.shape or probabilities.shape != logits.shape:
            return found
        softmax = torch.softmax(torch.from_numpy(got) / temperature, dim=1).numpy()
        scale = max(float(np.abs(logits).max()), float(np.finfo(np.float32).tiny))
        found = float(np.abs(got - logits).max()) / scale, float(np.abs(probabilities - softmax).max())
        if found[0] <= TOLERANCE and found[1] <= TOLERANCE:
            break
    return found


def _traced_shape(model: Model) -> tuple[int, int, int, int]:
    # no length of 1 anywhere in the network, and no multiple of the stride: torch.export would take either for a rule
    unit = max(stride_of(model.network), 8)
    return 2, len(model.spec.bands), 2 * unit + 5, 3 * unit + 3


def _check_shapes(model: Model) -> list[tuple[int, int, int, int]]:
    unit, bands = max(stride_of(model.network), 8), len(model.spec.bands)
    return [(1, bands, 1, 1), (3, bands, unit + 3, 4 * unit + 1), (1, bands, 4 * unit + 9, 2 * unit - 1)]


def _copy_on_cpu(network: nn.Module) -> nn.Module:
    """A copy on the CPU in float32 and eval mode: the caller's network stays where and as it is."""
    return copy.deepcopy(network).cpu().float().eval()


def _description(model: Model) -> str:
    return json.dumps(model.spec.model_dump(), allow_nan=False, ensure_ascii=False)


def _write_onnx(model: Model, path: Path) -> None:
    axes = {0: "batch", 2: "height", 3: "width"}
    try:
        with _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                _WithProbabilities(_copy_on_cpu(model.network), model.spec.temperature).eval(),
                (torch.zeros(_traced_shape(model)),),
                dynamo=True,
                dynamic_shapes=(axes,),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        line = str(error).strip().partition("\n")[0]
        raise InputError(f"torch cannot export network '{model.spec.network}'", model.path, f"{line} {_versions()}") from error
    assert program is not None, "the dynamo exporter gives a program"
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # torch leaves stack traces there, with the paths of the machine that exported
    program.model.metadata_props[METADATA] = _description(model)
    program.model.doc_string = _SAYS
    program.save(path, external_data=False)


def _write_openvino(model: Model, onnx_file: Path) -> list[Path]:
    """Weights and graph, in this order."""
    import openvino  # type: ignore[import-untyped]

    network = openvino.Core().read_model(onnx_file)
    network.set_rt_info(_description(model), [METADATA, "model"])
    path = onnx_file.with_suffix(SUFFIXES["openvino"])
    openvino.save_model(network, path, compress_to_fp16=False)
    return [path.with_suffix(".bin"), path]


def _onnx_runner(file: Path) -> _Run:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print comes as an exception too
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda x: list(session.run(list(OUTPUTS), {INPUT: x}))


def _openvino_runner(file: Path) -> _Run:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        answers = compiled({INPUT: x})
        return [np.asarray(answers[name]) for name in OUTPUTS]

    return run


def _require(format: ExportFormat, *, check: bool) -> None:  # noqa: A002
    runtime = ("onnxruntime",) if check and format == "onnx" else ()
    for name in (*_PACKAGES[format], *runtime):
        try:
            import_module(name)
        except ImportError as error:
            raise MissingError(
                f"the package {name} is not installed", hint=f'pip install "sarseg[{_EXTRAS[format]}]" brings what the export needs'
            ) from error


def _versions() -> str:
    """Hint of an error that other versions may not have."""
    said = [f"torch {torch.__version__}"]
    for name in ("onnxscript", "onnxruntime", "openvino"):
        try:
            said.append(f"{name} {import_module(name).__version__}")
        except ImportError:
            continue
    return f"try other versions than {', '.join(said)}, or the other format"


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A temporary folder beside a file that does not stay."""
    make_parent(out)
    part = out.with_name(f".partial-{os.getpid()}-{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """No word of the exporter about its own insides, and about torchvision, which nothing here needs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx._internal.exporter._registration", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
