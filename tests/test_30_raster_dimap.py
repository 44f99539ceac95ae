"""BEAM-DIMAP without Java: SNAP's own products against its GeoTIFF and the annotation they came from; damaged headers.

What a map-projected one is as a product stands in test_40_product_described.py.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from scipy.interpolate import RegularGridInterpolator

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.raster.archive import Member
from sarseg.raster.dimap import Dimap, DimapTiePoints, TiePoints, embedded_header, open_bands, parse_dimap, read_tie_points

GRIDS = ("latitude", "longitude", "incident_angle", "elevation_angle", "slant_range_time")
LINE, PIXEL = 7900, 21950  # first line and sample of radar.dim in the image (data/snap_reference/graphs/radar.xml)


@pytest.fixture
def products(shared, tmp_path) -> Path:
    """A copy that may be damaged."""
    folder = tmp_path / "products"
    shutil.copytree(shared / "data/snap_reference/products", folder, copy_function=shutil.copyfile)
    for one in (folder, *folder.rglob("*")):
        one.chmod(0o755 if one.is_dir() else 0o644)
    return folder


def member(path: Path) -> Member:
    return Member(root=path.parent, name=path.name, size_bytes=path.stat().st_size)


def header_of(path: Path) -> Dimap:
    return parse_dimap(path.read_bytes(), path)


def image_grid(header: Dimap) -> MapGrid:
    return MapGrid(crs=None, transform=Affine.identity(), shape=header.shape)


def test_a_map_equals_snaps_geotiff_in_every_pixel(products):
    path = products / "map.dim"
    header = header_of(path)
    assert header.grid is not None
    with rasterio.open(products / "map.tif") as file:
        assert header.grid.crs == file.crs == CRS.from_epsg(32633)
        assert header.grid.transform == file.transform == Affine(10, 0, 292_065, 0, -10, 4_653_165)
        assert header.grid.shape == header.shape == file.shape == (207, 214)
        want = file.read()
    bands = open_bands(header, header.grid, member(path))
    assert set(bands) == {"Sigma0_VV", "localIncidenceAngle", "elevation"}
    order = [band.name for band in parse_dimap(embedded_header(products / "map.tif"), "map.tif").bands]
    for name, values in zip(order, want, strict=True):
        np.testing.assert_array_equal(bands[name].read()[0], values)
    assert header.tie_points == ()
    assert [(band.unit, band.nodata) for band in header.bands if band.name == "Sigma0_VV"] == [("intensity", 0.0)]


def test_an_image_in_radar_geometry_is_read(products, shared):
    path = products / "radar.dim"
    header = header_of(path)
    assert header.grid is None
    assert header.shape == (120, 160)
    assert header.metadata["MISSION"] == "SENTINEL-1B"
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(shared / "data/snap_reference/speckle/input.tif") as file:
        want = file.read(1)[:120, 100:260]  # its window starts at line 7900, sample 21850
    (band,) = open_bands(header, image_grid(header), member(path)).values()
    np.testing.assert_array_equal(band.read()[0], want)


def annotation(shared: Path) -> dict[str, RegularGridInterpolator]:
    """The annotation's grid of points over (line, pixel), put on the equal steps that SNAP's reader makes of it."""
    (path,) = (shared / "data/s1_grd_rome").glob("*.SAFE/annotation/*-vv-*.xml")
    root = ElementTree.parse(path).getroot()
    lines, pixels = (int(root.findtext(f".//numberOf{what}")) for what in ("Lines", "Samples"))
    points = root.findall(".//geolocationGridPoint")
    found = {}
    tags = ("latitude", "longitude", "incidenceAngle", "elevationAngle", "slantRangeTime")
    for name, tag in zip(GRIDS, tags, strict=True):
        ticks = [np.unique([float(point.findtext(axis)) for point in points]) for axis in ("line", "pixel")]
        table = np.array([float(point.findtext(tag)) for point in points]).reshape(len(ticks[0]), len(ticks[1]))
        given = RegularGridInterpolator(ticks, table, bounds_error=False, fill_value=None)
        even = [np.arange(len(one)) * size / (len(one) - 1) for one, size in zip(ticks, (lines, pixels), strict=True)]
        values = given(np.stack(np.meshgrid(*even, indexing="ij"), axis=-1))
        found[name] = RegularGridInterpolator(even, values)
    return found


def test_tie_points_say_what_the_annotation_says(products, shared):
    path = products / "radar.dim"
    grids = read_tie_points(header_of(path), member(path))
    assert tuple(grids) == GRIDS
    line, pixel = np.mgrid[0:120:7, 0:160:9].astype(float)
    for name, want in annotation(shared).items():
        values = want(np.stack([line + LINE, pixel + PIXEL], axis=-1)) * (1e9 if name == "slant_range_time" else 1.0)
        np.testing.assert_allclose(grids[name].at(line, pixel), values, rtol=2e-7, atol=0)
        assert grids[name].grid.shape == grids[name].values.shape == (3, 3)
        assert grids[name].grid.step == (16705 / 9, 26102 / 20)
        assert grids[name].grid.unit == ("ns" if name == "slant_range_time" else "deg")


def test_longitudes_are_interpolated_across_the_date_line():
    place = DimapTiePoints(name="longitude", unit="deg", header="", shape=(2, 3), first=(0.0, 0.0), step=(10.0, 10.0), cyclic=True)
    grid = TiePoints(grid=place, values=np.array([[179.0, -179.0, -177.0], [179.5, -178.5, -176.5]], "f4"))
    pixel = np.array([0.0, 2.5, 7.5, 15.0, 25.0])
    np.testing.assert_allclose(grid.at(np.zeros(5), pixel), [179.0, 179.5, -179.5, -178.0, -176.0])
    np.testing.assert_allclose(grid.at(np.full(5, 5.0), pixel), [179.25, 179.75, -179.25, -177.75, -175.75])


def test_tie_points_of_one_row_are_constant_along_it():
    place = DimapTiePoints(name="x", unit="", header="", shape=(1, 2), first=(-1.0, 0.0), step=(1.0, 4.0), cyclic=False)
    grid = TiePoints(grid=place, values=np.array([[1.0, 3.0]], "f4"))
    np.testing.assert_allclose(grid.at(np.array([0.0, 50.0]), np.array([1.0, 2.0])), [1.5, 2.0])


def test_products_inside_of_an_archive(products):
    archive = products / "p.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for one in sorted(products.rglob("radar.*/**/*")):
            if one.is_file():
                file.write(one, f"x/{one.relative_to(products)}")
        file.write(products / "radar.dim", "x/radar.dim")
    with zipfile.ZipFile(archive) as file:
        members = [Member(root=archive, name=one.filename, size_bytes=one.file_size, kind="/vsizip/") for one in file.infolist()]
    (dim,) = (one for one in members if one.name.endswith(".dim"))
    header = parse_dimap(dim.read(1 << 26), dim.place)
    plain = products / "radar.dim"
    for name, grid in read_tie_points(header, dim, members).items():
        np.testing.assert_array_equal(grid.values, read_tie_points(header_of(plain), member(plain))[name].values)
    (band,) = open_bands(header, image_grid(header), dim, members).values()
    (want,) = open_bands(header, image_grid(header), member(plain)).values()
    np.testing.assert_array_equal(band.read(), want.read())


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("radar.dim", "<STEP_X>1305.1", "<STEP_X>0", "has no place"),
        ("radar.dim", "<STEP_Y>1856.111111111111", "<STEP_Y>-1", "has no place"),
        ("radar.dim", "<OFFSET_X>-1067.9000000000015", "<OFFSET_X>inf", "has no place"),
        ("radar.dim", "<OFFSET_Y>-475.05555555555566", "<OFFSET_Y>", "has no place"),
        ("radar.dim", "<OFFSET_Y>-475.05555555555566", "<OFFSET_Y>x", "no number"),
        ("radar.dim", "<NCOLS>3<", "<NCOLS>-3<", "no number of pixels"),
        ("radar.dim", "<NROWS>3<", "<NROWS>4<", "lines is 3 where the product's header says 4"),
        ("radar.dim", "tie_point_grids/latitude", "../../latitude", "outside of the product"),
        ("radar.dim", "tie_point_grids/latitude", "tie_point_grids/gone", r"gone\.hdr is missing"),
        ("radar.data/tie_point_grids/latitude.hdr", "data type = 4", "data type = 5", "data type is 5"),
        ("radar.data/tie_point_grids/latitude.hdr", "samples = 3", "samples = 30000", "samples is 30000"),
        ("map.dim", "<NO_DATA_VALUE>0.0", "<NO_DATA_VALUE>none", "no number"),
        ("map.dim", "<LOG10_SCALED>false", "<LOG10_SCALED>true", "stored as a logarithm"),
        ("map.dim", "<BAND_NAME>Sigma0_VV<", "<BAND_NAME><", "band ''"),
        ("map.dim", "-10.0,292065.0", "-10.0,0.0,292065.0", "georeference is damaged"),
        ("map.dim", '<?xml version="1.0"', '<!DOCTYPE x [<!ENTITY a "b">]><?xml version="1.0"', "damaged XML"),
    ],
)
def test_damaged_headers_are_refused(products, file, old, new, message):
    text = (products / file).read_text("latin-1")
    assert old in text
    (products / file).write_text(text.replace(old, new), "latin-1")
    path = products / f"{file.partition('.')[0]}.dim"
    with pytest.raises(InputError, match=message):
        header = header_of(path)
        read_tie_points(header, member(path))
        open_bands(header, header.grid or image_grid(header), member(path))


def test_entities_are_not_expanded(products):
    bomb = "".join(f'<!ENTITY e{at} "{f"&e{at - 1};" * 10}">' for at in range(1, 10))
    text = (products / "map.dim").read_text("latin-1")
    text = re.sub(r"<\?xml[^>]*>", f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "ha">{bomb}]>', text)
    text = text.replace("<DATASET_NAME>map<", "<DATASET_NAME>&e9;<")
    (products / "map.dim").write_text(text, "latin-1")
    with pytest.raises(InputError, match="damaged XML"):
        header_of(products / "map.dim")


def test_a_cut_tie_point_grid_is_refused(products):
    image = products / "radar.data/tie_point_grids/longitude.img"
    image.write_bytes(image.read_bytes()[:-1])
    with pytest.raises(InputError, match="35 bytes where its header asks for 36"):
        read_tie_points(header_of(products / "radar.dim"), member(products / "radar.dim"))


def test_headers_damaged_at_random_are_errors_of_ours_or_read(products):
    rng = np.random.default_rng(5)
    content = (products / "radar.dim").read_bytes()
    refused = 0
    for at in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, 9000, 6):
            damaged[place] = int(rng.integers(32, 127))
        if at % 5 == 0:
            del damaged[int(rng.integers(1, len(content))) :]
        path = products / "radar.dim"
        path.write_bytes(damaged)
        try:
            header = header_of(path)
            read_tie_points(header, member(path))
            for band in open_bands(header, image_grid(header), member(path)).values():
                band.read()
        except InputError:
            refused += 1
    assert refused > 30
