"""Lee's filter beside a bare numba loop and scipy's uniform filter, in megapixels per CPU second (one thread, in memory).

    python benchmarks/lee_speed.py [--size 4096] [--window 7]

The bare loop visits every window pixel by pixel, without NaN handling; scipy's is the usual numpy recipe (two box means), with
neither NaN handling nor the sample variance.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import cpu_seconds
from numba import njit
from scipy.ndimage import uniform_filter

from sarseg.speckle import lee


@njit(nogil=True)
def bare_loop(power, half, looks, out):
    """The formula, window by window; the image's edge is left out."""
    for r in range(half, power.shape[0] - half):
        for c in range(half, power.shape[1] - half):
            total = squares = 0.0
            for i in range(r - half, r + half + 1):
                for j in range(c - half, c + half + 1):
                    total += power[i, j]
                    squares += power[i, j] * power[i, j]
            count = (2 * half + 1) ** 2
            mean = total / count
            variance = (squares - total * mean) / (count - 1)
            weight = max(0.0, 1.0 - mean * mean / looks / variance) if variance > 0.0 else 0.0
            out[r, c] = mean + weight * (power[r, c] - mean)


def scipy_recipe(power, window, looks):
    """Two box means in float64."""
    mean = uniform_filter(power.astype(np.float64), window)
    variance = uniform_filter(power.astype(np.float64) ** 2, window) - mean**2
    weight = np.maximum(0.0, 1.0 - mean**2 / looks / np.maximum(variance, 1e-30))
    return mean + weight * (power - mean)


def main() -> None:
    """Print speeds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--window", type=int, default=7)
    options = parser.parse_args()
    power = np.random.default_rng(1).gamma(4.4, 1 / 4.4, (options.size, options.size)).astype(np.float32)
    out = np.empty_like(power)
    half = options.window // 2
    runs = {
        "sarseg.speckle.lee": lambda: lee(power, 4.4, window=options.window),
        "bare numba loop": lambda: bare_loop(power, half, 4.4, out),
        "scipy uniform_filter": lambda: scipy_recipe(power, options.window, 4.4),
    }
    lee(power[:64, :64], 4.4, window=options.window)
    bare_loop(power[:64, :64], half, 4.4, out[:64, :64])
    speeds = {}
    for name, run in runs.items():
        best = np.inf
        for _ in range(3):
            with cpu_seconds() as taken:
                run()
            best = min(best, taken[0])
        speeds[name] = power.size / 1e6 / best
    inner = slice(half, -half)
    difference = np.abs(lee(power, 4.4, window=options.window)[inner, inner] - out[inner, inner]).max()
    for name, speed in speeds.items():
        print(f"{name:24s} {speed:8.1f} Mpx/CPU-s   x{speeds['sarseg.speckle.lee'] / speed:.2f}")
    print(f"largest difference from the bare loop: {difference:.1e}")


if __name__ == "__main__":
    main()
