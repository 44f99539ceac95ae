"""Decibels, mask bits, counter-based random numbers, messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarseg.decibel import from_db, to_db
from sarseg.errors import InputError, MissingError, SarsegError, UsageError
from sarseg.masks import BIT_TEXT, INVALID, NOT_TRAINED, Mask, bit_tags
from sarseg.rng import generator, white_noise
from sarseg.tiles import Window


def test_decibel_has_a_floor_and_keeps_nan():
    power = np.array([1.0, 0.5, 1e-5, 1e-6, 0.0, -3.0, np.nan, np.inf], np.float32)
    want = np.array([0.0, -3.0103, -50.0, -50.0, -50.0, -50.0, np.nan, np.inf])
    got = to_db(power)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=5e-5)  # the constant is given to four digits
    np.testing.assert_allclose(from_db(np.array([-10.0, 3.0103, np.nan])), [0.1, 2.0, np.nan], rtol=1e-5)


def test_mask_bits_stand_in_the_contract():
    assert INVALID == 1 | 16 | 64
    assert NOT_TRAINED == 1 | 16 | 64 | 2 | 4
    assert sorted(bit.value for bit in BIT_TEXT) == [1, 2, 4, 8, 16, 32, 64]
    assert set(BIT_TEXT) == set(Mask)
    assert bit_tags()["mask_bit_4"] == "radar shadow"


@given(row=st.integers(-600, 600), col=st.integers(-600, 600), rows=st.integers(1, 300), cols=st.integers(1, 300))
def test_noise_of_a_pixel_does_not_depend_on_the_window(row, col, rows, cols):
    window = Window(row=row, col=col, rows=rows, cols=cols)
    inner = Window(row=row + rows // 2, col=col + cols // 3, rows=1, cols=1)
    whole = white_noise(5, (1, 2), window)
    assert whole[inner.relative_to(window).slices] == white_noise(5, (1, 2), inner)


def test_noise_is_standard_normal_and_streams_are_independent():
    window = Window(row=-100, col=-37, rows=700, cols=500)
    one, other = white_noise(3, (0,), window).astype(float), white_noise(3, (1,), window).astype(float)
    count = one.size
    # four standard errors of each estimate
    assert abs(one.mean()) < 4 / count**0.5
    assert abs(one.var() - 1) < 4 * (2 / count) ** 0.5
    for correlated in ((one * other).mean(), (one[1:] * one[:-1]).mean(), (one[:, 1:] * one[:, :-1]).mean()):
        assert abs(correlated) < 4 / count**0.5
    assert generator(3, 1).integers(1 << 60) != generator(3, 2).integers(1 << 60)
    assert generator(3, 1).integers(1 << 60) == generator(3, 1).integers(1 << 60)


@pytest.mark.parametrize(("kind", "code"), [(SarsegError, 1), (UsageError, 2), (InputError, 3), (MissingError, 4)])
def test_a_message_is_one_line_with_what_where_and_hint(kind, code):
    error = kind("the value\n is wrong", "a/b.tif", "give\nanother")
    assert str(error) == "the value is wrong [a/b.tif]: give another"
    assert str(kind("only this")) == "only this"
    assert error.exit_code == code
