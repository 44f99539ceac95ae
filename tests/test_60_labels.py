"""Labels on a product's grid, against brute force with exact fractions and against pyproj."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.labels.options import LabelOptions
from sarseg.labels.resample import choose_rule, make_labels, on_grid
from sarseg.labels.sources import LabelSource, Remap, open_labels
from sarseg.legend import LandClass, Legend
from sarseg.raster.read import close_handles, open_raster
from sarseg.tiles import Window

UTM33 = CRS.from_epsg(32633)
LEGEND = Legend(
    (
        LandClass(code=3, name="forest", color=(0, 100, 0)),
        LandClass(code=7, name="water", color=(0, 0, 200)),
        LandClass(code=20, name="town", color=(250, 0, 0)),
    )
)


def write(path: Path, data: NDArray[np.generic], grid: MapGrid, tags: dict[str, str] | None = None, nodata: float | None = None) -> Path:
    bands = data if data.ndim == 3 else data[np.newaxis]
    profile = {"driver": "GTiff", "count": len(bands), "height": grid.shape[0], "width": grid.shape[1], "dtype": bands.dtype.name}
    with rasterio.open(path, "w", crs=grid.crs, transform=grid.transform, nodata=nodata, **profile) as file:
        file.write(bands)
        file.update_tags(**(tags or {}))
    return path


def grid_of(left: float, top: float, spacing: float, shape: tuple[int, int], crs: CRS = UTM33) -> MapGrid:
    return MapGrid(crs=crs, transform=Affine(spacing, 0, left, 0, -spacing, top), shape=shape)


def some_codes(seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.array([0, 3, 7, 20, 255], np.uint8), shape, p=[0.2, 0.3, 0.2, 0.1, 0.2])


def brute_majority(codes: NDArray[np.uint8], source: MapGrid, target: MapGrid, size_t: Fraction) -> NDArray[np.uint8]:
    """Walk over all pairs of pixels with exact fractions of area; `size_t` is the target's spacing before it became a float."""
    out = np.zeros(target.shape, np.uint8)
    left, top, size = (Fraction(value) for value in (source.transform.c, source.transform.f, source.transform.a))
    left_t, top_t = Fraction(target.transform.c), Fraction(target.transform.f)
    for place in np.ndindex(*target.shape):
        x0, y0 = left_t + place[1] * size_t, top_t - place[0] * size_t
        areas: dict[int, Fraction] = {}
        for (row, col), code in np.ndenumerate(codes):
            wide = min(left + (col + 1) * size, x0 + size_t) - max(left + col * size, x0)
            high = min(top - row * size, y0) - max(top - (row + 1) * size, y0 - size_t)
            if wide > 0 and high > 0:
                areas[int(code)] = areas.get(int(code), Fraction(0)) + wide * high
        classes = {code: area for code, area in areas.items() if code not in (0, 255)}
        if classes:
            winners = [code for code, area in classes.items() if area == max(classes.values())]
            out[place] = winners[0] if len(winners) == 1 else 255
        elif 255 in areas:
            out[place] = 255
    return out


@given(
    rows=st.integers(1, 13),
    cols=st.integers(1, 13),
    out_rows=st.integers(1, 5),
    out_cols=st.integers(1, 5),
    ratio=st.sampled_from([Fraction(2), Fraction(3), Fraction(5, 2), Fraction(10), Fraction(11, 10)]),
    shift=st.tuples(st.integers(-7, 7), st.integers(-7, 7)),
)
@limits(max_examples=50)
def test_majority_equals_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    cols: int,
    out_rows: int,
    out_cols: int,
    ratio: Fraction,
    shift: tuple[int, int],
) -> None:
    source = grid_of(600_000, 5_000_000, 8.0, (rows, cols))
    target = grid_of(600_000 + 4.0 * shift[0], 5_000_000 + 4.0 * shift[1], float(8 * ratio), (out_rows, out_cols))
    codes = some_codes(rows * 31 + cols, source.shape)
    path = write(tmp_path_factory.mktemp("m") / "a.tif", codes, source)
    labels = open_labels(path, LEGEND)
    assert choose_rule(source, target) == "majority"
    got = on_grid(labels, target, Window.whole(target.shape), "majority")
    np.testing.assert_array_equal(got, brute_majority(codes, source, target, 8 * ratio))
    close_handles()


def test_nearest_equals_a_walk_over_pixels_in_another_crs(tmp_path: Path) -> None:
    source = MapGrid(crs=CRS.from_epsg(4326), transform=Affine(0.0013, 0, 14.99, 0, -0.0011, 45.11), shape=(83, 71))
    target = grid_of(499_000, 4_996_000, 60.0, (117, 93))
    codes = some_codes(5, source.shape)
    labels = open_labels(write(tmp_path / "a.tif", codes, source), LEGEND)
    assert choose_rule(source, target) == "nearest"
    got = on_grid(labels, target, Window.whole(target.shape), "nearest")
    from pyproj import Transformer

    forward = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    want = np.zeros(target.shape, np.uint8)
    for row, col in np.ndindex(*target.shape):
        lon, lat = forward.transform(499_000 + (col + 0.5) * 60.0, 4_996_000 - (row + 0.5) * 60.0)
        at_row, at_col = int((45.11 - lat) // 0.0011), int((lon - 14.99) // 0.0013)
        if 0 <= at_row < 83 and 0 <= at_col < 71:
            want[row, col] = codes[at_row, at_col]
    np.testing.assert_array_equal(got, want)
    assert 0 < np.count_nonzero(want) < want.size


def test_coarser_labels_of_one_crs_go_by_the_nearest_pixel(tmp_path: Path) -> None:
    source, target = grid_of(600_000, 5_000_000, 30.0, (7, 5)), grid_of(600_000, 5_000_000, 10.0, (21, 15))
    codes = some_codes(1, source.shape)
    labels = open_labels(write(tmp_path / "a.tif", codes, source), LEGEND)
    assert choose_rule(source, target) == "nearest"
    got = on_grid(labels, target, Window.whole(target.shape), "nearest")
    np.testing.assert_array_equal(got, np.kron(codes, np.ones((3, 3), np.uint8)))


@pytest.mark.parametrize("ratio", [1.0, 2.5])
def test_file_is_the_same_for_any_block_and_carries_classes(tmp_path: Path, ratio: float) -> None:
    target = grid_of(600_000, 5_000_000, 20.0, (531, 1043))
    source = grid_of(600_000 - 100, 5_000_000 + 60, 20.0 / ratio, (int(540 * ratio), int(1050 * ratio)))
    codes = some_codes(2, source.shape)
    path = write(tmp_path / "a.tif", codes, source, LEGEND.tags())
    like = write(tmp_path / "like.tif", np.zeros(target.shape, np.uint8), target)
    made = make_labels(path, like, tmp_path / "new" / "labels.tif", legend=LEGEND)
    with rasterio.open(made) as file:
        got = file.read(1)
        assert file.crs == UTM33
        assert file.transform == target.transform
        assert file.nodata == 0
        assert file.colormap(1)[7] == (0, 0, 200, 255)
        assert file.tags()["class_20"] == "town"
        assert file.tags()["label_resampling"] == ("copy" if ratio == 1.0 else "majority")
    if ratio == 1.0:
        np.testing.assert_array_equal(got, codes[3 : 3 + 531, 5 : 5 + 1043])
    else:
        labels = open_labels(path)
        whole = on_grid(labels, target, Window.whole(target.shape), "majority")
        np.testing.assert_array_equal(got, whole)
        for window in (Window(row=0, col=0, rows=1, cols=1), Window(row=309, col=77, rows=200, cols=901)):
            np.testing.assert_array_equal(on_grid(labels, target, window, "majority"), got[window.slices])
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["labels.tif"]


def test_remap_brings_foreign_values_to_codes(tmp_path: Path) -> None:
    grid = grid_of(600_000, 5_000_000, 10.0, (2, 3))
    path = write(tmp_path / "a.tif", np.array([[-1, 0, 1], [1, 1, -1]], np.int16), grid, nodata=-1)
    table = tmp_path / "remap.yaml"
    table.write_text("-1: 255\n0: 1\n1: 2\n")
    made = make_labels(path, path, tmp_path / "out.tif", LabelOptions(remap=str(table)))
    np.testing.assert_array_equal(open_raster(made).read_codes(), [[255, 1, 2], [2, 2, 255]])
    assert open_raster(made).tags["class_2"] == "class_2"
    unnamed = Remap({0: 1, 1: 2})
    np.testing.assert_array_equal(open_labels(path, None, unnamed).codes(Window.whole((2, 3))), [[0, 1, 2], [2, 2, 0]])
    table.write_text("0: 1\n")
    with pytest.raises(InputError, match="value 1 is not in the remap table"):
        make_labels(path, path, tmp_path / "bad.tif", LabelOptions(remap=str(table)))
    assert not (tmp_path / "bad.tif").exists()
    np.testing.assert_array_equal(open_labels(path, None, Remap({1: 2}, default=9)).codes(Window.whole((2, 3))), [[0, 9, 2], [2, 2, 0]])


@pytest.mark.parametrize(
    ("text", "word"),
    [("1: two\n", "not two integers"), ("", "holds no values"), ("1: 256\n", r"256 .* not in 0\.\.255"), ("[", "cannot be read")],
)
def test_bad_remap_tables_are_refused(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=word):
        Remap.from_file(tmp_path / "r.yaml")


def test_trouble_is_told(tmp_path: Path) -> None:
    grid = grid_of(600_000, 5_000_000, 10.0, (4, 6))
    far = write(tmp_path / "far.tif", np.full((4, 6), 3, np.uint8), grid_of(700_000, 5_000_000, 10.0, (4, 6)), LEGEND.tags())
    like = write(tmp_path / "like.tif", np.zeros((4, 6), np.uint8), grid)
    with pytest.raises(InputError, match="no labelled pixel falls on the grid"):
        make_labels(far, like, tmp_path / "out.tif")
    with pytest.raises(InputError, match="names no classes"):
        make_labels(like, like, tmp_path / "out.tif")
    odd = write(tmp_path / "odd.tif", np.full((4, 6), 9, np.uint8), grid, LEGEND.tags())
    with pytest.raises(InputError, match="value 9 is no class"):
        make_labels(odd, like, tmp_path / "out.tif")
    wide = write(tmp_path / "wide.tif", np.full((4, 6), 259, np.int32), grid, LEGEND.tags())
    with pytest.raises(InputError, match="value 259 is no class"):
        make_labels(wide, like, tmp_path / "out.tif")
    floats = write(tmp_path / "floats.tif", np.ones((4, 6), np.float32), grid)
    with pytest.raises(InputError, match="one band of integers"):
        make_labels(floats, like, tmp_path / "out.tif", legend=LEGEND)
    plain = MapGrid(crs=None, transform=Affine.identity(), shape=(4, 6))
    with pytest.raises(InputError, match="one of labels and image has a georeference"):
        choose_rule(grid, plain)
    with pytest.raises(InputError, match="have 4 x 6 and 6 x 4 pixels"):
        choose_rule(plain, MapGrid(crs=None, transform=Affine.identity(), shape=(6, 4)))
    assert not (tmp_path / "out.tif").exists()


def test_rules(tmp_path: Path) -> None:
    base = grid_of(600_000, 5_000_000, 10.0, (4, 6))
    assert choose_rule(base, grid_of(600_050, 4_999_970, 10.0, (3, 3))) == "copy"
    assert choose_rule(base, grid_of(600_005, 5_000_000, 10.0, (3, 3))) == "nearest"
    assert choose_rule(base, grid_of(600_005, 5_000_000, 11.0, (3, 3))) == "majority"
    assert choose_rule(base, grid_of(600_005, 5_000_000, 20.0, (3, 3), CRS.from_epsg(32634))) == "majority"
    assert choose_rule(base, grid_of(600_005, 5_000_000, 9.0, (3, 3), CRS.from_epsg(32634))) == "nearest"
    codes = some_codes(0, (4, 6))
    labels = LabelSource(open_raster(write(tmp_path / "a.tif", codes, base)), LEGEND)
    shifted = on_grid(labels, grid_of(599_980, 5_000_010, 10.0, (9, 9)), Window.whole((9, 9)), "copy")
    np.testing.assert_array_equal(shifted[1:5, 2:8], codes)
    assert np.count_nonzero(shifted) == np.count_nonzero(codes)
