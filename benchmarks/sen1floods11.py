"""Water from Sen1Floods11 chips with hand-drawn labels, whole countries held out: pooled IoU of simple rules.

Usage: python benchmarks/sen1floods11.py SEN1FLOODS11    (networks: benchmarks/networks.py floods SEN1FLOODS11)

SEN1FLOODS11 holds <chip>_S1Hand.tif, <chip>_LabelHand.tif and splits.csv, whose column `split_b` is used.
Bonafilia, Tellman, Anderson, Issenberg: Sen1Floods11, CVPR workshops 2020.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from sarseg.decibel import from_db, to_db
from sarseg.labels import LabelOptions, make_labels
from sarseg.legend import IGNORE, LandClass, Legend
from sarseg.metrics import Accuracy, confusion
from sarseg.patches import PatchOptions, Source, write_dataset
from sarseg.product.open import open_product
from sarseg.raster.read import open_raster

LEGEND = Legend((LandClass(code=1, name="land", color=(180, 160, 110)), LandClass(code=2, name="water", color=(30, 90, 200))))
REMAP = "-1: 255\n0: 1\n1: 2\n"
SPLIT = "split_b"
WATER = 2


def chips(folder: Path, part: str) -> list[str]:
    """Names of the chips of a part: train, val or test."""
    with (folder / "splits.csv").open() as file:
        return [row["chip"] for row in csv.DictReader(file) if row[SPLIT] == part]


def image_of(folder: Path, chip: str) -> Path:
    """The radar chip, dB."""
    return folder / f"{chip}_S1Hand.tif"


def prepare(folder: Path, work: Path) -> Path:
    """Labels with our codes and the data set; returns its folder."""
    names = {part: chips(folder, part) for part in ("train", "val", "test")}
    every = [chip for part in names.values() for chip in part]
    make_all_labels(folder, work, every)
    sources = [Source(image=image_of(folder, chip), labels=work / "labels" / f"{chip}.tif", name=chip) for chip in every]
    options = PatchOptions(size=128, stride=64, val_scenes=tuple(names["val"]), test_scenes=tuple(names["test"]), min_valid=0.05)
    return write_dataset(work / "dataset", sources, options)


def make_all_labels(folder: Path, work: Path, names: list[str]) -> None:
    """The chips' labels in our codes: `work`/labels/<chip>.tif."""
    (work / "remap.yaml").write_text(REMAP)
    options = LabelOptions(remap=str(work / "remap.yaml"))
    for chip in names:
        out = work / "labels" / f"{chip}.tif"
        if not out.exists():
            make_labels(folder / f"{chip}_LabelHand.tif", image_of(folder, chip), out, options, legend=LEGEND)


def country_of(chip: str) -> str:
    """The country that a chip's name begins with."""
    return chip.rsplit("_", 1)[0]


def truth_of(folder: Path, work: Path, chip: str) -> np.ndarray:
    """Codes, 255 where there is no label or not both bands."""
    codes = open_raster(work / "labels" / f"{chip}.tif").read_codes()
    return np.where(np.isnan(open_product(image_of(folder, chip)).read()).any(0), np.uint8(IGNORE), codes)


def otsu_map(folder: Path, threshold_db: float, chip: str) -> np.ndarray:
    """Water where the 5 x 5 mean of VH is below a threshold."""
    return np.where(smooth_vh(folder, chip) < threshold_db, np.uint8(WATER), np.uint8(1))


def otsu_db(values: np.ndarray) -> float:
    """The threshold that separates two classes best (Otsu 1979), from 256 bins."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = (np.cumsum((counts * centres)[::-1]) / np.maximum(above[::-1], 1))[::-1]
    return float(centres[np.argmax(below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2)])


def smooth_vh(folder: Path, chip: str) -> np.ndarray:
    """VH in dB after a 5 x 5 mean of linear power that leaves nodata out."""
    power = from_db(open_product(image_of(folder, chip)).read(bands=["VH"])[0].astype("f8"))
    valid = np.isfinite(power)
    total, weight = uniform_filter(np.where(valid, power, 0), 5), uniform_filter(valid.astype("f8"), 5)
    return to_db(np.divide(total, weight, out=np.full(power.shape, np.nan), where=weight > 1e-9))


def score(label: str, truth: dict[str, np.ndarray], maps: dict[str, np.ndarray]) -> None:
    """Print pooled accuracies, and the IoU of every country."""
    each = {chip: confusion(truth[chip], codes, LEGEND) for chip, codes in maps.items()}
    pooled = Accuracy(np.sum([*each.values()], axis=0), LEGEND)
    countries: dict[str, np.ndarray] = {}
    for chip, matrix in each.items():
        countries[country_of(chip)] = countries.get(country_of(chip), 0) + matrix
    iou = {country: Accuracy(matrix, LEGEND).iou[1] for country, matrix in countries.items()}
    parts = ", ".join(f"{country} {value:.2f}" for country, value in iou.items())
    mean = f"mean of countries {np.mean([*iou.values()]):.3f}"
    print(f"{label:36s} water IoU {pooled.iou[1]:.3f}  {mean}  mIoU {pooled.miou:.3f}  OA {pooled.oa:.3f}  ({parts})")


def main() -> None:
    """Print a table of water IoU: `split_b`, and each country left out in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        every = [path.name.removesuffix("_S1Hand.tif") for path in sorted(folder.glob("*_S1Hand.tif"))]
        make_all_labels(folder, work, every)
        truth = {chip: truth_of(folder, work, chip) for chip in every}
        known = {chip: smooth_vh(folder, chip)[truth[chip] < IGNORE] for chip in every}

        def threshold_db(training: list[str]) -> float:
            return otsu_db(np.concatenate([known[chip] for chip in training]))

        test = chips(folder, "test")
        score("all water", truth, {chip: np.full(truth[chip].shape, WATER, np.uint8) for chip in test})
        threshold = threshold_db(chips(folder, "train"))
        score(f"Otsu on VH, 5x5, {threshold:.2f} dB", truth, {chip: otsu_map(folder, threshold, chip) for chip in test})
        maps = {}
        for chip in every:
            if (truth[chip] == WATER).any():
                rest = [one for one in every if country_of(one) != country_of(chip)]
                maps[chip] = otsu_map(folder, threshold_db(rest), chip)
        score("Otsu on VH, 5x5, each country left out", truth, maps)


if __name__ == "__main__":
    main()
