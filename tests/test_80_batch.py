"""The line's frame with miniature steps in the place of the real ones: configuration, state, resuming, failing scenes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from sarseg.batch import config
from sarseg.batch.config import packaged_pipeline, read_pipeline
from sarseg.batch.downloads import find_downloads
from sarseg.batch.run import Outcome, run_pipeline
from sarseg.batch.state import Ledger, Step, only_run
from sarseg.cli.main import run as sarseg
from sarseg.errors import InputError, MissingError, UsageError
from sarseg.product.open import open_product

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
        read = [
            (path / "content" if path.is_dir() else path).read_text("latin-1") if isinstance(path, Path) else repr(path) for path in parts
        ]
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
        return SimpleNamespace(id=path.name.partition(".")[0], polarisations=("VV",) if path.suffix == ".zip" else ("VV", "VH"))

    def preprocess(self, scene: Path, out: Path, *, dem: list[Path], options: Any, progress: Any) -> Path:
        name = scene.name.partition(".")[0]
        return self._publish("preprocess", out / f"{name}_{options.radiometry}", *dem, options, name=name)

    def preprocess_snap(self, scene: Path, out: Path, *, dem: list[Path], options: Any, snap_options: Any, progress: Any) -> Path:
        name = scene.name.partition(".")[0]
        return self._publish(
            "snap", out / f"{name}_{options.radiometry}{'-rtc' if snap_options.flattened else ''}", *dem, options, name=name
        )

    def make_labels(self, source: Path, like: Path, out: Path, options: Any, *, legend: Any, progress: Any) -> Path:
        return self._publish("labels", out, source, like, name=f"labels {out.stem}")

    def write_dataset(self, out: Path, sources: list[Any], options: Any, progress: Any) -> Path:
        return self._publish("patches", out, *[path for source in sources for path in (source.image, source.labels)], options)

    def train(self, dataset: Path, out: Path, options: Any, progress: Any) -> Path:
        return self._publish("train", out, dataset, options)

    def predict(self, model: Path, product: Path, out: Path, options: Any, progress: Any) -> Path:
        name = product.name if product.is_dir() else open_product(product).id
        return self._publish("predict", out / name, model, product, options, name=f"predict {name[0]}")

    def mosaic(self, maps: list[Path], out: Path, options: Any, progress: Any) -> Path:
        return self._publish("mosaic", out, *maps, options)

    def assess(self, landcover: Path, truth: Path, out: Path, *, bounds: Any, legend: Any, progress: Any) -> None:
        self._publish("assess", out, landcover, truth, bounds)

    def install(self, patch: Callable[[str, object], None]) -> Miniature:
        """Put the steps in the place of the real ones."""
        for module, name in (
            ("ard.preprocess", "preprocess"),
            ("ard.snap.engine", "preprocess_snap"),
            ("labels.resample", "make_labels"),
            ("patches.store", "write_dataset"),
            ("train.loop", "train"),
            ("predict.engine", "predict"),
            ("mosaic.composite", "mosaic"),
            ("assess.accuracy", "assess"),
            ("scene.open", "open_scene"),  # last: the modules above take the real one when they are first imported
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


def test_the_other_engine_does_every_scene_anew(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    install()
    run(downloads, tmp_path / "out")
    (downloads / "line.yaml").write_text(PIPELINE + "engine: snap\n")
    steps = install()
    run(downloads, tmp_path / "out")
    assert [call for call in steps.calls if call[0] in ("preprocess", "snap")] == [("snap", "A"), ("snap", "B")]


def test_snap_flattens_in_the_words_of_the_command_line(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    """Scenes that were done as gamma0 are done anew; nothing but the names and the engine's options differs."""
    (downloads / "line.yaml").write_text(PIPELINE + "engine: snap\n")
    install()
    run(downloads, tmp_path / "out")
    flattened = PIPELINE.replace("gamma0", "gamma0-rtc")
    (downloads / "line.yaml").write_text(flattened + "engine: snap\n")
    steps = install()
    outcome = run(downloads, tmp_path / "out")
    assert [call for call in steps.calls if call[0] == "snap"] == [("snap", "A"), ("snap", "B")]
    assert [path.name for path in outcome.products] == ["A_gamma0-rtc", "B_gamma0-rtc"]
    assert install().calls == []
    said = json.loads((tmp_path / "out" / "state" / "A" / "preprocess.json").read_text())["options"]
    assert (said["engine"], said["radiometry"]) == ("snap", "gamma0-rtc")
    for engine in ("", "engine: native\n"):
        (downloads / "line.yaml").write_text(flattened + engine)
        with pytest.raises(UsageError, match=r"preprocess_radiometry: gamma0-rtc is for SNAP \[.*/line\.yaml\]: add `engine: snap`"):
            read_pipeline(downloads / "line.yaml")


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


def test_when_all_scenes_fail_every_error_is_told_once(
    install: Callable[..., Miniature], downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(broken={"A": OSError("first"), "B": InputError("second", "B.zip")})
    assert sarseg(["--quiet", "run", str(downloads / "line.yaml"), "--input", str(downloads), "-o", str(tmp_path / "out")]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["sarseg: error: A: first", "sarseg: error: second [B.zip]"]


def test_a_scene_without_labels_is_mapped_all_the_same(
    install: Callable[..., Miniature], downloads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(broken={"labels A": InputError("the labels do not reach it")})
    outcome = run(downloads, tmp_path / "out")
    assert outcome.scenes == ("A", "B")
    assert not outcome.failed
    install(broken={"labels A": InputError("nor A"), "labels B": InputError("nor B")})
    caplog.clear()
    with pytest.raises(InputError, match="nor B"):
        run(downloads, tmp_path / "out2")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == ["A is not trained on: nor A"]


def test_the_command_ends_with_5_and_the_list(
    install: Callable[..., Miniature], downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(broken={"predict B": InputError("odd", "B")})
    words = ["--quiet", "run", str(downloads / "line.yaml"), "--input", str(downloads), "-o", str(tmp_path / "out"), "--json"]
    assert sarseg(words) == 5
    said = capsys.readouterr()
    assert json.loads(said.out)["failed"] == {"B": "odd [B]"}
    assert json.loads(said.out)["scenes"] == ["A"]
    first, last = said.err.splitlines()
    assert first == "sarseg: error: B: odd [B]"
    assert last.startswith("sarseg: error: 1 of 2 scenes is not in the map: B (odd): see above")
    shutil.rmtree(tmp_path / "out")
    for name in "CDEF":
        (downloads / f"{name}.SAFE").mkdir()
    install(broken=dict.fromkeys("BCDEF", ValueError("odd")))
    assert sarseg(words) == 5
    last = capsys.readouterr().err.splitlines()[-1]
    assert "5 of 6 scenes are not in the map: B (ValueError: odd), C (ValueError: odd), D (ValueError: odd) and 2 more: " in last


def test_two_runs_on_one_folder(downloads: Path, tmp_path: Path) -> None:
    with only_run(tmp_path / "out"), pytest.raises(UsageError, match="another run is working in this folder"):
        run(downloads, tmp_path / "out")
    with only_run(tmp_path / "out"):
        pass


def test_a_folder_that_takes_no_results(install: Callable[..., Miniature], downloads: Path) -> None:
    """The downloads themselves, whose truth.tif the line's own would replace; and a place without files."""
    install()
    with pytest.raises(UsageError, match="input and output are one folder"):
        run(downloads, downloads / ".." / downloads.name)
    for place in (Path("/proc"), Path("/proc/x")):
        with pytest.raises(MissingError, match="no file or folder can be made here"):
            run(downloads, place)


@pytest.mark.parametrize(("truth", "field"), [("ESA_WorldCover_10m_2021_v200_N48E009_Map.tif", None), ("others.gpkg", "crop")])
def test_what_is_told_of_the_labels_is_not_told_of_another_truth(
    truth: str,
    field: str | None,
    install: Callable[..., Miniature],
    downloads: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A vector's class field goes to a truth that is a vector too, and not to a raster."""
    told = {}

    def make_labels(source: Path, like: Path, out: Path, options: Any, **_: Any) -> None:
        told[source.name] = (options.class_field, options.year)
        out.parent.mkdir(exist_ok=True)
        out.touch()

    for name in ("fields.gpkg", truth):
        (downloads / name).touch()
    text = PIPELINE.replace("truth.tif", "fields.gpkg")
    (downloads / "line.yaml").write_text(f"{text}labels_class_field: crop\nlabels_year: 2019\ntruth: {truth}\n")
    install()
    monkeypatch.setattr("sarseg.labels.resample.make_labels", make_labels)
    run(downloads, tmp_path / "out")
    assert told == {"fields.gpkg": ("crop", 2019), truth: (field, None)}


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
    assert [(one.name, one.path.name, one.ready) for one in find_downloads(downloads)] == [
        ("A", "A.SAFE", False),
        ("B", "B.zip", False),
        ("C", "C.SAFE.zip", False),
    ]
    assert [one.name for one in find_downloads(downloads, [downloads / "B.zip"])] == ["A", "C"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no downloads in the folder"):
        find_downloads(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        find_downloads(tmp_path / "absent")


HYP3 = "S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A"
OPERA = "OPERA_L2_RTC-S1_T137-292319-IW2_20211119T015858Z_20250830T120333Z_S1A_30_v1.0"


def raster(path: Path, value: float = 0.1, description: str = "", dtype: str = "float32") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "height": 8, "width": 9, "count": 1, "crs": "EPSG:32633", "transform": Affine(30, 0, 6e5, 0, -30, 5e6)}
    with rasterio.open(path, "w", dtype=dtype, **profile) as file:
        file.write(np.full((1, 8, 9), value, dtype))
        if description:
            file.set_band_description(1, description)
    return path


def hyp3(folder: Path, name: str = HYP3) -> Path:
    for pol in ("VV", "VH"):
        raster(folder / name / f"{name}_{pol}.tif")
    return folder / name


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return path


def tile(folder: Path, name: str) -> Path:
    """An archive of a name; what is in it is of no matter where nothing is opened."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"no archive")
    return folder / name


def found(folder: Path, *others: Path) -> set[tuple[str, str, bool]]:
    return {(one.name, one.path.relative_to(folder.parent).as_posix(), one.ready) for one in find_downloads(folder, others)}


def test_products_of_every_kind_are_found_beside_scenes(downloads: Path, tmp_path: Path) -> None:
    made = hyp3(tmp_path / "made")
    zipped(made, downloads / f"{HYP3}.zip")
    zipped(made, downloads / "renamed.zip")
    hyp3(downloads, HYP3.replace("20180128", "20180209"))
    for pol in ("VV", "VH", "mask"):
        raster(downloads / f"{OPERA}_{pol}.tif", 0, dtype="uint8" if pol == "mask" else "float32")
    raster(downloads / "described.tif", description="Gamma0_VV_power")
    raster(downloads / "asks.tif", -12.0, description="Gamma0_VV")
    raster(downloads / "told.tif")
    (downloads / "told.sarseg.yaml").write_text("bands: [HH]\nquantity: gamma0\nscale: power\n")
    raster(downloads / "height.tif", description="height")
    raster(downloads / "bare.tif", description="VV")
    (downloads / "ours").mkdir()
    (downloads / "ours" / "item.json").write_text("{}")
    raster(downloads / "ours" / "VV.tif")
    (downloads / "map").mkdir()
    (downloads / "map" / "item.json").write_text("{}")
    (downloads / "map" / "landcover.tif").write_text("")
    for level, folder in (("1.5", downloads / "raw"), ("2.1", downloads / "flat"), ("2.1", downloads)):
        folder.mkdir(exist_ok=True)
        for part in ("LED", "IMG-HV", "IMG-HH"):
            (folder / f"{part}-ALOS2123456780-230405-FBDR{level}GUA").write_text("")
    tile(downloads / "fnf", "N23W161_20_FNF_F02DAR.tar.gz")
    tile(downloads, "N23W161_20_FNF_F02DAR.tar.gz")
    here = {
        ("A", "A.SAFE", False),
        ("B", "B.zip", False),
        (HYP3, f"{HYP3}.zip", True),
        ("renamed", "renamed.zip", True),
        (HYP3.replace("20180128", "20180209"), HYP3.replace("20180128", "20180209"), True),
        (OPERA, f"{OPERA}_VH.tif", True),
        ("described", "described.tif", True),
        ("asks", "asks.tif", True),
        ("told", "told.tif", True),
        ("ours", "ours", True),
        ("raw", "raw", False),
        ("flat", "flat", True),
        ("ALOS2123456780-230405-FBDR2.1GUA", "IMG-HH-ALOS2123456780-230405-FBDR2.1GUA", True),
    }
    assert found(downloads) == {(name, f"downloads/{path}", ready) for name, path, ready in here}
    assert ("told", "downloads/told.tif", True) not in found(downloads, downloads / "told.tif")


def test_loose_tiles_of_the_mosaic_are_one_product(tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    first = tile(folder, "N23W161_20_MOS_F02DAR.tar.gz")
    assert found(folder) == {("N23W161_20_MOS_F02DAR", f"tiles/{first.name}", True)}
    tile(folder, "N23W162_20_MOS_F02DAR.tar.gz")
    tile(folder / "2015", "N23W162_15_MOS_F02DAR.tar.gz")
    assert found(folder) == {("tiles", "tiles", True), ("2015", "tiles/2015", True)}


def test_packed_tars_are_unpacked_unless_files_lie_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    tars = [tile(folder, f"N23W16{at}_20_MOS_F02DAR.tar.gz") for at in (1, 2)]
    other = tile(folder / "2015", "N23W162_15_MOS_F02DAR.tar.gz")
    assert {one.name: one.packed for one in find_downloads(folder)} == {"tiles": tuple(tars), "2015": (other,)}
    (folder / "N23W160_20_sl_HH_F02DAR.tif").write_text("")
    assert {one.name: one.packed for one in find_downloads(folder)} == {"tiles": (), "2015": (other,)}


def test_a_product_is_not_preprocessed_and_its_changes_are_seen(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    for path in (downloads / "B.zip", downloads / "A.SAFE" / "manifest.safe"):
        path.unlink()
    (downloads / "A.SAFE").rmdir()
    zipped(hyp3(tmp_path / "made"), downloads / "P.zip")
    told = raster(downloads / "Q.tif")
    (downloads / "Q.sarseg.yaml").write_text("bands: [VV]\nquantity: gamma0\nscale: power\n")
    (downloads / "line.yaml").write_text(PIPELINE.replace("dem: [dem.tif]\n", ""))
    steps = install()
    outcome = run(downloads, tmp_path / "out")
    assert [name for name, _ in steps.calls] == ["labels", "labels", "patches", "train", "predict", "predict", "mosaic", "assess"]
    assert outcome.products == (downloads / "P.zip", told)
    assert outcome.maps == (tmp_path / "out" / "maps" / HYP3, tmp_path / "out" / "maps" / "Q")
    for change, redone in (
        (lambda: None, ""),
        (lambda: os.utime(downloads / "P.zip", ns=(1, 1)), "labels P"),
        (lambda: (downloads / "Q.sarseg.yaml").write_text("bands: [VV]\nquantity: gamma0\nscale: amplitude\n"), "labels Q"),
    ):
        change()
        again = install()
        run(downloads, tmp_path / "out")
        assert [name for step, name in again.calls if step == "labels"] == ([redone] if redone else [])


def test_a_scene_without_a_wanted_polarisation_fails_alone(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    """B.zip has VV only, as a product whose VH was not downloaded: nothing is made of it, and A is mapped."""
    (downloads / "line.yaml").write_text(PIPELINE + "patches_bands: [VV, VH]\n")
    steps = install()
    outcome = run(downloads, tmp_path / "out")
    assert outcome.scenes == ("A",)
    assert str(outcome.failed["B"]).startswith("has no VH, which the pipeline wants [")
    assert [name for step, name in steps.calls if step == "preprocess"] == ["A"]
    zipped(hyp3(tmp_path / "made"), downloads / "P.zip")
    (downloads / "line.yaml").write_text(PIPELINE + "patches_bands: [HH, VV]\n")
    with pytest.raises(InputError, match="has no HH, which the pipeline wants"):
        run(downloads, tmp_path / "again")


def test_tiles_of_two_years_are_told_before_they_are_unpacked(install: Callable[..., Miniature], tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    for year in (10, 17):
        tile(folder, f"N23W162_{year}_MOS_F02DAR.tar.gz")
    (folder / "line.yaml").write_text(PIPELINE.replace("dem: [dem.tif]\n", ""))
    (folder / "truth.tif").touch()
    install()
    with pytest.raises(InputError, match=r"of the years 2010, 2017 lie together \[.*/tiles\]: give each year a folder"):
        run(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "unpacked").exists()


def test_the_same_product_twice_is_refused_once(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    made = hyp3(tmp_path / "made")
    for name in ("P.zip", "R.zip"):
        zipped(made, downloads / name)
    install()
    outcome = run(downloads, tmp_path / "out")
    assert outcome.scenes == ("A", "B", "P")
    assert str(outcome.failed["R"]).startswith("is the same product as P")


def test_a_scene_asks_for_heights_before_anything_is_done(install: Callable[..., Miniature], downloads: Path, tmp_path: Path) -> None:
    (downloads / "line.yaml").write_text(PIPELINE.replace("dem: [dem.tif]\n", ""))
    steps = install()
    with pytest.raises(UsageError, match=r"no `dem`, which A\.SAFE needs"):
        run(downloads, tmp_path / "out")
    assert steps.calls == []


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("train_batch: 0", UsageError, r"batch is 0 \[.*line\.yaml, train\]"),
        ("predict_threads: 0", UsageError, r"line\.yaml, predict\]"),
        ("legend: no.yaml", InputError, r"no\.yaml"),
        ("truth: no.tif", InputError, r"no such file, which the pipeline names \[.*/downloads/no\.tif\]: relative paths count"),
        ("preprocess_orbit: no.EOF", InputError, r"no such file, which the pipeline names \[.*/downloads/no\.EOF\]"),
        ("labels_remap: no.yaml", InputError, r"no such file, which the pipeline names \[.*/downloads/no\.yaml\]"),
    ],
)
def test_what_a_late_step_would_refuse_is_refused_before_anything_is_done(
    line: str, error: type[Exception], says: str, install: Callable[..., Miniature], downloads: Path, tmp_path: Path
) -> None:
    (downloads / "line.yaml").write_text(f"{PIPELINE}{line}\n")
    steps = install()
    with pytest.raises(error, match=says):
        run(downloads, tmp_path / "out")
    assert steps.calls == []
    assert not (tmp_path / "out").exists()


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
    ("text", "says"), [("dem: dem.tif\n", "key 'labels': Field required"), ("- 1\n", "`key: value`"), ("", "`key: value`")]
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


def test_the_packaged_pipelines_are_valid() -> None:
    for name in ("demo", "palsar_fnf", "jaxa_mosaic_fnf", "hyp3_landcover"):
        pipeline = read_pipeline(packaged_pipeline(name))
        for step in config.STEPS:
            assert pipeline.options_of(step, Path()) is not None
        assert (pipeline.inputs.output is None) == (name != "demo")


def test_one_dem_may_stand_without_brackets(tmp_path: Path) -> None:
    for written, read in (("dem.tif", [Path("dem.tif")]), ("[dem.tif]", [Path("dem.tif")]), ("[]", [])):
        (tmp_path / "line.yaml").write_text(f"dem: {written}\nlabels: truth.tif\n")
        assert read_pipeline(tmp_path / "line.yaml").inputs.dem == read
