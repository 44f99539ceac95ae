"""A pipeline: one flat YAML file whose keys are the options of the steps.

`<step>_<option>` sets a field of that step's options class, so every option exists once, with its default and its check;
the keys in `Inputs` say which files the line starts from. Relative paths in the file are looked up in the input folder.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from sarseg.errors import InputError, UsageError

STEPS: Mapping[str, tuple[str, str]] = {
    "preprocess": ("sarseg.ard.preprocess", "PreprocessOptions"),
    "patches": ("sarseg.patches.store", "PatchOptions"),
    "train": ("sarseg.train.loop", "TrainOptions"),
    "predict": ("sarseg.predict.engine", "PredictOptions"),
    "mosaic": ("sarseg.mosaic.composite", "MosaicOptions"),
}
"""The steps with options, and where their options classes are."""

_NOT_IN_YAML = {"patches": {"legend"}}  # the key `legend` of `Inputs` sets it
_SEED = "seed"


class Inputs(BaseModel):
    """What the line starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Path | None = None
    """Folder with the downloads (SAFE folders and zips); `--input` wins."""
    output: Path | None = None
    """Folder for everything that is made; `--output` wins."""
    dem: Annotated[list[Path], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)] = Field(min_length=1)
    """DEM files, or folders of tiles; one may stand without brackets."""
    labels: Path
    """Class raster to train with."""
    legend: Path | None = None
    """Classes of the labels, when the raster does not name them."""
    truth: Path | None = None
    """Class raster to assess with; the labels when absent."""
    seed: int = Field(default=0, ge=0)
    """Seed of every step that draws numbers."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A checked pipeline file."""

    path: Path
    inputs: Inputs
    options: Mapping[str, Mapping[str, Any]]
    """What the file sets of each step's options, by step."""

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
    content, line_of = _load(path)
    model = _model()
    for key in content:
        if key not in model.model_fields:
            near = difflib.get_close_matches(str(key), model.model_fields, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"keys are {', '.join(model.model_fields)}"
            raise UsageError(f"unknown key '{key}'", f"{path}:{line_of[key]}", hint)
    try:
        # through JSON: strict about types, while lists become tuples and strings paths
        checked = model.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        place = f"{path}:{line_of[key]}" if key in line_of else path
        raise UsageError(f"key '{key}': {first['msg']}", place, f"the file says {content[key]!r}" if key in content else "") from error
    values = {name: getattr(checked, name) for name in checked.model_fields_set}
    return Pipeline(
        path=path,
        inputs=Inputs(**{name: value for name, value in values.items() if name in Inputs.model_fields}),
        options={
            step: {name.removeprefix(f"{step}_"): value for name, value in values.items() if name.startswith(f"{step}_")} for step in STEPS
        },
    )


def packaged_pipeline(name: str) -> Path:
    """A pipeline that comes with sarseg: inside an installed package, at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "pipelines" / f"{name}.yaml"
    return inside if inside.is_file() else package.parent / "pipelines" / f"{name}.yaml"


def _load(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's mapping as plain values, and the line (from 1) of each key."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError("is no pipeline file that can be read", path, "give a YAML file") from error
    try:
        content = YAML(typ="safe", pure=True).load(text)
        marked = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise UsageError(f"is not YAML: {error.problem}", f"{path}:{line}") from error
    except YAMLError as error:
        raise UsageError(f"is not YAML: {error}", path) from error
    if not isinstance(content, dict):
        raise UsageError("a pipeline is a list of `key: value` lines", path)
    return content, {key: marked.lc.key(key)[0] + 1 for key in content}


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
    return create_model("PipelineFile", __base__=Inputs, **options)


def _options_class(step: str) -> Any:
    module, name = STEPS[step]
    return getattr(import_module(module), name)
