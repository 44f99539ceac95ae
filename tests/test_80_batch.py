"""The line's frame with miniature steps in the place of the real ones: configuration, state, resuming, failing scenes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sarseg.batch import config
from sarseg.batch.config import packaged_pipeline, read_pipeline
from sarseg.batch.run import Outcome, find_downloads, run_pipeline
from sarseg.batch.state import Ledger, Step, only_run
from sarseg.errors import InputError, UsageError

STEPS = ("preprocess", "labels", "patches", "train", "predict", "mosaic", "assess")
PIPELINE = """# a miniature
dem: [dem.tif]
labels: truth.tif
seed: 3
preprocess_radiometry: gamma0
patches_test_bounds: [0, 0, 10, 10]
train_steps: 7
"""


class Miniature:
    """Steps that write what they were given, half first and then whole, and can be told to break or to kill the process."""

    def __init__(self, *, kill: tuple[str, str] = ("", ""), broken: dict[str, Exception] | None = None) -> None:
        self.kill, self.broken, self.calls = kill, broken or {}, []

    def _publish(self, step: str, final: Path, *parts: object, name: str = "") -> Path:
        self.calls.append((step, name or final.name))
        if name in self.broken:
            raise self.broken[name]
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(f".partial-{os.getpid()}-{final.name}")
        part.mkdir()
        (part / "content").write_text(step)
        self._perhaps_die(step, "half")
        read = [(path / "content" if path.is_dir() else path).read_text() if isinstance(path, Path) else repr(path) for path in parts]
        (part / "content").write_text("\n".join([step, *read]))
        (part / "item.json").write_text(json.dumps({"id": final.name, "properties": {}, "assets": {}}))
        if final.exists():
            shutil.rmtree(final)
        part.replace(final)
        self._perhaps_die(step, "published")
        return final

    def _perhaps_die(self, step: str, when: str) -> None:
        if self.kill == (step, when):
            os.kill(os.getpid(), signal.SIGKILL)

    def open_scene(self, path: Path) -> Any:
        return SimpleNamespace(id=path.name.partition(".")[0])

    def preprocess(self, scene: Path, out: Path, *, dem: list[Path], options: Any, progress: Any) -> Path:
        name = scene.name.partition(".")[0]
        return self._publish("preprocess", out / f"{name}_{options.radiometry}", *dem, options, name=name)

    def label_product(self, source: Path, like: Path, out: Path, options: Any, *, legend: Any, progress: Any) -> Path:
        return self._publish("labels", out, source, like, name=f"labels {out.stem}")

    def write_dataset(self, out: Path, sources: list[Any], options: Any, progress: Any) -> Path:
        return self._publish("patches", out, *[path for source in sources for path in (source.image, source.labels)], options)

    def train(self, dataset: Path, out: Path, options: Any, progress: Any) -> Path:
        return self._publish("train", out, dataset, options)

    def predict(self, model: Path, product: Path, out: Path, options: Any, progress: Any) -> Path:
        return self._publish("predict", out / product.name, model, product, options, name=f"predict {product.name[0]}")

    def mosaic(self, maps: list[Path], out: Path, options: Any, progress: Any) -> Path:
        return self._publish("mosaic", out, *maps, options)

    def assess(self, landcover: Path, truth: Path, out: Path, *, bounds: Any, legend: Any, progress: Any) -> None:
        self._publish("assess", out, landcover, truth, bounds)

    def install(self, patch: Callable[[str, object], None]) -> Miniature:
        """Put the steps in the place of the real ones."""
        for module, name in (
            ("scene.open", "open_scene"),
            ("ard.preprocess", "preprocess"),
            ("labels.resample", "label_product"),
            ("patches.store", "write_dataset"),
            ("train.loop", "train"),
            ("predict.engine", "predict"),
            ("mosaic.composite", "mosaic"),
            ("assess.accuracy", "assess"),
        ):
            patch(f"sarseg.{module}.{name}", getattr(self, name))
        return self


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Miniature]:
    return lambda **how: Miniature(**how).install(monkeypatch.setattr)


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    (folder / "A.SAFE").mkdir(parents=True)
    (folder / "A.SAFE" / "manifest.safe").write_text("a")
    (folder / "B.zip").write_text("b")
    (folder / "notes.txt").write_text("no download")
    (folder / "dem.tif").write_text("dem")
    (folder / "truth.tif").write_text("truth")
    (folder / "line.yaml").write_text(PIPELINE)
    return folder


def run(downloads: Path, out: Path) -> Outcome:
    return run_pipeline(read_pipeline(downloads / "line.yaml"), downloads, out)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_whole_line_once_and_then_nothing(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps = install()
    outcome = run(downloads, out)
    want = "preprocess preprocess labels labels patches train predict predict mosaic assess"
    assert [name for name, _ in steps.calls] == want.split()
    assert outcome.scenes == ("A", "B")
    assert (outcome.landcover, outcome.accuracy) == (out / "landcover", out / "accuracy.json")
    assert not outcome.failed
    before = contents(out)
    again = install()
    assert run(downloads, out).scenes == ("A", "B")
    assert again.calls == []
    assert contents(out) == before
    records = {path.relative_to(out / "state").as_posix() for path in (out / "state").rglob("*.json")}
    assert records == {
        *(f"{scene}/{step}.json" for scene in "AB" for step in ("preprocess", "labels", "predict")),
        *(f"all/{step}.json" for step in ("patches", "train", "mosaic", "assess")),
    }


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        (lambda d, o: (d / "line.yaml").write_text(PIPELINE.replace("train_steps: 7", "train_steps: 8")), "train predict mosaic assess"),
        (lambda d, o: (d / "line.yaml").write_text(PIPELINE.replace("0, 10, 10", "0, 10, 11")), "patches train predict mosaic assess"),
        (lambda d, o: (d / "A.SAFE" / "manifest.safe").write_text("aa"), "preprocess labels patches train predict mosaic assess"),
        (lambda d, o: os.utime(d / "truth.tif", ns=(1, 1)), "labels patches train predict mosaic assess"),
        (lambda d, o: shutil.rmtree(o / "maps" / "B_gamma0"), "predict"),
        (lambda d, o: (o / "dataset" / "content").write_text("shorter"), "patches"),
        (lambda d, o: (o / "state" / "A" / "labels.json").write_text("{"), "labels"),
        (lambda d, o: (d / "line.yaml").write_text("# another comment\n" + PIPELINE), ""),
    ],
)
def test_a_change_redoes_what_follows_from_it_and_nothing_else(
    change: Callable[[Path, Path], object], redone: str, install: Callable[..., Miniature], downloads: Path, tmp_path: Path
) -> None:
    install()
    run(downloads, tmp_path / "out")
    change(downloads, tmp_path / "out")
    again = install()
    run(downloads, tmp_path / "out")
    assert list(dict.fromkeys(name for name, _ in again.calls)) == redone.split()


KILLED = """
import os, sys
from pathlib import Path
from unittest.mock import patch
sys.path.insert(0, sys.argv[1])
import test_80_batch as here
downloads, out, when = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
steps = here.Miniature().install(lambda name, value: patch(name, value).start())
for steps.kill in [(step, when) for step in here.STEPS]:
    child = os.fork()
    if not child:
        here.run(downloads, out)
        os._exit(0)
    print(steps.kill[0], os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(out.rglob(".partial-*"))))
"""


@pytest.mark.parametrize("when", ["half", "published"])
def test_killed_in_each_step_and_repeated_gives_the_same_bytes(
    when: str, install: Callable[..., Miniature], downloads: Path, tmp_path: Path
) -> None:
    install()
    run(downloads, tmp_path / "undisturbed")
    out = tmp_path / "out"
    words = [sys.executable, "-c", KILLED, Path(__file__).parent, downloads, out, when]
    killed = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    leftovers = {"half": 1, "published": 0}[when]
    assert killed.stdout.splitlines() == [f"{step} {-signal.SIGKILL} {leftovers}" for step in STEPS]
    run(downloads, out)
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_a_failed_scene_does_not_stop_the_others(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    install(broken={"A": InputError("truncated", "A.SAFE")})
    outcome = run(downloads, tmp_path / "out")
    assert outcome.scenes == ("B",)
    assert {name: str(error) for name, error in outcome.failed.items()} == {"A": "truncated [A.SAFE]"}
    record = json.loads((tmp_path / "out" / "state" / "A" / "preprocess.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "truncated [A.SAFE]")
    mended = install()
    assert run(downloads, tmp_path / "out").scenes == ("A", "B")
    assert ("preprocess", "B") not in mended.calls


def test_when_all_scenes_fail_the_first_error_is_raised(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    install(broken={"A": InputError("first"), "B": OSError("second")})
    with pytest.raises(InputError, match="first"):
        run(downloads, tmp_path / "out")


def test_a_scene_without_labels_is_mapped_all_the_same(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    install(broken={"labels A": InputError("the labels do not reach it")})
    outcome = run(downloads, tmp_path / "out")
    assert outcome.scenes == ("A", "B")
    assert not outcome.failed
    install(broken={"labels A": InputError("nor A"), "labels B": InputError("nor B")})
    with pytest.raises(InputError, match="nor A"):
        run(downloads, tmp_path / "out2")


def test_the_command_ends_with_5_and_the_list(
    install: Callable[..., Miniature], downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sarseg.cli.main import run as sarseg

    install(broken={"predict B": InputError("odd", "B")})
    words = ["--quiet", "run", str(downloads / "line.yaml"), "--input", str(downloads), "-o", str(tmp_path / "out"), "--json"]
    assert sarseg(words) == 5
    said = capsys.readouterr()
    assert json.loads(said.out)["failed"] == {"B": "odd [B]"}
    assert json.loads(said.out)["scenes"] == ["A"]
    assert "sarseg: error: 1 of 2 scenes failed: B: see the messages above" in said.err


def test_two_runs_on_one_folder(downloads: Path, tmp_path: Path) -> None:
    with only_run(tmp_path / "out"), pytest.raises(UsageError, match="another run is working in this folder"):
        run(downloads, tmp_path / "out")
    with only_run(tmp_path / "out"):
        pass


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "maps" / ".partial-1-x").mkdir(parents=True)
    (tmp_path / "maps" / ".partial-1-x" / ".partial-1-y").write_text("half")
    (tmp_path / ".partial-1-z").write_text("half")
    (tmp_path / "kept").write_text("whole")
    with only_run(tmp_path):
        assert sorted(path.name for path in tmp_path.rglob("*") if path.name != ".lock") == ["kept", "maps"]


def test_downloads_are_found_and_named(downloads: Path, tmp_path: Path) -> None:
    shutil.copy(downloads / "B.zip", downloads / "A.zip")
    (downloads / "C.SAFE.zip").write_text("c")
    assert [path.name for path in find_downloads(downloads)] == ["A.SAFE", "B.zip", "C.SAFE.zip"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no downloads in the folder"):
        find_downloads(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        find_downloads(tmp_path / "absent")


def test_a_step_that_publishes_nothing_is_our_bug(tmp_path: Path) -> None:
    step = Step(name="labels", scene="A", output=tmp_path / "labels.tif")
    with pytest.raises(RuntimeError, match=r"labels left no .*labels\.tif"):
        Ledger(tmp_path).carry_out(step, lambda: None)
    assert not Ledger(tmp_path).is_done(step)


@pytest.mark.parametrize(
    ("line", "number", "says"),
    [
        ("train_stepps: 7", 8, "unknown key 'train_stepps' [{file}:8]: did you mean 'train_steps'?"),
        ("qqq: 1", 8, "unknown key 'qqq' [{file}:8]: keys are "),
        ("train_batch: many", 8, "key 'train_batch': Input should be a valid integer [{file}:8]: the file says 'many'"),
        ("train_batch: 2.5", 8, "key 'train_batch': Input should be a valid integer"),
        ("train_batch: true", 8, "key 'train_batch': Input should be a valid integer [{file}:8]: the file says True"),
        ("preprocess_spacing_m: [1, 2", 9, "is not YAML: "),
        ("labels: other.tif", 8, "is not YAML: found duplicate key"),
        ("train_batch: 0", 0, "batch is 0 [{file}, train]"),
    ],
)
def test_a_wrong_pipeline_names_file_line_and_key(line: str, number: int, says: str, downloads: Path) -> None:
    file = downloads / "line.yaml"
    file.write_text(f"{PIPELINE}{line}\n")
    with pytest.raises(UsageError) as caught:
        read_pipeline(file).options_of("train", downloads)
    assert says.format(file=file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"), [("labels: truth.tif\n", "key 'dem': Field required"), ("- 1\n", "`key: value`"), ("", "`key: value`")]
)
def test_an_incomplete_pipeline(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "line.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_pipeline(tmp_path / "line.yaml")
    assert says in str(caught.value)


def test_a_pipeline_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(InputError, match="no pipeline file"):
            read_pipeline(path)


def test_options_come_from_the_steps_own_classes(downloads: Path) -> None:
    pipeline = read_pipeline(downloads / "line.yaml")
    training = pipeline.options_of("train", downloads)
    assert (training.steps, training.seed) == (7, 3)
    assert pipeline.options_of("patches", downloads).test_bounds == (0, 0, 10, 10)


def test_relative_paths_are_looked_up_beside_the_downloads(downloads: Path, tmp_path: Path) -> None:
    (downloads / "line.yaml").write_text(f"{PIPELINE}preprocess_geoid: grids/egm.tif\n")
    pipeline = read_pipeline(downloads / "line.yaml")
    assert pipeline.options_of("preprocess", downloads).geoid == downloads / "grids" / "egm.tif"
    (downloads / "line.yaml").write_text(f"{PIPELINE}preprocess_geoid: {tmp_path}/egm.tif\n")
    assert read_pipeline(downloads / "line.yaml").options_of("preprocess", downloads).geoid == tmp_path / "egm.tif"


def test_the_packaged_pipeline_is_valid() -> None:
    pipeline = read_pipeline(packaged_pipeline("demo"))
    for step in config.STEPS:
        assert pipeline.options_of(step, Path()) is not None
    assert pipeline.inputs.output is not None


def test_one_dem_may_stand_without_brackets(tmp_path: Path) -> None:
    for written in ("dem.tif", "[dem.tif]"):
        (tmp_path / "line.yaml").write_text(f"dem: {written}\nlabels: truth.tif\n")
        assert read_pipeline(tmp_path / "line.yaml").inputs.dem == [Path("dem.tif")]
