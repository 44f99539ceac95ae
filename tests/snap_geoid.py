"""A geoid for tests: undulations of a smooth formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine


def geoid_formula(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Metres."""
    return 40.0 * np.cos(np.radians(lat)) + 15.0 * np.sin(np.radians(2 * lon)) + 5.0


def write_geoid(folder: Path) -> Path:
    """The formula every half degree around the Earth, in a file that is known as the grid of EGM96 by its name."""
    lon, lat = np.meshgrid(np.arange(-180, 180, 0.5), np.arange(90, -90.1, -0.5))
    path = folder / "us_nga_egm96_15.tif"
    profile = {"driver": "GTiff", "count": 1, "height": lon.shape[0], "width": lon.shape[1], "dtype": "float32", "crs": "EPSG:4326"}
    with rasterio.open(path, "w", transform=Affine(0.5, 0, -180.25, 0, -0.5, 90.25), **profile) as file:
        file.write(geoid_formula(lon, lat).astype("f4"), 1)
    return path
