"""The model folder: weights in `model.safetensors`, everything else that a prediction needs in `model.json`.

Nothing in it is executable: pickled weights are refused. The same model gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from sarseg.bands import Quantity, Scale, diagonal_fault, scaled_band
from sarseg.errors import InputError, UsageError
from sarseg.legend import Legend
from sarseg.nets.mlm import mlm_fields
from sarseg.product.folder import create_folder, read_json, write_json

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "model.safetensors"
SPEC = "model.json"
METRICS = "metrics.csv"
FORMAT: Literal[1] = 1
"""Version of the folder's layout; a reader refuses another one."""

_PICKLES = (".pth", ".pt", ".ckpt", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

# what is computed from them is float32
Finite = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=1e-30, le=1e30, allow_inf_nan=False)]


class BandSpec(BaseModel):
    """One input band: its name, its scale at the network's door (`sarseg.bands`), and the mean and deviation in that scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    scale: Scale
    mean: Finite
    std: Positive
    diagonals: tuple[str, str] | None = None
    """Of a correlation only: the bands the root of whose product divides."""


def _legend(value: object) -> Legend:
    try:
        return value if isinstance(value, Legend) else Legend.from_dict(value)
    except (InputError, OverflowError) as error:
        raise ValueError(str(error)) from error


class ModelSpec(BaseModel):
    """What `model.json` says: how to rebuild the network, what to feed it, what its answers mean, where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    format: Literal[1] = FORMAT
    network: str
    options: dict[str, int | float | bool | str] = Field(default_factory=dict)
    bands: tuple[BandSpec, ...] = Field(min_length=1)
    quantity: Quantity
    """What the training product held; a product that holds something else is not mapped."""
    legend: Annotated[Legend, BeforeValidator(_legend), PlainSerializer(lambda legend: legend.to_dict())]
    temperature: Positive = 1.0
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    weights_sha256: str = ""
    mlm: dict[str, Any] = Field(default_factory=dict)
    """The model for a catalogue, as fields of STAC's Machine Learning Model extension; `save_model` fills it in."""

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        names = self.band_names
        twice = sorted({name for name in names if names.count(name) > 1})
        faults = [f"band {name} stands twice" for name in twice] + [diagonal_fault(band, names) for band in self.bands]
        for fault in filter(None, faults):
            raise ValueError(fault)
        return self

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the input bands in the network's order."""
        return tuple(band.name for band in self.bands)


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its weights, in eval mode, and what `model.json` says of it."""

    network: nn.Module
    spec: ModelSpec
    path: Path


def normalise(values: NDArray[np.float32], bands: Sequence[BandSpec]) -> NDArray[np.float32]:
    """(scaled - mean) / std, float32 (band, rows, cols), of all bands of a model in its order; NaN stays NaN."""
    if len(values) != len(bands):
        raise ValueError(f"{len(values)} bands of values, but the model takes {len(bands)}")
    out = np.empty(values.shape, np.float32)
    for at, (band, target) in enumerate(zip(bands, out, strict=True)):
        np.subtract(scaled_band(values, bands, at), np.float32(band.mean), out=target)
        target /= np.float32(band.std)
    return out


def check_quantity(spec: ModelSpec, quantity: Quantity, where: object) -> None:
    """InputError when pixels hold something else than those that the model was trained on."""
    words = {"power": "linear power", "raw": "values as they stand"}
    if quantity != spec.quantity:
        what = f"the model takes {words[spec.quantity]}, not {words[quantity]}"
        raise InputError(what, where, "give it the kind of product that it was trained on")


def save_model(folder: Path, network: nn.Module, spec: ModelSpec, *, files: Mapping[str, str | bytes] | None = None) -> Path:
    """Write a model folder in one step; an older model of that name is replaced.

    Parameters
    ----------
    files : further files of the folder by name, text or bytes

    Returns
    -------
    the folder; InputError when it exists and is no model
    """
    from safetensors.torch import save

    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})
    said = spec.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    said = said.model_copy(update={"mlm": mlm_fields(said, network)})
    with create_folder(folder, mark=SPEC) as part:
        (part / WEIGHTS).write_bytes(weights)
        for name, content in (files or {}).items():
            (part / name).write_bytes(content.encode() if isinstance(content, str) else content)
        write_json(part / SPEC, said.model_dump())
    return folder


def read_spec(folder: str | Path) -> ModelSpec:
    """What a model folder says of itself, without loading the network; InputError when it is no model or damaged."""
    folder = Path(folder)
    if not folder.exists():
        raise InputError("no such model folder", folder)
    if folder.suffix.lower() in _PICKLES or any(_is_pickle(path) for path in _files(folder)):
        raise InputError("pickled weights are not opened: they can run any code", folder, f"a model is a folder with {WEIGHTS} and {SPEC}")
    if not (folder / SPEC).is_file() or not (folder / WEIGHTS).is_file():
        raise InputError(f"no model: {SPEC} or {WEIGHTS} is absent", folder, "sarseg train writes such a folder")
    content = read_json(folder / SPEC)
    if not isinstance(content, dict) or not {"format", "network", "bands"} & content.keys():
        raise InputError(f"is no {SPEC} of sarseg", folder / SPEC, "sarseg train writes a model folder")
    if content.get("format") != FORMAT:
        raise InputError(f"model format {content.get('format')!r} is not {FORMAT}", folder / SPEC, "train it again with this version")
    try:
        return ModelSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{place}: {first['msg']}", folder / SPEC, "the file is damaged; train the model again") from error


def load_model(folder: str | Path) -> Model:
    """Rebuild a trained network on the CPU, in eval mode.

    InputError when the folder is no model, is damaged, holds pickled weights, or weights of another architecture.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    spec = read_spec(folder)
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != spec.weights_sha256:
        raise InputError("the weights are not those that the model was saved with", folder / WEIGHTS, "the file is damaged; copy it again")
    misfit = f"the weights do not fit network '{spec.network}'"
    try:
        weights = load(data)
        # without memory first: options out of a damaged file can ask for more than there is
        with torch.device("meta"):
            wanted = sum(tensor.numel() for tensor in _build(spec).state_dict().values())
        if wanted > sum(tensor.numel() for tensor in weights.values()):
            raise InputError(misfit, folder / WEIGHTS, f"it has {wanted:,} values")
        network = _build(spec)
        network.load_state_dict(weights)
        if not getattr(network, "takes_nan", False) and not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            raise InputError("some weights are no numbers", folder / WEIGHTS, "the training failed; train with a lower --lr")
    except UsageError as error:
        raise InputError(_one_line(error.what), folder / SPEC, _one_line(error.hint)) from error
    except (RuntimeError, SafetensorError) as error:
        raise InputError(misfit, folder / WEIGHTS, _one_line(str(error))) from error
    return Model(network=network.eval(), spec=spec, path=folder)


def _build(spec: ModelSpec) -> nn.Module:
    from sarseg.nets.registry import build_network

    try:
        return build_network(spec.network, bands=len(spec.bands), classes=len(spec.legend.codes), options=spec.options)
    except (TypeError, ValueError, ArithmeticError, MemoryError, RecursionError) as error:
        raise UsageError(f"network '{spec.network}' cannot be built with {spec.options}", hint=str(error)) from error


def _one_line(text: str) -> str:
    return " ".join(text.split("\n", 2)[:2])


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else [folder]


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLES:
        return True
    if path.suffix.lower() != ".safetensors":
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(_PICKLE_STARTS)
