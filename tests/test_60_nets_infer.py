"""Tiled prediction: a network without context, tiled, equals itself untiled; NaN does not grow; memory and reads are bounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from sarseg.errors import UsageError
from sarseg.nets.compact import CompactUNet, CompactUNetConfig
from sarseg.nets.infer import AXIS_UNIT, Forward, Strip, TileOptions, axis_tiles, make_forward, predict_strips, quantise
from sarseg.tiles import Window

torch.set_num_threads(1)  # tiny tensors: more threads would only wait for each other


def one_by_one() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 1)).eval()


POINTWISE = make_forward(one_by_one(), temperature=0.7)


def run(values: NDArray[np.float32], forward: Forward, tile: int, overlap: int, classes: int = 3) -> list[Strip]:
    def read(window: Window) -> NDArray[np.float32]:
        return values[:, window.row : window.row_stop, window.col : window.col_stop]

    shape = (values.shape[1], values.shape[2])
    options = TileOptions(tile_px=tile, overlap_px=overlap)
    return list(predict_strips(read, shape, forward, classes=classes, options=options))


def joined(strips: list[Strip]) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    return np.concatenate([s.probabilities for s in strips], 1), np.concatenate([s.valid for s in strips], 0)


def image(rows: int, cols: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng((seed, rows, cols)).standard_normal((2, rows, cols)).astype(np.float32)


@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 4), (16, 9), (7, 6), (1, 0)])
def test_weights_add_up_to_the_unit_at_every_length(tile: int, overlap: int) -> None:
    for length in range(1, 71):
        total = np.zeros(length, np.int64)
        for one in axis_tiles(length, TileOptions(tile_px=tile, overlap_px=overlap)):
            assert one.stop - one.start == min(tile, length)
            total[one.start : one.stop] += one.weights
        np.testing.assert_array_equal(total, AXIS_UNIT)


@pytest.mark.parametrize("first", range(1, 71))
def test_every_size_from_1_to_70_tiled_equals_direct(first: int) -> None:
    """A network of 1 x 1 convolutions: every length from 1 to 70 in both directions, beside short, long, equal and odd ones."""
    for second in {1, 2, first, 71 - first, 70}:
        for rows, cols in {(first, second), (second, first)}:
            values = image(rows, cols)
            got, valid = joined(run(values, POINTWISE, 24, 7))
            assert valid.all()
            # a convolution may round the last bit otherwise in another shape: one step of 65535
            assert np.abs(got.astype(np.int64) - quantise(POINTWISE(values))).max() <= 1, (rows, cols)


@settings(max_examples=40)
@given(rows=st.integers(1, 70), cols=st.integers(1, 70), tile=st.integers(1, 40), data=st.data())
def test_any_tile_and_overlap_equals_direct(rows: int, cols: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    values = image(rows, cols)
    got, _ = joined(run(values, POINTWISE, tile, overlap))
    assert got.shape == (3, rows, cols)
    assert np.abs(got.astype(np.int64) - quantise(POINTWISE(values))).max() <= 1


def test_every_pixel_is_read_once_and_strips_follow_each_other() -> None:
    values, read_rows, next_row = image(100, 33), [], 0

    def read(window: Window) -> NDArray[np.float32]:
        assert (window.col, window.cols) == (0, 33)
        read_rows.extend(range(window.row, window.row_stop))
        return values[:, window.row : window.row_stop]

    for strip in predict_strips(read, (100, 33), POINTWISE, classes=3, options=TileOptions(tile_px=32, overlap_px=10)):
        assert strip.window.row == next_row
        assert strip.probabilities.shape == (3, *strip.window.shape)
        np.testing.assert_array_equal(strip.values, values[:, next_row : strip.window.row_stop])
        next_row = strip.window.row_stop
    assert next_row == 100
    assert read_rows == list(range(100))


def test_one_nan_pixel_does_not_grow() -> None:
    torch.manual_seed(5)
    forward = make_forward(CompactUNet(CompactUNetConfig(bands=2, classes=3, width=4, depth=2)), temperature=1.0)
    values = image(50, 61)
    values[1, 20, 31] = np.nan
    probabilities, valid = joined(run(values, forward, 24, 8))
    expected = np.ones((50, 61), bool)
    expected[20, 31] = False
    np.testing.assert_array_equal(valid, expected)
    total = probabilities.astype(np.int64).sum(0)
    assert np.abs(total - 65535).max() <= 8  # three roundings a tile, four tiles


def test_tiles_without_a_valid_pixel_are_not_computed() -> None:
    seen = []

    def forward(values: NDArray[np.float32]) -> NDArray[np.float32]:
        assert not np.isnan(values).any()
        seen.append(values.shape)
        return np.full((3, *values.shape[1:]), 1 / 3, np.float32)

    values = image(40, 60)
    values[:, :, :40] = np.nan
    _, valid = joined(run(values, forward, 20, 0))
    assert len(seen) == 2
    assert valid.sum() == 40 * 20


def test_blend_is_the_weighted_mean_of_the_tiles() -> None:
    """Brute force in floating point over a network that answers by place in the tile, hence differently in every tile."""

    def forward(values: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, cols = values.shape[1:]
        first = (np.arange(rows)[:, None] * 3 + np.arange(cols)[None, :] * 5) % 17 / 17
        return np.stack([first, 1 - first]).astype(np.float32)

    options = TileOptions(tile_px=13, overlap_px=5)
    values = image(45, 38)
    got, _ = joined(run(values, forward, 13, 5, classes=2))
    total, weight = np.zeros((2, 45, 38)), np.zeros((45, 38))
    for down in axis_tiles(45, options):
        for across in axis_tiles(38, options):
            w = np.outer(down.weights, across.weights).astype(float)
            at = (slice(down.start, down.stop), slice(across.start, across.stop))
            total[:, at[0], at[1]] += w * forward(values[:, at[0], at[1]])
            weight[at] += w
    np.testing.assert_allclose(got / 65535, total / weight, atol=2 / 65535)  # rounded to uint16 before and after
    # the ramp rises over the overlap: a seam's middle is an even mix
    first, second = axis_tiles(21, options)
    assert (second.start, first.stop) == (8, 13)
    share = first.weights[8:13].astype(float) / 256
    np.testing.assert_allclose(share, [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6], atol=1 / 256)


def test_tiled_unet_agrees_with_one_forward_over_the_whole() -> None:
    """With tiles that overlap by more than the network's reach, only the ramp's outer pixels see an edge that is none."""
    torch.manual_seed(8)
    forward = make_forward(CompactUNet(CompactUNetConfig(bands=2, classes=3, width=4, depth=1)), temperature=1.0)
    values = image(96, 120)
    got, _ = joined(run(values, forward, 64, 32))
    direct = quantise(forward(values)).astype(np.int64)
    assert np.abs(got - direct).mean() / 65535 < 1e-3
    assert (got.argmax(0) != direct.argmax(0)).mean() < 5e-3


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (8, 8), (8, -1)])
def test_impossible_tiles_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(UsageError, match="no tiles"):
        TileOptions(tile_px=tile, overlap_px=overlap)


def test_both_ways_is_the_mean_of_a_tile_and_the_tile_turned() -> None:
    torch.manual_seed(3)
    network = CompactUNet(CompactUNetConfig(bands=2, classes=3, width=4, depth=1))
    tile = np.random.default_rng(5).standard_normal((2, 9, 14)).astype(np.float32)
    one = make_forward(network, temperature=0.8)
    turned = one(np.ascontiguousarray(tile[:, ::-1, ::-1]))[:, ::-1, ::-1]
    got = make_forward(network, temperature=0.8, both_ways=True)(tile)
    np.testing.assert_allclose(got, (one(tile) + turned) / 2, atol=1e-6)  # float32 probabilities
    assert np.abs(got - one(tile)).max() > 1e-3


class Counts(nn.Module):
    """The NaN that it is shown, as the first class's logit."""

    def __init__(self, *, takes_nan: bool) -> None:
        super().__init__()
        self.takes_nan = takes_nan
        self.shown = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shown += int(x.isnan().sum())
        assert (x[~x.isnan()] != 0).all() or not self.takes_nan
        return torch.zeros(len(x), 3, *x.shape[2:])


@pytest.mark.parametrize("takes_nan", [True, False])
def test_nan_reaches_only_what_takes_it(takes_nan: bool) -> None:
    values = image(20, 30)
    values[1, 4:6, 7] = np.nan
    network = Counts(takes_nan=takes_nan)
    probabilities, valid = joined(run(values, make_forward(network, temperature=1.0), 12, 0))
    assert network.shown == (2 if takes_nan else 0)
    assert (~valid).sum() == 2
    assert set(np.unique(probabilities)) == {21845}
