"""Every network on the same data for the same CPU time: accuracy, time and size in one table.

Usage: python benchmarks/networks.py TASK FOLDER [--nets NAME ...] [--seeds 0] [--cpu-minutes 5] [--results FILE]

TASK, and what FOLDER is:
  floods     the Sen1Floods11 chips (benchmarks/sen1floods11.py): trained on four countries, tested on three others (`split_b`)
  countries  the same chips, each country in turn left out of the training
  region     a simulated land-cover region: the folder seed-1 of `sarseg demo`; trained on its west, tested on its east

A run is appended to the results file when it is finished, and not repeated; --table prints what the file holds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import sen1floods11 as floods
import torch
import torch.nn.functional as F

from sarseg.batch.comparison import Region
from sarseg.batch.demo import pipeline_for
from sarseg.grid import Bounds
from sarseg.masks import INVALID
from sarseg.metrics import Accuracy, confusion
from sarseg.nets.baselines import BASELINES
from sarseg.nets.infer import TileOptions, make_forward, predict_strips
from sarseg.nets.modelfile import Model, load_model, normalise
from sarseg.nets.registry import build_network
from sarseg.patches import PatchOptions, Source, write_dataset
from sarseg.patches.dataset import Dataset, open_dataset
from sarseg.product.open import Product, open_map, open_product
from sarseg.tiles import Window
from sarseg.train.augment import Augmentation
from sarseg.train.loop import TrainOptions, train

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network, its options, and how it is trained from nothing (AdamW, cosine)."""

    net: str
    options: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    band_dropout: float = 0.0


NETS: dict[str, Recipe] = {
    "compact_unet, width 16": Recipe(net="compact_unet", lr=4e-3),
    "compact_unet, width 16, band dropout": Recipe(net="compact_unet", lr=4e-3, band_dropout=0.3),
    "compact_unet, width 32": Recipe(net="compact_unet", options={"width": 32}, lr=4e-3),
    "unet_resnet (34)": Recipe(net="unet_resnet"),
    "unet": Recipe(net="unet"),
    "segnet": Recipe(net="segnet"),
    "fcn (ResNet-50, d8)": Recipe(net="fcn"),
    "pspnet (ResNet-50)": Recipe(net="pspnet"),
    "deeplabv3plus (ResNet-50)": Recipe(net="deeplabv3plus"),
    "majority": Recipe(net="majority"),
    "gaussian": Recipe(net="gaussian"),
    "random_forest": Recipe(net="random_forest"),
}
"""By the name in the table."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Something to map and its truth, codes uint8 (rows, cols), 255 = not scored."""

    name: str
    product: Product
    window: Window
    truth: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set to train on, and the scenes to test on."""

    name: str
    dataset: Dataset
    scenes: tuple[Scene, ...]
    score: Callable[[Accuracy], float]
    measure: str


def flood_tasks(folder: Path, work: Path, *, by_country: bool) -> Iterator[Task]:
    """Water by chips of countries that were not trained on; pooled IoU of water."""

    def task(name: str, dataset: Path, tested: list[str]) -> Task:
        products = {chip: open_product(floods.image_of(folder, chip)) for chip in tested}
        scenes = tuple(
            Scene(name=chip, product=product, window=Window.whole(product.grid.shape), truth=floods.truth_of(folder, work, chip))
            for chip, product in products.items()
        )
        return Task(name=name, dataset=open_dataset(dataset), scenes=scenes, score=lambda accuracy: float(accuracy.iou[1]), measure="IoU")

    split = floods.prepare(folder, work)
    if not by_country:
        yield task("floods", split, floods.chips(folder, "test"))
        return
    chips = [path.name.removesuffix("_S1Hand.tif") for path in sorted(folder.glob("*_S1Hand.tif"))]
    floods.make_all_labels(folder, work, chips)
    useful = [chip for chip in chips if (floods.truth_of(folder, work, chip) < 255).any()]
    with_water = [chip for chip in useful if (floods.truth_of(folder, work, chip) == floods.WATER).any()]
    for country in sorted({floods.country_of(chip) for chip in with_water}):
        rest = [chip for chip in useful if floods.country_of(chip) != country]
        sources = [Source(image=floods.image_of(folder, chip), labels=work / "labels" / f"{chip}.tif", name=chip) for chip in rest]
        options = PatchOptions(size=128, stride=64, min_valid=0.05, val_share=0.0, block_m=1e6)
        dataset = write_dataset(work / f"without-{country}", sources, options)
        yield task(f"countries: {country}", dataset, [chip for chip in with_water if floods.country_of(chip) == country])


def region_task(folder: Path) -> Task:
    """Seven classes of a simulated landscape, each of its two scenes mapped by itself; mean IoU."""
    bounds: Bounds = pipeline_for(1, 1408).options["patches"]["test_bounds"]
    region = Region.of(open_map(folder / "landcover"), folder / "downloads" / "truth.tif", bounds)
    products = [open_product(path) for path in sorted((folder / "ard").iterdir())]
    scenes = tuple(Scene(name=one.id, product=one, window=region.window_in(one), truth=region.truth) for one in products)
    return Task(
        name="region", dataset=open_dataset(folder / "dataset"), scenes=scenes, score=lambda accuracy: accuracy.miou, measure="mean IoU"
    )


def map_scene(model: Model, scene: Scene) -> np.ndarray:
    """Codes uint8 of the scene's window; 0 where there is no data."""
    bands, codes = model.spec.band_names, np.array(model.spec.legend.codes, np.uint8)
    window = scene.window
    forward = make_forward(model.network, temperature=model.spec.temperature)

    def read(part: Window) -> np.ndarray:
        there = part.shift(rows=window.row, cols=window.col)
        values = scene.product.read(there, bands)
        if scene.product.mask_raster is not None:
            values[:, (scene.product.mask(there) & INVALID) != 0] = np.nan
        return normalise(values, model.spec.bands)

    strips = predict_strips(read, window.shape, forward, classes=len(codes), options=TileOptions())
    return np.concatenate([np.where(strip.valid, codes[strip.probabilities.argmax(0)], 0) for strip in strips]).astype(np.uint8)


def affordable_steps(task: Task, net: str, options: dict[str, Any], minutes: float) -> int:
    """How many steps fit into so many CPU minutes, by the time of a few bare ones."""
    dataset = task.dataset
    network = build_network(net, bands=len(dataset.bands), classes=len(dataset.legend.codes), options=options)
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    images = torch.randn(BATCH, len(dataset.bands), dataset.size, dataset.size).contiguous(memory_format=torch.channels_last)
    target = torch.zeros(BATCH, dataset.size, dataset.size, dtype=torch.long)
    taken = []
    for _ in range(4):
        start = time.process_time()
        answer = network(images)
        loss = sum(F.cross_entropy(one, target) for one in (answer.values() if isinstance(answer, dict) else [answer]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        taken.append(time.process_time() - start)
    return max(20, round(minutes * 60.0 / min(taken[1:])))


def run(task: Task, label: str, seed: int, minutes: float, work: Path) -> dict[str, Any]:
    """Train, map and score once."""
    recipe = NETS[label]
    fitted = recipe.net in BASELINES
    asked, steps = TrainOptions(net=recipe.net, net_options=recipe.options, seed=seed), 1
    if not fitted:
        steps = affordable_steps(task, recipe.net, recipe.options, minutes)
        change = Augmentation(band_dropout=recipe.band_dropout)
        asked = replace(asked, steps=steps, batch=BATCH, lr=recipe.lr, validations=1, threads=1, augmentation=change)
    start = time.process_time()
    model = load_model(train(task.dataset, work / "model", asked))
    trained_s = time.process_time() - start
    start = time.process_time()
    maps = [map_scene(model, scene) for scene in task.scenes]
    mapped_s = time.process_time() - start
    legend = model.spec.legend
    each = [Accuracy(confusion(scene.truth, codes, legend), legend) for scene, codes in zip(task.scenes, maps, strict=True)]
    pooled = Accuracy(np.sum([one.matrix for one in each], axis=0), legend)
    return {
        "task": task.name,
        "network": label,
        "seed": seed,
        "cpu_minutes": 0.0 if fitted else minutes,
        "samples": 0 if fitted else steps * BATCH,
        "train_cpu_s": trained_s,
        "map_mpx_per_cpu_s": sum(codes.size for codes in maps) / 1e6 / mapped_s,
        "parameters": sum(one.numel() for one in model.network.parameters()),
        "measure": task.measure,
        "score": task.score(pooled),
        "oa": pooled.oa,
        "confusion": pooled.matrix.tolist(),
        "scenes": {scene.name: task.score(one) for scene, one in zip(task.scenes, each, strict=True)},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a network and task, mean and standard deviation over its seeds."""
    lines = [
        "| task | network | parameters | CPU min | samples | seeds | measure | score | OA | map, Mpx per CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = {name: at for at, name in enumerate(NETS)}
    rows = sorted(rows, key=lambda row: (row["task"], order[row["network"]], row["cpu_minutes"]))
    for (name, network, minutes), group in groupby(rows, key=lambda row: (row["task"], row["network"], row["cpu_minutes"])):
        runs = list(group)
        score, oa = [row["score"] for row in runs], [row["oa"] for row in runs]
        spread = f" ({np.std(score, ddof=1):.3f})" if len(runs) > 1 else ""
        million = f"{runs[0]['parameters'] / 1e6:.2f} M" if runs[0]["parameters"] else "-"
        speed = np.mean([row["map_mpx_per_cpu_s"] for row in runs])
        lines.append(
            f"| {name} | {network} | {million} | {minutes:g} | {runs[0]['samples']} | {len(runs)} | {runs[0]['measure']} "
            f"| {np.mean(score):.3f}{spread} | {np.mean(oa):.3f} | {speed:.2f} |"
        )
    return "\n".join([*lines, *pooled_lines(rows)])


def pooled_lines(rows: list[dict[str, Any]]) -> list[str]:
    """IoU of water over the pixels of all countries together, mean over seeds, where every country was left out once."""
    left_out = [row for row in rows if row["task"].startswith("countries: ")]
    countries = {row["task"] for row in left_out}
    lines = []
    for network in dict.fromkeys(row["network"] for row in left_out):
        scores = []
        for seed in sorted({row["seed"] for row in left_out}):
            runs = [row["confusion"] for row in left_out if (row["network"], row["seed"]) == (network, seed)]
            if len(runs) == len(countries):
                matrix = np.sum(runs, axis=0)
                scores.append(matrix[1, 1] / (matrix[1].sum() + matrix[:, 1].sum() - matrix[1, 1]))
        if scores:
            lines.append(f"| all countries | {network} | | | | {len(scores)} | IoU, pooled | {np.mean(scores):.3f} | | |")
    return lines


def main() -> None:
    """Run what is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("floods", "countries", "region"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cpu-minutes", type=float, default=5.0)
    parser.add_argument("--results", type=Path, default=Path("networks.json"))
    parser.add_argument("--table", action="store_true", help="only print")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(asked.results.read_text()) if asked.results.exists() else []
    if not asked.table:
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            region = asked.task == "region"
            tasks = iter([region_task(asked.folder)]) if region else flood_tasks(asked.folder, work, by_country=asked.task == "countries")
            for task in tasks:
                for label in asked.nets:
                    for seed in asked.seeds if NETS[label].net != "majority" else [0]:
                        minutes = 0.0 if NETS[label].net in BASELINES else asked.cpu_minutes
                        key = (task.name, label, seed, minutes)
                        if any((row["task"], row["network"], row["seed"], row["cpu_minutes"]) == key for row in rows):
                            continue
                        row = run(task, label, seed, minutes, work)
                        print(json.dumps(row), flush=True)
                        # read again: another process may have added to it
                        rows = json.loads(asked.results.read_text()) if asked.results.exists() else []
                        rows.append(row)
                        asked.results.write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
