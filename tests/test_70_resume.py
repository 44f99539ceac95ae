"""Trainings that are interrupted, and trainings on several devices: the same model comes out."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from made_patches import LEGEND, Made, made_dataset
from PIL import Image

from sarseg.cli.main import run
from sarseg.errors import InputError, UsageError
from sarseg.nets.modelfile import load_model
from sarseg.patches import PatchOptions, Source
from sarseg.patches import write_dataset as write_dataset_of
from sarseg.patches.dataset import Dataset, open_dataset
from sarseg.train import checkpoint, loop
from sarseg.train.augment import Augmentation
from sarseg.train.checkpoint import Checkpoints
from sarseg.train.loader import Batch
from sarseg.train.loop import Training, TrainOptions, train

torch.set_num_threads(1)

# 13 patches in batches of 4: every second step but a few ends in the middle of an epoch
LONG = TrainOptions(net="tiny", batch=4, micro_batch=2, steps=100, validations=3, ema=0.9, lr=0.02, clip=5.0, threads=1, seed=3)
OPTIONS = replace(LONG, checkpoint_every=10)
AFRESH = """
import sys
sys.path.insert(0, sys.argv[1])
from test_70_resume import train_until_killed
train_until_killed(sys.argv[2], workers=2, at=int(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def no_curve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of a short training goes into its picture, which one test looks at."""
    if request.function is not test_best_weights_of_before_the_interruption_are_kept:
        monkeypatch.setattr(loop, "training_curve", lambda rows, best_step: b"")


def whole_dataset() -> Dataset:
    return made_dataset(13, 3, Made(16, sparse=True))


def train_until_killed(out: str | Path, *, workers: int, at: int) -> None:
    """A training that kills its own process at a step."""

    def kill(done: int, total: int, label: str) -> None:
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    train(whole_dataset(), Path(out), replace(OPTIONS, workers=workers), kill, resume=True)


def forked(work: Callable[[], object]) -> int:
    """A process that does some work and ends, without the seconds that the imports of a fresh one take."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, from Python 3.12 on: torch has but one here
        process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(1)
    return process


def log_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_killed_and_resumed_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Killed at step 57 with no worker, and again at 83 with two, in a process of its own that knows nothing but the checkpoint.

    Dropout, running mean, micro-batches, best weights of before.
    """
    dataset = whole_dataset()
    whole = train(dataset, tmp_path / "whole", LONG)
    _, status = os.waitpid(forked(lambda: train_until_killed(tmp_path / "parts", workers=0, at=57)), 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    state = json.loads((tmp_path / "parts.training/checkpoint.json").read_text())
    assert (state["step"], state["best_step"]) == (50, 34)
    assert not (tmp_path / "parts").exists()
    command = [sys.executable, "-c", AFRESH, str(Path(__file__).parent), str(tmp_path / "parts"), "83"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads((tmp_path / "parts.training/checkpoint.json").read_text())["step"] == 80
    parts = train(dataset, tmp_path / "parts", replace(LONG, workers=2), resume=True)
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert log_of(parts) == log_of(whole)
    one, other = (load_model(folder).spec for folder in (whole, parts))
    assert one.metrics == other.metrics
    assert one.temperature == other.temperature
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


class Interrupted(Exception):
    """As if the process had ended here."""


def interrupted(out: Path, options: TrainOptions, *, at: int) -> Path:
    """A training that an error stops at a step; the folder of its checkpoints."""

    def stop(done: int, total: int, label: str) -> None:
        if done == at:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(made_dataset(), out, options, stop)
    return out.with_name(f"{out.name}.training")


SHORT = replace(LONG, steps=12, validations=2, checkpoint_every=3)


def test_best_weights_of_before_the_interruption_are_kept(tmp_path: Path) -> None:
    """Steps that ruin the network after it was interrupted must not ruin the model."""
    ruin = replace(SHORT, steps=40, validations=8, lr=1.0, seed=3, ema=0.0, clip=None, augmentation=Augmentation(turns=False))
    whole = train(made_dataset(), tmp_path / "whole", ruin)
    kept = load_model(whole).spec.training["kept_step"]
    assert kept < 40
    interrupted(tmp_path / "parts", ruin, at=max(kept + 4, 8))
    parts = train(made_dataset(), tmp_path / "parts", ruin, resume=True)
    for name in ("model.safetensors", "model.json", "training.png"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5, 6])
def test_a_checkpoint_is_whole_whenever_writing_stops(calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two checkpoints with best weights, the write number `calls` breaks off in the middle of its file."""
    store, publish, count = Checkpoints(tmp_path / "model.training", {"lr": 1}, {"size": 3}), checkpoint._publish, 0

    def broken(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == calls:
            path.with_name(f".partial-1-{path.name}").write_bytes(data[: len(data) // 2])
            raise Interrupted
        publish(path, data)

    monkeypatch.setattr(checkpoint, "_publish", broken)
    facts = {"micro_batch": 2, "stale": 0, "scaler": {}, "rows": [], "best_score": 0.5}
    with pytest.raises(Interrupted):
        for step in (10, 20):
            store.save({"x": torch.full((3,), step)}, (step, {"y": torch.full((2,), -step)}), {**facts, "step": step})
    fresh = Checkpoints(store.folder, {"lr": 1}, {"size": 3})
    state = fresh.read()
    if calls <= 3:
        assert state is None
        return
    assert state is not None
    assert state.step == state.best_step == 10
    assert fresh.tensors(state.last)["x"].tolist() == [10, 10, 10]
    assert state.best is not None
    assert fresh.tensors(state.best)["y"].tolist() == [-10, -10]
    monkeypatch.undo()
    fresh.save({"x": torch.full((3,), 20)}, (10, {}), {**facts, "step": 20})
    assert sorted(path.name for path in store.folder.iterdir()) == ["best-10.safetensors", "checkpoint.json", "last-20.safetensors"]


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "model", SHORT, at=8)
    (last,) = folder.glob("last-*")
    good = last.read_bytes()
    last.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InputError, match=r"is not the file that was written \[.*last-6.safetensors\]: the checkpoint is damaged"):
        train(made_dataset(), tmp_path / "model", SHORT, resume=True)
    last.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        train(made_dataset(), tmp_path / "model", SHORT, resume=True)
    last.write_bytes(good)
    text = (folder / "checkpoint.json").read_text()
    (folder / "checkpoint.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"cannot be read as JSON \[.*checkpoint.json\]"):
        train(made_dataset(), tmp_path / "model", SHORT, resume=True)
    (folder / "checkpoint.json").write_text(text.replace('"last-6.safetensors"', '"../../etc/passwd"'))
    with pytest.raises(InputError, match=r"last\.name"):
        train(made_dataset(), tmp_path / "model", SHORT, resume=True)
    assert not any(path.suffix in (".pt", ".pth", ".pkl") for path in folder.iterdir())


def test_resuming_something_else_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path / "model", SHORT, at=8)
    with pytest.raises(UsageError, match=r"option lr is 0.1, that of the interrupted training 0.02 \[.*model.training\]"):
        train(made_dataset(), tmp_path / "model", replace(SHORT, lr=0.1), resume=True)
    with pytest.raises(UsageError, match="option augmentation is"):
        train(made_dataset(), tmp_path / "model", replace(SHORT, augmentation=Augmentation(turns=False)), resume=True)
    with pytest.raises(UsageError, match="dataset patches is 15, that of the interrupted training 14"):
        train(made_dataset(11, 4), tmp_path / "model", SHORT, resume=True)
    with pytest.raises(UsageError, match="dataset content is"):
        train(made_dataset(patches=Made(14, seed=1)), tmp_path / "model", SHORT, resume=True)
    train(made_dataset(), tmp_path / "model", replace(SHORT, checkpoint_every=5), resume=True)


def test_without_resume_an_interrupted_training_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = interrupted(tmp_path / "model", SHORT, at=8)
    state = (folder / "checkpoint.json").read_bytes()
    model = train(made_dataset(), tmp_path / "model", SHORT)
    assert "was not asked to resume: it is kept in model.training-old" in caplog.text
    assert (tmp_path / "model.training-old/checkpoint.json").read_bytes() == state
    assert not folder.exists()
    again = train(made_dataset(), tmp_path / "again", SHORT, resume=True)
    assert "no interrupted training" in caplog.text
    assert (again / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_memory_that_did_not_suffice_is_remembered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = replace(SHORT, net_options={"limit": 1}, batch=4, micro_batch=4)
    interrupted(tmp_path / "model", options, at=8)
    caplog.clear()
    spec = load_model(train(made_dataset(), tmp_path / "model", options, resume=True)).spec
    assert "memory" not in caplog.text
    assert spec.training["micro_batch"] == 1


def write_dataset(folder: Path) -> Path:
    """Patches on the disk, which other processes can open."""
    from sarseg.patches import generate_train_data

    rng = np.random.default_rng(8)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    colors = np.array([one.color for one in LEGEND.classes], np.uint8)
    for at in range(4):
        kind = np.kron(rng.integers(0, 3, (6, 6)), np.ones((16, 16), np.int64))
        image = rng.normal(40 + 80 * kind, 20, (3, *kind.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"images/tile_{at}.png")
        Image.fromarray(colors[kind]).save(folder / f"masks/tile_{at}.png")
    names = {"image_dir": folder / "images", "mask_dir": folder / "masks", "out_dir": folder / "dataset/train"}
    return generate_train_data(nb_of_patches=30, size=32, legend=LEGEND, **names)  # type: ignore[arg-type]


def later(path: Path) -> None:
    """As if the file had been written two seconds later: the tests are faster than people."""
    status = path.stat()
    os.utime(path, (status.st_atime, status.st_mtime + 2))


def test_one_changed_patch_is_seen_before_resuming(tmp_path: Path) -> None:
    """Any of them: a relabelled mask changes neither statistics nor split, and only three patches are read."""
    dataset = write_dataset(tmp_path / "data")
    before = checkpoint.fingerprint(open_dataset(dataset))
    assert checkpoint.fingerprint(open_dataset(dataset)) == before
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)  # which keeps times
    assert checkpoint.fingerprint(open_dataset(copy)) == before
    mask = dataset / "masks/00007.png"
    values = np.asarray(Image.open(mask)).copy()
    values[values == 1], values[values == 4] = 4, 1
    Image.fromarray(values).save(mask)
    later(mask)
    after = checkpoint.fingerprint(open_dataset(dataset))
    assert [name for name in before if before[name] != after[name]] == ["files"]

    def stop(done: int, total: int, label: str) -> None:
        if done == 3:
            raise Interrupted

    options = replace(SHORT, checkpoint_every=1)
    with pytest.raises(Interrupted):
        train(copy, tmp_path / "model", options, stop)
    shutil.copy(mask, copy / "masks/00007.png")
    later(copy / "masks/00007.png")
    with pytest.raises(UsageError, match=r"dataset files is .* \[.*model.training\]: sizes or times of its files have changed"):
        train(copy, tmp_path / "model", options, resume=True)


@pytest.mark.parametrize("store", ["arrays", "windows"])
def test_changed_arrays_and_sources_are_seen(store: str, tmp_path: Path) -> None:
    grid = {"driver": "GTiff", "height": 96, "width": 96, "crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    rng = np.random.default_rng(3)
    with rasterio.open(tmp_path / "image.tif", "w", count=2, dtype="float32", **grid) as file:
        file.write(rng.gamma(3, 0.1, (2, 96, 96)).astype(np.float32))
    with rasterio.open(tmp_path / "labels.tif", "w", count=1, dtype="uint8", **grid) as file:
        file.write(rng.choice(np.array([1, 4, 7], np.uint8), (1, 96, 96)))
    source = Source(image=tmp_path / "image.tif", labels=tmp_path / "labels.tif")
    options = PatchOptions(size=16, store=store, legend=LEGEND)  # type: ignore[arg-type]
    dataset = open_dataset(write_dataset_of(tmp_path / store, [source], options))
    before = checkpoint.fingerprint(dataset)
    changed = tmp_path / ("image.tif" if store == "windows" else "arrays/masks.zarr/c/0/0/0")
    later(changed)
    assert [name for name, value in checkpoint.fingerprint(dataset).items() if value != before[name]] == ["files"]


def children_of(parent: int) -> list[int]:
    """Processes of this training that `parent` started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, stat = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except OSError:
            continue
        if b"sarseg.train.ranks" in words and int(stat.rpartition(")")[2].split()[1]) == parent:
            found.append(int(folder.name))
    return found


def alive(process: int) -> bool:
    try:
        return (Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]) != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    """Each takes half of every batch, so that one process with micro-batches of a half does the same sums."""
    dataset = write_dataset(tmp_path / "data")
    options = TrainOptions(
        net_options={"width": 4, "depth": 1, "stem": 1}, batch=4, steps=5, validations=1, lr=0.01, threads=1, class_weights="inverse-sqrt"
    )
    one = load_model(train(dataset, tmp_path / "one", replace(options, micro_batch=2)))
    words = ["--quiet", "train", str(dataset), *(f"--net-option={option}" for option in ("width=4", "depth=1", "stem=1"))]
    words += ["--batch", "4", "--lr", "0.01", "--threads", "1", "--class-weights", "inverse-sqrt", "--devices", "2"]
    assert run([*words, "--steps", "5", "--validations", "1", "-o", str(tmp_path / "two")]) == 0
    two = load_model(tmp_path / "two")
    assert two.spec.training["options"]["devices"] == 2
    assert asdict(options)["devices"] == 1
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(two.network.state_dict()[name], tensor, rtol=0, atol=1e-6, msg=name)
    # the whole batch on one device is another training: batch norm sees all of it
    whole = load_model(train(dataset, tmp_path / "whole", options)).network.state_dict()
    assert max(float((whole[name] - tensor).abs().max()) for name, tensor in one.network.state_dict().items()) > 1e-5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_killed_training_leaves_no_process_behind(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    options = TrainOptions(net_options={"width": 4, "depth": 1, "stem": 1}, batch=4, steps=10**6, threads=1, devices=2)
    first = forked(lambda: train(dataset, tmp_path / "killed", options))
    try:
        end_s = time.monotonic() + 200
        while not (others := children_of(first)) and time.monotonic() < end_s:
            time.sleep(0.1)
        assert len(others) == 1
        assert alive(others[0])
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    end_s = time.monotonic() + 100
    while alive(others[0]) and time.monotonic() < end_s:
        time.sleep(0.2)
    assert not alive(others[0])


def test_a_second_training_of_one_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_LOCK_WAIT_S", 0.1)
    with checkpoint.only_one(tmp_path / "model"), pytest.raises(UsageError, match="another training writes this model"):
        train(made_dataset(2, 0), tmp_path / "model", TrainOptions(net="tiny", steps=1, batch=2, threads=1))
    assert not any(tmp_path.iterdir())


def test_output_that_is_not_ours_is_refused_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.txt").write_text("mine")
    with pytest.raises(InputError, match="not ours to replace"):
        train(made_dataset(2, 0), tmp_path / "photos", TrainOptions(net="tiny", steps=10**6, batch=2, threads=1))
    assert [path.name for path in tmp_path.rglob("*")] == ["photos", "a.txt"]


@pytest.mark.parametrize("validation", [0, 2])
def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validation: int) -> None:
    """The last step may ruin what its own loss, taken before it, could not tell."""
    plain = Training.step

    def ruinous(self: Training, step: int, batch: Batch) -> torch.Tensor:
        loss = plain(self, step, batch)
        with torch.no_grad():
            self.parameters[0][0] = float("inf")
        return loss

    monkeypatch.setattr(Training, "step", ruinous)
    options = TrainOptions(net="tiny", steps=1, batch=2, threads=1, validations=1)
    with pytest.raises(InputError, match="weights are no numbers after step 1"):
        train(made_dataset(2, validation), tmp_path / "model", options)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_resume_of_a_finished_training_gives_its_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = TrainOptions(net="tiny", steps=2, batch=2, threads=1)
    folder = train(made_dataset(2, 0), tmp_path / "model", options)
    before = (folder / "model.safetensors").read_bytes()
    assert train(made_dataset(2, 0), tmp_path / "model", TrainOptions(net="tiny", steps=9, batch=2, threads=1), resume=True) == folder
    assert (folder / "model.safetensors").read_bytes() == before
    assert "nothing to resume" in caplog.text
