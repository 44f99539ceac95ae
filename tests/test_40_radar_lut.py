"""Calibration and noise tables against loops in plain Python over the definition (docs/sentinel1.md 4 and 5)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sarseg.radar.lut import Calibration, LineTimes, LutVector, Noise, NoiseBlock
from sarseg.tiles import Window

TIMES = LineTimes(first_s=0.25, interval_s=0.01)


def vector(line, pixel, value):
    return LutVector(t_s=0.25 + 0.01 * line, pixel=np.array(pixel, float), value=np.array(value, float))


def along(pixel, value, at, *, zero_is_nothing=False):
    if zero_is_nothing and at in pixel and value[list(pixel).index(at)] == 0:
        return math.nan
    if at <= pixel[0]:
        return value[0] if value[0] or not zero_is_nothing else math.nan
    if at >= pixel[-1]:
        return value[-1] if value[-1] or not zero_is_nothing else math.nan
    for p0, p1, v0, v1 in zip(pixel, pixel[1:], value, value[1:], strict=False):
        if p0 <= at <= p1:
            if zero_is_nothing and (v0 == 0 or v1 == 0):
                return (v0 or v1) or math.nan
            return v0 + (v1 - v0) * (at - p0) / (p1 - p0)
    raise AssertionError


def by_hand(vectors, line, at, *, zero_is_nothing=False):
    places = [(v.t_s - 0.25) / 0.01 for v in vectors]
    values = [along(list(v.pixel), list(v.value), at, zero_is_nothing=zero_is_nothing) for v in vectors]
    if line <= places[0]:
        before = after = 0
    elif line >= places[-1]:
        before = after = len(vectors) - 1
    else:
        after = next(i for i, place in enumerate(places) if place >= line)
        before = after - 1
    if len(vectors) > 1 and before == after:  # the neighbour stands in where the end vector has nothing
        other = 1 if before == 0 else len(vectors) - 2
        return values[before] if not math.isnan(values[before]) else values[other] if zero_is_nothing else values[before]
    v0, v1 = values[before], values[after]
    if math.isnan(v0) or math.isnan(v1):
        return v1 if math.isnan(v0) else v0
    weight = (line - places[before]) / (places[after] - places[before]) if after != before else 0.0
    return v0 + (v1 - v0) * weight


VECTORS = (
    vector(-3.2, [0, 7, 20, 33], [5.0, 6.5, 4.0, 9.0]),
    vector(10.0, [0, 5, 21, 40], [4.0, 8.5, 2.0, 7.0]),
    vector(10.4, [0, 40], [3.0, 1.0]),
    vector(29.0, [2, 19, 38], [6.0, 6.0, 2.0]),
)


@pytest.mark.parametrize(
    "window", [Window(row=0, col=0, rows=37, cols=43), Window(row=9, col=11, rows=3, cols=5), Window(row=31, col=0, rows=1, cols=1)]
)
def test_calibration_is_bilinear_in_the_amplitude(window):
    calibration = Calibration(times=TIMES, tables={"sigma0": VECTORS, "beta0": VECTORS[:1], "gamma0": VECTORS[1:2]})
    got = calibration.amplitude("sigma0", window)
    for (r, c), value in np.ndenumerate(got):
        assert value == pytest.approx(by_hand(VECTORS, window.row + r, window.col + c), rel=1e-12)
    one = calibration.amplitude("beta0", window)
    for (r, c), value in np.ndenumerate(one):
        assert value == pytest.approx(by_hand(VECTORS[:1], window.row + r, window.col + c), rel=1e-12)


GAPPY = (
    vector(0.0, [0, 4, 9, 15, 22, 30, 36], [0, 0, 7.0, 5.0, 0, 0, 3.0]),
    vector(12.0, [0, 5, 9, 16, 22, 31, 36], [0, 3.0, 7.5, 5.0, 2.0, 0, 0]),
    vector(14.0, [0, 18, 36], [2.0, 3.0, 0]),
)


def test_zero_is_neither_noise_nor_interpolated_from():
    noise = Noise(times=TIMES, vectors=GAPPY, blocks=())
    got = noise.power(Window(row=0, col=0, rows=19, cols=41))
    for (r, c), value in np.ndenumerate(got):
        np.testing.assert_allclose(value, by_hand(GAPPY, r, c, zero_is_nothing=True), rtol=1e-12, err_msg=f"{r} {c}")
    assert np.isnan(got).any()
    assert not (got == 0).any()


def block(swath, lines, pixels, factor):
    line = np.arange(lines[0], lines[1] + 1, 3.0)
    return NoiseBlock(
        swath=swath,
        first_line=lines[0],
        last_line=lines[1],
        first_pixel=pixels[0],
        last_pixel=pixels[1],
        line=line,
        factor=factor + 0.01 * line,
    )


def test_noise_blocks_use_their_own_vectors_and_leave_the_rest_empty():
    # the seam between the swaths moves from pixel 11 to pixel 9 at line 10; the second swath starts at line 4
    vectors = (
        vector(0.0, [0, 11, 12, 30], [10.0, 21.0, 0, 0]),
        vector(7.0, [0, 11, 12, 30], [12.0, 23.0, 100.0, 118.0]),
        vector(16.0, [0, 9, 10, 30], [14.0, 23.0, 200.0, 220.0]),
    )
    blocks = (
        block("A", (0, 9), (0, 11), 1.0),
        block("B", (4, 9), (12, 30), 1.2),
        block("A", (10, 12), (0, 9), 1.1),
        block("A", (13, 20), (0, 9), 1.1),
        block("B", (10, 20), (10, 30), 1.3),
    )
    got = Noise(times=TIMES, vectors=vectors, blocks=blocks).power(Window(row=0, col=0, rows=24, cols=33))
    want = np.full((24, 33), np.nan)
    for r in range(21):
        for c in range(31):
            if r < 10 and c < 12:
                value = 10 + c + 2 * min(r / 7, 1)
                want[r, c] = value * (1.0 + 0.01 * min(r, 9))
            elif 4 <= r < 10:
                want[r, c] = (100 + c - 12) * (1.2 + 0.01 * min(r, 7))
            elif r >= 10 and c < 10:
                # lines 10 to 12 hold no vector: swath A's nearest one is that of line 7
                level, line = (12, 10) if r <= 12 else (14, min(r, 19))
                want[r, c] = (level + c) * (1.1 + 0.01 * line)
            elif r >= 10:
                want[r, c] = (200 + c - 10) * (1.3 + 0.01 * min(r, 19))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_window_changes_no_bit():
    noise = Noise(times=TIMES, vectors=GAPPY, blocks=(block("A", (0, 30), (0, 20), 1.0), block("A", (31, 40), (0, 20), 1.0)))
    calibration = Calibration(times=TIMES, tables={"sigma0": VECTORS, "beta0": VECTORS, "gamma0": VECTORS})
    whole, rng = Window(row=0, col=0, rows=41, cols=37), np.random.default_rng(3)
    want = noise.power(whole), calibration.amplitude("gamma0", whole)
    for _ in range(40):
        row, col = int(rng.integers(0, 41)), int(rng.integers(0, 37))
        part = Window(row=row, col=col, rows=int(rng.integers(1, 42 - row)), cols=int(rng.integers(1, 38 - col)))
        np.testing.assert_array_equal(noise.power(part), want[0][part.slices])
        np.testing.assert_array_equal(calibration.amplitude("gamma0", part), want[1][part.slices])


def test_a_vector_refuses_pixels_that_do_not_increase():
    with pytest.raises(ValueError, match="must increase"):
        vector(0, [0, 5, 5], [1, 2, 3])
