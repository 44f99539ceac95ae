"""The block pipeline of `preprocess` beside the direct way and a bare numba loop, in megapixels of one band per CPU second.

    python benchmarks/preprocess_speed.py [--size 1500]

The direct way solves zero Doppler exactly at every pixel (no lattice), with no angles, mask or filter. The bare loop does
nothing but bilinear sampling of a ready image at ready coordinates: the floor under any terrain correction.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import cpu_seconds
from numba import njit

from sarseg.ard.extent import choose_extent
from sarseg.ard.geocode import Job, geocode_block
from sarseg.ard.preprocess import PreprocessOptions, make_job
from sarseg.grid import transform_points
from sarseg.radar.geometry import ecef_from_geodetic, zero_doppler
from sarseg.radar.lattice import make_lattice
from sarseg.raster.dem import open_dem
from sarseg.scene.open import open_scene
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.sentinel1 import simulate_sentinel1
from sarseg.tiles import Window, blocks


@njit(nogil=True)
def bare_loop(image, line, pixel, out):
    """Bilinear, no questions asked; positions outside of the image are skipped."""
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            y, x = line[r, c], pixel[r, c]
            if not (0 <= y < image.shape[0] - 1 and 0 <= x < image.shape[1] - 1):
                continue
            i, j = int(y), int(x)
            u, v = y - i, x - j
            top = image[i, j] * (1 - v) + image[i, j + 1] * v
            bottom = image[i + 1, j] * (1 - v) + image[i + 1, j + 1] * v
            out[r, c] = top * (1 - u) + bottom * u


def direct(job: Job, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Line and pixel of a block, every pixel solved exactly."""
    from rasterio.crs import CRS

    lon, lat = transform_points(job.grid.crs, CRS.from_epsg(4326), *np.meshgrid(*job.grid.centres(window)))
    return job.scene.grid.line_pixel(*zero_doppler(ecef_from_geodetic(lon, lat, job.dem.heights(job.grid, window)), job.scene.orbit))


def main() -> None:
    """Simulate a scene, run the three, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = simulate_sentinel1(Path(name), Sentinel1Options(landscape=LandscapeOptions(size_px=options.size, steepest_deg=20.0)))
        scene, dem = open_scene(made.safe), open_dem([made.dem])
        extent = choose_extent(scene, dem, crs=None, spacing_m=10.0)
        report({kind: make_job(scene, dem, extent, PreprocessOptions(speckle=kind, threads=1)) for kind in (None, "lee")})


def report(jobs: dict[str | None, Job]) -> None:
    """Time the runs on the full blocks of the map."""
    job = jobs[None]
    windows = [window for window in blocks(job.grid.shape) if window.size == 512 * 512]
    first = windows[0]
    for one in jobs.values():
        geocode_block(one, first)
    image = np.ones(job.scene.shape, np.float32)
    line, pixel = job.scene.grid.line_pixel(*make_lattice(job.plan, first).time_range(job.dem.heights(job.grid, first)))
    out = np.empty(first.shape, np.float32)
    bare_loop(image, line, pixel, out)
    direct(job, first)
    bands = len(job.polarisations)
    runs = {
        "blocks, all layers": (lambda window: geocode_block(job, window), bands),
        "blocks, all layers, Lee": (lambda window: geocode_block(jobs["lee"], window), bands),
        "direct way, coordinates only": (lambda window: direct(job, window), 1),
        "bare loop, sampling only": (lambda _: bare_loop(image, line, pixel, out), 1),
    }
    for name, (run, layers) in runs.items():
        with cpu_seconds() as taken:
            for window in windows:
                run(window)
        print(f"{name:30s} {layers * sum(window.size for window in windows) / 1e6 / taken[0]:8.2f} Mpx/CPU-s")


if __name__ == "__main__":
    main()
