"""STAC items (stac-spec 1.1) of the products that we write: the same content for the same input, no time of creation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sarseg.grid import MapGrid
from sarseg.masks import BIT_TEXT

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
SAR = "https://stac-extensions.github.io/sar/v1.0.0/schema.json"
SATELLITE = "https://stac-extensions.github.io/sat/v1.0.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"

_MEDIA = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
    ".json": "application/json",
    ".qml": "application/xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file of a product: its name in the folder, a title, STAC roles, and more fields."""

    href: str
    title: str
    roles: tuple[str, ...]
    fields: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the item."""
        suffix = self.href[self.href.rfind(".") :]
        return {"href": f"./{self.href}", "title": self.title, "type": _MEDIA[suffix], "roles": list(self.roles), **self.fields}


def asset(href: str, title: str, *roles: str, **fields: Any) -> Asset:
    """Short form of `Asset`."""
    return Asset(href=href, title=title, roles=roles, fields=fields)


def make_item(
    name: str,
    grid: MapGrid,
    *,
    assets: Mapping[str, Asset],
    properties: Mapping[str, Any],
    datetime_utc: str | None = None,
    extensions: Sequence[str] = (),
) -> dict[str, Any]:
    """A STAC item of a product.

    Parameters
    ----------
    name : the product's name
    properties : further properties; our own start with "sarseg:", among them the list "sarseg:warnings"
    datetime_utc : ISO 8601 with Z, or None when nobody knows: then the item spans all time, as STAC wants one or the other
    """
    import pystac

    geometry, bbox = _footprint(grid)
    stamp = datetime.fromisoformat(datetime_utc) if datetime_utc else None
    item = pystac.Item(
        id=name,
        geometry=geometry,
        bbox=bbox,
        datetime=stamp,
        start_datetime=None if stamp else _ALWAYS[0],
        end_datetime=None if stamp else _ALWAYS[1],
        properties={**_projection(grid), **properties},
        stac_extensions=sorted({PROJECTION, *extensions} if grid.crs is not None else set(extensions)),
    )
    content: dict[str, Any] = item.to_dict(include_self_link=False)
    content["assets"] = {key: value.to_dict() for key, value in assets.items()}
    return content


_ALWAYS = (datetime.fromisoformat("1970-01-01T00:00:00Z"), datetime.fromisoformat("2100-01-01T00:00:00Z"))


def mask_bitfields() -> list[dict[str, Any]]:
    """`classification:bitfields` of our mask."""
    return [
        {
            "name": bit.name.lower() if bit.name else str(bit.value),
            "description": text,
            "offset": bit.value.bit_length() - 1,
            "length": 1,
            "classes": [{"value": 0, "name": "no"}, {"value": 1, "name": "yes"}],
        }
        for bit, text in BIT_TEXT.items()
    ]


def _projection(grid: MapGrid) -> dict[str, Any]:
    if grid.crs is None:
        return {}
    code = grid.crs.to_epsg()
    matrix = grid.transform
    return {
        "proj:code": f"EPSG:{code}" if code else None,
        **({} if code else {"proj:wkt2": grid.crs.to_wkt()}),
        "proj:shape": list(grid.shape),
        "proj:transform": [matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f],
        "proj:bbox": list(grid.bounds),
    }


def _footprint(grid: MapGrid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """GeoJSON of the grid's outline; in two parts where it crosses 180 degrees; None without CRS."""
    if grid.crs is None:
        return None, None
    from rasterio.crs import CRS

    west, south, east, north = (round(value, 7) for value in grid.bounds_in(CRS.from_epsg(4326)))
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}, [west, south, east, north]
    parts = [[_ring(west, south, 180.0, north)], [_ring(-180.0, south, east, north)]]
    return {"type": "MultiPolygon", "coordinates": parts}, [west, south, east, north]


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]
