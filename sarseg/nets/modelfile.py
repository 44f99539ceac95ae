"""The model folder: weights in `model.safetensors`, everything else that a prediction needs in `model.json`.

Nothing in it is executable: pickled weights are refused. The same model gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from sarseg.decibel import to_db
from sarseg.errors import InputError, UsageError
from sarseg.legend import Legend
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

Scale = Literal["db", "raw"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BandSpec(BaseModel):
    """One input band: its name, its scale at the network's door, and the mean and deviation in that scale.

    "db" takes linear power and makes dB of it; "raw" takes values as they stand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    scale: Scale
    mean: Finite
    std: Positive


def _legend(value: object) -> Legend:
    return value if isinstance(value, Legend) else Legend.from_dict(value)


class ModelSpec(BaseModel):
    """What `model.json` says: how to rebuild the network, what to feed it, what its answers mean, where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    format: Literal[1] = FORMAT
    network: str
    options: dict[str, int | float | bool | str] = Field(default_factory=dict)
    bands: tuple[BandSpec, ...] = Field(min_length=1)
    legend: Annotated[Legend, BeforeValidator(_legend), PlainSerializer(lambda legend: legend.to_dict())]
    temperature: Positive = 1.0
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    weights_sha256: str = ""

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


def scaled(values: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Values of one band in its scale at the network's door, any shape; NaN stays NaN."""
    return np.asarray(to_db(values), np.float32) if scale == "db" else values


def normalise(values: NDArray[np.float32], bands: tuple[BandSpec, ...]) -> NDArray[np.float32]:
    """(scaled - mean) / std, float32 (band, rows, cols), band by band in the model's order; NaN stays NaN."""
    out = np.empty(values.shape, np.float32)
    for band, source, target in zip(bands, values, out, strict=True):
        np.subtract(scaled(source, band.scale), np.float32(band.mean), out=target)
        target /= np.float32(band.std)
    return out


def save_model(folder: Path, network: nn.Module, spec: ModelSpec, *, files: Mapping[str, str] | None = None) -> Path:
    """Write a model folder in one step; an older model of that name is replaced.

    Parameters
    ----------
    files : further text files of the folder, by name

    Returns
    -------
    the folder; InputError when it exists and is no model
    """
    from safetensors.torch import save

    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})
    said = spec.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    with create_folder(folder, mark=SPEC) as part:
        (part / WEIGHTS).write_bytes(weights)
        for name, text in (files or {}).items():
            (part / name).write_text(text, encoding="utf-8")
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
    if isinstance(content, dict) and content.get("format") != FORMAT:
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
    from safetensors import SafetensorError
    from safetensors.torch import load

    from sarseg.nets.registry import build_network

    folder = Path(folder)
    spec = read_spec(folder)
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != spec.weights_sha256:
        raise InputError("the weights are not those that the model was saved with", folder / WEIGHTS, "the file is damaged; copy it again")
    try:
        network = build_network(spec.network, bands=len(spec.bands), classes=len(spec.legend.codes), options=spec.options)
        network.load_state_dict(load(data))
    except UsageError as error:
        raise InputError(error.what, folder / SPEC, error.hint) from error
    except (RuntimeError, SafetensorError) as error:
        text = str(error).splitlines()
        raise InputError(f"the weights do not fit network '{spec.network}'", folder / WEIGHTS, " ".join(text[:2])) from error
    return Model(network=network.eval(), spec=spec, path=folder)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else [folder]


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLES:
        return True
    if path.suffix.lower() != ".safetensors":
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(_PICKLE_STARTS)
