"""Patches that overlap: which of them a pixel of the ground is counted in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sarseg.tiles import Window

_SQUARE = 2048  # pixels of a scene that are decided together


def counted_once(scenes: Sequence[str], windows: Sequence[Window]) -> list[NDArray[np.uint8]]:
    """For each patch, where its pixels count: bits of a bool array (rows, cols), packed by `numpy.packbits`.

    Of the patches of a scene that hold a pixel, it counts in the one in whose inside it lies deepest, where a network sees most
    around it; of equal ones in the first. Every pixel that any patch holds counts in exactly one of them.
    """
    squares: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for at, (scene, window) in enumerate(zip(scenes, windows, strict=True)):
        for row in range(window.row // _SQUARE, (window.row_stop - 1) // _SQUARE + 1):
            for col in range(window.col // _SQUARE, (window.col_stop - 1) // _SQUARE + 1):
                squares[scene, row, col].append(at)
    packed = [np.zeros(-(-window.rows * window.cols // 8), np.uint8) for window in windows]
    for (_, row, col), members in squares.items():
        square = Window(row=row * _SQUARE, col=col * _SQUARE, rows=_SQUARE, cols=_SQUARE)
        for at, part, owned in _decide(square, members, windows):
            mask = np.zeros(windows[at].shape, bool)
            mask[part.relative_to(windows[at]).slices] = owned
            packed[at] |= np.packbits(mask)
    return packed


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The bool array (rows, cols) of packed bits."""
    return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)


def _decide(square: Window, members: Sequence[int], windows: Sequence[Window]) -> list[tuple[int, Window, NDArray[np.bool_]]]:
    """Patch, its part of the square, and which pixels of that part are its own."""
    deepest = np.zeros(square.shape, np.int32)
    owner = np.full(square.shape, -1, np.int64)
    parts = []
    for at in members:
        part = windows[at].intersect(square)
        assert part is not None
        here = part.relative_to(square).slices
        depth = _depth(windows[at].shape)[part.relative_to(windows[at]).slices]
        deeper = depth > deepest[here]
        deepest[here][deeper] = depth[deeper]
        owner[here][deeper] = at
        parts.append((at, part, here))
    return [(at, part, owner[here] == at) for at, part, here in parts]


def _depth(shape: tuple[int, int]) -> NDArray[np.int32]:
    """How far a pixel lies inside a patch: 1 at its edge."""
    row, col = (np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)) for side in shape)
    return np.minimum(row[:, np.newaxis], col[np.newaxis, :]).astype(np.int32)
