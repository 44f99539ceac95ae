"""`sarseg compare`: known shifts and differences, brute force, other grids, masks, refusals, and SNAP's own products."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from PIL import Image
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from scipy.ndimage import gaussian_filter, map_coordinates
from snap_replay import SnapDem, snap_bilinear, snap_calibrate, snap_view

from sarseg.assess import compare_pair
from sarseg.assess.compare import CompareOptions, compare
from sarseg.assess.compare_report import describe, text, write
from sarseg.assess.compare_shift import TILE_PX
from sarseg.cli.compare import command
from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.product.model import Product
from sarseg.product.open import open_product
from sarseg.scene.open import open_scene
from sarseg.tiles import BLOCK, Window

UTM = CRS.from_epsg(32633)
ORIGIN = Affine(10.0, 0, 300_000.0, 0, -10.0, 4_650_000.0)
SIDE = "bands: [{bands}]\nquantity: {quantity}\nscale: {scale}\n"


def raster(path: Path, bands: np.ndarray, transform: Affine = ORIGIN, crs: CRS | None = UTM, **more: object) -> Path:
    bands = np.atleast_3d(bands.T).T
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", transform=transform, crs=crs, **profile, **more) as file:
        file.write(bands)
    return path


def backscatter(path: Path, power: np.ndarray, *, names: str = "VV", quantity: str = "sigma0", transform: Affine = ORIGIN) -> Path:
    """A raster of float32 power with its side file."""
    path.with_suffix(".sarseg.yaml").write_text(SIDE.format(bands=names, quantity=quantity, scale="power"))
    return raster(path, power.astype("f4"), transform)


def folder(path: Path, power: np.ndarray, mask: np.ndarray, incidence: np.ndarray, computed: list[int]) -> Path:
    """A product folder of ours."""
    path.mkdir()
    raster(path / "VV.tif", np.where(mask & 81, np.nan, power).astype("f4"), nodata=np.nan)
    raster(path / "mask.tif", mask.astype("u1"))
    raster(path / "incidence.tif", incidence.astype("f4"), nodata=np.nan)
    properties = {"sarseg:quantity": "gamma0", "sarseg:mask_computed": computed, "datetime": "2021-12-23T05:11:22Z"}
    (path / "item.json").write_text(json.dumps({"id": path.name, "properties": properties, "assets": {}}))
    return path


def speckled(rng: np.random.Generator, side: int) -> np.ndarray:
    """Four looks of band-limited speckle over a landscape of two levels, on twice as many pixels: nothing is aliased there."""
    spectrum = np.abs(np.fft.fftfreq(side)) < 0.2
    looks = (np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side, 2)) @ [1, 1j]) * np.outer(spectrum, spectrum)) for _ in range(4))
    power = sum(np.abs(one) ** 2 for one in looks)
    levels = np.where(gaussian_filter(rng.normal(size=(side, side)), 24) > 0, 0.3, 0.05)
    return power / power.mean() * gaussian_filter(levels, 2)


def moved(image: np.ndarray, row_px: float, col_px: float) -> np.ndarray:
    """The image of every second pixel of a fine one whose content was moved by so many (coarse) pixels, exactly (Fourier)."""
    row, col = (np.fft.fftfreq(side) for side in image.shape)
    turned = np.fft.fft2(image) * np.exp(-2j * np.pi * 2 * (row[:, None] * row_px + col * col_px))
    return np.maximum(np.fft.ifft2(turned).real, 1e-6)[32:-32:2, 32:-32:2]


@pytest.fixture(scope="module")
def fine() -> np.ndarray:
    return speckled(np.random.default_rng(11), 2 * 544)


@pytest.mark.parametrize(("row_px", "col_px"), [(0.1, -0.1), (-0.3, 0.5), (0.0, 0.77), (1.4, -2.25), (3.0, 2.9)])
@pytest.mark.parametrize("how", ["exact", "other speckle too", "bilinear"])
def test_known_shifts_are_found(tmp_path, fine, row_px, col_px, how):
    """0.05 pixel asked for, of a speckled image."""
    rng = np.random.default_rng(5)
    b = moved(fine, row_px, col_px)
    if how == "other speckle too":
        b = b * rng.gamma(6, 1 / 6, b.shape)
    if how == "bilinear":
        a = moved(fine, 0, 0)
        row, col = np.mgrid[: a.shape[0], : a.shape[1]]
        b = map_coordinates(a, [row - row_px, col - col_px], order=1, mode="nearest")
    shift = compare(backscatter(tmp_path / "a.tif", moved(fine, 0, 0)), backscatter(tmp_path / "b.tif", b)).shift
    assert shift is not None
    assert abs(shift.row_px - row_px) < 0.05
    assert abs(shift.col_px - col_px) < 0.05
    assert shift.tiles == 9


def test_a_shift_in_metres_goes_east_and_north(tmp_path, fine):
    found = compare(backscatter(tmp_path / "a.tif", moved(fine, 0, 0)), backscatter(tmp_path / "b.tif", moved(fine, 1.0, 2.0)))
    assert found.shift_m == pytest.approx((20.0, -10.0), abs=0.5)
    # a georeference that is moved likewise takes the shift away: B lies on the same lattice, one row below and two columns right
    transform = ORIGIN @ Affine.translation(-2, -1)
    b = backscatter(tmp_path / "c.tif", moved(fine, 1.0, 2.0), transform=transform)
    found = compare(tmp_path / "a.tif", b)
    assert found.shift_m == pytest.approx((0.0, 0.0), abs=0.5)
    assert (found.pair.offset, found.pair.window.shape) == ((1, 2), (511, 510))
    assert found.bands[0].all.describe(0)["rms_db"] < 0.01


def test_a_small_scene_with_empty_corners_has_a_shift(tmp_path, fine):
    """A scene lies askew on its map: of 271 x 271 pixels a diamond holds data."""
    row, col = np.indices((271, 271)) - 135
    here = np.abs(row) + np.abs(col) < 150
    a, b = (np.where(here, moved(fine, *by)[:271, :271], np.nan) for by in ((0.0, 0.0), (0.4, -1.2)))
    assert 0.5 < here.mean() < 0.7
    found = compare(backscatter(tmp_path / "a.tif", a), backscatter(tmp_path / "b.tif", b))
    assert (found.shift.row_px, found.shift.col_px) == pytest.approx((0.4, -1.2), abs=0.05)


def test_unrelated_images_have_no_shift(tmp_path):
    rng = np.random.default_rng(3)
    a, b = (backscatter(tmp_path / name, rng.gamma(4, 0.05, (300, 300))) for name in ("a.tif", "b.tif"))
    found = compare(a, b)
    assert found.shift is None
    assert any("no shift found" in note for note in found.notes)
    small = [backscatter(tmp_path / f"small {path.name}", rng.gamma(4, 0.05, (20, 400))) for path in (a, b)]
    assert compare(*small).shift is None


def test_differences_equal_numpy(tmp_path, monkeypatch):
    """Bias, rms, percentiles, power ratio and counts of all pixels, classes and incidence bins, over several blocks."""
    rng = np.random.default_rng(8)
    shape = (310, 270)
    a, b = (rng.gamma(2, 0.05, shape).astype("f4") for _ in range(2))
    for one in (a, b):
        one[rng.random(shape) < 0.1] = -1e-3  # below the noise
        one[rng.random(shape) < 0.05] = np.nan
    mask = np.where(np.isnan(a), 1, 0), np.where(np.isnan(b), 1, 0)
    angle = rng.uniform(21, 49, shape).astype("f4")
    first, second = (folder(tmp_path / name, one, bits, angle, [1]) for name, one, bits in (("first", a, mask[0]), ("second", b, mask[1])))
    codes = rng.integers(0, 4, shape).astype("u1")
    with rasterio.open(raster(tmp_path / "classes.tif", codes), "r+") as file:
        file.update_tags(class_1="water", class_2="wood", class_3="town")
    monkeypatch.setattr(compare_pair, "BLOCK", 96)
    found = compare(first, second, CompareOptions(classes=tmp_path / "classes.tif", incidence_step_deg=10.0))
    said = describe(found)
    vv = said["bands"]["VV"]
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = 10 * np.log10(b.astype("f8") / a)
    both, usable = np.isfinite(a + b), (a > 1e-5) & (b > 1e-5)

    def check(part: dict, where: np.ndarray) -> None:
        one, near = difference[usable & where], both & where
        assert (part["pixels"], part["pixels_below_floor"]) == (one.size, (near & ~usable).sum())
        assert part["bias_db"] == pytest.approx(one.mean(), abs=1e-9)
        assert part["rms_db"] == pytest.approx(np.sqrt((one**2).mean()), rel=1e-9)
        assert part["std_db"] == pytest.approx(one.std(), rel=1e-9)
        assert (part["least_db"], part["most_db"]) == pytest.approx((one.min(), one.max()), rel=1e-9)
        assert part["power_ratio_db"] == pytest.approx(10 * np.log10(b[near].mean(dtype="f8") / a[near].mean(dtype="f8")), abs=1e-6)
        for percent in (1, 5, 25, 50, 75, 95, 99):
            want = np.percentile(one, percent, method="inverted_cdf")
            assert part[f"p{percent}_db"] == pytest.approx(want, rel=0.0051)

    check(vv, np.ones(shape, bool))
    for code, name in ((1, "water"), (2, "wood"), (3, "town")):
        check(vv["classes"][name], codes == code)
    assert [(part["from_deg"], part["to_deg"]) for part in vv["incidence"]] == [(20, 30), (30, 40), (40, 50)]
    for part in vv["incidence"]:
        check(part, (angle >= part["from_deg"]) & (angle < part["to_deg"]))
    assert said["bands"]["incidence"]["rms_deg"] == 0.0
    assert said["valid_share"] == {
        "a": np.isfinite(a).mean(), "b": np.isfinite(b).mean(), "both": both.mean()
    }  # fmt: skip
    np.testing.assert_allclose(found.picture, np.where(usable, difference, np.nan), rtol=1e-5)
    assert found.bands[0].scatter is not None
    assert found.bands[0].scatter.sum() == usable.sum()


def test_masks_are_compared_bit_by_bit(tmp_path):
    rng = np.random.default_rng(4)
    shape, power = (90, 80), np.full((90, 80), 0.1)
    a, b = (sum(bit * (rng.random(shape) < 0.3) for bit in (1, 2, 4, 32)) for _ in range(2))
    angle = np.full(shape, 40.0)
    found = compare(folder(tmp_path / "a", power, a, angle, [1, 2, 4, 32]), folder(tmp_path / "b", power, b, angle, [1, 2, 4]))
    said = describe(found)["mask"]
    for bit in (1, 2, 4, 32):
        mine, theirs = a & bit > 0, b & bit > 0
        assert (said[str(bit)]["a_only"], said[str(bit)]["b_only"], said[str(bit)]["both"]) == (
            (mine & ~theirs).sum(), (theirs & ~mine).sum(), (mine & theirs).sum(),
        )  # fmt: skip
        iou = (mine & theirs).sum() / (mine | theirs).sum()
        assert said[str(bit)]["iou"] == (None if bit == 32 else pytest.approx(iou))
    assert said["32"]["decided_by"] == ["a"]
    assert "not in B" in text(found)
    assert said["16"]["decided_by"] == []
    assert "area floor" not in text(found)


def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth landscape of power by map coordinates of UTM 33."""
    return 0.1 * np.exp(np.sin(x / 310.0) + np.cos(y / 270.0) + 0.3 * np.sin((x + y) / 97.0))


@pytest.mark.parametrize(
    ("code", "transform", "shape", "samples", "rms_db"),
    [
        (32633, Affine(10, 0, 300_403, 0, -10, 4_649_304), (90, 110), 1, 0.05),
        (32633, Affine(4, 0, 300_403, 0, -4, 4_649_304), (300, 320), 2, 0.03),
        (4326, Affine(5e-5, 0, 12.595, 0, -5e-5, 41.97), (500, 450), 2, 0.03),
    ],
)
def test_another_grid_is_brought_to_as(tmp_path, monkeypatch, code, transform, shape, samples, rms_db):
    monkeypatch.setattr(compare_pair, "BLOCK", 128)
    col, row = np.meshgrid(np.arange(300) + 0.5, np.arange(310) + 0.5)
    a = backscatter(tmp_path / "a.tif", wave(*(ORIGIN @ (col, row))))
    col, row = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = Transformer.from_crs(code, 32633, always_xy=True).transform(*(transform @ (col, row)))
    power = wave(x, y)
    power[20:30, 20:30] = np.nan
    b = raster(tmp_path / "b.tif", power.astype("f4"), transform, CRS.from_epsg(code), nodata=np.nan)
    (tmp_path / "b.sarseg.yaml").write_text(SIDE.format(bands="VV", quantity="sigma0", scale="power"))
    found = compare(a, b)
    assert found.pair.offset is None
    assert found.pair.samples == samples
    assert ("mean of 2 x 2" in found.pair.resampling) == (samples == 2)
    said = found.bands[0].all.describe(0)
    assert said["pixels"] > 5000
    assert said["rms_db"] < rms_db
    assert abs(said["power_ratio_db"]) < rms_db
    left, bottom, right, top = MapGrid(crs=UTM, transform=ORIGIN, shape=(310, 300)).crop(found.pair.window).bounds
    inside = (x > left) & (x < right) & (y > bottom) & (y < top)
    area_px = np.count_nonzero(np.isfinite(power) & inside) * abs(np.linalg.det(_steps_m(x, y))) / 100.0
    assert found.valid[1] == pytest.approx(area_px, rel=0.06)  # a rim of one pixel is lost
    assert found.valid[1] < area_px
    assert found.masks[0].b_only > 0
    assert any("resampling smooths" in note for note in found.notes)


@pytest.mark.parametrize("code", [4326, 3031])
def test_a_map_of_the_world_beside_one_scene(tmp_path, code):
    """The bounds of half the world have no good answer in UTM: its pixels are asked instead."""
    a = backscatter(tmp_path / "a.tif", np.full((300, 300), 0.1), transform=Affine(1000, 0, 3e5, 0, -1000, 5e6))
    transform, shape = (Affine(1, 0, -180, 0, -1, 90), (180, 360)) if code == 4326 else (Affine(1e5, 0, -4e7, 0, -1e5, 4e7), (800, 800))
    b = raster(tmp_path / "b.tif", np.full(shape, 0.2, "f4"), transform, CRS.from_epsg(code))
    (tmp_path / "b.sarseg.yaml").write_text(SIDE.format(bands="VV", quantity="sigma0", scale="power"))
    found = compare(a, b)
    assert found.pair.window.shape == (300, 300)
    assert found.valid == (90_000, 90_000, 90_000)
    assert found.bands[0].all.describe(0)["bias_db"] == pytest.approx(10 * np.log10(2), abs=1e-6)
    assert compare(b, a).valid[2] >= 1


def _steps_m(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([[x[0, 1] - x[0, 0], x[1, 0] - x[0, 0]], [y[0, 1] - y[0, 0], y[1, 0] - y[0, 0]]])


def test_values_without_a_meaning_are_compared_as_they_stand(tmp_path):
    rng = np.random.default_rng(2)
    a = rng.normal(500, 30, (60, 70)).astype("f4")
    found = compare(raster(tmp_path / "a.tif", a), raster(tmp_path / "b.tif", a + 2.5))
    said = describe(found)["bands"]["b1"]
    assert (said["bias"], said["rms"], said["p50"]) == pytest.approx((2.5, 2.5, 2.5), rel=1e-4)
    assert found.bands[0].scatter is None
    assert "power ratio" not in text(found)
    write(found, tmp_path / "out.json")
    with pytest.warns(NotGeoreferencedWarning):
        images = raster(tmp_path / "c.tif", a, Affine.identity(), None), raster(tmp_path / "d.tif", a, Affine.identity(), None)
    found = compare(*images)  # images in radar geometry
    assert found.shift is not None
    assert found.shift_m is None
    assert (found.shift.row_px, found.shift.col_px) == pytest.approx((0, 0), abs=1e-3)


def test_what_cannot_be_compared_is_refused(tmp_path):
    power = np.full((40, 50), 0.1)
    a = backscatter(tmp_path / "a.tif", power)
    with pytest.raises(InputError, match="no overlap"):
        compare(a, backscatter(tmp_path / "far.tif", power, transform=ORIGIN @ Affine.translation(0, 40)))
    with pytest.raises(InputError, match="no overlap"):
        compare(a, backscatter(tmp_path / "far2.tif", power, transform=ORIGIN @ Affine.translation(50.5, 0)))
    with pytest.raises(InputError, match="no band in common: VV and VH"):
        compare(a, backscatter(tmp_path / "vh.tif", power, names="VH"))
    gamma = backscatter(tmp_path / "gamma.tif", power, quantity="gamma0")
    with pytest.raises(UsageError, match="A is sigma0 and B is gamma0"):
        compare(a, gamma)
    assert compare(a, gamma, CompareOptions(mixed=True)).notes[0] == "A is sigma0 and B is gamma0"
    with pytest.raises(UsageError, match=r"nothing says what the values of the other are .*side file raw\.tif\.sarseg\.yaml"):
        compare(a, raster(tmp_path / "raw.tif", power.astype("f4")))
    with pytest.warns(NotGeoreferencedWarning):
        images = [raster(tmp_path / f"{size}.tif", np.ones((size, 9), "f4"), Affine.identity(), None) for size in (8, 9)]
    with pytest.raises(InputError, match="images without georeference of 8 x 9 and 9 x 9 pixels"):
        compare(*images)
    with pytest.raises(InputError, match="no georeference"):
        compare(raster(tmp_path / "on map.tif", np.ones((8, 9), "f4")), images[0])
    with pytest.raises(InputError, match="no pixel has data in both"):
        compare(a, backscatter(tmp_path / "empty.tif", np.full((40, 50), np.nan)))
    with pytest.raises(UsageError, match="incidence bins of 0 degrees"):
        CompareOptions(incidence_step_deg=0)
    with pytest.raises(InputError, match="no such file"):
        compare(a, tmp_path / "absent.tif")
    turned = backscatter(tmp_path / "turned.tif", power, transform=ORIGIN @ Affine.rotation(3))
    assert compare(turned, turned).valid[2] == power.size
    with pytest.raises(InputError, match=r"rotated grid \[.*turned.tif\]: compare the other way round"):
        compare(turned, a)
    with pytest.raises(InputError, match=r"rotated grid \[.*turned.tif\]: bring one of them north up"):
        compare(turned, backscatter(tmp_path / "more.tif", power, transform=ORIGIN @ Affine.rotation(4)))


@pytest.mark.parametrize("transform", [ORIGIN @ Affine.translation(0, 60) @ Affine.scale(1, -1), ORIGIN @ Affine.rotation(7)])
def test_grids_from_south_to_north_and_rotated_ones_come_onto_as(tmp_path, transform):
    """A plane is what bilinear interpolation gives back exactly."""

    def plane(matrix):
        col, row = np.meshgrid(np.arange(70) + 0.5, np.arange(60) + 0.5)
        x, y = matrix.a * col + matrix.b * row + matrix.c, matrix.d * col + matrix.e * row + matrix.f
        return ((x - 300_000) / 1000 + (4_650_000 - y) / 500).astype("f4")

    a, b = raster(tmp_path / "a.tif", plane(ORIGIN)), raster(tmp_path / "b.tif", plane(transform), transform)
    for found in [compare(a, b), *([compare(b, a)] if transform.b == 0 else [])]:
        assert found.valid[2] > 2000
        assert found.bands[0].all.describe(0)["rms"] < 1e-6
        assert not any("dB" in note for note in found.notes)
        assert found.masks[0].b_only < 60 * 70 - 2000


def test_maps_of_classes_are_refused_with_the_way_out(tmp_path):
    codes, tags = np.array([[1, 2], [2, 2]], np.uint8), {"class_1": "water", "class_2": "wood"}
    for path in (tmp_path / "labels.tif", tmp_path / "map" / "landcover.tif"):
        path.parent.mkdir(exist_ok=True)
        with rasterio.open(raster(path, codes), "r+") as file:
            file.update_tags(**tags)
    power = raster(tmp_path / "a.tif", np.ones((2, 2), "f4"))
    for one in (tmp_path / "labels.tif", tmp_path / "map", tmp_path / "map" / "landcover.tif"):
        for pair in ((one, power), (power, one)):
            with pytest.raises(UsageError, match=rf"holds classes.* \[{one}\]: `sarseg assess {one} --truth FILE`"):
                compare(*pair)


def test_decibels_beside_power_are_noticed_where_nothing_says_what_they_are(tmp_path):
    power = np.random.default_rng(1).gamma(4, 0.03, (64, 64)).astype("f4")
    found = compare(raster(tmp_path / "a.tif", power), raster(tmp_path / "b.tif", 10 * np.log10(power)))
    assert [note for note in found.notes if "side file b.tif.sarseg.yaml" in note]
    found = compare(raster(tmp_path / "c.tif", power), raster(tmp_path / "d.tif", power * 2))
    assert not any("side file" in note for note in found.notes)


def test_percentiles_beyond_the_bins_are_not_made_up(tmp_path):
    a = np.zeros((20, 30), "f4")
    b = np.linspace(1e13, 5e18, a.size, dtype="f4").reshape(a.shape)
    found = compare(raster(tmp_path / "a.tif", a), raster(tmp_path / "b.tif", b))
    said = describe(found)["bands"]["b1"]
    assert said["bias"] == pytest.approx(float(b.astype("f8").mean()))
    assert said["p50"] is None
    write(found, tmp_path / "out.json")


def test_decibels_and_power_are_known_apart(tmp_path):
    power = np.random.default_rng(1).gamma(4, 0.03, (64, 64)).astype("f4")
    a = backscatter(tmp_path / "a.tif", power)
    b = raster(tmp_path / "b.tif", 10 * np.log10(power) + np.float32(0.5))
    b.with_suffix(".sarseg.yaml").write_text(SIDE.format(bands="VV", quantity="sigma0", scale="db"))
    said = compare(a, b).bands[0].all.describe(0)
    assert (said["bias_db"], said["std_db"]) == pytest.approx((0.5, 0.0), abs=1e-4)
    with_time = b.with_suffix(".sarseg.yaml")
    with_time.write_text(with_time.read_text() + "datetime: 2021-01-01\n")
    (tmp_path / "a.sarseg.yaml").write_text((tmp_path / "a.sarseg.yaml").read_text() + "datetime: 2021-01-13\n")
    assert any("what changed on the ground" in note for note in compare(a, b).notes)


def test_memory_is_that_of_windows(tmp_path, monkeypatch):
    """No window larger than a block, or than a tile for the shift, is read, whatever the size and the ratio of the grids."""
    seen: list[int] = []
    read = Product.read

    def spy(self: Product, window: Window, bands: object = None) -> np.ndarray:
        seen.append(window.size)
        return read(self, window, bands)

    monkeypatch.setattr(Product, "read", spy)
    power = np.random.default_rng(1).gamma(4, 0.03, (620, 780)).astype("f4")
    a = backscatter(tmp_path / "a.tif", power)
    b = backscatter(tmp_path / "b.tif", power[::3, ::3].copy(), transform=ORIGIN @ Affine.scale(3))
    compare(a, a)
    compare(a, b)
    compare(b, a)
    assert len(seen) > 40
    assert max(seen) <= max(BLOCK + 4, 3 * TILE_PX + 4) ** 2


def test_the_result_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    shape = (200, 210)
    rng = np.random.default_rng(1)
    power, angle = rng.gamma(4, 0.03, shape), np.linspace(30, 45, 200 * 210).reshape(shape)
    a = folder(tmp_path / "a", power, np.zeros(shape, int), angle, [1])
    b = folder(tmp_path / "b", power * rng.gamma(40, 1 / 40, shape), np.zeros(shape, int), angle, [1])
    found = compare(a, b)
    write(found, tmp_path / "out" / "c.json")
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["c.json", "c.png"]
    assert json.loads((tmp_path / "out/c.json").read_text())["bands"]["VV"]["pixels"] == power.size
    with Image.open(tmp_path / "out/c.png") as image:
        assert image.size == (768, 608)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20
    assert (tmp_path / "out/c.png").stat().st_size < 100_000
    with pytest.raises(UsageError, match="the picture comes beside it"):
        write(found, tmp_path / "c.png")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("sarseg.assess.compare_report.write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        write(found, tmp_path / "no" / "c.json")
    assert not list((tmp_path / "no").iterdir())


def test_the_command(tmp_path):
    power = np.random.default_rng(1).gamma(4, 0.03, (64, 64)).astype("f4")
    a, b = backscatter(tmp_path / "a.tif", power), backscatter(tmp_path / "b.tif", power * np.float32(1.1))
    result = CliRunner().invoke(command, [str(a), str(b), "-o", str(tmp_path / "c.json")])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].endswith("a.tif: sigma0, 64 x 64 pixels of 10 metre, EPSG:32633")
    assert "shift of B: +0.000 px right, +0.000 px down = +0.000 m east, +0.000 m north" in " ".join(lines).replace("-0.000", "+0.000")
    assert any(line.startswith("VV") and "0.41393" in line for line in lines)
    assert (tmp_path / "c.png").is_file()
    printed = CliRunner().invoke(command, [str(a), str(b), "--json"])
    assert json.loads(printed.stdout) == json.loads((tmp_path / "c.json").read_text())


def test_opening_the_command_loads_nothing_heavy():
    code = "import sarseg.cli.compare, sys; print([name for name in ('numba', 'scipy', 'matplotlib', 'rasterio') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_snaps_two_formats_of_one_product_are_equal(shared):
    products = shared / "data/snap_reference/products"
    found = compare(products / "map.dim", products / "map.tif")
    vv, angle = (band.all.describe(0) for band in found.bands)
    assert (vv["pixels"], vv["rms_db"], vv["p99_db"]) == (43153, 0.0, 0.0)
    assert angle["rms_deg"] == 0.0
    assert (found.masks[0].both, found.masks[0].iou) == (1145, 1.0)
    assert found.shift is not None
    assert (found.shift.row_px, found.shift.col_px) == pytest.approx((0, 0), abs=2e-3)


@pytest.mark.parametrize("name", ["nearest", "cubic"])
def test_snaps_resampling_methods_do_not_move_the_image(tmp_path, shared, name):
    folder_ = shared / "data/snap_reference/terrain_correction"
    paths = []
    for one in ("bilinear", name):
        with rasterio.open(folder_ / f"sigma0_{one}.tif") as file:
            power, transform = file.read(1), file.transform
        paths.append(backscatter(tmp_path / f"{one}.tif", np.where(power == 0, np.nan, power), transform=transform))
    found = compare(*paths)
    assert found.pair.offset == (-100, -100)
    assert found.shift is not None
    assert max(abs(found.shift.row_px), abs(found.shift.col_px)) < 0.05


def test_a_line_shift_of_the_radar_image_is_found_on_the_map(tmp_path, shared):
    """What leaving out a bistatic term of 0.3 lines (3 m) does: along the track, which runs at 190 degrees here."""
    data = shared / "data"
    (path,) = (data / "s1_grd_rome").glob("*.SAFE")
    scene = open_scene(path)
    with rasterio.open(data / "s1_grd_rome/Rome-30m-DEM.tif") as file:
        dem = SnapDem(heights_m=file.read(1).astype(float), transform=file.transform)
    grid = MapGrid(crs=UTM, transform=Affine(10, 0, 291_000, 0, -10, 4_654_500), shape=(400, 400))
    window = Window(row=7440, col=21600, rows=1280, cols=1070)
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(data / "snap_reference/inputs/dn_window.tif") as file:
        sigma0 = snap_calibrate(file.read(1), scene.calibration["VV"].amplitude("sigma0", window), None)
    view = snap_view(scene, dem, grid)
    a, b = (
        backscatter(tmp_path / name, np.where(power == 0, np.nan, power), transform=grid.transform)
        for name, power in (
            (f"{shift}.tif", snap_bilinear(sigma0, view.line - window.row + shift, view.pixel - window.col)) for shift in (0.0, 0.3)
        )
    )
    found = compare(a, b)
    assert found.shift_m is not None
    east, north = found.shift_m  # later lines lie south: what they show comes to lie further north
    assert np.hypot(east, north) == pytest.approx(3.0, abs=0.4)
    assert np.degrees(np.arctan2(east, north)) == pytest.approx(10.0, abs=6.0)


def test_a_product_can_be_given_opened(tmp_path):
    a = backscatter(tmp_path / "a.tif", np.full((40, 50), 0.1))
    product = open_product(a)
    item = {"properties": {**product.item["properties"], "sarseg:quantity": None}}
    found = compare(product, replace(product, item=item))
    assert found.notes[0] == "B does not say whether it is sigma0 or gamma0"


def test_elements_of_a_matrix_with_a_sign_have_no_decibels(shared):
    path = shared / "data/flevoland_airsar/T3.tif"
    units = {band.name: band.all.unit for band in compare(path, path).bands}
    assert {name: unit for name, unit in units.items() if unit == "dB"}.keys() == {"T11", "T22", "T33"}
    assert units["T12_imag"] == ""
