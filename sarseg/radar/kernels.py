"""Compiled kernels of orbit and range geometry: arrays and tuples of numbers in, arrays written.

They stand apart so that opening and printing a scene does not load numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.radar.orbit import POINTS, Floats

_NEWTON_STEPS = 10
_TIME_TOLERANCE_S = 1e-12
_ROUNDING_S = 1e-8  # beyond the last vector, rounding alone moves the time by up to 1e-9 s (7 micrometres)
_INVERSE_STEPS = 16

Tables = tuple[Floats, float, float, Floats]
"""Times of the range records, first slant range and step of the table, and (pixel, d pixel / d step) per record and node."""


@njit(nogil=True, cache=True)
def lagrange(t: float, t_s: Floats, scale: Floats, weights: Floats) -> int:
    """Write the weights of the nearest vectors in the Lagrange polynomial at t; return the index of the first of them.

    Parameters
    ----------
    t_s, scale : of an `Orbit`
    weights : float64 (POINTS,), written up to the number of vectors used; windows are clamped at the list's ends
    """
    points = scale.shape[1]
    start = max(0, min(np.searchsorted(t_s, t) - points // 2, t_s.size - points))
    product = 1.0
    for i in range(points):
        weights[i] = product * scale[start, i]
        product *= t - t_s[start + i]
    product = 1.0
    for i in range(points - 1, -1, -1):
        weights[i] *= product
        product *= t - t_s[start + i]
    return int(start)


@njit(nogil=True, cache=True)
def interpolate_vectors(times: Floats, t_s: Floats, scale: Floats, values: Floats, out: Floats) -> None:
    """Lagrange polynomials of values (n, 3) at times (k,) into out (k, 3)."""
    weights = np.empty(POINTS)
    for k in range(times.size):
        start = lagrange(times[k], t_s, scale, weights)
        for axis in range(3):
            total = 0.0
            for i in range(scale.shape[1]):
                total += weights[i] * values[start + i, axis]
            out[k, axis] = total


@njit(nogil=True, cache=True)
def _nearest_vector(x: float, y: float, z: float, position: Floats) -> int:
    best, at = np.inf, 0
    for i in range(position.shape[0]):
        distance = (position[i, 0] - x) ** 2 + (position[i, 1] - y) ** 2 + (position[i, 2] - z) ** 2
        if distance < best:
            best, at = distance, i
    return at


@njit(nogil=True, cache=True)
def solve_range_doppler(
    points: Floats,
    vectors: tuple[Floats, Floats, Floats, Floats],
    reach_s: tuple[float, float],
    doppler: tuple[float, float, float, float, float],
    t_out: Floats,
    range_out: Floats,
) -> None:
    """Time and range at which points (k, 3) have the Doppler frequency of their range, into t_out, range_out (k,); NaN without an answer.

    Parameters
    ----------
    vectors : t_s, scale, position_m, velocity_m_s of an `Orbit`
    reach_s : first and last time with an answer
    doppler : half a wavelength (m), origin (m), then Hz, Hz/km and Hz/km^2; zeros add exact zeros to every sum
    """
    t_s, scale, position, velocity = vectors
    half_m, origin_m, c0, c1, c2 = doppler
    weights = np.empty(POINTS)
    for k in range(points.shape[0]):
        x, y, z = points[k, 0], points[k, 1], points[k, 2]
        t_out[k], range_out[k] = np.nan, np.nan
        if np.isnan(x + y + z):
            continue
        near = _nearest_vector(x, y, z, position)
        # an estimate of the acceleration is enough: it changes the speed of convergence, not the answer
        low, high = max(near - 1, 0), min(near + 1, t_s.size - 1)
        acceleration = (velocity[high] - velocity[low]) / (t_s[high] - t_s[low])
        t, slant, step = t_s[near], np.nan, np.inf
        for _ in range(_NEWTON_STEPS):
            start = lagrange(t, t_s, scale, weights)
            dx, dy, dz, vx, vy, vz = x, y, z, 0.0, 0.0, 0.0
            for i in range(scale.shape[1]):
                w = weights[i]
                dx -= w * position[start + i, 0]
                dy -= w * position[start + i, 1]
                dz -= w * position[start + i, 2]
                vx += w * velocity[start + i, 0]
                vy += w * velocity[start + i, 1]
                vz += w * velocity[start + i, 2]
            slant = np.sqrt(dx * dx + dy * dy + dz * dz)
            km = (slant - origin_m) / 1000.0
            frequency = c0 + km * (c1 + km * c2)
            per_m = (c1 + 2.0 * km * c2) / 1000.0
            along = dx * vx + dy * vy + dz * vz
            slope = dx * acceleration[0] + dy * acceleration[1] + dz * acceleration[2] - (vx * vx + vy * vy + vz * vz)
            slope += half_m * (frequency + per_m * slant) * along / slant
            step = -(along - half_m * slant * frequency) / slope
            t += step
            if abs(step) <= _TIME_TOLERANCE_S or not reach_s[0] <= t <= reach_s[1]:
                break
        if abs(step) <= _ROUNDING_S and reach_s[0] <= t <= reach_s[1]:
            t_out[k], range_out[k] = t, slant


@njit(nogil=True, cache=True)
def power_series(t_s: Floats, slant_range_m: Floats, domain: tuple[float, float, float, float], table: Floats, out: Floats) -> None:
    """Polynomials of time and range into out (fields, k); beyond the domain they continue on their tangents.

    Parameters
    ----------
    domain : middle and half width of time, then of range
    table : float64 (fields, powers of time, powers of range), in units of the half widths
    """
    t_mid, t_half, r_mid, r_half = domain
    fields, n_t, n_r = table.shape
    for k in range(t_s.size):
        if np.isnan(t_s[k]) or np.isnan(slant_range_m[k]):
            out[:, k] = np.nan
            continue
        u_all, v_all = (t_s[k] - t_mid) / t_half, (slant_range_m[k] - r_mid) / r_half
        u, v = min(1.0, max(-1.0, u_all)), min(1.0, max(-1.0, v_all))
        for f in range(fields):
            value, by_u, by_v = 0.0, 0.0, 0.0
            for i in range(n_t - 1, -1, -1):
                row, slope = 0.0, 0.0
                for j in range(n_r - 1, -1, -1):
                    slope = slope * v + row
                    row = row * v + table[f, i, j]
                by_u = by_u * u + value
                value = value * u + row
                by_v = by_v * u + slope
            out[f, k] = value + (u_all - u) * by_u + (v_all - v) * by_v


@njit(nogil=True, cache=True)
def _blend(time_s: float, record_t_s: Floats, nearest: bool) -> tuple[int, int, float]:
    """The two records around a time and the second one's weight."""
    last = record_t_s.size - 1
    if time_s <= record_t_s[0]:
        return 0, 0, 0.0
    if time_s >= record_t_s[last]:
        return last, last, 0.0
    after = int(np.searchsorted(record_t_s, time_s))
    weight = (time_s - record_t_s[after - 1]) / (record_t_s[after] - record_t_s[after - 1])
    if nearest:
        weight = 1.0 if weight > 0.5 else 0.0
    return after - 1, after, float(weight)


@njit(nogil=True, cache=True)
def _pixel(slant_range_m: float, first_m: float, step_m: float, nodes: Floats) -> tuple[float, float]:
    """Pixel of one record and its derivative per table step: Hermite cubic, straight lines beyond the ends."""
    u = (slant_range_m - first_m) / step_m
    last = nodes.shape[0] - 1
    if u <= 0.0:
        return nodes[0, 0] + u * nodes[0, 1], nodes[0, 1]
    if u >= last:
        return nodes[last, 0] + (u - last) * nodes[last, 1], nodes[last, 1]
    i = int(u)
    x = u - i
    rise = nodes[i + 1, 0] - nodes[i, 0]
    a = nodes[i, 1] - rise
    b = rise - nodes[i + 1, 1]
    bend = x * (1.0 - x)
    value = nodes[i, 0] + x * rise + bend * (a * (1.0 - x) + b * x)
    slope = rise + (1.0 - 2.0 * x) * (a * (1.0 - x) + b * x) + bend * (b - a)
    return value, slope


@njit(nogil=True, cache=True)
def lines_pixels(
    t_s: Floats, slant_range_m: Floats, timing: tuple[float, float, float, float], tables: Tables, nearest: bool, out: Floats
) -> None:
    """Line and pixel into out (2, k).

    Parameters
    ----------
    timing : first_line_s, line_interval_s, tau_ref_s and bistatic (0 or 1) of a `RadarGrid`
    nearest : take the nearer range record instead of blending two
    """
    first_line_s, interval_s, tau_ref_s, bistatic = timing
    record_t_s, first_m, step_m, nodes = tables
    line, pixel = out[0], out[1]
    for k in range(t_s.size):
        if np.isnan(t_s[k]) or np.isnan(slant_range_m[k]):
            line[k], pixel[k] = np.nan, np.nan
            continue
        time_s = t_s[k] - bistatic * (slant_range_m[k] / SPEED_OF_LIGHT_M_S - tau_ref_s / 2.0)
        line[k] = (time_s - first_line_s) / interval_s
        before, after, weight = _blend(time_s, record_t_s, nearest)
        value, _ = _pixel(slant_range_m[k], first_m, step_m, nodes[before])
        if weight > 0.0:
            other, _ = _pixel(slant_range_m[k], first_m, step_m, nodes[after])
            value += weight * (other - value)
        pixel[k] = value


@njit(nogil=True, cache=True)
def slant_ranges(time_s: Floats, pixel: Floats, tables: Tables, nearest: bool, out: Floats) -> None:
    """Slant range of pixels on lines of these times into out (k,): Newton on the blended pixel of two records."""
    record_t_s, first_m, step_m, nodes = tables
    for k in range(time_s.size):
        out[k] = np.nan
        if np.isnan(time_s[k]) or np.isnan(pixel[k]):
            continue
        before, after, weight = _blend(time_s[k], record_t_s, nearest)
        r = first_m
        for _ in range(_INVERSE_STEPS):
            value, slope = _pixel(r, first_m, step_m, nodes[before])
            other, other_slope = _pixel(r, first_m, step_m, nodes[after])
            value += weight * (other - value)
            slope += weight * (other_slope - slope)
            change = (pixel[k] - value) * step_m / slope
            r += change
            if abs(change) < 1e-7:
                break
        out[k] = r
