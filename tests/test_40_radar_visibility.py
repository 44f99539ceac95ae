"""Layover and shadow on terrain whose answer is known by trigonometry; whole scenes are in test_60_ard_geometry."""

from __future__ import annotations

import numpy as np
import pytest

from sarseg.masks import Mask
from sarseg.radar.visibility import layover_shadow, reach_m, terrain_slopes

MARGIN = 60
SPACING_M = 10.0


def look(heights: np.ndarray, incidence_deg: float, away: tuple[float, float] = (0.0, 1.0), margin: int = MARGIN) -> np.ndarray:
    """The bits of the inner part; the radar looks along `away` (rows, columns), from 850 km."""
    shape = heights.shape[0] - 2 * margin, heights.shape[1] - 2 * margin
    sight = np.full(shape, 850_000.0), np.full(shape, np.radians(incidence_deg))
    direction = tuple(np.full(shape, part / SPACING_M) for part in away)
    return layover_shadow(heights, margin, sight, direction)


@pytest.mark.parametrize("incidence_deg", [31.0, 39.0, 45.0])
@pytest.mark.parametrize("height_m", [83.0, 333.0])
@pytest.mark.parametrize("away", [(0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)])
def test_a_wall_throws_its_shadow_and_its_layover(incidence_deg, height_m, away):
    """Behind a wall of height H the shadow is H tan(theta) long; before it, H / tan(theta) of ground lies under its image."""
    heights = np.zeros((2 * MARGIN + 41, 2 * MARGIN + 41))
    heights[MARGIN + 20] = height_m
    heights = heights if away[0] else heights.T
    bits = look(heights, incidence_deg, away)
    profile = (bits if away[0] else bits.T)[:: int(sum(away)), 20]  # towards increasing range
    distance_m = (np.arange(41) - 20) * SPACING_M
    tangent = np.tan(np.radians(incidence_deg))
    shadow, layover = (profile & Mask.SHADOW) > 0, (profile & Mask.LAYOVER) > 0
    np.testing.assert_array_equal(shadow, (distance_m > 0) & (distance_m < height_m * tangent))
    before = (distance_m < 0) & (-distance_m < height_m / tangent)
    # the curved path of one range adds less than a metre; no distance here is that close to the limit
    np.testing.assert_array_equal(layover[:20], before[:20])
    assert layover[20]


def test_a_plane_has_neither_up_to_the_limits():
    """A slope towards the radar folds beyond the incidence angle, one away from it is dark beyond 90 degrees less that."""
    col = np.arange(2 * MARGIN + 21) * SPACING_M
    for slope_deg, expected in ((38.0, 0), (40.0, Mask.LAYOVER), (-50.0, 0), (-52.0, Mask.SHADOW)):
        plane = np.tile(col * np.tan(np.radians(slope_deg)), (2 * MARGIN + 5, 1))
        bits = look(plane, 39.0)
        assert np.unique(bits).tolist() == [int(expected)], slope_deg


def test_voids_stop_nothing_but_themselves():
    heights = np.full((41, 61), 100.0)
    heights[:, 30] = 400.0
    heights[20, 28:33] = np.nan
    bits = look(heights, 40.0, margin=10)
    assert (bits[10, 18:23] == 0).all()
    assert bits[9, 25] & Mask.SHADOW  # 50 m behind a wall that shades 252 m
    assert not bits[9, 15] & Mask.SHADOW
    down, across = terrain_slopes(heights)
    assert np.isnan(down[19, 29])  # on the void
    assert across[19, 26] == 0.0  # one-sided beside it
    assert not look(np.full((31, 31), np.nan), 40.0, margin=5).any()


def test_reach_covers_what_can_matter():
    limits = np.radians(30.0), np.radians(45.0)
    assert reach_m(100.0, 0.0, limits) > max(100.0 * np.tan(limits[1]), 100.0 / np.tan(limits[0]))
    assert reach_m(0.0, 100.0, limits) > 100.0 / np.tan(limits[0])
    assert reach_m(-5.0, -5.0, limits) == 0.0
