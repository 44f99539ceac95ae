"""Covariance and coherency matrices of quad-polarised scenes, in radar geometry (docs/palsar.md 9).

Lexicographic and Pauli vectors of a monostatic radar (Lee and Pottier 2009, Polarimetric Radar Imaging, sections 3.2 and 3.3):
k_C = (S_HH, sqrt(2) S_hv, S_VV), k_T = (S_HH + S_VV, S_HH - S_VV, 2 S_hv) / sqrt(2), with S_hv = (S_HV + S_VH) / 2, which
reciprocity makes the measurement of both. C3 and T3 are the means of k k*, and have the same trace, the span.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.product.described import matrix_elements
from sarseg.radar.lut import Quantity
from sarseg.scene.model import Scene
from sarseg.tiles import Window

Polarimetry = Literal["c3", "t3", "pauli"]
"""Covariance matrix, coherency matrix, or the latter's diagonal: the Pauli powers."""
POLARIMETRIES: tuple[Polarimetry, ...] = get_args(Polarimetry)
CHANNELS = ("HH", "HV", "VH", "VV")
FULL_RANK_LOOKS = 3
"""A mean of fewer vectors is a singular matrix."""

_R = 0.5**0.5
_VECTORS: dict[str, tuple[dict[int, float], ...]] = {
    "C": ({0: 1.0}, {1: _R, 2: _R}, {3: 1.0}),
    "T": ({0: _R, 3: _R}, {0: _R, 3: -_R}, {1: _R, 2: _R}),
}
"""Each element of the vectors as a sum of channels: index in CHANNELS -> weight."""


def bands_of(polarimetry: Polarimetry) -> tuple[str, ...]:
    """Names of the bands, as products of PolSARpro have them.

    >>> bands_of("pauli"), bands_of("c3")[2:5]
    (('T11', 'T22', 'T33'), ('C33', 'C12_real', 'C12_imag'))
    """
    elements = matrix_elements("C" if polarimetry == "c3" else "T", 3)
    return elements[:3] if polarimetry == "pauli" else elements


def check_quad(scene: Scene) -> None:
    """InputError when a scene has no matrices: it is detected, or one of the four polarisations is not there."""
    missing = [name for name in CHANNELS if name not in scene.measurements]
    if scene.pixels != "complex" or missing:
        detected = scene.pixels != "complex"
        what = f"of {scene.product_type} images, which have no phase," if detected else f"without {', '.join(missing)}"
        raise InputError(
            f"a scene {what} has no polarimetric matrix", scene.path, "give a quad-polarised PALSAR product of level 1.1 (PLR, HBQ, FBQ)"
        )


def matrix_image(scene: Scene, polarimetry: Polarimetry, quantity: Quantity, window: Window) -> NDArray[np.float32]:
    """Calibrated elements of a window of a scene, float32 (band, lines, pixels), means over its looks; NaN = no data.

    Parameters
    ----------
    quantity : the calibration of the channels' amplitudes, so that C11 is the backscatter of HH
    """
    names = bands_of(polarimetry)
    products = scene.products(CHANNELS, window)
    amplitudes = [scene.calibration[name].amplitude(quantity, window) for name in CHANNELS]
    vectors = _VECTORS[names[0][0]]
    out = np.empty((len(names), *window.shape), np.float32)
    for band, name in enumerate(names):
        parts = products.imag if name.endswith("imag") else products.real
        element = np.zeros(window.shape)
        for a, first in vectors[int(name[1]) - 1].items():
            for b, second in vectors[int(name[2]) - 1].items():
                element += first * second * (parts[a, b] / (amplitudes[a] * amplitudes[b]))
        out[band] = element
    return out
