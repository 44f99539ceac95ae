"""The line over a folder: preprocess and labels a scene, one dataset and model, a map a scene, one mosaic, its accuracy."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sarseg.batch.config import Pipeline
from sarseg.batch.state import ALL_SCENES, Ledger, Step, as_json, only_run
from sarseg.errors import InputError, SarsegError, UsageError
from sarseg.product import folder as names
from sarseg.progress import Progress, silent

log = logging.getLogger(__name__)

ARD, LABELS, DATASET, MODEL, MAPS, LANDCOVER = "ard", "labels", "dataset", "model", "maps", "landcover"
ACCURACY, TRUTH = "accuracy.json", "truth.tif"


class ScenesFailed(SarsegError):
    """The line came to its end without some of the scenes."""

    exit_code = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run has made.

    Parameters
    ----------
    landcover : folder of the final map
    accuracy : JSON with the map's accuracy; None when the pipeline names nothing that was kept out of the training
    scenes, products, maps : names of the downloads that are in the map, the product folder and the map folder of each
    failed : error of each scene that is not
    seconds : wall time of each step's work, 0 when it had been done before
    """

    landcover: Path
    accuracy: Path | None
    scenes: tuple[str, ...]
    products: tuple[Path, ...]
    maps: tuple[Path, ...]
    failed: Mapping[str, Exception]
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "landcover": str(self.landcover),
            "accuracy": None if self.accuracy is None else str(self.accuracy),
            "scenes": list(self.scenes),
            "products": [str(path) for path in self.products],
            "maps": [str(path) for path in self.maps],
            "failed": {name: str(error) for name, error in self.failed.items()},
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


@dataclass(kw_only=True)
class _Scene:
    """One download on its way: what has been made of it, and the keys of these steps."""

    name: str
    download: Path
    labels: Path
    ard: Path = Path()
    map: Path = Path()
    ard_key: str = ""
    labels_key: str = ""
    map_key: str = ""


def run_pipeline(pipeline: Pipeline, downloads: Path, out: Path, progress: Progress = silent) -> Outcome:
    """Run the line over every download in a folder; finished steps are skipped, a failed scene does not stop the others.

    Parameters
    ----------
    downloads : folder with SAFE folders and zips, and with what the pipeline's relative paths name
    out : folder for everything that is made; one run at a time

    Raises
    ------
    InputError : no downloads; otherwise the first scene's error when every scene failed, or the error of a step over all
    """
    with only_run(out):
        return _Line(pipeline, downloads, out, progress).run()


def find_downloads(folder: Path) -> list[Path]:
    """SAFE and PALSAR folders, leaders and zips in a folder, in the order of their names; a folder goes before a zip of the same name.

    InputError when there is none.
    """
    if not folder.is_dir():
        raise InputError("no such folder", folder, "name the folder with the downloads by --input")
    ceos = {leader.parent for leader in folder.glob("*/LED-*")}
    found = sorted(folder.glob("*.SAFE")) + sorted(ceos) + sorted(folder.glob("LED-*")) + sorted(folder.glob("*.zip"))
    by_name: dict[str, Path] = {}
    for path in found:
        if by_name.setdefault(_name(path), path) is not path:
            log.warning("%s is there as folder and as zip: the folder is taken", _name(path))
    if not by_name:
        raise InputError("no downloads in the folder: no *.SAFE, *.zip or LED-*", folder, "name the folder with the downloads by --input")
    return [by_name[name] for name in sorted(by_name)]


def _name(path: Path) -> str:
    return path.name.removesuffix(".zip").removesuffix(".SAFE")


@dataclass
class _Line:
    pipeline: Pipeline
    downloads: Path
    out: Path
    progress: Progress
    failed: dict[str, Exception] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.out)

    def run(self) -> Outcome:
        scenes = [
            _Scene(name=_name(path), download=path, labels=self.out / LABELS / f"{_name(path)}.tif")
            for path in find_downloads(self.downloads)
        ]
        scenes = self._each(scenes, self._preprocess)
        model, model_key = self._train(self._labelled(scenes))
        scenes = self._each(scenes, lambda scene: self._predict(scene, model, model_key))
        landcover, key = self._mosaic(scenes)
        return Outcome(
            landcover=landcover,
            accuracy=self._assess(landcover, key),
            scenes=tuple(scene.name for scene in scenes),
            products=tuple(scene.ard for scene in scenes),
            maps=tuple(scene.map for scene in scenes),
            failed=self.failed,
            seconds=self.seconds,
        )

    def _each(self, scenes: Sequence[_Scene], work: Callable[[_Scene], None]) -> list[_Scene]:
        """Work on every scene; those that fail are noted and left out. When none is left, the first error is raised."""
        good: list[_Scene] = []
        for scene in scenes:
            try:
                work(scene)
                good.append(scene)
            except Exception as error:  # whatever is wrong with one scene, the others go on; the caller gets the error
                log.error("%s: %s", scene.name, error)
                log.debug("%s", scene.name, exc_info=error)
                self.failed[scene.name] = error
        if not good:
            raise next(iter(self.failed.values()))
        return good

    def _labelled(self, scenes: Sequence[_Scene]) -> list[_Scene]:
        """The scenes that have labels; one without is mapped all the same, so it has not failed."""
        errors: list[SarsegError] = []
        good: list[_Scene] = []
        for scene in scenes:
            try:
                self._labels(scene)
                good.append(scene)
            except InputError as error:
                log.warning("%s is not trained on: %s", scene.name, error)
                errors.append(error)
        if not good:
            raise errors[0]
        return good

    def _preprocess(self, scene: _Scene) -> None:
        from sarseg.ard.preprocess import preprocess
        from sarseg.scene.open import open_scene

        dem = [self.downloads / path for path in self.pipeline.inputs.dem]
        options = self._options("preprocess")
        # the product is named after the scene, which a download that was renamed is not
        scene.ard = self.out / ARD / f"{open_scene(scene.download).id}_{options.radiometry}"
        scene.ard_key = self._carry_out(
            Step(
                name="preprocess",
                scene=scene.name,
                inputs=(scene.download, *dem, *_paths(options)),
                options=as_json(options),
                output=scene.ard,
            ),
            lambda: preprocess(scene.download, scene.ard.parent, dem=dem, options=options, progress=self.progress),
        )

    def _labels(self, scene: _Scene) -> None:
        from sarseg.labels.resample import label_product

        source, options = self.downloads / self.pipeline.inputs.labels, self._label_options()
        scene.labels_key = self._carry_out(
            Step(
                name="labels",
                scene=scene.name,
                inputs=(source, *self._legend_files(), *_remap_files(options)),
                after=(scene.ard_key,),
                options=as_json(options),
                output=scene.labels,
            ),
            lambda: label_product(source, scene.ard, scene.labels, options, legend=self._legend(), progress=self.progress),
        )

    def _train(self, scenes: Sequence[_Scene]) -> tuple[Path, str]:
        from sarseg.patches.store import Source, write_dataset

        dataset, model = self.out / DATASET, self.out / MODEL
        sources = [Source(image=scene.ard, labels=scene.labels, name=scene.name) for scene in scenes]
        options = self._options("patches", legend=self._legend())
        keys = tuple(key for scene in scenes for key in (scene.ard_key, scene.labels_key))
        key = self._carry_out(
            Step(name="patches", scene=ALL_SCENES, after=keys, options=as_json(options), output=dataset),
            lambda: write_dataset(dataset, sources, options, progress=self.progress),
        )
        training = self._options("train")
        key = self._carry_out(
            Step(name="train", scene=ALL_SCENES, after=(key,), options=as_json(training), output=model),
            lambda: _train_or_go_on(dataset, model, training, self.progress),
        )
        return model, key

    def _predict(self, scene: _Scene, model: Path, model_key: str) -> None:
        from sarseg.predict.engine import predict
        from sarseg.product.open import read_item

        options = self._options("predict")
        scene.map = self.out / MAPS / read_item(scene.ard)["id"]
        scene.map_key = self._carry_out(
            Step(
                name="predict",
                scene=scene.name,
                after=(scene.ard_key, model_key),
                options=as_json(options),
                output=scene.map,
            ),
            lambda: predict(model, scene.ard, scene.map.parent, options, progress=self.progress),
        )

    def _mosaic(self, scenes: Sequence[_Scene]) -> tuple[Path, str]:
        from sarseg.mosaic.composite import mosaic

        landcover, options = self.out / LANDCOVER, self._options("mosaic")
        keys = tuple(scene.map_key for scene in scenes)
        key = self._carry_out(
            Step(name="mosaic", scene=ALL_SCENES, after=keys, options=as_json(options), output=landcover),
            lambda: mosaic([scene.map for scene in scenes], landcover, options, progress=self.progress),
        )
        return landcover, key

    def _assess(self, landcover: Path, key: str) -> Path | None:
        from sarseg.assess.accuracy import assess

        inputs, bounds = self.pipeline.inputs, self.pipeline.options["patches"].get("test_bounds")
        if inputs.truth is None and bounds is None:
            log.warning("no accuracy: the pipeline names neither `truth` nor `patches_test_bounds`, so all labels were trained on")
            return None
        truth = self.downloads / (inputs.truth or inputs.labels)
        if self._is_remapped(truth):
            truth, key = self._truth(truth, landcover, key)
        accuracy = self.out / ACCURACY
        self._carry_out(
            Step(
                name="assess",
                scene=ALL_SCENES,
                inputs=(truth, *self._legend_files()),
                after=(key,),
                options={"bounds": bounds},
                output=accuracy,
            ),
            lambda: assess(landcover, truth, accuracy, bounds=bounds, legend=self._legend(), progress=self.progress),
        )
        return accuracy

    def _truth(self, source: Path, landcover: Path, key: str) -> tuple[Path, str]:
        """The truth on the map's grid in the map's codes; every pixel of it counts, however mixed it is."""
        from sarseg.labels.resample import label_product

        made, options = self.out / TRUTH, replace(self._label_options(), min_purity=None)
        if self.pipeline.inputs.truth is not None:  # what was told of the labels was not told of it
            options = replace(options, kind=None, year=None)
        key = self._carry_out(
            Step(
                name="truth",
                scene=ALL_SCENES,
                inputs=(source, *self._legend_files(), *_remap_files(options)),
                after=(key,),
                options=as_json(options),
                output=made,
            ),
            lambda: label_product(source, landcover / names.LANDCOVER, made, options, legend=self._legend(), progress=self.progress),
        )
        return made, key

    def _is_remapped(self, truth: Path) -> bool:
        """Whether the truth as it is does not have the map's codes: it is what the labels are made of, or a product known by its name."""
        from sarseg.labels.resample import is_vector
        from sarseg.labels.sources import is_known

        options = self.pipeline.options["labels"]
        made = self.pipeline.inputs.truth is None and any(options.get(name) is not None for name in ("remap", "kind", "class_field"))
        return made or is_vector(truth) or is_known(truth)

    def _label_options(self) -> Any:
        """The options of the labels; the path of a remap table counts from the downloads."""
        from sarseg.labels.known import READY

        options = self._options("labels")
        if options.remap is None or options.remap in READY:
            return options
        return replace(options, remap=str(self.downloads / options.remap))

    def _options(self, step: str, **more: Any) -> Any:
        return self.pipeline.options_of(step, self.downloads, **more)

    def _legend_files(self) -> tuple[Path, ...]:
        legend = self.pipeline.inputs.legend
        return () if legend is None else (self.downloads / legend,)

    def _legend(self) -> Any:
        from sarseg.legend import Legend

        return next((Legend.from_file(path) for path in self._legend_files()), None)

    def _carry_out(self, step: Step, work: Callable[[], object]) -> str:
        with self._timed(step.name):
            return self.ledger.carry_out(step, work)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start_s = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start_s


def _train_or_go_on(dataset: Path, model: Path, options: Any, progress: Progress) -> Path:
    """Train, from the checkpoint of an interrupted training of the same options and data if there is one."""
    from sarseg.train.checkpoint import folder_beside
    from sarseg.train.loop import train

    if folder_beside(model).exists():
        try:
            return train(dataset, model, options, progress, resume=True)
        except UsageError as error:
            log.warning("the training starts anew: %s", error)
            shutil.rmtree(folder_beside(model))
    return train(dataset, model, options, progress)


def _paths(options: Any) -> tuple[Path, ...]:
    """The files that an options object names."""
    return tuple(value for value in (getattr(options, item.name) for item in fields(options)) if isinstance(value, Path))


def _remap_files(options: Any) -> tuple[Path, ...]:
    """The table that the labels' options name, where it is a file."""
    from sarseg.labels.known import READY

    return () if options.remap is None or options.remap in READY else (Path(options.remap),)
