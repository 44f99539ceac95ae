"""The networks by name: one dict, filled here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from sarseg.errors import InputError, UsageError
from sarseg.nets.unet import UNet, UNetConfig

Options = Mapping[str, int]


def _unet(bands: int, classes: int, options: Options) -> nn.Module:
    return UNet(UNetConfig(bands=bands, classes=classes, **options))


NETWORKS: dict[str, Callable[[int, int, Options], nn.Module]] = {"unet": _unet}
"""Name -> function of (bands, classes, options) that builds the network with fresh weights."""


def build_network(name: str, *, bands: int, classes: int, options: Options) -> nn.Module:
    """A network with fresh weights: float32 (n, bands, h, w) in, logits (n, classes, h, w) out, any h, w >= 1.

    UsageError for an unknown name; InputError for options that the network does not have.
    """
    if name not in NETWORKS:
        raise UsageError(f"no network '{name}'", hint=f"there are {', '.join(NETWORKS)}")
    try:
        return NETWORKS[name](bands, classes, options)
    except (TypeError, ValueError) as error:
        raise InputError(f"network '{name}' cannot be built with {dict(options)}", hint=str(error)) from error


def stride_of(network: nn.Module) -> int:
    """By how much the network's coarsest features are smaller than its input."""
    return int(getattr(network, "stride", 1))
