"""How to train: every option once, with its default and its check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from sarseg.errors import UsageError
from sarseg.flatyaml import read_flat
from sarseg.train.augment import Augmentation

ClassWeights = Literal["none", "inverse-sqrt"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
_AUGMENTATION = "augmentation_"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How to train. `epochs` wins over `steps` when it is given."""

    net: str = "compact_unet"
    net_options: dict[str, int | float | bool | str] = field(default_factory=dict)
    weights: str | None = None
    """Pretrained weights to start from: a file or a URL."""
    weights_sha256: str | None = None
    """What their checksum must be."""
    steps: int = 1000
    epochs: float | None = None
    batch: int = 8
    """Samples a step, over all devices."""
    micro_batch: int | None = None
    """Samples that go through the network at once; a device's share of `batch` when None. It must divide that share."""
    lr: float = 4e-3
    weight_decay: float = 1e-2
    warm_up: float = 0.05
    """Share of the steps in which the learning rate rises."""
    loss: str = "ce"
    """"ce", "dice", "focal", "lovasz", or a sum such as "ce+0.5*lovasz"."""
    class_weights: ClassWeights = "none"
    label_smoothing: float = 0.0
    clip: float | None = None
    """Largest norm of the gradient."""
    ema: float = 0.0
    """Decay of the running mean of the weights that is judged and kept in their place; 0 = off."""
    validations: int = 4
    """How often the validation patches are scored, evenly over the run, the end included."""
    patience: int | None = None
    """Stop after so many validations in a row without a better mean IoU."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    checkpoint_every: int | None = None
    """Steps between two checkpoints, besides those at the validations."""
    workers: int | None = None
    """Processes that load patches on each device; None: 0 on a CPU, several on a GPU."""
    precision: PrecisionName = "auto"
    compile: bool = False
    devices: int = 1
    seed: int = 0
    threads: int | None = None
    """CPU threads; what torch chooses when None. The same number gives the same bits."""

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "micro_batch": 1, "validations": 1, "patience": 1, "checkpoint_every": 1}
        for name, low in (least | {"workers": 0, "devices": 1, "seed": 0, "threads": 1}).items():
            if getattr(self, name) is not None and getattr(self, name) < low:
                raise UsageError(f"{name} is {getattr(self, name)}", hint=f"at least {low}")
        most = {"steps": 10**9, "batch": 10**6, "seed": 2**63 - 1, "threads": 4096, "workers": 4096, "devices": 4096}
        for name, high in (most | {"epochs": 1e6, "lr": 1e6, "clip": 1e9, "weight_decay": 1e6}).items():
            if getattr(self, name) is not None and not getattr(self, name) <= high:
                raise UsageError(f"{name} is {getattr(self, name)}", hint=f"at most {high:g}")
        for name in ("lr", "epochs", "clip"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}", hint="above 0")
        for name in ("warm_up", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", hint="from 0 to below 1")
        if not self.weight_decay >= 0:
            raise UsageError(f"weight_decay is {self.weight_decay}", hint="0 or more")
        for name, words in (("class_weights", get_args(ClassWeights)), ("precision", get_args(PrecisionName))):
            if getattr(self, name) not in words:
                raise UsageError(f"{name} is '{getattr(self, name)}'", hint=f"one of {', '.join(words)}")
        if self.weights_sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", self.weights_sha256):
            raise UsageError("weights_sha256 is no SHA-256", hint="64 hexadecimal digits, as `sha256sum` prints them")
        if self.batch % self.devices:
            raise UsageError(f"a batch of {self.batch} does not go onto {self.devices} devices", hint="a multiple of the devices")
        if self.share % self.micro:
            raise UsageError(f"micro_batch {self.micro} does not divide the {self.share} samples of a device")

    @property
    def share(self) -> int:
        """Samples of a step on each device."""
        return self.batch // self.devices

    @property
    def micro(self) -> int:
        """Samples that go through the network at once."""
        return self.micro_batch or self.share


def options_from(config: Path | None, given: Mapping[str, Any]) -> TrainOptions:
    """Options of a flat YAML file and of the command line, which wins.

    Parameters
    ----------
    config : keys are the fields of `TrainOptions`; those of `Augmentation` are called augmentation_<name>
    given : by the same keys; `net_options` are added to the file's, unless it names another network

    UsageError names the file, the line and the key for a wrong key or type, and the option for a wrong value.
    """
    from pydantic import create_model

    own = {name: kind for name, kind in get_type_hints(TrainOptions).items() if name != "augmentation"}
    known = own | {f"{_AUGMENTATION}{name}": kind for name, kind in get_type_hints(Augmentation).items()}
    values: dict[str, Any] = {}
    if config is not None:
        keys: dict[str, Any] = {name: (kind, None) for name, kind in known.items()}
        values = read_flat(config, create_model("TrainFile", **keys), kind="configuration")
    if given.get("net", values.get("net")) != values.get("net"):
        values.pop("net_options", None)
    values |= {**given, "net_options": {**values.get("net_options", {}), **given.get("net_options", {})}}
    changes = {field.name: values.pop(name) for field in fields(Augmentation) if (name := f"{_AUGMENTATION}{field.name}") in values}
    return TrainOptions(**values, augmentation=Augmentation(**changes))
