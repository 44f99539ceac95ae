"""Peak memory and CPU time of `preprocess` on a full-size dual-polarisation GRDH, read from its zip.

    python benchmarks/preprocess_memory.py --template S1A_IW_GRDH_..._8255.zip --work /scratch [--landscape 3072] [--whole]

The scene is simulated once into --work: pixels for a real product's annotation over a made-up landscape of --landscape
pixels in its middle (the rest of the image stays empty, as outside of a DEM). With --whole a coarse DEM covers the whole
scene, so that every pixel of it is processed. The measured run is a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from common import cpu_seconds, peak_gib

from sarseg.ard.preprocess import PreprocessOptions, preprocess
from sarseg.product.open import open_product
from sarseg.scene.open import open_scene
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.sentinel1 import simulate_sentinel1

LIMIT_GIB = 4.0


def simulate(template: Path, work: Path, size_px: int) -> None:
    """Write the zipped scene and its DEM unless they are there."""
    if not any(work.glob("S1*.zip")):
        landscape = LandscapeOptions(size_px=size_px, steepest_deg=30.0)
        simulate_sentinel1(work, Sentinel1Options(template=template, zipped=True, landscape=landscape))


def whole_dem(scene: Path, path: Path) -> Path:
    """Hills of 3 arc seconds over the whole scene, ellipsoidal heights."""
    points = open_scene(scene).geolocation_grid
    west, north = points.lon_deg.min() - 0.1, points.lat_deg.max() + 0.1
    rows, cols = (int((np.ptp(values) + 0.2) * 1200) for values in (points.lat_deg, points.lon_deg))
    y, x = np.mgrid[:rows, :cols]
    heights = (300.0 + 250.0 * np.sin(x / 31.0) * np.cos(y / 47.0)).astype(np.float32)
    profile = {"driver": "GTiff", "height": rows, "width": cols, "count": 1, "dtype": "float32", "crs": "EPSG:4979", "tiled": True}
    with rasterio.open(path, "w", transform=Affine(1 / 1200, 0, west, 0, -1 / 1200, north), **profile) as file:
        file.write(heights, 1)
    return path


def measure(scene: Path, dem: Path, work: Path) -> None:
    """One run in this process; prints what it took."""
    with cpu_seconds() as taken:
        folder = preprocess(scene, work / "ard", [dem], PreprocessOptions(speckle="lee"))
    peak = peak_gib()
    product = open_product(folder)
    pixels = product.grid.shape[0] * product.grid.shape[1] / 1e6
    print(f"{folder.name}: {product.grid.shape[0]} x {product.grid.shape[1]} pixels, {len(product.bands)} polarisations")
    speed = pixels * len(product.bands) / taken[0]
    print(f"peak memory {peak:.2f} GiB (limit {LIMIT_GIB}), {taken[0]:.0f} CPU-s, {speed:.2f} Mpx of one band a CPU-s")
    sys.exit(0 if peak <= LIMIT_GIB else 1)


def main() -> None:
    """Simulate, then measure in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--landscape", type=int, default=3072)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.measure is not None:
        measure(next(options.work.glob("S1*.zip")), options.measure, options.work)
    simulate(options.template, options.work, options.landscape)
    dem = options.work / "dem.tif"
    if options.whole:
        dem = whole_dem(next(options.work.glob("S1*.zip")), options.work / "whole.tif")
    sys.exit(subprocess.run([sys.executable, *sys.argv, "--measure", str(dem)], check=False).returncode)


if __name__ == "__main__":
    main()
