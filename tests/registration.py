"""How far an image lies from the truth, for the tests: least squares, none of the package's own correlation."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, shift


def shifts(image_db: np.ndarray, truth_db: np.ndarray, size: int = 120, first: int = 16) -> np.ndarray:
    """Sub-pixel (row, col) displacement of the image in windows, (n, 2): least squares of class edges, brightness trends removed.

    Windows of `size` pixels stand side by side from row and column `first` (16 at least) on; those with a NaN, or without
    edges, are left out.
    """
    found = []
    for row in range(first, image_db.shape[0] - size - 16, size):
        for col in range(first, image_db.shape[1] - size - 16, size):
            place = slice(row - 16, row + size + 16), slice(col - 16, col + size + 16)
            image, truth = (array[place] - gaussian_filter(array[place], 8.0) for array in (image_db, truth_db))
            inner = np.isfinite(image) & np.isfinite(truth)
            if inner.all() and truth.std() > 0.4:
                found.append(_shift(image, truth))
    return np.array(found)


def _shift(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    inner, moved = (slice(12, -12),) * 2, np.zeros(2)
    for _ in range(8):
        guess = shift(truth, moved, order=3, mode="nearest")
        terms = [*(-slope[inner].ravel() for slope in np.gradient(guess)), guess[inner].ravel(), np.ones(guess[inner].size)]
        answer = np.linalg.lstsq(np.stack(terms, 1), image[inner].ravel(), rcond=None)[0]
        moved += answer[:2] / answer[2]
    return moved
