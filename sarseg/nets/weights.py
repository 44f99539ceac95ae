"""Published weights for a network's encoder: from a local file or a URL, checked, fitted to the bands.

Files that could run code are not opened: safetensors, or tensors only (`torch.load(weights_only=True)`).
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from sarseg.errors import InputError, MissingError, UsageError
from sarseg.nets.fcn import FCN
from sarseg.nets.resnet import ResNet

_PICKLES = (".pth", ".pt")
_SAFE = ".safetensors"
_TIMEOUT_S = 60
_CHUNK = 1 << 20
_QUERY_ENCODER = "module.encoder_q."
_SSL4EO_BANDS = ("VV", "VH")  # the order of the Sentinel-1 encoder: github.com/zhu-xlab/SSL4EO-S12
_NAMED = 6  # so many left-out tensors are named in the report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Tensors under the network's own names; `encoder` is the prefix of those that must fit, `first` the first convolution.

    `bands` names the bands that the first convolution takes; empty where they are not known.
    """

    layout: str
    tensors: dict[str, Tensor]
    encoder: str
    first: str
    bands: tuple[str, ...] = ()


def load_pretrained(network: nn.Module, source: str | Path, *, band_names: Sequence[str], sha256: str | None = None) -> list[str]:
    """Put published weights into a network's encoder, in place; into an FCN's heads too where the file has them and they fit.

    Layouts, told apart by their names: torchvision's ResNet (timm's is the same: torchgeo's file of SSL4EO-S12); torchvision's FCN, or
    another network with its ResNet under `backbone.`; torchvision's `vgg16_bn`, for SegNet; the MoCo checkpoint of SSL4EO-S12 (Wang et
    al. 2023, doi 10.1109/MGRS.2023.3281651), of which the query encoder is taken. A plain ResNet of two bands is taken as one of VV, VH.

    The first convolution stays as it is where the source has as many bands, by the same names or by unknown ones. Else a band that the
    source has by name keeps its kernel, any other gets the mean of all kernels, and all are scaled by (bands of the source) / (bands
    of the network), so that activations keep their size.

    Parameters
    ----------
    network : has a `ResNet` as `backbone`, or the convolutions of VGG-16 as `features`
    source : a file .safetensors, .pth or .pt, or its http, https or file URL; a download is kept in `$XDG_CACHE_HOME/sarseg`
    band_names : of the network's input, in its order
    sha256 : of the file, 64 hexadecimal digits; a URL must have one

    Returns
    -------
    what was loaded, adapted and left out, line by line. InputError when the file is absent, another one, or does not fit (the network
    is then as before); MissingError when it cannot be downloaded; UsageError for a URL without a checksum.
    """
    name, data = _read(str(source), sha256)
    read = _recognised(_tensors(name, data, source), network, source)
    own = network.state_dict()
    _check_fit(read, own, source)
    if len(band_names) != own[read.first].shape[1]:
        raise UsageError(f"{len(band_names)} band names for a network of {own[read.first].shape[1]} bands", ", ".join(band_names))
    fitting = {key: tensor for key, tensor in read.tensors.items() if key.startswith(read.encoder) and key in own}
    if isinstance(network, FCN):
        fitting |= _heads(read.tensors, own)
    fitting[read.first], adaptation = _adapted(fitting[read.first].float(), read.bands, tuple(band_names))
    network.load_state_dict(fitting, strict=False)
    report = [f"{read.layout}, {name}, sha256 {hashlib.sha256(data).hexdigest()}", f"loaded {len(fitting)} tensors"]
    if adaptation:
        report.append(f"adapted {read.first}: {adaptation}")
    if left := sorted(read.tensors.keys() - fitting.keys()):
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        report.append(f"left out {', '.join(left[:_NAMED])}{more}")
    return report


def _read(source: str, sha256: str | None) -> tuple[str, bytes]:
    """Name and bytes of a file or URL, of which the checksum is right."""
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"'{sha256}' is no SHA-256", source, "give 64 hexadecimal digits")
    wanted = sha256.lower() if sha256 is not None else None
    url = urlsplit(source)
    remote = url.scheme in ("http", "https", "file")
    name = PurePosixPath(unquote(url.path)).name if remote else Path(source).name
    if Path(name).suffix.lower() not in (*_PICKLES, _SAFE):
        raise InputError("no file of weights that is read", source, f"give {_SAFE}, {' or '.join(_PICKLES)}")
    if remote:
        if wanted is None:
            raise UsageError("a download needs its checksum", source, "give the SHA-256 that its publisher states")
        return name, _downloaded(source, name, wanted)
    try:
        data = Path(source).read_bytes()
    except OSError as error:
        raise InputError("the weights cannot be read", source, error.strerror or "") from error
    if wanted is not None:
        _check_sum(hashlib.sha256(data).hexdigest(), wanted, source)
    return name, data


def _downloaded(url: str, name: str, wanted: str) -> bytes:
    """Bytes of a URL, from the cache when they are there and right; a file has its name there only when it is complete and right."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sarseg"
    kept = folder / f"{wanted[:16]}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"
    if kept.is_file():
        data = kept.read_bytes()
        if hashlib.sha256(data).hexdigest() == wanted:
            return data
    part = kept.with_name(f".partial-{os.getpid()}-{kept.name}")
    digest = hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urlopen(url, timeout=_TIMEOUT_S) as response, part.open("wb") as file:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
        _check_sum(digest.hexdigest(), wanted, url)
        part.replace(kept)
    except (OSError, HTTPException) as error:
        raise MissingError(f"the weights cannot be downloaded ({error})", url, "fetch the file yourself and give its path") from error
    finally:
        part.unlink(missing_ok=True)
    return kept.read_bytes()


def _check_sum(got: str, wanted: str, where: object) -> None:
    if got != wanted:
        raise InputError(f"SHA-256 is {got}, not {wanted}", where, "the file is damaged or another one")


def _tensors(name: str, data: bytes, where: object) -> dict[str, Tensor]:
    """The tensors of a file by name; no code in it runs."""
    try:
        if Path(name).suffix.lower() == _SAFE:
            content: object = load_safetensors(data)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on old formats; what matters raises
                content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        hint = "what is no tensor can run any code; ask its publisher for safetensors"
        raise InputError("the file is damaged or holds more than tensors, and is not opened", where, hint) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError, struct.error) as error:
        raise InputError("no weights can be read from the file", where, str(error).partition("\n")[0]) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise InputError("the file holds no tensors by name", where, "give a state dict")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(f"{key} is no tensor", where, "give a state dict")
    return dict(content)


def _recognised(tensors: dict[str, Tensor], network: nn.Module, where: object) -> _Source:
    """Which layout it is, with the network's own names; InputError when it is none, or the network has no such encoder."""
    moco = any(key.startswith(_QUERY_ENCODER) for key in tensors)
    prefix = _QUERY_ENCODER if moco else "module." if all(key.startswith("module.") for key in tensors) else ""
    tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    if "conv1.weight" in tensors:
        two = tensors["conv1.weight"].ndim == 4 and tensors["conv1.weight"].shape[1] == len(_SSL4EO_BANDS)
        read = _Source(
            layout="query encoder of MoCo" if moco else "ResNet",
            tensors={f"backbone.{key}": tensor for key, tensor in tensors.items()},
            encoder="backbone.",
            first="backbone.conv1.weight",
            bands=_SSL4EO_BANDS if two else (),
        )
    elif "backbone.conv1.weight" in tensors:
        read = _Source(layout="network on a ResNet", tensors=tensors, encoder="backbone.", first="backbone.conv1.weight")
    elif "features.0.weight" in tensors:
        read = _Source(layout="VGG-16", tensors=tensors, encoder="features.", first="features.0.weight")
    else:
        hint = "known are the layouts of torchvision's ResNet, FCN and vgg16_bn, and of SSL4EO-S12"
        raise InputError(f"the weights have no known layout: the first tensor is {min(tensors)}", where, hint)
    kind = ResNet if read.encoder == "backbone." else nn.Sequential
    if not isinstance(getattr(network, read.encoder[:-1], None), kind):
        resnet = kind is ResNet
        hint = "networks for it are fcn, unet_resnet, pspnet, deeplabv3plus" if resnet else "segnet is the network for it"
        raise InputError(f"{type(network).__name__} does not contain a {'ResNet' if resnet else 'VGG-16'} as the file does", where, hint)
    return read


def _check_fit(read: _Source, own: Mapping[str, Tensor], where: object) -> None:
    """InputError for the first tensor of the encoder that is absent, of another shape, no finite numbers, or has no place."""
    hint = "the weights are of another backbone, stem or width than the network's options say"
    for key, tensor in own.items():
        if not key.startswith(read.encoder) or key.startswith(f"{read.encoder}fc."):
            continue
        given = read.tensors.get(key)
        if given is None:
            if key.endswith("num_batches_tracked"):  # absent from files of torch before 0.4.1, and of no use in training
                continue
            raise InputError(f"tensor {key} is absent", where, hint)
        shape, wanted = list(given.shape), list(tensor.shape)
        if shape != wanted and not (
            key == read.first and len(shape) == 4 and shape[1] >= 1 and shape == [wanted[0], shape[1], *wanted[2:]]
        ):
            raise InputError(f"tensor {key} is {shape}, not {wanted}", where, hint)
    for key, given in sorted(read.tensors.items()):  # a file's own order is its writer's, and safetensors keeps none
        if key.startswith(read.encoder) and key not in own and not key.startswith(f"{read.encoder}fc."):
            raise InputError(f"tensor {key} has no place in the network", where, hint)
        if key in own and given.is_floating_point() != own[key].is_floating_point():
            raise InputError(f"tensor {key} is {given.dtype}, not {own[key].dtype}", where, hint)
        if key in own and not bool(torch.isfinite(given).all()):
            raise InputError(f"tensor {key} has values that are no finite numbers", where, "the file is damaged")


def _heads(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What fits of an FCN's heads; the scores of other classes do not."""
    fitting: dict[str, Tensor] = {}
    for head in ("classifier.", "aux_classifier."):
        inner = f"{head}0.weight"
        if inner in tensors and inner in own and tensors[inner].shape == own[inner].shape:
            fitting |= {
                key: tensor for key, tensor in tensors.items() if key.startswith(head) and key in own and tensor.shape == own[key].shape
            }
    return fitting


def _adapted(kernels: Tensor, known: tuple[str, ...], bands: tuple[str, ...]) -> tuple[Tensor, str]:
    """The first convolution's kernels for other bands, (out, bands, h, w), and what was done; "" where they stay as they are."""
    places = {name.upper(): at for at, name in enumerate(known)}
    found = [places.get(name.upper()) for name in bands]
    before, after = kernels.shape[1], len(bands)
    if before == after and (found == list(range(before)) or not any(at is not None for at in found)):
        return kernels, ""
    mean = kernels.mean(dim=1)
    adapted = torch.stack([mean if at is None else kernels[:, at] for at in found], dim=1) * (before / after)
    by_name = [name for name, at in zip(bands, found, strict=True) if at is not None]
    by_mean = [name for name, at in zip(bands, found, strict=True) if at is None]
    parts = [f"{', '.join(by_name)} by name"] * bool(by_name) + [f"the mean of {before} kernels for {', '.join(by_mean)}"] * bool(by_mean)
    return adapted, f"{'; '.join(parts)}; scaled by {before}/{after}"
