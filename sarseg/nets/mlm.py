"""A model in the words of STAC's Machine Learning Model extension, for catalogues (stac-extensions/mlm, version 1.4.0).

The fields are those that the extension puts into an item's properties; the item around them, with a place and a time,
is the catalogue's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sarseg.decibel import FLOOR_POWER

if TYPE_CHECKING:
    from torch import nn

    from sarseg.bands import Band
    from sarseg.legend import Legend
    from sarseg.nets.modelfile import ModelSpec

_ARCHITECTURES = {
    "segnet": "SegNet",
    "fcn": "FCN",
    "unet": "U-Net",
    "unet_resnet": "U-Net",
    "pspnet": "PSPNet",
    "deeplabv3plus": "DeepLabV3+",
    "compact_unet": "U-Net",
    "majority": "majority class",
    "gaussian": "Gaussian maximum likelihood",
    "random_forest": "Random Forest",
}
_ANY = -1  # the extension's word for a dimension that may have any length
_NOT_IN_A_NAME = re.compile(r"[^0-9A-Za-z_-]+")


def mlm_fields(spec: ModelSpec, network: nn.Module) -> dict[str, Any]:
    """The `mlm:` fields of a model that is about to be written, for JSON; `spec.weights_sha256` is in its name.

    `spec.training["pretrained"]`, where there is one, says where the first weights came from.
    """
    source = spec.training.get("pretrained")
    parameters = [*network.parameters(), *network.buffers()]
    version = spec.versions.get("torch")
    return {
        "mlm:name": f"sarseg-{_plain(spec.network)}-{spec.weights_sha256[:12]}",
        "mlm:architecture": _ARCHITECTURES.get(spec.network, spec.network),
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        **({"mlm:framework_version": version} if version else {}),
        "mlm:total_parameters": sum(tensor.numel() for tensor in network.parameters()),
        "mlm:memory_size": sum(tensor.numel() * tensor.element_size() for tensor in parameters),
        "mlm:pretrained": bool(source),
        "mlm:pretrained_source": str(source) if source else None,
        "mlm:accelerator": None,
        "mlm:input": [_input(spec)],
        "mlm:output": [_output(spec)],
        "mlm:hyperparameters": {"network": spec.network, **spec.options, "temperature": spec.temperature},
    }


def _input(spec: ModelSpec) -> dict[str, Any]:
    return {
        "name": "bands",
        "description": "linear power of backscatter" if spec.quantity == "power" else "values as they stand in the file",
        "bands": [_band(band) for band in spec.bands],
        "input": {
            "shape": [_ANY, len(spec.bands), _ANY, _ANY],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [{"type": "z-score", "mean": band.mean, "stddev": band.std} for band in spec.bands],
        "resize_type": None,
        "pre_processing_function": None,
    }


def _band(band: Band) -> dict[str, Any]:
    """The band, and what makes its scaled value, in numpy's words, before `value_scaling`."""
    if band.scale == "db":
        return {"name": band.name, "format": "python", "expression": f"10 * log10(maximum({band.name}, {FLOOR_POWER!r}))"}
    if band.diagonals is not None:
        first, second = band.diagonals
        return {"name": band.name, "format": "python", "expression": f"clip({band.name} / sqrt({first} * {second}), -1, 1)"}
    return {"name": band.name}


def _output(spec: ModelSpec) -> dict[str, Any]:
    classes = len(spec.legend.codes)
    return {
        "name": "logits",
        "tasks": ["semantic-segmentation"],
        "result": {"shape": [_ANY, classes, _ANY, _ANY], "dim_order": ["batch", "class", "height", "width"], "data_type": "float32"},
        "classification:classes": _classes(spec.legend),
        "post_processing_function": {"format": "python", "expression": f"softmax(logits / {spec.temperature!r}, axis=1)"},
    }


def _classes(legend: Legend) -> Sequence[dict[str, Any]]:
    """By channel; the extension's names are plain letters, so that the class's own name is the description."""
    return [
        {
            "value": one.code,
            "name": _plain(one.name) or f"class_{one.code}",
            "description": one.name,
            "color_hint": "{:02X}{:02X}{:02X}".format(*one.color),
        }
        for one in legend.classes
    ]


def _plain(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", text).strip("_")
