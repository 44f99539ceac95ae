"""The line over a folder: preprocess and labels a scene, one dataset and model, a map a scene, one mosaic, its accuracy.

A product that is on the map already takes the place of a preprocessed scene.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from sarseg.batch.config import FLATTENED, STEPS, Pipeline
from sarseg.batch.downloads import Download, find_downloads
from sarseg.batch.state import ALL_SCENES, Ledger, Step, as_json, only_run
from sarseg.errors import InputError, SarsegError, UsageError
from sarseg.product import folder as names
from sarseg.product.model import POLARISATIONS
from sarseg.progress import Progress, silent

log = logging.getLogger(__name__)

UNPACKED, ARD, LABELS, DATASET, MODEL, MAPS, LANDCOVER = "unpacked", "ard", "labels", "dataset", "model", "maps", "landcover"
ACCURACY, TRUTH = "accuracy.json", "truth.tif"
_NAMED = 3  # failed scenes that the last line names


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

    def check(self) -> None:
        """ScenesFailed when a scene is not in the map."""
        if not self.failed:
            return
        reasons = [
            f"{name} ({error.what if isinstance(error, SarsegError) else f'{type(error).__name__}: {error}'})"
            for name, error in self.failed.items()
        ]
        more = f" and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        raise ScenesFailed(
            f"{len(reasons)} of {len(reasons) + len(self.scenes)} scenes {'is' if len(reasons) == 1 else 'are'} not in the map: "
            f"{', '.join(reasons[:_NAMED])}{more}",
            hint="see above, mend it, and repeat the command: finished steps are skipped",
        )

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
    """One download on its way: what has been made of it, and the keys of these steps.

    `ard` is the product on the map, and `map` its map, which has the product's own name.
    """

    name: str
    download: Download
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
    downloads : folder with scenes and products (`find_downloads`), and with what the pipeline's relative paths name
    out : folder for everything that is made; one run at a time

    Raises
    ------
    UsageError : wrong options; scenes, and no DEM for them; one folder for the downloads and the results
    InputError : no downloads; otherwise the last scene's error when every scene failed, or the error of a step over all
    """
    if out.resolve() == downloads.resolve():
        raise UsageError("input and output are one folder", out, "choose another output folder")
    line = _Line(pipeline, downloads, out, progress)
    found = line.check()
    with only_run(out):
        return line.run(found)


@dataclass
class _Line:
    pipeline: Pipeline
    downloads: Path
    out: Path
    progress: Progress
    failed: dict[str, Exception] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    maps: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.out)

    def check(self) -> list[Download]:
        """The downloads; refuses wrong options of a late step, and names of files that are not there, before hours of work."""
        downloads = find_downloads(self.downloads, self._others())
        for step in STEPS:
            self._options(step)
        self._legend()
        for path in (*self._others(), *_remap_files(self._label_options())):
            if not str(path).startswith("/vsi") and not path.exists():
                raise InputError("no such file, which the pipeline names", path, "relative paths count from the input folder")
        raw = [one.path for one in downloads if not one.ready]
        if raw and not self.pipeline.inputs.dem:
            raise UsageError(f"no `dem`, which {raw[0].name} needs", self.pipeline.path, "only products on the map need none")
        return downloads

    def run(self, downloads: Sequence[Download]) -> Outcome:
        """Carry out every step."""
        scenes = [_Scene(name=one.name, download=one, labels=self.out / LABELS / f"{one.name}.tif") for one in downloads]
        scenes = self._each(scenes, lambda scene: self._open(scene) if scene.download.ready else self._preprocess(scene))
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
        """Work on every scene; those that fail are told, noted and left out. The last one's error is raised when none is left."""
        good: list[_Scene] = []
        for scene in scenes:
            try:
                work(scene)
                good.append(scene)
            except Exception as error:  # whatever is wrong with one scene, the others go on; the caller gets the error
                if scene is scenes[-1] and not good:
                    raise
                log.error("%s: %s", scene.name, error)
                log.debug("%s", scene.name, exc_info=error)
                self.failed[scene.name] = error
        return good

    def _labelled(self, scenes: Sequence[_Scene]) -> list[_Scene]:
        """The scenes that have labels; one without is mapped all the same, so it has not failed. The last one's error when none has."""
        good: list[_Scene] = []
        for scene in scenes:
            try:
                self._labels(scene)
                good.append(scene)
            except InputError as error:
                if scene is scenes[-1] and not good:
                    raise
                log.warning("%s is not trained on: %s", scene.name, error)
        return good

    def _open(self, scene: _Scene) -> None:
        """Take a product on the map as it is; its key follows from its files, and from what its headers and side files say."""
        from sarseg.product.open import open_product

        scene.ard = self._unpacked(scene) or scene.download.path
        product = open_product(scene.ard)
        self._check_bands(scene, tuple(product.rasters))
        self._name_map(scene, product.id)
        said = {"item": product.item, "conversions": {name: asdict(rule) for name, rule in product.conversions.items()}}
        options = json.loads(json.dumps(said, default=str))
        scene.ard_key = Step(name="product", scene=scene.name, inputs=product.files(), options=options, output=scene.ard).key

    def _unpacked(self, scene: _Scene) -> Path | None:
        """A folder with what is in the product's packed tars, which would be read from their beginning for every window."""
        from sarseg.product.jaxa import check_year
        from sarseg.raster.archive import unpack

        tars, folder = scene.download.packed, self.out / UNPACKED / scene.name
        if not tars:
            return None
        check_year(tars, scene.download.path)

        def work() -> None:
            with names.create_folder(folder, mark=UNPACKED) as path:
                for tar in tars:
                    unpack(tar, path)
                (path / UNPACKED).touch()

        self._carry_out(Step(name="unpack", scene=scene.name, inputs=tars, output=folder), work)
        return folder

    def _name_map(self, scene: _Scene, product: str) -> None:
        """The map is named after the product, which a download that was renamed is not."""
        scene.map = self.out / MAPS / product
        twin = self.maps.setdefault(scene.map, scene.name)
        if twin != scene.name:
            raise InputError(f"is the same product as {twin}", scene.download.path, "keep one of them")

    def _preprocess(self, scene: _Scene) -> None:
        from sarseg.ard.preprocess import preprocess
        from sarseg.ard.snap.engine import SnapOptions, preprocess_snap
        from sarseg.scene.open import open_scene

        download, engine, wanted = scene.download.path, self.pipeline.inputs.engine, SnapOptions(flattened=self.pipeline.flattened)
        dem = [self.downloads / path for path in self.pipeline.inputs.dem]
        options, opened = self._options("preprocess"), open_scene(download)
        self._check_bands(scene, opened.polarisations)
        scene.ard = self.out / ARD / wanted.product_name(options, opened.id)
        self._name_map(scene, scene.ard.name)
        make = preprocess if engine == "native" else partial(preprocess_snap, snap_options=wanted)
        said = {**as_json(options), "engine": engine, **({"radiometry": FLATTENED} if wanted.flattened else {})}
        scene.ard_key = self._carry_out(
            Step(name="preprocess", scene=scene.name, inputs=(download, *dem, *_paths(options)), options=said, output=scene.ard),
            lambda: make(download, scene.ard.parent, dem=dem, options=options, progress=self.progress),
        )

    def _check_bands(self, scene: _Scene, there: Sequence[str]) -> None:
        """InputError for a scene without a polarisation of `patches_bands`, before anything is made of it."""
        wanted = self._options("patches").bands or ()
        absent = [name for name in wanted if name in POLARISATIONS and name not in there]
        if absent:
            hint = "download it again if it should have, or name other patches_bands"
            raise InputError(f"has no {', '.join(absent)}, which the pipeline wants", scene.download.path, hint)

    def _labels(self, scene: _Scene) -> None:
        from sarseg.labels.resample import make_labels

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
            lambda: make_labels(source, scene.ard, scene.labels, options, legend=self._legend(), progress=self.progress),
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

        options = self._options("predict")
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
        from sarseg.labels.resample import is_vector, make_labels

        made, options = self.out / TRUTH, replace(self._label_options(), min_purity=None)
        if self.pipeline.inputs.truth is not None:  # what was told of the labels was not told of it
            options = replace(options, kind=None, year=None, class_field=options.class_field if is_vector(source) else None)
        key = self._carry_out(
            Step(
                name="truth",
                scene=ALL_SCENES,
                inputs=(source, *self._legend_files(), *_remap_files(options)),
                after=(key,),
                options=as_json(options),
                output=made,
            ),
            lambda: make_labels(source, landcover / names.LANDCOVER, made, options, legend=self._legend(), progress=self.progress),
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

    def _others(self) -> tuple[Path, ...]:
        """What the pipeline names beside the downloads."""
        inputs = self.pipeline.inputs
        named = [*inputs.dem, inputs.labels, *([inputs.truth] if inputs.truth is not None else [])]
        return (*(self.downloads / path for path in named), *self._legend_files(), *_paths(self._options("preprocess")))

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
