"""Polygons at pixel centres, against a point-in-polygon test of each centre in the file's CRS."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS

from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.labels.dstl import open_dstl, wkt_rings
from sarseg.labels.options import LabelOptions
from sarseg.labels.resample import make_labels
from sarseg.labels.sources import Remap
from sarseg.labels.vector import open_vector
from sarseg.legend import Legend
from sarseg.tiles import Window, blocks

Ring = list[tuple[float, float]]


def inside(x: float, y: float, rings: list[Ring]) -> bool:
    """Odd number of edges right of a point, in plain Python."""
    found = False
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                found = not found
    return found


def area(rings: list[Ring]) -> float:
    parts = [abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(r, r[1:] + r[:1], strict=True))) / 2 for r in rings]
    return parts[0] - sum(parts[1:])


def star(rng: np.random.Generator, middle: tuple[float, float], size: float, points: int) -> Ring:
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    reach = size * rng.uniform(0.4, 1.0, points)
    return [(float(middle[0] + r * np.cos(a)), float(middle[1] + r * np.sin(a))) for a, r in zip(angle, reach, strict=True)]


def geojson(path: Path, shapes: list[tuple[dict[str, Any], dict[str, Any]]], crs: str | None = None) -> Path:
    features = [{"type": "Feature", "properties": fields, "geometry": geometry} for fields, geometry in shapes]
    data: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        data["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(data))
    return path


def polygon(rings: list[Ring]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]}


def some_shapes(middle: tuple[float, float], size: float) -> list[tuple[int, list[Ring]]]:
    """Overlapping stars, every second one with a hole, one ring that crosses itself."""
    rng = np.random.default_rng(4)
    out: list[tuple[int, list[Ring]]] = []
    for code in range(1, 10):
        at = (middle[0] + float(rng.uniform(-1, 1)) * size, middle[1] + float(rng.uniform(-1, 1)) * size)
        reach = size * float(rng.uniform(0.2, 0.9))
        rings = [star(rng, at, reach, 23)]
        if code % 2:
            rings.append(star(rng, at, 0.3 * reach, 7))
        out.append((code, rings))
    x, y = middle
    out.append((10, [[(x, y), (x + size, y + size), (x + size, y), (x, y + size * 0.9)]]))
    return out


def brute(shapes: list[tuple[int, list[Ring]]], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
    out = np.zeros(x.shape, np.uint8)
    for code, rings in sorted(shapes, key=lambda one: -area(one[1])):
        for place in np.ndindex(*x.shape):
            if inside(float(x[place]), float(y[place]), rings):
                out[place] = code
    return out


@pytest.mark.parametrize("driver", ["GeoJSON", "GPKG", "ESRI Shapefile"])
def test_polygons_in_degrees_on_a_utm_grid(tmp_path: Path, driver: str) -> None:
    shapes = some_shapes((15.3, 48.2), 0.05)
    path = geojson(tmp_path / "a.geojson", [({"kind": code, "note": "x"}, polygon(rings)) for code, rings in shapes])
    if driver != "GeoJSON":
        import pyogrio.raw

        meta, _, geometry, fields = pyogrio.raw.read(path)
        path = tmp_path / ("a.gpkg" if driver == "GPKG" else "a.shp")
        pyogrio.raw.write(path, geometry, fields, meta["fields"], driver=driver, crs="EPSG:4326", geometry_type="Polygon")
    grid = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(150, 0, 518_000, 0, -170, 5_344_000), shape=(63, 57))
    drawing = open_vector(path, grid, class_field="kind", legend=None, remap=None)
    col, row = np.meshgrid(np.arange(57) + 0.5, np.arange(63) + 0.5)
    x, y = Transformer.from_crs(32633, 4326, always_xy=True).transform(518_000 + 150 * col, 5_344_000 - 170 * row)
    want = brute(shapes, x, y)
    got = drawing.codes(Window.whole(grid.shape))
    np.testing.assert_array_equal(got, want)
    assert len(np.unique(want)) >= 9
    for block in blocks(grid.shape, 17):
        np.testing.assert_array_equal(drawing.codes(block), got[block.slices])


def test_long_edges_bend_with_the_projection(tmp_path: Path) -> None:
    """A parallel of 4 degrees is 2 km off the straight line: 20 pixels."""
    rings: list[Ring] = [[(13.0, 60.0), (17.0, 60.0), (17.0, 60.7), (13.0, 60.9)]]
    path = geojson(tmp_path / "a.geojson", [({"c": 1}, polygon(rings))])
    grid = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(2000, 0, 370_000, 0, -100, 6_670_000), shape=(250, 130))
    col, row = np.meshgrid(np.arange(130) + 0.5, np.arange(250) + 0.5)
    x, y = Transformer.from_crs(32633, 4326, always_xy=True).transform(370_000 + 2000 * col, 6_670_000 - 100 * row)
    got = open_vector(path, grid, class_field=None, legend=None, remap=None).codes(Window.whole(grid.shape))
    np.testing.assert_array_equal(got, brute([(1, rings)], x, y))


def test_shared_edges_and_centres_on_edges_go_to_one_side(tmp_path: Path) -> None:
    grid = MapGrid(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 500_000, 0, -10, 5_000_100), shape=(10, 10))

    def box(left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
        return polygon([[(500_000 + x, 5_000_100 - y) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]])

    shapes = [({"c": 1}, box(5, 5, 35, 45)), ({"c": 2}, box(35, 5, 75, 45)), ({"c": 3}, box(5, 45, 75, 85))]
    path = geojson(tmp_path / "a.geojson", shapes, "urn:ogc:def:crs:EPSG::32633")
    got = open_vector(path, grid, class_field="c", legend=None, remap=None).codes(Window.whole((10, 10)))
    want = np.zeros((10, 10), np.uint8)
    want[0:4, 0:3], want[0:4, 3:7], want[4:8, 0:7] = 1, 2, 3
    np.testing.assert_array_equal(got, want)


def test_names_codes_and_trouble(tmp_path: Path) -> None:
    grid = MapGrid(crs=CRS.from_epsg(4326), transform=Affine(0.01, 0, 10, 0, -0.01, 50), shape=(20, 20))
    square: Ring = [(10.0, 50.0), (10.1, 50.0), (10.1, 49.9), (10.0, 49.9)]
    far: Ring = [(x + 90, y) for x, y in square]
    path = geojson(tmp_path / "a.geojson", [({"c": "wood", "n": 12}, polygon([square])), ({"c": "lake", "n": 7}, polygon([far]))])
    named = open_vector(path, grid, class_field="c", legend=None, remap=None)
    assert named.legend.names == ("lake", "wood")  # of the whole file, also where it lies elsewhere
    assert np.unique(named.codes(Window.whole(grid.shape))).tolist() == [0, 2]
    legend = Legend.from_dict([{"code": 5, "name": "wood", "colour": "#00ff00"}, {"code": 6, "name": "lake", "color": [0, 0, 255]}])
    assert open_vector(path, grid, class_field="c", legend=legend, remap=None).codes(Window.whole(grid.shape))[0, 0] == 5
    table = Remap({12: 3}, default=255)
    assert open_vector(path, grid, class_field="n", legend=None, remap=table).codes(Window.whole(grid.shape))[0, 0] == 3
    with pytest.raises(UsageError, match=r"must be named.*c, n"):
        open_vector(path, grid, class_field=None, legend=None, remap=None)
    with pytest.raises(UsageError, match="no field 'd'"):
        open_vector(path, grid, class_field="d", legend=None, remap=None)
    with pytest.raises(InputError, match="value 7 is not in the remap table"):
        open_vector(path, grid, class_field="n", legend=None, remap=Remap({12: 3}))
    with pytest.raises(InputError, match="class 'lake' is not in the legend"):
        open_vector(path, grid, class_field="c", legend=Legend((legend.classes[0],)), remap=None)
    points = geojson(tmp_path / "p.geojson", [({"c": 1}, {"type": "Point", "coordinates": [10.05, 49.95]})])
    with pytest.raises(InputError, match="is no polygon"):
        open_vector(points, grid, class_field="c", legend=None, remap=None)
    (tmp_path / "bad.geojson").write_text('{"type": "FeatureCollection", "features": [')
    with pytest.raises(InputError, match="vector file"):
        open_vector(tmp_path / "bad.geojson", grid, class_field="c", legend=None, remap=None)
    (tmp_path / "bad.gpkg").write_bytes(b"SQLite format 3\0" + bytes(200))
    with pytest.raises(InputError, match="vector file"):
        open_vector(tmp_path / "bad.gpkg", grid, class_field="c", legend=None, remap=None)
    like = tmp_path / "like.tif"
    with rasterio.open(like, "w", driver="GTiff", count=1, height=20, width=20, dtype="uint8", crs="EPSG:4326", transform=grid.transform):
        pass
    made = make_labels(path, like, tmp_path / "o.tif", LabelOptions(class_field="c", year=2019))
    with rasterio.open(made) as file:
        assert (file.read(1)[0, 0], file.tags()["class_2"], file.tags()["label_year"]) == (2, "wood", "2019")


def dstl_folder(folder: Path, shared: Path, rows: list[tuple[str, int, str]]) -> Path:
    shutil.copy(shared / "data" / "dstl" / "grid_sizes_first30.csv", folder / "grid_sizes.csv")
    with (folder / "train_wkt_v4.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ImageId", "ClassType", "MultipolygonWKT"), *rows])
    return folder / "train_wkt_v4.csv"


def test_dstl_polygons_come_to_pixels_by_its_grid_sizes(shared: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    x_max, y_min, rows, cols = 0.00918, -0.00904, 61, 73  # of 6120_2_4 in the real table
    crops: list[Ring] = [star(rng, (0.0045, -0.0045), 0.0040, 31), star(rng, (0.0045, -0.0045), 0.0010, 9)]
    house: list[Ring] = [star(rng, (0.0060, -0.0030), 0.0015, 12)]
    tree: list[Ring] = [[(0.001, -0.001), (0.003, -0.003), (0.003, -0.001), (0.001, -0.003)]]  # crosses itself
    text = {
        n: "(" + ", ".join("(" + ", ".join(f"{x!r} {y!r}" for x, y in [*r, r[0]]) + ")" for r in s) + ")"
        for n, s in (("crops", crops), ("house", house), ("tree", tree))
    }
    table = [
        ("6120_2_4", 1, f"MULTIPOLYGON ({text['house']})"),
        ("6120_2_4", 2, "MULTIPOLYGON EMPTY"),
        ("6120_2_4", 5, f"POLYGON {text['tree']}"),
        ("6120_2_4", 6, f"MULTIPOLYGON ({text['crops']})"),
        ("6120_2_3", 6, f"MULTIPOLYGON ({text['crops']})"),
    ]
    path = dstl_folder(tmp_path, shared, table)
    grid = MapGrid(crs=None, transform=Affine.identity(), shape=(rows, cols))
    got = open_dstl(path, Path("6120_2_4.tif"), grid, legend=None, remap=None).codes(Window.whole(grid.shape))
    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    x, y = col * x_max / (cols * cols / (cols + 1)), row * y_min / (rows * rows / (rows + 1))
    np.testing.assert_array_equal(got, brute([(1, house), (5, tree), (6, crops)], x, y))
    assert set(np.unique(got)) == {0, 1, 5, 6}
    five = open_dstl(path, Path("6120_2_4.tif"), grid, legend=None, remap="sar5")
    np.testing.assert_array_equal(five.codes(Window.whole(grid.shape)), np.array([0, 5, 0, 0, 0, 4, 2], np.uint8)[got])
    assert five.legend.names[4] == "built-up"
    with pytest.raises(UsageError, match="holds no id"):
        open_dstl(path, Path("image.tif"), grid, legend=None, remap=None)
    with pytest.raises(InputError, match="no row for image 6120_2_2"):
        open_dstl(path, Path("6120_2_2.tif"), grid, legend=None, remap=None).codes(Window.whole(grid.shape))


def test_the_real_rows_of_dstl_cover_the_image(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "dstl"
    image = tmp_path / "6120_2_4.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(image, "w", driver="GTiff", count=3, height=40, width=30, dtype="uint16"),
    ):
        pass
    made = make_labels(folder / "sample_submission_first20.csv", image, tmp_path / "o.tif", LabelOptions())
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(made) as file:
        got = file.read(1)
        assert file.tags()["label_kind"] == "dstl"
    # the dummy polygons of all classes end at 0.009188 and -0.00904 (Xmax 0.00918, Ymin -0.00904); of equal ones the later row is on top
    want = np.zeros((40, 30), np.uint8)
    want[:39, :29] = 10  # 30 * 30 / 31 * 0.009188 / 0.00918 = 29.06 columns, 40 * 40 / 41 = 39.02 rows
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "text", ["POINT (1 2)", "POLYGON ((0 0, 1 1", "POLYGON ((0 0, 1 x, 2 2))", "MULTIPOLYGON ((0 0, 1 1, 2 0))", "", "POLYGON ()"]
)
def test_damaged_wkt_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        wkt_rings(text, "here")
