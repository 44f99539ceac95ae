"""The networks by name: one dict, filled here and nowhere else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from torch import nn

from sarseg.errors import UsageError
from sarseg.nets.baselines import BASELINES
from sarseg.nets.compact import CompactUNet, CompactUNetConfig
from sarseg.nets.deeplab import DeepLabV3Plus, DeepLabV3PlusConfig
from sarseg.nets.fcn import FCN, FCNConfig
from sarseg.nets.pspnet import PSPNet, PSPNetConfig
from sarseg.nets.segnet import SegNet, SegNetConfig
from sarseg.nets.unet import UNet, UNetConfig
from sarseg.nets.unet_resnet import UNetResNet, UNetResNetConfig

Option = int | float | bool | str
"""A value of a network's option."""

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}

NETWORKS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "compact_unet": (CompactUNetConfig, CompactUNet),
    "fcn": (FCNConfig, FCN),
    "pspnet": (PSPNetConfig, PSPNet),
    "deeplabv3plus": (DeepLabV3PlusConfig, DeepLabV3Plus),
    "segnet": (SegNetConfig, SegNet),
    "unet": (UNetConfig, UNet),
    "unet_resnet": (UNetResNetConfig, UNetResNet),
    **BASELINES,
}
"""Name -> (config, network): the config is a dataclass of `bands`, `classes` and the network's options; the network takes it."""


def build_network(name: str, *, bands: int, classes: int, options: Mapping[str, Option]) -> nn.Module:
    """A network with fresh weights: float32 (n, bands, h, w) in, logits (n, classes, h, w) out, any h, w >= 1.

    UsageError for an unknown name, or options that the network does not have.
    """
    config = _config(name, bands, classes, options)
    return NETWORKS[name][1](config)


def complete_options(name: str, options: Mapping[str, Option]) -> dict[str, Option]:
    """The options with the network's defaults filled in: a model on disk must not depend on them."""
    config = asdict(_config(name, 1, 1, options))
    return {key: value for key, value in config.items() if key not in ("bands", "classes")}


def stride_of(network: nn.Module) -> int:
    """By how much the network's coarsest features are smaller than its input."""
    return int(getattr(network, "stride", 1))


def _config(name: str, bands: int, classes: int, options: Mapping[str, Option]) -> Any:
    if name not in NETWORKS:
        raise UsageError(f"no network '{name}'", hint=_near(name.lower(), NETWORKS) or f"there are {', '.join(NETWORKS)}")
    config = NETWORKS[name][0]
    known = {one.name: one.default for one in fields(config) if one.name not in ("bands", "classes")}
    for key, value in options.items():
        if key not in known:
            hint = _near(key, known) or f"options are {', '.join(known)}" if known else "it has none"
            raise UsageError(f"network '{name}' has no option '{key}'", hint=hint)
        kind = type(known[key])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UsageError(f"option '{key}' of network '{name}' is {value!r}", hint=f"{_KINDS[kind]}, e.g. {known[key]}")
    try:
        return config(bands=bands, classes=classes, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"network '{name}' cannot be built with {dict(options)}", hint=str(error)) from error


def _near(word: str, words: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, words, 1)
    return f"did you mean '{found[0]}'?" if found else ""
