"""generate_train_data: what the script of that name got wrong, one test a fault; then PNG and GeoTIFF folders end to end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS

import sarseg.patches
from sarseg.errors import InputError, UsageError
from sarseg.legend import LandClass, Legend
from sarseg.patches import generate_train_data, open_dataset
from sarseg.patches.windows import TRAIN, leaks

UTM33 = CRS.from_epsg(32633)
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
LEGEND = Legend(
    (
        LandClass(code=2, name="red", color=(255, 0, 0)),
        LandClass(code=5, name="green", color=(0, 255, 0)),
        LandClass(code=9, name="blue", color=(0, 0, 255)),
    )
)
CODES = np.array([255, 2, 5, 9], np.uint8)  # black is nodata, so ignore in a mask


class Folder:
    """Images that can be told apart at every pixel, and masks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: dict[str, NDArray[np.generic]] = {}
        self.kinds: dict[str, NDArray[np.integer]] = {}
        for name in ("images", "masks"):
            (root / name).mkdir(parents=True)

    def png(self, name: str, shape: tuple[int, int], seed: int, suffix: str = ".png") -> None:
        rng = np.random.default_rng(seed)
        self.images[name] = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
        self.kinds[name] = rng.integers(0, 4, shape)
        Image.fromarray(np.moveaxis(self.images[name], 0, -1)).save(self.root / "images" / f"{name}{suffix}")
        Image.fromarray(COLORS[self.kinds[name]]).save(self.root / "masks" / f"{name}.png")

    def tiff(self, name: str, shape: tuple[int, int], seed: int, left: float, *, dtype: str = "uint16", bands: int = 4) -> None:
        rng = np.random.default_rng(seed)
        self.images[name] = rng.integers(1, 60_000, (bands, *shape)).astype(dtype)
        self.kinds[name] = rng.integers(1, 4, shape)
        transform = Affine(10, 0, left, 0, -10, 5_000_000)
        profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "crs": UTM33, "transform": transform}
        with rasterio.open(self.root / "images" / f"{name}.tif", "w", count=bands, dtype=dtype, nodata=0, **profile) as file:
            file.write(self.images[name])
            file.descriptions = ("blue", "green", "red", "nir")[:bands]
        with rasterio.open(self.root / "masks" / f"{name}.tif", "w", count=1, dtype="uint8", nodata=0, **profile) as file:
            file.write(self.kinds[name][np.newaxis].astype(np.uint8))
            file.update_tags(class_1="one", class_2="two", class_3="three")

    def run(self, count: int, size: int, **options: object) -> Path:
        return generate_train_data(count, size, self.root / "images", self.root / "masks", self.root / "dataset" / "train", **options)  # type: ignore[arg-type]

    def hashes(self) -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for part in ("images", "masks")
            for path in (self.root / part).iterdir()
        }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data")


def test_eight_png_pairs(folder: Folder) -> None:
    for at in range(8):
        folder.png(f"scene_{at}", (90 + 7 * at, 130 - 5 * at), at)
    before = folder.hashes()
    out = folder.run(100, 48, legend=LEGEND, seed=3)
    assert folder.hashes() == before  # sources are only read
    names = [f"{at:05d}.png" for at in range(1, 101)]
    for part in ("images", "masks"):
        assert sorted(path.name for path in (out / part).iterdir()) == names
    data = open_dataset(out)
    assert data.size == 48
    assert data.legend == LEGEND
    assert len(data.split("train")) + len(data.split("val")) == 100
    val = set(data.index["scene"][data.split("val")])
    assert len(val) == 2  # whole images, a fifth of eight
    assert not val & set(data.index["scene"][data.split("train")])
    for at in range(100):
        scene, row, col = data.index["scene"][at], int(data.index["row"][at]), int(data.index["col"][at])
        want = folder.images[scene][:, row : row + 48, col : col + 48]
        kinds = folder.kinds[scene][row : row + 48, col : col + 48]
        image, mask = data.read(at)
        np.testing.assert_array_equal(image, want)
        np.testing.assert_array_equal(mask, CODES[kinds])
        stored = np.asarray(Image.open(out / "images" / names[at]))
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(np.moveaxis(stored, -1, 0), want)  # red stays first
        np.testing.assert_array_equal(np.asarray(Image.open(out / "masks" / names[at])), CODES[kinds])
    assert len(set(data.index["scene"])) == 8
    train = np.concatenate([data.read(at)[0].reshape(3, -1) for at in data.split("train")], axis=1).astype(np.float64)
    np.testing.assert_allclose(data.statistics()[0], train.mean(1), rtol=1e-9)
    np.testing.assert_allclose(data.statistics()[1], train.std(1), rtol=1e-9)
    assert Legend.from_file(out / "legend.yaml") == LEGEND


def test_a_patch_of_another_kind_is_told_when_it_is_read(folder: Folder) -> None:
    for at in range(2):
        folder.png(f"scene_{at}", (90, 130), at)
    out = folder.run(9, 48, legend=LEGEND)
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(out / "images" / "00001.png")
    Image.fromarray(np.zeros((48, 47), np.uint8)).save(out / "masks" / "00002.png")
    data = open_dataset(out)
    for at in range(2):
        with pytest.raises(InputError, match="the patch has not the 3 bands and 48 x 48 pixels"):
            data.read(at)
    with pytest.raises(UsageError, match="the seed is 0 or more"):
        folder.run(9, 48, legend=LEGEND, seed=-1)


def test_eight_geotiff_pairs(folder: Folder) -> None:
    for at in range(8):
        folder.tiff(f"t{at}", (71 + at, 83), at, 600_000 + 100_000 * at)
    out = folder.run(60, 32)
    data = open_dataset(out)
    assert data.legend.names == ("one", "two", "three")
    assert [band.name for band in data.bands] == ["blue", "green", "red", "nir"]
    assert {band.scale for band in data.bands} == {"raw"}
    for at in range(60):
        scene, row, col = data.index["scene"][at], int(data.index["row"][at]), int(data.index["col"][at])
        with rasterio.open(out / "images" / f"{at + 1:05d}.tif") as image, rasterio.open(out / "masks" / f"{at + 1:05d}.tif") as mask:
            np.testing.assert_array_equal(image.read(), folder.images[scene][:, row : row + 32, col : col + 32])
            assert image.dtypes == ("uint16",) * 4
            assert image.descriptions == ("blue", "green", "red", "nir")
            assert image.nodata == 0
            left = 600_000 + 100_000 * int(scene[1:])
            for file in (image, mask):
                assert file.crs == UTM33
                assert file.transform == Affine(10, 0, left + 10 * col, 0, -10, 5_000_000 - 10 * row)
            np.testing.assert_array_equal(mask.read(1), folder.kinds[scene][row : row + 32, col : col + 32])
            assert mask.tags()["class_3"] == "three"
        assert data.index["crs"][at] == "EPSG:32633"
        assert data.index["x_min"][at] == left + 10 * col


def test_files_are_paired_by_name_not_by_order(folder: Folder) -> None:
    for at, name in enumerate("bcd"):
        folder.png(name, (40, 40), at)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder.root / "images" / "a.png")
    (folder.root / "masks" / "notes.txt").write_text("not an image")
    out = folder.run(9, 24, legend=LEGEND)
    data = open_dataset(out)
    assert set(data.index["scene"]) == {"b", "c", "d"}
    for at in range(9):
        scene, row, col = data.index["scene"][at], int(data.index["row"][at]), int(data.index["col"][at])
        np.testing.assert_array_equal(data.read(at)[1], CODES[folder.kinds[scene][row : row + 24, col : col + 24]])
    assert "1 images left out, without a partner: a" in data.info["warnings"]


def test_any_ending_is_read_and_nothing_is_an_error_not_a_crash(folder: Folder, tmp_path: Path) -> None:
    folder.png("x", (40, 50), 0, suffix=".PNG")
    folder.png("y", (40, 50), 1, suffix=".bmp")
    assert set(open_dataset(folder.run(8, 24, legend=LEGEND)).index["scene"]) == {"x", "y"}
    empty = Folder(tmp_path / "empty")
    with pytest.raises(InputError, match="no image in the folder"):
        empty.run(8, 24)
    with pytest.raises(InputError, match="no such folder"):
        generate_train_data(8, 24, tmp_path / "absent", tmp_path / "empty" / "masks", tmp_path / "out")
    empty.png("p", (30, 30), 0)
    (empty.root / "masks" / "p.png").rename(empty.root / "masks" / "q.png")
    with pytest.raises(InputError, match=r"no image and mask have the same name.*p.png, q.png"):
        empty.run(8, 24)
    assert not (empty.root / "dataset").exists()


@pytest.mark.parametrize("bands", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_dtype_and_bands_stay(folder: Folder, dtype: str, bands: int) -> None:
    """Four bands of uint8 too, whose fourth GDAL calls transparency."""
    folder.tiff("t", (64, 64), 1, 600_000, dtype=dtype, bands=bands)
    image = folder.images["t"]
    if image.dtype.kind == "f":
        image = folder.images["t"] = image + np.array(1 / 3, dtype)
        with rasterio.open(folder.root / "images" / "t.tif", "r+") as file:
            file.write(image)
    out = folder.run(5, 24, val_share=0)
    data = open_dataset(out)
    for at in range(5):
        row, col = int(data.index["row"][at]), int(data.index["col"][at])
        with rasterio.open(out / "images" / f"{at + 1:05d}.tif") as file:
            assert file.dtypes == (dtype,) * bands
            np.testing.assert_array_equal(file.read(), image[:, row : row + 24, col : col + 24])
        assert data.read(at)[0].shape == (bands, 24, 24)


def test_images_with_a_palette_are_warned_of(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.png("p", (64, 64), 1)
    folder.run(2, 24, val_share=0)
    assert "palette" not in caplog.text
    with Image.open(folder.root / "images" / "p.png") as image:
        image.quantize(32).save(folder.root / "images" / "p.png")
    folder.run(2, 24, val_share=0)
    assert "1 images hold numbers of a palette" in caplog.text


def test_scale_travels_with_the_patches(folder: Folder) -> None:
    folder.tiff("t", (40, 40), 1, 600_000, dtype="int16", bands=2)
    with rasterio.open(folder.root / "images" / "t.tif", "r+") as file:
        file.scales, file.offsets = (0.01, 0.02), (0.0, -3.0)
    data = open_dataset(folder.run(4, 24, val_share=0))
    row, col = int(data.index["row"][2]), int(data.index["col"][2])
    want = (
        folder.images["t"][:, row : row + 24, col : col + 24] * np.array([0.01, 0.02])[:, None, None] + np.array([0, -3.0])[:, None, None]
    )
    np.testing.assert_allclose(data.read(2)[0], want, rtol=1e-6, atol=1e-5)


def test_color_without_class_is_named_and_colors_make_a_legend(folder: Folder) -> None:
    folder.png("a", (40, 50), 0)
    short = Legend(LEGEND.classes[:2])
    with pytest.raises(InputError, match=r"colour \(0, 0, 255\) is not in the legend"):
        folder.run(4, 24, legend=short)
    assert not (folder.root / "dataset" / "train").exists()
    data = open_dataset(folder.run(4, 24, val_share=0))
    # black, blue, green, red in the order of their numbers
    assert [one.color for one in data.legend.classes] == [(0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 0)]
    assert data.legend.codes == (1, 2, 3, 4)
    row, col = int(data.index["row"][0]), int(data.index["col"][0])
    np.testing.assert_array_equal(data.read(0)[1], np.array([1, 4, 3, 2])[folder.kinds["a"][row : row + 24, col : col + 24]])
    assert any("codes were made from the 4 colours found" in warning for warning in data.info["warnings"])
    assert Legend.from_file(data.path / "legend.yaml") == data.legend
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder.root / "masks" / "a.png")
    with pytest.raises(InputError, match="more than 254 colours"):
        folder.run(4, 24)


@pytest.mark.parametrize(
    ("values", "codes", "names"),
    [
        ([0, 255], [1, 2], ["value_0", "value_255"]),
        ([0, 1, 2], [1, 2, 3], ["value_0", "value_1", "value_2"]),
        ([1, 2, 255], [1, 2, 255], ["class_1", "class_2"]),
        ([0, 76, 149, 255], [1, 2, 3, 255], ["value_0", "value_76", "value_149"]),
    ],
)
def test_grey_masks_without_legend_keep_every_value_apart(folder: Folder, values: list[int], codes: list[int], names: list[str]) -> None:
    folder.png("a", (40, 50), 0)
    kinds = np.random.default_rng(1).integers(0, len(values), (40, 50))
    Image.fromarray(np.array(values, np.uint8)[kinds]).save(folder.root / "masks" / "a.png")
    data = open_dataset(folder.run(4, 24, val_share=0))
    assert list(data.legend.names) == names
    row, col = int(data.index["row"][1]), int(data.index["col"][1])
    np.testing.assert_array_equal(data.read(1)[1], np.array(codes)[kinds[row : row + 24, col : col + 24]])


def test_masks_must_be_in_their_image_s_place(folder: Folder) -> None:
    folder.tiff("t", (60, 70), 1, 600_000)
    mask = folder.root / "masks" / "t.tif"
    with rasterio.open(mask) as file:
        profile, codes = file.profile, file.read()
    # on the same lattice, another extent: brought into place, ignore outside
    profile.update(transform=Affine(10, 0, 600_000 + 200, 0, -10, 5_000_000 + 100), height=60, width=70)
    with rasterio.open(mask, "w", **profile) as file:
        file.write(codes)
    data = open_dataset(folder.run(30, 32, val_share=0))
    whole = np.full((60, 70), 255)
    whole[:50, 20:] = codes[0, 10:, :50]
    for at in range(30):
        row, col = int(data.index["row"][at]), int(data.index["col"][at])
        np.testing.assert_array_equal(data.read(at)[1], whole[row : row + 32, col : col + 32])
    for left, word in ((600_003, "another grid than its image"), (700_000, "lies beside its image")):
        profile.update(transform=Affine(10, 0, left, 0, -10, 5_000_000))
        with rasterio.open(mask, "w", **profile) as file:
            file.write(codes)
        with pytest.raises(InputError, match=word):
            folder.run(5, 32)


def test_images_without_georeference_need_masks_of_their_size(folder: Folder) -> None:
    folder.png("a", (40, 50), 0)
    Image.fromarray(COLORS[np.zeros((50, 40), int)]).save(folder.root / "masks" / "a.png")
    with pytest.raises(InputError, match=r"'a' have 40 x 50 and 50 x 40 pixels.*equal size"):
        folder.run(5, 32, legend=LEGEND)


def test_nodata_is_kept_and_empty_patches_are_not_written(folder: Folder) -> None:
    folder.tiff("t", (60, 90), 1, 600_000)
    folder.images["t"][:, :, :50] = 0
    folder.images["t"][2, 10, 70] = 0
    with rasterio.open(folder.root / "images" / "t.tif", "r+") as file:
        file.write(folder.images["t"])
    data = open_dataset(folder.run(40, 30, min_valid=0.7, val_share=0))
    for at in range(40):
        row, col = int(data.index["row"][at]), int(data.index["col"][at])
        empty = folder.images["t"][:, row : row + 30, col : col + 30] == 0
        image, mask = data.read(at)
        np.testing.assert_array_equal(np.isnan(image), empty)
        assert (mask[empty.any(0)] == 255).all()
        assert (mask[~empty.any(0)] != 255).all()
        assert 1 - empty.any(0).mean() >= 0.7


def test_every_window_comes_up_to_the_last_row_and_column(folder: Folder) -> None:
    folder.png("a", (30, 33), 0)
    data = open_dataset(folder.run(1000, 24, legend=LEGEND, val_share=0))
    places = {(int(row), int(col)) for row, col in zip(data.index["row"], data.index["col"], strict=True)}
    assert places == {(row, col) for row in range(7) for col in range(10)}
    assert "70 patches instead of 1000: there are no more different ones" in data.info["warnings"][0]


def test_image_of_exactly_the_size_works_and_a_smaller_one_is_told(folder: Folder) -> None:
    folder.png("a", (24, 24), 0)
    assert len(open_dataset(folder.run(1, 24, legend=LEGEND, val_share=0))) == 1
    with pytest.raises(InputError, match="24 x 24 pixels are less than a patch of 25 x 25"):
        folder.run(1, 25, legend=LEGEND)


@pytest.mark.parametrize("count", [3, 7, 100])
def test_count_is_met_exactly_for_any_number_of_images(folder: Folder, count: int) -> None:
    for at in range(7):
        folder.png(f"i{at}", (30 + at, 40), at)
    data = open_dataset(folder.run(count, 16, legend=LEGEND, seed=1))
    assert len(data) == count == len(list((data.path / "masks").iterdir()))


def test_seed_decides_and_nothing_else(folder: Folder, tmp_path: Path) -> None:
    for at in range(3):
        folder.png(f"i{at}", (50, 60), at)

    def digest(seed: int) -> str:
        out = folder.run(20, 16, legend=LEGEND, seed=seed)
        files = sorted(path for path in out.rglob("*") if path.is_file())
        return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()

    first = digest(0)
    np.random.default_rng().random()
    np.random.seed(77)  # noqa: NPY002 - the global generator must not matter
    assert digest(0) == first
    assert digest(1) != first


def test_one_image_is_split_by_blocks_without_leak(folder: Folder) -> None:
    folder.png("big", (400, 500), 0)
    data = open_dataset(folder.run(1500, 32, legend=LEGEND))
    index = data.index
    split = np.select([index["split"] == "train", index["split"] == "val"], [TRAIN, 2], 0).astype(np.int8)
    assert (split == 2).sum() > 30
    assert (split == TRAIN).sum() > 600
    boxes = np.stack([index["col"], index["row"], index["col"] + 32, index["row"] + 32], axis=1).astype(float)
    assert not leaks(boxes, split, 8).any()


def test_old_output_is_replaced_as_a_whole_and_sources_never(folder: Folder, tmp_path: Path) -> None:
    folder.png("a", (40, 50), 0)
    folder.run(9, 24, legend=LEGEND, val_share=0)
    out = folder.run(4, 24, legend=LEGEND, val_share=0)
    assert len(list((out / "images").iterdir())) == 4
    with pytest.raises(UsageError, match="lies in the output folder"):
        generate_train_data(4, 24, folder.root / "images", folder.root / "masks", folder.root)
    other = tmp_path / "thesis"
    (other / "images").mkdir(parents=True)
    with pytest.raises(InputError, match="not ours to replace"):
        generate_train_data(4, 24, folder.root / "images", folder.root / "masks", other, legend=LEGEND)


def test_scene_is_read_in_windows(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from sarseg.raster.read import Raster

    folder.tiff("t", (700, 900), 1, 600_000)
    asked = []
    plain = Raster.read

    def read(self, window=None, bands=None):  # type: ignore[no-untyped-def]
        if Path(self.path).parent == folder.root / "images":  # the contact sheet reads patches too
            asked.append(window)
        return plain(self, window, bands)

    monkeypatch.setattr(Raster, "read", read)
    monkeypatch.setattr("sarseg.patches.cut._CELL", 128)
    folder.run(200, 32)
    assert asked
    assert max(window.size for window in asked) <= (128 + 31) ** 2


def test_defaults_are_the_script_s() -> None:
    import inspect

    parameters = inspect.signature(sarseg.patches.generate_train_data).parameters
    leading = {name: parameters[name].default for name in list(parameters)[:4]}
    assert leading == {"nb_of_patches": 80000, "size": 256, "image_dir": "data/train/images/", "mask_dir": "data/train/masks/"}


def test_plain_folders_open_without_index(folder: Folder) -> None:
    """A folder of somebody else's patches: whole images held out, statistics from training windows."""
    for at in range(10):
        folder.png(f"p{at}", (64, 64), at)
    with pytest.raises(InputError, match="is no data set"):
        open_dataset(folder.root / "images")
    data = open_dataset(folder.root, legend=LEGEND)
    assert data.size == 64
    assert len(data) == 10
    assert (len(data.split("train")), len(data.split("val"))) == (8, 2)
    for at in range(10):
        scene = str(data.index["scene"][at])
        image, mask = data.read(at)
        np.testing.assert_array_equal(image, folder.images[scene])
        np.testing.assert_array_equal(mask, CODES[folder.kinds[scene]])
    train = np.concatenate([folder.images[str(data.index["scene"][at])].reshape(3, -1) for at in data.split("train")], axis=1)
    np.testing.assert_allclose(data.statistics()[0], train.mean(1), rtol=1e-9)
    LEGEND.to_file(folder.root / "legend.yaml")
    assert open_dataset(folder.root).legend == LEGEND


def test_plain_georeferenced_folder_is_split_by_place(folder: Folder) -> None:
    folder.tiff("west", (300, 280), 0, 600_000)
    folder.tiff("east", (300, 280), 1, 602_000)  # overlaps: one island, so blocks
    data = open_dataset(folder.root)
    assert data.size == 256
    assert len(data) == 8
    assert data.index["scene"].tolist() == ["east"] * 4 + ["west"] * 4
    image, mask = data.read(3)
    np.testing.assert_array_equal(image, folder.images["east"][:, 44:300, 24:280])
    np.testing.assert_array_equal(mask, folder.kinds["east"][44:300, 24:280])


def masks_of(folder: Folder, *values: object) -> None:
    """A pair of 40 x 40 pixels for each mask: one value everywhere, or the upper and the lower half."""
    for at, value in enumerate(values):
        folder.png(f"tile_{at}", (40, 40), at)
        mask = np.repeat(np.resize(np.array(value, np.uint8), 2), 20)[:, np.newaxis] + np.zeros((1, 40), np.uint8)
        Image.fromarray(mask).save(folder.root / "masks" / f"tile_{at}.png")


@pytest.mark.parametrize("value", [0, 255])
def test_masks_without_any_class_are_refused(folder: Folder, value: int) -> None:
    masks_of(folder, value, value, value)
    says = rf"the masks hold no class: every pixel is {value} \[.*tile_0.png\]: 0 is nodata, 255 is ignore"
    for attempt in (lambda: folder.run(10, 16), lambda: open_dataset(folder.root)):
        with pytest.raises(InputError, match=says):
            attempt()
    with pytest.raises(InputError, match=r"no window holds a label \[.*tile_0.png, .*tile_1.png, .*tile_2.png\]: .*only 0 .* and 255"):
        folder.run(10, 16, legend=LEGEND)
    assert not (folder.root / "dataset").exists() or not any((folder.root / "dataset").iterdir())


def test_masks_of_one_class_and_a_mask_of_none_are_told(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    masks_of(folder, 5, 5, 255, 5)
    folder.run(20, 16)
    assert "every label is 'class_5'" in caplog.text
    assert "1 of 4 images give no window with a label" in caplog.text
    assert str(folder.root / "masks/tile_2.png") in caplog.text
    caplog.clear()
    masks_of(folder, (5, 2), 5, 2, 5)
    folder.run(20, 16)
    assert "every label" not in caplog.text
    assert "give no window" not in caplog.text


def test_255_is_a_class_where_0_is_nodata(folder: Folder) -> None:
    """A mask of 0 and 255 whose file says that 0 is nodata."""
    masks_of(folder, (0, 255), (0, 255), 255)
    place = {"crs": UTM33, "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    for at in range(3):
        mask = np.asarray(Image.open(folder.root / f"masks/tile_{at}.png"))
        (folder.root / f"masks/tile_{at}.png").unlink()
        with rasterio.open(folder.root / f"masks/tile_{at}.tif", "w", "GTiff", 40, 40, 1, dtype="uint8", nodata=0, **place) as file:
            file.write(mask[np.newaxis])
    data = open_dataset(folder.run(20, 16))
    assert data.legend.names == ("value_255",)
    assert {code for at in range(len(data)) for code in np.unique(data.read(at)[1]).tolist()} == {1, 255}
