"""What every network that is trained by gradient must do: any size, any bands, layouts, honest attributes, learning by heart."""

from __future__ import annotations

import copy
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sarseg.legend import LandClass, Legend
from sarseg.nets.modelfile import BandSpec, ModelSpec, load_model, save_model
from sarseg.nets.registry import NETWORKS, Option, build_network, complete_options

torch.set_num_threads(1)  # tiny tensors: more threads would only wait for each other

OURS = {name: network for name, (_, network) in NETWORKS.items() if network.__module__.startswith("sarseg.")}  # other tests add one
TRAINED = [name for name, network in OURS.items() if not getattr(network, "takes_nan", False)]  # the others are fitted
SMALL: dict[str, dict[str, Option]] = {
    "compact_unet": {"width": 8, "depth": 2},
    "segnet": {"width": 8},
    "unet": {"width": 8, "depth": 3},
    "unet_resnet": {"backbone": "resnet18"},
    "deeplabv3plus": {"backbone": "resnet18"},
}
FORMS: list[tuple[str, dict[str, Option]]] = [
    *((name, SMALL.get(name, {})) for name in TRAINED),
    ("unet", {"width": 4, "depth": 2, "norm": "none"}),
    ("fcn", {"form": "8s", "aux": True}),
    ("pspnet", {"stem": "plain"}),
    ("deeplabv3plus", {"backbone": "resnet18", "output_stride": 8}),
]
each_form = pytest.mark.parametrize(("name", "options"), FORMS, ids=[f"{name} {options}" for name, options in FORMS])
each_network = pytest.mark.parametrize("name", TRAINED)


@cache
def _fresh(name: str, options: tuple[tuple[str, Option], ...], bands: int) -> nn.Module:
    torch.manual_seed(2)
    return build_network(name, bands=bands, classes=3, options=dict(options))


def fresh(name: str, options: dict[str, Option], *, bands: int = 2) -> nn.Module:
    """A network of its own for a test: a copy, because making the weights of a large one takes a second."""
    return copy.deepcopy(_fresh(name, tuple(options.items()), bands))


def heads(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    answer = network(x)
    return answer if isinstance(answer, dict) else {"out": answer}


@pytest.mark.parametrize("bands", [1, 2, 9])
@each_network
def test_any_size_and_any_number_of_bands(name: str, bands: int) -> None:
    torch.manual_seed(bands)
    network = build_network(name, bands=bands, classes=5, options=SMALL.get(name, {})).eval()
    for h, w in {1: [(1, 1), (31, 2)], 2: [(1, 9), (33, 47)], 9: [(3, 65), (7, 5)]}[bands]:
        x = torch.randn(3, bands, h, w)
        with torch.inference_mode():
            logits = network(x)
            last = network(x[2:])
        assert isinstance(logits, Tensor)
        assert logits.shape == (3, 5, h, w)
        assert bool(torch.isfinite(logits).all())
        # an image's answer does not depend on what stands beside it in the batch; float32 sums in another order
        assert float((logits[2:] - last).abs().max()) <= 1e-4 * float(last.abs().max())
        assert float((logits[0] - logits[1]).abs().max()) > 1e-6 * float(last.abs().max())


@each_form
def test_a_gradient_reaches_every_parameter(name: str, options: dict[str, Option]) -> None:
    network = fresh(name, options).train()
    torch.manual_seed(3)
    answer = heads(network, torch.randn(2, 2, 50, 70))
    assert all(head.shape == (2, 3, 50, 70) for head in answer.values())
    assert ("aux" in answer) == (name == "pspnet" or options.get("aux", False))
    if "aux" in answer:
        assert 0 < network.aux_weight < 1  # type: ignore[operator]
    sum((head * torch.randn_like(head)).sum() for head in answer.values()).backward()  # type: ignore[union-attr]
    # a batch norm takes the bias of the convolution before it away: its gradient is zero but for rounding
    without = {id(a.bias) for a, b in pairwise(network.modules()) if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d)}
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert bool(torch.isfinite(parameter.grad).all()), key
        assert id(parameter) in without or float(parameter.grad.abs().max()) > 0, key


@each_form
def test_stride_is_that_of_the_coarsest_features(name: str, options: dict[str, Option]) -> None:
    network = fresh(name, options).eval()
    stride = network.stride
    assert isinstance(stride, int)
    encoder = getattr(network, "backbone", network)  # what pools the whole image comes behind it
    sizes: list[tuple[int, int]] = []
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            module.register_forward_hook(lambda *seen: sizes.append((seen[2][0] if isinstance(seen[2], tuple) else seen[2]).shape[-2:]))
    with torch.inference_mode():
        network(torch.randn(1, 2, 6 * stride, 3 * stride))
    rows, cols = min(sizes)
    assert rows in (6, 7)  # padded to a multiple of the stride, or to one pixel more
    assert cols in (3, 4)


@each_network
def test_model_folder_gives_the_network_back(name: str, tmp_path: Path) -> None:
    network = fresh(name, SMALL.get(name, {}))
    x = torch.randn(2, 2, 37, 41)
    network.train()(x)  # the running statistics of batch norm travel too
    bands = tuple(BandSpec(name=band, scale="db", mean=-12.0, std=4.0) for band in ("VV", "VH"))
    legend = Legend(tuple(LandClass(code=code, name=f"class {code}", color=(code, 0, 9)) for code in (1, 4, 6)))
    spec = ModelSpec(network=name, options=complete_options(name, SMALL.get(name, {})), bands=bands, quantity="power", legend=legend)
    model = load_model(save_model(tmp_path / "model", network, spec))
    with torch.inference_mode():
        assert torch.equal(model.network(x), network.eval()(x))


@each_form
def test_memory_layout_changes_nothing(name: str, options: dict[str, Option]) -> None:
    """In double precision: in float32 two values of a block may swap by rounding, and SegNet puts the maximum elsewhere."""
    network = fresh(name, options).eval().double()
    x = torch.randn(2, 2, 33, 47, dtype=torch.float64)
    with torch.inference_mode():
        want = network(x)
        got = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))  # type: ignore[call-overload]
    assert float((got - want).abs().max()) <= 1e-9 * float(want.abs().max())


def patch() -> tuple[Tensor, Tensor]:
    """Two copies of a speckled field of three classes, (2, 2, 64, 64) and (2, 64, 64)."""
    rng = np.random.default_rng(4)
    rows, cols = np.mgrid[:64, :64]
    target = np.where(cols + 0.4 * rows > 45, 1, 0)
    target[(rows >= 40) & (target == 0)] = 2
    levels = np.array([[-0.5, 0.2], [0.4, -0.3], [0.1, 0.6]])[target]
    image = (levels + rng.standard_normal((64, 64, 2))).transpose(2, 0, 1).astype("f4")
    return torch.from_numpy(image)[np.newaxis].repeat(2, 1, 1, 1), torch.from_numpy(target)[np.newaxis].repeat(2, 1, 1)


def share_right(network: nn.Module, image: Tensor, target: Tensor) -> float:
    with torch.no_grad():
        return float((heads(network, image)["out"].argmax(1) == target).float().mean())


HEAVY = {"fcn", "pspnet"}  # a step takes a second of CPU time
BY_HEART = [
    *(pytest.param(name, SMALL.get(name, {}), marks=[pytest.mark.slow] if name in HEAVY else [], id=name) for name in TRAINED),
    *(pytest.param(name, {}, marks=[pytest.mark.slow], id=f"{name} full") for name in TRAINED if name in SMALL),
]


@pytest.mark.parametrize(("name", "options"), BY_HEART)
def test_learns_one_patch_by_heart(name: str, options: dict[str, Option]) -> None:
    """More than 99 % right in eval mode after few plain AdamW steps: no class from a pixel alone, no layer that does not learn."""
    image, target = patch()
    alone = ((image[0, :, None] - torch.tensor([[-0.5, 0.4, 0.1], [0.2, -0.3, 0.6]])[..., None, None]) ** 2).sum(0).argmin(0)
    assert float((alone == target[0]).float().mean()) < 0.7
    network = fresh(name, options)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2 if "width" in options else 1e-3)
    shares = []
    while len(shares) < 20 and max(shares, default=0.0) <= 0.99:
        network.train()
        for _ in range(10):
            optimiser.zero_grad()
            answer = heads(network, image)
            loss = F.cross_entropy(answer["out"], target)
            if "aux" in answer:
                loss = loss + network.aux_weight * F.cross_entropy(answer["aux"], target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        shares.append(share_right(network.eval(), image, target))
    assert shares[-1] > 0.99, shares
