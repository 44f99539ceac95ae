"""SegNet and the U-Nets: published sizes and names, unpooling by brute force, the decoder step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sarseg.errors import UsageError
from sarseg.nets.registry import build_network
from sarseg.nets.segnet import SegNet, SegNetConfig
from sarseg.nets.unet import UNet, UNetConfig
from sarseg.nets.unet_resnet import UNetResNet, UNetResNetConfig

torch.set_num_threads(1)  # tiny tensors: more threads would only wait for each other

VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def on_meta(name: str, *, bands: int, classes: int, **options: int | str) -> nn.Module:
    with torch.device("meta"):  # sizes only
        return build_network(name, bands=bands, classes=classes, options=options)


def random_norms(network: nn.Module) -> nn.Module:
    """Eval mode with batch norms that scale and shift, so that a missing or swapped one shows."""
    torch.manual_seed(11)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
            for tensor in (module.bias.data, module.running_mean):
                nn.init.normal_(tensor, 0, 0.3)  # type: ignore[arg-type]
    return network.eval()


# Counts: SegNet's encoder is 14.7 M as published; the others follow from the layers, the U-Nets' by their publications' figures.
@pytest.mark.parametrize(
    ("name", "bands", "classes", "options", "count"),
    [
        ("segnet", 3, 12, {}, 29_449_932),
        ("segnet", 3, 21, {}, 29_455_125),
        ("segnet", 2, 12, {}, 29_449_356),
        ("unet", 1, 2, {"norm": "none"}, 31_030_658),
        ("unet", 2, 2, {"norm": "none"}, 31_031_234),
        ("unet", 3, 2, {"norm": "none"}, 31_031_810),
        ("unet", 3, 2, {"norm": "batch"}, 31_037_698),
        # segmentation_models_pytorch, Unet(encoder, in_channels=3, classes=1)
        ("unet_resnet", 3, 1, {"backbone": "resnet18"}, 14_328_209),
        ("unet_resnet", 3, 1, {}, 24_436_369),
        ("unet_resnet", 3, 1, {"backbone": "resnet50"}, 32_521_105),
    ],
)
def test_parameter_counts(name: str, bands: int, classes: int, options: dict[str, int | str], count: int) -> None:
    assert parameters(on_meta(name, bands=bands, classes=classes, **options)) == count


def test_segnet_encoder_has_the_names_of_vgg16_bn() -> None:
    """torchvision numbers convolution, batch norm, ReLU and pool through; only the first two hold tensors."""
    want: dict[str, tuple[int, ...]] = {}
    at, before = 0, 3
    for stage in VGG16_STAGES:
        for after in stage:
            want |= {f"features.{at}.weight": (after, before, 3, 3), f"features.{at}.bias": (after,)}
            want |= {f"features.{at + 1}.{name}": (after,) for name in ("weight", "bias", "running_mean", "running_var")}
            want[f"features.{at + 1}.num_batches_tracked"] = ()
            at, before = at + 3, after
        at += 1
    assert at == 44  # vgg16_bn's features are 0..43
    network = on_meta("segnet", bands=3, classes=12)
    got = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if name.startswith("features.")}
    assert got == want
    assert parameters(network.features) == 14_723_136  # type: ignore[arg-type]


def pool_by_hand(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maxima of 2 x 2 blocks and the (row, col) of each, first in reading order; an odd last row or column is dropped."""
    n, c, h, w = x.shape
    maxima, places = np.empty((n, c, h // 2, w // 2)), np.empty((n, c, h // 2, w // 2, 2), int)
    for i, k, row, col in np.ndindex(maxima.shape):
        block = x[i, k, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        down, across = divmod(int(block.argmax()), 2)
        maxima[i, k, row, col] = block[down, across]
        places[i, k, row, col] = 2 * row + down, 2 * col + across
    return maxima, places


def unpool_by_hand(x: np.ndarray, places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    out = np.zeros((*x.shape[:2], *size))
    for i, k, row, col in np.ndindex(x.shape):
        out[(i, k, *places[i, k, row, col])] = x[i, k, row, col]
    return out


@pytest.mark.parametrize(("h", "w"), [(32, 32), (37, 66), (63, 33)])
def test_segnet_equals_a_decoder_with_unpooling_by_hand(h: int, w: int) -> None:
    """In double precision, so that no two values of a block are equal but for rounding (ReLU's zeros add nothing wherever they go)."""
    torch.manual_seed(5)
    network = random_norms(SegNet(SegNetConfig(bands=2, classes=3, width=3))).double()
    x = torch.randn(2, 2, h, w, dtype=torch.float64)
    encoder, kept = iter(network.features), []
    y = x
    with torch.inference_mode():
        for stage in VGG16_STAGES:
            for _ in range(3 * len(stage)):
                y = next(encoder)(y)
            assert isinstance(next(encoder), nn.MaxPool2d)
            maxima, places = pool_by_hand(y.numpy())
            kept.append((places, (y.shape[2], y.shape[3])))
            y = torch.from_numpy(maxima)
        for (places, size), convolutions in zip(reversed(kept), network.decoder, strict=True):
            y = convolutions(torch.from_numpy(unpool_by_hand(y.numpy(), places, size)))
        want, got = network.head(y), network(x)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (31, 40), (5, 100)])
def test_segnet_below_32_is_the_image_with_its_edge_repeated(h: int, w: int) -> None:
    torch.manual_seed(6)
    network = random_norms(SegNet(SegNetConfig(bands=1, classes=2, width=2))).double()
    x = torch.randn(1, 1, h, w, dtype=torch.float64)
    rows, cols = np.minimum(np.arange(max(h, 32)), h - 1), np.minimum(np.arange(max(w, 32)), w - 1)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), network(x[:, :, rows][..., cols])[:, :, :h, :w], rtol=0, atol=0)


def test_segnet_puts_a_maximum_back_where_it_was() -> None:
    """What the indices are for: a deep feature comes back at the pixel that won, not on a coarse raster."""
    torch.manual_seed(7)
    network = SegNet(SegNetConfig(bands=1, classes=2, width=2)).eval()
    seen: list[Tensor] = []
    network.decoder[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    first: list[Tensor] = []
    network.features[6].register_forward_pre_hook(lambda _, inputs: first.append(inputs[0]))
    with torch.inference_mode():
        network(torch.randn(1, 1, 64, 48))
    blocks = F.unfold(first[0].transpose(0, 1), 2, stride=2)  # (channel, 4, block)
    back = F.unfold(seen[0].transpose(0, 1), 2, stride=2)
    assert bool(((back != 0).sum(1) <= 1).all())
    came = (back != 0).any(1) & (blocks.amax(1) > 0)
    assert came.sum() > 200
    assert torch.equal(back.abs().argmax(1)[came], blocks.argmax(1)[came])


def test_plain_unet_is_the_paper_on_an_unpadded_image() -> None:
    """The paper's convolutions are unpadded: 572 in, 388 out. Inside the image ours give the same, here with narrow levels."""
    torch.manual_seed(8)
    network = UNet(UNetConfig(bands=1, classes=2, width=2, depth=4, norm="none")).eval().double()
    # cut two pixels in, the unpadded levels pool the same pairs of pixels as the padded ones
    x = torch.randn(1, 1, 576, 576, dtype=torch.float64)

    def convolve(block: nn.Module, y: Tensor) -> Tensor:
        for layer in block.children():
            y = F.conv2d(y, layer.weight, layer.bias) if isinstance(layer, nn.Conv2d) else y.clamp(min=0)
        return y

    with torch.inference_mode():
        skips = [convolve(network.encoder[0], x[..., 2:574, 2:574])]
        for block in network.encoder[1:]:
            skips.append(convolve(block, F.max_pool2d(skips[-1], 2)))
        assert [skip.shape[-1] for skip in skips] == [568, 280, 136, 64, 28]  # figure 1 of the paper
        y = skips.pop()
        for level in (3, 2, 1, 0):
            up = network.up[level]
            y = F.conv_transpose2d(y, up.weight, up.bias, stride=2)
            cut = (skips[level].shape[-1] - y.shape[-1]) // 2
            y = convolve(network.decoder[level], torch.cat([skips[level][..., cut:-cut, cut:-cut], y], dim=1))
        y = network.head(y)
        assert y.shape[-2:] == (388, 388)
        torch.testing.assert_close(network(x)[..., 94:482, 94:482], y, rtol=1e-9, atol=1e-10)


def test_plain_unet_keeps_its_signal_through_the_depth() -> None:
    """He's start without a norm: logits of standard normal input are of order 1, not 1e-3 or 1e3, at the published size's depth."""
    torch.manual_seed(9)
    network = UNet(UNetConfig(bands=2, classes=3, width=16, norm="none")).eval()
    with torch.inference_mode():
        spread = float(network(torch.randn(2, 2, 64, 64)).std())
    assert 0.05 < spread < 5


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_unet_resnet_decoder_step_by_step(backbone: str) -> None:
    """Double the size by repeating pixels, join the encoder's feature of that size behind, two convolutions; five times."""
    network = random_norms(UNetResNet(UNetResNetConfig(bands=2, classes=3, backbone=backbone))).double()  # type: ignore[arg-type]
    x = torch.randn(1, 2, 70, 33, dtype=torch.float64)
    rows, cols = np.minimum(np.arange(96), 69), np.minimum(np.arange(64), 32)
    with torch.inference_mode():
        *finer, y = network.backbone(x[:, :, rows][..., cols])
        assert [feature.shape[-2:] for feature in finer] == [(48, 32), (24, 16), (12, 8), (6, 4)]
        assert y.shape[-2:] == (3, 2)
        for width, block in zip((256, 128, 64, 32, 16), network.decoder, strict=True):
            y = y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            if finer:
                y = torch.cat([y, finer.pop()], dim=1)
            for convolution, norm, _ in zip(*[iter(block)] * 3, strict=True):
                y = F.conv2d(y, convolution.weight, padding=1)
                scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                y = (y * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]).clamp(min=0)
            assert y.shape[1] == width
        want = F.conv2d(y, network.head.weight, network.head.bias, padding=1)
        torch.testing.assert_close(network(x), want[..., :70, :33], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("segnet", {"width": 0}, "width is 0"),
        ("unet", {"depth": -1}, "depth is -1"),
        ("unet", {"width": 0}, "width is 0"),
        ("unet", {"norm": "group"}, "norm is 'group', not one of batch, none"),
        ("unet_resnet", {"backbone": "resnet101"}, "not one of resnet18, resnet34, resnet50"),
        ("unet_resnet", {"width": 3}, "width"),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, int | str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build_network(name, bands=2, classes=3, options=options)
    with pytest.raises(UsageError, match="bands is 0"):
        build_network(name, bands=0, classes=3, options={})
