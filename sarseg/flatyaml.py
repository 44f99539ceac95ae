"""Flat YAML files: `key: value` lines checked against the fields of a class, with errors that name the file's line."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarseg.errors import InputError, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel


def read_flat(path: Path, model: type[BaseModel], *, kind: str) -> dict[str, Any]:
    """The values that a file sets, checked by a pydantic model of all its keys.

    Parameters
    ----------
    kind : what such a file is called in errors

    UsageError names the file, the line and the key for a wrong key, type or value; InputError when it cannot be read.
    """
    from pydantic import ValidationError

    content, line_of = _load(path, kind)
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
    return {name: getattr(checked, name) for name in checked.model_fields_set}


def _load(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's mapping as plain values, and the line (from 1) of each key."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError(f"is no {kind} file that can be read", path, "give a YAML file") from error
    try:
        content = YAML(typ="safe", pure=True).load(text)
        marked = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise UsageError(f"is not YAML: {error.problem}", f"{path}:{line}") from error
    except YAMLError as error:
        raise UsageError(f"is not YAML: {error}", path) from error
    if not isinstance(content, dict):
        raise UsageError(f"a {kind} is a list of `key: value` lines", path)
    return content, {key: marked.lc.key(key)[0] + 1 for key in content}
