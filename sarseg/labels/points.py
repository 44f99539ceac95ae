"""Map points from one CRS to another, many times over."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS


def transform_points(
    source: CRS, target: CRS, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `sarseg.grid.transform_points`, but PROJ looks for the way between two CRS once, which takes 0.1 s and more."""
    if source == target:
        return x, y
    out_x, out_y = _transformer(source.to_wkt(), target.to_wkt()).transform(x, y)
    return np.asarray(out_x), np.asarray(out_y)


@lru_cache(maxsize=16)
def _transformer(source: str, target: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)
