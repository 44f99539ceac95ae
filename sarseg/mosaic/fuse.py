"""How several maps become one class a pixel: integer votes, so that the order of the maps cannot matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PROBABILITY_PER_CONFIDENCE = 257  # 65535 / 255


@dataclass(frozen=True, slots=True)
class Observation:
    """What one map says of a block.

    `index` uint8 (rows, cols): position of the class in the legend, 255 = no class; `confidence` uint8 (rows, cols), 1..255
    where there is a class; `probabilities` uint16 (class, rows, cols), or None.
    """

    index: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    probabilities: NDArray[np.uint16] | None = None


@dataclass(frozen=True, slots=True)
class Fused:
    """The outcome: position of the class (0 where `count` is 0), confidence 0..255 and number of maps, uint8 (rows, cols)."""

    index: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    count: NDArray[np.uint8]


def fuse(observations: Sequence[Observation], *, classes: int, shape: tuple[int, int]) -> Fused:
    """The class with the most votes; equal votes go to the class that comes first in the legend.

    A map votes for its class with its confidence, or, when every map has probabilities, for every class with its
    probability. The fused confidence is the winner's mean vote over the maps that have a class at the pixel.
    """
    by_probability = all(one.probabilities is not None for one in observations)
    votes = np.zeros((classes, *shape), np.int64)
    count = np.zeros(shape, np.int64)
    for one in observations:
        there = one.index < classes
        count += there
        if by_probability and one.probabilities is not None:
            votes += np.where(there, one.probabilities, 0)
            continue
        row, col = np.nonzero(there)
        votes[one.index[row, col], row, col] += np.maximum(one.confidence[row, col], 1)
    winner = votes.argmax(axis=0)
    top = np.take_along_axis(votes, winner[np.newaxis], axis=0)[0]
    parts = np.maximum(count, 1) * (_PROBABILITY_PER_CONFIDENCE if by_probability else 1)
    confidence = np.clip((2 * top + parts) // (2 * parts), 1, 255)
    seen = count > 0
    return Fused(
        index=np.where(seen, winner, 0).astype(np.uint8),
        confidence=np.where(seen, confidence, 0).astype(np.uint8),
        count=np.minimum(count, 255).astype(np.uint8),
    )
