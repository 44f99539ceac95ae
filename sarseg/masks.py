"""The bits of a product's mask: 0 = good."""

from __future__ import annotations

from enum import IntFlag


class Mask(IntFlag):
    """One bit a reason. NO_DATA, AREA_FLOOR and BORDER make the backscatter NaN; the others leave it."""

    NO_DATA = 1
    LAYOVER = 2
    SHADOW = 4
    DEM_FILLED = 8
    AREA_FLOOR = 16
    BELOW_NOISE = 32
    BORDER = 64


INVALID = int(Mask.NO_DATA | Mask.AREA_FLOOR | Mask.BORDER)
"""Bits under which there is no backscatter."""

NOT_TRAINED = INVALID | int(Mask.LAYOVER | Mask.SHADOW)
"""Bits under which a pixel teaches nothing: its ground is not the map's ground."""

BIT_TEXT: dict[Mask, str] = {
    Mask.NO_DATA: "no data",
    Mask.LAYOVER: "layover",
    Mask.SHADOW: "radar shadow",
    Mask.DEM_FILLED: "DEM void or sea filled with the geoid",
    Mask.AREA_FLOOR: "area floor hit in terrain flattening",
    Mask.BELOW_NOISE: "signal below the thermal noise",
    Mask.BORDER: "scene border",
}


def bit_tags() -> dict[str, str]:
    """File tags that name the bits: {"mask_bit_1": "no data", ...}, keyed by the bit's value."""
    return {f"mask_bit_{bit.value}": text for bit, text in BIT_TEXT.items()}
