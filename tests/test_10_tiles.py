"""Windows, blocks, tiles and weights against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarseg.tiles import RAMP_TOP, Window, blocks, ramp, tile_starts

windows = st.builds(Window, row=st.integers(-20, 20), col=st.integers(-20, 20), rows=st.integers(1, 25), cols=st.integers(1, 25))


def pixels(window):
    return {(r, c) for r in range(window.row, window.row + window.rows) for c in range(window.col, window.col + window.cols)}


@given(one=windows, other=windows)
def test_intersection_is_the_common_pixels(one, other):
    common = one.intersect(other)
    assert (pixels(common) if common else set()) == pixels(one) & pixels(other)


@given(window=windows, halo=st.integers(0, 5), rows=st.integers(1, 30), cols=st.integers(1, 30))
def test_halo_clipped_to_an_image(window, halo, rows, cols):
    clipped = window.expand(halo).clip((rows, cols))
    near = {
        (r, c)
        for r in range(rows)
        for c in range(cols)
        if window.row - halo <= r < window.row + window.rows + halo and window.col - halo <= c < window.col + window.cols + halo
    }
    assert (pixels(clipped) if clipped else set()) == near


def test_an_index_before_the_array_is_refused():
    with pytest.raises(ValueError, match="starts before"):
        _ = Window(row=-1, col=0, rows=3, cols=3).slices


@given(rows=st.integers(1, 40), cols=st.integers(1, 40), size=st.integers(1, 17))
def test_blocks_cover_every_pixel_once_at_multiples(rows, cols, size):
    count = np.zeros((rows, cols), int)
    for block in blocks((rows, cols), size):
        assert block.row % size == 0
        assert block.col % size == 0
        count[block.slices] += 1
    assert (count == 1).all()


@given(length=st.integers(1, 200), tile=st.integers(1, 40), overlap=st.integers(0, 39))
def test_tiles_cover_and_end_with_the_image(length, tile, overlap):
    if overlap >= tile:
        with pytest.raises(ValueError, match="overlap"):
            tile_starts(length, tile, overlap)
        return
    starts = tile_starts(length, tile, overlap)
    covered = np.zeros(length, int)
    for start in starts:
        stop = min(start + tile, length)
        covered[start:stop] += 1
        assert stop - start == min(tile, length)
    assert (covered >= 1).all()
    assert starts == sorted(set(starts))
    for one, following in itertools.pairwise(starts):
        assert one + tile - following >= overlap


@given(length=st.integers(1, 60), before=st.integers(0, 30), after=st.integers(0, 30))
def test_weights_rise_and_fall(length, before, after):
    weights = ramp(length, before, after)
    assert weights.dtype == np.int64
    assert weights.min() >= 1
    assert weights.max() <= RAMP_TOP
    if length > before + after:
        assert (weights[before : length - after] == RAMP_TOP).all()
    assert (ramp(length, after, before) == weights[::-1]).all()


def test_two_ramps_cross_in_the_middle_of_their_overlap():
    fall, rise = ramp(64, 0, 16)[-16:], ramp(64, 16, 0)[:16]
    assert (fall == rise[::-1]).all()
    assert (fall[:8] >= rise[:8]).all()
    assert (np.diff(rise) > 0).all()
