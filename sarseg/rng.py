"""Random numbers that depend on a seed and a place only, never on the order of work (Salmon et al. 2011, Philox)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sarseg.tiles import Window

_NOISE_BLOCK = 256
_ORIGIN = 1 << 20  # blocks before zero: windows with a halo may start at negative rows and columns


def generator(seed: int, *stream: int) -> np.random.Generator:
    """A generator of its own for every (seed, stream): equal arguments give equal numbers on any machine.

    Parameters
    ----------
    seed, stream : non-negative integers; each stream (step, sample, polarisation ...) is independent of the others
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=stream)))


def white_noise(seed: int, stream: tuple[int, ...], window: Window) -> NDArray[np.float32]:
    """Standard normal noise, float32 (rows, cols): a pixel's number is the same in whatever window it is asked for.

    Parameters
    ----------
    window : part of an endless plane; rows and columns may be negative
    """
    out = np.empty(window.shape, np.float32)
    first_row, first_col = window.row // _NOISE_BLOCK, window.col // _NOISE_BLOCK
    for block_row in range(first_row, (window.row_stop - 1) // _NOISE_BLOCK + 1):
        for block_col in range(first_col, (window.col_stop - 1) // _NOISE_BLOCK + 1):
            block = Window(row=block_row * _NOISE_BLOCK, col=block_col * _NOISE_BLOCK, rows=_NOISE_BLOCK, cols=_NOISE_BLOCK)
            part = block.intersect(window)
            if part is None:
                continue
            noise = generator(seed, *stream, block_row + _ORIGIN, block_col + _ORIGIN).standard_normal(block.shape, dtype=np.float32)
            out[part.relative_to(window).slices] = noise[part.relative_to(block).slices]
    return out
