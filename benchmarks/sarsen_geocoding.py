"""The same simulated SAFE geocoded by sarsen and by `preprocess`: displacement in pixels, CPU time of each.

    pip install sarseg[bench]
    python benchmarks/sarsen_geocoding.py [--safe S1..SAFE --dem DEM] [--size 800]

Without --safe a scene over steep ground is simulated. sarsen's output grid is its DEM's, so it gets our DEM resampled onto our
grid. It knows neither the residual bistatic term (up to 1.9 m along track) nor the range records' inverse (docs/sentinel1.md 2 and 3):
it must lie within 1 pixel of ours.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from common import cpu_seconds
from scipy.ndimage import gaussian_filter, shift

from sarseg.ard.preprocess import PreprocessOptions, preprocess
from sarseg.product.open import Product, open_product
from sarseg.raster.dem import open_dem
from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
from sarseg.simulate.sentinel1 import simulate_sentinel1

LIMIT_PX = 1.0
_SIZE_PX = 128


def sarsen_image(safe: Path, product: Product, dem: Path, work: Path) -> tuple[np.ndarray, float]:
    """sarsen's beta0 on the product's grid, and its CPU seconds."""
    import sarsen

    heights = open_dem([dem]).heights(product.grid)
    profile = {"driver": "GTiff", "height": heights.shape[0], "width": heights.shape[1], "count": 1, "dtype": "float32"}
    with rasterio.open(work / "dem.tif", "w", crs=product.grid.crs, transform=product.grid.transform, **profile) as file:
        file.write(np.nan_to_num(heights, nan=float(np.nanmean(heights))).astype(np.float32), 1)
    source = sarsen.Sentinel1SarProduct(str(safe), "IW/VV")
    with cpu_seconds() as taken:
        sarsen.terrain_correction(source, str(work / "dem.tif"), output_urlpath=str(work / "gtc.tif"), interp_method="linear")
    with rasterio.open(work / "gtc.tif") as file:
        image = file.read(1)
        return image if file.transform.e < 0 else image[::-1], taken[0]  # sarsen writes its rows from south to north


def displacements(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(row, col) of theirs against ours in windows, (n, 2), pixels: least squares on dB images without their slow trends."""
    found = []
    for row in range(16, ours.shape[0] - _SIZE_PX - 16, _SIZE_PX):
        for col in range(16, ours.shape[1] - _SIZE_PX - 16, _SIZE_PX):
            place = slice(row - 16, row + _SIZE_PX + 16), slice(col - 16, col + _SIZE_PX + 16)
            a, b = (10 * np.log10(np.maximum(image[place], 1e-5)) for image in (ours, theirs))
            if np.isfinite(a).all() and np.isfinite(b).all():
                found.append(_displacement(a - gaussian_filter(a, 8.0), b - gaussian_filter(b, 8.0)))
    return np.array(found)


def _displacement(still: np.ndarray, moved: np.ndarray) -> np.ndarray:
    inner, total = (slice(12, -12),) * 2, np.zeros(2)
    for _ in range(10):
        guess = shift(still, total, order=3, mode="nearest")
        terms = [*(-slope[inner].ravel() for slope in np.gradient(guess)), guess[inner].ravel(), np.ones(guess[inner].size)]
        answer = np.linalg.lstsq(np.stack(terms, 1), moved[inner].ravel(), rcond=None)[0]
        total += answer[:2] / answer[2]
    return total


def main() -> None:
    """Run both, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--safe", type=Path)
    parser.add_argument("--dem", type=Path)
    parser.add_argument("--size", type=int, default=800)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        safe, dem = options.safe, options.dem
        if safe is None:
            landscape = LandscapeOptions(size_px=options.size, steepest_deg=30.0, variation="none")
            scene = simulate_sentinel1(work, Sentinel1Options(landscape=landscape, speckle="none"))
            safe, dem = scene.safe, scene.dem
        with cpu_seconds() as ours_s:
            product = open_product(preprocess(safe, work / "ard", [dem], PreprocessOptions(radiometry="beta0")))
        theirs, theirs_s = sarsen_image(safe, product, dem, work)
        found = displacements(product.read(bands=["VV"])[0], theirs)
    pixels = product.grid.shape[0] * product.grid.shape[1] / 1e6
    worst = float(np.abs(found).max())
    print(
        f"{len(found)} windows of {_SIZE_PX} pixels: mean (row, col) {found.mean(0).round(3)}, worst {worst:.3f} pixel (limit {LIMIT_PX})"
    )
    print(f"sarseg, {len(product.bands)} polarisations, masks, angles, COGs: {ours_s[0]:.1f} CPU-s for {pixels:.2f} Mpx each")
    print(f"sarsen, VV only: {theirs_s:.1f} CPU-s")
    sys.exit(0 if worst <= LIMIT_PX else 1)


if __name__ == "__main__":
    main()
