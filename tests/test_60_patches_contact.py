"""The contact sheet: the rule that chooses patches, what stands on the page, and that it costs little."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sarseg.legend import LandClass, Legend
from sarseg.patches import Dataset, draw_contact_sheet, generate_train_data, open_dataset
from sarseg.patches.contact import choose_patches
from sarseg.patches.tally import BandInfo

COLORS = np.array([[0, 0, 0], [201, 3, 7], [5, 190, 9], [11, 13, 220]], np.uint8)


def page_colors(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    return {(color >> 16, color >> 8 & 255, color & 255) for color in np.unique(rgb @ [65536, 256, 1]).tolist()}


class Made:
    """Patches in memory; counts how many are read."""

    def __init__(self, codes: NDArray[np.uint8], bands: int, size: int) -> None:
        self.codes, self.bands, self.size, self.reads = codes, bands, size, 0

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        self.reads += 1
        image = np.random.default_rng(index).gamma(4.4, 0.02, (self.bands, self.size, self.size)).astype(np.float32)
        image[:, :3, :5] = np.nan
        return image, np.full((self.size, self.size), self.codes[index], np.uint8)


def make_dataset(
    count: int, legend: Legend, *, bands: int = 2, size: int = 16, scenes: int = 1, more: Mapping[str, Any] | None = None
) -> Dataset:
    rng = np.random.default_rng(2)
    codes = rng.choice(np.array(legend.codes, np.uint8), count)
    numbers = np.arange(count)
    index = {
        "split": np.where(numbers % 4 == 3, "val", "train"),
        "scene": np.array([f"scene {number % scenes}" for number in numbers]),
        "row": numbers // 50 * 7,
        "col": numbers % 50 * 7,
        **{f"class_{code}": (codes == code) * size**2 for code in legend.codes},
        **(more or {}),
    }
    infos = tuple(BandInfo(name=f"band{at}", scale="db", mean=-12.0, std=3.0) for at in range(bands))
    return Dataset(
        path=Path("made up"),
        size=size,
        legend=legend,
        index=index,
        patches=Made(codes, bands, size),
        known_bands=infos,
        band_names=tuple(band.name for band in infos),
        quantity="power",
        info={},
    )


def simple_legend(count: int) -> Legend:
    return Legend(tuple(LandClass(code=at + 1, name=f"kind {at}", color=(3 * at + 1, 250 - 4 * at, 77)) for at in range(count)))


@pytest.mark.parametrize(("count", "wanted"), [(500, 20), (500, 7), (21, 20), (20, 20), (3, 20), (1, 1)])
def test_rare_classes_are_shown(count: int, wanted: int) -> None:
    """Of 3 classes one is in a single patch; of the rest some are chosen evenly."""
    pixels = np.random.default_rng(5).integers(1, 100, (count, 3))
    pixels[:, 1] = 0
    pixels[count // 2, 1] = 1
    chosen = choose_patches(pixels, wanted)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, wanted)
    assert count // 2 in chosen
    assert chosen[0] >= 0
    assert chosen[-1] < count
    if count == 500:
        assert int(pixels[:, 0].argmax()) in chosen
        # no third of the data set goes unseen
        assert all(any(start <= at < start + 167 for at in chosen) for start in (0, 167, 333))


def test_nothing_labelled_is_no_trouble() -> None:
    assert len(choose_patches(np.zeros((40, 3), np.int64), 10)) == 10


def test_page_holds_masks_in_legend_colours_and_both_splits(tmp_path: Path) -> None:
    legend = simple_legend(7)
    path = draw_contact_sheet(make_dataset(300, legend), tmp_path / "sheet.png")
    colors = page_colors(path)
    assert {one.color for one in legend.classes} <= colors
    assert {(0x2F, 0x6D, 0xB3), (0xF0, 0x8C, 0x2E)} <= colors  # bars of training and validation
    assert (0x8E, 0x44, 0xAD) not in colors  # nothing tests
    assert (236, 236, 236) in colors  # chequers where there is no data
    again = draw_contact_sheet(make_dataset(300, legend), tmp_path / "again.png")
    assert path.read_bytes() == again.read_bytes()


def test_cost_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    legend = simple_legend(7)
    draw_contact_sheet(make_dataset(20, legend), tmp_path / "warm.png")  # fonts and imports
    dataset = make_dataset(2500, legend, size=64)
    before = time.process_time()
    draw_contact_sheet(dataset, tmp_path / "sheet.png")
    assert time.process_time() - before < 2.0  # 0.7 s were measured
    assert isinstance(dataset.patches, Made)
    assert dataset.patches.reads == 30


@pytest.mark.parametrize(("bands", "size"), [(1, 300), (2, 5), (3, 1), (9, 113)])
def test_any_bands_and_sizes(tmp_path: Path, bands: int, size: int) -> None:
    legend = simple_legend(1)
    colors = page_colors(draw_contact_sheet(make_dataset(2, legend, bands=bands, size=size), tmp_path / "sheet.png"))
    assert legend.classes[0].color in colors


def test_odd_names_many_classes_and_scenes(tmp_path: Path) -> None:
    """Formula marks, long names, another script, more classes and scenes than fit; warnings are errors here."""
    names = ["a$b^{$", "x" * 90, "森林", *(f"kind {at}" for at in range(57))]
    legend = Legend(tuple(LandClass(code=at + 1, name=name, color=(at, 9, 9)) for at, name in enumerate(names)))
    dataset = make_dataset(400, legend, scenes=9, more={"split": np.repeat(["train", "test", "none", "val"], 100)})
    colors = page_colors(draw_contact_sheet(dataset, tmp_path / "sheet.png", name="$\\frac{" * 30))
    assert (0x8E, 0x44, 0xAD) in colors


def folder_of_pngs(root: Path) -> Path:
    rng = np.random.default_rng(4)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for at in range(3):
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(root / "images" / f"{at}.png")
        Image.fromarray(COLORS[np.kron(rng.integers(1, 4, (9, 12)), np.ones((10, 10), np.int64))]).save(root / "masks" / f"{at}.png")
    return root


def test_plain_folder_and_generated_data(tmp_path: Path) -> None:
    plain = folder_of_pngs(tmp_path / "plain")
    wanted = {tuple(color) for color in COLORS[1:].tolist()}
    assert wanted <= page_colors(draw_contact_sheet(open_dataset(plain), tmp_path / "plain.png"))
    made = generate_train_data(20, 24, plain / "images", plain / "masks", tmp_path / "made")
    assert wanted <= page_colors(made / "contact_sheet.png")
    assert open_dataset(made).quantity == open_dataset(plain).quantity == "raw"
    (made / "contact_sheet.png").unlink()
    assert len(open_dataset(made)) == 20  # a data set of before has none
