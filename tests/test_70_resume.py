"""Trainings that are interrupted, and trainings on several devices: the same model comes out."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_patches import LEGEND, Made, made_dataset
from PIL import Image

from sarseg.errors import InputError, UsageError
from sarseg.nets.modelfile import load_model
from sarseg.train import checkpoint
from sarseg.train.augment import Augmentation
from sarseg.train.checkpoint import Checkpoints
from sarseg.train.loader import Batch
from sarseg.train.loop import Training, TrainOptions, train

torch.set_num_threads(1)

# 13 patches in batches of 4: every second step but a few ends in the middle of an epoch
LONG = TrainOptions(net="tiny", batch=4, micro_batch=2, steps=100, validations=3, ema=0.9, lr=0.02, clip=5.0, threads=1, seed=3)
KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from made_patches import Made, made_dataset
from test_70_resume import LONG
from sarseg.train.loop import train

def kill(done, total, label):
    if done == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

options = replace(LONG, checkpoint_every=10, workers=int(sys.argv[3]))
train(made_dataset(13, 3, Made(16, sparse=True)), Path(sys.argv[2]), options, kill, resume=True)
"""


def killed(out: Path, *, workers: int, at: int) -> None:
    """A training in a process that is killed at a step."""
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(out), str(workers), str(at)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def log_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_killed_and_resumed_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Killed at step 57 with no worker and again at 83 with two: dropout, running mean, micro-batches, best weights of before."""
    dataset = made_dataset(13, 3, Made(16, sparse=True))
    whole = train(dataset, tmp_path / "whole", LONG)
    killed(tmp_path / "parts", workers=0, at=57)
    state = json.loads((tmp_path / "parts.training/checkpoint.json").read_text())
    assert (state["step"], state["best_step"]) == (50, 34)
    assert not (tmp_path / "parts").exists()
    killed(tmp_path / "parts", workers=2, at=83)
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
    words = [f"--net-option={option}" for option in ("width=4", "depth=1", "stem=1")]
    words += ["--batch", "4", "--lr", "0.01", "--threads", "1", "--class-weights", "inverse-sqrt", "--devices", "2"]
    command = [sys.executable, "-m", "sarseg", "--quiet", "train", str(dataset), *words]
    subprocess.run([*command, "--steps", "5", "--validations", "1", "-o", str(tmp_path / "two")], check=True, timeout=300)
    two = load_model(tmp_path / "two")
    assert two.spec.training["options"]["devices"] == 2
    assert asdict(options)["devices"] == 1
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(two.network.state_dict()[name], tensor, rtol=0, atol=1e-6, msg=name)
    # the whole batch on one device is another training: batch norm sees all of it
    whole = load_model(train(dataset, tmp_path / "whole", options)).network.state_dict()
    assert max(float((whole[name] - tensor).abs().max()) for name, tensor in one.network.state_dict().items()) > 1e-5
    # killed in the midst of it, it leaves no process behind
    first = subprocess.Popen([*command, "--steps", "100000", "-o", str(tmp_path / "killed")])
    try:
        end_s = time.monotonic() + 200
        while not (others := children_of(first.pid)) and time.monotonic() < end_s:
            time.sleep(0.1)
        assert len(others) == 1
        assert alive(others[0])
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
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
