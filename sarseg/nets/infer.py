"""Prediction in overlapping tiles, blended in integers: any size from 1, memory of one row of tiles.

Along each axis the tiles' weights add up to exactly 256 at every pixel, so a blended probability is a sum of
uint16 * 256 * 256 that fits uint32, the order of tiles cannot change a bit, and equal answers blend to themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sarseg.errors import UsageError
from sarseg.tiles import Window, ramp, tile_starts

AXIS_UNIT = 256
PROBABILITY_ONE = 65535
"""Probability 1 as an integer."""

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Normalised bands, NaN where there is no value, float32 (band, rows, cols) -> probabilities float32 (class, rows, cols).

Where a band is NaN the probabilities mean nothing, but they are numbers.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileOptions:
    """Side of the square tiles and their overlap, pixels."""

    tile_px: int = 512
    overlap_px: int = 64

    def __post_init__(self) -> None:
        if self.tile_px < 1 or not 0 <= self.overlap_px < self.tile_px:
            raise UsageError(f"no tiles of {self.tile_px} pixels with an overlap of {self.overlap_px}", hint="0 <= overlap < tile")


@dataclass(frozen=True, slots=True)
class AxisTile:
    """One tile along one axis: its first pixel and its weights, uint32 (length,), 0..256."""

    start: int
    weights: NDArray[np.uint32]

    @property
    def stop(self) -> int:
        """One past the last pixel."""
        return self.start + len(self.weights)


@dataclass(frozen=True, slots=True)
class Strip:
    """Finished rows of a prediction.

    `values` are the bands as they were read, float32 (band, rows, cols); `probabilities` uint16 (class, rows, cols),
    65535 = 1, meaningless where `valid` (rows, cols) is False.
    """

    window: Window
    values: NDArray[np.float32]
    probabilities: NDArray[np.uint16]
    valid: NDArray[np.bool_]


def axis_tiles(length: int, options: TileOptions) -> list[AxisTile]:
    """Tiles along one axis whose weights add up to 256 at every pixel."""
    starts = tile_starts(length, options.tile_px, options.overlap_px)
    stops = [min(start + options.tile_px, length) for start in starts]
    raw = np.zeros((len(starts), length), np.int64)
    for at, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        before = stops[at - 1] - start if at else 0
        after = stop - starts[at + 1] if at + 1 < len(starts) else 0
        raw[at, start:stop] = ramp(stop - start, before, after)
    # differences of a rounded running share: they add up to the unit exactly
    share = np.cumsum(raw, axis=0) * AXIS_UNIT // raw.sum(axis=0)
    weights = np.diff(share, axis=0, prepend=0).astype(np.uint32)
    return [AxisTile(start, weights[at, start:stop]) for at, (start, stop) in enumerate(zip(starts, stops, strict=True))]


def predict_strips(
    read: Callable[[Window], NDArray[np.float32]],
    shape: tuple[int, int],
    forward: Forward,
    *,
    classes: int,
    options: TileOptions,
) -> Iterator[Strip]:
    """Predict an image from top to bottom, each pixel read once.

    Parameters
    ----------
    read : normalised bands of full rows, float32 (band, rows, cols); a pixel where any band is NaN has no prediction
    shape : (rows, cols), any size from 1
    forward : the network; it is given the tile with its NaN
    """
    rows, cols = shape
    row_tiles, col_tiles = axis_tiles(rows, options), axis_tiles(cols, options)
    sums = np.zeros((classes, min(options.tile_px, rows), cols), np.uint32)
    values = np.empty((0, 0, cols), np.float32)
    for at, tile in enumerate(row_tiles):
        seen = row_tiles[at - 1].stop if at else 0
        fresh = read(Window(row=seen, col=0, rows=tile.stop - seen, cols=cols))
        kept = values[:, values.shape[1] - (seen - tile.start) :] if at else fresh[:, :0]
        values = np.concatenate([kept, fresh], axis=1)
        valid = _complete(values)
        _add_tiles(sums, values, valid, forward, tile, col_tiles)
        stop = row_tiles[at + 1].start if at + 1 < len(row_tiles) else rows
        done = stop - tile.start
        probabilities = (sums[:, :done] >> 16).astype(np.uint16)
        yield Strip(Window(row=tile.start, col=0, rows=done, cols=cols), values[:, :done], probabilities, valid[:done])
        left = sums.shape[1] - done
        sums[:, :left] = sums[:, done:].copy()
        sums[:, left:] = 0


def _add_tiles(
    sums: NDArray[np.uint32],
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    forward: Forward,
    tile: AxisTile,
    col_tiles: list[AxisTile],
) -> None:
    """Add one row of tiles to the sums; a tile without any valid pixel costs nothing."""
    rows = tile.stop - tile.start
    for across in col_tiles:
        cols = slice(across.start, across.stop)
        if not valid[:, cols].any():
            continue
        weights = tile.weights[:, np.newaxis] * across.weights[np.newaxis, :]
        sums[:, :rows, cols] += quantise(forward(np.ascontiguousarray(values[:, :, cols]))) * weights


def filled(normalised: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What a network is fed: float32 (band, rows, cols) with 0, the mean, wherever a band is NaN; and where none was, (rows, cols)."""
    valid = _complete(normalised)
    return np.where(valid, normalised, np.float32(0)), valid


def _complete(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(values).any(axis=0))


def quantise(probabilities: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Probabilities 0..1 as integers 0..65535 (held in uint32), same shape."""
    return np.asarray(np.rint(probabilities * np.float32(PROBABILITY_ONE)), np.uint32)


def best_device() -> torch.device:
    """CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on a device, its weights in the layout that convolutions like best (channels last)."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def make_forward(network: nn.Module, *, temperature: float, both_ways: bool = False) -> Forward:
    """A `Forward` of a network in eval mode on the best device; probabilities = softmax(logits / temperature).

    NaN becomes 0, the mean, before the network sees it, unless the network says `takes_nan = True`. `both_ways` also shows it
    the tile turned by 180 degrees, and takes the mean of the two answers.
    """
    device = best_device()
    network = placed(network, device).eval()
    takes_nan = bool(getattr(network, "takes_nan", False))

    def forward(values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not takes_nan:
            values, _ = filled(values)
        with torch.inference_mode():
            x = torch.from_numpy(values)[np.newaxis].to(device).contiguous(memory_format=torch.channels_last)
            probabilities = torch.softmax(network(x)[0] / temperature, dim=0)
            if both_ways:
                turned = torch.softmax(network(x.flip((2, 3)))[0] / temperature, dim=0)
                probabilities = (probabilities + turned.flip((1, 2))) / 2
        return np.asarray(probabilities.cpu().numpy(), np.float32)

    return forward
