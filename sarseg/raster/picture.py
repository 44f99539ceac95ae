"""Quicklooks: small PNGs that show what a raster holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sarseg.decibel import to_db
from sarseg.legend import Legend

MAX_SIDE_PX = 1024
_STRETCH_PERCENT = (2.0, 98.0)


def power_picture(power: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RGBA uint8 (rows, cols, 4) of linear power (band, rows, cols): dB, each band stretched between its 2nd and 98th percentile.

    One band is grey; of two (co- and cross-polarised) red is the first, green the second, blue their difference in dB.
    NaN is transparent.
    """
    decibel = to_db(power[:2])
    layers = [_stretch(band) for band in decibel]
    if len(layers) == 1:
        layers *= 3
    else:
        layers.append(_stretch(decibel[0] - decibel[1]))
    alpha = np.where(np.isnan(power[:2]).any(0), 0, 255)
    return np.stack([*layers, alpha], -1).astype(np.uint8)


def classes_picture(codes: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    """RGBA uint8 (rows, cols, 4) of class codes in the legend's colours; every other code is transparent."""
    table = np.zeros((256, 4), np.uint8)
    for code, color in legend.colormap().items():
        table[code] = color
    return table[codes]


def save_picture(picture: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 (rows, cols, 3 or 4) as PNG."""
    Image.fromarray(picture).save(path, format="PNG", optimize=False)


def thumbnail_step(shape: tuple[int, int]) -> int:
    """Every how many pixels are shown so that neither side exceeds MAX_SIDE_PX."""
    return max(1, -(-max(shape) // MAX_SIDE_PX))


def _stretch(band: NDArray[np.floating]) -> NDArray[np.float64]:
    valid = band[~np.isnan(band)]
    if not valid.size:
        return np.zeros(band.shape)
    low, high = np.percentile(valid, _STRETCH_PERCENT)
    scaled = (band - low) / max(float(high - low), 1e-6)
    return np.asarray(np.nan_to_num(np.clip(scaled, 0.0, 1.0) * 255.0))
