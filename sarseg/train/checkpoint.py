"""Interrupted trainings: a folder beside the model that holds all that the next step depends on.

`checkpoint.json` says everything but the tensors and names the files that hold them, `last-<step>.safetensors` (weights,
optimiser, running mean, random state) and `best-<step>.safetensors` (the weights to keep). It is replaced in one step and
last of all, and files are deleted only when it no longer names them: whenever a run is killed, a whole checkpoint is there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from sarseg.errors import InputError, UsageError
from sarseg.patches.dataset import Dataset
from sarseg.product.folder import make_parent, read_json
from sarseg.train.options import TrainOptions

log = logging.getLogger(__name__)

STATE = "checkpoint.json"
_LOCK_WAIT_S = 8.0
_HARMLESS = ("workers", "threads", "checkpoint_every")  # they change when and where, not what


class TensorFile(BaseModel):
    """A file of tensors that a checkpoint names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z]+-\d+\.safetensors$")
    sha256: str


class State(BaseModel):
    """What `checkpoint.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    step: int = Field(ge=0)
    """Steps that are done."""
    micro_batch: int = Field(ge=1)
    """As it is now: it may have been halved for want of memory."""
    last: TensorFile
    best: TensorFile | None = None
    best_step: int = 0
    best_score: float | None = None
    """Mean IoU of the best weights; None where nothing could be scored."""
    stale: int = 0
    """Validations in a row without a better one."""
    scaler: dict[str, Any] = Field(default_factory=dict)
    rows: list[dict[str, float | None]] = Field(default_factory=list)
    """The log so far."""
    options: dict[str, Any]
    dataset: dict[str, Any]


def folder_beside(model: Path) -> Path:
    """Where an interrupted training of a model folder has its checkpoint."""
    return model.with_name(f"{model.name}.training")


@dataclass(frozen=True)
class Checkpoints:
    """The folder of one training's checkpoints, and what it is a training of."""

    folder: Path
    options: Mapping[str, Any]
    dataset: Mapping[str, Any]
    _written: dict[int, TensorFile] = field(default_factory=dict)
    """Files of best weights by step."""

    @classmethod
    def beside(cls, model: Path, options: TrainOptions, dataset: Dataset) -> Checkpoints:
        """Those of the training that writes the folder `model`."""
        plain = json.loads(json.dumps(asdict(options)))
        return cls(folder_beside(model), plain, fingerprint(dataset))

    def start_anew(self) -> None:
        """Put an interrupted training of before out of the way, as `<folder>-old`, and say so."""
        if not self.folder.exists():
            return
        old = self.folder.with_name(f"{self.folder.name}-old")
        shutil.rmtree(old, ignore_errors=True)
        self.folder.replace(old)
        log.warning("an interrupted training lay in %s and was not asked to resume: it is kept in %s", self.folder, old.name)

    def save(self, last: Mapping[str, Tensor], best: tuple[int, Mapping[str, Tensor]] | None, facts: Mapping[str, Any]) -> None:
        """Write a checkpoint.

        Parameters
        ----------
        last : tensors of any device and layout
        best : step and weights of the best validation so far
        facts : the other fields of `State`
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if best is not None and best[0] not in self._written:
            self._written[best[0]] = self._write(f"best-{best[0]}", best[1])
        state = State(
            last=self._write(f"last-{facts['step']}", last),
            best=self._written[best[0]] if best is not None else None,
            best_step=best[0] if best is not None else 0,
            options=dict(self.options),
            dataset=dict(self.dataset),
            **facts,
        )
        _publish(self.folder / STATE, (state.model_dump_json(indent=1) + "\n").encode())
        named = {STATE, state.last.name, state.best.name if state.best else ""}
        for path in self.folder.iterdir():
            if path.name not in named:
                path.unlink()

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> TensorFile:
        data = tensor_bytes({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        _publish(self.folder / f"{name}.safetensors", data)
        return TensorFile(name=f"{name}.safetensors", sha256=hashlib.sha256(data).hexdigest())

    def read(self) -> State | None:
        """The checkpoint's facts; None when there is none.

        InputError when it is damaged, UsageError when it is of other options or another dataset.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        try:
            state = State.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}", path, _DAMAGED) from error
        for what, then, now in (("option", state.options, self.options), ("dataset", state.dataset, self.dataset)):
            for key in dict.fromkeys([*then, *now]):
                if key not in _HARMLESS and then.get(key) != now.get(key):
                    raise UsageError(
                        f"{what} {key} is {_short(now.get(key))}, that of the interrupted training {_short(then.get(key))}",
                        self.folder,
                        _SAME_FILES if key == "files" else "give the same ones, or leave out --resume to start anew",
                    )
        if state.best is not None:
            self._written[state.best_step] = state.best
        return state

    def tensors(self, file: TensorFile) -> dict[str, Tensor]:
        """The tensors of a file, on the CPU; InputError when it is not the one that was written."""
        path = self.folder / file.name
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise InputError("is not the file that was written", path, _DAMAGED)
            return parse_tensors(data)
        except (OSError, SafetensorError) as error:
            raise InputError("cannot be read", path, _DAMAGED) from error

    def remove(self) -> None:
        """The training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


_SAME_FILES = "sizes or times of its files have changed; a copy keeps them with `cp -a`; or leave out --resume to start anew"
_DAMAGED = "the checkpoint is damaged; leave out --resume to start anew"


@contextmanager
def only_one(model: Path) -> Iterator[None]:
    """Keep a second training of one model out; UsageError when another one runs.

    The system takes the lock away from a process that ends, however it does; its loading processes may need a few seconds more.
    """
    make_parent(model)
    lock = FileLock(model.with_name(f".{model.name}.lock"), timeout=_LOCK_WAIT_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError("another training writes this model", model, "wait for its end, or choose another folder") from error
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """What a dataset is told by: its legend, bands, sizes and index, sizes and times of its files, and the first, middle and last patch.

    Cheap, and sound where there are files: who changes one changes its time, which counts in whole seconds, as archives keep it.
    Datasets in memory that differ only in other patches and not in the index are taken for the same.
    """
    count = len(dataset)
    index, content, files = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for name in sorted(dataset.index):
        column = dataset.index[name]
        index.update(f"{name}\n".encode() + (column.tobytes() if column.dtype != object else "\n".join(map(str, column)).encode()))
    for at in sorted({0, count // 2, count - 1}):
        image, mask = dataset.read(at)
        content.update(np.ascontiguousarray(image).tobytes() + np.ascontiguousarray(mask).tobytes())
    for place in dataset.files:
        for path in _files_of(place):
            status = path.stat()
            files.update(f"{path.relative_to(place.parent)} {status.st_size} {int(status.st_mtime)}\n".encode())
    return {
        "patches": count,
        "size": dataset.size,
        "legend": dataset.legend.to_dict()["classes"],
        "bands": [asdict(band) for band in dataset.bands],
        "index": index.hexdigest(),
        "content": content.hexdigest(),
        "files": files.hexdigest(),
    }


def _files_of(place: Path) -> Iterator[Path]:
    """A file, or all files in a folder, in their order."""
    if not place.is_dir():
        yield place
    for folder, folders, names in os.walk(place):
        folders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def _publish(path: Path, data: bytes) -> None:
    """Write a file under a partial name and give it its own when it is on the disk."""
    part = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
