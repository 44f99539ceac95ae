"""A satellite on a circle over the rotating Earth, known by formula, and a ground range image that it takes."""

from __future__ import annotations

import numpy as np

from sarseg.constants import EARTH_ROTATION_RAD_S, SPEED_OF_LIGHT_M_S, WGS84_A_M
from sarseg.radar.geometry import RadarGrid
from sarseg.radar.orbit import Orbit

EPOCH = np.datetime64("2023-04-05T06:07:08.123456", "us")
RADIUS_M = 7_071_000.0
RATE_RAD_S = 2 * np.pi / 5925.0
INCLINATION_RAD = np.radians(98.2)


def circle(t_s, phase_rad=0.9):
    """Earth-fixed position and velocity at times (...): (..., 3) each."""
    t_s = np.asarray(t_s, np.float64)
    u, spin = phase_rad + RATE_RAD_S * t_s, -EARTH_ROTATION_RAD_S * t_s
    ascending, raising = np.array([1.0, 0.0, 0.0]), np.array([0.0, np.cos(INCLINATION_RAD), np.sin(INCLINATION_RAD)])
    place = RADIUS_M * (np.cos(u)[..., None] * ascending + np.sin(u)[..., None] * raising)
    speed = RADIUS_M * RATE_RAD_S * (-np.sin(u)[..., None] * ascending + np.cos(u)[..., None] * raising)
    cos, sin = np.cos(spin), np.sin(spin)

    def turn(v):
        return np.stack([cos * v[..., 0] - sin * v[..., 1], sin * v[..., 0] + cos * v[..., 1], v[..., 2]], axis=-1)

    fixed = turn(place)
    drag = EARTH_ROTATION_RAD_S * np.stack([fixed[..., 1], -fixed[..., 0], np.zeros_like(fixed[..., 0])], axis=-1)
    return fixed, turn(speed) + drag


def circular_orbit(first_s=-60.0, step_s=10.0, count=17, phase_rad=0.9):
    t_s = first_s + step_s * np.arange(count)
    position, velocity = circle(t_s, phase_rad)
    return Orbit(epoch_utc=EPOCH, t_s=t_s, position_m=position, velocity_m_s=velocity)


def ground_point(t_s, look_deg, side="right", phase_rad=0.9, height_m=0.0):
    """Longitude and latitude (deg) of the point that a look angle meets at a (spherical enough) distance."""
    from pyproj import Transformer

    position, velocity = circle(t_s, phase_rad)
    up = position / np.linalg.norm(position)
    right = np.cross(velocity, up)
    right /= np.linalg.norm(right) * (1 if side == "right" else -1)
    ray = -np.cos(np.radians(look_deg)) * up + np.sin(np.radians(look_deg)) * right
    b, c = position @ ray, position @ position - (WGS84_A_M - 10_000.0 + height_m) ** 2
    point = position + (-b - np.sqrt(b * b - c)) * ray
    lon, lat, _ = Transformer.from_crs(4978, 4979, always_xy=True).transform(*point)
    return lon, lat


def ground_range_image(shape=(3001, 5003), near_m=850_000.0, heights_m=(0.0, 60.0, 25.0), line_interval_s=1.5e-3):
    """Range records of a spherical Earth, whose ground height differs from record to record; degree 8 as in real products."""
    ground = np.linspace(0.0, (shape[1] - 1) * 10.0, 400)
    coefficients = []
    for height in heights_m:
        radius = WGS84_A_M - 10_000.0 + height
        start = np.arccos((radius**2 + RADIUS_M**2 - near_m**2) / (2 * radius * RADIUS_M))
        slant = np.sqrt(radius**2 + RADIUS_M**2 - 2 * radius * RADIUS_M * np.cos(start + ground / radius))
        coefficients.append(np.polynomial.Polynomial.fit(ground, slant, 8).convert().coef)
    ends = [np.polynomial.polynomial.polyval(g, coefficients[len(coefficients) // 2]) for g in (0.0, ground[-1])]
    return RadarGrid(
        epoch_utc=EPOCH,
        shape=shape,
        look_side="right",
        wavelength_m=0.0555,
        first_line_s=0.0,
        line_interval_s=line_interval_s,
        pixel_spacing_m=10.0,
        record_t_s=-0.7 + 2.0 * np.arange(len(heights_m)),
        record_origin_m=np.zeros(len(heights_m)),
        record_coefficients=np.array(coefficients),
        tau_ref_s=2.0 * float(np.mean(ends)) / SPEED_OF_LIGHT_M_S,
    )
