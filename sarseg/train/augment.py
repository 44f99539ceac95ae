"""What varies between two sights of one patch: pure functions of (seed, step, index in the batch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sarseg.nets.modelfile import BandSpec
from sarseg.rng import generator

_ORDER, _CHANGE = 1, 2  # streams of random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What may change: mirror and quarter turns; an offset of all dB bands and one of each, standard deviations in dB."""

    turns: bool = True
    common_offset_db: float = 0.3
    band_offset_db: float = 0.2


def sample_at(seed: int, step: int, index: int, *, batch: int, count: int) -> int:
    """Which of `count` samples stands at `index` of the batch of `step`: epochs are permutations, without a rest left over."""
    number = step * batch + index
    epoch, place = divmod(number, count)
    return int(_permutation(seed, epoch, count)[place])


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(seed, _ORDER, epoch).permutation(count)


def augment(
    values: NDArray[np.float32],
    mask: NDArray[np.uint8],
    bands: Sequence[BandSpec],
    options: Augmentation,
    *,
    draw: tuple[int, int, int],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A changed copy of one normalised patch float32 (band, rows, cols) and its mask (rows, cols).

    Parameters
    ----------
    draw : (seed, step, index in the batch): equal draws give equal changes
    """
    rng = generator(draw[0], _CHANGE, *draw[1:])
    mirrored, turns = bool(rng.integers(2)), int(rng.integers(4))
    common, single = rng.standard_normal(), rng.standard_normal(len(bands))
    out, codes = values, mask
    if options.turns:
        if mirrored:
            out, codes = out[:, :, ::-1], codes[:, ::-1]
        # a patch that is not square keeps its shape: half turns only
        turns = turns if mask.shape[0] == mask.shape[1] else turns // 2 * 2
        out, codes = np.rot90(out, turns, axes=(1, 2)), np.rot90(codes, turns)
    out = np.array(out, np.float32, order="C")  # always a copy: an unturned view would change the caller's patch
    for at, band in enumerate(bands):
        if band.scale == "db":
            out[at] += np.float32((common * options.common_offset_db + single[at] * options.band_offset_db) / band.std)
    return out, np.ascontiguousarray(codes)
