"""The whole line on small simulated scenes: killed in each step, and the demo's bookkeeping. `make demo` runs the demo itself."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sarseg.batch import demo
from sarseg.batch.config import read_pipeline
from sarseg.batch.run import run_pipeline
from sarseg.labels.resample import make_labels
from sarseg.metrics import Accuracy, confusion
from sarseg.patches.tally import read_index
from sarseg.product.folder import read_json
from sarseg.product.open import open_map, open_product
from sarseg.raster.read import open_raster

STEPS = ("preprocess", "labels", "patches", "train", "predict", "mosaic", "assess")
SIZE_PX = 192
X_M, Y_M = demo.CENTRE_M
PIPELINE = f"""
dem: [dem.tif]
labels: truth.tif
seed: 5
patches_size: 32
patches_guard_m: 80
patches_val_share: 0.1
patches_test_bounds: [{X_M + 300}, {Y_M - 960}, {X_M + 960}, {Y_M + 960}]
train_net_options: {{width: 4, depth: 2}}
train_steps: 12
train_batch: 4
train_threads: 1
"""


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = demo.simulate_scenes(tmp_path_factory.mktemp("line"), 5, SIZE_PX)
    (folder / "line.yaml").write_text(PIPELINE)
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# each child dies in the moment before the step publishes its result; the next one repeats the run
KILLED = """
import os, signal, sys
from pathlib import Path
import sarseg.ard.preprocess, sarseg.predict.engine, sarseg.mosaic.composite, sarseg.assess.accuracy, sarseg.train.loop
from sarseg.batch.config import read_pipeline
from sarseg.batch.run import run_pipeline
from sarseg.batch.state import Ledger
downloads, out = Path(sys.argv[1]), Path(sys.argv[2])
carry_out = Ledger.carry_out
def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)
for name in sys.argv[3:]:
    child = os.fork()
    if not child:
        def deadly(self, step, work):
            if step.name == name:
                os.replace = die
            return carry_out(self, step, work)
        Ledger.carry_out = deadly
        run_pipeline(read_pipeline(downloads / "line.yaml"), downloads, out)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(name, code, any(out.rglob(".partial-*")), flush=True)
"""


def test_killed_in_each_step_and_repeated_gives_the_same_bytes(downloads: Path, tmp_path: Path) -> None:
    pipeline = read_pipeline(downloads / "line.yaml")
    run_pipeline(pipeline, downloads, tmp_path / "undisturbed")
    words = [sys.executable, "-c", KILLED, downloads, tmp_path / "killed", *STEPS]
    killed = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    assert killed.stdout.splitlines() == [f"{name} {-signal.SIGKILL} True" for name in STEPS]
    run_pipeline(pipeline, downloads, tmp_path / "killed")
    want = contents(tmp_path / "undisturbed")
    assert len(want) > 30
    assert contents(tmp_path / "killed") == want


@pytest.fixture(scope="module")
def small_demo(downloads: Path) -> demo.DemoResult:
    """The demo with a small landscape and a few steps of training."""
    out = downloads.parent / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "packaged_pipeline", lambda _name: downloads / "line.yaml")
        patch.setattr(demo, "FULL_SIZE_PX", SIZE_PX)
        return demo.run_demo(out, demo.DemoOptions(seeds=1, size_px=SIZE_PX))


def test_the_summary_holds_scenes_baselines_accuracies_times_and_paths(small_demo: demo.DemoResult) -> None:
    summary = read_json(small_demo.summary)
    (seed,) = summary["seeds"]
    assert len(seed["scenes"]) == 2
    assert set(seed["baselines"]) == {"unfiltered", "boxcar 5x5", "Lee 7x7"}
    for kind, name in (("scenes", "error_ratio"), ("together", "mosaic_error_ratio")):
        best = max(one[kind]["overall_accuracy"] for one in seed["baselines"].values())
        ratio = (1 - seed["network"][kind]["overall_accuracy"]) / (1 - best)
        for key in ("mean", "worst"):
            assert summary[name][key] == pytest.approx(ratio, rel=1e-12)
    assert {"simulate", "line", "baselines", "line, train"} <= set(seed["seconds"])
    for path in (*summary["paths"].values(), *seed["paths"].values()):
        assert Path(path).exists()
    assert (small_demo.summary.parent / "landcover" / "landcover.tif").read_bytes() == Path(seed["paths"]["landcover"]).read_bytes()


def test_network_and_baselines_are_scored_on_the_same_held_out_pixels(small_demo: demo.DemoResult, tmp_path: Path) -> None:
    result = small_demo.results[0]
    landcover = open_map(result.outcome.landcover)
    labels = make_labels(result.folder / "downloads" / "truth.tif", result.outcome.landcover / "landcover.tif", tmp_path / "truth.tif")
    truth, codes = open_raster(labels).read_codes(), landcover.codes()
    x, y = landcover.grid.centres()
    inside = ((x >= X_M + 300) & (x <= X_M + 960))[np.newaxis, :] & ((y >= Y_M - 960) & (y <= Y_M + 960))[:, np.newaxis]
    truth = np.where(inside, truth, 0).astype(np.uint8)
    everywhere = Accuracy(confusion(truth, codes, landcover.legend), landcover.legend)
    assert read_json(result.outcome.accuracy or Path())["overall_accuracy"] == pytest.approx(everywhere.oa)

    scenes = []
    for path in result.outcome.maps:
        one = open_map(path)
        row, col = landcover.grid.offset_of(one.grid) or (0, 0)
        scenes.append(np.zeros(landcover.grid.shape, np.uint8))
        scenes[-1][row : row + one.grid.shape[0], col : col + one.grid.shape[1]] = one.codes()
    truth[(np.array(scenes) == 0).any(0)] = 0  # scored is what both scenes saw
    want = confusion(truth, codes, landcover.legend)
    assert want.sum() > 3000
    np.testing.assert_array_equal(result.network.together.matrix, want)
    np.testing.assert_array_equal(result.network.scenes.matrix, sum(confusion(truth, one, landcover.legend) for one in scenes))
    for baseline in result.baselines.values():
        np.testing.assert_array_equal(baseline.together.matrix.sum(1), want.sum(1))
        np.testing.assert_array_equal(baseline.scenes.matrix.sum(1), 2 * want.sum(1))


def test_no_window_that_trains_or_validates_comes_near_the_held_out_region(small_demo: demo.DemoResult) -> None:
    folder = small_demo.results[0].folder
    index = read_index(folder / "dataset" / "index.parquet")
    learned = np.isin(index["split"], ("train", "val"))
    assert set(index["scene"][learned]) == set(small_demo.results[0].outcome.scenes)
    assert learned.sum() > 10
    assert index["x_max"][learned].max() <= X_M + 300 - 80
    # the windows' places are those of the products' own grids
    for name, path in zip(small_demo.results[0].outcome.scenes, small_demo.results[0].outcome.products, strict=True):
        at = np.flatnonzero(learned & (index["scene"] == name))[0]
        left, _, _, top = open_product(path).grid.bounds
        assert index["x_min"][at] == left + 10 * index["col"][at]
        assert index["y_max"][at] == top - 10 * index["row"][at]


def test_a_missed_promise_is_said(small_demo: demo.DemoResult) -> None:
    # a network of a few steps is worse than the classifiers
    assert small_demo.results[0].error_ratio > demo.MOST_ERRORS
    missed = small_demo.missed()
    assert any("on average" in sentence for sentence in missed)
    assert json.loads(small_demo.summary.read_text())["missed"] == missed
