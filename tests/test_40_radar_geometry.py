"""Orbit interpolation, zero Doppler and the radar image's coordinates against formulas and plain Python."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from circular_orbit import EPOCH, circle, circular_orbit, ground_point, ground_range_image
from pyproj import Transformer
from scipy.optimize import brentq

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.radar.geometry import ecef_from_geodetic, zero_doppler
from sarseg.radar.orbit import Orbit, seconds_between


def lagrange_by_hand(t, times, values):
    return sum(v * math.prod((t - tj) / (ti - tj) for tj in times if tj != ti) for ti, v in zip(times, values, strict=True))


@pytest.mark.parametrize(("count", "t_s"), [(17, 3.7), (17, -60.0), (17, 40.0), (17, -58.2), (17, 97.1), (5, -33.3), (8, 1.0)])
def test_the_orbit_is_the_lagrange_polynomial_of_the_nearest_8_vectors(count, t_s):
    rng = np.random.default_rng(5)
    orbit = circular_orbit(count=count)
    noisy = replace(orbit, velocity_m_s=orbit.velocity_m_s + rng.normal(0, 0.01, (count, 3)))
    nearest = sorted(sorted(range(count), key=lambda i: (abs(orbit.t_s[i] - t_s), -i))[:8])
    times = [float(orbit.t_s[i]) for i in nearest]
    for axis in range(3):
        place = lagrange_by_hand(t_s, times, [float(orbit.position_m[i, axis]) for i in nearest])
        speed = lagrange_by_hand(t_s, times, [float(noisy.velocity_m_s[i, axis]) for i in nearest])
        # rounding of 7e6 m times the sum of weights, about 10 at the ends
        assert noisy.position(t_s)[axis] == pytest.approx(place, abs=1e-7)
        assert noisy.velocity(t_s)[axis] == pytest.approx(speed, abs=1e-10)


def test_the_interpolated_orbit_follows_the_circle():
    orbit = circular_orbit()
    t_s = np.linspace(-60.0, 100.0, 333).reshape(9, 37)
    place, speed = circle(t_s)
    assert np.abs(orbit.position(t_s) - place).max() < 1e-6
    assert np.abs(orbit.velocity(t_s) - speed).max() < 1e-9


def test_the_orbit_says_nan_where_it_does_not_reach():
    orbit = circular_orbit()
    assert orbit.reach_s == (-90.0, 130.0)
    t_s = np.array([-90.1, -89.9, 129.9, 130.1, np.nan])
    np.testing.assert_array_equal(np.isnan(orbit.position(t_s)[:, 1]), [True, False, False, True, True])
    place, _ = circle(t_s[1:3])
    assert np.abs(orbit.position(t_s[1:3]) - place).max() < 1e-4


def test_another_epoch_changes_no_position():
    orbit = circular_orbit()
    moved = orbit.at_epoch(EPOCH + np.timedelta64(12_345_678, "us"))
    assert moved.t_s[0] == pytest.approx(-72.345678, abs=1e-12)
    assert np.abs(moved.position(1.0 - 12.345678) - orbit.position(1.0)).max() < 1e-6
    assert orbit.at_epoch(EPOCH) is orbit


def test_microseconds_survive_the_way_to_seconds():
    late = np.datetime64("2014-10-03T00:00:00.000001", "us")
    assert seconds_between(late, np.datetime64("2014-10-02T23:59:59.999999", "us")) == 2e-6
    assert seconds_between(late, np.datetime64("2014-10-04", "D")) == pytest.approx(-86399.999999, abs=1e-11)


def test_an_orbit_refuses_times_that_do_not_increase():
    orbit = circular_orbit()
    with pytest.raises(ValueError, match="must increase"):
        replace(orbit, t_s=orbit.t_s[::-1])
    with pytest.raises(ValueError, match="3 times"):
        Orbit(epoch_utc=EPOCH, t_s=orbit.t_s[:3], position_m=orbit.position_m, velocity_m_s=orbit.velocity_m_s)


def test_earth_fixed_coordinates_are_those_of_proj():
    rng = np.random.default_rng(2)
    lon, lat, height = rng.uniform(-180, 180, (5, 7)), rng.uniform(-90, 90, (5, 7)), rng.uniform(-400, 9000, (5, 7))
    want = Transformer.from_crs(4979, 4978, always_xy=True).transform(lon, lat, height)
    assert np.abs(ecef_from_geodetic(lon, lat, height) - np.stack(want, axis=-1)).max() < 1e-8
    assert ecef_from_geodetic(0.0, np.array([0.0, 90.0]), 100.0).shape == (2, 3)


@pytest.mark.parametrize("side", ["right", "left"])
def test_zero_doppler_is_the_root_on_the_known_circle(side):
    orbit, rng = circular_orbit(), np.random.default_rng(11)
    for _ in range(20):
        lon, lat = ground_point(rng.uniform(-55, 95), rng.uniform(18, 45), side)
        point = ecef_from_geodetic(lon, lat, rng.uniform(-100, 5000))
        root = brentq(lambda t, x=point: (x - circle(t)[0]) @ circle(t)[1], -80, 120, xtol=1e-13, rtol=1e-15)
        t_s, slant_range_m = zero_doppler(point, orbit)
        assert t_s == pytest.approx(root, abs=1e-10)  # 1 micrometre along track
        assert slant_range_m == pytest.approx(np.linalg.norm(point - circle(root)[0]), abs=1e-6)


def test_zero_doppler_keeps_the_shape_and_says_nan_without_an_answer():
    orbit = circular_orbit()
    inside, outside = ground_point(10.0, 30.0), ground_point(300.0, 30.0)
    points = np.array([[ecef_from_geodetic(*inside, 0.0), ecef_from_geodetic(*outside, 0.0), [np.nan, 1.0, 2.0]]] * 2)
    t_s, slant_range_m = zero_doppler(points, orbit)
    np.testing.assert_array_equal(np.isnan(t_s), [[False, True, True]] * 2)
    np.testing.assert_array_equal(np.isnan(slant_range_m), np.isnan(t_s))
    assert t_s[0, 0] == pytest.approx(10.0, abs=0.2)


def test_zero_doppler_with_vectors_that_end_at_the_image_and_with_a_whole_revolution():
    point = ecef_from_geodetic(*ground_point(10.0, 30.0), 700.0)
    want, _ = zero_doppler(point, circular_orbit())
    short, _ = zero_doppler(point, circular_orbit(first_s=-20.0, step_s=1.0, count=31))
    late, _ = zero_doppler(point, circular_orbit(first_s=-20.0, step_s=1.0, count=29))
    long, _ = zero_doppler(point, circular_orbit(first_s=-3000.0, count=600))
    assert short == pytest.approx(want, abs=1e-11)
    assert long == pytest.approx(want, abs=1e-11)
    assert late == pytest.approx(want, abs=1e-8)  # 2 steps beyond the last vector


def pixel_by_hand(radar, record, slant_range_m):
    polynomial = np.polynomial.Polynomial(radar.record_coefficients[record])
    ground = brentq(lambda g: polynomial(g - radar.record_origin_m[record]) - slant_range_m, -2000.0, 60_000.0, xtol=1e-10)
    return ground / radar.pixel_spacing_m


@pytest.mark.parametrize("records", ["linear", "nearest"])
def test_line_and_pixel_by_hand(records):
    radar = ground_range_image()
    radar = replace(radar, record_origin_m=np.array([0.0, -700.0, 0.0]))
    rng = np.random.default_rng(4)
    worst = 0.0
    for _ in range(200):
        t_s = rng.uniform(-2.0, 6.0)
        slant = rng.uniform(*radar.range_span_m)
        time_s = t_s - (2 * slant / SPEED_OF_LIGHT_M_S - radar.tau_ref_s) / 2
        place = min(max((time_s - radar.record_t_s[0]) / 2.0, 0.0), 2.0)
        before = min(int(place), 1)
        weight = place - before
        if records == "nearest":
            weight = float(round(weight))
        want = (1 - weight) * pixel_by_hand(radar, before, slant) + weight * pixel_by_hand(radar, before + 1, slant)
        line, pixel = radar.line_pixel(np.array([t_s]), np.array([slant]), records=records)
        assert line[0] == pytest.approx(time_s / 1.5e-3, abs=1e-7)
        worst = max(worst, abs(pixel[0] - want))
    assert worst < 1e-6


def test_one_range_record_is_enough_and_holds_everywhere():
    radar = ground_range_image(heights_m=(40.0,))
    slant = radar.slant_range_m(np.array([-900.0, 0.0, 9000.0]), 123.25)
    polynomial = np.polynomial.Polynomial(radar.record_coefficients[0])
    np.testing.assert_allclose(slant, polynomial(1232.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("records", ["linear", "nearest"])
def test_slant_range_and_zero_doppler_time_invert_line_and_pixel(records):
    radar = ground_range_image()
    line, pixel = np.meshgrid(np.linspace(-5, 3010, 31), np.linspace(-8, 5010, 17), indexing="ij")
    slant = radar.slant_range_m(line, pixel, records=records)
    back = radar.line_pixel(radar.zero_doppler_time_s(line, slant), slant, records=records)
    assert np.abs(back[0] - line).max() < 1e-6
    # a time that rounds to the other side of the middle between two records takes the other one
    assert np.quantile(np.abs(back[1] - pixel), 0.99) < 1e-6


def test_beyond_the_image_pixels_go_on_growing_and_nan_stays():
    radar = ground_range_image()
    near, far = radar.range_span_m
    slant = np.linspace(near - 300_000, far + 300_000, 5001)
    _, pixel = radar.line_pixel(np.zeros(5001), slant)
    assert np.all(np.diff(pixel) > 0)
    line, pixel = radar.line_pixel(np.array([np.nan, 0.0]), np.array([near, np.nan]))
    assert np.isnan([*line, *pixel]).all()


def test_a_radar_grid_can_be_pickled_after_use():
    radar = ground_range_image()
    want = radar.line_pixel(np.array([1.0]), np.array([radar.range_span_m[0] + 1e4]))
    again = pickle.loads(pickle.dumps(radar)).line_pixel(np.array([1.0]), np.array([radar.range_span_m[0] + 1e4]))
    np.testing.assert_array_equal(again, want)


def test_range_records_must_be_in_order():
    radar = ground_range_image()
    with pytest.raises(ValueError, match="must increase"):
        replace(radar, record_t_s=radar.record_t_s[::-1])
    with pytest.raises(ValueError, match="2 range records, 3 polynomials"):
        replace(radar, record_t_s=radar.record_t_s[:2])
