"""How fast training is: half precision and layout against torch's default way, and the loop against a bare step.

Usage: python benchmarks/training_speed.py [--net unet_resnet] [--batch 8] [--size 256] [--steps 12] [--threads 1]

Both comparisons take turns within one run, a few steps each, so that other work on the machine meets all alike. On a CPU
the time is CPU time of the process, on a GPU wall time. With a GPU the memory is printed too, and how far a short
deterministic training in float32 agrees with the same one on the CPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from affine import Affine
from rasterio.crs import CRS

from sarseg.legend import LandClass, Legend
from sarseg.nets.infer import best_device, placed
from sarseg.nets.modelfile import load_model
from sarseg.nets.registry import build_network
from sarseg.patches import PatchOptions, Source, write_dataset
from sarseg.patches.dataset import Dataset, open_dataset
from sarseg.train.loop import TrainOptions, train
from sarseg.train.precision import choose_precision, cpu_flags

CLASSES = 4
TURN = 4
"""Steps before the other one has its turn."""


def scene(folder: Path, side: int) -> Dataset:
    """Patches of a made-up scene, VV and VH: fields of four classes under speckle of 4 looks."""
    rng = np.random.default_rng(0)
    kind = np.kron(rng.integers(0, CLASSES, (side // 32, side // 32)), np.ones((32, 32), np.int64))
    power = 10 ** (np.array([[-22.0, -28.0], [-14.0, -20.0], [-11.0, -16.0], [-7.0, -13.0]])[kind].transpose(2, 0, 1) / 10)
    power = (power * rng.gamma(4, 0.25, power.shape)).astype(np.float32)
    legend = Legend(tuple(LandClass(code=code + 1, name=f"class {code + 1}", color=(60 * code, 0, 0)) for code in range(CLASSES)))
    place = {"driver": "GTiff", "height": side, "width": side, "crs": CRS.from_epsg(32633), "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(folder / "scene.tif", "w", count=2, dtype="float32", **place) as file:
        file.write(power)
        file.descriptions = ("VV", "VH")
    with rasterio.open(folder / "labels.tif", "w", count=1, dtype="uint8", **place) as file:
        file.write((kind + 1).astype(np.uint8), 1)
    options = PatchOptions(
        size=SIZE, count=64, block_m=SIZE * 20.0, val_share=0.1, legend=legend, bands=("VV", "VH"), scales={"VV": "db", "VH": "db"}
    )
    return open_dataset(write_dataset(folder / "dataset", [Source(image=folder / "scene.tif", labels=folder / "labels.tif")], options))


def now_s(device: torch.device) -> float:
    """CPU time of the process on a CPU, the clock on a GPU that has done its work."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def bare_step(net: str, images: torch.Tensor, target: torch.Tensor, *, default: bool) -> Callable[[], None]:
    """Forward, backward and optimiser on a fixed batch; the default way is float32 as torch lays it out."""
    device = images.device
    torch.manual_seed(0)
    network = build_network(net, bands=images.shape[1], classes=CLASSES, options={}).to(device).train()
    if default:
        dtype, optimiser = None, torch.optim.AdamW(network.parameters())
    else:
        network, images = placed(network, device), images.contiguous(memory_format=torch.channels_last)
        form = choose_precision(device, "auto").format
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(form)
        optimiser = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def fixed_batch(batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and class indexes."""
    numbers = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 2, SIZE, SIZE, generator=numbers)
    return images.to(device), torch.randint(0, CLASSES, (batch, SIZE, SIZE), generator=numbers).to(device)


def compare_ways(net: str, batch: int, steps: int) -> None:
    """Torch's default way against what is chosen here."""
    device = best_device()
    precision = choose_precision(device, "auto")
    ways = {default: bare_step(net, *fixed_batch(batch, device), default=default) for default in (True, False)}
    taken = {True: 0.0, False: 0.0}
    for step in ways.values():
        step()
    for _ in range(max(1, steps // TURN)):
        for default, step in ways.items():
            start_s = now_s(device)
            for _ in range(TURN):
                step()
            taken[default] += now_s(device) - start_s
    count = max(1, steps // TURN) * TURN * batch
    print(f"float32, contiguous:        {count / taken[True]:8.2f} patches/s")
    print(f"{precision.format}, channels last: {count / taken[False]:11.2f} patches/s ({precision.reason})")
    print(f"ratio: {taken[True] / taken[False]:.2f}")


def compare_loop(net: str, dataset: Dataset, options: TrainOptions) -> None:
    """The loop (loading, augmentation, running mean, log) against a bare step; its first turn warms up."""
    device = best_device()
    bare = bare_step(net, *fixed_batch(options.batch, device), default=False)
    bare()
    taken, last_s = [0.0, 0.0], 0.0

    def turn(done: int, _total: int, _label: str) -> None:
        nonlocal last_s
        if done % TURN:
            return
        if done > TURN:
            taken[0] += now_s(device) - last_s
            start_s = now_s(device)
            for _ in range(TURN):
                bare()
            taken[1] += now_s(device) - start_s
        last_s = now_s(device)

    with tempfile.TemporaryDirectory() as folder:
        train(dataset, Path(folder) / "model", options, turn)
    count = (options.steps // TURN - 1) * TURN * options.batch
    print(f"loop:      {count / taken[0]:8.2f} patches/s")
    print(f"bare step: {count / taken[1]:8.2f} patches/s")
    print(f"the loop has {taken[1] / taken[0]:.1%} of the bare step's rate")
    if device.type == "cuda":
        print(f"GPU memory: {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB at most, the bare step's network included")


def compare_devices(dataset: Dataset, options: TrainOptions) -> None:
    """A few steps on the CPU and on the GPU, deterministic and in float32."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    models = []
    with tempfile.TemporaryDirectory() as folder:
        for device in ("cpu", "cuda"):
            with mock.patch("sarseg.train.loop.best_device", return_value=torch.device(device)):
                models.append(load_model(train(dataset, Path(folder) / device, replace(options, precision="float32", workers=0))))
    losses = [model.spec.metrics["validation_loss"] for model in models]
    states = [model.network.state_dict() for model in models]
    apart = max(float((states[0][name].double() - states[1][name].double()).abs().max()) for name in states[0])
    print(
        f"CPU and CUDA after {options.steps} steps: validation loss {losses[0]:.6f} and {losses[1]:.6f}, weights at most {apart:.1e} apart"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="unet_resnet")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    SIZE = given.size
    torch.set_num_threads(given.threads)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"{given.net}, {given.batch} x 2 x {SIZE} x {SIZE}; CPU: {', '.join(cpu_flags())}; {given.threads} threads; GPU: {gpu}")
    compare_ways(given.net, given.batch, given.steps)
    with tempfile.TemporaryDirectory() as place:
        patches = scene(Path(place), 6 * SIZE)
        plan = TrainOptions(net=given.net, batch=given.batch, steps=given.steps + TURN, validations=1, ema=0.99, threads=given.threads)
        compare_loop(given.net, patches, plan)
        if torch.cuda.is_available():
            compare_devices(patches, replace(plan, steps=5, ema=0.0))
