"""A pipeline: one flat YAML file whose keys are the options of the steps.

`<step>_<option>` sets a field of that step's options class, so every option exists once, with its default and its check;
the keys in `Inputs` say which files the line starts from. Relative paths in the file are looked up in the input folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from sarseg.errors import UsageError
from sarseg.flatyaml import read_flat

STEPS: Mapping[str, tuple[str, str]] = {
    "preprocess": ("sarseg.ard.preprocess", "PreprocessOptions"),
    "labels": ("sarseg.labels.options", "LabelOptions"),
    "patches": ("sarseg.patches.store", "PatchOptions"),
    "train": ("sarseg.train.options", "TrainOptions"),
    "predict": ("sarseg.predict.engine", "PredictOptions"),
    "mosaic": ("sarseg.mosaic.composite", "MosaicOptions"),
}
"""The steps with options, and where their options classes are."""

FLATTENED = "gamma0-rtc"
"""Terrain-flattened gamma0, which is no radiometry of `PreprocessOptions`: SNAP makes it of gamma0."""
_Radiometry = Literal["gamma0", "gamma0-rtc", "sigma0", "beta0"]  # as `sarseg preprocess --radiometry` has them
_NOT_IN_YAML = {"patches": {"legend"}}  # the key `legend` of `Inputs` sets it
_SEED = "seed"


class Inputs(BaseModel):
    """What the line starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Path | None = None
    """Folder with the downloads (scenes, products); `--input` wins."""
    output: Path | None = None
    """Folder for everything that is made; `--output` wins."""
    dem: Annotated[list[Path], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)] = []
    """DEM files, or folders of tiles; one may stand without brackets. Products that are on the map already need none."""
    engine: Literal["native", "snap"] = "native"
    """What preprocesses scenes; SNAP is found by $SNAP_HOME or on the PATH."""
    labels: Path
    """What to train with: any source of `sarseg labels`."""
    legend: Path | None = None
    """Classes of the labels, when the raster does not name them."""
    truth: Path | None = None
    """Labels to assess with: a class raster with the map's codes, or a source that is known by its name; the labels when absent."""
    seed: int = Field(default=0, ge=0)
    """Seed of every step that draws numbers."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A checked pipeline file."""

    path: Path
    inputs: Inputs
    options: Mapping[str, Mapping[str, Any]]
    """What the file sets of each step's options, by step."""
    flattened: bool = False
    """`preprocess_radiometry` is `FLATTENED`; `options` then have the gamma0 that it is made of."""

    def options_of(self, step: str, folder: Path, **more: Any) -> Any:
        """The options object of a step; relative paths are taken from `folder`, the downloads."""
        given = {name: folder / value if isinstance(value, Path) else value for name, value in self.options[step].items()}
        kind = _options_class(step)
        if any(field.name == _SEED for field in fields(kind)):
            given = {_SEED: self.inputs.seed, **given}
        try:
            return kind(**given, **more)
        except UsageError as error:
            raise UsageError(error.what, f"{self.path}, {step}", error.hint) from error


def read_pipeline(path: Path) -> Pipeline:
    """Read and check a pipeline file.

    UsageError names the file, the line and the key for a wrong key, type or value; InputError when it cannot be read.
    """
    values = read_flat(path, _model(), kind="pipeline")
    flattened = values.get("preprocess_radiometry") == FLATTENED
    if flattened:
        if values.get("engine") != "snap":
            raise UsageError(f"preprocess_radiometry: {FLATTENED} is for SNAP", path, "add `engine: snap`, or take gamma0")
        values["preprocess_radiometry"] = "gamma0"
    return Pipeline(
        path=path,
        inputs=Inputs(**{name: value for name, value in values.items() if name in Inputs.model_fields}),
        options={
            step: {name.removeprefix(f"{step}_"): value for name, value in values.items() if name.startswith(f"{step}_")} for step in STEPS
        },
        flattened=flattened,
    )


def packaged_pipeline(name: str) -> Path:
    """A pipeline that comes with sarseg: inside an installed package, at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "pipelines" / f"{name}.yaml"
    return inside if inside.is_file() else package.parent / "pipelines" / f"{name}.yaml"


@cache
def _model() -> type[BaseModel]:
    """`Inputs` and the fields of every options class, all optional, under one roof."""
    options: dict[str, Any] = {}
    for step in STEPS:
        kind = _options_class(step)
        hints = get_type_hints(kind)
        for field in fields(kind):
            if field.name not in _NOT_IN_YAML.get(step, ()):
                options[f"{step}_{field.name}"] = (hints[field.name], None)
    options["preprocess_radiometry"] = (_Radiometry, None)
    return create_model("PipelineFile", __base__=Inputs, **options)


def _options_class(step: str) -> Any:
    module, name = STEPS[step]
    return getattr(import_module(module), name)
