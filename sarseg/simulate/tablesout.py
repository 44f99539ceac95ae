"""Calibration and noise files of a scene of our own."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sarseg.simulate.plan import ScenePlan
from sarseg.simulate.swaths import columns, noise_sigma0
from sarseg.simulate.xmltext import Node, array, document, listed, singles

_BETA_AMPLITUDE = 474.0
"""S1A's absolute calibration constant is 1, so A of beta0 is the processor's 474."""
_STEP_PX = 40
_LINES_STEP = 10
_BURST_S = 2.758
"""A burst's share of the lines: the azimuth noise factor's period."""
_DRIFT_DB = 0.12
"""Slow change of the noise along the track: ours; it makes the vectors differ, as real ones do."""


def header(plan: ScenePlan, polarisation: str) -> Node:
    """The adsHeader, the same in all files of a polarisation."""
    return (
        "adsHeader",
        [
            ("missionId", "S1A"),
            ("productType", "GRD"),
            ("polarisation", polarisation),
            ("mode", "IW"),
            ("swath", "IW"),
            ("startTime", plan.utc(0.0)),
            ("stopTime", plan.utc(plan.last_s)),
            ("absoluteOrbitNumber", str(plan.absolute_orbit)),
            ("missionDataTakeId", str(plan.data_take)),
            ("imageNumber", image_number(plan, polarisation)),
        ],
    )


def image_number(plan: ScenePlan, polarisation: str) -> str:
    """001 for the first polarisation."""
    return f"{plan.polarisations.index(polarisation) + 1:03d}"


def calibration_file(plan: ScenePlan, polarisation: str) -> str:
    """Vectors every second, all equal, a node every 40 pixels; the angle is the ellipsoid's at the scene's start."""
    pixel = _nodes(plan.geometry.pixels)
    theta = np.radians(plan.incidence_deg[pixel])
    sigma = _BETA_AMPLITUDE / np.sqrt(np.sin(theta))
    gamma = _BETA_AMPLITUDE / np.sqrt(np.tan(theta))
    beta = np.full(len(pixel), _BETA_AMPLITUDE)
    vectors: list[Node] = []
    for second in range(math.floor(plan.last_s) + 2):
        values = [("sigmaNought", sigma), ("betaNought", beta), ("gamma", gamma), ("dn", beta)]
        vectors.append(
            (
                "calibrationVector",
                [
                    ("azimuthTime", plan.utc(float(second))),
                    ("line", str(round(second / plan.geometry.line_interval_s))),
                    array("pixel", " ".join(map(str, pixel)), len(pixel)),
                    *(array(name, singles(one), len(pixel)) for name, one in values),
                ],
            )
        )
    information: Node = ("calibrationInformation", [("absoluteCalibrationConstant", "1.000000e+00")])
    return document(
        ("calibration", [header(plan, polarisation), information, listed("calibrationVectorList", vectors)]),
    )


def noise_file(plan: ScenePlan, polarisation: str) -> str:
    """Range vectors every second and on the last line, and one azimuth block a sub-swath."""
    parts = columns(plan.incidence_deg)
    pixel = np.unique(np.concatenate([np.append(np.arange(first, last + 1, _STEP_PX), last) for _, first, last in parts]))
    power = np.empty(len(pixel))
    amplitude2 = _BETA_AMPLITUDE**2 / np.sin(np.radians(plan.incidence_deg[pixel]))
    for swath, first, last in parts:
        inside = (pixel >= first) & (pixel <= last)
        level = noise_sigma0(swath, polarisation, plan.incidence_deg[pixel[inside]])
        power[inside] = level * amplitude2[inside] / (1.0 + (swath.scallop - 1.0) / 3.0)
    seconds = [float(second) for second in range(math.floor(plan.last_s) + 1)]
    if plan.last_s > seconds[-1]:
        seconds.append(plan.last_s)
    vectors: list[Node] = []
    for second in seconds:
        drift = 10.0 ** (0.1 * _DRIFT_DB * math.sin(2.0 * math.pi * second / 9.0))
        vectors.append(
            (
                "noiseRangeVector",
                [
                    ("azimuthTime", plan.utc(second)),
                    ("line", str(round(second / plan.geometry.line_interval_s))),
                    array("pixel", " ".join(map(str, pixel)), len(pixel)),
                    array("noiseRangeLut", singles(power * drift), len(pixel)),
                ],
            )
        )
    blocks = [_block(plan, swath.name, swath.scallop, (first, last)) for swath, first, last in parts]
    return document(
        (
            "noise",
            [header(plan, polarisation), listed("noiseRangeVectorList", vectors), listed("noiseAzimuthVectorList", blocks)],
        )
    )


def _block(plan: ScenePlan, name: str, scallop: float, extent: tuple[int, int]) -> Node:
    """Azimuth factors: a parabola over each burst, 1 in its middle, mean 1 + (scallop - 1) / 3."""
    last_line = plan.geometry.lines - 1
    line = np.unique(np.append(np.arange(0, last_line + 1, _LINES_STEP), last_line))
    phase = line * plan.geometry.line_interval_s / _BURST_S % 1.0
    factor = 1.0 + (scallop - 1.0) * (2.0 * phase - 1.0) ** 2
    return (
        "noiseAzimuthVector",
        [
            ("swath", name),
            ("firstAzimuthLine", "0"),
            ("firstRangeSample", str(extent[0])),
            ("lastAzimuthLine", str(last_line)),
            ("lastRangeSample", str(extent[1])),
            array("line", " ".join(map(str, line)), len(line)),
            array("noiseAzimuthLut", singles(factor), len(line)),
        ],
    )


def _nodes(pixels: int) -> NDArray[np.int64]:
    return np.unique(np.append(np.arange(0, pixels, _STEP_PX), pixels - 1))
